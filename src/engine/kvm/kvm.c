// SPDX-License-Identifier: MIT
/*
 * The VM side of the KVM back end: memory slots, interrupt routes, and the
 * settings that keep the Hyper-V and paravirtual emulation of KVM's out that nobody asked for.
 */
#include "base/fd.h"
#include "engine/kvm/kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <x86intrin.h>

#include "engine/kvm/kvm_internal.h"

/* Of Linux 6.11; not in Debian 12's headers. */
#ifndef KVM_CAP_X86_APIC_BUS_CYCLES_NS
#define KVM_CAP_X86_APIC_BUS_CYCLES_NS 237
#endif

int kvm_ioctl(int fd, unsigned long request, void *arg)
{
	int ret;

	do {
		ret = ioctl(fd, request, arg);
	} while (ret < 0 && errno == EINTR);
	return ret < 0 ? -errno : ret;
}

int kvm_enable_cap(int fd, u32 cap, u64 arg)
{
	struct kvm_enable_cap c = { .cap = cap, .args = { arg } };

	return kvm_ioctl(fd, KVM_ENABLE_CAP, &c);
}

static int vm_setup(struct kvm_vm *vm, const struct engine_vm_config *cfg)
{
	/* Used by Intel hosts without unrestricted guest; above all devices, below 4 GiB. */
	u64 identity_map = 0xFEFFC000;
	int ret;

	kvm_ioctl(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map);
	kvm_ioctl(vm->fd, KVM_SET_TSS_ADDR, (void *)0xFEFFD000ul);
	ret = kvm_enable_cap(vm->fd, KVM_CAP_SPLIT_IRQCHIP, KVM_IOAPIC_PINS);
	if (ret < 0)
		return ret;
	/*
	 * The frequency of Microsoft's partitions: 5 ns a tick. KVM's own, which a host before
	 * Linux 6.11 keeps, is 1 GHz; firmware that takes it for granted then ticks so often
	 * that an emulated host is late for each.
	 */
	ret = kvm_enable_cap(vm->fd, KVM_CAP_X86_APIC_BUS_CYCLES_NS, 5);
	vm->apic_hz = ret < 0 ? 1000000000 : 200000000;
	/* A thread that waits for an interrupt before it gives up its processor is not seen to
	 * halt. */
	if (cfg->halt_exits)
		kvm_enable_cap(vm->fd, KVM_CAP_HALT_POLL, 0);
	/* One port of all, whose OUT would be executed when it exits. Older hosts: it is. */
	kvm_enable_cap(vm->fd, KVM_CAP_DISABLE_QUIRKS2, KVM_X86_QUIRK_OUT_7E_INC_RIP);
	ret = kvm_enable_cap(vm->fd, KVM_CAP_X2APIC_API,
			     KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK);
	if (ret < 0)
		return ret;
	return cfg->trap_msrs ? kvm_msr_trap(vm, cfg->trap_unknown_msrs) : 0;
}

static int vm_create(void *ctx, const struct engine_vm_config *cfg, struct engine_vm **out)
{
	struct kvm_engine *e = ctx;
	struct kvm_vm *vm = calloc(1, sizeof(*vm));
	int ret;

	if (!vm)
		return -ENOMEM;
	*vm = (struct kvm_vm){ .vm.ops = &kvm_engine_ops,
			       .engine = e,
			       .max_vcpus = cfg->max_vcpus,
			       .hypercall_port = cfg->hypercall_port,
			       .apic_msrs = cfg->apic_msrs,
			       .timers = cfg->timers };
	pthread_mutex_init(&vm->lock, NULL);
	list_init(&vm->vcpus);
	vm->fd = kvm_ioctl(e->fd, KVM_CREATE_VM, NULL);
	if (vm->fd < 0) {
		ret = vm->fd;
		goto free;
	}
	ret = fd_affordable(vm->fd) ? vm_setup(vm, cfg) : -EMFILE;
	if (ret < 0)
		goto close;
	vm->xsave_bytes = kvm_ioctl(vm->fd, KVM_CHECK_EXTENSION, (void *)(uintptr_t)KVM_CAP_XSAVE2);
	vm->tsc_offset = 0 - __rdtsc(); /* the guest's TSC starts at 0 */
	*out = &vm->vm;
	return 0;
close:
	close(vm->fd);
free:
	pthread_mutex_destroy(&vm->lock);
	free(vm);
	return ret;
}

static void vm_destroy(struct engine_vm *v)
{
	struct kvm_vm *vm = kvm_vm_of(v);

	close(vm->fd);
	pthread_mutex_destroy(&vm->lock);
	free(vm);
}

