/* SPDX-License-Identifier: MIT */
/*
 * A kit for bare 64-bit guest programs that test one rule of the interface from
 * inside a VM, in milliseconds. A test is one file with test_main(); it prints
 * TAP lines and ends through the exit port: 0 all passed, 1 something failed, 99
 * an exception nobody expected.
 *
 * Memory is mapped one to one below 4 GiB. SSE state is the test's alone: the
 * kit and its interrupt handlers use general registers only.
 */
#ifndef NESTOR_PAYLOAD_H
#define NESTOR_PAYLOAD_H

#include "base/types.h"
#include "hvdef/cpuid.h"
#include "hvdef/hypercall.h"
#include "hvdef/msr.h"
#include "hvdef/synic.h"

#define MAX_CPUS 64

void test_main(void);

/* Results. @fmt names the rule. */
void ok(bool passed, const char *fmt, ...) PRINTF_FMT(2, 3);
/* With both values shown when they differ. */
void ok_eq(u64 got, u64 want, const char *fmt, ...) PRINTF_FMT(3, 4);
void skip(const char *why, const char *fmt, ...) PRINTF_FMT(2, 3);
void note(const char *fmt, ...) PRINTF_FMT(1, 2); /* a "# " line */
/* %s %c %d %u %x with l and ll, %%, a width and 0 padding. */
void print(const char *fmt, ...) PRINTF_FMT(1, 2);
void bail(const char *fmt, ...) PRINTF_FMT(1, 2) __attribute__((noreturn));

/* Instructions. */
static inline void out32(u16 port, u32 value)
{
	__asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port));
}

static inline void out8(u16 port, u8 value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline u64 rdmsr(u32 msr)
{
	u32 low, high;

	__asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr) : "memory");
	return (u64)high << 32 | low;
}

static inline void wrmsr(u32 msr, u64 value)
{
	__asm__ volatile("wrmsr" : : "c"(msr), "a"((u32)value), "d"((u32)(value >> 32)) : "memory");
}

static inline u64 rdtsc(void)
{
	u32 low, high;

	__asm__ volatile("lfence; rdtsc" : "=a"(low), "=d"(high) : : "memory");
	return (u64)high << 32 | low;
}

static inline void irq_on(void)
{
	__asm__ volatile("sti" : : : "memory");
}

static inline void irq_off(void)
{
	__asm__ volatile("cli" : : : "memory");
}

static inline void relax(void)
{
	__asm__ volatile("pause" : : : "memory");
}

struct cpuid {
	u32 eax, ebx, ecx, edx;
};
struct cpuid cpuid(u32 leaf, u32 index);
/* Does the hypervisor grant these (HV_PRIV_*)? And these (HV_FEATURE_*, EDX)? */
bool hv_has(u64 privileges);
bool hv_feature(u32 features);

/* Traps. */
#define TRAP_UD 6
#define TRAP_DF 8
#define TRAP_GP 13
#define TRAP_PF 14

struct trap {
	u8 vector;
	u64 error, rip;
};
/* Runs @fn; an exception in it ends it: then true, with @t filled (which may be NULL). */
bool trap_catch(void (*fn)(void *), void *arg, struct trap *t);
/* The same in ring 3, with this I/O privilege level. */
bool trap_catch_user(void (*fn)(void *), void *arg, u32 iopl, struct trap *t);
/* True if the access is #GP. *value is read into. */
bool rdmsr_faults(u32 msr, u64 *value);
bool wrmsr_faults(u32 msr, u64 value);

/*
 * Interrupts: vectors from 32 on are counted per processor and acknowledged, by irq_end, or
 * while that is NULL by the register of x2APIC mode.
 */
extern void (*irq_end)(void);
u64 irq_count(u8 vector);
u64 irq_count_of(u32 cpu, u8 vector);
/* Enables interrupts until @count of @vector have come, or @us have passed. */
bool irq_wait(u8 vector, u64 count, u64 us);

/* Time. */
u64 ref_time(void); /* 100 ns, by MSR */
u64 tsc_hz(void);
void delay_us(u64 us);

/* Processors, in the order of the MADT; 0 is this one. */
u32 cpu_count(void);
u32 cpu_apic_id(u32 cpu);
u32 this_cpu(void);
/* Starts a processor by INIT and SIPI; false if it does not come within a second. */
bool cpu_start(u32 cpu);
/* Runs @fn there, with interrupts off, and waits for its end. False: no answer in @us. */
bool cpu_run(u32 cpu, void (*fn)(void *), void *arg, u64 us);
/* The same in two steps. */
void cpu_run_start(u32 cpu, void (*fn)(void *), void *arg);
bool cpu_run_wait(u32 cpu, u64 us);
void ipi_send(u32 cpu, u8 vector);

/* RAM of the machine by the memory map: where the highest usable byte below 4 GiB ends. */
u64 ram_end(void);
/* What --append said. */
const char *command_line(void);

/* The hypercall page. hv_setup() writes GUEST_OS_ID and lays the page over hv_page. */
#define HV_TEST_OS_ID 0x8100000000000000ull
extern u8 hv_page[PAGE_BYTES];
void hv_setup(void);

struct hv_call {
	u64 control, input, output; /* input and output are RDX and R8 after the call */
	u64 page;
	u64 result;
	u64 survivors; /* HV_SURVIVORS if RBX, RBP, RSI, RDI, R12 to R15 survived */
	u8 xmm[6][16];
};
#define HV_SURVIVORS (0x1111 + 0x2222 + 0x3333 + 0x4444 + 0x5555 + 0x6666 + 0x7777 + 0x8888)
void hv_call_64(struct hv_call *c);
void hv_call_32(struct hv_call *c);
/* The short forms: RAX of the call, by hv_page. */
u64 hypercall(u64 control, u64 input, u64 output);
#define HV_STATUS(result)    ((u16)(result))
#define HV_REPS(result)	     ((u32)((result) >> 32) & 0xFFF)
#define HV_REP(count, start) ((u64)(count) << 32 | (u64)(start) << HV_HYPERCALL_REP_START_SHIFT)
#define HV_VARHEAD(qwords)   ((u64)(qwords) << 17)

void *memset(void *dst, int value, size_t len);
void *memcpy(void *dst, const void *src, size_t len);
int memcmp(const void *a, const void *b, size_t len);

#endif
