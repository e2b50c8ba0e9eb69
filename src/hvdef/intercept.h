/* SPDX-License-Identifier: MIT */
/* Intercept messages and address translation as a parent sees them. TLFS: intercepts, hypercalls.
 */
#ifndef NESTOR_HVDEF_INTERCEPT_H
#define NESTOR_HVDEF_INTERCEPT_H

#include "base/types.h"

/* Types of intercept messages (struct hv_message). */
enum hv_intercept_message {
	HV_MESSAGE_UNMAPPED_GPA = 0x80000000,
	HV_MESSAGE_GPA_INTERCEPT = 0x80000001,
	HV_MESSAGE_UNRECOVERABLE_EXCEPTION = 0x80000021,
	HV_MESSAGE_HYPERCALL_INTERCEPT = 0x80000050,
	HV_MESSAGE_SINT_DELIVERABLE = 0x80000062,
	HV_MESSAGE_X64_IO_PORT = 0x80010000,
	HV_MESSAGE_X64_MSR = 0x80010001,
	HV_MESSAGE_X64_APIC_EOI = 0x80010004,
};

enum hv_intercept_access { HV_INTERCEPT_READ, HV_INTERCEPT_WRITE, HV_INTERCEPT_EXECUTE };

struct hv_x64_segment {
	u64 base;
	u32 limit;
	u16 selector;
	u16 attributes; /* type 3:0, S 4, DPL 6:5, P 7, AVL 12, L 13, D/B 14, G 15 */
};
static_assert(sizeof(struct hv_x64_segment) == 16, "TLFS size");

#define HV_EXECUTION_CPL_MASK		  0x3
#define HV_EXECUTION_CR0_PE		  BIT(2)
#define HV_EXECUTION_CR0_AM		  BIT(3)
#define HV_EXECUTION_EFER_LMA		  BIT(4)
#define HV_EXECUTION_INTERRUPTION_PENDING BIT(6)
#define HV_EXECUTION_INTERRUPT_SHADOW	  BIT(12)

/* Begins every intercept message but the one of an EOI. */
struct hv_intercept_header {
	u32 vp_index;
	u8 length_cr8; /* instruction length 3:0 (0: not known), CR8 7:4 */
	u8 access;     /* enum hv_intercept_access */
	u16 execution_state;
	struct hv_x64_segment cs;
	u64 rip, rflags;
};
static_assert(sizeof(struct hv_intercept_header) == 40, "TLFS size");

#define HV_INTERCEPT_BYTES 16 /* of the instruction, at most */

#define HV_MEMORY_GVA_VALID	BIT(0)
#define HV_MEMORY_GVA_GPA_VALID BIT(1) /* and it translates to the GPA */

struct hv_memory_intercept {
	struct hv_intercept_header header;
	u32 cache_type; /* enum hv_cache_type */
	u8 byte_count;
	u8 info; /* HV_MEMORY_* */
	u8 tpr;
	u8 rsvd;
	u64 gva, gpa;
	u8 bytes[HV_INTERCEPT_BYTES];
};
static_assert(sizeof(struct hv_memory_intercept) == 80, "TLFS size");

#define HV_IO_SIZE_MASK 0x7
#define HV_IO_STRING	BIT(3)
#define HV_IO_REP	BIT(4)

struct hv_io_port_intercept {
	struct hv_intercept_header header;
	u16 port;
	u8 info; /* HV_IO_* */
	u8 byte_count;
	u32 rsvd;
	u64 rax;
	u8 bytes[HV_INTERCEPT_BYTES];
	struct hv_x64_segment ds, es;
	u64 rcx, rsi, rdi;
};
static_assert(sizeof(struct hv_io_port_intercept) == 128, "TLFS size");

/* RDMSR or WRMSR, whose number is in ECX and whose value is in EDX:EAX. */
struct hv_msr_intercept {
	struct hv_intercept_header header;
	u32 msr;
	u32 rsvd;
	u64 rdx, rax; /* whole registers, in this order */
};
static_assert(sizeof(struct hv_msr_intercept) == 64, "TLFS size");
static_assert(offsetof(struct hv_msr_intercept, msr) == 40, "TLFS offset");
static_assert(offsetof(struct hv_msr_intercept, rdx) == 48, "TLFS offset");
static_assert(offsetof(struct hv_msr_intercept, rax) == 56, "TLFS offset");

struct hv_hypercall_intercept {
	struct hv_intercept_header header;
	u64 rax, rbx, rcx, rdx, r8, rsi, rdi;
	u8 xmm[6][16];
	u32 flags; /* bit 0: from an isolated partition */
	u32 rsvd;
};
static_assert(offsetof(struct hv_hypercall_intercept, xmm) == 96, "TLFS offset");
static_assert(offsetof(struct hv_hypercall_intercept, flags) == 192, "TLFS offset");

