// SPDX-License-Identifier: MIT
/*
 * A frame is preceded by a header of VIRTIO_NET_HEADER bytes in the same buffers.
 * What the guest's headers say is checked against the frame; the frame's bytes
 * beyond its first NET_HEADERS_MAX go to the back end where they lie.
 */
#include "dev/virtio_net.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "backend/net_frame.h"
#include "dev/virtqueue.h"

/* Virtual I/O Device (VIRTIO) Version 1.2, section 5.1. */
#define NET_F_CSUM	 BIT64(0)
#define NET_F_GUEST_CSUM BIT64(1)
#define NET_F_MTU	 BIT64(3)
#define NET_F_MAC	 BIT64(5)
#define NET_F_GUEST_TSO4 BIT64(7)
#define NET_F_GUEST_TSO6 BIT64(8)
#define NET_F_HOST_TSO4	 BIT64(11)
#define NET_F_HOST_TSO6	 BIT64(12)
#define NET_F_MRG_RXBUF	 BIT64(15)
#define NET_F_STATUS	 BIT64(16)
#define FEATURES                                                                                   \
	(NET_F_CSUM | NET_F_GUEST_CSUM | NET_F_MTU | NET_F_MAC | NET_F_GUEST_TSO4 |                \
	 NET_F_GUEST_TSO6 | NET_F_HOST_TSO4 | NET_F_HOST_TSO6 | NET_F_MRG_RXBUF | NET_F_STATUS |   \
	 VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC)

#define DEVICE_TYPE    1
#define CLASS_ETHERNET 0x020000
#define QUEUE_SIZE     256
#define BATCH	       256 /* frames from the guest before others get their turn */

enum { QUEUE_RX, QUEUE_TX, QUEUES };

struct net_config {
	u8 mac[6];
	u16 status; /* bit 0: the link is up */
	u16 max_pairs;
	u16 mtu;
};
static_assert(sizeof(struct net_config) == 12, "virtio size");

enum { HEADER_NEEDS_CSUM = 1, HEADER_DATA_VALID = 2 };
enum { GSO_NONE, GSO_TCP4 = 1, GSO_TCP6 = 4, GSO_ECN = 0x80 };

struct net_header {
	u8 flags, gso_type;
	u16 header_bytes, gso_bytes, csum_start, csum_offset, buffers;
};
#define VIRTIO_NET_HEADER 12u
static_assert(sizeof(struct net_header) == VIRTIO_NET_HEADER, "virtio size");

struct virtio_net {
	const char *name;
	struct virtio_pci *vp;
	struct net_backend *be;
	struct loop *loop;
	bool be_started;

	/* On the loop. */
	bool running;
	u64 features;
	struct virtqueue queue[QUEUES];
	struct loop_fd kick[QUEUES];
	bool starved; /* the back end was refused */
	int start_result;
	/* Two: sending may bring an answer before it returns. */
	struct virtqueue_chain tx_chain, rx_chain;
	u8 large[NET_FRAME_MAX];
};

/* Bytes [@at, @at + @bytes) of @iov from or to @buf; they lie inside. */
static void iov_copy(const struct iovec *iov, u32 at, void *buf, u32 bytes, bool to_iov)
{
	u8 *p = buf;

	for (; bytes; iov++) {
		u32 len = (u32)iov->iov_len;

		if (at >= len) {
			at -= len;
			continue;
		}
		len = (u32)min_u64(len - at, bytes);
		if (to_iov)
			memcpy((u8 *)iov->iov_base + at, p, len);
		else
			memcpy(p, (u8 *)iov->iov_base + at, len);
		p += len;
		bytes -= len;
		at = 0;
	}
}

static void stop_service(struct virtio_net *n)
{
	for (u32 i = 0; i < QUEUES; i++)
		loop_fd_del(&n->kick[i]);
	n->running = false;
}

