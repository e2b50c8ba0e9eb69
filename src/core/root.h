/* SPDX-License-Identifier: MIT */
/*
 * What only a partition that owns the hypervisor can do: start processors, map
 * device interrupts, put the machine to sleep, read statistics.
 */
#ifndef NESTOR_CORE_ROOT_H
#define NESTOR_CORE_ROOT_H

#include <pthread.h>

#include "base/timer.h"
#include "hvdef/hypercall.h"

#define DEVICE_INTERRUPTS_MAX 512u
#define STATS_PAGES_MAX	      4096u

struct partition;

struct device_interrupt {
	u64 device_id;
	struct hv_interrupt_entry entry;
};

struct stats_page {
	struct hv_input_map_stats_page what;
	u64 gpn;
	bool deposited;	      /* of the pool; else the caller brought it */
	struct partition *of; /* of a partition's or a VP's page */
};

struct root_state {
	pthread_mutex_t lock; /* guards everything below */
	u64 lps[16];	      /* bitmap of the logical processors that exist */
	bool all_started;
	struct device_interrupt interrupt[DEVICE_INTERRUPTS_MAX];
	u32 interrupt_count;
	struct stats_page *stats;
	u32 stats_count;
	struct timer stats_timer; /* writes the counters anew; armed while there are pages */
	bool stats_timed;
	u32 sleep_state; /* set by property, entered by hypercall */
};

/* All of @p's pages are unmapped: the kernel that read them has said goodbye. */
void stats_end(struct partition *p);
/* No page shows anything of child @p's, nor will: @p is CHILD_FINALIZED. */
void stats_forget(struct partition *p);

/*
 * The kernel of @p ends and may hand over to another (kexec): its device interrupts are
 * unmapped, its statistics pages too, and with the quirk its deposits come back. Not
 * while it has children: they go on, with what is theirs. @p's lock is not held.
 */
void root_kernel_ends(struct partition *p);

void root_init(struct root_state *r);
void root_fini(struct root_state *r);

/* True if @device has mapped an interrupt that looks like this. Any thread. */
bool root_interrupt_mapped(struct partition *p, u64 device_id, u32 low, u32 high);

#endif
