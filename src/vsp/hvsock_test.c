// SPDX-License-Identifier: MIT
/* hv_sock: programs on the host at Unix sockets, a guest as Linux hyperv_transport.c. */
#include "vsp/hvsock.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmbus/testing.h"

#include <cmocka.h>

static struct fake_guest g;
static struct guest_channel c;
static struct guest_packet p;
static struct hvsock *hs;
static char dir[] = "/tmp/nestor-hvsock-XXXXXX", path[64];

static const struct hv_guid vsock_template =
	HV_GUID(0, 0xfacb, 0x11e6, 0xbd, 0x58, 0x64, 0x00, 0x6a, 0x79, 0x86, 0xd3);

static int setup(void **state)
{
	struct hvsock_config cfg = { .path = path, .max_connections = 4 };

	strcpy(dir + sizeof(dir) - 7, "XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/v", dir);
	guest_init(&g, NULL);
	cfg.loop = g.loop;
	assert_int_equal(hvsock_create(g.srv, &cfg, &hs), 0);
	guest_connect(&g, VMBUS_VERSION(5, 2), 0);
	guest_expect(&g, VMBUS_ALL_OFFERS_DELIVERED, 8);
	return 0;
}

static int teardown(void **state)
{
	hvsock_destroy(hs);
	guest_fini(&g);
	assert_int_equal(rmdir(dir), 0);
	return 0;
}

static int unix_socket(const char *at, bool listening)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

	strcpy(addr.sun_path, at);
	if (listening) {
		assert_int_equal(bind(fd, (void *)&addr, sizeof(addr)), 0);
		assert_int_equal(listen(fd, 5), 0);
	} else {
		assert_int_equal(connect(fd, (void *)&addr, sizeof(addr)), 0);
	}
	return fd;
}

static void say(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
	guest_run(&g);
}

static void hear(int fd, const char *text)
{
	char buf[64];
	ssize_t n;

	guest_run(&g);
	n = recv(fd, buf, sizeof(buf), 0);
	assert_int_equal(n, strlen(text));
	assert_memory_equal(buf, text, strlen(text));
}

static void hear_end(int fd)
{
	char buf[4];

	guest_run(&g);
	assert_int_equal(recv(fd, buf, sizeof(buf), 0), 0);
}

static void guest_stream(const void *data, u32 bytes)
{
	struct vmbus_pipe_header h = { 1, bytes };
	static u8 buf[8 + VMBUS_HVSOCK_MAX_DATA];

	memcpy(buf, &h, 8);
	memcpy(buf + 8, data, bytes);
	guest_send(&c, 0, 0, buf, 8 + bytes);
}

static void expect_stream(const void *data, u32 bytes)
{
	struct vmbus_pipe_header h;

	assert_true(guest_read(&c, &p));
	memcpy(&h, p.data, 8);
	assert_int_equal(h.type, 1);
	assert_int_equal(h.bytes, bytes);
	assert_memory_equal(p.data + 8, data, bytes);
}

/* RESCIND, and what Linux does with it. */
static void expect_rescind(void)
{
	const struct vmbus_relid_message *r = guest_expect(&g, VMBUS_RESCIND_OFFER, sizeof(*r));

	assert_int_equal(r->relid, c.offer.relid);
	guest_post_relid(&g, VMBUS_CLOSE_CHANNEL, c.offer.relid);
	guest_post_relid(&g, VMBUS_RELID_RELEASED, c.offer.relid);
	guest_run(&g);
}

static int host_connects(void)
{
	int fd = unix_socket(path, false);

	say(fd, "CONNECT 1024\nearly");
	guest_expect_offer(&g, &c);
	assert_int_equal(hv_guid_data1(&c.offer.interface_id), 1024);
	assert_memory_equal(c.offer.interface_id.b + 4, vsock_template.b + 4, 12);
	assert_int_equal(c.offer.flags, 0x2011);
	assert_int_equal(c.offer.user_data[4], 1);
	assert_int_equal(guest_open(&c, 7, 0), 0);
	hear(fd, "OK 1024\n");
	expect_stream("early", 5);
	return fd;
}

static void host_to_guest(void **state)
{
	int fd = host_connects();

	assert_int_equal(hvsock_count(hs), 1);
	guest_stream("hello", 5);
	hear(fd, "hello");
	say(fd, "there");
	expect_stream("there", 5);
	/* The host program is through writing, then the guest is through too. */
	shutdown(fd, SHUT_WR);
	expect_stream("", 0);
	guest_stream("bye", 3);
	hear(fd, "bye");
	guest_stream("", 0);
	hear_end(fd);
	expect_rescind();
	assert_int_equal(hvsock_count(hs), 0);
	close(fd);
}

