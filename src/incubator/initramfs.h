/* SPDX-License-Identifier: MIT */
/* The incubator's initramfs: the agent as /init and, for a modular kernel, its modules. */
#ifndef NESTOR_INCUBATOR_INITRAMFS_H
#define NESTOR_INCUBATOR_INITRAMFS_H

#include "base/types.h"

/*
 * Makes the image in an anonymous file and returns its descriptor (close-on-exec),
 * or a negative errno. @modules_dir: a directory of *.ko files, or NULL.
 */
int initramfs_make(const char *modules_dir);

/* The agent's bytes, for hashing. */
const u8 *initramfs_agent(size_t *len);

#endif
