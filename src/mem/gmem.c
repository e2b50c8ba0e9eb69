// SPDX-License-Identifier: MIT
/* The map is small (a handful of regions), sorted by GPA and searched linearly. */
#include "mem/gmem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct gmem_map {
	struct gmem_map *next_old;
	u32 count;
	struct gmem_region region[];
};

/* Serial per page of the span that RAM covers; allocated sparsely by the kernel. */
struct gmem_donated {
	u64 pages;
	u32 serial[];
};

static struct gmem_map *map_alloc(u32 count)
{
	return calloc(1, sizeof(struct gmem_map) + count * sizeof(struct gmem_region));
}

static struct gmem_map *map_get(struct gmem *gm)
{
	return __atomic_load_n(&gm->map, __ATOMIC_ACQUIRE);
}

int gmem_init(struct gmem *gm)
{
	gm->map = map_alloc(0);
	gm->old = NULL;
	gm->donated = NULL;
	gm->donated_faults = false;
	if (!gm->map)
		return -ENOMEM;
	pthread_mutex_init(&gm->lock, NULL);
	return 0;
}

void gmem_fini(struct gmem *gm)
{
	struct gmem_map *m = gm->old, *next;

	for (; m; m = next) {
		next = m->next_old;
		free(m);
	}
	free(gm->map);
	if (gm->donated)
		munmap(gm->donated, sizeof(*gm->donated) + gm->donated->pages * sizeof(u32));
	gm->donated = NULL;
	gm->map = gm->old = NULL;
	pthread_mutex_destroy(&gm->lock);
}

/* Readers may still walk the old map: retire it, do not free it. */
static void map_publish_locked(struct gmem *gm, struct gmem_map *next)
{
	struct gmem_map *prev = gm->map;

	__atomic_store_n(&gm->map, next, __ATOMIC_RELEASE);
	prev->next_old = gm->old;
	gm->old = prev;
}

int gmem_add(struct gmem *gm, u64 gpa, u64 bytes, void *hva, enum gmem_kind kind)
{
	return gmem_add_views(gm, gpa, bytes, hva, hva, kind);
}

int gmem_add_views(struct gmem *gm, u64 gpa, u64 bytes, void *hva, void *guest,
		   enum gmem_kind kind)
{
	struct gmem_map *cur, *next;
	u32 i, at = 0;
	int ret = 0;

	if (bytes == 0 || (gpa | bytes) % PAGE_BYTES || gpa + bytes < gpa)
		return -EINVAL;
	pthread_mutex_lock(&gm->lock);
	cur = gm->map;
	for (i = 0; i < cur->count; i++) {
		const struct gmem_region *r = &cur->region[i];

		if (gpa < r->gpa + r->bytes && r->gpa < gpa + bytes) {
			ret = -EEXIST;
			goto unlock;
		}
		if (r->gpa < gpa)
			at = i + 1;
	}
	next = map_alloc(cur->count + 1);
	if (!next) {
		ret = -ENOMEM;
		goto unlock;
	}
	next->count = cur->count + 1;
	memcpy(next->region, cur->region, at * sizeof(cur->region[0]));
	next->region[at] = (struct gmem_region){ gpa, bytes, hva, guest, kind };
	memcpy(&next->region[at + 1], &cur->region[at],
	       (cur->count - at) * sizeof(cur->region[0]));
	map_publish_locked(gm, next);
unlock:
	pthread_mutex_unlock(&gm->lock);
	return ret;
}

int gmem_remove(struct gmem *gm, u64 gpa)
{
	struct gmem_map *cur, *next;
	int ret = -ENOENT;
	u32 i;

	pthread_mutex_lock(&gm->lock);
	cur = gm->map;
	for (i = 0; i < cur->count && cur->region[i].gpa != gpa; i++)
		;
	if (i == cur->count)
		goto unlock;
	next = map_alloc(cur->count - 1);
	if (!next) {
		ret = -ENOMEM;
		goto unlock;
	}
	next->count = cur->count - 1;
	memcpy(next->region, cur->region, i * sizeof(cur->region[0]));
	memcpy(&next->region[i], &cur->region[i + 1],
	       (cur->count - i - 1) * sizeof(cur->region[0]));
	map_publish_locked(gm, next);
	ret = 0;
unlock:
	pthread_mutex_unlock(&gm->lock);
	return ret;
}

u32 gmem_count(struct gmem *gm)
{
	return map_get(gm)->count;
}

struct gmem_region gmem_at(struct gmem *gm, u32 i)
{
	return map_get(gm)->region[i];
}

static const struct gmem_region *map_find(const struct gmem_map *m, u64 gpa)
{
	for (u32 i = 0; i < m->count; i++)
		if (gpa - m->region[i].gpa < m->region[i].bytes)
			return &m->region[i];
	return NULL;
}

static bool any_donated(struct gmem *gm, u64 gpa, u64 len)
{
	struct gmem_donated *d = __atomic_load_n(&gm->donated, __ATOMIC_ACQUIRE);
	u64 gpn = gpa >> PAGE_SHIFT, end = (gpa + len + PAGE_BYTES - 1) >> PAGE_SHIFT;

	if (likely(!d))
		return false;
	for (; gpn < end && gpn < d->pages; gpn++)
		if (__atomic_load_n(&d->serial[gpn], __ATOMIC_RELAXED))
			return true;
	return false;
}

