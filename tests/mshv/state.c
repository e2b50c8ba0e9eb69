// SPDX-License-Identifier: MIT
/* Registers and state pages: what is written is read; what cannot be is refused, and says where. */
#include "vm.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* Each with a value it did not have, of a VP in long mode. @count: as many behind one another. */
static const struct {
	u32 name, count, step;
	u64 low, high;
	const char *what;
} registers[] = {
	{ R_RAX, 16, 1, 0x1122334455667788, 0, "general registers" },
	{ R_RIP, 1, 1, 0xffff800000001234, 0, "RIP" },
	{ R_RFLAGS, 1, 1, 0x246, 0, "RFLAGS" },
	{ R_XMM_0, 16, 1, 0x0102030405060708, 0x1112131415161718, "XMM" },
	{ R_FP_0, 8, 1, 0x8000000000000001, 0x3fff, "x87" },
	/* control 0x37f, status 0, no tag; MXCSR 0x1f80 and its mask */
	{ R_FP_CONTROL, 1, 1, 0x27f, 0, "x87 control" },
	{ R_CR0, 1, 1, 0x80040033, 0, "CR0" },
	{ R_CR2, 1, 1, 0x123456789000, 0, "CR2" },
	{ R_CR3, 1, 1, 0x20000, 0, "CR3" },
	{ R_CR4, 1, 1, 0x6a0, 0, "CR4" },
	{ R_CR8, 1, 1, 5, 0, "CR8" },
	{ R_INTERMEDIATE_CR0, 1, 1, 0x80050033, 0, "CR0, intermediate" },
	{ R_XFEM, 1, 1, 3, 0, "XFEM" },
	{ R_DR_0, 4, 1, 0x1000, 0, "DR0 to DR3" },
	{ R_DR6, 1, 1, 0xffff0ff1, 0, "DR6" },
	{ R_DR7, 1, 1, 0x401, 0, "DR7" },
	{ R_ES, 6, 1, 0x10000, 0xc0930010ffffffff, "segments" },
	{ R_LDTR, 1, 1, 0x5000, 0x008200280000ffff, "LDTR" },
	{ R_TR, 1, 1, 0x6000, 0x008b001800000067, "TR" },
	{ R_IDTR, 2, 1, 0x0fff000000000000, 0xffff800000007000, "IDTR and GDTR" },
	{ R_EFER, 1, 1, 0xd01, 0, "EFER" },
	{ R_KERNEL_GS_BASE, 1, 1, 0xffff888000000000, 0, "KERNEL_GS_BASE" },
	{ R_PAT, 1, 1, 0x0007040600070406, 0, "PAT" },
	{ R_SYSENTER_CS, 1, 1, 0x10, 0, "SYSENTER_CS" },
	{ R_SYSENTER_EIP, 2, 1, 0x80002000, /* AMD has 32 bits */ 0, "SYSENTER_EIP and _ESP" },
	{ R_STAR, 1, 1, 0x0023001000000000, 0, "STAR" },
	{ R_LSTAR, 2, 1, 0xffff800000003000, 0, "LSTAR and CSTAR" },
	{ R_SFMASK, 1, 1, 0x47700, 0, "SFMASK" },
	{ R_MTRR_DEFAULT, 1, 1, 0xc06, 0, "default memory type" },
	{ R_MTRR_BASE_0, 8, 1, 0x80000006, 0, "MTRR bases" },
	{ R_MTRR_MASK_0, 8, 1, 0xff80000800, 0, "MTRR masks" },
	{ R_MTRR_FIXED_0, 11, 1, 0x0606060606060606, 0, "fixed MTRRs" },
	{ R_TSC_AUX, 1, 1, 7, 0, "TSC_AUX" },
	{ R_GUEST_OS_ID, 1, 1, 0x8100000000060c00, 0, "GUEST_OS_ID" },
	{ R_HYPERCALL, 1, 1, 0x60001, 0, "HYPERCALL" },
	{ R_REFERENCE_TSC, 1, 1, 0x61001, 0, "REFERENCE_TSC" },
	{ R_SIEFP, 1, 1, 0x62001, 0, "SIEFP" },
	{ R_SIMP, 1, 1, 0x63001, 0, "SIMP" },
	{ R_SCONTROL, 1, 1, 1, 0, "SCONTROL" },
	{ R_SINT_0, 16, 1, 0x10040, 0, "SINTs" },
	{ R_INTERRUPT_STATE, 1, 1, 1, 0, "interrupt shadow" },
	{ R_PENDING_INTERRUPTION, 1, 1, 0, 0, "no pending interruption" },
};

