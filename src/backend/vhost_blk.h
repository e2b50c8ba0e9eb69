/* SPDX-License-Identifier: MIT */
/* A disk image served over vhost-user by a qemu-storage-daemon of our own. */
#ifndef NESTOR_BACKEND_VHOST_BLK_H
#define NESTOR_BACKEND_VHOST_BLK_H

#include "backend/block.h"
#include "backend/helper.h"
#include "backend/vhost_user.h"

/*
 * Starts the daemon for @spec with @queues queues and greets it; both are the
 * caller's: vhost_user_destroy(), then helper_stop(), which waits until the image is
 * written out. -errno with one line in @error.
 */
int vhost_blk_open(const struct block_spec *spec, u32 queues, struct vhost_user **vu,
		   struct helper **daemon, char *error, size_t error_bytes);

#endif