/* @bytes 0 deletes it. */
static int set_slot(struct kvm_vm *vm, u32 slot, const struct kvm_slot *s, u64 bytes, bool track)
{
	struct kvm_userspace_memory_region r = {
		.slot = slot,
		.flags = (s->writable ? 0 : KVM_MEM_READONLY) |
			 (track ? KVM_MEM_LOG_DIRTY_PAGES : 0),
		.guest_phys_addr = s->gpa,
		.memory_size = bytes,
		.userspace_addr = (u64)(uintptr_t)s->hva,
	};

	return kvm_ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &r);
}

/* KVM_SLOTS_MAX: there is none. */
static u32 find_slot_locked(const struct kvm_vm *vm, u64 gpa)
{
	u32 i = 0;

	while (i < KVM_SLOTS_MAX && !(vm->slot[i].used && vm->slot[i].gpa == gpa))
		i++;
	return i;
}

static int vm_map(struct engine_vm *v, u64 gpa, u64 bytes, void *hva, bool writable)
{
	const struct kvm_slot s = { gpa, bytes, hva, true, writable };
	struct kvm_vm *vm = kvm_vm_of(v);
	int ret = -ENOSPC;
	u32 i;

	pthread_mutex_lock(&vm->lock);
	for (i = 0; i < KVM_SLOTS_MAX && vm->slot[i].used; i++)
		;
	if (i < KVM_SLOTS_MAX)
		ret = set_slot(vm, i, &s, bytes, false);
	if (ret >= 0)
		vm->slot[i] = s;
	pthread_mutex_unlock(&vm->lock);
	return ret;
}

static int vm_unmap(struct engine_vm *v, u64 gpa)
{
	struct kvm_vm *vm = kvm_vm_of(v);
	int ret = -ENOENT;
	u32 i;

	pthread_mutex_lock(&vm->lock);
	i = find_slot_locked(vm, gpa);
	if (i < KVM_SLOTS_MAX) {
		ret = set_slot(vm, i, &vm->slot[i], 0, false);
		vm->slot[i].used = ret < 0;
	}
	pthread_mutex_unlock(&vm->lock);
	return ret;
}

static int vm_track(struct engine_vm *v, u64 gpa, bool on)
{
	struct kvm_vm *vm = kvm_vm_of(v);
	int ret = -ENOENT;
	u32 i;

	pthread_mutex_lock(&vm->lock);
	i = find_slot_locked(vm, gpa);
	if (i < KVM_SLOTS_MAX)
		ret = set_slot(vm, i, &vm->slot[i], vm->slot[i].bytes, on);
	pthread_mutex_unlock(&vm->lock);
	return ret;
}

static int vm_written(struct engine_vm *v, u64 gpa, u64 *bitmap)
{
	struct kvm_vm *vm = kvm_vm_of(v);
	struct kvm_dirty_log log = { .dirty_bitmap = bitmap };
	int ret = -ENOENT;

	pthread_mutex_lock(&vm->lock);
	log.slot = find_slot_locked(vm, gpa);
	if (log.slot < KVM_SLOTS_MAX)
		ret = kvm_ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log);
	pthread_mutex_unlock(&vm->lock);
	return ret;
}

static int vm_msi(struct engine_vm *v, u64 address, u32 data)
{
	struct kvm_msi msi = { .address_lo = (u32)address,
			       .address_hi = (u32)(address >> 32),
			       .data = data };

	return kvm_ioctl(kvm_vm_of(v)->fd, KVM_SIGNAL_MSI, &msi);
}

/* KVM takes the table as a whole. */
static int routes_apply_locked(struct kvm_vm *vm)
{
	struct kvm_irq_routing *table =
		calloc(1, sizeof(*table) + KVM_ROUTES_MAX * sizeof(table->entries[0]));
	int ret;

	if (!table)
		return -ENOMEM;
	for (u32 i = 0; i < KVM_ROUTES_MAX; i++) {
		if (!vm->route[i].used)
			continue;
		table->entries[table->nr++] = (struct kvm_irq_routing_entry){
			.gsi = i,
			.type = KVM_IRQ_ROUTING_MSI,
			.u.msi = { .address_lo = (u32)vm->route[i].address,
				   .address_hi = (u32)(vm->route[i].address >> 32),
				   .data = vm->route[i].data },
		};
	}
	ret = kvm_ioctl(vm->fd, KVM_SET_GSI_ROUTING, table);
	free(table);
	return ret;
}

static int route_set_locked(struct kvm_vm *vm, u32 gsi, u64 address, u32 data)
{
	vm->route[gsi].used = true;
	vm->route[gsi].address = address;
	vm->route[gsi].data = data;
	return routes_apply_locked(vm);
}

