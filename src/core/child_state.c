// SPDX-License-Identifier: MIT
/*
 * State of a child's VP that is taken along when it moves, or reset: the VP is
 * parked while it is copied. Most goes through pages of the parent's, named by
 * number; they are read once and written once.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/child.h"
#include "core/child_cpuid.h"
#include "core/hypercall.h"
#include "core/lapic_state.h"
#include "core/xsave.h"

/* Where a call's data is: pages of the caller's, or the call itself. */
struct transport {
	struct gmem *gmem;
	const u64 *gpn;
	u32 pages;
	u8 *data; /* inline */
	u32 bytes;
};

static enum hv_status give(const struct transport *t, const void *data, u32 bytes)
{
	const u8 *from = data;

	if (bytes > t->pages * (u64)PAGE_BYTES)
		return HV_STATUS_INVALID_PARAMETER;
	for (u32 i = 0; bytes; i++) {
		u32 n = (u32)min_u64(bytes, PAGE_BYTES);

		if (t->gpn[i] >> (64 - PAGE_SHIFT) ||
		    gmem_write(t->gmem, t->gpn[i] << PAGE_SHIFT, from, n) < 0)
			return HV_STATUS_INVALID_PARAMETER;
		from += n;
		bytes -= n;
	}
	return HV_STATUS_SUCCESS;
}

/* Up to @bytes, as many as there are pages for: the rest is zero. */
static enum hv_status take(const struct transport *t, void *data, u32 bytes)
{
	u8 *to = data;

	memset(data, 0, bytes);
	for (u32 i = 0; bytes && i < t->pages; i++) {
		u32 n = (u32)min_u64(bytes, PAGE_BYTES);

		if (t->gpn[i] >> (64 - PAGE_SHIFT) ||
		    gmem_read(t->gmem, t->gpn[i] << PAGE_SHIFT, to, n) < 0)
			return HV_STATUS_INVALID_PARAMETER;
		to += n;
		bytes -= n;
	}
	return HV_STATUS_SUCCESS;
}

typedef enum hv_status (*state_fn)(struct vp *vp, const struct hv_input_vp_state *in,
				   const struct transport *t);

static enum hv_status lapic_get(struct vp *vp, const struct hv_input_vp_state *in,
				const struct transport *t)
{
	struct hv_local_interrupt_controller_state state;
	u8 regs[ENGINE_LAPIC_BYTES];

	if (vp->vcpu->ops->vcpu_get_lapic(vp->vcpu, regs) < 0)
		return HV_STATUS_OPERATION_FAILED;
	lapic_state_get(regs, &state);
	return give(t, &state, sizeof(state));
}

static enum hv_status lapic_set(struct vp *vp, const struct hv_input_vp_state *in,
				const struct transport *t)
{
	struct hv_local_interrupt_controller_state state;
	u8 regs[ENGINE_LAPIC_BYTES];
	enum hv_status status = take(t, &state, sizeof(state));

	if (status != HV_STATUS_SUCCESS)
		return status;
	if (vp->vcpu->ops->vcpu_get_lapic(vp->vcpu, regs) < 0)
		return HV_STATUS_OPERATION_FAILED;
	lapic_state_set(&state, regs);
	return vp->vcpu->ops->vcpu_set_lapic(vp->vcpu, regs) < 0 ? HV_STATUS_INVALID_PARAMETER
								 : HV_STATUS_SUCCESS;
}

struct xsave_buffers {
	struct xsave_layout layout;
	u8 area[ENGINE_XSAVE_BYTES], compacted[ENGINE_XSAVE_BYTES];
};

static enum hv_status xsave_get_into(struct vp *vp, struct xsave_buffers *b, u64 states,
				     const struct transport *t)
{
	u32 bytes;

	child_xsave_layout(vp->partition, &b->layout);
	bytes = xsave_compact_bytes(&b->layout, states);
	if (bytes > sizeof(b->compacted) || vp->vcpu->ops->vcpu_get_xsave(vp->vcpu, b->area) < 0)
		return HV_STATUS_OPERATION_FAILED;
	xsave_compact(&b->layout, states, b->area, b->compacted);
	return give(t, b->compacted, bytes);
}

static enum hv_status xsave_set_from(struct vp *vp, struct xsave_buffers *b,
				     const struct transport *t)
{
	u32 bytes = (u32)min_u64(t->pages * (u64)PAGE_BYTES, sizeof(b->compacted));
	enum hv_status status = take(t, b->compacted, bytes);

	if (status != HV_STATUS_SUCCESS)
		return status;
	child_xsave_layout(vp->partition, &b->layout);
	if (!xsave_expand(&b->layout, b->compacted, bytes, b->area) ||
	    vp->vcpu->ops->vcpu_set_xsave(vp->vcpu, b->area) < 0)
		return HV_STATUS_INVALID_PARAMETER;
	return HV_STATUS_SUCCESS;
}

static enum hv_status xsave_get(struct vp *vp, const struct hv_input_vp_state *in,
				const struct transport *t)
{
	struct xsave_buffers *b = malloc(sizeof(*b));
	enum hv_status status =
		b ? xsave_get_into(vp, b, in->xsave_states, t) : HV_STATUS_NO_RESOURCES;

	free(b);
	return status;
}

static enum hv_status xsave_set(struct vp *vp, const struct hv_input_vp_state *in,
				const struct transport *t)
{
	struct xsave_buffers *b = malloc(sizeof(*b));
	enum hv_status status = b ? xsave_set_from(vp, b, t) : HV_STATUS_NO_RESOURCES;

	free(b);
	return status;
}

