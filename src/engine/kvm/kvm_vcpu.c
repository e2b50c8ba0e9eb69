// SPDX-License-Identifier: MIT
/* Running a vCPU and turning KVM's exits into the engine's. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fd.h"
#include "engine/kvm/kvm_internal.h"

#define SYNC_FIELDS    (KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS)
#define INSN_BYTES_MAX 15u

static_assert(sizeof(struct engine_regs) == sizeof(struct kvm_regs), "shared with the kernel");
static_assert(offsetof(struct engine_regs, r8) == offsetof(struct kvm_regs, r8), "same order");
static_assert(offsetof(struct engine_regs, rip) == offsetof(struct kvm_regs, rip), "same order");

static void on_kick(int sig)
{
}

static int kick_signal(void)
{
	return SIGRTMIN;
}

static void kick_handler_install(void)
{
	struct sigaction sa = { .sa_handler = on_kick };

	sigaction(kick_signal(), &sa, NULL);
}

int kvm_vcpu_tsc_follow(struct kvm_vcpu *v)
{
	u64 offset = __atomic_load_n(&v->vm->tsc_offset, __ATOMIC_ACQUIRE);
	struct kvm_device_attr tsc = { .group = KVM_VCPU_TSC_CTRL,
				       .attr = KVM_VCPU_TSC_OFFSET,
				       .addr = (u64)(uintptr_t)&offset };

	return kvm_ioctl(v->fd, KVM_SET_DEVICE_ATTR, &tsc);
}

static int vcpu_setup(struct kvm_vcpu *v)
{
	struct kvm_enable_cap pv = { .cap = KVM_CAP_ENFORCE_PV_FEATURE_CPUID, .args = { 1 } };
	int ret;

	kvm_ioctl(v->fd, KVM_ENABLE_CAP, &pv); /* older hosts keep their harmless PV registers */
	ret = kvm_vcpu_tsc_follow(v);
	if (ret < 0)
		return ret;
	ret = kvm_ioctl(v->fd, KVM_GET_TSC_KHZ, NULL);
	if (ret < 0)
		return ret;
	v->vm->tsc_hz = (u64)ret * 1000;
	return v->vm->timers ? kvm_vcpu_timers_init(v) : 0;
}

/* Before it is made: KVM never lets go of the id of a vCPU. */
static bool another_fd(const struct kvm_vm *vm)
{
	int next = dup(vm->fd);
	bool affordable = next >= 0 && fd_affordable(next);

	if (next >= 0)
		close(next);
	return affordable;
}

int kvm_vcpu_create(struct engine_vm *vm, u32 id, struct engine_vcpu **out)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct kvm_vcpu *v = calloc(1, sizeof(*v));
	int ret;

	if (!v)
		return -ENOMEM;
	pthread_once(&once, kick_handler_install);
	*v = (struct kvm_vcpu){ .vcpu = { .ops = vm->ops, .id = id }, .vm = kvm_vm_of(vm) };
	v->fd = another_fd(v->vm) ? kvm_ioctl(v->vm->fd, KVM_CREATE_VCPU, (void *)(uintptr_t)id)
				  : -EMFILE;
	if (v->fd < 0) {
		ret = v->fd;
		goto free;
	}
	v->run = mmap(NULL, v->vm->engine->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
	if (v->run == MAP_FAILED) {
		ret = -errno;
		goto close;
	}
	ret = vcpu_setup(v);
	if (ret < 0)
		goto unmap;
	v->run->kvm_valid_regs = SYNC_FIELDS;
	v->vcpu.regs = (struct engine_regs *)(void *)&v->run->s.regs.regs;
	ret = kvm_ioctl(v->fd, KVM_GET_REGS, &v->run->s.regs.regs);
	if (ret < 0)
		goto unmap;
	pthread_mutex_lock(&v->vm->lock);
	list_add_tail(&v->vm->vcpus, &v->link);
	pthread_mutex_unlock(&v->vm->lock);
	*out = &v->vcpu;
	return 0;
unmap:
	munmap(v->run, v->vm->engine->run_bytes);
close:
	close(v->fd);
free:
	free(v);
	return ret;
}

