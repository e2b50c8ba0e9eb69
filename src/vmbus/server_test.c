// SPDX-License-Identifier: MIT
/* The control plane: conversations as Linux has them, refusals, and guests that lie. */
#include "vmbus/server.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include "../tests/vectors/vmbus_linux.h"
#include "vmbus/testing.h"

#include <cmocka.h>

#define V(major, minor) VMBUS_VERSION(major, minor)

static struct fake_guest g;

struct test_dev {
	u32 opened, closed, destroyed, packets;
	int open_ret, close_ret;
	struct vmbus_channel *ch;
	struct vmbus_gpadl *held;
	u32 sub_opened;
	bool vmbus_owns;
};

static int dev_opened(struct vmbus_channel *ch)
{
	struct test_dev *d = vmbus_channel_dev(ch);

	if (vmbus_channel_index(ch)) {
		d->sub_opened++;
		return 0;
	}
	d->opened++;
	d->ch = ch;
	return d->open_ret;
}

static int dev_packet(struct vmbus_channel *ch, const struct vmbus_packet *pkt)
{
	struct test_dev *d = vmbus_channel_dev(ch);

	d->packets++;
	return pkt->wants_completion ? vmbus_complete(ch, pkt->transaction_id, "done", 4) : 0;
}

static int dev_closed(struct vmbus_channel *ch)
{
	struct test_dev *d = vmbus_channel_dev(ch);

	if (vmbus_channel_index(ch))
		return 0;
	d->closed++;
	if (d->held) {
		vmbus_gpadl_put(d->held);
		d->held = NULL;
	}
	return d->close_ret;
}

static void dev_destroy(void *dev)
{
	((struct test_dev *)dev)->destroyed++;
}

static const struct vmbus_device_ops dev_ops = {
	.name = "test",
	.interface_id = HV_GUID(0x12345678, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10),
	.completion_max = 8,
	.opened = dev_opened,
	.packet = dev_packet,
	.closed = dev_closed,
	.destroy = dev_destroy,
};

static struct test_dev dev, dev2;
static struct vmbus_device *vd, *vd2;

static struct vmbus_device *offer(struct test_dev *d, u8 instance)
{
	struct vmbus_offer o = { .ops = &dev_ops, .dev = d };
	struct vmbus_device *out = NULL;

	o.instance_id.b[0] = instance;
	assert_int_equal(vmbus_offer(g.srv, &o, &out), 0);
	guest_run(&g);
	return out;
}

static int setup(void **state)
{
	memset(&dev, 0, sizeof(dev));
	memset(&dev2, 0, sizeof(dev2));
	guest_init(&g, NULL);
	vd = offer(&dev, 1);
	return 0;
}

static int teardown(void **state)
{
	guest_fini(&g);
	assert_int_equal(dev.destroyed, 1);
	assert_int_equal(dev.opened - (dev.open_ret ? dev.opened : 0), dev.closed);
	return 0;
}

static struct guest_channel connect_one(u32 version, u32 features)
{
	struct guest_channel c;

	guest_connect(&g, version, features);
	guest_expect_offer(&g, &c);
	guest_expect(&g, VMBUS_ALL_OFFERS_DELIVERED, 8);
	return c;
}

static void versions(void **state)
{
	static const struct {
		u32 version, wish, granted;
		bool ok;
	} rows[] = {
		{ V(0, 13), 0, 0, false },     { V(1, 1), 0, 0, false },
		{ V(2, 4), 0, 0, true },       { V(3, 0), 0, 0, true },
		{ V(4, 0), 0, 0, true },       { V(4, 1), 0, 0, true },
		{ V(5, 0), 0xff, 0, true },    { V(5, 1), 0, 0, true },
		{ V(5, 2), 0, 0, true },       { V(5, 3), 0xff, 0, true },
		{ V(5, 4), 0, 0, false },      { V(6, 0), 0, 0, true },
		{ V(6, 0), 0xff, 0x29, true }, { V(6, 1), 0, 0, false },
		{ V(7, 0), 0, 0, false },      { 0, 0, 0, false },
	};

	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct vmbus_version_response *r;
		bool full = rows[i].ok && rows[i].version >= V(6, 0);

		guest_post_contact(&g, rows[i].version, rows[i].wish);
		r = guest_expect(&g, VMBUS_VERSION_RESPONSE, full ? 20 : 16);
		assert_int_equal(r->supported, rows[i].ok);
		assert_int_equal(r->state, 0);
		if (rows[i].ok && rows[i].version >= V(5, 0))
			assert_int_equal(r->connection_id, 4);
		else if (rows[i].ok)
			assert_int_equal(r->version, rows[i].version);
		if (full)
			assert_int_equal(r->features, rows[i].granted);
		assert_int_equal(vmbus_server_version(g.srv), rows[i].ok ? rows[i].version : 0);
		assert_int_equal(g.connected, rows[i].ok ? rows[i].version : 0);
		guest_expect_none(&g);
	}
}

static u32 unhex(const char *hex, u8 *out)
{
	u32 n = 0, v;

	for (; sscanf(hex, "%2x", &v) == 1; hex += 2)
		out[n++] = (u8)v;
	return n;
}

