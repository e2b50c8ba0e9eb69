/* SPDX-License-Identifier: MIT */
/* Between the files of the kit: not for tests. */
#ifndef NESTOR_PAYLOAD_KIT_H
#define NESTOR_PAYLOAD_KIT_H

#include "payload/asm.h"
#include "payload/payload.h"

struct jmp {
	u64 reg[9];
};

/* What vector_common pushes, and the processor below it. */
struct frame {
	u64 r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
	u64 vector, error, rip, cs, rflags, rsp, ss;
};

struct cpu {
	u32 apic_id;
	bool catching, user_returned;
	volatile bool online;
	struct jmp jmp;
	struct trap trap;
	volatile u64 irqs[256];
	void (*volatile job)(void *);
	void *volatile job_arg;
	u8 trap_stack[8192] __attribute__((aligned(16)));
	u8 user_stack[8192] __attribute__((aligned(16)));
	u8 stack[16384] __attribute__((aligned(16)));
};
extern struct cpu cpus[MAX_CPUS];
extern u64 boot_params_gpa;

int jmp_save(struct jmp *j) __attribute__((returns_twice));
void jmp_resume(struct jmp *j) __attribute__((noreturn));
void segments_load(void);
void user_enter(void (*fn)(void *), void *arg, u64 rflags, void *stack);
void trap_entry(struct frame *f);
void kit_start(void);
void ap_start(void) __attribute__((noreturn));

/* Descriptor tables, control registers, x2APIC of the processor that runs it. */
void cpu_init(u32 cpu);
void pages_open_to_user(void);
void smp_init(void);

struct table_register {
	u16 limit;
	u64 base;
} __attribute__((packed));
struct table_register gdt_register(void);

#define X2APIC_EOI 0x80B
#define X2APIC_ICR 0x830
#define X2APIC_SVR 0x80F

#endif
