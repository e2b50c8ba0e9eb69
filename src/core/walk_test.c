// SPDX-License-Identifier: MIT
/* Page tables of every mode, made by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/child_test.h"
#include "core/walk.h"

#define TABLES 0x100000ull /* the root's; one page for each level, downwards */
#define PG     BIT64(31)
#define WP     BIT64(16)
#define PSE    BIT64(4)
#define PAE    BIT64(5)
#define LA57   BIT64(12)
#define SMEP   BIT64(20)
#define SMAP   BIT64(21)
#define LMA    (BIT64(10) | BIT64(8))
#define NXE    BIT64(11)
#define NX     BIT64(63)
#define P      BIT64(0)
#define W      BIT64(1)
#define U      BIT64(2)
#define PS     BIT64(7)
#define ALL    (P | W | U)

#define RD HV_TRANSLATE_READ
#define WR HV_TRANSLATE_WRITE
#define EX HV_TRANSLATE_EXECUTE
#define AC BIT64(18)

#define IN_GPA	0x10000ull
#define OUT_GPA 0x20000ull

enum kind { NONE, K32, KPAE, K4, K5 };

struct row {
	const char *what;
	enum kind kind;
	u64 cr, efer; /* CR0.WP and bits of CR4; EFER's beside the mode's */
	u64 gva;
	u64 entry[5]; /* from the root; the last one is the leaf's, 0 ends */
	u64 flags;
	u8 cpl;
	u64 rflags;
	enum hv_translate_result want;
	u64 gpa;
};

static struct core_test ct;

static int setup(void **state)
{
	const struct core_test_config cfg = { 0 };

	core_test_create(&ct, &cfg);
	child_test_begin(&ct);
	return 0;
}

static int teardown(void **state)
{
	child_test_end(&ct);
	core_test_destroy(&ct);
	return 0;
}

static struct fake_vcpu *cpu(void)
{
	return fake_vcpu(ct.vcpu[0]);
}

static void enter(const struct row *r)
{
	static const u64 cr4[] = { 0, 0, PAE, PAE, PAE | LA57 };
	struct engine_sregs *s = &cpu()->sregs;

	*s = (struct engine_sregs){ .cr0 = 1 | (r->kind == NONE ? 0 : PG) | (r->cr & WP),
				    .cr4 = cr4[r->kind] | (r->cr & ~WP),
				    .efer = (r->kind >= K4 ? LMA : 0) | r->efer,
				    .cr3 = TABLES };
	s->ss.attributes = (u16)(0x93 | r->cpl << 5);
	cpu()->regs.rflags = r->rflags;
}

/* Entries that are no leaf get the next page as their address. */
static u64 build(const struct row *r)
{
	static const u32 levels[] = { 0, 2, 3, 4, 5 };
	u32 bytes = r->kind == K32 ? 4 : 8, bits = r->kind == K32 ? 10 : 9;
	u64 at = 0;

	memset(ct.ram + TABLES, 0, 5 * PAGE_BYTES);
	for (u32 i = 0; i < levels[r->kind] && r->entry[i]; i++) {
		u32 level = levels[r->kind] - 1 - i;
		bool last = level == 0 || !r->entry[i + 1];
		u64 index = r->gva >> (PAGE_SHIFT + level * bits) & (BIT64(bits) - 1);
		u64 value = r->entry[i] | (last ? 0 : TABLES + (i + 1) * PAGE_BYTES);

		at = TABLES + i * PAGE_BYTES + index * bytes;
		memcpy(ct.ram + at, &value, bytes);
	}
	return at;
}

