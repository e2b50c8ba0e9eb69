/* SPDX-License-Identifier: MIT */
/*
 * What a VMBus device (VSP) is: an ops table and an offer. The server does
 * control messages, memory, threads and rings; the device sees opened, packets,
 * closed.
 *
 * THREADS. Each channel belongs to one loop: with ops->threaded a loop and
 * thread of its own that live while the channel is open; else offer->loop; else
 * the server's loop (then nothing may block or take long). All callbacks of one
 * channel run on its loop, so they never overlap, and a device may add its own
 * fds, timers and work to vmbus_channel_loop(ch) and stay in that rule.
 * Channels of one device with threads of their own run at the same time: what
 * they share, the device locks. Functions marked [any] are for every thread;
 * the rest are for the channel's loop only.
 *
 * ORDER for one channel: opened, (packet ... batch_end | writable)*, closed,
 * and from opened again if the guest opens it anew. `destroy` is last, once per
 * device, on the server's loop, when every channel is closed.
 *
 * ERRORS are negative errno. After a ring was found corrupted, and from the
 * moment `closed` is entered, sending returns -EPIPE and writes nothing.
 */
#ifndef NESTOR_VMBUS_DEVICE_H
#define NESTOR_VMBUS_DEVICE_H

#include "base/loop.h"
#include "hvdef/vmbus.h"
#include "vmbus/ring.h"

struct vmbus_server;
struct vmbus_channel;
struct vmbus_device; /* an offered device: a primary channel and its sub-channels */
struct vmbus_gpadl;

struct vmbus_device_ops {
	const char *name;	     /* for logs */
	struct hv_guid interface_id; /* class; see HV_GUID() */
	u16 flags;		     /* enum vmbus_offer_flag of the offer */
	bool threaded;		     /* a thread per open channel */
	/*
	 * Payload bytes of the largest completion this device sends. Room for it
	 * is reserved in the host-to-guest ring before a packet that wants one is
	 * delivered, so vmbus_complete() never lacks room. While there is no room
	 * the channel does not read, and a guest that does not drain waits for
	 * itself.
	 */
	u32 completion_max;
	/*
	 * From this many completions owed on, the guest is not asked to signal new
	 * packets: they are looked for whenever completions are written, and at the
	 * latest VMBUS_POLL_NS after the last one. For devices whose completions
	 * come fast. 0: never.
	 */
	u32 poll_owed;
	/* Largest packet accepted from the guest, bytes; 0: 32 KiB. A larger one is corruption. */
	u32 packet_max;

	/*
	 * The guest opens the channel. The rings work: packets may be sent already.
	 * 0 accepts. Negative refuses: the guest gets an error, and `closed` is not
	 * called. Until it returns the guest waits.
	 */
	int (*opened)(struct vmbus_channel *ch);
	/*
	 * One packet. 0: taken; if pkt->wants_completion the device owes exactly
	 * one vmbus_complete(), now or later. -EAGAIN: not now; the same packet
	 * comes again after vmbus_channel_resume(). Other negative: the guest broke
	 * the protocol beyond repair: the channel is closed with a logged reason.
	 */
	int (*packet)(struct vmbus_channel *ch, const struct vmbus_packet *pkt);
	/* Optional: a run of packet() calls is over; submit what was gathered. */
	void (*batch_end)(struct vmbus_channel *ch);
	/* Optional: there may be room again after a send said -EAGAIN. */
	void (*writable)(struct vmbus_channel *ch);
	/*
	 * The channel closes (guest's CLOSE, unload, reset, removal, corruption).
	 * The device stops its fds, timers and work on the loop, finishes or cancels
	 * everything that touches guest memory, and puts its GPADLs. No completion
	 * is owed any more. 0: done. -EINPROGRESS: it will call
	 * vmbus_channel_close_done() from the loop when done; the guest's memory is
	 * not given back before.
	 */
	int (*closed)(struct vmbus_channel *ch);
	/* Frees the device. Not called if vmbus_offer() failed. */
	void (*destroy)(void *dev);
};

#define VMBUS_POLL_NS (50 * NS_PER_US)

struct vmbus_offer {
	const struct vmbus_device_ops *ops; /* outlives the device */
	void *dev;			    /* vmbus_channel_dev() */
	struct hv_guid instance_id;	    /* stable over reboots */
	const struct hv_guid *interface_id; /* NULL: ops->interface_id */
	u32 order;			    /* among offers of one class at boot */
	u16 extra_flags;		    /* or'ed to ops->flags */
	u16 mmio_megabytes;
	struct loop *loop;	       /* see THREADS; NULL; outlives the device */
	u8 user_data[VMBUS_USER_DATA]; /* pipe type (u32 at 0) and more, as the class wants */
};

/*
 * [any] Offers a device, now or when a guest connects; at run time too. From
 * success on the server owns offer->dev and calls ops->destroy. *out (may be
 * NULL) is valid until ops->destroy. An equal instance that the guest still
 * holds after vmbus_revoke() delays the new offer until it lets go.
 * 0; -EEXIST: this class and instance are offered; -ENOMEM; -ENOSPC: too many;
 * -ESHUTDOWN: the server is being destroyed.
 */
int vmbus_offer(struct vmbus_server *srv, const struct vmbus_offer *offer,
		struct vmbus_device **out);

/*
 * [any] Takes the device away: RESCIND to the guest. An open channel is served
 * on until the guest closes it, at most VMBUS_REVOKE_GRACE_NS, so that requests
 * in flight still complete. Then closed, destroy. @vd is not used afterwards.
 */
