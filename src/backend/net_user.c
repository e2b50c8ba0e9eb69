// SPDX-License-Identifier: MIT
/*
 * User-mode networking: libslirp is the network, with a gateway that is the
 * host, DHCP, DNS and forwarded ports, and needs no privilege.
 *
 * libslirp and GLib are loaded when a machine wants them, so that others do not
 * pay their memory.
 *
 * Two things make it fast. A large TCP frame from the guest goes in whole, as
 * one IP packet; slirp does not mind. And slirp believes in a large MTU, so that
 * it makes TCP segments of LARGE_MSS bytes instead of 1460: they are what a card
 * that joins segments would have delivered, and only the device, never a wire, is
 * between. A guest that takes no large frames gets them cut by the device.
 *
 * slirp 4.7 looks at a guest's MSS only where the guest was connected to; there
 * it is raised on the way, if the guest takes large frames.
 */
#include "backend/net.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <slirp/libslirp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backend/net_frame.h"
#include "base/log.h"

/* Four of them fill the 64 KiB window, which slirp never scales. */
#define LARGE_MSS 16060u
#define SLIRP_MTU (LARGE_MSS + 60)

struct slirp_api {
	Slirp *(*create)(const SlirpConfig *, const SlirpCb *, void *);
	void (*cleanup)(Slirp *);
	void (*fill)(Slirp *, uint32_t *, SlirpAddPollCb, void *);
	void (*poll)(Slirp *, int, SlirpGetREventsCb, void *);
	void (*input)(Slirp *, const uint8_t *, int);
	int (*hostfwd)(Slirp *, int, struct in_addr, int, struct in_addr, int);
};

static const struct {
	const char *name;
	size_t offset;
} slirp_symbols[] = {
	{ "slirp_new", offsetof(struct slirp_api, create) },
	{ "slirp_cleanup", offsetof(struct slirp_api, cleanup) },
	{ "slirp_pollfds_fill", offsetof(struct slirp_api, fill) },
	{ "slirp_pollfds_poll", offsetof(struct slirp_api, poll) },
	{ "slirp_input", offsetof(struct slirp_api, input) },
	{ "slirp_add_hostfwd", offsetof(struct slirp_api, hostfwd) },
};

/* A socket slirp wants watched. In `fds` at its number, in `watched` while it is. */
struct user_fd {
	struct loop_fd lf;
	struct net_user *user;
	struct list node;
	u32 round;	 /* the last slirp_pollfds_fill() that named it */
	int want, ready; /* SLIRP_POLL_* */
	bool added;
};

struct user_timer {
	struct net_user *user;
	struct list node;
	struct loop_timer timer;
	SlirpTimerCb fn;
	void *opaque;
	s64 expire_ms; /* of our clock; -1: not armed */
};

struct net_user {
	struct net_backend be;
	struct slirp_api api;
	Slirp *slirp;
	struct net_rx_caps caps;
	struct user_fd **fds;
	int fds_count;
	struct list watched, timers;
	u32 round;
	struct loop_timer timeout;
	struct loop_work run;
	u8 frame[NET_FRAME_MAX], piece[NET_FRAME_MAX];
};

static struct net_user *user_of(struct net_backend *be)
{
	return container_of(be, struct net_user, be);
}

/* ---- from the guest ---- */

/* Raises the MSS option of a SYN. True if the frame was changed. */
static bool raise_mss(u8 *frame, const struct net_headers *h)
{
	u32 at = h->l4 + 20u;

	if (!(frame[h->l4 + 13] & NET_TCP_SYN))
		return false;
	while (at + 1 < h->payload && frame[at] != 0) {
		u32 bytes = frame[at] == 1 ? 1 : frame[at + 1];

		if (bytes == 0 || at + bytes > h->payload)
			return false;
		if (frame[at] == 2 && bytes == 4) {
			if (net_get16(frame + at + 2) >= LARGE_MSS)
				return false;
			net_put16(frame + at + 2, LARGE_MSS);
			return true;
		}
		at += bytes;
	}
	return false;
}

/* net_segment() of what is too large for slirp; it wants frames in one piece. */
static void input_piece(void *ctx, const struct net_frame *f)
{
	struct net_user *user = ctx;

	if (net_frame_copy(f, user->piece, sizeof(user->piece)) == 0)
		user->api.input(user->slirp, user->piece, (int)f->bytes);
}

