// SPDX-License-Identifier: MIT
/*
 * A connection is a host socket and, once the guest agreed, a channel whose
 * packets are the stream. One loop, usually with a thread of its own, runs all of
 * them; a connection's state is touched there only. It may wait for the server's
 * loop (vmbus_offer ...), so the server's loop never waits for it: it posts. A
 * connection dies after its VMBus device (conn_destroy), or before it was offered.
 *
 * No buffering: what the host socket does not take stays in the guest's ring,
 * what the ring does not take stays in the socket.
 */
#include "vsp/hvsock.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "vmbus/device.h"

#define DEFAULT_MAX	256u
#define DEFAULT_TIMEOUT (5 * NS_PER_S)
#define LINE_MAX_BYTES	32u
#define LINGER_NS	(8 * NS_PER_S)
#define LINGER_POLL_NS	(10 * NS_PER_MS)
#define PIPE_BYTES	((u32)sizeof(struct vmbus_pipe_header))

struct hvsock {
	struct vmbus_server *srv;
	struct loop *loop;
	bool own_loop;
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
	u32 max;
	u64 timeout_ns;
	int listen_fd;
	struct loop_fd listen;
	bool stopping;	   /* atomic */
	struct list conns; /* our loop */

	pthread_mutex_t lock; /* count */
	pthread_cond_t cond;
	u32 count; /* connections that exist */
};

struct conn {
	struct list node;
	struct hvsock *hs;
	struct loop_fd sock; /* fd -1: closed */
	struct loop_timer timeout;
	struct loop_work revoke_work; /* on the server's loop */
	struct loop_work free_work;
	bool dead;		  /* hs->lock: the device is gone, free_work is on its way */
	u64 linger_until;	  /* 0: not lingering */
	struct vmbus_device *vd;  /* offered */
	struct vmbus_channel *ch; /* open */
	struct hv_guid service, endpoint;
	u32 port;
	bool from_host;
	bool answered; /* the guest's TL_CONNECT */
	bool revoking;
	bool guest_eof; /* FIN seen */
	bool host_eof;	/* FIN sent or owed */
	bool fin_sent;
	u32 out_done; /* bytes of the packet in the ring that the socket has taken */
	char line[LINE_MAX_BYTES];
	u32 line_bytes;
	u8 buf[VMBUS_HVSOCK_MAX_DATA];
};

/* facb-11e6-bd58-64006a7986d3 with the port in the first field. */
static const struct hv_guid vsock_template =
	HV_GUID(0, 0xfacb, 0x11e6, 0xbd, 0x58, 0x64, 0x00, 0x6a, 0x79, 0x86, 0xd3);

static void free_run(struct loop_work *w);
static void revoke_run(struct loop_work *w);

/* Life */

static struct conn *conn_create(struct hvsock *hs, int fd)
{
	struct conn *c = NULL;

	pthread_mutex_lock(&hs->lock);
	if (hs->count < hs->max && (c = calloc(1, sizeof(*c))))
		hs->count++;
	pthread_mutex_unlock(&hs->lock);
	if (!c)
		return NULL;
	c->hs = hs;
	c->sock.fd = fd;
	loop_work_init(&c->revoke_work, revoke_run);
	loop_work_init(&c->free_work, free_run);
	list_add_tail(&hs->conns, &c->node);
	return c;
}

static void conn_free(struct conn *c)
{
	struct hvsock *hs = c->hs;

	loop_timer_cancel(&c->timeout);
	loop_fd_del(&c->sock);
	if (c->sock.fd >= 0)
		close(c->sock.fd);
	list_del(&c->node);
	free(c);
	pthread_mutex_lock(&hs->lock);
	hs->count--;
	pthread_cond_broadcast(&hs->cond);
	pthread_mutex_unlock(&hs->lock);
}

static void free_run(struct loop_work *w)
{
	conn_free(container_of(w, struct conn, free_work));
}

/* On the server's loop, which has no further use for the connection. */
static void conn_destroy(void *dev)
{
	struct conn *c = dev;
	struct hvsock *hs = c->hs;

	pthread_mutex_lock(&hs->lock);
	c->dead = true;
	pthread_mutex_unlock(&hs->lock);
	loop_work_cancel(vmbus_server_loop(hs->srv), &c->revoke_work);
	loop_post(hs->loop, &c->free_work);
}

static void answer_guest(struct conn *c, u32 status)
{
	if (c->from_host || c->answered)
		return;
	c->answered = true;
	vmbus_tl_connect_done(c->hs->srv, &c->service, &c->endpoint, status);
}

