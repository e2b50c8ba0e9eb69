// SPDX-License-Identifier: MIT
/*
 * Everything in the guest's hands is loaded once into private memory, checked
 * there and used from there. A violation breaks the ring for good.
 */
#include "vmbus/ring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HEADER_BYTES ((u32)sizeof(struct vmbus_packet_header))

/* Loads of what the guest stores, and stores of what it loads. */
static u32 guest_load(const u32 *p)
{
	return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

static void guest_store(u32 *p, u32 v)
{
	__atomic_store_n(p, v, __ATOMIC_RELEASE);
}

static void full_barrier(void)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static int ring_break(struct vmbus_ring *r, const char *why)
{
	if (!r->error)
		r->error = why;
	return -EPROTO;
}

static bool index_ok(const struct vmbus_ring_half *h, u32 index)
{
	return index < h->data_bytes && index % 8 == 0;
}

/* Bytes between a reader and a writer. */
static u32 ring_used(const struct vmbus_ring_half *h, u32 read, u32 write)
{
	return write >= read ? write - read : h->data_bytes - (read - write);
}

static u32 ring_advance(const struct vmbus_ring_half *h, u32 index, u32 bytes)
{
	index += bytes;
	return index >= h->data_bytes ? index - h->data_bytes : index;
}

static u8 *half_at(const struct vmbus_ring_half *h, u32 at, u32 *run)
{
	if (h->linear) {
		*run = h->data_bytes - at;
		return h->linear + at;
	}
	*run = PAGE_BYTES - at % PAGE_BYTES;
	return h->page[at / PAGE_BYTES] + at % PAGE_BYTES;
}

static void half_read(const struct vmbus_ring_half *h, u32 at, void *dst, u32 bytes)
{
	u8 *to = dst;

	while (bytes) {
		u32 run;
		const u8 *from = half_at(h, at, &run);

		run = run < bytes ? run : bytes;
		memcpy(to, from, run);
		to += run;
		bytes -= run;
		at = ring_advance(h, at, run);
	}
}

static u32 half_write(const struct vmbus_ring_half *h, u32 at, const void *src, u32 bytes)
{
	const u8 *from = src;

	while (bytes) {
		u32 run;
		u8 *to = half_at(h, at, &run);

		run = run < bytes ? run : bytes;
		memcpy(to, from, run);
		from += run;
		bytes -= run;
		at = ring_advance(h, at, run);
	}
	return at;
}

static void half_init(struct vmbus_ring_half *h, u8 *const *page, u32 count)
{
	h->hdr = (struct vmbus_ring_header *)page[0];
	h->page = page + 1;
	h->data_bytes = (count - 1) * PAGE_BYTES;
	h->linear = page[1];
	for (u32 i = 2; i < count; i++)
		if (page[i] != page[i - 1] + PAGE_BYTES)
			h->linear = NULL;
}

int vmbus_ring_init(struct vmbus_ring *r, u8 *const *page, u32 page_count, u32 out_page,
		    u32 packet_max)
{
	memset(r, 0, sizeof(*r));
	if (out_page < 2 || page_count < 2 || out_page > page_count - 2 ||
	    page_count > GIB / PAGE_BYTES)
		return -EINVAL;
	half_init(&r->in, page, out_page);
	half_init(&r->out, page + out_page, page_count - out_page);
	r->in.index = guest_load(&r->in.hdr->read_index);
	r->out.index = guest_load(&r->out.hdr->write_index);
	if (!index_ok(&r->in, r->in.index) || !index_ok(&r->out, r->out.index))
		return -EINVAL;
	r->in.published = r->in.index;
	r->out.published = r->out.index;
	r->buf_bytes = (u32)min_u64(align_up(packet_max, 8), r->in.data_bytes);
	r->buf = aligned_alloc(16, align_up(r->buf_bytes, 16));
	if (!r->buf)
		return -ENOMEM;
	guest_store(&r->out.hdr->feature_bits, VMBUS_RING_PENDING_SEND);
	guest_store(&r->out.hdr->pending_send_sz, 0);
	return 0;
}

void vmbus_ring_fini(struct vmbus_ring *r)
{
	free(r->buf);
	memset(r, 0, sizeof(*r));
}

/* Guest to host */

static bool range_next(const u8 *p, u32 bytes, u32 *pos, struct vmbus_range *range)
{
	struct vmbus_gpa_range head;
	u64 pages;

	if (bytes - *pos < sizeof(head))
		return false;
	memcpy(&head, p + *pos, sizeof(head));
	*pos += sizeof(head);
	pages = ((u64)head.byte_offset + head.byte_count + PAGE_BYTES - 1) / PAGE_BYTES;
	if (head.byte_count == 0 || head.byte_offset >= PAGE_BYTES || pages > (bytes - *pos) / 8)
		return false;
	*range = (struct vmbus_range){ head.byte_count, head.byte_offset, (u32)pages, p + *pos };
	*pos += (u32)pages * 8;
	return true;
}

/* @extra is what lies between packet header and payload. */
static int parse_gpa_direct(struct vmbus_ring *r, struct vmbus_packet *pkt, const u8 *extra,
			    u32 bytes)
{
	struct vmbus_gpa_direct_header head;
	struct vmbus_range range;
	u64 total = 0;
	u32 pos = 0;

	if (bytes < sizeof(head))
		return ring_break(r, "GPA-direct packet without range count");
	memcpy(&head, extra, sizeof(head));
	if (head.range_count > VMBUS_PACKET_MAX_RANGES)
		return ring_break(r, "GPA-direct packet with too many ranges");
	pkt->ranges = extra + sizeof(head);
	pkt->range_count = head.range_count;
	for (u32 i = 0; i < head.range_count; i++) {
		if (!range_next(pkt->ranges, bytes - (u32)sizeof(head), &pos, &range))
			return ring_break(r, "GPA-direct packet with a malformed range");
		total += range.byte_count;
	}
	if (total > UINT32_MAX)
		return ring_break(r, "GPA-direct packet of more than 4 GiB");
	pkt->data_bytes = (u32)total;
	return 0;
}

bool vmbus_packet_range(const struct vmbus_packet *pkt, u32 *pos, struct vmbus_range *range)
{
	/* Where the ranges end, in bytes from their start, the packet's parser proved. */
	u32 bytes = (u32)((const u8 *)pkt->payload - pkt->ranges);
	u32 index = *pos >> 20, at = *pos & 0xfffff;

	if (index >= pkt->range_count || !range_next(pkt->ranges, bytes, &at, range))
		return false;
	*pos = (index + 1) << 20 | at;
	return true;
}

static int parse_packet(struct vmbus_ring *r, const struct vmbus_packet_header *head, u32 avail,
			struct vmbus_packet *pkt)
{
	u32 offset = head->offset8 * 8u, len = head->len8 * 8u;

	if (offset < HEADER_BYTES || offset > len)
		return ring_break(r, "packet whose payload starts outside of it");
	if (len + VMBUS_PACKET_TRAILER > avail)
		return ring_break(r, "packet longer than what is in the ring");
	if (len - HEADER_BYTES > r->buf_bytes)
		return ring_break(r, "packet longer than the device accepts");
	half_read(&r->in, ring_advance(&r->in, r->in.index, HEADER_BYTES), r->buf,
		  len - HEADER_BYTES);
	*pkt = (struct vmbus_packet){
		.type = head->type,
		.flags = head->flags,
		.transaction_id = head->transaction_id,
		/* A completion is the end of a transaction: nothing is owed for it. */
		.wants_completion = head->flags & VMBUS_PACKET_COMPLETION_REQUESTED &&
				    head->type != VMBUS_PACKET_COMPLETION,
		.payload = r->buf + (offset - HEADER_BYTES),
		.payload_bytes = len - offset,
		.ring_bytes = len + VMBUS_PACKET_TRAILER,
	};
	if (head->type == VMBUS_PACKET_GPA_DIRECT)
		return parse_gpa_direct(r, pkt, r->buf, offset - HEADER_BYTES);
	return 0;
}

int vmbus_ring_peek(struct vmbus_ring *r, struct vmbus_packet *pkt)
{
	struct vmbus_packet_header head;
	u32 write, avail;
	int ret;

	if (r->error)
		return -EPROTO;
	write = guest_load(&r->in.hdr->write_index);
	if (!index_ok(&r->in, write))
		return ring_break(r, "guest's write index is outside of the ring");
	avail = ring_used(&r->in, r->in.index, write);
	if (avail == 0)
		return 0;
	if (avail < HEADER_BYTES + VMBUS_PACKET_TRAILER)
		return ring_break(r, "less than a packet in the ring");
	half_read(&r->in, r->in.index, &head, sizeof(head));
	ret = parse_packet(r, &head, avail, pkt);
	return ret ? ret : 1;
}

void vmbus_ring_consume(struct vmbus_ring *r, const struct vmbus_packet *pkt)
{
	r->in.index = ring_advance(&r->in, r->in.index, pkt->ring_bytes);
}

bool vmbus_ring_publish_read(struct vmbus_ring *r)
{
	struct vmbus_ring_half *in = &r->in;
	u32 consumed, write, pending, free_after;

	if (in->published == in->index)
		return false;
	consumed = ring_used(in, in->published, in->index);
	in->published = in->index;
	guest_store(&in->hdr->read_index, in->index);
	/* Pairs with the guest's barrier between its pending_send_sz and its look at read_index. */
	full_barrier();
	pending = guest_load(&in->hdr->pending_send_sz);
	if (pending == 0)
		return false;
	write = guest_load(&in->hdr->write_index);
	if (!index_ok(in, write)) {
		ring_break(r, "guest's write index is outside of the ring");
		return false;
	}
	free_after = in->data_bytes - ring_used(in, in->index, write);
	return free_after > pending && (free_after < consumed || free_after - consumed <= pending);
}

void vmbus_ring_mask(struct vmbus_ring *r, bool masked)
{
	guest_store(&r->in.hdr->interrupt_mask, masked);
}

bool vmbus_ring_unmask_and_check(struct vmbus_ring *r)
{
	vmbus_ring_mask(r, false);
	/* Pairs with the guest's barrier between its write_index and its look at the mask. */
	full_barrier();
	return guest_load(&r->in.hdr->write_index) != r->in.index;
}

/* Host to guest */

u32 vmbus_ring_bytes_for(u32 extra_bytes, u32 payload_bytes)
{
	return HEADER_BYTES + extra_bytes + (u32)align_up(payload_bytes, 8) + VMBUS_PACKET_TRAILER;
}

static s64 out_free(struct vmbus_ring *r)
{
	u32 read;

	if (r->error)
		return -EPROTO;
	read = guest_load(&r->out.hdr->read_index);
	if (!index_ok(&r->out, read))
		return ring_break(r, "guest's read index is outside of the ring");
	return r->out.data_bytes - ring_used(&r->out, read, r->out.index);
}

s64 vmbus_ring_room(struct vmbus_ring *r)
{
	s64 room = out_free(r);

	if (room < 0)
		return room;
	return room > r->out_reserved ? room - r->out_reserved : 0;
}

static u64 iov_bytes(const struct iovec *iov, int count)
{
	u64 n = 0;

	for (int i = 0; i < count; i++)
		n += iov[i].iov_len;
	return n;
}

int vmbus_ring_write(struct vmbus_ring *r, const struct vmbus_packet_out *out, bool reserved)
{
	u64 payload = iov_bytes(out->payload, out->payload_count);
	u64 len = HEADER_BYTES + out->extra_bytes + align_up(payload, 8);
	struct vmbus_packet_header head;
	u64 trailer = (u64)r->out.index << 32, zero = 0;
	u32 at = r->out.index;
	s64 room;

	if (len / 8 > UINT16_MAX || len + VMBUS_PACKET_TRAILER >= r->out.data_bytes)
		return -EMSGSIZE;
	room = reserved ? out_free(r) : vmbus_ring_room(r);
	if (room < 0)
		return (int)room;
	if ((u64)room <= len + VMBUS_PACKET_TRAILER)
		return -EAGAIN;
	head = (struct vmbus_packet_header){
		.type = out->type,
		.offset8 = (u16)((HEADER_BYTES + out->extra_bytes) / 8),
		.len8 = (u16)(len / 8),
		.flags = out->flags,
		.transaction_id = out->transaction_id,
	};
	at = half_write(&r->out, at, &head, sizeof(head));
	at = half_write(&r->out, at, out->extra, out->extra_bytes);
	for (int i = 0; i < out->payload_count; i++)
		at = half_write(&r->out, at, out->payload[i].iov_base,
				(u32)out->payload[i].iov_len);
	at = half_write(&r->out, at, &zero, (u32)(align_up(payload, 8) - payload));
	r->out.index = half_write(&r->out, at, &trailer, sizeof(trailer));
	return 0;
}

bool vmbus_ring_publish_write(struct vmbus_ring *r)
{
	struct vmbus_ring_half *out = &r->out;
	u32 old = out->published;

	if (old == out->index)
		return false;
	out->published = out->index;
	guest_store(&out->hdr->write_index, out->index);
	/* Pairs with the guest's barrier between unmasking (or read_index) and its last look. */
	full_barrier();
	if (guest_load(&out->hdr->interrupt_mask))
		return false;
	return guest_load(&out->hdr->read_index) == old;
}

int vmbus_ring_reserve(struct vmbus_ring *r, u32 bytes)
{
	s64 room = vmbus_ring_room(r);

	if (room < 0)
		return (int)room;
	if (room <= bytes)
		return -EAGAIN;
	r->out_reserved += bytes;
	return 0;
}

void vmbus_ring_unreserve(struct vmbus_ring *r, u32 bytes)
{
	assert(r->out_reserved >= bytes);
	r->out_reserved -= bytes;
}

bool vmbus_ring_want(struct vmbus_ring *r, u32 bytes)
{
	if (bytes == 0) {
		guest_store(&r->out.hdr->pending_send_sz, 0);
		return true;
	}
	/* The guest compares with ">" too. More than the ring could never become free. */
	guest_store(&r->out.hdr->pending_send_sz,
		    (u32)min_u64((u64)bytes + r->out_reserved, r->out.data_bytes - 8));
	/* Pairs with the guest's barrier between its read_index and its look at pending_send_sz. */
	full_barrier();
	return vmbus_ring_room(r) > bytes;
}

bool vmbus_ring_in_pending(struct vmbus_ring *r)
{
	return guest_load(&r->in.hdr->write_index) != r->in.index;
}

bool vmbus_ring_unheard(struct vmbus_ring *r)
{
	return !guest_load(&r->out.hdr->interrupt_mask) && vmbus_ring_out_pending(r);
}

bool vmbus_ring_out_pending(struct vmbus_ring *r)
{
	return guest_load(&r->out.hdr->read_index) != r->out.published;
}

/* Guest memory of ranges */

static int iov_append(struct iovec *iov, int count, int max, u8 *hva, u32 bytes)
{
	if (count > 0 && (u8 *)iov[count - 1].iov_base + iov[count - 1].iov_len == hva) {
		iov[count - 1].iov_len += bytes;
		return count;
	}
	if (count == max)
		return -E2BIG;
	iov[count] = (struct iovec){ hva, bytes };
	return count + 1;
}

static int range_append(struct gmem *gm, const struct vmbus_range *range, u32 skip, u32 bytes,
			struct iovec *iov, int count, int max)
{
	u64 at = (u64)range->byte_offset + skip;

	if ((u64)skip + bytes > range->byte_count)
		return -EFAULT;
	while (bytes) {
		u32 in_page = (u32)(at % PAGE_BYTES);
		u32 run = (u32)min_u64(bytes, PAGE_BYTES - in_page);
		u64 pfn;
		u8 *hva;

		memcpy(&pfn, range->pfn + at / PAGE_BYTES * 8, sizeof(pfn));
		hva = pfn < UINT64_MAX / PAGE_BYTES ? gmem_ptr(gm, pfn * PAGE_BYTES, PAGE_BYTES)
						    : NULL;
		if (!hva)
			return -EFAULT;
		count = iov_append(iov, count, max, hva + in_page, run);
		if (count < 0)
			return count;
		at += run;
		bytes -= run;
	}
	return count;
}

int vmbus_range_iov(struct gmem *gm, const struct vmbus_range *range, u32 skip, u32 bytes,
		    struct iovec *iov, int max)
{
	return range_append(gm, range, skip, bytes, iov, 0, max);
}

int vmbus_packet_iov(struct gmem *gm, const struct vmbus_packet *pkt, u32 skip, u32 bytes,
		     struct iovec *iov, int max)
{
	struct vmbus_range range;
	u32 pos = 0;
	int count = 0;

	while (bytes && vmbus_packet_range(pkt, &pos, &range)) {
		u32 run;

		if (skip >= range.byte_count) {
			skip -= range.byte_count;
			continue;
		}
		run = (u32)min_u64(bytes, range.byte_count - skip);
		count = range_append(gm, &range, skip, run, iov, count, max);
		if (count < 0)
			return count;
		skip = 0;
		bytes -= run;
	}
	return bytes ? -EFAULT : count;
}
