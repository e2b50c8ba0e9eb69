// SPDX-License-Identifier: MIT
/*
 * What leaving the guest costs: the least of many rounds, in TSC ticks and ns.
 * Not a test; one line each: "cost NAME TICKS NS". In a nested root also what a call
 * and a register of the hypervisor below cost; the rounds of all rows take turns.
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

/*
 * It is decoded, checked and looked up, and does nothing: nobody has that connection. With an event
 * flag the hypercall page traps at once, as for any other call.
 */
#define NOBODY (1ull << 32 | 0xFFFFFF)

static void once_hypercall(void)
{
	hypercall(HVCALL_SIGNAL_EVENT | HV_HYPERCALL_FAST, NOBODY, 0);
}

static void once_nested_hypercall(void)
{
	hypercall(HVCALL_SIGNAL_EVENT | HV_HYPERCALL_FAST | HV_HYPERCALL_NESTED, NOBODY, 0);
}

static void once_msr(void)
{
	ref_time();
}

static void once_synic(void)
{
	rdmsr(HV_X64_MSR_SCONTROL);
}

static void once_nested_synic(void)
{
	rdmsr(HV_X64_MSR_NESTED_SCONTROL);
}

void test_main(void)
{
	static const struct {
		const char *name;
		void (*once)(void);
		bool nested;
	} rows[] = { { "cpuid", once_cpuid },
		     { "out", once_out },
		     { "hypercall", once_hypercall },
		     { "nested-hypercall", once_nested_hypercall, true },
		     { "rdmsr", once_msr },
		     { "synic-rdmsr", once_synic },
		     { "nested-synic-rdmsr", once_nested_synic, true } };
	u64 best[ARRAY_SIZE(rows)];
	bool nested;

	hv_setup();
	nested = cpuid(HV_CPUID_RECOMMENDATIONS, 0).eax & HV_HINT_NESTED;
	for (u32 i = 0; i < ROUNDS; i++) {
		for (u32 r = 0; r < ARRAY_SIZE(rows); r++) {
			u64 start, each;

			if (rows[r].nested && !nested)
				continue;
			start = rdtsc();
			for (u32 j = 0; j < CALLS; j++)
				rows[r].once();
			each = (rdtsc() - start) / CALLS;
			best[r] = i ? min_u64(best[r], each) : each;
		}
	}
	if (nested)
		print("nested status %llx\n",
		      (unsigned long long)hypercall(HVCALL_NOTIFY_LONG_SPIN_WAIT |
							    HV_HYPERCALL_FAST | HV_HYPERCALL_NESTED,
						    1, 0));
	for (u32 r = 0; r < ARRAY_SIZE(rows); r++)
		if (nested || !rows[r].nested)
			print("cost %s %llu %llu\n", rows[r].name, (unsigned long long)best[r],
			      (unsigned long long)(best[r] * 1000 / (tsc_hz() / 1000000)));
}
