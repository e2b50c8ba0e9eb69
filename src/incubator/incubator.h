/* SPDX-License-Identifier: MIT */
/*
 * The incubator: on a host without usable KVM a command runs inside an emulated
 * machine that has it, with the same command line, paths, console, signals and
 * exit status. doc/incubator.md tells how.
 */
#ifndef NESTOR_INCUBATOR_INCUBATOR_H
#define NESTOR_INCUBATOR_INCUBATOR_H

#include "base/types.h"

/* What incubator_run() returns when the machine hung while the command ran. */
#define INCUBATOR_HUNG 122

/* What incubator_run() and incubator_exec() return when the command did not run at all. */
#define INCUBATOR_FAILED	 125
#define INCUBATOR_NOT_EXECUTABLE 126
#define INCUBATOR_NOT_FOUND	 127

struct incubator_config {
	char *const *argv; /* NULL-terminated; argv[0] is looked up in PATH, inside */
	u32 cpus;	   /* for the command; 0: as many as the host has, at least 2 */
	u64 memory_bytes;  /* what the command needs, as far as the host has it; 0: default */
	const char *name;  /* for incubator_exec(); NULL: the process id */
};

/* True in a process that runs inside an incubator (environment NESTOR_INSIDE=1). */
bool incubator_inside(void);

/*
 * Runs cfg->argv in an incubator and waits for its end. Standard input, output
 * and error are the caller's; a terminal is put into raw mode and back. Returns
 * the exit status; a death by signal is repeated in this process, so that the
 * parent sees the same. Own failures are told on standard error and return one
 * of the values above. Call it before starting threads.
 *
 * With NESTOR_INCUBATOR_RETRY=N in the environment a command whose machine hung is
 * started again, up to N times, if none of its input was taken; unless standard
 * output is a terminal, output then appears when the command has ended.
 */
int incubator_run(const struct incubator_config *cfg);

/* Makes the saved machine for this configuration now. 0, or INCUBATOR_FAILED. */
int incubator_prepare(const struct incubator_config *cfg);

/*
 * Runs a command in an incubator that some other process of this user started,
 * named @name (its name or process id; NULL: the only one running). Same results
 * as incubator_run().
 */
int incubator_exec(const char *name, char *const *argv);

/*
 * Calls @fn with the name and process id of each running incubator of this user.
 * Returns their number.
 */
int incubator_list(void (*fn)(const char *name, int pid, void *opaque), void *opaque);

/* What is there to run one, for `nestor doctor`. Texts are empty when absent. */
struct incubator_status {
	char cache_dir[512];
	char qemu_path[512];
	char qemu_version[64];
	bool qemu_usable;	/* present and new enough */
	char stock_kernel[512]; /* path of the image */
	char small_kernel[512];
	char saved_dir[512]; /* saved machine that fits the default configuration */
	bool switched_off;   /* NESTOR_INCUBATOR=off */
	u32 cpus;	     /* what a default machine gets */
	u64 memory_bytes;
};

/* Fills @out; true if incubator_run() would find what it needs. */
bool incubator_status(struct incubator_status *out);

#endif
