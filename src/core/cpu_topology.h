/* SPDX-License-Identifier: MIT */
/* The place of a processor among others, as CPUID shows it: one package of single-threaded cores.
 */
#ifndef NESTOR_CORE_CPU_TOPOLOGY_H
#define NESTOR_CORE_CPU_TOPOLOGY_H

#include "engine/engine.h"

/*
 * Rewrites what @list says of topology for the processor with APIC id @id of @count
 * in its package, and leaves out what needs virtualization inside. -E2BIG.
 */
int cpu_topology_apply(struct engine_cpuid *list, u32 *entries, u32 capacity, u32 id, u32 count);

#endif