static void the_golden_conversation(void **state)
{
	for (u32 i = 0; i < ARRAY_SIZE(vmbus_linux_conversation); i++) {
		u8 bytes[VMBUS_MESSAGE_MAX];
		u32 n = unhex(vmbus_linux_conversation[i].hex, bytes);
		const struct fake_message *m;

		if (vmbus_linux_conversation[i].direction == '>') {
			guest_expect_none(&g);
			guest_post(&g, bytes, n);
			continue;
		}
		m = guest_take(&g);
		assert_non_null(m);
		assert_int_equal(m->sint, 2);
		assert_int_equal(m->bytes, n);
		assert_memory_equal(m->payload, bytes, n);
	}
	guest_expect_none(&g);
	assert_int_equal(dev.opened, 1);
}

static void contact_is_validated(void **state)
{
	static const struct {
		u32 version, vp;
		u8 sint, vtl;
		u64 a, b;
		bool ok;
		u32 answer_vp;
		u8 answer_sint;
	} rows[] = {
		{ V(5, 3), 1, 2, 0, 0, 0, true, 1, 2 },
		{ V(5, 3), 3, 7, 0, FAKE_RAM_GPA, FAKE_RAM_GPA + 4096, true, 3, 7 },
		{ V(5, 3), 4, 2, 0, 0, 0, false, 0, 2 },
		{ V(5, 3), 1, 16, 0, 0, 0, false, 1, 2 },
		{ V(5, 3), 1, 0, 0, 0, 0, false, 1, 2 },
		{ V(5, 3), 1, 2, 1, 0, 0, false, 1, 2 },
		{ V(5, 3), 1, 2, 0, FAKE_RAM_GPA, 0, false, 1, 2 },
		{ V(5, 3), 1, 2, 0, FAKE_RAM_GPA + 8, FAKE_RAM_GPA, false, 1, 2 },
		{ V(5, 3), 1, 2, 0, FAKE_RAM_GPA, 1ull << 40, false, 1, 2 },
		{ V(2, 4), 3, 9, 9, 0, 0, true, 0, 2 }, /* target VP is honoured from 3.0 on */
		{ V(3, 0), 3, 9, 9, 0, 0, true, 3, 2 },
	};

	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		struct vmbus_initiate_contact m = {
			.header.type = VMBUS_INITIATE_CONTACT,
			.version = rows[i].version,
			.target_vp = rows[i].vp,
			.sint = rows[i].sint,
			.vtl = rows[i].vtl,
			.monitor_parent_to_child_gpa = rows[i].a,
			.monitor_child_to_parent_gpa = rows[i].b,
		};
		const struct fake_message *f;
		const struct vmbus_version_response *r;

		guest_post(&g, &m, sizeof(m));
		f = guest_take(&g);
		assert_non_null(f);
		r = (const void *)f->payload;
		assert_int_equal(r->supported, 1);
		assert_int_equal(r->state, rows[i].ok ? 0 : 2);
		assert_int_equal(f->vp, rows[i].answer_vp);
		assert_int_equal(f->sint, rows[i].answer_sint);
		assert_int_equal(vmbus_server_version(g.srv), rows[i].ok ? rows[i].version : 0);
	}
}

static void offers_are_ordered_and_end(void **state)
{
	struct guest_channel a, b;
	char text[HV_GUID_TEXT];

	vd2 = offer(&dev2, 0);
	guest_connect(&g, V(5, 3), 0);
	guest_expect_offer(&g, &a);
	guest_expect_offer(&g, &b);
	guest_expect(&g, VMBUS_ALL_OFFERS_DELIVERED, 8);
	assert_int_equal(a.offer.instance_id.b[0], 0);
	assert_int_equal(b.offer.instance_id.b[0], 1);
	assert_int_equal(a.offer.relid, 1);
	assert_int_equal(b.offer.relid, 2);
	assert_int_equal(b.offer.connection_id, 0x2002);
	assert_int_equal(b.offer.dedicated_interrupt, 1);
	assert_int_equal(b.offer.monitor_allocated, 0);
	assert_string_equal(hv_guid_format(&a.offer.interface_id, text),
			    "12345678-0001-0002-0304-05060708090a");
	/* Asked again: answered again, nothing offered twice. */
	guest_post_simple(&g, VMBUS_REQUEST_OFFERS);
	guest_expect(&g, VMBUS_ALL_OFFERS_DELIVERED, 8);
	guest_expect_none(&g);
}

static void open_close_reopen(void **state)
{
	struct guest_channel c = connect_one(V(5, 3), 0);

	for (u32 i = 1; i <= 3; i++) {
		assert_int_equal(guest_open(&c, 4, 1), 0);
		assert_int_equal(dev.opened, i);
		assert_int_equal(g.ports[0], c.offer.connection_id);
		guest_send(&c, 1, i, "hi", 2);
		assert_int_equal(dev.packets, i);
		assert_int_equal(__atomic_load_n(&g.last_vp, __ATOMIC_SEQ_CST), 1);
		guest_close(&c);
		assert_int_equal(dev.closed, i);
		assert_int_equal(g.ports[0], 0);
		assert_int_equal(vmbus_signal(g.srv, c.offer.connection_id), -ENOENT);
	}
	guest_expect_none(&g);
}

