/* SPDX-License-Identifier: MIT */
/*
 * Hypercalls that fail on purpose, so that one can see what a kernel does then. A
 * rule says which call, which one of them, how far it gets, and with what status;
 * it counts what it met, so that a run can say whether it ever applied.
 */
#ifndef NESTOR_CORE_FAIL_H
#define NESTOR_CORE_FAIL_H

#include "base/types.h"

#define FAIL_RULES_MAX	    16
#define FAIL_SYNTAX	    "[L0:|L1:]CALL[@N][+K][=STATUS]"
#define FAIL_DEFAULT_STATUS HV_STATUS_OPERATION_FAILED /* nobody knows a way around it */
#define FAIL_TEXT	    160

struct fail_rule {
	char hv[4]; /* "L0" or "L1": only where that one serves the call; "": wherever */
	u16 code, status;
	u32 nth;	   /* of the calls that reach a handler, counted from 1; 0: each of them */
	u32 after;	   /* elements of its list that are done before it fails */
	u64 calls, failed; /* atomic: how many there were, and how many of them were made to fail */
};

/* One list for the hypervisors of a machine. Its rules are made before any VP runs. */
struct fail_rules {
	struct fail_rule rule[FAIL_RULES_MAX];
	u32 count;
};

/* FAIL_SYNTAX as a rule, its counts zero. False, and a sentence for the user in @why. */
bool fail_parse(const char *text, struct fail_rule *out, char *why, size_t size);
/* The rule as fail_parse() takes it, with its status by name if it has one. */
const char *fail_format(const struct fail_rule *rule, char text[FAIL_TEXT]);

/*
 * A call @code that hypervisor @hv is about to carry out, with @left elements to do
 * (0: it has no list), counted. The first rule that makes it fail, or NULL. Any thread.
 */
struct fail_rule *fail_due(struct fail_rules *rules, const char *hv, u16 code, u32 left);
/* It did. Any thread. */
void fail_done(struct fail_rule *rule);

#endif
