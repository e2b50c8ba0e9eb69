// SPDX-License-Identifier: MIT
/* The card as Linux netvsc drives it, data both ways, and guests that lie. */
#include "vsp/netvsp.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include "vsp/netvsp_testing.h"

#include <cmocka.h>

static struct card c;
static u8 frame[NET_FRAME_MAX], message[2 * NET_FRAME_MAX];

static int setup(void **state)
{
	card_init(&c);
	return 0;
}

static int teardown(void **state)
{
	card_fini(&c);
	return 0;
}

/* ---- conversation ---- */

/* Linux 6.12 and 7.3 netvsc_probe(): requests in this order, and what it must get. */
static void golden_start(void **state)
{
	static const u8 init[40] = { 1, 0, 0, 0, 1, 0, 6, 0, 1, 0, 6, 0 };
	static const u8 init_complete[40] = { 2, 0, 0, 0, 1, 0, 6, 0, 34, 0, 0, 0, 1 };
	static const u8 config[40] = { 125, 0, 0, 0, 0xea, 0x05, 0, 0, 0, 0, 0, 0, 0x8c };
	static const u8 ndis_version[40] = { 100, 0, 0, 0, 6, 0, 0, 0, 30 };
	static const u8 recv_complete[40] = { 102, 0, 0, 0,    1, 0, 0, 0, 1, 0, 0, 0, 0,   0,
					      0,   0, 0, 0x10, 0, 0, 0, 2, 0, 0, 0, 0, 0x20 };
	static const u8 send_complete[40] = { 105, 0, 0, 0, 1, 0, 0, 0, 0, 0x18 };
	static const u8 rndis_init[24] = { 2, 0, 0, 0, 24, 0, 0, 0, 2, 0, 0,
					   0, 1, 0, 0, 0,  0, 0, 0, 0, 0, 0x40 };
	static const u8 rndis_init_complete[52] = { 2, 0, 0, 0x80, 52,	 0, 0, 0, 2, 0, 0,
						    0, 0, 0, 0,	   0,	 1, 0, 0, 0, 0, 0,
						    0, 0, 1, 0,	   0,	 0, 0, 0, 0, 0, 8,
						    0, 0, 0, 0,	   0x40, 0, 0, 3, 0, 0, 0 };
	static const u8 query_mac[28] = { 4, 0, 0, 0, 28, 0, 0, 0, 3, 0, 0,
					  0, 1, 1, 1, 1,  0, 0, 0, 0, 20 };
	static const u8 mac_answer[30] = { 4,  0, 0, 0x80, 30, 0,    0,	   0,	 3,    0,
					   0,  0, 0, 0,	   0,  0,    6,	   0,	 0,    0,
					   16, 0, 0, 0,	   2,  0x11, 0x22, 0x33, 0x44, 0x55 };

	card_open(&c);
	assert_memory_equal(card_ask(&c, init, 40), init_complete, 40);
	card_tell(&c, config, 40);
	card_tell(&c, ndis_version, 40);
	assert_memory_equal(card_recv_buf(&c), recv_complete, 40);
	assert_memory_equal(card_send_buf(&c), send_complete, 40);
	assert_memory_equal(card_control(&c, rndis_init, 24), rndis_init_complete, 52);
	assert_memory_equal(card_control(&c, query_mac, 28), mac_answer, 30);
	assert_int_equal(c.nv->mtu, 1500);
}

static void golden_offload_capabilities(void **state)
{
	static const struct {
		u8 revision;
		u32 bytes;
	} rows[] = { { 1, 112 }, { 2, 144 }, { 3, 156 } };
	const struct rndis_query_complete *r;
	struct ndis_offload o;

	card_start(&c, true);
	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		struct ndis_offload ask = { .header = { NDIS_OBJECT_OFFLOAD, rows[i].revision,
							(u16)rows[i].bytes } };

		r = card_query(&c, RNDIS_OID_TCP_OFFLOAD_HARDWARE_CAPABILITIES, &ask,
			       rows[i].bytes);
		assert_int_equal(r->info_bytes, rows[i].bytes);
		memset(&o, 0, sizeof(o));
		memcpy(&o, r + 1, r->info_bytes);
		assert_int_equal(o.header.type, 0xa7);
		assert_int_equal(o.header.bytes, rows[i].bytes);
		assert_int_equal(o.ip4_tx_csum & 0x54, 0x54);
		assert_int_equal(o.ip6_tx_csum & 0x55, 0x55);
		assert_int_equal(o.lso_ip4_encap & 2, 2);
		assert_int_equal(o.lso_ip6_options & 5, 5);
		assert_int_equal(o.rsc_ip4, i == 2);
	}
}

static void versions(void **state)
{
	static const u32 known[] = { 0x60001, 0x60000, 0x50000, 0x40000, 0x30002, 2 };

	card_open(&c);
	assert_int_equal(card_version(&c, 0x60002), NVSP_STATUS_FAIL);
	assert_int_equal(card_version(&c, 0x70000), NVSP_STATUS_FAIL);
	assert_int_equal(card_version(&c, 1), NVSP_STATUS_FAIL);
	for (u32 i = 0; i < ARRAY_SIZE(known); i++) {
		assert_int_equal(card_version(&c, known[i]), NVSP_STATUS_SUCCESS);
		assert_int_equal(c.nv->version, known[i]);
	}
	/* Not below the version that has it: no sub-channels here. */
	struct nvsp_message m = { .type = NVSP_SUBCHANNEL, .subchannel = { 1, 1 } };
	assert_int_equal(card_ask(&c, &m, sizeof(m))->rndis_complete.status,
			 NVSP_STATUS_UNSUPPORTED);
}