static void guest_to_host(void **state)
{
	struct vmbus_tl_connect_request m = {
		.header.type = VMBUS_TL_CONNECT_REQUEST,
		.endpoint_id.b[0] = 0x77,
		.service_id = vsock_template,
	};
	const struct vmbus_tl_connect_result *r;
	char at[80];
	int ls, fd;

	hv_guid_set_data1(&m.service_id, 99);
	guest_post(&g, &m, sizeof(m)); /* nobody listens there */
	r = guest_expect(&g, VMBUS_TL_CONNECT_RESULT, sizeof(*r));
	assert_int_equal(r->status, VMBUS_STATUS_CONNECTION_REFUSED);
	snprintf(at, sizeof(at), "%s_99", path);
	ls = unix_socket(at, true);
	guest_post(&g, &m, sizeof(m));
	guest_expect_offer(&g, &c);
	assert_true(hv_guid_eq(&c.offer.instance_id, &m.endpoint_id));
	assert_true(hv_guid_eq(&c.offer.interface_id, &m.service_id));
	assert_int_equal(c.offer.user_data[4], 0);
	fd = accept(ls, NULL, NULL);
	assert_true(fd >= 0);
	assert_int_equal(guest_open(&c, 7, 0), 0);
	guest_stream("ping", 4);
	hear(fd, "ping");
	say(fd, "pong");
	close(fd); /* the guest still gets what was written, then the end */
	guest_run(&g);
	expect_stream("pong", 4);
	expect_stream("", 0);
	guest_advance(&g, 20 * NS_PER_MS);
	expect_rescind();
	assert_int_equal(hvsock_count(hs), 0);
	/* Not a vsock service: refused. */
	m.service_id.b[15] ^= 1;
	guest_post(&g, &m, sizeof(m));
	guest_expect(&g, VMBUS_TL_CONNECT_RESULT, sizeof(*r));
	close(ls);
	unlink(at);
}

static void bad_lines_are_hung_up(void **state)
{
	static const char *const lines[] = {
		"HELLO 5\n",
		"CONNECT \n",
		"CONNECT x\n",
		"CONNECT -1\n",
		"CONNECT 4294967296\n",
		"CONNECT 5 6\n",
		"CONNECT 00000000000000000000000000000000000000000005\n",
	};

	for (u32 i = 0; i < ARRAY_SIZE(lines); i++) {
		int fd = unix_socket(path, false);

		say(fd, lines[i]);
		guest_run(&g);
		assert_true(recv(fd, &(char[4]){ 0 }, 4, 0) <= 0);
		assert_true(errno != EAGAIN || recv(fd, &(char[4]){ 0 }, 4, 0) == 0);
		close(fd);
	}
	guest_expect_none(&g);
	assert_int_equal(hvsock_count(hs), 0);
}

static void nobody_in_the_guest(void **state)
{
	int fd = unix_socket(path, false);

	say(fd, "CONNECT 7\n");
	guest_expect_offer(&g, &c);
	guest_advance(&g, 5 * NS_PER_S);
	hear_end(fd);
	guest_expect(&g, VMBUS_RESCIND_OFFER, 12);
	guest_post_relid(&g, VMBUS_RELID_RELEASED, c.offer.relid);
	assert_int_equal(hvsock_count(hs), 0);
	close(fd);
	/* Hung up by the host before the guest came. */
	fd = unix_socket(path, false);
	say(fd, "CONNECT 7\n");
	guest_expect_offer(&g, &c);
	close(fd);
	guest_expect(&g, VMBUS_RESCIND_OFFER, 12);
	assert_int_equal(guest_gpadl(&g, c.offer.relid, 5, FAKE_RAM_GPA, 1), VMBUS_STATUS_FAILED);
}

static void many_bytes_both_ways(void **state)
{
	static u8 out[300000], in[sizeof(out)], got[sizeof(out)];
	u32 sent = 0, heard = 0, told = 0, read_bytes = 0;
	int fd = host_connects();

	for (u32 i = 0; i < sizeof(out); i++) {
		out[i] = (u8)(i * 7 + i / 256);
		in[i] = (u8)(i * 3 + i / 999);
	}
	/* Whatever is full waits; nothing is lost or reordered. */
	while (heard < sizeof(out) || read_bytes < sizeof(in)) {
		struct vmbus_pipe_header h = { 1, 0 };
		u8 buf[8 + 5000];
		bool full;
		ssize_t n;

		h.bytes = (u32)min_u64(5000, sizeof(out) - sent);
		memcpy(buf, &h, 8);
		memcpy(buf + 8, out + sent, h.bytes);
		full = h.bytes == 0 || !guest_write(&c, VMBUS_PACKET_INBAND, 0, 0, NULL, 0, buf,
						    8 + h.bytes, false);
		if (!full)
			sent += h.bytes;
		guest_run(&g);
		if (told < sizeof(in)) {
			n = send(fd, in + told, min_u64(sizeof(in) - told, 30000),
				 MSG_NOSIGNAL | MSG_DONTWAIT);
			told += n > 0 ? (u32)n : 0;
		}
		guest_run(&g);
		if (full) {
			n = recv(fd, got + heard, sizeof(out) - heard, MSG_DONTWAIT);
			heard += n > 0 ? (u32)n : 0;
		}
		if (guest_read(&c, &p)) {
			memcpy(&h, p.data, 8);
			assert_memory_equal(p.data + 8, in + read_bytes, h.bytes);
			read_bytes += h.bytes;
		}
	}
	assert_memory_equal(got, out, sizeof(out));
	close(fd);
}

