// SPDX-License-Identifier: MIT
/* Rows are sorted by base, so a lookup is a binary search in one cache line or two. */
#include "dev/bus.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define UNCLAIMED_ROWS 64

struct bus_map {
	struct bus_map *next_old;
	u32 count;
	struct bus_range range[];
};

/* addr_plus_one is 0 while the row is free; it is claimed once, by compare-and-swap. */
struct unclaimed_row {
	u64 addr_plus_one;
	u64 reads, writes;
};

struct bus {
	struct bus_map *map;  /* atomic */
	struct bus_map *old;  /* retired, freed with the bus: a reader may still walk them */
	pthread_mutex_t lock; /* serializes writers of map and old */
	u64 unclaimed_total;
	struct unclaimed_row unclaimed[UNCLAIMED_ROWS];
};

static struct bus_map *map_alloc(u32 count)
{
	struct bus_map *m = calloc(1, sizeof(*m) + count * sizeof(m->range[0]));

	if (m)
		m->count = count;
	return m;
}

int bus_create(struct bus **out)
{
	struct bus *bus = calloc(1, sizeof(*bus));

	if (!bus)
		return -ENOMEM;
	bus->map = map_alloc(0);
	if (!bus->map) {
		free(bus);
		return -ENOMEM;
	}
	pthread_mutex_init(&bus->lock, NULL);
	*out = bus;
	return 0;
}

void bus_destroy(struct bus *bus)
{
	struct bus_map *m, *next;

	if (!bus)
		return;
	for (m = bus->old; m; m = next) {
		next = m->next_old;
		free(m);
	}
	free(bus->map);
	pthread_mutex_destroy(&bus->lock);
	free(bus);
}

static void map_publish_locked(struct bus *bus, struct bus_map *next)
{
	struct bus_map *prev = bus->map;

	__atomic_store_n(&bus->map, next, __ATOMIC_RELEASE);
	prev->next_old = bus->old;
	bus->old = prev;
}

static int bus_add_locked(struct bus *bus, const struct bus_range *range)
{
	struct bus_map *cur = bus->map, *next;
	u32 at = 0;

	for (u32 i = 0; i < cur->count; i++) {
		const struct bus_range *r = &cur->range[i];

		if (range->base <= r->base + (r->bytes - 1) &&
		    r->base <= range->base + (range->bytes - 1))
			return -EEXIST;
		if (r->base < range->base)
			at = i + 1;
	}
	next = map_alloc(cur->count + 1);
	if (!next)
		return -ENOMEM;
	memcpy(next->range, cur->range, at * sizeof(cur->range[0]));
	next->range[at] = *range;
	memcpy(&next->range[at + 1], &cur->range[at], (cur->count - at) * sizeof(cur->range[0]));
	map_publish_locked(bus, next);
	return 0;
}

int bus_add(struct bus *bus, const struct bus_range *range)
{
	int ret;

	if (range->bytes == 0 || range->base + (range->bytes - 1) < range->base || !range->ops)
		return -EINVAL;
	pthread_mutex_lock(&bus->lock);
	ret = bus_add_locked(bus, range);
	pthread_mutex_unlock(&bus->lock);
	return ret;
}

static int bus_remove_locked(struct bus *bus, u64 base)
{
	struct bus_map *cur = bus->map, *next;
	u32 at = 0;

	while (at < cur->count && cur->range[at].base != base)
		at++;
	if (at == cur->count)
		return -ENOENT;
	next = map_alloc(cur->count - 1);
	if (!next)
		return -ENOMEM;
	memcpy(next->range, cur->range, at * sizeof(cur->range[0]));
	memcpy(&next->range[at], &cur->range[at + 1], (next->count - at) * sizeof(cur->range[0]));
	map_publish_locked(bus, next);
	return 0;
}

int bus_remove(struct bus *bus, u64 base)
{
	int ret;

	pthread_mutex_lock(&bus->lock);
	ret = bus_remove_locked(bus, base);
	pthread_mutex_unlock(&bus->lock);
	return ret;
}

