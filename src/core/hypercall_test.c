// SPDX-License-Identifier: MIT
/* What is the same for all calls: the control word, addresses, privileges, register forms. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "core/core_test.h"
#include "core/fail.h"
#include "hvdef/vp_regs.h"

#define IN_GPA	0x10000ull
#define OUT_GPA 0x20000ull
#define RIP	0xFFFF800000001004ull

static struct core_test ct;
static struct vp *vp;

static void create(const struct core_test_config *cfg)
{
	core_test_create(&ct, cfg);
	vp = ct.vp[0];
}

static int setup(void **state)
{
	create(&(struct core_test_config){ 0 });
	return 0;
}

static int setup_nested(void **state)
{
	create(&(struct core_test_config){ .nested = true });
	return 0;
}

static int teardown(void **state)
{
	core_test_destroy(&ct);
	return 0;
}

static u64 call(u64 control, u64 in, u64 out)
{
	const struct hypercall_regs regs = { control, in, out, true };
	u64 result = ~0ull;

	assert_int_equal(hypercall_execute(vp, &regs, &result), VP_OK);
	return result;
}

static u16 status(u64 control, u64 in, u64 out)
{
	return (u16)call(control, in, out);
}

static u64 reps(u32 start, u32 count)
{
	return (u64)start << HV_HYPERCALL_REP_START_SHIFT | (u64)count << 32;
}

/* The least a row accepts in its control word. */
static u64 least(const struct hypercall_desc *d)
{
	return d->code | (hypercall_is_rep(d) ? reps(0, 1) : 0);
}

static u32 in_bytes(const struct hypercall_desc *d)
{
	return d->in_size + d->rep_in;
}

static u32 out_bytes(const struct hypercall_desc *d)
{
	return d->out_size + d->rep_out;
}

#define each_row(d)                                                                                \
	for (u32 row_ = 0; row_ < hypercall_row_count(); row_++)                                   \
		for (const struct hypercall_desc *d = hypercall_row(row_); d; d = NULL)

static void test_reserved_bits_are_refused(void **state)
{
	each_row(d)
		for (u32 bit = 27; bit < 64; bit++)
			if (HV_HYPERCALL_RSVD_MASK & BIT64(bit))
				assert_int_equal(status(least(d) | BIT64(bit), IN_GPA, OUT_GPA),
						 HV_STATUS_INVALID_HYPERCALL_INPUT);
	/* Also before the code is looked at, so that a code cannot be probed with them. */
	assert_int_equal(status(0x1FF | BIT64(27), 0, 0), HV_STATUS_INVALID_HYPERCALL_INPUT);
}

static void test_unknown_codes_are_refused_whatever_else_is_wrong(void **state)
{
	u64 before = vp->unknown_hypercalls;
	u32 unknown = 0;

	for (u32 code = 0; code <= 0xFFFF; code++) {
		if (hypercall_name(code))
			continue;
		assert_int_equal(call(code | HV_HYPERCALL_FAST | reps(3, 1), 1, 1),
				 HV_STATUS_INVALID_HYPERCALL_CODE);
		unknown++;
	}
	assert_int_equal(unknown, 0x10000 - hypercall_row_count());
	assert_int_equal(vp->unknown_hypercalls - before, unknown);
}

static void test_bit_31_is_reserved_without_a_hypervisor_below(void **state)
{
	each_row(d)
		assert_int_equal(status(least(d) | HV_HYPERCALL_NESTED, IN_GPA, OUT_GPA),
				 HV_STATUS_INVALID_HYPERCALL_INPUT);
	assert_int_equal(status(0x1FF | HV_HYPERCALL_NESTED, 0, 0),
			 HV_STATUS_INVALID_HYPERCALL_INPUT);
}

static u64 calls_seen(const struct vp *v)
{
	u64 n = v->unknown_hypercalls;

	for (u32 row = 0; row < hypercall_row_count(); row++)
		n += v->hypercall_counts[row].served + v->hypercall_counts[row].refused;
	return n;
}

