// SPDX-License-Identifier: MIT
#include "cli/instance_args.h"

int args_set_json(void *cfg, const char *value, struct error *err)
{
	((struct instance_args *)cfg)->json = true;
	return 0;
}

int args_set_timeout(void *cfg, const char *value, struct error *err)
{
	return option_seconds(value, &((struct instance_args *)cfg)->timeout_ns, err);
}

int args_usage(const struct command *cmd)
{
	fprintf(stderr, "Usage: nestor %s %s\n", cmd->name, cmd->usage);
	return EXIT_USAGE;
}

static bool add_word(struct instance_args *a, const char *word, u32 max)
{
	if (a->words == max)
		return false;
	a->word[a->words++] = word;
	return true;
}

int args_parse(const struct command *cmd, struct instance_args *a, bool wants_command,
	       u32 words_min, u32 words_max, int argc, char **argv)
{
	bool dashes = false;
	int at = 0, rest;

	while (at < argc && !dashes) {
		/* It begins behind a word, as behind the command's name. */
		int ret = options_parse(cmd, a, argc - at, argv + at, &rest, &dashes);

		if (ret)
			return ret > 0 ? EXIT_OK : EXIT_USAGE;
		at += rest;
		if (at < argc && !dashes && !add_word(a, argv[at], words_max))
			return args_usage(cmd);
	}
	if (dashes && wants_command)
		a->command = argv + at;
	for (; dashes && !wants_command && at < argc; at++)
		if (!add_word(a, argv[at], words_max))
			return args_usage(cmd);
	return a->words < words_min ? args_usage(cmd) : -1;
}
