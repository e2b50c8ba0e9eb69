// SPDX-License-Identifier: MIT
/* What a hostile parent or child tried, each once with success. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/fd.h"
#include "core/child_call_test.h"
#include "core/child_cpuid.h"
#include "core/gpa_map_internal.h"
#include "hvdef/child.h"
#include "hvdef/gpa.h"
#include "hvdef/intercept.h"
#include "hvdef/port.h"
#include "hvdef/vp_cpuid.h"

#define HOLE  0x40000000ull /* of the child's, as all it has but for what a test maps */
#define PLACE (GPA_LEAF_PAGES * (u64)PAGE_BYTES)

static enum hv_status deposit_one(u64 id, u64 gpn)
{
	const u64 in[2] = { id, gpn };

	return cc_call(HVCALL_DEPOSIT_MEMORY | 1ull << 32, in, sizeof(in));
}

static enum hv_status map_one(u64 gpn, u64 source)
{
	const u64 in[4] = { cc.p->id, gpn, HV_MAP_GPA_READABLE | HV_MAP_GPA_WRITABLE, source };

	return cc_call(HVCALL_MAP_GPA_PAGES | 1ull << 32, in, sizeof(in));
}

/* A page in two pools would come back twice, and be written to between. */
static void test_a_lent_page_belongs_to_one_pool(void **state)
{
	struct hv_input_map_vp_state_page in = { .page = { .partition_id = cc.p->id,
							   .type = HV_STATE_PAGE_REGISTERS } };
	struct hv_input_map_stats_page2 stats = { { .type = HV_STATS_HYPERVISOR }, 0 };
	u64 gpn;

	assert_int_equal(CC_CALL(HVCALL_MAP_VP_STATE_PAGE, in), HV_STATUS_SUCCESS);
	gpn = stats.map_location = *(u64 *)cc_out();
	assert_non_null(gmem_ptr(&cc.ct.gmem, gpn << PAGE_SHIFT, PAGE_BYTES));
	assert_int_equal(deposit_one(HV_PARTITION_ID_SELF, gpn), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(deposit_one(cc.p->id, gpn), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(map_one(0, gpn), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(CC_CALL(HVCALL_MAP_STATS_PAGE2, stats), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(CC_CALL(HVCALL_UNMAP_VP_STATE_PAGE, in.page), HV_STATUS_SUCCESS);
	assert_null(gmem_ptr(&cc.ct.gmem, gpn << PAGE_SHIFT, PAGE_BYTES));
}

/* A child whose VPs have numbers with gaps asks for all of them. */
static void test_apic_ids_where_vps_are_missing(void **state)
{
	const struct hypercall_regs regs = { HVCALL_GET_VP_INDEX_FROM_APIC_ID | 1ull << 32 |
						     HV_HYPERCALL_FAST,
					     HV_PARTITION_ID_SELF, 0, true };
	struct fake_vcpu *v = fake_vcpu(cc.vp[0]->vcpu);
	u64 result;
	u32 id = 5;

	cc.p->config.features_edx = TEST_ALL_FEATURES;
	cc_create_vp(5);
	for (; id <= 6; id++) {
		memcpy(v->xmm[0], &id, sizeof(id));
		assert_int_equal(hypercall_execute(cc.vp[0], &regs, &result), VP_OK);
		assert_int_equal(HV_HYPERCALL_RESULT(id == 5 ? HV_STATUS_SUCCESS
							     : HV_STATUS_INVALID_PARAMETER,
						     id == 5),
				 result);
	}
}

/* A page that is laid over one hole after the other leaves none of them behind. */
static void test_overlays_that_move_cost_nothing(void **state)
{
	struct gpa_map *map = cc.p->child->map;

	cc.p->config.privileges = TEST_ALL_PRIVILEGES;
	for (u64 gpa = HOLE; gpa < HOLE + 8 * PLACE; gpa += PLACE)
		core_test_write(cc.vp[0], HV_X64_MSR_SIMP, gpa | HV_MSR_PAGE_ENABLE);
	for (u64 gpa = HOLE; gpa < HOLE + 7 * PLACE; gpa += PLACE)
		assert_null(gpa_table_leaf(&map->table, gpa >> PAGE_SHIFT));
	assert_non_null(gpa_table_leaf(&map->table, (HOLE + 7 * PLACE) >> PAGE_SHIFT));
	core_test_write(cc.vp[0], HV_X64_MSR_SIMP, 0);
	/* Nor one that could not be laid there. */
	fake_fail_maps(cc.p->vm, 1);
	assert_int_equal(msr_write(cc.vp[0], HV_X64_MSR_SIMP, HOLE | HV_MSR_PAGE_ENABLE),
			 VP_FAULT_GP);
	assert_null(gpa_table_leaf(&map->table, HOLE >> PAGE_SHIFT));
}

/* Two at one place; when the upper one goes, the host has just failed the child. */
static void test_an_overlay_that_cannot_be_seen_again(void **state)
{
	struct gpa_map *map = cc.p->child->map;
	struct gpa_ask ask = { 0 };

	cc.p->config.privileges = TEST_ALL_PRIVILEGES;
	core_test_write(cc.vp[0], HV_X64_MSR_SIEFP, HOLE | HV_MSR_PAGE_ENABLE);
	core_test_write(cc.vp[0], HV_X64_MSR_SIMP, HOLE | HV_MSR_PAGE_ENABLE);
	assert_int_equal(map_one(0, 0x100), HV_STATUS_SUCCESS);
	fake_fail_maps(cc.p->vm, 1);
	assert_false(gpa_map_prepare(map, &ask));
	core_test_write(cc.vp[0], HV_X64_MSR_SIMP, 0);
	assert_ptr_equal(cc.vp[0]->synic.siefp_page.page, cc.vp[0]->synic.siefp_page.own);
	core_test_write(cc.vp[0], HV_X64_MSR_SIEFP, 0);
	for (u32 i = 0; i < GPA_OVERLAYS_MAX; i++)
		assert_false(map->overlays.used[i]);
}

/* The same of a parent, where its memory begins: a page with an overlay cannot be given away. */
static void test_an_overlay_over_a_page_to_give_away(void **state)
{
	struct vp *vp = cc.ct.vp[0];

	core_test_write(vp, HV_X64_MSR_SIEFP, HV_MSR_PAGE_ENABLE);
	core_test_write(vp, HV_X64_MSR_SIMP, HV_MSR_PAGE_ENABLE);
	assert_int_equal(deposit_one(HV_PARTITION_ID_SELF, 0), HV_STATUS_INVALID_PARAMETER);
	core_test_write(vp, HV_X64_MSR_SIMP, 0);
	assert_int_equal(deposit_one(HV_PARTITION_ID_SELF, 0), HV_STATUS_INVALID_PARAMETER);
	core_test_write(vp, HV_X64_MSR_SIEFP, 0);
	assert_int_equal(deposit_one(HV_PARTITION_ID_SELF, 0), HV_STATUS_SUCCESS);
	assert_int_equal(gmem_count(&cc.ct.gmem), 1);
	assert_non_null(fake_slot_at(cc.ct.vm, 0).hva);
}

static enum hv_status cpuid_result(u32 leaf)
{
	struct hv_input_register_cpuid_result in = { .partition_id = cc.p->id,
						     .vp_index = HV_ANY_VP,
						     .intercept_type = HV_INTERCEPT_TYPE_CPUID,
						     .eax = leaf };

	return CC_CALL(HVCALL_REGISTER_INTERCEPT_RESULT, in);
}

static void test_cpuid_results_are_paid_for(void **state)
{
	u32 leaf = 0x10000, in_use = deposit_get(&cc.p->deposit).in_use;
	u64 gpn;

	for (u32 i = 0; i < 65; i++)
		assert_int_equal(cpuid_result(leaf++), HV_STATUS_SUCCESS);
	assert_int_equal(deposit_get(&cc.p->deposit).in_use, in_use + 2 * DEPOSIT_CPUID);
	while (deposit_withdraw(&cc.p->deposit, &gpn) == HV_STATUS_SUCCESS)
		;
	for (u32 i = 65; i < 128; i++)
		assert_int_equal(cpuid_result(leaf++), HV_STATUS_SUCCESS);
	assert_int_equal(cpuid_result(leaf), HV_STATUS_INSUFFICIENT_MEMORY);
	assert_int_equal(cpuid_result(leaf - 1), HV_STATUS_SUCCESS); /* said again */
}

/* Bits in an entry of a table: only where the child could write them, and told as written. */
static void test_bits_of_page_tables(void **state)
{
	const u64 ro[4] = { cc.p->id, 1, HV_MAP_GPA_READABLE, 0x101 };
	const u64 states[3] = { cc.p->id, 0, 0 };
	u32 *words = (u32 *)(void *)(cc.ct.ram + 0x100 * PAGE_BYTES);

	assert_int_equal(map_one(0, 0x100), HV_STATUS_SUCCESS);
	assert_int_equal(cc_call(HVCALL_MAP_GPA_PAGES | 1ull << 32, ro, sizeof(ro)),
			 HV_STATUS_SUCCESS);
	gpa_map_track(cc.p->child->map, true);
	words[2] = 1;
	assert_int_equal(gmem_or(cc.p->gmem, 8, 0x60), 0);
	assert_int_equal(words[2], 0x61);
	assert_true(gmem_or(cc.p->gmem, 9, 1) < 0);
	assert_true(gmem_or(cc.p->gmem, PAGE_BYTES, 1) < 0);
	assert_true(gmem_or(cc.p->gmem, 2 * PAGE_BYTES, 1) < 0);
	assert_int_equal(words[PAGE_BYTES / 4], 0);
	assert_int_equal(
		cc_call(HVCALL_GET_GPA_PAGES_ACCESS_STATE | 1ull << 32, states, sizeof(states)),
		HV_STATUS_SUCCESS);
	assert_int_equal(*(u8 *)cc_out(), HV_GPA_ACCESSED | HV_GPA_DIRTY);
}

static enum hv_status doorbell(u32 id)
{
	struct hv_input_create_port port = { .port_partition_id = cc.ct.p->id,
					     .port_id = id,
					     .connection_partition_id = cc.p->id,
					     .info = { .port_type = HV_PORT_TYPE_DOORBELL,
						       .target_sint = 5,
						       .target_vp = HV_ANY_VP } };
	struct hv_input_connect_port connect = { .connection_partition_id = cc.p->id,
						 .connection_id = id,
						 .port_partition_id = cc.ct.p->id,
						 .port_id = id,
						 .info = { .port_type = HV_PORT_TYPE_DOORBELL,
							   .gpa = HOLE + id * 8,
							   .flags = HV_DOORBELL_ANY_VALUE } };

	assert_int_equal(CC_CALL(HVCALL_CREATE_PORT, port), HV_STATUS_SUCCESS);
	return CC_CALL(HVCALL_CONNECT_PORT, connect);
}

/* The last descriptors are the host's. */
static void test_doorbells_leave_descriptors(void **state)
{
	struct rlimit files, few;
	enum hv_status status;
	int lowest;

	assert_int_equal(doorbell(1), HV_STATUS_SUCCESS);
	lowest = dup(STDIN_FILENO);
	close(lowest);
	getrlimit(RLIMIT_NOFILE, &files);
	few = files;
	few.rlim_cur = (rlim_t)lowest + 4 + FD_RESERVE;
	setrlimit(RLIMIT_NOFILE, &few);
	for (u32 id = 2; (status = doorbell(id)) == HV_STATUS_SUCCESS; id++)
		assert_true(id < 8);
	setrlimit(RLIMIT_NOFILE, &files);
	assert_int_equal(status, HV_STATUS_NO_RESOURCES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CC_TEST(test_a_lent_page_belongs_to_one_pool),
		CC_TEST(test_apic_ids_where_vps_are_missing),
		CC_TEST(test_overlays_that_move_cost_nothing),
		CC_TEST(test_an_overlay_that_cannot_be_seen_again),
		CC_TEST(test_an_overlay_over_a_page_to_give_away),
		CC_TEST(test_cpuid_results_are_paid_for),
		CC_TEST(test_doorbells_leave_descriptors),
		CC_TEST(test_bits_of_page_tables),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
