// SPDX-License-Identifier: MIT
/*
 * NVSP: versions, buffers, sub-channels, and the life of a card's channels. What
 * a message may do is its row; RNDIS inside NVSP_SEND_RNDIS_PKT goes on to
 * netvsp_tx.c, and what the guest is sent comes from netvsp_rx.c.
 */
#include "vsp/netvsp.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "vsp/netvsp_internal.h"

#define MDL_CHAIN_MAX	   34u
#define SUBALLOC_BYTES_MIN 4096u /* one guest page, so one host address */

/* A message in flight: what it says and what it is answered. */
struct nvsp_call {
	struct netvsp *nv;
	struct netvsp_channel *nc;
	const struct vmbus_packet *pkt;
	struct nvsp_message in; /* shorter ones end in zeros */
	struct nvsp_message out;
	u32 out_bytes; /* 0: a completion, if one is wanted, is empty */
};

/* ---- messages ---- */

static void call_init(struct nvsp_call *c)
{
	static const u32 versions[] = { NVSP_VERSION_61, NVSP_VERSION_6, NVSP_VERSION_5,
					NVSP_VERSION_4,	 NVSP_VERSION_2, NVSP_VERSION_1 };

	c->out.type = NVSP_INIT_COMPLETE;
	c->out.init_complete.max_mdl_chain = MDL_CHAIN_MAX;
	c->out.init_complete.status = NVSP_STATUS_FAIL;
	c->out_bytes = sizeof(c->out);
	if (c->nv->recv.gpadl || c->nv->send.gpadl)
		return; /* not in the middle of a conversation */
	for (size_t i = 0; i < ARRAY_SIZE(versions); i++) {
		if (versions[i] < c->in.init.min_version || versions[i] > c->in.init.max_version)
			continue;
		c->nv->version = versions[i];
		c->out.init_complete.version = versions[i];
		c->out.init_complete.status = NVSP_STATUS_SUCCESS;
		return;
	}
}

static void call_ndis_version(struct nvsp_call *c)
{
	/* Sizes follow the revision of each request. */
}

static void call_ndis_config(struct nvsp_call *c)
{
	u32 mtu = c->in.ndis_config.mtu;

	/* Fixes the suballocations, so not once there are some. */
	if (c->nv->recv.gpadl || mtu < 68 + NET_ETH_BYTES || mtu > NET_FRAME_MAX)
		return;
	c->nv->mtu = mtu - NET_ETH_BYTES;
	c->nv->capabilities = c->in.ndis_config.capabilities;
	netvsp_rx_caps(c->nv);
}

static bool buffer_take(struct nvsp_call *c, struct netvsp_buffer *b, u32 section_bytes,
			u32 count_max)
{
	struct vmbus_gpadl *g;

	if (b->gpadl)
		return false;
	g = vmbus_gpadl_get(c->nc->ch, c->in.buf.gpadl);
	if (!g)
		return false;
	*b = (struct netvsp_buffer){
		.gpadl = g,
		.id = c->in.buf.id,
		.section_bytes = section_bytes,
		.section_count = (u32)min_u64(vmbus_gpadl_bytes(g) / section_bytes, count_max),
	};
	return true;
}

static void buffer_drop(struct netvsp_buffer *b)
{
	if (b->gpadl)
		vmbus_gpadl_put(b->gpadl);
	*b = (struct netvsp_buffer){ 0 };
}

static void recv_drop(struct netvsp *nv)
{
	netvsp_rx_fini(nv);
	buffer_drop(&nv->recv);
	netvsp_rx_resume(nv); /* what comes now is dropped */
}

static void call_recv_buf(struct nvsp_call *c)
{
	struct netvsp *nv = c->nv;
	u32 bytes = nv->mtu + NET_ETH_BYTES + 4 + NETVSP_RX_HEADROOM + NETVSP_RX_TAIL;

	bytes = (u32)align_up(bytes, SUBALLOC_BYTES_MIN);
	c->out.type = NVSP_SEND_RECV_BUF_COMPLETE;
	c->out.recv_buf_complete.status = NVSP_STATUS_FAIL;
	c->out_bytes = sizeof(c->out);
	if (!buffer_take(c, &nv->recv, bytes, NETVSP_RECV_COUNT_MAX))
		return;
	if (nv->recv.section_count < 2 * NETVSP_CONTROL_RESERVE || netvsp_rx_init(nv) < 0) {
		buffer_drop(&nv->recv);
		return;
	}
	c->out.recv_buf_complete.status = NVSP_STATUS_SUCCESS;
	c->out.recv_buf_complete.section_count = 1;
	c->out.recv_buf_complete.suballoc_bytes = bytes;
	c->out.recv_buf_complete.suballoc_count = nv->recv.section_count;
	c->out.recv_buf_complete.end_offset = bytes * nv->recv.section_count;
}

