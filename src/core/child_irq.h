/* SPDX-License-Identifier: MIT */
/* Interrupts a parent raises in a child. */
#ifndef NESTOR_CORE_CHILD_IRQ_H
#define NESTOR_CORE_CHILD_IRQ_H

#include "core/child.h"
#include "hvdef/interrupt.h"

/*
 * Raises an interrupt with @control (its type, HV_INTERRUPT_*) in child @p. Waits
 * for a VP to leave the guest only for the types that need its local APIC (ExtINT
 * and the LINT pins). An interrupt that no processor takes is lost, as on a machine.
 * HV_STATUS_INVALID_PARAMETER: type, mode or vector; HV_STATUS_NOT_ACKNOWLEDGED: an
 * ExtINT before this one has not been taken.
 */
enum hv_status child_interrupt(struct partition *p, u64 control, u64 destination, u32 vector);

#endif
