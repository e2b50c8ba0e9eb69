// SPDX-License-Identifier: MIT
/* Walks the tables the way an OS does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <string.h>

#include <cmocka.h>

#include "machine/acpi.h"
#include "machine/layout.h"
#include "machine/ram.h"

struct bench {
	struct gmem gm;
	struct ram ram;
	u64 rsdp;
};

static int setup(void **state)
{
	static struct bench b;

	memset(&b, 0, sizeof(b));
	*state = &b;
	return gmem_init(&b.gm) ? -1 : ram_create(&b.gm, 64 * MIB, false, &b.ram);
}

static int teardown(void **state)
{
	struct bench *b = *state;

	ram_destroy(&b->gm, &b->ram);
	gmem_fini(&b->gm);
	return 0;
}

static u32 get32(const u8 *p)
{
	u32 v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static u64 get64(const u8 *p)
{
	u64 v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static void assert_sum(const u8 *p, u32 len)
{
	u8 sum = 0;

	while (len--)
		sum += *p++;
	assert_int_equal(sum, 0);
}

static const u8 *table_at(struct bench *b, u64 gpa)
{
	const u8 *p = gmem_ptr(&b->gm, gpa, 36);

	assert_non_null(p);
	assert_true(gpa >= LAYOUT_TABLES && gpa + get32(p + 4) <= LAYOUT_RESET_STUB);
	assert_sum(p, get32(p + 4));
	return p;
}

/* The @nth table with @signature in the XSDT, or NULL. */
static const u8 *find(struct bench *b, const char *signature, u32 nth)
{
	const u8 *rsdp = gmem_ptr(&b->gm, b->rsdp, 36);
	const u8 *xsdt;

	assert_memory_equal(rsdp, "RSD PTR ", 8);
	assert_sum(rsdp, 20);
	assert_sum(rsdp, 36);
	xsdt = table_at(b, get64(rsdp + 24));
	assert_memory_equal(xsdt, "XSDT", 4);
	for (u32 at = 36; at < get32(xsdt + 4); at += 8) {
		const u8 *t = table_at(b, get64(xsdt + at));

		if (!memcmp(t, signature, 4) && nth-- == 0)
			return t;
	}
	return NULL;
}

static int build(struct bench *b, u32 vps, bool vmbus, bool pci)
{
	const struct acpi_config cfg = {
		.vp_count = vps,
		.vmbus = vmbus,
		.pci = pci,
	};

	return acpi_write(&b->gm, &cfg, &b->rsdp);
}

static void test_fixed_table(void **state)
{
	struct bench *b = *state;
	const u8 *fadt;

	assert_int_equal(build(b, 1, false, false), 0);
	fadt = find(b, "FACP", 0);
	assert_non_null(fadt);
	assert_int_equal(fadt[8], 6);
	assert_true(get32(fadt + 112) & BIT(20)); /* hardware reduced */
	assert_true(get32(fadt + 112) & BIT(10)); /* reset register */
	assert_int_equal(fadt[109] & 0x22, 0);	  /* no 8042; has CMOS */
	assert_int_equal(get64(fadt + 120), 0xCF9);
	assert_int_equal(fadt[128], 6);
	assert_int_equal(get64(fadt + 248), 0x600);
	assert_int_equal(get64(fadt + 260), 0x601);
	assert_memory_equal(table_at(b, get64(fadt + 140)), "DSDT", 4);
	assert_null(find(b, "SSDT", 0));
	assert_null(find(b, "MCFG", 0));
}

static void test_processors(void **state)
{
	static const u32 counts[] = { 1, 2, 64, 255, 256, 1024 };
	struct bench *b = *state;

	for (u32 i = 0; i < ARRAY_SIZE(counts); i++) {
		u32 seen = 0, ioapics = 0, len;
		const u8 *madt;

		assert_int_equal(build(b, counts[i], true, true), 0);
		madt = find(b, "APIC", 0);
		assert_non_null(madt);
		assert_int_equal(get32(madt + 36), 0xFEE00000);
		assert_int_equal(get32(madt + 40), 0); /* no 8259 */
		len = get32(madt + 4);
		for (u32 at = 44; at < len; at += madt[at + 1]) {
			const u8 *e = madt + at;

			if (e[0] == 0) {
				assert_int_equal(e[3], seen);
				assert_int_equal(get32(e + 4), 1);
				seen++;
			} else if (e[0] == 9) {
				assert_true(seen >= 255);
				assert_int_equal(get32(e + 4), seen);
				assert_int_equal(get32(e + 12), seen);
				seen++;
			} else {
				assert_int_equal(e[0], 1);
				assert_int_equal(get32(e + 4), 0xFEC00000);
				ioapics++;
			}
		}
		assert_int_equal(seen, counts[i]);
		assert_int_equal(ioapics, 1);
	}
	assert_int_equal(build(b, 100000, false, false), -ENOSPC);
}

static void test_optional_tables(void **state)
{
	struct bench *b = *state;
	const u8 *ssdt, *mcfg;

	assert_int_equal(build(b, 1, true, false), 0);
	ssdt = find(b, "SSDT", 0);
	assert_non_null(ssdt);
	assert_non_null(memmem(ssdt, get32(ssdt + 4), "VMBus", 6));
	assert_null(find(b, "SSDT", 1));

	assert_int_equal(build(b, 1, true, true), 0);
	ssdt = find(b, "SSDT", 1);
	assert_non_null(ssdt);
	/* What the tables say of the window and of ECAM is where they are. */
	u32 window[2] = { LAYOUT_PCI_GPA, LAYOUT_PCI_GPA + LAYOUT_PCI_BYTES - 1 };
	u32 ecam[2] = { LAYOUT_ECAM_GPA, LAYOUT_ECAM_BYTES };
	assert_non_null(memmem(ssdt, get32(ssdt + 4), window, sizeof(window)));
	assert_non_null(memmem(ssdt, get32(ssdt + 4), ecam, sizeof(ecam)));
	mcfg = find(b, "MCFG", 0);
	assert_non_null(mcfg);
	assert_int_equal(get64(mcfg + 44), LAYOUT_ECAM_GPA);
	/* Only the buses there are: a kernel looks for devices on each, 64 port accesses a bus. */
	assert_int_equal(mcfg[54], 0);
	assert_int_equal(mcfg[55], LAYOUT_PCI_BUSES - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_fixed_table, setup, teardown),
		cmocka_unit_test_setup_teardown(test_processors, setup, teardown),
		cmocka_unit_test_setup_teardown(test_optional_tables, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
