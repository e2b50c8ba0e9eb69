// SPDX-License-Identifier: MIT
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "machine/boot_image.h"
#include "machine/layout.h"
#include "machine/ram.h"

#define SETUP_BYTES  (2 * 512u)
#define KERNEL_BYTES 8192u
#define VERSION_AT   0x100

struct bench {
	struct gmem gm;
	struct ram ram;
	struct error err;
	struct boot_state state;
	int fd;
	char path[64];
};

static int setup_bytes(void **state, u64 bytes)
{
	static struct bench b;

	memset(&b, 0, sizeof(b));
	*state = &b;
	b.fd = memfd_create("image", MFD_CLOEXEC);
	snprintf(b.path, sizeof(b.path), "/proc/self/fd/%d", b.fd);
	if (b.fd < 0 || gmem_init(&b.gm))
		return -1;
	return ram_create(&b.gm, bytes, false, &b.ram);
}

static int setup(void **state)
{
	return setup_bytes(state, 128 * MIB);
}

static int setup_big(void **state)
{
	return setup_bytes(state, 300 * GIB);
}

static int teardown(void **state)
{
	struct bench *b = *state;

	ram_destroy(&b->gm, &b->ram);
	gmem_fini(&b->gm);
	close(b->fd);
	return 0;
}

static void image_write(struct bench *b, u64 at, const void *data, u64 len)
{
	assert_int_equal(pwrite(b->fd, data, len, (off_t)at), len);
}

/* The smallest thing that is a bzImage; @hdr may be changed before and written again. */
static struct setup_header bzimage_make(struct bench *b)
{
	struct setup_header hdr = {
		.setup_sects = 1,
		.syssize = KERNEL_BYTES / 16,
		.boot_flag = 0xAA55,
		.jump = 0x66EB,
		.header = 0x53726448,
		.version = 0x020F,
		.kernel_version = VERSION_AT,
		.loadflags = LOADED_HIGH,
		.initrd_addr_max = 0x7FFFFFFF,
		.kernel_alignment = 0x200000,
		.relocatable_kernel = 1,
		.xloadflags = XLF_KERNEL_64 | XLF_CAN_BE_LOADED_ABOVE_4G,
		.cmdline_size = 2047,
		.pref_address = 0x1000000,
		.init_size = 0x2000000,
	};
	static const char version[] = "6.1.0-56-cloud-amd64 (x@y) #1";
	u8 code[KERNEL_BYTES];

	memset(code, 0xCC, sizeof(code));
	image_write(b, 0x1F1, &hdr, sizeof(hdr));
	image_write(b, SETUP_BYTES, code, sizeof(code));
	image_write(b, 0x200 + VERSION_AT, version, sizeof(version));
	return hdr;
}

static int load(struct bench *b, const char *cmdline)
{
	const struct boot_config cfg = { .kernel = b->path,
					 .backing = &b->ram.backing,
					 .cmdline = cmdline,
					 .rsdp_gpa = 0xE0000 };

	return boot_load(&b->gm, &cfg, &b->state, &b->err);
}

static const struct boot_params *params(struct bench *b)
{
	return gmem_ptr(&b->gm, LAYOUT_BOOT_PARAMS, sizeof(struct boot_params));
}

static void test_bzimage(void **state)
{
	struct bench *b = *state;
	const struct boot_params *bp = params(b);
	const u64 *pd = gmem_ptr(&b->gm, LAYOUT_PAGE_TABLES + 2 * PAGE_BYTES, 4 * PAGE_BYTES);

	bzimage_make(b);
	assert_int_equal(load(b, "quiet"), 0);
	assert_int_equal(b->state.rip, 0x1000200);
	assert_int_equal(b->state.rsi, LAYOUT_BOOT_PARAMS);
	assert_string_equal(b->state.version, "6.1.0-56-cloud-amd64");
	assert_int_equal(*(u8 *)gmem_ptr(&b->gm, 0x1000000, 1), 0xCC);
	assert_int_equal(bp->hdr.header, 0x53726448);
	assert_int_equal(bp->hdr.type_of_loader, 0xFF);
	assert_int_equal(bp->acpi_rsdp_addr, 0xE0000);
	assert_string_equal((char *)gmem_ptr(&b->gm, bp->hdr.cmd_line_ptr, 6), "quiet");
	assert_int_equal(bp->hdr.ramdisk_size, 0);
	assert_int_equal(pd[0], 0x83);
	assert_int_equal(pd[2047], 0xFFE00083);
	assert_int_equal(*(u8 *)gmem_ptr(&b->gm, 0xFFFF0, 1), 0xB0);
}

