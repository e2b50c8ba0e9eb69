// SPDX-License-Identifier: MIT
/* Connections, HvCallPostMessage, HvCallSignalEvent, and the message buffers of a port. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>

#include "core/core_test.h"

#define IN_GPA	0x10000ull
#define SIM_GPA 0x20000ull
#define SINT	2

static struct core_test ct;
static struct vp *vp;

/* A sink that notes what came. */
static struct seen {
	u32 messages, events, id, type, bytes;
	u16 flag;
	u8 payload[HV_MESSAGE_PAYLOAD_BYTES];
	struct vp *from;
	enum hv_status answer;
} seen[2];

static enum hv_status on_message(void *ctx, struct vp *from, u32 type, const void *payload,
				 u32 bytes)
{
	struct seen *s = ctx;

	s->messages++;
	s->from = from;
	s->type = type;
	s->bytes = bytes;
	memcpy(s->payload, payload, bytes);
	return s->answer;
}

static void on_event(void *ctx, struct vp *from, u32 connection_id, u16 flag)
{
	struct seen *s = ctx;

	s->events++;
	s->id = connection_id;
	s->from = from;
	s->flag = flag;
}

static const struct port_sink sink = { on_message, on_event };
static const struct port_sink message_sink = { .message = on_message };
static const struct port_sink event_sink = { .event = on_event };

static int setup(void **state)
{
	const struct core_test_config cfg = { .nested = true };

	core_test_create(&ct, &cfg);
	vp = ct.vp[0];
	memset(seen, 0, sizeof(seen));
	core_test_synic_on(vp, SIM_GPA);
	core_test_write(vp, HV_X64_MSR_SINT0 + SINT, 0xF3);
	return 0;
}

static int teardown(void **state)
{
	core_test_destroy(&ct);
	return 0;
}

static u16 call(u64 control, u64 in, u64 second)
{
	const struct hypercall_regs regs = { control, in, second, true };
	u64 result;

	assert_int_equal(hypercall_execute(vp, &regs, &result), VP_OK);
	return (u16)result;
}

static u16 post(u64 nested, u32 id, u32 type, u32 bytes)
{
	struct hv_input_post_message *in = (void *)(ct.ram + IN_GPA);

	memset(in, 0x5A, sizeof(*in)); /* also what is reserved: no status is defined for it */
	in->connection_id = id;
	in->message_type = type;
	in->payload_bytes = bytes;
	return call(HVCALL_POST_MESSAGE | nested, IN_GPA, 0);
}

static u16 signal(u64 nested, u32 id, u16 flag)
{
	return call(HVCALL_SIGNAL_EVENT | HV_HYPERCALL_FAST | nested, id | (u64)flag << 32, 0);
}

static void test_connections_are_found_by_id_until_removed(void **state)
{
	/* Ids that share a bucket. */
	static const u32 ids[] = { 1, 1 + CONNECTION_HASH, 1 + 2 * CONNECTION_HASH, ~0u, 0 };

	for (u32 i = 0; i < ARRAY_SIZE(ids); i++) {
		assert_int_equal(connection_add(ct.p, ids[i], &sink, &seen[0]), 0);
		assert_int_equal(connection_add(ct.p, ids[i], &sink, &seen[1]), -EEXIST);
	}
	for (u32 i = 0; i < ARRAY_SIZE(ids); i++) {
		for (u32 k = i; k < ARRAY_SIZE(ids); k++)
			assert_int_equal(signal(0, ids[k], 0), HV_STATUS_SUCCESS);
		connection_remove(ct.p, ids[i]);
		assert_int_equal(signal(0, ids[i], 0), HV_STATUS_INVALID_CONNECTION_ID);
	}
	connection_remove(ct.p, 5); /* was never there */
	assert_int_equal(seen[0].events, 5 + 4 + 3 + 2 + 1);
	assert_int_equal(seen[1].events, 0);
}

