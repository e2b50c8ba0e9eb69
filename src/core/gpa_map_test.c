// SPDX-License-Identifier: MIT
/* A parent that maps its RAM into a child, and what child, engine and core see of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>

#include "core/child.h"
#include "core/core_test.h"
#include "core/gpa_map.h"
#include "hvdef/gpa.h"

#define IN_GPA		0x10000ull
#define OUT_GPA		0x20000ull
#define FIRST_GPN	0x100ull /* of the parent: what the child gets */
#define POOL_GPN	0x80ull
#define POOL_PAGES	32u
#define PARENT_POOL_GPN 0x70ull
#define LIMIT_GPN	BIT64(TEST_PHYSICAL_BITS - PAGE_SHIFT)
#define RW		(HV_MAP_GPA_READABLE | HV_MAP_GPA_WRITABLE | HV_MAP_GPA_EXECUTABLE)
#define RO		(HV_MAP_GPA_READABLE | HV_MAP_GPA_EXECUTABLE)
#define NONE		HV_MAP_GPA_NO_ACCESS
#define LARGE		HV_MAP_GPA_LARGE_PAGE
#define CALL_PAGES	8192u
#define CALL_RUNS	128u
#define SHORT_OF	HV_STATUS_INSUFFICIENT_MEMORY

static struct core_test ct;
static struct engine_vm *vm;
static struct partition *p;
static struct gpa_map *map;
static u64 id;

static u64 call(u64 code, u32 count, u32 start, const void *header, u64 bytes);

static void deposit(struct partition *to, u64 gpn, u32 count)
{
	for (u32 i = 0; i < count; i++)
		assert_int_equal(deposit_add(&to->deposit, gpn + i, 1), HV_STATUS_SUCCESS);
}

static u32 pages_used(void)
{
	return deposit_get(&p->deposit).in_use;
}

static u64 life(u64 code)
{
	return call(code, 0, 0, &id, sizeof(id));
}

static int setup(void **state)
{
	const struct core_test_config cfg = { .vps = 2 };
	const struct hv_input_create_partition in = { 0 };
	struct hypercall hc = { 0 };

	core_test_create(&ct, &cfg);
	ct.hv.engine = &fake_engine;
	deposit(ct.p, PARENT_POOL_GPN, DEPOSIT_CHILD);
	assert_int_equal(call(HVCALL_CREATE_PARTITION, 0, 0, &in, sizeof(in)), 0);
	memcpy(&id, ct.ram + OUT_GPA, sizeof(id));
	hc.vp = ct.vp[0];
	p = child_get(&hc, id);
	assert_non_null(p);
	map = p->child->map;
	vm = p->vm;
	deposit(p, POOL_GPN, DEPOSIT_INITIALIZE + POOL_PAGES);
	assert_int_equal(life(HVCALL_INITIALIZE_PARTITION), 0);
	assert_int_equal(pages_used(), DEPOSIT_INITIALIZE);
	/* Each page of the parent's names itself. */
	for (u64 gpn = FIRST_GPN; gpn < TEST_RAM_BYTES >> PAGE_SHIFT; gpn++)
		memcpy(ct.ram + (gpn << PAGE_SHIFT), &gpn, sizeof(gpn));
	return 0;
}

static int teardown(void **state)
{
	child_put(p);
	children_destroy(ct.p);
	core_test_destroy(&ct);
	return 0;
}

static u64 call(u64 code, u32 count, u32 start, const void *header, u64 bytes)
{
	const struct hypercall_regs regs = { code | (u64)count << 32 | (u64)start << 48, IN_GPA,
					     OUT_GPA, true };
	u64 result;

	memcpy(ct.ram + IN_GPA, header, bytes);
	assert_int_equal(hypercall_execute(ct.vp[0], &regs, &result), VP_OK);
	return result;
}

/* @source NULL: zeros, as Linux sends with NO_ACCESS. */
static u64 map_list(u64 to, u64 gpn, u32 flags, const u64 *source, u32 count)
{
	u64 in[512] = { to, gpn, flags | 0xABCD00000000ull };

	if (source)
		memcpy(in + 3, source, count * sizeof(*source));
	return call(HVCALL_MAP_GPA_PAGES, count, 0, in, 24 + count * 8ull);
}

static u64 ok(u32 count)
{
	return HV_HYPERCALL_RESULT(HV_STATUS_SUCCESS, count);
}

/* @count neighbours of the parent's from @source on. */
static void map_run(u64 gpn, u32 flags, u64 source, u32 count)
{
	u64 list[509];

	for (u32 i = 0; i < count; i++)
		list[i] = source + i;
	assert_int_equal(map_list(id, gpn, flags, list, count), ok(count));
}

static void map_none(u64 gpn, u32 count)
{
	assert_int_equal(map_list(id, gpn, NONE, NULL, count), ok(count));
}

static u64 unmap_flags(u64 gpn, u32 flags, u32 count)
{
	const u64 in[3] = { id, gpn, flags };

	return call(HVCALL_UNMAP_GPA_PAGES, count, 0, in, sizeof(in));
}

static void unmap(u64 gpn, u32 count)
{
	assert_int_equal(unmap_flags(gpn, 0, count), ok(count));
}

static void prepare(void)
{
	struct gpa_ask ask = { 0 };

	assert_true(gpa_map_prepare(map, &ask));
}

/* What a VP asks for that has asked for @gpa, but nobody knows when. */
static u64 missing_after(u64 gpa)
{
	struct gpa_ask ask = { gpa, 0 };

	assert_false(gpa_map_prepare(map, &ask));
	return ask.gpa;
}

