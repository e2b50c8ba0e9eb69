// SPDX-License-Identifier: MIT
/*
 * The engine says only that an access failed, with the state before it. So each
 * page the instruction may need is looked at.
 */
#include "core/donated.h"

#include "core/insn.h"

struct found {
	struct gmem *gmem;
	u64 gpa;
	u32 serial;
};

static bool is_donated(void *ctx, const struct insn_access *access)
{
	struct found *f = ctx;

	f->gpa = access->gpa;
	f->serial = gmem_donated(f->gmem, access->gpa);
	return f->serial != 0;
}

bool donated_find(struct vp *vp, u64 *gpa, u32 *serial)
{
	struct found f = { .gmem = vp->partition->gmem };
	bool any = insn_touches(vp, is_donated, &f);

	*gpa = f.gpa;
	*serial = f.serial;
	return any;
}
