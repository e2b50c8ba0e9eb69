// SPDX-License-Identifier: MIT
#include "vsp/shutdown.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vsp/ic.h"

#define DEFAULT_TIMEOUT_NS (30 * NS_PER_S)

struct shutdown_ic {
	struct ic ic;
	struct shutdown_config cfg;
	struct loop_timer give_up;
	u32 state; /* atomic */
};

static struct shutdown_ic *of(struct ic *ic)
{
	return container_of(ic, struct shutdown_ic, ic);
}

static void set_state(struct shutdown_ic *s, enum shutdown_state state)
{
	if (s->state == state)
		return;
	__atomic_store_n(&s->state, state, __ATOMIC_RELEASE);
	if (s->cfg.changed)
		s->cfg.changed(s->cfg.ctx, state);
}

static void shutdown_ready(struct ic *ic)
{
	set_state(of(ic), SHUTDOWN_READY);
}

static void shutdown_answer(struct ic *ic, const struct ic_header *h, const void *body, u32 bytes)
{
	struct shutdown_ic *s = of(ic);

	loop_timer_cancel(&s->give_up);
	if (h)
		set_state(s, h->status == IC_STATUS_OK ? SHUTDOWN_ACCEPTED : SHUTDOWN_REFUSED);
	else if (s->state != SHUTDOWN_ACCEPTED) /* a guest going down closes its channels */
		set_state(s, SHUTDOWN_NONE);
}

static void give_up(struct loop_timer *t)
{
	struct shutdown_ic *s = container_of(t, struct shutdown_ic, give_up);

	/* It may be asked again; a late answer to this request is not taken for another's. */
	if (s->ic.state == IC_WAITING)
		s->ic.state = IC_READY;
	set_state(s, SHUTDOWN_TIMEOUT);
}

struct request_call {
	struct shutdown_ic *s;
	enum shutdown_action action;
	bool force;
	u64 timeout_ns;
	int ret;
};

static void request_run(void *arg)
{
	static const char text[] = "Nestor asks the guest to shut down";
	struct request_call *c = arg;
	u64 ns = c->timeout_ns ? c->timeout_ns : DEFAULT_TIMEOUT_NS;
	struct ic_shutdown body = {
		.reason = IC_SHUTDOWN_REASON_PLANNED,
		.timeout_seconds = (u32)min_u64(ns / NS_PER_S, UINT32_MAX),
		.flags =
			(c->action == SHUTDOWN_REBOOT ? IC_SHUTDOWN_REBOOT : IC_SHUTDOWN_POWEROFF) |
			(c->force ? IC_SHUTDOWN_FORCE : 0),
	};

	memcpy(body.text, text, sizeof(text));
	c->ret = ic_request(&c->s->ic, &body, sizeof(body), 0);
	if (c->ret)
		return;
	loop_timer_after(vmbus_server_loop(c->s->ic.srv), &c->s->give_up, ns, give_up);
	set_state(c->s, SHUTDOWN_ASKED);
}

int shutdown_request(struct shutdown_ic *s, enum shutdown_action action, bool force, u64 timeout_ns)
{
	struct request_call c = { s, action, force, timeout_ns, 0 };

	loop_call(vmbus_server_loop(s->ic.srv), request_run, &c);
	return c.ret;
}

enum shutdown_state shutdown_get(struct shutdown_ic *s)
{
	return __atomic_load_n(&s->state, __ATOMIC_ACQUIRE);
}

static void shutdown_destroy(void *dev)
{
	struct shutdown_ic *s = of(dev);

	loop_timer_cancel(&s->give_up);
	free(s);
}

static const struct vmbus_device_ops shutdown_ops =
	IC_OPS("shutdown", IC_SHUTDOWN_GUID, shutdown_destroy);
static const struct ic_version frameworks[] = { { 3, 0 }, { 1, 0 } };
static const struct ic_version messages[] = { { 3, 2 }, { 3, 1 }, { 3, 0 }, { 1, 0 } };
static const struct ic_kind shutdown_kind = {
	.type = IC_SHUTDOWN,
	.framework = frameworks,
	.framework_count = ARRAY_SIZE(frameworks),
	.message = messages,
	.message_count = ARRAY_SIZE(messages),
	.ready = shutdown_ready,
	.answer = shutdown_answer,
};

int shutdown_offer(struct vmbus_server *srv, const struct shutdown_config *cfg,
		   struct shutdown_ic **out)
{
	static const struct hv_guid instance = IC_SHUTDOWN_INSTANCE;
	struct shutdown_ic *s = calloc(1, sizeof(*s));
	int ret;

	if (!s)
		return -ENOMEM;
	if (cfg)
		s->cfg = *cfg;
	ret = ic_offer(&s->ic, srv, &shutdown_kind, &shutdown_ops, &instance);
	if (ret)
		free(s);
	else if (out)
		*out = s;
	return ret;
}
