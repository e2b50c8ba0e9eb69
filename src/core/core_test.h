/* SPDX-License-Identifier: MIT */
/*
 * What tests and fuzz targets of the core stand on: a hypervisor with a
 * partition and its VPs over the fake engine, RAM at GPA 0, timers that fire
 * when the clock is moved by hand. Nested: the same VPs are a root of "L1", with
 * outer VPs in a partition of "L0" over the same memory and vCPUs.
 */
#ifndef NESTOR_CORE_CORE_TEST_H
#define NESTOR_CORE_CORE_TEST_H

#include <stdlib.h>
#include <string.h>

#include "core/child.h"
#include "core/hypercall.h"
#include "core/msr.h"
#include "core/port.h"
#include "core/vp.h"
#include "engine/fake/fake.h"

#define TEST_RAM_BYTES	   (4 * MIB)
#define TEST_HOLE_GPA	   (16 * MIB) /* addressable, nothing behind it */
#define TEST_PHYSICAL_BITS 36
#define TEST_VPS_MAX	   80 /* more than one bank of a VP set */
#define TEST_OS_ID	   0x8100000601000000ull

/* The mask of the guest role, and everything there is. */
#define TEST_GUEST_PRIVILEGES                                                                      \
	(HV_PRIV_ACCESS_VP_RUNTIME | HV_PRIV_ACCESS_REF_COUNTER | HV_PRIV_ACCESS_SYNIC_REGS |      \
	 HV_PRIV_ACCESS_SYNTHETIC_TIMERS | HV_PRIV_ACCESS_INTR_CTRL_REGS |                         \
	 HV_PRIV_ACCESS_HYPERCALL_MSRS | HV_PRIV_ACCESS_VP_INDEX | HV_PRIV_ACCESS_RESET |          \
	 HV_PRIV_ACCESS_REF_TSC | HV_PRIV_ACCESS_GUEST_IDLE | HV_PRIV_ACCESS_FREQUENCY |           \
	 HV_PRIV_ACCESS_TSC_INVARIANT | HV_PRIV_POST_MESSAGES | HV_PRIV_SIGNAL_EVENTS)
#define TEST_ALL_PRIVILEGES (~0ull)
#define TEST_FEATURES	    (HV_FEATURE_FREQUENCY_MSRS | HV_FEATURE_CRASH_MSRS | HV_FEATURE_STIMER_DIRECT)
#define TEST_ALL_FEATURES   (~0u)

struct core_test_config {
	u32 vps;	      /* 0: one */
	bool nested;	      /* the VPs have outer VPs */
	u64 privileges;	      /* 0: all */
	u64 outer_privileges; /* 0: the same */
	u32 features;	      /* 0: all; CORE_TEST_NONE: none */
	u64 hv_pages_gpa;
	bool lends_timers;
	u64 ram_bytes; /* 0: TEST_RAM_BYTES */
	u8 *ram;       /* page-aligned, the caller's; NULL: allocated */
};
#define CORE_TEST_NONE BIT(31) /* a feature bit without a meaning */

struct core_test {
	struct engine_vm *vm;
	struct engine_vcpu *vcpu[TEST_VPS_MAX];
	u8 *ram;
	struct gmem_backing own_ram;
	u64 ram_bytes;
	struct gmem gmem;
	struct refclock clock;
	struct timer_service *timers;
	struct hypervisor hv, hv_outer;
	struct partition *p, *outer;
	struct vp *vp[TEST_VPS_MAX], *outer_vp[TEST_VPS_MAX];
	u32 vps;

	/* What went up. */
	u32 ios, eois, crashes, stops;
	struct crash_report crash;
	struct vp *crash_vp;
};

static inline void core_test_io(void *ctx, struct vp *vp, struct engine_exit *exit)
{
	((struct core_test *)ctx)->ios++;
	if (exit->kind == ENGINE_EXIT_IO && !exit->io.write && exit->io.data)
		memset(exit->io.data, 0xFF, (size_t)exit->io.size * exit->io.count);
}

static inline void core_test_eoi(void *ctx, struct vp *vp, u8 vector)
{
	((struct core_test *)ctx)->eois++;
}

static inline void core_test_crash(void *ctx, struct vp *vp, const struct crash_report *report)
{
	struct core_test *ct = ctx;

	ct->crashes++;
	ct->crash = *report;
	ct->crash_vp = vp;
}

static inline void core_test_stopped(void *ctx, struct partition *p)
{
	((struct core_test *)ctx)->stops++;
}

static const struct partition_ops core_test_ops = { core_test_io, core_test_eoi, core_test_crash,
						    core_test_stopped };

static inline struct partition *core_test_partition(struct core_test *ct, struct hypervisor *hv,
						    const struct core_test_config *cfg,
						    struct vp **vp)
{
	const struct partition_config pc = {
		.privileges = cfg->privileges ? cfg->privileges : TEST_ALL_PRIVILEGES,
		.features_edx = cfg->features ? cfg->features : TEST_ALL_FEATURES,
		.hints = HV_HINT_RELAXED_TIMING | HV_HINT_DEPRECATE_AUTO_EOI,
		.max_vps = ct->vps,
		.max_lps = ct->vps,
		.build = 0x6C61,
		.physical_bits = TEST_PHYSICAL_BITS,
		.hv_pages_gpa = cfg->hv_pages_gpa,
		.lends_timers = cfg->lends_timers && hv == &ct->hv,
	};
	struct partition *p = NULL;
	int ret = partition_create(hv, &pc, &ct->gmem, ct->vm, &core_test_ops, ct, &p);

