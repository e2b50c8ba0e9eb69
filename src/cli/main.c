// SPDX-License-Identifier: MIT
/* The commands, one row each. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "cli/doctor.h"
#include "cli/incubator_cmd.h"
#include "cli/instance_cmds.h"
#include "cli/options.h"

static int run_doctor(const struct command *cmd, int argc, char **argv)
{
	return cmd_doctor(argc, argv);
}

static int run_incubator(const struct command *cmd, int argc, char **argv)
{
	return cmd_incubator(argc, argv);
}

/* What help prints besides: for --help, the man page and the completion. */
static const struct option_row help_options[] = {
	{ "man", NULL, "the manual page, in roff" },
	{ "bash-completion", NULL, "the completion for bash" },
	{ "tables", NULL, "what the hypervisor serves, as Markdown (doc/hypercalls.md)" },
	{ 0 },
};

const struct command commands[] = {
	{ "run", "[options] [-- CMD ARG...]",
	  "Boot a Linux kernel as a partition of the Microsoft hypervisor.",
	  "The guest's first serial port is the terminal: Ctrl-a x ends the machine.\n"
	  "With -- CMD the guest runs that command and its exit status becomes ours.\n"
	  "On a host without usable KVM the whole command runs inside the incubator.\n",
	  run_options, cmd_run },
	{ "doctor", "[--json]", "Say what this host can do and what Nestor will use.", NULL, NULL,
	  run_doctor },
	{ "incubator", "[--cpus N] [--memory SIZE] [--prepare] -- CMD ARG...",
	  "Run a command in the emulated machine that has KVM.", NULL, NULL, run_incubator },
	{ "ps", "[--json]", "List the running instances.", NULL, ps_options, cmd_ps },
	{ "stop", "NAME [--force] [--timeout TIME]", "Power an instance off and wait for its end.",
	  "The guest is asked by the shutdown service of its VMBus, then by the power button.\n"
	  "Exit status 124: it did not end in time.\n",
	  stop_options, cmd_stop },
	{ "stat", "NAME [--watch]", "Show what an instance has done so far.",
	  "Partitions of each hypervisor with their VPs, pages and ports; hypercalls and registers by\n"
	  "who served them, exits, deposits, quirks, what --fail did, VMBus channels.\n",
	  stat_options, cmd_stat },
	{ "device", "list NAME | add NAME net|disk|cdrom SPEC | remove NAME DEVICE",
	  "List, add and remove VMBus devices of a running instance.",
	  "SPEC is what 'nestor run' takes after --net, --disk and --cdrom. What was added gets a\n"
	  "name: net0, disk0:1 (controller and number), cdrom0:2.\n",
	  device_options, cmd_device },
	{ "link", "NAME N up|down", "Plug or pull the cable of network card N.", NULL, link_options,
	  cmd_link },
	{ "kvp",
	  "list NAME [POOL] | get NAME [POOL] KEY | set NAME [POOL] KEY VALUE | "
	  "delete NAME [POOL] KEY",
	  "Exchange key-value pairs with a guest.",
	  "POOL is external (what the host tells; default for set and delete), guest, auto (what\n"
	  "the guest tells about itself) or auto-external; list and get look into all. The guest\n"
	  "runs hv_kvp_daemon.\n",
	  kvp_options, cmd_kvp },
	{ "freeze", "NAME [--timeout TIME] -- CMD ARG...",
	  "Run a host command while the file systems of a guest are frozen.",
	  "They are thawed again in every case: after the command, when the time is over, when\n"
	  "this program is killed. The exit status is the command's; 125 if the guest could not\n"
	  "be frozen, or was thawed too early. The guest runs hv_vss_daemon.\n",
	  freeze_options, cmd_freeze },
	{ "copy", "NAME FILE DEST", "Copy a file into a guest.",
	  "DEST is an absolute path in the guest; ending in /, a directory. The guest runs\n"
	  "hv_fcopy_uio_daemon or hv_fcopy_daemon.\n",
	  copy_options, cmd_copy },
	{ "trace", "summary FILE", "Count the events of a trace made by 'nestor run --trace FILE'.",
	  NULL, NULL, cmd_trace },
	{ "help", "[COMMAND | --man | --bash-completion | --tables]", "Explain a command.", NULL,
	  help_options, cmd_help },
	{ 0 },
};

static const struct command *find(const char *name)
{
	for (const struct command *c = commands; c->name; c++)
		if (!strcmp(c->name, name))
			return c;
	return NULL;
}

