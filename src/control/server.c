// SPDX-License-Identifier: MIT
/*
 * A client is read only while nothing of its is going on, so that one buffer in,
 * one call and one answer out are all it can hold.
 */
#include "control/server.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "control/place.h"

struct control_client {
	struct control_server *server;
	struct loop_fd lfd;
	struct list node;
	u64 used_ns;
	char in[CONTROL_LINE_MAX];
	u32 in_bytes;
	int passed_fd;
	bool input_over, broken;   /* no more requests: it said so, or they make no sense */
	struct control_call *call; /* not answered yet */
	char *out;
	size_t out_bytes, out_at;
	void (*gone)(void *ctx);
};

struct control_server {
	const struct control_row *rows;
	void *ctx;
	struct loop *loop;
	bool running;
	struct loop_fd listener;
	struct sockaddr_un address;
	struct list clients;
	u32 client_count;
	struct loop_work answer_work;
	pthread_mutex_t lock; /* guards: calls, and answer and answered of each */
	struct list calls;
};

static void client_run(struct control_client *c);

static void call_free(struct control_call *call)
{
	json_decref(call->args);
	json_decref(call->answer);
	if (call->fd >= 0)
		close(call->fd);
	free(call);
}

static void client_close(struct control_client *c)
{
	struct control_server *s = c->server;

	if (c->gone)
		c->gone(s->ctx);
	if (c->call)
		c->call->client = NULL;
	loop_fd_del(&c->lfd);
	close(c->lfd.fd);
	if (c->passed_fd >= 0)
		close(c->passed_fd);
	list_del(&c->node);
	s->client_count--;
	free(c->out);
	free(c);
}

/* Answers */

static void answer(struct control_call *call, json_t *o)
{
	struct control_server *s = call->server;

	pthread_mutex_lock(&s->lock);
	call->answer = o;
	call->answered = true;
	pthread_mutex_unlock(&s->lock);
	loop_post(s->loop, &s->answer_work);
}

void control_ok(struct control_call *call, json_t *result)
{
	if (!result)
		result = json_object();
	if (result)
		json_object_set_new(result, "ok", json_true());
	answer(call, result);
}

void control_fail(struct control_call *call, int error, const char *fmt, ...)
{
	char text[600];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	answer(call, json_pack("{s:b, s:s, s:i}", "ok", 0, "error", text, "errno",
			       error < 0 ? -error : error));
}

int control_hold(struct control_call *call, void (*gone)(void *ctx))
{
	struct control_client *c = call->client;

	if (!c)
		return -ENOTCONN;
	if (gone && c->gone)
		return -EBUSY;
	c->gone = gone;
	return 0;
}

/* A line of its own. An answer nobody could make (no memory) ends the connection. */
static void client_answer(struct control_client *c, json_t *o)
{
	char *text = o ? json_dumps(o, JSON_COMPACT) : NULL, *line;
	size_t n = text ? strlen(text) : 0;

	line = text ? realloc(text, n + 1) : NULL;
	if (!line) {
		free(text);
		c->broken = true;
		return;
	}
	line[n] = '\n';
	c->out = line;
	c->out_bytes = n + 1;
	c->out_at = 0;
}

static struct control_call *next_answered(struct control_server *s)
{
	struct control_call *found = NULL;
	struct list *pos;

	pthread_mutex_lock(&s->lock);
	list_for_each(pos, &s->calls) {
		struct control_call *call = list_entry(pos, struct control_call, node);

		if (!call->answered)
			continue;
		list_del(&call->node);
		found = call;
		break;
	}
	pthread_mutex_unlock(&s->lock);
	return found;
}

static void on_answers(struct loop_work *w)
{
	struct control_server *s = container_of(w, struct control_server, answer_work);
	struct control_call *call;

	while ((call = next_answered(s)) != NULL) {
		struct control_client *c = call->client;

		if (c) {
			c->call = NULL;
			client_answer(c, call->answer);
		}
		call_free(call);
		if (c)
			client_run(c);
	}
}

/* Requests */

static const struct control_row *find_row(const struct control_server *s, const char *name)
{
	for (const struct control_row *r = s->rows; r->name; r++)
		if (name && !strcmp(r->name, name))
			return r;
	return NULL;
}

