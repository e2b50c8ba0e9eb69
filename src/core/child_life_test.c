// SPDX-License-Identifier: MIT
/* Life of child partitions and of their VPs, what holds those, and who ends them. */
#include "core/child_parent_test.h"

static void test_creation_costs_a_page_of_the_parents(void **state)
{
	const struct hv_input_create_partition in = { .flags = HV_CREATE_LAPIC };
	u64 id;

	assert_int_equal(call(HVCALL_CREATE_PARTITION, &in, sizeof(in)),
			 HV_STATUS_INSUFFICIENT_MEMORY);
	deposit(HV_PARTITION_ID_SELF, 1);
	id = create();
	assert_int_not_equal(id, 0);
	assert_int_not_equal(id, ct.p->id);
	assert_int_equal(call(HVCALL_CREATE_PARTITION, &in, sizeof(in)),
			 HV_STATUS_INSUFFICIENT_MEMORY);
	assert_int_equal(withdraw_all(HV_PARTITION_ID_SELF), 0);
	assert_int_equal(simple(HVCALL_DELETE_PARTITION, id), 0);
	assert_int_equal(withdraw_all(HV_PARTITION_ID_SELF), 1);
	assert_null(child(id));
}

static void test_an_isolated_partition_is_refused(void **state)
{
	const struct hv_input_create_partition in = { .isolation = 1 };

	deposit(HV_PARTITION_ID_SELF, 1);
	assert_int_equal(call(HVCALL_CREATE_PARTITION, &in, sizeof(in)),
			 HV_STATUS_INVALID_PARAMETER);
}

static void test_states_follow_each_other(void **state)
{
	u64 id;

	deposit(HV_PARTITION_ID_SELF, 1);
	id = create();
	assert_int_equal(create_vp(id, 0), HV_STATUS_INVALID_PARTITION_STATE);
	assert_int_equal(simple(HVCALL_INITIALIZE_PARTITION, id), HV_STATUS_INSUFFICIENT_MEMORY);
	deposit(id, 20);
	assert_int_equal(simple(HVCALL_INITIALIZE_PARTITION, id), 0);
	assert_int_equal(simple(HVCALL_INITIALIZE_PARTITION, id),
			 HV_STATUS_INVALID_PARTITION_STATE);
	assert_int_equal(simple(HVCALL_DELETE_PARTITION, id), HV_STATUS_INVALID_PARTITION_STATE);
	assert_int_equal(simple(HVCALL_FINALIZE_PARTITION, id), 0);
	assert_int_equal(simple(HVCALL_FINALIZE_PARTITION, id), HV_STATUS_INVALID_PARTITION_STATE);
	assert_int_equal(create_vp(id, 0), HV_STATUS_INVALID_PARTITION_STATE);
	assert_int_equal(set_property(id, HV_PROPERTY_UNIMPLEMENTED_MSR_ACTION, 1),
			 HV_STATUS_INVALID_PARTITION_STATE);
	assert_int_equal(withdraw_all(id), 20);
	assert_int_equal(simple(HVCALL_DELETE_PARTITION, id), 0);
	assert_int_equal(simple(HVCALL_DELETE_PARTITION, id), HV_STATUS_INVALID_PARTITION_ID);
}

