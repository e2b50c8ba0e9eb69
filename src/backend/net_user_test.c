// SPDX-License-Identifier: MIT
/*
 * A guest of a few lines against libslirp: ARP, DHCP, and TCP both ways with
 * frames as large as an offloading card would send and take. Only the loopback
 * interface of the host is used.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "backend/net_frame.h"

#include <cmocka.h>

#define GUEST_IP   0x0a00020f
#define GATEWAY_IP 0x0a000202
#define FRAMES	   256

struct seen {
	u32 bytes;
	struct net_meta meta;
	u8 data[NET_FRAME_MAX];
};

struct user_guest {
	struct net_backend *be;
	struct loop *loop;
	struct seen *frame;
	u32 head, tail; /* frames received and taken */
	u32 seq, ack;
	u16 port;
};

static const u8 guest_mac[6] = { 0x02, 1, 2, 3, 4, 5 };
static struct user_guest t;

static bool sink_room(void *ctx)
{
	return true;
}

static void sink_rx(void *ctx, const struct net_frame *f)
{
	struct seen *s = &t.frame[t.head++ % FRAMES];

	assert_true(t.head - t.tail <= FRAMES);
	s->bytes = f->bytes;
	s->meta = f->meta;
	assert_int_equal(net_frame_copy(f, s->data, sizeof(s->data)), 0);
}

static void sink_nothing(void *ctx)
{
}

static void sink_link(void *ctx, bool up)
{
}

static const struct net_sink_ops sink = { sink_room, sink_rx, sink_nothing, sink_link };

static void start(const char *text, bool large)
{
	struct net_rx_caps caps = { large, large, 1500 };
	struct net_spec spec;
	char error[200] = "";

	memset(&t, 0, sizeof(t));
	t.frame = calloc(FRAMES, sizeof(*t.frame));
	t.port = 40000;
	t.seq = 100;
	t.loop = loop_create(NULL);
	assert_int_equal(net_spec_parse(&spec, text, error, sizeof(error)), 0);
	if (net_backend_create(&spec, &t.be, error, sizeof(error)) != 0)
		fail_msg("%s", error);
	t.be->loop = t.loop;
	t.be->sink = &sink;
	t.be->ops->set_rx(t.be, &caps);
	assert_int_equal(t.be->ops->start(t.be), 0);
}

static void stop(void)
{
	t.be->ops->stop(t.be);
	t.be->ops->destroy(t.be);
	loop_destroy(t.loop);
	free(t.frame);
}

static void send_frame(u8 *data, u32 bytes, const struct net_meta *meta)
{
	struct iovec iov = { data, bytes };
	struct net_frame f = { .iov = &iov, .count = 1, .bytes = bytes };

	if (meta)
		f.meta = *meta;
	t.be->ops->tx(t.be, &f);
	t.be->ops->tx_end(t.be);
	loop_run_ready(t.loop);
}

/* The next frame of an Ethernet type (and IP protocol), waiting up to five seconds. */
static struct seen *take(u16 type, u8 protocol)
{
	u64 end = loop_now_ns(t.loop) + 5 * NS_PER_S;

	while (loop_now_ns(t.loop) < end) {
		while (t.tail != t.head) {
			struct seen *s = &t.frame[t.tail++ % FRAMES];

			if (net_get16(s->data + 12) == type &&
			    (!protocol || s->data[23] == protocol))
				return s;
		}
		loop_iterate(t.loop, 10 * NS_PER_MS);
	}
	fail_msg("no frame of type %x came", type);
	return NULL;
}

static void ethernet(u8 *f, const u8 *dst, u16 type)
{
	if (dst)
		memcpy(f, dst, 6);
	else
		memset(f, 0xff, 6);
	memcpy(f + 6, guest_mac, 6);
	net_put16(f + 12, type);
}

static void arp(void)
{
	u8 f[60] = { 0 };
	struct seen *s;

	ethernet(f, NULL, 0x0806);
	memcpy(f + 14, "\x00\x01\x08\x00\x06\x04\x00\x01", 8);
	memcpy(f + 22, guest_mac, 6);
	net_put32(f + 28, GUEST_IP);
	net_put32(f + 38, GATEWAY_IP);
	send_frame(f, 42, NULL);
	s = take(0x0806, 0);
	assert_int_equal(net_get16(s->data + 20), 2); /* a reply */
	assert_int_equal(net_get32(s->data + 28), GATEWAY_IP);
	assert_memory_equal(s->data + 32, guest_mac, 6);
}