/* No header: the VP is between instructions. */
struct hv_apic_eoi_intercept {
	u32 vp_index;
	u32 vector;
};

struct hv_sint_deliverable_intercept {
	struct hv_intercept_header header;
	u16 sints; /* bit by SINT */
	u16 rsvd[3];
};
static_assert(sizeof(struct hv_sint_deliverable_intercept) == 48, "TLFS size");

/* What can be intercepted. TLFS: HV_INTERCEPT_TYPE, but 0xC, which Linux declares. */
enum hv_intercept_type {
	HV_INTERCEPT_TYPE_X64_IO_PORT = 0,
	HV_INTERCEPT_TYPE_X64_MSR = 1,
	HV_INTERCEPT_TYPE_CPUID = 2,
	HV_INTERCEPT_TYPE_EXCEPTION = 3,
	HV_INTERCEPT_TYPE_X64_GLOBAL_CPUID = 6,
	HV_INTERCEPT_TYPE_HYPERCALL = 8,
	HV_INTERCEPT_TYPE_X64_MSR_INDEX = 0xC,
	HV_INTERCEPT_TYPE_UNKNOWN_SYNIC_CONNECTION = 0xD,
	HV_INTERCEPT_TYPE_X64_APIC_EOI = 0xE,
	HV_INTERCEPT_TYPE_RETARGET_INTERRUPT_WITH_UNKNOWN_DEVICE_ID = 0xF,
	HV_INTERCEPT_TYPE_X64_IO_PORT_RANGE = 0x11,
};

/* Accesses that are intercepted; none of them: no more. */
#define HV_INTERCEPT_ACCESS_MASK_READ	 BIT(0)
#define HV_INTERCEPT_ACCESS_MASK_WRITE	 BIT(1)
#define HV_INTERCEPT_ACCESS_MASK_EXECUTE BIT(2)

struct hv_input_install_intercept {
	u64 partition_id;
	u32 access_type; /* HV_INTERCEPT_ACCESS_MASK_* */
	u32 intercept_type;
	/* A port 15:0, or a range's last one 31:16; a CPUID leaf; a vector; an MSR 31:0. The rest
	 * is not checked: clients leave there what was. */
	u64 parameter;
};
static_assert(sizeof(struct hv_input_install_intercept) == 24, "TLFS size");

enum hv_cache_type {
	HV_CACHE_UNCACHED = 0,
	HV_CACHE_WRITE_BACK = 6,
};

/* Flags of HvCallTranslateVirtualAddress. */
#define HV_TRANSLATE_READ	      BIT64(0)
#define HV_TRANSLATE_WRITE	      BIT64(1)
#define HV_TRANSLATE_EXECUTE	      BIT64(2)
#define HV_TRANSLATE_PRIVILEGE_EXEMPT BIT64(3) /* the rights of the kernel, whoever runs */
#define HV_TRANSLATE_SET_TABLE_BITS   BIT64(4) /* accessed and dirty */
#define HV_TRANSLATE_NO_TLB_FLUSH     BIT64(5)
#define HV_TRANSLATE_SUPERVISOR	      BIT64(6)
#define HV_TRANSLATE_USER	      BIT64(7)
#define HV_TRANSLATE_ENFORCE_SMAP     BIT64(8)
#define HV_TRANSLATE_OVERRIDE_SMAP    BIT64(9)
#define HV_TRANSLATE_SHADOW_STACK     BIT64(10)
#define HV_TRANSLATE_FLAGS	      MASK64(10, 0)
#define HV_TRANSLATE_INPUT_VTL	      MASK64(63, 56) /* as HV_INPUT_VTL_* */

enum hv_translate_result {
	HV_TRANSLATE_SUCCESS,
	HV_TRANSLATE_PAGE_NOT_PRESENT,
	HV_TRANSLATE_PRIVILEGE_VIOLATION,
	HV_TRANSLATE_INVALID_PAGE_TABLE_FLAGS,
	HV_TRANSLATE_GPA_UNMAPPED,
	HV_TRANSLATE_GPA_NO_READ_ACCESS,
	HV_TRANSLATE_GPA_NO_WRITE_ACCESS,
	HV_TRANSLATE_GPA_ILLEGAL_OVERLAY_ACCESS,
	HV_TRANSLATE_INTERCEPT,
};

struct hv_input_translate_virtual_address {
	u64 partition_id;
	u32 vp_index;
	u32 rsvd;
	u64 flags; /* HV_TRANSLATE_* */
	u64 gva_page;
};
static_assert(sizeof(struct hv_input_translate_virtual_address) == 32, "TLFS size");

struct hv_output_translate_virtual_address {
	u64 result; /* code 31:0, cache type 39:32, overlay page 40 */
	u64 gpn;
};
static_assert(sizeof(struct hv_output_translate_virtual_address) == 16, "TLFS size");
#define HV_TRANSLATE_CACHE_TYPE_SHIFT 32

#endif
