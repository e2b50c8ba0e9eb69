// SPDX-License-Identifier: MIT
/*
 * The window: one reserved range of our address space, host address of a GPA =
 * window + GPA. Pages with memory are shared mappings of the parent's RAM file in
 * it, all else is inaccessible. Replacing a mapping takes the old page away from the
 * guest at once: the engine follows our page tables.
 */
#include "core/gpa_map.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/log.h"
#include "core/child.h"
#include "core/gpa_map_internal.h"

#define MAP_COUNT_FILE "/proc/sys/vm/max_map_count"
#define MAP_COUNT_MAX  BIT(24)

/* A mapping per run of pages, and a parent's memory is scattered: the usual limit is low. */
static bool raise_map_count(void)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	FILE *f;
	u32 count = 0;
	bool done = false;

	pthread_mutex_lock(&lock);
	f = fopen(MAP_COUNT_FILE, "r+");
	if (f && fscanf(f, "%u", &count) == 1 && count < MAP_COUNT_MAX / 4) {
		rewind(f);
		done = fprintf(f, "%u\n", count * 4) > 0 && fflush(f) == 0;
	}
	if (f)
		fclose(f);
	pthread_mutex_unlock(&lock);
	if (done)
		log_warning("vm.max_map_count is %u now: a child's memory has many pieces",
			    count * 4);
	return done;
}

static int window_map(struct gpa_map *map, u64 gpn, u64 pages, int prot, int fd, u64 offset)
{
	int flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE : MAP_SHARED;

	do {
		if (mmap(map->window + (gpn << PAGE_SHIFT), pages << PAGE_SHIFT, prot,
			 flags | MAP_FIXED, fd, (off_t)offset) != MAP_FAILED)
			return 0;
	} while (errno == ENOMEM && raise_map_count());
	log_limited(LOG_ERROR,
		    "memory of partition %llu cannot be mapped (errno %d): raise the sysctl "
		    "vm.max_map_count",
		    (unsigned long long)map->p->id, errno);
	return -ENOMEM;
}

int gpa_window_none(struct gpa_map *map, u64 gpn, u64 pages)
{
	int ret = window_map(map, gpn, pages, PROT_NONE, -1, 0);

	if (ret)
		gpa_map_break_locked(map);
	return ret;
}

int gpa_window_file(struct gpa_map *map, u64 gpn, u64 pages, int fd, u64 offset, bool writable)
{
	int ret = window_map(map, gpn, pages, PROT_READ | (writable ? PROT_WRITE : 0), fd, offset);

	/* What a failed attempt left there must not become somebody else's memory. */
	if (ret)
		gpa_window_none(map, gpn, pages);
	return ret;
}

void gpa_map_changed_locked(struct gpa_map *map)
{
	u32 attention = (map->table.missing ? GPA_ATTENTION_MISSING : 0) |
			(map->reshape ? GPA_ATTENTION_RESHAPE : 0) |
			(map->broken ? GPA_ATTENTION_BROKEN : 0);

	__atomic_store_n(&map->attention, attention, __ATOMIC_RELEASE);
}

/* The child's memory as the rest of the core sees it. */

static u8 *overlay_at(struct gpa_map *map, u64 gpn)
{
	for (u32 i = 0; i < GPA_OVERLAYS_MAX; i++)
		if (map->overlays.used[i] && map->overlays.gpn[i] == gpn)
			return map->overlays.hva + (u64)i * PAGE_BYTES;
	return NULL;
}

static u8 *page_at(struct gpa_map *map, u64 gpn, bool write)
{
	u64 entry = gpn < map->limit ? gpa_table_get(&map->table, gpn) : 0;

	if (entry & GPA_ENTRY_OVERLAY)
		return overlay_at(map, gpn);
	if (!gpa_entry_present(entry) || (write && gpa_entry_state(entry) != GPA_STATE_WRITABLE))
		return NULL;
	return gmem_ptr(map->parent->gmem, entry & GPA_ENTRY_SOURCE, PAGE_BYTES);
}

