// SPDX-License-Identifier: MIT
/* Calls of a partition that owns its hypervisor: each status, and who may make them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/trace.h"
#include "core/core_test.h"

#define IN_GPA	 0x10000ull
#define OUT_GPA	 0x20000ull
#define POOL_GPN 0x100ull
#define VPS	 4u

static struct core_test ct;
static u64 next_gpn;
static u32 changes;

static void on_changed(void *ctx, u64 device_id)
{
	changes++;
}

static struct partition_ops ops;

static void create(const struct core_test_config *cfg)
{
	core_test_create(&ct, cfg);
	ops = core_test_ops;
	ops.interrupts_changed = on_changed;
	ct.p->ops = &ops;
	next_gpn = POOL_GPN;
	changes = 0;
}

static int setup(void **state)
{
	create(&(struct core_test_config){ .vps = VPS });
	return 0;
}

static int setup_nested(void **state)
{
	create(&(struct core_test_config){ .vps = VPS, .nested = true });
	return 0;
}

static int teardown(void **state)
{
	core_test_destroy(&ct);
	return 0;
}

static u64 result(u64 control, const void *input, u32 bytes)
{
	const struct hypercall_regs regs = { control, IN_GPA, OUT_GPA, true };
	u64 value = ~0ull;

	memcpy(ct.ram + IN_GPA, input, bytes);
	assert_int_equal(hypercall_execute(ct.vp[0], &regs, &value), VP_OK);
	return value;
}

static u16 call(u64 control, const void *input, u32 bytes)
{
	return (u16)result(control, input, bytes);
}

#define CALL(control, in) call(control, &(in), sizeof(in))

static const void *out(void)
{
	return ct.ram + OUT_GPA;
}

static u16 lp_run_time(u32 lp)
{
	struct hv_input_lp_run_time in = { .lp_index = lp };

	return CALL(HVCALL_GET_LOGICAL_PROCESSOR_RUN_TIME, in);
}

static u16 add_lp(u32 lp, u32 apic_id)
{
	struct hv_input_add_lp in = { .lp_index = lp, .apic_id = apic_id };

	return CALL(HVCALL_ADD_LOGICAL_PROCESSOR, in);
}

static u16 create_vp(u64 partition, u32 vp, u64 lp)
{
	struct hv_input_create_vp in = { .partition_id = partition, .vp_index = vp, .flags = lp };

	return CALL(HVCALL_CREATE_VP, in);
}

static void deposit(u32 pages)
{
	u64 in[64] = { HV_PARTITION_ID_SELF };

	for (u32 i = 1; i <= pages; i++)
		in[i] = next_gpn++;
	assert_int_equal(CALL(HVCALL_DEPOSIT_MEMORY | (u64)pages << 32, in), HV_STATUS_SUCCESS);
}

static struct deposit_info pool(void)
{
	return deposit_get(&ct.p->deposit);
}

static void test_run_time_tells_which_processors_exist(void **state)
{
	const struct hv_output_lp_run_time *t = out();
	u64 before;

	core_test_advance(&ct, 1000);
	assert_int_equal(lp_run_time(0), HV_STATUS_SUCCESS);
	before = t->global_time;
	core_test_advance(&ct, 1000);
	assert_int_equal(lp_run_time(0), HV_STATUS_SUCCESS);
	assert_int_equal(t->global_time - before, 1000);
	for (u32 lp = 1; lp <= VPS; lp++)
		assert_int_equal(lp_run_time(lp), HV_STATUS_INVALID_LP_INDEX);
	assert_int_equal(lp_run_time(1024), HV_STATUS_INVALID_LP_INDEX);
	assert_int_equal(lp_run_time(~0u), HV_STATUS_INVALID_LP_INDEX);
	deposit(1);
	assert_int_equal(add_lp(2, ct.vcpu[2]->id), HV_STATUS_SUCCESS);
	assert_int_equal(lp_run_time(2), HV_STATUS_SUCCESS);
	assert_int_equal(lp_run_time(1), HV_STATUS_INVALID_LP_INDEX);
}

static void test_a_processor_is_one_of_the_machines_and_costs_a_page(void **state)
{
	assert_int_equal(add_lp(VPS, 2 * VPS), HV_STATUS_INVALID_LP_INDEX);
	assert_int_equal(add_lp(~0u, 0), HV_STATUS_INVALID_LP_INDEX);
	assert_int_equal(add_lp(1, 1), HV_STATUS_INVALID_PARAMETER); /* its APIC id is 2 */
	assert_int_equal(add_lp(1, 2), HV_STATUS_INSUFFICIENT_MEMORY);
	assert_int_equal(lp_run_time(1), HV_STATUS_INVALID_LP_INDEX);
	deposit(DEPOSIT_LP);
	assert_int_equal(add_lp(1, 2), HV_STATUS_SUCCESS);
	assert_int_equal(pool().in_use, DEPOSIT_LP);
	/* Again: nothing is taken. */
	assert_int_equal(add_lp(1, 2), HV_STATUS_SUCCESS);
	assert_int_equal(add_lp(0, 0), HV_STATUS_SUCCESS);
	assert_int_equal(pool().in_use, DEPOSIT_LP);
	assert_int_equal(add_lp(2, 4), HV_STATUS_INSUFFICIENT_MEMORY);
}

