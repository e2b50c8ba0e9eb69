/* SPDX-License-Identifier: MIT */
/*
 * Synthetic network: NVSP messages. What they carry is in hvdef/rndis.h.
 * Sources: Linux drivers/net/hyperv/hyperv_net.h, OpenVMM netvsp.
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
			u32 offset;	   /* 0 */
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
			u32 count;  /* 16 */
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

#endif
