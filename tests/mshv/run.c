// SPDX-License-Identifier: MIT
/* What a program does that its monitor must see, and with which state; what it must not see. */
#include "vm.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <stdlib.h>
#include <sys/time.h>
#include <unistd.h>

static void header(const struct message *m, bool long_mode, u64 rip)
{
	check_u64(m->vp, 0, "its VP");
	check_u64(m->rip, rip, "rip is the instruction's");
	check_u64(!!(m->state & STATE_PROTECTED), long_mode, "protected mode or not");
	check_u64(!!(m->state & STATE_LONG), long_mode, "long mode or not");
	check_u64(m->rflags & 2, 2, "flags");
	check_u64(m->cs.limit, long_mode ? ~0u : 0xffff, "CS limit");
	check_u64(m->cs.attributes & 0x9b, 0x9b, "CS attributes");
}

static void io(void)
{
	static const struct {
		u16 port;
		u8 access, size, length;
		u64 rax, answer; /* what is there, what the monitor makes of it */
	} rows[] = {
		{ 0x80, ACCESS_WRITE, 1, 2, 0x5a, 0x5a },
		{ 0x3f8, ACCESS_WRITE, 2, 1, 0x1234, 0x1234 },
		{ 0x3f8, ACCESS_WRITE, 4, 2, 0xdeadbeef, 0xdeadbeef },
		{ 0x71, ACCESS_READ, 1, 2, 0xffffffff, 0xffffff11 },
		{ 0x3f8, ACCESS_WRITE, 4, 2, 0xffffff11, 0xffffff11 },
		{ 0x3f8, ACCESS_READ, 2, 1, 0xffffff11, 0xffff2222 },
		{ 0x3f8, ACCESS_WRITE, 4, 2, 0xffff2222, 0xffff2222 },
		{ 0x3f8, ACCESS_READ, 4, 2, 0xffff2222, 0x33333333 },
		{ 0x3f8, ACCESS_WRITE, 4, 2, 0x33333333, 0x33333333 },
		{ 0x80, ACCESS_WRITE, 1, 5, 0x33333333, 0x33333333 },
		{ DONE_PORT, ACCESS_WRITE, 1, 2, 0x33333333, 0x33333333 },
	};
	struct vm vm;
	struct message m;

	vm_start(&vm);
	vm_vp(&vm, 0);
	vm_program(&vm, io, enter_real);
	reg_set(&vm, 0, R_RAX, 0);
	for (u32 i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		vm_run(&vm, 0, &m);
		if (!check_u64(m.type, MESSAGE_IO_PORT, "access %u is port I/O", i))
			break;
		if (i == 0)
			header(&m, false, PROGRAM + 2);
		check(m.io.port == rows[i].port && m.access == rows[i].access &&
			      (m.io.info & IO_SIZE) == rows[i].size &&
			      (m.length & 15) == rows[i].length &&
			      !(m.io.info & (IO_STRING | IO_REP)),
		      "%u: port %#x, access %u, %u bytes, %u bytes long", i, m.io.port, m.access,
		      m.io.info & IO_SIZE, m.length & 15);
		check_u64(m.io.rax, rows[i].rax, "%u: rax", i);
		check_u64(reg(&vm, 0, R_RIP), m.rip, "%u: nothing has moved", i);
		check_u64(reg(&vm, 0, R_RAX), m.io.rax, "%u: nor rax", i);
		io_done(&vm, &m, rows[i].answer);
	}
	vm_end(&vm);
}

/* The monitor that changes nothing gets the same again. */
static void restart(void)
{
	struct vm vm;
	struct message first, m;

	vm_start(&vm);
	vm_vp(&vm, 0);
	vm_program(&vm, io, enter_real);
	vm_run(&vm, 0, &first);
	for (int i = 0; i < 3; i++) {
		vm_run(&vm, 0, &m);
		check(memcmp(&m, &first, 16 + 72) == 0,
		      "an output that nobody finished comes again");
	}
	reg_set(&vm, 0, R_RIP, ADDRESS(io, io_in));
	reg_set(&vm, 0, R_RAX, 0x99);
	for (int i = 0; i < 3; i++) {
		vm_run(&vm, 0, &m);
		check(m.type == MESSAGE_IO_PORT && m.io.port == 0x71 && m.access == ACCESS_READ &&
			      m.io.rax == 0x99,
		      "an input that nobody finished comes again: port %#x", m.io.port);
	}
	vm_end(&vm);
}

