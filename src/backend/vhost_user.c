// SPDX-License-Identifier: MIT
/* "Vhost-user Protocol", as in QEMU's documentation (docs/interop/vhost-user.rst). */
#include "backend/vhost_user.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

/* A back end answers at once, but for the first word (it may just be starting) and a stop. */
#define TIMEOUT_SECONDS 60

enum request {
	GET_FEATURES = 1,
	SET_FEATURES = 2,
	SET_OWNER = 3,
	SET_MEM_TABLE = 5,
	SET_VRING_NUM = 8,
	SET_VRING_ADDR = 9,
	SET_VRING_BASE = 10,
	GET_VRING_BASE = 11,
	SET_VRING_KICK = 12,
	SET_VRING_CALL = 13,
	GET_PROTOCOL_FEATURES = 15,
	SET_PROTOCOL_FEATURES = 16,
	GET_QUEUE_NUM = 17,
	SET_VRING_ENABLE = 18,
	GET_CONFIG = 24,
};

#define FEATURE_PROTOCOL   BIT64(30)
#define PROTOCOL_MQ	   BIT64(0)
#define PROTOCOL_REPLY_ACK BIT64(3)
#define PROTOCOL_CONFIG	   BIT64(9)
#define PROTOCOL_WANTED	   (PROTOCOL_MQ | PROTOCOL_REPLY_ACK | PROTOCOL_CONFIG)

#define FLAGS_VERSION 1u
#define FLAG_REPLY    BIT(2)
#define FLAG_ANSWER   BIT(3) /* a plain acknowledgement is wanted */
#define VRING_NO_FD   BIT64(8)

struct header {
	u32 request, flags, bytes;
};

struct vring_state {
	u32 index, value;
};

struct vring_addr {
	u32 index, flags;
	u64 desc, used, avail, log;
};

struct memory_region {
	u64 gpa, bytes, user_address, mmap_offset;
};

struct memory_table {
	u32 count, padding;
	struct memory_region region[VHOST_USER_REGIONS_MAX];
};
#define MEMORY_TABLE_BYTES(n) (8u + (n) * (u32)sizeof(struct memory_region))

struct config {
	u32 offset, bytes, flags;
	u8 data[VHOST_USER_CONFIG_MAX];
};
#define CONFIG_HEADER_BYTES 12u

struct vhost_user {
	int fd;
	u64 features, protocol;
	u32 queues;
	pthread_mutex_t lock; /* one request and its answer at a time; guards dead */
	bool dead;
};