static void test_only_a_child_can_be_named(void **state)
{
	static const u16 codes[] = { HVCALL_INITIALIZE_PARTITION, HVCALL_FINALIZE_PARTITION,
				     HVCALL_DELETE_PARTITION };

	for (u32 i = 0; i < ARRAY_SIZE(codes); i++) {
		assert_int_equal(simple(codes[i], NO_CHILD), HV_STATUS_INVALID_PARTITION_ID);
		assert_int_equal(simple(codes[i], HV_PARTITION_ID_SELF),
				 HV_STATUS_INVALID_PARTITION_ID);
		assert_int_equal(simple(codes[i], ct.p->id), HV_STATUS_INVALID_PARTITION_ID);
	}
	assert_int_equal(create_vp(NO_CHILD, 0), HV_STATUS_INVALID_PARTITION_ID);
	assert_int_equal(delete_vp(NO_CHILD, 0), HV_STATUS_INVALID_PARTITION_ID);
	assert_int_equal(set_property(NO_CHILD, HV_PROPERTY_TIME_FREEZE, 1),
			 HV_STATUS_INVALID_PARTITION_ID);
	assert_int_equal(get_property(NO_CHILD, HV_PROPERTY_TIME_FREEZE),
			 HV_STATUS_INVALID_PARTITION_ID);
	assert_int_equal(withdraw_all(NO_CHILD), 0);
}

static void test_finalize_gives_every_page_back_once(void **state)
{
	u64 page = map_page(child_id, 0, HV_STATE_PAGE_REGISTERS);

	map_page(child_id, 1, HV_STATE_PAGE_INTERCEPT);
	assert_non_null(gmem_ptr(&ct.gmem, page * PAGE_BYTES, PAGE_BYTES));
	assert_true(withdraw_all(child_id) < PAGE_POOL);
	deposit(child_id, 10);
	assert_int_equal(simple(HVCALL_FINALIZE_PARTITION, child_id), 0);
	/* Out of reach again until it is withdrawn. */
	assert_null(gmem_ptr(&ct.gmem, page * PAGE_BYTES, PAGE_BYTES));
	withdraw_all(child_id);
	for (u64 gpn = POOL_GPN; gpn < next_gpn; gpn++)
		assert_int_equal(gmem_donated(&ct.gmem, gpn * PAGE_BYTES) != 0,
				 gpn == POOL_GPN); /* the one the child itself costs */
	assert_int_equal(simple(HVCALL_DELETE_PARTITION, child_id), 0);
	assert_int_equal(withdraw_all(HV_PARTITION_ID_SELF), 1);
}

static void test_nothing_is_deposited_after_the_end(void **state)
{
	const u64 input[2] = { child_id, next_gpn++ };

	assert_int_equal(simple(HVCALL_FINALIZE_PARTITION, child_id), 0);
	assert_int_equal(call(HVCALL_DEPOSIT_MEMORY | 1ull << 32, input, sizeof(input)),
			 HV_STATUS_INVALID_PARTITION_STATE);
	assert_int_equal(gmem_donated(&ct.gmem, input[1] * PAGE_BYTES), 0);
}

static void test_the_end_of_the_parent_ends_its_children(void **state)
{
	deposit(HV_PARTITION_ID_SELF, 1);
	create();
	resume_from(0, child_id, 0);
	children_destroy(ct.p);
	assert_true(list_empty(&ct.hv.children));
}

/* VPs. */

static void test_vps_may_have_any_index(void **state)
{
	assert_int_equal(create_vp(child_id, 7), 0);
	assert_int_equal(create_vp(child_id, 7), HV_STATUS_INVALID_VP_STATE);
	assert_int_equal(create_vp(child_id, CHILD_VPS_MAX), HV_STATUS_INVALID_VP_INDEX);
	assert_int_equal(create_vp(child_id, CHILD_VPS_MAX - 1), 0);
	assert_int_equal(vp_of(child_id, 7)->vcpu->id, 7);
	assert_null(vp_of(child_id, 6));
	assert_int_equal(reg(child_id, 7, HvRegisterVpIndex), 7);
	assert_int_equal(get_reg(child_id, 6, HvRegisterVpIndex, &(struct hv_register_value){ 0 }),
			 HV_STATUS_INVALID_VP_INDEX);
}

