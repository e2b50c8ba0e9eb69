// SPDX-License-Identifier: MIT
/*
 * A channel's data path, on the channel's loop: takes packets off the ring, hands
 * them to the device, and makes what the device wrote visible with one signal.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "vmbus/internal.h"

#define DRAIN_BUDGET 256u /* packets before others on the loop get a turn */
/* Guests may lose an interrupt that arrives while they still open the channel. */
#define UNSTICK_NS (100 * NS_PER_MS)
/* Guests differ in when they signal that room came; look again anyway. */
#define ROOM_POLL_NS (20 * NS_PER_MS)
/*
 * A signal waits for at most so many answers, and for the next packet twice as long as they have
 * been apart lately; where that is more than PACE_MAX_NS it does not wait.
 */
#define HOLD_ANSWERS 8u
#define HOLD_LARGE   (64 * KIB) /* counts twice: the guest has work with those before */
#define PACE_PACKETS 32u
#define PACE_MAX_NS  (500 * NS_PER_US)
/* The next packet is waited for as long as so many signals to the guest take, on this host. */
#define POLL_SIGNALS 32u
#define LOOK_TRIES   65536u /* where the clock stands */
#define REST_MAX     256u   /* runs without a look, after some in vain */
#define LOOKS_MAX    16u    /* for next packets, before others on the loop get a turn */

static void drain_run(struct loop_work *w);
static void flush_run(struct loop_work *w);

static void count(u64 *stat)
{
	__atomic_store_n(stat, *stat + 1, __ATOMIC_RELAXED);
}

static const struct vmbus_device_ops *ops_of(const struct vmbus_channel *ch)
{
	return ch->vd->offer.ops;
}

void channel_io_init(struct vmbus_channel *ch)
{
	loop_work_init(&ch->open_work, channel_io_open);
	loop_work_init(&ch->close_work, channel_io_close);
	loop_work_init(&ch->drain_work, drain_run);
	loop_work_init(&ch->flush_work, flush_run);
	ch->live = ch->in_core = ch->suboffers = false;
	ch->lulled = ch->room_due = ch->signal_due = ch->holding = false;
	ch->hold = ch->next = (struct channel_look){ 0 };
	ch->unsignalled = ch->pace_packets = 0;
	ch->pace_ns = ch->signal_ns = 0;
	ch->owed = ch->reserve_wanted = ch->send_wanted = 0;
	ch->data = NULL;
	memset(&ch->stats, 0, sizeof(ch->stats));
}

void channel_interrupt(struct vmbus_channel *ch)
{
	u32 vp = __atomic_load_n(&ch->target_vp, __ATOMIC_ACQUIRE);

	if (vp == VMBUS_NO_INTERRUPT_VP)
		return;
	__atomic_add_fetch(&ch->stats.signals_out, 1, __ATOMIC_RELAXED);
	ch->srv->cfg.ops->signal_event(ch->srv->cfg.ctx, vp, ch->sint, ch->event_flag);
}

void vmbus_channel_fail(struct vmbus_channel *ch, const char *reason)
{
	if (!ch->live)
		return;
	ch->live = false;
	snprintf(ch->fail_reason, sizeof(ch->fail_reason), "%s", reason);
	loop_post(ch->srv->loop, &ch->fail_work);
}

/* Both directions become visible; for what the guest is to read, a signal is due. */
static void show(struct vmbus_channel *ch)
{
	if (!ch->live)
		return;
	if (vmbus_ring_publish_read(&ch->ring))
		ch->room_due = true;
	if (vmbus_ring_publish_write(&ch->ring))
		ch->signal_due = true;
	if (ch->ring.error)
		vmbus_channel_fail(ch, ch->ring.error);
	if (ch->suboffers) {
		ch->suboffers = false;
		loop_post(ch->srv->loop, &ch->suboffer_work);
	}
}

/* The least it took, forgotten slowly: others may have this processor meanwhile. */
static void timed_interrupt(struct vmbus_channel *ch)
{
	u64 from = loop_now_ns(ch->loop);
	u64 most = ch->signal_ns ? ch->signal_ns + ch->signal_ns / 16 + 1 : UINT64_MAX;

	channel_interrupt(ch);
	ch->signal_ns = min_u64(loop_now_ns(ch->loop) - from, most);
}

