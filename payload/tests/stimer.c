// SPDX-License-Identifier: MIT
/* Synthetic timers and the messages they send. TLFS: timers, inter-partition-communication. */
#include "payload/payload.h"

#define SINT	    4
#define SINT_VECTOR 0x41
#define DIRECT	    0x42
#define MS	    10000ull /* in 100 ns */
#define SECOND	    (1000 * MS)
#define SECOND_US   1000000

static volatile struct hv_message messages[HV_SYNIC_SINT_COUNT]
	__attribute__((aligned(PAGE_BYTES)));

#define CONFIG(t) (HV_X64_MSR_STIMER0_CONFIG + 2 * (t))
#define COUNT(t)  (HV_X64_MSR_STIMER0_COUNT + 2 * (t))

#define SINT_CONFIG   ((u64)SINT << 16)
#define DIRECT_CONFIG (HV_STIMER_DIRECT | (u64)DIRECT << 4)

static void synic_setup(void)
{
	wrmsr(HV_X64_MSR_SIMP, (u64)messages | HV_MSR_PAGE_ENABLE);
	wrmsr(HV_X64_MSR_SINT0 + SINT, SINT_VECTOR);
	wrmsr(HV_X64_MSR_SCONTROL, HV_SCONTROL_ENABLE);
}

static void timers_stop(void)
{
	for (u32 t = 0; t < HV_SYNIC_STIMER_COUNT; t++) {
		wrmsr(CONFIG(t), 0);
		wrmsr(COUNT(t), 0);
	}
	messages[SINT].type = 0;
	wrmsr(HV_X64_MSR_EOM, 0);
	irq_wait(SINT_VECTOR, ~0ull, 2000);
	messages[SINT].type = 0;
	wrmsr(HV_X64_MSR_EOM, 0);
}

static void test_message_one_shot(void)
{
	const volatile struct hv_timer_message_payload *p =
		(const volatile void *)messages[SINT].payload;
	u64 came = irq_count(SINT_VECTOR), due = ref_time() + 5 * MS, now;

	wrmsr(COUNT(1), due);
	wrmsr(CONFIG(1), SINT_CONFIG | HV_STIMER_ENABLE);
	ok(irq_wait(SINT_VECTOR, came + 1, SECOND_US), "one-shot: the SINT's vector comes");
	now = ref_time();
	ok_eq(messages[SINT].type, HV_MESSAGE_TIMER_EXPIRED, "one-shot: a timer message");
	ok_eq(messages[SINT].payload_bytes, sizeof(*p), "one-shot: payload of 24 bytes");
	ok_eq(p->timer_index, 1, "one-shot: the timer's index");
	ok_eq(p->expiration_time, due, "one-shot: the time it was set to");
	ok(p->delivery_time >= due && p->delivery_time <= now, "one-shot: delivered in time");
	ok(!(rdmsr(CONFIG(1)) & HV_STIMER_ENABLE), "one-shot: it is disabled when it has fired");
	ok(!irq_wait(SINT_VECTOR, came + 2, 20000), "one-shot: and fires only once");
	timers_stop();
}

static void test_pending(void)
{
	u64 came = irq_count(SINT_VECTOR);
	u32 first;

	/* Two timers, one slot: the second message waits for EOM. */
	wrmsr(COUNT(0), ref_time() + MS);
	wrmsr(CONFIG(0), SINT_CONFIG | HV_STIMER_ENABLE);
	wrmsr(COUNT(2), ref_time() + 2 * MS);
	wrmsr(CONFIG(2), SINT_CONFIG | HV_STIMER_ENABLE);
	irq_wait(SINT_VECTOR, came + 1, SECOND_US);
	for (u32 i = 0; i < 1000 && !(messages[SINT].flags & HV_MESSAGE_FLAG_PENDING); i++)
		delay_us(1000);
	ok_eq(messages[SINT].type, HV_MESSAGE_TIMER_EXPIRED, "queue: the first message is there");
	ok(messages[SINT].flags & HV_MESSAGE_FLAG_PENDING, "queue: it says that more is pending");
	first = *(const volatile u32 *)messages[SINT].payload;
	came = irq_count(SINT_VECTOR);
	messages[SINT].type = HV_MESSAGE_NONE;
	wrmsr(HV_X64_MSR_EOM, 0);
	ok(irq_wait(SINT_VECTOR, came + 1, SECOND_US), "queue: EOM brings the next");
	ok_eq(messages[SINT].type, HV_MESSAGE_TIMER_EXPIRED, "queue: a message again");
	ok_eq(*(const volatile u32 *)messages[SINT].payload, 2 - first,
	      "queue: of the other timer");
	ok(!(messages[SINT].flags & HV_MESSAGE_FLAG_PENDING), "queue: and no more");
	timers_stop();
}

