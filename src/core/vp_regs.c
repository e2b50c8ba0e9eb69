// SPDX-License-Identifier: MIT
/*
 * VP registers by name. A row says where a register lives; synthetic registers
 * are the MSR rows under another name, so a rule stands once. Architectural
 * registers, and the synthetic ones without a lock, can be reached only on the
 * calling VP: another VP's thread owns its own.
 */
#include <string.h>

#include "core/child_regs.h"
#include "core/cpuid.h"
#include "core/hypercall.h"
#include "core/msr.h"
#include "hvdef/vp_regs.h"

enum place { IN_REGS, IN_SREGS, IN_SEGMENT, IN_TABLE, IN_XMM, IN_ARCH_MSR, IN_SYNTHETIC, IN_CPUID };

struct vp_reg {
	u32 name, count;
	enum place place;
	u32 where; /* offset in the engine's structure, or MSR number, or leaf */
	u32 step;  /* from one MSR to the next; 0: 1 */
};

#define REG(name, field)                                                                           \
	{                                                                                          \
		name, 1, IN_REGS, offsetof(struct engine_regs, field)                              \
	}
#define SREG(name, field)                                                                          \
	{                                                                                          \
		name, 1, IN_SREGS, offsetof(struct engine_sregs, field)                            \
	}
#define SEG(n, field)                                                                              \
	{                                                                                          \
		HvX64RegisterEs + n, 1, IN_SEGMENT, offsetof(struct engine_sregs, field)           \
	}

/* The engine does not give access to it: reads as zero. */
#define MSR_NONE 0xFFFFFFFFu