static void every_oid_answers(void **state)
{
	const struct rndis_query_complete *r;
	u32 list[128], count;

	card_start(&c, true);
	r = card_query(&c, RNDIS_OID_GEN_SUPPORTED_LIST, NULL, 0);
	count = r->info_bytes / 4;
	assert_true(count > 30 && count < ARRAY_SIZE(list));
	memcpy(list, r + 1, r->info_bytes);
	for (u32 i = 0; i < count; i++) {
		for (u32 j = 0; j < i; j++)
			assert_int_not_equal(list[i], list[j]);
		r = card_query(&c, list[i], NULL, 0);
		if (r->status == RNDIS_STATUS_NOT_SUPPORTED) /* one to be set */
			assert_int_not_equal(card_set(&c, list[i], "", 0),
					     RNDIS_STATUS_NOT_SUPPORTED);
		else
			assert_true(r->status == 0 && r->info_bytes > 0 && r->info_offset == 16);
	}
	r = card_query(&c, 0x12345678, NULL, 0);
	assert_int_equal(r->status, RNDIS_STATUS_NOT_SUPPORTED);
	assert_int_equal(r->info_bytes, 0);
	r = card_query(&c, RNDIS_OID_GEN_LINK_SPEED, NULL, 0);
	assert_int_equal(*(const u32 *)(r + 1), 100000000);
	r = card_query(&c, RNDIS_OID_GEN_FRIENDLY_NAME, NULL, 0);
	assert_memory_equal(r + 1, "u\0p\0l\0i\0n\0k\0", 12);
}

/* Linux rndis_filter_set_device_mac(). */
static void guest_sets_its_mac(void **state)
{
	static const char text[] = "NetworkAddress021a2b3c4d5e";
	struct rndis_config_parameter p = { 20, 28, 2, 48, 24 };
	static const u8 mac[6] = { 0x02, 0x1a, 0x2b, 0x3c, 0x4d, 0x5e };
	u8 info[72] = { 0 };

	card_start(&c, true);
	memcpy(info, &p, sizeof(p));
	for (u32 i = 0; i < 26; i++)
		info[20 + 2 * i] = (u8)text[i];
	assert_int_equal(card_set(&c, RNDIS_OID_GEN_RNDIS_CONFIG_PARAMETER, info, 72), 0);
	assert_memory_equal(c.nv->mac, mac, 6);
	assert_int_not_equal(card_set(&c, RNDIS_OID_GEN_RNDIS_CONFIG_PARAMETER, info, 71), 0);
}

static void simple_messages(void **state)
{
	struct rndis_simple keepalive = { { RNDIS_KEEPALIVE, 12 }, 77 };
	struct rndis_simple reset = { { RNDIS_RESET, 12 }, 0 };
	struct rndis_simple halt = { { RNDIS_HALT, 12 }, 5 };
	const struct rndis_set_complete *r;

	card_start(&c, true);
	r = card_control(&c, &keepalive, 12);
	assert_int_equal(r->header.type, RNDIS_KEEPALIVE | RNDIS_COMPLETE);
	assert_int_equal(r->request_id, 77);
	r = card_control(&c, &reset, 12);
	assert_int_equal(r->header.type, RNDIS_RESET | RNDIS_COMPLETE);
	assert_int_equal(c.nv->filter, 0);
	memcpy(card_page(&c), &halt, 12);
	card_send_pages(&c, &c.ch[0], 9, NVSP_CHANNEL_CONTROL, NVSP_NO_SECTION, 0, 0, 12);
	assert_int_equal(card_sent(&c, &c.ch[0], 9), NVSP_STATUS_SUCCESS);
	assert_false(guest_read(&c.ch[0], &c.pkt)); /* no answer */
	assert_int_equal(c.nv->rndis, RNDIS_STATE_HALTED);
}

/* ---- from the guest ---- */

static u32 send_message(u32 bytes)
{
	memcpy(card_page(&c), message, bytes);
	card_send_pages(&c, &c.ch[0], 50, NVSP_CHANNEL_DATA, NVSP_NO_SECTION, 0, 0, bytes);
	return card_sent(&c, &c.ch[0], 50);
}

static void tx_pages(void **state)
{
	u32 bytes;

	card_start(&c, true);
	bytes = card_tcp4(frame, card_mac, 1, 2, 3, 4, 1000);
	assert_int_equal(send_message(card_rndis_packet(message, NULL, 0, frame, bytes)),
			 NVSP_STATUS_SUCCESS);
	assert_int_equal(c.frames, 1);
	assert_int_equal(c.frame[0].bytes, bytes);
	assert_memory_equal(c.frame[0].data, frame, bytes);
	assert_int_equal(c.frame[0].meta.needs_csum, 0);
	assert_true(c.ends > 0);
}

