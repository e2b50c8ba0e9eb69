/* SPDX-License-Identifier: MIT */
/*
 * The front end of the vhost-user protocol: another process does the data path of a
 * virtio device. It gets the guest's memory and the queues' eventfds once, and works
 * without us. Requests are answered in turn; a back end that is silent for too long,
 * goes away or answers nonsense is dead, and every call says -EPIPE from then on.
 */
#ifndef NESTOR_BACKEND_VHOST_USER_H
#define NESTOR_BACKEND_VHOST_USER_H

#include "base/types.h"

#define VHOST_USER_REGIONS_MAX 8u
#define VHOST_USER_CONFIG_MAX  256u

/* Shared memory of the guest. */
struct vhost_user_region {
	u64 gpa, bytes;
	void *hva; /* in this process: what ring addresses count from */
	int fd;
	u64 offset; /* of the region in @fd */
};

struct vhost_user_ring {
	u32 index;
	u16 size, next; /* next: filled by vhost_user_stop() */
	const void *desc, *driver, *device;
	int kick, call; /* call: -1 for none */
};

struct vhost_user;

/* Greets the back end at the other end of @fd, which becomes its. -EPROTO, -EPIPE, -errno. */
int vhost_user_create(int fd, struct vhost_user **out);
void vhost_user_destroy(struct vhost_user *vu);

int vhost_user_fd(const struct vhost_user *vu);	      /* to be watched for its end */
u64 vhost_user_features(const struct vhost_user *vu); /* virtio's; the protocol's own bit is not */
u32 vhost_user_queues(const struct vhost_user *vu);   /* the most it takes */

/* [any thread] 0 or -errno, all of them. */
/* The first @bytes bytes of the device's configuration. */
int vhost_user_config(struct vhost_user *vu, void *out, u32 bytes);
int vhost_user_start(struct vhost_user *vu, u64 features, const struct vhost_user_region *regions,
		     u32 region_count, const struct vhost_user_ring *rings, u32 ring_count);
/* Nothing is in flight when it returns, or the back end is dead. */
int vhost_user_stop(struct vhost_user *vu, struct vhost_user_ring *rings, u32 ring_count);
int vhost_user_set_call(struct vhost_user *vu, u32 index, int call);

#endif
