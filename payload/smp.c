// SPDX-License-Identifier: MIT
/* Other processors: found in the MADT, started by INIT and SIPI, given one job at a time. */
#include <asm/bootparam.h>

#include "payload/kit.h"

#define ICR_INIT    0x4500u
#define ICR_STARTUP 0x4600u
#define ICR_FIXED   0x4000u

extern u8 ap_trampoline[], ap_trampoline_end[], ap_gdtr[], ap_cr3[], ap_stack[];

static u32 cpus_found = 1;
static volatile u32 ap_starting;

static const struct boot_params *params(void)
{
	return (const struct boot_params *)boot_params_gpa;
}

u64 ram_end(void)
{
	const struct boot_params *bp = params();
	u64 end = 0;

	for (u32 i = 0; i < bp->e820_entries; i++) {
		const struct boot_e820_entry *e = &bp->e820_table[i];

		if (e->type == 1 && e->addr + e->size <= 4 * GIB)
			end = max_u64(end, e->addr + e->size);
	}
	return end;
}

const char *command_line(void)
{
	return (const char *)(u64)params()->hdr.cmd_line_ptr;
}

static u64 get(const u8 *p, u32 bytes)
{
	u64 v = 0;

	memcpy(&v, p, bytes);
	return v;
}

static const u8 *acpi_table(const char *signature)
{
	const u8 *rsdp = (const u8 *)params()->acpi_rsdp_addr;
	const u8 *xsdt;

	if (!rsdp)
		return NULL;
	xsdt = (const u8 *)get(rsdp + 24, 8);
	for (u32 at = 36; at < get(xsdt + 4, 4); at += 8) {
		const u8 *t = (const u8 *)get(xsdt + at, 8);

		if (!memcmp(t, signature, 4))
			return t;
	}
	return NULL;
}

/* This processor is 0; the others follow in the order of the table. */
void smp_init(void)
{
	const u8 *madt = acpi_table("APIC");
	u32 self = (u32)rdmsr(0x802), n = 1;

	cpus[0].apic_id = self;
	cpus[0].online = true;
	for (u32 at = 44; madt && at < get(madt + 4, 4) && n < MAX_CPUS; at += madt[at + 1]) {
		const u8 *e = madt + at;
		u32 id;

		if (e[0] == 0 && (e[4] & 1))
			id = e[3];
		else if (e[0] == 9 && (e[8] & 1))
			id = (u32)get(e + 4, 4);
		else
			continue;
		if (id != self)
			cpus[n++].apic_id = id;
	}
	cpus_found = n;
}

u32 cpu_count(void)
{
	return cpus_found;
}

u32 cpu_apic_id(u32 cpu)
{
	return cpus[cpu].apic_id;
}

static void icr(u32 cpu, u32 low)
{
	wrmsr(X2APIC_ICR, (u64)cpus[cpu].apic_id << 32 | low);
}

void ipi_send(u32 cpu, u8 vector)
{
	icr(cpu, ICR_FIXED | vector);
}

void ap_start(void)
{
	struct cpu *cpu = &cpus[ap_starting];

	cpu_init(ap_starting);
	cpu->online = true;
	for (;;) {
		if (cpu->job) {
			cpu->job(cpu->job_arg);
			cpu->job = NULL;
		}
		relax();
	}
}

/* Places in the trampoline's copy. */
static void *in_copy(const u8 *p)
{
	return (void *)(AP_GPA + (u64)(p - ap_trampoline));
}

static void trampoline_place(u32 cpu)
{
	const struct table_register gdtr = gdt_register();
	u64 cr3, stack = (u64)(cpus[cpu].stack + sizeof(cpus[cpu].stack) - 8);
	u32 base = (u32)gdtr.base;

	__asm__ volatile("mov %%cr3, %0" : "=r"(cr3));
	memcpy(in_copy(ap_trampoline), ap_trampoline, (size_t)(ap_trampoline_end - ap_trampoline));
	memcpy(in_copy(ap_gdtr), &gdtr.limit, 2);
	memcpy((u8 *)in_copy(ap_gdtr) + 2, &base, 4);
	memcpy(in_copy(ap_cr3), &cr3, 8);
	memcpy(in_copy(ap_stack), &stack, 8);
}

static bool wait_online(u32 cpu, u64 us)
{
	u64 end = rdtsc() + tsc_hz() / 1000000 * us;

	while (!cpus[cpu].online && rdtsc() < end)
		relax();
	return cpus[cpu].online;
}

bool cpu_start(u32 cpu)
{
	if (cpus[cpu].online)
		return true;
	ap_starting = cpu;
	trampoline_place(cpu);
	icr(cpu, ICR_INIT);
	delay_us(10000);
	icr(cpu, ICR_STARTUP | AP_GPA >> 12);
	if (wait_online(cpu, 200000))
		return true;
	icr(cpu, ICR_STARTUP | AP_GPA >> 12);
	return wait_online(cpu, 1000000);
}

void cpu_run_start(u32 cpu, void (*fn)(void *), void *arg)
{
	cpus[cpu].job_arg = arg;
	cpus[cpu].job = fn;
}

bool cpu_run_wait(u32 cpu, u64 us)
{
	u64 end = rdtsc() + tsc_hz() / 1000000 * us;

	while (cpus[cpu].job && rdtsc() < end)
		relax();
	return !cpus[cpu].job;
}

bool cpu_run(u32 cpu, void (*fn)(void *), void *arg, u64 us)
{
	cpu_run_start(cpu, fn, arg);
	return cpu_run_wait(cpu, us);
}
