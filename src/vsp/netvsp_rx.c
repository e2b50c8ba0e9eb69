// SPDX-License-Identifier: MIT
/*
 * To the guest. A frame is written into suballocations of the receive buffer,
 * one range each; up to NETVSP_BATCH_RANGES ranges make one VMBus packet, whose
 * completion by the guest gives all of them back. The transaction id is the
 * number of the packet's first suballocation, plus one; `next` chains the rest.
 *
 * A frame larger than a suballocation is one the guest has asked for (RSC): its
 * pieces follow each other in one packet, marked first and last.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "vsp/netvsp_internal.h"

#define OWNER_CONTROL 0xff

/* ---- suballocations ---- */

int netvsp_rx_init(struct netvsp *nv)
{
	u32 count = nv->recv.section_count;

	nv->free = malloc(count * sizeof(*nv->free));
	nv->next = malloc(count * sizeof(*nv->next));
	nv->owner = calloc(count, 1);
	if (!nv->free || !nv->next || !nv->owner) {
		netvsp_rx_fini(nv);
		return -ENOMEM;
	}
	nv->piece_bytes = nv->recv.section_bytes - NETVSP_RX_HEADROOM - NETVSP_RX_TAIL;
	/* A stack, lowest on top: what was used last is used next, and is in the cache. */
	for (nv->free_count = 0; nv->free_count < count; nv->free_count++)
		nv->free[nv->free_count] = count - 1 - nv->free_count;
	return 0;
}

void netvsp_rx_fini(struct netvsp *nv)
{
	for (u32 i = 0; i < NETVSP_CHANNELS_MAX; i++)
		if (nv->channel[i])
			nv->channel[i]->batch.count = 0;
	free(nv->free);
	free(nv->next);
	free(nv->owner);
	nv->free = nv->next = NULL;
	nv->owner = NULL;
	nv->free_count = nv->control_count = nv->control_in_flight = 0;
}

static void free_chain(struct netvsp *nv, u32 first)
{
	while (first != NETVSP_NONE) {
		nv->free[nv->free_count++] = first;
		first = nv->next[first];
	}
}

/* Suballocations that a frame, also a large one cut small, may need. */
static u32 room_wanted(const struct netvsp *nv)
{
	return (u32)min_u64(NETVSP_BATCH_RANGES, nv->recv.section_count / 4);
}

static bool ready(const struct netvsp *nv)
{
	return nv->rndis == RNDIS_STATE_READY && nv->filter && nv->recv.gpadl && nv->channel[0] &&
	       nv->link_up;
}

static bool sink_rx_room(void *ctx)
{
	struct netvsp *nv = ctx;

	if (!ready(nv))
		return true; /* to be dropped */
	for (u32 i = 0; i <= nv->granted; i++)
		if (nv->channel[i] && nv->channel[i]->blocked)
			goto starved;
	if (nv->free_count >= NETVSP_CONTROL_RESERVE + room_wanted(nv))
		return true;
starved:
	nv->starved = true;
	return false;
}

void netvsp_rx_resume(struct netvsp *nv)
{
	if (!nv->starved)
		return;
	nv->starved = false;
	if (sink_rx_room(nv) && nv->be->ops->rx_resume)
		nv->be->ops->rx_resume(nv->be);
}

void netvsp_rx_complete(struct netvsp *nv, struct netvsp_channel *nc, u64 transaction_id)
{
	u64 first = transaction_id - 1;
	u8 owner;

	if (!nv->recv.gpadl || first >= nv->recv.section_count)
		return; /* after the guest took its buffer back, or nonsense */
	owner = nv->owner[first];
	if (owner == OWNER_CONTROL && nc->index == 0)
		nv->control_in_flight--;
	else if (owner != nc->index + 1)
		return;
	nv->owner[first] = 0;
	free_chain(nv, (u32)first);
	/* Not for a few: the back end shall be woken for a run of frames. */
	if (nv->starved && nv->free_count >= NETVSP_CONTROL_RESERVE + 2 * room_wanted(nv))
		netvsp_rx_resume(nv);
}

void netvsp_rx_drop_channel(struct netvsp *nv, struct netvsp_channel *nc)
{
	if (!nv->owner)
		return;
	if (nc->batch.count)
		free_chain(nv, nc->batch.first);
	nc->batch.count = 0;
	nc->blocked = false;
	for (u32 i = 0; i < nv->recv.section_count; i++)
		if (nv->owner[i] == nc->index + 1) {
			nv->owner[i] = 0;
			free_chain(nv, i);
		}
	netvsp_rx_resume(nv);
}

