// SPDX-License-Identifier: MIT
/* What the features leaf shows is the very mask that gates rows. */
#include "core/cpuid.h"

#include <errno.h>
#include <string.h>

#include "core/core_trace.h"

struct cpuid_desc {
	u32 leaf;
	void (*fill)(const struct partition *p, struct engine_cpuid *out);
};

static void leaf_vendor(const struct partition *p, struct engine_cpuid *out)
{
	static const char vendor[12] = { 'M', 'i', 'c', 'r', 'o', 's', 'o', 'f', 't', ' ', 'H', 'v' };

	out->eax = HV_CPUID_MAX;
	memcpy(&out->ebx, vendor, 4);
	memcpy(&out->ecx, vendor + 4, 4);
	memcpy(&out->edx, vendor + 8, 4);
}

static void leaf_interface(const struct partition *p, struct engine_cpuid *out)
{
	out->eax = HV_CPUID_INTERFACE_HV1;
}

static void leaf_version(const struct partition *p, struct engine_cpuid *out)
{
	out->eax = p->config.build;
	out->ebx = 10u << 16; /* major 10, minor 0 */
}

static void leaf_features(const struct partition *p, struct engine_cpuid *out)
{
	out->eax = (u32)p->config.privileges;
	out->ebx = (u32)(p->config.privileges >> 32);
	out->edx = p->config.features_edx;
}

static void leaf_recommendations(const struct partition *p, struct engine_cpuid *out)
{
	out->eax = p->config.hints;
	out->ebx = ~0u; /* never notify about long spin waits */
}

static void leaf_limits(const struct partition *p, struct engine_cpuid *out)
{
	out->eax = p->config.max_vps;
	out->ebx = p->config.max_lps;
}

/* Rows without a filler are zero on purpose: Linux reads them, and nothing is offered there. */
static const struct cpuid_desc hv_leaves[] = {
	{ HV_CPUID_VENDOR, leaf_vendor },
	{ HV_CPUID_INTERFACE, leaf_interface },
	{ HV_CPUID_VERSION, leaf_version },
	{ HV_CPUID_FEATURES, leaf_features },
	{ HV_CPUID_RECOMMENDATIONS, leaf_recommendations },
	{ HV_CPUID_LIMITS, leaf_limits },
	{ HV_CPUID_HARDWARE, NULL },
	{ HV_CPUID_CPU_MANAGEMENT, NULL },
	{ HV_CPUID_SVM, NULL },
	{ HV_CPUID_NESTED_FEATURES, NULL },
	{ HV_CPUID_NESTED_OPTIMIZATIONS, NULL },
	{ HV_CPUID_NESTED_OPTIMIZATIONS + 1, NULL },
	{ HV_CPUID_ISOLATION, NULL },
	/* The virtualization stack's: Linux 7 reads the properties without looking at any maximum. */
	{ HV_CPUID_STACK_VENDOR, NULL },
	{ HV_CPUID_STACK_INTERFACE, NULL },
	{ HV_CPUID_STACK_PROPERTIES, NULL },
};

void hv_cpuid_fill(const struct partition *p, struct engine_cpuid *out)
{
	out->eax = out->ebx = out->ecx = out->edx = 0;
	for (u32 i = 0; i < ARRAY_SIZE(hv_leaves); i++)
		if (hv_leaves[i].leaf == out->leaf && hv_leaves[i].fill)
			hv_leaves[i].fill(p, out);
}

static bool is_hypervisor_leaf(u32 leaf)
{
	return leaf >> 16 == 0x4000;
}

int hv_cpuid_apply(const struct partition *p, struct engine_cpuid *list, u32 *count, u32 capacity)
{
	u32 n = 0;

	for (u32 i = 0; i < *count; i++)
		if (!is_hypervisor_leaf(list[i].leaf))
			list[n++] = list[i];
	if (n + ARRAY_SIZE(hv_leaves) > capacity)
		return -E2BIG;
	for (u32 i = 0; i < ARRAY_SIZE(hv_leaves); i++) {
		struct engine_cpuid *e = &list[n++];

		*e = (struct engine_cpuid){ .leaf = hv_leaves[i].leaf };
		hv_cpuid_fill(p, e);
		core_emit(TRACE_CPUID, e->leaf, e->eax, e->ebx, e->ecx, e->edx);
	}
	*count = n;
	return 0;
}
