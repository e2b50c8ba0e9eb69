// SPDX-License-Identifier: MIT
/*
 * A child's VP in any mode, with any registers, page tables and code, that stops
 * for any reason: the parent gets one message, and the VP is left with nothing of
 * the engine's to do.
 */
#include "core/child_test.h"
#include "core/intercept.h"
#include "core/walk.h"
#include "core_fuzz.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t len);

#define RAM_BYTES (64 * KIB)
#define PAGES	  (RAM_BYTES / PAGE_BYTES)
#define DEVICE	  0x4000000ull

/* Registers are mostly addresses that mean something. */
static u64 address(struct fuzz *f)
{
	u64 how = fuzz_take(f, 1);

	switch (how & 7) {
	case 0:
		return fuzz_take(f, 8);
	case 1:
		return DEVICE + (how >> 3);
	case 2:
		return RAM_BYTES - (how >> 3);
	case 3:
		return how >> 3;
	default:
		return fuzz_take(f, 2) % RAM_BYTES;
	}
}

/* Identity for what the input does not say otherwise. */
static void tables(struct fuzz *f, struct engine_sregs *s)
{
	u64 *root = (u64 *)(void *)f->ct.ram;

	root[0] = PAGE_BYTES | 7;
	root[PAGE_BYTES / 8] = 0x87;
	s->cr3 = 0;
	for (u64 n = fuzz_take(f, 1) & 15; n; n--) {
		u64 at = fuzz_take(f, 2) % (4 * PAGE_BYTES) & ~7ull;
		u64 entry = fuzz_take(f, 1) | (fuzz_take(f, 1) % PAGES) << PAGE_SHIFT;

		entry |= fuzz_take(f, 1) << 56;
		memcpy(f->ct.ram + at, &entry, sizeof(entry));
	}
	if (fuzz_take(f, 1) == 0)
		s->cr3 = fuzz_take(f, 8);
}

static void mode(struct fuzz *f)
{
	static const u64 cr4[] = { 0, 0, BIT64(4), BIT64(5), BIT64(5), BIT64(5) | BIT64(12) };
	struct fake_vcpu *v = fake_vcpu(f->ct.vcpu[0]);
	u64 how = fuzz_take(f, 1), kind = how % 6;
	struct engine_sregs *s = &v->sregs;

	*s = (struct engine_sregs){ .cr0 = !!kind | (kind > 1 ? BIT64(31) : 0) |
					   (how & 0x40 ? BIT64(16) : 0),
				    .cr4 = cr4[kind] | (how & 0x80 ? BIT64(20) | BIT64(21) : 0),
				    .efer = kind > 3 ? BIT64(10) | BIT64(11) : 0 };
	s->cs.attributes = (u16)fuzz_take(f, 2);
	s->ss.attributes = (u16)fuzz_take(f, 2);
	s->cs.base = s->ds.base = s->fs.base = address(f);
	s->idt.base = s->gdt.base = s->tr.base = address(f);
	s->idt.limit = s->gdt.limit = (u16)fuzz_take(f, 2);
	if (fuzz_take(f, 1) & 7)
		s->cs.base = s->ds.base = 0;
	tables(f, s);
}

static void registers(struct fuzz *f)
{
	u64 *r = (u64 *)(void *)&fake_vcpu(f->ct.vcpu[0])->regs;

	for (u32 i = 0; i < sizeof(struct engine_regs) / 8; i++)
		r[i] = address(f);
	fake_vcpu(f->ct.vcpu[0])->events.injected = fuzz_take(f, 1) & 3;
	for (u32 i = 0; i < PAGES; i++)
		child_test.access[i] = GPA_WRITABLE;
	child_test.access[fuzz_below(f, PAGES)] = fuzz_take(f, 1) & 3;
}

static void code(struct fuzz *f)
{
	u64 rip = f->ct.vcpu[0]->regs->rip;
	u8 bytes[32];
	u32 n = fuzz_below(f, sizeof(bytes)), back = fuzz_below(f, 16);

	for (u32 i = 0; i < n; i++)
		bytes[i] = (u8)fuzz_take(f, 1);
	if (n == 2) /* RDMSR or WRMSR at RIP, more often than by chance */
		memcpy(bytes, bytes[0] & 1 ? "\x0F\x30" : "\x0F\x32", 2);
	back = n == 2 ? 0 : back;
	gmem_write(&f->ct.gmem, rip % RAM_BYTES < back ? 0 : rip % RAM_BYTES - back, bytes, n);
}