/* One signal for both directions, and none for what the guest has found by itself. */
static void signal_due(struct vmbus_channel *ch)
{
	if (ch->live && (ch->room_due || (ch->signal_due && vmbus_ring_unheard(&ch->ring)))) {
		if (ops_of(ch)->poll_owed)
			timed_interrupt(ch);
		else
			channel_interrupt(ch);
	}
	ch->room_due = ch->signal_due = ch->holding = false;
	ch->unsignalled = 0;
}

static void publish(struct vmbus_channel *ch)
{
	show(ch);
	signal_due(ch);
}

static void poll_run(struct loop_timer *t)
{
	struct vmbus_channel *ch = container_of(t, struct vmbus_channel, poll);

	if (ch->live && vmbus_ring_out_pending(&ch->ring))
		channel_interrupt(ch);
	drain_run(&ch->drain_work);
}

/* Tells the guest for how much room somebody waits here. */
static void update_wish(struct vmbus_channel *ch)
{
	u32 want = ch->reserve_wanted > ch->send_wanted ? ch->reserve_wanted : ch->send_wanted;

	if (!ch->live)
		return;
	if (want == 0) {
		if (ch->ring.out.hdr->pending_send_sz)
			vmbus_ring_want(&ch->ring, 0);
		return;
	}
	if (vmbus_ring_want(&ch->ring, want))
		loop_post(ch->loop, &ch->drain_work);
	else if (ch->ring.error)
		vmbus_channel_fail(ch, ch->ring.error);
	else
		loop_timer_after(ch->loop, &ch->poll, ROOM_POLL_NS, poll_run);
}

static u32 completion_bytes(const struct vmbus_channel *ch)
{
	return vmbus_ring_bytes_for(0, ops_of(ch)->completion_max);
}

/* 1: a packet was taken; 0: none is there; -EAGAIN: later; other negative: it is over. */
static int deliver(struct vmbus_channel *ch)
{
	struct vmbus_packet pkt;
	int ret = vmbus_ring_peek(&ch->ring, &pkt);

	if (ret <= 0)
		return ret;
	if (pkt.wants_completion) {
		ret = vmbus_ring_reserve(&ch->ring, completion_bytes(ch));
		if (ret == -EAGAIN)
			ch->reserve_wanted = completion_bytes(ch);
		if (ret)
			return ret;
		ch->owed++;
	}
	ret = ops_of(ch)->packet ? ops_of(ch)->packet(ch, &pkt) : 0;
	if (ret == 0) {
		vmbus_ring_consume(&ch->ring, &pkt);
		count(&ch->stats.packets);
		ch->delivered = true;
		ch->pace_packets++;
		ch->unsignalled += pkt.data_bytes < HOLD_LARGE ? 1 : 2;
		return 1;
	}
	if (pkt.wants_completion && ch->owed) {
		ch->owed--;
		vmbus_ring_unreserve(&ch->ring, completion_bytes(ch));
	}
	if (ret != -EAGAIN && ch->live)
		vmbus_channel_fail(ch, strerror(-ret));
	return ret;
}

static void tell_writable(struct vmbus_channel *ch)
{
	if (!ch->send_wanted || vmbus_ring_room(&ch->ring) <= ch->send_wanted)
		return;
	ch->send_wanted = 0;
	if (ops_of(ch)->writable)
		ops_of(ch)->writable(ch);
}

/* One run over what is in the ring. Returns as deliver(), with 1: there may be more. */
static int drain_some(struct vmbus_channel *ch, u32 *budget)
{
	bool brief = ops_of(ch)->poll_owed;
	int ret = 1;

	ch->delivered = false;
	while (ch->live && *budget > 0 && (ret = deliver(ch)) == 1) {
		--*budget;
		if (brief && ch->unsignalled >= HOLD_ANSWERS)
			break;
	}
	if (ch->delivered && ch->live && ops_of(ch)->batch_end)
		ops_of(ch)->batch_end(ch);
	if (ch->ring.error)
		vmbus_channel_fail(ch, ch->ring.error);
	show(ch);
	return ret;
}

/* How far packets are apart, ns; 0: not known yet. */
static u64 pace(struct vmbus_channel *ch, u64 now)
{
	if (ch->pace_packets >= PACE_PACKETS) {
		ch->pace_ns = (now - ch->pace_since) / ch->pace_packets;
		ch->pace_since = now;
		ch->pace_packets = 0;
	}
	return ch->pace_ns;
}

