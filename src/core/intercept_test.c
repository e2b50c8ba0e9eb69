// SPDX-License-Identifier: MIT
/*
 * Real instructions in RAM, stopped at as the engine does: what the parent is told
 * and what the VP's registers are afterwards.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/child_test.h"
#include "core/insn.h"
#include "core/intercept.h"
#include "hvdef/intercept.h"

#define CODE	0x8000ull
#define TABLES	0x100000ull /* 64-bit: linear is physical, in pages of 1 GiB */
#define DATA	0x20000ull
#define DEVICE	0xFE000000ull
#define DEVICE2 0xFE000010ull
#define RF	0x2ull
#define DF	BIT64(10)
#define PORT	0x3F8

static struct core_test ct;
static u8 data[1024];

enum bits { B16, B32, B64 };

static struct fake_vcpu *cpu(void)
{
	return fake_vcpu(ct.vcpu[0]);
}

static void enter(enum bits bits)
{
	const u16 flat = 0x93, db = BIT(14), l = BIT(13);
	struct engine_sregs *s = &cpu()->sregs;
	u64 *pml4 = (u64 *)(void *)(ct.ram + TABLES);

	memset(pml4, 0, 2 * PAGE_BYTES);
	pml4[0] = (TABLES + PAGE_BYTES) | 7;
	for (u64 i = 0; i < 4; i++)
		pml4[PAGE_BYTES / 8 + i] = i << 30 | 0x87;
	*s = (struct engine_sregs){ .cr0 = bits == B16	 ? 0
					   : bits == B32 ? 1
							 : BIT(31) | 1,
				    .cr3 = TABLES,
				    .cr4 = bits == B64 ? BIT(5) : 0,
				    .efer = bits == B64 ? BIT(10) | BIT(8) : 0,
				    .cr8 = 5 };
	s->ds.attributes = s->es.attributes = s->fs.attributes = flat;
	s->ss.attributes = bits == B32 ? flat | db : flat;
	s->cs.attributes = (u16)(0x9B | (bits == B64 ? l : bits == B32 ? db : 0));
	s->cs.selector = 0x10;
	cpu()->events = (struct engine_events){ 0 };
	cpu()->mode = (struct engine_mode){ 0, bits != B16, bits == B64 };
}

static int setup(void **state)
{
	const struct core_test_config cfg = { 0 };

	core_test_create(&ct, &cfg);
	child_test_begin(&ct);
	enter(B64);
	return 0;
}

static int teardown(void **state)
{
	child_test_end(&ct);
	core_test_destroy(&ct);
	return 0;
}

static void put(u64 gpa, const char *bytes, u32 n)
{
	/* What surrounds it is no instruction, or none that fits. */
	memset(ct.ram + gpa - 16, 0x90, 48);
	memcpy(ct.ram + gpa, bytes, n);
}

static void stop(const struct engine_exit *e, const struct engine_regs *regs)
{
	cpu()->regs = *regs;
	cpu()->completed = false;
	ct.vcpu[0]->exit = *e;
	ct.vcpu[0]->regs_dirty = false;
	child_test.intercepts = 0;
	fake_forget(ct.vm);
}

static void expect_regs(const char *what, const struct engine_regs *want)
{
	const u64 *a = (const u64 *)(const void *)want;
	const u64 *b = (const u64 *)(const void *)ct.vcpu[0]->regs;

	for (u32 i = 0; i < sizeof(*want) / 8; i++)
		if (a[i] != b[i])
			fail_msg("%s: register %u is 0x%llx, not 0x%llx", what, i,
				 (unsigned long long)b[i], (unsigned long long)a[i]);
	assert_true(cpu()->completed);
}

static const struct hv_message *message(void)
{
	return &child_test.vp.intercept;
}

static const struct hv_io_port_intercept *io_message(void)
{
	return (const void *)message()->payload;
}

static const struct hv_memory_intercept *memory_message(void)
{
	return (const void *)message()->payload;
}

/* Port I/O. */

struct io_row {
	const char *what;
	enum bits bits;
	const char *code;
	u32 length;
	bool write;
	u8 size;
	u16 port;
	bool after;		    /* RIP at the exit is behind the instruction */
	struct engine_regs at, was; /* at the exit, before; RIP is left out */
	u8 info;
	u32 flags;
};

#define DX .rdx = PORT
#define PLAIN                                                                                      \
	{                                                                                          \
		DX, .rax = 0x11223344                                                              \
	}