static u32 power_of_two(struct fuzz *f, u32 most)
{
	return 1u << fuzz_below(f, most);
}

static void exit_any(struct fuzz *f)
{
	static u8 data[64];
	struct vp *vp = f->ct.vp[0];
	struct engine_exit *e = &vp->vcpu->exit;
	u64 how = fuzz_take(f, 1);

	child_test.intercepts = 0;
	fake_vcpu(vp->vcpu)->completed = false;
	for (u32 i = 0; i < 8; i++)
		data[i] = (u8)fuzz_take(f, 1);
	*e = (struct engine_exit){ .kind = ENGINE_EXIT_INTR };
	switch (how & 7) {
	case 0:
	case 1:
		e->kind = ENGINE_EXIT_IO;
		e->io.port = how & 8 ? (u16)vp->vcpu->regs->rdx : (u16)fuzz_take(f, 1);
		e->io.size = (u8)power_of_two(f, 3);
		e->io.write = how & 16;
		e->io.count = 1;
		e->io.data = data;
		intercept_io(vp, e);
		break;
	case 2:
	case 3:
	case 4:
		e->kind = ENGINE_EXIT_MMIO;
		e->mmio.gpa = address(f);
		e->mmio.size = how & 32 ? (u8)(1 + fuzz_below(f, 8)) : (u8)power_of_two(f, 4);
		e->mmio.write = how & 16;
		e->mmio.data = data;
		intercept_mmio(vp, e);
		break;
	case 5:
		e->kind = ENGINE_EXIT_MEMORY;
		e->memory.gpa = ~0ull;
		intercept_memory(vp, e);
		if (!child_test.intercepts)
			return;
		break;
	case 6:
		e->kind = ENGINE_EXIT_ERROR;
		if (!intercept_error(vp))
			return;
		break;
	default:
		e->kind = how & 16 ? ENGINE_EXIT_WRMSR : ENGINE_EXIT_RDMSR;
		e->msr.index = (u32)vp->vcpu->regs->rcx;
		if (how & 8)
			intercept_missing_page(vp, address(f));
		else if (!intercept_msr(vp, e))
			return;
	}
	assert(child_test.intercepts == 1);
	assert(child_test.vp.intercept.payload_bytes >= sizeof(struct hv_intercept_header));
	assert(e->kind == ENGINE_EXIT_MEMORY || fake_vcpu(vp->vcpu)->completed);
}

static void walk_any(struct fuzz *f)
{
	u64 gva = address(f), flags = fuzz_take(f, 2) & HV_TRANSLATE_FLAGS, gpa;
	u8 bytes[64];
	enum hv_translate_result result = walk(f->ct.vp[0], gva, flags, &gpa);

	assert(result <= HV_TRANSLATE_INTERCEPT);
	if (result == HV_TRANSLATE_SUCCESS)
		assert(gpa >> 52 == 0 && gpa % PAGE_BYTES == gva % PAGE_BYTES);
	assert(walk_read(f->ct.vp[0], gva, bytes, sizeof(bytes)) <= sizeof(bytes));
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t len)
{
	static const fuzz_step steps[] = { mode, registers, code, exit_any, exit_any, walk_any };
	static _Alignas(PAGE_BYTES) u8 ram[RAM_BYTES];
	static struct fuzz f;
	const struct core_test_config cfg = { .ram_bytes = RAM_BYTES, .ram = ram };

	log_set_level(LOG_ERROR);
	f = (struct fuzz){ .in = { data, len } };
	core_test_create(&f.ct, &cfg);
	child_test_begin(&f.ct);
	mode(&f);
	registers(&f);
	code(&f);
	for (u32 i = 0; f.in.len && i < FUZZ_STEPS_MAX; i++)
		steps[fuzz_below(&f, ARRAY_SIZE(steps))](&f);
	child_test_end(&f.ct);
	core_test_destroy(&f.ct);
	return 0;
}