void *gmem_ptr(struct gmem *gm, u64 gpa, u64 len)
{
	const struct gmem_region *r = map_find(map_get(gm), gpa);
	u64 off;

	if (!r || any_donated(gm, gpa, len))
		return NULL;
	off = gpa - r->gpa;
	return len <= r->bytes - off ? r->hva + off : NULL;
}

enum access { ACCESS_READ, ACCESS_WRITE, ACCESS_ZERO, ACCESS_CHECK };

static int gmem_walk(const struct gmem_map *m, u64 gpa, u8 *buf, u64 len, enum access access)
{
	while (len) {
		const struct gmem_region *r = map_find(m, gpa);
		u64 off, run;

		if (!r)
			return -EFAULT;
		off = gpa - r->gpa;
		run = min_u64(len, r->bytes - off);
		if (access == ACCESS_READ)
			memcpy(buf, r->hva + off, run);
		else if (access == ACCESS_WRITE)
			memcpy(r->hva + off, buf, run);
		else if (access == ACCESS_ZERO)
			memset(r->hva + off, 0, run);
		if (access == ACCESS_READ || access == ACCESS_WRITE)
			buf += run;
		gpa += run;
		len -= run;
	}
	return 0;
}

/* Checked as a whole first, so that a failing access leaves nothing half done. */
static int gmem_access(struct gmem *gm, u64 gpa, void *buf, u64 len, enum access access)
{
	const struct gmem_map *m = map_get(gm);
	int ret = gmem_walk(m, gpa, NULL, len, ACCESS_CHECK);

	if (!ret && any_donated(gm, gpa, len))
		ret = -EFAULT;
	return ret ? ret : gmem_walk(m, gpa, buf, len, access);
}

int gmem_read(struct gmem *gm, u64 gpa, void *dst, u64 len)
{
	return gmem_access(gm, gpa, dst, len, ACCESS_READ);
}

int gmem_write(struct gmem *gm, u64 gpa, const void *src, u64 len)
{
	return gmem_access(gm, gpa, (void *)(uintptr_t)src, len, ACCESS_WRITE);
}

int gmem_zero(struct gmem *gm, u64 gpa, u64 len)
{
	return gmem_access(gm, gpa, NULL, len, ACCESS_ZERO);
}

static struct gmem_donated *donated_create(const struct gmem_map *m)
{
	u64 pages = 0;
	struct gmem_donated *d;

	for (u32 i = 0; i < m->count; i++)
		if (m->region[i].kind == GMEM_RAM)
			pages = (m->region[i].gpa + m->region[i].bytes) >> PAGE_SHIFT;
	d = mmap(NULL, sizeof(*d) + pages * sizeof(u32), PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (d == MAP_FAILED)
		return NULL;
	d->pages = pages;
	return d;
}

static int donate_locked(struct gmem *gm, u64 gpa, u32 serial)
{
	const struct gmem_region *r = map_find(gm->map, gpa);
	struct gmem_donated *d = gm->donated;
	u64 gpn = gpa >> PAGE_SHIFT;
	u32 was;

	if (!r || r->kind != GMEM_RAM)
		return -EINVAL;
	if (!d) {
		if (!serial)
			return 0;
		d = donated_create(gm->map);
		if (!d)
			return -ENOMEM;
		__atomic_store_n(&gm->donated, d, __ATOMIC_RELEASE);
	}
	if (gpn >= d->pages)
		return -EINVAL;
	was = d->serial[gpn];
	if (was && serial)
		return -EEXIST;
	if (gm->donated_faults && !was != !serial &&
	    mprotect(r->guest + ((gpn << PAGE_SHIFT) - r->gpa), PAGE_BYTES,
		     serial ? PROT_NONE : PROT_READ | PROT_WRITE) < 0)
		return -errno;
	__atomic_store_n(&d->serial[gpn], serial, __ATOMIC_RELEASE);
	return 0;
}

int gmem_donate(struct gmem *gm, u64 gpa, u32 serial)
{
	int ret;

	pthread_mutex_lock(&gm->lock);
	ret = donate_locked(gm, gpa, serial);
	pthread_mutex_unlock(&gm->lock);
	return ret;
}

u32 gmem_donated(struct gmem *gm, u64 gpa)
{
	struct gmem_donated *d = __atomic_load_n(&gm->donated, __ATOMIC_ACQUIRE);
	u64 gpn = gpa >> PAGE_SHIFT;

	return d && gpn < d->pages ? __atomic_load_n(&d->serial[gpn], __ATOMIC_RELAXED) : 0;
}

int gmem_backing_create(struct gmem_backing *b, const char *name, u64 bytes)
{
	int ret;

	b->bytes = bytes;
	b->fd = memfd_create(name, MFD_CLOEXEC);
	if (b->fd < 0)
		return -errno;
	if (ftruncate(b->fd, (off_t)bytes) < 0)
		goto fail;
	b->hva = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, b->fd, 0);
	if (b->hva == MAP_FAILED)
		goto fail;
	b->guest = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, b->fd, 0);
	if (b->guest == MAP_FAILED) {
		ret = -errno;
		munmap(b->hva, bytes);
		goto close;
	}
	return 0;
fail:
	ret = -errno;
close:
	close(b->fd);
	b->fd = -1;
	b->hva = NULL;
	return ret;
}

void gmem_backing_destroy(struct gmem_backing *b)
{
	if (!b->hva)
		return;
	munmap(b->hva, b->bytes);
	munmap(b->guest, b->bytes);
	close(b->fd);
	b->hva = NULL;
	b->fd = -1;
}
