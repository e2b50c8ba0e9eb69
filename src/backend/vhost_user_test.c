// SPDX-License-Identifier: MIT
/* The protocol against a back end on a thread that checks what it gets and may misbehave. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "backend/helper.h"
#include "backend/vhost_user.h"

#define LOG_MAX 64

struct peer {
	int fd, ours;
	pthread_t thread;
	u32 die_at; /* hangs up instead of answering this request */
	u32 lie_at; /* answers it with another */
	u32 refuse; /* does not acknowledge it */
	u32 log[LOG_MAX], count, fds;
	u64 features, protocol;
};

struct message {
	u32 request, flags, bytes;
	u8 body[512];
};

static bool receive(struct peer *p, struct message *m)
{
	u8 control[256];
	struct iovec iov = { m, 12 };
	struct msghdr mh = { .msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control,
			     .msg_controllen = sizeof(control) };
	struct cmsghdr *c;

	if (recvmsg(p->fd, &mh, MSG_WAITALL) != 12)
		return false;
	for (c = CMSG_FIRSTHDR(&mh); c; c = CMSG_NXTHDR(&mh, c))
		for (u32 n = 0; n < (c->cmsg_len - CMSG_LEN(0)) / sizeof(int); n++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + n * sizeof(int), sizeof(fd));
			close(fd);
			p->fds++;
		}
	return m->bytes <= sizeof(m->body) &&
	       (!m->bytes || recv(p->fd, m->body, m->bytes, MSG_WAITALL) == (ssize_t)m->bytes);
}

static void answer(struct peer *p, struct message *m, const void *body, u32 bytes)
{
	m->request += p->lie_at == m->request;
	m->flags = 1 | BIT(2);
	m->bytes = bytes;
	memmove(m->body, body, bytes);
	if (send(p->fd, m, 12 + bytes, MSG_NOSIGNAL) < 0)
		p->die_at = 0;
}

static void *peer_thread(void *arg)
{
	struct peer *p = arg;
	struct message m;
	u64 value;

	while (receive(p, &m)) {
		if (p->count < LOG_MAX)
			p->log[p->count++] = m.request;
		if (m.request == p->die_at)
			break;
		memcpy(&value, m.body, 8);
		switch (m.request) {
		case 1:
			answer(p, &m, &(u64){ BIT64(30) | BIT64(32) | BIT64(9) }, 8);
			break;
		case 15:
			answer(p, &m, &(u64){ BIT64(0) | BIT64(3) | BIT64(9) | BIT64(15) }, 8);
			break;
		case 17:
			answer(p, &m, &(u64){ 4 }, 8);
			break;
		case 11:
			((u32 *)(void *)m.body)[1] = 77;
			answer(p, &m, m.body, 8);
			break;
		case 24:
			memset(m.body + 12, 0x5A, m.bytes - 12);
			answer(p, &m, m.body, m.bytes);
			break;
		case 2:
			p->features = value;
			goto acknowledge;
		case 16:
			p->protocol = value;
			goto acknowledge;
		default:
		acknowledge:
			if (m.flags & BIT(3))
				answer(p, &m, &(u64){ m.request == p->refuse }, 8);
		}
	}
	close(p->fd);
	return NULL;
}

static void peer_start(struct peer *p)
{
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	p->ours = fds[0];
	p->fd = fds[1];
	assert_int_equal(pthread_create(&p->thread, NULL, peer_thread, p), 0);
}

