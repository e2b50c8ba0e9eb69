// SPDX-License-Identifier: MIT
/*
 * HvCallMapGpaPages, HvCallUnmapGpaPages: neighbouring pages are collected into runs,
 * and a run is one change of the window and of the table. What it takes from the child
 * is gone for all VPs when the call returns, because the parent uses it again at once.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/log.h"
#include "core/child.h"
#include "core/gpa_map_internal.h"
#include "core/hypercall.h"
#include "hvdef/gpa.h"

/* A longer call returns early, with what it has done. */
#define CALL_PAGES_MAX 8192u
#define CALL_RUNS_MAX  128u

/* What a call asks for: element i is @step pages at @gpn + i * @step. */
struct change {
	enum gpa_state state;
	u64 gpn;
	u32 step;
	u32 first, count;  /* elements to do, and where the list ends */
	const u64 *source; /* by element; NULL: none */
};

struct run {
	u64 gpn, pages;
	u64 source; /* of the first page: address at the parent's, or number of the call */
	s32 fd;
	u64 offset;
	u32 element;  /* that the first page belongs to */
	bool overlay; /* a page that is seen elsewhere: the window stays */
	bool remap;   /* the window changes */
};

struct changing {
	struct gpa_map *map;
	const struct change *what;
	struct gmem_region region; /* of the parent's, where the last page was found */
	struct run run;
	u32 runs;
	bool failed; /* the window did, at the run that began with this element: */
	u32 failed_element;
};

static bool has_memory(const struct change *c)
{
	return c->state >= GPA_STATE_READ_ONLY;
}

/* Whether a VP may have use of what is there now. */
static bool takes_away(struct gpa_map *map, const struct change *c)
{
	u64 end = min_u64(c->gpn + (u64)c->count * c->step, map->limit);
	u64 gpn = c->gpn + (u64)c->first * c->step;

	for (u32 n = 0; gpn < end && n < CALL_PAGES_MAX + c->step; n++, gpn++) {
		u64 entry = gpa_table_get(&map->table, gpn);

		if (gpa_entry_present(entry) || gpa_entry_slot(entry) != GPA_SLOT_NONE)
			return true;
	}
	return false;
}

/*
 * Only what the window cannot take is a failure. Where it cannot lose a page, the child
 * has lost everything (gpa_map_break_locked()), which is what was asked for and more.
 */
static enum hv_status run_flush(struct changing *c)
{
	struct gpa_map *map = c->map;
	struct run *r = &c->run;
	enum gpa_state state = c->what->state;
	enum hv_status status = HV_STATUS_SUCCESS;

	if (r->remap && !r->overlay && has_memory(c->what) &&
	    gpa_window_file(map, r->gpn, r->pages, r->fd, r->offset, state == GPA_STATE_WRITABLE) <
		    0) {
		status = HV_STATUS_NO_RESOURCES;
		state = GPA_STATE_UNMAPPED;
		c->failed = true;
		c->failed_element = r->element;
	}
	if (r->remap && !r->overlay && !has_memory(c->what))
		gpa_window_none(map, r->gpn, r->pages);
	for (u64 n = 0; n < r->pages; n++) {
		u64 gpn = r->gpn + n;
		struct gpa_leaf *leaf = gpa_table_leaf(&map->table, gpn);
		u64 keep = leaf->entry[gpn % GPA_LEAF_PAGES] & (GPA_ENTRY_SLOT | GPA_ENTRY_OVERLAY);
		u64 entry = keep | state;

		if (state >= GPA_STATE_READ_ONLY)
			entry |= r->source + n * PAGE_BYTES;
		else if (state == GPA_STATE_NO_ACCESS)
			entry |= r->source;
		if (map->tracking && state >= GPA_STATE_READ_ONLY)
			entry |= GPA_ENTRY_DIRTY;
		gpa_map_set_locked(map, leaf, gpn, entry);
	}
	c->runs += r->remap;
	r->pages = 0;
	return status;
}

/* What holds entries costs a page of the child's pool: a parent pays for its maps. */
static enum hv_status leaf_make(struct gpa_map *map, u64 gpn)
{
	struct gpa_leaf *leaf;
	u64 paid;
	enum hv_status status;

	if (gpa_table_leaf(&map->table, gpn))
		return HV_STATUS_SUCCESS;
	status = deposit_take(&map->p->deposit, DEPOSIT_MAP, &paid);
	if (status != HV_STATUS_SUCCESS)
		return status;
	leaf = gpa_table_leaf_make(&map->table, gpn);
	if (!leaf) {
		deposit_release(&map->p->deposit, paid);
		return HV_STATUS_NO_RESOURCES;
	}
	leaf->deposit_gpn = paid;
	return HV_STATUS_SUCCESS;
}