static const struct io_row io_rows[] = {
	{ "in al, imm8", B64, "\xE4\x71", 2, false, 1, 0x71, false, PLAIN, PLAIN, 1,
	  ENGINE_DROP_PORT },
	{ "in ax, imm8", B64, "\x66\xE5\x71", 3, false, 2, 0x71, false, PLAIN, PLAIN, 2,
	  ENGINE_DROP_PORT },
	{ "in eax, imm8", B64, "\xE5\x71", 2, false, 4, 0x71, false, PLAIN, PLAIN, 4,
	  ENGINE_DROP_PORT },
	{ "in al, dx", B64, "\xEC", 1, false, 1, PORT, false, PLAIN, PLAIN, 1, ENGINE_DROP_PORT },
	{ "in ax, dx", B64, "\x66\xED", 2, false, 2, PORT, false, PLAIN, PLAIN, 2,
	  ENGINE_DROP_PORT },
	{ "in eax, dx", B64, "\xED", 1, false, 4, PORT, false, PLAIN, PLAIN, 4, ENGINE_DROP_PORT },
	{ "in ax, dx in 16 bits", B16, "\xED", 1, false, 2, PORT, false, PLAIN, PLAIN, 2,
	  ENGINE_DROP_PORT },
	{ "in eax, dx in 16 bits", B16, "\x66\xED", 2, false, 4, PORT, false, PLAIN, PLAIN, 4,
	  ENGINE_DROP_PORT },
	{ "in eax, dx in 32 bits", B32, "\xED", 1, false, 4, PORT, false, PLAIN, PLAIN, 4,
	  ENGINE_DROP_PORT },

	{ "out imm8, al", B64, "\xE6\x7E", 2, true, 1, 0x7E, false, PLAIN, PLAIN, 1,
	  ENGINE_DROP_PORT },
	{ "out imm8, al, executed", B64, "\xE6\x7E", 2, true, 1, 0x7E, true, PLAIN, PLAIN, 1, 0 },
	{ "out imm8, ax", B64, "\x66\xE7\x7E", 3, true, 2, 0x7E, false, PLAIN, PLAIN, 2,
	  ENGINE_DROP_PORT },
	{ "out imm8, eax, executed", B32, "\xE7\x7E", 2, true, 4, 0x7E, true, PLAIN, PLAIN, 4, 0 },
	{ "out dx, al", B64, "\xEE", 1, true, 1, PORT, false, PLAIN, PLAIN, 1, ENGINE_DROP_PORT },
	{ "out dx, ax, executed", B64, "\x66\xEF", 2, true, 2, PORT, true, PLAIN, PLAIN, 2, 0 },
	{ "out dx, ax in 16 bits, executed", B16, "\xEF", 1, true, 2, PORT, true, PLAIN, PLAIN, 2,
	  0 },
	{ "out dx, eax", B32, "\xEF", 1, true, 4, PORT, false, PLAIN, PLAIN, 4, ENGINE_DROP_PORT },

	{ "insb",
	  B64,
	  "\x6C",
	  1,
	  false,
	  1,
	  PORT,
	  false,
	  { DX, .rdi = DATA },
	  { DX, .rdi = DATA },
	  1 | HV_IO_STRING,
	  0 },
	{ "insd",
	  B64,
	  "\x6D",
	  1,
	  false,
	  4,
	  PORT,
	  false,
	  { DX, .rdi = DATA },
	  { DX, .rdi = DATA },
	  4 | HV_IO_STRING,
	  0 },
	{ "rep insw",
	  B64,
	  "\xF3\x66\x6D",
	  3,
	  false,
	  2,
	  PORT,
	  false,
	  { DX, .rdi = DATA, .rcx = 8 },
	  { DX, .rdi = DATA, .rcx = 8 },
	  2 | HV_IO_STRING | HV_IO_REP,
	  ENGINE_DROP_REP },
	{ "rep insw in 16 bits, downwards",
	  B16,
	  "\xF3\x6D",
	  2,
	  false,
	  2,
	  PORT,
	  false,
	  { DX, .rdi = DATA, .rcx = 8, .rflags = DF },
	  { DX, .rdi = DATA, .rcx = 8, .rflags = DF },
	  2 | HV_IO_STRING | HV_IO_REP,
	  ENGINE_DROP_REP },

	{ "outsb",
	  B64,
	  "\x6E",
	  1,
	  true,
	  1,
	  PORT,
	  true,
	  { DX, .rsi = DATA + 1 },
	  { DX, .rsi = DATA },
	  1 | HV_IO_STRING,
	  0 },
	{ "outsw downwards",
	  B32,
	  "\x66\x6F",
	  2,
	  true,
	  2,
	  PORT,
	  true,
	  { DX, .rsi = DATA - 2, .rflags = DF },
	  { DX, .rsi = DATA, .rflags = DF },
	  2 | HV_IO_STRING,
	  0 },
	{ "rep outsb, more to come",
	  B64,
	  "\xF3\x6E",
	  2,
	  true,
	  1,
	  PORT,
	  false,
	  { DX, .rsi = DATA + 1, .rcx = 4 },
	  { DX, .rsi = DATA, .rcx = 5 },
	  1 | HV_IO_STRING | HV_IO_REP,
	  ENGINE_DROP_REP },
	{ "rep outsb, the last",
	  B64,
	  "\xF3\x6E",
	  2,
	  true,
	  1,
	  PORT,
	  false,
	  { DX, .rsi = DATA + 1 },
	  { DX, .rsi = DATA, .rcx = 1 },
	  1 | HV_IO_STRING | HV_IO_REP,
	  ENGINE_DROP_REP },
	{ "rep outsd downwards",
	  B64,
	  "\xF3\x6F",
	  2,
	  true,
	  4,
	  PORT,
	  false,
	  { DX, .rsi = DATA - 4, .rcx = 1, .rflags = DF },
	  { DX, .rsi = DATA, .rcx = 2, .rflags = DF },
	  4 | HV_IO_STRING | HV_IO_REP,
	  ENGINE_DROP_REP },
	{ "rep outsb with 32-bit addresses",
	  B64,
	  "\xF3\x67\x6E",
	  3,
	  true,
	  1,
	  PORT,
	  false,
	  { DX, .rsi = 0, .rcx = 4 },
	  { DX, .rsi = 0xFFFFFFFF, .rcx = 5 },
	  1 | HV_IO_STRING | HV_IO_REP,
	  ENGINE_DROP_REP },
	{ "rep outsb with 16-bit addresses",
	  B16,
	  "\xF3\x6E",
	  2,
	  true,
	  1,
	  PORT,
	  false,
	  { DX, .rsi = 0x70000, .rcx = 0xF0004 },
	  { DX, .rsi = 0x7FFFF, .rcx = 0xF0005 },
	  1 | HV_IO_STRING | HV_IO_REP,
	  ENGINE_DROP_REP },
};