static void open_is_validated(void **state)
{
	struct guest_channel c = connect_one(V(5, 3), 0);
	const struct {
		u32 relid, gpadl, vp, page;
		bool ok;
	} rows[] = {
		{ 0, 1, 0, 2, false },
		{ 7, 1, 0, 2, false },
		{ 2048, 1, 0, 2, false },
		{ 0xffffffff, 1, 0, 2, false },
		{ c.offer.relid, 9, 0, 2, false },
		{ c.offer.relid, 1, 4, 2, false },
		{ c.offer.relid, 1, 0, 0, false },
		{ c.offer.relid, 1, 0, 1, false },
		{ c.offer.relid, 1, 0, 5, false },
		{ c.offer.relid, 1, 0, 6, false },
		{ c.offer.relid, 1, 0, 0xffffffff, false },
		{ c.offer.relid, 2, 0, 2, false }, /* in progress */
		{ c.offer.relid, 1, VMBUS_NO_INTERRUPT_VP, 2, true },
		{ c.offer.relid, 1, 0, 2, false }, /* open already */
	};
	u8 head[36] = { 0 };
	struct vmbus_gpadl_header *h = (void *)head;

	assert_int_equal(guest_gpadl(&g, c.offer.relid, 1, guest_alloc(&g, 6), 6), 0);
	h->header.type = VMBUS_GPADL_HEADER;
	h->relid = c.offer.relid;
	h->gpadl = 2;
	h->range_bytes = 8 + 6 * 8;
	h->range_count = 1;
	h->ranges[1] = 0x60; /* 6 pages, one of them in this message */
	h->ranges[8] = 0x01;
	h->ranges[9] = 0x01;
	guest_post(&g, head, sizeof(head));
	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		struct vmbus_open_channel m = {
			.header.type = VMBUS_OPEN_CHANNEL,
			.relid = rows[i].relid,
			.open_id = 100 + i,
			.ring_gpadl = rows[i].gpadl,
			.target_vp = rows[i].vp,
			.downstream_page_offset = rows[i].page,
		};
		const struct vmbus_open_result *r;

		guest_post(&g, &m, VMBUS_OPEN_CHANNEL_V5_BYTES);
		r = guest_expect(&g, VMBUS_OPEN_RESULT, sizeof(*r));
		assert_int_equal(r->relid, rows[i].relid);
		assert_int_equal(r->open_id, 100 + i);
		assert_int_equal(r->status, rows[i].ok ? 0 : VMBUS_STATUS_FAILED);
	}
	guest_expect_none(&g);
	assert_int_equal(dev.opened, 1);
}

static void refusals_of_device_and_host_are_answered(void **state)
{
	struct guest_channel c = connect_one(V(5, 3), 0);

	dev.open_ret = -EBUSY;
	assert_int_equal(guest_open(&c, 2, 0), VMBUS_STATUS_FAILED);
	dev.open_ret = 0;
	dev.opened = 0;
	g.fail_port = 1;
	assert_int_equal(guest_open(&c, 2, 0), VMBUS_STATUS_FAILED);
	assert_int_equal(dev.closed, 1);
	assert_int_equal(guest_open(&c, 2, 0), 0);
}

static void gpadls_are_validated(void **state)
{
	struct guest_channel c = connect_one(V(5, 3), 0);
	static const struct {
		u32 relid; /* 0: the right one */
		u16 range_bytes, range_count;
		u32 byte_count, byte_offset;
		u64 pfn;
		bool ok;
	} rows[] = {
		{ 0, 16, 1, 4096, 0, 0x100, true },
		{ 0, 16, 1, 1, 4095, 0x100, true },
		{ 99, 16, 1, 4096, 0, 0x100, false },
		{ 4000000000u, 16, 1, 4096, 0, 0x100, false },
		{ 0, 16, 0, 4096, 0, 0x100, false },
		{ 0, 16, 2, 4096, 0, 0x100, false },
		{ 0, 8, 1, 4096, 0, 0x100, false },
		{ 0, 24, 1, 4096, 0, 0x100, false },
		{ 0, 16, 1, 0, 0, 0x100, false },
		{ 0, 16, 1, 4096, 1, 0x100, false },
		{ 0, 16, 1, 4096, 4096, 0x100, false },
		{ 0, 16, 1, 0xffffffff, 0xfff, 0x100, false },
		{ 0, 16, 1, 4096, 0, 0, false },
		{ 0, 16, 1, 4096, 0, 0x4100, false },
		{ 0, 16, 1, 4096, 0, 0x10000000000100, false },
		{ 0, 16, 1, 4096, 0, ~0ull, false },
	};

	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		u8 buf[36] = { 0 };
		struct vmbus_gpadl_header *h = (void *)buf;
		struct vmbus_gpa_range range = { rows[i].byte_count, rows[i].byte_offset };
		const struct vmbus_gpadl_created *r;

		h->header.type = VMBUS_GPADL_HEADER;
		h->relid = rows[i].relid ? rows[i].relid : c.offer.relid;
		h->gpadl = 1000 + i;
		h->range_bytes = rows[i].range_bytes;
		h->range_count = rows[i].range_count;
		memcpy(h->ranges, &range, 8);
		memcpy(h->ranges + 8, &rows[i].pfn, 8);
		guest_post(&g, buf, sizeof(buf));
		r = guest_expect(&g, VMBUS_GPADL_CREATED, sizeof(*r));
		assert_int_equal(r->gpadl, 1000 + i);
		assert_int_equal(r->relid, h->relid);
		assert_int_equal(r->status, rows[i].ok ? 0 : VMBUS_STATUS_FAILED);
		guest_expect_none(&g);
	}
	/* An id in use, and pages for nothing. */
	assert_int_equal(guest_gpadl(&g, c.offer.relid, 1000, FAKE_RAM_GPA, 1),
			 VMBUS_STATUS_FAILED);
	guest_post(&g, &(struct vmbus_gpadl_body){ { VMBUS_GPADL_BODY }, 0, 7777 }, 16);
	guest_expect_none(&g);
	/* A big one takes many bodies; a page that is not memory ends it with one answer. */
	assert_int_equal(guest_gpadl(&g, c.offer.relid, 2000, FAKE_RAM_GPA, 4096), 0);
	assert_int_equal(guest_gpadl(&g, c.offer.relid, 2001,
				     FAKE_RAM_GPA + FAKE_RAM_BYTES - 50 * PAGE_BYTES, 100),
			 VMBUS_STATUS_FAILED);
	guest_expect_none(&g);
}

