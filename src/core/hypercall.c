// SPDX-License-Identifier: MIT
/*
 * The order of checks: reserved bits, code, shape of the call, privilege,
 * addresses. A refused call reveals nothing and touches no guest memory.
 */
#include "core/hypercall.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "base/log.h"
#include "core/core_trace.h"
#include "core/fail.h"
#include "core/intercept.h"

extern const struct hypercall_desc partition_hypercalls[], port_hypercalls[], ipi_hypercalls[],
	vp_reg_hypercalls[], deposit_hypercalls[], root_hypercalls[], device_irq_hypercalls[],
	stats_hypercalls[], child_hypercalls[], child_vp_hypercalls[], child_page_hypercalls[],
	gpa_hypercalls[], child_irq_hypercalls[], child_port_hypercalls[], child_cpuid_hypercalls[],
	child_state_hypercalls[], property_hypercalls[], walk_hypercalls[],
	child_intercept_hypercalls[], child_run_hypercalls[];

static const struct hypercall_desc *const row_arrays[] = {
	partition_hypercalls,	    port_hypercalls,	   ipi_hypercalls,
	vp_reg_hypercalls,	    deposit_hypercalls,	   root_hypercalls,
	device_irq_hypercalls,	    stats_hypercalls,	   child_hypercalls,
	child_vp_hypercalls,	    child_page_hypercalls, gpa_hypercalls,
	child_irq_hypercalls,	    child_port_hypercalls, child_cpuid_hypercalls,
	child_state_hypercalls,	    property_hypercalls,   walk_hypercalls,
	child_intercept_hypercalls, child_run_hypercalls,
};

#define CODE_SPAN 0x200u /* covers every known call but the extended ones */
#define ROWS_MAX  128u

static const struct hypercall_desc *rows[ROWS_MAX];
static u32 row_count;
static u8 row_of[CODE_SPAN]; /* row + 1; 0: none */
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void build(void)
{
	for (u32 a = 0; a < ARRAY_SIZE(row_arrays); a++) {
		for (const struct hypercall_desc *d = row_arrays[a]; d->name; d++) {
			assert(row_count < ROWS_MAX && d->code < CODE_SPAN && !row_of[d->code]);
			rows[row_count++] = d;
			row_of[d->code] = (u8)row_count;
		}
	}
}

const struct hypercall_desc *hypercall_row(u32 row)
{
	pthread_once(&once, build);
	return rows[row];
}

u32 hypercall_row_count(void)
{
	pthread_once(&once, build);
	return row_count;
}

static const struct hypercall_desc *find(u64 code)
{
	pthread_once(&once, build);
	return code < CODE_SPAN && row_of[code] ? rows[row_of[code] - 1] : NULL;
}

const char *hypercall_name(u64 code)
{
	const struct hypercall_desc *d = find(code);

	return d ? d->name : NULL;
}

static u32 out_bytes(const struct hypercall_desc *d, u32 reps)
{
	return d->out_size + reps * d->rep_out;
}

static bool shape_ok(const struct hypercall_desc *d, const struct hypercall *hc, u32 rep_start)
{
	if (hypercall_is_rep(d) ? (hc->rep_count == 0 || rep_start >= hc->rep_count)
				: (hc->rep_count || rep_start))
		return false;
	return d->var_header || hc->var_bytes == 0;
}

/*
 * What registers can carry: two of them, or with the XMM forms 112 bytes. A form
 * that was not offered does not exist (#UD), like a call from a wrong mode. The
 * output form exists for 64-bit callers only. TLFS: XMM Fast Hypercall Input, Output.
 */
static enum hv_status check_fast(const struct hypercall_desc *d, struct hypercall *hc,
				 bool long_mode)
{
	u32 features = hc->vp->partition->config.features_edx;
	u32 out = out_bytes(d, hc->rep_count);
	u64 used = out ? align_up(hc->in_bytes, 16) + out : hc->in_bytes;

	if (used > HYPERCALL_XMM_FAST_BYTES)
		return HV_STATUS_INVALID_HYPERCALL_INPUT;
	if (hc->in_bytes > HYPERCALL_FAST_BYTES && !(features & HV_FEATURE_XMM_INPUT))
		hc->fault = VP_FAULT_UD;
	if (out && !(long_mode && (features & HV_FEATURE_XMM_OUTPUT)))
		hc->fault = VP_FAULT_UD;
	return hc->fault ? HV_STATUS_INVALID_HYPERCALL_INPUT : HV_STATUS_SUCCESS;
}

