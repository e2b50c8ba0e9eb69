// SPDX-License-Identifier: MIT
/*
 * The integration components against a guest that answers as Linux's hv_utils
 * does: every request goes back whole, with the response flag set.
 */
#include "vsp/ic.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmbus/testing.h"
#include "vsp/fcopy.h"
#include "vsp/heartbeat.h"
#include "vsp/kvp.h"
#include "vsp/shutdown.h"
#include "vsp/timesync.h"
#include "vsp/utf16.h"
#include "vsp/vss.h"

#include <cmocka.h>

static struct fake_guest g;
static struct guest_channel c;
static struct guest_packet p;
static struct ic_header *const h = (void *)p.data;
static u8 *const body = p.data + sizeof(struct ic_header);

static int setup(void **state)
{
	guest_init(&g, NULL);
	return 0;
}

static int teardown(void **state)
{
	guest_fini(&g);
	return 0;
}

/* The next message of the host, checked as Linux does before it looks inside. */
static void expect(u16 type, u32 bytes)
{
	assert_true(guest_read(&c, &p));
	assert_int_equal(p.h.type, VMBUS_PACKET_INBAND);
	assert_int_equal(p.h.flags, 0);
	assert_int_equal(h->pipe.type, 1);
	assert_int_equal(h->pipe.bytes, 20 + bytes);
	assert_int_equal(h->type, type);
	assert_int_equal(h->body_bytes, bytes);
	assert_int_equal(h->flags, IC_FLAG_TRANSACTION | IC_FLAG_REQUEST);
}

static void reply(u32 status)
{
	h->flags = IC_FLAG_TRANSACTION | IC_FLAG_RESPONSE;
	h->status = status;
	guest_send(&c, 0, p.h.transaction_id, p.data, p.bytes);
}

/* vmbus_prep_negotiate_resp() with one framework and one message version, or a failure. */
static void negotiate(struct ic_version fw, struct ic_version msg)
{
	struct ic_negotiate n = { fw.major ? 1 : 0, fw.major ? 1 : 0, 0 };

	expect(IC_NEGOTIATE, h->body_bytes);
	memcpy(body, &n, sizeof(n));
	memcpy(body + 8, &fw, 4);
	memcpy(body + 12, &msg, 4);
	h->body_bytes = 16;
	reply(0);
}

static void open_only(void)
{
	guest_connect(&g, VMBUS_VERSION(5, 3), 0);
	guest_expect_offer(&g, &c);
	guest_expect(&g, VMBUS_ALL_OFFERS_DELIVERED, 8);
	assert_int_equal(c.offer.flags, VMBUS_OFFER_ENUMERATE | VMBUS_OFFER_PIPE);
	assert_int_equal(c.offer.user_data[0], 4);
	assert_int_equal(guest_open(&c, 4, 0), 0); /* 12 KiB of data, as Linux */
}

/* As open_only(), and what is negotiated is in h when expect() looks. */
static void open_and_agree(u16 fw, u16 major, u16 minor)
{
	open_only();
	assert_true(guest_read(&c, &p));
	assert_int_equal(h->type, IC_NEGOTIATE);
	c.from_host.hdr->read_index = 0; /* once more, by negotiate() */
	negotiate((struct ic_version){ fw, 0 }, (struct ic_version){ major, minor });
}

static void golden_negotiation(void **state)
{
	/* hv_util.c: pipe header, icmsg_hdr, icmsg_negotiate with 2 frameworks and 4 versions. */
	static const u8 golden[] = {
		1, 0, 0, 0, 52, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0,
		0, 0, 0, 0, 0,	3, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 3, 0, 0,  0,
		1, 0, 0, 0, 3,	0, 2, 0, 3, 0, 1, 0, 3, 0, 0, 0, 1, 0, 0,  0,
	};

	assert_int_equal(shutdown_offer(g.srv, NULL, NULL), 0);
	open_only();
	assert_true(guest_read(&c, &p));
	assert_int_equal(p.bytes, align_up(sizeof(golden), 8));
	assert_memory_equal(p.data, golden, sizeof(golden));
	assert_int_equal(g.interrupts[c.offer.relid], 1);
}