/* ---- sending ---- */

static int send_ranges(struct netvsp *nv, struct netvsp_channel *nc, u32 channel_type, u32 first,
		       const struct vmbus_xfer_range *ranges, u32 count)
{
	struct nvsp_message msg = {
		.type = NVSP_SEND_RNDIS_PKT,
		.rndis = { .channel_type = channel_type, .section_index = NVSP_NO_SECTION },
	};

	return vmbus_send_xfer(nc->ch, first + 1ull, VMBUS_PACKET_COMPLETION_REQUESTED, nv->recv.id,
			       ranges, count, &msg, sizeof(msg));
}

static void flush_channel(struct netvsp *nv, struct netvsp_channel *nc)
{
	struct netvsp_batch *b = &nc->batch;
	int ret;

	if (!b->count || nc->blocked)
		return;
	ret = send_ranges(nv, nc, NVSP_CHANNEL_DATA, b->first, b->range, b->count);
	if (ret == -EAGAIN) {
		nc->blocked = true;
		return;
	}
	if (ret == 0) {
		nv->owner[b->first] = (u8)(nc->index + 1);
		NETVSP_COUNT(nv, rx_packets, 1);
	} else {
		free_chain(nv, b->first);
	}
	b->count = 0;
}

void netvsp_rx_flush(struct netvsp *nv)
{
	for (u32 i = 0; i <= nv->granted; i++)
		if (nv->channel[i])
			flush_channel(nv, nv->channel[i]);
}

static void batch_add(struct netvsp *nv, struct netvsp_batch *b, u32 suballoc, u32 bytes)
{
	nv->next[suballoc] = NETVSP_NONE;
	if (b->count)
		nv->next[b->last] = suballoc;
	else
		b->first = suballoc;
	b->last = suballoc;
	b->range[b->count++] =
		(struct vmbus_xfer_range){ bytes, suballoc * nv->recv.section_bytes };
}

/* ---- frames ---- */

struct cursor {
	const struct iovec *iov;
	u32 at;
};

static void take(struct cursor *c, u8 *dst, u32 bytes)
{
	while (bytes) {
		u32 n = (u32)min_u64(bytes, c->iov->iov_len - c->at);

		memcpy(dst, (const u8 *)c->iov->iov_base + c->at, n);
		dst += n;
		bytes -= n;
		c->at += n;
		if (c->at == c->iov->iov_len) {
			c->iov++;
			c->at = 0;
		}
	}
}

/* Header and @bytes of the frame into a suballocation. */
static void write_piece(struct netvsp *nv, u32 suballoc, struct cursor *c, u32 bytes,
			const struct net_rx_info *info, const struct rndis_packet_id *id)
{
	u32 offset = suballoc * nv->recv.section_bytes;
	u8 *dst = vmbus_gpadl_ptr(nv->recv.gpadl, offset, NETVSP_RX_HEADROOM + bytes);
	u8 part[512];

	if (dst) {
		net_rx_header(dst, bytes, info, id);
		take(c, dst + NETVSP_RX_HEADROOM, bytes);
		return;
	}
	net_rx_header(part, bytes, info, id);
	vmbus_gpadl_write(nv->recv.gpadl, offset, part, NETVSP_RX_HEADROOM);
	offset += NETVSP_RX_HEADROOM;
	while (bytes) {
		u32 n = (u32)min_u64(bytes, sizeof(part));

		take(c, part, n);
		vmbus_gpadl_write(nv->recv.gpadl, offset, part, n);
		offset += n;
		bytes -= n;
	}
}

static void write_frame(struct netvsp *nv, struct netvsp_channel *nc, const struct iovec *iov,
			u32 bytes, const struct net_rx_info *info)
{
	struct rndis_packet_id id = { .version = 1 };
	struct cursor c = { iov, 0 };
	bool several = bytes > nv->piece_bytes;
	u32 done = 0;

	if (several)
		id.id = nc->packet_id++;
	while (done < bytes) {
		u32 n = (u32)min_u64(nv->piece_bytes, bytes - done);
		u32 suballoc = nv->free[--nv->free_count];

		id.flags = (u8)(RNDIS_PACKET_ID_SUBALLOC | (done ? 0 : RNDIS_PACKET_ID_FIRST) |
				(done + n == bytes ? RNDIS_PACKET_ID_LAST : 0));
		write_piece(nv, suballoc, &c, n, done ? NULL : info, several ? &id : NULL);
		batch_add(nv, &nc->batch, suballoc, NETVSP_RX_HEADROOM + n);
		done += n;
	}
	NETVSP_COUNT(nv, rx_frames, 1);
	NETVSP_COUNT(nv, rx_bytes, bytes);
	NETVSP_COUNT(nv, rx_large, several);
}

