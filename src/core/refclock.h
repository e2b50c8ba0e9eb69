/* SPDX-License-Identifier: MIT */
/*
 * Reference time: 100 ns units since the machine began, derived from the guest
 * TSC exactly as a guest derives it from the reference TSC page, so the MSR and
 * the page never disagree. One per machine: L0 and L1 of a nested root share it.
 * TLFS: timers/partition-reference-time.
 */
#ifndef NESTOR_CORE_REFCLOCK_H
#define NESTOR_CORE_REFCLOCK_H

#include "engine/engine.h"

struct refclock {
	struct engine_vm *vm;
	u64 tsc_hz;
	u64 scale; /* (10^7 << 64) / tsc_hz */
	/* A child's time can be set and stopped by its parent. Atomic. */
	u64 offset; /* added, 100 ns; wraps */
	u64 frozen_tsc;
	bool frozen;
};

/* -EINVAL: the engine does not know its TSC frequency, or it is not above 10 MHz. */
int refclock_init(struct refclock *rc, struct engine_vm *vm);
/* The same for a VM that has no vCPU yet, whose frequency is that of another's. */
void refclock_init_like(struct refclock *rc, struct engine_vm *vm, const struct refclock *other);
/* The guest's TSC: the engine's, unless time is frozen. */
u64 refclock_tsc(const struct refclock *rc);
bool refclock_frozen(const struct refclock *rc);
/* Stops, and goes on from there; no vCPU of its VM runs. One thread at a time. -errno of thaw. */
void refclock_freeze(struct refclock *rc);
int refclock_thaw(struct refclock *rc);
/* Reference time is this now; the TSC is another, and reference time goes on. The same. */
void refclock_set_100ns(struct refclock *rc, u64 now);
int refclock_set_tsc(struct refclock *rc, u64 tsc);
u64 refclock_now_100ns(const struct refclock *rc);
/* For timer_service_create(): the same clock in nanoseconds. @ctx: struct refclock. */
u64 refclock_now_ns(void *ctx);

#endif
