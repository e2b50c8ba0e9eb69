// SPDX-License-Identifier: MIT
/* No guest: a script of exits, a record of calls and a clock moved by hand. */
#include "engine/fake/fake.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The architectural MSRs it keeps; any other is -EINVAL. */
static const u32 known_msrs[] = {
	0x10,	    0x3B,	0x48,	    0xFE,	0x174,	    0x175,	0x176,
	0x1A0,	    0x1D9,	0x200,	    0x201,	0x202,	    0x203,	0x204,
	0x205,	    0x206,	0x207,	    0x208,	0x209,	    0x20A,	0x20B,
	0x20C,	    0x20D,	0x20E,	    0x20F,	0x250,	    0x258,	0x259,
	0x268,	    0x269,	0x26A,	    0x26B,	0x26C,	    0x26D,	0x26E,
	0x26F,	    0x277,	0x2FF,	    0xC0000081, 0xC0000082, 0xC0000083, 0xC0000084,
	0xC0000100, 0xC0000101, 0xC0000102, 0xC0000103, 0x40000118, 0x400000B0, 0x400000B1,
	0x400000B2, 0x400000B3, 0x400000B4, 0x400000B5, 0x400000B6, 0x400000B7,
};
static_assert(ARRAY_SIZE(known_msrs) <= FAKE_MSRS, "room for all");

static void record_locked(struct fake_vm *vm, enum fake_call call, u64 a, u64 b, u64 c)
{
	vm->count[call]++;
	vm->record[vm->records++ % FAKE_RECORDS] = (struct fake_record){ call, a, b, c };
}

static void record(struct fake_vm *vm, enum fake_call call, u64 a, u64 b, u64 c)
{
	pthread_mutex_lock(&vm->lock);
	record_locked(vm, call, a, b, c);
	pthread_mutex_unlock(&vm->lock);
}

static int vm_create(void *engine, const struct engine_vm_config *cfg, struct engine_vm **out)
{
	struct fake_vm *vm = calloc(1, sizeof(*vm));

	if (!vm)
		return -ENOMEM;
	vm->vm.ops = &fake_ops;
	vm->config = *cfg;
	vm->tsc_hz = FAKE_TSC_HZ;
	vm->next_gsi = 24;
	pthread_mutex_init(&vm->lock, NULL);
	*out = &vm->vm;
	return 0;
}

static void vm_destroy(struct engine_vm *evm)
{
	struct fake_vm *vm = fake_vm(evm);

	pthread_mutex_destroy(&vm->lock);
	free(vm);
}

static int vm_map(struct engine_vm *evm, u64 gpa, u64 bytes, void *hva, bool writable)
{
	struct fake_vm *vm = fake_vm(evm);
	struct fake_slot *free_slot = NULL;
	int ret = 0;

	if ((gpa | bytes | (u64)(uintptr_t)hva) % PAGE_BYTES || !bytes)
		return -EINVAL;
	pthread_mutex_lock(&vm->lock);
	if (vm->map_fails) {
		vm->map_fails--;
		ret = -ENOSPC;
	}
	for (u32 i = 0; i < FAKE_SLOTS && !ret; i++) {
		struct fake_slot *s = &vm->slot[i];

		if (!s->used)
			free_slot = free_slot ? free_slot : s;
		else if (gpa < s->gpa + s->bytes && s->gpa < gpa + bytes)
			ret = -EEXIST;
	}
	if (!ret && !free_slot)
		ret = -ENOSPC;
	if (!ret) {
		*free_slot = (struct fake_slot){ gpa, bytes, hva, writable, true, false };
		record_locked(vm, FAKE_MAP, gpa, bytes, 0);
	}
	pthread_mutex_unlock(&vm->lock);
	return ret;
}

