/* SPDX-License-Identifier: MIT */
/*
 * Where everything is: guest physical addresses, ports, IO-APIC pins. One place,
 * so that the tables (ACPI, e820) and the devices cannot disagree. The ports of
 * a device stand in its own header (dev/).
 *
 *   0 .. 640 KiB             RAM; boot structures below 128 KiB
 *   640 KiB .. 1 MiB         tables at E0000, reset stub at FFFF0, reserved in e820
 *   1 MiB .. 3 GiB           RAM
 *   3 GiB .. 4 GiB           hole: PCI, VMBus MMIO, hypervisor pages, APICs
 *   4 GiB ..                 RAM
 */
#ifndef NESTOR_MACHINE_LAYOUT_H
#define NESTOR_MACHINE_LAYOUT_H

#include "base/types.h"

#define LAYOUT_RAM_MIN	(64 * MIB)
#define LAYOUT_RAM_MAX	(960 * GIB) /* with the hole it ends below 2^40, the least a CPU has */
#define LAYOUT_LOW_END	(3 * GIB)   /* RAM below 4 GiB ends here at the latest */
#define LAYOUT_HIGH_GPA (4 * GIB)

/* Below 1 MiB. The boot structures are only needed until the kernel has its own. */
#define LAYOUT_BDA_EBDA	   0x40Eull  /* u16: segment of the EBDA */
#define LAYOUT_BDA_LOW_KIB 0x413ull  /* u16: KiB of low memory */
#define LAYOUT_STACK	   0x6000ull /* grows down */
#define LAYOUT_GDT	   0x6000ull
#define LAYOUT_BOOT_PARAMS 0x7000ull /* the "zero page" */
#define LAYOUT_PAGE_TABLES 0x8000ull /* PML4, PDPT, 4 PD: the first 4 GiB */
#define LAYOUT_SETUP_DATA  0xE000ull
#define LAYOUT_CMDLINE	   0x10000ull
#define LAYOUT_CMDLINE_MAX 0x10000ull
#define LAYOUT_EBDA	   0x9FC00ull
#define LAYOUT_VGA	   0xA0000ull
#define LAYOUT_TABLES	   0xE0000ull /* RSDP first, then what it leads to */
#define LAYOUT_RESET_STUB  0xFFFF0ull /* 16 bytes: where "reboot=bios" jumps to */
#define LAYOUT_HIGH_MEM	   0x100000ull

/* The hole. */
#define LAYOUT_PCI_GPA	    0xC0000000ull /* BARs */
#define LAYOUT_PCI_BYTES    0x20000000ull
#define LAYOUT_ECAM_GPA	    0xE0000000ull
#define LAYOUT_PCI_BUSES    1u /* Linux makes 64 port accesses for each */
#define LAYOUT_ECAM_BYTES   (LAYOUT_PCI_BUSES * 0x100000ull)
#define LAYOUT_VMBUS_GPA    0xF8000000ull /* MMIO space VMBus may hand out */
#define LAYOUT_VMBUS_BYTES  0x04000000ull
#define LAYOUT_HV_GPA	    0xFC000000ull /* pages hypervisors choose; L1, then L0 */
#define LAYOUT_HV_BYTES	    0x01000000ull /* per hypervisor: 4096 pages */
#define LAYOUT_HV_OUTER_GPA (LAYOUT_HV_GPA + LAYOUT_HV_BYTES)
#define LAYOUT_IOAPIC_GPA   0xFEC00000ull
#define LAYOUT_LAPIC_GPA    0xFEE00000ull

#define LAYOUT_COM1_PORT 0x3F8

#define LAYOUT_COM1_PIN	 4
#define LAYOUT_EVENT_PIN 9 /* ACPI event device: power button */

#define LAYOUT_IOAPIC_ID 0

#endif
