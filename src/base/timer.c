// SPDX-License-Identifier: MIT
/* A timerfd per timer under one epoll: arming never has to wake the thread. */
#include "base/timer.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/log.h"

struct timer_service {
	u64 (*now_ns)(void *ctx);
	void *ctx;
	bool manual;
	pthread_mutex_t lock; /* guards: running; in a manual service also the list */
	bool running;
	pthread_t thread;
	int epoll_fd, stop_fd;
	struct list armed; /* manual */
};

static void *timer_thread(void *arg)
{
	struct timer_service *s = arg;
	struct epoll_event ev[16];

	for (;;) {
		int n = epoll_wait(s->epoll_fd, ev, ARRAY_SIZE(ev), -1);

		for (int i = 0; i < n; i++) {
			struct timer *t = ev[i].data.ptr;
			u64 ticks;

			if (!t)
				return NULL;
			/* Nothing to read: armed anew or cancelled in between. */
			if (read(t->fd, &ticks, sizeof(ticks)) == sizeof(ticks))
				t->fire(t);
		}
	}
}

static int service_watch(struct timer_service *s, int fd, struct timer *t)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = t };

	return epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, fd, &ev);
}

struct timer_service *timer_service_create(u64 (*now_ns)(void *ctx), void *ctx, bool manual)
{
	struct timer_service *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	*s = (struct timer_service){ .now_ns = now_ns, .ctx = ctx, .manual = manual };
	list_init(&s->armed);
	pthread_mutex_init(&s->lock, NULL);
	s->epoll_fd = s->stop_fd = -1;
	if (manual)
		return s;
	s->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	s->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->epoll_fd < 0 || s->stop_fd < 0 || service_watch(s, s->stop_fd, NULL) < 0) {
		timer_service_destroy(s);
		return NULL;
	}
	return s;
}

/* The thread comes with the first timer: a guest without timers has none. */
static int service_start(struct timer_service *s)
{
	int ret = 0;

	pthread_mutex_lock(&s->lock);
	if (!s->running) {
		ret = -pthread_create(&s->thread, NULL, timer_thread, s);
		s->running = ret == 0;
	}
	pthread_mutex_unlock(&s->lock);
	return ret;
}

void timer_service_stop(struct timer_service *s)
{
	u64 one = 1;

	if (!s || !s->running)
		return;
	if (write(s->stop_fd, &one, sizeof(one)) != sizeof(one))
		log_error("the timer thread cannot be told to stop");
	pthread_join(s->thread, NULL);
	s->running = false;
}

void timer_service_destroy(struct timer_service *s)
{
	if (!s)
		return;
	timer_service_stop(s);
	if (s->epoll_fd >= 0)
		close(s->epoll_fd);
	if (s->stop_fd >= 0)
		close(s->stop_fd);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

static struct timer *earliest_locked(struct timer_service *s)
{
	struct timer *best = NULL;
	struct list *pos;

	list_for_each(pos, &s->armed) {
		struct timer *t = list_entry(pos, struct timer, link);

		if (!best || t->deadline_ns < best->deadline_ns)
			best = t;
	}
	return best;
}

void timer_service_run(struct timer_service *s)
{
	for (;;) {
		struct timer *t;

		pthread_mutex_lock(&s->lock);
		t = earliest_locked(s);
		if (t && t->deadline_ns > s->now_ns(s->ctx))
			t = NULL;
		if (t)
			list_del(&t->link);
		pthread_mutex_unlock(&s->lock);
		if (!t)
			return;
		t->fire(t);
	}
}

void timer_init(struct timer *t, struct timer_service *s, void (*fire)(struct timer *t))
{
	*t = (struct timer){ .service = s, .fire = fire, .fd = -1 };
	list_init(&t->link);
}

void timer_fini(struct timer *t)
{
	if (t->fd >= 0)
		close(t->fd);
	t->fd = -1;
	list_del(&t->link);
}

static int timer_open(struct timer *t)
{
	struct timer_service *s = t->service;

	t->fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (t->fd < 0)
		return -errno;
	if (service_watch(s, t->fd, t) < 0 || service_start(s) < 0) {
		close(t->fd);
		t->fd = -1;
		return -EIO;
	}
	return 0;
}

static void timer_set(struct timer *t, u64 delta_ns)
{
	struct itimerspec spec = { .it_value = { .tv_sec = (time_t)(delta_ns / 1000000000u),
						 .tv_nsec = (long)(delta_ns % 1000000000u) } };

	if (timerfd_settime(t->fd, 0, &spec, NULL) < 0)
		log_limited(LOG_ERROR, "a timer cannot be set (errno %d)", errno);
}

void timer_arm(struct timer *t, u64 deadline_ns)
{
	struct timer_service *s = t->service;
	u64 now;

	if (s->manual) {
		pthread_mutex_lock(&s->lock);
		list_del(&t->link);
		t->deadline_ns = deadline_ns;
		list_add_tail(&s->armed, &t->link);
		pthread_mutex_unlock(&s->lock);
		return;
	}
	if (t->fd < 0 && timer_open(t) < 0) {
		log_limited(LOG_ERROR, "no file descriptor or thread left for a timer");
		return;
	}
	now = s->now_ns(s->ctx);
	/* Zero would disarm. A deadline centuries away must not overflow the kernel's range. */
	timer_set(t, deadline_ns > now ? min_u64(deadline_ns - now, 1ull << 60) : 1);
}

void timer_cancel(struct timer *t)
{
	struct timer_service *s = t->service;

	if (s->manual) {
		pthread_mutex_lock(&s->lock);
		list_del(&t->link);
		pthread_mutex_unlock(&s->lock);
	} else if (t->fd >= 0) {
		timer_set(t, 0);
	}
}
