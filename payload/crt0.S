/* SPDX-License-Identifier: MIT */
/*
 * Entry from the monitor (64-bit, first 4 GiB mapped one to one, RSI = boot_params),
 * interrupt entry, and the few things C cannot say: leaving a trap, ring 3, the
 * 32-bit form of a hypercall, the first steps of another processor.
 */
#include "payload/asm.h"

	.section .text.start, "ax"
	.global _start
_start:
	cli
	cld
	lea	boot_stack_top(%rip), %rsp
	mov	%rsi, boot_params_gpa(%rip)
	xor	%ebp, %ebp
	call	kit_start
1:	hlt
	jmp	1b

	.text
/* int jmp_save(struct jmp *): 0 at first, 1 when jmp_resume() comes back to it. */
	.global jmp_save
jmp_save:
	mov	%rbx, 0(%rdi)
	mov	%rbp, 8(%rdi)
	mov	%r12, 16(%rdi)
	mov	%r13, 24(%rdi)
	mov	%r14, 32(%rdi)
	mov	%r15, 40(%rdi)
	lea	8(%rsp), %rax
	mov	%rax, 48(%rdi)
	mov	(%rsp), %rax
	mov	%rax, 56(%rdi)
	pushfq
	popq	64(%rdi)
	xor	%eax, %eax
	ret

	.global jmp_resume
jmp_resume:
	mov	$SEL_DATA, %eax		/* leaving ring 3 the hard way */
	mov	%eax, %ss
	mov	%eax, %ds
	mov	%eax, %es
	mov	0(%rdi), %rbx
	mov	8(%rdi), %rbp
	mov	16(%rdi), %r12
	mov	24(%rdi), %r13
	mov	32(%rdi), %r14
	mov	40(%rdi), %r15
	mov	48(%rdi), %rsp
	pushq	64(%rdi)
	popfq
	mov	$1, %eax
	jmp	*56(%rdi)

/* Interrupt entry points, 16 bytes apart. */
	.balign	16
	.global vectors
vectors:
	vector = 0
	.rept	256
	.balign	16
	.if	!(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 || vector == 29 || vector == 30)
	pushq	$0
	.endif
	pushq	$vector
	jmp	vector_common
	vector = vector + 1
	.endr

vector_common:
	push	%rax
	push	%rcx
	push	%rdx
	push	%rbx
	push	%rbp
	push	%rsi
	push	%rdi
	push	%r8
	push	%r9
	push	%r10
	push	%r11
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	cld
	mov	%rsp, %rdi
	mov	%rsp, %rbp
	and	$-16, %rsp
	call	trap_entry
	mov	%rbp, %rsp
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%r11
	pop	%r10
	pop	%r9
	pop	%r8
	pop	%rdi
	pop	%rsi
	pop	%rbp
	pop	%rbx
	pop	%rdx
	pop	%rcx
	pop	%rax
	add	$16, %rsp
	iretq

/* void segments_load(void): the new GDT's selectors. */
	.global segments_load
segments_load:
	pop	%rdx
	mov	$SEL_DATA, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	xor	%eax, %eax
	mov	%eax, %fs
	mov	%eax, %gs
	pushq	$SEL_CODE64
	push	%rdx
	lretq

/* void user_enter(void (*fn)(void *), void *arg, u64 rflags, void *stack) */
	.global user_enter
user_enter:
	sub	$8, %rcx
	lea	user_return(%rip), %rax
	mov	%rax, (%rcx)
	pushq	$SEL_USER_DATA
	push	%rcx
	push	%rdx
	pushq	$SEL_USER_CODE64
	push	%rdi
	mov	%rsi, %rdi
	iretq
user_return:
	int	$VECTOR_USER_RETURN

/* void hv_call_64(struct hv_call *): calls the page with all registers watched. */
	.global hv_call_64