static int vm_ioapic_route(struct engine_vm *v, u32 pin, u64 address, u32 data)
{
	struct kvm_vm *vm = kvm_vm_of(v);
	int ret;

	if (pin >= KVM_IOAPIC_PINS)
		return -EINVAL;
	pthread_mutex_lock(&vm->lock);
	ret = route_set_locked(vm, pin, address, data);
	pthread_mutex_unlock(&vm->lock);
	return ret;
}

static int irqfd_set(struct kvm_vm *vm, const struct engine_irqfd *i, bool remove)
{
	struct kvm_irqfd irqfd = { .fd = (u32)i->fd,
				   .gsi = i->gsi,
				   .flags = remove ? KVM_IRQFD_FLAG_DEASSIGN : 0 };

	return kvm_ioctl(vm->fd, KVM_IRQFD, &irqfd);
}

static int vm_irqfd_add(struct engine_vm *v, struct engine_irqfd *irqfd)
{
	struct kvm_vm *vm = kvm_vm_of(v);
	int ret = -ENOSPC;
	u32 gsi;

	pthread_mutex_lock(&vm->lock);
	for (gsi = KVM_IOAPIC_PINS; gsi < KVM_ROUTES_MAX && vm->route[gsi].used; gsi++)
		;
	if (gsi < KVM_ROUTES_MAX) {
		irqfd->gsi = gsi;
		ret = route_set_locked(vm, gsi, irqfd->address, irqfd->data);
		if (ret >= 0)
			ret = irqfd_set(vm, irqfd, false);
		if (ret < 0)
			vm->route[gsi].used = false;
	}
	pthread_mutex_unlock(&vm->lock);
	return ret < 0 ? ret : 0;
}

static int vm_irqfd_update(struct engine_vm *v, struct engine_irqfd *irqfd)
{
	struct kvm_vm *vm = kvm_vm_of(v);
	int ret;

	pthread_mutex_lock(&vm->lock);
	ret = route_set_locked(vm, irqfd->gsi, irqfd->address, irqfd->data);
	pthread_mutex_unlock(&vm->lock);
	return ret;
}

static void vm_irqfd_remove(struct engine_vm *v, struct engine_irqfd *irqfd)
{
	struct kvm_vm *vm = kvm_vm_of(v);

	pthread_mutex_lock(&vm->lock);
	irqfd_set(vm, irqfd, true);
	vm->route[irqfd->gsi].used = false;
	routes_apply_locked(vm);
	pthread_mutex_unlock(&vm->lock);
}

static int vm_ioeventfd(struct engine_vm *v, u64 addr, u32 size, bool mmio, const u64 *match,
			int fd, bool add)
{
	struct kvm_ioeventfd e = {
		.datamatch = match ? *match : 0,
		.addr = addr,
		.len = size,
		.fd = fd,
		.flags = (mmio ? 0 : (u32)KVM_IOEVENTFD_FLAG_PIO) |
			 (match ? (u32)KVM_IOEVENTFD_FLAG_DATAMATCH : 0) |
			 (add ? 0 : (u32)KVM_IOEVENTFD_FLAG_DEASSIGN),
	};

	return kvm_ioctl(kvm_vm_of(v)->fd, KVM_IOEVENTFD, &e);
}

static int cpuid_supported(void *ctx, struct engine_cpuid *out, u32 *count)
{
	struct kvm_engine *e = ctx;
	struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + KVM_CPUID_ENTRIES * sizeof(c->entries[0]));
	int ret;

	if (!c)
		return -ENOMEM;
	c->nent = KVM_CPUID_ENTRIES;
	ret = kvm_ioctl(e->fd, KVM_GET_SUPPORTED_CPUID, c);
	if (ret >= 0 && c->nent > *count)
		ret = -E2BIG;
	for (u32 i = 0; ret >= 0 && i < c->nent; i++) {
		const struct kvm_cpuid_entry2 *k = &c->entries[i];

		out[i] = (struct engine_cpuid){
			.leaf = k->function,
			.index = k->index,
			.indexed = k->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
			.eax = k->eax,
			.ebx = k->ebx,
			.ecx = k->ecx,
			.edx = k->edx,
		};
	}
	*count = c->nent;
	free(c);
	return ret < 0 ? ret : 0;
}

static u64 tsc_hz(struct engine_vm *vm)
{
	return kvm_vm_of(vm)->tsc_hz;
}

static u64 apic_hz(struct engine_vm *vm)
{
	return kvm_vm_of(vm)->apic_hz;
}

