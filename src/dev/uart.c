// SPDX-License-Identifier: MIT
/*
 * Three stages per direction. Out: THR -> transmit FIFO -> out[] -> ops.output.
 * In: uart_input -> queue[] -> receive FIFO -> RBR.
 *
 * The transmit FIFO is only a count: bytes go to out[] at once, but the guest is
 * told that the FIFO is empty when it looks (IIR, LSR), when it is full, or when
 * the flusher comes by. So a driver that fills the FIFO gets one interrupt per
 * sixteen bytes and not one per byte.
 */
#include "dev/uart.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FIFO_BYTES 16

enum uart_reg { REG_DATA, REG_IER, REG_IIR_FCR, REG_LCR, REG_MCR, REG_LSR, REG_MSR, REG_SCR };

#define IER_RX	     BIT(0)
#define IER_THRE     BIT(1)
#define IER_LINE     BIT(2)
#define IER_MODEM    BIT(3)
#define IER_WRITABLE 0x0F

#define IIR_NONE    0x01
#define IIR_MODEM   0x00
#define IIR_THRE    0x02
#define IIR_RX	    0x04
#define IIR_LINE    0x06
#define IIR_TIMEOUT 0x0C
#define IIR_FIFO    0xC0

#define FCR_ENABLE   BIT(0)
#define FCR_CLEAR_RX BIT(1)
#define FCR_CLEAR_TX BIT(2)

#define LCR_DLAB BIT(7)

#define MCR_DTR	     BIT(0)
#define MCR_RTS	     BIT(1)
#define MCR_OUT1     BIT(2)
#define MCR_OUT2     BIT(3)
#define MCR_LOOP     BIT(4)
#define MCR_WRITABLE 0x1F

#define LSR_DATA    BIT(0)
#define LSR_OVERRUN BIT(1)
#define LSR_THRE    BIT(5)
#define LSR_IDLE    BIT(6)

#define MSR_CTS BIT(4)
#define MSR_DSR BIT(5)
#define MSR_RI	BIT(6)
#define MSR_DCD BIT(7)

struct uart {
	const struct uart_ops *ops;
	void *ctx;

	pthread_mutex_t out_lock; /* taken before lock; orders calls of ops.output */
	pthread_mutex_t lock;	  /* guards all below */
	pthread_cond_t wake;	  /* for the flusher */
	pthread_t flusher;
	bool flusher_busy; /* it will look again by itself: no need to wake it */
	bool stopping;

	u8 ier, fcr, lcr, mcr, scr, dll, dlm;
	bool overrun;
	u8 msr_delta;
	bool thre_pending; /* the THRE interrupt condition */
	u8 tx_count;	   /* bytes the guest believes are in the transmit FIFO */
	bool level;	   /* the interrupt wire as last told */

	u8 rx[FIFO_BYTES];
	u32 rx_head, rx_count;
	u8 queue[UART_IN_BYTES];
	u32 queue_head, queue_count;
	bool refused; /* uart_input() took less than it was given */
	u8 out[UART_OUT_BYTES];
	u32 out_count;
};

static u32 rx_capacity(const struct uart *u)
{
	return u->fcr & FCR_ENABLE ? FIFO_BYTES : 1;
}

static u32 rx_trigger(const struct uart *u)
{
	static const u8 level[] = { 1, 4, 8, 14 };

	return u->fcr & FCR_ENABLE ? level[u->fcr >> 6] : 1;
}

/* Bits 3:0 of IIR, by the priority of the data sheet. */
static u8 iir_now(const struct uart *u)
{
	if (u->ier & IER_LINE && u->overrun)
		return IIR_LINE;
	if (u->ier & IER_RX && u->rx_count)
		return u->rx_count >= rx_trigger(u) ? IIR_RX : IIR_TIMEOUT;
	if (u->ier & IER_THRE && u->thre_pending)
		return IIR_THRE;
	if (u->ier & IER_MODEM && u->msr_delta)
		return IIR_MODEM;
	return IIR_NONE;
}

static void irq_update_locked(struct uart *u)
{
	bool level = iir_now(u) != IIR_NONE;

	if (level == u->level)
		return;
	u->level = level;
	u->ops->irq(u->ctx, level);
}

static void rx_push_locked(struct uart *u, u8 byte)
{
	if (u->rx_count == rx_capacity(u)) {
		u->overrun = true;
		/* Without a FIFO the new byte replaces the old one. */
		if (!(u->fcr & FCR_ENABLE))
			u->rx[u->rx_head] = byte;
		return;
	}
	u->rx[(u->rx_head + u->rx_count++) % FIFO_BYTES] = byte;
}

/* Moves typed bytes into the receive FIFO while the guest wants them. */
static void rx_fill_locked(struct uart *u)
{
	if (!(u->mcr & MCR_RTS) || u->mcr & MCR_LOOP)
		return;
	while (u->queue_count && u->rx_count < rx_capacity(u)) {
		rx_push_locked(u, u->queue[u->queue_head]);
		u->queue_head = (u->queue_head + 1) % UART_IN_BYTES;
		u->queue_count--;
	}
}