static void call_revoke_recv_buf(struct nvsp_call *c)
{
	if (c->nv->recv.gpadl && c->in.revoke.id == c->nv->recv.id)
		recv_drop(c->nv);
}

static void call_send_buf(struct nvsp_call *c)
{
	c->out.type = NVSP_SEND_SEND_BUF_COMPLETE;
	c->out.send_buf_complete.status = NVSP_STATUS_FAIL;
	c->out_bytes = sizeof(c->out);
	if (!buffer_take(c, &c->nv->send, NETVSP_SEND_SECTION, UINT32_MAX))
		return;
	c->out.send_buf_complete.status = NVSP_STATUS_SUCCESS;
	c->out.send_buf_complete.section_bytes = NETVSP_SEND_SECTION;
}

static void call_revoke_send_buf(struct nvsp_call *c)
{
	if (c->nv->send.gpadl && c->in.revoke.id == c->nv->send.id)
		buffer_drop(&c->nv->send);
}

static void call_rndis(struct nvsp_call *c)
{
	c->out.type = NVSP_SEND_RNDIS_PKT_COMPLETE;
	c->out.rndis_complete.status = netvsp_tx(c->nv, c->nc, c->pkt, &c->in);
	c->out_bytes = 8; /* one for each packet: no longer than it has to be */
}

static void call_switch_data_path(struct nvsp_call *c)
{
	/* There is no other path; the guest waits for the completion only. */
}

static void call_subchannel(struct nvsp_call *c)
{
	struct netvsp *nv = c->nv;
	u32 count = (u32)min_u64(c->in.subchannel.count, nv->max_channels - 1);

	c->out.type = NVSP_SUBCHANNEL;
	c->out.subchannel_complete.status = NVSP_STATUS_FAIL;
	c->out_bytes = sizeof(c->out);
	/* What is granted has to come: Linux waits for every one of them. */
	if (c->in.subchannel.op != NVSP_SUBCHANNEL_ALLOCATE || nv->granted ||
	    (count && vmbus_offer_subchannels(c->nc->ch, count) < 0))
		return;
	nv->granted = count;
	c->out.subchannel_complete.status = NVSP_STATUS_SUCCESS;
	c->out.subchannel_complete.count = count;
}

static const struct nvsp_row {
	u32 type;
	u32 bytes;	  /* at least */
	u32 version;	  /* at least; 0: before one is negotiated, too */
	bool any_channel; /* else the primary one only */
	void (*fn)(struct nvsp_call *c);
} nvsp_messages[] = {
	{ NVSP_SEND_RNDIS_PKT, 16, NVSP_VERSION_1, true, call_rndis },
	{ NVSP_INIT, 12, 0, false, call_init },
	{ NVSP_SEND_NDIS_VERSION, 12, NVSP_VERSION_1, false, call_ndis_version },
	{ NVSP_SEND_RECV_BUF, 10, NVSP_VERSION_1, false, call_recv_buf },
	{ NVSP_REVOKE_RECV_BUF, 6, NVSP_VERSION_1, false, call_revoke_recv_buf },
	{ NVSP_SEND_SEND_BUF, 10, NVSP_VERSION_1, false, call_send_buf },
	{ NVSP_REVOKE_SEND_BUF, 6, NVSP_VERSION_1, false, call_revoke_send_buf },
	{ NVSP_SEND_NDIS_CONFIG, 20, NVSP_VERSION_2, false, call_ndis_config },
	{ NVSP_SWITCH_DATA_PATH, 8, NVSP_VERSION_4, false, call_switch_data_path },
	{ NVSP_SUBCHANNEL, 12, NVSP_VERSION_5, false, call_subchannel },
};

static const struct nvsp_row *find_row(const struct nvsp_call *c, u32 bytes)
{
	for (size_t i = 0; i < ARRAY_SIZE(nvsp_messages); i++) {
		const struct nvsp_row *row = &nvsp_messages[i];

		if (row->type == c->in.type)
			return bytes >= row->bytes && c->nv->version >= row->version &&
					       (row->any_channel || c->nc->index == 0)
				       ? row
				       : NULL;
	}
	return NULL;
}

