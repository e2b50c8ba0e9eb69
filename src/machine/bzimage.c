// SPDX-License-Identifier: MIT
/* The bzImage: a setup header, and behind it a 64-bit program that unpacks the kernel. */
#include <errno.h>
#include <string.h>

#include "machine/boot_image.h"
#include "machine/layout.h"

#define HEADER_OFFSET  0x1F1
#define JUMP_OFFSET    0x200 /* a two-byte jump whose second byte gives the header's length */
#define MIN_FILE_BYTES 1024
#define BOOT_FLAG      0xAA55
#define HEADER_MAGIC   0x53726448 /* "HdrS" */
#define MIN_PROTOCOL   0x020C	  /* xloadflags: Linux 3.8 */
#define ENTRY_64       0x200

static int header_read(const struct file *f, struct setup_header *hdr, struct error *err)
{
	u8 raw[sizeof(*hdr)];
	u64 len;
	int ret;

	if (f->bytes < MIN_FILE_BYTES)
		return error_set(err, -ENOEXEC, "%s: not a Linux kernel (too short)", f->name);
	ret = file_read(f, HEADER_OFFSET, raw, sizeof(raw), err);
	if (ret)
		return ret;
	/* What lies behind the header's own end is not header, but code. */
	len = JUMP_OFFSET + 2 + raw[JUMP_OFFSET + 1 - HEADER_OFFSET] - HEADER_OFFSET;
	memset(hdr, 0, sizeof(*hdr));
	memcpy(hdr, raw, min_u64(len, sizeof(raw)));
	return 0;
}

static int header_check(const struct file *f, const struct setup_header *hdr, struct error *err)
{
	if (hdr->boot_flag != BOOT_FLAG || hdr->header != HEADER_MAGIC)
		return error_set(err, -ENOEXEC, "%s: not a Linux kernel (no HdrS signature)",
				 f->name);
	if (hdr->version < MIN_PROTOCOL)
		return error_set(err, -ENOEXEC,
				 "%s: boot protocol %u.%02u is too old (2.12 or newer is needed)",
				 f->name, hdr->version >> 8, hdr->version & 0xFF);
	if (!(hdr->loadflags & LOADED_HIGH) || !(hdr->xloadflags & XLF_KERNEL_64))
		return error_set(err, -ENOEXEC, "%s: not a 64-bit kernel (no 64-bit entry point)",
				 f->name);
	return 0;
}

static bool power_of_two(u64 v)
{
	return v && !(v & (v - 1));
}

/*
 * Where @span bytes go: where the kernel wants to be. A kernel loaded lower unpacks
 * itself there all the same (Linux head_64.S: never below LOAD_PHYSICAL_ADDR), so a
 * lower place is only for a header that names no possible one.
 */
static u64 place(const struct setup_header *hdr, u64 span, u64 low_end)
{
	u64 align = hdr->kernel_alignment;
	u64 gpa = hdr->pref_address;

	if (gpa < LAYOUT_HIGH_MEM || gpa >= LAYOUT_HIGH_GPA) {
		if (!hdr->relocatable_kernel || !power_of_two(align) || align > GIB)
			return 0;
		gpa = align_up(LAYOUT_HIGH_MEM, align);
	}
	return gpa < low_end && span <= low_end - gpa ? gpa : 0;
}

/* What the message asks for. */
static u64 memory_needed(const struct setup_header *hdr, u64 span)
{
	u64 gpa = hdr->pref_address;

	if (gpa < LAYOUT_HIGH_MEM || gpa >= LAYOUT_HIGH_GPA)
		gpa = LAYOUT_HIGH_MEM;
	return (gpa + span) / MIB + 1;
}

static int version_read(const struct file *f, const struct setup_header *hdr, u64 setup_bytes,
			char out[BOOT_VERSION_BYTES], struct error *err)
{
	u64 at = JUMP_OFFSET + (u64)hdr->kernel_version;
	char text[BOOT_VERSION_BYTES];
	u64 len;
	int ret;

	out[0] = '\0';
	if (!hdr->kernel_version || at >= setup_bytes)
		return 0;
	len = min_u64(setup_bytes - at, sizeof(text));
	ret = file_read(f, at, text, len, err);
	if (!ret)
		boot_version_copy(out, text, len);
	return ret;
}

int bzimage_load(struct gmem *gm, const struct file *f, u64 low_end, struct boot_image *out,
		 struct error *err)
{
	struct setup_header *hdr = &out->hdr;
	u64 setup_bytes, bytes, span;
	void *dst;
	int ret;

	ret = header_read(f, hdr, err);
	if (!ret)
		ret = header_check(f, hdr, err);
	if (ret)
		return ret;
	/* Zero means four, from the days when there was no field. */
	setup_bytes = ((hdr->setup_sects ? hdr->setup_sects : 4) + 1ull) * 512;
	if (setup_bytes + ENTRY_64 >= f->bytes ||
	    (u64)hdr->syssize * 16 >= f->bytes - setup_bytes + 16)
		return error_set(err, -ENOEXEC, "%s: truncated kernel image", f->name);
	bytes = f->bytes - setup_bytes;
	span = align_up(max_u64(bytes, hdr->init_size), PAGE_BYTES);
	out->gpa = place(hdr, span, low_end);
	dst = out->gpa ? gmem_ptr(gm, out->gpa, span) : NULL;
	if (!dst)
		return error_set(err, -ENOMEM,
				 "%s: does not fit into memory: it needs %llu MiB to start",
				 f->name, (unsigned long long)memory_needed(hdr, span));
	ret = version_read(f, hdr, setup_bytes, out->version, err);
	if (!ret)
		ret = file_read(f, setup_bytes, dst, bytes, err);
	if (ret)
		return ret;
	out->entry = out->gpa + ENTRY_64;
	out->end = out->gpa + span;
	out->elf = false;
	out->cmdline_max = hdr->cmdline_size;
	out->initrd_max = hdr->initrd_addr_max;
	out->above_4g = hdr->xloadflags & XLF_CAN_BE_LOADED_ABOVE_4G;
	return 0;
}
