// SPDX-License-Identifier: MIT
/* Headers, checksums, segments and fragments of Ethernet frames. */
#include "backend/net_frame.h"

#include <errno.h>
#include <string.h>

static void parse_l4(const u8 *data, u32 bytes, u32 at, u8 protocol, struct net_headers *h)
{
	u32 header;

	if (protocol == NET_IP_TCP) {
		if (bytes < at + 20)
			return;
		header = (data[at + 12] >> 4) * 4u;
		if (header < 20)
			return;
	} else if (protocol == NET_IP_UDP) {
		header = 8;
	} else {
		return;
	}
	if (bytes < at + header)
		return;
	h->l4 = (u16)at;
	h->payload = (u16)(at + header);
	h->protocol = protocol;
}

static void parse_ipv4(const u8 *data, u32 bytes, u32 at, struct net_headers *h)
{
	u32 header;

	if (bytes < at + 20 || data[at] >> 4 != 4)
		return;
	header = (data[at] & 15) * 4u;
	if (header < 20 || bytes < at + header)
		return;
	h->version = 4;
	h->fragment = net_get16(data + at + 6) & 0x3fff;
	if (!h->fragment)
		parse_l4(data, bytes, at + header, data[at + 9], h);
}

static void parse_ipv6(const u8 *data, u32 bytes, u32 at, struct net_headers *h)
{
	u8 next;

	if (bytes < at + 40 || data[at] >> 4 != 6)
		return;
	h->version = 6;
	next = data[at + 6];
	at += 40;
	/* Hop-by-hop, routing, destination options; bounded by the bytes. */
	while ((next == 0 || next == 43 || next == 60) && bytes >= at + 8) {
		next = data[at];
		at += (data[at + 1] + 1u) * 8;
	}
	h->fragment = next == 44;
	if (!h->fragment)
		parse_l4(data, bytes, at, next, h);
}

void net_headers_parse(const u8 *data, u32 bytes, struct net_headers *h)
{
	u32 at = 12;
	u16 type;

	memset(h, 0, sizeof(*h));
	if (bytes > UINT16_MAX)
		bytes = UINT16_MAX;
	if (bytes < NET_ETH_BYTES)
		return;
	type = net_get16(data + at);
	if (type == NET_ETH_VLAN && bytes >= at + 6)
		type = net_get16(data + (at += 4));
	at += 2;
	h->l3 = (u16)at;
	if (type == NET_ETH_IPV4)
		parse_ipv4(data, bytes, at, h);
	else if (type == NET_ETH_IPV6)
		parse_ipv6(data, bytes, at, h);
}

u64 net_sum(const void *data, u32 bytes, u64 sum)
{
	const u8 *p = data;
	u64 a = 0, b = 0, c = 0, d = 0;
	u32 w[8];

	/* 32-bit words into 64-bit sums: no carries to look after, up to 2^34 bytes. */
	for (; bytes >= 32; bytes -= 32, p += 32) {
		memcpy(w, p, 32);
		a += (u64)w[0] + w[4];
		b += (u64)w[1] + w[5];
		c += (u64)w[2] + w[6];
		d += (u64)w[3] + w[7];
	}
	for (; bytes >= 4; bytes -= 4, p += 4) {
		memcpy(w, p, 4);
		a += w[0];
	}
	if (bytes) {
		w[0] = 0;
		memcpy(w, p, bytes);
		b += w[0];
	}
	sum += (a & 0xffffffff) + (a >> 32) + (b & 0xffffffff) + (b >> 32);
	return sum + (c & 0xffffffff) + (c >> 32) + (d & 0xffffffff) + (d >> 32);
}

u16 net_sum_fold(u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (u16)sum;
}

u64 net_sum_pseudo(const u8 *frame, const struct net_headers *h, u32 l4_bytes)
{
	u8 tail[8] = { 0, 0, 0, 0, 0, 0, 0, h->protocol };
	u64 sum;

	net_put32(tail, l4_bytes);
	if (h->version == 4)
		sum = net_sum(frame + h->l3 + 12, 8, 0);
	else
		sum = net_sum(frame + h->l3 + 8, 32, 0);
	return net_sum(tail, sizeof(tail), sum);
}

static void store_sum(u8 *p, u16 sum)
{
	memcpy(p, &sum, 2); /* sums are in memory order */
}

/* IP length and, for IPv4, the header checksum. */
static void complete_ip(u8 *frame, u32 bytes, const struct net_headers *h)
{
	u8 *ip = frame + h->l3;

	if (h->version == 4) {
		net_put16(ip + 2, bytes - h->l3);
		net_put16(ip + 10, 0);
		store_sum(ip + 10, ~net_sum_fold(net_sum(ip, (ip[0] & 15) * 4u, 0)));
	} else {
		net_put16(ip + 4, bytes - h->l3 - 40);
	}
}

