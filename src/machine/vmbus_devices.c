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
