/* SPDX-License-Identifier: MIT */
/*
 * Event loop: file descriptors, timers and work posted from other threads, all
 * called back on the one thread that runs the loop, one at a time.
 *
 * Storage of fds, timers and work is the caller's (embed them); zeroed storage
 * is valid and inactive. Functions marked [any] may be called from every
 * thread; the others only on the loop's thread, or while nobody runs the loop.
 */
#ifndef NESTOR_BASE_LOOP_H
#define NESTOR_BASE_LOOP_H

#include <sys/epoll.h>

#include "base/list.h"
#include "base/types.h"

struct loop;

/* Where time comes from. Tests hand in their own; NULL is CLOCK_MONOTONIC. */
struct loop_clock {
	u64 (*now_ns)(void *ctx);
	void *ctx;
};

/* NULL on failure. @clock is copied; with one of its own, the loop never sleeps on time. */
struct loop *loop_create(const struct loop_clock *clock);
/* Nothing may run it any more. Posted work that has not run is dropped; NULL is fine. */
void loop_destroy(struct loop *l);

/* Runs until loop_stop(). */
void loop_run(struct loop *l);
/* [any] Makes loop_run() return after the current callback; the next loop_run() starts anew. */
void loop_stop(struct loop *l);
/*
 * Runs what is ready now, without sleeping, until nothing is: for tests and for
 * loops without a thread. Returns how many callbacks ran.
 */
u32 loop_run_ready(struct loop *l);
/*
 * One round: sleeps up to @timeout_ns (UINT64_MAX: until something happens) and
 * runs what is ready. Returns how many callbacks ran.
 */
u32 loop_iterate(struct loop *l, u64 timeout_ns);

/* A thread of its own around loop_run(). 0 or -errno. @name up to 15 characters. */
int loop_thread_start(struct loop *l, const char *name);
/* Stops and joins it. Not from the loop's own thread. Harmless if there is none. */
void loop_thread_join(struct loop *l);

/* [any] Whether the caller is the thread that runs the loop. */
bool loop_is_self(struct loop *l);
/* [any] Whether any thread runs it, or is about to (loop_thread_start). */
bool loop_is_running(struct loop *l);

u64 loop_now_ns(struct loop *l); /* [any] */

/* File descriptors. @fn gets the ready epoll events. */
struct loop_fd {
	void (*fn)(struct loop_fd *lf, u32 events);
	struct loop *loop;
	int fd;
	u32 events;
};
/* 0 or -errno. @events are EPOLLIN, EPOLLOUT ..., level triggered. The fd stays the caller's. */
int loop_fd_add(struct loop *l, struct loop_fd *lf, int fd, u32 events,
		void (*fn)(struct loop_fd *lf, u32 events));
int loop_fd_modify(struct loop_fd *lf, u32 events);
/* Before the fd is closed. No callback comes after it. Harmless if not added. */
void loop_fd_del(struct loop_fd *lf);

/* Timers, one shot, absolute time of the loop's clock. */
struct loop_timer {
	void (*fn)(struct loop_timer *t);
	struct loop *loop;
	struct list node;
	u64 deadline_ns;
};
/* Arms or moves it. */
void loop_timer_at(struct loop *l, struct loop_timer *t, u64 deadline_ns,
		   void (*fn)(struct loop_timer *t));
void loop_timer_after(struct loop *l, struct loop_timer *t, u64 delay_ns,
		      void (*fn)(struct loop_timer *t));
void loop_timer_cancel(struct loop_timer *t);
bool loop_timer_armed(const struct loop_timer *t);

/*
 * Work: runs once on the loop's thread, in the order of posting, after the
 * round's fds and timers. Posting work that is queued already does nothing, so
 * it also serves as a coalescing event. It may be posted again as soon as its
 * function has started.
 */
struct loop_work {
	void (*fn)(struct loop_work *w);
	struct list node;
	u32 queued; /* atomic */
};
void loop_work_init(struct loop_work *w, void (*fn)(struct loop_work *w));
/* [any] Memory written before is visible to @fn, also when it was queued already. */
void loop_post(struct loop *l, struct loop_work *w);
/* Takes it back if it has not run. */
void loop_work_cancel(struct loop *l, struct loop_work *w);

/*
 * [any] Runs @fn on the loop's thread and waits for it. On that thread itself,
 * or while nobody runs the loop, it is a plain call. The caller holds no lock
 * that anything on the loop takes.
 */
void loop_call(struct loop *l, void (*fn)(void *arg), void *arg);

#define NS_PER_US 1000ull
#define NS_PER_MS 1000000ull
#define NS_PER_S  1000000000ull

#endif
