// SPDX-License-Identifier: MIT
/*
 * Intercepts on a real KVM: each instruction is executed until it stops, and the
 * VP must then be exactly what it was before, from where it can be repeated, and
 * from where it can go on behind the instruction. Prints TAP.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>

#include "core/child_test.h"
#include "core/intercept.h"
#include "engine/kvm/kvm.h"
#include "hvdef/intercept.h"

#define RAM    (4 * MIB)
#define CODE   0x8000ull
#define TABLES 0x100000ull
#define DATA   0x20000ull
#define STACK  0x30000ull
#define DENIED 0x40000ull /* RAM that the engine cannot reach in some tests */
#define DEVICE 0xC0000000ull
#define PORT   0x3F8
#define MARKER 0x99
#define DF     BIT64(10)
#define IF     BIT64(9)
#define TF     BIT64(8)

enum bits { B16, B32, B64 };

static struct engine engine;
static struct core_test ct;
static struct gmem_backing backing; /* the engine's view of a page can be denied */
static u32 tests, failures;

static void die(const char *what, int ret)
{
	printf("Bail out! %s: %d\n", what, ret);
	exit(1);
}

static void check(int ret, const char *what)
{
	if (ret < 0)
		die(what, ret);
}

static void create(void)
{
	const struct engine_vm_config vc = { .max_vcpus = 1,
					     .hypercall_port = HYPERCALL_PORT,
					     .trap_msrs = true,
					     .trap_unknown_msrs = true };
	const struct partition_config pc = { .max_vps = 1,
					     .max_lps = 1,
					     .physical_bits = TEST_PHYSICAL_BITS };
	struct engine_cpuid leaves[256];
	u32 count = 256;

	check(kvm_engine_open(&engine), "KVM");
	check(engine_vm_create(&engine, &vc, &ct.vm), "VM");
	ct.ram_bytes = RAM;
	check(gmem_backing_create(&backing, "test", RAM, true), "RAM");
	ct.ram = backing.hva;
	check(ct.vm->ops->vm_map(ct.vm, 0, RAM, backing.guest, true), "slot");
	check(gmem_init(&ct.gmem), "memory");
	check(gmem_add(&ct.gmem, 0, RAM, ct.ram, GMEM_RAM), "memory");
	check(ct.vm->ops->vcpu_create(ct.vm, 0, &ct.vcpu[0]), "vCPU");
	check(engine.ops->cpuid_supported(engine.ctx, leaves, &count), "CPUID");
	check(ct.vcpu[0]->ops->vcpu_set_cpuid(ct.vcpu[0], leaves, count), "CPUID");
	check(refclock_init(&ct.clock, ct.vm), "clock");
	ct.timers = timer_service_create(refclock_now_ns, &ct.clock, true);
	hypervisor_init(&ct.hv, "hv", &ct.clock, ct.timers);
	check(partition_create(&ct.hv, &pc, &ct.gmem, ct.vm, &core_test_ops, &ct, &ct.p),
	      "partition");
	check(vp_create(ct.p, ct.vcpu[0], &ct.vp[0]), "VP");
	child_test_begin(&ct);
}

/* Registers that KVM serves, some of them without a stop of the processor. */
static const struct msr_exit {
	u32 index;
	bool read, write;
} msr_exits[] = {
	{ 0x10, true, true },	     { 0x1B, false, true },	 { 0x174, true, true },
	{ 0xC0000080, false, true }, { 0xC0000100, true, true }, { 0xC0010015, true, false },
};

