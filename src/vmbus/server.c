// SPDX-License-Identifier: MIT
/*
 * The server's life and its queues of messages in and out. What a message means
 * is in message.c, what exists in offer.c.
 *
 * Incoming messages are handled while nothing waits to go out, so a guest that
 * does not empty its slot stops its own requests, not our memory.
 */
#include "vmbus/server.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmbus/internal.h"

#define DEFAULT_GPADL_PAGES 327680u
#define DEFAULT_GPADLS	    8192u
#define DEFAULT_PENDING	    64u
#define PAUSED_OUT_MAX	    256u

/* Messages out */

void server_send_to(struct vmbus_server *srv, u32 vp, u8 sint, const void *message, u32 bytes)
{
	struct out_message *m = malloc(sizeof(*m));

	assert(bytes <= VMBUS_MESSAGE_MAX);
	if (!m) {
		vmbus_log(srv, "no memory for a message to the guest");
		return;
	}
	m->vp = vp;
	m->sint = sint;
	m->bytes = (u8)bytes;
	memcpy(m->payload, message, bytes);
	list_add_tail(&srv->out, &m->node);
	srv->out_count++;
	if (!srv->pumping)
		loop_post(srv->loop, &srv->pump_work);
}

void server_send(struct vmbus_server *srv, const void *message, u32 bytes)
{
	server_send_to(srv, srv->target_vp, srv->sint, message, bytes);
}

static void out_pop(struct vmbus_server *srv)
{
	free(list_entry(list_pop(&srv->out), struct out_message, node));
	srv->out_count--;
}

void server_drop_out(struct vmbus_server *srv)
{
	while (!list_empty(&srv->out))
		out_pop(srv);
	loop_timer_cancel(&srv->retry);
}

static void retry_timer(struct loop_timer *t)
{
	struct vmbus_server *srv = container_of(t, struct vmbus_server, retry);

	loop_post(srv->loop, &srv->pump_work);
}

static bool held_by_pause(const struct vmbus_server *srv, const struct out_message *m)
{
	return srv->paused &&
	       ((const struct vmbus_message_header *)m->payload)->type != VMBUS_PAUSE_RESPONSE;
}

static void flush_out(struct vmbus_server *srv)
{
	while (!list_empty(&srv->out)) {
		struct out_message *m = list_entry(srv->out.next, struct out_message, node);
		int ret;

		if (held_by_pause(srv, m))
			return;
		/* Before the try: a slot that becomes free during it must not be missed. */
		__atomic_store_n(&srv->blocked, 1, __ATOMIC_SEQ_CST);
		ret = srv->cfg.ops->post_message(srv->cfg.ctx, m->vp, m->sint, m->payload,
						 m->bytes);
		if (ret == -EAGAIN) {
			loop_timer_after(srv->loop, &srv->retry, VMBUS_RETRY_NS, retry_timer);
			return;
		}
		__atomic_store_n(&srv->blocked, 0, __ATOMIC_SEQ_CST);
		if (ret)
			vmbus_log(srv, "message to VP %u SINT %u is lost: %s", m->vp, m->sint,
				  strerror(-ret));
		out_pop(srv);
	}
}

void vmbus_message_slot_free(struct vmbus_server *srv)
{
	if (__atomic_load_n(&srv->blocked, __ATOMIC_SEQ_CST))
		loop_post(srv->loop, &srv->pump_work);
}

/* Messages in */

int vmbus_message(struct vmbus_server *srv, const void *message, u32 bytes)
{
	struct in_message *m;
	int ret = 0;

	if (bytes > VMBUS_MESSAGE_MAX)
		bytes = VMBUS_MESSAGE_MAX;
	pthread_mutex_lock(&srv->in_lock);
	if (srv->in_count == srv->cfg.max_pending) {
		ret = -ENOBUFS;
	} else {
		m = &srv->in[(srv->in_head + srv->in_count++) % srv->cfg.max_pending];
		memset(m, 0, sizeof(*m));
		memcpy(m->payload, message, bytes);
		m->bytes = bytes;
	}
	pthread_mutex_unlock(&srv->in_lock);
	loop_post(srv->loop, &srv->pump_work);
	return ret;
}

static bool in_pop(struct vmbus_server *srv, struct in_message *m)
{
	bool some;

	pthread_mutex_lock(&srv->in_lock);
	some = srv->in_count > 0;
	if (some) {
		*m = srv->in[srv->in_head];
		srv->in_head = (srv->in_head + 1) % srv->cfg.max_pending;
		srv->in_count--;
	}
	pthread_mutex_unlock(&srv->in_lock);
	return some;
}

