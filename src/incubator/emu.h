/* SPDX-License-Identifier: MIT */
/*
 * The emulated machine: which QEMU, kernel and saved machine to use (a plan), and
 * one QEMU process (an emu). QEMU never outlives the process that started it.
 */
#ifndef NESTOR_INCUBATOR_EMU_H
#define NESTOR_INCUBATOR_EMU_H

#include "incubator/incubator.h"
#include "incubator/pulse.h"

#include <sys/types.h>

#define EMU_PATH 512

enum emu_policy { EMU_AUTO, EMU_STOCK, EMU_SMALL, EMU_SAVED, EMU_OFF };

struct emu_plan {
	enum emu_policy policy;
	char cache[EMU_PATH];
	char qemu[EMU_PATH];
	char qemu_version[64];
	int qemu_major;
	char kernel[EMU_PATH];
	char modules[EMU_PATH]; /* empty: everything built in */
	bool small;		/* @kernel is the small one */
	u32 cpus;
	u64 memory_bytes;
	char *key;		  /* text of everything a saved machine depends on */
	char saved_dir[EMU_PATH]; /* where it is, or would be */
	bool saved;		  /* it is there */
};

/* How a machine is started. */
enum emu_mode {
	EMU_COLD,    /* boots the kernel */
	EMU_TO_SAVE, /* boots the kernel, with its RAM in a file that will be kept */
	EMU_RESTORE, /* goes on from the saved machine */
};

struct emu {
	pid_t pid;
	int pidfd;
	int agent_fd; /* the port the agent listens on */
	int qmp_fd;
	int log_fd;		       /* the machine's serial console, an anonymous file */
	int stderr_fd;		       /* QEMU's own messages, likewise */
	u32 cpus;		       /* of the machine */
	pid_t cpu_tid[PULSE_MAX_CPUS]; /* QEMU's thread for each; 0: not looked up yet */
};

/* Finds everything. Never fails: what is missing is an empty path. Free with emu_plan_fini(). */
void emu_plan_make(struct emu_plan *p, u32 cpus, u64 memory_bytes);
void emu_plan_fini(struct emu_plan *p);

/* Can a machine be started? If not, says why and what to do in @why. */
bool emu_plan_usable(const struct emu_plan *p, char *why, size_t size);

/*
 * Starts QEMU. @ram_path: RAM file, for EMU_TO_SAVE. 0 or a negative errno. With
 * EMU_RESTORE it returns once the machine runs. Stop it with emu_stop().
 */
int emu_start(struct emu *e, const struct emu_plan *p, enum emu_mode mode, const char *ram_path);

/* Writes the device state of a machine started with EMU_TO_SAVE. 0 or a negative errno. */
int emu_save(struct emu *e, const char *state_path);

/* Prints what QEMU and the machine's console said last, after a failure. */
void emu_explain(const struct emu *e);

/* What the host gave to QEMU's threads so far. */
void emu_sample(struct emu *e, struct pulse_sample *out);

void emu_stop(struct emu *e);

#endif