static bool gpa_ok(struct hypercall *hc, u64 gpa, u32 bytes)
{
	if (!bytes)
		return true;
	return gpa % 8 == 0 && gpa % PAGE_BYTES + bytes <= PAGE_BYTES &&
	       gmem_ptr(hc->vp->partition->gmem, gpa, bytes);
}

static enum hv_status fast_input(struct hypercall *hc, const struct hypercall_regs *regs)
{
	u8 xmm[16][16];

	memcpy(hc->in, &regs->input, 8);
	memcpy(hc->in + 8, &regs->output, 8);
	if (hc->in_bytes <= HYPERCALL_FAST_BYTES)
		return HV_STATUS_SUCCESS;
	if (hc->vp->vcpu->ops->vcpu_get_xmm(hc->vp->vcpu, xmm) < 0)
		return HV_STATUS_OPERATION_FAILED;
	memcpy(hc->in + HYPERCALL_FAST_BYTES, xmm, HYPERCALL_XMM_FAST_BYTES - HYPERCALL_FAST_BYTES);
	return HV_STATUS_SUCCESS;
}

/*
 * Output of a fast call follows its input, from the next 16-byte boundary on.
 * The fixed header and the bytes @from to @to of the list are written.
 */
static void fast_output(struct hypercall *hc, u32 header, u32 from, u32 to)
{
	struct engine_vcpu *vcpu = hc->vp->vcpu;
	u8 block[HYPERCALL_XMM_FAST_BYTES], xmm[16][16];
	u32 at = (u32)align_up(hc->in_bytes, 16);

	if (vcpu->ops->vcpu_get_xmm(vcpu, xmm) < 0)
		return;
	memcpy(block, &vcpu->regs->rdx, 8);
	memcpy(block + 8, &vcpu->regs->r8, 8);
	memcpy(block + HYPERCALL_FAST_BYTES, xmm, sizeof(block) - HYPERCALL_FAST_BYTES);
	memcpy(block + at, hc->out, header);
	memcpy(block + at + from, hc->out + from, to - from);
	memcpy(&vcpu->regs->rdx, block, 8);
	memcpy(&vcpu->regs->r8, block + 8, 8);
	vcpu->regs_dirty = true;
	memcpy(xmm, block + HYPERCALL_FAST_BYTES, sizeof(block) - HYPERCALL_FAST_BYTES);
	vcpu->ops->vcpu_set_xmm(vcpu, (const u8(*)[16])xmm);
}

static enum hv_status fetch(const struct hypercall_desc *d, struct hypercall *hc,
			    const struct hypercall_regs *regs)
{
	u32 out = out_bytes(d, hc->rep_count);

	if (hc->control & HV_HYPERCALL_FAST)
		return fast_input(hc, regs);
	if (!gpa_ok(hc, regs->input, hc->in_bytes) || !gpa_ok(hc, regs->output, out))
		return HV_STATUS_INVALID_ALIGNMENT;
	if (hc->in_bytes &&
	    gmem_read(hc->vp->partition->gmem, regs->input, hc->in, hc->in_bytes) < 0)
		return HV_STATUS_INVALID_ALIGNMENT;
	return HV_STATUS_SUCCESS;
}

static void store(const struct hypercall_desc *d, struct hypercall *hc,
		  const struct hypercall_regs *regs, u32 rep_start)
{
	u32 from = d->out_size + rep_start * d->rep_out;
	u32 bytes = out_bytes(d, hc->rep);

	if (!bytes)
		return;
	/* Elements before the start index were written by the call that did them. */
	if (hc->control & HV_HYPERCALL_FAST) {
		fast_output(hc, d->out_size, from, bytes);
		return;
	}
	if (d->out_size)
		gmem_write(hc->vp->partition->gmem, regs->output, hc->out, d->out_size);
	if (bytes > from)
		gmem_write(hc->vp->partition->gmem, regs->output + from, hc->out + from,
			   bytes - from);
}

