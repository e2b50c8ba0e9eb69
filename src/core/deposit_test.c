// SPDX-License-Identifier: MIT
/* HvCallDepositMemory, HvCallWithdrawMemory, and the pages that objects are paid with. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/core_test.h"

#define IN_GPA	  0x10000ull
#define OUT_GPA	  0x20000ull
#define FIRST_GPN 0x100ull

static struct core_test ct;

static int setup(void **state)
{
	const struct core_test_config cfg = { .vps = 2 };

	core_test_create(&ct, &cfg);
	return 0;
}

static int teardown(void **state)
{
	core_test_destroy(&ct);
	return 0;
}

static u64 call(u64 control)
{
	const struct hypercall_regs regs = { control, IN_GPA, OUT_GPA, true };
	u64 result;

	assert_int_equal(hypercall_execute(ct.vp[0], &regs, &result), VP_OK);
	return result;
}

static u64 *in(void)
{
	return (u64 *)(void *)(ct.ram + IN_GPA);
}

static u64 *out(void)
{
	return (u64 *)(void *)(ct.ram + OUT_GPA);
}

static u64 deposit(u64 partition, const u64 *gpns, u32 n)
{
	in()[0] = partition;
	memcpy(in() + 1, gpns, n * sizeof(u64));
	return call(HVCALL_DEPOSIT_MEMORY | (u64)n << 32);
}

static u64 withdraw(u32 n)
{
	in()[0] = HV_PARTITION_ID_SELF;
	in()[1] = 0;
	return call(HVCALL_WITHDRAW_MEMORY | (u64)n << 32);
}

static void test_a_donated_page_cannot_be_used_until_it_comes_back(void **state)
{
	static const u64 gpns[] = { FIRST_GPN, FIRST_GPN + 1 };
	const struct hypercall_regs input_there = { HVCALL_NOTIFY_LONG_SPIN_WAIT,
						    FIRST_GPN * PAGE_BYTES, 0, true };
	u64 result;
	u8 byte;

	assert_int_equal(deposit(HV_PARTITION_ID_SELF, gpns, 2),
			 HV_HYPERCALL_RESULT(HV_STATUS_SUCCESS, 2));
	assert_int_not_equal(gmem_read(&ct.gmem, FIRST_GPN * PAGE_BYTES, &byte, 1), 0);
	assert_int_not_equal(gmem_read(&ct.gmem, FIRST_GPN * PAGE_BYTES - 1, &byte, 2), 0);
	assert_null(gmem_ptr(&ct.gmem, (FIRST_GPN + 1) * PAGE_BYTES, PAGE_BYTES));
	/* Not for the input of a call either. */
	assert_int_equal(hypercall_execute(ct.vp[0], &input_there, &result), VP_OK);
	assert_int_equal(result, HV_STATUS_INVALID_ALIGNMENT);
	assert_int_equal(withdraw(2), HV_HYPERCALL_RESULT(HV_STATUS_SUCCESS, 2));
	assert_int_equal(out()[0] + out()[1], 2 * FIRST_GPN + 1);
	assert_int_equal(gmem_read(&ct.gmem, FIRST_GPN * PAGE_BYTES, &byte, 1), 0);
}

static void test_only_ram_can_be_given_and_only_once(void **state)
{
	const struct {
		u64 partition, gpn;
		u16 status;
	} rows[] = {
		{ HV_PARTITION_ID_SELF, FIRST_GPN, HV_STATUS_SUCCESS },
		{ ct.p->id, FIRST_GPN + 1, HV_STATUS_SUCCESS },
		{ HV_PARTITION_ID_SELF, FIRST_GPN, HV_STATUS_INVALID_PARAMETER },
		{ HV_PARTITION_ID_SELF, TEST_RAM_BYTES / PAGE_BYTES, HV_STATUS_INVALID_PARAMETER },
		{ HV_PARTITION_ID_SELF, TEST_HOLE_GPA / PAGE_BYTES, HV_STATUS_INVALID_PARAMETER },
		{ HV_PARTITION_ID_SELF, ~0ull, HV_STATUS_INVALID_PARAMETER },
		{ HV_PARTITION_ID_SELF, 1ull << 52 | FIRST_GPN, HV_STATUS_INVALID_PARAMETER },
		{ 77, FIRST_GPN + 2, HV_STATUS_INVALID_PARTITION_ID },
	};

	for (u32 i = 0; i < ARRAY_SIZE(rows); i++)
		assert_int_equal(deposit(rows[i].partition, &rows[i].gpn, 1),
				 HV_HYPERCALL_RESULT(rows[i].status, !rows[i].status));
}

static void test_a_withdrawal_ends_with_the_pool(void **state)
{
	u64 gpns[5];

	for (u32 i = 0; i < 5; i++)
		gpns[i] = FIRST_GPN + i;
	assert_int_equal(withdraw(1), HV_HYPERCALL_RESULT(HV_STATUS_NO_RESOURCES, 0));
	deposit(HV_PARTITION_ID_SELF, gpns, 5);
	assert_int_equal(withdraw(8), HV_HYPERCALL_RESULT(HV_STATUS_NO_RESOURCES, 5));
	for (u32 i = 0; i < 5; i++)
		for (u32 k = 0; k < i; k++)
			assert_int_not_equal(out()[i], out()[k]);
}

static u16 stats(u16 code, u64 type)
{
	*(struct hv_input_map_stats_page *)(void *)(ct.ram + IN_GPA) =
		(struct hv_input_map_stats_page){ .type = (u32)type };
	return (u16)call(code);
}

static void test_a_statistics_page_costs_one_and_is_readable_while_mapped(void **state)
{
	const u64 gpn = FIRST_GPN;

	assert_int_equal(stats(HVCALL_MAP_STATS_PAGE, HV_STATS_HYPERVISOR),
			 HV_STATUS_INSUFFICIENT_MEMORY);
	deposit(HV_PARTITION_ID_SELF, &gpn, 1);
	assert_int_equal(stats(HVCALL_MAP_STATS_PAGE, HV_STATS_HYPERVISOR), HV_STATUS_SUCCESS);
	assert_int_equal(out()[0], gpn);
	assert_non_null(gmem_ptr(&ct.gmem, gpn * PAGE_BYTES, PAGE_BYTES));
	assert_int_equal(stats(HVCALL_MAP_STATS_PAGE, HV_STATS_HYPERVISOR), HV_STATUS_SUCCESS);
	assert_int_equal(withdraw(1), HV_HYPERCALL_RESULT(HV_STATUS_NO_RESOURCES, 0));
	/* It is the hypervisor's still: giving it again would make two of it. */
	assert_int_equal((u16)deposit(HV_PARTITION_ID_SELF, &gpn, 1), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(stats(HVCALL_UNMAP_STATS_PAGE, HV_STATS_HYPERVISOR), HV_STATUS_SUCCESS);
	assert_null(gmem_ptr(&ct.gmem, gpn * PAGE_BYTES, PAGE_BYTES));
	assert_int_equal(stats(HVCALL_UNMAP_STATS_PAGE, HV_STATS_HYPERVISOR),
			 HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(withdraw(2), HV_HYPERCALL_RESULT(HV_STATUS_NO_RESOURCES, 1));
	assert_int_equal(out()[0], gpn);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_donated_page_cannot_be_used_until_it_comes_back),
		TEST(test_only_ram_can_be_given_and_only_once),
		TEST(test_a_withdrawal_ends_with_the_pool),
		TEST(test_a_statistics_page_costs_one_and_is_readable_while_mapped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