static void heartbeat_beats(void **state)
{
	struct heartbeat *hb;

	assert_int_equal(heartbeat_offer(g.srv, NULL, &hb), 0);
	open_and_agree(3, 3, 0);
	assert_int_equal(heartbeat_get(hb), HEARTBEAT_NONE);
	for (u64 i = 1; i < 5; i++) {
		u64 sequence;

		expect(IC_HEARTBEAT, 40);
		memcpy(&sequence, body, 8);
		assert_int_equal(sequence, i);
		sequence++;
		memcpy(body, &sequence, 8);
		reply(0);
		assert_int_equal(heartbeat_get(hb), HEARTBEAT_OK);
		assert_false(guest_read(&c, &p));
		guest_advance(&g, HEARTBEAT_PERIOD_NS);
	}
	guest_advance(&g, HEARTBEAT_PERIOD_NS);
	assert_int_equal(heartbeat_get(hb), HEARTBEAT_OK);
	for (u32 i = 0; i < HEARTBEAT_MISSES; i++)
		guest_advance(&g, HEARTBEAT_PERIOD_NS);
	assert_int_equal(heartbeat_get(hb), HEARTBEAT_LOST);
	expect(IC_HEARTBEAT, 40);
	assert_false(guest_read(&c, &(struct guest_packet){ 0 })); /* one at a time */
	reply(0);
	assert_int_equal(heartbeat_get(hb), HEARTBEAT_OK);
	guest_close(&c);
	assert_int_equal(heartbeat_get(hb), HEARTBEAT_NONE);
	guest_advance(&g, 10 * HEARTBEAT_PERIOD_NS);
}

static void shutdown_asks(void **state)
{
	struct shutdown_ic *s;
	struct ic_shutdown m;

	assert_int_equal(shutdown_offer(g.srv, NULL, &s), 0);
	assert_int_equal(shutdown_request(s, SHUTDOWN_POWEROFF, false, 0), -ENOTCONN);
	open_and_agree(3, 3, 2);
	assert_int_equal(shutdown_get(s), SHUTDOWN_READY);
	assert_int_equal(shutdown_request(s, SHUTDOWN_REBOOT, true, 7 * NS_PER_S), 0);
	assert_int_equal(shutdown_request(s, SHUTDOWN_REBOOT, true, 0), -EBUSY);
	expect(IC_SHUTDOWN, 2060);
	memcpy(&m, body, sizeof(m));
	assert_int_equal(m.flags, 3);
	assert_int_equal(m.reason, 0x80000000);
	assert_int_equal(m.timeout_seconds, 7);
	assert_int_equal(h->message.major, 3);
	assert_int_equal(h->message.minor, 2);
	assert_int_equal(shutdown_get(s), SHUTDOWN_ASKED);
	reply(IC_STATUS_FAIL);
	assert_int_equal(shutdown_get(s), SHUTDOWN_REFUSED);
	assert_int_equal(shutdown_request(s, SHUTDOWN_POWEROFF, false, 2 * NS_PER_S), 0);
	expect(IC_SHUTDOWN, 2060);
	guest_advance(&g, 2 * NS_PER_S);
	assert_int_equal(shutdown_get(s), SHUTDOWN_TIMEOUT);
	reply(0); /* too late for that one */
	assert_int_equal(shutdown_get(s), SHUTDOWN_TIMEOUT);
	assert_int_equal(shutdown_request(s, SHUTDOWN_POWEROFF, false, 0), 0);
	expect(IC_SHUTDOWN, 2060);
	memcpy(&m, body, sizeof(m));
	assert_int_equal(m.flags, 0);
	reply(0);
	assert_int_equal(shutdown_get(s), SHUTDOWN_ACCEPTED);
	guest_close(&c);
	assert_int_equal(shutdown_get(s), SHUTDOWN_ACCEPTED);
}

