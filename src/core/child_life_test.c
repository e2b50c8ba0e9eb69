// SPDX-License-Identifier: MIT
/* Life of child partitions, their VPs, what holds those, their registers and properties. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/core_test.h"
#include "core/gpa_map.h"
#include "hvdef/property.h"
#include "hvdef/vp_regs.h"

#define IN_GPA	  0x10000ull /* and a page more for each VP that calls */
#define OUT_GPA	  0x20000ull
#define SIM_GPA	  0x30000ull
#define POOL_GPN  0x100ull /* pages of the test's, given away one after the other */
#define SINT_VEC  0xF3
#define NO_CHILD  0x4711ull
#define PARENTS	  2
#define PAGE_POOL 300u

static struct core_test ct;
static u64 next_gpn;
static u64 child_id;

static u16 call_from(u32 caller, u64 control, const void *input, u32 bytes)
{
	return core_test_call(&ct, caller, control, input, bytes, IN_GPA + caller * PAGE_BYTES,
			      OUT_GPA + caller * PAGE_BYTES);
}

static u16 call(u64 control, const void *input, u32 bytes)
{
	return call_from(0, control, input, bytes);
}

static u64 out64(u32 caller)
{
	u64 value;

	memcpy(&value, ct.ram + OUT_GPA + caller * PAGE_BYTES, sizeof(value));
	return value;
}

static void deposit(u64 id, u32 pages)
{
	u64 input[2] = { id };

	while (pages--) {
		input[1] = next_gpn++;
		assert_int_equal(call(HVCALL_DEPOSIT_MEMORY | 1ull << 32, input, sizeof(input)), 0);
	}
}

static u32 withdraw_all(u64 id)
{
	const struct hv_input_withdraw in = { id };
	u32 pages = 0;

	while (call(HVCALL_WITHDRAW_MEMORY | 1ull << 32, &in, sizeof(in)) == 0)
		pages++;
	return pages;
}

static u16 simple_from(u32 caller, u16 code, u64 id)
{
	return call_from(caller, code, &id, sizeof(id));
}

static u16 simple(u16 code, u64 id)
{
	return simple_from(0, code, id);
}

static u64 create_flags(u64 flags)
{
	const struct hv_input_create_partition in = { .flags = flags };

	assert_int_equal(call(HVCALL_CREATE_PARTITION, &in, sizeof(in)), 0);
	return out64(0);
}

static u64 create(void)
{
	return create_flags(HV_CREATE_LAPIC | HV_CREATE_EXO);
}

static u16 create_vp(u64 id, u32 index)
{
	const struct hv_input_create_vp in = { .partition_id = id, .vp_index = index };

	return call(HVCALL_CREATE_VP, &in, sizeof(in));
}

static u16 delete_vp(u64 id, u32 index)
{
	const struct hv_input_delete_vp in = { .partition_id = id, .vp_index = index };

	return call(HVCALL_DELETE_VP, &in, sizeof(in));
}

static u16 set_property(u64 id, u32 code, u64 value)
{
	const struct hv_input_set_partition_property in = { id, code, 0, value };

	return call(HVCALL_SET_PARTITION_PROPERTY, &in, sizeof(in));
}

static u16 get_property(u64 id, u32 code)
{
	const struct hv_input_get_partition_property in = { id, code, 0 };

	return call(HVCALL_GET_PARTITION_PROPERTY, &in, sizeof(in));
}

static u16 set_regs(u32 caller, u64 id, u32 vp, const struct hv_register_assoc *list, u32 n)
{
	u8 input[PAGE_BYTES];
	const struct hv_input_vp_registers header = { .partition_id = id, .vp_index = vp };

	memcpy(input, &header, sizeof(header));
	memcpy(input + sizeof(header), list, n * sizeof(*list));
	return call_from(caller, HVCALL_SET_VP_REGISTERS | (u64)n << 32, input,
			 (u32)(sizeof(header) + n * sizeof(*list)));
}

static u16 set_reg(u64 id, u32 vp, u32 name, u64 low, u64 high)
{
	const struct hv_register_assoc a = { .name = name, .value = { low, high } };

	return set_regs(0, id, vp, &a, 1);
}

static u16 get_reg(u64 id, u32 vp, u32 name, struct hv_register_value *v)
{
	struct {
		struct hv_input_vp_registers header;
		u32 name;
	} in = { { .partition_id = id, .vp_index = vp }, name };
	u16 status = call(HVCALL_GET_VP_REGISTERS | 1ull << 32, &in, sizeof(in));

	memcpy(v, ct.ram + OUT_GPA, sizeof(*v));
	return status;
}

