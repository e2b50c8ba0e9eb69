/* SPDX-License-Identifier: MIT */
/*
 * Child partitions: what a parent (root, nested root, L1VH) makes with
 * HvCallCreatePartition. A child is a struct partition like any other, over an
 * engine VM of its own and memory that is mapped from its parent's RAM, page by
 * page. It is a sibling VM: nobody runs it inside its parent's thread.
 *
 * A child's VP has a thread, which waits here (child_vp.c) until nothing holds
 * the VP: explicit suspend, intercept suspend, a hold by a hypercall of the
 * parent, time frozen, the partition not active. What the VP does that the
 * hypervisor does not answer itself becomes an intercept: message into the VP's
 * intercept page, register page filled, intercept suspend set, and one opaque
 * message on SINT 0 of a parent VP.
 *
 * A child's thread never waits for its parent's; a parent's thread may wait for a
 * child's, and only until it has left the guest (bounded).
 */
#ifndef NESTOR_CORE_CHILD_H
#define NESTOR_CORE_CHILD_H

#include "core/hypercall.h"
#include "core/vp.h"
#include "hvdef/child.h"

struct gpa_map;		/* gpa_map.h: which page of the parent is at which GPA */
struct child_ports;	/* child_port.c */
struct child_cpuid;	/* child_cpuid.c */

enum child_state {
	CHILD_CREATED,	 /* properties, deposits */
	CHILD_ACTIVE,	 /* initialized: VPs, memory, ports */
	CHILD_FINALIZED, /* only withdraw and delete */
};

/* What a partition has because another one created it (partition->child). */
struct child {
	struct partition *parent;
	struct list link;     /* of hv->children; under hv->children_lock */
	u32 references;	      /* under hv->children_lock */
	enum child_state state; /* atomic; changed under partition->lock */
	struct refclock clock;
	struct timer_service *timers;
	struct gpa_map *map;

	u64 create_flags; /* HV_CREATE_* */
	u64 disabled_features[2], disabled_xsave;
	u64 synthetic_features; /* property 0x10001 */
	bool unknown_msr_ignored; /* property 0x50017 */
	bool time_frozen;	  /* property 0x30003; under vp_lock */
	u32 processors_per_socket;
	bool gpa_tracking; /* property 0x50005 */

	struct child_ports *ports;
	struct child_cpuid *cpuid;

	/* Guards what holds VPs, here and in struct child_vp. */
	pthread_mutex_t vp_lock;
	pthread_cond_t vp_cond; /* broadcast when a VP parks and when a hold ends */
	u32 holds;		/* of all VPs */
};

/* What a VP has because it is a child's (vp->child). */
struct child_vp {
	struct vp *vp;
	/* Under child->vp_lock. */
	bool explicit_suspend, intercept_suspend;
	bool in_guest; /* the thread is in the engine or handles an exit: registers are its own */
	u32 holds;
	u32 parent_vp; /* of the parent: who resumed it last is told of its next intercept */

	/* The intercept under way: filled by intercept.c on the VP's thread. */
	struct hv_message intercept;
	/* Accesses that failed in a row at one instruction, and no page was found to blame. */
	u64 unexplained_rip;
	u32 unexplained;
	struct message opaque; /* to the parent; done() finds it by container_of */

	u64 register_gpn, intercept_gpn; /* deposited pages of the parent's, ~0: not mapped */
	struct hv_register_page *register_page;
	void *intercept_page;
};

/* The child of the caller with this id, referenced; NULL: the caller has none. */
struct partition *child_get(struct hypercall *hc, u64 id);
void child_put(struct partition *p);

/* The same as HvCallFinalizePartition and HvCallDeletePartition for all children: the end of @parent. */
void children_destroy(struct partition *parent);

/*
 * Parks all VPs of @p: when it returns, none is in the guest or handles an exit,
 * and none will be until the matching release. Nests. Parent's threads only.
 */
void child_hold(struct partition *p);
void child_release(struct partition *p);
/* The same for one VP. */
void child_vp_hold(struct vp *vp);
void child_vp_release(struct vp *vp);

/*
 * Ends the VP's run with the intercept in vp->child->intercept: child_vp.c does
 * the pages, the suspend state and the message. VP thread only.
 */
void child_vp_intercept(struct vp *vp);

static inline bool child_active(const struct partition *p)
{
	return __atomic_load_n(&p->child->state, __ATOMIC_ACQUIRE) == CHILD_ACTIVE;
}

#endif
