// SPDX-License-Identifier: MIT
/*
 * Properties of partitions, a row each. What a parent reads of its own partition
 * is what a child of its may have.
 */
#include <stdlib.h>
#include <string.h>

#include "core/child_cpuid.h"
#include "core/cpu_features.h"
#include "core/gpa_map.h"
#include "core/hypercall.h"
#include "hvdef/property.h"

/* What each of the features that a parent gives a child lets it do, and how CPUID says so. */
static const struct feature {
	u64 bit, privileges;
	u32 features_edx;
} features[] = {
	/* With an interface at all: what has no bit of its own. */
	{ HV_SYNTHETIC_HV1, HV_PRIV_ACCESS_RESET, HV_FEATURE_CRASH_MSRS | HV_FEATURE_XMM_INPUT },
	{ HV_SYNTHETIC_HYPERVISOR_PRESENT, 0, 0 },
	{ HV_SYNTHETIC_VP_RUNTIME, HV_PRIV_ACCESS_VP_RUNTIME, 0 },
	{ HV_SYNTHETIC_REF_COUNTER, HV_PRIV_ACCESS_REF_COUNTER, 0 },
	{ HV_SYNTHETIC_SYNIC_REGS, HV_PRIV_ACCESS_SYNIC_REGS | HV_PRIV_POST_MESSAGES, 0 },
	{ HV_SYNTHETIC_TIMER_REGS, HV_PRIV_ACCESS_SYNTHETIC_TIMERS, 0 },
	{ HV_SYNTHETIC_HYPERCALL_REGS, HV_PRIV_ACCESS_HYPERCALL_MSRS, 0 },
	{ HV_SYNTHETIC_VP_INDEX, HV_PRIV_ACCESS_VP_INDEX, 0 },
	{ HV_SYNTHETIC_REF_TSC, HV_PRIV_ACCESS_REF_TSC, 0 },
	{ HV_SYNTHETIC_GUEST_IDLE, HV_PRIV_ACCESS_GUEST_IDLE, HV_FEATURE_GUEST_IDLE },
	{ HV_SYNTHETIC_FREQUENCY_REGS, HV_PRIV_ACCESS_FREQUENCY, HV_FEATURE_FREQUENCY_MSRS },
	{ HV_SYNTHETIC_FAST_OUTPUT, 0, HV_FEATURE_XMM_OUTPUT },
	{ HV_SYNTHETIC_DIRECT_TIMERS, 0, HV_FEATURE_STIMER_DIRECT },
	/* Calls without a privilege. No hint to use them: the local APIC in the kernel is quicker.
	 */
	{ HV_SYNTHETIC_CLUSTER_IPI, 0, 0 },
	{ HV_SYNTHETIC_LONG_SPIN_WAIT, 0, 0 },
	{ HV_SYNTHETIC_SIGNAL_EVENTS, HV_PRIV_SIGNAL_EVENTS, 0 },
	{ HV_SYNTHETIC_ACCESS_VP_REGS, HV_PRIV_ACCESS_VP_REGS, 0 },
};

static u64 assignable(void)
{
	u64 all = 0;

	for (u32 i = 0; i < ARRAY_SIZE(features); i++)
		all |= features[i].bit;
	return all;
}

/* As for a guest: auto-EOI does not exist, and time may stretch. */
#define CHILD_HINTS (HV_HINT_RELAXED_TIMING | HV_HINT_DEPRECATE_AUTO_EOI)

/* What is not offered is left out without a word: VMMs ask for all they know, and read back. */
static enum hv_status features_set(struct partition *p, u64 value)
{
	struct partition_config *pc = &p->config;

	pc->privileges = 0;
	pc->features_edx = 0;
	p->child->synthetic_features = value & assignable();
	pc->hints = value & HV_SYNTHETIC_HV1 ? CHILD_HINTS : 0;
	for (u32 i = 0; i < ARRAY_SIZE(features); i++) {
		if (!(value & features[i].bit))
			continue;
		pc->privileges |= features[i].privileges;
		pc->features_edx |= features[i].features_edx;
	}
	return HV_STATUS_SUCCESS;
}

