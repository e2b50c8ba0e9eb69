// SPDX-License-Identifier: MIT
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/core_test.h"

#define IN_GPA 0x10000ull
#define VPS    TEST_VPS_MAX /* 80: a bank and a quarter */

static struct core_test ct;

static int setup(void **state)
{
	const struct core_test_config cfg = { .vps = VPS };

	core_test_create(&ct, &cfg);
	return 0;
}

static int teardown(void **state)
{
	core_test_destroy(&ct);
	return 0;
}

static u16 call(u64 control, u64 in, u64 second)
{
	const struct hypercall_regs regs = { control, in, second, true };
	u64 result;

	fake_forget(ct.vm);
	assert_int_equal(hypercall_execute(ct.vp[0], &regs, &result), VP_OK);
	return (u16)result;
}

static u16 send_ipi(u32 vector, u32 vtl, u64 mask)
{
	return call(HVCALL_SEND_IPI | HV_HYPERCALL_FAST, vector | (u64)vtl << 32, mask);
}

/* @qwords: what the control word says; the banks are always there. */
static u16 send_ipi_ex(u32 vector, u32 vtl, u64 format, u64 bank_mask, const u64 banks[3],
		       u32 qwords)
{
	struct hv_input_send_ipi_ex *in = (void *)(ct.ram + IN_GPA);

	*in = (struct hv_input_send_ipi_ex){ vector, vtl, format, bank_mask };
	memcpy(in->banks, banks, 3 * sizeof(u64));
	return call(HVCALL_SEND_IPI_EX | (u64)qwords << 17, IN_GPA, 0);
}

static void expect(const u32 *vps, u32 n, u8 vector)
{
	struct fake_vm *vm = fake_vm(ct.vm);

	assert_int_equal(vm->count[FAKE_MSI], n);
	for (u32 i = 0; i < n; i++) {
		assert_int_equal(vm->record[i].a,
				 0xFEE00000 | ct.vcpu[vps[i]]->id << 12); /* APIC id, not index */
		assert_int_equal(vm->record[i].b, vector);
	}
}

static void test_a_mask_names_the_first_64_vps(void **state)
{
	static const u32 some[] = { 0, 3, 63 };

	assert_int_equal(send_ipi(0x40, 0, BIT64(0) | BIT64(3) | BIT64(63)), HV_STATUS_SUCCESS);
	expect(some, ARRAY_SIZE(some), 0x40);
	assert_int_equal(send_ipi(0x40, 0, 0), HV_STATUS_SUCCESS);
	expect(NULL, 0, 0);
}

static void test_vectors_and_levels_are_checked(void **state)
{
	static const struct {
		u32 vector, vtl;
		u16 status;
	} rows[] = {
		{ 0x10, 0, HV_STATUS_SUCCESS },
		{ 0xFF, 0, HV_STATUS_SUCCESS },
		{ 0x40, 0xFFFFFF00, HV_STATUS_SUCCESS }, /* padding */
		{ 0x0F, 0, HV_STATUS_INVALID_PARAMETER },
		{ 0, 0, HV_STATUS_INVALID_PARAMETER },
		{ 0x100, 0, HV_STATUS_INVALID_PARAMETER },
		{ ~0u, 0, HV_STATUS_INVALID_PARAMETER },
		{ 0x40, 0x11, HV_STATUS_INVALID_PARAMETER }, /* VTL 1 does not exist */
	};
	static const u64 banks[3] = { 2 };

	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		bool ok = rows[i].status == HV_STATUS_SUCCESS;

		assert_int_equal(send_ipi(rows[i].vector, rows[i].vtl, 2), rows[i].status);
		assert_int_equal(fake_count(ct.vm, FAKE_MSI), ok);
		assert_int_equal(send_ipi_ex(rows[i].vector, rows[i].vtl, HV_GENERIC_SET_SPARSE_4K,
					     1, banks, 1),
				 rows[i].status);
		assert_int_equal(fake_count(ct.vm, FAKE_MSI), ok);
	}
}

static void test_a_sparse_set_has_a_bank_per_mask_bit(void **state)
{
	static const u64 banks[3] = { BIT64(1) | BIT64(63), BIT64(0) | BIT64(15), BIT64(2) };
	static const u32 both[] = { 1, 63, 64, 79 }, second[] = { 65, 79 };
	static const u64 late[3] = { BIT64(1) | BIT64(15) };

	assert_int_equal(send_ipi_ex(0x41, 0, HV_GENERIC_SET_SPARSE_4K, 3, banks, 2),
			 HV_STATUS_SUCCESS);
	expect(both, ARRAY_SIZE(both), 0x41);
	/* The banks of absent bits are not there: bank 1 comes first. */
	assert_int_equal(send_ipi_ex(0x41, 0, HV_GENERIC_SET_SPARSE_4K, 2, late, 1),
			 HV_STATUS_SUCCESS);
	expect(second, ARRAY_SIZE(second), 0x41);
}

