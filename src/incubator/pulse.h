/* SPDX-License-Identifier: MIT */
/*
 * Is the machine alive? The agent counts beats of a thread on each CPU; QEMU's
 * threads tell what the host gave them meanwhile. A CPU that does not beat although
 * it had its share of the host has hung; one that had no share has not.
 */
#ifndef NESTOR_INCUBATOR_PULSE_H
#define NESTOR_INCUBATOR_PULSE_H

#include "base/types.h"

#define PULSE_MAX_CPUS	  64
#define PULSE_INTERVAL_MS 1000
/* Silent for so long, and meanwhile so long on a host CPU, or asleep while it could have run. */
#define PULSE_SILENT_MS 20000
#define PULSE_RAN_MS	8000
#define PULSE_ASLEEP_MS 60000

/* What the host did for QEMU's thread of one CPU since it started. */
struct pulse_thread {
	u64 ran_ms;
	u64 waited_ms; /* ready to run, but others ran */
};

struct pulse_sample {
	bool stopped; /* by a signal or a debugger, all of QEMU */
	u32 cpus;     /* entries of thread[] */
	struct pulse_thread thread[PULSE_MAX_CPUS];
};

struct pulse_cpu {
	u32 beats;
	u64 silent_ms, ran_ms, waited_ms; /* since its last beat */
};

struct pulse {
	u64 last_ms;
	struct pulse_sample last;
	struct pulse_cpu cpu[PULSE_MAX_CPUS];
};

void pulse_init(struct pulse *p, u64 now_ms);

/* The agent's counters, one per CPU. */
void pulse_beats(struct pulse *p, const u32 *beats, u32 cpus);

/* Takes in what happened since the last call. The number of a CPU that hangs, or -1. */
int pulse_check(struct pulse *p, u64 now_ms, const struct pulse_sample *s);

#endif
