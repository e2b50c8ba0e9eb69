/* SPDX-License-Identifier: MIT */
/*
 * XSAVE areas: the standard format, which an engine speaks, and the compacted one,
 * which parents do. Only components of user state; a processor's supervisor state
 * is in registers of its own.
 */
#ifndef NESTOR_CORE_XSAVE_H
#define NESTOR_CORE_XSAVE_H

#include "engine/engine.h"

#define XSAVE_COMPONENTS 63u
#define XSAVE_LEGACY	 MASK64(1, 0) /* x87 and SSE: always there */

struct xsave_layout {
	u64 states; /* components that exist */
	struct {
		u32 offset, bytes; /* in the standard format */
		bool aligned;	   /* to 64 bytes in the compacted one */
	} part[XSAVE_COMPONENTS];
};

/* As CPUID leaf 0xD of @list says; without it x87 and SSE. */
void xsave_layout_init(struct xsave_layout *l, const struct engine_cpuid *list, u32 count);

/* Bytes of a compacted area of @states, of those that exist. */
u32 xsave_compact_bytes(const struct xsave_layout *l, u64 states);

/* @area, standard, into @out of xsave_compact_bytes(). */
void xsave_compact(const struct xsave_layout *l, u64 states, const u8 area[ENGINE_XSAVE_BYTES],
		   u8 *out);
/*
 * An area of @bytes, in either format, into a standard one. False: its header is
 * not one that a processor takes, or it names what does not exist or does not fit.
 */
bool xsave_expand(const struct xsave_layout *l, const u8 *in, u32 bytes,
		  u8 area[ENGINE_XSAVE_BYTES]);

#endif
