// SPDX-License-Identifier: MIT
/* Who runs a child's VP, most of all with the root scheduler: the call that dispatches it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/core_test.h"
#include "hvdef/property.h"
#include "hvdef/vp_regs.h"

#define IN_GPA	 0x10000ull /* and a page more for each VP that calls */
#define OUT_GPA	 0x20000ull
#define SIM_GPA	 0x30000ull
#define POOL_GPN 0x100ull
#define POOL	 100u
#define SINT_VEC 0xF3
#define PARENTS	 2

static struct core_test ct;
static u64 next_gpn, child_id;
static u8 *intercept_page;

static u16 call_from(u32 caller, u64 control, const void *input, u32 bytes)
{
	return core_test_call(&ct, caller, control, input, bytes, IN_GPA + caller * PAGE_BYTES,
			      OUT_GPA + caller * PAGE_BYTES);
}

static void deposit(u64 id, u32 pages)
{
	u64 input[2] = { id };

	while (pages--) {
		input[1] = next_gpn++;
		assert_int_equal(
			call_from(0, HVCALL_DEPOSIT_MEMORY | 1ull << 32, input, sizeof(input)), 0);
	}
}

static u16 set_reg_from(u32 caller, u32 name, u64 value)
{
	const struct {
		struct hv_input_vp_registers header;
		struct hv_register_assoc a;
	} in = { { .partition_id = child_id }, { .name = name, .value = { value } } };

	return call_from(caller, HVCALL_SET_VP_REGISTERS | 1ull << 32, &in, sizeof(in));
}

static u64 reg(u32 name)
{
	const struct {
		struct hv_input_vp_registers header;
		u32 name;
	} in = { { .partition_id = child_id }, name };
	u64 value;

	assert_int_equal(call_from(0, HVCALL_GET_VP_REGISTERS | 1ull << 32, &in, sizeof(in)), 0);
	memcpy(&value, ct.ram + OUT_GPA, sizeof(value));
	return value;
}

static u16 set_property(u32 code, u64 value)
{
	const struct hv_input_set_partition_property in = { child_id, code, 0, value };

	return call_from(1, HVCALL_SET_PARTITION_PROPERTY, &in, sizeof(in));
}

static struct vp *vp(void)
{
	struct hypercall hc = { .vp = ct.vp[0] };
	struct partition *p = child_get(&hc, child_id);

	child_put(p);
	return partition_vp(p, 0);
}

static void push(enum engine_exit_kind kind)
{
	const struct fake_step step = { .exit = { .kind = kind } };

	fake_push(vp()->vcpu, &step);
}

#define OUTCOME(state, event) ((u64)(event) << 32 | (state))
#define READY		      OUTCOME(HV_VP_DISPATCH_READY, HV_VP_DISPATCH_NO_EVENT)
#define INTERCEPTED	      OUTCOME(HV_VP_DISPATCH_READY, HV_VP_DISPATCH_INTERCEPT)
#define HALTED		      OUTCOME(HV_VP_DISPATCH_BLOCKED, HV_VP_DISPATCH_NO_EVENT)
#define SUSPENDED	      OUTCOME(HV_VP_DISPATCH_BLOCKED, HV_VP_DISPATCH_SUSPEND)

static u64 dispatch_for(u32 flags, u64 time_slice)
{
	const struct hv_input_dispatch_vp in = { child_id, 0, flags, time_slice, 0 };
	u64 outcome;

	assert_int_equal(call_from(0, HVCALL_DISPATCH_VP, &in, sizeof(in)), 0);
	memcpy(&outcome, ct.ram + OUT_GPA, sizeof(outcome));
	return outcome;
}

static u64 dispatch(u32 flags)
{
	return dispatch_for(flags, 0);
}

/* The same on a thread of its own, while the test goes on as another VP of the parent's. */
static pthread_t dispatching;

static void *dispatch_thread(void *arg)
{
	return (void *)(uintptr_t)dispatch(0);
}

static void dispatch_begin(void)
{
	push(ENGINE_EXIT_INTR); /* nothing: it goes on */
	assert_int_equal(pthread_create(&dispatching, NULL, dispatch_thread, NULL), 0);
	fake_drain(vp()->vcpu);
}

static u64 dispatch_end(void)
{
	void *outcome;

	pthread_join(dispatching, &outcome);
	return (uintptr_t)outcome;
}