/* Drops what is before the newest INITIATE_CONTACT waiting. False: there is none. */
static bool in_skip_to_contact(struct vmbus_server *srv)
{
	bool found = false;

	pthread_mutex_lock(&srv->in_lock);
	for (u32 i = srv->in_count; i-- > 0 && !found;) {
		struct in_message *m = &srv->in[(srv->in_head + i) % srv->cfg.max_pending];

		if (((struct vmbus_message_header *)m->payload)->type != VMBUS_INITIATE_CONTACT)
			continue;
		srv->in_head = (srv->in_head + i) % srv->cfg.max_pending;
		srv->in_count -= i;
		found = true;
	}
	pthread_mutex_unlock(&srv->in_lock);
	return found;
}

static bool may_handle(struct vmbus_server *srv)
{
	u32 limit = srv->paused ? PAUSED_OUT_MAX : 0;

	if (srv->out_count <= limit)
		return true;
	/*
	 * The guest that would read these is gone (kexec, crash kernel): its successor
	 * must not get them. It cannot have sent this contact before it was ready.
	 */
	if (!in_skip_to_contact(srv))
		return false;
	server_drop_out(srv);
	return true;
}

static void pump(struct loop_work *w)
{
	struct vmbus_server *srv = container_of(w, struct vmbus_server, pump_work);
	struct in_message m;

	srv->pumping = true;
	flush_out(srv);
	while (may_handle(srv) && in_pop(srv, &m)) {
		message_handle(srv, &m);
		flush_out(srv);
	}
	srv->pumping = false;
}

/* Settling */

static void free_idle_channels(struct vmbus_server *srv)
{
	struct list *pos, *tmp;

	list_for_each_safe(pos, tmp, &srv->channels) {
		struct vmbus_channel *ch = list_entry(pos, struct vmbus_channel, node);

		gpadl_reap(ch);
		if (!channel_idle(ch))
			continue;
		if (ch->revoked && (ch->released || srv->state == CONNECTION_NONE))
			channel_release_relid(ch);
		if (ch->revoked && !ch->relid && list_empty(&ch->gpadls) &&
		    (ch->index > 0 || !ch->vd))
			channel_free(ch);
	}
}

static void free_idle_devices(struct vmbus_server *srv)
{
	struct list *pos, *tmp;

	list_for_each_safe(pos, tmp, &srv->devices) {
		struct vmbus_device *vd = list_entry(pos, struct vmbus_device, node);

		if (vd->revoked && !device_busy(vd))
			device_destroy(vd);
	}
}

static bool all_idle(struct vmbus_server *srv)
{
	struct list *pos;

	list_for_each(pos, &srv->channels) {
		struct vmbus_channel *ch = list_entry(pos, struct vmbus_channel, node);

		if (!channel_idle(ch) || !list_empty(&ch->gpadls))
			return false;
	}
	return true;
}

/* Every channel is closed and nothing of the guest's memory is in use. */
static void disconnected(struct vmbus_server *srv)
{
	static const struct vmbus_message_header complete = { .type = VMBUS_UNLOAD_COMPLETE };
	enum connection_next next = srv->next;
	struct list *pos;

	list_for_each(pos, &srv->channels) {
		struct vmbus_channel *ch = list_entry(pos, struct vmbus_channel, node);

		channel_release_relid(ch);
		ch->released = false;
		ch->state = CHANNEL_CLOSED; /* FAILED is forgotten */
	}
	memset(srv->tl, 0, sizeof(srv->tl));
	srv->state = CONNECTION_NONE;
	srv->next = NEXT_NOTHING;
	srv->paused = false;
	srv->offers_requested = false;
	__atomic_store_n(&srv->version, 0, __ATOMIC_RELEASE);
	/* Before the answer: what waits for the guest is forgotten here. */
	if (srv->cfg.ops->connection_changed)
		srv->cfg.ops->connection_changed(srv->cfg.ctx, 0);
	if (next == NEXT_UNLOAD_COMPLETE)
		server_send(srv, &complete, sizeof(complete));
	if (next == NEXT_CONTACT)
		message_contact(srv, &srv->contact);
}

static void tell_quiet(struct vmbus_server *srv)
{
	bool quiet = srv->state == CONNECTION_NONE &&
		     (!srv->stopping || (list_empty(&srv->devices) && list_empty(&srv->channels)));

	pthread_mutex_lock(&srv->quiet_lock);
	srv->quiet = quiet;
	pthread_cond_broadcast(&srv->quiet_cond);
	pthread_mutex_unlock(&srv->quiet_lock);
}

