// SPDX-License-Identifier: MIT
#include "machine/ram.h"

#include <errno.h>

#include "machine/layout.h"

int ram_create(struct gmem *gm, u64 bytes, bool shared, struct ram *out)
{
	int ret;

	if (bytes < LAYOUT_RAM_MIN)
		return -EINVAL;
	if (bytes > LAYOUT_RAM_MAX)
		return -E2BIG;
	bytes = align_up(bytes, PAGE_BYTES);
	out->low_bytes = min_u64(bytes, LAYOUT_LOW_END);
	out->high_bytes = bytes - out->low_bytes;
	ret = gmem_backing_create(&out->backing, "nestor-ram", bytes, shared);
	if (ret)
		return ret;
	ret = gmem_add_backing(gm, 0, out->low_bytes, &out->backing, 0, GMEM_RAM);
	if (ret)
		goto destroy_backing;
	if (!out->high_bytes)
		return 0;
	ret = gmem_add_backing(gm, LAYOUT_HIGH_GPA, out->high_bytes, &out->backing, out->low_bytes,
			       GMEM_RAM);
	if (ret)
		goto remove_low;
	return 0;

remove_low:
	gmem_remove(gm, 0);
destroy_backing:
	gmem_backing_destroy(&out->backing);
	return ret;
}

void ram_destroy(struct gmem *gm, struct ram *ram)
{
	if (!ram->backing.hva)
		return;
	if (ram->high_bytes)
		gmem_remove(gm, LAYOUT_HIGH_GPA);
	gmem_remove(gm, 0);
	gmem_backing_destroy(&ram->backing);
}
