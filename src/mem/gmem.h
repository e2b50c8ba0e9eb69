/* SPDX-License-Identifier: MIT */
/*
 * Guest memory: which GPA ranges are backed by which host memory, and the only
 * way to reach it. Readers take no lock and never wait for each other. A pointer
 * obtained before a change of the map stays valid for as long as the host memory
 * itself is.
 *
 * Every access names a length and fails as a whole (-EFAULT) when any byte is
 * outside the map. Guest bytes can change at any moment: copy once, check the
 * copy, use the copy.
 */
#ifndef NESTOR_MEM_GMEM_H
#define NESTOR_MEM_GMEM_H

#include <pthread.h>

#include "base/types.h"

enum gmem_kind {
	GMEM_RAM,      /* ordinary memory, in the e820 map as usable */
	GMEM_RESERVED, /* backed, but not the kernel's to hand out (hypervisor pages, tables) */
};

struct gmem_region {
	u64 gpa;
	u64 bytes;
	u8 *hva;   /* our own mapping: never taken away while the region exists */
	u8 *guest; /* what the engine maps for the guest; donated pages are inaccessible here */
	enum gmem_kind kind;
	s32 fd; /* the same memory once more: the file and where in it; -1: not known */
	u64 offset;
};

enum gmem_op { GMEM_READ, GMEM_WRITE, GMEM_ZERO, GMEM_OR };

/*
 * Memory that is not regions: each page is somewhere else, and may go away. Then
 * accesses go here, and fail as a whole like any other. @ptr: within one page.
 */
struct gmem_view {
	int (*access)(void *ctx, u64 gpa, void *buf, u64 len, enum gmem_op op);
	void *(*ptr)(void *ctx, u64 gpa, u64 len);
};

struct gmem_map;
struct gmem_words;

struct gmem {
	struct gmem_map *map;	    /* atomic; readers load-acquire */
	struct gmem_map *old;	    /* outgrown maps, freed by gmem_fini() */
	u32 sequence;		    /* atomic; odd while the map changes */
	pthread_mutex_t lock;	    /* serializes writers */
	struct gmem_words *donated; /* atomic; NULL until the first page is donated */
	struct gmem_words *shared;  /* atomic; how often each page is shared */
	pthread_rwlock_t sharing;   /* read: pages become shared; write: pages are donated */
	u64 *held;		    /* pages that cannot be donated; once for each hold */
	u32 held_count, held_room;
	bool donated_faults;	      /* the guest's own access to a donated page is stopped */
	const struct gmem_view *view; /* NULL: the regions of the map */
	void *view_ctx;
};

int gmem_init(struct gmem *gm);
/* The same for memory that is reached through @view only. */
int gmem_init_view(struct gmem *gm, const struct gmem_view *view, void *ctx);
/* Frees the maps, not the memory they name: whoever mapped that unmaps it. */
void gmem_fini(struct gmem *gm);

/* Adds a region. -EINVAL: unaligned or empty; -EEXIST: overlaps; -ENOMEM. */
int gmem_add(struct gmem *gm, u64 gpa, u64 bytes, void *hva, enum gmem_kind kind);
struct gmem_backing;
/* The same with @bytes at @offset of @b, and the guest's view of them. */
int gmem_add_backing(struct gmem *gm, u64 gpa, u64 bytes, const struct gmem_backing *b, u64 offset,
		     enum gmem_kind kind);
/* Removes the region that starts at @gpa. -ENOENT if there is none. */
int gmem_remove(struct gmem *gm, u64 gpa);

/* Number of regions, and a copy of the i-th (ordered by GPA). */
u32 gmem_count(struct gmem *gm);
struct gmem_region gmem_at(struct gmem *gm, u32 i);
/* The region that contains @gpa. -EFAULT: none does. */
int gmem_find(struct gmem *gm, u64 gpa, struct gmem_region *out);

/*
 * Host address of @len bytes at @gpa if they lie in one region, else NULL. For
 * overlays, rings and boot loading; everything else copies.
 */
void *gmem_ptr(struct gmem *gm, u64 gpa, u64 len);

/* 0 or -EFAULT. A range may span adjacent regions. */
int gmem_read(struct gmem *gm, u64 gpa, void *dst, u64 len);
int gmem_write(struct gmem *gm, u64 gpa, const void *src, u64 len);
int gmem_zero(struct gmem *gm, u64 gpa, u64 len);
/* Sets bits of an aligned word that the guest may be changing. */
int gmem_or(struct gmem *gm, u64 gpa, u32 bits);

/*
 * A page of RAM that its guest gave away: nothing reads or writes it through this
 * map any more, and with gm->donated_faults the guest cannot either. @serial names
 * who took it, for messages; 0 gives the page back. -EINVAL: not RAM; -EEXIST:
 * donated already; -EBUSY: held; -EACCES: shared; -ENOMEM.
 */
int gmem_donate(struct gmem *gm, u64 gpa, u32 serial);
/* A donated page that its guest may use again, or no more: it stays donated. -EINVAL: it is not. */
int gmem_lend(struct gmem *gm, u64 gpa, bool lent);
/* The serial a page that nothing reaches was donated with, or 0. */
u32 gmem_donated(struct gmem *gm, u64 gpa);
/* Donated, lent or not. */
bool gmem_given(struct gmem *gm, u64 gpa);
/*
 * While the page at @gpa is held (an overlay lies there) nobody can donate it: that is
 * -EBUSY. Holds count. -EBUSY: it is donated; -ENOMEM.
 */
int gmem_hold(struct gmem *gm, u64 gpa);
void gmem_unhold(struct gmem *gm, u64 gpa);
/*
 * While the page of RAM at @gpa is memory of another partition too nobody can donate it:
 * that is -EACCES. Counts. Who looks whether it is donated and then shares it holds gm->sharing
 * for reading, who donates for writing. gmem_share_init() comes first; -ENOMEM.
 */
int gmem_share_init(struct gmem *gm);
void gmem_share(struct gmem *gm, u64 gpa);
void gmem_unshare(struct gmem *gm, u64 gpa);

/*
 * One block, the backing of a VM's RAM. Sparse: pages exist once touched. A shared one is a memfd:
 * vhost-user peers and children map parts of it, and its pages can be taken from the guest alone.
 * One that is not shared is cheaper: an ordinary host gives it huge pages.
 */
struct gmem_backing {
	int fd; /* -1: not shared */
	u8 *hva;
	u8 *guest; /* for the engine; of a shared block a second mapping, else @hva */
	u64 bytes;
};
int gmem_backing_create(struct gmem_backing *b, const char *name, u64 bytes, bool shared);
void gmem_backing_destroy(struct gmem_backing *b);

#endif