/* The transmit FIFO ran empty. */
static void tx_drain_locked(struct uart *u)
{
	if (!u->tx_count)
		return;
	u->tx_count = 0;
	u->thre_pending = true;
}

static void flusher_wake_locked(struct uart *u)
{
	if (u->flusher_busy)
		return;
	u->flusher_busy = true;
	pthread_cond_signal(&u->wake);
}

static void thr_write_locked(struct uart *u, u8 byte)
{
	if (u->mcr & MCR_LOOP)
		rx_push_locked(u, byte);
	else if (u->out_count < UART_OUT_BYTES)
		u->out[u->out_count++] = byte;
	/* The wire must fall before it may rise again: its pin is edge-triggered. */
	u->thre_pending = false;
	irq_update_locked(u);
	if (++u->tx_count == FIFO_BYTES || !(u->fcr & FCR_ENABLE))
		tx_drain_locked(u);
	flusher_wake_locked(u);
}

static void ier_write_locked(struct uart *u, u8 value)
{
	u8 risen = value & (u8)~u->ier;

	u->ier = value & IER_WRITABLE;
	/* Enabling it with an empty FIFO raises it: drivers start sending that way. */
	if (risen & IER_THRE) {
		u->tx_count = 0;
		u->thre_pending = true;
	}
}

static void fcr_write_locked(struct uart *u, u8 value)
{
	bool toggled = (value ^ u->fcr) & FCR_ENABLE;

	/* The other bits only take with the enable bit. */
	u->fcr = value & FCR_ENABLE ? value & 0xC1 : 0;
	if (toggled || value & FCR_CLEAR_RX)
		u->rx_head = u->rx_count = 0;
	if (toggled || value & FCR_CLEAR_TX)
		tx_drain_locked(u);
}

static u8 msr_lines(const struct uart *u)
{
	if (!(u->mcr & MCR_LOOP))
		return MSR_CTS | MSR_DSR | MSR_DCD;
	return (u->mcr & MCR_RTS ? MSR_CTS : 0) | (u->mcr & MCR_DTR ? MSR_DSR : 0) |
	       (u->mcr & MCR_OUT1 ? MSR_RI : 0) | (u->mcr & MCR_OUT2 ? MSR_DCD : 0);
}

static void mcr_write_locked(struct uart *u, u8 value)
{
	u8 before = msr_lines(u), after, changed;

	u->mcr = value & MCR_WRITABLE;
	after = msr_lines(u);
	changed = before ^ after;
	/* The ring indicator reports only its fall. */
	if (changed & after & MSR_RI)
		changed &= (u8)~MSR_RI;
	u->msr_delta |= changed >> 4;
}

static u8 iir_read_locked(struct uart *u)
{
	u8 iir;

	tx_drain_locked(u);
	iir = iir_now(u);
	if (iir == IIR_THRE)
		u->thre_pending = false;
	return iir | (u->fcr & FCR_ENABLE ? IIR_FIFO : 0);
}

static u8 rbr_read_locked(struct uart *u)
{
	u8 byte = 0;

	if (u->rx_count) {
		byte = u->rx[u->rx_head];
		u->rx_head = (u->rx_head + 1) % FIFO_BYTES;
		u->rx_count--;
	}
	return byte;
}

static u8 lsr_read_locked(struct uart *u)
{
	u8 lsr = LSR_THRE | LSR_IDLE;

	tx_drain_locked(u);
	if (u->rx_count)
		lsr |= LSR_DATA;
	if (u->overrun)
		lsr |= LSR_OVERRUN;
	u->overrun = false;
	return lsr;
}

static u8 msr_read_locked(struct uart *u)
{
	u8 msr = msr_lines(u) | u->msr_delta;

	u->msr_delta = 0;
	return msr;
}

static u8 reg_read_locked(struct uart *u, enum uart_reg reg)
{
	switch (reg) {
	case REG_DATA:
		return u->lcr & LCR_DLAB ? u->dll : rbr_read_locked(u);
	case REG_IER:
		return u->lcr & LCR_DLAB ? u->dlm : u->ier;
	case REG_IIR_FCR:
		return iir_read_locked(u);
	case REG_LCR:
		return u->lcr;
	case REG_MCR:
		return u->mcr;
	case REG_LSR:
		return lsr_read_locked(u);
	case REG_MSR:
		return msr_read_locked(u);
	case REG_SCR:
		return u->scr;
	}
	return 0xFF;
}

static void reg_write_locked(struct uart *u, enum uart_reg reg, u8 value)
{
	switch (reg) {
	case REG_DATA:
		if (u->lcr & LCR_DLAB)
			u->dll = value;
		else
			thr_write_locked(u, value);
		return;
	case REG_IER:
		if (u->lcr & LCR_DLAB)
			u->dlm = value;
		else
			ier_write_locked(u, value);
		return;
	case REG_IIR_FCR:
		fcr_write_locked(u, value);
		return;
	case REG_LCR:
		u->lcr = value;
		return;
	case REG_MCR:
		mcr_write_locked(u, value);
		return;
	case REG_SCR:
		u->scr = value;
		return;
	case REG_LSR:
	case REG_MSR:
		return; /* read only */
	}
}

