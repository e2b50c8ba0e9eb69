// SPDX-License-Identifier: MIT
/* A disk in memory whose failures and delays a test chooses. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backend/block_impl.h"

struct mem_dev {
	struct block_device dev;
	u8 *data;
	bool held;
	struct list waiting;
	int fail[BLOCK_OP_COUNT];
	u32 count[BLOCK_OP_COUNT];
	u32 fua;
};

static struct mem_dev *to_mem(struct block_device *dev)
{
	return container_of(dev, struct mem_dev, dev);
}

static void transfer(struct mem_dev *m, struct block_request *req)
{
	u8 *p = m->data + req->offset;

	for (int i = 0; i < req->iov_count; i++) {
		const struct iovec *v = &req->iov[i];

		if (req->op == BLOCK_WRITE)
			memcpy(p, v->iov_base, v->iov_len);
		else
			memcpy(v->iov_base, p, v->iov_len);
		p += v->iov_len;
	}
}

static void run(struct mem_dev *m, struct block_request *req)
{
	int error = m->fail[req->op];

	if (!error && (req->op == BLOCK_READ || req->op == BLOCK_WRITE))
		transfer(m, req);
	else if (!error && req->op != BLOCK_FLUSH)
		memset(m->data + req->offset, 0, req->bytes);
	block_complete(req, error);
}

static void mem_submit(struct block_device *dev, struct block_request *req)
{
	struct mem_dev *m = to_mem(dev);

	m->count[req->op]++;
	if (req->op == BLOCK_WRITE && req->flags & BLOCK_FUA)
		m->fua++;
	if (m->held)
		list_add_tail(m->waiting.next, &req->node);
	else
		run(m, req);
}

static void mem_close(struct block_device *dev)
{
	struct mem_dev *m = to_mem(dev);

	free(m->data);
	block_device_fini(dev);
	free(m);
}

static const struct block_ops mem_ops = {
	.name = "memory",
	.submit = mem_submit,
	.close = mem_close,
};

struct block_device *block_mem_create(u64 bytes, bool read_only)
{
	struct mem_dev *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	m->data = calloc(1, bytes ? bytes : 1);
	if (!m->data || block_device_init(&m->dev, &mem_ops, "memory", bytes)) {
		free(m->data);
		free(m);
		return NULL;
	}
	m->dev.info.read_only = read_only;
	m->dev.info.discard_granularity = read_only ? 0 : BLOCK_SECTOR;
	list_init(&m->waiting);
	return &m->dev;
}

u8 *block_mem_data(struct block_device *dev)
{
	return to_mem(dev)->data;
}

void block_mem_resize(struct block_device *dev, u64 bytes)
{
	__atomic_store_n(&dev->bytes, bytes, __ATOMIC_RELAXED);
}

void block_mem_hold(struct block_device *dev, bool held)
{
	to_mem(dev)->held = held;
}

void block_mem_release(struct block_device *dev)
{
	struct mem_dev *m = to_mem(dev);
	struct list *node;

	while ((node = list_pop(&m->waiting)))
		run(m, list_entry(node, struct block_request, node));
}

void block_mem_fail(struct block_device *dev, enum block_op op, int error)
{
	to_mem(dev)->fail[op] = error;
}

u32 block_mem_count(struct block_device *dev, enum block_op op)
{
	return to_mem(dev)->count[op];
}

u32 block_mem_fua_count(struct block_device *dev)
{
	return to_mem(dev)->fua;
}
