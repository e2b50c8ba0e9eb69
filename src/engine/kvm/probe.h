/* SPDX-License-Identifier: MIT */
/*
 * Is KVM real? That /dev/kvm exists proves nothing: there are KVMs without
 * hardware behind them, which interpret a guest's kernel code, slowly and not all
 * of it. So a small VM runs 64-bit ring-0 code with the instructions that kernels
 * use, and its time is taken.
 */
#ifndef NESTOR_ENGINE_KVM_PROBE_H
#define NESTOR_ENGINE_KVM_PROBE_H

#include "base/types.h"

struct kvm_probe {
	bool present;	   /* /dev/kvm can be opened */
	bool runs;	   /* the probe VM ran, correctly and at the speed of hardware */
	bool usable;	   /* runs, and no capability is missing */
	char reason[256];  /* one sentence, in either case */
	char missing[256]; /* capabilities Nestor needs and this KVM lacks, separated by a blank */
	char lacking[256]; /* those it can do without */
	u32 loop_ps;	   /* picoseconds per instruction of a ring-0 loop */
	u32 exit_ns;	   /* per port write that exits to us */
	u32 elapsed_us;	   /* of the whole probe */
};

/*
 * Probes /dev/kvm in a child process, which is killed after a second: a KVM that
 * hangs cannot hang the caller. Takes some milliseconds. Returns 0 if usable, else
 * a negative errno; @out is filled in either case.
 */
int kvm_probe(struct kvm_probe *out);

#endif