static void usage(FILE *out)
{
	fputs("Usage: nestor COMMAND ...\n\n"
	      "Runs Linux in the roles the Microsoft hypervisor knows, on plain KVM.\n\nCommands:\n",
	      out);
	for (const struct command *c = commands; c->name; c++)
		fprintf(out, "  %-12s %s\n", c->name, c->summary);
	fputs("\n'nestor help COMMAND' explains one. Start with: nestor run -- uname -a\n", out);
}

/* The man page, from the same rows. */
static void man_page(void)
{
	printf(".TH NESTOR 1 \"\" \"nestor " NESTOR_VERSION "\"\n"
	       ".SH NAME\nnestor \\- run Linux in every role the Microsoft hypervisor knows\n"
	       ".SH SYNOPSIS\n");
	for (const struct command *c = commands; c->name; c++)
		printf(".B nestor %s\n%s\n.br\n", c->name, c->usage);
	printf(".SH DESCRIPTION\nNestor is a hypervisor interface on plain KVM: it boots Linux as a\n"
	       "partition of the Microsoft hypervisor, without any Microsoft software.\n"
	       ".SH COMMANDS\n");
	for (const struct command *c = commands; c->name; c++) {
		printf(".SS %s\n%s\n", c->name, c->summary);
		if (c->text)
			printf(".PP\n%s", c->text);
		for (const struct option_row *o = c->options; o && o->name; o++)
			printf(".TP\n.B \\-\\-%s %s\n%s\n", o->name, o->arg ? o->arg : "", o->help);
	}
	printf(".SH EXIT STATUS\n.nf\n%s.fi\n", exit_status_text);
	printf(".SH FILES\n.TP\n~/.cache/nestor\nUnpacked kernels and what the incubator needs\n"
	       "(NESTOR_CACHE names another place).\n");
}

static void bash_completion(void)
{
	printf("# bash completion for nestor\n_nestor()\n{\n\tlocal cur=${COMP_WORDS[COMP_CWORD]} "
	       "cmd=${COMP_WORDS[1]}\n\tlocal words=\"\"\n\tif [ \"$COMP_CWORD\" -eq 1 ]; then\n"
	       "\t\twords=\"");
	for (const struct command *c = commands; c->name; c++)
		printf("%s ", c->name);
	printf("\"\n\telse\n\t\tcase $cmd in\n");
	for (const struct command *c = commands; c->name; c++) {
		printf("\t\t%s) words=\"--help", c->name);
		for (const struct option_row *o = c->options; o && o->name; o++)
			printf(" --%s", o->name);
		printf("\" ;;\n");
	}
	printf("\t\tesac\n\tfi\n\tif [[ $cur == -* || $COMP_CWORD -eq 1 ]]; then\n"
	       "\t\tCOMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n\telse\n"
	       "\t\tCOMPREPLY=($(compgen -f -- \"$cur\"))\n\tfi\n}\ncomplete -o filenames -F _nestor "
	       "nestor\n");
}

int cmd_help(const struct command *cmd, int argc, char **argv)
{
	const struct command *c;

	if (argc < 2) {
		usage(stdout);
		printf("\nExit status of 'nestor run':\n%s", exit_status_text);
		return EXIT_OK;
	}
	if (!strcmp(argv[1], "--man")) {
		man_page();
		return EXIT_OK;
	}
	if (!strcmp(argv[1], "--bash-completion")) {
		bash_completion();
		return EXIT_OK;
	}
	if (!strcmp(argv[1], "--tables")) {
		tables_print();
		return EXIT_OK;
	}
	c = find(argv[1]);
	if (!c) {
		fprintf(stderr, "nestor help: there is no command '%s'\n", argv[1]);
		return EXIT_USAGE;
	}
	command_help(stdout, c);
	return EXIT_OK;
}

int main(int argc, char **argv)
{
	const struct command *c;

	if (argc < 2) {
		usage(stderr);
		return EXIT_USAGE;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
		usage(stdout);
		return EXIT_OK;
	}
	if (!strcmp(argv[1], "--version")) {
		printf("nestor " NESTOR_VERSION "\n");
		return EXIT_OK;
	}
	c = find(argv[1]);
	if (!c) {
		fprintf(stderr, "nestor: there is no command '%s'; see 'nestor --help'\n", argv[1]);
		return EXIT_USAGE;
	}
	return c->run(c, argc - 1, argv + 1);
}
