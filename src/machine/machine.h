/* SPDX-License-Identifier: MIT */
/*
 * One machine: the partition of a role with its memory, devices and kernel.
 * Create, run, look at the report, destroy.
 */
#ifndef NESTOR_MACHINE_MACHINE_H
#define NESTOR_MACHINE_MACHINE_H

#include "core/partition.h"
#include "machine/boot_linux.h"
#include "machine/error.h"
#include "machine/role.h"

struct machine_config {
	enum role role;
	const char *kernel;
	const char *cmdline;
	struct boot_initrd initrd;
	u32 cpus;
	u64 memory_bytes;
	bool com1_stdio; /* first serial port on standard input and output */
};

/* Why and how a run ended, and what it took. */
struct machine_report {
	enum stop_reason reason;
	int code;
	char text[256];
	char kernel[BOOT_VERSION_BYTES];
	u64 setup_ns;	/* from machine_create() to the first instruction of the guest */
	u64 init_ns;	/* from there to the first program of user space; 0: not seen */
	u64 run_ns;	/* to the end */
	u64 init_exits; /* exits until then */
	u64 exits[ENGINE_EXIT_COUNT], exit_total;
	u64 hypercalls, hypercalls_refused;
	u64 msr_accesses, msr_refused;
	bool crashed;
	struct crash_report crash; /* valid if crashed */
	u64 unclaimed_io;
};

struct machine;

/* -errno with @err filled. */
int machine_create(struct engine *engine, const struct machine_config *cfg, struct machine **out,
		   struct error *err);
/* Runs until the partition stops. -errno if its threads could not be started. */
int machine_run(struct machine *m, struct error *err);
/* Any thread, also a signal-handling one: asks the guest to end, or ends it. */
void machine_stop(struct machine *m, enum stop_reason reason, int code, const char *text);
void machine_power_button(struct machine *m);
void machine_report(struct machine *m, struct machine_report *out);
void machine_destroy(struct machine *m);

/* For per-row tables: the hypervisors of the machine, one, or L1 and L0. */
struct partition *machine_partition(struct machine *m);

const char *machine_exit_name(enum engine_exit_kind kind);

#endif
