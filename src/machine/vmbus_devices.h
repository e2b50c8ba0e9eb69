/* SPDX-License-Identifier: MIT */
/* The devices of a machine's VMBus: integration services always, the rest as configured. */
#ifndef NESTOR_MACHINE_VMBUS_DEVICES_H
#define NESTOR_MACHINE_VMBUS_DEVICES_H

#include "backend/block.h"
#include "backend/net.h"
#include "machine/error.h"
#include "vmbus/server.h"
#include "vsp/netvsp.h"

#define VMBUS_NETS_MAX	      8u
#define VMBUS_DISKS_MAX	      64u
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

/* How far that has got. Any thread. */
enum vmbus_shutdown {
	VMBUS_SHUTDOWN_DEAF, /* nobody there to ask */
	VMBUS_SHUTDOWN_READY,
	VMBUS_SHUTDOWN_UNDER_WAY,
	VMBUS_SHUTDOWN_FAILED, /* refused, or no answer */
};
enum vmbus_shutdown vmbus_devices_shutdown_state(struct vmbus_devices *d);

/* The services, for requests of the operator. As long as the devices. */
struct kvp *vmbus_devices_kvp(struct vmbus_devices *d);
struct vss *vmbus_devices_vss(struct vmbus_devices *d);
struct fcopy *vmbus_devices_fcopy(struct vmbus_devices *d);

/* What an operator added, at start or later. Functions below: any thread. */
struct vmbus_device_row {
	char name[24];	  /* net0, disk0:1 (controller, number), cdrom0:2 */
	const char *kind; /* "network", "disk", "cdrom" */
	char what[256];	  /* the back end */
	/* Of a card. */
	u8 mac[6];
	bool link_up;
	struct netvsp_stats net;
	/* Of the others. */
	bool read_only;
	u64 bytes;
};
#define VMBUS_DEVICE_ROWS_MAX (VMBUS_NETS_MAX + VMBUS_CONTROLLERS_MAX * 64u)
/* Fills up to @max; returns how many were filled. */
u32 vmbus_devices_list(struct vmbus_devices *d, struct vmbus_device_row *out, u32 max);
/* As after --net, --disk and --cdrom. 0 with the name it got, or -errno with @err filled. */
int vmbus_devices_add_net(struct vmbus_devices *d, const char *text, char *name, size_t name_bytes,
			  struct error *err);
int vmbus_devices_add_disk(struct vmbus_devices *d, const char *text, bool cdrom, char *name,
			   size_t name_bytes, struct error *err);
/* Takes it away from the running guest. -ENOENT: there is none of that name. */
int vmbus_devices_remove(struct vmbus_devices *d, const char *name, struct error *err);
/* Pulls or plugs the cable of card netI. */
int vmbus_devices_set_link(struct vmbus_devices *d, u32 i, bool up, struct error *err);

#endif
