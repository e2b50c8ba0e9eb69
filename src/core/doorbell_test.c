// SPDX-License-Identifier: MIT
/* The page's code runs here, on this processor: its IN and OUT are caught. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "core/core_test.h"
#include "core/doorbell.h"
#include "core/hypercall.h"
#include "core/port.h"

#define PAGE_GPA   0x10000ull
#define CONNECTION 0x10007ull
#define FAST	   (HVCALL_SIGNAL_EVENT | HV_HYPERCALL_FAST)
#define STATUS	   0x1234u /* what the trap answers */

static struct core_test ct;
static struct vp *vp;

static void create(bool nested)
{
	const struct core_test_config cfg = { .nested = nested };

	core_test_create(&ct, &cfg);
	vp = ct.vp[0];
	ct.p->rings_doorbells = true;
	if (nested)
		ct.outer->rings_doorbells = true;
}

static int setup(void **state)
{
	create(false);
	return 0;
}

static int setup_nested(void **state)
{
	create(true);
	return 0;
}

static int teardown(void **state)
{
	core_test_destroy(&ct);
	return 0;
}

static const u8 *page_on(void)
{
	core_test_write(vp, HV_X64_MSR_GUEST_OS_ID, TEST_OS_ID);
	core_test_write(vp, HV_X64_MSR_HYPERCALL, PAGE_GPA | HV_MSR_PAGE_ENABLE);
	return ct.ram + PAGE_GPA;
}

/* What the code did: the last port access but one, and the last. */
static struct access {
	bool write;
	u8 port;
	u32 value;
} done[4];
static u32 accesses;
static bool answered; /* an eventfd stands behind the port */

static void on_fault(int sig, siginfo_t *info, void *context)
{
	greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
	const u8 *code = (const u8 *)r[REG_RIP];
	struct engine_exit exit = { .kind = ENGINE_EXIT_IO, .io.port = code[1], .io.size = 4 };
	struct engine_regs *regs = vp->vcpu->regs;

	if ((code[0] != 0xE5 && code[0] != 0xE7) || accesses == ARRAY_SIZE(done))
		_exit(3);
	done[accesses++] = (struct access){ code[0] == 0xE7, code[1], (u32)r[REG_RAX] };
	exit.io.write = code[0] == 0xE7;
	*regs = (struct engine_regs){ .rax = (u64)r[REG_RAX],
				      .rcx = (u64)r[REG_RCX],
				      .rdx = (u64)r[REG_RDX],
				      .rip = (u64)r[REG_RIP] };
	if (exit.io.write && !answered && doorbell_exit(vp, &exit)) {
		r[REG_RIP] = (greg_t)regs->rip;
		return;
	}
	if (!exit.io.write)
		r[REG_RAX] = STATUS;
	r[REG_RIP] += 2;
}

static u64 call(const u8 *page, u64 control, u64 input)
{
	struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO }, before;
	u8 *code =
		mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	u64 rax = ~0ull, rcx = control, rdx = input, r8 = 0x8888;

	assert_ptr_not_equal(code, MAP_FAILED);
	memcpy(code, page, PAGE_BYTES);
	assert_int_equal(mprotect(code, PAGE_BYTES, PROT_READ | PROT_EXEC), 0);
	accesses = 0;
	assert_int_equal(sigaction(SIGSEGV, &action, &before), 0);
	__asm__ volatile("sub $128, %%rsp\n\tmov %[r8], %%r8\n\tcall *%[code]\n\t"
			 "mov %%r8, %[r8]\n\tadd $128, %%rsp"
			 : "+a"(rax), "+c"(rcx), "+d"(rdx), [r8] "+b"(r8)
			 : [code] "r"(code)
			 : "r8", "cc", "memory");
	sigaction(SIGSEGV, &before, NULL);
	assert_true(rcx == control && rdx == input && r8 == 0x8888);
	munmap(code, PAGE_BYTES);
	return rax;
}

static void trapped(u64 control, u64 input, u32 through)
{
	assert_int_equal(call(page_on(), control, input), STATUS);
	assert_int_equal(accesses, through + 1);
	assert_true(!done[through].write && done[through].port == HYPERCALL_PORT);
}

