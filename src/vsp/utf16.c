// SPDX-License-Identifier: MIT
#include "vsp/utf16.h"

#include <errno.h>
#include <string.h>

/* One code point; NULL if it is not UTF-8. */
static const u8 *utf8_next(const u8 *p, u32 *cp)
{
	static const u32 least[4] = { 0, 0x80, 0x800, 0x10000 };
	u32 more = *p < 0x80		     ? 0
		   : *p >= 0xc2 && *p < 0xe0 ? 1
		   : *p >= 0xe0 && *p < 0xf0 ? 2
		   : *p >= 0xf0 && *p < 0xf5 ? 3
					     : 4;

	if (more == 4)
		return NULL;
	*cp = more == 0 ? *p : *p & (0x3f >> more);
	for (u32 i = 1; i <= more; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return NULL;
		*cp = *cp << 6 | (p[i] & 0x3f);
	}
	if (*cp < least[more] || *cp > 0x10ffff || (*cp >= 0xd800 && *cp < 0xe000))
		return NULL;
	return p + 1 + more;
}

int utf16_from_utf8(const char *text, void *out, u32 max)
{
	const u8 *p = (const u8 *)text;
	u8 *to = out;
	u32 n = 0, cp;

	do {
		u16 unit[2];
		u32 units = 1;

		p = utf8_next(p, &cp);
		if (!p)
			return -EINVAL;
		unit[0] = (u16)cp;
		if (cp > 0xffff) {
			unit[0] = (u16)(0xd800 + ((cp - 0x10000) >> 10));
			unit[1] = (u16)(0xdc00 + (cp & 0x3ff));
			units = 2;
		}
		if (n + units > max)
			return -ENAMETOOLONG;
		memcpy(to + 2 * n, unit, 2 * units);
		n += units;
	} while (cp);
	return (int)n;
}

static u32 utf8_put(u32 cp, char *out)
{
	if (cp < 0x80) {
		out[0] = (char)cp;
		return 1;
	}
	if (cp < 0x800) {
		out[0] = (char)(0xc0 | cp >> 6);
		out[1] = (char)(0x80 | (cp & 0x3f));
		return 2;
	}
	if (cp < 0x10000) {
		out[0] = (char)(0xe0 | cp >> 12);
		out[1] = (char)(0x80 | (cp >> 6 & 0x3f));
		out[2] = (char)(0x80 | (cp & 0x3f));
		return 3;
	}
	out[0] = (char)(0xf0 | cp >> 18);
	out[1] = (char)(0x80 | (cp >> 12 & 0x3f));
	out[2] = (char)(0x80 | (cp >> 6 & 0x3f));
	out[3] = (char)(0x80 | (cp & 0x3f));
	return 4;
}

void utf16_to_utf8(const void *in, u32 units, char *out, u32 max)
{
	const u8 *p = in;
	u32 n = 0;

	for (u32 i = 0; i < units; i++) {
		u32 cp = p[2 * i] | p[2 * i + 1] << 8, low;
		char buf[4];
		u32 bytes;

		if (cp == 0)
			break;
		if (cp >= 0xd800 && cp < 0xdc00 && i + 1 < units) {
			low = p[2 * i + 2] | p[2 * i + 3] << 8;
			if (low >= 0xdc00 && low < 0xe000) {
				cp = 0x10000 + ((cp - 0xd800) << 10) + (low - 0xdc00);
				i++;
			}
		}
		if (cp >= 0xd800 && cp < 0xe000)
			cp = 0xfffd;
		bytes = utf8_put(cp, buf);
		if (n + bytes >= max)
			break;
		memcpy(out + n, buf, bytes);
		n += bytes;
	}
	if (max)
		out[n] = 0;
}
