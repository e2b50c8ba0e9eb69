// SPDX-License-Identifier: MIT
/* The bus over the fake engine: what a guest finds, moves and lets speak. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "dev/pci.h"
#include "engine/fake/fake.h"

#define ECAM	0xE0000000ull
#define WINDOW	0xC0000000ull
#define BYTES	0x10000000ull
#define VECTORS 3
#define MSI	0xFEE00000u
#define RID	(1 << 3)

struct bench {
	struct engine_vm *vm;
	struct bus *ports, *mmio;
	struct pci_host *host;
	struct pci_function *f;
	int doorbell;
	bool allowed;
	u32 asked;
	u64 asked_address;
	u32 asked_data;
	u64 written, written_at;
	u32 commands;
};

static u64 bar_read(void *dev, u32 bar, u64 offset, u8 size)
{
	return 0x1122334455667788ull + offset;
}

static void bar_write(void *dev, u32 bar, u64 offset, u8 size, u64 value)
{
	struct bench *b = dev;

	b->written = value;
	b->written_at = offset;
}

static void on_command(void *dev)
{
	((struct bench *)dev)->commands++;
}

static const struct pci_function_ops ops = { bar_read, bar_write, on_command };

static bool msi_allowed(void *ctx, u16 rid, u64 address, u32 data)
{
	struct bench *b = ctx;

	assert_int_equal(rid, RID);
	b->asked++;
	b->asked_address = address;
	b->asked_data = data;
	return b->allowed;
}

static int setup(void **state)
{
	static struct bench b;
	const struct engine_vm_config vc = { .max_vcpus = 1 };
	const struct pci_host_config hc = { .ecam_gpa = ECAM,
					    .ecam_bytes = BYTES,
					    .window_gpa = WINDOW,
					    .window_bytes = BYTES,
					    .msi_allowed = msi_allowed,
					    .ctx = &b };
	const struct pci_function_config fc = { .name = "test",
						.vendor = 0x1234,
						.device = 0x5678,
						.class_code = 0x020000,
						.bar_bytes = { 0x4000, PCI_MSIX_BAR_BYTES },
						.vectors = VECTORS,
						.msix_bar = 1,
						.ops = &ops,
						.dev = &b };
	struct pci_host_config with_vm = hc;

	b = (struct bench){ .allowed = true };
	assert_int_equal(engine_vm_create(&fake_engine, &vc, &b.vm), 0);
	assert_int_equal(bus_create(&b.ports), 0);
	assert_int_equal(bus_create(&b.mmio), 0);
	with_vm.vm = b.vm;
	assert_int_equal(pci_host_create(&with_vm, &b.host), 0);
	assert_int_equal(pci_function_create(b.host, &fc, &b.f), 0);
	b.doorbell = eventfd(0, EFD_NONBLOCK);
	assert_int_equal(pci_doorbell_add(b.f, 0, 0x3000, 2, b.doorbell), 0);
	assert_int_equal(pci_host_attach(b.host, b.ports, b.mmio), 0);
	*state = &b;
	return 0;
}

static int teardown(void **state)
{
	struct bench *b = *state;

	bus_destroy(b->ports);
	bus_destroy(b->mmio);
	pci_host_destroy(b->host);
	b->vm->ops->vm_destroy(b->vm);
	close(b->doorbell);
	return 0;
}

static u32 conf_read(struct bench *b, u32 offset, u8 size)
{
	u32 ecam = (u32)bus_read(b->mmio, ECAM + (1 << 15) + offset, size);

	bus_write(b->ports, 0xCF8, 4, 0x80000800 | (offset & 0xFC));
	assert_int_equal((u32)bus_read(b->ports, 0xCFC + (offset & 3), size), ecam);
	return ecam;
}

static void conf_write(struct bench *b, u32 offset, u8 size, u32 value)
{
	bus_write(b->mmio, ECAM + (1 << 15) + offset, size, value);
}

static void test_config(void **state)
{
	struct bench *b = *state;

	assert_int_equal(conf_read(b, 0, 4), 0x56781234);
	assert_int_equal(conf_read(b, 2, 2), 0x5678);
	assert_int_equal(conf_read(b, 0x0B, 1), 0x02);
	assert_int_equal(conf_read(b, 0x3D, 1), 0); /* no pin */
	conf_write(b, 0, 4, 0);			    /* read-only */
	assert_int_equal(conf_read(b, 0, 4), 0x56781234);
	/* Nobody else on the bus, no other function, no other bus, no extended space. */
	assert_int_equal((u32)bus_read(b->mmio, ECAM + (2 << 15), 4), 0xFFFFFFFF);
	assert_int_equal((u32)bus_read(b->mmio, ECAM + (1 << 15) + (1 << 12), 4), 0xFFFFFFFF);
	assert_int_equal((u32)bus_read(b->mmio, ECAM + (1 << 20), 4), 0xFFFFFFFF);
	assert_int_equal((u32)bus_read(b->mmio, ECAM + (1 << 15) + 0x100, 4), 0);
	bus_write(b->ports, 0xCF8, 4, 0x80000900);
	assert_int_equal((u32)bus_read(b->ports, 0xCFC, 4), 0xFFFFFFFF);
	/* Unaligned and too large accesses: nothing. */
	bus_write(b->mmio, ECAM + (1 << 15) + 0x13, 2, 0xFFFF);
	bus_write(b->mmio, ECAM + (1 << 15) + 0x10, 8, ~0ull);
	assert_int_equal(conf_read(b, 0x10, 4), WINDOW);
}

