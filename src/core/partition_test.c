// SPDX-License-Identifier: MIT
/* Registers of a partition as a whole, its stop reasons, and its reset. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>

#include "core/core_test.h"

#define PAGE_GPA 0x10000ull

/* The code with doorbells is tested in doorbell_test.c. */
static const u8 page_code[] = { 0xF3, 0x0F, 0x1E, 0xFA, 0xE5, HYPERCALL_PORT, 0xC3 };

static struct core_test ct;
static struct vp *vp;

static int setup(void **state)
{
	const struct core_test_config cfg = { .vps = 2 };

	core_test_create(&ct, &cfg);
	vp = ct.vp[0];
	return 0;
}

static int teardown(void **state)
{
	core_test_destroy(&ct);
	return 0;
}

static void page_on(void)
{
	core_test_write(vp, HV_X64_MSR_GUEST_OS_ID, TEST_OS_ID);
	core_test_write(vp, HV_X64_MSR_HYPERCALL, PAGE_GPA | HV_MSR_PAGE_ENABLE);
}

static void test_without_an_identity_the_page_cannot_be_enabled(void **state)
{
	core_test_write(vp, HV_X64_MSR_HYPERCALL, PAGE_GPA | HV_MSR_PAGE_ENABLE);
	assert_int_equal(core_test_read(vp, HV_X64_MSR_HYPERCALL), PAGE_GPA);
	assert_int_equal(ct.ram[PAGE_GPA], 0);
	assert_false(ct.p->hypercall_enabled);
}

static void test_the_page_holds_the_code_when_enabled(void **state)
{
	page_on();
	assert_memory_equal(ct.ram + PAGE_GPA, page_code, sizeof(page_code));
	for (u32 i = sizeof(page_code); i < PAGE_BYTES; i++)
		assert_int_equal(ct.ram[PAGE_GPA + i], 0);
	assert_int_equal(core_test_read(ct.vp[1], HV_X64_MSR_HYPERCALL), PAGE_GPA | 1);
	assert_true(ct.p->hypercall_enabled);
}

static void test_a_page_the_guest_wrote_to_is_whole_when_enabled_again(void **state)
{
	page_on();
	memset(ct.ram + PAGE_GPA, 0xCC, PAGE_BYTES);
	core_test_write(vp, HV_X64_MSR_HYPERCALL, PAGE_GPA);
	core_test_write(vp, HV_X64_MSR_HYPERCALL, PAGE_GPA | HV_MSR_PAGE_ENABLE);
	assert_memory_equal(ct.ram + PAGE_GPA, page_code, sizeof(page_code));
	memset(ct.ram + PAGE_GPA, 0xCC, PAGE_BYTES);
	partition_reset(ct.p);
	page_on();
	assert_memory_equal(ct.ram + PAGE_GPA, page_code, sizeof(page_code));
}

static void test_clearing_the_identity_disables_the_page(void **state)
{
	page_on();
	core_test_write(vp, HV_X64_MSR_GUEST_OS_ID, 0);
	assert_int_equal(core_test_read(vp, HV_X64_MSR_HYPERCALL), PAGE_GPA);
	assert_int_equal(ct.ram[PAGE_GPA], 0);
	assert_false(ct.p->hypercall_enabled);
	/* A new identity alone does not bring it back. */
	core_test_write(vp, HV_X64_MSR_GUEST_OS_ID, TEST_OS_ID);
	assert_false(ct.p->hypercall_enabled);
}

static void test_a_locked_register_ignores_writes_until_reset(void **state)
{
	u64 locked = PAGE_GPA | HV_MSR_PAGE_ENABLE | HV_HYPERCALL_LOCKED;

	page_on();
	core_test_write(vp, HV_X64_MSR_HYPERCALL, locked);
	core_test_write(vp, HV_X64_MSR_HYPERCALL, 0);
	core_test_write(vp, HV_X64_MSR_HYPERCALL, 0x20000 | HV_MSR_PAGE_ENABLE);
	assert_int_equal(core_test_read(vp, HV_X64_MSR_HYPERCALL), locked);
	assert_memory_equal(ct.ram + PAGE_GPA, page_code, sizeof(page_code));
	partition_reset(ct.p);
	assert_int_equal(core_test_read(vp, HV_X64_MSR_HYPERCALL), 0);
}

static void test_reserved_bits_of_the_hypercall_register_read_as_zero(void **state)
{
	page_on();
	core_test_write(vp, HV_X64_MSR_HYPERCALL, PAGE_GPA | 0xFFD);
	assert_int_equal(core_test_read(vp, HV_X64_MSR_HYPERCALL), PAGE_GPA | 1);
}

