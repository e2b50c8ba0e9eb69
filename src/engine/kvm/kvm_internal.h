/* SPDX-License-Identifier: MIT */
/* Shared by the files of the KVM back end only. */
#ifndef NESTOR_ENGINE_KVM_KVM_INTERNAL_H
#define NESTOR_ENGINE_KVM_KVM_INTERNAL_H

#include <linux/kvm.h>
#include <pthread.h>
#include <sys/types.h>

#include "base/list.h"
#include "engine/engine.h"

#define KVM_IOAPIC_PINS	  24u
#define KVM_ROUTES_MAX	  1024u
#define KVM_SLOTS_MAX	  4096u
#define KVM_CPUID_ENTRIES 256u
#define KVM_MSR_RANGES	  3u
#define KVM_MSR_RANGE	  0x2000u

struct kvm_engine {
	int fd;
	size_t run_bytes; /* of a vCPU's shared area */
};

/* Registers of KVM's own Hyper-V interface; after EOI come ICR and TPR. */
#define KVM_HV_EOI	      0x40000070u
#define KVM_HV_VP_ASSIST_PAGE 0x40000073u
#define KVM_HV_STIMER0_CONFIG 0x400000B0u /* then its count; four of each */

struct kvm_vm {
	struct engine_vm vm;
	struct kvm_engine *engine;
	int fd;
	u32 max_vcpus;
	u16 hypercall_port;
	bool apic_msrs;	 /* EOI, ICR and TPR by MSR are KVM's */
	bool timers;	 /* vCPUs have KVM's */
	bool counts;	 /* under lock: writes of their counts do not exit */
	int xsave_bytes; /* of an area as the kernel writes it; 0: a page, no more is said */
	u64 tsc_offset;	 /* atomic; the same for all vCPUs: guest TSC = host TSC + offset */
	u64 apic_hz;
	u64 tsc_hz; /* known once a vCPU exists */

	pthread_mutex_t lock; /* guards slots, routes, vcpus and registers */
	struct list vcpus;    /* struct kvm_vcpu */
	struct kvm_slot {
		u64 gpa, bytes;
		void *hva;
		bool used, writable;
	} slot[KVM_SLOTS_MAX];
	/* Routes below KVM_IOAPIC_PINS are the IO-APIC's, the others irqfds'. */
	struct {
		u64 address;
		u32 data;
		bool used;
	} route[KVM_ROUTES_MAX];
	/* Registers whose reads, or writes, KVM leaves to us: a bit that is clear (kvm_msr.c). */
	struct {
		u8 allowed[KVM_MSR_RANGE / 8];
		u32 denied;
	} msr[KVM_MSR_RANGES][2];
};

struct kvm_vcpu {
	struct engine_vcpu vcpu;
	struct kvm_vm *vm;
	struct list link;
	int fd;
	struct kvm_run *run;
	bool answer_due; /* the exit expects an answer or completion at the next KVM_RUN */
	/* A dropped IN or OUT is still KVM's; gone once RIP has moved. */
	bool stale_io;
	u64 stale_rip;
	/* The IN of a hypercall that KVM finished last, and its length; 0: none yet. */
	u64 in_rip;
	u8 in_bytes;
	/* The shared area holds what the vCPU has. */
	bool sregs_shared, events_shared;
	pid_t thread; /* atomic: whose run() is or was the last; 0: none so far */
	bool kicked;  /* atomic: since the last run() that was interrupted */
};

static inline struct kvm_vm *kvm_vm_of(struct engine_vm *vm)
{
	return container_of(vm, struct kvm_vm, vm);
}

static inline struct kvm_vcpu *kvm_vcpu_of(struct engine_vcpu *vcpu)
{
	return container_of(vcpu, struct kvm_vcpu, vcpu);
}

/* ioctl() that gives -errno and retries interrupted calls. */
int kvm_ioctl(int fd, unsigned long request, void *arg);
int kvm_enable_cap(int fd, u32 cap, u64 arg);

extern const struct engine_ops kvm_engine_ops;

/* kvm_msr.c: from now on synthetic registers exit; and with @unknown_too those KVM does not know.
 */
int kvm_msr_trap(struct kvm_vm *vm, bool unknown_too);
int kvm_vm_msr_exits(struct engine_vm *vm, u32 index, bool read, bool write);
/* Whether KVM serves a guest's write of a timer's count. */
int kvm_msr_counts(struct kvm_vm *vm, bool serves);