static u64 reg(u64 id, u32 vp, u32 name)
{
	struct hv_register_value v;

	assert_int_equal(get_reg(id, vp, name, &v), 0);
	return v.low;
}

/* As Linux resumes a VP: both registers in one call. */
static void resume_from(u32 caller, u64 id, u32 vp)
{
	const struct hv_register_assoc list[] = { { .name = HvRegisterInterceptSuspend },
						  { .name = HvRegisterExplicitSuspend } };

	assert_int_equal(set_regs(caller, id, vp, list, 2), 0);
}

static u64 map_page(u64 id, u32 vp, u16 type)
{
	const struct hv_input_map_vp_state_page in = {
		.page = { .partition_id = id, .vp_index = vp, .type = type }
	};

	assert_int_equal(call(HVCALL_MAP_VP_STATE_PAGE, &in, sizeof(in)), 0);
	return out64(0);
}

static u16 unmap_page(u64 id, u32 vp, u16 type)
{
	const struct hv_input_unmap_vp_state_page in = { id, vp, type };

	return call(HVCALL_UNMAP_VP_STATE_PAGE, &in, sizeof(in));
}

static struct partition *child(u64 id)
{
	struct hypercall hc = { .vp = ct.vp[0] };
	struct partition *p = child_get(&hc, id);

	if (p)
		child_put(p);
	return p;
}

static struct vp *vp_of(u64 id, u32 index)
{
	return partition_vp(child(id), index);
}

/* What the parent sees of an intercept on @caller, taken out of the slot as it does. */
static bool take_message(u32 caller, u64 *sender, u32 *vp)
{
	struct hv_message *m = (void *)(ct.ram + SIM_GPA + caller * 0x4000);
	u32 type = __atomic_load_n(&m->type, __ATOMIC_ACQUIRE);

	if (type != HV_MESSAGE_OPAQUE_INTERCEPT)
		return false;
	*sender = m->sender;
	memcpy(vp, m->payload, sizeof(*vp));
	__atomic_store_n(&m->type, HV_MESSAGE_NONE, __ATOMIC_SEQ_CST);
	core_test_write(ct.vp[caller], HV_X64_MSR_EOM, 0);
	return true;
}

static bool wait_message(u32 caller, u64 *sender, u32 *vp)
{
	for (u32 ms = 0; ms < 5000; ms++) {
		struct timespec ts = { 0, 1000000 };

		if (take_message(caller, sender, vp))
			return true;
		nanosleep(&ts, NULL);
	}
	return false;
}

static int setup(void **state)
{
	const struct core_test_config cfg = { .vps = PARENTS, .ram_bytes = 8 * MIB };

	core_test_create(&ct, &cfg);
	next_gpn = POOL_GPN;
	for (u32 i = 0; i < PARENTS; i++) {
		core_test_synic_on(ct.vp[i], SIM_GPA + i * 0x4000);
		core_test_write(ct.vp[i], HV_X64_MSR_SINT0, SINT_VEC);
	}
	return 0;
}

static int teardown(void **state)
{
	core_test_destroy(&ct);
	return 0;
}

/* With an active child that has VPs 0 and 1. */
static int setup_child(void **state)
{
	setup(state);
	deposit(HV_PARTITION_ID_SELF, 1);
	child_id = create();
	deposit(child_id, PAGE_POOL);
	assert_int_equal(simple(HVCALL_INITIALIZE_PARTITION, child_id), 0);
	assert_int_equal(create_vp(child_id, 0), 0);
	assert_int_equal(create_vp(child_id, 1), 0);
	return 0;
}

static void push(u32 vp, const struct engine_exit *exit)
{
	const struct fake_step step = { .exit = *exit };

	fake_push(vp_of(child_id, vp)->vcpu, &step);
}

/* Life. */

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

/* Registers. */

static void test_every_name_that_a_vmm_uses_is_there(void **state)
{
	static const struct {
		u32 name, count;
	} names[] = { { 0x0, 3 },      { 0x4, 1 },	{ 0x10002, 4 },	 { 0x10006, 1 },
		      { 0x20000, 18 }, { 0x30000, 26 }, { 0x40000, 6 },	 { 0x41000, 1 },
		      { 0x41002, 2 },  { 0x41008, 1 },	{ 0x50000, 6 },	 { 0x60000, 8 },
		      { 0x70000, 2 },  { 0x80000, 15 }, { 0x80010, 16 }, { 0x80040, 16 },
		      { 0x80070, 14 }, { 0x80084, 1 },	{ 0x8008B, 9 },	 { 0x80096, 1 },
		      { 0x800A0, 1 },  { 0x84802, 2 },	{ 0x90000, 5 },	 { 0x90013, 2 },
		      { 0x90017, 1 },  { 0xA0000, 22 }, { 0xB0000, 8 } };

	for (u32 i = 0; i < ARRAY_SIZE(names); i++)
		for (u32 n = 0; n < names[i].count; n++) {
			struct hv_register_value v;
			u32 name = names[i].name + n;

			assert_int_equal(get_reg(child_id, 1, name, &v), 0);
			/* And what was read can be written. */
			if (name != HvRegisterTimeRefCount)
				assert_int_equal(set_reg(child_id, 1, name, v.low, v.high), 0);
		}
	assert_int_equal(set_reg(child_id, 1, 0x12345, 0, 0), HV_STATUS_INVALID_PARAMETER);
}

