// SPDX-License-Identifier: MIT
/*
 * The life of a channel as the control plane sees it. One function per
 * transition; the device's part runs on the channel's loop (channel_io.c) and
 * comes back as opened_work and closed_work.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "vmbus/internal.h"

#define DEFAULT_PACKET_MAX (32 * 1024u)

static void opened(struct loop_work *w);
static void closed(struct loop_work *w);
static void failed(struct loop_work *w);
static void suboffer(struct loop_work *w);

struct vmbus_channel *channel_create(struct vmbus_device *vd, u32 index)
{
	struct vmbus_channel *ch = calloc(1, sizeof(*ch));

	if (!ch)
		return NULL;
	ch->srv = vd->srv;
	ch->vd = vd;
	ch->interface_id = vd->interface_id;
	ch->instance_id = vd->offer.instance_id;
	ch->index = index;
	for (u32 i = 0; i < VMBUS_DOORBELLS; i++)
		ch->doorbell_fd[i] = -1;
	list_init(&ch->gpadls);
	loop_work_init(&ch->opened_work, opened);
	loop_work_init(&ch->closed_work, closed);
	loop_work_init(&ch->fail_work, failed);
	loop_work_init(&ch->suboffer_work, suboffer);
	list_add_tail(&vd->srv->channels, &ch->node);
	return ch;
}

bool channel_idle(const struct vmbus_channel *ch)
{
	switch (ch->state) {
	case CHANNEL_CLOSED:
	case CHANNEL_FAILED:
		return true;
	case CHANNEL_OPENING:
	case CHANNEL_OPEN:
	case CHANNEL_CLOSING:
		return false;
	}
	return false;
}

void channel_answer_open(struct vmbus_channel *ch, u32 status)
{
	struct vmbus_open_result m = {
		.header.type = VMBUS_OPEN_RESULT,
		.relid = ch->open.relid,
		.open_id = ch->open.open_id,
		.status = status,
	};

	if (ch->srv->state == CONNECTION_UP)
		server_send(ch->srv, &m, sizeof(m));
}

/* Opening */

static int take_ring(struct vmbus_channel *ch)
{
	const struct vmbus_device_ops *ops = ch->vd->offer.ops;
	struct vmbus_gpadl *g = gpadl_get(ch, ch->open.ring_gpadl);
	int ret = -EINVAL;

	if (!g)
		return -ENOENT;
	if (g->byte_offset == 0)
		ret = vmbus_ring_init(&ch->ring, g->page, g->byte_count / PAGE_BYTES,
				      ch->open.downstream_page_offset,
				      ops->packet_max ? ops->packet_max : DEFAULT_PACKET_MAX);
	if (ret)
		vmbus_gpadl_put(g);
	else
		ch->ring_gpadl = g;
	return ret;
}

static int take_loop(struct vmbus_channel *ch)
{
	const struct vmbus_offer *offer = &ch->vd->offer;
	char name[16];
	int ret;

	ch->own_loop = offer->ops->threaded;
	ch->loop = offer->loop ? offer->loop : ch->srv->loop;
	if (!ch->own_loop)
		return 0;
	ch->loop = loop_create(NULL);
	if (!ch->loop)
		return -ENOMEM;
	snprintf(name, sizeof(name), "%.9s-%u", offer->ops->name, ch->relid);
	ret = loop_thread_start(ch->loop, name);
	if (ret)
		loop_destroy(ch->loop);
	return ret;
}

/* What opening took. The channel's loop does not touch the channel any more. */
static void give_back(struct vmbus_channel *ch)
{
	if (ch->own_loop)
		loop_destroy(ch->loop);
	ch->loop = NULL;
	for (u32 i = 0; i < VMBUS_DOORBELLS; i++) {
		if (ch->doorbell_fd[i] >= 0)
			close(ch->doorbell_fd[i]);
		ch->doorbell_fd[i] = -1;
	}
	vmbus_ring_fini(&ch->ring);
	vmbus_gpadl_put(ch->ring_gpadl);
	ch->ring_gpadl = NULL;
}

