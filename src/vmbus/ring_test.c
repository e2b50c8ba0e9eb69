// SPDX-License-Identifier: MIT
/* The ring against a guest written after Linux drivers/hv/ring_buffer.c, and against a liar. */
#include "vmbus/ring.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include "vmbus/testing.h"

#include <cmocka.h>

#define PAGES 3u /* each way: header and two data pages */

static struct {
	u8 mem[2 * PAGES * PAGE_BYTES] __attribute__((aligned(4096)));
	u8 *page[2 * PAGES];
	struct guest_channel c; /* for the guest's half of the protocol */
	struct vmbus_ring r;
} t;

/* Scattered pages take the path that is not linear. */
static void make(bool scattered)
{
	static const u8 order[2 * PAGES] = { 0, 2, 1, 3, 5, 4 };

	memset(&t, 0, sizeof(t));
	for (u32 i = 0; i < 2 * PAGES; i++)
		t.page[i] = t.mem + (scattered ? order[i] : i) * PAGE_BYTES;
	t.c.to_host = (struct guest_ring){ (void *)t.page[0], t.mem + PAGE_BYTES, 2 * PAGE_BYTES };
	t.c.from_host = (struct guest_ring){ (void *)t.page[PAGES], t.mem + 4 * PAGE_BYTES,
					     2 * PAGE_BYTES };
	assert_int_equal(vmbus_ring_init(&t.r, t.page, 2 * PAGES, PAGES, 8192), 0);
}

static bool put(u16 flags, u64 xid, const void *payload, u32 bytes)
{
	return guest_write(&t.c, VMBUS_PACKET_INBAND, flags, xid, NULL, 0, payload, bytes, true);
}

static int done(void **state)
{
	vmbus_ring_fini(&t.r);
	return 0;
}

static void sizes_are_checked(void **state)
{
	static const struct {
		u32 count, out_page;
		int ret;
	} rows[] = {
		{ 4, 2, 0 },	   { 4, 1, -EINVAL }, { 4, 3, -EINVAL },
		{ 4, 4, -EINVAL }, { 4, 0, -EINVAL }, { 2, 1, -EINVAL },
		{ 0, 0, -EINVAL }, { 1, 2, -EINVAL }, { 6, 0xffffffff, -EINVAL },
	};

	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		struct vmbus_ring r;

		make(false);
		done(NULL);
		assert_int_equal(vmbus_ring_init(&r, t.page, rows[i].count, rows[i].out_page, 4096),
				 rows[i].ret);
		if (rows[i].ret == 0)
			vmbus_ring_fini(&r);
	}
	make(false);
	done(NULL);
	t.c.to_host.hdr->read_index = 12; /* not a multiple of 8 */
	assert_int_equal(vmbus_ring_init(&t.r, t.page, 6, 3, 4096), -EINVAL);
	t.c.to_host.hdr->read_index = 0;
	t.c.from_host.hdr->write_index = 2 * PAGE_BYTES;
	assert_int_equal(vmbus_ring_init(&t.r, t.page, 6, 3, 4096), -EINVAL);
}

static void packets_pass_and_wrap(void **state)
{
	u8 data[1000];
	struct vmbus_packet pkt;

	for (int scattered = 0; scattered < 2; scattered++) {
		make(scattered);
		if (scattered) /* the guest's view is linear: let it be contiguous again */
			for (u32 i = 0; i < 2 * PAGES; i++)
				t.page[i] = t.mem + i * PAGE_BYTES;
		t.r.in.linear = scattered ? NULL : t.r.in.linear;
		for (u32 i = 0; i < 200; i++) {
			u32 n = i * 37 % sizeof(data);

			memset(data, (int)i, sizeof(data));
			assert_true(put(i & 1, i, data, n));
			assert_int_equal(vmbus_ring_peek(&t.r, &pkt), 1);
			assert_int_equal(pkt.transaction_id, i);
			assert_int_equal(pkt.wants_completion, i & 1);
			assert_int_equal(pkt.payload_bytes, align_up(n, 8));
			assert_memory_equal(pkt.payload, data, n);
			vmbus_ring_consume(&t.r, &pkt);
			assert_int_equal(vmbus_ring_peek(&t.r, &pkt), 0);
			vmbus_ring_publish_read(&t.r);
			assert_int_equal(guest_ring_used(&t.c.to_host), 0);
		}
		done(NULL);
	}
	make(false);
}

