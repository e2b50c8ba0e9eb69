/* SPDX-License-Identifier: MIT */
/* Stock kernels that tools/kernels unpacked: <cache>/kernels/<release>/{vmlinuz,modules}. */
#ifndef NESTOR_CLI_KERNEL_CACHE_H
#define NESTOR_CLI_KERNEL_CACHE_H

#include "machine/error.h"

#define CACHE_PATH_BYTES 1024

struct cached_kernel {
	char image[CACHE_PATH_BYTES];
	char modules[CACHE_PATH_BYTES]; /* the lib/modules/<release> tree; empty if unknown */
	char release[256];
};

/* The newest cached kernel whose release begins with @prefix ("" for any). -ENOENT. */
int kernel_cache_find(const char *prefix, struct cached_kernel *out, struct error *err);
/* @image is a path: whether it is one of the cache, and then its modules. */
void kernel_cache_lookup(const char *image, struct cached_kernel *out);

#endif