static void run_io(const struct io_row *r)
{
	const struct engine_exit e = { .kind = ENGINE_EXIT_IO,
				       .io = { r->port, r->size, r->write, 1, data } };
	struct engine_regs at = r->at, was = r->was;
	const struct hv_io_port_intercept *m = io_message();

	enter(r->bits);
	put(CODE, r->code, r->length);
	was.rip = CODE;
	at.rip = CODE + (r->after ? r->length : 0);
	stop(&e, &at);
	intercept_io(ct.vp[0], &ct.vcpu[0]->exit);
	expect_regs(r->what, &was);
	if (child_test.intercepts != 1 || message()->type != HV_MESSAGE_X64_IO_PORT ||
	    m->port != r->port || m->info != r->info || m->header.rip != CODE ||
	    m->header.length_cr8 != (5 << 4 | r->length) || m->header.access != r->write ||
	    m->byte_count != 16 || memcmp(m->bytes, r->code, r->length) != 0)
		fail_msg("%s: message 0x%x, info 0x%x, RIP 0x%llx, length 0x%x", r->what,
			 message()->type, m->info, (unsigned long long)m->header.rip,
			 m->header.length_cr8);
	assert_int_equal(m->rax, was.rax);
	assert_int_equal(m->rcx, was.rcx);
	assert_int_equal(m->rsi, was.rsi);
	assert_int_equal(m->rdi, was.rdi);
	assert_int_equal(fake_last(ct.vm, FAKE_DROP).b, r->flags);
}

static void test_port_io(void **state)
{
	for (u32 i = 0; i < ARRAY_SIZE(io_rows); i++)
		run_io(&io_rows[i]);
}

static void test_an_executed_out_is_found_among_others(void **state)
{
	const struct engine_exit e = { .kind = ENGINE_EXIT_IO, .io = { 0x80, 1, true, 1, data } };
	struct engine_regs at = { .rip = CODE + 4, .rdx = 0x80 };

	put(CODE, "\xE6\x81\xE6\x80\xEC", 5); /* out 0x81; out 0x80; in al, dx */
	stop(&e, &at);
	intercept_io(ct.vp[0], &ct.vcpu[0]->exit);
	at.rip = CODE + 2;
	expect_regs("out", &at);
}

static void test_io_that_no_instruction_did(void **state)
{
	const struct engine_exit e = { .kind = ENGINE_EXIT_IO, .io = { 0x80, 1, true, 1, data } };
	const struct engine_regs at = { .rip = CODE };

	put(CODE, "\xE6\x81", 2);
	stop(&e, &at);
	intercept_io(ct.vp[0], &ct.vcpu[0]->exit);
	assert_int_equal(message()->type, HV_MESSAGE_UNRECOVERABLE_EXCEPTION);
	expect_regs("nothing", &at);
}

/* Memory-mapped I/O. */

struct mmio_row {
	const char *what;
	enum bits bits;
	const char *code;
	u32 length;
	bool write;
	u8 size;
	u64 gpa;
	bool after;
	struct engine_regs at, was;
	u64 value; /* written, first part */
	u64 gva;   /* 0: not known */
	u32 flags;
};

#define A                                                                                          \
	{                                                                                          \
		.rbx = DEVICE, .rax = 0x1122334455667788, .rsp = DATA, .rcx = 3                    \
	}

