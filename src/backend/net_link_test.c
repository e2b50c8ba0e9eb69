// SPDX-License-Identifier: MIT
/* passt's protocol against a socket, and a tap interface in a namespace of its own. */
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netpacket/packet.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "backend/net_frame.h"

#include <cmocka.h>

static struct {
	struct net_backend *be;
	struct loop *loop;
	u32 frames, bytes;
	bool room, link;
	struct net_meta meta;
	u8 data[NET_FRAME_MAX];
} t;

static bool sink_room(void *ctx)
{
	return t.room;
}

static void sink_rx(void *ctx, const struct net_frame *f)
{
	static u8 data[NET_FRAME_MAX];

	assert_int_equal(net_frame_copy(f, data, sizeof(data)), 0);
	if (net_get16(data + 12) == 0x86dd) /* the host's stack says hello in IPv6 */
		return;
	t.frames++;
	t.bytes = f->bytes;
	t.meta = f->meta;
	memcpy(t.data, data, f->bytes);
}

static void sink_end(void *ctx)
{
}

static void sink_link(void *ctx, bool up)
{
	t.link = up;
}

static const struct net_sink_ops sink = { sink_room, sink_rx, sink_end, sink_link };

static int start(const char *text)
{
	struct net_spec spec;
	char error[200];
	int ret;

	memset(&t, 0, sizeof(t));
	t.room = t.link = true;
	assert_int_equal(net_spec_parse(&spec, text, error, sizeof(error)), 0);
	ret = net_backend_create(&spec, &t.be, error, sizeof(error));
	if (ret)
		return ret;
	t.loop = loop_create(NULL);
	t.be->loop = t.loop;
	t.be->sink = &sink;
	return t.be->ops->start(t.be);
}

static void stop(void)
{
	t.be->ops->stop(t.be);
	t.be->ops->destroy(t.be);
	loop_destroy(t.loop);
}

static void send_one(u8 *data, u32 bytes, const struct net_meta *meta)
{
	struct iovec iov[2] = { { data, bytes / 2 }, { data + bytes / 2, bytes - bytes / 2 } };
	struct net_frame f = { .iov = iov, .count = 2, .bytes = bytes };

	if (meta)
		f.meta = *meta;
	t.be->ops->tx(t.be, &f);
}

static void passt_frames(void **state)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	static u8 data[60000], got[NET_FRAME_MAX + 4];
	int ls = socket(AF_UNIX, SOCK_STREAM, 0), s;
	char dir[] = "/tmp/nestor-net-XXXXXX", text[140];
	u8 head[4];

	assert_non_null(mkdtemp(dir));
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/s", dir);
	snprintf(text, sizeof(text), "passt=%s", addr.sun_path);
	assert_int_equal(start(text), -ENOENT);
	assert_int_equal(bind(ls, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(ls, 1), 0);
	assert_int_equal(start(text), 0);
	s = accept(ls, NULL, NULL);
	assert_true(s >= 0);
	unlink(addr.sun_path);
	rmdir(dir);

	for (u32 i = 0; i < sizeof(data); i++)
		data[i] = (u8)(i * 3);
	send_one(data, 100, NULL);
	send_one(data, sizeof(data), NULL);
	t.be->ops->tx_end(t.be);
	assert_int_equal(recv(s, got, 104, MSG_WAITALL), 104);
	assert_int_equal(net_get32(got), 100);
	assert_memory_equal(got + 4, data, 100);
	assert_int_equal(recv(s, got, 60004, MSG_WAITALL), 60004);
	assert_memory_equal(got + 4, data, 60000);
	/* Nobody reads: what does not fit is dropped, whole frames only. */
	for (u32 i = 0; i < 200; i++)
		send_one(data, sizeof(data), NULL);
	t.be->ops->tx_end(t.be);
	for (u32 n = 0, have = 0, idle = 0;;) {
		ssize_t r = recv(s, got + have, 60004 - have, MSG_DONTWAIT);

		idle = r > 0 ? 0 : idle + 1;
		have += r > 0 ? (u32)r : 0;
		if (idle == 3) {
			assert_int_equal(have, 0);
			assert_true(n > 10 && n < 200);
			break;
		}
		loop_run_ready(t.loop);
		if (have < 60004)
			continue;
		assert_int_equal(net_get32(got), 60000);
		have = 0;
		n++;
	}

	/* The other way: in pieces, two at once, and while there is no room. */
	net_put32(head, 500);
	assert_int_equal(send(s, head, 4, 0), 4);
	loop_run_ready(t.loop);
	assert_int_equal(send(s, data, 300, 0), 300);
	loop_run_ready(t.loop);
	assert_int_equal(t.frames, 0);
	assert_int_equal(send(s, data + 300, 200, 0), 200);
	assert_int_equal(send(s, head, 4, 0), 4);
	loop_run_ready(t.loop);
	assert_int_equal(t.frames, 1);
	assert_int_equal(t.bytes, 500);
	assert_memory_equal(t.data, data, 500);
	t.room = false;
	assert_int_equal(send(s, data, 500, 0), 500);
	loop_run_ready(t.loop);
	assert_int_equal(t.frames, 1);
	t.room = true;
	t.be->ops->rx_resume(t.be);
	assert_int_equal(t.frames, 2);

	/* No length of a frame: the end. */
	net_put32(head, 5);
	assert_int_equal(send(s, head, 4, 0), 4);
	loop_run_ready(t.loop);
	assert_false(t.link);
	send_one(data, 100, NULL);
	t.be->ops->tx_end(t.be);
	stop();
	close(s);
	close(ls);
}

