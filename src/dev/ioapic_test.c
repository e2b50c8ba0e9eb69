// SPDX-License-Identifier: MIT
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "dev/ioapic.h"

#define EDGE   0
#define LEVEL  BIT(15)
#define MASKED BIT(16)

static struct {
	u32 msis, routes;
	u64 address, route_address;
	u32 data, route_data;
	bool refuse;
} seen;

static void on_msi(void *ctx, u64 address, u32 data)
{
	seen.msis++;
	seen.address = address;
	seen.data = data;
}

static void on_route(void *ctx, u32 pin, u64 address, u32 data)
{
	seen.routes++;
	seen.route_address = address;
	seen.route_data = data;
}

static bool on_allowed(void *ctx, u32 pin, u64 rte)
{
	return !seen.refuse;
}

static const struct ioapic_ops ops = { on_msi, on_route, on_allowed };

static int setup(void **state)
{
	__builtin_memset(&seen, 0, sizeof(seen));
	return ioapic_create(&ops, NULL, 7, (struct ioapic **)state);
}

static int teardown(void **state)
{
	ioapic_destroy(*state);
	return 0;
}

static u32 reg_read(struct ioapic *io, u8 index)
{
	ioapic_bus_ops.write(io, 0, 4, index);
	return (u32)ioapic_bus_ops.read(io, 0x10, 4);
}

static void reg_write(struct ioapic *io, u8 index, u32 value)
{
	ioapic_bus_ops.write(io, 0, 4, index);
	ioapic_bus_ops.write(io, 0x10, 4, value);
}

static void rte_write(struct ioapic *io, u32 pin, u32 high, u32 low)
{
	reg_write(io, (u8)(0x11 + pin * 2), high);
	reg_write(io, (u8)(0x10 + pin * 2), low);
}

static void test_registers(void **state)
{
	struct ioapic *io = *state;

	assert_int_equal(reg_read(io, 0), 7 << 24);
	assert_int_equal(reg_read(io, 1), 0x00170020);
	assert_int_equal(reg_read(io, 0x10), MASKED);
	rte_write(io, 23, 0xFFFFFFFF, 0xFFFFFFFF);
	/* Status and remote IRR are not the guest's; bits 48:17 are reserved. */
	assert_int_equal(reg_read(io, 0x3E), 0x1AFFF);
	assert_int_equal(reg_read(io, 0x3F), 0xFFFE0000);
	assert_int_equal(reg_read(io, 0x40), 0);
	reg_write(io, 0xFF, 1);
	ioapic_reset(io);
	assert_int_equal(reg_read(io, 0x3E), MASKED);
}

static void test_edge(void **state)
{
	struct ioapic *io = *state;

	ioapic_set(io, 4, true); /* masked: lost */
	rte_write(io, 4, 0x03000000, EDGE | 0x31);
	assert_int_equal(seen.msis, 0);
	assert_int_equal(seen.route_data, 0x31);
	ioapic_set(io, 4, true); /* no edge */
	assert_int_equal(seen.msis, 0);
	ioapic_set(io, 4, false);
	ioapic_set(io, 4, true);
	assert_int_equal(seen.msis, 1);
	assert_true(seen.address == 0xFEE03000);
	assert_int_equal(seen.data, 0x31);
	ioapic_eoi(io, 0x31);
	assert_int_equal(seen.msis, 1);
}

static void test_level(void **state)
{
	struct ioapic *io = *state;

	ioapic_set(io, 9, true);
	rte_write(io, 9, 0x01000000, LEVEL | 0x800 | 0x55); /* sends on unmasking */
	assert_int_equal(seen.msis, 1);
	assert_true(seen.address == 0xFEE01004);
	assert_int_equal(seen.data, 0xC055);
	assert_true(ioapic_rte(io, 9) & BIT(14));
	ioapic_set(io, 9, true); /* remote IRR holds it back */
	assert_int_equal(seen.msis, 1);
	ioapic_eoi(io, 0x54);
	assert_int_equal(seen.msis, 1);
	ioapic_eoi(io, 0x55); /* still high: again */
	assert_int_equal(seen.msis, 2);
	ioapic_set(io, 9, false);
	ioapic_bus_ops.write(io, 0x40, 4, 0x55); /* EOI register */
	assert_int_equal(seen.msis, 2);
	assert_false(ioapic_rte(io, 9) & BIT(14));
}

static void test_mask_keeps_the_eoi_route(void **state)
{
	struct ioapic *io = *state;

	rte_write(io, 9, 0, LEVEL | 0x55);
	ioapic_set(io, 9, true);
	reg_write(io, 0x10 + 18, MASKED | LEVEL | 0x55);
	assert_int_equal(seen.route_data, 0xC055);
	ioapic_eoi(io, 0x55);
	assert_int_equal(seen.msis, 1);
	reg_write(io, 0x10 + 18, LEVEL | 0x55);
	assert_int_equal(seen.msis, 2);
	/* Switching to edge forgets remote IRR. */
	reg_write(io, 0x10 + 18, MASKED | 0x55);
	assert_false(ioapic_rte(io, 9) & BIT(14));
	assert_int_equal(seen.route_data, 0);
}

static void test_allowed(void **state)
{
	struct ioapic *io = *state;

	seen.refuse = true;
	rte_write(io, 9, 0, LEVEL | 0x55);
	assert_int_equal(seen.route_data, 0);
	ioapic_set(io, 9, true);
	assert_int_equal(seen.msis, 0);
	seen.refuse = false;
	ioapic_recheck(io, 9);
	assert_int_equal(seen.msis, 1);
	assert_int_equal(seen.route_data, 0xC055);
}

static void test_extended_destination(void **state)
{
	struct ioapic *io = *state;

	rte_write(io, 1, 0x05000000 | 3 << 17, 0x22); /* APIC id 0x305 */
	ioapic_set(io, 1, true);
	assert_true(seen.address == (0xFEE05000ull | 0x300ull << 32));
	rte_write(io, 2, 0, 0x700 | 0x22); /* ExtINT: there is no 8259 */
	ioapic_set(io, 2, true);
	assert_int_equal(seen.msis, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_registers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_edge, setup, teardown),
		cmocka_unit_test_setup_teardown(test_level, setup, teardown),
		cmocka_unit_test_setup_teardown(test_mask_keeps_the_eoi_route, setup, teardown),
		cmocka_unit_test_setup_teardown(test_allowed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_extended_destination, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