static const struct mmio_row mmio_rows[] = {
	{ "mov eax, [rbx]", B64, "\x8B\x03", 2, false, 4, DEVICE, false, A, A, 0, DEVICE, 0 },
	{ "mov eax, [rbx] in 32 bits", B32, "\x8B\x03", 2, false, 4, DEVICE, false, A, A, 0, DEVICE,
	  0 },
	{ "movzx eax, byte [rbx + 0x10]", B64, "\x0F\xB6\x43\x10", 4, false, 1, DEVICE2, false, A,
	  A, 0, DEVICE2, 0 },
	{ "mov eax, [rip + disp]",
	  B64,
	  "\x8B\x05\xFA\x7F\xFF\x7D",
	  6,
	  false,
	  4,
	  0x7E000000,
	  false,
	  { 0 },
	  { 0 },
	  0,
	  0x7E000000,
	  0 },
	{ "add [rbx], eax", B64, "\x01\x03", 2, false, 4, DEVICE, false, A, A, 0, DEVICE, 0 },
	{ "lock xchg [rbx], eax", B64, "\x87\x03", 2, false, 4, DEVICE, false, A, A, 0, DEVICE, 0 },
	{ "lock cmpxchg [rbx], ecx", B64, "\xF0\x0F\xB1\x0B", 4, false, 4, DEVICE, false, A, A, 0,
	  DEVICE, 0 },
	{ "push [rbx]", B64, "\xFF\x33", 2, false, 8, DEVICE, false, A, A, 0, DEVICE, 0 },
	{ "movups xmm1, [rbx]", B64, "\x0F\x10\x0B", 3, false, 8, DEVICE, false, A, A, 0, DEVICE,
	  ENGINE_DROP_VECTOR },
	{ "rep movsb from it",
	  B64,
	  "\xF3\xA4",
	  2,
	  false,
	  1,
	  DEVICE,
	  false,
	  { .rsi = DEVICE, .rdi = DATA, .rcx = 9 },
	  { .rsi = DEVICE, .rdi = DATA, .rcx = 9 },
	  0,
	  DEVICE,
	  ENGINE_DROP_REP },
	{ "mov eax, [] across two pages",
	  B64,
	  "\x8B\x03",
	  2,
	  false,
	  2,
	  DEVICE + 0x1000,
	  false,
	  { .rbx = DEVICE + 0xFFE },
	  { .rbx = DEVICE + 0xFFE },
	  0,
	  DEVICE + 0x1000,
	  0 },

	{ "mov [rbx], eax", B64, "\x89\x03", 2, true, 4, DEVICE, true, A, A, 0x55667788, DEVICE,
	  0 },
	{ "mov [rbx], rax", B64, "\x48\x89\x03", 3, true, 8, DEVICE, true, A, A, 0x1122334455667788,
	  DEVICE, 0 },
	{ "mov [rbx], ah", B64, "\x88\x23", 2, true, 1, DEVICE, true, A, A, 0x77, DEVICE, 0 },
	{ "mov [ebx], eax in 32 bits", B32, "\x89\x03", 2, true, 4, DEVICE, true, A, A, 0x55667788,
	  DEVICE, 0 },
	{ "mov dword [rbx], imm", B64, "\xC7\x03\x78\x56\x34\x12", 6, true, 4, DEVICE, true, A, A,
	  0x12345678, DEVICE, 0 },
	{ "mov qword [rbx], -1", B64, "\x48\xC7\x03\xFF\xFF\xFF\xFF", 7, true, 8, DEVICE, true, A,
	  A, ~0ull, DEVICE, 0 },
	{ "movbe [rbx], eax", B64, "\x0F\x38\xF1\x03", 4, true, 4, DEVICE, true, A, A, 0x88776655,
	  DEVICE, 0 },
	{ "mov [moffs], eax in 32 bits", B32, "\xA3\x10\x00\x00\xFE", 5, true, 4, DEVICE2, true, A,
	  A, 0x55667788, DEVICE2, 0 },
	{ "setz [rbx]", B64, "\x0F\x94\x03", 3, true, 1, DEVICE, true, A, A, 1, DEVICE, 0 },
	{ "movaps [rbx], xmm2", B64, "\x0F\x29\x13", 3, true, 8, DEVICE, true, A, A,
	  0x0202020202020202, DEVICE, 0 },
	{ "movsd [rbx], xmm2", B64, "\xF2\x0F\x11\x13", 4, true, 8, DEVICE, true, A, A,
	  0x0202020202020202, DEVICE, 0 },
	{ "mov [], rax across two pages",
	  B64,
	  "\x48\x89\x03",
	  3,
	  true,
	  2,
	  DEVICE + 0xFFE,
	  true,
	  { .rbx = DEVICE + 0xFFE, .rax = 0x1122334455667788 },
	  { .rbx = DEVICE + 0xFFE, .rax = 0x1122334455667788 },
	  0x7788,
	  DEVICE + 0xFFE,
	  0 },
	{ "push rax",
	  B64,
	  "\x50",
	  1,
	  true,
	  8,
	  DEVICE,
	  true,
	  { .rax = 0x77, .rsp = DEVICE },
	  { .rax = 0x77, .rsp = DEVICE2 - 8 },
	  0x77,
	  DEVICE,
	  0 },
	{ "push imm8",
	  B64,
	  "\x6A\xFE",
	  2,
	  true,
	  8,
	  DEVICE,
	  true,
	  { .rsp = DEVICE },
	  { .rsp = DEVICE2 - 8 },
	  ~1ull,
	  DEVICE,
	  0 },
	{ "push eax in 32 bits",
	  B32,
	  "\x50",
	  1,
	  true,
	  4,
	  DEVICE,
	  true,
	  { .rax = 0x77, .rsp = DEVICE },
	  { .rax = 0x77, .rsp = DEVICE + 4 },
	  0x77,
	  DEVICE,
	  0 },
	{ "pop [rbx]",
	  B64,
	  "\x8F\x03",
	  2,
	  true,
	  8,
	  DEVICE,
	  true,
	  { .rbx = DEVICE, .rsp = DATA + 8 },
	  { .rbx = DEVICE, .rsp = DATA },
	  0x0807060504030201,
	  DEVICE,
	  0 },
	{ "stosb",
	  B64,
	  "\xAA",
	  1,
	  true,
	  1,
	  DEVICE,
	  true,
	  { .rax = 5, .rdi = DEVICE + 1 },
	  { .rax = 5, .rdi = DEVICE },
	  5,
	  DEVICE,
	  0 },
	{ "stosq downwards",
	  B64,
	  "\x48\xAB",
	  2,
	  true,
	  8,
	  DEVICE,
	  true,
	  { .rax = 5, .rdi = DEVICE - 8, .rflags = DF },
	  { .rax = 5, .rdi = DEVICE, .rflags = DF },
	  5,
	  DEVICE,
	  0 },
	{ "rep stosd, more to come",
	  B64,
	  "\xF3\xAB",
	  2,
	  true,
	  4,
	  DEVICE,
	  false,
	  { .rax = 5, .rdi = DEVICE + 4, .rcx = 7 },
	  { .rax = 5, .rdi = DEVICE, .rcx = 8 },
	  5,
	  DEVICE,
	  0 },
	{ "rep stosd, the last",
	  B64,
	  "\xF3\xAB",
	  2,
	  true,
	  4,
	  DEVICE,
	  false,
	  { .rax = 5, .rdi = DEVICE + 4 },
	  { .rax = 5, .rdi = DEVICE, .rcx = 1 },
	  5,
	  DEVICE,
	  0 },
	{ "movsd to it",
	  B64,
	  "\xA5",
	  1,
	  true,
	  4,
	  DEVICE,
	  true,
	  { .rsi = DATA + 4, .rdi = DEVICE + 4 },
	  { .rsi = DATA, .rdi = DEVICE },
	  0x04030201,
	  DEVICE,
	  0 },
	{ "rep movsb to it, more to come",
	  B64,
	  "\xF3\xA4",
	  2,
	  true,
	  1,
	  DEVICE,
	  false,
	  { .rsi = DATA + 1, .rdi = DEVICE + 1, .rcx = 2 },
	  { .rsi = DATA, .rdi = DEVICE, .rcx = 3 },
	  1,
	  DEVICE,
	  0 },
};

