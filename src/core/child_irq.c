// SPDX-License-Identifier: MIT
/*
 * An interrupt for a child becomes an MSI of its engine VM: no memory is needed,
 * and nobody waits. What an MSI cannot say goes through the local APIC of one VP.
 */
#include "core/child_irq.h"

#include <errno.h>
#include <string.h>

#define MSI_BASE	 0xFEE00000ull
#define MSI_LOGICAL	 BIT(2)
#define MSI_DELIVERY(t)	 ((u32)(t) << 8)
#define MSI_ASSERT	 BIT(14)
#define MSI_LEVEL	 BIT(15)
#define MIN_VECTOR	 16u
#define DEST_BROADCAST8	 0xFFu
#define DEST_BROADCAST32 0xFFFFFFFFu

#define APIC_LVT_LINT0	0x350u
#define APIC_LVT_LINT1	0x360u
#define APIC_LVT_MASKED BIT(16)

/* Upper bits of an id as the engine takes them; see vp_interrupt(). */
static u64 msi_address(u32 id, bool logical)
{
	return MSI_BASE | (id & 0xFFu) << 12 | (u64)(id & 0xFFFFFF00u) << 32 |
	       (logical ? MSI_LOGICAL : 0);
}

/* The engine reports an EOI only of what one of its routes says is level-triggered. */
static void route_level(struct partition *p, u64 address, u32 data)
{
	struct child *c = p->child;
	u32 slot, used;

	pthread_mutex_lock(&c->level_lock);
	used = c->levels < CHILD_LEVELS_MAX ? c->levels : CHILD_LEVELS_MAX;
	for (slot = 0; slot < used; slot++)
		if (c->level[slot].address == address && c->level[slot].data == data)
			break;
	if (slot == used) {
		slot = c->levels % CHILD_LEVELS_MAX;
		if (p->vm->ops->vm_ioapic_route(p->vm, slot, address, data) >= 0) {
			c->level[slot] = (struct child_level){ address, data };
			c->levels++;
		}
	}
	pthread_mutex_unlock(&c->level_lock);
}

static void send(struct partition *p, u32 id, bool logical, u32 type, u32 vector, bool level)
{
	u64 address = msi_address(id, logical);
	u32 data = MSI_DELIVERY(type) | vector | (level ? MSI_LEVEL | MSI_ASSERT : 0);

	if (level)
		route_level(p, address, data);
	engine_vm_msi(p->vm, address, data); /* nobody there: lost */
}

static struct vp *vp_with_id(struct partition *p, u64 id)
{
	for (u32 i = 0; i < CHILD_VPS_MAX; i++) {
		struct vp *vp = child_vp(p, i);

		if (vp && vp->vcpu->id == id)
			return vp;
	}
	return NULL;
}

/* Both widths, wherever the number is not a processor's own. */
static bool is_broadcast(struct partition *p, u64 destination)
{
	return (destination == DEST_BROADCAST8 || destination == DEST_BROADCAST32) &&
	       !vp_with_id(p, destination);
}

static void send_to(struct partition *p, u64 control, u64 destination, u32 type, u32 vector)
{
	bool logical = control & HV_INTERRUPT_LOGICAL, level = control & HV_INTERRUPT_LEVEL;

	if (logical || !is_broadcast(p, destination)) {
		send(p, (u32)destination, logical, type, vector, level);
		return;
	}
	for (u32 i = 0; i < CHILD_VPS_MAX; i++) {
		struct vp *vp = child_vp(p, i);

		if (!vp)
			continue;
		send(p, vp->vcpu->id, false, type, vector, level);
		if (type == HV_X64_INTERRUPT_TYPE_LOWESTPRIORITY)
			return; /* one of them takes it */
	}
}

static enum hv_status extint(struct vp *vp, u32 vector)
{
	int ret = vp->vcpu->ops->vcpu_extint(vp->vcpu, (u8)vector);

	if (ret == -EEXIST)
		return HV_STATUS_NOT_ACKNOWLEDGED;
	return ret < 0 ? HV_STATUS_OPERATION_FAILED : HV_STATUS_SUCCESS;
}

/* A pulse on a pin: what it does stands in the local vector table. */
static enum hv_status pulse(struct vp *vp, u32 lvt_offset, u32 vector)
{
	struct partition *p = vp->partition;
	u8 regs[ENGINE_LAPIC_BYTES];
	u32 lvt, type;

