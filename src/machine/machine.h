/* SPDX-License-Identifier: MIT */
/*
 * One machine: the partition of a role with its memory, devices and kernel.
 * Create, run, look at the report, destroy.
 */
#ifndef NESTOR_MACHINE_MACHINE_H
#define NESTOR_MACHINE_MACHINE_H

#include "core/fail.h"
#include "core/partition.h"
#include "machine/boot_linux.h"
#include "machine/error.h"
#include "machine/role.h"
#include "machine/vmbus_devices.h"

struct machine_config {
	const char *name; /* MAC addresses are derived from it; NULL: it has none of its own */
	enum role role;
	const char *kernel;
	const char *cmdline;
	struct boot_initrd initrd;
	u32 cpus;
	u64 memory_bytes;
	u64 began_ns;	  /* CLOCK_MONOTONIC when the program began; 0: with machine_create() */
	bool quirks_auto; /* whatever the kernel's release needs; else exactly quirks */
	u32 quirks;
	bool nested_vectors_reserved; /* L0 takes only 0x31-0x34 on a SINT of a nested root */
	bool nested_vps_reversed;     /* L0 numbers a nested root's VPs from the last one */
	bool root_scheduler;	      /* children's VPs are dispatched by their parent */
	bool donated_ignore;	      /* a root may touch pages it has deposited */
	struct fail_rules *fails;     /* NULL: none. Outlives the machine, and keeps the counts */
	const struct net_spec *nets;
	u32 net_count;
	const struct disk_config *disks;
	u32 disk_count;
	const char *vsock_path;
	bool com1_stdio; /* first serial port on standard input and output */
};

/* Why and how a run ended, and what it took. */
struct machine_report {
	enum stop_reason reason;
	int code;
	char text[256];
	char kernel[BOOT_VERSION_BYTES];
	u64 setup_ns;	  /* from machine_config's began_ns to the first instruction of the guest */
	u64 setup_cpu_ns; /* processor time of the process until then */
	u64 init_ns;	  /* from there to the first program of user space; 0: not seen */
	u64 run_ns;	  /* to the end */
	u64 init_exits;	  /* exits until then */
	u64 exits[ENGINE_EXIT_COUNT], exit_total;
	u64 hypercalls, hypercalls_refused;
	u64 msr_accesses, msr_refused;
	bool crashed;
	struct crash_report crash; /* valid if crashed */
	u64 unclaimed_io;
};

/* One row of the routing table: who served a hypercall or register, and how often. */
struct machine_route {
	const char *name;
	bool hypercall;		  /* else an MSR */
	u64 own, own_refused;	  /* by the partition's hypervisor (L1) */
	u64 forwarded;		  /* of own and own_refused: passed on to L0 by a quirk */
	u64 outer, outer_refused; /* by L0 */
};
#define MACHINE_ROUTES_MAX 192

struct machine;

/* -errno with @err filled. */
int machine_create(struct engine *engine, const struct machine_config *cfg, struct machine **out,
		   struct error *err);
/* Runs until the partition stops. -errno if its threads could not be started. */
int machine_run(struct machine *m, struct error *err);
/* Any thread, also a signal-handling one: asks the guest to end, or ends it. */
void machine_stop(struct machine *m, enum stop_reason reason, int code, const char *text);
/*
 * By the shutdown service, or the power button where nobody listens to it, or where
 * it was asked before. True: by the service. Any thread.
 */
bool machine_ask_power_off(struct machine *m);
void machine_report(struct machine *m, struct machine_report *out);
void machine_destroy(struct machine *m);

/* For per-row tables: the hypervisors of the machine, one, or L1 and L0. */
struct partition *machine_partition(struct machine *m);
struct partition *machine_outer(struct machine *m); /* L0's; NULL unless nested */

/* Rows with a count, hypercalls first, in table order. Any thread. Returns their number. */
u32 machine_routes(struct machine *m, struct machine_route *out, u32 max);
/* Quirks in effect, and how often each was used. */
u32 machine_quirks(struct machine *m, u64 uses[QUIRK_COUNT]);
/* What was to fail on purpose, with counts so far; NULL: nothing. */
const struct fail_rules *machine_fails(struct machine *m);
/* DEPOSIT accounting of the partition. */
struct deposit_info machine_deposits(struct machine *m);
/* What is mapped for the kernel, and messages that wait for it, of both hypervisors. */
struct machine_held {
	u32 interrupts, stats_pages, messages;
};
struct machine_held machine_held(struct machine *m);

u64 machine_uptime_ns(struct machine *m);
/* Kernel release once it is known; the image's name otherwise is the caller's to say. */
const char *machine_release(struct machine *m);
/* NULL: the role has no VMBus. */
struct vmbus_server *machine_vmbus(struct machine *m);
struct vmbus_devices *machine_devices(struct machine *m);

const char *machine_exit_name(enum engine_exit_kind kind);

#endif
