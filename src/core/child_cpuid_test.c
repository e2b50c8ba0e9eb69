// SPDX-License-Identifier: MIT
/* The CPUID list of a child's VP: what is disabled, what is registered, what is shown. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>

#include "core/child_call_test.h"
#include "core/child_cpuid.h"
#include "core/cpu_features.h"
#include "hvdef/intercept.h"
#include "hvdef/port.h"

#define AES	   BIT(25)
#define XSAVE	   BIT(26)
#define AVX	   BIT(28)
#define X2APIC	   BIT(21)
#define HYPERVISOR BIT(31)

/* A processor with more than a child gets. */
static const struct engine_cpuid engine_leaves[] = {
	{ .leaf = 0, .eax = 0xD },
	{ .leaf = 1, .ecx = AES | XSAVE | AVX | BIT(5), .edx = BIT(9) },
	{ 7, 0, true, 1, BIT(5) | BIT(16), 0, BIT(24) },
	{ 7, 1, true, 0, 0, 0, 0 },
	{ 0xD, 0, true, 0x600E7, 0x340, 0x2AC0, 0 },
	{ 0xD, 1, true, 0xF, 0, 0, 0 },
	{ 0xD, 2, true, 256, 576, 0, 0 },
	{ 0xD, 5, true, 64, 832, 0, 0 },
	{ 0xD, 6, true, 512, 896, 0, 0 },
	{ 0xD, 7, true, 1024, 1408, 0, 0 },
	{ 0xD, 17, true, 64, 2752, 2, 0 },
	{ 0xD, 18, true, 8192, 2816, 6, 0 },
	{ .leaf = 0x40000000, .ebx = 0x4B4D564B },
	{ .leaf = 0x80000001, .ecx = BIT(2) },
	{ .leaf = 0x8000000A, .eax = 1 },
};

static struct engine_cpuid list[CHILD_CPUID_MAX];
static u32 count;

static int setup(void **state)
{
	int ret = cc_setup(state);

	cc.ct.hv.child_cpuid = engine_leaves;
	cc.ct.hv.child_cpuid_count = ARRAY_SIZE(engine_leaves);
	cc.p->child->synthetic_features = 3;
	return ret;
}

static const struct engine_cpuid *at(u32 leaf, u32 index)
{
	static const struct engine_cpuid none;

	for (u32 i = 0; i < count; i++)
		if (list[i].leaf == leaf && (!list[i].indexed || list[i].index == index))
			return &list[i];
	return &none;
}

static void build(u32 vp)
{
	assert_int_equal(child_cpuid_base(cc.vp[vp], list, &count), 0);
	assert_int_equal(child_cpuid_apply(cc.vp[vp], list, &count, CHILD_CPUID_MAX), 0);
}

static struct hv_input_register_cpuid_result input(u32 vp, u32 leaf)
{
	return (struct hv_input_register_cpuid_result){ .partition_id = cc.p->id,
							.vp_index = vp,
							.intercept_type = HV_INTERCEPT_TYPE_CPUID,
							.eax = leaf };
}

/* EBX of a leaf. */
static enum hv_status ebx(u32 vp, u32 leaf, u32 value, u32 mask)
{
	struct hv_input_register_cpuid_result in = input(vp, leaf);

	in.result[1] = (struct hv_cpuid_override){ value, mask };
	return CC_CALL(HVCALL_REGISTER_INTERCEPT_RESULT, in);
}

static void test_the_processor_less_what_a_child_never_has(void **state)
{
	build(1);
	assert_int_equal(at(1, 0)->ebx >> 24, 1); /* its APIC id */
	assert_int_equal(at(1, 0)->ecx & (AES | X2APIC | HYPERVISOR | BIT(5)),
			 AES | X2APIC | HYPERVISOR);
	assert_int_equal(at(0xB, 1)->ebx, CC_VPS);
	assert_int_equal(at(0xB, 1)->edx, 1);
	assert_int_equal(at(0x80000001, 0)->ecx & BIT(2), 0);
	assert_int_equal(at(0x8000000A, 0)->eax, 0);
	assert_int_equal(at(0x40000000, 0)->ebx, 0x7263694D); /* "Micr" */
	/* Tiles, and their room in an XSAVE area. */
	assert_int_equal(at(7, 0)->edx, 0);
	assert_int_equal(at(0xD, 0)->eax, 0xE7);
	assert_int_equal(at(0xD, 0)->ecx, 1408 + 1024);
	assert_int_equal(at(0xD, 18)->eax, 0);
}

