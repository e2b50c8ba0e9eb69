// SPDX-License-Identifier: MIT
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "core/child_call_test.h"

#define GPA_A 0x10000ull
#define GPA_B 0x20000ull
#define HOLE  TEST_HOLE_GPA

static struct core_test ct;
static struct overlay a, b, c;

static int setup(void **state)
{
	const struct core_test_config cfg = { 0 };

	core_test_create(&ct, &cfg);
	if (overlay_init(&a, "a") || overlay_init(&b, "b") || overlay_init(&c, "c"))
		return -1;
	memset(a.own, 'a', PAGE_BYTES);
	memset(b.own, 'b', PAGE_BYTES);
	memset(c.own, 'c', PAGE_BYTES);
	memset(ct.ram + GPA_A, 'x', PAGE_BYTES);
	memset(ct.ram + GPA_B, 'y', PAGE_BYTES);
	return 0;
}

static int teardown(void **state)
{
	overlay_set(ct.p, &c, 0, false);
	overlay_set(ct.p, &b, 0, false);
	overlay_set(ct.p, &a, 0, false);
	assert_int_equal(gmem_count(&ct.gmem), 1);
	assert_null(fake_slot_at(ct.vm, HOLE).hva);
	overlay_fini(&a);
	overlay_fini(&b);
	overlay_fini(&c);
	core_test_destroy(&ct);
	return 0;
}

/* Both ends of the page at @gpa, as a device or the dispatcher sees it. */
static void expect_at(u64 gpa, char want)
{
	u8 bytes[2] = { 0 };

	assert_int_equal(gmem_read(&ct.gmem, gpa, &bytes[0], 1), 0);
	assert_int_equal(gmem_read(&ct.gmem, gpa + PAGE_BYTES - 1, &bytes[1], 1), 0);
	assert_int_equal(bytes[0], want);
	assert_int_equal(bytes[1], want);
}

static void test_an_overlay_hides_the_page_below_and_gives_it_back(void **state)
{
	assert_int_equal(overlay_set(ct.p, &a, GPA_A, true), 0);
	expect_at(GPA_A, 'a');
	assert_ptr_equal(a.page, ct.ram + GPA_A);
	assert_int_equal(overlay_set(ct.p, &a, GPA_A, false), 0);
	expect_at(GPA_A, 'x');
	assert_ptr_equal(a.page, a.own);
}

static void test_the_guests_writes_stay_with_the_overlay(void **state)
{
	overlay_set(ct.p, &a, GPA_A, true);
	memset(ct.ram + GPA_A, 'w', PAGE_BYTES);
	overlay_set(ct.p, &a, GPA_B, true);
	expect_at(GPA_A, 'x');
	expect_at(GPA_B, 'w');
	overlay_set(ct.p, &a, GPA_B, false);
	expect_at(GPA_B, 'y');
	assert_int_equal(a.page[0], 'w');
}

static void test_enabling_twice_at_one_place_changes_nothing(void **state)
{
	overlay_set(ct.p, &a, GPA_A, true);
	memset(ct.ram + GPA_A, 'w', PAGE_BYTES);
	assert_int_equal(overlay_set(ct.p, &a, GPA_A, true), 0);
	expect_at(GPA_A, 'w');
	overlay_set(ct.p, &a, GPA_A, false);
	expect_at(GPA_A, 'x');
}

static void test_of_a_stack_the_newest_is_seen(void **state)
{
	overlay_set(ct.p, &a, GPA_A, true);
	overlay_set(ct.p, &b, GPA_A, true);
	overlay_set(ct.p, &c, GPA_A, true);
	expect_at(GPA_A, 'c');
	overlay_set(ct.p, &b, GPA_A, false); /* out of the middle */
	expect_at(GPA_A, 'c');
	overlay_set(ct.p, &c, GPA_B, true);
	expect_at(GPA_A, 'a');
	expect_at(GPA_B, 'c');
	overlay_set(ct.p, &a, GPA_A, false);
	expect_at(GPA_A, 'x');
	overlay_set(ct.p, &c, GPA_B, false);
	expect_at(GPA_B, 'y');
}

static void test_a_page_hidden_in_a_stack_keeps_its_contents(void **state)
{
	overlay_set(ct.p, &a, GPA_A, true);
	overlay_set(ct.p, &b, GPA_A, true);
	assert_ptr_equal(a.page, a.own);
	memset(a.page, 'n', PAGE_BYTES); /* the hypervisor writes while it is not seen */
	expect_at(GPA_A, 'b');
	overlay_set(ct.p, &b, GPA_A, false);
	expect_at(GPA_A, 'n');
}

