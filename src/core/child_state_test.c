// SPDX-License-Identifier: MIT
/* State of a child's VP to and from pages of its parent's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/child_call_test.h"
#include "hvdef/vp_state.h"

#define DATA_GPN 0x30ull /* two pages, not next to each other */

static struct {
	struct hv_input_vp_state head;
	u64 var[60];
} in;

static const struct engine_cpuid leaves[] = {
	{ .leaf = 1, .ecx = BIT(26) | BIT(28) },
	{ 0xD, 0, true, 7, 0x340, 0x340, 0 },
	{ 0xD, 2, true, 256, 576, 0, 0 },
};

static int setup(void **state)
{
	int ret = cc_setup(state);

	cc.ct.hv.child_cpuid = leaves;
	cc.ct.hv.child_cpuid_count = ARRAY_SIZE(leaves);
	memset(&in, 0, sizeof(in));
	in.head.partition_id = cc.p->id;
	in.var[0] = DATA_GPN;
	in.var[1] = DATA_GPN + 2;
	return ret;
}

static enum hv_status move(u64 code, u32 type, u32 var_words)
{
	in.head.type = type;
	return cc_call(code | (u64)var_words << 17, &in, sizeof(in.head) + var_words * 8);
}

static enum hv_status get(u32 type, u32 pages)
{
	return move(HVCALL_GET_VP_STATE, type, pages);
}

static enum hv_status set(u32 type, u32 words)
{
	return move(HVCALL_SET_VP_STATE, type, words);
}

static u8 *data(u32 page)
{
	return cc.ct.ram + (DATA_GPN + 2 * page) * PAGE_BYTES;
}

static struct fake_vcpu *vcpu(void)
{
	return fake_vcpu(cc.vp[0]->vcpu);
}

static void test_local_apic(void **state)
{
	struct hv_local_interrupt_controller_state *s = (void *)data(0);
	u32 lint0 = 0x10700;

	memcpy(vcpu()->lapic + 0x350, &lint0, 4);
	vcpu()->lapic[0x80] = 0x40;
	assert_int_equal(get(HV_VP_STATE_LAPIC, 1), HV_STATUS_SUCCESS);
	assert_int_equal(s->apic_lvt_lint0, 0x10700);
	s->apic_lvt_lint0 = 0x700;
	s->apic_id = 0xFF;
	assert_int_equal(set(HV_VP_STATE_LAPIC, 1), HV_STATUS_SUCCESS);
	memcpy(&lint0, vcpu()->lapic + 0x350, 4);
	assert_int_equal(lint0, 0x700);
	assert_int_equal(vcpu()->lapic[0x20], 0);
	assert_int_equal(vcpu()->lapic[0x80], 0x40);
}

static void test_xsave(void **state)
{
	u64 *bv = (u64 *)(void *)(data(0) + 512), seven = 7;

	memcpy(vcpu()->xsave + 512, &seven, 8);
	memset(vcpu()->xsave + 576, 0xAB, 256);
	in.head.xsave_states = ~0ull;
	assert_int_equal(get(HV_VP_STATE_XSAVE, 1), HV_STATUS_SUCCESS);
	assert_int_equal(bv[0], 7);
	assert_int_equal(bv[1], BIT64(63) | 7);
	assert_int_equal(data(0)[576 + 255], 0xAB);
	data(0)[576] = 1;
	assert_int_equal(set(HV_VP_STATE_XSAVE, 1), HV_STATUS_SUCCESS);
	assert_int_equal(vcpu()->xsave[576], 1);
	assert_int_equal(vcpu()->xsave[512 + 15], 0);
	bv[1] |= BIT64(9);
	assert_int_equal(set(HV_VP_STATE_XSAVE, 1), HV_STATUS_INVALID_PARAMETER);
	bv[1] = BIT64(63) | 7;
	vcpu()->xsave_refused = true; /* a bit in MXCSR, say */
	assert_int_equal(set(HV_VP_STATE_XSAVE, 1), HV_STATUS_INVALID_PARAMETER);
}

