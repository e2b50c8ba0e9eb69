/* SPDX-License-Identifier: MIT */
/*
 * Disk images. A device is an open image, shared and counted; a queue is where
 * one loop submits requests and gets them back. A request belongs to one queue
 * and one device, its storage is the caller's.
 *
 * Batches: block_submit() only gathers, block_queue_flush() hands everything to
 * the kernel at once. `done` is called on the queue's loop: from inside
 * block_queue_flush() or from the loop, never from inside block_submit(). It may
 * submit again; what it submits is flushed without asking.
 *
 * DURABILITY. A request that completed is durable only after a later flush has
 * completed without error, or if it carried BLOCK_FUA. Once a flush has failed
 * every later flush and FUA write of the device fails too: the kernel reports
 * lost writes once, and a guest that retries must not be told they are safe.
 */
#ifndef NESTOR_BACKEND_BLOCK_H
#define NESTOR_BACKEND_BLOCK_H

#include <sys/uio.h>

#include "base/loop.h"

struct block_device;
struct block_queue;

#define BLOCK_SECTOR	  512u
#define BLOCK_IOV_MAX	  512 /* elements of one request */
#define BLOCK_QUEUE_DEPTH 256u

enum block_op {
	BLOCK_READ,
	BLOCK_WRITE,
	BLOCK_FLUSH,
	BLOCK_DISCARD, /* contents become zero, space is given back if it can be */
	BLOCK_WRITE_ZEROES,
	BLOCK_OP_COUNT,
};

enum block_request_flag {
	BLOCK_FUA = BIT(0),	  /* write: durable when complete */
	BLOCK_MAY_UNMAP = BIT(1), /* write zeroes: may give space back */
};

struct block_request {
	/* The caller's. */
	enum block_op op;
	u8 flags;	   /* enum block_request_flag */
	u64 offset, bytes; /* multiples of BLOCK_SECTOR; unused by flush */
	struct iovec *iov; /* read, write: @bytes in all. The back end may change the elements */
	int iov_count;
	/*
	 * 0 or negative errno: -EIO, -ENOSPC, -EROFS (write to a read-only
	 * device), -ERANGE (past the end), -EOPNOTSUPP (discard), -EINVAL, -ENOMEM.
	 */
	void (*done)(struct block_request *req, int error);

	/* The back end's. */
	struct block_device *dev;
	struct block_queue *queue;
	struct list node;
	void (*cqe)(struct block_request *req, int res);
	struct iovec *vec, one;
	int vec_count;
	void *bounce;
	u64 moved;
	int error;
	u8 step;
};

/* Facts of a device; all but @bytes are fixed while it is open. */
struct block_info {
	const char *name;	 /* for the operator */
	const char *backend;	 /* "file", "nbd", ... */
	u64 bytes;		 /* multiple of BLOCK_SECTOR */
	u32 physical_block;	 /* power of two, at least BLOCK_SECTOR */
	u32 discard_granularity; /* bytes; 0: no discard */
	bool read_only;
	bool rotational;
};

/* [any] Counted; the last put closes the image, which may block. NULL is fine to put. */
struct block_device *block_get(struct block_device *dev);
void block_put(struct block_device *dev);
/* [any] */
struct block_info block_info(struct block_device *dev);
u64 block_bytes(struct block_device *dev); /* cheap */
/* [any] Looks whether the image has another size now. 0 or negative errno. */
int block_refresh(struct block_device *dev);
/*
 * [any] What is at @offset: *bytes (in: how far to look, out: how far it holds)
 * and whether it is a hole. Back ends that can not tell say data.
 */
void block_extent(struct block_device *dev, u64 offset, u64 *bytes, bool *hole);

/* A queue of @l. On the loop's thread (or with nobody running it), like all of these. */
int block_queue_create(struct loop *l, struct block_queue **out);
/* Nothing may be in flight, and not from inside a `done`. NULL is fine. */
void block_queue_destroy(struct block_queue *q);
void block_submit(struct block_queue *q, struct block_device *dev, struct block_request *req);
void block_queue_flush(struct block_queue *q);
u32 block_queue_in_flight(const struct block_queue *q);

/* What `--disk` and `--cdrom` ask for. */
enum block_format {
	BLOCK_FORMAT_BY_NAME, /* raw unless the name ends in .qcow2, .vhdx or .vmdk */
	BLOCK_FORMAT_RAW,
	BLOCK_FORMAT_QCOW2,
	BLOCK_FORMAT_VHDX,
	BLOCK_FORMAT_VMDK,
	BLOCK_FORMAT_AUTO, /* looks into the file: a guest that can write it can choose */
};

#define BLOCK_SERIAL_MAX 32

struct block_spec {
	char *path; /* a file, a block device, nbd://..., nbd+unix://... */
	enum block_format format;
	bool read_only;
	bool buffered;			   /* direct=off: through the host's page cache */
	char serial[BLOCK_SERIAL_MAX + 1]; /* empty: none given */
	int controller, lun;		   /* -1: not given */
};

/*
 * Parses FILE[,ro][,format=raw|qcow2|vhdx|vmdk|auto][,serial=S][,controller=N][,lun=N]
 * [,direct=on|off]. A comma in FILE is written twice. 0, or -EINVAL with a
 * sentence in @error (for people, no newline). block_spec_fini() in both cases.
 */
int block_spec_parse(const char *text, struct block_spec *spec, char *error, size_t error_bytes);
void block_spec_fini(struct block_spec *spec);
/* Its format as QEMU names it; NULL: it names no file but an NBD address. */
const char *block_spec_format(const struct block_spec *spec);

/*
 * Opens it. 0; negative errno with a sentence in @error: -EAGAIN if somebody
 * else has the image open in a way that conflicts.
 */
int block_open(const struct block_spec *spec, struct block_device **out, char *error,
	       size_t error_bytes);

/*
 * A device in memory, zeroed: for tests and scratch disks. Completions come at
 * the flush, or, while held, at block_mem_release(), last submitted first.
 */
struct block_device *block_mem_create(u64 bytes, bool read_only);
u8 *block_mem_data(struct block_device *dev);
void block_mem_resize(struct block_device *dev, u64 bytes); /* not above the first size */
void block_mem_hold(struct block_device *dev, bool held);
void block_mem_release(struct block_device *dev);
/* From now on @op fails with @error (0: works again); the data stays unchanged. */
void block_mem_fail(struct block_device *dev, enum block_op op, int error);
/* How many @op the device has seen, and how many writes had BLOCK_FUA. */
u32 block_mem_count(struct block_device *dev, enum block_op op);
u32 block_mem_fua_count(struct block_device *dev);

#endif
