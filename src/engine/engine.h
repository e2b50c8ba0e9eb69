/* SPDX-License-Identifier: MIT */
/*
 * The narrow interface to what runs guest code: KVM (engine/kvm) or a script
 * (engine/fake). Data only: no guest-visible rule lives behind it. Of a Hyper-V
 * emulation of the back end's own a guest reaches nothing but what is asked for here
 * (engine_vm_config: apic_msrs, timers).
 *
 * Ownership: engine_vm_create() and engine_vcpu_create() give objects that the
 * matching _destroy() frees; vCPUs go before their VM. Errors are negative
 * errno. Unless said otherwise a vcpu function belongs to the thread that runs
 * the vCPU, or to another that keeps that one out of it; vm functions and engine_vcpu_kick() may be
 * called by any thread.
 */
#ifndef NESTOR_ENGINE_ENGINE_H
#define NESTOR_ENGINE_ENGINE_H

#include "base/types.h"

/* The registers of a local APIC as it shows them, 16 bytes apart. */
#define ENGINE_LAPIC_BYTES 1024u
/* The most that vcpu_get_xsave() gives: every component a back end hands to a guest. */
#define ENGINE_XSAVE_BYTES 12288u

/* The order is that of struct kvm_regs, so the KVM engine shares memory with the kernel. */
struct engine_regs {
	u64 rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp;
	u64 r8, r9, r10, r11, r12, r13, r14, r15;
	u64 rip, rflags;
};

struct engine_segment {
	u64 base;
	u32 limit;
	u16 selector;
	u16 attributes; /* type 3:0, S 4, DPL 6:5, P 7, AVL 12, L 13, D/B 14, G 15 */
};

struct engine_table {
	u64 base;
	u16 limit;
};

struct engine_sregs {
	struct engine_segment cs, ds, es, fs, gs, ss, tr, ldt;
	struct engine_table gdt, idt;
	u64 cr0, cr2, cr3, cr4, cr8, efer, apic_base;
};

/* What the hypercall ABI asks of the caller's mode. */
struct engine_mode {
	u8 cpl;
	bool protected_mode; /* CR0.PE */
	bool long_mode;	     /* 64-bit code segment in long mode */
};

enum engine_event_kind {
	ENGINE_EVENT_NONE,
	ENGINE_EVENT_INTERRUPT,
	ENGINE_EVENT_NMI,
	ENGINE_EVENT_EXCEPTION,
};

/* What stands between a vCPU and its next instruction. */
struct engine_events {
	/* Its delivery was cut short and begins anew when the vCPU runs. */
	enum engine_event_kind injected;
	u8 vector;
	bool has_error_code;
	u32 error_code;
	bool interrupt_shadow; /* of STI or MOV SS */
	bool nmi_masked;       /* until IRET */
};

/* x87 and SSE state. */
struct engine_fpu {
	u8 st[8][16]; /* 80 bits each */
	u16 fcw, fsw;
	u8 ftw; /* a bit per register: not empty */
	u16 last_opcode;
	u64 last_ip, last_dp;
	u8 xmm[16][16];
	u32 mxcsr;
};

struct engine_debugregs {
	u64 dr[4], dr6, dr7;
};

/* What a vCPU does between instructions. */
enum engine_activity { ENGINE_RUNS, ENGINE_HALTED, ENGINE_WAITS_FOR_SIPI };

enum engine_exit_kind {
	ENGINE_EXIT_INTR,      /* kicked, or a signal: nothing to answer */
	ENGINE_EXIT_HYPERCALL, /* a 32-bit IN from the hypercall port; registers hold the call */
	ENGINE_EXIT_IO,
	ENGINE_EXIT_MMIO,
	ENGINE_EXIT_RDMSR,
	ENGINE_EXIT_WRMSR,
	ENGINE_EXIT_EOI,      /* a level-triggered IO-APIC vector was acknowledged */
	ENGINE_EXIT_HALT,     /* only with halt_exits */
	ENGINE_EXIT_SHUTDOWN, /* triple fault */
	ENGINE_EXIT_MEMORY,   /* access to memory that is not accessible now; state is before it */
	ENGINE_EXIT_ERROR,    /* the back end cannot go on; error.what says why */
	ENGINE_EXIT_COUNT,
};

