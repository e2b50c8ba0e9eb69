/* SPDX-License-Identifier: MIT */
/*
 * Integration components: framing and bodies. Sources: Linux include/linux/hyperv.h,
 * include/uapi/linux/hyperv.h, drivers/hv/hv_util.c, hv_kvp.c, hv_snapshot.c, tools/hv.
 */
#ifndef NESTOR_HVDEF_IC_H
#define NESTOR_HVDEF_IC_H

#include "base/types.h"
#include "hvdef/guid.h"
#include "hvdef/vmbus.h"

#define IC_SHUTDOWN_GUID                                                                           \
	HV_GUID(0x0e0b6031, 0x5213, 0x4934, 0x81, 0x8b, 0x38, 0xd9, 0x0c, 0xed, 0x39, 0xdb)
#define IC_SHUTDOWN_INSTANCE                                                                       \
	HV_GUID(0xb6650ff7, 0x33bc, 0x4840, 0x80, 0x48, 0xe0, 0x67, 0x67, 0x86, 0xf3, 0x93)
#define IC_TIMESYNC_GUID                                                                           \
	HV_GUID(0x9527e630, 0xd0ae, 0x497b, 0xad, 0xce, 0xe8, 0x0a, 0xb0, 0x17, 0x5c, 0xaf)
#define IC_TIMESYNC_INSTANCE                                                                       \
	HV_GUID(0x2dd1ce17, 0x079e, 0x403c, 0xb3, 0x52, 0xa1, 0x92, 0x1e, 0xe2, 0x07, 0xee)
#define IC_HEARTBEAT_GUID                                                                          \
	HV_GUID(0x57164f39, 0x9115, 0x4e78, 0xab, 0x55, 0x38, 0x2f, 0x3b, 0xd5, 0x42, 0x2d)
#define IC_HEARTBEAT_INSTANCE                                                                      \
	HV_GUID(0xfd149e91, 0x82e0, 0x4a7d, 0xaf, 0xa6, 0x2a, 0x41, 0x66, 0xcb, 0xd7, 0xc0)
#define IC_KVP_GUID                                                                                \
	HV_GUID(0xa9a0f4e7, 0x5a45, 0x4d96, 0xb8, 0x27, 0x8a, 0x84, 0x1e, 0x8c, 0x03, 0xe6)
#define IC_KVP_INSTANCE                                                                            \
	HV_GUID(0x242ff919, 0x07db, 0x4180, 0x9c, 0x2e, 0xb8, 0x6c, 0xb6, 0x8c, 0x8c, 0x55)
#define IC_VSS_GUID                                                                                \
	HV_GUID(0x35fa2e29, 0xea23, 0x4236, 0x96, 0xae, 0x3a, 0x6e, 0xba, 0xcb, 0xa4, 0x40)
#define IC_VSS_INSTANCE                                                                            \
	HV_GUID(0x2450ee40, 0x33bf, 0x4fbd, 0x89, 0x2e, 0x9f, 0xb0, 0x6e, 0x92, 0x14, 0xcf)
#define IC_FCOPY_GUID                                                                              \
	HV_GUID(0x34d14be3, 0xdee4, 0x41c8, 0x9a, 0xe7, 0x6b, 0x17, 0x49, 0x77, 0xc1, 0x92)
/* Linux's hv_fcopy_uio_daemon has this path built in. */
#define IC_FCOPY_INSTANCE                                                                          \
	HV_GUID(0xeb765408, 0x105f, 0x49b6, 0xb4, 0xaa, 0xc1, 0x23, 0xb6, 0x4d, 0x17, 0xd4)

enum ic_message_type {
	IC_NEGOTIATE = 0,
	IC_HEARTBEAT = 1,
	IC_KVP = 2,
	IC_SHUTDOWN = 3,
	IC_TIMESYNC = 4,
	IC_VSS = 5,
	IC_FCOPY = 7,
};

enum ic_status {
	IC_STATUS_OK = 0,
	IC_STATUS_FAIL = 0x80004005,
	IC_STATUS_GUID_NOT_FOUND = 0x80041002,
	IC_STATUS_NOT_SUPPORTED = 0x80070032,
	IC_STATUS_EXISTS = 0x80070050,
	IC_STATUS_INVALID_ARG = 0x80070057,
	IC_STATUS_DISK_FULL = 0x80070070,
	IC_STATUS_NO_MORE_ITEMS = 0x80070103,
	IC_STATUS_NOT_CONNECTED = 0x8007048f,
	IC_STATUS_MACHINE_LOCKED = 0x800704f7,
};

enum ic_flag { IC_FLAG_TRANSACTION = 1, IC_FLAG_REQUEST = 2, IC_FLAG_RESPONSE = 4 };

struct ic_version {
	u16 major, minor;
};

struct ic_header {
	struct vmbus_pipe_header pipe; /* pipe.bytes counts from framework on */
	struct ic_version framework;
	u16 type; /* enum ic_message_type */
	struct ic_version message;
	u16 body_bytes;
	u32 status;
	u8 transaction_id;
	u8 flags; /* enum ic_flag */
	u16 reserved;
} __attribute__((packed));
static_assert(sizeof(struct ic_header) == 28, "wire size");
static_assert(offsetof(struct ic_header, status) == 20, "wire offset");

struct ic_negotiate {
	u16 framework_count;
	u16 message_count;
	u32 reserved;
	/* struct ic_version follow: frameworks, then messages */
};
static_assert(sizeof(struct ic_negotiate) == 8, "wire size");

struct ic_heartbeat {
	u64 sequence;
	u32 application_state;
	u32 reserved[7];
};
static_assert(sizeof(struct ic_heartbeat) == 40, "wire size");

