// SPDX-License-Identifier: MIT
/*
 * One round: sleep in epoll, then fds, due timers, posted work. A poster writes
 * the eventfd only if the loop sleeps or is about to, so posts to a busy loop
 * cost a lock and no system call.
 */
#include "base/loop.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define LOOP_BATCH 32

struct loop {
	int epfd;
	int wakefd;
	struct loop_clock clock;
	bool real_time;
	struct list timers; /* by deadline */
	struct epoll_event batch[LOOP_BATCH];
	int batch_count, batch_at;
	pthread_mutex_t lock; /* work, sleeping */
	struct list work;
	bool sleeping;
	bool stop;	    /* atomic */
	const void *runner; /* atomic; identity of the thread inside the loop */
	bool has_thread;    /* atomic */
	pthread_t thread;
	char name[16];
};

static const void *self_identity(void)
{
	static _Thread_local char marker;

	return &marker;
}

static u64 monotonic_ns(void *ctx)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (u64)ts.tv_sec * NS_PER_S + (u64)ts.tv_nsec;
}

struct loop *loop_create(const struct loop_clock *clock)
{
	struct loop *l = calloc(1, sizeof(*l));
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = NULL };

	if (!l)
		return NULL;
	l->real_time = !clock;
	l->clock = clock ? *clock : (struct loop_clock){ monotonic_ns, NULL };
	list_init(&l->timers);
	list_init(&l->work);
	pthread_mutex_init(&l->lock, NULL);
	l->wakefd = -1;
	l->epfd = epoll_create1(EPOLL_CLOEXEC);
	if (l->epfd < 0)
		goto fail;
	l->wakefd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (l->wakefd < 0 || epoll_ctl(l->epfd, EPOLL_CTL_ADD, l->wakefd, &ev) < 0)
		goto fail;
	return l;
fail:
	loop_destroy(l);
	return NULL;
}

void loop_destroy(struct loop *l)
{
	if (!l)
		return;
	loop_thread_join(l);
	if (l->wakefd >= 0)
		close(l->wakefd);
	if (l->epfd >= 0)
		close(l->epfd);
	pthread_mutex_destroy(&l->lock);
	free(l);
}

u64 loop_now_ns(struct loop *l)
{
	return l->clock.now_ns(l->clock.ctx);
}

bool loop_is_self(struct loop *l)
{
	return __atomic_load_n(&l->runner, __ATOMIC_ACQUIRE) == self_identity();
}

bool loop_is_running(struct loop *l)
{
	return __atomic_load_n(&l->has_thread, __ATOMIC_ACQUIRE) ||
	       __atomic_load_n(&l->runner, __ATOMIC_ACQUIRE);
}

static void loop_wake(struct loop *l)
{
	u64 one = 1;
	ssize_t n;

	do
		n = write(l->wakefd, &one, sizeof(one));
	while (n < 0 && errno == EINTR); /* EAGAIN: it is awake already */
}

/* File descriptors */

int loop_fd_add(struct loop *l, struct loop_fd *lf, int fd, u32 events,
		void (*fn)(struct loop_fd *lf, u32 events))
{
	struct epoll_event ev = { .events = events, .data.ptr = lf };

	lf->fn = fn;
	lf->fd = fd;
	lf->events = events;
	if (epoll_ctl(l->epfd, EPOLL_CTL_ADD, fd, &ev) < 0)
		return -errno;
	lf->loop = l;
	return 0;
}

int loop_fd_modify(struct loop_fd *lf, u32 events)
{
	struct epoll_event ev = { .events = events, .data.ptr = lf };

	if (lf->events == events)
		return 0;
	if (epoll_ctl(lf->loop->epfd, EPOLL_CTL_MOD, lf->fd, &ev) < 0)
		return -errno;
	lf->events = events;
	return 0;
}

void loop_fd_del(struct loop_fd *lf)
{
	struct loop *l = lf->loop;

	if (!l)
		return;
	epoll_ctl(l->epfd, EPOLL_CTL_DEL, lf->fd, NULL);
	/* The round in progress may hold an event of it. */
	for (int i = l->batch_at; i < l->batch_count; i++)
		if (l->batch[i].data.ptr == lf)
			l->batch[i].data.ptr = NULL;
	lf->loop = NULL;
}

static u32 run_fds(struct loop *l)
{
	u32 ran = 0;

	for (l->batch_at = 0; l->batch_at < l->batch_count;) {
		struct epoll_event *ev = &l->batch[l->batch_at++];
		struct loop_fd *lf = ev->data.ptr;

		if (lf) {
			lf->fn(lf, ev->events);
			ran++;
		}
	}
	l->batch_count = 0;
	return ran;
}