/* --- string I/O, done as QEMU does: all elements, then RSI or RDI, RCX and RIP --- */

struct string_row {
	u8 access, size;
	bool rep;
	u64 count;
	int step;
	u64 si, di;
};

static void string_done(struct vm *vm, const struct message *m, const struct string_row *r)
{
	u64 n = r->rep ? r->count : 1;
	struct assoc a[3] = {
		{ .name = R_RIP, .value.low = m->rip + (m->length & 15) },
		{ .name = r->access == ACCESS_WRITE ? R_RSI : R_RDI,
		  .value.low =
			  (r->access == ACCESS_WRITE ? r->si : r->di) + (u64)(r->step * (int)n) },
		{ .name = R_RCX, .value.low = r->rep ? 0 : m->io.rcx },
	};

	if (r->access == ACCESS_READ)
		memset(vm->ram + r->di, 0x77, n * r->size);
	if (regs_set(vm, 0, a, 3, NULL, NULL))
		give_up("the end of a string cannot be set");
}

static void string(void)
{
	static const struct string_row rows[] = {
		{ ACCESS_WRITE, 1, false, 0, 1, 0x3000, 0x3100 },
		{ ACCESS_WRITE, 2, true, 3, 2, 0x3001, 0x3100 },
		{ ACCESS_READ, 1, false, 0, 1, 0x3007, 0x3100 },
		{ ACCESS_READ, 2, true, 4, 2, 0x3007, 0x3101 },
		{ ACCESS_WRITE, 1, true, 2, -1, 0x3002, 0x3109 },
	};
	struct vm vm;
	struct message m;

	vm_start(&vm);
	vm_vp(&vm, 0);
	vm_program(&vm, string, enter_real);
	memset(vm.ram + 0x3000, 0x5a, 0x200);
	for (u32 i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct string_row *r = &rows[i];
		u8 before[0x200];

		memcpy(before, vm.ram + 0x3000, sizeof(before));
		vm_run(&vm, 0, &m);
		if (!check(m.type == MESSAGE_IO_PORT && m.io.port == 0x1f0 &&
				   m.access == r->access && (m.io.info & IO_SIZE) == r->size &&
				   m.io.info & IO_STRING && !!(m.io.info & IO_REP) == r->rep,
			   "string %u: message %#x, port %#x, access %u, info %#x", i, m.type,
			   m.io.port, m.access, m.io.info))
			break;
		check_u64(m.io.rsi, r->si, "%u: rsi", i);
		check_u64(m.io.rdi, r->di, "%u: rdi", i);
		if (r->rep)
			check_u64(m.io.rcx, r->count, "%u: rcx", i);
		check_u64(m.io.es.limit, 0xffff, "%u: ES", i);
		check_u64(reg(&vm, 0, R_RSI), r->si, "%u: rsi has not moved", i);
		check_u64(reg(&vm, 0, R_RDI), r->di, "%u: nor rdi", i);
		if (r->access == ACCESS_WRITE)
			check(memcmp(before, vm.ram + 0x3000, sizeof(before)) == 0,
			      "%u: nor memory", i);
		string_done(&vm, &m, r);
	}
	vm_run(&vm, 0, &m);
	check(m.type == MESSAGE_IO_PORT && !(m.io.info & IO_STRING) && (u16)m.io.rax == 0x3000,
	      "all ended where it should: %#llx", (unsigned long long)m.io.rax);
	check(vm.ram[0x3100] == 0x77 && vm.ram[0x3108] == 0x77 && vm.ram[0x3109] == 0x5a,
	      "what was read is in memory, and no more");
	vm_end(&vm);
}

/* --- memory --- */