static void test_bit_31_leads_to_the_hypervisor_below_and_only_there(void **state)
{
	u64 calls = 0;

	each_row(d) {
		call(least(d) | HV_HYPERCALL_NESTED, IN_GPA, OUT_GPA);
		assert_int_equal(calls_seen(vp->outer), ++calls);
		assert_int_equal(calls_seen(vp), 0);
	}
	assert_int_equal(status(0x1FF | HV_HYPERCALL_NESTED, 0, 0),
			 HV_STATUS_INVALID_HYPERCALL_CODE);
	each_row(d)
		call(least(d), IN_GPA, OUT_GPA);
	assert_int_equal(calls_seen(vp->outer), ++calls);
	assert_int_equal(calls_seen(vp), hypercall_row_count());
	/* Bits reserved for L0 too. */
	assert_int_equal(
		status(HVCALL_GET_PARTITION_ID | HV_HYPERCALL_NESTED | BIT64(30), 0, OUT_GPA),
		HV_STATUS_INVALID_HYPERCALL_INPUT);
}

/* Each row's privileges: those of the partition that is asked, whatever the other may do. */
static void test_each_side_asks_for_privileges_of_its_own(void **state)
{
	for (u32 bit = 0; bit < 64; bit++) {
		teardown(state);
		create(&(struct core_test_config){ .nested = true,
						   .privileges = ~BIT64(bit),
						   .outer_privileges = BIT64(bit) });
		each_row(d) {
			u64 inner = vp->partition->config.privileges;
			u64 outer = vp->outer->partition->config.privileges;
			bool in = status(least(d), 1, 1) == HV_STATUS_ACCESS_DENIED;
			bool out = status(least(d) | HV_HYPERCALL_NESTED, 1, 1) ==
				   HV_STATUS_ACCESS_DENIED;

			if (!in_bytes(d) && !out_bytes(d))
				continue; /* it would be carried out */
			assert_int_equal(in, !hypercall_permitted(d, inner));
			assert_int_equal(out, !hypercall_permitted(d, outer));
		}
	}
}

static void test_rep_counts_must_fit_the_kind_of_call(void **state)
{
	static const struct {
		u32 start, count;
		bool simple_ok, rep_ok;
	} rows[] = {
		{ 0, 0, true, false },	    { 0, 1, false, true },	    { 1, 0, false, false },
		{ 1, 1, false, false },	    { 2, 1, false, false },	    { 1, 2, false, true },
		{ 0xFFF, 0, false, false }, { 0xFFF, 0xFFF, false, false },
	};

	each_row(d) {
		for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
			u16 got = status(d->code | reps(rows[i].start, rows[i].count), IN_GPA,
					 OUT_GPA);

			if (hypercall_is_rep(d) ? rows[i].rep_ok : rows[i].simple_ok)
				assert_int_not_equal(got, HV_STATUS_INVALID_HYPERCALL_INPUT);
			else
				assert_int_equal(got, HV_STATUS_INVALID_HYPERCALL_INPUT);
		}
	}
}

static void test_a_variable_header_needs_a_call_that_takes_one(void **state)
{
	each_row(d)
		for (u64 qwords = 1; qwords <= 0x3FF; qwords = qwords * 2 + 1)
			if (!d->var_header)
				assert_int_equal(status(least(d) | qwords << 17, IN_GPA, OUT_GPA),
						 HV_STATUS_INVALID_HYPERCALL_INPUT);
}

/* Addresses that cannot be used for @bytes of input or output. */
static u64 bad_gpa(u32 i, u32 bytes)
{
	const u64 bad[] = {
		IN_GPA + 4,
		IN_GPA + 1,
		bytes > 8 ? IN_GPA + PAGE_BYTES - (bytes - 1) / 8 * 8 : IN_GPA + 2, /* crosses */
		TEST_RAM_BYTES,							    /* past RAM */
		TEST_HOLE_GPA,
		BIT64(TEST_PHYSICAL_BITS),
		~7ull,
		~0ull,
	};

	return i < ARRAY_SIZE(bad) ? bad[i] : 0;
}

static void test_addresses_must_be_aligned_inside_a_page_of_memory(void **state)
{
	each_row(d) {
		for (u32 i = 0; bad_gpa(i, 8); i++) {
			if (in_bytes(d))
				assert_int_equal(status(least(d), bad_gpa(i, in_bytes(d)), OUT_GPA),
						 HV_STATUS_INVALID_ALIGNMENT);
			if (out_bytes(d))
				assert_int_equal(status(least(d), IN_GPA, bad_gpa(i, out_bytes(d))),
						 HV_STATUS_INVALID_ALIGNMENT);
		}
		/* Up to the very end of a page, and of RAM. */
		assert_int_not_equal(status(least(d),
					    IN_GPA + PAGE_BYTES - align_up(in_bytes(d), 8),
					    TEST_RAM_BYTES - align_up(out_bytes(d), 8)),
				     HV_STATUS_INVALID_ALIGNMENT);
	}
}

