/* SPDX-License-Identifier: MIT */
/*
 * The PCI transport of virtio 1.x ("modern" only): registers, features, the life of
 * a device, queues. What the device is lies behind struct virtio_device_ops.
 *
 * A device RUNS while the driver has said DRIVER_OK, no failure needs a reset, and
 * PCI bus mastering is on. start and stop are called in turns, from whatever thread
 * the driver's write came on, with the transport's lock held: they do not call back
 * into functions marked [not in ops].
 */
#ifndef NESTOR_DEV_VIRTIO_PCI_H
#define NESTOR_DEV_VIRTIO_PCI_H

#include "dev/pci.h"
#include "mem/gmem.h"

#define VIRTIO_QUEUES_MAX     64u
#define VIRTIO_QUEUE_SIZE_MAX 1024u
#define VIRTIO_CONFIG_BYTES   256u
#define VIRTIO_NO_VECTOR      0xFFFFu

/* Virtual I/O Device (VIRTIO) Version 1.2, section 6 and 2.1. */
#define VIRTIO_F_INDIRECT_DESC BIT64(28)
#define VIRTIO_F_EVENT_IDX     BIT64(29)
#define VIRTIO_F_VERSION_1     BIT64(32)

enum virtio_status {
	VIRTIO_ACKNOWLEDGE = 1,
	VIRTIO_DRIVER = 2,
	VIRTIO_DRIVER_OK = 4,
	VIRTIO_FEATURES_OK = 8,
	VIRTIO_NEEDS_RESET = 0x40,
	VIRTIO_FAILED = 0x80,
};

/* A queue as the driver has set it up. Fixed while the device runs, but for the vector. */
struct virtio_queue {
	u16 size;
	u16 vector; /* atomic; VIRTIO_NO_VECTOR: no interrupts */
	bool enabled;
	u64 desc_gpa, driver_gpa, device_gpa;
	u16 next;    /* the device's: where it goes on after a stop; 0 after a reset */
	int kick_fd; /* eventfd: there is something new */
	/* While the device runs: the three parts, in guest RAM. */
	void *desc, *driver, *device;
};

struct virtio_device_ops {
	/* @features: what was negotiated. -errno: the device needs a reset. */
	int (*start)(void *dev, u64 features);
	/* Nothing touches the queues when it returns. */
	void (*stop)(void *dev);
	/* May be NULL. The vector of a queue of the running device is another. */
	void (*vector)(void *dev, u32 queue);
};

struct virtio_pci_config {
	const char *name; /* not copied */
	u16 device_type;  /* 1 net, 2 block */
	u32 class_code;
	u64 features;
	u32 queues;
	u16 queue_size; /* power of two: offered, and the most */
	const void *config;
	u32 config_bytes;
	const struct virtio_device_ops *ops;
	void *dev;
};

struct virtio_pci;

/* -errno of pci_function_create(). The device's queues stay empty until it starts. */
int virtio_pci_create(struct pci_host *h, struct gmem *gm, const struct virtio_pci_config *cfg,
		      struct virtio_pci **out);
/* Stops the device for good. No VP runs any more. NULL is fine, here and below. */
void virtio_pci_stop(struct virtio_pci *vp);
/* Before the host. */
void virtio_pci_destroy(struct virtio_pci *vp);

struct virtio_queue *virtio_pci_queue(struct virtio_pci *vp, u32 queue);
struct gmem *virtio_pci_gmem(struct virtio_pci *vp);
struct pci_function *virtio_pci_function(struct virtio_pci *vp);

/* [any thread] */
/* The eventfd a queue's interrupts go to; -1: the driver wants none. */
int virtio_pci_vector_fd(struct virtio_pci *vp, u32 queue);
void virtio_pci_raise(struct virtio_pci *vp, u32 queue);
/* Device configuration bytes change; the driver is told. */
void virtio_pci_config_set(struct virtio_pci *vp, u32 offset, const void *bytes, u32 count);
/* The driver broke the rules, or the device is broken: it does nothing until it is reset. */
void virtio_pci_fail(struct virtio_pci *vp, const char *why);

#endif
