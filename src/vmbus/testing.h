/* SPDX-License-Identifier: MIT */
/*
 * For tests and fuzz targets only: a fake host that records what the server
 * sends, and a fake guest that speaks as Linux does, on one thread with a clock
 * moved by hand. Channels of devices with threads of their own also work:
 * guest_wait() gives them time.
 */
#ifndef NESTOR_VMBUS_TESTING_H
#define NESTOR_VMBUS_TESTING_H

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/loop.h"
#include "hvdef/vmbus.h"
#include "mem/gmem.h"
#include "vmbus/device.h"
#include "vmbus/server.h"

#define FAKE_RAM_BYTES (64 * MIB)
#define FAKE_RAM_GPA   MIB /* nothing below, so that page 0 is not memory */
#define FAKE_LOG       4096u
#define FAKE_VPS       4u

/* A failure here stops a fuzz target and a unit test alike. */
#define must(x)                                                                                    \
	do {                                                                                       \
		if (!(x)) {                                                                        \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x);                    \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

struct fake_message {
	u32 vp, bytes;
	u8 sint;
	u8 payload[VMBUS_MESSAGE_MAX] __attribute__((aligned(8)));
};

struct fake_guest {
	struct gmem_backing ram;
	struct gmem gm;
	u64 next_gpa; /* pages are handed out and not taken back */
	struct loop *loop;
	u64 now_ns;
	void (*tick)(struct fake_guest *g); /* whenever somebody asks for the time */
	struct vmbus_server *srv;

	struct fake_message *log; /* messages to the guest */
	u32 count, taken;
	u32 refuse;		       /* posts to answer with -EAGAIN */
	u32 interrupts[2048];	       /* atomic, per event flag */
	u32 last_vp;		       /* atomic: VP of the last interrupt */
	u32 ports[64];		       /* connection ids connected */
	u32 connected;		       /* version, as connection_changed told */
	u32 fail_port;		       /* event_connect fails this often */
	int doorbell[VMBUS_DOORBELLS]; /* of the port that was connected last */
	u64 rung[VMBUS_DOORBELLS];     /* as event_rung told */
	u64 reference_100ns;
	u32 next_gpadl;
};

#define FAKE_FN static inline __attribute__((unused))

/* Host ops */

FAKE_FN int fake_post(void *ctx, u32 vp, u8 sint, const void *payload, u32 bytes)
{
	struct fake_guest *g = ctx;
	struct fake_message *m;

	if (g->refuse) {
		g->refuse--;
		return -EAGAIN;
	}
	m = &g->log[g->count % FAKE_LOG];
	m->vp = vp;
	m->sint = sint;
	m->bytes = bytes;
	memset(m->payload, 0, sizeof(m->payload));
	memcpy(m->payload, payload, bytes);
	__atomic_store_n(&g->count, g->count + 1, __ATOMIC_RELEASE);
	return 0;
}

FAKE_FN void fake_signal(void *ctx, u32 vp, u8 sint, u32 flag)
{
	struct fake_guest *g = ctx;

	__atomic_add_fetch(&g->interrupts[flag], 1, __ATOMIC_SEQ_CST);
	__atomic_store_n(&g->last_vp, vp, __ATOMIC_SEQ_CST);
}

FAKE_FN int fake_event_connect(void *ctx, u32 connection_id, const int doorbell[VMBUS_DOORBELLS])
{
	struct fake_guest *g = ctx;

	if (g->fail_port) {
		g->fail_port--;
		return -EBUSY;
	}
	for (u32 i = 0; i < ARRAY_SIZE(g->ports); i++) {
		must(g->ports[i] != connection_id);
		if (!g->ports[i]) {
			g->ports[i] = connection_id;
			memcpy(g->doorbell, doorbell, sizeof(g->doorbell));
			return 0;
		}
	}
	return -ENOSPC;
}

FAKE_FN void fake_event_disconnect(void *ctx, u32 connection_id,
				   const int doorbell[VMBUS_DOORBELLS])
{
	struct fake_guest *g = ctx;

	for (u32 i = 0; i < ARRAY_SIZE(g->ports); i++) {
		if (g->ports[i] == connection_id) {
			g->ports[i] = 0;
			return;
		}
	}
	must(!"disconnected what was not connected");
}

FAKE_FN void fake_event_rung(void *ctx, u32 which, u64 n)
{
	__atomic_add_fetch(&((struct fake_guest *)ctx)->rung[which], n, __ATOMIC_SEQ_CST);
}

FAKE_FN bool fake_vp_valid(void *ctx, u32 vp)
{
	return vp < FAKE_VPS;
}

FAKE_FN u64 fake_reference_time(void *ctx)
{
	return ((struct fake_guest *)ctx)->reference_100ns;
}

FAKE_FN void fake_connection_changed(void *ctx, u32 version)
{
	((struct fake_guest *)ctx)->connected = version;
}

FAKE_FN u64 fake_now(void *ctx)
{
	struct fake_guest *g = ctx;

	if (g->tick)
		g->tick(g);
	return g->now_ns;
}

/* Life */

FAKE_FN const struct vmbus_host_ops *fake_host_ops(void)
{
	static const struct vmbus_host_ops ops = {
		.post_message = fake_post,
		.signal_event = fake_signal,
		.event_connect = fake_event_connect,
		.event_disconnect = fake_event_disconnect,
		.event_rung = fake_event_rung,
		.vp_valid = fake_vp_valid,
		.reference_time_100ns = fake_reference_time,
		.connection_changed = fake_connection_changed,
	};

	return &ops;
}

/* @cfg may be NULL; only its limits are used. */
FAKE_FN void guest_init(struct fake_guest *g, const struct vmbus_config *limits)
{
	struct loop_clock clock = { fake_now, g };
	struct vmbus_config cfg = { 0 };

	memset(g, 0, sizeof(*g));
	if (limits)
		cfg = *limits;
	g->now_ns = NS_PER_S;
	g->next_gpa = FAKE_RAM_GPA;
	g->next_gpadl = 0xe1e10;
	g->log = calloc(FAKE_LOG, sizeof(*g->log));
	must(g->log);
	must(gmem_init(&g->gm) == 0);
	must(gmem_backing_create(&g->ram, "fake", FAKE_RAM_BYTES, true) == 0);
	must(gmem_add(&g->gm, FAKE_RAM_GPA, FAKE_RAM_BYTES, g->ram.hva, GMEM_RAM) == 0);
	g->loop = loop_create(&clock);
	must(g->loop);
	cfg.ops = fake_host_ops();
	cfg.ctx = g;
	cfg.loop = g->loop;
	cfg.gmem = &g->gm;
	cfg.name = "test";
	must(vmbus_server_create(&cfg, &g->srv) == 0);
}

FAKE_FN void guest_fini(struct fake_guest *g)
{
	vmbus_server_destroy(g->srv);
	for (u32 i = 0; i < ARRAY_SIZE(g->ports); i++)
		must(g->ports[i] == 0);
	loop_destroy(g->loop);
	gmem_backing_destroy(&g->ram);
	gmem_fini(&g->gm);
	free(g->log);
}

FAKE_FN void fake_nothing(void *arg)
{
}

/* Also when the test has given the loop a thread. */
FAKE_FN void guest_run(struct fake_guest *g)
{
	if (loop_is_running(g->loop))
		loop_call(g->loop, fake_nothing, NULL);
	else
		loop_run_ready(g->loop);
}

FAKE_FN void guest_advance(struct fake_guest *g, u64 ns)
{
	g->now_ns += ns;
	g->reference_100ns += ns / 100;
	loop_run_ready(g->loop);
}

/* Memory */

FAKE_FN u64 guest_alloc(struct fake_guest *g, u32 pages)
{
	u64 gpa = g->next_gpa;

	g->next_gpa += (u64)pages * PAGE_BYTES;
	must(g->next_gpa <= FAKE_RAM_GPA + FAKE_RAM_BYTES);
	memset(g->ram.hva + (gpa - FAKE_RAM_GPA), 0, (u64)pages * PAGE_BYTES);
	return gpa;
}

FAKE_FN void *guest_ptr(struct fake_guest *g, u64 gpa)
{
	void *p = gmem_ptr(&g->gm, gpa, 1);

	must(p);
	return p;
}

/* Messages */

FAKE_FN void guest_post(struct fake_guest *g, const void *message, u32 bytes)
{
	must(vmbus_message(g->srv, message, bytes) == 0);
	guest_run(g);
}

/* The next message not taken yet, of any type; NULL if there is none. */
FAKE_FN const struct fake_message *guest_take(struct fake_guest *g)
{
	guest_run(g);
	return g->taken < __atomic_load_n(&g->count, __ATOMIC_ACQUIRE)
		       ? &g->log[g->taken++ % FAKE_LOG]
		       : NULL;
}

/* The next message, which is @type and @bytes long. Waits for threads up to ten seconds. */
FAKE_FN const void *guest_expect(struct fake_guest *g, u32 type, u32 bytes)
{
	const struct fake_message *m = NULL;

	for (u32 i = 0; i < 100000 && !(m = guest_take(g)); i++)
		usleep(100);
	must(m);
	if (((const struct vmbus_message_header *)m->payload)->type != type || m->bytes != bytes) {
		fprintf(stderr, "message %u of %u bytes, expected %u of %u\n",
			((const struct vmbus_message_header *)m->payload)->type, m->bytes, type,
			bytes);
		abort();
	}
	return m->payload;
}

FAKE_FN void guest_expect_none(struct fake_guest *g)
{
	const struct fake_message *m = guest_take(g);

	if (m) {
		fprintf(stderr, "unexpected message %u\n",
			((const struct vmbus_message_header *)m->payload)->type);
		abort();
	}
}

FAKE_FN void guest_post_simple(struct fake_guest *g, u32 type)
{
	struct vmbus_message_header m = { .type = type };

	guest_post(g, &m, sizeof(m));
}

FAKE_FN void guest_post_relid(struct fake_guest *g, u32 type, u32 relid)
{
	struct vmbus_relid_message m = { .header.type = type, .relid = relid };

	guest_post(g, &m, sizeof(m));
}

FAKE_FN void guest_post_contact(struct fake_guest *g, u32 version, u32 features)
{
	struct vmbus_initiate_contact m = {
		.header.type = VMBUS_INITIATE_CONTACT,
		.version = version,
	};

	if (version >= VMBUS_VERSION(5, 0)) {
		m.sint = VMBUS_SINT;
		m.features = features;
	}
	guest_post(g, &m, VMBUS_INITIATE_CONTACT_BYTES);
}

FAKE_FN u32 fake_response_bytes(u32 version)
{
	return version >= VMBUS_VERSION(6, 0) ? sizeof(struct vmbus_version_response)
					      : VMBUS_VERSION_RESPONSE_V5_BYTES;
}

/* Contact, and the offers up to ALL_OFFERS_DELIVERED are left to be taken. */
FAKE_FN void guest_connect(struct fake_guest *g, u32 version, u32 features)
{
	const struct vmbus_version_response *r;

	guest_post_contact(g, version, features);
	r = guest_expect(g, VMBUS_VERSION_RESPONSE, fake_response_bytes(version));
	must(r->supported == 1 && r->state == 0);
	guest_post_simple(g, VMBUS_REQUEST_OFFERS);
}

/* Channels */

struct guest_ring { /* the guest's view, as drivers/hv/ring_buffer.c */
	struct vmbus_ring_header *hdr;
	u8 *data;
	u32 bytes;
};

struct guest_channel {
	struct fake_guest *g;
	struct vmbus_offer_channel offer;
	u32 gpadl;
	u64 ring_gpa;
	u32 pages; /* each way, header included */
	struct guest_ring to_host, from_host;
};

FAKE_FN void guest_expect_offer(struct fake_guest *g, struct guest_channel *c)
{
	memset(c, 0, sizeof(*c));
	c->g = g;
	c->offer = *(const struct vmbus_offer_channel *)guest_expect(
		g, VMBUS_OFFER_CHANNEL, sizeof(struct vmbus_offer_channel));
}

/* Names contiguous pages to the host; the answer is taken. Returns its status. */
FAKE_FN u32 guest_gpadl(struct fake_guest *g, u32 relid, u32 id, u64 gpa, u32 pages)
{
	u8 buf[VMBUS_MESSAGE_MAX] __attribute__((aligned(8))) = { 0 };
	struct vmbus_gpadl_header *h = (void *)buf;
	struct vmbus_gpadl_body *b = (void *)buf;
	struct vmbus_gpa_range range = { pages * PAGE_BYTES, 0 };
	const struct vmbus_gpadl_created *r;
	u32 done = 0, n;

	h->header.type = VMBUS_GPADL_HEADER;
	h->relid = relid;
	h->gpadl = id;
	h->range_bytes = (u16)(8 + 8 * pages);
	h->range_count = 1;
	memcpy(h->ranges, &range, sizeof(range));
	for (n = 0; n < 26 && done < pages; n++, done++) {
		u64 pfn = gpa / PAGE_BYTES + done;

		memcpy(h->ranges + 8 + 8 * n, &pfn, 8);
	}
	guest_post(g, buf, 28 + 8 * n);
	while (done < pages) {
		memset(buf, 0, sizeof(buf));
		b->header.type = VMBUS_GPADL_BODY;
		b->gpadl = id;
		for (n = 0; n < 28 && done < pages; n++, done++)
			b->pfn[n] = gpa / PAGE_BYTES + done;
		guest_post(g, buf, 16 + 8 * n);
	}
	r = guest_expect(g, VMBUS_GPADL_CREATED, sizeof(*r));
	must(r->relid == relid && r->gpadl == id);
	return r->status;
}

FAKE_FN void guest_post_open(struct guest_channel *c, u32 target_vp)
{
	struct vmbus_open_channel m = {
		.header.type = VMBUS_OPEN_CHANNEL,
		.relid = c->offer.relid,
		.open_id = c->offer.relid,
		.ring_gpadl = c->gpadl,
		.target_vp = target_vp,
		.downstream_page_offset = c->pages,
	};

	guest_post(c->g, &m, VMBUS_OPEN_CHANNEL_V5_BYTES);
}

FAKE_FN void guest_rings_init(struct guest_channel *c)
{
	u8 *base = guest_ptr(c->g, c->ring_gpa);
	u8 *half = base + c->pages * PAGE_BYTES;

	memset(base, 0, PAGE_BYTES);
	memset(half, 0, PAGE_BYTES);
	c->to_host =
		(struct guest_ring){ (void *)base, base + PAGE_BYTES, (c->pages - 1) * PAGE_BYTES };
	c->from_host =
		(struct guest_ring){ (void *)half, half + PAGE_BYTES, (c->pages - 1) * PAGE_BYTES };
	c->to_host.hdr->feature_bits = c->from_host.hdr->feature_bits = 1;
}

/* As vmbus_open(): ring GPADL, then OPEN. @pages each way. Returns the open status. */
FAKE_FN u32 guest_open(struct guest_channel *c, u32 pages, u32 target_vp)
{
	const struct vmbus_open_result *r;

	c->pages = pages;
	c->ring_gpa = guest_alloc(c->g, 2 * pages);
	c->gpadl = c->g->next_gpadl++;
	must(guest_gpadl(c->g, c->offer.relid, c->gpadl, c->ring_gpa, 2 * pages) == 0);
	guest_rings_init(c);
	guest_post_open(c, target_vp);
	r = guest_expect(c->g, VMBUS_OPEN_RESULT, sizeof(*r));
	must(r->relid == c->offer.relid && r->open_id == c->offer.relid);
	return r->status;
}

/* As vmbus_close(): CLOSE, TEARDOWN, and its answer. */
FAKE_FN void guest_close(struct guest_channel *c)
{
	struct vmbus_gpadl_teardown m = {
		.header.type = VMBUS_GPADL_TEARDOWN,
		.relid = c->offer.relid,
		.gpadl = c->gpadl,
	};
	const struct vmbus_gpadl_torndown *r;

	guest_post_relid(c->g, VMBUS_CLOSE_CHANNEL, c->offer.relid);
	guest_post(c->g, &m, sizeof(m));
	r = guest_expect(c->g, VMBUS_GPADL_TORNDOWN, sizeof(*r));
	must(r->gpadl == c->gpadl);
}

FAKE_FN u32 guest_ring_used(const struct guest_ring *r)
{
	u32 w = __atomic_load_n(&r->hdr->write_index, __ATOMIC_ACQUIRE);
	u32 rd = __atomic_load_n(&r->hdr->read_index, __ATOMIC_ACQUIRE);

	return w >= rd ? w - rd : r->bytes - (rd - w);
}

FAKE_FN u32 guest_ring_put(struct guest_ring *r, u32 at, const void *src, u32 bytes)
{
	for (u32 i = 0; i < bytes; i++)
		r->data[(at + i) % r->bytes] = ((const u8 *)src)[i];
	return (at + bytes) % r->bytes;
}

FAKE_FN void guest_ring_get(struct guest_ring *r, u32 at, void *dst, u32 bytes)
{
	for (u32 i = 0; i < bytes; i++)
		((u8 *)dst)[i] = r->data[(at + i) % r->bytes];
}

/*
 * hv_ringbuffer_write(): false if there is no room. Signals the host when Linux
 * would, unless @quiet; the test then does guest_signal().
 */
FAKE_FN bool guest_write(struct guest_channel *c, u16 type, u16 flags, u64 xid, const void *extra,
			 u32 extra_bytes, const void *payload, u32 bytes, bool quiet)
{
	struct guest_ring *r = &c->to_host;
	u32 padded = (u32)align_up(bytes, 8), old = r->hdr->write_index, at;
	struct vmbus_packet_header h = { type, (u16)((16 + extra_bytes) / 8),
					 (u16)((16 + extra_bytes + padded) / 8), flags, xid };
	u64 trailer = (u64)old << 32, zero = 0;

	if (r->bytes - guest_ring_used(r) <= 16 + extra_bytes + padded + 8)
		return false;
	at = guest_ring_put(r, old, &h, sizeof(h));
	at = guest_ring_put(r, at, extra, extra_bytes);
	at = guest_ring_put(r, at, payload, bytes);
	at = guest_ring_put(r, at, &zero, padded - bytes);
	at = guest_ring_put(r, at, &trailer, 8);
	__atomic_store_n(&r->hdr->write_index, at, __ATOMIC_SEQ_CST);
	if (!quiet && !__atomic_load_n(&r->hdr->interrupt_mask, __ATOMIC_SEQ_CST) &&
	    __atomic_load_n(&r->hdr->read_index, __ATOMIC_SEQ_CST) == old)
		must(vmbus_signal(c->g->srv, c->offer.connection_id) == 0);
	return true;
}

FAKE_FN void guest_signal(struct guest_channel *c)
{
	must(vmbus_signal(c->g->srv, c->offer.connection_id) == 0);
	guest_run(c->g);
}

/* In-band packet, signalled as Linux does, and the loop run. */
FAKE_FN void guest_send(struct guest_channel *c, u16 flags, u64 xid, const void *payload, u32 bytes)
{
	must(guest_write(c, VMBUS_PACKET_INBAND, flags, xid, NULL, 0, payload, bytes, false));
	guest_run(c->g);
}

/* GPA-direct packet with one range. */
FAKE_FN bool guest_send_gpa(struct guest_channel *c, u16 flags, u64 xid, const u64 *pfn, u32 offset,
			    u32 count, const void *payload, u32 bytes)
{
	u8 extra[16 + 8 * 512];
	struct vmbus_gpa_direct_header h = { 0, 1 };
	struct vmbus_gpa_range range = { count, offset };
	u32 pages = (offset + count + PAGE_BYTES - 1) / PAGE_BYTES;

	must(pages <= 512);
	memcpy(extra, &h, 8);
	memcpy(extra + 8, &range, 8);
	memcpy(extra + 16, pfn, 8 * pages);
	return guest_write(c, VMBUS_PACKET_GPA_DIRECT, flags, xid, extra, 16 + 8 * pages, payload,
			   bytes, false);
}

struct guest_packet {
	struct vmbus_packet_header h;
	u32 extra_bytes, bytes;			    /* bytes of payload, padding included */
	u8 data[65536] __attribute__((aligned(8))); /* extra, then payload */
};

FAKE_FN const void *guest_packet_payload(const struct guest_packet *p)
{
	return p->data + p->extra_bytes;
}

/* The next packet from the host, or false. Signals the host when Linux would (hv_pkt_iter_close).
 */
FAKE_FN bool guest_read(struct guest_channel *c, struct guest_packet *p)
{
	struct guest_ring *r = &c->from_host;
	u32 at = r->hdr->read_index, used, total, pending, before, after;

	guest_run(c->g);
	used = guest_ring_used(r);
	if (used == 0)
		return false;
	must(used >= 24 && used % 8 == 0);
	guest_ring_get(r, at, &p->h, sizeof(p->h));
	total = p->h.len8 * 8u + 8;
	must(p->h.offset8 >= 2 && p->h.offset8 <= p->h.len8 && total <= used);
	must(total - 24 <= sizeof(p->data));
	p->extra_bytes = p->h.offset8 * 8u - 16;
	p->bytes = (p->h.len8 - p->h.offset8) * 8u;
	guest_ring_get(r, (at + 16) % r->bytes, p->data, total - 24);
	before = r->bytes - guest_ring_used(r);
	__atomic_store_n(&r->hdr->read_index, (at + total) % r->bytes, __ATOMIC_SEQ_CST);
	pending = __atomic_load_n(&r->hdr->pending_send_sz, __ATOMIC_SEQ_CST);
	after = r->bytes - guest_ring_used(r);
	if ((r->hdr->feature_bits & 1) && pending && after > pending && before <= pending)
		vmbus_signal(c->g->srv, c->offer.connection_id);
	return true;
}

/* The next packet, waiting for threads up to ten seconds. */
FAKE_FN void guest_read_wait(struct guest_channel *c, struct guest_packet *p)
{
	for (u32 i = 0; i < 100000; i++) {
		if (guest_read(c, p))
			return;
		usleep(100);
	}
	must(!"no packet from the host");
}

/* Gives threads up to ten seconds to make *v equal @want. */
FAKE_FN void guest_wait(struct fake_guest *g, const u32 *v, u32 want)
{
	for (u32 i = 0; i < 100000 && __atomic_load_n(v, __ATOMIC_SEQ_CST) != want; i++) {
		guest_run(g);
		usleep(100);
	}
	must(__atomic_load_n(v, __ATOMIC_SEQ_CST) == want);
}

#endif
