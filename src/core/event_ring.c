// SPDX-License-Identifier: MIT
/*
 * Each side writes its word and then looks at the other's, so one of them always
 * sees that there is something left to do. The page is the guest's: whatever
 * stands in it costs no more than a lost or a needless notification.
 */
#include "core/event_ring.h"

/* Pairs with the reader's zeroing of the slot, which comes before its look at ring_full. */
static bool slot_taken(const u32 *slot)
{
	return __atomic_load_n(slot, __ATOMIC_SEQ_CST) != 0;
}

enum event_ring_result event_ring_put(struct hv_event_ring *ring, u32 *head, u32 port)
{
	u32 *slot = &ring->port[*head];

	if (slot_taken(slot)) {
		__atomic_store_n(&ring->ring_full, 1, __ATOMIC_SEQ_CST);
		if (slot_taken(slot))
			return EVENT_RING_FULL;
		/* It has just been read. That the reader asks for more once is harmless. */
	}
	__atomic_store_n(slot, port, __ATOMIC_SEQ_CST);
	*head = (*head + 1) % HV_EVENT_RING_SLOTS;
	/* Pairs with the reader's clearing of signal_masked before its last look at the slot. */
	return __atomic_exchange_n(&ring->signal_masked, 1, __ATOMIC_SEQ_CST) ? EVENT_RING_QUIET
									      : EVENT_RING_SIGNAL;
}

void event_ring_untold(struct hv_event_ring *ring)
{
	__atomic_store_n(&ring->signal_masked, 0, __ATOMIC_SEQ_CST);
}

void event_ring_clear(struct hv_event_ring *ring, u32 *head)
{
	for (u32 i = 0; i < HV_EVENT_RING_SLOTS; i++) {
		u32 last = (*head + HV_EVENT_RING_SLOTS - 1) % HV_EVENT_RING_SLOTS;

		if (!__atomic_exchange_n(&ring->port[last], 0, __ATOMIC_SEQ_CST))
			break;
		*head = last;
	}
	__atomic_store_n(&ring->ring_full, 0, __ATOMIC_SEQ_CST);
	event_ring_untold(ring);
}