static void test_a_vp_costs_pages_and_begins_suspended(void **state)
{
	u64 id;

	deposit(HV_PARTITION_ID_SELF, 1);
	id = create();
	deposit(id, DEPOSIT_INITIALIZE);
	assert_int_equal(simple(HVCALL_INITIALIZE_PARTITION, id), 0);
	assert_int_equal(create_vp(id, 0), HV_STATUS_INSUFFICIENT_MEMORY);
	deposit(id, DEPOSIT_VP);
	assert_int_equal(create_vp(id, 0), 0);
	assert_int_equal(reg(id, 0, HvRegisterExplicitSuspend), 1);
	assert_int_equal(reg(id, 0, HvRegisterInterceptSuspend), 0);
}

static void test_a_deleted_vp_can_be_made_again(void **state)
{
	u32 used = deposit_get(&child(child_id)->deposit).in_use;

	map_page(child_id, 1, HV_STATE_PAGE_REGISTERS);
	assert_int_equal(delete_vp(child_id, 1), 0);
	assert_int_equal(deposit_get(&child(child_id)->deposit).in_use, used - DEPOSIT_VP);
	assert_int_equal(delete_vp(child_id, 1), HV_STATUS_INVALID_VP_INDEX);
	assert_int_equal(set_reg(child_id, 1, HvRegisterExplicitSuspend, 0, 0),
			 HV_STATUS_INVALID_VP_INDEX);
	assert_int_equal(create_vp(child_id, 1), 0);
	assert_int_equal(reg(child_id, 1, HvRegisterExplicitSuspend), 1);
	assert_int_equal(deposit_get(&child(child_id)->deposit).in_use, used);
}

static void test_an_intercept_is_told_once_to_who_resumed(void **state)
{
	const struct engine_exit shutdown = { .kind = ENGINE_EXIT_SHUTDOWN };
	u8 *page = ct.ram + map_page(child_id, 1, HV_STATE_PAGE_INTERCEPT) * PAGE_BYTES;
	u64 sender;
	u32 vp, type;

	for (u32 caller = 0; caller < PARENTS; caller++) {
		push(1, &shutdown);
		resume_from(caller, child_id, 1);
		assert_true(wait_message(caller, &sender, &vp));
		assert_false(
			core_test_in_guest(vp_of(child_id, 1))); /* nobody has to wait for it */
		assert_int_equal(sender, child_id);
		assert_int_equal(vp, 1);
		memcpy(&type, page, sizeof(type));
		assert_int_equal(type, 0x80000021);
		assert_int_equal(reg(child_id, 1, HvRegisterInterceptSuspend), 1);
		assert_int_equal(reg(child_id, 1, HvRegisterExplicitSuspend), 0);
		assert_false(take_message(0, &sender, &vp));
		assert_false(take_message(1, &sender, &vp));
	}
	assert_int_equal(ct.stops, 0);
	/* The parent ends intercepts, it does not make them. */
	assert_int_equal(set_reg(child_id, 0, HvRegisterInterceptSuspend, 1, 0),
			 HV_STATUS_INVALID_REGISTER_VALUE);
}

/* After a triple fault the engine's processor is reset, but the VP has nothing to run. */
static void test_a_triple_fault_lasts_until_registers_are_set(void **state)
{
	const struct engine_exit shutdown = { .kind = ENGINE_EXIT_SHUTDOWN };
	u8 *page = ct.ram + map_page(child_id, 1, HV_STATE_PAGE_INTERCEPT) * PAGE_BYTES;
	u64 sender;
	struct fake_vcpu *v = fake_vcpu(vp_of(child_id, 1)->vcpu);
	u32 vp, type;

	map_page(child_id, 1, HV_STATE_PAGE_REGISTERS);
	push(1, &shutdown);
	resume_from(0, child_id, 1);
	assert_true(wait_message(0, &sender, &vp));
	for (u32 i = 0; i < 3; i++) {
		memset(page, 0, sizeof(type));
		resume_from(0, child_id, 1);
		assert_true(wait_message(0, &sender, &vp));
		memcpy(&type, page, sizeof(type));
		assert_int_equal(type, 0x80000021);
	}
	assert_int_equal(v->runs, 0); /* it was not entered again */
	assert_int_equal(set_reg(child_id, 1, HvX64RegisterRip, 0x1000, 0), 0);
	push(1, &shutdown);
	resume_from(0, child_id, 1);
	assert_true(wait_message(0, &sender, &vp));
	assert_int_equal(v->first, v->steps);
}

