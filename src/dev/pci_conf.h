/* SPDX-License-Identifier: MIT */
/*
 * PCI configuration mechanism 1 (ports 0xCF8, 0xCFC) of a machine without a PCI
 * bus: it finds a host bridge and nothing else. A kernel that finds no mechanism
 * at all complains on the console of every boot; without a root bridge in ACPI
 * it looks no further than this.
 */
#ifndef NESTOR_DEV_PCI_CONF_H
#define NESTOR_DEV_PCI_CONF_H

#include "dev/bus.h"

struct pci_conf;

/* @reset, with @reset_dev, gets the byte at 0xCF9, which is not PCI's: see dev/pm.h. */
int pci_conf_create(const struct bus_ops *reset, void *reset_dev, struct pci_conf **out);
void pci_conf_destroy(struct pci_conf *pc);
/* Claims 0xCF8 to 0xCFF. -errno of bus_add(). */
int pci_conf_attach(struct pci_conf *pc, struct bus *ports);

#endif
