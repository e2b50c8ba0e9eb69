// SPDX-License-Identifier: MIT
/*
 * Statistics pages: RAM of a parent, deposited or brought with the call, in which
 * it reads counters while the page is mapped. Linux takes the page number as one
 * of its own pages, and deposits to itself when told that there is none, also for
 * a child's. The counters are those that exist anyway; once a second they are
 * written into the pages, and nothing is spent where things are counted.
 */
#include <stdlib.h>
#include <string.h>

#include "core/child.h"
#include "core/deposit.h"
#include "core/hypercall.h"
#include "core/root.h"

#define REFRESH_NS 1000000000ull

static struct stats_page *find_locked(struct root_state *r,
				      const struct hv_input_map_stats_page *what)
{
	for (u32 i = 0; i < r->stats_count; i++)
		if (!memcmp(&r->stats[i].what, what, sizeof(*what)))
			return &r->stats[i];
	return NULL;
}

/* A page is written while its reader reads it. */
static void set(u64 *page, u32 counter, u64 value)
{
	__atomic_store_n(&page[counter], value, __ATOMIC_RELAXED);
}

static u32 child_count(struct hypervisor *hv)
{
	struct list *pos;
	u32 n = 0;

	pthread_mutex_lock(&hv->children_lock);
	list_for_each(pos, &hv->children)
		n++;
	pthread_mutex_unlock(&hv->children_lock);
	return n;
}

static void fill_hypervisor(u64 *page, struct partition *root)
{
	set(page, HvLogicalProcessors, root->vp_count);
	set(page, HvPartitions, 1 + child_count(root->hv));
	set(page, HvVirtualProcessors, root->vp_count);
}

/* A logical processor runs the VP with its number, and here nothing else. */
static void fill_lp(u64 *page, struct partition *root, u32 lp)
{
	set(page, LpGlobalTime, refclock_now_100ns(root->clock));
	set(page, LpTotalRunTime, vp_runtime_of(root->vps[lp]));
}

static void fill_partition(u64 *page, struct partition *p)
{
	u32 vps = 0;

	for (u32 i = 0; i < p->config.max_vps; i++)
		vps += partition_vp(p, i) != NULL;
	set(page, PtVirtualProcessors, vps);
	set(page, PtDepositedPages, deposit_get(&p->deposit).pages);
	set(page, PtPartitionId, p->id);
}

static void fill_vp(u64 *page, const struct vp *vp)
{
	const u64 *exits = vp->exits;

	set(page, VpTotalRunTime, vp_runtime_of(vp));
	set(page, VpHypercallsCount, exits[ENGINE_EXIT_HYPERCALL]);
	set(page, VpIoInstructionsCount, exits[ENGINE_EXIT_IO]);
	set(page, VpMsrAccessesCount, exits[ENGINE_EXIT_RDMSR] + exits[ENGINE_EXIT_WRMSR]);
	set(page, VpOtherInterceptsCount, exits[ENGINE_EXIT_INTR] + exits[ENGINE_EXIT_SHUTDOWN]);
	set(page, VpEmulatedInstructionsCount, exits[ENGINE_EXIT_MMIO]);
	set(page, VpApicEoiAccesses, exits[ENGINE_EXIT_EOI]);
	if (!vp->child)
		return;
	set(page, VpIoInterceptMessages, exits[ENGINE_EXIT_IO]);
	set(page, VpMemoryInterceptMessages, exits[ENGINE_EXIT_MMIO] + exits[ENGINE_EXIT_MEMORY]);
}

static void fill_locked(struct partition *p, const struct stats_page *s)
{
	u64 *page = gmem_ptr(p->gmem, s->gpn << PAGE_SHIFT, PAGE_BYTES);
	const struct vp *vp;

	if (!page)
		return;
	switch (s->what.type) {
	case HV_STATS_HYPERVISOR:
		fill_hypervisor(page, p);
		break;
	case HV_STATS_LOGICAL_PROCESSOR:
		fill_lp(page, p, (u32)s->what.identity.id);
		break;
	case HV_STATS_PARTITION:
		fill_partition(page, s->of);
		break;
	case HV_STATS_VP:
		vp = partition_vp(s->of, s->what.identity.vp_index);
		if (vp)
			fill_vp(page, vp);
		break;
	default:
		break;
	}
}

static void arm_locked(struct partition *p)
{
	timer_arm(&p->root.stats_timer, refclock_now_100ns(p->clock) * 100 + REFRESH_NS);
}

