// SPDX-License-Identifier: MIT
/*
 * The engine stops before an instruction or after it; a parent always sees it not
 * executed. After it, the instruction is looked for backwards from RIP: what ends
 * there, reaches the address of the exit and gives the value that was written, did
 * it, and few instructions change a register besides. Those are undone.
 */
#include "core/intercept.h"

#include <string.h>

#include "base/log.h"
#include "core/child.h"
#include "core/gpa_map.h"
#include "core/insn.h"
#include "core/walk.h"

#define LENGTH_MAX	ZYDIS_MAX_INSTRUCTION_LENGTH
#define ENGINE_PART_MAX 8 /* bytes that one exit tells of */
#define UNEXPLAINED_MAX 16

#define CR0_PE	  BIT64(0)
#define CR0_AM	  BIT64(18)
#define EFER_LMA  BIT64(10)
#define RFLAGS_DF BIT64(10)

#define SEG_DPL_SHIFT 5

/* A VP that stopped, and what is known of the instruction. */
struct stop {
	struct vp *vp;
	struct engine_sregs s;
	struct engine_events events;
	struct engine_regs before; /* of the instruction */
	struct insn insn;
	bool known;		      /* insn is the one */
	u8 bytes[HV_INTERCEPT_BYTES]; /* from before.rip */
	u32 byte_count;
	bool has_xmm;
	u8 xmm[16][16];
};

static void stop_init(struct stop *st, struct vp *vp)
{
	*st = (struct stop){ .vp = vp, .before = *vp->vcpu->regs };
	if (vp->vcpu->ops->vcpu_get_sregs(vp->vcpu, &st->s) < 0 ||
	    vp->vcpu->ops->vcpu_get_events(vp->vcpu, &st->events) < 0)
		log_limited(LOG_ERROR, "the state of VP %u cannot be read", vp->index);
}

static void fetch(struct stop *st)
{
	st->byte_count = walk_read_sregs(st->vp, &st->s, insn_linear(&st->s, st->before.rip),
					 st->bytes, sizeof(st->bytes));
}

/* Reads and decodes what is at before.rip. */
static bool decode(struct stop *st)
{
	fetch(st);
	return insn_decode(st->vp->child->memo, &st->s, st->bytes, st->byte_count, &st->insn);
}

static bool is_gpa(struct stop *st, u64 gva, u64 gpa)
{
	struct walk_path path;

	return walk_path(st->vp, &st->s, gva, HV_TRANSLATE_PRIVILEGE_EXEMPT, &path) ==
		       HV_TRANSLATE_SUCCESS &&
	       path.gpa == gpa;
}

/* The message. */

static struct hv_x64_segment segment(const struct engine_segment *s)
{
	return (struct hv_x64_segment){ .base = s->base,
					.limit = s->limit,
					.selector = s->selector,
					.attributes = s->attributes };
}

static u16 execution_state(const struct stop *st)
{
	u16 state = st->s.ss.attributes >> SEG_DPL_SHIFT & HV_EXECUTION_CPL_MASK;

	state |= st->s.cr0 & CR0_PE ? HV_EXECUTION_CR0_PE : 0;
	state |= st->s.cr0 & CR0_AM ? HV_EXECUTION_CR0_AM : 0;
	state |= st->s.efer & EFER_LMA ? HV_EXECUTION_EFER_LMA : 0;
	state |= st->events.injected ? HV_EXECUTION_INTERRUPTION_PENDING : 0;
	state |= st->events.interrupt_shadow ? HV_EXECUTION_INTERRUPT_SHADOW : 0;
	return state;
}

static struct hv_intercept_header header(const struct stop *st, enum hv_intercept_access access)
{
	u8 length = st->known ? st->insn.z.length : 0;

	return (struct hv_intercept_header){ .vp_index = st->vp->index,
					     .length_cr8 = (u8)(length | (st->s.cr8 & 0xF) << 4),
					     .access = (u8)access,
					     .execution_state = execution_state(st),
					     .cs = segment(&st->s.cs),
					     .rip = st->before.rip,
					     .rflags = st->before.rflags };
}

