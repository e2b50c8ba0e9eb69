// SPDX-License-Identifier: MIT
/* What a hypervisor shows of its children while they live, and that nothing is left of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <time.h>

#include "core/census.h"
#include "core/child_call_test.h"
#include "hvdef/gpa.h"
#include "hvdef/port.h"
#include "hvdef/vp_regs.h"

#define MAPPED 3u

static struct census now;

static bool look(void)
{
	return census_child(cc.ct.p, 0, &now);
}

static void map_pages(void)
{
	const struct hv_input_map_gpa_pages header = {
		.partition_id = cc.p->id, .flags = HV_MAP_GPA_READABLE | HV_MAP_GPA_WRITABLE
	};
	const u64 source[MAPPED] = { 0x300, 0x301, 0x302 };
	u8 in[sizeof(header) + sizeof(source)];

	memcpy(in, &header, sizeof(header));
	memcpy(in + sizeof(header), source, sizeof(source));
	assert_int_equal(cc_call(HVCALL_MAP_GPA_PAGES | (u64)MAPPED << 32, in, sizeof(in)), 0);
}

static void create_port(void)
{
	const struct hv_input_create_port in = {
		.port_partition_id = cc.ct.p->id,
		.port_id = 7,
		.connection_partition_id = cc.p->id,
		.info = { .port_type = HV_PORT_TYPE_DOORBELL, .target_sint = 5 },
	};

	assert_int_equal(CC_CALL(HVCALL_CREATE_PORT, in), 0);
}

static void resume(u32 vp)
{
	const struct {
		struct hv_input_vp_registers header;
		struct hv_register_assoc list[2];
	} in = { { .partition_id = cc.p->id, .vp_index = vp },
		 { { .name = HvRegisterInterceptSuspend },
		   { .name = HvRegisterExplicitSuspend } } };

	assert_int_equal(cc_call(HVCALL_SET_VP_REGISTERS | 2ull << 32, &in, sizeof(in)), 0);
}

static bool becomes(u32 vp, const char *state)
{
	const struct timespec ms = { 0, 1000000 };

	for (u32 i = 0; i < 5000; i++) {
		if (!look())
			return false;
		if (!strcmp(now.vp[vp].state, state))
			return true;
		nanosleep(&ms, NULL);
	}
	return false;
}

static u32 withdraw(u64 id)
{
	const struct hv_input_withdraw in = { id };
	u32 pages = 0;

	while (CC_CALL(HVCALL_WITHDRAW_MEMORY | 1ull << 32, in) == 0)
		pages++;
	return pages;
}

static void test_a_child_is_shown_as_it_is(void **state)
{
	assert_true(look());
	assert_string_equal(now.hypervisor, "hv");
	assert_int_equal(now.id, cc.p->id);
	assert_int_equal(now.parent, cc.ct.p->id);
	assert_string_equal(now.state, "active");
	assert_int_equal(now.vp_count, CC_VPS);
	assert_int_equal(now.pool.pages, CC_POOL_PAGES);
	assert_int_equal(now.pool.in_use, DEPOSIT_INITIALIZE + CC_VPS * DEPOSIT_VP);
	assert_int_equal(now.mapped, 0);
	assert_int_equal(now.ports, 0);
	for (u32 i = 0; i < CC_VPS; i++) {
		assert_int_equal(now.vp[i].index, i);
		assert_string_equal(now.vp[i].state, "suspended");
	}
	map_pages();
	create_port();
	assert_true(look());
	assert_int_equal(now.mapped, MAPPED);
	assert_int_equal(now.pool.in_use, DEPOSIT_INITIALIZE + CC_VPS * DEPOSIT_VP + DEPOSIT_MAP);
	assert_int_equal(now.ports, 1);
	assert_int_equal(now.connected, 0);
	assert_false(census_child(cc.ct.p, now.id, &now));
}

static void test_intercepts_are_counted_by_kind(void **state)
{
	const struct fake_step shutdown = { .exit = { .kind = ENGINE_EXIT_SHUTDOWN } };
	struct child_totals t;
	u64 calls = census_parent_calls(cc.ct.p);

	resume(0);
	assert_true(becomes(0, "running"));
	fake_push(cc.vp[1]->vcpu, &shutdown);
	resume(1);
	assert_true(becomes(1, "intercepted"));
	assert_int_equal(now.vp[1].exits, 1);
	assert_int_equal(now.vp[1].intercepts, 1);
	assert_int_equal(now.vp[0].intercepts, 0);
	assert_int_equal(now.exits, 1);
	assert_int_equal(now.intercept_total, 1);
	assert_int_equal(now.intercepts[INTERCEPT_UNRECOVERABLE], 1);
	t = census_totals(&cc.ct.hv);
	assert_int_equal(t.intercepts[INTERCEPT_UNRECOVERABLE], 1);
	assert_int_equal(census_parent_calls(cc.ct.p), calls + 2);
	for (u32 i = 0; i < INTERCEPT_KINDS; i++)
		assert_non_null(census_intercept_name((enum intercept_kind)i));
}

static void test_nothing_is_left(void **state)
{
	struct child_totals t = census_totals(&cc.ct.hv);
	struct deposit_info pool = deposit_get(&cc.ct.p->deposit);

	assert_int_equal(t.created, 1);
	assert_int_equal(t.destroyed, 0);
	assert_int_equal(t.vps_created, CC_VPS);
	assert_int_equal(pool.in_use, DEPOSIT_CHILD);
	map_pages();
	assert_int_equal(cc_on_child(HVCALL_FINALIZE_PARTITION), 0);
	assert_true(look());
	assert_string_equal(now.state, "finalized");
	assert_string_equal(now.vp[0].state, "ended");
	assert_int_equal(now.pool.in_use, 0);
	assert_int_equal(now.mapped, 0);
	assert_int_equal(withdraw(now.id), CC_POOL_PAGES);
	assert_true(look());
	assert_int_equal(now.pool.pages, 0);
	assert_int_equal(cc_on_child(HVCALL_DELETE_PARTITION), 0);
	assert_false(look());
	t = census_totals(&cc.ct.hv);
	assert_int_equal(t.destroyed, 1);
	assert_int_equal(t.left, 0);
	assert_int_equal(t.vps_destroyed, CC_VPS);
	assert_int_equal(deposit_get(&cc.ct.p->deposit).in_use, 0);
	assert_int_equal(withdraw(HV_PARTITION_ID_SELF), CC_POOL_PAGES);
}

static void test_what_a_parent_leaves_is_said(void **state)
{
	struct child_totals t;

	children_destroy(cc.ct.p);
	t = census_totals(&cc.ct.hv);
	assert_int_equal(t.destroyed, 1);
	assert_int_equal(t.left, 1);
	assert_int_equal(t.vps_destroyed, CC_VPS);
}

static void test_the_parent_itself(void **state)
{
	census_of(cc.ct.p, &now);
	assert_int_equal(now.id, cc.ct.p->id);
	assert_int_equal(now.parent, 0);
	assert_int_equal(now.vp_count, 2);
	assert_int_equal(now.pool.pages, CC_POOL_PAGES);
	assert_string_equal(now.state, "active");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CC_TEST(test_a_child_is_shown_as_it_is),
		CC_TEST(test_intercepts_are_counted_by_kind),
		CC_TEST(test_nothing_is_left),
		CC_TEST(test_what_a_parent_leaves_is_said),
		CC_TEST(test_the_parent_itself),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
