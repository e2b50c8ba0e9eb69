// SPDX-License-Identifier: MIT
/* Interrupts into a machine and doorbells out of it. */
#include "vm.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define WAITING_PORT 0xf2 /* of guest.S: wait */
#define VECTOR_PORT  0xf3

static void waiting(struct vm *vm, struct message *m)
{
	vm_start(vm);
	vm_vp(vm, 0);
	vm_program(vm, wait, enter_long);
	if (!vm_run_to(vm, 0, WAITING_PORT, m))
		give_up("the program does not start");
}

static int assert_interrupt(struct vm *vm, u64 control, u64 destination, u32 vector, u16 *status)
{
	struct {
		u64 partition, control, destination;
		u32 vector;
		u8 vtl, pad[3];
	} in = { .control = control, .destination = destination, .vector = vector };

	return hvcall(vm->fd, CALL_ASSERT_INTERRUPT, 0, &in, sizeof(in), NULL, 0, status, NULL);
}

static void comes(struct vm *vm, u32 vector, const char *what)
{
	struct message m;
	bool good = vm_run_to(vm, 0, VECTOR_PORT, &m);

	check(good && (u8)m.io.rax == vector, "%s: vector %#x", what, (u8)m.io.rax);
}

static void asserted(void)
{
	static const struct {
		u64 control, destination;
		u32 vector;
		const char *what;
	} rows[] = {
		{ 0, 0, 0x31, "fixed, to an id" },
		{ 1, 0, 0x52, "lowest priority, to an id" },
		{ 1ull << 33, 1, 0x61, "fixed, logical" },
		{ 1 | 1ull << 33, 0xff, 0x62, "lowest priority, logical, to any" },
		{ 0, 0xff, 0x63, "to all" },
		{ 1ull << 32, 0, 0x41, "level-triggered" },
	};
	struct vm vm;
	struct message m;
	u32 lapic_ldr;
	u16 status;

	waiting(&vm, &m);
	{
		u32 *l = pages(PAGE);
		struct mshv_state s = { .type = STATE_LAPIC,
					.bytes = PAGE,
					.buffer = (uintptr_t)l };

		MUST(ioctl(vm.vp[0], MSHV_GET_STATE, &s));
		l[2] = 1u << 24;
		l[3] = ~0u;
		s.bytes = PAGE;
		MUST(ioctl(vm.vp[0], MSHV_SET_STATE, &s));
		lapic_ldr = l[2];
	}
	check_u64(lapic_ldr >> 24, 1, "its logical id");
	for (u32 i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int error = assert_interrupt(&vm, rows[i].control, rows[i].destination,
					     rows[i].vector, &status);

		check(!error, "%s: status %#x", rows[i].what, status);
		if (rows[i].control >> 32 & 1) { /* its end is the monitor's to know */
			vm_run(&vm, 0, &m);
			check_u64(m.type, MESSAGE_APIC_EOI,
				  "the end of a level-triggered interrupt");
			check_u64(m.vp, 0, "of this VP");
			check_u64(m.eoi_vector, rows[i].vector, "of this vector");
		}
		comes(&vm, rows[i].vector, rows[i].what);
	}
	assert_interrupt(&vm, 0, 0, 0x35, NULL);
	assert_interrupt(&vm, 0, 0, 0x85, NULL);
	comes(&vm, 0x85, "two at once: the higher first");
	comes(&vm, 0x35, "then the lower");
	vm_end(&vm);
}

/* Signals the eventfd while the machine halts. */
static void ring(int fd)
{
	u64 one = 1;

	MUST(write(fd, &one, sizeof(one)));
}

