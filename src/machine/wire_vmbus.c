// SPDX-License-Identifier: MIT
/* Statuses become errno on the way down and back on the way up; nothing else happens here. */
#include "machine/wire_vmbus.h"

#include <errno.h>
#include <stdlib.h>

#include "core/doorbell.h"
#include "core/port.h"
#include "core/vp.h"

struct wire_vmbus {
	struct partition *partition;
	struct loop *loop;
	bool running;
	struct vmbus_server *server;
	struct message_source messages;
};

static int post_message(void *ctx, u32 index, u8 sint, const void *payload, u32 bytes)
{
	struct wire_vmbus *w = ctx;
	struct vp *vp = partition_vp(w->partition, index);

	if (!vp)
		return -EINVAL;
	switch (message_source_send(&w->messages, vp, sint, VMBUS_MESSAGE_TYPE, payload, bytes)) {
	case HV_STATUS_SUCCESS:
		return 0;
	case HV_STATUS_INSUFFICIENT_BUFFERS:
		return -EAGAIN;
	default:
		return -EIO;
	}
}

static void signal_event(void *ctx, u32 index, u8 sint, u32 flag)
{
	struct wire_vmbus *w = ctx;
	struct vp *vp = partition_vp(w->partition, index);

	if (vp && sint < HV_SYNIC_SINT_COUNT)
		synic_signal(&vp->synic, sint, flag);
}

static void on_event(void *ctx, struct vp *from, u32 connection_id, u16 flag)
{
	struct wire_vmbus *w = ctx;

	vmbus_signal(w->server, connection_id);
}

static const struct port_sink event_sink = { .event = on_event };

_Static_assert(VMBUS_DOORBELLS == DOORBELL_WAYS, "one for each");

static int event_connect(void *ctx, u32 connection_id, const int doorbell[VMBUS_DOORBELLS])
{
	struct wire_vmbus *w = ctx;
	int ret = connection_add(w->partition, connection_id, &event_sink, w);

	if (!ret)
		doorbell_add(w->partition, connection_id, doorbell);
	return ret;
}

static void event_disconnect(void *ctx, u32 connection_id, const int doorbell[VMBUS_DOORBELLS])
{
	struct wire_vmbus *w = ctx;

	doorbell_remove(w->partition, connection_id, doorbell);
	connection_remove(w->partition, connection_id);
}

static void event_rung(void *ctx, u32 which, u64 n)
{
	struct wire_vmbus *w = ctx;

	doorbell_rang(w->partition, which, n);
}

static bool vp_valid(void *ctx, u32 index)
{
	struct wire_vmbus *w = ctx;

	return partition_vp(w->partition, index) != NULL;
}

static u64 reference_time(void *ctx)
{
	struct wire_vmbus *w = ctx;

	return refclock_now_100ns(w->partition->hv->clock);
}

/* A kernel that comes after this one must not find messages about its predecessor's channels. */
static void connection_changed(void *ctx, u32 version)
{
	struct wire_vmbus *w = ctx;

	if (!version)
		message_source_drop(&w->messages);
}

static const struct vmbus_host_ops host_ops = {
	.post_message = post_message,
	.signal_event = signal_event,
	.event_connect = event_connect,
	.event_disconnect = event_disconnect,
	.event_rung = event_rung,
	.vp_valid = vp_valid,
	.reference_time_100ns = reference_time,
	.connection_changed = connection_changed,
};

static enum hv_status on_message(void *ctx, struct vp *from, u32 type, const void *payload,
				 u32 bytes)
{
	struct wire_vmbus *w = ctx;

	if (type != VMBUS_MESSAGE_TYPE)
		return HV_STATUS_INVALID_PARAMETER;
	return vmbus_message(w->server, payload, bytes) < 0 ? HV_STATUS_INSUFFICIENT_BUFFERS
							    : HV_STATUS_SUCCESS;
}

static const struct port_sink message_sink = { .message = on_message };

static void on_writable(void *ctx)
{
	struct wire_vmbus *w = ctx;

	vmbus_message_slot_free(w->server);
}

int wire_vmbus_create(struct partition *p, struct wire_vmbus **out)
{
	struct wire_vmbus *w = calloc(1, sizeof(*w));
	struct vmbus_config cfg = { .ops = &host_ops, .gmem = p->gmem, .name = p->hv->name };
	int ret = -ENOMEM;

	if (!w)
		return ret;
	w->partition = p;
	p->rings_doorbells = true;
	if (p->inner)
		p->inner->rings_doorbells = true;
	message_source_init(&w->messages, VMBUS_CONNECTION_V4, on_writable, w);
	w->loop = loop_create(NULL);
	if (!w->loop)
		goto fail;
	cfg.ctx = w;
	cfg.loop = w->loop;
	ret = vmbus_server_create(&cfg, &w->server);
	if (ret)
		goto fail;
	if ((ret = connection_add(p, VMBUS_CONNECTION_V4, &message_sink, w)) ||
	    (ret = connection_add(p, VMBUS_CONNECTION_V5, &message_sink, w)))
		goto fail;
	ret = loop_thread_start(w->loop, "vmbus");
	if (ret)
		goto fail;
	w->running = true;
	*out = w;
	return 0;
fail:
	wire_vmbus_destroy(w);
	return ret;
}

void wire_vmbus_destroy(struct wire_vmbus *w)
{
	struct partition *p;

	if (!w)
		return;
	p = w->partition;
	connection_remove(p, VMBUS_CONNECTION_V4);
	connection_remove(p, VMBUS_CONNECTION_V5);
	vmbus_server_destroy(w->server);
	if (w->running) {
		loop_stop(w->loop);
		loop_thread_join(w->loop);
	}
	loop_destroy(w->loop);
	/* Messages of ours may still wait for the guest: the SynICs give them back first. */
	for (u32 i = 0; i < p->vp_count; i++)
		synic_reset(&p->vps[i]->synic);
	message_source_fini(&w->messages);
	free(w);
}

struct vmbus_server *wire_vmbus_server(struct wire_vmbus *w)
{
	return w->server;
}
