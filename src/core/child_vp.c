// SPDX-License-Identifier: MIT
/*
 * A child's VP: its thread, what keeps it out of the guest, and how its parent is
 * told of an intercept. The thread owns the registers while in_guest is set; a
 * parent's thread that wants them holds the VP first, which kicks the thread and
 * waits until it has parked here. Nothing the thread does before that waits for a
 * parent. What tells the parent of an intercept parks first, and is the last to
 * touch the VP until the thread enters again.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/trace.h"
#include "core/census.h"
#include "core/child_cpuid.h"
#include "core/gpa_map.h"
#include "core/intercept.h"

static struct child *child_of(const struct vp *vp)
{
	return vp->partition->child;
}

static bool runnable_locked(const struct child *c, const struct child_vp *cv)
{
	return !cv->explicit_suspend && !cv->intercept_suspend && !cv->holds && !c->holds &&
	       !c->time_frozen;
}

static bool ends_locked(const struct child *c, const struct child_vp *cv)
{
	return c->ending || cv->deleted;
}

/* What the last exit left is finished before others see the registers. */
static void settle(struct vp *vp)
{
	int ret = vp->vcpu->ops->vcpu_complete(vp->vcpu);

	if (ret < 0)
		log_limited(LOG_ERROR,
			    "VP %u of partition %llu: an instruction was not finished (%d)",
			    vp->index, (unsigned long long)vp->partition->id, -ret);
}

/* From here on the registers are who holds the VP's. */
static void park_locked(struct child *c, struct child_vp *cv)
{
	cv->in_guest = false;
	pthread_cond_broadcast(&c->vp_cond);
}

/* Parks until nothing holds the VP. False: the thread ends. */
static bool enter(struct vp *vp)
{
	struct child *c = child_of(vp);
	struct child_vp *cv = vp->child;
	bool run;

	pthread_mutex_lock(&c->vp_lock);
	if (cv->in_guest && (ends_locked(c, cv) || !runnable_locked(c, cv))) {
		pthread_mutex_unlock(&c->vp_lock);
		settle(vp);
		pthread_mutex_lock(&c->vp_lock);
		park_locked(c, cv);
	}
	while (!ends_locked(c, cv) && !runnable_locked(c, cv))
		pthread_cond_wait(&cv->wake, &c->vp_lock);
	run = !ends_locked(c, cv);
	cv->in_guest = run;
	pthread_mutex_unlock(&c->vp_lock);
	return run;
}

/* The parent has set special registers that no processor can have together. */
static void intercept_invalid_registers(struct vp *vp)
{
	struct hv_message *m = &vp->child->intercept;

	*m = (struct hv_message){ .type = HV_MESSAGE_INVALID_VP_REGISTER_VALUE,
				  .payload_bytes = sizeof(u32) };
	memcpy(m->payload, &vp->index, sizeof(u32));
	log_limited(LOG_WARNING, "VP %u of partition %llu has registers that cannot be", vp->index,
		    (unsigned long long)vp->partition->id);
	child_vp_intercept(vp);
}

/* Everything a parent may have changed is the engine's before the guest goes on. */
static bool ready(struct vp *vp)
{
	struct child_vp *cv = vp->child;
	u16 sints;
	int ret;

	if (partition_stop_reason(vp->partition) != STOP_NONE) {
		intercept_triple_fault(vp); /* the parent resumed what cannot go on */
		return false;
	}
	/* What a monitor that could not fill the page has carried out instead was of no effect. */
	if (vp->vcpu->regs->rip == cv->ask_rip + INTERCEPT_NOTHING_BYTES) {
		vp->vcpu->regs->rip = cv->ask_rip;
		vp->vcpu->regs_dirty = true;
	}
	cv->ask_rip = ~0ull;
	if (cv->shut_down) {
		intercept_triple_fault(vp);
		return false;
	}
	if (!cv->cpuid_final && (ret = child_cpuid_set(vp, true)) < 0) {
		child_vp_fail(vp, "its CPUID was refused", (u64)-ret);
		return false;
	}
	if (!child_sregs_flush(vp)) {
		intercept_invalid_registers(vp);
		return false;
	}
	sints = synic_notify_wanted(&vp->synic) ? synic_take_deliverable(&vp->synic) : 0;
	if (sints) {
		intercept_sint_deliverable(vp, sints);
		return false;
	}
	if (gpa_map_prepare(child_of(vp)->map, &vp->child->ask))
		return true;
	if (partition_stop_reason(vp->partition) != STOP_NONE)
		intercept_triple_fault(vp);
	else
		intercept_missing_page(vp, vp->child->ask.gpa);
	return false;
}