/* Asks for the first page, in vain. */
static void refuse(void)
{
	struct gpa_ask ask = { 0 };

	assert_false(gpa_map_prepare(map, &ask));
	gpa_map_prepare(map, &ask);
}

/* What the child's processor finds at @gpn: the number of a page of the parent's. */
static u64 guest_sees(u64 gpn)
{
	struct fake_slot s = fake_slot_at(vm, gpn << PAGE_SHIFT);
	u64 value;

	assert_non_null(s.hva);
	memcpy(&value, (u8 *)s.hva + ((gpn << PAGE_SHIFT) - s.gpa), sizeof(value));
	return value;
}

static u64 core_sees(u64 gpn)
{
	u64 value;

	assert_int_equal(gmem_read(p->gmem, gpn << PAGE_SHIFT, &value, sizeof(value)), 0);
	return value;
}

static bool core_reaches(u64 gpn)
{
	u8 byte;

	return gmem_read(p->gmem, gpn << PAGE_SHIFT, &byte, 1) == 0;
}

static void expect_slot(u64 gpn, u64 pages, bool writable)
{
	struct fake_slot s = fake_slot_at(vm, gpn << PAGE_SHIFT);

	assert_non_null(s.hva);
	assert_int_equal(s.gpa, gpn << PAGE_SHIFT);
	assert_int_equal(s.bytes, pages << PAGE_SHIFT);
	assert_int_equal(s.writable, writable);
}

static void expect_no_slot(u64 gpn)
{
	assert_null(fake_slot_at(vm, gpn << PAGE_SHIFT).hva);
}

static void test_mapped_pages_are_the_parents(void **state)
{
	static const u64 scattered[] = { FIRST_GPN + 9, FIRST_GPN + 3, FIRST_GPN + 4 };
	u64 value = 0x1234;

	assert_int_equal(map_list(id, 0x10, RW, scattered, 3), ok(3));
	prepare();
	expect_slot(0x10, 3, true);
	for (u32 i = 0; i < 3; i++) {
		assert_int_equal(guest_sees(0x10 + i), scattered[i]);
		assert_int_equal(core_sees(0x10 + i), scattered[i]);
	}
	assert_int_equal(gmem_write(p->gmem, 0x11000, &value, sizeof(value)), 0);
	assert_int_equal(guest_sees(0x11), value);
	assert_memory_equal(ct.ram + ((FIRST_GPN + 3) << PAGE_SHIFT), &value, sizeof(value));
	assert_int_equal(gpa_map_count(map), 3);
	assert_int_equal(gpa_map_lookup(map, 0x12FFF), GPA_WRITABLE);
	assert_int_equal(gpa_map_lookup(map, 0x13000), GPA_UNMAPPED);
	assert_int_equal(gpa_map_lookup(map, ~0ull), GPA_UNMAPPED);
}

static void test_the_same_page_may_be_seen_twice(void **state)
{
	static const u64 twice[] = { FIRST_GPN, FIRST_GPN };

	assert_int_equal(map_list(id, 0, RW, twice, 2), ok(2));
	prepare();
	assert_int_equal(guest_sees(0), guest_sees(1));
}

static void test_bad_input_gets_its_status(void **state)
{
	const struct {
		u64 id, gpn;
		u32 flags;
		u64 source;
		u16 status;
	} rows[] = {
		{ id + 1, 0, RW, FIRST_GPN, HV_STATUS_INVALID_PARTITION_ID },
		{ HV_PARTITION_ID_SELF, 0, RW, FIRST_GPN, HV_STATUS_INVALID_PARTITION_ID },
		{ ct.p->id, 0, RW, FIRST_GPN, HV_STATUS_INVALID_PARTITION_ID },
		{ id, 0, 0, FIRST_GPN, HV_STATUS_INVALID_PARAMETER },
		{ id, 0, HV_MAP_GPA_WRITABLE, FIRST_GPN, HV_STATUS_INVALID_PARAMETER },
		{ id, 0, RW | NONE, FIRST_GPN, HV_STATUS_INVALID_PARAMETER },
		{ id, 0, RW | BIT(4), FIRST_GPN, HV_STATUS_INVALID_PARAMETER },
		{ id, 0, RW | BIT(30), FIRST_GPN, HV_STATUS_INVALID_PARAMETER },
		{ id, LIMIT_GPN, RW, FIRST_GPN, HV_STATUS_INVALID_PARAMETER },
		{ id, LIMIT_GPN, NONE, 0, HV_STATUS_INVALID_PARAMETER },
		{ id, ~0ull, RW, FIRST_GPN, HV_STATUS_INVALID_PARAMETER },
		{ id, ~0ull, NONE, 0, HV_STATUS_INVALID_PARAMETER },
		{ id, BIT64(52), RW, FIRST_GPN, HV_STATUS_INVALID_PARAMETER },
		{ id, 0, RW, TEST_RAM_BYTES >> PAGE_SHIFT, HV_STATUS_INVALID_PARAMETER },
		{ id, 0, RW, TEST_HOLE_GPA >> PAGE_SHIFT, HV_STATUS_INVALID_PARAMETER },
		{ id, 0, RW, ~0ull, HV_STATUS_INVALID_PARAMETER },
		{ id, 0, RW, BIT64(52) | FIRST_GPN, HV_STATUS_INVALID_PARAMETER },
		{ id, 0, RW, POOL_GPN, HV_STATUS_INVALID_PARAMETER }, /* given away */
		{ id, 1, RW | LARGE, 0, HV_STATUS_INVALID_PARAMETER },
		{ id, 0, RW | LARGE, 1, HV_STATUS_INVALID_PARAMETER },
		{ id, 0, RW | LARGE, 0, HV_STATUS_INVALID_PARAMETER }, /* the pool is in it */
		{ id, 1, NONE | LARGE, 0, HV_STATUS_INVALID_PARAMETER },
	};

	for (u32 i = 0; i < ARRAY_SIZE(rows); i++)
		assert_int_equal(
			map_list(rows[i].id, rows[i].gpn, rows[i].flags, &rows[i].source, 1),
			rows[i].status);
	assert_int_equal(gpa_map_count(map), 0);
	prepare();
	assert_int_equal(fake_count(vm, FAKE_MAP), 0);
}