/* netvsc_send() with xmit_more: messages in one section, the last one's data in pages. */
static void tx_batch_in_section(void **state)
{
	u8 *section;
	u32 at = 0, last, n, bytes;

	card_start(&c, true);
	section = (u8 *)guest_ptr(&c.g, c.send_gpa) + 3 * NETVSP_SEND_SECTION;
	for (u32 i = 0; i < 3; i++) {
		bytes = card_tcp4(frame, card_mac, 1, 2, (u16)i, 4, 101 + i);
		n = card_rndis_packet(section + at, NULL, 0, frame, bytes);
		n = (u32)align_up(n, 8);
		memcpy(section + at + 4, &n, 4);
		at += n;
	}
	bytes = card_tcp4(frame, card_mac, 1, 2, 3, 4, 3000);
	last = card_rndis_packet(message, NULL, 0, frame, bytes);
	memcpy(section + at, message, 44);
	memcpy(card_page(&c) + 100, frame, bytes);
	card_send_pages(&c, &c.ch[0], 51, NVSP_CHANNEL_DATA, 3, at + 44, 100, last - 44);
	assert_int_equal(card_sent(&c, &c.ch[0], 51), NVSP_STATUS_SUCCESS);
	assert_int_equal(c.frames, 4);
	for (u32 i = 0; i < 3; i++) {
		assert_int_equal(c.frame[i].bytes, 54 + 101 + i);
		assert_int_equal(net_get16(c.frame[i].data + 34), i);
	}
	assert_int_equal(c.frame[3].bytes, bytes);
	assert_memory_equal(c.frame[3].data, frame, bytes);
	/* Everything in the section, in-band. */
	card_send_pages(&c, &c.ch[0], 52, NVSP_CHANNEL_DATA, 3, at, 0, 0);
	assert_int_equal(card_sent(&c, &c.ch[0], 52), NVSP_STATUS_SUCCESS);
	assert_int_equal(c.frames, 7);
}

static void tx_offloads(void **state)
{
	const struct card_frame *f;
	u8 ppi[64];
	u32 bytes, n;

	card_start(&c, true);
	bytes = card_tcp4(frame, card_mac, 0x0a000201, 0x0a000202, 3, 4, 100);
	n = card_ppi(ppi, RNDIS_PPI_CHECKSUM,
		     RNDIS_TXCSUM_IPV4 | RNDIS_TXCSUM_TCP | RNDIS_TXCSUM_IP_HEADER | 34 << 16);
	assert_int_equal(send_message(card_rndis_packet(message, ppi, n, frame, bytes)), 1);
	f = &c.frame[0];
	assert_true(f->meta.needs_csum);
	assert_int_equal(f->meta.csum_start, 34);
	assert_int_equal(f->meta.csum_offset, 16);
	assert_int_equal(f->meta.gso, NET_GSO_NONE);
	assert_int_equal(net_sum_fold(net_sum(f->data + 14, 20, 0)), 0xffff);

	/* Large: IP length and checksum 0, as Linux leaves them; a tag beside. */
	bytes = card_tcp4(frame, card_mac, 0x0a000201, 0x0a000202, 3, 4, 20000);
	net_put16(frame + 16, 0);
	n = card_ppi(ppi, RNDIS_PPI_8021Q, 5 | 0x123 << 4);
	n += card_ppi(ppi + n, RNDIS_PPI_LARGE_SEND, 1460 | 34 << 20 | RNDIS_LSO_V2);
	assert_int_equal(send_message(card_rndis_packet(message, ppi, n, frame, bytes)), 1);
	f = &c.frame[1];
	assert_int_equal(f->bytes, bytes + 4);
	assert_int_equal(net_get16(f->data + 12), NET_ETH_VLAN);
	assert_int_equal(net_get16(f->data + 14), 0xa123);
	assert_int_equal(f->meta.gso, NET_GSO_TCP4);
	assert_int_equal(f->meta.gso_bytes, 1460);
	assert_int_equal(f->meta.header_bytes, 58);
	assert_int_equal(f->meta.csum_start, 38);
	assert_int_equal(net_get16(f->data + 20), 20040);
	assert_int_equal(net_sum_fold(net_sum(f->data + 18, 20, 0)), 0xffff);
	assert_memory_equal(f->data + 58, frame + 54, 20000);
}

static void tx_refuses_nonsense(void **state)
{
	static const struct {
		u32 at, value; /* u32 overwritten in the message */
	} rows[] = {
		{ 0, 99 }, /* type */
		{ 4, 7 },  /* length */
		{ 4, 43 },
		{ 4, 0xfffffff8 },
		{ 4, 200 },	   /* shorter than its data */
		{ 8, 0xffffffff }, /* data offset */
		{ 8, 1000 },
		{ 12, 0xffffffff }, /* data bytes */
		{ 12, 13 },
		{ 12, 0 },
		{ 28, 0xfffffff0 }, /* information offset */
		{ 32, 0xffffffff }, /* and bytes */
		{ 32, 11 },
		{ 32, 600 },
		{ 44, 11 }, /* bytes of one */
		{ 44, 0 },
		{ 44, 0xffffffff },
		{ 44, 40 },
		{ 52, 0xffffffff }, /* offset of its value */
		{ 52, 13 },
		{ 52, 0 },
		{ 56, 34 << 20 | RNDIS_LSO_V2 }, /* no segment size */
	};
	u8 ppi[64];
	u32 bytes, n, total;

	card_start(&c, true);
	bytes = card_tcp4(frame, card_mac, 1, 2, 3, 4, 300);
	n = card_ppi(ppi, RNDIS_PPI_LARGE_SEND, 100 | 34 << 20 | RNDIS_LSO_V2);
	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		total = card_rndis_packet(message, ppi, n, frame, bytes);
		memcpy(message + rows[i].at, &rows[i].value, 4);
		assert_int_equal(send_message(total), NVSP_STATUS_INVALID_RNDIS);
		assert_int_equal(c.frames, 0);
	}
	/* Sections that are not there. */
	card_send_pages(&c, &c.ch[0], 60, 0, 170, 100, 0, 0);
	assert_int_equal(card_sent(&c, &c.ch[0], 60), NVSP_STATUS_INVALID_RNDIS);
	card_send_pages(&c, &c.ch[0], 61, 0, 0, NETVSP_SEND_SECTION + 1, 0, 0);
	assert_int_equal(card_sent(&c, &c.ch[0], 61), NVSP_STATUS_INVALID_RNDIS);
	card_send_pages(&c, &c.ch[0], 62, 0, NVSP_NO_SECTION, 0, 0, 0);
	assert_int_equal(card_sent(&c, &c.ch[0], 62), NVSP_STATUS_INVALID_RNDIS);
	assert_int_equal(c.frames, 0);
	/* Still alive. */
	total = card_rndis_packet(message, ppi, n, frame, bytes);
	assert_int_equal(send_message(total), NVSP_STATUS_SUCCESS);
}

