/* SPDX-License-Identifier: MIT */
/*
 * The synthetic MSRs: one row per register or block, in the file that keeps its
 * state; msr.c lists the arrays and dispatches. TLFS: appendix "Synthetic MSRs".
 */
#ifndef NESTOR_CORE_MSR_H
#define NESTOR_CORE_MSR_H

#include "core/vp.h"

/*
 * @i is the register's offset in its row. The VP is that of the hypervisor the
 * register belongs to: for a nested number the outer VP.
 */
typedef enum vp_fault (*msr_read_fn)(struct vp *vp, u32 i, u64 *value);
typedef enum vp_fault (*msr_write_fn)(struct vp *vp, u32 i, u64 value);

struct msr_desc {
	u32 base, count;
	const char *name;
	msr_read_fn read;   /* NULL: a guest read is #GP */
	msr_write_fn write; /* NULL: a guest write is #GP */
	u64 privilege;	    /* HV_PRIV_* needed, all of them */
	u32 feature;	    /* HV_FEATURE_* needed */
	bool pairs;	    /* the block alternates configuration and count registers */
	bool engines;	    /* the engine's: what comes here may not use it */
	bool nested;	    /* also at base + 0x1000, for L0's instance */
};

/* Executes RDMSR or WRMSR of the guest on @vp: routing, privilege, handler, counters. */
enum vp_fault msr_read(struct vp *vp, u32 index, u64 *value);
enum vp_fault msr_write(struct vp *vp, u32 index, u64 value);

/*
 * Whether an access of @vp's is the hypervisor's to answer, if only by #GP: the register
 * is one that @vp may use, or one that is never written. False: none, or not for @vp.
 */
bool msr_is_served(struct vp *vp, u32 index, bool write);

/*
 * The register of @vp as its parent sees it, whatever @vp itself may do: what cannot
 * be read is zero, what cannot be written stays. VP_FAULT_GP: no such register, or no
 * value for it. @vp is held.
 */
enum vp_fault msr_peek(struct vp *vp, u32 index, u64 *value);
enum vp_fault msr_poke(struct vp *vp, u32 index, u64 value);

/* "SINT2", "NESTED_SIMP", or NULL. The pointer is valid for the life of the process. */
const char *msr_name(u64 index);

/* All rows, for tests, counters and documents. The order is stable within a process. */
const struct msr_desc *msr_row(u32 row);
u32 msr_row_count(void);
/* How the VPs of @p have used it. */
struct row_count msr_row_used(const struct partition *p, u32 row);

#endif
