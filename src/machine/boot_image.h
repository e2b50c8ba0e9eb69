/* SPDX-License-Identifier: MIT */
/* Between boot_linux.c and the image formats: not for other files. */
#ifndef NESTOR_MACHINE_BOOT_IMAGE_H
#define NESTOR_MACHINE_BOOT_IMAGE_H

#include <asm/bootparam.h>

#include "machine/boot_linux.h"

/* A kernel in guest memory, and what it says about itself. */
struct boot_image {
	u64 entry;
	u64 gpa, end;
	bool elf;
	u64 cmdline_max; /* without the NUL */
	u64 initrd_max;	 /* highest address the initrd may touch */
	bool above_4g;	 /* the initrd may be anywhere */
	struct setup_header hdr;
	char version[BOOT_VERSION_BYTES];
};

/* -ENOEXEC and the rest as boot_load(). @low_end: RAM below 4 GiB ends here. */
int bzimage_load(struct gmem *gm, const struct file *f, u64 low_end, struct boot_image *out,
		 struct error *err);
int elf_load(struct gmem *gm, const struct file *f, struct boot_image *out, struct error *err);

/* Copies the first word of @text, at most @len bytes of it, if it is printable. */
void boot_version_copy(char out[BOOT_VERSION_BYTES], const char *text, u64 len);

#endif
