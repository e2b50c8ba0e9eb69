// SPDX-License-Identifier: MIT
/* Doorbells from a child's write to the parent's ring, and what a parent puts into a child's SynIC.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <sched.h>
#include <time.h>
#include <unistd.h>

#include "core/child_call_test.h"
#include "core/child_port.h"
#include "hvdef/intercept.h"

#define SIM_GPA	  0x10000ull
#define RING_GPA  0x18000ull /* a page for each VP */
#define SINT	  5u
#define VECTOR	  0xF3u
#define BELL_GPA  0xFEB00000ull
#define CHILD_SIM 0x5000ull /* of the child: nothing is there but the overlay */

/* The parent's SynICs as Linux's driver sets them up. */
static int setup(void **state)
{
	if (cc_setup(state) < 0)
		return -1;
	for (u32 i = 0; i < 2; i++) {
		struct vp *vp = cc.ct.vp[i];

		core_test_synic_on(vp, SIM_GPA + i * 2 * PAGE_BYTES);
		core_test_write(vp, HV_X64_MSR_SIRBP,
				(RING_GPA + i * PAGE_BYTES) | HV_MSR_PAGE_ENABLE);
		core_test_write(vp, HV_X64_MSR_SINT0, VECTOR);
		core_test_write(vp, HV_X64_MSR_SINT0 + SINT, VECTOR | HV_SINT_AS_INTERCEPT);
	}
	fake_forget(cc.ct.vm);
	return 0;
}

static struct hv_event_ring *ring(u32 vp)
{
	return (struct hv_event_ring *)(void *)(cc.ct.ram + RING_GPA + vp * PAGE_BYTES) + SINT;
}

static struct hv_message *slot(u32 vp)
{
	return (struct hv_message *)(void *)(cc.ct.ram + SIM_GPA + vp * 2 * PAGE_BYTES);
}

static struct hv_input_create_port port_input(u32 id)
{
	return (struct hv_input_create_port){
		.port_partition_id = cc.ct.p->id,
		.port_id = id,
		.connection_partition_id = cc.p->id,
		.info = { .port_type = HV_PORT_TYPE_DOORBELL,
			  .target_sint = SINT,
			  .target_vp = HV_ANY_VP },
	};
}

static struct hv_input_connect_port connect_input(u32 id, u64 flags)
{
	return (struct hv_input_connect_port){
		.connection_partition_id = cc.p->id,
		.connection_id = id,
		.port_partition_id = cc.ct.p->id,
		.port_id = id,
		.info = { .port_type = HV_PORT_TYPE_DOORBELL,
			  .gpa = BELL_GPA + id * 8,
			  .trigger_value = 0x55,
			  .flags = flags },
	};
}

static enum hv_status create(u32 id)
{
	struct hv_input_create_port in = port_input(id);

	return CC_CALL(HVCALL_CREATE_PORT, in);
}

static enum hv_status connect(u32 id, u64 flags)
{
	struct hv_input_connect_port in = connect_input(id, flags);

	return CC_CALL(HVCALL_CONNECT_PORT, in);
}

static enum hv_status disconnect(u32 id)
{
	const struct hv_input_disconnect_port in = { cc.p->id, id, HV_DISCONNECT_DOORBELL };

	return CC_CALL(HVCALL_DISCONNECT_PORT, in);
}

static enum hv_status delete_port(u32 id)
{
	const struct hv_input_delete_port in = { HV_PARTITION_ID_SELF, id };

	return CC_CALL(HVCALL_DELETE_PORT, in);
}

static enum hv_status ring_empty(u32 sint)
{
	const struct hv_input_notify_port_ring_empty in = { .sint_index = sint };

	return CC_CALL(HVCALL_NOTIFY_PORT_RING_EMPTY, in);
}

/* The eventfd of doorbell @id. */
static int bell(u32 id)
{
	assert_int_equal(create(id), HV_STATUS_SUCCESS);
	assert_int_equal(connect(id, HV_DOORBELL_ANY_VALUE), HV_STATUS_SUCCESS);
	return (int)fake_last(cc.p->vm, FAKE_IOEVENTFD).c;
}

/* What the engine does when the child writes, so often that the loop sees it as one. */
static void write_times(int fd, u64 times)
{
	assert_int_equal(write(fd, &times, sizeof(times)), sizeof(times));
}

