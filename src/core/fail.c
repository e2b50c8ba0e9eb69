// SPDX-License-Identifier: MIT
/* Calls are found by the names of their rows, statuses by those of hvdef/status.h. */
#include "core/fail.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/hypercall.h"

#define CALL_PREFIX   "HvCall"
#define STATUS_PREFIX "HV_STATUS_"
#define NAMES_MAX     5 /* to choose from, where none was meant exactly */

struct why {
	char *text;
	size_t size;
};

static bool PRINTF_FMT(2, 3) wrong(const struct why *why, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why->text, why->size, fmt, ap);
	va_end(ap);
	return false;
}

/* @name, with or without its prefix, in any case. */
static bool is_name(const char *name, const char *prefix, const char *text, size_t len)
{
	if (strlen(name) == len && !strncasecmp(name, text, len))
		return true;
	name += strlen(prefix);
	return strlen(name) == len && !strncasecmp(name, text, len);
}

static bool has_part(const char *name, const char *text, size_t len)
{
	for (; strlen(name) >= len; name++)
		if (!strncasecmp(name, text, len))
			return true;
	return false;
}

/* " did you mean A, B?" */
static bool no_such_call(const char *text, size_t len, const struct why *why)
{
	char names[256] = "";
	u32 n = 0;

	for (u32 i = 0; len && i < hypercall_row_count(); i++) {
		const char *name = hypercall_row(i)->name;
		size_t used = strlen(names);

		if (!has_part(name, text, len))
			continue;
		if (++n > NAMES_MAX)
			break;
		snprintf(names + used, sizeof(names) - used, "%s%s", n > 1 ? ", " : "", name);
	}
	if (n && n <= NAMES_MAX)
		return wrong(why, "there is no hypercall '%.*s'; did you mean %s?", (int)len, text,
			     names);
	return wrong(why, "there is no hypercall '%.*s'; 'nestor help --tables' lists them",
		     (int)len, text);
}

static const struct hypercall_desc *find_call(const char *text, size_t len)
{
	for (u32 i = 0; i < hypercall_row_count(); i++)
		if (is_name(hypercall_row(i)->name, CALL_PREFIX, text, len))
			return hypercall_row(i);
	return NULL;
}

/* Digits behind a sign, up to the next part. */
static bool number(const char **text, u32 min, u32 max, u32 *out, const struct why *why)
{
	char sign = **text, *end;
	unsigned long v;

	errno = 0;
	v = strtoul(*text + 1, &end, 0);
	if (!isdigit((unsigned char)(*text)[1]) || errno || v < min || v > max)
		return wrong(why, "'%c' takes a number from %u to %u", sign, min, max);
	*out = (u32)v;
	*text = end;
	return true;
}

static bool find_status(const char *text, u16 *out, const struct why *why)
{
	char *end;
	unsigned long v = strtoul(text, &end, 0);

	if (isdigit((unsigned char)*text) && !*end && v && v <= 0xFFFF) {
		*out = (u16)v;
		return true;
	}
	for (u32 status = 1; status <= 0xFFFF; status++) {
		const char *name = hv_status_name((u16)status);

		if (name && is_name(name, STATUS_PREFIX, text, strlen(text))) {
			*out = (u16)status;
			return true;
		}
	}
	return wrong(why,
		     "'%s' is no status that a failed call has: a number from 1 to 0xffff, or a "
		     "name of 'nestor help --tables'",
		     text);
}

/* What stands behind the name, in this order, each once. */
static bool parse_rest(const char *text, const struct hypercall_desc *d, struct fail_rule *r,
		       const struct why *why)
{
	if (*text == '@' && !number(&text, 1, ~0u, &r->nth, why))
		return false;
	if (*text == '+' && !hypercall_is_rep(d))
		return wrong(why, "%s has no list of elements, it fails as a whole: leave out '%s'",
			     d->name, text);
	if (*text == '+' && !number(&text, 0, HYPERCALL_REPS_MAX - 1, &r->after, why))
		return false;
	if (*text == '=')
		return find_status(text + 1, &r->status, why);
	return !*text || wrong(why, "'%s' is not understood: it is " FAIL_SYNTAX, text);
}

bool fail_parse(const char *text, struct fail_rule *out, char *why, size_t size)
{
	const struct why w = { why, size };
	const struct hypercall_desc *d;
	size_t len;

	*out = (struct fail_rule){ .status = FAIL_DEFAULT_STATUS };
	if (!strncasecmp(text, "L0:", 3) || !strncasecmp(text, "L1:", 3)) {
		snprintf(out->hv, sizeof(out->hv), "L%c", text[1]);
		text += 3;
	}
	len = strcspn(text, "@+=");
	d = find_call(text, len);
	if (!d)
		return no_such_call(text, len, &w);
	out->code = d->code;
	return parse_rest(text + len, d, out, &w);
}

const char *fail_format(const struct fail_rule *rule, char text[FAIL_TEXT])
{
	const char *status = hv_status_name(rule->status);
	char nth[16] = "", after[16] = "", number[16];

	if (rule->nth)
		snprintf(nth, sizeof(nth), "@%u", rule->nth);
	if (rule->after)
		snprintf(after, sizeof(after), "+%u", rule->after);
	snprintf(number, sizeof(number), "0x%x", rule->status);
	snprintf(text, FAIL_TEXT, "%s%s%s%s%s=%s", rule->hv, *rule->hv ? ":" : "",
		 hypercall_name(rule->code), nth, after, status ? status : number);
	return text;
}

struct fail_rule *fail_due(struct fail_rules *rules, const char *hv, u16 code, u32 left)
{
	struct fail_rule *due = NULL;

	for (u32 i = 0; i < rules->count; i++) {
		struct fail_rule *r = &rules->rule[i];
		u64 n;

		if (r->code != code || (*r->hv && strcmp(r->hv, hv)))
			continue;
		n = __atomic_add_fetch(&r->calls, 1, __ATOMIC_RELAXED);
		if (!due && (!r->nth || r->nth == n) && (!r->after || r->after < left))
			due = r;
	}
	return due;
}

void fail_done(struct fail_rule *rule)
{
	__atomic_fetch_add(&rule->failed, 1, __ATOMIC_RELAXED);
}
