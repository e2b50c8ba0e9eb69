/* SPDX-License-Identifier: MIT */
/*
 * The event ring of a SINT, in the page that SIRBP names: numbers of ports that
 * rang, written here and zeroed by the partition as it reads them. Both sides
 * count on their own, from 0 and round the ring, so our position never jumps.
 */
#ifndef NESTOR_CORE_EVENT_RING_H
#define NESTOR_CORE_EVENT_RING_H

#include "hvdef/synic.h"

enum event_ring_result {
	EVENT_RING_QUIET,  /* stored; the reader is at work or has been told */
	EVENT_RING_SIGNAL, /* stored; the reader has to be told, and the ring says that it is */
	EVENT_RING_FULL,   /* not stored; the reader will say when it has emptied the ring */
};

/* @head: the next slot, below HV_EVENT_RING_SLOTS. One writer at a time. @port is not 0. */
enum event_ring_result event_ring_put(struct hv_event_ring *ring, u32 *head, u32 port);
/* The reader could not be told after all: the next port tries again. */
void event_ring_untold(struct hv_event_ring *ring);
/* Takes back what the reader has not read; nothing is masked or full afterwards. */
void event_ring_clear(struct hv_event_ring *ring, u32 *head);

#endif