static void take_msrs(bool take)
{
	static const u32 local_apics[] = { 0x6E0, 0x800, 0x80B, 0x830, 0x8FF };

	for (u32 i = 0; i < ARRAY_SIZE(msr_exits); i++)
		check(ct.vm->ops->vm_msr_exits(ct.vm, msr_exits[i].index, take && msr_exits[i].read,
					       take && msr_exits[i].write),
		      "a register that exits");
	for (u32 i = 0; i < ARRAY_SIZE(local_apics); i++)
		if (ct.vm->ops->vm_msr_exits(ct.vm, local_apics[i], true, false) != -EOPNOTSUPP)
			die("a register of the local APIC", (int)i);
	check(ct.vm->ops->vm_msr_exits(ct.vm, 0x12345678, true, true), "one there is not");
}

static struct engine_segment flat(u16 type, enum bits bits)
{
	const u16 mode = bits == B16 ? 0 : bits == B32 ? BIT(14) | BIT(15) : BIT(13) | BIT(15);

	return (struct engine_segment){ .limit = bits == B16 ? 0xFFFF : ~0u,
					.selector = bits == B16 ? 0
						    : type & 8	? 0x10
								: 0x18,
					.attributes = (u16)(0x90 | type | mode) };
}

static void enter(enum bits bits)
{
	u64 *pml4 = (u64 *)(void *)(ct.ram + TABLES);
	struct engine_sregs s;

	pml4[0] = (TABLES + PAGE_BYTES) | 7;
	for (u64 i = 0; i < 4; i++)
		pml4[PAGE_BYTES / 8 + i] = i << 30 | 0xE7;
	check(ct.vcpu[0]->ops->vcpu_get_sregs(ct.vcpu[0], &s), "registers");
	s.cs = flat(0xB, bits);
	s.ds = s.es = s.fs = s.gs = s.ss = flat(3, bits == B64 ? B32 : bits);
	s.cr3 = TABLES;
	s.cr4 = (bits == B64 ? BIT(5) : 0) | BIT(9) | BIT(10);
	s.cr0 = bits == B16 ? 0x10 : bits == B32 ? 0x11 : 0x11 | BIT(31);
	s.efer = bits == B64 ? BIT(10) | BIT(8) : 0;
	check(ct.vcpu[0]->ops->vcpu_set_sregs(ct.vcpu[0], &s), "registers");
}

struct row {
	const char *what;
	enum bits bits;
	const char *code;
	u8 length;
	struct engine_regs regs;
	u32 type;
	u8 pass; /* instructions of the code that are executed before it stops, in bytes */
	bool memory_changes; /* what the instruction writes is written for a moment */
	bool denied;	     /* the page at DENIED cannot be reached */
};

#define IO	HV_MESSAGE_X64_IO_PORT
#define MMIO	HV_MESSAGE_UNMAPPED_GPA
#define NO_PAGE HV_MESSAGE_GPA_INTERCEPT
#define R_IO                                                                                       \
	{                                                                                          \
		.rdx = PORT, .rax = 0x1122334455667788                                             \
	}
#define R_INS                                                                                      \
	{                                                                                          \
		.rdx = PORT, .rdi = DATA, .rcx = 5                                                 \
	}
#define R_OUTS                                                                                     \
	{                                                                                          \
		.rdx = PORT, .rsi = DATA, .rcx = 3                                                 \
	}
#define MSR HV_MESSAGE_X64_MSR
#define R_MSR(msr)                                                                                 \
	{                                                                                          \
		.rcx = msr, .rax = 0x1122334455667788, .rdx = 0x99AABBCCDDEEFF00                   \
	}
#define UNKNOWN	  0x12345678 /* that KVM does not know */
#define SYNTHETIC 0x40000003
#define R_MMIO                                                                                     \
	{                                                                                          \
		.rbx = DEVICE, .rax = 0x1122334455667788, .rcx = 9                                 \
	}
#define R_DENIED                                                                                   \
	{                                                                                          \
		.rbx = DENIED, .rax = 0x1122334455667788, .rcx = 9                                 \
	}

