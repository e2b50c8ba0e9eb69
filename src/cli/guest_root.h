/* SPDX-License-Identifier: MIT */
/* From --rootfs, --initrd and -- CMD to the archive the guest unpacks. */
#ifndef NESTOR_CLI_GUEST_ROOT_H
#define NESTOR_CLI_GUEST_ROOT_H

#include "machine/rootfs.h"

struct guest_root_config {
	const char *rootfs, *initrd; /* paths or NULL */
	char **command;		     /* or NULL */
	const char *modules_dir;     /* lib/modules/<release>; NULL or "" if unknown */
	const char *const *modules; /* names to load before the command; NULL-terminated, or NULL */
};

/*
 * *out is for rootfs_destroy(). *own_init says whether the kernel must be told to
 * run our init. -errno with @err filled.
 */
int guest_root_create(const struct guest_root_config *cfg, struct rootfs **out, bool *own_init,
		      struct error *err);

#endif