static void close_socket(struct conn *c)
{
	loop_fd_del(&c->sock);
	if (c->sock.fd >= 0)
		close(c->sock.fd);
	c->sock.fd = -1;
}

/* On the server's loop, as conn_destroy() is, so the device is still there. */
static void revoke_run(struct loop_work *w)
{
	struct conn *c = container_of(w, struct conn, revoke_work);

	if (__atomic_load_n(&c->hs->stopping, __ATOMIC_ACQUIRE))
		vmbus_revoke_now(c->vd);
	else
		vmbus_revoke(c->vd);
}

/* Over, from whatever side. The caller does not touch @c afterwards if it was not offered. */
static void conn_end(struct conn *c)
{
	loop_timer_cancel(&c->timeout);
	close_socket(c);
	answer_guest(c, VMBUS_STATUS_CONNECTION_REFUSED);
	if (!c->vd) {
		conn_free(c);
		return;
	}
	pthread_mutex_lock(&c->hs->lock);
	if ((!c->revoking || c->hs->stopping) && !c->dead)
		loop_post(vmbus_server_loop(c->hs->srv), &c->revoke_work);
	c->revoking = true;
	pthread_mutex_unlock(&c->hs->lock);
}

static void timed_out(struct loop_timer *t)
{
	struct conn *c = container_of(t, struct conn, timeout);

	log_debug("hvsock: nobody in the guest takes the connection to port %u", c->port);
	conn_end(c);
}

/* Stream */

static void send_fin(struct conn *c)
{
	struct vmbus_pipe_header fin = { VMBUS_PIPE_DATA, 0 };

	if (c->fin_sent || !c->ch)
		return;
	if (vmbus_send_inband(c->ch, 0, 0, &fin, sizeof(fin)) == 0)
		c->fin_sent = true; /* else `writable` tries again */
}

/*
 * Both sides are through. A rescinded channel of Linux gives its reader no more
 * data, so first the guest gets time to read what is in the ring.
 */
static void linger(struct loop_timer *t)
{
	struct conn *c = container_of(t, struct conn, timeout);
	u64 now = loop_now_ns(c->hs->loop);

	if (!c->linger_until)
		c->linger_until = now + LINGER_NS;
	if (c->ch && now < c->linger_until && !vmbus_channel_drained(c->ch))
		loop_timer_at(c->hs->loop, t, now + LINGER_POLL_NS, linger);
	else
		conn_end(c);
}

static void check_done(struct conn *c)
{
	if (c->guest_eof && c->fin_sent && !c->linger_until && c->ch) {
		vmbus_channel_flush(c->ch);
		linger(&c->timeout);
	}
}

/* As much as the ring takes, a packet of at most 16 KiB at a time; room for a FIN stays. */
static u32 room_for_data(struct conn *c)
{
	u32 n = VMBUS_HVSOCK_MAX_DATA;

	while (n >= 64 && !vmbus_channel_has_room(c->ch, 32, PIPE_BYTES + n))
		n /= 2;
	return n >= 64 ? n : 0;
}

static void update_events(struct conn *c, bool want_out)
{
	/* Without room, readiness of the socket would only spin. */
	bool want_in = c->ch && !c->host_eof && room_for_data(c);

	if (c->sock.loop)
		loop_fd_modify(&c->sock, (want_in ? EPOLLIN : 0) | (want_out ? EPOLLOUT : 0));
}

