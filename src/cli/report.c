// SPDX-License-Identifier: MIT
/* Guest bytes are shown only after control characters are taken out. */
#include "cli/report.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "cli/options.h"
#include "machine/machine_json.h"

int report_status(const struct machine_report *r)
{
	switch (r->reason) {
	case STOP_POWER_OFF:
		return r->crashed ? EXIT_GUEST_PANIC : EXIT_OK;
	case STOP_EXIT:
		return r->code & 0xFF;
	case STOP_RESET:
		return r->crashed ? EXIT_GUEST_PANIC : EXIT_GUEST_RESET;
	case STOP_PANIC:
		return EXIT_GUEST_PANIC;
	case STOP_TRIPLE_FAULT:
		return r->crashed ? EXIT_GUEST_PANIC : EXIT_GUEST_TRIPLE_FAULT;
	case STOP_GUEST_ERROR:
		return EXIT_GUEST_ERROR;
	case STOP_TIMEOUT:
		return EXIT_TIMEOUT;
	case STOP_KILLED:
		return r->code;
	case STOP_NONE:
	case STOP_HOST_ERROR:
		return EXIT_NESTOR;
	}
	return EXIT_NESTOR;
}

static double seconds(u64 ns)
{
	return (double)ns / 1e9;
}

/* Guest bytes without control characters, up to the end of the line. */
static void print_guest_line(FILE *out, const char *text, size_t len)
{
	for (; len && *text != '\n'; text++, len--)
		fputc(*text < 0x20 || *text == 0x7F ? ' ' : *text, out);
}

/* "Kernel panic - not syncing: reason" stands above the registers and the call trace. */
static void print_reason(FILE *out, const char *text, size_t len)
{
	static const char what[] = "Kernel panic - ";
	const char *last = NULL, *p = text;

	while ((p = memmem(p, len - (size_t)(p - text), what, sizeof(what) - 1)))
		last = p++;
	if (!last)
		return;
	fputs(": ", out);
	print_guest_line(out, last, len - (size_t)(last - text));
}

/* The reason, and the last lines of the kernel's text. */
static void print_crash(FILE *out, const struct crash_report *c)
{
	const char *text = c->message;
	u32 n = c->message_bytes, from = 0, lines = 0;

	fputs("nestor: the guest reported a panic", out);
	print_reason(out, text, n);
	fprintf(out,
		"\nnestor: its crash registers: P0 0x%llx P1 0x%llx P2 0x%llx P3 0x%llx P4 0x%llx\n",
		(unsigned long long)c->parameter[0], (unsigned long long)c->parameter[1],
		(unsigned long long)c->parameter[2], (unsigned long long)c->parameter[3],
		(unsigned long long)c->parameter[4]);
	while (n && (text[n - 1] == '\n' || !text[n - 1]))
		n--;
	for (from = n; from && lines < 24; from--)
		if (text[from - 1] == '\n' && ++lines == 24)
			break;
	if (n > from)
		fputs("  | ", out);
	for (; from < n; from++) {
		if (text[from] == '\n')
			fputs("\n  | ", out);
		else
			fputc(text[from] < 0x20 || text[from] == 0x7F ? ' ' : text[from], out);
	}
	if (n)
		fputc('\n', out);
}

static void print_line(FILE *out, const struct machine_config *cfg, const struct machine_report *r)
{
	const char *sep = "";

	fprintf(out, "nestor: %s, %s, %u VP%s: %s after %.2f s", role_profiles[cfg->role].name,
		r->kernel[0] ? r->kernel : cfg->kernel, cfg->cpus, cfg->cpus == 1 ? "" : "s",
		r->text, seconds(r->run_ns));
	if (r->init_ns)
		fprintf(out, "; init at %.2f s, %llu exits", seconds(r->init_ns),
			(unsigned long long)r->init_exits);
	fprintf(out, "; %llu exits (", (unsigned long long)r->exit_total);
	for (u32 i = 0; i < ENGINE_EXIT_COUNT; i++) {
		if (!r->exits[i])
			continue;
		fprintf(out, "%s%llu %s", sep, (unsigned long long)r->exits[i],
			machine_exit_name((enum engine_exit_kind)i));
		sep = ", ";
	}
	fprintf(out, "); %llu hypercall%s", (unsigned long long)r->hypercalls,
		r->hypercalls == 1 ? "" : "s");
	if (r->hypercalls_refused)
		fprintf(out, ", %llu refused", (unsigned long long)r->hypercalls_refused);
	fputc('\n', out);
}

static void count_cell(FILE *out, json_int_t n)
{
	if (n)
		fprintf(out, "%9lld", (long long)n);
	else
		fprintf(out, "%9s", ".");
}

static json_int_t count(const json_t *row, const char *key)
{
	return json_integer_value(json_object_get(row, key));
}

static void route_heading(FILE *out, const char *what, bool nested)
{
	if (nested)
		fprintf(out, "\n  %-34s%9s%9s%9s%9s\n", what, "L0", "L1", "L1>L0", "refused");
	else
		fprintf(out, "\n  %-34s%9s%9s\n", what, "served", "refused");
}

/* L1>L0: sent to L1, which passed it on because a quirk told it to. */
void routes_print(FILE *out, const json_t *routes, bool nested)
{
	const char *kind, *last = "";
	const json_t *row;
	size_t i;

	json_array_foreach(routes, i, row)
	{
		json_int_t own = count(row, "L1"), forwarded = count(row, "forwarded");

		kind = json_string_value(json_object_get(row, "kind"));
		if (strcmp(kind, last))
			route_heading(out, kind, nested);
		last = kind;
		fprintf(out, "  %-34s", json_string_value(json_object_get(row, "name")));
		if (nested)
			count_cell(out, count(row, "L0"));
		count_cell(out, own > forwarded ? own - forwarded : 0);
		if (nested)
			count_cell(out, forwarded);
		count_cell(out, count(row, "refused"));
		fputc('\n', out);
	}
	fputc('\n', out);
}

