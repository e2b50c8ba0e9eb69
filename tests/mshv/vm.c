// SPDX-License-Identifier: MIT
#include "vm.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

bool vm_small_pages;

bool check(bool good, const char *what, ...)
{
	va_list ap;

	va_start(ap, what);
	fputs(good ? "ok - " : "not ok - ", stdout);
	vprintf(what, ap);
	putchar('\n');
	va_end(ap);
	return good;
}

bool check_u64(u64 seen, u64 want, const char *what, ...)
{
	char text[200];
	va_list ap;

	va_start(ap, what);
	vsnprintf(text, sizeof(text), what, ap);
	va_end(ap);
	if (seen != want)
		printf("# %s: %#llx, not %#llx\n", text, (unsigned long long)seen,
		       (unsigned long long)want);
	return check(seen == want, "%s", text);
}

void give_up(const char *why, ...)
{
	va_list ap;

	va_start(ap, why);
	fputs("not ok - ", stdout);
	vprintf(why, ap);
	putchar('\n');
	va_end(ap);
	fflush(stdout);
	_exit(1);
}

/* --- hypercalls --- */

int hvcall(int fd, u16 code, u16 reps, const void *in, size_t in_bytes, void *out, size_t out_bytes,
	   u16 *status, u16 *done)
{
	struct mshv_hvcall call = { .code = code,
				    .reps = reps,
				    .in_bytes = (u16)in_bytes,
				    .out_bytes = (u16)out_bytes,
				    .in = (uintptr_t)in,
				    .out = (uintptr_t)out };
	int ret = ioctl(fd, MSHV_HVCALL, &call) < 0 ? errno : 0;

	if (status)
		*status = call.status;
	if (done)
		*done = call.reps;
	return ret;
}

int property_get(int fd, u32 code, u64 *value, u16 *status)
{
	struct {
		u64 partition;
		u32 code, pad;
	} in = { .code = code };

	*value = 0;
	return hvcall(fd, CALL_GET_PROPERTY, 0, &in, sizeof(in), value, sizeof(*value), status,
		      NULL);
}

int property_set(int fd, u32 code, u64 value, u16 *status)
{
	struct {
		u64 partition;
		u32 code, pad;
		u64 value;
	} in = { .code = code, .value = value };

	return hvcall(fd, CALL_SET_PROPERTY, 0, &in, sizeof(in), NULL, 0, status, NULL);
}

int regs_get(struct vm *vm, u32 vp, const u32 *names, u32 count, union value *out, u16 *status,
	     u16 *done)
{
	struct {
		u64 partition;
		u32 vp, vtl;
		u32 names[64];
	} in = { .vp = vp };

	memcpy(in.names, names, count * sizeof(*names));
	return hvcall(vm->fd, CALL_GET_REGISTERS, (u16)count, &in, 16 + count * sizeof(*names), out,
		      count * sizeof(*out), status, done);
}

int regs_set(struct vm *vm, u32 vp, const struct assoc *a, u32 count, u16 *status, u16 *done)
{
	struct {
		u64 partition;
		u32 vp, vtl;
		struct assoc a[64];
	} in = { .vp = vp };

	memcpy(in.a, a, count * sizeof(*a));
	return hvcall(vm->fd, CALL_SET_REGISTERS, (u16)count, &in, 16 + count * sizeof(*a), NULL, 0,
		      status, done);
}

u64 reg(struct vm *vm, u32 vp, u32 name)
{
	union value v = { 0 };
	u16 status;
	int error = regs_get(vm, vp, &name, 1, &v, &status, NULL);

	if (error)
		give_up("register %#x cannot be read: status %#x, %s", name, status,
			strerror(error));
	return v.low;
}

void reg_set(struct vm *vm, u32 vp, u32 name, u64 value)
{
	struct assoc a = { .name = name, .value.low = value };
	u16 status;
	int error = regs_set(vm, vp, &a, 1, &status, NULL);

	if (error)
		give_up("register %#x cannot be set to %#llx: status %#x, %s", name,
			(unsigned long long)value, status, strerror(error));
}

/* --- machines --- */

void *pages(u64 bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		give_up("mmap: %m");
	return p;
}

void vm_create(struct vm *vm)
{
	struct mshv_create_partition c = { .flags = PT_USUAL };

	memset(vm, 0, sizeof(*vm));
	vm->dev = (int)MUST(open("/dev/mshv", O_RDWR | O_CLOEXEC));
	vm->fd = (int)MUST(ioctl(vm->dev, MSHV_CREATE_PARTITION, &c));
}

