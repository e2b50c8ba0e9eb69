// SPDX-License-Identifier: MIT
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "dev/uart.h"

enum { DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR, FCR = IIR };

struct bench {
	struct uart *uart;
	char text[2 * UART_OUT_BYTES + 1];
	u32 len, calls;
	u32 edges, rooms;
	bool wire;
};

static void on_output(void *ctx, const u8 *data, u32 len)
{
	struct bench *b = ctx;

	assert_true(b->len + len < sizeof(b->text));
	memcpy(b->text + b->len, data, len);
	b->calls++;
	__atomic_store_n(&b->len, b->len + len, __ATOMIC_RELEASE);
}

static void on_irq(void *ctx, bool level)
{
	struct bench *b = ctx;

	assert_true(level != b->wire);
	b->wire = level;
	__atomic_fetch_add(&b->edges, level, __ATOMIC_RELAXED); /* wait_for() reads it */
}

static void on_room(void *ctx)
{
	struct bench *b = ctx;

	b->rooms++;
}

static const struct uart_ops ops = { on_output, on_irq, on_room };
/* For tests in which the flusher must not interfere. */
static const struct uart_ops slow_ops = { on_output, on_irq, on_room, .flush_us = 3600000000 };

static int setup_with(void **state, const struct uart_ops *with)
{
	static struct bench bench;

	memset(&bench, 0, sizeof(bench));
	*state = &bench;
	return uart_create(with, &bench, &bench.uart);
}

static int setup(void **state)
{
	return setup_with(state, &ops);
}

static int setup_slow(void **state)
{
	return setup_with(state, &slow_ops);
}

static int teardown(void **state)
{
	struct bench *b = *state;

	uart_destroy(b->uart);
	return 0;
}

static u8 in(struct bench *b, u32 reg)
{
	return (u8)uart_bus_ops.read(b->uart, reg, 1);
}

static void out(struct bench *b, u32 reg, u8 value)
{
	uart_bus_ops.write(b->uart, reg, 1, value);
}

/* What Linux 8250_port.c autoconfig() and autoconfig_16550a() ask. */
static void test_identifies_as_16550a(void **state)
{
	struct bench *b = *state;
	u8 status1, status2;

	out(b, IER, 0);
	assert_int_equal(in(b, IER) & 0xF, 0);
	out(b, IER, 0xF);
	assert_int_equal(in(b, IER), 0xF);
	out(b, IER, 0);
	out(b, MCR, 0x1A); /* loop, OUT2, RTS */
	assert_int_equal(in(b, MSR) & 0xF0, 0x90);
	out(b, MCR, 0);
	out(b, FCR, 1);
	assert_int_equal(in(b, IIR) >> 6, 3);
	out(b, LCR, 0x80);
	assert_int_not_equal(in(b, IIR), 0); /* no EFR */
	out(b, LCR, 0xBF);
	assert_int_not_equal(in(b, IIR), 0);
	out(b, LCR, 0);
	out(b, FCR, 0x21);
	status1 = in(b, IIR) >> 5;
	out(b, LCR, 0x80);
	out(b, FCR, 0x21);
	status2 = in(b, IIR) >> 5;
	assert_int_equal(status1, 6); /* no 64-byte FIFO: not a 16750 */
	assert_int_equal(status2, 6);
	out(b, LCR, 0);
	out(b, IER, 0x40); /* no XScale UUE */
	assert_int_equal(in(b, IER), 0);
	out(b, SCR, 0xA5);
	assert_int_equal(in(b, SCR), 0xA5);
	out(b, LCR, 0x83);
	out(b, DATA, 1);
	out(b, IER, 2);
	assert_int_equal(in(b, DATA), 1);
	assert_int_equal(in(b, IER), 2);
	out(b, LCR, 3);
	assert_int_equal(in(b, LCR), 3);
	assert_int_equal(in(b, IER), 0);
}

/* serial8250_do_startup(): the tests for broken THRE and TXEN must find nothing. */
static void test_thre_enable_fires_each_time(void **state)
{
	struct bench *b = *state;

	out(b, FCR, 1);
	out(b, IER, 2);
	assert_true(b->wire);
	assert_int_equal(in(b, IIR), 0xC2);
	assert_false(b->wire); /* reading IIR takes it back */
	assert_int_equal(in(b, IIR), 0xC1);
	out(b, IER, 0);
	out(b, IER, 2);
	assert_int_equal(in(b, IIR), 0xC2);
	assert_int_equal(b->edges, 2);
}

static void test_one_interrupt_per_full_fifo(void **state)
{
	struct bench *b = *state;

	out(b, FCR, 1);
	out(b, IER, 2);
	in(b, IIR);
	for (u32 i = 0; i < 16; i++) {
		assert_false(b->wire);
		out(b, DATA, (u8)('a' + i));
	}
	assert_true(b->wire);
	assert_int_equal(b->edges, 2);
	/* A byte while it is up: down and up again when the FIFO has run empty. */
	out(b, DATA, 'q');
	assert_false(b->wire);
	assert_int_equal(in(b, LSR), 0x60);
	assert_true(b->wire);
	uart_flush(b->uart);
	assert_string_equal(b->text, "abcdefghijklmnopq");
}

static void test_without_fifo_each_byte_fires(void **state)
{
	struct bench *b = *state;

	out(b, IER, 2);
	for (u32 i = 0; i < 3; i++) {
		assert_int_equal(in(b, IIR), 0x02);
		out(b, DATA, '.');
		assert_true(b->wire);
	}
	assert_int_equal(b->edges, 4);
}

