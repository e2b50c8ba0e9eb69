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
};

/* -EINVAL: the engine does not know its TSC frequency, or it is not above 10 MHz. */
int refclock_init(struct refclock *rc, struct engine_vm *vm);
u64 refclock_now_100ns(const struct refclock *rc);
/* For timer_service_create(): the same clock in nanoseconds. @ctx: struct refclock. */
u64 refclock_now_ns(void *ctx);

#endif