/* What makes neighbours differ, where it may: 4 KiB, or a digit. */
static u64 nth(u32 row, u32 i)
{
	switch (registers[row].name) {
	case R_RAX:
	case R_XMM_0:
	case R_FP_0:
		return registers[row].low + i;
	case R_DR_0:
	case R_SYSENTER_EIP:
	case R_LSTAR:
		return registers[row].low + i * 0x1000;
	case R_MTRR_BASE_0:
		return registers[row].low + i * 0x1000000;
	}
	return registers[row].low;
}

static void round_trip(struct vm *vm, u32 row)
{
	struct assoc a[16] = { 0 };
	union value v[16];
	u32 names[16], n = registers[row].count;
	u16 status, done;
	int error;

	for (u32 i = 0; i < n; i++) {
		names[i] = a[i].name = registers[row].name + i * registers[row].step;
		a[i].value.part[0] = nth(row, i);
		a[i].value.part[1] = registers[row].high;
	}
	error = regs_set(vm, 0, a, n, &status, &done);
	if (!check(!error && done == n, "%s: set (%d, status %#x, %u of %u)", registers[row].what,
		   error, status, done, n))
		return;
	error = regs_get(vm, 0, names, n, v, &status, &done);
	if (!check(!error && done == n, "%s: read (%d, status %#x, %u of %u)", registers[row].what,
		   error, status, done, n))
		return;
	for (u32 i = 0; i < n; i++) {
		check_u64(v[i].part[0], a[i].value.part[0], "%s, %u", registers[row].what, i);
		if (registers[row].high)
			check_u64(v[i].part[1], a[i].value.part[1], "%s, %u, high",
				  registers[row].what, i);
	}
}

static void registers_case(void)
{
	struct vm vm;

	vm_start(&vm);
	vm_vp(&vm, 0);
	enter_long(&vm, 0, PROGRAM);
	for (u32 row = 0; row < COUNT(registers); row++)
		round_trip(&vm, row);
	check_u64(reg(&vm, 0, R_VP_INDEX), 0, "the VP's index");
	check_u64(reg(&vm, 0, R_APIC_BASE) & ~0x400ull, 0xfee00900, "APIC base of the boot VP");
	check_u64(reg(&vm, 0, R_ACTIVITY), 0, "it waits for nothing");
	check_u64(reg(&vm, 0, R_EXPLICIT_SUSPEND) & 1, 1, "but was never told to run");
	vm_end(&vm);
}

/* Values a program sees, and those it leaves. */
static void registers_live(void)
{
	struct vm vm;
	struct message m;
	u64 tsc;

	vm_start(&vm);
	vm_vp(&vm, 0);
	vm_program(&vm, count, enter_real);
	reg_set(&vm, 0, R_RDX, 0x1122334455667788);
	reg_set(&vm, 0, R_CR2, 0x1234000);
	reg_set(&vm, 0, R_TSC, 1ull << 40);
	vm_run(&vm, 0, &m);
	tsc = reg(&vm, 0, R_TSC);
	check(tsc > 1ull << 40 && tsc < 1ull << 42, "the TSC went on from where it was put");
	check_u64(reg(&vm, 0, R_RCX) & 0xffff, 200, "what the program made");
	check_u64(reg(&vm, 0, R_RDX), 0x1122334455667788, "what it left alone");
	check_u64(reg(&vm, 0, R_CR2), 0x1234000, "CR2");
	reg_set(&vm, 0, R_RCX, 2);
	io_done(&vm, &m, 0);
	vm_run(&vm, 0, &m); /* loop: 1 */
	check_u64((u16)m.io.rax, 1, "what was set is used");
	vm_end(&vm);
}

