// SPDX-License-Identifier: MIT
/* One thread reads what is typed; output is written by whoever has it. */
#include "machine/console.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <termios.h>
#include <unistd.h>

#include "base/log.h"

#define ESCAPE 0x01 /* Ctrl-a */

struct console {
	const struct console_ops *ops;
	void *ctx;
	bool stdio;
	bool raw, started;
	struct termios saved;
	pthread_t thread;
	int stop_fd, room_fd;
	bool escaped; /* the last key was Ctrl-a */
};

int console_create(const struct console_ops *ops, void *ctx, bool stdio, struct console **out)
{
	struct console *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	*c = (struct console){ .ops = ops, .ctx = ctx, .stdio = stdio };
	c->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	c->room_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (c->stop_fd < 0 || c->room_fd < 0) {
		console_destroy(c);
		return -EMFILE;
	}
	*out = c;
	return 0;
}

void console_destroy(struct console *c)
{
	if (!c)
		return;
	console_stop(c);
	if (c->stop_fd >= 0)
		close(c->stop_fd);
	if (c->room_fd >= 0)
		close(c->room_fd);
	free(c);
}

static void notify(int fd)
{
	u64 one = 1;

	if (write(fd, &one, sizeof(one)) < 0)
		return; /* it is set already */
}

void console_input_room(struct console *c)
{
	notify(c->room_fd);
}

void console_output(struct console *c, const u8 *data, u32 len)
{
	while (c->stdio && len) {
		ssize_t n = write(STDOUT_FILENO, data, len);

		if (n < 0 && errno == EAGAIN) {
			struct pollfd p = { .fd = STDOUT_FILENO, .events = POLLOUT };

			poll(&p, 1, -1);
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			/* The guest need not know that its reader is gone. */
			if (errno != EPIPE)
				log_limited(LOG_WARNING, "standard output: %s", strerror(errno));
			return;
		}
		data += n;
		len -= (u32)n;
	}
}

/* Copies what was typed without the escape sequences; @out has room for @len + 1. */
static u32 filter(struct console *c, const u8 *in, u32 len, u8 *out)
{
	u32 n = 0;

	for (u32 i = 0; i < len; i++) {
		if (c->escaped) {
			c->escaped = false;
			if (in[i] == 'x' || in[i] == 'X') {
				c->ops->quit(c->ctx);
				return n;
			}
			out[n++] = ESCAPE;
			if (in[i] != 'a')
				out[n++] = in[i];
		} else if (c->raw && in[i] == ESCAPE) {
			c->escaped = true;
		} else {
			out[n++] = in[i];
		}
	}
	return n;
}

/* False: stopped while waiting. */
static bool wait_fd(struct console *c, int fd)
{
	struct pollfd p[2] = { { .fd = c->stop_fd, .events = POLLIN },
			       { .fd = fd, .events = POLLIN } };

	while (poll(p, 2, -1) < 0 && errno == EINTR)
		;
	return !(p[0].revents & POLLIN);
}

static bool deliver(struct console *c, const u8 *buf, u32 len)
{
	while (len) {
		u32 n = c->ops->input(c->ctx, buf, len);
		u64 ticks;

		buf += n;
		len -= n;
		if (!len)
			break;
		if (!wait_fd(c, c->room_fd))
			return false;
		if (read(c->room_fd, &ticks, sizeof(ticks)) < 0)
			continue;
	}
	return true;
}

static void *reader(void *arg)
{
	struct console *c = arg;
	u8 buf[256], out[sizeof(buf) + 1];

	while (wait_fd(c, STDIN_FILENO)) {
		ssize_t n = read(STDIN_FILENO, buf, sizeof(buf));

		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n <= 0)
			return NULL; /* end of input: the guest goes on */
		if (!deliver(c, out, filter(c, buf, (u32)n, out)))
			return NULL;
	}
	return NULL;
}

static int raw_mode(struct console *c)
{
	struct termios t;

	if (!isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, &c->saved) < 0)
		return 0;
	t = c->saved;
	cfmakeraw(&t);
	t.c_oflag |= OPOST | ONLCR; /* our own messages stay readable */
	if (tcsetattr(STDIN_FILENO, TCSANOW, &t) < 0)
		return -errno;
	c->raw = true;
	return 0;
}

int console_start(struct console *c)
{
	int ret;

	if (!c->stdio)
		return 0;
	ret = raw_mode(c);
	if (ret)
		return ret;
	ret = -pthread_create(&c->thread, NULL, reader, c);
	c->started = ret == 0;
	return ret;
}

void console_stop(struct console *c)
{
	if (c->started) {
		notify(c->stop_fd);
		pthread_join(c->thread, NULL);
		c->started = false;
	}
	if (c->raw) {
		tcsetattr(STDIN_FILENO, TCSADRAIN, &c->saved);
		c->raw = false;
	}
}
