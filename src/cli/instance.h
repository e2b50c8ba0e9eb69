/* SPDX-License-Identifier: MIT */
/*
 * Running instances, wherever they are: a process here with a control socket, or
 * one inside an incubator of ours, which is reached by running the same command
 * in there.
 */
#ifndef NESTOR_CLI_INSTANCE_H
#define NESTOR_CLI_INSTANCE_H

#include <jansson.h>
#include <sys/types.h>

#include "cli/options.h"

struct instance {
	const char *name;
	int fd;		    /* of its control socket; -1: it is in an incubator */
	char incubator[16]; /* its process id, as text */
};

/* 0; or an exit status, with a message on standard error. */
int instance_find(const struct command *cmd, const char *name, struct instance *out);
void instance_close(struct instance *in);

/* All of them, each an object as the request "status" answers, with "where". */
json_t *instance_list(void);

/*
 * Asks instance @in of this host; @fd goes along (-1: none). The answer, for the caller to
 * free; NULL after a message on standard error, with an exit status in *status (may be NULL).
 */
json_t *instance_ask(const struct command *cmd, const struct instance *in, json_t *request, int fd,
		     int *status);
/* It answered that it cannot be done. */
#define EXIT_REFUSED 1

/* Runs this very program inside the incubator of @in, with this command line. Its exit status. */
int instance_pass_on(const struct instance *in, int argc, char **argv);

/* Another of us in there, as a process beside us. */
struct inner {
	pid_t child;
	int in, out; /* pipes to and from it; -1: none, or closed */
	int err;     /* a file with its standard error */
};
/* @argv: ended by NULL, without the program. @in: with a pipe to it. 0 or -errno. */
int inner_start(struct inner *i, const char *incubator, const char *const *argv, bool in);
/*
 * All it writes until its end or @deadline_ms (of now_ms()), for the caller to free; NULL if
 * that ran out: it is ended.
 */
char *inner_read(struct inner *i, s64 deadline_ms);
/* Closes what is open and waits. Its exit status. @loud: what it had to complain of is told. */
int inner_end(struct inner *i, bool loud);
/* Whether the incubator with this process id is there. */
bool incubator_alive(const char *incubator);

s64 now_ms(void);

/* Text that a guest may have chosen, without what would move a terminal's cursor. */
void print_clean(FILE *out, const char *text, int width);

#endif
