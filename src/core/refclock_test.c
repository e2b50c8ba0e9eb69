// SPDX-License-Identifier: MIT
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>

#include "core/core_test.h"

static struct core_test ct;

static int setup(void **state)
{
	const struct core_test_config cfg = { .privileges = TEST_GUEST_PRIVILEGES,
					      .features = TEST_FEATURES };

	core_test_create(&ct, &cfg);
	return 0;
}

static int teardown(void **state)
{
	core_test_destroy(&ct);
	return 0;
}

static struct hv_reference_tsc_page tsc_page(u64 gpa)
{
	struct hv_reference_tsc_page page;

	memcpy(&page, ct.ram + gpa, sizeof(page));
	return page;
}

static void test_a_tsc_of_unknown_or_low_frequency_is_refused(void **state)
{
	static const struct {
		u64 hz;
		int ret;
	} rows[] = { { 0, -EINVAL },  { 1, -EINVAL },	 { 10000000, -EINVAL },
		     { 10000001, 0 }, { 2400000000, 0 }, { ~0ull, 0 } };
	struct refclock rc;

	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		fake_vm(ct.vm)->tsc_hz = rows[i].hz;
		assert_int_equal(refclock_init(&rc, ct.vm), rows[i].ret);
	}
}

static void test_time_counts_100ns_at_any_frequency(void **state)
{
	static const u64 hz[] = { 1000000000, 2399999999, 3700000123, 10000001 };
	struct refclock rc;

	for (u32 i = 0; i < ARRAY_SIZE(hz); i++) {
		fake_vm(ct.vm)->tsc_hz = hz[i];
		assert_int_equal(refclock_init(&rc, ct.vm), 0);
		fake_tsc_set(ct.vm, 0);
		assert_int_equal(refclock_now_100ns(&rc), 0);
		fake_tsc_set(ct.vm, hz[i] * 3600); /* an hour, exact to one unit */
		assert_in_range(refclock_now_100ns(&rc), 36000000000 - 1, 36000000000);
		assert_int_equal(refclock_now_ns(&rc), refclock_now_100ns(&rc) * 100);
	}
}

static void test_the_counter_register_cannot_be_written(void **state)
{
	fake_advance_100ns(ct.vm, 12345);
	assert_in_range(core_test_read(ct.vp[0], HV_X64_MSR_TIME_REF_COUNT), 12344, 12345);
	assert_int_equal(msr_write(ct.vp[0], HV_X64_MSR_TIME_REF_COUNT, 0), VP_FAULT_GP);
}

static void test_the_page_agrees_with_the_counter(void **state)
{
	struct hv_reference_tsc_page page;

	core_test_write(ct.vp[0], HV_X64_MSR_REFERENCE_TSC, 0x7000 | HV_MSR_PAGE_ENABLE);
	page = tsc_page(0x7000);
	for (u64 tsc = 1; tsc < 1ull << 62; tsc *= 7) {
		fake_tsc_set(ct.vm, tsc);
		assert_int_equal(mul_hi(tsc, page.scale) + (u64)page.offset,
				 core_test_read(ct.vp[0], HV_X64_MSR_TIME_REF_COUNT));
	}
}

static void test_each_enabling_gives_a_new_valid_sequence(void **state)
{
	u32 last = 0;

	for (u32 i = 0; i < 4; i++) {
		struct hv_reference_tsc_page page;

		core_test_write(ct.vp[0], HV_X64_MSR_REFERENCE_TSC, 0x7000 | HV_MSR_PAGE_ENABLE);
		page = tsc_page(0x7000);
		assert_int_not_equal(page.sequence, 0);
		assert_int_not_equal(page.sequence, ~0u);
		assert_int_not_equal(page.sequence, last);
		last = page.sequence;
		core_test_write(ct.vp[0], HV_X64_MSR_REFERENCE_TSC, 0x7000);
		assert_int_equal(tsc_page(0x7000).sequence, 0); /* the guest's own page again */
	}
}

static void test_the_sequence_wraps_past_its_two_reserved_values(void **state)
{
	ct.p->tsc_sequence = ~0u - 1;
	core_test_write(ct.vp[0], HV_X64_MSR_REFERENCE_TSC, 0x7000 | HV_MSR_PAGE_ENABLE);
	assert_int_equal(tsc_page(0x7000).sequence, 1);
}

static void test_moving_the_page_keeps_it_valid(void **state)
{
	struct hv_reference_tsc_page page;

	core_test_write(ct.vp[0], HV_X64_MSR_REFERENCE_TSC, 0x7000 | HV_MSR_PAGE_ENABLE);
	page = tsc_page(0x7000);
	core_test_write(ct.vp[0], HV_X64_MSR_REFERENCE_TSC, 0x9000 | HV_MSR_PAGE_ENABLE);
	assert_int_equal(tsc_page(0x9000).scale, page.scale);
	assert_int_not_equal(tsc_page(0x9000).sequence, 0);
	assert_int_equal(tsc_page(0x7000).scale, 0);
}

static void test_the_register_reads_back_without_its_reserved_bits(void **state)
{
	core_test_write(ct.vp[0], HV_X64_MSR_REFERENCE_TSC, 0x7FFF);
	assert_int_equal(core_test_read(ct.vp[0], HV_X64_MSR_REFERENCE_TSC), 0x7001);
	assert_int_equal(msr_write(ct.vp[0], HV_X64_MSR_REFERENCE_TSC,
				   BIT64(TEST_PHYSICAL_BITS) | HV_MSR_PAGE_ENABLE),
			 VP_FAULT_GP);
	assert_int_equal(core_test_read(ct.vp[0], HV_X64_MSR_REFERENCE_TSC), 0x7001);
	assert_int_not_equal(tsc_page(0x7000).scale, 0);
}

static void test_frequencies_are_the_engines(void **state)
{
	assert_int_equal(core_test_read(ct.vp[0], HV_X64_MSR_TSC_FREQUENCY), FAKE_TSC_HZ);
	assert_int_equal(core_test_read(ct.vp[0], HV_X64_MSR_APIC_FREQUENCY), FAKE_APIC_HZ);
}

static void test_invariant_control_takes_one_bit_and_tells_the_engine(void **state)
{
	struct fake_record r;

	assert_int_equal(msr_write(ct.vp[0], HV_X64_MSR_TSC_INVARIANT_CONTROL, 2), VP_FAULT_GP);
	core_test_write(ct.vp[0], HV_X64_MSR_TSC_INVARIANT_CONTROL, 1);
	assert_int_equal(core_test_read(ct.vp[0], HV_X64_MSR_TSC_INVARIANT_CONTROL), 1);
	r = fake_last(ct.vm, FAKE_SET_MSR);
	assert_int_equal(r.a, HV_X64_MSR_TSC_INVARIANT_CONTROL);
	assert_int_equal(r.b, 1);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_tsc_of_unknown_or_low_frequency_is_refused),
		TEST(test_time_counts_100ns_at_any_frequency),
		TEST(test_the_counter_register_cannot_be_written),
		TEST(test_the_page_agrees_with_the_counter),
		TEST(test_each_enabling_gives_a_new_valid_sequence),
		TEST(test_the_sequence_wraps_past_its_two_reserved_values),
		TEST(test_moving_the_page_keeps_it_valid),
		TEST(test_the_register_reads_back_without_its_reserved_bits),
		TEST(test_frequencies_are_the_engines),
		TEST(test_invariant_control_takes_one_bit_and_tells_the_engine),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