static void test_bars(void **state)
{
	struct bench *b = *state;

	/* As firmware would leave it: addresses, but nothing decoded. */
	assert_int_equal(conf_read(b, 0x10, 4), WINDOW);
	assert_int_equal(conf_read(b, 0x14, 4), WINDOW + 0x4000);
	assert_int_equal(conf_read(b, 0x18, 4), 0);
	assert_int_equal(bus_read(b->mmio, WINDOW, 8), ~0ull);
	assert_int_equal(fake_count(b->vm, FAKE_IOEVENTFD), 0);
	conf_write(b, 0x10, 4, 0xFFFFFFFF); /* size */
	assert_int_equal(conf_read(b, 0x10, 4), 0xFFFFC000);
	conf_write(b, 0x18, 4, 0xFFFFFFFF);
	assert_int_equal(conf_read(b, 0x18, 4), 0);
	conf_write(b, 0x10, 4, WINDOW + 0x100000);
	conf_write(b, 4, 2, 2);
	assert_int_equal(bus_read(b->mmio, WINDOW + 0x100008, 8), 0x1122334455667790ull);
	assert_int_equal(fake_last(b->vm, FAKE_IOEVENTFD).a, WINDOW + 0x103000);
	bus_write(b->mmio, WINDOW + 0x100010, 4, 42);
	assert_int_equal(b->written, 42);
	assert_int_equal(b->written_at, 0x10);
	/* Moved while it is decoded: the doorbell goes along. */
	conf_write(b, 0x10, 4, WINDOW + 0x200000);
	assert_int_equal(fake_count(b->vm, FAKE_IOEVENTFD), 3);
	assert_int_equal(fake_last(b->vm, FAKE_IOEVENTFD).a, WINDOW + 0x203000);
	assert_int_equal(bus_read(b->mmio, WINDOW + 0x100008, 8), ~0ull);
	/* Outside the window, also in part: nothing decodes it. */
	conf_write(b, 0x10, 4, 0xFEE00000);
	assert_int_equal(fake_last(b->vm, FAKE_IOEVENTFD).b, 0);
	conf_write(b, 0x10, 4, WINDOW - 0x4000);
	conf_write(b, 0x10, 4, (u32)(WINDOW + BYTES));
	assert_int_equal(fake_count(b->vm, FAKE_IOEVENTFD), 4);
	/* On top of the other BAR: one of them answers. */
	conf_write(b, 0x10, 4, WINDOW + 0x4000);
	bus_write(b->mmio, WINDOW + 0x4000, 4, 1);
	conf_write(b, 4, 2, 0);
	assert_int_equal(fake_last(b->vm, FAKE_IOEVENTFD).b, 0);
	assert_int_equal(b->commands, 0);
	conf_write(b, 4, 2, 4);
	conf_write(b, 4, 2, 4);
	assert_int_equal(b->commands, 1);
	assert_true(pci_bus_master(b->f));
}

#define TABLE	(WINDOW + 0x4000)
#define CONTROL (0x40 + 2)
#define PENDING (TABLE + 0x800)

static void entry_write(struct bench *b, u32 i, u32 low, u32 data, u32 control)
{
	bus_write(b->mmio, TABLE + i * 16, 4, low);
	bus_write(b->mmio, TABLE + i * 16 + 4, 4, 0);
	bus_write(b->mmio, TABLE + i * 16 + 8, 8, (u64)control << 32 | data);
}