static const struct row rows[] = {
	{ "no paging", NONE, 0, 0, 0x123456789, { 0 }, RD | WR | EX, 0, 0, 0, 0x23456789 },

	{ "32-bit", K32, 0, 0, 0xC0123456, { ALL, 0x5000 | ALL }, RD | WR, 3, 0, 0, 0x5456 },
	{ "32-bit high half",
	  K32,
	  0,
	  0,
	  0xFFFFF00000123456,
	  { ALL, 0x5000 | ALL },
	  RD,
	  0,
	  0,
	  0,
	  0x5456 },
	{ "4 MiB", K32, PSE, 0, 0xC0123456, { 0x400000 | ALL | PS }, RD, 3, 0, 0, 0x523456 },
	{ "4 MiB above 4 GiB",
	  K32,
	  PSE,
	  0,
	  0xC0123456,
	  { 0x400000 | 3ull << 13 | ALL | PS },
	  RD,
	  0,
	  0,
	  0,
	  0x300523456 },
	{ "4 MiB reserved",
	  K32,
	  PSE,
	  0,
	  0xC0123456,
	  { 0x400000 | BIT64(21) | ALL | PS },
	  RD,
	  0,
	  0,
	  HV_TRANSLATE_INVALID_PAGE_TABLE_FLAGS,
	  0 },
	{ "no PSE: PS is nothing",
	  K32,
	  0,
	  0,
	  0xC0123456,
	  { ALL | PS, 0x5000 | ALL },
	  RD,
	  0,
	  0,
	  0,
	  0x5456 },

	{ "PAE", KPAE, 0, 0, 0xC0123456, { P, ALL, 0x5000 | ALL }, RD | WR, 3, 0, 0, 0x5456 },
	{ "PAE above 4 GiB",
	  KPAE,
	  0,
	  0,
	  0xC0123456,
	  { P, ALL, 0x300005000 | ALL },
	  RD,
	  3,
	  0,
	  0,
	  0x300005456 },
	{ "PAE 2 MiB", KPAE, 0, 0, 0xC0123456, { P, 0x200000 | ALL | PS }, RD, 0, 0, 0, 0x323456 },
	{ "PAE 2 MiB reserved",
	  KPAE,
	  0,
	  0,
	  0xC0123456,
	  { P, 0x202000 | ALL | PS },
	  RD,
	  0,
	  0,
	  HV_TRANSLATE_INVALID_PAGE_TABLE_FLAGS,
	  0 },
	{ "PAE PDPTE reserved",
	  KPAE,
	  0,
	  0,
	  0xC0123456,
	  { P | W, ALL, 0x5000 | ALL },
	  RD,
	  0,
	  0,
	  HV_TRANSLATE_INVALID_PAGE_TABLE_FLAGS,
	  0 },
	{ "PAE NX",
	  KPAE,
	  0,
	  NXE,
	  0xC0123456,
	  { P, ALL, 0x5000 | ALL | NX },
	  EX,
	  0,
	  0,
	  HV_TRANSLATE_PRIVILEGE_VIOLATION,
	  0 },
	{ "PAE not present",
	  KPAE,
	  0,
	  0,
	  0xC0123456,
	  { P, ALL, 0x5000 | W },
	  RD,
	  0,
	  0,
	  HV_TRANSLATE_PAGE_NOT_PRESENT,
	  0 },

	{ "4 levels",
	  K4,
	  0,
	  0,
	  0xFFFF888012345678,
	  { ALL, ALL, ALL, 0x5000 | ALL },
	  RD | WR | EX,
	  3,
	  0,
	  0,
	  0x5678 },
	{ "2 MiB",
	  K4,
	  0,
	  0,
	  0x7FFF12345678,
	  { ALL, ALL, 0x200000 | ALL | PS },
	  RD,
	  0,
	  0,
	  0,
	  0x345678 },
	{ "1 GiB",
	  K4,
	  0,
	  0,
	  0x7FFF12345678,
	  { ALL, 0x40000000 | ALL | PS },
	  RD,
	  0,
	  0,
	  0,
	  0x52345678 },
	{ "2 MiB with PAT",
	  K4,
	  0,
	  0,
	  0x7FFF12345678,
	  { ALL, ALL, 0x201000 | ALL | PS },
	  RD,
	  0,
	  0,
	  0,
	  0x345678 },
	{ "2 MiB reserved",
	  K4,
	  0,
	  0,
	  0x7FFF12345678,
	  { ALL, ALL, 0x202000 | ALL | PS },
	  RD,
	  0,
	  0,
	  HV_TRANSLATE_INVALID_PAGE_TABLE_FLAGS,
	  0 },
	{ "PS in PML4",
	  K4,
	  0,
	  0,
	  0x7FFF12345678,
	  { ALL | PS, ALL, ALL, 0x5000 | ALL },
	  RD,
	  0,
	  0,
	  HV_TRANSLATE_INVALID_PAGE_TABLE_FLAGS,
	  0 },
	{ "beyond the address width",
	  K4,
	  0,
	  0,
	  0x5678,
	  { ALL, ALL, ALL, BIT64(40) | ALL },
	  RD,
	  0,
	  0,
	  HV_TRANSLATE_INVALID_PAGE_TABLE_FLAGS,
	  0 },
	{ "MMIO", K4, 0, 0, 0x5678, { ALL, ALL, ALL, 0xFEE00000 | ALL }, RD, 0, 0, 0, 0xFEE00678 },
	{ "not canonical",
	  K4,
	  0,
	  0,
	  BIT64(47),
	  { ALL, ALL, ALL, 0x5000 | ALL },
	  RD,
	  0,
	  0,
	  HV_TRANSLATE_PAGE_NOT_PRESENT,
	  0 },
	{ "not present",
	  K4,
	  0,
	  0,
	  0x5678,
	  { ALL, ALL, W | U, 0x5000 | ALL },
	  RD,
	  0,
	  0,
	  HV_TRANSLATE_PAGE_NOT_PRESENT,
	  0 },
	{ "a table at nowhere",
	  K4,
	  0,
	  0,
	  0x5678,
	  { ALL, ALL, BIT64(32) | ALL, 0 },
	  RD,
	  0,
	  0,
	  HV_TRANSLATE_GPA_UNMAPPED,
	  0 },

	{ "5 levels",
	  K5,
	  0,
	  0,
	  0xFF11888012345678,
	  { ALL, ALL, ALL, ALL, 0x5000 | ALL },
	  RD,
	  3,
	  0,
	  0,
	  0x5678 },
	{ "5 levels, not canonical",
	  K5,
	  0,
	  0,
	  BIT64(56),
	  { ALL, ALL, ALL, ALL, 0x5000 | ALL },
	  RD,
	  0,
	  0,
	  HV_TRANSLATE_PAGE_NOT_PRESENT,
	  0 },

	{ "user, supervisor page",
	  K4,
	  0,
	  0,
	  0x5678,
	  { ALL, ALL, P | W, 0x5000 | ALL },
	  RD,
	  3,
	  0,
	  HV_TRANSLATE_PRIVILEGE_VIOLATION,
	  0 },
	{ "the same, exempt",
	  K4,
	  0,
	  0,
	  0x5678,
	  { ALL, ALL, P | W, 0x5000 | ALL },
	  RD | HV_TRANSLATE_PRIVILEGE_EXEMPT,
	  3,
	  0,
	  0,
	  0x5678 },
	{ "the same, as supervisor",
	  K4,
	  0,
	  0,
	  0x5678,
	  { ALL, ALL, P | W, 0x5000 | ALL },
	  RD | HV_TRANSLATE_SUPERVISOR,
	  3,
	  0,
	  0,
	  0x5678 },
	{ "supervisor as user",
	  K4,
	  0,
	  0,
	  0x5678,
	  { ALL, ALL, P | W, 0x5000 | ALL },
	  RD | HV_TRANSLATE_USER,
	  0,
	  0,
	  HV_TRANSLATE_PRIVILEGE_VIOLATION,
	  0 },
	{ "no right asked for", K4, 0, 0, 0x5678, { P, P, P, 0x5000 | P }, 0, 3, 0, 0, 0x5678 },
	{ "write, read-only",
	  K4,
	  WP,
	  0,
	  0x5678,
	  { ALL, ALL, P | U, 0x5000 | ALL },
	  WR,
	  0,
	  0,
	  HV_TRANSLATE_PRIVILEGE_VIOLATION,
	  0 },
	{ "write without WP",
	  K4,
	  0,
	  0,
	  0x5678,
	  { ALL, ALL, P | U, 0x5000 | ALL },
	  WR,
	  0,
	  0,
	  0,
	  0x5678 },
	{ "a user's without WP",
	  K4,
	  0,
	  0,
	  0x5678,
	  { ALL, ALL, P | U, 0x5000 | ALL },
	  WR,
	  3,
	  0,
	  HV_TRANSLATE_PRIVILEGE_VIOLATION,
	  0 },
	{ "NX",
	  K4,
	  0,
	  NXE,
	  0x5678,
	  { ALL, ALL | NX, ALL, 0x5000 | ALL },
	  EX,
	  0,
	  0,
	  HV_TRANSLATE_PRIVILEGE_VIOLATION,
	  0 },
	{ "NX, read",
	  K4,
	  0,
	  NXE,
	  0x5678,
	  { ALL, ALL | NX, ALL, 0x5000 | ALL },
	  RD,
	  0,
	  0,
	  0,
	  0x5678 },
	{ "NX without NXE",
	  K4,
	  0,
	  0,
	  0x5678,
	  { ALL, ALL | NX, ALL, 0x5000 | ALL },
	  RD,
	  0,
	  0,
	  HV_TRANSLATE_INVALID_PAGE_TABLE_FLAGS,
	  0 },
	{ "SMEP",
	  K4,
	  SMEP,
	  0,
	  0x5678,
	  { ALL, ALL, ALL, 0x5000 | ALL },
	  EX,
	  0,
	  0,
	  HV_TRANSLATE_PRIVILEGE_VIOLATION,
	  0 },
	{ "SMEP, a user",
	  K4,
	  SMEP,
	  0,
	  0x5678,
	  { ALL, ALL, ALL, 0x5000 | ALL },
	  EX,
	  3,
	  0,
	  0,
	  0x5678 },
	{ "SMAP",
	  K4,
	  SMAP,
	  0,
	  0x5678,
	  { ALL, ALL, ALL, 0x5000 | ALL },
	  RD,
	  0,
	  0,
	  HV_TRANSLATE_PRIVILEGE_VIOLATION,
	  0 },
	{ "SMAP with AC",
	  K4,
	  SMAP,
	  0,
	  0x5678,
	  { ALL, ALL, ALL, 0x5000 | ALL },
	  RD,
	  0,
	  AC,
	  0,
	  0x5678 },
	{ "SMAP overridden",
	  K4,
	  SMAP,
	  0,
	  0x5678,
	  { ALL, ALL, ALL, 0x5000 | ALL },
	  RD | HV_TRANSLATE_OVERRIDE_SMAP,
	  0,
	  0,
	  0,
	  0x5678 },
	{ "SMAP enforced",
	  K4,
	  SMAP,
	  0,
	  0x5678,
	  { ALL, ALL, ALL, 0x5000 | ALL },
	  RD | HV_TRANSLATE_ENFORCE_SMAP,
	  0,
	  AC,
	  HV_TRANSLATE_PRIVILEGE_VIOLATION,
	  0 },
	{ "SMAP, a supervisor's page",
	  K4,
	  SMAP,
	  0,
	  0x5678,
	  { ALL, ALL, ALL, 0x5000 | P | W },
	  RD,
	  0,
	  0,
	  0,
	  0x5678 },
};