static void test_a_vp_needs_its_processor_and_pages(void **state)
{
	assert_int_equal(create_vp(99, 1, 1), HV_STATUS_INVALID_PARTITION_ID);
	assert_int_equal(create_vp(HV_PARTITION_ID_SELF, VPS, VPS), HV_STATUS_INVALID_VP_INDEX);
	assert_int_equal(create_vp(HV_PARTITION_ID_SELF, ~0u, ~0u), HV_STATUS_INVALID_VP_INDEX);
	assert_int_equal(create_vp(HV_PARTITION_ID_SELF, 1, 2), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(create_vp(HV_PARTITION_ID_SELF, 1, 1ull << 32 | 1),
			 HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(create_vp(HV_PARTITION_ID_SELF, 1, 1), HV_STATUS_INVALID_LP_INDEX);
	deposit(DEPOSIT_LP);
	assert_int_equal(add_lp(1, 2), HV_STATUS_SUCCESS);
	for (u32 short_of = DEPOSIT_VP; short_of; short_of--) {
		assert_int_equal(create_vp(HV_PARTITION_ID_SELF, 1, 1),
				 HV_STATUS_INSUFFICIENT_MEMORY);
		assert_false(ct.vp[1]->thread_started);
		assert_int_equal(pool().in_use, DEPOSIT_LP);
		deposit(1);
	}
	partition_stop(ct.p, STOP_KILLED, 0, "its thread shall end at once");
	assert_int_equal(create_vp(ct.p->id, 1, 1), HV_STATUS_SUCCESS);
	assert_true(ct.vp[1]->thread_started);
	assert_int_equal(pool().in_use, DEPOSIT_LP + DEPOSIT_VP);
	assert_int_equal(create_vp(ct.p->id, 1, 1), HV_STATUS_SUCCESS);
	assert_int_equal(pool().in_use, DEPOSIT_LP + DEPOSIT_VP);
	vp_join(ct.vp[1]);
}

static void test_events(void **state)
{
	struct hv_input_notify_partition_event in = { .event = 3 };

	assert_int_equal(CALL(HVCALL_NOTIFY_PARTITION_EVENT, in), HV_STATUS_INVALID_PARAMETER);
	in.event = ~0u;
	assert_int_equal(CALL(HVCALL_NOTIFY_PARTITION_EVENT, in), HV_STATUS_INVALID_PARAMETER);
	assert_false(ct.p->root.all_started);
	in.event = HV_PARTITION_ALL_LOGICAL_PROCESSORS_STARTED;
	assert_int_equal(CALL(HVCALL_NOTIFY_PARTITION_EVENT, in), HV_STATUS_SUCCESS);
	assert_true(ct.p->root.all_started);
}

static void test_system_properties(void **state)
{
	struct hv_input_get_system_property get = { .property = HV_SYSTEM_PROPERTY_SCHEDULER_TYPE };
	struct hv_input_set_system_property set = { .property = HV_SYSTEM_PROPERTY_SLEEP_STATE,
						    .sleep_state = HV_SLEEP_STATE_S5 };

	memset(ct.ram + OUT_GPA, 0xEE, 16);
	assert_int_equal(CALL(HVCALL_GET_SYSTEM_PROPERTY, get), HV_STATUS_SUCCESS);
	assert_int_equal(*(const u64 *)out(), HV_SCHEDULER_TYPE_CORE_SMT);
	for (u32 i = 0; i < 64; i++) {
		get.property = i;
		if (i != HV_SYSTEM_PROPERTY_SCHEDULER_TYPE)
			assert_int_equal(CALL(HVCALL_GET_SYSTEM_PROPERTY, get),
					 HV_STATUS_UNKNOWN_PROPERTY);
		set.property = i;
		if (i != HV_SYSTEM_PROPERTY_SLEEP_STATE)
			assert_int_equal(CALL(HVCALL_SET_SYSTEM_PROPERTY, set),
					 HV_STATUS_UNKNOWN_PROPERTY);
	}
	assert_int_equal(ct.p->root.sleep_state, 0);
	set.property = HV_SYSTEM_PROPERTY_SLEEP_STATE;
	for (u32 s = 0; s < 8; s++) {
		set.sleep_state = s;
		assert_int_equal(CALL(HVCALL_SET_SYSTEM_PROPERTY, set),
				 s == HV_SLEEP_STATE_S5 ? HV_STATUS_SUCCESS
							: HV_STATUS_PROPERTY_VALUE_OUT_OF_RANGE);
	}
	assert_int_equal(ct.p->root.sleep_state, HV_SLEEP_STATE_S5);
	assert_int_equal(ct.stops, 0);
}

static void test_sleep_ends_the_machine(void **state)
{
	struct hv_input_enter_sleep_state in = { 0 };

	for (in.sleep_state = 0; in.sleep_state < HV_SLEEP_STATE_S5; in.sleep_state++)
		assert_int_equal(CALL(HVCALL_ENTER_SLEEP_STATE, in), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(ct.stops, 0);
	assert_int_equal(CALL(HVCALL_ENTER_SLEEP_STATE, in), HV_STATUS_SUCCESS);
	assert_int_equal(ct.stops, 1);
	assert_int_equal(ct.p->stop, STOP_POWER_OFF);
}

static const u16 calls[] = { HVCALL_GET_LOGICAL_PROCESSOR_RUN_TIME,
			     HVCALL_ADD_LOGICAL_PROCESSOR,
			     HVCALL_NOTIFY_PARTITION_EVENT,
			     HVCALL_CREATE_VP,
			     HVCALL_GET_SYSTEM_PROPERTY,
			     HVCALL_SET_SYSTEM_PROPERTY,
			     HVCALL_ENTER_SLEEP_STATE,
			     HVCALL_MAP_DEVICE_INTERRUPT,
			     HVCALL_UNMAP_DEVICE_INTERRUPT,
			     HVCALL_MAP_STATS_PAGE,
			     HVCALL_UNMAP_STATS_PAGE };

/* A root of L1 is an ordinary guest of L0, whatever it may do in its own partition. */
static void test_bit_31_asks_for_the_privileges_of_the_other_partition(void **state)
{
	static const u8 nothing[256];

	teardown(state);
	create(&(struct core_test_config){
		.vps = VPS, .nested = true, .outer_privileges = TEST_GUEST_PRIVILEGES });
	for (u32 i = 0; i < ARRAY_SIZE(calls); i++) {
		assert_int_equal(CALL(calls[i] | HV_HYPERCALL_NESTED, nothing),
				 HV_STATUS_ACCESS_DENIED);
		assert_int_not_equal(CALL(calls[i], nothing), HV_STATUS_ACCESS_DENIED);
	}
	teardown(state);
	create(&(struct core_test_config){ .vps = VPS,
					   .nested = true,
					   .privileges = TEST_GUEST_PRIVILEGES,
					   .outer_privileges = TEST_ALL_PRIVILEGES });
	for (u32 i = 0; i < ARRAY_SIZE(calls); i++) {
		assert_int_equal(CALL(calls[i], nothing), HV_STATUS_ACCESS_DENIED);
		assert_int_not_equal(CALL(calls[i] | HV_HYPERCALL_NESTED, nothing),
				     HV_STATUS_ACCESS_DENIED);
	}
}

static void test_the_two_sides_have_pools_and_processors_of_their_own(void **state)
{
	struct hv_input_lp_run_time time = { .lp_index = 1 };

	deposit(4);
	assert_int_equal(add_lp(1, 2), HV_STATUS_SUCCESS);
	assert_int_equal(deposit_get(&ct.outer->deposit).pages, 0);
	assert_int_equal(CALL(HVCALL_GET_LOGICAL_PROCESSOR_RUN_TIME | HV_HYPERCALL_NESTED, time),
			 HV_STATUS_INVALID_LP_INDEX);
	assert_int_equal(CALL(HVCALL_GET_LOGICAL_PROCESSOR_RUN_TIME, time), HV_STATUS_SUCCESS);
}

static void map_interrupt(u32 vector)
{
	struct {
		struct hv_input_map_device_interrupt in;
		u64 set[2];
	} in = { .in = { .partition_id = HV_PARTITION_ID_SELF,
			 .device_id = (u64)HV_DEVICE_TYPE_PCI << 62,
			 .vector_count = 1,
			 .vector = vector,
			 .target_flags = HV_DEVICE_INTERRUPT_PROCESSOR_SET,
			 .set_format = HV_GENERIC_SET_SPARSE_4K },
		 .set = { 1, 1 } };

	assert_int_equal(CALL(HVCALL_MAP_DEVICE_INTERRUPT | 2ull << 17, in), HV_STATUS_SUCCESS);
}

/* As Linux says goodbye before kexec. */
static void test_a_kernel_that_ends_leaves_nothing_mapped(void **state)
{
	struct hv_input_map_stats_page page = { .type = HV_STATS_HYPERVISOR };
	u8 byte;

	deposit(DEPOSIT_LP + DEPOSIT_STATS + 3);
	assert_int_equal(add_lp(1, 2), HV_STATUS_SUCCESS);
	assert_int_equal(CALL(HVCALL_MAP_STATS_PAGE, page), HV_STATUS_SUCCESS);
	map_interrupt(0x41);
	map_interrupt(0x42);
	assert_int_equal(changes, 2);
	core_test_write(ct.vp[0], HV_X64_MSR_GUEST_OS_ID, TEST_OS_ID);
	assert_int_equal(ct.p->root.interrupt_count, 2);
	core_test_write(ct.vp[0], HV_X64_MSR_GUEST_OS_ID, 0);
	assert_int_equal(ct.p->root.interrupt_count, 0);
	assert_int_equal(changes, 4);
	assert_int_equal(ct.p->root.stats_count, 0);
	/* Its pool stays the hypervisor's, which the next kernel does not know: a quirk. */
	assert_int_equal(pool().pages, DEPOSIT_LP + DEPOSIT_STATS + 3);
	assert_int_not_equal(gmem_read(&ct.gmem, POOL_GPN * PAGE_BYTES, &byte, 1), 0);
	ct.p->config.quirks = BIT(QUIRK_KEXEC_POOL);
	core_test_write(ct.vp[0], HV_X64_MSR_GUEST_OS_ID, 0);
	assert_int_equal(ct.p->quirk_uses[QUIRK_KEXEC_POOL], 1);
	assert_int_equal(pool().pages, 0);
	assert_int_equal(pool().in_use, 0);
	for (u64 gpn = POOL_GPN; gpn < next_gpn; gpn++)
		assert_int_equal(gmem_read(&ct.gmem, gpn * PAGE_BYTES, &byte, 1), 0);
	/* What the pages paid for stays: the next kernel finds its processors started. */
	assert_int_equal(lp_run_time(1), HV_STATUS_SUCCESS);
	core_test_write(ct.vp[0], HV_X64_MSR_GUEST_OS_ID, 0);
	assert_int_equal(ct.p->quirk_uses[QUIRK_KEXEC_POOL], 1); /* there was nothing to give */
}

static void test_leftovers_in_the_input_of_a_vp_are_traced(void **state)
{
	struct hv_input_create_vp in = { .partition_id = HV_PARTITION_ID_SELF, .vp_index = 1 };
	char path[64], text[4096] = "";
	FILE *f;

	snprintf(path, sizeof(path), "/tmp/root_test.%d.txt", getpid());
	assert_int_equal(trace_start(path), 0);
	CALL(HVCALL_CREATE_VP, in);
	in.rsvd[2] = 1;
	CALL(HVCALL_CREATE_VP, in);
	in = (struct hv_input_create_vp){ .subnode_type = 1, .subnode_id = 2 };
	CALL(HVCALL_CREATE_VP, in);
	in = (struct hv_input_create_vp){ .subnode_id = 3 };
	CALL(HVCALL_CREATE_VP, in);
	assert_int_equal(trace_stop(), 0);
	f = fopen(path, "re");
	assert_non_null(f);
	assert_true(fread(text, 1, sizeof(text) - 1, f) > 0);
	fclose(f);
	unlink(path);
	assert_non_null(strstr(text, "leftover code=HvCallCreateVp offset=12 value=0x10000 "));
	assert_non_null(strstr(text, "leftover code=HvCallCreateVp offset=16 value=0x3 "));
	assert_null(strstr(text, "value=0x2 "));
}

#define TEST(f)	       cmocka_unit_test_setup_teardown(f, setup, teardown)
#define TEST_NESTED(f) cmocka_unit_test_setup_teardown(f, setup_nested, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_run_time_tells_which_processors_exist),
		TEST(test_a_processor_is_one_of_the_machines_and_costs_a_page),
		TEST(test_a_vp_needs_its_processor_and_pages),
		TEST(test_leftovers_in_the_input_of_a_vp_are_traced),
		TEST(test_events),
		TEST(test_system_properties),
		TEST(test_sleep_ends_the_machine),
		TEST(test_bit_31_asks_for_the_privileges_of_the_other_partition),
		TEST_NESTED(test_the_two_sides_have_pools_and_processors_of_their_own),
		TEST(test_a_kernel_that_ends_leaves_nothing_mapped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
