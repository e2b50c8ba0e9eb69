/* SPDX-License-Identifier: MIT */
/*
 * Volume shadow copy: freezes the guest's file systems around something the host
 * does, and always thaws them again: after an error, when the host forgets, and
 * when the guest's driver comes back after it went away frozen. Source: Linux
 * drivers/hv/hv_snapshot.c, tools/hv/hv_vss_daemon.c.
 */
#ifndef NESTOR_VSP_VSS_H
#define NESTOR_VSP_VSS_H

#include "vmbus/server.h"

struct vss;

enum vss_state {
	VSS_NONE, /* no driver or daemon runs in the guest */
	VSS_READY,
	VSS_CHECKING, /* whether a hot backup is possible */
	VSS_FREEZING,
	VSS_FROZEN,
	VSS_THAWING,
};

/* On the server's loop. 0, or -EIO: refused by the guest; -ETIMEDOUT; -ENOTCONN: it is gone. */
typedef void (*vss_done_fn)(void *ctx, int err);

#define VSS_FREEZE_TIMEOUT_NS (60 * NS_PER_S)
#define VSS_THAW_RETRY_NS     (10 * NS_PER_S)

/* 0 or as vmbus_offer(). The server owns it and frees it with the device. */
int vss_offer(struct vmbus_server *srv, struct vss **out);

/*
 * [any] Freezes; @frozen(0) says that it is. If vss_thaw() has not been called
 * @hold_ns later (0: one minute) the guest is thawed all the same; the backup is
 * then worthless, which vss_thaw() reports as -ETIMEDOUT. After @frozen(error)
 * the guest is being thawed already. 0; -ENOTCONN; -EBUSY: not VSS_READY.
 */
int vss_freeze(struct vss *vss, u64 hold_ns, vss_done_fn frozen, void *ctx);
/* [any] 0: @thawed comes; -ETIMEDOUT: was thawed by timeout; -EINVAL: not frozen. */
int vss_thaw(struct vss *vss, vss_done_fn thawed, void *ctx);
enum vss_state vss_get(struct vss *vss); /* [any] */

#endif
