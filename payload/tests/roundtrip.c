// SPDX-License-Identifier: MIT
/*
 * What leaving the guest costs: the least of many rounds, in TSC ticks and ns.
 * Not a test; one line each: "cost NAME TICKS NS".
 */
#include "payload/payload.h"

#define ROUNDS 400
#define CALLS  25 /* short rounds: the least of them was not interrupted */

static void once_cpuid(void)
{
	cpuid(0, 0);
}

static void once_out(void)
{
	out8(0x80, 0); /* nobody's port */
}

static void once_hypercall(void)
{
	hypercall(HVCALL_NOTIFY_LONG_SPIN_WAIT | HV_HYPERCALL_FAST, 1, 0);
}

static void once_msr(void)
{
	ref_time();
}

void test_main(void)
{
	static const struct {
		const char *name;
		void (*once)(void);
	} rows[] = { { "cpuid", once_cpuid },
		     { "out", once_out },
		     { "hypercall", once_hypercall },
		     { "rdmsr", once_msr } };

	hv_setup();
	for (u32 r = 0; r < ARRAY_SIZE(rows); r++) {
		u64 best = ~0ull;

		for (u32 i = 0; i < ROUNDS; i++) {
			u64 start = rdtsc();

			for (u32 j = 0; j < CALLS; j++)
				rows[r].once();
			best = min_u64(best, (rdtsc() - start) / CALLS);
		}
		print("cost %s %llu %llu\n", rows[r].name, (unsigned long long)best,
		      (unsigned long long)(best * 1000 / (tsc_hz() / 1000000)));
	}
}
