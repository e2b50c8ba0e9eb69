// SPDX-License-Identifier: MIT
#include "vsp/vss.h"

#include <errno.h>
#include <stdlib.h>

#include "base/log.h"
#include "vsp/ic.h"

#define DEFAULT_HOLD_NS (60 * NS_PER_S)
#define THAW_TRIES	3u

struct vss {
	struct ic ic;
	u32 state;     /* atomic */
	bool owe_thaw; /* a freeze was sent and no thaw after it was confirmed */
	u32 failed_thaws;
	bool gave_up; /* thawed without being told to */
	u64 hold_ns;
	struct loop_timer timer;
	vss_done_fn done; /* of the freeze or the thaw under way */
	void *ctx;
};

static struct vss *of(struct ic *ic)
{
	return container_of(ic, struct vss, ic);
}

static void set_state(struct vss *v, enum vss_state state)
{
	__atomic_store_n(&v->state, state, __ATOMIC_RELEASE);
}

static void tell(struct vss *v, int err)
{
	vss_done_fn done = v->done;

	v->done = NULL;
	if (done)
		done(v->ctx, err);
}

static int send_op(struct vss *v, enum ic_vss_op op)
{
	struct ic_vss body = { .op = (u8)op };

	/*
	 * Given up, the last request still occupies the guest; Linux reads the next
	 * one when it is done with it.
	 */
	if (v->ic.state == IC_WAITING)
		v->ic.state = IC_READY;
	return ic_request(&v->ic, &body, sizeof(body), 0);
}

static void thaw_again(struct loop_timer *t);

static void begin_thaw(struct vss *v)
{
	set_state(v, VSS_THAWING);
	loop_timer_after(vmbus_server_loop(v->ic.srv), &v->timer, VSS_THAW_RETRY_NS, thaw_again);
	send_op(v, IC_VSS_THAW); /* if there is no room: the timer tries again */
}

static void thaw_again(struct loop_timer *t)
{
	begin_thaw(container_of(t, struct vss, timer));
}

static void hold_over(struct loop_timer *t)
{
	struct vss *v = container_of(t, struct vss, timer);

	log_warning("vss: the guest was frozen for too long and is thawed");
	v->gave_up = true;
	begin_thaw(v);
}

static void freeze_over(struct loop_timer *t)
{
	struct vss *v = container_of(t, struct vss, timer);

	begin_thaw(v);
	tell(v, -ETIMEDOUT);
}

static void begin_freeze(struct vss *v)
{
	set_state(v, VSS_FREEZING);
	v->owe_thaw = true;
	if (send_op(v, IC_VSS_FREEZE)) {
		begin_thaw(v);
		tell(v, -EIO);
	}
}

static void gone(struct vss *v)
{
	enum vss_state was = v->state;

	loop_timer_cancel(&v->timer);
	set_state(v, VSS_NONE);
	/* Closed while THAWING: that the thaw arrived is not known, so owe_thaw stays. */
	if (was == VSS_FROZEN)
		v->gave_up = true;
	tell(v, -ENOTCONN);
}

static void answered(struct vss *v, int err)
{
	switch ((enum vss_state)v->state) {
	case VSS_CHECKING:
		if (err == 0) {
			begin_freeze(v);
			return;
		}
		loop_timer_cancel(&v->timer);
		set_state(v, VSS_READY);
		tell(v, err);
		return;
	case VSS_FREEZING:
		if (err) { /* perhaps some file systems are frozen */
			begin_thaw(v);
			tell(v, err);
			return;
		}
		set_state(v, VSS_FROZEN);
		loop_timer_after(vmbus_server_loop(v->ic.srv), &v->timer, v->hold_ns, hold_over);
		tell(v, 0);
		return;
	case VSS_THAWING:
		/* A guest that was not frozen fails this too, so there is an end to trying. */
		if (err && ++v->failed_thaws < THAW_TRIES)
			return; /* the timer tries again */
		v->failed_thaws = 0;
		loop_timer_cancel(&v->timer);
		v->owe_thaw = false;
		set_state(v, VSS_READY);
		tell(v, err);
		return;
	case VSS_NONE:
	case VSS_READY:
	case VSS_FROZEN:
		return;
	}
}

