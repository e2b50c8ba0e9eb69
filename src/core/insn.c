// SPDX-License-Identifier: MIT
/* What an instruction is, Zydis says; where it reaches, the registers and segments say. */
#include "core/insn.h"

#include <stdlib.h>
#include <string.h>

#include "core/child.h"
#include "core/walk.h"

#define EFER_LMA  BIT64(10)
#define SEG_LONG  BIT(13)
#define SEG_DB	  BIT(14)
#define CR0_PE	  BIT64(0)
#define RFLAGS_VM BIT64(17)

#define INTERRUPT_FRAME_BYTES 56 /* the most that the delivery of an event pushes */

static bool is_64bit(const struct engine_sregs *s)
{
	return (s->efer & EFER_LMA) && (s->cs.attributes & SEG_LONG);
}

u64 insn_linear(const struct engine_sregs *s, u64 rip)
{
	return is_64bit(s) ? rip : (u32)(s->cs.base + rip);
}

/* How Zydis is to read: the mode of the code, and how wide its stack is. */
struct reading {
	ZydisMachineMode mode;
	ZydisStackWidth stack;
};

static struct reading reading_of(const struct engine_sregs *s)
{
	ZydisStackWidth stack =
		s->ss.attributes & SEG_DB ? ZYDIS_STACK_WIDTH_32 : ZYDIS_STACK_WIDTH_16;

	if (is_64bit(s))
		return (struct reading){ ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64 };
	if (s->cs.attributes & SEG_DB)
		return (struct reading){ ZYDIS_MACHINE_MODE_LEGACY_32, stack };
	if (!(s->cr0 & CR0_PE))
		return (struct reading){ ZYDIS_MACHINE_MODE_REAL_16, ZYDIS_STACK_WIDTH_16 };
	return (struct reading){ ZYDIS_MACHINE_MODE_LEGACY_16, stack };
}

#define MEMOS 64u

struct insn_memo {
	struct memo {
		struct reading how;
		u32 count; /* of bytes; 0: nothing yet */
		u8 bytes[ZYDIS_MAX_INSTRUCTION_LENGTH];
		bool decoded;
		struct insn insn;
	} memo[MEMOS];
};

struct insn_memo *insn_memo_create(void)
{
	return calloc(1, sizeof(struct insn_memo));
}

void insn_memo_destroy(struct insn_memo *memo)
{
	free(memo);
}

static struct memo *memo_of(struct insn_memo *memo, struct reading how, const u8 *bytes, u32 count)
{
	u32 hash = (u32)how.mode * 31 + count;

	for (u32 i = 0; i < count; i++)
		hash = hash * 31 + bytes[i];
	return &memo->memo[hash % MEMOS];
}

static bool is_of(const struct memo *m, struct reading how, const u8 *bytes, u32 count)
{
	return m->count == count && m->how.mode == how.mode && m->how.stack == how.stack &&
	       memcmp(m->bytes, bytes, count) == 0;
}

static bool decode(struct reading how, const u8 *bytes, u32 count, struct insn *out)
{
	ZydisDecoder decoder;

	return ZYAN_SUCCESS(ZydisDecoderInit(&decoder, how.mode, how.stack)) &&
	       ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, bytes, count, &out->z, out->op));
}

bool insn_decode(struct insn_memo *memo, const struct engine_sregs *s, const u8 *bytes, u32 count,
		 struct insn *out)
{
	struct reading how = reading_of(s);
	struct memo *m;

	if (!count)
		return false;
	count = count < ZYDIS_MAX_INSTRUCTION_LENGTH ? count : ZYDIS_MAX_INSTRUCTION_LENGTH;
	if (!memo)
		return decode(how, bytes, count, out);
	m = memo_of(memo, how, bytes, count);
	if (!is_of(m, how, bytes, count)) {
		*m = (struct memo){ .how = how, .count = count };
		memcpy(m->bytes, bytes, count);
		m->decoded = decode(how, bytes, count, &m->insn);
	}
	if (m->decoded)
		*out = m->insn;
	return m->decoded;
}

u64 *insn_gpr_at(struct engine_regs *r, u32 i)
{
	u64 *const in_order[16] = { &r->rax, &r->rcx, &r->rdx, &r->rbx, &r->rsp, &r->rbp,
				    &r->rsi, &r->rdi, &r->r8,  &r->r9,	&r->r10, &r->r11,
				    &r->r12, &r->r13, &r->r14, &r->r15 };

	return in_order[i % 16];
}

