// SPDX-License-Identifier: MIT
/* The data path between a guest's rings and a device. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "vmbus/testing.h"

#include <cmocka.h>

static struct fake_guest g;
static struct guest_channel c;
static struct guest_packet p;

static struct {
	struct vmbus_channel *ch;
	u32 packets, batches, writables, closed; /* atomic */
	u32 hold;				 /* answer -EAGAIN to this many */
	int ret;				 /* what packet() returns */
	bool complete;				 /* at once, else the ids are kept */
	u64 kept[1024];
	u32 kept_count;
} d;

static int opened(struct vmbus_channel *ch)
{
	d.ch = ch;
	assert_null(vmbus_channel_data(ch));
	vmbus_channel_set_data(ch, &d);
	return 0;
}

static int packet(struct vmbus_channel *ch, const struct vmbus_packet *pkt)
{
	if (d.hold) {
		d.hold--;
		return -EAGAIN;
	}
	__atomic_add_fetch(&d.packets, 1, __ATOMIC_SEQ_CST);
	if (d.ret)
		return d.ret;
	if (!pkt->wants_completion)
		return 0;
	if (d.complete)
		return vmbus_complete(ch, pkt->transaction_id, pkt->payload,
				      pkt->payload_bytes < 64 ? pkt->payload_bytes : 64);
	d.kept[d.kept_count++] = pkt->transaction_id;
	return 0;
}

static void batch_end(struct vmbus_channel *ch)
{
	d.batches++;
}

static void writable(struct vmbus_channel *ch)
{
	d.writables++;
}

static int closed(struct vmbus_channel *ch)
{
	__atomic_add_fetch(&d.closed, 1, __ATOMIC_SEQ_CST);
	return 0;
}

static void destroy(void *dev)
{
}

static struct vmbus_device_ops ops = {
	.name = "data",
	.interface_id = HV_GUID(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11),
	.completion_max = 64,
	.opened = opened,
	.packet = packet,
	.batch_end = batch_end,
	.writable = writable,
	.closed = closed,
	.destroy = destroy,
};

static int start(bool threaded)
{
	struct vmbus_offer o = { .ops = &ops };

	memset(&d, 0, sizeof(d));
	d.complete = true;
	ops.threaded = threaded;
	ops.poll_owed = 0;
	guest_init(&g, NULL);
	assert_int_equal(vmbus_offer(g.srv, &o, NULL), 0);
	guest_connect(&g, VMBUS_VERSION(5, 3), 0);
	guest_expect_offer(&g, &c);
	guest_expect(&g, VMBUS_ALL_OFFERS_DELIVERED, 8);
	assert_int_equal(guest_open(&c, 3, 0), 0); /* 8 KiB of data each way */
	return 0;
}

static int setup(void **state)
{
	return start(false);
}

static int setup_threaded(void **state)
{
	return start(true);
}

static int teardown(void **state)
{
	guest_fini(&g);
	assert_int_equal(d.closed, 1);
	return 0;
}

static u32 interrupts(void)
{
	return __atomic_load_n(&g.interrupts[c.offer.relid], __ATOMIC_SEQ_CST);
}

static void a_batch_costs_one_signal(void **state)
{
	for (u64 i = 0; i < 20; i++)
		assert_true(guest_write(&c, VMBUS_PACKET_INBAND, 1, i, NULL, 0, &i, 8, true));
	guest_signal(&c);
	assert_int_equal(d.packets, 20);
	assert_int_equal(d.batches, 1);
	assert_int_equal(interrupts(), 1);
	for (u64 i = 0; i < 20; i++) {
		assert_true(guest_read(&c, &p));
		assert_int_equal(p.h.type, VMBUS_PACKET_COMPLETION);
		assert_int_equal(p.h.transaction_id, i);
		assert_int_equal(p.bytes, 8);
	}
	assert_false(guest_read(&c, &p));
	assert_int_equal(c.to_host.hdr->interrupt_mask, 0);
	/* A packet without the flag is owed nothing. */
	guest_send(&c, 0, 5, "x", 1);
	assert_int_equal(d.packets, 21);
	assert_false(guest_read(&c, &p));
	assert_int_equal(vmbus_complete(d.ch, 5, "x", 1), -EINVAL);
}

static void ring(u32 which, u64 n)
{
	assert_int_equal(write(g.doorbell[which], &n, sizeof(n)), sizeof(n));
}

