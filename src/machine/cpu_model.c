// SPDX-License-Identifier: MIT
/* Topology is written per VP; everything else is what the engine can do. */
#include "machine/cpu_model.h"

#include <errno.h>

#include "core/cpuid.h"

#define LEAF1_ECX_X2APIC       BIT(21)
#define LEAF1_ECX_TSC_DEADLINE BIT(24)
#define LEAF1_ECX_HYPERVISOR   BIT(31)
#define LEAF1_EDX_HTT	       BIT(28)
#define EXT1_ECX_SVM	       BIT(2)
#define LEAF1_ECX_VMX	       BIT(5)
#define EXT1_ECX_CMP_LEGACY    BIT(1)
#define EXT1_ECX_TOPOLOGY      BIT(22)
#define APM_EDX_INVARIANT_TSC  BIT(8)

static struct engine_cpuid *find(struct cpu_model *m, u32 leaf)
{
	for (u32 i = 0; i < m->count; i++)
		if (m->leaf[i].leaf == leaf)
			return &m->leaf[i];
	return NULL;
}

static void drop(struct cpu_model *m, u32 leaf)
{
	u32 n = 0;

	for (u32 i = 0; i < m->count; i++)
		if (m->leaf[i].leaf != leaf)
			m->leaf[n++] = m->leaf[i];
	m->count = n;
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

static u32 bits_for(u32 n)
{
	return n > 1 ? 32 - (u32)__builtin_clz(n - 1) : 0;
}

/* Leaf 0xB: a level of one thread per core, a level of all cores. */
static int extended_topology(struct cpu_model *m, u32 id, u32 vp_count)
{
	const u32 smt = 1, core = 2;

	drop(m, 0xB);
	drop(m, 0x1F);
	if (m->count + 3 > CPU_LEAVES_MAX)
		return -E2BIG;
	m->leaf[m->count++] = (struct engine_cpuid){ 0xB, 0, true, 0, 1, smt << 8, id };
	m->leaf[m->count++] = (struct engine_cpuid){
		0xB, 1, true, bits_for(vp_count), vp_count, core << 8 | 1, id
	};
	m->leaf[m->count++] = (struct engine_cpuid){ 0xB, 2, true, 0, 0, 2, id };
	return 0;
}

static void patch(struct engine_cpuid *l, u32 id, u32 vp_count)
{
	switch (l->leaf) {
	case 1:
		l->ebx = (l->ebx & 0x0000FFFF) | (vp_count < 255 ? vp_count : 255) << 16 | id << 24;
		l->ecx |= LEAF1_ECX_X2APIC | LEAF1_ECX_TSC_DEADLINE | LEAF1_ECX_HYPERVISOR;
		l->ecx &= ~LEAF1_ECX_VMX;
		l->edx = vp_count > 1 ? l->edx | LEAF1_EDX_HTT : l->edx & ~LEAF1_EDX_HTT;
		break;
	case 4: /* caches: shared by one thread; cores in the package */
		if (l->eax & 0x1F)
			l->eax = (l->eax & 0x3FFF) | (vp_count - 1) << 26;
		break;
	case 0x80000001:
		l->ecx &= ~(EXT1_ECX_SVM | EXT1_ECX_CMP_LEGACY);
		if (vp_count > 1)
			l->ecx |= EXT1_ECX_CMP_LEGACY;
		break;
	case 0x80000008:
		l->ecx = (l->ecx & ~0xF0FFu) | bits_for(vp_count) << 12 | ((vp_count - 1) & 0xFF);
		break;
	case 0x8000001D:
		l->eax &= 0x3FFF; /* each cache belongs to one core */
		break;
	case 0x8000001E:
		l->eax = id;
		l->ebx = id & 0xFF;
		l->ecx = 0;
		break;
	default:
		break;
	}
}

int cpu_model_for_vp(const struct cpu_model *m, const struct partition *p, u32 id, u32 vp_count,
		     struct cpu_model *out)
{
	int ret;

	*out = *m;
	drop(out, 0x8000000A); /* SVM */
	ret = extended_topology(out, id, vp_count);
	if (ret < 0)
		return ret;
	for (u32 i = 0; i < out->count; i++)
		patch(&out->leaf[i], id, vp_count);
	return hv_cpuid_apply(p, out->leaf, &out->count, CPU_LEAVES_MAX);
}
