/* SPDX-License-Identifier: MIT */
/* Hypercall control word, codes and input layouts. TLFS: hypercall-interface, hypercalls. */
#ifndef NESTOR_HVDEF_HYPERCALL_H
#define NESTOR_HVDEF_HYPERCALL_H

#include "base/types.h"
#include "hvdef/status.h"
#include "hvdef/synic.h"

/* Control word (RCX). */
#define HV_HYPERCALL_CODE(c)	     ((u16)(c))
#define HV_HYPERCALL_FAST	     BIT64(16)
#define HV_HYPERCALL_VARHEAD(c)	     ((u32)((c) >> 17) & 0x3FF) /* 8-byte units */
#define HV_HYPERCALL_NESTED	     BIT64(31)
#define HV_HYPERCALL_REP_COUNT(c)    ((u32)((c) >> 32) & 0xFFF)
#define HV_HYPERCALL_REP_START(c)    ((u32)((c) >> 48) & 0xFFF)
#define HV_HYPERCALL_RSVD_MASK	     (MASK64(30, 27) | MASK64(47, 44) | MASK64(63, 60))
#define HV_HYPERCALL_REP_START_MASK  MASK64(59, 48)
#define HV_HYPERCALL_REP_START_SHIFT 48
/* Result (RAX): status in 15:0, elements completed in 43:32. */
#define HV_HYPERCALL_RESULT(status, reps) ((u64)(u16)(status) | (u64)((reps)&0xFFF) << 32)

enum hv_call_code {
	HVCALL_GET_LOGICAL_PROCESSOR_RUN_TIME = 0x0004,
	HVCALL_NOTIFY_LONG_SPIN_WAIT = 0x0008,
	HVCALL_SEND_IPI = 0x000B,
	HVCALL_SEND_IPI_EX = 0x0015,
	HVCALL_CREATE_PARTITION = 0x0040,
	HVCALL_INITIALIZE_PARTITION = 0x0041,
	HVCALL_FINALIZE_PARTITION = 0x0042,
	HVCALL_DELETE_PARTITION = 0x0043,
	HVCALL_GET_PARTITION_PROPERTY = 0x0044,
	HVCALL_SET_PARTITION_PROPERTY = 0x0045,
	HVCALL_GET_PARTITION_ID = 0x0046,
	HVCALL_DEPOSIT_MEMORY = 0x0048,
	HVCALL_WITHDRAW_MEMORY = 0x0049,
	HVCALL_MAP_GPA_PAGES = 0x004B,
	HVCALL_UNMAP_GPA_PAGES = 0x004C,
	HVCALL_INSTALL_INTERCEPT = 0x004D,
	HVCALL_CREATE_VP = 0x004E,
	HVCALL_DELETE_VP = 0x004F,
	HVCALL_GET_VP_REGISTERS = 0x0050,
	HVCALL_SET_VP_REGISTERS = 0x0051,
	HVCALL_TRANSLATE_VIRTUAL_ADDRESS = 0x0052,
	HVCALL_CLEAR_VIRTUAL_INTERRUPT = 0x0056,
	HVCALL_DELETE_PORT = 0x0058,
	HVCALL_DISCONNECT_PORT = 0x005B,
	HVCALL_POST_MESSAGE = 0x005C,
	HVCALL_SIGNAL_EVENT = 0x005D,
	HVCALL_MAP_STATS_PAGE = 0x006C,
	HVCALL_UNMAP_STATS_PAGE = 0x006D,
	HVCALL_SET_SYSTEM_PROPERTY = 0x006F,
	HVCALL_ADD_LOGICAL_PROCESSOR = 0x0076,
	HVCALL_GET_SYSTEM_PROPERTY = 0x007B,
	HVCALL_MAP_DEVICE_INTERRUPT = 0x007C,
	HVCALL_UNMAP_DEVICE_INTERRUPT = 0x007D,
	HVCALL_RETARGET_DEVICE_INTERRUPT = 0x007E,
	HVCALL_ENTER_SLEEP_STATE = 0x0084,
	HVCALL_NOTIFY_PARTITION_EVENT = 0x0087,
	HVCALL_NOTIFY_PORT_RING_EMPTY = 0x008B,
	HVCALL_REGISTER_INTERCEPT_RESULT = 0x0091,
	HVCALL_ASSERT_VIRTUAL_INTERRUPT = 0x0094,
	HVCALL_CREATE_PORT = 0x0095,
	HVCALL_CONNECT_PORT = 0x0096,
	HVCALL_GET_VP_INDEX_FROM_APIC_ID = 0x009A,
	HVCALL_SIGNAL_EVENT_DIRECT = 0x00C0,
	HVCALL_POST_MESSAGE_DIRECT = 0x00C1,
	HVCALL_DISPATCH_VP = 0x00C2,
	HVCALL_GET_GPA_PAGES_ACCESS_STATE = 0x00C9,
	HVCALL_MAP_VP_STATE_PAGE = 0x00E1,
	HVCALL_UNMAP_VP_STATE_PAGE = 0x00E2,
	HVCALL_GET_VP_STATE = 0x00E3,
	HVCALL_SET_VP_STATE = 0x00E4,
	HVCALL_GET_VP_CPUID_VALUES = 0x00F4,
	HVCALL_GET_PARTITION_PROPERTY_EX = 0x0101,
	HVCALL_MAP_STATS_PAGE2 = 0x0131,
};

