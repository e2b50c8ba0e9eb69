// SPDX-License-Identifier: MIT
/*
 * RNDIS messages from the guest. One VMBus packet carries bytes of a section of
 * the send buffer, then bytes in guest pages, and in them one message after the
 * other. All of it is memory the guest can change meanwhile: headers and
 * per-packet information are copied and checked, the rest of a frame goes to the
 * back end as it is.
 */
#include <string.h>

#include "vsp/netvsp_internal.h"

#define PPI_MAX 256u

struct transfer {
	struct iovec iov[NETVSP_IOV_MAX];
	int count;
	u32 bytes;
};

/* Up to @max iov elements of bytes [@at, @at + @bytes), which lie inside; -1: too many. */
static int slice(const struct transfer *t, u32 at, u32 bytes, struct iovec *out, int max)
{
	int n = 0;

	for (int i = 0; i < t->count && bytes; i++) {
		u32 len = (u32)t->iov[i].iov_len;

		if (at >= len) {
			at -= len;
			continue;
		}
		if (n == max)
			return -1;
		len = (u32)min_u64(len - at, bytes);
		out[n++] = (struct iovec){ (u8 *)t->iov[i].iov_base + at, len };
		bytes -= len;
		at = 0;
	}
	return n;
}

static void copy_out(const struct transfer *t, u32 at, u32 bytes, u8 *dst)
{
	for (int i = 0; i < t->count && bytes; i++) {
		u32 len = (u32)t->iov[i].iov_len;

		if (at >= len) {
			at -= len;
			continue;
		}
		len = (u32)min_u64(len - at, bytes);
		memcpy(dst, (u8 *)t->iov[i].iov_base + at, len);
		dst += len;
		bytes -= len;
		at = 0;
	}
}

static bool collect(struct netvsp *nv, struct netvsp_channel *nc, const struct vmbus_packet *pkt,
		    const struct nvsp_message *msg, struct transfer *t)
{
	u32 index = msg->rndis.section_index, bytes = msg->rndis.section_bytes;
	int n;

	t->count = 0;
	t->bytes = 0;
	if (index != NVSP_NO_SECTION && bytes) {
		if (!nv->send.gpadl || index >= nv->send.section_count ||
		    bytes > nv->send.section_bytes)
			return false;
		n = vmbus_gpadl_iov(nv->send.gpadl, index * nv->send.section_bytes, bytes, t->iov,
				    NETVSP_IOV_MAX);
		if (n < 0)
			return false;
		t->count = n;
		t->bytes = bytes;
	}
	if (pkt->data_bytes) {
		n = vmbus_packet_iov(vmbus_channel_gmem(nc->ch), pkt, 0, pkt->data_bytes,
				     t->iov + t->count, NETVSP_IOV_MAX - t->count);
		if (n < 0 || pkt->data_bytes > UINT32_MAX - t->bytes)
			return false;
		t->count += n;
		t->bytes += pkt->data_bytes;
	}
	return t->bytes >= RNDIS_HEADER_BYTES;
}

/* [offset, offset + bytes), counted from byte 8, inside a message of @length. */
static bool inside(u32 offset, u32 bytes, u32 length)
{
	return (u64)offset + bytes + RNDIS_HEADER_BYTES <= length;
}

static bool send_frame(struct netvsp *nv, const struct transfer *t, u32 at, u32 bytes,
		       const struct net_tx_info *info)
{
	u8 room[NET_HEADERS_MAX + 4], *head = room + 4;
	struct iovec iov[NETVSP_IOV_MAX + 1];
	struct net_frame f = { .iov = iov, .bytes = bytes };
	u32 n = (u32)min_u64(bytes, NET_HEADERS_MAX);
	int count;

	copy_out(t, at, n, head);
	count = slice(t, at + n, bytes - n, iov + 1, NETVSP_IOV_MAX);
	if (count < 0)
		return false;
	if (info->tagged) {
		memmove(room, head, 12);
		head = room;
		net_put16(head + 12, NET_ETH_VLAN);
		net_put16(head + 14, info->tci);
		n += 4;
		f.bytes += 4;
	}
	if (f.bytes > NET_FRAME_MAX || !net_tx_meta(head, n, f.bytes, info, &f.meta))
		return false;
	iov[0] = (struct iovec){ head, n };
	f.count = count + 1;
	NETVSP_COUNT(nv, tx_frames, 1);
	NETVSP_COUNT(nv, tx_bytes, f.bytes);
	if (nv->link_up)
		nv->be->ops->tx(nv->be, &f);
	return true;
}

static bool data_message(struct netvsp *nv, const struct transfer *t, u32 at, u32 length)
{
	struct rndis_packet p;
	struct net_tx_info info;
	u8 ppi[PPI_MAX];

	if (length < sizeof(p))
		return false;
	copy_out(t, at, sizeof(p), (u8 *)&p);
	if (!inside(p.data_offset, p.data_bytes, length) || p.data_bytes < NET_ETH_BYTES ||
	    p.data_bytes > NET_FRAME_MAX || !inside(p.ppi_offset, p.ppi_bytes, length) ||
	    p.ppi_bytes > sizeof(ppi))
		return false;
	copy_out(t, at + RNDIS_HEADER_BYTES + p.ppi_offset, p.ppi_bytes, ppi);
	if (!net_ppi_parse(ppi, p.ppi_bytes, &info) || nv->rndis != RNDIS_STATE_READY)
		return false;
	return send_frame(nv, t, at + RNDIS_HEADER_BYTES + p.data_offset, p.data_bytes, &info);
}

static bool one_message(struct netvsp *nv, struct netvsp_channel *nc, const struct transfer *t,
			u32 at, const struct rndis_header *header)
{
	if (header->type == RNDIS_PACKET)
		return data_message(nv, t, at, header->length);
	/* Control messages are rare, small and the primary channel's. */
	if (nc->index != 0 || header->length > sizeof(nv->control_buf))
		return false;
	copy_out(t, at, header->length, nv->control_buf);
	memcpy(nv->control_buf, header, sizeof(*header)); /* as it was checked */
	return rndis_control(nv, nv->control_buf, header->length) == NVSP_STATUS_SUCCESS;
}

enum nvsp_status netvsp_tx(struct netvsp *nv, struct netvsp_channel *nc,
			   const struct vmbus_packet *pkt, const struct nvsp_message *msg)
{
	struct transfer t;
	bool ok = true;
	u32 at = 0;

	if (!collect(nv, nc, pkt, msg, &t)) {
		NETVSP_COUNT(nv, tx_errors, 1);
		return NVSP_STATUS_INVALID_RNDIS;
	}
	while (ok && t.bytes - at >= RNDIS_HEADER_BYTES) {
		struct rndis_header header;

		copy_out(&t, at, sizeof(header), (u8 *)&header);
		ok = header.length >= RNDIS_HEADER_BYTES && header.length <= t.bytes - at &&
		     one_message(nv, nc, &t, at, &header);
		at += header.length;
	}
	if (ok)
		return NVSP_STATUS_SUCCESS;
	NETVSP_COUNT(nv, tx_errors, 1);
	return NVSP_STATUS_INVALID_RNDIS;
}
