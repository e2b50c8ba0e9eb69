// SPDX-License-Identifier: MIT
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "mem/gmem.h"

#define P ((u64)PAGE_BYTES)

static struct gmem gm;
static _Alignas(PAGE_BYTES) u8 low[4 * PAGE_BYTES], high[4 * PAGE_BYTES];

/* RAM in two adjacent regions at 1 and 5 pages, then a hole. */
static int setup(void **state)
{
	memset(low, 'l', sizeof(low));
	memset(high, 'h', sizeof(high));
	return gmem_init(&gm) || gmem_add(&gm, 5 * P, 4 * P, high, GMEM_RESERVED) ||
	       gmem_add(&gm, 1 * P, 4 * P, low, GMEM_RAM);
}

static int teardown(void **state)
{
	gmem_fini(&gm);
	return 0;
}

static void test_regions_must_be_whole_pages_and_apart(void **state)
{
	static const struct {
		u64 gpa, bytes;
		int ret;
	} rows[] = {
		{ 9 * P, 0, -EINVAL },
		{ 9 * P + 8, P, -EINVAL },
		{ 9 * P, P + 8, -EINVAL },
		{ ~0ull & ~(P - 1), P, -EINVAL }, /* would end beyond the last address */
		{ ~0ull & ~(P - 1), 2 * P, -EINVAL },
		{ 0, 2 * P, -EEXIST },
		{ 8 * P, P, -EEXIST },
		{ 2 * P, P, -EEXIST },
		{ 0, 20 * P, -EEXIST },
		{ 9 * P, P, 0 },
		{ 0, P, 0 },
	};

	for (u32 i = 0; i < ARRAY_SIZE(rows); i++)
		assert_int_equal(gmem_add(&gm, rows[i].gpa, rows[i].bytes, low, GMEM_RAM),
				 rows[i].ret);
	assert_int_equal(gmem_count(&gm), 4);
	for (u32 i = 1; i < 4; i++)
		assert_true(gmem_at(&gm, i - 1).gpa < gmem_at(&gm, i).gpa);
	assert_int_equal(gmem_at(&gm, 2).kind, GMEM_RESERVED);
}

static void test_an_access_is_inside_or_fails_as_a_whole(void **state)
{
	static const struct {
		u64 gpa, len;
		int ret;
		bool one_region;
	} rows[] = {
		{ 1 * P, 8, 0, true },
		{ 1 * P, 4 * P, 0, true },
		{ 5 * P - 4, 8, 0, false }, /* spans two regions */
		{ 1 * P, 8 * P, 0, false },
		{ 9 * P - 1, 1, 0, true },
		{ 9 * P, 0, 0, false },
		{ 9 * P, 1, -EFAULT, false },
		{ 9 * P - 1, 2, -EFAULT, false },
		{ 0, 1, -EFAULT, false },
		{ P - 1, 2, -EFAULT, false },
		{ 1 * P, 8 * P + 1, -EFAULT, false },
		{ 1 * P, ~0ull, -EFAULT, false },
		{ ~0ull, 1, -EFAULT, false },
		{ ~0ull, 2 * P, -EFAULT, false },
	};
	static u8 buf[8 * PAGE_BYTES];

	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		memset(buf, 'b', sizeof(buf));
		assert_int_equal(gmem_read(&gm, rows[i].gpa, buf, rows[i].len), rows[i].ret);
		if (rows[i].ret)
			assert_int_equal(buf[0], 'b');
		assert_int_equal(!!gmem_ptr(&gm, rows[i].gpa, rows[i].len), rows[i].one_region);
		if (!rows[i].ret)
			continue;
		assert_int_equal(gmem_write(&gm, rows[i].gpa, buf, rows[i].len), -EFAULT);
		assert_int_equal(gmem_zero(&gm, rows[i].gpa, rows[i].len), -EFAULT);
		assert_int_equal(high[sizeof(high) - 1], 'h');
		assert_int_equal(low[0], 'l');
	}
}

static void test_bytes_cross_a_border_between_regions(void **state)
{
	u8 buf[8] = "01234567", back[8];

	assert_int_equal(gmem_write(&gm, 5 * P - 4, buf, 8), 0);
	assert_memory_equal(low + sizeof(low) - 4, "0123", 4);
	assert_memory_equal(high, "4567", 4);
	assert_int_equal(gmem_read(&gm, 5 * P - 4, back, 8), 0);
	assert_memory_equal(back, buf, 8);
	assert_int_equal(gmem_zero(&gm, 5 * P - 2, 4), 0);
	assert_memory_equal(low + sizeof(low) - 4, "01\0\0", 4);
	assert_memory_equal(high,
			    "\0\0"
			    "67",
			    4);
}

static int view_calls(void *ctx, u64 gpa, void *buf, u64 len, enum gmem_op op)
{
	*(u64 *)ctx = gpa << 8 | len << 4 | op;
	return len > 8 ? -EFAULT : 0;
}

