// SPDX-License-Identifier: MIT
/* Which timers the engine gets, and that none is lost on the way. Times are 100 ns units. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/core_test.h"
#include "hvdef/vp_regs.h"

#define CONFIG(n) (HV_X64_MSR_STIMER0_CONFIG + 2 * (n))
#define COUNT(n)  (HV_X64_MSR_STIMER0_COUNT + 2 * (n))
#define VECTOR	  0xED
#define DIRECT	  (HV_STIMER_DIRECT | (u64)VECTOR << 4)
#define LINUXS	  (DIRECT | HV_STIMER_AUTO_ENABLE | HV_STIMER_ENABLE)
#define SINT	  4
#define SIM_GPA	  0x10000ull

static struct core_test ct;

static int teardown(void **state)
{
	core_test_destroy(&ct);
	return 0;
}

static int setup(void **state)
{
	const struct core_test_config cfg = { .vps = 2, .lends_timers = true };

	core_test_create(&ct, &cfg);
	core_test_synic_on(ct.vp[0], SIM_GPA);
	core_test_write(ct.vp[0], HV_X64_MSR_SINT0 + SINT, 0x50);
	return 0;
}

static u64 engines(u32 vp, u32 msr)
{
	u64 value;

	assert_int_equal(ct.vm->ops->vcpu_get_msr(ct.vcpu[vp], msr, &value), 0);
	return value;
}

/* As a guest does without an exit, and as the engine does when a timer is due. */
static void engines_set(u32 vp, u32 msr, u64 value)
{
	assert_int_equal(ct.vm->ops->vcpu_set_msr(ct.vcpu[vp], msr, value), 0);
}

static u32 fired(void)
{
	return fake_count(ct.vm, FAKE_MSI);
}

/* What Linux does when a processor comes: its timer is on from the first count. */
static void linux_begins(u32 vp)
{
	core_test_write(ct.vp[vp], CONFIG(0), LINUXS);
}

static void test_a_timer_of_linux_is_the_engines(void **state)
{
	linux_begins(0);
	assert_int_equal(fake_last(ct.vm, FAKE_TIMERS).a, 1);
	assert_int_equal(fake_last(ct.vm, FAKE_TIMERS).b, ct.clock.scale);
	assert_int_equal(fake_last(ct.vm, FAKE_TIMERS).c, ct.clock.offset);
	assert_int_equal(engines(0, CONFIG(0)), LINUXS & ~HV_STIMER_ENABLE);
	core_test_write(ct.vp[0], COUNT(0), 500); /* it exits all the same: on another VP, say */
	assert_int_equal(engines(0, COUNT(0)), 500);
	assert_int_equal(engines(0, CONFIG(0)), LINUXS);
	core_test_advance(&ct, 10000);
	assert_int_equal(fired(), 0);
	assert_int_equal(fake_count(ct.vm, FAKE_TIMERS), 1);
}

static void test_a_guest_reads_what_the_engine_has(void **state)
{
	linux_begins(0);
	engines_set(0, COUNT(0), 700);
	engines_set(0, CONFIG(0), LINUXS);
	assert_int_equal(core_test_read(ct.vp[0], COUNT(0)), 700);
	assert_int_equal(core_test_read(ct.vp[0], CONFIG(0)), LINUXS);
	engines_set(0, CONFIG(0), LINUXS & ~HV_STIMER_ENABLE); /* it was due */
	assert_int_equal(core_test_read(ct.vp[0], CONFIG(0)), LINUXS & ~HV_STIMER_ENABLE);
	assert_int_equal(engines(0, COUNT(0)), 700);
}

static void test_counts_before_the_first_configuration_count(void **state)
{
	core_test_write(ct.vp[1], COUNT(2), 900);
	linux_begins(0);
	core_test_write(ct.vp[1], CONFIG(2), DIRECT | HV_STIMER_ENABLE);
	assert_int_equal(engines(1, COUNT(2)), 900);
	assert_int_equal(engines(1, CONFIG(2)), DIRECT | HV_STIMER_ENABLE);
	core_test_write(ct.vp[1], COUNT(3), 40);
	engines_set(1, COUNT(3), 50); /* no exit any more */
	core_test_write(ct.vp[1], CONFIG(3), DIRECT | HV_STIMER_ENABLE);
	assert_int_equal(engines(1, COUNT(3)), 50);
}

