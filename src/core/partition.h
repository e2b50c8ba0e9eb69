/* SPDX-License-Identifier: MIT */
/*
 * A hypervisor instance and its partitions. L0 and L1 of a nested root are two
 * struct hypervisor; the nested root is a partition of L1 and the machine that
 * contains L1 is a partition of L0, its outer partition. Both name the same
 * memory and the same engine vCPUs.
 *
 * Lock order: partition->lock, then vp locks, then synic->lock, then
 * overlay_lock, then an overlay's own. No lock is held across engine_vcpu_run() or an
 * up-going op.
 */
#ifndef NESTOR_CORE_PARTITION_H
#define NESTOR_CORE_PARTITION_H

#include <pthread.h>

#include "base/timer.h"
#include "base/trace.h"
#include "core/deposit.h"
#include "core/overlay.h"
#include "core/quirk.h"
#include "core/refclock.h"
#include "core/root.h"
#include "hvdef/cpuid.h"
#include "hvdef/msr.h"
#include "mem/gmem.h"

#define PARTITION_VPS_MAX 1024
#define CONNECTION_HASH	  256

struct child;
struct child_ports;
struct connection;
struct fail_rules;
struct vp;

/* Intercepts of children by kind; a row each in core/census.c. */
enum intercept_kind {
	INTERCEPT_IO,
	INTERCEPT_MSR,
	INTERCEPT_UNMAPPED, /* MMIO, mostly */
	INTERCEPT_GPA,
	INTERCEPT_EOI,
	INTERCEPT_HYPERCALL,
	INTERCEPT_SINT,
	INTERCEPT_UNRECOVERABLE, /* triple fault, or the parent resumed what cannot go on */
	INTERCEPT_REGISTERS,
	INTERCEPT_OTHER,
	INTERCEPT_KINDS,
};

/* What children a hypervisor has had. Atomic; objects count as destroyed when they are freed. */
struct child_totals {
	u64 created, destroyed;
	u64 left; /* of those destroyed: their parent ended before it deleted them */
	u64 vps_created, vps_destroyed;
	u64 intercepts[INTERCEPT_KINDS];
};

struct hypervisor {
	const char *name; /* "hv", "L0", "L1": who served a call, in traces and tables */
	struct refclock *clock;
	struct timer_service *timers;
	u64 next_partition_id;	       /* atomic */
	pthread_mutex_t children_lock; /* guards: children, their references */
	struct list children;	       /* struct child */
	struct child_totals child_totals;
	/* What a child's VP may have at most: the engine's processor. Set by the machine. */
	struct engine *engine;
	const struct engine_cpuid *child_cpuid;
	u32 child_cpuid_count;
	/* A child's VP is run by the call of its parent's that dispatches it (child_run.c). */
	bool root_scheduler;
};

void hypervisor_init(struct hypervisor *hv, const char *name, struct refclock *clock,
		     struct timer_service *timers);

/* Why a partition stopped. The first reason given stays. */
enum stop_reason {
	STOP_NONE,
	STOP_POWER_OFF,
	STOP_RESET, /* the guest asked for a reset */
	STOP_PANIC, /* the guest reported a crash */
	STOP_TRIPLE_FAULT,
	STOP_GUEST_ERROR, /* the guest did what cannot be answered */
	STOP_EXIT,	  /* the guest's command ended; stop_code is its status */
	STOP_TIMEOUT,
	STOP_KILLED, /* by the operator */
	STOP_HOST_ERROR,
};

/* The guest's panic report (crash MSRs). */
struct crash_report {
	u64 parameter[HV_CRASH_PARAMETER_COUNT];
	u64 control;
	u32 message_bytes;
	char message[4096]; /* the kernel's text; not terminated */
};

/* Notifications that go up. Called without locks, on the thread of the VP that caused them. */
struct partition_ops {
	/* Port and memory-mapped I/O; the answer goes into the exit. */
	void (*io)(void *ctx, struct vp *vp, struct engine_exit *exit);
	/* An IO-APIC vector was acknowledged. */
	void (*eoi)(void *ctx, struct vp *vp, u8 vector);
	/* The guest reported a crash. It goes on running: it may still write a dump or reset. */
	void (*crash)(void *ctx, struct vp *vp, const struct crash_report *report);
	/* The partition has a stop reason now: make its VP threads end. */
	void (*stopped)(void *ctx, struct partition *p);
	/* May be NULL. What root_interrupt_mapped() says of this device has changed. */
	void (*interrupts_changed)(void *ctx, u64 device_id);
};

/* How often a row of a dispatcher's table was used. */
struct row_count {
	u64 served, refused;
	u64 forwarded; /* of those served: by passing the call on to L0 (a quirk) */
};

