// SPDX-License-Identifier: MIT
/* Properties of partitions, by who asks. */
#include "core/child_parent_test.h"

static void test_synthetic_features_are_the_childs_privileges(void **state)
{
	u64 id;

	deposit(HV_PARTITION_ID_SELF, 1);
	id = create();
	/* As QEMU asks, with bits that are not offered. */
	assert_int_equal(set_property(id, HV_PROPERTY_SYNTHETIC_PROC_FEATURES, 0x06400FFB), 0);
	assert_int_equal(get_property(id, HV_PROPERTY_SYNTHETIC_PROC_FEATURES), 0);
	assert_int_equal(out64(0), 0x06400FFBull & ~(BIT64(6) | BIT64(25)));
	assert_true(partition_has(child(id), HV_PRIV_ACCESS_SYNIC_REGS | HV_PRIV_ACCESS_REF_TSC));
	assert_false(partition_has(child(id), HV_PRIV_ACCESS_VP_RUNTIME));
	assert_false(partition_has(child(id), HV_PRIV_ACCESS_INTR_CTRL_REGS));
	assert_false(partition_has(child(id), HV_PRIV_CREATE_PARTITIONS));
	assert_int_equal(get_property(id, HV_PROPERTY_PRIVILEGE_FLAGS), 0);
	assert_int_equal(out64(0), child(id)->config.privileges);
	assert_int_equal(set_property(id, HV_PROPERTY_SYNTHETIC_PROC_FEATURES, 0), 0);
	assert_int_equal(child(id)->config.privileges, 0);
	/* Early or never. */
	assert_int_equal(set_property(child_id, HV_PROPERTY_SYNTHETIC_PROC_FEATURES, 1),
			 HV_STATUS_INVALID_PARTITION_STATE);
}

static void test_properties_by_who_asks(void **state)
{
	static const struct {
		u32 code;
		u16 self, of_child, set;
	} rows[] = {
		{ HV_PROPERTY_PRIVILEGE_FLAGS, 0, 0, HV_STATUS_OPERATION_DENIED },
		{ HV_PROPERTY_TIME_FREEZE, HV_STATUS_UNKNOWN_PROPERTY, 0, 0 },
		{ HV_PROPERTY_REFERENCE_TIME, 0, 0, HV_STATUS_INVALID_PARTITION_STATE },
		{ HV_PROPERTY_PROCESSORS_PER_SOCKET, HV_STATUS_UNKNOWN_PROPERTY, 0, 0 },
		{ HV_PROPERTY_GPA_PAGE_ACCESS_TRACKING, HV_STATUS_UNKNOWN_PROPERTY, 0, 0 },
		{ HV_PROPERTY_PROCESSOR_VENDOR, 0, 0, HV_STATUS_OPERATION_DENIED },
		{ HV_PROPERTY_PROCESSOR_XSAVE_FEATURES, 0, 0, HV_STATUS_OPERATION_DENIED },
		{ HV_PROPERTY_PHYSICAL_ADDRESS_WIDTH, 0, 0, HV_STATUS_OPERATION_DENIED },
		{ HV_PROPERTY_XSAVE_STATES, 0, 0, HV_STATUS_OPERATION_DENIED },
		{ HV_PROPERTY_MAX_XSAVE_DATA_SIZE, 0, 0, HV_STATUS_OPERATION_DENIED },
		{ HV_PROPERTY_PROCESSOR_CLOCK_FREQUENCY, 0, 0, HV_STATUS_OPERATION_DENIED },
		{ HV_PROPERTY_PROCESSOR_FEATURES0, 0, 0, HV_STATUS_OPERATION_DENIED },
		{ HV_PROPERTY_PROCESSOR_FEATURES1, 0, 0, HV_STATUS_OPERATION_DENIED },
		{ HV_PROPERTY_VMM_CAPABILITIES, HV_STATUS_UNKNOWN_PROPERTY,
		  HV_STATUS_UNKNOWN_PROPERTY, HV_STATUS_UNKNOWN_PROPERTY },
		{ 0x12345, HV_STATUS_UNKNOWN_PROPERTY, HV_STATUS_UNKNOWN_PROPERTY,
		  HV_STATUS_UNKNOWN_PROPERTY },
	};

	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_int_equal(get_property(HV_PARTITION_ID_SELF, rows[i].code), rows[i].self);
		assert_int_equal(get_property(child_id, rows[i].code), rows[i].of_child);
		assert_int_equal(set_property(child_id, rows[i].code, 0), rows[i].set);
		assert_int_equal(set_property(ct.p->id, rows[i].code, 0),
				 HV_STATUS_OPERATION_DENIED);
	}
	assert_int_equal(get_property(child_id, HV_PROPERTY_PROCESSOR_CLOCK_FREQUENCY), 0);
	assert_int_equal(out64(0), FAKE_TSC_HZ);
}

