// SPDX-License-Identifier: MIT
#include "core/quirk.h"

#include <stdio.h>
#include <string.h>

const struct quirk quirks[QUIRK_COUNT] = {
	[QUIRK_FORWARD_POST] = {
		.name = "forward-post",
		.what = "L1 passes a POST_MESSAGE with an unknown connection on to L0",
		.defect = "Linux 6.2 to 6.x uses the nested SynIC but posts without bit 31",
		.first = 0x0602, .last = 0x06FF,
	},
	[QUIRK_FORWARD_SIGNAL] = {
		.name = "forward-signal",
		.what = "L1 passes a SIGNAL_EVENT with an unknown connection on to L0",
		.defect = "Linux 6.2 to 6.x signals without bit 31; Linux 7 loses it in a 16-bit parameter",
		.first = 0x0602, .last = 0x07FF,
	},
	[QUIRK_PREENABLE_SYNIC] = {
		.name = "preenable-synic",
		.what = "L1's SynIC and its pages are enabled from reset",
		.defect = "Linux 7 with VMBus and mshv enables only the nested SynIC",
		.first = 0x0700, .last = 0x07FF,
	},
	[QUIRK_KEXEC_POOL] = {
		.name = "kexec-pool",
		.what = "A kernel that takes its identity back gets its deposits back",
		.defect = "Linux leaves its deposits to the kernel that it starts by kexec, "
			  "which takes them for its own memory",
		.first = 0x050C, .last = 0x07FF, .any_root = true,
	},
};

u32 quirks_of_root(bool nested)
{
	u32 mask = 0;

	for (u32 i = 0; i < QUIRK_COUNT; i++)
		if (nested || quirks[i].any_root)
			mask |= BIT(i);
	return mask;
}

u32 quirks_for_release(const char *release)
{
	unsigned int major, minor;
	u32 mask = 0;

	if (sscanf(release, "%u.%u", &major, &minor) != 2 || major > 255 || minor > 255)
		return 0;
	for (u32 i = 0; i < QUIRK_COUNT; i++) {
		u16 v = (u16)(major << 8 | minor);

		if (v >= quirks[i].first && v <= quirks[i].last)
			mask |= BIT(i);
	}
	return mask;
}

bool quirks_parse(const char *list, u32 *mask, const char **bad)
{
	*mask = 0;
	while (*list) {
		size_t n = strcspn(list, ",");
		u32 i;

		for (i = 0; i < QUIRK_COUNT; i++)
			if (strlen(quirks[i].name) == n && !memcmp(quirks[i].name, list, n))
				break;
		if (i == QUIRK_COUNT) {
			*bad = list;
			return false;
		}
		*mask |= BIT(i);
		list += n + (list[n] == ',');
	}
	return true;
}