/*
 * Looks for a packet for so long. After a look in vain, as with a guest that waits for each answer,
 * the next ones are rarer, unless it is @again one of a row.
 */
static bool look(struct vmbus_channel *ch, struct channel_look *l, u64 from, u64 ns, bool again)
{
	u32 tries = 0;

	if (l->rest && !again) {
		l->rest--;
		return false;
	}
	do {
		if (vmbus_ring_in_pending(&ch->ring)) {
			l->rest_next = 0;
			return true;
		}
	} while (loop_now_ns(ch->loop) - from < ns && ++tries < LOOK_TRIES);
	if (!again) {
		l->rest_next = l->rest_next ? (u32)min_u64(2 * l->rest_next, REST_MAX) : 1;
		l->rest = l->rest_next;
	}
	return false;
}

/*
 * A signal interrupts a VP that often is about to send the next packets. So where a device answers
 * at once, it waits while they come: the answers are in the ring already.
 */
static bool more_comes(struct vmbus_channel *ch)
{
	u64 now, gap;

	if (!ops_of(ch)->poll_owed || !ch->signal_due || !ch->live)
		return false;
	now = loop_now_ns(ch->loop);
	gap = pace(ch, now);
	if (!gap || gap > PACE_MAX_NS || ch->unsignalled >= HOLD_ANSWERS ||
	    !look(ch, &ch->hold, now, 2 * gap, ch->holding))
		return false;
	ch->holding = true;
	return true;
}

/*
 * All is answered. Where the next packet is worth waiting for, compared with what it costs that the
 * guest signals it and this thread wakes, the guest need not.
 */
static bool next_comes(struct vmbus_channel *ch)
{
	u64 now, gap, most = POLL_SIGNALS * ch->signal_ns;

	if (!ops_of(ch)->poll_owed || !ch->live || ch->owed)
		return false;
	now = loop_now_ns(ch->loop);
	gap = pace(ch, now);
	return gap && gap < most && look(ch, &ch->next, now, min_u64(2 * gap, most), false);
}

/*
 * Completions are due soon, and each is an occasion to look for packets: the
 * guest need not signal them. If nothing completes for a while, it has to again.
 */
static void lull_run(struct loop_timer *t)
{
	struct vmbus_channel *ch = container_of(t, struct vmbus_channel, lull);

	ch->lulled = ch->stats.completions == ch->lull_completions;
	drain_run(&ch->drain_work);
}

static bool polled(struct vmbus_channel *ch)
{
	u32 enough = ops_of(ch)->poll_owed;

	if (!enough || ch->owed < enough) {
		loop_timer_cancel(&ch->lull);
		ch->lulled = false;
	}
	if (!enough || ch->owed < enough || ch->lulled)
		return false;
	if (!loop_timer_armed(&ch->lull)) {
		ch->lull_completions = ch->stats.completions;
		loop_timer_after(ch->loop, &ch->lull, VMBUS_POLL_NS, lull_run);
	}
	return true;
}

static void drain_run(struct loop_work *w)
{
	struct vmbus_channel *ch = container_of(w, struct vmbus_channel, drain_work);
	u32 budget = DRAIN_BUDGET, looks = LOOKS_MAX;
	int ret;

	if (!ch->live)
		return;
	ch->in_core = true;
	ch->reserve_wanted = 0;
	tell_writable(ch);
	do {
		/* While we look, signals would only cost the guest. */
		vmbus_ring_mask(&ch->ring, true);
		do
			ret = drain_some(ch, &budget);
		while (ret == 0 && budget && more_comes(ch));
		signal_due(ch);
		if (ret == 0 && budget && next_comes(ch)) {
			ret = 1;
			budget = --looks ? budget : 0;
		}
		/* Stalled, it stays masked: new packets change nothing. */
	} while (ch->live && budget &&
		 (ret == 1 || (ret == 0 && !polled(ch) && vmbus_ring_unmask_and_check(&ch->ring))));
	if (ret == 1 && ch->live)
		loop_post(ch->loop, &ch->drain_work);
	update_wish(ch);
	ch->in_core = false;
}