static int vm_unmap(struct engine_vm *evm, u64 gpa)
{
	struct fake_vm *vm = fake_vm(evm);
	int ret = -ENOENT;

	pthread_mutex_lock(&vm->lock);
	for (u32 i = 0; i < FAKE_SLOTS && ret; i++) {
		if (!vm->slot[i].used || vm->slot[i].gpa != gpa)
			continue;
		vm->slot[i].used = false;
		record_locked(vm, FAKE_UNMAP, gpa, 0, 0);
		ret = 0;
	}
	pthread_mutex_unlock(&vm->lock);
	return ret;
}

static int vm_track(struct engine_vm *evm, u64 gpa, bool on)
{
	struct fake_vm *vm = fake_vm(evm);
	int ret = -ENOENT;

	pthread_mutex_lock(&vm->lock);
	for (u32 i = 0; i < FAKE_SLOTS && ret; i++) {
		if (!vm->slot[i].used || vm->slot[i].gpa != gpa)
			continue;
		vm->slot[i].tracked = on;
		ret = 0;
	}
	pthread_mutex_unlock(&vm->lock);
	return ret;
}

static int vm_written(struct engine_vm *evm, u64 gpa, u64 *bitmap)
{
	struct fake_vm *vm = fake_vm(evm);
	struct fake_slot s = fake_slot_at(evm, gpa);
	u32 kept = 0;

	if (!s.hva || s.gpa != gpa || !s.tracked)
		return -ENOENT;
	pthread_mutex_lock(&vm->lock);
	for (u32 i = 0; i < vm->written_count; i++) {
		u64 page = (vm->written[i] - gpa) / PAGE_BYTES;

		if (vm->written[i] - gpa < s.bytes)
			bitmap[page / 64] |= BIT64(page % 64);
		else
			vm->written[kept++] = vm->written[i];
	}
	vm->written_count = kept;
	pthread_mutex_unlock(&vm->lock);
	return 0;
}

static int vm_msi(struct engine_vm *vm, u64 address, u32 data)
{
	record(fake_vm(vm), FAKE_MSI, address, data, 0);
	return 1;
}

static int vm_irqfd_add(struct engine_vm *evm, struct engine_irqfd *f)
{
	struct fake_vm *vm = fake_vm(evm);

	pthread_mutex_lock(&vm->lock);
	f->gsi = vm->next_gsi++;
	record_locked(vm, FAKE_IRQFD_ADD, f->address, f->data, f->gsi);
	pthread_mutex_unlock(&vm->lock);
	return 0;
}

static int vm_irqfd_update(struct engine_vm *vm, struct engine_irqfd *f)
{
	record(fake_vm(vm), FAKE_IRQFD_UPDATE, f->address, f->data, f->gsi);
	return 0;
}

static void vm_irqfd_remove(struct engine_vm *vm, struct engine_irqfd *f)
{
	record(fake_vm(vm), FAKE_IRQFD_REMOVE, 0, 0, f->gsi);
}

static int vm_ioeventfd(struct engine_vm *evm, u64 addr, u32 size, bool mmio, const u64 *match,
			int fd, bool add)
{
	struct fake_vm *vm = fake_vm(evm);
	int ret;

	pthread_mutex_lock(&vm->lock);
	ret = add ? vm->ioeventfd_error : 0;
	vm->ioeventfd.size = size;
	vm->ioeventfd.any_value = !match;
	vm->ioeventfd.match = match ? *match : 0;
	record_locked(vm, FAKE_IOEVENTFD, addr, add, (u64)fd);
	pthread_mutex_unlock(&vm->lock);
	return ret;
}

static int vm_ioapic_route(struct engine_vm *vm, u32 pin, u64 address, u32 data)
{
	record(fake_vm(vm), FAKE_IOAPIC_ROUTE, address, data, pin);
	return 0;
}

static int vm_msr_exits(struct engine_vm *vm, u32 index, bool read, bool write)
{
	record(fake_vm(vm), FAKE_MSR_EXITS, index, (u64)read | (u64)write << 1, 0);
	return fake_vm(vm)->msr_exits_error;
}

