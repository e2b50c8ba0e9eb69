// SPDX-License-Identifier: MIT
/* Per-packet information of RNDIS, both ways, and the hash receive steering uses. */
#include <string.h>

#include "vsp/netvsp_internal.h"

static_assert(NETVSP_RX_HEADROOM >=
		      sizeof(struct rndis_packet) + 4 * (sizeof(struct rndis_ppi) + 4),
	      "room for all we say");

/* ---- from the guest ---- */

static void ppi_checksum(struct net_tx_info *info, u32 v)
{
	info->csum = v & (RNDIS_TXCSUM_TCP | RNDIS_TXCSUM_UDP);
	info->ip_csum = v & RNDIS_TXCSUM_IP_HEADER;
}

static void ppi_large_send(struct net_tx_info *info, u32 v)
{
	info->lso = true;
	info->mss = RNDIS_LSO_MSS(v);
}

static void ppi_8021q(struct net_tx_info *info, u32 v)
{
	info->tagged = true;
	info->tci = RNDIS_8021Q_TO_TCI(v);
}

/* What is not here says nothing that matters for sending. */
static const struct {
	u32 type;
	void (*fn)(struct net_tx_info *info, u32 value);
} tx_ppis[] = {
	{ RNDIS_PPI_CHECKSUM, ppi_checksum },
	{ RNDIS_PPI_LARGE_SEND, ppi_large_send },
	{ RNDIS_PPI_8021Q, ppi_8021q },
};

bool net_ppi_parse(const u8 *ppi, u32 bytes, struct net_tx_info *info)
{
	memset(info, 0, sizeof(*info));
	while (bytes > 0) {
		struct rndis_ppi p;
		u32 value;

		if (bytes < sizeof(p))
			return false;
		memcpy(&p, ppi, sizeof(p));
		if (p.bytes < sizeof(p) || p.bytes > bytes)
			return false;
		for (size_t i = 0; i < ARRAY_SIZE(tx_ppis); i++) {
			if (tx_ppis[i].type != p.type)
				continue;
			if (p.offset < sizeof(p) || p.offset > p.bytes ||
			    p.bytes - p.offset < sizeof(value))
				return false;
			memcpy(&value, ppi + p.offset, sizeof(value));
			tx_ppis[i].fn(info, value);
		}
		ppi += p.bytes;
		bytes -= p.bytes;
	}
	return true;
}

static bool large_meta(u8 *head, u32 frame_bytes, const struct net_headers *h, u32 mss,
		       struct net_meta *meta)
{
	if (mss == 0 || mss > UINT16_MAX || net_gso_prepare(head, h, frame_bytes) < 0)
		return false;
	if (frame_bytes - h->payload <= mss)
		return true; /* one segment: only its sum is open */
	meta->gso = h->version == 4 ? NET_GSO_TCP4 : NET_GSO_TCP6;
	meta->gso_bytes = (u16)mss;
	meta->header_bytes = h->payload;
	return true;
}

bool net_tx_meta(u8 *head, u32 head_bytes, u32 frame_bytes, const struct net_tx_info *info,
		 struct net_meta *meta)
{
	struct net_headers h;

	memset(meta, 0, sizeof(*meta));
	if (!info->csum && !info->ip_csum && !info->lso)
		return true;
	net_headers_parse(head, head_bytes, &h);
	if (info->lso && !large_meta(head, frame_bytes, &h, info->mss, meta))
		return false;
	if (h.l4 && (info->csum || info->lso)) {
		meta->needs_csum = true;
		meta->csum_start = h.l4;
		meta->csum_offset = net_csum_offset(&h);
	}
	if (info->ip_csum && !info->lso && h.version == 4) {
		u8 *ip = head + h.l3;
		u16 sum;

		net_put16(ip + 10, 0);
		sum = (u16)~net_sum_fold(net_sum(ip, (ip[0] & 15) * 4u, 0));
		memcpy(ip + 10, &sum, sizeof(sum));
	}
	return true;
}

