// SPDX-License-Identifier: MIT
/* Composition of devices and what they stand on; one loop watches the disks' servers. */
#include "machine/pci_devices.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/vhost_blk.h"
#include "dev/virtio_blk.h"
#include "dev/virtio_net.h"
#include "machine/layout.h"

#define DISK_QUEUES_MAX 8u
#define NAME_BYTES	16

struct disk {
	struct pci_devices *owner;
	const char *path;
	char name[NAME_BYTES];
	struct vhost_user *vu;
	struct helper *daemon;
	struct virtio_blk *blk;
	struct loop_fd watch;
};

struct pci_devices {
	struct pci_devices_config cfg;
	struct loop *loop;
	struct vhost_user_region region[2];
	u32 regions;
	struct disk *disk[PCI_FUNCTIONS_MAX];
	u32 disks;
	struct virtio_net *net[VMBUS_NETS_MAX];
	char net_name[VMBUS_NETS_MAX][NAME_BYTES];
	u32 nets;
};

static void disk_hung_up(struct loop_fd *lf, u32 events)
{
	struct disk *k = container_of(lf, struct disk, watch);
	char why[256], text[512];

	loop_fd_del(lf);
	helper_last_words(k->daemon, why, sizeof(why));
	snprintf(text, sizeof(text), "disk %s lost its server: %s", k->path,
		 why[0] ? why : "it closed the connection");
	k->owner->cfg.failed(k->owner->cfg.ctx, text);
}

static void disk_destroy(struct disk *k)
{
	if (!k)
		return;
	virtio_blk_destroy(k->blk);
	vhost_user_destroy(k->vu);
	helper_stop(k->daemon);
	free(k);
}

static int disk_connect(struct pci_devices *d, struct pci_host *h, struct gmem *gm, struct disk *k)
{
	const struct virtio_blk_config bc = {
		.name = k->name,
		.queues = (u32)min_u64(d->cfg.vp_count, DISK_QUEUES_MAX),
		.regions = d->region,
		.region_count = d->regions,
	};
	int ret = virtio_blk_create(h, gm, &bc, k->vu, &k->blk);

	if (ret)
		return ret;
	return loop_fd_add(d->loop, &k->watch, vhost_user_fd(k->vu), EPOLLRDHUP, disk_hung_up);
}

static int create_disk(struct pci_devices *d, struct pci_host *h, struct gmem *gm, u32 i,
		       struct error *err)
{
	const struct disk_config *cfg = &d->cfg.disks[i];
	struct disk *k;
	char why[512];
	int ret;

	if (cfg->cdrom)
		return error_set(err, -EINVAL,
				 "%s: there is no DVD drive without VMBus; use --disk FILE,ro",
				 cfg->spec.path);
	if (d->disks == PCI_FUNCTIONS_MAX)
		return error_set(err, -ENOSPC, "%s: the PCI bus is full", cfg->spec.path);
	k = calloc(1, sizeof(*k));
	if (!k)
		return error_errno(err, -ENOMEM, cfg->spec.path);
	k->owner = d;
	k->path = cfg->spec.path;
	snprintf(k->name, sizeof(k->name), "disk %u", i);
	ret = vhost_blk_open(&cfg->spec, (u32)min_u64(d->cfg.vp_count, DISK_QUEUES_MAX), &k->vu,
			     &k->daemon, why, sizeof(why));
	if (ret) {
		free(k);
		return error_set(err, ret, "%s", why);
	}
	ret = disk_connect(d, h, gm, k);
	if (ret) {
		disk_destroy(k);
		return error_errno(err, ret, cfg->spec.path);
	}
	d->disk[d->disks++] = k;
	return 0;
}

static int create_net(struct pci_devices *d, struct pci_host *h, struct gmem *gm, u32 i,
		      struct error *err)
{
	const struct net_spec *spec = &d->cfg.nets[i];
	struct virtio_net_config nc = { .name = d->net_name[i], .loop_thread = true };
	struct net_backend *be;
	char why[256];
	int ret = net_backend_create(spec, &be, why, sizeof(why));

	if (ret)
		return error_set(err, ret, "network %u: %s", i, why);
	snprintf(d->net_name[i], NAME_BYTES, "network %u", i);
	if (spec->has_mac)
		memcpy(nc.mac, spec->mac, sizeof(nc.mac));
	else
		net_mac_derive(nc.mac, d->cfg.name, i);
	ret = virtio_net_create(h, gm, &nc, be, &d->net[i]);
	if (ret) {
		be->ops->destroy(be);
		return error_errno(err, ret, d->net_name[i]);
	}
	d->nets++;
	return 0;
}

static void regions_init(struct pci_devices *d, const struct ram *ram)
{
	d->region[d->regions++] = (struct vhost_user_region){ 0, ram->low_bytes, ram->backing.hva,
							      ram->backing.fd, 0 };
	if (ram->high_bytes)
		d->region[d->regions++] =
			(struct vhost_user_region){ LAYOUT_HIGH_GPA, ram->high_bytes,
						    ram->backing.hva + ram->low_bytes,
						    ram->backing.fd, ram->low_bytes };
}

int pci_devices_create(struct pci_host *h, struct gmem *gm, const struct ram *ram,
		       const struct pci_devices_config *cfg, struct pci_devices **out,
		       struct error *err)
{
	struct pci_devices *d = calloc(1, sizeof(*d));
	int ret = 0;

	if (!d)
		return error_errno(err, -ENOMEM, "devices");
	d->cfg = *cfg;
	regions_init(d, ram);
	d->loop = loop_create(NULL);
	if (!d->loop)
		ret = error_errno(err, -ENOMEM, "devices");
	for (u32 i = 0; !ret && i < cfg->disk_count; i++)
		ret = create_disk(d, h, gm, i, err);
	for (u32 i = 0; !ret && i < cfg->net_count; i++)
		ret = create_net(d, h, gm, i, err);
	if (!ret && d->disks) {
		ret = loop_thread_start(d->loop, "disk-watch");
		if (ret)
			error_errno(err, ret, "devices");
	}
	if (ret) {
		pci_devices_destroy(d);
		return ret;
	}
	*out = d;
	return 0;
}

void pci_devices_destroy(struct pci_devices *d)
{
	if (!d)
		return;
	if (d->loop)
		loop_thread_join(d->loop); /* what ends from here on is meant to */
	for (u32 i = 0; i < d->nets; i++)
		virtio_net_destroy(d->net[i]);
	for (u32 i = 0; i < d->disks; i++) {
		loop_fd_del(&d->disk[i]->watch);
		disk_destroy(d->disk[i]);
	}
	loop_destroy(d->loop);
	free(d);
}
