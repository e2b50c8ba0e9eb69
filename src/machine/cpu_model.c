// SPDX-License-Identifier: MIT
/* Topology is written per VP (core/cpu_topology.c); everything else is what the engine can do. */
#include "machine/cpu_model.h"

#include "core/cpu_topology.h"
#include "core/cpuid.h"

#define APM_EDX_INVARIANT_TSC BIT(8)

static struct engine_cpuid *find(struct cpu_model *m, u32 leaf)
{
	for (u32 i = 0; i < m->count; i++)
		if (m->leaf[i].leaf == leaf)
			return &m->leaf[i];
	return NULL;
}

int cpu_model_init(struct cpu_model *m, struct engine *e)
{
	const struct engine_cpuid *l;
	int ret;

	m->count = CPU_LEAVES_MAX;
	ret = e->ops->cpuid_supported(e->ctx, m->leaf, &m->count);
	if (ret < 0)
		return ret;
	l = find(m, 0x80000008);
	m->physical_bits = l ? (u8)l->eax : 36;
	l = find(m, 0x80000007);
	m->invariant_tsc = l && (l->edx & APM_EDX_INVARIANT_TSC);
	return 0;
}

int cpu_model_for_vp(const struct cpu_model *m, const struct partition *p, u32 id, u32 vp_count,
		     struct cpu_model *out)
{
	int ret;

	*out = *m;
	ret = cpu_topology_apply(out->leaf, &out->count, CPU_LEAVES_MAX, id, vp_count);
	if (ret < 0)
		return ret;
	return hv_cpuid_apply(p, out->leaf, &out->count, CPU_LEAVES_MAX);
}
