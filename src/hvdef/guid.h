/* SPDX-License-Identifier: MIT */
/* GUIDs as they travel: the first three fields little-endian, the rest bytes. */
#ifndef NESTOR_HVDEF_GUID_H
#define NESTOR_HVDEF_GUID_H

#include <stdio.h>
#include <string.h>

#include "base/types.h"

struct hv_guid {
	u8 b[16];
};
static_assert(sizeof(struct hv_guid) == 16, "wire size");

/* HV_GUID(0xba6163d9, 0x04a1, 0x4d29, 0xb6, 0x05, ...) is ba6163d9-04a1-4d29-b605-... */
#define HV_GUID(a, b_, c, d0, d1, d2, d3, d4, d5, d6, d7)                                          \
	{                                                                                          \
		{                                                                                  \
			(a) & 0xff, (a) >> 8 & 0xff, (a) >> 16 & 0xff, (a) >> 24 & 0xff,           \
				(b_)&0xff, (b_) >> 8 & 0xff, (c)&0xff, (c) >> 8 & 0xff, d0, d1,    \
				d2, d3, d4, d5, d6, d7                                             \
		}                                                                                  \
	}

#define HV_GUID_TEXT 37 /* bytes of the text form with its NUL */

static inline bool hv_guid_eq(const struct hv_guid *a, const struct hv_guid *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

/* First field, host order. */
static inline u32 hv_guid_data1(const struct hv_guid *g)
{
	return g->b[0] | g->b[1] << 8 | g->b[2] << 16 | (u32)g->b[3] << 24;
}

static inline void hv_guid_set_data1(struct hv_guid *g, u32 v)
{
	for (int i = 0; i < 4; i++)
		g->b[i] = (u8)(v >> (8 * i));
}

/* Writes the text form into @text (HV_GUID_TEXT bytes) and returns it. */
static inline const char *hv_guid_format(const struct hv_guid *g, char *text)
{
	const u8 *b = g->b;

	snprintf(text, HV_GUID_TEXT,
		 "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[3], b[2],
		 b[1], b[0], b[5], b[4], b[7], b[6], b[8], b[9], b[10], b[11], b[12], b[13], b[14],
		 b[15]);
	return text;
}

/* Text form, with or without braces, to bytes. False if it is not a GUID. */
static inline bool hv_guid_parse(const char *text, struct hv_guid *g)
{
	static const u8 at[16] = { 3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15 };
	bool brace = *text == '{';
	u32 v;

	text += brace;
	for (u32 i = 0; i < 16; i++, text += 2) {
		if ((i == 4 || i == 6 || i == 8 || i == 10) && *text++ != '-')
			return false;
		if (!strchr("0123456789abcdefABCDEF", text[0]) || !text[0] ||
		    !strchr("0123456789abcdefABCDEF", text[1]) || !text[1])
			return false;
		sscanf(text, "%2x", &v);
		g->b[at[i]] = (u8)v;
	}
	return strcmp(text, brace ? "}" : "") == 0;
}

#endif