static void test_addresses_of_nothing_are_not_looked_at(void **state)
{
	each_row(d)
		if (!out_bytes(d))
			assert_int_not_equal(status(least(d), IN_GPA, ~0ull),
					     HV_STATUS_INVALID_ALIGNMENT);
	assert_int_equal(status(HVCALL_GET_PARTITION_ID, ~0ull, OUT_GPA), HV_STATUS_SUCCESS);
}

static void test_lists_larger_than_a_page_are_refused(void **state)
{
	each_row(d)
		if (0xFFF * max_u64(d->rep_in, d->rep_out) > PAGE_BYTES)
			assert_int_equal(status(d->code | reps(0, 0xFFF), IN_GPA, OUT_GPA),
					 HV_STATUS_INVALID_ALIGNMENT);
}

static void test_a_denial_comes_before_addresses(void **state)
{
	each_row(d) {
		for (u32 bit = 0; bit < 64; bit++) {
			struct core_test_config cfg = { .privileges = ~BIT64(bit) };
			u16 got;

			if (!(d->privilege & BIT64(bit)))
				continue;
			if (d->of_children)
				cfg.privileges &= ~HV_PRIV_CREATE_PARTITIONS;
			teardown(state);
			create(&cfg);
			assert_int_equal(status(least(d), ~0ull, ~0ull), HV_STATUS_ACCESS_DENIED);
			got = status(least(d) | BIT64(60), ~0ull, ~0ull);
			assert_int_equal(got, HV_STATUS_INVALID_HYPERCALL_INPUT);
			assert_int_equal(vp->hypercall_counts[row_].refused, 2);
			assert_int_equal(vp->hypercall_counts[row_].served, 0);
		}
	}
}

static void test_the_guest_role_may_call_what_its_mask_says(void **state)
{
	teardown(state);
	create(&(struct core_test_config){ .privileges = TEST_GUEST_PRIVILEGES,
					   .features = TEST_FEATURES });
	memset(ct.ram + IN_GPA, 0xFF, sizeof(u64)); /* HV_PARTITION_ID_SELF where one is named */
	each_row(d)
		assert_int_equal(status(least(d), IN_GPA, OUT_GPA) == HV_STATUS_ACCESS_DENIED,
				 !hypercall_permitted(d, TEST_GUEST_PRIVILEGES));
}

/* Fast forms. */

#define NAMES_FAST 3 /* HvCallGetVpIndexFromApicId: 16 bytes of header, 4 per element */

static void xmm_input(const void *bytes, u32 len)
{
	memset(fake_vcpu(ct.vcpu[0])->xmm, 0xEE, sizeof(fake_vcpu(ct.vcpu[0])->xmm));
	memcpy(fake_vcpu(ct.vcpu[0])->xmm, bytes, len);
}

static void test_fast_input_too_large_for_registers_is_refused(void **state)
{
	each_row(d)
		if (in_bytes(d) > HYPERCALL_XMM_FAST_BYTES)
			assert_int_equal(status(least(d) | HV_HYPERCALL_FAST, 0, 0),
					 HV_STATUS_INVALID_HYPERCALL_INPUT);
	/* 16 + 24 * 4 bytes of input are 112, and leave no room for output. */
	assert_int_equal(status(HVCALL_GET_VP_INDEX_FROM_APIC_ID | HV_HYPERCALL_FAST | reps(0, 24),
				HV_PARTITION_ID_SELF, 0),
			 HV_STATUS_INVALID_HYPERCALL_INPUT);
	/* 24 bytes of header and 88 of banks fill the registers; 96 do not fit. */
	assert_int_equal(status(HVCALL_SEND_IPI_EX | HV_HYPERCALL_FAST | 12ull << 17, 0x40, 0),
			 HV_STATUS_INVALID_HYPERCALL_INPUT);
}

