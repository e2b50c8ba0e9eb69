// SPDX-License-Identifier: MIT
/* Stateless but for the last byte written to 0xCF9: a reset is the rise of its bit 2. */
#include "dev/pm.h"

#include <errno.h>
#include <stdlib.h>

#define SLP_EN	       BIT(5)
#define SLP_TYP(v)     (((v) >> 2) & 7)
#define KBD_PULSE      0xF0 /* commands F0-FF pulse the lines whose bit is 0 */
#define KBD_LINE_RESET BIT(0)
#define CF9_RESET      BIT(2)

struct pm {
	const struct pm_ops *ops;
	void *ctx;
	u8 cf9;
};

int pm_create(const struct pm_ops *ops, void *ctx, struct pm **out)
{
	struct pm *pm = calloc(1, sizeof(*pm));

	if (!pm)
		return -ENOMEM;
	pm->ops = ops;
	pm->ctx = ctx;
	*out = pm;
	return 0;
}

void pm_destroy(struct pm *pm)
{
	free(pm);
}

/* Sleep status: WAK_STS never shows, nothing wakes from S5. */
static u64 sleep_read(void *dev, u64 offset, u8 size)
{
	return 0;
}

static void sleep_write(void *dev, u64 offset, u8 size, u64 value)
{
	struct pm *pm = dev;

	if (offset == 0 && value & SLP_EN && SLP_TYP(value) == PM_SLEEP_S5)
		pm->ops->power_off(pm->ctx);
}

/* Both buffers empty: Linux polls for that up to 65536 times before it pulses reset. */
static u64 kbd_read(void *dev, u64 offset, u8 size)
{
	return 0;
}

static void kbd_write(void *dev, u64 offset, u8 size, u64 value)
{
	struct pm *pm = dev;

	if ((value & KBD_PULSE) == KBD_PULSE && !(value & KBD_LINE_RESET))
		pm->ops->reset(pm->ctx, "keyboard controller");
}

static u64 cf9_read(void *dev, u64 offset, u8 size)
{
	const struct pm *pm = dev;

	return __atomic_load_n(&pm->cf9, __ATOMIC_RELAXED);
}

static void cf9_write(void *dev, u64 offset, u8 size, u64 value)
{
	struct pm *pm = dev;
	/* The chip clears the bit when the reset is over. */
	u8 kept = (u8)value & (u8)~CF9_RESET;

	__atomic_store_n(&pm->cf9, kept, __ATOMIC_RELAXED);
	if (value & CF9_RESET)
		pm->ops->reset(pm->ctx, "cf9");
}

static const struct bus_ops sleep_bus_ops = { sleep_read, sleep_write };
static const struct bus_ops kbd_bus_ops = { kbd_read, kbd_write };
static const struct bus_ops cf9_bus_ops = { cf9_read, cf9_write };

int pm_attach(struct pm *pm, struct bus *ports)
{
	const struct bus_range ranges[] = {
		{ PM_SLEEP_PORT, PM_SLEEP_PORTS, &sleep_bus_ops, pm, "acpi-sleep" },
		{ PM_KBD_PORT, 1, &kbd_bus_ops, pm, "kbd-reset" },
		{ PM_RESET_PORT, 1, &cf9_bus_ops, pm, "cf9" },
	};

	for (u32 i = 0; i < ARRAY_SIZE(ranges); i++) {
		int ret = bus_add(ports, &ranges[i]);

		if (ret)
			return ret;
	}
	return 0;
}

void pm_power_button(struct pm *pm)
{
	pm->ops->event_irq(pm->ctx, true);
	pm->ops->event_irq(pm->ctx, false);
}