static void test_msix(void **state)
{
	struct bench *b = *state;
	struct fake_record r;
	eventfd_t n;

	assert_int_equal(conf_read(b, 0x34, 1), 0x40);
	assert_int_equal(conf_read(b, 0x40, 1), 0x11);
	assert_int_equal(conf_read(b, CONTROL, 2), VECTORS - 1);
	conf_write(b, 4, 2, 2);
	assert_int_equal(bus_read(b->mmio, TABLE + 12, 4), 1); /* masked from the start */
	entry_write(b, 1, MSI, 0x41, 0);
	assert_int_equal(bus_read(b->mmio, TABLE + 16, 8), MSI);
	conf_write(b, CONTROL, 2, 0xFFFF);
	assert_int_equal(conf_read(b, CONTROL, 2), 0xC000 | (VECTORS - 1));
	conf_write(b, CONTROL, 2, 0x8000);
	/* No bus mastering yet. */
	assert_int_equal(fake_count(b->vm, FAKE_IRQFD_ADD), 0);
	pci_vector_raise(b->f, 1);
	assert_int_equal(bus_read(b->mmio, PENDING, 8), 2);
	assert_int_equal(bus_read(b->mmio, PENDING, 4), 2);
	conf_write(b, 4, 2, 6);
	assert_int_equal(fake_count(b->vm, FAKE_IRQFD_ADD), 1);
	r = fake_last(b->vm, FAKE_IRQFD_ADD);
	assert_int_equal(r.a, MSI);
	assert_int_equal(r.b, 0x41);
	/* The engine would have taken it at once. */
	assert_int_equal(eventfd_read(pci_vector_fd(b->f, 1), &n), 0);
	/* Another CPU or vector; then masked, one and all. */
	entry_write(b, 1, MSI | 1 << 12, 0x41, 0);
	assert_int_equal(fake_last(b->vm, FAKE_IRQFD_UPDATE).a, MSI | 1 << 12);
	bus_write(b->mmio, TABLE + 28, 4, 1);
	assert_int_equal(fake_count(b->vm, FAKE_IRQFD_REMOVE), 1);
	bus_write(b->mmio, TABLE + 28, 4, 0);
	conf_write(b, CONTROL, 2, 0xC000);
	assert_int_equal(fake_count(b->vm, FAKE_IRQFD_REMOVE), 2);
	conf_write(b, CONTROL, 2, 0x8000);
	assert_int_equal(fake_count(b->vm, FAKE_IRQFD_ADD), 3);
	/* An address that is no interrupt; entries and sizes that are none. */
	bus_write(b->mmio, TABLE + 16, 4, 0x1000);
	assert_int_equal(fake_count(b->vm, FAKE_IRQFD_REMOVE), 3);
	bus_write(b->mmio, TABLE + VECTORS * 16, 4, MSI);
	bus_write(b->mmio, TABLE + 2, 2, MSI);
	bus_write(b->mmio, PENDING, 8, ~0ull);
	bus_write(b->mmio, TABLE + 0xFFC, 8, ~0ull);
	assert_int_equal(bus_read(b->mmio, TABLE + VECTORS * 16, 4), 0);
	pci_vector_raise(b->f, VECTORS);
	assert_int_equal(pci_vector_fd(b->f, VECTORS), -1);
}

/* The root has not mapped what the device would send: it stays in the device. */
static void test_not_allowed(void **state)
{
	struct bench *b = *state;

	b->allowed = false;
	conf_write(b, 4, 2, 6);
	conf_write(b, CONTROL, 2, 0x8000);
	assert_int_equal(b->asked, 0); /* all masked */
	entry_write(b, 0, MSI, 0x33, 0);
	assert_true(b->asked);
	assert_int_equal(b->asked_address, MSI);
	assert_int_equal(b->asked_data, 0x33);
	assert_int_equal(fake_count(b->vm, FAKE_IRQFD_ADD), 0);
	assert_int_equal(pci_vectors_refused(b->f), 0); /* nothing to say */
	pci_vector_raise(b->f, 0);
	assert_int_equal(pci_vectors_refused(b->f), 1);
	assert_int_equal(bus_read(b->mmio, PENDING, 8), 1);
	pci_host_recheck(b->host);
	assert_int_equal(fake_count(b->vm, FAKE_IRQFD_ADD), 0);
	b->allowed = true;
	pci_host_recheck(b->host);
	assert_int_equal(fake_count(b->vm, FAKE_IRQFD_ADD), 1);
	assert_int_equal(pci_vectors_refused(b->f), 0);
	b->allowed = false;
	pci_host_recheck(b->host);
	assert_int_equal(fake_count(b->vm, FAKE_IRQFD_REMOVE), 1);
	pci_vectors_clear(b->f);
	assert_int_equal(bus_read(b->mmio, PENDING, 8), 0);
}

static void test_full(void **state)
{
	struct bench *b = *state;
	struct pci_function_config fc = { .name = "more", .ops = &ops };
	struct pci_function *f;
	u32 n = 2;

	while (pci_function_create(b->host, &fc, &f) == 0)
		assert_int_equal(pci_rid(f), n++ << 3);
	assert_int_equal(n, PCI_FUNCTIONS_MAX);
	assert_int_equal(pci_function_create(b->host, &fc, &f), -ENOSPC);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_config, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bars, setup, teardown),
		cmocka_unit_test_setup_teardown(test_msix, setup, teardown),
		cmocka_unit_test_setup_teardown(test_not_allowed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_full, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
