// SPDX-License-Identifier: MIT
/* Port and MMIO accesses in any order and size, with input and interrupts in between. */
#include <stdlib.h>
#include <string.h>

#include "dev/exit.h"
#include "dev/ioapic.h"
#include "dev/pci.h"
#include "dev/pm.h"
#include "dev/rtc.h"
#include "dev/uart.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t len);

static struct bus *ports, *mmio;
static struct ioapic *ioapic;
static struct uart *uart;
static struct rtc *rtc;
static struct pm *pm;
static struct pci_host *pci_host;
static struct exit_dev *exit_dev;

static void on_output(void *ctx, const u8 *data, u32 len)
{
	if (len == 0 || len > UART_OUT_BYTES)
		abort();
}

static void on_uart_irq(void *ctx, bool level)
{
	ioapic_set(ioapic, 4, level);
}

static void on_event_irq(void *ctx, bool level)
{
	ioapic_set(ioapic, 9, level);
}

static void on_msi(void *ctx, u64 address, u32 data)
{
	if ((address & 0xFFF00000) != 0xFEE00000)
		abort();
}

static void on_route(void *ctx, u32 pin, u64 address, u32 data)
{
	if (pin >= IOAPIC_PINS)
		abort();
}

static void on_nothing(void *ctx)
{
}

static void on_reset(void *ctx, const char *how)
{
}

static void on_exit_status(void *ctx, u32 status)
{
}

static const struct uart_ops uart_ops = { on_output, on_uart_irq, NULL, 0 };
static const struct ioapic_ops ioapic_ops = { on_msi, on_route, NULL };
static const struct pm_ops pm_ops = { on_nothing, on_reset, on_event_irq };
static const struct exit_ops exit_ops = { on_exit_status, NULL };

static void create(void)
{
	const struct bus_range com1 = { 0x3F8, UART_PORTS, &uart_bus_ops, NULL, "com1" };
	const struct bus_range clock = { RTC_PORT, RTC_PORTS, &rtc_bus_ops, NULL, "rtc" };
	const struct bus_range apic = { 0xFEC00000, IOAPIC_MMIO_SIZE, &ioapic_bus_ops, NULL,
					"ioapic" };
	struct bus_range r;

	if (bus_create(&ports) || bus_create(&mmio) ||
	    ioapic_create(&ioapic_ops, NULL, 0, &ioapic) || uart_create(&uart_ops, NULL, &uart) ||
	    rtc_create(NULL, NULL, &rtc) || pm_create(&pm_ops, NULL, &pm) ||
	    exit_dev_create(&exit_ops, NULL, &exit_dev))
		abort();
	r = com1;
	r.dev = uart;
	bus_add(ports, &r);
	r = clock;
	r.dev = rtc;
	bus_add(ports, &r);
	r = apic;
	r.dev = ioapic;
	bus_add(mmio, &r);
	if (pci_host_create(&(struct pci_host_config){ &pm_reset_bus_ops, pm }, &pci_host) ||
	    pci_host_attach(pci_host, ports, NULL) || pm_attach(pm, ports) ||
	    exit_dev_attach(exit_dev, ports))
		abort();
}

struct step {
	u8 what, size, at, value[8];
} __attribute__((packed));

static void run(const struct step *s)
{
	static const u16 bases[] = { 0x3F8, 0x70, 0x600, 0x64, 0xCF8, 0x520 };
	static const u8 sizes[] = { 1, 2, 4 };
	u16 port =
		(u16)(bases[s->at >> 4 & 7 ? (s->at >> 4) % ARRAY_SIZE(bases) : 0] + (s->at & 15));
	u8 data[8];

	memcpy(data, s->value, sizeof(data));
	switch (s->what % 6) {
	case 0:
	case 1:
		bus_io(ports, port, sizes[s->size % 3], s->what & 1, 1, data);
		break;
	case 2:
	case 3:
		bus_mmio(mmio, 0xFEC00000 + s->at, s->size % 8 + 1, s->what & 1, data);
		break;
	case 4:
		uart_input(uart, data, s->size % 8 + 1u);
		break;
	case 5:
		if (s->size & 1)
			ioapic_eoi(ioapic, data[0]);
		else
			ioapic_set(ioapic, data[0] % IOAPIC_PINS, data[1] & 1);
		break;
	}
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t len)
{
	if (!ports)
		create();
	for (; len >= sizeof(struct step); len -= sizeof(struct step), data += sizeof(struct step))
		run((const struct step *)data);
	return 0;
}