static void teardown_is_always_answered(void **state)
{
	struct guest_channel c = connect_one(V(5, 3), 0);
	struct vmbus_gpadl_teardown m = { { VMBUS_GPADL_TEARDOWN }, c.offer.relid, 0xdead };
	const struct vmbus_gpadl_torndown *r;

	guest_post(&g, &m, sizeof(m));
	r = guest_expect(&g, VMBUS_GPADL_TORNDOWN, sizeof(*r));
	assert_int_equal(r->gpadl, 0xdead);
	m.relid = 1234;
	guest_post(&g, &m, sizeof(m));
	guest_expect(&g, VMBUS_GPADL_TORNDOWN, sizeof(*r));
	/* The ring's is answered when the channel has let go, the buffer's when the device has. */
	assert_int_equal(guest_open(&c, 2, 0), 0);
	assert_int_equal(guest_gpadl(&g, c.offer.relid, 55, FAKE_RAM_GPA, 30), 0);
	dev.held = vmbus_gpadl_get(dev.ch, 55);
	assert_non_null(dev.held);
	assert_int_equal(vmbus_gpadl_bytes(dev.held), 30 * 4096);
	assert_int_equal(vmbus_gpadl_write(dev.held, 4090, "0123456789", 10), 0);
	assert_memory_equal(guest_ptr(&g, FAKE_RAM_GPA + 4090), "0123456789", 10);
	assert_int_equal(vmbus_gpadl_write(dev.held, 30 * 4096 - 5, "0123456789", 10), -EFAULT);
	assert_null(vmbus_gpadl_ptr(dev.held, 30 * 4096, 1));
	assert_ptr_equal(vmbus_gpadl_ptr(dev.held, 100, 8000), guest_ptr(&g, FAKE_RAM_GPA + 100));
	assert_null(vmbus_gpadl_get(dev.ch, 56));
	m.relid = c.offer.relid;
	m.gpadl = 55;
	guest_post(&g, &m, sizeof(m));
	guest_expect_none(&g);
	assert_null(vmbus_gpadl_get(dev.ch, 55)); /* going away */
	vmbus_gpadl_put(dev.held);
	dev.held = NULL;
	r = guest_expect(&g, VMBUS_GPADL_TORNDOWN, sizeof(*r));
	assert_int_equal(r->gpadl, 55);
	m.gpadl = c.gpadl;
	guest_post(&g, &m, sizeof(m));
	guest_expect_none(&g);
	guest_post_relid(&g, VMBUS_CLOSE_CHANNEL, c.offer.relid);
	r = guest_expect(&g, VMBUS_GPADL_TORNDOWN, sizeof(*r));
	assert_int_equal(r->gpadl, c.gpadl);
}

static void limits_hold(void **state)
{
	struct vmbus_config limits = { .max_gpadl_pages = 10, .max_gpadls = 3, .max_pending = 4 };
	struct guest_channel c;
	struct vmbus_message_header m = { VMBUS_REQUEST_OFFERS };
	u32 i;

	guest_fini(&g);
	guest_init(&g, &limits);
	memset(&dev, 0, sizeof(dev));
	vd = offer(&dev, 1);
	c = connect_one(V(5, 3), 0);
	assert_int_equal(guest_gpadl(&g, c.offer.relid, 1, FAKE_RAM_GPA, 11), VMBUS_STATUS_FAILED);
	assert_int_equal(guest_gpadl(&g, c.offer.relid, 1, FAKE_RAM_GPA, 8), 0);
	assert_int_equal(guest_gpadl(&g, c.offer.relid, 2, FAKE_RAM_GPA, 3), VMBUS_STATUS_FAILED);
	assert_int_equal(guest_gpadl(&g, c.offer.relid, 2, FAKE_RAM_GPA, 1), 0);
	assert_int_equal(guest_gpadl(&g, c.offer.relid, 3, FAKE_RAM_GPA, 1), 0);
	assert_int_equal(guest_gpadl(&g, c.offer.relid, 4, FAKE_RAM_GPA, 1), VMBUS_STATUS_FAILED);
	/* A guest that does not read its messages: its own posts are refused, in order. */
	g.refuse = 1000000;
	for (i = 0; i < 100 && vmbus_message(g.srv, &m, sizeof(m)) == 0; i++)
		guest_run(&g);
	assert_in_range(i, 4, 6);
	g.refuse = 0;
	vmbus_message_slot_free(g.srv);
	guest_run(&g);
	for (; i; i--)
		guest_expect(&g, VMBUS_ALL_OFFERS_DELIVERED, 8);
	guest_expect_none(&g);
	/* Nobody says that the slot is free: the server looks again by itself. */
	g.refuse = 2;
	guest_post(&g, &m, sizeof(m));
	guest_expect_none(&g);
	guest_advance(&g, VMBUS_RETRY_NS);
	guest_expect_none(&g);
	guest_advance(&g, VMBUS_RETRY_NS);
	guest_expect(&g, VMBUS_ALL_OFFERS_DELIVERED, 8);
}

