/* SPDX-License-Identifier: MIT */
/*
 * VMBus wire layouts: control messages, ring header, packets. All integers are
 * little-endian; a page is 4096 bytes whatever the guest's page size. Sources:
 * Linux include/linux/hyperv.h and drivers/hv, OpenVMM vm/devices/vmbus.
 */
#ifndef NESTOR_HVDEF_VMBUS_H
#define NESTOR_HVDEF_VMBUS_H

#include "base/types.h"
#include "hvdef/guid.h"

#define VMBUS_MESSAGE_TYPE		1 /* type of the SynIC message that carries a control message */
#define VMBUS_MESSAGE_MAX		240 /* bytes of one control message */
#define VMBUS_SINT			2   /* the SINT Linux uses; below 5.0 the only one */
#define VMBUS_CONNECTION_V4		1   /* connection id of control messages below 5.0 */
#define VMBUS_CONNECTION_V5		4   /* and from 5.0 on */
#define VMBUS_RELID_MAX			2047
#define VMBUS_NO_INTERRUPT_VP		0xffffffffu
#define VMBUS_USER_DATA			120
#define VMBUS_STATUS_FAILED		0x8000ffffu /* what a refused request is answered with */
#define VMBUS_STATUS_CONNECTION_REFUSED 0xc0000236u

#define VMBUS_VERSION(major, minor) ((u32)(major) << 16 | (minor))

enum vmbus_feature { /* version 6.0: feature flags of INITIATE_CONTACT and its answer */
		     VMBUS_FEATURE_GUEST_SIGNAL_PARAMS = 0x01,
		     VMBUS_FEATURE_INTERRUPT_REDIRECTION = 0x02,
		     VMBUS_FEATURE_MODIFY_CONNECTION = 0x04,
		     VMBUS_FEATURE_CLIENT_ID = 0x08,
		     VMBUS_FEATURE_CONFIDENTIAL = 0x10,
		     VMBUS_FEATURE_PAUSE_RESUME = 0x20,
		     VMBUS_FEATURE_SERVER_MONITOR_PAGES = 0x40,
		     VMBUS_FEATURE_GPA_PINNING = 0x80,
};

enum vmbus_offer_flag {
	VMBUS_OFFER_ENUMERATE = 0x0001, /* a user program may open it */
	VMBUS_OFFER_PIPE = 0x0010,	/* packets carry a pipe header */
	VMBUS_OFFER_LOOPBACK = 0x0100,
	VMBUS_OFFER_PARENT = 0x0200,
	VMBUS_OFFER_TLNPI = 0x2000, /* hv_sock */
};

enum vmbus_message_id {
	VMBUS_OFFER_CHANNEL = 1,
	VMBUS_RESCIND_OFFER = 2,
	VMBUS_REQUEST_OFFERS = 3,
	VMBUS_ALL_OFFERS_DELIVERED = 4,
	VMBUS_OPEN_CHANNEL = 5,
	VMBUS_OPEN_RESULT = 6,
	VMBUS_CLOSE_CHANNEL = 7,
	VMBUS_GPADL_HEADER = 8,
	VMBUS_GPADL_BODY = 9,
	VMBUS_GPADL_CREATED = 10,
	VMBUS_GPADL_TEARDOWN = 11,
	VMBUS_GPADL_TORNDOWN = 12,
	VMBUS_RELID_RELEASED = 13,
	VMBUS_INITIATE_CONTACT = 14,
	VMBUS_VERSION_RESPONSE = 15,
	VMBUS_UNLOAD = 16,
	VMBUS_UNLOAD_COMPLETE = 17,
	VMBUS_OPEN_RESERVED = 18,
	VMBUS_CLOSE_RESERVED = 19,
	VMBUS_CLOSE_RESERVED_RESPONSE = 20,
	VMBUS_TL_CONNECT_REQUEST = 21,
	VMBUS_MODIFY_CHANNEL = 22,
	VMBUS_TL_CONNECT_RESULT = 23,
	VMBUS_MODIFY_CHANNEL_RESPONSE = 24,
	VMBUS_MODIFY_CONNECTION = 25,
	VMBUS_MODIFY_CONNECTION_RESPONSE = 26,
	VMBUS_PAUSE = 27,
	VMBUS_PAUSE_RESPONSE = 28,
	VMBUS_RESUME = 29,
	VMBUS_MESSAGE_COUNT
};

struct vmbus_message_header {
	u32 type; /* enum vmbus_message_id */
	u32 padding;
};

/* Messages of a header only: 3, 4, 16, 17, 27, 28, 29. */