static void test_registers_keep_what_a_parent_writes(void **state)
{
	static const struct hv_register_assoc list[] = {
		{ .name = 0x20000, .value = { 0x1111111122222222, 0 } },
		{ .name = 0x20010, .value = { 0xFFF0, 0 } },
		{ .name = 0x20011, .value = { 0x2, 0 } },
		{ .name = 0x3000F, .value = { 0x0123456789ABCDEF, 0xFEDCBA9876543210 } },
		{ .name = 0x30012, .value = { 0x8000000000000000, 0x3FFF } },
		{ .name = 0x30018, .value = { 0x0123000300210037F, 0x4444 } },
		{ .name = 0x30019, .value = { 0x5555, 0x1F80ull | 0xFFFFull << 32 } },
		{ .name = 0x40000, .value = { 0x80000011, 0 } },
		{ .name = 0x40003, .value = { 0x20, 0 } },
		{ .name = 0x40005, .value = { 7, 0 } },
		{ .name = 0x50001, .value = { 0x1234, 0 } },
		{ .name = 0x50005, .value = { 0x400, 0 } },
		{ .name = 0x60001, .value = { 0, 0xFFFFFFFF | 0x8ull << 32 | 0xA09Bull << 48 } },
		{ .name = 0x70001, .value = { 0x7Full << 48, 0x1000 } },
		{ .name = 0x80001, .value = { 0x500, 0 } },
		{ .name = 0x80012, .value = { 0x6, 0 } },
		{ .name = 0x80041, .value = { 0x800, 0 } },
		{ .name = 0x10002, .value = { 1 | 3 << 1 | 1 << 4 | 13 << 16 | 0x55ull << 32, 0 } },
		{ .name = 0x10003, .value = { 3, 0 } },
		{ .name = 0x4, .value = { 2, 0 } },
		{ .name = 0x2, .value = { 9, 0 } },
	};

	assert_int_equal(set_regs(0, child_id, 0, list, ARRAY_SIZE(list)), 0);
	for (u32 i = 0; i < ARRAY_SIZE(list); i++) {
		struct hv_register_value v;

		assert_int_equal(get_reg(child_id, 0, list[i].name, &v), 0);
		assert_int_equal(v.low, list[i].value.low);
		assert_int_equal(v.high, list[i].value.high);
	}
	/* The other names of the same. */
	assert_int_equal(reg(child_id, 0, HvX64RegisterIntermediateCr0), 0x80000011);
	assert_int_equal(reg(child_id, 0, HvX64RegisterIntermediateCr4), 0x20);
}

/* What the engine refuses now may be what it takes when the rest has come. */
static void test_special_registers_are_judged_when_the_vp_runs(void **state)
{
	struct fake_vcpu *v = fake_vcpu(vp_of(child_id, 0)->vcpu);
	u8 *page = ct.ram + map_page(child_id, 0, HV_STATE_PAGE_INTERCEPT) * PAGE_BYTES;
	u64 sender;
	u32 vp, type;

	v->sregs_refused = true;
	assert_int_equal(set_reg(child_id, 0, HvX64RegisterCr0, 0x80000001, 0), 0);
	assert_int_equal(reg(child_id, 0, HvX64RegisterCr0), 0x80000001);
	assert_int_equal(v->sregs.cr0, 0);
	resume_from(0, child_id, 0);
	assert_true(wait_message(0, &sender, &vp));
	memcpy(&type, page, sizeof(type));
	assert_int_equal(type, HV_MESSAGE_INVALID_VP_REGISTER_VALUE);
	v->sregs_refused = false;
	assert_int_equal(set_reg(child_id, 0, HvX64RegisterCr0, 0x80000011, 0), 0);
	assert_int_equal(v->sregs.cr0, 0x80000011);
}

