// SPDX-License-Identifier: MIT
/*
 * Registers that only the parent of a VP can reach by name. All functions here run
 * on a thread of the parent's that holds the VP.
 */
#include "core/child_regs.h"

#include <string.h>

#include "core/child_port.h"
#include "hvdef/vp_regs.h"

struct reg {
	u32 name, count;
	enum hv_status (*get)(struct vp *vp, u32 i, struct hv_register_value *v);
	enum hv_status (*set)(struct vp *vp, u32 i, const struct hv_register_value *v);
};

static enum hv_status ok(int ret)
{
	return ret < 0 ? HV_STATUS_INVALID_REGISTER_VALUE : HV_STATUS_SUCCESS;
}

/* Suspension. */

static enum hv_status suspend_get(struct vp *vp, u32 i, struct hv_register_value *v)
{
	struct child *c = vp->partition->child;

	pthread_mutex_lock(&c->vp_lock);
	v->low = i ? vp->child->intercept_suspend : vp->child->explicit_suspend;
	pthread_mutex_unlock(&c->vp_lock);
	return HV_STATUS_SUCCESS;
}

/* An intercept is only ended by the parent, never begun. */
static enum hv_status suspend_set(struct vp *vp, u32 i, const struct hv_register_value *v)
{
	struct child *c = vp->partition->child;
	bool suspended = v->low & 1, *flag;
	enum hv_status status = HV_STATUS_SUCCESS;

	pthread_mutex_lock(&c->vp_lock);
	flag = i ? &vp->child->intercept_suspend : &vp->child->explicit_suspend;
	if (i && suspended && !*flag)
		status = HV_STATUS_INVALID_REGISTER_VALUE;
	else
		*flag = suspended;
	pthread_mutex_unlock(&c->vp_lock);
	child_vp_signal_resume(vp);
	return status;
}

/* Of the root scheduler. */

static enum hv_status dispatch_suspend_get(struct vp *vp, u32 i, struct hv_register_value *v)
{
	v->low = vp->child->dispatch_suspend;
	return HV_STATUS_SUCCESS;
}

static enum hv_status dispatch_suspend_set(struct vp *vp, u32 i, const struct hv_register_value *v)
{
	struct child *c = vp->partition->child;

	pthread_mutex_lock(&c->vp_lock);
	vp->child->dispatch_suspend = v->low & 1;
	pthread_mutex_unlock(&c->vp_lock);
	return HV_STATUS_SUCCESS;
}

static enum hv_status signal_count_get(struct vp *vp, u32 i, struct hv_register_value *v)
{
	v->low = __atomic_load_n(&vp->child->signals, __ATOMIC_RELAXED);
	return HV_STATUS_SUCCESS;
}

static enum hv_status hints_get(struct vp *vp, u32 i, struct hv_register_value *v)
{
	v->low = vp->child->emulation_hints;
	return HV_STATUS_SUCCESS;
}

static enum hv_status hints_set(struct vp *vp, u32 i, const struct hv_register_value *v)
{
	vp->child->emulation_hints = v->low;
	return HV_STATUS_SUCCESS;
}

#define ACTIVITY_STARTUP_SUSPEND BIT64(0)
#define ACTIVITY_HALT		 BIT64(1)

static enum hv_status activity_get(struct vp *vp, u32 i, struct hv_register_value *v)
{
	enum engine_activity a;

	if (vp->vcpu->ops->vcpu_get_activity(vp->vcpu, &a) < 0)
		return HV_STATUS_OPERATION_FAILED;
	v->low = a == ENGINE_WAITS_FOR_SIPI ? ACTIVITY_STARTUP_SUSPEND
		 : a == ENGINE_HALTED	    ? ACTIVITY_HALT
					    : 0;
	return HV_STATUS_SUCCESS;
}

static enum hv_status activity_set(struct vp *vp, u32 i, const struct hv_register_value *v)
{
	enum engine_activity a = v->low & ACTIVITY_STARTUP_SUSPEND ? ENGINE_WAITS_FOR_SIPI
				 : v->low & ACTIVITY_HALT	   ? ENGINE_HALTED
								   : ENGINE_RUNS;

	return ok(vp->vcpu->ops->vcpu_set_activity(vp->vcpu, a));
}

/* Events. */

static enum hv_status pending_get(struct vp *vp, u32 i, struct hv_register_value *v)
{
	u64 state;

