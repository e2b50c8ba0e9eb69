/* SPDX-License-Identifier: MIT */
/*
 * Hypercalls: one row per call, in the file that keeps what it acts on;
 * hypercall.c lists the arrays, decodes the call, checks everything that is the
 * same for all calls, and runs the handler on private memory.
 * TLFS: hypercall-interface.
 */
#ifndef NESTOR_CORE_HYPERCALL_H
#define NESTOR_CORE_HYPERCALL_H

#include "core/vp.h"
#include "hvdef/hypercall.h"

/* The hypercall page reads from this port; no device has it. */
#define HYPERCALL_PORT		 0x7C
#define HYPERCALL_FAST_BYTES	 16    /* RDX, R8 */
#define HYPERCALL_XMM_FAST_BYTES 112   /* and XMM0-5 */
#define HYPERCALL_REPS_MAX	 0xFFF /* what a control word can say */

/* One call in flight. */
struct hypercall {
	struct vp *vp; /* of the hypervisor that serves the call */
	u64 control;
	u32 in_bytes;  /* header, variable header and list together */
	u32 var_bytes; /* variable part of the header */
	u32 rep_count;
	u32 rep; /* element to work on next; the handler advances it */
	/* Instead of returning a status. Set by the dispatcher; VP_INTERCEPTED by a handler. */
	enum vp_fault fault;
	bool forwarded; /* set by a handler that passed the call on to L0 */
	u8 *in, *out;	/* private copies, a page each; out is zeroed as far as it is written */
};

struct hypercall_desc {
	u16 code;
	const char *name;
	u16 in_size, out_size; /* fixed headers */
	u16 rep_in, rep_out;   /* bytes per list element; a row with either is a rep call */
	bool rep;	       /* a rep call without list data of its own */
	bool var_header;       /* the header may be longer than in_size */
	u64 privilege;	       /* HV_PRIV_* needed, all of them */
	bool of_children;      /* CREATE_PARTITIONS will do: the handler asks for more on SELF */
	/*
	 * A simple call returns its status. A rep call works from hc->rep to
	 * hc->rep_count and returns the status of the element it stopped at.
	 */
	enum hv_status (*handler)(struct hypercall *hc);
};

/* Typed views of the private input and output. */
#define HYPERCALL_IN(hc, type)	((const type *)(const void *)(hc)->in)
#define HYPERCALL_OUT(hc, type) ((type *)(void *)(hc)->out)
/* The variable header, 8-byte units. */
#define HYPERCALL_VAR(hc, in_size) ((const u64 *)(const void *)((hc)->in + (in_size)))

/* The call's registers as the caller's mode defines them, and where the answer goes. */
struct hypercall_regs {
	u64 control, input, output;
	bool long_mode;
};

/*
 * Runs the hypercall of @vp whose registers are @regs and gives its result
 * value (RAX), or VP_FAULT_UD for a register form that is not offered, or
 * VP_INTERCEPTED. Routes calls with bit 31 to the outer VP. VP thread only.
 */
enum vp_fault hypercall_execute(struct vp *vp, const struct hypercall_regs *regs, u64 *result);

/* The exit: mode checks, registers, #UD where the ABI wants it. VP thread only. */
void hypercall_exit(struct vp *vp);

/* Partitions with @privileges may make the call. */
static inline bool hypercall_permitted(const struct hypercall_desc *d, u64 privileges)
{
	return (privileges & d->privilege) == d->privilege ||
	       (d->of_children && (privileges & HV_PRIV_CREATE_PARTITIONS));
}

/* The call works on a list. */
static inline bool hypercall_is_rep(const struct hypercall_desc *d)
{
	return d->rep || d->rep_in || d->rep_out;
}

const char *hypercall_name(u64 code);
const struct hypercall_desc *hypercall_row(u32 row);
u32 hypercall_row_count(void);

/* What the VPs of @p have called, doorbells included; not those of its outer side. */
struct row_count hypercall_row_used(const struct partition *p, u32 row);

struct hypercall_buffers {
	_Alignas(16) u8 in[PAGE_BYTES];
	_Alignas(16) u8 out[PAGE_BYTES];
};

/* A partition id in an input: the caller's own, or SELF. */
static inline bool hypercall_is_self(const struct hypercall *hc, u64 partition_id)
{
	return partition_id == HV_PARTITION_ID_SELF || partition_id == hc->vp->partition->id;
}

#endif
