// SPDX-License-Identifier: MIT
/*
 * The yardstick of the bench: what one port write that leaves KVM costs, with
 * nothing around it. A virtual machine of one page whose 16-bit code writes to a
 * port for ever; the least of many rounds, as payload/tests/roundtrip.c measures.
 * Prints "cost pio NANOSECONDS".
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>

#define ROUNDS 400
#define CALLS  25 /* short rounds: the least of them was not interrupted */

static const unsigned char code[] = {
	0xE6, 0x80, /* again: out %al, $0x80 */
	0xEB, 0xFC, /*        jmp again */
};

static int must(int ret, const char *what)
{
	if (ret < 0) {
		perror(what);
		exit(1);
	}
	return ret;
}

static double now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static int vcpu_create(int vm)
{
	struct kvm_userspace_memory_region region = { .memory_size = 4096 };
	int vcpu = must(ioctl(vm, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU");
	struct kvm_regs regs = { .rflags = 2 };
	struct kvm_sregs sregs;
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED)
		must(-1, "mmap");
	memcpy(page, code, sizeof(code));
	region.userspace_addr = (__u64)(unsigned long)page;
	must(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region), "KVM_SET_USER_MEMORY_REGION");
	must(ioctl(vcpu, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	must(ioctl(vcpu, KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
	must(ioctl(vcpu, KVM_SET_REGS, &regs), "KVM_SET_REGS");
	return vcpu;
}

static struct kvm_run *run_map(int kvm, int vcpu)
{
	size_t bytes = (size_t)must(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), "KVM_GET_VCPU_MMAP_SIZE");
	struct kvm_run *run = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);

	if (run == MAP_FAILED)
		must(-1, "mmap");
	return run;
}

int main(void)
{
	int kvm = must(open("/dev/kvm", O_RDWR | O_CLOEXEC), "/dev/kvm");
	int vcpu = vcpu_create(must(ioctl(kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM"));
	struct kvm_run *run = run_map(kvm, vcpu);
	double best = 1e18;

	for (int r = 0; r < ROUNDS; r++) {
		double start = now_ns(), each;

		for (int i = 0; i < CALLS; i++) {
			must(ioctl(vcpu, KVM_RUN, 0), "KVM_RUN");
			if (run->exit_reason != KVM_EXIT_IO) {
				fprintf(stderr, "pio_exit: exit reason %u\n", run->exit_reason);
				return 1;
			}
		}
		each = (now_ns() - start) / CALLS;
		best = each < best ? each : best;
	}
	printf("cost pio %.0f\n", best);
	return 0;
}
