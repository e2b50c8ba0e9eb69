// SPDX-License-Identifier: MIT
/*
 * The network card after negotiation: a guest and a network that send what they
 * like, in sequences. Input: operations, each a byte and what it takes. After
 * every one all suballocations of the receive buffer must be accounted for.
 */
#define CARD_RECV_PAGES 64u
#define CARD_SEND_PAGES 16u
#define CARD_RING_PAGES 2u /* small, so that it is full at times */
#include "vsp/netvsp_testing.h"

#include "base/log.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

static struct card c;

struct input {
	const u8 *at;
	size_t left;
};

static u32 number(struct input *in, u32 bytes)
{
	u32 v = 0;

	for (; bytes && in->left; bytes--, in->left--)
		v = v << 8 | *in->at++;
	return v;
}

/* Up to @max bytes, as many as the input says. */
static u32 blob(struct input *in, u8 *out, u32 max)
{
	u32 n = (u32)min_u64(number(in, 2) % (max + 1), in->left);

	memcpy(out, in->at, n);
	in->at += n;
	in->left -= n;
	return n;
}

/* Overwrites some words. */
static void patch(struct input *in, u8 *msg, u32 bytes)
{
	static const u32 values[] = { 0, 1, 7, 8, 0x7fffffff, 0x80000000, 0xffffffff, 0xfffffff8 };

	for (u32 n = number(in, 1) % 4; n && bytes >= 4; n--) {
		u32 at = number(in, 1) % (bytes - 3), how = number(in, 1), v;

		v = how < 64 ? values[how % ARRAY_SIZE(values)] : number(in, 2);
		memcpy(msg + at, &v, 4);
	}
}

static struct guest_channel *channel(struct input *in)
{
	struct guest_channel *ch = &c.ch[number(in, 1) % CARD_CHANNELS];

	return ch->pages ? ch : &c.ch[0];
}

static void put(struct guest_channel *ch, u16 type, u64 xid, const void *extra, u32 extra_bytes,
		const void *payload, u32 bytes)
{
	guest_write(ch, type, type == VMBUS_PACKET_COMPLETION ? 0 : 1, xid, extra, extra_bytes,
		    payload, bytes, true);
	vmbus_signal(c.g.srv, ch->offer.connection_id); /* it may have been closed */
	guest_run(&c.g);
}

static void op_message(struct input *in)
{
	struct guest_channel *ch = channel(in);
	u8 msg[128];

	put(ch, VMBUS_PACKET_INBAND, number(in, 1), NULL, 0, msg, blob(in, msg, sizeof(msg)));
}

static void op_nvsp(struct input *in)
{
	static const u32 types[] = { 1, 100, 101, 103, 104, 106, 107, 125, 129, 133 };
	struct guest_channel *ch = channel(in);
	struct nvsp_message m = { .type = types[number(in, 1) % ARRAY_SIZE(types)] };

	blob(in, m.bytes, sizeof(m.bytes));
	if (m.type == NVSP_SEND_RECV_BUF || m.type == NVSP_SEND_SEND_BUF)
		m.buf.gpadl = m.buf.gpadl & 1 ? c.recv_gpadl : c.send_gpadl;
	put(ch, VMBUS_PACKET_INBAND, 1, NULL, 0, &m, sizeof(m));
}

static void send_rndis(struct input *in, u32 channel_type, u32 bytes)
{
	struct guest_channel *ch = channel(in);
	struct nvsp_message m = {
		.type = NVSP_SEND_RNDIS_PKT,
		.rndis = { channel_type, number(in, 1), number(in, 2) },
	};
	struct {
		struct vmbus_gpa_direct_header h;
		u32 range_bytes, range_offset;
		u64 pfn[32];
	} extra = { { 0, 1 }, bytes, 0, { 0 } };
	u32 pages = (bytes + PAGE_BYTES - 1) / PAGE_BYTES;

	if (m.rndis.section_index >= 12)
		m.rndis.section_index = NVSP_NO_SECTION;
	for (u32 i = 0; i < pages; i++)
		extra.pfn[i] = c.page_gpa / PAGE_BYTES + i;
	if (bytes)
		put(ch, VMBUS_PACKET_GPA_DIRECT, 2, &extra, 16 + 8 * pages, &m, sizeof(m));
	else
		put(ch, VMBUS_PACKET_INBAND, 2, NULL, 0, &m, sizeof(m));
}

static u32 make_frame(struct input *in, u8 *frame)
{
	u32 how = number(in, 1), payload, bytes;

	/* What lies behind the headers does not matter. */
	card_tcp4(frame, card_mac, number(in, 1), 2, (u16)number(in, 1), 4, 0);
	payload = how & 1 ? number(in, 2) : number(in, 1);
	bytes = 54 + payload;
	net_put16(frame + 16, 40 + payload);
	if (how & 2) {
		net_put16(frame + 12, NET_ETH_IPV6);
		frame[14] = 0x60;
		frame[20] = how & 4 ? NET_IP_TCP : (u8)(how >> 3);
	}
	if (how & 8)
		frame[23] = NET_IP_UDP;
	patch(in, frame, (u32)min_u64(bytes, 80));
	return bytes;
}

