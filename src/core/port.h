/* SPDX-License-Identifier: MIT */
/*
 * Ports and connections. A guest names a connection; a host port behind it ends
 * in a port_sink, a guest port in a SINT. What the host sends to the guest goes
 * through a message_source, which has the sixteen buffers the interface gives a
 * port. TLFS: inter-partition-communication.
 */
#ifndef NESTOR_CORE_PORT_H
#define NESTOR_CORE_PORT_H

#include "core/partition.h"
#include "core/synic.h"

#define PORT_MESSAGE_BUFFERS 16

/* The receiving end on the host. Called on the sender's VP thread, without locks. */
struct port_sink {
	/* A posted message; the status is the caller's. NULL: not a message connection. */
	enum hv_status (*message)(void *ctx, struct vp *from, u32 type, const void *payload,
				  u32 bytes);
	/* A signalled event. NULL: not an event connection. Must not block. */
	void (*event)(void *ctx, struct vp *from, u32 connection_id, u16 flag);
};

/*
 * Makes @id a connection of @p to @sink. -EEXIST, -ENOMEM. @sink is not copied.
 * A call under way when connection_remove() returns has returned too.
 */
int connection_add(struct partition *p, u32 id, const struct port_sink *sink, void *ctx);
void connection_remove(struct partition *p, u32 id);
void connections_destroy(struct partition *p);

/* Host to guest messages: buffers of one port, bound to whatever VP and SINT each names. */
struct message_source {
	u32 sender;	      /* shown to the guest as the port id */
	pthread_mutex_t lock; /* guards free_count and in_use */
	u32 free_count;
	/* A buffer became free after none was; no lock of ours but the SynIC's is held: post work
	 * elsewhere, do not send from here. May be NULL. */
	void (*writable)(void *ctx);
	void *ctx;
	struct message_buffer {
		struct message message;
		struct message_source *source;
		struct vp *vp; /* where it was sent last; of the sending thread */
		bool in_use;
	} buffer[PORT_MESSAGE_BUFFERS];
};

void message_source_init(struct message_source *src, u32 sender, void (*writable)(void *ctx),
			 void *ctx);
/* No message of it is queued any more (the SynICs were reset or destroyed). */
void message_source_fini(struct message_source *src);
/*
 * Sends to SINT @sint of @vp. HV_STATUS_INSUFFICIENT_BUFFERS: all sixteen wait
 * for the guest; HV_STATUS_INVALID_SYNIC_STATE; HV_STATUS_INVALID_PARAMETER.
 */
enum hv_status message_source_send(struct message_source *src, struct vp *vp, u32 sint, u32 type,
				   const void *payload, u32 bytes);
/* What still waits will not be delivered: it was for somebody who is gone. Sending thread only. */
void message_source_drop(struct message_source *src);

#endif
