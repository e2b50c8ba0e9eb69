/* SPDX-License-Identifier: MIT */
/*
 * A virtio network card over backend/net.h: one pair of queues, checksums and large
 * TCP frames in both directions, merged receive buffers. It has a loop of its own, on
 * which everything but creation happens.
 */
#ifndef NESTOR_DEV_VIRTIO_NET_H
#define NESTOR_DEV_VIRTIO_NET_H

#include "backend/net.h"
#include "dev/virtio_pci.h"

struct virtio_net_config {
	const char *name; /* not copied */
	u8 mac[6];
	bool loop_thread; /* else the creator runs the loop itself: tests */
};

struct virtio_net;

/* @be becomes the card's if it succeeds. -errno. */
int virtio_net_create(struct pci_host *h, struct gmem *gm, const struct virtio_net_config *cfg,
		      struct net_backend *be, struct virtio_net **out);
/* Before the host. NULL is fine. */
void virtio_net_destroy(struct virtio_net *n);

struct loop *virtio_net_loop(struct virtio_net *n);

#endif
