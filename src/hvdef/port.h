/* SPDX-License-Identifier: MIT */
/*
 * Ports between a parent and its children, and what a parent writes straight
 * into a child's SynIC. TLFS: inter-partition-communication, hypercalls.
 */
#ifndef NESTOR_HVDEF_PORT_H
#define NESTOR_HVDEF_PORT_H

#include "hvdef/synic.h"

enum hv_port_type {
	HV_PORT_TYPE_MESSAGE = 1,
	HV_PORT_TYPE_EVENT = 2,
	HV_PORT_TYPE_MONITOR = 3,
	HV_PORT_TYPE_DOORBELL = 4,
};

#define HV_PORT_ID_MASK 0xFFFFFFu /* the rest of the word is reserved */
#define HV_ANY_VP	0xFFFFFFFFu

struct hv_port_info {
	u32 port_type;
	u32 padding;
	u32 target_sint; /* of a doorbell, as everything below */
	u32 target_vp;
	u64 rsvdz;
};
static_assert(sizeof(struct hv_port_info) == 24, "TLFS size");

struct hv_connection_info {
	u32 port_type;
	u32 padding;
	u64 gpa; /* of a doorbell, as everything below */
	u64 trigger_value;
	u64 flags; /* HV_DOORBELL_* */
};
static_assert(sizeof(struct hv_connection_info) == 32, "TLFS size");

/* Bytes a write must have: 0 any, else 1 << (size - 1). */
#define HV_DOORBELL_SIZE(flags) ((u32)(flags)&7)
#define HV_DOORBELL_SIZE_QWORD	4u
#define HV_DOORBELL_ANY_VALUE	BIT64(31)

struct hv_input_create_port {
	u64 port_partition_id;
	u32 port_id;
	u8 port_vtl;
	u8 min_connection_vtl;
	u16 padding;
	u64 connection_partition_id;
	struct hv_port_info info;
	u64 proximity_domain_info;
};
static_assert(sizeof(struct hv_input_create_port) == 56, "TLFS size");

struct hv_input_delete_port {
	u64 port_partition_id;
	u32 port_id;
	u32 rsvd;
};
static_assert(sizeof(struct hv_input_delete_port) == 16, "TLFS size");

struct hv_input_connect_port {
	u64 connection_partition_id;
	u32 connection_id;
	u8 connection_vtl;
	u8 rsvdz;
	u16 rsvdz2;
	u64 port_partition_id;
	u32 port_id;
	u32 rsvdz3;
	struct hv_connection_info info;
	u64 proximity_domain_info;
};
static_assert(sizeof(struct hv_input_connect_port) == 72, "TLFS size");

struct hv_input_disconnect_port {
	u64 connection_partition_id;
	u32 connection_id;
	u32 flags; /* bit 0: a doorbell */
};
static_assert(sizeof(struct hv_input_disconnect_port) == 16, "TLFS size");
#define HV_DISCONNECT_DOORBELL BIT(0)

struct hv_input_notify_port_ring_empty {
	u32 sint_index;
	u32 rsvd;
};

struct hv_input_signal_event_direct {
	u64 partition_id;
	u32 vp_index;
	u8 target_vtl;
	u8 sint;
	u16 flag_number;
};
static_assert(sizeof(struct hv_input_signal_event_direct) == 16, "TLFS size");

struct hv_output_signal_event_direct {
	u8 newly_signaled;
	u8 rsvd[7];
};

/* As clients send it, which is not as the TLFS shows it. */
struct hv_input_post_message_direct {
	u64 partition_id;
	u32 vp_index;
	u8 target_vtl;
	u8 padding[3];
	u32 sint;
	u8 message[HV_MESSAGE_BYTES]; /* not aligned for struct hv_message */
	u32 padding2;
};
static_assert(sizeof(struct hv_input_post_message_direct) == 280, "as OpenVMM declares it");

/* Served by a parent, where at all. */
struct hv_input_retarget_device_interrupt {
	u64 partition_id;
	u64 device_id;
	u64 entry[2];
	u64 rsvd;
	u32 vector;
	u32 flags;
	u64 processor_mask; /* or the format of a set; banks: variable header */
};
static_assert(sizeof(struct hv_input_retarget_device_interrupt) == 56, "as Linux declares it");

#endif