static bool continues(const struct changing *c, u64 gpn, u64 source, u64 offset, bool overlay)
{
	const struct run *r = &c->run;

	if (!r->pages || gpn != r->gpn + r->pages || overlay != r->overlay)
		return false;
	return !has_memory(c->what) ||
	       (source == r->source + r->pages * PAGE_BYTES && c->region.fd == r->fd &&
		offset == r->offset + r->pages * PAGE_BYTES);
}

static enum hv_status page_add(struct changing *c, u32 element, u64 gpn, u64 source)
{
	u64 offset = c->region.offset + (source - c->region.gpa);
	enum hv_status status;
	bool overlay, remap;
	u64 entry;

	if (c->what->state == GPA_STATE_UNMAPPED && !gpa_table_leaf(&c->map->table, gpn))
		return HV_STATUS_SUCCESS;
	entry = gpa_table_get(&c->map->table, gpn);
	overlay = entry & GPA_ENTRY_OVERLAY;
	remap = has_memory(c->what) || gpa_entry_present(entry);
	if (!continues(c, gpn, source, offset, overlay)) {
		status = run_flush(c);
		if (status != HV_STATUS_SUCCESS)
			return status;
		c->run = (struct run){
			gpn, 0, source, c->region.fd, offset, element, overlay, false
		};
	}
	c->run.pages++;
	c->run.remap |= remap;
	return HV_STATUS_SUCCESS;
}

/* RAM of the parent's that it has not given away, and that can be mapped. */
static bool source_ok(struct changing *c, u64 source)
{
	struct gmem_region *r = &c->region;

	if (source - r->gpa >= r->bytes && gmem_find(c->map->parent->gmem, source, r) < 0) {
		r->bytes = 0;
		return false;
	}
	return r->kind == GMEM_RAM && r->fd >= 0 && !gmem_given(c->map->parent->gmem, source);
}

static enum hv_status element_check(struct changing *c, u32 i)
{
	const struct change *w = c->what;
	u64 gpn = w->gpn + (u64)i * w->step;

	if (w->gpn >= c->map->limit || gpn >= c->map->limit || w->step > c->map->limit - gpn)
		return HV_STATUS_INVALID_PARAMETER;
	if (!has_memory(w))
		return HV_STATUS_SUCCESS;
	if (w->source[i] > GPA_ENTRY_SOURCE >> PAGE_SHIFT || w->source[i] % w->step)
		return HV_STATUS_INVALID_PARAMETER;
	for (u32 n = 0; n < w->step; n++)
		if (!source_ok(c, (w->source[i] + n) << PAGE_SHIFT))
			return HV_STATUS_INVALID_PARAMETER;
	return HV_STATUS_SUCCESS;
}

static enum hv_status element_add(struct changing *c, u32 i)
{
	const struct change *w = c->what;
	u64 gpn = w->gpn + (u64)i * w->step;
	enum hv_status status = element_check(c, i);

	if (status == HV_STATUS_SUCCESS && w->state != GPA_STATE_UNMAPPED)
		status = leaf_make(c->map, gpn);
	for (u32 n = 0; n < w->step && status == HV_STATUS_SUCCESS; n++) {
		u64 source = has_memory(w) ? (w->source[i] + n) << PAGE_SHIFT
					   : c->map->generation & GPA_ENTRY_SOURCE;

		status = page_add(c, i, gpn + n, source);
	}
	return status;
}

/* Gives the element it stopped at in @done. */
static enum hv_status change_locked(struct gpa_map *map, const struct change *what, u32 *done)
{
	struct changing c = { .map = map, .what = what };
	enum hv_status status = HV_STATUS_SUCCESS, flushed;
	u32 i = what->first;

	map->generation += PAGE_BYTES;
	for (u32 pages = 0; i < what->count && pages < CALL_PAGES_MAX && c.runs < CALL_RUNS_MAX;
	     i++, pages += what->step) {
		status = element_add(&c, i);
		if (status != HV_STATUS_SUCCESS)
			break;
	}
	flushed = run_flush(&c);
	*done = c.failed ? c.failed_element : i;
	if (status == HV_STATUS_SUCCESS)
		status = flushed;
	gpa_map_changed_locked(map);
	return status;
}