static void write_to(int fd)
{
	write_times(fd, 1);
}

static bool soon(const u32 *word, u32 expected)
{
	for (u32 i = 0; i < 5000; i++) {
		if (__atomic_load_n(word, __ATOMIC_SEQ_CST) == expected)
			return true;
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	}
	return false;
}

static void test_a_write_rings_and_tells_once(void **state)
{
	int fd = bell(2); /* even: VP 0 */

	write_to(fd);
	assert_true(soon(&slot(0)->type, HV_MESSAGE_SINT_INTERCEPT));
	assert_int_equal(ring(0)->port[0], 2);
	assert_int_equal(ring(0)->signal_masked, 1);
	assert_int_equal(slot(0)->payload_bytes, 4);
	assert_int_equal(slot(0)->payload[0], SINT);
	assert_int_equal(fake_last(cc.ct.vm, FAKE_MSI).b, VECTOR);
	slot(0)->type = HV_MESSAGE_NONE;
	write_to(fd);
	assert_true(soon(&ring(0)->port[1], 2));
	assert_int_equal(slot(0)->type, HV_MESSAGE_NONE); /* the reader is not done */
}

static void test_numbers_spread_over_vps_that_listen(void **state)
{
	int fd = bell(3);

	write_to(fd);
	assert_true(soon(&ring(1)->port[0], 3));
	core_test_write(cc.ct.vp[1], HV_X64_MSR_SIRBP, RING_GPA + PAGE_BYTES);
	write_to(fd);
	assert_true(soon(&ring(0)->port[0], 3));
}

static void test_a_full_ring_is_refilled_when_asked(void **state)
{
	int fd[2] = { bell(2), bell(4) };

	for (u32 i = 0; i < HV_EVENT_RING_SLOTS; i++) {
		write_to(fd[0]);
		assert_true(soon(&ring(0)->port[i], 2));
	}
	write_times(fd[1], 3);
	for (u32 i = 0; i < 5000 && !__atomic_load_n(&ring(0)->ring_full, __ATOMIC_SEQ_CST); i++)
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	assert_int_equal(ring(0)->ring_full, 1);
	for (u32 i = 0; i < HV_EVENT_RING_SLOTS; i++)
		__atomic_store_n(&ring(0)->port[i], 0, __ATOMIC_SEQ_CST);
	assert_int_equal(ring_empty(SINT), HV_STATUS_SUCCESS);
	assert_int_equal(ring(0)->port[0], 4); /* once, however often it rang */
	assert_int_equal(ring(0)->port[1], 0);
	assert_int_equal(ring_empty(SINT), HV_STATUS_SUCCESS);
	assert_int_equal(ring(0)->port[1], 0);
	assert_int_equal(ring_empty(16), HV_STATUS_INVALID_PARAMETER);
}