static void user_tx(struct net_backend *be, const struct net_frame *f)
{
	struct net_user *user = user_of(be);
	struct net_headers h;
	bool sum = f->meta.needs_csum, large;

	if (net_frame_copy(f, user->frame, sizeof(user->frame)) < 0)
		return;
	net_headers_parse(user->frame, f->bytes, &h);
	large = h.version == 6 ? user->caps.large_tcp6 : user->caps.large_tcp4;
	if (h.protocol == NET_IP_TCP && large)
		sum |= raise_mss(user->frame, &h);
	/* slirp looks at the length of IPv6 packets. */
	if (h.version == 6 && h.protocol == NET_IP_TCP && f->bytes - h.l3 > SLIRP_MTU) {
		u32 payload = SLIRP_MTU - (u32)(h.payload - h.l3);

		net_segment(user->frame, f->bytes, &h, payload, input_piece, user);
		return;
	}
	if (sum && h.version == 4 && h.protocol == NET_IP_UDP)
		net_put16(user->frame + h.l4 + 6,
			  0); /* "no checksum": slirp is the last to see it */
	else if (sum)
		net_frame_complete(user->frame, f->bytes, &h);
	user->api.input(user->slirp, user->frame, (int)f->bytes);
}

static void user_tx_end(struct net_backend *be)
{
	struct net_user *user = user_of(be);

	be->sink->rx_end(be->sink_ctx);
	loop_post(be->loop, &user->run); /* slirp may watch other sockets now */
}

/* ---- to the guest ---- */

static void rx_fragment(void *ctx, const struct net_frame *f)
{
	struct net_user *user = ctx;

	user->be.sink->rx(user->be.sink_ctx, f);
}

static ssize_t send_packet(const void *buf, size_t len, void *opaque)
{
	struct net_user *user = opaque;
	struct iovec iov = { (void *)buf, len };
	struct net_frame f = { .iov = &iov, .count = 1, .bytes = (u32)len };
	struct net_headers h;

	if (!user->be.loop || len < NET_ETH_BYTES || len > NET_FRAME_MAX)
		return (ssize_t)len;
	net_headers_parse(buf, f.bytes, &h);
	f.meta.csum_ok = h.l4 != 0; /* slirp has just computed it */
	if (!h.version || f.bytes - h.l3 <= user->caps.mtu) {
		user->be.sink->rx(user->be.sink_ctx, &f);
	} else if (h.protocol == NET_IP_TCP && user->caps.mtu > (u32)(h.payload - h.l3)) {
		f.meta.gso = h.version == 4 ? NET_GSO_TCP4 : NET_GSO_TCP6;
		f.meta.gso_bytes = (u16)(user->caps.mtu - (h.payload - h.l3));
		f.meta.header_bytes = h.payload;
		user->be.sink->rx(user->be.sink_ctx, &f);
	} else {
		/* A datagram larger than the guest's MTU; of IPv6 slirp cannot make fragments
		 * either. */
		net_fragment4(buf, f.bytes, &h, user->caps.mtu, rx_fragment, user);
	}
	return (ssize_t)len;
}

/* ---- slirp's sockets and timers on our loop ---- */

static void fd_ready(struct loop_fd *lf, u32 events)
{
	struct user_fd *uf = container_of(lf, struct user_fd, lf);

	uf->ready |=
		(events & EPOLLIN ? SLIRP_POLL_IN : 0) | (events & EPOLLOUT ? SLIRP_POLL_OUT : 0) |
		(events & EPOLLPRI ? SLIRP_POLL_PRI : 0) |
		(events & EPOLLERR ? SLIRP_POLL_ERR : 0) | (events & EPOLLHUP ? SLIRP_POLL_HUP : 0);
	loop_post(uf->user->be.loop, &uf->user->run);
}

static void fd_unwatch(struct user_fd *uf)
{
	if (!uf->added)
		return;
	loop_fd_del(&uf->lf);
	list_del(&uf->node);
	uf->added = false;
	uf->ready = 0;
}

static struct user_fd *fd_entry(struct net_user *user, int fd)
{
	if (fd >= user->fds_count) {
		int count = fd + 64;
		struct user_fd **fds = realloc(user->fds, (size_t)count * sizeof(*fds));

		if (!fds)
			return NULL;
		memset(fds + user->fds_count, 0, (size_t)(count - user->fds_count) * sizeof(*fds));
		user->fds = fds;
		user->fds_count = count;
	}
	if (!user->fds[fd]) {
		user->fds[fd] = calloc(1, sizeof(*user->fds[fd]));
		if (user->fds[fd])
			user->fds[fd]->user = user;
	}
	return user->fds[fd];
}

static int add_poll(int fd, int events, void *opaque)
{
	struct net_user *user = opaque;
	struct user_fd *uf = fd < 0 ? NULL : fd_entry(user, fd);
	u32 epoll = (events & SLIRP_POLL_IN ? EPOLLIN : 0u) |
		    (events & SLIRP_POLL_OUT ? EPOLLOUT : 0u) |
		    (events & SLIRP_POLL_PRI ? EPOLLPRI : 0u);

	if (!uf)
		return -1;
	uf->round = user->round;
	uf->want = events;
	if (!uf->added) {
		if (loop_fd_add(user->be.loop, &uf->lf, fd, epoll, fd_ready) < 0)
			return -1;
		uf->added = true;
		list_add_tail(&user->watched, &uf->node);
	} else if (uf->lf.events != epoll) {
		loop_fd_modify(&uf->lf, epoll);
	}
	return fd;
}

