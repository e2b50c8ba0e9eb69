// SPDX-License-Identifier: MIT
/*
 * Per pin: the redirection entry and the wire. A level pin sends when its wire is
 * high, it is unmasked and remote IRR is clear; remote IRR is set by sending and
 * cleared by the EOI, which sends again while the wire is still high. An edge that
 * comes while the pin is masked is lost, as on the chip.
 */
#include "dev/ioapic.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#define REG_SELECT 0x00
#define REG_WINDOW 0x10
#define REG_EOI	   0x40

#define INDEX_ID      0x00
#define INDEX_VERSION 0x01
#define INDEX_ARB     0x02
#define INDEX_RTE     0x10

#define VERSION_VALUE (0x20u | (IOAPIC_PINS - 1) << 16)

#define RTE_VECTOR	0xFFull
#define RTE_MODE_SHIFT	8
#define RTE_LOGICAL	BIT64(11)
#define RTE_STATUS	BIT64(12)
#define RTE_REMOTE_IRR	BIT64(14)
#define RTE_LEVEL	BIT64(15)
#define RTE_MASKED	BIT64(16)
#define RTE_READ_ONLY	(RTE_STATUS | RTE_REMOTE_IRR)
#define RTE_WRITABLE	(MASK64(63, 49) | MASK64(16, 0))
#define RTE_MODE_EXTINT 7

#define MSI_BASE	0xFEE00000ull
#define MSI_LOGICAL	BIT64(2)
#define MSI_DATA_ASSERT BIT(14)
#define MSI_DATA_LEVEL	BIT(15)

struct ioapic {
	const struct ioapic_ops *ops;
	void *ctx;
	pthread_mutex_t lock; /* guards all below */
	u8 select;
	u8 id;
	u32 wires; /* one bit per pin */
	u64 rte[IOAPIC_PINS];
};

int ioapic_create(const struct ioapic_ops *ops, void *ctx, u8 id, struct ioapic **out)
{
	struct ioapic *io = calloc(1, sizeof(*io));

	if (!io)
		return -ENOMEM;
	io->ops = ops;
	io->ctx = ctx;
	io->id = id;
	for (u32 pin = 0; pin < IOAPIC_PINS; pin++)
		io->rte[pin] = RTE_MASKED;
	pthread_mutex_init(&io->lock, NULL);
	*out = io;
	return 0;
}

void ioapic_destroy(struct ioapic *io)
{
	if (!io)
		return;
	pthread_mutex_destroy(&io->lock);
	free(io);
}

/*
 * Destination bits 7:0 are RTE 63:56; bits 14:8 are RTE 55:49, the extended
 * destination id of virtual machines. An MSI carries what is above bit 7 in the
 * upper half of its address.
 */
static u64 msi_address(u64 rte)
{
	u64 dest = (rte >> 56) | ((rte >> 49) & 0x7F) << 8;

	return MSI_BASE | (dest & 0xFF) << 12 | (dest & ~0xFFull) << 32 |
	       (rte & RTE_LOGICAL ? MSI_LOGICAL : 0);
}

static u32 msi_data(u64 rte)
{
	u32 data = (u32)(rte & (RTE_VECTOR | 7u << RTE_MODE_SHIFT));

	return rte & RTE_LEVEL ? data | MSI_DATA_LEVEL | MSI_DATA_ASSERT : data;
}

/* A pin speaks when it is unmasked, means a local APIC (there is no 8259) and may. */
static bool pin_open(struct ioapic *io, u32 pin)
{
	u64 rte = io->rte[pin];

	if (rte & RTE_MASKED || ((rte >> RTE_MODE_SHIFT) & 7) == RTE_MODE_EXTINT)
		return false;
	return !io->ops->allowed || io->ops->allowed(io->ctx, pin, rte);
}

static void pin_send_locked(struct ioapic *io, u32 pin)
{
	u64 rte = io->rte[pin];

	if (!pin_open(io, pin))
		return;
	if (rte & RTE_LEVEL) {
		if (rte & RTE_REMOTE_IRR)
			return;
		io->rte[pin] |= RTE_REMOTE_IRR;
	}
	io->ops->msi(io->ctx, msi_address(rte), msi_data(rte));
}

static void pin_level_locked(struct ioapic *io, u32 pin)
{
	if (io->rte[pin] & RTE_LEVEL && io->wires & BIT(pin))
		pin_send_locked(io, pin);
}

static void pin_route_locked(struct ioapic *io, u32 pin)
{
	u64 rte = io->rte[pin];
	/* A masked level pin can still owe an EOI for what it sent before. */
	bool live = pin_open(io, pin) || (rte & RTE_LEVEL && rte & RTE_REMOTE_IRR);

	if (!io->ops->route)
		return;
	io->ops->route(io->ctx, pin, live ? msi_address(rte) : 0, live ? msi_data(rte) : 0);
}

