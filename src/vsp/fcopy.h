/* SPDX-License-Identifier: MIT */
/*
 * Guest file copy: writes a host file into the guest, through hv_fcopy_uio_daemon
 * (or the older hv_fcopy_daemon). Source: Linux tools/hv/hv_fcopy_uio_daemon.c.
 */
#ifndef NESTOR_VSP_FCOPY_H
#define NESTOR_VSP_FCOPY_H

#include "vmbus/server.h"

struct fcopy;

/*
 * On the server's loop. 0; -EEXIST: it is there and may not be overwritten;
 * -ENOSPC: guest's disk is full; -EIO: guest or host file failed; -ETIMEDOUT;
 * -ENOTCONN: the guest is gone.
 */
typedef void (*fcopy_done_fn)(void *ctx, int err);

/* 0 or as vmbus_offer(). The server owns it and frees it with the device. */
int fcopy_offer(struct vmbus_server *srv, struct fcopy **out);
/*
 * [any] Copies all of @fd (a regular file, closed when done, also on error) to
 * file @name in directory @dir. 0: @done comes; -ENOTCONN: no daemon;
 * -EBUSY: one copy at a time; -EINVAL, -ENAMETOOLONG: names; or of fstat().
 */
int fcopy_send(struct fcopy *fc, int fd, const char *dir, const char *name, bool overwrite,
	       bool create_dir, fcopy_done_fn done, void *ctx);

#endif
