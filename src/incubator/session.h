/* SPDX-License-Identifier: MIT */
/*
 * The outer end of one command: this process's standard streams on one side, a
 * link to the agent (or to the process that has one) on the other.
 */
#ifndef NESTOR_INCUBATOR_SESSION_H
#define NESTOR_INCUBATOR_SESSION_H

#include "incubator/link.h"

#include <poll.h>
#include <signal.h>
#include <termios.h>

#define SESSION_POLLS 4

struct session_out {
	u8 *data; /* WIRE_WINDOW bytes of room */
	size_t len;
	bool closed; /* nobody reads what we write */
};

struct session {
	struct link *link;
	u16 id;
	bool started;	/* the command runs */
	bool ended;	/* it ended, or never ran; see status */
	bool signalled; /* it died of signal @status */
	int status;
	u32 tty_streams;
	bool raw; /* the terminal is in raw mode */
	struct termios cooked;
	bool stdin_open;
	u32 stdin_window;
	u8 escape_state; /* progress in recognising Ctrl-a x */
	u32 escape_count;
	u64 escape_ms;
	bool abandoned; /* the user insisted on leaving */
	struct session_out out[WIRE_STREAMS];
	int held_fd; /* output kept back, an anonymous file; -1: none is */
	size_t held_bytes;
	bool stdin_taken; /* bytes of standard input went to the command */
	sigset_t old_mask;
	int signals_fd;
};

/* Blocks the signals it will forward. 0 or a negative errno. */
int session_init(struct session *s, struct link *link, u16 id);

/* Flushes nothing; puts the terminal and the signal mask back. */
void session_fini(struct session *s);

/* Sends the start message for @argv with this process's surroundings. */
int session_start(struct session *s, char *const *argv);

/* A frame of this session came in. */
void session_frame(struct session *s, const struct wire_frame *f);

/* Fills up to SESSION_POLLS entries; session_polled() gets them back after poll(). */
int session_poll(struct session *s, struct pollfd *fds);
void session_polled(struct session *s, const struct pollfd *fds, int count);

/* True when the command ended and all it wrote has been handed on. */
bool session_done(const struct session *s);

/*
 * From now on output is kept (up to a limit, from where on it flows) until it is
 * released, or forgotten by session_fini().
 */
void session_hold_output(struct session *s);
void session_release_output(struct session *s);

/* Could the command be started again, and find its input as it was? */
bool session_repeatable(const struct session *s);

/* Puts everything back, and returns the exit status or dies of the same signal. */
int session_result(struct session *s);

#endif