static const struct row rows[] = {
	{ "in al, imm8", B64, "\xE4\x71", 2, R_IO, IO },
	{ "in eax, dx", B64, "\xED", 1, R_IO, IO },
	{ "in ax, dx", B64, "\x66\xED", 2, R_IO, IO },
	{ "in al, dx in 32 bits", B32, "\xEC", 1, R_IO, IO },
	{ "in al, dx in 16 bits", B16, "\xEC", 1, R_IO, IO },
	{ "in eax, dx in 16 bits", B16, "\x66\xED", 2, R_IO, IO },
	{ "out imm8, al", B64, "\xE6\x71", 2, R_IO, IO },
	{ "out 0x7e, al", B64, "\xE6\x7E", 2, R_IO, IO },
	{ "out dx, eax", B64, "\xEF", 1, R_IO, IO },
	{ "out dx, ax in 16 bits", B16, "\xEF", 1, R_IO, IO },
	{ "sti; out dx, al", B64, "\xFB\xEE", 2, R_IO, IO, 1 },
	{ "sti; in al, dx", B64, "\xFB\xEC", 2, R_IO, IO, 1 },
	{ "insb", B64, "\x6C", 1, R_INS, IO, 0, true },
	{ "rep insw", B64, "\xF3\x66\x6D", 3, R_INS, IO, 0, true },
	{ "rep insd downwards",
	  B64,
	  "\xF3\x6D",
	  2,
	  { .rdx = PORT, .rdi = DATA, .rcx = 5, .rflags = DF },
	  IO,
	  0,
	  true },
	{ "rep insb in 16 bits",
	  B16,
	  "\xF3\x6C",
	  2,
	  { .rdx = PORT, .rdi = 0x9000, .rcx = 5 },
	  IO,
	  0,
	  true },
	{ "rep insb over 5000 bytes",
	  B64,
	  "\xF3\x6C",
	  2,
	  { .rdx = PORT, .rdi = DATA, .rcx = 5000 },
	  IO,
	  0,
	  true },
	{ "outsb", B64, "\x6E", 1, R_OUTS, IO },
	{ "rep outsb", B64, "\xF3\x6E", 2, R_OUTS, IO },
	{ "rep outsb, one", B64, "\xF3\x6E", 2, { .rdx = PORT, .rsi = DATA, .rcx = 1 }, IO },
	{ "rep outsw downwards",
	  B32,
	  "\x66\xF3\x6F",
	  3,
	  { .rdx = PORT, .rsi = DATA, .rcx = 3, .rflags = DF },
	  IO },

	{ "rdmsr", B64, "\x0F\x32", 2, R_MSR(UNKNOWN), MSR },
	{ "wrmsr", B64, "\x0F\x30", 2, R_MSR(UNKNOWN), MSR },
	{ "rdmsr of a synthetic one", B64, "\x0F\x32", 2, R_MSR(SYNTHETIC), MSR },
	{ "wrmsr of a synthetic one", B64, "\x0F\x30", 2, R_MSR(SYNTHETIC), MSR },
	{ "rex.w rdmsr", B64, "\x48\x0F\x32", 3, R_MSR(UNKNOWN), MSR },
	{ "rdmsr of the TSC", B64, "\x0F\x32", 2, R_MSR(0x10), MSR },
	{ "wrmsr of the TSC", B64, "\x0F\x30", 2, R_MSR(0x10), MSR },
	{ "wrmsr of the APIC's base", B64, "\x0F\x30", 2, R_MSR(0x1B), MSR },
	{ "rdmsr of SYSENTER_CS", B64, "\x0F\x32", 2, R_MSR(0x174), MSR },
	{ "wrmsr of SYSENTER_CS", B64, "\x0F\x30", 2, R_MSR(0x174), MSR },
	{ "wrmsr of EFER", B64, "\x0F\x30", 2, R_MSR(0xC0000080), MSR },
	{ "rdmsr of FS_BASE", B64, "\x0F\x32", 2, R_MSR(0xC0000100), MSR },
	{ "wrmsr of FS_BASE", B64, "\x0F\x30", 2, R_MSR(0xC0000100), MSR },
	{ "rdmsr of HWCR", B64, "\x0F\x32", 2, R_MSR(0xC0010015), MSR },
	{ "rdmsr in 32 bits", B32, "\x0F\x32", 2, R_MSR(UNKNOWN), MSR },
	{ "wrmsr in 16 bits", B16, "\x0F\x30", 2, R_MSR(UNKNOWN), MSR },
	{ "sti; rdmsr", B64, "\xFB\x0F\x32", 3, R_MSR(UNKNOWN), MSR, 1 },
	{ "sti; wrmsr", B64, "\xFB\x0F\x30", 3, R_MSR(UNKNOWN), MSR, 1 },

	{ "mov eax, [rbx]", B64, "\x8B\x03", 2, R_MMIO, MMIO },
	{ "mov eax, [rbx] in 32 bits", B32, "\x8B\x03", 2, R_MMIO, MMIO },
	{ "sti; mov eax, [rbx]", B64, "\xFB\x8B\x03", 3, R_MMIO, MMIO, 1 },
	{ "mov rax, [] across two pages", B64, "\x48\x8B\x83\xFD\x0F\0\0", 7, R_MMIO, MMIO },
	{ "movzx eax, byte [rbx]", B64, "\x0F\xB6\x03", 3, R_MMIO, MMIO },
	{ "add [rbx], eax", B64, "\x01\x03", 2, R_MMIO, MMIO },
	{ "lock inc dword [rbx]", B64, "\xF0\xFF\x03", 3, R_MMIO, MMIO },
	{ "xchg [rbx], eax", B64, "\x87\x03", 2, R_MMIO, MMIO },
	{ "lock cmpxchg [rbx], ecx", B64, "\xF0\x0F\xB1\x0B", 4, R_MMIO, MMIO },
	{ "div dword [rbx]: by the zero it is given", B64, "\xF7\x33", 2, R_MMIO, MMIO },
	{ "push [rbx]", B64, "\xFF\x33", 2, R_MMIO, MMIO, 0, true },
	{ "movups xmm1, [rbx]", B64, "\x0F\x10\x0B", 3, R_MMIO, MMIO },
	{ "movdqu xmm1, [rbx]", B64, "\xF3\x0F\x6F\x0B", 4, R_MMIO, MMIO },
	{ "rep movsb from it",
	  B64,
	  "\xF3\xA4",
	  2,
	  { .rsi = DEVICE, .rdi = DATA, .rcx = 9 },
	  MMIO,
	  0,
	  true },
	{ "rep movsd within it",
	  B64,
	  "\xF3\xA5",
	  2,
	  { .rsi = DEVICE, .rdi = DEVICE + 64, .rcx = 9 },
	  MMIO },
	{ "lodsd", B64, "\xAD", 1, { .rsi = DEVICE }, MMIO },
	{ "repne scasb", B64, "\xF2\xAE", 2, { .rdi = DEVICE, .rax = 7, .rcx = 9 }, MMIO },

	{ "mov [rbx], eax", B64, "\x89\x03", 2, R_MMIO, MMIO },
	{ "mov [rbx], rax", B64, "\x48\x89\x03", 3, R_MMIO, MMIO },
	{ "mov [rbx], ah", B64, "\x88\x23", 2, R_MMIO, MMIO },
	{ "mov [], rax across two pages", B64, "\x48\x89\x83\xFD\x0F\0\0", 7, R_MMIO, MMIO },
	{ "mov dword [rbx], imm", B64, "\xC7\x03\x78\x56\x34\x12", 6, R_MMIO, MMIO },
	{ "mov [ebx], eax in 32 bits", B32, "\x89\x03", 2, R_MMIO, MMIO },
	{ "setz [rbx]", B64, "\x0F\x94\x03", 3, R_MMIO, MMIO },
	{ "movaps [rbx], xmm2", B64, "\x0F\x29\x13", 3, R_MMIO, MMIO },
	{ "movntdq [rbx], xmm2", B64, "\x66\x0F\xE7\x13", 4, R_MMIO, MMIO },
	{ "push rax", B64, "\x50", 1, { .rax = 0x77, .rsp = DEVICE + 16 }, MMIO },
	{ "push imm8", B64, "\x6A\xFE", 2, { .rsp = DEVICE + 16 }, MMIO },
	{ "push eax in 32 bits", B32, "\x50", 1, { .rax = 0x77, .rsp = DEVICE + 16 }, MMIO },
	{ "pop [rbx]", B64, "\x8F\x03", 2, R_MMIO, MMIO },
	{ "stosb", B64, "\xAA", 1, { .rax = 5, .rdi = DEVICE }, MMIO },
	{ "rep stosd", B64, "\xF3\xAB", 2, { .rax = 5, .rdi = DEVICE, .rcx = 7 }, MMIO },
	{ "rep stosd, one", B64, "\xF3\xAB", 2, { .rax = 5, .rdi = DEVICE, .rcx = 1 }, MMIO },
	{ "rep stosq downwards",
	  B64,
	  "\xF3\x48\xAB",
	  3,
	  { .rax = 5, .rdi = DEVICE + 64, .rcx = 3, .rflags = DF },
	  MMIO },
	{ "movsd to it", B64, "\xA5", 1, { .rsi = DATA, .rdi = DEVICE }, MMIO },
	{ "rep movsb to it", B64, "\xF3\xA4", 2, { .rsi = DATA, .rdi = DEVICE, .rcx = 9 }, MMIO },
	{ "a trap after each instruction: in",
	  B64,
	  "\xEC",
	  1,
	  { .rdx = PORT, .rax = 1, .rflags = TF },
	  IO },
	{ "a trap after each instruction: rdmsr",
	  B64,
	  "\x0F\x32",
	  2,
	  { .rcx = UNKNOWN, .rax = 1, .rflags = TF },
	  MSR },
	{ "a trap after each instruction: mov",
	  B64,
	  "\x8B\x03",
	  2,
	  { .rbx = DEVICE, .rax = 1, .rflags = TF },
	  MMIO },

	{ "mov eax, [rbx], no page", B64, "\x8B\x03", 2, R_DENIED, NO_PAGE, .denied = true },
	{ "mov [rbx], eax, no page", B64, "\x89\x03", 2, R_DENIED, NO_PAGE, .denied = true },
	{ "lock inc [rbx], no page", B64, "\xF0\xFF\x03", 3, R_DENIED, NO_PAGE, .denied = true },
	{ "push, no page", B64, "\x50", 1, { .rsp = DENIED + 8 }, NO_PAGE, .denied = true },
	{ "call, no page", B64, "\xE8\0\0\0\0", 5, { .rsp = DENIED + 8 }, NO_PAGE, .denied = true },
	{ "rep stosb, no page",
	  B64,
	  "\xF3\xAA",
	  2,
	  { .rdi = DENIED, .rcx = 9 },
	  NO_PAGE,
	  .denied = true },
};

