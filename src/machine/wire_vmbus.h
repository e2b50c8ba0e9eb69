/* SPDX-License-Identifier: MIT */
/*
 * Joins a VMBus server to a partition: the server's messages and signals become
 * SynIC messages and event flags, the guest's POST_MESSAGE and SIGNAL_EVENT go to
 * the server. The partition is a guest, an L1VH, or L0's side of a nested root.
 */
#ifndef NESTOR_MACHINE_WIRE_VMBUS_H
#define NESTOR_MACHINE_WIRE_VMBUS_H

#include "core/partition.h"
#include "vmbus/server.h"

struct wire_vmbus;

/* Starts the control plane's thread. -errno. */
int wire_vmbus_create(struct partition *p, struct wire_vmbus **out);
/* VPs are stopped; before partition_destroy(). NULL is fine. */
void wire_vmbus_destroy(struct wire_vmbus *w);

struct vmbus_server *wire_vmbus_server(struct wire_vmbus *w);

#endif