	if (vp->vcpu->ops->vcpu_get_lapic(vp->vcpu, regs) < 0)
		return HV_STATUS_OPERATION_FAILED;
	memcpy(&lvt, regs + lvt_offset, sizeof(lvt));
	type = lvt >> 8 & 7;
	if (lvt & APIC_LVT_MASKED)
		return HV_STATUS_SUCCESS;
	if (type == HV_X64_INTERRUPT_TYPE_EXTINT)
		return extint(vp, vector);
	if (type == HV_X64_INTERRUPT_TYPE_FIXED)
		send(p, vp->vcpu->id, false, type, lvt & 0xFF, false);
	else if (type == HV_X64_INTERRUPT_TYPE_NMI || type == HV_X64_INTERRUPT_TYPE_INIT)
		send(p, vp->vcpu->id, false, type, 0, false);
	return HV_STATUS_SUCCESS;
}

/* The pins belong to one processor. */
static enum hv_status by_pin(struct partition *p, u32 type, u64 destination, u32 vector)
{
	struct vp *vp = vp_with_id(p, destination);
	enum hv_status status;

	if (!vp)
		return HV_STATUS_INVALID_PARAMETER;
	child_vp_hold(vp);
	if (type == HV_X64_INTERRUPT_TYPE_EXTINT)
		status = extint(vp, vector);
	else
		status = pulse(vp,
			       type == HV_X64_INTERRUPT_TYPE_LOCALINT0 ? APIC_LVT_LINT0
								       : APIC_LVT_LINT1,
			       vector);
	child_vp_release(vp);
	return status;
}

enum hv_status child_interrupt(struct partition *p, u64 control, u64 destination, u32 vector)
{
	u32 type = HV_INTERRUPT_TYPE(control);

	if (vector > 0xFF || destination >> 32)
		return HV_STATUS_INVALID_PARAMETER;
	switch (type) {
	case HV_X64_INTERRUPT_TYPE_FIXED:
	case HV_X64_INTERRUPT_TYPE_LOWESTPRIORITY:
		if (vector < MIN_VECTOR)
			return HV_STATUS_INVALID_PARAMETER;
		break;
	case HV_X64_INTERRUPT_TYPE_NMI:
	case HV_X64_INTERRUPT_TYPE_INIT:
		vector = 0;
		control &= ~HV_INTERRUPT_LEVEL;
		break;
	case HV_X64_INTERRUPT_TYPE_SIPI:
		control &= ~HV_INTERRUPT_LEVEL;
		break;
	case HV_X64_INTERRUPT_TYPE_EXTINT:
	case HV_X64_INTERRUPT_TYPE_LOCALINT0:
	case HV_X64_INTERRUPT_TYPE_LOCALINT1:
		if (control & HV_INTERRUPT_LOGICAL)
			return HV_STATUS_INVALID_PARAMETER;
		return by_pin(p, type, destination, vector);
	default: /* system management and remote reads do not exist here */
		return HV_STATUS_INVALID_PARAMETER;
	}
	send_to(p, control, destination, type, vector);
	return HV_STATUS_SUCCESS;
}

static enum hv_status call_assert(struct hypercall *hc)
{
	const struct hv_input_assert_virtual_interrupt *in =
		HYPERCALL_IN(hc, struct hv_input_assert_virtual_interrupt);
	struct partition *p = child_get(hc, in->partition_id);
	enum hv_status status;

	if (!p)
		return HV_STATUS_INVALID_PARTITION_ID;
	if (!child_active(p))
		status = HV_STATUS_INVALID_PARTITION_STATE;
	else if (in->target_vtl || in->rsvd || in->rsvd2)
		status = HV_STATUS_INVALID_PARAMETER;
	else
		status = child_interrupt(p, in->control, in->destination, in->vector);
	child_put(p);
	return status;
}

/*
 * An ExtINT goes to the engine's processor at once and cannot be taken back from
 * there. The caller means "I no longer ask", and whoever takes the interrupt finds
 * nothing to do.
 */
static enum hv_status call_clear(struct hypercall *hc)
{
	const struct hv_input_clear_virtual_interrupt *in =
		HYPERCALL_IN(hc, struct hv_input_clear_virtual_interrupt);
	struct partition *p = child_get(hc, in->partition_id);

	if (!p)
		return HV_STATUS_INVALID_PARTITION_ID;
	child_put(p);
	return HV_STATUS_SUCCESS;
}

const struct hypercall_desc child_irq_hypercalls[] = {
	{ .code = HVCALL_CLEAR_VIRTUAL_INTERRUPT,
	  .name = "HvCallClearVirtualInterrupt",
	  .privilege = HV_PRIV_CREATE_PARTITIONS,
	  .in_size = sizeof(struct hv_input_clear_virtual_interrupt),
	  .handler = call_clear },
	{ .code = HVCALL_ASSERT_VIRTUAL_INTERRUPT,
	  .name = "HvCallAssertVirtualInterrupt",
	  .privilege = HV_PRIV_CREATE_PARTITIONS,
	  .in_size = sizeof(struct hv_input_assert_virtual_interrupt),
	  .handler = call_assert },
	{ 0 },
};
