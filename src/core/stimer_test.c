// SPDX-License-Identifier: MIT
/* Timers on a clock moved by hand; times are 100 ns units. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/core_test.h"

#define SIM_GPA	  0x10000ull
#define SINT	  4
#define VECTOR	  0xED
#define CONFIG(n) (HV_X64_MSR_STIMER0_CONFIG + 2 * (n))
#define COUNT(n)  (HV_X64_MSR_STIMER0_COUNT + 2 * (n))
#define MESSAGE	  ((u64)SINT << 16)
#define DIRECT	  (HV_STIMER_DIRECT | (u64)VECTOR << 4)
#define START	  1000 /* the clock at the beginning of each test */

static struct core_test ct;
static struct vp *vp;

static int teardown(void **state)
{
	core_test_destroy(&ct);
	return 0;
}

static u32 fired(void)
{
	return fake_count(ct.vm, FAKE_MSI);
}

static void run_to(u64 now)
{
	core_test_advance(&ct, now - refclock_now_100ns(&ct.clock));
	while (refclock_now_100ns(&ct.clock) < now) /* the scale rounds down */
		fake_tsc_advance(ct.vm, 1);
	timer_service_run(ct.timers);
}

static int setup(void **state)
{
	const struct core_test_config cfg = { .vps = 2 };

	core_test_create(&ct, &cfg);
	vp = ct.vp[1];
	core_test_synic_on(vp, SIM_GPA);
	core_test_write(vp, HV_X64_MSR_SINT0 + SINT, 0x50);
	run_to(START);
	return 0;
}

static bool enabled(u32 n)
{
	return core_test_read(vp, CONFIG(n)) & HV_STIMER_ENABLE;
}

static struct hv_message *slot(void)
{
	return (struct hv_message *)(void *)(ct.ram + SIM_GPA + SINT * HV_MESSAGE_BYTES);
}

static struct hv_timer_message_payload *body(void)
{
	return (void *)slot()->payload;
}

static void arm(u32 n, u64 config, u64 count)
{
	core_test_write(vp, COUNT(n), count);
	core_test_write(vp, CONFIG(n), config | HV_STIMER_ENABLE);
}

static void test_a_one_shot_fires_once_at_its_time(void **state)
{
	arm(0, DIRECT, START + 500);
	assert_true(enabled(0));
	run_to(START + 499);
	assert_int_equal(fired(), 0);
	run_to(START + 500);
	assert_int_equal(fired(), 1);
	assert_int_equal(fake_last(ct.vm, FAKE_MSI).b, VECTOR);
	assert_int_equal(fake_last(ct.vm, FAKE_MSI).a, 0xFEE00000 | vp->vcpu->id << 12);
	assert_false(enabled(0));
	assert_int_equal(core_test_read(vp, COUNT(0)), START + 500);
	run_to(START + 5000);
	assert_int_equal(fired(), 1);
}

static void test_a_deadline_in_the_past_fires_at_once(void **state)
{
	arm(0, DIRECT, 1);
	timer_service_run(ct.timers);
	assert_int_equal(fired(), 1);
	assert_false(enabled(0));
}

static void test_the_four_timers_are_apart(void **state)
{
	for (u32 n = 0; n < HV_SYNIC_STIMER_COUNT; n++)
		arm(n, HV_STIMER_DIRECT | (0x40ull + n) << 4, START + 400 - n * 100);
	for (u32 n = HV_SYNIC_STIMER_COUNT; n-- > 0;) {
		run_to(START + 400 - n * 100);
		assert_int_equal(fake_last(ct.vm, FAKE_MSI).b, 0x40 + n);
	}
	assert_int_equal(fired(), 4);
}

