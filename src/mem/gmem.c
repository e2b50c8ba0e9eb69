// SPDX-License-Identifier: MIT
/*
 * The map is small (a handful of regions), sorted by GPA and searched linearly.
 * A guest can make it change as often as it likes (overlay pages over holes), so
 * a change works in place and leaves nothing behind; readers notice it by the
 * sequence number and look again.
 */
#include "mem/gmem.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define FIRST_ROOM 16u
/* A huge page of the host. */
#define HUGE_PAGE_BYTES (2 * MIB)

struct gmem_map {
	struct gmem_map *next_old;
	u32 room, count;
	struct gmem_region region[];
};

/* A word per page of the span that RAM covers; allocated sparsely by the kernel. */
struct gmem_words {
	u64 pages;
	u32 word[];
};

/* Of a donated page's serial: it is lent back, donated all the same, but nobody is kept from it. */
#define DONATED_LENT BIT(31)

static struct gmem_map *map_alloc(u32 room)
{
	struct gmem_map *m = calloc(1, sizeof(*m) + room * sizeof(struct gmem_region));

	if (m)
		m->room = room;
	return m;
}

int gmem_init(struct gmem *gm)
{
	*gm = (struct gmem){ .map = map_alloc(FIRST_ROOM) };
	if (!gm->map)
		return -ENOMEM;
	pthread_mutex_init(&gm->lock, NULL);
	pthread_rwlock_init(&gm->sharing, NULL);
	return 0;
}

int gmem_init_view(struct gmem *gm, const struct gmem_view *view, void *ctx)
{
	int ret = gmem_init(gm);

	gm->view = view;
	gm->view_ctx = ctx;
	return ret;
}

static void words_free(struct gmem_words *w)
{
	if (w)
		munmap(w, sizeof(*w) + w->pages * sizeof(u32));
}

void gmem_fini(struct gmem *gm)
{
	struct gmem_map *m = gm->old, *next;

	for (; m; m = next) {
		next = m->next_old;
		free(m);
	}
	free(gm->map);
	words_free(gm->donated);
	words_free(gm->shared);
	gm->donated = gm->shared = NULL;
	free(gm->held);
	gm->held = NULL;
	gm->map = gm->old = NULL;
	pthread_mutex_destroy(&gm->lock);
	pthread_rwlock_destroy(&gm->sharing);
}

/* The sequence number is odd while the map is being changed. */
static void change_begin_locked(struct gmem *gm)
{
	__atomic_store_n(&gm->sequence, gm->sequence + 1, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_SEQ_CST); /* pairs with the fence in unchanged() */
}

static void change_end_locked(struct gmem *gm)
{
	__atomic_store_n(&gm->sequence, gm->sequence + 1, __ATOMIC_RELEASE);
}

static u32 look(struct gmem *gm)
{
	u32 sequence;

	while ((sequence = __atomic_load_n(&gm->sequence, __ATOMIC_ACQUIRE)) & 1)
		sched_yield(); /* the changer may wait for this very processor */
	return sequence;
}

static bool unchanged(struct gmem *gm, u32 sequence)
{
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	return __atomic_load_n(&gm->sequence, __ATOMIC_RELAXED) == sequence;
}

/* Readers may be in the middle of an entry: word by word. */
static void entry_store(struct gmem_region *to, const struct gmem_region *from)
{
	__atomic_store_n(&to->gpa, from->gpa, __ATOMIC_RELAXED);
	__atomic_store_n(&to->bytes, from->bytes, __ATOMIC_RELAXED);
	__atomic_store_n(&to->hva, from->hva, __ATOMIC_RELAXED);
	__atomic_store_n(&to->guest, from->guest, __ATOMIC_RELAXED);
	__atomic_store_n(&to->kind, from->kind, __ATOMIC_RELAXED);
	__atomic_store_n(&to->fd, from->fd, __ATOMIC_RELAXED);
	__atomic_store_n(&to->offset, from->offset, __ATOMIC_RELAXED);
}

static struct gmem_region entry_load(const struct gmem_region *from)
{
	return (struct gmem_region){ __atomic_load_n(&from->gpa, __ATOMIC_RELAXED),
				     __atomic_load_n(&from->bytes, __ATOMIC_RELAXED),
				     __atomic_load_n(&from->hva, __ATOMIC_RELAXED),
				     __atomic_load_n(&from->guest, __ATOMIC_RELAXED),
				     __atomic_load_n(&from->kind, __ATOMIC_RELAXED),
				     __atomic_load_n(&from->fd, __ATOMIC_RELAXED),
				     __atomic_load_n(&from->offset, __ATOMIC_RELAXED) };
}