static void fpu_live(void)
{
	struct assoc st0 = { .name = R_FP_0, .value.part = { 0x8000000000000000, 0x3fff } },
		     control = { .name = R_FP_CONTROL, .value.part = { 0x37f | 1ull << 32, 0 } };
	const u64 *seen;
	struct vm vm;
	struct message m;

	vm_start(&vm);
	vm_vp(&vm, 0);
	vm_program(&vm, fpu, enter_long);
	reg_set(&vm, 0, R_XMM_0 + 3, 0x1122334455667788);
	check(!regs_set(&vm, 0, &st0, 1, NULL, NULL) && !regs_set(&vm, 0, &control, 1, NULL, NULL),
	      "ST0 is set");
	vm_run(&vm, 0, &m);
	seen = (const u64 *)(vm.ram + 0x4000);
	check_u64(seen[0], 0x1122334455667788, "the program has XMM3");
	check_u64(seen[2], 0x8000000000000000, "and ST0");
	check_u64(seen[3] & 0xffff, 0x3fff, "with its exponent");
	check_u64(reg(&vm, 0, R_XMM_0 + 3), seen[3], "and what it made of XMM3 is seen");
	reg_set(&vm, 0, R_XMM_0 + 3, 0x99);
	io_done(&vm, &m, 0);
	check(vm_run_to(&vm, 0, DONE_PORT, &m) && reg(&vm, 0, R_XMM_0 + 3) == 0x99,
	      "it keeps what is set");
	vm_end(&vm);
}

static void register_errors(void)
{
	static const struct {
		const char *what;
		u32 names[3], count;
		u16 done;
	} rows[] = {
		{ "an unknown register", { 0x77777777 }, 1, 0 },
		{ "one after a known one", { R_RAX, 0x77777777 }, 2, 1 },
		{ "one between known ones", { R_RAX, 0x77777777, R_RBX }, 3, 1 },
	};
	struct vm vm;
	struct assoc a[3] = { 0 };
	union value v[3];
	u16 status, done;

	vm_start(&vm);
	vm_vp(&vm, 0);
	reg_set(&vm, 0, R_RBX, 0x5555);
	for (u32 i = 0; i < COUNT(rows); i++) {
		int error = regs_get(&vm, 0, rows[i].names, rows[i].count, v, &status, &done);

		check(error, "read %s: %s", rows[i].what, strerror(error));
		check_u64(status, STATUS_INVALID_PARAMETER, "its status");
		check_u64(done, rows[i].done, "registers read before it");
		for (u32 n = 0; n < rows[i].count; n++)
			a[n] = (struct assoc){ .name = rows[i].names[n], .value.low = 0x1000 + n };
		error = regs_set(&vm, 0, a, rows[i].count, &status, &done);
		check(error, "set %s: %s", rows[i].what, strerror(error));
		check_u64(done, rows[i].done, "registers set before it");
	}
	check_u64(reg(&vm, 0, R_RAX), 0x1000, "one before is set");
	check_u64(reg(&vm, 0, R_RBX), 0x5555, "one after is not");
	check_u64((u64)regs_get(&vm, 5, rows[1].names, 1, v, &status, NULL), EINVAL,
		  "a VP there is not");
	check_u64(status, STATUS_INVALID_VP_INDEX, "and its status");
	vm_end(&vm);
}