static void test_flags_that_change_nothing_are_taken(void **state)
{
	static const u32 flags[] = { HV_MAP_GPA_READABLE, RW | HV_MAP_GPA_ADJUSTABLE,
				     RW | HV_MAP_GPA_NOT_CACHED, RO };

	for (u32 i = 0; i < ARRAY_SIZE(flags); i++)
		map_run(i, flags[i], FIRST_GPN + i, 1);
	assert_int_equal(gpa_map_lookup(map, 0), GPA_READ_ONLY);
	assert_int_equal(gpa_map_lookup(map, 0x1000), GPA_WRITABLE);
	assert_int_equal(gpa_map_lookup(map, 0x2000), GPA_WRITABLE);
	assert_int_equal(gpa_map_lookup(map, 0x3000), GPA_READ_ONLY);
}

static void test_bad_unmaps_get_their_status(void **state)
{
	static const struct {
		u64 gpn;
		u32 flags;
	} rows[] = { { 0, BIT(0) },
		     { 0, BIT(31) },
		     { LIMIT_GPN, 0 },
		     { ~0ull, 0 },
		     { 1, HV_UNMAP_GPA_LARGE_PAGE },
		     { LIMIT_GPN, HV_UNMAP_GPA_LARGE_PAGE },
		     { ~0ull << 9, HV_UNMAP_GPA_LARGE_PAGE } };

	for (u32 i = 0; i < ARRAY_SIZE(rows); i++)
		assert_int_equal(unmap_flags(rows[i].gpn, rows[i].flags, 1),
				 HV_STATUS_INVALID_PARAMETER);
	/* A list that runs out of the address space ends there. */
	assert_int_equal(unmap_flags(LIMIT_GPN - 3, 0, 4095),
			 HV_HYPERCALL_RESULT(HV_STATUS_INVALID_PARAMETER, 3));
	assert_int_equal(map_list(id, LIMIT_GPN - 3, NONE, NULL, 509),
			 HV_HYPERCALL_RESULT(HV_STATUS_INVALID_PARAMETER, 3));
}

static void test_a_call_stops_at_the_element_that_is_wrong(void **state)
{
	static const u64 list[] = { FIRST_GPN, FIRST_GPN + 1, ~0ull, FIRST_GPN + 3 };

	assert_int_equal(map_list(id, 0, RW, list, 4),
			 HV_HYPERCALL_RESULT(HV_STATUS_INVALID_PARAMETER, 2));
	assert_int_equal(gpa_map_count(map), 2);
	assert_false(core_reaches(2));
}

static void test_a_call_goes_on_at_its_start_index(void **state)
{
	const u64 in[] = { id, 0x40, RW, ~0ull, ~0ull, FIRST_GPN + 2, FIRST_GPN + 3 };

	assert_int_equal(call(HVCALL_MAP_GPA_PAGES, 4, 2, in, sizeof(in)), ok(4));
	assert_false(core_reaches(0x40));
	assert_int_equal(core_sees(0x42), FIRST_GPN + 2);
	assert_int_equal(core_sees(0x43), FIRST_GPN + 3);
}

static void test_large_pages_are_512_small_ones(void **state)
{
	static const u64 source[] = { 512, 512 };

	assert_int_equal(map_list(id, 1024, RW | LARGE, source, 2), ok(2));
	prepare();
	expect_slot(1024, 1024, true);
	assert_int_equal(guest_sees(1024 + 7), 512 + 7);
	assert_int_equal(guest_sees(1536 + 511), 1023);
	assert_int_equal(map_list(id, 1024, NONE | LARGE, NULL, 1), ok(1));
	assert_int_equal(missing_after(0), 1024ull << PAGE_SHIFT);
	assert_int_equal(unmap_flags(1024, HV_UNMAP_GPA_LARGE_PAGE, 2), ok(2));
	prepare();
	expect_no_slot(1024);
	assert_int_equal(gpa_map_count(map), 0);
}

static void test_a_long_call_returns_early_but_never_with_nothing(void **state)
{
	u64 list[509];

	for (u32 i = 0; i < 509; i++)
		list[i] = 512;
	assert_int_equal(map_list(id, 0, RW | LARGE, list, 20), ok(CALL_PAGES / 512));
	assert_int_equal(unmap_flags(0, HV_UNMAP_GPA_LARGE_PAGE, 4095), ok(CALL_PAGES / 512));
	for (u32 i = 0; i < 509; i++)
		list[i] = FIRST_GPN + i * 2 % 512;
	assert_int_equal(map_list(id, 0, RW, list, 509) >> 32, CALL_RUNS + 1);
}

static void test_no_access_is_asked_for_before_the_vp_runs(void **state)
{
	map_none(0, 509);
	map_none(509, 3);
	map_run(0x400, RW, FIRST_GPN, 4);
	assert_int_equal(missing_after(~0ull), 0);
	assert_int_equal(gpa_map_lookup(map, 0x3000), GPA_NO_ACCESS);
	assert_int_equal(fake_count(vm, FAKE_MAP), 0);
	map_run(0, RW, FIRST_GPN, 500);
	/* The lowest, or the next one after what was asked for last. */
	assert_int_equal(missing_after(0), 500ull << PAGE_SHIFT);
	assert_int_equal(missing_after(505ull << PAGE_SHIFT), 505ull << PAGE_SHIFT);
	assert_int_equal(missing_after(0x400000), 500ull << PAGE_SHIFT);
	map_run(500, RW, FIRST_GPN, 12);
	prepare();
	expect_slot(0, 512, true);
	expect_slot(0x400, 4, true);
}

