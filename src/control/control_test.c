// SPDX-License-Identifier: MIT
/* The protocol, with clients of every temper. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "control/client.h"
#include "control/place.h"
#include "control/server.h"

static struct control_call *waiting;
static u32 gone_count;

static void do_echo(struct control_call *call)
{
	json_t *o = json_object();

	json_object_set(o, "echo", json_object_get(call->args, "text"));
	control_ok(call, o);
}

static void do_refuse(struct control_call *call)
{
	control_fail(call, -ENOENT, "there is no %s", "such thing");
}

static void do_wait(struct control_call *call)
{
	waiting = call;
}

static void on_gone(void *ctx)
{
	gone_count++;
}

static void do_hold(struct control_call *call)
{
	int ret = control_hold(call, on_gone);

	if (ret)
		control_fail(call, ret, "held already");
	else
		control_ok(call, NULL);
}

static void do_big(struct control_call *call)
{
	char *text = malloc(400001);

	memset(text, 'x', 400000);
	text[400000] = '\0';
	control_ok(call, json_pack("{s:s}", "text", text));
	free(text);
}

static void do_fd(struct control_call *call)
{
	char text[16] = "";
	ssize_t n = call->fd < 0 ? -1 : pread(call->fd, text, sizeof(text) - 1, 0);

	if (n < 0)
		control_fail(call, -EBADF, "no descriptor");
	else
		control_ok(call, json_pack("{s:s}", "text", text));
}

static const struct control_row rows[] = {
	{ "echo", do_echo },
	{ "refuse", do_refuse },
	{ "wait", do_wait },
	{ "hold", do_hold },
	{ "big", do_big },
	{ "fd", do_fd },
	{ 0 },
};

struct rig {
	struct control_server *s;
	int fd;
};

static int add_client(struct control_server *s)
{
	int fd[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
	assert_int_equal(control_server_add_client(s, fd[0]), 0);
	return fd[1];
}

static void rig_init(struct rig *r)
{
	assert_int_equal(control_server_create(rows, NULL, &r->s), 0);
	r->fd = add_client(r->s);
	waiting = NULL;
	gone_count = 0;
}

static void rig_fini(struct rig *r)
{
	if (r->fd >= 0)
		close(r->fd);
	control_server_destroy(r->s);
}

static void run(struct rig *r)
{
	loop_run_ready(control_server_loop(r->s));
}

static void say(struct rig *r, const char *text)
{
	assert_int_equal(send(r->fd, text, strlen(text), 0), strlen(text));
	run(r);
}

/* What has come so far. */
static const char *heard(struct rig *r)
{
	static char text[4096];
	ssize_t n = recv(r->fd, text, sizeof(text) - 1, 0);

	text[n > 0 ? n : 0] = '\0';
	return text;
}

static bool is_closed(int fd)
{
	char c;

	return recv(fd, &c, 1, 0) == 0;
}

static void a_line_gets_a_line(void **state)
{
	struct rig r;

	rig_init(&r);
	say(&r, "{\"do\":\"echo\",\"text\":\"a\\nb\"}\n");
	assert_string_equal(heard(&r), "{\"echo\":\"a\\nb\",\"ok\":true}\n");
	say(&r, "{\"do\":\"refuse\"}\n");
	assert_string_equal(heard(&r),
			    "{\"ok\":false,\"error\":\"there is no such thing\",\"errno\":2}\n");
	rig_fini(&r);
}

static void what_makes_no_sense_is_answered(void **state)
{
	static const char *const lines[] = {
		"\n",
		"{\n",
		"[]\n",
		"null\n",
		"{}\n",
		"{\"do\":1}\n",
		"{\"do\":\"format-disk\"}\n",
		"{\"do\":\"echo\"} {\"do\":\"echo\"}\n",
		"{\"do\":\"echo\",\"do\":\"echo\"}\n",
		"{\"do\":\"\\u0000\"}\n",
		"\xff\xfe\n",
		"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\n",
	};
	struct rig r;

	rig_init(&r);
	for (u32 i = 0; i < ARRAY_SIZE(lines); i++) {
		say(&r, lines[i]);
		assert_non_null(strstr(heard(&r), "\"ok\":false"));
	}
	assert_int_equal(send(r.fd, "\0\n", 2, 0), 2);
	run(&r);
	assert_non_null(strstr(heard(&r), "\"ok\":false"));
	say(&r, "{\"do\":\"echo\"}\n");
	assert_string_equal(heard(&r), "{\"ok\":true}\n");
	rig_fini(&r);
}

