// SPDX-License-Identifier: MIT
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/trace.h"

static const char *word(u64 value)
{
	return value == 1 ? "one" : NULL;
}

static const struct trace_event instant = {
	"cat",
	"hit",
	TRACE_INSTANT,
	{ { "a", false, NULL }, { "b", true, NULL }, { "w", true, word } }
};
static const struct trace_event begin = { "cat", "job", TRACE_BEGIN, { { "n", false, NULL } } };
static const struct trace_event finish = { "cat", "job", TRACE_END, { { "n", false, NULL } } };

static char path[64];
static char *text;

static void start(const char *suffix)
{
	snprintf(path, sizeof(path), "/tmp/trace_test.%d%s", getpid(), suffix);
	assert_int_equal(trace_start(path), 0);
}

static const char *stop(void)
{
	FILE *f;
	long size;

	assert_int_equal(trace_stop(), 0);
	f = fopen(path, "re");
	assert_non_null(f);
	fseek(f, 0, SEEK_END);
	size = ftell(f);
	rewind(f);
	free(text);
	text = calloc(1, (size_t)size + 1);
	assert_non_null(text);
	assert_int_equal(fread(text, 1, (size_t)size, f), size);
	fclose(f);
	unlink(path);
	return text;
}

static u32 count(const char *in, const char *what)
{
	u32 n = 0;

	for (; (in = strstr(in, what)); in++)
		n++;
	return n;
}

static void test_nothing_happens_while_off(void **state)
{
	trace_emit(&instant, 1, 2, 3);
	assert_int_equal(trace_stop(), 0);
	assert_false(trace_on);
}

static void test_lines_show_numbers_and_words(void **state)
{
	const char *got;

	start(".txt");
	trace_name_thread("L1 vp0");
	trace_emit(&instant, 10, 0xABC, 1);
	trace_emit(&instant, 11, 0, 2);
	got = stop();
	assert_non_null(strstr(got, " L1 vp0 cat.hit a=10 b=0xabc w=one\n"));
	assert_non_null(strstr(got, " L1 vp0 cat.hit a=11 b=0x0 w=0x2\n"));
	assert_int_equal(count(got, "\n"), 2);
}

static void test_json_has_a_track_and_phases(void **state)
{
	const char *got;

	start(".json");
	trace_name_thread("vp7");
	trace_emit(&begin, 1);
	trace_emit(&instant, 10, 0xABC, 1);
	trace_emit(&finish, 1);
	got = stop();
	assert_int_equal(count(got, "\"thread_name\""), 1);
	assert_int_equal(count(got, "{\"name\":\"vp7\"}"), 1);
	assert_int_equal(count(got, "\"ph\":\"B\""), 1);
	assert_int_equal(count(got, "\"ph\":\"E\""), 1);
	assert_non_null(strstr(got, "{\"name\":\"hit one\",\"cat\":\"cat\",\"ph\":\"i\""));
	assert_non_null(strstr(got, "\"args\":{\"a\":10,\"b\":\"0xabc\",\"w\":\"one\"}}"));
	/* Well-formed as far as counting tells. */
	assert_int_equal(count(got, "{"), count(got, "}"));
	assert_int_equal(count(got, ",\n"), 3);
	assert_int_equal(strncmp(got, "{\"displayTimeUnit\"", 18), 0);
	assert_string_equal(got + strlen(got) - 4, "\n]}\n");
}

static void test_an_empty_trace_is_still_a_document(void **state)
{
	start(".json");
	assert_string_equal(stop(), "{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n\n]}\n");
}

#define EVENTS 20000 /* several times the ring */

static void *producer(void *arg)
{
	char name[16];

	snprintf(name, sizeof(name), "p%u", (u32)(uintptr_t)arg);
	trace_name_thread(name);
	for (u64 i = 0; i < EVENTS; i++)
		trace_emit(&instant, i, 0, 0);
	return NULL;
}

static void test_a_trace_is_complete_and_in_order_for_each_thread(void **state)
{
	u64 expected[3] = { 0 };
	pthread_t thread[3];
	char *line, *rest;

	start(".txt");
	for (u32 i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, producer, (void *)(uintptr_t)i),
				 0);
	for (u32 i = 0; i < 3; i++)
		pthread_join(thread[i], NULL);
	stop();
	for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		u32 who = (u32)(strstr(line, " p")[2] - '0');

		assert_int_equal(strtoull(strstr(line, "a=") + 2, NULL, 10), expected[who]++);
	}
	for (u32 i = 0; i < 3; i++)
		assert_int_equal(expected[i], EVENTS);
}

static void test_a_second_trace_starts_afresh(void **state)
{
	start(".txt");
	trace_emit(&instant, 1, 1, 1);
	assert_int_equal(count(stop(), "\n"), 1);
	start(".txt");
	trace_emit(&instant, 2, 1, 1);
	trace_emit(&instant, 3, 1, 1);
	assert_int_equal(count(stop(), "\n"), 2);
}

static void test_one_trace_at_a_time(void **state)
{
	start(".txt");
	assert_int_equal(trace_start("/dev/null"), -EBUSY);
	trace_emit(&instant, 1, 1, 1);
	assert_int_equal(count(stop(), "\n"), 1);
}

static void test_files_that_cannot_be_written_are_reported(void **state)
{
	assert_int_equal(trace_start("/nonexistent/x.json"), -ENOENT);
	assert_false(trace_on);
	assert_int_equal(trace_start("/dev/full"), 0);
	for (u32 i = 0; i < 1000; i++)
		trace_emit(&instant, i, 1, 1);
	assert_in_range(-trace_stop(), 1, 200);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_happens_while_off),
		cmocka_unit_test(test_lines_show_numbers_and_words),
		cmocka_unit_test(test_json_has_a_track_and_phases),
		cmocka_unit_test(test_an_empty_trace_is_still_a_document),
		cmocka_unit_test(test_a_trace_is_complete_and_in_order_for_each_thread),
		cmocka_unit_test(test_a_second_trace_starts_afresh),
		cmocka_unit_test(test_one_trace_at_a_time),
		cmocka_unit_test(test_files_that_cannot_be_written_are_reported),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	free(text);
	return failed;
}