static u32 ipv4(u8 *f, u8 protocol, u32 src, u32 dst, u32 bytes)
{
	struct net_headers h;

	memset(f + 14, 0, 20);
	f[14] = 0x45;
	net_put16(f + 16, bytes - 14);
	f[22] = 64;
	f[23] = protocol;
	net_put32(f + 26, src);
	net_put32(f + 30, dst);
	net_headers_parse(f, bytes, &h);
	net_frame_complete(f, bytes, &h);
	return bytes;
}

static void test_arp_and_dhcp(void **state)
{
	static const u8 options[] = { 0x63, 0x82, 0x53, 0x63, 53, 1, 1, 255 }; /* DISCOVER */
	u8 f[400] = { 0 };
	struct seen *s;
	u32 bytes = 14 + 28 + 240 + 60;

	start("user", true);
	arp();
	ethernet(f, NULL, NET_ETH_IPV4);
	net_put16(f + 34, 68);
	net_put16(f + 36, 67);
	net_put16(f + 38, bytes - 34);
	f[42] = 1; /* BOOTREQUEST, Ethernet */
	f[43] = 1;
	f[44] = 6;
	net_put32(f + 46, 0xcafe1234);
	memcpy(f + 70, guest_mac, 6);
	memcpy(f + 278, options, sizeof(options));
	ipv4(f, NET_IP_UDP, 0, 0xffffffff, bytes);
	send_frame(f, bytes, NULL);
	s = take(NET_ETH_IPV4, NET_IP_UDP);
	assert_int_equal(net_get16(s->data + 36), 68);
	assert_int_equal(s->data[42], 2);
	assert_int_equal(net_get32(s->data + 46), 0xcafe1234);
	assert_int_equal(net_get32(s->data + 58), GUEST_IP); /* yours */
	stop();
}

/* ---- a TCP of sorts ---- */

static u8 out[NET_FRAME_MAX];

static void tcp_send(u16 dport, u8 flags, const u8 *data, u32 bytes, u16 mss)
{
	u32 header = mss ? 24 : 20, total = 34 + header + bytes;
	struct net_meta meta = { .needs_csum = true, .csum_start = 34, .csum_offset = 16 };
	u8 gateway[6] = { 0x52, 0x55, 10, 0, 2, 2 };

	ethernet(out, gateway, NET_ETH_IPV4);
	memset(out + 34, 0, header);
	net_put16(out + 34, t.port);
	net_put16(out + 36, dport);
	net_put32(out + 38, t.seq);
	net_put32(out + 42, t.ack);
	out[46] = (u8)(header / 4 << 4);
	out[47] = flags;
	net_put16(out + 48, 65535);
	if (mss) {
		out[54] = 2;
		out[55] = 4;
		net_put16(out + 56, mss);
	}
	if (bytes)
		memcpy(out + 34 + header, data, bytes);
	ipv4(out, NET_IP_TCP, GUEST_IP, GATEWAY_IP, total);
	net_put16(out + 50, 0x1234); /* the back end has to do it */
	if (bytes > 1460) {
		meta.gso = NET_GSO_TCP4;
		meta.gso_bytes = 1460;
		meta.header_bytes = (u16)(34 + header);
	}
	send_frame(out, total, &meta);
	t.seq += bytes + (flags & NET_TCP_SYN ? 1 : 0);
}

/* Connects to a listener of the host. Returns the host's end. */
static int tcp_connect(u16 *dport)
{
	struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000001) };
	socklen_t len = sizeof(addr);
	int ls = socket(AF_INET, SOCK_STREAM, 0), s;
	struct seen *seen;

	assert_int_equal(bind(ls, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(ls, 1), 0);
	getsockname(ls, (struct sockaddr *)&addr, &len);
	*dport = ntohs(addr.sin_port);
	tcp_send(*dport, NET_TCP_SYN, NULL, 0, 1460);
	seen = take(NET_ETH_IPV4, NET_IP_TCP);
	assert_int_equal(seen->data[47] & 0x12, 0x12); /* SYN ACK */
	t.ack = net_get32(seen->data + 38) + 1;
	tcp_send(*dport, 0x10, NULL, 0, 0);
	s = accept(ls, NULL, NULL);
	assert_true(s >= 0);
	close(ls);
	return s;
}