static void writes_pass_and_wrap(void **state)
{
	u8 data[1000];
	static struct guest_packet p;

	make(false);
	t.r.out.linear = NULL; /* page by page */
	for (u32 i = 0; i < 200; i++) {
		u32 n = i * 41 % sizeof(data);
		struct iovec iov[2] = { { data, n / 2 }, { data + n / 2, n - n / 2 } };
		struct vmbus_packet_out out = { .type = VMBUS_PACKET_INBAND,
						.transaction_id = i,
						.payload = iov,
						.payload_count = 2 };
		struct guest_ring *r = &t.c.from_host;
		u32 at = r->hdr->read_index;

		for (u32 k = 0; k < n; k++)
			data[k] = (u8)(i + k);
		assert_int_equal(vmbus_ring_write(&t.r, &out, false), 0);
		assert_int_equal(guest_ring_used(r), 0); /* not published */
		assert_true(vmbus_ring_publish_write(&t.r));
		assert_int_equal(guest_ring_used(r), vmbus_ring_bytes_for(0, n));
		guest_ring_get(r, at, &p.h, 16);
		guest_ring_get(r, (at + 16) % r->bytes, p.data, n);
		assert_int_equal(p.h.transaction_id, i);
		assert_int_equal(p.h.offset8, 2);
		assert_memory_equal(p.data, data, n);
		r->hdr->read_index = r->hdr->write_index;
	}
}

static void golden_packet_bytes(void **state)
{
	/* Linux vmbus_sendpacket() of 5 bytes: vmpacket_descriptor, payload, padding, trailer. */
	static const u8 golden[] = {
		0x06, 0x00, 0x02, 0x00, 0x03, 0x00, 0x01, 0x00, 0x88, 0x77, 0x66,
		0x55, 0x44, 0x33, 0x22, 0x11, 'h',  'e',  'l',	'l',  'o',  0x00,
		0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x08, 0x00, 0x00, 0x00,
	};
	struct iovec iov = { (void *)(uintptr_t) "hello", 5 };
	struct vmbus_packet_out out = { .type = VMBUS_PACKET_INBAND,
					.flags = 1,
					.transaction_id = 0x1122334455667788,
					.payload = &iov,
					.payload_count = 1 };

	make(false);
	t.r.out.index = t.r.out.published = 8;
	t.c.from_host.hdr->read_index = t.c.from_host.hdr->write_index = 8;
	assert_int_equal(vmbus_ring_write(&t.r, &out, false), 0);
	vmbus_ring_publish_write(&t.r);
	assert_memory_equal(t.c.from_host.data + 8, golden, sizeof(golden));
	assert_int_equal(t.c.from_host.hdr->write_index, 8 + sizeof(golden));
}

static void a_full_ring_keeps_one_byte_free(void **state)
{
	static u8 data[2 * PAGE_BYTES];
	struct iovec iov = { data, 2 * PAGE_BYTES - 24 };
	struct vmbus_packet_out out = { .type = VMBUS_PACKET_INBAND,
					.payload = &iov,
					.payload_count = 1 };

	make(false);
	assert_int_equal(vmbus_ring_write(&t.r, &out, false), -EMSGSIZE); /* exactly full */
	iov.iov_len -= 8;
	assert_int_equal(vmbus_ring_write(&t.r, &out, false), 0);
	assert_int_equal(vmbus_ring_room(&t.r), 8);
	iov.iov_len = 0;
	assert_int_equal(vmbus_ring_write(&t.r, &out, false), -EAGAIN);
	iov.iov_len = 0x80000;
	assert_int_equal(vmbus_ring_write(&t.r, &out, false), -EMSGSIZE);
}

static void signals_follow_linux(void **state)
{
	struct iovec iov = { (void *)(uintptr_t) "x", 1 };
	struct vmbus_packet_out out = { .type = VMBUS_PACKET_INBAND,
					.payload = &iov,
					.payload_count = 1 };
	struct vmbus_ring_header *hdr;

	make(false);
	hdr = t.c.from_host.hdr;
	/* A batch into an empty ring: one signal. */
	assert_int_equal(vmbus_ring_write(&t.r, &out, false), 0);
	assert_int_equal(vmbus_ring_write(&t.r, &out, false), 0);
	assert_true(vmbus_ring_publish_write(&t.r));
	assert_false(vmbus_ring_publish_write(&t.r));
	/* Not empty: the guest is going to see it. */
	assert_int_equal(vmbus_ring_write(&t.r, &out, false), 0);
	assert_false(vmbus_ring_publish_write(&t.r));
	/* Empty again, but masked. */
	hdr->read_index = hdr->write_index;
	hdr->interrupt_mask = 1;
	assert_int_equal(vmbus_ring_write(&t.r, &out, false), 0);
	assert_false(vmbus_ring_publish_write(&t.r));
	/* Between the batches the guest read all but the last. */
	hdr->interrupt_mask = 0;
	hdr->read_index = hdr->write_index - 32;
	assert_int_equal(vmbus_ring_write(&t.r, &out, false), 0);
	assert_false(vmbus_ring_publish_write(&t.r));
}

