// SPDX-License-Identifier: MIT
/*
 * Control messages in sequences, after negotiation and offers, to two devices
 * (one of them comes and goes), with a guest that also signals, scribbles on its
 * memory and lets its message slot fill up. What may not happen: a crash, a leak,
 * a channel or device that can not be got rid of at reset.
 */
#include "vmbus/testing.h"

struct fuzz_dev {
	u32 live; /* channels open */
	struct vmbus_channel *ch[8];
	struct vmbus_gpadl *held;
	u64 owed[16];
	u32 owed_count;
	bool slow_close, subs, refuse;
	struct vmbus_channel *closing;
	u32 destroyed;
};

static struct fake_guest g;
static struct fuzz_dev dev[2];
static struct vmbus_device *vd[2];

static int opened(struct vmbus_channel *ch)
{
	struct fuzz_dev *d = vmbus_channel_dev(ch);

	if (d->refuse || d->live == ARRAY_SIZE(d->ch))
		return -EBUSY;
	d->ch[d->live++] = ch;
	return 0;
}

static int packet(struct vmbus_channel *ch, const struct vmbus_packet *pkt)
{
	struct fuzz_dev *d = vmbus_channel_dev(ch);
	struct iovec iov[8];

	vmbus_packet_iov(vmbus_channel_gmem(ch), pkt, 0, pkt->data_bytes, iov, 8);
	if (d->subs && vmbus_channel_index(ch) == 0)
		vmbus_offer_subchannels(ch, pkt->payload_bytes & 7);
	if (!pkt->wants_completion)
		return pkt->transaction_id == 0xbad ? -EPROTO : 0;
	if (pkt->flags & 2)
		return -EAGAIN;
	vmbus_complete(ch, pkt->transaction_id, pkt->payload,
		       pkt->payload_bytes < 64 ? pkt->payload_bytes : 64);
	return 0;
}

static int closed(struct vmbus_channel *ch)
{
	struct fuzz_dev *d = vmbus_channel_dev(ch);

	for (u32 i = 0; i < d->live; i++) {
		if (d->ch[i] == ch) {
			d->ch[i] = d->ch[--d->live];
			break;
		}
	}
	if (d->held && vmbus_channel_index(ch) == 0) {
		vmbus_gpadl_put(d->held);
		d->held = NULL;
	}
	if (d->slow_close && !d->closing) {
		d->closing = ch;
		return -EINPROGRESS;
	}
	return 0;
}

static void finish_close(struct fuzz_dev *d)
{
	struct vmbus_channel *ch = d->closing;

	d->closing = NULL;
	if (ch)
		vmbus_channel_close_done(ch);
}

static void destroy(void *p)
{
	struct fuzz_dev *d = p;

	must(d->live == 0 && !d->held && !d->closing);
	d->destroyed++;
}

static const struct vmbus_device_ops ops = {
	.name = "fuzz",
	.interface_id = HV_GUID(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11),
	.completion_max = 64,
	.opened = opened,
	.packet = packet,
	.closed = closed,
	.destroy = destroy,
};

static void offer(u32 i)
{
	struct vmbus_offer o = { .ops = &ops, .dev = &dev[i], .instance_id.b[0] = (u8)i };

	must(vmbus_offer(g.srv, &o, &vd[i]) == 0);
}

/* Input */

static const u8 *in;
static size_t left;

static u8 byte(void)
{
	if (!left)
		return 0;
	left--;
	return *in++;
}

static u32 small(u32 limit)
{
	return byte() % limit;
}

static void post(const void *m, u32 bytes)
{
	vmbus_message(g.srv, m, bytes);
	guest_run(&g);
}

/* A message of any type whose fields are likely to mean something. */
static void likely_message(void)
{
	u8 m[VMBUS_MESSAGE_MAX] __attribute__((aligned(8))) = { 0 };
	u32 *w = (u32 *)m, pages = 1 + small(8);
	u64 pfn = FAKE_RAM_GPA / PAGE_BYTES + small(64);

	w[0] = small(VMBUS_MESSAGE_COUNT + 1);
	w[2] = small(6);
	w[3] = small(6);
	switch (w[0]) {
	case VMBUS_OPEN_CHANNEL:
		w[4] = small(6);
		w[5] = small(8) == 7 ? 0xffffffff : small(5);
		w[6] = small(8);
		w[37] = small(4);
		m[152] = byte();
		break;
	case VMBUS_GPADL_HEADER:
		m[16] = (u8)(8 + 8 * pages);
		m[18] = 1;
		w[5] = pages * PAGE_BYTES - small(2);
		memcpy(m + 28, &pfn, 8);
		for (u32 i = 1; i < pages; i++, pfn++)
			memcpy(m + 28 + 8 * i, &pfn, 8);
		post(m, 28 + 8 * small(9));
		return;
	case VMBUS_INITIATE_CONTACT: {
		static const u32 versions[] = { 0x20004, 0x40001, 0x50003, 0x60000 };

		w[2] = versions[small(4)];
		w[4] = w[2] >= 0x50000 ? VMBUS_SINT : 0;
		w[5] = byte();
		break;
	}
	case VMBUS_GPADL_BODY:
		memcpy(m + 16, &pfn, 8);
		break;
	}
	post(m, sizeof(m));
}

static void raw_message(void)
{
	u8 m[VMBUS_MESSAGE_MAX] = { 0 };
	u32 n = byte();

	for (u32 i = 0; i < n && i < sizeof(m); i++)
		m[i] = byte();
	post(m, n);
}

