// SPDX-License-Identifier: MIT
/*
 * The pages by which a parent sees a VP of its child's: its registers and its
 * intercept. They are pages of the child's pool that the parent may read and write
 * while they are mapped. Those of a VP change only while it is held.
 */
#include <string.h>

#include "core/child.h"

struct state_page {
	u64 *gpn;
	void **page;
};

static struct state_page state_page(struct child_vp *cv, u16 type)
{
	if (type == HV_STATE_PAGE_REGISTERS)
		return (struct state_page){ &cv->register_gpn, &cv->register_page };
	if (type == HV_STATE_PAGE_INTERCEPT)
		return (struct state_page){ &cv->intercept_gpn, &cv->intercept_page };
	return (struct state_page){ NULL, NULL };
}

static void unmap(struct vp *vp, struct state_page s)
{
	if (*s.gpn != ~0ull)
		deposit_unlend(&vp->partition->deposit, *s.gpn);
	*s.gpn = ~0ull;
	*s.page = NULL;
}

void child_state_pages_unmap(struct vp *vp)
{
	unmap(vp, state_page(vp->child, HV_STATE_PAGE_REGISTERS));
	unmap(vp, state_page(vp->child, HV_STATE_PAGE_INTERCEPT));
}

static enum hv_status map(struct vp *vp, struct state_page s)
{
	struct deposit *d = &vp->partition->deposit;
	enum hv_status status;

	if (*s.gpn != ~0ull)
		return HV_STATUS_SUCCESS;
	status = deposit_take(d, DEPOSIT_STATE_PAGE, s.gpn);
	if (status != HV_STATUS_SUCCESS) {
		*s.gpn = ~0ull;
		return status;
	}
	*s.page = deposit_lend(d, *s.gpn);
	if (!*s.page) {
		unmap(vp, s);
		return HV_STATUS_NO_RESOURCES;
	}
	memset(*s.page, 0, PAGE_BYTES);
	child_register_page_fill(vp);
	return HV_STATUS_SUCCESS;
}

/* The VP a call names, held, of a child that stays active meanwhile. */
static enum hv_status target_hold(struct hypercall *hc, struct partition **p, struct vp **vp)
{
	const struct hv_input_unmap_vp_state_page *in =
		HYPERCALL_IN(hc, struct hv_input_unmap_vp_state_page);

	*p = child_get(hc, in->partition_id);
	if (!*p)
		return HV_STATUS_INVALID_PARTITION_ID;
	*vp = child_vp(*p, in->vp_index);
	if (!*vp) {
		child_put(*p);
		return HV_STATUS_INVALID_VP_INDEX;
	}
	child_vp_hold(*vp);
	/* The end of the child comes for the pages after this, and has to wait for the hold. */
	if (child_active(*p) && child_vp(*p, in->vp_index))
		return HV_STATUS_SUCCESS;
	child_vp_release(*vp);
	child_put(*p);
	return HV_STATUS_INVALID_PARTITION_STATE;
}

static enum hv_status call_map_vp_state_page(struct hypercall *hc)
{
	const struct hv_input_map_vp_state_page *in =
		HYPERCALL_IN(hc, struct hv_input_map_vp_state_page);
	struct partition *p;
	struct vp *vp;
	struct state_page s;
	enum hv_status status;

	/* A page of the caller's choice is not offered (VMM capability bit 1). */
	if (in->page.input_vtl & HV_INPUT_VTL_TARGET_MASK || in->page.flags)
		return HV_STATUS_INVALID_PARAMETER;
	status = target_hold(hc, &p, &vp);
	if (status != HV_STATUS_SUCCESS)
		return status;
	s = state_page(vp->child, in->page.type);
	status = s.gpn ? map(vp, s) : HV_STATUS_INVALID_PARAMETER;
	if (status == HV_STATUS_SUCCESS)
		*HYPERCALL_OUT(hc, u64) = *s.gpn;
	child_vp_release(vp);
	child_put(p);
	return status;
}

static enum hv_status call_unmap_vp_state_page(struct hypercall *hc)
{
	const struct hv_input_unmap_vp_state_page *in =
		HYPERCALL_IN(hc, struct hv_input_unmap_vp_state_page);
	struct partition *p;
	struct vp *vp;
	struct state_page s;
	enum hv_status status = target_hold(hc, &p, &vp);

	if (status != HV_STATUS_SUCCESS)
		return status;
	s = state_page(vp->child, in->type);
	if (s.gpn && *s.gpn != ~0ull)
		unmap(vp, s);
	else
		status = HV_STATUS_INVALID_PARAMETER;
	child_vp_release(vp);
	child_put(p);
	return status;
}

