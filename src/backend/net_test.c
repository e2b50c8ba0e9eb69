// SPDX-License-Identifier: MIT
/* What users may write after --net, and work on frames. */
#include "backend/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "backend/net_frame.h"

#include <cmocka.h>

static void specs(void **state)
{
	static const struct {
		const char *text;
		int kind; /* -1: refused */
	} rows[] = {
		{ "user", NET_USER },
		{ "user,mac=02:00:00:00:00:01", NET_USER },
		{ "user,restrict", NET_USER },
		{ "user,net=192.168.7.0/24", NET_USER },
		{ "user,hostfwd=tcp::2222-:22", NET_USER },
		{ "user,hostfwd=tcp:127.0.0.1:2222-10.0.2.15:22,hostfwd=udp::53-:53", NET_USER },
		{ "passt=/run/passt.sock", NET_PASST },
		{ "tap=tap0,mac=02:00:00:00:00:01", NET_TAP },
		{ "", -1 },
		{ "bridge", -1 },
		{ "user=x", -1 },
		{ "passt", -1 },
		{ "tap=", -1 },
		{ "tap=sixteen-letters-", -1 },
		{ "tap=tap0,restrict", -1 },
		{ "user,mac=01:00:00:00:00:01", -1 },
		{ "user,mac=02:00:00:00:00", -1 },
		{ "user,mac=02:00:00:00:00:01x", -1 },
		{ "user,mac", -1 },
		{ "user,restrict=1", -1 },
		{ "user,net=10.0.2.0/28", -1 },
		{ "user,net=10.0.2/24", -1 },
		{ "user,hostfwd=tcp::0-:22", -1 },
		{ "user,hostfwd=tcp::70000-:22", -1 },
		{ "user,hostfwd=sctp::1-:2", -1 },
		{ "user,hostfwd=tcp:2222-22", -1 },
		{ "user,hostfwd=tcp:localhost:2222-:22", -1 },
	};
	struct net_spec spec;
	char error[128];

	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		int ret = net_spec_parse(&spec, rows[i].text, error, sizeof(error));

		assert_int_equal(ret, rows[i].kind < 0 ? -EINVAL : 0);
		if (ret == 0)
			assert_int_equal(spec.kind, rows[i].kind);
		else
			assert_true(strlen(error) > 5);
	}
	assert_int_equal(net_spec_parse(&spec,
					"user,hostfwd=tcp:127.0.0.1:2222-:22,net=10.9.8.7/16",
					error, sizeof(error)),
			 0);
	assert_int_equal(ntohl(spec.net.s_addr), 0x0a090000);
	assert_int_equal(spec.hostfwd[0].host_port, 2222);
	assert_int_equal(spec.hostfwd[0].guest_port, 22);
	assert_int_equal(ntohl(spec.hostfwd[0].host.s_addr), 0x7f000001);
	assert_int_equal(spec.hostfwd[0].guest.s_addr, 0);
}

static void derived_addresses(void **state)
{
	u8 a[6], b[6];

	net_mac_derive(a, "vm", 0);
	net_mac_derive(b, "vm", 0);
	assert_memory_equal(a, b, 6);
	assert_int_equal(a[0] & 3, 2);
	net_mac_derive(b, "vm", 1);
	assert_memory_not_equal(a, b, 6);
}

static void sums(void **state)
{
	/* RFC 1071, 3: sum of 00 01 f2 03 f4 f5 f6 f7 is ddf2. */
	static const u8 example[8] = { 0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7 };
	static u8 data[70000];
	u16 sum = net_sum_fold(net_sum(example, 8, 0));

	assert_memory_equal(&sum, "\xdd\xf2", 2);
	for (u32 i = 0; i < sizeof(data); i++)
		data[i] = (u8)(i * 31 + i / 255);
	for (u32 n = 0; n < sizeof(data); n = n < 80 ? n + 1 : n * 2 + 1) {
		u32 plain = 0;
		u8 out[2];

		for (u32 i = 0; i < n; i++)
			plain += (u32)data[i] << (i & 1 ? 0 : 8);
		while (plain >> 16)
			plain = (plain & 0xffff) + (plain >> 16);
		sum = net_sum_fold(net_sum(data, n, 0));
		net_put16(out, plain);
		assert_memory_equal(&sum, out, 2);
		/* In two pieces, the first of even length. */
		assert_int_equal(net_sum_fold(net_sum(data + n / 4 * 2, n - n / 4 * 2,
						      net_sum(data, n / 4 * 2, 0))),
				 sum);
	}
	memset(data, 0xff, sizeof(data));
	assert_int_equal(net_sum_fold(net_sum(data, sizeof(data), 0xffffffff)), 0xffff);
}