static void test_e820(void **state)
{
	struct bench *b = *state;
	const struct boot_params *bp = params(b);
	u64 ram = 0, top = 0;

	bzimage_make(b);
	assert_int_equal(load(b, NULL), 0);
	for (u32 i = 0; i < bp->e820_entries; i++) {
		const struct boot_e820_entry *e = &bp->e820_table[i];

		assert_true(e->size > 0);
		if (e->type != 1)
			continue;
		ram += e->size;
		top = max_u64(top, e->addr + e->size);
		/* No RAM row covers the tables or the hole. */
		assert_true(e->addr + e->size <= LAYOUT_EBDA || e->addr >= LAYOUT_HIGH_MEM);
		assert_true(e->addr + e->size <= LAYOUT_LOW_END || e->addr >= LAYOUT_HIGH_GPA);
	}
	assert_int_equal(ram,
			 b->ram.low_bytes + b->ram.high_bytes - (LAYOUT_HIGH_MEM - LAYOUT_EBDA));
	assert_int_equal(top, b->ram.high_bytes ? LAYOUT_HIGH_GPA + b->ram.high_bytes
						: b->ram.low_bytes);
}

/* Relocatable or not, it unpacks itself at the preferred address: that must be there. */
static void test_small_memory_is_refused(void **state)
{
	struct bench *b = *state;
	struct setup_header hdr = bzimage_make(b);

	hdr.init_size = 120 * MIB;
	image_write(b, 0x1F1, &hdr, sizeof(hdr));
	assert_int_equal(load(b, NULL), -ENOMEM);
	assert_non_null(strstr(b->err.text, "does not fit into memory: it needs 137 MiB"));
	hdr.pref_address = 0;
	image_write(b, 0x1F1, &hdr, sizeof(hdr));
	assert_int_equal(load(b, NULL), 0);
	assert_int_equal(b->state.rip, 0x200200);
	hdr.relocatable_kernel = 0;
	image_write(b, 0x1F1, &hdr, sizeof(hdr));
	assert_int_equal(load(b, NULL), -ENOMEM);
}

/* Each row spoils one header field. */
static void test_bzimage_refusals(void **state)
{
	static const struct {
		u32 at, bytes;
		u64 value;
		int ret;
		const char *text;
	} rows[] = {
#define FIELD(f) offsetof(struct setup_header, f), sizeof(((struct setup_header *)0)->f)
		{ FIELD(header), 0, -ENOEXEC, "not a Linux kernel (no HdrS signature)" },
		{ FIELD(boot_flag), 0, -ENOEXEC, "not a Linux kernel (no HdrS signature)" },
		{ FIELD(version), 0x020B, -ENOEXEC, "boot protocol 2.11 is too old" },
		{ FIELD(xloadflags), 0, -ENOEXEC, "not a 64-bit kernel" },
		{ FIELD(loadflags), 0, -ENOEXEC, "not a 64-bit kernel" },
		{ FIELD(syssize), 0xFFFFFFFF, -ENOEXEC, "truncated" },
		{ FIELD(syssize), KERNEL_BYTES / 16 + 1, -ENOEXEC, "truncated" },
		{ FIELD(setup_sects), 255, -ENOEXEC, "truncated" },
		{ FIELD(init_size), 0xFFFFFFFF, -ENOMEM, "does not fit" },
		{ FIELD(pref_address), ~0ull, 0, "" },
		{ FIELD(pref_address), 0, 0, "" },
		{ FIELD(kernel_alignment), 0, 0, "" },
		{ FIELD(kernel_version), 0xFFFF, 0, "" },
		{ FIELD(cmdline_size), 3, -E2BIG, "command line has 5 characters" },
#undef FIELD
	};
	struct bench *b = *state;

	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		bzimage_make(b);
		image_write(b, 0x1F1 + rows[i].at, &rows[i].value, rows[i].bytes);
		assert_int_equal(load(b, "quiet"), rows[i].ret);
		if (rows[i].ret)
			assert_non_null(strstr(b->err.text, rows[i].text));
	}
}

static void test_no_kernel_at_all(void **state)
{
	struct bench *b = *state;
	struct boot_config cfg = { .kernel = "/nonexistent" };

	assert_int_equal(boot_load(&b->gm, &cfg, &b->state, &b->err), -ENOENT);
	assert_string_equal(b->err.text, "/nonexistent: No such file or directory");
	cfg.kernel = "/";
	assert_int_equal(boot_load(&b->gm, &cfg, &b->state, &b->err), -EINVAL);
	assert_string_equal(b->err.text, "/: not a regular file");
	assert_int_equal(load(b, NULL), -ENOEXEC); /* empty */
	image_write(b, 0, "#!/bin/sh\n", 10);
	assert_int_equal(load(b, NULL), -ENOEXEC);
}