static u64 tsc_now(struct engine_vm *vm)
{
	return __rdtsc() + __atomic_load_n(&kvm_vm_of(vm)->tsc_offset, __ATOMIC_ACQUIRE);
}

/* One offset for all vCPUs, those to come included. */
static int tsc_set(struct engine_vm *v, u64 tsc)
{
	struct kvm_vm *vm = kvm_vm_of(v);
	struct list *pos;
	int ret = 0;

	pthread_mutex_lock(&vm->lock);
	__atomic_store_n(&vm->tsc_offset, tsc - __rdtsc(), __ATOMIC_RELEASE);
	list_for_each(pos, &vm->vcpus) {
		int err = kvm_vcpu_tsc_follow(list_entry(pos, struct kvm_vcpu, link));

		ret = ret < 0 ? ret : err;
	}
	pthread_mutex_unlock(&vm->lock);
	return ret;
}

const struct engine_ops kvm_engine_ops = {
	.name = "kvm",
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
	.vm_msr_exits = kvm_vm_msr_exits,
	.vm_timers = kvm_vm_timers,
	.cpuid_supported = cpuid_supported,
	.tsc_hz = tsc_hz,
	.apic_hz = apic_hz,
	.tsc_now = tsc_now,
	.tsc_set = tsc_set,
	.vcpu_create = kvm_vcpu_create,
	.vcpu_destroy = kvm_vcpu_destroy,
	.vcpu_set_cpuid = kvm_vcpu_set_cpuid,
	.vcpu_run = kvm_vcpu_run,
	.vcpu_kick = kvm_vcpu_kick,
	.vcpu_mode = kvm_vcpu_mode,
	.vcpu_complete = kvm_vcpu_complete,
	.vcpu_drop = kvm_vcpu_drop,
	.vcpu_get_events = kvm_vcpu_get_events,
	.vcpu_set_events = kvm_vcpu_set_events,
	.vcpu_inject_exception = kvm_vcpu_inject_exception,
	.vcpu_get_sregs = kvm_vcpu_get_sregs,
	.vcpu_set_sregs = kvm_vcpu_set_sregs,
	.vcpu_get_xmm = kvm_vcpu_get_xmm,
	.vcpu_set_xmm = kvm_vcpu_set_xmm,
	.vcpu_get_fpu = kvm_vcpu_get_fpu,
	.vcpu_set_fpu = kvm_vcpu_set_fpu,
	.vcpu_get_debugregs = kvm_vcpu_get_debugregs,
	.vcpu_set_debugregs = kvm_vcpu_set_debugregs,
	.vcpu_get_activity = kvm_vcpu_get_activity,
	.vcpu_set_activity = kvm_vcpu_set_activity,
	.vcpu_get_msr = kvm_vcpu_get_msr,
	.vcpu_set_msr = kvm_vcpu_set_msr,
	.vcpu_irq_pending = kvm_vcpu_irq_pending,
	.vcpu_lazy_eoi = kvm_vcpu_lazy_eoi,
	.vcpu_get_lapic = kvm_vcpu_get_lapic,
	.vcpu_set_lapic = kvm_vcpu_set_lapic,
	.vcpu_get_xsave = kvm_vcpu_get_xsave,
	.vcpu_set_xsave = kvm_vcpu_set_xsave,
	.vcpu_get_xcr0 = kvm_vcpu_get_xcr0,
	.vcpu_set_xcr0 = kvm_vcpu_set_xcr0,
	.vcpu_extint = kvm_vcpu_extint,
};

int kvm_engine_open(struct engine *out)
{
	struct kvm_engine *e = calloc(1, sizeof(*e));
	int ret;

	if (!e)
		return -ENOMEM;
	e->fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (e->fd < 0) {
		ret = -errno;
		free(e);
		return ret;
	}
	ret = kvm_ioctl(e->fd, KVM_GET_VCPU_MMAP_SIZE, NULL);
	if (ret < 0) {
		close(e->fd);
		free(e);
		return ret;
	}
	e->run_bytes = (size_t)ret;
	*out = (struct engine){
		.ops = &kvm_engine_ops,
		.ctx = e,
		.apic_msrs = kvm_ioctl(e->fd, KVM_CHECK_EXTENSION, (void *)KVM_CAP_HYPERV) > 0,
		.halt_exits = kvm_halt_possible(),
		.timers = kvm_timers_possible(e->fd),
	};
	return 0;
}

void kvm_engine_close(struct engine *e)
{
	struct kvm_engine *k = e->ctx;

	if (!k)
		return;
	close(k->fd);
	free(k);
	e->ctx = NULL;
}
