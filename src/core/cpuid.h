/* SPDX-License-Identifier: MIT */
/* The hypervisor's CPUID leaves, one row each. TLFS: feature-discovery. */
#ifndef NESTOR_CORE_CPUID_H
#define NESTOR_CORE_CPUID_H

#include "core/partition.h"

struct cpuid_desc {
	u32 leaf;
	const char *name; /* the TLFS's, for documents */
	/* NULL: zero on purpose. Linux reads the leaf, and nothing is offered there. */
	void (*fill)(const struct partition *p, struct engine_cpuid *out);
};

/* All rows, for documents. */
const struct cpuid_desc *hv_cpuid_row(u32 row);
u32 hv_cpuid_row_count(void);

/* Fills the registers of the leaf named in @out; zero for a leaf without a row. */
void hv_cpuid_fill(const struct partition *p, struct engine_cpuid *out);

/*
 * Rewrites the list of @count entries (room for @capacity) that a VP will see:
 * no leaf of another hypervisor's remains, ours are added, absent ones in the
 * range as explicit zeros. -E2BIG.
 */
int hv_cpuid_apply(const struct partition *p, struct engine_cpuid *list, u32 *count, u32 capacity);

#endif
