/* SPDX-License-Identifier: MIT */
/* The processor that a child's VP sees: the engine's, less what its parent disabled or changed. */
#ifndef NESTOR_CORE_CHILD_CPUID_H
#define NESTOR_CORE_CHILD_CPUID_H

#include "core/child.h"
#include "core/xsave.h"
#include "hvdef/vp_cpuid.h"

#define CHILD_CPUID_MAX 256u /* entries of a list */

/*
 * Fills @list, with room for CHILD_CPUID_MAX, before what the parent registered:
 * features disabled at creation, topology, the hypervisor's leaves. -E2BIG.
 */
int child_cpuid_base(const struct vp *vp, struct engine_cpuid *list, u32 *count);
/* Adds what HvCallRegisterInterceptResult has said of @vp. -E2BIG. */
int child_cpuid_apply(struct vp *vp, struct engine_cpuid *list, u32 *count, u32 capacity);
/*
 * Both, into the engine, which judges registers by it. Before the VP runs; once it is
 * @final registering is refused. VP thread, or who holds the VP. -errno.
 */
int child_cpuid_set(struct vp *vp, bool final);
void child_cpuid_destroy(struct partition *p);

/* What GET_VP_STATE can give of @p's processors; properties 0x60007 and 0x60008. */
void child_xsave_layout(const struct partition *p, struct xsave_layout *out);

#endif
