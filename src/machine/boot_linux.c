// SPDX-License-Identifier: MIT
/* What both image formats share: low memory, boot_params, initrd, command line, CPU state. */
#include "machine/boot_linux.h"

#include <elf.h>
#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "machine/boot_image.h"
#include "machine/layout.h"

#define E820_RAM      1
#define E820_RESERVED 2

#define LOADER_UNREGISTERED 0xFF

#define PTE_PRESENT  BIT64(0)
#define PTE_WRITABLE BIT64(1)
#define PTE_LARGE    BIT64(7)
#define PTE_TABLE    (PTE_PRESENT | PTE_WRITABLE)

#define SEL_CODE 0x10 /* the boot protocol names these two */
#define SEL_DATA 0x18
#define SEL_TSS	 0x20

/* VMCB form: type, S, DPL, P, AVL, L, D/B, G. */
#define ATTR_CODE64 0xA09B
#define ATTR_DATA   0xC093
#define ATTR_TSS    0x08B
#define ATTR_LDT    0x082

#define CR0_PE	 BIT64(0)
#define CR0_ET	 BIT64(4)
#define CR0_NE	 BIT64(5)
#define CR0_PG	 BIT64(31)
#define CR4_PAE	 BIT64(5)
#define EFER_LME BIT64(8)
#define EFER_LMA BIT64(10)

static const u64 boot_gdt[] = {
	0, 0, 0x00AF9B000000FFFF, 0x00CF93000000FFFF, 0x00008B000000FFFF, 0,
};

/* The real-mode reset vector: mov al, 0xFE; out 0x64, al; hlt; jmp to the hlt. */
static const u8 reset_stub[] = { 0xB0, 0xFE, 0xE6, 0x64, 0xF4, 0xEB, 0xFD };

void boot_version_copy(char out[BOOT_VERSION_BYTES], const char *text, u64 len)
{
	u64 n = 0;

	while (n < len && n < BOOT_VERSION_BYTES - 1 && text[n] > ' ' && text[n] < 0x7F) {
		out[n] = text[n];
		n++;
	}
	out[n] = '\0';
}

static u64 ram_end_below(struct gmem *gm, u64 limit)
{
	u64 end = 0;

	for (u32 i = 0; i < gmem_count(gm); i++) {
		struct gmem_region r = gmem_at(gm, i);

		if (r.kind == GMEM_RAM && r.gpa < limit)
			end = min_u64(r.gpa + r.bytes, limit);
	}
	return end;
}

static int e820_add(struct boot_params *bp, u64 gpa, u64 bytes, u32 type)
{
	if (!bytes)
		return 0;
	if (bp->e820_entries == E820_MAX_ENTRIES_ZEROPAGE)
		return -E2BIG;
	bp->e820_table[bp->e820_entries++] = (struct boot_e820_entry){ gpa, bytes, type };
	return 0;
}

/* RAM of one region, less what lies in the first megabyte and is not memory for a PC kernel. */
static int e820_add_ram(struct boot_params *bp, u64 gpa, u64 end)
{
	int ret = 0;

	if (gpa < LAYOUT_EBDA)
		ret = e820_add(bp, gpa, min_u64(end, LAYOUT_EBDA) - gpa, E820_RAM);
	if (!ret && end > LAYOUT_HIGH_MEM) {
		gpa = max_u64(gpa, LAYOUT_HIGH_MEM);
		ret = e820_add(bp, gpa, end - gpa, E820_RAM);
	}
	return ret;
}

static int e820_fill(struct gmem *gm, const struct boot_config *cfg, struct boot_params *bp)
{
	int ret = 0;

	for (u32 i = 0; i < gmem_count(gm) && !ret; i++) {
		struct gmem_region r = gmem_at(gm, i);

		if (r.kind == GMEM_RAM)
			ret = e820_add_ram(bp, r.gpa, r.gpa + r.bytes);
		else
			ret = e820_add(bp, r.gpa, r.bytes, E820_RESERVED);
	}
	if (!ret)
		ret = e820_add(bp, LAYOUT_EBDA, LAYOUT_VGA - LAYOUT_EBDA, E820_RESERVED);
	if (!ret)
		ret = e820_add(bp, LAYOUT_TABLES, LAYOUT_HIGH_MEM - LAYOUT_TABLES, E820_RESERVED);
	for (u32 i = 0; i < cfg->reserved_count && !ret; i++)
		ret = e820_add(bp, cfg->reserved[i].gpa, cfg->reserved[i].bytes, E820_RESERVED);
	return ret;
}