static void test_message_needs_a_sint(void)
{
	wrmsr(COUNT(0), ref_time() + MS);
	wrmsr(CONFIG(0), HV_STIMER_ENABLE);
	ok(!(rdmsr(CONFIG(0)) & HV_STIMER_ENABLE), "message mode with SINT 0 does not enable");
	timers_stop();
}

static void test_masked_sint_polls(void)
{
	u64 came = irq_count(SINT_VECTOR);

	wrmsr(HV_X64_MSR_SINT0 + SINT, HV_SINT_MASKED | SINT_VECTOR);
	wrmsr(COUNT(0), ref_time() + MS);
	wrmsr(CONFIG(0), SINT_CONFIG | HV_STIMER_ENABLE);
	irq_wait(SINT_VECTOR, came + 1, 20000);
	ok_eq(irq_count(SINT_VECTOR), came, "masked SINT: no interrupt");
	wrmsr(HV_X64_MSR_SINT0 + SINT, SINT_VECTOR);
	timers_stop();
}

static void test_periodic_message(void)
{
	u64 came = irq_count(SINT_VECTOR), seen = 0, start = ref_time(), took;

	wrmsr(COUNT(3), 10 * MS);
	wrmsr(CONFIG(3), SINT_CONFIG | HV_STIMER_PERIODIC | HV_STIMER_ENABLE);
	while (seen < 5 && irq_wait(SINT_VECTOR, came + seen + 1, SECOND_US)) {
		seen++;
		messages[SINT].type = HV_MESSAGE_NONE;
		wrmsr(HV_X64_MSR_EOM, 0);
	}
	took = ref_time() - start;
	ok_eq(seen, 5, "periodic: five messages come");
	ok(took >= 45 * MS && took < 1000 * MS, "periodic: in about 50 ms (%llu us)",
	   (unsigned long long)took / 10);
	ok(rdmsr(CONFIG(3)) & HV_STIMER_ENABLE, "periodic: it stays enabled");
	timers_stop();
	came = irq_count(SINT_VECTOR);
	irq_wait(SINT_VECTOR, came + 1, 30000);
	ok_eq(irq_count(SINT_VECTOR), came, "periodic: disabled, it stops");
}

static void test_direct(void)
{
	u64 came = irq_count(DIRECT), due;

	if (!hv_feature(HV_FEATURE_STIMER_DIRECT)) {
		skip("not offered", "direct mode");
		return;
	}
	due = ref_time() + 3 * MS;
	wrmsr(COUNT(0), due);
	wrmsr(CONFIG(0), DIRECT_CONFIG | HV_STIMER_ENABLE);
	ok(irq_count(DIRECT) == came || ref_time() >= due, "direct: not before its time");
	ok(irq_wait(DIRECT, came + 1, SECOND_US), "direct: the timer's own vector comes");
	ok(ref_time() >= due, "direct: and not early");
	ok_eq(messages[SINT].type, HV_MESSAGE_NONE, "direct: without a message");
	ok(!irq_wait(DIRECT, came + 2, 20000), "direct: once");
	timers_stop();
}

