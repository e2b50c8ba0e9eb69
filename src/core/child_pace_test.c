// SPDX-License-Identifier: MIT
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/child_pace.h"

#define MS 1000000u

static void test_nothing_is_looked_for_before_a_wake_up_was_measured(void **state)
{
	struct child_pace p = { 0 };

	pace_resumed(&p, false);
	pace_told(&p);
	assert_int_equal(pace_for_intercept(&p), 0);
	pace_resumed(&p, false);
	assert_int_equal(pace_for_answer(&p), 0);
}

static void test_a_wake_up_is_measured_when_there_was_one(void **state)
{
	struct child_pace p = { 0 };

	pace_resumed(&p, false);
	pace_woke(&p);
	assert_int_equal(p.wake_ns, 0);
	pace_resumed(&p, true);
	p.woken_ns -= MS;
	pace_woke(&p);
	assert_true(p.wake_ns >= MS);
	/* Once for each. */
	p.wake_ns = 16;
	pace_woke(&p);
	assert_int_equal(p.wake_ns, 16);
	/* A mean, in which the last one has its part. */
	p.wake_ns = MS;
	pace_resumed(&p, true);
	pace_woke(&p);
	assert_true(p.wake_ns >= MS - MS / 8 && p.wake_ns < 2 * MS);
}

static void test_short_runs_are_waited_for_until_one_is_long(void **state)
{
	struct child_pace p = { .wake_ns = MS };

	pace_resumed(&p, false);
	pace_told(&p);
	assert_int_equal(pace_for_intercept(&p), PACE_LOOK_MAX);
	pace_resumed(&p, false);
	p.resumed_ns -= 2 * PACE_LOOK_MAX;
	pace_told(&p);
	assert_int_equal(pace_for_intercept(&p), 0);
	pace_resumed(&p, false);
	pace_told(&p);
	assert_int_equal(pace_for_intercept(&p), PACE_LOOK_MAX);
	pace_no_intercept(&p);
	assert_int_equal(pace_for_intercept(&p), 0);
}

static void test_so_are_quick_answers(void **state)
{
	struct child_pace p = { .wake_ns = MS };

	pace_told(&p);
	pace_resumed(&p, false);
	assert_int_equal(pace_for_answer(&p), PACE_LOOK_MAX);
	pace_told(&p);
	p.told_ns -= 2 * PACE_LOOK_MAX;
	pace_resumed(&p, false);
	assert_int_equal(pace_for_answer(&p), 0);
	pace_told(&p);
	pace_resumed(&p, false);
	assert_int_equal(pace_for_answer(&p), PACE_LOOK_MAX);
	pace_no_answer(&p);
	assert_int_equal(pace_for_answer(&p), 0);
}

static void test_it_is_worth_some_wake_ups_within_limits(void **state)
{
	struct child_pace p = { .wake_ns = 10000, .short_run = true };

	assert_int_equal(pace_for_intercept(&p), 10000 * PACE_WAKE_UPS);
	p.wake_ns = 1;
	assert_int_equal(pace_for_intercept(&p), PACE_LOOK_MIN);
	p.wake_ns = 100 * MS;
	assert_int_equal(pace_for_intercept(&p), PACE_LOOK_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_is_looked_for_before_a_wake_up_was_measured),
		cmocka_unit_test(test_a_wake_up_is_measured_when_there_was_one),
		cmocka_unit_test(test_short_runs_are_waited_for_until_one_is_long),
		cmocka_unit_test(test_so_are_quick_answers),
		cmocka_unit_test(test_it_is_worth_some_wake_ups_within_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
