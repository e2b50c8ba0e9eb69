// SPDX-License-Identifier: MIT
/* Composition: which objects a machine has and how their notifications meet. */
#include "machine/machine.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "core/child.h"
#include "core/hypercall.h"
#include "core/msr.h"
#include "core/vp.h"
#include "dev/bus.h"
#include "dev/exit.h"
#include "dev/ioapic.h"
#include "dev/pci.h"
#include "dev/pm.h"
#include "dev/rtc.h"
#include "dev/uart.h"
#include "machine/acpi.h"
#include "machine/console.h"
#include "machine/cpu_model.h"
#include "machine/layout.h"
#include "machine/pci_devices.h"
#include "machine/ram.h"
#include "machine/vmbus_devices.h"
#include "machine/wire_vmbus.h"

/* Within the builds that Linux's mshv driver knows. */
#define HV_BUILD 0x6C61
/* Linux builds processor sets for VP indices below this. */
#define MAX_LPS 1024

/* What Microsoft's hypervisor set aside for VMBus in a nested root. */
#define NESTED_VMBUS_VECTOR_FIRST 0x31
#define NESTED_VMBUS_VECTOR_LAST  0x34

struct machine {
	struct engine *engine;
	const struct role_profile *role;
	struct engine_vm *vm;
	struct engine_vcpu **vcpus;
	u32 vcpu_count;
	struct gmem gmem;
	struct ram ram;
	struct refclock clock;
	struct timer_service *timers;
	/* The hypervisor the partition sees, and L0 below it (nested roots only). */
	struct hypervisor hv, outer_hv;
	struct partition *partition, *outer;
	struct engine_cpuid *child_cpuid; /* what the processors of its children may have */
	struct gmem_backing hv_pages[2];  /* pages the hypervisors choose: own, L0's */

	struct bus *ports, *mmio;
	struct ioapic *ioapic;
	struct uart *com1;
	struct rtc *rtc;
	struct pci_host *pci;
	struct pm *pm;
	struct exit_dev *exit_dev;
	struct console *console;
	struct wire_vmbus *vmbus; /* NULL: the role has none */
	struct vmbus_devices *devices;
	struct pci_devices *pci_devices; /* NULL: the role's devices are on VMBus */

	struct boot_state boot;
	char release[BOOT_VERSION_BYTES];
	u32 quirks;
	const struct fail_rules *fails;
	u64 create_ns, start_ns, start_cpu_ns, init_ns, end_ns;
	u64 init_exits;
	bool crashed;
	struct crash_report crash;

	pthread_mutex_t lock; /* guards stopped */
	pthread_cond_t stop_cond;
	bool stopped;
};

static u64 monotonic_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (u64)ts.tv_sec * 1000000000u + (u64)ts.tv_nsec;
}

/* Processor time of this process and of the programs it ran. */
static u64 cpu_ns(void)
{
	struct timespec ts;
	struct rusage ru;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	getrusage(RUSAGE_CHILDREN, &ru);
	return (u64)(ts.tv_sec + ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) * 1000000000u +
	       (u64)ts.tv_nsec + (u64)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) * 1000u;
}

/* What the partition tells. */

static void on_io(void *ctx, struct vp *vp, struct engine_exit *exit)
{
	struct machine *m = ctx;

	if (exit->kind == ENGINE_EXIT_IO)
		bus_io(m->ports, exit->io.port, exit->io.size, exit->io.write, exit->io.count,
		       exit->io.data);
	else
		bus_mmio(m->mmio, exit->mmio.gpa, exit->mmio.size, exit->mmio.write,
			 exit->mmio.data);
}

static void on_eoi(void *ctx, struct vp *vp, u8 vector)
{
	struct machine *m = ctx;

	ioapic_eoi(m->ioapic, vector);
}

static void on_crash(void *ctx, struct vp *vp, const struct crash_report *report)
{
	struct machine *m = ctx;

	pthread_mutex_lock(&m->lock);
	m->crashed = true;
	m->crash = *report;
	pthread_mutex_unlock(&m->lock);
}

