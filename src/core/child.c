// SPDX-License-Identifier: MIT
/*
 * Life of a child partition. It is found by id in its hypervisor's list, which
 * holds one reference; each call of its parent that names it holds another while
 * it runs. Finalize ends its VPs and gives its pool back as a whole; the memory of
 * its objects goes with the last reference, so a call that another VP of the
 * parent's has under way never loses what it works on.
 */
#include "core/child.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "core/child_cpuid.h"
#include "core/child_port.h"
#include "core/gpa_map.h"
#include "core/intercept.h"

static struct child *find_locked(struct hypervisor *hv, const struct partition *parent, u64 id)
{
	struct list *pos;

	list_for_each(pos, &hv->children) {
		struct child *c = list_entry(pos, struct child, link);

		if (c->parent == parent && (id == HV_PARTITION_ID_SELF || c->partition->id == id))
			return c;
	}
	return NULL;
}

/* @id: HV_PARTITION_ID_SELF for whichever is first. */
static struct partition *get(struct partition *parent, u64 id)
{
	struct hypervisor *hv = parent->hv;
	struct child *c;

	pthread_mutex_lock(&hv->children_lock);
	c = find_locked(hv, parent, id);
	if (c)
		c->references++;
	pthread_mutex_unlock(&hv->children_lock);
	return c ? c->partition : NULL;
}

struct partition *child_get(struct hypercall *hc, u64 id)
{
	return id == HV_PARTITION_ID_SELF ? NULL : get(hc->vp->partition, id);
}

static void destroy(struct partition *p)
{
	struct child *c = p->child;
	struct deposit *pool = &c->parent->deposit;
	u64 gpn = c->parent_gpn;

	if (c->timers)
		timer_service_stop(c->timers);
	partition_destroy(p);
	deposit_release(pool, gpn);
}

void child_put(struct partition *p)
{
	struct hypervisor *hv = p->hv;
	bool last;

	pthread_mutex_lock(&hv->children_lock);
	last = --p->child->references == 0;
	pthread_mutex_unlock(&hv->children_lock);
	if (last)
		destroy(p);
}

void child_free(struct partition *p)
{
	struct child *c = p->child;
	struct child_totals *totals = &p->hv->child_totals;

	child_cpuid_destroy(p);
	gpa_map_destroy(c->map);
	if (c->timers)
		timer_service_destroy(c->timers);
	p->vm->ops->vm_destroy(p->vm);
	pthread_mutex_destroy(&c->life_lock);
	pthread_mutex_destroy(&c->level_lock);
	pthread_mutex_destroy(&c->vp_lock);
	pthread_cond_destroy(&c->vp_cond);
	if (c->parent_gpn != ~0ull)
		__atomic_fetch_add(&totals->destroyed, 1, __ATOMIC_RELAXED);
	free(c);
}

/* What the child's VPs tell: their parent is asked. */

static void on_io(void *ctx, struct vp *vp, struct engine_exit *exit)
{
	if (exit->kind == ENGINE_EXIT_IO)
		intercept_io(vp, exit);
	else
		intercept_mmio(vp, exit);
}

static void on_eoi(void *ctx, struct vp *vp, u8 vector)
{
	intercept_eoi(vp, vector);
}

static void on_crash(void *ctx, struct vp *vp, const struct crash_report *report)
{
	log_limited(LOG_WARNING, "the guest of partition %llu reported a crash (0x%llx)",
		    (unsigned long long)vp->partition->id,
		    (unsigned long long)report->parameter[0]);
}

static void on_stopped(void *ctx, struct partition *p)
{
	log_limited(LOG_ERROR, "partition %llu was stopped: %s", (unsigned long long)p->id,
		    p->stop_text);
}

static const struct partition_ops child_ops = {
	.io = on_io, .eoi = on_eoi, .crash = on_crash, .stopped = on_stopped
};

static struct child *child_alloc(struct partition *parent,
				 const struct hv_input_create_partition *in)
{
	struct child *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	*c = (struct child){ .parent = parent,
			     .references = 1,
			     .parent_gpn = ~0ull,
			     .create_flags = in->flags,
			     .disabled_features = { in->disabled_features[0],
						    in->disabled_features[1] },
			     .disabled_xsave = in->disabled_xsave };
	list_init(&c->link);
	pthread_mutex_init(&c->life_lock, NULL);
	pthread_mutex_init(&c->level_lock, NULL);
	pthread_mutex_init(&c->vp_lock, NULL);
	pthread_cond_init(&c->vp_cond, NULL);
	return c;
}

