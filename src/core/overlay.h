/* SPDX-License-Identifier: MIT */
/*
 * Overlay pages: a page of the hypervisor's laid over a page of the guest's
 * address space, hiding what is there until it is removed (TLFS:
 * gpa-space/overlay-pages). Over RAM this is done by swapping contents, which
 * costs two copies when a page moves and nothing at all while it is used; over
 * a hole, and in a child everywhere, the page itself is mapped there. Where two overlays share a
 * GPA the one enabled last is seen, and the other comes back when it goes.
 */
#ifndef NESTOR_CORE_OVERLAY_H
#define NESTOR_CORE_OVERLAY_H

#include <pthread.h>

#include "base/list.h"
#include "base/types.h"

struct partition;

struct overlay {
	const char *name; /* literal, for the trace */
	u64 gpa;
	bool enabled;
	bool shown; /* false also where it should be seen and there was no way to show it */
	/* Guards where the bytes are, and them while they move: an overlay that is laid over this
	 * one moves them without the owner's lock. A leaf. */
	pthread_mutex_t lock;
	u8 *page;	  /* where they are now: the guest's page while visible, else @own */
	u8 *own;	  /* page-aligned private page; the contents while not visible */
	u8 *hidden;	  /* what the visible overlay hides; NULL over a hole */
	struct list link; /* of the partition, in the order of enabling */
};

/* -ENOMEM. The contents are zero. */
int overlay_init(struct overlay *o, const char *name);
/* The overlay is disabled, or its partition's memory is gone. */
void overlay_fini(struct overlay *o);

/* Where the contents are; they stay there until overlay_close(). Not with overlay_set() between. */
u8 *overlay_open(struct overlay *o);
void overlay_close(struct overlay *o);

/*
 * Enables at @gpa, moves or disables. Takes the partition's overlay lock.
 * -ENXIO: @gpa is outside the guest physical address space; -EBUSY: the root has
 * deposited the page; -ENOMEM.
 * On failure the overlay is as it was.
 */
int overlay_set(struct partition *p, struct overlay *o, u64 gpa, bool enabled);

#endif
