/* SPDX-License-Identifier: MIT */
/* Partitions, VPs and their state pages as a parent sees them. TLFS: partition-properties,
 * hypercalls. */
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

struct hv_input_create_partition {
	u64 flags; /* HV_CREATE_* */
	u64 proximity_domain;
	u32 compatibility_version;
	u32 rsvd;
	u64 disabled_features[2], disabled_xsave;
	u64 isolation; /* 0: none */
};
static_assert(sizeof(struct hv_input_create_partition) == 56, "TLFS size");

/* HvCallInitializePartition, Finalize, Delete. */
struct hv_input_partition {
	u64 partition_id;
};

struct hv_input_delete_vp {
	u64 partition_id;
	u32 vp_index;
	u32 rsvd;
};
static_assert(sizeof(struct hv_input_delete_vp) == 16, "TLFS size");

/* HvCallDispatchVp. */
#define HV_DISPATCH_CLEAR_INTERCEPT_SUSPEND 0x01u
#define HV_DISPATCH_HINTS		    0x3Eu /* about the caller's interrupts and speculation */

struct hv_input_dispatch_vp {
	u64 partition_id;
	u32 vp_index;
	u32 flags;
	u64 time_slice; /* 100 ns; 0: until something happens */
	u64 spec_ctrl;
};
static_assert(sizeof(struct hv_input_dispatch_vp) == 32, "as Linux declares it");

enum hv_vp_dispatch_state { HV_VP_DISPATCH_BLOCKED = 1, HV_VP_DISPATCH_READY = 2 };
enum hv_vp_dispatch_event {
	HV_VP_DISPATCH_NO_EVENT,
	HV_VP_DISPATCH_SUSPEND,
	HV_VP_DISPATCH_INTERCEPT,
};

struct hv_output_dispatch_vp {
	u32 state, event;
};

/* HV_MESSAGE_SCHEDULER_VP_SIGNAL_PAIR. */
#define HV_SCHEDULER_PAIRS_MAX 19u

struct hv_scheduler_signal_pair {
	u32 overflow_count;
	u8 vp_count;
	u8 rsvd[3];
	u64 partition_id[HV_SCHEDULER_PAIRS_MAX];
	u32 vp_index[HV_SCHEDULER_PAIRS_MAX];
	u8 rsvd2[4];
};
static_assert(sizeof(struct hv_scheduler_signal_pair) == 240, "as Linux declares it");

/* Pages of a VP that its parent sees. */
#define HV_STATE_PAGE_REGISTERS 0
#define HV_STATE_PAGE_INTERCEPT 1

struct hv_input_unmap_vp_state_page {
	u64 partition_id;
	u32 vp_index;
	u16 type; /* HV_STATE_PAGE_* */
	u8 input_vtl;
	u8 flags; /* bit 0: the caller brings the page */
};
static_assert(sizeof(struct hv_input_unmap_vp_state_page) == 16, "as Linux declares it");

struct hv_input_map_vp_state_page {
	struct hv_input_unmap_vp_state_page page;
	u64 gpn;
};
static_assert(sizeof(struct hv_input_map_vp_state_page) == 24, "as Linux declares it");

/* The register page: type 0 of MAP_VP_STATE_PAGE. */
struct hv_register_page {
	u16 version;
	u8 valid;
	u8 vtl;
	u32 dirty;   /* HV_REGISTER_PAGE_* */
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