static void *child_vp_thread(void *arg)
{
	struct vp *vp = arg;
	char track[32];
	int ret;

	snprintf(track, sizeof(track), "%s/%llu/vp%u", vp->partition->hv->name,
		 (unsigned long long)vp->partition->id, vp->index);
	trace_name_thread(track);
	vp_runtime_publish(vp);
	while (enter(vp)) {
		if (!ready(vp))
			continue;
		vp->child->has_run = true;
		ret = engine_vcpu_run(vp->vcpu);
		if (ret < 0)
			child_vp_fail(vp, "the host refused to run it", (u64)-ret);
		else
			vp_handle_exit(vp);
	}
	return NULL;
}

void child_vp_fail(struct vp *vp, const char *what, u64 code)
{
	partition_stop(vp->partition, STOP_HOST_ERROR, 0,
		       "VP %u cannot go on: %s (0x%llx, RIP 0x%llx)", vp->index, what,
		       (unsigned long long)code, (unsigned long long)vp->vcpu->regs->rip);
	intercept_triple_fault(vp);
}

/*
 * One message for each intercept, to the VP of the parent's that resumed this one;
 * where that VP does not listen, to any other. One that still waits for its slot
 * will do for this intercept too.
 */
static void tell_parent(struct vp *vp, u32 first)
{
	struct partition *parent = child_of(vp)->parent;
	struct child_vp *cv = vp->child;
	u32 count = parent->vp_count, payload = vp->index;

	if (__atomic_load_n(&cv->opaque.queued, __ATOMIC_ACQUIRE))
		return;
	cv->opaque.m.type = HV_MESSAGE_OPAQUE_INTERCEPT;
	cv->opaque.m.payload_bytes = sizeof(payload);
	cv->opaque.m.sender = vp->partition->id;
	memcpy(cv->opaque.m.payload, &payload, sizeof(payload));
	for (u32 i = 0; i < count; i++) {
		struct vp *to = partition_vp(parent, (first + i) % count);

		if (!synic_listens(&to->synic, HV_SINT_INTERCEPT))
			continue;
		cv->opaque_vp = to;
		if (synic_post(&to->synic, HV_SINT_INTERCEPT, &cv->opaque) == HV_STATUS_SUCCESS)
			return;
	}
	log_limited(LOG_WARNING, "nobody in partition %llu listens to intercepts of its children",
		    (unsigned long long)parent->id);
}

/*
 * Parked before the parent knows: its thread, which is woken by the message and often
 * takes this one's processor, finds the VP free when it answers.
 */
void child_vp_intercept(struct vp *vp)
{
	struct child *c = child_of(vp);
	struct child_vp *cv = vp->child;
	u32 first;

	settle(vp);
	census_intercept(vp, cv->intercept.type);
	child_register_page_fill(vp);
	if (cv->intercept_page)
		memcpy(cv->intercept_page, &cv->intercept, sizeof(cv->intercept));
	first = cv->parent_vp;
	pthread_mutex_lock(&c->vp_lock);
	cv->intercept_suspend = true;
	park_locked(c, cv);
	pthread_mutex_unlock(&c->vp_lock);
	tell_parent(vp, first);
}

/* What is registered later still counts: the list is final with the first run. */
void child_vp_prepare(struct vp *vp)
{
	if (vp->child->cpuid_final)
		return;
	if (child_cpuid_set(vp, false) < 0)
		log_limited(LOG_ERROR, "VP %u of partition %llu: the host does not take its CPUID",
			    vp->index, (unsigned long long)vp->partition->id);
}

bool child_vp_suspended(struct vp *vp)
{
	struct child *c = child_of(vp);
	bool suspended;

	pthread_mutex_lock(&c->vp_lock);
	suspended = vp->child->explicit_suspend || vp->child->intercept_suspend;
	pthread_mutex_unlock(&c->vp_lock);
	return suspended;
}

/* Holds. */

/* With an intercept under way the thread is on its way to park. */
static void kick_locked(struct vp *vp)
{
	if (vp->child->in_guest && !vp->child->intercept_suspend)
		engine_vcpu_kick(vp->vcpu);
}

/* For the VPs that may go on now, and only for them: to wake a thread costs much more than a call.
 */
static void wake_all_locked(struct partition *p)
{
	struct vp *vp;

	for (u32 i = 0; i < CHILD_VPS_MAX; i++)
		if ((vp = partition_vp(p, i)) &&
		    (ends_locked(p->child, vp->child) || runnable_locked(p->child, vp->child)))
			pthread_cond_signal(&vp->child->wake);
}

static void wait_parked_locked(struct child *c, struct vp *vp)
{
	while (vp->child->in_guest)
		pthread_cond_wait(&c->vp_cond, &c->vp_lock);
}

