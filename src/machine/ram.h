/* SPDX-License-Identifier: MIT */
/* The partition's RAM: one sparse block, laid out below and above the hole. */
#ifndef NESTOR_MACHINE_RAM_H
#define NESTOR_MACHINE_RAM_H

#include "mem/gmem.h"

struct ram {
	struct gmem_backing backing;
	u64 low_bytes;	/* at GPA 0 and offset 0 */
	u64 high_bytes; /* at LAYOUT_HIGH_GPA and offset low_bytes; may be 0 */
};

/*
 * Creates @bytes (rounded up to pages) of zeroed RAM and adds its regions to @gm. @shared as in
 * gmem_backing_create().
 * -EINVAL: less than LAYOUT_RAM_MIN; -E2BIG: more than LAYOUT_RAM_MAX; or what
 * memfd_create, ftruncate and mmap say.
 */
int ram_create(struct gmem *gm, u64 bytes, bool shared, struct ram *out);
/* The regions leave @gm; no engine may map them any more. */
void ram_destroy(struct gmem *gm, struct ram *ram);

#endif
