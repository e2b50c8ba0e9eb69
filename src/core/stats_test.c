// SPDX-License-Identifier: MIT
/* Statistics pages of a parent and of its child: whose page it is, what is in it, how it ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/child_call_test.h"

#define OWN_GPN 0x40ull

static struct hv_input_map_stats_page what(u32 type, u64 id, u32 vp)
{
	return (struct hv_input_map_stats_page){ .type = type,
						 .identity = { .id = id, .vp_index = vp } };
}

static enum hv_status map(u32 type, u64 id, u32 vp)
{
	struct hv_input_map_stats_page in = what(type, id, vp);

	return CC_CALL(HVCALL_MAP_STATS_PAGE, in);
}

static enum hv_status unmap(u32 type, u64 id, u32 vp)
{
	struct hv_input_map_stats_page in = what(type, id, vp);

	return CC_CALL(HVCALL_UNMAP_STATS_PAGE, in);
}

static enum hv_status map_at(u32 type, u64 id, u64 gpn)
{
	struct hv_input_map_stats_page2 in = { what(type, id, 0), gpn };

	return CC_CALL(HVCALL_MAP_STATS_PAGE2, in);
}

/* The page that was just mapped. */
static const u64 *page(void)
{
	return (const u64 *)(const void *)(cc.ct.ram + *(u64 *)cc_out() * PAGE_BYTES);
}

static u32 in_use(struct partition *p)
{
	return deposit_get(&p->deposit).in_use;
}