static void unknown_versions_end_it(void **state)
{
	struct shutdown_ic *s;

	assert_int_equal(shutdown_offer(g.srv, NULL, &s), 0);
	open_and_agree(0, 0, 0);
	assert_int_equal(shutdown_get(s), SHUTDOWN_NONE);
	assert_int_equal(shutdown_request(s, SHUTDOWN_POWEROFF, false, 0), -ENOTCONN);
	guest_close(&c);
	assert_int_equal(guest_open(&c, 4, 0), 0);
	assert_true(guest_read(&c, &p));
	c.from_host.hdr->read_index = 0;
	negotiate((struct ic_version){ 9, 9 }, (struct ic_version){ 3, 2 }); /* not offered */
	assert_int_equal(shutdown_request(s, SHUTDOWN_POWEROFF, false, 0), -ENOTCONN);
}

static u64 host_now(void *ctx)
{
	return *(u64 *)ctx;
}

static void timesync_sends_pairs(void **state)
{
	u64 now = 1700000000ull * NS_PER_S;
	struct timesync_config cfg = { host_now, &now };
	struct ic_timesync_v4 m;
	struct ic_timesync old;
	struct timesync *ts;

	assert_int_equal(timesync_offer(g.srv, &cfg, &ts), 0);
	assert_int_equal(timesync_step(ts), -ENOTCONN);
	g.reference_100ns = 123456;
	open_and_agree(3, 4, 0);
	expect(IC_TIMESYNC, 24);
	memcpy(&m, body, sizeof(m));
	assert_int_equal(m.flags, IC_TIMESYNC_SYNC);
	assert_int_equal(m.reference_time_100ns, 123456);
	assert_int_equal(m.parent_time_100ns, 133444736000000000ull); /* 2023-11-14 22:13:20 */
	reply(0);
	guest_advance(&g, TIMESYNC_PERIOD_NS);
	expect(IC_TIMESYNC, 24);
	memcpy(&m, body, sizeof(m));
	assert_int_equal(m.flags, IC_TIMESYNC_SAMPLE);
	assert_int_equal(m.reference_time_100ns, 123456 + TIMESYNC_PERIOD_NS / 100);
	assert_int_equal(timesync_step(ts), 0); /* waits for the answer under way */
	assert_false(guest_read(&c, &p));
	reply(0);
	expect(IC_TIMESYNC, 24);
	memcpy(&m, body, sizeof(m));
	assert_int_equal(m.flags, IC_TIMESYNC_SYNC);
	/* No answer: after a while the next sample is sent all the same. */
	guest_advance(&g, 2 * TIMESYNC_PERIOD_NS);
	guest_advance(&g, TIMESYNC_PERIOD_NS);
	expect(IC_TIMESYNC, 24);
	guest_close(&c);
	/* An older guest. */
	assert_int_equal(guest_open(&c, 4, 0), 0);
	assert_true(guest_read(&c, &p));
	c.from_host.hdr->read_index = 0;
	negotiate((struct ic_version){ 1, 0 }, (struct ic_version){ 1, 0 });
	expect(IC_TIMESYNC, 32);
	memcpy(&old, body, sizeof(old));
	assert_int_equal(old.flags, IC_TIMESYNC_SYNC);
	assert_int_equal(old.parent_time_100ns, 133444736000000000ull);
}

static struct {
	u32 calls;
	int err;
	struct kvp_item item;
} kv;

static void kvp_result(void *ctx, int err, const struct kvp_item *item)
{
	kv.calls++;
	kv.err = err;
	memset(&kv.item, 0, sizeof(kv.item));
	if (item)
		kv.item = *item;
}

static void put_item(struct ic_kvp_value *v, const char *key, const char *value)
{
	v->value_type = IC_KVP_STRING;
	v->key_bytes = (u32)utf16_from_utf8(key, v->key, 256) * 2;
	v->value_bytes = (u32)utf16_from_utf8(value, v->value, 1024) * 2;
}

