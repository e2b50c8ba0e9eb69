// SPDX-License-Identifier: MIT
/*
 * The engine's slots: maximal runs of pages with memory of the same writability,
 * and a slot of its own for each overlay page over a hole. Changing a slot means to
 * delete it first, so nobody may be in the guest then.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "core/gpa_map_internal.h"

struct slots {
	struct gpa_slot *slot;
	u32 count, room;
};

static enum gpa_slot_class wanted(u64 gpn, u64 entry)
{
	if (gpn == GPA_APIC_GPN)
		return GPA_SLOT_NONE;
	switch (gpa_entry_state(entry)) {
	case GPA_STATE_WRITABLE:
		return GPA_SLOT_WRITABLE;
	case GPA_STATE_READ_ONLY:
		return GPA_SLOT_READ_ONLY;
	case GPA_STATE_NO_ACCESS: /* until it is known what comes next */
		return gpa_entry_slot(entry);
	case GPA_STATE_UNMAPPED:
	case GPA_STATE_REFUSED:
	case GPA_STATES:
		break;
	}
	return entry & GPA_ENTRY_OVERLAY ? GPA_SLOT_OVERLAY : GPA_SLOT_NONE;
}

/* The parent's page, which it cannot deposit while it is a child's memory. */
static void source_changes(struct gpa_map *map, u64 old, u64 entry)
{
	bool was = gpa_entry_present(old), is = gpa_entry_present(entry);

	if (was && is && !((old ^ entry) & GPA_ENTRY_SOURCE))
		return;
	if (is)
		gmem_share(map->parent->gmem, entry & GPA_ENTRY_SOURCE);
	if (was)
		gmem_unshare(map->parent->gmem, old & GPA_ENTRY_SOURCE);
}

void gpa_map_set_locked(struct gpa_map *map, struct gpa_leaf *leaf, u64 gpn, u64 entry)
{
	source_changes(map, leaf->entry[gpn % GPA_LEAF_PAGES], entry);
	gpa_table_set(&map->table, leaf, gpn, entry);
	if (wanted(gpn, entry) != gpa_entry_slot(entry))
		leaf->reshape = map->reshape = true;
}

static void slot_unmap(struct gpa_map *map, const struct gpa_slot *s)
{
	map->p->vm->ops->vm_unmap(map->p->vm, s->gpn << PAGE_SHIFT);
}

static int slot_map(struct gpa_map *map, const struct gpa_slot *s)
{
	struct engine_vm *vm = map->p->vm;
	u64 gpa = s->gpn << PAGE_SHIFT;
	int ret = vm->ops->vm_map(vm, gpa, s->pages << PAGE_SHIFT, map->window + gpa,
				  s->class != GPA_SLOT_READ_ONLY);

	if (!ret && map->tracking && s->class == GPA_SLOT_WRITABLE)
		ret = vm->ops->vm_track(vm, gpa, true);
	return ret;
}

void gpa_map_break_locked(struct gpa_map *map)
{
	for (u32 i = 0; i < map->slots; i++)
		slot_unmap(map, &map->slot[i]);
	map->slots = 0;
	map->broken = true;
}

/* Adds @pages at the end, to the last run if they continue it. */
static bool append(struct slots *s, u64 gpn, u64 pages, enum gpa_slot_class class)
{
	struct gpa_slot *last = s->count ? &s->slot[s->count - 1] : NULL;

	if (class == GPA_SLOT_NONE)
		return true;
	if (last && last->class == class && class != GPA_SLOT_OVERLAY &&
	    last->gpn + last->pages == gpn) {
		last->pages += pages;
		return true;
	}
	if (s->count == s->room) {
		u32 room = s->room ? s->room * 2 : 64;
		struct gpa_slot *grown = realloc(s->slot, room * sizeof(*grown));

		if (!grown)
			return false;
		s->slot = grown;
		s->room = room;
	}
	s->slot[s->count++] = (struct gpa_slot){ gpn, pages, class };
	return true;
}

static bool append_leaf(struct slots *s, const struct gpa_leaf *leaf, u64 first)
{
	bool uniform = leaf->count[GPA_STATE_WRITABLE] == GPA_LEAF_PAGES ||
		       leaf->count[GPA_STATE_READ_ONLY] == GPA_LEAF_PAGES;

	if (uniform && first != (GPA_APIC_GPN & ~(u64)(GPA_LEAF_PAGES - 1)))
		return append(s, first, GPA_LEAF_PAGES, gpa_entry_slot(leaf->entry[0]));
	for (u32 n = 0; n < GPA_LEAF_PAGES; n++)
		if (!append(s, first + n, 1, gpa_entry_slot(leaf->entry[n])))
			return false;
	return true;
}

static void leaf_settle(struct gpa_leaf *leaf, u64 first)
{
	for (u32 n = 0; leaf->reshape && n < GPA_LEAF_PAGES; n++) {
		u64 *e = &leaf->entry[n];

		*e = (*e & ~GPA_ENTRY_SLOT) | (u64)wanted(first + n, *e) << GPA_ENTRY_SLOT_SHIFT;
	}
	leaf->reshape = false;
}