/* Others do the same at the same time: they share the lock. */
static void page_written(struct gpa_map *map, u64 gpn)
{
	struct gpa_leaf *leaf = gpa_table_leaf(&map->table, gpn);

	if (map->tracking && leaf)
		__atomic_fetch_or(&leaf->entry[gpn % GPA_LEAF_PAGES], GPA_ENTRY_DIRTY,
				  __ATOMIC_RELAXED);
}

static int access_page(struct gpa_map *map, u64 gpa, u8 *buf, u64 len, enum gmem_op op)
{
	u8 *at = page_at(map, gpa >> PAGE_SHIFT, op != GMEM_READ);

	if (!at)
		return -EFAULT;
	at += gpa % PAGE_BYTES;
	if (op == GMEM_READ)
		memcpy(buf, at, len);
	else if (op == GMEM_WRITE)
		memcpy(at, buf, len);
	else if (op == GMEM_OR)
		__atomic_fetch_or((u32 *)(void *)at, *(const u32 *)(void *)buf, __ATOMIC_RELAXED);
	else
		memset(at, 0, len);
	if (op != GMEM_READ)
		page_written(map, gpa >> PAGE_SHIFT);
	return 0;
}

static bool accessible(struct gpa_map *map, u64 gpa, u64 len, bool write)
{
	u64 bytes = map->limit << PAGE_SHIFT;

	if (gpa >= bytes || len > bytes - gpa)
		return false;
	for (u64 gpn = gpa >> PAGE_SHIFT; gpn << PAGE_SHIFT < gpa + len; gpn++)
		if (!page_at(map, gpn, write))
			return false;
	return true;
}

/* The lock is held while bytes move: who takes a page away waits for it. */
static int view_access(void *ctx, u64 gpa, void *buf, u64 len, enum gmem_op op)
{
	struct gpa_map *map = ctx;
	u8 *bytes = buf;
	int ret = 0;

	pthread_rwlock_rdlock(&map->lock);
	if (!accessible(map, gpa, len, op != GMEM_READ))
		ret = -EFAULT;
	for (u64 n; len && !ret; gpa += n, len -= n) {
		n = min_u64(len, PAGE_BYTES - gpa % PAGE_BYTES);
		ret = access_page(map, gpa, bytes, n, op);
		if (bytes)
			bytes += n;
	}
	pthread_rwlock_unlock(&map->lock);
	return ret;
}

static void *view_ptr(void *ctx, u64 gpa, u64 len)
{
	struct gpa_map *map = ctx;
	u8 *at = NULL;

	if (len > PAGE_BYTES - gpa % PAGE_BYTES)
		return NULL;
	pthread_rwlock_rdlock(&map->lock);
	at = page_at(map, gpa >> PAGE_SHIFT, false);
	pthread_rwlock_unlock(&map->lock);
	return at ? at + gpa % PAGE_BYTES : NULL;
}

static const struct gmem_view map_view = { view_access, view_ptr };

/* Life. */

static int overlays_create(struct gpa_overlays *o)
{
	u64 bytes = (u64)GPA_OVERLAYS_MAX * PAGE_BYTES;

	for (u32 i = 0; i < GPA_OVERLAYS_MAX; i++)
		o->gpn[i] = ~0ull;
	o->hva = MAP_FAILED;
	o->fd = memfd_create("nestor-overlays", MFD_CLOEXEC);
	if (o->fd >= 0 && ftruncate(o->fd, (off_t)bytes) == 0)
		o->hva = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
			      o->fd, 0);
	return o->hva == MAP_FAILED ? -ENOMEM : 0;
}

static void overlays_destroy(struct gpa_overlays *o)
{
	if (o->hva != MAP_FAILED)
		munmap(o->hva, (u64)GPA_OVERLAYS_MAX * PAGE_BYTES);
	if (o->fd >= 0)
		close(o->fd);
}