hv_call_64:
	push	%rbx
	push	%rbp
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	push	%rdi
	movdqu	HC_XMM+0x00(%rdi), %xmm0
	movdqu	HC_XMM+0x10(%rdi), %xmm1
	movdqu	HC_XMM+0x20(%rdi), %xmm2
	movdqu	HC_XMM+0x30(%rdi), %xmm3
	movdqu	HC_XMM+0x40(%rdi), %xmm4
	movdqu	HC_XMM+0x50(%rdi), %xmm5
	mov	HC_PAGE(%rdi), %rax
	mov	HC_CONTROL(%rdi), %rcx
	mov	HC_INPUT(%rdi), %rdx
	mov	HC_OUTPUT(%rdi), %r8
	mov	$0x1111, %ebx
	mov	$0x2222, %ebp
	mov	$0x3333, %esi
	mov	$0x4444, %edi
	mov	$0x5555, %r12d
	mov	$0x6666, %r13d
	mov	$0x7777, %r14d
	mov	$0x8888, %r15d
	call	*%rax
	/* What must survive, summed into one value. */
	add	%rbp, %rbx
	add	%rsi, %rbx
	add	%rdi, %rbx
	add	%r12, %rbx
	add	%r13, %rbx
	add	%r14, %rbx
	add	%r15, %rbx
	pop	%rdi
	mov	%rax, HC_RESULT(%rdi)
	mov	%rbx, HC_SURVIVORS(%rdi)
	mov	%rdx, HC_INPUT(%rdi)
	mov	%r8, HC_OUTPUT(%rdi)
	movdqu	%xmm0, HC_XMM+0x00(%rdi)
	movdqu	%xmm1, HC_XMM+0x10(%rdi)
	movdqu	%xmm2, HC_XMM+0x20(%rdi)
	movdqu	%xmm3, HC_XMM+0x30(%rdi)
	movdqu	%xmm4, HC_XMM+0x40(%rdi)
	movdqu	%xmm5, HC_XMM+0x50(%rdi)
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbp
	pop	%rbx
	ret

/* void hv_call_32(struct hv_call *): the same in a 32-bit code segment. */
	.global hv_call_32
hv_call_32:
	push	%rbx
	push	%rbp
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	mov	%rdi, %rbp
	pushq	$SEL_CODE32
	lea	1f(%rip), %rax
	push	%rax
	lretq
	.code32
1:	push	%ebp
	mov	HC_CONTROL+4(%ebp), %edx
	mov	HC_CONTROL(%ebp), %eax
	mov	HC_INPUT+4(%ebp), %ebx
	mov	HC_INPUT(%ebp), %ecx
	mov	HC_OUTPUT+4(%ebp), %edi
	mov	HC_OUTPUT(%ebp), %esi
	call	*HC_PAGE(%ebp)
	pop	%ebp
	mov	%eax, HC_RESULT(%ebp)
	mov	%edx, HC_RESULT+4(%ebp)
	ljmp	$SEL_CODE64, $2f
	.code64
2:	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbp
	pop	%rbx
	ret

/* Copied to AP_GPA; a started processor begins here in real mode. */
	.balign	16
	.global ap_trampoline, ap_trampoline_end, ap_gdtr, ap_cr3, ap_stack
ap_trampoline:
	.code16
	cli
	mov	%cs, %ax
	mov	%ax, %ds
	lgdtl	ap_gdtr - ap_trampoline
	movl	ap_cr3 - ap_trampoline, %eax
	mov	%eax, %cr3
	mov	$0x20, %eax		/* PAE */
	mov	%eax, %cr4
	mov	$0xC0000080, %ecx	/* EFER.LME */
	rdmsr
	or	$0x100, %eax
	wrmsr
	mov	$0x80000031, %eax	/* PG, NE, ET, PE */
	mov	%eax, %cr0
	ljmpl	$SEL_CODE64, $(AP_GPA + ap_long - ap_trampoline)
	.code64
ap_long:
	mov	$SEL_DATA, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	mov	ap_stack(%rip), %rsp
	xor	%ebp, %ebp
	mov	$ap_start, %rax
	jmp	*%rax
	.balign	8
ap_gdtr:
	.word	0
	.long	0
	.balign	8
ap_cr3:	.quad	0
ap_stack:
	.quad	0
ap_trampoline_end:

	.bss
	.balign	16
	.skip	16384
boot_stack_top:

	.section .note.GNU-stack,"",@progbits