static void test_each_mode_and_right(void **state)
{
	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct row *r = &rows[i];
		enum hv_translate_result got;
		u64 gpa = 0;

		enter(r);
		build(r);
		got = walk(ct.vp[0], r->gva, r->flags, &gpa);
		if (got != r->want || (got == HV_TRANSLATE_SUCCESS && gpa != r->gpa))
			fail_msg("%s: result %u, GPA 0x%llx", r->what, got,
				 (unsigned long long)gpa);
	}
}

static const struct row plain = {
	"plain", K4, 0, 0, 0x7FFF12345678, { ALL, ALL, ALL, 0x5000 | ALL }
};

static u64 bits_after(u64 flags)
{
	u64 at = build(&plain), entry, gpa;

	assert_int_equal(walk(ct.vp[0], plain.gva, flags, &gpa), HV_TRANSLATE_SUCCESS);
	memcpy(&entry, ct.ram + at, sizeof(entry));
	return entry & 0xFFF & ~ALL;
}

static void test_table_bits_are_set_only_when_asked(void **state)
{
	enter(&plain);
	assert_int_equal(bits_after(RD | WR), 0);
	assert_int_equal(bits_after(RD | HV_TRANSLATE_SET_TABLE_BITS), BIT(5));
	assert_int_equal(bits_after(WR | HV_TRANSLATE_SET_TABLE_BITS), BIT(5) | BIT(6));
	assert_int_equal(*(u64 *)(void *)(ct.ram + TABLES + (plain.gva >> 39) * 8) & 0x60, BIT(5));
	/* Not through a map that forbids it. */
	child_test.access[(TABLES + 3 * PAGE_BYTES) / PAGE_BYTES] = GPA_READ_ONLY;
	assert_int_equal(bits_after(WR | HV_TRANSLATE_SET_TABLE_BITS), 0);
}

