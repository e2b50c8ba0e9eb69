// SPDX-License-Identifier: MIT
/*
 * passt, or whoever speaks QEMU's stream protocol on a Unix socket: each frame
 * follows its length, 32 bits in network order. Nothing can be said beside a
 * frame, so sums are complete; a large frame may go whole, as an IP packet of up
 * to 64 KiB is what passt expects anyway.
 */
#include "backend/net.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "backend/net_frame.h"
#include "base/log.h"

#define PASST_IN_BYTES	   (256u << 10)
#define PASST_OUT_BYTES	   (1024u << 10)
#define PASST_SEND_BYTES   (128u << 10) /* sent at once without waiting for tx_end */
#define PASST_LENGTH_BYTES 4u

struct net_passt {
	struct net_backend be;
	int fd; /* -1 after the other side has gone */
	struct loop_fd lf;
	u32 events;
	bool paused; /* the device has no room */
	u8 *in, *out;
	u32 in_at, in_end;   /* bytes of `in` not handled yet */
	u32 out_at, out_end; /* bytes of `out` not sent yet */
};

static struct net_passt *passt_of(struct net_backend *be)
{
	return container_of(be, struct net_passt, be);
}

static void hang_up(struct net_passt *ps, const char *why)
{
	if (ps->fd < 0)
		return;
	log_warning("The network's socket is closed: %s.", why);
	loop_fd_del(&ps->lf);
	close(ps->fd);
	ps->fd = -1;
	ps->be.link_up = false;
	ps->be.sink->link(ps->be.sink_ctx, false);
}

static void update_events(struct net_passt *ps)
{
	u32 events = (ps->paused ? 0 : EPOLLIN) | (ps->out_at < ps->out_end ? EPOLLOUT : 0);

	if (ps->fd < 0 || events == ps->events)
		return;
	ps->events = events;
	loop_fd_modify(&ps->lf, events);
}