static void op_data(struct input *in)
{
	static u8 frame[NET_FRAME_MAX + 65536];
	u8 *page = card_page(&c), ppi[128];
	u32 how = number(in, 1), n = 0, bytes = 0;

	for (u32 messages = how >> 6; messages < 4 && bytes < 40000; messages++) {
		u32 frame_bytes = (u32)min_u64(make_frame(in, frame), 50000);

		n = how & 1 ? card_ppi(ppi, RNDIS_PPI_CHECKSUM, number(in, 1)) : 0;
		n += how & 2 ? card_ppi(ppi + n, RNDIS_PPI_LARGE_SEND, number(in, 4)) : 0;
		n += how & 4 ? card_ppi(ppi + n, RNDIS_PPI_8021Q, number(in, 2)) : 0;
		n = card_rndis_packet(page + bytes, ppi, n, frame, frame_bytes);
		patch(in, page + bytes, 120);
		bytes += n;
	}
	send_rndis(in, NVSP_CHANNEL_DATA, bytes);
}

static void op_section(struct input *in)
{
	u8 *section = guest_ptr(&c.g, c.send_gpa);

	section += number(in, 1) % 10 * NETVSP_SEND_SECTION;
	blob(in, section, NETVSP_SEND_SECTION);
	send_rndis(in, NVSP_CHANNEL_DATA, number(in, 1));
}

static void op_control(struct input *in)
{
	static const u32 types[] = { 2, 3, 4, 4, 4, 5, 5, 6, 8 };
	static const u32 groups[] = { 0x00010100, 0x00010200, 0x00020100, 0x01010100, 0x01020100 };
	u8 *page = card_page(&c);
	struct rndis_request *q = (void *)page;
	u32 bytes;

	memset(page, 0, 1024);
	bytes = (u32)sizeof(*q) + blob(in, page + sizeof(*q), 1000);
	*q = (struct rndis_request){
		.header = { types[number(in, 1) % ARRAY_SIZE(types)], bytes },
		.request_id = 1,
		.oid = groups[number(in, 1) % ARRAY_SIZE(groups)] | (number(in, 1) & 0x1f),
		.info_bytes = bytes - sizeof(*q),
		.info_offset = sizeof(*q) - RNDIS_HEADER_BYTES,
	};
	switch (number(in, 1) % 8) {
	case 0:
		q->oid = RNDIS_OID_TCP_OFFLOAD_PARAMETERS;
		break;
	case 1:
		q->oid = RNDIS_OID_GEN_RECEIVE_SCALE_PARAMETERS;
		break;
	case 2:
		q->oid = RNDIS_OID_GEN_RNDIS_CONFIG_PARAMETER;
		break;
	case 3:
		q->oid = RNDIS_OID_TCP_OFFLOAD_HARDWARE_CAPABILITIES;
		break;
	case 4:
		q->oid = RNDIS_OID_GEN_CURRENT_PACKET_FILTER;
		break;
	}
	patch(in, page, 40);
	send_rndis(in, NVSP_CHANNEL_CONTROL, bytes);
}

static void op_network(struct input *in)
{
	static u8 frame[NET_FRAME_MAX + 65536];

	for (u32 n = number(in, 1) % 40; n; n--) {
		u32 bytes = make_frame(in, frame), how = number(in, 1);
		struct net_meta meta = {
			.needs_csum = how & 1,
			.csum_ok = how & 2,
			.gso = (u8)(how >> 2 & 3) % 3,
			.gso_bytes = (u16)number(in, 2),
		};

		if (meta.gso_bytes < 500)
			meta.gso_bytes = 500; /* the kernel's word, but a small one takes long */
		if (c.be.sink->rx_room(c.be.sink_ctx) || how & 0x80)
			card_deliver(&c, frame, bytes, &meta);
	}
	c.be.sink->rx_end(c.be.sink_ctx);
	guest_run(&c.g);
}

static void op_take(struct input *in)
{
	struct guest_channel *ch = channel(in);
	u32 done[2] = { NVSP_SEND_RNDIS_PKT_COMPLETE, NVSP_STATUS_SUCCESS };
	u32 how = number(in, 1);

	for (u32 n = how % 64; n && guest_read(ch, &c.pkt); n--)
		if (c.pkt.h.type == VMBUS_PACKET_XFER_PAGES && !(how & 0x80))
			put(ch, VMBUS_PACKET_COMPLETION, c.pkt.h.transaction_id, NULL, 0, done, 8);
}