static void test_a_signal_rings_and_is_a_success(void **state)
{
	answered = true;
	assert_int_equal(call(page_on(), FAST, CONNECTION), HV_STATUS_SUCCESS);
	assert_int_equal(accesses, 1);
	assert_true(done[0].write && done[0].port == DOORBELL_PORT && done[0].value == CONNECTION);
	assert_int_equal(call(page_on(), FAST | HV_HYPERCALL_NESTED, CONNECTION),
			 HV_STATUS_SUCCESS);
	assert_int_equal(accesses, 1);
	assert_true(done[0].write && done[0].port == DOORBELL_PORT + 1 &&
		    done[0].value == CONNECTION);
}

static void test_every_other_call_traps_at_once(void **state)
{
	static const u64 other[][2] = {
		{ FAST, CONNECTION | BIT64(32) }, /* an event flag */
		{ FAST, CONNECTION | BIT64(63) },
		{ FAST | HV_HYPERCALL_NESTED, CONNECTION | BIT64(40) },
		{ HVCALL_SIGNAL_EVENT, CONNECTION }, /* by memory */
		{ FAST | BIT64(32), CONNECTION },    /* a rep count */
		{ FAST | HV_HYPERCALL_NESTED | BIT64(60), CONNECTION },
		{ FAST | 0xFFFFFFFF00000000ull, CONNECTION },
		{ FAST | 0xFFFFFFFF80000000ull, CONNECTION },
		{ FAST | BIT64(17), CONNECTION },
		{ FAST - 1, CONNECTION },
		{ 0, 0 },
		{ ~0ull, ~0ull },
	};

	answered = true;
	for (u32 i = 0; i < ARRAY_SIZE(other); i++)
		trapped(other[i][0], other[i][1], 0);
}

static void test_without_an_eventfd_it_goes_on_to_the_trap(void **state)
{
	answered = false;
	trapped(FAST, CONNECTION, 1);
	assert_true(done[0].write && done[0].port == DOORBELL_PORT);
	trapped(FAST | HV_HYPERCALL_NESTED, CONNECTION, 1);
	assert_true(done[0].write && done[0].port == DOORBELL_PORT + 1);
}

/* Only the page's code is sent on; a guest's own OUT to these ports is not. */
static void test_a_write_of_somebody_elses_is_an_ordinary_one(void **state)
{
	static const struct {
		struct engine_exit exit;
		u64 rax, rcx, rdx;
	} other[] = {
#define IO(p, w, s) { .kind = ENGINE_EXIT_IO, .io = { .port = p, .write = w, .size = s } }
		{ IO(DOORBELL_PORT, true, 4), 1, FAST | HV_HYPERCALL_NESTED, 1 },
		{ IO(DOORBELL_PORT + 1, true, 4), 1, FAST, 1 },
		{ IO(DOORBELL_PORT, true, 4), 1, FAST, 2 },
		{ IO(DOORBELL_PORT, true, 2), 1, FAST, 1 },
		{ IO(DOORBELL_PORT, false, 4), 1, FAST, 1 },
		{ IO(DOORBELL_PORT - 1, true, 4), 1, FAST, 1 },
		{ IO(DOORBELL_PORT + 2, true, 4), 1, FAST, 1 },
		{ { .kind = ENGINE_EXIT_MMIO }, 1, FAST, 1 },
	};
	struct engine_exit ours = IO(DOORBELL_PORT, true, 4);

	vp->vcpu->regs->rip = 0x1000;
	for (u32 i = 0; i < ARRAY_SIZE(other); i++) {
		vp->vcpu->regs->rax = other[i].rax;
		vp->vcpu->regs->rcx = other[i].rcx;
		vp->vcpu->regs->rdx = other[i].rdx;
		assert_false(doorbell_exit(vp, &other[i].exit));
		assert_int_equal(vp->vcpu->regs->rip, 0x1000);
	}
	vp->vcpu->regs->rax = vp->vcpu->regs->rdx = 1;
	vp->vcpu->regs->rcx = FAST;
	assert_true(doorbell_exit(vp, &ours));
	assert_true(vp->vcpu->regs_dirty);
}

