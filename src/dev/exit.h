/* SPDX-License-Identifier: MIT */
/*
 * How a program inside the guest talks to the monitor: an exit status, and marks
 * in time. Our init and the bare payloads use it; Linux knows nothing of it.
 *
 * Port 0x520, 4 bytes: exit status; the machine stops at once.
 * Port 0x524, 1 byte: an event, enum exit_event.
 */
#ifndef NESTOR_DEV_EXIT_H
#define NESTOR_DEV_EXIT_H

/* Also included by guest code (payload/): keep the numbers free of host types. */
#define EXIT_PORT	0x520
#define EXIT_EVENT_PORT 0x524
#define EXIT_PORTS	5

enum exit_event {
	EXIT_EVENT_INIT = 1,	/* the first program of user space runs */
	EXIT_EVENT_COMMAND = 2, /* the command is about to start */
};

#ifndef NESTOR_PAYLOAD
#include "dev/bus.h"

struct exit_ops {
	/* Called on the VP thread that wrote. The guest does not expect to run on. */
	void (*exit)(void *ctx, u32 status);
	/* @event as written: the guest may write anything. May be NULL. */
	void (*event)(void *ctx, u8 event);
};

struct exit_dev;

int exit_dev_create(const struct exit_ops *ops, void *ctx, struct exit_dev **out);
void exit_dev_destroy(struct exit_dev *dev);
/* Claims the ports. -errno of bus_add(). */
int exit_dev_attach(struct exit_dev *dev, struct bus *ports);
#endif

#endif
