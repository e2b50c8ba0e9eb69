// SPDX-License-Identifier: MIT
/*
 * A timer is one deadline in reference time. The host timer only says "look
 * now": whether the timer is due is decided under its lock, so a stale wake-up
 * is harmless. A lazy periodic timer skips periods it has missed; any other
 * catches up by a shorter period, but not for ever (TLFS: Periodic Timers): a
 * guest cannot make the host's timer thread spin.
 */
#include "core/stimer.h"

#include <string.h>

#include "core/core_trace.h"
#include "core/msr.h"
#include "core/vp.h"

/* How many missed periods are made up for, and the shortest time between two shots. */
#define CATCH_UP_MAX   16
#define CATCH_UP_100NS 100

static u64 now_100ns(const struct stimer *st)
{
	return refclock_now_100ns(st->vp->partition->clock);
}

/* @earliest: not before, even if the timer is overdue. */
static void arm_locked(struct stimer *st, u64 earliest)
{
	u64 due_ns;

	if (!(st->config & HV_STIMER_ENABLE)) {
		timer_cancel(&st->timer);
		return;
	}
	if (__builtin_mul_overflow(max_u64(st->due_100ns, earliest), 100ull, &due_ns))
		due_ns = ~0ull;
	timer_arm(&st->timer, due_ns);
}

/* A timer that was just enabled: when is it due first? */
static void start_locked(struct stimer *st)
{
	if (st->config & HV_STIMER_ENABLE) {
		st->due_100ns = st->count;
		if ((st->config & HV_STIMER_PERIODIC) &&
		    __builtin_add_overflow(now_100ns(st), st->count, &st->due_100ns))
			st->due_100ns = ~0ull;
	}
	arm_locked(st, 0);
}

/* Nowhere to send to, or nothing to wait for: the timer stays off (TLFS: StimerConfig). */
static void load_locked(struct stimer *st, u64 config, u64 count)
{
	st->config = config & HV_STIMER_VALID_MASK;
	st->count = count;
	if ((!(config & HV_STIMER_DIRECT) && HV_STIMER_SINT(config) == 0) || count == 0)
		st->config &= ~HV_STIMER_ENABLE;
	start_locked(st);
}

/* After a shot: the next one, or off. */
static void advance_locked(struct stimer *st, u64 now)
{
	u64 missed;

	if (!(st->config & HV_STIMER_PERIODIC)) {
		st->config &= ~HV_STIMER_ENABLE;
		return;
	}
	missed = (now - st->due_100ns) / st->count;
	if (st->config & HV_STIMER_LAZY)
		st->due_100ns += missed * st->count;
	else if (missed > CATCH_UP_MAX)
		st->due_100ns += (missed - CATCH_UP_MAX) * st->count;
	if (__builtin_add_overflow(st->due_100ns, st->count, &st->due_100ns))
		st->due_100ns = ~0ull;
}

static void deliver(struct message *msg)
{
	struct stimer *st = container_of(msg, struct stimer, message);
	struct hv_timer_message_payload *body = (void *)msg->m.payload;

	body->delivery_time = now_100ns(st);
}

static void done(struct message *msg, bool delivered)
{
}

/*
 * At most one message of a timer is under way: while it waits for its slot the
 * next expiry of a periodic timer has nothing to add.
 */
static void send(struct stimer *st, u64 config, u64 due)
{
	struct synic *synic = &st->vp->synic;
	struct hv_timer_message_payload *body = (void *)st->message.m.payload;

	if (config & HV_STIMER_DIRECT) {
		vp_interrupt(st->vp, HV_STIMER_VECTOR(config));
		return;
	}
	if (__atomic_load_n(&st->message.queued, __ATOMIC_ACQUIRE))
		return;
	*body = (struct hv_timer_message_payload){ .timer_index = st->index,
						   .expiration_time = due };
	synic_post(synic, HV_STIMER_SINT(config), &st->message);
}

static void fire(struct timer *t)
{
	struct stimer *st = container_of(t, struct stimer, timer);
	u64 now, due = 0, config = 0;
	bool expired;

	pthread_mutex_lock(&st->lock);
	now = now_100ns(st);
	expired = (st->config & HV_STIMER_ENABLE) && now >= st->due_100ns;
	if (expired) {
		config = st->config;
		due = st->due_100ns;
		advance_locked(st, now);
	}
	/* Early by rounding, or periodic: again. */
	if ((st->config & HV_STIMER_ENABLE) && !refclock_frozen(st->vp->partition->clock))
		arm_locked(st, expired ? now + CATCH_UP_100NS : 0);
	pthread_mutex_unlock(&st->lock);
	if (!expired)
		return;
	core_emit(TRACE_STIMER, st->vp->index, st->index, due, now,
		  TRACE_WORD(st->vp->partition->hv->name));
	send(st, config, due);
}

void stimer_rearm(struct stimer *st)
{
	pthread_mutex_lock(&st->lock);
	arm_locked(st, 0);
	pthread_mutex_unlock(&st->lock);
}

