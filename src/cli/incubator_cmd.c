// SPDX-License-Identifier: MIT
#include "cli/incubator_cmd.h"

#include "base/log.h"
#include "incubator/incubator.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_CPUS 64

static const char usage[] =
	"usage: nestor incubator [--cpus N] [--memory SIZE] [--name NAME] [--] CMD [ARG...]\n"
	"       nestor incubator --prepare [--cpus N] [--memory SIZE]\n"
	"       nestor incubator --exec [--name NAME] [--] CMD [ARG...]\n"
	"       nestor incubator --list\n"
	"\n"
	"Runs a command in the incubator, an emulated machine that has KVM and this\n"
	"machine's files.\n"
	"\n"
	"  --cpus N       CPUs of the machine (default: this host's, at least 2)\n"
	"  --memory SIZE  memory the command needs, with suffix K, M or G (default: 4G)\n"
	"  --name NAME    what --exec and --list call it (default: the process id)\n"
	"  --prepare      make the saved machine that lets later runs start at once\n"
	"  --exec         run the command in an incubator that is already running\n"
	"  --list         name and process id of those running\n";

/* Bytes, or 0 if @text is no size. */
static u64 parse_size(const char *text)
{
	char *end;
	unsigned long long n;
	u64 unit = MIB;

	errno = 0;
	n = strtoull(text, &end, 10);
	if (end == text || errno || text[0] == '-')
		return 0;
	switch (*end) {
	case 'k':
	case 'K':
		unit = KIB;
		end++;
		break;
	case 'm':
	case 'M':
		end++;
		break;
	case 'g':
	case 'G':
		unit = GIB;
		end++;
		break;
	case 't':
	case 'T':
		unit = GIB << 10;
		end++;
		break;
	}
	return *end || n > (64 * (GIB << 10)) / unit ? 0 : n * unit;
}

static void print_one(const char *name, int pid, void *opaque)
{
	printf("%-24s %d\n", name, pid);
}

int cmd_incubator(int argc, char **argv)
{
	static const struct option options[] = {
		{ "cpus", required_argument, NULL, 'c' },
		{ "memory", required_argument, NULL, 'm' },
		{ "name", required_argument, NULL, 'n' },
		{ "prepare", no_argument, NULL, 'p' },
		{ "exec", no_argument, NULL, 'e' },
		{ "list", no_argument, NULL, 'l' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	struct incubator_config cfg = { 0 };
	bool prepare = false, exec = false;
	int opt;

	optind = 0; /* the caller may have used getopt for its own options */
	while ((opt = getopt_long(argc, argv, "+h", options, NULL)) != -1) {
		switch (opt) {
		case 'c':
			cfg.cpus = (u32)strtoul(optarg, NULL, 10);
			if (!cfg.cpus || cfg.cpus > MAX_CPUS) {
				log_error("--cpus %s: a number from 1 to %d is wanted", optarg,
					  MAX_CPUS);
				return 2;
			}
			break;
		case 'm':
			cfg.memory_bytes = parse_size(optarg);
			if (!cfg.memory_bytes) {
				log_error("--memory %s: a size such as 512M or 4G is wanted",
					  optarg);
				return 2;
			}
			break;
		case 'n':
			cfg.name = optarg;
			break;
		case 'p':
			prepare = true;
			break;
		case 'e':
			exec = true;
			break;
		case 'l':
			incubator_list(print_one, NULL);
			return 0;
		case 'h':
			fputs(usage, stdout);
			return 0;
		default:
			fputs(usage, stderr);
			return 2;
		}
	}
	cfg.argv = argv + optind;
	if (prepare)
		return incubator_prepare(&cfg);
	if (!cfg.argv[0]) {
		fputs(usage, stderr);
		return 2;
	}
	return exec ? incubator_exec(cfg.name, cfg.argv) : incubator_run(&cfg);
}