static void kvp_pools(void **state)
{
	struct ic_kvp m;
	struct kvp *kvp;
	char text[64];

	memset(&kv, 0, sizeof(kv));
	assert_int_equal(kvp_offer(g.srv, &kvp), 0);
	assert_int_equal(kvp_get(kvp, IC_KVP_POOL_GUEST, "a", kvp_result, NULL), -ENOTCONN);
	assert_int_equal(kvp_set(kvp, IC_KVP_POOL_AUTO, "a", "b", kvp_result, NULL), -EINVAL);
	assert_int_equal(kvp_get(kvp, 4, "a", kvp_result, NULL), -EINVAL);
	open_and_agree(3, 4, 0);
	assert_true(kvp_ready(kvp));
	/* Two queued: the second leaves after the answer to the first. */
	assert_int_equal(
		kvp_set(kvp, IC_KVP_POOL_EXTERNAL, "schl\xc3\xbcssel", "wert", kvp_result, NULL),
		0);
	assert_int_equal(kvp_get(kvp, IC_KVP_POOL_GUEST, "k", kvp_result, NULL), 0);
	expect(IC_KVP, 2580);
	memcpy(&m, body, sizeof(m));
	assert_int_equal(m.op, IC_KVP_SET);
	assert_int_equal(m.pool, 0);
	assert_int_equal(m.value.value_type, 1);
	assert_int_equal(m.value.key_bytes, 20);
	utf16_to_utf8(m.value.key, 10, text, sizeof(text));
	assert_string_equal(text, "schl\xc3\xbcssel");
	assert_false(guest_read(&c, &p));
	reply(0);
	assert_int_equal(kv.calls, 1);
	assert_int_equal(kv.err, 0);
	expect(IC_KVP, 2580);
	put_item((void *)(body + 4), "k", "v\xf0\x9f\x98\x80");
	reply(0);
	assert_int_equal(kv.calls, 2);
	assert_string_equal(kv.item.value, "v\xf0\x9f\x98\x80");
	/* A missing one, a number, deletion. */
	assert_int_equal(kvp_get(kvp, IC_KVP_POOL_GUEST, "k", kvp_result, NULL), 0);
	expect(IC_KVP, 2580);
	reply(IC_STATUS_NO_MORE_ITEMS);
	assert_int_equal(kv.err, -ENOENT);
	assert_int_equal(kvp_enumerate(kvp, IC_KVP_POOL_GUEST, 3, kvp_result, NULL), 0);
	expect(IC_KVP, 2580);
	memcpy(&m, body, sizeof(m));
	assert_int_equal(m.enumerate.index, 3);
	m.enumerate.value.value_type = IC_KVP_U32;
	m.enumerate.value.value[0] = 42;
	memcpy(body, &m, sizeof(m));
	reply(0);
	assert_string_equal(kv.item.value, "42");
	assert_int_equal(kvp_delete(kvp, IC_KVP_POOL_EXTERNAL, "k", kvp_result, NULL), 0);
	expect(IC_KVP, 2580);
	reply(IC_STATUS_FAIL);
	assert_int_equal(kv.err, -EIO);
	/* The guest's own facts are found by enumeration. */
	assert_int_equal(kvp_get(kvp, IC_KVP_POOL_AUTO, "OSName", kvp_result, NULL), 0);
	for (u32 i = 0; i < 3; i++) {
		expect(IC_KVP, 2580);
		memcpy(&m, body, sizeof(m));
		assert_int_equal(m.op, IC_KVP_ENUMERATE);
		assert_int_equal(m.enumerate.index, i);
		put_item((void *)(body + 8), i == 2 ? "OSName" : "Other", "Debian");
		reply(0);
	}
	assert_string_equal(kv.item.key, "OSName");
	assert_string_equal(kv.item.value, "Debian");
	/* Lies about lengths; no answer; the end. */
	assert_int_equal(kvp_get(kvp, IC_KVP_POOL_GUEST, "k", kvp_result, NULL), 0);
	expect(IC_KVP, 2580);
	memset(body + 4, 0xff, 2576);
	reply(0);
	kv.calls = 0;
	assert_int_equal(kvp_get(kvp, IC_KVP_POOL_GUEST, "k", kvp_result, NULL), 0);
	guest_advance(&g, 60 * NS_PER_S);
	assert_int_equal(kv.err, -ETIMEDOUT);
	assert_int_equal(kvp_get(kvp, IC_KVP_POOL_GUEST, "k", kvp_result, NULL), 0);
	assert_int_equal(kvp_get(kvp, IC_KVP_POOL_GUEST, "k", kvp_result, NULL), 0);
	guest_close(&c);
	assert_int_equal(kv.calls, 3);
	assert_int_equal(kv.err, -ENOTCONN);
	assert_false(kvp_ready(kvp));
}

