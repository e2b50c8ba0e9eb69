/* SPDX-License-Identifier: MIT */
/*
 * The operator's terminal or pipes as a serial line: raw mode while it runs,
 * Ctrl-a x ends the machine, Ctrl-a a types a Ctrl-a.
 */
#ifndef NESTOR_MACHINE_CONSOLE_H
#define NESTOR_MACHINE_CONSOLE_H

#include "base/types.h"

struct console_ops {
	/* Bytes typed; returns how many were taken. The rest waits for console_input_room(). */
	u32 (*input)(void *ctx, const u8 *data, u32 len);
	void (*quit)(void *ctx);
};

struct console;

/* @stdio: use standard input and output; else output is dropped and nothing is typed. */
int console_create(const struct console_ops *ops, void *ctx, bool stdio, struct console **out);
/* Raw mode and the reading thread begin, and end. */
int console_start(struct console *c);
void console_stop(struct console *c);
void console_destroy(struct console *c);

void console_output(struct console *c, const u8 *data, u32 len);
void console_input_room(struct console *c);

#endif