static void test_capabilities_are_banks(void **state)
{
	struct hv_input_get_partition_property_ex in = { HV_PARTITION_ID_SELF,
							 HV_PROPERTY_VMM_CAPABILITIES };
	struct hv_property_bank *out = (void *)(ct.ram + OUT_GPA);

	assert_int_equal(call(HVCALL_GET_PARTITION_PROPERTY_EX, &in, sizeof(in)), 0);
	assert_int_equal(out->bank_count, 1);
	assert_int_equal(out->bits, HV_VMM_CAPABILITY_ASSIGNABLE_FEATURES);
	in.property = HV_PROPERTY_ASSIGNABLE_SYNTHETIC_FEATURES;
	assert_int_equal(call(HVCALL_GET_PARTITION_PROPERTY_EX, &in, sizeof(in)), 0);
	assert_int_equal(out->bank_count, 1);
	assert_true(out->bits & HV_SYNTHETIC_HV1);
	in.property = HV_PROPERTY_INTEGRATED_SCHEDULER;
	assert_int_equal(call(HVCALL_GET_PARTITION_PROPERTY_EX, &in, sizeof(in)), 0);
	assert_int_equal(out64(0), 0);
	in.property = HV_PROPERTY_TIME_FREEZE;
	assert_int_equal(call(HVCALL_GET_PARTITION_PROPERTY_EX, &in, sizeof(in)),
			 HV_STATUS_UNKNOWN_PROPERTY);
}

static void test_frozen_time_stands_still_and_goes_on_from_there(void **state)
{
	struct vp *vp = vp_of(child_id, 0);
	struct engine_vm *vm = child(child_id)->vm;
	u64 then;

	fake_tsc_set(vm, 5 * FAKE_TSC_HZ);
	resume_from(0, child_id, 0);
	fake_drain(vp->vcpu);
	assert_int_equal(set_property(child_id, HV_PROPERTY_TIME_FREEZE, 1), 0);
	assert_false(core_test_in_guest(vp));
	assert_int_equal(set_property(child_id, HV_PROPERTY_TIME_FREEZE, 1), 0);
	assert_int_equal(set_property(child_id, HV_PROPERTY_TIME_FREEZE, 2),
			 HV_STATUS_PROPERTY_VALUE_OUT_OF_RANGE);
	assert_int_equal(get_property(child_id, HV_PROPERTY_REFERENCE_TIME), 0);
	then = out64(0);
	fake_tsc_advance(vm, FAKE_TSC_HZ);
	assert_int_equal(get_property(child_id, HV_PROPERTY_REFERENCE_TIME), 0);
	assert_int_equal(out64(0), then);
	assert_int_equal(reg(child_id, 0, HvX64RegisterTsc), 5 * FAKE_TSC_HZ);
	assert_false(core_test_in_guest(vp));
	assert_int_equal(set_property(child_id, HV_PROPERTY_TIME_FREEZE, 0), 0);
	assert_int_equal(set_property(child_id, HV_PROPERTY_TIME_FREEZE, 0), 0);
	assert_int_equal(vm->ops->tsc_now(vm), 5 * FAKE_TSC_HZ);
	while (!core_test_in_guest(vp))
		;
	fake_tsc_advance(vm, FAKE_TSC_HZ);
	assert_int_equal(get_property(child_id, HV_PROPERTY_REFERENCE_TIME), 0);
	assert_in_range(out64(0), then + 9999999, then + 10000001);
}

static void test_reference_time_and_tsc_can_be_set(void **state)
{
	struct engine_vm *vm = child(child_id)->vm;

	fake_tsc_set(vm, 5 * FAKE_TSC_HZ);
	assert_int_equal(set_property(child_id, HV_PROPERTY_REFERENCE_TIME, 77),
			 HV_STATUS_INVALID_PARTITION_STATE);
	assert_int_equal(set_property(child_id, HV_PROPERTY_TIME_FREEZE, 1), 0);
	assert_int_equal(set_property(child_id, HV_PROPERTY_REFERENCE_TIME, 77), 0);
	assert_int_equal(get_property(child_id, HV_PROPERTY_REFERENCE_TIME), 0);
	assert_int_equal(out64(0), 77);
	assert_int_equal(set_reg(child_id, 0, HvX64RegisterTsc, 1000 * FAKE_TSC_HZ, 0), 0);
	assert_int_equal(reg(child_id, 1, HvX64RegisterTsc), 1000 * FAKE_TSC_HZ);
	assert_int_equal(set_property(child_id, HV_PROPERTY_TIME_FREEZE, 0), 0);
	assert_int_equal(vm->ops->tsc_now(vm), 1000 * FAKE_TSC_HZ);
	assert_int_equal(reg(child_id, 0, HvRegisterTimeRefCount), 77);
	/* Close to what it is: nothing to do. */
	assert_int_equal(set_reg(child_id, 1, HvX64RegisterTsc, 1000 * FAKE_TSC_HZ + 5, 0), 0);
	assert_int_equal(vm->ops->tsc_now(vm), 1000 * FAKE_TSC_HZ);
	assert_int_equal(set_reg(child_id, 1, HvX64RegisterTsc, 0, 0), 0);
	assert_int_equal(vm->ops->tsc_now(vm), 0);
	assert_int_equal(reg(child_id, 0, HvRegisterTimeRefCount), 77);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_CHILD(test_synthetic_features_are_the_childs_privileges),
		TEST_CHILD(test_properties_by_who_asks),
		TEST_CHILD(test_capabilities_are_banks),
		TEST_CHILD(test_frozen_time_stands_still_and_goes_on_from_there),
		TEST_CHILD(test_reference_time_and_tsc_can_be_set),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