	child_events_get(vp, &v->low, &state);
	return HV_STATUS_SUCCESS;
}

static enum hv_status interrupt_state_get(struct vp *vp, u32 i, struct hv_register_value *v)
{
	u64 pending;

	child_events_get(vp, &pending, &v->low);
	return HV_STATUS_SUCCESS;
}

static enum hv_status events_set(struct vp *vp, bool state, u64 value)
{
	const struct engine_ops *ops = vp->vcpu->ops;
	struct engine_events e;

	if (ops->vcpu_get_events(vp->vcpu, &e) < 0)
		return HV_STATUS_OPERATION_FAILED;
	if (state) {
		e.interrupt_shadow = value & 1;
		e.nmi_masked = value & 2;
	} else if (!child_event_from(value, &e)) {
		return HV_STATUS_INVALID_REGISTER_VALUE;
	}
	return ok(ops->vcpu_set_events(vp->vcpu, &e));
}

static enum hv_status pending_set(struct vp *vp, u32 i, const struct hv_register_value *v)
{
	return events_set(vp, false, v->low);
}

static enum hv_status interrupt_state_set(struct vp *vp, u32 i, const struct hv_register_value *v)
{
	return events_set(vp, true, v->low);
}

/* What was injected by one of these shows as pending interruption. */
static enum hv_status zero_get(struct vp *vp, u32 i, struct hv_register_value *v)
{
	return HV_STATUS_SUCCESS;
}

static enum hv_status ignore_set(struct vp *vp, u32 i, const struct hv_register_value *v)
{
	return HV_STATUS_SUCCESS;
}

#define EVENT_PENDING	     BIT64(0)
#define EVENT_TYPE(v)	     ((u32)((v) >> 1) & 7) /* 0: exception */
#define EVENT_HAS_ERROR_CODE BIT64(8)
#define VECTOR_PF	     14

static enum hv_status pending_event_set(struct vp *vp, u32 i, const struct hv_register_value *v)
{
	const struct engine_ops *ops = vp->vcpu->ops;
	struct engine_events e;
	struct engine_sregs s;

	if (!(v->low & EVENT_PENDING))
		return HV_STATUS_SUCCESS;
	if (i || EVENT_TYPE(v->low))
		return HV_STATUS_INVALID_REGISTER_VALUE;
	if (ops->vcpu_get_events(vp->vcpu, &e) < 0 || child_sregs_get(vp, &s) < 0)
		return HV_STATUS_OPERATION_FAILED;
	e.injected = ENGINE_EVENT_EXCEPTION;
	e.vector = (u8)(v->low >> 16);
	e.has_error_code = v->low & EVENT_HAS_ERROR_CODE;
	e.error_code = (u32)(v->low >> 32);
	if ((v->low >> 16 & 0xFFFF) > 31 || ops->vcpu_set_events(vp->vcpu, &e) < 0)
		return HV_STATUS_INVALID_REGISTER_VALUE;
	if (e.vector != VECTOR_PF)
		return HV_STATUS_SUCCESS;
	s.cr2 = v->high;
	child_sregs_set(vp, &s);
	return HV_STATUS_SUCCESS;
}

static enum hv_status deliverability_get(struct vp *vp, u32 i, struct hv_register_value *v)
{
	v->low = child_deliverability_get(vp);
	return HV_STATUS_SUCCESS;
}

static enum hv_status deliverability_set(struct vp *vp, u32 i, const struct hv_register_value *v)
{
	return child_deliverability_set(vp, v->low);
}

/* Floating point. */

static int fpu_get(struct vp *vp, struct engine_fpu *f)
{
	return vp->vcpu->ops->vcpu_get_fpu(vp->vcpu, f);
}

static enum hv_status fpu_set(struct vp *vp, const struct engine_fpu *f)
{
	return ok(vp->vcpu->ops->vcpu_set_fpu(vp->vcpu, f));
}

static enum hv_status st_get(struct vp *vp, u32 i, struct hv_register_value *v)
{
	struct engine_fpu f;

	if (fpu_get(vp, &f) < 0)
		return HV_STATUS_OPERATION_FAILED;
	memcpy(v, f.st[i], sizeof(*v));
	return HV_STATUS_SUCCESS;
}

