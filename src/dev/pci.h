/* SPDX-License-Identifier: MIT */
/*
 * A PCI bus: a host bridge at 00:00.0 and functions of type 0 beside it, reached by
 * configuration mechanism 1 (ports 0xCF8, 0xCFC) and by ECAM. A function has 32-bit
 * memory BARs inside one window, capabilities, MSI-X, and doorbells: places in a
 * BAR whose writes signal an eventfd. There is no INTx.
 *
 * INTERRUPTS. Each MSI-X vector is an eventfd that whoever does the function's work
 * signals. It is joined to the engine (irqfd) while the guest lets the vector speak:
 * MSI-X enabled, nothing masked, bus mastering on, and msi_allowed() true for what
 * the table entry says. Otherwise the eventfd keeps the signal, which is what the
 * pending bit shows, and it is delivered once the vector may speak again.
 *
 * LOCKS. The host's lock guards the configuration space and tables of all functions.
 * msi_allowed() is called with it and must be a leaf; function ops are called without.
 */
#ifndef NESTOR_DEV_PCI_H
#define NESTOR_DEV_PCI_H

#include "dev/bus.h"
#include "engine/engine.h"

#define PCI_FUNCTIONS_MAX  32u /* devices of the bus, the bridge among them */
#define PCI_BARS	   6u
#define PCI_VECTORS_MAX	   64u
#define PCI_MSIX_BAR_BYTES 4096u /* table, and from the middle on the pending bits */
#define PCI_BAR_BYTES_MAX  (1u << 20)

struct pci_host;
struct pci_function;

struct pci_host_config {
	const struct bus_ops *reset; /* gets the byte at port 0xCF9, which is not PCI's: dev/pm.h */
	void *reset_dev;
	/* The rest is for buses with functions. */
	struct engine_vm *vm;
	u64 ecam_gpa, ecam_bytes;
	u64 window_gpa, window_bytes; /* where BARs are decoded; 4 GiB is its end at the latest */
	/* May be NULL: all are. Function @rid (bus, device, function) sends this. */
	bool (*msi_allowed)(void *ctx, u16 rid, u64 address, u32 data);
	void *ctx;
};

/* 0 or -ENOMEM. */
int pci_host_create(const struct pci_host_config *cfg, struct pci_host **out);
/* With the functions; after the buses, and before the engine's VM and the functions' devices. */
void pci_host_destroy(struct pci_host *h);
/* Ports 0xCF8 to 0xCFF; with @mmio also ECAM and the window. -errno of bus_add(). */
int pci_host_attach(struct pci_host *h, struct bus *ports, struct bus *mmio);
/* What msi_allowed() says may have changed. Any thread. */
void pci_host_recheck(struct pci_host *h);

struct pci_function_ops {
	/* As struct bus_ops; not for the MSI-X BAR. */
	u64 (*bar_read)(void *dev, u32 bar, u64 offset, u8 size);
	void (*bar_write)(void *dev, u32 bar, u64 offset, u8 size, u64 value);
	/* May be NULL. Bus mastering has changed: see pci_bus_master(). */
	void (*command)(void *dev);
	/* May be NULL. These see every access at the hooked offset (pci_config_hook). */
	u64 (*config_read)(void *dev, u8 size);
	void (*config_write)(void *dev, u8 size, u64 value);
};

struct pci_function_config {
	const char *name; /* for messages; not copied */
	u16 vendor, device, subsystem_vendor, subsystem;
	u32 class_code; /* class, subclass, interface */
	u8 revision;
	u32 bar_bytes[PCI_BARS]; /* powers of two from 16 to PCI_BAR_BYTES_MAX; 0: no such BAR */
	u32 vectors;		 /* 0: no MSI-X */
	u8 msix_bar;		 /* its bar_bytes is PCI_MSIX_BAR_BYTES */
	const struct pci_function_ops *ops;
	void *dev;
};

/*
 * Takes the next free device number and addresses for its BARs, as firmware would.
 * -ENOMEM, -EMFILE; -ENOSPC: the bus or the window is full. The host owns it.
 * Nothing runs yet, also for the two that follow.
 */
int pci_function_create(struct pci_host *h, const struct pci_function_config *cfg,
			struct pci_function **out);
/* @cap: id, a byte for the link, the rest, @bytes in all. Its offset; 0: no room. */
u8 pci_capability_add(struct pci_function *f, const void *cap, u8 bytes);
/* A write of @size bytes there signals @fd; a failure to arrange that costs speed only. -ENOMEM */
int pci_doorbell_add(struct pci_function *f, u32 bar, u32 offset, u8 size, int fd);
/* Four bytes of configuration space that the ops answer for. */
void pci_config_hook(struct pci_function *f, u8 offset);
/* The engine forgets its doorbells and vectors: before their eventfds are closed. No VP runs. */
void pci_function_disconnect(struct pci_function *f);
/* Configuration bytes the guest may change at will (inside a capability). */
void pci_config_writable(struct pci_function *f, u8 offset, u8 bytes);

/* [any thread] */
u16 pci_rid(const struct pci_function *f);
bool pci_bus_master(struct pci_function *f);
u32 pci_config_get(struct pci_function *f, u8 offset); /* aligned */
/* The eventfd of a vector, which stays the function's; -1: there is no such vector. */
int pci_vector_fd(struct pci_function *f, u32 vector);
void pci_vector_raise(struct pci_function *f, u32 vector);
/* Forgets what is pending: the device was reset. */
void pci_vectors_clear(struct pci_function *f);
/* Vectors that have something to say, are not masked, and are not allowed. */
u32 pci_vectors_refused(struct pci_function *f);

#endif
