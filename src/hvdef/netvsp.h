/* SPDX-License-Identifier: MIT */
/*
 * Synthetic network: NVSP messages and the RNDIS messages they carry.
 * Sources: Linux drivers/net/hyperv/hyperv_net.h and include/linux/rndis.h, OpenVMM netvsp.
 */
#ifndef NESTOR_HVDEF_NETVSP_H
#define NESTOR_HVDEF_NETVSP_H

#include "base/types.h"
#include "hvdef/guid.h"

#define NETVSP_GUID                                                                                \
	HV_GUID(0xf8615163, 0xdf3e, 0x46c5, 0x91, 0x3f, 0xf2, 0xd2, 0xf9, 0x65, 0xed, 0x0e)

enum nvsp_version {
	NVSP_VERSION_1 = 0x00002,
	NVSP_VERSION_2 = 0x30002,
	NVSP_VERSION_4 = 0x40000,
	NVSP_VERSION_5 = 0x50000,
	NVSP_VERSION_6 = 0x60000,
	NVSP_VERSION_61 = 0x60001,
};

enum nvsp_type {
	NVSP_INIT = 1,
	NVSP_INIT_COMPLETE = 2,
	NVSP_SEND_NDIS_VERSION = 100,
	NVSP_SEND_RECV_BUF = 101,
	NVSP_SEND_RECV_BUF_COMPLETE = 102,
	NVSP_REVOKE_RECV_BUF = 103,
	NVSP_SEND_SEND_BUF = 104,
	NVSP_SEND_SEND_BUF_COMPLETE = 105,
	NVSP_REVOKE_SEND_BUF = 106,
	NVSP_SEND_RNDIS_PKT = 107,
	NVSP_SEND_RNDIS_PKT_COMPLETE = 108,
	NVSP_SEND_NDIS_CONFIG = 125,
	NVSP_VF_ASSOCIATION = 128,
	NVSP_SWITCH_DATA_PATH = 129,
	NVSP_SUBCHANNEL = 133,
	NVSP_SEND_INDIRECTION_TABLE = 134,
};

enum nvsp_status {
	NVSP_STATUS_NONE = 0,
	NVSP_STATUS_SUCCESS = 1,
	NVSP_STATUS_FAIL = 2,
	NVSP_STATUS_TOO_NEW = 3,
	NVSP_STATUS_TOO_OLD = 4,
	NVSP_STATUS_INVALID_RNDIS = 5,
	NVSP_STATUS_BUSY = 6,
	NVSP_STATUS_UNSUPPORTED = 7,
};

#define NVSP_RECV_BUF_ID	 0xcafe
#define NVSP_SEND_BUF_ID	 0
#define NVSP_NO_SECTION		 0xffffffffu
#define NVSP_MESSAGE_BYTES	 40 /* as Linux sends it; older kernels 28 */
#define NVSP_INDIRECTION_COUNT	 16
#define NVSP_SUBCHANNEL_ALLOCATE 1

enum nvsp_channel_type { NVSP_CHANNEL_DATA = 0, NVSP_CHANNEL_CONTROL = 1 };

enum nvsp_ndis_capability {
	NVSP_CAP_VMQ = 0x1,
	NVSP_CAP_CHIMNEY = 0x2,
	NVSP_CAP_SRIOV = 0x4,
	NVSP_CAP_8021Q = 0x8,
	NVSP_CAP_CORRELATION_ID = 0x10,
	NVSP_CAP_TEAMING = 0x20,
	NVSP_CAP_VSUBNET = 0x40,
	NVSP_CAP_RSC = 0x80,
};

struct nvsp_message {
	u32 type; /* enum nvsp_type */
	union {
		struct {
			u32 min_version, max_version;
		} init;
		struct {
			u32 version;
			u32 max_mdl_chain;
			u32 status;
		} init_complete;
		struct {
			u32 major, minor;
		} ndis_version;
		struct {
			u32 gpadl;
			u16 id;
		} buf; /* SEND_RECV_BUF, SEND_SEND_BUF */
		struct {
			u16 id;
		} revoke;
		struct {
			u32 status;
			u32 section_count; /* 1 */
			u32 offset; /* 0 */
			u32 suballoc_bytes;
			u32 suballoc_count;
			u32 end_offset;
		} recv_buf_complete;
		struct {
			u32 status;
			u32 section_bytes;
		} send_buf_complete;
		struct {
			u32 channel_type;
			u32 section_index;
			u32 section_bytes;
		} rndis;
		struct {
			u32 status;
		} rndis_complete;
		struct {
			u32 mtu; /* with the 14 bytes of the Ethernet header */
			u32 reserved;
			u64 capabilities;
		} __attribute__((packed)) ndis_config;
		struct {
			u32 allocated, serial;
		} vf;
		struct {
			u32 active; /* 0 synthetic, 1 VF */
		} data_path;
		struct {
			u32 op, count;
		} subchannel;
		struct {
			u32 status, count;
		} subchannel_complete;
		struct {
			u32 count; /* 16 */
			u32 offset; /* from the message's start */
		} indirection;
		u8 bytes[36];
	};
} __attribute__((packed));
static_assert(sizeof(struct nvsp_message) == NVSP_MESSAGE_BYTES, "wire size");

/* NVSP_SEND_INDIRECTION_TABLE as every version reads it: table at 40, 104 bytes. */
struct nvsp_indirection_table {
	u32 type;
	u32 count;
	u32 offset;
	u8 reserved[28];
	u32 entry[NVSP_INDIRECTION_COUNT];
};
static_assert(sizeof(struct nvsp_indirection_table) == 104, "wire size");
static_assert(offsetof(struct nvsp_indirection_table, entry) == 40, "wire offset");

