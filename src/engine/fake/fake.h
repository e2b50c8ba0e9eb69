/* SPDX-License-Identifier: MIT */
/*
 * An engine for tests. Exits come from a script (a queue per vCPU), everything
 * asked of the engine is recorded, and the guest TSC stands still until a test
 * moves it. Any thread may call the fake_ functions; the engine's own functions
 * keep the threads engine.h names.
 */
#ifndef NESTOR_ENGINE_FAKE_H
#define NESTOR_ENGINE_FAKE_H

#include <pthread.h>

#include "engine/engine.h"

#define FAKE_TSC_HZ    1000000000ull
#define FAKE_APIC_HZ   100000000ull
#define FAKE_RECORDS   256 /* kept; older ones are only counted */
#define FAKE_SLOTS     128
#define FAKE_MSRS      64
#define FAKE_WRITTEN   64
#define FAKE_OUT_BYTES 2 /* OUT imm8, AL: what completing a hypercall adds to RIP */

enum fake_call {
	FAKE_MSI,	   /* a: address, b: data */
	FAKE_MAP,	   /* a: gpa, b: bytes */
	FAKE_UNMAP,	   /* a: gpa */
	FAKE_IRQFD_ADD,	   /* a: address, b: data, c: gsi */
	FAKE_IRQFD_UPDATE, /* the same */
	FAKE_IRQFD_REMOVE, /* c: gsi */
	FAKE_IOEVENTFD,	   /* a: address, b: add, c: fd; also fake_vm's doorbell */
	FAKE_IOAPIC_ROUTE, /* a: address, b: data, c: pin */
	FAKE_MSR_EXITS,	   /* a: index, b: bit 0 reads, bit 1 writes */
	FAKE_TIMERS,	   /* a: on, b: scale, c: offset */
	FAKE_EXCEPTION,	   /* a: RIP, b: vector, c: error code as u64 */
	FAKE_SET_CPUID,	   /* b: entries, c: vCPU id */
	FAKE_SET_MSR,	   /* a: index, b: value, c: vCPU id */
	FAKE_DROP,	   /* a: RIP, b: flags, c: vCPU id */
	FAKE_EXTINT,	   /* b: vector, c: vCPU id */
	FAKE_LAZY_EOI,	   /* a: address or ~0, c: vCPU id */
	FAKE_SET_LAPIC,	   /* c: vCPU id */
	FAKE_SET_XSAVE,	   /* c: vCPU id */
	FAKE_CALLS,
};

struct fake_record {
	enum fake_call call;
	u64 a, b, c;
};

struct fake_slot {
	u64 gpa, bytes;
	void *hva;
	bool writable, used, tracked;
};

struct fake_vm {
	struct engine_vm vm;
	struct engine_vm_config config;
	u64 tsc;	      /* atomic; moved by hand */
	u64 tsc_hz;	      /* change before anything reads it */
	pthread_mutex_t lock; /* guards everything below */
	u32 count[FAKE_CALLS];
	struct fake_record record[FAKE_RECORDS]; /* ring: the newest is records - 1 */
	u32 records;
	struct fake_slot slot[FAKE_SLOTS];
	struct {
		u32 size;
		bool any_value;
		u64 match;
	} ioeventfd;		   /* the newest */
	int ioeventfd_error;	   /* what the next vm_ioeventfd() that adds gives, if not 0 */
	int msr_exits_error;	   /* the same of vm_msr_exits() */
	int timers_error;	   /* the same of vm_timers() that begins */
	int timers_end_error;	   /* and of one that ends */
	u32 map_fails;		   /* so many of the next vm_map() give -ENOSPC */
	u64 written[FAKE_WRITTEN]; /* pages, until vm_written() takes them */
	u32 written_count;
	u32 next_gsi;
};

/* One step of a script. Data pointers stay the caller's and outlive the step. */
struct fake_step {
	struct engine_exit exit;
	bool set_regs; /* load @regs before the exit, as if the guest had */
	struct engine_regs regs;
};

struct fake_vcpu {
	struct engine_vcpu vcpu;
	struct fake_vm *vm;
	struct engine_regs regs;
	struct engine_sregs sregs;
	struct engine_mode mode; /* default: 64-bit, CPL 0 */
	struct engine_events events;
	u8 xmm[16][16];
	struct engine_fpu fpu; /* but for xmm */
	struct engine_debugregs debugregs;
	enum engine_activity activity;
	u8 lapic[ENGINE_LAPIC_BYTES];
	u8 xsave[ENGINE_XSAVE_BYTES];
	u64 xcr0;
	struct engine_cpuid *cpuid; /* as last set */
	u32 cpuid_count;
	bool extint_pending; /* vcpu_extint() gives -EEXIST */
	bool xsave_refused;  /* vcpu_set_xsave() gives -EINVAL */
	struct engine_msr msr[FAKE_MSRS];
	bool completed;	      /* the last exit's instruction is finished */
	bool irq_pending;     /* atomic */
	bool sregs_refused;   /* vcpu_set_sregs() gives -EINVAL */
	pthread_mutex_t lock; /* guards everything below */
	pthread_cond_t wake;
	struct fake_step *step; /* the queue, grown as needed */
	u32 first, steps, room;
	u32 runs;
	bool kicked;
};

extern const struct engine_ops fake_ops;
/* Give its address to whatever wants an engine. */
extern struct engine fake_engine;

static inline struct fake_vm *fake_vm(struct engine_vm *vm)
{
	return container_of(vm, struct fake_vm, vm);
}

static inline struct fake_vcpu *fake_vcpu(struct engine_vcpu *vcpu)
{
	return container_of(vcpu, struct fake_vcpu, vcpu);
}

/* Appends to the script. A vCPU without steps sleeps in run() until kicked or given one. */
void fake_push(struct engine_vcpu *vcpu, const struct fake_step *step);
/* Waits until the script is played and the vCPU asks for more: all answers are in. */
void fake_drain(struct engine_vcpu *vcpu);

/* The clock. */
void fake_tsc_set(struct engine_vm *vm, u64 tsc);
void fake_tsc_advance(struct engine_vm *vm, u64 ticks);
/* In the 100 ns units of the reference time, for a TSC of FAKE_TSC_HZ. */
static inline void fake_advance_100ns(struct engine_vm *vm, u64 units)
{
	fake_tsc_advance(vm, units * (FAKE_TSC_HZ / 10000000));
}

void fake_irq_pending(struct engine_vcpu *vcpu, bool pending);

/* How often @call was made since the last fake_forget(), and the newest one made (zeros: none). */
u32 fake_count(struct engine_vm *vm, enum fake_call call);
struct fake_record fake_last(struct engine_vm *vm, enum fake_call call);
void fake_forget(struct engine_vm *vm);
/* The slot that contains @gpa, or one with a NULL hva. */
struct fake_slot fake_slot_at(struct engine_vm *vm, u64 gpa);
/* The guest writes to @gpa. */
void fake_write(struct engine_vm *vm, u64 gpa);
/* The next @n vm_map() calls fail. */
void fake_fail_maps(struct engine_vm *vm, u32 n);

#endif
