// SPDX-License-Identifier: MIT
/* The kit itself: traps are caught, ring 3 works, processors start. */
#include "payload/payload.h"

static void undefined(void *arg)
{
	__asm__ volatile("ud2");
}

static void privileged(void *arg)
{
	__asm__ volatile("hlt");
}

static void nothing(void *arg)
{
	*(u32 *)arg += 1;
}

void test_main(void)
{
	struct cpuid vendor = cpuid(HV_CPUID_VENDOR, 0);
	struct trap t;
	u32 calls = 0;

	ok(vendor.ebx == 0x7263694D && vendor.ecx == 0x666F736F && vendor.edx == 0x76482074,
	   "CPUID names the Microsoft hypervisor");
	ok(trap_catch(undefined, NULL, &t) && t.vector == TRAP_UD, "#UD is caught");
	ok(!trap_catch(nothing, &calls, &t) && calls == 1, "a function without a trap returns");
	ok(trap_catch_user(privileged, NULL, 0, &t) && t.vector == TRAP_GP, "HLT in ring 3 is #GP");
	ok(!trap_catch_user(nothing, &calls, 0, &t) && calls == 2, "ring 3 returns");
	note("%u processors, RAM below 4 GiB ends at 0x%llx, TSC at %llu Hz", cpu_count(),
	     (unsigned long long)ram_end(), (unsigned long long)tsc_hz());
	for (u32 i = 1; i < cpu_count(); i++) {
		ok(cpu_start(i), "processor %u (APIC id %u) starts", i, cpu_apic_id(i));
		ok(cpu_run(i, nothing, &calls, 1000000) && calls == 2 + i, "processor %u works", i);
	}
}
