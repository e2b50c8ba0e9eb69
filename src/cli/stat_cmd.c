// SPDX-License-Identifier: MIT
/* nestor stat: what an instance has done so far, once or again and again. */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/instance.h"
#include "cli/instance_args.h"
#include "cli/instance_cmds.h"
#include "cli/report.h"

ARGS_SWITCH(watch)

static int set_interval(void *cfg, const char *value, struct error *err)
{
	return option_seconds(value, &((struct instance_args *)cfg)->interval_ns, err);
}

const struct option_row stat_options[] = {
	{ "watch", NULL, "again and again, until the instance ends or Ctrl-C", set_watch },
	{ "interval", "TIME", "between two looks (default 1 second)", set_interval },
	ARGS_JSON_ROW,
	{ 0 },
};

static s64 num(const json_t *o, const char *key)
{
	return json_integer_value(json_object_get(o, key));
}

static const char *str(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

static double uptime(const json_t *o)
{
	return json_number_value(json_object_get(o, "uptime_seconds"));
}

static void print_head(const json_t *o)
{
	print_clean(stdout, str(o, "name"), 0);
	printf(": %s, ", str(o, "role"));
	print_clean(stdout, str(o, "kernel"), 0);
	printf(", %lld VP%s, %lld MiB, %s for %.1f s\n", (long long)num(o, "cpus"),
	       num(o, "cpus") == 1 ? "" : "s", (long long)num(o, "memory_bytes") >> 20,
	       str(o, "state"), uptime(o));
}

static void print_exits(json_t *o, json_t *before)
{
	json_t *exits = json_object_get(o, "exits"), *n;
	double seconds = uptime(o) - uptime(before);
	const char *name;

	printf("\n  %-34s%9s%9s\n", "exit", "count", before ? "per s" : "");
	json_object_foreach(exits, name, n)
	{
		if (!json_integer_value(n))
			continue;
		printf("  %-34s%9lld", name, (long long)json_integer_value(n));
		if (before && seconds > 0)
			printf("%9.0f", (double)(json_integer_value(n) -
						 num(json_object_get(before, "exits"), name)) /
						seconds);
		putchar('\n');
	}
}

static void print_vp(const json_t *vp)
{
	char name[48];

	snprintf(name, sizeof(name), "    VP %lld, %s, %.2f s", (long long)num(vp, "index"),
		 str(vp, "state"), json_number_value(json_object_get(vp, "run_seconds")));
	printf("  %-34s%9lld%11lld\n", name, (long long)num(vp, "exits"),
	       (long long)num(vp, "intercepts"));
}

static void print_partition(const json_t *p)
{
	json_t *vps = json_object_get(p, "vps"), *vp;
	bool child = json_is_integer(json_object_get(p, "parent"));
	char name[64];
	size_t i;

	if (child)
		snprintf(name, sizeof(name), "  %s/%lld of %lld, %s, %zu VP%s",
			 str(p, "hypervisor"), (long long)num(p, "id"), (long long)num(p, "parent"),
			 str(p, "state"), json_array_size(vps),
			 json_array_size(vps) == 1 ? "" : "s");
	else
		snprintf(name, sizeof(name), "%s/%lld, %s, %zu VP%s", str(p, "hypervisor"),
			 (long long)num(p, "id"), str(p, "state"), json_array_size(vps),
			 json_array_size(vps) == 1 ? "" : "s");
	printf("  %-34s%9lld%11lld%7lld%8lld%9lld%7lld\n", name, (long long)num(p, "exits"),
	       (long long)num(p, "intercepts"), (long long)num(p, "pool_pages"),
	       (long long)num(p, "pool_in_use"), (long long)num(p, "mapped_pages"),
	       (long long)num(p, "ports"));
	if (!child)
		return;
	json_array_foreach(vps, i, vp) print_vp(vp);
}

/* Who is in which hypervisor. For a machine that could create partitions. */
static void print_partitions(const json_t *o)
{
	json_t *partitions = json_object_get(o, "partitions"), *p;
	size_t i;

	printf("  %-34s%9s%11s%7s%8s%9s%7s\n", "partition", "exits", "intercepts", "pool", "in use",
	       "mapped", "ports");
	json_array_foreach(partitions, i, p) print_partition(p);
	children_print(stdout, json_object_get(o, "children"), "  ");
}

static void print_rest(json_t *o)
{
	json_t *quirks = json_object_get(o, "quirks"), *d = json_object_get(o, "deposits"), *n;
	json_t *channels = json_object_get(o, "channels"), *c;
	const char *name;
	size_t i;

	if (num(d, "calls"))
		printf("  deposits: %lld pages in %lld calls, %lld in use\n",
		       (long long)num(d, "pages"), (long long)num(d, "calls"),
		       (long long)num(d, "in_use"));
	json_object_foreach(quirks, name, n)
		printf("  quirk %s: used %lld time%s\n", name, (long long)json_integer_value(n),
		       json_integer_value(n) == 1 ? "" : "s");
	fails_print(stdout, json_object_get(o, "fails"), "  --fail ");
	if (!json_array_size(channels))
		return;
	printf("  %-34s%9s%9s%9s%9s\n", "VMBus channel", "packets", "sent", "signals", "back");
	json_array_foreach(channels, i, c)
	{
		char text[64];

		if (!json_is_true(json_object_get(c, "open")))
			continue;
		snprintf(text, sizeof(text), "%s, channel %lld, VP %lld", str(c, "device"),
			 (long long)num(c, "index"), (long long)num(c, "vp"));
		printf("  %-34s%9lld%9lld%9lld%9lld\n", text, (long long)num(c, "packets"),
		       (long long)(num(c, "sends") + num(c, "completions")),
		       (long long)num(c, "signals_in"), (long long)num(c, "signals_out"));
	}
}

static void show(json_t *o, json_t *before, const struct instance_args *a)
{
	if (a->json) {
		json_dumpf(o, stdout, JSON_COMPACT);
		putchar('\n');
	} else {
		if (a->watch && isatty(STDOUT_FILENO))
			fputs("\033[H\033[2J", stdout);
		print_head(o);
		if (strcmp(str(o, "role"), "guest")) {
			putchar('\n');
			print_partitions(o);
		}
		routes_print(stdout, json_object_get(o, "routes"),
			     json_is_true(json_object_get(o, "nested")));
		print_rest(o);
		print_exits(o, before);
	}
	fflush(stdout);
}

int cmd_stat(const struct command *cmd, int argc, char **argv)
{
	struct instance_args a = { .interval_ns = 1000000000 };
	int status = args_parse(cmd, &a, false, 1, 1, argc, argv);
	json_t *o = NULL, *before = NULL;
	struct timespec pause;
	struct instance in;

	if (status >= 0)
		return status;
	status = instance_find(cmd, a.word[0], &in);
	if (status)
		return status;
	if (in.fd < 0)
		return instance_pass_on(&in, argc, argv);
	pause = (struct timespec){ (time_t)(a.interval_ns / 1000000000),
				   (long)(a.interval_ns % 1000000000) };
	while ((o = instance_ask(cmd, &in, json_pack("{s:s}", "do", "stat"), -1, NULL)) != NULL) {
		show(o, before, &a);
		json_decref(before);
		before = o;
		if (!a.watch)
			break;
		nanosleep(&pause, NULL);
	}
	/* A watch that saw it end has done its work. */
	status = before ? EXIT_OK : EXIT_NESTOR;
	json_decref(before);
	instance_close(&in);
	return status;
}
