/* SPDX-License-Identifier: MIT */
/* A machine as a test sees it, and what a test says. A step that must work and does not ends the
 * case. */
#ifndef TESTS_MSHV_VM_H
#define TESTS_MSHV_VM_H

#include "abi.h"

#define RAM_BYTES   (2u << 20)
#define PROGRAM	    0x1000u
#define IDT	    0x6000u
#define GDT	    0x7000u
#define STACK	    0x8000u
#define HANDLERS    0xa000u
#define PAGE_TABLES 0x10000u
#define MMIO	    0xd0000000ull
#define DONE_PORT   0xf4
#define PAGE	    4096u

struct vm {
	int dev, fd, vp[16];
	u8 *ram; /* at address 0 */
};

/* One line of TAP. True if good. */
bool check(bool good, const char *what, ...) __attribute__((format(printf, 2, 3)));
/* The same for two numbers. */
bool check_u64(u64 seen, u64 want, const char *what, ...) __attribute__((format(printf, 3, 4)));
void __attribute__((noreturn)) give_up(const char *why, ...) __attribute__((format(printf, 1, 2)));
#define MUST(x)                                                                                    \
	({                                                                                         \
		long must_ = (x);                                                                  \
		if (must_ < 0)                                                                     \
			give_up("%s: %m", #x);                                                     \
		must_;                                                                             \
	})

/* The RAM of machines that are started from now on: of small pages, or huge if the kernel will. */
extern bool vm_small_pages;

/* A created partition; with vm_start() initialized and with RAM. */
void vm_create(struct vm *vm);
void vm_start(struct vm *vm);
void vm_end(struct vm *vm);

/* The ioctl's errno, or 0. */
int vm_map(struct vm *vm, u64 gpa, void *at, u64 bytes, u32 flags);
void *pages(u64 bytes);

/* A VP at @program in 16-bit or 64-bit mode. */
void vm_vp(struct vm *vm, u32 index);
void vm_load(struct vm *vm, const u8 *program, const u8 *end);
void enter_real(struct vm *vm, u32 vp, u64 rip);
void enter_long(struct vm *vm, u32 vp, u64 rip);
#define vm_program(vm, name, enter)                                                                \
	({                                                                                         \
		extern const u8 guest_##name[], guest_##name##_end[];                              \
		vm_load(vm, guest_##name, guest_##name##_end);                                     \
		enter(vm, 0, PROGRAM);                                                             \
	})
/* Where label @name of @program is in a machine. */
#define ADDRESS(program, name)                                                                     \
	({                                                                                         \
		extern const u8 guest_##program[], guest_##name[];                                 \
		PROGRAM + (u64)(guest_##name - guest_##program);                                   \
	})

/* The ioctl's errno, or 0; *status and *reps may be NULL. */
int hvcall(int fd, u16 code, u16 reps, const void *in, size_t in_bytes, void *out, size_t out_bytes,
	   u16 *status, u16 *done);
int property_get(int fd, u32 code, u64 *value, u16 *status);
int property_set(int fd, u32 code, u64 value, u16 *status);
int regs_get(struct vm *vm, u32 vp, const u32 *names, u32 count, union value *out, u16 *status,
	     u16 *done);
int regs_set(struct vm *vm, u32 vp, const struct assoc *a, u32 count, u16 *status, u16 *done);
/* One that must work. */
u64 reg(struct vm *vm, u32 vp, u32 name);
void reg_set(struct vm *vm, u32 vp, u32 name, u64 value);

/* Page @number of what a VP shows: 0 registers, 1 intercept message. */
void *vm_mmap(struct vm *vm, u32 vp, u32 number);

/* Runs a VP for five seconds at most; errno, or 0. */
int vm_try(struct vm *vm, u32 vp, struct message *m);
void vm_run(struct vm *vm, u32 vp, struct message *m);
/*
 * The same, where memory went before anybody touched it: Linux leaves it in the hypervisor's
 * map, and who is asked for it is the monitor. That must be by an instruction that moves a
 * register, whatever comes of it. How often it was.
 */
u32 vm_run_asked(struct vm *vm, u32 vp, struct message *m);
/* Runs on to an OUT of one byte to @port, over any other to port 0x80. */
bool vm_run_to(struct vm *vm, u32 vp, u16 port, struct message *m);
/* What a monitor does after scalar port I/O: RAX and RIP, in this order. */
void io_done(struct vm *vm, const struct message *m, u64 rax);

struct mshv_case {
	const char *name;
	void (*run)(void);
};
extern const struct mshv_case life_cases[], run_cases[], state_cases[], event_cases[], mend_cases[];

#endif