static void modify_channel(void **state)
{
	static const struct {
		u32 version;
		bool answered;
	} rows[] = { { V(4, 0), false },
		     { V(4, 1), false },
		     { V(5, 2), false },
		     { V(5, 3), true },
		     { V(6, 0), true } };

	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		struct guest_channel c = connect_one(rows[i].version, 0);
		struct vmbus_modify_channel m = { { VMBUS_MODIFY_CHANNEL }, c.offer.relid, 3 };
		const struct vmbus_modify_channel_response *r;

		assert_int_equal(guest_open(&c, 2, 0), 0);
		for (u32 bad = 0; bad < 3; bad++) {
			m.relid = bad == 1 ? 77 : c.offer.relid;
			m.target_vp = bad == 2 ? 9 : 3;
			guest_post(&g, &m, sizeof(m));
			if (!rows[i].answered)
				continue;
			r = guest_expect(&g, VMBUS_MODIFY_CHANNEL_RESPONSE, sizeof(*r));
			assert_int_equal(r->relid, m.relid);
			assert_int_equal(r->status, bad ? VMBUS_STATUS_FAILED : 0);
		}
		guest_expect_none(&g);
		assert_int_equal(vmbus_channel_target_vp(dev.ch),
				 rows[i].version >= V(4, 1) ? 3 : 0);
		guest_close(&c);
	}
}

static void rescind_and_release(void **state)
{
	struct guest_channel c = connect_one(V(5, 3), 0), c2;
	const struct vmbus_relid_message *r;

	/* At run time: offered at once. */
	vd2 = offer(&dev2, 2);
	guest_expect_offer(&g, &c2);
	assert_int_equal(guest_open(&c2, 2, 0), 0);
	vmbus_revoke(vd2);
	r = guest_expect(&g, VMBUS_RESCIND_OFFER, sizeof(*r));
	assert_int_equal(r->relid, c2.offer.relid);
	/* Requests in flight are served until the guest closes. */
	guest_send(&c2, 0, 1, "x", 1);
	assert_int_equal(dev2.packets, 1);
	assert_int_equal(dev2.destroyed, 0);
	guest_post_relid(&g, VMBUS_CLOSE_CHANNEL, c2.offer.relid);
	assert_int_equal(dev2.closed, 1);
	assert_int_equal(dev2.destroyed, 1);
	/* The same device again waits until the guest has let go of the old one. */
	vd2 = offer(&dev2, 2);
	guest_expect_none(&g);
	guest_post_relid(&g, VMBUS_RELID_RELEASED, c2.offer.relid);
	guest_expect_offer(&g, &c2);
	/* Taken away while closed, and never seen by the guest. */
	vmbus_revoke(vd2);
	guest_expect(&g, VMBUS_RESCIND_OFFER, sizeof(*r));
	assert_int_equal(dev2.destroyed, 2);
	vd2 = offer(&dev2, 2);
	vmbus_revoke(vd2);
	guest_run(&g);
	assert_int_equal(dev2.destroyed, 3);
	guest_expect_none(&g);
	guest_post_relid(&g, VMBUS_RELID_RELEASED, c2.offer.relid);
	guest_expect_none(&g);
	/* A guest that never closes: the grace ends. */
	assert_int_equal(guest_open(&c, 2, 0), 0);
	vmbus_revoke(vd);
	guest_expect(&g, VMBUS_RESCIND_OFFER, sizeof(*r));
	guest_advance(&g, VMBUS_REVOKE_GRACE_NS - 1);
	assert_int_equal(dev.destroyed, 0);
	guest_advance(&g, 1);
	assert_int_equal(dev.destroyed, 1);
	/* Messages about it still get their answers. */
	guest_post_open(&c, 0);
	guest_expect(&g, VMBUS_OPEN_RESULT, 20);
	guest_post_relid(&g, VMBUS_CLOSE_CHANNEL, c.offer.relid);
	assert_int_equal(guest_gpadl(&g, c.offer.relid, 99, FAKE_RAM_GPA, 1), VMBUS_STATUS_FAILED);
	guest_post_relid(&g, VMBUS_RELID_RELEASED, c.offer.relid);
	guest_post_relid(&g, VMBUS_RELID_RELEASED, c.offer.relid);
	guest_expect_none(&g);
}

