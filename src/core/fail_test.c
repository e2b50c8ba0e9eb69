// SPDX-License-Identifier: MIT
/* What --fail takes, what it says of the rest, and which call a rule means. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "core/fail.h"
#include "core/hypercall.h"

static void test_what_is_a_rule(void **state)
{
	static const struct {
		const char *text, *hv;
		u16 code, status;
		u32 nth, after;
		const char *format;
	} rows[] = {
		{ "HvCallDepositMemory", "", HVCALL_DEPOSIT_MEMORY, HV_STATUS_OPERATION_FAILED, 0,
		  0, "HvCallDepositMemory=HV_STATUS_OPERATION_FAILED" },
		{ "depositmemory", "", HVCALL_DEPOSIT_MEMORY, HV_STATUS_OPERATION_FAILED, 0, 0,
		  "HvCallDepositMemory=HV_STATUS_OPERATION_FAILED" },
		{ "HvCallDepositMemory@2+100=HV_STATUS_INSUFFICIENT_MEMORY", "",
		  HVCALL_DEPOSIT_MEMORY, HV_STATUS_INSUFFICIENT_MEMORY, 2, 100,
		  "HvCallDepositMemory@2+100=HV_STATUS_INSUFFICIENT_MEMORY" },
		{ "L0:HvCallPostMessage@0x10=insufficient_buffers", "L0", HVCALL_POST_MESSAGE,
		  HV_STATUS_INSUFFICIENT_BUFFERS, 16, 0,
		  "L0:HvCallPostMessage@16=HV_STATUS_INSUFFICIENT_BUFFERS" },
		{ "l1:postmessage=0x1234", "L1", HVCALL_POST_MESSAGE, 0x1234, 0, 0,
		  "L1:HvCallPostMessage=0x1234" },
		{ "WithdrawMemory+0=0xffff", "", HVCALL_WITHDRAW_MEMORY, 0xFFFF, 0, 0,
		  "HvCallWithdrawMemory=0xffff" },
		{ "WithdrawMemory@4294967295+4094=1", "", HVCALL_WITHDRAW_MEMORY, 1, ~0u, 4094,
		  "HvCallWithdrawMemory@4294967295+4094=0x1" },
	};

	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		struct fail_rule r, again;
		char why[256] = "", text[FAIL_TEXT];

		assert_true(fail_parse(rows[i].text, &r, why, sizeof(why)));
		assert_string_equal(r.hv, rows[i].hv);
		assert_int_equal(r.code, rows[i].code);
		assert_int_equal(r.status, rows[i].status);
		assert_int_equal(r.nth, rows[i].nth);
		assert_int_equal(r.after, rows[i].after);
		assert_int_equal(r.calls + r.failed, 0);
		assert_string_equal(why, "");
		assert_string_equal(fail_format(&r, text), rows[i].format);
		assert_true(fail_parse(text, &again, why, sizeof(why)));
		assert_memory_equal(&r, &again, sizeof(r));
	}
}

static void test_what_is_none_is_told_what_to_do(void **state)
{
	static const struct {
		const char *text, *why;
	} rows[] = {
		{ "", "there is no hypercall ''; 'nestor help --tables' lists them" },
		{ "HvCallNothing", "there is no hypercall 'HvCallNothing'; 'nestor help" },
		{ "HvCall", "there is no hypercall 'HvCall'; 'nestor help --tables' lists them" },
		{ "deposit@2",
		  "there is no hypercall 'deposit'; did you mean HvCallDepositMemory?" },
		{ "vpstate",
		  "did you mean HvCallMapVpStatePage, HvCallUnmapVpStatePage, HvCallGetVpState" },
		{ "L2:HvCallPostMessage", "there is no hypercall 'L2:HvCallPostMessage'" },
		{ "L0:", "there is no hypercall ''" },
		{ "HvCallPostMessage ", "there is no hypercall 'HvCallPostMessage '" },
		{ "PostMessage@0", "'@' takes a number from 1 to 4294967295" },
		{ "PostMessage@", "'@' takes a number from 1 to 4294967295" },
		{ "PostMessage@-1", "'@' takes a number from 1 to 4294967295" },
		{ "PostMessage@x", "'@' takes a number from 1 to 4294967295" },
		{ "PostMessage@4294967296", "'@' takes a number from 1 to 4294967295" },
		{ "PostMessage@99999999999999999999", "'@' takes a number" },
		{ "PostMessage@2x", "'x' is not understood: it is [L0:|L1:]CALL[@N][+K][=STATUS]" },
		{ "PostMessage@2@3", "'@3' is not understood" },
		{ "PostMessage+1", "HvCallPostMessage has no list of elements" },
		{ "DepositMemory+4095", "'+' takes a number from 0 to 4094" },
		{ "DepositMemory+ 1", "'+' takes a number from 0 to 4094" },
		{ "DepositMemory+1@2", "'@2' is not understood" },
		{ "PostMessage=", "'' is no status that a failed call has" },
		{ "PostMessage=0", "'0' is no status that a failed call has" },
		{ "PostMessage=HV_STATUS_SUCCESS", "'HV_STATUS_SUCCESS' is no status" },
		{ "PostMessage=0x10000", "'0x10000' is no status" },
		{ "PostMessage=-1", "'-1' is no status" },
		{ "PostMessage=HV_STATUS_", "'HV_STATUS_' is no status" },
		{ "PostMessage=NO_DATA@2", "'NO_DATA@2' is no status" },
	};

	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		struct fail_rule r;
		char why[256] = "";

		assert_false(fail_parse(rows[i].text, &r, why, sizeof(why)));
		assert_non_null(strstr(why, rows[i].why));
	}
}

static void test_any_row_can_be_named_and_any_status(void **state)
{
	for (u32 i = 0; i < hypercall_row_count(); i++) {
		const struct hypercall_desc *d = hypercall_row(i);
		char text[FAIL_TEXT], why[256];
		struct fail_rule r;

		assert_true(fail_parse(d->name, &r, why, sizeof(why)));
		assert_int_equal(r.code, d->code);
		assert_true(fail_parse(d->name + strlen("HvCall"), &r, why, sizeof(why)));
		assert_int_equal(r.code, d->code);
		snprintf(text, sizeof(text), "%s+1", d->name);
		assert_int_equal(fail_parse(text, &r, why, sizeof(why)), hypercall_is_rep(d));
	}
#define NAMED(name, value)                                                                         \
	{                                                                                          \
		struct fail_rule r;                                                                \
		char why[256];                                                                     \
                                                                                                   \
		assert_int_equal(fail_parse("PostMessage=" #name, &r, why, sizeof(why)),           \
				 (value) != 0);                                                    \
		assert_true(!(value) || r.status == (value));                                      \
	}
	HV_STATUS_LIST(NAMED)
}

static struct fail_rules rules_of(const char *const *texts)
{
	struct fail_rules rules = { .count = 0 };
	char why[256];

	for (; *texts; texts++)
		assert_true(fail_parse(*texts, &rules.rule[rules.count++], why, sizeof(why)));
	return rules;
}

#define RULES(...) rules_of((const char *const[]){ __VA_ARGS__, NULL })

static void test_which_call_is_meant(void **state)
{
	struct fail_rules each = RULES("DepositMemory"), second = RULES("DepositMemory@2"),
			  far = RULES("DepositMemory+3"), both = RULES("DepositMemory@2+3");

	for (u32 n = 1; n <= 4; n++) {
		u32 left = n == 2 ? 3 : 4;

		assert_ptr_equal(fail_due(&each, "hv", HVCALL_DEPOSIT_MEMORY, left), each.rule);
		assert_ptr_equal(fail_due(&second, "hv", HVCALL_DEPOSIT_MEMORY, left),
				 n == 2 ? second.rule : NULL);
		assert_ptr_equal(fail_due(&far, "hv", HVCALL_DEPOSIT_MEMORY, left),
				 n == 2 ? NULL : far.rule);
		/* The second one ends before it gets there. */
		assert_null(fail_due(&both, "hv", HVCALL_DEPOSIT_MEMORY, left));
		assert_null(fail_due(&each, "hv", HVCALL_WITHDRAW_MEMORY, left));
		assert_int_equal(each.rule[0].calls, n);
	}
	assert_int_equal(each.rule[0].failed, 0);
	fail_done(each.rule);
	assert_int_equal(each.rule[0].failed, 1);
}