static enum synic_page page_of(const struct hv_input_vp_state *in)
{
	return in->type == HV_VP_STATE_SIM_PAGE ? SYNIC_SIM : SYNIC_SIEF;
}

static enum hv_status page_get(struct vp *vp, const struct hv_input_vp_state *in,
			       const struct transport *t)
{
	u8 page[PAGE_BYTES];

	synic_page_get(&vp->synic, page_of(in), page);
	return give(t, page, sizeof(page));
}

static enum hv_status page_set(struct vp *vp, const struct hv_input_vp_state *in,
			       const struct transport *t)
{
	u8 page[PAGE_BYTES];
	enum hv_status status = take(t, page, sizeof(page));

	if (status == HV_STATUS_SUCCESS)
		synic_page_set(&vp->synic, page_of(in), page);
	return status;
}

static enum hv_status timers_get(struct vp *vp, const struct hv_input_vp_state *in,
				 const struct transport *t)
{
	struct hv_synthetic_timers_state state = { 0 };

	stimers_recall(vp);
	for (u32 i = 0; i < HV_SYNIC_STIMER_COUNT; i++)
		stimer_state_get(&vp->stimer[i], &state.timer[i]);
	stimers_lend(vp);
	memcpy(t->data, &state, sizeof(state));
	return HV_STATUS_SUCCESS;
}

static enum hv_status timers_set(struct vp *vp, const struct hv_input_vp_state *in,
				 const struct transport *t)
{
	struct hv_synthetic_timers_state state;

	if (t->bytes < sizeof(state))
		return HV_STATUS_INVALID_PARAMETER;
	memcpy(&state, t->data, sizeof(state));
	for (u32 i = 0; i < HV_SYNIC_STIMER_COUNT; i++)
		if (!stimer_state_ok(&state.timer[i]))
			return HV_STATUS_INVALID_PARAMETER;
	stimers_recall(vp);
	for (u32 i = 0; i < HV_SYNIC_STIMER_COUNT; i++)
		stimer_state_set(&vp->stimer[i], &state.timer[i]);
	stimers_lend(vp);
	return HV_STATUS_SUCCESS;
}

static const struct state_type {
	u32 type;
	bool pages;
	state_fn get, set;
} types[] = {
	{ HV_VP_STATE_LAPIC, true, lapic_get, lapic_set },
	{ HV_VP_STATE_XSAVE, true, xsave_get, xsave_set },
	{ HV_VP_STATE_SIM_PAGE, true, page_get, page_set },
	{ HV_VP_STATE_SIEF_PAGE, true, page_get, page_set },
	{ HV_VP_STATE_SYNTHETIC_TIMERS, false, timers_get, timers_set },
};

static const struct state_type *find(u32 type)
{
	for (u32 i = 0; i < ARRAY_SIZE(types); i++)
		if (types[i].type == type)
			return &types[i];
	return NULL;
}

static enum hv_status move(struct hypercall *hc, struct partition *p, bool set)
{
	const struct hv_input_vp_state *in = HYPERCALL_IN(hc, struct hv_input_vp_state);
	const struct state_type *type = find(in->type);
	struct vp *vp = child_vp(p, in->vp_index);
	struct transport t = { .gmem = hc->vp->partition->gmem };
	enum hv_status status;

	if (!child_active(p))
		return HV_STATUS_INVALID_PARTITION_STATE;
	if (!vp)
		return HV_STATUS_INVALID_VP_INDEX;
	if (!type || (in->input_vtl & HV_INPUT_VTL_TARGET_MASK) || (type->pages && !hc->var_bytes))
		return HV_STATUS_INVALID_PARAMETER;
	if (type->pages) {
		t.gpn = HYPERCALL_VAR(hc, sizeof(*in));
		t.pages = hc->var_bytes / sizeof(u64);
	} else {
		t.data = set ? hc->in + sizeof(*in) : hc->out;
		t.bytes = hc->var_bytes;
	}
	child_vp_hold(vp);
	child_vp_prepare(vp);
	status = (set ? type->set : type->get)(vp, in, &t);
	child_vp_release(vp);
	return status;
}

static enum hv_status call(struct hypercall *hc, bool set)
{
	struct partition *p =
		child_get(hc, HYPERCALL_IN(hc, struct hv_input_vp_state)->partition_id);
	enum hv_status status;

	if (!p)
		return HV_STATUS_INVALID_PARTITION_ID;
	status = move(hc, p, set);
	child_put(p);
	return status;
}

static enum hv_status call_get_vp_state(struct hypercall *hc)
{
	return call(hc, false);
}

static enum hv_status call_set_vp_state(struct hypercall *hc)
{
	return call(hc, true);
}

const struct hypercall_desc child_state_hypercalls[] = {
	{ .code = HVCALL_GET_VP_STATE,
	  .name = "HvCallGetVpState",
	  .privilege = HV_PRIV_CREATE_PARTITIONS,
	  .in_size = sizeof(struct hv_input_vp_state),
	  .out_size = sizeof(struct hv_synthetic_timers_state),
	  .var_header = true,
	  .handler = call_get_vp_state },
	{ .code = HVCALL_SET_VP_STATE,
	  .name = "HvCallSetVpState",
	  .privilege = HV_PRIV_CREATE_PARTITIONS,
	  .in_size = sizeof(struct hv_input_vp_state),
	  .var_header = true,
	  .handler = call_set_vp_state },
	{ 0 },
};