/* Which of its two hypervisors a nested root talked to. */
static void print_routes(FILE *out, struct machine *m)
{
	json_t *routes = machine_routes_json(m);

	routes_print(out, routes, true);
	json_decref(routes);
}

static void print_quirks(FILE *out, struct machine *m)
{
	u64 uses[QUIRK_COUNT];
	u32 on = machine_quirks(m, uses);

	for (u32 i = 0; i < QUIRK_COUNT; i++)
		if ((on & BIT(i)) && uses[i])
			fprintf(out, "nestor: quirk %s was used %llu time%s: %s\n", quirks[i].name,
				(unsigned long long)uses[i], uses[i] == 1 ? "" : "s",
				quirks[i].defect);
}

void fails_print(FILE *out, const json_t *fails, const char *prefix)
{
	const json_t *f;
	size_t i;

	json_array_foreach(fails, i, f)
	{
		json_int_t calls = count(f, "calls"), failed = count(f, "failed");

		fprintf(out, "%s%s: ", prefix, json_string_value(json_object_get(f, "rule")));
		if (failed)
			fprintf(out, "%lld of %lld call%s failed on purpose\n", (long long)failed,
				(long long)calls, calls == 1 ? "" : "s");
		else
			fprintf(out, "never happened, in %lld call%s\n", (long long)calls,
				calls == 1 ? "" : "s");
	}
}

static void print_fails(FILE *out, struct machine *m)
{
	json_t *fails = machine_fails_json(m);

	fails_print(out, fails, "nestor: --fail ");
	json_decref(fails);
}

static void print_kinds(FILE *out, const json_t *children)
{
	const char *name, *sep = " (";
	json_t *n;

	json_object_foreach(json_object_get(children, "intercepts_by_kind"), name, n)
	{
		fprintf(out, "%s%lld %s", sep, (long long)json_integer_value(n), name);
		sep = ", ";
	}
	if (*sep == ',')
		fputc(')', out);
}

void children_print(FILE *out, const json_t *children, const char *prefix)
{
	json_int_t created = count(children, "created"), gone = count(children, "destroyed");
	json_int_t intercepts = count(children, "intercepts"), left = count(children, "left");

	if (!created)
		return;
	fprintf(out, "%schildren: %lld created, %lld gone", prefix, (long long)created,
		(long long)gone);
	if (left)
		fprintf(out, " (%lld of them only when their parent ended)", (long long)left);
	fprintf(out, "; VPs: %lld created, %lld gone\n", (long long)count(children, "vps_created"),
		(long long)count(children, "vps_destroyed"));
	fprintf(out, "%schildren: %lld intercepts", prefix, (long long)intercepts);
	print_kinds(out, children);
	fprintf(out, "; %lld hypercalls for them", (long long)count(children, "hypercalls"));
	if (intercepts)
		fprintf(out, ", %.2f to an intercept",
			json_real_value(json_object_get(children, "hypercalls_per_intercept")));
	fputc('\n', out);
}

static void print_children(FILE *out, struct machine *m)
{
	json_t *children = machine_children_json(m);

	children_print(out, children, "nestor: ");
	json_decref(children);
}

static json_t *integer(u64 v)
{
	return json_integer((json_int_t)v);
}

static json_t *crash_json(const struct crash_report *c)
{
	json_t *p = json_array(), *text = json_stringn(c->message, c->message_bytes);

	for (u32 i = 0; i < HV_CRASH_PARAMETER_COUNT; i++)
		json_array_append_new(p, integer(c->parameter[i]));
	return json_pack("{s:o, s:o}", "parameters", p, "message", text ? text : json_null());
}

static void print_json(FILE *out, const struct machine_config *cfg, struct machine *m,
		       const struct machine_report *r)
{
	json_t *o = json_object();
	char *text;

	json_object_set_new(o, "role", json_string(role_profiles[cfg->role].name));
	json_object_set_new(o, "kernel", json_string(r->kernel[0] ? r->kernel : cfg->kernel));
	json_object_set_new(o, "cpus", integer(cfg->cpus));
	json_object_set_new(o, "memory_bytes", integer(cfg->memory_bytes));
	json_object_set_new(o, "ended", json_string(r->text));
	json_object_set_new(o, "status", json_integer(report_status(r)));
	json_object_set_new(o, "start_seconds", json_real(seconds(r->setup_ns)));
	json_object_set_new(o, "start_cpu_seconds", json_real(seconds(r->setup_cpu_ns)));
	json_object_set_new(o, "init_seconds",
			    r->init_ns ? json_real(seconds(r->init_ns)) : json_null());
	json_object_set_new(o, "run_seconds", json_real(seconds(r->run_ns)));
	json_object_set_new(o, "exits_to_init", integer(r->init_exits));
	machine_counts_json(o, m, r);
	json_object_set_new(o, "crash", r->crashed ? crash_json(&r->crash) : json_null());
	/* At once: standard error has no buffer, and jansson writes each sign by itself. */
	text = json_dumps(o, JSON_COMPACT);
	if (text)
		fprintf(out, "%s\n", text);
	free(text);
	json_decref(o);
}

void report_print(FILE *out, const struct machine_config *cfg, struct machine *m,
		  const struct machine_report *r, bool json)
{
	if (json) {
		print_json(out, cfg, m, r);
		return;
	}
	if (r->crashed)
		print_crash(out, &r->crash);
	if (role_profiles[cfg->role].nested)
		print_routes(out, m);
	print_quirks(out, m);
	print_fails(out, m);
	print_children(out, m);
	print_line(out, cfg, r);
}
