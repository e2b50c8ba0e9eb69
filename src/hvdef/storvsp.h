/* SPDX-License-Identifier: MIT */
/* Synthetic SCSI: VSTOR packets. Source: Linux drivers/scsi/storvsc_drv.c, OpenVMM
 * storvsp_protocol. */
#ifndef NESTOR_HVDEF_STORVSP_H
#define NESTOR_HVDEF_STORVSP_H

#include "base/types.h"
#include "hvdef/guid.h"

#define STORVSP_SCSI_GUID                                                                          \
	HV_GUID(0xba6163d9, 0x04a1, 0x4d29, 0xb6, 0x05, 0x72, 0xe2, 0xff, 0xb1, 0xdc, 0x7f)
#define STORVSP_IDE_GUID                                                                           \
	HV_GUID(0x32412632, 0x86cb, 0x44a2, 0x9b, 0x5c, 0x50, 0xd1, 0x41, 0x73, 0x54, 0xf5)

#define VSTOR_VERSION(major, minor) ((u16)((major) << 8 | (minor)))
#define VSTOR_PACKET_BYTES	    64

enum vstor_operation {
	VSTOR_COMPLETE_IO = 1,
	VSTOR_REMOVE_DEVICE = 2,
	VSTOR_EXECUTE_SRB = 3,
	VSTOR_RESET_LUN = 4,
	VSTOR_RESET_ADAPTER = 5,
	VSTOR_RESET_BUS = 6,
	VSTOR_BEGIN_INITIALIZATION = 7,
	VSTOR_END_INITIALIZATION = 8,
	VSTOR_QUERY_PROTOCOL_VERSION = 9,
	VSTOR_QUERY_PROPERTIES = 10,
	VSTOR_ENUMERATE_BUS = 11,
	VSTOR_FCHBA_DATA = 12,
	VSTOR_CREATE_SUB_CHANNELS = 13,
	VSTOR_EVENT_NOTIFICATION = 14,
};

#define VSTOR_FLAG_COMPLETION 1u

enum vstor_status { /* NTSTATUS */
		    VSTOR_STATUS_OK = 0,
		    VSTOR_STATUS_UNSUCCESSFUL = 0xc0000001,
		    VSTOR_STATUS_INVALID_PARAMETER = 0xc000000d,
		    VSTOR_STATUS_INVALID_DEVICE_STATE = 0xc0000184,
		    VSTOR_STATUS_REVISION_MISMATCH = 0xc0000059,
};

enum vstor_srb_status {
	VSTOR_SRB_SUCCESS = 0x01,
	VSTOR_SRB_ABORTED = 0x02,
	VSTOR_SRB_ERROR = 0x04,
	VSTOR_SRB_BUSY = 0x05,
	VSTOR_SRB_INVALID_REQUEST = 0x06,
	VSTOR_SRB_INVALID_PATH_ID = 0x07,
	VSTOR_SRB_NO_DEVICE = 0x08,
	VSTOR_SRB_SELECTION_TIMEOUT = 0x0a,
	VSTOR_SRB_DATA_OVERRUN = 0x12,
	VSTOR_SRB_INVALID_LUN = 0x20,
	VSTOR_SRB_INVALID_TARGET_ID = 0x21,
	VSTOR_SRB_AUTOSENSE_VALID = 0x80, /* or'ed */
};

enum vstor_data_direction { VSTOR_DATA_WRITE = 0, VSTOR_DATA_READ = 1, VSTOR_DATA_NONE = 2 };

enum vstor_srb_flag {
	VSTOR_SRB_FLAG_QUEUE_ACTION = 0x2,
	VSTOR_SRB_FLAG_DISABLE_SYNC_TRANSFER = 0x8,
	VSTOR_SRB_FLAG_DATA_IN = 0x40,
	VSTOR_SRB_FLAG_DATA_OUT = 0x80,
	VSTOR_SRB_FLAG_NO_QUEUE_FREEZE = 0x100,
};

#define VSTOR_CDB_MAX	16
#define VSTOR_SENSE_MAX 20

struct vstor_srb {
	u16 length; /* 52 */
	u8 srb_status;
	u8 scsi_status;
	u8 port;
	u8 path;
	u8 target;
	u8 lun;
	u8 cdb_length;
	u8 sense_length; /* in: room; out: bytes of sense */
	u8 data_in;	 /* enum vstor_data_direction */
	u8 reserved;
	u32 data_transfer_length; /* out: bytes moved */
	union {
		u8 cdb[VSTOR_CDB_MAX];
		u8 sense[VSTOR_SENSE_MAX];
	};
	u16 reserve;
	u8 queue_tag;
	u8 queue_action;
	u32 srb_flags;
	u32 timeout;
	u32 queue_sort_key;
};
static_assert(sizeof(struct vstor_srb) == 52, "wire size");
static_assert(offsetof(struct vstor_srb, cdb) == 16, "wire offset");
static_assert(offsetof(struct vstor_srb, srb_flags) == 40, "wire offset");

struct vstor_protocol_version {
	u16 version; /* VSTOR_VERSION() */
	u16 revision;
};

struct vstor_properties {
	u32 reserved0;
	u16 max_channels; /* sub-channels besides the primary */
	u16 reserved1;
	u32 flags; /* VSTOR_PROPERTY_MULTI_CHANNEL */
	u32 max_transfer_bytes;
	u64 reserved2;
} __attribute__((packed));
static_assert(sizeof(struct vstor_properties) == 24, "wire size");
#define VSTOR_PROPERTY_MULTI_CHANNEL 1u

struct vstor_packet {
	u32 operation; /* enum vstor_operation */
	u32 flags;
	u32 status; /* enum vstor_status, in replies */
	union {
		struct vstor_srb srb;
		struct vstor_protocol_version version;
		struct vstor_properties properties;
		u16 sub_channel_count;
		u8 bytes[52];
	};
};
static_assert(sizeof(struct vstor_packet) == VSTOR_PACKET_BYTES, "wire size");
static_assert(offsetof(struct vstor_packet, srb) == 12, "wire offset");

#endif
