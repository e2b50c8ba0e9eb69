// SPDX-License-Identifier: MIT
/* The server owns what it was offered; here are only the handles to talk to it. */
#include "machine/vmbus_devices.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vsp/fcopy.h"
#include "vsp/heartbeat.h"
#include "vsp/hvsock.h"
#include "vsp/kvp.h"
#include "vsp/netvsp.h"
#include "vsp/shutdown.h"
#include "vsp/storvsp.h"
#include "vsp/timesync.h"
#include "vmbus/device.h"
#include "vsp/vss.h"

struct net_card {
	struct netvsp *nv; /* NULL: the place is free */
	struct vmbus_device *device;
	char what[128];
	u8 mac[6];
	bool link_down;
};

struct vmbus_devices {
	struct shutdown_ic *shutdown;
	struct heartbeat *heartbeat;
	struct timesync *timesync;
	struct kvp *kvp;
	struct vss *vss;
	struct fcopy *fcopy;
	struct hvsock *hvsock;
	struct vmbus_server *srv;
	char name[64];
	u32 vp_count;

	pthread_mutex_t lock; /* guards what comes and goes while the guest runs: */
	struct net_card net[VMBUS_NETS_MAX];
	struct storvsp *storage[VMBUS_CONTROLLERS_MAX];
	u64 next_identity; /* of a disk */
};

static int offer_services(struct vmbus_devices *d, struct vmbus_server *srv)
{
	int ret;

	if ((ret = shutdown_offer(srv, &(struct shutdown_config){ 0 }, &d->shutdown)) ||
	    (ret = heartbeat_offer(srv, &(struct heartbeat_config){ 0 }, &d->heartbeat)) ||
	    (ret = timesync_offer(srv, &(struct timesync_config){ 0 }, &d->timesync)) ||
	    (ret = kvp_offer(srv, &d->kvp)) || (ret = vss_offer(srv, &d->vss)))
		return ret;
	return fcopy_offer(srv, &d->fcopy);
}

static void describe_net(const struct net_spec *spec, char *out, size_t size)
{
	switch (spec->kind) {
	case NET_USER:
		snprintf(out, size, "user");
		break;
	case NET_PASST:
		snprintf(out, size, "passt=%s", spec->target);
		break;
	case NET_TAP:
		snprintf(out, size, "tap=%s", spec->target);
		break;
	}
}

static int offer_net(struct vmbus_devices *d, const struct net_spec *spec, u32 i, struct error *err)
{
	struct netvsp_config nc = { .max_channels = (u32)min_u64(d->vp_count, 64), .order = i };
	struct net_card *card = &d->net[i];
	struct net_backend *be;
	char why[256];
	int ret = net_backend_create(spec, &be, why, sizeof(why));

	if (ret)
		return error_set(err, ret, "network %u: %s", i, why);
	netvsp_instance_id(&nc.instance_id, i);
	if (spec->has_mac)
		memcpy(nc.mac, spec->mac, sizeof(nc.mac));
	else
		net_mac_derive(nc.mac, d->name, i);
	ret = netvsp_offer(d->srv, &nc, be, &card->nv, &card->device);
	if (ret) {
		be->ops->destroy(be);
		card->nv = NULL;
		return error_errno(err, ret, "network");
	}
	memcpy(card->mac, nc.mac, sizeof(card->mac));
	card->link_down = false;
	describe_net(spec, card->what, sizeof(card->what));
	return 0;
}

/* The controller the disk names, offered when the first disk asks for it. */
static int controller(struct vmbus_devices *d, u32 n, struct storvsp **out)
{
	/* Linux opens one channel per four processors. */
	struct storvsp_config sc = { .instance_id = storvsp_instance_id(n),
				     .order = n,
				     .max_subchannels = (d->vp_count - 1) / 4 };
	int ret = d->storage[n] ? 0 : storvsp_create(d->srv, &sc, &d->storage[n]);

	*out = d->storage[n];
	return ret;
}

/* Controller and number it got in *@at, as 256 * controller + number. */
static int attach_disk(struct vmbus_devices *d, const struct disk_config *disk, u32 *at,
		       struct error *err)
{
	const struct scsi_lun_config lc = { .serial = disk->spec.serial,
					    .identity = d->next_identity };
	u32 n = disk->spec.controller < 0 ? 0 : (u32)disk->spec.controller;
	struct block_device *dev;
	struct storvsp *sv;
	struct scsi_lun *lun;
	char why[256];
	int number, ret;

