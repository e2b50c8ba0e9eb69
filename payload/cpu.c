// SPDX-License-Identifier: MIT
/* One processor: descriptor tables, traps, interrupts, time, the hypercall page. */
#include "payload/kit.h"

#define GDT_FIXED 6

struct tss {
	u32 reserved0;
	u64 rsp[3];
	u64 reserved1;
	u64 ist[7];
	u64 reserved2;
	u16 reserved3, io_map;
} __attribute__((packed));

struct gate {
	u16 offset_low, selector;
	u8 ist, type;
	u16 offset_mid;
	u32 offset_high, reserved;
};

extern const u8 vectors[];

struct cpu cpus[MAX_CPUS];
u64 boot_params_gpa;
u8 hv_page[PAGE_BYTES] __attribute__((aligned(PAGE_BYTES)));

static u64 gdt[GDT_FIXED + 2 * MAX_CPUS] __attribute__((aligned(16))) = {
	0,
	0x00CF9B000000FFFF, /* SEL_CODE32 */
	0x00AF9B000000FFFF, /* SEL_CODE64 */
	0x00CF93000000FFFF, /* SEL_DATA */
	0x00CFF3000000FFFF, /* SEL_USER_DATA */
	0x00AFFB000000FFFF, /* SEL_USER_CODE64 */
};
static struct gate idt[256];
static struct tss tss[MAX_CPUS];

struct table_register gdt_register(void)
{
	return (struct table_register){ sizeof(gdt) - 1, (u64)gdt };
}

/* The task register names the processor: nothing in ring 3 changes it. */
u32 this_cpu(void)
{
	u16 selector;

	__asm__("str %0" : "=r"(selector));
	return (u32)(selector - SEL_TSS) / 16;
}

static void tss_init(u32 cpu)
{
	u64 base = (u64)&tss[cpu];
	u64 *d = &gdt[GDT_FIXED + 2 * cpu];

	tss[cpu].rsp[0] = (u64)(cpus[cpu].trap_stack + sizeof(cpus[cpu].trap_stack));
	tss[cpu].io_map = sizeof(struct tss); /* no map: ports by IOPL only */
	d[0] = (sizeof(struct tss) - 1) | (base & 0xFFFFFF) << 16 | 0x89ull << 40 |
	       (base >> 24 & 0xFF) << 56;
	d[1] = base >> 32;
}

static void idt_init(void)
{
	for (u32 v = 0; v < 256; v++) {
		u64 at = (u64)(vectors + 16 * v);

		idt[v] = (struct gate){ .offset_low = (u16)at,
					.selector = SEL_CODE64,
					.type = v == VECTOR_USER_RETURN ? 0xEE : 0x8E,
					.offset_mid = (u16)(at >> 16),
					.offset_high = (u32)(at >> 32) };
	}
}

void cpu_init(u32 cpu)
{
	const struct table_register gdtr = gdt_register();
	const struct table_register idtr = { sizeof(idt) - 1, (u64)idt };
	u64 cr;

	if (cpu == 0)
		idt_init();
	tss_init(cpu);
	__asm__ volatile("lgdt %0" : : "m"(gdtr));
	segments_load();
	__asm__ volatile("ltr %w0; lidt %1" : : "r"(SEL_TSS + 16 * cpu), "m"(idtr));
	__asm__ volatile("mov %%cr0, %0" : "=r"(cr));
	__asm__ volatile("mov %0, %%cr0" : : "r"((cr & ~BIT64(2)) | BIT64(1))); /* EM off, MP on */
	__asm__ volatile("mov %%cr4, %0" : "=r"(cr));
	__asm__ volatile("mov %0, %%cr4"
			 :
			 : "r"(cr | BIT64(9) | BIT64(10))); /* OSFXSR, OSXMMEXCPT */
	wrmsr(0x1B, rdmsr(0x1B) | BIT64(11) | BIT64(10));   /* x2APIC */
	wrmsr(X2APIC_SVR, 0x1FF);
}

/* Ring 3 may touch everything: what it may not is the point of a test, not an accident. */
void pages_open_to_user(void)
{
	u64 *pml4, *pdpt;

	__asm__ volatile("mov %%cr3, %0" : "=r"(pml4));
	pml4[0] |= BIT64(2);
	pdpt = (u64 *)(pml4[0] & ~0xFFFull);
	for (u32 i = 0; i < 4; i++) {
		u64 *pd = (u64 *)(pdpt[i] & ~0xFFFull);

		pdpt[i] |= BIT64(2);
		for (u32 j = 0; j < 512; j++)
			pd[j] |= BIT64(2);
	}
	__asm__ volatile("mov %0, %%cr3" : : "r"(pml4) : "memory");
}

void (*irq_end)(void);

void trap_entry(struct frame *f)
{
	struct cpu *cpu = &cpus[this_cpu()];

	if (f->vector >= 32 && f->vector != VECTOR_USER_RETURN) {
		cpu->irqs[f->vector]++;
		if (irq_end)
			irq_end();
		else
			wrmsr(X2APIC_EOI, 0);
		return;
	}
	if (!cpu->catching)
		bail("exception %llu (error 0x%llx) at RIP 0x%llx on processor %u",
		     (unsigned long long)f->vector, (unsigned long long)f->error,
		     (unsigned long long)f->rip, this_cpu());
	cpu->catching = false;
	cpu->user_returned = f->vector == VECTOR_USER_RETURN;
	cpu->trap = (struct trap){ (u8)f->vector, f->error, f->rip };
	jmp_resume(&cpu->jmp);
}