static void run_mmio(const struct mmio_row *r)
{
	struct engine_exit e = { .kind = ENGINE_EXIT_MMIO,
				 .mmio = { r->gpa, r->size, r->write, data } };
	struct engine_regs at = r->at, was = r->was;
	const struct hv_memory_intercept *m = memory_message();

	enter(r->bits);
	put(CODE, r->code, r->length);
	memcpy(ct.ram + DATA, "\1\2\3\4\5\6\7\10", 8);
	for (u32 i = 0; i < 16; i++)
		memset(cpu()->xmm[i], (int)i, 16);
	memcpy(data, &r->value, 8);
	was.rip = CODE;
	at.rip = CODE + (r->after ? r->length : 0);
	stop(&e, &at);
	intercept_mmio(ct.vp[0], &ct.vcpu[0]->exit);
	expect_regs(r->what, &was);
	if (child_test.intercepts != 1 || message()->type != HV_MESSAGE_UNMAPPED_GPA ||
	    m->gpa != r->gpa || m->gva != r->gva || m->info != (r->gva ? 3 : 0) ||
	    m->header.rip != CODE || (m->header.length_cr8 & 15) != r->length ||
	    m->header.access != r->write || memcmp(m->bytes, r->code, r->length) != 0)
		fail_msg("%s: message 0x%x, GPA 0x%llx, GVA 0x%llx, RIP 0x%llx, length %u", r->what,
			 message()->type, (unsigned long long)m->gpa, (unsigned long long)m->gva,
			 (unsigned long long)m->header.rip, m->header.length_cr8 & 15);
	assert_int_equal(fake_last(ct.vm, FAKE_DROP).b, r->flags);
}

static void test_mmio(void **state)
{
	for (u32 i = 0; i < ARRAY_SIZE(mmio_rows); i++)
		run_mmio(&mmio_rows[i]);
}

static void test_a_store_of_another_value_is_not_it(void **state)
{
	const struct engine_exit e = { .kind = ENGINE_EXIT_MMIO,
				       .mmio = { DEVICE, 4, true, data } };
	const struct engine_regs at = { .rip = CODE + 2, .rbx = DEVICE, .rax = 1 };

	put(CODE, "\x89\x03", 2);
	memcpy(data, "\2\0\0\0\0\0\0", 8);
	stop(&e, &at);
	intercept_mmio(ct.vp[0], &ct.vcpu[0]->exit);
	assert_int_equal(message()->type, HV_MESSAGE_UNRECOVERABLE_EXCEPTION);
	expect_regs("nothing", &at);
}

static void test_a_store_at_the_start_of_a_page(void **state)
{
	const struct engine_exit e = { .kind = ENGINE_EXIT_MMIO,
				       .mmio = { DEVICE, 4, true, data } };
	const struct engine_regs at = { .rip = CODE + 2, .rbx = DEVICE, .rax = 1 };

	/* What is before RIP on the other page cannot be read: more of RAM is not needed. */
	put(CODE, "\x89\x03", 2);
	memcpy(data, "\1\0\0\0\0\0\0", 8);
	((u64 *)(void *)(ct.ram + TABLES + PAGE_BYTES))[0] = (TABLES + 2 * PAGE_BYTES) | 7;
	memset(ct.ram + TABLES + 2 * PAGE_BYTES, 0, 2 * PAGE_BYTES);
	*(u64 *)(void *)(ct.ram + TABLES + 2 * PAGE_BYTES) = (TABLES + 3 * PAGE_BYTES) | 7;
	((u64 *)(void *)(ct.ram + TABLES + 3 * PAGE_BYTES))[CODE / PAGE_BYTES] = CODE | 7;
	stop(&e, &at);
	intercept_mmio(ct.vp[0], &ct.vcpu[0]->exit);
	assert_int_equal(message()->type, HV_MESSAGE_UNMAPPED_GPA);
	assert_int_equal(memory_message()->header.rip, CODE);
}

static void test_bytes_end_where_a_page_cannot_be_read(void **state)
{
	const struct engine_exit e = { .kind = ENGINE_EXIT_IO, .io = { PORT, 1, true, 1, data } };
	const struct engine_regs at = { .rip = TEST_RAM_BYTES - 1, .rdx = PORT };

	put(TEST_RAM_BYTES - 40, "", 0);
	ct.ram[TEST_RAM_BYTES - 1] = 0xEE;
	stop(&e, &at);
	intercept_io(ct.vp[0], &ct.vcpu[0]->exit);
	assert_int_equal(message()->type, HV_MESSAGE_X64_IO_PORT);
	assert_int_equal(io_message()->byte_count, 1);
	expect_regs("out", &at);
}