static void lines_come_in_pieces_and_together(void **state)
{
	static const char text[] =
		"{\"do\":\"echo\",\"text\":1}\n{\"do\":\"echo\",\"text\":2}\n{\"do\"";
	struct rig r;

	rig_init(&r);
	for (const char *p = text; *p; p++) {
		char one[2] = { *p, '\0' };

		say(&r, one);
	}
	assert_string_equal(heard(&r), "{\"echo\":1,\"ok\":true}\n{\"echo\":2,\"ok\":true}\n");
	say(&r, ":\"echo\"}\n{\"do\":\"refuse\"}\n{\"do\":\"echo\"}\n");
	assert_string_equal(heard(&r), "{\"ok\":true}\n{\"ok\":false,\"error\":\"there is no such "
				       "thing\",\"errno\":2}\n{\"ok\":true}\n");
	rig_fini(&r);
}

static void a_line_that_does_not_end_is_cut_off(void **state)
{
	char *text = malloc(CONTROL_LINE_MAX + 1);
	struct rig r;

	rig_init(&r);
	memset(text, ' ', CONTROL_LINE_MAX);
	text[CONTROL_LINE_MAX] = '\0';
	say(&r, text);
	assert_string_equal(heard(&r),
			    "{\"ok\":false,\"error\":\"the line is too long\",\"errno\":90}\n");
	assert_true(is_closed(r.fd));
	free(text);
	rig_fini(&r);
}

static void the_longest_line_is_taken(void **state)
{
	char *text = malloc(CONTROL_LINE_MAX + 1);
	struct rig r;

	rig_init(&r);
	memset(text, ' ', CONTROL_LINE_MAX);
	memcpy(text, "{\"do\":\"echo\"}", 13);
	text[CONTROL_LINE_MAX - 1] = '\n';
	text[CONTROL_LINE_MAX] = '\0';
	say(&r, text);
	assert_string_equal(heard(&r), "{\"ok\":true}\n");
	free(text);
	rig_fini(&r);
}

static void half_a_line_at_the_end_is_dropped(void **state)
{
	struct rig r;

	rig_init(&r);
	say(&r, "{\"do\":\"echo\"}\n{\"do\":\"echo\"}");
	shutdown(r.fd, SHUT_WR);
	run(&r);
	assert_string_equal(heard(&r), "{\"ok\":true}\n");
	assert_true(is_closed(r.fd));
	rig_fini(&r);
}

static void an_answer_may_come_later(void **state)
{
	struct rig r;

	rig_init(&r);
	say(&r, "{\"do\":\"wait\"}\n{\"do\":\"echo\"}\n");
	assert_string_equal(heard(&r), "");
	assert_non_null(waiting);
	control_ok(waiting, NULL);
	run(&r);
	assert_string_equal(heard(&r), "{\"ok\":true}\n{\"ok\":true}\n");
	rig_fini(&r);
}

static void a_client_may_leave_before_its_answer(void **state)
{
	struct rig r;

	rig_init(&r);
	say(&r, "{\"do\":\"wait\"}\n");
	close(r.fd);
	run(&r);
	control_fail(waiting, -EIO, "too late");
	r.fd = add_client(r.s);
	say(&r, "{\"do\":\"echo\"}\n");
	assert_string_equal(heard(&r), "{\"ok\":true}\n");
	rig_fini(&r);
}

static void an_answer_may_come_after_the_stop(void **state)
{
	struct rig r;

	rig_init(&r);
	say(&r, "{\"do\":\"wait\"}\n");
	control_server_stop(r.s);
	assert_true(is_closed(r.fd));
	control_ok(waiting, NULL);
	rig_fini(&r);
	/* And never. */
	rig_init(&r);
	say(&r, "{\"do\":\"wait\"}\n");
	rig_fini(&r);
}

