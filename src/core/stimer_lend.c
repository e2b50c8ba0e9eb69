// SPDX-License-Identifier: MIT
/*
 * Timers that the engine has. Linux uses one of a VP's, for one shot and with a vector of its
 * own, and writes its count twice and more in each idle period; with a timer of the engine's
 * that is no exit, and no thread has to wake for it. All others are done in stimer.c: a
 * partition lends its timers until a VP wants one that sends a message or is periodic, and from
 * then on none. Nor does it if there is a trace, which would miss them (partition_create()).
 *
 * A timer that is lent is off here; what the guest has written is the engine's alone.
 */
#include "base/log.h"
#include "core/vp.h"

static bool lends(const struct partition *p)
{
	return __atomic_load_n(&p->lends_timers, __ATOMIC_ACQUIRE);
}

/* The engine's that wait go on; the next access to one brings it back. */
static void lends_no_more(struct partition *p)
{
	int ret = 0;

	pthread_mutex_lock(&p->lock);
	if (lends(p))
		ret = p->vm->ops->vm_timers(p->vm, false, 0, 0);
	__atomic_store_n(&p->lends_timers, false, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&p->lock);
	if (ret < 0)
		partition_stop(p, STOP_HOST_ERROR, 0,
			       "the host does not give timers back (errno %d)", -ret);
}

/* The engine keeps the partition's time, and takes counts from now on. */
static bool lend_counts(struct partition *p)
{
	u64 offset = __atomic_load_n(&p->clock->offset, __ATOMIC_ACQUIRE);
	bool lent;

	pthread_mutex_lock(&p->lock);
	if (!p->counts_lent)
		p->counts_lent = lends(p) &&
				 p->vm->ops->vm_timers(p->vm, true, p->clock->scale, offset) >= 0;
	lent = p->counts_lent;
	pthread_mutex_unlock(&p->lock);
	return lent;
}

static u32 config_msr(const struct stimer *st)
{
	return HV_X64_MSR_STIMER0_CONFIG + 2 * st->index;
}

/* One shot, with a vector; or it is not used. */
static bool can_be_lent(u64 config)
{
	return !config || ((config & HV_STIMER_DIRECT) && !(config & HV_STIMER_PERIODIC));
}

static bool lend(struct stimer *st)
{
	struct engine_vcpu *vcpu = st->vp->vcpu;

	if (st->lent)
		return true;
	pthread_mutex_lock(&st->lock);
	/* The count first: with the configuration it starts. */
	st->lent = vcpu->ops->vcpu_set_msr(vcpu, config_msr(st) + 1, st->count) >= 0 &&
		   vcpu->ops->vcpu_set_msr(vcpu, config_msr(st), st->config) >= 0;
	if (st->lent)
		stimer_off_locked(st);
	pthread_mutex_unlock(&st->lock);
	return st->lent;
}

static void recall(struct stimer *st)
{
	struct engine_vcpu *vcpu = st->vp->vcpu;
	u64 config = 0, count = 0;

	if (!st->lent)
		return;
	st->lent = false;
	if (vcpu->ops->vcpu_get_msr(vcpu, config_msr(st), &config) < 0 ||
	    vcpu->ops->vcpu_get_msr(vcpu, config_msr(st) + 1, &count) < 0 ||
	    (config && vcpu->ops->vcpu_set_msr(vcpu, config_msr(st), 0) < 0))
		log_limited(LOG_ERROR, "timer %u of VP %u is lost", st->index, st->vp->index);
	stimer_take_back(st, config, count);
}

void stimers_lend(struct vp *vp)
{
	struct partition *p = vp->partition;
	bool can = true, used = false;

	/* Time that stands still: when it goes on. */
	if (!lends(p) || refclock_frozen(p->clock))
		return;
	for (u32 i = 0; i < HV_SYNIC_STIMER_COUNT; i++) {
		u64 config = stimer_read_config(&vp->stimer[i]);

		can &= can_be_lent(config);
		used |= config != 0;
	}
	can = can && (!used || lend_counts(p));
	for (u32 i = 0; can && i < HV_SYNIC_STIMER_COUNT; i++)
		can = lend(&vp->stimer[i]);
	if (!can)
		lends_no_more(p);
}

void stimers_recall(struct vp *vp)
{
	for (u32 i = 0; i < HV_SYNIC_STIMER_COUNT; i++)
		recall(&vp->stimer[i]);
}

bool stimers_lent(const struct vp *vp)
{
	return vp->stimer[0].lent;
}

void stimers_clock_changes(struct partition *p)
{
	pthread_mutex_lock(&p->lock);
	p->counts_lent = false;
	pthread_mutex_unlock(&p->lock);
}

void stimers_clock_stops(struct partition *p)
{
	for (u32 i = 0; i < p->config.max_vps; i++) {
		struct vp *vp = partition_vp(p, i);

		if (vp)
			stimers_recall(vp);
	}
	stimers_clock_changes(p);
}
