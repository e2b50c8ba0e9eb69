// SPDX-License-Identifier: MIT
/* HvCallGetVpRegisters, HvCallSetVpRegisters, HvCallGetVpIndexFromApicId. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/core_test.h"
#include "hvdef/vp_regs.h"

#define IN_GPA	0x10000ull
#define OUT_GPA 0x20000ull

static struct core_test ct;
static struct vp *vp;

static int setup(void **state)
{
	const struct core_test_config cfg = { .vps = 3 };

	core_test_create(&ct, &cfg);
	vp = ct.vp[0];
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

	assert_int_equal(hypercall_execute(vp, &regs, &result), VP_OK);
	return result;
}

static u64 rep(u32 code, u32 count)
{
	return code | (u64)count << 32;
}

static struct hv_input_vp_registers *header(void)
{
	return (void *)(ct.ram + IN_GPA);
}

static struct hv_register_value *out(u32 i)
{
	return (struct hv_register_value *)(void *)(ct.ram + OUT_GPA) + i;
}

static void name_vp(u32 index)
{
	*header() = (struct hv_input_vp_registers){ HV_PARTITION_ID_SELF, index, 0, { 0 } };
}

static u16 get(u32 index, u32 name)
{
	name_vp(index);
	memcpy(header() + 1, &name, sizeof(name));
	memset(out(0), 0xEE, sizeof(*out(0)));
	return (u16)call(rep(HVCALL_GET_VP_REGISTERS, 1));
}

static u16 set(u32 index, u32 name, u64 low, u64 high)
{
	const struct hv_register_assoc assoc = { .name = name, .value = { low, high } };

	name_vp(index);
	memcpy(header() + 1, &assoc, sizeof(assoc));
	return (u16)call(rep(HVCALL_SET_VP_REGISTERS, 1));
}

/* Architectural registers keep what is written, in the engine's state. */
static const struct {
	u32 name;
	bool wide;
} kept[] = {
	{ HvX64RegisterRax + 1, false },     { HvX64RegisterRax + 7, false },
	{ HvX64RegisterRax + 8, false },     { HvX64RegisterRax + 15, false },
	{ HvX64RegisterRflags, false },	     { HvX64RegisterXmm0, true },
	{ HvX64RegisterXmm0 + 15, true },    { HvX64RegisterCr0, false },
	{ HvX64RegisterCr2, false },	     { HvX64RegisterCr3, false },
	{ HvX64RegisterCr4, false },	     { HvX64RegisterCr8, false },
	{ HvX64RegisterEfer, false },	     { HvX64RegisterApicBase, false },
	{ HvX64RegisterEs, true },	     { HvX64RegisterEs + 7, true },
	{ HvX64RegisterTsc, false },	     { HvX64RegisterKernelGsBase, false },
	{ HvX64RegisterPat, false },	     { HvX64RegisterSysenterCs, false },
	{ HvX64RegisterSysenterEip, false }, { HvX64RegisterSysenterEsp, false },
	{ HvX64RegisterStar, false },	     { HvX64RegisterLstar, false },
	{ HvX64RegisterCstar, false },	     { HvX64RegisterSfmask, false },
	{ HvX64RegisterTscAux, false },
};

static void test_architectural_registers_keep_what_is_written(void **state)
{
	for (u32 i = 0; i < ARRAY_SIZE(kept); i++) {
		u64 low = 0x1122334455667700 + i, high = kept[i].wide ? ~low : 0;

		assert_int_equal(set(HV_VP_INDEX_SELF, kept[i].name, low, high), HV_STATUS_SUCCESS);
		assert_int_equal(get(HV_VP_INDEX_SELF, kept[i].name), HV_STATUS_SUCCESS);
		assert_int_equal(out(0)->low, low);
		assert_int_equal(out(0)->high, high);
	}
	/* No two rows share their place. */
	for (u32 i = 0; i < ARRAY_SIZE(kept); i++) {
		get(HV_VP_INDEX_SELF, kept[i].name);
		assert_int_equal((u8)out(0)->low, i);
	}
}

