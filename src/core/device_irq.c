// SPDX-License-Identifier: MIT
/*
 * Device interrupts of a root. Mapping gives the redirection entry or the MSI
 * that the device must use; an interrupt that was not mapped is not delivered.
 * Entries are in compatibility format: fixed delivery, physical destination.
 */
#include <string.h>

#include "core/hypercall.h"
#include "core/root.h"

#define RTE_LEVEL  BIT(15)
#define MSI_WINDOW 0xFEE00000u

static bool same(const struct device_interrupt *d, u64 device_id, u32 low, u32 high)
{
	/*
	 * The guest owns the mask bit of a redirection entry; delivery status and remote
	 * IRR are read-only. In an MSI these bits are part of the destination.
	 */
	const u32 own = HV_DEVICE_TYPE(device_id) == HV_DEVICE_TYPE_IOAPIC
				? BIT(12) | BIT(14) | BIT(16)
				: 0;

	return d->device_id == device_id && (d->entry.low & ~own) == (low & ~own) &&
	       d->entry.high == high;
}

static struct device_interrupt *find_locked(struct root_state *r, u64 device_id, u32 low, u32 high)
{
	for (u32 i = 0; i < r->interrupt_count; i++)
		if (same(&r->interrupt[i], device_id, low, high))
			return &r->interrupt[i];
	return NULL;
}

bool root_interrupt_mapped(struct partition *p, u64 device_id, u32 low, u32 high)
{
	bool mapped;

	pthread_mutex_lock(&p->root.lock);
	mapped = find_locked(&p->root, device_id, low, high) != NULL;
	pthread_mutex_unlock(&p->root.lock);
	return mapped;
}

/* The first VP of a sparse set; NULL if the set is malformed or names none. */
static struct vp *first_target(struct hypercall *hc)
{
	const struct hv_input_map_device_interrupt *in =
		HYPERCALL_IN(hc, struct hv_input_map_device_interrupt);
	const u64 *var = HYPERCALL_VAR(hc, sizeof(*in));
	u64 banks, bank;

	if (hc->var_bytes < 16)
		return NULL;
	banks = var[0];
	if (hc->var_bytes != 8 + 8u * (u32)__builtin_popcountll(banks))
		return NULL;
	for (var++; banks; banks &= banks - 1, var++) {
		bank = (u64)__builtin_ctzll(banks);
		if (*var)
			return partition_vp(hc->vp->partition,
					    (u32)(bank * 64 + (u64)__builtin_ctzll(*var)));
	}
	return NULL;
}

static bool entry_make(const struct hv_input_map_device_interrupt *in, const struct vp *target,
		       struct hv_interrupt_entry *out)
{
	u32 id = target->vcpu->id;

	switch (HV_DEVICE_TYPE(in->device_id)) {
	case HV_DEVICE_TYPE_IOAPIC:
		*out = (struct hv_interrupt_entry){
			.source = HV_INTERRUPT_SOURCE_IOAPIC,
			.low = in->vector |
			       (in->trigger == HV_INTERRUPT_TRIGGER_LEVEL ? RTE_LEVEL : 0),
			.high = id << 24,
		};
		return true;
	case HV_DEVICE_TYPE_PCI:
		*out = (struct hv_interrupt_entry){
			.source = HV_INTERRUPT_SOURCE_MSI,
			.low = MSI_WINDOW | id << 12,
			.high = in->vector,
		};
		return true;
	default:
		return false;
	}
}

static void tell(struct partition *p, u64 device_id)
{
	if (p->ops->interrupts_changed)
		p->ops->interrupts_changed(p->ctx, device_id);
}

static enum hv_status call_map(struct hypercall *hc)
{
	const struct hv_input_map_device_interrupt *in =
		HYPERCALL_IN(hc, struct hv_input_map_device_interrupt);
	struct hv_interrupt_entry *out = HYPERCALL_OUT(hc, struct hv_interrupt_entry);
	struct root_state *r = &hc->vp->partition->root;
	enum hv_status status = HV_STATUS_SUCCESS;
	struct vp *target;
	bool added = false;

	if (!hypercall_is_self(hc, in->partition_id))
		return HV_STATUS_INVALID_PARTITION_ID;
	if (in->type != 0 || in->trigger > HV_INTERRUPT_TRIGGER_LEVEL || in->vector_count != 1 ||
	    in->vector < HV_SINT_MIN_VECTOR || in->vector > 0xFF ||
	    !(in->target_flags & HV_DEVICE_INTERRUPT_PROCESSOR_SET) ||
	    in->set_format != HV_GENERIC_SET_SPARSE_4K)
		return HV_STATUS_INVALID_PARAMETER;
	target = first_target(hc);
	if (!target)
		return HV_STATUS_INVALID_VP_INDEX;
	if (!entry_make(in, target, out))
		return HV_STATUS_INVALID_PARAMETER;
	pthread_mutex_lock(&r->lock);
	/* The same mapping again, as Linux does at each unmask of a vPCI interrupt, is one entry.
	 */
	if (!find_locked(r, in->device_id, out->low, out->high)) {
		if (r->interrupt_count == DEVICE_INTERRUPTS_MAX)
			status = HV_STATUS_NO_RESOURCES;
		else
			r->interrupt[r->interrupt_count++] =
				(struct device_interrupt){ in->device_id, *out };
		added = status == HV_STATUS_SUCCESS;
	}
	pthread_mutex_unlock(&r->lock);
	if (added)
		tell(hc->vp->partition, in->device_id);
	return status;
}

static enum hv_status call_unmap(struct hypercall *hc)
{
	const struct hv_input_unmap_device_interrupt *in =
		HYPERCALL_IN(hc, struct hv_input_unmap_device_interrupt);
	struct root_state *r = &hc->vp->partition->root;
	struct device_interrupt *d;

	if (!hypercall_is_self(hc, in->partition_id))
		return HV_STATUS_INVALID_PARTITION_ID;
	pthread_mutex_lock(&r->lock);
	d = find_locked(r, in->device_id, in->entry.low, in->entry.high);
	if (d)
		*d = r->interrupt[--r->interrupt_count];
	pthread_mutex_unlock(&r->lock);
	if (d)
		tell(hc->vp->partition, in->device_id);
	return d ? HV_STATUS_SUCCESS : HV_STATUS_INVALID_PARAMETER;
}

const struct hypercall_desc device_irq_hypercalls[] = {
	{ .code = HVCALL_MAP_DEVICE_INTERRUPT,
	  .name = "HvCallMapDeviceInterrupt",
	  .privilege = HV_PRIV_CPU_MANAGEMENT,
	  .in_size = sizeof(struct hv_input_map_device_interrupt),
	  .var_header = true,
	  .out_size = sizeof(struct hv_interrupt_entry),
	  .handler = call_map },
	{ .code = HVCALL_UNMAP_DEVICE_INTERRUPT,
	  .name = "HvCallUnmapDeviceInterrupt",
	  .privilege = HV_PRIV_CPU_MANAGEMENT,
	  .in_size = sizeof(struct hv_input_unmap_device_interrupt),
	  .handler = call_unmap },
	{ 0 },
};
