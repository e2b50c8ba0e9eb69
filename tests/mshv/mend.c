// SPDX-License-Identifier: MIT
/* What Linux 7.3 does wrong and a patch of linux/7.3 mends. Run by name only. */
#include "vm.h"

#include <cpuid.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/klog.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define OTHER_CPU 1 /* of the root: the one that things happen to */

static void cpu_set_online(bool online)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d/online", OTHER_CPU);
	fd = (int)MUST(open(path, O_WRONLY));
	MUST(write(fd, online ? "1" : "0", 1));
	close(fd);
}

static bool rang(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	u64 n;

	return poll(&p, 1, 3000) > 0 && read(fd, &n, sizeof(n)) == sizeof(n);
}

/* Their numbers follow each other, so that each of two CPUs is told of one. */
static void doorbells_cpu_offline(void)
{
	struct mshv_ioeventfd a = { .address = MMIO + 0x1000,
				    .fd = (int)MUST(eventfd(0, EFD_NONBLOCK)) },
			      b = { .address = MMIO + 0x2000,
				    .bytes = 4,
				    .datamatch = 7,
				    .fd = (int)MUST(eventfd(0, EFD_NONBLOCK)),
				    .flags = IOEVENTFD_DATAMATCH };
	struct vm vm;
	struct message m;

	vm_start(&vm);
	vm_vp(&vm, 0);
	MUST(ioctl(vm.fd, MSHV_IOEVENTFD, &a));
	MUST(ioctl(vm.fd, MSHV_IOEVENTFD, &b));
	for (int i = 0; i < 6; i++) {
		if (i == 3) {
			cpu_set_online(false);
			cpu_set_online(true);
		}
		vm_program(&vm, doorbell, enter_long);
		vm_run(&vm, 0, &m);
		check(rang(a.fd) && rang(b.fd), "both doorbells ring%s",
		      i < 3 ? "" : " after a CPU was offline");
	}
	vm_end(&vm);
}

/* The first address a machine cannot have: that of its parent. */
static u64 gpa_limit(void)
{
	u32 eax = 0, ebx, ecx, edx;

	__get_cpuid(0x80000008, &eax, &ebx, &ecx, &edx);
	return 1ull << (u8)eax;
}

/* What Linux maps first is "no access"; a page that is not mapped is another intercept. */
static void half_mapped(void)
{
	u64 limit = gpa_limit(), large = 2 << 20;
	struct vm vm;
	struct message m;

	vm_start(&vm);
	vm_vp(&vm, 0);
	check(vm_map(&vm, limit - 2 * PAGE, pages(4 * PAGE), 4 * PAGE, MEM_WRITABLE),
	      "memory beyond %#llx: %m", (unsigned long long)limit);
	vm_program(&vm, peek, enter_long);
	((u64 *)(vm.ram + PAGE_TABLES))[512 * 2 + MMIO / large] = (limit - large) | 0x83;
	for (u32 page = 3; page > 0; page--) {
		reg_set(&vm, 0, R_RBX, MMIO + large - page * PAGE);
		vm_run(&vm, 0, &m);
		check_u64(m.memory.gpa, limit - page * PAGE, "page -%u is not there", page);
		check_u64(m.type, MESSAGE_UNMAPPED_GPA, "nor known");
	}
	vm_end(&vm);
}

/* With --fail DepositMemory+K: who has its pages, of which the hypervisor took some? */
static void failed_deposit(void)
{
	u64 bytes = 64 << 20;
	struct vm vm;

	vm_create(&vm);
	check(ioctl(vm.fd, MSHV_INITIALIZE) < 0, "a machine whose pages are refused: %m");
	memset(pages(bytes), 1, bytes);
	vm_end(&vm);
	check(true, "its parent goes on");
}

#define LATE_VPS   8
#define LATE_TIMES 60
#define FLAG	   0x9000

static void resume(struct vm *vm, u32 vp)
{
	struct assoc a[2] = { { .name = R_INTERCEPT_SUSPEND }, { .name = R_EXPLICIT_SUSPEND } };
	u16 status = 0;

	if (regs_set(vm, vp, a, 2, &status, NULL))
		give_up("VP %u cannot be resumed: status %#x", vp, status);
}

static u64 now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (u64)t.tv_sec * 1000000 + (u64)t.tv_nsec / 1000;
}

/* In a process of its own, for it may hang for good. */
static bool in_time(u64 (*run)(u64 arg), u64 arg, u64 *result)
{
	int status = 0, out[2];
	pid_t child;

	MUST(pipe(out));
	child = (pid_t)MUST(fork());
	if (child == 0) {
		u64 value = run(arg);

		_exit(write(out[1], &value, sizeof(value)) != sizeof(value));
	}
	for (int i = 0; i < 200; i++) {
		if (waitpid(child, &status, WNOHANG) == child)
			return status == 0 && read(out[0], result, sizeof(*result)) > 0;
		usleep(100000);
	}
	return false;
}

static void run_on(u32 cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	MUST(sched_setaffinity(0, sizeof(set), &set));
}

/* Linux says so the first time. */
static bool message_was_nobodys(void)
{
	static char log[65536];
	int n = klogctl(3, log, sizeof(log) - 1); /* the last of it */

	log[n < 0 ? 0 : n] = 0;
	return strstr(log, "mshv_isr: unknown message type");
}

struct late {
	u8 *ram;
	u64 wait_us;
};

static void *let_go(void *arg)
{
	struct late *late = arg;

	run_on(OTHER_CPU - 1);
	usleep((useconds_t)late->wait_us);
	late->ram[FLAG] = 1;
	return NULL;
}

/* A machine with an intercept, and another one on its way when it ends. How long that takes. */
static u64 end_late(u64 wait_us)
{
	struct late late = { .wait_us = wait_us };
	pthread_t thread;
	struct vm vm;
	struct message m;
	u64 begin;

	vm_start(&vm);
	for (u32 vp = 0; vp < LATE_VPS; vp++)
		vm_vp(&vm, vp);
	vm_program(&vm, until_flag, enter_real);
	vm_run(&vm, 0, &m);
	io_done(&vm, &m, 0);
	late.ram = vm.ram;
	vm.ram = NULL; /* it stays */
	if (wait_us)
		resume(&vm, 0);
	MUST(-pthread_create(&thread, NULL, let_go, &late));
	begin = now_us();
	vm_end(&vm);
	begin = now_us() - begin;
	pthread_join(thread, NULL);
	return begin;
}

/*
 * Linux forgets a machine's VPs one by one before it stops them. One of them that still runs
 * then, because it was not RUN_VP that resumed it, has an intercept that is nobody's.
 */
static void late_intercept(void)
{
	u64 us = 0, other;
	u32 i;

	run_on(OTHER_CPU);
	check(in_time(end_late, 0, &us), "intercepts are reported");
	for (i = 0; i < LATE_TIMES && !message_was_nobodys(); i++)
		if (!in_time(end_late, 1 + us / 2 * (i * 618 % 1000) / 1000, &other))
			break;
	check(message_was_nobodys(), "an intercept of machine %u came when it was gone", i);
	check(in_time(end_late, 0, &other), "those of others still come");
}

const struct mshv_case mend_cases[] = {
	{ "doorbells-cpu-offline", doorbells_cpu_offline },
	{ "failed-deposit", failed_deposit },
	{ "half-mapped", half_mapped },
	{ "late-intercept", late_intercept },
	{ 0 },
};
