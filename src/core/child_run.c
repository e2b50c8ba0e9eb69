// SPDX-License-Identifier: MIT
/*
 * A child's VP: who runs it, what keeps it out of the guest, and how its parent is
 * told of an intercept.
 *
 * Who runs it is a thread of its own. With the root scheduler it is the thread of the parent's
 * VP that calls HvCallDispatchVp, inside that call: nobody is woken for an intercept. What a
 * halted VP waits for is known to the engine alone, so the VP's own thread takes it over where
 * it halts, waits, and goes on with it to its next intercept; then the parent is signalled.
 *
 * Whoever runs the VP owns the registers while in_guest is set; a parent's thread that wants
 * them holds the VP first, which kicks it out of the guest and waits until it has parked here.
 * Nothing that is done before that waits for a parent. What tells the parent of an intercept
 * parks first, and is the last to touch the VP until it is entered again.
 */
#include <stdio.h>
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

static bool may_run_locked(const struct child *c, const struct child_vp *cv)
{
	return !cv->explicit_suspend && !cv->intercept_suspend && !cv->dispatch_suspend &&
	       !cv->holds && !c->holds && !c->time_frozen;
}

/* By its own thread. */
static bool runnable_locked(const struct child *c, const struct child_vp *cv)
{
	return cv->on_its_own && may_run_locked(c, cv);
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
	cv->dispatcher = NULL;
	pthread_cond_broadcast(&c->vp_cond);
}

