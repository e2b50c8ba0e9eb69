// SPDX-License-Identifier: MIT
/* An ELF64 executable, loaded by physical addresses. Memory beyond p_filesz is fresh, so zero. */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "machine/boot_image.h"
#include "machine/layout.h"

#define MAX_SEGMENTS 64
#define CMDLINE_MAX  2047 /* COMMAND_LINE_SIZE of x86 Linux, which an ELF does not tell */

static int header_check(const struct file *f, const Elf64_Ehdr *eh, struct error *err)
{
	if (memcmp(eh->e_ident, ELFMAG, SELFMAG) || eh->e_ident[EI_CLASS] != ELFCLASS64 ||
	    eh->e_ident[EI_DATA] != ELFDATA2LSB || eh->e_machine != EM_X86_64)
		return error_set(err, -ENOEXEC, "%s: not an x86-64 ELF file", f->name);
	if (eh->e_type != ET_EXEC && eh->e_type != ET_DYN)
		return error_set(err, -ENOEXEC, "%s: not an executable ELF file", f->name);
	if (eh->e_phentsize != sizeof(Elf64_Phdr) || eh->e_phnum == 0 ||
	    eh->e_phnum > MAX_SEGMENTS || eh->e_phoff > f->bytes ||
	    eh->e_phnum * sizeof(Elf64_Phdr) > f->bytes - eh->e_phoff)
		return error_set(err, -ENOEXEC, "%s: broken ELF program headers", f->name);
	return 0;
}

static int segment_load(struct gmem *gm, const struct file *f, const Elf64_Phdr *ph,
			struct boot_image *out, struct error *err)
{
	void *dst;

	if (ph->p_filesz > ph->p_memsz || ph->p_offset > f->bytes ||
	    ph->p_filesz > f->bytes - ph->p_offset)
		return error_set(err, -ENOEXEC, "%s: truncated or broken ELF segment", f->name);
	if (ph->p_paddr < LAYOUT_HIGH_MEM)
		return error_set(err, -ENOEXEC, "%s: an ELF segment lies below 1 MiB", f->name);
	dst = gmem_ptr(gm, ph->p_paddr, ph->p_memsz);
	if (!dst)
		return error_set(err, -ENOMEM,
				 "%s: does not fit into memory: a segment of %llu KiB at 0x%llx",
				 f->name, (unsigned long long)(ph->p_memsz / KIB),
				 (unsigned long long)ph->p_paddr);
	out->gpa = min_u64(out->gpa, ph->p_paddr);
	out->end = max_u64(out->end, align_up(ph->p_paddr + ph->p_memsz, PAGE_BYTES));
	return file_read(f, ph->p_offset, dst, ph->p_filesz, err);
}

/* The physical entry: e_entry itself, or what lies behind it when it is a virtual address. */
static u64 entry_gpa(const Elf64_Ehdr *eh, const Elf64_Phdr *ph)
{
	for (u32 i = 0; i < eh->e_phnum; i++)
		if (ph[i].p_type == PT_LOAD && eh->e_entry - ph[i].p_paddr < ph[i].p_memsz)
			return eh->e_entry;
	for (u32 i = 0; i < eh->e_phnum; i++)
		if (ph[i].p_type == PT_LOAD && eh->e_entry - ph[i].p_vaddr < ph[i].p_memsz)
			return eh->e_entry - ph[i].p_vaddr + ph[i].p_paddr;
	return 0;
}

int elf_load(struct gmem *gm, const struct file *f, struct boot_image *out, struct error *err)
{
	Elf64_Phdr ph[MAX_SEGMENTS];
	Elf64_Ehdr eh;
	int ret;

	memset(out, 0, sizeof(*out));
	out->gpa = ~0ull;
	if (f->bytes < sizeof(eh))
		return error_set(err, -ENOEXEC, "%s: truncated ELF file", f->name);
	ret = file_read(f, 0, &eh, sizeof(eh), err);
	if (!ret)
		ret = header_check(f, &eh, err);
	if (!ret)
		ret = file_read(f, eh.e_phoff, ph, eh.e_phnum * sizeof(ph[0]), err);
	if (ret)
		return ret;
	for (u32 i = 0; i < eh.e_phnum; i++) {
		if (ph[i].p_type != PT_LOAD || !ph[i].p_memsz)
			continue;
		ret = segment_load(gm, f, &ph[i], out, err);
		if (ret)
			return ret;
	}
	out->entry = entry_gpa(&eh, ph);
	/* Only the first 4 GiB are mapped at entry. */
	if (!out->entry || out->entry >= LAYOUT_HIGH_GPA)
		return error_set(err, -ENOEXEC, "%s: the ELF entry point lies in no segment",
				 f->name);
	out->elf = true;
	out->cmdline_max = CMDLINE_MAX;
	out->initrd_max = LAYOUT_HIGH_GPA - 1;
	out->above_4g = true;
	return 0;
}

int boot_elf_version(const char *path, char out[BOOT_VERSION_BYTES])
{
	static const char banner[] = "Linux version ";
	const char *map, *at, *from, *end;
	struct file f;
	int ret;

	out[0] = '\0';
	ret = file_open(path, &f, NULL);
	if (ret)
		return ret;
	map = f.bytes ? mmap(NULL, f.bytes, PROT_READ, MAP_PRIVATE, f.fd, 0) : MAP_FAILED;
	ret = map == MAP_FAILED ? -EIO : 0;
	file_close(&f);
	if (ret)
		return ret;
	end = map + f.bytes;
	/* The same words stand in format strings: the banner goes on with a digit. */
	for (from = map; (at = memmem(from, (size_t)(end - from), banner, sizeof(banner) - 1));
	     from = at) {
		at += sizeof(banner) - 1;
		if (at < end && *at >= '0' && *at <= '9') {
			boot_version_copy(out, at, (u64)(end - at));
			break;
		}
	}
	munmap((void *)(uintptr_t)map, f.bytes);
	return 0;
}