/* Timers */

bool loop_timer_armed(const struct loop_timer *t)
{
	return t->loop != NULL;
}

void loop_timer_cancel(struct loop_timer *t)
{
	if (!t->loop)
		return;
	list_del(&t->node);
	t->loop = NULL;
}

void loop_timer_at(struct loop *l, struct loop_timer *t, u64 deadline_ns,
		   void (*fn)(struct loop_timer *t))
{
	struct list *pos;

	loop_timer_cancel(t);
	t->fn = fn;
	t->loop = l;
	t->deadline_ns = deadline_ns;
	list_for_each(pos, &l->timers)
		if (list_entry(pos, struct loop_timer, node)->deadline_ns > deadline_ns)
			break;
	list_add_tail(pos, &t->node);
}

void loop_timer_after(struct loop *l, struct loop_timer *t, u64 delay_ns,
		      void (*fn)(struct loop_timer *t))
{
	loop_timer_at(l, t, loop_now_ns(l) + delay_ns, fn);
}

static struct loop_timer *first_timer(struct loop *l)
{
	return list_empty(&l->timers) ? NULL : list_entry(l->timers.next, struct loop_timer, node);
}

static u32 run_timers(struct loop *l)
{
	u64 now = loop_now_ns(l);
	struct loop_timer *t;
	u32 ran = 0;

	/* Time is read once, so a timer that rearms itself for "now" can not starve the rest. */
	while ((t = first_timer(l)) && t->deadline_ns <= now && ran < 1000) {
		loop_timer_cancel(t);
		t->fn(t);
		ran++;
	}
	return ran;
}

/* Posted work */

void loop_work_init(struct loop_work *w, void (*fn)(struct loop_work *w))
{
	w->fn = fn;
	w->queued = 0;
	list_init(&w->node);
}

void loop_post(struct loop *l, struct loop_work *w)
{
	bool wake;

	if (__atomic_exchange_n(&w->queued, 1, __ATOMIC_ACQ_REL))
		return;
	pthread_mutex_lock(&l->lock);
	list_add_tail(&l->work, &w->node);
	wake = l->sleeping;
	l->sleeping = false;
	pthread_mutex_unlock(&l->lock);
	if (wake)
		loop_wake(l);
}

void loop_work_cancel(struct loop *l, struct loop_work *w)
{
	if (!w->node.next)
		return;
	pthread_mutex_lock(&l->lock);
	list_del(&w->node);
	__atomic_store_n(&w->queued, 0, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&l->lock);
}

static struct loop_work *work_pop(struct loop *l)
{
	struct list *node;

	pthread_mutex_lock(&l->lock);
	node = list_pop(&l->work);
	pthread_mutex_unlock(&l->lock);
	return node ? list_entry(node, struct loop_work, node) : NULL;
}

static u32 run_work(struct loop *l)
{
	struct loop_work *w;
	u32 ran = 0;

	/* Bounded, so that work that posts itself again lets fds and timers through. */
	while (ran < 256 && (w = work_pop(l))) {
		/* Cleared first: a post from now on runs it again. Pairs with loop_post(). */
		__atomic_exchange_n(&w->queued, 0, __ATOMIC_ACQ_REL);
		w->fn(w);
		ran++;
	}
	return ran;
}

/* Rounds */

static u64 sleep_time(struct loop *l, u64 timeout_ns)
{
	struct loop_timer *t = first_timer(l);
	u64 now;

	if (!t || timeout_ns == 0)
		return timeout_ns;
	now = loop_now_ns(l);
	if (t->deadline_ns <= now)
		return 0;
	return l->real_time ? min_u64(timeout_ns, t->deadline_ns - now) : timeout_ns;
}