/* What the row stops with; the VP ran until then. */
static bool stop(void)
{
	struct vp *vp = ct.vp[0];
	struct engine_exit *e = &vp->vcpu->exit;

	child_test.intercepts = 0;
	for (u32 i = 0; i < 10; i++) {
		check(engine_vcpu_run(vp->vcpu), "run");
		if (e->kind == ENGINE_EXIT_IO)
			intercept_io(vp, e);
		else if (e->kind == ENGINE_EXIT_MMIO)
			intercept_mmio(vp, e);
		else if (e->kind == ENGINE_EXIT_MEMORY)
			intercept_memory(vp, e);
		else if (e->kind == ENGINE_EXIT_RDMSR || e->kind == ENGINE_EXIT_WRMSR)
			intercept_msr(vp, e);
		else if (e->kind != ENGINE_EXIT_INTR)
			break;
		if (child_test.intercepts)
			return true;
	}
	printf("# exit %u at RIP 0x%llx: %s\n", e->kind, (unsigned long long)vp->vcpu->regs->rip,
	       e->kind == ENGINE_EXIT_ERROR ? e->error.what : "");
	return false;
}

static bool same(const struct engine_regs *want, const char *when)
{
	const u64 *a = (const u64 *)(const void *)want;
	const u64 *b = (const u64 *)(const void *)ct.vcpu[0]->regs;
	bool equal = true;

	for (u32 i = 0; i < sizeof(*want) / 8; i++) {
		/* The resume flag comes and goes with parts of repeated instructions. */
		u64 differ = (a[i] ^ b[i]) & ~(i == 17 ? BIT64(16) : 0);

		if (differ)
			printf("# %s: register %u is 0x%llx, not 0x%llx\n", when, i,
			       (unsigned long long)b[i], (unsigned long long)a[i]);
		equal = equal && !differ;
	}
	return equal;
}

