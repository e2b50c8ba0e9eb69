/* SPDX-License-Identifier: MIT */
/* UTF-8 to and from UTF-16LE as it stands in guest structures. */
#ifndef NESTOR_VSP_UTF16_H
#define NESTOR_VSP_UTF16_H

#include "base/types.h"

/*
 * Writes @text with its terminator; @max units. Returns the units written,
 * terminator included, or -EINVAL (not UTF-8) or -ENAMETOOLONG.
 */
int utf16_from_utf8(const char *text, void *out, u32 max);
/*
 * Up to @units units, or to the first NUL. Lone surrogates become U+FFFD. The
 * result always ends with NUL; what does not fit in @max bytes is cut.
 */
void utf16_to_utf8(const void *in, u32 units, char *out, u32 max);

#endif