static enum hv_status change(struct gpa_map *map, const struct change *what, u32 *done)
{
	enum hv_status status;
	bool held = false;

	pthread_rwlock_wrlock(&map->lock);
	if (has_memory(what) || takes_away(map, what)) {
		pthread_rwlock_unlock(&map->lock);
		child_hold(map->p);
		held = true;
		pthread_rwlock_wrlock(&map->lock);
	}
	/* What is not deposited now is not while it becomes the child's. */
	if (has_memory(what))
		pthread_rwlock_rdlock(&map->parent->gmem->sharing);
	status = map->cleared ? HV_STATUS_INVALID_PARTITION_STATE : change_locked(map, what, done);
	if (has_memory(what))
		pthread_rwlock_unlock(&map->parent->gmem->sharing);
	pthread_rwlock_unlock(&map->lock);
	if (held)
		child_release(map->p);
	return status;
}

/* The child an input names, referenced, with memory that can be changed. */
static enum hv_status child_find(struct hypercall *hc, u64 id, struct partition **out)
{
	*out = child_get(hc, id);
	if (!*out)
		return HV_STATUS_INVALID_PARTITION_ID;
	if (child_active(*out) && (*out)->child->map)
		return HV_STATUS_SUCCESS;
	child_put(*out);
	return HV_STATUS_INVALID_PARTITION_STATE;
}

static enum hv_status call_change(struct hypercall *hc, u64 id, struct change *what)
{
	struct partition *p;
	enum hv_status status = child_find(hc, id, &p);

	if (status != HV_STATUS_SUCCESS)
		return status;
	what->first = hc->rep;
	what->count = hc->rep_count;
	status = what->gpn % what->step ? HV_STATUS_INVALID_PARAMETER
					: change(p->child->map, what, &hc->rep);
	child_put(p);
	return status;
}

#define MAP_RIGHTS (HV_MAP_GPA_READABLE | HV_MAP_GPA_WRITABLE | HV_MAP_GPA_EXECUTABLE)
#define MAP_FLAGS                                                                                  \
	(MAP_RIGHTS | HV_MAP_GPA_ADJUSTABLE | HV_MAP_GPA_NO_ACCESS | HV_MAP_GPA_NOT_CACHED |       \
	 HV_MAP_GPA_LARGE_PAGE)

/* Execution cannot be refused page by page; caching is the processor's business. */
static enum hv_status call_map_gpa_pages(struct hypercall *hc)
{
	const struct hv_input_map_gpa_pages *in = HYPERCALL_IN(hc, struct hv_input_map_gpa_pages);
	bool none = in->flags & HV_MAP_GPA_NO_ACCESS;
	struct change what = { .gpn = in->target_gpn, .source = in->source_gpn };

	/* Rights without the right to read, and rights to what cannot be accessed, do not exist. */
	if ((in->flags & ~MAP_FLAGS) || (none && (in->flags & MAP_RIGHTS)) ||
	    (!none && !(in->flags & HV_MAP_GPA_READABLE)))
		return HV_STATUS_INVALID_PARAMETER;
	what.step = in->flags & HV_MAP_GPA_LARGE_PAGE ? HV_LARGE_PAGE_PAGES : 1;
	what.state =
		none ? GPA_STATE_NO_ACCESS
		     : (in->flags & HV_MAP_GPA_WRITABLE ? GPA_STATE_WRITABLE : GPA_STATE_READ_ONLY);
	return call_change(hc, in->partition_id, &what);
}

static enum hv_status call_unmap_gpa_pages(struct hypercall *hc)
{
	const struct hv_input_unmap_gpa_pages *in =
		HYPERCALL_IN(hc, struct hv_input_unmap_gpa_pages);
	struct change what = { .gpn = in->target_gpn, .state = GPA_STATE_UNMAPPED };

	if (in->flags & ~HV_UNMAP_GPA_LARGE_PAGE)
		return HV_STATUS_INVALID_PARAMETER;
	what.step = in->flags & HV_UNMAP_GPA_LARGE_PAGE ? HV_LARGE_PAGE_PAGES : 1;
	return call_change(hc, in->partition_id, &what);
}

/* Dirty pages. */

static void track_slots(struct gpa_map *map, bool on)
{
	struct engine_vm *vm = map->p->vm;

	for (u32 i = 0; i < map->slots; i++)
		if (map->slot[i].class == GPA_SLOT_WRITABLE &&
		    vm->ops->vm_track(vm, map->slot[i].gpn << PAGE_SHIFT, on) < 0)
			log_limited(LOG_ERROR, "written pages of partition %llu cannot be recorded",
				    (unsigned long long)map->p->id);
}