static void test_register_forms_that_are_not_offered_do_not_exist(void **state)
{
	static const struct {
		u32 features;
		u64 control;
		bool long_mode;
		enum vp_fault fault;
	} rows[] = {
		/* Two registers need no offer. */
		{ 0, HVCALL_SEND_IPI, true, VP_OK },
		{ 0, HVCALL_SEND_IPI_EX, true, VP_FAULT_UD },
		{ HV_FEATURE_XMM_INPUT, HVCALL_SEND_IPI_EX, true, VP_OK },
		{ HV_FEATURE_XMM_INPUT, HVCALL_SEND_IPI_EX, false, VP_OK },
		{ HV_FEATURE_XMM_OUTPUT, HVCALL_SEND_IPI_EX, true, VP_FAULT_UD },
		{ HV_FEATURE_XMM_INPUT, HVCALL_GET_PARTITION_ID, true, VP_FAULT_UD },
		{ HV_FEATURE_XMM_OUTPUT, HVCALL_GET_PARTITION_ID, true, VP_OK },
		{ HV_FEATURE_XMM_OUTPUT, HVCALL_GET_PARTITION_ID, false, VP_FAULT_UD },
	};

	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		struct core_test_config cfg = { .features = rows[i].features | CORE_TEST_NONE };
		struct hypercall_regs regs = { rows[i].control | HV_HYPERCALL_FAST, 0x40, 0,
					       rows[i].long_mode };
		u64 result;

		teardown(state);
		create(&cfg);
		assert_int_equal(hypercall_execute(vp, &regs, &result), rows[i].fault);
	}
}

static void test_xmm_input_follows_the_two_registers(void **state)
{
	const u32 ids[6] = { 0, 0, 0, 0, 0, 99 };
	u64 control = HVCALL_GET_VP_INDEX_FROM_APIC_ID | HV_HYPERCALL_FAST;

	/* The sixth id is in the second XMM register; it alone is wrong. */
	xmm_input(ids, sizeof(ids));
	assert_int_equal(call(control | reps(0, 6), HV_PARTITION_ID_SELF, 0),
			 HV_HYPERCALL_RESULT(HV_STATUS_INVALID_PARAMETER, 5));
}

/* 16 bytes of header and 12 of ids are 28: output begins at byte 32, which is XMM1. */
static void test_fast_output_begins_at_the_next_register(void **state)
{
	static const u32 ids[NAMES_FAST] = { 2, 0, 4 };
	u32 out[NAMES_FAST];
	u8(*xmm)[16];

	teardown(state);
	create(&(struct core_test_config){ .vps = 3 });
	xmm = fake_vcpu(ct.vcpu[0])->xmm;
	xmm_input(ids, sizeof(ids));
	ct.vcpu[0]->regs->rdx = HV_PARTITION_ID_SELF;
	ct.vcpu[0]->regs->r8 = 0;
	assert_int_equal(
		call(HVCALL_GET_VP_INDEX_FROM_APIC_ID | HV_HYPERCALL_FAST | reps(0, NAMES_FAST),
		     HV_PARTITION_ID_SELF, 0),
		HV_HYPERCALL_RESULT(HV_STATUS_SUCCESS, NAMES_FAST));
	memcpy(out, xmm[1], sizeof(out));
	for (u32 i = 0; i < NAMES_FAST; i++)
		assert_int_equal(out[i], ids[i] / 2);
	assert_int_equal(xmm[1][12], 0xEE); /* no byte more */
	assert_int_equal(xmm[0][12], 0xEE); /* and the input unchanged */
	assert_memory_equal(xmm[0], ids, sizeof(ids));
	assert_int_equal(ct.vcpu[0]->regs->rdx, HV_PARTITION_ID_SELF);
}

static void test_fast_output_without_input_begins_in_rdx(void **state)
{
	assert_int_equal(call(HVCALL_GET_PARTITION_ID | HV_HYPERCALL_FAST, 0, 0), 0);
	assert_int_equal(ct.vcpu[0]->regs->rdx, ct.p->id);
	assert_int_equal(ct.vcpu[0]->regs->r8, 0);
	assert_true(ct.vcpu[0]->regs_dirty);
}

static void test_a_started_fast_list_keeps_what_was_done_before(void **state)
{
	static const u32 ids[NAMES_FAST] = { 77, 78, 0 };
	u32 out[NAMES_FAST];
	u8(*xmm)[16] = fake_vcpu(ct.vcpu[0])->xmm;

	xmm_input(ids, sizeof(ids));
	assert_int_equal(
		call(HVCALL_GET_VP_INDEX_FROM_APIC_ID | HV_HYPERCALL_FAST | reps(2, NAMES_FAST),
		     HV_PARTITION_ID_SELF, 0),
		HV_HYPERCALL_RESULT(HV_STATUS_SUCCESS, NAMES_FAST));
	memcpy(out, xmm[1], sizeof(out));
	assert_int_equal(out[0], 0xEEEEEEEE);
	assert_int_equal(out[1], 0xEEEEEEEE);
	assert_int_equal(out[2], 0);
}

/* Rep calls in memory. */

