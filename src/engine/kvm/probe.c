// SPDX-License-Identifier: MIT
/*
 * The probe VM: one page of code, identity-mapped, ring 0, long mode, no interrupt
 * controller. It stores a result per instruction under test, spins, exits by port
 * writes and halts.
 */
#include "engine/kvm/probe.h"

#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TIMEOUT_MS	  1000
#define RAM_BYTES	  (64 * 1024u)
#define GPA_PML4	  0x1000u
#define GPA_PDPT	  0x2000u
#define GPA_PD		  0x3000u
#define GPA_CODE	  0x4000u
#define GPA_DATA	  0x5000u
#define LOOPS		  50000u
#define LOOP_INSTRUCTIONS 2u
#define EXITS		  32u
#define PORT		  0x7c
/* Hardware takes below 1 ns, an emulated machine some 10 ns, an interpreting KVM 500 ns and more.
 */
#define MAX_LOOP_PS 150000u
#define MAX_CPUID   256
#define ATTEMPTS    3

#define TEST_VALUE  0x1122334455667788ull
#define SHIFT_COUNT 13

/* What the code leaves behind, at GPA_DATA. */
struct probe_data {
	u64 shifted;
	u64 saved;
	u64 pair[2]; /* by CMPXCHG16B; starts as zero */
};
#define XSAVE_AT 0x400 /* from GPA_DATA; 64-byte aligned */

#define FLAG_BMI2  BIT(0)
#define FLAG_CX16  BIT(1)
#define FLAG_XSAVE BIT(2)

/* RSI: data, EDI: flags, EBP: loops, R8D: exits. */
__asm__(".pushsection .rodata\n"
	"probe_code:\n"
	"	mov $0x1122334455667788, %rdx\n"
	"	mov $13, %ecx\n"
	"	test $1, %edi\n"
	"	jz 1f\n"
	"	shlx %rcx, %rdx, %rax\n"
	"	mov %rax, (%rsi)\n"
	"1:	test $2, %edi\n"
	"	jz 2f\n"
	"	xor %eax, %eax\n"
	"	xor %edx, %edx\n"
	"	mov $1, %ebx\n"
	"	mov $2, %ecx\n"
	"	lock cmpxchg16b 16(%rsi)\n"
	"2:	test $4, %edi\n"
	"	jz 3f\n"
	"	xor %ecx, %ecx\n"
	"	xor %edx, %edx\n"
	"	mov $3, %eax\n"
	"	xsetbv\n"
	"	mov $0x1122334455667788, %rbx\n"
	"	movq %rbx, %xmm0\n"
	"	xsave 0x400(%rsi)\n"
	"	pxor %xmm0, %xmm0\n"
	"	xrstor 0x400(%rsi)\n"
	"	movq %xmm0, 8(%rsi)\n"
	"3:	out %al, $0x7c\n"
	"4:	dec %ebp\n"
	"	jnz 4b\n"
	"5:	out %al, $0x7c\n"
	"	dec %r8d\n"
	"	jnz 5b\n"
	"	hlt\n"
	"probe_code_end:\n"
	".popsection\n");
extern const u8 probe_code[], probe_code_end[];

struct vm {
	int kvm, fd, vcpu;
	struct kvm_run *run;
	u8 *ram;
	u32 flags;
};

struct cap {
	int number;
	const char *name;
	bool needed;
};

static const struct cap caps[] = {
	{ KVM_CAP_X86_USER_SPACE_MSR, "X86_USER_SPACE_MSR", true },
	{ KVM_CAP_X86_MSR_FILTER, "X86_MSR_FILTER", true },
	{ KVM_CAP_SPLIT_IRQCHIP, "SPLIT_IRQCHIP", true },
	{ KVM_CAP_SYNC_REGS, "SYNC_REGS", true },
	{ KVM_CAP_IRQFD, "IRQFD", true },
	{ KVM_CAP_IOEVENTFD, "IOEVENTFD", true },
	{ KVM_CAP_SIGNAL_MSI, "SIGNAL_MSI", true },
	{ KVM_CAP_X2APIC_API, "X2APIC_API", true },
	{ KVM_CAP_IMMEDIATE_EXIT, "IMMEDIATE_EXIT", true },
	{ KVM_CAP_ENFORCE_PV_FEATURE_CPUID, "ENFORCE_PV_FEATURE_CPUID", false },
	{ KVM_CAP_TSC_CONTROL, "TSC_CONTROL", false },
	{ KVM_CAP_HYPERV, "HYPERV", false },
	{ KVM_CAP_HYPERV_SYNIC2, "HYPERV_SYNIC2", false },
	{ KVM_CAP_VCPU_ATTRIBUTES, "VCPU_ATTRIBUTES", false },
	{ KVM_CAP_BINARY_STATS_FD, "BINARY_STATS_FD", false },
};