/* As the kernel does it for the host: each way is heard, and counted also when the channel is gone.
 */
static void doorbells_are_signals(void **state)
{
	struct vmbus_channel_info info[4];

	for (u32 way = 0; way < VMBUS_DOORBELLS; way++) {
		assert_true(guest_write(&c, VMBUS_PACKET_INBAND, 1, way, NULL, 0, &way, 4, true));
		ring(way, 3 + way);
		guest_run(&g);
		assert_int_equal(d.packets, 1 + way);
		assert_int_equal(g.rung[way], 3 + way);
	}
	assert_int_equal(vmbus_server_list(g.srv, info, ARRAY_SIZE(info)), 1);
	assert_int_equal(info[0].signals_in, 7);
	ring(1, 5);
	guest_close(&c);
	assert_int_equal(g.rung[0], 3);
	assert_int_equal(g.rung[1], 9);
}

/* A guest that goes on sending while the host looks, until there are no more packets. */
static struct {
	u32 packets; /* still to be sent */
	u64 gap_ns;  /* how far apart */
	u32 read_at; /* when so many are left it reads what is there */
	u32 heard;   /* interrupts */
	u64 next_ns;
} sender;

static void send_on(struct fake_guest *guest)
{
	u64 id = sender.packets;

	guest->now_ns += NS_PER_US;
	if (interrupts() != sender.heard) {
		sender.heard = interrupts();
		c.from_host.hdr->read_index = c.from_host.hdr->write_index;
	}
	if (guest->now_ns < sender.next_ns)
		return;
	sender.next_ns = guest->now_ns + sender.gap_ns;
	if (sender.packets > sender.read_at) {
		must(guest_write(&c, VMBUS_PACKET_INBAND, 1, id, NULL, 0, &id, 8, false));
		sender.packets--;
	} else if (sender.packets) {
		c.from_host.hdr->read_index = c.from_host.hdr->write_index;
		sender.packets = sender.read_at = 0;
	}
}

static u32 burst(u32 packets, bool reads_last)
{
	u32 before = sender.heard = interrupts();

	sender.packets = packets - 1 + reads_last;
	sender.read_at = reads_last;
	g.now_ns += 2 * sender.gap_ns;
	sender.next_ns = g.now_ns + sender.gap_ns;
	g.tick = send_on;
	guest_send(&c, 1, 0, "x", 1);
	g.tick = NULL;
	c.from_host.hdr->read_index = c.from_host.hdr->write_index;
	return interrupts() - before;
}

/* The signal for what a device answers at once waits for the packets that come meanwhile. */
static void answers_to_a_busy_sender_share_a_signal(void **state)
{
	ops.poll_owed = 4;
	sender.gap_ns = 50 * NS_PER_US;
	/* One by one, each after its answer: every one has a signal, and looks become rare. */
	for (u32 i = 0; i < 300; i++)
		assert_int_equal(burst(1, false), 1);
	/* It takes a while until the channel looks again; then a burst costs one. */
	for (u32 i = 0; i < 300 && (burst(8, false), sender.packets); i++)
		;
	for (u32 i = 0; i < 10; i++) {
		assert_int_equal(burst(8, false), 1);
		assert_int_equal(sender.packets, 0);
	}
	/* At most so many answers wait. */
	assert_int_equal(burst(24, false), 1);
	assert_int_equal(sender.packets, 16);
	/* What the guest has read by then needs none. */
	assert_int_equal(burst(5, true), 0);
	assert_int_equal(burst(5, false), 1);
	assert_int_equal(sender.packets, 0);
	assert_int_equal(c.to_host.hdr->interrupt_mask, 0);
}

/* Where packets come faster than signals would pay, the next one needs none. */
static void the_next_packet_needs_no_signal(void **state)
{
	ops.poll_owed = 4;
	sender.gap_ns = 5 * NS_PER_US;
	/* The guest reads each answer, by its signal, before it sends again. */
	for (u32 i = 0; i < 600 && (burst(40, false), sender.packets); i++)
		;
	/* The look after the last is in vain, so that of every two bursts one is left at its first
	 * signal. */
	d.packets = 0;
	for (u32 i = 0; i < 20; i++)
		burst(40, false);
	assert_in_range(d.packets, 20 * 20, 20 * 40);
	/* One that comes late is signalled again. */
	assert_int_equal(c.to_host.hdr->interrupt_mask, 0);
	assert_int_equal(burst(1, false), 1);
}

