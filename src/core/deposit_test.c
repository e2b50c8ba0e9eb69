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

static u16 msr(u32 index, u64 gpn)
{
	return (u16)msr_write(ct.vp[0], index, gpn * PAGE_BYTES | HV_MSR_PAGE_ENABLE);
}

static const u32 page_msrs[] = { HV_X64_MSR_SIMP, HV_X64_MSR_SIEFP, HV_X64_MSR_VP_ASSIST_PAGE,
				 HV_X64_MSR_HYPERCALL, HV_X64_MSR_REFERENCE_TSC };

/* A page cannot be the hypervisor's in two ways. */
static void test_a_donated_page_takes_no_overlay(void **state)
{
	const u64 gpn = FIRST_GPN;
	u8 byte;

	core_test_write(ct.vp[0], HV_X64_MSR_GUEST_OS_ID, TEST_OS_ID);
	deposit(HV_PARTITION_ID_SELF, &gpn, 1);
	for (u32 i = 0; i < ARRAY_SIZE(page_msrs); i++) {
		u64 before = core_test_read(ct.vp[0], page_msrs[i]);

		assert_int_equal(msr(page_msrs[i], gpn), VP_FAULT_GP);
		assert_int_equal(core_test_read(ct.vp[0], page_msrs[i]), before);
	}
	assert_int_not_equal(gmem_read(&ct.gmem, gpn * PAGE_BYTES, &byte, 1), 0);
	assert_int_equal(withdraw(1), HV_HYPERCALL_RESULT(HV_STATUS_SUCCESS, 1));
	for (u32 i = 0; i < ARRAY_SIZE(page_msrs); i++)
		assert_int_equal(msr(page_msrs[i], gpn), VP_OK);
}

/* One that is in place is moved to a donated page: it stays where it is. */
static void test_an_overlay_does_not_move_to_a_donated_page(void **state)
{
	const u64 gpn = FIRST_GPN;

	assert_int_equal(msr(HV_X64_MSR_SIMP, gpn + 1), VP_OK);
	deposit(HV_PARTITION_ID_SELF, &gpn, 1);
	ct.ram[(gpn + 1) * PAGE_BYTES] = 7;
	assert_int_equal(msr(HV_X64_MSR_SIMP, gpn), VP_FAULT_GP);
	assert_int_equal(core_test_read(ct.vp[0], HV_X64_MSR_SIMP),
			 (gpn + 1) * PAGE_BYTES | HV_MSR_PAGE_ENABLE);
	assert_int_equal(ct.ram[(gpn + 1) * PAGE_BYTES], 7);
	assert_int_equal((u16)deposit(HV_PARTITION_ID_SELF, (u64[]){ gpn + 1 }, 1),
			 HV_STATUS_INVALID_PARAMETER);
}

static void test_a_page_below_an_overlay_is_not_taken(void **state)
{
	const u64 gpns[] = { FIRST_GPN, FIRST_GPN + 1, FIRST_GPN + 2 };

	assert_int_equal(msr(HV_X64_MSR_SIMP, gpns[1]), VP_OK);
	assert_int_equal(msr(HV_X64_MSR_SIEFP, gpns[1]), VP_OK); /* hides the first */
	assert_int_equal(deposit(HV_PARTITION_ID_SELF, gpns, 3),
			 HV_HYPERCALL_RESULT(HV_STATUS_INVALID_PARAMETER, 1));
	core_test_write(ct.vp[0], HV_X64_MSR_SIEFP, 0);
	assert_int_equal((u16)deposit(HV_PARTITION_ID_SELF, &gpns[1], 1),
			 HV_STATUS_INVALID_PARAMETER);
	core_test_write(ct.vp[0], HV_X64_MSR_SIMP, 0);
	assert_int_equal((u16)deposit(HV_PARTITION_ID_SELF, &gpns[1], 1), HV_STATUS_SUCCESS);
	assert_int_equal(deposit_get(&ct.p->deposit).pages, 2);
}

/* Both hypervisors of a nested root lay pages over the same memory. */
static void test_the_other_hypervisors_overlay_counts_too(void **state)
{
	const u64 gpns[] = { FIRST_GPN, FIRST_GPN + 1 };

	teardown(state);
	core_test_create(&ct, &(struct core_test_config){ .vps = 2, .nested = true });
	assert_int_equal(msr(HV_X64_MSR_NESTED_SIMP, gpns[0]), VP_OK);
	assert_int_equal((u16)deposit(HV_PARTITION_ID_SELF, &gpns[0], 1),
			 HV_STATUS_INVALID_PARAMETER);
	assert_int_equal((u16)deposit(HV_PARTITION_ID_SELF, &gpns[1], 1), HV_STATUS_SUCCESS);
	assert_int_equal(msr(HV_X64_MSR_NESTED_SIEFP, gpns[1]), VP_FAULT_GP);
}