/* What Linux does: enabled once, then each write of the count arms it. */
static void test_auto_enable(void)
{
	u64 came = irq_count(DIRECT);
	u64 config = DIRECT_CONFIG | HV_STIMER_AUTO_ENABLE;

	if (!hv_feature(HV_FEATURE_STIMER_DIRECT)) {
		skip("not offered", "auto-enable");
		return;
	}
	wrmsr(COUNT(0), 0);
	wrmsr(CONFIG(0), config);
	for (u32 i = 1; i <= 3; i++) {
		wrmsr(COUNT(0), ref_time() + 10 * SECOND); /* not while it is looked at */
		ok(rdmsr(CONFIG(0)) & HV_STIMER_ENABLE, "auto-enable: writing the count enables");
		wrmsr(COUNT(0), ref_time() + 2 * MS);
		ok(irq_wait(DIRECT, came + i, SECOND_US), "auto-enable: shot %u comes", i);
		ok(!(rdmsr(CONFIG(0)) & HV_STIMER_ENABLE), "auto-enable: disabled after the shot");
	}
	wrmsr(COUNT(0), ref_time() + 10 * SECOND);
	wrmsr(COUNT(0), 0);
	ok(!(rdmsr(CONFIG(0)) & HV_STIMER_ENABLE), "auto-enable: count 0 disables");
	ok(!irq_wait(DIRECT, came + 4, 20000), "auto-enable: and nothing comes");
	timers_stop();
}

static void test_past(void)
{
	u64 came = irq_count(DIRECT);

	if (!hv_feature(HV_FEATURE_STIMER_DIRECT)) {
		skip("not offered", "expiry in the past");
		return;
	}
	wrmsr(COUNT(0), 1);
	wrmsr(CONFIG(0), DIRECT_CONFIG | HV_STIMER_ENABLE);
	ok(irq_wait(DIRECT, came + 1, SECOND_US), "an expiry in the past fires at once");
	timers_stop();
}

static void test_lazy_periodic(void)
{
	u64 came = irq_count(DIRECT), ticks;

	if (!hv_feature(HV_FEATURE_STIMER_DIRECT)) {
		skip("not offered", "lazy");
		return;
	}
	wrmsr(COUNT(0), 5 * MS);
	wrmsr(CONFIG(0), DIRECT_CONFIG | HV_STIMER_PERIODIC | HV_STIMER_LAZY | HV_STIMER_ENABLE);
	irq_wait(DIRECT, ~0ull, 100000);
	ticks = irq_count(DIRECT) - came;
	ok(ticks >= 1 && ticks <= 22, "lazy: ticks may be late or left out, never too many (%llu)",
	   (unsigned long long)ticks);
	timers_stop();
}

static void test_bad_vector(void)
{
	if (!hv_feature(HV_FEATURE_STIMER_DIRECT)) {
		skip("not offered", "direct vector below 16");
		return;
	}
	ok(wrmsr_faults(CONFIG(0), HV_STIMER_DIRECT | 3 << 4 | HV_STIMER_ENABLE),
	   "direct: a vector below 16 is #GP");
	timers_stop();
}

/* KVM may have those of one shot, until there is one that it cannot have: none gets lost. */
static void test_one_waits_while_another_begins(void)
{
	u64 came = irq_count(DIRECT), due;

	if (!hv_feature(HV_FEATURE_STIMER_DIRECT)) {
		skip("not offered", "one waits");
		return;
	}
	due = ref_time() + 30 * MS;
	wrmsr(COUNT(2), due);
	wrmsr(CONFIG(2), DIRECT_CONFIG | HV_STIMER_ENABLE);
	wrmsr(COUNT(1), 1000000 * MS);
	wrmsr(CONFIG(1), SINT_CONFIG | HV_STIMER_PERIODIC | HV_STIMER_ENABLE);
	ok_eq(rdmsr(COUNT(2)), due, "one waits: its count is what it was");
	ok(irq_wait(DIRECT, came + 1, SECOND_US), "one waits: it comes");
	ok(ref_time() >= due, "one waits: not before its time");
	ok(!irq_wait(DIRECT, came + 2, 20000), "one waits: once");
	timers_stop();
}

static void test_shots(void)
{
	test_direct();
	test_auto_enable();
	test_past();
}

void test_main(void)
{
	synic_setup();
	test_shots();
	test_one_waits_while_another_begins();
	test_message_one_shot();
	test_pending();
	test_message_needs_a_sint();
	test_masked_sint_polls();
	test_periodic_message();
	test_shots();
	test_lazy_periodic();
	test_bad_vector();
}
