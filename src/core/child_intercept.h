/* SPDX-License-Identifier: MIT */
/*
 * What a parent asks to intercept of a child, beside what it is told anyway: ports, memory
 * that is not there, triple faults, EOIs of level-triggered interrupts. A row says of each type
 * what it does here, or why it cannot be had. TLFS: hypercalls/HvCallInstallIntercept.
 */
#ifndef NESTOR_CORE_CHILD_INTERCEPT_H
#define NESTOR_CORE_CHILD_INTERCEPT_H

#include "core/child.h"
#include "hvdef/intercept.h"

struct intercept_desc {
	enum hv_intercept_type type;
	const char *name;
	u32 access;	       /* HV_INTERCEPT_ACCESS_MASK_* that may be asked for */
	const char *parameter; /* what it is; NULL: not looked at */
	const char *what;
	/*
	 * Of a child that is active; under life_lock. NULL: the processor a child has does not
	 * stop there, HV_STATUS_PROCESSOR_FEATURE_NOT_SUPPORTED (which Linux gives to a monitor
	 * as EOPNOTSUPP). The same of what can be had in part. HV_STATUS_NO_RESOURCES: too many.
	 */
	enum hv_status (*install)(struct partition *p, const struct intercept_desc *d, u32 access,
				  u64 parameter);
};

/* All rows, for documents and tests. */
const struct intercept_desc *intercept_row(u32 row);
u32 intercept_row_count(void);

/*
 * A call of @vp's that only its parent can answer, for the parent asked for calls
 * of that kind (HvCallInstallIntercept). True: hypercall.c leaves the call to
 * intercept_hypercall().
 */
bool child_intercepts(const struct vp *vp, enum hv_intercept_type type);

/* An access that is not served and that the parent asked to see. VP thread only. */
bool child_intercepts_msr(struct vp *vp, u32 index, bool write);

#endif
