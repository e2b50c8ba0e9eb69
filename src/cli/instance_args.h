/* SPDX-License-Identifier: MIT */
/* What the commands for running instances have in common on their command lines. */
#ifndef NESTOR_CLI_INSTANCE_ARGS_H
#define NESTOR_CLI_INSTANCE_ARGS_H

#include "cli/options.h"

#define ARGS_WORDS_MAX 5

/* Everything any of them takes; a command's rows say which it takes. */
struct instance_args {
	bool json, force, no_wait, watch, hold, overwrite, create_dir;
	u64 timeout_ns, interval_ns;
	const char *word[ARGS_WORDS_MAX]; /* what is no option, in any place */
	u32 words;
	char **command; /* what follows "--", if the command takes one; NULL-terminated */
};

int args_set_json(void *cfg, const char *value, struct error *err);
int args_set_timeout(void *cfg, const char *value, struct error *err);

#define ARGS_SWITCH(field)                                                                         \
	static int set_##field(void *cfg, const char *value, struct error *err)                    \
	{                                                                                          \
		((struct instance_args *)cfg)->field = true;                                       \
		return 0;                                                                          \
	}

#define ARGS_JSON_ROW                                                                              \
	{                                                                                          \
		"json", NULL, "print JSON", args_set_json                                          \
	}

/*
 * Options and words, in any order. @wants_command: what follows "--" is a command, else it is
 * words too. -1: go on; else an exit status, after help or a message.
 */
int args_parse(const struct command *cmd, struct instance_args *a, bool wants_command,
	       u32 words_min, u32 words_max, int argc, char **argv);
/* "Usage: ..." on standard error. EXIT_USAGE. */
int args_usage(const struct command *cmd);

#endif