	if (n >= VMBUS_CONTROLLERS_MAX)
		return error_set(err, -EINVAL, "%s: controllers are numbered 0 to %u",
				 disk->spec.path, VMBUS_CONTROLLERS_MAX - 1);
	ret = block_open(&disk->spec, &dev, why, sizeof(why));
	if (ret)
		return error_set(err, ret, "%s", why);
	lun = disk->cdrom ? scsi_cdrom_create(dev, &lc) : scsi_disk_create(dev, &lc);
	block_put(dev);
	if (!lun)
		return error_errno(err, -ENOMEM, disk->spec.path);
	ret = controller(d, n, &sv);
	number = ret ? ret : disk->spec.lun < 0 ? storvsp_free_number(sv) : disk->spec.lun;
	if (number >= 0)
		ret = storvsp_attach(sv, (u32)number, lun);
	if (number < 0 || ret) {
		scsi_lun_put(lun);
		return error_errno(err, number < 0 ? number : ret, disk->spec.path);
	}
	d->next_identity++;
	*at = n << 8 | (u32)number;
	return 0;
}

int vmbus_devices_create(struct vmbus_server *srv, const struct vmbus_devices_config *cfg,
			 struct vmbus_devices **out, struct error *err)
{
	struct vmbus_devices *d = calloc(1, sizeof(*d));
	u32 at;
	int ret;

	if (!d)
		return error_errno(err, -ENOMEM, "devices");
	pthread_mutex_init(&d->lock, NULL);
	d->srv = srv;
	d->vp_count = cfg->vp_count;
	snprintf(d->name, sizeof(d->name), "%s", cfg->name);
	ret = offer_services(d, srv);
	if (ret)
		error_errno(err, ret, "integration services");
	for (u32 i = 0; !ret && i < cfg->net_count; i++)
		ret = offer_net(d, &cfg->nets[i], i, err);
	for (u32 i = 0; !ret && i < cfg->disk_count; i++)
		ret = attach_disk(d, &cfg->disks[i], &at, err);
	if (!ret && cfg->vsock_path) {
		const struct hvsock_config hc = { .path = cfg->vsock_path };

		ret = hvsock_create(srv, &hc, &d->hvsock);
		if (ret)
			error_errno(err, ret, cfg->vsock_path);
	}
	if (ret) {
		vmbus_devices_destroy(d);
		return ret;
	}
	*out = d;
	return 0;
}

void vmbus_devices_destroy(struct vmbus_devices *d)
{
	if (!d)
		return;
	hvsock_destroy(d->hvsock);
	pthread_mutex_destroy(&d->lock);
	free(d);
}

int vmbus_devices_shutdown(struct vmbus_devices *d)
{
	return shutdown_request(d->shutdown, SHUTDOWN_POWEROFF, false, 0);
}

enum vmbus_shutdown vmbus_devices_shutdown_state(struct vmbus_devices *d)
{
	switch (shutdown_get(d->shutdown)) {
	case SHUTDOWN_NONE:
		return VMBUS_SHUTDOWN_DEAF;
	case SHUTDOWN_READY:
		break;
	case SHUTDOWN_ASKED:
	case SHUTDOWN_ACCEPTED:
		return VMBUS_SHUTDOWN_UNDER_WAY;
	case SHUTDOWN_REFUSED:
	case SHUTDOWN_TIMEOUT:
		return VMBUS_SHUTDOWN_FAILED;
	}
	return VMBUS_SHUTDOWN_READY;
}

struct kvp *vmbus_devices_kvp(struct vmbus_devices *d)
{
	return d->kvp;
}

struct vss *vmbus_devices_vss(struct vmbus_devices *d)
{
	return d->vss;
}

struct fcopy *vmbus_devices_fcopy(struct vmbus_devices *d)
{
	return d->fcopy;
}

/* Listing */

static void net_info(const struct net_card *card, u32 i, struct vmbus_device_row *row)
{
	*row = (struct vmbus_device_row){ .kind = "network", .link_up = !card->link_down };
	snprintf(row->name, sizeof(row->name), "net%u", i);
	snprintf(row->what, sizeof(row->what), "%s", card->what);
	memcpy(row->mac, card->mac, sizeof(row->mac));
	netvsp_stats(card->nv, &row->net);
}

static void disk_info(struct scsi_lun *lun, u32 n, u32 number, struct vmbus_device_row *row)
{
	struct scsi_lun_info li;

	scsi_lun_describe(lun, &li);
	*row = (struct vmbus_device_row){ .kind = li.cdrom ? "cdrom" : "disk",
					  .bytes = li.bytes,
					  .read_only = li.read_only };
	snprintf(row->name, sizeof(row->name), "%s%u:%u", row->kind, n, number);
	snprintf(row->what, sizeof(row->what), "%s", li.has_medium ? li.path : "empty");
}

static u32 list_disks(struct vmbus_devices *d, u32 n, struct vmbus_device_row *out, u32 max)
{
	u32 count = 0;

	for (u32 i = 0; d->storage[n] && i < SCSI_LUN_MAX && count < max; i++) {
		struct scsi_lun *lun = scsi_bus_get(storvsp_bus(d->storage[n]), i);

		if (!lun)
			continue;
		disk_info(lun, n, i, &out[count++]);
		scsi_lun_put(lun);
	}
	return count;
}