static void on_stopped(void *ctx, struct partition *p)
{
	struct machine *m = ctx;

	pthread_mutex_lock(&m->lock);
	m->stopped = true;
	pthread_cond_broadcast(&m->stop_cond);
	pthread_mutex_unlock(&m->lock);
	for (u32 i = 0; i < p->vp_count; i++)
		vp_kick(p->vps[i]);
}

static void on_interrupts_changed(void *ctx, u64 device_id)
{
	struct machine *m = ctx;

	if (HV_DEVICE_TYPE(device_id) == HV_DEVICE_TYPE_PCI)
		pci_host_recheck(m->pci);
}

static const struct partition_ops partition_ops = { on_io, on_eoi, on_crash, on_stopped,
						    on_interrupts_changed };

/* What the devices tell. */

static void on_msi(void *ctx, u64 address, u32 data)
{
	struct machine *m = ctx;

	engine_vm_msi(m->vm, address, data);
	/* Rare enough not to ask who it is for. */
	for (u32 i = 0; i < m->partition->vp_count; i++)
		vp_kick_dispatched(m->partition->vps[i]);
}

static void on_route(void *ctx, u32 pin, u64 address, u32 data)
{
	struct machine *m = ctx;

	if (m->vm->ops->vm_ioapic_route(m->vm, pin, address, data) < 0)
		log_limited(LOG_ERROR, "IO-APIC pin %u could not be routed", pin);
}

/* A root's devices raise only what it has mapped. */
static bool on_allowed(void *ctx, u32 pin, u64 rte)
{
	struct machine *m = ctx;
	u64 device = (u64)HV_DEVICE_TYPE_IOAPIC << 62 | LAYOUT_IOAPIC_ID;

	return !m->role->hv_pages ||
	       root_interrupt_mapped(m->partition, device, (u32)rte, (u32)(rte >> 32));
}

static bool on_msi_allowed(void *ctx, u16 rid, u64 address, u32 data)
{
	struct machine *m = ctx;
	u64 device = (u64)HV_DEVICE_TYPE_PCI << 62 | rid;

	return !m->role->hv_pages ||
	       (address >> 32 == 0 &&
		root_interrupt_mapped(m->partition, device, (u32)address, data));
}

static const struct ioapic_ops ioapic_ops = { .msi = on_msi,
					      .route = on_route,
					      .allowed = on_allowed };

static void on_power_off(void *ctx)
{
	struct machine *m = ctx;

	partition_stop(m->partition, STOP_POWER_OFF, 0, "the guest powered off");
}

static void on_reset(void *ctx, const char *how)
{
	struct machine *m = ctx;

	partition_stop(m->partition, STOP_RESET, 0, "the guest reset itself (%s)", how);
}

static void on_event_irq(void *ctx, bool level)
{
	struct machine *m = ctx;

	ioapic_set(m->ioapic, LAYOUT_EVENT_PIN, level);
}

static const struct pm_ops pm_ops = { on_power_off, on_reset, on_event_irq };

static void on_exit_status(void *ctx, u32 status)
{
	struct machine *m = ctx;

	partition_stop(m->partition, STOP_EXIT, (int)status, "the command ended with status %u",
		       status);
}

static u64 exits_so_far(const struct machine *m)
{
	u64 total = 0;

	for (u32 i = 0; i < m->partition->vp_count; i++)
		total += m->partition->vps[i]->exit_total;
	return total;
}

static void on_exit_event(void *ctx, u8 event)
{
	struct machine *m = ctx;

	if (event != EXIT_EVENT_INIT || m->init_ns)
		return;
	m->init_ns = monotonic_ns();
	m->init_exits = exits_so_far(m);
}

static const struct exit_ops exit_ops = { on_exit_status, on_exit_event };

static void on_com1_output(void *ctx, const u8 *data, u32 len)
{
	struct machine *m = ctx;

	console_output(m->console, data, len);
}

static void on_com1_irq(void *ctx, bool level)
{
	struct machine *m = ctx;

	ioapic_set(m->ioapic, LAYOUT_COM1_PIN, level);
}

static void on_com1_room(void *ctx)
{
	struct machine *m = ctx;

	console_input_room(m->console);
}

static const struct uart_ops uart_ops = { .output = on_com1_output,
					  .irq = on_com1_irq,
					  .input_room = on_com1_room };

