// SPDX-License-Identifier: MIT
/* Which releases are forgiven what, in which role, and what a user may name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "core/quirk.h"

#define POST   BIT(QUIRK_FORWARD_POST)
#define SIGNAL BIT(QUIRK_FORWARD_SIGNAL)
#define SYNIC  BIT(QUIRK_PREENABLE_SYNIC)
#define POOL   BIT(QUIRK_KEXEC_POOL)
#define ALL    (POST | SIGNAL | SYNIC | POOL)

static void test_a_release_gets_what_it_needs(void **state)
{
	static const struct {
		const char *release;
		u32 want;
	} rows[] = {
		{ "5.11.22", 0 },
		{ "5.12", POOL },
		{ "6.1.0-32-cloud-amd64", POOL },
		{ "6.2.0", POST | SIGNAL | POOL },
		{ "6.12.95+deb12-cloud-amd64", POST | SIGNAL | POOL },
		{ "6.255", POST | SIGNAL | POOL },
		{ "7.0-rc1", SIGNAL | SYNIC | POOL },
		{ "7.3.0", SIGNAL | SYNIC | POOL },
		{ "8.0", 0 },
		{ "6", 0 },
		{ "6.", 0 },
		{ "", 0 },
		{ "vmlinuz", 0 },
		{ "-6.12", 0 },
		{ "256.1", 0 },
		{ "6.256", 0 },
	};

	for (u32 i = 0; i < ARRAY_SIZE(rows); i++)
		assert_int_equal(quirks_for_release(rows[i].release), rows[i].want);
}

static void test_a_plain_root_needs_less(void **state)
{
	assert_int_equal(quirks_of_root(true), ALL);
	assert_int_equal(quirks_of_root(false), POOL);
}

static void test_names(void **state)
{
	static const struct {
		const char *list;
		u32 want;
	} rows[] = {
		{ "", 0 },
		{ "forward-post", POST },
		{ "forward-signal", SIGNAL },
		{ "preenable-synic", SYNIC },
		{ "kexec-pool", POOL },
		{ "forward-post,forward-signal", POST | SIGNAL },
		{ "kexec-pool,forward-post,kexec-pool,", POST | POOL },
	};
	const char *bad = NULL;
	u32 mask;

	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		mask = ~0u;
		assert_true(quirks_parse(rows[i].list, &mask, &bad));
		assert_int_equal(mask, rows[i].want);
	}
	assert_null(bad);
}

static void test_what_is_no_name(void **state)
{
	static const struct {
		const char *list, *bad;
	} rows[] = {
		{ "forward", "forward" },
		{ "forward-posts", "forward-posts" },
		{ "Forward-post", "Forward-post" },
		{ "forward-post,none", "none" },
		{ "forward-post,,forward-signal", ",forward-signal" },
		{ " forward-post", " forward-post" },
		{ ",", "," },
	};

	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		const char *bad = NULL;
		u32 mask;

		assert_false(quirks_parse(rows[i].list, &mask, &bad));
		assert_string_equal(bad, rows[i].bad);
	}
}

static void test_rows_are_complete(void **state)
{
	for (u32 i = 0; i < QUIRK_COUNT; i++) {
		assert_true(quirks[i].name && quirks[i].what && quirks[i].defect);
		assert_null(strchr(quirks[i].name, ','));
		assert_true(quirks[i].first <= quirks[i].last);
		for (u32 k = 0; k < i; k++)
			assert_string_not_equal(quirks[i].name, quirks[k].name);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_release_gets_what_it_needs),
		cmocka_unit_test(test_a_plain_root_needs_less),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_what_is_no_name),
		cmocka_unit_test(test_rows_are_complete),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