extern const u8 guest_mmio[], guest_mmio_0[], guest_mmio_1[], guest_mmio_2[], guest_mmio_3[],
	guest_mmio_4[], guest_mmio_5[], guest_mmio_6[], guest_mmio_7[];

static void mmio(void)
{
	static const struct {
		const u8 *at, *next;
		u64 offset;
		u8 access;
		u32 target; /* of what is read */
		u64 answer;
	} rows[] = {
		{ guest_mmio_0, guest_mmio_1, 0x10, ACCESS_READ, R_RAX, 0x11223344 },
		{ guest_mmio_1, guest_mmio_2, 0x18, ACCESS_WRITE, 0, 0 },
		{ guest_mmio_2, guest_mmio_3, 0x24, ACCESS_WRITE, 0, 0 },
		{ guest_mmio_3, guest_mmio_4, 0x28, ACCESS_READ, R_RCX, 0x1122334455667788 },
		{ guest_mmio_4, guest_mmio_5, 0x30, ACCESS_WRITE, 0, 0 },
		{ guest_mmio_5, guest_mmio_6, 0x38, ACCESS_READ, R_RDX, 0x99 },
		{ guest_mmio_6, guest_mmio_7, 0x3a, ACCESS_WRITE, 0, 0 },
	};
	struct vm vm;
	struct message m;

	vm_start(&vm);
	vm_vp(&vm, 0);
	vm_program(&vm, mmio, enter_long);
	for (u32 i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		u64 rip = PROGRAM + (u64)(rows[i].at - guest_mmio),
		    length = (u64)(rows[i].next - rows[i].at);

		vm_run(&vm, 0, &m);
		if (!check_u64(m.type, MESSAGE_UNMAPPED_GPA, "access %u is to no memory", i))
			break;
		if (i == 0)
			header(&m, true, rip);
		check_u64(m.rip, rip, "%u: rip", i);
		check_u64(m.access, rows[i].access, "%u: access", i);
		check_u64(m.memory.gpa, MMIO + rows[i].offset, "%u: address", i);
		if (m.memory.info & MEMORY_GVA)
			check_u64(m.memory.gva, m.memory.gpa, "%u: linear address", i);
		check(m.memory.byte_count <= 16 && m.memory.byte_count >= length &&
			      memcmp(m.memory.bytes, rows[i].at, length) == 0,
		      "%u: the instruction's bytes (%u)", i, m.memory.byte_count);
		check_u64(reg(&vm, 0, R_RIP), rip, "%u: nothing has moved", i);
		if (rows[i].target)
			reg_set(&vm, 0, rows[i].target, rows[i].answer);
		reg_set(&vm, 0, R_RIP, rip + length);
	}
	check(vm_run_to(&vm, 0, DONE_PORT, &m), "the program ends");
	check_u64(m.io.rax, 0x11223344, "with what it read");
	vm_end(&vm);
}

static void read_only(void)
{
	struct vm vm;
	struct message m;
	u32 *rom = pages(RAM_BYTES);

	vm_start(&vm);
	vm_vp(&vm, 0);
	rom[0] = 0x600df00d;
	check_u64((u64)vm_map(&vm, 4 << 20, rom, RAM_BYTES, MEM_EXECUTABLE), 0, "read-only memory");
	vm_program(&vm, readonly, enter_long);
	vm_run(&vm, 0, &m);
	check_u64(m.type, MESSAGE_GPA_INTERCEPT, "a write to it");
	check_u64(m.access, ACCESS_WRITE, "is one");
	check_u64(m.memory.gpa, 4 << 20, "there");
	check_u64(m.rip, ADDRESS(readonly, readonly_write), "by the second instruction");
	check_u64(reg(&vm, 0, R_RAX), 0x600df00d, "the first could read it");
	check_u64(rom[0], 0x600df00d, "nothing was written");
	reg_set(&vm, 0, R_RIP, ADDRESS(readonly, readonly_next));
	check(vm_run_to(&vm, 0, DONE_PORT, &m), "the program goes on");
	vm_end(&vm);
}

/* Where a machine begins: sixteen bytes below 4 GiB, in read-only memory that is also below 1 MiB.
 */
