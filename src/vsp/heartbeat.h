/* SPDX-License-Identifier: MIT */
/*
 * Heartbeat: a sequence number every two seconds, which a live guest returns.
 * Source: Linux drivers/hv/hv_util.c heartbeat_onchannelcallback.
 */
#ifndef NESTOR_VSP_HEARTBEAT_H
#define NESTOR_VSP_HEARTBEAT_H

#include "vmbus/server.h"

struct heartbeat;

enum heartbeat_state {
	HEARTBEAT_NONE, /* the guest has no driver running */
	HEARTBEAT_OK,
	HEARTBEAT_LOST, /* it had, and has missed HEARTBEAT_MISSES beats */
};
#define HEARTBEAT_PERIOD_NS (2 * NS_PER_S)
#define HEARTBEAT_MISSES    5u

struct heartbeat_config {
	/* Optional; on the server's loop, at each change. */
	void (*changed)(void *ctx, enum heartbeat_state state);
	void *ctx;
};

/* 0 or as vmbus_offer(). The server owns it and frees it with the device. */
int heartbeat_offer(struct vmbus_server *srv, const struct heartbeat_config *cfg,
		    struct heartbeat **out);
/* [any] while the server lives. */
enum heartbeat_state heartbeat_get(struct heartbeat *hb);

#endif
