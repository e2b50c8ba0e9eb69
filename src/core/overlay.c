// SPDX-License-Identifier: MIT
/*
 * Contents move between the guest's page and the overlay's own; the mapping stays.
 * A child's memory is its parent's, who may take it back at any time and must not find
 * our page in it: there the contents move to a page that is mapped over the child's.
 */
#include "core/overlay.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "core/child.h"
#include "core/core_trace.h"
#include "core/gpa_map.h"

static u8 *page_alloc(void)
{
	u8 *page = aligned_alloc(PAGE_BYTES, PAGE_BYTES);

	if (page)
		memset(page, 0, PAGE_BYTES);
	return page;
}

int overlay_init(struct overlay *o, const char *name)
{
	*o = (struct overlay){ .name = name };
	list_init(&o->link);
	pthread_mutex_init(&o->lock, NULL);
	o->own = page_alloc();
	o->page = o->own;
	return o->own ? 0 : -ENOMEM;
}

void overlay_fini(struct overlay *o)
{
	if (!o->name)
		return; /* its creation never got so far */
	list_del(&o->link);
	free(o->own);
	free(o->hidden);
	o->own = o->hidden = o->page = NULL;
	pthread_mutex_destroy(&o->lock);
	o->name = NULL;
}

u8 *overlay_open(struct overlay *o)
{
	pthread_mutex_lock(&o->lock);
	return o->page;
}

void overlay_close(struct overlay *o)
{
	pthread_mutex_unlock(&o->lock);
}

/* What the owner writes meanwhile is written before, or at the new place. */
static void move_contents(struct overlay *o, u8 *to)
{
	pthread_mutex_lock(&o->lock);
	memcpy(to, o->page, PAGE_BYTES);
	o->page = to;
	pthread_mutex_unlock(&o->lock);
}

static struct overlay *visible_at(struct partition *p, u64 gpa)
{
	struct list *pos;
	struct overlay *last = NULL;

	list_for_each(pos, &p->overlays) {
		struct overlay *o = list_entry(pos, struct overlay, link);

		if (o->gpa == gpa)
			last = o;
	}
	return last;
}

/* Nothing is locked while VPs are waited for. */
static int show_in_child(struct gpa_map *map, struct overlay *o)
{
	u8 *page = gpa_map_overlay_page_alloc(map);
	int ret;

	if (!page)
		return -ENOMEM;
	move_contents(o, page);
	ret = gpa_map_overlay(map, o->gpa, page);
	if (ret) {
		move_contents(o, o->own);
		gpa_map_overlay_page_free(map, page);
	}
	return ret;
}

static void hide_in_child(struct gpa_map *map, struct overlay *o)
{
	u8 *page = o->page;

	gpa_map_overlay(map, o->gpa, NULL);
	move_contents(o, o->own);
	gpa_map_overlay_page_free(map, page);
}

static int show_in_ram(struct overlay *o, u8 *ram)
{
	o->hidden = page_alloc();
	if (!o->hidden)
		return -ENOMEM;
	memcpy(o->hidden, ram, PAGE_BYTES);
	move_contents(o, ram);
	return 0;
}

static int show_in_hole(struct partition *p, struct overlay *o)
{
	int ret = p->vm->ops->vm_map(p->vm, o->gpa, PAGE_BYTES, o->own, true);

	if (ret)
		return ret;
	ret = gmem_add(p->gmem, o->gpa, PAGE_BYTES, o->own, GMEM_RESERVED);
	if (ret)
		p->vm->ops->vm_unmap(p->vm, o->gpa);
	return ret;
}

/* Puts the contents of @o where the guest sees them. */
static int show(struct partition *p, struct overlay *o)
{
	u8 *ram = p->child ? NULL : gmem_ptr(p->gmem, o->gpa, PAGE_BYTES);
	int ret;

	if (p->child)
		ret = show_in_child(p->child->map, o);
	else
		ret = ram ? show_in_ram(o, ram) : show_in_hole(p, o);
	o->shown = !ret;
	return ret;
}

static void hide(struct partition *p, struct overlay *o)
{
	u8 *ram;

	if (!o->shown)
		return;
	o->shown = false;
	if (p->child) {
		hide_in_child(p->child->map, o);
		return;
	}
	if (!o->hidden) {
		p->vm->ops->vm_unmap(p->vm, o->gpa);
		gmem_remove(p->gmem, o->gpa);
		return;
	}
	ram = o->page;
	move_contents(o, o->own);
	memcpy(ram, o->hidden, PAGE_BYTES);
	free(o->hidden);
	o->hidden = NULL;
}

/*
 * A page cannot be the hypervisor's twice: one that the root has deposited takes no overlay,
 * and one below an overlay cannot be deposited. A child's memory is not its to deposit.
 */
static int hold(struct partition *p, u64 gpa)
{
	return p->child ? 0 : gmem_hold(p->gmem, gpa);
}

static void unhold(struct partition *p, u64 gpa)
{
	if (!p->child)
		gmem_unhold(p->gmem, gpa);
}

static void disable_locked(struct partition *p, struct overlay *o)
{
	struct overlay *below;
	bool seen = visible_at(p, o->gpa) == o;

	if (seen)
		hide(p, o);
	list_del(&o->link);
	o->enabled = false;
	unhold(p, o->gpa);
	below = seen ? visible_at(p, o->gpa) : NULL;
	if (below && show(p, below) < 0)
		log_limited(LOG_ERROR, "no memory to show the %s page again", below->name);
}

static int enable_locked(struct partition *p, struct overlay *o, u64 gpa)
{
	struct overlay *above = visible_at(p, gpa);
	int ret = hold(p, gpa);

	if (ret)
		return ret;
	if (above)
		hide(p, above);
	o->gpa = gpa;
	ret = show(p, o);
	if (ret) {
		unhold(p, gpa);
		if (above && show(p, above) < 0)
			log_limited(LOG_ERROR, "no memory to show the %s page again", above->name);
		return ret;
	}
	list_add_tail(&p->overlays, &o->link);
	o->enabled = true;
	return 0;
}

int overlay_set(struct partition *p, struct overlay *o, u64 gpa, bool enabled)
{
	u64 old = o->gpa;
	bool was;
	int ret = 0;

	if (gpa >> p->config.physical_bits)
		return -ENXIO;
	pthread_mutex_lock(&p->overlay_lock);
	was = o->enabled;
	if (was && (!enabled || gpa != old))
		disable_locked(p, o);
	if (enabled && !o->enabled) {
		ret = enable_locked(p, o, gpa);
		if (ret && was && enable_locked(p, o, old) < 0)
			log_limited(LOG_ERROR, "no memory to put the %s page back", o->name);
	}
	if (!ret) {
		o->gpa = gpa;
		core_emit(TRACE_OVERLAY, TRACE_WORD(o->name), gpa, enabled);
	}
	pthread_mutex_unlock(&p->overlay_lock);
	return ret;
}
