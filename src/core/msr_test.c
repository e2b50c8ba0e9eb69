// SPDX-License-Identifier: MIT
/* Every row against every privilege, from the rows the dispatcher reads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/core_test.h"

static const struct core_test_config everything = { 0 };
static const struct core_test_config nested = { .nested = true };
static const struct core_test_config guest = { .privileges = TEST_GUEST_PRIVILEGES,
					       .features = TEST_FEATURES };

/* A value the row accepts: zero suits all but the vector of a SINT. */
static u64 harmless(const struct msr_desc *d)
{
	return d->base == HV_X64_MSR_SINT0 ? HV_SINT_MASKED : 0;
}

static void expect(struct vp *vp, struct vp *owner, u32 row, u32 index, bool may_read,
		   bool may_write)
{
	const struct msr_desc *d = msr_row(row);
	struct row_count before = owner->msr_counts[row], *now = &owner->msr_counts[row];
	u64 value = 0x55;

	assert_int_equal(msr_read(vp, index, &value), may_read ? VP_OK : VP_FAULT_GP);
	if (!may_read)
		assert_int_equal(value, 0);
	assert_int_equal(msr_write(vp, index, harmless(d)), may_write ? VP_OK : VP_FAULT_GP);
	assert_int_equal(now->served - before.served, may_read + may_write);
	assert_int_equal(now->refused - before.refused, !may_read + !may_write);
}

static void test_each_register_is_served_with_its_privilege(void **state)
{
	struct core_test ct;

	core_test_create(&ct, &everything);
	fake_irq_pending(ct.vcpu[0], true); /* GUEST_IDLE returns at once */
	for (u32 row = 0; row < msr_row_count(); row++) {
		const struct msr_desc *d = msr_row(row);

		for (u32 i = 0; i < d->count; i++)
			expect(ct.vp[0], ct.vp[0], row, d->base + i, d->read, d->write);
	}
	assert_int_equal(ct.vp[0]->unknown_msrs, 0);
	core_test_destroy(&ct);
}

static void test_each_register_faults_without_each_of_its_privileges(void **state)
{
	for (u32 row = 0; row < msr_row_count(); row++) {
		const struct msr_desc *d = msr_row(row);

		for (u32 bit = 0; bit < 64; bit++) {
			struct core_test_config cfg = { .privileges = ~BIT64(bit) };
			bool needed = d->privilege & BIT64(bit);
			struct core_test ct;

			if (!needed && bit % 16) /* any other privilege does not matter: samples */
				continue;
			core_test_create(&ct, &cfg);
			fake_irq_pending(ct.vcpu[0], true);
			expect(ct.vp[0], ct.vp[0], row, d->base, d->read && !needed,
			       d->write && !needed);
			core_test_destroy(&ct);
		}
	}
}

static void test_each_register_faults_without_its_feature(void **state)
{
	struct core_test_config cfg = { .features = CORE_TEST_NONE };
	struct core_test ct;

	core_test_create(&ct, &cfg);
	fake_irq_pending(ct.vcpu[0], true);
	for (u32 row = 0; row < msr_row_count(); row++) {
		const struct msr_desc *d = msr_row(row);

		expect(ct.vp[0], ct.vp[0], row, d->base, d->read && !d->feature,
		       d->write && !d->feature);
	}
	core_test_destroy(&ct);
}

static void test_the_guest_role_has_what_its_mask_says(void **state)
{
	struct core_test ct;

	core_test_create(&ct, &guest);
	fake_irq_pending(ct.vcpu[0], true);
	for (u32 row = 0; row < msr_row_count(); row++) {
		const struct msr_desc *d = msr_row(row);
		bool has =
			!(d->privilege & ~TEST_GUEST_PRIVILEGES) && !(d->feature & ~TEST_FEATURES);

		expect(ct.vp[0], ct.vp[0], row, d->base, d->read && has, d->write && has);
	}
	core_test_destroy(&ct);
}

