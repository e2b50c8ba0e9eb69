// SPDX-License-Identifier: MIT
/*
 * What a parent may ask to intercept, and what it then sees of a register that nobody serves:
 * VPs of a child on the fake engine, with their threads, and the calls a parent makes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <time.h>

#include "core/census.h"
#include "core/child_call_test.h"
#include "core/child_intercept.h"
#include "hvdef/gpa.h"
#include "hvdef/property.h"
#include "hvdef/vp_regs.h"

#define CODE_GPN 0x100ull /* of the parent; the child's page 0 */
#define CODE	 0x10ull
#define SIM_GPA	 0x10000ull /* of the parent */
#define NO_CHILD 0x4711ull
#define UNKNOWN	 0x12345678u
#define GP	 13
#define RDX	 (HvX64RegisterRax + 2)

#define R HV_INTERCEPT_ACCESS_MASK_READ
#define W HV_INTERCEPT_ACCESS_MASK_WRITE
#define X HV_INTERCEPT_ACCESS_MASK_EXECUTE

static enum hv_status install_of(u64 id, u32 type, u32 access, u64 parameter)
{
	const struct hv_input_install_intercept in = { id, access, type, parameter };

	return CC_CALL(HVCALL_INSTALL_INTERCEPT, in);
}

static enum hv_status install(u32 type, u32 access, u64 parameter)
{
	return install_of(cc.p->id, type, access, parameter);
}

/* What can be installed. */

static void test_each_type_has_its_accesses(void **state)
{
	for (u32 i = 0; i < intercept_row_count(); i++) {
		const struct intercept_desc *d = intercept_row(i);

		for (u32 access = 0; access <= 16; access++) {
			enum hv_status status = install(d->type, access, 0);
			enum hv_status want = access & ~d->access ? HV_STATUS_INVALID_PARAMETER
					      : d->install
						      ? HV_STATUS_SUCCESS
						      : HV_STATUS_PROCESSOR_FEATURE_NOT_SUPPORTED;

			if (status != want)
				fail_msg("%s, access %u: 0x%x, not 0x%x", d->name, access, status,
					 want);
		}
		assert_int_equal(install(d->type, 0x80000000 | d->access, 0),
				 HV_STATUS_INVALID_PARAMETER);
	}
}

/* By name, so that a row that is lost is missed. */
static void test_what_can_be_had(void **state)
{
	assert_int_equal(install(HV_INTERCEPT_TYPE_X64_IO_PORT, R | W, 0x3F8), HV_STATUS_SUCCESS);
	assert_int_equal(install(HV_INTERCEPT_TYPE_X64_MSR, R | W, 0), HV_STATUS_SUCCESS);
	assert_int_equal(install(HV_INTERCEPT_TYPE_X64_MSR_INDEX, R | W, 0x1B), HV_STATUS_SUCCESS);
	assert_int_equal(install(HV_INTERCEPT_TYPE_CPUID, X, 1),
			 HV_STATUS_PROCESSOR_FEATURE_NOT_SUPPORTED);
	assert_int_equal(install(HV_INTERCEPT_TYPE_X64_GLOBAL_CPUID, X, 0),
			 HV_STATUS_PROCESSOR_FEATURE_NOT_SUPPORTED);
	assert_int_equal(install(HV_INTERCEPT_TYPE_EXCEPTION, X, 3),
			 HV_STATUS_PROCESSOR_FEATURE_NOT_SUPPORTED);
	assert_int_equal(install(HV_INTERCEPT_TYPE_HYPERCALL, X, 0), HV_STATUS_SUCCESS);
	assert_int_equal(install(HV_INTERCEPT_TYPE_X64_APIC_EOI, W, 0), HV_STATUS_SUCCESS);
}

static void test_other_types_there_are_not(void **state)
{
	static const u32 none[] = { 4,	  5,	7,    9,    0xA,	0xB,	   0x10,
				    0x12, 0x20, 0x21, 0x28, 0x80000001, 0xFFFFFFFF };

	for (u32 i = 0; i < ARRAY_SIZE(none); i++)
		for (u32 access = 0; access < 8; access++)
			assert_int_equal(install(none[i], access, 0), HV_STATUS_INVALID_PARAMETER);
}

