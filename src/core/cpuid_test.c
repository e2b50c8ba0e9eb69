// SPDX-License-Identifier: MIT
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>

#include "core/core_test.h"
#include "core/cpuid.h"

static struct core_test ct;

static int setup(void **state)
{
	const struct core_test_config cfg = { .vps = 4,
					      .privileges = TEST_GUEST_PRIVILEGES,
					      .features = TEST_FEATURES };

	core_test_create(&ct, &cfg);
	return 0;
}

static int teardown(void **state)
{
	core_test_destroy(&ct);
	return 0;
}

static struct engine_cpuid leaf(u32 number)
{
	/* Garbage that must not shine through. */
	struct engine_cpuid e = { .leaf = number, .eax = 1, .ebx = 2, .ecx = 3, .edx = 4 };

	hv_cpuid_fill(ct.p, &e);
	return e;
}

static void expect(u32 number, u32 eax, u32 ebx, u32 ecx, u32 edx)
{
	struct engine_cpuid e = leaf(number);

	assert_int_equal(e.eax, eax);
	assert_int_equal(e.ebx, ebx);
	assert_int_equal(e.ecx, ecx);
	assert_int_equal(e.edx, edx);
}

static void test_leaves_say_what_a_kernel_looks_for(void **state)
{
	expect(0x40000000, 0x4000000C, 0x7263694D, 0x666F736F, 0x76482074);
	expect(0x40000001, 0x31237648, 0, 0, 0);
	expect(0x40000002, 0x6C61, 0x000A0000, 0, 0);
	expect(0x40000004, 0x220, ~0u, 0, 0);
	expect(0x40000005, 4, 4, 0, 0);
}

static void test_the_features_leaf_is_the_mask_that_gates_rows(void **state)
{
	expect(0x40000003, (u32)TEST_GUEST_PRIVILEGES, (u32)(TEST_GUEST_PRIVILEGES >> 32), 0,
	       TEST_FEATURES);
	/* What a released kernel was seen to need: the values of the specification. */
	expect(0x40000003, 0x8AFF | BIT(10), 0x30, 0, 0x80500);
}

static void test_leaves_without_an_offer_are_zero(void **state)
{
	static const u32 zero[] = { 0x40000006, 0x40000007, 0x40000008, 0x40000009, 0x4000000A,
				    0x4000000B, 0x4000000C, 0x40000080, 0x40000081, 0x40000082,
				    0x40000100, 0x40000010, 0 };

	for (u32 i = 0; i < ARRAY_SIZE(zero); i++)
		expect(zero[i], 0, 0, 0, 0);
}

static void test_no_other_hypervisor_remains_in_the_list(void **state)
{
	struct engine_cpuid list[64];
	u32 count = ARRAY_SIZE(list), ours = 0;

	assert_int_equal(fake_ops.cpuid_supported(NULL, list, &count), 0);
	assert_int_equal(hv_cpuid_apply(ct.p, list, &count, ARRAY_SIZE(list)), 0);
	for (u32 i = 0; i < count; i++) {
		assert_int_not_equal(list[i].ebx, 0x4B4D564B); /* KVMK */
		ours += list[i].leaf >> 16 == 0x4000;
		for (u32 k = 0; k < i; k++)
			assert_int_not_equal(list[k].leaf, list[i].leaf);
	}
	/* Every leaf up to the maximum and the three of the virtualization stack, absent or not. */
	for (u32 n = 0x40000000; n <= 0x40000082; n += n == 0x4000000C ? 0x74 : 1) {
		u32 found = 0;

		for (u32 i = 0; i < count; i++)
			found += list[i].leaf == n;
		assert_int_equal(found, 1);
	}
	assert_int_equal(ours, 13 + 3);
	assert_int_equal(count - ours, 5);
}

static void test_a_list_without_room_is_refused(void **state)
{
	struct engine_cpuid list[64];
	u32 count = ARRAY_SIZE(list), all;

	fake_ops.cpuid_supported(NULL, list, &count);
	all = count - 2 + 16;
	assert_int_equal(hv_cpuid_apply(ct.p, list, &count, all - 1), -E2BIG);
	count = ARRAY_SIZE(list);
	fake_ops.cpuid_supported(NULL, list, &count);
	assert_int_equal(hv_cpuid_apply(ct.p, list, &count, all), 0);
	assert_int_equal(count, all);
	/* A second time changes nothing. */
	assert_int_equal(hv_cpuid_apply(ct.p, list, &count, all), 0);
	assert_int_equal(count, all);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_leaves_say_what_a_kernel_looks_for),
		TEST(test_the_features_leaf_is_the_mask_that_gates_rows),
		TEST(test_leaves_without_an_offer_are_zero),
		TEST(test_no_other_hypervisor_remains_in_the_list),
		TEST(test_a_list_without_room_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