static u32 make_frame(u8 *f, u8 version, u8 protocol, u32 payload)
{
	u32 l3 = version == 4 ? 20 : 40, l4 = protocol == NET_IP_TCP ? 20 : 8;

	memset(f, 0, 14 + l3 + l4);
	net_put16(f + 12, version == 4 ? NET_ETH_IPV4 : NET_ETH_IPV6);
	if (version == 4) {
		f[14] = 0x45;
		net_put16(f + 16, l3 + l4 + payload);
		net_put16(f + 18, 0xfffe);
		f[23] = protocol;
		net_put32(f + 26, 0x0a000201);
		net_put32(f + 30, 0x0a000202);
	} else {
		f[14] = 0x60;
		net_put16(f + 18, l4 + payload);
		f[20] = protocol;
		f[22 + 15] = 1;
		f[38 + 15] = 2;
	}
	if (protocol == NET_IP_TCP) {
		net_put32(f + 14 + l3 + 4, 0xfffffff0);
		f[14 + l3 + 12] = 0x50;
		f[14 + l3 + 13] = 0x99; /* CWR ACK PSH FIN */
	} else {
		net_put16(f + 14 + l3 + 4, 8 + payload);
	}
	for (u32 i = 0; i < payload; i++)
		f[14 + l3 + l4 + i] = (u8)(i * 5 + i / 256);
	return 14 + l3 + l4 + payload;
}

static void check_sums(const u8 *f, u32 bytes)
{
	struct net_headers h;

	net_headers_parse(f, bytes, &h);
	assert_true(h.l4);
	if (h.version == 4)
		assert_int_equal(net_sum_fold(net_sum(f + h.l3, 20, 0)), 0xffff);
	assert_int_equal(
		net_sum_fold(net_sum(f + h.l4, bytes - h.l4, net_sum_pseudo(f, &h, bytes - h.l4))),
		0xffff);
}

static void completing(void **state)
{
	static u8 f[70000];
	struct net_headers h;

	for (u32 payload = 0; payload < 65000; payload = payload * 3 + 1)
		for (u32 kind = 0; kind < 4; kind++) {
			u32 bytes = make_frame(f, kind & 1 ? 4 : 6,
					       kind & 2 ? NET_IP_TCP : NET_IP_UDP, payload);

			net_headers_parse(f, bytes, &h);
			f[h.l4 + net_csum_offset(&h)] = 0x55; /* anything */
			net_frame_complete(f, bytes, &h);
			check_sums(f, bytes);
			/* What a large frame needs: any length, then the pseudo header's sum. */
			if (h.protocol != NET_IP_TCP)
				continue;
			net_put16(f + (h.version == 4 ? 16 : 18), 0);
			assert_int_equal(net_gso_prepare(f, &h, bytes), 0);
			assert_memory_equal(
				f + h.l4 + 16,
				&(u16){ net_sum_fold(net_sum_pseudo(f, &h, bytes - h.l4)) }, 2);
			net_frame_complete(f, bytes, &h);
			check_sums(f, bytes);
		}
	/* Ethernet padding is not summed. */
	make_frame(f, 4, NET_IP_TCP, 1);
	net_headers_parse(f, 60, &h);
	net_frame_complete(f, 60, &h);
	check_sums(f, 55);
}

struct sink {
	u8 data[70000];
	u32 bytes, frames, largest;
};

