// SPDX-License-Identifier: MIT
/* Boot images: whatever the file says, it is refused or lies inside the guest's memory. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "machine/boot_linux.h"
#include "machine/layout.h"
#include "machine/ram.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t len);

static int fill(void *ctx, u8 *dst, const struct gmem_backing *into, struct error *err)
{
	const u64 *bytes = ctx;

	dst[0] = 1;
	dst[*bytes - 1] = 1;
	return 0;
}

static void load(struct gmem *gm, const char *path, u64 initrd_bytes)
{
	const struct boot_config cfg = {
		.kernel = path,
		.cmdline = "quiet",
		.initrd = { initrd_bytes, fill, &initrd_bytes },
		.rsdp_gpa = LAYOUT_TABLES,
	};
	struct boot_state state;
	struct error err = { "" };

	if (boot_load(gm, &cfg, &state, &err) < 0) {
		if (!err.text[0])
			abort(); /* every refusal says why */
		return;
	}
	if (!gmem_ptr(gm, state.rip, 1) || state.kernel_gpa < LAYOUT_HIGH_MEM)
		abort();
	if (initrd_bytes && state.initrd_gpa < state.kernel_end &&
	    state.initrd_gpa + initrd_bytes > state.kernel_gpa)
		abort();
}

/* The first byte chooses the initrd's size. */
int LLVMFuzzerTestOneInput(const u8 *data, size_t len)
{
	static const u64 sizes[] = { 0, 1, 4096, 40 * MIB };
	static struct gmem gm;
	static struct ram ram;
	static char path[64];
	static int fd = -1;

	if (fd < 0) {
		fd = memfd_create("image", 0);
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		if (fd < 0 || gmem_init(&gm) || ram_create(&gm, LAYOUT_RAM_MIN, false, &ram))
			abort();
	}
	if (len < 1)
		return 0;
	if (ftruncate(fd, 0) || pwrite(fd, data + 1, len - 1, 0) != (ssize_t)(len - 1))
		abort();
	load(&gm, path, sizes[data[0] % ARRAY_SIZE(sizes)]);
	return 0;
}