static void test_a_childs_pages_are_the_parents(void **state)
{
	u32 before = in_use(cc.ct.p), child = in_use(cc.p);

	cc.vp[1]->exits[ENGINE_EXIT_IO] = 3;
	cc.vp[1]->exits[ENGINE_EXIT_MMIO] = 4;
	cc.vp[1]->exits[ENGINE_EXIT_HYPERCALL] = 5;
	assert_int_equal(map(HV_STATS_PARTITION, cc.p->id, 0), HV_STATUS_SUCCESS);
	assert_int_equal(page()[PtVirtualProcessors], CC_VPS);
	assert_int_equal(page()[PtDepositedPages], CC_POOL_PAGES);
	assert_int_equal(page()[PtPartitionId], cc.p->id);
	assert_int_equal(map(HV_STATS_VP, cc.p->id, 1), HV_STATUS_SUCCESS);
	assert_int_equal(page()[VpHypercallsCount], 5);
	assert_int_equal(page()[VpIoInterceptMessages], 3);
	assert_int_equal(page()[VpMemoryInterceptMessages], 4);
	assert_int_equal(in_use(cc.ct.p), before + 2);
	assert_int_equal(in_use(cc.p), child);
	assert_int_equal(map(HV_STATS_VP, cc.p->id, 1), HV_STATUS_SUCCESS); /* the same */
	assert_int_equal(in_use(cc.ct.p), before + 2);
	assert_int_equal(unmap(HV_STATS_VP, cc.p->id, 1), HV_STATUS_SUCCESS);
	assert_int_equal(unmap(HV_STATS_VP, cc.p->id, 1), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(in_use(cc.ct.p), before + 1);
}

static void test_counters_go_on_while_a_page_is_mapped(void **state)
{
	const u64 *p;

	map(HV_STATS_VP, cc.p->id, 0);
	p = page();
	cc.vp[0]->exits[ENGINE_EXIT_IO] = 7;
	assert_int_equal(p[VpIoInstructionsCount], 0);
	core_test_advance(&cc.ct, 11000000);
	assert_int_equal(p[VpIoInstructionsCount], 7);
	cc.vp[0]->exits[ENGINE_EXIT_IO] = 8;
	core_test_advance(&cc.ct, 11000000);
	assert_int_equal(p[VpIoInstructionsCount], 8);
	unmap(HV_STATS_VP, cc.p->id, 0);
	cc.vp[0]->exits[ENGINE_EXIT_IO] = 9;
	core_test_advance(&cc.ct, 11000000);
	assert_int_equal(p[VpIoInstructionsCount], 8);
}

static void test_the_parents_own(void **state)
{
	assert_int_equal(map(HV_STATS_HYPERVISOR, 0, 0), HV_STATUS_SUCCESS);
	assert_int_equal(page()[HvLogicalProcessors], 2);
	assert_int_equal(page()[HvPartitions], 2);
	assert_int_equal(map(HV_STATS_LOGICAL_PROCESSOR, 1, 0), HV_STATUS_SUCCESS);
	assert_int_equal(map(HV_STATS_LOGICAL_PROCESSOR, 2, 0), HV_STATUS_INVALID_LP_INDEX);
	assert_int_equal(map(HV_STATS_PARTITION, HV_PARTITION_ID_SELF, 0), HV_STATUS_SUCCESS);
	assert_int_equal(page()[PtPartitionId], cc.ct.p->id);
	assert_int_equal(map(HV_STATS_VP, cc.ct.p->id, 1), HV_STATUS_SUCCESS);
}

static void test_what_is_nobodys(void **state)
{
	struct hv_input_map_stats_page in = what(HV_STATS_PARTITION, cc.p->id, 0);

	assert_int_equal(map(HV_STATS_PARTITION, 99, 0), HV_STATUS_INVALID_PARTITION_ID);
	assert_int_equal(map(HV_STATS_VP, 99, 0), HV_STATUS_INVALID_PARTITION_ID);
	assert_int_equal(map(HV_STATS_VP, cc.p->id, CC_VPS), HV_STATUS_INVALID_VP_INDEX);
	assert_int_equal(map(HV_STATS_VP, cc.p->id, ~0u), HV_STATUS_INVALID_VP_INDEX);
	assert_int_equal(map(7, cc.p->id, 0), HV_STATUS_INVALID_PARAMETER);
	in.identity.area = HV_STATS_AREA_PARENT;
	assert_int_equal(CC_CALL(HVCALL_MAP_STATS_PAGE, in), HV_STATUS_INVALID_PARAMETER);
}

static void test_a_page_the_parent_brings(void **state)
{
	u64 *own = (u64 *)(void *)(cc.ct.ram + OWN_GPN * PAGE_BYTES);
	u32 before = in_use(cc.ct.p);

	own[100] = 1;
	assert_int_equal(map_at(HV_STATS_PARTITION, cc.p->id, OWN_GPN), HV_STATUS_SUCCESS);
	assert_int_equal(own[PtPartitionId], cc.p->id);
	assert_int_equal(own[100], 0);
	assert_int_equal(map_at(HV_STATS_PARTITION, cc.p->id, OWN_GPN + 1),
			 HV_STATUS_OBJECT_IN_USE);
	assert_int_equal(map_at(HV_STATS_PARTITION, cc.ct.p->id, ~0ull),
			 HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(map_at(HV_STATS_PARTITION, cc.ct.p->id, cc.ct.ram_bytes / PAGE_BYTES),
			 HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(map_at(HV_STATS_PARTITION, cc.ct.p->id, CC_POOL_GPN),
			 HV_STATUS_INVALID_PARAMETER); /* it gave that away */
	assert_int_equal(unmap(HV_STATS_PARTITION, cc.p->id, 0), HV_STATUS_SUCCESS);
	assert_int_equal(in_use(cc.ct.p), before);
	assert_int_equal(gmem_donated(&cc.ct.gmem, OWN_GPN * PAGE_BYTES), 0);
}

static void test_a_child_that_ends_leaves_no_page(void **state)
{
	u32 before = in_use(cc.ct.p);

	map(HV_STATS_PARTITION, cc.p->id, 0);
	map(HV_STATS_VP, cc.p->id, 0);
	map(HV_STATS_VP, cc.ct.p->id, 0);
	assert_int_equal(cc_on_child(HVCALL_FINALIZE_PARTITION), HV_STATUS_SUCCESS);
	assert_int_equal(in_use(cc.ct.p), before + 1);
	assert_int_equal(map(HV_STATS_VP, cc.p->id, 0), HV_STATUS_INVALID_PARTITION_STATE);
	cc_on_child(HVCALL_DELETE_PARTITION);
	core_test_advance(&cc.ct, 11000000);
	assert_int_equal(unmap(HV_STATS_VP, cc.ct.p->id, 0), HV_STATUS_SUCCESS);
}

static void test_a_kernel_that_ends_is_written_to_no_more(void **state)
{
	map(HV_STATS_HYPERVISOR, 0, 0);
	core_test_write(cc.ct.vp[0], HV_X64_MSR_GUEST_OS_ID, 0);
	assert_int_equal(cc.ct.p->root.stats_count, 0);
	assert_int_equal(unmap(HV_STATS_HYPERVISOR, 0, 0), HV_STATUS_INVALID_PARAMETER);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CC_TEST(test_a_childs_pages_are_the_parents),
		CC_TEST(test_counters_go_on_while_a_page_is_mapped),
		CC_TEST(test_the_parents_own),
		CC_TEST(test_what_is_nobodys),
		CC_TEST(test_a_page_the_parent_brings),
		CC_TEST(test_a_child_that_ends_leaves_no_page),
		CC_TEST(test_a_kernel_that_ends_is_written_to_no_more),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
