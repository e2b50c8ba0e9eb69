/* SPDX-License-Identifier: MIT */
/* Shared by the files of the GPA map only. */
#ifndef NESTOR_CORE_GPA_MAP_INTERNAL_H
#define NESTOR_CORE_GPA_MAP_INTERNAL_H

#include <pthread.h>

#include "core/gpa_map.h"
#include "core/gpa_table.h"

/* SIMP, SIEFP and VP assist page of each VP, hypercall and TSC page. */
#define GPA_OVERLAYS_MAX (3 * PARTITION_VPS_MAX + 2)
#define GPA_APIC_GPN	 (0xFEE00000ull >> PAGE_SHIFT)

struct gpa_slot {
	u64 gpn, pages;
	enum gpa_slot_class class;
};

/* Overlay pages: a file of their own, so that they can be seen in the window too. */
struct gpa_overlays {
	int fd;
	u8 *hva;
	bool used[GPA_OVERLAYS_MAX];
	u64 gpn[GPA_OVERLAYS_MAX]; /* ~0: not shown */
};

/* What gpa_map_prepare() has to do, or cannot. */
#define GPA_ATTENTION_MISSING BIT(0)
#define GPA_ATTENTION_RESHAPE BIT(1)
#define GPA_ATTENTION_BROKEN  BIT(2)

struct gpa_map {
	struct partition *p, *parent;
	struct gmem gmem; /* the child's */
	u64 limit;	  /* pages of the address space */
	u8 *window;	  /* host address of GPA 0 */
	void *reserved;
	u64 reserved_bytes;
	u32 attention; /* atomic: GPA_ATTENTION_* */

	/*
	 * Guards everything below; taken last. A page that a VP may be using is only
	 * taken from it, and the shape of the slots only changed, while all VPs are
	 * parked or have not passed gpa_map_prepare() since they were.
	 */
	pthread_rwlock_t lock;
	struct gpa_table table;
	struct gpa_slot *slot; /* what the engine has, by GPN */
	u32 slots;
	bool reshape; /* the engine should have others */
	bool tracking, cleared;
	bool broken;	/* the host failed us: the engine has no slots any more */
	u64 generation; /* of calls that take access away */
	struct gpa_overlays overlays;
};

/* The window. -errno; on failure the range is as it was or inaccessible, else the map is broken. */
int gpa_window_none(struct gpa_map *map, u64 gpn, u64 pages);
int gpa_window_file(struct gpa_map *map, u64 gpn, u64 pages, int fd, u64 offset, bool writable);

/* @leaf: that of @gpn. Notes whether the engine's slots have to change. */
void gpa_map_set_locked(struct gpa_map *map, struct gpa_leaf *leaf, u64 gpn, u64 entry);
/* After any change. */
void gpa_map_changed_locked(struct gpa_map *map);
/* Removes all slots, for ever: what the child could reach there is not known. */
void gpa_map_break_locked(struct gpa_map *map);
/* The engine's slots as the table wants them. -errno: the map is broken. */
int gpa_map_reshape_locked(struct gpa_map *map);
int gpa_map_slot_add_locked(struct gpa_map *map, u64 gpn, enum gpa_slot_class class);
void gpa_map_slot_remove_locked(struct gpa_map *map, u64 gpn);
/* Takes the engine's record of written pages into the table. */
void gpa_map_pull_locked(struct gpa_map *map, u64 gpn, u64 pages);
/* Frees what the leaf of @gpn was paid with, and the leaf. */
void gpa_map_leaf_free_locked(struct gpa_map *map, u64 gpn);

#endif