static bool same_vectors(void)
{
	u8 xmm[16][16];

	check(ct.vcpu[0]->ops->vcpu_get_xmm(ct.vcpu[0], xmm), "XMM");
	for (u32 i = 0; i < 16; i++)
		if (xmm[i][0] != i || xmm[i][15] != i) {
			printf("# XMM%u has changed\n", i);
			return false;
		}
	return true;
}

static bool stopped_at(const struct row *r, const struct engine_regs *was, const u8 *ram,
		       const char *when)
{
	const struct hv_message *m = &child_test.vp.intercept;
	const struct hv_intercept_header *h = (const void *)m->payload;
	struct engine_events ev;
	bool fine;

	if (!stop())
		return false;
	fine = same(was, when) && same_vectors();
	if (m->type != r->type || h->rip != was->rip ||
	    (h->length_cr8 & 15) != r->length - r->pass) {
		printf("# %s: message 0x%x, RIP 0x%llx, length %u\n", when, m->type,
		       (unsigned long long)h->rip, h->length_cr8 & 15);
		fine = false;
	}
	check(ct.vcpu[0]->ops->vcpu_get_events(ct.vcpu[0], &ev), "events");
	if (ev.injected || ev.interrupt_shadow != (!!r->pass)) {
		printf("# %s: event %u, shadow %u\n", when, ev.injected, ev.interrupt_shadow);
		fine = false;
	}
	if (!r->memory_changes && memcmp(ram, ct.ram, TABLES) != 0) {
		printf("# %s: memory has changed\n", when);
		fine = false;
	}
	memcpy(ct.ram, ram, TABLES);
	return fine;
}

