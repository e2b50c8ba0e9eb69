// SPDX-License-Identifier: MIT
/*
 * Each command makes its request from the command line first, so that what is wrong
 * with that is told at once; then it looks for the instance. One in an incubator is
 * asked by the same command line inside.
 */
#include "cli/instance_cmds.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cli/instance.h"
#include "cli/instance_args.h"
#include "control/client.h"

ARGS_SWITCH(force)
ARGS_SWITCH(no_wait)
ARGS_SWITCH(hold)
ARGS_SWITCH(overwrite)
ARGS_SWITCH(create_dir)

static const char *str(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

static s64 num(const json_t *o, const char *key)
{
	return json_integer_value(json_object_get(o, key));
}

static void print_json(json_t *o)
{
	json_dumpf(o, stdout, JSON_COMPACT);
	putchar('\n');
}

/* Finds it, asks it, or passes the command line on. An exit status; with 0 perhaps an answer. */
static int request(const struct command *cmd, const char *name, json_t *req, int fd, int argc,
		   char **argv, json_t **answer)
{
	struct instance in;
	int status = instance_find(cmd, name, &in);

	*answer = NULL;
	if (status || in.fd < 0) {
		json_decref(req);
		return status ? status : instance_pass_on(&in, argc, argv);
	}
	*answer = instance_ask(cmd, &in, req, fd, &status);
	instance_close(&in);
	return status;
}

/* For requests without an answer of interest. */
static int request_done(const struct command *cmd, const struct instance_args *a, const char *name,
			json_t *req, int argc, char **argv)
{
	json_t *answer;
	int status = request(cmd, name, req, -1, argc, argv, &answer);

	if (answer && a->json)
		print_json(answer);
	json_decref(answer);
	return status;
}

/* ps */

const struct option_row ps_options[] = { ARGS_JSON_ROW, { 0 } };

static void print_size(u64 bytes)
{
	if (bytes >> 30 && !(bytes & ((1u << 30) - 1)))
		printf("%5lluG  ", (unsigned long long)(bytes >> 30));
	else
		printf("%5lluM  ", (unsigned long long)(bytes >> 20));
}

static void print_time(double seconds)
{
	unsigned long s = (unsigned long)seconds;

	if (s >= 3600)
		printf("%4luh%02lum  ", s / 3600, s / 60 % 60);
	else if (s >= 60)
		printf("%4lum%02lus  ", s / 60, s % 60);
	else
		printf("%7lus  ", s);
}

static void print_instance(const json_t *o)
{
	print_clean(stdout, str(o, "name"), 20);
	printf("%8lld  ", (long long)num(o, "pid"));
	print_clean(stdout, str(o, "role"), 12);
	print_clean(stdout, str(o, "kernel"), 30);
	printf("%4lld  ", (long long)num(o, "cpus"));
	print_size((u64)num(o, "memory_bytes"));
	print_time(json_number_value(json_object_get(o, "uptime_seconds")));
	print_clean(stdout, str(o, "state"), 10);
	print_clean(stdout, str(o, "where"), 0);
	putchar('\n');
}

int cmd_ps(const struct command *cmd, int argc, char **argv)
{
	struct instance_args a = { 0 };
	int status = args_parse(cmd, &a, false, 0, 0, argc, argv);
	json_t *list, *o;
	size_t i;

	if (status >= 0)
		return status;
	list = instance_list();
	if (a.json) {
		print_json(list);
	} else {
		printf("%-20s%8s  %-12s%-30s%4s  %6s  %8s  %-10s%s\n", "NAME", "PID", "ROLE",
		       "KERNEL", "VPS", "MEMORY", "UPTIME", "STATE", "WHERE");
		json_array_foreach(list, i, o) print_instance(o);
	}
	json_decref(list);
	return EXIT_OK;
}

/* stop */

#define STOP_TIMEOUT_MS 60000

const struct option_row stop_options[] = {
	{ "force", NULL, "end it at once, as a power cut does", set_force },
	{ "timeout", "TIME", "wait so long for the guest (default 60 seconds)", args_set_timeout },
	{ "no-wait", NULL, "ask and come back", set_no_wait },
	ARGS_JSON_ROW,
	{ 0 },
};

static json_t *stop_request(bool force)
{
	return json_pack("{s:s, s:b}", "do", "stop", "force", force);
}

/* Asks once. How; NULL: it could not be asked, told unless it is gone by now. */
static const char *stop_ask(const struct command *cmd, const struct instance *in, bool force)
{
	const char *argv[] = { "stop", in->name, "--no-wait", "--json", force ? "--force" : NULL,
			       NULL };
	static char how[32];
	struct inner inner;
	json_t *answer = NULL;
	char *text;

	if (in->fd >= 0) {
		answer = instance_ask(cmd, in, stop_request(force), -1, NULL);
	} else if (inner_start(&inner, in->incubator, argv, false) == 0) {
		text = inner_read(&inner, now_ms() + STOP_TIMEOUT_MS);
		answer = text ? json_loads(text, 0, NULL) : NULL;
		free(text);
		/* Its incubator may have ended under it. */
		inner_end(&inner, !answer && incubator_alive(in->incubator));
	}
	snprintf(how, sizeof(how), "%s", str(answer, "asked"));
	json_decref(answer);
	return *how ? how : NULL;
}

static bool wait_end(const struct instance *in, s64 timeout_ms)
{
	const struct timespec tick = { 0, 50000000 };
	s64 end = now_ms() + timeout_ms;

	if (in->fd >= 0)
		return control_wait_end(in->fd, timeout_ms);
	while (incubator_alive(in->incubator)) {
		if (now_ms() > end)
			return false;
		nanosleep(&tick, NULL);
	}
	return true;
}

static bool is_over(const struct instance *in)
{
	return in->fd < 0 ? !incubator_alive(in->incubator) : control_wait_end(in->fd, 0);
}

/* By the service with half of the time, by the button with the rest. */
static int stop_and_wait(const struct command *cmd, const struct instance *in,
			 const struct instance_args *a, const char **how)
{
	s64 timeout = a->timeout_ns ? (s64)(a->timeout_ns / 1000000) : STOP_TIMEOUT_MS;
	bool ended;

	*how = stop_ask(cmd, in, a->force);
	if (!*how)
		return is_over(in) ? EXIT_OK : EXIT_NESTOR;
	if (a->no_wait)
		return EXIT_OK;
	ended = wait_end(in, a->force ? timeout : timeout / 2);
	if (!ended && !a->force) {
		if (strcmp(*how, "power button"))
			*how = stop_ask(cmd, in, false);
		ended = wait_end(in, timeout - timeout / 2);
	}
	if (ended)
		return EXIT_OK;
	fprintf(stderr, "nestor stop: %s did not end within %.0f seconds; --force ends it\n",
		in->name, (double)timeout / 1000);
	return EXIT_TIMEOUT;
}

int cmd_stop(const struct command *cmd, int argc, char **argv)
{
	struct instance_args a = { 0 };
	int status = args_parse(cmd, &a, false, 1, 1, argc, argv);
	s64 start = now_ms();
	struct instance in;
	const char *how;
	json_t *o;

	if (status >= 0)
		return status;
	status = instance_find(cmd, a.word[0], &in);
	if (status)
		return status;
	status = stop_and_wait(cmd, &in, &a, &how);
	instance_close(&in);
	if (a.json) {
		o = json_pack("{s:s, s:s, s:b, s:f}", "name", in.name, "asked", how ? how : "",
			      "ended", status == EXIT_OK && !a.no_wait, "seconds",
			      (double)(now_ms() - start) / 1000);
		print_json(o);
		json_decref(o);
	}
	return status;
}

/* device */

const struct option_row device_options[] = { ARGS_JSON_ROW, { 0 } };

static void print_device(const json_t *o)
{
	print_clean(stdout, str(o, "name"), 12);
	print_clean(stdout, str(o, "what"), 44);
	if (!strcmp(str(o, "kind"), "network"))
		printf("  link %-4s  %s  %lld frames sent, %lld received\n", str(o, "link"),
		       str(o, "mac"), (long long)num(o, "sent_frames"),
		       (long long)num(o, "received_frames"));
	else
		printf("  %lld MiB%s\n", (long long)num(o, "bytes") >> 20,
		       json_is_true(json_object_get(o, "read_only")) ? ", read only" : "");
}

static void print_channels(const json_t *list)
{
	const json_t *o;
	size_t i;

	printf("%-6s%-14s%-38s%4s  %-8s%12s%12s%12s%12s\n", "RELID", "CHANNEL", "INSTANCE", "VP",
	       "STATE", "PACKETS", "SENT", "SIGNALS IN", "OUT");
	json_array_foreach(list, i, o)
	{
		char name[48];

		snprintf(name, sizeof(name), num(o, "index") ? "%s.%lld" : "%s", str(o, "device"),
			 (long long)num(o, "index"));
		printf("%-6lld%-14s%-38s%4lld  %-8s%12lld%12lld%12lld%12lld\n",
		       (long long)num(o, "relid"), name, str(o, "instance"),
		       (long long)num(o, "vp"),
		       json_is_true(json_object_get(o, "revoked")) ? "leaving"
		       : json_is_true(json_object_get(o, "open"))  ? "open"
								   : "closed",
		       (long long)num(o, "packets"),
		       (long long)(num(o, "sends") + num(o, "completions")),
		       (long long)num(o, "signals_in"), (long long)num(o, "signals_out"));
	}
}

static void print_devices(const json_t *o)
{
	const json_t *list = json_object_get(o, "devices"), *d;
	size_t i;

	json_array_foreach(list, i, d) print_device(d);
	if (json_array_size(list))
		putchar('\n');
	print_channels(json_object_get(o, "channels"));
}

/* KIND SPEC as in --net SPEC, or both in one word: net=user. */
static json_t *add_request(const struct instance_args *a)
{
	const char *kind = a->word[2], *what = a->word[3],
		   *equals = kind ? strchr(kind, '=') : NULL;
	size_t n = kind ? strlen(kind) : 0;

	if (!kind)
		return NULL;
	if (!what && equals) {
		n = (size_t)(equals - kind);
		what = equals + 1;
	}
	if (!strncmp(kind, "--", 2))
		return NULL;
	return what ? json_pack("{s:s, s:s%, s:s}", "do", "device-add", "kind", kind, n, "what",
				what)
		    : NULL;
}

int cmd_device(const struct command *cmd, int argc, char **argv)
{
	struct instance_args a = { 0 };
	int status = args_parse(cmd, &a, false, 2, 4, argc, argv);
	const char *verb = a.word[0];
	json_t *req = NULL, *answer;

	if (status >= 0)
		return status;
	if (!strcmp(verb, "list") && a.words == 2)
		req = json_pack("{s:s}", "do", "device-list");
	else if (!strcmp(verb, "add"))
		req = add_request(&a);
	else if (!strcmp(verb, "remove") && a.words == 3)
		req = json_pack("{s:s, s:s}", "do", "device-remove", "name", a.word[2]);
	if (!req)
		return args_usage(cmd);
	status = request(cmd, a.word[1], req, -1, argc, argv, &answer);
	if (answer && a.json)
		print_json(answer);
	else if (answer && !strcmp(verb, "list"))
		print_devices(answer);
	else if (answer && !strcmp(verb, "add"))
		printf("%s\n", str(answer, "name"));
	json_decref(answer);
	return status;
}

/* kvp */

const struct option_row kvp_options[] = { ARGS_JSON_ROW, { 0 } };

static void print_items(const json_t *list)
{
	const json_t *o;
	size_t i;

	json_array_foreach(list, i, o)
	{
		print_clean(stdout, str(o, "pool"), 15);
		print_clean(stdout, str(o, "key"), 0);
		putchar('=');
		print_clean(stdout, str(o, "value"), 0);
		putchar('\n');
	}
}

int cmd_kvp(const struct command *cmd, int argc, char **argv)
{
	static const struct {
		const char *verb, *request;
		u32 words; /* besides the verb, the name and a pool */
	} verbs[] = { { "list", "kvp-list", 0 },
		      { "get", "kvp-get", 1 },
		      { "delete", "kvp-delete", 1 },
		      { "set", "kvp-set", 2 } };
	struct instance_args a = { 0 };
	int status = args_parse(cmd, &a, false, 2, ARGS_WORDS_MAX, argc, argv);
	json_t *req = NULL, *answer;

	if (status >= 0)
		return status;
	for (u32 i = 0; i < ARRAY_SIZE(verbs); i++) {
		const char **word = &a.word[2];
		u32 n = verbs[i].words;

		if (strcmp(a.word[0], verbs[i].verb) || a.words - 2 < n || a.words - 2 > n + 1)
			continue;
		req = json_pack("{s:s}", "do", verbs[i].request);
		if (a.words - 2 > n)
			json_object_set_new(req, "pool", json_string(*word++));
		if (n > 0)
			json_object_set_new(req, "key", json_string(word[0]));
		if (n > 1)
			json_object_set_new(req, "value", json_string(word[1]));
	}
	if (!req)
		return args_usage(cmd);
	status = request(cmd, a.word[1], req, -1, argc, argv, &answer);
	if (answer && a.json)
		print_json(answer);
	else if (answer && !strcmp(a.word[0], "get"))
		printf("%s\n", str(answer, "value"));
	else if (answer && !strcmp(a.word[0], "list"))
		print_items(json_object_get(answer, "items"));
	json_decref(answer);
	return status;
}

/* link */

const struct option_row link_options[] = { ARGS_JSON_ROW, { 0 } };

int cmd_link(const struct command *cmd, int argc, char **argv)
{
	struct instance_args a = { 0 };
	int status = args_parse(cmd, &a, false, 3, 3, argc, argv);
	struct error err;
	const char *card;
	bool up;
	u32 n;

	if (status >= 0)
		return status;
	card = a.word[1] + (strncmp(a.word[1], "net", 3) ? 0 : 3);
	up = !strcmp(a.word[2], "up");
	if ((!up && strcmp(a.word[2], "down")) || option_u32(card, 0, 255, &n, &err))
		return args_usage(cmd);
	return request_done(cmd, &a, a.word[0],
			    json_pack("{s:s, s:i, s:b}", "do", "link", "card", (int)n, "up", up),
			    argc, argv);
}

/* copy */

const struct option_row copy_options[] = {
	{ "overwrite", NULL, "replace a file of that name", set_overwrite },
	{ "create-dir", NULL, "make the directory if there is none", set_create_dir },
	ARGS_JSON_ROW,
	{ 0 },
};

int cmd_copy(const struct command *cmd, int argc, char **argv)
{
	struct instance_args a = { 0 };
	int status = args_parse(cmd, &a, false, 3, 3, argc, argv), fd;
	const char *slash, *name;
	json_t *req, *answer;
	struct stat st;

	if (status >= 0)
		return status;
	slash = strrchr(a.word[2], '/');
	if (a.word[2][0] != '/') {
		fprintf(stderr, "nestor copy: %s: a path in the guest begins with /\n", a.word[2]);
		return EXIT_USAGE;
	}
	name = slash[1]			 ? slash + 1
	       : strrchr(a.word[1], '/') ? strrchr(a.word[1], '/') + 1
					 : a.word[1];
	fd = open(a.word[1], O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		fprintf(stderr, "nestor copy: %s: %s\n", a.word[1],
			fd < 0 ? strerror(errno) : "not a regular file");
		if (fd >= 0)
			close(fd);
		return EXIT_USAGE;
	}
	req = json_pack("{s:s, s:s%, s:s, s:b, s:b}", "do", "copy", "dir", a.word[2],
			slash == a.word[2] ? (size_t)1 : (size_t)(slash - a.word[2]), "name", name,
			"overwrite", a.overwrite, "create_dir", a.create_dir);
	status = request(cmd, a.word[0], req, fd, argc, argv, &answer);
	close(fd);
	if (answer && a.json)
		print_json(answer);
	json_decref(answer);
	return status;
}

/* freeze */

const struct option_row freeze_options[] = {
	{ "timeout", "TIME", "thaw after this time, whatever happens (default 60 seconds)",
	  args_set_timeout },
	{ "hold", NULL, "instead of a command: until standard input ends", set_hold },
	{ 0 },
};

static int run_command(char **argv)
{
	struct sigaction ignore = { .sa_handler = SIG_IGN }, old_int, old_quit;
	int status = 0;
	pid_t child;

	sigaction(SIGINT, &ignore, &old_int);
	sigaction(SIGQUIT, &ignore, &old_quit);
	fflush(NULL);
	child = fork();
	if (child == 0) {
		sigaction(SIGINT, &old_int, NULL);
		sigaction(SIGQUIT, &old_quit, NULL);
		execvp(argv[0], argv);
		fprintf(stderr, "nestor freeze: %s: %s\n", argv[0], strerror(errno));
		_exit(errno == ENOENT ? 127 : 126);
	}
	while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	sigaction(SIGINT, &old_int, NULL);
	sigaction(SIGQUIT, &old_quit, NULL);
	if (child < 0)
		return EXIT_NESTOR;
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* What lies between freezing and thawing. */
static int while_frozen(const struct instance_args *a)
{
	char ignored[256];

	if (a->command)
		return run_command(a->command);
	puts("frozen");
	fflush(stdout);
	while (read(STDIN_FILENO, ignored, sizeof(ignored)) > 0)
		;
	return EXIT_OK;
}

static int freeze_here(const struct command *cmd, const struct instance *in,
		       const struct instance_args *a)
{
	json_t *answer = instance_ask(
		cmd, in,
		json_pack("{s:s, s:f}", "do", "freeze", "seconds", (double)a->timeout_ns / 1e9), -1,
		NULL);
	int status;

	if (!answer)
		return EXIT_NESTOR;
	json_decref(answer);
	status = while_frozen(a);
	/* Were we killed instead, the end of the connection would thaw. */
	answer = instance_ask(cmd, in, json_pack("{s:s}", "do", "thaw"), -1, NULL);
	json_decref(answer);
	return answer ? status : EXIT_NESTOR;
}

/* The command belongs to this side: one of us inside holds the freeze meanwhile. */
static int freeze_inside(const struct instance *in, const struct instance_args *a)
{
	char timeout[32], line[16] = "";
	const char *argv[] = { "freeze", in->name, "--hold", a->timeout_ns ? "--timeout" : NULL,
			       timeout,	 NULL };
	struct inner inner;
	size_t len = 0;
	ssize_t n = 1;
	int status = EXIT_NESTOR, end;

	snprintf(timeout, sizeof(timeout), "%f", (double)a->timeout_ns / 1e9);
	if (inner_start(&inner, in->incubator, argv, true) < 0)
		return EXIT_NESTOR;
	while (len < sizeof(line) - 1 && !strchr(line, '\n') &&
	       (n = read(inner.out, line + len, sizeof(line) - 1 - len)) > 0)
		len += (size_t)n;
	if (!strcmp(line, "frozen\n"))
		status = while_frozen(a);
	end = inner_end(&inner, true);
	return end ? EXIT_NESTOR : status;
}

int cmd_freeze(const struct command *cmd, int argc, char **argv)
{
	struct instance_args a = { 0 };
	int status = args_parse(cmd, &a, true, 1, 1, argc, argv);
	struct instance in;

	if (status >= 0)
		return status;
	if (a.hold ? a.command != NULL : !a.command || !a.command[0])
		return args_usage(cmd);
	status = instance_find(cmd, a.word[0], &in);
	if (status)
		return status;
	signal(SIGPIPE, SIG_IGN);
	status = in.fd < 0 ? freeze_inside(&in, &a) : freeze_here(cmd, &in, &a);
	instance_close(&in);
	return status;
}