static int vm_timers(struct engine_vm *vm, bool on, u64 scale, u64 offset)
{
	record(fake_vm(vm), FAKE_TIMERS, on, scale, offset);
	return on ? fake_vm(vm)->timers_error : fake_vm(vm)->timers_end_error;
}

/* A hypervisor with a signature of its own, which no partition may see. */
static int cpuid_supported(void *engine, struct engine_cpuid *out, u32 *count)
{
	static const struct engine_cpuid leaves[] = {
		{ .leaf = 0, .eax = 0xD },
		{ .leaf = 1, .ecx = BIT(31) | BIT(21), .edx = BIT(4) | BIT(9) },
		{ .leaf = 0x40000000, .eax = 0x40000001, .ebx = 0x4B4D564B, .ecx = 0x564B4D56 },
		{ .leaf = 0x40000001, .eax = ~0u },
		{ .leaf = 0x80000000, .eax = 0x80000008 },
		{ .leaf = 0x80000007, .edx = BIT(8) },
		{ .leaf = 0x80000008, .eax = 0x3028 },
	};

	if (*count < ARRAY_SIZE(leaves))
		return -E2BIG;
	memcpy(out, leaves, sizeof(leaves));
	*count = ARRAY_SIZE(leaves);
	return 0;
}

static u64 tsc_hz(struct engine_vm *vm)
{
	return fake_vm(vm)->tsc_hz;
}

static u64 apic_hz(struct engine_vm *vm)
{
	return FAKE_APIC_HZ;
}

static u64 tsc_now(struct engine_vm *vm)
{
	return __atomic_load_n(&fake_vm(vm)->tsc, __ATOMIC_ACQUIRE);
}

static int tsc_set(struct engine_vm *vm, u64 tsc)
{
	fake_tsc_set(vm, tsc);
	return 0;
}

static int vcpu_create(struct engine_vm *vm, u32 id, struct engine_vcpu **out)
{
	struct fake_vcpu *v = calloc(1, sizeof(*v));

	if (!v)
		return -ENOMEM;
	v->vcpu = (struct engine_vcpu){ .ops = &fake_ops, .id = id, .regs = &v->regs };
	v->vm = fake_vm(vm);
	v->mode = (struct engine_mode){ 0, true, true };
	v->completed = true;
	v->activity = id ? ENGINE_WAITS_FOR_SIPI : ENGINE_RUNS;
	v->xcr0 = 1;
	for (u32 i = 0; i < ARRAY_SIZE(known_msrs); i++)
		v->msr[i].index = known_msrs[i];
	pthread_mutex_init(&v->lock, NULL);
	pthread_cond_init(&v->wake, NULL);
	*out = &v->vcpu;
	return 0;
}

static void vcpu_destroy(struct engine_vcpu *vcpu)
{
	struct fake_vcpu *v = fake_vcpu(vcpu);

	pthread_mutex_destroy(&v->lock);
	pthread_cond_destroy(&v->wake);
	free(v->cpuid);
	free(v->step);
	free(v);
}

static int vcpu_set_cpuid(struct engine_vcpu *vcpu, const struct engine_cpuid *e, u32 count)
{
	struct fake_vcpu *v = fake_vcpu(vcpu);
	struct engine_cpuid *copy = calloc(count ? count : 1, sizeof(*copy));

	if (!copy)
		return -ENOMEM;
	memcpy(copy, e, count * sizeof(*copy));
	free(v->cpuid);
	v->cpuid = copy;
	v->cpuid_count = count;
	record(v->vm, FAKE_SET_CPUID, 0, count, vcpu->id);
	return 0;
}

static int vcpu_inject_exception(struct engine_vcpu *vcpu, u8 vector, s64 error_code)
{
	struct fake_vcpu *v = fake_vcpu(vcpu);

	if (!v->completed)
		return -EBUSY;
	record(v->vm, FAKE_EXCEPTION, vcpu->regs->rip, vector, (u64)error_code);
	return 0;
}

