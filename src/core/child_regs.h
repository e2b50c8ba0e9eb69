/* SPDX-License-Identifier: MIT */
/* Registers of a child's VP that only its parent can name; vp_regs.c has the others. */
#ifndef NESTOR_CORE_CHILD_REGS_H
#define NESTOR_CORE_CHILD_REGS_H

#include "core/child.h"

bool child_reg_exists(u32 name);
/* The VP is held and @name exists. */
enum hv_status child_reg_get(struct vp *vp, u32 name, struct hv_register_value *v);
enum hv_status child_reg_set(struct vp *vp, u32 name, const struct hv_register_value *v);
/* Of the VP, not of its processor: its value is not in the register page. */
bool child_reg_is_control(u32 name);

#endif