static void test_a_write_to_read_only_memory(void **state)
{
	const struct mmio_row r = { "mov [rbx], eax",
				    B64,
				    "\x89\x03",
				    2,
				    true,
				    4,
				    DATA,
				    true,
				    { .rbx = DATA, .rax = 7 },
				    { .rbx = DATA, .rax = 7 },
				    7,
				    DATA,
				    0 };
	struct engine_exit e = { .kind = ENGINE_EXIT_MMIO, .mmio = { DATA, 4, true, data } };
	struct engine_regs at = r.at;

	child_test.access[DATA / PAGE_BYTES] = GPA_READ_ONLY;
	put(CODE, r.code, r.length);
	memcpy(data, &r.value, 8);
	at.rip = CODE + 2;
	stop(&e, &at);
	intercept_mmio(ct.vp[0], &ct.vcpu[0]->exit);
	assert_int_equal(message()->type, HV_MESSAGE_GPA_INTERCEPT);
	assert_int_equal(memory_message()->cache_type, HV_CACHE_WRITE_BACK);
}

static void test_the_header(void **state)
{
	const struct engine_exit e = { .kind = ENGINE_EXIT_IO, .io = { PORT, 1, true, 1, data } };
	const struct engine_regs at = { .rip = CODE, .rdx = PORT, .rflags = 0x246 };
	const struct hv_intercept_header *h = &io_message()->header;

	put(CODE, "\xEE", 1);
	cpu()->sregs.ss.attributes |= 3 << 5;
	cpu()->events =
		(struct engine_events){ .injected = ENGINE_EVENT_NMI, .interrupt_shadow = true };
	stop(&e, &at);
	intercept_io(ct.vp[0], &ct.vcpu[0]->exit);
	assert_int_equal(message()->sender, ct.p->id);
	assert_int_equal(message()->payload_bytes, sizeof(struct hv_io_port_intercept));
	assert_int_equal(h->execution_state, 3 | HV_EXECUTION_CR0_PE | HV_EXECUTION_EFER_LMA |
						     HV_EXECUTION_INTERRUPTION_PENDING |
						     HV_EXECUTION_INTERRUPT_SHADOW);
	assert_int_equal(h->cs.selector, 0x10);
	assert_int_equal(h->cs.attributes, 0x209B);
	assert_int_equal(h->rflags, 0x246);
}

/* Accesses that the engine says nothing of. */

struct memory_row {
	const char *what;
	const char *code;
	u32 length;
	u64 page; /* whose rights are @access */
	enum gpa_access access;
	u64 gpa; /* told of */
	enum hv_intercept_access kind;
	u32 type;
};

#define UNMAPPED HV_MESSAGE_UNMAPPED_GPA
#define DENIED	 HV_MESSAGE_GPA_INTERCEPT

/* RBX is in the middle of DATA's page, RSP at the start of the page after the next. */
static const struct memory_row memory_rows[] = {
	{ "mov eax, [rbx]", "\x8B\x03", 2, DATA, GPA_UNMAPPED, DATA + 8, HV_INTERCEPT_READ,
	  UNMAPPED },
	{ "mov [rbx], eax", "\x89\x03", 2, DATA, GPA_READ_ONLY, DATA + 8, HV_INTERCEPT_WRITE,
	  DENIED },
	{ "add [rbx], eax", "\x01\x03", 2, DATA, GPA_NO_ACCESS, DATA + 8, HV_INTERCEPT_WRITE,
	  DENIED },
	{ "push rax", "\x50", 1, DATA + 0x1000, GPA_UNMAPPED, DATA + 0x1FF8, HV_INTERCEPT_WRITE,
	  UNMAPPED },
	{ "call", "\xE8\0\0\0\0", 5, DATA + 0x1000, GPA_READ_ONLY, DATA + 0x1FF8,
	  HV_INTERCEPT_WRITE, DENIED },
	{ "pop rax", "\x58", 1, DATA + 0x2000, GPA_NO_ACCESS, DATA + 0x2000, HV_INTERCEPT_READ,
	  DENIED },
	{ "its second page", "\x48\x8B\x83\xF4\x0F\0\0", 7, DATA + 0x1000, GPA_UNMAPPED,
	  DATA + 0x1000, HV_INTERCEPT_READ, UNMAPPED },
	{ "bts [rbx], rax: far away", "\x48\x0F\xAB\x03", 4, DATA + 0x3000, GPA_NO_ACCESS,
	  DATA + 0x3008, HV_INTERCEPT_WRITE, DENIED },
	{ "fetch", "\x90", 1, CODE, GPA_NO_ACCESS, CODE, HV_INTERCEPT_EXECUTE, DENIED },
	{ "page table", "\x90", 1, TABLES, GPA_NO_ACCESS, TABLES, HV_INTERCEPT_READ, DENIED },
	{ "page table to be marked", "\x90", 1, TABLES, GPA_READ_ONLY, TABLES, HV_INTERCEPT_WRITE,
	  DENIED },
	{ "delivery: IDT", "\x90", 1, DATA + 0x5000, GPA_UNMAPPED, DATA + 0x5000, HV_INTERCEPT_READ,
	  UNMAPPED },
};