static void test_reading_stops_at_the_first_page_that_cannot_be(void **state)
{
	struct row r = plain;
	u8 out[32];

	enter(&r);
	r.gva = 0x7FFF12345FF8;
	build(&r);
	memset(ct.ram + 0x5000, 0xAB, PAGE_BYTES);
	assert_int_equal(walk_read(ct.vp[0], r.gva, out, sizeof(out)), 8);
	assert_int_equal(out[7], 0xAB);
	assert_int_equal(walk_read(ct.vp[0], r.gva + 8, out, sizeof(out)), 0);
}

static u64 call(u64 id, u32 vp, u64 flags, u64 page)
{
	const struct hypercall_regs regs = { HVCALL_TRANSLATE_VIRTUAL_ADDRESS, IN_GPA, OUT_GPA,
					     true };
	const struct hv_input_translate_virtual_address in = { id, vp, 0, flags, page };
	u64 result;

	memcpy(ct.ram + IN_GPA, &in, sizeof(in));
	memset(ct.ram + OUT_GPA, 0xCC, 16);
	assert_int_equal(hypercall_execute(ct.vp[0], &regs, &result), VP_OK);
	assert_int_equal(child_test.held, 0);
	return result;
}

static const u64 *out(void)
{
	return (const u64 *)(const void *)(ct.ram + OUT_GPA);
}

