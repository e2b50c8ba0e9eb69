// SPDX-License-Identifier: MIT
/* Instructions are decoded as they are now, whatever was decoded before. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/insn.h"

static const struct engine_sregs long_mode = { .efer = BIT64(10), .cs.attributes = BIT(13) };
static const struct engine_sregs wide_mode = { .cr0 = 1,
					       .cs.attributes = BIT(14),
					       .ss.attributes = BIT(14) };
static const struct engine_sregs narrow_stack = { .cr0 = 1, .cs.attributes = BIT(14) };
static const struct engine_sregs real_mode = { 0 };

/* DEC EAX; MOV EAX, ECX, or MOV RAX, RCX. */
static const u8 rex[] = { 0x48, 0x89, 0xC8 };

static struct insn_memo *memo;

static u32 length(const struct engine_sregs *s, const u8 *bytes, u32 count)
{
	struct insn insn;

	return insn_decode(memo, s, bytes, count, &insn) ? insn.z.length : 0;
}

static void test_a_mode_is_not_taken_for_another(void **state)
{
	for (u32 i = 0; i < 2; i++) {
		assert_int_equal(length(&long_mode, rex, 3), 3);
		assert_int_equal(length(&wide_mode, rex, 3), 1);
		assert_int_equal(length(&real_mode, rex, 3), 1);
	}
}

static void test_nor_a_stack_for_one_of_another_width(void **state)
{
	static const u8 push[] = { 0x50 };
	struct insn insn;

	for (u32 i = 0; i < 2; i++) {
		assert_true(insn_decode(memo, &wide_mode, push, 1, &insn));
		assert_int_equal(insn.z.stack_width, 32);
		assert_true(insn_decode(memo, &narrow_stack, push, 1, &insn));
		assert_int_equal(insn.z.stack_width, 16);
	}
}

static void test_bytes_that_are_not_known_do_not_count(void **state)
{
	for (u32 i = 0; i < 2; i++) {
		assert_int_equal(length(&long_mode, rex, 0), 0);
		assert_int_equal(length(&long_mode, rex, 1), 0);
		assert_int_equal(length(&long_mode, rex, 2), 0);
		assert_int_equal(length(&long_mode, rex, 3), 3);
	}
}

/* Many more than are remembered, each in between others, as a decoder of its own sees them. */
static void test_what_was_decoded_before_makes_no_difference(void **state)
{
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
	ZydisDecodedInstruction z;
	ZydisDecoder decoder;
	u64 random = 1;

	ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	for (u32 i = 0; i < 20000; i++) {
		u8 bytes[4];
		struct insn insn = { 0 };
		bool is, seen;

		/* Few values, so that the same come again. */
		for (u32 k = 0; k < sizeof(bytes); k++) {
			random = random * 6364136223846793005u + 1442695040888963407u;
			bytes[k] = (u8)(0x84 + (random >> 60));
		}
		is = ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, bytes, sizeof(bytes), &z, op));
		seen = insn_decode(memo, &long_mode, bytes, sizeof(bytes), &insn);
		assert_int_equal(seen, is);
		if (!is)
			continue;
		assert_int_equal(insn.z.mnemonic, z.mnemonic);
		assert_int_equal(insn.z.length, z.length);
		assert_int_equal(insn.op[0].reg.value, op[0].reg.value);
	}
}

static int with_memo(void **state)
{
	memo = insn_memo_create();
	return memo ? 0 : -1;
}

static int without(void **state)
{
	insn_memo_destroy(memo);
	memo = NULL;
	return 0;
}

#define T(test) cmocka_unit_test(test), cmocka_unit_test_setup_teardown(test, with_memo, without)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_a_mode_is_not_taken_for_another),
		T(test_nor_a_stack_for_one_of_another_width),
		T(test_bytes_that_are_not_known_do_not_count),
		T(test_what_was_decoded_before_makes_no_difference),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