static void the_silent_make_room(void **state)
{
	int fds[3 * CONTROL_CLIENTS_MAX];
	struct rig r;
	u32 open = 0;

	rig_init(&r);
	say(&r, "{\"do\":\"hold\"}\n");
	assert_string_equal(heard(&r), "{\"ok\":true}\n");
	for (u32 i = 0; i < ARRAY_SIZE(fds); i++) {
		fds[i] = add_client(r.s);
		assert_int_equal(send(fds[i], "{\"do\":", 6, 0), 6);
		run(&r);
	}
	for (u32 i = 0; i < ARRAY_SIZE(fds); i++) {
		open += !is_closed(fds[i]);
		close(fds[i]);
	}
	/* All but the one that holds something. */
	assert_int_equal(open, CONTROL_CLIENTS_MAX - 1);
	say(&r, "{\"do\":\"echo\"}\n");
	assert_string_equal(heard(&r), "{\"ok\":true}\n");
	assert_int_equal(gone_count, 0);
	close(r.fd);
	r.fd = -1;
	run(&r);
	assert_int_equal(gone_count, 1);
	rig_fini(&r);
}

static void what_is_held_ends_with_the_server(void **state)
{
	struct rig r;

	rig_init(&r);
	say(&r, "{\"do\":\"hold\"}\n{\"do\":\"hold\"}\n");
	assert_non_null(strstr(heard(&r), "held already"));
	control_server_stop(r.s);
	assert_int_equal(gone_count, 1);
	rig_fini(&r);
	assert_int_equal(gone_count, 1);
}

static void a_large_answer_waits_for_a_slow_reader(void **state)
{
	size_t total = 0;
	struct rig r;

	rig_init(&r);
	say(&r, "{\"do\":\"big\"}\n");
	for (;;) {
		size_t n = strlen(heard(&r));

		run(&r);
		if (!n)
			break;
		total += n;
	}
	assert_int_equal(total, 400000 + sizeof("{\"text\":\"\",\"ok\":true}\n") - 1);
	rig_fini(&r);
}

static char place[64];

static void place_init(void)
{
	snprintf(place, sizeof(place), "/tmp/nestor-control-test.XXXXXX");
	assert_non_null(mkdtemp(place));
	setenv("NESTOR_RUNTIME_DIR", place, 1);
}

static void count_name(const char *name, void *ctx)
{
	assert_string_equal(name, "test.1");
	++*(u32 *)ctx;
}

/* As a command uses it: by name, with a thread, with a descriptor. */
static void it_is_found_by_name(void **state)
{
	struct control_server *s;
	char own[CONTROL_NAME_MAX + 1];
	FILE *f = tmpfile();
	int fd, claim, error;
	u32 n = 0;
	json_t *o;

	place_init();
	snprintf(own, sizeof(own), "claim-%d", (int)getpid());
	claim = control_name_claim(own);
	assert_true(claim >= 0);
	assert_int_equal(control_name_claim(own), -EADDRINUSE);
	close(claim);
	claim = control_name_claim(own);
	assert_true(claim >= 0);
	close(claim);

	assert_int_equal(control_place_connect("test.1"), -ENOENT);
	assert_int_equal(control_server_create(rows, NULL, &s), 0);
	assert_int_equal(control_server_start(s, "test.1"), 0);
	control_place_list(count_name, &n);
	assert_int_equal(n, 1);
	fd = control_place_connect("test.1");
	assert_true(fd >= 0);
	fputs("file", f);
	fflush(f);
	o = control_ask(fd, json_pack("{s:s}", "do", "fd"), fileno(f), 10000, &error);
	assert_non_null(o);
	assert_string_equal(json_string_value(json_object_get(o, "text")), "file");
	json_decref(o);
	/* It went with the request. */
	o = control_ask(fd, json_pack("{s:s}", "do", "fd"), -1, 10000, &error);
	assert_false(json_is_true(json_object_get(o, "ok")));
	json_decref(o);
	o = control_ask(fd, json_pack("{s:s}", "do", "big"), -1, 10000, &error);
	assert_int_equal(json_string_length(json_object_get(o, "text")), 400000);
	json_decref(o);
	assert_null(control_ask(fd, json_pack("{s:s}", "do", "wait"), -1, 50, &error));
	assert_int_equal(error, -ETIMEDOUT);
	assert_false(control_wait_end(fd, 10));
	control_server_stop(s);
	assert_true(control_wait_end(fd, 10000));
	assert_null(control_ask(fd, json_pack("{s:s}", "do", "echo"), -1, 10000, &error));
	assert_int_equal(error, -EPIPE);
	close(fd);
	fclose(f);
	control_server_destroy(s);
	assert_int_equal(rmdir(place), 0); /* nothing is left */
}

