// SPDX-License-Identifier: MIT
/* Stand-ins until the parts exist; each goes with the commit that brings the real one. */
#include "core/child.h"
#include "core/intercept.h"
#include "core/walk.h"

#define STUB __attribute__((weak))

STUB void intercept_io(struct vp *vp, struct engine_exit *exit)
{
}
STUB void intercept_mmio(struct vp *vp, struct engine_exit *exit)
{
}
STUB void intercept_memory(struct vp *vp, struct engine_exit *exit)
{
}
STUB void intercept_missing_page(struct vp *vp, u64 gpa)
{
}
STUB void intercept_triple_fault(struct vp *vp)
{
}
STUB void intercept_eoi(struct vp *vp, u8 vector)
{
}
STUB void intercept_sint_deliverable(struct vp *vp, u16 sints)
{
}
STUB void intercept_hypercall(struct vp *vp)
{
}
STUB enum hv_translate_result walk(struct vp *vp, u64 gva, u64 flags, u64 *gpa)
{
	return HV_TRANSLATE_PAGE_NOT_PRESENT;
}
STUB u32 walk_read(struct vp *vp, u64 gva, void *out, u32 bytes)
{
	return 0;
}
