// SPDX-License-Identifier: MIT
/*
 * Time is added up in small pieces, each at most two intervals: when this process
 * or the whole host stood still, the machine could not be heard, and that proves
 * nothing.
 */
#include "incubator/pulse.h"

#include <string.h>

void pulse_init(struct pulse *p, u64 now_ms)
{
	memset(p, 0, sizeof(*p));
	p->last_ms = now_ms;
}

static void cpu_alive(struct pulse_cpu *c)
{
	c->silent_ms = c->ran_ms = c->waited_ms = 0;
}

void pulse_beats(struct pulse *p, const u32 *beats, u32 cpus)
{
	for (u32 i = 0; i < cpus && i < PULSE_MAX_CPUS; i++) {
		if (p->cpu[i].beats != beats[i])
			cpu_alive(&p->cpu[i]);
		p->cpu[i].beats = beats[i];
	}
}

static u64 grown(u64 now, u64 before, u64 at_most)
{
	return now > before ? min_u64(now - before, at_most) : 0;
}

int pulse_check(struct pulse *p, u64 now_ms, const struct pulse_sample *s)
{
	u64 wall = grown(now_ms, p->last_ms, 2 * PULSE_INTERVAL_MS);
	u32 cpus = s->cpus < PULSE_MAX_CPUS ? s->cpus : PULSE_MAX_CPUS;
	int hung = -1;

	for (u32 i = 0; i < cpus; i++) {
		struct pulse_cpu *c = &p->cpu[i];
		const struct pulse_thread *now = &s->thread[i], *before = &p->last.thread[i];

		if (s->stopped || i >= p->last.cpus) {
			cpu_alive(c);
			continue;
		}
		c->silent_ms += wall;
		c->ran_ms += grown(now->ran_ms, before->ran_ms, wall);
		/* Waiting is counted by the host when it is over: it may be more than @wall. */
		c->waited_ms += grown(now->waited_ms, before->waited_ms, ~0ull);
		if (hung < 0 && c->silent_ms >= PULSE_SILENT_MS &&
		    (c->ran_ms >= PULSE_RAN_MS ||
		     c->silent_ms >= PULSE_ASLEEP_MS + c->ran_ms + c->waited_ms))
			hung = (int)i;
	}
	p->last_ms = now_ms;
	p->last = *s;
	return hung;
}
