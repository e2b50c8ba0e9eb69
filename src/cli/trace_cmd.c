// SPDX-License-Identifier: MIT
/* nestor trace summary: how often each event happened, per row. */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "cli/options.h"

struct row {
	char *name;
	u64 count;
};

struct summary {
	struct row *rows;
	size_t used, room;
	u64 total;
};

static int add(struct summary *s, const char *name)
{
	s->total++;
	for (size_t i = 0; i < s->used; i++) {
		if (!strcmp(s->rows[i].name, name)) {
			s->rows[i].count++;
			return 0;
		}
	}
	if (s->used == s->room) {
		size_t room = s->room ? 2 * s->room : 64;
		struct row *rows = realloc(s->rows, room * sizeof(*rows));

		if (!rows)
			return -ENOMEM;
		s->rows = rows;
		s->room = room;
	}
	s->rows[s->used].name = strdup(name);
	if (!s->rows[s->used].name)
		return -ENOMEM;
	s->rows[s->used++].count = 1;
	return 0;
}

/* "0.001 hv/1/vp0 msr.read msr=SINT2 ...": the event and its first named value. */
static int add_text(struct summary *s, char *line)
{
	char name[256], *time, *track, *event, *arg, *save, *eq;

	time = strtok_r(line, " \n", &save);
	track = time ? strtok_r(NULL, " \n", &save) : NULL;
	event = track ? strtok_r(NULL, " \n", &save) : NULL;
	/* A track may hold a blank: "thread 3". */
	if (event && !strchr(event, '.'))
		event = strtok_r(NULL, " \n", &save);
	if (!event)
		return 0;
	arg = strtok_r(NULL, " \n", &save);
	eq = arg ? strchr(arg, '=') : NULL;
	snprintf(name, sizeof(name), "%s%s%s", event,
		 eq && strcmp(event, "synic.message") ? " " : "",
		 eq && strcmp(event, "synic.message") ? eq + 1 : "");
	return add(s, name);
}

static int add_json(struct summary *s, const char *line, size_t len)
{
	json_t *o = json_loadb(line, len, JSON_DISABLE_EOF_CHECK, NULL);
	const char *cat, *name;
	char full[256];
	int ret = 0;

	if (!o)
		return 0; /* the frame of the file */
	cat = json_string_value(json_object_get(o, "cat"));
	name = json_string_value(json_object_get(o, "name"));
	if (cat && name) {
		snprintf(full, sizeof(full), "%s.%s", cat, name);
		ret = add(s, full);
	}
	json_decref(o);
	return ret;
}

static int by_count(const void *a, const void *b)
{
	const struct row *x = a, *y = b;

	if (x->count != y->count)
		return x->count < y->count ? 1 : -1;
	return strcmp(x->name, y->name);
}

static int summarize(FILE *f, struct summary *s)
{
	char *line = NULL;
	size_t room = 0;
	ssize_t n;
	int ret = 0;

	while (!ret && (n = getline(&line, &room, f)) > 0)
		ret = line[0] == '{' ? add_json(s, line, (size_t)n) : add_text(s, line);
	free(line);
	return ret;
}

int cmd_trace(const struct command *cmd, int argc, char **argv)
{
	struct summary s = { 0 };
	FILE *f;
	int ret;

	if (argc != 3 || strcmp(argv[1], "summary")) {
		fprintf(stderr, "Usage: nestor trace %s\n", cmd->usage);
		return EXIT_USAGE;
	}
	f = fopen(argv[2], "re");
	if (!f) {
		fprintf(stderr, "nestor trace: %s: %s\n", argv[2], strerror(errno));
		return EXIT_USAGE;
	}
	ret = summarize(f, &s);
	fclose(f);
	if (s.used)
		qsort(s.rows, s.used, sizeof(s.rows[0]), by_count);
	for (size_t i = 0; i < s.used; i++) {
		printf("%10llu  %s\n", (unsigned long long)s.rows[i].count, s.rows[i].name);
		free(s.rows[i].name);
	}
	printf("%10llu  events\n", (unsigned long long)s.total);
	free(s.rows);
	return ret ? EXIT_NESTOR : EXIT_OK;
}