void kvm_vcpu_destroy(struct engine_vcpu *vcpu)
{
	struct kvm_vcpu *v = kvm_vcpu_of(vcpu);

	pthread_mutex_lock(&v->vm->lock);
	list_del(&v->link);
	pthread_mutex_unlock(&v->vm->lock);
	munmap(v->run, v->vm->engine->run_bytes);
	close(v->fd);
	free(v);
}

int kvm_vcpu_set_cpuid(struct engine_vcpu *vcpu, const struct engine_cpuid *e, u32 count)
{
	struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + count * sizeof(c->entries[0]));
	int ret;

	if (!c)
		return -ENOMEM;
	c->nent = count;
	for (u32 i = 0; i < count; i++)
		c->entries[i] = (struct kvm_cpuid_entry2){
			.function = e[i].leaf,
			.index = e[i].index,
			.flags = e[i].indexed ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
			.eax = e[i].eax,
			.ebx = e[i].ebx,
			.ecx = e[i].ecx,
			.edx = e[i].edx,
		};
	ret = kvm_ioctl(kvm_vcpu_of(vcpu)->fd, KVM_SET_CPUID2, c);
	free(c);
	return ret;
}

struct engine_mode kvm_vcpu_mode(struct engine_vcpu *vcpu)
{
	const struct kvm_sregs *s = &kvm_vcpu_of(vcpu)->run->s.regs.sregs;

	return (struct engine_mode){ .cpl = s->ss.dpl,
				     .protected_mode = s->cr0 & 1,
				     .long_mode = (s->efer & BIT(10)) && s->cs.l };
}

static void exit_io(struct kvm_vcpu *v, struct engine_exit *exit)
{
	struct kvm_run *run = v->run;

	if (run->io.port == v->vm->hypercall_port && run->io.direction == KVM_EXIT_IO_IN &&
	    run->io.size == 4 && run->io.count == 1) {
		exit->kind = ENGINE_EXIT_HYPERCALL;
		return;
	}
	exit->kind = ENGINE_EXIT_IO;
	exit->io.port = run->io.port;
	exit->io.size = run->io.size;
	exit->io.write = run->io.direction == KVM_EXIT_IO_OUT;
	exit->io.count = run->io.count;
	exit->io.data = (u8 *)run + run->io.data_offset;
}

static void exit_mmio(struct kvm_vcpu *v, struct engine_exit *exit)
{
	exit->kind = ENGINE_EXIT_MMIO;
	exit->mmio.gpa = v->run->mmio.phys_addr;
	exit->mmio.size = (u8)v->run->mmio.len;
	exit->mmio.write = v->run->mmio.is_write;
	exit->mmio.data = v->run->mmio.data;
}

static void exit_msr(struct kvm_vcpu *v, struct engine_exit *exit, enum engine_exit_kind kind)
{
	exit->kind = kind;
	exit->msr.index = v->run->msr.index;
	exit->msr.value = kind == ENGINE_EXIT_WRMSR ? v->run->msr.data : 0;
	exit->msr.fault = false;
}

static void exit_error(struct engine_exit *exit, const char *what, u64 code)
{
	exit->kind = ENGINE_EXIT_ERROR;
	exit->error.what = what;
	exit->error.code = code;
}

