// SPDX-License-Identifier: MIT
/* The rules every hypercall obeys. TLFS: hypercall-interface. */
#include "payload/payload.h"

#define NOT_A_CODE 0x0FF0
#define SPIN_WAIT  HVCALL_NOTIFY_LONG_SPIN_WAIT /* simple, 8 bytes in, nothing out */
#define REP_CALL   HVCALL_GET_VP_REGISTERS

static u8 buffer[2 * PAGE_BYTES] __attribute__((aligned(PAGE_BYTES)));

static void status(u64 control, u64 input, u64 output, enum hv_status want, const char *rule)
{
	ok_eq(HV_STATUS(hypercall(control, input, output)), want, "%s", rule);
}

static void test_codes_and_reserved_bits(void)
{
	u64 in = (u64)buffer;
	u64 result = hypercall(SPIN_WAIT | HV_HYPERCALL_FAST, 1, 0);

	ok_eq(result, 0, "a fast simple call succeeds, with all of RAX zero");
	status(SPIN_WAIT, in, 0, HV_STATUS_SUCCESS, "the same call with its input in memory");
	status(NOT_A_CODE, in, in, HV_STATUS_INVALID_HYPERCALL_CODE, "unknown code");
	status(NOT_A_CODE | HV_HYPERCALL_FAST, 0, 0, HV_STATUS_INVALID_HYPERCALL_CODE,
	       "unknown code, fast");
	for (u32 bit = 27; bit < 64; bit++) {
		if (!(HV_HYPERCALL_RSVD_MASK & BIT64(bit)))
			continue;
		ok_eq(HV_STATUS(hypercall(SPIN_WAIT | HV_HYPERCALL_FAST | BIT64(bit), 1, 0)),
		      HV_STATUS_INVALID_HYPERCALL_INPUT, "reserved bit %u set", bit);
	}
	if (cpuid(HV_CPUID_RECOMMENDATIONS, 0).eax & HV_HINT_NESTED)
		skip("a nested root", "bit 31 is refused");
	else
		status(SPIN_WAIT | HV_HYPERCALL_FAST | HV_HYPERCALL_NESTED, 1, 0,
		       HV_STATUS_INVALID_HYPERCALL_INPUT, "bit 31 is refused");
}

static void test_shape(void)
{
	u64 in = (u64)buffer, out = (u64)buffer + 2048;
	const u64 fast = SPIN_WAIT | HV_HYPERCALL_FAST;

	status(fast | HV_REP(1, 0), 1, 0, HV_STATUS_INVALID_HYPERCALL_INPUT,
	       "simple call with a rep count");
	status(fast | HV_REP(0, 1), 1, 0, HV_STATUS_INVALID_HYPERCALL_INPUT,
	       "simple call with a rep start index");
	status(fast | HV_VARHEAD(1), 1, 0, HV_STATUS_INVALID_HYPERCALL_INPUT,
	       "call without a variable header, given one");
	status(REP_CALL, in, out, HV_STATUS_INVALID_HYPERCALL_INPUT, "rep call with count 0");
	status(REP_CALL | HV_REP(2, 2), in, out, HV_STATUS_INVALID_HYPERCALL_INPUT,
	       "rep call that starts at its count");
	status(REP_CALL | HV_REP(2, 3), in, out, HV_STATUS_INVALID_HYPERCALL_INPUT,
	       "rep call that starts beyond its count");
	status(HVCALL_POST_MESSAGE | HV_HYPERCALL_FAST, 0, 0, HV_STATUS_INVALID_HYPERCALL_INPUT,
	       "fast call whose input does not fit into registers");
}

static void test_addresses(void)
{
	u64 in = (u64)buffer;

	status(SPIN_WAIT, in + 4, 0, HV_STATUS_INVALID_ALIGNMENT, "input not on 8 bytes");
	status(SPIN_WAIT, in + 1, 0, HV_STATUS_INVALID_ALIGNMENT, "input not on 8 bytes by one");
	status(HVCALL_POST_MESSAGE, in + PAGE_BYTES - 8, 0, HV_STATUS_INVALID_ALIGNMENT,
	       "input that crosses a page");
	status(SPIN_WAIT, in + PAGE_BYTES - 8, 0, HV_STATUS_SUCCESS,
	       "input that ends with its page");
	status(SPIN_WAIT, ram_end() + 16 * MIB, 0, HV_STATUS_INVALID_ALIGNMENT,
	       "input outside the GPA space");
	status(SPIN_WAIT, BIT64(60), 0, HV_STATUS_INVALID_ALIGNMENT, "input at 2^60");
	status(SPIN_WAIT, ~7ull, 0, HV_STATUS_INVALID_ALIGNMENT, "input at the end of all");
	status(SPIN_WAIT, in, 3, HV_STATUS_SUCCESS, "an output address nobody needs is ignored");
}