void child_hold(struct partition *p)
{
	struct child *c = p->child;
	struct vp *vp;

	pthread_mutex_lock(&c->vp_lock);
	c->holds++;
	for (u32 i = 0; i < CHILD_VPS_MAX; i++)
		if ((vp = partition_vp(p, i)))
			kick_locked(vp);
	for (u32 i = 0; i < CHILD_VPS_MAX; i++)
		if ((vp = partition_vp(p, i)))
			wait_parked_locked(c, vp);
	pthread_mutex_unlock(&c->vp_lock);
}

void child_release(struct partition *p)
{
	struct child *c = p->child;

	pthread_mutex_lock(&c->vp_lock);
	c->holds--;
	wake_all_locked(p);
	pthread_mutex_unlock(&c->vp_lock);
}

void child_vp_hold(struct vp *vp)
{
	struct child *c = child_of(vp);

	pthread_mutex_lock(&vp->child->access);
	pthread_mutex_lock(&c->vp_lock);
	vp->child->holds++;
	kick_locked(vp);
	wait_parked_locked(c, vp);
	pthread_mutex_unlock(&c->vp_lock);
}

void child_vp_release(struct vp *vp)
{
	struct child *c = child_of(vp);
	struct child_vp *cv = vp->child;
	bool goes_on;

	pthread_mutex_lock(&c->vp_lock);
	cv->holds--;
	goes_on = runnable_locked(c, cv);
	pthread_mutex_unlock(&c->vp_lock);
	if (goes_on)
		pthread_cond_signal(&cv->wake);
	pthread_mutex_unlock(&cv->access);
}

/* Creation and end. */

struct vp *child_vp(struct partition *p, u32 index)
{
	struct vp *vp = partition_vp(p, index);
	bool exists;

	if (!vp)
		return NULL;
	pthread_mutex_lock(&p->child->vp_lock);
	exists = !vp->child->deleted;
	pthread_mutex_unlock(&p->child->vp_lock);
	return exists ? vp : NULL;
}

static void opaque_done(struct message *msg, bool delivered)
{
}

static struct child_vp *child_vp_alloc(void)
{
	struct child_vp *cv = calloc(1, sizeof(*cv));
	pthread_mutexattr_t recursive;

	if (!cv)
		return NULL;
	*cv = (struct child_vp){ .explicit_suspend = true,
				 .ask_rip = ~0ull,
				 .register_gpn = ~0ull,
				 .intercept_gpn = ~0ull,
				 .opaque = { .done = opaque_done } };
	list_init(&cv->opaque.link);
	pthread_mutexattr_init(&recursive);
	pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_RECURSIVE);
	pthread_mutex_init(&cv->access, &recursive);
	pthread_mutexattr_destroy(&recursive);
	pthread_cond_init(&cv->wake, NULL);
	return cv;
}

static void child_vp_dispose(struct child_vp *cv)
{
	if (!cv)
		return;
	pthread_cond_destroy(&cv->wake);
	pthread_mutex_destroy(&cv->access);
	free(cv);
}

void child_vp_free(struct vp *vp)
{
	vp->vcpu->ops->vcpu_destroy(vp->vcpu);
	child_vp_dispose(vp->child);
	__atomic_fetch_add(&vp->partition->hv->child_totals.vps_destroyed, 1, __ATOMIC_RELAXED);
}

/* The engine numbers local APICs by this id: that of a VP is its index. */
static int make(struct partition *p, u32 index, struct vp **out)
{
	struct child_vp *cv = child_vp_alloc();
	struct engine_vcpu *vcpu = NULL;
	int ret = cv ? p->vm->ops->vcpu_create(p->vm, index, &vcpu) : -ENOMEM;

	if (!ret)
		ret = vp_create_child(p, index, vcpu, cv, out);
	if (!ret) {
		__atomic_fetch_add(&p->hv->child_totals.vps_created, 1, __ATOMIC_RELAXED);
		return 0;
	}
	if (vcpu)
		vcpu->ops->vcpu_destroy(vcpu);
	child_vp_dispose(cv);
	return ret;
}

static int start(struct vp *vp)
{
	int ret = -pthread_create(&vp->thread, NULL, child_vp_thread, vp);

	vp->thread_started = ret == 0;
	return ret;
}

/* A VP that Linux deletes and creates again has never run, and is as it was made. */
static enum hv_status create_life_locked(struct partition *p, u32 index)
{
	struct vp *vp = partition_vp(p, index);
	enum hv_status status;
	u64 gpns[DEPOSIT_VP];

