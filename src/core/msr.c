// SPDX-License-Identifier: MIT
/* Dispatch by a table of the synthetic range, built once from the rows. */
#include "core/msr.h"

#include <pthread.h>
#include <stdio.h>

#include "core/core_trace.h"

extern const struct msr_desc partition_msrs[], synic_msrs[], stimer_msrs[], clock_msrs[], vp_msrs[];

static const struct msr_desc *const row_arrays[] = { partition_msrs, vp_msrs, clock_msrs,
						     synic_msrs, stimer_msrs };

#define MSR_FIRST  HV_X64_MSR_GUEST_OS_ID
#define MSR_SPAN   0x200u /* covers every known register */
#define ROWS_MAX   64u
#define NAME_BYTES 24

static const struct msr_desc *rows[ROWS_MAX];
static u32 row_count;
static u8 row_of[MSR_SPAN]; /* row + 1; 0: none */
static char names[2][MSR_SPAN][NAME_BYTES];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void row_name(const struct msr_desc *d, u32 i)
{
	u32 at = d->base - MSR_FIRST + i;
	char number[20] = "";

	if (d->pairs)
		snprintf(number, sizeof(number), "%u_%s", i / 2, i % 2 ? "COUNT" : "CONFIG");
	else if (d->count > 1)
		snprintf(number, sizeof(number), "%u", i);
	snprintf(names[0][at], NAME_BYTES, "%s%s", d->name, number);
	if (d->nested)
		snprintf(names[1][at], NAME_BYTES, "NESTED_%.12s%s", d->name, number);
}

static void build(void)
{
	for (u32 a = 0; a < ARRAY_SIZE(row_arrays); a++) {
		for (const struct msr_desc *d = row_arrays[a]; d->count; d++) {
			assert(row_count < ROWS_MAX);
			rows[row_count++] = d;
			for (u32 i = 0; i < d->count; i++) {
				assert(!row_of[d->base - MSR_FIRST + i]);
				row_of[d->base - MSR_FIRST + i] = (u8)row_count;
				row_name(d, i);
			}
		}
	}
}

const struct msr_desc *msr_row(u32 row)
{
	pthread_once(&once, build);
	return rows[row];
}

u32 msr_row_count(void)
{
	pthread_once(&once, build);
	return row_count;
}

struct row_count msr_row_used(const struct partition *p, u32 row)
{
	struct row_count sum = { 0 };

	for (u32 i = 0; i < p->vp_count; i++) {
		sum.served += p->vps[i]->msr_counts[row].served;
		sum.refused += p->vps[i]->msr_counts[row].refused;
	}
	return sum;
}

const char *msr_name(u64 index)
{
	u64 at = index - MSR_FIRST;
	bool nested = at >= HV_X64_MSR_NESTED_OFFSET;

	pthread_once(&once, build);
	at -= nested ? HV_X64_MSR_NESTED_OFFSET : 0;
	return at < MSR_SPAN && names[nested][at][0] ? names[nested][at] : NULL;
}

/* Finds the row, and moves @vp to the VP of the hypervisor that owns the register. */
static const struct msr_desc *route(struct vp **vp, u32 index, u32 *i)
{
	u32 at = index - MSR_FIRST;
	bool nested = at >= HV_X64_MSR_NESTED_OFFSET && at < HV_X64_MSR_NESTED_OFFSET + MSR_SPAN;
	const struct msr_desc *d;

	pthread_once(&once, build);
	if (nested) {
		at -= HV_X64_MSR_NESTED_OFFSET;
		if (!(*vp)->outer)
			return NULL;
		*vp = (*vp)->outer;
	}
	if (at >= MSR_SPAN || !row_of[at])
		return NULL;
	d = rows[row_of[at] - 1];
	if (nested && !d->nested)
		return NULL;
	*i = at + MSR_FIRST - d->base;
	return d;
}

static bool permitted(const struct vp *vp, const struct msr_desc *d)
{
	const struct partition *p = vp->partition;

	return partition_has(p, d->privilege) &&
	       (p->config.features_edx & d->feature) == d->feature;
}

/* Another VP's thread may be here by HvCallSetVpRegisters. */
static void count(struct vp *vp, u32 row, enum vp_fault fault)
{
	struct row_count *c = &vp->msr_counts[row];

	__atomic_fetch_add(fault == VP_OK ? &c->served : &c->refused, 1, __ATOMIC_RELAXED);
}

enum vp_fault msr_read(struct vp *vp, u32 index, u64 *value)
{
	struct vp *owner = vp;
	enum vp_fault fault = VP_FAULT_GP;
	u32 i;
	const struct msr_desc *d = route(&owner, index, &i);

	*value = 0;
	if (!d) {
		owner->unknown_msrs++;
	} else {
		if (d->read && permitted(owner, d))
			fault = d->read(owner, i, value);
		count(owner, (u32)row_of[d->base - MSR_FIRST] - 1, fault);
	}
	core_emit(TRACE_MSR_READ, index, *value, fault, TRACE_WORD(owner->partition->hv->name));
	return fault;
}

enum vp_fault msr_write(struct vp *vp, u32 index, u64 value)
{
	struct vp *owner = vp;
	enum vp_fault fault = VP_FAULT_GP;
	u32 i;
	const struct msr_desc *d = route(&owner, index, &i);

	if (!d) {
		owner->unknown_msrs++;
	} else {
		if (d->write && permitted(owner, d))
			fault = d->write(owner, i, value);
		count(owner, (u32)row_of[d->base - MSR_FIRST] - 1, fault);
	}
	core_emit(TRACE_MSR_WRITE, index, value, fault, TRACE_WORD(owner->partition->hv->name));
	return fault;
}

bool msr_is_served(struct vp *vp, u32 index, bool write)
{
	u32 i;
	const struct msr_desc *d = route(&vp, index, &i);

	return d && (permitted(vp, d) || (write && !d->write));
}

enum vp_fault msr_peek(struct vp *vp, u32 index, u64 *value)
{
	u32 i;
	const struct msr_desc *d = route(&vp, index, &i);

	*value = 0;
	if (!d)
		return VP_FAULT_GP;
	return d->read ? d->read(vp, i, value) : VP_OK;
}

enum vp_fault msr_poke(struct vp *vp, u32 index, u64 value)
{
	u32 i;
	const struct msr_desc *d = route(&vp, index, &i);

	if (!d)
		return VP_FAULT_GP;
	return d->write ? d->write(vp, i, value) : VP_OK;
}
