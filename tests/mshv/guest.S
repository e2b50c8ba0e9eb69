/* SPDX-License-Identifier: MIT */
/*
 * Programs for the machines of the test client. Each runs at PROGRAM (0x1000) and can be moved;
 * its end is a byte written to port 0xF4. Labels name the addresses the client looks at.
 */
#define DONE 0xf4
#define MMIO 0xd0000000

	.macro program name
	.global guest_\name
	.balign 16
guest_\name:
	.endm
	.macro program_end name
	.global guest_\name\()_end
guest_\name\()_end:
	.endm
	.macro label name
	.global guest_\name
guest_\name:
	.endm

	.section .rodata

	/* --- 16 bits --- */
	.code16

program io
	mov	$0x5a, %al
	out	%al, $0x80
	mov	$0x1234, %ax
	mov	$0x3f8, %dx
	out	%ax, %dx
	mov	$0xdeadbeef, %eax
	out	%eax, %dx
	mov	$0xffffffff, %eax
label io_in
	in	$0x71, %al
	out	%eax, %dx
	in	%dx, %ax
	out	%eax, %dx
	in	%dx, %eax
	out	%eax, %dx
	.byte	0x66, 0x66, 0x67	/* prefixes that mean nothing count */
	out	%al, $0x80
	out	%al, $DONE
program_end io

program string
	cld
	mov	$0x3000, %si
	mov	$0x3100, %di
	mov	$0x1f0, %dx
	outsb
	mov	$3, %cx
	rep outsw
	insb
	mov	$4, %cx
	rep insw
	mov	$0, %cx			/* nothing to do: no intercept */
	rep outsb
	std
	mov	$2, %cx
	mov	$0x3002, %si
	rep outsb
	cld
	mov	%si, %ax
	out	%ax, %dx
	out	%al, $DONE
program_end string

program spin
1:	incl	0x4000
	jmp	1b
program_end spin

program busy			/* any number of VPs */
1:	incw	(0x9000)
	outb	%al, $0x80
	jmp	1b
program_end busy

program count
	mov	$200, %cx
1:	mov	%cx, %ax
	out	%ax, $0x80
	loop	1b
	out	%al, $DONE
program_end count

program until_flag		/* of the client's */
	out	%al, $0x80
1:	cmpb	$0, 0x9000
	je	1b
	out	%al, $0x80
	hlt
program_end until_flag

	/* Waits for its first start-up IPI elsewhere; this is what the second processor runs. */
program second
	mov	$0x77, %al
	out	%al, $0x81
	hlt
program_end second

	/* --- 64 bits --- */
	.code64

program mmio
	mov	$MMIO, %ebx
label mmio_0
	movl	0x10(%rbx), %eax
label mmio_1
	movl	%eax, 0x18(%rbx)
label mmio_2
	movb	$0x7f, 0x24(%rbx)
label mmio_3
	mov	0x28(%rbx), %rcx
label mmio_4
	mov	%rcx, 0x30(%rbx)
label mmio_5
	movzbl	0x38(%rbx), %edx
label mmio_6
	movw	$0x55aa, 0x3a(%rbx)
label mmio_7
	out	%al, $DONE
program_end mmio

program readonly
	mov	$0x400000, %ebx
	mov	(%rbx), %eax
label readonly_write
	movl	$1, (%rbx)
label readonly_next
	out	%al, $DONE
program_end readonly

program cpuid
	mov	$0x4000, %edi
	lea	1f(%rip), %rsi
0:	mov	(%rsi), %eax
	xor	%ecx, %ecx
	cmp	$-1, %eax
	je	2f
	cpuid
	mov	%eax, (%rdi)
	mov	%ebx, 4(%rdi)
	mov	%ecx, 8(%rdi)
	mov	%edx, 12(%rdi)
	add	$16, %rdi
	add	$4, %rsi
	jmp	0b
1:	.long	0x40000000, 0x40000001, 0x40000003, 1, 0x12, -1
2:	out	%al, $DONE
program_end cpuid

	/* Sets timer and spurious vector of its xAPIC, halts, is woken. */
program timer
	mov	$0xfee00000, %ebx
	movl	$0x1ff, 0xf0(%rbx)
	movl	$0xb, 0x3e0(%rbx)	/* divide by one */
	movl	$0x40, 0x320(%rbx)	/* one shot, vector 0x40 */
	movl	$100000, 0x380(%rbx)
	sti
	hlt
	cli
	mov	0x4000, %eax
	out	%al, $DONE
program_end timer

	/* Halts again and again; each interrupt's vector goes to port 0xF3. */