static int fill(void *ctx, u8 *dst, const struct gmem_backing *into, struct error *err)
{
	const u64 *bytes = ctx;

	dst[0] = 0xAA;
	dst[*bytes - 1] = 0xBB;
	return 0;
}

static int load_initrd(struct bench *b, u64 bytes)
{
	const struct boot_config cfg = { .kernel = b->path, .initrd = { bytes, fill, &bytes } };

	return boot_load(&b->gm, &cfg, &b->state, &b->err);
}

static void test_initrd(void **state)
{
	struct bench *b = *state;
	const struct boot_params *bp = params(b);

	bzimage_make(b);
	assert_int_equal(load_initrd(b, 5000), 0);
	assert_int_equal(b->state.initrd_gpa, 128 * MIB - 8192);
	assert_int_equal(bp->hdr.ramdisk_image, 128 * MIB - 8192);
	assert_int_equal(bp->hdr.ramdisk_size, 5000);
	assert_int_equal(*(u8 *)gmem_ptr(&b->gm, b->state.initrd_gpa + 4999, 1), 0xBB);
	/* It may use all that the kernel leaves, and not a page more. */
	assert_int_equal(load_initrd(b, 80 * MIB), 0);
	assert_int_equal(b->state.initrd_gpa, b->state.kernel_end);
	assert_int_equal(load_initrd(b, 80 * MIB + 1), -ENOMEM);
	assert_non_null(strstr(b->err.text, "initrd of 81 MiB does not fit"));
}

static void test_big_machine(void **state)
{
	struct bench *b = *state;
	const struct boot_params *bp = params(b);
	struct setup_header hdr = bzimage_make(b);

	assert_int_equal(load_initrd(b, 1 * MIB), 0);
	assert_int_equal(b->state.initrd_gpa, 0x7FF00000); /* initrd_addr_max */
	/* More than fits below it: above 4 GiB, with the extended fields. */
	assert_int_equal(load_initrd(b, 0x7F000000), 0);
	assert_true(b->state.initrd_gpa >= LAYOUT_HIGH_GPA);
	assert_int_equal((u64)bp->ext_ramdisk_image << 32 | bp->hdr.ramdisk_image,
			 b->state.initrd_gpa);
	hdr.xloadflags = XLF_KERNEL_64;
	image_write(b, 0x1F1, &hdr, sizeof(hdr));
	assert_int_equal(load_initrd(b, 0x7F000000), -ENOMEM);
	test_e820(state);
}

struct elf_image {
	Elf64_Ehdr eh;
	Elf64_Phdr ph[2];
	char text[64];
};

static struct elf_image elf_make(void)
{
	struct elf_image image = {
		.eh = {
			.e_ident = { 0x7F, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT },
			.e_type = ET_EXEC,
			.e_machine = EM_X86_64,
			.e_entry = 0x200010,
			.e_phoff = offsetof(struct elf_image, ph),
			.e_phentsize = sizeof(Elf64_Phdr),
			.e_phnum = 2,
		},
		.ph = {
			{ .p_type = PT_LOAD, .p_offset = offsetof(struct elf_image, text),
			  .p_vaddr = 0xFFFFFFFF80200000, .p_paddr = 0x200000,
			  .p_filesz = 64, .p_memsz = 0x3000 },
			{ .p_type = PT_NOTE, .p_offset = ~0ull },
		},
		.text = "Linux version %s\0Linux version 7.3.4 (gcc)",
	};

	return image;
}

static int load_elf(struct bench *b, const struct elf_image *image)
{
	image_write(b, 0, image, sizeof(*image));
	return load(b, NULL);
}

static void test_elf(void **state)
{
	struct bench *b = *state;
	struct elf_image image = elf_make();
	char version[BOOT_VERSION_BYTES];

	assert_int_equal(load_elf(b, &image), 0);
	assert_int_equal(b->state.rip, 0x200010);
	assert_true(b->state.elf);
	assert_int_equal(b->state.kernel_end, 0x203000);
	assert_string_equal((char *)gmem_ptr(&b->gm, 0x200000, 64), "Linux version %s");
	assert_int_equal(boot_elf_version(b->path, version), 0);
	assert_string_equal(version, "7.3.4");
	image.eh.e_entry = 0xFFFFFFFF80200020; /* virtual */
	assert_int_equal(load_elf(b, &image), 0);
	assert_int_equal(b->state.rip, 0x200020);
}