static enum hv_status features_get(struct partition *p, u64 *value)
{
	*value = p->child->synthetic_features;
	return HV_STATUS_SUCCESS;
}

static enum hv_status privileges_get(struct partition *p, u64 *value)
{
	*value = p->config.privileges;
	return HV_STATUS_SUCCESS;
}

/* The root scheduler by another name: that of a parent that is no root. */
static enum hv_status scheduler_get(struct partition *p, u64 *value)
{
	*value = p->hv->root_scheduler;
	return HV_STATUS_SUCCESS;
}

static enum hv_status capabilities_get(struct partition *p, u64 *value)
{
	*value = HV_VMM_CAPABILITY_ASSIGNABLE_FEATURES;
	if (p->hv->root_scheduler)
		*value |= HV_VMM_CAPABILITY_INTEGRATED_SCHEDULER;
	return HV_STATUS_SUCCESS;
}

static enum hv_status assignable_get(struct partition *p, u64 *value)
{
	*value = assignable();
	return HV_STATUS_SUCCESS;
}

/* Time. Setters run with life_lock, so that one at a time is at it. */

static enum hv_status freeze_get(struct partition *p, u64 *value)
{
	*value = refclock_frozen(p->clock);
	return HV_STATUS_SUCCESS;
}

static void timers_rearm(struct partition *p)
{
	for (u32 i = 0; i < CHILD_VPS_MAX; i++) {
		struct vp *vp = partition_vp(p, i);

		for (u32 t = 0; vp && t < HV_SYNIC_STIMER_COUNT; t++)
			stimer_rearm(&vp->stimer[t]);
		if (vp)
			stimers_lend(vp);
	}
}

static enum hv_status freeze_set(struct partition *p, u64 value)
{
	struct child *c = p->child;
	enum hv_status status = HV_STATUS_SUCCESS;

	if (value > 1)
		return HV_STATUS_PROPERTY_VALUE_OUT_OF_RANGE;
	if (value == refclock_frozen(&c->clock))
		return HV_STATUS_SUCCESS;
	child_hold(p);
	if (value) {
		stimers_clock_stops(p);
		refclock_freeze(&c->clock);
	} else if (refclock_thaw(&c->clock) < 0) {
		status = HV_STATUS_OPERATION_FAILED;
	}
	pthread_mutex_lock(&c->vp_lock);
	c->time_frozen = refclock_frozen(&c->clock);
	pthread_mutex_unlock(&c->vp_lock);
	if (!value)
		timers_rearm(p);
	child_release(p);
	return status;
}

static enum hv_status reference_time_get(struct partition *p, u64 *value)
{
	*value = refclock_now_100ns(p->clock);
	return HV_STATUS_SUCCESS;
}

static enum hv_status reference_time_set(struct partition *p, u64 value)
{
	if (!refclock_frozen(p->clock))
		return HV_STATUS_INVALID_PARTITION_STATE;
	refclock_set_100ns(p->clock, value);
	partition_tsc_page_refresh(p);
	return HV_STATUS_SUCCESS;
}

/* Resources. */

static enum hv_status processors_get(struct partition *p, u64 *value)
{
	*value = p->child->processors_per_socket;
	return HV_STATUS_SUCCESS;
}

static enum hv_status processors_set(struct partition *p, u64 value)
{
	if (value > CHILD_VPS_MAX)
		return HV_STATUS_PROPERTY_VALUE_OUT_OF_RANGE;
	p->child->processors_per_socket = (u32)value;
	return HV_STATUS_SUCCESS;
}

static enum hv_status tracking_get(struct partition *p, u64 *value)
{
	*value = p->child->gpa_tracking;
	return HV_STATUS_SUCCESS;
}