/* A VP of the child's that runs, and how often it had to leave the guest. */

/* It has been in the guest since whatever happened before. */
static void vp_settle(void)
{
	fake_push(p->vps[0]->vcpu, &(struct fake_step){ .exit = { .kind = ENGINE_EXIT_HALT } });
	fake_drain(p->vps[0]->vcpu);
}

static void vp_run(void)
{
	const struct hv_input_create_vp in = { .partition_id = id };

	assert_int_equal(call(HVCALL_CREATE_VP, 0, 0, &in, sizeof(in)), 0);
	pthread_mutex_lock(&p->child->vp_lock);
	p->vps[0]->child->explicit_suspend = false;
	pthread_cond_signal(&p->vps[0]->child->wake);
	pthread_mutex_unlock(&p->child->vp_lock);
	vp_settle();
}

static u64 vp_exits(void)
{
	vp_settle();
	return p->vps[0]->exits[ENGINE_EXIT_INTR];
}

static void test_only_what_vps_may_use_makes_them_wait(void **state)
{
	vp_run();
	map_none(0, 509);
	unmap(0, 509);
	unmap(0x2000, 509);
	assert_int_equal(vp_exits(), 0);
	map_run(0, RW, FIRST_GPN, 509);
	assert_int_equal(vp_exits(), 1);
	expect_slot(0, 509, true);
	map_run(0, RW, FIRST_GPN + 1, 509);
	assert_int_equal(vp_exits(), 2);
	unmap(508, 1);
	assert_int_equal(vp_exits(), 3);
	expect_slot(0, 508, true);
}

static void test_a_page_taken_away_and_given_back_keeps_its_slot(void **state)
{
	map_run(0, RW, FIRST_GPN, 16);
	prepare();
	fake_forget(vm);
	map_none(4, 4);
	assert_false(core_reaches(4));
	assert_int_equal(missing_after(0), 0x4000);
	map_run(4, RW, FIRST_GPN + 100, 4);
	prepare();
	assert_int_equal(fake_count(vm, FAKE_MAP) + fake_count(vm, FAKE_UNMAP), 0);
	assert_int_equal(guest_sees(4), FIRST_GPN + 100);
	assert_int_equal(guest_sees(8), FIRST_GPN + 8);
}

static void test_slots_are_runs_of_the_same_rights(void **state)
{
	map_run(0, RW, FIRST_GPN, 8);
	map_run(8, RO, FIRST_GPN + 8, 4);
	map_run(12, RW, FIRST_GPN + 12, 4);
	map_run(20, RW, FIRST_GPN + 20, 1);
	prepare();
	expect_slot(0, 8, true);
	expect_slot(8, 4, false);
	expect_slot(12, 4, true);
	expect_slot(20, 1, true);
	fake_forget(vm);
	map_run(8, RW, FIRST_GPN + 8, 4);
	prepare();
	expect_slot(0, 16, true);
	expect_slot(20, 1, true);
	assert_int_equal(fake_count(vm, FAKE_UNMAP), 3);
	assert_int_equal(fake_count(vm, FAKE_MAP), 1);
	unmap(3, 1);
	prepare();
	expect_slot(0, 3, true);
	expect_no_slot(3);
	expect_slot(4, 12, true);
}

static void test_slots_join_over_the_borders_of_the_table(void **state)
{
	for (u32 i = 0; i < 4; i++)
		map_run(0x3FF00 + i * 256, RW, FIRST_GPN, 256); /* 1 GiB is in the middle */
	prepare();
	expect_slot(0x3FF00, 1024, true);
}

static void test_the_apic_page_is_never_covered(void **state)
{
	map_run(0xFEDFE, RW, FIRST_GPN, 4);
	prepare();
	expect_slot(0xFEDFE, 2, true);
	expect_no_slot(0xFEE00);
	expect_slot(0xFEE01, 1, true);
	for (u32 i = 0; i < 512; i += 256)
		map_run(0xFEE00 + i, RW, 512 + i, 256);
	prepare();
	expect_no_slot(0xFEE00);
	assert_int_equal(guest_sees(0xFEE01), 513);
	map_run(0xFEE00, RO, 512, 1);
	prepare();
	expect_no_slot(0xFEE00);
}

static void test_read_only_memory_is_not_written(void **state)
{
	u8 byte = 1;

	map_run(0, RO, FIRST_GPN, 1);
	map_run(1, RW, FIRST_GPN + 1, 1);
	assert_int_equal(core_sees(0), FIRST_GPN);
	assert_int_equal(gmem_write(p->gmem, 0, &byte, 1), -EFAULT);
	assert_int_equal(gmem_zero(p->gmem, 0xFFF, 2), -EFAULT);
	assert_int_equal(gmem_zero(p->gmem, 0x1000, PAGE_BYTES), 0);
	assert_int_equal(core_sees(0), FIRST_GPN);
	assert_int_equal(core_sees(1), 0);
}

