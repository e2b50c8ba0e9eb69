// SPDX-License-Identifier: MIT
/* Slots, pending flags, EOM, event flags and the registers of the SynIC. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sched.h>

#include "core/core_test.h"

#define SIM_GPA	 0x10000ull
#define SIEF_GPA (SIM_GPA + PAGE_BYTES)
#define SINT	 2
#define VECTOR	 0xF3
#define TYPE	 0x1234

static struct core_test ct;
static struct vp *vp;
static struct synic *synic;

static struct test_message {
	struct message m;
	u32 done, delivered;
} msg[8];

static void on_done(struct message *m, bool delivered)
{
	struct test_message *t = container_of(m, struct test_message, m);

	t->done++;
	t->delivered += delivered;
}

/* The SynIC is on, SINT 2 unmasked; each message carries its number. */
static int setup(void **state)
{
	const struct core_test_config cfg = { .vps = 2, .nested = true };

	core_test_create(&ct, &cfg);
	vp = ct.vp[1]; /* APIC id 2 */
	synic = &vp->synic;
	core_test_synic_on(vp, SIM_GPA);
	core_test_write(vp, HV_X64_MSR_SINT0 + SINT, VECTOR);
	memset(msg, 0, sizeof(msg));
	for (u32 i = 0; i < ARRAY_SIZE(msg); i++) {
		list_init(&msg[i].m.link);
		msg[i].m.done = on_done;
		msg[i].m.m = (struct hv_message){
			.type = TYPE, .payload_bytes = 8, .sender = 0x77, .payload = { (u8)(i + 1) }
		};
	}
	return 0;
}

static int teardown(void **state)
{
	core_test_destroy(&ct);
	return 0;
}

static struct hv_message *slot_at(u64 gpa, u32 sint)
{
	return (struct hv_message *)(void *)(ct.ram + gpa + sint * HV_MESSAGE_BYTES);
}

static struct hv_message *slot(void)
{
	return slot_at(SIM_GPA, SINT);
}

static u32 interrupts(void)
{
	return fake_count(ct.vm, FAKE_MSI);
}

static void post(u32 i)
{
	assert_int_equal(synic_post(synic, SINT, &msg[i].m), HV_STATUS_SUCCESS);
}

/* Takes the message out of the slot like a driver; true: an EOM is wanted. */
static bool take(struct hv_message *s, u32 expected)
{
	assert_int_equal(s->type, TYPE);
	assert_int_equal(s->payload[0], expected + 1);
	__atomic_store_n(&s->type, HV_MESSAGE_NONE, __ATOMIC_SEQ_CST);
	return __atomic_load_n(&s->flags, __ATOMIC_SEQ_CST) & HV_MESSAGE_FLAG_PENDING;
}

static void eom(void)
{
	core_test_write(vp, HV_X64_MSR_EOM, 0);
}

static void test_a_message_fills_its_slot_and_raises_its_vector(void **state)
{
	struct fake_record irq;

	slot()->rsvd = 0xFFFF;
	post(0);
	assert_int_equal(slot()->type, TYPE);
	assert_int_equal(slot()->payload_bytes, 8);
	assert_int_equal(slot()->flags, 0);
	assert_int_equal(slot()->rsvd, 0);
	assert_int_equal(slot()->sender, 0x77);
	assert_int_equal(slot()->payload[0], 1);
	assert_int_equal(msg[0].delivered, 1);
	assert_int_equal(interrupts(), 1);
	irq = fake_last(ct.vm, FAKE_MSI);
	assert_int_equal(irq.a, 0xFEE00000 | vp->vcpu->id << 12);
	assert_int_equal(irq.b, VECTOR);
}

static void test_a_busy_slot_makes_messages_wait_in_order(void **state)
{
	for (u32 i = 0; i < 4; i++)
		post(i);
	assert_int_equal(interrupts(), 1);
	assert_int_equal(msg[1].done, 0);
	for (u32 i = 0; i < 4; i++) {
		assert_int_equal(take(slot(), i), i < 3); /* pending as long as another waits */
		eom();
		assert_int_equal(interrupts(), i < 3 ? i + 2 : 4);
	}
	assert_int_equal(slot()->type, HV_MESSAGE_NONE);
	for (u32 i = 0; i < 4; i++)
		assert_int_equal(msg[i].delivered, 1);
}

