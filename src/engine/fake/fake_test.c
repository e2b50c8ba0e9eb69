// SPDX-License-Identifier: MIT
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>

#include "engine/fake/fake.h"

static struct engine_vm *vm;
static struct engine_vcpu *vcpu;
static _Alignas(PAGE_BYTES) u8 page[2 * PAGE_BYTES];

static int setup(void **state)
{
	struct engine_vm_config cfg = { .max_vcpus = 1 };

	return engine_vm_create(&fake_engine, &cfg, &vm) || fake_ops.vcpu_create(vm, 0, &vcpu);
}

static int teardown(void **state)
{
	fake_ops.vcpu_destroy(vcpu);
	fake_ops.vm_destroy(vm);
	return 0;
}

static void test_exits_come_in_script_order(void **state)
{
	fake_push(vcpu, &(struct fake_step){ .exit = { .kind = ENGINE_EXIT_HALT } });
	fake_push(vcpu,
		  &(struct fake_step){ .exit = { .kind = ENGINE_EXIT_RDMSR, .msr = { .index = 7 } },
				       .set_regs = true,
				       .regs = { .rip = 0x100 } });
	assert_int_equal(engine_vcpu_run(vcpu), 0);
	assert_int_equal(vcpu->exit.kind, ENGINE_EXIT_HALT);
	engine_vcpu_run(vcpu);
	assert_int_equal(vcpu->exit.kind, ENGINE_EXIT_RDMSR);
	assert_int_equal(vcpu->exit.msr.index, 7);
	vcpu->exit.msr.value = 0x1122334455667788;
	fake_ops.vcpu_complete(vcpu);
	fake_ops.vcpu_complete(vcpu);
	assert_int_equal(vcpu->regs->rax, 0x55667788);
	assert_int_equal(vcpu->regs->rdx, 0x11223344);
	assert_int_equal(vcpu->regs->rip, 0x102);
}

static void test_a_kick_ends_an_empty_script(void **state)
{
	engine_vcpu_kick(vcpu);
	assert_int_equal(engine_vcpu_run(vcpu), 0);
	assert_int_equal(vcpu->exit.kind, ENGINE_EXIT_INTR);
}

static void *run_until_kicked(void *arg)
{
	do {
		engine_vcpu_run(vcpu);
		vcpu->exit.msr.fault = true;
	} while (vcpu->exit.kind != ENGINE_EXIT_INTR);
	return NULL;
}

static void test_drain_waits_for_the_answers(void **state)
{
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, run_until_kicked, NULL), 0);
	for (u32 i = 0; i < 100; i++)
		fake_push(vcpu, &(struct fake_step){ .exit = { .kind = ENGINE_EXIT_WRMSR } });
	fake_drain(vcpu);
	assert_int_equal(fake_count(vm, FAKE_EXCEPTION), 100);
	assert_int_equal(fake_last(vm, FAKE_EXCEPTION).b, 13);
	engine_vcpu_kick(vcpu);
	pthread_join(thread, NULL);
}

static void test_slots_do_not_overlap(void **state)
{
	assert_int_equal(fake_ops.vm_map(vm, 0x1000, 2 * PAGE_BYTES, page, true), 0);
	assert_int_equal(fake_ops.vm_map(vm, 0x2000, PAGE_BYTES, page, true), -EEXIST);
	assert_int_equal(fake_ops.vm_map(vm, 0x3001, PAGE_BYTES, page, true), -EINVAL);
	assert_ptr_equal(fake_slot_at(vm, 0x2FFF).hva, page);
	assert_null(fake_slot_at(vm, 0x3000).hva);
	assert_int_equal(fake_ops.vm_unmap(vm, 0x2000), -ENOENT);
	assert_int_equal(fake_ops.vm_unmap(vm, 0x1000), 0);
	fake_fail_maps(vm, 1);
	assert_int_equal(fake_ops.vm_map(vm, 0x1000, PAGE_BYTES, page, true), -ENOSPC);
	assert_int_equal(fake_ops.vm_map(vm, 0x1000, PAGE_BYTES, page, true), 0);
}

static void test_time_stands_until_moved(void **state)
{
	assert_int_equal(fake_ops.tsc_now(vm), 0);
	fake_advance_100ns(vm, 3);
	assert_int_equal(fake_ops.tsc_now(vm), 300);
}

static void test_records_survive_a_flood_as_counts(void **state)
{
	for (u32 i = 0; i < 2 * FAKE_RECORDS; i++)
		engine_vm_msi(vm, 0xFEE00000, i);
	assert_int_equal(fake_count(vm, FAKE_MSI), 2 * FAKE_RECORDS);
	assert_int_equal(fake_last(vm, FAKE_MSI).b, 2 * FAKE_RECORDS - 1);
	fake_forget(vm);
	assert_int_equal(fake_count(vm, FAKE_MSI), 0);
	assert_int_equal(fake_last(vm, FAKE_MSI).a, 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_exits_come_in_script_order),
		TEST(test_a_kick_ends_an_empty_script),
		TEST(test_drain_waits_for_the_answers),
		TEST(test_slots_do_not_overlap),
		TEST(test_time_stands_until_moved),
		TEST(test_records_survive_a_flood_as_counts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