static void test_post_message_answers_by_its_table(void **state)
{
	static const struct {
		u32 id, type, bytes;
		u16 status;
	} rows[] = {
		{ 1, 1, 0, HV_STATUS_SUCCESS },
		{ 1, 1, 240, HV_STATUS_SUCCESS },
		{ 1, 0x7FFFFFFF, 8, HV_STATUS_SUCCESS },
		{ 1, 1, 241, HV_STATUS_INVALID_PARAMETER },
		{ 1, 1, ~0u, HV_STATUS_INVALID_PARAMETER },
		{ 1, 0, 8, HV_STATUS_INVALID_PARAMETER },
		{ 1, 0x80000000, 8, HV_STATUS_INVALID_PARAMETER }, /* the hypervisor's own */
		{ 1, ~0u, 8, HV_STATUS_INVALID_PARAMETER },
		{ 2, 1, 8, HV_STATUS_INVALID_CONNECTION_ID }, /* for events */
		{ 3, 1, 8, HV_STATUS_INVALID_CONNECTION_ID }, /* nobody's */
	};
	u32 posted = 0;

	connection_add(ct.p, 1, &message_sink, &seen[0]);
	connection_add(ct.p, 2, &event_sink, &seen[0]);
	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_int_equal(post(0, rows[i].id, rows[i].type, rows[i].bytes), rows[i].status);
		if (rows[i].status == HV_STATUS_SUCCESS) {
			posted++;
			assert_int_equal(seen[0].type, rows[i].type);
			assert_int_equal(seen[0].bytes, rows[i].bytes);
			assert_ptr_equal(seen[0].from, vp);
		}
		assert_int_equal(seen[0].messages, posted);
	}
}

static void test_the_status_of_the_sink_is_the_callers(void **state)
{
	static const enum hv_status answers[] = { HV_STATUS_INSUFFICIENT_BUFFERS,
						  HV_STATUS_INVALID_SYNIC_STATE };

	connection_add(ct.p, 1, &sink, &seen[0]);
	for (u32 i = 0; i < ARRAY_SIZE(answers); i++) {
		seen[0].answer = answers[i];
		assert_int_equal(post(0, 1, 1, 8), answers[i]);
	}
}

static void test_signal_event_answers_by_its_table(void **state)
{
	static const struct {
		u32 id;
		u16 flag, status;
	} rows[] = {
		{ 2, 0, HV_STATUS_SUCCESS },
		{ 2, 2047, HV_STATUS_SUCCESS },
		{ 2, 2048, HV_STATUS_INVALID_PARAMETER },
		{ 2, 0xFFFF, HV_STATUS_INVALID_PARAMETER },
		{ 1, 0, HV_STATUS_INVALID_CONNECTION_ID }, /* for messages */
		{ 3, 0, HV_STATUS_INVALID_CONNECTION_ID },
	};
	u32 events = 0;

	connection_add(ct.p, 1, &message_sink, &seen[0]);
	connection_add(ct.p, 2, &event_sink, &seen[0]);
	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_int_equal(signal(0, rows[i].id, rows[i].flag), rows[i].status);
		events += rows[i].status == HV_STATUS_SUCCESS;
		assert_int_equal(seen[0].events, events);
		if (rows[i].status == HV_STATUS_SUCCESS) {
			assert_int_equal(seen[0].id, rows[i].id);
			assert_int_equal(seen[0].flag, rows[i].flag);
		}
	}
}

static void test_signals_come_from_memory_too(void **state)
{
	struct hv_input_signal_event *in = (void *)(ct.ram + IN_GPA);

	connection_add(ct.p, 7, &sink, &seen[0]);
	*in = (struct hv_input_signal_event){ .connection_id = 7,
					      .flag_number = 9,
					      .rsvd = 0xFFFF };
	assert_int_equal(call(HVCALL_SIGNAL_EVENT, IN_GPA, ~0ull), HV_STATUS_SUCCESS);
	assert_int_equal(seen[0].flag, 9);
}