static u32 accessible(u64 first, u32 n)
{
	u32 can = 0;
	u8 byte;

	for (u32 i = 0; i < n; i++)
		can += gmem_read(&ct.gmem, (first + i) * PAGE_BYTES, &byte, 1) == 0;
	return can;
}

/* Every page is somewhere at every step: with the root, free in the pool, or in use. */
static void test_every_page_is_accounted_for(void **state)
{
	enum { PAGES = 40 };
	u64 gpns[PAGES];
	u32 in_pool = 0;

	for (u32 i = 0; i < PAGES; i++)
		gpns[i] = FIRST_GPN + i;
	for (u32 step = 0; step < 400; step++) {
		struct deposit_info d;
		u64 gpn = gpns[step * 7 % PAGES], taken;
		u8 byte;

		if (step % 5 < 3) {
			bool own = gmem_read(&ct.gmem, gpn * PAGE_BYTES, &byte, 1) == 0;

			assert_int_equal((u16)deposit(HV_PARTITION_ID_SELF, &gpn, 1),
					 own ? HV_STATUS_SUCCESS : HV_STATUS_INVALID_PARAMETER);
			in_pool += own;
		} else if (step % 5 == 3) {
			u32 n = 1 + step % 3, got = in_pool < n ? in_pool : n;

			assert_int_equal((u32)(withdraw(n) >> 32), got);
			in_pool -= got;
		} else if (deposit_take(&ct.p->deposit, 1, &taken) == HV_STATUS_SUCCESS) {
			assert_int_equal(deposit_get(&ct.p->deposit).in_use, 1);
			assert_int_equal((u16)deposit(HV_PARTITION_ID_SELF, &taken, 1),
					 HV_STATUS_INVALID_PARAMETER);
			deposit_release(&ct.p->deposit, taken);
		}
		d = deposit_get(&ct.p->deposit);
		assert_int_equal(d.pages, in_pool);
		assert_int_equal(d.in_use, 0);
		assert_int_equal(accessible(FIRST_GPN, PAGES), PAGES - in_pool);
	}
}

#define LOAD_PAGES  64u
#define LOAD_ROUNDS 300u

/* VP 1 deposits its pages, over and over those that it has. */
static void *depositor(void *arg)
{
	struct hv_input_deposit *d = (void *)(ct.ram + 0x30000);
	u32 *given = arg;

	for (u32 round = 0; round < LOAD_ROUNDS; round++) {
		const struct hypercall_regs regs = { HVCALL_DEPOSIT_MEMORY | 8ull << 32, 0x30000, 0,
						     true };
		u64 result;

		d->partition_id = HV_PARTITION_ID_SELF;
		for (u32 i = 0; i < 8; i++)
			d->gpn[i] = FIRST_GPN + (round * 8 + i) % LOAD_PAGES;
		if (hypercall_execute(ct.vp[1], &regs, &result) != VP_OK)
			return NULL;
		*given += (u32)(result >> 32);
	}
	return NULL;
}

static void test_a_withdrawal_while_another_vp_deposits(void **state)
{
	pthread_t thread;
	u32 given = 0, got = 0;

	assert_int_equal(pthread_create(&thread, NULL, depositor, &given), 0);
	for (u32 round = 0; round < LOAD_ROUNDS; round++) {
		u64 result = withdraw(16);
		u32 n = (u32)(result >> 32);

		assert_true((u16)result == HV_STATUS_SUCCESS
				    ? n == 16
				    : (u16)result == HV_STATUS_NO_RESOURCES);
		for (u32 i = 0; i < n; i++)
			assert_in_range(out()[i], FIRST_GPN, FIRST_GPN + LOAD_PAGES - 1);
		got += n;
	}
	pthread_join(thread, NULL);
	for (u64 result = 0; (u16)result == HV_STATUS_SUCCESS;) {
		result = withdraw(16);
		got += (u32)(result >> 32);
	}
	assert_int_equal(got, given);
	assert_int_equal(deposit_get(&ct.p->deposit).pages, 0);
	assert_int_equal(accessible(FIRST_GPN, LOAD_PAGES), LOAD_PAGES);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_donated_page_cannot_be_used_until_it_comes_back),
		TEST(test_only_ram_can_be_given_and_only_once),
		TEST(test_a_withdrawal_ends_with_the_pool),
		TEST(test_a_statistics_page_costs_one_and_is_readable_while_mapped),
		TEST(test_a_donated_page_takes_no_overlay),
		TEST(test_an_overlay_does_not_move_to_a_donated_page),
		TEST(test_a_page_below_an_overlay_is_not_taken),
		TEST(test_the_other_hypervisors_overlay_counts_too),
		TEST(test_every_page_is_accounted_for),
		TEST(test_a_withdrawal_while_another_vp_deposits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