static int get_revents(int index, void *opaque)
{
	struct net_user *user = opaque;
	int ready;

	if (index < 0 || index >= user->fds_count || !user->fds[index])
		return 0;
	ready = user->fds[index]->ready & user->fds[index]->want;
	user->fds[index]->ready = 0;
	return ready;
}

static void unregister_fd(int fd, void *opaque)
{
	struct net_user *user = opaque;

	if (fd >= 0 && fd < user->fds_count && user->fds[fd])
		fd_unwatch(user->fds[fd]);
}

static void register_fd(int fd, void *opaque)
{
}

static void timed_out(struct loop_timer *t)
{
	struct net_user *user = container_of(t, struct net_user, timeout);

	loop_post(user->be.loop, &user->run);
}

static void watch(struct net_user *user)
{
	u32 timeout_ms = UINT32_MAX;
	struct list *pos, *tmp;
	u64 deadline;

	user->round++;
	user->api.fill(user->slirp, &timeout_ms, add_poll, user);
	list_for_each_safe(pos, tmp, &user->watched) {
		struct user_fd *uf = list_entry(pos, struct user_fd, node);

		if (uf->round != user->round)
			fd_unwatch(uf);
	}
	if (timeout_ms == UINT32_MAX) {
		loop_timer_cancel(&user->timeout);
		return;
	}
	/* One that fires early does no harm; moving it each time would cost more. */
	deadline = loop_now_ns(user->be.loop) + timeout_ms * NS_PER_MS;
	if (!loop_timer_armed(&user->timeout) || user->timeout.deadline_ns > deadline)
		loop_timer_at(user->be.loop, &user->timeout, deadline, timed_out);
}

static void run_slirp(struct loop_work *w)
{
	struct net_user *user = container_of(w, struct net_user, run);

	user->api.poll(user->slirp, 0, get_revents, user);
	user->be.sink->rx_end(user->be.sink_ctx);
	watch(user);
}

static s64 clock_ns(void *opaque)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (s64)ts.tv_sec * (s64)NS_PER_S + ts.tv_nsec;
}

static void timer_fired(struct loop_timer *t)
{
	struct user_timer *ut = container_of(t, struct user_timer, timer);

	ut->expire_ms = -1;
	ut->fn(ut->opaque);
	loop_post(ut->user->be.loop, &ut->user->run);
}

static void timer_arm(struct user_timer *ut)
{
	s64 delay = ut->expire_ms * (s64)NS_PER_MS - clock_ns(NULL);

	loop_timer_after(ut->user->be.loop, &ut->timer, delay > 0 ? (u64)delay : 0, timer_fired);
}

static void *timer_new(SlirpTimerCb fn, void *cb_opaque, void *opaque)
{
	struct net_user *user = opaque;
	struct user_timer *ut = calloc(1, sizeof(*ut));

	if (!ut)
		abort(); /* slirp cannot be told */
	*ut = (struct user_timer){ .user = user, .fn = fn, .opaque = cb_opaque, .expire_ms = -1 };
	list_add_tail(&user->timers, &ut->node);
	return ut;
}

static void timer_free(void *timer, void *opaque)
{
	struct user_timer *ut = timer;

	loop_timer_cancel(&ut->timer);
	list_del(&ut->node);
	free(ut);
}

static void timer_mod(void *timer, s64 expire_ms, void *opaque)
{
	struct user_timer *ut = timer;

	ut->expire_ms = expire_ms;
	if (ut->user->be.loop)
		timer_arm(ut);
}

static void notify(void *opaque)
{
	struct net_user *user = opaque;

	if (user->be.loop)
		loop_post(user->be.loop, &user->run);
}

static void guest_error(const char *msg, void *opaque)
{
	log_limited(LOG_WARNING, "User network: %s.", msg);
}

static const SlirpCb callbacks = {
	.send_packet = send_packet,
	.guest_error = guest_error,
	.clock_get_ns = clock_ns,
	.timer_new = timer_new,
	.timer_free = timer_free,
	.timer_mod = timer_mod,
	.register_poll_fd = register_fd,
	.unregister_poll_fd = unregister_fd,
	.notify = notify,
};

/* ---- life ---- */

static int user_start(struct net_backend *be)
{
	struct net_user *user = user_of(be);
	struct list *pos;

	list_for_each(pos, &user->timers) {
		struct user_timer *ut = list_entry(pos, struct user_timer, node);

		if (ut->expire_ms >= 0)
			timer_arm(ut);
	}
	watch(user);
	return 0;
}

