/* SPDX-License-Identifier: MIT */
/*
 * A guest's page tables: linear to physical by the rules of the processor's mode
 * (none, 32-bit, PAE, 4 and 5 levels). The VP is not in the guest.
 */
#ifndef NESTOR_CORE_WALK_H
#define NESTOR_CORE_WALK_H

#include "core/vp.h"
#include "hvdef/intercept.h"

#define WALK_LEVELS_MAX 5

/* Where a walk went. */
struct walk_path {
	u64 gpa;		    /* of the address; with HV_TRANSLATE_SUCCESS */
	u64 table[WALK_LEVELS_MAX]; /* GPAs of the entries, from the root */
	u32 tables;		    /* with HV_TRANSLATE_GPA_UNMAPPED the last could not be read */
};

/*
 * Translates @gva with @flags (HV_TRANSLATE_*): the result code of
 * HvCallTranslateVirtualAddress. The final page need not be mapped. Without
 * HV_TRANSLATE_READ, WRITE or EXECUTE no rights are asked for.
 */
enum hv_translate_result walk(struct vp *vp, u64 gva, u64 flags, u64 *gpa);

/* The same for registers that the caller has read. */
enum hv_translate_result walk_path(struct vp *vp, const struct engine_sregs *sregs, u64 gva,
				   u64 flags, struct walk_path *path);

/* Bytes at linear address @gva into @out: how many could be read before a page could not. */
u32 walk_read(struct vp *vp, u64 gva, void *out, u32 bytes);
u32 walk_read_sregs(struct vp *vp, const struct engine_sregs *sregs, u64 gva, void *out, u32 bytes);

#endif
