// SPDX-License-Identifier: MIT
/* What belongs to one VP: index, SynIC, timers; and interrupts between VPs. */
#include "payload/payload.h"

#define VECTOR	  0x51
#define HV_VECTOR 0x52
#define DIRECT	  0x53

static bool have_ipi;

struct state {
	u64 index, sint0, simp;
};

static void read_state(void *arg)
{
	struct state *s = arg;

	s->index = rdmsr(HV_X64_MSR_VP_INDEX);
	s->sint0 = rdmsr(HV_X64_MSR_SINT0);
	s->simp = rdmsr(HV_X64_MSR_SIMP);
}

struct want {
	u8 vector;
	u64 count;
};

static void listen(void *arg)
{
	const struct want *want = arg;

	irq_wait(want->vector, want->count, 1000000);
}

static void own_timer(void *arg)
{
	wrmsr(HV_X64_MSR_STIMER0_COUNT, ref_time() + 20000);
	wrmsr(HV_X64_MSR_STIMER0_CONFIG, HV_STIMER_DIRECT | DIRECT << 4 | HV_STIMER_ENABLE);
	*(bool *)arg = irq_wait(DIRECT, 1, 1000000);
}

/* The other VP waits with interrupts on; the interrupt may come before, and stays pending. */
static bool heard(u32 cpu, u8 vector, u64 count)
{
	struct want want = { vector, count };

	return cpu_run(cpu, listen, &want, 3000000) && irq_count_of(cpu, vector) == count;
}

static void test_processor(u32 cpu)
{
	struct state s = { ~0ull, 0, ~0ull };
	bool came = false;

	if (!cpu_start(cpu)) {
		ok(false, "VP %u starts", cpu);
		return;
	}
	cpu_run(cpu, read_state, &s, 1000000);
	ok_eq(s.index, cpu, "VP %u: its index", cpu);
	ok_eq(s.sint0, HV_SINT_RESET, "VP %u: its SINT0 at reset", cpu);
	ok_eq(s.simp & HV_MSR_PAGE_ENABLE, 0, "VP %u: its SIMP at reset", cpu);
	ipi_send(cpu, VECTOR);
	ok(heard(cpu, VECTOR, 1), "VP %u: an interrupt by its local APIC", cpu);
	if (have_ipi) {
		ok_eq(hypercall(HVCALL_SEND_IPI | HV_HYPERCALL_FAST, HV_VECTOR, BIT64(cpu)), 0,
		      "VP %u: HvCallSendSyntheticClusterIpi", cpu);
		ok(heard(cpu, HV_VECTOR, 1), "VP %u: and it comes", cpu);
	}
	if (hv_feature(HV_FEATURE_STIMER_DIRECT)) {
		cpu_run(cpu, own_timer, &came, 3000000);
		ok(came && irq_count(DIRECT) == 0, "VP %u: its timer fires there and only there",
		   cpu);
	}
}

static void test_ipi_errors(void)
{
	ok_eq(HV_STATUS(hypercall(HVCALL_SEND_IPI | HV_HYPERCALL_FAST, 15, 1)),
	      HV_STATUS_INVALID_PARAMETER, "IPI with a vector below 16");
	ok_eq(HV_STATUS(hypercall(HVCALL_SEND_IPI | HV_HYPERCALL_FAST, 256, 1)),
	      HV_STATUS_INVALID_PARAMETER, "IPI with a vector above 255");
	ok_eq(hypercall(HVCALL_SEND_IPI | HV_HYPERCALL_FAST, HV_VECTOR, 0), 0,
	      "IPI to nobody succeeds");
}

void test_main(void)
{
	hv_setup();
	wrmsr(HV_X64_MSR_SINT0, 0x60);
	have_ipi = HV_STATUS(hypercall(HVCALL_SEND_IPI | HV_HYPERCALL_FAST, HV_VECTOR, 0)) !=
		   HV_STATUS_INVALID_HYPERCALL_CODE;
	if (have_ipi)
		test_ipi_errors();
	else
		skip("unknown to this hypervisor", "IPI hypercalls");
	if (cpu_count() == 1)
		skip("one VP", "other VPs");
	for (u32 cpu = 1; cpu < cpu_count(); cpu++)
		test_processor(cpu);
}