bool stimer_write_config(struct stimer *st, u64 value)
{
	if ((value & HV_STIMER_DIRECT) && HV_STIMER_VECTOR(value) < HV_SINT_MIN_VECTOR)
		return false;
	pthread_mutex_lock(&st->lock);
	load_locked(st, value, st->count);
	pthread_mutex_unlock(&st->lock);
	return true;
}

bool stimer_write_count(struct stimer *st, u64 value)
{
	pthread_mutex_lock(&st->lock);
	st->count = value;
	if (value == 0)
		st->config &= ~HV_STIMER_ENABLE;
	else if ((st->config & HV_STIMER_AUTO_ENABLE) &&
		 ((st->config & HV_STIMER_DIRECT) || HV_STIMER_SINT(st->config)))
		st->config |= HV_STIMER_ENABLE;
	start_locked(st);
	pthread_mutex_unlock(&st->lock);
	return true;
}

static u64 read_locked(struct stimer *st, const u64 *reg)
{
	u64 value;

	pthread_mutex_lock(&st->lock);
	value = *reg;
	pthread_mutex_unlock(&st->lock);
	return value;
}

u64 stimer_read_config(struct stimer *st)
{
	return read_locked(st, &st->config);
}

u64 stimer_read_count(struct stimer *st)
{
	return read_locked(st, &st->count);
}

void stimer_state_get(struct stimer *st, struct hv_stimer_state *out)
{
	const struct hv_timer_message_payload *body = (void *)st->message.m.payload;

	pthread_mutex_lock(&st->lock);
	*out = (struct hv_stimer_state){ .config = st->config, .count = st->count };
	if (__atomic_load_n(&st->message.queued, __ATOMIC_ACQUIRE)) {
		out->flags = HV_STIMER_STATE_MESSAGE_PENDING;
		out->undelivered_expiration = body->expiration_time;
	}
	pthread_mutex_unlock(&st->lock);
}

bool stimer_state_ok(const struct hv_stimer_state *in)
{
	return !(in->config & HV_STIMER_DIRECT) ||
	       HV_STIMER_VECTOR(in->config) >= HV_SINT_MIN_VECTOR;
}

void stimer_state_set(struct stimer *st, const struct hv_stimer_state *in)
{
	pthread_mutex_lock(&st->lock);
	load_locked(st, in->config, in->count);
	pthread_mutex_unlock(&st->lock);
	if (in->flags & HV_STIMER_STATE_MESSAGE_PENDING)
		send(st, in->config & ~HV_STIMER_DIRECT, in->undelivered_expiration);
}

void stimer_init(struct stimer *st, struct vp *vp, u32 index)
{
	/* The engine's are off, too. */
	*st = (struct stimer){ .vp = vp, .index = index, .lent = vp->partition->lends_timers };
	pthread_mutex_init(&st->lock, NULL);
	timer_init(&st->timer, vp->partition->timers, fire);
	st->message = (struct message){
		.m = { .type = HV_MESSAGE_TIMER_EXPIRED,
		       .payload_bytes = sizeof(struct hv_timer_message_payload) },
		.deliver = deliver,
		.done = done,
	};
	list_init(&st->message.link);
}

void stimer_fini(struct stimer *st)
{
	timer_fini(&st->timer);
	pthread_mutex_destroy(&st->lock);
}

void stimer_off_locked(struct stimer *st)
{
	st->config = st->count = 0;
	arm_locked(st, 0);
}

void stimer_reset(struct stimer *st)
{
	pthread_mutex_lock(&st->lock);
	stimer_off_locked(st);
	pthread_mutex_unlock(&st->lock);
}

void stimer_take_back(struct stimer *st, u64 config, u64 count)
{
	pthread_mutex_lock(&st->lock);
	load_locked(st, config, count);
	pthread_mutex_unlock(&st->lock);
}

static enum vp_fault stimer_read(struct vp *vp, u32 i, u64 *value)
{
	struct stimer *st = &vp->stimer[i / 2];

	stimers_recall(vp);
	*value = i % 2 ? stimer_read_count(st) : stimer_read_config(st);
	stimers_lend(vp);
	return VP_OK;
}

/* A direct-mode timer where that mode is not offered is a reserved bit. */
static enum vp_fault stimer_write(struct vp *vp, u32 i, u64 value)
{
	struct stimer *st = &vp->stimer[i / 2];
	bool direct = vp->partition->config.features_edx & HV_FEATURE_STIMER_DIRECT;
	bool ok;

	stimers_recall(vp);
	if (i % 2)
		ok = stimer_write_count(st, value);
	else
		ok = (direct || !(value & HV_STIMER_DIRECT)) && stimer_write_config(st, value);
	stimers_lend(vp);
	return ok ? VP_OK : VP_FAULT_GP;
}

const struct msr_desc stimer_msrs[] = {
	{ HV_X64_MSR_STIMER0_CONFIG, 2 * HV_SYNIC_STIMER_COUNT, "STIMER", stimer_read, stimer_write,
	  .privilege = HV_PRIV_ACCESS_SYNTHETIC_TIMERS, .pairs = true },
	{ 0 },
};
