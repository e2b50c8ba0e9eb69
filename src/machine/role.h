/* SPDX-License-Identifier: MIT */
/*
 * What each partition role is offered: one row per role, with the privileges,
 * features and hints its CPUID shows. What is shown is what works.
 */
#ifndef NESTOR_MACHINE_ROLE_H
#define NESTOR_MACHINE_ROLE_H

#include "core/partition.h"

enum role { ROLE_GUEST, ROLE_ROOT, ROLE_NESTED_ROOT, ROLE_L1VH, ROLE_COUNT };

/* What one hypervisor offers a partition. */
struct role_offer {
	u64 privileges;
	u32 features_edx;
	u32 hints;
};

struct role_profile {
	const char *name; /* as in --role */
	const char *what; /* for --help */
	struct role_offer offer;
	bool vmbus;    /* the partition has a VMBus: of its hypervisor, or of L0 if there is one */
	bool hv_pages; /* the hypervisor chooses the pages, and starts processors (root roles) */
	bool nested;   /* an L0 lies below the partition's hypervisor */
	struct role_offer outer; /* what L0 offers */
};

extern const struct role_profile role_profiles[ROLE_COUNT];

/* The role with this name, or ROLE_COUNT. */
enum role role_find(const char *name);

#endif