static u64 now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (u64)t.tv_sec * 1000000000ull + (u64)t.tv_nsec;
}

PRINTF_FMT(2, 3) static void say(struct kvm_probe *p, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(p->reason, sizeof(p->reason), fmt, ap);
	va_end(ap);
}

static void check_caps(struct kvm_probe *p, const struct vm *vm)
{
	for (size_t i = 0; i < ARRAY_SIZE(caps); i++) {
		char *list = caps[i].needed ? p->missing : p->lacking;
		size_t len = strlen(list);

		if (ioctl(vm->fd, KVM_CHECK_EXTENSION, caps[i].number) <= 0)
			snprintf(list + len, sizeof(p->missing) - len, "%s%s", len ? " " : "",
				 caps[i].name);
	}
}

/* All that this KVM supports, and which of the instructions under test are among it. */
static int set_cpuid(struct vm *vm)
{
	static u64 room[(sizeof(struct kvm_cpuid2) + MAX_CPUID * sizeof(struct kvm_cpuid_entry2)) /
			sizeof(u64)];
	struct kvm_cpuid2 *cpuid = (struct kvm_cpuid2 *)room;

	cpuid->nent = MAX_CPUID;
	if (ioctl(vm->kvm, KVM_GET_SUPPORTED_CPUID, cpuid) < 0)
		return -errno;
	for (u32 i = 0; i < cpuid->nent; i++) {
		const struct kvm_cpuid_entry2 *e = &cpuid->entries[i];

		if (e->function == 1 && (e->ecx & bit_CMPXCHG16B))
			vm->flags |= FLAG_CX16;
		if (e->function == 1 && (e->ecx & bit_XSAVE))
			vm->flags |= FLAG_XSAVE;
		if (e->function == 7 && e->index == 0 && (e->ebx & bit_BMI2))
			vm->flags |= FLAG_BMI2;
	}
	return ioctl(vm->vcpu, KVM_SET_CPUID2, cpuid) < 0 ? -errno : 0;
}

/* The first 2 MiB, identity-mapped by one large page. */
static void fill_ram(struct vm *vm)
{
	u64 *pml4 = (u64 *)(void *)(vm->ram + GPA_PML4);
	u64 *pdpt = (u64 *)(void *)(vm->ram + GPA_PDPT);
	u64 *pd = (u64 *)(void *)(vm->ram + GPA_PD);

	pml4[0] = GPA_PDPT | 0x3;
	pdpt[0] = GPA_PD | 0x3;
	pd[0] = 0x83;
}

static int set_registers(struct vm *vm)
{
	struct kvm_segment code = {
		.limit = ~0u, .selector = 8, .type = 11, .present = 1, .s = 1, .l = 1, .g = 1
	};
	struct kvm_segment data = {
		.limit = ~0u, .selector = 16, .type = 3, .present = 1, .s = 1, .db = 1, .g = 1
	};
	struct kvm_regs regs = { .rip = GPA_CODE,
				 .rflags = 2,
				 .rsi = GPA_DATA,
				 .rdi = vm->flags,
				 .rbp = LOOPS,
				 .r8 = EXITS,
				 .rsp = GPA_DATA };
	struct kvm_sregs sregs;

	if (ioctl(vm->vcpu, KVM_GET_SREGS, &sregs) < 0)
		return -errno;
	sregs.cs = code;
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
	sregs.cr0 = 0x80000033; /* PG NE ET MP PE */
	sregs.cr3 = GPA_PML4;
	sregs.cr4 = 0x620 | (vm->flags & FLAG_XSAVE ? BIT(18) : 0); /* PAE OSFXSR OSXMMEXCPT */
	sregs.efer = 0x500;					    /* LME LMA */
	if (ioctl(vm->vcpu, KVM_SET_SREGS, &sregs) < 0 || ioctl(vm->vcpu, KVM_SET_REGS, &regs) < 0)
		return -errno;
	return 0;
}

