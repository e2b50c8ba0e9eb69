/* SPDX-License-Identifier: MIT */
/*
 * The device's side of a split virtqueue, for devices whose work is done in this
 * process. One thread at a time. Everything in the rings is the guest's: an index or
 * a chain that cannot be makes the queue broken, and it says so from then on.
 */
#ifndef NESTOR_DEV_VIRTQUEUE_H
#define NESTOR_DEV_VIRTQUEUE_H

#include <sys/uio.h>

#include "dev/virtio_pci.h"

#define VIRTQUEUE_IOV_MAX 256u

struct virtqueue {
	struct gmem *gm;
	const void *desc;
	u16 *avail, *used;
	u16 size;
	u16 next_avail; /* the next entry to take */
	u16 next_used;	/* the next entry to give back; published up to used_told */
	u16 used_told, used_signalled;
	bool event_idx, indirect;
	bool broken;
};

/* A request: first what the device reads, then what it writes. Pointers into guest memory. */
struct virtqueue_chain {
	u16 head;
	u32 readable, count; /* elements of iov */
	u32 read_bytes, write_bytes;
	struct iovec iov[VIRTQUEUE_IOV_MAX];
};

/* @q is mapped (the device starts), @features negotiated. */
void virtqueue_init(struct virtqueue *vq, const struct virtio_queue *q, struct gmem *gm,
		    u64 features);
/* How many requests wait. 0 if broken. */
u16 virtqueue_waiting(struct virtqueue *vq);
/* Takes the next request: 1; 0: there is none; -EPROTO: broken. */
int virtqueue_pop(struct virtqueue *vq, struct virtqueue_chain *c);
/* Gives back the last @n requests that were taken; nothing was pushed for them. */
void virtqueue_unpop(struct virtqueue *vq, u16 n);
/* The request is done; @bytes were written. Seen by the driver after virtqueue_publish(). */
void virtqueue_push(struct virtqueue *vq, u16 head, u32 bytes);
/* Forgets the last @n pushes that are not published. */
void virtqueue_unpush(struct virtqueue *vq, u16 n);
/* True: the driver wants an interrupt. */
bool virtqueue_publish(struct virtqueue *vq);
/* Asks for a kick when more than @seen requests wait; true: they do already. */
bool virtqueue_listen(struct virtqueue *vq, u16 seen);

#endif