#define HV_PARTITION_ID_SELF (~0ull)
#define HV_VP_INDEX_SELF     0xFFFFFFFEu

/* HV_INPUT_VTL, one byte. */
#define HV_INPUT_VTL_TARGET_MASK 0x0F
#define HV_INPUT_VTL_USE_TARGET	 BIT(4)

struct hv_input_post_message {
	u32 connection_id;
	u32 rsvd;	  /* not checked: no status is defined for it */
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

struct hv_input_lp_run_time {
	u32 lp_index;
	u32 rsvd;
};

struct hv_output_lp_run_time {
	u64 global_time; /* 100 ns */
	u64 local_run_time;
	u64 rsvd;
	u64 hypervisor_time;
};
static_assert(sizeof(struct hv_output_lp_run_time) == 32, "as Linux declares it");

struct hv_input_deposit {
	u64 partition_id;
	u64 gpn[]; /* list */
};

struct hv_input_withdraw {
	u64 partition_id;
	u64 proximity_domain;
};

#define HV_SUBNODE_ANY 0u

struct hv_input_create_vp {
	u64 partition_id;
	u32 vp_index;
	u8 rsvd[3];
	u8 subnode_type;
	u64 subnode_id; /* of no meaning with HV_SUBNODE_ANY; Linux leaves it as it finds it */
	u64 proximity_domain;
	u64 flags; /* for a root's own VP: the logical processor */
};
static_assert(sizeof(struct hv_input_create_vp) == 40, "as Linux declares it");

struct hv_input_add_lp {
	u32 lp_index;
	u32 apic_id;
	u64 proximity_domain;
};
static_assert(sizeof(struct hv_input_add_lp) == 16, "as Linux declares it");

struct hv_output_add_lp {
	u64 status;
	u64 substatus[6];
};
static_assert(sizeof(struct hv_output_add_lp) == 56, "as Linux declares it");

enum hv_partition_event {
	HV_PARTITION_ALL_LOGICAL_PROCESSORS_STARTED = 4,
};

struct hv_input_notify_partition_event {
	u32 event;
	u32 argument[3];
};

enum hv_system_property {
	HV_SYSTEM_PROPERTY_SLEEP_STATE = 3, /* set: what ENTER_SLEEP_STATE shall do */
	HV_SYSTEM_PROPERTY_SCHEDULER_TYPE = 15,
	HV_SYSTEM_PROPERTY_CRASHDUMPAREA = 47,
};
enum hv_scheduler_type {
	HV_SCHEDULER_TYPE_CORE_SMT = 3, /* the hypervisor schedules */
	HV_SCHEDULER_TYPE_ROOT = 4,
};

struct hv_input_get_system_property {
	u32 property;
	u32 rsvd;
	u64 argument;
};

struct hv_input_set_system_property {
	u32 property;
	u32 rsvd;
	u32 sleep_state; /* the only property that can be set */
	u8 pm1a_slp_typ, pm1b_slp_typ;
	u8 rsvd2[2];
};
static_assert(sizeof(struct hv_input_set_system_property) == 16, "as Linux declares it");

#define HV_SLEEP_STATE_S5 5

struct hv_input_enter_sleep_state {
	u32 sleep_state;
	u32 rsvd;
};

/* Device interrupts. */
#define HV_DEVICE_TYPE(id)    ((u32)((id) >> 62))
#define HV_DEVICE_TYPE_PCI    1u
#define HV_DEVICE_TYPE_IOAPIC 2u
#define HV_DEVICE_PCI_RID(id) ((u16)(id))

enum hv_interrupt_source { HV_INTERRUPT_SOURCE_MSI = 1, HV_INTERRUPT_SOURCE_IOAPIC = 2 };
enum hv_interrupt_trigger { HV_INTERRUPT_TRIGGER_EDGE, HV_INTERRUPT_TRIGGER_LEVEL };

struct hv_interrupt_entry {
	u32 source;
	u32 rsvd;
	u32 low;  /* MSI address, or low half of the RTE */
	u32 high; /* MSI data, or high half of the RTE */
};
static_assert(sizeof(struct hv_interrupt_entry) == 16, "as Linux declares it");

struct hv_input_map_device_interrupt {
	u64 partition_id;
	u64 device_id;
	u32 flags, base_irt_index;
	struct hv_interrupt_entry logical;
	u32 type; /* 0: fixed */
	u32 trigger;
	u32 vector_count;
	u32 rsvd;
	u32 vector;
	u32 target_flags;
	u64 set_format;
	/* u64 bank_mask, banks[]: variable header */
};
static_assert(sizeof(struct hv_input_map_device_interrupt) == 72, "as Linux declares it");
#define HV_DEVICE_INTERRUPT_PROCESSOR_SET 2u

struct hv_input_unmap_device_interrupt {
	u64 partition_id;
	u64 device_id;
	struct hv_interrupt_entry entry;
};
static_assert(sizeof(struct hv_input_unmap_device_interrupt) == 32, "as Linux declares it");

/* Statistics pages. */
enum hv_stats_type {
	HV_STATS_HYPERVISOR = 1,
	HV_STATS_LOGICAL_PROCESSOR = 2,
	HV_STATS_PARTITION = 0x00010001,
	HV_STATS_VP = 0x00010002,
};

struct hv_stats_identity {
	u64 id; /* partition, or logical processor (low half) */
	u32 vp_index;
	u16 flags;
	u8 rsvd;
	u8 area; /* 0 self, 1 parent, 2 internal */
};
static_assert(sizeof(struct hv_stats_identity) == 16, "as Linux declares it");

struct hv_input_map_stats_page {
	u32 type;
	u32 rsvd;
	struct hv_stats_identity identity;
};
static_assert(sizeof(struct hv_input_map_stats_page) == 24, "as Linux declares it");

struct hv_input_map_stats_page2 {
	struct hv_input_map_stats_page what;
	u64 map_location; /* page number */
};
static_assert(sizeof(struct hv_input_map_stats_page2) == 32, "as Linux declares it");

enum hv_stats_area { HV_STATS_AREA_SELF, HV_STATS_AREA_PARENT };

/* Counters by their place in a page, 8 bytes each; those that are filled. */
enum hv_hypervisor_counter {
	HvLogicalProcessors = 1,
	HvPartitions = 2,
	HvVirtualProcessors = 4,
};
enum hv_lp_counter {
	LpGlobalTime = 1,
	LpTotalRunTime = 2,
};
enum hv_partition_counter {
	PtVirtualProcessors = 1,
	PtDepositedPages = 5,
	PtPartitionId = 26,
};
enum hv_vp_counter {
	VpTotalRunTime = 1,
	VpHypercallsCount = 7,
	VpIoInstructionsCount = 13,
	VpMsrAccessesCount = 21,
	VpOtherInterceptsCount = 23,
	VpEmulatedInstructionsCount = 29,
	VpIoInterceptMessages = 40,
	VpMemoryInterceptMessages = 41,
	VpApicEoiAccesses = 42,
};

#endif