static void pending_send_of_the_guest(void **state)
{
	struct vmbus_packet pkt;
	static u8 data[1000];
	u32 n = 0;

	make(false);
	while (put(0, n, data, sizeof(data)))
		n++;
	assert_int_equal(n, 7); /* 8192 / 1024 - the one that would fill it */
	t.c.to_host.hdr->pending_send_sz = 3000;
	/* free: 1024; crossing 3000 happens at the second packet read. */
	assert_int_equal(vmbus_ring_peek(&t.r, &pkt), 1);
	vmbus_ring_consume(&t.r, &pkt);
	assert_false(vmbus_ring_publish_read(&t.r));
	assert_int_equal(vmbus_ring_peek(&t.r, &pkt), 1);
	vmbus_ring_consume(&t.r, &pkt);
	assert_true(vmbus_ring_publish_read(&t.r));
	assert_int_equal(vmbus_ring_peek(&t.r, &pkt), 1);
	vmbus_ring_consume(&t.r, &pkt);
	assert_false(vmbus_ring_publish_read(&t.r)); /* was above already */
}

static void our_pending_send_and_reserve(void **state)
{
	struct iovec iov = { t.mem, 100 };
	struct vmbus_packet_out out = { .type = VMBUS_PACKET_COMPLETION,
					.payload = &iov,
					.payload_count = 1 };
	struct vmbus_ring_header *hdr;
	u32 one = vmbus_ring_bytes_for(0, 100), n = 0;

	make(false);
	hdr = t.c.from_host.hdr;
	assert_int_equal(hdr->feature_bits, 1);
	while (vmbus_ring_reserve(&t.r, one) == 0)
		n++;
	assert_int_equal(n, (8192 - 1) / one);
	assert_int_equal(vmbus_ring_write(&t.r, &out, false), -EAGAIN);
	/* Reserved ones always fit. */
	for (u32 i = 0; i < n; i++) {
		assert_int_equal(vmbus_ring_write(&t.r, &out, true), 0);
		vmbus_ring_unreserve(&t.r, one);
	}
	vmbus_ring_publish_write(&t.r);
	assert_false(vmbus_ring_want(&t.r, one));
	assert_int_equal(hdr->pending_send_sz, one);
	hdr->read_index = one;
	assert_true(vmbus_ring_want(&t.r, one));
	vmbus_ring_want(&t.r, 0);
	assert_int_equal(hdr->pending_send_sz, 0);
}

static void mask_and_last_look(void **state)
{
	struct vmbus_packet pkt;

	make(false);
	vmbus_ring_mask(&t.r, true);
	assert_int_equal(t.c.to_host.hdr->interrupt_mask, 1);
	assert_int_equal(vmbus_ring_peek(&t.r, &pkt), 0);
	put(0, 1, "x", 1);
	assert_true(vmbus_ring_unmask_and_check(&t.r));
	assert_int_equal(t.c.to_host.hdr->interrupt_mask, 0);
	assert_int_equal(vmbus_ring_peek(&t.r, &pkt), 1);
	vmbus_ring_consume(&t.r, &pkt);
	assert_false(vmbus_ring_unmask_and_check(&t.r));
}