/* Decodes and checks; on success the input is in hc->in. */
static enum hv_status prepare(const struct hypercall_desc *d, struct hypercall *hc,
			      const struct hypercall_regs *regs)
{
	if (hc->control & HV_HYPERCALL_RSVD_MASK)
		return HV_STATUS_INVALID_HYPERCALL_INPUT;
	if (!d)
		return HV_STATUS_INVALID_HYPERCALL_CODE;
	hc->var_bytes = HV_HYPERCALL_VARHEAD(hc->control) * 8;
	hc->rep_count = HV_HYPERCALL_REP_COUNT(hc->control);
	hc->rep = HV_HYPERCALL_REP_START(hc->control);
	hc->in_bytes = d->in_size + hc->var_bytes + hc->rep_count * d->rep_in;
	if (!shape_ok(d, hc, hc->rep))
		return HV_STATUS_INVALID_HYPERCALL_INPUT;
	if (hc->control & HV_HYPERCALL_FAST) {
		enum hv_status status = check_fast(d, hc, regs->long_mode);

		if (status != HV_STATUS_SUCCESS)
			return status;
	}
	if (!hypercall_permitted(d, hc->vp->partition->config.privileges))
		return HV_STATUS_ACCESS_DENIED;
	/* Larger than a page: it cannot lie in one. */
	if (hc->in_bytes > PAGE_BYTES || out_bytes(d, hc->rep_count) > PAGE_BYTES)
		return HV_STATUS_INVALID_ALIGNMENT;
	return fetch(d, hc, regs);
}

/*
 * With --fail: a call that is to fail does what it does up to that element and then
 * has the rule's status; unless it fails, or stops, before that by itself.
 */
static enum hv_status run_with_rules(const struct hypercall_desc *d, struct hypercall *hc)
{
	const struct partition *p = hc->vp->partition;
	u32 from = hc->rep, all = hc->rep_count;
	struct fail_rule *rule = fail_due(p->config.fails, p->hv->name, d->code, all - from);
	enum hv_status status = HV_STATUS_SUCCESS;

	if (!rule)
		return d->handler(hc);
	if (rule->after) {
		hc->rep_count = from + rule->after;
		status = d->handler(hc);
		hc->rep_count = all;
	}
	if (status != HV_STATUS_SUCCESS || hc->fault || hc->rep < from + rule->after)
		return status;
	fail_done(rule);
	core_emit(TRACE_HYPERCALL_FAIL, d->code, rule->status, hc->rep, TRACE_WORD(p->hv->name));
	return rule->status;
}

static enum hv_status run(const struct hypercall_desc *d, struct hypercall *hc)
{
	if (unlikely(hc->vp->partition->config.fails))
		return run_with_rules(d, hc);
	return d->handler(hc);
}

static void count(struct vp *vp, const struct hypercall_desc *d, enum hv_status status,
		  bool forwarded)
{
	struct row_count *c;

	if (!d) {
		vp->unknown_hypercalls++;
		return;
	}
	c = &vp->hypercall_counts[row_of[d->code] - 1];
	c->forwarded += forwarded;
	if (status == HV_STATUS_SUCCESS)
		c->served++;
	else
		c->refused++;
}

struct row_count hypercall_row_used(const struct partition *p, u32 row)
{
	struct row_count sum = { 0 };

	if (hypercall_row(row)->code == HVCALL_SIGNAL_EVENT) {
		sum.served = __atomic_load_n(&p->doorbells.served, __ATOMIC_RELAXED);
		sum.forwarded = __atomic_load_n(&p->doorbells.forwarded, __ATOMIC_RELAXED);
	}
	for (u32 i = 0; i < p->vp_count; i++) {
		const struct row_count *c = &p->vps[i]->hypercall_counts[row];

		sum.served += c->served;
		sum.refused += c->refused;
		sum.forwarded += c->forwarded;
	}
	return sum;
}