static struct netvsp_channel *steer(struct netvsp *nv, const u8 *data, const struct net_headers *h,
				    struct net_rx_info *info)
{
	const struct netvsp_rss *rss = &nv->rss;
	struct netvsp_channel *nc = NULL;

	if (rss->enabled && net_rss_hash(rss, data, h, &info->hash)) {
		info->hashed = true;
		nc = nv->channel[rss->table[info->hash & (rss->table_count - 1)]];
	}
	return nc ? nc : nv->channel[0];
}

/* Takes the tag out of a frame; @out then holds one element more than @f. False: there is none. */
static bool strip_tag(const struct net_frame *f, struct iovec *out, int max, u16 *tci)
{
	const u8 *data = f->iov[0].iov_base;

	if (f->iov[0].iov_len < 18 || net_get16(data + 12) != NET_ETH_VLAN || f->count >= max)
		return false;
	*tci = net_get16(data + 14);
	out[0] = (struct iovec){ (u8 *)data, 12 };
	out[1] = (struct iovec){ (u8 *)data + 16, f->iov[0].iov_len - 16 };
	memcpy(out + 2, f->iov + 1, (size_t)(f->count - 1) * sizeof(*out));
	return true;
}

/* A frame as the guest shall see it; larger than a suballocation only if it asked for that. */
static void rx_one(void *ctx, const struct net_frame *f)
{
	struct netvsp *nv = ctx;
	const u8 *data = f->iov[0].iov_base;
	struct iovec untagged[8];
	const struct iovec *iov = f->iov;
	struct net_rx_info info = { 0 };
	struct netvsp_channel *nc;
	struct net_headers h;
	u32 bytes = f->bytes, pieces;

	net_headers_parse(data, (u32)f->iov[0].iov_len, &h);
	if (f->meta.csum_ok && h.l4)
		info.csum = net_rx_csum(nv, &h);
	nc = steer(nv, data, &h, &info);
	if (nv->capabilities & NVSP_CAP_8021Q &&
	    strip_tag(f, untagged, ARRAY_SIZE(untagged), &info.tci)) {
		info.tagged = true;
		iov = untagged;
		bytes -= 4;
	}
	pieces = (bytes + nv->piece_bytes - 1) / nv->piece_bytes;
	if (nc->batch.count + pieces > NETVSP_BATCH_RANGES)
		flush_channel(nv, nc);
	if (nc->batch.count + pieces > NETVSP_BATCH_RANGES ||
	    nv->free_count < pieces + NETVSP_CONTROL_RESERVE || (pieces > 1 && !f->meta.gso)) {
		NETVSP_COUNT(nv, rx_dropped, 1);
		return;
	}
	write_frame(nv, nc, iov, bytes, &info);
}

static bool wanted(const struct netvsp *nv, const u8 *dst)
{
	static const u8 broadcast[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };

	if (nv->filter & RNDIS_FILTER_PROMISCUOUS)
		return true;
	if (memcmp(dst, broadcast, 6) == 0)
		return nv->filter & RNDIS_FILTER_BROADCAST;
	if (dst[0] & 1)
		return nv->filter & (RNDIS_FILTER_MULTICAST | RNDIS_FILTER_ALL_MULTICAST);
	return nv->filter & RNDIS_FILTER_DIRECTED &&
	       (memcmp(dst, nv->mac, 6) == 0 || memcmp(dst, nv->permanent_mac, 6) == 0);
}