/* ---- to the guest ---- */

static u32 find_ppi(const u8 *msg, u32 type, u32 *value)
{
	const struct rndis_packet *p = (const void *)msg;
	u32 at = 0, found = 0;

	/* As Linux rndis_get_ppi(), which loops for ever on what is wrong here. */
	if (p->ppi_offset == 0)
		return 0;
	while (at < p->ppi_bytes) {
		const struct rndis_ppi *q = (const void *)(msg + 8 + p->ppi_offset + at);

		assert_true(q->bytes >= 16 && q->bytes <= p->ppi_bytes - at &&
			    q->offset < q->bytes);
		if (q->type == type) {
			memcpy(value, (const u8 *)q + q->offset, 4);
			found++;
		}
		at += q->bytes;
	}
	return found;
}

/* Reads one data packet; appends the frames' data. Returns ranges. */
static u32 read_data(struct guest_channel *ch, u8 *out, u32 *out_bytes, u64 *xid)
{
	const struct vmbus_xfer_range *r;
	u32 count;

	assert_true(guest_read(ch, &c.pkt));
	count = card_ranges(&c, NVSP_CHANNEL_DATA, &r);
	*xid = c.pkt.h.transaction_id;
	for (u32 i = 0; i < count; i++) {
		const u8 *msg = card_recv_ptr(&c, r[i].byte_offset);
		const struct rndis_packet *p = (const void *)msg;

		assert_int_equal(p->header.type, RNDIS_PACKET);
		assert_int_equal(p->header.length, r[i].byte_count);
		assert_int_equal(8 + p->data_offset + p->data_bytes, r[i].byte_count);
		memcpy(out + *out_bytes, msg + 8 + p->data_offset, p->data_bytes);
		*out_bytes += p->data_bytes;
	}
	return count;
}

static void rx_batch(void **state)
{
	static u8 got[16384];
	struct net_meta ok = { .csum_ok = true };
	const struct vmbus_xfer_range *r;
	u32 bytes, got_bytes = 0, value = 0, free_before;
	u64 xid;

	card_start(&c, true);
	free_before = c.nv->free_count;
	for (u32 i = 0; i < 5; i++) {
		bytes = card_tcp4(frame, card_mac, 1, 2, (u16)i, 4, 1000);
		card_deliver(&c, frame, bytes, i ? &ok : NULL);
	}
	assert_false(guest_read(&c.ch[0], &c.pkt)); /* not before the run is over */
	card_deliver_end(&c);
	assert_int_equal(read_data(&c.ch[0], got, &got_bytes, &xid), 5);
	assert_int_equal(got_bytes, 5 * 1054);
	assert_memory_equal(got + 4 * 1054, frame, 1054);
	card_ranges(&c, NVSP_CHANNEL_DATA, &r);
	assert_int_equal(find_ppi(card_recv_ptr(&c, r[0].byte_offset), 0, &value), 0);
	assert_int_equal(find_ppi(card_recv_ptr(&c, r[1].byte_offset), 0, &value), 1);
	assert_int_equal(value, RNDIS_RXCSUM_IP_OK | RNDIS_RXCSUM_TCP_OK);
	assert_int_equal(c.nv->free_count, free_before - 5);
	card_release(&c, &c.ch[0], xid + 1); /* not the first of a packet */
	card_release(&c, &c.ch[0], 0);
	card_release(&c, &c.ch[0], 1ull << 40);
	assert_int_equal(c.nv->free_count, free_before - 5);
	card_release(&c, &c.ch[0], xid);
	card_release(&c, &c.ch[0], xid); /* twice */
	assert_int_equal(c.nv->free_count, free_before);
}

static void rx_filter(void **state)
{
	static const u8 other[6] = { 2, 9, 9, 9, 9, 9 }, all[6] = { 255, 255, 255, 255, 255, 255 };
	static const u8 multicast[6] = { 1, 0, 0x5e, 0, 0, 1 };
	static const struct {
		const u8 *mac;
		u32 filter;
		bool taken;
	} rows[] = {
		{ card_mac, 0, false }, { card_mac, 1, true },	 { card_mac, 8, false },
		{ other, 1, false },	{ other, 0x20, true },	 { all, 1, false },
		{ all, 9, true },	{ multicast, 9, false }, { multicast, 4, true },
		{ multicast, 2, true },
	};
	u32 bytes, got_bytes;
	static u8 got[2048];
	u64 xid;

	card_start(&c, true);
	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_int_equal(
			card_set(&c, RNDIS_OID_GEN_CURRENT_PACKET_FILTER, &rows[i].filter, 4), 0);
		bytes = card_tcp4(frame, rows[i].mac, 1, 2, 3, 4, 10);
		card_deliver(&c, frame, bytes, NULL);
		card_deliver_end(&c);
		got_bytes = 0;
		if (rows[i].taken) {
			assert_int_equal(read_data(&c.ch[0], got, &got_bytes, &xid), 1);
			card_release(&c, &c.ch[0], xid);
		} else {
			assert_false(guest_read(&c.ch[0], &c.pkt));
		}
	}
}

