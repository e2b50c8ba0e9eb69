/* SPDX-License-Identifier: MIT */
/*
 * What each partition role is offered: one row per role, with the privileges,
 * features and hints its CPUID shows. What is shown is what works.
 */
#ifndef NESTOR_MACHINE_ROLE_H
#define NESTOR_MACHINE_ROLE_H

#include "core/partition.h"

enum role { ROLE_GUEST, ROLE_COUNT };

struct role_profile {
	const char *name; /* as in --role */
	const char *what; /* for --help */
	u64 privileges;
	u32 features_edx;
	u32 hints;
	bool vmbus;    /* the partition has a VMBus of its hypervisor */
	bool hv_pages; /* the hypervisor chooses the pages (root roles) */
};

extern const struct role_profile role_profiles[ROLE_COUNT];

/* The role with this name, or ROLE_COUNT. */
enum role role_find(const char *name);

#endif
