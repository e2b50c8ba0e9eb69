// SPDX-License-Identifier: MIT
#include "core/child_pace.h"

#include <time.h>

#define GET(p, field)	     __atomic_load_n(&(p)->field, __ATOMIC_RELAXED)
#define SET(p, field, value) __atomic_store_n(&(p)->field, value, __ATOMIC_RELAXED)

u64 pace_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (u64)ts.tv_sec * 1000000000u + (u64)ts.tv_nsec;
}

static u64 worth_ns(const struct child_pace *p)
{
	u64 ns = GET(p, wake_ns) * PACE_WAKE_UPS;

	return !ns ? 0 : ns < PACE_LOOK_MIN ? PACE_LOOK_MIN : min_u64(ns, PACE_LOOK_MAX);
}

void pace_resumed(struct child_pace *p, bool asleep)
{
	u64 now = pace_now_ns();

	SET(p, quick_answer, now - GET(p, told_ns) <= worth_ns(p));
	SET(p, resumed_ns, now);
	SET(p, woken_ns, asleep ? now : 0);
}

void pace_woke(struct child_pace *p)
{
	u64 began = GET(p, woken_ns), mean = GET(p, wake_ns), took;

	if (!began)
		return;
	took = pace_now_ns() - began;
	SET(p, woken_ns, 0);
	SET(p, wake_ns, mean ? mean - mean / 8 + took / 8 : took);
}

void pace_told(struct child_pace *p)
{
	u64 now = pace_now_ns();

	SET(p, short_run, now - GET(p, resumed_ns) <= worth_ns(p));
	SET(p, told_ns, now);
}

u64 pace_for_intercept(const struct child_pace *p)
{
	return GET(p, short_run) ? worth_ns(p) : 0;
}

u64 pace_for_answer(const struct child_pace *p)
{
	return GET(p, quick_answer) ? worth_ns(p) : 0;
}

void pace_no_intercept(struct child_pace *p)
{
	SET(p, short_run, false);
}

void pace_no_answer(struct child_pace *p)
{
	SET(p, quick_answer, false);
}