/* The register page. */

/* Its order of general registers, by offset in the engine's. */
static const u16 gpr_offset[16] = {
	offsetof(struct engine_regs, rax), offsetof(struct engine_regs, rcx),
	offsetof(struct engine_regs, rdx), offsetof(struct engine_regs, rbx),
	offsetof(struct engine_regs, rsp), offsetof(struct engine_regs, rbp),
	offsetof(struct engine_regs, rsi), offsetof(struct engine_regs, rdi),
	offsetof(struct engine_regs, r8),  offsetof(struct engine_regs, r9),
	offsetof(struct engine_regs, r10), offsetof(struct engine_regs, r11),
	offsetof(struct engine_regs, r12), offsetof(struct engine_regs, r13),
	offsetof(struct engine_regs, r14), offsetof(struct engine_regs, r15),
};

static u64 *gpr(struct engine_regs *r, u32 i)
{
	return (u64 *)(void *)((u8 *)r + gpr_offset[i]);
}

static struct hv_page_segment segment_out(const struct engine_segment *s)
{
	return (struct hv_page_segment){ s->base, s->limit, s->selector, s->attributes };
}

static struct engine_segment segment_in(const struct hv_page_segment *s)
{
	return (struct engine_segment){ s->base, s->limit, s->selector, s->attributes };
}

static void fill_special(struct vp *vp, struct hv_register_page *page)
{
	const struct engine_ops *ops = vp->vcpu->ops;
	struct engine_debugregs debug;
	struct engine_sregs s;

	if (child_sregs_get(vp, &s) == 0) {
		page->es = segment_out(&s.es);
		page->cs = segment_out(&s.cs);
		page->ss = segment_out(&s.ss);
		page->ds = segment_out(&s.ds);
		page->fs = segment_out(&s.fs);
		page->gs = segment_out(&s.gs);
		page->cr0 = s.cr0;
		page->cr3 = s.cr3;
		page->cr4 = s.cr4;
		page->cr8 = s.cr8;
		page->efer = s.efer;
	}
	if (ops->vcpu_get_debugregs(vp->vcpu, &debug) == 0)
		page->dr7 = debug.dr7;
	if (ops->vcpu_get_xcr0(vp->vcpu, &page->xfem) < 0)
		page->xfem = 1;
}

static void fill_general(struct vp *vp, struct hv_register_page *page)
{
	struct engine_regs *r = vp->vcpu->regs;

	for (u32 i = 0; i < ARRAY_SIZE(page->gpr); i++)
		page->gpr[i] = *gpr(r, i);
	page->rip = r->rip;
	page->rflags = r->rflags;
}

void child_register_page_fill_general(struct vp *vp)
{
	struct hv_register_page *page = vp->child->register_page;

	if (!page)
		return;
	fill_general(vp, page);
	page->dirty = 0;
	page->valid = 1;
}

void child_register_page_fill(struct vp *vp)
{
	struct hv_register_page *page = vp->child->register_page;
	u8 xmm[16][16];

	if (!page)
		return;
	page->version = 1;
	page->vtl = 0;
	fill_general(vp, page);
	if (vp->vcpu->ops->vcpu_get_xmm(vp->vcpu, xmm) == 0)
		memcpy(page->xmm, xmm, sizeof(page->xmm));
	fill_special(vp, page);
	child_events_get(vp, &page->pending_interruption, &page->interrupt_state);
	page->emulation_hints = vp->child->emulation_hints;
	page->dirty = 0;
	page->valid = 1;
}

static void apply_regs(struct vp *vp, const struct hv_register_page *page)
{
	struct engine_regs *r = vp->vcpu->regs;

	for (u32 i = 0; page->dirty & HV_REGISTER_PAGE_GPR && i < ARRAY_SIZE(page->gpr); i++)
		*gpr(r, i) = page->gpr[i];
	if (page->dirty & HV_REGISTER_PAGE_RIP)
		r->rip = page->rip;
	if (page->dirty & HV_REGISTER_PAGE_RFLAGS)
		r->rflags = page->rflags;
	vp->vcpu->regs_dirty = true;
}

static void apply_xmm(struct vp *vp, const struct hv_register_page *page)
{
	u8 xmm[16][16];

	if (vp->vcpu->ops->vcpu_get_xmm(vp->vcpu, xmm) < 0)
		return;
	memcpy(xmm, page->xmm, sizeof(page->xmm));
	vp->vcpu->ops->vcpu_set_xmm(vp->vcpu, (const u8(*)[16])xmm);
}