static void test_a_list_is_worked_from_its_start_index(void **state)
{
	struct hv_input_vp_index_from_apic_id *in = (void *)(ct.ram + IN_GPA);
	u32 *ids = (u32 *)(in + 1), *out = (void *)(ct.ram + OUT_GPA);

	in->partition_id = HV_PARTITION_ID_SELF;
	memset(out, 0xEE, 16);
	ids[0] = 50;
	ids[3] = 51;
	assert_int_equal(call(HVCALL_GET_VP_INDEX_FROM_APIC_ID | reps(1, 4), IN_GPA, OUT_GPA),
			 HV_HYPERCALL_RESULT(HV_STATUS_INVALID_PARAMETER, 3));
	assert_int_equal(out[0], 0xEEEEEEEE);
	assert_int_equal(out[1], 0);
	assert_int_equal(out[2], 0);
	assert_int_equal(out[3], 0xEEEEEEEE); /* the failing element is not written */
}

static void test_a_list_may_fill_its_page(void **state)
{
	struct hv_input_vp_index_from_apic_id *in = (void *)(ct.ram + IN_GPA);
	u32 n = (PAGE_BYTES - sizeof(*in)) / sizeof(u32);

	in->partition_id = HV_PARTITION_ID_SELF;
	assert_int_equal(call(HVCALL_GET_VP_INDEX_FROM_APIC_ID | reps(0, n), IN_GPA, OUT_GPA),
			 HV_HYPERCALL_RESULT(HV_STATUS_SUCCESS, n));
	assert_int_equal(status(HVCALL_GET_VP_INDEX_FROM_APIC_ID | reps(0, n + 1), IN_GPA, OUT_GPA),
			 HV_STATUS_INVALID_ALIGNMENT);
}

static void test_input_and_output_may_be_the_same_page(void **state)
{
	struct hv_input_vp_index_from_apic_id *in = (void *)(ct.ram + IN_GPA);

	in->partition_id = HV_PARTITION_ID_SELF;
	assert_int_equal(status(HVCALL_GET_VP_INDEX_FROM_APIC_ID | reps(0, 4), IN_GPA, IN_GPA),
			 HV_STATUS_SUCCESS);
}

/* The exit. */

static void exit_with(u64 rax, u64 rcx, u64 rdx, u64 r8)
{
	struct engine_regs regs = { .rax = rax, .rcx = rcx, .rdx = rdx, .r8 = r8, .rip = RIP };
	struct fake_step step = { .exit = { .kind = ENGINE_EXIT_HYPERCALL },
				  .set_regs = true,
				  .regs = regs };

	fake_push(ct.vcpu[0], &step);
	engine_vcpu_run(ct.vcpu[0]);
	vp_handle_exit(vp);
}

static void page_on(void)
{
	core_test_write(vp, HV_X64_MSR_GUEST_OS_ID, TEST_OS_ID);
	core_test_write(vp, HV_X64_MSR_HYPERCALL, 0x30001);
}

static void test_without_its_page_the_port_is_nothing(void **state)
{
	exit_with(1, HVCALL_GET_PARTITION_ID, 0, OUT_GPA);
	assert_int_equal(ct.vcpu[0]->regs->rax, 0xFFFFFFFF); /* what an empty port reads as */
	assert_int_equal(*(u64 *)(void *)(ct.ram + OUT_GPA), 0);
	assert_int_equal(calls_seen(vp), 0);
	assert_int_equal(fake_count(ct.vm, FAKE_EXCEPTION), 0);
	fake_vcpu(ct.vcpu[0])->mode.cpl = 3;
	exit_with(1, HVCALL_GET_PARTITION_ID, 0, OUT_GPA);
	assert_int_equal(fake_count(ct.vm, FAKE_EXCEPTION), 0);
}

static void test_a_64_bit_caller_gets_its_answer_in_rax(void **state)
{
	page_on();
	exit_with(~0ull, HVCALL_GET_PARTITION_ID, 0, OUT_GPA);
	assert_int_equal(ct.vcpu[0]->regs->rax, 0);
	assert_true(ct.vcpu[0]->regs_dirty && ct.vcpu[0]->rax_only);
	assert_int_equal(*(u64 *)(void *)(ct.ram + OUT_GPA), ct.p->id);
	assert_int_equal(ct.vcpu[0]->regs->rcx, HVCALL_GET_PARTITION_ID);
	exit_with(~0ull, 0x1FF, 0, 0);
	assert_int_equal(ct.vcpu[0]->regs->rax, HV_STATUS_INVALID_HYPERCALL_CODE);
}

