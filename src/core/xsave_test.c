// SPDX-License-Identifier: MIT
/* XSAVE areas from one format to the other, and the state of a local APIC. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "core/lapic_state.h"
#include "core/xsave.h"

#define COMPACTED BIT64(63)

/* AVX, a small component, one that is aligned, one that does not exist, one of the supervisor's. */
static const struct engine_cpuid leaves[] = {
	{ 0xD, 0, true, 0x227, 0x340, 0xA88, 0 }, { 0xD, 1, true, 0xF, 0, 0x800, 0 },
	{ 0xD, 2, true, 256, 576, 0, 0 },	  { 0xD, 5, true, 24, 1088, 0, 0 },
	{ 0xD, 9, true, 8, 2688, 2, 0 },	  { 0xD, 11, true, 16, 0, 1, 0 },
	{ 0xD, 12, true, 24, 2000, 0, 0 },	  { 0xD, 17, true, 64, 0xFFFFFFFF, 0, 0 },
};
#define STATES 0x227ull

static struct xsave_layout l;
static u8 area[ENGINE_XSAVE_BYTES], back[ENGINE_XSAVE_BYTES], small[ENGINE_XSAVE_BYTES];

static u64 *bv(u8 *a)
{
	return (u64 *)(void *)(a + 512);
}

static int setup(void **state)
{
	xsave_layout_init(&l, leaves, ARRAY_SIZE(leaves));
	memset(area, 0, sizeof(area));
	memset(small, 0xEE, sizeof(small));
	for (u32 i = 0; i < 512; i++)
		area[i] = (u8)(i * 7);
	*bv(area) = STATES;
	memset(area + 576, 0xA2, 256);
	memset(area + 1088, 0xA5, 24);
	memset(area + 2688, 0xA9, 8);
	return 0;
}

static void test_the_layout_is_what_cpuid_says(void **state)
{
	assert_int_equal(l.states, STATES);
	assert_int_equal(xsave_compact_bytes(&l, 0), 576);
	assert_int_equal(xsave_compact_bytes(&l, STATES), 576 + 256 + 24 + 40 + 8);
	assert_int_equal(xsave_compact_bytes(&l, ~0ull), 576 + 256 + 24 + 40 + 8);
	xsave_layout_init(&l, NULL, 0);
	assert_int_equal(l.states, XSAVE_LEGACY);
}

static void test_there_and_back(void **state)
{
	u32 bytes = xsave_compact_bytes(&l, STATES);

	xsave_compact(&l, STATES, area, small);
	assert_int_equal(bv(small)[0], STATES);
	assert_int_equal(bv(small)[1], STATES | COMPACTED);
	assert_int_equal(small[576 + 256], 0xA5);
	assert_int_equal(small[576 + 256 + 24], 0); /* before what is aligned */
	assert_int_equal(small[576 + 256 + 24 + 40], 0xA9);
	assert_int_equal(small[bytes], 0xEE);
	assert_true(xsave_expand(&l, small, bytes, back));
	assert_memory_equal(back, area, sizeof(area));
}

static void test_only_what_was_asked_for(void **state)
{
	xsave_compact(&l, 0x20, area, small);
	assert_int_equal(bv(small)[1], COMPACTED | 0x23);
	assert_int_equal(bv(small)[0], 0x23);
	assert_int_equal(small[576], 0xA5);
	*bv(area) = 3; /* all but the legacy state initial: the bytes do not matter */
	xsave_compact(&l, STATES, area, small);
	assert_int_equal(bv(small)[0], 3);
	assert_int_equal(small[576], 0);
}

static void test_a_standard_area_is_taken_too(void **state)
{
	assert_true(xsave_expand(&l, area, 4096, back));
	assert_memory_equal(back, area, sizeof(area));
	assert_false(xsave_expand(&l, area, 2690, back)); /* ends in a component */
	*bv(area) = 7;
	assert_true(xsave_expand(&l, area, 1000, back));
}

static void test_headers_that_no_processor_takes(void **state)
{
	u32 bytes = xsave_compact_bytes(&l, STATES);

	xsave_compact(&l, STATES, area, small);
	assert_false(xsave_expand(&l, small, 575, back));
	assert_false(xsave_expand(&l, small, bytes - 1, back));
	bv(small)[1] |= BIT64(12);
	assert_false(xsave_expand(&l, small, bytes, back));
	bv(small)[1] = COMPACTED | 3; /* XSTATE_BV names more */
	assert_false(xsave_expand(&l, small, bytes, back));
	bv(small)[1] = STATES; /* neither format */
	assert_false(xsave_expand(&l, small, bytes, back));
	bv(small)[1] = COMPACTED | STATES;
	bv(small)[7] = 1;
	assert_false(xsave_expand(&l, small, bytes, back));
	bv(small)[7] = 0;
	bv(small)[0] = ~0ull;
	bv(small)[1] = ~0ull;
	assert_false(xsave_expand(&l, small, bytes, back));
}

static void test_any_header_stays_within_its_areas(void **state)
{
	u8 *tight = malloc(700);

	srand(1);
	for (u32 i = 0; i < 20000; i++) {
		memset(tight, 0xCC, 700);
		memset(tight + 512, 0, 64);
		bv(tight)[0] = (u64)rand() & 0x3FF;
		bv(tight)[1] = i % 2 ? COMPACTED | ((u64)rand() & 0x3FF) : 0;
		xsave_expand(&l, tight, 576 + (u32)rand() % 125, back);
	}
	free(tight);
}

static void test_the_state_of_a_local_apic(void **state)
{
	struct hv_local_interrupt_controller_state s;
	u8 regs[ENGINE_LAPIC_BYTES], other[ENGINE_LAPIC_BYTES];

	for (u32 i = 0; i < sizeof(regs); i++)
		regs[i] = (u8)(i / 4);
	lapic_state_get(regs, &s);
	assert_int_equal(s.apic_id, 0x08080808);
	assert_int_equal(s.apic_isr[1], 0x44444444);
	assert_int_equal(s.apic_irr[7], 0x9C9C9C9C);
	assert_int_equal(s.apic_icr_high, 0xC4C4C4C4);
	assert_int_equal(s.apic_icr_low, 0xC0C0C0C0);
	assert_int_equal(s.apic_lvt_lint0, 0xD4D4D4D4);
	assert_int_equal(s.apic_lvt_cmci, 0xBCBCBCBC);
	assert_int_equal(s.apic_divide_configuration, 0xF8F8F8F8);
	memset(other, 0, sizeof(other));
	lapic_state_set(&s, other);
	assert_int_equal(other[0x20], 0); /* it stays who it is */
	assert_int_equal(other[0x30], 0);
	assert_int_equal(other[0x80], 0); /* TPR is a register elsewhere */
	memset(other + 0x20, 0x08, 4);
	memset(other + 0x30, 0x0C, 4);
	memset(other + 0xC0, 0x30, 4);
	lapic_state_get(other, &s);
	lapic_state_set(&s, regs);
	assert_memory_equal(regs + 0x100, other + 0x100, 4);
	assert_int_equal(other[0x35 * 16], regs[0x35 * 16]);
}

#define TEST(f) cmocka_unit_test_setup(f, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_the_layout_is_what_cpuid_says),
		TEST(test_there_and_back),
		TEST(test_only_what_was_asked_for),
		TEST(test_a_standard_area_is_taken_too),
		TEST(test_headers_that_no_processor_takes),
		TEST(test_any_header_stays_within_its_areas),
		TEST(test_the_state_of_a_local_apic),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
