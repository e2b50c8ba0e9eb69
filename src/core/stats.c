// SPDX-License-Identifier: MIT
/*
 * Statistics pages: deposited RAM of the root that it may read again while the
 * page is mapped. Linux takes the page number as one of its own pages.
 */
#include <stdlib.h>
#include <string.h>

#include "core/deposit.h"
#include "core/hypercall.h"
#include "core/root.h"

/* Counters of the hypervisor's page that Linux uses by number. */
#define STATS_HV_LOGICAL_PROCESSORS 1

static struct stats_page *find_locked(struct root_state *r,
				      const struct hv_input_map_stats_page *what)
{
	for (u32 i = 0; i < r->stats_count; i++)
		if (!memcmp(&r->stats[i].what, what, sizeof(*what)))
			return &r->stats[i];
	return NULL;
}

static enum hv_status check(const struct hypercall *hc, const struct hv_input_map_stats_page *in)
{
	const struct partition *p = hc->vp->partition;

	if (in->identity.area != 0)
		return HV_STATUS_INVALID_PARAMETER; /* what a root's parent would count does not
						       exist */
	switch (in->type) {
	case HV_STATS_HYPERVISOR:
		return HV_STATUS_SUCCESS;
	case HV_STATS_LOGICAL_PROCESSOR:
		return (u32)in->identity.id < p->vp_count ? HV_STATUS_SUCCESS
							  : HV_STATUS_INVALID_LP_INDEX;
	case HV_STATS_PARTITION:
		return hypercall_is_self(hc, in->identity.id) ? HV_STATUS_SUCCESS
							      : HV_STATUS_INVALID_PARTITION_ID;
	case HV_STATS_VP:
		if (!hypercall_is_self(hc, in->identity.id))
			return HV_STATUS_INVALID_PARTITION_ID;
		return in->identity.vp_index < p->vp_count ? HV_STATUS_SUCCESS
							   : HV_STATUS_INVALID_VP_INDEX;
	default:
		return HV_STATUS_INVALID_PARAMETER;
	}
}

static void page_fill(struct partition *p, const struct stats_page *s)
{
	u64 *page = gmem_ptr(p->gmem, s->gpn << PAGE_SHIFT, PAGE_BYTES);

	if (!page)
		return;
	memset(page, 0, PAGE_BYTES);
	if (s->what.type == HV_STATS_HYPERVISOR)
		page[STATS_HV_LOGICAL_PROCESSORS] = p->vp_count;
}

static enum hv_status map_locked(struct partition *p, const struct hv_input_map_stats_page *in,
				 u64 *gpn)
{
	struct root_state *r = &p->root;
	struct stats_page *s = find_locked(r, in);
	enum hv_status status;

	if (s) {
		*gpn = s->gpn;
		return HV_STATUS_SUCCESS;
	}
	if (r->stats_count == STATS_PAGES_MAX)
		return HV_STATUS_NO_RESOURCES;
	s = realloc(r->stats, (r->stats_count + 1) * sizeof(*s));
	if (!s)
		return HV_STATUS_NO_RESOURCES;
	r->stats = s;
	s = &r->stats[r->stats_count];
	status = deposit_take(&p->deposit, DEPOSIT_STATS, gpn);
	if (status != HV_STATUS_SUCCESS)
		return status;
	*s = (struct stats_page){ *in, *gpn };
	r->stats_count++;
	gmem_donate(p->gmem, *gpn << PAGE_SHIFT, 0); /* readable while it is mapped */
	page_fill(p, s);
	return HV_STATUS_SUCCESS;
}

static enum hv_status call_map_stats(struct hypercall *hc)
{
	const struct hv_input_map_stats_page *in = HYPERCALL_IN(hc, struct hv_input_map_stats_page);
	struct partition *p = hc->vp->partition;
	enum hv_status status = check(hc, in);

	if (status != HV_STATUS_SUCCESS)
		return status;
	pthread_mutex_lock(&p->root.lock);
	status = map_locked(p, in, HYPERCALL_OUT(hc, u64));
	pthread_mutex_unlock(&p->root.lock);
	return status;
}

static enum hv_status call_unmap_stats(struct hypercall *hc)
{
	const struct hv_input_map_stats_page *in = HYPERCALL_IN(hc, struct hv_input_map_stats_page);
	struct partition *p = hc->vp->partition;
	struct root_state *r = &p->root;
	struct stats_page *s;

	pthread_mutex_lock(&r->lock);
	s = find_locked(r, in);
	if (s) {
		gmem_donate(p->gmem, s->gpn << PAGE_SHIFT, 1);
		deposit_release(&p->deposit, s->gpn);
		*s = r->stats[--r->stats_count];
	}
	pthread_mutex_unlock(&r->lock);
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
	{ 0 },
};
