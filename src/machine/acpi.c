// SPDX-License-Identifier: MIT
/*
 * Tables are built one after the other in a buffer that mirrors the area at
 * LAYOUT_TABLES and is copied out as a whole. AML comes from iasl (*.asl).
 */
#include "machine/acpi.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dev/pm.h"
#include "machine/layout.h"

#include "machine/dsdt.hex"
#include "machine/ssdt_pci.hex"
#include "machine/ssdt_vmbus.hex"

#define AREA_BYTES (LAYOUT_RESET_STUB - LAYOUT_TABLES)

#define FADT_WBINVD	   BIT(0)
#define FADT_POWER_BUTTON  BIT(4) /* no fixed button: it is a device */
#define FADT_SLEEP_BUTTON  BIT(5)
#define FADT_RESET_REG	   BIT(10)
#define FADT_HW_REDUCED	   BIT(20)
#define BOOT_ARCH_NO_VGA   BIT(2)
#define BOOT_ARCH_NO_ASPM  BIT(4)
#define PROFILE_ENTERPRISE 4

#define MADT_LAPIC   0
#define MADT_IOAPIC  1
#define MADT_X2APIC  9
#define MADT_ENABLED BIT(0)
#define XAPIC_IDS    255 /* ids from here on need an x2APIC entry */

struct acpi_rsdp {
	char signature[8];
	u8 checksum;
	char oem_id[6];
	u8 revision;
	u32 rsdt;
	u32 length;
	u64 xsdt;
	u8 ext_checksum;
	u8 reserved[3];
} __attribute__((packed));
static_assert(sizeof(struct acpi_rsdp) == 36, "ACPI size");

struct acpi_header {
	char signature[4];
	u32 length;
	u8 revision;
	u8 checksum;
	char oem_id[6];
	char oem_table_id[8];
	u32 oem_revision;
	char creator_id[4];
	u32 creator_revision;
} __attribute__((packed));
static_assert(sizeof(struct acpi_header) == 36, "ACPI size");

struct acpi_address {
	u8 space; /* 1: I/O port */
	u8 bit_width;
	u8 bit_offset;
	u8 access_size;
	u64 address;
} __attribute__((packed));

struct acpi_fadt {
	struct acpi_header header;
	u32 facs;
	u32 dsdt;
	u8 reserved0;
	u8 preferred_profile;
	u8 legacy_pm[63]; /* SCI to CENTURY: absent hardware */
	u16 boot_arch;
	u8 reserved1;
	u32 flags;
	struct acpi_address reset_register;
	u8 reset_value;
	u16 arm_boot_arch;
	u8 minor_revision;
	u64 x_facs;
	u64 x_dsdt;
	struct acpi_address legacy_blocks[8];
	struct acpi_address sleep_control;
	struct acpi_address sleep_status;
	char hypervisor_id[8];
} __attribute__((packed));
static_assert(sizeof(struct acpi_fadt) == 276, "ACPI size");
static_assert(offsetof(struct acpi_fadt, boot_arch) == 109, "ACPI offset");
static_assert(offsetof(struct acpi_fadt, x_dsdt) == 140, "ACPI offset");
static_assert(offsetof(struct acpi_fadt, sleep_control) == 244, "ACPI offset");

struct acpi_madt {
	struct acpi_header header;
	u32 lapic_address;
	u32 flags; /* bit 0: a PC/AT 8259 exists */
} __attribute__((packed));

struct acpi_madt_lapic {
	u8 type, length;
	u8 uid, id;
	u32 flags;
} __attribute__((packed));

struct acpi_madt_ioapic {
	u8 type, length;
	u8 id, reserved;
	u32 address;
	u32 gsi_base;
} __attribute__((packed));

struct acpi_madt_x2apic {
	u8 type, length;
	u16 reserved;
	u32 id;
	u32 flags;
	u32 uid;
} __attribute__((packed));

struct acpi_mcfg {
	struct acpi_header header;
	u8 reserved[8];
	u64 base;
	u16 segment;
	u8 first_bus, last_bus;
	u8 reserved1[4];
} __attribute__((packed));
static_assert(sizeof(struct acpi_mcfg) == 60, "ACPI size");

