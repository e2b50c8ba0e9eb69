// SPDX-License-Identifier: MIT
/* The server owns what it was offered; here are only the handles to talk to it. */
#include "machine/vmbus_devices.h"

#include <errno.h>
#include <stdlib.h>

#include "vsp/fcopy.h"
#include "vsp/heartbeat.h"
#include "vsp/hvsock.h"
#include "vsp/kvp.h"
#include "vsp/netvsp.h"
#include "vsp/shutdown.h"
#include "vsp/storvsp.h"
#include "vsp/timesync.h"
#include "vsp/vss.h"

struct vmbus_devices {
	struct shutdown_ic *shutdown;
	struct heartbeat *heartbeat;
	struct timesync *timesync;
	struct kvp *kvp;
	struct vss *vss;
	struct fcopy *fcopy;
	struct netvsp *net[VMBUS_NETS_MAX];
	u32 net_count;
	struct storvsp *storage[VMBUS_CONTROLLERS_MAX];
	struct hvsock *hvsock;
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

static int offer_net(struct vmbus_devices *d, struct vmbus_server *srv,
		     const struct vmbus_devices_config *cfg, u32 i, struct error *err)
{
	struct netvsp_config nc = { .max_channels = min_u64(cfg->vp_count, 64), .order = i };
	struct net_backend *be;
	char why[256];
	int ret = net_backend_create(&cfg->nets[i], &be, why, sizeof(why));

	if (ret)
		return error_set(err, ret, "network %u: %s", i, why);
	netvsp_instance_id(&nc.instance_id, i);
	if (cfg->nets[i].has_mac)
		__builtin_memcpy(nc.mac, cfg->nets[i].mac, sizeof(nc.mac));
	else
		net_mac_derive(nc.mac, cfg->name, i);
	ret = netvsp_offer(srv, &nc, be, &d->net[i], NULL);
	if (ret) {
		be->ops->destroy(be);
		return error_errno(err, ret, "network");
	}
	d->net_count++;
	return 0;
}

/* The controller the disk names, offered when the first disk asks for it. */
static int controller(struct vmbus_devices *d, struct vmbus_server *srv, u32 vp_count, u32 n,
		      struct storvsp **out)
{
	/* Linux opens one channel per four processors. */
	struct storvsp_config sc = { .instance_id = storvsp_instance_id(n), .order = n,
				     .max_subchannels = (vp_count - 1) / 4 };
	int ret = d->storage[n] ? 0 : storvsp_create(srv, &sc, &d->storage[n]);

	*out = d->storage[n];
	return ret;
}

static int attach_disk(struct vmbus_devices *d, struct vmbus_server *srv,
		       const struct vmbus_devices_config *cfg, u32 i, struct error *err)
{
	const struct disk_config *disk = &cfg->disks[i];
	const struct scsi_lun_config lc = { .serial = disk->spec.serial, .identity = i };
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
	ret = controller(d, srv, cfg->vp_count, n, &sv);
	number = ret ? ret : disk->spec.lun < 0 ? storvsp_free_number(sv) : disk->spec.lun;
	if (number >= 0)
		ret = storvsp_attach(sv, (u32)number, lun);
	if (number < 0 || ret) {
		scsi_lun_put(lun);
		return error_errno(err, number < 0 ? number : ret, disk->spec.path);
	}
	return 0;
}

int vmbus_devices_create(struct vmbus_server *srv, const struct vmbus_devices_config *cfg,
			 struct vmbus_devices **out, struct error *err)
{
	struct vmbus_devices *d = calloc(1, sizeof(*d));
	int ret;

	if (!d)
		return error_errno(err, -ENOMEM, "devices");
	ret = offer_services(d, srv);
	if (ret)
		error_errno(err, ret, "integration services");
	for (u32 i = 0; !ret && i < cfg->net_count; i++)
		ret = offer_net(d, srv, cfg, i, err);
	for (u32 i = 0; !ret && i < cfg->disk_count; i++)
		ret = attach_disk(d, srv, cfg, i, err);
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
	free(d);
}

int vmbus_devices_shutdown(struct vmbus_devices *d)
{
	return shutdown_request(d->shutdown, SHUTDOWN_POWEROFF, false, 0);
}