static u32 on_console_input(void *ctx, const u8 *data, u32 len)
{
	struct machine *m = ctx;

	return uart_input(m->com1, data, len);
}

static void on_console_quit(void *ctx)
{
	struct machine *m = ctx;

	partition_stop(m->partition, STOP_KILLED, 0, "ended from the console (Ctrl-a x)");
}

static const struct console_ops console_ops = { on_console_input, on_console_quit };

/* Creation, in the order things need each other. */

static int create_devices(struct machine *m)
{
	const struct bus_range com1 = { LAYOUT_COM1_PORT, UART_PORTS, &uart_bus_ops, m->com1,
					"com1" };
	const struct bus_range rtc = { RTC_PORT, RTC_PORTS, &rtc_bus_ops, m->rtc, "rtc" };
	const struct bus_range io = { LAYOUT_IOAPIC_GPA, IOAPIC_MMIO_SIZE, &ioapic_bus_ops,
				      m->ioapic, "ioapic" };
	int ret;

	if ((ret = bus_add(m->ports, &com1)) || (ret = bus_add(m->ports, &rtc)) ||
	    (ret = bus_add(m->mmio, &io)) || (ret = pm_attach(m->pm, m->ports)) ||
	    (ret = pci_host_attach(m->pci, m->ports, m->role->vmbus ? NULL : m->mmio)))
		return ret;
	return exit_dev_attach(m->exit_dev, m->ports);
}

static int create_pci(struct machine *m)
{
	const struct pci_host_config pc = {
		.reset = &pm_reset_bus_ops,
		.reset_dev = m->pm,
		.vm = m->vm,
		.ecam_gpa = LAYOUT_ECAM_GPA,
		.ecam_bytes = LAYOUT_ECAM_BYTES,
		.window_gpa = LAYOUT_PCI_GPA,
		.window_bytes = LAYOUT_PCI_BYTES,
		.msi_allowed = on_msi_allowed,
		.ctx = m,
	};

	return pci_host_create(&pc, &m->pci);
}

static int create_platform(struct machine *m, const struct machine_config *cfg)
{
	int ret;

	if ((ret = bus_create(&m->ports)) || (ret = bus_create(&m->mmio)) ||
	    (ret = ioapic_create(&ioapic_ops, m, LAYOUT_IOAPIC_ID, &m->ioapic)) ||
	    (ret = console_create(&console_ops, m, cfg->com1_stdio, &m->console)) ||
	    (ret = uart_create(&uart_ops, m, &m->com1)) ||
	    (ret = rtc_create(NULL, NULL, &m->rtc)) || (ret = pm_create(&pm_ops, m, &m->pm)) ||
	    (ret = create_pci(m)) || (ret = exit_dev_create(&exit_ops, m, &m->exit_dev)))
		return ret;
	return create_devices(m);
}

static int create_memory(struct machine *m, const struct machine_config *cfg, struct error *err)
{
	/* A root lends pages to children and to those who serve its devices, and donates others. */
	bool shared = m->role->hv_pages || m->role->offer.privileges & HV_PRIV_CREATE_PARTITIONS;
	int ret = gmem_init(&m->gmem);

	if (ret)
		return error_errno(err, ret, "guest memory");
	ret = ram_create(&m->gmem, cfg->memory_bytes, shared, &m->ram);
	if (ret)
		return error_errno(err, ret, "guest memory");
	for (u32 i = 0; i < gmem_count(&m->gmem); i++) {
		struct gmem_region r = gmem_at(&m->gmem, i);

		ret = m->vm->ops->vm_map(m->vm, r.gpa, r.bytes, r.guest, true);
		if (ret)
			return error_errno(err, ret, "mapping guest memory");
	}
	return 0;
}

static int create_vcpus(struct machine *m, u32 count)
{
	m->vcpus = calloc(count, sizeof(*m->vcpus));
	if (!m->vcpus)
		return -ENOMEM;
	for (u32 i = 0; i < count; i++, m->vcpu_count++) {
		int ret = m->vm->ops->vcpu_create(m->vm, i, &m->vcpus[i]);

		if (ret)
			return ret;
	}
	return 0;
}