static int vcpu_complete(struct engine_vcpu *vcpu)
{
	struct fake_vcpu *v = fake_vcpu(vcpu);
	const struct engine_exit *e = &vcpu->exit;

	if (v->completed)
		return 0;
	v->completed = true;
	switch (e->kind) {
	case ENGINE_EXIT_HYPERCALL:
	case ENGINE_EXIT_IO:
		v->regs.rip += FAKE_OUT_BYTES;
		break;
	case ENGINE_EXIT_RDMSR:
	case ENGINE_EXIT_WRMSR:
		if (e->msr.fault)
			return vcpu_inject_exception(vcpu, 13, 0);
		if (e->kind == ENGINE_EXIT_RDMSR) {
			v->regs.rax = (u32)e->msr.value;
			v->regs.rdx = e->msr.value >> 32;
		}
		v->regs.rip += 2;
		break;
	default:
		break;
	}
	return 0;
}

static int vcpu_drop(struct engine_vcpu *vcpu, u32 flags)
{
	struct fake_vcpu *v = fake_vcpu(vcpu);

	if (!v->completed)
		record(v->vm, FAKE_DROP, vcpu->regs->rip, flags, vcpu->id);
	v->completed = true;
	return 0;
}

static int vcpu_get_events(struct engine_vcpu *vcpu, struct engine_events *out)
{
	*out = fake_vcpu(vcpu)->events;
	return 0;
}

static int vcpu_set_events(struct engine_vcpu *vcpu, const struct engine_events *in)
{
	if (in->injected == ENGINE_EVENT_EXCEPTION && (in->vector > 31 || in->vector == 2))
		return -EINVAL;
	fake_vcpu(vcpu)->events = *in;
	return 0;
}

static int vcpu_run(struct engine_vcpu *vcpu)
{
	struct fake_vcpu *v = fake_vcpu(vcpu);

	vcpu_complete(vcpu);
	vcpu->regs_dirty = vcpu->rax_only = false;
	pthread_mutex_lock(&v->lock);
	v->runs++;
	pthread_cond_broadcast(&v->wake);
	while (v->first == v->steps && !v->kicked)
		pthread_cond_wait(&v->wake, &v->lock);
	if (v->kicked) {
		v->kicked = false;
		vcpu->exit = (struct engine_exit){ .kind = ENGINE_EXIT_INTR };
	} else {
		const struct fake_step *s = &v->step[v->first++];

		vcpu->exit = s->exit;
		if (s->set_regs)
			v->regs = s->regs;
		v->completed = false;
		/* Taken but not answered: fake_drain() waits for the next run(). */
		v->runs = 0;
	}
	pthread_mutex_unlock(&v->lock);
	return 0;
}

static void vcpu_kick(struct engine_vcpu *vcpu)
{
	struct fake_vcpu *v = fake_vcpu(vcpu);

	pthread_mutex_lock(&v->lock);
	v->kicked = true;
	pthread_cond_broadcast(&v->wake);
	pthread_mutex_unlock(&v->lock);
}

static struct engine_mode vcpu_mode(struct engine_vcpu *vcpu)
{
	return fake_vcpu(vcpu)->mode;
}

static int vcpu_get_sregs(struct engine_vcpu *vcpu, struct engine_sregs *out)
{
	*out = fake_vcpu(vcpu)->sregs;
	return 0;
}

static int vcpu_set_sregs(struct engine_vcpu *vcpu, const struct engine_sregs *in)
{
	if (fake_vcpu(vcpu)->sregs_refused)
		return -EINVAL;
	fake_vcpu(vcpu)->sregs = *in;
	return 0;
}

static int vcpu_get_xmm(struct engine_vcpu *vcpu, u8 xmm[16][16])
{
	memcpy(xmm, fake_vcpu(vcpu)->xmm, sizeof(fake_vcpu(vcpu)->xmm));
	return 0;
}

