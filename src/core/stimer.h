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

/* For a parent that takes a VP's state along. */
void stimer_state_get(struct stimer *st, struct hv_stimer_state *out);
/* Whether stimer_state_set() takes it. */
bool stimer_state_ok(const struct hv_stimer_state *in);
/* A periodic timer begins a new period. */
void stimer_state_set(struct stimer *st, const struct hv_stimer_state *in);

#endif
