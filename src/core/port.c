// SPDX-License-Identifier: MIT
/* Connections by id in a small hash; the lock is held for reading while a sink runs. */
#include "core/port.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/child_intercept.h"
#include "core/core_trace.h"
#include "core/hypercall.h"

struct connection {
	struct connection *next;
	u32 id;
	const struct port_sink *sink;
	void *ctx;
};

static struct connection **bucket(struct partition *p, u32 id)
{
	return &p->connections[id % CONNECTION_HASH];
}

static struct connection *find_locked(struct partition *p, u32 id)
{
	struct connection *c = *bucket(p, id);

	while (c && c->id != id)
		c = c->next;
	return c;
}

int connection_add(struct partition *p, u32 id, const struct port_sink *sink, void *ctx)
{
	struct connection *c = malloc(sizeof(*c));
	int ret = 0;

	if (!c)
		return -ENOMEM;
	pthread_rwlock_wrlock(&p->connections_lock);
	if (find_locked(p, id)) {
		ret = -EEXIST;
		free(c);
	} else {
		*c = (struct connection){ *bucket(p, id), id, sink, ctx };
		*bucket(p, id) = c;
	}
	pthread_rwlock_unlock(&p->connections_lock);
	return ret;
}

void connection_remove(struct partition *p, u32 id)
{
	struct connection **at, *c;

	pthread_rwlock_wrlock(&p->connections_lock);
	at = bucket(p, id);
	while ((c = *at) && c->id != id)
		at = &c->next;
	if (c)
		*at = c->next;
	pthread_rwlock_unlock(&p->connections_lock);
	free(c);
}

void connections_destroy(struct partition *p)
{
	for (u32 i = 0; i < CONNECTION_HASH; i++) {
		while (p->connections[i]) {
			struct connection *c = p->connections[i];

			p->connections[i] = c->next;
			free(c);
		}
	}
}

static enum hv_status post_to(struct vp *vp, const struct hv_input_post_message *in)
{
	struct partition *p = vp->partition;
	enum hv_status status = HV_STATUS_INVALID_CONNECTION_ID;
	struct connection *c;

	pthread_rwlock_rdlock(&p->connections_lock);
	c = find_locked(p, in->connection_id);
	if (c && c->sink->message)
		status = c->sink->message(c->ctx, vp, in->message_type, in->payload,
					  in->payload_bytes);
	pthread_rwlock_unlock(&p->connections_lock);
	core_emit(TRACE_CONNECTION_MESSAGE, in->connection_id, in->message_type, in->payload_bytes,
		  status, TRACE_WORD(p->hv->name));
	return status;
}

static enum hv_status signal_to(struct vp *vp, const struct hv_input_signal_event *in)
{
	struct partition *p = vp->partition;
	enum hv_status status = HV_STATUS_INVALID_CONNECTION_ID;
	struct connection *c;

	pthread_rwlock_rdlock(&p->connections_lock);
	c = find_locked(p, in->connection_id);
	if (c && c->sink->event) {
		c->sink->event(c->ctx, vp, in->connection_id, in->flag_number);
		status = HV_STATUS_SUCCESS;
	}
	pthread_rwlock_unlock(&p->connections_lock);
	core_emit(TRACE_CONNECTION_EVENT, in->connection_id, in->flag_number, status,
		  TRACE_WORD(p->hv->name));
	return status;
}

/* Where L0 may be what was meant: no such connection here, and the quirk is on. */
static bool forward(struct hypercall *hc, enum hv_status status, enum quirk_id quirk)
{
	hc->forwarded = status == HV_STATUS_INVALID_CONNECTION_ID && hc->vp->outer &&
			partition_quirk(hc->vp->partition, quirk);
	return hc->forwarded;
}

/* A child's connection that is nobody's here may be one its parent serves. */
static enum hv_status not_here(struct hypercall *hc, enum hv_status status)
{
	if (status == HV_STATUS_INVALID_CONNECTION_ID &&
	    child_intercepts(hc->vp, HV_INTERCEPT_TYPE_UNKNOWN_SYNIC_CONNECTION))
		hc->fault = VP_INTERCEPTED;
	return status;
}

static enum hv_status call_post_message(struct hypercall *hc)
{
	const struct hv_input_post_message *in = HYPERCALL_IN(hc, struct hv_input_post_message);
	enum hv_status status;