static int open_doorbells(struct vmbus_channel *ch)
{
	for (u32 i = 0; i < VMBUS_DOORBELLS; i++) {
		ch->doorbell_fd[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (ch->doorbell_fd[i] < 0)
			return -errno;
	}
	return 0;
}

int channel_open(struct vmbus_channel *ch)
{
	struct vmbus_server *srv = ch->srv;
	bool custom = srv->features & VMBUS_FEATURE_GUEST_SIGNAL_PARAMS;
	int ret = take_ring(ch);

	if (ret)
		return ret;
	ch->own_loop = false;
	ret = open_doorbells(ch);
	if (!ret)
		ret = take_loop(ch);
	if (ret) {
		ch->own_loop = false;
		give_back(ch);
		return ret;
	}
	ch->connection_id = custom ? ch->open.connection_id : CONNECTION_ID_BASE | ch->relid;
	ch->event_flag = custom ? ch->open.event_flag : ch->relid;
	ch->sint = srv->sint;
	__atomic_store_n(&ch->target_vp, ch->open.target_vp, __ATOMIC_RELEASE);
	ch->close_wanted = ch->fail_wanted = ch->guest_closed = ch->reopen = false;
	channel_io_init(ch);
	ch->state = CHANNEL_OPENING;
	loop_post(ch->loop, &ch->open_work);
	return 0;
}

static void port_set(struct vmbus_channel *ch, bool on)
{
	struct vmbus_server *srv = ch->srv;
	struct vmbus_port *port = &srv->port[ch->relid];

	pthread_mutex_lock(&port->lock);
	port->ch = on ? ch : NULL;
	port->connection_id = on ? ch->connection_id : 0;
	pthread_mutex_unlock(&port->lock);
	if (ch->connection_id != (CONNECTION_ID_BASE | ch->relid))
		__atomic_add_fetch(&srv->custom_ports, on ? 1 : -1, __ATOMIC_ACQ_REL);
}

static int connect_port(struct vmbus_channel *ch)
{
	struct vmbus_server *srv = ch->srv;
	int ret;

	port_set(ch, true);
	ret = srv->cfg.ops->event_connect(srv->cfg.ctx, ch->connection_id, ch->doorbell_fd);
	if (ret) {
		vmbus_log(srv, "no port for connection %#x: %s", ch->connection_id, strerror(-ret));
		port_set(ch, false);
	}
	return ret;
}

/* The device has let go, or never took: closed from here on. */
static void enter_closed(struct vmbus_channel *ch)
{
	struct vmbus_server *srv = ch->srv;
	bool reopen = ch->reopen;

	give_back(ch);
	ch->state = ch->fail_wanted && !ch->guest_closed ? CHANNEL_FAILED : CHANNEL_CLOSED;
	ch->fail_wanted = ch->close_wanted = ch->reopen = false;
	if (ch->released)
		channel_release_relid(ch);
	if (reopen &&
	    (ch->revoked || ch->released || srv->state != CONNECTION_UP || channel_open(ch)))
		channel_answer_open(ch, VMBUS_STATUS_FAILED);
	server_settle_later(srv);
}

static void begin_close(struct vmbus_channel *ch, bool connected)
{
	struct vmbus_server *srv = ch->srv;
	struct list *pos;

	ch->state = CHANNEL_CLOSING;
	loop_timer_cancel(&ch->grace);
	if (connected) {
		srv->cfg.ops->event_disconnect(srv->cfg.ctx, ch->connection_id, ch->doorbell_fd);
		port_set(ch, false);
	}
	loop_post(ch->loop, &ch->close_work);
	if (ch->index)
		return;
	/* Sub-channels do not outlive an opening of their primary. */
	ch->vd->subchannels = 0;
	list_for_each(pos, &srv->channels) {
		struct vmbus_channel *sub = list_entry(pos, struct vmbus_channel, node);

		if (sub->vd == ch->vd && sub->index > 0)
			channel_revoke(sub, false);
	}
}

static void opened(struct loop_work *w)
{
	struct vmbus_channel *ch = container_of(w, struct vmbus_channel, opened_work);

	if (ch->open_status) {
		vmbus_log(ch->srv, "%s refuses channel %u: %s", ch->vd->offer.ops->name, ch->relid,
			  strerror(-ch->open_status));
		channel_answer_open(ch, VMBUS_STATUS_FAILED);
		ch->fail_wanted = false;
		enter_closed(ch);
		return;
	}
	if (ch->close_wanted || connect_port(ch)) {
		channel_answer_open(ch, VMBUS_STATUS_FAILED);
		begin_close(ch, false);
		return;
	}
	ch->state = CHANNEL_OPEN;
	channel_answer_open(ch, 0);
	/* As if it had signalled: a guest may have written before it could. */
	loop_post(ch->loop, &ch->drain_work);
}

/* Closing */

void channel_close(struct vmbus_channel *ch)
{
	switch (ch->state) {
	case CHANNEL_OPENING:
		ch->close_wanted = true;
		return;
	case CHANNEL_OPEN:
		begin_close(ch, true);
		return;
	case CHANNEL_CLOSED:
	case CHANNEL_CLOSING:
	case CHANNEL_FAILED:
		return;
	}
}

static void closed(struct loop_work *w)
{
	enter_closed(container_of(w, struct vmbus_channel, closed_work));
}

static void failed(struct loop_work *w)
{
	struct vmbus_channel *ch = container_of(w, struct vmbus_channel, fail_work);

	if (channel_idle(ch))
		return;
	vmbus_log(ch->srv, "channel %u (%s) is closed: %s", ch->relid, ch->vd->offer.ops->name,
		  ch->fail_reason);
	if (ch->state == CHANNEL_OPENING || ch->state == CHANNEL_OPEN)
		ch->fail_wanted = true;
	channel_close(ch);
}

static void suboffer(struct loop_work *w)
{
	struct vmbus_channel *ch = container_of(w, struct vmbus_channel, suboffer_work);
	struct list *pos;

	list_for_each(pos, &ch->srv->channels) {
		struct vmbus_channel *sub = list_entry(pos, struct vmbus_channel, node);

		if (sub->vd == ch->vd)
			sub->held = false;
	}
	server_offer_pending(ch->srv);
}

/* Facts for devices */

void *vmbus_channel_dev(const struct vmbus_channel *ch)
{
	return ch->vd->offer.dev;
}

struct vmbus_server *vmbus_channel_server(const struct vmbus_channel *ch)
{
	return ch->srv;
}

struct vmbus_device *vmbus_channel_device(const struct vmbus_channel *ch)
{
	return ch->vd;
}

u32 vmbus_channel_index(const struct vmbus_channel *ch)
{
	return ch->index;
}

u32 vmbus_channel_target_vp(const struct vmbus_channel *ch)
{
	return __atomic_load_n(&ch->target_vp, __ATOMIC_ACQUIRE);
}

u32 vmbus_channel_version(const struct vmbus_channel *ch)
{
	return vmbus_server_version(ch->srv);
}

struct loop *vmbus_channel_loop(const struct vmbus_channel *ch)
{
	return ch->loop;
}

struct gmem *vmbus_channel_gmem(const struct vmbus_channel *ch)
{
	return ch->srv->cfg.gmem;
}

const u8 *vmbus_channel_open_data(const struct vmbus_channel *ch)
{
	return ch->open.user_data;
}

void vmbus_channel_set_data(struct vmbus_channel *ch, void *data)
{
	ch->data = data;
}

void *vmbus_channel_data(const struct vmbus_channel *ch)
{
	return ch->data;
}