struct ic_shutdown {
	u32 reason;
	u32 timeout_seconds;
	u32 flags; /* enum ic_shutdown_flag, bit 0 is "force" */
	char text[2048];
};
static_assert(sizeof(struct ic_shutdown) == 2060, "wire size");

enum ic_shutdown_flag {
	IC_SHUTDOWN_POWEROFF = 0,
	IC_SHUTDOWN_FORCE = 1,
	IC_SHUTDOWN_REBOOT = 2,
	IC_SHUTDOWN_HIBERNATE = 4,
};
#define IC_SHUTDOWN_REASON_PLANNED 0x80000000u

enum ic_timesync_flag { IC_TIMESYNC_PROBE = 0, IC_TIMESYNC_SYNC = 1, IC_TIMESYNC_SAMPLE = 2 };

struct ic_timesync_v4 {
	u64 parent_time_100ns;	  /* since 1601-01-01 UTC */
	u64 reference_time_100ns; /* partition reference counter at that moment */
	u8 flags;
	u8 leap;
	u8 stratum;
	u8 padding[5];
};
static_assert(sizeof(struct ic_timesync_v4) == 24, "wire size");

struct ic_timesync {
	u64 parent_time_100ns;
	u64 child_time_100ns;
	u64 round_trip_100ns;
	u8 flags;
	u8 padding[7];
};
static_assert(offsetof(struct ic_timesync, flags) == 24, "wire offset");

enum ic_kvp_op {
	IC_KVP_GET = 0,
	IC_KVP_SET = 1,
	IC_KVP_DELETE = 2,
	IC_KVP_ENUMERATE = 3,
	IC_KVP_GET_IP = 4,
	IC_KVP_SET_IP = 5,
};

enum ic_kvp_pool {
	IC_KVP_POOL_EXTERNAL = 0, /* host to guest */
	IC_KVP_POOL_GUEST = 1,
	IC_KVP_POOL_AUTO = 2, /* the guest's own facts, read by index */
	IC_KVP_POOL_AUTO_EXTERNAL = 3,
	IC_KVP_POOL_COUNT
};

enum ic_kvp_value_type { IC_KVP_STRING = 1, IC_KVP_EXPAND = 2, IC_KVP_U32 = 4, IC_KVP_U64 = 8 };

#define IC_KVP_KEY_MAX	 512 /* bytes of UTF-16 with its terminator */
#define IC_KVP_VALUE_MAX 2048

struct ic_kvp_value {
	u32 value_type;
	u32 key_bytes;
	u32 value_bytes;
	u8 key[IC_KVP_KEY_MAX];
	u8 value[IC_KVP_VALUE_MAX];
};
static_assert(sizeof(struct ic_kvp_value) == 2572, "wire size");

struct ic_kvp {
	u8 op;
	u8 pool;
	u16 padding;
	union {
		struct ic_kvp_value value; /* GET, SET */
		struct {
			u32 index;
			struct ic_kvp_value value;
		} enumerate;
		struct {
			u32 key_bytes;
			u8 key[IC_KVP_KEY_MAX];
		} remove;
	};
};
static_assert(sizeof(struct ic_kvp) == 2580, "wire size");

struct ic_kvp_ip {
	u8 op;
	u8 pool;
	u16 adapter_id[128];
	u8 family;
	u8 dhcp;
	u16 address[1024];
	u16 subnet[1024];
	u16 gateway[512];
	u16 dns[1024];
} __attribute__((packed));
static_assert(sizeof(struct ic_kvp_ip) == 7428, "wire size");

enum ic_vss_op {
	IC_VSS_CREATE = 0,
	IC_VSS_DELETE = 1,
	IC_VSS_HOT_BACKUP = 2,
	IC_VSS_GET_DM_INFO = 3,
	IC_VSS_BACKUP_COMPLETE = 4,
	IC_VSS_FREEZE = 5,
	IC_VSS_THAW = 6,
	IC_VSS_AUTO_RECOVER = 7,
};
#define IC_VSS_HBU_NO_AUTO_RECOVERY 5u

struct ic_vss {
	u8 op;
	u8 reserved[7];
	u32 flags;
	u8 reserved2[24];
} __attribute__((packed));
static_assert(sizeof(struct ic_vss) == 36, "wire size");

enum ic_fcopy_op {
	IC_FCOPY_START = 0,
	IC_FCOPY_WRITE = 1,
	IC_FCOPY_COMPLETE = 2,
	IC_FCOPY_CANCEL = 3,
};
#define IC_FCOPY_PATH_MAX    260 /* UTF-16 units */
#define IC_FCOPY_DATA_MAX    6144u
#define IC_FCOPY_OVERWRITE   1u
#define IC_FCOPY_CREATE_PATH 2u

struct ic_fcopy_header {
	u32 op;
	struct hv_guid service_id[2];
};
static_assert(sizeof(struct ic_fcopy_header) == 36, "wire size");

struct ic_fcopy_start {
	struct ic_fcopy_header header;
	u16 name[IC_FCOPY_PATH_MAX];
	u16 path[IC_FCOPY_PATH_MAX];
	u32 flags;
	u64 file_bytes;
} __attribute__((packed));
static_assert(sizeof(struct ic_fcopy_start) == 1088, "wire size");

struct ic_fcopy_write {
	struct ic_fcopy_header header;
	u32 padding;
	u64 offset;
	u32 bytes;
	u8 data[IC_FCOPY_DATA_MAX];
} __attribute__((packed));
static_assert(offsetof(struct ic_fcopy_write, offset) == 40, "wire offset");
static_assert(offsetof(struct ic_fcopy_write, data) == 52, "wire offset");

#endif