/* A GiB more than needed: the window begins where host and guest huge pages fall together. */
static int window_create(struct gpa_map *map)
{
	u64 bytes = map->limit << PAGE_SHIFT;

	map->reserved_bytes = bytes + GIB;
	map->reserved = mmap(NULL, map->reserved_bytes, PROT_NONE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (map->reserved == MAP_FAILED)
		return -ENOMEM;
	map->window = (u8 *)align_up((u64)(uintptr_t)map->reserved, GIB);
	return 0;
}

int gpa_map_create(struct partition *p, struct gpa_map **out)
{
	u32 bits = (u32)min_u64(p->config.physical_bits, GPA_BITS_MAX);
	struct gpa_map *map = calloc(1, sizeof(*map));
	pthread_rwlockattr_t attr;
	int ret = -ENOMEM;

	if (!map)
		return -ENOMEM;
	map->p = p;
	map->parent = p->child->parent;
	map->limit = BIT64(bits) >> PAGE_SHIFT;
	/* A child that reads without end must not keep its parent from changing the map. */
	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&map->lock, &attr);
	pthread_rwlockattr_destroy(&attr);
	ret = overlays_create(&map->overlays);
	if (ret)
		goto destroy_overlays;
	ret = gmem_share_init(map->parent->gmem);
	if (!ret)
		ret = window_create(map);
	if (ret)
		goto destroy_overlays;
	ret = gmem_init_view(&map->gmem, &map_view, map);
	if (ret)
		goto unmap_window;
	p->gmem = &map->gmem;
	*out = map;
	return 0;
unmap_window:
	munmap(map->reserved, map->reserved_bytes);
destroy_overlays:
	overlays_destroy(&map->overlays);
	pthread_rwlock_destroy(&map->lock);
	free(map);
	return ret;
}

void gpa_map_clear(struct gpa_map *map)
{
	u64 gpn = 0;

	pthread_rwlock_wrlock(&map->lock);
	/* As if broken: the slots go, and with them the child's way to its memory. */
	gpa_map_break_locked(map);
	window_map(map, 0, map->limit, PROT_NONE, -1, 0);
	for (; gpa_table_next(&map->table, &gpn); gpn += GPA_LEAF_PAGES)
		gpa_map_leaf_free_locked(map, gpn);
	for (u32 i = 0; i < ARRAY_SIZE(map->table.gib); i++)
		free(map->table.gib[i]);
	memset(&map->table, 0, sizeof(map->table));
	map->reshape = false;
	map->cleared = true;
	gpa_map_changed_locked(map);
	pthread_rwlock_unlock(&map->lock);
}

void gpa_map_destroy(struct gpa_map *map)
{
	if (!map)
		return;
	gpa_map_clear(map);
	map->p->gmem = NULL;
	gmem_fini(&map->gmem);
	munmap(map->reserved, map->reserved_bytes);
	overlays_destroy(&map->overlays);
	pthread_rwlock_destroy(&map->lock);
	free(map->slot);
	free(map);
}

/* For VPs. */

static bool same_call(struct gpa_map *map, u64 gpn, u64 entry)
{
	return gpn < map->limit &&
	       !((gpa_table_get(&map->table, gpn) ^ entry) & (GPA_ENTRY_STATE | GPA_ENTRY_SOURCE));
}

/*
 * The parent resumed the VP without filling the page. This one, and its neighbours that the
 * same call made inaccessible, are holes from now on, whose accesses exit one by one.
 * Linux 7.3 leaves such pages behind when it removes a region that it never filled.
 */
static void refuse_locked(struct gpa_map *map, const struct gpa_ask *ask)
{
	u64 entry = ask->call | GPA_STATE_NO_ACCESS, gpn = ask->gpa >> PAGE_SHIFT;

	if (!ask->call || !same_call(map, gpn, entry))
		return;
	while (gpn && same_call(map, gpn - 1, entry))
		gpn--;
	for (; same_call(map, gpn, entry); gpn++) {
		struct gpa_leaf *leaf = gpa_table_leaf(&map->table, gpn);
		u64 e = leaf->entry[gpn % GPA_LEAF_PAGES];

		gpa_map_set_locked(map, leaf, gpn, (e & ~GPA_ENTRY_STATE) | GPA_STATE_REFUSED);
	}
}

