// SPDX-License-Identifier: MIT
/*
 * The host speaks first: after OPEN it sends the versions it knows, the guest
 * answers with the pair it chose. Linux answers every request with a packet of
 * the length it received.
 */
#include "vsp/ic.h"

#include <errno.h>
#include <string.h>

#include "base/log.h"

#define PIPE_BYTES ((u32)sizeof(struct vmbus_pipe_header))

static int send_message(struct ic *ic, u16 type, const void *body, u32 bytes, u32 wire_bytes)
{
	static const u8 zeros[2048];
	struct ic_header h = {
		.pipe = { VMBUS_PIPE_DATA, (u32)sizeof(h) - PIPE_BYTES + wire_bytes },
		.framework = ic->framework,
		.type = type,
		.message = ic->message,
		.body_bytes = (u16)wire_bytes,
		.transaction_id = ic->transaction,
		.flags = IC_FLAG_TRANSACTION | IC_FLAG_REQUEST,
	};
	struct iovec iov[8] = { { &h, sizeof(h) }, { (void *)(uintptr_t)body, bytes } };
	int n = 2;

	for (u32 left = wire_bytes - bytes; left && n < (int)ARRAY_SIZE(iov); n++) {
		u32 run = left < sizeof(zeros) ? left : (u32)sizeof(zeros);

		iov[n] = (struct iovec){ (void *)(uintptr_t)zeros, run };
		left -= run;
	}
	return vmbus_send_iov(ic->ch, ic->transaction, 0, iov, n);
}

static int send_versions(struct ic *ic)
{
	const struct ic_kind *k = ic->kind;
	struct {
		struct ic_negotiate n;
		struct ic_version v[2 * IC_MAX_VERSIONS];
	} m = { .n = { (u16)k->framework_count, (u16)k->message_count, 0 } };
	u32 count = k->framework_count + k->message_count;

	assert(k->framework_count <= IC_MAX_VERSIONS && k->message_count <= IC_MAX_VERSIONS);
	memcpy(m.v, k->framework, k->framework_count * sizeof(m.v[0]));
	memcpy(m.v + k->framework_count, k->message, k->message_count * sizeof(m.v[0]));
	return send_message(ic, IC_NEGOTIATE, &m, (u32)(sizeof(m.n) + count * sizeof(m.v[0])),
			    (u32)(sizeof(m.n) + count * sizeof(m.v[0])));
}

int ic_opened(struct vmbus_channel *ch)
{
	struct ic *ic = vmbus_channel_dev(ch);
	int ret;

	ic->ch = ch;
	ic->transaction = 0;
	ic->framework = ic->message = (struct ic_version){ 0, 0 };
	ret = send_versions(ic);
	if (ret) {
		ic->ch = NULL;
		return ret;
	}
	ic->state = IC_NEGOTIATING;
	return 0;
}

static bool offered(const struct ic_version *list, u32 count, struct ic_version v)
{
	for (u32 i = 0; i < count; i++)
		if (list[i].major == v.major && list[i].minor == v.minor)
			return true;
	return false;
}

static void negotiated(struct ic *ic, const u8 *body, u32 bytes)
{
	const struct ic_kind *k = ic->kind;
	struct {
		struct ic_negotiate n;
		struct ic_version framework, message;
	} m = { 0 };

	memcpy(&m, body, bytes < sizeof(m) ? bytes : sizeof(m));
	if (m.n.framework_count != 1 || m.n.message_count != 1 ||
	    !offered(k->framework, k->framework_count, m.framework) ||
	    !offered(k->message, k->message_count, m.message)) {
		log_limited(LOG_WARNING,
			    "integration component %u: the guest knows no version offered",
			    k->type);
		ic->state = IC_REFUSED;
		if (k->answer)
			k->answer(ic, NULL, NULL, 0);
		return;
	}
	ic->framework = m.framework;
	ic->message = m.message;
	ic->state = IC_READY;
	if (k->ready)
		k->ready(ic);
}

int ic_packet(struct vmbus_channel *ch, const struct vmbus_packet *pkt)
{
	struct ic *ic = vmbus_channel_dev(ch);
	const struct ic_header *h = pkt->payload;
	const u8 *body = (const u8 *)(h + 1);
	u32 bytes;

	if (pkt->type != VMBUS_PACKET_INBAND)
		return -EPROTO;
	/* Trust the shortest of what the packet, the pipe and the header say. */
	if (pkt->payload_bytes < sizeof(*h))
		return -EPROTO;
	bytes = pkt->payload_bytes - (u32)sizeof(*h);
	if (h->pipe.bytes < sizeof(*h) - PIPE_BYTES)
		return -EPROTO;
	if (h->pipe.bytes - (sizeof(*h) - PIPE_BYTES) < bytes)
		bytes = h->pipe.bytes - (u32)(sizeof(*h) - PIPE_BYTES);
	if (h->body_bytes < bytes)
		bytes = h->body_bytes;
	if (!(h->flags & IC_FLAG_RESPONSE))
		return 0; /* the guest asks nothing of us in these protocols */
	switch (ic->state) {
	case IC_NEGOTIATING:
		if (h->type == IC_NEGOTIATE)
			negotiated(ic, body, bytes);
		return 0;
	case IC_WAITING:
		if (h->type != ic->kind->type || h->transaction_id != ic->transaction)
			return 0; /* late, for a request given up */
		loop_timer_cancel(&ic->timeout);
		ic->state = IC_READY;
		if (ic->kind->answer)
			ic->kind->answer(ic, h, body, bytes);
		return 0;
	case IC_CLOSED:
	case IC_READY:
	case IC_REFUSED:
		return 0;
	}
	return 0;
}

int ic_closed(struct vmbus_channel *ch)
{
	struct ic *ic = vmbus_channel_dev(ch);

	loop_timer_cancel(&ic->timeout);
	ic->ch = NULL;
	ic->state = IC_CLOSED;
	if (ic->kind->answer)
		ic->kind->answer(ic, NULL, NULL, 0);
	return 0;
}

static void timed_out(struct loop_timer *t)
{
	struct ic *ic = container_of(t, struct ic, timeout);

	ic->state = IC_READY;
	ic->kind->answer(ic, NULL, NULL, 0);
}

int ic_request(struct ic *ic, const void *body, u32 bytes, u32 wire_bytes)
{
	int ret;

	if (ic->state == IC_WAITING)
		return -EBUSY;
	if (ic->state != IC_READY)
		return -ENOTCONN;
	ic->transaction++;
	ret = send_message(ic, (u16)ic->kind->type, body, bytes, wire_bytes ? wire_bytes : bytes);
	if (ret)
		return ret;
	ic->state = IC_WAITING;
	if (ic->kind->timeout_ns)
		loop_timer_after(vmbus_channel_loop(ic->ch), &ic->timeout, ic->kind->timeout_ns,
				 timed_out);
	return 0;
}

int ic_notify(struct ic *ic, const void *body, u32 bytes)
{
	if (ic->state != IC_READY)
		return -ENOTCONN;
	ic->transaction++;
	return send_message(ic, (u16)ic->kind->type, body, bytes, bytes);
}

int ic_offer(struct ic *ic, struct vmbus_server *srv, const struct ic_kind *kind,
	     const struct vmbus_device_ops *ops, const struct hv_guid *instance)
{
	struct vmbus_offer offer = { .ops = ops, .dev = ic, .instance_id = *instance };

	ic->kind = kind;
	ic->srv = srv;
	offer.user_data[0] = VMBUS_PIPE_USER_MODE_MESSAGE;
	return vmbus_offer(srv, &offer, &ic->vd);
}
