// SPDX-License-Identifier: MIT
/* Partitions, VPs and memory come and go: in order, out of order, many, and with their process
 * killed. */
#include "vm.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

static int error_of(long ret)
{
	return ret < 0 ? errno : 0;
}

static void device(void)
{
	struct mshv_create_partition c = { .flags = 1u << 20 };
	int fd = (int)MUST(open("/dev/mshv", O_RDWR)), other = (int)MUST(open("/dev/mshv", O_RDWR)),
	    p;

	check(other >= 0, "the device can be open twice");
	check_u64((u64)error_of(ioctl(fd, _IO(0xB8, 0x55))), ENOTTY, "an unknown ioctl");
	check_u64((u64)error_of(ioctl(fd, MSHV_CREATE_PARTITION, &c)), EINVAL, "an unknown flag");
	c = (struct mshv_create_partition){ .flags = PT_USUAL, .isolation = 1 };
	check_u64((u64)error_of(ioctl(fd, MSHV_CREATE_PARTITION, &c)), EINVAL,
		  "an isolated partition");
	c = (struct mshv_create_partition){ .flags = PT_USUAL | PT_FEATURES, .banks = 2 };
	p = ioctl(fd, MSHV_CREATE_PARTITION, &c);
	check(p >= 0, "a partition with lists of disabled features");
	close(p);
	close(other);
	close(fd);
}

static void host_properties(void)
{
	static const struct {
		u32 code;
		const char *what;
	} rows[] = {
		{ PROPERTY_FEATURES_0, "processor features, bank 0" },
		{ PROPERTY_FEATURES_1, "processor features, bank 1" },
		{ PROPERTY_XSAVE_STATES, "XSAVE states" },
		{ PROPERTY_XSAVE_BYTES, "bytes of XSAVE state" },
	};
	int fd = (int)MUST(open("/dev/mshv", O_RDWR));
	u64 value;
	u16 status;

	for (u32 i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int error = property_get(fd, rows[i].code, &value, &status);

		check(!error, "the parent's own %s: status %#x, %#llx", rows[i].what, status,
		      (unsigned long long)value);
	}
	property_get(fd, PROPERTY_XSAVE_BYTES, &value, NULL);
	check(value >= 576 && value <= PAGE, "one page holds the XSAVE state");
	check_u64((u64)property_get(fd, 0x77777, &value, &status), EINVAL, "an unknown property");
	check_u64(status, STATUS_UNKNOWN_PROPERTY, "and its status");
	check_u64((u64)property_set(fd, PROPERTY_TIME_FREEZE, 1, NULL), EINVAL,
		  "the device sets no property");
	close(fd);
}

/* The local APIC by MSR, and TLB flushes: QEMU asks for them and does without. */
#define NOT_OFFERED (1ull << 6 | 1ull << 25)

static void assignable(void)
{
	struct {
		u64 partition;
		u32 code, pad;
		u64 argument[2];
	} in = { .code = PROPERTY_ASSIGNABLE_FEATURES };
	u64 out[4] = { 0 };
	u16 status;
	int fd = (int)MUST(open("/dev/mshv", O_RDWR));
	int error = hvcall(fd, CALL_GET_PROPERTY_EX, 0, &in, sizeof(in), out, sizeof(out), &status,
			   NULL);

	check(!error, "what can be assigned is told: status %#x", status);
	check((u16)out[0] >= 1, "in one bank at least");
	check_u64(out[1] & USUAL_FEATURES, USUAL_FEATURES & ~NOT_OFFERED,
		  "what QEMU asks for and can have");
	close(fd);
}

