/* SPDX-License-Identifier: MIT */
/* Hypercall control word, codes and input layouts. TLFS: hypercall-interface, hypercalls. */
#ifndef NESTOR_HVDEF_HYPERCALL_H
#define NESTOR_HVDEF_HYPERCALL_H

#include "base/types.h"
#include "hvdef/status.h"
#include "hvdef/synic.h"

/* Control word (RCX). */
#define HV_HYPERCALL_CODE(c)	   ((u16)(c))
#define HV_HYPERCALL_FAST	   BIT64(16)
#define HV_HYPERCALL_VARHEAD(c)	   ((u32)((c) >> 17) & 0x3FF) /* 8-byte units */
#define HV_HYPERCALL_NESTED	   BIT64(31)
#define HV_HYPERCALL_REP_COUNT(c)  ((u32)((c) >> 32) & 0xFFF)
#define HV_HYPERCALL_REP_START(c)  ((u32)((c) >> 48) & 0xFFF)
#define HV_HYPERCALL_RSVD_MASK	   (MASK64(30, 27) | MASK64(47, 44) | MASK64(63, 60))
#define HV_HYPERCALL_REP_START_MASK MASK64(59, 48)
#define HV_HYPERCALL_REP_START_SHIFT 48
/* Result (RAX): status in 15:0, elements completed in 43:32. */
#define HV_HYPERCALL_RESULT(status, reps) ((u64)(u16)(status) | (u64)((reps) & 0xFFF) << 32)

enum hv_call_code {
	HVCALL_NOTIFY_LONG_SPIN_WAIT = 0x0008,
	HVCALL_SEND_IPI = 0x000B,
	HVCALL_SEND_IPI_EX = 0x0015,
	HVCALL_GET_PARTITION_ID = 0x0046,
	HVCALL_GET_VP_REGISTERS = 0x0050,
	HVCALL_SET_VP_REGISTERS = 0x0051,
	HVCALL_POST_MESSAGE = 0x005C,
	HVCALL_SIGNAL_EVENT = 0x005D,
	HVCALL_GET_VP_INDEX_FROM_APIC_ID = 0x009A,
};

#define HV_PARTITION_ID_SELF	   (~0ull)
#define HV_VP_INDEX_SELF	   0xFFFFFFFEu

/* HV_INPUT_VTL, one byte. */
#define HV_INPUT_VTL_TARGET_MASK   0x0F
#define HV_INPUT_VTL_USE_TARGET	   BIT(4)

struct hv_input_post_message {
	u32 connection_id;
	u32 rsvd; /* not checked: no status is defined for it */
	u32 message_type; /* nonzero, bit 31 clear */
	u32 payload_bytes;
	u8 payload[HV_MESSAGE_PAYLOAD_BYTES];
};
static_assert(sizeof(struct hv_input_post_message) == 256, "TLFS size");

struct hv_input_signal_event {
	u32 connection_id;
	u16 flag_number;
	u16 rsvd;
};
static_assert(sizeof(struct hv_input_signal_event) == 8, "TLFS size");

struct hv_input_send_ipi {
	u32 vector;
	u32 target_vtl; /* low byte; the rest is padding */
	u64 cpu_mask;
};
static_assert(sizeof(struct hv_input_send_ipi) == 16, "TLFS size");

struct hv_input_send_ipi_ex {
	u32 vector;
	u32 target_vtl;
	u64 set_format; /* HV_GENERIC_SET_* */
	u64 bank_mask;
	u64 banks[];
};
static_assert(sizeof(struct hv_input_send_ipi_ex) == 24, "TLFS size");

#define HV_GENERIC_SET_SPARSE_4K 0
#define HV_GENERIC_SET_ALL	 1

struct hv_input_long_spin_wait {
	u64 spin_count; /* total spins of this acquisition so far */
};

struct hv_input_vp_registers {
	u64 partition_id;
	u32 vp_index;
	u8 input_vtl;
	u8 rsvd[3];
};
static_assert(sizeof(struct hv_input_vp_registers) == 16, "TLFS size");

struct hv_register_value {
	u64 low, high;
};

struct hv_register_assoc {
	u32 name;
	u32 rsvd;
	u64 rsvd2;
	struct hv_register_value value;
};
static_assert(sizeof(struct hv_register_assoc) == 32, "TLFS size");

struct hv_input_vp_index_from_apic_id {
	u64 partition_id;
	u8 target_vtl;
	u8 rsvd[7];
};
static_assert(sizeof(struct hv_input_vp_index_from_apic_id) == 16, "TLFS size");

#endif