static enum hv_status st_set(struct vp *vp, u32 i, const struct hv_register_value *v)
{
	struct engine_fpu f;

	if (fpu_get(vp, &f) < 0)
		return HV_STATUS_OPERATION_FAILED;
	memcpy(f.st[i], v, sizeof(*v));
	return fpu_set(vp, &f);
}

/* HV_X64_FP_CONTROL_STATUS_REGISTER. */
static enum hv_status fp_control_get(struct vp *vp, u32 i, struct hv_register_value *v)
{
	struct engine_fpu f;

	if (fpu_get(vp, &f) < 0)
		return HV_STATUS_OPERATION_FAILED;
	v->low = f.fcw | (u64)f.fsw << 16 | (u64)f.ftw << 32 | (u64)f.last_opcode << 48;
	v->high = f.last_ip;
	return HV_STATUS_SUCCESS;
}

static enum hv_status fp_control_set(struct vp *vp, u32 i, const struct hv_register_value *v)
{
	struct engine_fpu f;

	if (fpu_get(vp, &f) < 0)
		return HV_STATUS_OPERATION_FAILED;
	f.fcw = (u16)v->low;
	f.fsw = (u16)(v->low >> 16);
	f.ftw = (u8)(v->low >> 32);
	f.last_opcode = (u16)(v->low >> 48);
	f.last_ip = v->high;
	return fpu_set(vp, &f);
}

#define MXCSR_MASK 0xFFFFull

/* HV_X64_XMM_CONTROL_STATUS_REGISTER. The mask is the processor's. */
static enum hv_status xmm_control_get(struct vp *vp, u32 i, struct hv_register_value *v)
{
	struct engine_fpu f;

	if (fpu_get(vp, &f) < 0)
		return HV_STATUS_OPERATION_FAILED;
	v->low = f.last_dp;
	v->high = f.mxcsr | MXCSR_MASK << 32;
	return HV_STATUS_SUCCESS;
}

static enum hv_status xmm_control_set(struct vp *vp, u32 i, const struct hv_register_value *v)
{
	struct engine_fpu f;

	if (fpu_get(vp, &f) < 0)
		return HV_STATUS_OPERATION_FAILED;
	f.last_dp = v->low;
	f.mxcsr = (u32)(v->high & MXCSR_MASK); /* another bit would be #GP for the processor */
	return fpu_set(vp, &f);
}

static enum hv_status xfem_get(struct vp *vp, u32 i, struct hv_register_value *v)
{
	if (vp->vcpu->ops->vcpu_get_xcr0(vp->vcpu, &v->low) < 0)
		v->low = 1; /* a processor without XSAVE */
	return HV_STATUS_SUCCESS;
}

static enum hv_status xfem_set(struct vp *vp, u32 i, const struct hv_register_value *v)
{
	struct hv_register_value now = { 0 };

	if (v->low == 1 && xfem_get(vp, i, &now) == HV_STATUS_SUCCESS && now.low == 1)
		return HV_STATUS_SUCCESS;
	return ok(vp->vcpu->ops->vcpu_set_xcr0(vp->vcpu, v->low));
}

/* Debug registers: DR0 to 3, 6, 7. */

static u64 *debug_field(struct engine_debugregs *d, u32 i)
{
	return i < 4 ? &d->dr[i] : i == 4 ? &d->dr6 : &d->dr7;
}

static enum hv_status debug_get(struct vp *vp, u32 i, struct hv_register_value *v)
{
	struct engine_debugregs d;

	if (vp->vcpu->ops->vcpu_get_debugregs(vp->vcpu, &d) < 0)
		return HV_STATUS_OPERATION_FAILED;
	v->low = *debug_field(&d, i);
	return HV_STATUS_SUCCESS;
}

static enum hv_status debug_set(struct vp *vp, u32 i, const struct hv_register_value *v)
{
	struct engine_debugregs d;

	if (vp->vcpu->ops->vcpu_get_debugregs(vp->vcpu, &d) < 0)
		return HV_STATUS_OPERATION_FAILED;
	*debug_field(&d, i) = v->low;
	return ok(vp->vcpu->ops->vcpu_set_debugregs(vp->vcpu, &d));
}

/*
 * One TSC for all VPs of a child. A value near to what it shows is how a VMM brings
 * VPs together that it takes for independent: they are together already.
 */
