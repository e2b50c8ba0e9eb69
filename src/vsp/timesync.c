// SPDX-License-Identifier: MIT
#include "vsp/timesync.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "vsp/ic.h"

/* 1601-01-01 to 1970-01-01, the distance of the two epochs. */
#define EPOCH_100NS 116444736000000000ull

struct timesync {
	struct ic ic;
	struct timesync_config cfg;
	struct loop_timer tick;
	bool step; /* the next message is a SYNC */
};

static struct timesync *of(struct ic *ic)
{
	return container_of(ic, struct timesync, ic);
}

static u64 host_time_ns(void *ctx)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (u64)now.tv_sec * NS_PER_S + (u64)now.tv_nsec;
}

static int send_time(struct timesync *ts)
{
	u8 flag = ts->step ? IC_TIMESYNC_SYNC : IC_TIMESYNC_SAMPLE;
	struct ic_timesync_v4 v4 = { .flags = flag, .stratum = 2 };
	struct ic_timesync old = { .flags = flag };
	int ret;

	/* Back to back, so that the pair belongs together. */
	v4.reference_time_100ns = vmbus_reference_time(ts->ic.srv);
	v4.parent_time_100ns = ts->cfg.realtime_ns(ts->cfg.ctx) / 100 + EPOCH_100NS;
	old.parent_time_100ns = v4.parent_time_100ns;
	if (ts->ic.message.major >= 4)
		ret = ic_request(&ts->ic, &v4, sizeof(v4), 0);
	else
		ret = ic_request(&ts->ic, &old, sizeof(old), 0);
	if (ret == 0)
		ts->step = false;
	return ret;
}

static void tick(struct loop_timer *t)
{
	struct timesync *ts = container_of(t, struct timesync, tick);

	loop_timer_after(vmbus_server_loop(ts->ic.srv), t, TIMESYNC_PERIOD_NS, tick);
	send_time(ts); /* -EBUSY: the guest is slow; then at the next tick */
}

static void timesync_ready(struct ic *ic)
{
	of(ic)->step = true;
	tick(&of(ic)->tick);
}

static void timesync_answer(struct ic *ic, const struct ic_header *h, const void *body, u32 bytes)
{
	struct timesync *ts = of(ic);

	if (!h && ic->state != IC_READY) /* closed or refused; READY is a lost answer */
		loop_timer_cancel(&ts->tick);
	else if (ts->step)
		send_time(ts);
}

static void step_run(void *arg)
{
	struct timesync **a = arg;
	struct timesync *ts = *a;

	if (ts->ic.state != IC_READY && ts->ic.state != IC_WAITING) {
		*a = NULL;
		return;
	}
	ts->step = true;
	if (ts->ic.state == IC_READY)
		send_time(ts);
}

int timesync_step(struct timesync *ts)
{
	loop_call(vmbus_server_loop(ts->ic.srv), step_run, &ts);
	return ts ? 0 : -ENOTCONN;
}

static void timesync_destroy(void *dev)
{
	struct timesync *ts = of(dev);

	loop_timer_cancel(&ts->tick);
	free(ts);
}

static const struct vmbus_device_ops timesync_ops =
	IC_OPS("timesync", IC_TIMESYNC_GUID, timesync_destroy);
static const struct ic_version frameworks[] = { { 3, 0 }, { 1, 0 } };
static const struct ic_version messages[] = { { 4, 0 }, { 3, 0 }, { 1, 0 } };
static const struct ic_kind timesync_kind = {
	.type = IC_TIMESYNC,
	.framework = frameworks,
	.framework_count = ARRAY_SIZE(frameworks),
	.message = messages,
	.message_count = ARRAY_SIZE(messages),
	.timeout_ns = 2 * TIMESYNC_PERIOD_NS,
	.ready = timesync_ready,
	.answer = timesync_answer,
};

int timesync_offer(struct vmbus_server *srv, const struct timesync_config *cfg,
		   struct timesync **out)
{
	static const struct hv_guid instance = IC_TIMESYNC_INSTANCE;
	struct timesync *ts = calloc(1, sizeof(*ts));
	int ret;

	if (!ts)
		return -ENOMEM;
	if (cfg)
		ts->cfg = *cfg;
	if (!ts->cfg.realtime_ns)
		ts->cfg.realtime_ns = host_time_ns;
	ret = ic_offer(&ts->ic, srv, &timesync_kind, &timesync_ops, &instance);
	if (ret)
		free(ts);
	else if (out)
		*out = ts;
	return ret;
}