/* The page that shows registers at an intercept without a hypercall. */
static void register_page(void)
{
	struct vm vm;
	struct message m;
	volatile struct register_page *page;

	vm_start(&vm);
	vm_vp(&vm, 0);
	page = vm_mmap(&vm, 0, 0);
	vm_program(&vm, count, enter_real);
	reg_set(&vm, 0, R_RBP, 0x4242);
	vm_run(&vm, 0, &m);
	if (!check(page->version == 1 && page->valid, "it is valid: version %u, %u", page->version,
		   page->valid))
		return;
	check_u64(page->rip, m.rip, "rip");
	check_u64(page->gpr[0], m.io.rax, "rax");
	check_u64(page->gpr[5], 0x4242, "rbp");
	check_u64(page->rflags, m.rflags, "flags");
	page->gpr[5] = 0x4343;
	page->gpr[1] = 2;
	page->rip = m.rip + (m.length & 15);
	page->dirty = 3;
	check_u64(reg(&vm, 0, R_RBP), 0x4343, "what is written there is read by hypercall");
	vm_run(&vm, 0, &m);
	check_u64((u16)m.io.rax, 1, "and used: the loop ends early");
	check_u64(page->dirty, 0, "nothing is left to do");
	reg_set(&vm, 0, R_RBP, 0x4444);
	io_done(&vm, &m, 1);
	check_u64(page->gpr[5], 0x4444, "what a hypercall sets is seen there");
	check(vm_run_to(&vm, 0, DONE_PORT, &m), "the program ends");
	vm_end(&vm);
}

/* --- state pages --- */

static int state_get(struct vm *vm, u8 type, void *buffer, u32 *bytes)
{
	struct mshv_state s = { .type = type, .bytes = PAGE, .buffer = (uintptr_t)buffer };
	int ret = ioctl(vm->vp[0], MSHV_GET_STATE, &s) < 0 ? errno : 0;

	*bytes = s.bytes;
	return ret;
}

static int state_set(struct vm *vm, u8 type, void *buffer)
{
	struct mshv_state s = { .type = type, .bytes = PAGE, .buffer = (uintptr_t)buffer };

	return ioctl(vm->vp[0], MSHV_SET_STATE, &s) < 0 ? errno : 0;
}

static void states(void)
{
	static const char *const names[] = { "LAPIC", "XSAVE", "SIMP", "SIEFP", "timers" };
	u8 *first = pages(PAGE), *second = pages(PAGE);
	struct vm vm;
	u32 bytes;

	vm_start(&vm);
	vm_vp(&vm, 0);
	enter_long(&vm, 0, PROGRAM);
	reg_set(&vm, 0, R_SIMP, 0x63001);
	reg_set(&vm, 0, R_SIEFP, 0x62001);
	reg_set(&vm, 0, R_SCONTROL, 1);
	for (u8 type = 0; type < STATES; type++) {
		int error = state_get(&vm, type, first, &bytes);

		if (!check(!error, "%s: read, %u bytes: %s", names[type], bytes, strerror(error)))
			continue;
		check(bytes && bytes <= PAGE, "%s: on one page", names[type]);
		if (!check(!state_set(&vm, type, first), "%s: set: %m", names[type]))
			continue;
		state_get(&vm, type, second, &bytes);
		check(memcmp(first, second, bytes) == 0, "%s: the same again", names[type]);
	}
	check(state_set(&vm, STATES, first) == EINVAL, "there are no others");
	check(state_get(&vm, STATE_LAPIC, first + 1, &bytes) == EINVAL, "on pages only");
	vm_end(&vm);
}

static void lapic_state(void)
{
	u32 *l = pages(PAGE), bytes;
	struct vm vm;

	vm_start(&vm);
	vm_vp(&vm, 0);
	vm_vp(&vm, 1);
	MUST(state_get(&vm, STATE_LAPIC, l, &bytes) ? -1 : 0);
	check_u64(l[0] >> 24, 0, "the boot VP's APIC id");
	check_u64(l[1] & 0xf0, 0x10, "an integrated APIC");
	check_u64(l[34] & 0x10000, 0x10000, "LINT0 is masked");
	l[34] = 0x700; /* as monitors do */
	l[35] = 0x400;
	l[4] = 0x1ff;
	l[31] = 0x10041;
	check(!state_set(&vm, STATE_LAPIC, l), "set: %m");
	memset(l, 0, PAGE);
	MUST(state_get(&vm, STATE_LAPIC, l, &bytes) ? -1 : 0);
	check_u64(l[34], 0x700, "LINT0 takes the PIC");
	check_u64(l[35], 0x400, "LINT1 takes NMIs");
	check_u64(l[4], 0x1ff, "the spurious vector");
	check_u64(l[31], 0x10041, "the timer");
	vm.vp[0] = vm.vp[1];
	MUST(state_get(&vm, STATE_LAPIC, l, &bytes) ? -1 : 0);
	check_u64(l[0] >> 24, 1, "the second VP's APIC id");
	vm_end(&vm);
}