static struct {
	u32 calls;
	int err;
} vs;

static void vss_result(void *ctx, int err)
{
	vs.calls++;
	vs.err = err;
}

static void expect_vss(u8 op, u32 status)
{
	expect(IC_VSS, 36);
	assert_int_equal(body[0], op);
	reply(status);
}

static void vss_freezes_and_thaws(void **state)
{
	struct vss *v;

	memset(&vs, 0, sizeof(vs));
	assert_int_equal(vss_offer(g.srv, &v), 0);
	assert_int_equal(vss_freeze(v, 0, vss_result, NULL), -ENOTCONN);
	open_and_agree(3, 5, 0);
	assert_int_equal(vss_thaw(v, vss_result, NULL), -EINVAL);
	assert_int_equal(vss_freeze(v, 0, vss_result, NULL), 0);
	assert_int_equal(vss_freeze(v, 0, vss_result, NULL), -EBUSY);
	expect_vss(IC_VSS_HOT_BACKUP, 0);
	expect_vss(IC_VSS_FREEZE, 0);
	assert_int_equal(vs.calls, 1);
	assert_int_equal(vs.err, 0);
	assert_int_equal(vss_get(v), VSS_FROZEN);
	assert_int_equal(vss_thaw(v, vss_result, NULL), 0);
	expect_vss(IC_VSS_THAW, 0);
	assert_int_equal(vs.calls, 2);
	assert_int_equal(vss_get(v), VSS_READY);
	/* Refused by the check: never frozen. */
	assert_int_equal(vss_freeze(v, 0, vss_result, NULL), 0);
	expect_vss(IC_VSS_HOT_BACKUP, IC_STATUS_FAIL);
	assert_int_equal(vs.err, -EIO);
	assert_int_equal(vss_get(v), VSS_READY);
	/* The freeze fails: some may be frozen, so thaw. */
	assert_int_equal(vss_freeze(v, 0, vss_result, NULL), 0);
	expect_vss(IC_VSS_HOT_BACKUP, 0);
	expect_vss(IC_VSS_FREEZE, IC_STATUS_FAIL);
	assert_int_equal(vs.err, -EIO);
	expect_vss(IC_VSS_THAW, 0);
	assert_int_equal(vss_get(v), VSS_READY);
}

