// SPDX-License-Identifier: MIT
#include "vsp/kvp.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vsp/ic.h"
#include "vsp/utf16.h"

#define KVP_QUEUE_MAX  64u
#define KVP_TIMEOUT_NS (40 * NS_PER_S) /* Linux gives its daemon 30 */
#define KVP_INDEX_MAX  4096u

struct kvp_request {
	struct list node;
	struct ic_kvp body;
	char find[IC_KVP_KEY_MAX / 2 * 3]; /* search: the key looked for by enumeration */
	bool search;
	kvp_done_fn done;
	void *ctx;
};

struct kvp {
	struct ic ic;
	struct list queue;
	u32 count;
	struct kvp_request *current;
	u32 ready; /* atomic */
};

static struct kvp *of(struct ic *ic)
{
	return container_of(ic, struct kvp, ic);
}

static void finish(struct kvp *kvp, int err, const struct kvp_item *item)
{
	struct kvp_request *r = kvp->current;

	kvp->current = NULL;
	kvp->count--;
	r->done(r->ctx, err, item);
	free(r);
}

static void send_next(struct kvp *kvp)
{
	while (!kvp->current && !list_empty(&kvp->queue)) {
		int ret;

		kvp->current = list_entry(list_pop(&kvp->queue), struct kvp_request, node);
		/* Linux answers in the request's own buffer: it has to be full size. */
		ret = ic_request(&kvp->ic, &kvp->current->body, sizeof(kvp->current->body), 0);
		if (ret)
			finish(kvp, ret == -EAGAIN ? -EBUSY : ret, NULL);
	}
}

static void value_text(const struct ic_kvp_value *v, struct kvp_item *item)
{
	u64 n = 0;

	item->type = v->value_type;
	utf16_to_utf8(v->key, (u32)min_u64(v->key_bytes, sizeof(v->key)) / 2, item->key,
		      sizeof(item->key));
	if (v->value_type == IC_KVP_U32 || v->value_type == IC_KVP_U64) {
		memcpy(&n, v->value, v->value_type == IC_KVP_U32 ? 4 : 8);
		snprintf(item->value, sizeof(item->value), "%llu", (unsigned long long)n);
		return;
	}
	utf16_to_utf8(v->value, (u32)min_u64(v->value_bytes, sizeof(v->value)) / 2, item->value,
		      sizeof(item->value));
}

static int status_errno(u32 status)
{
	switch (status) {
	case IC_STATUS_OK:
		return 0;
	case IC_STATUS_NO_MORE_ITEMS:
	case IC_STATUS_GUID_NOT_FOUND:
		return -ENOENT;
	default:
		return -EIO;
	}
}

/* The guest's own facts have an index, no lookup by key: go on until it is found. */
static bool search_on(struct kvp *kvp, const struct kvp_item *item)
{
	struct kvp_request *r = kvp->current;

	if (!r->search || strcmp(item->key, r->find) == 0)
		return false;
	if (++r->body.enumerate.index >= KVP_INDEX_MAX)
		return false;
	memset(&r->body.enumerate.value, 0, sizeof(r->body.enumerate.value));
	return ic_request(&kvp->ic, &r->body, sizeof(r->body), 0) == 0;
}

static void fail_all(struct kvp *kvp, int err)
{
	if (kvp->current)
		finish(kvp, err, NULL);
	while (!list_empty(&kvp->queue)) {
		kvp->current = list_entry(list_pop(&kvp->queue), struct kvp_request, node);
		finish(kvp, err, NULL);
	}
}

static void kvp_answer(struct ic *ic, const struct ic_header *h, const void *body, u32 bytes)
{
	static const struct ic_kvp none;
	struct kvp *kvp = of(ic);
	struct ic_kvp m = none;
	struct kvp_item item;
	int err;

	if (!h && ic->state != IC_READY) {
		__atomic_store_n(&kvp->ready, 0, __ATOMIC_RELEASE);
		fail_all(kvp, -ENOTCONN);
		return;
	}
	if (!kvp->current)
		return;
	memcpy(&m, body ? body : &none, body ? min_u64(bytes, sizeof(m)) : sizeof(m));
	memset(&item, 0, sizeof(item));
	err = h ? status_errno(h->status) : -ETIMEDOUT;
	if (err == 0 && (m.op == IC_KVP_GET || m.op == IC_KVP_ENUMERATE)) {
		value_text(m.op == IC_KVP_GET ? &m.value : &m.enumerate.value, &item);
		if (search_on(kvp, &item))
			return;
		if (kvp->current->search && strcmp(item.key, kvp->current->find) != 0)
			err = -ENOENT;
	}
	finish(kvp, err, err ? NULL : &item);
	send_next(kvp);
}

static void kvp_is_ready(struct ic *ic)
{
	__atomic_store_n(&of(ic)->ready, 1, __ATOMIC_RELEASE);
	send_next(of(ic));
}

bool kvp_ready(struct kvp *kvp)
{
	return __atomic_load_n(&kvp->ready, __ATOMIC_ACQUIRE);
}

struct queue_call {
	struct kvp *kvp;
	struct kvp_request *r;
	int ret;
};

static void queue_run(void *arg)
{
	struct queue_call *c = arg;
	struct kvp *kvp = c->kvp;

	c->ret = !kvp_ready(kvp) ? -ENOTCONN : kvp->count >= KVP_QUEUE_MAX ? -EBUSY : 0;
	if (c->ret)
		return;
	kvp->count++;
	list_add_tail(&kvp->queue, &c->r->node);
	send_next(kvp);
}