static void request(struct control_client *c, const char *line, size_t bytes)
{
	struct control_server *s = c->server;
	struct control_call *call = calloc(1, sizeof(*call));
	const struct control_row *row;
	json_error_t why;

	if (!call) {
		c->broken = true;
		return;
	}
	call->fd = c->passed_fd;
	c->passed_fd = -1;
	call->ctx = s->ctx;
	call->server = s;
	call->client = c;
	call->args = json_loadb(line, bytes, JSON_REJECT_DUPLICATES, &why);
	c->call = call;
	pthread_mutex_lock(&s->lock);
	list_add_tail(&s->calls, &call->node);
	pthread_mutex_unlock(&s->lock);
	row = find_row(s, json_string_value(json_object_get(call->args, "do")));
	if (!call->args)
		control_fail(call, -EINVAL, "not JSON: %s", why.text);
	else if (!row)
		control_fail(call, -EOPNOTSUPP, "the request names nothing that can be done");
	else
		row->fn(call);
}

/* As far as the buffer goes. False: a line is not complete, more has to be read. */
static bool client_requests(struct control_client *c)
{
	char *end;

	if (c->call || c->out || c->broken)
		return true;
	end = memchr(c->in, '\n', c->in_bytes);
	if (end) {
		size_t n = (size_t)(end - c->in);
		char line[CONTROL_LINE_MAX];

		memcpy(line, c->in, n);
		c->in_bytes -= (u32)n + 1;
		memmove(c->in, end + 1, c->in_bytes);
		request(c, line, n);
		return true;
	}
	if (c->in_bytes == sizeof(c->in)) {
		json_t *o = json_pack("{s:b, s:s, s:i}", "ok", 0, "error", "the line is too long",
				      "errno", EMSGSIZE);

		client_answer(c, o);
		json_decref(o);
		c->broken = true;
		return true;
	}
	return false;
}

/* The last descriptor that came counts. */
static void take_fds(struct control_client *c, struct msghdr *msg)
{
	for (struct cmsghdr *h = CMSG_FIRSTHDR(msg); h; h = CMSG_NXTHDR(msg, h)) {
		size_t n;

		if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
			continue;
		n = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			if (c->passed_fd >= 0)
				close(c->passed_fd);
			memcpy(&c->passed_fd, CMSG_DATA(h) + i * sizeof(int), sizeof(int));
		}
	}
}