static void guest_broke(struct virtio_net *n)
{
	stop_service(n);
	virtio_pci_fail(n->vp, "its queues make no sense");
}

static void publish(struct virtio_net *n, u32 queue)
{
	if (virtqueue_publish(&n->queue[queue]))
		virtio_pci_raise(n->vp, queue);
}

/* From the guest. */

/* A large frame: its headers are in @head, made ready for who cuts it. */
static bool large_meta(u8 *head, u32 head_bytes, u32 frame_bytes, const struct net_header *vh,
		       struct net_meta *meta)
{
	u8 version = (vh->gso_type & ~GSO_ECN) == GSO_TCP4 ? 4 : 6;
	struct net_headers h;

	net_headers_parse(head, head_bytes, &h);
	if (!vh->gso_bytes || h.version != version || net_gso_prepare(head, &h, frame_bytes) < 0)
		return false;
	meta->needs_csum = true;
	meta->csum_start = h.l4;
	meta->csum_offset = net_csum_offset(&h);
	if (frame_bytes - h.payload <= vh->gso_bytes)
		return true;
	meta->gso = version == 4 ? NET_GSO_TCP4 : NET_GSO_TCP6;
	meta->gso_bytes = vh->gso_bytes;
	meta->header_bytes = h.payload;
	return true;
}

static bool frame_meta(u8 *head, u32 head_bytes, u32 frame_bytes, const struct net_header *vh,
		       struct net_meta *meta)
{
	switch (vh->gso_type & ~GSO_ECN) {
	case GSO_NONE:
		break;
	case GSO_TCP4:
	case GSO_TCP6:
		return large_meta(head, head_bytes, frame_bytes, vh, meta);
	default:
		return false;
	}
	if (!(vh->flags & HEADER_NEEDS_CSUM))
		return true;
	if ((u32)vh->csum_start + vh->csum_offset + 2 > frame_bytes)
		return false;
	meta->needs_csum = true;
	meta->csum_start = vh->csum_start;
	meta->csum_offset = vh->csum_offset;
	return true;
}

static void tx_frame(struct virtio_net *n, const struct virtqueue_chain *c)
{
	u8 head[NET_HEADERS_MAX];
	struct iovec iov[VIRTQUEUE_IOV_MAX + 1];
	struct net_frame f = { .iov = iov, .count = 1 };
	struct net_header vh;
	u32 skip;

	if (c->read_bytes < sizeof(vh) + NET_ETH_BYTES ||
	    c->read_bytes - sizeof(vh) > NET_FRAME_MAX)
		return;
	iov_copy(c->iov, 0, &vh, sizeof(vh), false);
	f.bytes = c->read_bytes - (u32)sizeof(vh);
	iov[0] = (struct iovec){ head, min_u64(f.bytes, sizeof(head)) };
	iov_copy(c->iov, sizeof(vh), head, (u32)iov[0].iov_len, false);
	if (!frame_meta(head, (u32)iov[0].iov_len, f.bytes, &vh, &f.meta))
		return;
	skip = (u32)(sizeof(vh) + iov[0].iov_len);
	for (u32 i = 0; i < c->readable; i++) {
		u32 len = (u32)c->iov[i].iov_len, cut = (u32)min_u64(skip, len);

		skip -= cut;
		if (len > cut)
			iov[f.count++] =
				(struct iovec){ (u8 *)c->iov[i].iov_base + cut, len - cut };
	}
	n->be->ops->tx(n->be, &f);
}

static void tx_service(struct virtio_net *n)
{
	struct virtqueue *vq = &n->queue[QUEUE_TX];
	u32 budget = BATCH, sent = 0;

	do {
		while (budget && virtqueue_pop(vq, &n->tx_chain) > 0) {
			tx_frame(n, &n->tx_chain);
			virtqueue_push(vq, n->tx_chain.head, 0);
			budget--;
			sent++;
		}
	} while (budget && virtqueue_listen(vq, 0));
	if (sent && n->be->ops->tx_end)
		n->be->ops->tx_end(n->be);
	publish(n, QUEUE_TX);
	if (vq->broken)
		guest_broke(n);
	else if (!budget)
		eventfd_write(n->kick[QUEUE_TX].fd, 1); /* the rest after the others */
}