/* Parks until nothing holds the VP. False: the thread ends. */
static bool enter(struct vp *vp)
{
	struct child *c = child_of(vp);
	struct child_vp *cv = vp->child;
	bool run;

	pthread_mutex_lock(&c->vp_lock);
	if (cv->in_guest && !cv->dispatcher && (ends_locked(c, cv) || !runnable_locked(c, cv))) {
		pthread_mutex_unlock(&c->vp_lock);
		settle(vp);
		pthread_mutex_lock(&c->vp_lock);
		park_locked(c, cv);
	}
	while (!ends_locked(c, cv) && !runnable_locked(c, cv))
		pthread_cond_wait(&cv->wake, &c->vp_lock);
	run = !ends_locked(c, cv);
	cv->in_guest |= run;
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

/* True: it halts, and was not to sleep here. */
static bool run_once(struct vp *vp, bool halt_exits)
{
	bool halted;
	int ret;

	vp->child->has_run = true;
	vp->vcpu->halt_exits = halt_exits;
	ret = engine_vcpu_run(vp->vcpu);
	halted = ret >= 0 && vp->vcpu->exit.kind == ENGINE_EXIT_HALT;
	if (ret < 0)
		child_vp_fail(vp, "the host refused to run it", (u64)-ret);
	else
		vp_handle_exit(vp);
	return halted;
}

static void *child_vp_thread(void *arg)
{
	struct vp *vp = arg;
	char track[32];

	snprintf(track, sizeof(track), "%s/%llu/vp%u", vp->partition->hv->name,
		 (unsigned long long)vp->partition->id, vp->index);
	trace_name_thread(track);
	vp_runtime_publish(vp);
	while (enter(vp))
		if (ready(vp))
			run_once(vp, false);
	return NULL;
}

int child_run_start(struct vp *vp)
{
	int ret = -pthread_create(&vp->thread, NULL, child_vp_thread, vp);

	vp->thread_started = ret == 0;
	return ret;
}

void child_vp_fail(struct vp *vp, const char *what, u64 code)
{
	partition_stop(vp->partition, STOP_HOST_ERROR, 0,
		       "VP %u cannot go on: %s (0x%llx, RIP 0x%llx)", vp->index, what,
		       (unsigned long long)code, (unsigned long long)vp->vcpu->regs->rip);
	intercept_triple_fault(vp);
}

/* By the message of either scheduler. */
static void message_fill(struct vp *vp, struct hv_message *m)
{
	struct hv_scheduler_signal_pair signal = { .vp_count = 1,
						   .partition_id = { vp->partition->id },
						   .vp_index = { vp->index } };

	m->sender = vp->partition->id;
	if (vp->partition->hv->root_scheduler) {
		m->type = HV_MESSAGE_SCHEDULER_VP_SIGNAL_PAIR;
		m->payload_bytes = sizeof(signal);
		memcpy(m->payload, &signal, sizeof(signal));
	} else {
		m->type = HV_MESSAGE_OPAQUE_INTERCEPT;
		m->payload_bytes = sizeof(vp->index);
		memcpy(m->payload, &vp->index, sizeof(vp->index));
	}
}

/*
 * One message for each intercept, to the VP of the parent's that resumed this one;
 * where that VP does not listen, to any other. One that still waits for its slot
 * will do for this intercept too. Linux waits for as many as were counted, so they are
 * counted before they come.
 */
static void tell_parent(struct vp *vp, u32 first)
{
	struct partition *parent = child_of(vp)->parent;
	struct child_vp *cv = vp->child;
	u32 count = parent->vp_count;

	if (__atomic_load_n(&cv->notice.queued, __ATOMIC_ACQUIRE))
		return;
	message_fill(vp, &cv->notice.m);
	__atomic_fetch_add(&cv->signals, 1, __ATOMIC_RELAXED);
	for (u32 i = 0; i < count; i++) {
		struct vp *to = partition_vp(parent, (first + i) % count);

		if (!synic_listens(&to->synic, HV_SINT_INTERCEPT))
			continue;
		cv->notice_vp = to;
		if (synic_post(&to->synic, HV_SINT_INTERCEPT, &cv->notice) == HV_STATUS_SUCCESS)
			return;
	}
	__atomic_fetch_sub(&cv->signals, 1, __ATOMIC_RELAXED);
	log_limited(LOG_WARNING, "nobody in partition %llu listens to intercepts of its children",
		    (unsigned long long)parent->id);
}

/*
 * Parked before the parent knows: its thread, which is woken by the message and often
 * takes this one's processor, finds the VP free when it answers. A parent that is
 * dispatching it learns of it when that call returns.
 */
void child_vp_intercept(struct vp *vp)
{
	struct child *c = child_of(vp);
	struct child_vp *cv = vp->child;
	bool dispatched;
	u32 first;

	settle(vp);
	census_intercept(vp, cv->intercept.type);
	child_register_page_fill(vp);
	if (cv->intercept_page)
		memcpy(cv->intercept_page, &cv->intercept, sizeof(cv->intercept));
	first = cv->parent_vp;
	pthread_mutex_lock(&c->vp_lock);
	cv->intercept_suspend = true;
	dispatched = cv->dispatcher;
	cv->on_its_own = !vp->partition->hv->root_scheduler;
	park_locked(c, cv);
	pthread_mutex_unlock(&c->vp_lock);
	if (!dispatched)
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

void child_run_end(struct vp *vp)
{
	struct child *c = child_of(vp);

	pthread_mutex_lock(&c->vp_lock);
	pthread_cond_signal(&vp->child->wake);
	kick_locked(vp);
	wait_parked_locked(c, vp);
	pthread_mutex_unlock(&c->vp_lock);
	vp_join(vp);
}

/* The root scheduler. */

static const struct hv_output_dispatch_vp is_ready = { HV_VP_DISPATCH_READY,
						       HV_VP_DISPATCH_NO_EVENT },
					  is_intercepted = { HV_VP_DISPATCH_READY,
							     HV_VP_DISPATCH_INTERCEPT },
					  is_halted = { HV_VP_DISPATCH_BLOCKED,
							HV_VP_DISPATCH_NO_EVENT },
					  is_suspended = { HV_VP_DISPATCH_BLOCKED,
							   HV_VP_DISPATCH_SUSPEND };

/* Where a VP that has no intercept stands. */
static struct hv_output_dispatch_vp standing_locked(const struct child *c, struct child_vp *cv)
{
	if (ends_locked(c, cv) || cv->dispatch_suspend)
		return is_suspended;
	cv->signal_resume = cv->explicit_suspend;
	if (cv->explicit_suspend)
		return is_suspended;
	/* When time goes on, so does the VP: by itself, and its parent is signalled. */
	cv->on_its_own |= c->time_frozen;
	return cv->on_its_own ? is_halted : is_ready;
}

/* The caller holds the VP. True: @by runs it from now on. */
static bool dispatch_begin(struct vp *by, struct vp *vp, u32 flags,
			   struct hv_output_dispatch_vp *out)
{
	struct child *c = child_of(vp);
	struct child_vp *cv = vp->child;
	bool run;

	pthread_mutex_lock(&c->vp_lock);
	if (flags & HV_DISPATCH_CLEAR_INTERCEPT_SUSPEND)
		cv->intercept_suspend = false;
	*out = cv->intercept_suspend ? is_intercepted : standing_locked(c, cv);
	/* Other holds are somebody's call: the parent comes again. */
	run = out->state == HV_VP_DISPATCH_READY && !cv->intercept_suspend && cv->holds == 1 &&
	      !c->holds;
	if (run) {
		cv->in_guest = true;
		cv->dispatcher = by;
	}
	pthread_mutex_unlock(&c->vp_lock);
	return run;
}

/*
 * Something for the parent's VP itself. What came before it began to dispatch has mostly been
 * taken, so it is looked for; what comes later it cannot have taken.
 */
static bool is_wanted(struct vp *by)
{
	if (__atomic_load_n(&by->wanted, __ATOMIC_SEQ_CST) ||
	    partition_stop_reason(by->partition) != STOP_NONE)
		return true;
	return __atomic_load_n(&by->attention, __ATOMIC_SEQ_CST) &&
	       __atomic_exchange_n(&by->attention, false, __ATOMIC_SEQ_CST) &&
	       by->vcpu->ops->vcpu_irq_pending(by->vcpu) != 0;
}

/* False: parked, and @out says why. */
static bool dispatch_goes_on(struct vp *by, struct vp *vp, bool halted,
			     struct hv_output_dispatch_vp *out)
{
	struct child *c = child_of(vp);
	struct child_vp *cv = vp->child;
	bool mine, go;

	pthread_mutex_lock(&c->vp_lock);
	mine = cv->dispatcher == by;
	go = mine && !halted && !ends_locked(c, cv) && may_run_locked(c, cv) &&
	     !__atomic_load_n(&cv->slice_over, __ATOMIC_RELAXED);
	pthread_mutex_unlock(&c->vp_lock);
	if (!mine) {
		*out = is_intercepted;
		return false;
	}
	if (go && !is_wanted(by))
		return true;
	settle(vp);
	pthread_mutex_lock(&c->vp_lock);
	cv->on_its_own = halted;
	*out = standing_locked(c, cv);
	park_locked(c, cv);
	if (runnable_locked(c, cv))
		pthread_cond_signal(&cv->wake);
	pthread_mutex_unlock(&c->vp_lock);
	return false;
}

#define SLICE_MAX (1ull << 50) /* years */

static void slice_over(struct timer *t)
{
	struct child_vp *cv = container_of(t, struct child_vp, slice);
	struct child *c = child_of(cv->vp);

	pthread_mutex_lock(&c->vp_lock);
	__atomic_store_n(&cv->slice_over, true, __ATOMIC_RELAXED);
	kick_locked(cv->vp);
	pthread_mutex_unlock(&c->vp_lock);
}

static void slice_begin(struct vp *vp, u64 units)
{
	struct child_vp *cv = vp->child;

	__atomic_store_n(&cv->slice_over, false, __ATOMIC_RELAXED);
	if (!units)
		return;
	if (!cv->slice.service)
		timer_init(&cv->slice, vp->partition->timers, slice_over);
	units = min_u64(units, SLICE_MAX);
	timer_arm(&cv->slice, (refclock_now_100ns(vp->partition->clock) + units) * 100);
}

static void show_dispatched(struct vp *by, struct vp *vp)
{
	pthread_mutex_lock(&by->dispatch_lock);
	__atomic_store_n(&by->wanted, false, __ATOMIC_SEQ_CST);
	__atomic_store_n(&by->dispatched, vp, __ATOMIC_SEQ_CST);
	pthread_mutex_unlock(&by->dispatch_lock);
}

/* @by runs it: to the end of this call another of the parent's threads can only kick it. */
static struct hv_output_dispatch_vp dispatch_run(struct vp *by, struct vp *vp)
{
	struct hv_output_dispatch_vp out;
	u64 began = refclock_now_100ns(by->partition->clock);
	bool halted = false;

	show_dispatched(by, vp);
	while (dispatch_goes_on(by, vp, halted, &out))
		halted = ready(vp) && run_once(vp, true);
	show_dispatched(by, NULL);
	__atomic_fetch_add(&vp->child->dispatched_100ns,
			   refclock_now_100ns(by->partition->clock) - began, __ATOMIC_RELAXED);
	return out;
}

static struct hv_output_dispatch_vp dispatch(struct vp *by, struct vp *vp,
					     const struct hv_input_dispatch_vp *in)
{
	struct hv_output_dispatch_vp out;
	bool run;

	child_vp_hold(vp);
	child_register_page_apply(vp);
	vp->child->parent_vp = by->index;
	run = dispatch_begin(by, vp, in->flags, &out);
	if (run)
		slice_begin(vp, in->time_slice);
	child_vp_release(vp);
	return run ? dispatch_run(by, vp) : out;
}

bool child_vp_dispatched(const struct vp *vp)
{
	return vp->child && vp->child->dispatcher;
}

void child_vp_signal_resume(struct vp *vp)
{
	struct child *c = child_of(vp);
	struct child_vp *cv = vp->child;
	bool signal;

	pthread_mutex_lock(&c->vp_lock);
	signal = cv->signal_resume && !cv->explicit_suspend && !cv->dispatch_suspend;
	cv->signal_resume &= !signal;
	pthread_mutex_unlock(&c->vp_lock);
	if (signal)
		tell_parent(vp, cv->parent_vp);
}

static enum hv_status call_dispatch_vp(struct hypercall *hc)
{
	const struct hv_input_dispatch_vp *in = HYPERCALL_IN(hc, struct hv_input_dispatch_vp);
	struct hv_output_dispatch_vp *out = HYPERCALL_OUT(hc, struct hv_output_dispatch_vp);
	enum hv_status status = HV_STATUS_SUCCESS;
	struct partition *p;
	struct vp *vp;

	if (!hc->vp->partition->hv->root_scheduler)
		return HV_STATUS_FEATURE_UNAVAILABLE;
	if (in->flags & ~(HV_DISPATCH_CLEAR_INTERCEPT_SUSPEND | HV_DISPATCH_HINTS))
		return HV_STATUS_INVALID_PARAMETER;
	p = child_get(hc, in->partition_id);
	if (!p)
		return HV_STATUS_INVALID_PARTITION_ID;
	vp = child_vp(p, in->vp_index);
	if (!child_active(p))
		status = HV_STATUS_INVALID_PARTITION_STATE;
	else if (!vp)
		status = HV_STATUS_INVALID_VP_INDEX;
	else
		*out = dispatch(hc->vp, vp, in);
	child_put(p);
	return status;
}

const struct hypercall_desc child_run_hypercalls[] = {
	{ .code = HVCALL_DISPATCH_VP,
	  .name = "HvCallDispatchVp",
	  .privilege = HV_PRIV_CREATE_PARTITIONS,
	  .in_size = sizeof(struct hv_input_dispatch_vp),
	  .out_size = sizeof(struct hv_output_dispatch_vp),
	  .handler = call_dispatch_vp },
	{ 0 },
};