/* A full map is replaced by a larger one and kept for those who still read it. */
static int grow_locked(struct gmem *gm)
{
	struct gmem_map *cur = gm->map, *next;

	if (cur->count < cur->room)
		return 0;
	next = map_alloc(cur->room * 2);
	if (!next)
		return -ENOMEM;
	next->count = cur->count;
	memcpy(next->region, cur->region, cur->count * sizeof(cur->region[0]));
	__atomic_store_n(&gm->map, next, __ATOMIC_RELEASE);
	cur->next_old = gm->old;
	gm->old = cur;
	return 0;
}

static int region_add(struct gmem *gm, const struct gmem_region *added)
{
	u64 gpa = added->gpa, bytes = added->bytes;
	struct gmem_map *m;
	u32 i, at = 0;
	int ret = 0;

	if (bytes == 0 || (gpa | bytes) % PAGE_BYTES || gpa + bytes < gpa)
		return -EINVAL;
	pthread_mutex_lock(&gm->lock);
	m = gm->map;
	for (i = 0; i < m->count; i++) {
		const struct gmem_region *r = &m->region[i];

		if (gpa < r->gpa + r->bytes && r->gpa < gpa + bytes) {
			ret = -EEXIST;
			goto unlock;
		}
		if (r->gpa < gpa)
			at = i + 1;
	}
	ret = grow_locked(gm);
	if (ret)
		goto unlock;
	m = gm->map;
	change_begin_locked(gm);
	for (i = m->count; i > at; i--)
		entry_store(&m->region[i], &m->region[i - 1]);
	entry_store(&m->region[at], added);
	__atomic_store_n(&m->count, m->count + 1, __ATOMIC_RELAXED);
	change_end_locked(gm);
unlock:
	pthread_mutex_unlock(&gm->lock);
	return ret;
}

int gmem_add(struct gmem *gm, u64 gpa, u64 bytes, void *hva, enum gmem_kind kind)
{
	const struct gmem_region r = { gpa, bytes, hva, hva, kind, -1, 0 };

	return region_add(gm, &r);
}

int gmem_add_backing(struct gmem *gm, u64 gpa, u64 bytes, const struct gmem_backing *b, u64 offset,
		     enum gmem_kind kind)
{
	const struct gmem_region r = { gpa,  bytes, b->hva + offset, b->guest + offset,
				       kind, b->fd, offset };

	if (offset > b->bytes || bytes > b->bytes - offset)
		return -EINVAL;
	return region_add(gm, &r);
}

int gmem_remove(struct gmem *gm, u64 gpa)
{
	struct gmem_map *m;
	int ret = -ENOENT;
	u32 i;

	pthread_mutex_lock(&gm->lock);
	m = gm->map;
	for (i = 0; i < m->count && m->region[i].gpa != gpa; i++)
		;
	if (i == m->count)
		goto unlock;
	change_begin_locked(gm);
	for (; i + 1 < m->count; i++)
		entry_store(&m->region[i], &m->region[i + 1]);
	__atomic_store_n(&m->count, m->count - 1, __ATOMIC_RELAXED);
	change_end_locked(gm);
	ret = 0;
unlock:
	pthread_mutex_unlock(&gm->lock);
	return ret;
}

u32 gmem_count(struct gmem *gm)
{
	u32 sequence, count;

	do {
		sequence = look(gm);
		count = __atomic_load_n(&__atomic_load_n(&gm->map, __ATOMIC_ACQUIRE)->count,
					__ATOMIC_RELAXED);
	} while (!unchanged(gm, sequence));
	return count;
}

struct gmem_region gmem_at(struct gmem *gm, u32 i)
{
	struct gmem_region r;
	u32 sequence;

	do {
		sequence = look(gm);
		r = entry_load(&__atomic_load_n(&gm->map, __ATOMIC_ACQUIRE)->region[i]);
	} while (!unchanged(gm, sequence));
	return r;
}

