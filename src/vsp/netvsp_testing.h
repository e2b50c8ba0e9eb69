/* SPDX-License-Identifier: MIT */
/*
 * For tests and fuzz targets only: a back end that records frames, and the
 * guest's side of a card, in the order and with the messages of Linux netvsc.
 */
#ifndef NESTOR_VSP_NETVSP_TESTING_H
#define NESTOR_VSP_NETVSP_TESTING_H

#include "vmbus/testing.h"
#include "vsp/netvsp_internal.h"

#define CARD_FRAMES 64
#ifndef CARD_RECV_PAGES
#define CARD_RECV_PAGES 512u
#define CARD_SEND_PAGES 256u
#define CARD_RING_PAGES 16u
#endif
#define CARD_CHANNELS  4u
#define CARD_NO_ANSWER UINT64_MAX /* transaction id, as Linux names it */

struct card_frame {
	u32 bytes;
	struct net_meta meta;
	u8 data[NET_FRAME_MAX];
};

struct card {
	struct fake_guest g;
	struct net_backend be;
	struct netvsp *nv;
	struct vmbus_device *device;
	struct guest_channel ch[CARD_CHANNELS];
	u64 recv_gpa, send_gpa, page_gpa;
	u32 recv_gpadl, send_gpadl;
	u32 suballoc_bytes, suballoc_count;
	u64 xid;

	/* what the back end saw */
	struct card_frame *frame;
	u32 frames, ends, resumes, set_rx_calls;
	struct net_rx_caps caps;
	bool started, destroyed;

	struct guest_packet pkt; /* the last one read */
};

FAKE_FN struct card *card_of(struct net_backend *be)
{
	return container_of(be, struct card, be);
}

FAKE_FN int card_be_start(struct net_backend *be)
{
	card_of(be)->started = true;
	return 0;
}

FAKE_FN void card_be_stop(struct net_backend *be)
{
	card_of(be)->started = false;
}

FAKE_FN void card_be_destroy(struct net_backend *be)
{
	card_of(be)->destroyed = true;
}

FAKE_FN void card_be_tx(struct net_backend *be, const struct net_frame *f)
{
	struct card *c = card_of(be);
	struct card_frame *to = &c->frame[c->frames++ % CARD_FRAMES];

	must(f->iov[0].iov_len >= min_u64(f->bytes, NET_HEADERS_MAX));
	to->bytes = f->bytes;
	to->meta = f->meta;
	must(net_frame_copy(f, to->data, sizeof(to->data)) == 0);
}

FAKE_FN void card_be_tx_end(struct net_backend *be)
{
	card_of(be)->ends++;
}

FAKE_FN void card_be_resume(struct net_backend *be)
{
	card_of(be)->resumes++;
}

FAKE_FN void card_be_set_rx(struct net_backend *be, const struct net_rx_caps *caps)
{
	card_of(be)->caps = *caps;
	card_of(be)->set_rx_calls++;
}

FAKE_FN const struct net_backend_ops *card_be_ops(void)
{
	static const struct net_backend_ops ops = {
		.name = "test",
		.start = card_be_start,
		.stop = card_be_stop,
		.destroy = card_be_destroy,
		.tx = card_be_tx,
		.tx_end = card_be_tx_end,
		.rx_resume = card_be_resume,
		.set_rx = card_be_set_rx,
	};

	return &ops;
}

static const u8 card_mac[6] = { 0x02, 0x11, 0x22, 0x33, 0x44, 0x55 };

FAKE_FN void card_init(struct card *c)
{
	struct netvsp_config cfg = { .name = "uplink", .max_channels = CARD_CHANNELS };

	memset(c, 0, sizeof(*c));
	c->frame = calloc(CARD_FRAMES, sizeof(*c->frame));
	must(c->frame);
	guest_init(&c->g, NULL);
	c->be = (struct net_backend){
		.ops = card_be_ops(),
		.link_up = true,
		.mtu = 1500,
		.speed_bits = 10000000000ull,
	};
	memcpy(cfg.mac, card_mac, 6);
	netvsp_instance_id(&cfg.instance_id, 0);
	cfg.loop = c->g.loop;
	must(netvsp_offer(c->g.srv, &cfg, &c->be, &c->nv, &c->device) == 0);
	c->recv_gpa = guest_alloc(&c->g, CARD_RECV_PAGES);
	c->send_gpa = guest_alloc(&c->g, CARD_SEND_PAGES);
	c->page_gpa = guest_alloc(&c->g, 64);
	c->xid = 0x1000;
}

FAKE_FN void card_fini(struct card *c)
{
	guest_fini(&c->g);
	must(c->destroyed && !c->started);
	free(c->frame);
}

FAKE_FN u8 *card_page(struct card *c)
{
	return guest_ptr(&c->g, c->page_gpa);
}

