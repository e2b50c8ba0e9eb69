/* SPDX-License-Identifier: MIT */
/*
 * A virtual processor. A VP of a nested root has an outer VP: the VP of L0 that
 * runs the same engine vCPU and owns the nested SynIC and the hypercalls with
 * bit 31. The outer VP has no thread of its own.
 */
#ifndef NESTOR_CORE_VP_H
#define NESTOR_CORE_VP_H

#include <pthread.h>
#include <time.h>

#include "core/partition.h"
#include "core/stimer.h"
#include "core/synic.h"

/* What an instruction of the guest raises instead of completing; or its parent completes it. */
enum vp_fault { VP_OK, VP_FAULT_GP, VP_FAULT_UD, VP_INTERCEPTED };

struct hypercall_buffers; /* private input and output pages of the call in flight */

struct vp {
	struct partition *partition;
	u32 index;
	struct engine_vcpu *vcpu;
	struct child_vp *child; /* NULL: not a child's */
	struct vp *outer;	/* of L0; NULL unless this is a nested root's VP */
	struct vp *inner;	/* of an outer VP: whose thread runs it */

	/* Owned by the VP thread. */
	struct hypercall_buffers *buffers;
	u64 assist_msr;
	struct overlay assist_page;
	struct row_count *hypercall_counts; /* by row; read by others without a lock */
	struct row_count *msr_counts;
	u64 unknown_hypercalls, unknown_msrs;
	u64 exits[ENGINE_EXIT_COUNT];
	u64 exit_total;

	/* Shared; each has its own lock. */
	struct synic synic;
	struct stimer stimer[HV_SYNIC_STIMER_COUNT];

	/* Processor time of its thread; atomic: the clock is known. */
	clockid_t runtime_clock;
	bool runtime_known;

	pthread_t thread;
	bool thread_started;

	/* A parent's that dispatches a VP of a child's (child_run.c). */
	pthread_mutex_t dispatch_lock;
	struct vp
		*dispatched; /* atomic; changed under dispatch_lock: its thread runs that one now */
	bool attention;	     /* atomic: there has been an interrupt since it was last looked for */
	bool wanted;	     /* atomic: one came while it was dispatching */
};

/*
 * Creates VP @index of @p over @vcpu (which it does not own) and adds it to
 * p->vps. Indices are given in order from 0. -ENOMEM.
 */
int vp_create(struct partition *p, struct engine_vcpu *vcpu, struct vp **out);
/* The same with an index of the caller's choice, for a child; it owns the vCPU then. */
int vp_create_child(struct partition *p, u32 index, struct engine_vcpu *vcpu,
		    struct child_vp *child, struct vp **out);
void vp_destroy(struct vp *vp);
/* SynIC, timers and pages back to their reset values. */
void vp_reset(struct vp *vp);

/* Starts the VP's thread, which runs until the partition stops. -errno. */
int vp_start(struct vp *vp);
/* The thread has been told to stop (partition_stop): waits for its end. */
void vp_join(struct vp *vp);
/* Handles the exit in vp->vcpu->exit. For the run loop and for tests. */
void vp_handle_exit(struct vp *vp);

/* Raises a fixed, edge interrupt on the VP. Any thread, any lock. */
void vp_interrupt(struct vp *vp, u8 vector);
/* Its thread leaves the guest, or the child's VP that it runs. Any thread, any lock. */
void vp_kick(struct vp *vp);
/* The same, but only out of the child's: there may be an interrupt for @vp. */
void vp_kick_dispatched(struct vp *vp);

/* Guest state of one VP: 100 ns units of its thread's processor time. Own thread only. */
u64 vp_runtime_100ns(void);
/* A VP's thread, as it begins: others may ask how long it ran. */
void vp_runtime_publish(struct vp *vp);
/* Any thread; 0 if the VP's has not begun, or has ended. */
u64 vp_runtime_of(const struct vp *vp);

/* @outer runs the same engine vCPU, for L0. */
static inline void vp_nest(struct vp *vp, struct vp *outer)
{
	vp->outer = outer;
	outer->inner = vp;
}

/* The VP with this index, or NULL. */
static inline struct vp *partition_vp(const struct partition *p, u32 index)
{
	return index < __atomic_load_n(&p->vp_count, __ATOMIC_ACQUIRE)
		       ? __atomic_load_n(&p->vps[index], __ATOMIC_ACQUIRE)
		       : NULL;
}

#endif