/* EDX:EAX control, EBX:ECX input, EDI:ESI output; upper halves are not looked at. */
static void test_a_32_bit_caller_uses_register_pairs(void **state)
{
	struct engine_regs regs = { .rip = RIP };
	struct hv_input_vp_index_from_apic_id *in = (void *)(ct.ram + IN_GPA);
	u64 control = HVCALL_GET_VP_INDEX_FROM_APIC_ID | reps(0, 2), junk = 0xABCDull << 32;
	struct fake_step step;

	page_on();
	in->partition_id = HV_PARTITION_ID_SELF;
	fake_vcpu(ct.vcpu[0])->mode.long_mode = false;
	regs.rax = junk | (u32)control;
	regs.rdx = junk | control >> 32;
	regs.rcx = junk | IN_GPA;
	regs.rsi = junk | OUT_GPA;
	step = (struct fake_step){ { .kind = ENGINE_EXIT_HYPERCALL }, true, regs };
	fake_push(ct.vcpu[0], &step);
	engine_vcpu_run(ct.vcpu[0]);
	vp_handle_exit(vp);
	assert_int_equal((u32)ct.vcpu[0]->regs->rax, HV_STATUS_SUCCESS);
	assert_int_equal((u32)ct.vcpu[0]->regs->rdx, 2); /* reps completed: bit 32 on */
	assert_int_equal(ct.vcpu[0]->regs->rcx, junk | IN_GPA);
}

static void test_illegal_modes_raise_an_exception_at_the_instruction(void **state)
{
	static const struct engine_mode modes[] = {
		{ 3, true, true },
		{ 1, true, true },
		{ 3, true, false },
		{ 0, false, false },
	};

	page_on();
	for (u32 i = 0; i < ARRAY_SIZE(modes); i++) {
		struct fake_record r;

		fake_forget(ct.vm);
		fake_vcpu(ct.vcpu[0])->mode = modes[i];
		exit_with(7, HVCALL_GET_PARTITION_ID, 0, OUT_GPA);
		r = fake_last(ct.vm, FAKE_EXCEPTION);
		assert_int_equal(r.a, RIP);
		assert_int_equal(r.b, 6);
		assert_int_equal((s64)r.c, -1);
		assert_int_equal(ct.vcpu[0]->regs->rax, 7);
		assert_int_equal(calls_seen(vp), 0);
	}
}

static void test_a_form_not_offered_raises_the_same_exception(void **state)
{
	teardown(state);
	create(&(struct core_test_config){ .features = CORE_TEST_NONE });
	page_on();
	exit_with(7, HVCALL_SEND_IPI_EX | HV_HYPERCALL_FAST, 0x40, 0);
	assert_int_equal(fake_last(ct.vm, FAKE_EXCEPTION).a, RIP);
	assert_int_equal(fake_last(ct.vm, FAKE_EXCEPTION).b, 6);
	assert_int_equal(ct.vcpu[0]->regs->rax, 7);
}

/* Calls that fail on purpose. */

static struct fail_rules rules;

static struct fail_rule *to_fail(const char *text)
{
	char why[256];

	rules = (struct fail_rules){ .count = 1 };
	assert_true(fail_parse(text, rules.rule, why, sizeof(why)));
	ct.p->config.fails = &rules;
	if (ct.outer)
		ct.outer->config.fails = &rules;
	return rules.rule;
}

static struct row_count counts_of(const struct vp *v, u16 code)
{
	u32 row = 0;

	while (hypercall_row(row)->code != code)
		row++;
	return v->hypercall_counts[row];
}

static void test_a_call_fails_as_it_was_told(void **state)
{
	struct fail_rule *r = to_fail("GetPartitionId@2=HV_STATUS_NO_DATA");

	assert_int_equal(call(HVCALL_GET_PARTITION_ID, 0, OUT_GPA), 0);
	memset(ct.ram + OUT_GPA, 0xEE, 8);
	assert_int_equal(call(HVCALL_GET_PARTITION_ID, 0, OUT_GPA), HV_STATUS_NO_DATA);
	assert_int_equal(*(u64 *)(void *)(ct.ram + OUT_GPA), 0xEEEEEEEEEEEEEEEE);
	assert_int_equal(call(HVCALL_GET_PARTITION_ID, 0, OUT_GPA), 0);
	assert_int_equal(r->calls, 3);
	assert_int_equal(r->failed, 1);
	assert_int_equal(counts_of(vp, HVCALL_GET_PARTITION_ID).served, 2);
	assert_int_equal(counts_of(vp, HVCALL_GET_PARTITION_ID).refused, 1);
}

