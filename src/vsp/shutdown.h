/* SPDX-License-Identifier: MIT */
/*
 * Shutdown: asks the guest to power off or reboot. The guest answers whether it
 * will; the action follows. Source: Linux drivers/hv/hv_util.c shutdown_onchannelcallback.
 */
#ifndef NESTOR_VSP_SHUTDOWN_H
#define NESTOR_VSP_SHUTDOWN_H

#include "vmbus/server.h"

struct shutdown_ic;

enum shutdown_state {
	SHUTDOWN_NONE, /* the guest has no driver running: it can not be asked */
	SHUTDOWN_READY,
	SHUTDOWN_ASKED,	   /* no answer yet */
	SHUTDOWN_ACCEPTED, /* the guest is on its way */
	SHUTDOWN_REFUSED,  /* it answered with an error */
	SHUTDOWN_TIMEOUT,  /* it did not answer */
};

enum shutdown_action { SHUTDOWN_POWEROFF, SHUTDOWN_REBOOT };

struct shutdown_config {
	/* Optional; on the server's loop, at each change. */
	void (*changed)(void *ctx, enum shutdown_state state);
	void *ctx;
};

/* 0 or as vmbus_offer(). The server owns it and frees it with the device. */
int shutdown_offer(struct vmbus_server *srv, const struct shutdown_config *cfg,
		   struct shutdown_ic **out);
/*
 * [any] Asks. @force: without orderly stop of services. If the guest has not
 * answered after @timeout_ns the state becomes SHUTDOWN_TIMEOUT (0: 30 s).
 * 0; -ENOTCONN: SHUTDOWN_NONE; -EBUSY: asked already.
 */
int shutdown_request(struct shutdown_ic *ic, enum shutdown_action action, bool force,
		     u64 timeout_ns);
enum shutdown_state shutdown_get(struct shutdown_ic *ic); /* [any] */

#endif