static void sink_rx(void *ctx, const struct net_frame *f)
{
	struct netvsp *nv = ctx;
	struct net_frame whole = *f;
	struct iovec iov = { nv->large, f->bytes };
	struct net_headers h;
	bool large;

	if (!ready(nv) || f->bytes < NET_ETH_BYTES || f->bytes > NET_FRAME_MAX ||
	    f->iov[0].iov_len < NET_ETH_BYTES || !wanted(nv, f->iov[0].iov_base))
		return;
	large = f->meta.gso == NET_GSO_TCP4   ? nv->offload.rsc4
		: f->meta.gso == NET_GSO_TCP6 ? nv->offload.rsc6
					      : true;
	if (large && !f->meta.needs_csum) {
		rx_one(nv, f);
		return;
	}
	if (net_frame_copy(f, nv->large, sizeof(nv->large)) < 0)
		return;
	net_headers_parse(nv->large, f->bytes, &h);
	if (!large) {
		net_segment(nv->large, f->bytes, &h, f->meta.gso_bytes, rx_one, nv);
		return;
	}
	net_frame_complete(nv->large, f->bytes, &h);
	whole.iov = &iov;
	whole.count = 1;
	whole.meta.csum_ok = true;
	rx_one(nv, &whole);
}

static void sink_rx_end(void *ctx)
{
	netvsp_rx_flush(ctx);
}

static void sink_link(void *ctx, bool up)
{
	struct netvsp *nv = ctx;

	nv->backend_link = up;
	netvsp_link_changed(nv);
}

const struct net_sink_ops netvsp_sink = {
	.rx_room = sink_rx_room,
	.rx = sink_rx,
	.rx_end = sink_rx_end,
	.link = sink_link,
};

void netvsp_rx_caps(struct netvsp *nv)
{
	struct net_rx_caps caps = {
		.large_tcp4 = nv->offload.rsc4,
		.large_tcp6 = nv->offload.rsc6,
		.mtu = nv->mtu,
	};

	if (nv->be->ops->set_rx)
		nv->be->ops->set_rx(nv->be, &caps);
}

/* ---- control messages ---- */

static int try_control(struct netvsp *nv, u32 suballoc, u32 bytes)
{
	struct vmbus_xfer_range range = { bytes, suballoc * nv->recv.section_bytes };
	int ret = send_ranges(nv, nv->channel[0], NVSP_CHANNEL_CONTROL, suballoc, &range, 1);

	if (ret == 0)
		nv->owner[suballoc] = OWNER_CONTROL;
	return ret;
}

static void control_lost(struct netvsp *nv, u32 suballoc)
{
	free_chain(nv, suballoc);
	nv->control_in_flight--;
}

void netvsp_send_control(struct netvsp *nv, const void *message, u32 bytes)
{
	u32 suballoc;
	int ret = -EAGAIN;

	if (!nv->recv.gpadl || !nv->channel[0] || bytes > nv->recv.section_bytes)
		return;
	if (nv->control_in_flight == NETVSP_CONTROL_RESERVE || nv->free_count == 0) {
		log_limited(LOG_WARNING,
			    "The guest's network driver does not take control messages.");
		return;
	}
	suballoc = nv->free[--nv->free_count];
	nv->next[suballoc] = NETVSP_NONE;
	nv->control_in_flight++;
	vmbus_gpadl_write(nv->recv.gpadl, suballoc * nv->recv.section_bytes, message, bytes);
	if (!nv->control_count)
		ret = try_control(nv, suballoc, bytes);
	if (ret == -EAGAIN) {
		nv->control[nv->control_count] = suballoc;
		nv->control_bytes[nv->control_count++] = bytes;
	} else if (ret < 0) {
		control_lost(nv, suballoc);
	}
}

static bool drain_control(struct netvsp *nv)
{
	u32 sent = 0;

	for (; sent < nv->control_count; sent++) {
		int ret = try_control(nv, nv->control[sent], nv->control_bytes[sent]);

		if (ret == -EAGAIN)
			break;
		if (ret < 0)
			control_lost(nv, nv->control[sent]);
	}
	nv->control_count -= sent;
	memmove(nv->control, nv->control + sent, nv->control_count * sizeof(*nv->control));
	memmove(nv->control_bytes, nv->control_bytes + sent,
		nv->control_count * sizeof(*nv->control_bytes));
	return nv->control_count == 0;
}

void netvsp_rx_writable(struct netvsp *nv, struct netvsp_channel *nc)
{
	if (!nv->recv.gpadl || (nc->index == 0 && !drain_control(nv)))
		return;
	nc->blocked = false;
	flush_channel(nv, nc);
	if (!nc->blocked)
		netvsp_rx_resume(nv);
}
