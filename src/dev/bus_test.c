// SPDX-License-Identifier: MIT
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <string.h>

#include <cmocka.h>

#include "dev/bus.h"

struct probe {
	u64 offset, value;
	u8 size;
	u32 writes;
};

static u64 probe_read(void *dev, u64 offset, u8 size)
{
	struct probe *p = dev;

	p->offset = offset;
	p->size = size;
	return 0x1122334455667788;
}

static void probe_write(void *dev, u64 offset, u8 size, u64 value)
{
	struct probe *p = dev;

	p->offset = offset;
	p->size = size;
	p->value = value;
	p->writes++;
}

static const struct bus_ops probe_ops = { probe_read, probe_write };

static int setup(void **state)
{
	return bus_create((struct bus **)state);
}

static int teardown(void **state)
{
	bus_destroy(*state);
	return 0;
}

static void test_routing(void **state)
{
	struct bus *bus = *state;
	struct probe a = { 0 }, b = { 0 };

	assert_int_equal(bus_add(bus, &(struct bus_range){ 0x3F8, 8, &probe_ops, &a, "a" }), 0);
	assert_int_equal(bus_add(bus, &(struct bus_range){ 0x70, 2, &probe_ops, &b, "b" }), 0);
	assert_int_equal(bus_read(bus, 0x3FD, 1), 0x88);
	assert_int_equal(a.offset, 5);
	bus_write(bus, 0x71, 1, 0xABCD);
	assert_int_equal(b.value, 0xCD);
	/* Across the end, before the start and in the gap: nobody's. */
	assert_int_equal(bus_read(bus, 0x3FF, 2), 0xFFFF);
	assert_int_equal(bus_read(bus, 0x6F, 1), 0xFF);
	assert_int_equal(bus_read(bus, 0x3F7, 4), 0xFFFFFFFF);
	assert_true(bus_read(bus, 0x72, 8) == ~0ull);
}

static void test_refusals(void **state)
{
	struct bus *bus = *state;
	struct probe a = { 0 };
	struct bus_range top = { ~0ull - 7, 8, &probe_ops, &a, "top" };

	assert_int_equal(bus_add(bus, &(struct bus_range){ 0x10, 0x10, &probe_ops, &a, "a" }), 0);
	assert_int_equal(bus_add(bus, &(struct bus_range){ 0x1F, 1, &probe_ops, &a, "x" }),
			 -EEXIST);
	assert_int_equal(bus_add(bus, &(struct bus_range){ 0x0, 0x11, &probe_ops, &a, "x" }),
			 -EEXIST);
	assert_int_equal(bus_add(bus, &(struct bus_range){ 0x0, 0x10, &probe_ops, &a, "x" }), 0);
	assert_int_equal(bus_add(bus, &(struct bus_range){ 0x30, 0, &probe_ops, &a, "x" }),
			 -EINVAL);
	assert_int_equal(bus_add(bus, &(struct bus_range){ ~0ull, 2, &probe_ops, &a, "x" }),
			 -EINVAL);
	assert_int_equal(bus_add(bus, &top), 0);
	assert_int_equal(bus_read(bus, ~0ull, 1), 0x88);
	assert_int_equal(bus_remove(bus, 0x10), 0);
	assert_int_equal(bus_remove(bus, 0x10), -ENOENT);
	assert_int_equal(bus_read(bus, 0x10, 1), 0xFF);
}

static void test_unclaimed(void **state)
{
	struct bus *bus = *state;
	struct bus_unclaimed rows[2];

	bus_read(bus, 0x60, 1);
	bus_write(bus, 0x60, 1, 1);
	bus_read(bus, 0x0, 4);
	assert_int_equal(bus_unclaimed(bus, rows, 2), 2);
	assert_int_equal(rows[0].addr, 0x60);
	assert_int_equal(rows[0].reads, 1);
	assert_int_equal(rows[0].writes, 1);
	assert_int_equal(rows[1].addr, 0);
	for (u64 addr = 0; addr < 1000; addr++)
		bus_read(bus, addr, 1);
	assert_int_equal(bus_unclaimed_total(bus), 1003);
}

static void test_strings_and_odd_sizes(void **state)
{
	struct bus *bus = *state;
	struct probe a = { 0 };
	u8 data[7] = { 1, 2, 3, 4, 5, 6, 7 };

	assert_int_equal(bus_add(bus, &(struct bus_range){ 0x80, 8, &probe_ops, &a, "a" }), 0);
	bus_io(bus, 0x80, 2, true, 3, data);
	assert_int_equal(a.writes, 3);
	assert_int_equal(a.value, 0x0605);
	bus_mmio(bus, 0x80, 3, true, data);
	assert_int_equal(a.writes, 6);
	assert_int_equal(a.offset, 2);
	bus_io(bus, 0x1000, 1, false, 7, data);
	for (u32 i = 0; i < 7; i++)
		assert_int_equal(data[i], 0xFF);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_routing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refusals, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unclaimed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_strings_and_odd_sizes, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
