/* SPDX-License-Identifier: MIT */
/* The virtio devices of a machine without VMBus: disks by vhost-user, network cards in process. */
#ifndef NESTOR_MACHINE_PCI_DEVICES_H
#define NESTOR_MACHINE_PCI_DEVICES_H

#include "dev/pci.h"
#include "machine/error.h"
#include "machine/ram.h"
#include "machine/vmbus_devices.h"

struct pci_devices_config {
	const char *name; /* of the machine: MAC addresses are derived from it */
	u32 vp_count;
	const struct net_spec *nets;
	u32 net_count;
	const struct disk_config *disks;
	u32 disk_count;
	/* A disk has lost its server: one line that says which and why. Any thread. */
	void (*failed)(void *ctx, const char *text);
	void *ctx;
};

struct pci_devices;

/* @ram is what disks' servers get to see of @gm. -errno with @err filled. */
int pci_devices_create(struct pci_host *h, struct gmem *gm, const struct ram *ram,
		       const struct pci_devices_config *cfg, struct pci_devices **out,
		       struct error *err);
/* Waits until the disks are written out. Before the host. NULL is fine. */
void pci_devices_destroy(struct pci_devices *d);

#endif