static int vcpu_set_xmm(struct engine_vcpu *vcpu, const u8 xmm[16][16])
{
	memcpy(fake_vcpu(vcpu)->xmm, xmm, sizeof(fake_vcpu(vcpu)->xmm));
	return 0;
}

/* The vectors are those of vcpu_get_xmm(). */
static int vcpu_get_fpu(struct engine_vcpu *vcpu, struct engine_fpu *out)
{
	*out = fake_vcpu(vcpu)->fpu;
	return vcpu_get_xmm(vcpu, out->xmm);
}

static int vcpu_set_fpu(struct engine_vcpu *vcpu, const struct engine_fpu *in)
{
	fake_vcpu(vcpu)->fpu = *in;
	return vcpu_set_xmm(vcpu, in->xmm);
}

static int vcpu_get_debugregs(struct engine_vcpu *vcpu, struct engine_debugregs *out)
{
	*out = fake_vcpu(vcpu)->debugregs;
	return 0;
}

static int vcpu_set_debugregs(struct engine_vcpu *vcpu, const struct engine_debugregs *in)
{
	fake_vcpu(vcpu)->debugregs = *in;
	return 0;
}

static int vcpu_get_activity(struct engine_vcpu *vcpu, enum engine_activity *out)
{
	*out = fake_vcpu(vcpu)->activity;
	return 0;
}

static int vcpu_set_activity(struct engine_vcpu *vcpu, enum engine_activity activity)
{
	fake_vcpu(vcpu)->activity = activity;
	return 0;
}

static u64 *find_msr(struct engine_vcpu *vcpu, u32 index)
{
	struct fake_vcpu *v = fake_vcpu(vcpu);

	for (u32 i = 0; i < ARRAY_SIZE(known_msrs); i++)
		if (v->msr[i].index == index)
			return &v->msr[i].value;
	return NULL;
}

static int vcpu_get_msr(struct engine_vcpu *vcpu, u32 index, u64 *value)
{
	const u64 *at = find_msr(vcpu, index);

	if (!at)
		return -EINVAL;
	*value = *at;
	return 0;
}

static int vcpu_set_msr(struct engine_vcpu *vcpu, u32 index, u64 value)
{
	u64 *at = find_msr(vcpu, index);

	if (!at)
		return -EINVAL;
	*at = value;
	record(fake_vcpu(vcpu)->vm, FAKE_SET_MSR, index, value, vcpu->id);
	return 0;
}

static int vcpu_irq_pending(struct engine_vcpu *vcpu)
{
	return __atomic_load_n(&fake_vcpu(vcpu)->irq_pending, __ATOMIC_ACQUIRE);
}

static int vcpu_lazy_eoi(struct engine_vcpu *vcpu, u64 gpa)
{
	record(fake_vcpu(vcpu)->vm, FAKE_LAZY_EOI, gpa, 0, vcpu->id);
	return 0;
}

static int vcpu_get_lapic(struct engine_vcpu *vcpu, u8 regs[ENGINE_LAPIC_BYTES])
{
	memcpy(regs, fake_vcpu(vcpu)->lapic, ENGINE_LAPIC_BYTES);
	return 0;
}

static int vcpu_set_lapic(struct engine_vcpu *vcpu, const u8 regs[ENGINE_LAPIC_BYTES])
{
	memcpy(fake_vcpu(vcpu)->lapic, regs, ENGINE_LAPIC_BYTES);
	record(fake_vcpu(vcpu)->vm, FAKE_SET_LAPIC, 0, 0, vcpu->id);
	return 0;
}

static int vcpu_get_xsave(struct engine_vcpu *vcpu, u8 area[ENGINE_XSAVE_BYTES])
{
	memcpy(area, fake_vcpu(vcpu)->xsave, ENGINE_XSAVE_BYTES);
	return 0;
}