static void flush_run(struct loop_work *w)
{
	struct vmbus_channel *ch = container_of(w, struct vmbus_channel, flush_work);

	publish(ch);
	update_wish(ch);
	if (ch->live && ops_of(ch)->poll_owed) {
		ch->lulled = false;
		drain_run(&ch->drain_work);
	}
}

static bool doorbell_take(struct channel_doorbell *d)
{
	struct vmbus_channel *ch = d->ch;
	const struct vmbus_config *cfg = &ch->srv->cfg;
	u64 n;

	if (read(d->lf.fd, &n, sizeof(n)) != (ssize_t)sizeof(n))
		return false;
	__atomic_add_fetch(&ch->stats.signals_in, n, __ATOMIC_RELAXED);
	cfg->ops->event_rung(cfg->ctx, (u32)(d - ch->doorbell), n);
	return true;
}

static void doorbell_ready(struct loop_fd *lf, u32 events)
{
	struct channel_doorbell *d = container_of(lf, struct channel_doorbell, lf);

	if (doorbell_take(d))
		drain_run(&d->ch->drain_work);
}

static void doorbells_watch(struct vmbus_channel *ch)
{
	int ret = 0;

	for (u32 i = 0; i < VMBUS_DOORBELLS && !ret; i++) {
		ch->doorbell[i].ch = ch;
		ret = loop_fd_add(ch->loop, &ch->doorbell[i].lf, ch->doorbell_fd[i], EPOLLIN,
				  doorbell_ready);
	}
	/* A doorbell of the kernel's then goes unheard; vmbus_signal() does not. */
	if (ret)
		vmbus_log(ch->srv, "no doorbell for channel %u", ch->relid);
}

/* Nobody rings any more; how often it was is still to be counted. */
static void doorbells_leave(struct vmbus_channel *ch)
{
	for (u32 i = 0; i < VMBUS_DOORBELLS; i++) {
		if (ch->doorbell[i].lf.loop)
			doorbell_take(&ch->doorbell[i]);
		loop_fd_del(&ch->doorbell[i].lf);
	}
}

void channel_io_open(struct loop_work *w)
{
	struct vmbus_channel *ch = container_of(w, struct vmbus_channel, open_work);
	int ret;

	ch->live = ch->in_core = true;
	ch->pace_since = loop_now_ns(ch->loop);
	ret = ops_of(ch)->opened ? ops_of(ch)->opened(ch) : 0;
	if (ret == 0) {
		loop_timer_after(ch->loop, &ch->poll, UNSTICK_NS, poll_run);
		doorbells_watch(ch);
		publish(ch);
		update_wish(ch);
	} else {
		ch->live = false;
		loop_work_cancel(ch->loop, &ch->drain_work);
		loop_work_cancel(ch->loop, &ch->flush_work);
	}
	ch->in_core = false;
	ch->open_status = ret;
	loop_post(ch->srv->loop, &ch->opened_work);
}

void channel_io_close(struct loop_work *w)
{
	struct vmbus_channel *ch = container_of(w, struct vmbus_channel, close_work);
	int ret;

	ch->live = false;
	doorbells_leave(ch);
	loop_timer_cancel(&ch->poll);
	loop_timer_cancel(&ch->lull);
	ret = ops_of(ch)->closed ? ops_of(ch)->closed(ch) : 0;
	if (ret != -EINPROGRESS)
		vmbus_channel_close_done(ch);
}

void vmbus_channel_close_done(struct vmbus_channel *ch)
{
	loop_work_cancel(ch->loop, &ch->drain_work);
	loop_work_cancel(ch->loop, &ch->flush_work);
	loop_post(ch->srv->loop, &ch->closed_work);
	/* From here on the control plane owns the channel. */
}

/* Sending */

static void touch(struct vmbus_channel *ch)
{
	if (!ch->in_core)
		loop_post(ch->loop, &ch->flush_work);
}

static int channel_write(struct vmbus_channel *ch, const struct vmbus_packet_out *out, u32 bytes,
			 bool reserved)
{
	int ret;

	if (!ch->live)
		return -EPIPE;
	ret = vmbus_ring_write(&ch->ring, out, reserved);
	if (ret == -EPROTO) {
		vmbus_channel_fail(ch, ch->ring.error);
		return -EPIPE;
	}
	if (ret == -EAGAIN && bytes > ch->send_wanted)
		ch->send_wanted = bytes;
	if (ret == 0)
		count(&ch->stats.sends);
	if (ret == 0 || ret == -EAGAIN)
		touch(ch);
	return ret;
}

