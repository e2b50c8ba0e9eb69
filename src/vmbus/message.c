// SPDX-License-Identifier: MIT
/*
 * Control messages: one row per message says how long it is, since which version
 * and with which feature it exists, and who handles it. A handler sees a private,
 * zero-extended copy that is at least as long as its row says. Every request gets
 * exactly one answer; refusing is one.
 */
#include <errno.h>
#include <string.h>

#include "vmbus/internal.h"

union message {
	struct vmbus_message_header header;
	struct vmbus_relid_message relid;
	struct vmbus_open_channel open;
	struct vmbus_gpadl_header gpadl_header;
	struct vmbus_gpadl_body gpadl_body;
	struct vmbus_gpadl_teardown teardown;
	struct vmbus_initiate_contact contact;
	struct vmbus_open_reserved open_reserved;
	struct vmbus_close_reserved close_reserved;
	struct vmbus_tl_connect_request tl;
	struct vmbus_modify_channel modify;
};

struct message_row {
	const char *name;
	u16 bytes; /* least length */
	u16 feature;
	u32 since;
	void (*handle)(struct vmbus_server *srv, const union message *m, u32 bytes);
};

/* Version 1.1 and before signal through a shared page, which is not provided. */
static const struct version_row {
	u32 version;
	u32 features; /* what of the guest's wish is granted */
} versions[] = {
	{ VMBUS_VERSION(2, 4), 0 }, /* dedicated interrupts */
	{ VMBUS_VERSION(3, 0), 0 }, /* target_vp of the contact */
	{ VMBUS_VERSION(4, 0), 0 }, /* hv_sock */
	{ VMBUS_VERSION(4, 1), 0 }, /* modify channel, hv_sock refusals */
	{ VMBUS_VERSION(5, 0), 0 }, /* connection id 4, SINT chosen by the guest */
	{ VMBUS_VERSION(5, 1), 0 },
	{ VMBUS_VERSION(5, 2), 0 }, /* silo ids */
	{ VMBUS_VERSION(5, 3), 0 }, /* modify channel is answered */
	{ VMBUS_VERSION(6, 0), VMBUS_FEATURE_GUEST_SIGNAL_PARAMS | VMBUS_FEATURE_CLIENT_ID |
				       VMBUS_FEATURE_PAUSE_RESUME },
};

static const struct version_row *find_version(struct vmbus_server *srv, u32 version)
{
	if (version < srv->cfg.min_version || version > srv->cfg.max_version)
		return NULL;
	for (u32 i = 0; i < ARRAY_SIZE(versions); i++)
		if (versions[i].version == version)
			return &versions[i];
	return NULL;
}

/* Contact */

static bool monitor_pages_ok(struct vmbus_server *srv, u64 a, u64 b)
{
	if (a == 0 && b == 0)
		return true;
	return (a | b) % PAGE_BYTES == 0 && a && b && gmem_ptr(srv->cfg.gmem, a, PAGE_BYTES) &&
	       gmem_ptr(srv->cfg.gmem, b, PAGE_BYTES);
}

static bool contact_valid(struct vmbus_server *srv, const struct vmbus_initiate_contact *m,
			  u32 target_vp)
{
	if (!srv->cfg.ops->vp_valid(srv->cfg.ctx, target_vp))
		return false;
	if (m->version >= VMBUS_VERSION(5, 0) && (m->sint == 0 || m->sint > 15 || m->vtl != 0))
		return false;
	return monitor_pages_ok(srv, m->monitor_parent_to_child_gpa,
				m->monitor_child_to_parent_gpa);
}

static void send_version(struct vmbus_server *srv, const struct vmbus_initiate_contact *m,
			 bool supported, enum vmbus_connection_status status)
{
	struct vmbus_version_response r = {
		.header.type = VMBUS_VERSION_RESPONSE,
		.supported = supported,
		.state = (u8)status,
	};
	u32 bytes = VMBUS_VERSION_RESPONSE_V5_BYTES;

	if (supported && m->version >= VMBUS_VERSION(5, 0))
		r.connection_id = VMBUS_CONNECTION_V5;
	else if (supported)
		r.version = m->version;
	if (supported && m->version >= VMBUS_VERSION(6, 0)) {
		r.features = srv->features;
		bytes = sizeof(r);
	}
	server_send(srv, &r, bytes);
}

