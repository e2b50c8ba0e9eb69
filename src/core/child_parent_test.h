/* SPDX-License-Identifier: MIT */
/*
 * For tests of children by what their parent calls: a parent with two VPs over the fake engine, the
 * calls it makes, and a child with two VPs (setup_child()).
 */
#ifndef NESTOR_CORE_CHILD_PARENT_TEST_H
#define NESTOR_CORE_CHILD_PARENT_TEST_H

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

static inline u16 call_from(u32 caller, u64 control, const void *input, u32 bytes)
{
	return core_test_call(&ct, caller, control, input, bytes, IN_GPA + caller * PAGE_BYTES,
			      OUT_GPA + caller * PAGE_BYTES);
}

static inline u16 call(u64 control, const void *input, u32 bytes)
{
	return call_from(0, control, input, bytes);
}

static inline u64 out64(u32 caller)
{
	u64 value;

	memcpy(&value, ct.ram + OUT_GPA + caller * PAGE_BYTES, sizeof(value));
	return value;
}

static inline void deposit(u64 id, u32 pages)
{
	u64 input[2] = { id };

	while (pages--) {
		input[1] = next_gpn++;
		assert_int_equal(call(HVCALL_DEPOSIT_MEMORY | 1ull << 32, input, sizeof(input)), 0);
	}
}

static inline u32 withdraw_all(u64 id)
{
	const struct hv_input_withdraw in = { id };
	u32 pages = 0;

	while (call(HVCALL_WITHDRAW_MEMORY | 1ull << 32, &in, sizeof(in)) == 0)
		pages++;
	return pages;
}

static inline u16 simple_from(u32 caller, u16 code, u64 id)
{
	return call_from(caller, code, &id, sizeof(id));
}

static inline u16 simple(u16 code, u64 id)
{
	return simple_from(0, code, id);
}

static inline u64 create_flags(u64 flags)
{
	const struct hv_input_create_partition in = { .flags = flags };

	assert_int_equal(call(HVCALL_CREATE_PARTITION, &in, sizeof(in)), 0);
	return out64(0);
}

static inline u64 create(void)
{
	return create_flags(HV_CREATE_LAPIC | HV_CREATE_EXO);
}

static inline u16 create_vp(u64 id, u32 index)
{
	const struct hv_input_create_vp in = { .partition_id = id, .vp_index = index };

	return call(HVCALL_CREATE_VP, &in, sizeof(in));
}

static inline u16 delete_vp(u64 id, u32 index)
{
	const struct hv_input_delete_vp in = { .partition_id = id, .vp_index = index };

	return call(HVCALL_DELETE_VP, &in, sizeof(in));
}

static inline u16 set_property(u64 id, u32 code, u64 value)
{
	const struct hv_input_set_partition_property in = { id, code, 0, value };

	return call(HVCALL_SET_PARTITION_PROPERTY, &in, sizeof(in));
}

static inline u16 get_property(u64 id, u32 code)
{
	const struct hv_input_get_partition_property in = { id, code, 0 };

	return call(HVCALL_GET_PARTITION_PROPERTY, &in, sizeof(in));
}

static inline u16 set_regs(u32 caller, u64 id, u32 vp, const struct hv_register_assoc *list, u32 n)
{
	u8 input[PAGE_BYTES];
	const struct hv_input_vp_registers header = { .partition_id = id, .vp_index = vp };

	memcpy(input, &header, sizeof(header));
	memcpy(input + sizeof(header), list, n * sizeof(*list));
	return call_from(caller, HVCALL_SET_VP_REGISTERS | (u64)n << 32, input,
			 (u32)(sizeof(header) + n * sizeof(*list)));
}

static inline u16 set_reg(u64 id, u32 vp, u32 name, u64 low, u64 high)
{
	const struct hv_register_assoc a = { .name = name, .value = { low, high } };

	return set_regs(0, id, vp, &a, 1);
}

static inline u16 get_reg(u64 id, u32 vp, u32 name, struct hv_register_value *v)
{
	struct {
		struct hv_input_vp_registers header;
		u32 name;
	} in = { { .partition_id = id, .vp_index = vp }, name };
	u16 status = call(HVCALL_GET_VP_REGISTERS | 1ull << 32, &in, sizeof(in));

	memcpy(v, ct.ram + OUT_GPA, sizeof(*v));
	return status;
}

static inline u64 reg(u64 id, u32 vp, u32 name)
{
	struct hv_register_value v;

	assert_int_equal(get_reg(id, vp, name, &v), 0);
	return v.low;
}

/* As Linux resumes a VP: both registers in one call. */
static inline void resume_from(u32 caller, u64 id, u32 vp)
{
	const struct hv_register_assoc list[] = { { .name = HvRegisterInterceptSuspend },
						  { .name = HvRegisterExplicitSuspend } };

	assert_int_equal(set_regs(caller, id, vp, list, 2), 0);
}

static inline u64 map_page(u64 id, u32 vp, u16 type)
{
	const struct hv_input_map_vp_state_page in = {
		.page = { .partition_id = id, .vp_index = vp, .type = type }
	};

	assert_int_equal(call(HVCALL_MAP_VP_STATE_PAGE, &in, sizeof(in)), 0);
	return out64(0);
}

static inline u16 unmap_page(u64 id, u32 vp, u16 type)
{
	const struct hv_input_unmap_vp_state_page in = { id, vp, type };

	return call(HVCALL_UNMAP_VP_STATE_PAGE, &in, sizeof(in));
}

static inline struct partition *child(u64 id)
{
	struct hypercall hc = { .vp = ct.vp[0] };
	struct partition *p = child_get(&hc, id);

	if (p)
		child_put(p);
	return p;
}

static inline struct vp *vp_of(u64 id, u32 index)
{
	return partition_vp(child(id), index);
}

/* What the parent sees of an intercept on @caller, taken out of the slot as it does. */
static inline bool take_message(u32 caller, u64 *sender, u32 *vp)
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

static inline bool wait_message(u32 caller, u64 *sender, u32 *vp)
{
	for (u32 ms = 0; ms < 5000; ms++) {
		struct timespec ts = { 0, 1000000 };

		if (take_message(caller, sender, vp))
			return true;
		nanosleep(&ts, NULL);
	}
	return false;
}

static inline int setup(void **state)
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

static inline int teardown(void **state)
{
	core_test_destroy(&ct);
	return 0;
}

/* With an active child that has VPs 0 and 1. */
static inline int setup_child(void **state)
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

static inline void push(u32 vp, const struct engine_exit *exit)
{
	const struct fake_step step = { .exit = *exit };

	fake_push(vp_of(child_id, vp)->vcpu, &step);
}

#define TEST(t)	      cmocka_unit_test_setup_teardown(t, setup, teardown)
#define TEST_CHILD(t) cmocka_unit_test_setup_teardown(t, setup_child, teardown)

#endif
