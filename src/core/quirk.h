/* SPDX-License-Identifier: MIT */
/*
 * Where a released kernel needs forgiveness. A quirk is off unless asked for;
 * each row names the kernels and the defect, and counts its uses so that a run
 * can say which it needed.
 */
#ifndef NESTOR_CORE_QUIRK_H
#define NESTOR_CORE_QUIRK_H

#include "base/types.h"

enum quirk_id {
	QUIRK_FORWARD_POST,
	QUIRK_FORWARD_SIGNAL,
	QUIRK_PREENABLE_SYNIC,
	QUIRK_KEXEC_POOL,
	QUIRK_COUNT
};

struct quirk {
	const char *name;   /* as in --quirks */
	const char *what;   /* what it does */
	const char *defect; /* what it makes up for */
	/* Releases that need it, as 0xMMmm; last is inclusive. */
	u16 first, last;
	bool any_root; /* else in a nested root only */
};

extern const struct quirk quirks[QUIRK_COUNT];

/* Bits (1 << id) of those that mean something in a root, nested or not. */
u32 quirks_of_root(bool nested);
/* Those that a nested root with this release needs; 0 if the release is unknown. */
u32 quirks_for_release(const char *release);
/* A comma-separated list of names. False and *bad if one is unknown. */
bool quirks_parse(const char *list, u32 *mask, const char **bad);

#endif