/* The next one after the last: so two VPs rarely ask for the same. */
static bool ask_locked(struct gpa_map *map, struct gpa_ask *ask)
{
	u64 from = ask->gpa >> PAGE_SHIFT, gpn;

	refuse_locked(map, ask);
	if (!gpa_table_missing(&map->table, from < map->limit ? from : 0, &gpn) &&
	    !gpa_table_missing(&map->table, 0, &gpn))
		return false;
	*ask = (struct gpa_ask){ gpn << PAGE_SHIFT,
				 gpa_table_get(&map->table, gpn) & GPA_ENTRY_SOURCE };
	return true;
}

bool gpa_map_prepare(struct gpa_map *map, struct gpa_ask *ask)
{
	bool stop, ready;

	if (likely(!__atomic_load_n(&map->attention, __ATOMIC_ACQUIRE)))
		return true;
	pthread_rwlock_wrlock(&map->lock);
	ready = !ask_locked(map, ask) && !map->broken;
	if (ready && map->reshape)
		ready = gpa_map_reshape_locked(map) == 0;
	gpa_map_changed_locked(map);
	stop = map->broken && !map->cleared;
	pthread_rwlock_unlock(&map->lock);
	if (stop)
		partition_stop(map->p, STOP_HOST_ERROR, 0,
			       "the host cannot map the memory of partition %llu",
			       (unsigned long long)map->p->id);
	return ready;
}

enum gpa_access gpa_map_lookup(struct gpa_map *map, u64 gpa)
{
	u64 gpn = gpa >> PAGE_SHIFT, entry = 0;

	pthread_rwlock_rdlock(&map->lock);
	if (gpn < map->limit)
		entry = gpa_table_get(&map->table, gpn);
	pthread_rwlock_unlock(&map->lock);
	switch (gpa_entry_state(entry)) {
	case GPA_STATE_READ_ONLY:
		return GPA_READ_ONLY;
	case GPA_STATE_WRITABLE:
		return GPA_WRITABLE;
	case GPA_STATE_UNMAPPED:
	case GPA_STATE_NO_ACCESS:
	case GPA_STATE_REFUSED:
	case GPA_STATES:
		break;
	}
	if (entry & GPA_ENTRY_OVERLAY)
		return GPA_WRITABLE;
	return gpa_entry_state(entry) == GPA_STATE_UNMAPPED ? GPA_UNMAPPED : GPA_NO_ACCESS;
}

u64 gpa_map_count(struct gpa_map *map)
{
	u64 count;

	pthread_rwlock_rdlock(&map->lock);
	count = map->table.present;
	pthread_rwlock_unlock(&map->lock);
	return count;
}

/* Overlay pages. */

void *gpa_map_overlay_page_alloc(struct gpa_map *map)
{
	struct gpa_overlays *o = &map->overlays;
	u8 *page = NULL;

	pthread_rwlock_wrlock(&map->lock);
	for (u32 i = 0; i < GPA_OVERLAYS_MAX && !page; i++) {
		if (o->used[i])
			continue;
		o->used[i] = true;
		page = o->hva + (u64)i * PAGE_BYTES;
	}
	pthread_rwlock_unlock(&map->lock);
	if (page)
		memset(page, 0, PAGE_BYTES);
	return page;
}

static u32 overlay_index(const struct gpa_map *map, const void *page)
{
	return (u32)((u64)((const u8 *)page - map->overlays.hva) / PAGE_BYTES);
}

void gpa_map_overlay_page_free(struct gpa_map *map, void *page)
{
	pthread_rwlock_wrlock(&map->lock);
	map->overlays.used[overlay_index(map, page)] = false;
	pthread_rwlock_unlock(&map->lock);
}

