// SPDX-License-Identifier: MIT
#include "dev/exit.h"

#include <errno.h>
#include <stdlib.h>

struct exit_dev {
	const struct exit_ops *ops;
	void *ctx;
};

int exit_dev_create(const struct exit_ops *ops, void *ctx, struct exit_dev **out)
{
	struct exit_dev *dev = calloc(1, sizeof(*dev));

	if (!dev)
		return -ENOMEM;
	dev->ops = ops;
	dev->ctx = ctx;
	*out = dev;
	return 0;
}

void exit_dev_destroy(struct exit_dev *dev)
{
	free(dev);
}

/* Reads tell a guest program that the device is there. */
static u64 exit_read(void *dev, u64 offset, u8 size)
{
	return 0;
}

static void exit_write(void *dev, u64 offset, u8 size, u64 value)
{
	struct exit_dev *d = dev;

	if (offset == 0)
		d->ops->exit(d->ctx, (u32)value);
	else if (offset == EXIT_EVENT_PORT - EXIT_PORT && d->ops->event)
		d->ops->event(d->ctx, (u8)value);
}

static const struct bus_ops exit_bus_ops = { exit_read, exit_write };

int exit_dev_attach(struct exit_dev *dev, struct bus *ports)
{
	const struct bus_range range = { EXIT_PORT, EXIT_PORTS, &exit_bus_ops, dev, "exit" };

	return bus_add(ports, &range);
}