static void test_large_frames_out(void **state)
{
	static u8 data[60000], got[60000];
	u32 done = 0;
	u16 dport;
	int s;

	for (u32 i = 0; i < sizeof(data); i++)
		data[i] = (u8)(i * 11 + i / 256);
	start("user", false);
	arp();
	s = tcp_connect(&dport);
	tcp_send(dport, 0x18, data, sizeof(data), 0);
	while (done < sizeof(got)) {
		ssize_t n = recv(s, got + done, sizeof(got) - done, MSG_DONTWAIT);

		if (n > 0)
			done += (u32)n;
		else
			loop_iterate(t.loop, 10 * NS_PER_MS);
	}
	assert_memory_equal(got, data, sizeof(data));
	close(s);
	stop();
}

/* 200 KB from the host, in large frames. */
static void test_download(void **state)
{
	static u8 data[200000], got[200000];
	u32 done = 0, largest = 0;
	size_t sent = 0;
	u16 dport;
	int s;

	for (u32 i = 0; i < sizeof(data); i++)
		data[i] = (u8)(i * 13 + i / 256);
	start("user", true);
	arp();
	s = tcp_connect(&dport);
	while (done < sizeof(got)) {
		ssize_t n = sent < sizeof(data)
				    ? send(s, data + sent, sizeof(data) - sent, MSG_DONTWAIT)
				    : 0;
		struct seen *seen;
		u32 bytes;

		sent += n > 0 ? (size_t)n : 0;
		seen = take(NET_ETH_IPV4, NET_IP_TCP);
		bytes = net_get16(seen->data + 16) - 40u;
		assert_int_equal(seen->bytes, bytes ? bytes + 54 : seen->bytes);
		if (!bytes)
			continue;
		assert_int_equal(net_get32(seen->data + 38), t.ack); /* in order, nothing lost */
		assert_true(seen->meta.csum_ok);
		assert_int_equal(seen->meta.gso, bytes > 1460 ? NET_GSO_TCP4 : NET_GSO_NONE);
		assert_int_equal(seen->meta.gso_bytes, bytes > 1460 ? 1460 : 0);
		memcpy(got + done, seen->data + 54, bytes);
		done += bytes;
		t.ack += bytes;
		largest = (u32)max_u64(largest, bytes);
		tcp_send(dport, 0x10, NULL, 0, 0);
	}
	assert_memory_equal(got, data, sizeof(data));
	assert_true(largest > 10000);
	close(s);
	stop();
}

static void test_host_forward(void **state)
{
	struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000001) };
	socklen_t len = sizeof(addr);
	int s = socket(AF_INET, SOCK_STREAM, 0);
	struct seen *seen;
	char text[80];

	/* A port that is free now. */
	assert_int_equal(bind(s, (struct sockaddr *)&addr, sizeof(addr)), 0);
	getsockname(s, (struct sockaddr *)&addr, &len);
	close(s);
	snprintf(text, sizeof(text), "user,hostfwd=tcp:127.0.0.1:%u-:22", ntohs(addr.sin_port));
	start(text, true);
	arp();
	s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	connect(s, (struct sockaddr *)&addr, sizeof(addr));
	seen = take(NET_ETH_IPV4, NET_IP_TCP);
	assert_int_equal(seen->data[47] & 0x3f, NET_TCP_SYN);
	assert_int_equal(net_get16(seen->data + 36), 22);
	assert_int_equal(net_get32(seen->data + 30), GUEST_IP);
	close(s);
	stop();
}

static void test_port_taken(void **state)
{
	struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000001) };
	socklen_t len = sizeof(addr);
	int s = socket(AF_INET, SOCK_STREAM, 0);
	char text[80], error[200];
	struct net_backend *be;
	struct net_spec spec;

	assert_int_equal(bind(s, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(s, 1), 0);
	getsockname(s, (struct sockaddr *)&addr, &len);
	snprintf(text, sizeof(text), "user,hostfwd=tcp:127.0.0.1:%u-:22", ntohs(addr.sin_port));
	assert_int_equal(net_spec_parse(&spec, text, error, sizeof(error)), 0);
	assert_int_equal(net_backend_create(&spec, &be, error, sizeof(error)), -EADDRINUSE);
	close(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_arp_and_dhcp), cmocka_unit_test(test_large_frames_out),
		cmocka_unit_test(test_download),     cmocka_unit_test(test_host_forward),
		cmocka_unit_test(test_port_taken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
