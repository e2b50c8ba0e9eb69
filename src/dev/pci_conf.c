// SPDX-License-Identifier: MIT
#include "dev/pci_conf.h"

#include <errno.h>
#include <stdlib.h>

#define ADDRESS_PORT   0xCF8
#define RESET_OFFSET   1 /* 0xCF9 */
#define DATA_PORT      0xCFC
#define ADDRESS_ENABLE BIT(31)
#define ADDRESS_DEVICE MASK64(30, 8) /* bus, device, function: all zero for the host bridge */

/* The bridge of a Hyper-V generation 1 VM: Intel 440BX, class 06 00 00. */
static const u32 host_bridge[] = { 0x71928086, 0x02000006, 0x06000003, 0 };

struct pci_conf {
	const struct bus_ops *reset;
	void *reset_dev;
	u32 address;
};

int pci_conf_create(const struct bus_ops *reset, void *reset_dev, struct pci_conf **out)
{
	struct pci_conf *pc = calloc(1, sizeof(*pc));

	if (!pc)
		return -ENOMEM;
	pc->reset = reset;
	pc->reset_dev = reset_dev;
	*out = pc;
	return 0;
}

void pci_conf_destroy(struct pci_conf *pc)
{
	free(pc);
}

/* The address register takes only whole accesses: smaller ones are other chips' ports. */
static u64 address_read(void *dev, u64 offset, u8 size)
{
	const struct pci_conf *pc = dev;

	if (offset == RESET_OFFSET && size == 1)
		return pc->reset->read(pc->reset_dev, 0, 1);
	return size == 4 ? __atomic_load_n(&pc->address, __ATOMIC_RELAXED) : ~0ull;
}

static void address_write(void *dev, u64 offset, u8 size, u64 value)
{
	struct pci_conf *pc = dev;

	if (offset == RESET_OFFSET && size == 1)
		pc->reset->write(pc->reset_dev, 0, 1, value);
	else if (size == 4)
		__atomic_store_n(&pc->address, (u32)value, __ATOMIC_RELAXED);
}

static u64 data_read(void *dev, u64 offset, u8 size)
{
	const struct pci_conf *pc = dev;
	u32 address = __atomic_load_n(&pc->address, __ATOMIC_RELAXED);
	u32 reg = (address & 0xFF) / 4;

	if (!(address & ADDRESS_ENABLE) || address & ADDRESS_DEVICE)
		return ~0ull;
	return (reg < ARRAY_SIZE(host_bridge) ? host_bridge[reg] : 0) >> offset * 8;
}

static void data_write(void *dev, u64 offset, u8 size, u64 value)
{
}

static const struct bus_ops address_bus_ops = { address_read, address_write };
static const struct bus_ops data_bus_ops = { data_read, data_write };

int pci_conf_attach(struct pci_conf *pc, struct bus *ports)
{
	const struct bus_range address = { ADDRESS_PORT, 4, &address_bus_ops, pc, "pci-address" };
	const struct bus_range data = { DATA_PORT, 4, &data_bus_ops, pc, "pci-data" };
	int ret = bus_add(ports, &address);

	return ret ? ret : bus_add(ports, &data);
}