static void xsave_state(void)
{
	u8 *x = pages(PAGE);
	u64 xcomp, xstate, sample = 0x1234567890abcdef;
	struct vm vm;
	u32 bytes;

	vm_start(&vm);
	vm_vp(&vm, 0);
	enter_long(&vm, 0, PROGRAM);
	reg_set(&vm, 0, R_XMM_0 + 3, sample);
	MUST(state_get(&vm, STATE_XSAVE, x, &bytes) ? -1 : 0);
	memcpy(&xstate, x + 512, 8);
	memcpy(&xcomp, x + 520, 8);
	check(xcomp >> 63, "the format is compacted: %#llx", (unsigned long long)xcomp);
	check((xcomp & 3) == 3, "x87 and SSE are in it");
	check(memcmp(x + 160 + 48, &sample, 8) == 0, "XMM3 is where it belongs");
	sample = ~sample;
	memcpy(x + 160 + 48, &sample, 8);
	xstate |= 2;
	memcpy(x + 512, &xstate, 8);
	check(!state_set(&vm, STATE_XSAVE, x), "set: %m");
	check_u64(reg(&vm, 0, R_XMM_0 + 3), sample, "XMM3 has changed");
	vm_end(&vm);
}

static void synic_pages(void)
{
	u8 *p = pages(PAGE);
	struct vm vm;
	u32 bytes;

	vm_start(&vm);
	vm_vp(&vm, 0);
	reg_set(&vm, 0, R_SIMP, 0x63001);
	reg_set(&vm, 0, R_SIEFP, 0x62001);
	reg_set(&vm, 0, R_SCONTROL, 1);
	for (u8 type = STATE_SIMP; type <= STATE_SIEFP; type++) {
		memset(p, type, PAGE);
		check(!state_set(&vm, type, p), "page %u is set: %m", type);
		memset(p, 0, PAGE);
		check(!state_get(&vm, type, p, &bytes) && p[0] == type && p[PAGE - 1] == type,
		      "and read");
	}
	vm_end(&vm);
}

/* --- addresses, time, what was written --- */

static int translate(struct vm *vm, u64 flags, u64 gva, u64 out[2], u16 *status)
{
	struct {
		u64 partition;
		u32 vp, pad;
		u64 flags, page;
	} in = { .flags = flags, .page = gva / PAGE };

	return hvcall(vm->vp[0], CALL_TRANSLATE, 0, &in, sizeof(in), out, 16, status, NULL);
}

static void addresses(void)
{
	static const struct {
		u64 gva, flags, result, pfn;
		const char *what;
	} rows[] = {
		{ 0x1000, 1, 0, 1, "RAM, read" },
		{ 0x1fe000, 3, 0, 0x1fe, "RAM, written" },
		{ MMIO, 1, 0, MMIO / PAGE, "a device's registers" },
		{ 1ull << 32, 1, 1, 0, "an address without translation" },
		{ 0x400000, 2, 2, 0, "a write to a read-only page" },
		{ 0x600000, 0x81, 2, 0, "a kernel's page for a user" },
		{ 0x800000, 1, 4, 0, "page tables that are no memory" },
	};
	struct vm vm;
	struct message m;
	u64 *t, out[2];
	u16 status;

	vm_start(&vm);
	vm_vp(&vm, 0);
	vm_program(&vm, mmio, enter_long);
	vm_run(&vm, 0, &m); /* memory nobody has touched is not there yet */
	t = (u64 *)(vm.ram + PAGE_TABLES + 2 * PAGE);
	t[2] &= ~2ull;		       /* 4 MiB: not writable */
	t[4] = (MMIO & ~0xfffull) | 3; /* 8 MiB: a table in no memory */
	for (u32 i = 0; i < COUNT(rows); i++) {
		int error = translate(&vm, rows[i].flags, rows[i].gva, out, &status);

		check(!error, "%s: status %#x", rows[i].what, status);
		if (check_u64((u32)out[0], rows[i].result, "%s: result", rows[i].what) &&
		    !rows[i].result)
			check_u64(out[1], rows[i].pfn, "%s: page", rows[i].what);
	}
	enter_real(&vm, 0, PROGRAM);
	check(!translate(&vm, 1, 0x5000, out, &status) && (u32)out[0] == 0 && out[1] == 5,
	      "real mode has no tables");
	vm_end(&vm);
}