static void test_nested_numbers_belong_to_the_outer_vp(void **state)
{
	struct core_test ct;

	core_test_create(&ct, &nested);
	for (u32 row = 0; row < msr_row_count(); row++) {
		const struct msr_desc *d = msr_row(row);
		u64 unknown = ct.outer_vp[0]->unknown_msrs + ct.vp[0]->unknown_msrs, value;
		u32 index = d->base + HV_X64_MSR_NESTED_OFFSET;

		if (d->nested) {
			expect(ct.vp[0], ct.outer_vp[0], row, index, d->read, d->write);
			continue;
		}
		assert_int_equal(msr_read(ct.vp[0], index, &value), VP_FAULT_GP);
		assert_int_equal(msr_write(ct.vp[0], index, 0), VP_FAULT_GP);
		assert_int_equal(ct.outer_vp[0]->unknown_msrs + ct.vp[0]->unknown_msrs - unknown,
				 2);
	}
	core_test_destroy(&ct);
}

/* What one partition may do is nothing to the other, for each register and each privilege. */
static void test_each_side_asks_for_privileges_of_its_own(void **state)
{
	for (u32 bit = 0; bit < 64; bit++) {
		const struct core_test_config cfg = { .nested = true,
						      .privileges = ~BIT64(bit),
						      .outer_privileges = BIT64(bit) };
		struct core_test ct;

		core_test_create(&ct, &cfg);
		fake_irq_pending(ct.vcpu[0], true);
		for (u32 row = 0; row < msr_row_count(); row++) {
			const struct msr_desc *d = msr_row(row);
			bool in = !(d->privilege & BIT64(bit));
			bool out = !(d->privilege & ~BIT64(bit));

			for (u32 i = 0; i < d->count; i++) {
				expect(ct.vp[0], ct.vp[0], row, d->base + i, d->read && in,
				       d->write && in);
				if (d->nested)
					expect(ct.vp[0], ct.outer_vp[0], row,
					       d->base + i + HV_X64_MSR_NESTED_OFFSET,
					       d->read && out, d->write && out);
			}
		}
		core_test_destroy(&ct);
	}
}

static void test_nested_numbers_do_not_exist_without_an_outer_vp(void **state)
{
	struct core_test ct;

	core_test_create(&ct, &everything);
	for (u32 row = 0; row < msr_row_count(); row++) {
		const struct msr_desc *d = msr_row(row);
		u64 value;

		for (u32 i = 0; i < d->count; i++) {
			u32 index = d->base + i + HV_X64_MSR_NESTED_OFFSET;

			assert_int_equal(msr_read(ct.vp[0], index, &value), VP_FAULT_GP);
			assert_int_equal(msr_write(ct.vp[0], index, 0), VP_FAULT_GP);
		}
	}
	core_test_destroy(&ct);
}

static void test_both_sides_of_a_nested_root_keep_their_own_values(void **state)
{
	struct core_test ct;

	core_test_create(&ct, &nested);
	core_test_write(ct.vp[0], HV_X64_MSR_SINT0 + 2, 0x33);
	core_test_write(ct.vp[0], HV_X64_MSR_NESTED_SINT0 + 2, 0x44);
	core_test_write(ct.vp[0], HV_X64_MSR_NESTED_SIMP, 0x5000 | HV_MSR_PAGE_ENABLE);
	assert_int_equal(core_test_read(ct.vp[0], HV_X64_MSR_SINT0 + 2), 0x33);
	assert_int_equal(core_test_read(ct.vp[0], HV_X64_MSR_NESTED_SINT0 + 2), 0x44);
	assert_int_equal(core_test_read(ct.outer_vp[0], HV_X64_MSR_SINT0 + 2), 0x44);
	assert_int_equal(core_test_read(ct.vp[0], HV_X64_MSR_SIMP), 0);
	assert_int_equal(core_test_read(ct.vp[0], HV_X64_MSR_NESTED_SIMP), 0x5001);
	core_test_destroy(&ct);
}

