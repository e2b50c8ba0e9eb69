/* SPDX-License-Identifier: MIT */
/* A local APIC as parents see it, and as it shows itself. */
#ifndef NESTOR_CORE_LAPIC_STATE_H
#define NESTOR_CORE_LAPIC_STATE_H

#include "engine/engine.h"
#include "hvdef/vp_state.h"

void lapic_state_get(const u8 regs[ENGINE_LAPIC_BYTES],
		     struct hv_local_interrupt_controller_state *out);
/* What is not in the state (TPR, identity, version) stays as it is in @regs. */
void lapic_state_set(const struct hv_local_interrupt_controller_state *in,
		     u8 regs[ENGINE_LAPIC_BYTES]);

#endif