static int vcpu_set_xsave(struct engine_vcpu *vcpu, const u8 area[ENGINE_XSAVE_BYTES])
{
	if (fake_vcpu(vcpu)->xsave_refused)
		return -EINVAL;
	memcpy(fake_vcpu(vcpu)->xsave, area, ENGINE_XSAVE_BYTES);
	record(fake_vcpu(vcpu)->vm, FAKE_SET_XSAVE, 0, 0, vcpu->id);
	return 0;
}

static int vcpu_get_xcr0(struct engine_vcpu *vcpu, u64 *value)
{
	*value = fake_vcpu(vcpu)->xcr0;
	return 0;
}

/* Without x87 the register cannot be loaded. */
static int vcpu_set_xcr0(struct engine_vcpu *vcpu, u64 value)
{
	if (!(value & 1))
		return -EINVAL;
	fake_vcpu(vcpu)->xcr0 = value;
	return 0;
}

static int vcpu_extint(struct engine_vcpu *vcpu, u8 vector)
{
	if (fake_vcpu(vcpu)->extint_pending)
		return -EEXIST;
	record(fake_vcpu(vcpu)->vm, FAKE_EXTINT, 0, vector, vcpu->id);
	return 0;
}

const struct engine_ops fake_ops = {
	.name = "fake",
	.vm_create = vm_create,
	.vm_destroy = vm_destroy,
	.vm_map = vm_map,
	.vm_unmap = vm_unmap,
	.vm_track = vm_track,
	.vm_written = vm_written,
	.vm_msi = vm_msi,
	.vm_irqfd_add = vm_irqfd_add,
	.vm_irqfd_update = vm_irqfd_update,
	.vm_irqfd_remove = vm_irqfd_remove,
	.vm_ioeventfd = vm_ioeventfd,
	.vm_ioapic_route = vm_ioapic_route,
	.vm_msr_exits = vm_msr_exits,
	.vm_timers = vm_timers,
	.cpuid_supported = cpuid_supported,
	.tsc_hz = tsc_hz,
	.apic_hz = apic_hz,
	.tsc_now = tsc_now,
	.tsc_set = tsc_set,
	.vcpu_create = vcpu_create,
	.vcpu_destroy = vcpu_destroy,
	.vcpu_set_cpuid = vcpu_set_cpuid,
	.vcpu_run = vcpu_run,
	.vcpu_kick = vcpu_kick,
	.vcpu_mode = vcpu_mode,
	.vcpu_complete = vcpu_complete,
	.vcpu_drop = vcpu_drop,
	.vcpu_get_events = vcpu_get_events,
	.vcpu_set_events = vcpu_set_events,
	.vcpu_inject_exception = vcpu_inject_exception,
	.vcpu_get_sregs = vcpu_get_sregs,
	.vcpu_set_sregs = vcpu_set_sregs,
	.vcpu_get_xmm = vcpu_get_xmm,
	.vcpu_set_xmm = vcpu_set_xmm,
	.vcpu_get_fpu = vcpu_get_fpu,
	.vcpu_set_fpu = vcpu_set_fpu,
	.vcpu_get_debugregs = vcpu_get_debugregs,
	.vcpu_set_debugregs = vcpu_set_debugregs,
	.vcpu_get_activity = vcpu_get_activity,
	.vcpu_set_activity = vcpu_set_activity,
	.vcpu_get_msr = vcpu_get_msr,
	.vcpu_set_msr = vcpu_set_msr,
	.vcpu_irq_pending = vcpu_irq_pending,
	.vcpu_lazy_eoi = vcpu_lazy_eoi,
	.vcpu_get_lapic = vcpu_get_lapic,
	.vcpu_set_lapic = vcpu_set_lapic,
	.vcpu_get_xsave = vcpu_get_xsave,
	.vcpu_set_xsave = vcpu_set_xsave,
	.vcpu_get_xcr0 = vcpu_get_xcr0,
	.vcpu_set_xcr0 = vcpu_set_xcr0,
	.vcpu_extint = vcpu_extint,
};

struct engine fake_engine = { .ops = &fake_ops, .timers = true };