static void take_segment(void *ctx, const struct net_frame *f)
{
	struct sink *s = ctx;
	static u8 one[70000];
	struct net_headers h;

	assert_int_equal(net_frame_copy(f, one, sizeof(one)), 0);
	check_sums(one, f->bytes);
	net_headers_parse(one, f->bytes, &h);
	assert_int_equal(net_get32(one + h.l4 + 4), 0xfffffff0 + s->bytes);
	assert_int_equal(one[h.l4 + 13] & 0x80, s->frames ? 0 : 0x80);
	if (h.version == 4)
		assert_int_equal(net_get16(one + h.l3 + 4), (u16)(0xfffe + s->frames));
	memcpy(s->data + s->bytes, one + h.payload, f->bytes - h.payload);
	s->bytes += f->bytes - h.payload;
	s->frames++;
	s->largest = (u32)max_u64(s->largest, f->bytes);
}

static void segments(void **state)
{
	static struct sink s;
	static u8 f[70000];
	struct net_headers h;

	for (u8 version = 4; version <= 6; version += 2)
		for (u32 payload = 0; payload < 60000; payload = payload * 2 + 1) {
			u32 bytes = make_frame(f, version, NET_IP_TCP, payload);

			memset(&s, 0, sizeof(s));
			net_headers_parse(f, bytes, &h);
			net_segment(f, bytes, &h, 1460, take_segment, &s);
			assert_int_equal(s.frames, payload ? (payload + 1459) / 1460 : 1);
			assert_int_equal(s.bytes, payload);
			assert_memory_equal(s.data, f + h.payload, payload);
			assert_true(s.largest <= h.payload + 1460u);
		}
}

static void take_fragment(void *ctx, const struct net_frame *f)
{
	struct sink *s = ctx;
	static u8 one[70000];
	u32 at;

	assert_int_equal(net_frame_copy(f, one, sizeof(one)), 0);
	assert_int_equal(net_sum_fold(net_sum(one + 14, 20, 0)), 0xffff);
	assert_int_equal(net_get16(one + 16), f->bytes - 14);
	at = (net_get16(one + 20) & 0x1fff) * 8u;
	assert_int_equal(at, s->bytes);
	memcpy(s->data + at, one + 34, f->bytes - 34);
	s->bytes += f->bytes - 34;
	s->frames += net_get16(one + 20) >> 13 == 0; /* the last one */
	s->largest = (u32)max_u64(s->largest, f->bytes);
}

static void fragments(void **state)
{
	static struct sink s;
	static u8 f[70000];
	struct net_headers h;
	u32 bytes = make_frame(f, 4, NET_IP_UDP, 9001);

	net_headers_parse(f, bytes, &h);
	net_fragment4(f, bytes, &h, 1500, take_fragment, &s);
	assert_int_equal(s.frames, 1);
	assert_int_equal(s.bytes, bytes - 34);
	assert_int_equal(s.largest, 1514);
	assert_memory_equal(s.data, f + 34, bytes - 34);
	f[20] |= 0x40; /* not to be cut */
	memset(&s, 0, sizeof(s));
	net_fragment4(f, bytes, &h, 1500, take_fragment, &s);
	assert_int_equal(s.bytes, 0);
}

/* Any bytes, any length: nothing is read outside (the sanitizer looks on). */
static void parsing_survives(void **state)
{
	u32 seed = 12345;

	for (u32 round = 0; round < 200000; round++) {
		u32 bytes = round % 97;
		u8 *f = malloc(bytes ? bytes : 1);
		struct net_headers h;

		for (u32 i = 0; i < bytes; i++)
			f[i] = (u8)((seed = seed * 1103515245 + 12345) >> 16);
		if (bytes > 14)
			net_put16(f + 12, round & 1   ? NET_ETH_IPV4
					  : round & 2 ? NET_ETH_IPV6
						      : NET_ETH_VLAN);
		if (bytes > 24) {
			f[14] = round & 1 ? (u8)(0x40 | (f[14] & 15)) : 0x60;
			f[20] = f[23] = round & 4 ? NET_IP_TCP : f[20] & 63;
		}
		net_headers_parse(f, bytes, &h);
		assert_true(h.payload <= bytes && h.l4 <= bytes);
		net_frame_complete(f, bytes, &h);
		free(f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(specs),
		cmocka_unit_test(derived_addresses),
		cmocka_unit_test(sums),
		cmocka_unit_test(completing),
		cmocka_unit_test(segments),
		cmocka_unit_test(fragments),
		cmocka_unit_test(parsing_survives),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