static void vss_answer(struct ic *ic, const struct ic_header *h, const void *body, u32 bytes)
{
	if (h)
		answered(of(ic), h->status == IC_STATUS_OK ? 0 : -EIO);
	else
		gone(of(ic));
}

static void vss_ready(struct ic *ic)
{
	struct vss *v = of(ic);

	set_state(v, VSS_READY);
	if (v->owe_thaw)
		begin_thaw(v);
}

struct vss_call {
	struct vss *v;
	u64 hold_ns;
	vss_done_fn done;
	void *ctx;
	int ret;
};

static void freeze_run(void *arg)
{
	struct vss_call *c = arg;
	struct vss *v = c->v;

	c->ret = v->state == VSS_NONE ? -ENOTCONN : v->state != VSS_READY ? -EBUSY : 0;
	if (c->ret)
		return;
	c->ret = send_op(v, IC_VSS_HOT_BACKUP);
	if (c->ret)
		return;
	v->hold_ns = c->hold_ns ? c->hold_ns : DEFAULT_HOLD_NS;
	v->gave_up = false;
	v->done = c->done;
	v->ctx = c->ctx;
	set_state(v, VSS_CHECKING);
	loop_timer_after(vmbus_server_loop(v->ic.srv), &v->timer, VSS_FREEZE_TIMEOUT_NS,
			 freeze_over);
}

int vss_freeze(struct vss *v, u64 hold_ns, vss_done_fn frozen, void *ctx)
{
	struct vss_call c = { v, hold_ns, frozen, ctx, 0 };

	loop_call(vmbus_server_loop(v->ic.srv), freeze_run, &c);
	return c.ret;
}

static void thaw_run(void *arg)
{
	struct vss_call *c = arg;
	struct vss *v = c->v;

	c->ret = v->gave_up ? -ETIMEDOUT : v->state == VSS_FROZEN ? 0 : -EINVAL;
	v->gave_up = false;
	if (c->ret)
		return;
	v->done = c->done;
	v->ctx = c->ctx;
	begin_thaw(v);
}

int vss_thaw(struct vss *v, vss_done_fn thawed, void *ctx)
{
	struct vss_call c = { v, 0, thawed, ctx, 0 };

	loop_call(vmbus_server_loop(v->ic.srv), thaw_run, &c);
	return c.ret;
}

enum vss_state vss_get(struct vss *v)
{
	return __atomic_load_n(&v->state, __ATOMIC_ACQUIRE);
}

static void vss_destroy(void *dev)
{
	struct vss *v = of(dev);

	loop_timer_cancel(&v->timer);
	free(v);
}

static const struct vmbus_device_ops vss_ops = IC_OPS("vss", IC_VSS_GUID, vss_destroy);
static const struct ic_version frameworks[] = { { 3, 0 } };
static const struct ic_version messages[] = { { 5, 0 } };
static const struct ic_kind vss_kind = {
	.type = IC_VSS,
	.framework = frameworks,
	.framework_count = ARRAY_SIZE(frameworks),
	.message = messages,
	.message_count = ARRAY_SIZE(messages),
	.ready = vss_ready,
	.answer = vss_answer,
};

int vss_offer(struct vmbus_server *srv, struct vss **out)
{
	static const struct hv_guid instance = IC_VSS_INSTANCE;
	struct vss *v = calloc(1, sizeof(*v));
	int ret;

	if (!v)
		return -ENOMEM;
	ret = ic_offer(&v->ic, srv, &vss_kind, &vss_ops, &instance);
	if (ret)
		free(v);
	else if (out)
		*out = v;
	return ret;
}