static void send_out(struct net_passt *ps)
{
	while (ps->fd >= 0 && ps->out_at < ps->out_end) {
		ssize_t n = send(ps->fd, ps->out + ps->out_at, ps->out_end - ps->out_at,
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {
			hang_up(ps, strerror(errno));
			return;
		}
		ps->out_at += (u32)n;
	}
	if (ps->out_at == ps->out_end)
		ps->out_at = ps->out_end = 0;
	update_events(ps);
}

static bool make_room(struct net_passt *ps, u32 bytes)
{
	if (PASST_OUT_BYTES - ps->out_end >= bytes)
		return true;
	memmove(ps->out, ps->out + ps->out_at, ps->out_end - ps->out_at);
	ps->out_end -= ps->out_at;
	ps->out_at = 0;
	return PASST_OUT_BYTES - ps->out_end >= bytes;
}

static void passt_tx(struct net_backend *be, const struct net_frame *f)
{
	struct net_passt *ps = passt_of(be);
	u8 *frame;

	if (ps->fd < 0 || !make_room(ps, f->bytes + PASST_LENGTH_BYTES))
		return;
	frame = ps->out + ps->out_end + PASST_LENGTH_BYTES;
	if (net_frame_copy(f, frame, PASST_OUT_BYTES - ps->out_end - PASST_LENGTH_BYTES) < 0)
		return;
	if (f->meta.needs_csum) {
		struct net_headers h;

		net_headers_parse(frame, f->bytes, &h);
		net_frame_complete(frame, f->bytes, &h);
	}
	net_put32(frame - PASST_LENGTH_BYTES, f->bytes);
	ps->out_end += f->bytes + PASST_LENGTH_BYTES;
	if (ps->out_end - ps->out_at >= PASST_SEND_BYTES)
		send_out(ps);
}

static void passt_tx_end(struct net_backend *be)
{
	send_out(passt_of(be));
}

/* Hands over what has arrived whole. -EPROTO: not a length. */
static int deliver(struct net_passt *ps)
{
	while (ps->in_end - ps->in_at >= PASST_LENGTH_BYTES) {
		u32 bytes = net_get32(ps->in + ps->in_at);
		struct iovec iov = { ps->in + ps->in_at + PASST_LENGTH_BYTES, bytes };
		struct net_frame f = { .iov = &iov, .count = 1, .bytes = bytes };

		if (bytes < NET_ETH_BYTES || bytes > NET_FRAME_MAX)
			return -EPROTO;
		if (ps->in_end - ps->in_at - PASST_LENGTH_BYTES < bytes)
			break;
		if (!ps->be.sink->rx_room(ps->be.sink_ctx)) {
			ps->paused = true;
			break;
		}
		ps->be.sink->rx(ps->be.sink_ctx, &f);
		ps->in_at += bytes + PASST_LENGTH_BYTES;
	}
	memmove(ps->in, ps->in + ps->in_at, ps->in_end - ps->in_at);
	ps->in_end -= ps->in_at;
	ps->in_at = 0;
	return 0;
}

static void receive(struct net_passt *ps)
{
	ssize_t n = recv(ps->fd, ps->in + ps->in_end, PASST_IN_BYTES - ps->in_end, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		hang_up(ps, n ? strerror(errno) : "the other side has gone");
		return;
	}
	ps->in_end += (u32)n;
	if (deliver(ps) < 0)
		hang_up(ps, "what it sent is not a frame");
	ps->be.sink->rx_end(ps->be.sink_ctx);
}

static void passt_ready(struct loop_fd *lf, u32 events)
{
	struct net_passt *ps = container_of(lf, struct net_passt, lf);

	if (events & EPOLLOUT)
		send_out(ps);
	if (ps->fd >= 0 && !ps->paused && events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		receive(ps);
	else if (ps->fd >= 0 && events & (EPOLLHUP | EPOLLERR))
		hang_up(ps, "the other side has gone");
	update_events(ps);
}

static void passt_resume(struct net_backend *be)
{
	struct net_passt *ps = passt_of(be);

	if (!ps->paused)
		return;
	ps->paused = false;
	if (ps->fd >= 0 && deliver(ps) < 0)
		hang_up(ps, "what it sent is not a frame");
	be->sink->rx_end(be->sink_ctx);
	update_events(ps);
}

static int passt_start(struct net_backend *be)
{
	struct net_passt *ps = passt_of(be);

	ps->events = EPOLLIN;
	return loop_fd_add(be->loop, &ps->lf, ps->fd, EPOLLIN, passt_ready);
}

static void passt_stop(struct net_backend *be)
{
	loop_fd_del(&passt_of(be)->lf);
}

static void passt_destroy(struct net_backend *be)
{
	struct net_passt *ps = passt_of(be);

	if (ps->fd >= 0)
		close(ps->fd);
	free(ps->in);
	free(ps->out);
	free(ps);
}

static const struct net_backend_ops passt_ops = {
	.name = "passt",
	.start = passt_start,
	.stop = passt_stop,
	.destroy = passt_destroy,
	.tx = passt_tx,
	.tx_end = passt_tx_end,
	.rx_resume = passt_resume,
};

static int connect_to(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), ret;

	if (fd < 0)
		return -errno;
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
		ret = -errno;
		close(fd);
		return ret;
	}
	return fd;
}

int net_passt_create(const struct net_spec *spec, struct net_backend **out, char *error,
		     size_t error_bytes)
{
	struct net_passt *ps = calloc(1, sizeof(*ps));

	if (!ps)
		return -ENOMEM;
	ps->be = (struct net_backend){
		.ops = &passt_ops,
		.link_up = true,
		.mtu = 1500,
		.speed_bits = 10000000000ull,
	};
	ps->fd = -1;
	ps->in = malloc(PASST_IN_BYTES);
	ps->out = malloc(PASST_OUT_BYTES);
	if (!ps->in || !ps->out) {
		passt_destroy(&ps->be);
		return -ENOMEM;
	}
	ps->fd = connect_to(spec->target);
	if (ps->fd < 0) {
		int ret = ps->fd;

		snprintf(error, error_bytes, "socket '%s': %s", spec->target, strerror(-ret));
		passt_destroy(&ps->be);
		return ret;
	}
	*out = &ps->be;
	return 0;
}