/* Not the engine's: all timers of the partition are done here from then on. */
static void check_ends(u64 config)
{
	linux_begins(1);
	engines_set(1, COUNT(0), 5000);
	engines_set(1, CONFIG(0), LINUXS);
	core_test_write(ct.vp[0], COUNT(1), 1000);
	core_test_write(ct.vp[0], CONFIG(1), config | HV_STIMER_ENABLE);
	assert_int_equal(fake_last(ct.vm, FAKE_TIMERS).a, 0);
	assert_int_equal(engines(0, CONFIG(1)), 0);
	assert_int_equal(core_test_read(ct.vp[0], CONFIG(1)), config | HV_STIMER_ENABLE);
	core_test_advance(&ct, 1001);
	assert_int_equal(fired(), 1);
	/* The other VP's goes on where it is, until the guest comes for it. */
	assert_int_equal(engines(1, CONFIG(0)), LINUXS);
	core_test_write(ct.vp[1], COUNT(0), 4000);
	assert_int_equal(engines(1, CONFIG(0)), 0);
	core_test_write(ct.vp[0], CONFIG(1), 0);
	core_test_advance(&ct, 3000);
	assert_int_equal(fired(), 2);
	linux_begins(0);
	assert_int_equal(engines(0, CONFIG(0)), 0);
}

static void test_a_timer_that_sends_messages_ends_it(void **state)
{
	check_ends((u64)SINT << 16);
}

static void test_a_periodic_timer_ends_it(void **state)
{
	check_ends(DIRECT | HV_STIMER_PERIODIC);
}

static void test_one_that_is_taken_back_late_fires(void **state)
{
	linux_begins(1);
	engines_set(1, COUNT(0), 100);
	engines_set(1, CONFIG(0), LINUXS);
	core_test_advance(&ct, 200); /* the engine has not come to it */
	core_test_write(ct.vp[1], CONFIG(1), 3 << 16);
	timer_service_run(ct.timers);
	assert_int_equal(fired(), 1);
	assert_int_equal(core_test_read(ct.vp[1], CONFIG(0)), LINUXS & ~HV_STIMER_ENABLE);
}

static void test_an_engine_without_the_clock_gets_none(void **state)
{
	fake_vm(ct.vm)->timers_error = -EOPNOTSUPP;
	linux_begins(0);
	core_test_write(ct.vp[0], COUNT(0), 500);
	assert_int_equal(engines(0, CONFIG(0)), 0);
	core_test_advance(&ct, 501);
	assert_int_equal(fired(), 1);
	assert_int_equal(fake_last(ct.vm, FAKE_TIMERS).a, 0);
	linux_begins(1);
	assert_int_equal(fake_count(ct.vm, FAKE_TIMERS), 2);
}

static void test_a_host_that_keeps_them_stops_the_partition(void **state)
{
	linux_begins(0);
	fake_vm(ct.vm)->timers_end_error = -ENOMEM;
	core_test_write(ct.vp[0], CONFIG(1), 3 << 16);
	assert_int_equal(partition_stop_reason(ct.p), STOP_HOST_ERROR);
}

static void test_a_trace_sees_all(void **state)
{
	teardown(state);
	assert_int_equal(trace_start("/dev/null"), 0);
	setup(state);
	linux_begins(0);
	core_test_write(ct.vp[0], COUNT(0), 500);
	assert_int_equal(trace_stop(), 0);
	assert_int_equal(engines(0, CONFIG(0)), 0);
	assert_int_equal(fake_count(ct.vm, FAKE_TIMERS), 0);
	core_test_advance(&ct, 501);
	assert_int_equal(fired(), 1);
}