void server_settle(struct vmbus_server *srv)
{
	free_idle_channels(srv);
	if (srv->state == CONNECTION_CLOSING && all_idle(srv))
		disconnected(srv);
	free_idle_devices(srv);
	free_idle_channels(srv);
	server_offer_pending(srv);
	tell_quiet(srv);
}

static void settle_run(struct loop_work *w)
{
	server_settle(container_of(w, struct vmbus_server, settle_work));
}

void server_settle_later(struct vmbus_server *srv)
{
	loop_post(srv->loop, &srv->settle_work);
}

void server_disconnect(struct vmbus_server *srv, enum connection_next next)
{
	struct list *pos;

	srv->next = next;
	if (srv->state == CONNECTION_CLOSING)
		return;
	srv->state = CONNECTION_CLOSING;
	server_drop_out(srv);
	list_for_each(pos, &srv->channels) {
		struct vmbus_channel *ch = list_entry(pos, struct vmbus_channel, node);

		gpadl_drop_all(ch);
		if (ch->index > 0)
			ch->revoked = true;
		if (!channel_idle(ch))
			channel_close(ch);
	}
	list_for_each(pos, &srv->devices) {
		struct vmbus_device *vd = list_entry(pos, struct vmbus_device, node);

		vd->subchannels = 0;
		/* An hv_sock connection is the guest's own; it ends with the guest. */
		if ((vd->offer.ops->flags | vd->offer.extra_flags) & VMBUS_OFFER_TLNPI)
			vd->revoked = vd->primary->revoked = true;
	}
	server_settle_later(srv);
}

/* Life */

static void server_free(struct vmbus_server *srv)
{
	for (u32 i = 0; i <= VMBUS_RELID_MAX; i++)
		pthread_mutex_destroy(&srv->port[i].lock);
	pthread_mutex_destroy(&srv->gpadl_lock);
	pthread_mutex_destroy(&srv->in_lock);
	pthread_mutex_destroy(&srv->quiet_lock);
	pthread_cond_destroy(&srv->quiet_cond);
	free(srv->in);
	free(srv);
}

int vmbus_server_create(const struct vmbus_config *cfg, struct vmbus_server **out)
{
	struct vmbus_server *srv = calloc(1, sizeof(*srv));

	if (!srv)
		return -ENOMEM;
	srv->cfg = *cfg;
	srv->loop = cfg->loop;
	snprintf(srv->name, sizeof(srv->name), "%s", cfg->name ? cfg->name : "guest");
	if (!srv->cfg.max_version)
		srv->cfg.max_version = UINT32_MAX;
	if (!srv->cfg.max_gpadl_pages)
		srv->cfg.max_gpadl_pages = DEFAULT_GPADL_PAGES;
	if (!srv->cfg.max_gpadls)
		srv->cfg.max_gpadls = DEFAULT_GPADLS;
	if (!srv->cfg.max_pending)
		srv->cfg.max_pending = DEFAULT_PENDING;
	list_init(&srv->devices);
	list_init(&srv->channels);
	list_init(&srv->out);
	loop_work_init(&srv->pump_work, pump);
	loop_work_init(&srv->settle_work, settle_run);
	for (u32 i = 0; i <= VMBUS_RELID_MAX; i++)
		pthread_mutex_init(&srv->port[i].lock, NULL);
	pthread_mutex_init(&srv->gpadl_lock, NULL);
	pthread_mutex_init(&srv->in_lock, NULL);
	pthread_mutex_init(&srv->quiet_lock, NULL);
	pthread_cond_init(&srv->quiet_cond, NULL);
	srv->quiet = true;
	srv->sint = VMBUS_SINT;
	srv->in = calloc(srv->cfg.max_pending, sizeof(*srv->in));
	if (!srv->in) {
		server_free(srv);
		return -ENOMEM;
	}
	*out = srv;
	return 0;
}

/* Incoming messages of the old life are gone with it. */
static void reset_run(void *arg)
{
	struct vmbus_server *srv = arg;

	pthread_mutex_lock(&srv->in_lock);
	srv->in_count = 0;
	pthread_mutex_unlock(&srv->in_lock);
	server_drop_out(srv);
	pthread_mutex_lock(&srv->quiet_lock);
	srv->quiet = false;
	pthread_mutex_unlock(&srv->quiet_lock);
	server_disconnect(srv, NEXT_NOTHING);
}

static void stop_run(void *arg)
{
	struct vmbus_server *srv = arg;
	struct list *pos;

	srv->stopping = true;
	reset_run(srv);
	list_for_each(pos, &srv->devices)
		device_revoke(list_entry(pos, struct vmbus_device, node), true);
}

