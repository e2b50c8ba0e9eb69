/* SPDX-License-Identifier: MIT */
/*
 * Ports of a parent that its children ring. A doorbell: a write of a child to an
 * address puts the number of a port into the parent's event ring, and nobody is
 * asked. TLFS: inter-partition-communication.
 */
#ifndef NESTOR_CORE_CHILD_PORT_H
#define NESTOR_CORE_CHILD_PORT_H

#include "core/child.h"
#include "hvdef/port.h"

struct child_ports;

/*
 * No doorbell of @p rings any more, and none can be connected: @p is not
 * CHILD_ACTIVE. Before its VM goes. No lock held that the SynIC of a parent's VP
 * comes before.
 */
void child_ports_forget(struct partition *p);
/* All ports of @parent are gone; its children's too. NULL is fine. */
void child_ports_destroy(struct child_ports *ports);

/* Ports of @p's parent that were made for @p, and how many of them it can ring. Any thread. */
u32 child_ports_count(const struct partition *p, u32 *connected);

/* HvX64RegisterDeliverabilityNotifications: what the parent wants to be told, once. */
#define HV_DELIVERABILITY_SINT_SHIFT 48
u64 child_deliverability_get(struct vp *vp);
/* HV_STATUS_INVALID_PARAMETER: something else than SINTs. Parks the VP. */
enum hv_status child_deliverability_set(struct vp *vp, u64 value);

#endif
