// SPDX-License-Identifier: MIT
/* The rows. Each choice that is not obvious says why. */
#include "machine/role.h"

#include <string.h>

/*
 * Not offered: TLB flush by hypercall (a user-space hypervisor cannot flush another
 * processor's TLB). Added by the machine: AccessTscInvariant where the host has an invariant
 * TSC, AccessIntrCtrlRegs and its hint where the engine's local APICs have these registers.
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

/* A parent partition. Not AccessTscInvariant for a root: it sees the hardware's own bit. */
#define PRIVILEGES_PARENT                                                                          \
	(PRIVILEGES_COMMON | HV_PRIV_CREATE_PARTITIONS | HV_PRIV_ACCESS_PARTITION_ID |             \
	 HV_PRIV_ACCESS_MEMORY_POOL | HV_PRIV_POST_MESSAGES | HV_PRIV_SIGNAL_EVENTS |              \
	 HV_PRIV_CREATE_PORT | HV_PRIV_CONNECT_PORT | HV_PRIV_ACCESS_STATS_PAGES)

const struct role_profile role_profiles[ROLE_COUNT] = {
	[ROLE_GUEST] = {
		.name = "guest",
		.what = "an enlightened guest",
		/* Not AccessPartitionId: Linux 6.1 and 6.12 guests follow a null pointer if they see it. */
		.offer = { PRIVILEGES_COMMON | HV_PRIV_ACCESS_GUEST_IDLE | HV_PRIV_POST_MESSAGES |
				   HV_PRIV_SIGNAL_EVENTS | HV_PRIV_ACCESS_VP_REGS,
			   FEATURES_COMMON | HV_FEATURE_GUEST_IDLE, HINTS_COMMON },
		.vmbus = true,
	},
	[ROLE_ROOT] = {
		.name = "root",
		.what = "the root of a hypervisor",
		.offer = { PRIVILEGES_PARENT | HV_PRIV_CPU_MANAGEMENT, FEATURES_COMMON, HINTS_COMMON },
		.hv_pages = true,
	},
	[ROLE_NESTED_ROOT] = {
		.name = "nested-root",
		.what = "the root of a hypervisor (L1) that itself runs on one (L0)",
		.offer = { PRIVILEGES_PARENT | HV_PRIV_CPU_MANAGEMENT, FEATURES_COMMON,
			   HINTS_COMMON | HV_HINT_NESTED },
		.vmbus = true,
		.hv_pages = true,
		.nested = true,
		/* L1's partition at L0: an ordinary guest with a VMBus, which it hands to its root. */
		.outer = { PRIVILEGES_COMMON | HV_PRIV_POST_MESSAGES | HV_PRIV_SIGNAL_EVENTS,
			   FEATURES_COMMON, HINTS_COMMON },
	},
	[ROLE_L1VH] = {
		.name = "l1vh",
		.what = "a guest that may create partitions",
		.offer = { PRIVILEGES_PARENT, FEATURES_COMMON, HINTS_COMMON },
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