static void wait_quiet(struct vmbus_server *srv)
{
	bool quiet;

	assert(!loop_is_self(srv->loop));
	do {
		if (!loop_is_running(srv->loop))
			loop_iterate(srv->loop, NS_PER_MS);
		pthread_mutex_lock(&srv->quiet_lock);
		if (loop_is_running(srv->loop) && !srv->quiet)
			pthread_cond_wait(&srv->quiet_cond, &srv->quiet_lock);
		quiet = srv->quiet;
		pthread_mutex_unlock(&srv->quiet_lock);
	} while (!quiet);
}

void vmbus_server_reset(struct vmbus_server *srv)
{
	loop_call(srv->loop, reset_run, srv);
	wait_quiet(srv);
}

static void detach_run(void *arg)
{
	struct vmbus_server *srv = arg;

	server_drop_out(srv);
	loop_work_cancel(srv->loop, &srv->pump_work);
	loop_work_cancel(srv->loop, &srv->settle_work);
}

void vmbus_server_destroy(struct vmbus_server *srv)
{
	if (!srv)
		return;
	loop_call(srv->loop, stop_run, srv);
	wait_quiet(srv);
	loop_call(srv->loop, detach_run, srv);
	server_free(srv);
}

/* Facts */

u64 vmbus_reference_time(struct vmbus_server *srv)
{
	return srv->cfg.ops->reference_time_100ns(srv->cfg.ctx);
}

struct loop *vmbus_server_loop(struct vmbus_server *srv)
{
	return srv->loop;
}

u32 vmbus_server_version(struct vmbus_server *srv)
{
	return __atomic_load_n(&srv->version, __ATOMIC_ACQUIRE);
}

struct list_call {
	struct vmbus_server *srv;
	struct vmbus_channel_info *info;
	u32 max, count;
};

static void list_run(void *arg)
{
	struct list_call *c = arg;
	struct list *pos;

	list_for_each(pos, &c->srv->channels) {
		struct vmbus_channel *ch = list_entry(pos, struct vmbus_channel, node);
		struct vmbus_channel_info *i = &c->info[c->count];

		if (c->count++ >= c->max)
			continue;
		*i = (struct vmbus_channel_info){
			.interface_id = ch->interface_id,
			.instance_id = ch->instance_id,
			.index = ch->index,
			.relid = ch->relid,
			.connection_id = ch->relid ? ch->connection_id : 0,
			.target_vp = __atomic_load_n(&ch->target_vp, __ATOMIC_RELAXED),
			.offered = ch->offered,
			.open = ch->state == CHANNEL_OPEN,
			.revoked = ch->revoked,
			.packets = __atomic_load_n(&ch->stats.packets, __ATOMIC_RELAXED),
			.completions = __atomic_load_n(&ch->stats.completions, __ATOMIC_RELAXED),
			.sends = __atomic_load_n(&ch->stats.sends, __ATOMIC_RELAXED),
			.signals_in = __atomic_load_n(&ch->stats.signals_in, __ATOMIC_RELAXED),
			.signals_out = __atomic_load_n(&ch->stats.signals_out, __ATOMIC_RELAXED),
		};
		snprintf(i->device, sizeof(i->device), "%s",
			 ch->vd ? ch->vd->offer.ops->name : "(removed)");
	}
}

u32 vmbus_server_list(struct vmbus_server *srv, struct vmbus_channel_info *info, u32 max)
{
	struct list_call c = { srv, info, max, 0 };

	loop_call(srv->loop, list_run, &c);
	return c.count;
}

/* Signals */

static int port_signal(struct vmbus_port *port, u32 connection_id)
{
	int ret = -ENOENT;

	pthread_mutex_lock(&port->lock);
	if (port->ch && port->connection_id == connection_id) {
		__atomic_add_fetch(&port->ch->stats.signals_in, 1, __ATOMIC_RELAXED);
		loop_post(port->ch->loop, &port->ch->drain_work);
		ret = 0;
	}
	pthread_mutex_unlock(&port->lock);
	return ret;
}

int vmbus_signal(struct vmbus_server *srv, u32 connection_id)
{
	int ret = -ENOENT;

	if ((connection_id & ~VMBUS_RELID_MAX) == CONNECTION_ID_BASE)
		ret = port_signal(&srv->port[connection_id & VMBUS_RELID_MAX], connection_id);
	if (ret && __atomic_load_n(&srv->custom_ports, __ATOMIC_ACQUIRE))
		for (u32 i = 1; i <= VMBUS_RELID_MAX && ret; i++)
			ret = port_signal(&srv->port[i], connection_id);
	return ret;
}