static void create(void)
{
	struct vm vm;
	u64 value;
	u16 status;
	int error;

	for (int i = 0; i < 10; i++) {
		vm_create(&vm);
		vm_end(&vm);
	}
	check(true, "ten partitions, each closed before it was initialized");
	vm_create(&vm);
	error = property_set(vm.fd, PROPERTY_SYNTHETIC_FEATURES, USUAL_FEATURES, &status);
	check(!error, "synthetic features, status %#x", status);
	check_u64((u64)error_of(ioctl(vm.fd, MSHV_INITIALIZE)), 0, "initialize");
	check_u64((u64)error_of(ioctl(vm.fd, MSHV_INITIALIZE)), 0, "again changes nothing");
	check_u64((u64)property_set(vm.fd, 0x77777, 1, &status), EINVAL, "an unknown property");
	check_u64(status, STATUS_UNKNOWN_PROPERTY, "and its status");
	for (u32 code = PROPERTY_FEATURES_0; code <= PROPERTY_FEATURES_1; code++) {
		error = property_get(vm.fd, code, &value, &status);
		check(!error, "its own property %#x: status %#x, %#llx", code, status,
		      (unsigned long long)value);
	}
	error = property_get(vm.fd, PROPERTY_PRIVILEGES, &value, NULL);
	check(!error && (value & 0x66) == 0x66, "its privileges hold what was granted: %#llx",
	      (unsigned long long)value);
	check(!(value >> 32 & 1), "but not to create partitions");
	vm_end(&vm);
}

static void odd_orders(void)
{
	struct vm vm;
	struct message m;
	u32 index = 0;

	vm_create(&vm);
	check(ioctl(vm.fd, MSHV_CREATE_VP, &index) < 0, "no VP before initializing: %m");
	vm.ram = pages(RAM_BYTES);
	errno = vm_map(&vm, 0, vm.ram, RAM_BYTES, MEM_WRITABLE);
	check(errno, "no memory before initializing: %m");
	vm_end(&vm);

	vm_start(&vm);
	vm_vp(&vm, 0);
	vm_program(&vm, count, enter_real);
	close(vm.fd);
	vm.fd = vm.vp[0]; /* what passes through is the same */
	vm_run(&vm, 0, &m);
	check_u64(m.io.port, 0x80, "a VP outlives its partition's descriptor");
	vm.fd = -1;
	vm_end(&vm);

	vm_start(&vm);
	vm_vp(&vm, 0);
	vm_program(&vm, count, enter_real);
	vm_run(&vm, 0, &m);
	check_u64((u64)vm_map(&vm, 0, vm.ram, RAM_BYTES, MEM_UNMAP), 0, "memory away");
	vm_run(&vm, 0, &m);
	check_u64(m.type, MESSAGE_UNMAPPED_GPA, "a program without memory");
	check_u64(m.access, ACCESS_EXECUTE, "is fetched");
	check_u64(m.memory.gpa & ~0xfffull, PROGRAM, "where it was");
	check_u64((u64)vm_map(&vm, 0, vm.ram, RAM_BYTES, MEM_WRITABLE | MEM_EXECUTABLE), 0,
		  "memory back");
	vm_run(&vm, 0, &m);
	check_u64(m.type, MESSAGE_IO_PORT, "and it runs");
	vm_end(&vm);
}

/*
 * Memory that went before anybody touched it. Linux then tells its hypervisor nothing, for
 * which it is memory still; a monitor must not be asked to emulate what never happened.
 */
static void never_touched(void)
{
	u8 *more = pages(RAM_BYTES);
	struct vm vm;
	struct message m;

	vm_start(&vm);
	vm_vp(&vm, 0);
	check_u64((u64)vm_map(&vm, 64 << 20, more, RAM_BYTES, MEM_WRITABLE), 0, "more memory");
	check_u64((u64)vm_map(&vm, 64 << 20, more, RAM_BYTES, MEM_UNMAP), 0, "and away");
	vm_program(&vm, count, enter_real);
	check(vm_run_asked(&vm, 0, &m) <= 4, "it is asked about little");
	check(m.type == MESSAGE_IO_PORT && (u16)m.io.rax == 200, "the program has begun: %#x, %llu",
	      m.type, (unsigned long long)m.io.rax);
	io_done(&vm, &m, 0);
	check(vm_run_to(&vm, 0, DONE_PORT, &m), "and ends");
	vm_end(&vm);
}

