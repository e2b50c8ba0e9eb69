/* SPDX-License-Identifier: MIT */
/*
 * Power: the sleep registers of hardware-reduced ACPI, every register a PC kernel
 * resets through, and the power button. No i8042 is behind port 0x64: only its
 * status (ready) and its reset pulse.
 */
#ifndef NESTOR_DEV_PM_H
#define NESTOR_DEV_PM_H

#include "dev/bus.h"

#define PM_SLEEP_PORT  0x600 /* sleep control, then sleep status */
#define PM_SLEEP_PORTS 2
#define PM_KBD_PORT    0x64
#define PM_RESET_PORT  0xCF9 /* also the reset register of the FADT */
#define PM_RESET_VALUE 0x06
#define PM_SLEEP_S5    5 /* SLP_TYP of \_S5 in dsdt.asl */

struct pm_ops {
	/* Called on the VP thread that asked. The guest does not expect to run on. */
	void (*power_off)(void *ctx);
	/* @how: "cf9" or "keyboard controller"; static. */
	void (*reset)(void *ctx, const char *how);
	/* The wire of the event device (ACPI GED), an edge per press. */
	void (*event_irq)(void *ctx, bool level);
};

struct pm;

int pm_create(const struct pm_ops *ops, void *ctx, struct pm **out);
void pm_destroy(struct pm *pm);
/* Claims the ports above. -errno of bus_add(). */
int pm_attach(struct pm *pm, struct bus *ports);
/* Asks the guest to shut down, as pressing the button does. Any thread. */
void pm_power_button(struct pm *pm);

#endif