static int make_vm(struct kvm_probe *p, struct vm *vm)
{
	struct kvm_userspace_memory_region area = { .memory_size = RAM_BYTES };
	int size, ret;

	vm->fd = ioctl(vm->kvm, KVM_CREATE_VM, 0);
	if (vm->fd < 0) {
		say(p, "KVM cannot create a VM: %s", strerror(errno));
		return -ENODEV;
	}
	check_caps(p, vm);
	ioctl(vm->fd, KVM_SET_TSS_ADDR, 0xfffbd000); /* needed by old Intel CPUs only */
	vm->ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	vm->vcpu = ioctl(vm->fd, KVM_CREATE_VCPU, 0);
	size = ioctl(vm->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (vm->ram == MAP_FAILED || vm->vcpu < 0 || size <= 0)
		goto fail;
	vm->run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vm->vcpu, 0);
	area.userspace_addr = (u64)(uintptr_t)vm->ram;
	if (vm->run == MAP_FAILED || ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &area) < 0)
		goto fail;
	ret = set_cpuid(vm);
	if (ret) {
		say(p, "KVM refuses a CPUID of its own making: %s", strerror(-ret));
		return ret;
	}
	fill_ram(vm);
	return 0;
fail:
	say(p, "KVM cannot create a vCPU with memory: %s", strerror(errno));
	return -ENODEV;
}

/* One KVM_RUN; it must end with a port write, or with HLT if @halt. */
static int run_until(struct kvm_probe *p, struct vm *vm, bool halt)
{
	u32 want = halt ? KVM_EXIT_HLT : KVM_EXIT_IO;
	int ret;

	do
		ret = ioctl(vm->vcpu, KVM_RUN, 0);
	while (ret < 0 && (errno == EINTR || errno == EAGAIN));
	if (ret < 0) {
		say(p, "KVM cannot run 64-bit kernel code: %s", strerror(errno));
		return -ENODEV;
	}
	if (vm->run->exit_reason == want)
		return 0;
	if (vm->run->exit_reason == KVM_EXIT_INTERNAL_ERROR)
		say(p,
		    "KVM gives up on ordinary 64-bit kernel code (internal error %u): there is no "
		    "hardware "
		    "virtualization behind it",
		    vm->run->internal.suberror);
	else if (vm->run->exit_reason == KVM_EXIT_SHUTDOWN)
		say(p, "64-bit kernel code dies under this KVM (triple fault)");
	else
		say(p, "64-bit kernel code does not run under this KVM (exit reason %u)",
		    vm->run->exit_reason);
	return -ENODEV;
}

static int check_results(struct kvm_probe *p, const struct vm *vm)
{
	const struct probe_data *d = (const void *)(vm->ram + GPA_DATA);
	const char *wrong = NULL;

	if ((vm->flags & FLAG_BMI2) && d->shifted != TEST_VALUE << SHIFT_COUNT)
		wrong = "BMI2";
	else if ((vm->flags & FLAG_CX16) && (d->pair[0] != 1 || d->pair[1] != 2))
		wrong = "CMPXCHG16B";
	else if ((vm->flags & FLAG_XSAVE) && d->saved != TEST_VALUE)
		wrong = "XSAVE";
	if (!wrong)
		return 0;
	say(p, "%s instructions give wrong results under this KVM", wrong);
	return -ENODEV;
}