static void test_unknown_numbers_fault(void **state)
{
	static const u32 unknown[] = { 0,
				       0x10,
				       0xC0000080,
				       0x3FFFFFFF,
				       0x40000004,
				       0x40000074,
				       0x4000008F,
				       0x400000A0,
				       0x400000B8,
				       0x400000F1,
				       HV_X64_MSR_REENLIGHTENMENT_CONTROL,
				       0x400001FF,
				       0x40000200,
				       0x40000FFF,
				       0x40001000,
				       0x400010FF,
				       0x400011FF,
				       0x40001200,
				       ~0u };
	struct core_test ct;
	u64 value;

	core_test_create(&ct, &nested);
	for (u32 i = 0; i < ARRAY_SIZE(unknown); i++) {
		assert_int_equal(msr_read(ct.vp[0], unknown[i], &value), VP_FAULT_GP);
		assert_int_equal(msr_write(ct.vp[0], unknown[i], 0), VP_FAULT_GP);
		assert_null(msr_name(unknown[i]));
	}
	assert_int_equal(ct.vp[0]->unknown_msrs + ct.outer_vp[0]->unknown_msrs,
			 2 * ARRAY_SIZE(unknown));
	core_test_destroy(&ct);
}

static void test_an_exit_answers_with_a_value_or_a_fault(void **state)
{
	struct core_test ct;
	struct engine_exit *e;

	core_test_create(&ct, &guest);
	e = &ct.vcpu[0]->exit;
	*e = (struct engine_exit){ .kind = ENGINE_EXIT_RDMSR,
				   .msr = { .index = HV_X64_MSR_SVERSION } };
	vp_handle_exit(ct.vp[0]);
	assert_int_equal(e->msr.value, 1);
	assert_false(e->msr.fault);
	e->kind = ENGINE_EXIT_WRMSR;
	vp_handle_exit(ct.vp[0]);
	assert_true(e->msr.fault);
	assert_int_equal(ct.vp[0]->exits[ENGINE_EXIT_WRMSR], 1);
	assert_int_equal(ct.vp[0]->exit_total, 2);
	core_test_destroy(&ct);
}

/* VP registers. */

static void test_the_vp_index_is_the_vps_own(void **state)
{
	struct core_test_config cfg = { .vps = 3, .nested = true };
	struct core_test ct;

	core_test_create(&ct, &cfg);
	for (u32 i = 0; i < 3; i++) {
		assert_int_equal(core_test_read(ct.vp[i], HV_X64_MSR_VP_INDEX), i);
		assert_int_equal(core_test_read(ct.vp[i], HV_X64_MSR_NESTED_VP_INDEX), i);
	}
	core_test_destroy(&ct);
}

static void test_guest_idle_ends_with_an_interrupt_or_by_itself(void **state)
{
	struct core_test ct;

	core_test_create(&ct, &everything);
	assert_int_equal(core_test_read(ct.vp[0], HV_X64_MSR_GUEST_IDLE), 0); /* a bounded wait */
	fake_irq_pending(ct.vcpu[0], true);
	assert_int_equal(core_test_read(ct.vp[0], HV_X64_MSR_GUEST_IDLE), 0);
	fake_irq_pending(ct.vcpu[0], false);
	partition_stop(ct.p, STOP_KILLED, 0, "the test ends it");
	assert_int_equal(core_test_read(ct.vp[0], HV_X64_MSR_GUEST_IDLE), 0);
	core_test_destroy(&ct);
}

