// SPDX-License-Identifier: MIT
/* Frames survive any way of being cut into pieces, and a peer that stops reading. */
#include "incubator/link.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static void make_pair(struct link *a, struct link *b)
{
	int fd[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
	assert_int_equal(link_init(a, fd[0]), 0);
	assert_int_equal(link_init(b, fd[1]), 0);
}

static void frames_keep_their_shape(void **state)
{
	static const size_t sizes[] = { 0, 1, 7, 8, 9, 4096, WIRE_MAX_PAYLOAD };
	struct link a, b;
	u8 *data = malloc(WIRE_MAX_PAYLOAD);

	(void)state;
	make_pair(&a, &b);
	memset(data, 0x5a, WIRE_MAX_PAYLOAD);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct wire_frame *f = NULL;
		int error = 0;

		assert_int_equal(link_send(&a, (u16)i, WIRE_DATA, WIRE_STDOUT, data, sizes[i]), 0);
		while (!f) {
			link_flush(&a);
			assert_int_equal(link_fill(&b), 0);
			f = link_next(&b, &error);
		}
		assert_int_equal(f->session, i);
		assert_int_equal(f->type, WIRE_DATA);
		assert_int_equal(f->stream, WIRE_STDOUT);
		assert_int_equal(f->len, sizes[i]);
		assert_memory_equal(f->payload, data, sizes[i]);
		assert_null(link_next(&b, &error));
		assert_int_equal(error, 0);
	}
	free(data);
	link_fini(&a);
	link_fini(&b);
}

static void a_full_pipe_is_waited_for(void **state)
{
	struct link a, b;
	u32 sent = 0, got = 0;
	int error = 0;

	(void)state;
	make_pair(&a, &b);
	while (sent < 1000) {
		u8 text[3000];

		memset(text, (int)sent, sizeof(text));
		assert_int_equal(link_send(&a, (u16)sent++, WIRE_DATA, 0, text, sizeof(text)), 0);
	}
	assert_true(link_pending(&a));
	while (got < sent) {
		struct wire_frame *f;

		link_flush(&a);
		assert_int_equal(link_fill(&b), 0);
		while ((f = link_next(&b, &error)) != NULL) {
			assert_int_equal(f->session, got);
			assert_int_equal(f->payload[2999], (u8)got);
			got++;
		}
	}
	assert_false(link_pending(&a));
	assert_int_equal(error, 0);
	link_fini(&a);
	link_fini(&b);
}

static void byte_by_byte(void **state)
{
	const struct wire_frame head = { .session = 7, .type = WIRE_EXIT, .len = 4 };
	u8 raw[16] = { 0 };
	struct link a, b;
	int error = 0;

	(void)state;
	make_pair(&a, &b);
	memcpy(raw, &head, sizeof(head));
	memcpy(raw + 8, "\1\2\3\4", 4);
	for (size_t i = 0; i < sizeof(raw); i++) {
		assert_null(link_next(&b, &error));
		assert_int_equal(write(a.fd, raw + i, 1), 1);
		assert_int_equal(link_fill(&b), 0);
	}
	assert_non_null(link_next(&b, &error));
	assert_null(link_next(&b, &error));
	link_fini(&a);
	link_fini(&b);
}

static void nonsense_is_refused(void **state)
{
	const struct wire_frame head = { .type = WIRE_DATA, .len = WIRE_MAX_PAYLOAD + 1 };
	struct link a, b;
	int error = 0;

	(void)state;
	make_pair(&a, &b);
	assert_int_equal(write(a.fd, &head, sizeof(head)), sizeof(head));
	assert_int_equal(link_fill(&b), 0);
	assert_null(link_next(&b, &error));
	assert_int_equal(error, -EPROTO);
	link_fini(&a);
	assert_int_equal(link_fill(&b), -EPIPE);
	link_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames_keep_their_shape),
		cmocka_unit_test(a_full_pipe_is_waited_for),
		cmocka_unit_test(byte_by_byte),
		cmocka_unit_test(nonsense_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