static void translate_exit(struct kvm_vcpu *v)
{
	struct engine_exit *exit = &v->vcpu.exit;
	struct kvm_run *run = v->run;

	v->answer_due = false;
	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		exit_io(v, exit);
		v->answer_due = true;
		return;
	case KVM_EXIT_MMIO:
		exit_mmio(v, exit);
		v->answer_due = true;
		return;
	case KVM_EXIT_X86_RDMSR:
		exit_msr(v, exit, ENGINE_EXIT_RDMSR);
		v->answer_due = true;
		return;
	case KVM_EXIT_X86_WRMSR:
		exit_msr(v, exit, ENGINE_EXIT_WRMSR);
		v->answer_due = true;
		return;
	case KVM_EXIT_IOAPIC_EOI:
		exit->kind = ENGINE_EXIT_EOI;
		exit->eoi.vector = run->eoi.vector;
		return;
	case KVM_EXIT_HLT:
		exit->kind = ENGINE_EXIT_HALT;
		return;
	case KVM_EXIT_SHUTDOWN:
		exit->kind = ENGINE_EXIT_SHUTDOWN;
		return;
	case KVM_EXIT_INTR:
	case KVM_EXIT_IRQ_WINDOW_OPEN:
		exit->kind = ENGINE_EXIT_INTR;
		return;
	case KVM_EXIT_FAIL_ENTRY:
		exit_error(exit, "the processor refused to enter the guest",
			   run->fail_entry.hardware_entry_failure_reason);
		return;
	case KVM_EXIT_INTERNAL_ERROR:
		exit_error(exit, "KVM could not emulate an instruction", run->internal.suberror);
		return;
	default:
		exit_error(exit, "KVM stopped for a reason that was not asked for",
			   run->exit_reason);
	}
}

/* What the IN of a hypercall gives; KVM clears the upper half of RAX with it. */
static void give_eax(struct kvm_vcpu *v)
{
	u32 eax = (u32)v->vcpu.regs->rax;

	memcpy((u8 *)v->run + v->run->io.data_offset, &eax, sizeof(eax));
}

/*
 * Goes on behind the IN, with RAX as it is: KVM forgets an IN whose RIP was moved. How long the
 * IN is, KVM has shown when it finished the same one before.
 */
static bool step_over(struct kvm_vcpu *v)
{
	struct engine_regs *r = v->vcpu.regs;

	if (!v->in_bytes || r->rip != v->in_rip)
		return false;
	r->rip += v->in_bytes;
	v->vcpu.regs_dirty = true;
	return true;
}

static int finish_in(struct kvm_vcpu *v)
{
	u64 rip = v->vcpu.regs->rip, bytes;
	int ret = kvm_vcpu_complete(&v->vcpu);

	bytes = v->vcpu.regs->rip - rip;
	v->in_rip = rip;
	v->in_bytes = ret == 0 && bytes <= INSN_BYTES_MAX ? (u8)bytes : 0;
	return ret;
}

/*
 * A result of 32 bits costs nothing that way: no registers are set, which would
 * also make KVM look anew for interrupts to inject.
 */
static int give_result(struct kvm_vcpu *v)
{
	if (v->vcpu.regs->rax >> 32)
		return step_over(v) ? 0 : finish_in(v);
	give_eax(v);
	if (v->vcpu.rax_only)
		v->vcpu.regs_dirty = false;
	return 0;
}

/* Hands the answers of the last exit and changed registers back to the kernel. */
static void give_answers(struct kvm_vcpu *v)
{
	const struct engine_exit *exit = &v->vcpu.exit;

	if (v->answer_due && (exit->kind == ENGINE_EXIT_RDMSR || exit->kind == ENGINE_EXIT_WRMSR)) {
		v->run->msr.data = exit->msr.value;
		v->run->msr.error = exit->msr.fault;
	}
	if (v->vcpu.regs_dirty)
		v->run->kvm_dirty_regs |= KVM_SYNC_X86_REGS;
	v->vcpu.regs_dirty = v->vcpu.rax_only = false;
}

/* Every return of KVM_RUN brings the registers that were asked for. */
static int run_ioctl(struct kvm_vcpu *v)
{
	int ret = ioctl(v->fd, KVM_RUN, NULL);

	/* Taken; or the vCPU waits for SIPI, and KVM has put its own in their place. */
	v->run->kvm_dirty_regs = 0;
	v->sregs_shared = v->run->kvm_valid_regs & KVM_SYNC_X86_SREGS;
	v->events_shared = v->run->kvm_valid_regs & KVM_SYNC_X86_EVENTS;
	return ret;
}