u32 vmbus_devices_list(struct vmbus_devices *d, struct vmbus_device_row *out, u32 max)
{
	u32 n = 0;

	pthread_mutex_lock(&d->lock);
	for (u32 i = 0; i < VMBUS_NETS_MAX && n < max; i++)
		if (d->net[i].nv)
			net_info(&d->net[i], i, &out[n++]);
	for (u32 i = 0; i < VMBUS_CONTROLLERS_MAX; i++)
		n += list_disks(d, i, out + n, max - n);
	pthread_mutex_unlock(&d->lock);
	return n;
}

/* Coming and going */

int vmbus_devices_add_net(struct vmbus_devices *d, const char *text, char *name, size_t name_bytes,
			  struct error *err)
{
	struct net_spec spec;
	char why[256];
	int ret = -ENOSPC;
	u32 i;

	if (net_spec_parse(&spec, text, why, sizeof(why)))
		return error_set(err, -EINVAL, "%s", why);
	pthread_mutex_lock(&d->lock);
	for (i = 0; i < VMBUS_NETS_MAX && d->net[i].nv; i++)
		;
	if (i < VMBUS_NETS_MAX)
		ret = offer_net(d, &spec, i, err);
	else
		error_set(err, ret, "at most %u network cards", VMBUS_NETS_MAX);
	pthread_mutex_unlock(&d->lock);
	if (!ret)
		snprintf(name, name_bytes, "net%u", i);
	return ret;
}

int vmbus_devices_add_disk(struct vmbus_devices *d, const char *text, bool cdrom, char *name,
			   size_t name_bytes, struct error *err)
{
	struct disk_config disk = { .cdrom = cdrom };
	char why[256];
	u32 at = 0;
	int ret = 0;

	if (block_spec_parse(text, &disk.spec, why, sizeof(why)))
		ret = error_set(err, -EINVAL, "%s", why);
	if (!ret) {
		pthread_mutex_lock(&d->lock);
		ret = attach_disk(d, &disk, &at, err);
		pthread_mutex_unlock(&d->lock);
	}
	block_spec_fini(&disk.spec);
	if (!ret)
		snprintf(name, name_bytes, "%s%u:%u", cdrom ? "cdrom" : "disk", at >> 8, at & 0xFF);
	return ret;
}

static int remove_net(struct vmbus_devices *d, u32 i)
{
	if (i >= VMBUS_NETS_MAX || !d->net[i].nv)
		return -ENOENT;
	vmbus_revoke(d->net[i].device);
	d->net[i].nv = NULL;
	return 0;
}

static int remove_disk(struct vmbus_devices *d, const char *kind, u32 n, u32 number)
{
	struct vmbus_device_row row;
	struct scsi_lun *lun = NULL;

	if (n < VMBUS_CONTROLLERS_MAX && number < SCSI_LUN_MAX && d->storage[n])
		lun = scsi_bus_get(storvsp_bus(d->storage[n]), number);
	if (!lun)
		return -ENOENT;
	disk_info(lun, n, number, &row);
	scsi_lun_put(lun);
	return strcmp(row.kind, kind) ? -ENOENT : storvsp_detach(d->storage[n], number);
}

int vmbus_devices_remove(struct vmbus_devices *d, const char *name, struct error *err)
{
	int ret = -ENOENT, end = 0;
	u32 n, number;

	pthread_mutex_lock(&d->lock);
	if (sscanf(name, "net%u%n", &n, &end) == 1 && !name[end])
		ret = remove_net(d, n);
	else if (sscanf(name, "disk%u:%u%n", &n, &number, &end) == 2 && !name[end])
		ret = remove_disk(d, "disk", n, number);
	else if (sscanf(name, "cdrom%u:%u%n", &n, &number, &end) == 2 && !name[end])
		ret = remove_disk(d, "cdrom", n, number);
	pthread_mutex_unlock(&d->lock);
	return ret == -ENOENT ? error_set(err, ret, "there is no device %s", name)
	       : ret	      ? error_errno(err, ret, name)
			      : 0;
}

int vmbus_devices_set_link(struct vmbus_devices *d, u32 i, bool up, struct error *err)
{
	int ret = -ENOENT;

	pthread_mutex_lock(&d->lock);
	if (i < VMBUS_NETS_MAX && d->net[i].nv) {
		netvsp_set_link(d->net[i].nv, up);
		d->net[i].link_down = !up;
		ret = 0;
	}
	pthread_mutex_unlock(&d->lock);
	return ret ? error_set(err, ret, "there is no network card %u", i) : 0;
}