/* What a liar can write: packet head bytes and indices, and what comes of it. */
static void corruption_is_found(void **state)
{
	static const struct {
		u32 write;
		struct vmbus_packet_header h;
		u32 extra[6];
		const char *error;
	} rows[] = {
		{ 8192, { 0 }, { 0 }, "guest's write index is outside of the ring" },
		{ 0xfffffff8, { 0 }, { 0 }, "guest's write index is outside of the ring" },
		{ 28, { 0 }, { 0 }, "guest's write index is outside of the ring" },
		{ 16, { 6, 2, 2 }, { 0 }, "less than a packet in the ring" },
		{ 64, { 6, 1, 2 }, { 0 }, "packet whose payload starts outside of it" },
		{ 64, { 6, 0, 0 }, { 0 }, "packet whose payload starts outside of it" },
		{ 64, { 6, 4, 3 }, { 0 }, "packet whose payload starts outside of it" },
		{ 64, { 6, 2, 8 }, { 0 }, "packet longer than what is in the ring" },
		{ 64, { 6, 2, 0xffff }, { 0 }, "packet longer than what is in the ring" },
		{ 64, { 9, 2, 4 }, { 0 }, "GPA-direct packet without range count" },
		{ 64, { 9, 3, 4 }, { 0, 1 }, "GPA-direct packet with a malformed range" },
		{ 64, { 9, 3, 4 }, { 0, 4096 }, "GPA-direct packet with too many ranges" },
		{ 64, { 9, 5, 5 }, { 0, 1, 0, 0 }, "GPA-direct packet with a malformed range" },
		{ 64, { 9, 5, 5 }, { 0, 1, 4096, 1 }, "GPA-direct packet with a malformed range" },
		{ 64, { 9, 5, 5 }, { 0, 1, 1, 4096 }, "GPA-direct packet with a malformed range" },
		{ 64,
		  { 9, 5, 5 },
		  { 0, 1, 0xffffffff, 0 },
		  "GPA-direct packet with a malformed range" },
		{ 64, { 9, 5, 5 }, { 0, 1, 4096, 0 }, NULL },
		{ 64, { 9, 3, 5 }, { 0, 0 }, NULL },
		{ 64, { 0xffff, 2, 7 }, { 0 }, NULL }, /* unknown types are the device's matter */
	};

	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		struct vmbus_packet pkt;

		make(false);
		memcpy(t.c.to_host.data, &rows[i].h, 16);
		memcpy(t.c.to_host.data + 16, rows[i].extra, sizeof(rows[i].extra));
		t.c.to_host.hdr->write_index = rows[i].write;
		assert_int_equal(vmbus_ring_peek(&t.r, &pkt), rows[i].error ? -EPROTO : 1);
		if (rows[i].error) {
			assert_string_equal(t.r.error, rows[i].error);
			t.c.to_host.hdr->write_index = 0; /* too late */
			assert_int_equal(vmbus_ring_peek(&t.r, &pkt), -EPROTO);
			assert_int_equal(vmbus_ring_room(&t.r), -EPROTO);
		}
		done(NULL);
	}
	make(false);
	t.c.from_host.hdr->read_index = 4;
	assert_int_equal(vmbus_ring_room(&t.r), -EPROTO);
	assert_string_equal(t.r.error, "guest's read index is outside of the ring");
	done(NULL);
	make(false);
	t.r.buf_bytes = 8;
	put(0, 0, "0123456789", 10);
	assert_int_equal(vmbus_ring_peek(&t.r, &(struct vmbus_packet){ 0 }), -EPROTO);
	assert_string_equal(t.r.error, "packet longer than the device accepts");
}