/* After every access: more typed bytes fit, the wire may change, the typist may go on. */
static void settle_and_unlock(struct uart *u)
{
	bool room = false;

	rx_fill_locked(u);
	irq_update_locked(u);
	if (u->refused && u->queue_count <= UART_IN_BYTES / 2) {
		u->refused = false;
		room = true;
	}
	pthread_mutex_unlock(&u->lock);
	if (room && u->ops->input_room)
		u->ops->input_room(u->ctx);
}

static u64 uart_read(void *dev, u64 offset, u8 size)
{
	struct uart *u = dev;
	u8 value;

	pthread_mutex_lock(&u->lock);
	value = reg_read_locked(u, (enum uart_reg)(offset % UART_PORTS));
	settle_and_unlock(u);
	return value | ~0xFFull;
}

static void uart_write(void *dev, u64 offset, u8 size, u64 value)
{
	struct uart *u = dev;

	pthread_mutex_lock(&u->lock);
	while (offset == REG_DATA && u->out_count == UART_OUT_BYTES) {
		pthread_mutex_unlock(&u->lock);
		uart_flush(u);
		pthread_mutex_lock(&u->lock);
	}
	reg_write_locked(u, (enum uart_reg)(offset % UART_PORTS), (u8)value);
	settle_and_unlock(u);
}

const struct bus_ops uart_bus_ops = { uart_read, uart_write };

u32 uart_input(struct uart *u, const u8 *data, u32 len)
{
	u32 n = 0;

	pthread_mutex_lock(&u->lock);
	for (; n < len && u->queue_count < UART_IN_BYTES; n++) {
		u->queue[(u->queue_head + u->queue_count++) % UART_IN_BYTES] = data[n];
		rx_fill_locked(u);
	}
	u->refused = n < len;
	irq_update_locked(u);
	pthread_mutex_unlock(&u->lock);
	return n;
}

void uart_flush(struct uart *u)
{
	u8 chunk[UART_OUT_BYTES];
	u32 n;

	pthread_mutex_lock(&u->out_lock);
	pthread_mutex_lock(&u->lock);
	n = u->out_count;
	memcpy(chunk, u->out, n);
	u->out_count = 0;
	pthread_mutex_unlock(&u->lock);
	if (n)
		u->ops->output(u->ctx, chunk, n);
	pthread_mutex_unlock(&u->out_lock);
}

/* Waits for more output to come along, or for the end. */
static void flusher_linger_locked(struct uart *u)
{
	u64 us = u->ops->flush_us ? u->ops->flush_us : UART_FLUSH_US;
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	us += (u64)until.tv_nsec / 1000;
	until.tv_sec += (time_t)(us / 1000000);
	until.tv_nsec = (long)(us % 1000000) * 1000;
	while (!u->stopping && !pthread_cond_timedwait(&u->wake, &u->lock, &until))
		;
}

static void *flusher_main(void *arg)
{
	struct uart *u = arg;

	pthread_mutex_lock(&u->lock);
	while (!u->stopping) {
		if (!u->out_count && !u->tx_count) {
			u->flusher_busy = false;
			pthread_cond_wait(&u->wake, &u->lock);
			continue;
		}
		flusher_linger_locked(u);
		pthread_mutex_unlock(&u->lock);
		uart_flush(u);
		pthread_mutex_lock(&u->lock);
		tx_drain_locked(u);
		irq_update_locked(u);
	}
	pthread_mutex_unlock(&u->lock);
	return NULL;
}

/* Signals are for the threads that expect them. */
static int flusher_start(struct uart *u)
{
	sigset_t all, before;
	int ret;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	ret = pthread_create(&u->flusher, NULL, flusher_main, u);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -ret;
}

static void wake_init(struct uart *u)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&u->wake, &attr);
	pthread_condattr_destroy(&attr);
}

int uart_create(const struct uart_ops *ops, void *ctx, struct uart **out)
{
	struct uart *u = calloc(1, sizeof(*u));
	int ret;

	if (!u)
		return -ENOMEM;
	u->ops = ops;
	u->ctx = ctx;
	u->dll = 12; /* 9600 baud */
	pthread_mutex_init(&u->lock, NULL);
	pthread_mutex_init(&u->out_lock, NULL);
	wake_init(u);
	ret = flusher_start(u);
	if (ret) {
		free(u);
		return ret;
	}
	*out = u;
	return 0;
}

void uart_destroy(struct uart *u)
{
	if (!u)
		return;
	pthread_mutex_lock(&u->lock);
	u->stopping = true;
	pthread_cond_signal(&u->wake);
	pthread_mutex_unlock(&u->lock);
	pthread_join(u->flusher, NULL);
	uart_flush(u);
	pthread_cond_destroy(&u->wake);
	pthread_mutex_destroy(&u->out_lock);
	pthread_mutex_destroy(&u->lock);
	free(u);
}