static void what_a_killed_process_left_is_replaced(void **state)
{
	struct control_server *s, *second;
	struct sockaddr_un sa;
	int left = socket(AF_UNIX, SOCK_STREAM, 0);

	place_init();
	assert_int_equal(control_place_create("test.1", &sa), 0);
	assert_int_equal(bind(left, (struct sockaddr *)&sa, sizeof(sa)), 0);
	close(left);
	assert_int_equal(control_server_create(rows, NULL, &s), 0);
	assert_int_equal(control_server_start(s, "test.1"), 0);
	/* But not one that lives. */
	assert_int_equal(control_server_create(rows, NULL, &second), 0);
	assert_int_equal(control_server_start(second, "test.1"), -EADDRINUSE);
	control_server_destroy(second);
	left = control_place_connect("test.1");
	assert_true(left >= 0);
	close(left);
	control_server_destroy(s);
	assert_int_equal(rmdir(place), 0);
}

static void a_directory_of_others_is_not_used(void **state)
{
	struct sockaddr_un sa;
	char link[80];

	place_init();
	chmod(place, 0755);
	assert_int_equal(control_place_create("test.1", &sa), -EPERM);
	chmod(place, 0700);
	snprintf(link, sizeof(link), "%s/link", place);
	assert_int_equal(symlink(place, link), 0);
	setenv("NESTOR_RUNTIME_DIR", link, 1);
	assert_int_equal(control_place_create("test.1", &sa), -ENOTDIR);
	unlink(link);
	rmdir(place);
}

static void names_are_checked(void **state)
{
	static const struct {
		const char *name;
		bool valid;
	} names[] = {
		{ "a", true },
		{ "web-1.test_2", true },
		{ "", false },
		{ ".", false },
		{ "..", false },
		{ "-a", false },
		{ "a/b", false },
		{ "a b", false },
		{ "a\n", false },
		{ "\xc3\xa4", false },
		{ "0123456789012345678901234567890123456789", true },
		{ "01234567890123456789012345678901234567890", false },
	};

	for (u32 i = 0; i < ARRAY_SIZE(names); i++)
		assert_int_equal(control_name_valid(names[i].name), names[i].valid);
	assert_int_equal(control_name_claim("../x"), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_line_gets_a_line),
		cmocka_unit_test(what_makes_no_sense_is_answered),
		cmocka_unit_test(lines_come_in_pieces_and_together),
		cmocka_unit_test(a_line_that_does_not_end_is_cut_off),
		cmocka_unit_test(the_longest_line_is_taken),
		cmocka_unit_test(half_a_line_at_the_end_is_dropped),
		cmocka_unit_test(an_answer_may_come_later),
		cmocka_unit_test(a_client_may_leave_before_its_answer),
		cmocka_unit_test(an_answer_may_come_after_the_stop),
		cmocka_unit_test(the_silent_make_room),
		cmocka_unit_test(what_is_held_ends_with_the_server),
		cmocka_unit_test(a_large_answer_waits_for_a_slow_reader),
		cmocka_unit_test(it_is_found_by_name),
		cmocka_unit_test(what_a_killed_process_left_is_replaced),
		cmocka_unit_test(a_directory_of_others_is_not_used),
		cmocka_unit_test(names_are_checked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
