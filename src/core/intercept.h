/* SPDX-License-Identifier: MIT */
/*
 * Intercepts of a child's VP: from an exit of the engine to the message its parent
 * reads, with the state before the instruction. VP thread only. Layouts:
 * hvdef/intercept.h; TLFS: intercepts.
 *
 * Each ends in child_vp_intercept() unless it says otherwise. Then no operation of
 * the engine is pending: the VP is its registers and events, vp->vcpu->regs are
 * those before the instruction, and vcpu_complete() has nothing to do.
 */
#ifndef NESTOR_CORE_INTERCEPT_H
#define NESTOR_CORE_INTERCEPT_H

#include "core/vp.h"

/* Port I/O. The instruction is undone: the parent finishes it. */
void intercept_io(struct vp *vp, struct engine_exit *exit);
/* Access to an address without memory. */
void intercept_mmio(struct vp *vp, struct engine_exit *exit);
/*
 * Memory behind a slot was not accessible (write to read-only memory, a hole).
 * Returns without an intercept when all the instruction needs is accessible by
 * now: the VP tries again.
 */
void intercept_memory(struct vp *vp, struct engine_exit *exit);
/*
 * The engine cannot execute the next instruction. False, and no intercept: for
 * another reason than that it lies where there is no memory.
 */
bool intercept_error(struct vp *vp);
/*
 * Asks the parent to fill a page of its RAM, before the VP runs. Its kernel does
 * that; where it cannot, it hands the message to its monitor, which carries out
 * the instruction it is shown. The VP's own does not reach for that page: what is
 * shown is one of INTERCEPT_NOTHING_BYTES that does nothing in any mode.
 */
#define INTERCEPT_NOTHING_BYTES 2
void intercept_missing_page(struct vp *vp, u64 gpa);
/*
 * RDMSR or WRMSR, which the parent finishes. False, and no intercept: by an instruction
 * that the message has no form for (another one since, or one that names its register).
 */
bool intercept_msr(struct vp *vp, struct engine_exit *exit);
void intercept_triple_fault(struct vp *vp);
void intercept_eoi(struct vp *vp, u8 vector);
/*
 * A hypercall that the parent answers: it writes RAX and moves RIP on by 3, the length of
 * the instruction that traps in a child's hypercall page.
 */
void intercept_hypercall(struct vp *vp);
/* A SINT of the VP's can take a message, as the parent asked to be told. */
void intercept_sint_deliverable(struct vp *vp, u16 sints);

#endif
