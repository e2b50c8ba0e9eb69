/* SPDX-License-Identifier: MIT */
/*
 * The memory of a child partition: for each page of its address space the
 * parent's page that backs it, with rights. Behind it one reserved range of our
 * address space, in which runs of pages are mappings of the parent's RAM, under a
 * few engine slots. A child's VP is never run while a page of its RAM is mapped
 * without access (NO_ACCESS): the parent is asked to fill it first.
 *
 * Readers of the child's memory (struct gmem) go through the parent's own view of
 * its RAM, so a page that the parent takes away cannot fault us; the parent gets
 * the page back only when all VPs of the child are parked (child_hold()).
 */
#ifndef NESTOR_CORE_GPA_MAP_H
#define NESTOR_CORE_GPA_MAP_H

#include "core/partition.h"

struct gpa_map;

/* -ENOMEM. @p: the child; its parent outlives it. Sets up p->gmem to read through the map. */
int gpa_map_create(struct partition *p, struct gpa_map **out);
/* No VP runs any more. Everything the map held is the parent's again. */
void gpa_map_destroy(struct gpa_map *map);

/*
 * The partition is finalized: no VP runs any more, nothing is mapped from now on, and the deposited
 * pages that paid for the map are free again. Readers of the memory get errors.
 */
void gpa_map_clear(struct gpa_map *map);

/* What a VP has asked its parent for last; zero at first. The VP's own. */
struct gpa_ask {
	u64 gpa;
	u64 call; /* the one that took access away */
};

/*
 * Before a VP enters the guest: changes of the map reach the engine. False: it must not
 * enter; either a page has no access, its GPA is in @ask and the parent is to be asked for
 * it, or the host cannot give the child its memory: then the partition is stopped. A page
 * that the parent was asked for and did not fill is treated as a hole afterwards. VP thread,
 * not in the guest, no lock held.
 */
bool gpa_map_prepare(struct gpa_map *map, struct gpa_ask *ask);

/* What is at @gpa. */
enum gpa_access { GPA_UNMAPPED, GPA_NO_ACCESS, GPA_READ_ONLY, GPA_WRITABLE };
enum gpa_access gpa_map_lookup(struct gpa_map *map, u64 gpa);

/* Records written pages (property GPA_PAGE_ACCESS_TRACKING); none are dirty at first. */
void gpa_map_track(struct gpa_map *map, bool on);
/* Pages that are backed by the parent's now. */
u64 gpa_map_count(struct gpa_map *map);

/*
 * An overlay page of the child's (core/overlay.c): seen at @gpa instead of what is there,
 * whatever the parent maps or unmaps below; NULL removes it. Over read-only memory it can be
 * read only. -ENXIO: outside the address space; -ENOMEM. Any thread.
 */
int gpa_map_overlay(struct gpa_map *map, u64 gpa, void *page);
/* Pages that gpa_map_overlay() can show. */
void *gpa_map_overlay_page_alloc(struct gpa_map *map);
void gpa_map_overlay_page_free(struct gpa_map *map, void *page);

#endif