int vmbus_send_iov(struct vmbus_channel *ch, u64 transaction_id, u16 flags,
		   const struct iovec *payload, int n)
{
	struct vmbus_packet_out out = {
		.type = VMBUS_PACKET_INBAND,
		.flags = flags,
		.transaction_id = transaction_id,
		.payload = payload,
		.payload_count = n,
	};
	u64 bytes = 0;

	for (int i = 0; i < n; i++)
		bytes += payload[i].iov_len;
	if (bytes > UINT32_MAX / 2)
		return -EMSGSIZE;
	return channel_write(ch, &out, vmbus_ring_bytes_for(0, (u32)bytes), false);
}

int vmbus_send_inband(struct vmbus_channel *ch, u64 transaction_id, u16 flags, const void *payload,
		      u32 bytes)
{
	struct iovec iov = { (void *)(uintptr_t)payload, bytes };

	return vmbus_send_iov(ch, transaction_id, flags, &iov, 1);
}

int vmbus_send_xfer(struct vmbus_channel *ch, u64 transaction_id, u16 flags, u16 pageset_id,
		    const struct vmbus_xfer_range *ranges, u32 range_count, const void *payload,
		    u32 bytes)
{
	struct {
		struct vmbus_xfer_page_header head;
		struct vmbus_xfer_range range[VMBUS_XFER_MAX_RANGES];
	} extra;
	struct iovec iov = { (void *)(uintptr_t)payload, bytes };
	struct vmbus_packet_out out = {
		.type = VMBUS_PACKET_XFER_PAGES,
		.flags = flags,
		.transaction_id = transaction_id,
		.extra = &extra,
		.extra_bytes = (u32)(sizeof(extra.head) + range_count * sizeof(*ranges)),
		.payload = &iov,
		.payload_count = 1,
	};

	if (range_count > VMBUS_XFER_MAX_RANGES)
		return -EMSGSIZE;
	extra.head = (struct vmbus_xfer_page_header){
		.pageset_id = pageset_id,
		.range_count = range_count,
	};
	memcpy(extra.range, ranges, range_count * sizeof(*ranges));
	return channel_write(ch, &out, vmbus_ring_bytes_for(out.extra_bytes, bytes), false);
}

int vmbus_complete(struct vmbus_channel *ch, u64 transaction_id, const void *payload, u32 bytes)
{
	struct iovec iov = { (void *)(uintptr_t)payload, bytes };
	struct vmbus_packet_out out = {
		.type = VMBUS_PACKET_COMPLETION,
		.transaction_id = transaction_id,
		.payload = &iov,
		.payload_count = 1,
	};
	int ret;

	assert(bytes <= ops_of(ch)->completion_max);
	if (!ch->live)
		return -EPIPE;
	if (ch->owed == 0)
		return -EINVAL;
	ret = channel_write(ch, &out, 0, true);
	if (ret == -EAGAIN) /* its room was reserved */
		vmbus_channel_fail(ch, "guest's read index went backwards");
	if (ret)
		return -EPIPE;
	ch->owed--;
	vmbus_ring_unreserve(&ch->ring, completion_bytes(ch));
	count(&ch->stats.completions);
	return 0;
}

void vmbus_channel_flush(struct vmbus_channel *ch)
{
	publish(ch);
}

bool vmbus_channel_has_room(struct vmbus_channel *ch, u32 extra_bytes, u32 payload_bytes)
{
	return ch->live &&
	       vmbus_ring_room(&ch->ring) > vmbus_ring_bytes_for(extra_bytes, payload_bytes);
}

void vmbus_channel_want_room(struct vmbus_channel *ch, u32 extra_bytes, u32 payload_bytes)
{
	u32 bytes = vmbus_ring_bytes_for(extra_bytes, payload_bytes);

	if (bytes > ch->send_wanted)
		ch->send_wanted = bytes;
	touch(ch);
}

bool vmbus_channel_drained(struct vmbus_channel *ch)
{
	return !ch->live || !vmbus_ring_out_pending(&ch->ring);
}

void vmbus_channel_resume(struct vmbus_channel *ch)
{
	loop_post(ch->loop, &ch->drain_work);
}
