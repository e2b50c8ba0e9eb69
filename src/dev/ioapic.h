/* SPDX-License-Identifier: MIT */
/*
 * An 82093AA IO-APIC, version 0x20, 24 pins, for machines whose local APICs live
 * in the engine: an interrupt leaves here as an MSI, an end-of-interrupt comes
 * back by vector.
 *
 * Lock order: a device's lock, then the IO-APIC's. The ops below are called with
 * the IO-APIC's lock held, so that messages leave in the order of the register
 * state; they must be leaves that take no device lock.
 */
#ifndef NESTOR_DEV_IOAPIC_H
#define NESTOR_DEV_IOAPIC_H

#include "dev/bus.h"

#define IOAPIC_PINS	 24
#define IOAPIC_MMIO_SIZE 0x100

struct ioapic_ops {
	/* An interrupt message: fixed-format MSI address and data. */
	void (*msi)(void *ctx, u64 address, u32 data);
	/* What @pin raises from now on, so that the engine reports its EOIs; data 0: nothing. */
	void (*route)(void *ctx, u32 pin, u64 address, u32 data);
	/* May be NULL. False keeps a pin silent although its entry is unmasked. */
	bool (*allowed)(void *ctx, u32 pin, u64 rte);
};

struct ioapic;

/* 0 or -ENOMEM. @ops outlives the device. @id is what the MADT says. */
int ioapic_create(const struct ioapic_ops *ops, void *ctx, u8 id, struct ioapic **out);
void ioapic_destroy(struct ioapic *io);

/* For a bus range of IOAPIC_MMIO_SIZE bytes with the ioapic as device. */
extern const struct bus_ops ioapic_bus_ops;

/* The wire into @pin. Edge pins fire on false to true; level pins until acknowledged. */
void ioapic_set(struct ioapic *io, u32 pin, bool level);
/* A local APIC acknowledged @vector (also by broadcast). */
void ioapic_eoi(struct ioapic *io, u8 vector);
/* What ops.allowed answers has changed for @pin: look again. */
void ioapic_recheck(struct ioapic *io, u32 pin);
/* The redirection entry as the guest reads it. */
u64 ioapic_rte(struct ioapic *io, u32 pin);
/* Power-on state: all pins masked; the wires stay as they are. */
void ioapic_reset(struct ioapic *io);

#endif