/* Each row: the least it accepts, and what is refused anyway does not count. */
static void test_any_call_can_fail_and_then_does_nothing(void **state)
{
	each_row(d) {
		struct fail_rule *r = to_fail(d->name);

		assert_int_equal(call(least(d) | BIT64(60), IN_GPA, OUT_GPA),
				 HV_STATUS_INVALID_HYPERCALL_INPUT);
		assert_int_equal(r->calls, 0);
		assert_int_equal(call(least(d), IN_GPA, OUT_GPA), FAIL_DEFAULT_STATUS);
		assert_int_equal(r->calls, 1);
		assert_int_equal(r->failed, 1);
		assert_int_equal(partition_stop_reason(ct.p), STOP_NONE);
	}
	assert_int_equal(deposit_get(&ct.p->deposit).calls, 0);
}

static void test_elements_before_the_failure_are_done(void **state)
{
	struct hv_input_vp_index_from_apic_id *in = (void *)(ct.ram + IN_GPA);
	u32 *out = (void *)(ct.ram + OUT_GPA);
	struct fail_rule *r = to_fail("GetVpIndexFromApicId+2=0x1234");

	in->partition_id = HV_PARTITION_ID_SELF;
	memset(out, 0xEE, 32);
	assert_int_equal(call(HVCALL_GET_VP_INDEX_FROM_APIC_ID | reps(0, 4), IN_GPA, OUT_GPA),
			 HV_HYPERCALL_RESULT(0x1234, 2));
	assert_int_equal(out[1], 0);
	assert_int_equal(out[2], 0xEEEEEEEE);
	/* From a start index on it is two elements more, */
	assert_int_equal(call(HVCALL_GET_VP_INDEX_FROM_APIC_ID | reps(2, 6), IN_GPA, OUT_GPA),
			 HV_HYPERCALL_RESULT(0x1234, 4));
	assert_int_equal(out[3], 0);
	assert_int_equal(out[4], 0xEEEEEEEE);
	/* and a list of two never gets there. */
	assert_int_equal(call(HVCALL_GET_VP_INDEX_FROM_APIC_ID | reps(0, 2), IN_GPA, OUT_GPA),
			 HV_HYPERCALL_RESULT(HV_STATUS_SUCCESS, 2));
	assert_int_equal(r->calls, 3);
	assert_int_equal(r->failed, 2);
}

static void test_a_failure_of_its_own_comes_first(void **state)
{
	struct hv_input_vp_index_from_apic_id *in = (void *)(ct.ram + IN_GPA);
	struct fail_rule *r = to_fail("GetVpIndexFromApicId+2=0x1234");

	in->partition_id = HV_PARTITION_ID_SELF;
	((u32 *)(in + 1))[1] = 99;
	assert_int_equal(call(HVCALL_GET_VP_INDEX_FROM_APIC_ID | reps(0, 4), IN_GPA, OUT_GPA),
			 HV_HYPERCALL_RESULT(HV_STATUS_INVALID_PARAMETER, 1));
	assert_int_equal(r->calls, 1);
	assert_int_equal(r->failed, 0);
}

/* What --fail is for: the caller has to know which pages are its own. */
static void test_a_deposit_that_fails_half_way_keeps_what_it_took(void **state)
{
	struct hv_input_deposit *in = (void *)(ct.ram + IN_GPA);

	to_fail("DepositMemory@1+3");
	in->partition_id = HV_PARTITION_ID_SELF;
	for (u32 i = 0; i < 5; i++)
		in->gpn[i] = 0x100 + i;
	assert_int_equal(call(HVCALL_DEPOSIT_MEMORY | reps(0, 5), IN_GPA, 0),
			 HV_HYPERCALL_RESULT(FAIL_DEFAULT_STATUS, 3));
	assert_int_equal(deposit_get(&ct.p->deposit).pages, 3);
	for (u32 i = 0; i < 5; i++)
		assert_int_equal(gmem_donated(&ct.gmem, (0x100ull + i) << PAGE_SHIFT) != 0, i < 3);
	assert_int_equal(call(HVCALL_DEPOSIT_MEMORY | reps(3, 5), IN_GPA, 0),
			 HV_HYPERCALL_RESULT(HV_STATUS_SUCCESS, 5));
}

