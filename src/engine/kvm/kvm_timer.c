// SPDX-License-Identifier: MIT
/*
 * KVM's synthetic timers, for those a guest can have without an exit: a deadline it writes, and
 * an interrupt of its own local APIC. KVM counts in the clock it would give a guest of its own
 * (kvmclock), which none of ours sees; it is set to what their reference time is.
 */
#include <errno.h>

#include "engine/kvm/kvm_internal.h"

/*
 * A timer that comes early is set again at once, and again until it is time: so the clock is to be
 * behind, a little. What is too much is not to be had.
 */
#define BEHIND_NS    3000
#define APART_NS     2500
#define APART_MAX_NS 50000
#define TRIES	     16

bool kvm_timers_possible(int fd)
{
	return kvm_ioctl(fd, KVM_CHECK_EXTENSION, (void *)KVM_CAP_HYPERV_SYNIC2) > 0 &&
	       kvm_ioctl(fd, KVM_CHECK_EXTENSION, (void *)KVM_CAP_ADJUST_CLOCK) > 0;
}

/* KVM has timers for a vCPU with its SynIC only, of which a guest of ours reaches no register. */
int kvm_vcpu_timers_init(struct kvm_vcpu *v)
{
	return kvm_enable_cap(v->fd, KVM_CAP_HYPERV_SYNIC2, 0);
}

static s64 distance(s64 a)
{
	return a < 0 ? -a : a;
}

/* *@ahead: of where it is to be, in ns. */
static int compare(struct kvm_vm *vm, u64 scale, u64 offset, u64 *clock, s64 *ahead)
{
	struct kvm_clock_data now = { 0 };
	int ret = kvm_ioctl(vm->fd, KVM_GET_CLOCK, &now);
	u64 tsc, time;

	if (ret < 0)
		return ret;
	if (!(now.flags & KVM_CLOCK_TSC_STABLE) || !(now.flags & KVM_CLOCK_HOST_TSC))
		return -EOPNOTSUPP;
	tsc = now.host_tsc + __atomic_load_n(&vm->tsc_offset, __ATOMIC_ACQUIRE);
	/* A child's is what its parent says; KVM has no nanoseconds for so many centuries. */
	if (__builtin_mul_overflow(mul_hi(tsc, scale) + offset, 100ull, &time))
		return -EOPNOTSUPP;
	*clock = now.clock;
	*ahead = (s64)(now.clock - time + BEHIND_NS);
	return 0;
}

/* What passes until KVM has the time it is given is made up for with the next. */
static int align(struct kvm_vm *vm, u64 scale, u64 offset)
{
	struct kvm_clock_data to = { 0 };
	u64 clock;
	s64 ahead, late = 0;
	int ret = compare(vm, scale, offset, &clock, &ahead);

	for (u32 i = 0; ret >= 0 && distance(ahead) > APART_NS && i < TRIES; i++) {
		to.clock = clock - (u64)ahead + (u64)late;
		ret = kvm_ioctl(vm->fd, KVM_SET_CLOCK, &to);
		if (ret >= 0)
			ret = compare(vm, scale, offset, &clock, &ahead);
		late -= ahead;
	}
	return ret >= 0 && distance(ahead) > APART_MAX_NS ? -EOPNOTSUPP : ret;
}

int kvm_vm_timers(struct engine_vm *v, bool on, u64 scale, u64 offset)
{
	struct kvm_vm *vm = kvm_vm_of(v);
	int ret = on ? align(vm, scale, offset) : 0;

	return ret < 0 ? ret : kvm_msr_counts(vm, on);
}