static void test_features_disabled_at_creation(void **state)
{
	struct xsave_layout l;

	cc.p->child->create_flags &= ~HV_CREATE_X2APIC;
	cc.p->child->disabled_features[0] = BIT64(16);	   /* AES */
	cc.p->child->disabled_features[1] = BIT64(17);	   /* TSC deadline */
	cc.p->child->disabled_xsave = BIT64(6) | BIT64(3); /* AVX-512, AVX2 */
	build(0);
	assert_int_equal(at(1, 0)->ecx & (AES | X2APIC | AVX | BIT(24)), AVX);
	assert_int_equal(at(7, 0)->ebx, 0);
	assert_int_equal(at(0xD, 0)->eax, 7);
	assert_int_equal(at(0xD, 0)->ecx, 832);
	assert_int_equal(at(0xD, 6)->eax, 0);
	child_xsave_layout(cc.p, &l);
	assert_int_equal(l.states, 7);
	cc.p->child->disabled_xsave = BIT64(2);
	build(0);
	assert_int_equal(at(1, 0)->ecx & (XSAVE | AVX), XSAVE);
	assert_int_equal(at(0xD, 0)->eax, 3);
	cc.p->child->disabled_xsave = ~0ull;
	build(0);
	assert_int_equal(at(1, 0)->ecx & (XSAVE | AVX), 0);
	assert_int_equal(at(0xD, 0)->eax | at(0xD, 1)->eax | at(0xD, 2)->eax, 0);
	cc.p->child->synthetic_features = 0;
	build(0);
	assert_int_equal(at(0x40000000, 0)->ebx, 0);
	assert_int_equal(at(1, 0)->ecx & HYPERVISOR, 0);
}

static void test_features_have_numbers(void **state)
{
	const u32 n = ARRAY_SIZE(engine_leaves);

	assert_int_equal(cpu_features(engine_leaves, n, CPU_FEATURES_BANK0), BIT64(16));
	assert_int_equal(cpu_features(engine_leaves, n, CPU_FEATURES_BANK1), 0);
	assert_int_equal(cpu_features(engine_leaves, n, CPU_FEATURES_XSAVE),
			 MASK64(3, 0) | BIT64(6) | MASK64(13, 11) | BIT64(27));
}

static void test_registered_bits_replace_others(void **state)
{
	u32 before;

	build(0);
	before = at(7, 0)->ebx;
	assert_int_equal(ebx(HV_ANY_VP, 7, 0xF0, 0xFF), HV_STATUS_SUCCESS);
	build(0);
	assert_int_equal(at(7, 0)->ebx, (before & ~0xFFu) | 0xF0);
	assert_int_equal(at(7, 1)->ebx, 0xF0); /* no subleaf named: all */
	ebx(1, 7, 0x01, 0x0F);
	build(1);
	assert_int_equal(at(7, 0)->ebx & 0xFF, 0xF1); /* of the VP, over that of all */
	build(0);
	assert_int_equal(at(7, 0)->ebx & 0xFF, 0xF0);
	ebx(HV_ANY_VP, 7, 0x20, 0xFF); /* said anew */
	build(1);
	assert_int_equal(at(7, 0)->ebx & 0xFF, 0x21);
}

static void test_subleaves_and_leaves_that_were_not_there(void **state)
{
	struct hv_input_register_cpuid_result in = input(HV_ANY_VP, 7);

	in.ecx = 1;
	in.subleaf_specific = 1;
	in.result[0] = (struct hv_cpuid_override){ ~0u, BIT(4) };
	CC_CALL(HVCALL_REGISTER_INTERCEPT_RESULT, in);
	in.ecx = 2;
	CC_CALL(HVCALL_REGISTER_INTERCEPT_RESULT, in);
	in = input(HV_ANY_VP, 0x40000100);
	in.result[3] = (struct hv_cpuid_override){ 5, ~0u };
	CC_CALL(HVCALL_REGISTER_INTERCEPT_RESULT, in);
	in = input(HV_ANY_VP, 0); /* a leaf without subleaves gets one */
	in.ecx = 3;
	in.subleaf_specific = 1;
	in.result[0] = (struct hv_cpuid_override){ 9, ~0u };
	CC_CALL(HVCALL_REGISTER_INTERCEPT_RESULT, in);
	build(0);
	assert_int_equal(at(7, 0)->eax, 1);
	assert_int_equal(at(7, 1)->eax, BIT(4));
	assert_int_equal(at(7, 2)->eax, BIT(4));
	assert_int_equal(at(0x40000100, 0)->edx, 5);
	assert_int_equal(at(0, 0)->eax, 0xD);
	assert_int_equal(at(0, 3)->eax, 9);
}

static void test_a_list_has_an_end(void **state)
{
	for (u32 i = 0; i < CHILD_CPUID_MAX; i++)
		assert_int_equal(ebx(0, 0x10000 + i, 1, 1), HV_STATUS_SUCCESS);
	assert_int_equal(child_cpuid_base(cc.vp[0], list, &count), 0);
	assert_int_equal(child_cpuid_apply(cc.vp[0], list, &count, CHILD_CPUID_MAX), -E2BIG);
	assert_int_equal(child_cpuid_set(cc.vp[0], true), -E2BIG);
	build(1);
}