static void test_the_reset_register_stops_with_that_reason(void **state)
{
	core_test_write(vp, HV_X64_MSR_RESET, ~1ull);
	assert_int_equal(partition_stop_reason(ct.p), STOP_NONE);
	core_test_write(vp, HV_X64_MSR_RESET, 1);
	assert_int_equal(partition_stop_reason(ct.p), STOP_RESET);
	assert_int_equal(core_test_read(vp, HV_X64_MSR_RESET), 0);
	assert_int_equal(ct.stops, 1);
}

static void test_the_first_stop_reason_stays(void **state)
{
	partition_stop(ct.p, STOP_EXIT, 7, "the command ended with %d", 7);
	partition_stop(ct.p, STOP_KILLED, 1, "too late");
	assert_int_equal(partition_stop_reason(ct.p), STOP_EXIT);
	assert_int_equal(ct.p->stop_code, 7);
	assert_string_equal(ct.p->stop_text, "the command ended with 7");
	assert_int_equal(ct.stops, 1);
}

/* Crash reports. */

static void crash(u64 p3, u64 p4, u64 control)
{
	ct.crashes = 0;
	memset(&ct.crash, 0xEE, sizeof(ct.crash));
	for (u32 i = 0; i < 3; i++)
		core_test_write(vp, HV_X64_MSR_CRASH_P0 + i, 100 + i);
	core_test_write(vp, HV_X64_MSR_CRASH_P0 + 3, p3);
	core_test_write(vp, HV_X64_MSR_CRASH_P0 + 4, p4);
	core_test_write(vp, HV_X64_MSR_CRASH_CTL, control);
}

static void test_crash_control_reads_what_is_supported(void **state)
{
	core_test_write(vp, HV_X64_MSR_CRASH_CTL, 0);
	assert_int_equal(core_test_read(vp, HV_X64_MSR_CRASH_CTL),
			 HV_CRASH_CTL_NOTIFY | HV_CRASH_CTL_MESSAGE);
}

static void test_a_crash_without_message_carries_its_parameters(void **state)
{
	crash(103, 104, HV_CRASH_CTL_NOTIFY);
	assert_int_equal(ct.crashes, 1);
	assert_ptr_equal(ct.crash_vp, vp);
	for (u32 i = 0; i < HV_CRASH_PARAMETER_COUNT; i++) {
		assert_int_equal(ct.crash.parameter[i], 100 + i);
		assert_int_equal(core_test_read(vp, HV_X64_MSR_CRASH_P0 + i), 100 + i);
	}
	assert_int_equal(ct.crash.message_bytes, 0);
	assert_int_equal(partition_stop_reason(ct.p), STOP_NONE); /* it may write a dump yet */
}

static void test_a_write_without_notify_reports_nothing(void **state)
{
	crash(PAGE_GPA, 5, HV_CRASH_CTL_MESSAGE);
	assert_int_equal(ct.crashes, 0);
}

static void test_a_crash_message_is_copied_as_far_as_it_lies_in_memory(void **state)
{
	static const struct {
		u64 p3, p4;
		u32 bytes;
	} rows[] = {
		{ PAGE_GPA, 5, 5 },
		{ PAGE_GPA + 3, 5, 5 },
		{ PAGE_GPA, 4096, 4096 },
		{ PAGE_GPA, 4097, 4096 }, /* a page of text at most */
		{ PAGE_GPA, ~0ull, 4096 },
		{ PAGE_GPA, 0, 0 },
		{ 0, 5, 0 }, /* no message */
		{ TEST_RAM_BYTES - 5, 5, 5 },
		{ TEST_RAM_BYTES - 4, 5, 0 },
		{ TEST_HOLE_GPA, 5, 0 },
		{ ~0ull, 5, 0 },
		{ ~0ull - 4, ~0ull, 0 },
	};

	memset(ct.ram, 't', TEST_RAM_BYTES);
	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		crash(rows[i].p3, rows[i].p4, HV_CRASH_CTL_NOTIFY | HV_CRASH_CTL_MESSAGE);
		assert_int_equal(ct.crashes, 1);
		assert_int_equal(ct.crash.message_bytes, rows[i].bytes);
		for (u32 k = 0; k < rows[i].bytes; k++)
			assert_int_equal(ct.crash.message[k], 't');
	}
}

/* Reset. */