/* Nothing is connected: a new connection, or a refusal. */
void message_contact(struct vmbus_server *srv, const struct in_message *in)
{
	const struct vmbus_initiate_contact *m = (const void *)in->payload;
	const struct version_row *row = find_version(srv, m->version);
	u32 target_vp = m->version >= VMBUS_VERSION(3, 0) ? m->target_vp : 0;
	bool valid = contact_valid(srv, m, target_vp);

	srv->target_vp = srv->cfg.ops->vp_valid(srv->cfg.ctx, target_vp) ? target_vp : 0;
	srv->sint = valid && m->version >= VMBUS_VERSION(5, 0) ? m->sint : VMBUS_SINT;
	srv->features = row ? row->features & m->features : 0;
	if (!row) {
		log_info("%s: vmbus: version %u.%u is not supported", srv->name, m->version >> 16,
			 m->version & 0xffff);
		send_version(srv, m, false, VMBUS_CONNECTION_OK);
		return;
	}
	if (!valid) {
		vmbus_log(srv, "contact with an unusable VP, SINT, VTL or monitor page");
		send_version(srv, m, true, VMBUS_CONNECTION_FAILED);
		return;
	}
	srv->state = CONNECTION_UP;
	__atomic_store_n(&srv->version, m->version, __ATOMIC_RELEASE);
	send_version(srv, m, true, VMBUS_CONNECTION_OK);
	log_info("%s: vmbus: connected, version %u.%u", srv->name, m->version >> 16,
		 m->version & 0xffff);
	if (srv->cfg.ops->connection_changed)
		srv->cfg.ops->connection_changed(srv->cfg.ctx, m->version);
}

static void handle_unload(struct vmbus_server *srv, const union message *m, u32 bytes)
{
	server_disconnect(srv, NEXT_UNLOAD_COMPLETE);
}

static void handle_pause(struct vmbus_server *srv, const union message *m, u32 bytes)
{
	struct vmbus_message_header r = { .type = VMBUS_PAUSE_RESPONSE };

	srv->paused = true;
	server_send(srv, &r, sizeof(r));
}

static void handle_resume(struct vmbus_server *srv, const union message *m, u32 bytes)
{
	srv->paused = false;
}

/* Offers */

static void handle_request_offers(struct vmbus_server *srv, const union message *m, u32 bytes)
{
	struct vmbus_message_header done = { .type = VMBUS_ALL_OFFERS_DELIVERED };

	if (srv->offers_requested)
		vmbus_log(srv, "offers requested twice on one connection");
	srv->offers_requested = true;
	server_offer_pending(srv);
	server_send(srv, &done, sizeof(done));
}

static void handle_released(struct vmbus_server *srv, const union message *m, u32 bytes)
{
	struct vmbus_channel *ch = server_channel(srv, m->relid.relid);

	if (!ch || !ch->offered) {
		vmbus_log(srv, "release of unknown channel %u", m->relid.relid);
		return;
	}
	if (!ch->revoked) {
		if (!channel_idle(ch) && ch->state != CHANNEL_CLOSING) {
			vmbus_log(srv, "release of open channel %u", ch->relid);
			return;
		}
		ch->released = true;
		if (channel_idle(ch)) {
			ch->state = CHANNEL_CLOSED;
			channel_release_relid(ch);
		}
		return;
	}
	ch->released = true;
	loop_timer_cancel(&ch->grace);
	channel_close(ch);
	server_settle_later(srv);
}

/* Channels */

static bool signal_params_ok(struct vmbus_server *srv, const struct vmbus_open_channel *m)
{
	struct list *pos;

	if (!(srv->features & VMBUS_FEATURE_GUEST_SIGNAL_PARAMS))
		return true;
	if (m->event_flag == 0 || m->event_flag > VMBUS_RELID_MAX || m->connection_id == 0 ||
	    m->connection_id >> 24)
		return false;
	list_for_each(pos, &srv->channels) {
		struct vmbus_channel *ch = list_entry(pos, struct vmbus_channel, node);

		if (ch->relid && ch->relid != m->relid && ch->connection_id == m->connection_id)
			return false;
	}
	return true;
}

static bool open_valid(struct vmbus_server *srv, const struct vmbus_open_channel *m)
{
	return (m->target_vp == VMBUS_NO_INTERRUPT_VP ||
		srv->cfg.ops->vp_valid(srv->cfg.ctx, m->target_vp)) &&
	       signal_params_ok(srv, m);
}