#define MAX_TABLES 8

struct area {
	u8 *bytes;
	u64 used;
	u32 table_count;
	u64 table_gpa[MAX_TABLES]; /* for the XSDT */
};

static u8 checksum(const void *data, u64 len)
{
	const u8 *p = data;
	u8 sum = 0;

	while (len--)
		sum += *p++;
	return (u8)-sum;
}

/* Zeroed room on a 64-byte boundary, or NULL when the area is full. */
static void *area_take(struct area *a, u64 len)
{
	u64 at = align_up(a->used, 64);

	if (at > AREA_BYTES || len > AREA_BYTES - at)
		return NULL;
	a->used = at + len;
	return a->bytes + at;
}

static u64 area_gpa(const struct area *a, const void *p)
{
	return LAYOUT_TABLES + (u64)((const u8 *)p - a->bytes);
}

static void header_init(struct acpi_header *h, const char *signature, u8 revision, u64 len)
{
	memcpy(h->signature, signature, 4);
	h->length = (u32)len;
	h->revision = revision;
	memcpy(h->oem_id, "NESTOR", 6);
	memcpy(h->oem_table_id, "NESTOR  ", 8);
	h->oem_revision = 1;
	memcpy(h->creator_id, "NSTR", 4);
	h->creator_revision = 1;
}

/* A finished table gets its checksum and, if the OS finds it through the XSDT, a row there. */
static void table_done(struct area *a, struct acpi_header *h, bool listed)
{
	h->checksum = 0;
	h->checksum = checksum(h, h->length);
	if (!listed)
		return;
	assert(a->table_count < MAX_TABLES);
	a->table_gpa[a->table_count++] = area_gpa(a, h);
}

static struct acpi_header *aml_add(struct area *a, const void *aml, u64 len, bool listed)
{
	struct acpi_header *h = area_take(a, len);

	if (!h)
		return NULL;
	memcpy(h, aml, len);
	table_done(a, h, listed);
	return h;
}

static struct acpi_address port_register(u16 port)
{
	return (struct acpi_address){ 1, 8, 0, 1, port };
}

static int fadt_add(struct area *a, u64 dsdt_gpa)
{
	struct acpi_fadt *fadt = area_take(a, sizeof(*fadt));

	if (!fadt)
		return -ENOSPC;
	header_init(&fadt->header, "FACP", 6, sizeof(*fadt));
	fadt->minor_revision = 4;
	fadt->dsdt = (u32)dsdt_gpa;
	fadt->x_dsdt = dsdt_gpa;
	fadt->preferred_profile = PROFILE_ENTERPRISE;
	/* No 8042, no VGA; the CMOS clock is there (bit 5 clear). */
	fadt->boot_arch = BOOT_ARCH_NO_VGA | BOOT_ARCH_NO_ASPM;
	fadt->flags = FADT_WBINVD | FADT_POWER_BUTTON | FADT_SLEEP_BUTTON | FADT_RESET_REG |
		      FADT_HW_REDUCED;
	fadt->reset_register = port_register(PM_RESET_PORT);
	fadt->reset_value = PM_RESET_VALUE;
	fadt->sleep_control = port_register(PM_SLEEP_PORT);
	fadt->sleep_status = port_register(PM_SLEEP_PORT + 1);
	memcpy(fadt->hypervisor_id, "MsHyperV", 8);
	table_done(a, &fadt->header, true);
	return 0;
}

static u8 *madt_processor(u8 *at, u32 uid, u32 apic_id)
{
	if (apic_id < XAPIC_IDS && uid < XAPIC_IDS) {
		const struct acpi_madt_lapic e = { MADT_LAPIC, sizeof(e), (u8)uid, (u8)apic_id,
						   MADT_ENABLED };

		memcpy(at, &e, sizeof(e));
		return at + sizeof(e);
	}
	const struct acpi_madt_x2apic e = { MADT_X2APIC, sizeof(e), 0, apic_id, MADT_ENABLED, uid };

	memcpy(at, &e, sizeof(e));
	return at + sizeof(e);
}