static void test_ports_are_the_parents_anyway(void **state)
{
	const u32 one = HV_INTERCEPT_TYPE_X64_IO_PORT, range = HV_INTERCEPT_TYPE_X64_IO_PORT_RANGE;

	/* What is beyond the number is what a client left there. */
	assert_int_equal(install(one, R, 0xDEADBEEF00000000 | 0xFFFF), HV_STATUS_SUCCESS);
	assert_int_equal(install(range, W, 0x0CFF0CF8), HV_STATUS_SUCCESS);
	assert_int_equal(install(range, R | W, 0xFFFF0000), HV_STATUS_SUCCESS);
	assert_int_equal(install(range, R | W, 0x00700070), HV_STATUS_SUCCESS);
	assert_int_equal(install(range, R | W, 0x00700071), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(install(range, 0, 0xFFFF0000), HV_STATUS_SUCCESS);
}

static void test_only_of_an_own_child(void **state)
{
	const u32 type = HV_INTERCEPT_TYPE_X64_MSR;
	struct partition *parent = cc.p->child->parent;

	assert_int_equal(install_of(NO_CHILD, type, R, 0), HV_STATUS_INVALID_PARTITION_ID);
	assert_int_equal(install_of(HV_PARTITION_ID_SELF, type, R, 0),
			 HV_STATUS_INVALID_PARTITION_ID);
	assert_int_equal(install_of(cc.ct.p->id, type, R, 0), HV_STATUS_INVALID_PARTITION_ID);
	/* The child of another one. */
	cc.p->child->parent = cc.p;
	assert_int_equal(install(type, R, 0), HV_STATUS_INVALID_PARTITION_ID);
	cc.p->child->parent = parent;
	assert_int_equal(cc.p->child->msr_access, 0);
}

static void test_only_of_an_active_child(void **state)
{
	assert_int_equal(cc_on_child(HVCALL_FINALIZE_PARTITION), HV_STATUS_SUCCESS);
	for (u32 i = 0; i < intercept_row_count(); i++)
		assert_int_equal(install(intercept_row(i)->type, 0, 0),
				 HV_STATUS_INVALID_PARTITION_STATE);
	assert_int_equal(install(4, 0, 0), HV_STATUS_INVALID_PARAMETER);
	core_test_destroy(&cc.ct);
	cc_create();
	assert_int_equal(install(HV_INTERCEPT_TYPE_X64_MSR, R, 0),
			 HV_STATUS_INVALID_PARTITION_STATE);
}

static enum hv_status install_msr(u32 index, u32 access)
{
	/* The upper half is what a client left there. */
	return install(HV_INTERCEPT_TYPE_X64_MSR_INDEX, access, 0xDEADBEEF00000000 | index);
}

static void test_the_engine_is_asked_for_a_register(void **state)
{
	struct fake_vm *vm = fake_vm(cc.p->vm);
	struct fake_record last;

	for (u32 access = 0; access < 4; access++) {
		assert_int_equal(install_msr(0x1B, access), HV_STATUS_SUCCESS);
		last = fake_last(cc.p->vm, FAKE_MSR_EXITS);
		assert_int_equal(last.a, 0x1B);
		assert_int_equal(last.b, access);
		assert_int_equal(cc.p->child->msrs, !!access);
	}
	/* One it never hands out, and what else may go wrong: nothing has changed. */
	vm->msr_exits_error = -EOPNOTSUPP;
	assert_int_equal(install_msr(0x802, R), HV_STATUS_PROCESSOR_FEATURE_NOT_SUPPORTED);
	vm->msr_exits_error = -ENOMEM;
	assert_int_equal(install_msr(0x10, R), HV_STATUS_NO_RESOURCES);
	assert_int_equal(install_msr(0x1B, 0), HV_STATUS_NO_RESOURCES);
	vm->msr_exits_error = 0;
	assert_int_equal(cc.p->child->msrs, 1);
	assert_int_equal(cc.p->child->msr[0].access, R | W);
	assert_int_equal(install_msr(0x1B, 0), HV_STATUS_SUCCESS);
	assert_int_equal(cc.p->child->msrs, 0);
}

static void test_there_is_an_end_to_registers(void **state)
{
	for (u32 i = 0; i < CHILD_MSRS_MAX; i++)
		assert_int_equal(install_msr(0x1000 + i, 1 + i % 3), HV_STATUS_SUCCESS);
	fake_forget(cc.p->vm);
	assert_int_equal(install_msr(0x10, R), HV_STATUS_NO_RESOURCES);
	assert_int_equal(fake_count(cc.p->vm, FAKE_MSR_EXITS), 0);
	assert_int_equal(install_msr(0x10, 0),
			 HV_STATUS_SUCCESS); /* there is nothing to take away */
	assert_int_equal(install_msr(0x1000, W), HV_STATUS_SUCCESS);
	assert_int_equal(install_msr(0x1001, 0), HV_STATUS_SUCCESS);
	assert_int_equal(install_msr(0x10, R), HV_STATUS_SUCCESS);
	assert_int_equal(install_msr(0x11, R), HV_STATUS_NO_RESOURCES);
	for (u32 i = 0; i < CHILD_MSRS_MAX; i++)
		assert_int_equal(install_msr(0x1000 + i, 0), HV_STATUS_SUCCESS);
	assert_int_equal(cc.p->child->msrs, 1);
	assert_int_equal(cc.p->child->msr[0].index, 0x10);
}

/* What a VP does. */

static void map_code(void)
{
	const u64 in[4] = { cc.p->id, 0,
			    HV_MAP_GPA_READABLE | HV_MAP_GPA_WRITABLE | HV_MAP_GPA_EXECUTABLE,
			    CODE_GPN };

	assert_int_equal(cc_call(HVCALL_MAP_GPA_PAGES | 1ull << 32, in, sizeof(in)),
			 HV_STATUS_SUCCESS);
}

static u8 *code(void)
{
	return cc.ct.ram + CODE_GPN * PAGE_BYTES + CODE;
}

static enum hv_status set_reg(u32 vp, u32 name, u64 value)
{
	struct {
		struct hv_input_vp_registers header;
		struct hv_register_assoc a;
	} in = { { .partition_id = cc.p->id, .vp_index = vp },
		 { .name = name, .value = { value, 0 } } };

	return cc_call(HVCALL_SET_VP_REGISTERS | 1ull << 32, &in, sizeof(in));
}

static u64 reg(u32 vp, u32 name)
{
	struct {
		struct hv_input_vp_registers header;
		u32 name;
	} in = { { .partition_id = cc.p->id, .vp_index = vp }, name };

	assert_int_equal(cc_call(HVCALL_GET_VP_REGISTERS | 1ull << 32, &in, sizeof(in)),
			 HV_STATUS_SUCCESS);
	return *(u64 *)cc_out();
}

static void resume(u32 vp)
{
	assert_int_equal(set_reg(vp, HvRegisterInterceptSuspend, 0), HV_STATUS_SUCCESS);
	assert_int_equal(set_reg(vp, HvRegisterExplicitSuspend, 0), HV_STATUS_SUCCESS);
}

static struct fake_step access_step(u32 index, bool write)
{
	return (struct fake_step){
		.exit = { .kind = write ? ENGINE_EXIT_WRMSR : ENGINE_EXIT_RDMSR,
			  .msr = { .index = index, .value = write ? 0x1122334455667788 : 0 } },
		.set_regs = true,
		.regs = { .rip = CODE,
			  .rcx = 0xABC00000000 | index,
			  .rax = 0xA0A0A0A055667788,
			  .rdx = 0xB0B0B0B011223344,
			  .rflags = 2 },
	};
}

/* VP 0 executes RDMSR or WRMSR of this register, and what follows is its parent's or its own. */
static bool accesses(u32 index, bool write)
{
	const struct fake_step step = access_step(index, write);

	memcpy(code(), write ? "\x0F\x30" : "\x0F\x32", 2);
	set_reg(0, HvRegisterExplicitSuspend, 1); /* until resume(): it may run from before */
	fake_forget(cc.p->vm);
	fake_push(cc.vp[0]->vcpu, &step);
	resume(0);
	for (u32 ms = 0; ms < 5000; ms++) {
		struct fake_vcpu *v = fake_vcpu(cc.vp[0]->vcpu);
		bool answered;

		if (reg(0, HvRegisterInterceptSuspend))
			return true;
		pthread_mutex_lock(&v->lock);
		answered = v->first == v->steps && v->runs;
		pthread_mutex_unlock(&v->lock);
		if (answered)
			return false;
		nanosleep(&(struct timespec){ 0, 1000000 }, NULL);
	}
	fail_msg("VP 0 neither stops nor goes on");
	return false;
}

static u32 faults(void)
{
	return fake_count(cc.p->vm, FAKE_EXCEPTION);
}

static const struct hv_message *message(void)
{
	return &cc.vp[0]->child->intercept;
}

/* The parent listens to intercepts as Linux's driver does. */
static int setup(void **state)
{
	int ret = cc_setup(state);

	core_test_synic_on(cc.ct.vp[0], SIM_GPA);
	core_test_write(cc.ct.vp[0], HV_X64_MSR_SINT0, 0xF3);
	map_code();
	return ret;
}

static void test_only_what_was_asked_for(void **state)
{
	for (u32 mask = 0; mask < 4; mask++) {
		assert_int_equal(install(HV_INTERCEPT_TYPE_X64_MSR, mask, 0), HV_STATUS_SUCCESS);
		assert_int_equal(accesses(UNKNOWN, false), !!(mask & R));
		assert_int_equal(faults(), !(mask & R));
		assert_int_equal(accesses(UNKNOWN, true), !!(mask & W));
		assert_int_equal(faults(), !(mask & W));
	}
}

static void set_unknown_ignored(u64 value)
{
	const struct hv_input_set_partition_property in = { cc.p->id,
							    HV_PROPERTY_UNIMPLEMENTED_MSR_ACTION, 0,
							    value };

	assert_int_equal(CC_CALL(HVCALL_SET_PARTITION_PROPERTY, in), HV_STATUS_SUCCESS);
}

static void test_an_intercept_goes_before_the_property(void **state)
{
	set_unknown_ignored(HV_UNIMPLEMENTED_MSR_IGNORE);
	assert_false(accesses(UNKNOWN, false));
	assert_int_equal(faults(), 0);
	assert_int_equal(reg(0, HvX64RegisterRax), 0);
	assert_int_equal(install(HV_INTERCEPT_TYPE_X64_MSR, R, 0), HV_STATUS_SUCCESS);
	assert_true(accesses(UNKNOWN, false));
	assert_false(accesses(UNKNOWN, true));
	assert_int_equal(faults(), 0);
}

/* Single registers, beside what is said of all that nobody serves. */
static void test_a_single_register(void **state)
{
	static const struct {
		u32 all, one;
		bool read, write, other_read;
	} rows[] = {
		{ 0, 0, false, false, false },	{ 0, R, true, false, false },
		{ 0, W, false, true, false },	{ 0, R | W, true, true, false },
		{ R, W, true, true, true },	{ W, R, true, true, false },
		{ R | W, 0, true, true, true },
	};

	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_int_equal(install(HV_INTERCEPT_TYPE_X64_MSR, rows[i].all, 0),
				 HV_STATUS_SUCCESS);
		assert_int_equal(install_msr(UNKNOWN, rows[i].one), HV_STATUS_SUCCESS);
		if (accesses(UNKNOWN, false) != rows[i].read ||
		    accesses(UNKNOWN, true) != rows[i].write ||
		    accesses(UNKNOWN + 1, false) != rows[i].other_read)
			fail_msg("row %u", i);
	}
}