static void tx_kicked(struct loop_fd *lf, u32 events)
{
	eventfd_t count;

	if (eventfd_read(lf->fd, &count) == 0)
		tx_service(container_of(lf, struct virtio_net, kick[QUEUE_TX]));
}

/* To the guest. */

static bool guest_takes_large(const struct virtio_net *n, u8 gso)
{
	return n->features & (gso == NET_GSO_TCP4 ? NET_F_GUEST_TSO4 : NET_F_GUEST_TSO6);
}

static struct net_header header_of(const struct virtio_net *n, const struct net_frame *f)
{
	struct net_header vh = { .buffers = 1 };

	if (f->meta.needs_csum) {
		vh.flags = HEADER_NEEDS_CSUM;
		vh.csum_start = f->meta.csum_start;
		vh.csum_offset = f->meta.csum_offset;
	} else if (f->meta.csum_ok && n->features & NET_F_GUEST_CSUM) {
		vh.flags = HEADER_DATA_VALID;
	}
	if (f->meta.gso) {
		vh.gso_type = f->meta.gso == NET_GSO_TCP4 ? GSO_TCP4 : GSO_TCP6;
		vh.gso_bytes = f->meta.gso_bytes;
		vh.header_bytes = f->meta.header_bytes;
	}
	return vh;
}

/* The next @room bytes of a frame, from (*i, *at) on, into buffers; returns how many there were. */
static u32 fill(const struct net_frame *f, int *i, u32 *at, const struct iovec *to, u32 skip,
		u32 room)
{
	u32 done = 0;

	while (done < room && *i < f->count) {
		u32 len = (u32)min_u64(f->iov[*i].iov_len - *at, room - done);

		iov_copy(to, skip + done, (u8 *)f->iov[*i].iov_base + *at, len, true);
		done += len;
		*at += len;
		if (*at == f->iov[*i].iov_len) {
			(*i)++;
			*at = 0;
		}
	}
	return done;
}

/* A frame the guest takes as it is; all of it, or nothing. */
static void rx_one(void *ctx, const struct net_frame *f)
{
	struct virtio_net *n = ctx;
	struct virtqueue *vq = &n->queue[QUEUE_RX];
	struct net_header vh = header_of(n, f);
	struct iovec first = { 0 }; /* of the header: one element, as drivers have it */
	u32 left = f->bytes, at = 0;
	u16 taken = 0;
	int i = 0;

	do {
		struct virtqueue_chain *c = &n->rx_chain;
		u32 skip = taken ? 0 : VIRTIO_NET_HEADER, done;

		if (virtqueue_pop(vq, c) <= 0)
			goto drop;
		taken++;
		/* Only what the device writes is for frames; the header lies in one piece. */
		if (c->readable || c->write_bytes <= skip ||
		    (skip && c->iov[0].iov_len < VIRTIO_NET_HEADER)) {
			vq->broken = true;
			goto drop;
		}
		if (skip)
			first = c->iov[0];
		done = fill(f, &i, &at, c->iov, skip, (u32)min_u64(left, c->write_bytes - skip));
		left -= done;
		if (left && !(n->features & NET_F_MRG_RXBUF)) {
			virtqueue_unpop(vq, 1);
			return;
		}
		virtqueue_push(vq, c->head, skip + done);
	} while (left);
	vh.buffers = taken;
	memcpy(first.iov_base, &vh, sizeof(vh));
	return;
drop:
	virtqueue_unpush(vq, taken ? (u16)(taken - vq->broken) : 0);
	if (!vq->broken)
		virtqueue_unpop(vq, taken);
}

