/* SPDX-License-Identifier: MIT */
/*
 * The instructions of a guest: fetched, decoded in the mode of its code segment,
 * and where their operands lie. The VP is not in the guest.
 */
#ifndef NESTOR_CORE_INSN_H
#define NESTOR_CORE_INSN_H

#include <Zydis/Zydis.h>

#include "core/vp.h"

struct insn_memo;

struct insn {
	ZydisDecodedInstruction z;
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
};

/* Linear address of @rip. */
u64 insn_linear(const struct engine_sregs *s, u64 rip);

/*
 * What was decoded lately, of one VP: a driver reaches its device from few places. NULL: no
 * memory.
 */
struct insn_memo *insn_memo_create(void);
void insn_memo_destroy(struct insn_memo *memo);

/*
 * Decodes what begins at @bytes, of which @count are known. False: it is no instruction. @memo:
 * who may use it keeps others out; may be NULL.
 */
bool insn_decode(struct insn_memo *memo, const struct engine_sregs *s, const u8 *bytes, u32 count,
		 struct insn *out);

/* A general purpose register of any size: its value. False: not one. */
bool insn_gpr(const struct engine_regs *r, ZydisRegister reg, u64 *value);
/* The general purpose register with this number (rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8...). */
u64 *insn_gpr_at(struct engine_regs *r, u32 i);

/* The instruction's addresses have so many bits; a register of that width. */
u64 insn_address_mask(const struct insn *insn);

/*
 * Linear address of a memory operand, with the registers as they are before the
 * instruction. @rip: of the instruction. False: it is not in memory, or has more
 * than one address.
 */
bool insn_operand(const struct insn *insn, const ZydisDecodedOperand *op,
		  const struct engine_regs *r, const struct engine_sregs *s, u64 rip, u64 *gva);

/* Repeated by RCX. */
static inline bool insn_is_rep(const struct insn *insn)
{
	return insn->z.attributes &
	       (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE);
}

/* A page that an instruction needs. */
struct insn_access {
	u64 gpa;
	u64 gva;
	bool write, fetch;
	bool table; /* of the page tables; @gva is what was translated */
};

/*
 * Calls @touches for every page the instruction at RIP may need, most likely first:
 * its bytes, its operands, stack, and the page tables to all of them; then what the
 * delivery of an event needs. Ends with true when @touches gives true.
 */
typedef bool (*insn_touches_fn)(void *ctx, const struct insn_access *access);
bool insn_touches(struct vp *vp, insn_touches_fn touches, void *ctx);

#endif
