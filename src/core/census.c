// SPDX-License-Identifier: MIT
/* A child is read under a reference, so that it may end meanwhile. */
#include "core/census.h"

#include "core/child_port.h"
#include "core/hypercall.h"
#include "hvdef/intercept.h"

static const struct {
	u32 message;
	const char *name;
} kinds[INTERCEPT_KINDS] = {
	[INTERCEPT_IO] = { HV_MESSAGE_X64_IO_PORT, "port I/O" },
	[INTERCEPT_MSR] = { HV_MESSAGE_X64_MSR, "MSR" },
	[INTERCEPT_UNMAPPED] = { HV_MESSAGE_UNMAPPED_GPA, "unmapped memory" },
	[INTERCEPT_GPA] = { HV_MESSAGE_GPA_INTERCEPT, "mapped memory" },
	[INTERCEPT_EOI] = { HV_MESSAGE_X64_APIC_EOI, "EOI" },
	[INTERCEPT_HYPERCALL] = { HV_MESSAGE_HYPERCALL_INTERCEPT, "hypercall" },
	[INTERCEPT_SINT] = { HV_MESSAGE_SINT_DELIVERABLE, "SINT deliverable" },
	[INTERCEPT_UNRECOVERABLE] = { HV_MESSAGE_UNRECOVERABLE_EXCEPTION, "unrecoverable" },
	[INTERCEPT_REGISTERS] = { HV_MESSAGE_INVALID_VP_REGISTER_VALUE, "invalid registers" },
	[INTERCEPT_OTHER] = { HV_MESSAGE_NONE, "other" },
};

static u64 load(const u64 *counter)
{
	return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

static void count(u64 *counter)
{
	__atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
}

const char *census_intercept_name(enum intercept_kind kind)
{
	return kinds[kind].name;
}

void census_intercept(struct vp *vp, u32 message_type)
{
	u32 kind = 0;

	while (kind < INTERCEPT_OTHER && kinds[kind].message != message_type)
		kind++;
	count(&vp->child->intercepts[kind]);
	count(&vp->partition->hv->child_totals.intercepts[kind]);
}

struct child_totals census_totals(struct hypervisor *hv)
{
	const struct child_totals *t = &hv->child_totals;
	struct child_totals out = { .created = load(&t->created),
				    .destroyed = load(&t->destroyed),
				    .left = load(&t->left),
				    .vps_created = load(&t->vps_created),
				    .vps_destroyed = load(&t->vps_destroyed) };

	for (u32 i = 0; i < INTERCEPT_KINDS; i++)
		out.intercepts[i] = load(&t->intercepts[i]);
	return out;
}

u64 census_parent_calls(const struct partition *p)
{
	u64 sum = 0;

	for (u32 i = 0; i < hypercall_row_count(); i++) {
		const struct hypercall_desc *d = hypercall_row(i);
		struct row_count used;

		if (!(d->privilege & HV_PRIV_CREATE_PARTITIONS) && !d->of_children)
			continue;
		used = hypercall_row_used(p, i);
		sum += used.served + used.refused;
	}
	return sum;
}

/* Under child->vp_lock if it is a child's. */
static const char *vp_state(const struct vp *vp)
{
	const struct child_vp *cv = vp->child;

	if (!cv)
		return partition_stop_reason(vp->partition) == STOP_NONE ? "running" : "ended";
	if (vp->partition->child->ending)
		return "ended";
	if (cv->intercept_suspend)
		return "intercepted";
	if (cv->explicit_suspend)
		return "suspended";
	return cv->in_guest ? "running" : "held";
}

static void add_vp(struct census *out, const struct vp *vp)
{
	struct census_vp *row = &out->vp[out->vp_count++];

	*row = (struct census_vp){ .index = vp->index,
				   .state = vp_state(vp),
				   .exits = load(&vp->exit_total),
				   .runtime_100ns = vp_runtime_of(vp) };
	out->exits += row->exits;
	for (u32 i = 0; vp->child && i < INTERCEPT_KINDS; i++) {
		u64 n = load(&vp->child->intercepts[i]);

		row->intercepts += n;
		out->intercepts[i] += n;
	}
	out->intercept_total += row->intercepts;
}

void census_of(struct partition *p, struct census *out)
{
	*out = (struct census){ .hypervisor = p->hv->name,
				.id = p->id,
				.state = partition_stop_reason(p) == STOP_NONE ? "active" : "ended",
				.pool = deposit_get(&p->deposit) };
	for (u32 i = 0; i < p->vp_count; i++)
		add_vp(out, p->vps[i]);
}

static const char *child_state_name(const struct child *c)
{
	switch ((enum child_state)__atomic_load_n(&c->state, __ATOMIC_ACQUIRE)) {
	case CHILD_CREATED:
		return "created";
	case CHILD_ACTIVE:
		return "active";
	case CHILD_FINALIZED:
		return "finalized";
	}
	return "?";
}

static void read_child(struct partition *p, struct census *out)
{
	struct child *c = p->child;
	struct vp *vp;

	*out = (struct census){ .hypervisor = p->hv->name,
				.id = p->id,
				.parent = c->parent->id,
				.state = child_state_name(c),
				.pool = deposit_get(&p->deposit),
				.mapped = gpa_map_count(c->map) };
	out->ports = child_ports_count(p, &out->connected);
	pthread_mutex_lock(&c->vp_lock);
	for (u32 i = 0; i < CHILD_VPS_MAX; i++)
		if ((vp = partition_vp(p, i)) && !vp->child->deleted)
			add_vp(out, vp);
	pthread_mutex_unlock(&c->vp_lock);
}

static struct partition *next_locked(struct partition *parent, u64 after)
{
	struct partition *best = NULL;
	struct list *pos;

	list_for_each(pos, &parent->hv->children) {
		const struct child *c = list_entry(pos, struct child, link);

		if (c->parent == parent && c->partition->id > after &&
		    (!best || c->partition->id < best->id))
			best = c->partition;
	}
	if (best)
		best->child->references++;
	return best;
}

bool census_child(struct partition *parent, u64 after, struct census *out)
{
	struct partition *p;

	pthread_mutex_lock(&parent->hv->children_lock);
	p = next_locked(parent, after);
	pthread_mutex_unlock(&parent->hv->children_lock);
	if (!p)
		return false;
	read_child(p, out);
	child_put(p);
	return true;
}