static void vss_thaws_whatever_happens(void **state)
{
	struct vss *v;

	memset(&vs, 0, sizeof(vs));
	assert_int_equal(vss_offer(g.srv, &v), 0);
	open_and_agree(3, 5, 0);
	/* The host forgets. */
	assert_int_equal(vss_freeze(v, 3 * NS_PER_S, vss_result, NULL), 0);
	expect_vss(IC_VSS_HOT_BACKUP, 0);
	expect_vss(IC_VSS_FREEZE, 0);
	guest_advance(&g, 3 * NS_PER_S);
	expect_vss(IC_VSS_THAW, 0);
	assert_int_equal(vss_thaw(v, vss_result, NULL), -ETIMEDOUT);
	assert_int_equal(vss_thaw(v, vss_result, NULL), -EINVAL);
	/* The freeze is not answered. */
	assert_int_equal(vss_freeze(v, 0, vss_result, NULL), 0);
	expect_vss(IC_VSS_HOT_BACKUP, 0);
	expect(IC_VSS, 36);
	guest_advance(&g, VSS_FREEZE_TIMEOUT_NS);
	assert_int_equal(vs.err, -ETIMEDOUT);
	/* Nor the thaw: again, until it is; a failing one is tried three times. */
	expect(IC_VSS, 36);
	guest_advance(&g, VSS_THAW_RETRY_NS);
	expect_vss(IC_VSS_THAW, IC_STATUS_FAIL);
	assert_int_equal(vss_get(v), VSS_THAWING);
	guest_advance(&g, VSS_THAW_RETRY_NS);
	expect_vss(IC_VSS_THAW, 0);
	assert_int_equal(vss_get(v), VSS_READY);
	/* The driver goes away frozen and comes back. */
	assert_int_equal(vss_freeze(v, 0, vss_result, NULL), 0);
	expect_vss(IC_VSS_HOT_BACKUP, 0);
	expect_vss(IC_VSS_FREEZE, 0);
	guest_close(&c);
	assert_int_equal(vss_get(v), VSS_NONE);
	assert_int_equal(vss_thaw(v, vss_result, NULL), -ETIMEDOUT);
	assert_int_equal(guest_open(&c, 4, 0), 0);
	assert_true(guest_read(&c, &p));
	c.from_host.hdr->read_index = 0;
	negotiate((struct ic_version){ 3, 0 }, (struct ic_version){ 5, 0 });
	expect_vss(IC_VSS_THAW, 0);
	assert_int_equal(vss_get(v), VSS_READY);
	/* It dies while it is asked. */
	assert_int_equal(vss_freeze(v, 0, vss_result, NULL), 0);
	vs.calls = 0;
	guest_post_contact(&g, VMBUS_VERSION(5, 3), 0);
	assert_int_equal(vs.calls, 1);
	assert_int_equal(vs.err, -ENOTCONN);
}

static int host_file(u32 bytes)
{
	int fd = memfd_create("src", 0);
	u8 block[1000];

	for (u32 at = 0; at < bytes; at += sizeof(block)) {
		memset(block, (int)(at / sizeof(block)), sizeof(block));
		assert_true(write(fd, block, min_u64(sizeof(block), bytes - at)) > 0);
	}
	return fd;
}

static void fcopy_sends_a_file(void **state)
{
	struct ic_fcopy_start start;
	static struct ic_fcopy_write w;
	struct fcopy *fc;
	u64 got = 0;
	char text[64];

	memset(&vs, 0, sizeof(vs));
	assert_int_equal(fcopy_offer(g.srv, &fc), 0);
	assert_int_equal(fcopy_send(fc, host_file(10), "/tmp", "x", true, false, vss_result, NULL),
			 -ENOTCONN);
	open_and_agree(3, 1, 1);
	assert_int_equal(
		fcopy_send(fc, host_file(20000), "/tmp/d", "name", true, true, vss_result, NULL),
		0);
	assert_int_equal(fcopy_send(fc, host_file(10), "/tmp", "x", true, true, vss_result, NULL),
			 -EBUSY);
	expect(IC_FCOPY, 1088);
	memcpy(&start, body, sizeof(start));
	assert_int_equal(start.header.op, IC_FCOPY_START);
	assert_int_equal(start.flags, 3);
	assert_int_equal(start.file_bytes, 20000);
	utf16_to_utf8(body + 36, 260, text, sizeof(text));
	assert_string_equal(text, "name");
	utf16_to_utf8(body + 36 + 520, 260, text, sizeof(text));
	assert_string_equal(text, "/tmp/d");
	reply(0);
	while (got < 20000) {
		expect(IC_FCOPY, sizeof(w));
		memcpy(&w, body, sizeof(w));
		assert_int_equal(w.header.op, IC_FCOPY_WRITE);
		assert_int_equal(w.offset, got);
		assert_int_equal(w.bytes, min_u64(IC_FCOPY_DATA_MAX, 20000 - got));
		for (u32 i = 0; i < w.bytes; i++)
			assert_int_equal(w.data[i], (got + i) / 1000);
		got += w.bytes;
		reply(0);
	}
	expect(IC_FCOPY, 36);
	assert_int_equal(body[0], IC_FCOPY_COMPLETE);
	assert_int_equal(vs.calls, 0);
	reply(0);
	assert_int_equal(vs.calls, 1);
	assert_int_equal(vs.err, 0);
	/* Refused at the start; a full disk; an empty file; the guest goes. */
	assert_int_equal(fcopy_send(fc, host_file(9), "/", "x", false, false, vss_result, NULL), 0);
	expect(IC_FCOPY, 1088);
	reply(IC_STATUS_EXISTS);
	assert_int_equal(vs.err, -EEXIST);
	assert_int_equal(fcopy_send(fc, host_file(9), "/", "x", false, false, vss_result, NULL), 0);
	expect(IC_FCOPY, 1088);
	reply(0);
	expect(IC_FCOPY, sizeof(w));
	reply(IC_STATUS_DISK_FULL);
	expect(IC_FCOPY, 36);
	assert_int_equal(body[0], IC_FCOPY_CANCEL);
	reply(0);
	assert_int_equal(vs.err, -ENOSPC);
	assert_int_equal(fcopy_send(fc, host_file(0), "/", "x", false, false, vss_result, NULL), 0);
	expect(IC_FCOPY, 1088);
	reply(0);
	expect(IC_FCOPY, 36);
	assert_int_equal(body[0], IC_FCOPY_COMPLETE);
	reply(0);
	assert_int_equal(vs.err, 0);
	assert_int_equal(fcopy_send(fc, host_file(9), "/", "x", false, false, vss_result, NULL), 0);
	guest_close(&c);
	assert_int_equal(vs.err, -ENOTCONN);
	assert_int_equal(fcopy_send(fc, open("/dev/null", O_RDONLY), "/", "x", false, false,
				    vss_result, NULL),
			 -EINVAL);
}