static void test_rep_output(void)
{
	struct hv_input_vp_registers *in = (void *)buffer;
	u32 *names = (u32 *)(in + 1);
	u64 out = (u64)buffer + PAGE_BYTES;

	memset(buffer, 0, sizeof(buffer));
	in->partition_id = HV_PARTITION_ID_SELF;
	in->vp_index = HV_VP_INDEX_SELF;
	names[0] = 0x00020000; /* RAX */
	if (!hv_has(HV_PRIV_ACCESS_VP_REGS)) {
		skip("no AccessVpRegisters", "output outside the page");
		return;
	}
	status(REP_CALL | HV_REP(1, 0), (u64)in, out + 4, HV_STATUS_INVALID_ALIGNMENT,
	       "output not on 8 bytes");
	status(REP_CALL | HV_REP(2, 0), (u64)in, out + PAGE_BYTES - 16, HV_STATUS_INVALID_ALIGNMENT,
	       "output that crosses a page");
}

static void test_registers_survive(void)
{
	struct hv_call c = { .control = SPIN_WAIT | HV_HYPERCALL_FAST,
			     .input = 1,
			     .page = (u64)hv_page };
	struct hv_call before;

	for (u32 i = 0; i < sizeof(c.xmm); i++)
		((u8 *)c.xmm)[i] = (u8)(i + 1);
	before = c;
	hv_call_64(&c);
	ok_eq(c.survivors, HV_SURVIVORS, "RBX, RBP, RSI, RDI, R12 to R15 survive");
	ok(!memcmp(c.xmm, before.xmm, sizeof(c.xmm)), "XMM0 to XMM5 survive");
	ok(c.input == 1 && c.output == 0, "RDX and R8 survive a call without output");
}

/* 32-bit: control EDX:EAX, input EBX:ECX, output EDI:ESI, result EDX:EAX. */
static void test_32_bit(void)
{
	struct hv_call c = { .control = SPIN_WAIT | HV_HYPERCALL_FAST,
			     .input = 1,
			     .page = (u64)hv_page };

	hv_call_32(&c);
	ok_eq(c.result, 0, "32-bit code: fast call");
	c.control = SPIN_WAIT;
	c.input = (u64)buffer;
	hv_call_32(&c);
	ok_eq(c.result, 0, "32-bit code: input in memory");
	c.control = NOT_A_CODE;
	hv_call_32(&c);
	ok_eq(HV_STATUS(c.result), HV_STATUS_INVALID_HYPERCALL_CODE, "32-bit code: unknown code");
	c.control = SPIN_WAIT | HV_HYPERCALL_FAST | BIT64(60);
	hv_call_32(&c);
	ok_eq(HV_STATUS(c.result), HV_STATUS_INVALID_HYPERCALL_INPUT,
	      "32-bit code: reserved bit in EDX");
}

static void user_call(void *arg)
{
	hv_call_64(arg);
}

static void test_ring_3(void)
{
	struct hv_call c = { .control = SPIN_WAIT | HV_HYPERCALL_FAST,
			     .input = 1,
			     .page = (u64)hv_page,
			     .result = ~0ull };
	struct trap t = { 0 };

	ok(trap_catch_user(user_call, &c, 3, &t) && t.vector == TRAP_UD,
	   "ring 3 with I/O privilege: #UD (vector %u)", t.vector);
	ok(t.rip - (u64)hv_page < PAGE_BYTES, "... and RIP is in the page, at the instruction");
	/* The instruction in our page is an IN: without I/O privilege the processor is first. */
	ok(trap_catch_user(user_call, &c, 0, &t),
	   "ring 3 without I/O privilege: faults (vector %u)", t.vector);
	ok_eq(c.result, ~0ull, "no call was made");
}

static void test_os_id_gates_the_page(void)
{
	u64 page = (u64)hv_page | HV_MSR_PAGE_ENABLE;

	wrmsr(HV_X64_MSR_GUEST_OS_ID, 0);
	ok(!(rdmsr(HV_X64_MSR_HYPERCALL) & HV_MSR_PAGE_ENABLE),
	   "GUEST_OS_ID = 0 disables the page");
	ok(hv_page[0] == 0, "... and the memory under it is back");
	wrmsr(HV_X64_MSR_HYPERCALL, page);
	ok(!(rdmsr(HV_X64_MSR_HYPERCALL) & HV_MSR_PAGE_ENABLE),
	   "without GUEST_OS_ID it cannot be enabled");
	wrmsr(HV_X64_MSR_GUEST_OS_ID, HV_TEST_OS_ID);
	ok_eq(rdmsr(HV_X64_MSR_GUEST_OS_ID), HV_TEST_OS_ID, "GUEST_OS_ID reads back");
	wrmsr(HV_X64_MSR_HYPERCALL, page);
	ok_eq(rdmsr(HV_X64_MSR_HYPERCALL), page, "with it, it can");
	status(SPIN_WAIT | HV_HYPERCALL_FAST, 1, 0, HV_STATUS_SUCCESS, "and calls work again");
}

void test_main(void)
{
	hv_setup();
	test_codes_and_reserved_bits();
	test_shape();
	test_addresses();
	test_rep_output();
	test_registers_survive();
	test_32_bit();
	test_ring_3();
	test_os_id_gates_the_page();
}