static void test_accesses_span_pages_that_are_not_neighbours(void **state)
{
	static const u64 list[] = { FIRST_GPN + 5, FIRST_GPN + 1, FIRST_GPN + 9 };
	u8 out[2 * PAGE_BYTES], back[2 * PAGE_BYTES];

	map_list(id, 0, RW, list, 3);
	for (u32 i = 0; i < sizeof(out); i++)
		out[i] = (u8)(i * 7);
	assert_int_equal(gmem_write(p->gmem, 0x800, out, sizeof(out)), 0);
	assert_int_equal(gmem_read(p->gmem, 0x800, back, sizeof(back)), 0);
	assert_memory_equal(out, back, sizeof(out));
	assert_memory_equal(ct.ram + (list[1] << PAGE_SHIFT), out + 0x800, PAGE_BYTES);
	/* As a whole or not at all. */
	assert_int_equal(gmem_zero(p->gmem, 0x2800, PAGE_BYTES), -EFAULT);
	assert_memory_equal(ct.ram + (list[2] << PAGE_SHIFT), out + 0x1800, 0x800);
	assert_int_equal(gmem_read(p->gmem, ~0ull, back, 1), -EFAULT);
	assert_int_equal(gmem_read(p->gmem, ~0ull - 0xFFF, back, sizeof(back)), -EFAULT);
	assert_int_equal(gmem_read(p->gmem, 0x1000, back, ~0ull - 0x800), -EFAULT);
	assert_non_null(gmem_ptr(p->gmem, 0x1000, PAGE_BYTES));
	assert_null(gmem_ptr(p->gmem, 0x1001, PAGE_BYTES));
	assert_null(gmem_ptr(p->gmem, 0x3000, 1));
}

static void test_what_the_parent_cannot_fill_becomes_a_hole(void **state)
{
	struct gpa_ask ask = { 0 };

	map_none(0, 200); /* of a region that is gone */
	map_none(0, 100);
	map_none(150, 50);
	assert_false(gpa_map_prepare(map, &ask));
	map_run(0, RW, FIRST_GPN, 100);
	assert_false(gpa_map_prepare(map, &ask));
	assert_int_equal(ask.gpa, 100ull << PAGE_SHIFT);
	assert_false(gpa_map_prepare(map, &ask));
	assert_int_equal(ask.gpa, 150ull << PAGE_SHIFT);
	map_run(150, RW, FIRST_GPN, 50);
	assert_true(gpa_map_prepare(map, &ask));
	expect_slot(0, 100, true);
	expect_no_slot(100);
	expect_slot(150, 50, true);
	assert_int_equal(gpa_map_lookup(map, 120ull << PAGE_SHIFT), GPA_NO_ACCESS);
	/* It may come to be filled after all. */
	map_run(100, RW, FIRST_GPN, 50);
	assert_true(gpa_map_prepare(map, &ask));
	expect_slot(0, 200, true);
}

static void test_a_page_filled_and_taken_away_again_is_asked_for_again(void **state)
{
	struct gpa_ask ask = { 0 };

	map_none(0, 4);
	for (u32 i = 0; i < 3; i++) {
		assert_false(gpa_map_prepare(map, &ask));
		assert_int_equal(ask.gpa, 0);
		map_run(0, RW, FIRST_GPN, 4);
		map_none(0, 4);
	}
	assert_false(gpa_map_prepare(map, &ask));
	assert_true(gpa_map_prepare(map, &ask));
	expect_no_slot(0);
}

static void test_pages_taken_away_for_good_leave_their_slot(void **state)
{
	map_run(0, RW, FIRST_GPN, 8);
	prepare();
	map_none(2, 2);
	assert_int_equal(missing_after(0), 0x2000);
	refuse();
	prepare();
	expect_slot(0, 2, true);
	expect_no_slot(2);
	expect_slot(4, 4, true);
}

/* Overlays: the hypercall page of the child, filled with a mark. */

#define MARK 0x4D4D4D4D4D4D4D4Dull

static void overlay_on(u64 gpn)
{
	memset(p->tsc_page.own, 0x4D, PAGE_BYTES);
	assert_int_equal(overlay_set(p, &p->tsc_page, gpn << PAGE_SHIFT, true), 0);
}

static void overlay_off(u64 gpn)
{
	assert_int_equal(overlay_set(p, &p->tsc_page, gpn << PAGE_SHIFT, false), 0);
}

static void test_an_overlay_over_ram_leaves_the_parents_page_alone(void **state)
{
	map_run(0, RW, FIRST_GPN, 4);
	prepare();
	fake_forget(vm);
	overlay_on(2);
	assert_int_equal(guest_sees(2), MARK);
	assert_int_equal(core_sees(2), MARK);
	assert_int_equal(*(u64 *)(void *)(ct.ram + ((FIRST_GPN + 2) << PAGE_SHIFT)), FIRST_GPN + 2);
	/* The guest's writes are the overlay's. */
	memset((u8 *)fake_slot_at(vm, 0x2000).hva + 0x2000, 0x11, 8);
	assert_int_equal(p->tsc_page.page[7], 0x11);
	overlay_off(2);
	assert_int_equal(guest_sees(2), FIRST_GPN + 2);
	assert_int_equal(p->tsc_page.own[7], 0x11);
	assert_int_equal(fake_count(vm, FAKE_MAP) + fake_count(vm, FAKE_UNMAP), 0);
}

static void test_an_overlay_stays_while_the_parent_changes_what_is_below(void **state)
{
	map_run(0, RW, FIRST_GPN, 4);
	prepare();
	overlay_on(2);
	map_none(0, 4);
	assert_int_equal(missing_after(0), 0);
	assert_int_equal(core_sees(2), MARK);
	map_run(0, RW, FIRST_GPN + 20, 4);
	prepare();
	assert_int_equal(guest_sees(2), MARK);
	assert_int_equal(guest_sees(3), FIRST_GPN + 23);
	unmap(0, 4);
	prepare();
	expect_slot(2, 1, true);
	expect_no_slot(1);
	assert_int_equal(guest_sees(2), MARK);
	map_run(0, RO, FIRST_GPN + 40, 4);
	prepare();
	expect_slot(0, 4, false);
	assert_int_equal(guest_sees(2), MARK);
	overlay_off(2);
	assert_int_equal(guest_sees(2), FIRST_GPN + 42);
}

