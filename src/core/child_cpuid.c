// SPDX-License-Identifier: MIT
/*
 * CPUID is the engine's to answer, from a list that is final once the VP runs. So
 * results registered before are merged into it: of each register, the bits in the
 * mask are the parent's. What is said of one VP goes over what is said of all.
 */
#include "core/child_cpuid.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/cpu_features.h"
#include "core/cpu_topology.h"
#include "core/cpuid.h"
#include "core/hypercall.h"
#include "hvdef/intercept.h"
#include "hvdef/port.h"

#define RESULTS_MAX    16384u /* 64 leaves for each of 256 VPs */
#define RESULTS_GROW   64u    /* that a page of the pool pays for */
#define LEAF_FEATURES  1u
#define LEAF_XSAVE     0xDu
#define ECX_X2APIC     BIT(21)
#define ECX_HYPERVISOR BIT(31)
/* Of property 0x10001: there is a hypervisor to be seen. */
#define SYNTHETIC_HYPERVISOR_PRESENT BIT64(0)

struct result {
	u32 vp; /* or HV_ANY_VP */
	u32 eax, ecx;
	bool subleaf; /* of @ecx only */
	struct hv_cpuid_override reg[4];
};

struct child_cpuid {
	struct result *result; /* under partition->lock, as all of it */
	u32 count, capacity;
};

static u32 *reg(struct engine_cpuid *e, u32 i)
{
	u32 *const regs[] = { &e->eax, &e->ebx, &e->ecx, &e->edx };

	return regs[i];
}

static void override(struct engine_cpuid *e, const struct result *r)
{
	for (u32 i = 0; i < 4; i++)
		*reg(e, i) = (*reg(e, i) & ~r->reg[i].mask) | (r->reg[i].value & r->reg[i].mask);
}

/* A leaf without subleaves has one, whatever ECX is. */
static bool matches(const struct engine_cpuid *e, const struct result *r)
{
	return e->leaf == r->eax && (!r->subleaf || (e->indexed ? e->index : 0) == r->ecx);
}

static int apply_one(struct engine_cpuid *list, u32 *count, u32 capacity, const struct result *r)
{
	bool found = false;

	for (u32 i = 0; i < *count; i++) {
		if (!matches(&list[i], r))
			continue;
		override(&list[i], r);
		found = true;
	}
	if (found)
		return 0;
	if (*count == capacity)
		return -E2BIG;
	for (u32 i = 0; i < *count; i++)
		if (list[i].leaf == r->eax)
			list[i].indexed = true; /* it has a second subleaf now */
	list[*count] =
		(struct engine_cpuid){ .leaf = r->eax, .index = r->ecx, .indexed = r->subleaf };
	override(&list[(*count)++], r);
	return 0;
}

static int apply_locked(const struct child_cpuid *c, u32 vp, struct engine_cpuid *list, u32 *count,
			u32 capacity)
{
	int ret = 0;

	for (u32 i = 0; i < c->count && !ret; i++)
		if (c->result[i].vp == vp)
			ret = apply_one(list, count, capacity, &c->result[i]);
	return ret;
}

int child_cpuid_apply(struct vp *vp, struct engine_cpuid *list, u32 *count, u32 capacity)
{
	struct partition *p = vp->partition;
	int ret = 0;

	pthread_mutex_lock(&p->lock);
	if (p->child->cpuid) {
		ret = apply_locked(p->child->cpuid, HV_ANY_VP, list, count, capacity);
		if (!ret)
			ret = apply_locked(p->child->cpuid, vp->index, list, count, capacity);
	}
	pthread_mutex_unlock(&p->lock);
	return ret;
}

/* How many processors are in a package: ids of the next one begin at a power of two. */
static u32 package(const struct partition *p)
{
	u32 count = __atomic_load_n(&p->vp_count, __ATOMIC_ACQUIRE);
	u32 wanted = p->child->processors_per_socket;

	return wanted && wanted < count && !(wanted & (wanted - 1)) ? wanted : count;
}

