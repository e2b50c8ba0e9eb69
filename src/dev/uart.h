/* SPDX-License-Identifier: MIT */
/*
 * A 16550A whose line is infinitely fast: what the guest writes is sent at once,
 * what the host types arrives when the guest has room.
 *
 * Output is collected and handed over by a thread of the device UART_FLUSH_US
 * later, in one piece: a VP never waits for a terminal unless UART_OUT_BYTES are
 * unsent. Input is held back while the guest has RTS off, so that what was typed
 * or piped in early survives the guest's probing and FIFO resets.
 */
#ifndef NESTOR_DEV_UART_H
#define NESTOR_DEV_UART_H

#include "dev/bus.h"

#define UART_FLUSH_US  1000
#define UART_PORTS     8
#define UART_OUT_BYTES 4096
#define UART_IN_BYTES  4096

struct uart_ops {
	/* Bytes the guest sent, in order; never two calls at once, no lock held that a VP needs. */
	void (*output)(void *ctx, const u8 *data, u32 len);
	/* The interrupt wire; only changes are told. A leaf: called with the UART's lock held. */
	void (*irq)(void *ctx, bool level);
	/* May be NULL. There is room again after uart_input() had refused bytes. */
	void (*input_room)(void *ctx);
	/* How long output may wait for more; 0: UART_FLUSH_US. */
	u32 flush_us;
};

struct uart;

/* 0 or -errno (memory, thread). @ops outlives the device. */
int uart_create(const struct uart_ops *ops, void *ctx, struct uart **out);
/* Sends what is unsent, then ends the thread. The guest must not run any more. */
void uart_destroy(struct uart *u);

/* For a bus range of UART_PORTS. */
extern const struct bus_ops uart_bus_ops;

/* Bytes for the guest, from any thread. Returns how many were taken. */
u32 uart_input(struct uart *u, const u8 *data, u32 len);
/* Hands all output over before it returns. Any thread, but not from ops. */
void uart_flush(struct uart *u);

#endif