	assert(!ret);
	for (u32 i = 0; i < ct->vps; i++) {
		ret = vp_create(p, ct->vcpu[i], &vp[i]);
		assert(!ret);
	}
	return p;
}

/* A file of its own, so that children can map it, unless the caller brings memory. */
static inline int core_test_ram(struct core_test *ct, u8 *ram)
{
	ct->ram = ram;
	if (ram) {
		memset(ram, 0, ct->ram_bytes);
		return gmem_add(&ct->gmem, 0, ct->ram_bytes, ram, GMEM_RAM);
	}
	if (gmem_backing_create(&ct->own_ram, "test-ram", ct->ram_bytes, true) < 0)
		return -1;
	ct->ram = ct->own_ram.hva;
	return gmem_add_backing(&ct->gmem, 0, ct->ram_bytes, &ct->own_ram, 0, GMEM_RAM);
}

static inline void core_test_create(struct core_test *ct, const struct core_test_config *cfg)
{
	const struct engine_vm_config vm_cfg = { .max_vcpus = TEST_VPS_MAX,
						 .hypercall_port = HYPERCALL_PORT,
						 .trap_msrs = true };
	int ret;

	memset(ct, 0, sizeof(*ct));
	ct->vps = cfg->vps ? cfg->vps : 1;
	ret = engine_vm_create(&fake_engine, &vm_cfg, &ct->vm);
	ct->ram_bytes = cfg->ram_bytes ? cfg->ram_bytes : TEST_RAM_BYTES;
	assert(!ret);
	ret = gmem_init(&ct->gmem) || core_test_ram(ct, cfg->ram) ||
	      ct->vm->ops->vm_map(ct->vm, 0, ct->ram_bytes, ct->ram, true) ||
	      refclock_init(&ct->clock, ct->vm);
	assert(!ret);
	ct->timers = timer_service_create(refclock_now_ns, &ct->clock, true);
	assert(ct->timers);
	/* APIC ids differ from VP indices, so that mixing them up shows. */
	for (u32 i = 0; i < ct->vps; i++) {
		ret = ct->vm->ops->vcpu_create(ct->vm, i * 2, &ct->vcpu[i]);
		assert(!ret);
	}
	hypervisor_init(&ct->hv, cfg->nested ? "L1" : "hv", &ct->clock, ct->timers);
	hypervisor_init(&ct->hv_outer, "L0", &ct->clock, ct->timers);
	ct->hv.engine = &fake_engine;
	ct->p = core_test_partition(ct, &ct->hv, cfg, ct->vp);
	if (cfg->nested) {
		struct core_test_config outer = *cfg;

		if (cfg->outer_privileges)
			outer.privileges = cfg->outer_privileges;
		ct->outer = core_test_partition(ct, &ct->hv_outer, &outer, ct->outer_vp);
		ct->outer->inner = ct->p;
		for (u32 i = 0; i < ct->vps; i++)
			vp_nest(ct->vp[i], ct->outer_vp[i]);
	}
	fake_forget(ct->vm);
}

static inline void core_test_destroy(struct core_test *ct)
{
	children_destroy(ct->p);
	timer_service_stop(ct->timers);
	partition_destroy(ct->p);
	partition_destroy(ct->outer);
	timer_service_destroy(ct->timers);
	for (u32 i = 0; i < ct->vps; i++)
		ct->vm->ops->vcpu_destroy(ct->vcpu[i]);
	gmem_fini(&ct->gmem);
	ct->vm->ops->vm_destroy(ct->vm);
	gmem_backing_destroy(&ct->own_ram);
}

/* Moves the clock and lets timers fire. */
static inline void core_test_advance(struct core_test *ct, u64 units_100ns)
{
	fake_advance_100ns(ct->vm, units_100ns);
	timer_service_run(ct->timers);
}

static inline u64 core_test_read(struct vp *vp, u32 msr)
{
	u64 value;
	enum vp_fault fault = msr_read(vp, msr, &value);

	assert(fault == VP_OK);
	return value;
}

static inline void core_test_write(struct vp *vp, u32 msr, u64 value)
{
	enum vp_fault fault = msr_write(vp, msr, value);

	assert(fault == VP_OK);
}

/* Status of a hypercall of VP @index with input and output in memory. */
static inline u16 core_test_call(struct core_test *ct, u32 index, u64 control, const void *input,
				 u32 bytes, u64 in_gpa, u64 out_gpa)
{
	const struct hypercall_regs regs = { control, in_gpa, out_gpa, true };
	enum vp_fault fault;
	u64 result;

	memcpy(ct->ram + in_gpa, input, bytes);
	fault = hypercall_execute(ct->vp[index], &regs, &result);
	assert(fault == VP_OK);
	return (u16)result;
}

/* Of a child: its thread has not parked. */
static inline bool core_test_in_guest(struct vp *vp)
{
	struct child *c = vp->partition->child;
	bool in;

	pthread_mutex_lock(&c->vp_lock);
	in = vp->child->in_guest;
	pthread_mutex_unlock(&c->vp_lock);
	return in;
}

/* The SynIC of @vp as a guest's driver sets it up: pages at @gpa and the one after it. */
static inline void core_test_synic_on(struct vp *vp, u64 gpa)
{
	core_test_write(vp, HV_X64_MSR_SIMP, gpa | HV_MSR_PAGE_ENABLE);
	core_test_write(vp, HV_X64_MSR_SIEFP, (gpa + PAGE_BYTES) | HV_MSR_PAGE_ENABLE);
	core_test_write(vp, HV_X64_MSR_SCONTROL, HV_SCONTROL_ENABLE);
}

#endif
