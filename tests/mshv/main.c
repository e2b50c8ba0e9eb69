// SPDX-License-Identifier: MIT
/*
 * Drives /dev/mshv one ioctl at a time and looks at what a virtual machine monitor would get.
 *
 *   mshv-client            all cases but those of mend.c
 *   mshv-client --list     their names
 *   mshv-client NAME...    some
 *
 * Prints TAP. Each case is a process of its own, so that one that hangs or is killed costs only
 * itself, and so that everything it had of the hypervisor is given back by its end.
 */
#include "vm.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LIMIT_SECONDS 120

static const struct mshv_case *const lists[] = { life_cases, run_cases, state_cases, event_cases,
						 mend_cases };

static bool named(const char *name, char **names)
{
	for (; *names; names++)
		if (strcmp(*names, name) == 0)
			return true;
	return false;
}

static bool run(const struct mshv_case *c)
{
	struct timespec tick = { .tv_nsec = 20000000 };
	pid_t child;
	int status = 0;

	printf("# %s\n", c->name);
	fflush(stdout);
	child = fork();
	if (child < 0)
		return check(false, "%s: fork: %m", c->name);
	if (child == 0) {
		setpgid(0, 0);
		c->run();
		fflush(stdout);
		_exit(0);
	}
	for (int ticks = 0; waitpid(child, &status, WNOHANG) == 0; ticks++) {
		if (ticks == LIMIT_SECONDS * 50) {
			kill(child, SIGKILL);
			kill(-child, SIGKILL);
		}
		nanosleep(&tick, NULL);
	}
	kill(-child, SIGKILL);
	if (WIFSIGNALED(status))
		check(false, "%s: ended by signal %d", c->name, WTERMSIG(status));
	return status == 0;
}

int main(int argc, char **argv)
{
	bool list = argc > 1 && strcmp(argv[1], "--list") == 0;
	int failed = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	for (u32 i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		bool usual = lists[i] != mend_cases;

		for (const struct mshv_case *c = lists[i]; c->name; c++) {
			if (list && usual)
				puts(c->name);
			else if (argc == 1 ? usual : named(c->name, argv + 1))
				failed += !run(c);
		}
	}
	return failed ? 1 : 0;
}
