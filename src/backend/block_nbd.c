// SPDX-License-Identifier: MIT
/*
 * Images somebody else understands: an NBD server at an address, or a qemu-nbd
 * of our own behind a private socket. libnbd is loaded when the first such disk
 * is opened, so that other runs do not carry it.
 *
 * One connection and one thread per device; queues hand requests over and get
 * them back in batches. A lost connection stays lost: writes the server had not
 * flushed may be gone, and going on would hide that.
 */
#include <dlfcn.h>
#include <errno.h>
#include <libnbd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/block_impl.h"
#include "base/log.h"

#define NBD_FUNCTIONS(F)                                                                           \
	F(nbd_create)                                                                              \
	F(nbd_close)                                                                               \
	F(nbd_connect_uri)                                                                         \
	F(nbd_connect_systemd_socket_activation)                                                   \
	F(nbd_shutdown)                                                                            \
	F(nbd_get_error)                                                                           \
	F(nbd_get_size)                                                                            \
	F(nbd_get_block_size)                                                                      \
	F(nbd_is_read_only)                                                                        \
	F(nbd_is_rotational)                                                                       \
	F(nbd_can_flush)                                                                           \
	F(nbd_can_fua)                                                                             \
	F(nbd_can_trim)                                                                            \
	F(nbd_can_zero)                                                                            \
	F(nbd_aio_pread)                                                                           \
	F(nbd_aio_pwrite)                                                                          \
	F(nbd_aio_flush)                                                                           \
	F(nbd_aio_trim)                                                                            \
	F(nbd_aio_zero)                                                                            \
	F(nbd_aio_get_fd)                                                                          \
	F(nbd_aio_get_direction)                                                                   \
	F(nbd_aio_notify_read)                                                                     \
	F(nbd_aio_notify_write)                                                                    \
	F(nbd_aio_is_dead)                                                                         \
	F(nbd_aio_is_closed)

#define FIELD(name) __typeof__(&name) name;
static struct {
	NBD_FUNCTIONS(FIELD)
} nbd;

struct nbd_dev {
	struct block_device dev;
	struct nbd_handle *h;
	struct loop *loop;
	struct loop_fd socket;
	struct loop_work work; /* requests wait, or the end */
	pthread_mutex_t lock;  /* waiting */
	struct list waiting;
	bool can_flush, can_fua, can_trim, can_zero;
	bool dead; /* loop */
};

/* Largest piece of a trim or zeroing: lengths on the wire are 32 bits. */
#define NBD_PIECE (1 * GIB)

enum nbd_step { NBD_DATA, NBD_THEN_FLUSH };

static struct nbd_dev *to_nbd(struct block_device *dev)
{
	return container_of(dev, struct nbd_dev, dev);
}

static void finish(struct block_request *req, int error)
{
	block_unbounce(req, error);
	block_complete_remote(req, error);
}

static void issue(struct nbd_dev *nd, struct block_request *req);

/* Called by libnbd on the device's thread. */
static int completed(void *arg, int *error)
{
	struct block_request *req = arg;
	struct nbd_dev *nd = to_nbd(req->dev);

	if (*error) {
		finish(req, -*error);
		return 1;
	}
	if (req->op == BLOCK_DISCARD || req->op == BLOCK_WRITE_ZEROES) {
		req->moved += min_u64(req->bytes - req->moved, NBD_PIECE);
		if (req->moved < req->bytes) {
			issue(nd, req);
			return 1;
		}
	}
	if (req->op == BLOCK_WRITE && req->flags & BLOCK_FUA && !nd->can_fua &&
	    req->step == NBD_DATA) {
		req->step = NBD_THEN_FLUSH;
		issue(nd, req);
		return 1;
	}
	finish(req, 0);
	return 1;
}

static s64 send_request(struct nbd_dev *nd, struct block_request *req)
{
	nbd_completion_callback cb = { .callback = completed, .user_data = req };
	u64 at = req->offset + req->moved;
	u64 piece = min_u64(req->bytes - req->moved, NBD_PIECE);

	if (req->step == NBD_THEN_FLUSH)
		return nd->can_flush ? nbd.nbd_aio_flush(nd->h, cb, 0) : -1;
	switch (req->op) {
	case BLOCK_READ:
		return nbd.nbd_aio_pread(nd->h, req->vec->iov_base, req->bytes, at, cb, 0);
	case BLOCK_WRITE:
		return nbd.nbd_aio_pwrite(
			nd->h, req->vec->iov_base, req->bytes, at, cb,
			req->flags & BLOCK_FUA && nd->can_fua ? LIBNBD_CMD_FLAG_FUA : 0);
	case BLOCK_FLUSH:
		return nbd.nbd_aio_flush(nd->h, cb, 0);
	case BLOCK_DISCARD:
		/* A trim may leave old data; a zeroing that may unmap does what a discard promises.
		 */
		return nbd.nbd_aio_zero(nd->h, piece, at, cb, 0);
	case BLOCK_WRITE_ZEROES:
	case BLOCK_OP_COUNT:
		break;
	}
	return nbd.nbd_aio_zero(nd->h, piece, at, cb,
				req->flags & BLOCK_MAY_UNMAP ? 0 : LIBNBD_CMD_FLAG_NO_HOLE);
}