static const struct vp_reg vp_regs[] = {
	REG(HvX64RegisterRax + 0, rax),
	REG(HvX64RegisterRax + 1, rcx),
	REG(HvX64RegisterRax + 2, rdx),
	REG(HvX64RegisterRax + 3, rbx),
	REG(HvX64RegisterRax + 4, rsp),
	REG(HvX64RegisterRax + 5, rbp),
	REG(HvX64RegisterRax + 6, rsi),
	REG(HvX64RegisterRax + 7, rdi),
	{ HvX64RegisterRax + 8, 8, IN_REGS, offsetof(struct engine_regs, r8) },
	REG(HvX64RegisterRip, rip),
	REG(HvX64RegisterRflags, rflags),
	{ HvX64RegisterXmm0, 16, IN_XMM, 0 },
	SREG(HvX64RegisterCr0, cr0),
	SREG(HvX64RegisterCr2, cr2),
	SREG(HvX64RegisterCr3, cr3),
	SREG(HvX64RegisterCr4, cr4),
	SREG(HvX64RegisterCr8, cr8),
	/* Those a parent sets before the others that they have to go with. */
	SREG(HvX64RegisterIntermediateCr0, cr0),
	SREG(HvX64RegisterIntermediateCr3, cr3),
	SREG(HvX64RegisterIntermediateCr4, cr4),
	SREG(HvX64RegisterIntermediateCr8, cr8),
	SREG(HvX64RegisterEfer, efer),
	SREG(HvX64RegisterApicBase, apic_base),
	SEG(0, es),
	SEG(1, cs),
	SEG(2, ss),
	SEG(3, ds),
	SEG(4, fs),
	SEG(5, gs),
	SEG(6, ldt),
	SEG(7, tr),
	{ HvX64RegisterIdtr, 1, IN_TABLE, offsetof(struct engine_sregs, idt) },
	{ HvX64RegisterGdtr, 1, IN_TABLE, offsetof(struct engine_sregs, gdt) },
	{ HvX64RegisterTsc, 1, IN_ARCH_MSR, 0x10 },
	{ HvX64RegisterKernelGsBase, 1, IN_ARCH_MSR, 0xC0000102 },
	{ HvX64RegisterPat, 1, IN_ARCH_MSR, 0x277 },
	{ HvX64RegisterSysenterCs, 1, IN_ARCH_MSR, 0x174 },
	{ HvX64RegisterSysenterEip, 1, IN_ARCH_MSR, 0x176 },
	{ HvX64RegisterSysenterEsp, 1, IN_ARCH_MSR, 0x175 },
	{ HvX64RegisterStar, 4, IN_ARCH_MSR, 0xC0000081 }, /* star lstar cstar sfmask */
	{ HvX64RegisterTscAux, 1, IN_ARCH_MSR, 0xC0000103 },
	{ HvX64RegisterMtrrCap, 1, IN_ARCH_MSR, 0xFE },
	{ HvX64RegisterMtrrDefType, 1, IN_ARCH_MSR, 0x2FF },
	{ HvX64RegisterMtrrPhysBase0, 16, IN_ARCH_MSR, 0x200, .step = 2 },
	{ HvX64RegisterMtrrPhysMask0, 16, IN_ARCH_MSR, 0x201, .step = 2 },
	{ HvX64RegisterMtrrFix64k00000, 1, IN_ARCH_MSR, 0x250 },
	{ HvX64RegisterMtrrFix16k80000, 2, IN_ARCH_MSR, 0x258 },
	{ HvX64RegisterMtrrFix4kC0000, 8, IN_ARCH_MSR, 0x268 },
	{ HvX64RegisterBndcfgs, 1, IN_ARCH_MSR, 0xD90 },
	{ HvX64RegisterDebugCtl, 1, IN_ARCH_MSR, 0x1D9 },
	{ HvX64RegisterSpecCtrl, 1, IN_ARCH_MSR, 0x48 },
	{ HvX64RegisterUXss, 1, IN_ARCH_MSR, 0xDA0 },
	{ HvX64RegisterUCet, 1, IN_ARCH_MSR, 0x6A0 },
	{ HvX64RegisterSCet, 1, IN_ARCH_MSR, 0x6A2 },
	{ HvX64RegisterSsp, 1, IN_ARCH_MSR, MSR_NONE },
	{ HvX64RegisterPl0Ssp, 4, IN_ARCH_MSR, 0x6A4 },
	{ HvX64RegisterInterruptSspTableAddr, 1, IN_ARCH_MSR, 0x6A8 },
	{ HvX64RegisterTscAdjust, 1, IN_ARCH_MSR, 0x3B },
	{ HvX64RegisterMiscEnable, 1, IN_ARCH_MSR, 0x1A0 },
	{ HvRegisterHypervisorVersion, 1, IN_CPUID, HV_CPUID_VERSION },
	{ HvRegisterPrivilegesAndFeaturesInfo, 4, IN_CPUID, HV_CPUID_FEATURES },
	{ HvRegisterGuestCrashP0, 6, IN_SYNTHETIC, HV_X64_MSR_CRASH_P0 },
	{ HvRegisterVpRuntime, 1, IN_SYNTHETIC, HV_X64_MSR_VP_RUNTIME },
	{ HvX64RegisterHypercall, 1, IN_SYNTHETIC, HV_X64_MSR_HYPERCALL },
	{ HvRegisterGuestOsId, 1, IN_SYNTHETIC, HV_X64_MSR_GUEST_OS_ID },
	{ HvRegisterVpIndex, 1, IN_SYNTHETIC, HV_X64_MSR_VP_INDEX },
	{ HvRegisterTimeRefCount, 1, IN_SYNTHETIC, HV_X64_MSR_TIME_REF_COUNT },
	{ HvRegisterVpAssistPage, 1, IN_SYNTHETIC, HV_X64_MSR_VP_ASSIST_PAGE },
	{ HvRegisterReferenceTsc, 1, IN_SYNTHETIC, HV_X64_MSR_REFERENCE_TSC },
	{ HvRegisterSint0, HV_SYNIC_SINT_COUNT, IN_SYNTHETIC, HV_X64_MSR_SINT0 },
	{ HvRegisterScontrol, 6, IN_SYNTHETIC, HV_X64_MSR_SCONTROL },
	{ HvRegisterStimer0Config, 2 * HV_SYNIC_STIMER_COUNT, IN_SYNTHETIC,
	  HV_X64_MSR_STIMER0_CONFIG },
};

static const struct vp_reg *find(u32 name)
{
	for (u32 i = 0; i < ARRAY_SIZE(vp_regs); i++)
		if (name - vp_regs[i].name < vp_regs[i].count)
			return &vp_regs[i];
	return NULL;
}