static void reset_vector(void)
{
	static const u8 code[] = { 0xea, 0x00, 0xff, 0x00, 0xf0 }, /* ljmp f000:ff00 */
		end[] = { 0xb0, 0x42, 0xe6, DONE_PORT };
	struct assoc a = { .name = R_CS,
			   .value.segment = { .base = 0xffff0000,
					      .limit = 0xffff,
					      .selector = 0xf000,
					      .attributes = 0x9b } };
	u8 *rom = pages(256 << 10);
	struct vm vm;
	struct message m;

	memcpy(rom + 0x3fff0, code, sizeof(code));
	memcpy(rom + 0x3ff00, end, sizeof(end));
	vm_start(&vm);
	vm_vp(&vm, 0);
	check_u64((u64)vm_map(&vm, 0, vm.ram, RAM_BYTES, MEM_UNMAP), 0, "RAM away");
	check_u64((u64)vm_map(&vm, 0, vm.ram, 0xe0000, MEM_WRITABLE | MEM_EXECUTABLE), 0,
		  "low RAM");
	check_u64((u64)vm_map(&vm, 0xe0000, rom + 0x20000, 0x20000, MEM_EXECUTABLE), 0, "low ROM");
	check_u64((u64)vm_map(&vm, 0xfffc0000, rom, 256 << 10, MEM_EXECUTABLE), 0, "high ROM");
	enter_real(&vm, 0, 0xfff0);
	regs_set(&vm, 0, &a, 1, NULL, NULL);
	vm_run_asked(&vm, 0, &m);
	check(m.type == MESSAGE_IO_PORT && m.io.port == DONE_PORT && (u8)m.io.rax == 0x42,
	      "it goes from the one to the other: %#x, %#llx", m.type, (unsigned long long)m.rip);
	check_u64(m.cs.base, 0xf0000, "and is below 1 MiB");
	vm_end(&vm);
}

/* What the kernel takes away from under a running machine comes back with its contents. */
static void page_taken(void)
{
	struct vm vm;
	struct message m;

	vm_start(&vm);
	vm_vp(&vm, 0);
	vm_program(&vm, count, enter_real);
	for (int i = 0; i < 20; i++) {
		vm_run(&vm, 0, &m);
		if (!check(m.type == MESSAGE_IO_PORT && (u16)m.io.rax == 200 - i,
			   "step %d: message %#x, %llu", i, m.type, (unsigned long long)m.io.rax))
			break;
		io_done(&vm, &m, m.io.rax);
		if (i % 4 == 1) { /* the page that runs is another one, with the same bytes */
			u8 copy[PAGE];

			memcpy(copy, vm.ram + PROGRAM, PAGE);
			madvise(vm.ram + PROGRAM, PAGE, MADV_DONTNEED);
			memcpy(vm.ram + PROGRAM, copy, PAGE);
		} else if (i % 4 == 3) {
			mprotect(vm.ram, RAM_BYTES, PROT_READ);
			mprotect(vm.ram, RAM_BYTES, PROT_READ | PROT_WRITE);
		}
	}
	vm_end(&vm);
}

static void small_pages(void)
{
	vm_small_pages = true;
	mmio();
	read_only();
	page_taken();
}

/* --- what the hypervisor does alone --- */