static void refresh(struct timer *t)
{
	struct root_state *r = container_of(t, struct root_state, stats_timer);
	struct partition *p = container_of(r, struct partition, root);

	pthread_mutex_lock(&r->lock);
	for (u32 i = 0; i < r->stats_count; i++)
		fill_locked(p, &r->stats[i]);
	if (r->stats_count)
		arm_locked(p);
	pthread_mutex_unlock(&r->lock);
}

static struct stats_page *add_locked(struct partition *p, const struct hv_input_map_stats_page *in)
{
	struct root_state *r = &p->root;
	struct stats_page *more;

	if (r->stats_count == STATS_PAGES_MAX)
		return NULL;
	more = realloc(r->stats, (r->stats_count + 1) * sizeof(*more));
	if (!more)
		return NULL;
	r->stats = more;
	more[r->stats_count] = (struct stats_page){ .what = *in };
	return &more[r->stats_count];
}

/* The slot that add_locked() gave is complete. */
static void commit_locked(struct partition *p, struct stats_page *s)
{
	struct root_state *r = &p->root;
	void *page = gmem_ptr(p->gmem, s->gpn << PAGE_SHIFT, PAGE_BYTES);

	if (page)
		memset(page, 0, PAGE_BYTES);
	fill_locked(p, s);
	if (!r->stats_timed)
		timer_init(&r->stats_timer, p->timers, refresh);
	r->stats_timed = true;
	if (r->stats_count++ == 0)
		arm_locked(p);
}

static void remove_locked(struct partition *p, struct stats_page *s)
{
	struct root_state *r = &p->root;

	if (s->deposited)
		deposit_unlend(&p->deposit, s->gpn);
	*s = r->stats[--r->stats_count];
}

void stats_end(struct partition *p)
{
	struct root_state *r = &p->root;

	pthread_mutex_lock(&r->lock);
	while (r->stats_count)
		remove_locked(p, &r->stats[r->stats_count - 1]);
	pthread_mutex_unlock(&r->lock);
}

void stats_forget(struct partition *p)
{
	struct partition *parent = p->child->parent;
	struct root_state *r = &parent->root;

	pthread_mutex_lock(&r->lock);
	for (u32 i = r->stats_count; i-- > 0;)
		if (r->stats[i].of == p)
			remove_locked(parent, &r->stats[i]);
	pthread_mutex_unlock(&r->lock);
}

/* The partition that a page is about, referenced if it is a child; NULL: none, or not one's to ask.
 */
static struct partition *subject(struct hypercall *hc, const struct hv_input_map_stats_page *in)
{
	if (in->type != HV_STATS_PARTITION && in->type != HV_STATS_VP)
		return NULL;
	if (hypercall_is_self(hc, in->identity.id))
		return hc->vp->partition;
	return child_get(hc, in->identity.id);
}

static void subject_put(struct hypercall *hc, struct partition *p)
{
	if (p && p != hc->vp->partition)
		child_put(p);
}

static enum hv_status check(const struct hypercall *hc, const struct hv_input_map_stats_page *in,
			    const struct partition *of)
{
	const struct partition *p = hc->vp->partition;

	switch (in->type) {
	case HV_STATS_HYPERVISOR:
		return HV_STATUS_SUCCESS;
	case HV_STATS_LOGICAL_PROCESSOR:
		return (u32)in->identity.id < p->vp_count ? HV_STATUS_SUCCESS
							  : HV_STATUS_INVALID_LP_INDEX;
	case HV_STATS_PARTITION:
		return of ? HV_STATUS_SUCCESS : HV_STATUS_INVALID_PARTITION_ID;
	case HV_STATS_VP:
		if (!of)
			return HV_STATUS_INVALID_PARTITION_ID;
		return partition_vp(of, in->identity.vp_index) ? HV_STATUS_SUCCESS
							       : HV_STATUS_INVALID_VP_INDEX;
	default:
		return HV_STATUS_INVALID_PARAMETER;
	}
}

/* Whoever finalizes a child says so before it has its pages forgotten. */
static bool ended(const struct partition *of)
{
	return of && of->child &&
	       __atomic_load_n(&of->child->state, __ATOMIC_ACQUIRE) == CHILD_FINALIZED;
}

static enum hv_status map_locked(struct partition *p, const struct hv_input_map_stats_page *in,
				 struct partition *of, u64 *gpn)
{
	struct stats_page *s = find_locked(&p->root, in);
	enum hv_status status;