/* Why a vCPU stopped. Answers are written in place before the next engine_vcpu_run(). */
struct engine_exit {
	enum engine_exit_kind kind;
	union {
		struct {
			u16 port;
			u8 size; /* 1, 2, 4 */
			bool write;
			u32 count;  /* string I/O: elements */
			void *data; /* count * size bytes; the answer of a read goes here */
		} io;
		struct {
			u64 gpa;
			u8 size; /* 1 to 8 */
			bool write;
			u8 *data;
		} mmio;
		struct {
			u32 index;
			u64 value;  /* written value, or the answer */
			bool fault; /* answer: raise #GP instead */
		} msr;
		struct {
			u8 vector;
		} eoi;
		struct {
			u64 gpa; /* ~0 when the back end does not know it */
			u8 write, fetch;
		} memory;
		struct {
			const char *what; /* static or owned by the vCPU */
			u64 code;
		} error;
	};
};

struct engine_cpuid {
	u32 leaf, index;
	bool indexed; /* index is significant */
	u32 eax, ebx, ecx, edx;
};

struct engine_msr {
	u32 index;
	u64 value;
};

struct engine_vcpu {
	const struct engine_ops *ops;
	u32 id; /* APIC id */
	/* Valid from the return of run() to the next run(); set regs_dirty after writing. */
	struct engine_regs *regs;
	bool regs_dirty;
	/* With regs_dirty after a hypercall: nothing but RAX was written, which can be cheaper. */
	bool rax_only;
	struct engine_exit exit;
	/*
	 * Its next run() ends with ENGINE_EXIT_HALT where the vCPU would sleep. It is halted then:
	 * a run() without it sleeps until there is an interrupt.
	 */
	bool halt_exits;
};

struct engine_vm {
	const struct engine_ops *ops;
};

/* An eventfd that raises an MSI without a trip through this process. */
struct engine_irqfd {
	int fd;
	u32 gsi;
	u64 address;
	u32 data;
};

struct engine_vm_config {
	u32 max_vcpus;		/* APIC ids are below this */
	u16 hypercall_port;	/* a 32-bit IN from here is a hypercall */
	bool trap_msrs;		/* synthetic MSRs 0x40000000-0x400010FF exit to us */
	bool apic_msrs;		/* but 0x40000070 to 72: EOI, ICR and TPR of the local APIC */
	bool trap_unknown_msrs; /* with trap_msrs: so do those the back end does not know */
	bool halt_exits;	/* its vCPUs will be run with theirs */
	bool timers;		/* vm_timers() may be called */
};

/* How the instruction of an exit is dropped. */
#define ENGINE_DROP_PORT   BIT(0) /* IN or OUT of one value, RIP at it */
#define ENGINE_DROP_REP	   BIT(1) /* repeated by RCX */
#define ENGINE_DROP_VECTOR BIT(2) /* writes vector registers */

struct engine_ops {
	const char *name;

	int (*vm_create)(void *engine, const struct engine_vm_config *cfg, struct engine_vm **out);
	void (*vm_destroy)(struct engine_vm *vm);

	/* Guest memory: page-aligned; a slot is named by its first GPA. */
	int (*vm_map)(struct engine_vm *vm, u64 gpa, u64 bytes, void *hva, bool writable);
	int (*vm_unmap)(struct engine_vm *vm, u64 gpa);
	/* Starts or stops recording which pages of the slot at @gpa are written. */
	int (*vm_track)(struct engine_vm *vm, u64 gpa, bool on);
	/* A bit per page of a tracked slot: written since the last call, or since the start. */
	int (*vm_written)(struct engine_vm *vm, u64 gpa, u64 *bitmap);