static void rx_tag(void **state)
{
	static u8 got[2048];
	const struct vmbus_xfer_range *r;
	u32 bytes, got_bytes = 0, value = 0;
	u64 xid;

	card_start(&c, true);
	bytes = card_tcp4(frame, card_mac, 1, 2, 3, 4, 100);
	memmove(frame + 16, frame + 12, bytes - 12);
	net_put16(frame + 12, NET_ETH_VLAN);
	net_put16(frame + 14, 0xa123);
	card_deliver(&c, frame, bytes + 4, NULL);
	card_deliver_end(&c);
	assert_int_equal(read_data(&c.ch[0], got, &got_bytes, &xid), 1);
	assert_int_equal(got_bytes, bytes);
	assert_memory_equal(got, frame, 12);
	assert_memory_equal(got + 12, frame + 16, bytes - 12);
	card_ranges(&c, NVSP_CHANNEL_DATA, &r);
	assert_int_equal(find_ppi(card_recv_ptr(&c, r[0].byte_offset), RNDIS_PPI_8021Q, &value), 1);
	assert_int_equal(value, 5 | 0x123 << 4);
}

static void rx_large_in_pieces(void **state)
{
	static u8 got[2 * NET_FRAME_MAX];
	struct net_meta meta = {
		.csum_ok = true, .gso = NET_GSO_TCP4, .gso_bytes = 1460, .header_bytes = 54
	};
	const struct vmbus_xfer_range *r;
	u32 bytes, got_bytes = 0, count, value;
	u64 xid;

	card_start(&c, true);
	assert_true(c.caps.large_tcp4 && c.caps.large_tcp6);
	bytes = card_tcp4(frame, card_mac, 1, 2, 3, 4, 60000);
	card_deliver(&c, frame, bytes, &meta);
	card_deliver(&c, frame, bytes, &meta);
	card_deliver_end(&c);
	count = read_data(&c.ch[0], got, &got_bytes, &xid);
	assert_int_equal(count, 32);
	card_ranges(&c, NVSP_CHANNEL_DATA, &r);
	for (u32 i = 0; i < count; i++) {
		struct rndis_packet_id id;

		assert_int_equal(
			find_ppi(card_recv_ptr(&c, r[i].byte_offset), RNDIS_PPI_PACKET_ID, &value),
			1);
		memcpy(&id, &value, 4);
		assert_int_equal(id.flags, 1 | (i % 16 == 0 ? 2 : 0) | (i % 16 == 15 ? 4 : 0));
		assert_int_equal(id.id, i / 16);
	}
	assert_int_equal(got_bytes, 2 * bytes);
	assert_memory_equal(got, frame, bytes);
	card_release(&c, &c.ch[0], xid);
}

/* The guest has turned it off (Linux does so when it forwards): cut, with right sums. */
static void rx_large_cut(void **state)
{
	static u8 got[2 * NET_FRAME_MAX];
	struct net_meta meta = {
		.needs_csum = true, .gso = NET_GSO_TCP4, .gso_bytes = 1460, .header_bytes = 54
	};
	u32 bytes, got_bytes = 0, count, payload = 0;
	u64 xid;

	card_start(&c, false);
	assert_false(c.caps.large_tcp4 || c.caps.large_tcp6);
	bytes = card_tcp4(frame, card_mac, 1, 2, 3, 4, 20000);
	card_deliver(&c, frame, bytes, &meta);
	card_deliver_end(&c);
	count = read_data(&c.ch[0], got, &got_bytes, &xid);
	assert_int_equal(count, 14);
	for (u32 i = 0, at = 0; i < count; i++) {
		u32 n = i == 13 ? 54 + 20000 - 13 * 1460 : 1514;
		struct net_headers h;

		net_headers_parse(got + at, n, &h);
		assert_int_equal(net_get16(got + at + 16), n - 14);
		assert_int_equal(net_get32(got + at + 38), 1000 + payload);
		assert_int_equal(net_sum_fold(net_sum(got + at + 14, 20, 0)), 0xffff);
		assert_int_equal(net_sum_fold(net_sum(got + at + 34, n - 34,
						      net_sum_pseudo(got + at, &h, n - 34))),
				 0xffff);
		assert_memory_equal(got + at + 54, frame + 54 + payload, n - 54);
		payload += n - 54;
		at += n;
	}
	assert_int_equal(payload, 20000);
}

static void rx_backpressure(void **state)
{
	static u8 got[65 * 2048];
	u32 bytes, delivered = 0, read = 0, got_bytes;
	u64 xid;

	card_start(&c, true);
	bytes = card_tcp4(frame, card_mac, 1, 2, 3, 4, 1000);
	while (c.be.sink->rx_room(c.be.sink_ctx)) {
		card_deliver(&c, frame, bytes, NULL);
		if (++delivered % 8 == 0)
			card_deliver_end(&c);
	}
	card_deliver_end(&c);
	assert_true(delivered > 300 && c.resumes == 0);
	assert_int_equal(c.nv->stats.rx_dropped, 0);
	while (read < delivered) {
		got_bytes = 0;
		read += read_data(&c.ch[0], got, &got_bytes, &xid);
		card_release(&c, &c.ch[0], xid);
	}
	assert_int_equal(read, delivered);
	assert_true(c.resumes > 0);
	assert_true(c.be.sink->rx_room(c.be.sink_ctx));
	assert_int_equal(c.nv->free_count, c.suballoc_count);
}

