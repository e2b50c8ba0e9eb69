/* SPDX-License-Identifier: MIT */
/*
 * Work on frames that both sides need: where the headers are, checksums, and
 * cutting what is too large for the next one. Nothing here trusts a length that
 * stands in a frame further than the frame reaches.
 */
#ifndef NESTOR_BACKEND_NET_FRAME_H
#define NESTOR_BACKEND_NET_FRAME_H

#include "backend/net.h"

enum {
	NET_ETH_IPV4 = 0x0800,
	NET_ETH_VLAN = 0x8100,
	NET_ETH_IPV6 = 0x86dd,
	NET_IP_TCP = 6,
	NET_IP_UDP = 17,
	NET_TCP_SYN = 0x02,
};

/* What net_headers_parse() found. Offsets are from the frame's start; 0: there is none. */
struct net_headers {
	u16 l3;	     /* IP header */
	u16 l4;	     /* TCP or UDP header, whole inside the bytes given; 0 in a fragment */
	u16 payload; /* behind the L4 header */
	u8 version;  /* 4, 6 or 0 */
	u8 protocol; /* of the L4 header; 0 if l4 is */
	bool fragment;
};

/* @data: the first @bytes of a frame. */
void net_headers_parse(const u8 *data, u32 bytes, struct net_headers *h);
/* Where the checksum field is in the L4 header. */
static inline u16 net_csum_offset(const struct net_headers *h)
{
	return h->protocol == NET_IP_TCP ? 16 : 6;
}

static inline u16 net_get16(const u8 *p)
{
	return (u16)(p[0] << 8 | p[1]);
}

static inline void net_put16(u8 *p, u32 v)
{
	p[0] = (u8)(v >> 8);
	p[1] = (u8)v;
}

static inline u32 net_get32(const u8 *p)
{
	return (u32)net_get16(p) << 16 | net_get16(p + 2);
}

static inline void net_put32(u8 *p, u32 v)
{
	net_put16(p, v >> 16);
	net_put16(p + 2, v);
}

/* Ones' complement sum of @bytes, in memory order, to be folded; @data starts at an even offset. */
u64 net_sum(const void *data, u32 bytes, u64 sum);
/* 16 bits, in memory order, not complemented. */
u16 net_sum_fold(u64 sum);
/* Sum of the pseudo header of a frame with @l4_bytes from its L4 header on. */
u64 net_sum_pseudo(const u8 *frame, const struct net_headers *h, u32 l4_bytes);

/*
 * Headers of a large TCP frame for the one who will cut it: IP length and
 * checksum, and in the TCP checksum field the sum of the pseudo header. 0, or
 * -EINVAL if it is not TCP or @frame_bytes is no possible length.
 */
int net_gso_prepare(u8 *frame, const struct net_headers *h, u32 frame_bytes);

/* Copies a frame into @buf. 0 or -EMSGSIZE. */
int net_frame_copy(const struct net_frame *f, u8 *buf, u32 buf_bytes);
/* Computes the IPv4 header's and the L4 checksum of a whole frame in place. */
void net_frame_complete(u8 *frame, u32 bytes, const struct net_headers *h);

typedef void (*net_emit_fn)(void *ctx, const struct net_frame *f);
/*
 * Cuts a TCP frame that lies whole in @frame into frames of at most @payload
 * bytes of payload, checksums complete. A frame with no payload goes as it is.
 */
void net_segment(const u8 *frame, u32 bytes, const struct net_headers *h, u32 payload,
		 net_emit_fn emit, void *ctx);
/* Cuts an IPv4 packet into fragments that fit @mtu; drops it if it must not be cut. */
void net_fragment4(const u8 *frame, u32 bytes, const struct net_headers *h, u32 mtu,
		   net_emit_fn emit, void *ctx);

#endif
