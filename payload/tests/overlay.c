// SPDX-License-Identifier: MIT
/* Overlay pages hide what is under them and give it back. TLFS: guest-physical-address-space,
 * "Overlay Pages". */
#include "payload/payload.h"

static u8 first[PAGE_BYTES] __attribute__((aligned(PAGE_BYTES)));
static u8 second[PAGE_BYTES] __attribute__((aligned(PAGE_BYTES)));

static bool all(const u8 *page, u8 value)
{
	for (u32 i = 0; i < PAGE_BYTES; i++)
		if (*(volatile const u8 *)(page + i) != value)
			return false;
	return true;
}

/* Registers whose page may also be written by the guest start as zeros. */
static void test_register(u32 msr, const char *name, bool zero_at_start)
{
	u64 at_first = (u64)first | HV_MSR_PAGE_ENABLE,
	    at_second = (u64)second | HV_MSR_PAGE_ENABLE;

	memset(first, 0xA5, PAGE_BYTES);
	memset(second, 0x5A, PAGE_BYTES);
	wrmsr(msr, (u64)first);
	ok(all(first, 0xA5), "%s: an address without the enable bit changes nothing", name);
	wrmsr(msr, at_first);
	ok_eq(rdmsr(msr), at_first, "%s: reads back", name);
	ok(!all(first, 0xA5), "%s: the overlay hides the memory", name);
	if (zero_at_start)
		ok(all(first, 0), "%s: its page is zero at first", name);
	wrmsr(msr, at_second);
	ok(all(first, 0xA5), "%s: moved away, the memory is as before", name);
	ok(!all(second, 0x5A), "%s: and the other is hidden", name);
	wrmsr(msr, (u64)second);
	ok(all(second, 0x5A), "%s: disabled, the memory is as before", name);
	wrmsr(msr, 0);
}

static void test_out_of_space(u32 msr, const char *name)
{
	const u64 width = cpuid(0x80000008, 0).eax & 0xFF;

	ok(wrmsr_faults(msr, BIT64(width) | HV_MSR_PAGE_ENABLE),
	   "%s: enabling it outside the GPA space is #GP", name);
	ok_eq(rdmsr(msr) & HV_MSR_PAGE_ENABLE, 0, "%s: and it stays disabled", name);
}

static void test_contents_move_along(void)
{
	memset(first, 0, PAGE_BYTES);
	memset(second, 0, PAGE_BYTES);
	wrmsr(HV_X64_MSR_SIMP, (u64)first | HV_MSR_PAGE_ENABLE);
	first[100] = 7;
	wrmsr(HV_X64_MSR_SIMP, (u64)second | HV_MSR_PAGE_ENABLE);
	ok_eq(second[100], 7, "SIMP: what the guest wrote moves with the overlay");
	wrmsr(HV_X64_MSR_SIMP, 0);
	ok(all(first, 0) && all(second, 0), "SIMP: and never reached the memory");
}

static void test_hypercall_page_works_where_it_is(void)
{
	struct hv_call c = { .control = HVCALL_NOTIFY_LONG_SPIN_WAIT | HV_HYPERCALL_FAST,
			     .input = 1,
			     .page = (u64)first };

	wrmsr(HV_X64_MSR_HYPERCALL, (u64)first | HV_MSR_PAGE_ENABLE);
	hv_call_64(&c);
	ok_eq(c.result, 0, "HYPERCALL: a call at the first address");
	wrmsr(HV_X64_MSR_HYPERCALL, (u64)second | HV_MSR_PAGE_ENABLE);
	c.page = (u64)second;
	c.result = ~0ull;
	hv_call_64(&c);
	ok_eq(c.result, 0, "HYPERCALL: and at the second");
	/* A root runs a copy of the page at an address of its own. */
	memcpy(first, second, PAGE_BYTES);
	c.page = (u64)first;
	c.result = ~0ull;
	hv_call_64(&c);
	ok_eq(c.result, 0, "HYPERCALL: a copy works too");
	ok(second[0] == 0xF3 && second[1] == 0x0F && second[2] == 0x1E && second[3] == 0xFA,
	   "HYPERCALL: the page begins with ENDBR64");
}

static void test_lock(void)
{
	u64 locked = (u64)second | HV_MSR_PAGE_ENABLE | HV_HYPERCALL_LOCKED;

	wrmsr(HV_X64_MSR_HYPERCALL, locked);
	ok_eq(rdmsr(HV_X64_MSR_HYPERCALL), locked, "HYPERCALL: the lock reads back");
	wrmsr_faults(HV_X64_MSR_HYPERCALL, (u64)first | HV_MSR_PAGE_ENABLE);
	ok_eq(rdmsr(HV_X64_MSR_HYPERCALL), locked, "HYPERCALL: locked, it cannot be moved");
}

void test_main(void)
{
	wrmsr(HV_X64_MSR_GUEST_OS_ID, HV_TEST_OS_ID);
	test_register(HV_X64_MSR_HYPERCALL, "HYPERCALL", false);
	test_register(HV_X64_MSR_REFERENCE_TSC, "REFERENCE_TSC", false);
	test_register(HV_X64_MSR_SIMP, "SIMP", true);
	test_register(HV_X64_MSR_SIEFP, "SIEFP", true);
	test_register(HV_X64_MSR_VP_ASSIST_PAGE, "VP_ASSIST_PAGE", true);
	test_out_of_space(HV_X64_MSR_HYPERCALL, "HYPERCALL");
	test_out_of_space(HV_X64_MSR_REFERENCE_TSC, "REFERENCE_TSC");
	test_out_of_space(HV_X64_MSR_SIMP, "SIMP");
	test_out_of_space(HV_X64_MSR_SIEFP, "SIEFP");
	test_out_of_space(HV_X64_MSR_VP_ASSIST_PAGE, "VP_ASSIST_PAGE");
	test_contents_move_along();
	test_hypercall_page_works_where_it_is();
	test_lock();
}
