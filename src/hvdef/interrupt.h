/* SPDX-License-Identifier: MIT */
/* Interrupts a parent raises in its children. TLFS: HvCallAssertVirtualInterrupt. */
#ifndef NESTOR_HVDEF_INTERRUPT_H
#define NESTOR_HVDEF_INTERRUPT_H

#include "base/types.h"

enum hv_interrupt_type {
	HV_X64_INTERRUPT_TYPE_FIXED,
	HV_X64_INTERRUPT_TYPE_LOWESTPRIORITY,
	HV_X64_INTERRUPT_TYPE_SMI,
	HV_X64_INTERRUPT_TYPE_REMOTEREAD,
	HV_X64_INTERRUPT_TYPE_NMI,
	HV_X64_INTERRUPT_TYPE_INIT,
	HV_X64_INTERRUPT_TYPE_SIPI,
	HV_X64_INTERRUPT_TYPE_EXTINT,
	HV_X64_INTERRUPT_TYPE_LOCALINT0,
	HV_X64_INTERRUPT_TYPE_LOCALINT1,
};

/* The type is in the low half. */
#define HV_INTERRUPT_TYPE(control) ((u32)(control))
#define HV_INTERRUPT_LEVEL	   BIT64(32)
#define HV_INTERRUPT_LOGICAL	   BIT64(33)

struct hv_input_assert_virtual_interrupt {
	u64 partition_id;
	u64 control;
	u64 destination; /* APIC id, or logical id */
	u32 vector;
	u8 target_vtl;
	u8 rsvd;
	u16 rsvd2;
};
static_assert(sizeof(struct hv_input_assert_virtual_interrupt) == 32, "TLFS size");

struct hv_input_clear_virtual_interrupt {
	u64 partition_id;
};

#endif
