// SPDX-License-Identifier: MIT
/*
 * The host's side of a ring pair on memory the input rewrites between, and in
 * the middle of, our calls. What may not happen: an access outside of the rings,
 * a packet that points outside of its copy.
 */
#include "vmbus/ring.h"

#include "vmbus/testing.h"

#define PAGES 6u /* two rings of a header and two data pages */

static u8 mem[PAGES * PAGE_BYTES] __attribute__((aligned(4096)));
static u8 *page[PAGES];
static struct gmem gm;
static const u8 *in;
static size_t left;

static u8 byte(void)
{
	if (!left)
		return 0;
	left--;
	return *in++;
}

static u32 word(void)
{
	u32 v = byte();

	return v < 0xf0 ? v * 8 : v << 24 | (u32)byte() << 16 | (u32)byte() << 8 | byte();
}

static void scribble(void)
{
	u32 *w = (u32 *)page[byte() % PAGES];

	if (byte() & 1)
		w[byte() % 4] = word();
	else
		w[byte() % 64] = word() ^ byte();
}

/* A head that is nearly right where we read next. */
static void plant(struct vmbus_ring *r)
{
	struct vmbus_packet_header h = { byte() & 1 ? VMBUS_PACKET_GPA_DIRECT : byte() % 16,
					 2 + byte() % 8, 2 + byte() % 16, byte() & 3, byte() };
	u32 extra[8] = { 0, byte() % 4, word(), byte(), byte(), 0, byte(), 0 };
	struct guest_ring ring = { (void *)page[0], NULL, r->in.data_bytes };
	u8 raw[16 + sizeof(extra)];

	memcpy(raw, &h, 16);
	memcpy(raw + 16, extra, sizeof(extra));
	for (u32 i = 0; i < sizeof(raw); i++) {
		u32 at = (r->in.index + i) % ring.bytes;

		r->in.page[at / PAGE_BYTES][at % PAGE_BYTES] = raw[i];
	}
	ring.hdr->write_index = (r->in.index + h.len8 * 8u + 8) % ring.bytes;
}

static void use(struct vmbus_ring *r, const struct vmbus_packet *pkt)
{
	const u8 *p = pkt->payload;
	struct vmbus_range range;
	struct iovec iov[4];
	u32 pos = 0, count = 0;
	u8 sum = 0;

	for (u32 i = 0; i < pkt->payload_bytes; i++)
		sum += p[i];
	while (vmbus_packet_range(pkt, &pos, &range)) {
		for (u32 i = 0; i < range.page_count * 8; i++)
			sum += range.pfn[i];
		must(range.byte_count && range.byte_offset < PAGE_BYTES);
		vmbus_range_iov(&gm, &range, 0, range.byte_count, iov, 4);
		count++;
	}
	__asm__ volatile("" : : "r"(sum)); /* the bytes are read, whoever optimizes */
	must(count == pkt->range_count);
	vmbus_packet_iov(&gm, pkt, byte(), word(), iov, 4);
	must(pkt->ring_bytes <= r->in.data_bytes);
}

static void write_some(struct vmbus_ring *r)
{
	static u8 data[9000], extra[64];
	struct iovec iov[2] = { { data, word() % 3000 }, { data, byte() } };
	struct vmbus_packet_out out = { .type = byte(),
					.transaction_id = byte(),
					.extra = extra,
					.extra_bytes = byte() % 8 * 8,
					.payload = iov,
					.payload_count = 1 + byte() % 2 };

	vmbus_ring_write(r, &out, false);
}

static void step(struct vmbus_ring *r)
{
	struct vmbus_packet pkt;

	switch (byte() % 10) {
	case 0:
	case 1:
		scribble();
		break;
	case 2:
		plant(r);
		break;
	case 3:
	case 4:
		if (vmbus_ring_peek(r, &pkt) == 1) {
			scribble(); /* what was peeked at is a copy */
			use(r, &pkt);
			vmbus_ring_consume(r, &pkt);
		}
		break;
	case 5:
		vmbus_ring_publish_read(r);
		vmbus_ring_unmask_and_check(r);
		break;
	case 6:
		write_some(r);
		break;
	case 7:
		vmbus_ring_publish_write(r);
		vmbus_ring_out_pending(r);
		break;
	case 8:
		vmbus_ring_reserve(r, byte() * 8);
		break;
	case 9:
		vmbus_ring_want(r, word() % 0x10000);
		break;
	}
	must(r->in.index < r->in.data_bytes && r->in.index % 8 == 0);
	must(r->out.index < r->out.data_bytes && r->out.index % 8 == 0);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	static const u8 scattered[PAGES] = { 3, 1, 5, 0, 4, 2 };
	static u8 memory[4 * PAGE_BYTES] __attribute__((aligned(4096)));
	struct vmbus_ring r;
	bool mix;

	if (!gm.map) {
		must(gmem_init(&gm) == 0);
		must(gmem_add(&gm, 0, sizeof(memory), memory, GMEM_RAM) == 0);
	}
	in = data;
	left = size;
	mix = byte() & 1;
	memset(mem, 0, sizeof(mem));
	for (u32 i = 0; i < PAGES; i++)
		page[i] = mem + (mix ? scattered[i] : i) * PAGE_BYTES;
	scribble();
	if (vmbus_ring_init(&r, page, PAGES, 3, 4096) == 0) {
		while (left)
			step(&r);
	}
	vmbus_ring_fini(&r);
	return 0;
}