static void test_registers_are_where_the_engine_keeps_them(void **state)
{
	struct engine_regs *r = ct.vcpu[0]->regs;
	struct engine_sregs *s = &fake_vcpu(ct.vcpu[0])->sregs;
	const u64 *const order[] = { &r->rax, &r->rcx, &r->rdx, &r->rbx, &r->rsp, &r->rbp,
				     &r->rsi, &r->rdi, &r->r8,	&r->r9,	 &r->r10, &r->r11,
				     &r->r12, &r->r13, &r->r14, &r->r15, &r->rip, &r->rflags };
	const struct engine_segment *const segments[] = { &s->es, &s->cs, &s->ss,  &s->ds,
							  &s->fs, &s->gs, &s->ldt, &s->tr };

	for (u32 i = 0; i < ARRAY_SIZE(order); i++) {
		assert_int_equal(set(0, HvX64RegisterRax + i, 1000 + i, 0), HV_STATUS_SUCCESS);
		assert_int_equal(*order[i], 1000 + i);
		assert_true(ct.vcpu[0]->regs_dirty);
	}
	for (u32 i = 0; i < ARRAY_SIZE(segments); i++) {
		assert_int_equal(set(0, HvX64RegisterEs + i, 0x1000 + i, 0xA09B001800000FFF),
				 HV_STATUS_SUCCESS);
		assert_int_equal(segments[i]->base, 0x1000 + i);
		assert_int_equal(segments[i]->limit, 0xFFF);
		assert_int_equal(segments[i]->selector, 0x18);
		assert_int_equal(segments[i]->attributes, 0xA09B);
	}
	/* Limit in the top two bytes of the low half, base in the high half. */
	assert_int_equal(set(0, HvX64RegisterIdtr, 0x0FFFull << 48, 0x5000), HV_STATUS_SUCCESS);
	assert_int_equal(s->idt.limit, 0xFFF);
	assert_int_equal(s->idt.base, 0x5000);
	assert_int_equal(set(0, HvX64RegisterGdtr, 0x7Full << 48 | 0xFFFF, 0x6000),
			 HV_STATUS_SUCCESS);
	assert_int_equal(s->gdt.limit, 0x7F);
	assert_int_equal(get(0, HvX64RegisterGdtr), HV_STATUS_SUCCESS);
	assert_int_equal(out(0)->low, 0x7Full << 48);
	assert_int_equal(out(0)->high, 0x6000);
}

/* Synthetic registers are the MSRs: whatever one reads, the other does. */
static const struct {
	u32 name, count, msr;
} synthetic[] = {
	{ HvRegisterGuestCrashP0, 6, HV_X64_MSR_CRASH_P0 },
	{ HvX64RegisterHypercall, 1, HV_X64_MSR_HYPERCALL },
	{ HvRegisterGuestOsId, 1, HV_X64_MSR_GUEST_OS_ID },
	{ HvRegisterVpIndex, 1, HV_X64_MSR_VP_INDEX },
	{ HvRegisterTimeRefCount, 1, HV_X64_MSR_TIME_REF_COUNT },
	{ HvRegisterVpAssistPage, 1, HV_X64_MSR_VP_ASSIST_PAGE },
	{ HvRegisterReferenceTsc, 1, HV_X64_MSR_REFERENCE_TSC },
	{ HvRegisterSint0, 16, HV_X64_MSR_SINT0 },
	{ HvRegisterScontrol, 1, HV_X64_MSR_SCONTROL },
	{ HvRegisterSversion, 1, HV_X64_MSR_SVERSION },
	{ HvRegisterSifp, 1, HV_X64_MSR_SIEFP },
	{ HvRegisterSipp, 1, HV_X64_MSR_SIMP },
	{ HvRegisterEom, 1, HV_X64_MSR_EOM },
	{ HvRegisterStimer0Config, 8, HV_X64_MSR_STIMER0_CONFIG },
};