bool insn_gpr(const struct engine_regs *r, ZydisRegister reg, u64 *value)
{
	struct engine_regs copy = *r;
	ZydisRegister whole = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);
	u32 bits = ZydisRegisterGetWidth(ZYDIS_MACHINE_MODE_LONG_64, reg);

	if (whole < ZYDIS_REGISTER_RAX || whole > ZYDIS_REGISTER_R15 || !bits || bits > 64)
		return false;
	*value = *insn_gpr_at(&copy, (u32)(whole - ZYDIS_REGISTER_RAX));
	if (reg >= ZYDIS_REGISTER_AH && reg <= ZYDIS_REGISTER_BH)
		*value >>= 8;
	*value &= MASK64(bits - 1, 0);
	return true;
}

u64 insn_address_mask(const struct insn *insn)
{
	return MASK64(insn->z.address_width - 1, 0);
}

static bool is_stack_pointer(ZydisRegister reg)
{
	return reg == ZYDIS_REGISTER_SP || reg == ZYDIS_REGISTER_ESP || reg == ZYDIS_REGISTER_RSP;
}

static const struct engine_segment *segment_of(const struct engine_sregs *s, ZydisRegister reg)
{
	switch (reg) {
	case ZYDIS_REGISTER_ES:
		return &s->es;
	case ZYDIS_REGISTER_CS:
		return &s->cs;
	case ZYDIS_REGISTER_SS:
		return &s->ss;
	case ZYDIS_REGISTER_FS:
		return &s->fs;
	case ZYDIS_REGISTER_GS:
		return &s->gs;
	default:
		return &s->ds;
	}
}

static u64 linear_of(const struct engine_sregs *s, ZydisRegister segment, u64 offset)
{
	if (!is_64bit(s))
		return (u32)(segment_of(s, segment)->base + offset);
	if (segment == ZYDIS_REGISTER_FS || segment == ZYDIS_REGISTER_GS)
		offset += segment_of(s, segment)->base;
	return offset;
}

static bool register_part(const struct insn *insn, ZydisRegister reg, const struct engine_regs *r,
			  u64 rip, u64 *value)
{
	*value = 0;
	if (reg == ZYDIS_REGISTER_NONE)
		return true;
	if (reg == ZYDIS_REGISTER_RIP || reg == ZYDIS_REGISTER_EIP || reg == ZYDIS_REGISTER_IP) {
		*value = rip + insn->z.length;
		return true;
	}
	return insn_gpr(r, reg, value);
}

/* BT and its kin with a register reach beyond their operand. */
static u64 bit_string_offset(const struct insn *insn, const ZydisDecodedOperand *op,
			     const struct engine_regs *r)
{
	const ZydisDecodedOperand *bit = &insn->op[1];
	u32 bits = op->size;
	u64 value;

	switch (insn->z.mnemonic) {
	case ZYDIS_MNEMONIC_BT:
	case ZYDIS_MNEMONIC_BTC:
	case ZYDIS_MNEMONIC_BTR:
	case ZYDIS_MNEMONIC_BTS:
		break;
	default:
		return 0;
	}
	if (op != &insn->op[0] || bit->type != ZYDIS_OPERAND_TYPE_REGISTER || bits < 16 ||
	    bits > 64 || !insn_gpr(r, bit->reg.value, &value))
		return 0;
	return (u64)((s64)(value << (64 - bits)) >> (64 - bits) >> 3) & ~(u64)(bits / 8 - 1);
}