static void test_the_variable_header_must_be_as_long_as_the_mask(void **state)
{
	static const u64 banks[3] = { 1, 1, 1 };
	static const struct {
		u64 mask;
		u32 qwords;
		u16 status;
	} rows[] = {
		{ 0, 0, HV_STATUS_SUCCESS }, /* nobody */
		{ 1, 1, HV_STATUS_SUCCESS },
		{ 7, 3, HV_STATUS_SUCCESS },
		{ 1, 0, HV_STATUS_INVALID_HYPERCALL_INPUT },
		{ 1, 2, HV_STATUS_INVALID_HYPERCALL_INPUT },
		{ 3, 1, HV_STATUS_INVALID_HYPERCALL_INPUT },
		{ ~0ull, 3, HV_STATUS_INVALID_HYPERCALL_INPUT },
		{ 0, 1, HV_STATUS_INVALID_HYPERCALL_INPUT },
		{ 1, 0x1F0, HV_STATUS_INVALID_HYPERCALL_INPUT }, /* fits the page, not the mask */
		{ 1, 0x3FF, HV_STATUS_INVALID_ALIGNMENT },	 /* does not fit the page */
	};

	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_int_equal(send_ipi_ex(0x41, 0, HV_GENERIC_SET_SPARSE_4K, rows[i].mask, banks,
					     rows[i].qwords),
				 rows[i].status);
		if (rows[i].status != HV_STATUS_SUCCESS)
			assert_int_equal(fake_count(ct.vm, FAKE_MSI), 0);
	}
}

static void test_vps_that_do_not_exist_are_passed_over(void **state)
{
	static const u64 banks[3] = { 0, ~0ull, ~0ull };
	static const u64 last[3] = { ~0ull };

	assert_int_equal(send_ipi_ex(0x41, 0, HV_GENERIC_SET_SPARSE_4K, 7, banks, 3),
			 HV_STATUS_SUCCESS);
	assert_int_equal(fake_count(ct.vm, FAKE_MSI), VPS - 64);
	assert_int_equal(send_ipi_ex(0x41, 0, HV_GENERIC_SET_SPARSE_4K, BIT64(63), last, 1),
			 HV_STATUS_SUCCESS);
	assert_int_equal(fake_count(ct.vm, FAKE_MSI), 0);
}

static void test_all_means_all_with_the_sender(void **state)
{
	static const u64 banks[3] = { 0 };

	assert_int_equal(send_ipi_ex(0x42, 0, HV_GENERIC_SET_ALL, 0, banks, 0), HV_STATUS_SUCCESS);
	assert_int_equal(fake_count(ct.vm, FAKE_MSI), VPS);
	assert_int_equal(send_ipi_ex(0x42, 0, 2, 0, banks, 0), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(send_ipi_ex(0x42, 0, ~0ull, 0, banks, 0), HV_STATUS_INVALID_PARAMETER);
}

static void test_a_sparse_set_may_come_in_registers(void **state)
{
	const u64 input[] = { HV_GENERIC_SET_SPARSE_4K, 2, BIT64(7) };
	static const u32 one[] = { 71 };

	/* Vector in RDX, format in R8, mask and bank in XMM0. */
	memcpy(fake_vcpu(ct.vcpu[0])->xmm, &input[1], 16);
	assert_int_equal(call(HVCALL_SEND_IPI_EX | HV_HYPERCALL_FAST | 1ull << 17, 0x43, input[0]),
			 HV_STATUS_SUCCESS);
	expect(one, 1, 0x43);
}

static void test_a_spin_wait_notification_succeeds(void **state)
{
	assert_int_equal(call(HVCALL_NOTIFY_LONG_SPIN_WAIT | HV_HYPERCALL_FAST, 1000, 0),
			 HV_STATUS_SUCCESS);
	assert_int_equal(call(HVCALL_NOTIFY_LONG_SPIN_WAIT, IN_GPA, 0), HV_STATUS_SUCCESS);
}

static void test_large_apic_ids_use_the_upper_address(void **state)
{
	ct.vcpu[1]->id = 0x12345;
	send_ipi(0x40, 0, 2);
	assert_int_equal(fake_last(ct.vm, FAKE_MSI).a,
			 0xFEE00000ull | 0x45 << 12 | 0x12300ull << 32);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_mask_names_the_first_64_vps),
		TEST(test_vectors_and_levels_are_checked),
		TEST(test_a_sparse_set_has_a_bank_per_mask_bit),
		TEST(test_the_variable_header_must_be_as_long_as_the_mask),
		TEST(test_vps_that_do_not_exist_are_passed_over),
		TEST(test_all_means_all_with_the_sender),
		TEST(test_a_sparse_set_may_come_in_registers),
		TEST(test_a_spin_wait_notification_succeeds),
		TEST(test_large_apic_ids_use_the_upper_address),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