/* ---- to the guest ---- */

static u8 *put_ppi(u8 *at, u32 type, const void *value)
{
	struct rndis_ppi p = { sizeof(p) + 4, type, sizeof(p) };

	memcpy(at, &p, sizeof(p));
	memcpy(at + sizeof(p), value, 4);
	return at + p.bytes;
}

void net_rx_header(u8 *out, u32 data_bytes, const struct net_rx_info *info,
		   const struct rndis_packet_id *id)
{
	struct rndis_packet p = {
		.header = { RNDIS_PACKET, NETVSP_RX_HEADROOM + data_bytes },
		.data_offset = NETVSP_RX_HEADROOM - RNDIS_HEADER_BYTES,
		.data_bytes = data_bytes,
	};
	u8 *at = out + sizeof(p);

	if (info && info->tagged) {
		u32 v = RNDIS_8021Q_FROM_TCI(info->tci);

		at = put_ppi(at, RNDIS_PPI_8021Q, &v);
	}
	if (info && info->csum)
		at = put_ppi(at, RNDIS_PPI_CHECKSUM, &info->csum);
	if (info && info->hashed)
		at = put_ppi(at, RNDIS_PPI_HASH_VALUE, &info->hash);
	if (id)
		at = put_ppi(at, RNDIS_PPI_PACKET_ID, id);
	p.ppi_bytes = (u32)(at - out - sizeof(p));
	/* With no information the offset has to be 0 (Linux 7.3 rndis_get_ppi). */
	p.ppi_offset = p.ppi_bytes ? sizeof(p) - RNDIS_HEADER_BYTES : 0;
	memcpy(out, &p, sizeof(p));
	memset(at, 0, NETVSP_RX_HEADROOM - (size_t)(at - out));
}

u32 net_rx_csum(const struct netvsp *nv, const struct net_headers *h)
{
	const struct netvsp_offload *o = &nv->offload;
	u32 bits = h->version == 4 ? RNDIS_RXCSUM_IP_OK : 0;

	if (h->protocol == NET_IP_TCP && (h->version == 4 ? o->rx_tcp4 : o->rx_tcp6))
		bits |= RNDIS_RXCSUM_TCP_OK;
	if (h->protocol == NET_IP_UDP && (h->version == 4 ? o->rx_udp4 : o->rx_udp6))
		bits |= RNDIS_RXCSUM_UDP_OK;
	return bits;
}

u32 net_toeplitz(const u8 *key, const u8 *data, u32 bytes)
{
	u32 window = net_get32(key), hash = 0;

	for (u32 i = 0; i < bytes; i++)
		for (int bit = 7; bit >= 0; bit--) {
			if (data[i] >> bit & 1)
				hash ^= window;
			window = window << 1 | (key[i + 4] >> bit & 1);
		}
	return hash;
}

bool net_rss_hash(const struct netvsp_rss *rss, const u8 *frame, const struct net_headers *h,
		  u32 *hash)
{
	u32 address_bytes = h->version == 4 ? 8 : 32;
	bool ports = h->protocol == NET_IP_TCP;
	u8 input[36];
	u32 bytes;

	if (!h->version)
		return false;
	if (ports)
		ports = rss->types & (h->version == 4 ? NDIS_HASH_TCP_IPV4 : NDIS_HASH_TCP_IPV6);
	if (!ports && !(rss->types & (h->version == 4 ? NDIS_HASH_IPV4 : NDIS_HASH_IPV6)))
		return false;
	memcpy(input, frame + h->l3 + (h->version == 4 ? 12 : 8), address_bytes);
	bytes = address_bytes;
	if (ports) {
		memcpy(input + bytes, frame + h->l4, 4);
		bytes += 4;
	}
	*hash = net_toeplitz(rss->key, input, bytes);
	return true;
}