static void cpuid(void)
{
	struct {
		u64 partition;
		u32 vp, type, eax, ecx;
		u8 subleaf_specific, always, pad[2];
		struct {
			u32 value, mask;
		} reg[4];
	} in = { .type = 2, .eax = 0x12, .always = 1 };
	struct vm vm;
	struct message m;
	const u32 *leaf;
	u16 status;
	int error;

	static_assert(sizeof(in) == 64, "four bytes less are sent");
	for (u32 i = 0; i < 4; i++) {
		in.reg[i].value = 0x11111111 * (i + 1);
		in.reg[i].mask = ~0u;
	}
	vm_start(&vm);
	vm_vp(&vm, 0);
	error = hvcall(vm.vp[0], CALL_REGISTER_RESULT, 0, &in, 60, NULL, 0, &status, NULL);
	check(!error, "results are registered, status %#x", status);
	in.eax = 1; /* no local APIC timer by deadline */
	memset(in.reg, 0, sizeof(in.reg));
	in.reg[2].mask = 1u << 24;
	error = hvcall(vm.vp[0], CALL_REGISTER_RESULT, 0, &in, 60, NULL, 0, &status, NULL);
	check(!error, "of a part of a leaf, status %#x", status);
	vm_program(&vm, cpuid, enter_long);
	if (!check(vm_run_to(&vm, 0, DONE_PORT, &m), "the program sees no intercept"))
		return;
	leaf = (const u32 *)(vm.ram + 0x4000);
	check(memcmp(leaf + 1, "Microsoft Hv", 12) == 0, "the vendor");
	check(leaf[0] >= 0x40000005, "the last leaf: %#x", leaf[0]);
	check_u64(leaf[4], 0x31237648, "the interface");
	check_u64(leaf[8] & 0xe60, 0xe60,
		  "privileges: hypercalls, VP index, reference TSC, frequencies");
	check_u64(leaf[9] & 1, 0, "but not to create partitions");
	check(leaf[14] >> 31, "a hypervisor is there");
	check_u64(leaf[14] >> 24 & 1, 0, "a bit that was masked");
	check_u64(leaf[16], 0x11111111, "eax as registered");
	check_u64(leaf[17], 0x22222222, "ebx as registered");
	check_u64(leaf[18], 0x33333333, "ecx as registered");
	check_u64(leaf[19], 0x44444444, "edx as registered");
	vm_end(&vm);
}

static void msr(void)
{
	struct vm vm;
	struct message m;
	const u32 *seen;

	vm_start(&vm);
	vm_vp(&vm, 0);
	memset(vm.ram + 0x4000, 0x77, 16);
	vm_program(&vm, msr, enter_long);
	if (!check(vm_run_to(&vm, 0, DONE_PORT, &m), "the program sees no intercept"))
		return;
	seen = (const u32 *)(vm.ram + 0x4000);
	check_u64(seen[0], 0, "an MSR nobody knows reads as zero");
	check(seen[1] || seen[2], "the reference counter counts");
	check(seen[3], "the TSC has a frequency");
	vm_end(&vm);
}

static int install(struct vm *vm, u32 type, u32 access, u64 parameter, u16 *status)
{
	struct {
		u64 partition;
		u32 access, type;
		u64 parameter;
	} in = { .access = access, .type = type, .parameter = parameter };

	*status = 0;
	return hvcall(vm->fd, CALL_INSTALL_INTERCEPT, 0, &in, sizeof(in), NULL, 0, status, NULL);
}

static void install_statuses(struct vm *vm)
{
	static const struct {
		u32 type, access;
		u64 parameter;
		u16 status;
		int error;
		const char *what;
	} rows[] = {
		{ INTERCEPT_PORT, INTERCEPT_READ | INTERCEPT_WRITE, 0x80, 0, 0, "a port" },
		{ INTERCEPT_PORTS, INTERCEPT_READ, 0x00ff0080, 0, 0, "ports" },
		{ INTERCEPT_PORTS, INTERCEPT_READ, 0x008000ff, STATUS_INVALID_PARAMETER, EINVAL,
		  "ports that are none" },
		{ INTERCEPT_MSRS, INTERCEPT_EXECUTE, 0, STATUS_INVALID_PARAMETER, EINVAL,
		  "an MSR is not executed" },
		{ INTERCEPT_MSR, 8, 0x10, STATUS_INVALID_PARAMETER, EINVAL, "no such access" },
		{ INTERCEPT_MSR, INTERCEPT_READ, 0x802, STATUS_NOT_SUPPORTED, EOPNOTSUPP,
		  "the local APIC's id" },
		{ INTERCEPT_CPUID, INTERCEPT_EXECUTE, 1, STATUS_NOT_SUPPORTED, EOPNOTSUPP,
		  "a CPUID leaf" },
		{ INTERCEPT_ALL_CPUID, INTERCEPT_EXECUTE, 0, STATUS_NOT_SUPPORTED, EOPNOTSUPP,
		  "all CPUID leaves" },
		{ INTERCEPT_EXCEPTION, INTERCEPT_EXECUTE, 3, STATUS_NOT_SUPPORTED, EOPNOTSUPP,
		  "an exception" },
		{ 4, INTERCEPT_READ, 0, STATUS_INVALID_PARAMETER, EINVAL, "what there is not" },
		{ INTERCEPT_MSRS, INTERCEPT_READ | INTERCEPT_WRITE, 0, 0, 0, "unknown MSRs" },
		{ INTERCEPT_MSR, INTERCEPT_WRITE, 0x1b, 0, 0, "the APIC's base" },
		{ INTERCEPT_MSR, INTERCEPT_READ, 0xc0000100, 0, 0, "FS_BASE" },
	};
	u16 status;

	for (u32 i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int error = install(vm, rows[i].type, rows[i].access, rows[i].parameter, &status);

		check(error == rows[i].error && status == rows[i].status,
		      "%s: errno %d, status %#x", rows[i].what, error, status);
	}
}

