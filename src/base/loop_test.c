// SPDX-License-Identifier: MIT
#include "base/loop.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

static u64 fake_now;

static u64 fake_clock(void *ctx)
{
	return fake_now;
}

static char trail[64];

static void mark(char c)
{
	size_t n = strlen(trail);

	assert_true(n + 1 < sizeof(trail));
	trail[n] = c;
	trail[n + 1] = 0;
}

static struct loop *fresh(void)
{
	struct loop_clock clock = { fake_clock, NULL };
	struct loop *l = loop_create(&clock);

	assert_non_null(l);
	fake_now = 1000;
	trail[0] = 0;
	return l;
}

static struct loop_timer ta, tb;

static void timer_a(struct loop_timer *t)
{
	mark('a');
}

static void timer_b(struct loop_timer *t)
{
	mark('b');
	loop_timer_cancel(&ta);
}

static void timers_run_in_order_and_can_be_cancelled(void **state)
{
	struct loop *l = fresh();

	loop_timer_after(l, &ta, 50, timer_a);
	loop_timer_after(l, &tb, 20, timer_b);
	loop_run_ready(l);
	assert_string_equal(trail, "");
	fake_now += 50;
	loop_run_ready(l);
	assert_string_equal(trail, "b");
	assert_false(loop_timer_armed(&ta));
	loop_timer_after(l, &ta, 5, timer_a);
	loop_timer_after(l, &ta, 10, timer_a); /* moved */
	fake_now += 5;
	loop_run_ready(l);
	assert_string_equal(trail, "b");
	fake_now += 5;
	loop_run_ready(l);
	assert_string_equal(trail, "ba");
	loop_destroy(l);
}

static struct loop *work_loop;
static struct loop_work w1, w2;

static void work_1(struct loop_work *w)
{
	mark('1');
	loop_post(work_loop, &w2);
}

static void work_2(struct loop_work *w)
{
	mark('2');
}

static void work_coalesces_and_keeps_order(void **state)
{
	work_loop = fresh();
	loop_work_init(&w1, work_1);
	loop_work_init(&w2, work_2);
	loop_post(work_loop, &w1);
	loop_post(work_loop, &w1);
	loop_run_ready(work_loop);
	assert_string_equal(trail, "12");
	loop_post(work_loop, &w2);
	loop_work_cancel(work_loop, &w2);
	loop_run_ready(work_loop);
	assert_string_equal(trail, "12");
	loop_destroy(work_loop);
}

static struct loop_fd fa, fb;

static void fd_deletes_other(struct loop_fd *lf, u32 events)
{
	u64 v;

	assert_int_equal(read(lf->fd, &v, sizeof(v)), sizeof(v));
	mark('f');
	loop_fd_del(lf == &fa ? &fb : &fa);
}

static void deleted_fd_is_not_called_in_the_same_round(void **state)
{
	struct loop *l = fresh();
	int a = eventfd(1, 0), b = eventfd(1, 0);

	assert_int_equal(loop_fd_add(l, &fa, a, EPOLLIN, fd_deletes_other), 0);
	assert_int_equal(loop_fd_add(l, &fb, b, EPOLLIN, fd_deletes_other), 0);
	loop_run_ready(l);
	assert_string_equal(trail, "f");
	loop_fd_del(&fa);
	loop_fd_del(&fb);
	close(a);
	close(b);
	loop_destroy(l);
}

static u32 hits;

static void count_hit(struct loop_work *w)
{
	__atomic_add_fetch(&hits, 1, __ATOMIC_SEQ_CST);
}

static void add_one(void *arg)
{
	++*(u32 *)arg;
}

static void posts_wake_a_sleeping_thread(void **state)
{
	struct loop *l = loop_create(NULL);
	struct loop_work w;
	u32 calls = 0;

	hits = 0;
	loop_work_init(&w, count_hit);
	assert_int_equal(loop_thread_start(l, "loop-test"), 0);
	for (u32 i = 0; i < 2000; i++) {
		u32 before = __atomic_load_n(&hits, __ATOMIC_SEQ_CST);

		loop_post(l, &w);
		if (i % 3 == 0)
			loop_call(l, add_one, &calls); /* queued behind it */
		else
			while (__atomic_load_n(&hits, __ATOMIC_SEQ_CST) == before)
				usleep(1);
	}
	assert_int_equal(hits, 2000);
	assert_int_equal(calls, 667);
	loop_thread_join(l);
	loop_call(l, add_one, &calls); /* nobody runs it: a plain call */
	assert_int_equal(calls, 668);
	loop_destroy(l);
}

static void real_timer_fires(void **state)
{
	struct loop *l = loop_create(NULL);
	u64 start = loop_now_ns(l);

	trail[0] = 0;
	loop_timer_after(l, &ta, 3 * NS_PER_MS, timer_a);
	while (!trail[0])
		loop_iterate(l, UINT64_MAX);
	assert_true(loop_now_ns(l) - start >= 3 * NS_PER_MS);
	loop_destroy(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(timers_run_in_order_and_can_be_cancelled),
		cmocka_unit_test(work_coalesces_and_keeps_order),
		cmocka_unit_test(deleted_fd_is_not_called_in_the_same_round),
		cmocka_unit_test(posts_wake_a_sleeping_thread),
		cmocka_unit_test(real_timer_fires),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
