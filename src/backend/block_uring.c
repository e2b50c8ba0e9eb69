// SPDX-License-Identifier: MIT
/*
 * One io_uring per queue. With DEFER_TASKRUN the kernel finishes requests only
 * when we enter it, so a completion costs the loop one wake-up and one system
 * call, however many came together. An eventfd tells that there is something;
 * it is edge triggered and never read, and switched off while we look ourselves.
 */
#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "backend/block_impl.h"

#ifndef IORING_SETUP_SINGLE_ISSUER
#define IORING_SETUP_SINGLE_ISSUER (1U << 12)
#endif
#ifndef IORING_SETUP_DEFER_TASKRUN
#define IORING_SETUP_DEFER_TASKRUN (1U << 13)
#endif

struct block_uring {
	struct io_uring ring;
	struct block_queue *queue;
	struct loop_fd event;
	int eventfd;
	u32 in_kernel; /* submitted or about to be; never more than the completion ring holds */
	struct loop_timer retry; /* the kernel had no memory for a submission */
};

static bool reap(struct block_uring *u)
{
	struct io_uring_cqe *cqe;
	unsigned head, count = 0;

	io_uring_for_each_cqe(&u->ring, head, cqe) count++;
	for (unsigned i = 0; i < count; i++) {
		struct block_request *req;
		int res;

		if (io_uring_peek_cqe(&u->ring, &cqe) < 0 || !cqe)
			break;
		req = io_uring_cqe_get_data(cqe);
		res = cqe->res;
		io_uring_cqe_seen(&u->ring, cqe);
		u->in_kernel--;
		req->cqe(req, res);
	}
	return count;
}

static bool kernel_has_work(struct block_uring *u)
{
	return io_uring_cq_ready(&u->ring) ||
	       (__atomic_load_n(u->ring.sq.kflags, __ATOMIC_RELAXED) &
		(IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW));
}

static void retry_timer(struct loop_timer *t)
{
	block_queue_flush(container_of(t, struct block_uring, retry)->queue);
}

bool block_uring_flush(struct block_uring *u)
{
	bool any = false;
	int ret;

	io_uring_cq_eventfd_toggle(&u->ring, false);
	do {
		if (io_uring_sq_ready(&u->ring)) {
			ret = io_uring_submit_and_get_events(&u->ring);
			if (ret < 0 && ret != -EINTR) {
				/* Nothing was taken; try again when something came back. */
				loop_timer_after(u->queue->loop, &u->retry, NS_PER_MS, retry_timer);
				reap(u);
				break;
			}
		} else if (!io_uring_cq_ready(&u->ring) && kernel_has_work(u)) {
			io_uring_get_events(&u->ring);
		}
		any |= reap(u);
		if (!io_uring_sq_ready(&u->ring) && !kernel_has_work(u)) {
			io_uring_cq_eventfd_toggle(&u->ring, true);
			/* Pairs with the kernel: posts, full barrier, reads the switch. */
			__atomic_thread_fence(__ATOMIC_SEQ_CST);
			if (!kernel_has_work(u))
				return any;
			io_uring_cq_eventfd_toggle(&u->ring, false);
		}
	} while (true);
	io_uring_cq_eventfd_toggle(&u->ring, true);
	return any;
}

static void event_ready(struct loop_fd *lf, u32 events)
{
	block_queue_flush(container_of(lf, struct block_uring, event)->queue);
}

static int ring_init(struct io_uring *ring)
{
	static const unsigned flags[] = {
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
		IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG, /* before Linux 6.1 */
		0,						       /* before Linux 5.19 */
	};
	int ret = -EINVAL;

	for (u32 i = 0; i < ARRAY_SIZE(flags) && ret == -EINVAL; i++)
		ret = io_uring_queue_init(BLOCK_QUEUE_DEPTH, ring, flags[i]);
	return ret;
}

static int uring_create(struct block_queue *q)
{
	struct block_uring *u = calloc(1, sizeof(*u));
	int ret;

	if (!u)
		return -ENOMEM;
	u->queue = q;
	ret = ring_init(&u->ring);
	if (ret)
		goto free;
	u->eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (u->eventfd < 0) {
		ret = -errno;
		goto exit_ring;
	}
	ret = io_uring_register_eventfd(&u->ring, u->eventfd);
	if (ret)
		goto close;
	ret = loop_fd_add(q->loop, &u->event, u->eventfd, EPOLLIN | EPOLLET, event_ready);
	if (ret)
		goto close;
	io_uring_register_ring_fd(&u->ring); /* saves a little per call; fine without */
	q->uring = u;
	return 0;
close:
	close(u->eventfd);
exit_ring:
	io_uring_queue_exit(&u->ring);
free:
	free(u);
	return ret;
}

void block_uring_destroy(struct block_uring *u)
{
	if (!u)
		return;
	loop_timer_cancel(&u->retry);
	loop_fd_del(&u->event);
	io_uring_queue_exit(&u->ring);
	close(u->eventfd);
	free(u);
}

struct io_uring_sqe *block_uring_get(struct block_request *req, int *error)
{
	struct io_uring_sqe *sqe;
	struct block_uring *u;

	if (!req->queue->uring) {
		*error = uring_create(req->queue);
		if (*error)
			return NULL;
	}
	u = req->queue->uring;
	*error = -EAGAIN;
	/* The completion ring is twice as long as the other; keep within it. */
	if (u->in_kernel >= 2 * BLOCK_QUEUE_DEPTH)
		return NULL;
	sqe = io_uring_get_sqe(&u->ring);
	if (!sqe && io_uring_submit(&u->ring) > 0)
		sqe = io_uring_get_sqe(&u->ring);
	if (!sqe)
		return NULL;
	u->in_kernel++;
	return sqe;
}
