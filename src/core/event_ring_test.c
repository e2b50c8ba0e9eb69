// SPDX-License-Identifier: MIT
/* The ring with a reader as Linux's driver is one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <string.h>

#include "core/event_ring.h"

static struct hv_event_ring ring;
static u32 head, tail, asked;

static int setup(void **state)
{
	memset(&ring, 0, sizeof(ring));
	head = tail = asked = 0;
	return 0;
}

/* The next port, 0: none, and the reader sleeps until it is signalled. */
static u32 take(void)
{
	u32 port = __atomic_load_n(&ring.port[tail], __ATOMIC_SEQ_CST);

	if (!port && __atomic_load_n(&ring.ring_full, __ATOMIC_SEQ_CST)) {
		__atomic_store_n(&ring.ring_full, 0, __ATOMIC_SEQ_CST);
		__atomic_fetch_add(&asked, 1, __ATOMIC_SEQ_CST);
		port = __atomic_load_n(&ring.port[tail], __ATOMIC_SEQ_CST);
	}
	if (!port) {
		__atomic_store_n(&ring.signal_masked, 0, __ATOMIC_SEQ_CST);
		port = __atomic_load_n(&ring.port[tail], __ATOMIC_SEQ_CST);
		if (!port)
			return 0;
		__atomic_store_n(&ring.signal_masked, 1, __ATOMIC_SEQ_CST);
	}
	__atomic_store_n(&ring.port[tail], 0, __ATOMIC_SEQ_CST);
	tail = (tail + 1) % HV_EVENT_RING_SLOTS;
	return port;
}

static void test_one_signal_until_the_reader_is_done(void **state)
{
	assert_int_equal(event_ring_put(&ring, &head, 7), EVENT_RING_SIGNAL);
	assert_int_equal(event_ring_put(&ring, &head, 8), EVENT_RING_QUIET);
	assert_int_equal(take(), 7);
	assert_int_equal(take(), 8);
	assert_int_equal(take(), 0);
	assert_int_equal(event_ring_put(&ring, &head, 9), EVENT_RING_SIGNAL);
	assert_int_equal(take(), 9);
}

static void test_a_full_ring_says_so_and_wraps(void **state)
{
	for (u32 round = 0; round < 3; round++) {
		for (u32 i = 0; i < HV_EVENT_RING_SLOTS; i++)
			assert_int_not_equal(event_ring_put(&ring, &head, i + 1), EVENT_RING_FULL);
		assert_int_equal(event_ring_put(&ring, &head, 99), EVENT_RING_FULL);
		assert_int_equal(ring.ring_full, 1);
		for (u32 i = 0; i < HV_EVENT_RING_SLOTS; i++)
			assert_int_equal(take(), i + 1);
		assert_int_equal(take(), 0);
		assert_int_equal(asked, round + 1);
	}
}

static void test_a_signal_that_was_not_sent_comes_with_the_next(void **state)
{
	assert_int_equal(event_ring_put(&ring, &head, 7), EVENT_RING_SIGNAL);
	event_ring_untold(&ring);
	assert_int_equal(event_ring_put(&ring, &head, 8), EVENT_RING_SIGNAL);
}

static void test_a_cleared_ring_is_where_the_reader_is(void **state)
{
	event_ring_put(&ring, &head, 1);
	take();
	for (u32 i = 0; i < HV_EVENT_RING_SLOTS + 1; i++)
		event_ring_put(&ring, &head, 2);
	event_ring_clear(&ring, &head);
	assert_int_equal(head, tail);
	assert_int_equal(ring.ring_full, 0);
	assert_int_equal(ring.signal_masked, 0);
	assert_int_equal(event_ring_put(&ring, &head, 3), EVENT_RING_SIGNAL);
	assert_int_equal(take(), 3);
}

static void test_whatever_the_page_holds_the_head_stays_in_it(void **state)
{
	memset(&ring, 0xFF, sizeof(ring));
	assert_int_equal(event_ring_put(&ring, &head, 1), EVENT_RING_FULL);
	event_ring_clear(&ring, &head);
	assert_in_range(head, 0, HV_EVENT_RING_SLOTS - 1);
}

#define EVENTS 200000u

static u32 signals; /* atomic */

static void *reader(void *arg)
{
	u32 expected = 1;

	while (expected <= EVENTS) {
		u32 port;

		if (!__atomic_exchange_n(&signals, 0, __ATOMIC_SEQ_CST))
			continue;
		while ((port = take()))
			if (port != expected++)
				return "out of order";
	}
	return NULL;
}

/* Nothing is lost, though both sides look and sleep when they like. */
static void test_reader_and_writer_at_once(void **state)
{
	void *error = NULL;
	pthread_t thread;

	signals = 0;
	assert_int_equal(pthread_create(&thread, NULL, reader, NULL), 0);
	for (u32 i = 1; i <= EVENTS; i++) {
		enum event_ring_result r;

		while ((r = event_ring_put(&ring, &head, i)) == EVENT_RING_FULL)
			;
		if (r == EVENT_RING_SIGNAL)
			__atomic_store_n(&signals, 1, __ATOMIC_SEQ_CST);
	}
	pthread_join(thread, &error);
	assert_null(error);
}

#define TEST(f) cmocka_unit_test_setup(f, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_one_signal_until_the_reader_is_done),
		TEST(test_a_full_ring_says_so_and_wraps),
		TEST(test_a_signal_that_was_not_sent_comes_with_the_next),
		TEST(test_a_cleared_ring_is_where_the_reader_is),
		TEST(test_whatever_the_page_holds_the_head_stays_in_it),
		TEST(test_reader_and_writer_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