static int madt_add(struct area *a, const struct acpi_config *cfg)
{
	const struct acpi_madt_ioapic ioapic = {
		MADT_IOAPIC, sizeof(ioapic), LAYOUT_IOAPIC_ID, 0, (u32)LAYOUT_IOAPIC_GPA, 0
	};
	/* Room for the larger entry; what is not used is given back. */
	u64 most = sizeof(struct acpi_madt) + sizeof(ioapic) +
		   (u64)cfg->vp_count * sizeof(struct acpi_madt_x2apic);
	struct acpi_madt *madt = area_take(a, most);
	u8 *at;

	if (!madt)
		return -ENOSPC;
	at = (u8 *)(madt + 1);
	for (u32 i = 0; i < cfg->vp_count; i++)
		at = madt_processor(at, i, cfg->apic_ids ? cfg->apic_ids[i] : i);
	memcpy(at, &ioapic, sizeof(ioapic));
	at += sizeof(ioapic);
	a->used = (u64)(at - a->bytes);
	header_init(&madt->header, "APIC", 5, (u64)(at - (u8 *)madt));
	madt->lapic_address = (u32)LAYOUT_LAPIC_GPA;
	table_done(a, &madt->header, true);
	return 0;
}

static int mcfg_add(struct area *a)
{
	struct acpi_mcfg *mcfg = area_take(a, sizeof(*mcfg));

	if (!mcfg)
		return -ENOSPC;
	header_init(&mcfg->header, "MCFG", 1, sizeof(*mcfg));
	mcfg->base = LAYOUT_ECAM_GPA;
	mcfg->last_bus = LAYOUT_PCI_BUSES - 1;
	table_done(a, &mcfg->header, true);
	return 0;
}

static int pci_add(struct area *a)
{
	return aml_add(a, ssdt_pci_aml_code, sizeof(ssdt_pci_aml_code), true) ? mcfg_add(a)
									      : -ENOSPC;
}

static int xsdt_add(struct area *a, struct acpi_rsdp *rsdp)
{
	u64 rows = a->table_count * sizeof(u64);
	struct acpi_header *xsdt = area_take(a, sizeof(*xsdt) + rows);

	if (!xsdt)
		return -ENOSPC;
	header_init(xsdt, "XSDT", 1, sizeof(*xsdt) + rows);
	memcpy(xsdt + 1, a->table_gpa, rows);
	table_done(a, xsdt, false);

	memcpy(rsdp->signature, "RSD PTR ", 8);
	memcpy(rsdp->oem_id, "NESTOR", 6);
	rsdp->revision = 2;
	rsdp->length = sizeof(*rsdp);
	rsdp->xsdt = area_gpa(a, xsdt);
	rsdp->checksum = checksum(rsdp, 20);
	rsdp->ext_checksum = checksum(rsdp, sizeof(*rsdp));
	return 0;
}

static int tables_build(struct area *a, const struct acpi_config *cfg)
{
	struct acpi_rsdp *rsdp = area_take(a, sizeof(*rsdp));
	struct acpi_header *dsdt = aml_add(a, dsdt_aml_code, sizeof(dsdt_aml_code), false);
	int ret;

	assert(rsdp && dsdt);
	ret = fadt_add(a, area_gpa(a, dsdt));
	if (!ret)
		ret = madt_add(a, cfg);
	if (!ret && cfg->vmbus &&
	    !aml_add(a, ssdt_vmbus_aml_code, sizeof(ssdt_vmbus_aml_code), true))
		ret = -ENOSPC;
	if (!ret && cfg->pci)
		ret = pci_add(a);
	return ret ? ret : xsdt_add(a, rsdp);
}

int acpi_write(struct gmem *gm, const struct acpi_config *cfg, u64 *rsdp_gpa)
{
	struct area a = { .bytes = calloc(1, AREA_BYTES) };
	int ret;

	if (!a.bytes)
		return -ENOMEM;
	ret = tables_build(&a, cfg);
	if (!ret)
		ret = gmem_write(gm, LAYOUT_TABLES, a.bytes, a.used);
	if (!ret)
		*rsdp_gpa = LAYOUT_TABLES;
	free(a.bytes);
	return ret;
}