static void rx_ring_full(void **state)
{
	static u8 got[65 * 2048];
	u32 bytes, delivered = 0, read = 0, got_bytes;
	u64 xids[512], xid;
	u32 packets = 0;

	card_start(&c, true);
	bytes = card_tcp4(frame, card_mac, 1, 2, 3, 4, 10);
	/* Large packets into a ring nobody reads, suballocations given back as if they were read.
	 */
	while (delivered < 100000 && !c.nv->channel[0]->blocked) {
		for (u32 i = 0; i < 2; i++, delivered++)
			card_deliver(&c, frame, bytes, NULL);
		card_deliver_end(&c);
		if (c.nv->free_count < 100)
			for (u32 i = 0; i < c.nv->recv.section_count; i++)
				if (c.nv->owner[i] == 1)
					netvsp_rx_complete(c.nv, c.nv->channel[0], i + 1);
	}
	assert_true(c.nv->channel[0]->blocked);
	assert_false(c.be.sink->rx_room(c.be.sink_ctx));
	while (guest_read(&c.ch[0], &c.pkt)) {
		const struct vmbus_xfer_range *r;

		read += card_ranges(&c, NVSP_CHANNEL_DATA, &r);
		if (packets < ARRAY_SIZE(xids))
			xids[packets++] = c.pkt.h.transaction_id;
	}
	assert_int_equal(read, delivered); /* the waiting batch came by itself */
	assert_false(c.nv->channel[0]->blocked);
	assert_true(c.resumes > 0);
	for (u32 i = 0; i < packets; i++)
		card_release(&c, &c.ch[0], xids[i]);
	card_deliver(&c, frame, bytes, NULL);
	card_deliver_end(&c);
	got_bytes = 0;
	assert_int_equal(read_data(&c.ch[0], got, &got_bytes, &xid), 1);
}

/* ---- sub-channels ---- */

static void open_subchannels(u32 count)
{
	struct nvsp_message m = { .type = NVSP_SUBCHANNEL, .subchannel = { 1, count } };
	const struct nvsp_message *r = card_ask(&c, &m, sizeof(m));
	const struct nvsp_indirection_table *t;

	assert_int_equal(r->type, NVSP_SUBCHANNEL);
	assert_int_equal(r->subchannel_complete.status, NVSP_STATUS_SUCCESS);
	assert_int_equal(r->subchannel_complete.count, min_u64(count, CARD_CHANNELS - 1));
	for (u32 i = 1; i < CARD_CHANNELS; i++) {
		guest_expect_offer(&c.g, &c.ch[i]);
		assert_int_equal(c.ch[i].offer.subchannel_index, i);
	}
	for (u32 i = 1; i < CARD_CHANNELS; i++)
		assert_int_equal(guest_open(&c.ch[i], CARD_RING_PAGES, i), 0);
	assert_true(guest_read(&c.ch[0], &c.pkt));
	assert_int_equal(c.pkt.h.type, VMBUS_PACKET_INBAND);
	t = guest_packet_payload(&c.pkt);
	assert_int_equal(c.pkt.bytes, 104);
	assert_int_equal(t->type, NVSP_SEND_INDIRECTION_TABLE);
	assert_int_equal(t->count, 16);
	assert_int_equal(t->offset, 40);
	for (u32 i = 0; i < 16; i++)
		assert_int_equal(t->entry[i], i % CARD_CHANNELS);
}

/* Linux rndis_set_rss_param_msg(). */
static u32 set_rss(const u8 *key, u16 flags)
{
	u8 info[40 + 512 + 40] = { 0 };
	struct ndis_rss_parameters p = {
		.header = { NDIS_OBJECT_RSS_PARAMETERS, 2, sizeof(p) },
		.flags = flags,
		.hash_info = 1 | NDIS_HASH_IPV4 | NDIS_HASH_TCP_IPV4 | NDIS_HASH_IPV6 |
			     NDIS_HASH_TCP_IPV6,
		.table_bytes = 512,
		.table_offset = sizeof(p),
		.key_bytes = 40,
		.key_offset = sizeof(p) + 512,
	};

	memcpy(info, &p, sizeof(p));
	for (u32 i = 0; i < 128; i++)
		info[sizeof(p) + 4 * i] = (u8)(i % CARD_CHANNELS);
	memcpy(info + p.key_offset, key, 40);
	return card_set(&c, RNDIS_OID_GEN_RECEIVE_SCALE_PARAMETERS, info, sizeof(info));
}

/* Key and vectors of the RSS verification suite of Windows' driver documentation. */
static const u8 rss_key[40] = { 0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67,
				0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb,
				0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30,
				0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa };
static const struct {
	u32 dst, src;
	u16 dport, sport;
	u32 hash;
} rss_rows[] = {
	{ 0xa18e6450, 0x420995bb, 1766, 2794, 0x51ccc178 },
	{ 0x41458c53, 0xc75c6f02, 4739, 14230, 0xc626b0ea },
	{ 0x0c16cfb8, 0x1813c65f, 38024, 12898, 0x5c2b394a },
};

