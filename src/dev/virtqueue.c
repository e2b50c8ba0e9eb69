// SPDX-License-Identifier: MIT
/* Virtual I/O Device (VIRTIO) Version 1.2, section 2.7. */
#include "dev/virtqueue.h"

#include <errno.h>
#include <string.h>

#define DESC_NEXT     1u
#define DESC_WRITE    2u
#define DESC_INDIRECT 4u
#define AVAIL_QUIET   1u /* the driver wants no interrupts */

struct desc {
	u64 gpa;
	u32 bytes;
	u16 flags, next;
};
static_assert(sizeof(struct desc) == 16, "virtio size");

/* Words of the driver's area: flags, index, ring, used_event; of the device's: flags, index, ring.
 */
static u16 *avail_index(const struct virtqueue *vq)
{
	return vq->avail + 1;
}

static u16 *used_event(const struct virtqueue *vq)
{
	return vq->avail + 2 + vq->size;
}

static u16 *used_index(const struct virtqueue *vq)
{
	return vq->used + 1;
}

static u16 *avail_event(const struct virtqueue *vq)
{
	return vq->used + 2 + 4 * vq->size;
}

static u16 load(const u16 *p)
{
	return __atomic_load_n(p, __ATOMIC_RELAXED);
}

void virtqueue_init(struct virtqueue *vq, const struct virtio_queue *q, struct gmem *gm,
		    u64 features)
{
	*vq = (struct virtqueue){
		.gm = gm,
		.desc = q->desc,
		.avail = q->driver,
		.used = q->device,
		.size = q->size,
		.next_avail = q->next,
		.event_idx = features & VIRTIO_F_EVENT_IDX,
		.indirect = features & VIRTIO_F_INDIRECT_DESC,
	};
	/* Requests come back in order, so both indices are one at a stop. */
	vq->next_used = vq->used_told = vq->used_signalled = load(used_index(vq));
}

u16 virtqueue_waiting(struct virtqueue *vq)
{
	/* Pairs with the driver's barrier between the entries and the index. */
	u16 n = (u16)(__atomic_load_n(avail_index(vq), __ATOMIC_ACQUIRE) - vq->next_avail);

	if (n > vq->size)
		vq->broken = true;
	return vq->broken ? 0 : n;
}

static int broken(struct virtqueue *vq)
{
	vq->broken = true;
	return -EPROTO;
}

static int chain_add(struct virtqueue *vq, struct virtqueue_chain *c, const struct desc *d)
{
	bool write = d->flags & DESC_WRITE;
	u32 *bytes = write ? &c->write_bytes : &c->read_bytes;
	void *at = gmem_ptr(vq->gm, d->gpa, d->bytes);

	if (c->count == VIRTQUEUE_IOV_MAX || !at || d->bytes > UINT32_MAX - *bytes ||
	    (!write && c->write_bytes))
		return -EPROTO;
	if (!d->bytes)
		return 0;
	*bytes += d->bytes;
	c->iov[c->count++] = (struct iovec){ at, d->bytes };
	c->readable += !write;
	return 0;
}

/* Follows a chain through a table of @count descriptors, which the guest may change meanwhile. */
static int chain_walk(struct virtqueue *vq, struct virtqueue_chain *c, const u8 *table, u32 count,
		      u32 at, bool indirect)
{
	struct desc d;

	for (u32 steps = 0; steps < count; steps++) {
		if (at >= count)
			return -EPROTO;
		memcpy(&d, table + at * sizeof(d), sizeof(d));
		if (d.flags & DESC_INDIRECT) {
			const u8 *inner = gmem_ptr(vq->gm, d.gpa, d.bytes);

			if (indirect || !vq->indirect || d.flags & DESC_NEXT || !inner ||
			    !d.bytes || d.bytes % sizeof(d))
				return -EPROTO;
			return chain_walk(vq, c, inner, d.bytes / (u32)sizeof(d), 0, true);
		}
		if (chain_add(vq, c, &d) < 0)
			return -EPROTO;
		if (!(d.flags & DESC_NEXT))
			return 0;
		at = d.next;
	}
	return -EPROTO; /* a ring of descriptors */
}

int virtqueue_pop(struct virtqueue *vq, struct virtqueue_chain *c)
{
	if (!virtqueue_waiting(vq))
		return vq->broken ? -EPROTO : 0;
	c->readable = c->count = c->read_bytes = c->write_bytes = 0;
	c->head = load(vq->avail + 2 + (vq->next_avail & (vq->size - 1)));
	if (chain_walk(vq, c, vq->desc, vq->size, c->head, false) < 0)
		return broken(vq);
	vq->next_avail++;
	return 1;
}

void virtqueue_unpop(struct virtqueue *vq, u16 n)
{
	vq->next_avail -= n;
}

void virtqueue_push(struct virtqueue *vq, u16 head, u32 bytes)
{
	const u32 element[2] = { head, bytes };

	memcpy(vq->used + 2 + 4 * (vq->next_used & (vq->size - 1)), element, sizeof(element));
	vq->next_used++;
}

void virtqueue_unpush(struct virtqueue *vq, u16 n)
{
	vq->next_used -= n;
}

bool virtqueue_publish(struct virtqueue *vq)
{
	u16 old = vq->used_signalled, new = vq->next_used;

	if (vq->used_told == new)
		return false;
	__atomic_store_n(used_index(vq), new, __ATOMIC_RELEASE);
	vq->used_told = new;
	/* The driver writes what it wants, then looks at the index; we the other way round. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	vq->used_signalled = new;
	if (vq->event_idx)
		return (u16)(new - load(used_event(vq)) - 1) < (u16)(new - old);
	return !(load(vq->avail) & AVAIL_QUIET);
}

bool virtqueue_listen(struct virtqueue *vq, u16 seen)
{
	if (vq->event_idx)
		__atomic_store_n(avail_event(vq), (u16)(vq->next_avail + seen), __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return virtqueue_waiting(vq) > seen;
}