/* As OpenVMM has it: a child without the interface, for whom its monitor plays some registers. */
static void test_a_single_synthetic_register(void **state)
{
	cc.p->config.privileges = 0;
	cc.p->config.features_edx = 0;
	assert_int_equal(install_msr(HV_X64_MSR_TSC_FREQUENCY, R | W), HV_STATUS_SUCCESS);
	assert_int_equal(install_msr(HV_X64_MSR_TSC_INVARIANT_CONTROL, R | W), HV_STATUS_SUCCESS);
	assert_true(accesses(HV_X64_MSR_TSC_FREQUENCY, false));
	assert_false(accesses(HV_X64_MSR_TSC_FREQUENCY, true)); /* is read-only */
	assert_int_equal(faults(), 1);
	assert_true(accesses(HV_X64_MSR_TSC_INVARIANT_CONTROL, false));
	assert_true(accesses(HV_X64_MSR_TSC_INVARIANT_CONTROL, true));
	assert_false(accesses(HV_X64_MSR_APIC_FREQUENCY, false));
	assert_int_equal(faults(), 1);
	/* Of a child that has it, it is served. */
	cc.p->config.privileges = HV_PRIV_ACCESS_FREQUENCY;
	cc.p->config.features_edx = HV_FEATURE_FREQUENCY_MSRS;
	assert_false(accesses(HV_X64_MSR_TSC_FREQUENCY, false));
	assert_int_equal(faults(), 0);
}