static void freeze(void)
{
	struct vm vm;
	struct message m;
	u64 t[3];

	vm_start(&vm);
	vm_vp(&vm, 0);
	vm_program(&vm, count, enter_real);
	for (int i = 0; i < 2; i++)
		check(!property_set(vm.fd, PROPERTY_TIME_FREEZE, 1, NULL), "time stops (%d)", i);
	property_get(vm.fd, PROPERTY_REFERENCE_TIME, &t[0], NULL);
	check_u64((u64)vm_try(&vm, 0, &m), EINTR, "nothing runs");
	property_get(vm.fd, PROPERTY_REFERENCE_TIME, &t[1], NULL);
	check_u64(t[1], t[0], "reference time stands still");
	check(!property_set(vm.fd, PROPERTY_REFERENCE_TIME, 1ull << 40, NULL), "it can be set");
	for (int i = 0; i < 2; i++)
		check(!property_set(vm.fd, PROPERTY_TIME_FREEZE, 0, NULL), "time goes on (%d)", i);
	check(vm_run_to(&vm, 0, DONE_PORT, &m), "the program runs");
	property_get(vm.fd, PROPERTY_REFERENCE_TIME, &t[2], NULL);
	check(t[2] > 1ull << 40 && t[2] < (1ull << 40) + 600000000,
	      "reference time went on from there");
	vm_end(&vm);
}

static bool written(struct vm *vm, u64 gpa, u8 op)
{
	u64 bitmap[8] = { 0 };
	struct mshv_access a = { .type = ACCESS_DIRTY,
				 .op = op,
				 .pages = RAM_BYTES / PAGE,
				 .bitmap = (uintptr_t)bitmap };

	MUST(ioctl(vm->fd, MSHV_GET_ACCESS, &a));
	return bitmap[gpa / PAGE / 64] >> (gpa / PAGE % 64) & 1;
}

static void dirty(void)
{
	struct vm vm;
	struct message m;

	vm_start(&vm);
	vm_vp(&vm, 0);
	vm_program(&vm, dirty, enter_long);
	written(&vm, 0x30000, ACCESS_CLEAR);
	check(true, "asked before anything is tracked");
	check(!property_set(vm.fd, PROPERTY_ACCESS_TRACKING, 1, NULL), "tracking begins");
	written(&vm, 0x30000, ACCESS_CLEAR);
	vm_run(&vm, 0, &m);
	check(written(&vm, 0x30000, ACCESS_CLEAR), "the page that was written");
	check(!written(&vm, 0x50000, ACCESS_CLEAR), "not the one that was not");
	check(!written(&vm, 0x30000, ACCESS_CLEAR), "nor the first one again");
	io_done(&vm, &m, 0);
	check(vm_run_to(&vm, 0, DONE_PORT, &m), "the program ends");
	check(written(&vm, 0x50000, ACCESS_SET), "now that one");
	check(written(&vm, 0x60000, ACCESS_CLEAR), "what is set is set");
	check(!property_set(vm.fd, PROPERTY_ACCESS_TRACKING, 0, NULL), "tracking ends");
	vm_end(&vm);
}

const struct mshv_case state_cases[] = {
	{ "registers", registers_case },
	{ "registers-live", registers_live },
	{ "fpu-live", fpu_live },
	{ "register-errors", register_errors },
	{ "register-page", register_page },
	{ "states", states },
	{ "lapic-state", lapic_state },
	{ "xsave-state", xsave_state },
	{ "synic-pages", synic_pages },
	{ "addresses", addresses },
	{ "freeze", freeze },
	{ "dirty", dirty },
	{ 0 },
};