/* What contains @gpa, as of @sequence. -EAGAIN: the map has changed since; -EFAULT: nothing. */
static int find(struct gmem *gm, u32 sequence, u64 gpa, struct gmem_region *out)
{
	const struct gmem_map *m = __atomic_load_n(&gm->map, __ATOMIC_ACQUIRE);
	u32 count = __atomic_load_n(&m->count, __ATOMIC_RELAXED);
	int ret = -EFAULT;

	for (u32 i = 0; i < count && ret; i++) {
		*out = entry_load(&m->region[i]);
		if (gpa - out->gpa < out->bytes)
			ret = 0;
	}
	return unchanged(gm, sequence) ? ret : -EAGAIN;
}

int gmem_find(struct gmem *gm, u64 gpa, struct gmem_region *out)
{
	int ret;

	do
		ret = find(gm, look(gm), gpa, out);
	while (ret == -EAGAIN);
	return ret;
}

static bool out_of_reach(u32 serial)
{
	return serial && !(serial & DONATED_LENT);
}

static bool any_donated(struct gmem *gm, u64 gpa, u64 len)
{
	struct gmem_words *d = __atomic_load_n(&gm->donated, __ATOMIC_ACQUIRE);
	u64 gpn = gpa >> PAGE_SHIFT, end = (gpa + len + PAGE_BYTES - 1) >> PAGE_SHIFT;

	if (likely(!d))
		return false;
	for (; gpn < end && gpn < d->pages; gpn++)
		if (out_of_reach(__atomic_load_n(&d->word[gpn], __ATOMIC_RELAXED)))
			return true;
	return false;
}

void *gmem_ptr(struct gmem *gm, u64 gpa, u64 len)
{
	struct gmem_region r;

	if (gm->view)
		return gm->view->ptr(gm->view_ctx, gpa, len);
	if (gmem_find(gm, gpa, &r) || any_donated(gm, gpa, len))
		return NULL;
	return len <= r.bytes - (gpa - r.gpa) ? r.hva + (gpa - r.gpa) : NULL;
}

enum access { ACCESS_READ, ACCESS_WRITE, ACCESS_ZERO, ACCESS_CHECK };

