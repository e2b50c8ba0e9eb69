/* SPDX-License-Identifier: MIT */
/*
 * What a hypervisor has in it: its partitions, their processors, the pages and ports
 * they hold, what they have counted. For people and for tests that want to see that
 * everything is back; nothing here decides anything.
 */
#ifndef NESTOR_CORE_CENSUS_H
#define NESTOR_CORE_CENSUS_H

#include "core/child.h"

struct census_vp {
	u32 index;
	const char *state; /* "running", "suspended", "intercepted", "held", "ended" */
	u64 exits, intercepts;
	u64 runtime_100ns; /* of processor time; 0: its thread does not run */
};

struct census {
	const char *hypervisor;
	u64 id, parent; /* parent 0: not made by a hypercall */
	const char *state;
	u64 exits, intercepts[INTERCEPT_KINDS], intercept_total;
	struct deposit_info pool;
	u64 mapped;	      /* pages of its parent's in its address space; 0 without a parent */
	u32 ports, connected; /* made by its parent for it, and those it can ring */
	u32 vp_count;	      /* rows that follow; deleted VPs are none */
	struct census_vp vp[PARTITION_VPS_MAX];
};

/* A partition that is not a child: the caller knows that it stays. Any thread. */
void census_of(struct partition *p, struct census *out);
/*
 * The child of @parent with the lowest id above @after; false: there is none. What is
 * in it was true while it was read. Any thread; waits for a hypercall that maps memory.
 */
bool census_child(struct partition *parent, u64 after, struct census *out);

/* Totals since the hypervisor began. */
struct child_totals census_totals(struct hypervisor *hv);
/*
 * Calls that @p has made of those that only a parent may make: for one hypervisor the
 * price of its children, set-up included.
 */
u64 census_parent_calls(const struct partition *p);

/* One more intercept of @vp with this message. VP thread. */
void census_intercept(struct vp *vp, u32 message_type);
const char *census_intercept_name(enum intercept_kind kind);

#endif
