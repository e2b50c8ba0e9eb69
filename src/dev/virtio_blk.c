// SPDX-License-Identifier: MIT
/* Registers here, requests there: this file only introduces the two to each other. */
#include "dev/virtio_blk.h"

#include <errno.h>
#include <stdlib.h>

/* Virtual I/O Device (VIRTIO) Version 1.2, section 5.2. What needs no help of ours. */
#define BLK_F_SIZE_MAX	   BIT64(1)
#define BLK_F_SEG_MAX	   BIT64(2)
#define BLK_F_RO	   BIT64(5)
#define BLK_F_BLK_SIZE	   BIT64(6)
#define BLK_F_FLUSH	   BIT64(9)
#define BLK_F_TOPOLOGY	   BIT64(10)
#define BLK_F_MQ	   BIT64(12)
#define BLK_F_DISCARD	   BIT64(13)
#define BLK_F_WRITE_ZEROES BIT64(14)
#define FEATURES                                                                                   \
	(BLK_F_SIZE_MAX | BLK_F_SEG_MAX | BLK_F_RO | BLK_F_BLK_SIZE | BLK_F_FLUSH |                \
	 BLK_F_TOPOLOGY | BLK_F_MQ | BLK_F_DISCARD | BLK_F_WRITE_ZEROES | VIRTIO_F_VERSION_1 |     \
	 VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC)

#define DEVICE_TYPE   2
#define CLASS_STORAGE 0x018000
#define QUEUE_SIZE    128
#define CONFIG_BYTES  60
#define CONFIG_QUEUES 34 /* u16: num_queues */

struct virtio_blk {
	struct virtio_blk_config cfg;
	struct virtio_pci *vp;
	struct vhost_user *vu;
};

/* The enabled queues; their number. */
static u32 collect(struct virtio_blk *b, struct vhost_user_ring rings[VIRTIO_QUEUES_MAX])
{
	u32 count = 0;

	for (u32 i = 0; i < b->cfg.queues; i++) {
		const struct virtio_queue *q = virtio_pci_queue(b->vp, i);

		if (!q->enabled)
			continue;
		rings[count++] = (struct vhost_user_ring){
			.index = i,
			.size = q->size,
			.next = q->next,
			.desc = q->desc,
			.driver = q->driver,
			.device = q->device,
			.kick = q->kick_fd,
			.call = virtio_pci_vector_fd(b->vp, i),
		};
	}
	return count;
}

static int start(void *dev, u64 features)
{
	struct virtio_blk *b = dev;
	struct vhost_user_ring rings[VIRTIO_QUEUES_MAX];
	u32 count = collect(b, rings);

	return vhost_user_start(b->vu, features, b->cfg.regions, b->cfg.region_count, rings, count);
}

static void stop(void *dev)
{
	struct virtio_blk *b = dev;
	struct vhost_user_ring rings[VIRTIO_QUEUES_MAX];
	u32 count = collect(b, rings);

	/* If that fails the other process is gone or will be: whoever watches it says so. */
	if (vhost_user_stop(b->vu, rings, count) < 0)
		return;
	for (u32 i = 0; i < count; i++)
		virtio_pci_queue(b->vp, rings[i].index)->next = rings[i].next;
}

static void vector(void *dev, u32 queue)
{
	struct virtio_blk *b = dev;

	if (vhost_user_set_call(b->vu, queue, virtio_pci_vector_fd(b->vp, queue)) < 0)
		virtio_pci_fail(b->vp, "its server does not answer");
}

static const struct virtio_device_ops device_ops = { start, stop, vector };

int virtio_blk_create(struct pci_host *h, struct gmem *gm, const struct virtio_blk_config *cfg,
		      struct vhost_user *vu, struct virtio_blk **out)
{
	struct virtio_blk *b = calloc(1, sizeof(*b));
	u8 config[CONFIG_BYTES] = { 0 };
	struct virtio_pci_config vc = {
		.name = cfg->name,
		.device_type = DEVICE_TYPE,
		.class_code = CLASS_STORAGE,
		.features = FEATURES & vhost_user_features(vu),
		.queue_size = QUEUE_SIZE,
		.config = config,
		.config_bytes = sizeof(config),
		.ops = &device_ops,
		.dev = b,
	};
	int ret;

	if (!b)
		return -ENOMEM;
	b->cfg = *cfg;
	b->vu = vu;
	b->cfg.queues =
		(u32)min_u64(cfg->queues, min_u64(vhost_user_queues(vu), VIRTIO_QUEUES_MAX));
	vc.queues = b->cfg.queues;
	ret = b->cfg.queues ? vhost_user_config(vu, config, sizeof(config)) : -EPROTO;
	config[CONFIG_QUEUES] = (u8)b->cfg.queues;
	config[CONFIG_QUEUES + 1] = 0;
	if (!ret)
		ret = virtio_pci_create(h, gm, &vc, &b->vp);
	if (ret) {
		free(b);
		return ret;
	}
	*out = b;
	return 0;
}

void virtio_blk_destroy(struct virtio_blk *b)
{
	if (!b)
		return;
	virtio_pci_destroy(b->vp);
	free(b);
}