static void prepare(const struct row *r, struct engine_regs *regs)
{
	struct engine_vcpu *v = ct.vcpu[0];
	struct engine_events none = { 0 };
	u8 xmm[16][16];

	memset(ct.ram, 0x90, TABLES);
	memset(ct.ram + DATA, 0x5A, PAGE_BYTES);
	memcpy(ct.ram + CODE, r->code, r->length);
	memcpy(ct.ram + CODE + r->length, "\xE6\x99", 2);
	for (u32 i = 0; i < 16; i++)
		memset(xmm[i], (int)i, 16);
	check(v->ops->vcpu_set_xmm(v, (const u8(*)[16])xmm), "XMM");
	check(v->ops->vcpu_set_events(v, &none), "events");
	enter(r->bits);
	*regs = r->regs;
	regs->rip = CODE;
	regs->rflags |= 2;
	regs->rsp = regs->rsp ? regs->rsp : STACK;
	*v->regs = *regs;
	v->regs_dirty = true;
}

/* Behind the instruction, as a parent leaves it: the next thing is the marker. */
static bool goes_on(const struct row *r)
{
	struct engine_vcpu *v = ct.vcpu[0];

	v->regs->rip = CODE + r->length;
	v->regs->rflags &= ~TF;
	v->regs->rax = 0xAB;
	v->regs_dirty = true;
	do
		check(engine_vcpu_run(v), "run");
	while (v->exit.kind == ENGINE_EXIT_INTR);
	if (v->exit.kind == ENGINE_EXIT_IO && v->exit.io.port == MARKER && v->regs->rax == 0xAB &&
	    v->regs->rdx == r->regs.rdx) {
		intercept_io(ct.vp[0], &v->exit);
		return v->regs->rip == CODE + r->length;
	}
	printf("# goes on with exit %u at RIP 0x%llx, RAX 0x%llx\n", v->exit.kind,
	       (unsigned long long)v->regs->rip, (unsigned long long)v->regs->rax);
	return false;
}