static void user_stop(struct net_backend *be)
{
	struct net_user *user = user_of(be);
	struct list *pos;

	while (!list_empty(&user->watched))
		fd_unwatch(list_entry(user->watched.next, struct user_fd, node));
	list_for_each(pos, &user->timers)
		loop_timer_cancel(&list_entry(pos, struct user_timer, node)->timer);
	loop_timer_cancel(&user->timeout);
	loop_work_cancel(be->loop, &user->run);
	be->loop = NULL;
}

static void user_destroy(struct net_backend *be)
{
	struct net_user *user = user_of(be);

	if (user->slirp)
		user->api.cleanup(user->slirp);
	while (!list_empty(&user->timers))
		timer_free(list_entry(user->timers.next, struct user_timer, node), user);
	for (int i = 0; i < user->fds_count; i++)
		free(user->fds[i]);
	free(user->fds);
	free(user);
}

static void user_set_rx(struct net_backend *be, const struct net_rx_caps *caps)
{
	user_of(be)->caps = *caps;
}

static const struct net_backend_ops user_ops = {
	.name = "user",
	.start = user_start,
	.stop = user_stop,
	.destroy = user_destroy,
	.tx = user_tx,
	.tx_end = user_tx_end,
	.set_rx = user_set_rx,
};

/* The library stays loaded: GLib cannot be unloaded. */
static int load_slirp(struct slirp_api *api, char *error, size_t error_bytes)
{
	void *lib = dlopen("libslirp.so.0", RTLD_NOW | RTLD_LOCAL);

	if (!lib) {
		snprintf(error, error_bytes, "user networking needs libslirp: %s", dlerror());
		return -ENOENT;
	}
	for (size_t i = 0; i < ARRAY_SIZE(slirp_symbols); i++) {
		void *symbol = dlsym(lib, slirp_symbols[i].name);

		if (!symbol) {
			snprintf(error, error_bytes, "libslirp has no %s", slirp_symbols[i].name);
			dlclose(lib);
			return -ENOENT;
		}
		memcpy((char *)api + slirp_symbols[i].offset, &symbol, sizeof(symbol));
	}
	return 0;
}

static void fill_config(SlirpConfig *cfg, const struct net_spec *spec)
{
	*cfg = (SlirpConfig){
		.version = 1,
		.restricted = spec->restricted,
		.in_enabled = true,
		.vnetwork = spec->net,
		.vnetmask = spec->mask,
		.vhost.s_addr = spec->net.s_addr | htonl(2),
		.vnameserver.s_addr = spec->net.s_addr | htonl(3),
		.vdhcp_start.s_addr = spec->net.s_addr | htonl(15),
		.in6_enabled = true,
		.vprefix_len = 64,
		.if_mtu = SLIRP_MTU,
		.if_mru = SLIRP_MTU,
	};
	inet_pton(AF_INET6, "fec0::", &cfg->vprefix_addr6);
	inet_pton(AF_INET6, "fec0::2", &cfg->vhost6);
	inet_pton(AF_INET6, "fec0::3", &cfg->vnameserver6);
}

static int forward_ports(struct net_user *user, const struct net_spec *spec, char *error,
			 size_t error_bytes)
{
	for (u32 i = 0; i < spec->hostfwd_count; i++) {
		const struct net_hostfwd *fwd = &spec->hostfwd[i];

		if (user->api.hostfwd(user->slirp, fwd->udp, fwd->host, fwd->host_port, fwd->guest,
				      fwd->guest_port) == 0)
			continue;
		snprintf(error, error_bytes, "forwarding %s port %u: %s", fwd->udp ? "UDP" : "TCP",
			 fwd->host_port, strerror(errno));
		return errno ? -errno : -EINVAL;
	}
	return 0;
}

int net_user_create(const struct net_spec *spec, struct net_backend **out, char *error,
		    size_t error_bytes)
{
	struct net_user *user = calloc(1, sizeof(*user));
	SlirpConfig cfg;
	int ret;

	if (!user)
		return -ENOMEM;
	user->be = (struct net_backend){
		.ops = &user_ops,
		.link_up = true,
		.mtu = 1500,
		.speed_bits = 10000000000ull,
	};
	user->caps.mtu = user->be.mtu;
	list_init(&user->watched);
	list_init(&user->timers);
	loop_work_init(&user->run, run_slirp);
	ret = load_slirp(&user->api, error, error_bytes);
	if (ret)
		goto destroy;
	fill_config(&cfg, spec);
	user->slirp = user->api.create(&cfg, &callbacks, user);
	ret = -ENOMEM;
	if (!user->slirp)
		goto destroy;
	ret = forward_ports(user, spec, error, error_bytes);
	if (ret)
		goto destroy;
	*out = &user->be;
	return 0;

destroy:
	user_destroy(&user->be);
	return ret;
}