static void test_an_assist_page_offers_lazy_eoi_with_the_apics_registers(void **state)
{
	static const struct core_test_config without = { .privileges =
								 ~HV_PRIV_ACCESS_INTR_CTRL_REGS };
	struct core_test ct;
	u32 *field;

	core_test_create(&ct, &everything);
	field = (u32 *)(ct.ram + 0x5000);
	*field = ~0u; /* of the page below, which comes back */
	core_test_write(ct.vp[0], HV_X64_MSR_VP_ASSIST_PAGE, 0x5000 | HV_MSR_PAGE_ENABLE);
	assert_int_equal(fake_last(ct.vm, FAKE_LAZY_EOI).a, 0x5000);
	assert_int_equal(*field, 0);
	/* What is left in it when it goes is not there when it comes. */
	*field = 1;
	core_test_write(ct.vp[0], HV_X64_MSR_VP_ASSIST_PAGE, 0x5000);
	assert_int_equal(fake_last(ct.vm, FAKE_LAZY_EOI).a, ~0ull);
	assert_int_equal(*field, ~0u);
	core_test_write(ct.vp[0], HV_X64_MSR_VP_ASSIST_PAGE, 0x6000 | HV_MSR_PAGE_ENABLE);
	assert_int_equal(fake_last(ct.vm, FAKE_LAZY_EOI).a, 0x6000);
	assert_int_equal(*(u32 *)(ct.ram + 0x6000), 0);
	/* Refused, it stays. */
	assert_int_equal(msr_write(ct.vp[0], HV_X64_MSR_VP_ASSIST_PAGE, ~0ull), VP_FAULT_GP);
	assert_int_equal(fake_count(ct.vm, FAKE_LAZY_EOI), 3);
	vp_reset(ct.vp[0]);
	assert_int_equal(fake_last(ct.vm, FAKE_LAZY_EOI).a, ~0ull);
	core_test_destroy(&ct);

	core_test_create(&ct, &without);
	core_test_write(ct.vp[0], HV_X64_MSR_VP_ASSIST_PAGE, 0x5000 | HV_MSR_PAGE_ENABLE);
	assert_int_equal(fake_count(ct.vm, FAKE_LAZY_EOI), 0);
	core_test_destroy(&ct);
}

/* The tables. */

static void test_names_are_unique_and_name_the_number(void **state)
{
	for (u32 row = 0; row < msr_row_count(); row++) {
		const struct msr_desc *d = msr_row(row);

		for (u32 i = 0; i < d->count; i++) {
			const char *name = msr_name(d->base + i);
			const char *twin = msr_name(d->base + i + HV_X64_MSR_NESTED_OFFSET);

			assert_non_null(name);
			assert_int_equal(!!twin, d->nested);
			if (twin)
				assert_string_equal(twin + strlen("NESTED_"), name);
			for (u32 other = 0; other < row; other++)
				assert_string_not_equal(name, msr_name(msr_row(other)->base));
		}
	}
	assert_string_equal(msr_name(HV_X64_MSR_SINT0 + 2), "SINT2");
	assert_string_equal(msr_name(HV_X64_MSR_STIMER0_COUNT + 2), "STIMER1_COUNT");
	assert_string_equal(msr_name(HV_X64_MSR_NESTED_SIMP), "NESTED_SIMP");
}

static void test_no_register_has_two_rows(void **state)
{
	for (u32 a = 0; a < msr_row_count(); a++) {
		const struct msr_desc *d = msr_row(a);

		assert_int_equal(d->read || d->write, !d->engines);
		assert_true(d->base >= 0x40000000 && d->base + d->count <= 0x40000200);
		for (u32 b = 0; b < a; b++) {
			const struct msr_desc *o = msr_row(b);

			assert_true(d->base >= o->base + o->count || o->base >= d->base + d->count);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_register_is_served_with_its_privilege),
		cmocka_unit_test(test_each_register_faults_without_each_of_its_privileges),
		cmocka_unit_test(test_each_register_faults_without_its_feature),
		cmocka_unit_test(test_the_guest_role_has_what_its_mask_says),
		cmocka_unit_test(test_nested_numbers_belong_to_the_outer_vp),
		cmocka_unit_test(test_each_side_asks_for_privileges_of_its_own),
		cmocka_unit_test(test_nested_numbers_do_not_exist_without_an_outer_vp),
		cmocka_unit_test(test_both_sides_of_a_nested_root_keep_their_own_values),
		cmocka_unit_test(test_unknown_numbers_fault),
		cmocka_unit_test(test_an_exit_answers_with_a_value_or_a_fault),
		cmocka_unit_test(test_an_assist_page_offers_lazy_eoi_with_the_apics_registers),
		cmocka_unit_test(test_the_vp_index_is_the_vps_own),
		cmocka_unit_test(test_guest_idle_ends_with_an_interrupt_or_by_itself),
		cmocka_unit_test(test_names_are_unique_and_name_the_number),
		cmocka_unit_test(test_no_register_has_two_rows),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
