/* SPDX-License-Identifier: MIT */
/* The processor a VP sees: the host's, with one package of single-threaded cores. */
#ifndef NESTOR_MACHINE_CPU_MODEL_H
#define NESTOR_MACHINE_CPU_MODEL_H

#include "core/partition.h"

#define CPU_LEAVES_MAX 256

struct cpu_model {
	struct engine_cpuid leaf[CPU_LEAVES_MAX];
	u32 count;
	u8 physical_bits;
	bool invariant_tsc;
};

/* What the engine supports. -errno. */
int cpu_model_init(struct cpu_model *m, struct engine *e);
/* The list for the VP with APIC id @id of @vp_count; the hypervisor leaves are those of @p. */
int cpu_model_for_vp(const struct cpu_model *m, const struct partition *p, u32 id, u32 vp_count,
		     struct cpu_model *out);

#endif