static void sink_rx(void *ctx, const struct net_frame *f)
{
	struct virtio_net *n = ctx;
	bool cut = f->meta.gso && !guest_takes_large(n, f->meta.gso);
	bool sum = f->meta.needs_csum && !(n->features & NET_F_GUEST_CSUM);
	struct net_headers h;

	if (!n->running)
		return;
	if (!cut && !sum) {
		rx_one(n, f);
	} else if (net_frame_copy(f, n->large, sizeof(n->large)) == 0) {
		const struct iovec iov = { n->large, f->bytes };
		const struct net_frame whole = { .iov = &iov, .count = 1, .bytes = f->bytes };

		net_headers_parse(n->large, f->bytes, &h);
		if (cut) {
			net_segment(n->large, f->bytes, &h, f->meta.gso_bytes, rx_one, n);
		} else {
			net_frame_complete(n->large, f->bytes, &h);
			rx_one(n, &whole);
		}
	}
	if (n->queue[QUEUE_RX].broken)
		guest_broke(n);
}

static void sink_rx_end(void *ctx)
{
	struct virtio_net *n = ctx;

	if (n->running)
		publish(n, QUEUE_RX);
}

/* Buffers that the largest frame may need: of the smallest size a driver would give. */
static u16 rx_wanted(const struct virtio_net *n)
{
	bool large = n->features & (NET_F_GUEST_TSO4 | NET_F_GUEST_TSO6);

	return (u16)min_u64(large ? NET_FRAME_MAX / 1024 : 2, n->queue[QUEUE_RX].size / 2 + 1);
}

static bool sink_rx_room(void *ctx)
{
	struct virtio_net *n = ctx;
	struct virtqueue *vq = &n->queue[QUEUE_RX];
	u16 waiting;

	if (!n->running)
		return true; /* to be dropped */
	do {
		waiting = virtqueue_waiting(vq);
		if (waiting >= rx_wanted(n))
			return true;
		publish(n, QUEUE_RX);
	} while (virtqueue_listen(vq, waiting));
	n->starved = true;
	return vq->broken;
}

static void rx_kicked(struct loop_fd *lf, u32 events)
{
	struct virtio_net *n = container_of(lf, struct virtio_net, kick[QUEUE_RX]);
	eventfd_t count;

	if (eventfd_read(lf->fd, &count) < 0 || !n->starved || !sink_rx_room(n))
		return;
	n->starved = false;
	if (n->queue[QUEUE_RX].broken)
		guest_broke(n);
	if (n->be->ops->rx_resume)
		n->be->ops->rx_resume(n->be);
}

static void sink_link(void *ctx, bool up)
{
	struct virtio_net *n = ctx;
	u16 status = up;

	virtio_pci_config_set(n->vp, offsetof(struct net_config, status), &status, sizeof(status));
}

static const struct net_sink_ops sink = { sink_rx_room, sink_rx, sink_rx_end, sink_link };

/* Life. */

static void start_on_loop(void *arg)
{
	struct virtio_net *n = arg;
	void (*const kicked[QUEUES])(struct loop_fd *, u32) = { rx_kicked, tx_kicked };
	int ret = 0;

	for (u32 i = 0; !ret && i < QUEUES; i++) {
		const struct virtio_queue *q = virtio_pci_queue(n->vp, i);

		if (!q->enabled)
			ret = -EINVAL;
		else
			virtqueue_init(&n->queue[i], q, virtio_pci_gmem(n->vp), n->features);
		if (!ret)
			ret = loop_fd_add(n->loop, &n->kick[i], q->kick_fd, EPOLLIN, kicked[i]);
	}
	n->start_result = ret;
	if (ret) {
		stop_service(n);
		return;
	}
	n->running = true;
	if (n->be->ops->set_rx) {
		const struct net_rx_caps caps = { n->features & NET_F_GUEST_TSO4,
						  n->features & NET_F_GUEST_TSO6, n->be->mtu };

		n->be->ops->set_rx(n->be, &caps);
	}
	/* Kicks and buffers that came before are found by looking. */
	n->starved = false;
	if (n->be->ops->rx_resume)
		n->be->ops->rx_resume(n->be);
	tx_service(n);
}

