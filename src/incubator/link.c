// SPDX-License-Identifier: MIT
/* Frames over a file descriptor. Used on both sides, so it needs nothing but libc. */
#include "incubator/link.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RX_BYTES (2 * (sizeof(struct wire_frame) + WIRE_MAX_PAYLOAD))

int link_init(struct link *l, int fd)
{
	*l = (struct link){ .fd = fd };
	l->rx = malloc(RX_BYTES);
	if (!l->rx)
		return -ENOMEM;
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	return 0;
}

void link_fini(struct link *l)
{
	if (l->fd >= 0)
		close(l->fd);
	free(l->rx);
	free(l->tx);
	*l = (struct link){ .fd = -1 };
}

int link_flush(struct link *l)
{
	size_t done = 0;
	int ret = 0;

	while (done < l->tx_len) {
		ssize_t n = write(l->fd, l->tx + done, l->tx_len - done);

		if (n > 0) {
			done += (size_t)n;
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN)
			ret = -errno;
		break;
	}
	memmove(l->tx, l->tx + done, l->tx_len - done);
	l->tx_len -= done;
	return ret;
}

int link_send(struct link *l, u16 session, u8 type, u8 stream, const void *data, size_t len)
{
	struct wire_frame head = { .session = session, .type = type, .stream = stream };
	size_t padded = align_up(len, sizeof(head));
	size_t need = l->tx_len + sizeof(head) + padded;

	assert(len <= WIRE_MAX_PAYLOAD);
	head.len = (u32)len;
	if (need > l->tx_cap) {
		size_t cap = need * 2;
		u8 *tx = realloc(l->tx, cap);

		if (!tx)
			return -ENOMEM;
		l->tx = tx;
		l->tx_cap = cap;
	}
	memcpy(l->tx + l->tx_len, &head, sizeof(head));
	memset(l->tx + l->tx_len + sizeof(head), 0, padded);
	if (len)
		memcpy(l->tx + l->tx_len + sizeof(head), data, len);
	l->tx_len = need;
	return link_flush(l);
}

int link_fill(struct link *l)
{
	ssize_t n;

	memmove(l->rx, l->rx + l->rx_off, l->rx_len - l->rx_off);
	l->rx_len -= l->rx_off;
	l->rx_off = 0;
	n = read(l->fd, l->rx + l->rx_len, RX_BYTES - l->rx_len);
	if (n > 0) {
		l->rx_len += (size_t)n;
		return 0;
	}
	if (n == 0)
		return -EPIPE;
	return errno == EAGAIN || errno == EINTR ? 0 : -errno;
}

struct wire_frame *link_next(struct link *l, int *error)
{
	size_t have = l->rx_len - l->rx_off;
	struct wire_frame *f;

	f = (struct wire_frame *)(void *)(l->rx + l->rx_off);
	if (have < sizeof(*f))
		return NULL;
	if (f->len > WIRE_MAX_PAYLOAD) {
		*error = -EPROTO;
		return NULL;
	}
	if (have < sizeof(*f) + align_up(f->len, sizeof(*f)))
		return NULL;
	l->rx_off += sizeof(*f) + align_up(f->len, sizeof(*f));
	return f;
}