static void test_an_overlay_over_a_hole_has_a_slot_of_its_own(void **state)
{
	overlay_on(0x800);
	expect_slot(0x800, 1, true);
	assert_int_equal(guest_sees(0x800), MARK);
	assert_int_equal(gpa_map_lookup(map, 0x800000), GPA_WRITABLE);
	map_run(0x7FF, RW, FIRST_GPN, 3);
	prepare();
	expect_slot(0x7FF, 3, true);
	assert_int_equal(guest_sees(0x800), MARK);
	unmap(0x7FF, 3);
	prepare();
	expect_slot(0x800, 1, true);
	overlay_off(0x800);
	expect_no_slot(0x800);
	assert_false(core_reaches(0x800));
	prepare();
	/* A slot that comes and goes, without any memory near. */
	overlay_on(0x900);
	overlay_on(0xA00);
	expect_no_slot(0x900);
	expect_slot(0xA00, 1, true);
}

static void test_an_overlay_over_what_was_refused(void **state)
{
	map_none(0, 4);
	refuse();
	prepare();
	overlay_on(1);
	expect_slot(1, 1, true);
	overlay_off(1);
	expect_no_slot(1);
	map_none(0, 4);
	overlay_on(1);
	refuse();
	prepare();
	expect_slot(1, 1, true);
	assert_int_equal(guest_sees(1), MARK);
}

static void test_the_newest_of_two_overlays_is_seen(void **state)
{
	map_run(0, RW, FIRST_GPN, 4);
	prepare();
	overlay_on(2);
	memset(p->hypercall_page.own, 0x22, PAGE_BYTES);
	assert_int_equal(overlay_set(p, &p->hypercall_page, 0x2000, true), 0);
	assert_int_equal(guest_sees(2), 0x2222222222222222ull);
	assert_int_equal(overlay_set(p, &p->hypercall_page, 0x2000, false), 0);
	assert_int_equal(guest_sees(2), MARK);
	overlay_off(2);
	assert_int_equal(guest_sees(2), FIRST_GPN + 2);
}

static void test_an_overlay_outside_the_address_space_is_refused(void **state)
{
	u8 *page = gpa_map_overlay_page_alloc(map);

	assert_non_null(page);
	assert_int_equal(gpa_map_overlay(map, LIMIT_GPN << PAGE_SHIFT, page), -ENXIO);
	assert_int_equal(gpa_map_overlay(map, ~0ull, NULL), -ENXIO);
	assert_int_equal(gpa_map_overlay(map, 0, NULL), 0);
	gpa_map_overlay_page_free(map, page);
}

static void test_an_overlay_that_gets_no_slot_leaves_nothing(void **state)
{
	fake_fail_maps(vm, 1);
	assert_int_equal(overlay_set(p, &p->tsc_page, 0x800000, true), -ENOSPC);
	assert_false(core_reaches(0x800));
	prepare();
	overlay_on(0x800);
	assert_int_equal(guest_sees(0x800), MARK);
}

/* What a child can reach is not its parent's to give away. Asked before it is filled, it can. */

static u64 give(u64 gpn)
{
	const u64 in[] = { HV_PARTITION_ID_SELF, gpn };

	return call(HVCALL_DEPOSIT_MEMORY, 1, 0, in, sizeof(in));
}

static u64 take_back(void)
{
	const u64 in[] = { HV_PARTITION_ID_SELF, 0 };

	return call(HVCALL_WITHDRAW_MEMORY, 1, 0, in, sizeof(in));
}

static void given_and_back(u64 gpn)
{
	assert_int_equal(give(gpn), ok(1));
	assert_int_equal(take_back(), ok(1));
}