/* Completions from outside of callbacks: visible after the round, one signal. */
static void late_completions_are_flushed_together(void **state)
{
	d.complete = false;
	for (u64 i = 0; i < 10; i++)
		guest_send(&c, 1, i, "abcdefgh", 8);
	assert_int_equal(d.kept_count, 10);
	assert_int_equal(interrupts(), 0);
	for (u32 i = 10; i-- > 0;)
		assert_int_equal(vmbus_complete(d.ch, d.kept[i], "ok", 2), 0);
	assert_int_equal(guest_ring_used(&c.from_host), 0);
	guest_run(&g);
	assert_int_equal(interrupts(), 1);
	for (u32 i = 10; i-- > 0;) {
		assert_true(guest_read(&c, &p));
		assert_int_equal(p.h.transaction_id, i);
	}
	/* At once, on demand. */
	assert_int_equal(vmbus_send_inband(d.ch, 0, 0, "now", 3), 0);
	vmbus_channel_flush(d.ch);
	assert_int_not_equal(guest_ring_used(&c.from_host), 0);
}

static void room_for_completions_is_reserved(void **state)
{
	u32 sent = 0, done = 0;

	/* The guest never reads: requests are taken only as long as all can be completed. */
	d.complete = false;
	while (sent < 400 &&
	       guest_write(&c, VMBUS_PACKET_INBAND, 1, sent, NULL, 0, "x", 1, false)) {
		guest_run(&g);
		sent++;
	}
	assert_true(sent < 400); /* the request ring filled up behind */
	assert_int_equal(d.kept_count, 8191 / (16 + 64 + 8));
	assert_int_equal(vmbus_send_inband(d.ch, 0, 0, "x", 1), -EAGAIN);
	for (u32 i = 0; i < d.kept_count; i++)
		assert_int_equal(vmbus_complete(d.ch, d.kept[i], p.data, 64), 0);
	guest_run(&g);
	/* As the guest reads, the rest is taken; pending_send_sz made it signal us. */
	d.complete = true;
	while (guest_read(&c, &p))
		done++;
	guest_run(&g);
	while (guest_read(&c, &p))
		done++;
	assert_int_equal(done, sent);
	assert_int_equal(c.from_host.hdr->pending_send_sz, 0);
	assert_true(d.writables > 0);
}

static void a_held_packet_comes_again(void **state)
{
	d.hold = 1;
	guest_send(&c, 1, 7, "abc", 3);
	assert_int_equal(d.packets, 0);
	assert_int_equal(c.to_host.hdr->interrupt_mask, 1); /* more would change nothing */
	guest_send(&c, 1, 8, "abc", 3);
	vmbus_channel_resume(d.ch);
	guest_run(&g);
	assert_int_equal(d.packets, 2);
	assert_true(guest_read(&c, &p));
	assert_int_equal(p.h.transaction_id, 7);
	assert_int_equal(c.to_host.hdr->interrupt_mask, 0);
}

static void writable_follows_eagain(void **state)
{
	static u8 big[5000];

	assert_int_equal(vmbus_send_inband(d.ch, 1, 0, big, sizeof(big)), 0);
	assert_int_equal(vmbus_send_inband(d.ch, 2, 0, big, sizeof(big)), -EAGAIN);
	assert_int_equal(vmbus_send_inband(d.ch, 2, 0, big, 8192), -EMSGSIZE);
	assert_false(vmbus_channel_has_room(d.ch, 0, sizeof(big)));
	guest_run(&g);
	assert_int_equal(c.from_host.hdr->pending_send_sz, vmbus_ring_bytes_for(0, sizeof(big)));
	assert_int_equal(d.writables, 0);
	assert_true(guest_read(&c, &p)); /* signals the host, as Linux does */
	guest_run(&g);
	assert_int_equal(d.writables, 1);
	assert_int_equal(c.from_host.hdr->pending_send_sz, 0);
	assert_true(vmbus_channel_has_room(d.ch, 0, sizeof(big)));
	/* A guest that does not signal: we look again. */
	assert_int_equal(vmbus_send_inband(d.ch, 2, 0, big, sizeof(big)), 0);
	assert_int_equal(vmbus_send_inband(d.ch, 3, 0, big, sizeof(big)), -EAGAIN);
	guest_run(&g);
	c.from_host.hdr->read_index = c.from_host.hdr->write_index;
	guest_run(&g);
	assert_int_equal(d.writables, 1);
	guest_advance(&g, 20 * NS_PER_MS);
	assert_int_equal(d.writables, 2);
}