/* A parent sets most of these with each intercept: they need not be looked for elsewhere. */
static bool is_general(const struct vp_reg *r)
{
	return r && r->place == IN_REGS;
}

static u64 *field(void *base, const struct vp_reg *r, u32 i)
{
	return (u64 *)(void *)((u8 *)base + r->where) + i;
}

/*
 * @parent: of a child's VP by its parent. Its special registers are collected, for they
 * are set one after the other.
 */
static int sregs_read(struct vp *vp, bool parent, struct engine_sregs *s)
{
	return parent ? child_sregs_get(vp, s) : vp->vcpu->ops->vcpu_get_sregs(vp->vcpu, s);
}

static int sregs_write(struct vp *vp, bool parent, const struct engine_sregs *s)
{
	if (!parent)
		return vp->vcpu->ops->vcpu_set_sregs(vp->vcpu, s);
	child_sregs_set(vp, s);
	return 0;
}

static enum hv_status sregs_get(struct vp *vp, bool parent, const struct vp_reg *r,
				struct hv_register_value *v)
{
	struct engine_sregs s;
	const struct engine_segment *seg;
	const struct engine_table *table;

	if (sregs_read(vp, parent, &s) < 0)
		return HV_STATUS_OPERATION_FAILED;
	if (r->place == IN_SREGS) {
		v->low = *field(&s, r, 0);
	} else if (r->place == IN_SEGMENT) {
		seg = (const void *)field(&s, r, 0);
		*v = (struct hv_register_value){ seg->base, seg->limit | (u64)seg->selector << 32 |
								    (u64)seg->attributes << 48 };
	} else {
		table = (const void *)field(&s, r, 0);
		*v = (struct hv_register_value){ (u64)table->limit << 48, table->base };
	}
	return HV_STATUS_SUCCESS;
}

static enum hv_status sregs_set(struct vp *vp, bool parent, const struct vp_reg *r,
				const struct hv_register_value *v)
{
	struct engine_vcpu *vcpu = vp->vcpu;
	struct engine_sregs s;

	if (vcpu->ops->vcpu_complete(vcpu) < 0 || sregs_read(vp, parent, &s) < 0)
		return HV_STATUS_OPERATION_FAILED;
	if (r->place == IN_SREGS)
		*field(&s, r, 0) = v->low;
	else if (r->place == IN_SEGMENT)
		*(struct engine_segment *)(void *)field(&s, r, 0) =
			(struct engine_segment){ v->low, (u32)v->high, (u16)(v->high >> 32),
						 (u16)(v->high >> 48) };
	else
		*(struct engine_table *)(void *)field(&s, r, 0) =
			(struct engine_table){ v->high, (u16)(v->low >> 48) };
	return sregs_write(vp, parent, &s) < 0 ? HV_STATUS_INVALID_REGISTER_VALUE
					       : HV_STATUS_SUCCESS;
}

static enum hv_status xmm_access(struct vp *vp, u32 i, struct hv_register_value *v, bool set)
{
	u8 xmm[16][16];

	if (vp->vcpu->ops->vcpu_get_xmm(vp->vcpu, xmm) < 0)
		return HV_STATUS_OPERATION_FAILED;
	if (!set) {
		memcpy(v, xmm[i], sizeof(*v));
		return HV_STATUS_SUCCESS;
	}
	memcpy(xmm[i], v, sizeof(*v));
	return vp->vcpu->ops->vcpu_set_xmm(vp->vcpu, (const u8(*)[16])xmm) < 0
		       ? HV_STATUS_OPERATION_FAILED
		       : HV_STATUS_SUCCESS;
}

/*
 * VMMs name in one call all the registers they know, and all must succeed: what the
 * processor of a child does not have is zero and stays so.
 */
static enum hv_status arch_msr_get(struct vp *vp, bool parent, u32 index, u64 *value)
{
	if (vp->vcpu->ops->vcpu_get_msr(vp->vcpu, index, value) >= 0)
		return HV_STATUS_SUCCESS;
	*value = 0;
	return parent ? HV_STATUS_SUCCESS : HV_STATUS_INVALID_PARAMETER;
}

static enum hv_status arch_msr_set(struct vp *vp, bool parent, u32 index, u64 value)
{
	u64 now;

