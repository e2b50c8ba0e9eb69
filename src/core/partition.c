// SPDX-License-Identifier: MIT
/* Life of a partition, and the registers that belong to it as a whole. */
#include "core/partition.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "core/child.h"
#include "core/child_port.h"
#include "core/core_trace.h"
#include "core/doorbell.h"
#include "core/hypercall.h"
#include "core/intercept.h"
#include "core/msr.h"
#include "core/port.h"
#include "core/vp.h"

/* The hypercall page. Position independent: a root calls its own copy. */
static const u8 endbr64[] = { 0xF3, 0x0F, 0x1E, 0xFA };
/* IN EAX, 0x7C; RET. */
static const u8 hypercall_code[] = { 0xE5, HYPERCALL_PORT, 0xC3 };
/* A child's: the trap has three bytes, as VMCALL has, for a parent that skips one. */
static const u8 child_code[] = { 0x3E, 0xE5, HYPERCALL_PORT, 0xC3 };

void hypervisor_init(struct hypervisor *hv, const char *name, struct refclock *clock,
		     struct timer_service *timers)
{
	*hv = (struct hypervisor){
		.name = name, .clock = clock, .timers = timers, .next_partition_id = 1
	};
	list_init(&hv->children);
	pthread_mutex_init(&hv->children_lock, NULL);
}

u64 partition_hv_page_gpa(const struct partition *p, u32 index, enum hv_page page)
{
	u64 n = HV_PAGES_SHARED + (u64)index * HV_PAGES_PER_VP + page;

	return p->config.hv_pages_gpa ? p->config.hv_pages_gpa + n * PAGE_BYTES : 0;
}

static void registers_reset(struct partition *p)
{
	u64 base = p->config.hv_pages_gpa;

	p->guest_os_id = 0;
	p->hypercall_msr = base;
	p->tsc_msr = base ? base + PAGE_BYTES : 0;
	p->tsc_invariant = 0;
	memset(&p->crash, 0, sizeof(p->crash));
	__atomic_store_n(&p->hypercall_enabled, false, __ATOMIC_RELEASE);
}

int partition_create(struct hypervisor *hv, const struct partition_config *cfg, struct gmem *gmem,
		     struct engine_vm *vm, const struct partition_ops *ops, void *ctx,
		     struct partition **out)
{
	struct partition *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	*p = (struct partition){ .hv = hv,
				 .id = __atomic_fetch_add(&hv->next_partition_id, 1,
							  __ATOMIC_RELAXED),
				 .config = *cfg,
				 .gmem = gmem,
				 .vm = vm,
				 .ops = ops,
				 .ctx = ctx,
				 .clock = hv->clock,
				 .timers = hv->timers,
				 .lends_timers = cfg->lends_timers && !trace_on };
	list_init(&p->overlays);
	pthread_mutex_init(&p->lock, NULL);
	pthread_mutex_init(&p->overlay_lock, NULL);
	pthread_rwlock_init(&p->connections_lock, NULL);
	deposit_init(&p->deposit, gmem);
	root_init(&p->root);
	registers_reset(p);
	p->vps = calloc(cfg->max_vps, sizeof(*p->vps));
	if (!p->vps || overlay_init(&p->hypercall_page, "hypercall") ||
	    overlay_init(&p->tsc_page, "reference-TSC")) {
		partition_destroy(p);
		return -ENOMEM;
	}
	*out = p;
	return 0;
}

void partition_destroy(struct partition *p)
{
	if (!p)
		return;
	child_ports_destroy(p->ports);
	for (u32 i = p->vp_count; i-- > 0;)
		vp_destroy(p->vps[i]);
	connections_destroy(p);
	deposit_fini(&p->deposit);
	root_fini(&p->root);
	overlay_fini(&p->hypercall_page);
	overlay_fini(&p->tsc_page);
	pthread_mutex_destroy(&p->lock);
	pthread_mutex_destroy(&p->overlay_lock);
	pthread_rwlock_destroy(&p->connections_lock);
	if (p->child)
		child_free(p);
	free(p->vps);
	free(p);
}

void partition_reset(struct partition *p)
{
	pthread_mutex_lock(&p->lock);
	overlay_set(p, &p->hypercall_page, p->hypercall_page.gpa, false);
	overlay_set(p, &p->tsc_page, p->tsc_page.gpa, false);
	registers_reset(p);
	pthread_mutex_unlock(&p->lock);
	for (u32 i = 0; i < p->vp_count; i++)
		if (p->vps[i])
			vp_reset(p->vps[i]);
}