struct vmbus_offer_channel {
	struct vmbus_message_header header;
	struct hv_guid interface_id;
	struct hv_guid instance_id;
	u64 reserved[2];
	u16 flags; /* enum vmbus_offer_flag */
	u16 mmio_megabytes;
	u8 user_data[VMBUS_USER_DATA];
	u16 subchannel_index;
	u16 mmio_megabytes_optional;
	u32 relid;
	u8 monitor_id;
	u8 monitor_allocated;
	u16 dedicated_interrupt;
	u32 connection_id;
} __attribute__((packed));
static_assert(sizeof(struct vmbus_offer_channel) == 196, "wire size");
static_assert(offsetof(struct vmbus_offer_channel, user_data) == 60, "wire offset");
static_assert(offsetof(struct vmbus_offer_channel, relid) == 184, "wire offset");
static_assert(offsetof(struct vmbus_offer_channel, connection_id) == 192, "wire offset");

/* 2, 7, 13. */
struct vmbus_relid_message {
	struct vmbus_message_header header;
	u32 relid;
};
static_assert(sizeof(struct vmbus_relid_message) == 12, "wire size");

struct vmbus_open_channel {
	struct vmbus_message_header header;
	u32 relid;
	u32 open_id;
	u32 ring_gpadl;
	u32 target_vp;
	u32 downstream_page_offset;
	u8 user_data[VMBUS_USER_DATA];
	/* The rest only with VMBUS_FEATURE_GUEST_SIGNAL_PARAMS (or redirection). */
	u32 connection_id;
	u16 event_flag;
	u16 flags;
};
static_assert(sizeof(struct vmbus_open_channel) == 156, "wire size");
static_assert(offsetof(struct vmbus_open_channel, connection_id) == 148, "wire offset");
#define VMBUS_OPEN_CHANNEL_V5_BYTES 148

struct vmbus_open_result {
	struct vmbus_message_header header;
	u32 relid;
	u32 open_id;
	u32 status;
};
static_assert(sizeof(struct vmbus_open_result) == 20, "wire size");

struct vmbus_gpadl_header {
	struct vmbus_message_header header;
	u32 relid;
	u32 gpadl;
	u16 range_bytes; /* of all ranges, in this message and its bodies */
	u16 range_count;
	u8 ranges[]; /* at 20: struct vmbus_gpa_range, so its PFNs are not aligned */
};
static_assert(offsetof(struct vmbus_gpadl_header, ranges) == 20, "wire offset");

struct vmbus_gpa_range {
	u32 byte_count;
	u32 byte_offset;
	u64 pfn[];
};
static_assert(sizeof(struct vmbus_gpa_range) == 8, "wire size");

struct vmbus_gpadl_body {
	struct vmbus_message_header header;
	u32 message_number;
	u32 gpadl;
	u64 pfn[];
};
static_assert(sizeof(struct vmbus_gpadl_body) == 16, "wire size");

struct vmbus_gpadl_created {
	struct vmbus_message_header header;
	u32 relid;
	u32 gpadl;
	u32 status;
};
static_assert(sizeof(struct vmbus_gpadl_created) == 20, "wire size");

struct vmbus_gpadl_teardown {
	struct vmbus_message_header header;
	u32 relid;
	u32 gpadl;
};
static_assert(sizeof(struct vmbus_gpadl_teardown) == 16, "wire size");

struct vmbus_gpadl_torndown {
	struct vmbus_message_header header;
	u32 gpadl;
};
static_assert(sizeof(struct vmbus_gpadl_torndown) == 12, "wire size");

struct vmbus_initiate_contact {
	struct vmbus_message_header header;
	u32 version;
	u32 target_vp;
	union {
		u64 interrupt_page_gpa; /* below 5.0 */
		struct {
			u8 sint;
			u8 vtl;
			u16 padding;
			u32 features;
		};
	};
	u64 monitor_parent_to_child_gpa;
	u64 monitor_child_to_parent_gpa;
	struct hv_guid client_id; /* only with VMBUS_FEATURE_CLIENT_ID */
};
static_assert(sizeof(struct vmbus_initiate_contact) == 56, "wire size");
#define VMBUS_INITIATE_CONTACT_BYTES 40

struct vmbus_version_response {
	struct vmbus_message_header header;
	u8 supported;
	u8 state; /* enum vmbus_connection_status */
	u16 padding;
	union {
		u32 version;	   /* below 5.0 */
		u32 connection_id; /* from 5.0 on: where later messages go */
	};
	u32 features; /* 6.0 and supported only */
};
static_assert(sizeof(struct vmbus_version_response) == 20, "wire size");
#define VMBUS_VERSION_RESPONSE_V5_BYTES 16

enum vmbus_connection_status {
	VMBUS_CONNECTION_OK = 0,
	VMBUS_CONNECTION_LOW_RESOURCES = 1,
	VMBUS_CONNECTION_FAILED = 2,
};