static void test_a_periodic_timer_counts_from_its_enabling(void **state)
{
	core_test_write(vp, COUNT(1), 300);
	run_to(START + 1000);
	core_test_write(vp, CONFIG(1), DIRECT | HV_STIMER_PERIODIC | HV_STIMER_ENABLE);
	for (u32 i = 1; i <= 5; i++) {
		run_to(START + 1000 + i * 300 - 1);
		assert_int_equal(fired(), i - 1);
		run_to(START + 1000 + i * 300);
		assert_int_equal(fired(), i);
		assert_true(enabled(1));
	}
	core_test_write(vp, CONFIG(1), 0);
	run_to(START + 10000);
	assert_int_equal(fired(), 5);
}

static void test_a_late_periodic_timer_catches_up(void **state)
{
	arm(0, DIRECT | HV_STIMER_PERIODIC, 1000);
	run_to(START + 3500); /* the first came late; two more are owed */
	for (u32 i = 0; i < 9; i++)
		run_to(START + 3600 + i * 10);
	run_to(START + 3900);
	assert_int_equal(fired(), 3);
	run_to(START + 4000); /* and the beat is kept */
	assert_int_equal(fired(), 4);
}

static void test_a_late_lazy_timer_skips(void **state)
{
	arm(0, DIRECT | HV_STIMER_PERIODIC | HV_STIMER_LAZY, 1000);
	run_to(START + 3500);
	for (u32 i = 0; i < 9; i++)
		run_to(START + 3600 + i * 10);
	assert_int_equal(fired(), 1);
	run_to(START + 3999);
	assert_int_equal(fired(), 1);
	run_to(START + 4000);
	assert_int_equal(fired(), 2);
}

/* TLFS: Periodic Timers: of many missed signals some may be skipped completely. */
static void test_a_long_absence_is_not_made_up_for(void **state)
{
	arm(0, DIRECT | HV_STIMER_PERIODIC, 1000);
	run_to(START + 100000000);
	for (u32 i = 0; i < 1000; i++)
		run_to(refclock_now_100ns(&ct.clock) + 1000);
	assert_in_range(fired(), 1001, 1050);
}

static void test_a_period_of_one_unit_does_not_flood_the_host(void **state)
{
	for (u32 n = 0; n < HV_SYNIC_STIMER_COUNT; n++)
		arm(n, DIRECT | HV_STIMER_PERIODIC, 1);
	run_to(START + 10000); /* a millisecond, seen by the host as one moment */
	assert_in_range(fired(), 4, 4 * 16);
}

static void test_a_message_carries_both_times(void **state)
{
	arm(2, MESSAGE, START + 100);
	run_to(START + 150);
	assert_int_equal(slot()->type, HV_MESSAGE_TIMER_EXPIRED);
	assert_int_equal(slot()->payload_bytes, sizeof(struct hv_timer_message_payload));
	assert_int_equal(slot()->sender, 0);
	assert_int_equal(body()->timer_index, 2);
	assert_int_equal(body()->rsvd, 0);
	assert_int_equal(body()->expiration_time, START + 100);
	assert_int_equal(body()->delivery_time, START + 150);
	assert_int_equal(fired(), 1);
	assert_int_equal(fake_last(ct.vm, FAKE_MSI).b, 0x50);
}

static void test_a_message_waits_for_its_slot(void **state)
{
	slot()->type = 1;
	arm(0, MESSAGE, START + 100);
	run_to(START + 100);
	assert_int_equal(fired(), 0);
	assert_int_equal(slot()->flags, HV_MESSAGE_FLAG_PENDING);
	assert_false(enabled(0)); /* expired all the same */
	run_to(START + 700);
	slot()->type = 0;
	core_test_write(vp, HV_X64_MSR_EOM, 0);
	assert_int_equal(body()->expiration_time, START + 100);
	assert_int_equal(body()->delivery_time, START + 700);
	assert_int_equal(fired(), 1);
}

static void test_a_periodic_timer_has_one_message_under_way(void **state)
{
	slot()->type = 1;
	arm(0, MESSAGE | HV_STIMER_PERIODIC, 100);
	for (u32 i = 1; i <= 5; i++)
		run_to(START + i * 100);
	slot()->type = 0;
	core_test_write(vp, HV_X64_MSR_EOM, 0);
	assert_int_equal(body()->expiration_time, START + 100);
	slot()->type = 0;
	core_test_write(vp, HV_X64_MSR_EOM, 0);
	assert_int_equal(slot()->type, 0); /* nothing more waits */
	run_to(START + 600);
	assert_int_equal(body()->expiration_time, START + 600);
}