static void scribble(void)
{
	u32 *word = guest_ptr(&g, FAKE_RAM_GPA + small(64) * PAGE_BYTES);

	word[small(20)] = small(4) ? byte() * 8u : (u32)byte() << 24 | byte();
}

/* GPADL and OPEN as a driver does them: rings of two pages each way at page 8 * relid. */
static void proper_open(u32 relid, u32 id)
{
	u8 m[60] __attribute__((aligned(8))) = { 0 };
	u32 *w = (u32 *)m, page = 8 * relid;
	struct vmbus_open_channel o = {
		.header.type = VMBUS_OPEN_CHANNEL,
		.relid = relid,
		.ring_gpadl = id,
		.downstream_page_offset = 2,
		.connection_id = 0x2000 + relid,
		.event_flag = (u16)relid,
	};

	w[0] = VMBUS_GPADL_HEADER;
	w[2] = relid;
	w[3] = id;
	w[4] = 1 << 16 | 40;
	w[5] = 4 * PAGE_BYTES;
	for (u64 i = 0, pfn = FAKE_RAM_GPA / PAGE_BYTES + page; i < 4; i++, pfn++)
		memcpy(m + 28 + 8 * i, &pfn, 8);
	post(m, sizeof(m));
	for (u32 i = 0; i < 4; i += 2)
		memset(guest_ptr(&g, FAKE_RAM_GPA + (page + i) * PAGE_BYTES), 0, 128);
	post(&o, sizeof(o));
}

/* A packet of a proper shape at the start of a page, and an index that covers it. */
static void plant_packet(void)
{
	u32 page = 8 + 8 * small(4);
	struct vmbus_packet_header *h = guest_ptr(&g, FAKE_RAM_GPA + (page + 1) * PAGE_BYTES);
	u32 *index = guest_ptr(&g, FAKE_RAM_GPA + page * PAGE_BYTES);

	*h = (struct vmbus_packet_header){ small(14), 2, 2 + small(6), small(4), byte() };
	index[0] = h->len8 * 8u + 8;
	index[1] = 0;
}

static void device_step(void)
{
	static const u8 data[256];
	struct fuzz_dev *d = &dev[small(2)];
	struct vmbus_channel *ch = d->live ? d->ch[small(d->live)] : NULL;

	switch (small(8)) {
	case 0:
		if (ch)
			vmbus_send_inband(ch, 1, 0, data, byte());
		break;
	case 1:
		if (ch && !d->held && vmbus_channel_index(ch) == 0)
			d->held = vmbus_gpadl_get(ch, small(6));
		break;
	case 2:
		if (d->held)
			vmbus_gpadl_put(d->held);
		d->held = NULL;
		break;
	case 3:
		if (ch)
			vmbus_channel_fail(ch, "fuzz");
		break;
	case 4:
		d->slow_close = byte() & 1;
		d->subs = byte() & 1;
		d->refuse = byte() & 1;
		break;
	case 5:
		finish_close(d);
		break;
	case 6:
		if (ch)
			vmbus_channel_resume(ch);
		break;
	case 7:
		if (vd[1])
			vmbus_revoke(vd[1]);
		vd[1] = NULL;
		guest_run(&g);
		if (dev[1].destroyed)
			offer(1);
		dev[1].destroyed = 0;
		break;
	}
}

static void step(void)
{
	switch (small(11)) {
	case 0:
	case 1:
	case 2:
	case 3:
		likely_message();
		break;
	case 4:
		raw_message();
		break;
	case 5:
		vmbus_signal(g.srv, 0x2000 + small(8));
		break;
	case 6:
		scribble();
		break;
	case 7:
		plant_packet();
		break;
	case 8:
		device_step();
		break;
	case 9:
		g.refuse = small(4);
		guest_advance(&g, byte() * 100 * NS_PER_MS);
		break;
	case 10:
		proper_open(1 + small(7), small(6));
		break;
	}
	guest_run(&g);
}

static void start(void)
{
	static bool begun;

	if (!begun) {
		log_set_level(LOG_ERROR);
		guest_init(&g, NULL);
		offer(0);
		begun = true;
	}
	memset(guest_ptr(&g, FAKE_RAM_GPA), 0, 72 * PAGE_BYTES);
	g.refuse = 0;
	if (!vd[1]) {
		dev[1].destroyed = 0;
		offer(1);
	}
	guest_post_contact(&g, small(2) ? VMBUS_VERSION(6, 0) : VMBUS_VERSION(5, 3), byte());
	guest_post_simple(&g, VMBUS_REQUEST_OFFERS);
	proper_open(1, 1);
	proper_open(2, 2);
	must(dev[0].live == 1 && dev[1].live == 1);
}

static void end(void)
{
	struct vmbus_channel_info info[8];
	u32 n;

	g.refuse = 0;
	for (u32 i = 0; i < 2; i++) {
		dev[i].slow_close = dev[i].subs = dev[i].refuse = false;
		finish_close(&dev[i]);
	}
	guest_run(&g);
	vmbus_server_reset(g.srv);
	for (u32 i = 0; i < 2; i++)
		must(dev[i].live == 0 && !dev[i].held);
	n = vmbus_server_list(g.srv, info, 8);
	must(n == 1u + (vd[1] != NULL));
	for (u32 i = 0; i < n; i++)
		must(!info[i].offered && !info[i].open && info[i].relid == 0);
	for (u32 i = 0; i < ARRAY_SIZE(g.ports); i++)
		must(g.ports[i] == 0);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	in = data;
	left = size;
	start();
	while (left)
		step();
	end();
	return 0;
}