static void a_released_channel_returns_with_the_next_connection(void **state)
{
	struct guest_channel c = connect_one(V(5, 3), 0);

	guest_post_relid(&g, VMBUS_RELID_RELEASED, c.offer.relid);
	guest_post_simple(&g, VMBUS_REQUEST_OFFERS);
	guest_expect(&g, VMBUS_ALL_OFFERS_DELIVERED, 8);
	guest_expect_none(&g);
	c = connect_one(V(5, 3), 0);
	assert_int_equal(guest_open(&c, 2, 0), 0);
	guest_post_relid(&g, VMBUS_RELID_RELEASED, c.offer.relid); /* open: an error, ignored */
	guest_send(&c, 0, 1, "x", 1);
	assert_int_equal(dev.packets, 1);
}

static void unload_waits_for_the_device(void **state)
{
	struct guest_channel c = connect_one(V(5, 3), 0);

	assert_int_equal(guest_open(&c, 2, 0), 0);
	dev.close_ret = -EINPROGRESS;
	guest_post_simple(&g, VMBUS_UNLOAD);
	guest_expect_none(&g);
	assert_int_equal(dev.closed, 1);
	assert_int_equal(vmbus_send_inband(dev.ch, 0, 0, "x", 1), -EPIPE);
	vmbus_channel_close_done(dev.ch);
	guest_expect(&g, VMBUS_UNLOAD_COMPLETE, 8);
	guest_expect_none(&g);
	assert_int_equal(g.connected, 0);
	/* Without a connection nothing but contact is heard. */
	guest_post_simple(&g, VMBUS_UNLOAD);
	guest_post_simple(&g, VMBUS_REQUEST_OFFERS);
	guest_expect_none(&g);
	dev.close_ret = 0;
	c = connect_one(V(5, 3), 0);
	assert_int_equal(c.offer.relid, 1);
	assert_int_equal(guest_open(&c, 2, 0), 0);
}

static void contact_on_a_live_connection_resets(void **state)
{
	struct guest_channel c = connect_one(V(5, 3), 0);

	assert_int_equal(guest_open(&c, 2, 0), 0);
	assert_int_equal(guest_gpadl(&g, c.offer.relid, 5, FAKE_RAM_GPA, 3), 0);
	/* The old kernel left its slot full; what waits for it must not reach the new one. */
	g.refuse = 2;
	guest_post_simple(&g, VMBUS_REQUEST_OFFERS);
	dev.close_ret = -EINPROGRESS;
	guest_post_contact(&g, V(4, 0), 0);
	guest_post_contact(&g, V(4, 1), 0); /* only the newest counts */
	assert_int_equal(dev.closed, 1);
	guest_expect_none(&g);
	vmbus_channel_close_done(dev.ch);
	dev.close_ret = 0;
	guest_expect(&g, VMBUS_VERSION_RESPONSE, 16);
	guest_expect_none(&g);
	assert_int_equal(g.connected, V(4, 1));
	guest_post_simple(&g, VMBUS_REQUEST_OFFERS);
	guest_expect_offer(&g, &c);
	guest_expect(&g, VMBUS_ALL_OFFERS_DELIVERED, 8);
	assert_int_equal(guest_open(&c, 2, 0), 0);
}

static void open_while_closing_is_queued(void **state)
{
	struct guest_channel c = connect_one(V(5, 3), 0);
	const struct vmbus_open_result *r;
	u32 second;

	assert_int_equal(guest_open(&c, 2, 0), 0);
	dev.close_ret = -EINPROGRESS;
	guest_post_relid(&g, VMBUS_CLOSE_CHANNEL, c.offer.relid);
	second = g.next_gpadl++;
	assert_int_equal(guest_gpadl(&g, c.offer.relid, second, guest_alloc(&g, 4), 4), 0);
	c.gpadl = second;
	guest_post_open(&c, 0);
	guest_expect_none(&g);
	guest_post_open(&c, 0); /* one can wait, the next is refused */
	r = guest_expect(&g, VMBUS_OPEN_RESULT, sizeof(*r));
	assert_int_equal(r->status, VMBUS_STATUS_FAILED);
	dev.close_ret = 0;
	vmbus_channel_close_done(dev.ch);
	r = guest_expect(&g, VMBUS_OPEN_RESULT, sizeof(*r));
	assert_int_equal(r->status, 0);
	assert_int_equal(dev.opened, 2);
}

static void corrupted_ring_closes_that_channel_only(void **state)
{
	struct guest_channel a, b;

	vd2 = offer(&dev2, 2);
	guest_connect(&g, V(5, 3), 0);
	guest_expect_offer(&g, &a);
	guest_expect_offer(&g, &b);
	guest_expect(&g, VMBUS_ALL_OFFERS_DELIVERED, 8);
	assert_int_equal(guest_open(&a, 2, 0), 0);
	assert_int_equal(guest_open(&b, 2, 0), 0);
	a.to_host.hdr->write_index = 0x12345678;
	guest_signal(&a);
	assert_int_equal(dev.closed, 1);
	guest_expect_none(&g);
	guest_send(&b, 1, 1, "x", 1);
	assert_int_equal(dev2.packets, 1);
	/* Not again before the guest has closed it. */
	guest_post_open(&a, 0);
	assert_int_equal(
		((const struct vmbus_open_result *)guest_expect(&g, VMBUS_OPEN_RESULT, 20))->status,
		VMBUS_STATUS_FAILED);
	guest_close(&a);
	assert_int_equal(guest_open(&a, 2, 0), 0);
	/* The other direction. */
	a.from_host.hdr->read_index = 4096;
	assert_int_equal(vmbus_send_inband(dev.ch, 0, 0, "x", 1), -EPIPE);
	guest_run(&g);
	assert_int_equal(dev.closed, 2);
	guest_close(&a);
}