static bool msr_stop(struct vm *vm, u64 rip, u32 number, u8 access, u8 length)
{
	struct message m;
	bool good;

	vm_run(vm, 0, &m);
	good = check(m.type == MESSAGE_MSR && m.payload_bytes == 64 && m.msr.number == number &&
			     m.access == access && (m.length & 15) == length,
		     "MSR %#x: message %#x of %u bytes, MSR %#x, access %u, %u bytes long", number,
		     m.type, m.payload_bytes, m.msr.number, m.access, m.length & 15);
	header(&m, true, rip);
	check(m.msr.rax == reg(vm, 0, R_RAX) && m.msr.rdx == reg(vm, 0, R_RDX),
	      "with RAX %#llx and RDX %#llx as they are", (unsigned long long)m.msr.rax,
	      (unsigned long long)m.msr.rdx);
	check_u64(reg(vm, 0, R_RIP), rip, "nothing has moved");
	return good;
}

#define MSR_AT(name) ADDRESS(msr_intercept, name)

static void msr_intercept(void)
{
	static const union value gp = { .low = 1 | 1 << 8 | 13 << 16 };
	struct assoc event = { .name = R_PENDING_EVENT_0, .value = gp };
	u64 handler = MSR_AT(msr_handler), *idt;
	const u64 *seen;
	struct vm vm;
	struct message m;
	u16 status;

	vm_start(&vm);
	vm_vp(&vm, 0);
	install_statuses(&vm);
	vm_program(&vm, msr_intercept, enter_long);
	idt = (u64 *)(vm.ram + IDT) + 2 * 13;
	idt[0] = (handler & 0xffff) | 8 << 16 | 0x8e00ull << 32 | (handler >> 16) << 48;
	idt[1] = 0;
	memset(vm.ram + 0x4000, 0, 64);
	seen = (const u64 *)(vm.ram + 0x4000);

	/* As often as the monitor does nothing about it. */
	for (int i = 0; i < 3; i++)
		if (!msr_stop(&vm, MSR_AT(msr_read), 0x12345678, ACCESS_READ, 2))
			return;
	check_u64(reg(&vm, 0, R_RAX), ~0ull, "rax before the instruction");
	check_u64(reg(&vm, 0, R_RDX), ~1ull, "and rdx");
	reg_set(&vm, 0, R_RAX, 0x1111111122222222);
	reg_set(&vm, 0, R_RDX, 0x33333333);
	reg_set(&vm, 0, R_RIP, MSR_AT(msr_read) + 2);
	msr_stop(&vm, MSR_AT(msr_write), 0x12345678, ACCESS_WRITE, 2);
	check(seen[0] == 0x1111111122222222 && seen[1] == 0x33333333, "it read what it was given");
	check(reg(&vm, 0, R_RAX) == 0x55667788 && reg(&vm, 0, R_RDX) == 0x11223344,
	      "and writes a value");
	reg_set(&vm, 0, R_RIP, MSR_AT(msr_prefix));
	msr_stop(&vm, MSR_AT(msr_prefix), 0x12345678, ACCESS_READ, 3);
	reg_set(&vm, 0, R_RIP, MSR_AT(msr_fault));

	msr_stop(&vm, MSR_AT(msr_fault), 0x12345678, ACCESS_READ, 2);
	check_u64((u64)regs_set(&vm, 0, &event, 1, NULL, NULL), 0, "#GP by a pending event");
	msr_stop(&vm, MSR_AT(msr_fault_2), 0x12345678, ACCESS_WRITE, 2);
	check(seen[2] == 0 && seen[3] == MSR_AT(msr_fault), "raised at the instruction: %#llx",
	      (unsigned long long)seen[3]);
	check_u64(reg(&vm, 0, R_RAX), 0x55667788, "which changed nothing");
	reg_set(&vm, 0, R_PENDING_INTERRUPTION, 1 | 3 << 1 | 1 << 4 | 13 << 16);

	msr_stop(&vm, MSR_AT(msr_base), 0x1b, ACCESS_WRITE, 2);
	check(seen[2] == 0 && seen[3] == MSR_AT(msr_fault_2) && (u32)seen[5] == 2,
	      "#GP by a pending interruption: at %#llx", (unsigned long long)seen[3]);
	check_u64((u32)seen[4], 0xfee00900, "a read that was not asked for is served");
	reg_set(&vm, 0, R_APIC_BASE, 0xfee00900);
	reg_set(&vm, 0, R_RIP, MSR_AT(msr_base) + 2);
	msr_stop(&vm, MSR_AT(msr_fs), 0xc0000100, ACCESS_READ, 2);
	reg_set(&vm, 0, R_RIP, MSR_AT(msr_fs) + 2);
	msr_stop(&vm, MSR_AT(msr_synthetic), 0x40000118, ACCESS_READ, 2);
	reg_set(&vm, 0, R_RIP, MSR_AT(msr_synthetic) + 2);

	vm_run(&vm, 0, &m);
	check_u64(m.type, MESSAGE_IO_PORT, "ports are told as ever");
	io_done(&vm, &m, ~0ull);
	check(!install(&vm, INTERCEPT_MSRS, 0, 0, &status), "no more, status %#x", status);
	check(vm_run_to(&vm, 0, DONE_PORT, &m), "the program ends");
	check_u64(seen[4] >> 32, 0, "with zero from an MSR nobody knows");
	vm_end(&vm);
}