/* VPs leave the guest for it and go on. */
static void test_an_intercept_is_installed_while_vps_run(void **state)
{
	for (u32 i = 0; i < CC_VPS; i++)
		resume(i);
	for (u32 i = 0; i < 20; i++) {
		assert_int_equal(install_msr(0x1B, i % 4), HV_STATUS_SUCCESS);
		assert_int_equal(install(HV_INTERCEPT_TYPE_X64_MSR, i % 4, 0), HV_STATUS_SUCCESS);
	}
	for (u32 i = 0; i < CC_VPS; i++) {
		for (u32 ms = 0; ms < 5000 && !core_test_in_guest(cc.vp[i]); ms++)
			nanosleep(&(struct timespec){ 0, 1000000 }, NULL);
		assert_true(core_test_in_guest(cc.vp[i]));
	}
}

/* Of the synthetic ones: what the child may use is served, and what is read-only is #GP. */
static void test_what_is_served_is_not_intercepted(void **state)
{
	static const struct {
		u32 index;
		u64 privilege;
		bool read, write; /* goes to the parent */
	} rows[] = {
		{ HV_X64_MSR_VP_INDEX, HV_PRIV_ACCESS_VP_INDEX, false, false },
		{ HV_X64_MSR_VP_INDEX, 0, true, false },
		{ HV_X64_MSR_SCONTROL, HV_PRIV_ACCESS_SYNIC_REGS, false, false },
		{ HV_X64_MSR_SCONTROL, 0, true, true },
		{ HV_X64_MSR_GUEST_OS_ID + 0x1FF, ~0ull, true, true },
		{ HV_X64_MSR_SCONTROL + HV_X64_MSR_NESTED_OFFSET, ~0ull, true, true },
		{ HV_X64_MSR_GUEST_OS_ID - 1, ~0ull, true, true },
		{ HV_X64_MSR_GUEST_OS_ID + 0x2000, ~0ull, true, true },
	};

	assert_int_equal(install(HV_INTERCEPT_TYPE_X64_MSR, R | W, 0), HV_STATUS_SUCCESS);
	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		cc.p->config.privileges = rows[i].privilege;
		if (accesses(rows[i].index, false) != rows[i].read ||
		    accesses(rows[i].index, true) != rows[i].write)
			fail_msg("row %u", i);
	}
}