/* Host to guest, while both sides go along. */
static void conn_pump(struct conn *c)
{
	for (u32 turn = 0; turn < 16 && c->ch && !c->host_eof && c->sock.fd >= 0; turn++) {
		struct vmbus_pipe_header h = { VMBUS_PIPE_DATA, 0 };
		struct iovec iov[2] = { { &h, sizeof(h) }, { c->buf, 0 } };
		u32 room = room_for_data(c);
		ssize_t n;

		if (!room) {
			vmbus_channel_want_room(c->ch, 32, PIPE_BYTES + 4096);
			break;
		}
		n = recv(c->sock.fd, c->buf, room, MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			break;
		if (n <= 0) {
			c->host_eof = true;
			break;
		}
		h.bytes = (u32)n;
		iov[1].iov_len = (size_t)n;
		if (vmbus_send_iov(c->ch, 0, 0, iov, 2))
			break; /* closing: there was room */
	}
	if (c->host_eof) {
		send_fin(c);
		check_done(c);
	}
}

static void sock_ready(struct loop_fd *lf, u32 events)
{
	struct conn *c = container_of(lf, struct conn, sock);

	if (events & (EPOLLERR | EPOLLHUP)) {
		/*
		 * Nobody takes what the guest sends, but what was sent to it is still in
		 * the socket. Level-triggered, this would not stop: leave epoll, from here
		 * on room in the ring drives the rest.
		 */
		c->guest_eof = true;
		loop_fd_del(lf);
		vmbus_channel_resume(c->ch);
	}
	if (events & EPOLLOUT) {
		update_events(c, false);
		vmbus_channel_resume(c->ch);
	}
	do
		conn_pump(c);
	while (!lf->loop && !c->host_eof && !c->revoking && room_for_data(c));
	update_events(c, lf->events & EPOLLOUT);
}

/* Guest to host. -EAGAIN: the socket is full, the rest of the packet waits in the ring. */
static int hvsock_packet(struct vmbus_channel *ch, const struct vmbus_packet *pkt)
{
	struct conn *c = vmbus_channel_dev(ch);
	const struct vmbus_pipe_header *h = pkt->payload;
	const u8 *data = (const u8 *)(h + 1);

	if (pkt->type != VMBUS_PACKET_INBAND || pkt->payload_bytes < sizeof(*h) ||
	    h->type != VMBUS_PIPE_DATA || h->bytes > pkt->payload_bytes - sizeof(*h) ||
	    h->bytes > VMBUS_HVSOCK_MAX_DATA)
		return -EPROTO;
	if (h->bytes == 0) { /* FIN */
		c->guest_eof = true;
		if (c->sock.fd >= 0)
			shutdown(c->sock.fd, SHUT_WR);
		check_done(c);
		return 0;
	}
	while (c->out_done < h->bytes && c->sock.fd >= 0 && !c->guest_eof) {
		ssize_t n = send(c->sock.fd, data + c->out_done, h->bytes - c->out_done,
				 MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			update_events(c, true);
			return -EAGAIN;
		}
		if (n < 0) { /* nobody takes it; the other direction has its own end */
			c->guest_eof = true;
			break;
		}
		c->out_done += (u32)n;
	}
	c->out_done = 0;
	check_done(c);
	return 0;
}

static void hvsock_writable(struct vmbus_channel *ch)
{
	struct conn *c = vmbus_channel_dev(ch);

	do
		conn_pump(c);
	while (!c->sock.loop && !c->host_eof && !c->revoking && room_for_data(c));
	update_events(c, c->sock.events & EPOLLOUT);
}

static int hvsock_opened(struct vmbus_channel *ch)
{
	struct conn *c = vmbus_channel_dev(ch);
	char line[32];
	int n;

	if (c->ch || c->revoking || c->sock.fd < 0)
		return -ECONNRESET;
	loop_timer_cancel(&c->timeout);
	c->ch = ch;
	if (c->from_host) {
		n = snprintf(line, sizeof(line), "OK %u\n", c->port);
		if (send(c->sock.fd, line, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL) != n) {
			c->ch = NULL;
			conn_end(c);
			return -ECONNRESET;
		}
	}
	if (!c->sock.loop && loop_fd_add(c->hs->loop, &c->sock, c->sock.fd, EPOLLIN, sock_ready)) {
		c->ch = NULL;
		conn_end(c);
		return -ENOMEM;
	}
	loop_fd_modify(&c->sock, EPOLLIN);
	c->sock.fn = sock_ready;
	return 0;
}

static int hvsock_closed(struct vmbus_channel *ch)
{
	struct conn *c = vmbus_channel_dev(ch);

	c->ch = NULL;
	conn_end(c);
	return 0;
}

static const struct vmbus_device_ops hvsock_ops = {
	.name = "hvsock",
	.flags = VMBUS_OFFER_TLNPI | VMBUS_OFFER_PIPE | VMBUS_OFFER_ENUMERATE,
	.opened = hvsock_opened,
	.packet = hvsock_packet,
	.writable = hvsock_writable,
	.closed = hvsock_closed,
	.destroy = conn_destroy,
};

static int conn_offer(struct conn *c)
{
	struct vmbus_offer offer = {
		.ops = &hvsock_ops,
		.dev = c,
		.instance_id = c->endpoint,
		.interface_id = &c->service,
		.loop = c->hs->loop,
	};
	struct vmbus_hvsock_user_data user = { .from_host = c->from_host, .version = 1 };

	memcpy(offer.user_data, &user, sizeof(user));
	loop_timer_after(c->hs->loop, &c->timeout, c->hs->timeout_ns, timed_out);
	return vmbus_offer(c->hs->srv, &offer, &c->vd);
}

/* Host to guest: "CONNECT <port>\n" */

static bool parse_connect(const char *line, u32 *port)
{
	char *end;
	unsigned long v;

	if (strncmp(line, "CONNECT ", 8) != 0 || line[8] < '0' || line[8] > '9')
		return false;
	v = strtoul(line + 8, &end, 10);
	*port = (u32)v;
	return *end == 0 && v <= UINT32_MAX;
}

static void connect_line(struct conn *c)
{
	c->line[c->line_bytes - 1] = 0;
	if (c->line_bytes > 1 && c->line[c->line_bytes - 2] == '\r')
		c->line[c->line_bytes - 2] = 0;
	if (!parse_connect(c->line, &c->port) || !vmbus_server_version(c->hs->srv)) {
		conn_end(c);
		return;
	}
	c->service = vsock_template;
	hv_guid_set_data1(&c->service, c->port);
	if (getrandom(&c->endpoint, sizeof(c->endpoint), 0) != sizeof(c->endpoint)) {
		conn_end(c);
		return;
	}
	/* The stream waits in the socket until the guest opens; a hang-up is still seen. */
	loop_fd_modify(&c->sock, 0);
	if (conn_offer(c))
		conn_end(c);
}

/* Byte by byte: what follows the line belongs to the stream. */
static void line_ready(struct loop_fd *lf, u32 events)
{
	struct conn *c = container_of(lf, struct conn, sock);
	ssize_t n;

	if (c->vd) { /* hung up while the guest was asked */
		conn_end(c);
		return;
	}
	while ((n = recv(lf->fd, &c->line[c->line_bytes], 1, MSG_DONTWAIT)) == 1) {
		if (c->line[c->line_bytes++] == '\n') {
			connect_line(c);
			return;
		}
		if (c->line_bytes == sizeof(c->line))
			break;
	}
	if (n == 0 || c->line_bytes == sizeof(c->line) || (n < 0 && errno != EAGAIN))
		conn_end(c);
}

static void listen_ready(struct loop_fd *lf, u32 events)
{
	struct hvsock *hs = container_of(lf, struct hvsock, listen);
	int fd = accept4(lf->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct conn *c = fd < 0 ? NULL : conn_create(hs, fd);

	if (fd < 0)
		return;
	if (!c) {
		log_limited(LOG_WARNING, "hvsock: too many connections");
		close(fd);
		return;
	}
	c->from_host = true;
	loop_timer_after(hs->loop, &c->timeout, hs->timeout_ns, timed_out);
	if (loop_fd_add(hs->loop, &c->sock, fd, EPOLLIN, line_ready))
		conn_end(c);
}

/* Guest to host */

static int connect_unix(struct hvsock *hs, u32 port)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd;

	if (snprintf(addr.sun_path, sizeof(addr.sun_path), "%s_%u", hs->path, port) >=
	    (int)sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	/* A Unix socket connects at once or not at all (EAGAIN: the backlog is full). */
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
		close(fd);
		return -ECONNREFUSED;
	}
	return fd;
}

struct guest_connect {
	struct loop_work work;
	struct hvsock *hs;
	struct hv_guid service, endpoint;
};

static void guest_connect_run(struct loop_work *w)
{
	struct guest_connect *g = container_of(w, struct guest_connect, work);
	struct hvsock *hs = g->hs;
	struct hv_guid match = g->service;
	struct conn *c = NULL;
	int fd = -EINVAL;

	hv_guid_set_data1(&match, 0);
	if (!hs->stopping && hv_guid_eq(&match, &vsock_template))
		fd = connect_unix(hs, hv_guid_data1(&g->service));
	if (fd >= 0 && !(c = conn_create(hs, fd)))
		close(fd);
	if (!c) {
		vmbus_tl_connect_done(hs->srv, &g->service, &g->endpoint,
				      VMBUS_STATUS_CONNECTION_REFUSED);
	} else {
		c->service = g->service;
		c->endpoint = g->endpoint;
		c->port = hv_guid_data1(&g->service);
		if (conn_offer(c))
			conn_end(c);
		else
			answer_guest(c, 0);
	}
	free(g);
}

/* On the server's loop. */
static void guest_connects(void *ctx, const struct hv_guid *service, const struct hv_guid *endpoint)
{
	struct hvsock *hs = ctx;
	struct guest_connect *g = calloc(1, sizeof(*g));

	if (!g) {
		vmbus_tl_connect_done(hs->srv, service, endpoint, VMBUS_STATUS_CONNECTION_REFUSED);
		return;
	}
	loop_work_init(&g->work, guest_connect_run);
	g->hs = hs;
	g->service = *service;
	g->endpoint = *endpoint;
	loop_post(hs->loop, &g->work);
}

/* Service */

static int listen_unix(struct hvsock *hs)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int ret;

	if (fd < 0)
		return -errno;
	memcpy(addr.sun_path, hs->path, sizeof(addr.sun_path));
	unlink(hs->path);
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, 64) < 0) {
		ret = -errno;
		close(fd);
		return ret;
	}
	return fd;
}