static int packet(struct vmbus_channel *ch, const struct vmbus_packet *pkt)
{
	struct nvsp_call c = { .nv = vmbus_channel_dev(ch),
			       .nc = vmbus_channel_data(ch),
			       .pkt = pkt };
	const struct nvsp_row *row;

	if (pkt->type == VMBUS_PACKET_COMPLETION) {
		netvsp_rx_complete(c.nv, c.nc, pkt->transaction_id);
		return 0;
	}
	if (pkt->payload_bytes < sizeof(c.in.type))
		return -EPROTO;
	memcpy(&c.in, pkt->payload, min_u64(pkt->payload_bytes, sizeof(c.in)));
	row = find_row(&c, pkt->payload_bytes);
	if (row) {
		row->fn(&c);
	} else {
		log_limited(LOG_WARNING, "The guest's network driver sent message %u out of place.",
			    c.in.type);
		c.out.type = NVSP_SEND_RNDIS_PKT_COMPLETE;
		c.out.rndis_complete.status = NVSP_STATUS_UNSUPPORTED;
		c.out_bytes = sizeof(c.out);
	}
	if (pkt->wants_completion)
		vmbus_complete(ch, pkt->transaction_id, &c.out, c.out_bytes);
	return 0;
}

static void batch_end(struct vmbus_channel *ch)
{
	struct netvsp *nv = vmbus_channel_dev(ch);

	if (nv->be->ops->tx_end)
		nv->be->ops->tx_end(nv->be);
	netvsp_rx_flush(nv);
}

static void writable(struct vmbus_channel *ch)
{
	netvsp_rx_writable(vmbus_channel_dev(ch), vmbus_channel_data(ch));
}

/* ---- channels ---- */

/* Optional for Linux, which spreads evenly by itself; DPDK waits for it. */
static void send_indirection_table(struct netvsp *nv)
{
	struct nvsp_indirection_table table = {
		.type = NVSP_SEND_INDIRECTION_TABLE,
		.count = NVSP_INDIRECTION_COUNT,
		.offset = offsetof(struct nvsp_indirection_table, entry),
	};

	for (u32 i = 0; i < NVSP_INDIRECTION_COUNT; i++)
		table.entry[i] = i % (nv->granted + 1);
	vmbus_send_inband(nv->channel[0]->ch, 0, 0, &table, sizeof(table));
}

static void conversation_reset(struct netvsp *nv)
{
	recv_drop(nv);
	buffer_drop(&nv->send);
	nv->version = 0;
	nv->mtu = (u32)min_u64(nv->be->mtu, 1500);
	nv->capabilities = 0;
	nv->rndis = RNDIS_STATE_HALTED;
	nv->granted = nv->opened = 0;
	rndis_reset(nv);
}

static int opened(struct vmbus_channel *ch)
{
	struct netvsp *nv = vmbus_channel_dev(ch);
	u32 index = vmbus_channel_index(ch);
	struct netvsp_channel *nc;

	if (index > nv->granted || (index && !nv->channel[0]) || nv->channel[index])
		return -EINVAL;
	nc = calloc(1, sizeof(*nc));
	if (!nc)
		return -ENOMEM;
	nc->ch = ch;
	nc->index = index;
	nv->channel[index] = nc;
	vmbus_channel_set_data(ch, nc);
	if (index && ++nv->opened == nv->granted)
		send_indirection_table(nv);
	return 0;
}

static int closed(struct vmbus_channel *ch)
{
	struct netvsp *nv = vmbus_channel_dev(ch);
	struct netvsp_channel *nc = vmbus_channel_data(ch);

	if (nc->index == 0) {
		conversation_reset(nv);
	} else {
		netvsp_rx_drop_channel(nv, nc);
		if (nv->opened)
			nv->opened--;
	}
	nv->channel[nc->index] = NULL;
	free(nc);
	return 0;
}

/* ---- link ---- */

static void link_timer(struct loop_timer *t)
{
	netvsp_link_changed(container_of(t, struct netvsp, link_timer));
}

void netvsp_link_changed(struct netvsp *nv)
{
	bool up = nv->backend_link && !__atomic_load_n(&nv->cable_out, __ATOMIC_ACQUIRE);
	u64 now = loop_now_ns(nv->loop);

	if (up == nv->link_up)
		return;
	if (nv->link_told_ns && now < nv->link_told_ns + NETVSP_LINK_SPACING_NS) {
		loop_timer_at(nv->loop, &nv->link_timer, nv->link_told_ns + NETVSP_LINK_SPACING_NS,
			      link_timer);
		return;
	}
	nv->link_up = up;
	nv->link_told_ns = now;
	rndis_indicate_status(nv, up ? RNDIS_STATUS_MEDIA_CONNECT : RNDIS_STATUS_MEDIA_DISCONNECT);
	netvsp_rx_flush(nv);
}

