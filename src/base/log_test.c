// SPDX-License-Identifier: MIT
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

/* Standard error goes into a pipe while a test runs. */
static int saved, pipe_fd[2];
static char text[16384];

static int setup(void **state)
{
	saved = dup(STDERR_FILENO);
	return pipe(pipe_fd) < 0 || dup2(pipe_fd[1], STDERR_FILENO) < 0;
}

static int teardown(void **state)
{
	log_set_level(LOG_WARNING);
	log_set_prefix("nestor: ");
	close(pipe_fd[0]);
	return 0;
}

/* What was logged; standard error is the terminal's again. */
static const char *logged(void)
{
	size_t len = 0;
	ssize_t n;

	dup2(saved, STDERR_FILENO);
	close(saved);
	close(pipe_fd[1]);
	while ((n = read(pipe_fd[0], text + len, sizeof(text) - 1 - len)) > 0)
		len += (size_t)n;
	text[len] = '\0';
	return text;
}

static void test_a_message_is_one_line_with_its_level(void **state)
{
	log_error("VP %u is gone", 3u);
	log_warning("and %s", "so on");
	assert_string_equal(logged(), "nestor: VP 3 is gone\nnestor: warning: and so on\n");
}

static void test_messages_above_the_level_are_dropped(void **state)
{
	log_info("not by default");
	log_set_level(LOG_DEBUG);
	log_set_prefix("x ");
	log_debug("now");
	log_set_level(LOG_ERROR);
	log_warning("not this");
	assert_string_equal(logged(), "x now\n");
}

static void test_a_long_message_is_cut_at_its_line(void **state)
{
	static char longest[3000];
	const char *got;

	memset(longest, 'y', sizeof(longest) - 1);
	log_error("%s", longest);
	log_error("next");
	got = logged();
	assert_non_null(strstr(got, "y\nnestor: next\n"));
	assert_in_range(strlen(got), 1000, 1100);
}

static void test_a_flood_from_one_place_is_limited(void **state)
{
	const char *got;
	u32 lines = 0;

	for (u32 i = 0; i < 1000; i++)
		log_limited(LOG_WARNING, "message %u", i);
	log_limited(LOG_WARNING, "another place");
	got = logged();
	for (const char *p = got; (p = strchr(p, '\n')); p++)
		lines++;
	assert_int_equal(lines, 10 + 1 + 1);
	assert_non_null(strstr(got, "message 9\n"));
	assert_non_null(strstr(got, "suppressed"));
	assert_non_null(strstr(got, "another place"));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_message_is_one_line_with_its_level),
		TEST(test_messages_above_the_level_are_dropped),
		TEST(test_a_long_message_is_cut_at_its_line),
		TEST(test_a_flood_from_one_place_is_limited),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
