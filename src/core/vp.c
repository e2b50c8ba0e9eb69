// SPDX-License-Identifier: MIT
/* Life of a VP, its thread, and the registers that are its own. */
#include "core/vp.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "core/child.h"
#include "core/core_trace.h"
#include "core/hypercall.h"
#include "core/msr.h"

static void assist_reset(struct vp *vp)
{
	vp->assist_msr = partition_hv_page_gpa(vp->partition, vp->index, HV_PAGE_ASSIST);
}

static int init(struct vp *vp)
{
	for (u32 i = 0; i < HV_SYNIC_STIMER_COUNT; i++)
		stimer_init(&vp->stimer[i], vp, i);
	assist_reset(vp);
	vp->buffers = aligned_alloc(64, align_up(sizeof(*vp->buffers), 64));
	vp->hypercall_counts = calloc(hypercall_row_count(), sizeof(*vp->hypercall_counts));
	vp->msr_counts = calloc(msr_row_count(), sizeof(*vp->msr_counts));
	if (synic_init(&vp->synic, vp) || overlay_init(&vp->assist_page, "VP-assist") ||
	    !vp->buffers || !vp->hypercall_counts || !vp->msr_counts)
		return -ENOMEM;
	return 0;
}

int vp_create(struct partition *p, struct engine_vcpu *vcpu, struct vp **out)
{
	struct vp *vp = calloc(1, sizeof(*vp));

	if (!vp || p->vp_count == p->config.max_vps) {
		free(vp);
		return -ENOMEM;
	}
	*vp = (struct vp){ .partition = p, .index = p->vp_count, .vcpu = vcpu };
	pthread_mutex_init(&vp->dispatch_lock, NULL);
	p->vps[p->vp_count++] = vp; /* the partition destroys what is there if this fails */
	*out = vp;
	return init(vp);
}

int vp_create_child(struct partition *p, u32 index, struct engine_vcpu *vcpu,
		    struct child_vp *child, struct vp **out)
{
	struct vp *vp = calloc(1, sizeof(*vp));

	if (!vp)
		return -ENOMEM;
	*vp = (struct vp){ .partition = p, .index = index, .vcpu = vcpu };
	pthread_mutex_init(&vp->dispatch_lock, NULL);
	if (init(vp) < 0) {
		vp_destroy(vp);
		return -ENOMEM;
	}
	vp->child = child;
	child->vp = vp;
	*out = vp;
	/* KVM sets its clock anew for another vCPU: it is looked at again. */
	stimers_clock_changes(p);
	/* Whoever sees the count sees the VP, and whoever sees the VP all of it. */
	__atomic_store_n(&p->vps[index], vp, __ATOMIC_RELEASE);
	if (index >= p->vp_count)
		__atomic_store_n(&p->vp_count, index + 1, __ATOMIC_RELEASE);
	return 0;
}

void vp_destroy(struct vp *vp)
{
	if (!vp)
		return;
	synic_fini(&vp->synic);
	for (u32 i = 0; i < HV_SYNIC_STIMER_COUNT; i++)
		stimer_fini(&vp->stimer[i]);
	overlay_fini(&vp->assist_page);
	free(vp->buffers);
	free(vp->hypercall_counts);
	free(vp->msr_counts);
	if (vp->child)
		child_vp_free(vp);
	pthread_mutex_destroy(&vp->dispatch_lock);
	free(vp);
}

/*
 * With the local APIC's registers by MSR a VP is told by its assist page where no EOI is needed.
 * Not before the field is clear: a bit left there from before would lose an EOI.
 */
static void assist_lazy_eoi(struct vp *vp)
{
	bool on = vp->assist_page.enabled;

	if (!partition_has(vp->partition, HV_PRIV_ACCESS_INTR_CTRL_REGS))
		return;
	if (on) {
		__atomic_store_n((u32 *)overlay_open(&vp->assist_page), 0, __ATOMIC_RELAXED);
		overlay_close(&vp->assist_page);
	}
	vp->vcpu->ops->vcpu_lazy_eoi(vp->vcpu, on ? vp->assist_page.gpa : ~0ull);
}

void vp_reset(struct vp *vp)
{
	stimers_recall(vp);
	for (u32 i = 0; i < HV_SYNIC_STIMER_COUNT; i++)
		stimer_reset(&vp->stimer[i]);
	stimers_lend(vp);
	synic_reset(&vp->synic);
	overlay_set(vp->partition, &vp->assist_page, vp->assist_page.gpa, false);
	assist_lazy_eoi(vp);
	memset(vp->assist_page.own, 0, PAGE_BYTES);
	assist_reset(vp);
}

/* Fixed delivery to one local APIC in physical mode; the upper id bits as KVM's extension. */
void vp_interrupt(struct vp *vp, u8 vector)
{
	u32 id = vp->vcpu->id;
	u64 address = 0xFEE00000ull | (id & 0xFF) << 12 | (u64)(id & 0xFFFFFF00) << 32;

	core_emit(TRACE_INTERRUPT, vp->index, vector, TRACE_WORD(vp->partition->hv->name));
	if (engine_vm_msi(vp->partition->vm, address, vector) < 0)
		log_limited(LOG_ERROR, "an interrupt for VP %u could not be delivered", vp->index);
	vp_kick_dispatched(vp);
}

