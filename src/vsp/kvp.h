/* SPDX-License-Identifier: MIT */
/*
 * Key-value pairs: the host reads and writes the guest's pools through
 * hv_kvp_daemon. Requests queue; each ends in one call of its `done`, on the
 * server's loop. Source: Linux drivers/hv/hv_kvp.c, tools/hv/hv_kvp_daemon.c.
 */
#ifndef NESTOR_VSP_KVP_H
#define NESTOR_VSP_KVP_H

#include "hvdef/ic.h"
#include "vmbus/server.h"

struct kvp;

struct kvp_item {
	char key[IC_KVP_KEY_MAX / 2 * 3];
	u32 type;			      /* enum ic_kvp_value_type */
	char value[IC_KVP_VALUE_MAX / 2 * 3]; /* numbers in decimal */
};

/*
 * @err: 0; -ENOENT: no such key or index; -EIO: the guest failed; -ETIMEDOUT;
 * -ENOTCONN: the guest is gone. @item is set with 0 of get and enumerate, and
 * valid until the call returns.
 */
typedef void (*kvp_done_fn)(void *ctx, int err, const struct kvp_item *item);

/* 0 or as vmbus_offer(). The server owns it and frees it with the device. */
int kvp_offer(struct vmbus_server *srv, struct kvp **out);

/*
 * [any] All return 0 (then @done is called later), -ENOTCONN: no daemon runs in
 * the guest; -EINVAL: key or value is not UTF-8, pool unknown or read only;
 * -ENAMETOOLONG: too long for the wire; -EBUSY: too many wait; -ENOMEM.
 * Pool IC_KVP_POOL_AUTO is what the guest tells about itself, read only.
 */
int kvp_get(struct kvp *kvp, enum ic_kvp_pool pool, const char *key, kvp_done_fn done, void *ctx);
int kvp_set(struct kvp *kvp, enum ic_kvp_pool pool, const char *key, const char *value,
	    kvp_done_fn done, void *ctx);
int kvp_delete(struct kvp *kvp, enum ic_kvp_pool pool, const char *key, kvp_done_fn done,
	       void *ctx);
/* The item at @index; -ENOENT after the last. To list a pool, go on from `done`. */
int kvp_enumerate(struct kvp *kvp, enum ic_kvp_pool pool, u32 index, kvp_done_fn done, void *ctx);
bool kvp_ready(struct kvp *kvp); /* [any] */

#endif