/* Highest page-aligned place for @bytes in RAM of [from, limit), or 0. */
static u64 place_high(struct gmem *gm, u64 bytes, u64 from, u64 limit)
{
	u64 best = 0;

	for (u32 i = 0; i < gmem_count(gm); i++) {
		struct gmem_region r = gmem_at(gm, i);
		u64 start = max_u64(r.gpa, from), end = min_u64(r.gpa + r.bytes, limit);
		u64 gpa = (end - bytes) & ~(u64)(PAGE_BYTES - 1);

		if (r.kind == GMEM_RAM && start < end && bytes <= end - start && gpa >= start)
			best = gpa;
	}
	return best;
}

/* As high as the kernel allows; anywhere at all if it knows 64-bit addresses and must. */
static int initrd_load(struct gmem *gm, const struct boot_config *cfg,
		       const struct boot_image *image, struct boot_state *out, struct error *err)
{
	u64 bytes = cfg->initrd.bytes;
	u64 from = max_u64(image->end, LAYOUT_HIGH_MEM);
	u64 gpa;
	u8 *dst;

	if (!bytes)
		return 0;
	gpa = place_high(gm, bytes, from, min_u64(image->initrd_max, LAYOUT_HIGH_GPA - 1) + 1);
	if (!gpa && image->above_4g)
		gpa = place_high(gm, bytes, from, ~0ull);
	dst = gpa ? gmem_ptr(gm, gpa, bytes) : NULL;
	if (!dst)
		return error_set(err, -ENOMEM,
				 "the initrd of %llu MiB does not fit into memory beside the "
				 "kernel: give the machine more",
				 (unsigned long long)(bytes / MIB + 1));
	out->initrd_gpa = gpa;
	out->initrd_bytes = bytes;
	return cfg->initrd.fill(cfg->initrd.ctx, dst, cfg->backing, err);
}

static int cmdline_load(struct gmem *gm, const struct boot_config *cfg,
			const struct boot_image *image, struct error *err)
{
	const char *text = cfg->cmdline ? cfg->cmdline : "";
	u64 len = strlen(text);
	u64 max = min_u64(image->cmdline_max, LAYOUT_CMDLINE_MAX - 1);

	if (len > max)
		return error_set(err, -E2BIG,
				 "the kernel command line has %llu characters, %s takes %llu",
				 (unsigned long long)len, cfg->kernel, (unsigned long long)max);
	return gmem_write(gm, LAYOUT_CMDLINE, text, len + 1);
}

/* Identity map of the first 4 GiB in 2 MiB pages. */
static int page_tables_write(struct gmem *gm)
{
	u64 *table = gmem_ptr(gm, LAYOUT_PAGE_TABLES, 6 * PAGE_BYTES);
	u64 *pdpt, *pd;

	if (!table)
		return -ENOMEM;
	pdpt = table + 512;
	pd = table + 1024;
	table[0] = (LAYOUT_PAGE_TABLES + PAGE_BYTES) | PTE_TABLE;
	for (u32 i = 0; i < 4; i++)
		pdpt[i] = (LAYOUT_PAGE_TABLES + (2 + i) * PAGE_BYTES) | PTE_TABLE;
	for (u64 i = 0; i < 2048; i++)
		pd[i] = i * 2 * MIB | PTE_TABLE | PTE_LARGE;
	return 0;
}

/* Entropy, so that getrandom() in the guest need not wait for jitter. Linux 6.0 and newer. */
static int rng_seed_write(struct gmem *gm)
{
	/* struct setup_data with its data. */
	struct {
		u64 next;
		u32 type, len;
		u8 seed[32];
	} node = { .type = SETUP_RNG_SEED, .len = sizeof(node.seed) };

	if (getrandom(node.seed, sizeof(node.seed), GRND_NONBLOCK) != sizeof(node.seed))
		return 0;
	return gmem_write(gm, LAYOUT_SETUP_DATA, &node, sizeof(node));
}

static int low_memory_write(struct gmem *gm)
{
	const u16 ebda = LAYOUT_EBDA >> 4, kib = LAYOUT_EBDA / KIB;
	int ret;

	ret = gmem_write(gm, LAYOUT_BDA_EBDA, &ebda, sizeof(ebda));
	if (!ret)
		ret = gmem_write(gm, LAYOUT_BDA_LOW_KIB, &kib, sizeof(kib));
	if (!ret)
		ret = gmem_write(gm, LAYOUT_RESET_STUB, reset_stub, sizeof(reset_stub));
	if (!ret)
		ret = gmem_write(gm, LAYOUT_GDT, boot_gdt, sizeof(boot_gdt));
	if (!ret)
		ret = page_tables_write(gm);
	if (!ret)
		ret = rng_seed_write(gm);
	return ret;
}

