/* SPDX-License-Identifier: MIT */
/*
 * For tests of calls that name a child: a parent with two VPs over the fake engine
 * that has created a partition with two VPs, by the calls a parent makes.
 */
#ifndef NESTOR_CORE_CHILD_CALL_TEST_H
#define NESTOR_CORE_CHILD_CALL_TEST_H

#include "core/core_test.h"

#define CC_IN_GPA     0x20000ull
#define CC_OUT_GPA    0x21000ull
#define CC_POOL_GPN   0x200ull /* deposits come from here on */
#define CC_POOL_PAGES 64u
#define CC_VPS	      2u

struct child_calls {
	struct core_test ct;
	struct partition *p; /* the child */
	struct vp *vp[CC_VPS];
	u64 next_gpn;
};

static struct child_calls cc;

/* Result value of the call with @input in memory. */
static inline u64 cc_result(u64 control, const void *input, u32 bytes)
{
	const struct hypercall_regs regs = { control, CC_IN_GPA, CC_OUT_GPA, true };
	enum vp_fault fault;
	u64 result;

	if (bytes)
		memcpy(cc.ct.ram + CC_IN_GPA, input, bytes);
	fault = hypercall_execute(cc.ct.vp[0], &regs, &result);
	assert(fault == VP_OK);
	return result;
}

static inline enum hv_status cc_call(u64 control, const void *input, u32 bytes)
{
	return (enum hv_status)(cc_result(control, input, bytes) & 0xFFFF);
}

#define CC_CALL(code, in) cc_call(code, &(in), sizeof(in))

static inline void *cc_out(void)
{
	return cc.ct.ram + CC_OUT_GPA;
}

static inline void cc_deposit(u64 partition_id, u32 pages)
{
	struct {
		u64 partition_id, gpn[CC_POOL_PAGES];
	} in = { .partition_id = partition_id };

	for (u32 i = 0; i < pages; i++)
		in.gpn[i] = cc.next_gpn++;
	assert(cc_call(HVCALL_DEPOSIT_MEMORY | (u64)pages << 32, &in, sizeof(in)) ==
	       HV_STATUS_SUCCESS);
}

static inline void cc_create_vp(u32 index)
{
	struct hv_input_create_vp in = { .partition_id = cc.p->id, .vp_index = index };

	assert(CC_CALL(HVCALL_CREATE_VP, in) == HV_STATUS_SUCCESS);
	if (index < CC_VPS)
		cc.vp[index] = child_vp(cc.p, index);
}

static inline enum hv_status cc_on_child(u16 code)
{
	struct hv_input_partition in = { cc.p->id };

	return CC_CALL(code, in);
}

/* A child that is not initialized yet. */
static inline void cc_create(void)
{
	const struct core_test_config cfg = { .vps = 2 };
	struct hv_input_create_partition in = { .flags = HV_CREATE_LAPIC | HV_CREATE_X2APIC };
	struct hypercall hc;

	memset(&cc, 0, sizeof(cc));
	core_test_create(&cc.ct, &cfg);
	cc.next_gpn = CC_POOL_GPN;
	cc_deposit(HV_PARTITION_ID_SELF, CC_POOL_PAGES);
	assert(CC_CALL(HVCALL_CREATE_PARTITION, in) == HV_STATUS_SUCCESS);
	hc = (struct hypercall){ .vp = cc.ct.vp[0] };
	cc.p = child_get(&hc, *(u64 *)cc_out());
	assert(cc.p);
	child_put(cc.p);
}

static inline int cc_setup(void **state)
{
	cc_create();
	cc_deposit(cc.p->id, CC_POOL_PAGES);
	if (cc_on_child(HVCALL_INITIALIZE_PARTITION) != HV_STATUS_SUCCESS)
		return -1;
	for (u32 i = 0; i < CC_VPS; i++)
		cc_create_vp(i);
	fake_forget(cc.p->vm);
	return 0;
}

static inline int cc_teardown(void **state)
{
	core_test_destroy(&cc.ct);
	return 0;
}

#define CC_TEST(f) cmocka_unit_test_setup_teardown(f, cc_setup, cc_teardown)

#endif
