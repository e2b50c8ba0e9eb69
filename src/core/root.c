// SPDX-License-Identifier: MIT
/* Processors, power, properties. Device interrupts: device_irq.c; statistics: stats.c. */
#include "core/root.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "core/child.h"
#include "core/core_trace.h"
#include "core/deposit.h"
#include "core/hypercall.h"

void root_init(struct root_state *r)
{
	*r = (struct root_state){ .lps = { 1 } }; /* the processor that booted */
	pthread_mutex_init(&r->lock, NULL);
}

void root_fini(struct root_state *r)
{
	if (r->stats_timed)
		timer_fini(&r->stats_timer);
	free(r->stats);
	pthread_mutex_destroy(&r->lock);
}

static void interrupts_end(struct partition *p)
{
	struct root_state *r = &p->root;
	u64 device_id = 0;
	bool any;

	do {
		pthread_mutex_lock(&r->lock);
		any = r->interrupt_count != 0;
		if (any)
			device_id = r->interrupt[--r->interrupt_count].device_id;
		pthread_mutex_unlock(&r->lock);
		if (any && p->ops->interrupts_changed)
			p->ops->interrupts_changed(p->ctx, device_id);
	} while (any);
}

static bool has_children(struct partition *p)
{
	bool any;

	pthread_mutex_lock(&p->hv->children_lock);
	any = !list_empty(&p->hv->children);
	pthread_mutex_unlock(&p->hv->children_lock);
	return any;
}

void root_kernel_ends(struct partition *p)
{
	stats_end(p);
	interrupts_end(p);
	if (deposit_get(&p->deposit).pages && !has_children(p) &&
	    partition_quirk(p, QUIRK_KEXEC_POOL))
		deposit_give_back(&p->deposit);
}

static bool lp_exists_locked(const struct root_state *r, u32 lp)
{
	return lp < 64 * ARRAY_SIZE(r->lps) && (r->lps[lp / 64] & BIT64(lp % 64));
}

static bool lp_exists(struct partition *p, u32 lp)
{
	bool exists;

	pthread_mutex_lock(&p->root.lock);
	exists = lp_exists_locked(&p->root, lp);
	pthread_mutex_unlock(&p->root.lock);
	return exists;
}

static enum hv_status call_lp_run_time(struct hypercall *hc)
{
	const struct hv_input_lp_run_time *in = HYPERCALL_IN(hc, struct hv_input_lp_run_time);
	struct hv_output_lp_run_time *out = HYPERCALL_OUT(hc, struct hv_output_lp_run_time);

	/* Linux learns from this status that no kernel before it has started the processors. */
	if (!lp_exists(hc->vp->partition, in->lp_index))
		return HV_STATUS_INVALID_LP_INDEX;
	out->global_time = refclock_now_100ns(hc->vp->partition->clock);
	out->local_run_time = vp_runtime_100ns();
	return HV_STATUS_SUCCESS;
}

/* A logical processor is one of the machine's; adding it again is what a kexec'd 6.1 does. */
static enum hv_status call_add_lp(struct hypercall *hc)
{
	const struct hv_input_add_lp *in = HYPERCALL_IN(hc, struct hv_input_add_lp);
	struct partition *p = hc->vp->partition;
	struct vp *vp = partition_vp(p, in->lp_index);
	enum hv_status status = HV_STATUS_SUCCESS;

	if (!vp)
		return HV_STATUS_INVALID_LP_INDEX;
	if (vp->vcpu->id != in->apic_id)
		return HV_STATUS_INVALID_PARAMETER;
	pthread_mutex_lock(&p->root.lock);
	if (!lp_exists_locked(&p->root, in->lp_index)) {
		status = deposit_take(&p->deposit, DEPOSIT_LP, NULL);
		if (status == HV_STATUS_SUCCESS)
			p->root.lps[in->lp_index / 64] |= BIT64(in->lp_index % 64);
	}
	pthread_mutex_unlock(&p->root.lock);
	return status;
}

static enum hv_status call_notify_event(struct hypercall *hc)
{
	const struct hv_input_notify_partition_event *in =
		HYPERCALL_IN(hc, struct hv_input_notify_partition_event);
	struct root_state *r = &hc->vp->partition->root;

	if (in->event != HV_PARTITION_ALL_LOGICAL_PROCESSORS_STARTED)
		return HV_STATUS_INVALID_PARAMETER;
	pthread_mutex_lock(&r->lock);
	r->all_started = true;
	pthread_mutex_unlock(&r->lock);
	return HV_STATUS_SUCCESS;
}

/* What means nothing should be zero. Nothing here depends on it, and Linux 7.3 leaves what stood
 * there. */
static void leftovers(const struct hypercall *hc, const struct hv_input_create_vp *in)
{
	u64 reserved = 0;

	memcpy(&reserved, in->rsvd, sizeof(in->rsvd));
	if (reserved)
		core_emit(TRACE_HYPERCALL_LEFTOVER, HVCALL_CREATE_VP,
			  offsetof(struct hv_input_create_vp, rsvd), reserved,
			  TRACE_WORD(hc->vp->partition->hv->name));
	if (in->subnode_type == HV_SUBNODE_ANY && in->subnode_id)
		core_emit(TRACE_HYPERCALL_LEFTOVER, HVCALL_CREATE_VP,
			  offsetof(struct hv_input_create_vp, subnode_id), in->subnode_id,
			  TRACE_WORD(hc->vp->partition->hv->name));
}