/* All bytes, or the back end is dead. */
static int send_all(struct vhost_user *vu, struct msghdr *m, size_t bytes)
{
	ssize_t n;

	do {
		n = sendmsg(vu->fd, m, MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	/* Messages are far smaller than a socket's buffer: one that goes in part is stuck. */
	return n == (ssize_t)bytes ? 0 : -EPIPE;
}

static int send_locked(struct vhost_user *vu, u32 request, u32 flags, const void *body, u32 bytes,
		       const int *fds, u32 fd_count)
{
	struct header h = { request, FLAGS_VERSION | flags, bytes };
	struct iovec iov[2] = { { &h, sizeof(h) }, { (void *)body, bytes } };
	union {
		struct cmsghdr align;
		u8 bytes[CMSG_SPACE(VHOST_USER_REGIONS_MAX * sizeof(int))];
	} control;
	struct msghdr m = { .msg_iov = iov, .msg_iovlen = 2 };
	struct cmsghdr *c;

	if (fd_count) {
		memset(&control, 0, sizeof(control));
		m.msg_control = &control;
		m.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
		c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
		memcpy(CMSG_DATA(c), fds, fd_count * sizeof(int));
	}
	return send_all(vu, &m, sizeof(h) + bytes);
}

static int receive_all(struct vhost_user *vu, void *out, size_t bytes)
{
	u8 *p = out;

	while (bytes) {
		ssize_t n = recv(vu->fd, p, bytes, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -EPIPE;
		p += n;
		bytes -= (size_t)n;
	}
	return 0;
}

static int receive_locked(struct vhost_user *vu, u32 request, void *out, u32 bytes)
{
	struct header h;
	int ret = receive_all(vu, &h, sizeof(h));

	if (ret)
		return ret;
	if (h.request != request || !(h.flags & FLAG_REPLY) || h.bytes != bytes)
		return -EPROTO;
	return receive_all(vu, out, bytes);
}

/*
 * A request with @in_bytes of body, answered by @out_bytes; without an answer of its
 * own it is acknowledged, if the back end can do that: then it has taken effect.
 */
static int call_fds(struct vhost_user *vu, u32 request, const void *in, u32 in_bytes,
		    const int *fds, u32 fd_count, void *out, u32 out_bytes)
{
	bool answer = !out && vu->protocol & PROTOCOL_REPLY_ACK;
	u64 refused = 0;
	int ret = -EPIPE;

	pthread_mutex_lock(&vu->lock);
	if (!vu->dead) {
		ret = send_locked(vu, request, answer ? FLAG_ANSWER : 0, in, in_bytes, fds,
				  fd_count);
		if (!ret && out)
			ret = receive_locked(vu, request, out, out_bytes);
		else if (!ret && answer)
			ret = receive_locked(vu, request, &refused, sizeof(refused));
		vu->dead = ret < 0;
	}
	pthread_mutex_unlock(&vu->lock);
	return ret ? ret : refused ? -EIO : 0;
}

static int call(struct vhost_user *vu, u32 request, const void *in, u32 in_bytes, void *out,
		u32 out_bytes)
{
	return call_fds(vu, request, in, in_bytes, NULL, 0, out, out_bytes);
}

static int get_u64(struct vhost_user *vu, u32 request, u64 *out)
{
	return call(vu, request, NULL, 0, out, sizeof(*out));
}

static int set_u64(struct vhost_user *vu, u32 request, u64 value)
{
	return call(vu, request, &value, sizeof(value), NULL, 0);
}

static int set_vring(struct vhost_user *vu, u32 request, u32 index, u32 value)
{
	const struct vring_state s = { index, value };

	return call(vu, request, &s, sizeof(s), NULL, 0);
}

static int set_vring_fd(struct vhost_user *vu, u32 request, u32 index, int fd)
{
	u64 value = index | (fd < 0 ? VRING_NO_FD : 0);

	return call_fds(vu, request, &value, sizeof(value), &fd, fd >= 0, NULL, 0);
}

static int greet(struct vhost_user *vu)
{
	u64 protocol, queues = 1;
	int ret = get_u64(vu, GET_FEATURES, &vu->features);

	if (!ret && !(vu->features & FEATURE_PROTOCOL))
		ret = -EPROTO;
	if (!ret)
		ret = get_u64(vu, GET_PROTOCOL_FEATURES, &protocol);
	if (!ret && !(protocol & PROTOCOL_CONFIG))
		ret = -EPROTO;
	if (!ret)
		ret = set_u64(vu, SET_PROTOCOL_FEATURES, protocol & PROTOCOL_WANTED);
	if (ret)
		return ret;
	vu->protocol = protocol & PROTOCOL_WANTED;
	ret = call(vu, SET_OWNER, NULL, 0, NULL, 0);
	if (!ret && vu->protocol & PROTOCOL_MQ)
		ret = get_u64(vu, GET_QUEUE_NUM, &queues);
	vu->queues = (u32)min_u64(queues, UINT16_MAX);
	return ret;
}

int vhost_user_create(int fd, struct vhost_user **out)
{
	const struct timeval limit = { .tv_sec = TIMEOUT_SECONDS };
	struct vhost_user *vu = calloc(1, sizeof(*vu));
	int ret;

	if (!vu) {
		close(fd);
		return -ENOMEM;
	}
	vu->fd = fd;
	pthread_mutex_init(&vu->lock, NULL);
	ret = setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0 ||
			      setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0
		      ? -errno
		      : greet(vu);
	if (ret) {
		vhost_user_destroy(vu);
		return ret;
	}
	*out = vu;
	return 0;
}

void vhost_user_destroy(struct vhost_user *vu)
{
	if (!vu)
		return;
	close(vu->fd);
	pthread_mutex_destroy(&vu->lock);
	free(vu);
}

int vhost_user_fd(const struct vhost_user *vu)
{
	return vu->fd;
}

u64 vhost_user_features(const struct vhost_user *vu)
{
	return vu->features & ~FEATURE_PROTOCOL;
}

u32 vhost_user_queues(const struct vhost_user *vu)
{
	return vu->queues;
}

int vhost_user_config(struct vhost_user *vu, void *out, u32 bytes)
{
	struct config c = { .bytes = bytes };
	int ret;

	if (bytes > sizeof(c.data))
		return -EINVAL;
	ret = call(vu, GET_CONFIG, &c, CONFIG_HEADER_BYTES + bytes, &c,
		   CONFIG_HEADER_BYTES + bytes);
	if (!ret)
		memcpy(out, c.data, bytes);
	return ret;
}

static int set_memory(struct vhost_user *vu, const struct vhost_user_region *regions, u32 count)
{
	struct memory_table t = { .count = count };
	int fds[VHOST_USER_REGIONS_MAX];

	if (count > VHOST_USER_REGIONS_MAX)
		return -E2BIG;
	for (u32 i = 0; i < count; i++) {
		const struct vhost_user_region *r = &regions[i];

		t.region[i] = (struct memory_region){ r->gpa, r->bytes, (u64)(uintptr_t)r->hva,
						      r->offset };
		fds[i] = r->fd;
	}
	return call_fds(vu, SET_MEM_TABLE, &t, MEMORY_TABLE_BYTES(count), fds, count, NULL, 0);
}

static int start_ring(struct vhost_user *vu, const struct vhost_user_ring *r)
{
	const struct vring_addr a = { r->index,
				      0,
				      (u64)(uintptr_t)r->desc,
				      (u64)(uintptr_t)r->device,
				      (u64)(uintptr_t)r->driver,
				      0 };
	int ret;

	if ((ret = set_vring(vu, SET_VRING_NUM, r->index, r->size)) ||
	    (ret = set_vring(vu, SET_VRING_BASE, r->index, r->next)) ||
	    (ret = call(vu, SET_VRING_ADDR, &a, sizeof(a), NULL, 0)) ||
	    (ret = set_vring_fd(vu, SET_VRING_CALL, r->index, r->call)) ||
	    (ret = set_vring_fd(vu, SET_VRING_KICK, r->index, r->kick)))
		return ret;
	return set_vring(vu, SET_VRING_ENABLE, r->index, 1);
}

int vhost_user_start(struct vhost_user *vu, u64 features, const struct vhost_user_region *regions,
		     u32 region_count, const struct vhost_user_ring *rings, u32 ring_count)
{
	int ret = set_u64(vu, SET_FEATURES, features | FEATURE_PROTOCOL);

	if (!ret)
		ret = set_memory(vu, regions, region_count);
	for (u32 i = 0; !ret && i < ring_count; i++)
		ret = start_ring(vu, &rings[i]);
	return ret;
}

int vhost_user_stop(struct vhost_user *vu, struct vhost_user_ring *rings, u32 ring_count)
{
	struct vring_state s;
	int ret = 0;

	for (u32 i = 0; !ret && i < ring_count; i++) {
		s = (struct vring_state){ rings[i].index, 0 };
		/* The answer comes when the queue is at rest. */
		ret = call(vu, GET_VRING_BASE, &s, sizeof(s), &s, sizeof(s));
		if (!ret)
			rings[i].next = (u16)s.value;
	}
	return ret;
}

int vhost_user_set_call(struct vhost_user *vu, u32 index, int fd)
{
	return set_vring_fd(vu, SET_VRING_CALL, index, fd);
}