static void a_guest_that_goes_ends_all(void **state)
{
	int fd = host_connects();

	guest_post_simple(&g, VMBUS_UNLOAD);
	guest_expect(&g, VMBUS_UNLOAD_COMPLETE, 8);
	hear_end(fd);
	assert_int_equal(hvsock_count(hs), 0);
	close(fd);
}

static void violations_close(void **state)
{
	int fd = host_connects();

	guest_send(&c, 0, 0, &(struct vmbus_pipe_header){ 1, 50 }, 8);
	hear_end(fd);
	expect_rescind();
	close(fd);
}

static void too_many_are_refused(void **state)
{
	int fd[6];

	for (u32 i = 0; i < 6; i++) {
		fd[i] = unix_socket(path, false);
		guest_run(&g);
	}
	assert_int_equal(hvsock_count(hs), 4);
	hear_end(fd[5]);
	guest_advance(&g, 5 * NS_PER_S); /* they say nothing */
	assert_int_equal(hvsock_count(hs), 0);
	for (u32 i = 0; i < 6; i++)
		close(fd[i]);
}

/* Connections are accepted in order: when this one was hung up, all before it were seen. */
static void wait_for_accepts(void)
{
	int fd = unix_socket(path, false);
	char byte;

	say(fd, "nonsense\n");
	while (read(fd, &byte, 1) != 0)
		usleep(100);
	close(fd);
}

/* Loops and threads of their own, as in a machine: connections that start and end at random. */
static void threads_do_not_wait_for_each_other(void **state)
{
	struct hvsock_config cfg = { .path = path };
	int fd[8];

	hvsock_destroy(hs);
	assert_int_equal(loop_thread_start(g.loop, "server"), 0);
	assert_int_equal(hvsock_create(g.srv, &cfg, &hs), 0);
	for (u32 round = 0; round < 60; round++) {
		struct guest_channel ch[8];

		for (u32 i = 0; i < 8; i++) {
			fd[i] = unix_socket(path, false);
			say(fd[i], "CONNECT 5\n");
		}
		if (round % 4 == 3) /* gone at once */
			for (u32 i = 0; i < 8; i++)
				close(fd[i]);
		wait_for_accepts();
		for (u32 i = 0; i < 8 && round % 4 != 3; i++)
			guest_expect_offer(&g, &ch[i]);
		if (round % 4 == 0)
			for (u32 i = 0; i < 4; i++)
				assert_int_equal(guest_open(&ch[i], 2, 0), 0);
		guest_post_contact(&g, VMBUS_VERSION(5, 2), 0); /* kexec in the middle of it */
		if (round % 4 != 3)
			for (u32 i = 0; i < 8; i++)
				close(fd[i]);
		for (u32 i = 0; i < 20000 && hvsock_count(hs); i++)
			usleep(100);
		assert_int_equal(hvsock_count(hs), 0);
		guest_post_simple(&g, VMBUS_REQUEST_OFFERS);
		while (((const struct vmbus_message_header *)g.log[(g.count - 1) % FAKE_LOG]
				.payload)
			       ->type != VMBUS_ALL_OFFERS_DELIVERED)
			guest_run(&g);
		g.taken = g.count;
		g.next_gpa = FAKE_RAM_GPA;
	}
	for (u32 i = 0; i < 8; i++) { /* and at the end, some are alive */
		fd[i] = unix_socket(path, false);
		say(fd[i], "CONNECT 5\n");
	}
	for (u32 i = 0; i < 8; i++)
		guest_expect_offer(&g, &c);
	assert_int_equal(guest_open(&c, 2, 0), 0);
	hvsock_destroy(hs);
	for (u32 i = 0; i < 8; i++)
		close(fd[i]);
	vmbus_server_reset(g.srv);
	loop_thread_join(g.loop);
	assert_int_equal(
		hvsock_create(g.srv, &(struct hvsock_config){ .path = path, .loop = g.loop }, &hs),
		0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(host_to_guest),
		T(guest_to_host),
		T(bad_lines_are_hung_up),
		T(nobody_in_the_guest),
		T(many_bytes_both_ways),
		T(a_guest_that_goes_ends_all),
		T(violations_close),
		T(too_many_are_refused),
		T(threads_do_not_wait_for_each_other),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
