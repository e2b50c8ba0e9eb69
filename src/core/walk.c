// SPDX-License-Identifier: MIT
/*
 * A mode is a row: how wide an address and an entry are, how many levels there
 * are. Entries of 32 and 64 bits have their low flags in the same places.
 */
#include "core/walk.h"

#include "core/child.h"
#include "core/gpa_map.h"

#define CR0_WP	 BIT64(16)
#define CR0_PG	 BIT64(31)
#define CR4_PSE	 BIT64(4)
#define CR4_PAE	 BIT64(5)
#define CR4_LA57 BIT64(12)
#define CR4_SMEP BIT64(20)
#define CR4_SMAP BIT64(21)
#define EFER_LMA BIT64(10)
#define EFER_NXE BIT64(11)

#define RFLAGS_AC     BIT64(18)
#define SEG_DPL_SHIFT 5

#define PTE_PRESENT  BIT64(0)
#define PTE_WRITE    BIT64(1)
#define PTE_USER     BIT64(2)
#define PTE_ACCESSED BIT64(5)
#define PTE_DIRTY    BIT64(6)
#define PTE_LARGE    BIT64(7)
#define PTE_NX	     BIT64(63)
#define PTE_ADDRESS  MASK64(51, 12)

#define PAE_CR3_MASK	   MASK64(31, 5)
#define PAE_PDPTE_RESERVED (MASK64(2, 1) | MASK64(8, 5))

struct mode {
	u8 levels, entry_bytes, index_bits;
	u8 address_bits; /* of a linear address */
};

static const struct mode legacy_mode = { 2, 4, 10, 32 };
static const struct mode pae_mode = { 3, 8, 9, 32 };
static const struct mode level4_mode = { 4, 8, 9, 48 };
static const struct mode level5_mode = { 5, 8, 9, 57 };

static const struct mode *mode_of(const struct engine_sregs *s)
{
	if (!(s->cr0 & CR0_PG))
		return NULL;
	if (s->efer & EFER_LMA)
		return s->cr4 & CR4_LA57 ? &level5_mode : &level4_mode;
	return s->cr4 & CR4_PAE ? &pae_mode : &legacy_mode;
}

/* One translation under way. */
struct walker {
	struct vp *vp;
	const struct engine_sregs *s;
	const struct mode *mode;
	u64 flags;
	bool user;    /* the rights asked for are a user's */
	u64 physical; /* bits of an entry's address that exist */
	/* What all levels together allow. */
	bool user_page, writable, no_execute;
};

static bool is_user(const struct walker *w)
{
	if (w->flags & (HV_TRANSLATE_PRIVILEGE_EXEMPT | HV_TRANSLATE_SUPERVISOR))
		return false;
	return (w->flags & HV_TRANSLATE_USER) || (w->s->ss.attributes >> SEG_DPL_SHIFT & 3) == 3;
}

static u32 shift_of(const struct mode *m, u32 level)
{
	return PAGE_SHIFT + level * m->index_bits;
}

static u64 root_of(const struct walker *w)
{
	if (w->mode == &pae_mode)
		return w->s->cr3 & PAE_CR3_MASK;
	return w->mode == &legacy_mode ? w->s->cr3 & MASK64(31, 12) : w->s->cr3 & w->physical;
}

static bool is_leaf(const struct walker *w, u64 entry, u32 level)
{
	if (level == 0)
		return true;
	if (!(entry & PTE_LARGE))
		return false;
	if (w->mode == &legacy_mode)
		return level == 1 && (w->s->cr4 & CR4_PSE);
	return level == 1 || (level == 2 && w->mode != &pae_mode);
}

/* A 32-bit large page keeps bits 39:32 of its address in 20:13. */
static u64 leaf_address(const struct walker *w, u64 entry, u32 level)
{
	u64 offset_mask = BIT64(shift_of(w->mode, level)) - 1;

	if (w->mode == &legacy_mode && level == 1)
		return (entry & MASK64(31, 22)) | (entry & MASK64(20, 13)) << 19;
	return entry & (w->mode == &legacy_mode ? MASK64(31, 12) : PTE_ADDRESS) & ~offset_mask;
}

static bool reserved_set(const struct walker *w, u64 entry, u32 level)
{
	bool leaf = is_leaf(w, entry, level);
	u64 reserved;

	if (w->mode == &legacy_mode)
		return leaf && level == 1 &&
		       ((entry & BIT64(21)) || (leaf_address(w, entry, level) & ~w->physical));
	reserved = PTE_ADDRESS & ~w->physical;
	if (!(w->s->efer & EFER_NXE))
		reserved |= PTE_NX;
	if (w->mode == &pae_mode)
		reserved |= MASK64(62, 52);
	if (w->mode == &pae_mode && level == 2)
		return entry & (reserved | PAE_PDPTE_RESERVED | PTE_NX);
	if (leaf && level)
		reserved |= (BIT64(shift_of(w->mode, level)) - 1) & ~MASK64(12, 0);
	else if (level >= 3)
		reserved |= PTE_LARGE;
	return entry & reserved;
}