static void *view_pointer(void *ctx, u64 gpa, u64 len)
{
	return gpa ? ctx : NULL;
}

static void test_a_view_takes_all_accesses(void **state)
{
	static const struct gmem_view view = { view_calls, view_pointer };
	struct gmem other;
	struct gmem_region r;
	u64 seen;
	u8 buf[16];

	assert_int_equal(gmem_init_view(&other, &view, &seen), 0);
	assert_int_equal(gmem_read(&other, 5, buf, 8), 0);
	assert_int_equal(seen, 5 << 8 | 8 << 4 | GMEM_READ);
	assert_int_equal(gmem_write(&other, 6, buf, 7), 0);
	assert_int_equal(seen, 6 << 8 | 7 << 4 | GMEM_WRITE);
	assert_int_equal(gmem_zero(&other, 7, 9), -EFAULT);
	assert_int_equal(seen, 7 << 8 | 9 << 4 | GMEM_ZERO);
	assert_ptr_equal(gmem_ptr(&other, 1, 1), &seen);
	assert_null(gmem_ptr(&other, 0, 1));
	assert_int_equal(gmem_find(&other, 0, &r), -EFAULT);
	assert_int_equal(gmem_donate(&other, 0, 1), -EINVAL);
	gmem_fini(&other);
}

static void test_a_held_page_is_not_donated_nor_a_donated_one_held(void **state)
{
	struct gmem_backing b;

	assert_int_equal(gmem_backing_create(&b, "test", 40 * P, true), 0);
	assert_int_equal(gmem_add_backing(&gm, 64 * P, 40 * P, &b, 0, GMEM_RAM), 0);
	assert_int_equal(gmem_hold(&gm, 65 * P), 0);
	assert_int_equal(gmem_hold(&gm, 65 * P), 0);
	assert_int_equal(gmem_donate(&gm, 65 * P, 1), -EBUSY);
	gmem_unhold(&gm, 65 * P);
	assert_int_equal(gmem_donate(&gm, 65 * P, 1), -EBUSY);
	gmem_unhold(&gm, 65 * P);
	assert_int_equal(gmem_donate(&gm, 65 * P, 1), 0);
	assert_int_equal(gmem_hold(&gm, 65 * P), -EBUSY);
	assert_int_equal(gmem_donate(&gm, 65 * P, 0), 0);
	gmem_unhold(&gm, 65 * P); /* of none */
	for (u64 i = 64; i < 104; i++)
		assert_int_equal(gmem_hold(&gm, i * P), 0);
	for (u64 i = 64; i < 104; i++)
		gmem_unhold(&gm, i * P);
	for (u64 i = 64; i < 104; i++)
		assert_int_equal(gmem_donate(&gm, i * P, 1), 0);
	gmem_remove(&gm, 64 * P);
	gmem_backing_destroy(&b);
}

static void test_a_shared_page_is_not_donated(void **state)
{
	struct gmem_backing b;

	assert_int_equal(gmem_backing_create(&b, "test", 4 * P, true), 0);
	assert_int_equal(gmem_add_backing(&gm, 64 * P, 4 * P, &b, 0, GMEM_RAM), 0);
	assert_int_equal(gmem_share_init(&gm), 0);
	assert_int_equal(gmem_share_init(&gm), 0);
	gmem_share(&gm, 65 * P);
	gmem_share(&gm, 65 * P);
	assert_int_equal(gmem_donate(&gm, 64 * P, 1), 0);
	assert_int_equal(gmem_donate(&gm, 65 * P, 1), -EACCES);
	gmem_unshare(&gm, 65 * P);
	assert_int_equal(gmem_donate(&gm, 65 * P, 1), -EACCES);
	gmem_unshare(&gm, 65 * P);
	assert_int_equal(gmem_donate(&gm, 65 * P, 1), 0);
	gmem_share(&gm, 1000 * P); /* no page of RAM */
	gmem_remove(&gm, 64 * P);
	gmem_backing_destroy(&b);
}

static void test_a_region_knows_where_its_file_has_it(void **state)
{
	struct gmem_backing b;
	struct gmem_region r;

	assert_int_equal(gmem_backing_create(&b, "test", 4 * P, true), 0);
	assert_int_equal(gmem_add_backing(&gm, 16 * P, 2 * P, &b, 2 * P, GMEM_RAM), 0);
	assert_int_equal(gmem_add_backing(&gm, 20 * P, 3 * P, &b, 2 * P, GMEM_RAM), -EINVAL);
	assert_int_equal(gmem_add_backing(&gm, 20 * P, 1 * P, &b, 5 * P, GMEM_RAM), -EINVAL);
	assert_int_equal(gmem_find(&gm, 17 * P, &r), 0);
	assert_int_equal(r.fd, b.fd);
	assert_int_equal(r.offset, 2 * P);
	assert_ptr_equal(r.hva, b.hva + 2 * P);
	assert_ptr_equal(r.guest, b.guest + 2 * P);
	assert_int_equal(gmem_find(&gm, 1 * P, &r), 0);
	assert_int_equal(r.fd, -1);
	assert_int_equal(gmem_find(&gm, 15 * P, &r), -EFAULT);
	gmem_backing_destroy(&b);
}