static void test_over_a_hole_the_engine_maps_the_page_itself(void **state)
{
	assert_int_equal(overlay_set(ct.p, &a, HOLE, true), 0);
	assert_ptr_equal(fake_slot_at(ct.vm, HOLE).hva, a.own);
	expect_at(HOLE, 'a');
	assert_int_equal(gmem_at(&ct.gmem, 1).kind, GMEM_RESERVED);
	overlay_set(ct.p, &b, HOLE, true);
	expect_at(HOLE, 'b');
	assert_ptr_equal(fake_slot_at(ct.vm, HOLE).hva, b.own);
	overlay_set(ct.p, &b, GPA_A, true);
	expect_at(HOLE, 'a');
	expect_at(GPA_A, 'b');
	overlay_set(ct.p, &a, HOLE, false);
	assert_null(gmem_ptr(&ct.gmem, HOLE, 1));
	assert_null(fake_slot_at(ct.vm, HOLE).hva);
}

static void test_an_address_beyond_the_address_space_is_refused(void **state)
{
	u64 end = BIT64(TEST_PHYSICAL_BITS);

	assert_int_equal(overlay_set(ct.p, &a, GPA_A, true), 0);
	assert_int_equal(overlay_set(ct.p, &a, end, true), -ENXIO);
	assert_int_equal(overlay_set(ct.p, &a, ~0xFFFull, true), -ENXIO);
	expect_at(GPA_A, 'a');
	assert_true(a.enabled);
	assert_int_equal(a.gpa, GPA_A);
	assert_int_equal(overlay_set(ct.p, &a, end - PAGE_BYTES, true), 0);
	expect_at(end - PAGE_BYTES, 'a');
}

static void test_a_refusal_of_the_engine_leaves_all_as_it_was(void **state)
{
	overlay_set(ct.p, &a, GPA_A, true);
	fake_fail_maps(ct.vm, 1);
	assert_int_equal(overlay_set(ct.p, &a, HOLE, true), -ENOSPC);
	expect_at(GPA_A, 'a');
	assert_true(a.enabled);
	overlay_set(ct.p, &b, HOLE, true);
	fake_fail_maps(ct.vm, 1);
	assert_int_equal(overlay_set(ct.p, &a, HOLE, true), -ENOSPC);
	expect_at(HOLE, 'b');
	expect_at(GPA_A, 'a');
	assert_int_equal(a.gpa, GPA_A);
}

static void test_a_disabled_overlay_remembers_its_address_only(void **state)
{
	assert_int_equal(overlay_set(ct.p, &a, GPA_B, false), 0);
	expect_at(GPA_B, 'y');
	assert_int_equal(a.gpa, GPA_B);
	assert_false(a.enabled);
}

/* The registers that lay pages, all with the same rules. */

static const u32 page_registers[] = { HV_X64_MSR_HYPERCALL, HV_X64_MSR_REFERENCE_TSC,
				      HV_X64_MSR_VP_ASSIST_PAGE, HV_X64_MSR_SIMP,
				      HV_X64_MSR_SIEFP };

static void test_page_registers_enable_move_and_disable(void **state)
{
	core_test_write(ct.vp[0], HV_X64_MSR_GUEST_OS_ID, TEST_OS_ID);
	for (u32 i = 0; i < ARRAY_SIZE(page_registers); i++) {
		u32 msr = page_registers[i];

		core_test_write(ct.vp[0], msr, GPA_A | 1);
		assert_int_equal(core_test_read(ct.vp[0], msr), GPA_A | 1);
		assert_int_not_equal(ct.ram[GPA_A], 'x');
		core_test_write(ct.vp[0], msr, GPA_B | 1);
		expect_at(GPA_A, 'x');
		assert_int_not_equal(ct.ram[GPA_B], 'y');
		core_test_write(ct.vp[0], msr, HOLE | 1);
		expect_at(GPA_B, 'y');
		assert_non_null(gmem_ptr(&ct.gmem, HOLE, PAGE_BYTES));
		core_test_write(ct.vp[0], msr, HOLE);
		assert_int_equal(core_test_read(ct.vp[0], msr), HOLE);
		assert_null(gmem_ptr(&ct.gmem, HOLE, PAGE_BYTES));
	}
}

static void test_page_registers_fault_beyond_the_address_space(void **state)
{
	core_test_write(ct.vp[0], HV_X64_MSR_GUEST_OS_ID, TEST_OS_ID);
	for (u32 i = 0; i < ARRAY_SIZE(page_registers); i++) {
		u32 msr = page_registers[i];

		core_test_write(ct.vp[0], msr, GPA_A | 1);
		assert_int_equal(msr_write(ct.vp[0], msr, BIT64(TEST_PHYSICAL_BITS) | 1),
				 VP_FAULT_GP);
		assert_int_equal(msr_write(ct.vp[0], msr, ~0ull), VP_FAULT_GP);
		assert_int_equal(core_test_read(ct.vp[0], msr), GPA_A | 1);
		core_test_write(ct.vp[0], msr, 0);
	}
}

static void test_all_pages_at_one_address_come_apart_again(void **state)
{
	u32 n = ARRAY_SIZE(page_registers);

	core_test_write(ct.vp[0], HV_X64_MSR_GUEST_OS_ID, TEST_OS_ID);
	for (u32 i = 0; i < n; i++)
		core_test_write(ct.vp[0], page_registers[i], GPA_A | 1);
	for (u32 i = 0; i < n; i++)
		core_test_write(ct.vp[0], page_registers[i * 2 % n], 0);
	expect_at(GPA_A, 'x');
}