/* Takes a signal out of the slot, as the parent does. */
static bool take_signal(u32 caller)
{
	struct hv_message *m = (void *)(ct.ram + SIM_GPA + caller * 0x4000);
	struct hv_scheduler_signal_pair signal;

	if (__atomic_load_n(&m->type, __ATOMIC_ACQUIRE) == HV_MESSAGE_NONE)
		return false;
	assert_int_equal(m->type, HV_MESSAGE_SCHEDULER_VP_SIGNAL_PAIR);
	assert_int_equal(m->payload_bytes, sizeof(signal));
	memcpy(&signal, m->payload, sizeof(signal));
	assert_int_equal(signal.vp_count, 1);
	assert_int_equal(signal.partition_id[0], child_id);
	assert_int_equal(signal.vp_index[0], 0);
	__atomic_store_n(&m->type, HV_MESSAGE_NONE, __ATOMIC_SEQ_CST);
	core_test_write(ct.vp[caller], HV_X64_MSR_EOM, 0);
	return true;
}

static bool wait_signal(u32 caller)
{
	for (u32 ms = 0; ms < 5000; ms++) {
		struct timespec ts = { 0, 1000000 };

		if (take_signal(caller))
			return true;
		nanosleep(&ts, NULL);
	}
	return false;
}

static void setup_with(bool root_scheduler)
{
	const struct core_test_config cfg = { .vps = PARENTS,
					      .nested = true,
					      .ram_bytes = 8 * MIB };
	const struct hv_input_create_partition create = { .flags = HV_CREATE_LAPIC };
	struct hv_input_create_vp create_vp = { 0 };
	struct hv_input_map_vp_state_page map = { .page.type = HV_STATE_PAGE_INTERCEPT };
	u64 gpn;

	core_test_create(&ct, &cfg);
	ct.hv.root_scheduler = root_scheduler;
	next_gpn = POOL_GPN;
	for (u32 i = 0; i < PARENTS; i++) {
		core_test_synic_on(ct.vp[i], SIM_GPA + i * 0x4000);
		core_test_write(ct.vp[i], HV_X64_MSR_SINT0, SINT_VEC);
	}
	deposit(HV_PARTITION_ID_SELF, 1);
	assert_int_equal(call_from(0, HVCALL_CREATE_PARTITION, &create, sizeof(create)), 0);
	memcpy(&child_id, ct.ram + OUT_GPA, sizeof(child_id));
	deposit(child_id, POOL);
	assert_int_equal(call_from(0, HVCALL_INITIALIZE_PARTITION, &child_id, sizeof(child_id)), 0);
	create_vp.partition_id = map.page.partition_id = child_id;
	assert_int_equal(call_from(0, HVCALL_CREATE_VP, &create_vp, sizeof(create_vp)), 0);
	assert_int_equal(call_from(0, HVCALL_MAP_VP_STATE_PAGE, &map, sizeof(map)), 0);
	memcpy(&gpn, ct.ram + OUT_GPA, sizeof(gpn));
	intercept_page = ct.ram + gpn * PAGE_BYTES;
}

static int setup_suspended(void **state)
{
	setup_with(true);
	return 0;
}

static int setup(void **state)
{
	setup_with(true);
	assert_int_equal(set_reg_from(0, HvRegisterExplicitSuspend, 0), 0);
	return 0;
}

static int setup_hypervisor(void **state)
{
	setup_with(false);
	return 0;
}

static int teardown(void **state)
{
	core_test_destroy(&ct);
	return 0;
}

static void test_it_is_there_with_the_root_scheduler_only(void **state)
{
	const struct hv_input_dispatch_vp in = { child_id };

	assert_int_equal(call_from(0, HVCALL_DISPATCH_VP, &in, sizeof(in)),
			 HV_STATUS_FEATURE_UNAVAILABLE);
}

static void test_what_cannot_be_dispatched(void **state)
{
	const struct {
		struct hv_input_dispatch_vp in;
		enum hv_status status;
	} rows[] = {
		{ { 0x4711 }, HV_STATUS_INVALID_PARTITION_ID },
		{ { HV_PARTITION_ID_SELF }, HV_STATUS_INVALID_PARTITION_ID },
		{ { child_id, 1 }, HV_STATUS_INVALID_VP_INDEX },
		{ { child_id, ~0u }, HV_STATUS_INVALID_VP_INDEX },
		/* To look for vectors in the register page: CPUID does not offer it. */
		{ { child_id, 0, 0x40 }, HV_STATUS_INVALID_PARAMETER },
		{ { child_id, 0, 0x80000000 }, HV_STATUS_INVALID_PARAMETER },
	};

	for (u32 i = 0; i < ARRAY_SIZE(rows); i++)
		assert_int_equal(call_from(0, HVCALL_DISPATCH_VP, &rows[i].in, sizeof(rows[i].in)),
				 rows[i].status);
	assert_int_equal(call_from(0, HVCALL_FINALIZE_PARTITION, &child_id, sizeof(child_id)), 0);
	assert_int_equal(call_from(0, HVCALL_DISPATCH_VP,
				   &(struct hv_input_dispatch_vp){ child_id },
				   sizeof(struct hv_input_dispatch_vp)),
			 HV_STATUS_INVALID_PARTITION_STATE);
}