/* Memory for the pages a hypervisor chooses, reserved in the guest's memory map. */
static int create_hv_pages(struct machine *m, struct gmem_backing *b, u64 gpa, u32 cpus)
{
	int ret = gmem_backing_create(b, "nestor-hv-pages", hv_pages_bytes(cpus), false);

	if (!ret)
		ret = gmem_add(&m->gmem, gpa, b->bytes, b->hva, GMEM_RESERVED);
	if (!ret)
		ret = m->vm->ops->vm_map(m->vm, gpa, b->bytes, b->hva, true);
	return ret;
}

static int create_one_partition(struct machine *m, struct hypervisor *hv,
				const struct role_offer *offer, const struct machine_config *cfg,
				const struct cpu_model *cpu, u64 hv_pages_gpa,
				struct partition **out)
{
	struct partition_config pc = {
		.privileges = offer->privileges,
		.features_edx = offer->features_edx,
		.hints = offer->hints,
		.max_vps = cfg->cpus,
		.max_lps = MAX_LPS,
		.build = HV_BUILD,
		.physical_bits = cpu->physical_bits,
		.quirks = hv == &m->hv && (offer->privileges & HV_PRIV_CPU_MANAGEMENT)
				  ? m->quirks & quirks_of_root(m->role->nested)
				  : 0,
		/* A VP that dispatches another is not in the engine's run() to be interrupted. */
		.lends_timers = hv == &m->hv && m->engine->timers && !hv->root_scheduler,
		.fails = cfg->fails,
	};
	int ret = 0;

	if (hv == &m->outer_hv && cfg->nested_vectors_reserved) {
		pc.sint_first = NESTED_VMBUS_VECTOR_FIRST;
		pc.sint_last = NESTED_VMBUS_VECTOR_LAST;
	}
	/* A root sees the processor's invariant TSC as it is; nobody controls it. */
	if (cpu->invariant_tsc && !m->role->hv_pages)
		pc.privileges |= HV_PRIV_ACCESS_TSC_INVARIANT;
	/* The local APICs of this VM, so not of L0's partition. */
	if (hv == &m->hv && m->engine->apic_msrs) {
		pc.privileges |= HV_PRIV_ACCESS_INTR_CTRL_REGS;
		pc.hints |= HV_HINT_APIC_MSRS;
	}
	/* An IPI to a VP that dispatches another must get through, and the local APIC tells nobody.
	 */
	if (hv->root_scheduler)
		pc.hints |= HV_HINT_CLUSTER_IPI;
	if (m->role->hv_pages) {
		pc.hv_pages_gpa = hv_pages_gpa;
		ret = create_hv_pages(m, &m->hv_pages[hv == &m->outer_hv], hv_pages_gpa, cfg->cpus);
	}
	return ret ? ret : partition_create(hv, &pc, &m->gmem, m->vm, &partition_ops, m, out);
}

static int create_vps(struct machine *m, const struct machine_config *cfg,
		      const struct cpu_model *cpu)
{
	struct cpu_model *own = malloc(sizeof(*own));
	struct vp *vp, *outer;
	int ret = own ? 0 : -ENOMEM;

	for (u32 i = 0; !ret && i < cfg->cpus; i++) {
		ret = vp_create(m->partition, m->vcpus[i], &vp);
		if (!ret)
			ret = cpu_model_for_vp(cpu, m->partition, i, cfg->cpus, own);
		if (!ret)
			ret = m->vcpus[i]->ops->vcpu_set_cpuid(m->vcpus[i], own->leaf, own->count);
	}
	/* The two hypervisors number VPs each for itself, in the order of creation. */
	for (u32 i = 0; !ret && m->outer && i < cfg->cpus; i++) {
		vp = m->partition->vps[cfg->nested_vps_reversed ? cfg->cpus - 1 - i : i];
		ret = vp_create(m->outer, vp->vcpu, &outer);
		if (!ret)
			vp_nest(vp, outer);
	}
	free(own);
	return ret;
}