	/* A fixed-address MSI. 1 delivered, 0 no such destination, or -errno. */
	int (*vm_msi)(struct engine_vm *vm, u64 address, u32 data);
	/* @irqfd is filled by the caller but for gsi; remove before closing the fd. */
	int (*vm_irqfd_add)(struct engine_vm *vm, struct engine_irqfd *irqfd);
	int (*vm_irqfd_update)(struct engine_vm *vm, struct engine_irqfd *irqfd);
	void (*vm_irqfd_remove)(struct engine_vm *vm, struct engine_irqfd *irqfd);
	/*
	 * A write of @size bytes (0: any, and then any value) to @addr signals @fd instead of
	 * exiting; @match: only of this value. Removed with what it was added with.
	 */
	int (*vm_ioeventfd)(struct engine_vm *vm, u64 addr, u32 size, bool mmio, const u64 *match,
			    int fd, bool add);
	/* Tells the engine what an IO-APIC pin now raises, so that it reports its EOIs. */
	int (*vm_ioapic_route)(struct engine_vm *vm, u32 pin, u64 address, u32 data);

	/*
	 * From now on reads, or writes, of this register by RDMSR and WRMSR exit, though the
	 * back end serves it; those of others exit anyway, with trap_unknown_msrs.
	 * -EOPNOTSUPP: one that it never hands out (of the local APIC). No vCPU of the VM is in
	 * run().
	 */
	int (*vm_msr_exits)(struct engine_vm *vm, u32 index, bool read, bool write);

	/*
	 * With engine_vm_config's timers a vCPU has four that raise a vector of its own once, by
	 * vcpu_get_msr() and vcpu_set_msr() of 0x400000B0 to B7 (TLFS: direct mode). @on: their
	 * reference time is high64(guest's TSC * @scale) + @offset, and the guest writes counts,
	 * the odd ones, without an exit. Not @on: these writes exit, as all others do; timers that
	 * wait go on. -EOPNOTSUPP: the host's time is not its TSC's.
	 */
	int (*vm_timers)(struct engine_vm *vm, bool on, u64 scale, u64 offset);

	/* The CPUID the back end can give a guest. *count: in capacity, out number. -E2BIG. */
	int (*cpuid_supported)(void *engine, struct engine_cpuid *out, u32 *count);
	/* Guest TSC frequency in Hz. */
	u64 (*tsc_hz)(struct engine_vm *vm);
	/* Ticks per second of the local APIC's timer, before its divider. */
	u64 (*apic_hz)(struct engine_vm *vm);
	/* The guest's TSC now: what RDTSC would give on any of its vCPUs. Any thread. */
	u64 (*tsc_now)(struct engine_vm *vm);
	/* From now on it counts from @tsc. No vCPU of the VM is in run(). */
	int (*tsc_set)(struct engine_vm *vm, u64 tsc);