static void collect_rights(struct walker *w, u64 entry, u32 level)
{
	if (w->mode == &pae_mode && level == 2)
		return; /* these entries have none */
	w->user_page = w->user_page && (entry & PTE_USER);
	w->writable = w->writable && (entry & PTE_WRITE);
	w->no_execute = w->no_execute || (w->mode != &legacy_mode && (entry & PTE_NX));
}

/* Supervisor-mode access to a user's data. */
static bool smap_forbids(const struct walker *w)
{
	if (!(w->s->cr4 & CR4_SMAP) || (w->flags & HV_TRANSLATE_OVERRIDE_SMAP))
		return false;
	return (w->flags & HV_TRANSLATE_ENFORCE_SMAP) || !(w->vp->vcpu->regs->rflags & RFLAGS_AC);
}

static bool rights_ok(const struct walker *w)
{
	bool data = w->flags & (HV_TRANSLATE_READ | HV_TRANSLATE_WRITE);
	bool execute = w->flags & HV_TRANSLATE_EXECUTE;
	bool exempt = w->flags & HV_TRANSLATE_PRIVILEGE_EXEMPT;

	if (!data && !execute)
		return true;
	if (w->user && !w->user_page)
		return false;
	if (!w->user && w->user_page && !exempt &&
	    ((data && smap_forbids(w)) || (execute && (w->s->cr4 & CR4_SMEP))))
		return false;
	if ((w->flags & HV_TRANSLATE_WRITE) && !w->writable && (w->user || (w->s->cr0 & CR0_WP)))
		return false;
	return !(execute && w->no_execute && (w->s->efer & EFER_NXE));
}

static bool table_writable(struct partition *p, u64 gpa)
{
	return !p->child || gpa_map_lookup(p->child->map, gpa) == GPA_WRITABLE;
}

/*
 * The guest's processors set these bits too, and the guest changes entries: atomically. The
 * page may be taken from the child meanwhile, so no pointer to it is kept.
 */
static void set_bits(const struct walker *w, const struct walk_path *path)
{
	struct partition *p = w->vp->partition;

	for (u32 i = 0; i < path->tables; i++) {
		bool last = i == path->tables - 1;
		u64 bits = PTE_ACCESSED | (last && (w->flags & HV_TRANSLATE_WRITE) ? PTE_DIRTY : 0);

		if (table_writable(p, path->table[i]) && !(w->mode == &pae_mode && i == 0))
			gmem_or(p->gmem, path->table[i], (u32)bits);
	}
}

static enum hv_translate_result levels(struct walker *w, u64 gva, struct walk_path *path)
{
	u64 table = root_of(w), entry;

	for (u32 level = w->mode->levels; level-- > 0; table = entry & w->physical & PTE_ADDRESS) {
		u64 index = gva >> shift_of(w->mode, level) & (BIT64(w->mode->index_bits) - 1);
		u64 at = table + index * w->mode->entry_bytes;

		path->table[path->tables++] = at;
		entry = 0;
		if (gmem_read(w->vp->partition->gmem, at, &entry, w->mode->entry_bytes) < 0)
			return HV_TRANSLATE_GPA_UNMAPPED;
		if (!(entry & PTE_PRESENT))
			return HV_TRANSLATE_PAGE_NOT_PRESENT;
		if (reserved_set(w, entry, level))
			return HV_TRANSLATE_INVALID_PAGE_TABLE_FLAGS;
		collect_rights(w, entry, level);
		if (!is_leaf(w, entry, level))
			continue;
		path->gpa = leaf_address(w, entry, level) |
			    (gva & (BIT64(shift_of(w->mode, level)) - 1));
		return rights_ok(w) ? HV_TRANSLATE_SUCCESS : HV_TRANSLATE_PRIVILEGE_VIOLATION;
	}
	return HV_TRANSLATE_PAGE_NOT_PRESENT; /* not reached: level 0 is a leaf */
}

static bool canonical(const struct mode *m, u64 gva)
{
	u32 unused = 64 - m->address_bits;

	return m->address_bits == 32 || (u64)((s64)(gva << unused) >> unused) == gva;
}

