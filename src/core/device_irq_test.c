// SPDX-License-Identifier: MIT
/* What a root maps is what its devices may send, and whoever asked is told of each change. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/core_test.h"

#define IN_GPA	0x10000ull
#define OUT_GPA 0x20000ull
#define DEVICE	((u64)HV_DEVICE_TYPE_PCI << 62 | 0x0008)

static struct core_test ct;
static struct partition_ops ops;
static u32 changes;
static u64 changed;

static void on_changed(void *ctx, u64 device_id)
{
	assert_ptr_equal(ctx, &ct);
	/* Without locks: the other side asks at once. */
	root_interrupt_mapped(ct.p, device_id, 0, 0);
	changes++;
	changed = device_id;
}

static int setup(void **state)
{
	core_test_create(&ct, &(struct core_test_config){ .vps = 2 });
	ops = core_test_ops;
	ops.interrupts_changed = on_changed;
	ct.p->ops = &ops;
	changes = 0;
	return 0;
}

static int teardown(void **state)
{
	core_test_destroy(&ct);
	return 0;
}

static u16 call(u64 control)
{
	const struct hypercall_regs regs = { control, IN_GPA, OUT_GPA, true };
	u64 result = ~0ull;

	assert_int_equal(hypercall_execute(ct.vp[0], &regs, &result), VP_OK);
	return (u16)result;
}

static u16 map(u64 device, u32 vector, u64 vp)
{
	const struct hv_input_map_device_interrupt in = {
		.partition_id = HV_PARTITION_ID_SELF,
		.device_id = device,
		.vector_count = 1,
		.vector = vector,
		.target_flags = HV_DEVICE_INTERRUPT_PROCESSOR_SET,
		.set_format = HV_GENERIC_SET_SPARSE_4K,
	};
	const u64 set[2] = { 1, BIT64(vp) };

	memcpy(ct.ram + IN_GPA, &in, sizeof(in));
	memcpy(ct.ram + IN_GPA + sizeof(in), set, sizeof(set));
	return call(HVCALL_MAP_DEVICE_INTERRUPT | 2ull << 17);
}

static struct hv_interrupt_entry mapped(void)
{
	struct hv_interrupt_entry e;

	memcpy(&e, ct.ram + OUT_GPA, sizeof(e));
	return e;
}

static u16 unmap(u64 device, struct hv_interrupt_entry entry)
{
	const struct hv_input_unmap_device_interrupt in = { .partition_id = HV_PARTITION_ID_SELF,
							    .device_id = device, .entry = entry };

	memcpy(ct.ram + IN_GPA, &in, sizeof(in));
	return call(HVCALL_UNMAP_DEVICE_INTERRUPT);
}

static void test_map(void **state)
{
	struct hv_interrupt_entry e;

	assert_int_equal(map(DEVICE, 0x41, 1), HV_STATUS_SUCCESS);
	e = mapped();
	assert_int_equal(e.source, HV_INTERRUPT_SOURCE_MSI);
	assert_int_equal(e.low, 0xFEE00000 | ct.vcpu[1]->id << 12);
	assert_int_equal(e.high, 0x41);
	assert_int_equal(changes, 1);
	assert_int_equal(changed, DEVICE);
	assert_true(root_interrupt_mapped(ct.p, DEVICE, e.low, e.high));
	/* Another vector, VP or device is not. */
	assert_false(root_interrupt_mapped(ct.p, DEVICE, e.low, 0x42));
	assert_false(root_interrupt_mapped(ct.p, DEVICE, e.low ^ 1 << 12, e.high));
	assert_false(root_interrupt_mapped(ct.p, DEVICE + 8, e.low, e.high));
	/* The same again changes nothing. */
	assert_int_equal(map(DEVICE, 0x41, 1), HV_STATUS_SUCCESS);
	assert_int_equal(changes, 1);
	assert_int_equal(unmap(DEVICE, e), HV_STATUS_SUCCESS);
	assert_int_equal(changes, 2);
	assert_false(root_interrupt_mapped(ct.p, DEVICE, e.low, e.high));
	assert_int_equal(unmap(DEVICE, e), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(changes, 2);
}

static void test_refused(void **state)
{
	assert_int_equal(map(DEVICE, 0x0F, 0), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(map(DEVICE, 0x100, 0), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(map(DEVICE, 0x41, 5), HV_STATUS_INVALID_VP_INDEX);
	assert_int_equal(map((u64)3 << 62, 0x41, 0), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(changes, 0);
	for (u32 i = 0; i < DEVICE_INTERRUPTS_MAX; i++)
		assert_int_equal(map(DEVICE + (i << 3), 0x41, 0), HV_STATUS_SUCCESS);
	assert_int_equal(map(DEVICE - 8, 0x41, 0), HV_STATUS_NO_RESOURCES);
	assert_int_equal(changes, DEVICE_INTERRUPTS_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_map, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