static enum hv_status tsc_get(struct vp *vp, u32 i, struct hv_register_value *v)
{
	v->low = refclock_tsc(vp->partition->clock);
	return HV_STATUS_SUCCESS;
}

static enum hv_status tsc_set(struct vp *vp, u32 i, const struct hv_register_value *v)
{
	struct partition *p = vp->partition;
	struct refclock *clock = &p->child->clock;
	u64 ahead = v->low - refclock_tsc(clock);
	int ret;

	if (ahead < clock->tsc_hz || 0 - ahead < clock->tsc_hz)
		return HV_STATUS_SUCCESS;
	child_hold(p);
	ret = refclock_set_tsc(clock, v->low);
	partition_tsc_page_refresh(p);
	child_release(p);
	return ret < 0 ? HV_STATUS_OPERATION_FAILED : HV_STATUS_SUCCESS;
}

/* The local APIC. */

static enum hv_status apic_id_get(struct vp *vp, u32 i, struct hv_register_value *v)
{
	v->low = vp->vcpu->id;
	return HV_STATUS_SUCCESS;
}

/* Fixed when the VP was created. */
static enum hv_status apic_id_set(struct vp *vp, u32 i, const struct hv_register_value *v)
{
	return v->low == vp->vcpu->id ? HV_STATUS_SUCCESS : HV_STATUS_INVALID_REGISTER_VALUE;
}

#define LAPIC_VERSION 0x30

static enum hv_status apic_version_get(struct vp *vp, u32 i, struct hv_register_value *v)
{
	u8 regs[ENGINE_LAPIC_BYTES];
	u32 version = 0;

	if (vp->vcpu->ops->vcpu_get_lapic(vp->vcpu, regs) < 0)
		return HV_STATUS_OPERATION_FAILED;
	memcpy(&version, regs + LAPIC_VERSION, sizeof(version));
	v->low = version;
	return HV_STATUS_SUCCESS;
}

static const struct reg regs[] = {
	{ HvRegisterExplicitSuspend, 2, suspend_get, suspend_set },
	{ HvRegisterInstructionEmulationHints, 1, hints_get, hints_set },
	{ HvRegisterDispatchSuspend, 1, dispatch_suspend_get, dispatch_suspend_set },
	{ HvRegisterInternalActivityState, 1, activity_get, activity_set },
	{ HvRegisterPendingInterruption, 1, pending_get, pending_set },
	{ HvRegisterInterruptState, 1, interrupt_state_get, interrupt_state_set },
	{ HvRegisterPendingEvent0, 2, zero_get, pending_event_set },
	{ HvX64RegisterDeliverabilityNotifications, 1, deliverability_get, deliverability_set },
	{ HvX64RegisterFpMmx0, 8, st_get, st_set },
	{ HvX64RegisterFpControlStatus, 1, fp_control_get, fp_control_set },
	{ HvX64RegisterXmmControlStatus, 1, xmm_control_get, xmm_control_set },
	{ HvX64RegisterXfem, 1, xfem_get, xfem_set },
	{ HvX64RegisterDr0, 6, debug_get, debug_set },
	{ HvX64RegisterTsc, 1, tsc_get, tsc_set },
	{ HvX64RegisterInitialApicId, 1, apic_id_get, apic_id_set },
	{ HvX64RegisterApicId, 1, apic_id_get, apic_id_set },
	{ HvX64RegisterApicVersion, 1, apic_version_get, ignore_set },
	{ HvRegisterVpRootSignalCount, 1, signal_count_get, ignore_set },
};

static const struct reg *find(u32 name)
{
	for (u32 i = 0; i < ARRAY_SIZE(regs); i++)
		if (name - regs[i].name < regs[i].count)
			return &regs[i];
	return NULL;
}

bool child_reg_exists(u32 name)
{
	return find(name) != NULL;
}

enum hv_status child_reg_get(struct vp *vp, u32 name, struct hv_register_value *v)
{
	const struct reg *r = find(name);

	*v = (struct hv_register_value){ 0 };
	return r->get(vp, name - r->name, v);
}

enum hv_status child_reg_set(struct vp *vp, u32 name, const struct hv_register_value *v)
{
	const struct reg *r = find(name);

	return r->set(vp, name - r->name, v);
}

bool child_reg_is_control(u32 name)
{
	return name <= HvRegisterInternalActivityState;
}