/* A nested root's VMBus connections are L0's; the same id of L1 is another. */
static void test_each_hypervisor_has_its_own_connections(void **state)
{
	connection_add(ct.p, 1, &sink, &seen[0]);
	connection_add(ct.outer, 4, &sink, &seen[1]);
	assert_int_equal(signal(HV_HYPERCALL_NESTED, 1, 0), HV_STATUS_INVALID_CONNECTION_ID);
	assert_int_equal(signal(0, 4, 0), HV_STATUS_INVALID_CONNECTION_ID);
	assert_int_equal(post(0, 4, 1, 8), HV_STATUS_INVALID_CONNECTION_ID);
	assert_int_equal(signal(HV_HYPERCALL_NESTED, 4, 0), HV_STATUS_SUCCESS);
	assert_int_equal(post(HV_HYPERCALL_NESTED, 4, 1, 8), HV_STATUS_SUCCESS);
	assert_ptr_equal(seen[1].from, vp->outer);
	assert_int_equal(seen[0].messages + seen[0].events, 0);
}

static void test_quirks_pass_on_only_what_they_name(void **state)
{
	connection_add(ct.outer, 4, &sink, &seen[1]);
	ct.p->config.quirks = BIT(QUIRK_FORWARD_POST);
	assert_int_equal(post(0, 4, 1, 8), HV_STATUS_SUCCESS);
	assert_int_equal(signal(0, 4, 0), HV_STATUS_INVALID_CONNECTION_ID);
	ct.p->config.quirks = BIT(QUIRK_FORWARD_SIGNAL);
	assert_int_equal(post(0, 4, 1, 8), HV_STATUS_INVALID_CONNECTION_ID);
	assert_int_equal(signal(0, 4, 0), HV_STATUS_SUCCESS);
	assert_int_equal(signal(0, 5, 0), HV_STATUS_INVALID_CONNECTION_ID); /* not L0's either */
	assert_int_equal(seen[1].messages, 1);
	assert_int_equal(seen[1].events, 1);
	assert_int_equal(ct.p->quirk_uses[QUIRK_FORWARD_POST], 1);
	/* A connection of its own comes first, and is no use of the quirk. */
	connection_add(ct.p, 4, &sink, &seen[0]);
	assert_int_equal(signal(0, 4, 0), HV_STATUS_SUCCESS);
	assert_int_equal(seen[0].events, 1);
	assert_int_equal(ct.p->quirk_uses[QUIRK_FORWARD_SIGNAL], 2);
}

/* Host to guest. */

static struct message_source src;
static u32 writable;

static void on_writable(void *ctx)
{
	(*(u32 *)ctx)++;
}

static struct hv_message *slot(u32 sint)
{
	return (struct hv_message *)(void *)(ct.ram + SIM_GPA + sint * HV_MESSAGE_BYTES);
}

static enum hv_status send(u32 sint, u8 number)
{
	return message_source_send(&src, vp, sint, 1, &number, 1);
}

static void take(u32 sint, u8 number)
{
	assert_int_equal(slot(sint)->type, 1);
	assert_int_equal(slot(sint)->payload[0], number);
	slot(sint)->type = 0;
	core_test_write(vp, HV_X64_MSR_EOM, 0);
}

static int setup_source(void **state)
{
	writable = 0;
	setup(state);
	message_source_init(&src, 0x99, on_writable, &writable);
	return 0;
}

static int teardown_source(void **state)
{
	synic_reset(&vp->synic);
	assert_int_equal(src.free_count, PORT_MESSAGE_BUFFERS);
	message_source_fini(&src);
	return teardown(state);
}

static void test_what_waits_can_be_dropped(void **state)
{
	for (u8 i = 0; i < 5; i++)
		assert_int_equal(send(SINT, i), HV_STATUS_SUCCESS);
	message_source_drop(&src);
	assert_int_equal(src.free_count, PORT_MESSAGE_BUFFERS);
	/* What is in the slot is the guest's. */
	assert_int_equal(send(SINT, 9), HV_STATUS_SUCCESS);
	take(SINT, 0);
	take(SINT, 9);
	assert_int_equal(slot(SINT)->type, 0);
	message_source_drop(&src);
	assert_int_equal(src.free_count, PORT_MESSAGE_BUFFERS);
	/* One who waits for a buffer is told. */
	for (u8 i = 0; i < PORT_MESSAGE_BUFFERS + 1; i++)
		assert_int_equal(send(SINT, i), HV_STATUS_SUCCESS);
	message_source_drop(&src);
	assert_int_equal(writable, 1);
}