static void test_the_engine_gets_the_list_once(void **state)
{
	const struct fake_vcpu *v = fake_vcpu(cc.vp[0]->vcpu);

	ebx(HV_ANY_VP, 7, 0xF0, 0xFF);
	assert_int_equal(child_cpuid_set(cc.vp[0], true), 0);
	build(0);
	assert_int_equal(v->cpuid_count, count);
	assert_memory_equal(v->cpuid, list, count * sizeof(*list));
	assert_int_equal(ebx(HV_ANY_VP, 7, 0xF0, 0xFF), HV_STATUS_SUCCESS); /* as it is */
	assert_int_equal(ebx(HV_ANY_VP, 7, 0xF1, 0xFF), HV_STATUS_INVALID_VP_STATE);
	assert_int_equal(ebx(0, 7, 0xF0, 0xFF), HV_STATUS_INVALID_VP_STATE);
	assert_int_equal(ebx(1, 7, 0xF1, 0xFF), HV_STATUS_SUCCESS); /* has not run */
}

static void test_what_cannot_be_registered(void **state)
{
	struct hv_input_register_cpuid_result in = input(HV_ANY_VP, 7);

	assert_int_equal(ebx(2, 7, 1, 1), HV_STATUS_INVALID_VP_INDEX);
	in.intercept_type = 1;
	assert_int_equal(CC_CALL(HVCALL_REGISTER_INTERCEPT_RESULT, in),
			 HV_STATUS_INVALID_PARAMETER);
	in = input(HV_ANY_VP, 7);
	in.partition_id = HV_PARTITION_ID_SELF;
	assert_int_equal(CC_CALL(HVCALL_REGISTER_INTERCEPT_RESULT, in),
			 HV_STATUS_INVALID_PARTITION_ID);
}

static struct {
	struct hv_input_get_vp_cpuid_values head;
	struct hv_cpuid_leaf_info leaf[4];
} ask;

static const struct hv_cpuid_result *values(u32 flags)
{
	ask.head =
		(struct hv_input_get_vp_cpuid_values){ .partition_id = cc.p->id, .flags = flags };
	assert_int_equal(cc_result(HVCALL_GET_VP_CPUID_VALUES | 4ull << 32, &ask, sizeof(ask)),
			 4ull << 32);
	return cc_out();
}

static void test_values_as_the_vp_sees_them(void **state)
{
	const struct hv_cpuid_result *r;

	ebx(HV_ANY_VP, 7, 0xF0, 0xFF);
	ask.leaf[0] = (struct hv_cpuid_leaf_info){ .eax = 7 };
	ask.leaf[1] = (struct hv_cpuid_leaf_info){ .eax = 0xD, .xfem = 7 };
	ask.leaf[2] = (struct hv_cpuid_leaf_info){ .eax = 0xD, .ecx = 1, .xfem = 0x27 };
	ask.leaf[3] = (struct hv_cpuid_leaf_info){ .eax = 0x12345678 };
	r = values(HV_GET_VP_CPUID_APPLY_REGISTERED);
	assert_int_equal(r[0].ebx & 0xFF, 0xF0);
	assert_int_equal(r[1].ebx, 832);
	assert_int_equal(r[2].ebx, 832 + 64);
	assert_int_equal(r[3].eax | r[3].ebx | r[3].ecx | r[3].edx, 0);
	r = values(HV_GET_VP_CPUID_USE_VP_XFEM_XSS); /* XCR0 is 1 */
	assert_int_equal(r[0].ebx & 0xFF, BIT(5));
	assert_int_equal(r[1].ebx, 576);
	ask.head.flags = 4;
	assert_int_equal(cc_call(HVCALL_GET_VP_CPUID_VALUES | 4ull << 32, &ask, sizeof(ask)),
			 HV_STATUS_INVALID_PARAMETER);
	ask.head.vp_index = 9;
	assert_int_equal(cc_call(HVCALL_GET_VP_CPUID_VALUES | 4ull << 32, &ask, sizeof(ask)),
			 HV_STATUS_INVALID_VP_INDEX);
}

#undef CC_TEST
#define CC_TEST(f) cmocka_unit_test_setup_teardown(f, setup, cc_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CC_TEST(test_the_processor_less_what_a_child_never_has),
		CC_TEST(test_features_disabled_at_creation),
		CC_TEST(test_features_have_numbers),
		CC_TEST(test_registered_bits_replace_others),
		CC_TEST(test_subleaves_and_leaves_that_were_not_there),
		CC_TEST(test_a_list_has_an_end),
		CC_TEST(test_the_engine_gets_the_list_once),
		CC_TEST(test_what_cannot_be_registered),
		CC_TEST(test_values_as_the_vp_sees_them),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
