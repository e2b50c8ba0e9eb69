/* SPDX-License-Identifier: MIT */
/*
 * Command lines: one row per option. Parsing, --help, the man page and the shell
 * completion all read the rows.
 */
#ifndef NESTOR_CLI_OPTIONS_H
#define NESTOR_CLI_OPTIONS_H

#include <stdio.h>

#include "machine/error.h"

struct option_row {
	const char *name; /* without the dashes */
	const char *arg;  /* placeholder; NULL: a switch */
	const char *help;
	/* @value is NULL for a switch. -EINVAL with @err filled. */
	int (*set)(void *cfg, const char *value, struct error *err);
};

/* What a command is, for the table in main.c. */
struct command {
	const char *name;
	const char *usage;		  /* behind the name: "[options] [-- CMD ARG...]" */
	const char *summary;		  /* one line */
	const char *text;		  /* paragraphs for help and the man page; may be NULL */
	const struct option_row *options; /* ended by a row without name; may be NULL */
	int (*run)(const struct command *cmd, int argc, char **argv);
};

/*
 * Parses options until the first word that is none, or past "--". Gives the index
 * of what is left in *rest, and in *dashes whether "--" was met. 0; 1 if --help
 * was given and printed; -EINVAL with a message on standard error.
 */
int options_parse(const struct command *cmd, void *cfg, int argc, char **argv, int *rest,
		  bool *dashes);

void command_help(FILE *out, const struct command *cmd);
/* doc/hypercalls.md on standard output. */
void tables_print(void);

/* Setters for common values. */
int option_u32(const char *value, u32 min, u32 max, u32 *out, struct error *err);
/* Bytes with an optional suffix K, M, G, T; a bare number is MiB. */
int option_size(const char *value, u64 *out, struct error *err);
/* Seconds, with an optional suffix s, m, h; fractions allowed. */
int option_seconds(const char *value, u64 *ns, struct error *err);

/* Exit statuses beyond those of a guest's command. One list, printed by help and man page. */
enum {
	EXIT_OK = 0,
	EXIT_USAGE = 2,
	EXIT_GUEST_RESET = 100,
	EXIT_GUEST_PANIC = 101,
	EXIT_GUEST_TRIPLE_FAULT = 102,
	EXIT_GUEST_ERROR = 103,
	EXIT_INCUBATOR_HUNG = 122,
	EXIT_TIMEOUT = 124,
	EXIT_NESTOR = 125,
};
extern const char exit_status_text[];

int cmd_run(const struct command *cmd, int argc, char **argv);
int cmd_trace(const struct command *cmd, int argc, char **argv);
int cmd_help(const struct command *cmd, int argc, char **argv);

extern const struct option_row run_options[];
extern const struct command commands[];

#endif