void gpa_map_leaf_free_locked(struct gpa_map *map, u64 gpn)
{
	struct gpa_leaf *leaf = gpa_table_leaf(&map->table, gpn);
	u64 paid = leaf->deposit_gpn;

	for (u32 n = 0; n < GPA_LEAF_PAGES; n++)
		source_changes(map, leaf->entry[n], 0);
	if (paid != ~0ull)
		deposit_release(&map->p->deposit, paid);
	gpa_table_leaf_free(&map->table, gpn);
}

/* All slots there should be; the table says so from now on. */
static bool collect(struct gpa_map *map, struct slots *s)
{
	struct gpa_leaf *leaf;

	for (u64 gpn = 0; (leaf = gpa_table_next(&map->table, &gpn)); gpn += GPA_LEAF_PAGES) {
		leaf_settle(leaf, gpn);
		if (leaf->count[GPA_STATE_UNMAPPED] == GPA_LEAF_PAGES && !leaf->overlays)
			gpa_map_leaf_free_locked(map, gpn);
		else if (!append_leaf(s, leaf, gpn))
			return false;
	}
	return true;
}

static bool slot_same(const struct gpa_slot *a, const struct gpa_slot *b)
{
	return a->gpn == b->gpn && a->pages == b->pages && a->class == b->class;
}

/* Calls @fn for each slot of @of that is not in @without. Both are sorted. */
static int for_each_other(struct gpa_map *map, const struct slots *of, const struct slots *without,
			  int (*fn)(struct gpa_map *map, const struct gpa_slot *s))
{
	int ret = 0;

	for (u32 i = 0, k = 0; i < of->count && !ret; i++) {
		while (k < without->count && without->slot[k].gpn < of->slot[i].gpn)
			k++;
		if (k == without->count || !slot_same(&of->slot[i], &without->slot[k]))
			ret = fn(map, &of->slot[i]);
	}
	return ret;
}

static int slot_drop(struct gpa_map *map, const struct gpa_slot *s)
{
	if (map->tracking)
		gpa_map_pull_locked(map, s->gpn, s->pages);
	slot_unmap(map, s);
	return 0;
}

int gpa_map_reshape_locked(struct gpa_map *map)
{
	struct slots next = { 0 }, now = { map->slot, map->slots, map->slots };
	int ret;

	map->reshape = false;
	if (!collect(map, &next)) {
		free(next.slot);
		gpa_map_break_locked(map);
		return -ENOMEM;
	}
	for_each_other(map, &now, &next, slot_drop);
	ret = for_each_other(map, &next, &now, slot_map);
	free(map->slot);
	map->slot = next.slot;
	map->slots = next.count;
	if (ret)
		gpa_map_break_locked(map);
	return ret;
}

int gpa_map_slot_add_locked(struct gpa_map *map, u64 gpn, enum gpa_slot_class class)
{
	const struct gpa_slot added = { gpn, 1, class };
	struct gpa_slot *grown = realloc(map->slot, (map->slots + 1) * sizeof(*grown));
	u32 at = 0;
	int ret;

	if (!grown)
		return -ENOMEM;
	map->slot = grown;
	ret = slot_map(map, &added);
	if (ret)
		return ret;
	while (at < map->slots && map->slot[at].gpn < gpn)
		at++;
	memmove(&map->slot[at + 1], &map->slot[at], (map->slots - at) * sizeof(added));
	map->slot[at] = added;
	map->slots++;
	return 0;
}

void gpa_map_slot_remove_locked(struct gpa_map *map, u64 gpn)
{
	for (u32 i = 0; i < map->slots; i++) {
		if (map->slot[i].gpn != gpn)
			continue;
		slot_unmap(map, &map->slot[i]);
		map->slots--;
		memmove(&map->slot[i], &map->slot[i + 1], (map->slots - i) * sizeof(map->slot[0]));
		return;
	}
}

static void mark_written(struct gpa_map *map, const struct gpa_slot *s, const u64 *written)
{
	for (u64 n = 0; n < s->pages; n++) {
		u64 gpn = s->gpn + n;
		struct gpa_leaf *leaf;

		if (written && !written[n / 64]) {
			n |= 63;
			continue;
		}
		leaf = gpa_table_leaf(&map->table, gpn);
		if (leaf && (!written || (written[n / 64] & BIT64(n % 64))))
			leaf->entry[gpn % GPA_LEAF_PAGES] |= GPA_ENTRY_DIRTY;
	}
}

void gpa_map_pull_locked(struct gpa_map *map, u64 gpn, u64 pages)
{
	for (u32 i = 0; i < map->slots; i++) {
		const struct gpa_slot *s = &map->slot[i];
		u64 *written;

		if (s->class != GPA_SLOT_WRITABLE || s->gpn >= gpn + pages ||
		    gpn >= s->gpn + s->pages)
			continue;
		written = calloc((s->pages + 63) / 64, sizeof(*written));
		/* Without an answer any page may have been. */
		if (written &&
		    map->p->vm->ops->vm_written(map->p->vm, s->gpn << PAGE_SHIFT, written) < 0) {
			free(written);
			written = NULL;
		}
		mark_written(map, s, written);
		free(written);
	}
}
