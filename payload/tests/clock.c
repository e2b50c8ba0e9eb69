// SPDX-License-Identifier: MIT
/* The reference counter and the TSC page are one clock. TLFS: timers, "Reference Counter". */
#include "payload/payload.h"

#define ROUNDS 2000

/* Nothing else may lie in the page: the overlay would hide it. */
static volatile union {
	struct hv_reference_tsc_page page;
	u8 bytes[PAGE_BYTES];
} overlay __attribute__((aligned(PAGE_BYTES)));
#define page overlay.page

static u64 page_time(void)
{
	u32 sequence;
	u64 time;

	do {
		sequence = page.sequence;
		time = mul_hi(rdtsc(), page.scale) + (u64)page.offset;
	} while (page.sequence != sequence);
	return time;
}

/* The counter against the TSC over 20 ms, in hundredths of a percent. */
static u64 rate_error(void)
{
	u64 start = ref_time(), tsc = rdtsc(), took, want;

	delay_us(20000);
	took = ref_time() - start;
	want = (rdtsc() - tsc) * 10000 / (tsc_hz() / 1000);
	return (took > want ? took - want : want - took) * 10000 / want;
}

static void test_counter(void)
{
	u64 last = ref_time(), backwards = 0, error = ~0ull;

	for (u32 i = 0; i < ROUNDS; i++) {
		u64 now = ref_time();

		backwards += now < last;
		last = now;
	}
	ok_eq(backwards, 0, "TIME_REF_COUNT never goes back");
	/* The host may take the processor away between two readings: the best of ten counts. */
	for (u32 i = 0; i < 10 && error > 100; i++)
		error = min_u64(error, rate_error());
	ok(error <= 100, "TIME_REF_COUNT runs as fast as TSC_FREQUENCY says (off by %llu/10000)",
	   (unsigned long long)error);
}

static void test_page(void)
{
	u64 last = 0, backwards = 0, early = 0, late = 0;

	wrmsr(HV_X64_MSR_REFERENCE_TSC, (u64)&page | HV_MSR_PAGE_ENABLE);
	ok(page.sequence != 0 && page.sequence != ~0u, "the page is valid (sequence %u)",
	   page.sequence);
	ok(page.scale != 0, "it has a scale");
	for (u32 i = 0; i < ROUNDS; i++) {
		u64 before = ref_time(), mid = page_time(), after = ref_time();

		backwards += mid < last;
		early += mid < before;
		late += mid > after;
		last = mid;
	}
	ok_eq(backwards, 0, "the page's time never goes back");
	ok_eq(early, 0, "it is never before the counter");
	ok_eq(late, 0, "it is never after the counter");
}

static void read_page_time(void *arg)
{
	*(u64 *)arg = page_time();
}

static void read_counter(void *arg)
{
	*(u64 *)arg = ref_time();
}

static void test_processors_agree(void)
{
	for (u32 cpu = 1; cpu < cpu_count(); cpu++) {
		u64 there = 0, wrong = 0;

		if (!cpu_start(cpu)) {
			ok(false, "processor %u starts", cpu);
			continue;
		}
		for (u32 i = 0; i < 100; i++) {
			u64 before = page_time();

			cpu_run(cpu, i & 1 ? read_counter : read_page_time, &there, 1000000);
			wrong += there < before || there > page_time();
		}
		ok_eq(wrong, 0, "processor %u has the same time", cpu);
	}
}

void test_main(void)
{
	test_counter();
	test_page();
	test_processors_agree();
}