static void vps(void)
{
	struct vm vm;
	u32 index = 3;

	vm_start(&vm);
	vm_vp(&vm, 0);
	vm_vp(&vm, 1);
	vm_vp(&vm, 3); /* with a gap */
	check_u64((u64)error_of(ioctl(vm.fd, MSHV_CREATE_VP, &index)), EEXIST, "a VP there is");
	index = 256;
	check_u64((u64)error_of(ioctl(vm.fd, MSHV_CREATE_VP, &index)), EINVAL, "VP 256");
	for (u32 i = 4; i < 16; i++)
		vm_vp(&vm, i);
	check(true, "15 VPs");
	check_u64(reg(&vm, 15, R_VP_INDEX), 15, "the last one knows its index");
	vm_end(&vm);
}

static void memory(void)
{
	struct vm vm;
	u8 *more = pages(RAM_BYTES);

	vm_start(&vm);
	check_u64((u64)vm_map(&vm, RAM_BYTES - PAGE, more, PAGE * 2, MEM_WRITABLE), EEXIST,
		  "memory over memory");
	check_u64((u64)vm_map(&vm, 16 << 20, more + 1, PAGE, MEM_WRITABLE), EINVAL,
		  "a crooked address");
	check_u64((u64)vm_map(&vm, 16 << 20, more, PAGE + 1, MEM_WRITABLE), EINVAL,
		  "a crooked size");
	check_u64((u64)vm_map(&vm, 16 << 20, more, 0, MEM_WRITABLE), EINVAL, "no size");
	check_u64((u64)vm_map(&vm, 16 << 20, more, PAGE, MEM_UNMAP), ENOENT, "unmapping nothing");
	check_u64((u64)vm_map(&vm, 0, vm.ram, PAGE, MEM_UNMAP), EINVAL, "unmapping a part");
	for (int i = 0; i < 20; i++) {
		MUST(vm_map(&vm, 16 << 20, more, RAM_BYTES, MEM_WRITABLE) ? -1 : 0);
		MUST(vm_map(&vm, 16 << 20, more, RAM_BYTES, MEM_UNMAP) ? -1 : 0);
	}
	check(true, "mapped and unmapped 20 times");
	check_u64((u64)vm_map(&vm, 1ull << 36, more, PAGE, MEM_WRITABLE), 0, "a page at 64 GiB");
	munmap(more, RAM_BYTES); /* while the partition has it */
	vm_end(&vm);
	check(true, "a process may take away what it gave");
}

/* --- what stays behind --- */

static int partitions(void)
{
	DIR *d;
	int n = 0;

	mount("debugfs", "/sys/kernel/debug", "debugfs", 0, NULL);
	d = opendir("/sys/kernel/debug/mshv/partition");
	if (!d)
		return -1;
	for (struct dirent *e = readdir(d); e; e = readdir(d))
		n += e->d_name[0] >= '0' && e->d_name[0] <= '9';
	closedir(d);
	return n;
}

static void killed(void)
{
	int before = partitions(), after;
	struct vm vm;
	struct message m;

	for (int i = 0; i < 3; i++) {
		int ready[2], status;
		pid_t child;
		char c;

		MUST(pipe(ready));
		child = fork();
		if (child == 0) {
			vm_start(&vm);
			vm_vp(&vm, 0);
			vm_program(&vm, spin, enter_real);
			MUST(write(ready[1], "", 1));
			ioctl(vm.vp[0], MSHV_RUN_VP, &m);
			_exit(1);
		}
		close(ready[1]);
		MUST(read(ready[0], &c, 1) == 1 ? 0 : -1);
		usleep(200000);
		after = partitions();
		check(before < 0 || after == before + 1, "a machine runs in another process");
		kill(child, SIGKILL);
		waitpid(child, &status, 0);
		check(WIFSIGNALED(status), "and is killed");
		close(ready[0]);
	}
	after = partitions();
	if (before >= 0)
		check_u64((u64)after, (u64)before, "nothing of them is left");
	vm_start(&vm);
	vm_vp(&vm, 0);
	vm_program(&vm, count, enter_real);
	check(vm_run_to(&vm, 0, DONE_PORT, &m), "another machine runs");
	vm_end(&vm);
}

