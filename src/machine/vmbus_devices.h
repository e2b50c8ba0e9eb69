/* SPDX-License-Identifier: MIT */
/* The devices of a machine's VMBus: integration services always, the rest as configured. */
#ifndef NESTOR_MACHINE_VMBUS_DEVICES_H
#define NESTOR_MACHINE_VMBUS_DEVICES_H

#include "backend/block.h"
#include "backend/net.h"
#include "machine/error.h"
#include "vmbus/server.h"

#define VMBUS_NETS_MAX	       8u
#define VMBUS_DISKS_MAX	       64u
#define VMBUS_CONTROLLERS_MAX 4u

/* A disk, or a DVD drive with a disc in it. */
struct disk_config {
	struct block_spec spec;
	bool cdrom;
};

struct vmbus_devices_config {
	const char *name; /* of the machine: MAC addresses are derived from it */
	u32 vp_count;
	const struct net_spec *nets;
	u32 net_count;
	const struct disk_config *disks;
	u32 disk_count;
	const char *vsock_path; /* NULL: no hv_sock */
};

struct vmbus_devices;

/* -errno with @err filled. */
int vmbus_devices_create(struct vmbus_server *srv, const struct vmbus_devices_config *cfg,
			 struct vmbus_devices **out, struct error *err);
/* Before the server is destroyed. NULL is fine. */
void vmbus_devices_destroy(struct vmbus_devices *d);

/* Asks the guest to power off. 0; -ENOTCONN: no driver is there to ask. Any thread. */
int vmbus_devices_shutdown(struct vmbus_devices *d);

#endif