struct partition_config {
	u64 privileges;	  /* HV_PRIV_*: the mask that gates rows is the one CPUID shows */
	u32 features_edx; /* HV_FEATURE_* */
	u32 hints;	  /* HV_HINT_* */
	u32 max_vps, max_lps;
	u32 build;		  /* version shown */
	u8 physical_bits;	  /* of the guest physical address space */
	u32 quirks;		  /* bits of enum quirk_id */
	bool lends_timers;	  /* to the engine: its VM has them (core/stimer_lend.c) */
	struct fail_rules *fails; /* NULL: no call fails on purpose. Outlives the partition */
	u8 sint_first, sint_last; /* vectors a SINT may have; 0: any (from 16) */
	/*
	 * Not 0: pages the hypervisor chooses (root roles) start here, one page for
	 * the hypercall page, one for the TSC page, then HV_PAGES_PER_VP per VP. The
	 * range is backed by memory of GMEM_RESERVED. 0: the guest brings its pages.
	 */
	u64 hv_pages_gpa;
};

/* Order of the pages the hypervisor chooses. */
enum hv_page { HV_PAGE_ASSIST, HV_PAGE_SIMP, HV_PAGE_SIEFP, HV_PAGE_SIRBP, HV_PAGES_PER_VP };
#define HV_PAGES_SHARED 2 /* hypercall, TSC */

struct partition {
	struct hypervisor *hv;
	u64 id;
	struct partition_config config;
	struct gmem *gmem;
	struct engine_vm *vm;
	const struct partition_ops *ops;
	void *ctx;

	struct partition *inner;   /* of L0: the nested root's partition of L1; else NULL */
	struct child *child;	   /* NULL: not made by a hypercall */
	struct child_ports *ports; /* atomic; its ports for its children, NULL until the first */
	/* Its time; the hypervisor's unless it is a child. */
	struct refclock *clock;
	struct timer_service *timers;

	/*
	 * By VP index; filled before any VP runs, but for a child's: those come while others
	 * run, in any order, and stay. Atomic there; partition_vp().
	 */
	struct vp **vps;
	u32 vp_count;

	bool lends_timers; /* atomic: it still does; written under lock */

	pthread_mutex_t lock; /* guards: the registers below, crash, stop, counts_lent */
	bool counts_lent;     /* the engine has its clock, and takes the counts that guests write */
	u64 guest_os_id;
	u64 hypercall_msr;
	u64 tsc_msr;
	u64 tsc_invariant;
	u32 tsc_sequence;
	bool hypercall_enabled; /* atomic: read on every hypercall */
	struct overlay hypercall_page, tsc_page;
	struct crash_report crash;
	enum stop_reason stop; /* atomic */
	int stop_code;
	char stop_text[256];

	pthread_mutex_t overlay_lock; /* guards: overlays, and which of them is seen */
	struct list overlays;

	struct deposit deposit;
	struct root_state root;
	u64 quirk_uses[QUIRK_COUNT]; /* atomic */
	bool rings_doorbells;	     /* it has a VMBus; set before any VP runs */
	struct row_count doorbells;  /* atomic: calls of SIGNAL_EVENT that no VP has counted */

	pthread_rwlock_t connections_lock;
	struct connection *connections[CONNECTION_HASH];
};

/* -ENOMEM. @ops, @gmem and @vm outlive the partition. */
int partition_create(struct hypervisor *hv, const struct partition_config *cfg, struct gmem *gmem,
		     struct engine_vm *vm, const struct partition_ops *ops, void *ctx,
		     struct partition **out);
/* No VP thread runs any more, and the timer service is stopped. Destroys the VPs. */
void partition_destroy(struct partition *p);

/* Records the first reason and tells the owner. @fmt: a sentence for the operator. Any thread. */
void partition_stop(struct partition *p, enum stop_reason reason, int code, const char *fmt, ...)
	PRINTF_FMT(4, 5);
static inline enum stop_reason partition_stop_reason(const struct partition *p)
{
	return __atomic_load_n(&p->stop, __ATOMIC_ACQUIRE);
}

/* Where the hypervisor places a page of VP @index; 0 when the guest chooses. */
u64 partition_hv_page_gpa(const struct partition *p, u32 index, enum hv_page page);
/* Bytes of the range at hv_pages_gpa. */
static inline u64 hv_pages_bytes(u32 max_vps)
{
	return (HV_PAGES_SHARED + (u64)max_vps * HV_PAGES_PER_VP) * PAGE_BYTES;
}

/* Registers and pages of the whole partition back to their values at creation (guest reset). */
void partition_reset(struct partition *p);

/* The partition's clock was set: so says its reference TSC page. Its VPs do not run. */
void partition_tsc_page_refresh(struct partition *p);

/* True, and counted, if the quirk is on. */
static inline bool partition_quirk(struct partition *p, enum quirk_id id)
{
	if (likely(!(p->config.quirks & BIT(id))))
		return false;
	__atomic_fetch_add(&p->quirk_uses[id], 1, __ATOMIC_RELAXED);
	return true;
}

static inline bool partition_has(const struct partition *p, u64 privileges)
{
	return (p->config.privileges & privileges) == privileges;
}

#endif