program wait
	mov	$0xfee00000, %ebx
	movl	$0x1ff, 0xf0(%rbx)
	out	%al, $0xf2		/* ready */
1:	sti
	hlt
	cli
	xor	%eax, %eax
	xchg	%eax, 0x4000
	test	%eax, %eax
	jz	1b
	out	%al, $0xf3
	jmp	1b
program_end wait

	/*
	 * Handlers, 16 bytes each: vector into the double word at 0x4000, end of interrupt, and
	 * back with interrupts off, so that they come one by one.
	 */
	.global guest_handlers
	.balign 16
guest_handlers:
	vector = 0x30
	.rept	0x60
	movl	$vector, 0x4000
	jmp	.Leoi
	.balign 16
	vector = vector + 1
	.endr
.Leoi:	push	%rax
	mov	$0xfee00000, %eax
	movl	$0, 0xb0(%rax)
	pop	%rax
	andl	$~0x200, 16(%rsp)
	iretq
program_end handlers

program triple
	ud2				/* with an empty IDT */
program_end triple

	/* INIT and start-up for APIC 1 at page 0x9000, then its message is waited for. */
program smp
	mov	$0xfee00000, %ebx
	movl	$0x1ff, 0xf0(%rbx)
	movl	$0x01000000, 0x310(%rbx)
	movl	$0x4500, 0x300(%rbx)
	mov	$100000, %ecx
1:	loop	1b
	movl	$0x4609, 0x300(%rbx)
	out	%al, $DONE
program_end smp

	/* What doorbells take and what they leave. */
program doorbell
	mov	$MMIO, %ebx
	movl	$1, 0x1000(%rbx)	/* any value, any size */
	movb	$2, 0x1000(%rbx)
	movl	$7, 0x2000(%rbx)	/* four bytes, 7 */
label doorbell_other
	movl	$8, 0x2000(%rbx)	/* another value: an intercept */
label doorbell_next
	out	%al, $DONE
program_end doorbell

program peek
	movl	(%rbx), %eax
	out	%al, $DONE
program_end peek

	/* An MSR nobody knows, the reference counter, the frequency of the clock. */
program msr
	mov	$0x12345678, %ecx
	mov	$-1, %eax
	rdmsr
	mov	%eax, 0x4000
	mov	$0x40000020, %ecx
	rdmsr
	mov	%eax, 0x4004
	mov	%edx, 0x4008
	mov	$0x40000022, %ecx
	rdmsr
	mov	%eax, 0x400c
	out	%al, $DONE
program_end msr

	/*
	 * Registers a monitor plays: one that nobody knows, three of the processor's and one of the
	 * interface that the machine was not given. What #GP leaves goes to 0x4010.
	 */
program msr_intercept
	mov	$0x12345678, %ecx
	mov	$-1, %rax
	mov	$-2, %rdx
label msr_read
	rdmsr
	mov	%rax, 0x4000
	mov	%rdx, 0x4008
	mov	$0x55667788, %eax
	mov	$0x11223344, %edx
label msr_write
	wrmsr
label msr_prefix
	.byte	0x48, 0x0f, 0x32	/* rex.w rdmsr */
label msr_fault
	rdmsr
label msr_fault_2
	wrmsr
	mov	$0x1b, %ecx		/* the base of the APIC: reads are the hypervisor's */
	rdmsr
	mov	%eax, 0x4020
label msr_base
	wrmsr
	mov	$0xc0000100, %ecx	/* FS_BASE, which stops no processor by itself */
label msr_fs
	rdmsr
	mov	$0x40000118, %ecx
label msr_synthetic
	rdmsr
	mov	$0x12345678, %ecx	/* not the monitor's any more */
	out	%al, $0x80
	rdmsr
	mov	%eax, 0x4024
	out	%al, $DONE
label msr_handler			/* of #GP: the error code, where, how often */
	popq	0x4010
	pushq	(%rsp)
	popq	0x4018
	incl	0x4028
	addq	$2, (%rsp)
	iretq
program_end msr_intercept

	/* XMM3 and ST0 as they came, then others. */
program fpu
	movdqu	%xmm3, 0x4000
	fstpt	0x4010
	movq	0x4018, %xmm3
	out	%al, $0x80
	out	%al, $DONE
program_end fpu

	/* Writes one page, says so, writes another. */
program dirty
	movl	$1, 0x30000
	out	%al, $0x80
	movl	$1, 0x50000
	out	%al, $DONE
program_end dirty

	.section .note.GNU-stack,"",@progbits