static int up(const char *name)
{
	struct ifreq ifr = { .ifr_flags = IFF_UP };
	struct sockaddr_ll addr = { .sll_family = AF_PACKET, .sll_protocol = htons(3) };
	int s = socket(AF_PACKET, SOCK_RAW, htons(3)), tv = 1;

	strcpy(ifr.ifr_name, name);
	assert_int_equal(ioctl(s, SIOCSIFFLAGS, &ifr), 0);
	assert_int_equal(ioctl(s, SIOCGIFINDEX, &ifr), 0);
	addr.sll_ifindex = ifr.ifr_ifindex;
	assert_int_equal(bind(s, (struct sockaddr *)&addr, sizeof(addr)), 0);
	setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){ tv, 0 }, sizeof(struct timeval));
	return s;
}

static void tap_frames(void **state)
{
	struct net_rx_caps caps = { true, true, 1500 };
	static u8 data[2000], got[2048];
	struct net_meta meta = { .needs_csum = true, .csum_start = 34, .csum_offset = 6 };
	int s, fd = open("/dev/net/tun", O_RDWR), ret;

	if (fd < 0 || unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0) {
		close(fd);
		skip();
	}
	close(fd);
	ret = start("tap=nestor-test0");
	if (ret)
		skip();
	s = up("nestor-test0");
	t.be->ops->set_rx(t.be, &caps);
	memset(data, 0xff, 6);
	net_put16(data + 12, 0x88b5); /* for experiments */
	send_one(data, 1000, NULL);
	for (u32 i = 0; i < 20; i++) { /* the stack talks, too */
		ret = (int)recv(s, got, sizeof(got), 0);
		if (ret < 0 || net_get16(got + 12) == 0x88b5)
			break;
	}
	assert_int_equal(ret, 1000);
	assert_memory_equal(got, data, 1000);
	/* An open checksum: the kernel takes the frame, and completes it when it has to. */
	send_one(data, 100, &meta);

	/* To the guest. */
	assert_int_equal(send(s, data, 700, 0), 700);
	for (u32 i = 0; i < 100 && t.bytes != 700; i++)
		loop_iterate(t.loop, 10 * NS_PER_MS);
	assert_int_equal(t.bytes, 700);
	assert_memory_equal(t.data, data, 700);
	assert_int_equal(t.meta.gso, NET_GSO_NONE);
	t.room = false;
	t.bytes = 0;
	send(s, data, 800, 0);
	loop_run_ready(t.loop);
	t.room = true;
	t.be->ops->rx_resume(t.be);
	for (u32 i = 0; i < 100 && t.bytes != 800; i++)
		loop_iterate(t.loop, 10 * NS_PER_MS);
	assert_int_equal(t.bytes, 800);
	close(s);
	stop();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(passt_frames),
		cmocka_unit_test(tap_frames),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
