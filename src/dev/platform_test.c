// SPDX-License-Identifier: MIT
/* The small port devices: power, clock, exit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "dev/exit.h"
#include "dev/pci.h"
#include "dev/pm.h"
#include "dev/rtc.h"

static struct {
	u32 offs, resets, exits, events, edges;
	const char *how;
	u32 status;
	u8 event;
} seen;

static void on_off(void *ctx)
{
	seen.offs++;
}

static void on_reset(void *ctx, const char *how)
{
	seen.resets++;
	seen.how = how;
}

static void on_event_irq(void *ctx, bool level)
{
	seen.edges += level;
}

static void on_exit_status(void *ctx, u32 status)
{
	seen.exits++;
	seen.status = status;
}

static void on_event(void *ctx, u8 event)
{
	seen.events++;
	seen.event = event;
}

static const struct pm_ops pm_ops = { on_off, on_reset, on_event_irq };
static const struct exit_ops exit_ops = { on_exit_status, on_event };

static void test_pm(void **state)
{
	struct pci_host *pc;
	struct bus *bus;
	struct pm *pm;

	memset(&seen, 0, sizeof(seen));
	assert_int_equal(bus_create(&bus), 0);
	assert_int_equal(pm_create(&pm_ops, NULL, &pm), 0);
	assert_int_equal(pm_attach(pm, bus), 0);
	assert_int_equal(pci_host_create(&(struct pci_host_config){ &pm_reset_bus_ops, pm }, &pc),
			 0);
	assert_int_equal(pci_host_attach(pc, bus, NULL), 0);

	bus_write(bus, 0x601, 1, 0x80); /* WAK_STS */
	bus_write(bus, 0x600, 1, 5 << 2);
	bus_write(bus, 0x600, 1, 1 << 2 | BIT(5)); /* no S1 */
	assert_int_equal(seen.offs, 0);
	bus_write(bus, 0x600, 1, 5 << 2 | BIT(5));
	assert_int_equal(seen.offs, 1);

	/* Linux reboot=pci: read, write without and then with the reset bit. */
	bus_write(bus, 0xCF9, 1, (bus_read(bus, 0xCF9, 1) & ~0x0Eull) | 2);
	assert_int_equal(seen.resets, 0);
	bus_write(bus, 0xCF9, 1, 0x0E);
	assert_int_equal(seen.resets, 1);
	assert_int_equal(bus_read(bus, 0xCF9, 1), 0x0A);
	/* The configuration address register lies around it and takes no part. */
	assert_int_equal(bus_read(bus, 0xCF8, 4), 0);

	assert_int_equal(bus_read(bus, 0x64, 1) & 2, 0);
	bus_write(bus, 0x64, 1, 0xFF);
	assert_int_equal(seen.resets, 1);
	bus_write(bus, 0x64, 1, 0xFE);
	assert_int_equal(seen.resets, 2);
	assert_string_equal(seen.how, "keyboard controller");

	pm_power_button(pm);
	assert_int_equal(seen.edges, 1);
	bus_destroy(bus);
	pci_host_destroy(pc);
	pm_destroy(pm);
}

static u64 conf(struct bus *bus, u32 address, u16 port, u8 size)
{
	bus_write(bus, 0xCF8, 4, address);
	return bus_read(bus, port, size);
}

/* Linux: pci_check_type1(), pci_sanity_check() and the early quirks. */
static void test_pci_conf(void **state)
{
	struct pci_host *pc;
	struct bus *bus;

	assert_int_equal(bus_create(&bus), 0);
	assert_int_equal(pci_host_create(&(struct pci_host_config){ &pm_reset_bus_ops, NULL }, &pc),
			 0);
	assert_int_equal(pci_host_attach(pc, bus, NULL), 0);
	bus_write(bus, 0xCFB, 1, 1);
	assert_int_equal(conf(bus, 0x80000000, 0xCF8, 4), 0x80000000);
	assert_int_equal(conf(bus, 0x80000008, 0xCFE, 2), 0x0600); /* class: host bridge */
	assert_int_equal(conf(bus, 0x80000000, 0xCFC, 2), 0x8086);
	assert_int_equal(conf(bus, 0x8000000C, 0xCFE, 1), 0); /* one function */
	assert_int_equal(conf(bus, 0x800000FC, 0xCFC, 4), 0);
	assert_int_equal(conf(bus, 0x80000800, 0xCFC, 4), 0xFFFFFFFF); /* no other device */
	assert_int_equal(conf(bus, 0x80010000, 0xCFC, 4), 0xFFFFFFFF); /* no other bus */
	assert_int_equal(conf(bus, 0x00000000, 0xCFC, 4), 0xFFFFFFFF); /* not enabled */
	bus_destroy(bus);
	pci_host_destroy(pc);
}

static s64 leap_second_of_time(void *ctx)
{
	return 1709251199; /* 2024-02-29 23:59:59, a Thursday */
}

static u8 cmos(struct rtc *rtc, u8 index)
{
	rtc_bus_ops.write(rtc, 0, 1, index | 0x80);
	return (u8)rtc_bus_ops.read(rtc, 1, 1);
}

static void test_rtc(void **state)
{
	static const struct {
		u8 index, value;
	} rows[] = {
		{ 0x00, 0x59 }, { 0x02, 0x59 }, { 0x04, 0x23 }, { 0x06, 5 },	{ 0x07, 0x29 },
		{ 0x08, 0x02 }, { 0x09, 0x24 }, { 0x0A, 0x26 }, { 0x0B, 0x02 }, { 0x0C, 0x00 },
		{ 0x0D, 0x80 }, { 0x32, 0x20 }, { 0x7F, 0x00 },
	};
	struct rtc *rtc;

	assert_int_equal(rtc_create(leap_second_of_time, NULL, &rtc), 0);
	for (u32 i = 0; i < ARRAY_SIZE(rows); i++)
		assert_int_equal(cmos(rtc, rows[i].index), rows[i].value);
	rtc_bus_ops.write(rtc, 1, 1, 0x55); /* forgotten */
	assert_int_equal(cmos(rtc, 0), 0x59);
	rtc_destroy(rtc);
}

static void test_exit(void **state)
{
	struct exit_dev *dev;
	struct bus *bus;

	memset(&seen, 0, sizeof(seen));
	assert_int_equal(bus_create(&bus), 0);
	assert_int_equal(exit_dev_create(&exit_ops, NULL, &dev), 0);
	assert_int_equal(exit_dev_attach(dev, bus), 0);
	bus_write(bus, EXIT_EVENT_PORT, 1, EXIT_EVENT_INIT);
	assert_int_equal(seen.events, 1);
	assert_int_equal(seen.event, EXIT_EVENT_INIT);
	bus_write(bus, EXIT_PORT, 4, 0x1FF);
	assert_int_equal(seen.exits, 1);
	assert_int_equal(seen.status, 0x1FF);
	bus_write(bus, EXIT_PORT + 1, 1, 1);
	assert_int_equal(seen.exits, 1);
	bus_destroy(bus);
	exit_dev_destroy(dev);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pm),
		cmocka_unit_test(test_pci_conf),
		cmocka_unit_test(test_rtc),
		cmocka_unit_test(test_exit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
