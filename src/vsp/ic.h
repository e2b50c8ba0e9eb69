/* SPDX-License-Identifier: MIT */
/*
 * What the integration components share: framing, version negotiation, and one
 * request at a time. Linux reads one packet per interrupt for most of them, so
 * the next request leaves only after the answer to the last one.
 *
 * Everything runs on the server's loop. A component embeds struct ic and gives
 * a row of facts; ready() comes when versions are agreed, answer() for each
 * reply.
 */
#ifndef NESTOR_VSP_IC_H
#define NESTOR_VSP_IC_H

#include "hvdef/ic.h"
#include "vmbus/device.h"
#include "vmbus/server.h"

#define IC_MAX_VERSIONS 4
#define IC_PACKET_MAX	16384u

struct ic;

struct ic_kind {
	enum ic_message_type type;
	const struct ic_version *framework; /* offered to the guest; count */
	u32 framework_count;
	const struct ic_version *message;
	u32 message_count;
	u64 timeout_ns; /* for an answer to a request; 0: none */
	void (*ready)(struct ic *ic);
	/*
	 * The guest's answer to the request sent last, private memory: header and
	 * @bytes of body. NULL: no answer came in time, the channel closed, or the
	 * guest speaks no common version (with nothing sent).
	 */
	void (*answer)(struct ic *ic, const struct ic_header *h, const void *body, u32 bytes);
};

enum ic_state {
	IC_CLOSED,
	IC_NEGOTIATING, /* our versions are sent */
	IC_READY,
	IC_WAITING, /* for the answer to a request */
	IC_REFUSED, /* no common version */
};

struct ic {
	const struct ic_kind *kind;
	struct vmbus_server *srv;
	struct vmbus_device *vd;
	struct vmbus_channel *ch; /* NULL: closed */
	enum ic_state state;
	struct ic_version framework, message; /* agreed */
	u8 transaction;
	struct loop_timer timeout;
};

/* For the ops table of a component; vmbus_channel_dev() is the struct ic. */
int ic_opened(struct vmbus_channel *ch);
int ic_packet(struct vmbus_channel *ch, const struct vmbus_packet *pkt);
int ic_closed(struct vmbus_channel *ch);

#define IC_OPS(label, guid, destroy_fn)                                                            \
	{                                                                                          \
		.name = label, .interface_id = guid,                                               \
		.flags = VMBUS_OFFER_ENUMERATE | VMBUS_OFFER_PIPE, .packet_max = IC_PACKET_MAX,    \
		.opened = ic_opened, .packet = ic_packet, .closed = ic_closed,                     \
		.destroy = destroy_fn,                                                             \
	}

/*
 * Offers it, as message-mode pipe. The server's copy of @ops->destroy frees the
 * component. 0 or as vmbus_offer().
 */
int ic_offer(struct ic *ic, struct vmbus_server *srv, const struct ic_kind *kind,
	     const struct vmbus_device_ops *ops, const struct hv_guid *instance);

/*
 * Sends a request. @wire_bytes (0: @bytes) is how long the body is made, with
 * zeros. 0; -ENOTCONN: not ready; -EBUSY: one is under way; else as vmbus_send.
 */
int ic_request(struct ic *ic, const void *body, u32 bytes, u32 wire_bytes);
/* As ic_request(), but expects no answer: the state stays IC_READY. */
int ic_notify(struct ic *ic, const void *body, u32 bytes);

#endif
