/* SPDX-License-Identifier: MIT */
/* Partition properties. TLFS: partition-properties; Linux 7.3 and its VMMs use more codes. */
#ifndef NESTOR_HVDEF_PROPERTY_H
#define NESTOR_HVDEF_PROPERTY_H

#include "base/types.h"

enum hv_partition_property {
	HV_PROPERTY_PRIVILEGE_FLAGS = 0x00010000,
	HV_PROPERTY_SYNTHETIC_PROC_FEATURES = 0x00010001, /* HV_SYNTHETIC_* */
	HV_PROPERTY_INTEGRATED_SCHEDULER = 0x00020005,
	HV_PROPERTY_TIME_FREEZE = 0x00030003,
	HV_PROPERTY_REFERENCE_TIME = 0x00030005, /* 100 ns */
	HV_PROPERTY_PROCESSORS_PER_SOCKET = 0x00050003,
	HV_PROPERTY_GPA_PAGE_ACCESS_TRACKING = 0x00050005,
	HV_PROPERTY_UNIMPLEMENTED_MSR_ACTION = 0x00050017,
	HV_PROPERTY_PROCESSOR_VENDOR = 0x00060000,
	HV_PROPERTY_PROCESSOR_XSAVE_FEATURES = 0x00060002,
	HV_PROPERTY_PHYSICAL_ADDRESS_WIDTH = 0x00060006,
	HV_PROPERTY_XSAVE_STATES = 0x00060007,
	HV_PROPERTY_MAX_XSAVE_DATA_SIZE = 0x00060008,
	HV_PROPERTY_PROCESSOR_CLOCK_FREQUENCY = 0x00060009, /* Hz */
	HV_PROPERTY_PROCESSOR_FEATURES0 = 0x0006000A,
	HV_PROPERTY_PROCESSOR_FEATURES1 = 0x0006000B,
	HV_PROPERTY_VMM_CAPABILITIES = 0x00090007,
	HV_PROPERTY_ASSIGNABLE_SYNTHETIC_FEATURES = 0x00090009,
};

enum hv_unimplemented_msr_action { HV_UNIMPLEMENTED_MSR_FAULT, HV_UNIMPLEMENTED_MSR_IGNORE };
enum hv_processor_vendor { HV_VENDOR_AMD, HV_VENDOR_INTEL, HV_VENDOR_HYGON };

/* HV_PARTITION_SYNTHETIC_PROCESSOR_FEATURES: those that are offered here. */
#define HV_SYNTHETIC_HYPERVISOR_PRESENT BIT64(0)
#define HV_SYNTHETIC_HV1		BIT64(1)
#define HV_SYNTHETIC_VP_RUNTIME		BIT64(2)
#define HV_SYNTHETIC_REF_COUNTER	BIT64(3)
#define HV_SYNTHETIC_SYNIC_REGS		BIT64(4)
#define HV_SYNTHETIC_TIMER_REGS		BIT64(5)
#define HV_SYNTHETIC_HYPERCALL_REGS	BIT64(7)
#define HV_SYNTHETIC_VP_INDEX		BIT64(8)
#define HV_SYNTHETIC_REF_TSC		BIT64(9)
#define HV_SYNTHETIC_GUEST_IDLE		BIT64(10)
#define HV_SYNTHETIC_FREQUENCY_REGS	BIT64(11)
#define HV_SYNTHETIC_FAST_OUTPUT	BIT64(18)
#define HV_SYNTHETIC_DIRECT_TIMERS	BIT64(22)
#define HV_SYNTHETIC_CLUSTER_IPI	BIT64(26)
#define HV_SYNTHETIC_LONG_SPIN_WAIT	BIT64(27)
#define HV_SYNTHETIC_SIGNAL_EVENTS	BIT64(29)
#define HV_SYNTHETIC_ACCESS_VP_REGS	BIT64(38)

/* HvCallGetPartitionProperty, HvCallGetPartitionPropertyEx. */
struct hv_input_get_partition_property {
	u64 partition_id;
	u32 property;
	u32 rsvd;
};
static_assert(sizeof(struct hv_input_get_partition_property) == 16, "TLFS size");

struct hv_input_set_partition_property {
	u64 partition_id;
	u32 property;
	u32 rsvd;
	u64 value;
};
static_assert(sizeof(struct hv_input_set_partition_property) == 24, "TLFS size");

struct hv_input_get_partition_property_ex {
	u64 partition_id;
	u32 property;
	u32 rsvd;
	u64 argument; /* no property that is offered has one */
};
static_assert(sizeof(struct hv_input_get_partition_property_ex) == 24, "as Linux declares it");

/* What Ex answers with here, whatever the property: one bank of bits. */
struct hv_property_bank {
	u16 bank_count;
	u16 rsvd[3];
	u64 bits;
};
static_assert(sizeof(struct hv_property_bank) == 16, "as Linux declares it");

#define HV_VMM_CAPABILITY_ASSIGNABLE_FEATURES  BIT64(4)
#define HV_VMM_CAPABILITY_INTEGRATED_SCHEDULER BIT64(6)

#endif