/* Every step is to be seen, or a call is to fail: there are no doorbells, and none in the page. */
static void test_a_trace_and_calls_that_fail_see_each_call(void **state)
{
	static const int fds[DOORBELL_WAYS] = { 5, 6 };
	struct fail_rules *rules = (struct fail_rules *)&ct; /* not looked into */

	answered = true;
	for (u32 i = 0; i < 2; i++) {
		fake_forget(ct.vm);
		assert_int_equal(i == 0 ? trace_start("/dev/null") : 0, 0);
		ct.p->config.fails = i == 1 ? rules : NULL;
		trapped(FAST, CONNECTION, 0);
		doorbell_add(ct.p, CONNECTION, fds);
		trace_stop();
		ct.p->config.fails = NULL;
		assert_int_equal(fake_count(ct.vm, FAKE_IOEVENTFD), 0);
		core_test_write(vp, HV_X64_MSR_HYPERCALL, PAGE_GPA);
	}
}

/* The newest but @back of the calls. */
static void expect(u32 back, u64 port, bool add, int fd)
{
	struct fake_vm *vm = fake_vm(ct.vm);
	const struct fake_record *r;
	u32 i = vm->records;

	do
		r = &vm->record[--i % FAKE_RECORDS];
	while (r->call != FAKE_IOEVENTFD || back--);
	assert_int_equal(r->a, port);
	assert_int_equal(r->b, add);
	assert_int_equal(r->c, fd);
}

static void test_a_guests_connection_has_one_doorbell(void **state)
{
	static const int fds[DOORBELL_WAYS] = { 5, 6 };

	doorbell_add(ct.p, CONNECTION, fds);
	assert_int_equal(fake_count(ct.vm, FAKE_IOEVENTFD), 1);
	expect(0, DOORBELL_PORT, true, 5);
	assert_true(fake_vm(ct.vm)->ioeventfd.size == 4 && !fake_vm(ct.vm)->ioeventfd.any_value);
	assert_int_equal(fake_vm(ct.vm)->ioeventfd.match, CONNECTION);
	doorbell_remove(ct.p, CONNECTION, fds);
	assert_int_equal(fake_count(ct.vm, FAKE_IOEVENTFD), 2);
	expect(0, DOORBELL_PORT, false, 5);
	ct.p->config.privileges &= ~HV_PRIV_SIGNAL_EVENTS;
	doorbell_add(ct.p, CONNECTION, fds);
	assert_int_equal(fake_count(ct.vm, FAKE_IOEVENTFD), 2);
}

static u32 signal_row(void)
{
	u32 row = 0;

	while (hypercall_row(row)->code != HVCALL_SIGNAL_EVENT)
		row++;
	return row;
}

/* Without bit 31 the call is L1's, which knows no such connection: unless the quirk forwards it. */
static void test_a_connection_to_l0_is_reached_as_the_calls_would(void **state)
{
	static const int fds[DOORBELL_WAYS] = { 5, 6 };
	struct row_count used;

	doorbell_add(ct.outer, CONNECTION, fds);
	assert_int_equal(fake_count(ct.vm, FAKE_IOEVENTFD), 1);
	expect(0, DOORBELL_PORT + 1, true, 6);
	doorbell_rang(ct.outer, DOORBELL_NESTED, 3);
	ct.p->config.quirks = BIT(QUIRK_FORWARD_SIGNAL);
	doorbell_add(ct.outer, CONNECTION, fds);
	assert_int_equal(fake_count(ct.vm, FAKE_IOEVENTFD), 3);
	expect(1, DOORBELL_PORT, true, 5);
	expect(2, DOORBELL_PORT + 1, true, 6);
	doorbell_rang(ct.outer, DOORBELL_PLAIN, 4);
	assert_int_equal(ct.p->quirk_uses[QUIRK_FORWARD_SIGNAL], 4);
	used = hypercall_row_used(ct.outer, signal_row());
	assert_true(used.served == 3 && used.forwarded == 0);
	used = hypercall_row_used(ct.p, signal_row());
	assert_true(used.served == 4 && used.forwarded == 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_a_signal_rings_and_is_a_success, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_every_other_call_traps_at_once, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_without_an_eventfd_it_goes_on_to_the_trap,
						setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_write_of_somebody_elses_is_an_ordinary_one,
						setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_trace_and_calls_that_fail_see_each_call,
						setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_guests_connection_has_one_doorbell, setup,
						teardown),
		cmocka_unit_test_setup_teardown(
			test_a_connection_to_l0_is_reached_as_the_calls_would, setup_nested,
			teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