int net_gso_prepare(u8 *frame, const struct net_headers *h, u32 frame_bytes)
{
	if (h->protocol != NET_IP_TCP || frame_bytes < h->payload || frame_bytes - h->l3 > 65535)
		return -EINVAL;
	complete_ip(frame, frame_bytes, h);
	store_sum(frame + h->l4 + 16, net_sum_fold(net_sum_pseudo(frame, h, frame_bytes - h->l4)));
	return 0;
}

int net_frame_copy(const struct net_frame *f, u8 *buf, u32 buf_bytes)
{
	u32 at = 0;

	if (f->bytes > buf_bytes)
		return -EMSGSIZE;
	for (int i = 0; i < f->count; i++) {
		memcpy(buf + at, f->iov[i].iov_base, f->iov[i].iov_len);
		at += (u32)f->iov[i].iov_len;
	}
	return 0;
}

/* Sum over @l4_bytes from the L4 header, of which @head are in @frame and the rest at @rest. */
static void complete_l4(u8 *frame, const struct net_headers *h, u32 head, const u8 *rest,
			u32 rest_bytes)
{
	u8 *field = frame + h->l4 + net_csum_offset(h);
	u64 sum = net_sum_pseudo(frame, h, head + rest_bytes);
	u16 result;

	net_put16(field, 0);
	sum = net_sum(frame + h->l4, head, sum);
	result = (u16)~net_sum_fold(net_sum(rest, rest_bytes, sum));
	if (result == 0 && h->protocol == NET_IP_UDP)
		result = 0xffff; /* 0 would be "no checksum" */
	store_sum(field, result);
}

void net_frame_complete(u8 *frame, u32 bytes, const struct net_headers *h)
{
	u8 *ip = frame + h->l3;
	u32 ip_bytes;

	if (!h->l4)
		return;
	/* Ethernet padding may follow; what IP says decides. */
	ip_bytes = h->version == 4 ? net_get16(ip + 2) : net_get16(ip + 4) + 40u;
	if (ip_bytes > bytes - h->l3 || ip_bytes < (u32)(h->payload - h->l3))
		return;
	complete_ip(frame, h->l3 + ip_bytes, h);
	complete_l4(frame, h, h->l3 + ip_bytes - h->l4, frame, 0);
}

void net_segment(const u8 *frame, u32 bytes, const struct net_headers *h, u32 payload,
		 net_emit_fn emit, void *ctx)
{
	u8 head[NET_HEADERS_MAX];
	struct iovec iov[2] = { { head, h->payload }, { NULL, 0 } };
	struct net_frame f = { .iov = iov, .count = 2, .meta.csum_ok = true };
	u32 at = h->payload, seq;
	u8 flags;
	u16 id;

	if (h->protocol != NET_IP_TCP || h->payload > sizeof(head) || !payload || bytes < at)
		return;
	seq = net_get32(frame + h->l4 + 4);
	flags = frame[h->l4 + 13];
	id = net_get16(frame + h->l3 + 4);
	do {
		u32 n = (u32)min_u64(payload, bytes - at);

		memcpy(head, frame, h->payload);
		if (h->version == 4)
			net_put16(head + h->l3 + 4, id++);
		net_put32(head + h->l4 + 4, seq);
		if (at + n < bytes)
			head[h->l4 + 13] = flags & ~0x09; /* FIN and PSH are the last one's */
		if (at > h->payload)
			head[h->l4 + 13] &= ~0x80; /* CWR is the first one's */
		complete_ip(head, h->payload + n, h);
		complete_l4(head, h, h->payload - h->l4, frame + at, n);
		iov[1] = (struct iovec){ (u8 *)frame + at, n };
		f.bytes = h->payload + n;
		emit(ctx, &f);
		at += n;
		seq += n;
	} while (at < bytes);
}

void net_fragment4(const u8 *frame, u32 bytes, const struct net_headers *h, u32 mtu,
		   net_emit_fn emit, void *ctx)
{
	u8 head[NET_HEADERS_MAX];
	struct iovec iov[2] = { { head, 0 }, { NULL, 0 } };
	struct net_frame f = { .iov = iov, .count = 2 };
	u32 ip_bytes, head_bytes, at, room, first;
	u16 where;

	if (h->version != 4)
		return;
	ip_bytes = (frame[h->l3] & 15) * 4u;
	head_bytes = h->l3 + ip_bytes;
	where = net_get16(frame + h->l3 + 6);
	if (where & 0x4000 || mtu < ip_bytes + 8 || bytes <= head_bytes)
		return;
	room = (mtu - ip_bytes) & ~7u;
	first = where & 0x1fff;
	for (at = head_bytes; at < bytes;) {
		u32 n = (u32)min_u64(room, bytes - at);
		bool more = at + n < bytes || where & 0x2000;

		memcpy(head, frame, head_bytes);
		net_put16(head + h->l3 + 6,
			  (more ? 0x2000 : 0) | ((first + (at - head_bytes) / 8) & 0x1fff));
		complete_ip(head, head_bytes + n, h);
		iov[0].iov_len = head_bytes;
		iov[1] = (struct iovec){ (u8 *)frame + at, n };
		f.bytes = head_bytes + n;
		emit(ctx, &f);
		at += n;
	}
}