static void receive_steering(void **state)
{
	static u8 got[2048];
	struct nvsp_message again = { .type = NVSP_SUBCHANNEL, .subchannel = { 1, 1 } };
	u32 bytes, got_bytes, value;
	const struct vmbus_xfer_range *r;
	u64 xid;

	card_start(&c, true);
	open_subchannels(CARD_CHANNELS + 5);
	assert_int_equal(card_ask(&c, &again, sizeof(again))->subchannel_complete.status,
			 NVSP_STATUS_FAIL);
	assert_int_equal(set_rss(rss_key, NDIS_RSS_DISABLE), 0);
	assert_int_equal(set_rss(rss_key, 0), 0);
	for (u32 i = 0; i < ARRAY_SIZE(rss_rows); i++) {
		struct guest_channel *ch = &c.ch[rss_rows[i].hash % 128 % CARD_CHANNELS];

		bytes = card_tcp4(frame, card_mac, rss_rows[i].src, rss_rows[i].dst,
				  rss_rows[i].sport, rss_rows[i].dport, 10);
		card_deliver(&c, frame, bytes, NULL);
		c.be.sink->rx_end(c.be.sink_ctx);
		for (u32 k = 0; k < CARD_CHANNELS; k++)
			vmbus_channel_flush(c.nv->channel[k]->ch);
		got_bytes = 0;
		assert_int_equal(read_data(ch, got, &got_bytes, &xid), 1);
		card_ranges(&c, NVSP_CHANNEL_DATA, &r);
		assert_int_equal(
			find_ppi(card_recv_ptr(&c, r[0].byte_offset), RNDIS_PPI_HASH_VALUE, &value),
			1);
		assert_int_equal(value, rss_rows[i].hash);
		if (i != 1) /* that one stays with the guest until its channel closes */
			card_release(&c, ch, xid);
	}
	/* Frames go out on every channel; control messages on the first only. */
	bytes = card_tcp4(frame, card_mac, 1, 2, 3, 4, 100);
	bytes = card_rndis_packet(card_page(&c), NULL, 0, frame, bytes);
	card_send_pages(&c, &c.ch[2], 70, 0, NVSP_NO_SECTION, 0, 0, bytes);
	assert_int_equal(card_sent(&c, &c.ch[2], 70), NVSP_STATUS_SUCCESS);
	assert_int_equal(c.frames, 1);
	memcpy(card_page(&c), &(struct rndis_simple){ { RNDIS_KEEPALIVE, 12 }, 1 }, 12);
	card_send_pages(&c, &c.ch[2], 71, 1, NVSP_NO_SECTION, 0, 0, 12);
	assert_int_equal(card_sent(&c, &c.ch[2], 71), NVSP_STATUS_INVALID_RNDIS);

	assert_int_equal(c.nv->free_count, c.nv->recv.section_count - 1);
	guest_close(&c.ch[rss_rows[1].hash % CARD_CHANNELS]);
	assert_int_equal(c.nv->free_count, c.nv->recv.section_count);
}

/* ---- link and life ---- */

static u32 read_indication(void)
{
	const struct vmbus_xfer_range *r;
	const struct rndis_indicate *in;
	u64 xid;

	vmbus_channel_flush(c.nv->channel[0]->ch);
	if (!guest_read(&c.ch[0], &c.pkt))
		return 0;
	assert_int_equal(card_ranges(&c, NVSP_CHANNEL_CONTROL, &r), 1);
	in = card_recv_ptr(&c, r[0].byte_offset);
	assert_int_equal(in->header.type, RNDIS_INDICATE);
	xid = c.pkt.h.transaction_id;
	card_release(&c, &c.ch[0], xid);
	return in->status;
}

static void link_state(void **state)
{
	u32 bytes;

	card_start(&c, true);
	netvsp_set_link(c.nv, false);
	guest_run(&c.g);
	assert_int_equal(read_indication(), RNDIS_STATUS_MEDIA_DISCONNECT);
	assert_int_equal(
		*(const u32 *)(card_query(&c, RNDIS_OID_GEN_MEDIA_CONNECT_STATUS, NULL, 0) + 1), 1);
	bytes = card_tcp4(frame, card_mac, 1, 2, 3, 4, 100);
	assert_int_equal(send_message(card_rndis_packet(message, NULL, 0, frame, bytes)), 1);
	assert_int_equal(c.frames, 0); /* no cable */
	netvsp_set_link(c.nv, true);
	guest_run(&c.g);
	assert_int_equal(read_indication(), 0); /* too soon */
	guest_advance(&c.g, NETVSP_LINK_SPACING_NS);
	assert_int_equal(read_indication(), RNDIS_STATUS_MEDIA_CONNECT);
	/* Out and in again within the time: nothing to tell. */
	netvsp_set_link(c.nv, false);
	guest_run(&c.g);
	netvsp_set_link(c.nv, true);
	guest_run(&c.g);
	guest_advance(&c.g, 2 * NETVSP_LINK_SPACING_NS);
	assert_int_equal(read_indication(), 0);
	/* The back end's side. */
	c.be.sink->link(c.be.sink_ctx, false);
	assert_int_equal(read_indication(), RNDIS_STATUS_MEDIA_DISCONNECT);
}

static void teardown_gpadl(u32 id)
{
	struct vmbus_gpadl_teardown m = {
		.header.type = VMBUS_GPADL_TEARDOWN,
		.relid = c.ch[0].offer.relid,
		.gpadl = id,
	};

	guest_post(&c.g, &m, sizeof(m));
	guest_expect(&c.g, VMBUS_GPADL_TORNDOWN, 12);
}

/* netvsc_device_remove(), then a change of MTU: the same card anew. */
static void revoke_and_reopen(void **state)
{
	struct nvsp_message revoke_recv = { .type = NVSP_REVOKE_RECV_BUF,
					    .revoke = { NVSP_RECV_BUF_ID } };
	struct nvsp_message revoke_send = { .type = NVSP_REVOKE_SEND_BUF };
	u32 bytes;

	card_start(&c, true);
	bytes = card_tcp4(frame, card_mac, 1, 2, 3, 4, 100);
	card_deliver(&c, frame, bytes, NULL); /* never sent: the buffer goes first */
	card_tell(&c, &revoke_recv, sizeof(revoke_recv));
	card_tell(&c, &revoke_send, sizeof(revoke_send));
	teardown_gpadl(c.recv_gpadl);
	teardown_gpadl(c.send_gpadl);
	card_deliver(&c, frame, bytes, NULL);
	card_deliver_end(&c);
	guest_close(&c.ch[0]);
	assert_int_equal(c.nv->version, 0);

	assert_int_equal(guest_open(&c.ch[0], CARD_RING_PAGES, 0), 0);
	assert_int_equal(card_version(&c, NVSP_VERSION_61), NVSP_STATUS_SUCCESS);
	card_config(&c, 9000, NVSP_CAP_8021Q | NVSP_CAP_RSC);
	assert_int_equal(c.caps.mtu, 9000);
	card_recv_buf(&c);
	assert_int_equal(c.suballoc_bytes, 12288);
	guest_close(&c.ch[0]); /* without a word: the card lets go by itself */
	teardown_gpadl(c.recv_gpadl);
}