static void rte_write_locked(struct ioapic *io, u32 pin, u64 value)
{
	u64 old = io->rte[pin];
	u64 rte = (value & RTE_WRITABLE & ~RTE_READ_ONLY) | (old & RTE_READ_ONLY);

	/* Linux acknowledges by hand on old chips by switching to edge and back. */
	if (!(rte & RTE_LEVEL))
		rte &= ~RTE_REMOTE_IRR;
	io->rte[pin] = rte;
	if (rte != old)
		pin_route_locked(io, pin);
	pin_level_locked(io, pin);
}

static void window_write_locked(struct ioapic *io, u32 value)
{
	u32 pin = (io->select - INDEX_RTE) / 2u;

	if (io->select == INDEX_ID) {
		io->id = value >> 24 & 0xF;
	} else if (io->select >= INDEX_RTE && pin < IOAPIC_PINS) {
		u64 rte = io->rte[pin];

		if (io->select & 1)
			rte = (u32)rte | (u64)value << 32;
		else
			rte = (rte & MASK64(63, 32)) | value;
		rte_write_locked(io, pin, rte);
	}
}

static u32 window_read_locked(struct ioapic *io)
{
	u32 pin = (io->select - INDEX_RTE) / 2u;

	switch (io->select) {
	case INDEX_ID:
	case INDEX_ARB:
		return (u32)io->id << 24;
	case INDEX_VERSION:
		return VERSION_VALUE;
	}
	if (io->select >= INDEX_RTE && pin < IOAPIC_PINS)
		return (u32)(io->select & 1 ? io->rte[pin] >> 32 : io->rte[pin]);
	return 0;
}

static void eoi_locked(struct ioapic *io, u8 vector)
{
	for (u32 pin = 0; pin < IOAPIC_PINS; pin++) {
		u64 rte = io->rte[pin];

		if ((rte & RTE_VECTOR) != vector || !(rte & RTE_LEVEL) || !(rte & RTE_REMOTE_IRR))
			continue;
		io->rte[pin] = rte & ~RTE_REMOTE_IRR;
		pin_level_locked(io, pin);
	}
}

static u64 ioapic_mmio_read(void *dev, u64 offset, u8 size)
{
	struct ioapic *io = dev;
	u64 value = 0;

	pthread_mutex_lock(&io->lock);
	if (offset == REG_SELECT)
		value = io->select;
	else if (offset == REG_WINDOW)
		value = window_read_locked(io);
	pthread_mutex_unlock(&io->lock);
	return value;
}

static void ioapic_mmio_write(void *dev, u64 offset, u8 size, u64 value)
{
	struct ioapic *io = dev;

	pthread_mutex_lock(&io->lock);
	if (offset == REG_SELECT)
		io->select = (u8)value;
	else if (offset == REG_WINDOW)
		window_write_locked(io, (u32)value);
	else if (offset == REG_EOI)
		eoi_locked(io, (u8)value);
	pthread_mutex_unlock(&io->lock);
}

const struct bus_ops ioapic_bus_ops = { ioapic_mmio_read, ioapic_mmio_write };

void ioapic_set(struct ioapic *io, u32 pin, bool level)
{
	bool was;

	assert(pin < IOAPIC_PINS);
	pthread_mutex_lock(&io->lock);
	was = io->wires & BIT(pin);
	io->wires = level ? io->wires | BIT(pin) : io->wires & ~BIT(pin);
	if (level && (io->rte[pin] & RTE_LEVEL || !was))
		pin_send_locked(io, pin);
	pthread_mutex_unlock(&io->lock);
}

void ioapic_eoi(struct ioapic *io, u8 vector)
{
	pthread_mutex_lock(&io->lock);
	eoi_locked(io, vector);
	pthread_mutex_unlock(&io->lock);
}

void ioapic_recheck(struct ioapic *io, u32 pin)
{
	assert(pin < IOAPIC_PINS);
	pthread_mutex_lock(&io->lock);
	pin_route_locked(io, pin);
	pin_level_locked(io, pin);
	pthread_mutex_unlock(&io->lock);
}

u64 ioapic_rte(struct ioapic *io, u32 pin)
{
	u64 rte;

	assert(pin < IOAPIC_PINS);
	pthread_mutex_lock(&io->lock);
	rte = io->rte[pin];
	pthread_mutex_unlock(&io->lock);
	return rte;
}

void ioapic_reset(struct ioapic *io)
{
	pthread_mutex_lock(&io->lock);
	io->select = 0;
	for (u32 pin = 0; pin < IOAPIC_PINS; pin++) {
		io->rte[pin] = RTE_MASKED;
		pin_route_locked(io, pin);
	}
	pthread_mutex_unlock(&io->lock);
}