enum hv_translate_result walk_path(struct vp *vp, const struct engine_sregs *sregs, u64 gva,
				   u64 flags, struct walk_path *path)
{
	u8 bits = vp->partition->config.physical_bits;
	struct walker w = { .vp = vp,
			    .s = sregs,
			    .mode = mode_of(sregs),
			    .flags = flags,
			    .physical = PTE_ADDRESS & (BIT64(bits && bits < 52 ? bits : 52) - 1),
			    .user_page = true,
			    .writable = true };
	enum hv_translate_result result;

	*path = (struct walk_path){ .gpa = gva & MASK64(31, 0) };
	if (!w.mode)
		return HV_TRANSLATE_SUCCESS;
	if (w.mode->address_bits == 32)
		gva = (u32)gva;
	if (!canonical(w.mode, gva))
		return HV_TRANSLATE_PAGE_NOT_PRESENT;
	w.user = is_user(&w);
	result = levels(&w, gva, path);
	if (result == HV_TRANSLATE_SUCCESS && (flags & HV_TRANSLATE_SET_TABLE_BITS))
		set_bits(&w, path);
	return result;
}

/* A parent may have set what the engine has not got yet. */
static int sregs_get(struct vp *vp, struct engine_sregs *out)
{
	return vp->child ? child_sregs_get(vp, out) : vp->vcpu->ops->vcpu_get_sregs(vp->vcpu, out);
}

enum hv_translate_result walk(struct vp *vp, u64 gva, u64 flags, u64 *gpa)
{
	enum hv_translate_result result;
	struct engine_sregs sregs;
	struct walk_path path;

	if (sregs_get(vp, &sregs) < 0)
		return HV_TRANSLATE_PAGE_NOT_PRESENT;
	result = walk_path(vp, &sregs, gva, flags, &path);
	*gpa = path.gpa;
	return result;
}

u32 walk_read_sregs(struct vp *vp, const struct engine_sregs *sregs, u64 gva, void *out, u32 bytes)
{
	struct walk_path path;
	u32 n = 0;

	while (n < bytes) {
		u32 run = (u32)min_u64(PAGE_BYTES - (gva + n) % PAGE_BYTES, bytes - n);

		if (walk_path(vp, sregs, gva + n, HV_TRANSLATE_PRIVILEGE_EXEMPT, &path) ||
		    gmem_read(vp->partition->gmem, path.gpa, (u8 *)out + n, run) < 0)
			break;
		n += run;
	}
	return n;
}

u32 walk_read(struct vp *vp, u64 gva, void *out, u32 bytes)
{
	struct engine_sregs sregs;

	if (sregs_get(vp, &sregs) < 0)
		return 0;
	return walk_read_sregs(vp, &sregs, gva, out, bytes);
}

static enum hv_status translate(struct partition *p, const struct hypercall *hc)
{
	const struct hv_input_translate_virtual_address *in =
		HYPERCALL_IN(hc, struct hv_input_translate_virtual_address);
	struct hv_output_translate_virtual_address *out =
		HYPERCALL_OUT(hc, struct hv_output_translate_virtual_address);
	struct vp *vp = child_vp(p, in->vp_index);
	enum hv_translate_result code;
	u64 gpa;

	if (!child_active(p))
		return HV_STATUS_INVALID_PARTITION_STATE;
	if (!vp)
		return HV_STATUS_INVALID_VP_INDEX;
	if (in->gva_page >> (64 - PAGE_SHIFT) || (in->flags & ~HV_TRANSLATE_FLAGS))
		return HV_STATUS_INVALID_PARAMETER;
	child_vp_hold(vp);
	code = walk(vp, in->gva_page << PAGE_SHIFT, in->flags, &gpa);
	child_vp_release(vp);
	out->result = code;
	if (code != HV_TRANSLATE_SUCCESS)
		return HV_STATUS_SUCCESS;
	out->gpn = gpa >> PAGE_SHIFT;
	if (gpa_map_lookup(p->child->map, gpa) != GPA_UNMAPPED)
		out->result |= (u64)HV_CACHE_WRITE_BACK << HV_TRANSLATE_CACHE_TYPE_SHIFT;
	return HV_STATUS_SUCCESS;
}

static enum hv_status call_translate_virtual_address(struct hypercall *hc)
{
	const struct hv_input_translate_virtual_address *in =
		HYPERCALL_IN(hc, struct hv_input_translate_virtual_address);
	struct partition *p = child_get(hc, in->partition_id);
	enum hv_status status;

	if (!p)
		return HV_STATUS_INVALID_PARTITION_ID;
	status = translate(p, hc);
	child_put(p);
	return status;
}

const struct hypercall_desc walk_hypercalls[] = {
	{ .code = HVCALL_TRANSLATE_VIRTUAL_ADDRESS,
	  .name = "HvCallTranslateVirtualAddress",
	  .privilege = HV_PRIV_CREATE_PARTITIONS,
	  .in_size = sizeof(struct hv_input_translate_virtual_address),
	  .out_size = sizeof(struct hv_output_translate_virtual_address),
	  .handler = call_translate_virtual_address },
	{ 0 },
};