static void test_what_triggers_goes_to_the_engine(void **state)
{
	struct fake_vm *vm = fake_vm(cc.p->vm);

	create(1);
	assert_int_equal(connect(1, 3), HV_STATUS_SUCCESS);
	assert_int_equal(fake_last(cc.p->vm, FAKE_IOEVENTFD).a, BELL_GPA + 8);
	assert_int_equal(vm->ioeventfd.size, 4);
	assert_false(vm->ioeventfd.any_value);
	assert_int_equal(vm->ioeventfd.match, 0x55);
	assert_int_equal(disconnect(1), HV_STATUS_SUCCESS);
	assert_int_equal(fake_last(cc.p->vm, FAKE_IOEVENTFD).b, false);
	assert_int_equal(vm->ioeventfd.match, 0x55); /* removed as it was added */
	assert_int_equal(connect(1, 4 | HV_DOORBELL_ANY_VALUE), HV_STATUS_SUCCESS);
	assert_int_equal(vm->ioeventfd.size, 8);
	assert_true(vm->ioeventfd.any_value);
	disconnect(1);
	assert_int_equal(connect(1, HV_DOORBELL_ANY_VALUE), HV_STATUS_SUCCESS);
	assert_int_equal(vm->ioeventfd.size, 0);
	disconnect(1);
	assert_int_equal(connect(1, 5 | HV_DOORBELL_ANY_VALUE), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(connect(1, 0), HV_STATUS_INVALID_PARAMETER);
	vm->ioeventfd_error = -EEXIST;
	assert_int_equal(connect(1, 1), HV_STATUS_OBJECT_IN_USE);
	vm->ioeventfd_error = -ENOSPC;
	assert_int_equal(connect(1, 1), HV_STATUS_NO_RESOURCES);
	vm->ioeventfd_error = 0;
	assert_int_equal(connect(1, 1), HV_STATUS_SUCCESS);
}

static void test_ports_have_owners_and_numbers(void **state)
{
	struct hv_input_create_port p = port_input(1);
	struct hv_input_connect_port c = connect_input(1, 1);

	p.port_partition_id = cc.p->id;
	assert_int_equal(CC_CALL(HVCALL_CREATE_PORT, p), HV_STATUS_ACCESS_DENIED);
	p = port_input(1);
	p.connection_partition_id = cc.ct.p->id;
	assert_int_equal(CC_CALL(HVCALL_CREATE_PORT, p), HV_STATUS_INVALID_PARTITION_ID);
	assert_int_equal(create(0), HV_STATUS_INVALID_PORT_ID);
	assert_int_equal(create(0x1000000), HV_STATUS_INVALID_PORT_ID);
	p = port_input(1);
	p.info.port_type = HV_PORT_TYPE_MESSAGE;
	assert_int_equal(CC_CALL(HVCALL_CREATE_PORT, p), HV_STATUS_INVALID_PARAMETER);
	p = port_input(1);
	p.info.target_sint = 16;
	assert_int_equal(CC_CALL(HVCALL_CREATE_PORT, p), HV_STATUS_INVALID_PARAMETER);
	p = port_input(1);
	p.info.target_vp = 2;
	assert_int_equal(CC_CALL(HVCALL_CREATE_PORT, p), HV_STATUS_INVALID_VP_INDEX);
	assert_int_equal(CC_CALL(HVCALL_CONNECT_PORT, c), HV_STATUS_INVALID_PORT_ID);
	assert_int_equal(delete_port(1), HV_STATUS_INVALID_PORT_ID);

	assert_int_equal(create(1), HV_STATUS_SUCCESS);
	assert_int_equal(create(1), HV_STATUS_INVALID_PORT_ID);
	assert_int_equal(disconnect(1), HV_STATUS_INVALID_CONNECTION_ID);
	c.port_partition_id = cc.p->id;
	assert_int_equal(CC_CALL(HVCALL_CONNECT_PORT, c), HV_STATUS_ACCESS_DENIED);
	c = connect_input(1, 1);
	c.connection_partition_id = cc.p->id + 1;
	assert_int_equal(CC_CALL(HVCALL_CONNECT_PORT, c), HV_STATUS_INVALID_PARTITION_ID);
	c = connect_input(1, 1);
	c.info.port_type = HV_PORT_TYPE_EVENT;
	assert_int_equal(CC_CALL(HVCALL_CONNECT_PORT, c), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(connect(1, 1), HV_STATUS_SUCCESS);
	assert_int_equal(connect(1, 1), HV_STATUS_OBJECT_IN_USE);
	create(2);
	c = connect_input(2, 1);
	c.connection_id = 1;
	assert_int_equal(CC_CALL(HVCALL_CONNECT_PORT, c), HV_STATUS_INVALID_CONNECTION_ID);
	assert_int_equal(delete_port(1), HV_STATUS_SUCCESS); /* with its connection */
	assert_int_equal(fake_last(cc.p->vm, FAKE_IOEVENTFD).b, false);
}

static void test_there_is_an_end_to_ports(void **state)
{
	u32 id = 1;

	while (create(id) == HV_STATUS_SUCCESS)
		id++;
	assert_int_equal(create(id), HV_STATUS_NO_RESOURCES);
	delete_port(1);
	assert_int_equal(create(id), HV_STATUS_SUCCESS);
}

static void test_a_child_that_ends_leaves_no_doorbell(void **state)
{
	bell(1);
	bell(2);
	assert_int_equal(cc_on_child(HVCALL_FINALIZE_PARTITION), HV_STATUS_SUCCESS);
	assert_int_equal(fake_count(cc.p->vm, FAKE_IOEVENTFD), 4);
	assert_int_equal(connect(1, 1), HV_STATUS_INVALID_PARTITION_STATE);
	assert_int_equal(disconnect(1), HV_STATUS_INVALID_CONNECTION_ID);
	assert_int_equal(cc_on_child(HVCALL_DELETE_PARTITION), HV_STATUS_SUCCESS);
	assert_int_equal(delete_port(1), HV_STATUS_SUCCESS);
}

static void test_a_new_kernel_reads_rings_from_the_start(void **state)
{
	int fd = bell(2);

	write_to(fd);
	assert_true(soon(&ring(0)->port[0], 2));
	core_test_write(cc.ct.vp[0], HV_X64_MSR_GUEST_OS_ID, 0);
	assert_int_equal(ring(0)->port[0], 0);
	write_to(fd);
	assert_true(soon(&ring(0)->port[0], 2));
}

/* The child's SynIC: its pages are overlays over nothing. */
static void child_synic_on(void)
{
	cc.p->config.privileges |= HV_PRIV_ACCESS_SYNIC_REGS;
	core_test_write(cc.vp[0], HV_X64_MSR_SIMP, CHILD_SIM | HV_MSR_PAGE_ENABLE);
	core_test_write(cc.vp[0], HV_X64_MSR_SIEFP, (CHILD_SIM + PAGE_BYTES) | HV_MSR_PAGE_ENABLE);
	core_test_write(cc.vp[0], HV_X64_MSR_SCONTROL, HV_SCONTROL_ENABLE);
	core_test_write(cc.vp[0], HV_X64_MSR_SINT0 + 2, 0x40);
	fake_forget(cc.p->vm);
}

static enum hv_status post_direct(u32 sint, u32 type, u8 bytes)
{
	struct hv_input_post_message_direct in = { .partition_id = cc.p->id, .sint = sint };
	const struct hv_message m = {
		.type = type, .payload_bytes = bytes, .sender = 9, .payload = { 0xAB }
	};

	memcpy(in.message, &m, sizeof(m));
	return CC_CALL(HVCALL_POST_MESSAGE_DIRECT, in);
}

static struct hv_message *child_slot(u32 sint)
{
	return (struct hv_message *)(void *)cc.vp[0]->synic.simp_page.page + sint;
}

static void test_a_direct_message_needs_a_free_slot(void **state)
{
	assert_int_equal(post_direct(2, 1, 8), HV_STATUS_INVALID_SYNIC_STATE);
	child_synic_on();
	assert_int_equal(post_direct(2, 1, 8), HV_STATUS_SUCCESS);
	assert_int_equal(child_slot(2)->type, 1);
	assert_int_equal(child_slot(2)->payload[0], 0xAB);
	assert_int_equal(fake_last(cc.p->vm, FAKE_MSI).b, 0x40);
	assert_int_equal(post_direct(2, 1, 8), HV_STATUS_OBJECT_IN_USE);
	assert_int_equal(post_direct(16, 1, 8), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(post_direct(3, 0, 8), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(post_direct(3, 1, 241), HV_STATUS_INVALID_PARAMETER);
}

static void test_a_parent_is_told_when_the_slot_is_free(void **state)
{
	child_synic_on();
	post_direct(2, 1, 8);
	assert_int_equal(child_deliverability_set(cc.vp[0], BIT64(48 + 2) | BIT64(48 + 3)),
			 HV_STATUS_SUCCESS);
	assert_true(synic_notify_wanted(&cc.vp[0]->synic));
	assert_int_equal(synic_take_deliverable(&cc.vp[0]->synic), BIT(3));
	assert_int_equal(child_slot(2)->flags, HV_MESSAGE_FLAG_PENDING); /* an EOM will come */
	assert_int_equal(child_deliverability_get(cc.vp[0]), BIT64(48 + 2));
	assert_int_equal(synic_take_deliverable(&cc.vp[0]->synic), 0);
	child_slot(2)->type = HV_MESSAGE_NONE;
	assert_int_equal(synic_take_deliverable(&cc.vp[0]->synic), BIT(2));
	assert_false(synic_notify_wanted(&cc.vp[0]->synic));
	assert_int_equal(child_deliverability_set(cc.vp[0], 1), HV_STATUS_INVALID_PARAMETER);
}

static enum hv_status signal_direct(u8 sint, u16 flag, u32 vp)
{
	const struct hv_input_signal_event_direct in = {
		.partition_id = cc.p->id, .vp_index = vp, .sint = sint, .flag_number = flag
	};

	return CC_CALL(HVCALL_SIGNAL_EVENT_DIRECT, in);
}

static bool newly(void)
{
	return ((struct hv_output_signal_event_direct *)cc_out())->newly_signaled;
}

static void test_a_direct_signal_says_whether_it_is_new(void **state)
{
	assert_int_equal(signal_direct(2, 7, 0), HV_STATUS_SUCCESS); /* nobody listens */
	assert_false(newly());
	child_synic_on();
	assert_int_equal(signal_direct(2, 7, 0), HV_STATUS_SUCCESS);
	assert_true(newly());
	assert_int_equal(fake_count(cc.p->vm, FAKE_MSI), 1);
	assert_int_equal(cc.vp[0]->synic.siefp_page.page[2 * HV_EVENT_FLAGS_BYTES], BIT(7));
	assert_int_equal(signal_direct(2, 7, 0), HV_STATUS_SUCCESS);
	assert_false(newly());
	assert_int_equal(fake_count(cc.p->vm, FAKE_MSI), 1);
	assert_int_equal(signal_direct(16, 7, 0), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(signal_direct(2, 2048, 0), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(signal_direct(2, 7, 9), HV_STATUS_INVALID_VP_INDEX);
}

static enum hv_status install(u32 type, u32 access)
{
	const struct hv_input_install_intercept in = { cc.p->id, access, type, 0 };

	return CC_CALL(HVCALL_INSTALL_INTERCEPT, in);
}

/* A call of the child's VP 0 with a fast input. */
static enum vp_fault child_call(u64 code)
{
	const struct hypercall_regs regs = { code | HV_HYPERCALL_FAST, 5, 0, true };
	u64 result;

	return hypercall_execute(cc.vp[0], &regs, &result);
}

static void test_intercepted_calls_are_the_parents(void **state)
{
	cc.p->config.privileges |= HV_PRIV_SIGNAL_EVENTS | HV_PRIV_POST_MESSAGES;
	assert_int_equal(child_call(HVCALL_SIGNAL_EVENT), VP_OK);
	assert_int_equal(install(HV_INTERCEPT_TYPE_UNKNOWN_SYNIC_CONNECTION, 4), HV_STATUS_SUCCESS);
	assert_int_equal(child_call(HVCALL_SIGNAL_EVENT), VP_INTERCEPTED);
	assert_int_equal(child_call(HVCALL_NOTIFY_LONG_SPIN_WAIT), VP_OK); /* served here */
	assert_int_equal(install(HV_INTERCEPT_TYPE_UNKNOWN_SYNIC_CONNECTION, 0), HV_STATUS_SUCCESS);
	assert_int_equal(child_call(HVCALL_SIGNAL_EVENT), VP_OK);
	assert_int_equal(install(HV_INTERCEPT_TYPE_HYPERCALL, 4), HV_STATUS_SUCCESS);
	assert_int_equal(child_call(HVCALL_SIGNAL_EVENT), VP_INTERCEPTED);
	assert_int_equal(install(HV_INTERCEPT_TYPE_X64_APIC_EOI, 2), HV_STATUS_SUCCESS);
}

#undef CC_TEST
#define CC_TEST(f) cmocka_unit_test_setup_teardown(f, setup, cc_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CC_TEST(test_a_write_rings_and_tells_once),
		CC_TEST(test_numbers_spread_over_vps_that_listen),
		CC_TEST(test_a_full_ring_is_refilled_when_asked),
		CC_TEST(test_what_triggers_goes_to_the_engine),
		CC_TEST(test_ports_have_owners_and_numbers),
		CC_TEST(test_there_is_an_end_to_ports),
		CC_TEST(test_a_child_that_ends_leaves_no_doorbell),
		CC_TEST(test_a_new_kernel_reads_rings_from_the_start),
		CC_TEST(test_a_direct_message_needs_a_free_slot),
		CC_TEST(test_a_parent_is_told_when_the_slot_is_free),
		CC_TEST(test_a_direct_signal_says_whether_it_is_new),
		CC_TEST(test_intercepted_calls_are_the_parents),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
