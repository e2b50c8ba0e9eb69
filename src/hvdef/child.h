/* SPDX-License-Identifier: MIT */
/* Partitions, VPs and their state pages as a parent sees them. TLFS: partition-properties, hypercalls. */
#ifndef NESTOR_HVDEF_CHILD_H
#define NESTOR_HVDEF_CHILD_H

#include "base/types.h"

/* Creation flags. */
#define HV_CREATE_SMT		 BIT64(0)
#define HV_CREATE_NESTED	 BIT64(1)
#define HV_CREATE_SUPER_PAGES	 BIT64(4)
#define HV_CREATE_EXO		 BIT64(8)
#define HV_CREATE_LAPIC		 BIT64(13)
#define HV_CREATE_INTERCEPT_PAGE BIT64(19)
#define HV_CREATE_X2APIC	 BIT64(22)

/* The register page: type 0 of MAP_VP_STATE_PAGE. */
struct hv_register_page {
	u16 version;
	u8 valid;
	u8 vtl;
	u32 dirty; /* HV_REGISTER_PAGE_* */
	u64 gpr[16]; /* rax rcx rdx rbx rsp rbp rsi rdi r8 to r15 */
	u64 rip, rflags;
	u64 rsvd;
	u64 xmm[6][2];
	struct hv_page_segment {
		u64 base;
		u32 limit;
		u16 selector;
		u16 attributes;
	} es, cs, ss, ds, fs, gs;
	u64 cr0, cr3, cr4, cr8, efer, dr7;
	u64 pending_interruption, interrupt_state, emulation_hints;
	u64 xfem;
};
static_assert(offsetof(struct hv_register_page, rip) == 136, "as Linux declares it");
static_assert(offsetof(struct hv_register_page, xmm) == 160, "as Linux declares it");
static_assert(offsetof(struct hv_register_page, es) == 256, "as Linux declares it");
static_assert(offsetof(struct hv_register_page, cr0) == 352, "as Linux declares it");
static_assert(offsetof(struct hv_register_page, xfem) == 424, "as Linux declares it");

#define HV_REGISTER_PAGE_GPR	  BIT(0)
#define HV_REGISTER_PAGE_RIP	  BIT(1)
#define HV_REGISTER_PAGE_XMM	  BIT(2)
#define HV_REGISTER_PAGE_SEGMENTS BIT(3)
#define HV_REGISTER_PAGE_RFLAGS	  BIT(4)

#endif