void fake_push(struct engine_vcpu *vcpu, const struct fake_step *step)
{
	struct fake_vcpu *v = fake_vcpu(vcpu);

	pthread_mutex_lock(&v->lock);
	if (v->steps == v->room) {
		u32 room = v->room ? v->room * 2 : 16;
		struct fake_step *more = realloc(v->step, room * sizeof(*more));

		assert(more);
		v->step = more;
		v->room = room;
	}
	v->step[v->steps++] = *step;
	pthread_cond_broadcast(&v->wake);
	pthread_mutex_unlock(&v->lock);
}

void fake_drain(struct engine_vcpu *vcpu)
{
	struct fake_vcpu *v = fake_vcpu(vcpu);

	pthread_mutex_lock(&v->lock);
	while (v->first != v->steps || !v->runs)
		pthread_cond_wait(&v->wake, &v->lock);
	pthread_mutex_unlock(&v->lock);
}

void fake_tsc_set(struct engine_vm *vm, u64 tsc)
{
	__atomic_store_n(&fake_vm(vm)->tsc, tsc, __ATOMIC_RELEASE);
}

void fake_tsc_advance(struct engine_vm *vm, u64 ticks)
{
	__atomic_fetch_add(&fake_vm(vm)->tsc, ticks, __ATOMIC_ACQ_REL);
}

void fake_irq_pending(struct engine_vcpu *vcpu, bool pending)
{
	__atomic_store_n(&fake_vcpu(vcpu)->irq_pending, pending, __ATOMIC_RELEASE);
}

u32 fake_count(struct engine_vm *evm, enum fake_call call)
{
	struct fake_vm *vm = fake_vm(evm);
	u32 n;

	pthread_mutex_lock(&vm->lock);
	n = vm->count[call];
	pthread_mutex_unlock(&vm->lock);
	return n;
}

struct fake_record fake_last(struct engine_vm *evm, enum fake_call call)
{
	struct fake_vm *vm = fake_vm(evm);
	struct fake_record r = { .call = call };

	pthread_mutex_lock(&vm->lock);
	for (u32 i = vm->records, kept = 0; i-- > 0 && kept < FAKE_RECORDS; kept++) {
		if (vm->record[i % FAKE_RECORDS].call != call)
			continue;
		r = vm->record[i % FAKE_RECORDS];
		break;
	}
	pthread_mutex_unlock(&vm->lock);
	return r;
}

void fake_forget(struct engine_vm *evm)
{
	struct fake_vm *vm = fake_vm(evm);

	pthread_mutex_lock(&vm->lock);
	memset(vm->count, 0, sizeof(vm->count));
	vm->records = 0;
	pthread_mutex_unlock(&vm->lock);
}

struct fake_slot fake_slot_at(struct engine_vm *evm, u64 gpa)
{
	struct fake_vm *vm = fake_vm(evm);
	struct fake_slot found = { 0 };

	pthread_mutex_lock(&vm->lock);
	for (u32 i = 0; i < FAKE_SLOTS; i++)
		if (vm->slot[i].used && gpa - vm->slot[i].gpa < vm->slot[i].bytes)
			found = vm->slot[i];
	pthread_mutex_unlock(&vm->lock);
	return found;
}

void fake_write(struct engine_vm *evm, u64 gpa)
{
	struct fake_vm *vm = fake_vm(evm);
	struct fake_slot s = fake_slot_at(evm, gpa);

	pthread_mutex_lock(&vm->lock);
	if (s.hva && s.tracked && vm->written_count < FAKE_WRITTEN)
		vm->written[vm->written_count++] = gpa;
	pthread_mutex_unlock(&vm->lock);
}

void fake_fail_maps(struct engine_vm *evm, u32 n)
{
	struct fake_vm *vm = fake_vm(evm);

	pthread_mutex_lock(&vm->lock);
	vm->map_fails = n;
	pthread_mutex_unlock(&vm->lock);
}