static void test_another_vp_is_told_where_the_first_does_not_listen(void **state)
{
	const struct engine_exit shutdown = { .kind = ENGINE_EXIT_SHUTDOWN };
	u64 sender;
	u32 vp;

	core_test_write(ct.vp[0], HV_X64_MSR_SINT0, HV_SINT_MASKED | SINT_VEC);
	push(0, &shutdown);
	resume_from(0, child_id, 0);
	assert_true(wait_message(1, &sender, &vp));
	assert_int_equal(vp, 0);
	/* With nobody at all the VP stays suspended, and nothing hangs. */
	core_test_write(ct.vp[1], HV_X64_MSR_SINT0, HV_SINT_MASKED | SINT_VEC);
	push(0, &shutdown);
	resume_from(0, child_id, 0);
	while (!reg(child_id, 0, HvRegisterInterceptSuspend))
		;
}

static void test_a_message_that_waits_goes_with_its_partition(void **state)
{
	const struct engine_exit shutdown = { .kind = ENGINE_EXIT_SHUTDOWN };
	struct hv_message *slot = (void *)(ct.ram + SIM_GPA);
	u64 sender;
	u32 vp;

	slot->type = 1; /* busy */
	push(0, &shutdown);
	resume_from(0, child_id, 0);
	while (!reg(child_id, 0, HvRegisterInterceptSuspend))
		;
	assert_int_equal(simple(HVCALL_FINALIZE_PARTITION, child_id), 0);
	assert_int_equal(simple(HVCALL_DELETE_PARTITION, child_id), 0);
	slot->type = 0;
	core_test_write(ct.vp[0], HV_X64_MSR_EOM, 0);
	assert_false(take_message(0, &sender, &vp));
}

static void test_explicit_suspend_is_synchronous(void **state)
{
	struct vp *vp = vp_of(child_id, 0);

	for (u32 i = 0; i < 50; i++) {
		resume_from(0, child_id, 0);
		if (i % 2)
			fake_drain(vp->vcpu); /* it is in the guest, or on its way there */
		assert_int_equal(set_reg(child_id, 0, HvRegisterExplicitSuspend, 1, 0), 0);
		assert_false(core_test_in_guest(vp));
		assert_int_equal(reg(child_id, 0, HvRegisterInterceptSuspend), 0);
	}
}

static void test_holds_nest_and_end(void **state)
{
	struct partition *p = child(child_id);
	struct vp *vp = vp_of(child_id, 0);

	resume_from(0, child_id, 0);
	fake_drain(vp->vcpu);
	child_hold(p);
	assert_false(core_test_in_guest(vp));
	child_vp_hold(vp);
	child_hold(p);
	child_release(p);
	child_release(p);
	assert_false(core_test_in_guest(vp));
	child_vp_release(vp);
	while (!core_test_in_guest(vp))
		;
}

