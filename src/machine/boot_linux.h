/* SPDX-License-Identifier: MIT */
/*
 * Puts a kernel into fresh guest memory so that its 64-bit entry can be jumped
 * to: a bzImage by the boot protocol, or an ELF64 executable by its physical
 * addresses (vmlinux, or a bare program of payload/). Both get boot_params with
 * memory map, command line, initrd and RSDP.
 *
 * The image is hostile: every number in it is checked before it is used.
 *
 * Linux: Documentation/arch/x86/boot.rst
 */
#ifndef NESTOR_MACHINE_BOOT_LINUX_H
#define NESTOR_MACHINE_BOOT_LINUX_H

#include "engine/engine.h"
#include "machine/file.h"
#include "mem/gmem.h"

/*
 * An initrd that writes itself: @bytes of it, to guest memory at @dst. @into is
 * struct boot_config's backing.
 */
struct boot_initrd {
	u64 bytes; /* 0: none */
	int (*fill)(void *ctx, u8 *dst, const struct gmem_backing *into, struct error *err);
	void *ctx;
};

/* A range the kernel must leave alone, beyond what boot_load() knows by itself. */
struct boot_reserved {
	u64 gpa, bytes;
};

struct boot_config {
	const char *kernel;  /* path */
	const char *cmdline; /* NULL is "" */
	struct boot_initrd initrd;
	u64 rsdp_gpa; /* 0: none */
	const struct boot_reserved *reserved;
	u32 reserved_count;
	const struct gmem_backing *backing; /* of the RAM; NULL: unknown, loading is slower */
};

#define BOOT_VERSION_BYTES 96

struct boot_state {
	u64 rip, rsi, rsp;
	u64 kernel_gpa, kernel_end; /* what the kernel may use before it reads the memory map */
	u64 initrd_gpa, initrd_bytes;
	bool elf;
	/* "6.1.0-56-cloud-amd64"; empty for ELF, see boot_elf_version(). */
	char version[BOOT_VERSION_BYTES];
};

/*
 * Loads the kernel into @gm, whose RAM must be fresh (zero). -errno with @err
 * filled: -ENOENT, ... from opening; -ENOEXEC: not a kernel of ours; -ENOMEM: it
 * does not fit into the guest's memory; -E2BIG: command line too long; -EIO.
 */
int boot_load(struct gmem *gm, const struct boot_config *cfg, struct boot_state *out,
	      struct error *err);

/* General registers and segments for a VP about to enter. Keeps apic_base and cr8 of @sregs. */
void boot_regs(const struct boot_state *boot, struct engine_regs *regs);
void boot_sregs(const struct boot_state *boot, struct engine_sregs *sregs);

/*
 * The release in the banner of a vmlinux ("Linux version 6.1.192 ..."), into
 * @out; empty if it has none. Reads the whole file: not for the way to the first
 * instruction. -errno if it cannot be read.
 */
int boot_elf_version(const char *path, char out[BOOT_VERSION_BYTES]);

#endif