static void subchannels(void **state)
{
	struct guest_channel c = connect_one(V(5, 3), 0), sub[3];
	u32 first = 0;

	assert_int_equal(guest_open(&c, 2, 0), 0);
	assert_int_equal(vmbus_offer_subchannels(dev.ch, 65), -ENOSPC);
	for (u32 round = 0; round < 2; round++) {
		assert_int_equal(vmbus_offer_subchannels(dev.ch, 3), 0);
		for (u32 i = 0; i < 3; i++) {
			guest_expect_offer(&g, &sub[i]);
			assert_int_equal(sub[i].offer.subchannel_index, i + 1);
			assert_true(hv_guid_eq(&sub[i].offer.instance_id, &c.offer.instance_id));
			if (!first)
				first = sub[i].offer.relid;
		}
		assert_int_equal(guest_open(&sub[0], 2, 2), 0);
		assert_int_equal(guest_open(&sub[1], 2, 3), 0);
		guest_send(&sub[1], 1, 9, "x", 1);
		guest_close(&sub[0]);
		guest_post_relid(&g, VMBUS_CLOSE_CHANNEL, c.offer.relid);
		/* Every sub-channel is taken away with its primary. */
		for (u32 i = 0; i < 3; i++) {
			const struct vmbus_relid_message *r =
				guest_expect(&g, VMBUS_RESCIND_OFFER, sizeof(*r));

			assert_int_equal(r->relid, sub[i].offer.relid);
		}
		for (u32 i = 0; i < 3; i++) {
			if (i == 1)
				guest_post_relid(&g, VMBUS_CLOSE_CHANNEL, sub[i].offer.relid);
			guest_post_relid(&g, VMBUS_RELID_RELEASED, sub[i].offer.relid);
		}
		guest_expect_none(&g);
		assert_int_equal(guest_open(&c, 2, 0), 0);
	}
	assert_int_equal(dev.sub_opened, 4);
	assert_int_equal(sub[0].offer.relid, first); /* numbers are used again */
	/* Unload with sub-channels open. */
	assert_int_equal(vmbus_offer_subchannels(dev.ch, 1), 0);
	guest_expect_offer(&g, &sub[0]);
	assert_int_equal(guest_open(&sub[0], 2, 2), 0);
	guest_post_simple(&g, VMBUS_UNLOAD);
	guest_expect(&g, VMBUS_UNLOAD_COMPLETE, 8);
	guest_expect_none(&g);
}

static u32 tl_calls;

static void tl_handler(void *ctx, const struct hv_guid *service, const struct hv_guid *endpoint)
{
	tl_calls++;
}

static void tl_connect(void **state)
{
	struct vmbus_tl_connect_request m = {
		.header.type = VMBUS_TL_CONNECT_REQUEST,
		.endpoint_id.b[0] = 1,
		.service_id.b[0] = 2,
	};
	const struct vmbus_tl_connect_result *r;

	connect_one(V(5, 2), 0);
	guest_post(&g, &m, VMBUS_TL_CONNECT_BYTES); /* no handler */
	r = guest_expect(&g, VMBUS_TL_CONNECT_RESULT, sizeof(*r));
	assert_int_equal(r->status, VMBUS_STATUS_CONNECTION_REFUSED);
	assert_int_equal(r->service_id.b[0], 2);
	tl_calls = 0;
	vmbus_set_tl_connect(g.srv, tl_handler, NULL);
	for (u32 i = 0; i < VMBUS_TL_MAX; i++) {
		m.endpoint_id.b[1] = (u8)i;
		guest_post(&g, &m, sizeof(m));
	}
	guest_expect_none(&g);
	assert_int_equal(tl_calls, VMBUS_TL_MAX);
	m.endpoint_id.b[1] = 99;
	guest_post(&g, &m, sizeof(m)); /* too many wait */
	guest_expect(&g, VMBUS_TL_CONNECT_RESULT, sizeof(*r));
	m.endpoint_id.b[1] = 3;
	vmbus_tl_connect_done(g.srv, &m.service_id, &m.endpoint_id,
			      VMBUS_STATUS_CONNECTION_REFUSED);
	r = guest_expect(&g, VMBUS_TL_CONNECT_RESULT, sizeof(*r));
	assert_int_equal(r->endpoint_id.b[1], 3);
	vmbus_tl_connect_done(g.srv, &m.service_id, &m.endpoint_id, 1); /* not waiting any more */
	m.endpoint_id.b[1] = 4;
	vmbus_tl_connect_done(g.srv, &m.service_id, &m.endpoint_id, 0);
	guest_expect_none(&g);
}