static void test_a_host_error_stops_only_the_child(void **state)
{
	const struct engine_exit wrmsr = { .kind = ENGINE_EXIT_WRMSR,
					   .msr = { HV_X64_MSR_RESET, 1, false } };
	u64 sender;
	u32 vp;

	/* A reset by the child's own register: its parent's to do. */
	assert_int_equal(set_reg(child_id, 0, HvRegisterExplicitSuspend, 1, 0), 0);
	vp_of(child_id, 0)->partition->config.privileges |= HV_PRIV_ACCESS_RESET;
	push(0, &wrmsr);
	resume_from(0, child_id, 0);
	assert_true(wait_message(0, &sender, &vp));
	assert_int_equal(partition_stop_reason(child(child_id)), STOP_NONE);
	child_vp_hold(vp_of(child_id, 0));
	child_vp_fail(vp_of(child_id, 0), "it is a test", 1);
	child_vp_release(vp_of(child_id, 0));
	assert_true(wait_message(0, &sender, &vp));
	assert_int_equal(partition_stop_reason(child(child_id)), STOP_HOST_ERROR);
	assert_int_equal(partition_stop_reason(ct.p), STOP_NONE);
	/* Resumed, it says so again. */
	resume_from(0, child_id, 1);
	assert_true(wait_message(0, &sender, &vp));
	assert_int_equal(vp, 1);
}

static void test_an_unknown_msr_is_what_the_property_says(void **state)
{
	struct vp *vp = vp_of(child_id, 0);

	for (u32 ignore = 0; ignore < 2; ignore++) {
		assert_int_equal(
			set_property(child_id, HV_PROPERTY_UNIMPLEMENTED_MSR_ACTION, ignore), 0);
		assert_int_equal(get_property(child_id, HV_PROPERTY_UNIMPLEMENTED_MSR_ACTION), 0);
		assert_int_equal(out64(0), ignore);
		vp->vcpu->exit = (struct engine_exit){ .kind = ENGINE_EXIT_RDMSR,
						       .msr = { 0xC0011023, 5, false } };
		vp_handle_exit(vp);
		assert_int_equal(vp->vcpu->exit.msr.fault, !ignore);
		assert_int_equal(vp->vcpu->exit.msr.value, 0);
		vp->vcpu->exit = (struct engine_exit){ .kind = ENGINE_EXIT_WRMSR,
						       .msr = { 0xC0011023, 5, false } };
		vp_handle_exit(vp);
		assert_int_equal(vp->vcpu->exit.msr.fault, !ignore);
		/* Not one of ours without a row. */
		vp->vcpu->exit = (struct engine_exit){ .kind = ENGINE_EXIT_RDMSR,
						       .msr = { 0x40000060, 0, false } };
		vp_handle_exit(vp);
		assert_true(vp->vcpu->exit.msr.fault);
	}
	assert_int_equal(set_property(child_id, HV_PROPERTY_UNIMPLEMENTED_MSR_ACTION, 2),
			 HV_STATUS_PROPERTY_VALUE_OUT_OF_RANGE);
	vp->vcpu->exit = (struct engine_exit){ 0 };
}

/* Two VPs of the parent's at once. */

struct racer {
	pthread_t thread;
	u32 caller;
	u64 id;
	bool go; /* atomic */
	u32 done;
};

static void *holder(void *arg)
{
	struct racer *r = arg;
	struct hypercall hc = { .vp = ct.vp[r->caller] };

	while (!__atomic_load_n(&r->go, __ATOMIC_ACQUIRE))
		;
	for (;;) {
		struct partition *p = child_get(&hc, r->id);
		struct vp *vp;

		if (!p)
			break;
		child_hold(p);
		child_release(p);
		vp = child_vp(p, 0);
		if (vp) {
			const struct hv_register_assoc list[] = {
				{ .name = HvX64RegisterRip, .value = { r->done, 0 } },
				{ .name = HvRegisterExplicitSuspend },
			};

			child_vp_hold(vp);
			child_vp_release(vp);
			set_regs(r->caller, r->id, 0, list, 2);
		}
		child_put(p);
		__atomic_fetch_add(&r->done, 1, __ATOMIC_RELEASE);
	}
	return NULL;
}

