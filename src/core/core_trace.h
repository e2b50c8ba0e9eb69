/* SPDX-License-Identifier: MIT */
/* The core's trace events: one row each in core_trace.c, named here. */
#ifndef NESTOR_CORE_CORE_TRACE_H
#define NESTOR_CORE_CORE_TRACE_H

#include "base/trace.h"

enum core_trace_id {
	TRACE_EXIT_BEGIN,
	TRACE_EXIT_END,
	TRACE_CPUID,
	TRACE_MSR_READ,
	TRACE_MSR_WRITE,
	TRACE_HYPERCALL_BEGIN,
	TRACE_HYPERCALL_END,
	TRACE_HYPERCALL_FAIL,
	TRACE_HYPERCALL_LEFTOVER,
	TRACE_MESSAGE,
	TRACE_MESSAGE_QUEUED,
	TRACE_EVENT_FLAG,
	TRACE_INTERRUPT,
	TRACE_STIMER,
	TRACE_OVERLAY,
	TRACE_CONNECTION_MESSAGE,
	TRACE_CONNECTION_EVENT,
	TRACE_DEPOSIT,
	TRACE_WITHDRAW,
	TRACE_COUNT,
};

extern const struct trace_event core_trace[TRACE_COUNT];

/* core_emit(TRACE_MSR_READ, ...): arguments in the order of the row. */
#define core_emit(id, ...) trace_emit(&core_trace[id], __VA_ARGS__)

/* Names travel as arguments: literals, and names of objects that outlive the trace. */
#define TRACE_WORD(s) ((u64)(uintptr_t)(s))

#endif
