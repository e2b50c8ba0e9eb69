/* SPDX-License-Identifier: MIT */
/*
 * Child partitions: what a parent (root, nested root, L1VH) makes with
 * HvCallCreatePartition. A child is a struct partition like any other, over an
 * engine VM of its own and memory that is mapped from its parent's RAM, page by
 * page. It is a sibling VM.
 *
 * A child's VP has a thread, which waits here (child_run.c) until nothing holds
 * the VP: explicit suspend, intercept suspend, a hold by a hypercall of the
 * parent, time frozen, the partition not active. What the VP does that the
 * hypervisor does not answer itself becomes an intercept: message into the VP's
 * intercept page, register page filled, intercept suspend set, and one opaque
 * message on SINT 0 of a parent VP. With the root scheduler the thread of a parent's VP runs
 * the VP while that one dispatches it (child_run.c).
 *
 * A child's thread never waits for its parent's; a parent's thread may wait for a
 * child's, and only until it has left the guest (bounded).
 */
#ifndef NESTOR_CORE_CHILD_H
#define NESTOR_CORE_CHILD_H

#include "core/gpa_map.h"
#include "core/hypercall.h"
#include "core/vp.h"
#include "hvdef/child.h"

struct child_cpuid; /* child_cpuid.c */

/* A level-triggered interrupt whose EOI the engine reports. */
struct child_level {
	u64 address;
	u32 data;
};
#define CHILD_LEVELS_MAX 24u /* of struct engine_ops.vm_ioapic_route */

/* A register whose accesses are its parent's, though the engine would serve it. */
struct child_msr {
	u32 index;
	u32 access; /* HV_INTERCEPT_ACCESS_MASK_* */
};
#define CHILD_MSRS_MAX 64u

enum child_state {
	CHILD_CREATED,	 /* properties, deposits */
	CHILD_ACTIVE,	 /* initialized: VPs, memory, ports */
	CHILD_FINALIZED, /* only withdraw and delete */
};

#define CHILD_VPS_MAX 256u /* Linux's MSHV_MAX_VPS */
#define CHILDREN_MAX  256u /* of one hypervisor */

/* What a partition has because another one created it (partition->child). */
struct child {
	struct partition *partition, *parent;
	struct list link;	/* of hv->children; under hv->children_lock */
	u32 references;		/* under hv->children_lock */
	enum child_state state; /* atomic; changed under partition->lock */
	struct refclock clock;
	struct timer_service *timers;
	struct gpa_map *map;
	u64 parent_gpn; /* the page of the parent's pool that pays for it */
	/* One at a time: creating or deleting a VP, the end. Child threads never take it. */
	pthread_mutex_t life_lock;

	u64 create_flags; /* HV_CREATE_* */
	u64 disabled_features[2], disabled_xsave;
	u64 synthetic_features;	  /* property 0x10001 */
	bool unknown_msr_ignored; /* property 0x50017 */
	bool time_frozen;	  /* property 0x30003; under vp_lock */
	u32 processors_per_socket;
	bool gpa_tracking; /* property 0x50005 */

	struct child_cpuid *cpuid; /* NULL until the first result is registered */
	u32 intercepts;		   /* atomic: bits by enum hv_intercept_type */
	/* What of registers the parent is told. Changed under life_lock with all VPs held, whose
	 * threads read it. */
	u32 msr_access; /* HV_INTERCEPT_ACCESS_MASK_*, of those that nobody serves */
	struct child_msr msr[CHILD_MSRS_MAX];
	u32 msrs;

	pthread_mutex_t level_lock; /* guards what follows; held over a change of routes */
	struct child_level level[CHILD_LEVELS_MAX];
	u32 levels; /* routes made so far; beyond the maximum the oldest goes */

	/* Guards what holds VPs, here and in struct child_vp. */
	pthread_mutex_t vp_lock;
	pthread_cond_t vp_cond; /* broadcast when a VP parks */
	u32 holds;		/* of all VPs */
	bool ending;		/* threads end */
};

/* What a VP has because it is a child's (vp->child). */
struct child_vp {
	struct vp *vp;
	/* Recursive; held with child_vp_hold(): one thread of the parent's at a time. */
	pthread_mutex_t access;
	u64 pool_gpn[DEPOSIT_VP]; /* pages that pay for it; under life_lock */
	pthread_cond_t wake;	  /* what its thread waits for while it may not run; with vp_lock */
	struct insn_memo *memo;	  /* whose are the registers, is this; may be NULL */
	/* Under child->vp_lock. */
	bool explicit_suspend, intercept_suspend;
	bool in_guest; /* a thread is in the engine or handles an exit: registers are its own */
	/* The root scheduler. Without it the VP is always on its own. */
	bool on_its_own; /* its own thread may run it: it has halted, and so its parent was told */
	bool dispatch_suspend; /* it is not dispatched any more, nor its parent signalled */
	bool signal_resume;    /* its parent was told that it is explicitly suspended */
	struct vp *dispatcher; /* whose thread runs it, if not its own */
	bool slice_over;       /* atomic: of the dispatch under way, if it has one */
	struct timer slice;    /* its service is NULL until the first */
	u64 signals;	       /* atomic: told to its parent, so far */
	u64 dispatched_100ns;  /* atomic: run by threads of its parent's */
	bool deleted;	       /* by HvCallDeleteVp: its thread ends; it may be created again */
	u32 holds;
	bool cpuid_final; /* atomic: the engine has its list */
	/* Owned by who owns the registers. */
	bool has_run;
	struct gpa_ask ask; /* VP thread */
	u64 ask_rip;	    /* where the VP stood when its parent was asked; ~0: it was not */
	bool shut_down;	    /* by a triple fault: until the parent sets registers */
	bool sregs_pending; /* @sregs were set and the engine does not take them yet */
	struct engine_sregs sregs;
	u64 emulation_hints;
	u32 parent_vp; /* of the parent: who resumed it last is told of its next intercept */