	if (vp->vcpu->ops->vcpu_set_msr(vp->vcpu, index, value) >= 0)
		return HV_STATUS_SUCCESS;
	if (parent && arch_msr_get(vp, parent, index, &now) == HV_STATUS_SUCCESS && now == value)
		return HV_STATUS_SUCCESS;
	return HV_STATUS_INVALID_REGISTER_VALUE;
}

/* A parent reaches its child's registers whatever it lets the child do itself. */
static enum vp_fault synthetic_get(struct vp *vp, bool parent, u32 index, u64 *value)
{
	return parent ? msr_peek(vp, index, value) : msr_read(vp, index, value);
}

static enum vp_fault synthetic_set(struct vp *vp, bool parent, u32 index, u64 value)
{
	return parent ? msr_poke(vp, index, value) : msr_write(vp, index, value);
}

static u32 msr_index(const struct vp_reg *r, u32 i)
{
	return r->where + i * (r->step ? r->step : 1);
}

static void leaf_get(struct vp *vp, u32 leaf, struct hv_register_value *v)
{
	struct engine_cpuid regs = { .leaf = leaf };

	hv_cpuid_fill(vp->partition, &regs);
	v->low = regs.eax | (u64)regs.ebx << 32;
	v->high = regs.ecx | (u64)regs.edx << 32;
}

/* State without a lock, or the engine's: only the VP's own thread may touch it. */
static bool belongs_to_thread(const struct vp_reg *r)
{
	if (r->place == IN_SYNTHETIC)
		return r->where == HV_X64_MSR_VP_ASSIST_PAGE || r->where == HV_X64_MSR_VP_RUNTIME ||
		       r->where - HV_X64_MSR_STIMER0_CONFIG < 2 * HV_SYNIC_STIMER_COUNT;
	return r->place != IN_CPUID;
}

static enum hv_status reg_get(struct vp *vp, bool parent, u32 name, struct hv_register_value *v)
{
	const struct vp_reg *r = find(name);
	u32 i = r ? name - r->name : 0;

	*v = (struct hv_register_value){ 0 };
	if (parent && !is_general(r) && child_reg_exists(name))
		return child_reg_get(vp, name, v);
	if (!r)
		return HV_STATUS_INVALID_PARAMETER;
	switch (r->place) {
	case IN_REGS:
		v->low = *field(vp->vcpu->regs, r, i);
		return HV_STATUS_SUCCESS;
	case IN_SREGS:
	case IN_SEGMENT:
	case IN_TABLE:
		return sregs_get(vp, parent, r, v);
	case IN_XMM:
		return xmm_access(vp, i, v, false);
	case IN_ARCH_MSR:
		return arch_msr_get(vp, parent, msr_index(r, i), &v->low);
	case IN_SYNTHETIC:
		return synthetic_get(vp, parent, r->where + i, &v->low) == VP_OK
			       ? HV_STATUS_SUCCESS
			       : HV_STATUS_ACCESS_DENIED;
	case IN_CPUID:
		leaf_get(vp, r->where + i, v);
		return HV_STATUS_SUCCESS;
	}
	return HV_STATUS_INVALID_PARAMETER;
}

static enum hv_status reg_set(struct vp *vp, bool parent, u32 name,
			      const struct hv_register_value *v)
{
	const struct vp_reg *r = find(name);
	struct hv_register_value copy = *v;
	u32 i = r ? name - r->name : 0;

	if (parent && !is_general(r) && child_reg_exists(name))
		return child_reg_set(vp, name, v);
	if (!r)
		return HV_STATUS_INVALID_PARAMETER;
	switch (r->place) {
	case IN_REGS:
		/* The call's own instruction is finished first, or it would undo a new RIP. */
		if (vp->vcpu->ops->vcpu_complete(vp->vcpu) < 0)
			return HV_STATUS_OPERATION_FAILED;
		*field(vp->vcpu->regs, r, i) = v->low;
		vp->vcpu->regs_dirty = true;
		return HV_STATUS_SUCCESS;
	case IN_SREGS:
	case IN_SEGMENT:
	case IN_TABLE:
		return sregs_set(vp, parent, r, v);
	case IN_XMM:
		return xmm_access(vp, i, &copy, true);
	case IN_ARCH_MSR:
		return arch_msr_set(vp, parent, msr_index(r, i), v->low);
	case IN_SYNTHETIC:
		return synthetic_set(vp, parent, r->where + i, v->low) == VP_OK
			       ? HV_STATUS_SUCCESS
			       : HV_STATUS_INVALID_REGISTER_VALUE;
	case IN_CPUID:
		return HV_STATUS_ACCESS_DENIED;
	}
	return HV_STATUS_INVALID_PARAMETER;
}