static void test_an_eom_over_a_busy_slot_delivers_nothing(void **state)
{
	post(0);
	post(1);
	eom();
	assert_int_equal(slot()->payload[0], 1);
	assert_int_equal(slot()->flags, HV_MESSAGE_FLAG_PENDING);
	assert_int_equal(interrupts(), 1);
}

static void test_an_eom_of_empty_queues_does_nothing(void **state)
{
	eom();
	assert_int_equal(slot()->type, HV_MESSAGE_NONE);
	assert_int_equal(interrupts(), 0);
	assert_int_equal(core_test_read(vp, HV_X64_MSR_EOM), 0);
}

static void test_the_next_post_also_delivers_what_waits(void **state)
{
	post(0);
	post(1);
	take(slot(), 0); /* and no EOM */
	post(2);
	assert_int_equal(slot()->payload[0], 2);
	assert_int_equal(slot()->flags, HV_MESSAGE_FLAG_PENDING);
	assert_int_equal(interrupts(), 2);
}

static void test_sints_do_not_block_each_other(void **state)
{
	core_test_write(vp, HV_X64_MSR_SINT0 + 15, 0x40);
	post(0);
	post(1);
	assert_int_equal(synic_post(synic, 15, &msg[2].m), HV_STATUS_SUCCESS);
	assert_int_equal(slot_at(SIM_GPA, 15)->payload[0], 3);
	assert_int_equal(fake_last(ct.vm, FAKE_MSI).b, 0x40);
}

static void test_one_eom_serves_all_sints(void **state)
{
	post(0);
	post(1);
	synic_post(synic, 3, &msg[2].m);
	synic_post(synic, 3, &msg[3].m);
	take(slot(), 0);
	take(slot_at(SIM_GPA, 3), 2);
	eom();
	assert_int_equal(slot()->payload[0], 2);
	assert_int_equal(slot_at(SIM_GPA, 3)->payload[0], 4);
}

/* TLFS: SIM page messages: "If ... the SINTx is masked, the interrupt is lost." */
static void test_a_masked_or_polled_sint_gets_messages_without_interrupts(void **state)
{
	static const u64 quiet[] = { HV_SINT_MASKED | VECTOR, HV_SINT_POLLING | VECTOR,
				     HV_SINT_MASKED | HV_SINT_POLLING | VECTOR };

	for (u32 i = 0; i < ARRAY_SIZE(quiet); i++) {
		core_test_write(vp, HV_X64_MSR_SINT0 + SINT, quiet[i]);
		post(0);
		post(1);
		take(slot(), 0);
		eom();
		take(slot(), 1);
		assert_int_equal(interrupts(), 0);
	}
}

static void test_posting_is_refused_while_disabled(void **state)
{
	static const struct {
		u32 msr;
		bool post, signal;
	} rows[] = {
		{ HV_X64_MSR_SCONTROL, false, false },
		{ HV_X64_MSR_SIMP, false, true },
		{ HV_X64_MSR_SIEFP, true, false },
	};

	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		u64 value = core_test_read(vp, rows[i].msr);

		core_test_write(vp, rows[i].msr, 0);
		assert_int_equal(synic_post(synic, SINT, &msg[i].m),
				 rows[i].post ? HV_STATUS_SUCCESS : HV_STATUS_INVALID_SYNIC_STATE);
		assert_int_equal(synic_signal(synic, SINT, i),
				 rows[i].signal ? HV_STATUS_SUCCESS
						: HV_STATUS_INVALID_SYNIC_STATE);
		assert_int_equal(msg[i].done, rows[i].post);
		core_test_write(vp, rows[i].msr, value);
	}
}