static int queue(struct kvp *kvp, struct kvp_request *r)
{
	struct queue_call c = { kvp, r, 0 };

	loop_call(vmbus_server_loop(kvp->ic.srv), queue_run, &c);
	if (c.ret)
		free(r);
	return c.ret;
}

static struct kvp_request *request(enum ic_kvp_op op, enum ic_kvp_pool pool, kvp_done_fn done,
				   void *ctx)
{
	struct kvp_request *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->body.op = (u8)op;
	r->body.pool = (u8)pool;
	r->done = done;
	r->ctx = ctx;
	return r;
}

/* Text with its terminator; its length in bytes, or a negative errno. */
static int put_text(const char *text, u8 *out, u32 max_bytes, u32 *bytes)
{
	int n = utf16_from_utf8(text, out, max_bytes / 2);

	if (n < 0)
		return n;
	*bytes = (u32)n * 2;
	return 0;
}

int kvp_enumerate(struct kvp *kvp, enum ic_kvp_pool pool, u32 index, kvp_done_fn done, void *ctx)
{
	struct kvp_request *r;

	if (pool >= IC_KVP_POOL_COUNT)
		return -EINVAL;
	r = request(IC_KVP_ENUMERATE, pool, done, ctx);
	if (!r)
		return -ENOMEM;
	r->body.enumerate.index = index;
	return queue(kvp, r);
}

int kvp_get(struct kvp *kvp, enum ic_kvp_pool pool, const char *key, kvp_done_fn done, void *ctx)
{
	bool search = pool == IC_KVP_POOL_AUTO;
	struct kvp_request *r;
	int ret;

	if (pool >= IC_KVP_POOL_COUNT)
		return -EINVAL;
	r = request(search ? IC_KVP_ENUMERATE : IC_KVP_GET, pool, done, ctx);
	if (!r)
		return -ENOMEM;
	ret = put_text(key, r->body.value.key, IC_KVP_KEY_MAX, &r->body.value.key_bytes);
	if (ret) {
		free(r);
		return ret;
	}
	if (search) {
		memset(&r->body.enumerate, 0, sizeof(r->body.enumerate));
		r->search = true;
		snprintf(r->find, sizeof(r->find), "%s", key);
	}
	return queue(kvp, r);
}

int kvp_set(struct kvp *kvp, enum ic_kvp_pool pool, const char *key, const char *value,
	    kvp_done_fn done, void *ctx)
{
	struct kvp_request *r;
	int ret;

	if (pool >= IC_KVP_POOL_COUNT || pool == IC_KVP_POOL_AUTO)
		return -EINVAL;
	r = request(IC_KVP_SET, pool, done, ctx);
	if (!r)
		return -ENOMEM;
	r->body.value.value_type = IC_KVP_STRING;
	ret = put_text(key, r->body.value.key, IC_KVP_KEY_MAX, &r->body.value.key_bytes);
	if (ret == 0)
		ret = put_text(value, r->body.value.value, IC_KVP_VALUE_MAX,
			       &r->body.value.value_bytes);
	if (ret) {
		free(r);
		return ret;
	}
	return queue(kvp, r);
}

int kvp_delete(struct kvp *kvp, enum ic_kvp_pool pool, const char *key, kvp_done_fn done, void *ctx)
{
	struct kvp_request *r;
	int ret;

	if (pool >= IC_KVP_POOL_COUNT || pool == IC_KVP_POOL_AUTO)
		return -EINVAL;
	r = request(IC_KVP_DELETE, pool, done, ctx);
	if (!r)
		return -ENOMEM;
	ret = put_text(key, r->body.remove.key, IC_KVP_KEY_MAX, &r->body.remove.key_bytes);
	if (ret) {
		free(r);
		return ret;
	}
	return queue(kvp, r);
}

static void kvp_destroy(void *dev)
{
	struct kvp *kvp = of(dev);

	fail_all(kvp, -ENOTCONN);
	free(kvp);
}

static const struct vmbus_device_ops kvp_ops = IC_OPS("kvp", IC_KVP_GUID, kvp_destroy);
static const struct ic_version frameworks[] = { { 3, 0 }, { 1, 0 } };
static const struct ic_version messages[] = { { 4, 0 }, { 3, 0 }, { 1, 0 } };
static const struct ic_kind kvp_kind = {
	.type = IC_KVP,
	.framework = frameworks,
	.framework_count = ARRAY_SIZE(frameworks),
	.message = messages,
	.message_count = ARRAY_SIZE(messages),
	.timeout_ns = KVP_TIMEOUT_NS,
	.ready = kvp_is_ready,
	.answer = kvp_answer,
};

int kvp_offer(struct vmbus_server *srv, struct kvp **out)
{
	static const struct hv_guid instance = IC_KVP_INSTANCE;
	struct kvp *kvp = calloc(1, sizeof(*kvp));
	int ret;

	if (!kvp)
		return -ENOMEM;
	list_init(&kvp->queue);
	ret = ic_offer(&kvp->ic, srv, &kvp_kind, &kvp_ops, &instance);
	if (ret)
		free(kvp);
	else if (out)
		*out = kvp;
	return ret;
}
