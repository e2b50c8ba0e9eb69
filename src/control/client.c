// SPDX-License-Identifier: MIT
#include "control/client.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

static s64 now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (s64)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* 0; -ETIMEDOUT. @deadline_ms -1: never. */
static int wait_for(int fd, short events, s64 deadline_ms)
{
	struct pollfd p = { .fd = fd, .events = events };

	for (;;) {
		s64 left = deadline_ms < 0 ? -1 : deadline_ms - now_ms();
		int n;

		if (deadline_ms >= 0 && left < 0)
			return -ETIMEDOUT;
		n = poll(&p, 1, left > 1000000 ? 1000000 : (int)left);
		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return -errno;
	}
}

static int send_request(int fd, const char *text, int pass_fd)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { { 0 } };
	struct iovec iov = { (char *)text, strlen(text) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (pass_fd >= 0) {
		msg.msg_control = &control;
		msg.msg_controllen = sizeof(control);
		control.align.cmsg_len = CMSG_LEN(sizeof(int));
		control.align.cmsg_level = SOL_SOCKET;
		control.align.cmsg_type = SCM_RIGHTS;
		memcpy(CMSG_DATA(&control.align), &pass_fd, sizeof(int));
	}
	while (iov.iov_len) {
		ssize_t n = sendmsg(fd, &msg, MSG_NOSIGNAL);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n < 0)
			continue;
		iov.iov_base = (char *)iov.iov_base + n;
		iov.iov_len -= (size_t)n;
		msg.msg_control = NULL;
		msg.msg_controllen = 0;
	}
	return 0;
}

/* A line, without its end, to be freed. */
static int read_line(int fd, s64 deadline_ms, char **out)
{
	size_t size = 0, len = 0;
	char *line = NULL, *grown;
	int ret = -ENOMEM;

	for (;;) {
		ssize_t n;

		if (len + 1 >= size) {
			size = size ? 2 * size : 4096;
			grown = size > CONTROL_ANSWER_MAX ? NULL : realloc(line, size);
			if (!grown)
				break;
			line = grown;
		}
		ret = wait_for(fd, POLLIN, deadline_ms);
		if (ret)
			break;
		n = recv(fd, line + len, size - len - 1, 0);
		ret = n < 0 ? -errno : -EPIPE;
		if (n <= 0)
			break;
		len += (size_t)n;
		if (line[len - 1] != '\n')
			continue;
		line[len - 1] = '\0';
		*out = line;
		return 0;
	}
	free(line);
	return ret == -ECONNRESET ? -EPIPE : ret;
}

json_t *control_ask(int fd, json_t *request, int pass_fd, int timeout_ms, int *error)
{
	s64 deadline = timeout_ms < 0 ? -1 : now_ms() + timeout_ms;
	char *text = request ? json_dumps(request, JSON_COMPACT) : NULL, *line = NULL;
	size_t n = text ? strlen(text) : 0;
	json_t *answer = NULL;

	json_decref(request);
	*error = -ENOMEM;
	line = text ? realloc(text, n + 2) : NULL;
	if (!line) {
		free(text);
		return NULL;
	}
	memcpy(line + n, "\n", 2);
	*error = send_request(fd, line, pass_fd);
	free(line);
	if (!*error)
		*error = read_line(fd, deadline, &line);
	if (*error)
		return NULL;
	answer = json_loads(line, 0, NULL);
	free(line);
	if (json_is_object(answer))
		return answer;
	json_decref(answer);
	*error = -EPROTO;
	return NULL;
}

bool control_wait_end(int fd, s64 timeout_ms)
{
	s64 deadline = timeout_ms < 0 ? -1 : now_ms() + timeout_ms;
	char ignored[256];

	while (wait_for(fd, POLLIN, deadline) == 0)
		if (recv(fd, ignored, sizeof(ignored), 0) <= 0)
			return true;
	return false;
}