static void send(struct vp *vp, enum hv_intercept_message type, const void *payload, u8 bytes)
{
	struct hv_message *m = &vp->child->intercept;

	*m = (struct hv_message){ .type = (u32)type,
				  .payload_bytes = bytes,
				  .sender = vp->partition->id };
	memcpy(m->payload, payload, bytes);
	child_vp_intercept(vp);
}

/* The VP is what it was before the instruction, and nothing of that is left to the engine. */
static void hand_over(struct stop *st, u32 flags)
{
	struct engine_vcpu *vcpu = st->vp->vcpu;

	if (memcmp(vcpu->regs, &st->before, sizeof(st->before)) != 0) {
		*vcpu->regs = st->before;
		vcpu->regs_dirty = true;
	}
	if (vcpu->ops->vcpu_drop(vcpu, flags) < 0)
		log_limited(LOG_ERROR, "an instruction of VP %u could not be undone",
			    st->vp->index);
}

static void unrecoverable(struct stop *st)
{
	struct hv_intercept_header h;

	hand_over(st, 0);
	h = header(st, HV_INTERCEPT_READ);
	send(st->vp, HV_MESSAGE_UNRECOVERABLE_EXCEPTION, &h, sizeof(h));
}

/* A stop between instructions: the last one is finished first. */
static void complete(struct vp *vp)
{
	if (vp->vcpu->ops->vcpu_complete(vp->vcpu) < 0)
		log_limited(LOG_ERROR, "an instruction of VP %u could not be finished", vp->index);
}

/* Undoing. */

static void register_add(u64 *reg, u64 delta, u32 bits)
{
	u64 mask = MASK64(bits - 1, 0);

	/* Writing 32 bits clears the others, fewer leave them. */
	*reg = bits == 32 ? (u32)(*reg + delta) : (*reg & ~mask) | ((*reg + delta) & mask);
}

/* Bytes that the string instruction moved its pointers on with each element. */
static u64 string_step(const struct stop *st, u32 bytes)
{
	return st->before.rflags & RFLAGS_DF ? 0 - (u64)bytes : bytes;
}

static void undo_element(struct stop *st, u32 bytes, bool source, bool destination)
{
	u32 bits = st->insn.z.address_width;
	u64 step = string_step(st, bytes);

	if (source)
		register_add(&st->before.rsi, 0 - step, bits);
	if (destination)
		register_add(&st->before.rdi, 0 - step, bits);
	if (insn_is_rep(&st->insn))
		register_add(&st->before.rcx, 1, bits);
}

/*
 * Instructions that end at RIP, the longest first: what looks like a prefix mostly
 * is one. @fits sees before.rip at the candidate and may undo registers, which are
 * those of the exit again for the next. False: none fits.
 */
static bool find_back(struct stop *st, bool (*fits)(struct stop *st, void *arg), void *arg)
{
	const struct engine_regs after = *st->vp->vcpu->regs;
	u8 code[LENGTH_MAX];
	u64 end = insn_linear(&st->s, after.rip);
	u32 have = walk_read_sregs(st->vp, &st->s, end - LENGTH_MAX, code, LENGTH_MAX);
	u32 behind = (u32)(end % PAGE_BYTES);

	/* The page before cannot be read: what is on this one. */
	if (have < LENGTH_MAX && behind && behind < LENGTH_MAX)
		have = walk_read_sregs(st->vp, &st->s, end - behind, code + LENGTH_MAX - behind,
				       behind);
	else if (have < LENGTH_MAX)
		return false;
	for (u32 length = have; length > 0; length--) {
		st->before = after;
		if (after.rip < length ||
		    !insn_decode(st->vp->child->memo, &st->s, code + LENGTH_MAX - length, length,
				 &st->insn) ||
		    st->insn.z.length != length)
			continue;
		st->before.rip = after.rip - length;
		if (fits(st, arg))
			return true;
	}
	st->before = after;
	return false;
}

/* Port I/O. */