static enum hv_status tracking_set(struct partition *p, u64 value)
{
	if (value > 1)
		return HV_STATUS_PROPERTY_VALUE_OUT_OF_RANGE;
	if (value != p->child->gpa_tracking) {
		child_hold(p);
		gpa_map_track(p->child->map, value);
		child_release(p);
	}
	p->child->gpa_tracking = value;
	return HV_STATUS_SUCCESS;
}

static enum hv_status msr_action_get(struct partition *p, u64 *value)
{
	*value = __atomic_load_n(&p->child->unknown_msr_ignored, __ATOMIC_RELAXED)
			 ? HV_UNIMPLEMENTED_MSR_IGNORE
			 : HV_UNIMPLEMENTED_MSR_FAULT;
	return HV_STATUS_SUCCESS;
}

static enum hv_status msr_action_set(struct partition *p, u64 value)
{
	if (value > HV_UNIMPLEMENTED_MSR_IGNORE)
		return HV_STATUS_PROPERTY_VALUE_OUT_OF_RANGE;
	__atomic_store_n(&p->child->unknown_msr_ignored, value == HV_UNIMPLEMENTED_MSR_IGNORE,
			 __ATOMIC_RELAXED);
	return HV_STATUS_SUCCESS;
}

/* The processor. */

struct cpuid_list {
	u32 count;
	struct engine_cpuid leaf[CHILD_CPUID_MAX];
};

/* The caller frees it. NULL: no memory. */
static struct cpuid_list *processor(const struct partition *p)
{
	static const u64 nothing[2];
	const struct child *c = p->child;
	struct cpuid_list *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	l->count = (u32)min_u64(p->hv->child_cpuid_count, CHILD_CPUID_MAX);
	if (l->count)
		memcpy(l->leaf, p->hv->child_cpuid, l->count * sizeof(l->leaf[0]));
	cpu_features_disable(l->leaf, l->count, c ? c->disabled_features : nothing,
			     c ? c->disabled_xsave : 0);
	return l;
}

static enum hv_status bank_get(struct partition *p, enum cpu_feature_bank bank, u64 *value)
{
	struct cpuid_list *l = processor(p);

	if (!l)
		return HV_STATUS_NO_RESOURCES;
	*value = cpu_features(l->leaf, l->count, bank);
	free(l);
	return HV_STATUS_SUCCESS;
}

static enum hv_status features0_get(struct partition *p, u64 *value)
{
	return bank_get(p, CPU_FEATURES_BANK0, value);
}

static enum hv_status features1_get(struct partition *p, u64 *value)
{
	return bank_get(p, CPU_FEATURES_BANK1, value);
}

static enum hv_status xsave_features_get(struct partition *p, u64 *value)
{
	return bank_get(p, CPU_FEATURES_XSAVE, value);
}

static enum hv_status vendor_get(struct partition *p, u64 *value)
{
	struct cpuid_list *l = processor(p);
	char name[13] = "";

	if (!l)
		return HV_STATUS_NO_RESOURCES;
	for (u32 i = 0; i < l->count; i++) {
		if (l->leaf[i].leaf)
			continue;
		memcpy(name, &l->leaf[i].ebx, 4);
		memcpy(name + 4, &l->leaf[i].edx, 4);
		memcpy(name + 8, &l->leaf[i].ecx, 4);
	}
	free(l);
	*value = !strcmp(name, "GenuineIntel")	 ? HV_VENDOR_INTEL
		 : !strcmp(name, "HygonGenuine") ? HV_VENDOR_HYGON
						 : HV_VENDOR_AMD;
	return HV_STATUS_SUCCESS;
}

static enum hv_status width_get(struct partition *p, u64 *value)
{
	*value = p->config.physical_bits;
	return HV_STATUS_SUCCESS;
}

static enum hv_status clock_get(struct partition *p, u64 *value)
{
	*value = p->clock->tsc_hz;
	return HV_STATUS_SUCCESS;
}

