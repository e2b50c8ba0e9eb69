// SPDX-License-Identifier: MIT
/* What becomes of a guest's output. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "machine/console.h"

static const struct console_ops ops = { 0 };

/* What is said on standard error while "hello" goes to @path; @said has room for @room bytes. */
static void output_to(const char *path, char *said, size_t room)
{
	int out = dup(STDOUT_FILENO), err = dup(STDERR_FILENO);
	int to = open(path, O_WRONLY | O_CLOEXEC), log = memfd_create("log", MFD_CLOEXEC);
	struct console *c;
	ssize_t n;

	assert_true(to >= 0 && log >= 0 && out >= 0 && err >= 0);
	assert_int_equal(console_create(&ops, NULL, true, &c), 0);
	dup2(to, STDOUT_FILENO);
	dup2(log, STDERR_FILENO);
	console_output(c, (const u8 *)"hello", 5);
	dup2(out, STDOUT_FILENO);
	dup2(err, STDERR_FILENO);
	console_destroy(c);
	n = pread(log, said, room - 1, 0);
	assert_true(n >= 0);
	said[n] = 0;
	close(out);
	close(err);
	close(to);
	close(log);
}

static void test_a_disk_that_is_full_is_told(void **state)
{
	char said[256];

	output_to("/dev/null", said, sizeof(said));
	assert_string_equal(said, "");
	output_to("/dev/full", said, sizeof(said));
	assert_non_null(strstr(said, "standard output: No space left on device"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_disk_that_is_full_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
