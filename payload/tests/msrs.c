// SPDX-License-Identifier: MIT
/* Synthetic MSRs: reset values, what faults, what sticks. TLFS: appendix "Synthetic MSRs". */
#include "payload/payload.h"

static void test_reset_values(void)
{
	static const struct {
		u32 msr;
		u64 value;
		const char *name;
	} rows[] = {
		{ HV_X64_MSR_GUEST_OS_ID, 0, "GUEST_OS_ID" },
		{ HV_X64_MSR_HYPERCALL, 0, "HYPERCALL" },
		{ HV_X64_MSR_VP_INDEX, 0, "VP_INDEX" },
		{ HV_X64_MSR_REFERENCE_TSC, 0, "REFERENCE_TSC" },
		{ HV_X64_MSR_VP_ASSIST_PAGE, 0, "VP_ASSIST_PAGE" },
		{ HV_X64_MSR_SCONTROL, 0, "SCONTROL" },
		{ HV_X64_MSR_SVERSION, 1, "SVERSION" },
		{ HV_X64_MSR_SIEFP, 0, "SIEFP" },
		{ HV_X64_MSR_SIMP, 0, "SIMP" },
		{ HV_X64_MSR_EOM, 0, "EOM" },
	};
	u64 value;

	if (hv_has(HV_PRIV_CPU_MANAGEMENT)) {
		skip("a root: the hypervisor chooses pages", "reset values");
		return;
	}
	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		bool faults = rdmsr_faults(rows[i].msr, &value);

		ok(!faults, "%s can be read", rows[i].name);
		ok_eq(value, rows[i].value, "%s at reset", rows[i].name);
	}
	for (u32 i = 0; i < HV_SYNIC_SINT_COUNT; i++)
		ok_eq(rdmsr(HV_X64_MSR_SINT0 + i), HV_SINT_RESET, "SINT%u at reset: masked", i);
	for (u32 i = 0; i < HV_SYNIC_STIMER_COUNT; i++) {
		ok_eq(rdmsr(HV_X64_MSR_STIMER0_CONFIG + 2 * i), 0, "STIMER%u_CONFIG at reset", i);
		ok_eq(rdmsr(HV_X64_MSR_STIMER0_COUNT + 2 * i), 0, "STIMER%u_COUNT at reset", i);
	}
}

static void test_read_only(void)
{
	static const struct {
		u32 msr;
		const char *name;
	} rows[] = {
		{ HV_X64_MSR_VP_INDEX, "VP_INDEX" },
		{ HV_X64_MSR_TIME_REF_COUNT, "TIME_REF_COUNT" },
		{ HV_X64_MSR_TSC_FREQUENCY, "TSC_FREQUENCY" },
		{ HV_X64_MSR_APIC_FREQUENCY, "APIC_FREQUENCY" },
		{ HV_X64_MSR_SVERSION, "SVERSION" },
	};

	for (u32 i = 0; i < ARRAY_SIZE(rows); i++)
		ok(wrmsr_faults(rows[i].msr, 1), "writing %s is #GP", rows[i].name);
}

static void test_unknown(void)
{
	static const u32 msrs[] = { 0x40000004, 0x4000000F, 0x40000012, 0x4000001F, 0x40000024,
				    0x40000074, 0x40000086, 0x400000A0, 0x400000B8, 0x400000FF,
				    0x4000011F, 0x400001FF, 0x400002FF, 0x40000FFF, 0x400010FF };

	for (u32 i = 0; i < ARRAY_SIZE(msrs); i++) {
		ok(rdmsr_faults(msrs[i], NULL), "reading unknown 0x%x is #GP", msrs[i]);
		ok(wrmsr_faults(msrs[i], 0), "writing unknown 0x%x is #GP", msrs[i]);
	}
	if (cpuid(HV_CPUID_RECOMMENDATIONS, 0).eax & HV_HINT_NESTED)
		return;
	ok(rdmsr_faults(HV_X64_MSR_NESTED_SCONTROL, NULL), "no nested SCONTROL in this role");
	ok(rdmsr_faults(HV_X64_MSR_NESTED_VP_INDEX, NULL), "no nested VP_INDEX in this role");
}

static void test_sint_rules(void)
{
	u32 sint3 = HV_X64_MSR_SINT0 + 3;

	for (u8 vector = 0; vector < HV_SINT_MIN_VECTOR; vector += 5)
		ok(wrmsr_faults(sint3, vector), "SINT with vector %u, unmasked, is #GP", vector);
	ok(!wrmsr_faults(sint3, HV_SINT_MASKED), "masked, vector 0 is fine");
	ok(!wrmsr_faults(sint3, 0x40), "vector 0x40 is fine");
	ok_eq(rdmsr(sint3), 0x40, "and reads back");
	wrmsr(sint3, HV_SINT_RESET);
}

static void test_frequencies(void)
{
	u64 tsc = rdmsr(HV_X64_MSR_TSC_FREQUENCY), apic = rdmsr(HV_X64_MSR_APIC_FREQUENCY);

	ok(tsc > 100000000 && tsc < 20000000000, "TSC_FREQUENCY is sane (%llu)",
	   (unsigned long long)tsc);
	ok(apic > 1000000 && apic < 10000000000, "APIC_FREQUENCY is sane (%llu)",
	   (unsigned long long)apic);
}

/* The local APIC timer counts at the frequency the MSR says. */
static void test_apic_frequency(void)
{
	u64 apic = rdmsr(HV_X64_MSR_APIC_FREQUENCY), counted, want, start, elapsed;

	wrmsr(0x83E, 0xB); /* divide by one */
	wrmsr(0x832, BIT(16) | 0x40);
	start = ref_time();
	wrmsr(0x838, 0xFFFFFFFF);
	delay_us(10000);
	counted = 0xFFFFFFFF - rdmsr(0x839);
	elapsed = ref_time() - start; /* a busy host may take its time in between */
	wrmsr(0x838, 0);
	want = apic / 100;
	ok(counted > want - want / 10 && counted < apic / 10000 * elapsed / 1000 + want / 2,
	   "the local APIC timer counted %llu in 10 ms, want about %llu",
	   (unsigned long long)counted, (unsigned long long)want);
}

static void test_crash(void)
{
	if (!hv_feature(HV_FEATURE_CRASH_MSRS)) {
		skip("not offered", "crash MSRs");
		return;
	}
	ok(rdmsr(HV_X64_MSR_CRASH_CTL) & HV_CRASH_CTL_NOTIFY, "CRASH_CTL offers notification");
	for (u32 i = 0; i < HV_CRASH_PARAMETER_COUNT; i++) {
		wrmsr(HV_X64_MSR_CRASH_P0 + i, 0x1000 + i);
		ok_eq(rdmsr(HV_X64_MSR_CRASH_P0 + i), 0x1000 + i, "CRASH_P%u sticks", i);
	}
}

void test_main(void)
{
	test_reset_values();
	test_read_only();
	test_unknown();
	test_sint_rules();
	test_frequencies();
	test_apic_frequency();
	test_crash();
}
