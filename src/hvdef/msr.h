/* SPDX-License-Identifier: MIT */
/* Synthetic MSRs. TLFS: appendix "Synthetic MSRs". */
#ifndef NESTOR_HVDEF_MSR_H
#define NESTOR_HVDEF_MSR_H

#include "base/types.h"

#define HV_X64_MSR_GUEST_OS_ID		   0x40000000u
#define HV_X64_MSR_HYPERCALL		   0x40000001u
#define HV_X64_MSR_VP_INDEX		   0x40000002u
#define HV_X64_MSR_RESET		   0x40000003u
#define HV_X64_MSR_VP_RUNTIME		   0x40000010u
#define HV_X64_MSR_TIME_REF_COUNT	   0x40000020u
#define HV_X64_MSR_REFERENCE_TSC	   0x40000021u
#define HV_X64_MSR_TSC_FREQUENCY	   0x40000022u
#define HV_X64_MSR_APIC_FREQUENCY	   0x40000023u
#define HV_X64_MSR_EOI			   0x40000070u
#define HV_X64_MSR_ICR			   0x40000071u
#define HV_X64_MSR_TPR			   0x40000072u
#define HV_X64_MSR_VP_ASSIST_PAGE	   0x40000073u
#define HV_X64_MSR_SCONTROL		   0x40000080u
#define HV_X64_MSR_SVERSION		   0x40000081u
#define HV_X64_MSR_SIEFP		   0x40000082u
#define HV_X64_MSR_SIMP			   0x40000083u
#define HV_X64_MSR_EOM			   0x40000084u
#define HV_X64_MSR_SIRBP		   0x40000085u
#define HV_X64_MSR_SINT0		   0x40000090u
#define HV_X64_MSR_STIMER0_CONFIG	   0x400000B0u
#define HV_X64_MSR_STIMER0_COUNT	   0x400000B1u
#define HV_X64_MSR_GUEST_IDLE		   0x400000F0u
#define HV_X64_MSR_CRASH_P0		   0x40000100u
#define HV_X64_MSR_CRASH_CTL		   0x40000105u
#define HV_X64_MSR_REENLIGHTENMENT_CONTROL 0x40000106u
#define HV_X64_MSR_TSC_INVARIANT_CONTROL   0x40000118u

/* A nested root's registers of the hypervisor below its own: ordinary number + 0x1000. */
#define HV_X64_MSR_NESTED_OFFSET	   0x1000u
#define HV_X64_MSR_NESTED_VP_INDEX	   0x40001002u
#define HV_X64_MSR_NESTED_SCONTROL	   0x40001080u
#define HV_X64_MSR_NESTED_SVERSION	   0x40001081u
#define HV_X64_MSR_NESTED_SIEFP		   0x40001082u
#define HV_X64_MSR_NESTED_SIMP		   0x40001083u
#define HV_X64_MSR_NESTED_EOM		   0x40001084u
#define HV_X64_MSR_NESTED_SINT0		   0x40001090u

#define HV_CRASH_PARAMETER_COUNT	   5

/* Common to the page registers: bit 0 enables, bits 63:12 are the page number. */
#define HV_MSR_PAGE_ENABLE		   BIT64(0)
#define HV_MSR_PAGE_GPN_MASK		   (~0xFFFull)
/* HYPERCALL only: the register can no longer be changed. */
#define HV_HYPERCALL_LOCKED		   BIT64(1)

#define HV_CRASH_CTL_NOTIFY		   BIT64(63)
#define HV_CRASH_CTL_MESSAGE		   BIT64(62)

#endif