static void refuse_open(struct vmbus_server *srv, const struct vmbus_open_channel *m)
{
	struct vmbus_open_result r = {
		.header.type = VMBUS_OPEN_RESULT,
		.relid = m->relid,
		.open_id = m->open_id,
		.status = VMBUS_STATUS_FAILED,
	};

	vmbus_log(srv, "open of channel %u is refused", m->relid);
	server_send(srv, &r, sizeof(r));
}

static void handle_open(struct vmbus_server *srv, const union message *m, u32 bytes)
{
	struct vmbus_channel *ch = server_channel(srv, m->open.relid);

	if (!ch || !ch->offered || ch->revoked || ch->released || !open_valid(srv, &m->open)) {
		refuse_open(srv, &m->open);
		return;
	}
	switch (ch->state) {
	case CHANNEL_CLOSED:
		ch->open = m->open;
		if (channel_open(ch))
			channel_answer_open(ch, VMBUS_STATUS_FAILED);
		return;
	case CHANNEL_CLOSING:
		/* The guest cannot see when closing ends, so after its CLOSE this is legal. */
		if (ch->guest_closed && !ch->reopen) {
			ch->open = m->open;
			ch->reopen = true;
			return;
		}
		break;
	case CHANNEL_OPENING:
	case CHANNEL_OPEN:
	case CHANNEL_FAILED:
		break;
	}
	refuse_open(srv, &m->open);
}

static void handle_close(struct vmbus_server *srv, const union message *m, u32 bytes)
{
	struct vmbus_channel *ch = server_channel(srv, m->relid.relid);

	if (!ch) {
		vmbus_log(srv, "close of unknown channel %u", m->relid.relid);
		return;
	}
	switch (ch->state) {
	case CHANNEL_OPEN:
	case CHANNEL_OPENING:
		ch->guest_closed = true;
		channel_close(ch);
		return;
	case CHANNEL_CLOSING:
		if (ch->reopen) { /* opened and closed again while we were closing */
			ch->reopen = false;
			channel_answer_open(ch, VMBUS_STATUS_FAILED);
		}
		ch->guest_closed = true;
		return;
	case CHANNEL_FAILED:
		ch->state = CHANNEL_CLOSED;
		server_settle_later(srv);
		return;
	case CHANNEL_CLOSED:
		if (!ch->revoked)
			vmbus_log(srv, "close of closed channel %u", ch->relid);
		return;
	}
}

static void handle_modify(struct vmbus_server *srv, const union message *m, u32 bytes)
{
	struct vmbus_channel *ch = server_channel(srv, m->modify.relid);
	struct vmbus_modify_channel_response r = {
		.header.type = VMBUS_MODIFY_CHANNEL_RESPONSE,
		.relid = m->modify.relid,
	};

	if (!ch || (ch->state != CHANNEL_OPEN && ch->state != CHANNEL_OPENING) ||
	    ch->target_vp == VMBUS_NO_INTERRUPT_VP ||
	    !srv->cfg.ops->vp_valid(srv->cfg.ctx, m->modify.target_vp)) {
		vmbus_log(srv, "channel %u can not be moved to VP %u", m->modify.relid,
			  m->modify.target_vp);
		r.status = VMBUS_STATUS_FAILED;
	} else {
		__atomic_store_n(&ch->target_vp, m->modify.target_vp, __ATOMIC_RELEASE);
		/* An interrupt sent to the old VP may meet a guest that has moved on. */
		if (ch->state == CHANNEL_OPEN)
			channel_interrupt(ch);
	}
	if (srv->version >= VMBUS_VERSION(5, 3))
		server_send(srv, &r, sizeof(r));
}

/* Reserved channels (Windows crash dumps) are not provided, but asking is answered. */

static void handle_open_reserved(struct vmbus_server *srv, const union message *m, u32 bytes)
{
	struct vmbus_open_result r = {
		.header.type = VMBUS_OPEN_RESULT,
		.relid = m->open_reserved.relid,
		.status = VMBUS_STATUS_FAILED,
	};

	vmbus_log(srv, "reserved channel %u is refused", r.relid);
	server_send(srv, &r, sizeof(r));
}

