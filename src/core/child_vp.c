// SPDX-License-Identifier: MIT
/* Creation and end of a child's VPs. What runs them: child_run.c. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/child.h"
#include "core/insn.h"

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

static void notice_done(struct message *msg, bool delivered)
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
				 .memo = insn_memo_create(),
				 .notice = { .done = notice_done } };
	list_init(&cv->notice.link);
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
	if (cv->slice.service)
		timer_fini(&cv->slice);
	insn_memo_destroy(cv->memo);
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
	vp->child->dispatch_suspend = vp->child->signal_resume = false;
	vp->child->on_its_own = !p->hv->root_scheduler;
	vp->child->signals = 0;
	pthread_mutex_unlock(&p->child->vp_lock);
	memcpy(vp->child->pool_gpn, gpns, sizeof(gpns));
	if (child_run_start(vp) == 0)
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
	if (cv->notice_vp)
		synic_cancel(&cv->notice_vp->synic, &cv->notice);
	child_state_pages_unmap(vp);
	pthread_mutex_unlock(&cv->access);
}

void child_vps_end(struct partition *p)
{
	struct child *c = p->child;
	struct vp *vp;

	pthread_mutex_lock(&c->vp_lock);
	c->ending = true;
	pthread_mutex_unlock(&c->vp_lock);
	for (u32 i = 0; i < CHILD_VPS_MAX; i++) {
		if (!(vp = partition_vp(p, i)))
			continue;
		child_run_end(vp);
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
	pthread_mutex_unlock(&p->child->vp_lock);
	child_run_end(vp);
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