static void test_the_parent_finishes_a_read(void **state)
{
	const struct fake_step was = access_step(UNKNOWN, false);
	const struct hv_msr_intercept *m = (const void *)message()->payload;
	const struct hv_message *told = (const void *)(cc.ct.ram + SIM_GPA);
	struct child_totals t;

	assert_int_equal(install(HV_INTERCEPT_TYPE_X64_MSR, R | W, 0), HV_STATUS_SUCCESS);
	assert_true(accesses(UNKNOWN, false));
	assert_int_equal(told->type, HV_MESSAGE_OPAQUE_INTERCEPT);
	assert_int_equal(told->sender, cc.p->id);
	assert_int_equal(message()->type, HV_MESSAGE_X64_MSR);
	assert_int_equal(message()->payload_bytes, sizeof(*m));
	assert_int_equal(message()->sender, cc.p->id);
	assert_int_equal(m->header.access, HV_INTERCEPT_READ);
	assert_int_equal(m->header.length_cr8, 2);
	assert_int_equal(m->header.rip, CODE);
	assert_int_equal(m->msr, UNKNOWN);
	assert_int_equal(m->rax, was.regs.rax);
	assert_int_equal(m->rdx, was.regs.rdx);
	/* As before the instruction, and the engine has nothing left to do. */
	assert_memory_equal(cc.vp[0]->vcpu->regs, &was.regs, sizeof(was.regs));
	assert_int_equal(fake_count(cc.p->vm, FAKE_DROP), 1);
	assert_true(fake_vcpu(cc.vp[0]->vcpu)->completed);
	set_reg(0, HvX64RegisterRax, 0x55);
	set_reg(0, RDX, 0x66);
	set_reg(0, HvX64RegisterRip, m->header.rip + m->header.length_cr8);
	resume(0);
	fake_drain(cc.vp[0]->vcpu);
	assert_int_equal(reg(0, HvX64RegisterRax), 0x55);
	assert_int_equal(reg(0, RDX), 0x66);
	assert_int_equal(reg(0, HvX64RegisterRip), CODE + 2);
	assert_int_equal(faults(), 0);
	t = census_totals(&cc.ct.hv);
	assert_int_equal(t.intercepts[INTERCEPT_MSR], 1);
}