static void test_synthetic_registers_are_the_msrs(void **state)
{
	core_test_write(vp, HV_X64_MSR_GUEST_OS_ID, TEST_OS_ID);
	core_test_synic_on(vp, 0x30000);
	fake_advance_100ns(ct.vm, 777);
	for (u32 i = 0; i < ARRAY_SIZE(synthetic); i++) {
		for (u32 k = 0; k < synthetic[i].count; k++) {
			u64 value = core_test_read(vp, synthetic[i].msr + k);

			assert_int_equal(get(HV_VP_INDEX_SELF, synthetic[i].name + k),
					 HV_STATUS_SUCCESS);
			assert_int_equal(out(0)->low, value);
			assert_int_equal(out(0)->high, 0);
		}
	}
	assert_int_equal(set(0, HvRegisterSint0 + 3, 0x66, 0), HV_STATUS_SUCCESS);
	assert_int_equal(core_test_read(vp, HV_X64_MSR_SINT0 + 3), 0x66);
	assert_int_equal(set(0, HvRegisterSint0 + 3, 5, 0), HV_STATUS_INVALID_REGISTER_VALUE);
	assert_int_equal(set(0, HvRegisterVpIndex, 5, 0), HV_STATUS_INVALID_REGISTER_VALUE);
	assert_int_equal(set(0, HvRegisterTimeRefCount, 5, 0), HV_STATUS_INVALID_REGISTER_VALUE);
}

static void test_synthetic_registers_ask_for_the_msrs_privilege(void **state)
{
	core_test_destroy(&ct);
	core_test_create(&ct,
			 &(struct core_test_config){ .privileges = ~HV_PRIV_ACCESS_SYNIC_REGS });
	vp = ct.vp[0];
	assert_int_equal(get(0, HvRegisterScontrol), HV_STATUS_ACCESS_DENIED);
	assert_int_equal(get(0, HvRegisterVpIndex), HV_STATUS_SUCCESS);
}

static void test_version_and_features_are_the_leaves(void **state)
{
	assert_int_equal(get(0, HvRegisterHypervisorVersion), HV_STATUS_SUCCESS);
	assert_int_equal(out(0)->low, 0x000A000000006C61);
	assert_int_equal(get(0, HvRegisterPrivilegesAndFeaturesInfo), HV_STATUS_SUCCESS);
	assert_int_equal(out(0)->low, ct.p->config.privileges);
	assert_int_equal(out(0)->high, (u64)ct.p->config.features_edx << 32);
	assert_int_equal(get(0, HvRegisterFeaturesInfo), HV_STATUS_SUCCESS);
	assert_int_equal((u32)out(0)->low, ct.p->config.hints);
	assert_int_equal(get(0, HvRegisterImplementationLimitsInfo), HV_STATUS_SUCCESS);
	assert_int_equal((u32)out(0)->low, 3);
	assert_int_equal(get(0, HvRegisterHardwareFeaturesInfo), HV_STATUS_SUCCESS);
	assert_int_equal(set(0, HvRegisterFeaturesInfo, 0, 0), HV_STATUS_ACCESS_DENIED);
}

static void test_names_without_a_row_are_refused(void **state)
{
	static const u32 unknown[] = { 0,	1,	 0xFF,	  0x101,
				       0x204,	0x20F,	 0x216,	  0x2000F + 3,
				       0x30010, 0x40005, 0x60008, 0x70002,
				       0x8000C, 0x90005, 0xA0016, 0xA000F + 0x100,
				       0xB0008, 0x91003, ~0u };

	for (u32 i = 0; i < ARRAY_SIZE(unknown); i++) {
		assert_int_equal(get(0, unknown[i]), HV_STATUS_INVALID_PARAMETER);
		assert_int_equal(set(0, unknown[i], 0, 0), HV_STATUS_INVALID_PARAMETER);
	}
}

