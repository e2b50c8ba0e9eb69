/* SPDX-License-Identifier: MIT */
/* A virtio disk whose data path is another process, by vhost-user. */
#ifndef NESTOR_DEV_VIRTIO_BLK_H
#define NESTOR_DEV_VIRTIO_BLK_H

#include "backend/vhost_user.h"
#include "dev/virtio_pci.h"

struct virtio_blk_config {
	const char *name; /* not copied */
	u32 queues;
	/* The guest's RAM, as the other process will map it; not copied. */
	const struct vhost_user_region *regions;
	u32 region_count;
};

struct virtio_blk;

/* @vu stays the caller's and outlives the disk. -errno. */
int virtio_blk_create(struct pci_host *h, struct gmem *gm, const struct virtio_blk_config *cfg,
		      struct vhost_user *vu, struct virtio_blk **out);
/* Before the host. NULL is fine. */
void virtio_blk_destroy(struct virtio_blk *b);

#endif