static void wait_for(const u32 *value, u32 want)
{
	const struct timespec ms = { .tv_nsec = 1000000 };

	for (u32 i = 0; i < 5000 && __atomic_load_n(value, __ATOMIC_ACQUIRE) < want; i++)
		nanosleep(&ms, NULL);
	assert_int_equal(*value, want);
}

static void test_output_is_prompt_and_batched(void **state)
{
	struct bench *b = *state;

	out(b, DATA, '$');
	wait_for(&b->len, 1);
	for (u32 i = 0; i < 100; i++)
		out(b, DATA, 'x');
	wait_for(&b->len, 101);
	assert_true(b->calls < 50);
}

/* A driver that writes one byte and sleeps until THRE. */
static void test_partial_fifo_fires_by_itself(void **state)
{
	struct bench *b = *state;

	out(b, FCR, 1);
	out(b, IER, 2);
	in(b, IIR);
	out(b, DATA, 'a');
	wait_for(&b->edges, 2);
}

static void test_nothing_is_lost(void **state)
{
	struct bench *b = *state;

	for (u32 i = 0; i < UART_OUT_BYTES + 100; i++)
		out(b, DATA, (u8)('0' + i % 10));
	uart_flush(b->uart);
	assert_int_equal(b->len, UART_OUT_BYTES + 100);
	for (u32 i = 0; i < b->len; i++)
		assert_int_equal(b->text[i], '0' + i % 10);
}

static void test_input(void **state)
{
	struct bench *b = *state;

	assert_int_equal(uart_input(b->uart, (const u8 *)"early", 5), 5);
	out(b, FCR, 0x87); /* enable, clear both, trigger 8 */
	assert_int_equal(in(b, LSR), 0x60);
	out(b, MCR, 0x0B); /* DTR, RTS, OUT2 */
	out(b, IER, 5);
	assert_true(b->wire);
	assert_int_equal(in(b, IIR), 0xCC); /* below the trigger: timeout */
	assert_int_equal(uart_input(b->uart, (const u8 *)" bird", 5), 5);
	assert_int_equal(in(b, IIR), 0xC4);
	assert_int_equal(in(b, LSR), 0x61);
	for (const char *p = "early bird"; *p; p++)
		assert_int_equal(in(b, DATA), *p);
	assert_false(b->wire);
	assert_int_equal(in(b, IIR), 0xC1);
	assert_int_equal(in(b, LSR), 0x60);
	assert_int_equal(b->edges, 1);
}

static void test_input_backpressure(void **state)
{
	struct bench *b = *state;
	u8 data[UART_IN_BYTES + 100] = { 0 };

	assert_int_equal(uart_input(b->uart, data, sizeof(data)), UART_IN_BYTES);
	out(b, FCR, 1);
	out(b, MCR, 2);
	for (u32 i = 0; i < UART_IN_BYTES / 2; i++)
		in(b, DATA);
	assert_int_equal(b->rooms, 1);
	for (u32 i = 0; i < UART_IN_BYTES / 2; i++) {
		assert_true(in(b, LSR) & 1);
		in(b, DATA);
	}
	assert_false(in(b, LSR) & 1);
	assert_int_equal(b->rooms, 1);
}

static void test_loopback_and_overrun(void **state)
{
	struct bench *b = *state;

	out(b, FCR, 1);
	out(b, MCR, 0x10);
	out(b, IER, 4);
	for (u32 i = 0; i < 17; i++)
		out(b, DATA, (u8)i);
	assert_int_equal(in(b, IIR), 0xC6);
	assert_int_equal(in(b, LSR), 0x63);
	assert_int_equal(in(b, LSR), 0x61); /* reading clears it */
	for (u32 i = 0; i < 16; i++)
		assert_int_equal(in(b, DATA), i);
	out(b, MCR, 0);
	uart_flush(b->uart);
	assert_int_equal(b->len, 0);
}

static void test_modem_status(void **state)
{
	struct bench *b = *state;

	assert_int_equal(in(b, MSR), 0xB0);
	out(b, IER, 8);
	out(b, MCR, 0x10); /* loop: all lines drop */
	assert_true(b->wire);
	assert_int_equal(in(b, IIR), 0x00);
	assert_int_equal(in(b, MSR), 0x0B);
	assert_false(b->wire);
	out(b, MCR, 0x14); /* OUT1: ring rises, no delta */
	assert_int_equal(in(b, MSR), 0x40);
	out(b, MCR, 0x10); /* and falls */
	assert_int_equal(in(b, MSR), 0x04);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_identifies_as_16550a, setup_slow, teardown),
		cmocka_unit_test_setup_teardown(test_thre_enable_fires_each_time, setup_slow,
						teardown),
		cmocka_unit_test_setup_teardown(test_one_interrupt_per_full_fifo, setup_slow,
						teardown),
		cmocka_unit_test_setup_teardown(test_without_fifo_each_byte_fires, setup_slow,
						teardown),
		cmocka_unit_test_setup_teardown(test_output_is_prompt_and_batched, setup, teardown),
		cmocka_unit_test_setup_teardown(test_partial_fifo_fires_by_itself, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nothing_is_lost, setup_slow, teardown),
		cmocka_unit_test_setup_teardown(test_input, setup_slow, teardown),
		cmocka_unit_test_setup_teardown(test_input_backpressure, setup_slow, teardown),
		cmocka_unit_test_setup_teardown(test_loopback_and_overrun, setup_slow, teardown),
		cmocka_unit_test_setup_teardown(test_modem_status, setup_slow, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