void vmbus_revoke(struct vmbus_device *vd);
/* [any] The same without the grace: for a guest that is not running. */
void vmbus_revoke_now(struct vmbus_device *vd);
#define VMBUS_REVOKE_GRACE_NS (10 * NS_PER_S)

/*
 * Offers @count more channels of the device, numbered on from the last
 * one. Only while the primary is open; its closing takes them all away again.
 * 0: all of them will be offered; -ENOTCONN: primary not open; -ENOSPC: no
 * relids or more than VMBUS_SUBCHANNEL_MAX; -ENOMEM: none is offered.
 * Called from the primary's packet(); the offers are sent after the packets the
 * device writes until that callback returns, so complete the request in it.
 */
int vmbus_offer_subchannels(struct vmbus_channel *primary, u32 count);
#define VMBUS_SUBCHANNEL_MAX 64u

/* Facts of a channel. [any] while it is open. */
void *vmbus_channel_dev(const struct vmbus_channel *ch);
struct vmbus_server *vmbus_channel_server(const struct vmbus_channel *ch);
struct vmbus_device *vmbus_channel_device(const struct vmbus_channel *ch);
u32 vmbus_channel_index(const struct vmbus_channel *ch);     /* 0: primary */
u32 vmbus_channel_target_vp(const struct vmbus_channel *ch); /* where its interrupts go */
u32 vmbus_channel_version(const struct vmbus_channel *ch);   /* VMBUS_VERSION() negotiated */
struct loop *vmbus_channel_loop(const struct vmbus_channel *ch);
struct gmem *vmbus_channel_gmem(const struct vmbus_channel *ch);
/* user_data of the guest's OPEN, VMBUS_USER_DATA bytes. */
const u8 *vmbus_channel_open_data(const struct vmbus_channel *ch);
/* A pointer of the device's own per channel; NULL at each `opened`. */
void vmbus_channel_set_data(struct vmbus_channel *ch, void *data);
void *vmbus_channel_data(const struct vmbus_channel *ch);

/*
 * Sending. What is written becomes visible at the end of the callback, or of
 * the loop's round when called from the device's own fd, timer or work: a batch
 * costs one signal at most. vmbus_channel_flush() does it at once.
 *
 * 0; -EAGAIN: no room, `writable` will be called; -EMSGSIZE: never fits;
 * -EPIPE: channel closing or broken.
 */
int vmbus_send_inband(struct vmbus_channel *ch, u64 transaction_id, u16 flags, const void *payload,
		      u32 bytes);
int vmbus_send_iov(struct vmbus_channel *ch, u64 transaction_id, u16 flags,
		   const struct iovec *payload, int count);
/* Transfer pages: @ranges of the buffer the guest knows as @pageset_id. */
int vmbus_send_xfer(struct vmbus_channel *ch, u64 transaction_id, u16 flags, u16 pageset_id,
		    const struct vmbus_xfer_range *ranges, u32 range_count, const void *payload,
		    u32 bytes);
#define VMBUS_XFER_MAX_RANGES 375u /* the least of what known guests accept */
/*
 * The completion a packet asked for, on the channel it came from. At most
 * completion_max bytes (asserted). 0 or -EPIPE; -EINVAL if none is owed.
 */
int vmbus_complete(struct vmbus_channel *ch, u64 transaction_id, const void *payload, u32 bytes);
void vmbus_channel_flush(struct vmbus_channel *ch);
/* Whether a packet with this much payload (and @extra bytes of ranges) would be taken now. */
bool vmbus_channel_has_room(struct vmbus_channel *ch, u32 extra_bytes, u32 payload_bytes);
/* As if a send of this size had said -EAGAIN: asks for `writable`. */
void vmbus_channel_want_room(struct vmbus_channel *ch, u32 extra_bytes, u32 payload_bytes);
/* Whether the guest has read all that was sent and flushed. */
bool vmbus_channel_drained(struct vmbus_channel *ch);
/* After packet() said -EAGAIN: deliver again. [any] */
void vmbus_channel_resume(struct vmbus_channel *ch);

/* Ends `closed` that said -EINPROGRESS. */
void vmbus_channel_close_done(struct vmbus_channel *ch);
/*
 * The guest broke the device's protocol: closes the channel, with the reason in
 * the log, as if packet() had returned an error. `closed` follows later.
 */
void vmbus_channel_fail(struct vmbus_channel *ch, const char *reason);

/*
 * GPADLs: guest memory the guest has named, for receive and send buffers.
 * vmbus_gpadl_get: the channel's GPADL @id, counted; NULL if there is none. The
 * guest's TEARDOWN is answered after the last put, so put it when the guest
 * revokes the buffer and in `closed`. [any] while held.
 */
struct vmbus_gpadl *vmbus_gpadl_get(struct vmbus_channel *ch, u32 id);
void vmbus_gpadl_put(struct vmbus_gpadl *g);
u32 vmbus_gpadl_bytes(const struct vmbus_gpadl *g);
/* 0 or -EFAULT if outside the GPADL. */
int vmbus_gpadl_read(const struct vmbus_gpadl *g, u32 offset, void *dst, u32 bytes);
int vmbus_gpadl_write(const struct vmbus_gpadl *g, u32 offset, const void *src, u32 bytes);
/* Host address of @bytes at @offset if contiguous on the host, else NULL. */
void *vmbus_gpadl_ptr(const struct vmbus_gpadl *g, u32 offset, u32 bytes);
/* As vmbus_range_iov(). */
int vmbus_gpadl_iov(const struct vmbus_gpadl *g, u32 offset, u32 bytes, struct iovec *iov, int max);

#endif