/* Contact, and the primary channel opened. */
FAKE_FN void card_open(struct card *c)
{
	guest_connect(&c->g, VMBUS_VERSION(5, 3), 0);
	guest_expect_offer(&c->g, &c->ch[0]);
	guest_expect(&c->g, VMBUS_ALL_OFFERS_DELIVERED, 8);
	must(guest_open(&c->ch[0], CARD_RING_PAGES, 0) == 0);
}

/* Sends an NVSP message and returns its completion. */
FAKE_FN const struct nvsp_message *card_ask(struct card *c, const void *msg, u32 bytes)
{
	u64 xid = c->xid++;

	guest_send(&c->ch[0], VMBUS_PACKET_COMPLETION_REQUESTED, xid, msg, bytes);
	must(guest_read(&c->ch[0], &c->pkt));
	must(c->pkt.h.type == VMBUS_PACKET_COMPLETION && c->pkt.h.transaction_id == xid);
	return guest_packet_payload(&c->pkt);
}

FAKE_FN void card_tell(struct card *c, const void *msg, u32 bytes)
{
	guest_send(&c->ch[0], 0, CARD_NO_ANSWER, msg, bytes);
}

/* Status of the answer to INIT with one version. */
FAKE_FN u32 card_version(struct card *c, u32 version)
{
	struct nvsp_message m = { .type = NVSP_INIT, .init = { version, version } };
	const struct nvsp_message *r = card_ask(c, &m, sizeof(m));

	must(r->type == NVSP_INIT_COMPLETE);
	return r->init_complete.status;
}

FAKE_FN void card_config(struct card *c, u32 mtu, u64 capabilities)
{
	struct nvsp_message m = {
		.type = NVSP_SEND_NDIS_CONFIG,
		.ndis_config = { .mtu = mtu + NET_ETH_BYTES, .capabilities = capabilities },
	};

	card_tell(c, &m, sizeof(m));
}

FAKE_FN const struct nvsp_message *card_recv_buf(struct card *c)
{
	struct nvsp_message m = { .type = NVSP_SEND_RECV_BUF };
	const struct nvsp_message *r;

	c->recv_gpadl = c->g.next_gpadl++;
	must(guest_gpadl(&c->g, c->ch[0].offer.relid, c->recv_gpadl, c->recv_gpa,
			 CARD_RECV_PAGES) == 0);
	m.buf.gpadl = c->recv_gpadl;
	m.buf.id = NVSP_RECV_BUF_ID;
	r = card_ask(c, &m, sizeof(m));
	must(r->type == NVSP_SEND_RECV_BUF_COMPLETE);
	c->suballoc_bytes = r->recv_buf_complete.suballoc_bytes;
	c->suballoc_count = r->recv_buf_complete.suballoc_count;
	return r;
}

FAKE_FN const struct nvsp_message *card_send_buf(struct card *c)
{
	struct nvsp_message m = { .type = NVSP_SEND_SEND_BUF };
	const struct nvsp_message *r;

	c->send_gpadl = c->g.next_gpadl++;
	must(guest_gpadl(&c->g, c->ch[0].offer.relid, c->send_gpadl, c->send_gpa,
			 CARD_SEND_PAGES) == 0);
	m.buf.gpadl = c->send_gpadl;
	m.buf.id = NVSP_SEND_BUF_ID;
	r = card_ask(c, &m, sizeof(m));
	must(r->type == NVSP_SEND_SEND_BUF_COMPLETE);
	return r;
}

/* Bytes in guest pages, as netvsc sends what is not in a section. */
FAKE_FN void card_send_pages(struct card *c, struct guest_channel *ch, u64 xid, u32 channel_type,
			     u32 section, u32 section_bytes, u32 offset, u32 bytes)
{
	struct nvsp_message m = {
		.type = NVSP_SEND_RNDIS_PKT,
		.rndis = { channel_type, section, section_bytes },
	};
	u64 pfn[64];

	for (u32 i = 0; i < ARRAY_SIZE(pfn); i++)
		pfn[i] = c->page_gpa / PAGE_BYTES + i;
	if (bytes)
		must(guest_send_gpa(ch, VMBUS_PACKET_COMPLETION_REQUESTED, xid, pfn, offset, bytes,
				    &m, sizeof(m)));
	else
		must(guest_write(ch, VMBUS_PACKET_INBAND, VMBUS_PACKET_COMPLETION_REQUESTED, xid,
				 NULL, 0, &m, sizeof(m), false));
	guest_run(&c->g);
}

/* Status of the completion, which is the next packet. */
FAKE_FN u32 card_sent(struct card *c, struct guest_channel *ch, u64 xid)
{
	const struct nvsp_message *r;

	must(guest_read(ch, &c->pkt));
	must(c->pkt.h.type == VMBUS_PACKET_COMPLETION && c->pkt.h.transaction_id == xid);
	r = guest_packet_payload(&c->pkt);
	must(r->type == NVSP_SEND_RNDIS_PKT_COMPLETE);
	return r->rndis_complete.status;
}

