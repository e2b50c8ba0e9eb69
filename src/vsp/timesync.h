/* SPDX-License-Identifier: MIT */
/*
 * Time synchronisation: host time with the reference time it was read at. One
 * SYNC (Linux steps its clock) at start and on demand, then a SAMPLE every five
 * seconds, which feeds /dev/ptp_hyperv. Source: Linux drivers/hv/hv_util.c.
 */
#ifndef NESTOR_VSP_TIMESYNC_H
#define NESTOR_VSP_TIMESYNC_H

#include "vmbus/server.h"

struct timesync;

#define TIMESYNC_PERIOD_NS (5 * NS_PER_S)

struct timesync_config {
	/* Host time, ns since 1970 UTC; NULL: CLOCK_REALTIME. */
	u64 (*realtime_ns)(void *ctx);
	void *ctx;
};

/* 0 or as vmbus_offer(). The server owns it and frees it with the device. */
int timesync_offer(struct vmbus_server *srv, const struct timesync_config *cfg,
		   struct timesync **out);
/* [any] The guest was paused or restored: step its clock. -ENOTCONN: no driver runs. */
int timesync_step(struct timesync *ts);

#endif