	if (!child_active(p))
		return HV_STATUS_INVALID_PARTITION_STATE;
	if (vp && (!vp->child->deleted || vp->child->has_run))
		return HV_STATUS_INVALID_VP_STATE;
	status = deposit_take(&p->deposit, DEPOSIT_VP, gpns);
	if (status != HV_STATUS_SUCCESS)
		return status;
	if ((!vp && make(p, index, &vp) < 0)) {
		status = HV_STATUS_NO_RESOURCES;
		goto release;
	}
	pthread_mutex_lock(&p->child->vp_lock);
	vp->child->deleted = false;
	vp->child->explicit_suspend = true;
	vp->child->intercept_suspend = false;
	pthread_mutex_unlock(&p->child->vp_lock);
	memcpy(vp->child->pool_gpn, gpns, sizeof(gpns));
	if (start(vp) == 0)
		return HV_STATUS_SUCCESS;
	pthread_mutex_lock(&p->child->vp_lock);
	vp->child->deleted = true;
	pthread_mutex_unlock(&p->child->vp_lock);
	status = HV_STATUS_NO_RESOURCES;
release:
	for (u32 i = 0; i < DEPOSIT_VP; i++)
		deposit_release(&p->deposit, gpns[i]);
	return status;
}

enum hv_status child_create_vp(struct hypercall *hc, const struct hv_input_create_vp *in)
{
	struct partition *p = child_get(hc, in->partition_id);
	enum hv_status status = HV_STATUS_INVALID_VP_INDEX;

	if (!p)
		return HV_STATUS_INVALID_PARTITION_ID;
	if (in->vp_index < CHILD_VPS_MAX) {
		pthread_mutex_lock(&p->child->life_lock);
		status = create_life_locked(p, in->vp_index);
		pthread_mutex_unlock(&p->child->life_lock);
	}
	child_put(p);
	return status;
}

/* The thread has ended: nothing of the VP's is with its parent any more. */
static void withdraw_from_parent(struct vp *vp)
{
	struct child_vp *cv = vp->child;

	pthread_mutex_lock(&cv->access);
	if (cv->opaque_vp)
		synic_cancel(&cv->opaque_vp->synic, &cv->opaque);
	child_state_pages_unmap(vp);
	pthread_mutex_unlock(&cv->access);
}

void child_vps_end(struct partition *p)
{
	struct child *c = p->child;
	struct vp *vp;

	pthread_mutex_lock(&c->vp_lock);
	c->ending = true;
	wake_all_locked(p);
	for (u32 i = 0; i < CHILD_VPS_MAX; i++)
		if ((vp = partition_vp(p, i)))
			kick_locked(vp);
	pthread_mutex_unlock(&c->vp_lock);
	for (u32 i = 0; i < CHILD_VPS_MAX; i++) {
		if (!(vp = partition_vp(p, i)))
			continue;
		vp_join(vp);
		withdraw_from_parent(vp);
	}
}

static enum hv_status delete_life_locked(struct partition *p, u32 index)
{
	struct vp *vp = child_vp(p, index);

	if (!child_active(p))
		return HV_STATUS_INVALID_PARTITION_STATE;
	if (!vp)
		return HV_STATUS_INVALID_VP_INDEX;
	pthread_mutex_lock(&p->child->vp_lock);
	vp->child->deleted = true;
	pthread_cond_signal(&vp->child->wake);
	pthread_mutex_unlock(&p->child->vp_lock);
	vp_join(vp);
	withdraw_from_parent(vp);
	pthread_mutex_lock(&vp->child->access); /* a call that found it before may be at it */
	vp_reset(vp);
	pthread_mutex_unlock(&vp->child->access);
	for (u32 i = 0; i < DEPOSIT_VP; i++)
		deposit_release(&p->deposit, vp->child->pool_gpn[i]);
	return HV_STATUS_SUCCESS;
}

static enum hv_status call_delete_vp(struct hypercall *hc)
{
	const struct hv_input_delete_vp *in = HYPERCALL_IN(hc, struct hv_input_delete_vp);
	struct partition *p = child_get(hc, in->partition_id);
	enum hv_status status;

	if (!p)
		return HV_STATUS_INVALID_PARTITION_ID;
	pthread_mutex_lock(&p->child->life_lock);
	status = delete_life_locked(p, in->vp_index);
	pthread_mutex_unlock(&p->child->life_lock);
	child_put(p);
	return status;
}

const struct hypercall_desc child_vp_hypercalls[] = {
	{ .code = HVCALL_DELETE_VP,
	  .name = "HvCallDeleteVp",
	  .privilege = HV_PRIV_CREATE_PARTITIONS,
	  .in_size = sizeof(struct hv_input_delete_vp),
	  .handler = call_delete_vp },
	{ 0 },
};