/* A parent's children are virtual machines of the same engine. */
static int offer_children(struct machine *m, const struct cpu_model *cpu)
{
	m->child_cpuid = calloc(cpu->count, sizeof(*m->child_cpuid));
	if (!m->child_cpuid)
		return -ENOMEM;
	memcpy(m->child_cpuid, cpu->leaf, cpu->count * sizeof(*m->child_cpuid));
	m->hv.engine = m->engine;
	m->hv.child_cpuid = m->child_cpuid;
	m->hv.child_cpuid_count = cpu->count;
	return 0;
}

static int create_partitions(struct machine *m, const struct machine_config *cfg,
			     const struct cpu_model *cpu)
{
	int ret = 0;

	m->timers = timer_service_create(refclock_now_ns, &m->clock, false);
	if (!m->timers)
		return -ENOMEM;
	hypervisor_init(&m->hv, m->role->nested ? "L1" : "hv", &m->clock, m->timers);
	hypervisor_init(&m->outer_hv, "L0", &m->clock, m->timers);
	m->hv.root_scheduler = cfg->root_scheduler;
	ret = offer_children(m, cpu);
	if (ret)
		return ret;
	m->gmem.donated_faults = m->role->hv_pages && !cfg->donated_ignore;
	ret = create_one_partition(m, &m->hv, &m->role->offer, cfg, cpu, LAYOUT_HV_GPA,
				   &m->partition);
	if (!ret && m->role->nested)
		ret = create_one_partition(m, &m->outer_hv, &m->role->outer, cfg, cpu,
					   LAYOUT_HV_OUTER_GPA, &m->outer);
	if (ret)
		return ret;
	if (m->outer)
		m->outer->inner = m->partition;
	return create_vps(m, cfg, cpu);
}

static void on_disk_lost(void *ctx, const char *text)
{
	struct machine *m = ctx;

	partition_stop(m->partition, STOP_HOST_ERROR, 0, "%s", text);
}

/* Where there is no VMBus the devices are on PCI. */
static int create_pci_devices(struct machine *m, const struct machine_config *cfg,
			      struct error *err)
{
	const struct pci_devices_config dc = { .name = cfg->name ? cfg->name : "nestor",
					       .vp_count = cfg->cpus,
					       .nets = cfg->nets,
					       .net_count = cfg->net_count,
					       .disks = cfg->disks,
					       .disk_count = cfg->disk_count,
					       .failed = on_disk_lost,
					       .ctx = m };

	if (cfg->vsock_path)
		return error_set(err, -EINVAL, "role %s has no VMBus, and so no hv_sock",
				 m->role->name);
	return pci_devices_create(m->pci, &m->gmem, &m->ram, &dc, &m->pci_devices, err);
}

static int create_vmbus(struct machine *m, const struct machine_config *cfg, struct error *err)
{
	const struct vmbus_devices_config dc = { .name = cfg->name ? cfg->name : "nestor",
						 .vp_count = cfg->cpus,
						 .nets = cfg->nets,
						 .net_count = cfg->net_count,
						 .disks = cfg->disks,
						 .disk_count = cfg->disk_count,
						 .vsock_path = cfg->vsock_path };
	int ret;

	if (!m->role->vmbus)
		return create_pci_devices(m, cfg, err);
	ret = wire_vmbus_create(m->outer ? m->outer : m->partition, &m->vmbus);
	if (ret)
		return error_errno(err, ret, "VMBus");
	return vmbus_devices_create(wire_vmbus_server(m->vmbus), &dc, &m->devices, err);
}

