// SPDX-License-Identifier: MIT
/* What the features leaf shows is the very mask that gates rows. */
#include "core/cpuid.h"

#include <errno.h>
#include <string.h>

#include "core/core_trace.h"

static void leaf_vendor(const struct partition *p, struct engine_cpuid *out)
{
	static const char vendor[12] = {
		'M', 'i', 'c', 'r', 'o', 's', 'o', 'f', 't', ' ', 'H', 'v'
	};

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

static const struct cpuid_desc hv_leaves[] = {
	{ HV_CPUID_VENDOR, "maximum leaf and vendor", leaf_vendor },
	{ HV_CPUID_INTERFACE, "interface", leaf_interface },
	{ HV_CPUID_VERSION, "system identity", leaf_version },
	{ HV_CPUID_FEATURES, "features", leaf_features },
	{ HV_CPUID_RECOMMENDATIONS, "recommendations", leaf_recommendations },
	{ HV_CPUID_LIMITS, "limits", leaf_limits },
	{ HV_CPUID_HARDWARE, "hardware features", NULL },
	{ HV_CPUID_CPU_MANAGEMENT, "CPU management features", NULL },
	{ HV_CPUID_SVM, "shared virtual memory features", NULL },
	{ HV_CPUID_NESTED_FEATURES, "nested hypervisor features", NULL },
	{ HV_CPUID_NESTED_OPTIMIZATIONS, "nested virtualization features", NULL },
	{ HV_CPUID_NESTED_OPTIMIZATIONS + 1, "reserved", NULL },
	{ HV_CPUID_ISOLATION, "isolation", NULL },
	/* The virtualization stack's: Linux 7 reads the properties without looking at any maximum.
	 */
	{ HV_CPUID_STACK_VENDOR, "virtualization stack: vendor", NULL },
	{ HV_CPUID_STACK_INTERFACE, "virtualization stack: interface", NULL },
	{ HV_CPUID_STACK_PROPERTIES, "virtualization stack: properties", NULL },
};

const struct cpuid_desc *hv_cpuid_row(u32 row)
{
	return &hv_leaves[row];
}

u32 hv_cpuid_row_count(void)
{
	return ARRAY_SIZE(hv_leaves);
}

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
