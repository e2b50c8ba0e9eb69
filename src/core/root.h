/* SPDX-License-Identifier: MIT */
/*
 * What only a partition that owns the hypervisor can do: start processors, map
 * device interrupts, put the machine to sleep, read statistics.
 */
#ifndef NESTOR_CORE_ROOT_H
#define NESTOR_CORE_ROOT_H

#include <pthread.h>

#include "hvdef/hypercall.h"

#define DEVICE_INTERRUPTS_MAX 512u
#define STATS_PAGES_MAX	      4096u

struct device_interrupt {
	u64 device_id;
	struct hv_interrupt_entry entry;
};

struct stats_page {
	struct hv_input_map_stats_page what;
	u64 gpn;
};

struct root_state {
	pthread_mutex_t lock; /* guards everything below */
	u64 lps[16];	      /* bitmap of the logical processors that exist */
	bool all_started;
	struct device_interrupt interrupt[DEVICE_INTERRUPTS_MAX];
	u32 interrupt_count;
	struct stats_page *stats;
	u32 stats_count;
	u32 sleep_state; /* set by property, entered by hypercall */
};

struct partition;

void root_init(struct root_state *r);
void root_fini(struct root_state *r);

/* True if @device has mapped an interrupt that looks like this. Any thread. */
bool root_interrupt_mapped(struct partition *p, u64 device_id, u32 low, u32 high);

#endif
