/* SPDX-License-Identifier: MIT */
/* CPUID results of a child's VPs as its parent sets and reads them. */
#ifndef NESTOR_HVDEF_VP_CPUID_H
#define NESTOR_HVDEF_VP_CPUID_H

#include "base/types.h"

struct hv_cpuid_override {
	u32 value, mask;
};

/* HvCallRegisterInterceptResult for CPUID; some clients send four bytes more. */
struct hv_input_register_cpuid_result {
	u64 partition_id;
	u32 vp_index; /* or HV_ANY_VP */
	u32 intercept_type;
	u32 eax, ecx;
	u8 subleaf_specific;
	u8 always_override;
	u16 padding;
	struct hv_cpuid_override result[4]; /* eax ebx ecx edx */
	u32 padding2;
};
static_assert(sizeof(struct hv_input_register_cpuid_result) == 64, "as OpenVMM declares it");
static_assert(offsetof(struct hv_input_register_cpuid_result, result) == 28, "as QEMU declares it");

struct hv_input_get_vp_cpuid_values {
	u64 partition_id;
	u32 vp_index;
	u32 flags; /* HV_GET_VP_CPUID_* */
	u64 rsvd;
};
static_assert(sizeof(struct hv_input_get_vp_cpuid_values) == 24, "TLFS size");
#define HV_GET_VP_CPUID_USE_VP_XFEM_XSS	 BIT(0)
#define HV_GET_VP_CPUID_APPLY_REGISTERED BIT(1)

struct hv_cpuid_leaf_info {
	u32 eax, ecx;
	u64 xfem, xss;
};
static_assert(sizeof(struct hv_cpuid_leaf_info) == 24, "TLFS size");

struct hv_cpuid_result {
	u32 eax, ebx, ecx, edx;
};
static_assert(sizeof(struct hv_cpuid_result) == 16, "TLFS size");

#endif