static void test_a_call_fails_at_the_hypervisor_that_serves_it(void **state)
{
	struct fail_rule *r = to_fail("L0:GetPartitionId");
	u64 below = HVCALL_GET_PARTITION_ID | HV_HYPERCALL_NESTED;

	assert_int_equal(call(HVCALL_GET_PARTITION_ID, 0, OUT_GPA), 0);
	assert_int_equal(call(below, 0, OUT_GPA), FAIL_DEFAULT_STATUS);
	assert_int_equal(r->calls, 1);
	r = to_fail("L1:GetPartitionId");
	assert_int_equal(call(HVCALL_GET_PARTITION_ID, 0, OUT_GPA), FAIL_DEFAULT_STATUS);
	assert_int_equal(call(below, 0, OUT_GPA), 0);
	assert_int_equal(r->calls, 1);
	r = to_fail("GetPartitionId");
	assert_int_equal(call(HVCALL_GET_PARTITION_ID, 0, OUT_GPA), FAIL_DEFAULT_STATUS);
	assert_int_equal(call(below, 0, OUT_GPA), FAIL_DEFAULT_STATUS);
	assert_int_equal(r->calls, 2);
}

/* The tables. */

static void test_rows_are_complete_and_unique(void **state)
{
	each_row(d) {
		assert_non_null(d->name);
		assert_non_null(d->handler);
		assert_string_equal(hypercall_name(d->code), d->name);
		for (u32 other = 0; other < row_; other++) {
			assert_int_not_equal(hypercall_row(other)->code, d->code);
			assert_string_not_equal(hypercall_row(other)->name, d->name);
		}
	}
	assert_null(hypercall_name(0));
	assert_null(hypercall_name(~0ull));
}

static void test_sizes_of_rows_fit_a_page(void **state)
{
	each_row(d) {
		assert_true(in_bytes(d) <= PAGE_BYTES && out_bytes(d) <= PAGE_BYTES);
		/* What follows a fixed header is aligned. */
		if (d->rep_in || d->var_header)
			assert_int_equal(d->in_size % 8, 0);
		if (d->rep_out)
			assert_int_equal(d->out_size % 8, 0);
	}
}

#define TEST(f)	       cmocka_unit_test_setup_teardown(f, setup, teardown)
#define TEST_NESTED(f) cmocka_unit_test_setup_teardown(f, setup_nested, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_reserved_bits_are_refused),
		TEST(test_unknown_codes_are_refused_whatever_else_is_wrong),
		TEST(test_bit_31_is_reserved_without_a_hypervisor_below),
		TEST_NESTED(test_bit_31_leads_to_the_hypervisor_below_and_only_there),
		TEST_NESTED(test_each_side_asks_for_privileges_of_its_own),
		TEST(test_rep_counts_must_fit_the_kind_of_call),
		TEST(test_a_variable_header_needs_a_call_that_takes_one),
		TEST(test_addresses_must_be_aligned_inside_a_page_of_memory),
		TEST(test_addresses_of_nothing_are_not_looked_at),
		TEST(test_lists_larger_than_a_page_are_refused),
		TEST(test_a_denial_comes_before_addresses),
		TEST(test_the_guest_role_may_call_what_its_mask_says),
		TEST(test_fast_input_too_large_for_registers_is_refused),
		TEST(test_register_forms_that_are_not_offered_do_not_exist),
		TEST(test_xmm_input_follows_the_two_registers),
		TEST(test_fast_output_begins_at_the_next_register),
		TEST(test_fast_output_without_input_begins_in_rdx),
		TEST(test_a_started_fast_list_keeps_what_was_done_before),
		TEST(test_a_list_is_worked_from_its_start_index),
		TEST(test_a_list_may_fill_its_page),
		TEST(test_input_and_output_may_be_the_same_page),
		TEST(test_without_its_page_the_port_is_nothing),
		TEST(test_a_64_bit_caller_gets_its_answer_in_rax),
		TEST(test_a_32_bit_caller_uses_register_pairs),
		TEST(test_illegal_modes_raise_an_exception_at_the_instruction),
		TEST(test_a_form_not_offered_raises_the_same_exception),
		TEST(test_a_call_fails_as_it_was_told),
		TEST(test_any_call_can_fail_and_then_does_nothing),
		TEST(test_elements_before_the_failure_are_done),
		TEST(test_a_failure_of_its_own_comes_first),
		TEST(test_a_deposit_that_fails_half_way_keeps_what_it_took),
		TEST_NESTED(test_a_call_fails_at_the_hypervisor_that_serves_it),
		TEST(test_rows_are_complete_and_unique),
		TEST(test_sizes_of_rows_fit_a_page),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