static void link_work(struct loop_work *w)
{
	netvsp_link_changed(container_of(w, struct netvsp, link_work));
}

void netvsp_set_link(struct netvsp *nv, bool up)
{
	__atomic_store_n(&nv->cable_out, !up, __ATOMIC_RELEASE);
	loop_post(nv->loop, &nv->link_work);
}

void netvsp_stats(const struct netvsp *nv, struct netvsp_stats *out)
{
	const u64 *from = (const u64 *)&nv->stats;
	u64 *to = (u64 *)out;

	for (size_t i = 0; i < sizeof(*out) / sizeof(*to); i++)
		to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
}

void netvsp_instance_id(struct hv_guid *id, u32 index)
{
	static const struct hv_guid base =
		HV_GUID(0x00000000, 0x6e65, 0x7374, 0xae, 0x74, 0x6e, 0x65, 0x74, 0x2d, 0x30, 0x31);

	*id = base;
	hv_guid_set_data1(id, index);
}

/* ---- life ---- */

struct start {
	struct netvsp *nv;
	int ret;
};

static void start_on_loop(void *arg)
{
	struct start *s = arg;
	struct net_backend *be = s->nv->be;

	be->loop = s->nv->loop;
	be->sink = &netvsp_sink;
	be->sink_ctx = s->nv;
	s->nv->backend_link = s->nv->link_up = be->link_up;
	conversation_reset(s->nv);
	s->ret = be->ops->start(be);
}

static void stop_on_loop(void *arg)
{
	struct netvsp *nv = arg;

	nv->be->ops->stop(nv->be);
	nv->be->loop = NULL;
	loop_timer_cancel(&nv->link_timer);
	loop_work_cancel(nv->loop, &nv->link_work);
}

static void loop_release(struct netvsp *nv)
{
	if (!nv->own_loop)
		return;
	loop_thread_join(nv->loop);
	loop_destroy(nv->loop);
}

/* On the server's loop, when every channel is closed. */
static void destroy(void *dev)
{
	struct netvsp *nv = dev;

	loop_call(nv->loop, stop_on_loop, nv);
	nv->be->ops->destroy(nv->be);
	loop_release(nv);
	free(nv);
}

static const struct vmbus_device_ops netvsp_ops = {
	.name = "network",
	.interface_id = NETVSP_GUID,
	.completion_max = sizeof(struct nvsp_message),
	.opened = opened,
	.packet = packet,
	.batch_end = batch_end,
	.writable = writable,
	.closed = closed,
	.destroy = destroy,
};

static int loop_acquire(struct netvsp *nv, struct loop *given)
{
	int ret;

	nv->loop = given;
	if (given)
		return 0;
	nv->loop = loop_create(NULL);
	if (!nv->loop)
		return -ENOMEM;
	ret = loop_thread_start(nv->loop, "network");
	if (ret)
		loop_destroy(nv->loop);
	nv->own_loop = ret == 0;
	return ret;
}

int netvsp_offer(struct vmbus_server *srv, const struct netvsp_config *cfg, struct net_backend *be,
		 struct netvsp **out, struct vmbus_device **device)
{
	struct netvsp *nv = calloc(1, sizeof(*nv));
	struct start start = { nv };
	struct vmbus_offer offer = {
		.ops = &netvsp_ops,
		.dev = nv,
		.instance_id = cfg->instance_id,
		.order = cfg->order,
	};
	int ret;

	if (!nv)
		return -ENOMEM;
	nv->be = be;
	nv->max_channels =
		(u32)min_u64(cfg->max_channels ? cfg->max_channels : 1, NETVSP_CHANNELS_MAX);
	memcpy(nv->permanent_mac, cfg->mac, sizeof(nv->permanent_mac));
	memcpy(nv->mac, cfg->mac, sizeof(nv->mac));
	snprintf(nv->name, sizeof(nv->name), "%s", cfg->name ? cfg->name : "");
	loop_work_init(&nv->link_work, link_work);
	ret = loop_acquire(nv, cfg->loop);
	if (ret)
		goto free_nv;
	loop_call(nv->loop, start_on_loop, &start);
	ret = start.ret;
	if (ret)
		goto release_loop;
	if (out)
		*out = nv;
	offer.loop = nv->loop;
	ret = vmbus_offer(srv, &offer, device);
	if (ret == 0)
		return 0;
	loop_call(nv->loop, stop_on_loop, nv);
release_loop:
	loop_release(nv);
free_nv:
	free(nv);
	return ret;
}