static bool trap_result(struct cpu *cpu, struct trap *t)
{
	if (t)
		*t = cpu->trap;
	return !cpu->user_returned;
}

bool trap_catch(void (*fn)(void *), void *arg, struct trap *t)
{
	struct cpu *cpu = &cpus[this_cpu()];

	cpu->catching = true;
	if (jmp_save(&cpu->jmp))
		return trap_result(cpu, t);
	fn(arg);
	cpu->catching = false;
	return false;
}

bool trap_catch_user(void (*fn)(void *), void *arg, u32 iopl, struct trap *t)
{
	struct cpu *cpu = &cpus[this_cpu()];

	cpu->catching = true;
	if (jmp_save(&cpu->jmp))
		return trap_result(cpu, t);
	user_enter(fn, arg, 2 | (u64)iopl << 12, cpu->user_stack + sizeof(cpu->user_stack));
	return false;
}

struct msr_access {
	u32 msr;
	u64 value;
};

static void msr_read(void *arg)
{
	struct msr_access *a = arg;

	a->value = rdmsr(a->msr);
}

static void msr_write(void *arg)
{
	const struct msr_access *a = arg;

	wrmsr(a->msr, a->value);
}

static bool is_gp(bool trapped, const struct trap *t)
{
	if (trapped && t->vector != TRAP_GP)
		bail("exception %u where #GP was possible", t->vector);
	return trapped;
}

bool rdmsr_faults(u32 msr, u64 *value)
{
	struct msr_access a = { msr, 0 };
	struct trap t;
	bool trapped = trap_catch(msr_read, &a, &t);

	if (value)
		*value = a.value;
	return is_gp(trapped, &t);
}

bool wrmsr_faults(u32 msr, u64 value)
{
	struct msr_access a = { msr, value };
	struct trap t;

	return is_gp(trap_catch(msr_write, &a, &t), &t);
}

u64 irq_count_of(u32 cpu, u8 vector)
{
	return cpus[cpu].irqs[vector];
}

u64 irq_count(u8 vector)
{
	return irq_count_of(this_cpu(), vector);
}

bool irq_wait(u8 vector, u64 count, u64 us)
{
	u64 end = rdtsc() + tsc_hz() / 1000000 * us;
	bool came;

	irq_on();
	while (!(came = irq_count(vector) >= count) && rdtsc() < end)
		relax();
	irq_off();
	return came;
}

struct cpuid cpuid(u32 leaf, u32 index)
{
	struct cpuid c;

	__asm__ volatile("cpuid"
			 : "=a"(c.eax), "=b"(c.ebx), "=c"(c.ecx), "=d"(c.edx)
			 : "a"(leaf), "c"(index));
	return c;
}

bool hv_has(u64 privileges)
{
	struct cpuid c = cpuid(HV_CPUID_FEATURES, 0);

	return (((u64)c.ebx << 32 | c.eax) & privileges) == privileges;
}

bool hv_feature(u32 features)
{
	return (cpuid(HV_CPUID_FEATURES, 0).edx & features) == features;
}

u64 ref_time(void)
{
	return rdmsr(HV_X64_MSR_TIME_REF_COUNT);
}

u64 tsc_hz(void)
{
	static u64 hz;

	if (!hz)
		hz = rdmsr(HV_X64_MSR_TSC_FREQUENCY);
	return hz;
}

void delay_us(u64 us)
{
	u64 end = rdtsc() + tsc_hz() / 1000000 * us;

	while (rdtsc() < end)
		relax();
}

void hv_setup(void)
{
	wrmsr(HV_X64_MSR_GUEST_OS_ID, HV_TEST_OS_ID);
	wrmsr(HV_X64_MSR_HYPERCALL, (u64)hv_page | HV_MSR_PAGE_ENABLE);
	if (!(rdmsr(HV_X64_MSR_HYPERCALL) & HV_MSR_PAGE_ENABLE))
		bail("the hypercall page cannot be enabled");
}

u64 hypercall(u64 control, u64 input, u64 output)
{
	struct hv_call c = { control, input, output, (u64)hv_page, 0, 0, { { 0 } } };

	hv_call_64(&c);
	return c.result;
}

static_assert(offsetof(struct hv_call, control) == HC_CONTROL, "asm.h");
static_assert(offsetof(struct hv_call, input) == HC_INPUT, "asm.h");
static_assert(offsetof(struct hv_call, output) == HC_OUTPUT, "asm.h");
static_assert(offsetof(struct hv_call, page) == HC_PAGE, "asm.h");
static_assert(offsetof(struct hv_call, result) == HC_RESULT, "asm.h");
static_assert(offsetof(struct hv_call, survivors) == HC_SURVIVORS, "asm.h");
static_assert(offsetof(struct hv_call, xmm) == HC_XMM, "asm.h");