static void transfer_pages_layout(void **state)
{
	static const u8 golden[] = { /* Linux vmtransfer_page_packet_header after the descriptor */
				     0xfe, 0xca, 0, 0,	  2, 0, 0, 0, 60, 0, 0, 0,  0,
				     0,	   0,	 0, 0xdc, 5, 0, 0, 0, 8,  0, 0, 'p'
	};
	struct vmbus_xfer_range r[2] = { { 60, 0 }, { 1500, 2048 } };

	assert_int_equal(vmbus_send_xfer(d.ch, 77, 1, 0xcafe, r, 2, "p", 1), 0);
	assert_true(guest_read(&c, &p));
	assert_int_equal(p.h.type, VMBUS_PACKET_XFER_PAGES);
	assert_int_equal(p.h.flags, 1);
	assert_int_equal(p.h.transaction_id, 77);
	assert_int_equal(p.extra_bytes, 24);
	assert_memory_equal(p.data, golden, sizeof(golden));
	/* The guest's completion of it is a packet, and nothing is owed for it. */
	assert_true(guest_write(&c, VMBUS_PACKET_COMPLETION, 1, 77, NULL, 0, "x", 1, false));
	guest_run(&g);
	assert_int_equal(d.packets, 1);
	assert_false(guest_read(&c, &p));
}

static void a_lost_first_interrupt_is_repeated(void **state)
{
	guest_send(&c, 1, 1, "x", 1);
	assert_int_equal(interrupts(), 1);
	guest_advance(&g, 99 * NS_PER_MS);
	assert_int_equal(interrupts(), 1);
	guest_advance(&g, 2 * NS_PER_MS);
	assert_int_equal(interrupts(), 2);
	guest_advance(&g, NS_PER_S);
	assert_int_equal(interrupts(), 2);
}

static void a_device_error_closes_the_channel(void **state)
{
	d.ret = -EPROTO;
	guest_send(&c, 1, 1, "x", 1);
	assert_int_equal(d.closed, 1);
	guest_close(&c);
}

static void gpa_direct_reaches_memory(void **state)
{
	u64 gpa = guest_alloc(&g, 2), pfn[2] = { gpa / PAGE_BYTES, gpa / PAGE_BYTES + 1 };

	assert_true(guest_send_gpa(&c, 1, 9, pfn, 512, 4096, "srb", 3));
	guest_run(&g);
	assert_int_equal(d.packets, 1);
	assert_true(guest_read(&c, &p));
	assert_memory_equal(p.data, "srb", 3);
}

static void a_thread_serves_the_channel(void **state)
{
	u32 done = 0;

	for (u64 i = 0; i < 3000; i++) {
		while (!guest_write(&c, VMBUS_PACKET_INBAND, 1, i, NULL, 0, &i, 8, false)) {
			guest_read_wait(&c, &p);
			assert_int_equal(p.h.transaction_id, done++);
		}
		if (i % 3 == 0) {
			guest_read_wait(&c, &p);
			assert_int_equal(p.h.transaction_id, done++);
		}
	}
	while (done < 3000) {
		guest_read_wait(&c, &p);
		assert_int_equal(p.h.transaction_id, done++);
	}
	guest_wait(&g, &d.packets, 3000);
}

static void a_device_error_closes_the_channel_threaded(void **state)
{
	d.ret = -EPROTO;
	guest_send(&c, 1, 1, "x", 1);
	guest_wait(&g, &d.closed, 1);
	guest_close(&c);
}

#define T(f)  cmocka_unit_test_setup_teardown(f, setup, teardown)
#define TT(f) cmocka_unit_test_setup_teardown(f, setup_threaded, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_batch_costs_one_signal),
		T(doorbells_are_signals),
		T(answers_to_a_busy_sender_share_a_signal),
		T(the_next_packet_needs_no_signal),
		T(late_completions_are_flushed_together),
		T(room_for_completions_is_reserved),
		T(a_held_packet_comes_again),
		T(writable_follows_eagain),
		T(transfer_pages_layout),
		T(a_lost_first_interrupt_is_repeated),
		T(a_device_error_closes_the_channel),
		T(gpa_direct_reaches_memory),
		TT(a_thread_serves_the_channel),
		TT(a_device_error_closes_the_channel_threaded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