static void test_xsave_over_two_pages(void **state)
{
	static const struct engine_cpuid wide[] = {
		{ .leaf = 1, .ecx = BIT(26) | BIT(28) },
		{ 0xD, 0, true, 0x207, 0x1400, 0x1400, 0 },
		{ 0xD, 2, true, 256, 576, 0, 0 },
		{ 0xD, 9, true, 4000, 1024, 0, 0 },
	};
	u64 states = 0x207;

	cc.ct.hv.child_cpuid = wide;
	cc.ct.hv.child_cpuid_count = ARRAY_SIZE(wide);
	memcpy(vcpu()->xsave + 512, &states, 8);
	memset(vcpu()->xsave + 1024, 0xCD, 4000);
	in.head.xsave_states = states;
	assert_int_equal(get(HV_VP_STATE_XSAVE, 1), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(get(HV_VP_STATE_XSAVE, 2), HV_STATUS_SUCCESS);
	assert_int_equal(data(1)[0], 0xCD);
	memset(vcpu()->xsave, 0, sizeof(vcpu()->xsave));
	assert_int_equal(set(HV_VP_STATE_XSAVE, 1), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(set(HV_VP_STATE_XSAVE, 2), HV_STATUS_SUCCESS);
	assert_int_equal(vcpu()->xsave[1024 + 3999], 0xCD);
}

static void test_pages_of_the_synic(void **state)
{
	cc.vp[0]->synic.simp_page.page[5] = 1;
	cc.vp[0]->synic.siefp_page.page[4095] = 2;
	assert_int_equal(get(HV_VP_STATE_SIM_PAGE, 1), HV_STATUS_SUCCESS);
	assert_int_equal(data(0)[5], 1);
	assert_int_equal(get(HV_VP_STATE_SIEF_PAGE, 1), HV_STATUS_SUCCESS);
	assert_int_equal(data(0)[4095], 2);
	memset(data(0), 3, PAGE_BYTES);
	assert_int_equal(set(HV_VP_STATE_SIM_PAGE, 1), HV_STATUS_SUCCESS);
	assert_int_equal(cc.vp[0]->synic.simp_page.page[0], 3);
	assert_int_equal(cc.vp[0]->synic.siefp_page.page[4095], 2);
}

static void test_timers(void **state)
{
	struct hv_synthetic_timers_state *out = cc_out(), s = { 0 };

	s.timer[1] =
		(struct hv_stimer_state){ .config = HV_STIMER_ENABLE | HV_STIMER_DIRECT | 0x50 << 4,
					  .count = 1ull << 60 };
	s.timer[2] = (struct hv_stimer_state){ .config = 3 << 16, .count = 77 };
	memcpy(in.var, &s, sizeof(s));
	assert_int_equal(set(HV_VP_STATE_SYNTHETIC_TIMERS, 25), HV_STATUS_SUCCESS);
	assert_int_equal(get(HV_VP_STATE_SYNTHETIC_TIMERS, 0), HV_STATUS_SUCCESS);
	assert_memory_equal(out, &s, sizeof(s));
	assert_int_equal(set(HV_VP_STATE_SYNTHETIC_TIMERS, 24), HV_STATUS_INVALID_PARAMETER);
	s.timer[3].config = HV_STIMER_DIRECT; /* vector 0 */
	s.timer[2].count = 78;
	memcpy(in.var, &s, sizeof(s));
	assert_int_equal(set(HV_VP_STATE_SYNTHETIC_TIMERS, 25), HV_STATUS_INVALID_PARAMETER);
	get(HV_VP_STATE_SYNTHETIC_TIMERS, 0);
	assert_int_equal(out->timer[2].count, 77); /* all or nothing */
}

static void test_what_is_not_there(void **state)
{
	assert_int_equal(get(HV_VP_STATE_LAPIC, 0), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(get(4 | 0x80000000u, 1), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(get(1, 1), HV_STATUS_INVALID_PARAMETER);
	in.var[0] = cc.ct.ram_bytes / PAGE_BYTES; /* beyond the parent's memory */
	assert_int_equal(get(HV_VP_STATE_LAPIC, 1), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(set(HV_VP_STATE_LAPIC, 1), HV_STATUS_INVALID_PARAMETER);
	in.var[0] = ~0ull;
	assert_int_equal(get(HV_VP_STATE_SIM_PAGE, 1), HV_STATUS_INVALID_PARAMETER);
	in.var[0] = CC_POOL_GPN; /* it gave that away */
	assert_int_equal(get(HV_VP_STATE_SIM_PAGE, 1), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(set(HV_VP_STATE_SIM_PAGE, 1), HV_STATUS_INVALID_PARAMETER);
	in.var[0] = DATA_GPN;
	in.head.vp_index = 7;
	assert_int_equal(get(HV_VP_STATE_LAPIC, 1), HV_STATUS_INVALID_VP_INDEX);
	in.head.vp_index = 0;
	in.head.input_vtl = 1;
	assert_int_equal(get(HV_VP_STATE_LAPIC, 1), HV_STATUS_INVALID_PARAMETER);
	in.head.input_vtl = 0;
	in.head.partition_id = cc.ct.p->id;
	assert_int_equal(get(HV_VP_STATE_LAPIC, 1), HV_STATUS_INVALID_PARTITION_ID);
	in.head.partition_id = cc.p->id;
	cc_on_child(HVCALL_FINALIZE_PARTITION);
	assert_int_equal(get(HV_VP_STATE_LAPIC, 1), HV_STATUS_INVALID_PARTITION_STATE);
}

#undef CC_TEST
#define CC_TEST(f) cmocka_unit_test_setup_teardown(f, setup, cc_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CC_TEST(test_local_apic),
		CC_TEST(test_xsave),
		CC_TEST(test_xsave_over_two_pages),
		CC_TEST(test_pages_of_the_synic),
		CC_TEST(test_timers),
		CC_TEST(test_what_is_not_there),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
