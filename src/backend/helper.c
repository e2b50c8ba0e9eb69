// SPDX-License-Identifier: MIT
/* Standard error is a file in memory: nobody has to read along, and nothing can block. */
#include "backend/helper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/close_range.h>

#define END_WAIT_MS 15000 /* to write out what a disk image still lacks */
#define POLL_MS	    10
#define TAIL_BYTES  1024

struct helper {
	pid_t pid;
	int errors; /* memfd */
	bool ended;
	int status;
};

/* Between fork and exec: only what is safe there. Reports errno through @report. */
static void child(char *const *argv, int fd, int errors, int report, pid_t parent)
{
	sigset_t none;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), err;

	prctl(PR_SET_PDEATHSIG, SIGTERM);
	/* A group of its own: Ctrl-C at the terminal is ours to handle. */
	if (getppid() != parent || null < 0 || setpgid(0, 0) < 0 || dup2(null, 0) < 0 ||
	    dup2(null, 1) < 0 || dup2(errors, 2) < 0 ||
	    close_range(3, ~0u, CLOSE_RANGE_CLOEXEC) < 0 || (fd >= 0 && fcntl(fd, F_SETFD, 0) < 0))
		_exit(127);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	execvp(argv[0], argv);
	err = errno;
	_exit(write(report, &err, sizeof(err)) == sizeof(err) ? 127 : 126);
}

int helper_start(char *const *argv, int fd, struct helper **out)
{
	struct helper *h = calloc(1, sizeof(*h));
	int report[2] = { -1, -1 }, err = 0, ret;
	pid_t self = getpid();
	ssize_t n;

	if (!h)
		return -ENOMEM;
	h->errors = memfd_create("nestor-helper", MFD_CLOEXEC);
	if (h->errors < 0 || pipe2(report, O_CLOEXEC) < 0)
		goto fail;
	h->pid = fork();
	if (h->pid < 0)
		goto fail;
	if (h->pid == 0)
		child(argv, fd, h->errors, report[1], self);
	close(report[1]);
	do {
		n = read(report[0], &err, sizeof(err));
	} while (n < 0 && errno == EINTR);
	close(report[0]);
	if (n == sizeof(err)) { /* it never became the program */
		helper_stop(h);
		return -err;
	}
	*out = h;
	return 0;
fail:
	ret = -errno;
	if (report[0] >= 0) {
		close(report[0]);
		close(report[1]);
	}
	if (h->errors >= 0)
		close(h->errors);
	free(h);
	return ret;
}

static bool ended(struct helper *h)
{
	if (!h->ended && waitpid(h->pid, &h->status, WNOHANG) == h->pid)
		h->ended = true;
	return h->ended;
}

static void wait_end(struct helper *h, int ms)
{
	for (; ms > 0 && !ended(h); ms -= POLL_MS)
		poll(NULL, 0, POLL_MS);
}

void helper_stop(struct helper *h)
{
	if (!h)
		return;
	if (!ended(h)) {
		kill(h->pid, SIGTERM);
		wait_end(h, END_WAIT_MS);
	}
	if (!ended(h)) {
		kill(h->pid, SIGKILL);
		waitpid(h->pid, &h->status, 0);
	}
	close(h->errors);
	free(h);
}

static void describe_end(const struct helper *h, char *out, size_t bytes)
{
	if (WIFSIGNALED(h->status))
		snprintf(out, bytes, "ended by signal %d", WTERMSIG(h->status));
	else
		snprintf(out, bytes, "ended with status %d", WEXITSTATUS(h->status));
}

void helper_last_words(struct helper *h, char *out, size_t bytes)
{
	char tail[TAIL_BYTES + 1], *line;
	off_t end;
	ssize_t n;

	out[0] = 0;
	wait_end(h, 200); /* what made us ask is most often its end */
	if (ended(h))
		describe_end(h, out, bytes);
	end = lseek(h->errors, 0, SEEK_END);
	n = end > 0 ? pread(h->errors, tail, TAIL_BYTES, end > TAIL_BYTES ? end - TAIL_BYTES : 0)
		    : 0;
	while (n > 0 && (tail[n - 1] == '\n' || tail[n - 1] == ' '))
		n--;
	if (n <= 0)
		return;
	tail[n] = 0;
	line = strrchr(tail, '\n');
	snprintf(out, bytes, "%s", line ? line + 1 : tail);
}