static int boot_params_write(struct gmem *gm, const struct boot_config *cfg,
			     const struct boot_image *image, const struct boot_state *out)
{
	struct boot_params bp;
	int ret;

	memset(&bp, 0, sizeof(bp));
	bp.hdr = image->hdr;
	bp.hdr.type_of_loader = LOADER_UNREGISTERED;
	bp.hdr.loadflags = LOADED_HIGH;
	bp.hdr.code32_start = (u32)image->gpa;
	bp.hdr.vid_mode = 0xFFFF;
	bp.hdr.cmd_line_ptr = LAYOUT_CMDLINE;
	bp.hdr.setup_data = LAYOUT_SETUP_DATA;
	bp.hdr.ramdisk_image = (u32)out->initrd_gpa;
	bp.hdr.ramdisk_size = (u32)out->initrd_bytes;
	bp.ext_ramdisk_image = (u32)(out->initrd_gpa >> 32);
	bp.ext_ramdisk_size = (u32)(out->initrd_bytes >> 32);
	bp.acpi_rsdp_addr = cfg->rsdp_gpa;
	ret = e820_fill(gm, cfg, &bp);
	return ret ? ret : gmem_write(gm, LAYOUT_BOOT_PARAMS, &bp, sizeof(bp));
}

static int image_load(struct gmem *gm, const struct file *f, struct boot_image *image,
		      struct error *err)
{
	u64 low_end = ram_end_below(gm, LAYOUT_HIGH_GPA);
	u8 magic[SELFMAG];
	int ret;

	memset(image, 0, sizeof(*image));
	if (f->bytes < sizeof(magic))
		return error_set(err, -ENOEXEC, "%s: not a Linux kernel (too short)", f->name);
	ret = file_read(f, 0, magic, sizeof(magic), err);
	if (ret)
		return ret;
	if (!memcmp(magic, ELFMAG, SELFMAG))
		return elf_load(gm, f, image, err);
	return bzimage_load(gm, f, low_end, image, err);
}

int boot_load(struct gmem *gm, const struct boot_config *cfg, struct boot_state *out,
	      struct error *err)
{
	struct boot_image image;
	struct file f;
	int ret;

	memset(out, 0, sizeof(*out));
	ret = file_open(cfg->kernel, &f, err);
	if (ret)
		return ret;
	f.into = cfg->backing;
	ret = image_load(gm, &f, &image, err);
	file_close(&f);
	if (!ret)
		ret = initrd_load(gm, cfg, &image, out, err);
	if (!ret)
		ret = cmdline_load(gm, cfg, &image, err);
	if (ret)
		return ret;
	ret = low_memory_write(gm);
	if (!ret)
		ret = boot_params_write(gm, cfg, &image, out);
	if (ret)
		return error_set(err, ret, "the machine has no usable low memory");
	out->rip = image.entry;
	out->rsi = LAYOUT_BOOT_PARAMS;
	out->rsp = LAYOUT_STACK;
	out->kernel_gpa = image.gpa;
	out->kernel_end = image.end;
	out->elf = image.elf;
	memcpy(out->version, image.version, sizeof(out->version));
	return 0;
}

void boot_regs(const struct boot_state *boot, struct engine_regs *regs)
{
	memset(regs, 0, sizeof(*regs));
	regs->rip = boot->rip;
	regs->rsi = boot->rsi;
	regs->rsp = boot->rsp;
	regs->rflags = 2;
}

void boot_sregs(const struct boot_state *boot, struct engine_sregs *sregs)
{
	const struct engine_segment data = { 0, 0xFFFFFFFF, SEL_DATA, ATTR_DATA };

	sregs->cs = (struct engine_segment){ 0, 0xFFFFFFFF, SEL_CODE, ATTR_CODE64 };
	sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss = data;
	sregs->tr = (struct engine_segment){ 0, 0xFFFF, SEL_TSS, ATTR_TSS };
	sregs->ldt = (struct engine_segment){ 0, 0xFFFF, 0, ATTR_LDT };
	sregs->gdt = (struct engine_table){ LAYOUT_GDT, sizeof(boot_gdt) - 1 };
	sregs->idt = (struct engine_table){ 0, 0 };
	sregs->cr0 = CR0_PE | CR0_ET | CR0_NE | CR0_PG;
	sregs->cr2 = 0;
	sregs->cr3 = LAYOUT_PAGE_TABLES;
	sregs->cr4 = CR4_PAE;
	sregs->efer = EFER_LME | EFER_LMA;
}
