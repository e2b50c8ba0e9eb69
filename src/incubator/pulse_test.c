// SPDX-License-Identifier: MIT
/* A CPU that is silent though it could run has hung; every other silence is forgiven. */
#include "incubator/pulse.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define CPUS 3

/* A machine whose threads get @ran and wait @waited ms in each step of @step ms. */
struct scene {
	const char *name;
	u64 step, ran, waited;
	bool stopped;
	bool beats;	   /* CPU 1 beats; the others always do */
	u64 hung_after_ms; /* 0: never */
};

static u64 play(const struct scene *sc, u64 limit_ms)
{
	struct pulse_sample s = { .cpus = CPUS };
	u32 beats[CPUS] = { 0 };
	struct pulse p;

	pulse_init(&p, 1000);
	pulse_check(&p, 1000, &s);
	for (u64 t = sc->step; t <= limit_ms; t += sc->step) {
		int cpu;

		for (int i = 0; i < CPUS; i++) {
			s.thread[i].ran_ms += sc->ran;
			s.thread[i].waited_ms += sc->waited;
			beats[i] += i != 1 || sc->beats;
		}
		s.stopped = sc->stopped;
		pulse_beats(&p, beats, CPUS);
		cpu = pulse_check(&p, 1000 + t, &s);
		if (cpu < 0)
			continue;
		assert_int_equal(cpu, 1);
		return t;
	}
	return 0;
}

static void silence_is_judged(void **state)
{
	static const struct scene scenes[] = {
		{ "beats", 1000, 1000, 0, .beats = true, .hung_after_ms = 0 },
		{ "spins alone", 1000, 1000, 0, .hung_after_ms = 20000 },
		{ "spins at a tenth of the host", 1000, 100, 900, .hung_after_ms = 80000 },
		{ "never gets to run", 1000, 0, 1000, .hung_after_ms = 0 },
		{ "sleeps for ever", 1000, 0, 0, .hung_after_ms = 60000 },
		{ "stopped by a signal", 1000, 0, 0, .stopped = true, .hung_after_ms = 0 },
		{ "we look rarely", 10000, 10000, 0, .hung_after_ms = 100000 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(scenes); i++) {
		u64 after = play(&scenes[i], 500000);

		if (after != scenes[i].hung_after_ms)
			fail_msg("%s: %llu ms", scenes[i].name, (unsigned long long)after);
	}
}

static void a_beat_forgives_the_silence_before(void **state)
{
	struct pulse_sample s = { .cpus = 1 };
	struct pulse p;
	u32 beats = 0;

	(void)state;
	pulse_init(&p, 0);
	for (u64 t = 0; t < 200000; t += 1000) {
		s.thread[0].ran_ms = t;
		assert_int_equal(pulse_check(&p, t, &s), -1);
		if (t % 19000 == 0)
			beats++;
		pulse_beats(&p, &beats, 1);
	}
}

/* Counters of a thread that is looked up anew may start again; an agent may name more CPUs. */
static void odd_numbers_do_no_harm(void **state)
{
	struct pulse_sample s = { .cpus = PULSE_MAX_CPUS + 5 };
	u32 beats[PULSE_MAX_CPUS + 5] = { 0 };
	struct pulse p;

	(void)state;
	pulse_init(&p, 50000);
	s.thread[0].ran_ms = 1000000;
	pulse_beats(&p, beats, ARRAY_SIZE(beats));
	assert_int_equal(pulse_check(&p, 51000, &s), -1);
	s.thread[0].ran_ms = 0;
	assert_int_equal(pulse_check(&p, 40000, &s), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(silence_is_judged),
		cmocka_unit_test(a_beat_forgives_the_silence_before),
		cmocka_unit_test(odd_numbers_do_no_harm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