static void test_the_header_names_a_partition_a_vp_and_a_level(void **state)
{
	const struct {
		u64 partition;
		u32 vp_index;
		u8 vtl;
		u16 status;
	} rows[] = {
		{ HV_PARTITION_ID_SELF, HV_VP_INDEX_SELF, 0, HV_STATUS_SUCCESS },
		{ HV_PARTITION_ID_SELF, 0, 0, HV_STATUS_SUCCESS },
		{ HV_PARTITION_ID_SELF, 2, 0, HV_STATUS_SUCCESS },
		{ ct.p->id, 1, 0, HV_STATUS_SUCCESS },
		{ ct.p->id + 1, 0, 0, HV_STATUS_ACCESS_DENIED },
		{ 0, 0, 0, HV_STATUS_ACCESS_DENIED },
		{ HV_PARTITION_ID_SELF, 3, 0, HV_STATUS_INVALID_VP_INDEX },
		{ HV_PARTITION_ID_SELF, ~0u, 0, HV_STATUS_INVALID_VP_INDEX },
		{ 0, 99, 0, HV_STATUS_ACCESS_DENIED }, /* says nothing about its VPs */
		{ HV_PARTITION_ID_SELF, 0, 0x10, HV_STATUS_SUCCESS },
		{ HV_PARTITION_ID_SELF, 0, 0x01, HV_STATUS_SUCCESS }, /* not to be used */
		{ HV_PARTITION_ID_SELF, 0, 0x11, HV_STATUS_INVALID_PARAMETER },
	};
	const struct hv_register_assoc assoc = { .name = HvRegisterSint0, .value = { 0x50, 0 } };
	const u32 name = HvRegisterSint0;

	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		*header() = (struct hv_input_vp_registers){
			rows[i].partition, rows[i].vp_index, rows[i].vtl, { 0 }
		};
		memcpy(header() + 1, &name, sizeof(name));
		assert_int_equal(call(rep(HVCALL_GET_VP_REGISTERS, 1)),
				 HV_HYPERCALL_RESULT(rows[i].status, !rows[i].status));
		memcpy(header() + 1, &assoc, sizeof(assoc));
		assert_int_equal(call(rep(HVCALL_SET_VP_REGISTERS, 1)),
				 HV_HYPERCALL_RESULT(rows[i].status, !rows[i].status));
	}
}

static void test_another_vps_thread_keeps_what_is_its_own(void **state)
{
	static const u32 own[] = { HvX64RegisterRax,	      HvX64RegisterRip,
				   HvX64RegisterXmm0,	      HvX64RegisterCr3,
				   HvX64RegisterEs,	      HvX64RegisterIdtr,
				   HvX64RegisterKernelGsBase, HvRegisterVpRuntime,
				   HvRegisterVpAssistPage };

	for (u32 i = 0; i < ARRAY_SIZE(own); i++) {
		assert_int_equal(get(1, own[i]), HV_STATUS_INVALID_VP_STATE);
		assert_int_equal(set(1, own[i], 0, 0), HV_STATUS_INVALID_VP_STATE);
	}
	/* What has a lock can be reached. */
	assert_int_equal(set(1, HvRegisterSint0 + 2, 0x77, 0), HV_STATUS_SUCCESS);
	assert_int_equal(core_test_read(ct.vp[1], HV_X64_MSR_SINT0 + 2), 0x77);
	assert_int_equal(get(2, HvRegisterVpIndex), HV_STATUS_SUCCESS);
	assert_int_equal(out(0)->low, 2);
}

static void test_a_list_stops_at_its_first_wrong_name(void **state)
{
	static const u32 names[] = { HvRegisterVpIndex, HvRegisterGuestOsId, 0xDEAD,
				     HvRegisterVpIndex };

	core_test_write(vp, HV_X64_MSR_GUEST_OS_ID, TEST_OS_ID);
	name_vp(HV_VP_INDEX_SELF);
	memcpy(header() + 1, names, sizeof(names));
	memset(out(0), 0xEE, 4 * sizeof(*out(0)));
	assert_int_equal(call(rep(HVCALL_GET_VP_REGISTERS, 4)),
			 HV_HYPERCALL_RESULT(HV_STATUS_INVALID_PARAMETER, 2));
	assert_int_equal(out(1)->low, TEST_OS_ID);
	assert_int_equal(out(2)->low, 0xEEEEEEEEEEEEEEEE);
}