static int start(void *dev, u64 features)
{
	struct virtio_net *n = dev;

	n->features = features;
	loop_call(n->loop, start_on_loop, n);
	return n->start_result;
}

static void stop_on_loop(void *arg)
{
	struct virtio_net *n = arg;

	stop_service(n);
	for (u32 i = 0; i < QUEUES; i++)
		virtio_pci_queue(n->vp, i)->next = n->queue[i].next_avail;
	/* What the back end holds back is dropped now. */
	if (n->starved && n->be->ops->rx_resume)
		n->be->ops->rx_resume(n->be);
	n->starved = false;
}

static void stop(void *dev)
{
	struct virtio_net *n = dev;

	loop_call(n->loop, stop_on_loop, n);
}

static const struct virtio_device_ops device_ops = { start, stop, NULL };

static void be_start_on_loop(void *arg)
{
	struct virtio_net *n = arg;

	n->start_result = n->be->ops->start(n->be);
	n->be_started = !n->start_result;
}

static void be_stop_on_loop(void *arg)
{
	struct virtio_net *n = arg;

	n->be->ops->stop(n->be);
}

static int start_backend(struct virtio_net *n, const struct virtio_net_config *cfg)
{
	int ret = 0;

	if (cfg->loop_thread)
		ret = loop_thread_start(n->loop, "virtio-net");
	if (ret)
		return ret;
	n->be->loop = n->loop;
	n->be->sink = &sink;
	n->be->sink_ctx = n;
	loop_call(n->loop, be_start_on_loop, n);
	return n->start_result;
}

int virtio_net_create(struct pci_host *h, struct gmem *gm, const struct virtio_net_config *cfg,
		      struct net_backend *be, struct virtio_net **out)
{
	struct virtio_net *n = calloc(1, sizeof(*n));
	struct net_config config = { .status = be->link_up, .max_pairs = 1, .mtu = (u16)be->mtu };
	const struct virtio_pci_config vc = {
		.name = cfg->name,
		.device_type = DEVICE_TYPE,
		.class_code = CLASS_ETHERNET,
		.features =
			be->mtu >= 68 && be->mtu <= UINT16_MAX ? FEATURES : FEATURES & ~NET_F_MTU,
		.queues = QUEUES,
		.queue_size = QUEUE_SIZE,
		.config = &config,
		.config_bytes = sizeof(config),
		.ops = &device_ops,
		.dev = n,
	};
	int ret;

	if (!n)
		return -ENOMEM;
	memcpy(config.mac, cfg->mac, sizeof(config.mac));
	n->name = cfg->name;
	n->be = be;
	n->loop = loop_create(NULL);
	ret = n->loop ? virtio_pci_create(h, gm, &vc, &n->vp) : -ENOMEM;
	if (!ret)
		ret = start_backend(n, cfg);
	if (ret) {
		if (n->be_started)
			loop_call(n->loop, be_stop_on_loop, n);
		n->be = NULL;
		virtio_net_destroy(n);
		return ret;
	}
	*out = n;
	return 0;
}

void virtio_net_destroy(struct virtio_net *n)
{
	if (!n)
		return;
	virtio_pci_stop(n->vp);
	if (n->be_started && n->be)
		loop_call(n->loop, be_stop_on_loop, n);
	if (n->loop)
		loop_thread_join(n->loop);
	virtio_pci_destroy(n->vp);
	if (n->be)
		n->be->ops->destroy(n->be);
	loop_destroy(n->loop);
	free(n);
}

struct loop *virtio_net_loop(struct virtio_net *n)
{
	return n->loop;
}
