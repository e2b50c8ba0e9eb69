// SPDX-License-Identifier: MIT
/*
 * What exists: devices, their channels, and the relids by which the guest knows
 * them. A relid stays taken from OFFER until RELID_RELEASED, also after RESCIND.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmbus/internal.h"

/* Channels and relids */

struct vmbus_channel *server_channel(struct vmbus_server *srv, u32 relid)
{
	return relid <= VMBUS_RELID_MAX ? srv->by_relid[relid] : NULL;
}

static u32 free_relids(struct vmbus_server *srv, u32 want, u32 *first)
{
	u32 found = 0;

	for (u32 i = 1; i <= VMBUS_RELID_MAX && found < want; i++) {
		if (srv->by_relid[i])
			continue;
		if (found++ == 0)
			*first = i;
	}
	return found;
}

static void send_offer(struct vmbus_channel *ch)
{
	const struct vmbus_offer *offer = &ch->vd->offer;
	struct vmbus_offer_channel m = {
		.header.type = VMBUS_OFFER_CHANNEL,
		.interface_id = ch->interface_id,
		.instance_id = ch->instance_id,
		.flags = offer->ops->flags | offer->extra_flags,
		.mmio_megabytes = offer->mmio_megabytes,
		.subchannel_index = (u16)ch->index,
		.relid = ch->relid,
		.dedicated_interrupt = 1,
		.connection_id = ch->connection_id,
	};

	memcpy(m.user_data, offer->user_data, sizeof(m.user_data));
	ch->offered = true;
	server_send(ch->srv, &m, sizeof(m));
}

static bool assign_relid(struct vmbus_channel *ch)
{
	struct vmbus_server *srv = ch->srv;
	u32 relid = 0;

	if (ch->relid)
		return true;
	if (!free_relids(srv, 1, &relid))
		return false;
	ch->relid = relid;
	ch->connection_id = CONNECTION_ID_BASE | relid;
	srv->by_relid[relid] = ch;
	return true;
}

/* An equal one that the guest still holds: Linux drops an offer of what it has. */
static bool has_predecessor(struct vmbus_channel *ch)
{
	struct list *pos;

	list_for_each(pos, &ch->srv->channels) {
		struct vmbus_channel *other = list_entry(pos, struct vmbus_channel, node);

		if (other != ch && other->relid && other->index == 0 && other->revoked &&
		    hv_guid_eq(&other->interface_id, &ch->interface_id) &&
		    hv_guid_eq(&other->instance_id, &ch->instance_id))
			return true;
	}
	return false;
}

static bool waits_for_offer(const struct vmbus_channel *ch)
{
	return !ch->offered && !ch->released && !ch->revoked && !ch->held && channel_idle(ch);
}

static void offer_subs(struct vmbus_server *srv, struct vmbus_device *vd)
{
	struct list *pos;

	list_for_each(pos, &srv->channels) {
		struct vmbus_channel *ch = list_entry(pos, struct vmbus_channel, node);

		if (ch->vd == vd && ch->index > 0 && waits_for_offer(ch))
			send_offer(ch);
	}
}

void server_offer_pending(struct vmbus_server *srv)
{
	struct list *pos;

	if (srv->state != CONNECTION_UP || !srv->offers_requested)
		return;
	list_for_each(pos, &srv->devices) {
		struct vmbus_device *vd = list_entry(pos, struct vmbus_device, node);
		struct vmbus_channel *ch = vd->primary;

		if (waits_for_offer(ch) && !has_predecessor(ch)) {
			if (!assign_relid(ch)) {
				vmbus_log(srv, "no channel number left for %s",
					  vd->offer.ops->name);
				return;
			}
			send_offer(ch);
		}
		if (vd->subchannels)
			offer_subs(srv, vd);
	}
}

void channel_release_relid(struct vmbus_channel *ch)
{
	if (!ch->relid)
		return;
	gpadl_drop_all(ch);
	ch->srv->by_relid[ch->relid] = NULL;
	ch->relid = 0;
	ch->offered = false;
}

static void grace_over(struct loop_timer *t)
{
	struct vmbus_channel *ch = container_of(t, struct vmbus_channel, grace);

	vmbus_log(ch->srv, "the guest has not closed revoked channel %u", ch->relid);
	channel_close(ch);
}

void channel_revoke(struct vmbus_channel *ch, bool at_once)
{
	struct vmbus_relid_message m = { .header.type = VMBUS_RESCIND_OFFER, .relid = ch->relid };

	if (!ch->revoked) {
		ch->revoked = true;
		if (ch->offered && ch->srv->state == CONNECTION_UP)
			server_send(ch->srv, &m, sizeof(m));
		else if (!ch->offered && ch->relid)
			channel_release_relid(ch); /* reserved, never told */
	}
	if (channel_idle(ch))
		server_settle_later(ch->srv);
	else if (at_once || ch->srv->state != CONNECTION_UP)
		channel_close(ch);
	else
		loop_timer_after(ch->srv->loop, &ch->grace, VMBUS_REVOKE_GRACE_NS, grace_over);
}

void channel_free(struct vmbus_channel *ch)
{
	loop_timer_cancel(&ch->grace);
	loop_work_cancel(ch->srv->loop, &ch->opened_work);
	loop_work_cancel(ch->srv->loop, &ch->closed_work);
	loop_work_cancel(ch->srv->loop, &ch->fail_work);
	loop_work_cancel(ch->srv->loop, &ch->suboffer_work);
	list_del(&ch->node);
	free(ch);
}

/* Devices */

bool device_busy(struct vmbus_device *vd)
{
	struct list *pos;

	list_for_each(pos, &vd->srv->channels) {
		struct vmbus_channel *ch = list_entry(pos, struct vmbus_channel, node);

		if (ch->vd == vd && !channel_idle(ch))
			return true;
	}
	return false;
}