static void test_a_list_ends_at_its_first_bad_element(void **state)
{
	static const struct hv_register_assoc list[] = {
		{ .name = 0x20000, .value = { 1, 0 } },
		{ .name = 0x8000C, .value = { 99, 0 } }, /* an APIC id is what it is */
		{ .name = 0x20001, .value = { 1, 0 } },
	};
	struct {
		struct hv_input_vp_registers header;
		struct hv_register_assoc list[3];
	} in = { .header = { .partition_id = child_id } };
	const struct hypercall_regs regs = { HVCALL_SET_VP_REGISTERS | 3ull << 32, IN_GPA, OUT_GPA,
					     true };
	u64 result;

	memcpy(in.list, list, sizeof(list));
	memcpy(ct.ram + IN_GPA, &in, sizeof(in));
	assert_int_equal(hypercall_execute(ct.vp[0], &regs, &result), VP_OK);
	assert_int_equal(result, HV_HYPERCALL_RESULT(HV_STATUS_INVALID_REGISTER_VALUE, 1));
	assert_int_equal(reg(child_id, 0, 0x20000), 1);
	assert_int_equal(reg(child_id, 0, 0x20001), 0);
}

static void test_events_that_cannot_be_are_refused(void **state)
{
	static const struct hv_register_assoc bad[] = {
		{ .name = 0x10002, .value = { 1 | 3 << 1 | 99 << 16, 0 } }, /* no such exception */
		{ .name = 0x10002, .value = { 1 | 1 << 1, 0 } },	    /* no such type */
		{ .name = 0x10002, .value = { 1 | 0x100ull << 16, 0 } },
		{ .name = 0x10004, .value = { 1 | 1 << 1, 0 } },
		{ .name = 0x10004, .value = { 1 | 32 << 16, 0 } },
		{ .name = 0x10004, .value = { 1 | 0x10E << 16, 0 } },
		{ .name = 0x10005, .value = { 1, 0 } },
	};
	struct fake_vcpu *v = fake_vcpu(vp_of(child_id, 0)->vcpu);

	for (u32 i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(set_regs(0, child_id, 0, &bad[i], 1),
				 HV_STATUS_INVALID_REGISTER_VALUE);
	assert_int_equal(v->events.injected, ENGINE_EVENT_NONE);
	/* A page fault with its address. */
	assert_int_equal(set_reg(child_id, 0, HvRegisterPendingEvent0,
				 1 | 1 << 8 | 14 << 16 | 6ull << 32, 0xDEAD000),
			 0);
	assert_int_equal(v->events.injected, ENGINE_EVENT_EXCEPTION);
	assert_int_equal(v->events.vector, 14);
	assert_int_equal(v->events.error_code, 6);
	assert_int_equal(v->sregs.cr2, 0xDEAD000);
}

static void test_a_child_reaches_its_own_by_its_own_privileges(void **state)
{
	struct vp *vp = vp_of(child_id, 0);
	const struct hv_input_vp_registers header = { .partition_id = HV_PARTITION_ID_SELF,
						      .vp_index = HV_VP_INDEX_SELF };
	struct hypercall_regs regs = { HVCALL_GET_VP_REGISTERS | 1ull << 32, 0, 0, true };
	u64 result;

	/* It has no memory, so nothing is read of it: refused before. */
	assert_int_equal(hypercall_execute(vp, &regs, &result), VP_OK);
	assert_int_equal(result & 0xFFFF, HV_STATUS_ACCESS_DENIED);
	/* And the parent does not reach another's. */
	(void)header;
	assert_int_equal(set_reg(NO_CHILD, 0, 0x20000, 0, 0), HV_STATUS_ACCESS_DENIED);
}

/* State pages. */

static void test_the_register_page_is_current_and_its_changes_count(void **state)
{
	u64 gpn = map_page(child_id, 0, HV_STATE_PAGE_REGISTERS);
	struct hv_register_page *page = (void *)(ct.ram + gpn * PAGE_BYTES);
	struct engine_regs *r = vp_of(child_id, 0)->vcpu->regs;
	struct fake_vcpu *v = fake_vcpu(vp_of(child_id, 0)->vcpu);

	assert_int_equal(map_page(child_id, 0, HV_STATE_PAGE_REGISTERS), gpn);
	assert_int_equal(page->version, 1);
	assert_int_equal(page->valid, 1);
	assert_int_equal(set_reg(child_id, 0, 0x20001, 0xC0C0, 0), 0); /* RCX */
	assert_int_equal(page->gpr[1], 0xC0C0);
	assert_int_equal(set_reg(child_id, 0, HvX64RegisterCr4, 0x2000, 0), 0);
	assert_int_equal(page->cr4, 0x2000);
	/* Only what is marked. */
	page->gpr[3] = 0xB0B0;
	page->rip = 0x1000;
	page->rflags = 0x46;
	page->xmm[5][1] = 0x5151;
	page->ds.base = 0xD5;
	page->cr4 = 0;
	page->dirty = HV_REGISTER_PAGE_GPR | HV_REGISTER_PAGE_RIP | HV_REGISTER_PAGE_XMM;
	assert_int_equal(reg(child_id, 0, 0x20003), 0xB0B0);
	assert_int_equal(r->rbx, 0xB0B0);
	assert_int_equal(r->rip, 0x1000);
	assert_int_equal(r->rflags, 0);
	assert_int_equal(v->xmm[5][8], 0x51);
	assert_int_equal(v->sregs.ds.base, 0);
	assert_int_equal(v->sregs.cr4, 0x2000);
	assert_int_equal(page->dirty, 0);
	/* The later action wins: the call comes after the page. */
	page->gpr[3] = 1;
	page->ds.base = 0xD5;
	page->dirty = HV_REGISTER_PAGE_GPR | HV_REGISTER_PAGE_SEGMENTS | HV_REGISTER_PAGE_RFLAGS;
	assert_int_equal(set_reg(child_id, 0, 0x20003, 2, 0), 0);
	assert_int_equal(r->rbx, 2);
	assert_int_equal(page->gpr[3], 2);
	assert_int_equal(v->sregs.ds.base, 0xD5);
	/* Nothing is read from it once it is gone. */
	assert_int_equal(unmap_page(child_id, 0, HV_STATE_PAGE_REGISTERS), 0);
	assert_int_equal(unmap_page(child_id, 0, HV_STATE_PAGE_REGISTERS),
			 HV_STATUS_INVALID_PARAMETER);
	assert_null(gmem_ptr(&ct.gmem, gpn * PAGE_BYTES, PAGE_BYTES));
	page->dirty = HV_REGISTER_PAGE_GPR;
	page->gpr[3] = 3;
	assert_int_equal(reg(child_id, 0, 0x20003), 2);
}

static void test_state_pages_that_are_not_offered(void **state)
{
	struct hv_input_map_vp_state_page in = { .page = { .partition_id = child_id } };

	in.page.type = 2;
	assert_int_equal(call(HVCALL_MAP_VP_STATE_PAGE, &in, sizeof(in)),
			 HV_STATUS_INVALID_PARAMETER);
	in.page.type = 0;
	in.page.flags = 1;
	assert_int_equal(call(HVCALL_MAP_VP_STATE_PAGE, &in, sizeof(in)),
			 HV_STATUS_INVALID_PARAMETER);
	in.page.flags = 0;
	in.page.vp_index = 9;
	assert_int_equal(call(HVCALL_MAP_VP_STATE_PAGE, &in, sizeof(in)),
			 HV_STATUS_INVALID_VP_INDEX);
	in.page.vp_index = 0;
	in.page.partition_id = NO_CHILD;
	assert_int_equal(call(HVCALL_MAP_VP_STATE_PAGE, &in, sizeof(in)),
			 HV_STATUS_INVALID_PARTITION_ID);
	withdraw_all(child_id);
	in.page.partition_id = child_id;
	assert_int_equal(call(HVCALL_MAP_VP_STATE_PAGE, &in, sizeof(in)),
			 HV_STATUS_INSUFFICIENT_MEMORY);
}

/* Properties. */

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

#define TEST(t)	      cmocka_unit_test_setup_teardown(t, setup, teardown)
#define TEST_CHILD(t) cmocka_unit_test_setup_teardown(t, setup_child, teardown)

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
		TEST_CHILD(test_every_name_that_a_vmm_uses_is_there),
		TEST_CHILD(test_registers_keep_what_a_parent_writes),
		TEST_CHILD(test_special_registers_are_judged_when_the_vp_runs),
		TEST_CHILD(test_a_list_ends_at_its_first_bad_element),
		TEST_CHILD(test_events_that_cannot_be_are_refused),
		TEST_CHILD(test_a_child_reaches_its_own_by_its_own_privileges),
		TEST_CHILD(test_the_register_page_is_current_and_its_changes_count),
		TEST_CHILD(test_state_pages_that_are_not_offered),
		TEST_CHILD(test_synthetic_features_are_the_childs_privileges),
		TEST_CHILD(test_properties_by_who_asks),
		TEST_CHILD(test_capabilities_are_banks),
		TEST_CHILD(test_frozen_time_stands_still_and_goes_on_from_there),
		TEST_CHILD(test_reference_time_and_tsc_can_be_set),
		TEST(test_deletion_races_holds),
		TEST(test_only_one_ends_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