static void run_memory(const struct memory_row *r)
{
	const struct engine_exit e = { .kind = ENGINE_EXIT_MEMORY, .memory = { .gpa = ~0ull } };
	const struct engine_regs at = {
		.rip = CODE, .rbx = DATA + 8, .rsp = DATA + 0x2000, .rax = 0x3000 * 8
	};

	memset(child_test.access, GPA_WRITABLE, sizeof(child_test.access));
	child_test.access[r->page / PAGE_BYTES] = r->access;
	put(CODE, r->code, r->length);
	cpu()->sregs.idt = (struct engine_table){ DATA + 0x5000, 0xFFF };
	stop(&e, &at);
	intercept_memory(ct.vp[0], &ct.vcpu[0]->exit);
	if (child_test.intercepts != 1 || message()->type != r->type ||
	    memory_message()->gpa != r->gpa || memory_message()->header.access != r->kind)
		fail_msg("%s: message 0x%x, GPA 0x%llx, access %u", r->what, message()->type,
			 (unsigned long long)memory_message()->gpa,
			 memory_message()->header.access);
	expect_regs(r->what, &at);
}

static void test_memory(void **state)
{
	for (u32 i = 0; i < ARRAY_SIZE(memory_rows); i++)
		run_memory(&memory_rows[i]);
}

static void test_an_access_without_a_reason_is_tried_again_but_not_for_ever(void **state)
{
	const struct engine_exit e = { .kind = ENGINE_EXIT_MEMORY, .memory = { .gpa = ~0ull } };
	const struct engine_regs at = { .rip = CODE, .rsp = DATA };
	u32 tries = 0;

	put(CODE, "\x90", 1);
	stop(&e, &at);
	for (; !child_test.intercepts && tries < 1000; tries++)
		intercept_memory(ct.vp[0], &ct.vcpu[0]->exit);
	assert_in_range(tries, 2, 100);
	assert_int_equal(message()->type, HV_MESSAGE_UNRECOVERABLE_EXCEPTION);
}

static void test_executing_where_nothing_is(void **state)
{
	struct engine_regs at = { .rip = DEVICE };
	const struct engine_exit e = { .kind = ENGINE_EXIT_ERROR };

	stop(&e, &at);
	assert_true(intercept_error(ct.vp[0]));
	assert_int_equal(message()->type, HV_MESSAGE_UNMAPPED_GPA);
	assert_int_equal(memory_message()->gpa, DEVICE);
	assert_int_equal(memory_message()->header.access, HV_INTERCEPT_EXECUTE);
	at.rip = CODE;
	stop(&e, &at);
	assert_false(intercept_error(ct.vp[0]));
	assert_int_equal(child_test.intercepts, 0);
}

static void test_a_missing_page(void **state)
{
	const struct engine_exit e = { .kind = ENGINE_EXIT_WRMSR };
	struct engine_regs at = { .rip = CODE };

	put(CODE, "\x0F\x30\x90", 3);
	stop(&e, &at);
	intercept_missing_page(ct.vp[0], DATA);
	at.rip += 2; /* the answered instruction is finished */
	expect_regs("wrmsr", &at);
	assert_int_equal(message()->type, HV_MESSAGE_GPA_INTERCEPT);
	assert_int_equal(memory_message()->gpa, DATA);
	assert_int_equal(memory_message()->header.access, HV_INTERCEPT_READ);
	assert_int_equal(memory_message()->header.rip, CODE + 2);
	/* Not the instruction there: a monitor that gets the message must find no work in it. */
	assert_int_equal(memory_message()->byte_count, INTERCEPT_NOTHING_BYTES);
	assert_memory_equal(memory_message()->bytes, "\x88\xC0", INTERCEPT_NOTHING_BYTES);
	assert_int_equal(memory_message()->header.length_cr8 & 0xF, INTERCEPT_NOTHING_BYTES);
}

static void test_those_between_instructions(void **state)
{
	const struct hv_apic_eoi_intercept *eoi = (const void *)message()->payload;
	const struct hv_sint_deliverable_intercept *sint = (const void *)message()->payload;

	cpu()->regs.rip = CODE;
	intercept_eoi(ct.vp[0], 0x31);
	assert_int_equal(message()->type, HV_MESSAGE_X64_APIC_EOI);
	assert_int_equal(message()->payload_bytes, 8);
	assert_int_equal(eoi->vector, 0x31);
	intercept_sint_deliverable(ct.vp[0], 0x24);
	assert_int_equal(message()->type, HV_MESSAGE_SINT_DELIVERABLE);
	assert_int_equal(sint->sints, 0x24);
	intercept_triple_fault(ct.vp[0]);
	assert_int_equal(message()->type, HV_MESSAGE_UNRECOVERABLE_EXCEPTION);
	assert_int_equal(message()->payload_bytes, sizeof(struct hv_intercept_header));
	assert_int_equal(child_test.intercepts, 3);
}

static void test_a_hypercall(void **state)
{
	const struct engine_exit e = { .kind = ENGINE_EXIT_HYPERCALL };
	const struct engine_regs at = { .rip = CODE, .rcx = 0x5C, .rdx = 2, .r8 = 3 };
	const struct hv_hypercall_intercept *m = (const void *)message()->payload;

	put(CODE, "\x3E\xE5\x7C", 3);
	cpu()->xmm[5][0] = 0x55;
	stop(&e, &at);
	intercept_hypercall(ct.vp[0]);
	expect_regs("hypercall", &at);
	assert_int_equal(message()->type, HV_MESSAGE_HYPERCALL_INTERCEPT);
	assert_int_equal(m->header.length_cr8 & 15, 3);
	assert_int_equal(m->rcx, 0x5C);
	assert_int_equal(m->rdx, 2);
	assert_int_equal(m->r8, 3);
	assert_int_equal(m->xmm[5][0], 0x55);
}