static int run_once(struct kvm_probe *p, struct vm *vm)
{
	u64 t0, t1, t2;
	int ret;

	memset(vm->ram + GPA_DATA, 0, PAGE_BYTES);
	memcpy(vm->ram + GPA_CODE, probe_code, (size_t)(probe_code_end - probe_code));
	ret = set_registers(vm);
	if (ret) {
		say(p, "KVM refuses the state of a 64-bit kernel: %s", strerror(-ret));
		return ret;
	}
	ret = run_until(p, vm, false);
	if (!ret)
		ret = check_results(p, vm);
	t0 = now_ns();
	if (!ret)
		ret = run_until(p, vm, false); /* the loop */
	t1 = now_ns();
	for (u32 i = 1; !ret && i < EXITS; i++)
		ret = run_until(p, vm, false);
	t2 = now_ns();
	if (!ret)
		ret = run_until(p, vm, true);
	if (ret)
		return ret;
	p->loop_ps = (u32)min_u64(~0u, (t1 - t0) * 1000 / (LOOPS * LOOP_INSTRUCTIONS));
	p->exit_ns = (u32)min_u64(~0u, (t2 - t1) / (EXITS - 1));
	return 0;
}

static void probe_here(struct kvm_probe *p)
{
	struct vm vm = { .kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC) };

	if (vm.kvm < 0) {
		if (errno == ENOENT)
			say(p, "there is no /dev/kvm");
		else if (errno == EACCES)
			say(p, "/dev/kvm may not be opened by this user (usually: join the group "
			       "kvm)");
		else
			say(p, "/dev/kvm cannot be opened: %s", strerror(errno));
		return;
	}
	p->present = true;
	if (ioctl(vm.kvm, KVM_GET_API_VERSION, 0) != KVM_API_VERSION) {
		say(p, "/dev/kvm does not speak the KVM interface");
		return;
	}
	if (make_vm(p, &vm))
		return;
	/* Another process may have had the CPU: a slow run gets another chance. */
	for (int i = 0; i == 0 || (i < ATTEMPTS && p->loop_ps > MAX_LOOP_PS); i++)
		if (run_once(p, &vm))
			return;
	if (p->loop_ps > MAX_LOOP_PS) {
		say(p,
		    "kernel code is interpreted (%u ns per instruction): there is no hardware "
		    "virtualization behind this KVM",
		    p->loop_ps / 1000);
		return;
	}
	p->runs = true;
	if (p->missing[0]) {
		say(p, "this KVM is too old: it lacks %.200s", p->missing);
		return;
	}
	p->usable = true;
	say(p, "a probe VM ran 64-bit kernel code at %u.%02u ns per instruction, %u.%u us per exit",
	    p->loop_ps / 1000, p->loop_ps % 1000 / 10, p->exit_ns / 1000, p->exit_ns % 1000 / 100);
}

int kvm_probe(struct kvm_probe *out)
{
	u64 start = now_ns();
	struct pollfd fd;
	int pipefd[2];
	pid_t pid;

	*out = (struct kvm_probe){ 0 };
	if (pipe2(pipefd, O_CLOEXEC) < 0) {
		say(out, "the probe cannot start: %s", strerror(errno));
		return -errno;
	}
	pid = fork();
	if (pid < 0) {
		say(out, "the probe cannot start: %s", strerror(errno));
		close(pipefd[0]);
		close(pipefd[1]);
		return -EAGAIN;
	}
	if (pid == 0) {
		probe_here(out);
		_exit(write(pipefd[1], out, sizeof(*out)) != (ssize_t)sizeof(*out));
	}
	close(pipefd[1]);
	fd = (struct pollfd){ .fd = pipefd[0], .events = POLLIN };
	while (poll(&fd, 1, TIMEOUT_MS) < 0 && errno == EINTR)
		;
	/* Smaller than PIPE_BUF: it arrives whole or not at all. */
	if (!(fd.revents & POLLIN) || read(pipefd[0], out, sizeof(*out)) != (ssize_t)sizeof(*out)) {
		*out = (struct kvm_probe){ .present = true };
		if (fd.revents)
			say(out, "the probe VM ended without a word");
		else
			say(out,
			    "the probe VM did not end in time: its code is interpreted, or hangs");
	}
	close(pipefd[0]);
	kill(pid, SIGKILL);
	/* A process stuck in the kernel is left to init rather than waited for. */
	for (int i = 0; i < 100 && waitpid(pid, NULL, WNOHANG) == 0; i++)
		usleep(1000);
	out->elapsed_us = (u32)((now_ns() - start) / 1000);
	return out->usable ? 0 : -ENODEV;
}
