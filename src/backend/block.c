// SPDX-License-Identifier: MIT
/* Devices and queues: the checks every back end relies on, and how completions get home. */
#include "backend/block.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backend/block_impl.h"
#include "base/log.h"

int block_device_init(struct block_device *dev, const struct block_ops *ops, const char *name,
		      u64 bytes)
{
	dev->name = strdup(name);
	if (!dev->name)
		return -ENOMEM;
	dev->ops = ops;
	dev->refs = 1;
	dev->bytes = bytes & ~(u64)(BLOCK_SECTOR - 1);
	dev->info.name = dev->name;
	dev->info.backend = ops->name;
	dev->info.physical_block = BLOCK_SECTOR;
	return 0;
}

void block_device_fini(struct block_device *dev)
{
	free(dev->name);
}

struct block_device *block_get(struct block_device *dev)
{
	__atomic_add_fetch(&dev->refs, 1, __ATOMIC_RELAXED);
	return dev;
}

void block_put(struct block_device *dev)
{
	if (dev && __atomic_sub_fetch(&dev->refs, 1, __ATOMIC_ACQ_REL) == 0)
		dev->ops->close(dev);
}

u64 block_bytes(struct block_device *dev)
{
	return __atomic_load_n(&dev->bytes, __ATOMIC_RELAXED);
}

struct block_info block_info(struct block_device *dev)
{
	struct block_info info = dev->info;

	info.bytes = block_bytes(dev);
	return info;
}

int block_refresh(struct block_device *dev)
{
	u64 bytes;
	int ret;

	if (!dev->ops->size)
		return 0;
	ret = dev->ops->size(dev, &bytes);
	if (!ret)
		__atomic_store_n(&dev->bytes, bytes & ~(u64)(BLOCK_SECTOR - 1), __ATOMIC_RELAXED);
	return ret;
}

void block_extent(struct block_device *dev, u64 offset, u64 *bytes, bool *hole)
{
	*hole = false;
	if (dev->ops->extent)
		dev->ops->extent(dev, offset, bytes, hole);
}

/* Scattered memory */

void block_advance(struct block_request *req, u64 n)
{
	while (n && req->vec_count) {
		struct iovec *v = req->vec;
		u64 step = min_u64(n, v->iov_len);

		v->iov_base = (u8 *)v->iov_base + step;
		v->iov_len -= step;
		n -= step;
		if (v->iov_len == 0) {
			req->vec++;
			req->vec_count--;
		}
	}
}

static void copy_all(struct block_request *req, bool to_bounce)
{
	u8 *p = req->bounce;

	for (int i = 0; i < req->iov_count; i++) {
		const struct iovec *v = &req->iov[i];

		if (to_bounce)
			memcpy(p, v->iov_base, v->iov_len);
		else
			memcpy(v->iov_base, p, v->iov_len);
		p += v->iov_len;
	}
}

int block_bounce(struct block_request *req)
{
	req->bounce = aligned_alloc(PAGE_BYTES, align_up(req->bytes, PAGE_BYTES));
	if (!req->bounce)
		return -ENOMEM;
	if (req->op == BLOCK_WRITE)
		copy_all(req, true);
	req->one = (struct iovec){ req->bounce, req->bytes };
	req->vec = &req->one;
	req->vec_count = 1;
	return 0;
}

void block_unbounce(struct block_request *req, int error)
{
	if (!req->bounce)
		return;
	if (req->op == BLOCK_READ && !error)
		copy_all(req, false);
	free(req->bounce);
	req->bounce = NULL;
}

/* Queues */

static void run_done(struct block_queue *q)
{
	struct list *node;

	while ((node = list_pop(&q->done))) {
		struct block_request *req = list_entry(node, struct block_request, node);

		q->in_flight--;
		req->done(req, req->error);
	}
}

static bool wants_durability(const struct block_request *req)
{
	return req->op == BLOCK_FLUSH || (req->op == BLOCK_WRITE && req->flags & BLOCK_FUA);
}

