/* SPDX-License-Identifier: MIT */
/*
 * The synthetic interrupt controller of one VP: sixteen SINTs, the message page
 * and the event-flag page. TLFS: inter-partition-communication.
 */
#ifndef NESTOR_CORE_SYNIC_H
#define NESTOR_CORE_SYNIC_H

#include <pthread.h>

#include "base/list.h"
#include "core/overlay.h"
#include "hvdef/status.h"
#include "hvdef/synic.h"

struct vp;

/*
 * A message on its way to a slot. The owner (a port, a timer) provides the
 * storage; it gets it back through done(), under the SynIC's lock, once the
 * message is in the guest's page or was dropped by a reset.
 */
struct message {
	struct list link;
	bool queued; /* guarded by the SynIC's lock */
	struct hv_message m;
	/* Just before the bytes become visible; may be NULL. Under the SynIC's lock. */
	void (*deliver)(struct message *msg);
	void (*done)(struct message *msg, bool delivered);
};

struct synic {
	struct vp *vp;
	pthread_mutex_t lock; /* guards everything below */
	u64 scontrol, simp, siefp, sirbp;
	u64 sint[HV_SYNIC_SINT_COUNT];
	struct overlay simp_page, siefp_page, sirbp_page;
	struct list queue[HV_SYNIC_SINT_COUNT]; /* struct message, in order */
	struct synic_ring {
		u32 head;
		struct message notice; /* that the ring is not empty */
	} ring[HV_SYNIC_SINT_COUNT];
	/* Atomic: SINTs of a child whose parent wants to be told when they can take a message. */
	u16 notify;
};

int synic_init(struct synic *s, struct vp *vp);
void synic_fini(struct synic *s);
/* Registers to their reset values, pages removed, queued messages dropped. */
void synic_reset(struct synic *s);

/*
 * Queues @msg for SINT @sint and delivers what can be delivered. Any thread.
 * HV_STATUS_INVALID_SYNIC_STATE: the SynIC or its message page is disabled
 * (@msg stays the caller's; done() is not called).
 * HV_STATUS_OBJECT_IN_USE: @msg is still queued from an earlier post.
 * HV_STATUS_INVALID_PARAMETER: there is no such SINT.
 */
enum hv_status synic_post(struct synic *s, u32 sint, struct message *msg);
/* Takes back a message that waits. Its owner gets it at once, done() is not called. False: it
 * did not wait. */
bool synic_cancel(struct synic *s, struct message *msg);
/* Messages that wait because their slot, or the SynIC, does not take them. */
u32 synic_waiting(struct synic *s);
/* A message for @sint would be delivered and its interrupt raised. */
bool synic_listens(struct synic *s, u32 sint);
/*
 * Sets an event flag; raises the SINT if the flag was clear. Any thread.
 * HV_STATUS_INVALID_SYNIC_STATE as above, for the event-flag page; also, with
 * the flag set, when the SINT is masked (TLFS: Event Flag Delivery).
 * HV_STATUS_INVALID_PARAMETER: there is no such SINT or flag.
 */
enum hv_status synic_signal(struct synic *s, u32 sint, u32 flag);

/* The same, and whether the flag was clear. */
enum hv_status synic_signal_new(struct synic *s, u32 sint, u32 flag, bool *newly);
/*
 * Writes @m into the slot of SINT @sint, now. HV_STATUS_OBJECT_IN_USE: the slot is
 * not free, or others wait for it; else as synic_post().
 */
enum hv_status synic_post_now(struct synic *s, u32 sint, const struct hv_message *m);

/*
 * Puts @port (not 0) into the event ring of SINT @sint and tells the partition: by
 * a message on SINT 0 where the SINT is marked as an intercept, else by its vector.
 * HV_STATUS_INVALID_SYNIC_STATE: there is no page, or nobody would be told;
 * HV_STATUS_INSUFFICIENT_BUFFERS: full, the partition will say when it no longer is.
 */
enum hv_status synic_ring(struct synic *s, u32 sint, u32 port);
/* A new kernel reads the rings from their start. */
void synic_rings_restart(struct synic *s);

/* Bits of SINTs to be told about; replaces those asked for before. */
void synic_notify(struct synic *s, u16 sints);
static inline bool synic_notify_wanted(const struct synic *s)
{
	return __atomic_load_n(&s->notify, __ATOMIC_ACQUIRE) != 0;
}
/* Those asked for that can take a message now; they are not asked for any more. */
u16 synic_take_deliverable(struct synic *s);

/* Contents of the message page or of the event-flag page, wherever they are now. */
enum synic_page { SYNIC_SIM, SYNIC_SIEF };
void synic_page_get(struct synic *s, enum synic_page page, u8 out[PAGE_BYTES]);
void synic_page_set(struct synic *s, enum synic_page page, const u8 in[PAGE_BYTES]);

#endif
