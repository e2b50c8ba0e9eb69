/* SPDX-License-Identifier: MIT */
/* Synthetic timers: four per VP. TLFS: timers/synthetic-timers. */
#ifndef NESTOR_CORE_STIMER_H
#define NESTOR_CORE_STIMER_H

#include "base/timer.h"
#include "core/synic.h"
#include "hvdef/vp_state.h"

struct stimer {
	struct vp *vp;
	u32 index;
	/* The engine has it; it is off here. Of who runs the VP, or keeps it from running. */
	bool lent;
	pthread_mutex_t lock; /* guards everything below but the message's queue state */
	u64 config, count;
	u64 due_100ns; /* when it fires next; meaningful while enabled */
	struct timer timer;
	struct message message;
};

void stimer_init(struct stimer *st, struct vp *vp, u32 index);
void stimer_fini(struct stimer *st);
void stimer_reset(struct stimer *st);
/* Its clock goes on after having been stopped. */
void stimer_rearm(struct stimer *st);
/* Register writes; false: the value is refused with #GP. */
bool stimer_write_config(struct stimer *st, u64 value);
bool stimer_write_count(struct stimer *st, u64 value);
u64 stimer_read_config(struct stimer *st);
u64 stimer_read_count(struct stimer *st);

/*
 * stimer_lend.c. A VP's timers are the engine's while it runs, where that can have them; whoever
 * reads or writes one calls them back before, and lends them after. The VP is not in the guest.
 */
void stimers_lend(struct vp *vp);
void stimers_recall(struct vp *vp);
/* For stimer_lend.c: off; and as the engine had it. */
void stimer_off_locked(struct stimer *st);
void stimer_take_back(struct stimer *st, u64 config, u64 count);
/* The engine's raise nothing until the VP runs. */
bool stimers_lent(const struct vp *vp);
/* The next that is lent has the engine's clock set. */
void stimers_clock_changes(struct partition *p);
/* So it is, and all are here. No VP of @p runs. */
void stimers_clock_stops(struct partition *p);

/* For a parent that takes a VP's state along. */
void stimer_state_get(struct stimer *st, struct hv_stimer_state *out);
/* Whether stimer_state_set() takes it. */
bool stimer_state_ok(const struct hv_stimer_state *in);
/* A periodic timer begins a new period. */
void stimer_state_set(struct stimer *st, const struct hv_stimer_state *in);

#endif