static void test_a_page_of_a_child_cannot_be_deposited(void **state)
{
	const u64 denied = HV_HYPERCALL_RESULT(HV_STATUS_OPERATION_DENIED, 0);
	const u64 three[] = { HV_PARTITION_ID_SELF, FIRST_GPN + 20, FIRST_GPN + 9, FIRST_GPN + 21 };

	map_run(0, RW, FIRST_GPN, 2);
	map_run(2, RO, FIRST_GPN + 2, 1);
	for (u32 i = 0; i < 3; i++)
		assert_int_equal(give(FIRST_GPN + i), denied);
	given_and_back(FIRST_GPN + 3);
	/* In two places, and with other rights. */
	map_run(700, RW, FIRST_GPN, 1);
	map_run(0, RO, FIRST_GPN, 1);
	unmap(0, 1);
	assert_int_equal(give(FIRST_GPN), denied);
	map_none(700, 1);
	given_and_back(FIRST_GPN);
	/* Another page in its place. */
	map_run(1, RW, FIRST_GPN + 9, 1);
	given_and_back(FIRST_GPN + 1);
	assert_int_equal(give(FIRST_GPN + 9), denied);
	/* A call stops there. */
	assert_int_equal(call(HVCALL_DEPOSIT_MEMORY, 3, 0, three, sizeof(three)), denied + ok(1));
	/* And none can become its memory once it is given. */
	assert_int_equal(map_list(id, 5, RW, &three[1], 1), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(life(HVCALL_FINALIZE_PARTITION), 0);
	assert_int_equal(give(FIRST_GPN + 9), ok(1));
	assert_int_equal(give(FIRST_GPN + 2), ok(1));
}

/* The pool of the child pays for the tables: a page for 2 MiB. */
static void test_maps_cost_pages_of_the_pool(void **state)
{
	const u64 source = FIRST_GPN;

	for (u32 i = 0; i < POOL_PAGES; i++)
		map_none(i * 512, 1);
	assert_int_equal(map_list(id, POOL_PAGES * 512 - 1, RW, (u64[]){ FIRST_GPN, FIRST_GPN }, 2),
			 HV_HYPERCALL_RESULT(SHORT_OF, 1));
	assert_int_equal(map_list(id, POOL_PAGES * 512, RW, &source, 1), SHORT_OF);
	deposit(p, POOL_GPN + DEPOSIT_INITIALIZE + POOL_PAGES, 1);
	assert_int_equal(map_list(id, POOL_PAGES * 512, RW, &source, 1), ok(1));
	/* What is empty again costs nothing, once the engine has let go of it. */
	for (u32 i = 0; i <= POOL_PAGES; i++)
		unmap(i * 512, 512);
	prepare();
	assert_int_equal(pages_used(), DEPOSIT_INITIALIZE);
}

static void test_only_an_active_child_is_changed(void **state)
{
	const u64 source = FIRST_GPN;

	__atomic_store_n(&p->child->state, CHILD_CREATED, __ATOMIC_RELEASE);
	assert_int_equal(map_list(id, 0, RW, &source, 1), HV_STATUS_INVALID_PARTITION_STATE);
	__atomic_store_n(&p->child->state, CHILD_ACTIVE, __ATOMIC_RELEASE);
	vp_run();
	map_run(0, RW, FIRST_GPN, 8);
	vp_exits();
	expect_slot(0, 8, true);
	overlay_on(3);
	assert_int_equal(life(HVCALL_FINALIZE_PARTITION), 0);
	expect_no_slot(0);
	assert_int_equal(pages_used(), 0);
	/* Linux unmaps afterwards what it knows to be present. */
	assert_int_equal(unmap_flags(0, 0, 512), HV_STATUS_INVALID_PARTITION_STATE);
	assert_int_equal(map_list(id, 0, RW, &source, 1), HV_STATUS_INVALID_PARTITION_STATE);
	assert_false(core_reaches(0));
	assert_int_equal(gpa_map_count(map), 0);
	for (u32 i = 0; i < DEPOSIT_INITIALIZE + POOL_PAGES; i++) {
		const u64 in[] = { id, 0 };

		assert_int_equal(call(HVCALL_WITHDRAW_MEMORY, 1, 0, in, sizeof(in)), ok(1));
	}
	assert_int_equal(life(HVCALL_DELETE_PARTITION), 0);
	assert_int_equal(unmap_flags(0, 0, 1), HV_STATUS_INVALID_PARTITION_ID);
}

static void test_a_slot_the_host_refuses_stops_the_child(void **state)
{
	struct gpa_ask ask = { 0 };

	map_run(0, RW, FIRST_GPN, 8);
	prepare();
	map_run(16, RW, FIRST_GPN, 8);
	fake_fail_maps(vm, 1);
	assert_false(gpa_map_prepare(map, &ask));
	assert_int_equal(partition_stop_reason(p), STOP_HOST_ERROR);
	expect_no_slot(0);
	expect_no_slot(16);
	/* The parent goes on, and gets its pages back. */
	unmap(0, 32);
	assert_false(gpa_map_prepare(map, &ask));
}

static u8 access_state(u64 gpn, u64 flags, u32 count)
{
	const u64 in[] = { id, flags, gpn };

	assert_int_equal(call(HVCALL_GET_GPA_PAGES_ACCESS_STATE, count, 0, in, sizeof(in)),
			 ok(count));
	return ct.ram[OUT_GPA];
}

static void test_written_pages_are_told(void **state)
{
	const u8 *out = ct.ram + OUT_GPA;

	map_run(0, RW, FIRST_GPN, 64);
	prepare();
	/* Nobody has recorded anything: all may be. */
	assert_int_equal(access_state(0, 0, 1), HV_GPA_ACCESSED | HV_GPA_DIRTY);
	gpa_map_track(map, true);
	assert_int_equal(access_state(0, 0, 1), HV_GPA_ACCESSED);
	fake_write(vm, 0x3000);
	assert_int_equal(gmem_zero(p->gmem, 0x7000, 1), 0);
	access_state(1, HV_GPA_CLEAR_DIRTY, 70);
	assert_int_equal(out[0], HV_GPA_ACCESSED);
	assert_int_equal(out[2], HV_GPA_ACCESSED | HV_GPA_DIRTY);
	assert_int_equal(out[6], HV_GPA_ACCESSED | HV_GPA_DIRTY);
	assert_int_equal(out[62], HV_GPA_ACCESSED);
	assert_int_equal(out[63], 0);
	assert_int_equal(access_state(3, HV_GPA_SET_DIRTY, 1), HV_GPA_ACCESSED);
	assert_int_equal(access_state(3, 0, 1), HV_GPA_ACCESSED | HV_GPA_DIRTY);
	/* Recorded before the slot changes its shape, and in the new one. */
	fake_write(vm, 0x5000);
	map_run(64, RW, FIRST_GPN + 64, 1);
	prepare();
	expect_slot(0, 65, true);
	assert_int_equal(access_state(5, HV_GPA_CLEAR_DIRTY, 1), HV_GPA_ACCESSED | HV_GPA_DIRTY);
	assert_int_equal(access_state(64, HV_GPA_CLEAR_DIRTY, 1), HV_GPA_ACCESSED | HV_GPA_DIRTY);
	fake_write(vm, 0x40000);
	assert_int_equal(access_state(64, 0, 1), HV_GPA_ACCESSED | HV_GPA_DIRTY);
	gpa_map_track(map, false);
	assert_false(fake_slot_at(vm, 0).tracked);
}

static void test_bad_questions_for_written_pages_get_their_status(void **state)
{
	const struct {
		u64 id, flags, gpn;
		u16 status;
	} rows[] = {
		{ id + 1, 0, 0, HV_STATUS_INVALID_PARTITION_ID },
		{ id, BIT64(4), 0, HV_STATUS_INVALID_PARAMETER },
		{ id, HV_GPA_CLEAR_DIRTY | HV_GPA_SET_DIRTY, 0, HV_STATUS_INVALID_PARAMETER },
		{ id, HV_GPA_CLEAR_ACCESSED | HV_GPA_SET_ACCESSED, 0, HV_STATUS_INVALID_PARAMETER },
		{ id, 0, LIMIT_GPN - 3, HV_STATUS_INVALID_PARAMETER },
		{ id, 0, ~0ull, HV_STATUS_INVALID_PARAMETER },
	};

	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		const u64 in[] = { rows[i].id, rows[i].flags, rows[i].gpn };

		assert_int_equal(call(HVCALL_GET_GPA_PAGES_ACCESS_STATE, 4, 0, in, sizeof(in)),
				 rows[i].status);
	}
}