static void test_the_parent_learns_which_scheduler_it_is(void **state)
{
	const struct hv_input_get_system_property type = { HV_SYSTEM_PROPERTY_SCHEDULER_TYPE };
	const struct hv_input_get_partition_property_ex
		integrated = { HV_PARTITION_ID_SELF, HV_PROPERTY_INTEGRATED_SCHEDULER },
		capabilities = { HV_PARTITION_ID_SELF, HV_PROPERTY_VMM_CAPABILITIES };
	struct hv_property_bank bank;

	assert_int_equal(call_from(0, HVCALL_GET_SYSTEM_PROPERTY, &type, sizeof(type)), 0);
	assert_int_equal(*(u32 *)(void *)(ct.ram + OUT_GPA), HV_SCHEDULER_TYPE_ROOT);
	assert_int_equal(
		call_from(0, HVCALL_GET_PARTITION_PROPERTY_EX, &integrated, sizeof(integrated)), 0);
	assert_int_equal(*(u64 *)(void *)(ct.ram + OUT_GPA), 1);
	assert_int_equal(
		call_from(0, HVCALL_GET_PARTITION_PROPERTY_EX, &capabilities, sizeof(capabilities)),
		0);
	memcpy(&bank, ct.ram + OUT_GPA, sizeof(bank));
	assert_true(bank.bits & HV_VMM_CAPABILITY_INTEGRATED_SCHEDULER);
}

/* As Linux begins: it dispatches, is told of the suspend, ends it and waits for a signal. */
static void test_the_end_of_a_suspend_is_signalled_once(void **state)
{
	assert_int_equal(dispatch(0), SUSPENDED);
	assert_false(take_signal(0));
	assert_int_equal(set_reg_from(1, HvRegisterExplicitSuspend, 0), 0);
	assert_true(take_signal(0)); /* to who dispatched */
	assert_int_equal(reg(HvRegisterVpRootSignalCount), 1);
	assert_int_equal(set_reg_from(1, HvRegisterExplicitSuspend, 1), 0);
	assert_int_equal(set_reg_from(1, HvRegisterExplicitSuspend, 0), 0);
	assert_false(take_signal(0)); /* nobody was told */
	push(ENGINE_EXIT_SHUTDOWN);
	assert_int_equal(dispatch(0), INTERCEPTED);
	assert_int_equal(reg(HvRegisterVpRootSignalCount), 1);
}

static void test_an_intercept_ends_the_call_and_nobody_is_told(void **state)
{
	u32 type;

	push(ENGINE_EXIT_INTR);
	push(ENGINE_EXIT_SHUTDOWN);
	assert_int_equal(dispatch(0), INTERCEPTED);
	memcpy(&type, intercept_page, sizeof(type));
	assert_int_equal(type, 0x80000021);
	assert_int_equal(reg(HvRegisterInterceptSuspend), 1);
	assert_false(take_signal(0));
	assert_false(take_signal(1));
	assert_int_equal(reg(HvRegisterVpRootSignalCount), 0);
	/* It does not go on until it is said so. */
	memset(intercept_page, 0, sizeof(type));
	assert_int_equal(dispatch(0), INTERCEPTED);
	memcpy(&type, intercept_page, sizeof(type));
	assert_int_equal(type, 0);
	assert_int_equal(set_reg_from(0, HvX64RegisterRip, 0x1000), 0);
	push(ENGINE_EXIT_HALT);
	assert_int_equal(dispatch(HV_DISPATCH_CLEAR_INTERCEPT_SUSPEND), HALTED);
	assert_int_equal(reg(HvRegisterInterceptSuspend), 0);
}

