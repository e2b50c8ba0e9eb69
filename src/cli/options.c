// SPDX-License-Identifier: MIT
/* Long options only, as "--name value" or "--name=value". */
#include "cli/options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

const char exit_status_text[] = "0    the guest powered off, or its command succeeded\n"
				"N    the status of the guest's command\n"
				"2    wrong usage: an option, a file, a kernel, too little memory\n"
				"100  the guest reset itself\n"
				"101  the guest panicked\n"
				"102  the guest triple-faulted\n"
				"103  the guest did what cannot be answered\n"
				"122  the incubator hung: run it again\n"
				"124  --timeout ran out\n"
				"125  Nestor or the host failed\n"
				"128+N ended by signal N\n";

static const struct option_row *find(const struct command *cmd, const char *name, size_t len)
{
	for (const struct option_row *o = cmd->options; o && o->name; o++)
		if (strlen(o->name) == len && !memcmp(o->name, name, len))
			return o;
	return NULL;
}

static int fail(const struct command *cmd, const char *text)
{
	fprintf(stderr, "nestor %s: %s; see 'nestor help %s'\n", cmd->name, text, cmd->name);
	return -EINVAL;
}

static int parse_one(const struct command *cmd, void *cfg, int argc, char **argv, int *i)
{
	const char *name = argv[*i] + 2, *value = strchr(name, '=');
	size_t len = value ? (size_t)(value - name) : strlen(name);
	const struct option_row *o = find(cmd, name, len);
	struct error err = { "" };
	char text[640];

	if (!o) {
		snprintf(text, sizeof(text), "there is no option --%.*s", (int)len, name);
		return fail(cmd, text);
	}
	if (o->arg && value) {
		value++;
	} else if (o->arg) {
		if (*i + 1 >= argc) {
			snprintf(text, sizeof(text), "--%s needs %s", o->name, o->arg);
			return fail(cmd, text);
		}
		value = argv[++*i];
	} else if (value) {
		snprintf(text, sizeof(text), "--%s takes no value", o->name);
		return fail(cmd, text);
	}
	if (o->set(cfg, value, &err) < 0) {
		fprintf(stderr, "nestor %s: --%s %s: %s\n", cmd->name, o->name, value ? value : "",
			err.text);
		return -EINVAL;
	}
	return 0;
}

int options_parse(const struct command *cmd, void *cfg, int argc, char **argv, int *rest,
		  bool *dashes)
{
	int i;

	*dashes = false;
	for (i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--")) {
			*dashes = true;
			i++;
			break;
		}
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
			command_help(stdout, cmd);
			return 1;
		}
		if (argv[i][0] != '-')
			break;
		if (strncmp(argv[i], "--", 2)) {
			char text[64];

			snprintf(text, sizeof(text), "there is no option %.20s", argv[i]);
			return fail(cmd, text);
		}
		if (parse_one(cmd, cfg, argc, argv, &i) < 0)
			return -EINVAL;
	}
	*rest = i;
	return 0;
}

void command_help(FILE *out, const struct command *cmd)
{
	fprintf(out, "Usage: nestor %s %s\n\n%s\n", cmd->name, cmd->usage, cmd->summary);
	if (cmd->text)
		fprintf(out, "\n%s", cmd->text);
	if (!cmd->options)
		return;
	fputs("\nOptions:\n", out);
	for (const struct option_row *o = cmd->options; o->name; o++) {
		int n = fprintf(out, "  --%s%s%s", o->name, o->arg ? " " : "",
				o->arg ? o->arg : "");

		fprintf(out, "%*s%s\n", n < 28 ? 28 - n : 1, "", o->help);
	}
}

int option_u32(const char *value, u32 min, u32 max, u32 *out, struct error *err)
{
	unsigned long v;
	char *end;

	errno = 0;
	v = strtoul(value, &end, 0);
	if (errno || end == value || *end || v < min || v > max || *value == '-')
		return error_set(err, -EINVAL, "not a number from %u to %u", min, max);
	*out = (u32)v;
	return 0;
}

int option_size(const char *value, u64 *out, struct error *err)
{
	static const char suffixes[] = "KMGT";
	const char *s;
	u32 shift = 20;
	u64 v;
	char *end;

	errno = 0;
	v = strtoull(value, &end, 10);
	if (*end && (s = strchr(suffixes, *end & ~0x20))) {
		shift = 10u * (u32)(s - suffixes + 1);
		end++;
		if (*end == 'i')
			end++;
		if (*end == 'B')
			end++;
	}
	if (errno || end == value || *end || *value == '-' || v == 0 || v >> (64 - shift))
		return error_set(err, -EINVAL, "not a size such as 512M or 4G");
	*out = v << shift;
	return 0;
}

int option_seconds(const char *value, u64 *ns, struct error *err)
{
	char *end;
	double v = strtod(value, &end);

	if (end != value && *end == 'm') {
		v *= 60;
		end++;
	} else if (end != value && *end == 'h') {
		v *= 3600;
		end++;
	} else if (end != value && *end == 's') {
		end++;
	}
	if (end == value || *end || !(v > 0) || v > 1e9)
		return error_set(err, -EINVAL, "not a time such as 30, 2m or 1h");
	*ns = (u64)(v * 1e9);
	return 0;
}