void gpa_map_track(struct gpa_map *map, bool on)
{
	struct gpa_leaf *leaf;

	pthread_rwlock_wrlock(&map->lock);
	if (map->tracking != on) {
		for (u64 gpn = 0; on && (leaf = gpa_table_next(&map->table, &gpn));
		     gpn += GPA_LEAF_PAGES)
			for (u32 n = 0; n < GPA_LEAF_PAGES; n++)
				leaf->entry[n] &= ~GPA_ENTRY_DIRTY;
		map->tracking = on;
		track_slots(map, on);
	}
	pthread_rwlock_unlock(&map->lock);
}

/* Accessed is not recorded, so everything was. Dirty that nobody records may be, too. */
static u8 page_state(struct gpa_map *map, u64 gpn, u64 flags)
{
	struct gpa_leaf *leaf = gpa_table_leaf(&map->table, gpn);
	u64 *entry = leaf ? &leaf->entry[gpn % GPA_LEAF_PAGES] : NULL;
	u8 state;

	if (!entry || !gpa_entry_present(*entry))
		return 0;
	state = HV_GPA_ACCESSED;
	if (!map->tracking || (*entry & GPA_ENTRY_DIRTY))
		state |= HV_GPA_DIRTY;
	if (flags & HV_GPA_CLEAR_DIRTY)
		*entry &= ~GPA_ENTRY_DIRTY;
	if (flags & HV_GPA_SET_DIRTY)
		*entry |= GPA_ENTRY_DIRTY;
	return state;
}

static enum hv_status access_state(struct hypercall *hc, struct gpa_map *map,
				   const struct hv_input_get_gpa_access_state *in)
{
	u8 *out = HYPERCALL_OUT(hc, u8);

	if (in->gpn >= map->limit || hc->rep_count > map->limit - in->gpn)
		return HV_STATUS_INVALID_PARAMETER;
	pthread_rwlock_wrlock(&map->lock);
	if (map->tracking)
		gpa_map_pull_locked(map, in->gpn + hc->rep, hc->rep_count - hc->rep);
	for (; hc->rep < hc->rep_count; hc->rep++)
		out[hc->rep] = page_state(map, in->gpn + hc->rep, in->flags);
	pthread_rwlock_unlock(&map->lock);
	return HV_STATUS_SUCCESS;
}

static bool both(u64 flags, u64 a, u64 b)
{
	return (flags & (a | b)) == (a | b);
}

static enum hv_status call_get_gpa_access_state(struct hypercall *hc)
{
	const struct hv_input_get_gpa_access_state *in =
		HYPERCALL_IN(hc, struct hv_input_get_gpa_access_state);
	struct partition *p;
	enum hv_status status;

	if (in->flags & ~MASK64(3, 0) ||
	    both(in->flags, HV_GPA_CLEAR_ACCESSED, HV_GPA_SET_ACCESSED) ||
	    both(in->flags, HV_GPA_CLEAR_DIRTY, HV_GPA_SET_DIRTY))
		return HV_STATUS_INVALID_PARAMETER;
	status = child_find(hc, in->partition_id, &p);
	if (status != HV_STATUS_SUCCESS)
		return status;
	status = access_state(hc, p->child->map, in);
	child_put(p);
	return status;
}

const struct hypercall_desc gpa_hypercalls[] = {
	{ .code = HVCALL_MAP_GPA_PAGES,
	  .name = "HvCallMapGpaPages",
	  .privilege = HV_PRIV_CREATE_PARTITIONS,
	  .in_size = sizeof(struct hv_input_map_gpa_pages),
	  .rep_in = sizeof(u64),
	  .handler = call_map_gpa_pages },
	{ .code = HVCALL_UNMAP_GPA_PAGES,
	  .name = "HvCallUnmapGpaPages",
	  .privilege = HV_PRIV_CREATE_PARTITIONS,
	  .in_size = sizeof(struct hv_input_unmap_gpa_pages),
	  .rep = true,
	  .handler = call_unmap_gpa_pages },
	{ .code = HVCALL_GET_GPA_PAGES_ACCESS_STATE,
	  .name = "HvCallGetGpaPagesAccessState",
	  .privilege = HV_PRIV_CREATE_PARTITIONS,
	  .in_size = sizeof(struct hv_input_get_gpa_access_state),
	  .rep_out = sizeof(u8),
	  .handler = call_get_gpa_access_state },
	{ 0 },
};