bool insn_operand(const struct insn *insn, const ZydisDecodedOperand *op,
		  const struct engine_regs *r, const struct engine_sregs *s, u64 rip, u64 *gva)
{
	bool hidden = op->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN;
	u64 base, index, offset, mask = insn_address_mask(insn);

	if (op->type != ZYDIS_OPERAND_TYPE_MEMORY || op->mem.type == ZYDIS_MEMOP_TYPE_AGEN ||
	    op->mem.type == ZYDIS_MEMOP_TYPE_VSIB ||
	    !register_part(insn, op->mem.base, r, rip, &base) ||
	    !register_part(insn, op->mem.index, r, rip, &index))
		return false;
	offset = base + index * op->mem.scale + bit_string_offset(insn, op, r);
	if (op->mem.index != ZYDIS_REGISTER_NONE && !op->mem.scale)
		offset += index;
	if (op->mem.disp.has_displacement)
		offset += (u64)op->mem.disp.value;
	if (is_stack_pointer(op->mem.base)) {
		/* What is pushed lies below the stack pointer, POP counts from the one after it. */
		if (hidden)
			mask = MASK64(insn->z.stack_width - 1, 0);
		if (hidden && (op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
			offset -= op->size / 8;
		else if (!hidden && insn->z.mnemonic == ZYDIS_MNEMONIC_POP)
			offset += op->size / 8;
	}
	*gva = linear_of(s, op->mem.segment, offset & mask);
	return true;
}

struct scan {
	struct vp *vp;
	struct engine_sregs s;
	insn_touches_fn touches;
	void *ctx;
};

static bool scan_address(const struct scan *c, u64 gva, bool write, bool fetch)
{
	struct insn_access a = { .gva = gva, .write = write, .fetch = fetch };
	struct walk_path path;

	if (walk_path(c->vp, &c->s, gva, HV_TRANSLATE_PRIVILEGE_EXEMPT, &path) ==
	    HV_TRANSLATE_SUCCESS) {
		a.gpa = path.gpa;
		if (c->touches(c->ctx, &a))
			return true;
	}
	a.write = a.fetch = false;
	a.table = true;
	for (u32 i = 0; i < path.tables; i++) {
		a.gpa = path.table[i];
		if (c->touches(c->ctx, &a))
			return true;
	}
	return false;
}

static bool scan_range(const struct scan *c, u64 gva, u32 bytes, bool write, bool fetch)
{
	u64 last = gva + (bytes ? bytes - 1 : 0);

	return scan_address(c, gva, write, fetch) ||
	       (last / PAGE_BYTES != gva / PAGE_BYTES &&
		scan_address(c, last & ~(u64)(PAGE_BYTES - 1), write, fetch));
}

static bool scan_operands(const struct scan *c, const struct insn *insn, bool write)
{
	const struct engine_regs *r = c->vp->vcpu->regs;
	u64 gva;

	for (u32 i = 0; i < insn->z.operand_count; i++) {
		const ZydisDecodedOperand *op = &insn->op[i];
		bool writes = op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;

		if (writes == write && insn_operand(insn, op, r, &c->s, r->rip, &gva) &&
		    scan_range(c, gva, op->size / 8, write, false))
			return true;
	}
	return false;
}

/* Where the delivery of an interrupt or exception reads and writes. */
static bool scan_delivery(const struct scan *c)
{
	u64 sp = linear_of(&c->s, ZYDIS_REGISTER_SS, c->vp->vcpu->regs->rsp);
	u64 stack0 = 0; /* the kernel's, in the task segment */
	u64 field = c->s.tr.base + 4;

	if (scan_range(c, c->s.idt.base, c->s.idt.limit + 1u, false, false) ||
	    scan_range(c, c->s.gdt.base, c->s.gdt.limit + 1u, false, false) ||
	    scan_range(c, sp - INTERRUPT_FRAME_BYTES, INTERRUPT_FRAME_BYTES, true, false) ||
	    scan_range(c, c->s.tr.base, 104, false, false))
		return true;
	return walk_read_sregs(c->vp, &c->s, field, &stack0, is_64bit(&c->s) ? 8 : 4) &&
	       scan_range(c, stack0 - INTERRUPT_FRAME_BYTES, INTERRUPT_FRAME_BYTES, true, false);
}

bool insn_touches(struct vp *vp, insn_touches_fn touches, void *ctx)
{
	struct scan c = { .vp = vp, .touches = touches, .ctx = ctx };
	u8 bytes[ZYDIS_MAX_INSTRUCTION_LENGTH];
	struct insn insn;
	u64 rip;
	u32 n;

	if (vp->vcpu->ops->vcpu_get_sregs(vp->vcpu, &c.s) < 0)
		return false;
	rip = insn_linear(&c.s, vp->vcpu->regs->rip);
	n = walk_read_sregs(vp, &c.s, rip, bytes, sizeof(bytes));
	if (insn_decode(vp->child ? vp->child->memo : NULL, &c.s, bytes, n, &insn)) {
		if (scan_range(&c, rip, insn.z.length, false, true) ||
		    scan_operands(&c, &insn, true) || scan_operands(&c, &insn, false))
			return true;
	} else if (scan_range(&c, rip, sizeof(bytes), false, true)) {
		return true;
	}
	return scan_delivery(&c);
}
