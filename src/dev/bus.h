/* SPDX-License-Identifier: MIT */
/*
 * An address space of device registers: ports, or guest physical addresses that
 * are not memory. One row per range. Lookups take no lock: the rows are an
 * immutable array behind an atomic pointer, a change publishes a new one. Each
 * device has a lock of its own.
 *
 * What nobody claims reads as all ones and is counted per address, so that the
 * operator can see what a guest looks for.
 */
#ifndef NESTOR_DEV_BUS_H
#define NESTOR_DEV_BUS_H

#include "base/types.h"

/* @offset is from the start of the range; @size is 1, 2, 4 or 8 and stays inside the range. */
struct bus_ops {
	u64 (*read)(void *dev, u64 offset, u8 size);
	void (*write)(void *dev, u64 offset, u8 size, u64 value);
};

struct bus_range {
	u64 base;
	u64 bytes;
	const struct bus_ops *ops;
	void *dev;
	const char *name; /* not copied */
};

/* An address nobody claims, and how often the guest touched it. */
struct bus_unclaimed {
	u64 addr;
	u64 reads, writes;
};

struct bus;

/* 0 or -ENOMEM. */
int bus_create(struct bus **out);
/* The devices are not the bus's: their owner destroys them after the bus. */
void bus_destroy(struct bus *bus);

/* -EINVAL: empty or wraps; -EEXIST: overlaps another range; -ENOMEM. Any thread. */
int bus_add(struct bus *bus, const struct bus_range *range);
/* Removes the range that starts at @base. A call into its device may still be under way. */
int bus_remove(struct bus *bus, u64 base);

/* @size 1, 2, 4 or 8. An access that leaves its range is nobody's: all ones, or dropped. */
u64 bus_read(struct bus *bus, u64 addr, u8 size);
void bus_write(struct bus *bus, u64 addr, u8 size, u64 value);

/* One port instruction: @count elements of @size bytes at @data, all at @port. */
void bus_io(struct bus *bus, u16 port, u8 size, bool write, u32 count, void *data);
/* One memory access of 1 to 8 bytes; an odd size is done byte by byte. */
void bus_mmio(struct bus *bus, u64 gpa, u8 size, bool write, u8 *data);

/* Copies up to @max rows of unclaimed addresses and returns how many there are. */
u32 bus_unclaimed(struct bus *bus, struct bus_unclaimed *out, u32 max);
/* All unclaimed accesses, also those for which the table had no room. */
u64 bus_unclaimed_total(struct bus *bus);

#endif
