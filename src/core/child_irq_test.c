// SPDX-License-Identifier: MIT
/* Interrupts into a child: what the engine is asked for, by type, mode and destination. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/child_call_test.h"
#include "hvdef/interrupt.h"

#define VECTOR 0x31

static enum hv_status raise(u64 control, u64 destination, u32 vector)
{
	const struct hv_input_assert_virtual_interrupt in = { .partition_id = cc.p->id,
							      .control = control,
							      .destination = destination,
							      .vector = vector };

	return CC_CALL(HVCALL_ASSERT_VIRTUAL_INTERRUPT, in);
}

static struct fake_record msi(void)
{
	return fake_last(cc.p->vm, FAKE_MSI);
}

static u32 msis(void)
{
	return fake_count(cc.p->vm, FAKE_MSI);
}

static void test_modes_become_fields_of_an_msi(void **state)
{
	static const struct {
		u64 control, destination, address;
		u32 vector, data;
	} row[] = {
		{ HV_X64_INTERRUPT_TYPE_FIXED, 1, 0xFEE01000, VECTOR, VECTOR },
		{ HV_X64_INTERRUPT_TYPE_LOWESTPRIORITY, 1, 0xFEE01000, VECTOR, 0x100 | VECTOR },
		{ HV_X64_INTERRUPT_TYPE_FIXED | HV_INTERRUPT_LOGICAL, 3, 0xFEE03004, VECTOR,
		  VECTOR },
		{ HV_X64_INTERRUPT_TYPE_FIXED | HV_INTERRUPT_LOGICAL, 0xFF, 0xFEEFF004, VECTOR,
		  VECTOR },
		/* A logical id of x2APIC, and an id above a byte. */
		{ HV_X64_INTERRUPT_TYPE_FIXED | HV_INTERRUPT_LOGICAL, 0x10003, 0x10000FEE03004,
		  VECTOR, VECTOR },
		{ HV_X64_INTERRUPT_TYPE_FIXED, 0x1234, 0x1200FEE34000, VECTOR, VECTOR },
		{ HV_X64_INTERRUPT_TYPE_NMI, 1, 0xFEE01000, 2, 0x400 },
		{ HV_X64_INTERRUPT_TYPE_NMI | HV_INTERRUPT_LEVEL, 1, 0xFEE01000, 0, 0x400 },
		{ HV_X64_INTERRUPT_TYPE_INIT, 1, 0xFEE01000, 0, 0x500 },
		{ HV_X64_INTERRUPT_TYPE_SIPI, 1, 0xFEE01000, 9, 0x609 },
		/* Bits that older clients set. */
		{ HV_X64_INTERRUPT_TYPE_FIXED | BIT64(62), 0, 0xFEE00000, VECTOR, VECTOR },
	};

	for (u32 i = 0; i < ARRAY_SIZE(row); i++) {
		fake_forget(cc.p->vm);
		assert_int_equal(raise(row[i].control, row[i].destination, row[i].vector),
				 HV_STATUS_SUCCESS);
		assert_int_equal(msis(), 1);
		assert_int_equal(msi().a, row[i].address);
		assert_int_equal(msi().b, row[i].data);
	}
	assert_int_equal(fake_count(cc.ct.vm, FAKE_MSI), 0); /* not into the parent */
}

static void test_a_broadcast_reaches_each_vp(void **state)
{
	assert_int_equal(raise(HV_X64_INTERRUPT_TYPE_FIXED, 0xFF, VECTOR), HV_STATUS_SUCCESS);
	assert_int_equal(msis(), 2);
	assert_int_equal(raise(HV_X64_INTERRUPT_TYPE_NMI, 0xFFFFFFFF, 0), HV_STATUS_SUCCESS);
	assert_int_equal(msis(), 4);
	assert_int_equal(raise(HV_X64_INTERRUPT_TYPE_LOWESTPRIORITY, 0xFF, VECTOR),
			 HV_STATUS_SUCCESS);
	assert_int_equal(msis(), 5);
	cc_create_vp(255);
	raise(HV_X64_INTERRUPT_TYPE_FIXED, 0xFF, VECTOR); /* is a processor now */
	assert_int_equal(msis(), 6);
	assert_int_equal(msi().a, 0xFEEFF000);
}

static void test_a_level_has_its_eoi_reported(void **state)
{
	const u64 level = HV_X64_INTERRUPT_TYPE_FIXED | HV_INTERRUPT_LEVEL;
	struct fake_record route;

	assert_int_equal(raise(level, 1, VECTOR), HV_STATUS_SUCCESS);
	assert_int_equal(msi().b, 0xC000 | VECTOR);
	route = fake_last(cc.p->vm, FAKE_IOAPIC_ROUTE);
	assert_int_equal(route.a, 0xFEE01000);
	assert_int_equal(route.b, 0xC000 | VECTOR);
	assert_int_equal(route.c, 0);
	raise(level, 1, VECTOR); /* the engine knows */
	assert_int_equal(fake_count(cc.p->vm, FAKE_IOAPIC_ROUTE), 1);
	for (u32 i = 0; i < 2 * CHILD_LEVELS_MAX; i++)
		raise(level, 0, VECTOR + 1 + i);
	assert_int_equal(fake_count(cc.p->vm, FAKE_IOAPIC_ROUTE), 1 + 2 * CHILD_LEVELS_MAX);
	assert_int_equal(fake_last(cc.p->vm, FAKE_IOAPIC_ROUTE).c, 0);
	assert_int_equal(msis(), 2 + 2 * CHILD_LEVELS_MAX);
}