/* Ranges of a transfer packet just read; checks what Linux checks. */
FAKE_FN u32 card_ranges(struct card *c, u32 channel_type, const struct vmbus_xfer_range **ranges)
{
	const struct vmbus_xfer_page_header *x = (void *)c->pkt.data;
	const struct nvsp_message *m = guest_packet_payload(&c->pkt);

	must(c->pkt.h.type == VMBUS_PACKET_XFER_PAGES &&
	     c->pkt.h.flags == VMBUS_PACKET_COMPLETION_REQUESTED && c->pkt.h.transaction_id);
	must(x->pageset_id == NVSP_RECV_BUF_ID && 8 + 8 * x->range_count <= c->pkt.extra_bytes);
	must(m->type == NVSP_SEND_RNDIS_PKT && m->rndis.channel_type == channel_type);
	*ranges = (void *)(c->pkt.data + 8);
	for (u32 i = 0; i < x->range_count; i++)
		must((*ranges)[i].byte_count <= c->suballoc_bytes &&
		     (*ranges)[i].byte_offset + (*ranges)[i].byte_count <=
			     CARD_RECV_PAGES * PAGE_BYTES);
	return x->range_count;
}

FAKE_FN void *card_recv_ptr(struct card *c, u32 offset)
{
	return (u8 *)guest_ptr(&c->g, c->recv_gpa) + offset;
}

/* The guest is done with a transfer packet. */
FAKE_FN void card_release(struct card *c, struct guest_channel *ch, u64 xid)
{
	u32 done[2] = { NVSP_SEND_RNDIS_PKT_COMPLETE, NVSP_STATUS_SUCCESS };

	must(guest_write(ch, VMBUS_PACKET_COMPLETION, 0, xid, NULL, 0, done, sizeof(done), false));
	guest_run(&c->g);
}

/* Sends a control message and returns its answer, which stays valid a while. */
FAKE_FN const void *card_control(struct card *c, const void *msg, u32 bytes)
{
	const struct vmbus_xfer_range *ranges;
	const struct nvsp_message *r;
	bool sent = false;
	u32 offset;
	u64 xid = c->xid++, id;

	memcpy(card_page(c), msg, bytes);
	card_send_pages(c, &c->ch[0], xid, NVSP_CHANNEL_CONTROL, NVSP_NO_SECTION, 0, 0, bytes);
	/* Completion and answer may come in either order. */
	must(guest_read(&c->ch[0], &c->pkt));
	if (c->pkt.h.type == VMBUS_PACKET_COMPLETION) {
		r = guest_packet_payload(&c->pkt);
		must(r->rndis_complete.status == NVSP_STATUS_SUCCESS);
		sent = true;
		must(guest_read(&c->ch[0], &c->pkt));
	}
	must(card_ranges(c, NVSP_CHANNEL_CONTROL, &ranges) == 1);
	offset = ranges[0].byte_offset;
	must(*(u32 *)((u8 *)card_recv_ptr(c, offset) + 4) == ranges[0].byte_count);
	id = c->pkt.h.transaction_id;
	if (!sent)
		must(card_sent(c, &c->ch[0], xid) == NVSP_STATUS_SUCCESS);
	card_release(c, &c->ch[0], id);
	return card_recv_ptr(c, offset);
}

FAKE_FN const struct rndis_query_complete *card_query(struct card *c, u32 oid, const void *info,
						      u32 bytes)
{
	u8 buf[4096] = { 0 };
	struct rndis_request *q = (void *)buf;

	*q = (struct rndis_request){
		.header = { RNDIS_QUERY, sizeof(*q) + bytes },
		.request_id = (u32)c->xid,
		.oid = oid,
		.info_bytes = bytes,
		.info_offset = sizeof(*q) - RNDIS_HEADER_BYTES,
	};
	if (bytes)
		memcpy(q + 1, info, bytes);
	return card_control(c, buf, q->header.length);
}

FAKE_FN u32 card_set(struct card *c, u32 oid, const void *info, u32 bytes)
{
	u8 buf[4096] = { 0 };
	struct rndis_request *q = (void *)buf;
	const struct rndis_set_complete *r;

	*q = (struct rndis_request){
		.header = { RNDIS_SET, sizeof(*q) + bytes },
		.request_id = (u32)c->xid,
		.oid = oid,
		.info_bytes = bytes,
		.info_offset = sizeof(*q) - RNDIS_HEADER_BYTES,
	};
	memcpy(q + 1, info, bytes);
	r = card_control(c, buf, q->header.length);
	must(r->header.type == (RNDIS_SET | RNDIS_COMPLETE));
	return r->status;
}