static void messages_queue_up(struct message_source *src)
{
	message_source_init(src, 1, NULL, NULL);
	for (u32 i = 0; i < 3; i++)
		assert_int_equal(message_source_send(src, vp, 2, 1, "x", 1), HV_STATUS_SUCCESS);
	assert_int_equal(src->free_count, PORT_MESSAGE_BUFFERS - 2);
}

static void test_a_reset_brings_every_register_back(void **state)
{
	u64 at_creation[2][64 * 16], value;
	struct message_source src;
	u32 n = 0, k = 0;

	fake_irq_pending(ct.vcpu[0], true);
	fake_irq_pending(ct.vcpu[1], true);
	for (u32 row = 0; row < msr_row_count(); row++)
		for (u32 i = 0; i < msr_row(row)->count; i++, n++)
			for (u32 v = 0; v < 2; v++)
				if (msr_read(ct.vp[v], msr_row(row)->base + i, &at_creation[v][n]))
					at_creation[v][n] = 0;
	page_on();
	core_test_write(vp, HV_X64_MSR_REFERENCE_TSC, 0x20001);
	core_test_write(vp, HV_X64_MSR_TSC_INVARIANT_CONTROL, 1);
	crash(1, 2, 0);
	for (u32 v = 0; v < 2; v++) {
		core_test_synic_on(ct.vp[v], 0x30000 + v * 0x4000);
		core_test_write(ct.vp[v], HV_X64_MSR_VP_ASSIST_PAGE, 0x32001 + v * 0x4000);
		for (u32 i = 0; i < HV_SYNIC_SINT_COUNT; i++)
			core_test_write(ct.vp[v], HV_X64_MSR_SINT0 + i, 0x20 + i);
		for (u32 i = 0; i < HV_SYNIC_STIMER_COUNT; i++) {
			core_test_write(ct.vp[v], HV_X64_MSR_STIMER0_COUNT + 2 * i, 1000);
			core_test_write(ct.vp[v], HV_X64_MSR_STIMER0_CONFIG + 2 * i, 0x20003);
		}
	}
	messages_queue_up(&src);
	partition_reset(ct.p);

	for (u32 row = 0; row < msr_row_count(); row++) {
		for (u32 i = 0; i < msr_row(row)->count; i++, k++) {
			u32 index = msr_row(row)->base + i;

			if (index == HV_X64_MSR_VP_RUNTIME)
				continue; /* time goes on */
			for (u32 v = 0; v < 2; v++) {
				if (msr_read(ct.vp[v], index, &value) == VP_OK)
					assert_int_equal(value, at_creation[v][k]);
			}
		}
	}
	assert_int_equal(src.free_count, PORT_MESSAGE_BUFFERS); /* dropped, not lost */
	for (u64 gpa = 0; gpa < TEST_RAM_BYTES; gpa++)
		assert_int_equal(ct.ram[gpa], 0); /* what the pages hid is back */
	fake_forget(ct.vm);
	core_test_advance(&ct, 100000);
	assert_int_equal(fake_count(ct.vm, FAKE_MSI), 0); /* no timer survives */
	core_test_synic_on(vp, 0x30000);
	for (u64 gpa = 0x30000; gpa < 0x32000; gpa++)
		assert_int_equal(ct.ram[gpa], 0); /* pages are clear after a reset */
	message_source_fini(&src);
}

static void test_a_root_finds_its_pages_chosen_and_backed(void **state)
{
	const u64 base = TEST_HOLE_GPA;
	struct core_test_config cfg = { .vps = 2, .hv_pages_gpa = base };
	static const struct {
		u32 msr;
		enum hv_page page;
	} rows[] = { { HV_X64_MSR_VP_ASSIST_PAGE, HV_PAGE_ASSIST },
		     { HV_X64_MSR_SIMP, HV_PAGE_SIMP },
		     { HV_X64_MSR_SIEFP, HV_PAGE_SIEFP } };
	struct core_test root;

	core_test_create(&root, &cfg);
	for (u32 round = 0; round < 2; round++) {
		assert_int_equal(core_test_read(root.vp[0], HV_X64_MSR_HYPERCALL), base);
		assert_int_equal(core_test_read(root.vp[0], HV_X64_MSR_REFERENCE_TSC),
				 base + PAGE_BYTES);
		for (u32 v = 0; v < 2; v++) {
			for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
				u64 gpa = partition_hv_page_gpa(root.p, v, rows[i].page);

				assert_true(gpa >= base + HV_PAGES_SHARED * PAGE_BYTES &&
					    gpa < base + hv_pages_bytes(2));
				assert_int_equal(core_test_read(root.vp[v], rows[i].msr), gpa);
				core_test_write(root.vp[v], rows[i].msr, gpa | 1);
			}
		}
		partition_reset(root.p);
	}
	core_test_destroy(&root);
}