static void test_without_a_synic_the_expiry_is_lost_not_the_timer(void **state)
{
	core_test_write(vp, HV_X64_MSR_SCONTROL, 0);
	arm(0, MESSAGE | HV_STIMER_PERIODIC, 100);
	run_to(START + 100);
	core_test_write(vp, HV_X64_MSR_SCONTROL, 1);
	assert_int_equal(slot()->type, 0);
	run_to(START + 200);
	assert_int_equal(body()->expiration_time, START + 200);
}

static void test_enabling_needs_a_count_and_a_destination(void **state)
{
	static const struct {
		u64 config, count;
		bool enabled;
	} rows[] = {
		{ DIRECT, 500, true },
		{ DIRECT, 0, false },
		{ MESSAGE, 500, true },
		{ MESSAGE, 0, false },
		{ 0, 500, false }, /* SINT 0 */
		{ HV_STIMER_PERIODIC | HV_STIMER_AUTO_ENABLE, 500, false },
	};

	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		arm(0, rows[i].config, START + rows[i].count * (rows[i].count != 0));
		if (!rows[i].count)
			arm(0, rows[i].config, 0);
		assert_int_equal(enabled(0), rows[i].enabled);
		assert_int_equal(core_test_read(vp, CONFIG(0)),
				 rows[i].config | (rows[i].enabled ? HV_STIMER_ENABLE : 0));
		core_test_write(vp, CONFIG(0), 0);
	}
	run_to(START + 1000);
	assert_int_equal(fired(), 0);
}

static void test_a_count_of_zero_stops_the_timer(void **state)
{
	arm(0, DIRECT | HV_STIMER_AUTO_ENABLE, START + 100);
	core_test_write(vp, COUNT(0), 0);
	assert_false(enabled(0));
	run_to(START + 200);
	assert_int_equal(fired(), 0);
}

static void test_auto_enable_arms_by_the_count(void **state)
{
	core_test_write(vp, CONFIG(0), DIRECT | HV_STIMER_AUTO_ENABLE);
	for (u32 i = 0; i < 3; i++) {
		u64 at = START + 100 + i * 1000;

		core_test_write(vp, COUNT(0), at);
		assert_true(enabled(0));
		run_to(at);
		assert_int_equal(fired(), i + 1);
		assert_false(enabled(0));
	}
	core_test_write(vp, CONFIG(0), HV_STIMER_AUTO_ENABLE); /* to SINT 0: nowhere */
	core_test_write(vp, COUNT(0), START + 9000);
	assert_false(enabled(0));
	core_test_write(vp, CONFIG(0), DIRECT);
	core_test_write(vp, COUNT(0), START + 9000); /* a count alone does not enable */
	assert_false(enabled(0));
}

static void test_a_new_count_moves_an_armed_timer(void **state)
{
	arm(0, DIRECT, START + 100);
	core_test_write(vp, COUNT(0), START + 300);
	run_to(START + 299);
	assert_int_equal(fired(), 0);
	run_to(START + 300);
	assert_int_equal(fired(), 1);
}

static void test_a_new_config_of_an_armed_timer_holds(void **state)
{
	arm(0, DIRECT, START + 100);
	core_test_write(vp, CONFIG(0), HV_STIMER_ENABLE | HV_STIMER_DIRECT | 0x99ull << 4);
	run_to(START + 100);
	assert_int_equal(fake_last(ct.vm, FAKE_MSI).b, 0x99);
	arm(0, DIRECT, START + 200);
	core_test_write(vp, CONFIG(0), HV_STIMER_ENABLE); /* message mode to SINT 0 */
	assert_false(enabled(0));
	run_to(START + 200);
	assert_int_equal(fired(), 1);
}