static void before_anything(void **state)
{
	struct nvsp_message m = { .type = NVSP_SEND_RECV_BUF };
	u32 short_message = NVSP_INIT;

	card_open(&c);
	card_deliver(&c, frame, card_tcp4(frame, card_mac, 1, 2, 3, 4, 10), NULL);
	card_deliver_end(&c);
	assert_int_equal(card_ask(&c, &m, sizeof(m))->type, NVSP_SEND_RNDIS_PKT_COMPLETE);
	assert_int_equal(card_ask(&c, &short_message, 4)->rndis_complete.status,
			 NVSP_STATUS_UNSUPPORTED);
	card_version(&c, NVSP_VERSION_61);
	m.buf.gpadl = 0x77; /* not there */
	assert_int_equal(card_ask(&c, &m, sizeof(m))->recv_buf_complete.status, NVSP_STATUS_FAIL);
	card_recv_buf(&c);
	m.buf.gpadl = c.recv_gpadl;
	assert_int_equal(card_ask(&c, &m, sizeof(m))->recv_buf_complete.status, NVSP_STATUS_FAIL);
}

/* Control messages whose answers nobody takes: lost, but nothing breaks. */
static void control_flood(void **state)
{
	struct rndis_simple keepalive = { { RNDIS_KEEPALIVE, 12 }, 1 };
	u32 answers = 0;

	card_start(&c, true);
	memcpy(card_page(&c), &keepalive, 12);
	for (u32 i = 0; i < 100; i++)
		card_send_pages(&c, &c.ch[0], 100 + i, 1, NVSP_NO_SECTION, 0, 0, 12);
	while (guest_read(&c.ch[0], &c.pkt))
		answers += c.pkt.h.type == VMBUS_PACKET_XFER_PAGES;
	assert_int_equal(answers, NETVSP_CONTROL_RESERVE);
	assert_int_equal(c.nv->free_count, c.suballoc_count - NETVSP_CONTROL_RESERVE);
}

/* With a thread of its own, opened, then taken away. */
static void own_thread(void **state)
{
	struct netvsp_config cfg = { .max_channels = 1 };
	struct nvsp_message m = { .type = NVSP_INIT, .init = { NVSP_VERSION_61, NVSP_VERSION_61 } };
	struct vmbus_device *vd;
	static struct card other, again;
	const struct nvsp_message *r;

	memset(&other, 0, sizeof(other));
	memset(&again, 0, sizeof(again));
	other.be = (struct net_backend){ .ops = card_be_ops(), .link_up = true, .mtu = 1500 };
	netvsp_instance_id(&cfg.instance_id, 1);
	memcpy(cfg.mac, card_mac, 6);
	assert_int_equal(netvsp_offer(c.g.srv, &cfg, &other.be, NULL, &vd), 0);
	assert_true(other.started);
	again.be = other.be;
	assert_int_equal(netvsp_offer(c.g.srv, &cfg, &again.be, NULL, NULL), -EEXIST);
	assert_true(!again.started && !again.destroyed); /* it is ours again */

	guest_connect(&c.g, VMBUS_VERSION(5, 3), 0);
	guest_expect_offer(&c.g, &c.ch[0]);
	guest_expect_offer(&c.g, &c.ch[1]);
	guest_expect(&c.g, VMBUS_ALL_OFFERS_DELIVERED, 8);
	assert_int_equal(guest_open(&c.ch[1], CARD_RING_PAGES, 0), 0);
	guest_send(&c.ch[1], VMBUS_PACKET_COMPLETION_REQUESTED, 5, &m, sizeof(m));
	guest_read_wait(&c.ch[1], &c.pkt);
	r = guest_packet_payload(&c.pkt);
	assert_int_equal(r->init_complete.status, NVSP_STATUS_SUCCESS);
	vmbus_revoke(vd);
	guest_expect(&c.g, VMBUS_RESCIND_OFFER, 12);
	guest_close(&c.ch[1]);
	guest_post_relid(&c.g, VMBUS_RELID_RELEASED, c.ch[1].offer.relid);
	for (u32 i = 0; i < 10000 && !other.destroyed; i++) {
		guest_run(&c.g);
		usleep(100);
	}
	assert_true(other.destroyed && !other.started);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(golden_start),
		T(golden_offload_capabilities),
		T(versions),
		T(every_oid_answers),
		T(guest_sets_its_mac),
		T(simple_messages),
		T(tx_pages),
		T(tx_batch_in_section),
		T(tx_offloads),
		T(tx_refuses_nonsense),
		T(rx_batch),
		T(rx_filter),
		T(rx_tag),
		T(rx_large_in_pieces),
		T(rx_large_cut),
		T(rx_backpressure),
		T(rx_ring_full),
		T(receive_steering),
		T(link_state),
		T(revoke_and_reopen),
		T(before_anything),
		T(control_flood),
		T(own_thread),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