/* HV_INPUT_VTL: a level, and whether it counts. There is only level 0. */
static bool names_other_vtl(u8 input_vtl)
{
	return (input_vtl & HV_INPUT_VTL_USE_TARGET) && (input_vtl & HV_INPUT_VTL_TARGET_MASK);
}

/*
 * The VP a register call names, the caller's or a child's. The caller's own need the
 * privilege for it; a child's are held until target_put(), and what the parent wrote
 * to the register page comes first.
 */
static enum hv_status target_get(struct hypercall *hc, struct vp **vp)
{
	const struct hv_input_vp_registers *in = HYPERCALL_IN(hc, struct hv_input_vp_registers);
	struct partition *p;

	*vp = NULL;
	if (hypercall_is_self(hc, in->partition_id)) {
		if (!partition_has(hc->vp->partition, HV_PRIV_ACCESS_VP_REGS))
			return HV_STATUS_ACCESS_DENIED;
		if (names_other_vtl(in->input_vtl))
			return HV_STATUS_INVALID_PARAMETER;
		*vp = in->vp_index == HV_VP_INDEX_SELF
			      ? hc->vp
			      : partition_vp(hc->vp->partition, in->vp_index);
		return *vp ? HV_STATUS_SUCCESS : HV_STATUS_INVALID_VP_INDEX;
	}
	p = child_get(hc, in->partition_id);
	if (!p)
		return HV_STATUS_ACCESS_DENIED;
	if (!names_other_vtl(in->input_vtl))
		*vp = child_vp(p, in->vp_index);
	if (!*vp) {
		child_put(p);
		return names_other_vtl(in->input_vtl) ? HV_STATUS_INVALID_PARAMETER
						      : HV_STATUS_INVALID_VP_INDEX;
	}
	child_vp_hold(*vp);
	child_register_page_apply(*vp);
	return HV_STATUS_SUCCESS;
}

/* @vp is a child's, held, and not the caller's own. */
static bool by_parent(const struct hypercall *hc, const struct vp *vp)
{
	return vp->partition != hc->vp->partition;
}

static void target_put(const struct hypercall *hc, struct vp *vp)
{
	struct partition *p = vp->partition;

	if (!by_parent(hc, vp))
		return;
	child_vp_release(vp);
	child_put(p);
}

/* Registers only the VP's own thread may touch. */
static bool reachable(const struct hypercall *hc, const struct vp *vp, u32 name)
{
	const struct vp_reg *r = find(name);

	return by_parent(hc, vp) || vp == hc->vp || !r || !belongs_to_thread(r);
}

static enum hv_status call_get_vp_registers(struct hypercall *hc)
{
	const u32 *names =
		(const u32 *)(const void *)(hc->in + sizeof(struct hv_input_vp_registers));
	struct hv_register_value *out = HYPERCALL_OUT(hc, struct hv_register_value);
	struct vp *vp;
	enum hv_status status = target_get(hc, &vp);

	if (status != HV_STATUS_SUCCESS)
		return status;
	for (; hc->rep < hc->rep_count; hc->rep++) {
		status = reachable(hc, vp, names[hc->rep])
				 ? reg_get(vp, by_parent(hc, vp), names[hc->rep], &out[hc->rep])
				 : HV_STATUS_INVALID_VP_STATE;
		if (status != HV_STATUS_SUCCESS)
			break;
	}
	target_put(hc, vp);
	return status;
}

static void set_list(struct hypercall *hc, struct vp *vp, enum hv_status *status)
{
	const struct hv_register_assoc *list =
		(const void *)(hc->in + sizeof(struct hv_input_vp_registers));

	for (; hc->rep < hc->rep_count; hc->rep++) {
		*status = reachable(hc, vp, list[hc->rep].name)
				  ? reg_set(vp, by_parent(hc, vp), list[hc->rep].name,
					    &list[hc->rep].value)
				  : HV_STATUS_INVALID_VP_STATE;
		if (*status != HV_STATUS_SUCCESS)
			break;
	}
}