static void test_a_write_shows_its_value(void **state)
{
	const struct hv_msr_intercept *m = (const void *)message()->payload;

	assert_int_equal(install(HV_INTERCEPT_TYPE_X64_MSR, W, 0), HV_STATUS_SUCCESS);
	assert_true(accesses(UNKNOWN, true));
	assert_int_equal(m->header.access, HV_INTERCEPT_WRITE);
	assert_int_equal((u32)m->rax | m->rdx << 32, 0x1122334455667788);
	set_reg(0, HvX64RegisterRip, CODE + 2);
	resume(0);
	fake_drain(cc.vp[0]->vcpu);
	assert_int_equal(reg(0, HvX64RegisterRip), CODE + 2);
	assert_int_equal(reg(0, HvX64RegisterRax), 0xA0A0A0A055667788);
}

static void test_nobody_finishes_it(void **state)
{
	assert_int_equal(install(HV_INTERCEPT_TYPE_X64_MSR, R | W, 0), HV_STATUS_SUCCESS);
	for (u32 i = 0; i < 3; i++) {
		assert_true(accesses(UNKNOWN, i & 1));
		assert_int_equal(reg(0, HvX64RegisterRip), CODE);
		assert_int_equal(reg(0, HvX64RegisterRax), 0xA0A0A0A055667788);
	}
	/* Not the parent's any more: what is left of it goes on as without. */
	assert_int_equal(install(HV_INTERCEPT_TYPE_X64_MSR, 0, 0), HV_STATUS_SUCCESS);
	assert_false(accesses(UNKNOWN, false));
	assert_int_equal(faults(), 1);
	assert_int_equal(fake_last(cc.p->vm, FAKE_EXCEPTION).a, CODE);
}

