// SPDX-License-Identifier: MIT
/* Everything but topology is left as the engine can do it. */
#include "core/cpu_topology.h"

#include <errno.h>

#define LEAF1_ECX_VMX	       BIT(5)
#define LEAF1_ECX_X2APIC       BIT(21)
#define LEAF1_ECX_TSC_DEADLINE BIT(24)
#define LEAF1_ECX_HYPERVISOR   BIT(31)
#define LEAF1_EDX_HTT	       BIT(28)
#define EXT1_ECX_CMP_LEGACY    BIT(1)
#define EXT1_ECX_SVM	       BIT(2)
#define LEAF_SVM	       0x8000000Au

static u32 bits_for(u32 n)
{
	return n > 1 ? 32 - (u32)__builtin_clz(n - 1) : 0;
}

static bool replaced(u32 leaf)
{
	return leaf == 0xB || leaf == 0x1F || leaf == LEAF_SVM;
}

/* Leaf 0xB: a level of one thread per core, a level of all cores. */
static int extended_topology(struct engine_cpuid *list, u32 *entries, u32 capacity, u32 id,
			     u32 count)
{
	const u32 smt = 1, core = 2;
	u32 n = 0;

	for (u32 i = 0; i < *entries; i++)
		if (!replaced(list[i].leaf))
			list[n++] = list[i];
	if (n + 3 > capacity)
		return -E2BIG;
	list[n++] = (struct engine_cpuid){ 0xB, 0, true, 0, 1, smt << 8, id };
	list[n++] =
		(struct engine_cpuid){ 0xB, 1, true, bits_for(count), count, core << 8 | 1, id };
	list[n++] = (struct engine_cpuid){ 0xB, 2, true, 0, 0, 2, id };
	*entries = n;
	return 0;
}

static void patch(struct engine_cpuid *l, u32 id, u32 count)
{
	switch (l->leaf) {
	case 1:
		l->ebx = (l->ebx & 0x0000FFFF) | (count < 255 ? count : 255) << 16 | id << 24;
		l->ecx |= LEAF1_ECX_X2APIC | LEAF1_ECX_TSC_DEADLINE | LEAF1_ECX_HYPERVISOR;
		l->ecx &= ~LEAF1_ECX_VMX;
		l->edx = count > 1 ? l->edx | LEAF1_EDX_HTT : l->edx & ~LEAF1_EDX_HTT;
		break;
	case 4: /* caches: shared by one thread; cores in the package */
		if (l->eax & 0x1F)
			l->eax = (l->eax & 0x3FFF) | (count - 1) << 26;
		break;
	case 0x80000001:
		l->ecx &= ~(EXT1_ECX_SVM | EXT1_ECX_CMP_LEGACY);
		if (count > 1)
			l->ecx |= EXT1_ECX_CMP_LEGACY;
		break;
	case 0x80000008:
		l->ecx = (l->ecx & ~0xF0FFu) | bits_for(count) << 12 | ((count - 1) & 0xFF);
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

int cpu_topology_apply(struct engine_cpuid *list, u32 *entries, u32 capacity, u32 id, u32 count)
{
	int ret = extended_topology(list, entries, capacity, id, count);

	for (u32 i = 0; !ret && i < *entries; i++)
		patch(&list[i], id, count);
	return ret;
}