/* Tables and kernel into memory; what the kernel is decides which quirks it needs. */
static int load(struct machine *m, const struct machine_config *cfg, struct error *err)
{
	struct acpi_config acpi = { .vp_count = cfg->cpus,
				    .vmbus = m->role->vmbus,
				    .pci = !m->role->vmbus };
	struct boot_config bc = { .kernel = cfg->kernel,
				  .cmdline = cfg->cmdline,
				  .initrd = cfg->initrd,
				  .backing = &m->ram.backing };
	const u64 hv_bytes = hv_pages_bytes(cfg->cpus);
	const struct boot_reserved reserved[2] = { { LAYOUT_HV_GPA, hv_bytes },
						   { LAYOUT_HV_OUTER_GPA, hv_bytes } };
	int ret = acpi_write(&m->gmem, &acpi, &bc.rsdp_gpa);

	if (ret)
		return error_errno(err, ret, "ACPI tables");
	bc.reserved = reserved;
	bc.reserved_count = (u32)m->role->hv_pages + (m->role->nested ? 1 : 0);
	ret = boot_load(&m->gmem, &bc, &m->boot, err);
	if (ret) {
		if (err)
			err->of_input = true;
		return ret;
	}
	memcpy(m->release, m->boot.version, sizeof(m->release));
	if (m->boot.elf && m->role->nested && boot_elf_version(cfg->kernel, m->release) < 0)
		m->release[0] = 0;
	m->quirks = cfg->quirks_auto ? quirks_for_release(m->release) : cfg->quirks;
	return 0;
}

static int set_entry(struct machine *m, struct error *err)
{
	struct engine_vcpu *bsp = m->vcpus[0];
	struct engine_sregs sregs;
	int ret = bsp->ops->vcpu_get_sregs(bsp, &sregs);

	if (!ret) {
		boot_sregs(&m->boot, &sregs);
		ret = bsp->ops->vcpu_set_sregs(bsp, &sregs);
	}
	if (ret)
		return error_errno(err, ret, "processor state");
	boot_regs(&m->boot, bsp->regs);
	bsp->regs_dirty = true;
	return 0;
}

static int create_engine_side(struct machine *m, const struct machine_config *cfg,
			      struct cpu_model *cpu, struct error *err)
{
	const struct engine_vm_config vc = { .max_vcpus = cfg->cpus,
					     .hypercall_port = HYPERCALL_PORT,
					     .trap_msrs = true,
					     .apic_msrs = m->engine->apic_msrs,
					     .timers = m->engine->timers };
	int ret = cpu_model_init(cpu, m->engine);

	if (ret)
		return error_errno(err, ret, "processor features");
	ret = engine_vm_create(m->engine, &vc, &m->vm);
	if (ret)
		return error_errno(err, ret, "creating the virtual machine");
	ret = create_vcpus(m, cfg->cpus);
	if (ret)
		return error_errno(err, ret, "creating virtual processors");
	ret = refclock_init(&m->clock, m->vm);
	if (ret)
		return error_set(err, ret, "this host does not know its TSC frequency");
	return create_memory(m, cfg, err);
}

int machine_create(struct engine *engine, const struct machine_config *cfg, struct machine **out,
		   struct error *err)
{
	struct machine *m = calloc(1, sizeof(*m));
	struct cpu_model *cpu = malloc(sizeof(*cpu));
	int ret = -ENOMEM;

	if (!m || !cpu) {
		error_errno(err, ret, "machine");
		goto fail;
	}
	m->engine = engine;
	m->create_ns = cfg->began_ns ? cfg->began_ns : monotonic_ns();
	m->role = &role_profiles[cfg->role];
	m->fails = cfg->fails;
	pthread_mutex_init(&m->lock, NULL);
	pthread_cond_init(&m->stop_cond, NULL);
	ret = create_engine_side(m, cfg, cpu, err);
	if (ret)
		goto fail;
	ret = load(m, cfg, err);
	if (ret)
		goto fail;
	ret = create_platform(m, cfg);
	if (!ret)
		ret = create_partitions(m, cfg, cpu);
	if (ret) {
		error_errno(err, ret, "creating the machine");
		goto fail;
	}
	ret = create_vmbus(m, cfg, err);
	if (ret)
		goto fail;
	ret = set_entry(m, err);
	if (ret)
		goto fail;
	free(cpu);
	*out = m;
	return 0;
fail:
	free(cpu);
	machine_destroy(m);
	return ret;
}