static void timer(void)
{
	struct vm vm;
	struct message m;

	vm_start(&vm);
	vm_vp(&vm, 0);
	vm_program(&vm, timer, enter_long);
	check(vm_run_to(&vm, 0, DONE_PORT, &m), "no intercept for APIC, HLT or interrupt");
	check_u64(m.io.rax, 0x40, "the timer's vector woke it");
	vm_end(&vm);
}

static void triple_fault(void)
{
	struct assoc empty = { .name = R_IDTR };
	struct vm vm;
	struct message m;

	vm_start(&vm);
	vm_vp(&vm, 0);
	vm_program(&vm, triple, enter_long);
	regs_set(&vm, 0, &empty, 1, NULL, NULL);
	for (int i = 0; i < 3; i++) {
		vm_run(&vm, 0, &m);
		check_u64(m.type, MESSAGE_UNRECOVERABLE, "a triple fault, as often as one runs on");
	}
	vm_program(&vm, count, enter_real);
	check(vm_run_to(&vm, 0, DONE_PORT, &m), "with new state the VP runs again");
	vm_end(&vm);
}

static void smp(void)
{
	extern const u8 guest_second[], guest_second_end[];
	struct vm vm;
	struct message m;

	vm_start(&vm);
	vm_vp(&vm, 0);
	vm_vp(&vm, 1);
	memcpy(vm.ram + 0x9000, guest_second, (size_t)(guest_second_end - guest_second));
	enter_real(&vm, 1, PROGRAM);
	check_u64(reg(&vm, 1, R_ACTIVITY) & 1, 1, "the second waits to be started");
	check_u64((u64)vm_try(&vm, 1, &m), EINTR, "and does, whatever its registers are");
	vm_program(&vm, smp, enter_long);
	check(vm_run_to(&vm, 0, DONE_PORT, &m), "the first sends INIT and start-up");
	vm_run(&vm, 1, &m);
	check_u64(m.type, MESSAGE_IO_PORT, "the second runs");
	check_u64(m.io.port, 0x81, "what it should");
	check_u64(m.vp, 1, "and has its number");
	check_u64(m.cs.selector, 0x900, "at the page of the start-up");
	check_u64(m.cs.base, 0x9000, "and base");
	vm_end(&vm);
}