void device_destroy(struct vmbus_device *vd)
{
	struct list *pos;

	list_for_each(pos, &vd->srv->channels) {
		struct vmbus_channel *ch = list_entry(pos, struct vmbus_channel, node);

		if (ch->vd == vd)
			ch->vd = NULL;
	}
	list_del(&vd->node);
	if (vd->offer.ops->destroy)
		vd->offer.ops->destroy(vd->offer.dev);
	free(vd);
}

static void device_insert(struct vmbus_server *srv, struct vmbus_device *vd)
{
	struct list *pos;

	/* By class, order and instance, so that relids are the same at each boot. */
	list_for_each(pos, &srv->devices) {
		struct vmbus_device *other = list_entry(pos, struct vmbus_device, node);
		int c = memcmp(&vd->interface_id, &other->interface_id, sizeof(struct hv_guid));

		if (c == 0 && vd->offer.order != other->offer.order)
			c = vd->offer.order < other->offer.order ? -1 : 1;
		if (c == 0)
			c = memcmp(&vd->offer.instance_id, &other->offer.instance_id,
				   sizeof(struct hv_guid));
		if (c < 0)
			break;
	}
	list_add_tail(pos, &vd->node);
}

struct offer_call {
	struct vmbus_server *srv;
	const struct vmbus_offer *offer;
	struct vmbus_device **out;
	int ret;
};

static int offer_check(struct vmbus_server *srv, const struct vmbus_offer *offer,
		       const struct hv_guid *interface_id)
{
	struct list *pos;
	u32 count = 0;

	if (srv->stopping)
		return -ESHUTDOWN;
	list_for_each(pos, &srv->devices) {
		struct vmbus_device *vd = list_entry(pos, struct vmbus_device, node);

		if (!vd->revoked && hv_guid_eq(&vd->interface_id, interface_id) &&
		    hv_guid_eq(&vd->offer.instance_id, &offer->instance_id))
			return -EEXIST;
		count++;
	}
	return count < VMBUS_RELID_MAX ? 0 : -ENOSPC;
}

static void offer_run(void *arg)
{
	struct offer_call *c = arg;
	const struct hv_guid *interface_id =
		c->offer->interface_id ? c->offer->interface_id : &c->offer->ops->interface_id;
	struct vmbus_device *vd;

	c->ret = offer_check(c->srv, c->offer, interface_id);
	if (c->ret)
		return;
	c->ret = -ENOMEM;
	vd = calloc(1, sizeof(*vd));
	if (!vd)
		return;
	vd->srv = c->srv;
	vd->offer = *c->offer;
	vd->interface_id = *interface_id;
	vd->offer.interface_id = &vd->interface_id;
	vd->primary = channel_create(vd, 0);
	if (!vd->primary) {
		free(vd);
		return;
	}
	device_insert(c->srv, vd);
	if (c->out)
		*c->out = vd;
	server_offer_pending(c->srv);
	c->ret = 0;
}

int vmbus_offer(struct vmbus_server *srv, const struct vmbus_offer *offer,
		struct vmbus_device **out)
{
	struct offer_call c = { srv, offer, out, 0 };

	loop_call(srv->loop, offer_run, &c);
	return c.ret;
}

void device_revoke(struct vmbus_device *vd, bool at_once)
{
	struct list *pos;

	vd->revoked = true;
	list_for_each(pos, &vd->srv->channels) {
		struct vmbus_channel *ch = list_entry(pos, struct vmbus_channel, node);

		if (ch->vd == vd && ch->index > 0)
			channel_revoke(ch, at_once);
	}
	channel_revoke(vd->primary, at_once);
	server_settle_later(vd->srv);
}

static void revoke_run(void *arg)
{
	device_revoke(arg, false);
}

void vmbus_revoke(struct vmbus_device *vd)
{
	loop_call(vd->srv->loop, revoke_run, vd);
}

static void revoke_now_run(void *arg)
{
	device_revoke(arg, true);
}

void vmbus_revoke_now(struct vmbus_device *vd)
{
	loop_call(vd->srv->loop, revoke_now_run, vd);
}

struct subs_call {
	struct vmbus_channel *primary;
	u32 count;
	int ret;
};

static void subs_run(void *arg)
{
	struct subs_call *c = arg;
	struct vmbus_device *vd = c->primary->vd;
	struct vmbus_server *srv = c->primary->srv;
	struct vmbus_channel *made[VMBUS_SUBCHANNEL_MAX];
	u32 ignored, n = 0;

	c->ret = -ENOTCONN;
	if (c->primary->index || c->primary->state != CHANNEL_OPEN || !vd || vd->revoked)
		return;
	c->ret = -ENOSPC;
	if (c->count > VMBUS_SUBCHANNEL_MAX - vd->subchannels ||
	    free_relids(srv, c->count, &ignored) < c->count)
		return;
	c->ret = -ENOMEM;
	for (; n < c->count; n++) {
		made[n] = channel_create(vd, vd->subchannels + n + 1);
		if (!made[n])
			goto undo;
		made[n]->held = true;
		assign_relid(made[n]);
	}
	vd->subchannels += n;
	c->ret = 0;
	return;
undo:
	while (n > 0) {
		channel_release_relid(made[--n]);
		channel_free(made[n]);
	}
}

int vmbus_offer_subchannels(struct vmbus_channel *primary, u32 count)
{
	struct subs_call c = { primary, count, 0 };

	loop_call(primary->srv->loop, subs_run, &c);
	if (c.ret == 0 && count > 0) {
		/* The offers follow the packets of this callback, see channel_io.c. */
		primary->suboffers = true;
		loop_post(primary->loop, &primary->flush_work);
	}
	return c.ret;
}
