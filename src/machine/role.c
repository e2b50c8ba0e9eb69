// SPDX-License-Identifier: MIT
/* The rows. Each choice that is not obvious says why. */
#include "machine/role.h"

#include <string.h>

/*
 * Not offered: APIC registers by MSR (the local APIC is the engine's), TLB flush
 * by hypercall (a user-space hypervisor cannot flush another processor's TLB).
 * AccessTscInvariant is added by the machine where the host has an invariant TSC.
 */
#define PRIVILEGES_COMMON                                                                          \
	(HV_PRIV_ACCESS_VP_RUNTIME | HV_PRIV_ACCESS_REF_COUNTER | HV_PRIV_ACCESS_SYNIC_REGS |      \
	 HV_PRIV_ACCESS_SYNTHETIC_TIMERS | HV_PRIV_ACCESS_HYPERCALL_MSRS |                         \
	 HV_PRIV_ACCESS_VP_INDEX | HV_PRIV_ACCESS_RESET | HV_PRIV_ACCESS_REF_TSC |                 \
	 HV_PRIV_ACCESS_FREQUENCY)

#define FEATURES_COMMON                                                                            \
	(HV_FEATURE_XMM_INPUT | HV_FEATURE_XMM_OUTPUT | HV_FEATURE_FREQUENCY_MSRS |                \
	 HV_FEATURE_CRASH_MSRS | HV_FEATURE_STIMER_DIRECT)

/* Without auto-EOI: an EOI does not reach user space. Relaxed timing: time may stretch here. */
#define HINTS_COMMON (HV_HINT_RELAXED_TIMING | HV_HINT_DEPRECATE_AUTO_EOI)

const struct role_profile role_profiles[ROLE_COUNT] = {
	[ROLE_GUEST] = {
		.name = "guest",
		.what = "an enlightened guest partition",
		/* Not AccessPartitionId: Linux 6.1 and 6.12 guests follow a null pointer if they see it. */
		.privileges = PRIVILEGES_COMMON | HV_PRIV_ACCESS_GUEST_IDLE | HV_PRIV_POST_MESSAGES |
			      HV_PRIV_SIGNAL_EVENTS | HV_PRIV_ACCESS_VP_REGS,
		.features_edx = FEATURES_COMMON | HV_FEATURE_GUEST_IDLE,
		.hints = HINTS_COMMON,
		.vmbus = true,
	},
};

enum role role_find(const char *name)
{
	for (u32 i = 0; i < ROLE_COUNT; i++)
		if (!strcmp(role_profiles[i].name, name))
			return (enum role)i;
	return ROLE_COUNT;
}