/* --- stopping --- */

static volatile sig_atomic_t signals;

static void count_signal(int sig)
{
	(void)sig;
	signals++;
}

static void interrupted(void)
{
	struct itimerval soon = { .it_value.tv_usec = 100000 };
	struct sigaction act = { .sa_handler = count_signal };
	volatile u32 *counter;
	struct vm vm;
	struct message m;
	u32 seen;
	int error;

	vm_start(&vm);
	vm_vp(&vm, 0);
	vm_program(&vm, spin, enter_real);
	counter = (volatile u32 *)(vm.ram + 0x4000);
	for (int i = 0; i < 5; i++) {
		u32 before = *counter;

		sigaction(SIGALRM, &act, NULL);
		setitimer(ITIMER_REAL, &soon, NULL);
		error = ioctl(vm.vp[0], MSHV_RUN_VP, &m) < 0 ? errno : 0;
		seen = *counter;
		check_u64((u64)error, EINTR, "a signal ends the run");
		check(seen != before, "that was one");
		usleep(50000);
		check_u64(*counter, seen, "and nothing runs now");
		/* With the root scheduler it is enough that nobody dispatches it. */
		check_u64(reg(&vm, 0, R_EXPLICIT_SUSPEND) & 1, !getenv("ROOT_SCHEDULER"),
			  "it is suspended");
		check_u64(reg(&vm, 0, R_INTERCEPT_SUSPEND) & 1, 0, "and not by an intercept");
		check(reg(&vm, 0, R_RIP) - PROGRAM < 16, "in its program");
	}
	check_u64((u64)signals, 5, "five signals");
	vm_end(&vm);
}

/* Signals come while intercepts do: none of either is lost. */
static void signals_and_intercepts(void)
{
	struct itimerval often = { .it_value.tv_usec = 3000, .it_interval.tv_usec = 3000 };
	struct sigaction act = { .sa_handler = count_signal };
	struct vm vm;
	struct message m;
	u32 outs = 0, interrupts = 0;

	vm_start(&vm);
	vm_vp(&vm, 0);
	sigaction(SIGALRM, &act, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
	for (int round = 0; round < 3; round++) {
		vm_program(&vm, count, enter_real);
		for (;;) {
			if (ioctl(vm.vp[0], MSHV_RUN_VP, &m) < 0) {
				if (errno != EINTR)
					give_up("running a VP: %m");
				interrupts++;
				continue;
			}
			if (m.type != MESSAGE_IO_PORT || m.io.port == DONE_PORT)
				break;
			if ((u16)m.io.rax != 200 - outs % 200)
				check(false, "output %u: %llu", outs, (unsigned long long)m.io.rax);
			outs++;
			io_done(&vm, &m, m.io.rax);
		}
	}
	/* A signal would also end what is printed. */
	setitimer(ITIMER_REAL, &(struct itimerval){ 0 }, NULL);
	check_u64(outs, 600, "600 outputs, %u interruptions", interrupts);
	vm_end(&vm);
}

const struct mshv_case run_cases[] = {
	{ "io", io },
	{ "restart", restart },
	{ "string", string },
	{ "mmio", mmio },
	{ "read-only", read_only },
	{ "reset-vector", reset_vector },
	{ "page-taken", page_taken },
	{ "small-pages", small_pages },
	{ "cpuid", cpuid },
	{ "msr", msr },
	{ "msr-intercept", msr_intercept },
	{ "timer", timer },
	{ "triple-fault", triple_fault },
	{ "smp", smp },
	{ "interrupted", interrupted },
	{ "signals-and-intercepts", signals_and_intercepts },
	{ 0 },
};