static void test_the_hypercall(void **state)
{
	struct row r = plain;

	enter(&r);
	build(&r);
	child_test.is_child = true;
	assert_int_equal(call(0x77, 0, RD, r.gva >> 12), HV_STATUS_SUCCESS);
	assert_int_equal(out()[0], (u64)HV_CACHE_WRITE_BACK << 32);
	assert_int_equal(out()[1], 5);
	assert_int_equal(call(0x77, 0, RD, (r.gva >> 12) + 1), HV_STATUS_SUCCESS);
	assert_int_equal(out()[0], HV_TRANSLATE_PAGE_NOT_PRESENT);
	/* What is not memory has an address all the same. */
	r.entry[3] = 0xFE000000 | ALL;
	build(&r);
	assert_int_equal(call(0x77, 0, RD, r.gva >> 12), HV_STATUS_SUCCESS);
	assert_int_equal(out()[0], 0);
	assert_int_equal(out()[1], 0xFE000);

	assert_int_equal(call(0x78, 0, RD, 0), HV_STATUS_INVALID_PARTITION_ID);
	assert_int_equal(call(0x77, 1, RD, 0), HV_STATUS_INVALID_VP_INDEX);
	assert_int_equal(call(0x77, 0, BIT64(11), 0), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(call(0x77, 0, RD, BIT64(52)), HV_STATUS_INVALID_PARAMETER);
	child_test.child.state = CHILD_FINALIZED;
	assert_int_equal(call(0x77, 0, RD, 0), HV_STATUS_INVALID_PARTITION_STATE);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_each_mode_and_right),
		TEST(test_table_bits_are_set_only_when_asked),
		TEST(test_reading_stops_at_the_first_page_that_cannot_be),
		TEST(test_the_hypercall),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
