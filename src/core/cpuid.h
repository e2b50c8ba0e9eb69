/* SPDX-License-Identifier: MIT */
/* The hypervisor's CPUID leaves, one row each. TLFS: feature-discovery. */
#ifndef NESTOR_CORE_CPUID_H
#define NESTOR_CORE_CPUID_H

#include "core/partition.h"

/* Fills the registers of the leaf named in @out; zero for a leaf without a row. */
void hv_cpuid_fill(const struct partition *p, struct engine_cpuid *out);

/*
 * Rewrites the list of @count entries (room for @capacity) that a VP will see:
 * no leaf of another hypervisor's remains, ours are added, absent ones in the
 * range as explicit zeros. -E2BIG.
 */
int hv_cpuid_apply(const struct partition *p, struct engine_cpuid *list, u32 *count, u32 capacity);

#endif
