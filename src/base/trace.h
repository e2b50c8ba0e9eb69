/* SPDX-License-Identifier: MIT */
/*
 * Tracing for the developer: typed events, a buffer per producer thread, no
 * lock on the way in. Off is a NULL buffer and one branch. A writer thread
 * drains the buffers into the file; a producer that outruns it waits, so a
 * trace is complete or does not exist. The format follows the file's name:
 * ".json" is the Chrome/Perfetto trace format, anything else one line an event.
 */
#ifndef NESTOR_BASE_TRACE_H
#define NESTOR_BASE_TRACE_H

#include "base/types.h"

#define TRACE_ARGS 6

/* How an argument is printed. */
struct trace_arg {
	const char *name;
	bool hex;
	/* A word for the value, or NULL to print the number. */
	const char *(*word)(u64 value);
};

enum trace_phase { TRACE_INSTANT, TRACE_BEGIN, TRACE_END };

/* One row of a folder's trace table; the address of the row is the event's identity. */
struct trace_event {
	const char *category; /* "msr", "hypercall", ... */
	const char *name;
	enum trace_phase phase;
	struct trace_arg arg[TRACE_ARGS]; /* the first with a word also names the event */
};

struct trace;
struct trace_buffer;

/* Opens @path for writing and starts the writer. NULL with errno on failure. */
struct trace *trace_open(const char *path);
/* Writes out what is left, closes the file, frees all buffers. -errno if writing failed. */
int trace_close(struct trace *t);

/* One track, "L1 vp0". @track is copied. One thread at a time may emit into it. */
struct trace_buffer *trace_buffer_create(struct trace *t, const char *track);

void trace_emit_slow(struct trace_buffer *b, const struct trace_event *ev, const u64 args[TRACE_ARGS]);

#define trace_emit(buffer, ev, ...)                                                                \
	do {                                                                                       \
		struct trace_buffer *b_ = (buffer);                                                \
		if (unlikely(b_))                                                                  \
			trace_emit_slow(b_, (ev), (const u64[TRACE_ARGS]){ __VA_ARGS__ });         \
	} while (0)

#endif