static void test_elf_refusals(void **state)
{
	struct bench *b = *state;
	const struct elf_image good = elf_make();
	struct elf_image bad;

#define REFUSES(change, ret)                                                                       \
	do {                                                                                       \
		bad = good;                                                                        \
		change;                                                                            \
		assert_int_equal(load_elf(b, &bad), ret);                                          \
	} while (0)

	REFUSES(bad.eh.e_machine = EM_AARCH64, -ENOEXEC);
	REFUSES(bad.eh.e_ident[EI_CLASS] = ELFCLASS32, -ENOEXEC);
	REFUSES(bad.eh.e_type = ET_REL, -ENOEXEC);
	REFUSES(bad.eh.e_phnum = 0, -ENOEXEC);
	REFUSES(bad.eh.e_phnum = 65535, -ENOEXEC);
	REFUSES(bad.eh.e_phentsize = 1, -ENOEXEC);
	REFUSES(bad.eh.e_phoff = ~0ull, -ENOEXEC);
	REFUSES(bad.eh.e_phoff = sizeof(bad) - 8, -ENOEXEC);
	REFUSES(bad.eh.e_entry = 0x300000, -ENOEXEC);
	REFUSES(bad.ph[0].p_type = PT_NOTE, -ENOEXEC);
	REFUSES(bad.ph[0].p_filesz = ~0ull, -ENOEXEC);
	REFUSES(bad.ph[0].p_filesz = 65, -ENOEXEC);
	REFUSES(bad.ph[0].p_offset = ~0ull - 10, -ENOEXEC);
	REFUSES(bad.ph[0].p_memsz = 1, -ENOEXEC);
	REFUSES(bad.ph[0].p_memsz = ~0ull, -ENOMEM);
	REFUSES(bad.ph[0].p_paddr = 0x7000, -ENOEXEC);
	REFUSES(bad.ph[0].p_paddr = ~0ull, -ENOMEM);
	REFUSES(bad.ph[0].p_paddr = 128 * MIB - 0x2FFF, -ENOMEM);
}

static void test_cpu_state(void **state)
{
	struct bench *b = *state;
	struct engine_sregs sregs = { .apic_base = 0xFEE00900, .cr8 = 3 };
	struct engine_regs regs;

	bzimage_make(b);
	assert_int_equal(load(b, NULL), 0);
	boot_regs(&b->state, &regs);
	boot_sregs(&b->state, &sregs);
	assert_int_equal(regs.rip, 0x1000200);
	assert_int_equal(regs.rflags, 2); /* interrupts off */
	assert_int_equal(sregs.cs.selector, 0x10);
	assert_int_equal(sregs.ds.selector, 0x18);
	assert_int_equal(sregs.efer, 0x500);
	assert_int_equal(sregs.cr3, LAYOUT_PAGE_TABLES);
	assert_int_equal(sregs.apic_base, 0xFEE00900);
	assert_int_equal(sregs.cr8, 3);
}

static void test_ram_sizes(void **state)
{
	struct gmem gm;
	struct ram ram = { 0 };

	assert_int_equal(gmem_init(&gm), 0);
	assert_int_equal(ram_create(&gm, 64 * MIB - 1, false, &ram), -EINVAL);
	assert_int_equal(ram_create(&gm, LAYOUT_RAM_MAX + 1, false, &ram), -E2BIG);
	assert_int_equal(ram_create(&gm, 64 * MIB + 1, false, &ram), 0);
	assert_int_equal(ram.low_bytes, 64 * MIB + 4096);
	ram_destroy(&gm, &ram);
	ram_destroy(&gm, &ram);
	assert_int_equal(ram_create(&gm, 3 * GIB + 4096, false, &ram), 0);
	assert_int_equal(ram.high_bytes, 4096);
	assert_ptr_equal(gmem_ptr(&gm, 4 * GIB, 4096), ram.backing.hva + 3 * GIB);
	assert_null(gmem_ptr(&gm, 3 * GIB, 1));
	ram_destroy(&gm, &ram);
	assert_int_equal(gmem_count(&gm), 0);
	gmem_fini(&gm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_bzimage, setup, teardown),
		cmocka_unit_test_setup_teardown(test_e820, setup, teardown),
		cmocka_unit_test_setup_teardown(test_small_memory_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bzimage_refusals, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_kernel_at_all, setup, teardown),
		cmocka_unit_test_setup_teardown(test_initrd, setup, teardown),
		cmocka_unit_test_setup_teardown(test_big_machine, setup_big, teardown),
		cmocka_unit_test_setup_teardown(test_elf, setup, teardown),
		cmocka_unit_test_setup_teardown(test_elf_refusals, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cpu_state, setup, teardown),
		cmocka_unit_test(test_ram_sizes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
