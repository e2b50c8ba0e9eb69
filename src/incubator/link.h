/* SPDX-License-Identifier: MIT */
/* Frames over a non-blocking file descriptor, buffered in both directions. */
#ifndef NESTOR_INCUBATOR_LINK_H
#define NESTOR_INCUBATOR_LINK_H

#include "incubator/wire.h"

struct link {
	int fd;
	u8 *tx;
	size_t tx_len, tx_cap;
	u8 *rx;
	size_t rx_len, rx_off;
};

/* Takes over @fd and makes it non-blocking. 0 or -ENOMEM. */
int link_init(struct link *l, int fd);
void link_fini(struct link *l);

/* Queues a frame and tries to send. 0, or a negative errno when the peer is gone. */
int link_send(struct link *l, u16 session, u8 type, u8 stream, const void *data, size_t len);

/* Sends what is queued, as far as it goes without waiting. */
int link_flush(struct link *l);

static inline bool link_pending(const struct link *l)
{
	return l->tx_len > 0;
}

/* Reads what is there. 0, -EPIPE at the end, another negative errno. */
int link_fill(struct link *l);

/* The next whole frame, valid until the next call of link_fill(); NULL if none. */
struct wire_frame *link_next(struct link *l, int *error);

#endif