static void hide_hypervisor(struct engine_cpuid *list, u32 *count)
{
	u32 n = 0;

	for (u32 i = 0; i < *count; i++) {
		if (list[i].leaf >> 16 == 0x4000)
			continue;
		list[n] = list[i];
		if (list[n].leaf == LEAF_FEATURES)
			list[n].ecx &= ~ECX_HYPERVISOR;
		n++;
	}
	*count = n;
}

static int features(const struct partition *p, struct engine_cpuid *list, u32 *count)
{
	const struct hypervisor *hv = p->hv;

	if (hv->child_cpuid_count > CHILD_CPUID_MAX)
		return -E2BIG;
	*count = hv->child_cpuid_count;
	if (*count)
		memcpy(list, hv->child_cpuid, *count * sizeof(*list));
	cpu_features_disable(list, *count, p->child->disabled_features, p->child->disabled_xsave);
	return 0;
}

int child_cpuid_base(const struct vp *vp, struct engine_cpuid *list, u32 *count)
{
	const struct partition *p = vp->partition;
	u32 in_package = package(p);
	int ret = features(p, list, count);

	if (!ret)
		ret = cpu_topology_apply(list, count, CHILD_CPUID_MAX, vp->vcpu->id,
					 in_package ? in_package : 1);
	if (ret)
		return ret;
	for (u32 i = 0; i < *count; i++)
		if (list[i].leaf == LEAF_FEATURES && !(p->child->create_flags & HV_CREATE_X2APIC))
			list[i].ecx &= ~ECX_X2APIC;
	/* Again: topology says what a processor here always has. */
	cpu_features_disable(list, *count, p->child->disabled_features, p->child->disabled_xsave);
	if (p->child->synthetic_features & SYNTHETIC_HYPERVISOR_PRESENT)
		return hv_cpuid_apply(p, list, count, CHILD_CPUID_MAX);
	hide_hypervisor(list, count);
	return 0;
}

int child_cpuid_set(struct vp *vp, bool final)
{
	struct engine_cpuid *list = calloc(CHILD_CPUID_MAX, sizeof(*list));
	u32 count;
	int ret = list ? child_cpuid_base(vp, list, &count) : -ENOMEM;

	if (!ret)
		ret = child_cpuid_apply(vp, list, &count, CHILD_CPUID_MAX);
	if (!ret)
		ret = vp->vcpu->ops->vcpu_set_cpuid(vp->vcpu, list, count);
	if (ret >= 0 && final)
		__atomic_store_n(&vp->child->cpuid_final, true, __ATOMIC_RELEASE);
	free(list);
	return ret < 0 ? ret : 0;
}

void child_cpuid_destroy(struct partition *p)
{
	struct child_cpuid *c = p->child->cpuid;

	p->child->cpuid = NULL;
	if (c)
		free(c->result);
	free(c);
}

void child_xsave_layout(const struct partition *p, struct xsave_layout *out)
{
	struct engine_cpuid *list = calloc(CHILD_CPUID_MAX, sizeof(*list));
	u32 count = 0;

	if (list)
		features(p, list, &count);
	xsave_layout_init(out, list, count);
	free(list);
}

/* Results. */

static bool same_place(const struct result *a, const struct result *b)
{
	return a->vp == b->vp && a->eax == b->eax && a->subleaf == b->subleaf &&
	       (!a->subleaf || a->ecx == b->ecx);
}

static struct result *find_locked(struct child_cpuid *c, const struct result *r)
{
	for (u32 i = 0; i < c->count; i++)
		if (same_place(&c->result[i], r))
			return &c->result[i];
	return NULL;
}

/* The page is the results' until the partition ends. */
static enum hv_status grow_locked(struct child *child, struct child_cpuid *c)
{
	struct deposit *pool = &child->partition->deposit;
	enum hv_status status;
	struct result *more;
	u64 paid;

	static_assert(RESULTS_GROW * sizeof(*more) <= PAGE_BYTES, "what is paid for");
	status = deposit_take(pool, DEPOSIT_CPUID, &paid);
	if (status != HV_STATUS_SUCCESS)
		return status;
	more = realloc(c->result, (c->capacity + RESULTS_GROW) * sizeof(*more));
	if (!more) {
		deposit_release(pool, paid);
		return HV_STATUS_NO_RESOURCES;
	}
	c->result = more;
	c->capacity += RESULTS_GROW;
	return HV_STATUS_SUCCESS;
}

