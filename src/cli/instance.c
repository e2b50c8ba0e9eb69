// SPDX-License-Identifier: MIT
#include "cli/instance.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "control/client.h"
#include "control/place.h"
#include "incubator/incubator.h"

#define LOOK_MS	       3000   /* for an answer that takes an instance no time */
#define INNER_LOOK_MS  20000  /* an incubator may just be starting */
#define ASK_MS	       120000 /* what the guest has to do has limits of its own */
#define INCUBATORS_MAX 64

s64 now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (s64)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

void print_clean(FILE *out, const char *text, int width)
{
	int n = 0;

	for (; *text; text++, n++)
		fputc((unsigned char)*text < 0x20 || *text == 0x7F ? ' ' : *text, out);
	fprintf(out, "%*s", n < width ? width - n : 0, "");
}

/* Inside an incubator */

static const char *self(void)
{
	static char path[4096];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);

	path[n < 0 ? 0 : n] = '\0';
	return path;
}

int instance_pass_on(const struct instance *in, int argc, char **argv)
{
	char **inner = calloc((size_t)argc + 2, sizeof(*inner));
	int status;

	if (!inner)
		return EXIT_NESTOR;
	inner[0] = (char *)self();
	memcpy(inner + 1, argv, (size_t)argc * sizeof(*argv));
	status = incubator_exec(in->incubator, inner);
	free(inner);
	return status;
}