static enum hv_status xsave_get(struct partition *p, bool states, u64 *value)
{
	struct cpuid_list *l = processor(p);
	struct xsave_layout layout;

	if (!l)
		return HV_STATUS_NO_RESOURCES;
	xsave_layout_init(&layout, l->leaf, l->count);
	*value = states ? layout.states : xsave_compact_bytes(&layout, layout.states);
	free(l);
	return HV_STATUS_SUCCESS;
}

static enum hv_status xsave_states_get(struct partition *p, u64 *value)
{
	return xsave_get(p, true, value);
}

static enum hv_status xsave_bytes_get(struct partition *p, u64 *value)
{
	return xsave_get(p, false, value);
}

enum scope {
	OF_SELF = BIT(0),  /* a partition may ask for its own */
	OF_CHILD = BIT(1), /* its parent may */
	ANYONES = OF_SELF | OF_CHILD,
};

static const struct property {
	u32 code;
	enum scope scope;
	bool ex;    /* by HvCallGetPartitionPropertyEx only */
	bool early; /* set before the partition is initialized, or never */
	enum hv_status (*get)(struct partition *p, u64 *value);
	enum hv_status (*set)(struct partition *p, u64 value); /* of a child; under life_lock */
} properties[] = {
	{ HV_PROPERTY_PRIVILEGE_FLAGS, ANYONES, false, false, privileges_get, NULL },
	{ HV_PROPERTY_SYNTHETIC_PROC_FEATURES, OF_CHILD, false, true, features_get, features_set },
	{ HV_PROPERTY_INTEGRATED_SCHEDULER, OF_SELF, true, false, scheduler_get, NULL },
	{ HV_PROPERTY_TIME_FREEZE, OF_CHILD, false, false, freeze_get, freeze_set },
	{ HV_PROPERTY_REFERENCE_TIME, ANYONES, false, false, reference_time_get,
	  reference_time_set },
	{ HV_PROPERTY_PROCESSORS_PER_SOCKET, OF_CHILD, false, false, processors_get,
	  processors_set },
	{ HV_PROPERTY_GPA_PAGE_ACCESS_TRACKING, OF_CHILD, false, false, tracking_get,
	  tracking_set },
	{ HV_PROPERTY_UNIMPLEMENTED_MSR_ACTION, OF_CHILD, false, false, msr_action_get,
	  msr_action_set },
	{ HV_PROPERTY_PROCESSOR_VENDOR, ANYONES, false, false, vendor_get, NULL },
	{ HV_PROPERTY_PROCESSOR_XSAVE_FEATURES, ANYONES, false, false, xsave_features_get, NULL },
	{ HV_PROPERTY_PHYSICAL_ADDRESS_WIDTH, ANYONES, false, false, width_get, NULL },
	{ HV_PROPERTY_XSAVE_STATES, ANYONES, false, false, xsave_states_get, NULL },
	{ HV_PROPERTY_MAX_XSAVE_DATA_SIZE, ANYONES, false, false, xsave_bytes_get, NULL },
	{ HV_PROPERTY_PROCESSOR_CLOCK_FREQUENCY, ANYONES, false, false, clock_get, NULL },
	{ HV_PROPERTY_PROCESSOR_FEATURES0, ANYONES, false, false, features0_get, NULL },
	{ HV_PROPERTY_PROCESSOR_FEATURES1, ANYONES, false, false, features1_get, NULL },
	{ HV_PROPERTY_VMM_CAPABILITIES, OF_SELF, true, false, capabilities_get, NULL },
	{ HV_PROPERTY_ASSIGNABLE_SYNTHETIC_FEATURES, OF_SELF, true, false, assignable_get, NULL },
};

static const struct property *find(u32 code, bool ex)
{
	for (u32 i = 0; i < ARRAY_SIZE(properties); i++)
		if (properties[i].code == code && properties[i].ex == ex)
			return &properties[i];
	return NULL;
}