static void handle_close_reserved(struct vmbus_server *srv, const union message *m, u32 bytes)
{
	struct vmbus_relid_message r = {
		.header.type = VMBUS_CLOSE_RESERVED_RESPONSE,
		.relid = m->close_reserved.relid,
	};

	server_send(srv, &r, sizeof(r));
}

/* GPADLs */

static void handle_gpadl_header(struct vmbus_server *srv, const union message *m, u32 bytes)
{
	gpadl_header(srv, &m->gpadl_header, bytes);
}

static void handle_gpadl_body(struct vmbus_server *srv, const union message *m, u32 bytes)
{
	gpadl_body(srv, &m->gpadl_body, bytes);
}

static void handle_teardown(struct vmbus_server *srv, const union message *m, u32 bytes)
{
	gpadl_teardown(srv, &m->teardown);
}

/* hv_sock */

static void send_tl_result(struct vmbus_server *srv, const struct hv_guid *service,
			   const struct hv_guid *endpoint, u32 status)
{
	struct vmbus_tl_connect_result r = {
		.header.type = VMBUS_TL_CONNECT_RESULT,
		.endpoint_id = *endpoint,
		.service_id = *service,
		.status = status,
	};

	if (srv->version >= VMBUS_VERSION(4, 1))
		server_send(srv, &r, sizeof(r));
}

static struct tl_request *find_tl(struct vmbus_server *srv, const struct hv_guid *service,
				  const struct hv_guid *endpoint)
{
	for (u32 i = 0; i < VMBUS_TL_MAX; i++) {
		struct tl_request *t = &srv->tl[i];

		if (t->used && hv_guid_eq(&t->service, service) &&
		    hv_guid_eq(&t->endpoint, endpoint))
			return t;
	}
	return NULL;
}

static void handle_tl_connect(struct vmbus_server *srv, const union message *m, u32 bytes)
{
	struct tl_request *t = NULL;

	for (u32 i = 0; i < VMBUS_TL_MAX && !t; i++)
		if (!srv->tl[i].used)
			t = &srv->tl[i];
	if (!srv->tl_connect || !t || find_tl(srv, &m->tl.service_id, &m->tl.endpoint_id)) {
		send_tl_result(srv, &m->tl.service_id, &m->tl.endpoint_id,
			       VMBUS_STATUS_CONNECTION_REFUSED);
		return;
	}
	*t = (struct tl_request){ true, m->tl.service_id, m->tl.endpoint_id };
	srv->tl_connect(srv->tl_ctx, &m->tl.service_id, &m->tl.endpoint_id);
}

struct tl_call {
	struct vmbus_server *srv;
	const struct hv_guid *service, *endpoint;
	u32 status;
};

static void tl_done_run(void *arg)
{
	struct tl_call *c = arg;
	struct tl_request *t = find_tl(c->srv, c->service, c->endpoint);

	if (!t) /* the guest has gone meanwhile */
		return;
	t->used = false;
	if (c->status)
		send_tl_result(c->srv, c->service, c->endpoint, c->status);
}

void vmbus_tl_connect_done(struct vmbus_server *srv, const struct hv_guid *service,
			   const struct hv_guid *endpoint, u32 status)
{
	struct tl_call c = { srv, service, endpoint, status };

	loop_call(srv->loop, tl_done_run, &c);
}

struct set_tl_call {
	struct vmbus_server *srv;
	vmbus_tl_connect_fn connect;
	void *ctx;
};

static void set_tl_run(void *arg)
{
	struct set_tl_call *c = arg;

	c->srv->tl_connect = c->connect;
	c->srv->tl_ctx = c->ctx;
}

void vmbus_set_tl_connect(struct vmbus_server *srv, vmbus_tl_connect_fn connect, void *ctx)
{
	struct set_tl_call c = { srv, connect, ctx };

	loop_call(srv->loop, set_tl_run, &c);
}

/* Dispatch */