static void test_a_vp_that_halts_goes_on_by_itself_to_its_next_intercept(void **state)
{
	push(ENGINE_EXIT_HALT);
	assert_int_equal(dispatch(0), HALTED);
	fake_drain(vp()->vcpu); /* its own thread is in it */
	assert_true(core_test_in_guest(vp()));
	assert_int_equal(dispatch(0), HALTED);
	assert_false(take_signal(0));
	push(ENGINE_EXIT_SHUTDOWN);
	assert_true(wait_signal(0));
	assert_int_equal(reg(HvRegisterVpRootSignalCount), 1);
	assert_int_equal(dispatch(0), INTERCEPTED);
	/* And is the parent's again. */
	assert_int_equal(set_reg_from(0, HvX64RegisterRip, 0x1000), 0);
	push(ENGINE_EXIT_SHUTDOWN);
	assert_int_equal(dispatch(HV_DISPATCH_CLEAR_INTERCEPT_SUSPEND), INTERCEPTED);
	assert_false(take_signal(0));
}

static void test_an_interrupt_for_the_parents_vp_ends_the_call(void **state)
{
	dispatch_begin();
	assert_ptr_equal(ct.vp[0]->dispatched, vp());
	fake_irq_pending(ct.vp[0]->vcpu, true);
	vp_interrupt(ct.vp[0], 0x40);
	assert_int_equal(dispatch_end(), READY);
	/* It is still there when it dispatches again. */
	vp_interrupt(ct.vp[0], 0x40);
	assert_int_equal(dispatch(0), READY);
	fake_irq_pending(ct.vp[0]->vcpu, false);
	/* So does one of L0's. */
	dispatch_begin();
	fake_irq_pending(ct.vp[0]->vcpu, true);
	vp_interrupt(ct.outer_vp[0], 0x40);
	assert_int_equal(dispatch_end(), READY);
	fake_irq_pending(ct.vp[0]->vcpu, false);
	assert_null(ct.vp[0]->dispatched);
}

static void test_what_is_for_others_does_not(void **state)
{
	vp_interrupt(ct.vp[0], 0x40); /* and it has taken that */
	dispatch_begin();
	fake_irq_pending(ct.vp[1]->vcpu, true);
	vp_interrupt(ct.vp[1], 0x40);
	push(ENGINE_EXIT_SHUTDOWN);
	assert_int_equal(dispatch_end(), INTERCEPTED);
}

static void test_the_end_of_the_parent_ends_the_call(void **state)
{
	dispatch_begin();
	partition_stop(ct.p, STOP_POWER_OFF, 0, "off");
	vp_kick(ct.vp[0]);
	assert_int_equal(dispatch_end(), READY);
}

/* Another of the parent's VPs wants the registers, and gets them. */
static void test_who_holds_the_vp_has_it(void **state)
{
	dispatch_begin();
	assert_int_equal(set_reg_from(1, HvX64RegisterRax, 0x55), 0);
	assert_int_equal(dispatch_end(), READY);
	assert_int_equal(reg(HvX64RegisterRax), 0x55);
	dispatch_begin();
	assert_int_equal(set_reg_from(1, HvRegisterExplicitSuspend, 1), 0);
	assert_int_equal(dispatch_end() & ~0ull >> 32, READY & ~0ull >> 32);
	assert_int_equal(dispatch(0), SUSPENDED);
}

static void test_after_the_dispatch_suspend_nothing_runs_and_nothing_is_signalled(void **state)
{
	push(ENGINE_EXIT_HALT);
	assert_int_equal(dispatch(0), HALTED);
	fake_drain(vp()->vcpu);
	assert_int_equal(reg(HvRegisterDispatchSuspend), 0);
	assert_int_equal(set_reg_from(0, HvRegisterDispatchSuspend, 1), 0);
	assert_int_equal(reg(HvRegisterDispatchSuspend), 1);
	assert_false(core_test_in_guest(vp()));
	push(ENGINE_EXIT_SHUTDOWN);
	assert_int_equal(dispatch(0), SUSPENDED);
	assert_int_equal(set_reg_from(0, HvRegisterExplicitSuspend, 1), 0);
	assert_int_equal(set_reg_from(0, HvRegisterExplicitSuspend, 0), 0);
	assert_int_equal(reg(HvRegisterVpRootSignalCount), 0);
	assert_false(take_signal(0));
}

static void test_a_time_slice_ends(void **state)
{
	push(ENGINE_EXIT_INTR);
	assert_int_equal(dispatch_for(0, 1000), READY);
	/* The next one has none. */
	push(ENGINE_EXIT_SHUTDOWN);
	assert_int_equal(dispatch(0), INTERCEPTED);
}

