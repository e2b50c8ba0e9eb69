/* SPDX-License-Identifier: MIT */
/*
 * Doorbells: SIGNAL_EVENT without a way through this process. The code that
 * callers find in the hypercall page knows the one form of the call that Linux makes all the
 * time (64-bit, fast, event flag 0) and writes the connection to a port. Where an eventfd
 * stands behind that value the host's kernel signals it, and that was the call; else
 * the write comes here and the caller is sent on to the ordinary trap. What such calls do is
 * the same, and they are counted, but late: when somebody has looked at the eventfd. So
 * there are none while a trace is written, or while calls fail on purpose.
 */
#ifndef NESTOR_CORE_DOORBELL_H
#define NESTOR_CORE_DOORBELL_H

#include "core/vp.h"

/* How the call names who is to serve it. */
enum doorbell_way {
	DOORBELL_PLAIN,
	DOORBELL_NESTED, /* bit 31 of the control word: L0 */
	DOORBELL_WAYS,
};

/* Ports, by way; no device has them. */
#define DOORBELL_PORT 0x7A

/* Writes what follows ENDBR64 in the page, the trap included; position independent. */
void doorbell_code_put(u8 *page);

/* Calls of this partition may take that way. */
bool doorbell_wanted(const struct partition *p);

/*
 * From now on a signal of connection @id of @p writes to one of @fd, by the way it took.
 * A nested root's connection to L0 can be reached in both. Where the engine has no
 * room, calls take the long way. The fds stay the caller's, until doorbell_remove().
 */
void doorbell_add(struct partition *p, u32 id, const int fd[DOORBELL_WAYS]);
void doorbell_remove(struct partition *p, u32 id, const int fd[DOORBELL_WAYS]);
/* @n calls came so. Any thread. */
void doorbell_rang(struct partition *p, enum doorbell_way way, u64 n);

/* A write to a port that was nobody's. True: it was the page's code, and goes on with the trap. */
bool doorbell_exit(struct vp *vp, const struct engine_exit *exit);

#endif