static const struct message_row rows[VMBUS_MESSAGE_COUNT] = {
	[VMBUS_REQUEST_OFFERS] = { "REQUEST_OFFERS", sizeof(struct vmbus_message_header),
				   .handle = handle_request_offers },
	[VMBUS_OPEN_CHANNEL] = { "OPEN_CHANNEL", VMBUS_OPEN_CHANNEL_V5_BYTES,
				 .handle = handle_open },
	[VMBUS_CLOSE_CHANNEL] = { "CLOSE_CHANNEL", sizeof(struct vmbus_relid_message),
				  .handle = handle_close },
	[VMBUS_GPADL_HEADER] = { "GPADL_HEADER",
				 sizeof(struct vmbus_gpadl_header) + sizeof(struct vmbus_gpa_range),
				 .handle = handle_gpadl_header },
	[VMBUS_GPADL_BODY] = { "GPADL_BODY", sizeof(struct vmbus_gpadl_body),
			       .handle = handle_gpadl_body },
	[VMBUS_GPADL_TEARDOWN] = { "GPADL_TEARDOWN", sizeof(struct vmbus_gpadl_teardown),
				   .handle = handle_teardown },
	[VMBUS_RELID_RELEASED] = { "RELID_RELEASED", sizeof(struct vmbus_relid_message),
				   .handle = handle_released },
	[VMBUS_INITIATE_CONTACT] = { "INITIATE_CONTACT", VMBUS_INITIATE_CONTACT_BYTES },
	[VMBUS_UNLOAD] = { "UNLOAD", sizeof(struct vmbus_message_header), .handle = handle_unload },
	[VMBUS_OPEN_RESERVED] = { "OPEN_RESERVED", sizeof(struct vmbus_open_reserved),
				  .since = VMBUS_VERSION(4, 0), .handle = handle_open_reserved },
	[VMBUS_CLOSE_RESERVED] = { "CLOSE_RESERVED", sizeof(struct vmbus_close_reserved),
				   .since = VMBUS_VERSION(4, 0), .handle = handle_close_reserved },
	[VMBUS_TL_CONNECT_REQUEST] = { "TL_CONNECT", VMBUS_TL_CONNECT_BYTES,
				       .since = VMBUS_VERSION(4, 0), .handle = handle_tl_connect },
	[VMBUS_MODIFY_CHANNEL] = { "MODIFY_CHANNEL", sizeof(struct vmbus_modify_channel),
				   .since = VMBUS_VERSION(4, 1), .handle = handle_modify },
	[VMBUS_PAUSE] = { "PAUSE", sizeof(struct vmbus_message_header),
			  .feature = VMBUS_FEATURE_PAUSE_RESUME, .since = VMBUS_VERSION(6, 0),
			  .handle = handle_pause },
	[VMBUS_RESUME] = { "RESUME", sizeof(struct vmbus_message_header),
			   .feature = VMBUS_FEATURE_PAUSE_RESUME, .since = VMBUS_VERSION(6, 0),
			   .handle = handle_resume },
};

/* The only message that is meant for no connection, or for the next one. */
static void dispatch_contact(struct vmbus_server *srv, const struct in_message *in)
{
	switch (srv->state) {
	case CONNECTION_NONE:
		message_contact(srv, in);
		return;
	case CONNECTION_UP:
	case CONNECTION_CLOSING:
		/* An unload nobody asked for and nobody is told of: kexec, crash kernel, firmware.
		 */
		srv->contact = *in;
		server_disconnect(srv, NEXT_CONTACT);
		return;
	}
}

void message_handle(struct vmbus_server *srv, const struct in_message *in)
{
	const union message *m = (const void *)in->payload;
	u32 type = in->bytes >= sizeof(m->header) ? m->header.type : 0;
	const struct message_row *row = type < VMBUS_MESSAGE_COUNT ? &rows[type] : NULL;
	u32 bytes = in->bytes;

	if (!row || !row->name) {
		vmbus_log(srv, "unknown message %u", type);
		return;
	}
	if (bytes < row->bytes) {
		vmbus_log(srv, "%s of %u bytes is too short", row->name, bytes);
		return;
	}
	if (type == VMBUS_INITIATE_CONTACT) {
		dispatch_contact(srv, in);
		return;
	}
	if (srv->state != CONNECTION_UP) {
		vmbus_log(srv, "%s without a connection", row->name);
		return;
	}
	if (srv->version < row->since || (row->feature && !(srv->features & row->feature))) {
		vmbus_log(srv, "%s is not part of the version agreed", row->name);
		return;
	}
	if (type == VMBUS_OPEN_CHANNEL && srv->features & VMBUS_FEATURE_GUEST_SIGNAL_PARAMS &&
	    bytes < sizeof(struct vmbus_open_channel)) {
		refuse_open(srv, &m->open);
		return;
	}
	row->handle(srv, m, bytes);
}