	if (in->message_type == HV_MESSAGE_NONE ||
	    (in->message_type & HV_MESSAGE_TYPE_HYPERVISOR) ||
	    in->payload_bytes > sizeof(in->payload))
		return HV_STATUS_INVALID_PARAMETER;
	status = post_to(hc->vp, in);
	return forward(hc, status, QUIRK_FORWARD_POST) ? post_to(hc->vp->outer, in)
						       : not_here(hc, status);
}

static enum hv_status call_signal_event(struct hypercall *hc)
{
	const struct hv_input_signal_event *in = HYPERCALL_IN(hc, struct hv_input_signal_event);
	enum hv_status status;

	if (in->flag_number >= HV_EVENT_FLAGS_COUNT)
		return HV_STATUS_INVALID_PARAMETER;
	status = signal_to(hc->vp, in);
	return forward(hc, status, QUIRK_FORWARD_SIGNAL) ? signal_to(hc->vp->outer, in)
							 : not_here(hc, status);
}

const struct hypercall_desc port_hypercalls[] = {
	{ .code = HVCALL_POST_MESSAGE,
	  .name = "HvCallPostMessage",
	  .privilege = HV_PRIV_POST_MESSAGES,
	  .in_size = sizeof(struct hv_input_post_message),
	  .handler = call_post_message },
	{ .code = HVCALL_SIGNAL_EVENT,
	  .name = "HvCallSignalEvent",
	  .privilege = HV_PRIV_SIGNAL_EVENTS,
	  .in_size = sizeof(struct hv_input_signal_event),
	  .handler = call_signal_event },
	{ 0 },
};

static void buffer_release(struct message_buffer *b)
{
	struct message_source *src = b->source;
	bool was_full;

	pthread_mutex_lock(&src->lock);
	b->in_use = false;
	was_full = src->free_count++ == 0;
	pthread_mutex_unlock(&src->lock);
	if (was_full && src->writable)
		src->writable(src->ctx);
}

static void buffer_done(struct message *msg, bool delivered)
{
	buffer_release(container_of(msg, struct message_buffer, message));
}

void message_source_init(struct message_source *src, u32 sender, void (*writable)(void *ctx),
			 void *ctx)
{
	*src = (struct message_source){ .sender = sender,
					.free_count = PORT_MESSAGE_BUFFERS,
					.writable = writable,
					.ctx = ctx };
	pthread_mutex_init(&src->lock, NULL);
	for (u32 i = 0; i < PORT_MESSAGE_BUFFERS; i++) {
		src->buffer[i].source = src;
		list_init(&src->buffer[i].message.link);
		src->buffer[i].message.done = buffer_done;
	}
}

void message_source_fini(struct message_source *src)
{
	pthread_mutex_destroy(&src->lock);
}

static struct message_buffer *buffer_take(struct message_source *src)
{
	struct message_buffer *b = NULL;

	pthread_mutex_lock(&src->lock);
	for (u32 i = 0; i < PORT_MESSAGE_BUFFERS && !b; i++)
		if (!src->buffer[i].in_use)
			b = &src->buffer[i];
	if (b) {
		b->in_use = true;
		src->free_count--;
	}
	pthread_mutex_unlock(&src->lock);
	return b;
}

enum hv_status message_source_send(struct message_source *src, struct vp *vp, u32 sint, u32 type,
				   const void *payload, u32 bytes)
{
	struct message_buffer *b;
	enum hv_status status;

	/* A slot with this type would be an empty one. */
	if (type == HV_MESSAGE_NONE)
		return HV_STATUS_INVALID_PARAMETER;
	if (bytes > HV_MESSAGE_PAYLOAD_BYTES || sint >= HV_SYNIC_SINT_COUNT)
		return HV_STATUS_INVALID_PARAMETER;
	b = buffer_take(src);
	if (!b)
		return HV_STATUS_INSUFFICIENT_BUFFERS;
	b->message.m.type = type;
	b->message.m.payload_bytes = (u8)bytes;
	b->message.m.sender = src->sender;
	memcpy(b->message.m.payload, payload, bytes);
	b->vp = vp;
	status = synic_post(&vp->synic, sint, &b->message);
	if (status != HV_STATUS_SUCCESS)
		buffer_release(b);
	return status;
}

void message_source_drop(struct message_source *src)
{
	for (u32 i = 0; i < PORT_MESSAGE_BUFFERS; i++) {
		struct message_buffer *b = &src->buffer[i];

		if (b->vp && synic_cancel(&b->vp->synic, &b->message))
			buffer_release(b);
	}
}