static void op_complete(struct input *in)
{
	u32 done[2] = { NVSP_SEND_RNDIS_PKT_COMPLETE, NVSP_STATUS_SUCCESS };
	u64 xid = number(in, 1);

	if (xid == 255)
		xid = (u64)number(in, 4) << 32 | number(in, 4);
	put(channel(in), VMBUS_PACKET_COMPLETION, xid, NULL, 0, done, 8);
}

static void op_link(struct input *in)
{
	u32 how = number(in, 1);

	netvsp_set_link(c.nv, how & 1);
	guest_advance(&c.g, how & 2 ? NETVSP_LINK_SPACING_NS : 0);
}

/* Messages so far: what is offered and what is taken back. */
static void take_messages(void)
{
	const struct fake_message *m;

	while ((m = guest_take(&c.g))) {
		const struct vmbus_offer_channel *o = (const void *)m->payload;
		const struct vmbus_relid_message *r = (const void *)m->payload;
		u32 index = o->subchannel_index;

		if (o->header.type == VMBUS_OFFER_CHANNEL && index && index < CARD_CHANNELS)
			c.ch[index] = (struct guest_channel){ .g = &c.g, .offer = *o };
		for (u32 i = 1; i < CARD_CHANNELS; i++)
			if (r->header.type == VMBUS_RESCIND_OFFER &&
			    c.ch[i].offer.relid == r->relid)
				memset(&c.ch[i], 0, sizeof(c.ch[i]));
	}
}

static void op_subchannels(struct input *in)
{
	struct nvsp_message ask = { .type = NVSP_SUBCHANNEL, .subchannel = { 1, 3 } };

	put(&c.ch[0], VMBUS_PACKET_INBAND, 3, NULL, 0, &ask, sizeof(ask));
	take_messages();
	for (u32 i = 1; i < CARD_CHANNELS; i++) {
		struct guest_channel *ch = &c.ch[i];

		if (!ch->offer.relid || ch->pages)
			continue;
		ch->pages = CARD_RING_PAGES;
		ch->ring_gpa = guest_alloc(&c.g, 2 * CARD_RING_PAGES);
		ch->gpadl = c.g.next_gpadl++;
		guest_gpadl(&c.g, ch->offer.relid, ch->gpadl, ch->ring_gpa, 2 * CARD_RING_PAGES);
		guest_rings_init(ch);
		guest_post_open(ch, 0);
		take_messages();
	}
}

static void op_close(struct input *in)
{
	u32 index = number(in, 1);

	/* Mostly a sub-channel: with the primary the game is over. */
	if (index < CARD_CHANNELS && (index || number(in, 1) == 0) && c.ch[index].pages)
		guest_post_relid(&c.g, VMBUS_CLOSE_CHANNEL, c.ch[index].offer.relid);
}

static void (*const ops[])(struct input *in) = {
	op_message,	op_nvsp,     op_data,	 op_data,    op_data, op_section,
	op_control,	op_control,  op_network, op_network, op_take, op_take,
	op_subchannels, op_complete, op_link,	 op_close,
};

static u32 chain(u32 first)
{
	u32 n = 0;

	for (; first != NETVSP_NONE; first = c.nv->next[first], n++)
		must(first < c.nv->recv.section_count && n < c.nv->recv.section_count);
	return n;
}

static void check(void)
{
	struct netvsp *nv = c.nv;
	u32 sum = nv->free_count + nv->control_count;

	if (!nv->recv.gpadl) {
		must(!nv->free && !nv->free_count);
		return;
	}
	for (u32 i = 0; i < NETVSP_CHANNELS_MAX; i++)
		if (nv->channel[i] && nv->channel[i]->batch.count)
			sum += chain(nv->channel[i]->batch.first);
	for (u32 i = 0; i < nv->recv.section_count; i++)
		if (nv->owner[i])
			sum += chain(i);
	must(sum == nv->recv.section_count);
}

/* A reset VM, which costs less than a new one and is another way to close. */
static void restart(void)
{
	static u64 free_gpa;

	if (!free_gpa) {
		log_set_level(LOG_ERROR);
		card_init(&c);
		free_gpa = c.g.next_gpa;
		return;
	}
	vmbus_server_reset(c.g.srv);
	must(!c.nv->recv.gpadl && !c.nv->send.gpadl && c.nv->version == 0);
	for (u32 i = 0; i < NETVSP_CHANNELS_MAX; i++)
		must(!c.nv->channel[i]);
	netvsp_set_link(c.nv, true);
	guest_advance(&c.g, 2 * NETVSP_LINK_SPACING_NS);
	c.g.next_gpa = free_gpa;
	c.g.next_gpadl = 0xe1e10;
	c.g.taken = c.g.count;
	memset(c.ch, 0, sizeof(c.ch));
	c.xid = 0x1000;
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	struct input in = { data, size };
	u32 rounds = 0;

	restart();
	card_start(&c, size && data[0] & 1);
	while (in.left && rounds++ < 64) {
		u32 op = number(&in, 1);

		ops[op % ARRAY_SIZE(ops)](&in);
		check();
	}
	return 0;
}