static void test_a_removed_region_is_gone(void **state)
{
	u8 byte;

	assert_int_equal(gmem_remove(&gm, 2 * P), -ENOENT);
	assert_int_equal(gmem_remove(&gm, 1 * P), 0);
	assert_int_equal(gmem_remove(&gm, 1 * P), -ENOENT);
	assert_int_equal(gmem_read(&gm, 1 * P, &byte, 1), -EFAULT);
	assert_int_equal(gmem_read(&gm, 5 * P, &byte, 1), 0);
	assert_int_equal(gmem_count(&gm), 1);
}

static void test_a_backing_is_zero_shared_and_sparse(void **state)
{
	struct gmem_backing b;

	assert_int_equal(gmem_backing_create(&b, "test", 1 * GIB, true), 0);
	assert_true(b.fd >= 0);
	assert_int_equal(b.hva[1 * GIB - 1], 0);
	gmem_backing_destroy(&b);
	assert_null(b.hva);
	gmem_backing_destroy(&b);
}

static void test_a_backing_lies_as_a_huge_page_does(void **state)
{
	struct gmem_backing b;

	for (int shared = 0; shared < 2; shared++) {
		assert_int_equal(gmem_backing_create(&b, "test", 4 * MIB + 1, shared), 0);
		assert_int_equal(b.bytes, 4 * MIB + P);
		assert_int_equal((uintptr_t)b.hva % (2 * MIB), 0);
		assert_int_equal((uintptr_t)b.guest % (2 * MIB), 0);
		assert_int_equal(b.fd >= 0, shared);
		assert_int_equal(b.guest != b.hva, shared);
		b.hva[4 * MIB] = 7;
		assert_int_equal(b.guest[4 * MIB], 7);
		gmem_backing_destroy(&b);
	}
}

static void test_a_change_leaves_nothing_behind(void **state)
{
	const struct gmem_map *map = gm.map;

	/* A guest that toggles a page over a hole must not eat the host's memory. */
	for (u32 i = 0; i < 1000; i++) {
		assert_int_equal(gmem_add(&gm, 100 * P, P, low, GMEM_RESERVED), 0);
		assert_int_equal(gmem_remove(&gm, 100 * P), 0);
	}
	assert_ptr_equal(gm.map, map);
	assert_null(gm.old);
}

static void test_the_map_grows_and_stays_sorted(void **state)
{
	for (u64 i = 0; i < 300; i++)
		assert_int_equal(gmem_add(&gm, (1000 - i * 3) * P, P, low, GMEM_RAM), 0);
	assert_int_equal(gmem_count(&gm), 302);
	for (u32 i = 1; i < 302; i++)
		assert_true(gmem_at(&gm, i - 1).gpa < gmem_at(&gm, i).gpa);
	assert_non_null(gmem_ptr(&gm, (1000 - 299 * 3) * P, P));
}

static bool stop;

static void *reader(void *arg)
{
	u64 reads = 0;
	u8 buf[16];

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		/* Never half of it: both ends are the high region's, or it fails. */
		memset(buf, 0, sizeof(buf));
		if (gmem_read(&gm, 5 * P - 8, buf, 16) == 0 && (buf[0] != 'l' || buf[15] != 'h'))
			return NULL;
		assert_int_equal(gmem_read(&gm, 1 * P, buf, 1), 0);
		reads++;
	}
	return (void *)(uintptr_t)(reads + 1);
}

static void test_readers_see_a_whole_map_while_it_changes(void **state)
{
	pthread_t thread;
	void *reads;

	stop = false;
	assert_int_equal(pthread_create(&thread, NULL, reader, NULL), 0);
	for (u32 i = 0; i < 20000; i++) {
		assert_int_equal(gmem_remove(&gm, 5 * P), 0);
		assert_int_equal(gmem_add(&gm, 5 * P, 4 * P, high, GMEM_RESERVED), 0);
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, &reads);
	assert_non_null(reads);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_regions_must_be_whole_pages_and_apart),
		TEST(test_an_access_is_inside_or_fails_as_a_whole),
		TEST(test_bytes_cross_a_border_between_regions),
		TEST(test_a_view_takes_all_accesses),
		TEST(test_a_held_page_is_not_donated_nor_a_donated_one_held),
		TEST(test_a_shared_page_is_not_donated),
		TEST(test_a_region_knows_where_its_file_has_it),
		TEST(test_a_removed_region_is_gone),
		TEST(test_a_backing_is_zero_shared_and_sparse),
		TEST(test_a_backing_lies_as_a_huge_page_does),
		TEST(test_a_change_leaves_nothing_behind),
		TEST(test_the_map_grows_and_stays_sorted),
		TEST(test_readers_see_a_whole_map_while_it_changes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