/* A short message is not a request; an unknown one has no answer. Nothing may change. */
static void malformed_messages_change_nothing(void **state)
{
	u8 buf[VMBUS_MESSAGE_MAX] __attribute__((aligned(8)));
	struct guest_channel c = connect_one(V(5, 3), 0);
	static const u16 least[32] = {
		[3] = 8,   [5] = 148, [7] = 12,	 [8] = 28,  [9] = 16,  [11] = 16, [13] = 12,
		[14] = 40, [16] = 8,  [18] = 28, [19] = 20, [21] = 40, [22] = 16
	};

	for (u32 type = 0; type < 32; type++) {
		for (u32 n = 0; n < (least[type] ? least[type] : 240); n += 4) {
			memset(buf, 0, sizeof(buf));
			buf[0] = (u8)type;
			guest_post(&g, buf, n);
			guest_expect_none(&g);
		}
	}
	memset(buf, 0xff, sizeof(buf));
	guest_post(&g, buf, sizeof(buf));
	guest_expect_none(&g);
	/* 18 and 19 are answered although they are not provided. */
	memset(buf, 0, sizeof(buf));
	buf[0] = VMBUS_OPEN_RESERVED;
	guest_post(&g, buf, 28);
	guest_expect(&g, VMBUS_OPEN_RESULT, 20);
	buf[0] = VMBUS_CLOSE_RESERVED;
	guest_post(&g, buf, 20);
	guest_expect(&g, VMBUS_CLOSE_RESERVED_RESPONSE, 12);
	assert_int_equal(guest_open(&c, 2, 0), 0);
}

static void version_6_signal_parameters_and_pause(void **state)
{
	struct guest_channel c = connect_one(V(6, 0), 0x21);
	struct vmbus_open_channel m = { .header.type = VMBUS_OPEN_CHANNEL,
					.relid = c.offer.relid,
					.ring_gpadl = 1,
					.downstream_page_offset = 2,
					.connection_id = 0x77777,
					.event_flag = 999 };
	const struct vmbus_open_result *r;

	c.pages = 2;
	c.ring_gpa = guest_alloc(&g, 4);
	assert_int_equal(guest_gpadl(&g, c.offer.relid, 1, c.ring_gpa, 4), 0);
	guest_rings_init(&c);
	guest_post(&g, &m, VMBUS_OPEN_CHANNEL_V5_BYTES); /* the parameters are part of it now */
	r = guest_expect(&g, VMBUS_OPEN_RESULT, sizeof(*r));
	assert_int_equal(r->status, VMBUS_STATUS_FAILED);
	m.event_flag = 2048;
	guest_post(&g, &m, sizeof(m));
	r = guest_expect(&g, VMBUS_OPEN_RESULT, sizeof(*r));
	assert_int_equal(r->status, VMBUS_STATUS_FAILED);
	m.event_flag = 999;
	guest_post(&g, &m, sizeof(m));
	r = guest_expect(&g, VMBUS_OPEN_RESULT, sizeof(*r));
	assert_int_equal(r->status, 0);
	assert_int_equal(g.ports[0], 0x77777);
	c.offer.connection_id = 0x77777;
	guest_send(&c, 1, 1, "x", 1);
	assert_int_equal(dev.packets, 1);
	assert_int_equal(g.interrupts[999], 1);
	assert_int_equal(g.interrupts[c.offer.relid], 0);
	/* Paused: nothing but the answer to it goes out. */
	guest_post_simple(&g, VMBUS_PAUSE);
	guest_expect(&g, VMBUS_PAUSE_RESPONSE, 8);
	guest_post_simple(&g, VMBUS_REQUEST_OFFERS);
	vd2 = offer(&dev2, 2);
	guest_expect_none(&g);
	guest_post_simple(&g, VMBUS_RESUME);
	guest_expect(&g, VMBUS_ALL_OFFERS_DELIVERED, 8);
	guest_expect_offer(&g, &c);
}

static void reset_keeps_devices(void **state)
{
	struct guest_channel c = connect_one(V(5, 3), 0);
	struct vmbus_channel_info info[4];

	assert_int_equal(guest_open(&c, 2, 0), 0);
	assert_int_equal(vmbus_server_list(g.srv, info, 4), 1);
	assert_true(info[0].open);
	assert_string_equal(info[0].device, "test");
	vmbus_server_reset(g.srv);
	assert_int_equal(dev.closed, 1);
	assert_int_equal(dev.destroyed, 0);
	guest_expect_none(&g);
	assert_int_equal(vmbus_server_list(g.srv, info, 4), 1);
	assert_false(info[0].open);
	c = connect_one(V(4, 0), 0);
	assert_int_equal(guest_open(&c, 2, 0), 0);
}

static void the_same_instance_is_refused_twice(void **state)
{
	struct vmbus_offer o = { .ops = &dev_ops, .dev = &dev2, .instance_id.b[0] = 1 };

	assert_int_equal(vmbus_offer(g.srv, &o, NULL), -EEXIST);
	assert_int_equal(dev2.destroyed, 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(versions),
		T(the_golden_conversation),
		T(contact_is_validated),
		T(offers_are_ordered_and_end),
		T(open_close_reopen),
		T(open_is_validated),
		T(refusals_of_device_and_host_are_answered),
		T(gpadls_are_validated),
		T(teardown_is_always_answered),
		T(limits_hold),
		T(modify_channel),
		T(rescind_and_release),
		T(a_released_channel_returns_with_the_next_connection),
		T(unload_waits_for_the_device),
		T(contact_on_a_live_connection_resets),
		T(open_while_closing_is_queued),
		T(corrupted_ring_closes_that_channel_only),
		T(subchannels),
		T(tl_connect),
		T(malformed_messages_change_nothing),
		T(version_6_signal_parameters_and_pause),
		T(reset_keeps_devices),
		T(the_same_instance_is_refused_twice),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