static void set_error(struct block_request *req, int error)
{
	struct block_device *dev = req->dev;
	int none = 0;

	req->error = error;
	/* EAGAIN, ENOMEM: it was not tried. */
	if (!error || req->op != BLOCK_FLUSH || error == -EAGAIN || error == -ENOMEM)
		return;
	if (__atomic_compare_exchange_n(&dev->flush_error, &none, error, false, __ATOMIC_RELAXED,
					__ATOMIC_RELAXED))
		log_error("disk %s: writes could not be made durable: %s. Every later flush of "
			  "this disk is refused, so that no guest takes lost data for safe.",
			  dev->name, strerror(-error));
}

void block_complete(struct block_request *req, int error)
{
	set_error(req, error);
	list_add_tail(&req->queue->done, &req->node);
	if (!req->queue->flushing)
		loop_post(req->queue->loop, &req->queue->work);
}

void block_complete_remote(struct block_request *req, int error)
{
	struct block_queue *q = req->queue;

	set_error(req, error);
	pthread_mutex_lock(&q->lock);
	list_add_tail(&q->remote, &req->node);
	/* Under the lock: once the loop has seen the request, @q may go. */
	loop_post(q->loop, &q->work);
	pthread_mutex_unlock(&q->lock);
}

static void take_remote(struct block_queue *q)
{
	struct list *node;

	pthread_mutex_lock(&q->lock);
	while ((node = list_pop(&q->remote)))
		list_add_tail(&q->done, node);
	pthread_mutex_unlock(&q->lock);
}

static void queue_work(struct loop_work *w)
{
	struct block_queue *q = container_of(w, struct block_queue, work);

	take_remote(q);
	block_queue_flush(q);
}

int block_queue_create(struct loop *l, struct block_queue **out)
{
	struct block_queue *q = calloc(1, sizeof(*q));

	if (!q)
		return -ENOMEM;
	q->loop = l;
	list_init(&q->done);
	list_init(&q->held);
	list_init(&q->remote);
	loop_work_init(&q->work, queue_work);
	pthread_mutex_init(&q->lock, NULL);
	*out = q;
	return 0;
}

void block_queue_destroy(struct block_queue *q)
{
	if (!q)
		return;
	assert(q->in_flight == 0 && !q->flushing);
	/* A poster may still be inside block_complete_remote(). */
	pthread_mutex_lock(&q->lock);
	loop_work_cancel(q->loop, &q->work);
	pthread_mutex_unlock(&q->lock);
	block_uring_destroy(q->uring);
	pthread_mutex_destroy(&q->lock);
	free(q);
}

static int check_request(struct block_device *dev, const struct block_request *req)
{
	u64 size = block_bytes(dev);
	int error = __atomic_load_n(&dev->flush_error, __ATOMIC_RELAXED);

	if (error && wants_durability(req))
		return error;
	if (req->op != BLOCK_READ && dev->info.read_only)
		return req->op == BLOCK_FLUSH ? 0 : -EROFS;
	if (req->op == BLOCK_FLUSH)
		return 0;
	if ((req->offset | req->bytes) % BLOCK_SECTOR || req->iov_count > BLOCK_IOV_MAX)
		return -EINVAL;
	if (req->offset > size || req->bytes > size - req->offset)
		return -ERANGE;
	return 0;
}

void block_submit(struct block_queue *q, struct block_device *dev, struct block_request *req)
{
	int error = check_request(dev, req);

	req->dev = dev;
	req->queue = q;
	req->vec = req->iov;
	req->vec_count = req->iov_count;
	req->bounce = NULL;
	req->moved = 0;
	req->step = 0;
	q->in_flight++;
	if (error || (req->op != BLOCK_FLUSH && req->bytes == 0) ||
	    (req->op == BLOCK_FLUSH && dev->info.read_only)) {
		req->error = error;
		list_add_tail(&q->done, &req->node);
	} else {
		dev->ops->submit(dev, req);
	}
}

void block_queue_flush(struct block_queue *q)
{
	bool again;

	if (q->flushing) /* from inside a `done`: the loop below goes on */
		return;
	q->flushing = true;
	do {
		again = q->uring && block_uring_flush(q->uring);
		again |= !list_empty(&q->done);
		run_done(q);
	} while (again);
	q->flushing = false;
}

u32 block_queue_in_flight(const struct block_queue *q)
{
	return q->in_flight;
}