static bool run(const struct row *r)
{
	static u8 ram[TABLES];
	struct engine_regs was;
	bool fine;

	prepare(r, &was);
	memcpy(ram, ct.ram, sizeof(ram));
	was.rip += r->pass;
	was.rflags |= r->pass ? IF : 0;
	child_test.access[DENIED / PAGE_BYTES] = r->denied ? GPA_NO_ACCESS : GPA_WRITABLE;
	mprotect(backing.guest + DENIED, PAGE_BYTES,
		 r->denied ? PROT_NONE : PROT_READ | PROT_WRITE);
	fine = stopped_at(r, &was, ram, "the first time") && stopped_at(r, &was, ram, "again");
	return fine && goes_on(r);
}

/* RDMSR is KVM's: the next stop is the marker behind it. */
static bool serves(u32 index, u64 want, u64 mask)
{
	const struct row r = {
		"rdmsr", B64, "\x0F\x32", 2, { .rcx = index, .rax = ~0ull, .rdx = ~0ull }
	};
	struct engine_vcpu *v = ct.vcpu[0];
	struct engine_regs was;
	u64 value;

	prepare(&r, &was);
	do
		check(engine_vcpu_run(v), "run");
	while (v->exit.kind == ENGINE_EXIT_INTR);
	value = v->regs->rdx << 32 | (u32)v->regs->rax;
	if (v->exit.kind == ENGINE_EXIT_IO && v->exit.io.port == MARKER && (value & mask) == want) {
		intercept_io(ct.vp[0], &v->exit);
		return true;
	}
	printf("# exit %u at RIP 0x%llx, value 0x%llx\n", v->exit.kind,
	       (unsigned long long)v->regs->rip, (unsigned long long)value);
	return false;
}

static void result(bool fine, const char *what)
{
	failures += !fine;
	printf("%sok %u - %s\n", fine ? "" : "not ", ++tests, what);
}

/* What is not intercepted is KVM's all the time, and what was is its again. */
static void run_served(void)
{
	result(serves(0xC0000080, 0x500, ~0ull), "EFER, of which writes are intercepted, is read");
	result(serves(0x1B, 0xFEE00900, ~0ull), "and the APIC's base");
	result(serves(0x175, 0, ~0ull), "and SYSENTER_ESP, of which nothing is");
	take_msrs(false);
	result(serves(0xC0000100, 0, ~0ull), "FS_BASE is read again");
	result(serves(0x174, 0, ~0ull), "and SYSENTER_CS");
	result(serves(0x10, 0, 0), "and the TSC");
}

int main(void)
{
	struct engine_regs warm;

	create();
	take_msrs(true);
	/* KVM takes XMM registers only from a vCPU that has used them. */
	prepare(&rows[0], &warm);
	if (!stop())
		die("the first run", 0);
	for (u32 i = 0; i < ARRAY_SIZE(rows); i++)
		result(run(&rows[i]), rows[i].what);
	run_served();
	printf("1..%u\n", tests);
	return failures != 0;
}