/* kvm_timer.c */
bool kvm_timers_possible(int fd);
int kvm_vcpu_timers_init(struct kvm_vcpu *v);
int kvm_vm_timers(struct engine_vm *vm, bool on, u64 scale, u64 offset);

/* kvm_vcpu.c, for the ops table. */
int kvm_vcpu_create(struct engine_vm *vm, u32 id, struct engine_vcpu **out);
void kvm_vcpu_destroy(struct engine_vcpu *vcpu);
int kvm_vcpu_set_cpuid(struct engine_vcpu *vcpu, const struct engine_cpuid *e, u32 count);
int kvm_vcpu_run(struct engine_vcpu *vcpu);
void kvm_vcpu_kick(struct engine_vcpu *vcpu);
struct engine_mode kvm_vcpu_mode(struct engine_vcpu *vcpu);
int kvm_vcpu_complete(struct engine_vcpu *vcpu);
int kvm_vcpu_drop(struct engine_vcpu *vcpu, u32 flags);

int kvm_vcpu_tsc_follow(struct kvm_vcpu *v);

/*
 * kvm_halt.c. From now on a KVM_RUN of this thread on @run's vCPU returns when the thread is
 * taken off its processor, which is what KVM does with that of a vCPU that halts; once, and
 * perhaps for another reason. -errno: the host does not allow it.
 */
int kvm_halt_watch(struct kvm_run *run);
/* The thread was taken off its processor since then. */
bool kvm_halt_seen(void);
/* Before @run goes away: the thread does not touch it any more. */
void kvm_halt_unwatch(void);
bool kvm_halt_possible(void);

/* kvm_state.c */
int kvm_vcpu_inject_exception(struct engine_vcpu *vcpu, u8 vector, s64 error_code);
int kvm_vcpu_get_events(struct engine_vcpu *vcpu, struct engine_events *out);
int kvm_vcpu_set_events(struct engine_vcpu *vcpu, const struct engine_events *in);
int kvm_vcpu_get_sregs(struct engine_vcpu *vcpu, struct engine_sregs *out);
int kvm_vcpu_set_sregs(struct engine_vcpu *vcpu, const struct engine_sregs *in);
int kvm_vcpu_get_xmm(struct engine_vcpu *vcpu, u8 xmm[16][16]);
int kvm_vcpu_set_xmm(struct engine_vcpu *vcpu, const u8 xmm[16][16]);
int kvm_vcpu_get_fpu(struct engine_vcpu *vcpu, struct engine_fpu *out);
int kvm_vcpu_set_fpu(struct engine_vcpu *vcpu, const struct engine_fpu *in);
int kvm_vcpu_get_debugregs(struct engine_vcpu *vcpu, struct engine_debugregs *out);
int kvm_vcpu_set_debugregs(struct engine_vcpu *vcpu, const struct engine_debugregs *in);
int kvm_vcpu_get_activity(struct engine_vcpu *vcpu, enum engine_activity *out);
int kvm_vcpu_set_activity(struct engine_vcpu *vcpu, enum engine_activity activity);
int kvm_vcpu_get_msr(struct engine_vcpu *vcpu, u32 index, u64 *value);
int kvm_vcpu_set_msr(struct engine_vcpu *vcpu, u32 index, u64 value);
int kvm_vcpu_irq_pending(struct engine_vcpu *vcpu);
int kvm_vcpu_lazy_eoi(struct engine_vcpu *vcpu, u64 gpa);
int kvm_vcpu_get_lapic(struct engine_vcpu *vcpu, u8 regs[ENGINE_LAPIC_BYTES]);
int kvm_vcpu_set_lapic(struct engine_vcpu *vcpu, const u8 regs[ENGINE_LAPIC_BYTES]);
int kvm_vcpu_get_xsave(struct engine_vcpu *vcpu, u8 area[ENGINE_XSAVE_BYTES]);
int kvm_vcpu_set_xsave(struct engine_vcpu *vcpu, const u8 area[ENGINE_XSAVE_BYTES]);
int kvm_vcpu_get_xcr0(struct engine_vcpu *vcpu, u64 *value);
int kvm_vcpu_set_xcr0(struct engine_vcpu *vcpu, u64 value);
int kvm_vcpu_extint(struct engine_vcpu *vcpu, u8 vector);

#endif