enum vp_fault hypercall_execute(struct vp *vp, const struct hypercall_regs *regs, u64 *result)
{
	struct hypercall hc = { .vp = vp, .control = regs->control };
	const struct hypercall_desc *d = find(HV_HYPERCALL_CODE(regs->control));
	enum hv_status status;
	u32 rep_start;

	if ((regs->control & HV_HYPERCALL_NESTED) && vp->outer) {
		hc.vp = vp->outer;
		hc.control &= ~HV_HYPERCALL_NESTED;
	}
	hc.in = hc.vp->buffers->in;
	hc.out = hc.vp->buffers->out;
	core_emit(TRACE_HYPERCALL_BEGIN, HV_HYPERCALL_CODE(regs->control), regs->control,
		  regs->input, regs->output, TRACE_WORD(hc.vp->partition->hv->name));
	/* Bit 31 means "to the hypervisor below mine": without one it is a reserved bit. */
	status = hc.control & HV_HYPERCALL_NESTED ? HV_STATUS_INVALID_HYPERCALL_INPUT
						  : prepare(d, &hc, regs);
	rep_start = hc.rep;
	if (status == HV_STATUS_SUCCESS) {
		memset(hc.out, 0, out_bytes(d, hc.rep_count));
		status = run(d, &hc);
		if (status == HV_STATUS_SUCCESS || hc.rep > rep_start)
			store(d, &hc, regs, rep_start);
	}
	count(hc.vp, d, status, hc.forwarded);
	core_emit(TRACE_HYPERCALL_END, HV_HYPERCALL_CODE(regs->control), status, hc.rep,
		  TRACE_WORD(hc.vp->partition->hv->name));
	*result = HV_HYPERCALL_RESULT(status, d && hypercall_is_rep(d) ? hc.rep : 0);
	return hc.fault;
}

static void raise_ud(struct vp *vp)
{
	struct engine_vcpu *vcpu = vp->vcpu;
	u64 rip = vcpu->regs->rip;

	/* The IN must be finished before its RIP can be put back under it. */
	if (vcpu->ops->vcpu_complete(vcpu) < 0)
		return;
	vcpu->regs->rip = rip;
	vcpu->regs_dirty = true;
	vcpu->ops->vcpu_inject_exception(vcpu, 6, -1);
}

void hypercall_exit(struct vp *vp)
{
	struct engine_vcpu *vcpu = vp->vcpu;
	struct engine_mode mode = vcpu->ops->vcpu_mode(vcpu);
	struct engine_regs *r = vcpu->regs;
	struct hypercall_regs regs;
	u64 result;

	/* Without its page the interface does not exist: a read from a port nobody has. */
	if (!__atomic_load_n(&vp->partition->hypercall_enabled, __ATOMIC_ACQUIRE)) {
		r->rax = 0xFFFFFFFF;
		vcpu->regs_dirty = true;
		return;
	}
	if (mode.cpl || !mode.protected_mode) {
		raise_ud(vp);
		return;
	}
	if (mode.long_mode)
		regs = (struct hypercall_regs){ r->rcx, r->rdx, r->r8, true };
	else
		regs = (struct hypercall_regs){ r->rdx << 32 | (u32)r->rax,
						r->rbx << 32 | (u32)r->rcx,
						r->rdi << 32 | (u32)r->rsi, false };
	switch (hypercall_execute(vp, &regs, &result)) {
	case VP_OK:
		break;
	case VP_INTERCEPTED:
		intercept_hypercall(vp);
		return;
	case VP_FAULT_UD:
	case VP_FAULT_GP:
		raise_ud(vp);
		return;
	}
	if (mode.long_mode) {
		vcpu->rax_only = !vcpu->regs_dirty;
		r->rax = result;
	} else {
		r->rax = (u32)result;
		r->rdx = result >> 32;
	}
	vcpu->regs_dirty = true;
}