static enum hv_status get(struct hypercall *hc, u64 partition_id, u32 code, bool ex, u64 *value)
{
	bool self = hypercall_is_self(hc, partition_id);
	struct partition *p = self ? hc->vp->partition : child_get(hc, partition_id);
	const struct property *row = find(code, ex);
	enum hv_status status = HV_STATUS_UNKNOWN_PROPERTY;

	if (!p)
		return HV_STATUS_INVALID_PARTITION_ID;
	if (row && (row->scope & (self ? OF_SELF : OF_CHILD)))
		status = row->get(p, value);
	if (!self)
		child_put(p);
	return status;
}

static enum hv_status call_get(struct hypercall *hc)
{
	const struct hv_input_get_partition_property *in =
		HYPERCALL_IN(hc, struct hv_input_get_partition_property);

	return get(hc, in->partition_id, in->property, false, HYPERCALL_OUT(hc, u64));
}

static enum hv_status call_get_ex(struct hypercall *hc)
{
	const struct hv_input_get_partition_property_ex *in =
		HYPERCALL_IN(hc, struct hv_input_get_partition_property_ex);
	struct hv_property_bank *out = HYPERCALL_OUT(hc, struct hv_property_bank);
	enum hv_status status = get(hc, in->partition_id, in->property, true, &out->bits);

	out->bank_count = status == HV_STATUS_SUCCESS && in->property >> 16 == 9;
	/* Not a bank, but a number. */
	if (!out->bank_count) {
		u64 value = out->bits;

		memset(out, 0, sizeof(*out));
		memcpy(out, &value, sizeof(value));
	}
	return status;
}

static enum hv_status set_locked(struct partition *p, const struct property *row, u64 value)
{
	enum child_state state = __atomic_load_n(&p->child->state, __ATOMIC_ACQUIRE);

	if (state == CHILD_FINALIZED || (row->early && state != CHILD_CREATED))
		return HV_STATUS_INVALID_PARTITION_STATE;
	return row->set(p, value);
}

static enum hv_status call_set(struct hypercall *hc)
{
	const struct hv_input_set_partition_property *in =
		HYPERCALL_IN(hc, struct hv_input_set_partition_property);
	struct partition *p = child_get(hc, in->partition_id);
	const struct property *row = find(in->property, false);
	enum hv_status status = HV_STATUS_UNKNOWN_PROPERTY;

	if (!p)
		return hypercall_is_self(hc, in->partition_id) ? HV_STATUS_OPERATION_DENIED
							       : HV_STATUS_INVALID_PARTITION_ID;
	if (row && !row->set)
		status = HV_STATUS_OPERATION_DENIED;
	if (row && row->set) {
		pthread_mutex_lock(&p->child->life_lock);
		status = set_locked(p, row, in->value);
		pthread_mutex_unlock(&p->child->life_lock);
	}
	child_put(p);
	return status;
}

#define ROW_PARENT .privilege = HV_PRIV_CREATE_PARTITIONS

const struct hypercall_desc property_hypercalls[] = {
	{ .code = HVCALL_GET_PARTITION_PROPERTY,
	  .name = "HvCallGetPartitionProperty",
	  ROW_PARENT,
	  .in_size = sizeof(struct hv_input_get_partition_property),
	  .out_size = sizeof(u64),
	  .handler = call_get },
	{ .code = HVCALL_SET_PARTITION_PROPERTY,
	  .name = "HvCallSetPartitionProperty",
	  ROW_PARENT,
	  .in_size = sizeof(struct hv_input_set_partition_property),
	  .handler = call_set },
	{ .code = HVCALL_GET_PARTITION_PROPERTY_EX,
	  .name = "HvCallGetPartitionPropertyEx",
	  ROW_PARENT,
	  .in_size = sizeof(struct hv_input_get_partition_property_ex),
	  .out_size = sizeof(struct hv_property_bank),
	  .handler = call_get_ex },
	{ 0 },
};
