// SPDX-License-Identifier: MIT
/* A child's registers and state pages, as its parent reaches them. */
#include "core/child_parent_test.h"

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
	struct hypercall_regs regs = { HVCALL_GET_VP_REGISTERS | 1ull << 32, 0, 0, true };
	u64 result;

	/* It has no memory, so nothing is read of it: refused before. */
	assert_int_equal(hypercall_execute(vp, &regs, &result), VP_OK);
	assert_int_equal(result & 0xFFFF, HV_STATUS_ACCESS_DENIED);
	/* And the parent does not reach another's. */
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_CHILD(test_every_name_that_a_vmm_uses_is_there),
		TEST_CHILD(test_registers_keep_what_a_parent_writes),
		TEST_CHILD(test_special_registers_are_judged_when_the_vp_runs),
		TEST_CHILD(test_a_list_ends_at_its_first_bad_element),
		TEST_CHILD(test_events_that_cannot_be_are_refused),
		TEST_CHILD(test_a_child_reaches_its_own_by_its_own_privileges),
		TEST_CHILD(test_the_register_page_is_current_and_its_changes_count),
		TEST_CHILD(test_state_pages_that_are_not_offered),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
