// SPDX-License-Identifier: MIT
/*
 * The engine says only that an access failed, with the state before it. So the
 * instruction is decoded and each address it uses is walked through the guest's
 * page tables.
 */
#include "core/donated.h"

#include <Zydis/Zydis.h>

static bool is_donated(struct vp *vp, u64 gva, u64 *gpa, u32 *serial)
{
	if (vp->vcpu->ops->vcpu_translate(vp->vcpu, gva, gpa) < 0)
		return false;
	*serial = gmem_donated(vp->partition->gmem, *gpa);
	return *serial != 0;
}

static u32 fetch(struct vp *vp, u64 rip, u8 bytes[ZYDIS_MAX_INSTRUCTION_LENGTH])
{
	u32 n = 0;
	u64 gpa;

	while (n < ZYDIS_MAX_INSTRUCTION_LENGTH) {
		u32 run = (u32)min_u64(PAGE_BYTES - (rip + n) % PAGE_BYTES,
				       ZYDIS_MAX_INSTRUCTION_LENGTH - n);

		if (vp->vcpu->ops->vcpu_translate(vp->vcpu, rip + n, &gpa) < 0 ||
		    gmem_read(vp->partition->gmem, gpa, bytes + n, run) < 0)
			break;
		n += run;
	}
	return n;
}

static void context(const struct engine_regs *r, ZydisRegisterContext *c)
{
	const u64 in_order[16] = { r->rax, r->rcx, r->rdx, r->rbx, r->rsp, r->rbp, r->rsi, r->rdi,
				   r->r8,  r->r9,  r->r10, r->r11, r->r12, r->r13, r->r14, r->r15 };

	*c = (ZydisRegisterContext){ 0 };
	for (u32 i = 0; i < 16; i++) {
		c->values[ZYDIS_REGISTER_RAX + i] = in_order[i];
		c->values[ZYDIS_REGISTER_EAX + i] = (u32)in_order[i];
	}
	c->values[ZYDIS_REGISTER_RIP] = r->rip;
}

static u64 segment_base(const struct engine_sregs *s, ZydisRegister segment)
{
	if (segment == ZYDIS_REGISTER_FS)
		return s->fs.base;
	return segment == ZYDIS_REGISTER_GS ? s->gs.base : 0;
}

static bool operand_donated(struct vp *vp, const ZydisDecodedInstruction *insn,
			    const ZydisDecodedOperand *op, const ZydisRegisterContext *regs,
			    const struct engine_sregs *sregs, u64 *gpa, u32 *serial)
{
	ZyanU64 gva;
	u64 last;

	if (op->type != ZYDIS_OPERAND_TYPE_MEMORY || op->mem.type == ZYDIS_MEMOP_TYPE_AGEN ||
	    ZYAN_FAILED(ZydisCalcAbsoluteAddressEx(insn, op, vp->vcpu->regs->rip, regs, &gva)))
		return false;
	gva += segment_base(sregs, op->mem.segment);
	/* What is pushed lies below the stack pointer of before. */
	if (op->mem.base == ZYDIS_REGISTER_RSP &&
	    op->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN &&
	    (op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
		gva -= op->size / 8;
	last = gva + (op->size ? op->size / 8 - 1 : 0);
	return is_donated(vp, gva, gpa, serial) || is_donated(vp, last, gpa, serial);
}

bool donated_find(struct vp *vp, u64 *gpa, u32 *serial)
{
	u64 rip = vp->vcpu->regs->rip;
	u8 bytes[ZYDIS_MAX_INSTRUCTION_LENGTH];
	ZydisDecoder decoder;
	ZydisDecodedInstruction insn;
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
	ZydisRegisterContext regs;
	struct engine_sregs sregs;
	u32 n;

	if (is_donated(vp, rip, gpa, serial))
		return true;
	n = fetch(vp, rip, bytes);
	if (vp->vcpu->ops->vcpu_get_sregs(vp->vcpu, &sregs) < 0 ||
	    ZYAN_FAILED(
		    ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64)) ||
	    ZYAN_FAILED(ZydisDecoderDecodeFull(&decoder, bytes, n, &insn, op)))
		return false;
	context(vp->vcpu->regs, &regs);
	for (u32 i = 0; i < insn.operand_count; i++)
		if (operand_donated(vp, &insn, &op[i], &regs, &sregs, gpa, serial))
			return true;
	return false;
}
