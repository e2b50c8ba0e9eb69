/* SPDX-License-Identifier: MIT */
/*
 * One-shot timers on a clock the caller names, in nanoseconds. A running
 * service has one thread; arming is one system call and wakes nobody. A manual
 * service has no thread: a test moves its clock and calls timer_service_run().
 */
#ifndef NESTOR_BASE_TIMER_H
#define NESTOR_BASE_TIMER_H

#include "base/list.h"
#include "base/types.h"

struct timer_service;

struct timer {
	struct timer_service *service;
	/* Called without locks, on the service's thread. May arm the timer again. */
	void (*fire)(struct timer *t);
	struct list link;
	u64 deadline_ns; /* manual services only; 0: not armed */
	int fd;		 /* timerfd; -1 until first armed */
};

/*
 * @now_ns: the clock deadlines are given in; it must run at the speed of
 * CLOCK_MONOTONIC. NULL on failure (errno set).
 */
struct timer_service *timer_service_create(u64 (*now_ns)(void *ctx), void *ctx, bool manual);
/* Stops the thread; no timer fires after this returns. */
void timer_service_stop(struct timer_service *s);
/* After timer_service_stop() and timer_fini() of all its timers. */
void timer_service_destroy(struct timer_service *s);
/* Manual service: fires, in order, all timers due at or before now. */
void timer_service_run(struct timer_service *s);

void timer_init(struct timer *t, struct timer_service *s, void (*fire)(struct timer *t));
/* The service is stopped, or the timer was never armed. */
void timer_fini(struct timer *t);
/*
 * Fires once at @deadline_ns (in the past: at once). Replaces an earlier
 * deadline, but a fire already under way still comes: the callback re-checks
 * under its own lock. One thread arms a timer at a time.
 */
void timer_arm(struct timer *t, u64 deadline_ns);
void timer_cancel(struct timer *t);

#endif