static void irqfd(void)
{
	struct mshv_routes routes = {
		.count = 2,
		.entry = { { .gsi = 5, .address_lo = 0xfee00000, .data = 0x44 },
			   { .gsi = 30, .address_lo = 0xfee00000, .data = 0x45 } }
	};
	int fd = (int)MUST(eventfd(0, EFD_NONBLOCK)), other = (int)MUST(eventfd(0, EFD_NONBLOCK));
	struct mshv_irqfd a = { .fd = fd, .gsi = 5 }, b = { .fd = other, .gsi = 30 };
	struct vm vm;
	struct message m;

	waiting(&vm, &m);
	MUST(ioctl(vm.fd, MSHV_SET_ROUTING, &routes));
	MUST(ioctl(vm.fd, MSHV_IRQFD, &a));
	MUST(ioctl(vm.fd, MSHV_IRQFD, &b));
	check(ioctl(vm.fd, MSHV_IRQFD, &a) < 0 && errno == EBUSY, "an eventfd is used once");
	ring(fd);
	comes(&vm, 0x44, "the first");
	ring(other);
	comes(&vm, 0x45, "the second");
	for (int i = 0; i < 50; i++) {
		ring(i % 2 ? fd : other);
		if (!vm_run_to(&vm, 0, VECTOR_PORT, &m) || (u8)m.io.rax != (i % 2 ? 0x44 : 0x45))
			give_up("interrupt %d did not come", i);
	}
	check(true, "50 interrupts");
	routes.entry[0].data = 0x46;
	MUST(ioctl(vm.fd, MSHV_SET_ROUTING, &routes));
	ring(fd);
	comes(&vm, 0x46, "by another route");
	a.flags = IRQFD_DEASSIGN;
	MUST(ioctl(vm.fd, MSHV_IRQFD, &a));
	ring(fd);
	check_u64((u64)vm_try(&vm, 0, &m), EINTR, "no more when it is taken away");
	routes.entry[0].address_hi = 1;
	check(ioctl(vm.fd, MSHV_SET_ROUTING, &routes) < 0 && errno == EINVAL, "a high address");
	routes.entry[0] = (struct mshv_route){ .gsi = 4096 };
	check(ioctl(vm.fd, MSHV_SET_ROUTING, &routes) < 0 && errno == EINVAL, "a high number");
	vm_end(&vm);
}

static u64 rung(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	u64 n = 0;

	if (poll(&p, 1, 2000) <= 0 || read(fd, &n, sizeof(n)) != sizeof(n))
		return 0;
	return n;
}

static void doorbell(void)
{
	int any = (int)MUST(eventfd(0, EFD_NONBLOCK)), seven = (int)MUST(eventfd(0, EFD_NONBLOCK));
	struct mshv_ioeventfd a = { .address = MMIO + 0x1000, .fd = any },
			      b = { .address = MMIO + 0x2000,
				    .bytes = 4,
				    .datamatch = 7,
				    .fd = seven,
				    .flags = IOEVENTFD_DATAMATCH },
			      bad;
	struct vm vm;
	struct message m;
	u64 n;

	vm_start(&vm);
	vm_vp(&vm, 0);
	MUST(ioctl(vm.fd, MSHV_IOEVENTFD, &a));
	MUST(ioctl(vm.fd, MSHV_IOEVENTFD, &b));
	check(ioctl(vm.fd, MSHV_IOEVENTFD, &a) < 0 && errno == EEXIST, "the same again");
	bad = a;
	bad.flags = IOEVENTFD_PIO;
	check(ioctl(vm.fd, MSHV_IOEVENTFD, &bad) < 0 && errno == EOPNOTSUPP,
	      "no doorbells of ports");
	bad = a;
	bad.bytes = 3;
	check(ioctl(vm.fd, MSHV_IOEVENTFD, &bad) < 0 && errno == EINVAL, "nor of three bytes");
	for (int i = 0; i < 100; i++) { /* more than a ring holds */
		vm_program(&vm, doorbell, enter_long);
		vm_run(&vm, 0, &m);
		if (m.type != MESSAGE_UNMAPPED_GPA || m.memory.gpa != MMIO + 0x2000 ||
		    m.rip != ADDRESS(doorbell, doorbell_other)) {
			check(false, "round %d: message %#x at %#llx, address %#llx", i, m.type,
			      (unsigned long long)m.rip, (unsigned long long)m.memory.gpa);
			break;
		}
		if (i == 0) {
			check(true, "only another value is an intercept");
			n = rung(any);
			check(n == 1 || n == 2, "two writes of any size rang: %llu",
			      (unsigned long long)n);
			check_u64(rung(seven), 1, "one write of the value rang");
		}
	}
	check(rung(any) && rung(seven), "a hundred rounds rang");
	a.flags = IOEVENTFD_DEASSIGN;
	check(!ioctl(vm.fd, MSHV_IOEVENTFD, &a), "one is taken away: %m");
	vm_program(&vm, doorbell, enter_long);
	vm_run(&vm, 0, &m);
	check(m.type == MESSAGE_UNMAPPED_GPA && m.memory.gpa == MMIO + 0x1000,
	      "and is an intercept again");
	vm_end(&vm);
}

const struct mshv_case event_cases[] = {
	{ "asserted", asserted },
	{ "irqfd", irqfd },
	{ "doorbell", doorbell },
	{ 0 },
};
