/* SPDX-License-Identifier: MIT */
/* What back ends share: the insides of a device and of a queue. */
#ifndef NESTOR_BACKEND_BLOCK_IMPL_H
#define NESTOR_BACKEND_BLOCK_IMPL_H

#include <pthread.h>

#include "backend/block.h"

struct block_uring;

struct block_ops {
	const char *name;
	/* On the queue's loop; checked: range, alignment, read-only. Ends in block_complete(). */
	void (*submit)(struct block_device *dev, struct block_request *req);
	void (*close)(struct block_device *dev); /* frees it; nothing is in flight */
	/* Optional. [any] */
	int (*size)(struct block_device *dev, u64 *bytes);
	void (*extent)(struct block_device *dev, u64 offset, u64 *bytes, bool *hole);
};

struct block_device {
	const struct block_ops *ops;
	u32 refs;	 /* atomic */
	u64 bytes;	 /* atomic */
	int flush_error; /* atomic; sticky, see block.h */
	struct block_info info;
	char *name;
};

struct block_queue {
	struct loop *loop;
	struct block_uring *uring; /* made by the first request that needs it */
	u32 in_flight;
	struct list done; /* completed on the loop */
	struct list held; /* of block_mem */
	bool flushing;
	struct loop_work work;
	pthread_mutex_t lock; /* remote */
	struct list remote;   /* completed on other threads */
};

/* Fills the common part; @name is copied. 0 or -ENOMEM. */
int block_device_init(struct block_device *dev, const struct block_ops *ops, const char *name,
		      u64 bytes);
/* The part of ops->close that undoes it. */
void block_device_fini(struct block_device *dev);

/* The request is over. On the queue's loop; `done` follows before the flush or the round ends. */
void block_complete(struct block_request *req, int error);
/* [any] The same from another thread. */
void block_complete_remote(struct block_request *req, int error);
/* Steps @n bytes into req->vec. */
void block_advance(struct block_request *req, u64 n);
/* Bounce memory for @bytes, filled if it is a write; becomes req->vec. */
int block_bounce(struct block_request *req);
/* Copies a read's data back if @error is 0, and frees the memory. */
void block_unbounce(struct block_request *req, int error);

/* io_uring of a queue. All on the queue's loop. */
struct io_uring_sqe;
/* A submission entry whose completion calls req->cqe; NULL with *error set if there is none. */
struct io_uring_sqe *block_uring_get(struct block_request *req, int *error);
/* Submits and reaps. True if anything came back. */
bool block_uring_flush(struct block_uring *u);
void block_uring_destroy(struct block_uring *u);

int block_file_open(const struct block_spec *spec, struct block_device **out, char *error,
		    size_t error_bytes);
/* @format NULL: spec->path is an address, else qemu-nbd is started for the file. */
int block_nbd_open(const struct block_spec *spec, const char *format, struct block_device **out,
		   char *error, size_t error_bytes);

#endif