static void test_a_value_the_engine_refuses_is_a_status(void **state)
{
	fake_vcpu(ct.vcpu[0])->sregs_refused = true;
	assert_int_equal(set(0, HvX64RegisterCr0, ~0ull, 0), HV_STATUS_INVALID_REGISTER_VALUE);
	assert_int_equal(set(0, HvX64RegisterEs, 0, ~0ull), HV_STATUS_INVALID_REGISTER_VALUE);
}

/* A new RIP is not undone by the end of the call's own instruction. */
static void test_a_caller_may_set_its_own_rip(void **state)
{
	const struct hv_register_assoc assoc = { .name = HvX64RegisterRip, .value = { 0x9000, 0 } };
	struct fake_step step = {
		.exit = { .kind = ENGINE_EXIT_HYPERCALL },
		.set_regs = true,
		.regs = { .rcx = rep(HVCALL_SET_VP_REGISTERS, 1), .rdx = IN_GPA, .rip = 0x1000 }
	};

	core_test_write(vp, HV_X64_MSR_GUEST_OS_ID, TEST_OS_ID);
	core_test_write(vp, HV_X64_MSR_HYPERCALL, 0x30001);
	name_vp(HV_VP_INDEX_SELF);
	memcpy(header() + 1, &assoc, sizeof(assoc));
	fake_push(ct.vcpu[0], &step);
	engine_vcpu_run(ct.vcpu[0]);
	vp_handle_exit(vp);
	engine_vcpu_kick(ct.vcpu[0]);
	engine_vcpu_run(ct.vcpu[0]);
	assert_int_equal(ct.vcpu[0]->regs->rip, 0x9000);
	assert_int_equal(ct.vcpu[0]->regs->rax, HV_HYPERCALL_RESULT(HV_STATUS_SUCCESS, 1));
}

/* APIC ids. */

static void test_apic_ids_give_vp_indices(void **state)
{
	const struct {
		u64 partition;
		u8 vtl;
		u32 id;
		u16 status;
		u32 index;
	} rows[] = {
		{ HV_PARTITION_ID_SELF, 0, 0, HV_STATUS_SUCCESS, 0 },
		{ HV_PARTITION_ID_SELF, 0, 4, HV_STATUS_SUCCESS, 2 },
		{ ct.p->id, 0, 2, HV_STATUS_SUCCESS, 1 },
		{ HV_PARTITION_ID_SELF, 0, 1, HV_STATUS_INVALID_PARAMETER, 0 },
		{ HV_PARTITION_ID_SELF, 0, ~0u, HV_STATUS_INVALID_PARAMETER, 0 },
		{ 77, 0, 0, HV_STATUS_ACCESS_DENIED, 0 },
		{ HV_PARTITION_ID_SELF, 0x11, 0, HV_STATUS_INVALID_PARAMETER, 0 },
	};
	struct hv_input_vp_index_from_apic_id *in = (void *)(ct.ram + IN_GPA);

	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		*in = (struct hv_input_vp_index_from_apic_id){ rows[i].partition,
							       rows[i].vtl,
							       { 0 } };
		memcpy(in + 1, &rows[i].id, sizeof(u32));
		assert_int_equal(call(rep(HVCALL_GET_VP_INDEX_FROM_APIC_ID, 1)),
				 HV_HYPERCALL_RESULT(rows[i].status, !rows[i].status));
		if (!rows[i].status)
			assert_int_equal(*(u32 *)(void *)out(0), rows[i].index);
	}
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_architectural_registers_keep_what_is_written),
		TEST(test_registers_are_where_the_engine_keeps_them),
		TEST(test_synthetic_registers_are_the_msrs),
		TEST(test_synthetic_registers_ask_for_the_msrs_privilege),
		TEST(test_version_and_features_are_the_leaves),
		TEST(test_names_without_a_row_are_refused),
		TEST(test_the_header_names_a_partition_a_vp_and_a_level),
		TEST(test_another_vps_thread_keeps_what_is_its_own),
		TEST(test_a_list_stops_at_its_first_wrong_name),
		TEST(test_a_value_the_engine_refuses_is_a_status),
		TEST(test_a_caller_may_set_its_own_rip),
		TEST(test_apic_ids_give_vp_indices),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