/*
 * A resume is a list of its own and has nothing to prepare. All else needs to know
 * which processor it is for, and must show in the register page afterwards.
 */
static void set_list_of_child(struct hypercall *hc, struct vp *vp, enum hv_status *status)
{
	const struct hv_register_assoc *list =
		(const void *)(hc->in + sizeof(struct hv_input_vp_registers));
	bool control = true, general = true;

	for (u32 i = hc->rep; i < hc->rep_count; i++) {
		control &= child_reg_is_control(list[i].name);
		general &=
			list[i].name - HvX64RegisterRax <= HvX64RegisterRflags - HvX64RegisterRax;
	}
	if (!control)
		child_vp_prepare(vp);
	set_list(hc, vp, status);
	vp->child->shut_down &= control;
	vp->child->parent_vp = hc->vp->index;
	if (!control)
		child_sregs_flush(vp);
	if (general)
		child_register_page_fill_general(vp);
	else if (!control || child_vp_suspended(vp))
		child_register_page_fill(vp);
}

static enum hv_status call_set_vp_registers(struct hypercall *hc)
{
	struct vp *vp;
	enum hv_status status = target_get(hc, &vp);

	if (status != HV_STATUS_SUCCESS)
		return status;
	if (by_parent(hc, vp))
		set_list_of_child(hc, vp, &status);
	else
		set_list(hc, vp, &status);
	target_put(hc, vp);
	return status;
}

/* A child's VPs have any indices. */
static const struct vp *vp_with_apic_id(const struct partition *p, u32 id)
{
	for (u32 i = 0; i < p->config.max_vps; i++) {
		const struct vp *vp = partition_vp(p, i);

		if (vp && vp->vcpu->id == id)
			return vp;
	}
	return NULL;
}

static enum hv_status call_vp_index_from_apic_id(struct hypercall *hc)
{
	const struct hv_input_vp_index_from_apic_id *in =
		HYPERCALL_IN(hc, struct hv_input_vp_index_from_apic_id);
	const u32 *ids = (const u32 *)(const void *)(in + 1);
	struct partition *p = hc->vp->partition;
	u32 *out = HYPERCALL_OUT(hc, u32);

	if (!hypercall_is_self(hc, in->partition_id))
		return HV_STATUS_ACCESS_DENIED;
	if (names_other_vtl(in->target_vtl))
		return HV_STATUS_INVALID_PARAMETER;
	for (; hc->rep < hc->rep_count; hc->rep++) {
		const struct vp *vp = vp_with_apic_id(p, ids[hc->rep]);

		if (!vp)
			return HV_STATUS_INVALID_PARAMETER;
		out[hc->rep] = vp->index;
	}
	return HV_STATUS_SUCCESS;
}

const struct hypercall_desc vp_reg_hypercalls[] = {
	{ .code = HVCALL_GET_VP_REGISTERS,
	  .name = "HvCallGetVpRegisters",
	  .privilege = HV_PRIV_ACCESS_VP_REGS,
	  .of_children = true,
	  .in_size = sizeof(struct hv_input_vp_registers),
	  .rep_in = sizeof(u32),
	  .rep_out = sizeof(struct hv_register_value),
	  .handler = call_get_vp_registers },
	{ .code = HVCALL_SET_VP_REGISTERS,
	  .name = "HvCallSetVpRegisters",
	  .privilege = HV_PRIV_ACCESS_VP_REGS,
	  .of_children = true,
	  .in_size = sizeof(struct hv_input_vp_registers),
	  .rep_in = sizeof(struct hv_register_assoc),
	  .handler = call_set_vp_registers },
	{ .code = HVCALL_GET_VP_INDEX_FROM_APIC_ID,
	  .name = "HvCallGetVpIndexFromApicId",
	  .in_size = sizeof(struct hv_input_vp_index_from_apic_id),
	  .rep_in = sizeof(u32),
	  .rep_out = sizeof(u32),
	  .handler = call_vp_index_from_apic_id },
	{ 0 },
};