static void test_a_rule_may_be_of_one_hypervisor(void **state)
{
	struct fail_rules any = RULES("PostMessage@2"), outer = RULES("L0:PostMessage@2");

	assert_null(fail_due(&any, "L1", HVCALL_POST_MESSAGE, 0));
	assert_ptr_equal(fail_due(&any, "L0", HVCALL_POST_MESSAGE, 0), any.rule);
	assert_null(fail_due(&outer, "L1", HVCALL_POST_MESSAGE, 0));
	assert_null(fail_due(&outer, "L0", HVCALL_POST_MESSAGE, 0));
	assert_null(fail_due(&outer, "L1", HVCALL_POST_MESSAGE, 0));
	assert_ptr_equal(fail_due(&outer, "L0", HVCALL_POST_MESSAGE, 0), outer.rule);
	assert_int_equal(outer.rule[0].calls, 2);
}

static void test_of_several_the_first_one_applies_and_all_count(void **state)
{
	struct fail_rules r = RULES("PostMessage@3=1", "PostMessage@2=2", "PostMessage=3");

	assert_ptr_equal(fail_due(&r, "hv", HVCALL_POST_MESSAGE, 0), &r.rule[2]);
	assert_ptr_equal(fail_due(&r, "hv", HVCALL_POST_MESSAGE, 0), &r.rule[1]);
	assert_ptr_equal(fail_due(&r, "hv", HVCALL_POST_MESSAGE, 0), &r.rule[0]);
	for (u32 i = 0; i < r.count; i++)
		assert_int_equal(r.rule[i].calls, 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_a_rule),
		cmocka_unit_test(test_what_is_none_is_told_what_to_do),
		cmocka_unit_test(test_any_row_can_be_named_and_any_status),
		cmocka_unit_test(test_which_call_is_meant),
		cmocka_unit_test(test_a_rule_may_be_of_one_hypervisor),
		cmocka_unit_test(test_of_several_the_first_one_applies_and_all_count),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