static int gmem_walk(struct gmem *gm, u32 sequence, u64 gpa, u8 *buf, u64 len, enum access access)
{
	while (len) {
		struct gmem_region r;
		int ret = find(gm, sequence, gpa, &r);
		u64 off, run;

		if (ret)
			return ret;
		off = gpa - r.gpa;
		run = min_u64(len, r.bytes - off);
		if (access == ACCESS_READ)
			memcpy(buf, r.hva + off, run);
		else if (access == ACCESS_WRITE)
			memcpy(r.hva + off, buf, run);
		else if (access == ACCESS_ZERO)
			memset(r.hva + off, 0, run);
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
	int ret;

	do {
		u32 sequence = look(gm);

		ret = gmem_walk(gm, sequence, gpa, NULL, len, ACCESS_CHECK);
		if (!ret && any_donated(gm, gpa, len))
			ret = -EFAULT;
		if (!ret)
			ret = gmem_walk(gm, sequence, gpa, buf, len, access);
	} while (ret == -EAGAIN);
	return ret;
}

int gmem_read(struct gmem *gm, u64 gpa, void *dst, u64 len)
{
	return gm->view ? gm->view->access(gm->view_ctx, gpa, dst, len, GMEM_READ)
			: gmem_access(gm, gpa, dst, len, ACCESS_READ);
}

int gmem_write(struct gmem *gm, u64 gpa, const void *src, u64 len)
{
	void *buf = (void *)(uintptr_t)src;

	return gm->view ? gm->view->access(gm->view_ctx, gpa, buf, len, GMEM_WRITE)
			: gmem_access(gm, gpa, buf, len, ACCESS_WRITE);
}

int gmem_zero(struct gmem *gm, u64 gpa, u64 len)
{
	return gm->view ? gm->view->access(gm->view_ctx, gpa, NULL, len, GMEM_ZERO)
			: gmem_access(gm, gpa, NULL, len, ACCESS_ZERO);
}

int gmem_or(struct gmem *gm, u64 gpa, u32 bits)
{
	u32 *word;

	if (gpa % sizeof(*word))
		return -EINVAL;
	if (gm->view)
		return gm->view->access(gm->view_ctx, gpa, &bits, sizeof(bits), GMEM_OR);
	word = gmem_ptr(gm, gpa, sizeof(*word));
	if (!word)
		return -EFAULT;
	__atomic_fetch_or(word, bits, __ATOMIC_RELAXED);
	return 0;
}

static struct gmem_words *words_create(const struct gmem_map *m)
{
	u64 pages = 0;
	struct gmem_words *w;

	for (u32 i = 0; i < m->count; i++)
		if (m->region[i].kind == GMEM_RAM)
			pages = (m->region[i].gpa + m->region[i].bytes) >> PAGE_SHIFT;
	w = mmap(NULL, sizeof(*w) + pages * sizeof(u32), PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (w == MAP_FAILED)
		return NULL;
	w->pages = pages;
	return w;
}

/* @serial as it shall stand there. */
static int serial_set_locked(struct gmem *gm, const struct gmem_region *r, u64 gpn, u32 serial)
{
	u32 *at = &gm->donated->word[gpn];

	if (gm->donated_faults && out_of_reach(*at) != out_of_reach(serial) &&
	    mprotect(r->guest + ((gpn << PAGE_SHIFT) - r->gpa), PAGE_BYTES,
		     out_of_reach(serial) ? PROT_NONE : PROT_READ | PROT_WRITE) < 0)
		return -errno;
	__atomic_store_n(at, serial, __ATOMIC_RELEASE);
	return 0;
}

static bool held_locked(const struct gmem *gm, u64 gpn)
{
	for (u32 i = 0; i < gm->held_count; i++)
		if (gm->held[i] == gpn)
			return true;
	return false;
}

static bool shared(struct gmem *gm, u64 gpn)
{
	struct gmem_words *w = __atomic_load_n(&gm->shared, __ATOMIC_ACQUIRE);

	return w && gpn < w->pages && __atomic_load_n(&w->word[gpn], __ATOMIC_ACQUIRE);
}

static int donate_locked(struct gmem *gm, u64 gpa, u32 serial)
{
	struct gmem_region r;
	struct gmem_words *d = gm->donated;
	u64 gpn = gpa >> PAGE_SHIFT;

	/* The lock keeps the map as it is. */
	if (find(gm, gm->sequence, gpa, &r) || r.kind != GMEM_RAM)
		return -EINVAL;
	if (!d) {
		if (!serial)
			return 0;
		d = words_create(gm->map);
		if (!d)
			return -ENOMEM;
		__atomic_store_n(&gm->donated, d, __ATOMIC_RELEASE);
	}
	if (gpn >= d->pages)
		return -EINVAL;
	if (d->word[gpn] && serial)
		return -EEXIST;
	if (serial && held_locked(gm, gpn))
		return -EBUSY;
	if (serial && shared(gm, gpn))
		return -EACCES;
	return serial_set_locked(gm, &r, gpn, serial & ~DONATED_LENT);
}

static int lend_locked(struct gmem *gm, u64 gpa, bool lent)
{
	struct gmem_words *d = gm->donated;
	u64 gpn = gpa >> PAGE_SHIFT;
	struct gmem_region r;

	if (!d || gpn >= d->pages || !d->word[gpn] || find(gm, gm->sequence, gpa, &r))
		return -EINVAL;
	return serial_set_locked(gm, &r, gpn,
				 lent ? d->word[gpn] | DONATED_LENT : d->word[gpn] & ~DONATED_LENT);
}

int gmem_donate(struct gmem *gm, u64 gpa, u32 serial)
{
	int ret;

	pthread_mutex_lock(&gm->lock);
	ret = donate_locked(gm, gpa, serial);
	pthread_mutex_unlock(&gm->lock);
	return ret;
}

int gmem_lend(struct gmem *gm, u64 gpa, bool lent)
{
	int ret;

	pthread_mutex_lock(&gm->lock);
	ret = lend_locked(gm, gpa, lent);
	pthread_mutex_unlock(&gm->lock);
	return ret;
}

static u32 serial_of(struct gmem *gm, u64 gpa)
{
	struct gmem_words *d = __atomic_load_n(&gm->donated, __ATOMIC_ACQUIRE);
	u64 gpn = gpa >> PAGE_SHIFT;

	return d && gpn < d->pages ? __atomic_load_n(&d->word[gpn], __ATOMIC_RELAXED) : 0;
}

u32 gmem_donated(struct gmem *gm, u64 gpa)
{
	u32 serial = serial_of(gm, gpa);

	return out_of_reach(serial) ? serial : 0;
}

bool gmem_given(struct gmem *gm, u64 gpa)
{
	return serial_of(gm, gpa) != 0;
}

static int hold_locked(struct gmem *gm, u64 gpa)
{
	u64 *held;

	if (gmem_given(gm, gpa))
		return -EBUSY;
	if (gm->held_count == gm->held_room) {
		held = realloc(gm->held, (gm->held_room * 2 + 16) * sizeof(*held));
		if (!held)
			return -ENOMEM;
		gm->held = held;
		gm->held_room = gm->held_room * 2 + 16;
	}
	gm->held[gm->held_count++] = gpa >> PAGE_SHIFT;
	return 0;
}

int gmem_hold(struct gmem *gm, u64 gpa)
{
	int ret;

	pthread_mutex_lock(&gm->lock);
	ret = hold_locked(gm, gpa);
	pthread_mutex_unlock(&gm->lock);
	return ret;
}

void gmem_unhold(struct gmem *gm, u64 gpa)
{
	pthread_mutex_lock(&gm->lock);
	for (u32 i = 0; i < gm->held_count; i++) {
		if (gm->held[i] != gpa >> PAGE_SHIFT)
			continue;
		gm->held[i] = gm->held[--gm->held_count];
		break;
	}
	pthread_mutex_unlock(&gm->lock);
}

int gmem_share_init(struct gmem *gm)
{
	struct gmem_words *w;

	pthread_mutex_lock(&gm->lock);
	w = gm->shared;
	if (!w) {
		w = words_create(gm->map);
		__atomic_store_n(&gm->shared, w, __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&gm->lock);
	return w ? 0 : -ENOMEM;
}

void gmem_share(struct gmem *gm, u64 gpa)
{
	struct gmem_words *w = __atomic_load_n(&gm->shared, __ATOMIC_ACQUIRE);

	if (w && gpa >> PAGE_SHIFT < w->pages)
		__atomic_fetch_add(&w->word[gpa >> PAGE_SHIFT], 1, __ATOMIC_ACQ_REL);
}

void gmem_unshare(struct gmem *gm, u64 gpa)
{
	struct gmem_words *w = __atomic_load_n(&gm->shared, __ATOMIC_ACQUIRE);

	if (w && gpa >> PAGE_SHIFT < w->pages)
		__atomic_fetch_sub(&w->word[gpa >> PAGE_SHIFT], 1, __ATOMIC_ACQ_REL);
}

/* Where a huge page of it can be one of the guest's too: GPAs begin at multiples of that size. */
static u8 *map_block(int fd, u64 bytes)
{
	u64 room = bytes + HUGE_PAGE_BYTES;
	u8 *p = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	u8 *at = (u8 *)align_up((uintptr_t)p, HUGE_PAGE_BYTES);

	if (p == MAP_FAILED)
		return NULL;
	if (mmap(at, bytes, PROT_READ | PROT_WRITE,
		 MAP_FIXED | MAP_NORESERVE | (fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED),
		 fd, 0) == MAP_FAILED) {
		int err = errno;

		munmap(p, room);
		errno = err;
		return NULL;
	}
	if (at > p)
		munmap(p, (u64)(at - p));
	munmap(at + bytes, (u64)(p + room - (at + bytes)));
	/* A wish: some hosts have none, or none for files. */
	madvise(at, bytes, MADV_HUGEPAGE);
	return at;
}

int gmem_backing_create(struct gmem_backing *b, const char *name, u64 bytes, bool shared)
{
	int ret;

	*b = (struct gmem_backing){ .fd = -1, .bytes = align_up(bytes, PAGE_BYTES) };
	if (shared) {
		b->fd = memfd_create(name, MFD_CLOEXEC);
		if (b->fd < 0)
			return -errno;
		if (ftruncate(b->fd, (off_t)b->bytes) < 0)
			goto fail;
	}
	b->hva = map_block(b->fd, b->bytes);
	if (!b->hva)
		goto fail;
	b->guest = shared ? map_block(b->fd, b->bytes) : b->hva;
	if (!b->guest)
		goto fail;
	return 0;
fail:
	ret = -errno;
	gmem_backing_destroy(b);
	return ret;
}

void gmem_backing_destroy(struct gmem_backing *b)
{
	if (b->guest && b->guest != b->hva)
		munmap(b->guest, b->bytes);
	if (b->hva)
		munmap(b->hva, b->bytes);
	if (b->fd >= 0)
		close(b->fd);
	*b = (struct gmem_backing){ .fd = -1 };
}