static void malformed_replies(void **state)
{
	static const u8 empty[64];

	assert_int_equal(heartbeat_offer(g.srv, NULL, NULL), 0);
	open_and_agree(3, 3, 0);
	expect(IC_HEARTBEAT, 40);
	h->body_bytes = 0xffff; /* more than there is */
	h->pipe.bytes = 0xffffffff;
	reply(0);
	guest_send(&c, 0, 0, empty, 28); /* pipe length 0: the channel is closed for it */
	guest_close(&c);
	assert_int_equal(guest_open(&c, 4, 0), 0);
	guest_send(&c, 0, 0, empty, 4);
	guest_close(&c);
	assert_int_equal(guest_open(&c, 4, 0), 0);
}

static void utf16_both_ways(void **state)
{
	static const struct {
		const char *utf8;
		int units;
	} rows[] = {
		{ "", 1 },
		{ "abc", 4 },
		{ "\xc3\xa4\xe2\x82\xac", 3 },
		{ "\xf0\x9f\x98\x80", 3 },
		{ "\x80", -EINVAL },
		{ "\xc0\xaf", -EINVAL },
		{ "\xed\xa0\x80", -EINVAL },
		{ "\xf8\x88\x80\x80\x80", -EINVAL },
		{ "\xe2\x82", -EINVAL },
		{ "0123456789", -ENAMETOOLONG },
	};
	u16 units[8];
	char text[32];

	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_int_equal(utf16_from_utf8(rows[i].utf8, units, 8), rows[i].units);
		if (rows[i].units < 0)
			continue;
		utf16_to_utf8(units, 8, text, sizeof(text));
		assert_string_equal(text, rows[i].utf8);
	}
	units[0] = 0xd800;
	units[1] = 'x';
	utf16_to_utf8(units, 2, text, sizeof(text));
	assert_string_equal(text, "\xef\xbf\xbdx");
	utf16_to_utf8(units, 2, text, 3);
	assert_string_equal(text, "");
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(golden_negotiation),
		T(heartbeat_beats),
		T(shutdown_asks),
		T(unknown_versions_end_it),
		T(timesync_sends_pairs),
		T(kvp_pools),
		T(vss_freezes_and_thaws),
		T(vss_thaws_whatever_happens),
		T(fcopy_sends_a_file),
		T(malformed_replies),
		cmocka_unit_test(utf16_both_ways),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