	int (*vcpu_create)(struct engine_vm *vm, u32 id, struct engine_vcpu **out);
	void (*vcpu_destroy)(struct engine_vcpu *vcpu);
	int (*vcpu_set_cpuid)(struct engine_vcpu *vcpu, const struct engine_cpuid *e, u32 count);
	/* Fills vcpu->exit. -errno only when the back end is broken. */
	int (*vcpu_run)(struct engine_vcpu *vcpu);
	/* Any thread: makes a running or next vcpu_run() return ENGINE_EXIT_INTR soon. */
	void (*vcpu_kick)(struct engine_vcpu *vcpu);
	/* The mode at the last exit; cheap. */
	struct engine_mode (*vcpu_mode)(struct engine_vcpu *vcpu);
	/*
	 * Finishes the instruction of the last exit with the answer given, without
	 * running further, so that registers may be set freely. Idempotent.
	 */
	int (*vcpu_complete)(struct engine_vcpu *vcpu);
	/*
	 * The opposite: the instruction of the last exit is not the engine's any more,
	 * to finish or to answer. The vCPU is what vcpu->regs say when this is called
	 * (where they differ from those of the exit, the instruction is undone), with
	 * the events of the exit. What the instruction writes to memory may be written
	 * once, made from zeros. @flags: ENGINE_DROP_*. After any exit; idempotent.
	 */
	int (*vcpu_drop)(struct engine_vcpu *vcpu, u32 flags);
	/* After vcpu_complete(): an exception at the current RIP. error_code -1: has none. */
	int (*vcpu_inject_exception)(struct engine_vcpu *vcpu, u8 vector, s64 error_code);
	/* Cheap after run(). Not while an answer is due (vcpu_complete, vcpu_drop): set. */
	int (*vcpu_get_events)(struct engine_vcpu *vcpu, struct engine_events *out);
	/* -EINVAL: an exception that cannot be (vector above 31, or 2). */
	int (*vcpu_set_events)(struct engine_vcpu *vcpu, const struct engine_events *in);
	int (*vcpu_get_sregs)(struct engine_vcpu *vcpu, struct engine_sregs *out);
	int (*vcpu_set_sregs)(struct engine_vcpu *vcpu, const struct engine_sregs *in);
	/* XMM0-15 as 16 bytes each. */
	int (*vcpu_get_xmm)(struct engine_vcpu *vcpu, u8 xmm[16][16]);
	int (*vcpu_set_xmm)(struct engine_vcpu *vcpu, const u8 xmm[16][16]);
	int (*vcpu_get_fpu)(struct engine_vcpu *vcpu, struct engine_fpu *out);
	int (*vcpu_set_fpu)(struct engine_vcpu *vcpu, const struct engine_fpu *in);
	int (*vcpu_get_debugregs)(struct engine_vcpu *vcpu, struct engine_debugregs *out);
	int (*vcpu_set_debugregs)(struct engine_vcpu *vcpu, const struct engine_debugregs *in);
	int (*vcpu_get_activity)(struct engine_vcpu *vcpu, enum engine_activity *out);
	int (*vcpu_set_activity)(struct engine_vcpu *vcpu, enum engine_activity activity);
	/* Architectural MSRs; an unknown one is -EINVAL. */
	int (*vcpu_get_msr)(struct engine_vcpu *vcpu, u32 index, u64 *value);
	int (*vcpu_set_msr)(struct engine_vcpu *vcpu, u32 index, u64 value);
	/* 1: the local APIC holds an interrupt the guest has not taken (masked or not); 0: none. */
	int (*vcpu_irq_pending)(struct engine_vcpu *vcpu);
	/*
	 * From now on bit 0 of the byte at @gpa tells the guest that it need not write an EOI: it
	 * clears the bit instead (TLFS: lazy EOI). ~0, or an error: no more. The vCPU is not in
	 * the guest.
	 */
	int (*vcpu_lazy_eoi)(struct engine_vcpu *vcpu, u64 gpa);
	/* The local APIC's registers; a set keeps its id. The vCPU is not in the guest. */
	int (*vcpu_get_lapic)(struct engine_vcpu *vcpu, u8 regs[ENGINE_LAPIC_BYTES]);
	int (*vcpu_set_lapic)(struct engine_vcpu *vcpu, const u8 regs[ENGINE_LAPIC_BYTES]);
	/* XSAVE area in the standard format, at the offsets of CPUID 0xD. -EINVAL: not loadable. */
	int (*vcpu_get_xsave)(struct engine_vcpu *vcpu, u8 area[ENGINE_XSAVE_BYTES]);
	int (*vcpu_set_xsave)(struct engine_vcpu *vcpu, const u8 area[ENGINE_XSAVE_BYTES]);
	int (*vcpu_get_xcr0)(struct engine_vcpu *vcpu, u64 *value);
	int (*vcpu_set_xcr0)(struct engine_vcpu *vcpu, u64 value);
	/*
	 * An interrupt with the vector given, as from a PIC: taken when LINT0 is in ExtINT mode.
	 * The vCPU is not in the guest. -EEXIST: the one before has not been taken.
	 */
	int (*vcpu_extint)(struct engine_vcpu *vcpu, u8 vector);
};

struct engine {
	const struct engine_ops *ops;
	void *ctx;
	bool apic_msrs;	 /* it can do what engine_vm_config's of that name asks for */
	bool halt_exits; /* the same */
	bool timers;	 /* the same */
};

static inline int engine_vm_create(struct engine *e, const struct engine_vm_config *cfg,
				   struct engine_vm **out)
{
	return e->ops->vm_create(e->ctx, cfg, out);
}

static inline int engine_vcpu_run(struct engine_vcpu *vcpu)
{
	return vcpu->ops->vcpu_run(vcpu);
}

static inline void engine_vcpu_kick(struct engine_vcpu *vcpu)
{
	vcpu->ops->vcpu_kick(vcpu);
}

static inline int engine_vm_msi(struct engine_vm *vm, u64 address, u32 data)
{
	return vm->ops->vm_msi(vm, address, data);
}

#endif