/* Who dispatches shows it first and then looks for attention. */
void vp_kick_dispatched(struct vp *vp)
{
	struct vp *by = vp->inner ? vp->inner : vp;

	__atomic_store_n(&by->attention, true, __ATOMIC_SEQ_CST);
	if (likely(!__atomic_load_n(&by->dispatched, __ATOMIC_SEQ_CST)))
		return;
	pthread_mutex_lock(&by->dispatch_lock);
	if (by->dispatched) {
		__atomic_store_n(&by->wanted, true, __ATOMIC_SEQ_CST);
		engine_vcpu_kick(by->dispatched->vcpu);
	}
	pthread_mutex_unlock(&by->dispatch_lock);
}

void vp_kick(struct vp *vp)
{
	engine_vcpu_kick(vp->vcpu);
	vp_kick_dispatched(vp);
}

u64 vp_runtime_100ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (u64)ts.tv_sec * 10000000u + (u64)ts.tv_nsec / 100;
}

void vp_runtime_publish(struct vp *vp)
{
	if (pthread_getcpuclockid(pthread_self(), &vp->runtime_clock) == 0)
		__atomic_store_n(&vp->runtime_known, true, __ATOMIC_RELEASE);
}

u64 vp_runtime_of(const struct vp *vp)
{
	struct timespec ts;

	u64 dispatched = 0;

	if (vp->child)
		dispatched = __atomic_load_n(&vp->child->dispatched_100ns, __ATOMIC_RELAXED);
	if (!__atomic_load_n(&vp->runtime_known, __ATOMIC_ACQUIRE) ||
	    clock_gettime(vp->runtime_clock, &ts) < 0)
		return dispatched;
	return dispatched + (u64)ts.tv_sec * 10000000u + (u64)ts.tv_nsec / 100;
}

static enum vp_fault vp_index_read(struct vp *vp, u32 i, u64 *value)
{
	*value = vp->index;
	return VP_OK;
}

/* A parent may ask for its child's. */
static enum vp_fault runtime_read(struct vp *vp, u32 i, u64 *value)
{
	*value = vp->child ? vp_runtime_of(vp) : vp_runtime_100ns();
	return VP_OK;
}

static enum vp_fault assist_read(struct vp *vp, u32 i, u64 *value)
{
	*value = vp->assist_msr;
	return VP_OK;
}

static enum vp_fault assist_write(struct vp *vp, u32 i, u64 value)
{
	if (overlay_set(vp->partition, &vp->assist_page, value & HV_MSR_PAGE_GPN_MASK,
			value & HV_MSR_PAGE_ENABLE) < 0)
		return VP_FAULT_GP;
	vp->assist_msr = value & (HV_MSR_PAGE_GPN_MASK | HV_MSR_PAGE_ENABLE);
	assist_lazy_eoi(vp);
	return VP_OK;
}

/*
 * Idle until an interrupt is pending, even one the guest has masked. The local
 * APIC is the engine's and tells nobody, so it is asked, at growing intervals;
 * a return without an interrupt is allowed and ends the wait at the latest after
 * IDLE_MAX_US.
 */
#define IDLE_MAX_US 10000
/* Where a timer may be due of which nobody is told. */
#define IDLE_LENT_US 500

static enum vp_fault guest_idle_read(struct vp *vp, u32 i, u64 *value)
{
	u32 most = stimers_lent(vp) ? IDLE_LENT_US : IDLE_MAX_US;
	u32 slept = 0;

	for (u32 us = 50; slept < most; us *= 2) {
		struct timespec ts = { 0, (long)us * 1000 };

		/* Its parent's thread has better to do, and no interrupt is an interrupt too. */
		if (vp->vcpu->ops->vcpu_irq_pending(vp->vcpu) != 0 || child_vp_dispatched(vp) ||
		    partition_stop_reason(vp->partition) != STOP_NONE)
			break;
		clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, NULL);
		slept += us;
	}
	*value = 0;
	return VP_OK;
}

const struct msr_desc vp_msrs[] = {
	{ HV_X64_MSR_VP_INDEX, 1, "VP_INDEX", vp_index_read, NULL,
	  .privilege = HV_PRIV_ACCESS_VP_INDEX, .nested = true },
	{ HV_X64_MSR_VP_RUNTIME, 1, "VP_RUNTIME", runtime_read, NULL,
	  .privilege = HV_PRIV_ACCESS_VP_RUNTIME },
	{ HV_X64_MSR_EOI, 1, "EOI", .privilege = HV_PRIV_ACCESS_INTR_CTRL_REGS, .engines = true },
	{ HV_X64_MSR_ICR, 1, "ICR", .privilege = HV_PRIV_ACCESS_INTR_CTRL_REGS, .engines = true },
	{ HV_X64_MSR_TPR, 1, "TPR", .privilege = HV_PRIV_ACCESS_INTR_CTRL_REGS, .engines = true },
	/* Linux writes it whatever the interrupt-controller privilege says. */
	{ HV_X64_MSR_VP_ASSIST_PAGE, 1, "VP_ASSIST_PAGE", assist_read, assist_write },
	{ HV_X64_MSR_GUEST_IDLE, 1, "GUEST_IDLE", guest_idle_read, NULL,
	  .privilege = HV_PRIV_ACCESS_GUEST_IDLE },
	{ 0 },
};