static void test_a_count_that_wraps_is_far_away_not_near(void **state)
{
	arm(0, DIRECT, ~0ull);
	arm(1, DIRECT | HV_STIMER_PERIODIC, ~0ull);
	arm(2, DIRECT | HV_STIMER_PERIODIC, ~0ull - START);
	arm(3, DIRECT, ~0ull / 100 + 1);
	run_to(START + 1000000);
	assert_int_equal(fired(), 0);
	assert_true(enabled(0) && enabled(1) && enabled(2) && enabled(3));
}

static void test_config_values_are_checked(void **state)
{
	static const struct {
		u64 value;
		enum vp_fault fault;
	} rows[] = {
		{ 0, VP_OK },
		{ 0x1ED8, VP_OK }, /* what Linux uses, without enable */
		{ HV_STIMER_DIRECT | 15 << 4, VP_FAULT_GP },
		{ HV_STIMER_DIRECT | 16 << 4, VP_OK },
		{ 15 << 4, VP_OK }, /* the vector does not matter in message mode */
		{ HV_STIMER_VALID_MASK & ~1ull, VP_OK },
	};

	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		u64 before = core_test_read(vp, CONFIG(3));

		assert_int_equal(msr_write(vp, CONFIG(3), rows[i].value), rows[i].fault);
		assert_int_equal(core_test_read(vp, CONFIG(3)),
				 rows[i].fault ? before : rows[i].value);
	}
	core_test_write(vp, CONFIG(3), ~0xFFull); /* reserved bits do not stick */
	assert_int_equal(core_test_read(vp, CONFIG(3)), HV_STIMER_VALID_MASK & ~0xFFull);
}

static void test_direct_mode_must_be_offered(void **state)
{
	struct core_test_config cfg = { .features = CORE_TEST_NONE };
	struct core_test plain;

	core_test_create(&plain, &cfg);
	assert_int_equal(msr_write(plain.vp[0], CONFIG(0), DIRECT), VP_FAULT_GP);
	assert_int_equal(msr_write(plain.vp[0], CONFIG(0), MESSAGE), VP_OK);
	core_test_destroy(&plain);
}

static void test_a_reset_disarms(void **state)
{
	arm(0, DIRECT | HV_STIMER_PERIODIC, 100);
	slot()->type = 1;
	arm(1, MESSAGE, START + 10);
	run_to(START + 50);
	vp_reset(vp);
	assert_int_equal(core_test_read(vp, CONFIG(0)), 0);
	assert_int_equal(core_test_read(vp, COUNT(0)), 0);
	assert_false(vp->stimer[1].message.queued);
	run_to(START + 1000);
	assert_int_equal(fired(), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_one_shot_fires_once_at_its_time),
		TEST(test_a_deadline_in_the_past_fires_at_once),
		TEST(test_the_four_timers_are_apart),
		TEST(test_a_periodic_timer_counts_from_its_enabling),
		TEST(test_a_late_periodic_timer_catches_up),
		TEST(test_a_late_lazy_timer_skips),
		TEST(test_a_long_absence_is_not_made_up_for),
		TEST(test_a_period_of_one_unit_does_not_flood_the_host),
		TEST(test_a_message_carries_both_times),
		TEST(test_a_message_waits_for_its_slot),
		TEST(test_a_periodic_timer_has_one_message_under_way),
		TEST(test_without_a_synic_the_expiry_is_lost_not_the_timer),
		TEST(test_enabling_needs_a_count_and_a_destination),
		TEST(test_a_count_of_zero_stops_the_timer),
		TEST(test_auto_enable_arms_by_the_count),
		TEST(test_a_new_count_moves_an_armed_timer),
		TEST(test_a_new_config_of_an_armed_timer_holds),
		TEST(test_a_count_that_wraps_is_far_away_not_near),
		TEST(test_config_values_are_checked),
		TEST(test_direct_mode_must_be_offered),
		TEST(test_a_reset_disarms),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