/*
 * KVM_RUN that only finishes what the last one left. A kick that comes in between
 * must still be seen by the next run.
 */
static int run_pending(struct kvm_vcpu *v)
{
	int ret;

	__atomic_store_n(&v->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	ret = run_ioctl(v) < 0 ? -errno : 0;
	__atomic_store_n(&v->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&v->kicked, __ATOMIC_SEQ_CST))
		__atomic_store_n(&v->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	return ret;
}

/*
 * What KVM is to read is given as zeros, and what comes of it undone. An
 * instruction may stop several times: each part of a long access, and what it does
 * with what it read.
 */
#define PARTS_MAX 4096

static int finish_with_zeros(struct kvm_vcpu *v)
{
	struct kvm_run *run = v->run;
	int ret = 0;

	for (u32 i = 0; i < PARTS_MAX && ret == 0; i++) {
		if (run->exit_reason == KVM_EXIT_IO && run->io.direction == KVM_EXIT_IO_IN)
			memset((u8 *)run + run->io.data_offset, 0,
			       (size_t)run->io.size * run->io.count);
		else if (run->exit_reason == KVM_EXIT_MMIO && !run->mmio.is_write)
			memset(run->mmio.data, 0, sizeof(run->mmio.data));
		else if (run->exit_reason == KVM_EXIT_X86_RDMSR ||
			 run->exit_reason == KVM_EXIT_X86_WRMSR)
			run->msr.data = run->msr.error = 0; /* no #GP */
		ret = run_pending(v);
	}
	/* EFAULT: what it writes to is not there; that part is not KVM's any more either. */
	return ret == -EINTR || ret == -EFAULT ? 0 : ret == 0 ? -EBUSY : ret;
}

/* One element of a repeated string instruction is enough. */
static void give_rcx_one(struct kvm_vcpu *v)
{
	v->vcpu.regs->rcx = 1;
	v->run->kvm_dirty_regs |= KVM_SYNC_X86_REGS;
}

static int drop_now(struct kvm_vcpu *v, u32 flags)
{
	struct engine_regs want = *v->vcpu.regs;
	struct kvm_vcpu_events events;
	struct kvm_xsave vectors;
	bool saved = (flags & ENGINE_DROP_VECTOR) && kvm_ioctl(v->fd, KVM_GET_XSAVE, &vectors) == 0;
	int ret = kvm_ioctl(v->fd, KVM_GET_VCPU_EVENTS, &events);

	if (ret < 0)
		return ret;
	if (flags & ENGINE_DROP_REP)
		give_rcx_one(v);
	ret = finish_with_zeros(v);
	*v->vcpu.regs = want;
	/* Registers first: setting them drops a pending exception. */
	if (ret == 0)
		ret = kvm_ioctl(v->fd, KVM_SET_REGS, v->vcpu.regs);
	v->vcpu.regs_dirty = ret < 0;
	/* Finishing ends an interrupt shadow, and may raise a single-step trap. */
	events.flags &= KVM_VCPUEVENT_VALID_SHADOW | KVM_VCPUEVENT_VALID_PAYLOAD;
	if (ret == 0)
		ret = kvm_ioctl(v->fd, KVM_SET_VCPU_EVENTS, &events);
	v->events_shared = false;
	if (ret == 0 && saved)
		ret = kvm_ioctl(v->fd, KVM_SET_XSAVE, &vectors);
	return ret;
}

/*
 * KVM forgets an IN or OUT whose RIP was moved, which is what a parent does that
 * has finished it. Only in protected mode: before that some processors have KVM
 * emulate the instruction, which would be finished whatever RIP says.
 */
int kvm_vcpu_drop(struct engine_vcpu *vcpu, u32 flags)
{
	struct kvm_vcpu *v = kvm_vcpu_of(vcpu);

	if (!v->answer_due)
		return 0;
	v->answer_due = false;
	if ((flags & ENGINE_DROP_PORT) && (v->run->s.regs.sregs.cr0 & 1)) {
		v->stale_io = true;
		v->stale_rip = vcpu->regs->rip;
		return 0;
	}
	return drop_now(v, flags);
}

/* A system call each time would be more than all else here. */
static pid_t self(void)
{
	static __thread pid_t id;

	if (unlikely(!id))
		id = gettid();
	return id;
}

static bool sleeps(struct kvm_vcpu *v)
{
	enum engine_activity activity;

	return kvm_vcpu_get_activity(&v->vcpu, &activity) == 0 && activity != ENGINE_RUNS;
}

int kvm_vcpu_run(struct engine_vcpu *vcpu)
{
	struct kvm_vcpu *v = kvm_vcpu_of(vcpu);
	int err;

	/* Who kicks sets immediate_exit first: either it sees this thread, or KVM_RUN sees that. */
	if (v->thread != self())
		__atomic_store_n(&v->thread, self(), __ATOMIC_SEQ_CST);
	if (v->answer_due && vcpu->exit.kind == ENGINE_EXIT_HYPERCALL && (err = give_result(v)) < 0)
		return err;
	if (v->stale_io) {
		v->stale_io = false;
		if (vcpu->regs->rip == v->stale_rip && (err = drop_now(v, 0)) < 0)
			return err;
	}
	give_answers(v);
	if (vcpu->halt_exits && (err = kvm_halt_watch(v->run)) < 0)
		return err;
	err = run_ioctl(v) < 0 ? errno : 0;
	kvm_halt_unwatch();
	if (!err) {
		translate_exit(v);
		return 0;
	}
	v->answer_due = false;
	switch (err) {
	case EINTR:
		__atomic_store_n(&v->kicked, false, __ATOMIC_SEQ_CST);
		__atomic_store_n(&v->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
		vcpu->exit.kind = vcpu->halt_exits && kvm_halt_seen() && sleeps(v)
					  ? ENGINE_EXIT_HALT
					  : ENGINE_EXIT_INTR;
		return 0;
	case EAGAIN: /* a vCPU that waits for INIT or SIPI */
		vcpu->exit.kind = ENGINE_EXIT_INTR;
		return 0;
	case EFAULT: /* memory behind a slot is not accessible; nothing was executed */
		vcpu->exit.kind = ENGINE_EXIT_MEMORY;
		vcpu->exit.memory.gpa = ~0ull;
		return 0;
	default:
		return -err;
	}
}

void kvm_vcpu_kick(struct engine_vcpu *vcpu)
{
	struct kvm_vcpu *v = kvm_vcpu_of(vcpu);
	pid_t thread;

	__atomic_store_n(&v->kicked, true, __ATOMIC_SEQ_CST);
	/* Seen by a KVM_RUN that has not begun; the signal ends one that has. */
	__atomic_store_n(&v->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	thread = __atomic_load_n(&v->thread, __ATOMIC_SEQ_CST);
	if (thread)
		tgkill(getpid(), thread, kick_signal()); /* it may have ended */
}

int kvm_vcpu_complete(struct engine_vcpu *vcpu)
{
	struct kvm_vcpu *v = kvm_vcpu_of(vcpu);
	bool hypercall = vcpu->exit.kind == ENGINE_EXIT_HYPERCALL;
	u64 rax = vcpu->regs->rax;
	int ret;

	if (!v->answer_due)
		return 0;
	if (hypercall)
		give_eax(v);
	give_answers(v);
	v->answer_due = false;
	ret = run_pending(v);
	if (hypercall) {
		vcpu->regs->rax = rax;
		vcpu->regs_dirty = true;
	}
	return ret == -EINTR ? 0 : ret;
}
