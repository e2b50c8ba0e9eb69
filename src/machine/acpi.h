/* SPDX-License-Identifier: MIT */
/*
 * The ACPI tables: hardware-reduced ACPI 6, so that no kernel looks for a PIT, an
 * 8259, an i8042 or a PM timer. RSDP at LAYOUT_TABLES, the rest behind it.
 */
#ifndef NESTOR_MACHINE_ACPI_H
#define NESTOR_MACHINE_ACPI_H

#include "mem/gmem.h"

struct acpi_config {
	u32 vp_count;
	const u32 *apic_ids; /* of vp_count; NULL: 0, 1, 2, ... */
	bool vmbus;	     /* the VMBus device exists */
	bool pci;	     /* a PCI root bridge and MCFG exist */
};

/*
 * Writes the tables and gives the RSDP's address. -ENOSPC: too many VPs for the
 * room below 1 MiB (some 3500); -EFAULT: no memory there.
 */
int acpi_write(struct gmem *gm, const struct acpi_config *cfg, u64 *rsdp_gpa);

#endif