static void test_vps_beyond_the_configured_number_are_refused(void **state)
{
	struct vp *more;

	assert_int_equal(vp_create(ct.p, ct.vcpu[0], &more), -ENOMEM);
	assert_int_equal(ct.p->vp_count, 2);
	assert_null(partition_vp(ct.p, 2));
	assert_null(partition_vp(ct.p, ~0u));
	assert_ptr_equal(partition_vp(ct.p, 1), ct.vp[1]);
}

/* The run loop. */

static void test_vp_threads_play_exits_until_the_partition_stops(void **state)
{
	static u8 data[4];
	const struct fake_step steps[] = {
		{ .exit = { .kind = ENGINE_EXIT_IO, .io = { 0x3F8, 1, true, 1, data } } },
		{ .exit = { .kind = ENGINE_EXIT_MMIO, .mmio = { 0xFEC00000, 4, true, data } } },
		{ .exit = { .kind = ENGINE_EXIT_EOI, .eoi = { 0x31 } } },
		{ .exit = { .kind = ENGINE_EXIT_RDMSR, .msr = { .index = HV_X64_MSR_VP_INDEX } } },
		{ .exit = { .kind = ENGINE_EXIT_HALT } },
	};

	for (u32 v = 0; v < 2; v++)
		for (u32 i = 0; i < ARRAY_SIZE(steps); i++)
			fake_push(ct.vcpu[v], &steps[i]);
	for (u32 v = 0; v < 2; v++) {
		assert_int_equal(vp_start(ct.vp[v]), 0);
		fake_drain(ct.vcpu[v]);
	}
	partition_stop(ct.p, STOP_POWER_OFF, 0, "done");
	for (u32 v = 0; v < 2; v++) {
		vp_join(ct.vp[v]);
		for (u32 i = 0; i < ARRAY_SIZE(steps); i++)
			assert_int_equal(ct.vp[v]->exits[steps[i].exit.kind], 1);
		assert_int_equal(ct.vcpu[v]->regs->rax, v);
	}
	assert_int_equal(ct.ios, 4);
	assert_int_equal(ct.eois, 2);
}

static void test_exits_that_cannot_go_on_stop_the_partition(void **state)
{
	static const struct {
		struct engine_exit exit;
		enum stop_reason reason;
	} rows[] = {
		{ { .kind = ENGINE_EXIT_SHUTDOWN }, STOP_TRIPLE_FAULT },
		{ { .kind = ENGINE_EXIT_MEMORY, .memory = { ~0ull, 1, 0 } }, STOP_GUEST_ERROR },
		{ { .kind = ENGINE_EXIT_ERROR, .error = { "the script says so", 3 } },
		  STOP_GUEST_ERROR },
	};

	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		fake_push(ct.vcpu[0], &(struct fake_step){ .exit = rows[i].exit });
		assert_int_equal(vp_start(vp), 0);
		vp_join(vp); /* ends by itself */
		assert_int_equal(partition_stop_reason(ct.p), rows[i].reason);
		core_test_destroy(&ct);
		setup(state);
	}
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_without_an_identity_the_page_cannot_be_enabled),
		TEST(test_the_page_holds_the_code_when_enabled),
		TEST(test_a_page_the_guest_wrote_to_is_whole_when_enabled_again),
		TEST(test_clearing_the_identity_disables_the_page),
		TEST(test_a_locked_register_ignores_writes_until_reset),
		TEST(test_reserved_bits_of_the_hypercall_register_read_as_zero),
		TEST(test_the_reset_register_stops_with_that_reason),
		TEST(test_the_first_stop_reason_stays),
		TEST(test_crash_control_reads_what_is_supported),
		TEST(test_a_crash_without_message_carries_its_parameters),
		TEST(test_a_write_without_notify_reports_nothing),
		TEST(test_a_crash_message_is_copied_as_far_as_it_lies_in_memory),
		TEST(test_a_reset_brings_every_register_back),
		TEST(test_a_root_finds_its_pages_chosen_and_backed),
		TEST(test_vps_beyond_the_configured_number_are_refused),
		TEST(test_vp_threads_play_exits_until_the_partition_stops),
		TEST(test_exits_that_cannot_go_on_stop_the_partition),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