static void test_deletion_races_holds(void **state)
{
	deposit(HV_PARTITION_ID_SELF, 1);
	for (u32 round = 0; round < 20; round++) {
		struct racer r = { .caller = 1 };

		r.id = create();
		deposit(r.id, 20);
		assert_int_equal(simple(HVCALL_INITIALIZE_PARTITION, r.id), 0);
		assert_int_equal(create_vp(r.id, 0), 0);
		map_page(r.id, 0, HV_STATE_PAGE_REGISTERS);
		assert_int_equal(pthread_create(&r.thread, NULL, holder, &r), 0);
		__atomic_store_n(&r.go, true, __ATOMIC_RELEASE);
		while (!__atomic_load_n(&r.done, __ATOMIC_ACQUIRE))
			;
		if (round % 2)
			assert_int_equal(delete_vp(r.id, 0), 0);
		assert_int_equal(simple(HVCALL_FINALIZE_PARTITION, r.id), 0);
		assert_int_equal(withdraw_all(r.id), 20);
		assert_int_equal(simple(HVCALL_DELETE_PARTITION, r.id), 0);
		pthread_join(r.thread, NULL);
	}
}

static void *finalizer(void *arg)
{
	struct racer *r = arg;

	while (!__atomic_load_n(&r->go, __ATOMIC_ACQUIRE))
		;
	if (simple_from(r->caller, HVCALL_FINALIZE_PARTITION, r->id) == 0)
		r->done |= 1;
	if (simple_from(r->caller, HVCALL_DELETE_PARTITION, r->id) == 0)
		r->done |= 2;
	return NULL;
}

static void test_only_one_ends_it(void **state)
{
	deposit(HV_PARTITION_ID_SELF, 1);
	for (u32 round = 0; round < 20; round++) {
		struct racer r[PARENTS];
		u64 id = create();

		deposit(id, 20);
		assert_int_equal(simple(HVCALL_INITIALIZE_PARTITION, id), 0);
		assert_int_equal(create_vp(id, 0), 0);
		resume_from(0, id, 0);
		for (u32 i = 0; i < PARENTS; i++) {
			r[i] = (struct racer){ .caller = i, .id = id };
			assert_int_equal(pthread_create(&r[i].thread, NULL, finalizer, &r[i]), 0);
		}
		for (u32 i = 0; i < PARENTS; i++)
			__atomic_store_n(&r[i].go, true, __ATOMIC_RELEASE);
		for (u32 i = 0; i < PARENTS; i++)
			pthread_join(r[i].thread, NULL);
		assert_int_equal(r[0].done | r[1].done, 3);
		assert_int_equal(r[0].done & r[1].done, 0);
		assert_null(child(id));
		/* What was not withdrawn is the parent's again all the same. */
		assert_int_equal(gmem_donated(&ct.gmem, (next_gpn - 1) * PAGE_BYTES), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_creation_costs_a_page_of_the_parents),
		TEST(test_an_isolated_partition_is_refused),
		TEST(test_states_follow_each_other),
		TEST(test_only_a_child_can_be_named),
		TEST_CHILD(test_finalize_gives_every_page_back_once),
		TEST_CHILD(test_nothing_is_deposited_after_the_end),
		TEST_CHILD(test_the_end_of_the_parent_ends_its_children),
		TEST_CHILD(test_vps_may_have_any_index),
		TEST(test_a_vp_costs_pages_and_begins_suspended),
		TEST_CHILD(test_a_deleted_vp_can_be_made_again),
		TEST_CHILD(test_an_intercept_is_told_once_to_who_resumed),
		TEST_CHILD(test_a_triple_fault_lasts_until_registers_are_set),
		TEST_CHILD(test_another_vp_is_told_where_the_first_does_not_listen),
		TEST_CHILD(test_a_message_that_waits_goes_with_its_partition),
		TEST_CHILD(test_explicit_suspend_is_synchronous),
		TEST_CHILD(test_holds_nest_and_end),
		TEST_CHILD(test_a_host_error_stops_only_the_child),
		TEST_CHILD(test_an_unknown_msr_is_what_the_property_says),
		TEST(test_deletion_races_holds),
		TEST(test_only_one_ends_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