int vm_map(struct vm *vm, u64 gpa, void *at, u64 bytes, u32 flags)
{
	struct mshv_memory m = {
		.size = bytes, .guest_pfn = gpa / PAGE, .address = (uintptr_t)at, .flags = (u8)flags
	};

	return ioctl(vm->fd, MSHV_SET_MEMORY, &m) < 0 ? errno : 0;
}

/* One huge page, or as many small ones. */
static u8 *ram_pages(void)
{
	uintptr_t p = (uintptr_t)pages(2 * RAM_BYTES);
	u8 *ram = (u8 *)((p + RAM_BYTES - 1) & ~(uintptr_t)(RAM_BYTES - 1));

	madvise(ram, RAM_BYTES, vm_small_pages ? MADV_NOHUGEPAGE : MADV_HUGEPAGE);
	return ram;
}

void vm_start(struct vm *vm)
{
	u16 status = 0;

	vm_create(vm);
	if (property_set(vm->fd, PROPERTY_SYNTHETIC_FEATURES, USUAL_FEATURES, &status))
		give_up("synthetic features: status %#x", status);
	MUST(ioctl(vm->fd, MSHV_INITIALIZE));
	if (property_set(vm->fd, PROPERTY_UNKNOWN_MSR, 1, &status))
		give_up("unknown MSRs: status %#x", status);
	vm->ram = ram_pages();
	errno = vm_map(vm, 0, vm->ram, RAM_BYTES, MEM_WRITABLE | MEM_EXECUTABLE);
	MUST(errno ? -1 : 0);
}

void vm_end(struct vm *vm)
{
	for (u32 i = 0; i < 16; i++)
		if (vm->vp[i])
			close(vm->vp[i]);
	close(vm->fd);
	close(vm->dev);
	if (vm->ram)
		munmap(vm->ram, RAM_BYTES);
}

void vm_vp(struct vm *vm, u32 index)
{
	vm->vp[index] = (int)MUST(ioctl(vm->fd, MSHV_CREATE_VP, &index));
}

void vm_load(struct vm *vm, const u8 *program, const u8 *end)
{
	memcpy(vm->ram + PROGRAM, program, (size_t)(end - program));
}

void *vm_mmap(struct vm *vm, u32 vp, u32 number)
{
	void *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, vm->vp[vp], number * PAGE);

	if (p == MAP_FAILED)
		give_up("page %u of VP %u: %m", number, vp);
	return p;
}

/* --- modes --- */

static const u32 segments[] = { R_CS, R_DS, R_ES, R_SS, R_FS, R_GS };

static u32 segments_fill(struct assoc *a, const struct segment *code, const struct segment *data)
{
	for (u32 i = 0; i < 6; i++) {
		a[i].name = segments[i];
		a[i].value.segment = segments[i] == R_CS ? *code : *data;
	}
	a[6].name = R_TR;
	a[6].value.segment = (struct segment){ .limit = 0xffff, .attributes = 0x8b };
	a[7].name = R_LDTR;
	a[7].value.segment = (struct segment){ .limit = 0xffff, .attributes = 0x82 };
	return 8;
}

static void enter(struct vm *vm, u32 vp, struct assoc *a, u32 count)
{
	u16 status = 0, done = 0;
	int error = regs_set(vm, vp, a, count, &status, &done);

	if (error || done != count)
		give_up("register %#x cannot be set: status %#x, %u of %u", a[done].name, status,
			done, count);
}

static u32 low(struct assoc *a, u32 name, u64 value)
{
	*a = (struct assoc){ .name = name, .value.low = value };
	return 1;
}

void enter_real(struct vm *vm, u32 vp, u64 rip)
{
	static const struct segment code = { .limit = 0xffff, .attributes = 0x9b },
				    data = { .limit = 0xffff, .attributes = 0x93 };
	struct assoc a[16] = { 0 };
	u32 n = segments_fill(a, &code, &data);

	n += low(&a[n], R_CR0, 0x60000010);
	n += low(&a[n], R_CR4, 0);
	n += low(&a[n], R_EFER, 0);
	n += low(&a[n], R_RSP, STACK);
	n += low(&a[n], R_RFLAGS, 2);
	n += low(&a[n], R_RIP, rip);
	enter(vm, vp, a, n);
}