/* The partition owns @c and @vm once this succeeds. */
static int attach(struct partition *parent, struct child *c, struct engine_vm *vm,
		  struct partition **out)
{
	const struct partition_config pc = {
		.max_vps = CHILD_VPS_MAX,
		.max_lps = parent->config.max_lps,
		.build = parent->config.build,
		.physical_bits = parent->config.physical_bits,
		.lends_timers = parent->hv->engine->timers,
	};
	/* The pool is of the parent's memory; the child's own comes with the map. */
	int ret = partition_create(parent->hv, &pc, parent->gmem, vm, &child_ops, NULL, out);

	if (ret)
		return ret;
	c->partition = *out;
	(*out)->child = c;
	refclock_init_like(&c->clock, vm, parent->clock);
	(*out)->clock = &c->clock;
	return 0;
}

static int create(struct partition *parent, const struct hv_input_create_partition *in, u64 gpn,
		  struct partition **out)
{
	const struct engine_vm_config vc = { .max_vcpus = CHILD_VPS_MAX,
					     .hypercall_port = HYPERCALL_PORT,
					     .trap_msrs = true,
					     .trap_unknown_msrs = true,
					     .halt_exits = parent->hv->root_scheduler,
					     .timers = parent->hv->engine->timers };
	struct child *c = child_alloc(parent, in);
	struct engine_vm *vm = NULL;
	int ret = c ? engine_vm_create(parent->hv->engine, &vc, &vm) : -ENOMEM;

	if (!ret)
		ret = attach(parent, c, vm, out);
	if (ret) {
		if (vm)
			vm->ops->vm_destroy(vm);
		free(c);
		return ret;
	}
	c->timers = timer_service_create(refclock_now_ns, &c->clock, false);
	(*out)->timers = c->timers;
	ret = c->timers ? gpa_map_create(*out, &c->map) : -ENOMEM;
	if (ret) {
		destroy(*out);
		return ret;
	}
	c->parent_gpn = gpn;
	__atomic_fetch_add(&parent->hv->child_totals.created, 1, __ATOMIC_RELAXED);
	return 0;
}

static bool publish(struct hypervisor *hv, struct child *c)
{
	struct list *pos;
	u32 count = 0;

	pthread_mutex_lock(&hv->children_lock);
	list_for_each(pos, &hv->children)
		count++;
	if (count < CHILDREN_MAX)
		list_add_tail(&hv->children, &c->link);
	pthread_mutex_unlock(&hv->children_lock);
	return count < CHILDREN_MAX;
}

static enum hv_status call_create_partition(struct hypercall *hc)
{
	const struct hv_input_create_partition *in =
		HYPERCALL_IN(hc, struct hv_input_create_partition);
	struct partition *parent = hc->vp->partition, *p;
	enum hv_status status;
	u64 gpn;

	if (in->isolation)
		return HV_STATUS_INVALID_PARAMETER;
	if (!parent->hv->engine)
		return HV_STATUS_FEATURE_UNAVAILABLE;
	status = deposit_take(&parent->deposit, DEPOSIT_CHILD, &gpn);
	if (status != HV_STATUS_SUCCESS)
		return status;
	if (create(parent, in, gpn, &p) < 0) {
		deposit_release(&parent->deposit, gpn);
		return HV_STATUS_NO_RESOURCES;
	}
	*HYPERCALL_OUT(hc, u64) = p->id;
	if (publish(parent->hv, p->child))
		return HV_STATUS_SUCCESS;
	destroy(p);
	return HV_STATUS_NO_RESOURCES;
}

static enum child_state state(const struct partition *p)
{
	return __atomic_load_n(&p->child->state, __ATOMIC_ACQUIRE);
}

static void state_set(struct partition *p, enum child_state s)
{
	__atomic_store_n(&p->child->state, s, __ATOMIC_RELEASE);
}

