/* SPDX-License-Identifier: MIT */
/* A root that touches memory it has given to its hypervisor: which page, by which deposit. */
#ifndef NESTOR_CORE_DONATED_H
#define NESTOR_CORE_DONATED_H

#include "core/vp.h"

/*
 * The VP stopped before an instruction that could not reach its memory. True if
 * the instruction, or one of its operands, lies in a donated page; its address
 * and the serial number of the DEPOSIT call. VP thread only.
 */
bool donated_find(struct vp *vp, u64 *gpa, u32 *serial);

#endif