/* VPs prepare, look and read while the parent takes pages away and gives others. */

#define THREAD_PAGES 64u

static bool threads_end;

static void *vp_stand_in(void *arg)
{
	struct gpa_ask ask = { 0 };
	u64 *seen = arg, value;

	while (!__atomic_load_n(&threads_end, __ATOMIC_ACQUIRE)) {
		for (u64 gpn = 0; gpn < THREAD_PAGES; gpn++) {
			u64 gpa = gpn << PAGE_SHIFT;

			gpa_map_prepare(map, &ask);
			gpa_map_lookup(map, gpa);
			if (gmem_read(p->gmem, gpa, &value, sizeof(value)) == 0) {
				/* A page of one of the two states, or the overlay. */
				assert(value == MARK || value == FIRST_GPN + gpn ||
				       value == FIRST_GPN + 0x100 + gpn);
				__atomic_fetch_add(seen, 1, __ATOMIC_RELAXED);
			}
		}
	}
	return NULL;
}

static void test_readers_and_changes_meet(void **state)
{
	pthread_t thread[2];
	u64 seen[2] = { 0 };

	threads_end = false;
	for (u32 i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, vp_stand_in, &seen[i]), 0);
	for (u32 i = 0; i < 200; i++) {
		map_run(0, RW, FIRST_GPN + (i & 1) * 0x100, THREAD_PAGES);
		overlay_on(i % THREAD_PAGES);
		map_none(i % 32, THREAD_PAGES / 2);
		overlay_off(i % THREAD_PAGES);
		unmap(i % 16, 8);
	}
	map_run(0, RW, FIRST_GPN, THREAD_PAGES);
	for (u32 i = 0; i < 2; i++)
		while (!__atomic_load_n(&seen[i], __ATOMIC_RELAXED))
			sched_yield();
	__atomic_store_n(&threads_end, true, __ATOMIC_RELEASE);
	for (u32 i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	prepare();
	for (u64 gpn = 0; gpn < THREAD_PAGES; gpn++)
		assert_int_equal(guest_sees(gpn), FIRST_GPN + gpn);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_mapped_pages_are_the_parents),
		TEST(test_the_same_page_may_be_seen_twice),
		TEST(test_bad_input_gets_its_status),
		TEST(test_flags_that_change_nothing_are_taken),
		TEST(test_bad_unmaps_get_their_status),
		TEST(test_a_call_stops_at_the_element_that_is_wrong),
		TEST(test_a_call_goes_on_at_its_start_index),
		TEST(test_large_pages_are_512_small_ones),
		TEST(test_a_long_call_returns_early_but_never_with_nothing),
		TEST(test_no_access_is_asked_for_before_the_vp_runs),
		TEST(test_only_what_vps_may_use_makes_them_wait),
		TEST(test_a_page_taken_away_and_given_back_keeps_its_slot),
		TEST(test_slots_are_runs_of_the_same_rights),
		TEST(test_slots_join_over_the_borders_of_the_table),
		TEST(test_the_apic_page_is_never_covered),
		TEST(test_read_only_memory_is_not_written),
		TEST(test_accesses_span_pages_that_are_not_neighbours),
		TEST(test_what_the_parent_cannot_fill_becomes_a_hole),
		TEST(test_a_page_filled_and_taken_away_again_is_asked_for_again),
		TEST(test_pages_taken_away_for_good_leave_their_slot),
		TEST(test_an_overlay_over_ram_leaves_the_parents_page_alone),
		TEST(test_an_overlay_stays_while_the_parent_changes_what_is_below),
		TEST(test_an_overlay_over_a_hole_has_a_slot_of_its_own),
		TEST(test_an_overlay_over_what_was_refused),
		TEST(test_the_newest_of_two_overlays_is_seen),
		TEST(test_an_overlay_outside_the_address_space_is_refused),
		TEST(test_an_overlay_that_gets_no_slot_leaves_nothing),
		TEST(test_a_page_of_a_child_cannot_be_deposited),
		TEST(test_maps_cost_pages_of_the_pool),
		TEST(test_only_an_active_child_is_changed),
		TEST(test_a_slot_the_host_refuses_stops_the_child),
		TEST(test_written_pages_are_told),
		TEST(test_bad_questions_for_written_pages_get_their_status),
		TEST(test_readers_and_changes_meet),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