static void issue(struct nbd_dev *nd, struct block_request *req)
{
	bool transfer = req->op == BLOCK_READ || req->op == BLOCK_WRITE;
	int error = 0;

	/* The protocol moves one run of memory; guest memory rarely is one. */
	if (nd->dead)
		error = -EIO;
	else if (transfer && req->vec_count != 1 && !req->bounce)
		error = block_bounce(req);
	if (!error && send_request(nd, req) < 0)
		error = -EIO;
	if (error)
		finish(req, error);
}

static void update_events(struct nbd_dev *nd)
{
	unsigned dir = nbd.nbd_aio_get_direction(nd->h);

	if (!nd->dead && (nbd.nbd_aio_is_dead(nd->h) || nbd.nbd_aio_is_closed(nd->h))) {
		nd->dead = true;
		log_error("disk %s: the connection to the NBD server is lost. Every request of "
			  "this disk fails from now on.",
			  nd->dev.name);
		loop_fd_del(&nd->socket);
	}
	if (!nd->dead)
		loop_fd_modify(&nd->socket,
			       (dir & LIBNBD_AIO_DIRECTION_READ ? EPOLLIN : 0) |
				       (dir & LIBNBD_AIO_DIRECTION_WRITE ? EPOLLOUT : 0));
}

static void socket_ready(struct loop_fd *lf, u32 events)
{
	struct nbd_dev *nd = container_of(lf, struct nbd_dev, socket);
	unsigned dir = nbd.nbd_aio_get_direction(nd->h);

	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR) && dir & LIBNBD_AIO_DIRECTION_READ)
		nbd.nbd_aio_notify_read(nd->h);
	else if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR) && dir & LIBNBD_AIO_DIRECTION_WRITE)
		nbd.nbd_aio_notify_write(nd->h);
	update_events(nd);
}

static void take_waiting(struct loop_work *w)
{
	struct nbd_dev *nd = container_of(w, struct nbd_dev, work);
	struct list *node;

	for (;;) {
		pthread_mutex_lock(&nd->lock);
		node = list_pop(&nd->waiting);
		pthread_mutex_unlock(&nd->lock);
		if (!node)
			break;
		issue(nd, list_entry(node, struct block_request, node));
	}
	update_events(nd);
}

static void nbd_submit(struct block_device *dev, struct block_request *req)
{
	struct nbd_dev *nd = to_nbd(dev);

	if (req->op == BLOCK_FLUSH && !nd->can_flush) {
		block_complete(req, 0); /* said at open: the server does not cache */
		return;
	}
	if ((req->op == BLOCK_DISCARD || req->op == BLOCK_WRITE_ZEROES) && !nd->can_zero) {
		block_complete(req, -EOPNOTSUPP);
		return;
	}
	pthread_mutex_lock(&nd->lock);
	list_add_tail(&nd->waiting, &req->node);
	pthread_mutex_unlock(&nd->lock);
	loop_post(nd->loop, &nd->work);
}

static void nbd_dev_close(struct block_device *dev)
{
	struct nbd_dev *nd = to_nbd(dev);

	if (nd->loop) {
		loop_thread_join(nd->loop);
		loop_fd_del(&nd->socket);
		loop_destroy(nd->loop);
	}
	if (nd->h) {
		nbd.nbd_shutdown(nd->h, 0);
		nbd.nbd_close(nd->h); /* waits for a qemu-nbd of ours: it has flushed then */
	}
	pthread_mutex_destroy(&nd->lock);
	block_device_fini(dev);
	free(nd);
}

static const struct block_ops nbd_ops = {
	.name = "nbd",
	.submit = nbd_submit,
	.close = nbd_dev_close,
};

/* Opening; on the operator's thread, one at a time. */

static int load_libnbd(char *error, size_t error_bytes)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static bool loaded;
	void *lib;
	int ret = 0;

	pthread_mutex_lock(&lock);
	if (loaded)
		goto unlock;
	lib = dlopen("libnbd.so.0", RTLD_NOW | RTLD_LOCAL);
	if (!lib) {
		snprintf(error, error_bytes, "this kind of disk needs libnbd (package libnbd0)");
		ret = -ENOENT;
		goto unlock;
	}
