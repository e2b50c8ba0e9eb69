/* SPDX-License-Identifier: MIT */
/*
 * A guest's page tables and instructions: linear to physical by the rules of the
 * processor's mode (none, 32-bit, PAE, 4 and 5 levels), and the decoding of the
 * instruction a VP stopped at (Zydis). The VP is not in the guest.
 */
#ifndef NESTOR_CORE_WALK_H
#define NESTOR_CORE_WALK_H

#include "core/vp.h"
#include "hvdef/intercept.h"

/*
 * Translates @gva with @flags (HV_TRANSLATE_*): the result code of
 * HvCallTranslateVirtualAddress. The final page need not be mapped.
 */
enum hv_translate_result walk(struct vp *vp, u64 gva, u64 flags, u64 *gpa);

/* Bytes at linear address @gva into @out: how many could be read before a page could not. */
u32 walk_read(struct vp *vp, u64 gva, void *out, u32 bytes);

#endif
