// SPDX-License-Identifier: MIT
#include "vsp/heartbeat.h"

#include <errno.h>
#include <stdlib.h>

#include "vsp/ic.h"

struct heartbeat {
	struct ic ic;
	struct heartbeat_config cfg;
	struct loop_timer beat;
	u64 sequence;
	u32 missed;
	u32 state; /* atomic */
};

static struct heartbeat *of(struct ic *ic)
{
	return container_of(ic, struct heartbeat, ic);
}

static void set_state(struct heartbeat *hb, enum heartbeat_state state)
{
	if (hb->state == state)
		return;
	__atomic_store_n(&hb->state, state, __ATOMIC_RELEASE);
	if (hb->cfg.changed)
		hb->cfg.changed(hb->cfg.ctx, state);
}

static void beat(struct loop_timer *t)
{
	struct heartbeat *hb = container_of(t, struct heartbeat, beat);
	struct ic_heartbeat body = { .sequence = hb->sequence + 1 };

	loop_timer_after(vmbus_server_loop(hb->ic.srv), t, HEARTBEAT_PERIOD_NS, beat);
	if (hb->ic.state == IC_WAITING) {
		if (++hb->missed >= HEARTBEAT_MISSES)
			set_state(hb, HEARTBEAT_LOST);
		return;
	}
	if (ic_request(&hb->ic, &body, sizeof(body), 0) == 0)
		hb->sequence++;
}

static void heartbeat_ready(struct ic *ic)
{
	of(ic)->missed = 0;
	beat(&of(ic)->beat);
}

static void heartbeat_answer(struct ic *ic, const struct ic_header *h, const void *body, u32 bytes)
{
	struct heartbeat *hb = of(ic);

	if (!h) { /* closed or refused */
		loop_timer_cancel(&hb->beat);
		set_state(hb, HEARTBEAT_NONE);
		return;
	}
	hb->missed = 0;
	set_state(hb, HEARTBEAT_OK);
}

static void heartbeat_destroy(void *dev)
{
	struct heartbeat *hb = of(dev);

	loop_timer_cancel(&hb->beat);
	free(hb);
}

static const struct vmbus_device_ops heartbeat_ops =
	IC_OPS("heartbeat", IC_HEARTBEAT_GUID, heartbeat_destroy);
static const struct ic_version frameworks[] = { { 3, 0 }, { 1, 0 } };
static const struct ic_version messages[] = { { 3, 0 }, { 1, 0 } };
static const struct ic_kind heartbeat_kind = {
	.type = IC_HEARTBEAT,
	.framework = frameworks,
	.framework_count = ARRAY_SIZE(frameworks),
	.message = messages,
	.message_count = ARRAY_SIZE(messages),
	.ready = heartbeat_ready,
	.answer = heartbeat_answer,
};

int heartbeat_offer(struct vmbus_server *srv, const struct heartbeat_config *cfg,
		    struct heartbeat **out)
{
	static const struct hv_guid instance = IC_HEARTBEAT_INSTANCE;
	struct heartbeat *hb = calloc(1, sizeof(*hb));
	int ret;

	if (!hb)
		return -ENOMEM;
	if (cfg)
		hb->cfg = *cfg;
	ret = ic_offer(&hb->ic, srv, &heartbeat_kind, &heartbeat_ops, &instance);
	if (ret)
		free(hb);
	else if (out)
		*out = hb;
	return ret;
}

enum heartbeat_state heartbeat_get(struct heartbeat *hb)
{
	return __atomic_load_n(&hb->state, __ATOMIC_ACQUIRE);
}