#define BUSY_VPS 3

static struct vm busy_vm;

static void *busy_vp(void *arg)
{
	u32 i = (u32)(uintptr_t)arg;
	struct message m;

	while (ioctl(busy_vm.vp[i], MSHV_RUN_VP, &m) == 0 && m.type == MESSAGE_IO_PORT)
		io_done(&busy_vm, &m, 0);
	return NULL;
}

static void __attribute__((noreturn)) busy_monitor(int ready)
{
	pthread_t thread;

	vm_start(&busy_vm);
	for (u32 i = 0; i < BUSY_VPS; i++)
		vm_vp(&busy_vm, i);
	vm_program(&busy_vm, busy, enter_real);
	for (u32 i = 1; i < BUSY_VPS; i++)
		enter_real(&busy_vm, i, PROGRAM);
	for (u32 i = 0; i < BUSY_VPS; i++)
		MUST(-pthread_create(&thread, NULL, busy_vp, (void *)(uintptr_t)i));
	MUST(write(ready, "", 1));
	for (;;)
		pause();
}

/* Its VPs are in the guest, on their way to the monitor and on their way back. */
static void killed_at_work(void)
{
	int before = partitions(), good = 0, killed = 8;

	for (int i = 0; i < killed; i++) {
		int ready[2], status;
		pid_t child;
		char c;

		MUST(pipe(ready));
		child = fork();
		if (child == 0)
			busy_monitor(ready[1]);
		close(ready[1]);
		good += read(ready[0], &c, 1) == 1;
		usleep(20000 + 7000 * (unsigned)i);
		kill(child, SIGKILL);
		waitpid(child, &status, 0);
		close(ready[0]);
	}
	check_u64((u64)good, (u64)killed, "machines whose VPs all work are killed");
	if (before >= 0)
		check_u64((u64)partitions(), (u64)before, "nothing of them is left");
}

static void at_once(void)
{
	int status, good = 0;

	for (int i = 0; i < 3; i++)
		if (fork() == 0) {
			struct vm vm;
			struct message m;

			vm_start(&vm);
			vm_vp(&vm, 0);
			for (int n = 0; n < 5; n++) {
				vm_program(&vm, count, enter_real);
				reg_set(&vm, 0, R_RBX, (u64)getpid());
				if (!vm_run_to(&vm, 0, DONE_PORT, &m) ||
				    reg(&vm, 0, R_RBX) != (u64)getpid())
					_exit(1);
			}
			vm_end(&vm);
			_exit(0);
		}
	while (wait(&status) > 0)
		good += status == 0;
	check_u64((u64)good, 3, "three monitors at once");
}

/* Pages of the parent that came back: within what a kernel keeps for itself. */
static long free_kib(void)
{
	char text[4096] = "", *p;
	int fd = open("/proc/meminfo", O_RDONLY);

	if (fd < 0 || read(fd, text, sizeof(text) - 1) <= 0)
		return -1;
	close(fd);
	p = strstr(text, "MemAvailable:");
	return p ? atol(p + 13) : -1;
}

static void again_and_again(void)
{
	long before = 0, after;

	for (int i = 0; i < 50; i++) {
		struct vm vm;
		struct message m;

		vm_start(&vm);
		vm_vp(&vm, 0);
		vm_vp(&vm, 1);
		vm_program(&vm, io, enter_real);
		vm_run(&vm, 0, &m);
		vm_end(&vm);
		if (i == 9)
			before = free_kib();
	}
	after = free_kib();
	check(after > before - 24576, "40 machines leave no memory behind: %ld KiB, then %ld KiB",
	      before, after);
}

const struct mshv_case life_cases[] = {
	{ "device", device },
	{ "host-properties", host_properties },
	{ "assignable", assignable },
	{ "create", create },
	{ "odd-orders", odd_orders },
	{ "never-touched", never_touched },
	{ "vps", vps },
	{ "memory", memory },
	{ "killed", killed },
	{ "killed-at-work", killed_at_work },
	{ "at-once", at_once },
	{ "again-and-again", again_and_again },
	{ 0 },
};
