/* SPDX-License-Identifier: MIT */
/*
 * Tracing for the developer: typed events, a buffer per producer thread, no
 * lock on the way in. Off is one branch. A writer thread
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

/*
 * One trace per process. trace_start() opens @path for writing and starts the
 * writer: 0 or -errno, -EBUSY while one runs. trace_stop() writes out what is left and frees all
 * buffers; no other thread may still emit: 0, or -errno if writing failed.
 */
int trace_start(const char *path);
int trace_stop(void);

/* Names the calling thread's track, "L1 vp0"; without it the track is "thread N". Copied. */
void trace_name_thread(const char *track);

extern bool
	trace_on; /* read without ordering: it changes before threads start and after they end */

void trace_emit_slow(const struct trace_event *ev, const u64 args[TRACE_ARGS]);

/* Any thread; each has a buffer of its own, made at its first event. */
#define trace_emit(ev, ...)                                                                        \
	do {                                                                                       \
		if (unlikely(trace_on))                                                            \
			trace_emit_slow((ev), (const u64[TRACE_ARGS]){ __VA_ARGS__ });             \
	} while (0)

#endif