/* What the window shows without an overlay. */
static void window_restore(struct gpa_map *map, u64 gpn, u64 entry)
{
	u64 source = entry & GPA_ENTRY_SOURCE;
	struct gmem_region r;

	if (gpa_entry_present(entry) && gmem_find(map->parent->gmem, source, &r) == 0 && r.fd >= 0)
		gpa_window_file(map, gpn, 1, r.fd, r.offset + (source - r.gpa),
				gpa_entry_state(entry) == GPA_STATE_WRITABLE);
	else
		gpa_window_none(map, gpn, 1);
}

/* A child that moves its page about must not fill our memory with the places where it was. */
static void leaf_free_unused(struct gpa_map *map, u64 gpn)
{
	const struct gpa_leaf *leaf = gpa_table_leaf(&map->table, gpn);

	if (leaf && leaf->count[GPA_STATE_UNMAPPED] == GPA_LEAF_PAGES && !leaf->overlays &&
	    !leaf->reshape)
		gpa_map_leaf_free_locked(map, gpn);
}

static void overlay_remove_locked(struct gpa_map *map, u64 gpn)
{
	struct gpa_leaf *leaf = gpa_table_leaf(&map->table, gpn);
	u64 entry = leaf ? leaf->entry[gpn % GPA_LEAF_PAGES] : 0;

	if (!(entry & GPA_ENTRY_OVERLAY))
		return;
	for (u32 i = 0; i < GPA_OVERLAYS_MAX; i++)
		if (map->overlays.gpn[i] == gpn)
			map->overlays.gpn[i] = ~0ull;
	if (gpa_entry_slot(entry) == GPA_SLOT_OVERLAY) {
		gpa_map_slot_remove_locked(map, gpn);
		entry &= ~GPA_ENTRY_SLOT;
	}
	window_restore(map, gpn, entry);
	gpa_map_set_locked(map, leaf, gpn, entry & ~GPA_ENTRY_OVERLAY);
}

/* Over a hole the page gets a slot now, which disturbs nobody who runs. */
static int overlay_add_locked(struct gpa_map *map, u64 gpn, const void *page)
{
	u64 offset = (u64)((const u8 *)page - map->overlays.hva), entry;
	struct gpa_leaf *leaf = gpa_table_leaf_make(&map->table, gpn);
	int ret;

	if (!leaf)
		return -ENOMEM;
	entry = leaf->entry[gpn % GPA_LEAF_PAGES];
	ret = gpa_window_file(map, gpn, 1, map->overlays.fd, offset, true);
	if (!ret && gpa_entry_slot(entry) == GPA_SLOT_NONE && gpn != GPA_APIC_GPN) {
		ret = gpa_map_slot_add_locked(map, gpn, GPA_SLOT_OVERLAY);
		entry |= (u64)GPA_SLOT_OVERLAY << GPA_ENTRY_SLOT_SHIFT;
	}
	if (ret) {
		window_restore(map, gpn, entry);
		return ret;
	}
	map->overlays.gpn[offset / PAGE_BYTES] = gpn;
	gpa_map_set_locked(map, leaf, gpn, entry | GPA_ENTRY_OVERLAY);
	return 0;
}

int gpa_map_overlay(struct gpa_map *map, u64 gpa, void *page)
{
	u64 gpn = gpa >> PAGE_SHIFT;
	int ret = 0;

	pthread_rwlock_wrlock(&map->lock);
	if (gpn >= map->limit) {
		ret = -ENXIO;
	} else if (map->cleared || map->broken) {
		ret = page ? -ENOMEM : 0;
	} else {
		overlay_remove_locked(map, gpn);
		if (page)
			ret = overlay_add_locked(map, gpn, page);
		leaf_free_unused(map, gpn);
		gpa_map_changed_locked(map);
	}
	pthread_rwlock_unlock(&map->lock);
	return ret;
}