/* Both ways there are to say it: HV_X64_PENDING_EXCEPTION_EVENT and the pending interruption. */
static void test_the_parent_injects_gp(void **state)
{
	static const struct {
		u32 name;
		u64 value;
	} ways[] = {
		{ HvRegisterPendingEvent0, BIT64(0) | BIT64(8) | GP << 16 },
		{ HvRegisterPendingInterruption, BIT64(0) | 3 << 1 | BIT64(4) | GP << 16 },
	};

	assert_int_equal(install(HV_INTERCEPT_TYPE_X64_MSR, R | W, 0), HV_STATUS_SUCCESS);
	for (u32 i = 0; i < ARRAY_SIZE(ways); i++) {
		const struct engine_events *e = &fake_vcpu(cc.vp[0]->vcpu)->events;

		assert_true(accesses(UNKNOWN, i));
		assert_int_equal(set_reg(0, ways[i].name, ways[i].value), HV_STATUS_SUCCESS);
		resume(0);
		fake_drain(cc.vp[0]->vcpu);
		assert_int_equal(reg(0, HvX64RegisterRip), CODE); /* where it is raised */
		assert_int_equal(e->injected, ENGINE_EVENT_EXCEPTION);
		assert_int_equal(e->vector, GP);
		assert_true(e->has_error_code);
		assert_int_equal(e->error_code, 0);
		assert_int_equal(faults(), 0); /* not one more by the engine */
		fake_vcpu(cc.vp[0]->vcpu)->events = (struct engine_events){ 0 };
	}
}

/* Another instruction stands there by now: its access is answered as if nobody had asked. */
static void test_code_that_changed(void **state)
{
	const struct fake_step step = access_step(UNKNOWN, false);

	assert_int_equal(install(HV_INTERCEPT_TYPE_X64_MSR, R | W, 0), HV_STATUS_SUCCESS);
	memcpy(code(), "\x90\x90", 2);
	fake_push(cc.vp[0]->vcpu, &step);
	resume(0);
	fake_drain(cc.vp[0]->vcpu);
	assert_int_equal(reg(0, HvRegisterInterceptSuspend), 0);
	assert_int_equal(faults(), 1);
}

static void test_a_vp_ends_while_it_is_suspended(void **state)
{
	const struct hv_input_delete_vp in = { .partition_id = cc.p->id };

	assert_int_equal(install(HV_INTERCEPT_TYPE_X64_MSR, R | W, 0), HV_STATUS_SUCCESS);
	assert_true(accesses(UNKNOWN, false));
	/* The other VP is not concerned, and what is installed can be changed. */
	assert_int_equal(install(HV_INTERCEPT_TYPE_X64_MSR, W, 0), HV_STATUS_SUCCESS);
	assert_int_equal(CC_CALL(HVCALL_DELETE_VP, in), HV_STATUS_SUCCESS);
	assert_null(child_vp(cc.p, 0));
	assert_int_equal(reg(1, HvRegisterInterceptSuspend), 0);
}

static void test_a_partition_ends_while_a_vp_is_suspended(void **state)
{
	struct child_totals t;

	assert_int_equal(install(HV_INTERCEPT_TYPE_X64_MSR, R | W, 0), HV_STATUS_SUCCESS);
	assert_true(accesses(UNKNOWN, true));
	assert_int_equal(cc_on_child(HVCALL_FINALIZE_PARTITION), HV_STATUS_SUCCESS);
	assert_int_equal(cc_on_child(HVCALL_DELETE_PARTITION), HV_STATUS_SUCCESS);
	t = census_totals(&cc.ct.hv);
	assert_int_equal(t.destroyed, t.created);
	assert_int_equal(t.vps_destroyed, t.vps_created);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, cc_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CC_TEST(test_each_type_has_its_accesses),
		CC_TEST(test_what_can_be_had),
		CC_TEST(test_other_types_there_are_not),
		CC_TEST(test_ports_are_the_parents_anyway),
		CC_TEST(test_only_of_an_own_child),
		CC_TEST(test_only_of_an_active_child),
		CC_TEST(test_the_engine_is_asked_for_a_register),
		CC_TEST(test_there_is_an_end_to_registers),
		TEST(test_only_what_was_asked_for),
		TEST(test_a_single_register),
		TEST(test_a_single_synthetic_register),
		TEST(test_an_intercept_is_installed_while_vps_run),
		TEST(test_an_intercept_goes_before_the_property),
		TEST(test_what_is_served_is_not_intercepted),
		TEST(test_the_parent_finishes_a_read),
		TEST(test_a_write_shows_its_value),
		TEST(test_nobody_finishes_it),
		TEST(test_the_parent_injects_gp),
		TEST(test_code_that_changed),
		TEST(test_a_vp_ends_while_it_is_suspended),
		TEST(test_a_partition_ends_while_a_vp_is_suspended),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