static bool is_port_insn(const struct stop *st, const struct engine_exit *e)
{
	const struct insn *i = &st->insn;
	const ZydisDecodedOperand *port = &i->op[e->io.write ? 0 : 1];
	bool known = false;
	u32 bytes = 0;

	switch (i->z.mnemonic) {
	case ZYDIS_MNEMONIC_IN:
		known = !e->io.write;
		bytes = i->op[0].size / 8;
		break;
	case ZYDIS_MNEMONIC_OUT:
		known = e->io.write;
		bytes = i->op[1].size / 8;
		break;
	case ZYDIS_MNEMONIC_INSB:
	case ZYDIS_MNEMONIC_INSW:
	case ZYDIS_MNEMONIC_INSD:
		known = !e->io.write;
		bytes = i->op[0].size / 8;
		break;
	case ZYDIS_MNEMONIC_OUTSB:
	case ZYDIS_MNEMONIC_OUTSW:
	case ZYDIS_MNEMONIC_OUTSD:
		known = e->io.write;
		bytes = i->op[1].size / 8;
		break;
	default:
		return false;
	}
	return known && bytes == e->io.size &&
	       (port->type == ZYDIS_OPERAND_TYPE_IMMEDIATE ? (u8)port->imm.value.u
							   : (u16)st->before.rdx) == e->io.port;
}

static bool is_string_io(const struct stop *st)
{
	return st->insn.z.mnemonic != ZYDIS_MNEMONIC_IN &&
	       st->insn.z.mnemonic != ZYDIS_MNEMONIC_OUT;
}

/* RIP is at it: not executed, or repeated OUTS, where it stays even after the last element. */
static bool port_insn_ahead(struct stop *st, const struct engine_exit *e)
{
	if (!is_port_insn(st, e))
		return false;
	if (!is_string_io(st) || !e->io.write)
		return true;
	if (!insn_is_rep(&st->insn))
		return false;
	undo_element(st, e->io.size, true, false);
	return true;
}

static bool port_insn_behind(struct stop *st, void *arg)
{
	const struct engine_exit *e = arg;

	if (!e->io.write || !is_port_insn(st, e))
		return false;
	if (!is_string_io(st))
		return true;
	if (insn_is_rep(&st->insn))
		return false;
	undo_element(st, e->io.size, true, false);
	return true;
}

static void send_io(struct stop *st, const struct engine_exit *e, enum hv_intercept_access access,
		    u16 port, u8 size)
{
	struct hv_io_port_intercept m = { .header = header(st, access),
					  .port = port,
					  .info = size,
					  .byte_count = (u8)st->byte_count,
					  .rax = st->before.rax,
					  .ds = segment(&st->s.ds),
					  .es = segment(&st->s.es),
					  .rcx = st->before.rcx,
					  .rsi = st->before.rsi,
					  .rdi = st->before.rdi };

	if (is_string_io(st))
		m.info |= HV_IO_STRING | (insn_is_rep(&st->insn) ? HV_IO_REP : 0);
	memcpy(m.bytes, st->bytes, sizeof(m.bytes));
	send(st->vp, HV_MESSAGE_X64_IO_PORT, &m, sizeof(m));
}

void intercept_io(struct vp *vp, struct engine_exit *exit)
{
	struct engine_exit e = *exit; /* dropping the instruction may stop again */
	struct stop st;
	bool ahead;
	u32 flags = 0;

	stop_init(&st, vp);
	ahead = decode(&st) && port_insn_ahead(&st, &e);
	st.known = ahead || find_back(&st, port_insn_behind, &e);
	if (!st.known) {
		log_limited(LOG_WARNING, "VP %u of a child changed the instruction it executes",
			    vp->index);
		unrecoverable(&st);
		return;
	}
	if (!ahead)
		fetch(&st);
	if (ahead && !is_string_io(&st))
		flags = ENGINE_DROP_PORT;
	else if (insn_is_rep(&st.insn))
		flags = ENGINE_DROP_REP;
	hand_over(&st, flags);
	send_io(&st, &e, e.io.write ? HV_INTERCEPT_WRITE : HV_INTERCEPT_READ, e.io.port, e.io.size);
}

/* Memory. */

struct access {
	u64 gpa;
	u64 gva; /* if known */
	bool gva_known;
	enum hv_intercept_access kind;
};