static void test_sixteen_messages_wait_and_no_more(void **state)
{
	/* One is in the slot, which frees its buffer at once. */
	for (u8 i = 0; i < PORT_MESSAGE_BUFFERS + 1; i++)
		assert_int_equal(send(SINT, i), HV_STATUS_SUCCESS);
	assert_int_equal(send(SINT, 0xFF), HV_STATUS_INSUFFICIENT_BUFFERS);
	assert_int_equal(writable, 0);
	take(SINT, 0);
	assert_int_equal(writable, 1);
	take(SINT, 1);
	assert_int_equal(writable, 1); /* told once */
	for (u8 i = PORT_MESSAGE_BUFFERS + 1; i < PORT_MESSAGE_BUFFERS + 3; i++)
		assert_int_equal(send(SINT, i), HV_STATUS_SUCCESS);
	assert_int_equal(send(SINT, 0xFF), HV_STATUS_INSUFFICIENT_BUFFERS);
	for (u8 i = 2; i < PORT_MESSAGE_BUFFERS + 3; i++)
		take(SINT, i);
	assert_int_equal(writable, 2);
	assert_int_equal(slot(SINT)->type, 0);
}

static void test_what_cannot_be_sent_takes_no_buffer(void **state)
{
	static u8 payload[HV_MESSAGE_PAYLOAD_BYTES + 1];
	static const struct {
		u32 sint, type, bytes;
		enum hv_status status;
	} rows[] = {
		{ SINT, 1, HV_MESSAGE_PAYLOAD_BYTES, HV_STATUS_SUCCESS },
		{ SINT, 1, HV_MESSAGE_PAYLOAD_BYTES + 1, HV_STATUS_INVALID_PARAMETER },
		{ HV_SYNIC_SINT_COUNT, 1, 1, HV_STATUS_INVALID_PARAMETER },
		{ SINT, HV_MESSAGE_NONE, 1, HV_STATUS_INVALID_PARAMETER }, /* an empty slot */
	};

	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_int_equal(message_source_send(&src, vp, rows[i].sint, rows[i].type, payload,
						     rows[i].bytes),
				 rows[i].status);
		assert_int_equal(src.free_count, PORT_MESSAGE_BUFFERS);
		slot(SINT)->type = 0;
	}
	core_test_write(vp, HV_X64_MSR_SCONTROL, 0);
	assert_int_equal(send(SINT, 1), HV_STATUS_INVALID_SYNIC_STATE);
	assert_int_equal(src.free_count, PORT_MESSAGE_BUFFERS);
	assert_int_equal(writable, 0);
}

static void test_a_message_names_its_sender(void **state)
{
	send(SINT, 1);
	assert_int_equal(slot(SINT)->sender, 0x99);
	take(SINT, 1);
	core_test_write(vp, HV_X64_MSR_SINT0 + 5, 0x40);
	send(5, 2);
	take(5, 2);
}

#define TEST(f)	       cmocka_unit_test_setup_teardown(f, setup, teardown)
#define TEST_SOURCE(f) cmocka_unit_test_setup_teardown(f, setup_source, teardown_source)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_connections_are_found_by_id_until_removed),
		TEST(test_post_message_answers_by_its_table),
		TEST(test_the_status_of_the_sink_is_the_callers),
		TEST(test_signal_event_answers_by_its_table),
		TEST(test_signals_come_from_memory_too),
		TEST(test_each_hypervisor_has_its_own_connections),
		TEST(test_quirks_pass_on_only_what_they_name),
		TEST_SOURCE(test_what_waits_can_be_dropped),
		TEST_SOURCE(test_sixteen_messages_wait_and_no_more),
		TEST_SOURCE(test_what_cannot_be_sent_takes_no_buffer),
		TEST_SOURCE(test_a_message_names_its_sender),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