static void ranges_become_iovecs(void **state)
{
	static struct fake_guest g;
	struct vmbus_packet pkt;
	struct vmbus_range range;
	struct iovec iov[4];
	u64 gpa, pfn[3], extra[2 + 3 + 1 + 1];
	u32 pos = 0;

	make(false);
	guest_init(&g, NULL);
	gpa = guest_alloc(&g, 4);
	pfn[0] = gpa / PAGE_BYTES;
	pfn[1] = pfn[0] + 1; /* contiguous with the first */
	pfn[2] = pfn[0] + 3;
	extra[0] = 2ull << 32;
	extra[1] = 100ull << 32 | 9000; /* offset 100, 9000 bytes: three pages */
	memcpy(&extra[2], pfn, 24);
	extra[5] = 8ull << 32 | 16;
	extra[6] = 0xdead0000; /* not memory */
	assert_true(guest_write(&t.c, VMBUS_PACKET_GPA_DIRECT, 1, 5, extra, 56, "abc", 3, true));
	assert_int_equal(vmbus_ring_peek(&t.r, &pkt), 1);
	assert_int_equal(pkt.range_count, 2);
	assert_int_equal(pkt.data_bytes, 9016);
	assert_true(vmbus_packet_range(&pkt, &pos, &range));
	assert_int_equal(range.page_count, 3);
	assert_int_equal(vmbus_range_iov(&g.gm, &range, 0, 9000, iov, 4), 2);
	assert_ptr_equal(iov[0].iov_base, guest_ptr(&g, gpa + 100));
	assert_int_equal(iov[0].iov_len, 8192 - 100);
	assert_ptr_equal(iov[1].iov_base, guest_ptr(&g, gpa + 3 * PAGE_BYTES));
	assert_int_equal(iov[1].iov_len, 9000 - 8192 + 100);
	assert_int_equal(vmbus_range_iov(&g.gm, &range, 0, 9000, iov, 1), -E2BIG);
	assert_int_equal(vmbus_range_iov(&g.gm, &range, 1, 9000, iov, 4), -EFAULT);
	assert_int_equal(vmbus_packet_iov(&g.gm, &pkt, 4096, 10, iov, 4), 1);
	assert_ptr_equal(iov[0].iov_base, guest_ptr(&g, gpa + 4196));
	assert_true(vmbus_packet_range(&pkt, &pos, &range));
	assert_int_equal(range.byte_offset, 8);
	assert_int_equal(vmbus_range_iov(&g.gm, &range, 0, 16, iov, 4), -EFAULT);
	assert_int_equal(vmbus_packet_iov(&g.gm, &pkt, 0, 9016, iov, 4), -EFAULT);
	assert_int_equal(vmbus_packet_iov(&g.gm, &pkt, 9016, 1, iov, 4), -EFAULT);
	assert_false(vmbus_packet_range(&pkt, &pos, &range));
	guest_fini(&g);
}

/* A second processor of the guest rewrites packets and indices while we read. */
static u32 stop_liar;

static void *liar(void *arg)
{
	u32 seed = 1;

	while (!__atomic_load_n(&stop_liar, __ATOMIC_RELAXED)) {
		u32 *words = (u32 *)t.c.to_host.data;

		seed = seed * 1103515245 + 12345;
		__atomic_store_n(&words[seed >> 8 & 63], seed & 0x00030009, __ATOMIC_RELAXED);
		__atomic_store_n(&t.c.to_host.hdr->write_index, (seed >> 4) & 0x3f8,
				 __ATOMIC_RELAXED);
		__atomic_store_n(&t.c.from_host.hdr->read_index, (seed >> 12) & 0x3f8,
				 __ATOMIC_RELAXED);
	}
	return NULL;
}

static void concurrent_change_is_harmless(void **state)
{
	pthread_t thread;

	make(false);
	stop_liar = 0;
	assert_int_equal(pthread_create(&thread, NULL, liar, NULL), 0);
	for (u32 i = 0; i < 100000; i++) {
		struct iovec iov = { t.page, 20 };
		struct vmbus_packet_out out = { .type = VMBUS_PACKET_INBAND,
						.payload = &iov,
						.payload_count = 1 };
		struct vmbus_packet pkt;
		struct vmbus_range range;
		u32 pos = 0;

		if (vmbus_ring_peek(&t.r, &pkt) == 1) {
			while (vmbus_packet_range(&pkt, &pos, &range))
				assert_true(range.byte_offset < PAGE_BYTES);
			vmbus_ring_consume(&t.r, &pkt);
		}
		vmbus_ring_write(&t.r, &out, false);
		vmbus_ring_publish_write(&t.r);
		vmbus_ring_publish_read(&t.r);
		if (t.r.error) {
			t.r.error = NULL; /* a new life, to find more */
			t.r.in.index = t.r.in.published = 0;
		}
	}
	__atomic_store_n(&stop_liar, 1, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_are_checked),
		cmocka_unit_test_teardown(packets_pass_and_wrap, done),
		cmocka_unit_test_teardown(writes_pass_and_wrap, done),
		cmocka_unit_test_teardown(golden_packet_bytes, done),
		cmocka_unit_test_teardown(a_full_ring_keeps_one_byte_free, done),
		cmocka_unit_test_teardown(signals_follow_linux, done),
		cmocka_unit_test_teardown(pending_send_of_the_guest, done),
		cmocka_unit_test_teardown(our_pending_send_and_reserve, done),
		cmocka_unit_test_teardown(mask_and_last_look, done),
		cmocka_unit_test_teardown(corruption_is_found, done),
		cmocka_unit_test_teardown(ranges_become_iovecs, done),
		cmocka_unit_test_teardown(concurrent_change_is_harmless, done),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