static void send_memory(struct stop *st, const struct access *a)
{
	bool mapped = gpa_map_lookup(st->vp->partition->child->map, a->gpa) != GPA_UNMAPPED;
	struct hv_memory_intercept m = {
		.header = header(st, a->kind),
		.cache_type = mapped ? HV_CACHE_WRITE_BACK : HV_CACHE_UNCACHED,
		.byte_count = (u8)st->byte_count,
		.info = a->gva_known ? HV_MEMORY_GVA_VALID | HV_MEMORY_GVA_GPA_VALID : 0,
		.tpr = (u8)(st->s.cr8 & 0xF),
		.gva = a->gva,
		.gpa = a->gpa,
	};

	memcpy(m.bytes, st->bytes, sizeof(m.bytes));
	send(st->vp, mapped ? HV_MESSAGE_GPA_INTERCEPT : HV_MESSAGE_UNMAPPED_GPA, &m, sizeof(m));
}

static bool writes_vectors(const struct insn *insn)
{
	for (u32 i = 0; i < insn->z.operand_count; i++) {
		const ZydisDecodedOperand *op = &insn->op[i];

		if (op->type != ZYDIS_OPERAND_TYPE_REGISTER ||
		    !(op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
			continue;
		switch (ZydisRegisterGetClass(op->reg.value)) {
		case ZYDIS_REGCLASS_X87:
		case ZYDIS_REGCLASS_MMX:
		case ZYDIS_REGCLASS_XMM:
		case ZYDIS_REGCLASS_YMM:
		case ZYDIS_REGCLASS_ZMM:
		case ZYDIS_REGCLASS_MASK:
			return true;
		default:
			break;
		}
	}
	return false;
}

/* x87 instructions leave registers behind that are no operand. */
static u32 drop_flags(const struct stop *st)
{
	u32 flags = insn_is_rep(&st->insn) ? ENGINE_DROP_REP : 0;

	if (writes_vectors(&st->insn) || st->insn.z.meta.isa_set == ZYDIS_ISA_SET_X87)
		flags |= ENGINE_DROP_VECTOR;
	return flags;
}

/*
 * An access is told of in parts: within a page, and of 8 bytes at most. The part
 * at @gpa: where it is in the operand at @gva, false if it is not its first one.
 */
static bool operand_part(struct stop *st, u64 gva, u32 bytes, u64 gpa, u32 *offset)
{
	u32 on_page = PAGE_BYTES - gva % PAGE_BYTES;

	*offset = 0;
	if (is_gpa(st, gva, gpa))
		return true;
	*offset = on_page;
	return bytes > on_page && is_gpa(st, gva + on_page, gpa);
}

/* The operand that reaches @a->gpa, for the address it has. */
static void find_gva(struct stop *st, struct access *a)
{
	u8 mask = a->kind == HV_INTERCEPT_READ ? ZYDIS_OPERAND_ACTION_MASK_READ
					       : ZYDIS_OPERAND_ACTION_MASK_WRITE;
	u32 offset;
	u64 gva;

	for (u32 i = 0; i < st->insn.z.operand_count && !a->gva_known; i++) {
		const ZydisDecodedOperand *op = &st->insn.op[i];

		if (!(op->actions & mask) ||
		    !insn_operand(&st->insn, op, &st->before, &st->s, st->before.rip, &gva) ||
		    !operand_part(st, gva, op->size / 8, a->gpa, &offset))
			continue;
		a->gva = gva + offset;
		a->gva_known = true;
	}
}

static void mmio_read(struct stop *st, const struct engine_exit *e)
{
	struct access a = { .gpa = e->mmio.gpa, .kind = HV_INTERCEPT_READ };

	st->known = decode(st);
	if (st->known)
		find_gva(st, &a);
	hand_over(st, st->known ? drop_flags(st) : ENGINE_DROP_VECTOR);
	send_memory(st, &a);
}

/* What an instruction stores. */
enum store { STORE_NONE, STORE_OTHER, STORE_REGISTER, STORE_SWAPPED, STORE_PUSH, STORE_STRING };

static enum store store_kind(const struct insn *insn)
{
	switch (insn->z.mnemonic) {
	case ZYDIS_MNEMONIC_MOVSD: /* the string instruction, or a scalar double */
		return insn->z.meta.category == ZYDIS_CATEGORY_STRINGOP ? STORE_STRING
									: STORE_REGISTER;
	case ZYDIS_MNEMONIC_MOVSB:
	case ZYDIS_MNEMONIC_MOVSW:
	case ZYDIS_MNEMONIC_MOVSQ:
	case ZYDIS_MNEMONIC_STOSB:
	case ZYDIS_MNEMONIC_STOSW:
	case ZYDIS_MNEMONIC_STOSD:
	case ZYDIS_MNEMONIC_STOSQ:
		return STORE_STRING;
	case ZYDIS_MNEMONIC_PUSH:
		return STORE_PUSH;
	case ZYDIS_MNEMONIC_MOVBE:
		return STORE_SWAPPED;
	case ZYDIS_MNEMONIC_MOV:
	case ZYDIS_MNEMONIC_MOVNTI:
	case ZYDIS_MNEMONIC_MOVAPS:
	case ZYDIS_MNEMONIC_MOVAPD:
	case ZYDIS_MNEMONIC_MOVUPS:
	case ZYDIS_MNEMONIC_MOVUPD:
	case ZYDIS_MNEMONIC_MOVDQA:
	case ZYDIS_MNEMONIC_MOVDQU:
	case ZYDIS_MNEMONIC_MOVNTPS:
	case ZYDIS_MNEMONIC_MOVNTPD:
	case ZYDIS_MNEMONIC_MOVNTDQ:
	case ZYDIS_MNEMONIC_MOVLPS:
	case ZYDIS_MNEMONIC_MOVLPD:
	case ZYDIS_MNEMONIC_MOVSS:
	case ZYDIS_MNEMONIC_MOVD:
	case ZYDIS_MNEMONIC_MOVQ:
	case ZYDIS_MNEMONIC_VMOVAPS:
	case ZYDIS_MNEMONIC_VMOVAPD:
	case ZYDIS_MNEMONIC_VMOVUPS:
	case ZYDIS_MNEMONIC_VMOVUPD:
	case ZYDIS_MNEMONIC_VMOVDQA:
	case ZYDIS_MNEMONIC_VMOVDQU:
	case ZYDIS_MNEMONIC_VMOVNTPS:
	case ZYDIS_MNEMONIC_VMOVNTPD:
	case ZYDIS_MNEMONIC_VMOVNTDQ:
		return STORE_REGISTER;
	case ZYDIS_MNEMONIC_CALL: /* they change more than what is undone here */
	case ZYDIS_MNEMONIC_ENTER:
	case ZYDIS_MNEMONIC_INSB:
	case ZYDIS_MNEMONIC_INSW:
	case ZYDIS_MNEMONIC_INSD:
	case ZYDIS_MNEMONIC_PUSHA:
	case ZYDIS_MNEMONIC_PUSHAD:
		return STORE_NONE;
	default:
		return STORE_OTHER;
	}
}

static bool xmm_value(struct stop *st, ZydisRegister reg, u8 value[16])
{
	struct engine_vcpu *vcpu = st->vp->vcpu;
	u32 i = (u32)ZydisRegisterGetId(reg);

	if (i >= 16 || (!st->has_xmm && vcpu->ops->vcpu_get_xmm(vcpu, st->xmm) < 0))
		return false;
	st->has_xmm = true;
	memcpy(value, st->xmm[i], 16);
	return true;
}

/* Bytes of what @op holds before the instruction: how many are known. */
static u32 operand_value(struct stop *st, const ZydisDecodedOperand *op, u8 value[16])
{
	ZydisRegisterClass class;
	u64 word = 0;

	if (op->type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
		word = op->imm.value.u;
	} else if (op->type == ZYDIS_OPERAND_TYPE_MEMORY) {
		u64 gva;
		u32 bytes = (u32)min_u64(op->size / 8, 16);

		if (!insn_operand(&st->insn, op, &st->before, &st->s, st->before.rip, &gva))
			return 0;
		return walk_read_sregs(st->vp, &st->s, gva, value, bytes) == bytes ? bytes : 0;
	} else if (op->type != ZYDIS_OPERAND_TYPE_REGISTER) {
		return 0;
	} else if (!insn_gpr(&st->before, op->reg.value, &word)) {
		class = ZydisRegisterGetClass(op->reg.value);
		if (class != ZYDIS_REGCLASS_XMM && class != ZYDIS_REGCLASS_YMM)
			return 0;
		return xmm_value(st, op->reg.value, value) ? 16 : 0;
	}
	memcpy(value, &word, sizeof(word));
	return sizeof(word);
}

static void reverse(u8 *bytes, u32 n)
{
	for (u32 i = 0; i < n / 2; i++) {
		u8 swap = bytes[i];

		bytes[i] = bytes[n - 1 - i];
		bytes[n - 1 - i] = swap;
	}
}

/* Operands of the candidate that may have been stored: any that is only read. */
static const ZydisDecodedOperand *source_operand(const struct insn *insn)
{
	for (u32 i = 0; i < insn->z.operand_count; i++)
		if ((insn->op[i].actions & ZYDIS_OPERAND_ACTION_MASK_READ) &&
		    !(insn->op[i].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
			return &insn->op[i];
	return NULL;
}

/* A store, told by the exit. */
struct written {
	const struct engine_exit *e;
	struct access access;
	bool sure_only; /* the value must be known to match */
};

static bool value_fits(struct stop *st, const struct written *w, enum store kind, u32 bytes,
		       u32 offset)
{
	const ZydisDecodedOperand *source = source_operand(&st->insn);
	u8 value[16] = { 0 };
	u32 have = 0;

	if (source && kind != STORE_OTHER)
		have = operand_value(st, source, value);
	if (kind == STORE_SWAPPED)
		reverse(value, bytes <= 8 ? bytes : 0);
	if (offset + w->e->mmio.size > have)
		return !w->sure_only;
	return memcmp(value + offset, w->e->mmio.data, w->e->mmio.size) == 0;
}

/* The store whose operand this is, with the registers before it, is the one told of. */
static bool store_fits(struct stop *st, struct written *w, enum store kind,
		       const ZydisDecodedOperand *op)
{
	u32 bytes = op->size / 8, offset, part;
	u64 gva;

	if (op->type != ZYDIS_OPERAND_TYPE_MEMORY || !bytes ||
	    !(op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) ||
	    (op->actions & ZYDIS_OPERAND_ACTION_MASK_READ) ||
	    !insn_operand(&st->insn, op, &st->before, &st->s, st->before.rip, &gva) ||
	    !operand_part(st, gva, bytes, w->e->mmio.gpa, &offset))
		return false;
	part = (u32)min_u64(bytes - offset, PAGE_BYTES - (gva + offset) % PAGE_BYTES);
	part = part < ENGINE_PART_MAX ? part : ENGINE_PART_MAX;
	if (part != w->e->mmio.size || !value_fits(st, w, kind, bytes, offset))
		return false;
	w->access.gva = gva + offset;
	w->access.gva_known = true;
	return true;
}

/* Registers that the store changed, back to what they were. */
static void undo_store(struct stop *st, enum store kind)
{
	const struct insn *i = &st->insn;
	bool moves = i->z.mnemonic == ZYDIS_MNEMONIC_MOVSB ||
		     i->z.mnemonic == ZYDIS_MNEMONIC_MOVSW ||
		     i->z.mnemonic == ZYDIS_MNEMONIC_MOVSD || i->z.mnemonic == ZYDIS_MNEMONIC_MOVSQ;

	if (kind == STORE_STRING)
		undo_element(st, i->op[0].size / 8, moves, true);
	else if (kind == STORE_PUSH)
		register_add(&st->before.rsp, i->z.operand_width / 8, i->z.stack_width);
	else if (i->z.mnemonic == ZYDIS_MNEMONIC_POP)
		register_add(&st->before.rsp, 0 - (u64)i->op[0].size / 8, i->z.stack_width);
}

static bool any_store_fits(struct stop *st, struct written *w, enum store kind)
{
	for (u32 i = 0; i < st->insn.z.operand_count; i++)
		if (store_fits(st, w, kind, &st->insn.op[i]))
			return true;
	return false;
}

static bool store_behind(struct stop *st, void *arg)
{
	enum store kind = store_kind(&st->insn);

	if (kind == STORE_NONE || insn_is_rep(&st->insn))
		return false;
	undo_store(st, kind);
	return any_store_fits(st, arg, kind);
}

/* A repeated store stops with RIP at it, even after the last element. */
static bool store_ahead(struct stop *st, struct written *w)
{
	const struct engine_regs after = st->before;

	if (store_kind(&st->insn) == STORE_STRING && insn_is_rep(&st->insn)) {
		undo_store(st, STORE_STRING);
		if (any_store_fits(st, w, STORE_STRING))
			return true;
		st->before = after;
	}
	return false;
}

static void mmio_write(struct stop *st, const struct engine_exit *e)
{
	struct written w = { .e = e,
			     .access = { .gpa = e->mmio.gpa, .kind = HV_INTERCEPT_WRITE },
			     .sure_only = true };

	st->known = (decode(st) && store_ahead(st, &w)) || find_back(st, store_behind, &w);
	if (!st->known) {
		w.sure_only = false;
		st->known = find_back(st, store_behind, &w);
	}
	if (!st->known) {
		log_limited(LOG_WARNING,
			    "VP %u of a child wrote to 0x%llx, and by which instruction is not "
			    "known (RIP 0x%llx)",
			    st->vp->index, (unsigned long long)e->mmio.gpa,
			    (unsigned long long)st->before.rip);
		unrecoverable(st);
		return;
	}
	fetch(st);
	hand_over(st, 0);
	send_memory(st, &w.access);
}

void intercept_mmio(struct vp *vp, struct engine_exit *exit)
{
	u8 data[ENGINE_PART_MAX];
	struct engine_exit e = *exit; /* dropping the instruction may stop again */
	struct stop st;

	memcpy(data, exit->mmio.data, sizeof(data));
	e.mmio.data = data;
	stop_init(&st, vp);
	if (e.mmio.write)
		mmio_write(&st, &e);
	else
		mmio_read(&st, &e);
}

/* The page that an instruction could not reach. */
struct culprit {
	struct gpa_map *map;
	struct access access;
	bool found;
	/* A page table that cannot be written, where accessed bits are: if nothing else is. */
	struct access table;
	bool table_found;
};

static bool is_culprit(void *ctx, const struct insn_access *a)
{
	struct culprit *c = ctx;
	enum gpa_access have = gpa_map_lookup(c->map, a->gpa);
	struct access access = { .gpa = a->gpa,
				 .gva = a->table ? 0 : a->gva,
				 .gva_known = !a->table,
				 .kind = a->write   ? HV_INTERCEPT_WRITE
					 : a->fetch ? HV_INTERCEPT_EXECUTE
						    : HV_INTERCEPT_READ };

	if (have == GPA_WRITABLE || (have == GPA_READ_ONLY && !a->write && !a->table))
		return false;
	if (have == GPA_READ_ONLY && a->table) {
		access.kind = HV_INTERCEPT_WRITE;
		c->table = c->table_found ? c->table : access;
		c->table_found = true;
		return false;
	}
	c->access = access;
	return true;
}

/* A page may have come meanwhile: try again, but not for ever. */
static bool unexplained(struct vp *vp)
{
	struct child_vp *cv = vp->child;

	if (cv->unexplained_rip != vp->vcpu->regs->rip)
		cv->unexplained = 0;
	cv->unexplained_rip = vp->vcpu->regs->rip;
	return ++cv->unexplained > UNEXPLAINED_MAX;
}

void intercept_memory(struct vp *vp, struct engine_exit *exit)
{
	struct culprit c = { .map = vp->partition->child->map };
	bool found = insn_touches(vp, is_culprit, &c);
	struct stop st;

	if (!found && c.table_found) {
		found = true;
		c.access = c.table;
	}
	if (!found && !unexplained(vp))
		return;
	stop_init(&st, vp);
	st.known = decode(&st);
	if (!found) {
		unrecoverable(&st);
		return;
	}
	vp->child->unexplained = 0;
	hand_over(&st, 0);
	send_memory(&st, &c.access);
}

bool intercept_error(struct vp *vp)
{
	struct access a = { .gva_known = true, .kind = HV_INTERCEPT_EXECUTE };
	struct walk_path path;
	struct stop st;

	stop_init(&st, vp);
	a.gva = insn_linear(&st.s, st.before.rip);
	if (walk_path(vp, &st.s, a.gva, HV_TRANSLATE_PRIVILEGE_EXEMPT, &path) ||
	    gpa_map_lookup(vp->partition->child->map, path.gpa) != GPA_UNMAPPED)
		return false;
	a.gpa = path.gpa;
	hand_over(&st, 0);
	send_memory(&st, &a);
	return true;
}

void intercept_missing_page(struct vp *vp, u64 gpa)
{
	static const u8 nothing[INTERCEPT_NOTHING_BYTES] = { 0x88, 0xC0 }; /* MOV AL, AL */
	const struct access a = { .gpa = gpa, .kind = HV_INTERCEPT_READ };
	struct stop st;

	complete(vp);
	stop_init(&st, vp);
	memcpy(st.bytes, nothing, sizeof(nothing));
	st.byte_count = sizeof(nothing);
	st.known = insn_decode(vp->child->memo, &st.s, nothing, sizeof(nothing), &st.insn);
	vp->child->ask_rip = st.before.rip;
	send_memory(&st, &a);
}

bool intercept_msr(struct vp *vp, struct engine_exit *exit)
{
	u32 index = exit->msr.index; /* dropping the instruction may stop again */
	bool write = exit->kind == ENGINE_EXIT_WRMSR;
	struct hv_msr_intercept m;
	struct stop st;

	stop_init(&st, vp);
	st.known = decode(&st) &&
		   st.insn.z.mnemonic == (write ? ZYDIS_MNEMONIC_WRMSR : ZYDIS_MNEMONIC_RDMSR);
	if (!st.known)
		return false;
	hand_over(&st, 0);
	m = (struct hv_msr_intercept){ .header = header(&st, write ? HV_INTERCEPT_WRITE
								   : HV_INTERCEPT_READ),
				       .msr = index,
				       .rdx = st.before.rdx,
				       .rax = st.before.rax };
	send(vp, HV_MESSAGE_X64_MSR, &m, sizeof(m));
	return true;
}

void intercept_triple_fault(struct vp *vp)
{
	struct stop st;

	stop_init(&st, vp);
	unrecoverable(&st);
}

void intercept_eoi(struct vp *vp, u8 vector)
{
	const struct hv_apic_eoi_intercept m = { .vp_index = vp->index, .vector = vector };

	send(vp, HV_MESSAGE_X64_APIC_EOI, &m, sizeof(m));
}

void intercept_hypercall(struct vp *vp)
{
	const struct engine_regs *r = vp->vcpu->regs;
	struct hv_hypercall_intercept m;
	struct stop st;
	u8 xmm[16][16] = { 0 };

	stop_init(&st, vp);
	st.known = decode(&st);
	hand_over(&st, ENGINE_DROP_PORT);
	m = (struct hv_hypercall_intercept){ .header = header(&st, HV_INTERCEPT_EXECUTE),
					     .rax = r->rax,
					     .rbx = r->rbx,
					     .rcx = r->rcx,
					     .rdx = r->rdx,
					     .r8 = r->r8,
					     .rsi = r->rsi,
					     .rdi = r->rdi };
	if (vp->vcpu->ops->vcpu_get_xmm(vp->vcpu, xmm) == 0)
		memcpy(m.xmm, xmm, sizeof(m.xmm));
	send(vp, HV_MESSAGE_HYPERCALL_INTERCEPT, &m, sizeof(m));
}

void intercept_sint_deliverable(struct vp *vp, u16 sints)
{
	struct hv_sint_deliverable_intercept m = { .sints = sints };
	struct stop st;

	complete(vp);
	stop_init(&st, vp);
	m.header = header(&st, HV_INTERCEPT_READ);
	send(vp, HV_MESSAGE_SINT_DELIVERABLE, &m, sizeof(m));
}