static enum hv_status store_locked(struct child *child, const struct result *r)
{
	struct child_cpuid *c = child->cpuid;
	enum hv_status status;
	struct result *old;

	if (!c)
		c = child->cpuid = calloc(1, sizeof(*c));
	if (!c)
		return HV_STATUS_NO_RESOURCES;
	old = find_locked(c, r);
	if (old) {
		*old = *r;
		return HV_STATUS_SUCCESS;
	}
	if (c->count == RESULTS_MAX)
		return HV_STATUS_NO_RESOURCES;
	status = c->count == c->capacity ? grow_locked(child, c) : HV_STATUS_SUCCESS;
	if (status != HV_STATUS_SUCCESS)
		return status;
	c->result[c->count++] = *r;
	return HV_STATUS_SUCCESS;
}

/* One of those it is about has its list already. */
static bool too_late(const struct partition *p, u32 index)
{
	u32 count = __atomic_load_n(&p->vp_count, __ATOMIC_ACQUIRE);

	for (u32 i = 0; i < count; i++) {
		const struct vp *vp = partition_vp(p, i);

		if (vp && (index == HV_ANY_VP || index == i) &&
		    __atomic_load_n(&vp->child->cpuid_final, __ATOMIC_ACQUIRE))
			return true;
	}
	return false;
}

/* A client that resets a VP says again what it said before. */
static enum hv_status store(struct partition *p, const struct result *r)
{
	const struct result *old;
	enum hv_status status;

	pthread_mutex_lock(&p->lock);
	old = p->child->cpuid ? find_locked(p->child->cpuid, r) : NULL;
	if (!too_late(p, r->vp))
		status = store_locked(p->child, r);
	else if (old && !memcmp(old->reg, r->reg, sizeof(r->reg)))
		status = HV_STATUS_SUCCESS;
	else
		status = HV_STATUS_INVALID_VP_STATE;
	pthread_mutex_unlock(&p->lock);
	return status;
}

static enum hv_status call_register_result(struct hypercall *hc)
{
	const struct hv_input_register_cpuid_result *in =
		HYPERCALL_IN(hc, struct hv_input_register_cpuid_result);
	struct partition *p = child_get(hc, in->partition_id);
	struct result r = { in->vp_index, in->eax, in->ecx, in->subleaf_specific };
	enum hv_status status;

	if (!p)
		return HV_STATUS_INVALID_PARTITION_ID;
	for (u32 i = 0; i < 4; i++)
		r.reg[i] = in->result[i];
	if (in->intercept_type != HV_INTERCEPT_TYPE_CPUID)
		status = HV_STATUS_INVALID_PARAMETER;
	else if (in->vp_index != HV_ANY_VP && !child_vp(p, in->vp_index))
		status = HV_STATUS_INVALID_VP_INDEX;
	else
		status = store(p, &r);
	child_put(p);
	return status;
}

/* Values as the VP would see them. */

struct lookup {
	const struct engine_cpuid *list;
	u32 count;
	struct xsave_layout layout;
};

static u32 standard_bytes(const struct xsave_layout *l, u64 states)
{
	u32 bytes = xsave_compact_bytes(l, 0);

	for (u32 i = 2; i < XSAVE_COMPONENTS; i++)
		if ((states & l->states & BIT64(i)) && l->part[i].offset + l->part[i].bytes > bytes)
			bytes = l->part[i].offset + l->part[i].bytes;
	return bytes;
}

/* The size of an area depends on what is enabled in it. */
static void xsave_sizes(const struct lookup *l, const struct hv_cpuid_leaf_info *in, u64 xfem,
			u64 xss, struct hv_cpuid_result *out)
{
	if (in->eax != LEAF_XSAVE || !out->eax)
		return;
	if (in->ecx == 0)
		out->ebx = standard_bytes(&l->layout, xfem);
	else if (in->ecx == 1)
		out->ebx = xsave_compact_bytes(&l->layout, xfem | xss);
}

