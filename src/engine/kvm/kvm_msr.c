// SPDX-License-Identifier: MIT
/*
 * Which registers exit. KVM takes a filter as a whole: ranges, each of reads or writes or both,
 * with a bit per register that says whether KVM may serve it; what is in none it serves. A
 * range in which nothing is denied is left out.
 */
#include <errno.h>
#include <string.h>

#include "engine/kvm/kvm_internal.h"

#define SYNTHETIC_FIRST 0x40000000u
#define SYNTHETIC_COUNT 0x1100u
/* EOI, ICR and TPR: for a guest with "Hv#1" in its CPUID KVM has these itself. */
#define APIC_FIRST (KVM_HV_EOI - SYNTHETIC_FIRST)
#define APIC_BITS  0x07u
/* The counts of its timers. */
#define TIMER_FIRST (KVM_HV_STIMER0_CONFIG - SYNTHETIC_FIRST)
#define COUNT_BITS  0xAAu

/* Where processors have registers; KVM knows no other but the synthetic ones. */
static const u32 range_base[KVM_MSR_RANGES] = { 0, 0xC0000000, 0xC0010000 };

/*
 * The local APIC's in x2APIC mode: KVM lets them through any filter. So it does its timer's
 * deadline, whose writes may not get as far as the filter.
 */
static bool is_local_apics(u32 index)
{
	return index - 0x800 < 0x100 || index == 0x6E0;
}

static int filter_locked(struct kvm_vm *vm)
{
	u8 reads[SYNTHETIC_COUNT / 8] = { 0 }, writes[SYNTHETIC_COUNT / 8] = { 0 };
	struct kvm_msr_filter filter = {
		.flags = KVM_MSR_FILTER_DEFAULT_ALLOW,
		.ranges = { { .flags = KVM_MSR_FILTER_READ,
			      .nmsrs = SYNTHETIC_COUNT,
			      .base = SYNTHETIC_FIRST,
			      .bitmap = reads },
			    { .flags = KVM_MSR_FILTER_WRITE,
			      .nmsrs = SYNTHETIC_COUNT,
			      .base = SYNTHETIC_FIRST,
			      .bitmap = writes } },
	};
	u32 n = 2;

	static_assert(2 + KVM_MSR_RANGES * 2 <= KVM_MSR_FILTER_MAX_RANGES, "room for all");
	static_assert(KVM_MSR_RANGE / 8 <= KVM_MSR_FILTER_MAX_BITMAP_SIZE, "a bitmap KVM takes");
	static_assert(APIC_FIRST % 8 == 0 && TIMER_FIRST % 8 == 0, "at the beginning of a byte");
	if (vm->apic_msrs)
		reads[APIC_FIRST / 8] = writes[APIC_FIRST / 8] = APIC_BITS;
	if (vm->counts)
		writes[TIMER_FIRST / 8] = COUNT_BITS;
	for (u32 i = 0; i < KVM_MSR_RANGES; i++) {
		for (u32 write = 0; write < 2; write++) {
			if (!vm->msr[i][write].denied)
				continue;
			filter.ranges[n++] = (struct kvm_msr_filter_range){
				.flags = write ? KVM_MSR_FILTER_WRITE : KVM_MSR_FILTER_READ,
				.nmsrs = KVM_MSR_RANGE,
				.base = range_base[i],
				.bitmap = vm->msr[i][write].allowed,
			};
		}
	}
	return kvm_ioctl(vm->fd, KVM_X86_SET_MSR_FILTER, &filter);
}

int kvm_msr_trap(struct kvm_vm *vm, bool unknown_too)
{
	u64 reasons =
		KVM_MSR_EXIT_REASON_FILTER | (unknown_too ? (u64)KVM_MSR_EXIT_REASON_UNKNOWN : 0);
	int ret = kvm_enable_cap(vm->fd, KVM_CAP_X86_USER_SPACE_MSR, reasons);

	for (u32 i = 0; i < KVM_MSR_RANGES; i++)
		for (u32 write = 0; write < 2; write++)
			memset(vm->msr[i][write].allowed, 0xFF, sizeof(vm->msr[i][write].allowed));
	return ret < 0 ? ret : filter_locked(vm);
}

static void deny_locked(struct kvm_vm *vm, u32 range, bool write, u32 at, bool deny)
{
	u8 *byte = &vm->msr[range][write].allowed[at / 8], bit = (u8)(1u << at % 8);

	if (deny == !(*byte & bit))
		return;
	*byte ^= bit;
	vm->msr[range][write].denied += deny ? 1 : -1u;
}

int kvm_vm_msr_exits(struct engine_vm *v, u32 index, bool read, bool write)
{
	struct kvm_vm *vm = kvm_vm_of(v);
	u32 range = 0, at;
	bool was[2];
	int ret;

	if (is_local_apics(index))
		return read || write ? -EOPNOTSUPP : 0;
	while (range < KVM_MSR_RANGES && index - range_base[range] >= KVM_MSR_RANGE)
		range++;
	if (range == KVM_MSR_RANGES)
		return 0;
	at = index - range_base[range];
	pthread_mutex_lock(&vm->lock);
	for (u32 i = 0; i < 2; i++)
		was[i] = !(vm->msr[range][i].allowed[at / 8] >> at % 8 & 1);
	deny_locked(vm, range, false, at, read);
	deny_locked(vm, range, true, at, write);
	ret = filter_locked(vm);
	for (u32 i = 0; i < 2 && ret < 0; i++)
		deny_locked(vm, range, i, at, was[i]);
	pthread_mutex_unlock(&vm->lock);
	return ret;
}

int kvm_msr_counts(struct kvm_vm *vm, bool serves)
{
	int ret;

	pthread_mutex_lock(&vm->lock);
	vm->counts = serves;
	ret = filter_locked(vm);
	pthread_mutex_unlock(&vm->lock);
	return ret;
}