static void apply_segments(struct vp *vp, const struct hv_register_page *page)
{
	struct engine_sregs s;

	if (child_sregs_get(vp, &s) < 0)
		return;
	s.es = segment_in(&page->es);
	s.cs = segment_in(&page->cs);
	s.ss = segment_in(&page->ss);
	s.ds = segment_in(&page->ds);
	s.fs = segment_in(&page->fs);
	s.gs = segment_in(&page->gs);
	child_sregs_set(vp, &s);
	child_sregs_flush(vp);
}

void child_register_page_apply(struct vp *vp)
{
	struct hv_register_page copy, *page = vp->child->register_page;

	if (!page || !__atomic_load_n(&page->dirty, __ATOMIC_ACQUIRE))
		return;
	copy = *page; /* its parent may be writing to it */
	page->dirty = 0;
	vp->child->shut_down = false;
	if (copy.dirty & (HV_REGISTER_PAGE_GPR | HV_REGISTER_PAGE_RIP | HV_REGISTER_PAGE_RFLAGS))
		apply_regs(vp, &copy);
	if (copy.dirty & HV_REGISTER_PAGE_XMM)
		apply_xmm(vp, &copy);
	if (copy.dirty & HV_REGISTER_PAGE_SEGMENTS)
		apply_segments(vp, &copy);
}

/* Special registers: written as a whole, so an order in which only the end is valid will do. */

int child_sregs_get(struct vp *vp, struct engine_sregs *out)
{
	if (!vp->child->sregs_pending)
		return vp->vcpu->ops->vcpu_get_sregs(vp->vcpu, out);
	*out = vp->child->sregs;
	return 0;
}

void child_sregs_set(struct vp *vp, const struct engine_sregs *in)
{
	vp->child->sregs = *in;
	vp->child->sregs_pending = true;
}

bool child_sregs_flush(struct vp *vp)
{
	struct child_vp *cv = vp->child;

	if (cv->sregs_pending && vp->vcpu->ops->vcpu_set_sregs(vp->vcpu, &cv->sregs) == 0)
		cv->sregs_pending = false;
	return !cv->sregs_pending;
}

/* Pending interruption and interrupt state: HV_X64_PENDING_INTERRUPTION_REGISTER and its sibling.
 */

static const u8 interruption_type[] = {
	[ENGINE_EVENT_INTERRUPT] = 0, [ENGINE_EVENT_NMI] = 2, [ENGINE_EVENT_EXCEPTION] = 3
};

void child_events_get(struct vp *vp, u64 *pending, u64 *state)
{
	struct engine_events e;

	*pending = *state = 0;
	if (vp->vcpu->ops->vcpu_get_events(vp->vcpu, &e) < 0)
		return;
	if (e.injected != ENGINE_EVENT_NONE)
		*pending = 1 | (u64)interruption_type[e.injected] << 1 |
			   (u64)e.has_error_code << 4 | (u64)e.vector << 16 |
			   (u64)(e.has_error_code ? e.error_code : 0) << 32;
	*state = (u64)e.interrupt_shadow | (u64)e.nmi_masked << 1;
}

bool child_event_from(u64 pending, struct engine_events *e)
{
	u32 type = (u32)(pending >> 1) & 7;

	e->injected = ENGINE_EVENT_NONE;
	if (!(pending & 1))
		return true;
	for (u32 i = ENGINE_EVENT_INTERRUPT; i < ARRAY_SIZE(interruption_type); i++)
		if (interruption_type[i] == type)
			e->injected = (enum engine_event_kind)i;
	e->vector = (u8)(pending >> 16);
	e->has_error_code = pending >> 4 & 1;
	e->error_code = (u32)(pending >> 32);
	return e->injected != ENGINE_EVENT_NONE && (pending >> 16 & 0xFFFF) <= 0xFF;
}

const struct hypercall_desc child_page_hypercalls[] = {
	{ .code = HVCALL_MAP_VP_STATE_PAGE,
	  .name = "HvCallMapVpStatePage",
	  .privilege = HV_PRIV_CREATE_PARTITIONS,
	  .in_size = sizeof(struct hv_input_map_vp_state_page),
	  .out_size = sizeof(u64),
	  .handler = call_map_vp_state_page },
	{ .code = HVCALL_UNMAP_VP_STATE_PAGE,
	  .name = "HvCallUnmapVpStatePage",
	  .privilege = HV_PRIV_CREATE_PARTITIONS,
	  .in_size = sizeof(struct hv_input_unmap_vp_state_page),
	  .handler = call_unmap_vp_state_page },
	{ 0 },
};