/* RNDIS. Offsets inside a message count from byte 8. */
enum rndis_type {
	RNDIS_PACKET = 0x00000001,
	RNDIS_INITIALIZE = 0x00000002,
	RNDIS_HALT = 0x00000003,
	RNDIS_QUERY = 0x00000004,
	RNDIS_SET = 0x00000005,
	RNDIS_RESET = 0x00000006,
	RNDIS_INDICATE = 0x00000007,
	RNDIS_KEEPALIVE = 0x00000008,
	RNDIS_COMPLETE = 0x80000000, /* or'ed into the answer's type */
};

enum rndis_status {
	RNDIS_STATUS_SUCCESS = 0x00000000,
	RNDIS_STATUS_MEDIA_CONNECT = 0x4001000b,
	RNDIS_STATUS_MEDIA_DISCONNECT = 0x4001000c,
	RNDIS_STATUS_NETWORK_CHANGE = 0x40010018,
	RNDIS_STATUS_TASK_OFFLOAD_CURRENT_CONFIG = 0x40020006,
	RNDIS_STATUS_FAILURE = 0xc0000001,
	RNDIS_STATUS_INVALID_DATA = 0xc0010015,
	RNDIS_STATUS_NOT_SUPPORTED = 0xc00000bb,
};

enum rndis_oid {
	RNDIS_OID_GEN_SUPPORTED_LIST = 0x00010101,
	RNDIS_OID_GEN_HARDWARE_STATUS = 0x00010102,
	RNDIS_OID_GEN_MAXIMUM_FRAME_SIZE = 0x00010106,
	RNDIS_OID_GEN_LINK_SPEED = 0x00010107,
	RNDIS_OID_GEN_CURRENT_PACKET_FILTER = 0x0001010e,
	RNDIS_OID_GEN_MAXIMUM_TOTAL_SIZE = 0x00010111,
	RNDIS_OID_GEN_MEDIA_CONNECT_STATUS = 0x00010114,
	RNDIS_OID_GEN_RNDIS_CONFIG_PARAMETER = 0x0001021b,
	RNDIS_OID_GEN_RECEIVE_SCALE_CAPABILITIES = 0x00010203,
	RNDIS_OID_GEN_RECEIVE_SCALE_PARAMETERS = 0x00010204,
	RNDIS_OID_GEN_FRIENDLY_NAME = 0x00020216,
	RNDIS_OID_802_3_PERMANENT_ADDRESS = 0x01010101,
	RNDIS_OID_802_3_CURRENT_ADDRESS = 0x01010102,
	RNDIS_OID_802_3_MULTICAST_LIST = 0x01010103,
	RNDIS_OID_802_3_MAXIMUM_LIST_SIZE = 0x01010104,
	RNDIS_OID_TCP_OFFLOAD_CURRENT_CONFIG = 0xfc01020b,
	RNDIS_OID_TCP_OFFLOAD_PARAMETERS = 0xfc01020c,
	RNDIS_OID_TCP_OFFLOAD_HARDWARE_CAPABILITIES = 0xfc01020d,
};

struct rndis_header {
	u32 type;
	u32 length; /* of the whole message */
};

struct rndis_initialize {
	struct rndis_header header;
	u32 request_id;
	u32 major, minor;
	u32 max_transfer_bytes;
};
static_assert(sizeof(struct rndis_initialize) == 24, "wire size");

struct rndis_initialize_complete {
	struct rndis_header header;
	u32 request_id;
	u32 status;
	u32 major, minor;
	u32 device_flags; /* 1 connectionless */
	u32 medium; /* 0 802.3 */
	u32 max_packets_per_message;
	u32 max_transfer_bytes;
	u32 alignment_factor; /* power of two */
	u32 af_list_offset, af_list_bytes;
};
static_assert(sizeof(struct rndis_initialize_complete) == 52, "wire size");

/* QUERY and SET have the same head. */
struct rndis_request {
	struct rndis_header header;
	u32 request_id;
	u32 oid;
	u32 info_bytes;
	u32 info_offset; /* from byte 8 */
	u32 handle;
};
static_assert(sizeof(struct rndis_request) == 28, "wire size");

struct rndis_query_complete {
	struct rndis_header header;
	u32 request_id;
	u32 status;
	u32 info_bytes;
	u32 info_offset; /* from byte 8; 16 is right behind this struct */
};
static_assert(sizeof(struct rndis_query_complete) == 24, "wire size");

/* SET, KEEPALIVE. */
struct rndis_set_complete {
	struct rndis_header header;
	u32 request_id;
	u32 status;
};
static_assert(sizeof(struct rndis_set_complete) == 16, "wire size");

struct rndis_indicate {
	struct rndis_header header;
	u32 status;
	u32 status_bytes;
	u32 status_offset;
};
static_assert(sizeof(struct rndis_indicate) == 20, "wire size");

struct rndis_packet {
	struct rndis_header header;
	u32 data_offset; /* from byte 8 */
	u32 data_bytes;
	u32 oob_offset, oob_bytes, oob_count;
	u32 ppi_offset; /* from byte 8 */
	u32 ppi_bytes;
	u32 vc_handle;
	u32 reserved;
};
static_assert(sizeof(struct rndis_packet) == 44, "wire size");

enum rndis_ppi_type {
	RNDIS_PPI_CHECKSUM = 0,
	RNDIS_PPI_LARGE_SEND = 2,
	RNDIS_PPI_8021Q = 6,
	RNDIS_PPI_HASH_VALUE = 8,
};
#define RNDIS_PPI_INTERNAL BIT(31) /* bit of the type field */

struct rndis_ppi {
	u32 bytes; /* with this head */
	u32 type; /* bits 0-30 type, 31 internal */
	u32 offset; /* of the value, from this head */
};
static_assert(sizeof(struct rndis_ppi) == 12, "wire size");

#endif
