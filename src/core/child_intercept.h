/* SPDX-License-Identifier: MIT */
/* What a parent asks to intercept of a child. TLFS: hypercalls/HvCallInstallIntercept. */
#ifndef NESTOR_CORE_CHILD_INTERCEPT_H
#define NESTOR_CORE_CHILD_INTERCEPT_H

#include "core/child.h"
#include "hvdef/intercept.h"

/*
 * A call of @vp's that only its parent can answer, for the parent asked for calls
 * of that kind (HvCallInstallIntercept). True: hypercall.c leaves the call to
 * intercept_hypercall().
 */
bool child_intercepts(const struct vp *vp, enum hv_intercept_type type);

#endif