static void test_life(void **state)
{
	struct peer p = { 0 };
	struct vhost_user *vu;
	int mem = memfd_create("test", MFD_CLOEXEC), kick = eventfd(0, 0), call = eventfd(0, 0);
	const struct vhost_user_region regions[2] = { { 0, 4096, &p, mem, 0 },
						      { 8192, 4096, &p, mem, 4096 } };
	struct vhost_user_ring rings[2] = { { 0, 16, 3, &p, &p, &p, kick, call },
					    { 1, 16, 0, &p, &p, &p, kick, -1 } };
	static const u32 order[] = { 1,	 15, 16, 3,  17, 24, /* start */ 2,
				     5,	 8,  10, 9,  13, 12, 18,
				     8,	 10, 9,	 13, 12, 18, /* a vector, stop */ 13,
				     11, 11 };
	u8 config[60];

	peer_start(&p);
	assert_int_equal(vhost_user_create(p.ours, &vu), 0);
	assert_int_equal(vhost_user_features(vu), BIT64(32) | BIT64(9));
	assert_int_equal(vhost_user_queues(vu), 4);
	assert_int_equal(vhost_user_config(vu, config, sizeof(config)), 0);
	assert_int_equal(config[59], 0x5A);
	assert_int_equal(vhost_user_config(vu, config, 1000), -EINVAL);
	assert_int_equal(vhost_user_start(vu, BIT64(32), regions, 2, rings, 2), 0);
	assert_int_equal(vhost_user_set_call(vu, 1, call), 0);
	assert_int_equal(vhost_user_stop(vu, rings, 2), 0);
	assert_int_equal(rings[1].next, 77);
	vhost_user_destroy(vu);
	pthread_join(p.thread, NULL);
	assert_int_equal(p.features, BIT64(32) | BIT64(30));
	assert_int_equal(p.protocol, BIT64(0) | BIT64(3) | BIT64(9));
	assert_int_equal(p.count, ARRAY_SIZE(order));
	assert_memory_equal(p.log, order, sizeof(order));
	assert_int_equal(p.fds, 2 + 2 + 1 + 1);
	close(mem);
	close(kick);
	close(call);
}

static void test_misbehaviour(void **state)
{
	struct vhost_user_ring ring = { 0, 16, 0, state, state, state, 0, -1 };
	struct vhost_user *vu;

	for (u32 request = 1; request <= 24; request++)
		for (u32 how = 0; how < 3; how++) {
			struct peer p = { .die_at = how == 0 ? request : 0,
					  .lie_at = how == 1 ? request : 0,
					  .refuse = how == 2 ? request : 0 };
			u8 config[8];
			int ret;

			peer_start(&p);
			ret = vhost_user_create(p.ours, &vu);
			if (!ret) {
				ret = vhost_user_config(vu, config, sizeof(config));
				if (!ret)
					ret = vhost_user_start(vu, 0, NULL, 0, &ring, 1);
				if (!ret)
					ret = vhost_user_stop(vu, &ring, 1);
				/* The dead stay dead. */
				if (ret == -EPIPE || ret == -EPROTO)
					assert_int_equal(vhost_user_set_call(vu, 0, -1), -EPIPE);
				vhost_user_destroy(vu);
			}
			pthread_join(p.thread, NULL);
			/* What was asked and went wrong was noticed, and nothing else was. */
			if (how < 2 && p.log[p.count - 1] == request)
				assert_true(ret == -EPIPE || ret == -EPROTO);
			else if (how < 2)
				assert_int_equal(ret, 0);
		}
}

static void test_helper(void **state)
{
	char *const fails[] = { "sh", "-c", "echo one >&2; echo the reason >&2; exit 3", NULL };
	char *const mute[] = { "sh", "-c", "exit 4", NULL };
	char *const stays[] = { "sleep", "1000", NULL };
	char *const absent[] = { "/nonexistent/program", NULL };
	struct helper *h;
	char text[64];

	assert_int_equal(helper_start(fails, -1, &h), 0);
	helper_last_words(h, text, sizeof(text));
	assert_string_equal(text, "the reason");
	helper_stop(h);
	assert_int_equal(helper_start(mute, -1, &h), 0);
	helper_last_words(h, text, sizeof(text));
	assert_string_equal(text, "ended with status 4");
	helper_stop(h);
	assert_int_equal(helper_start(stays, -1, &h), 0);
	helper_last_words(h, text, sizeof(text));
	assert_string_equal(text, "");
	helper_stop(h);
	assert_int_equal(helper_start(absent, -1, &h), -ENOENT);
	helper_stop(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_life),
		cmocka_unit_test(test_misbehaviour),
		cmocka_unit_test(test_helper),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