void partition_stop(struct partition *p, enum stop_reason reason, int code, const char *fmt, ...)
{
	bool first;
	va_list ap;

	pthread_mutex_lock(&p->lock);
	first = p->stop == STOP_NONE;
	if (first) {
		va_start(ap, fmt);
		vsnprintf(p->stop_text, sizeof(p->stop_text), fmt, ap);
		va_end(ap);
		p->stop_code = code;
		__atomic_store_n(&p->stop, reason, __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&p->lock);
	if (first && p->ops->stopped)
		p->ops->stopped(p->ctx, p);
}

/* A page register of the partition: lays the page over what the guest names. */
static int page_set(struct partition *p, struct overlay *page, u64 value)
{
	return overlay_set(p, page, value & HV_MSR_PAGE_GPN_MASK, value & HV_MSR_PAGE_ENABLE);
}

static enum vp_fault guest_os_id_read(struct vp *vp, u32 i, u64 *value)
{
	pthread_mutex_lock(&vp->partition->lock);
	*value = vp->partition->guest_os_id;
	pthread_mutex_unlock(&vp->partition->lock);
	return VP_OK;
}

/* Clearing the identity disables the hypercall page. TLFS: hypercall-interface. */
static enum vp_fault guest_os_id_write(struct vp *vp, u32 i, u64 value)
{
	struct partition *p = vp->partition;

	pthread_mutex_lock(&p->lock);
	p->guest_os_id = value;
	if (value == 0) {
		p->hypercall_msr &= ~HV_MSR_PAGE_ENABLE;
		page_set(p, &p->hypercall_page, p->hypercall_msr);
		__atomic_store_n(&p->hypercall_enabled, false, __ATOMIC_RELEASE);
		for (u32 n = 0; n < p->vp_count; n++)
			if (partition_vp(p, n))
				synic_rings_restart(&p->vps[n]->synic);
	}
	pthread_mutex_unlock(&p->lock);
	if (value == 0)
		root_kernel_ends(p);
	return VP_OK;
}

static enum vp_fault hypercall_read(struct vp *vp, u32 i, u64 *value)
{
	pthread_mutex_lock(&vp->partition->lock);
	*value = vp->partition->hypercall_msr;
	pthread_mutex_unlock(&vp->partition->lock);
	return VP_OK;
}

static void hypercall_page_fill(const struct partition *p, u8 *page)
{
	memset(page, 0, PAGE_BYTES);
	memcpy(page, endbr64, sizeof(endbr64));
	page += sizeof(endbr64);
	if (p->child)
		memcpy(page, child_code, sizeof(child_code));
	else if (doorbell_wanted(p))
		doorbell_code_put(page);
	else
		memcpy(page, hypercall_code, sizeof(hypercall_code));
}

/*
 * Without a guest identity the enable bit cannot be set: it reads back as zero.
 * A locked register ignores writes until reset.
 */
static enum vp_fault hypercall_write(struct vp *vp, u32 i, u64 value)
{
	struct partition *p = vp->partition;
	int ret = 0;

	pthread_mutex_lock(&p->lock);
	if (p->hypercall_msr & HV_HYPERCALL_LOCKED)
		goto unlock;
	if (p->guest_os_id == 0)
		value &= ~HV_MSR_PAGE_ENABLE;
	/* Over RAM the guest could write to it: the contents are made anew. */
	if (!p->hypercall_page.enabled)
		hypercall_page_fill(p, p->hypercall_page.own);
	ret = page_set(p, &p->hypercall_page, value);
	if (ret)
		goto unlock;
	p->hypercall_msr =
		value & (HV_MSR_PAGE_GPN_MASK | HV_MSR_PAGE_ENABLE | HV_HYPERCALL_LOCKED);
	__atomic_store_n(&p->hypercall_enabled, value & HV_MSR_PAGE_ENABLE, __ATOMIC_RELEASE);
unlock:
	pthread_mutex_unlock(&p->lock);
	return ret ? VP_FAULT_GP : VP_OK;
}

static enum vp_fault reset_read(struct vp *vp, u32 i, u64 *value)
{
	*value = 0;
	return VP_OK;
}

static enum vp_fault reset_write(struct vp *vp, u32 i, u64 value)
{
	if (!(value & 1))
		return VP_OK;
	if (vp->child) /* its parent resets it, as after a triple fault */
		intercept_triple_fault(vp);
	else
		partition_stop(vp->partition, STOP_RESET, 0,
			       "reset by the hypervisor's RESET register");
	return VP_OK;
}

static enum vp_fault crash_read(struct vp *vp, u32 i, u64 *value)
{
	pthread_mutex_lock(&vp->partition->lock);
	*value = vp->partition->crash.parameter[i];
	pthread_mutex_unlock(&vp->partition->lock);
	return VP_OK;
}

static enum vp_fault crash_write(struct vp *vp, u32 i, u64 value)
{
	pthread_mutex_lock(&vp->partition->lock);
	vp->partition->crash.parameter[i] = value;
	pthread_mutex_unlock(&vp->partition->lock);
	return VP_OK;
}

static enum vp_fault crash_ctl_read(struct vp *vp, u32 i, u64 *value)
{
	*value = HV_CRASH_CTL_NOTIFY | HV_CRASH_CTL_MESSAGE;
	return VP_OK;
}

/* With bit 62 parameter 3 is the address of the text and parameter 4 its length. */
static void crash_message(struct partition *p, struct crash_report *r)
{
	u64 len = min_u64(r->parameter[4], sizeof(r->message));

	if (!(r->control & HV_CRASH_CTL_MESSAGE) || !r->parameter[3])
		return;
	if (gmem_read(p->gmem, r->parameter[3], r->message, len) == 0)
		r->message_bytes = (u32)len;
}

static enum vp_fault crash_ctl_write(struct vp *vp, u32 i, u64 value)
{
	struct partition *p = vp->partition;
	struct crash_report *report;

	if (!(value & HV_CRASH_CTL_NOTIFY))
		return VP_OK;
	report = calloc(1, sizeof(*report));
	if (!report)
		return VP_OK;
	pthread_mutex_lock(&p->lock);
	memcpy(report->parameter, p->crash.parameter, sizeof(report->parameter));
	pthread_mutex_unlock(&p->lock);
	report->control = value;
	crash_message(p, report);
	if (p->ops->crash)
		p->ops->crash(p->ctx, vp, report);
	free(report);
	return VP_OK;
}

const struct msr_desc partition_msrs[] = {
	{ HV_X64_MSR_GUEST_OS_ID, 1, "GUEST_OS_ID", guest_os_id_read, guest_os_id_write,
	  .privilege = HV_PRIV_ACCESS_HYPERCALL_MSRS },
	{ HV_X64_MSR_HYPERCALL, 1, "HYPERCALL", hypercall_read, hypercall_write,
	  .privilege = HV_PRIV_ACCESS_HYPERCALL_MSRS },
	{ HV_X64_MSR_RESET, 1, "RESET", reset_read, reset_write,
	  .privilege = HV_PRIV_ACCESS_RESET },
	{ HV_X64_MSR_CRASH_P0, HV_CRASH_PARAMETER_COUNT, "CRASH_P", crash_read, crash_write,
	  .feature = HV_FEATURE_CRASH_MSRS },
	{ HV_X64_MSR_CRASH_CTL, 1, "CRASH_CTL", crash_ctl_read, crash_ctl_write,
	  .feature = HV_FEATURE_CRASH_MSRS },
	{ 0 },
};

/* The clock's registers. */

static enum vp_fault ref_count_read(struct vp *vp, u32 i, u64 *value)
{
	*value = refclock_now_100ns(vp->partition->clock);
	return VP_OK;
}

static enum vp_fault tsc_page_read(struct vp *vp, u32 i, u64 *value)
{
	pthread_mutex_lock(&vp->partition->lock);
	*value = vp->partition->tsc_msr;
	pthread_mutex_unlock(&vp->partition->lock);
	return VP_OK;
}

/* 0 means invalid and all ones did once: neither is ever used. */
static void tsc_page_fill_locked(struct partition *p, u8 *at)
{
	struct hv_reference_tsc_page *page = (void *)at;

	if (++p->tsc_sequence + 1 <= 1)
		p->tsc_sequence = 1;
	*page = (struct hv_reference_tsc_page){ .sequence = p->tsc_sequence,
						.scale = p->clock->scale,
						.offset = (s64)__atomic_load_n(&p->clock->offset,
									       __ATOMIC_ACQUIRE) };
}

void partition_tsc_page_refresh(struct partition *p)
{
	pthread_mutex_lock(&p->lock);
	if (p->tsc_page.enabled) {
		tsc_page_fill_locked(p, overlay_open(&p->tsc_page));
		overlay_close(&p->tsc_page);
	}
	pthread_mutex_unlock(&p->lock);
}

static enum vp_fault tsc_page_write(struct vp *vp, u32 i, u64 value)
{
	struct partition *p = vp->partition;
	int ret;

	pthread_mutex_lock(&p->lock);
	if (!p->tsc_page.enabled)
		tsc_page_fill_locked(p, p->tsc_page.own);
	ret = page_set(p, &p->tsc_page, value);
	if (!ret)
		p->tsc_msr = value & (HV_MSR_PAGE_GPN_MASK | HV_MSR_PAGE_ENABLE);
	pthread_mutex_unlock(&p->lock);
	return ret ? VP_FAULT_GP : VP_OK;
}

static enum vp_fault tsc_frequency_read(struct vp *vp, u32 i, u64 *value)
{
	*value = vp->partition->clock->tsc_hz;
	return VP_OK;
}

static enum vp_fault apic_frequency_read(struct vp *vp, u32 i, u64 *value)
{
	struct engine_vm *vm = vp->partition->clock->vm;

	*value = vm->ops->apic_hz(vm);
	return VP_OK;
}

static enum vp_fault tsc_invariant_read(struct vp *vp, u32 i, u64 *value)
{
	pthread_mutex_lock(&vp->partition->lock);
	*value = vp->partition->tsc_invariant;
	pthread_mutex_unlock(&vp->partition->lock);
	return VP_OK;
}

/* A host kernel that hides the invariant TSC behind its own copy of this register is told. */
static enum vp_fault tsc_invariant_write(struct vp *vp, u32 i, u64 value)
{
	if (value & ~1ull)
		return VP_FAULT_GP;
	pthread_mutex_lock(&vp->partition->lock);
	vp->partition->tsc_invariant = value;
	pthread_mutex_unlock(&vp->partition->lock);
	vp->vcpu->ops->vcpu_set_msr(vp->vcpu, HV_X64_MSR_TSC_INVARIANT_CONTROL, value);
	return VP_OK;
}

const struct msr_desc clock_msrs[] = {
	{ HV_X64_MSR_TIME_REF_COUNT, 1, "TIME_REF_COUNT", ref_count_read, NULL,
	  .privilege = HV_PRIV_ACCESS_REF_COUNTER },
	{ HV_X64_MSR_REFERENCE_TSC, 1, "REFERENCE_TSC", tsc_page_read, tsc_page_write,
	  .privilege = HV_PRIV_ACCESS_REF_TSC },
	{ HV_X64_MSR_TSC_FREQUENCY, 1, "TSC_FREQUENCY", tsc_frequency_read, NULL,
	  .privilege = HV_PRIV_ACCESS_FREQUENCY, .feature = HV_FEATURE_FREQUENCY_MSRS },
	{ HV_X64_MSR_APIC_FREQUENCY, 1, "APIC_FREQUENCY", apic_frequency_read, NULL,
	  .privilege = HV_PRIV_ACCESS_FREQUENCY, .feature = HV_FEATURE_FREQUENCY_MSRS },
	{ HV_X64_MSR_TSC_INVARIANT_CONTROL, 1, "TSC_INVARIANT_CONTROL", tsc_invariant_read,
	  tsc_invariant_write, .privilege = HV_PRIV_ACCESS_TSC_INVARIANT },
	{ 0 },
};

static enum hv_status call_get_partition_id(struct hypercall *hc)
{
	*HYPERCALL_OUT(hc, u64) = hc->vp->partition->id;
	return HV_STATUS_SUCCESS;
}

const struct hypercall_desc partition_hypercalls[] = {
	{ .code = HVCALL_GET_PARTITION_ID,
	  .name = "HvCallGetPartitionId",
	  .privilege = HV_PRIV_ACCESS_PARTITION_ID,
	  .out_size = sizeof(u64),
	  .handler = call_get_partition_id },
	{ 0 },
};
