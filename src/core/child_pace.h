/* SPDX-License-Identifier: MIT */
/*
 * How long a thread looks for what another is about to do before it sleeps. A child whose monitor
 * answers port by port changes hands twice for each access, and to wake a thread costs more than
 * either side's work. So while runs between intercepts are short, the parent's VP that resumes
 * the child stays in that call until the intercept is there, and the child's thread, while
 * answers are quick, looks for the next resume. Both for as long as some wake-ups cost on this
 * host, and after a time in vain not again until it would have paid.
 */
#ifndef NESTOR_CORE_CHILD_PACE_H
#define NESTOR_CORE_CHILD_PACE_H

#include "base/types.h"

#define PACE_WAKE_UPS 8u       /* to look is worth that many of them, */
#define PACE_LOOK_MIN 20000u   /* but no less, ns, */
#define PACE_LOOK_MAX 1000000u /* and no more */

/* Of one VP. Two threads use it: each field is atomic. */
struct child_pace {
	u64 wake_ns;  /* a mean of what it took to wake the VP's thread; 0: not known yet */
	u64 woken_ns; /* when that was last begun; 0: it is awake */
	u64 resumed_ns, told_ns;
	bool short_run, quick_answer; /* of the last one of each */
};

u64 pace_now_ns(void);

/* The VP is resumed, and its thread, if it sleeps, is about to be woken. */
void pace_resumed(struct child_pace *p, bool asleep);
/* By the VP's thread: it was asleep and goes on. */
void pace_woke(struct child_pace *p);
/* By the VP's thread: its parent is told of an intercept. */
void pace_told(struct child_pace *p);

/* How long to look, in ns; 0: sleep. For the intercept of a VP that is resumed now, and for an
 * answer. */
u64 pace_for_intercept(const struct child_pace *p);
u64 pace_for_answer(const struct child_pace *p);
/* It was in vain. */
void pace_no_intercept(struct child_pace *p);
void pace_no_answer(struct child_pace *p);

#endif
