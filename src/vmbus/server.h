/* SPDX-License-Identifier: MIT */
/*
 * A VMBus server: the control plane of one guest. It knows no hypercall and no
 * SynIC; struct vmbus_host_ops, filled in by whoever composes the machine, is
 * how it reaches the guest, vmbus_message() and vmbus_signal() are how the
 * guest reaches it. The same server serves a guest, the L0 side of a nested
 * root, or an L1VH.
 *
 * The control plane runs on one loop (given, with its thread, by the machine).
 * Functions marked [any] may be called from every thread. Calls into the host
 * ops never hold a lock of the server's.
 */
#ifndef NESTOR_VMBUS_SERVER_H
#define NESTOR_VMBUS_SERVER_H

#include "base/loop.h"
#include "hvdef/vmbus.h"
#include "mem/gmem.h"

struct vmbus_server;

#define VMBUS_DOORBELLS 2

struct vmbus_host_ops {
	/*
	 * Sends one control message as a SynIC message of type VMBUS_MESSAGE_TYPE
	 * to SINT @sint of VP @vp. Called on the server's loop, in order.
	 * 0: taken (delivered, or in one of the port's buffers, in order).
	 * -EAGAIN: no buffer now. The server keeps the message and tries again when
	 * vmbus_message_slot_free() is called, and every VMBUS_RETRY_NS anyway.
	 * Other negative: can not be delivered; it is dropped with a log line.
	 */
	int (*post_message)(void *ctx, u32 vp, u8 sint, const void *payload, u32 bytes);
	/*
	 * Sets event flag @flag of SINT @sint of VP @vp and raises the SINT if it
	 * was clear. Called from channel threads at the same time; must not block.
	 */
	void (*signal_event)(void *ctx, u32 vp, u8 sint, u32 flag);
	/*
	 * The guest's SIGNAL_EVENT on @connection_id (flag number 0) belongs to a
	 * channel from now on: the host calls vmbus_signal(), or lets the kernel
	 * write to one of @doorbell (eventfds, valid until event_disconnect), which
	 * does the same; which of them is the host's business. Called on the server's
	 * loop before the guest learns that the channel is open. 0 or negative errno:
	 * the open is refused.
	 */
	int (*event_connect)(void *ctx, u32 connection_id, const int doorbell[VMBUS_DOORBELLS]);
	void (*event_disconnect)(void *ctx, u32 connection_id, const int doorbell[VMBUS_DOORBELLS]);
	/* Doorbell number @which was rung @n times. On a channel's thread. */
	void (*event_rung)(void *ctx, u32 which, u64 n);
	/* Whether messages and interrupts can be sent to this VP index. */
	bool (*vp_valid)(void *ctx, u32 vp);
	/* Partition reference time, 100 ns. From any thread. */
	u64 (*reference_time_100ns)(void *ctx);
	/*
	 * Optional: a guest has connected (version != 0) or is gone after unload,
	 * a new contact or reset (0): before the answer to that, so that the owner can
	 * drop what has been posted and not been taken. On the server's loop.
	 */
	void (*connection_changed)(void *ctx, u32 version);
};
#define VMBUS_RETRY_NS (5 * NS_PER_MS)

struct vmbus_config {
	const struct vmbus_host_ops *ops; /* outlives the server */
	void *ctx;
	struct loop *loop; /* outlives the server */
	struct gmem *gmem; /* the guest's memory */
	const char *name;  /* for logs: the partition; copied */
	u32 max_version;   /* highest VMBUS_VERSION() accepted; 0: all that are implemented */
	u32 min_version;   /* lowest; 0: all */
	/* Limits of what a guest can make the host hold. 0: the default. */
	u32 max_gpadl_pages; /* 327680 (1280 MiB) */
	u32 max_gpadls;	     /* 8192 */
	u32 max_pending;     /* messages posted but not handled yet: 64 */
};

/* 0 or negative errno. */
int vmbus_server_create(const struct vmbus_config *cfg, struct vmbus_server **out);
/*
 * Closes every channel, destroys every device and frees the server. VPs are
 * stopped, nothing calls vmbus_message() or vmbus_signal() any more. Called off
 * the loop's thread while it runs, or with nobody running it. NULL is fine.
 */
void vmbus_server_destroy(struct vmbus_server *srv);
/*
 * The VM is reset: forgets the connection, closes every channel, stops touching
 * guest memory. Devices stay, to be offered at the next contact. Returns when
 * done. Called as vmbus_server_destroy(), with the VPs stopped.
 */
void vmbus_server_reset(struct vmbus_server *srv);

/*
 * [any] The guest posted @bytes (a private copy) with message type
 * VMBUS_MESSAGE_TYPE to connection VMBUS_CONNECTION_V4 or _V5. 0; -ENOBUFS: too
 * many wait already, the guest shall try again (HV_STATUS_INSUFFICIENT_BUFFERS).
 * Never blocks. A malformed message is 0 and a log line: the post succeeded.
 */
int vmbus_message(struct vmbus_server *srv, const void *message, u32 bytes);
/* [any] The guest has emptied its message slot: send what waits. Cheap if nothing does. */
void vmbus_message_slot_free(struct vmbus_server *srv);
/*
 * [any] The guest signalled @connection_id. 0, or -ENOENT if no open channel
 * has it (HV_STATUS_INVALID_CONNECTION_ID). Never blocks.
 */
int vmbus_signal(struct vmbus_server *srv, u32 connection_id);

/* [any] Partition reference time in 100 ns, by host op. */
u64 vmbus_reference_time(struct vmbus_server *srv);
struct loop *vmbus_server_loop(struct vmbus_server *srv);
/* [any] Version of the connection, 0 if there is none. */
u32 vmbus_server_version(struct vmbus_server *srv);

/*
 * hv_sock: @connect is called on the server's loop when the guest connects to
 * @service. The handler answers once, then or later, [any]: by vmbus_offer() of
 * a channel with interface = service and instance = endpoint followed by
 * vmbus_tl_connect_done(status 0), or by a failing status, which the guest is
 * told. Without a handler everything is refused. At most VMBUS_TL_MAX wait.
 */
typedef void (*vmbus_tl_connect_fn)(void *ctx, const struct hv_guid *service,
				    const struct hv_guid *endpoint);
void vmbus_set_tl_connect(struct vmbus_server *srv, vmbus_tl_connect_fn connect, void *ctx);
void vmbus_tl_connect_done(struct vmbus_server *srv, const struct hv_guid *service,
			   const struct hv_guid *endpoint, u32 status);
#define VMBUS_TL_MAX 16u

/* What is there, for `device list`. [any] */
struct vmbus_channel_info {
	char device[32];
	struct hv_guid interface_id, instance_id;
	u32 index, relid, connection_id, target_vp;
	bool offered, open, revoked;
	u64 packets, completions, sends, signals_in, signals_out; /* since open */
};
/* Fills up to @max entries, returns how many there are. */
u32 vmbus_server_list(struct vmbus_server *srv, struct vmbus_channel_info *info, u32 max);

#endif
