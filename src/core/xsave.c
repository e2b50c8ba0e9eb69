// SPDX-License-Identifier: MIT
/* A component that XSTATE_BV does not name is in its initial state: its bytes do not matter. */
#include "core/xsave.h"

#include <string.h>

#define LEAF_XSAVE    0xDu
#define LEGACY_BYTES  512u
#define HEADER_BYTES  64u
#define EXTENDED_BASE (LEGACY_BYTES + HEADER_BYTES)
#define COMPACTED     BIT64(63)
#define SUPERVISOR    BIT(0) /* ECX of a component's subleaf */
#define ALIGNED	      BIT(1)

struct header {
	u64 xstate_bv, xcomp_bv;
	u64 rsvd[6];
};
static_assert(sizeof(struct header) == HEADER_BYTES, "as the processor defines it");

void xsave_layout_init(struct xsave_layout *l, const struct engine_cpuid *list, u32 count)
{
	u64 user = 0;

	*l = (struct xsave_layout){ .states = XSAVE_LEGACY };
	for (u32 i = 0; i < count; i++)
		if (list[i].leaf == LEAF_XSAVE && list[i].index == 0)
			user = list[i].eax | (u64)list[i].edx << 32;
	for (u32 i = 0; i < count; i++) {
		const struct engine_cpuid *e = &list[i];

		if (e->leaf != LEAF_XSAVE || e->index < 2 || e->index >= XSAVE_COMPONENTS ||
		    !(user & BIT64(e->index)) || (e->ecx & SUPERVISOR) || !e->eax)
			continue;
		if (e->ebx < EXTENDED_BASE || e->ebx > ENGINE_XSAVE_BYTES ||
		    e->eax > ENGINE_XSAVE_BYTES - e->ebx)
			continue;
		l->part[e->index].offset = e->ebx;
		l->part[e->index].bytes = e->eax;
		l->part[e->index].aligned = e->ecx & ALIGNED;
		l->states |= BIT64(e->index);
	}
}

/* Where component @i is in a compacted area whose components below it are those of @states. */
static u32 place(const struct xsave_layout *l, u32 i, u32 at)
{
	return l->part[i].aligned ? (u32)align_up(at, 64) : at;
}

u32 xsave_compact_bytes(const struct xsave_layout *l, u64 states)
{
	u32 at = EXTENDED_BASE;

	for (u32 i = 2; i < XSAVE_COMPONENTS; i++)
		if (states & l->states & BIT64(i))
			at = place(l, i, at) + l->part[i].bytes;
	return at;
}

void xsave_compact(const struct xsave_layout *l, u64 states, const u8 area[ENGINE_XSAVE_BYTES],
		   u8 *out)
{
	struct header h;
	u32 at = EXTENDED_BASE;

	states = (states | XSAVE_LEGACY) & l->states;
	memcpy(&h, area + LEGACY_BYTES, sizeof(h));
	h = (struct header){ .xstate_bv = h.xstate_bv & states, .xcomp_bv = states | COMPACTED };
	memcpy(out, area, LEGACY_BYTES);
	memcpy(out + LEGACY_BYTES, &h, sizeof(h));
	for (u32 i = 2; i < XSAVE_COMPONENTS; i++) {
		u32 from = at;

		if (!(states & BIT64(i)))
			continue;
		at = place(l, i, at);
		memset(out + from, 0, at - from);
		if (h.xstate_bv & BIT64(i))
			memcpy(out + at, area + l->part[i].offset, l->part[i].bytes);
		else
			memset(out + at, 0, l->part[i].bytes);
		at += l->part[i].bytes;
	}
}

static bool header_ok(const struct xsave_layout *l, const struct header *h)
{
	u64 held = h->xcomp_bv & COMPACTED ? h->xcomp_bv & ~COMPACTED : l->states;

	for (u32 i = 0; i < ARRAY_SIZE(h->rsvd); i++)
		if (h->rsvd[i])
			return false;
	if (!(h->xcomp_bv & COMPACTED) && h->xcomp_bv)
		return false;
	return !(held & ~l->states) && !(h->xstate_bv & ~held);
}

bool xsave_expand(const struct xsave_layout *l, const u8 *in, u32 bytes,
		  u8 area[ENGINE_XSAVE_BYTES])
{
	struct header h;
	u32 at = EXTENDED_BASE;
	u64 held;
	bool compacted;

	if (bytes < EXTENDED_BASE)
		return false;
	memcpy(&h, in + LEGACY_BYTES, sizeof(h));
	if (!header_ok(l, &h))
		return false;
	compacted = h.xcomp_bv & COMPACTED;
	held = compacted ? h.xcomp_bv : h.xstate_bv;
	memset(area, 0, ENGINE_XSAVE_BYTES);
	memcpy(area, in, LEGACY_BYTES);
	for (u32 i = 2; i < XSAVE_COMPONENTS; i++) {
		u32 from;

		if (!(held & BIT64(i)))
			continue;
		from = compacted ? place(l, i, at) : l->part[i].offset;
		if (from > bytes || l->part[i].bytes > bytes - from)
			return false;
		if (h.xstate_bv & BIT64(i))
			memcpy(area + l->part[i].offset, in + from, l->part[i].bytes);
		at = from + l->part[i].bytes;
	}
	h.xcomp_bv = 0;
	memcpy(area + LEGACY_BYTES, &h, sizeof(h));
	return true;
}
