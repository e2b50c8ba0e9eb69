// SPDX-License-Identifier: MIT
/* What each trace event of the core carries, in order, and how it is printed. */
#include "core/core_trace.h"

#include "core/hypercall.h"
#include "core/msr.h"
#include "hvdef/status.h"

static const char *status_word(u64 value)
{
	return hv_status_name((u16)value);
}

static const char *exit_word(u64 kind)
{
	static const char *const words[ENGINE_EXIT_COUNT] = {
		[ENGINE_EXIT_INTR] = "intr",
		[ENGINE_EXIT_HYPERCALL] = "hypercall",
		[ENGINE_EXIT_IO] = "io",
		[ENGINE_EXIT_MMIO] = "mmio",
		[ENGINE_EXIT_RDMSR] = "rdmsr",
		[ENGINE_EXIT_WRMSR] = "wrmsr",
		[ENGINE_EXIT_EOI] = "eoi",
		[ENGINE_EXIT_HALT] = "halt",
		[ENGINE_EXIT_SHUTDOWN] = "triple-fault",
		[ENGINE_EXIT_MEMORY] = "memory",
		[ENGINE_EXIT_ERROR] = "error",
	};

	return kind < ARRAY_SIZE(words) ? words[kind] : NULL;
}

static const char *result_word(u64 fault)
{
	return fault ? "#GP" : "ok";
}

static const char *overlay_word(u64 kind)
{
	return (const char *)(uintptr_t)kind; /* the overlay's name, a literal */
}

static const char *hypervisor_word(u64 name)
{
	return (const char *)(uintptr_t)name; /* struct hypervisor's name outlives the trace */
}

#define STATUS                                                                                     \
	{                                                                                          \
		"status", true, status_word                                                        \
	}
#define HV                                                                                         \
	{                                                                                          \
		"by", false, hypervisor_word                                                       \
	}

const struct trace_event core_trace[TRACE_COUNT] = {
	[TRACE_EXIT_BEGIN] = { "exit",
			       "exit",
			       TRACE_BEGIN,
			       { { "kind", false, exit_word },
				 { "where", true },
				 { "data", true } } },
	[TRACE_EXIT_END] = { "exit", "enter", TRACE_END, { { "kind", false, exit_word } } },
	[TRACE_CPUID] = { "cpuid",
			  "leaf",
			  TRACE_INSTANT,
			  { { "leaf", true },
			    { "eax", true },
			    { "ebx", true },
			    { "ecx", true },
			    { "edx", true } } },
	[TRACE_MSR_READ] = { "msr",
			     "read",
			     TRACE_INSTANT,
			     { { "msr", true, msr_name },
			       { "value", true },
			       { "result", false, result_word },
			       HV } },
	[TRACE_MSR_WRITE] = { "msr",
			      "write",
			      TRACE_INSTANT,
			      { { "msr", true, msr_name },
				{ "value", true },
				{ "result", false, result_word },
				HV } },
	[TRACE_HYPERCALL_BEGIN] = { "hypercall",
				    "call",
				    TRACE_BEGIN,
				    { { "code", true, hypercall_name },
				      { "control", true },
				      { "input", true },
				      { "output", true },
				      HV } },
	[TRACE_HYPERCALL_END] = { "hypercall",
				  "return",
				  TRACE_END,
				  { { "code", true, hypercall_name },
				    STATUS,
				    { "reps", false },
				    HV } },
	[TRACE_HYPERCALL_FAIL] = { "hypercall",
				   "fail",
				   TRACE_INSTANT,
				   { { "code", true, hypercall_name },
				     STATUS,
				     { "reps", false },
				     HV } },
	[TRACE_HYPERCALL_LEFTOVER] = { "hypercall",
				       "leftover",
				       TRACE_INSTANT,
				       { { "code", true, hypercall_name },
					 { "offset", false },
					 { "value", true },
					 HV } },
	[TRACE_MESSAGE] = { "synic",
			    "message",
			    TRACE_INSTANT,
			    { { "vp", false },
			      { "sint", false },
			      { "type", true },
			      { "sender", true },
			      HV } },
	[TRACE_MESSAGE_QUEUED] = { "synic",
				   "message-queued",
				   TRACE_INSTANT,
				   { { "vp", false },
				     { "sint", false },
				     { "type", true },
				     { "sender", true },
				     HV } },
	[TRACE_EVENT_FLAG] = { "synic",
			       "event",
			       TRACE_INSTANT,
			       { { "vp", false },
				 { "sint", false },
				 { "flag", false },
				 { "was", false },
				 HV } },
	[TRACE_INTERRUPT] = { "interrupt",
			      "assert",
			      TRACE_INSTANT,
			      { { "vp", false }, { "vector", true }, HV } },
	[TRACE_STIMER] = { "stimer",
			   "expire",
			   TRACE_INSTANT,
			   { { "vp", false },
			     { "timer", false },
			     { "due", false },
			     { "now", false },
			     HV } },
	[TRACE_OVERLAY] = { "overlay",
			    "map",
			    TRACE_INSTANT,
			    { { "page", false, overlay_word },
			      { "gpa", true },
			      { "enabled", false } } },
	[TRACE_CONNECTION_MESSAGE] = { "port",
				       "post",
				       TRACE_INSTANT,
				       { { "connection", true },
					 { "type", true },
					 { "bytes", false },
					 STATUS,
					 HV } },
	[TRACE_CONNECTION_EVENT] = { "port",
				     "signal",
				     TRACE_INSTANT,
				     { { "connection", true }, { "flag", false }, STATUS, HV } },
	[TRACE_DEPOSIT] = { "deposit",
			    "add",
			    TRACE_INSTANT,
			    { { "gpa", true }, { "call", false }, STATUS, HV } },
	[TRACE_WITHDRAW] = { "deposit", "withdraw", TRACE_INSTANT, { { "gpa", true }, HV } },
};