static enum hv_status initialize(struct partition *p)
{
	enum hv_status status = HV_STATUS_INVALID_PARTITION_STATE;

	pthread_mutex_lock(&p->child->life_lock);
	if (state(p) == CHILD_CREATED) {
		status = deposit_take(&p->deposit, DEPOSIT_INITIALIZE, NULL);
		if (status == HV_STATUS_SUCCESS)
			state_set(p, CHILD_ACTIVE);
	}
	pthread_mutex_unlock(&p->child->life_lock);
	return status;
}

/* Nothing of it runs afterwards, and every page of its pool can be withdrawn. */
static enum hv_status finalize(struct partition *p)
{
	enum hv_status status = HV_STATUS_INVALID_PARTITION_STATE;

	pthread_mutex_lock(&p->child->life_lock);
	if (state(p) != CHILD_FINALIZED) {
		state_set(p, CHILD_FINALIZED);
		child_vps_end(p);
		child_ports_forget(p);
		stats_forget(p);
		partition_reset(p);
		gpa_map_clear(p->child->map);
		deposit_close(&p->deposit);
		status = HV_STATUS_SUCCESS;
	}
	pthread_mutex_unlock(&p->child->life_lock);
	return status;
}

/*
 * One that was never initialized need not be finalized: Linux does so when it
 * cannot go on with what it has just created.
 */
static enum hv_status remove_child(struct partition *p)
{
	struct hypervisor *hv = p->hv;
	bool mine = false;

	if (state(p) == CHILD_ACTIVE)
		return HV_STATUS_INVALID_PARTITION_STATE;
	finalize(p);
	pthread_mutex_lock(&hv->children_lock);
	if (!list_empty(&p->child->link)) {
		list_del(&p->child->link);
		mine = true;
	}
	pthread_mutex_unlock(&hv->children_lock);
	if (!mine)
		return HV_STATUS_INVALID_PARTITION_ID; /* another VP was first */
	child_put(p);
	return HV_STATUS_SUCCESS;
}

void children_destroy(struct partition *parent)
{
	struct partition *p;

	while ((p = get(parent, HV_PARTITION_ID_SELF))) {
		__atomic_fetch_add(&parent->hv->child_totals.left, 1, __ATOMIC_RELAXED);
		finalize(p);
		remove_child(p);
		child_put(p);
	}
}

/* The three calls that name a child and nothing else. */
static enum hv_status on_child(struct hypercall *hc, enum hv_status (*what)(struct partition *p))
{
	struct partition *p =
		child_get(hc, HYPERCALL_IN(hc, struct hv_input_partition)->partition_id);
	enum hv_status status;

	if (!p)
		return HV_STATUS_INVALID_PARTITION_ID;
	status = what(p);
	child_put(p);
	return status;
}

static enum hv_status call_initialize_partition(struct hypercall *hc)
{
	return on_child(hc, initialize);
}

static enum hv_status call_finalize_partition(struct hypercall *hc)
{
	return on_child(hc, finalize);
}

static enum hv_status call_delete_partition(struct hypercall *hc)
{
	return on_child(hc, remove_child);
}

#define ROW_PARENT .privilege = HV_PRIV_CREATE_PARTITIONS

const struct hypercall_desc child_hypercalls[] = {
	{ .code = HVCALL_CREATE_PARTITION,
	  .name = "HvCallCreatePartition",
	  ROW_PARENT,
	  .in_size = sizeof(struct hv_input_create_partition),
	  .out_size = sizeof(u64),
	  .handler = call_create_partition },
	{ .code = HVCALL_INITIALIZE_PARTITION,
	  .name = "HvCallInitializePartition",
	  ROW_PARENT,
	  .in_size = sizeof(struct hv_input_partition),
	  .handler = call_initialize_partition },
	{ .code = HVCALL_FINALIZE_PARTITION,
	  .name = "HvCallFinalizePartition",
	  ROW_PARENT,
	  .in_size = sizeof(struct hv_input_partition),
	  .handler = call_finalize_partition },
	{ .code = HVCALL_DELETE_PARTITION,
	  .name = "HvCallDeletePartition",
	  ROW_PARENT,
	  .in_size = sizeof(struct hv_input_partition),
	  .handler = call_delete_partition },
	{ 0 },
};