/* False: nothing to read now. */
static bool client_read(struct control_client *c)
{
	union {
		char bytes[CMSG_SPACE(4 * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = { c->in + c->in_bytes, sizeof(c->in) - c->in_bytes };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = &control,
			      .msg_controllen = sizeof(control) };
	ssize_t n = recvmsg(c->lfd.fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (n > 0) {
		take_fds(c, &msg);
		c->in_bytes += (u32)n;
		c->used_ns = loop_now_ns(c->server->loop);
		return true;
	}
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	c->input_over = true;
	return true;
}

/* False: the other end takes no more now, or is gone. */
static bool client_write(struct control_client *c)
{
	ssize_t n = send(c->lfd.fd, c->out + c->out_at, c->out_bytes - c->out_at,
			 MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n < 0) {
		c->broken = c->broken || (errno != EAGAIN && errno != EINTR);
		return false;
	}
	c->out_at += (size_t)n;
	if (c->out_at < c->out_bytes)
		return false;
	free(c->out);
	c->out = NULL;
	c->used_ns = loop_now_ns(c->server->loop);
	return true;
}

static bool client_over(const struct control_client *c)
{
	return !c->call && !c->out && (c->broken || c->input_over);
}

/* Everything that can be done without waiting; may free @c. */
static void client_run(struct control_client *c)
{
	u32 events = 0;

	for (;;) {
		if (c->out) {
			if (client_write(c))
				continue;
			if (!c->broken) {
				events = EPOLLOUT;
				break;
			}
			free(c->out);
			c->out = NULL;
		}
		if (client_over(c) && !memchr(c->in, '\n', c->broken ? 0 : c->in_bytes)) {
			client_close(c);
			return;
		}
		if (c->call)
			break;
		if (!client_requests(c) && !client_read(c)) {
			events = EPOLLIN;
			break;
		}
	}
	/* EPOLLHUP comes unasked: whoever waits for an answer may still go away. */
	if (loop_fd_modify(&c->lfd, events) < 0)
		client_close(c);
}

static void on_client(struct loop_fd *lf, u32 events)
{
	struct control_client *c = container_of(lf, struct control_client, lfd);

	/* What it sent before it went away is still done, unless something is going on. */
	if ((events & (EPOLLHUP | EPOLLERR)) && !(events & EPOLLIN))
		client_close(c);
	else
		client_run(c);
}

/* Clients */

static bool make_room(struct control_server *s)
{
	struct control_client *oldest = NULL;
	struct list *pos;

	if (s->client_count < CONTROL_CLIENTS_MAX)
		return true;
	list_for_each(pos, &s->clients) {
		struct control_client *c = list_entry(pos, struct control_client, node);

		if (!c->call && !c->gone && (!oldest || c->used_ns < oldest->used_ns))
			oldest = c;
	}
	if (oldest)
		client_close(oldest);
	return oldest != NULL;
}

int control_server_add_client(struct control_server *s, int fd)
{
	struct control_client *c = make_room(s) ? calloc(1, sizeof(*c)) : NULL;
	int ret = c ? 0 : -ENOMEM;

	if (!ret) {
		c->server = s;
		c->passed_fd = -1;
		c->used_ns = loop_now_ns(s->loop);
		ret = loop_fd_add(s->loop, &c->lfd, fd, EPOLLIN, on_client);
	}
	if (ret) {
		free(c);
		close(fd);
		return ret;
	}
	list_add_tail(&s->clients, &c->node);
	s->client_count++;
	return 0;
}

static void on_connection(struct loop_fd *lf, u32 events)
{
	struct control_server *s = container_of(lf, struct control_server, listener);
	int fd = accept4(lf->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct ucred peer;
	socklen_t bytes = sizeof(peer);

	if (fd < 0)
		return;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) < 0 ||
	    (peer.uid != geteuid() && peer.uid != 0)) {
		close(fd);
		return;
	}
	if (control_server_add_client(s, fd) < 0)
		log_limited(LOG_WARNING,
			    "a client of the control socket was turned away: too many");
}

/* Life */

int control_server_create(const struct control_row *rows, void *ctx, struct control_server **out)
{
	struct control_server *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->rows = rows;
	s->ctx = ctx;
	s->listener.fd = -1;
	list_init(&s->clients);
	list_init(&s->calls);
	loop_work_init(&s->answer_work, on_answers);
	pthread_mutex_init(&s->lock, NULL);
	s->loop = loop_create(NULL);
	if (!s->loop) {
		control_server_destroy(s);
		return -ENOMEM;
	}
	*out = s;
	return 0;
}

struct loop *control_server_loop(struct control_server *s)
{
	return s->loop;
}

static int listen_at(struct control_server *s)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), ret;

	if (fd < 0)
		return -errno;
	unlink(s->address.sun_path);
	if (bind(fd, (struct sockaddr *)&s->address, sizeof(s->address)) == 0 &&
	    listen(fd, CONTROL_CLIENTS_MAX) == 0)
		ret = loop_fd_add(s->loop, &s->listener, fd, EPOLLIN, on_connection);
	else
		ret = -errno;
	if (ret) {
		close(fd);
		s->listener.fd = -1;
	}
	return ret;
}

int control_server_start(struct control_server *s, const char *name)
{
	int fd = control_place_connect(name), ret;

	/* Claimed in another network namespace, perhaps. */
	if (fd >= 0) {
		close(fd);
		return -EADDRINUSE;
	}
	ret = control_place_create(name, &s->address);
	if (!ret)
		ret = listen_at(s);
	if (!ret)
		ret = loop_thread_start(s->loop, "control");
	s->running = !ret;
	if (ret)
		control_server_stop(s);
	return ret;
}

void control_server_stop(struct control_server *s)
{
	if (s->running)
		loop_thread_join(s->loop);
	s->running = false;
	if (s->listener.fd >= 0) {
		/* The name first: nobody shall find what does not answer. */
		unlink(s->address.sun_path);
		loop_fd_del(&s->listener);
		close(s->listener.fd);
		s->listener.fd = -1;
	}
	while (!list_empty(&s->clients))
		client_close(list_entry(s->clients.next, struct control_client, node));
}

void control_server_destroy(struct control_server *s)
{
	struct list *node;

	if (!s)
		return;
	control_server_stop(s);
	while ((node = list_pop(&s->calls)) != NULL)
		call_free(list_entry(node, struct control_call, node));
	loop_destroy(s->loop);
	pthread_mutex_destroy(&s->lock);
	free(s);
}
