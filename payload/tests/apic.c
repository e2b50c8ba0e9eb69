// SPDX-License-Identifier: MIT
/* The local APIC by synthetic MSRs, and EOIs that need none. TLFS: interrupt controller. */
#include "payload/payload.h"

#define LOW	  0x51 /* a class below HIGH */
#define HIGH	  0x61
#define ROUNDS	  200
#define SECOND_US 1000000
#define ICR_SELF  (1u << 18)
#define NO_EOI	  1u

static volatile u32 assist[PAGE_BYTES / 4] __attribute__((aligned(PAGE_BYTES)));
static u32 lazy, written;

/* As guests do: the bit is taken, and without it the register is written. */
static void end(void)
{
	if (__atomic_exchange_n(&assist[0], 0, __ATOMIC_RELAXED) & NO_EOI) {
		lazy++;
	} else {
		written++;
		wrmsr(HV_X64_MSR_EOI, 0);
	}
}

static void self(u8 vector)
{
	wrmsr(HV_X64_MSR_ICR, ICR_SELF | vector);
}

/* All come, one after the other; how they ended is in lazy and written. */
static bool rounds(u32 count)
{
	u64 came = irq_count(LOW);

	lazy = written = 0;
	for (u32 i = 1; i <= count; i++) {
		self(LOW);
		if (!irq_wait(LOW, came + i, SECOND_US))
			return false;
	}
	return lazy + written == count;
}

static void test_without_a_page(void)
{
	ok(rounds(ROUNDS), "without an assist page: each interrupt comes, ended by EOI");
	ok_eq(lazy, 0, "without an assist page: none is ended by a bit");
}

static void test_lazy(void)
{
	u64 low, high;

	assist[0] = ~0u;
	assist[1] = 0x12345678;
	wrmsr(HV_X64_MSR_VP_ASSIST_PAGE, (u64)assist | HV_MSR_PAGE_ENABLE);
	ok_eq(assist[0], 0, "the assist page's field is clear when the page is enabled");
	ok(rounds(ROUNDS), "lazy EOI: each interrupt comes, as often as it was sent");
	ok(lazy >= ROUNDS / 2, "lazy EOI: most end by a bit (%u of %u)", lazy, ROUNDS);
	/* The one that waits would come only with an EOI. */
	low = irq_count(LOW);
	high = irq_count(HIGH);
	irq_off();
	self(LOW);
	self(HIGH);
	ok(irq_wait(LOW, low + 1, SECOND_US) && irq_wait(HIGH, high + 1, SECOND_US),
	   "two at once: both come");
	ok(rounds(10), "and those after them");
	wrmsr(HV_X64_MSR_VP_ASSIST_PAGE, 0);
	assist[0] = 0;
	test_without_a_page();
}

static void test_tpr(void)
{
	u64 came = irq_count(LOW);

	wrmsr(HV_X64_MSR_TPR, LOW & 0xF0);
	ok_eq(rdmsr(HV_X64_MSR_TPR), LOW & 0xF0, "TPR: what was written is read");
	self(LOW);
	ok(!irq_wait(LOW, came + 1, 20000), "TPR: an interrupt of its class waits");
	wrmsr(HV_X64_MSR_TPR, 0);
	ok(irq_wait(LOW, came + 1, SECOND_US), "TPR: and comes when it is lowered");
}

void test_main(void)
{
	u64 value;

	if (!hv_has(HV_PRIV_ACCESS_INTR_CTRL_REGS)) {
		ok(rdmsr_faults(HV_X64_MSR_ICR, &value) && wrmsr_faults(HV_X64_MSR_EOI, 0) &&
			   rdmsr_faults(HV_X64_MSR_TPR, &value),
		   "not offered: EOI, ICR and TPR are #GP");
		return;
	}
	irq_end = end;
	test_without_a_page();
	test_lazy();
	test_tpr();
}
