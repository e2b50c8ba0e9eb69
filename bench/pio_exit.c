// SPDX-License-Identifier: MIT
/*
 * The yardstick of the bench: what one port write that leaves KVM costs, with
 * nothing around it. A virtual machine of seven pages in 64-bit mode calls, for
 * ever, a function in another page that writes to a port: what a guest does for a
 * hypercall, so that the difference is the monitor's. (Without paging an emulated
 * processor would have fewer pages to walk after each entry.) The least of many
 * rounds, as payload/tests/roundtrip.c measures. Prints "cost pio NANOSECONDS".
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

/* Guest physical pages. */
#define CODE	 0x0000
#define FUNCTION 0x1000
#define STACK	 0x4000 /* grows down */
#define PML4	 0x4000
#define PDPT	 0x5000
#define PD	 0x6000
#define BYTES	 0x7000

static const unsigned char code[] = {
	0xFF, 0xD0, /* again: call *%rax */
	0xEB, 0xFC, /*        jmp again */
};
static const unsigned char function[] = {
	0xE7, 0x80, /* out %eax, $0x80 */
	0xC3,	    /* ret */
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

static void guest_fill(unsigned char *ram)
{
	unsigned long *pml4 = (void *)(ram + PML4), *pdpt = (void *)(ram + PDPT);
	unsigned long *pd = (void *)(ram + PD);

	memcpy(ram + CODE, code, sizeof(code));
	memcpy(ram + FUNCTION, function, sizeof(function));
	*pml4 = PDPT | 3;
	*pdpt = PD | 3;
	*pd = 0x83; /* the first 2 MiB, one to one */
}

static void sregs_long_mode(struct kvm_sregs *s)
{
	struct kvm_segment seg = { .limit = ~0u, .present = 1, .s = 1, .g = 1, .type = 3 };

	s->ds = s->es = s->fs = s->gs = s->ss = seg;
	seg.type = 11;
	seg.l = 1;
	s->cs = seg;
	s->cr0 = 0x80000031; /* PG NE ET PE */
	s->cr3 = PML4;
	s->cr4 = 0x20;	 /* PAE */
	s->efer = 0x500; /* LME LMA */
}

static int vcpu_create(int vm)
{
	struct kvm_userspace_memory_region region = { .memory_size = BYTES };
	int vcpu = must(ioctl(vm, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU");
	struct kvm_regs regs = { .rax = FUNCTION, .rsp = STACK, .rip = CODE, .rflags = 2 };
	struct kvm_sregs sregs;
	void *ram = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (ram == MAP_FAILED)
		must(-1, "mmap");
	guest_fill(ram);
	region.userspace_addr = (__u64)(unsigned long)ram;
	must(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region), "KVM_SET_USER_MEMORY_REGION");
	must(ioctl(vcpu, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
	sregs_long_mode(&sregs);
	must(ioctl(vcpu, KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
	must(ioctl(vcpu, KVM_SET_REGS, &regs), "KVM_SET_REGS");
	return vcpu;
}

static struct kvm_run *run_map(int kvm, int vcpu)
{
	size_t bytes =
		(size_t)must(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), "KVM_GET_VCPU_MMAP_SIZE");
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