static void hvsock_free(struct hvsock *hs)
{
	if (hs->own_loop)
		loop_destroy(hs->loop);
	pthread_mutex_destroy(&hs->lock);
	pthread_cond_destroy(&hs->cond);
	free(hs);
}

int hvsock_create(struct vmbus_server *srv, const struct hvsock_config *cfg, struct hvsock **out)
{
	struct hvsock *hs;
	int ret;

	if (strlen(cfg->path) >= sizeof(hs->path))
		return -ENAMETOOLONG;
	hs = calloc(1, sizeof(*hs));
	if (!hs)
		return -ENOMEM;
	hs->srv = srv;
	strcpy(hs->path, cfg->path);
	hs->max = cfg->max_connections ? cfg->max_connections : DEFAULT_MAX;
	hs->timeout_ns = cfg->connect_timeout_ns ? cfg->connect_timeout_ns : DEFAULT_TIMEOUT;
	list_init(&hs->conns);
	pthread_mutex_init(&hs->lock, NULL);
	pthread_cond_init(&hs->cond, NULL);
	hs->own_loop = !cfg->loop;
	hs->loop = cfg->loop ? cfg->loop : loop_create(NULL);
	if (!hs->loop) {
		ret = -ENOMEM;
		goto free_hs;
	}
	hs->listen_fd = listen_unix(hs);
	if (hs->listen_fd < 0) {
		ret = hs->listen_fd;
		goto free_hs;
	}
	ret = loop_fd_add(hs->loop, &hs->listen, hs->listen_fd, EPOLLIN, listen_ready);
	if (ret == 0 && hs->own_loop)
		ret = loop_thread_start(hs->loop, "hvsock");
	if (ret)
		goto close_listen;
	vmbus_set_tl_connect(srv, guest_connects, hs);
	*out = hs;
	return 0;
close_listen:
	loop_fd_del(&hs->listen);
	close(hs->listen_fd);
	unlink(hs->path);
free_hs:
	hvsock_free(hs);
	return ret;
}