static void test_a_sint_or_flag_out_of_range_is_refused(void **state)
{
	assert_int_equal(synic_post(synic, HV_SYNIC_SINT_COUNT, &msg[0].m),
			 HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(synic_signal(synic, HV_SYNIC_SINT_COUNT, 0), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(synic_signal(synic, SINT, HV_EVENT_FLAGS_COUNT),
			 HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(synic_signal(synic, SINT, HV_EVENT_FLAGS_COUNT - 1), HV_STATUS_SUCCESS);
}

static void test_a_message_under_way_cannot_be_posted_again(void **state)
{
	post(0);
	post(1);
	assert_int_equal(synic_post(synic, SINT, &msg[1].m), HV_STATUS_OBJECT_IN_USE);
	take(slot(), 0);
	eom();
	take(slot(), 1);
	post(1);
	assert_int_equal(msg[1].delivered, 2);
}

static void test_waiting_messages_follow_a_moved_page(void **state)
{
	post(0);
	post(1);
	core_test_write(vp, HV_X64_MSR_SIMP, 0x50000 | HV_MSR_PAGE_ENABLE);
	assert_int_equal(slot()->type, HV_MESSAGE_NONE); /* the guest's own page */
	assert_true(take(slot_at(0x50000, SINT), 0));
	eom();
	take(slot_at(0x50000, SINT), 1);
}

static void test_messages_wait_out_a_disabled_page(void **state)
{
	post(0);
	post(1);
	core_test_write(vp, HV_X64_MSR_SIMP, SIM_GPA);
	eom();
	assert_int_equal(msg[1].done, 0);
	core_test_write(vp, HV_X64_MSR_SIMP, SIM_GPA | HV_MSR_PAGE_ENABLE);
	assert_true(take(slot(), 0));
	core_test_write(vp, HV_X64_MSR_SCONTROL, 0);
	eom();
	assert_int_equal(msg[1].done, 0);
	core_test_write(vp, HV_X64_MSR_SCONTROL, HV_SCONTROL_ENABLE);
	eom();
	take(slot(), 1);
}

static void test_a_page_under_another_overlay_still_takes_messages(void **state)
{
	core_test_write(vp, HV_X64_MSR_VP_ASSIST_PAGE, SIM_GPA | HV_MSR_PAGE_ENABLE);
	post(0);
	assert_int_equal(slot()->type, 0); /* the assist page is seen */
	core_test_write(vp, HV_X64_MSR_VP_ASSIST_PAGE, 0);
	take(slot(), 0);
}

static void test_garbage_in_a_slot_blocks_only_that_slot(void **state)
{
	memset(ct.ram + SIM_GPA, 0xFF, PAGE_BYTES);
	post(0);
	assert_int_equal(msg[0].done, 0);
	assert_int_equal(slot()->payload[0], 0xFF);
	slot()->type = 0;
	eom();
	take(slot(), 0);
	assert_int_equal(slot_at(SIM_GPA, SINT + 1)->type, ~0u);
}

static void test_a_reset_drops_what_waits_and_gives_it_back(void **state)
{
	for (u32 i = 0; i < 3; i++)
		post(i);
	synic_reset(synic);
	for (u32 i = 0; i < 3; i++) {
		assert_int_equal(msg[i].done, 1);
		assert_int_equal(msg[i].delivered, i == 0);
		assert_false(msg[i].m.queued);
	}
	assert_int_equal(synic_post(synic, SINT, &msg[0].m), HV_STATUS_INVALID_SYNIC_STATE);
}

/* Event flags. */

static u8 *flags(u32 sint)
{
	return ct.ram + SIEF_GPA + sint * HV_EVENT_FLAGS_BYTES;
}

static void test_each_flag_is_its_bit(void **state)
{
	static const u32 numbers[] = { 0, 1, 7, 8, 63, 64, 127, 1000, 2047 };

	for (u32 i = 0; i < ARRAY_SIZE(numbers); i++) {
		u32 n = numbers[i], sint = i % HV_SYNIC_SINT_COUNT;

		core_test_write(vp, HV_X64_MSR_SINT0 + sint, 0x50 + i);
		assert_int_equal(synic_signal(synic, sint, n), HV_STATUS_SUCCESS);
		assert_int_equal(flags(sint)[n / 8], 1 << n % 8);
		assert_int_equal(fake_last(ct.vm, FAKE_MSI).b, 0x50 + i);
		flags(sint)[n / 8] = 0;
	}
	for (u32 i = 0; i < PAGE_BYTES; i++)
		assert_int_equal(flags(0)[i], 0);
}

static void test_only_the_setting_of_a_flag_raises(void **state)
{
	for (u32 i = 0; i < 3; i++)
		assert_int_equal(synic_signal(synic, SINT, 5), HV_STATUS_SUCCESS);
	assert_int_equal(interrupts(), 1);
	synic_signal(synic, SINT, 6); /* a flag of its own, even in the same byte */
	assert_int_equal(interrupts(), 2);
	flags(SINT)[0] = 0;
	synic_signal(synic, SINT, 5);
	assert_int_equal(interrupts(), 3);
}

/* TLFS: Event Flag Delivery: "If the SINTx is masked, HvSignalEvent returns ..." */
static void test_a_masked_sint_takes_the_flag_and_says_so(void **state)
{
	core_test_write(vp, HV_X64_MSR_SINT0 + SINT, HV_SINT_MASKED | VECTOR);
	assert_int_equal(synic_signal(synic, SINT, 9), HV_STATUS_INVALID_SYNIC_STATE);
	assert_int_equal(flags(SINT)[1], 2);
	assert_int_equal(interrupts(), 0);
	core_test_write(vp, HV_X64_MSR_SINT0 + SINT, HV_SINT_MASKED | HV_SINT_POLLING | VECTOR);
	assert_int_equal(synic_signal(synic, SINT, 10), HV_STATUS_SUCCESS);
	assert_int_equal(flags(SINT)[1], 6);
	assert_int_equal(interrupts(), 0);
}

static void test_flags_follow_a_moved_page(void **state)
{
	synic_signal(synic, SINT, 5);
	core_test_write(vp, HV_X64_MSR_SIEFP, 0x50000 | HV_MSR_PAGE_ENABLE);
	assert_int_equal(ct.ram[0x50000 + SINT * HV_EVENT_FLAGS_BYTES], 1 << 5);
	assert_int_equal(flags(SINT)[0], 0);
	synic_signal(synic, SINT, 5);
	assert_int_equal(interrupts(), 1);
}

/* Registers. */

static void test_sint_values_are_checked(void **state)
{
	static const struct {
		u64 value;
		enum vp_fault fault;
		u64 reads;
	} rows[] = {
		{ 0xF3, VP_OK, 0xF3 },
		{ 16, VP_OK, 16 },
		{ 15, VP_FAULT_GP, 0 },
		{ 0, VP_FAULT_GP, 0 },
		{ HV_SINT_MASKED, VP_OK, HV_SINT_MASKED }, /* its reset value */
		{ HV_SINT_MASKED | 15, VP_OK, HV_SINT_MASKED | 15 },
		{ HV_SINT_AUTO_EOI | 0xF3, VP_FAULT_GP, 0 }, /* not offered */
		{ HV_SINT_MASKED | HV_SINT_AUTO_EOI | 0xF3, VP_OK,
		  HV_SINT_MASKED | HV_SINT_AUTO_EOI | 0xF3 },
		{ HV_SINT_POLLING | 0xF3, VP_OK, HV_SINT_POLLING | 0xF3 },
		{ HV_SINT_AS_INTERCEPT | 0xF3, VP_OK, HV_SINT_AS_INTERCEPT | 0xF3 },
		{ ~0ull & ~(HV_SINT_AUTO_EOI | HV_SINT_MASKED), VP_OK,
		  HV_SINT_VALID_MASK & ~(HV_SINT_AUTO_EOI | HV_SINT_MASKED) },
	};

	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		u64 before = core_test_read(vp, HV_X64_MSR_SINT0 + 7);

		assert_int_equal(msr_write(vp, HV_X64_MSR_SINT0 + 7, rows[i].value), rows[i].fault);
		assert_int_equal(core_test_read(vp, HV_X64_MSR_SINT0 + 7),
				 rows[i].fault ? before : rows[i].reads);
	}
}

static void test_registers_start_disabled(void **state)
{
	struct vp *fresh = ct.vp[0];

	assert_int_equal(core_test_read(fresh, HV_X64_MSR_SCONTROL), 0);
	assert_int_equal(core_test_read(fresh, HV_X64_MSR_SVERSION), 1);
	assert_int_equal(core_test_read(fresh, HV_X64_MSR_SIMP), 0);
	assert_int_equal(core_test_read(fresh, HV_X64_MSR_SIEFP), 0);
	for (u32 i = 0; i < HV_SYNIC_SINT_COUNT; i++)
		assert_int_equal(core_test_read(fresh, HV_X64_MSR_SINT0 + i), HV_SINT_MASKED);
	assert_int_equal(msr_write(fresh, HV_X64_MSR_SVERSION, 1), VP_FAULT_GP);
	core_test_write(fresh, HV_X64_MSR_SCONTROL, ~0ull);
	assert_int_equal(core_test_read(fresh, HV_X64_MSR_SCONTROL), HV_SCONTROL_ENABLE);
	core_test_write(fresh, HV_X64_MSR_SIMP, 0x20FFF);
	assert_int_equal(core_test_read(fresh, HV_X64_MSR_SIMP), 0x20001);
}

static void test_a_nested_root_has_two_synics(void **state)
{
	struct synic *outer = &vp->outer->synic;

	core_test_write(vp, HV_X64_MSR_NESTED_SIMP, 0x50001);
	core_test_write(vp, HV_X64_MSR_NESTED_SCONTROL, 1);
	core_test_write(vp, HV_X64_MSR_NESTED_SINT0 + SINT, 0x60);
	post(0);
	assert_int_equal(synic_post(outer, SINT, &msg[1].m), HV_STATUS_SUCCESS);
	assert_int_equal(synic_post(outer, SINT, &msg[2].m), HV_STATUS_SUCCESS);
	assert_int_equal(fake_last(ct.vm, FAKE_MSI).a, 0xFEE00000 | vp->vcpu->id << 12);
	assert_int_equal(fake_last(ct.vm, FAKE_MSI).b, 0x60);
	take(slot(), 0);
	take(slot_at(0x50000, SINT), 1);
	eom(); /* not L0's */
	assert_int_equal(slot_at(0x50000, SINT)->type, HV_MESSAGE_NONE);
	core_test_write(vp, HV_X64_MSR_NESTED_EOM, 0);
	take(slot_at(0x50000, SINT), 2);
}

/*
 * A guest that takes one message per interrupt and writes EOM only when asked.
 * It frees slots at any moment, also between a look of the hypervisor's at a
 * busy slot and its setting of the pending flag; no message may stay behind.
 */
#define STORM 20000

static void *guest(void *arg)
{
	u32 handled = 0, expected = 0;
	u64 idle = 0;

	while (expected < STORM) {
		u32 count = fake_count(ct.vm, FAKE_MSI), number;
		struct hv_message *s = slot();

		if (count == handled) {
			if (++idle > 50000000)
				return (void *)"a message stayed behind";
			sched_yield();
			continue;
		}
		idle = 0;
		handled = count;
		if (__atomic_load_n(&s->type, __ATOMIC_ACQUIRE) == HV_MESSAGE_NONE)
			continue;
		memcpy(&number, s->payload, sizeof(number));
		if (number != expected++)
			return (void *)"messages out of order";
		__atomic_store_n(&s->type, HV_MESSAGE_NONE, __ATOMIC_SEQ_CST);
		if (__atomic_load_n(&s->flags, __ATOMIC_SEQ_CST) & HV_MESSAGE_FLAG_PENDING)
			eom();
	}
	return NULL;
}

static void test_no_message_is_lost_to_a_guest_that_runs_meanwhile(void **state)
{
	struct message_source src;
	pthread_t thread;
	void *failure;

	message_source_init(&src, 1, NULL, NULL);
	assert_int_equal(pthread_create(&thread, NULL, guest, NULL), 0);
	for (u32 i = 0; i < STORM;) {
		enum hv_status status = message_source_send(&src, vp, SINT, TYPE, &i, sizeof(i));

		if (status == HV_STATUS_SUCCESS)
			i++;
		else
			sched_yield();
	}
	pthread_join(thread, &failure);
	assert_null(failure);
	assert_int_equal(src.free_count, PORT_MESSAGE_BUFFERS);
	message_source_fini(&src);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_message_fills_its_slot_and_raises_its_vector),
		TEST(test_a_busy_slot_makes_messages_wait_in_order),
		TEST(test_an_eom_over_a_busy_slot_delivers_nothing),
		TEST(test_an_eom_of_empty_queues_does_nothing),
		TEST(test_the_next_post_also_delivers_what_waits),
		TEST(test_sints_do_not_block_each_other),
		TEST(test_one_eom_serves_all_sints),
		TEST(test_a_masked_or_polled_sint_gets_messages_without_interrupts),
		TEST(test_posting_is_refused_while_disabled),
		TEST(test_a_sint_or_flag_out_of_range_is_refused),
		TEST(test_a_message_under_way_cannot_be_posted_again),
		TEST(test_waiting_messages_follow_a_moved_page),
		TEST(test_messages_wait_out_a_disabled_page),
		TEST(test_a_page_under_another_overlay_still_takes_messages),
		TEST(test_garbage_in_a_slot_blocks_only_that_slot),
		TEST(test_a_reset_drops_what_waits_and_gives_it_back),
		TEST(test_each_flag_is_its_bit),
		TEST(test_only_the_setting_of_a_flag_raises),
		TEST(test_a_masked_sint_takes_the_flag_and_says_so),
		TEST(test_flags_follow_a_moved_page),
		TEST(test_sint_values_are_checked),
		TEST(test_registers_start_disabled),
		TEST(test_a_nested_root_has_two_synics),
		TEST(test_no_message_is_lost_to_a_guest_that_runs_meanwhile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
