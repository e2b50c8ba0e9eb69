// SPDX-License-Identifier: MIT
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/timer.h"

static u64 hand; /* the manual clock */

static u64 manual_now(void *ctx)
{
	return *(u64 *)ctx;
}

static u64 real_now(void *ctx)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (u64)ts.tv_sec * 1000000000u + (u64)ts.tv_nsec;
}

static struct test_timer {
	struct timer timer;
	u32 fired, again; /* arm again so often, @again_ns later */
	u64 again_ns;
	u32 order;
} t[3];
static u32 order;

static void on_fire(struct timer *timer)
{
	struct test_timer *tt = container_of(timer, struct test_timer, timer);

	tt->order = __atomic_add_fetch(&order, 1, __ATOMIC_RELAXED);
	if (tt->again) {
		tt->again--;
		timer_arm(timer, timer->deadline_ns + tt->again_ns);
	}
	__atomic_add_fetch(&tt->fired, 1, __ATOMIC_RELEASE);
}

static struct timer_service *start(u64 (*now)(void *ctx), bool manual)
{
	struct timer_service *s = timer_service_create(now, &hand, manual);

	assert_non_null(s);
	hand = 1000;
	order = 0;
	memset(t, 0, sizeof(t));
	for (u32 i = 0; i < ARRAY_SIZE(t); i++)
		timer_init(&t[i].timer, s, on_fire);
	return s;
}

static void end(struct timer_service *s)
{
	timer_service_stop(s);
	for (u32 i = 0; i < ARRAY_SIZE(t); i++)
		timer_fini(&t[i].timer);
	timer_service_destroy(s);
}

static void test_manual_timers_fire_in_order_of_their_deadlines(void **state)
{
	struct timer_service *s = start(manual_now, true);

	timer_arm(&t[0].timer, 3000);
	timer_arm(&t[1].timer, 2000);
	timer_arm(&t[2].timer, 2500);
	timer_service_run(s);
	assert_int_equal(order, 0);
	hand = 2999;
	timer_service_run(s);
	assert_int_equal(t[1].order, 1);
	assert_int_equal(t[2].order, 2);
	assert_int_equal(t[0].fired, 0);
	hand = 3000;
	timer_service_run(s);
	timer_service_run(s);
	assert_int_equal(t[0].fired, 1);
	end(s);
}

static void test_arming_again_replaces_and_cancelling_removes(void **state)
{
	struct timer_service *s = start(manual_now, true);

	timer_arm(&t[0].timer, 1500);
	timer_arm(&t[0].timer, 5000);
	timer_arm(&t[1].timer, 1500);
	timer_cancel(&t[1].timer);
	timer_cancel(&t[2].timer); /* never armed */
	hand = 4999;
	timer_service_run(s);
	assert_int_equal(order, 0);
	hand = 5000;
	timer_service_run(s);
	assert_int_equal(t[0].fired, 1);
	end(s);
}

static void test_a_callback_may_arm_its_timer(void **state)
{
	struct timer_service *s = start(manual_now, true);

	t[0].again = 4;
	t[0].again_ns = 100;
	timer_arm(&t[0].timer, 1100);
	hand = 1350;
	timer_service_run(s);
	assert_int_equal(t[0].fired, 3); /* 1100, 1200, 1300 */
	hand = 9000;
	timer_service_run(s);
	assert_int_equal(t[0].fired, 5);
	end(s);
}

static void wait_for(struct test_timer *tt, u32 fired)
{
	for (u32 i = 0; i < 5000 && __atomic_load_n(&tt->fired, __ATOMIC_ACQUIRE) < fired; i++)
		usleep(1000);
	assert_int_equal(__atomic_load_n(&tt->fired, __ATOMIC_ACQUIRE), fired);
}

static void test_a_running_service_fires_after_not_before(void **state)
{
	struct timer_service *s = start(real_now, false);
	u64 before = real_now(NULL);

	timer_arm(&t[0].timer, before + 20000000);
	wait_for(&t[0], 1);
	assert_true(real_now(NULL) - before >= 20000000);
	timer_arm(&t[1].timer, 0); /* long past: at once */
	wait_for(&t[1], 1);
	timer_arm(&t[2].timer, ~0ull); /* centuries away */
	timer_cancel(&t[2].timer);
	timer_arm(&t[2].timer, real_now(NULL));
	wait_for(&t[2], 1);
	end(s);
}

static void test_a_cancelled_timer_of_a_running_service_is_silent(void **state)
{
	struct timer_service *s = start(real_now, false);

	timer_arm(&t[0].timer, real_now(NULL) + 30000000);
	timer_cancel(&t[0].timer);
	timer_arm(&t[1].timer, real_now(NULL) + 40000000);
	wait_for(&t[1], 1);
	assert_int_equal(t[0].fired, 0);
	end(s);
}

static void test_nothing_fires_after_the_stop(void **state)
{
	struct timer_service *s = start(real_now, false);

	timer_arm(&t[0].timer, real_now(NULL) + 10000000);
	timer_service_stop(s);
	usleep(20000);
	assert_int_equal(t[0].fired, 0);
	end(s);
}

static void test_a_service_without_timers_ends_too(void **state)
{
	timer_service_destroy(timer_service_create(real_now, NULL, false));
	timer_service_destroy(timer_service_create(manual_now, &hand, true));
	timer_service_destroy(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_manual_timers_fire_in_order_of_their_deadlines),
		cmocka_unit_test(test_arming_again_replaces_and_cancelling_removes),
		cmocka_unit_test(test_a_callback_may_arm_its_timer),
		cmocka_unit_test(test_a_running_service_fires_after_not_before),
		cmocka_unit_test(test_a_cancelled_timer_of_a_running_service_is_silent),
		cmocka_unit_test(test_nothing_fires_after_the_stop),
		cmocka_unit_test(test_a_service_without_timers_ends_too),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