int machine_run(struct machine *m, struct error *err)
{
	struct partition *p = m->partition;
	int ret = console_start(m->console);

	if (ret)
		return error_errno(err, ret, "console");
	m->start_ns = monotonic_ns();
	m->start_cpu_ns = cpu_ns();
	/* A root creates its other processors itself (HvCallCreateVp). */
	for (u32 i = 0; i < (m->role->hv_pages ? 1 : p->vp_count) && !ret; i++)
		ret = vp_start(p->vps[i]);
	if (ret) {
		error_errno(err, ret, "starting processor threads");
		partition_stop(p, STOP_HOST_ERROR, 0, "no thread for a processor");
	}
	pthread_mutex_lock(&m->lock);
	while (!m->stopped)
		pthread_cond_wait(&m->stop_cond, &m->lock);
	pthread_mutex_unlock(&m->lock);
	/* Twice: one that ended late may have created another. */
	for (u32 i = 0; i < 2 * p->vp_count; i++)
		vp_join(p->vps[i % p->vp_count]);
	children_destroy(p);
	timer_service_stop(m->timers);
	m->end_ns = monotonic_ns();
	uart_flush(m->com1);
	console_stop(m->console);
	return ret;
}

void machine_stop(struct machine *m, enum stop_reason reason, int code, const char *text)
{
	partition_stop(m->partition, reason, code, "%s", text);
}

bool machine_ask_power_off(struct machine *m)
{
	if (m->devices && vmbus_devices_shutdown(m->devices) == 0)
		return true;
	pm_power_button(m->pm);
	return false;
}

u64 machine_uptime_ns(struct machine *m)
{
	return m->start_ns ? (m->end_ns ? m->end_ns : monotonic_ns()) - m->start_ns : 0;
}

const char *machine_release(struct machine *m)
{
	return m->release;
}

struct vmbus_server *machine_vmbus(struct machine *m)
{
	return m->vmbus ? wire_vmbus_server(m->vmbus) : NULL;
}

struct vmbus_devices *machine_devices(struct machine *m)
{
	return m->devices;
}

struct partition *machine_partition(struct machine *m)
{
	return m->partition;
}

struct partition *machine_outer(struct machine *m)
{
	return m->outer;
}

static void add_counts(struct machine_report *r, const struct vp *vp)
{
	for (u32 i = 0; i < ENGINE_EXIT_COUNT; i++)
		r->exits[i] += vp->exits[i];
	r->exit_total += vp->exit_total;
	r->hypercalls += vp->unknown_hypercalls;
	r->hypercalls_refused += vp->unknown_hypercalls;
	r->msr_accesses += vp->unknown_msrs;
	r->msr_refused += vp->unknown_msrs;
}

static void add_partition(struct machine_report *r, const struct partition *p)
{
	struct row_count used;

	for (u32 i = 0; i < p->vp_count; i++)
		add_counts(r, p->vps[i]);
	for (u32 i = 0; i < hypercall_row_count(); i++) {
		used = hypercall_row_used(p, i);
		r->hypercalls += used.served + used.refused;
		r->hypercalls_refused += used.refused;
	}
	for (u32 i = 0; i < msr_row_count(); i++) {
		used = msr_row_used(p, i);
		r->msr_accesses += used.served + used.refused;
		r->msr_refused += used.refused;
	}
}

void machine_report(struct machine *m, struct machine_report *out)
{
	struct partition *p = m->partition;

	*out = (struct machine_report){
		.reason = partition_stop_reason(p),
		.code = p->stop_code,
		.setup_ns = m->start_ns - m->create_ns,
		.setup_cpu_ns = m->start_cpu_ns,
		.init_ns = m->init_ns ? m->init_ns - m->start_ns : 0,
		.run_ns = machine_uptime_ns(m),
		.init_exits = m->init_exits,
		.crashed = m->crashed,
		.crash = m->crash,
		.unclaimed_io = bus_unclaimed_total(m->ports) + bus_unclaimed_total(m->mmio),
	};
	memcpy(out->text, p->stop_text, sizeof(out->text));
	memcpy(out->kernel, m->release, sizeof(out->kernel));
	add_partition(out, p);
	if (m->outer)
		add_partition(out, m->outer);
}