static void lvt(u32 offset, u32 value)
{
	memcpy(fake_vcpu(cc.vp[1]->vcpu)->lapic + offset, &value, sizeof(value));
}

static void test_pins_do_what_their_vector_table_says(void **state)
{
	lvt(0x350, 0x10700); /* masked */
	assert_int_equal(raise(HV_X64_INTERRUPT_TYPE_LOCALINT0, 1, 0), HV_STATUS_SUCCESS);
	lvt(0x360, 0x200); /* a mode that is none */
	assert_int_equal(raise(HV_X64_INTERRUPT_TYPE_LOCALINT1, 1, 0), HV_STATUS_SUCCESS);
	assert_int_equal(msis(), 0);
	lvt(0x350, 0x700);
	assert_int_equal(raise(HV_X64_INTERRUPT_TYPE_LOCALINT0, 1, VECTOR), HV_STATUS_SUCCESS);
	assert_int_equal(fake_last(cc.p->vm, FAKE_EXTINT).b, VECTOR);
	lvt(0x360, 0x400);
	assert_int_equal(raise(HV_X64_INTERRUPT_TYPE_LOCALINT1, 1, 0), HV_STATUS_SUCCESS);
	assert_int_equal(msi().b, 0x400);
	lvt(0x360, 0x44);
	raise(HV_X64_INTERRUPT_TYPE_LOCALINT1, 1, 0);
	assert_int_equal(msi().b, 0x44);
	assert_int_equal(msi().a, 0xFEE01000);
}

static void test_an_extint_waits_for_the_one_before(void **state)
{
	assert_int_equal(raise(HV_X64_INTERRUPT_TYPE_EXTINT, 0, 8), HV_STATUS_SUCCESS);
	assert_int_equal(fake_last(cc.p->vm, FAKE_EXTINT).b, 8);
	fake_vcpu(cc.vp[0]->vcpu)->extint_pending = true;
	assert_int_equal(raise(HV_X64_INTERRUPT_TYPE_EXTINT, 0, 8), HV_STATUS_NOT_ACKNOWLEDGED);
	assert_int_equal(cc_on_child(HVCALL_CLEAR_VIRTUAL_INTERRUPT), HV_STATUS_SUCCESS);
}

static void test_what_cannot_be_is_refused(void **state)
{
	static const struct {
		u64 control, destination;
		u32 vector;
	} row[] = {
		{ HV_X64_INTERRUPT_TYPE_FIXED, 0, 15 },
		{ HV_X64_INTERRUPT_TYPE_LOWESTPRIORITY, 0, 0 },
		{ HV_X64_INTERRUPT_TYPE_FIXED, 0, 0x100 },
		{ HV_X64_INTERRUPT_TYPE_SIPI, 0, 0xFFFFFFFF },
		{ HV_X64_INTERRUPT_TYPE_FIXED, BIT64(32), VECTOR },
		{ HV_X64_INTERRUPT_TYPE_SMI, 0, VECTOR },
		{ HV_X64_INTERRUPT_TYPE_REMOTEREAD, 0, VECTOR },
		{ 10, 0, VECTOR },
		{ 0xFFFFFFFF, 0, VECTOR },
		{ HV_X64_INTERRUPT_TYPE_LOCALINT0, 2, VECTOR }, /* no such VP */
		{ HV_X64_INTERRUPT_TYPE_LOCALINT0 | HV_INTERRUPT_LOGICAL, 0, VECTOR },
		{ HV_X64_INTERRUPT_TYPE_EXTINT, 0xFF, VECTOR },
	};
	struct hv_input_assert_virtual_interrupt in = { .partition_id = cc.p->id,
							.vector = VECTOR };

	for (u32 i = 0; i < ARRAY_SIZE(row); i++)
		assert_int_equal(raise(row[i].control, row[i].destination, row[i].vector),
				 HV_STATUS_INVALID_PARAMETER);
	in.target_vtl = 1;
	assert_int_equal(CC_CALL(HVCALL_ASSERT_VIRTUAL_INTERRUPT, in), HV_STATUS_INVALID_PARAMETER);
	in.target_vtl = 0;
	in.rsvd2 = 1;
	assert_int_equal(CC_CALL(HVCALL_ASSERT_VIRTUAL_INTERRUPT, in), HV_STATUS_INVALID_PARAMETER);
	in.partition_id = cc.ct.p->id; /* the caller is not its own child */
	assert_int_equal(CC_CALL(HVCALL_ASSERT_VIRTUAL_INTERRUPT, in),
			 HV_STATUS_INVALID_PARTITION_ID);
	assert_int_equal(msis(), 0);
}

static void test_only_an_active_child_is_interrupted(void **state)
{
	cc_on_child(HVCALL_FINALIZE_PARTITION);
	assert_int_equal(raise(HV_X64_INTERRUPT_TYPE_FIXED, 0, VECTOR),
			 HV_STATUS_INVALID_PARTITION_STATE);
	cc_on_child(HVCALL_DELETE_PARTITION);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CC_TEST(test_modes_become_fields_of_an_msi),
		CC_TEST(test_a_broadcast_reaches_each_vp),
		CC_TEST(test_a_level_has_its_eoi_reported),
		CC_TEST(test_pins_do_what_their_vector_table_says),
		CC_TEST(test_an_extint_waits_for_the_one_before),
		CC_TEST(test_what_cannot_be_is_refused),
		CC_TEST(test_only_an_active_child_is_interrupted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