	if (s) {
		*gpn = s->gpn;
		return HV_STATUS_SUCCESS;
	}
	if (ended(of))
		return HV_STATUS_INVALID_PARTITION_STATE;
	s = add_locked(p, in);
	if (!s)
		return HV_STATUS_NO_RESOURCES;
	status = deposit_take(&p->deposit, DEPOSIT_STATS, gpn);
	if (status != HV_STATUS_SUCCESS)
		return status;
	s->gpn = *gpn;
	s->of = of;
	s->deposited = true;
	deposit_lend(&p->deposit, *gpn); /* readable while it is mapped */
	commit_locked(p, s);
	return HV_STATUS_SUCCESS;
}

static enum hv_status map_at_locked(struct partition *p, const struct hv_input_map_stats_page *in,
				    struct partition *of, u64 gpn)
{
	struct stats_page *s = find_locked(&p->root, in);

	if (s)
		return s->gpn == gpn ? HV_STATUS_SUCCESS : HV_STATUS_OBJECT_IN_USE;
	if (ended(of))
		return HV_STATUS_INVALID_PARTITION_STATE;
	if (gpn >> (64 - PAGE_SHIFT) || !gmem_ptr(p->gmem, gpn << PAGE_SHIFT, PAGE_BYTES) ||
	    gmem_given(p->gmem, gpn << PAGE_SHIFT))
		return HV_STATUS_INVALID_PARAMETER;
	s = add_locked(p, in);
	if (!s)
		return HV_STATUS_NO_RESOURCES;
	s->gpn = gpn;
	s->of = of;
	commit_locked(p, s);
	return HV_STATUS_SUCCESS;
}

static enum hv_status call_map_stats(struct hypercall *hc)
{
	const struct hv_input_map_stats_page *in = HYPERCALL_IN(hc, struct hv_input_map_stats_page);
	struct partition *p = hc->vp->partition, *of;
	enum hv_status status;

	/* Here the one area has everything: Linux knows hypervisors like that by this status. */
	if (in->identity.area != HV_STATS_AREA_SELF)
		return HV_STATUS_INVALID_PARAMETER;
	of = subject(hc, in);
	status = check(hc, in, of);
	if (status == HV_STATUS_SUCCESS) {
		pthread_mutex_lock(&p->root.lock);
		status = map_locked(p, in, of, HYPERCALL_OUT(hc, u64));
		pthread_mutex_unlock(&p->root.lock);
	}
	subject_put(hc, of);
	return status;
}

static enum hv_status call_map_stats2(struct hypercall *hc)
{
	const struct hv_input_map_stats_page2 *in =
		HYPERCALL_IN(hc, struct hv_input_map_stats_page2);
	struct partition *p = hc->vp->partition, *of;
	enum hv_status status;

	if (in->what.identity.area > HV_STATS_AREA_PARENT)
		return HV_STATUS_INVALID_PARAMETER;
	of = subject(hc, &in->what);
	status = check(hc, &in->what, of);
	if (status == HV_STATUS_SUCCESS) {
		pthread_mutex_lock(&p->root.lock);
		status = map_at_locked(p, &in->what, of, in->map_location);
		pthread_mutex_unlock(&p->root.lock);
	}
	subject_put(hc, of);
	return status;
}

static enum hv_status call_unmap_stats(struct hypercall *hc)
{
	const struct hv_input_map_stats_page *in = HYPERCALL_IN(hc, struct hv_input_map_stats_page);
	struct partition *p = hc->vp->partition;
	struct stats_page *s;

	pthread_mutex_lock(&p->root.lock);
	s = find_locked(&p->root, in);
	if (s)
		remove_locked(p, s);
	pthread_mutex_unlock(&p->root.lock);
	return s ? HV_STATUS_SUCCESS : HV_STATUS_INVALID_PARAMETER;
}

const struct hypercall_desc stats_hypercalls[] = {
	{ .code = HVCALL_MAP_STATS_PAGE,
	  .name = "HvCallMapStatsPage",
	  .privilege = HV_PRIV_ACCESS_STATS_PAGES,
	  .in_size = sizeof(struct hv_input_map_stats_page),
	  .out_size = sizeof(u64),
	  .handler = call_map_stats },
	{ .code = HVCALL_UNMAP_STATS_PAGE,
	  .name = "HvCallUnmapStatsPage",
	  .privilege = HV_PRIV_ACCESS_STATS_PAGES,
	  .in_size = sizeof(struct hv_input_map_stats_page),
	  .handler = call_unmap_stats },
	{ .code = HVCALL_MAP_STATS_PAGE2,
	  .name = "HvCallMapStatsPage2",
	  .privilege = HV_PRIV_ACCESS_STATS_PAGES,
	  .in_size = sizeof(struct hv_input_map_stats_page2),
	  .handler = call_map_stats2 },
	{ 0 },
};