/* Registers. */

struct msr_row {
	const char *what;
	enum bits bits;
	const char *code;
	u32 length;
	bool write;
	bool told;
};

static const struct msr_row msr_rows[] = {
	{ "rdmsr", B64, "\x0F\x32", 2, false, true },
	{ "wrmsr", B64, "\x0F\x30", 2, true, true },
	{ "rdmsr in 32 bits", B32, "\x0F\x32", 2, false, true },
	{ "wrmsr in 16 bits", B16, "\x0F\x30", 2, true, true },
	{ "rex.w rdmsr", B64, "\x48\x0F\x32", 3, false, true },
	{ "wrmsr behind prefixes that mean nothing", B64, "\x2E\x66\x0F\x30", 4, true, true },
	{ "wrmsr that was read", B64, "\x0F\x30", 2, false, false },
	{ "rdmsr that was written", B64, "\x0F\x32", 2, true, false },
	{ "rdtsc", B64, "\x0F\x31", 2, false, false },
	{ "rdpmc", B64, "\x0F\x33", 2, false, false },
	{ "no instruction", B64, "\x0F\x0A", 2, true, false },
};

static void run_msr(const struct msr_row *r)
{
	struct engine_exit e = { .kind = r->write ? ENGINE_EXIT_WRMSR : ENGINE_EXIT_RDMSR,
				 .msr = { .index = 0xC0011029, .value = 0x8877665544332211 } };
	const struct engine_regs at = { .rip = CODE,
					.rcx = 0x55C0011029,
					.rax = 0x1111111144332211,
					.rdx = 0x2222222288776655,
					.rflags = RF };
	const struct hv_msr_intercept *m = (const void *)message()->payload;

	enter(r->bits);
	put(CODE, r->code, r->length);
	stop(&e, &at);
	if (intercept_msr(ct.vp[0], &ct.vcpu[0]->exit) != r->told ||
	    child_test.intercepts != r->told)
		fail_msg("%s: told or not", r->what);
	if (!r->told) { /* it is still the engine's */
		assert_int_equal(fake_count(ct.vm, FAKE_DROP), 0);
		assert_false(cpu()->completed);
		return;
	}
	expect_regs(r->what, &at);
	assert_int_equal(fake_last(ct.vm, FAKE_DROP).a, CODE);
	assert_int_equal(fake_last(ct.vm, FAKE_DROP).b, 0);
	if (message()->type != HV_MESSAGE_X64_MSR || message()->payload_bytes != 64 ||
	    m->header.access != r->write || (m->header.length_cr8 & 15) != r->length ||
	    m->header.rip != CODE || m->msr != 0xC0011029 || m->rax != at.rax || m->rdx != at.rdx)
		fail_msg("%s: message 0x%x, MSR 0x%x, length %u", r->what, message()->type, m->msr,
			 m->header.length_cr8 & 15);
}

static void test_msrs(void **state)
{
	for (u32 i = 0; i < ARRAY_SIZE(msr_rows); i++)
		run_msr(&msr_rows[i]);
}

/* HV_X64_MSR_INTERCEPT_MESSAGE byte for byte, as the TLFS lays it out. */
static void test_the_message_of_an_msr(void **state)
{
	static const u8 golden[64] = {
		0,    0,    0,	  0,				/* VP */
		0x52,						/* CR8, length */
		1,						/* a write */
		0x14, 0,					/* long mode, protected, ring 0 */
		0,    0,    0,	  0,	0,    0,    0,	  0,	/* CS: base */
		0,    0,    0,	  0,	0x10, 0,    0x9B, 0x20, /* limit, selector, attributes */
		0,    0x80, 0,	  0,	0,    0,    0,	  0,	/* RIP */
		0x46, 2,    0,	  0,	0,    0,    0,	  0,	/* RFLAGS */
		0x29, 0x10, 1,	  0xC0, 0,    0,    0,	  0,	/* number, reserved */
		8,    7,    6,	  5,	4,    3,    2,	  1,	/* RDX */
		0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11, /* RAX */
	};
	const struct engine_exit e = { .kind = ENGINE_EXIT_WRMSR, .msr = { .index = 0xC0011029 } };
	const struct engine_regs at = { .rip = CODE,
					.rax = 0x1112131415161718,
					.rdx = 0x0102030405060708,
					.rcx = 0xC0011029,
					.rflags = 0x246 };

	put(CODE, "\x0F\x30", 2);
	stop(&e, &at);
	assert_true(intercept_msr(ct.vp[0], &ct.vcpu[0]->exit));
	assert_memory_equal(message()->payload, golden, sizeof(golden));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_port_io),
		TEST(test_an_executed_out_is_found_among_others),
		TEST(test_io_that_no_instruction_did),
		TEST(test_mmio),
		TEST(test_a_store_of_another_value_is_not_it),
		TEST(test_a_store_at_the_start_of_a_page),
		TEST(test_bytes_end_where_a_page_cannot_be_read),
		TEST(test_a_write_to_read_only_memory),
		TEST(test_the_header),
		TEST(test_memory),
		TEST(test_an_access_without_a_reason_is_tried_again_but_not_for_ever),
		TEST(test_executing_where_nothing_is),
		TEST(test_a_missing_page),
		TEST(test_msrs),
		TEST(test_the_message_of_an_msr),
		TEST(test_a_hypercall),
		TEST(test_those_between_instructions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