static void stop_run(void *arg)
{
	struct hvsock *hs = arg;
	struct list *pos, *tmp;

	__atomic_store_n(&hs->stopping, true, __ATOMIC_RELEASE);
	loop_fd_del(&hs->listen);
	list_for_each_safe(pos, tmp, &hs->conns)
		conn_end(list_entry(pos, struct conn, node));
}

static void barrier_run(void *arg)
{
}

static void wait_for_none(struct hvsock *hs)
{
	pthread_mutex_lock(&hs->lock);
	while (hs->count) {
		if (loop_is_running(hs->loop)) {
			pthread_cond_wait(&hs->cond, &hs->lock);
			continue;
		}
		pthread_mutex_unlock(&hs->lock);
		loop_iterate(hs->loop, NS_PER_MS);
		pthread_mutex_lock(&hs->lock);
	}
	pthread_mutex_unlock(&hs->lock);
}

void hvsock_destroy(struct hvsock *hs)
{
	if (!hs)
		return;
	vmbus_set_tl_connect(hs->srv, NULL, NULL);
	/* Behind what the server has posted to us already. */
	loop_call(hs->loop, barrier_run, NULL);
	loop_call(hs->loop, stop_run, hs);
	close(hs->listen_fd);
	unlink(hs->path);
	wait_for_none(hs);
	hvsock_free(hs);
}

u32 hvsock_count(struct hvsock *hs)
{
	u32 n;

	pthread_mutex_lock(&hs->lock);
	n = hs->count;
	pthread_mutex_unlock(&hs->lock);
	return n;
}