/* No terminal on any stream: that would be made raw for it. */
static void __attribute__((noreturn))
inner_child(const char *incubator, const char *const *argv, int in, int out, int err)
{
	const char *inner[16] = { self() };

	if (in < 0)
		in = open("/dev/null", O_RDONLY | O_CLOEXEC);
	dup2(in, STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
	dup2(err, STDERR_FILENO);
	closefrom(3);
	/* The terminal's signals are for the command this is a part of. */
	setpgid(0, 0);
	for (u32 i = 0; argv[i] && i + 2 < ARRAY_SIZE(inner); i++)
		inner[i + 1] = argv[i];
	_exit(incubator_exec(incubator, (char *const *)inner));
}

static void shut(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

int inner_start(struct inner *i, const char *incubator, const char *const *argv, bool in)
{
	int to[2] = { -1, -1 }, from[2] = { -1, -1 }, ret = 0;

	*i = (struct inner){ -1, -1, -1, memfd_create("stderr", MFD_CLOEXEC) };
	if (i->err < 0 || (in && pipe2(to, O_CLOEXEC) < 0) || pipe2(from, O_CLOEXEC) < 0)
		ret = -errno;
	if (!ret) {
		fflush(NULL);
		i->child = fork();
		if (i->child == 0)
			inner_child(incubator, argv, to[0], from[1], i->err);
		ret = i->child < 0 ? -errno : 0;
	}
	shut(&to[0]);
	shut(&from[1]);
	i->in = to[1];
	i->out = from[0];
	if (ret)
		inner_end(i, false);
	return ret;
}

char *inner_read(struct inner *i, s64 deadline_ms)
{
	size_t size = 0, len = 0;
	char *text = NULL;

	for (;;) {
		struct pollfd p = { .fd = i->out, .events = POLLIN };
		s64 left = deadline_ms - now_ms();
		ssize_t n;

		if (len + 1 >= size) {
			char *grown = realloc(text, size = 2 * size + 4096);

			if (!grown)
				break;
			text = grown;
		}
		if (left <= 0)
			break;
		if (poll(&p, 1, (int)left) <= 0)
			continue;
		n = read(i->out, text + len, size - len - 1);
		if (n < 0)
			break;
		len += (size_t)n;
		text[len] = '\0';
		if (n == 0)
			return text;
	}
	kill(i->child, SIGKILL);
	free(text);
	return NULL;
}

static void tell_errors(int fd)
{
	char text[4096];
	ssize_t n;

	for (off_t at = 0; (n = pread(fd, text, sizeof(text), at)) > 0; at += n)
		fwrite(text, 1, (size_t)n, stderr);
}

int inner_end(struct inner *i, bool loud)
{
	int status = 0;

	shut(&i->in);
	shut(&i->out);
	if (i->child > 0)
		while (waitpid(i->child, &status, 0) < 0 && errno == EINTR)
			;
	i->child = -1;
	if (loud && i->err >= 0)
		tell_errors(i->err);
	shut(&i->err);
	return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_NESTOR;
}

struct incubator {
	char name[64], pid[16];
};

struct incubators {
	struct incubator at[INCUBATORS_MAX];
	u32 count;
};

static void add_incubator(const char *name, int pid, void *ctx)
{
	struct incubators *all = ctx;
	struct incubator *in = &all->at[all->count];

	if (all->count == INCUBATORS_MAX)
		return;
	snprintf(in->name, sizeof(in->name), "%s", name);
	snprintf(in->pid, sizeof(in->pid), "%d", pid);
	all->count++;
}

static void find_incubators(struct incubators *all)
{
	all->count = 0;
	if (!incubator_inside())
		incubator_list(add_incubator, all);
}

bool incubator_alive(const char *incubator)
{
	struct incubators all;

	find_incubators(&all);
	for (u32 i = 0; i < all.count; i++)
		if (!strcmp(all.at[i].pid, incubator))
			return true;
	return false;
}

/* Lists */

static bool listed(json_t *list, const char *name, const char *where)
{
	json_t *o;
	size_t i;

	json_array_foreach(
		list, i,
		o) if (!strcmp(json_string_value(json_object_get(o, "name")), name) &&
		       !strcmp(json_string_value(json_object_get(o, "where")), where)) return true;
	return false;
}

static void list_one(const char *name, void *ctx)
{
	const char *where = incubator_inside() ? "incubator" : "kvm";
	json_t *list = ctx, *o = NULL;
	int fd = control_place_connect(name), error;

	if (fd < 0) {
		if (fd == -ENOENT)
			control_place_clean(name);
		return;
	}
	if (!listed(list, name, where))
		o = control_ask(fd, json_pack("{s:s}", "do", "status"), -1, LOOK_MS, &error);
	close(fd);
	if (o && json_is_string(json_object_get(o, "name"))) {
		json_object_del(o, "ok");
		json_object_set_new(o, "where", json_string(where));
		json_array_append(list, o);
	}
	json_decref(o);
}

/* What another of us has listed in there. The process id that means something here is the outer. */
static void add_inner(json_t *list, const struct incubator *in, const char *text)
{
	json_t *inner = json_loads(text, 0, NULL), *o;
	size_t i;

	json_array_foreach(inner, i, o)
	{
		if (!json_is_string(json_object_get(o, "name")))
			continue;
		json_object_set(o, "inner_pid", json_object_get(o, "pid"));
		json_object_set_new(o, "pid", json_integer(atoi(in->pid)));
		json_object_set_new(o, "where", json_string("incubator"));
		json_array_append(list, o);
	}
	json_decref(inner);
}

/* All asked at once: each takes a second or so. */
static void list_incubators(json_t *list)
{
	static const char *const ps[] = { "ps", "--json", NULL };
	s64 deadline = now_ms() + INNER_LOOK_MS;
	struct inner inner[INCUBATORS_MAX];
	struct incubators all;

	find_incubators(&all);
	for (u32 i = 0; i < all.count; i++)
		if (inner_start(&inner[i], all.at[i].pid, ps, false) < 0)
			inner[i].out = -1;
	for (u32 i = 0; i < all.count; i++) {
		char *text = inner[i].out < 0 ? NULL : inner_read(&inner[i], deadline);

		if (text)
			add_inner(list, &all.at[i], text);
		else if (incubator_alive(all.at[i].pid))
			json_array_append_new(list, json_pack("{s:s, s:i, s:s, s:s}", "name",
							      all.at[i].name, "pid",
							      atoi(all.at[i].pid), "state",
							      "no answer", "where", "incubator"));
		free(text);
		inner_end(&inner[i], false);
	}
}

json_t *instance_list(void)
{
	json_t *list = json_array();

	control_place_list(list_one, list);
	list_incubators(list);
	return list;
}

/* One */

static bool find_incubated(const char *name, struct instance *out)
{
	struct incubators all;
	json_t *list, *o;
	size_t i;

	find_incubators(&all);
	for (u32 n = 0; n < all.count; n++)
		if (!strcmp(all.at[n].name, name)) {
			snprintf(out->incubator, sizeof(out->incubator), "%s", all.at[n].pid);
			return true;
		}
	if (!all.count)
		return false;
	/* Started by hand in an incubator of another name. */
	list = json_array();
	list_incubators(list);
	json_array_foreach(list, i,
			   o) if (!strcmp(json_string_value(json_object_get(o, "name")), name))
		snprintf(out->incubator, sizeof(out->incubator), "%d",
			 (int)json_integer_value(json_object_get(o, "pid")));
	json_decref(list);
	return out->incubator[0];
}

int instance_find(const struct command *cmd, const char *name, struct instance *out)
{
	*out = (struct instance){ .name = name, .fd = control_place_connect(name) };
	if (out->fd >= 0)
		return 0;
	if (control_name_valid(name) && find_incubated(name, out)) {
		out->fd = -1;
		return 0;
	}
	fprintf(stderr, "nestor %s: there is no running instance '%s'; see 'nestor ps'\n",
		cmd->name, name);
	return EXIT_USAGE;
}

void instance_close(struct instance *in)
{
	shut(&in->fd);
}

json_t *instance_ask(const struct command *cmd, const struct instance *in, json_t *request, int fd,
		     int *status)
{
	int error, ignored;
	json_t *o = control_ask(in->fd, request, fd, ASK_MS, &error);
	const char *why;

	if (!status)
		status = &ignored;
	*status = o ? EXIT_OK : EXIT_NESTOR;
	if (!o) {
		fprintf(stderr, "nestor %s: %s: %s\n", cmd->name, in->name,
			error == -EPIPE ? "the instance ended" : strerror(-error));
		return NULL;
	}
	if (json_is_true(json_object_get(o, "ok"))) {
		json_object_del(o, "ok");
		return o;
	}
	*status = EXIT_REFUSED;
	why = json_string_value(json_object_get(o, "error"));
	fprintf(stderr, "nestor %s: %s: %s\n", cmd->name, in->name, why ? why : "it failed");
	json_decref(o);
	return NULL;
}