/* The range that holds all of [addr, addr + size), or NULL. */
static const struct bus_range *bus_find(struct bus *bus, u64 addr, u8 size)
{
	const struct bus_map *m = __atomic_load_n(&bus->map, __ATOMIC_ACQUIRE);
	u32 lo = 0, hi = m->count;

	while (lo < hi) {
		u32 mid = (lo + hi) / 2;
		const struct bus_range *r = &m->range[mid];
		u64 off = addr - r->base;

		if (addr < r->base)
			hi = mid;
		else if (off >= r->bytes)
			lo = mid + 1;
		else
			return size <= r->bytes - off ? r : NULL;
	}
	return NULL;
}

static struct unclaimed_row *unclaimed_row(struct bus *bus, u64 addr)
{
	for (u32 i = 0; i < UNCLAIMED_ROWS; i++) {
		struct unclaimed_row *row = &bus->unclaimed[i];
		u64 seen = __atomic_load_n(&row->addr_plus_one, __ATOMIC_RELAXED);

		if (seen == 0 &&
		    __atomic_compare_exchange_n(&row->addr_plus_one, &seen, addr + 1, false,
						__ATOMIC_RELAXED, __ATOMIC_RELAXED))
			return row;
		if (seen == addr + 1)
			return row;
	}
	return NULL;
}

static void unclaimed_count(struct bus *bus, u64 addr, bool write)
{
	struct unclaimed_row *row = unclaimed_row(bus, addr);

	__atomic_fetch_add(&bus->unclaimed_total, 1, __ATOMIC_RELAXED);
	if (row)
		__atomic_fetch_add(write ? &row->writes : &row->reads, 1, __ATOMIC_RELAXED);
}

static u64 size_mask(u8 size)
{
	return size >= 8 ? ~0ull : BIT64(size * 8) - 1;
}

u64 bus_read(struct bus *bus, u64 addr, u8 size)
{
	const struct bus_range *r = bus_find(bus, addr, size);

	if (!r) {
		unclaimed_count(bus, addr, false);
		return size_mask(size);
	}
	return r->ops->read(r->dev, addr - r->base, size) & size_mask(size);
}

void bus_write(struct bus *bus, u64 addr, u8 size, u64 value)
{
	const struct bus_range *r = bus_find(bus, addr, size);

	if (!r) {
		unclaimed_count(bus, addr, true);
		return;
	}
	r->ops->write(r->dev, addr - r->base, size, value & size_mask(size));
}

static void bus_access(struct bus *bus, u64 addr, u8 size, bool write, u8 *data)
{
	u64 value = 0;

	if (write) {
		memcpy(&value, data, size);
		bus_write(bus, addr, size, value);
	} else {
		value = bus_read(bus, addr, size);
		memcpy(data, &value, size);
	}
}

void bus_io(struct bus *bus, u16 port, u8 size, bool write, u32 count, void *data)
{
	u8 *p = data;

	for (; count; count--, p += size)
		bus_access(bus, port, size, write, p);
}

void bus_mmio(struct bus *bus, u64 gpa, u8 size, bool write, u8 *data)
{
	if (size == 1 || size == 2 || size == 4 || size == 8) {
		bus_access(bus, gpa, size, write, data);
		return;
	}
	for (u8 i = 0; i < size; i++)
		bus_access(bus, gpa + i, 1, write, data + i);
}

u32 bus_unclaimed(struct bus *bus, struct bus_unclaimed *out, u32 max)
{
	u32 n = 0;

	for (u32 i = 0; i < UNCLAIMED_ROWS; i++) {
		struct unclaimed_row *row = &bus->unclaimed[i];
		u64 addr_plus_one = __atomic_load_n(&row->addr_plus_one, __ATOMIC_RELAXED);

		if (!addr_plus_one)
			break;
		if (n < max)
			out[n] = (struct bus_unclaimed){
				.addr = addr_plus_one - 1,
				.reads = __atomic_load_n(&row->reads, __ATOMIC_RELAXED),
				.writes = __atomic_load_n(&row->writes, __ATOMIC_RELAXED),
			};
		n++;
	}
	return n;
}

u64 bus_unclaimed_total(struct bus *bus)
{
	return __atomic_load_n(&bus->unclaimed_total, __ATOMIC_RELAXED);
}