/*
 * A root's VP runs on the logical processor named in flags, and here the two
 * have the same index. Its thread begins now and waits for INIT and SIPI.
 */
static enum hv_status call_create_vp(struct hypercall *hc)
{
	const struct hv_input_create_vp *in = HYPERCALL_IN(hc, struct hv_input_create_vp);
	struct partition *p = hc->vp->partition;
	struct vp *vp = partition_vp(p, in->vp_index);
	enum hv_status status = HV_STATUS_SUCCESS;

	leftovers(hc, in);
	if (!hypercall_is_self(hc, in->partition_id))
		return child_create_vp(hc, in);
	if (!vp)
		return HV_STATUS_INVALID_VP_INDEX;
	if (in->flags != in->vp_index)
		return HV_STATUS_INVALID_PARAMETER;
	if (!lp_exists(p, in->vp_index))
		return HV_STATUS_INVALID_LP_INDEX;
	pthread_mutex_lock(&p->root.lock);
	if (!vp->thread_started) {
		status = deposit_take(&p->deposit, DEPOSIT_VP, NULL);
		if (status == HV_STATUS_SUCCESS && vp_start(vp) < 0)
			status = HV_STATUS_NO_RESOURCES;
	}
	pthread_mutex_unlock(&p->root.lock);
	return status;
}

static enum hv_status call_get_system_property(struct hypercall *hc)
{
	const struct hv_input_get_system_property *in =
		HYPERCALL_IN(hc, struct hv_input_get_system_property);

	/* No crash area: it would have to be memory of the hypervisor's that Linux maps as RAM. */
	if (in->property != HV_SYSTEM_PROPERTY_SCHEDULER_TYPE)
		return HV_STATUS_UNKNOWN_PROPERTY;
	*HYPERCALL_OUT(hc, u32) = hc->vp->partition->hv->root_scheduler
					  ? HV_SCHEDULER_TYPE_ROOT
					  : HV_SCHEDULER_TYPE_CORE_SMT;
	return HV_STATUS_SUCCESS;
}

static enum hv_status call_set_system_property(struct hypercall *hc)
{
	const struct hv_input_set_system_property *in =
		HYPERCALL_IN(hc, struct hv_input_set_system_property);
	struct root_state *r = &hc->vp->partition->root;

	if (in->property != HV_SYSTEM_PROPERTY_SLEEP_STATE)
		return HV_STATUS_UNKNOWN_PROPERTY;
	if (in->sleep_state != HV_SLEEP_STATE_S5)
		return HV_STATUS_PROPERTY_VALUE_OUT_OF_RANGE;
	pthread_mutex_lock(&r->lock);
	r->sleep_state = in->sleep_state;
	pthread_mutex_unlock(&r->lock);
	return HV_STATUS_SUCCESS;
}

/* Does not return to the caller: the run loop ends before the VP is entered again. */
static enum hv_status call_enter_sleep_state(struct hypercall *hc)
{
	const struct hv_input_enter_sleep_state *in =
		HYPERCALL_IN(hc, struct hv_input_enter_sleep_state);

	if (in->sleep_state != HV_SLEEP_STATE_S5)
		return HV_STATUS_INVALID_PARAMETER;
	partition_stop(hc->vp->partition, STOP_POWER_OFF, 0,
		       "the root powered off through its hypervisor");
	return HV_STATUS_SUCCESS;
}

#define ROW_CPU .privilege = HV_PRIV_CPU_MANAGEMENT

const struct hypercall_desc root_hypercalls[] = {
	{ .code = HVCALL_GET_LOGICAL_PROCESSOR_RUN_TIME,
	  .name = "HvCallGetLogicalProcessorRunTime",
	  ROW_CPU,
	  .in_size = sizeof(struct hv_input_lp_run_time),
	  .out_size = sizeof(struct hv_output_lp_run_time),
	  .handler = call_lp_run_time },
	{ .code = HVCALL_ADD_LOGICAL_PROCESSOR,
	  .name = "HvCallAddLogicalProcessor",
	  ROW_CPU,
	  .in_size = sizeof(struct hv_input_add_lp),
	  .out_size = sizeof(struct hv_output_add_lp),
	  .handler = call_add_lp },
	{ .code = HVCALL_NOTIFY_PARTITION_EVENT,
	  .name = "HvCallNotifyPartitionEvent",
	  ROW_CPU,
	  .in_size = sizeof(struct hv_input_notify_partition_event),
	  .handler = call_notify_event },
	{ .code = HVCALL_CREATE_VP,
	  .name = "HvCallCreateVp",
	  .privilege = HV_PRIV_CREATE_PARTITIONS,
	  .in_size = sizeof(struct hv_input_create_vp),
	  .handler = call_create_vp },
	{ .code = HVCALL_GET_SYSTEM_PROPERTY,
	  .name = "HvCallGetSystemProperty",
	  ROW_CPU,
	  .in_size = sizeof(struct hv_input_get_system_property),
	  .out_size = sizeof(u64),
	  .handler = call_get_system_property },
	{ .code = HVCALL_SET_SYSTEM_PROPERTY,
	  .name = "HvCallSetSystemProperty",
	  ROW_CPU,
	  .in_size = sizeof(struct hv_input_set_system_property),
	  .handler = call_set_system_property },
	{ .code = HVCALL_ENTER_SLEEP_STATE,
	  .name = "HvCallEnterSleepState",
	  ROW_CPU,
	  .in_size = sizeof(struct hv_input_enter_sleep_state),
	  .handler = call_enter_sleep_state },
	{ 0 },
};