u32 machine_routes(struct machine *m, struct machine_route *out, u32 max)
{
	struct row_count (*used)(const struct partition *p, u32 row);
	u32 calls = hypercall_row_count(), n = 0, row;
	struct row_count own, outer;

	for (u32 i = 0; i < calls + msr_row_count() && n < max; i++) {
		struct machine_route *r = &out[n];

		used = i < calls ? hypercall_row_used : msr_row_used;
		row = i < calls ? i : i - calls;
		own = used(m->partition, row);
		outer = m->outer ? used(m->outer, row) : (struct row_count){ 0 };
		*r = (struct machine_route){ .hypercall = i < calls,
					     .name = i < calls ? hypercall_row(row)->name
							       : msr_row(row)->name,
					     .own = own.served,
					     .own_refused = own.refused,
					     .forwarded = own.forwarded,
					     .outer = outer.served,
					     .outer_refused = outer.refused };
		n += r->own || r->own_refused || r->outer || r->outer_refused;
	}
	return n;
}

const struct fail_rules *machine_fails(struct machine *m)
{
	return m->fails;
}

u32 machine_quirks(struct machine *m, u64 uses[QUIRK_COUNT])
{
	for (u32 i = 0; i < QUIRK_COUNT; i++)
		uses[i] = __atomic_load_n(&m->partition->quirk_uses[i], __ATOMIC_RELAXED);
	return m->partition->config.quirks;
}

struct deposit_info machine_deposits(struct machine *m)
{
	return deposit_get(&m->partition->deposit);
}

static u32 messages_waiting(struct partition *p)
{
	u32 n = 0;

	for (u32 i = 0; p && i < p->vp_count; i++)
		n += synic_waiting(&p->vps[i]->synic);
	return n;
}

struct machine_held machine_held(struct machine *m)
{
	struct root_state *r = &m->partition->root;
	struct machine_held held = { .messages = messages_waiting(m->partition) +
						 messages_waiting(m->outer) };

	pthread_mutex_lock(&r->lock);
	held.interrupts = r->interrupt_count;
	held.stats_pages = r->stats_count;
	pthread_mutex_unlock(&r->lock);
	return held;
}

void machine_destroy(struct machine *m)
{
	if (!m)
		return;
	timer_service_stop(m->timers);
	/* Devices before the console their output ends in; both before the partition they name. */
	uart_destroy(m->com1);
	console_destroy(m->console);
	pci_devices_destroy(m->pci_devices);
	vmbus_devices_destroy(m->devices);
	wire_vmbus_destroy(m->vmbus);
	partition_destroy(m->partition);
	partition_destroy(m->outer);
	timer_service_destroy(m->timers);
	bus_destroy(m->ports);
	bus_destroy(m->mmio);
	exit_dev_destroy(m->exit_dev);
	pci_host_destroy(m->pci);
	pm_destroy(m->pm);
	rtc_destroy(m->rtc);
	ioapic_destroy(m->ioapic);
	for (u32 i = m->vcpu_count; i-- > 0;)
		m->vcpus[i]->ops->vcpu_destroy(m->vcpus[i]);
	free(m->vcpus);
	free(m->child_cpuid);
	if (m->vm)
		m->vm->ops->vm_destroy(m->vm);
	if (m->gmem.map) {
		ram_destroy(&m->gmem, &m->ram);
		gmem_backing_destroy(&m->hv_pages[0]);
		gmem_backing_destroy(&m->hv_pages[1]);
		gmem_fini(&m->gmem);
	}
	pthread_mutex_destroy(&m->lock);
	pthread_cond_destroy(&m->stop_cond);
	free(m);
}

const char *machine_exit_name(enum engine_exit_kind kind)
{
	static const char *const names[ENGINE_EXIT_COUNT] = {
		[ENGINE_EXIT_INTR] = "interrupted",
		[ENGINE_EXIT_HYPERCALL] = "hypercall",
		[ENGINE_EXIT_IO] = "port I/O",
		[ENGINE_EXIT_MMIO] = "memory-mapped I/O",
		[ENGINE_EXIT_RDMSR] = "MSR read",
		[ENGINE_EXIT_WRMSR] = "MSR write",
		[ENGINE_EXIT_EOI] = "EOI",
		[ENGINE_EXIT_HALT] = "halt",
		[ENGINE_EXIT_SHUTDOWN] = "triple fault",
		[ENGINE_EXIT_MEMORY] = "memory",
		[ENGINE_EXIT_ERROR] = "error",
	};

	return names[kind];
}