static void lookup(const struct lookup *l, const struct hv_cpuid_leaf_info *in,
		   struct hv_cpuid_result *out)
{
	*out = (struct hv_cpuid_result){ 0 };
	for (u32 i = 0; i < l->count; i++) {
		const struct engine_cpuid *e = &l->list[i];

		if (e->leaf != in->eax || (e->indexed && e->index != in->ecx))
			continue;
		*out = (struct hv_cpuid_result){ e->eax, e->ebx, e->ecx, e->edx };
		return;
	}
}

static int vp_xfem(struct vp *vp, u64 *xfem)
{
	int ret;

	child_vp_hold(vp);
	ret = vp->vcpu->ops->vcpu_get_xcr0(vp->vcpu, xfem);
	child_vp_release(vp);
	return ret;
}

static enum hv_status values(struct hypercall *hc, struct vp *vp, struct engine_cpuid *list)
{
	const struct hv_input_get_vp_cpuid_values *in =
		HYPERCALL_IN(hc, struct hv_input_get_vp_cpuid_values);
	const struct hv_cpuid_leaf_info *leaf = (const void *)(in + 1);
	struct hv_cpuid_result *out = HYPERCALL_OUT(hc, struct hv_cpuid_result);
	bool own = in->flags & HV_GET_VP_CPUID_USE_VP_XFEM_XSS;
	struct lookup l = { .list = list };
	u64 xfem = 0;

	if (child_cpuid_base(vp, list, &l.count) < 0 ||
	    ((in->flags & HV_GET_VP_CPUID_APPLY_REGISTERED) &&
	     child_cpuid_apply(vp, list, &l.count, CHILD_CPUID_MAX) < 0))
		return HV_STATUS_NO_RESOURCES;
	if (own && vp_xfem(vp, &xfem) < 0)
		return HV_STATUS_OPERATION_FAILED;
	xsave_layout_init(&l.layout, list, l.count);
	for (; hc->rep < hc->rep_count; hc->rep++) {
		const struct hv_cpuid_leaf_info *info = &leaf[hc->rep];

		lookup(&l, info, &out[hc->rep]);
		xsave_sizes(&l, info, own ? xfem : info->xfem, own ? 0 : info->xss, &out[hc->rep]);
	}
	return HV_STATUS_SUCCESS;
}

static enum hv_status call_get_values(struct hypercall *hc)
{
	const struct hv_input_get_vp_cpuid_values *in =
		HYPERCALL_IN(hc, struct hv_input_get_vp_cpuid_values);
	struct partition *p = child_get(hc, in->partition_id);
	struct vp *vp = p ? child_vp(p, in->vp_index) : NULL;
	struct engine_cpuid *list;
	enum hv_status status;

	if (!p)
		return HV_STATUS_INVALID_PARTITION_ID;
	list = calloc(CHILD_CPUID_MAX, sizeof(*list));
	if (!vp)
		status = HV_STATUS_INVALID_VP_INDEX;
	else if (in->flags & ~(HV_GET_VP_CPUID_USE_VP_XFEM_XSS | HV_GET_VP_CPUID_APPLY_REGISTERED))
		status = HV_STATUS_INVALID_PARAMETER;
	else
		status = list ? values(hc, vp, list) : HV_STATUS_NO_RESOURCES;
	free(list);
	child_put(p);
	return status;
}

const struct hypercall_desc child_cpuid_hypercalls[] = {
	{ .code = HVCALL_REGISTER_INTERCEPT_RESULT,
	  .name = "HvCallRegisterInterceptResult",
	  .privilege = HV_PRIV_CREATE_PARTITIONS,
	  .in_size = offsetof(struct hv_input_register_cpuid_result, padding2),
	  .handler = call_register_result },
	{ .code = HVCALL_GET_VP_CPUID_VALUES,
	  .name = "HvCallGetVpCpuidValues",
	  .privilege = HV_PRIV_CREATE_PARTITIONS,
	  .in_size = sizeof(struct hv_input_get_vp_cpuid_values),
	  .rep_in = sizeof(struct hv_cpuid_leaf_info),
	  .rep_out = sizeof(struct hv_cpuid_result),
	  .handler = call_get_values },
	{ 0 },
};