#define RESOLVE(name)                                                                              \
	nbd.name = (__typeof__(nbd.name))dlsym(lib, #name);                                        \
	if (!nbd.name) {                                                                           \
		snprintf(error, error_bytes, "the installed libnbd lacks %s", #name);              \
		ret = -ENOENT;                                                                     \
		goto unlock;                                                                       \
	}
	NBD_FUNCTIONS(RESOLVE)
	loaded = true;
unlock:
	pthread_mutex_unlock(&lock);
	return ret;
}

/*
 * setsid: an interrupt typed at the terminal is for us alone; the guest still
 * writes while it shuts down. If we are killed, the socket closes, and qemu-nbd
 * flushes and ends.
 */
static int start_qemu_nbd(struct nbd_dev *nd, const struct block_spec *spec, const char *format)
{
	char format_arg[32], *path = realpath(spec->path, NULL);
	char *argv[] = { "setsid",
			 "qemu-nbd",
			 format_arg,
			 "--discard=unmap",
			 "--cache=writeback",
			 "--shared=1",
			 path,
			 spec->read_only ? "--read-only" : NULL,
			 NULL };
	int ret;

	if (!path)
		return -1;
	snprintf(format_arg, sizeof(format_arg), "--format=%s", format);
	ret = nbd.nbd_connect_systemd_socket_activation(nd->h, argv);
	free(path);
	return ret;
}

static int connect_server(struct nbd_dev *nd, const struct block_spec *spec, const char *format,
			  char *error, size_t error_bytes)
{
	const char *why;

	nd->h = nbd.nbd_create();
	if (nd->h && (format ? start_qemu_nbd(nd, spec, format)
			     : nbd.nbd_connect_uri(nd->h, spec->path)) == 0)
		return 0;
	why = nbd.nbd_get_error();
	snprintf(error, error_bytes, "cannot open %s%s%s: %s", spec->path,
		 format ? " through qemu-nbd (package qemu-utils) as " : "", format ? format : "",
		 why ? why : "no such file");
	return -EIO;
}

static int learn(struct nbd_dev *nd, const struct block_spec *spec, char *error, size_t error_bytes)
{
	s64 bytes = nbd.nbd_get_size(nd->h);
	s64 block = nbd.nbd_get_block_size(nd->h, LIBNBD_SIZE_MINIMUM);
	struct block_info *info = &nd->dev.info;

	if (bytes < 0 || block > (s64)BLOCK_SECTOR) {
		snprintf(error, error_bytes,
			 bytes < 0 ? "%s: the server does not tell a size"
				   : "%s: the server wants blocks larger than 512 bytes",
			 spec->path);
		return -EINVAL;
	}
	nd->dev.bytes = (u64)bytes & ~(u64)(BLOCK_SECTOR - 1);
	info->read_only = spec->read_only || nbd.nbd_is_read_only(nd->h) > 0;
	info->rotational = nbd.nbd_is_rotational(nd->h) > 0;
	block = nbd.nbd_get_block_size(nd->h, LIBNBD_SIZE_PREFERRED);
	info->physical_block = block >= 4096 ? 4096 : BLOCK_SECTOR;
	nd->can_flush = nbd.nbd_can_flush(nd->h) > 0;
	nd->can_fua = nbd.nbd_can_fua(nd->h) > 0;
	nd->can_trim = nbd.nbd_can_trim(nd->h) > 0;
	nd->can_zero = nbd.nbd_can_zero(nd->h) > 0;
	if (!info->read_only && nd->can_zero && nd->can_trim)
		info->discard_granularity = info->physical_block;
	if (!info->read_only && !nd->can_flush)
		log_warning("disk %s: the server knows no flush; data is as safe as the server "
			    "keeps it",
			    spec->path);
	return 0;
}

static int start_thread(struct nbd_dev *nd)
{
	int ret;

	nd->loop = loop_create(NULL);
	if (!nd->loop)
		return -ENOMEM;
	ret = loop_fd_add(nd->loop, &nd->socket, nbd.nbd_aio_get_fd(nd->h), EPOLLIN, socket_ready);
	return ret ? ret : loop_thread_start(nd->loop, "nbd");
}

int block_nbd_open(const struct block_spec *spec, const char *format, struct block_device **out,
		   char *error, size_t error_bytes)
{
	struct nbd_dev *nd;
	int ret = load_libnbd(error, error_bytes);

	if (ret)
		return ret;
	nd = calloc(1, sizeof(*nd));
	if (!nd || block_device_init(&nd->dev, &nbd_ops, spec->path, 0)) {
		free(nd);
		snprintf(error, error_bytes, "out of memory");
		return -ENOMEM;
	}
	list_init(&nd->waiting);
	loop_work_init(&nd->work, take_waiting);
	pthread_mutex_init(&nd->lock, NULL);
	ret = connect_server(nd, spec, format, error, error_bytes);
	if (!ret)
		ret = learn(nd, spec, error, error_bytes);
	if (!ret) {
		ret = start_thread(nd);
		if (ret)
			snprintf(error, error_bytes, "%s: %s", spec->path, strerror(-ret));
	}
	if (ret) {
		nbd_dev_close(&nd->dev);
		return ret;
	}
	*out = &nd->dev;
	return 0;
}