static void loop_poll(struct loop *l, u64 timeout_ns)
{
	struct timespec ts, *tsp = NULL;
	bool woken = false;
	int n, keep = 0;

	timeout_ns = sleep_time(l, timeout_ns);
	pthread_mutex_lock(&l->lock);
	if (!list_empty(&l->work) || __atomic_load_n(&l->stop, __ATOMIC_ACQUIRE))
		timeout_ns = 0;
	l->sleeping = timeout_ns != 0;
	pthread_mutex_unlock(&l->lock);
	if (timeout_ns != UINT64_MAX) {
		ts.tv_sec = (time_t)(timeout_ns / NS_PER_S);
		ts.tv_nsec = (long)(timeout_ns % NS_PER_S);
		tsp = &ts;
	}
	n = epoll_pwait2(l->epfd, l->batch, LOOP_BATCH, tsp, NULL);
	if (n < 0 && errno == ENOSYS) /* before Linux 5.11: milliseconds, rounded up */
		n = epoll_wait(l->epfd, l->batch, LOOP_BATCH,
			       tsp ? (int)min_u64((timeout_ns + NS_PER_MS - 1) / NS_PER_MS, 60000)
				   : -1);
	pthread_mutex_lock(&l->lock);
	l->sleeping = false;
	pthread_mutex_unlock(&l->lock);
	for (int i = 0; i < n; i++) {
		if (!l->batch[i].data.ptr)
			woken = true;
		else
			l->batch[keep++] = l->batch[i];
	}
	if (woken) {
		u64 drop;
		ssize_t got = read(l->wakefd, &drop, sizeof(drop));

		(void)got; /* EAGAIN: another round emptied it */
	}
	l->batch_count = keep;
}

u32 loop_iterate(struct loop *l, u64 timeout_ns)
{
	const void *before = __atomic_load_n(&l->runner, __ATOMIC_RELAXED);
	u32 ran;

	__atomic_store_n(&l->runner, self_identity(), __ATOMIC_RELEASE);
	loop_poll(l, timeout_ns);
	ran = run_fds(l) + run_timers(l) + run_work(l);
	__atomic_store_n(&l->runner, before, __ATOMIC_RELEASE);
	return ran;
}

u32 loop_run_ready(struct loop *l)
{
	u32 ran, total = 0;

	while ((ran = loop_iterate(l, 0)))
		total += ran;
	return total;
}

void loop_run(struct loop *l)
{
	__atomic_store_n(&l->runner, self_identity(), __ATOMIC_RELEASE);
	while (!__atomic_load_n(&l->stop, __ATOMIC_ACQUIRE))
		loop_iterate(l, UINT64_MAX);
	__atomic_store_n(&l->stop, false, __ATOMIC_RELEASE);
	__atomic_store_n(&l->runner, NULL, __ATOMIC_RELEASE);
}

void loop_stop(struct loop *l)
{
	__atomic_store_n(&l->stop, true, __ATOMIC_RELEASE);
	loop_wake(l);
}

static void *loop_thread(void *arg)
{
	struct loop *l = arg;

	pthread_setname_np(pthread_self(), l->name);
	loop_run(l);
	return NULL;
}

int loop_thread_start(struct loop *l, const char *name)
{
	int err;

	for (u32 i = 0; i < sizeof(l->name) - 1 && name[i]; i++)
		l->name[i] = name[i];
	__atomic_store_n(&l->has_thread, true, __ATOMIC_RELEASE);
	err = pthread_create(&l->thread, NULL, loop_thread, l);
	if (err)
		__atomic_store_n(&l->has_thread, false, __ATOMIC_RELEASE);
	return -err;
}

void loop_thread_join(struct loop *l)
{
	if (!__atomic_load_n(&l->has_thread, __ATOMIC_ACQUIRE))
		return;
	loop_stop(l);
	pthread_join(l->thread, NULL);
	__atomic_store_n(&l->has_thread, false, __ATOMIC_RELEASE);
}

/* Calls */

struct loop_sync {
	struct loop_work work;
	void (*fn)(void *arg);
	void *arg;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool done;
};

static void sync_run(struct loop_work *w)
{
	struct loop_sync *s = container_of(w, struct loop_sync, work);

	s->fn(s->arg);
	pthread_mutex_lock(&s->lock);
	s->done = true;
	pthread_cond_signal(&s->cond);
	pthread_mutex_unlock(&s->lock);
}

void loop_call(struct loop *l, void (*fn)(void *arg), void *arg)
{
	struct loop_sync s = { .fn = fn, .arg = arg };

	if (!loop_is_running(l) || loop_is_self(l)) {
		fn(arg);
		return;
	}
	loop_work_init(&s.work, sync_run);
	pthread_mutex_init(&s.lock, NULL);
	pthread_cond_init(&s.cond, NULL);
	loop_post(l, &s.work);
	pthread_mutex_lock(&s.lock);
	while (!s.done)
		pthread_cond_wait(&s.cond, &s.lock);
	pthread_mutex_unlock(&s.lock);
	pthread_cond_destroy(&s.cond);
	pthread_mutex_destroy(&s.lock);
}