struct vmbus_open_reserved {
	struct vmbus_message_header header;
	u32 relid;
	u32 target_vp;
	u32 target_sint;
	u32 ring_gpadl;
	u32 downstream_page_offset;
};
static_assert(sizeof(struct vmbus_open_reserved) == 28, "wire size");

struct vmbus_close_reserved {
	struct vmbus_message_header header;
	u32 relid;
	u32 target_vp;
	u32 target_sint;
};
static_assert(sizeof(struct vmbus_close_reserved) == 20, "wire size");

struct vmbus_tl_connect_request {
	struct vmbus_message_header header;
	struct hv_guid endpoint_id;
	struct hv_guid service_id;
	struct hv_guid silo_id; /* from 5.2 on, if the message is long enough */
};
static_assert(sizeof(struct vmbus_tl_connect_request) == 56, "wire size");
#define VMBUS_TL_CONNECT_BYTES 40

struct vmbus_tl_connect_result {
	struct vmbus_message_header header;
	struct hv_guid endpoint_id;
	struct hv_guid service_id;
	u32 status;
};
static_assert(sizeof(struct vmbus_tl_connect_result) == 44, "wire size");

struct vmbus_modify_channel {
	struct vmbus_message_header header;
	u32 relid;
	u32 target_vp;
};
static_assert(sizeof(struct vmbus_modify_channel) == 16, "wire size");

struct vmbus_modify_channel_response {
	struct vmbus_message_header header;
	u32 relid;
	u32 status;
};
static_assert(sizeof(struct vmbus_modify_channel_response) == 16, "wire size");

/* Ring header page; the data follows at the next page. */
struct vmbus_ring_header {
	u32 write_index;     /* producer; bytes into the data, multiple of 8 */
	u32 read_index;	     /* consumer */
	u32 interrupt_mask;  /* consumer: not 0 is "no interrupt for new data" */
	u32 pending_send_sz; /* producer: bytes it waits for, 0 none */
	u32 reserved[12];
	u32 feature_bits; /* bit 0: the producer uses pending_send_sz */
};
static_assert(offsetof(struct vmbus_ring_header, feature_bits) == 64, "wire offset");
#define VMBUS_RING_PENDING_SEND 1u

enum vmbus_packet_type {
	VMBUS_PACKET_INBAND = 0x6,
	VMBUS_PACKET_XFER_PAGES = 0x7,
	VMBUS_PACKET_GPADL = 0x8,
	VMBUS_PACKET_GPA_DIRECT = 0x9,
	VMBUS_PACKET_CANCEL = 0xa,
	VMBUS_PACKET_COMPLETION = 0xb,
};
#define VMBUS_PACKET_COMPLETION_REQUESTED 1u /* flag */

struct vmbus_packet_header {
	u16 type;
	u16 offset8; /* of the payload, in 8 bytes */
	u16 len8;    /* of all but the trailer, in 8 bytes */
	u16 flags;
	u64 transaction_id;
};
static_assert(sizeof(struct vmbus_packet_header) == 16, "wire size");
#define VMBUS_PACKET_TRAILER 8u

struct vmbus_gpa_direct_header {
	u32 reserved;
	u32 range_count;
	/* struct vmbus_gpa_range follow */
};
static_assert(sizeof(struct vmbus_gpa_direct_header) == 8, "wire size");

struct vmbus_xfer_range {
	u32 byte_count;
	u32 byte_offset; /* into the buffer the page set names */
};

struct vmbus_xfer_page_header {
	u16 pageset_id;
	u8 sender_owns_set;
	u8 reserved;
	u32 range_count;
	/* struct vmbus_xfer_range follow */
};
static_assert(sizeof(struct vmbus_xfer_page_header) == 8, "wire size");

/* Starts the payload of a packet on a pipe channel. */
struct vmbus_pipe_header {
	u32 type; /* 1 data */
	u32 bytes;
};
static_assert(sizeof(struct vmbus_pipe_header) == 8, "wire size");
#define VMBUS_PIPE_DATA		     1u
#define VMBUS_PIPE_USER_MODE_BYTE    0u /* pipe type, at user_data + 0 of the offer */
#define VMBUS_PIPE_USER_MODE_MESSAGE 4u

/* user_data of an hv_sock offer. */
struct vmbus_hvsock_user_data {
	u32 pipe_type; /* 0 */
	u8 from_host;  /* 1: the host connects; Linux reads this byte */
	u8 for_container;
	u32 version; /* 1 */
	struct hv_guid silo_id;
} __attribute__((packed));
static_assert(offsetof(struct vmbus_hvsock_user_data, silo_id) == 10, "wire offset");
#define VMBUS_HVSOCK_MAX_DATA 16384u

#endif