	u64 intercepts[INTERCEPT_KINDS]; /* so far; atomic */
	/* The intercept under way: filled by intercept.c on the VP's thread. */
	struct hv_message intercept;
	/* Accesses that failed in a row at one instruction, and no page was found to blame. */
	u64 unexplained_rip;
	u32 unexplained;
	struct message notice; /* to the parent; done() finds it by container_of */
	struct vp *notice_vp;  /* of the parent: who has it, or had it last */

	u64 register_gpn, intercept_gpn; /* deposited pages of the parent's, ~0: not mapped */
	void *register_page;		 /* struct hv_register_page */
	void *intercept_page;
};

/*
 * The child of the caller with this id, referenced; NULL: the caller has none. The
 * partition and its VPs (struct vp) stay until the matching put, though the
 * child may be finalized meanwhile: what takes pages of its pool is refused then.
 */
struct partition *child_get(struct hypercall *hc, u64 id);
void child_put(struct partition *p);

/* The same as HvCallFinalizePartition and HvCallDeletePartition for all children: the end of
 * @parent. */
void children_destroy(struct partition *parent);

/*
 * Parks all VPs of @p: when it returns, none is in the guest or handles an exit,
 * and none will be until the matching release. Nests. Parent's threads only.
 */
void child_hold(struct partition *p);
void child_release(struct partition *p);
/*
 * The same for one VP; its registers are the caller's then, and no other parent
 * thread's. A thread holds one VP at a time.
 */
void child_vp_hold(struct vp *vp);
void child_vp_release(struct vp *vp);

/* Starts its own thread. -errno. */
int child_run_start(struct vp *vp);
/* The VP or its partition is marked as ending: kicks whoever runs it, and its thread has ended. */
void child_run_end(struct vp *vp);
/* A thread of its parent's runs it. That thread only. */
bool child_vp_dispatched(const struct vp *vp);
/* Held. Signals the parent that was told of the explicit suspend, if it has ended. */
void child_vp_signal_resume(struct vp *vp);

/*
 * Ends the VP's run with the intercept in vp->child->intercept: child_run.c does
 * the pages, the suspend state and the message. VP thread only, which touches
 * nothing of the VP afterwards: it is parked.
 */
void child_vp_intercept(struct vp *vp);

/* VP @index of @p if it exists (deleted ones do not), or NULL. */
struct vp *child_vp(struct partition *p, u32 index);
/* HvCallCreateVp for another partition than the caller's. */
enum hv_status child_create_vp(struct hypercall *hc, const struct hv_input_create_vp *in);
/* child->ending is set: waits for all threads. Under life_lock. */
void child_vps_end(struct partition *p);
/* Frees what vp_destroy() does not know. */
void child_vp_free(struct vp *vp);
/* For partition_destroy(): the last of the child, but for the partition. */
void child_free(struct partition *p);

/* The VP is held, or the caller is its thread (child_page.c). */
void child_state_pages_unmap(struct vp *vp);
void child_register_page_fill(struct vp *vp);
/* Only the general registers have changed since it was filled: asks the engine nothing. */
void child_register_page_fill_general(struct vp *vp);
/* Takes over what the parent marked as changed in the register page. */
void child_register_page_apply(struct vp *vp);
/*
 * The VP's special registers as its parent has set them. The engine gets them with
 * child_sregs_flush(), which is false while they make no sense together.
 */
int child_sregs_get(struct vp *vp, struct engine_sregs *out);
void child_sregs_set(struct vp *vp, const struct engine_sregs *in);
bool child_sregs_flush(struct vp *vp);
/* Before its processor is touched for the first time: it is one with the CPUID asked for so far. */
void child_vp_prepare(struct vp *vp);
/* By its parent or by an intercept; held. */
bool child_vp_suspended(struct vp *vp);
/* HvRegisterPendingInterruption into @e; false: not an event that can be. */
bool child_event_from(u64 pending, struct engine_events *e);
/* Registers HvRegisterPendingInterruption and HvRegisterInterruptState. */
void child_events_get(struct vp *vp, u64 *pending, u64 *state);

/* The engine cannot go on with @vp: ends the child's run, and tells log and parent. VP thread only.
 */
void child_vp_fail(struct vp *vp, const char *what, u64 code);

static inline bool child_active(const struct partition *p)
{
	return __atomic_load_n(&p->child->state, __ATOMIC_ACQUIRE) == CHILD_ACTIVE;
}

#endif