static void test_frozen_time_blocks_and_its_end_is_signalled_with_the_intercept(void **state)
{
	dispatch_begin();
	assert_int_equal(set_property(HV_PROPERTY_TIME_FREEZE, 1), 0);
	assert_int_equal(dispatch_end() & ~0ull >> 32, HV_VP_DISPATCH_READY);
	assert_int_equal(dispatch(0), HALTED);
	push(ENGINE_EXIT_SHUTDOWN);
	assert_false(core_test_in_guest(vp()));
	assert_int_equal(set_property(HV_PROPERTY_TIME_FREEZE, 0), 0);
	assert_true(wait_signal(0));
	assert_int_equal(dispatch(0), INTERCEPTED);
}

static void test_the_end_of_the_child_ends_the_call(void **state)
{
	const struct hv_input_delete_vp in = { child_id, 0 };

	dispatch_begin();
	assert_int_equal(call_from(1, HVCALL_DELETE_VP, &in, sizeof(in)), 0);
	assert_int_equal(dispatch_end(), SUSPENDED);
}

static void test_finalize_ends_the_call(void **state)
{
	dispatch_begin();
	assert_int_equal(call_from(1, HVCALL_FINALIZE_PARTITION, &child_id, sizeof(child_id)), 0);
	assert_int_equal(dispatch_end(), SUSPENDED);
}

static void test_its_time_is_the_vps(void **state)
{
	u64 before = vp_runtime_of(vp());

	dispatch_begin();
	core_test_advance(&ct, 5000000);
	push(ENGINE_EXIT_SHUTDOWN);
	assert_int_equal(dispatch_end(), INTERCEPTED);
	assert_true(vp_runtime_of(vp()) - before >= 4999990); /* rounded */
}

/* Two of the parent's dispatch the same VP, and interrupts come for them: one runs it at a time. */
#define RACES 300

static void *race_thread(void *arg)
{
	u32 caller = (u32)(uintptr_t)arg;
	const struct hv_input_dispatch_vp in = { child_id, 0, HV_DISPATCH_CLEAR_INTERCEPT_SUSPEND };

	for (u32 i = 0; i < RACES; i++)
		if (call_from(caller, HVCALL_DISPATCH_VP, &in, sizeof(in)) != 0)
			return (void *)1;
	return NULL;
}

static void test_two_may_dispatch_it_in_turn(void **state)
{
	static const enum engine_exit_kind kinds[] = { ENGINE_EXIT_IO, ENGINE_EXIT_INTR,
						       ENGINE_EXIT_IO, ENGINE_EXIT_HALT };
	pthread_t racer[PARENTS];
	void *failed;

	for (u32 i = 0; i < PARENTS; i++) {
		assert_int_equal(pthread_create(&racer[i], NULL, race_thread, (void *)(uintptr_t)i),
				 0);
		fake_irq_pending(ct.vp[i]->vcpu, true);
	}
	/* A VP without a next exit would stay where it is. */
	for (u32 i = 0, n = 0; i < PARENTS; n++) {
		struct timespec ts = { 0, 20000 };

		push(kinds[n % ARRAY_SIZE(kinds)]);
		vp_interrupt(ct.vp[n % PARENTS], 0x40);
		nanosleep(&ts, NULL);
		if (pthread_tryjoin_np(racer[i], &failed) == 0) {
			assert_null(failed);
			i++;
		}
	}
}

#define T(f)	       cmocka_unit_test_setup_teardown(f, setup, teardown)
#define T_SUSPENDED(f) cmocka_unit_test_setup_teardown(f, setup_suspended, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_it_is_there_with_the_root_scheduler_only,
						setup_hypervisor, teardown),
		T(test_what_cannot_be_dispatched),
		T(test_the_parent_learns_which_scheduler_it_is),
		T_SUSPENDED(test_the_end_of_a_suspend_is_signalled_once),
		T(test_an_intercept_ends_the_call_and_nobody_is_told),
		T(test_a_vp_that_halts_goes_on_by_itself_to_its_next_intercept),
		T(test_an_interrupt_for_the_parents_vp_ends_the_call),
		T(test_what_is_for_others_does_not),
		T(test_the_end_of_the_parent_ends_the_call),
		T(test_who_holds_the_vp_has_it),
		T(test_after_the_dispatch_suspend_nothing_runs_and_nothing_is_signalled),
		T(test_a_time_slice_ends),
		T(test_frozen_time_blocks_and_its_end_is_signalled_with_the_intercept),
		T(test_the_end_of_the_child_ends_the_call),
		T(test_finalize_ends_the_call),
		T(test_its_time_is_the_vps),
		T(test_two_may_dispatch_it_in_turn),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