static void test_each_move_is_traced(void **state)
{
	char path[64], text[1024] = "";
	FILE *f;

	snprintf(path, sizeof(path), "/tmp/overlay_test.%d.txt", getpid());
	assert_int_equal(trace_start(path), 0);
	core_test_write(ct.vp[0], HV_X64_MSR_SIMP, GPA_A | 1);
	core_test_write(ct.vp[0], HV_X64_MSR_SIMP, 0);
	assert_int_equal(trace_stop(), 0);
	f = fopen(path, "re");
	assert_non_null(f);
	assert_true(fread(text, 1, sizeof(text) - 1, f) > 0);
	fclose(f);
	unlink(path);
	assert_non_null(strstr(text, "overlay.map page=SIMP gpa=0x10000 enabled=1"));
	assert_non_null(strstr(text, "overlay.map page=SIMP gpa=0x0 enabled=0"));
}

/*
 * One VP lays its page over that of another and takes it away again, while the other's gets
 * event flags: they are all there in the end, wherever the page was just then.
 */

#define FLAGS (HV_SYNIC_SINT_COUNT * HV_EVENT_FLAGS_COUNT)

struct layer {
	pthread_t thread;
	struct vp *vp;
	bool end;   /* atomic */
	u32 rounds; /* atomic */
};

static void *lay_and_lift(void *arg)
{
	struct layer *l = arg;

	while (!__atomic_load_n(&l->end, __ATOMIC_ACQUIRE)) {
		core_test_write(l->vp, HV_X64_MSR_SIEFP, GPA_A | 1);
		core_test_write(l->vp, HV_X64_MSR_SIEFP, GPA_A);
		__atomic_fetch_add(&l->rounds, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void two_vps_at_one_address(struct vp *over, struct vp *below)
{
	struct layer l = { .vp = over };
	u8 flags[PAGE_BYTES];
	u32 missing = 0;

	core_test_write(below, HV_X64_MSR_SCONTROL, 1);
	core_test_write(below, HV_X64_MSR_SIEFP, GPA_A | 1);
	assert_int_equal(pthread_create(&l.thread, NULL, lay_and_lift, &l), 0);
	while (__atomic_load_n(&l.rounds, __ATOMIC_RELAXED) < 2000) {
		memset(flags, 0, PAGE_BYTES);
		synic_page_set(&below->synic, SYNIC_SIEF, flags);
		/* Masked: set, and nobody is told. */
		for (u32 i = 0; i < FLAGS; i++)
			synic_signal(&below->synic, i / HV_EVENT_FLAGS_COUNT,
				     i % HV_EVENT_FLAGS_COUNT);
		synic_page_get(&below->synic, SYNIC_SIEF, flags);
		for (u32 i = 0; i < FLAGS; i++)
			missing += !(flags[i / 8] & BIT(i % 8));
	}
	__atomic_store_n(&l.end, true, __ATOMIC_RELEASE);
	pthread_join(l.thread, NULL);
	assert_int_equal(missing, 0);
}

static void test_a_page_is_laid_over_anothers_while_that_is_written(void **state)
{
	const struct core_test_config cfg = { .vps = 2 };
	struct core_test two;

	core_test_create(&two, &cfg);
	two_vps_at_one_address(two.vp[0], two.vp[1]);
	core_test_write(two.vp[1], HV_X64_MSR_SIEFP, 0);
	core_test_destroy(&two);
}

static void test_so_it_is_in_a_child(void **state)
{
	cc.p->config.privileges |= HV_PRIV_ACCESS_SYNIC_REGS;
	two_vps_at_one_address(cc.vp[0], cc.vp[1]);
	core_test_write(cc.vp[1], HV_X64_MSR_SIEFP, 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_an_overlay_hides_the_page_below_and_gives_it_back),
		TEST(test_the_guests_writes_stay_with_the_overlay),
		TEST(test_enabling_twice_at_one_place_changes_nothing),
		TEST(test_of_a_stack_the_newest_is_seen),
		TEST(test_a_page_hidden_in_a_stack_keeps_its_contents),
		TEST(test_over_a_hole_the_engine_maps_the_page_itself),
		TEST(test_an_address_beyond_the_address_space_is_refused),
		TEST(test_a_refusal_of_the_engine_leaves_all_as_it_was),
		TEST(test_a_disabled_overlay_remembers_its_address_only),
		TEST(test_page_registers_enable_move_and_disable),
		TEST(test_page_registers_fault_beyond_the_address_space),
		TEST(test_each_move_is_traced),
		TEST(test_all_pages_at_one_address_come_apart_again),
		cmocka_unit_test(test_a_page_is_laid_over_anothers_while_that_is_written),
		CC_TEST(test_so_it_is_in_a_child),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