static void test_a_refused_value_changes_nothing(void **state)
{
	linux_begins(0);
	engines_set(0, COUNT(0), 700);
	engines_set(0, CONFIG(0), LINUXS);
	assert_int_equal(msr_write(ct.vp[0], CONFIG(0), HV_STIMER_DIRECT | 3 << 4), VP_FAULT_GP);
	assert_int_equal(engines(0, CONFIG(0)), LINUXS);
	assert_int_equal(engines(0, COUNT(0)), 700);
}

static void test_a_reset_reaches_the_engine(void **state)
{
	linux_begins(0);
	engines_set(0, COUNT(0), 700);
	engines_set(0, CONFIG(0), LINUXS);
	vp_reset(ct.vp[0]);
	assert_int_equal(engines(0, CONFIG(0)), 0);
	assert_int_equal(engines(0, COUNT(0)), 0);
	core_test_advance(&ct, 10000);
	assert_int_equal(fired(), 0);
}

/* Its parent stops its time, or gives it another. */
static void test_a_stopped_clock_begins_anew(void **state)
{
	linux_begins(0);
	engines_set(0, COUNT(0), 700);
	engines_set(0, CONFIG(0), LINUXS);
	stimers_clock_stops(ct.p);
	refclock_freeze(&ct.clock);
	assert_int_equal(engines(0, CONFIG(0)), 0);
	assert_int_equal(core_test_read(ct.vp[0], COUNT(0)), 700);
	assert_int_equal(engines(0, COUNT(0)), 700); /* what is left there does nothing */
	refclock_set_100ns(&ct.clock, 123456);
	assert_int_equal(refclock_thaw(&ct.clock), 0);
	stimers_lend(ct.vp[0]);
	assert_int_equal(engines(0, CONFIG(0)), LINUXS);
	assert_int_equal(fake_count(ct.vm, FAKE_TIMERS), 2);
	assert_int_equal(fake_last(ct.vm, FAKE_TIMERS).c, ct.clock.offset);
}

/* KVM may count from elsewhere once a VM has one more vCPU. */
static void test_the_clock_is_set_again_for_another_vp(void **state)
{
	linux_begins(0);
	linux_begins(0);
	assert_int_equal(fake_count(ct.vm, FAKE_TIMERS), 1);
	stimers_clock_changes(ct.p);
	linux_begins(1);
	assert_int_equal(fake_count(ct.vm, FAKE_TIMERS), 2);
	assert_int_equal(fake_last(ct.vm, FAKE_TIMERS).a, 1);
}

/* Another VP's is the engine's, which has it while that one runs. */
static void test_another_vps_is_out_of_reach(void **state)
{
	struct {
		struct hv_input_vp_registers in;
		u32 name;
	} get = { .in = { .partition_id = HV_PARTITION_ID_SELF, .vp_index = 1 },
		  .name = HvRegisterStimer0Config + 1 };
	u64 control = HVCALL_GET_VP_REGISTERS | 1ull << 32;

	core_test_write(ct.vp[0], HV_X64_MSR_GUEST_OS_ID, TEST_OS_ID);
	assert_int_equal(core_test_call(&ct, 0, control, &get, sizeof(get), 0x20000, 0x21000),
			 HV_STATUS_INVALID_VP_STATE);
	get.in.vp_index = 0;
	assert_int_equal(core_test_call(&ct, 0, control, &get, sizeof(get), 0x20000, 0x21000),
			 HV_STATUS_SUCCESS);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_timer_of_linux_is_the_engines),
		TEST(test_a_guest_reads_what_the_engine_has),
		TEST(test_counts_before_the_first_configuration_count),
		TEST(test_a_timer_that_sends_messages_ends_it),
		TEST(test_a_periodic_timer_ends_it),
		TEST(test_one_that_is_taken_back_late_fires),
		TEST(test_an_engine_without_the_clock_gets_none),
		TEST(test_a_host_that_keeps_them_stops_the_partition),
		TEST(test_a_trace_sees_all),
		TEST(test_a_refused_value_changes_nothing),
		TEST(test_a_reset_reaches_the_engine),
		TEST(test_a_stopped_clock_begins_anew),
		TEST(test_the_clock_is_set_again_for_another_vp),
		TEST(test_another_vps_is_out_of_reach),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