FAKE_FN void card_rndis_init(struct card *c)
{
	struct rndis_initialize m = {
		.header = { RNDIS_INITIALIZE, sizeof(m) },
		.request_id = 1,
		.major = 1,
		.max_transfer_bytes = 0x4000,
	};
	const struct rndis_initialize_complete *r = card_control(c, &m, sizeof(m));

	must(r->header.type == (RNDIS_INITIALIZE | RNDIS_COMPLETE) && r->status == 0);
}

/* All of it, with large receives or without. */
FAKE_FN void card_start(struct card *c, bool rsc)
{
	struct ndis_offload_parameters p = {
		.header = { NDIS_OBJECT_DEFAULT, 3, sizeof(p) },
		.ip4_csum = 1,
		.tcp4_csum = 4,
		.udp4_csum = 4,
		.tcp6_csum = 4,
		.udp6_csum = 4,
		.lsov2_ip4 = 2,
		.lsov2_ip6 = 2,
		.rsc_ip4 = rsc ? 2 : 1,
		.rsc_ip6 = rsc ? 2 : 1,
	};
	u32 filter = RNDIS_FILTER_DIRECTED | RNDIS_FILTER_BROADCAST | RNDIS_FILTER_ALL_MULTICAST;

	card_open(c);
	must(card_version(c, NVSP_VERSION_61) == NVSP_STATUS_SUCCESS);
	card_config(c, 1500, NVSP_CAP_8021Q | NVSP_CAP_RSC);
	must(card_recv_buf(c)->recv_buf_complete.status == NVSP_STATUS_SUCCESS);
	must(card_send_buf(c)->send_buf_complete.status == NVSP_STATUS_SUCCESS);
	card_rndis_init(c);
	must(card_set(c, RNDIS_OID_TCP_OFFLOAD_PARAMETERS, &p, sizeof(p)) == 0);
	must(card_set(c, RNDIS_OID_GEN_CURRENT_PACKET_FILTER, &filter, 4) == 0);
}

/* A frame for the guest from the network. */
FAKE_FN void card_deliver(struct card *c, const void *data, u32 bytes, const struct net_meta *meta)
{
	struct iovec iov = { (void *)data, bytes };
	struct net_frame f = { .iov = &iov, .count = 1, .bytes = bytes };

	if (meta)
		f.meta = *meta;
	c->be.sink->rx(c->be.sink_ctx, &f);
}

FAKE_FN void card_deliver_end(struct card *c)
{
	c->be.sink->rx_end(c->be.sink_ctx);
	guest_run(&c->g);
	vmbus_channel_flush(c->nv->channel[0]->ch);
}

/* Ethernet, IPv4 and TCP headers with @payload bytes behind them. Returns the frame's bytes. */
FAKE_FN u32 card_tcp4(u8 *f, const u8 *dst_mac, u32 src, u32 dst, u16 sport, u16 dport, u32 payload)
{
	memset(f, 0, 54);
	memcpy(f, dst_mac, 6);
	memcpy(f + 6, "\x02\xaa\xbb\xcc\xdd\xee", 6);
	net_put16(f + 12, NET_ETH_IPV4);
	f[14] = 0x45;
	net_put16(f + 16, 40 + payload);
	f[22] = 64;
	f[23] = NET_IP_TCP;
	net_put32(f + 26, src);
	net_put32(f + 30, dst);
	net_put16(f + 34, sport);
	net_put16(f + 36, dport);
	net_put32(f + 38, 1000);
	f[46] = 0x50;
	f[47] = 0x10;
	for (u32 i = 0; i < payload; i++)
		f[54 + i] = (u8)(i * 7 + i / 256);
	return 54 + payload;
}

/* An RNDIS packet message around a frame, with per-packet information. Returns its bytes. */
FAKE_FN u32 card_rndis_packet(u8 *out, const u8 *ppi, u32 ppi_bytes, const u8 *frame, u32 bytes)
{
	struct rndis_packet p = {
		.header = { RNDIS_PACKET, sizeof(p) + ppi_bytes + bytes },
		.data_offset = sizeof(p) - RNDIS_HEADER_BYTES + ppi_bytes,
		.data_bytes = bytes,
		.ppi_offset = sizeof(p) - RNDIS_HEADER_BYTES,
		.ppi_bytes = ppi_bytes,
	};

	memcpy(out, &p, sizeof(p));
	if (ppi_bytes)
		memcpy(out + sizeof(p), ppi, ppi_bytes);
	memcpy(out + sizeof(p) + ppi_bytes, frame, bytes);
	return p.header.length;
}

FAKE_FN u32 card_ppi(u8 *out, u32 type, u32 value)
{
	u32 p[4] = { 16, type, 12, value };

	memcpy(out, p, sizeof(p));
	return sizeof(p);
}

#endif
