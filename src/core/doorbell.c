// SPDX-License-Identifier: MIT
/* An eventfd per connection behind a port; KVM finds it by the value that is written. */
#include "core/doorbell.h"

#include <string.h>

#include "base/log.h"
#include "core/hypercall.h"

#define SIGNAL_FAST   (HVCALL_SIGNAL_EVENT | HV_HYPERCALL_FAST)
#define SIGNAL_NESTED (SIGNAL_FAST | HV_HYPERCALL_NESTED)

/*
 * A kernel may call its page from 32-bit code too: 63 C0 is MOVSXD EAX, EAX in 64-bit mode, which
 * keeps the flags, and ARPL AX, AX elsewhere, which clears ZF and nothing more. From there
 * on only RAX and the flags change. An event flag, in the upper half of RDX, is for the trap.
 */
__asm__(".pushsection .rodata\n"
	"doorbell_code:\n"
	"	cmpl %eax, %eax\n"
	"	.byte 0x63, 0xC0\n"
	"	jne doorbell_trap\n"
	"	cmpq $0x1005D, %rcx\n"
	"	je 1f\n"
	"	movl $0x8001005D, %eax\n"
	"	cmpq %rax, %rcx\n"
	"	jne doorbell_trap\n"
	"	movl %edx, %eax\n"
	"	cmpq %rax, %rdx\n"
	"	jne doorbell_trap\n"
	"doorbell_out_nested:\n"
	"	outl %eax, $0x7B\n"
	"	xorl %eax, %eax\n"
	"	ret\n"
	"1:	movl %edx, %eax\n"
	"	cmpq %rax, %rdx\n"
	"	jne doorbell_trap\n"
	"doorbell_out_plain:\n"
	"	outl %eax, $0x7A\n"
	"	xorl %eax, %eax\n"
	"	ret\n"
	"doorbell_trap:\n"
	"	inl $0x7C, %eax\n"
	"	ret\n"
	"doorbell_end:\n"
	".popsection");
_Static_assert(SIGNAL_FAST == 0x1005D && SIGNAL_NESTED == 0x8001005D && DOORBELL_PORT == 0x7A &&
		       DOORBELL_PORT + DOORBELL_NESTED == 0x7B && HYPERCALL_PORT == 0x7C,
	       "the code has them as numbers");

extern const u8 doorbell_code[], doorbell_out_plain[], doorbell_out_nested[], doorbell_trap[],
	doorbell_end[];

void doorbell_code_put(u8 *page)
{
	memcpy(page, doorbell_code, (size_t)(doorbell_end - doorbell_code));
}

/* From the OUT to the trap. */
static u32 to_trap(enum doorbell_way way)
{
	return (u32)(doorbell_trap -
		     (way == DOORBELL_NESTED ? doorbell_out_nested : doorbell_out_plain));
}

bool doorbell_wanted(const struct partition *p)
{
	return p->rings_doorbells && !trace_on && !p->config.fails;
}

/* Whose call it is when a signal for a connection of @p comes this way; NULL: it does not. */
static struct partition *caller(struct partition *p, enum doorbell_way way)
{
	if (!p->inner)
		return way == DOORBELL_PLAIN ? p : NULL;
	if (way == DOORBELL_NESTED)
		return p;
	return p->inner->config.quirks & BIT(QUIRK_FORWARD_SIGNAL) ? p->inner : NULL;
}

static void set(struct partition *p, u32 id, const int fd[DOORBELL_WAYS], bool add)
{
	u64 match = id;

	for (u32 way = 0; way < DOORBELL_WAYS; way++) {
		const struct partition *by = caller(p, way);
		int ret;

		if (!by || !doorbell_wanted(by) || !partition_has(by, HV_PRIV_SIGNAL_EVENTS))
			continue;
		ret = p->vm->ops->vm_ioeventfd(p->vm, DOORBELL_PORT + way, sizeof(u32), false,
					       &match, fd[way], add);
		if (ret < 0 && add)
			log_debug("no doorbell for connection %#x (errno %d)", id, -ret);
	}
}

void doorbell_add(struct partition *p, u32 id, const int fd[DOORBELL_WAYS])
{
	set(p, id, fd, true);
}

void doorbell_remove(struct partition *p, u32 id, const int fd[DOORBELL_WAYS])
{
	set(p, id, fd, false);
}

void doorbell_rang(struct partition *p, enum doorbell_way way, u64 n)
{
	struct partition *by = caller(p, way);

	if (!by)
		return;
	__atomic_fetch_add(&by->doorbells.served, n, __ATOMIC_RELAXED);
	if (by == p)
		return;
	__atomic_fetch_add(&by->doorbells.forwarded, n, __ATOMIC_RELAXED);
	__atomic_fetch_add(&by->quirk_uses[QUIRK_FORWARD_SIGNAL], n, __ATOMIC_RELAXED);
}

/* The registers say whether it was that code; anybody else writes to a port nobody has. */
bool doorbell_exit(struct vp *vp, const struct engine_exit *exit)
{
	struct engine_regs *r = vp->vcpu->regs;
	u32 way = exit->io.port - DOORBELL_PORT;

	if (exit->kind != ENGINE_EXIT_IO || way >= DOORBELL_WAYS || !exit->io.write ||
	    exit->io.size != sizeof(u32) || r->rdx != r->rax ||
	    r->rcx != (way == DOORBELL_NESTED ? SIGNAL_NESTED : SIGNAL_FAST) ||
	    !doorbell_wanted(vp->partition))
		return false;
	r->rip += to_trap(way);
	vp->vcpu->regs_dirty = true;
	return true;
}