static void tables_fill(struct vm *vm)
{
	u64 *t = (u64 *)(vm->ram + PAGE_TABLES), *idt = (u64 *)(vm->ram + IDT),
	    *gdt = (u64 *)(vm->ram + GDT);

	t[0] = (PAGE_TABLES + PAGE) | 3;
	for (u64 g = 0; g < 4; g++) {
		t[512 + g] = (PAGE_TABLES + (2 + g) * PAGE) | 3;
		for (u64 i = 0; i < 512; i++)
			t[512 * (2 + g) + i] = g << 30 | i << 21 | 0x83;
	}
	for (u64 v = 0x30; v < 0x90; v++) {
		u64 at = HANDLERS + (v - 0x30) * 16;

		idt[2 * v] = (at & 0xffff) | 8 << 16 | 0x8e00ull << 32 | (at >> 16) << 48;
		idt[2 * v + 1] = 0;
	}
	gdt[1] = 0x00af9b000000ffff;
	gdt[2] = 0x00cf93000000ffff;
}

void enter_long(struct vm *vm, u32 vp, u64 rip)
{
	extern const u8 guest_handlers[], guest_handlers_end[];
	static const struct segment code = { .limit = ~0u, .selector = 8, .attributes = 0xa09b },
				    data = { .limit = ~0u, .selector = 16, .attributes = 0xc093 };
	struct assoc a[24] = { 0 };
	u32 n = segments_fill(a, &code, &data);

	tables_fill(vm);
	memcpy(vm->ram + HANDLERS, guest_handlers, (size_t)(guest_handlers_end - guest_handlers));
	a[n].name = R_GDTR;
	a[n++].value.table = (struct table){ .limit = 23, .base = GDT };
	a[n].name = R_IDTR;
	a[n++].value.table = (struct table){ .limit = 0xfff, .base = IDT };
	/* In QEMU's order, which no processor would take. */
	n += low(&a[n], R_CR0, 0x80050033);
	n += low(&a[n], R_CR3, PAGE_TABLES);
	n += low(&a[n], R_CR4, 0x620);
	n += low(&a[n], R_EFER, 0x500);
	n += low(&a[n], R_RSP, STACK);
	n += low(&a[n], R_RFLAGS, 2);
	n += low(&a[n], R_RIP, rip);
	enter(vm, vp, a, n);
}

/* --- running --- */

static void nothing(int sig)
{
	(void)sig;
}

int vm_try(struct vm *vm, u32 vp, struct message *m)
{
	static const struct itimerval five = { .it_value.tv_sec = 5 }, none;
	struct sigaction act = { .sa_handler = nothing };
	int ret;

	memset(m, 0, sizeof(*m));
	sigaction(SIGALRM, &act, NULL);
	setitimer(ITIMER_REAL, &five, NULL);
	ret = ioctl(vm->vp[vp], MSHV_RUN_VP, m) < 0 ? errno : 0;
	setitimer(ITIMER_REAL, &none, NULL);
	return ret;
}

void vm_run(struct vm *vm, u32 vp, struct message *m)
{
	int error = vm_try(vm, vp, m);

	if (error == EINTR)
		give_up("no intercept within five seconds; rip %#llx",
			(unsigned long long)reg(vm, vp, R_RIP));
	if (error)
		give_up("running a VP: %s", strerror(error));
}

u32 vm_run_asked(struct vm *vm, u32 vp, struct message *m)
{
	u32 times = 0;

	for (;; times++) {
		vm_run(vm, vp, m);
		if (m->type != MESSAGE_GPA_INTERCEPT || times == 1000)
			return times;
		if ((m->memory.bytes[0] & 0xfc) != 0x88 || m->memory.bytes[1] >> 6 != 3)
			check(false, "asked by %02x %02x, which does not move a register",
			      m->memory.bytes[0], m->memory.bytes[1]);
		reg_set(vm, vp, R_RIP, m->rip + 2);
	}
}

void io_done(struct vm *vm, const struct message *m, u64 rax)
{
	struct assoc a[2] = { 0 };
	u16 done = 0;

	low(&a[0], R_RIP, m->rip + (m->length & 15));
	low(&a[1], R_RAX, rax);
	if (regs_set(vm, m->vp, a, 2, NULL, &done) || done != 2)
		give_up("RIP and RAX cannot be set");
}

bool vm_run_to(struct vm *vm, u32 vp, u16 port, struct message *m)
{
	for (;;) {
		vm_run(vm, vp, m);
		if (m->type != MESSAGE_IO_PORT || m->access != ACCESS_WRITE ||
		    (m->io.port != port && m->io.port != 0x80)) {
			printf("# message %#x at %#llx, port %#x, gpa %#llx\n", m->type,
			       (unsigned long long)m->rip, m->io.port,
			       (unsigned long long)m->memory.gpa);
			return false;
		}
		io_done(vm, m, m->io.rax);
		if (m->io.port == port)
			return true;
	}
}
