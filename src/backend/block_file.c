// SPDX-License-Identifier: MIT
/*
 * Raw files and block devices through io_uring, past the page cache where the
 * file system allows it. Memory comes straight from the guest; only what is not
 * aligned for O_DIRECT goes through a bounce buffer.
 */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "backend/block_impl.h"
#include "base/log.h"

struct file_dev {
	struct block_device dev;
	int fd;
	bool direct;
	bool is_block;
	bool in_memory; /* a transfer is a copy and waits for nothing */
	u32 mem_align;	/* of addresses and lengths with O_DIRECT */
	bool can_zero_range, can_punch;
};

/* More than this is worth another thread. */
#define COPY_MAX ((u64)(128 * KIB))

/* Where writes of zeroes come from when the file system has no better way. */
#define ZERO_BYTES ((u64)(64 * KIB))
#define ZERO_RUN   16
static u8 zeroes[ZERO_BYTES] __attribute__((aligned(4096)));
#define Z                                                                                          \
	{                                                                                          \
		zeroes, ZERO_BYTES                                                                 \
	}
static const struct iovec zero_run[ZERO_RUN] = { Z, Z, Z, Z, Z, Z, Z, Z, Z, Z, Z, Z, Z, Z, Z, Z };
#undef Z

enum zero_step { ZERO_BY_RANGE, ZERO_BY_PUNCH, ZERO_BY_WRITE };

static struct file_dev *to_file(struct block_device *dev)
{
	return container_of(dev, struct file_dev, dev);
}

static void finish(struct block_request *req, int error)
{
	block_unbounce(req, error);
	block_complete(req, error);
}

static void issue(struct block_request *req);

/* Not expected of a blocking file, so worth a few tries and no more. */
static bool again(struct block_request *req, int res)
{
	return (res == -EINTR || res == -EAGAIN) && req->step++ < 100;
}

/* The kernel may do a transfer in part; a real error shows when the rest is tried. */
static void transfer_cqe(struct block_request *req, int res)
{
	if (again(req, res)) {
		issue(req);
		return;
	}
	if (res <= 0) {
		/* 0: the file ends here, somebody has cut it. */
		finish(req, res ? res : -EIO);
		return;
	}
	req->moved += (u64)res;
	if (req->moved >= req->bytes) {
		finish(req, 0);
		return;
	}
	if (req->op != BLOCK_WRITE_ZEROES)
		block_advance(req, (u64)res);
	issue(req);
}

static void flush_cqe(struct block_request *req, int res)
{
	if (again(req, res))
		issue(req);
	else
		finish(req, res);
}

static bool unsupported(int res)
{
	return res == -EOPNOTSUPP || res == -ENOSYS || res == -EINVAL || res == -ENODEV ||
	       res == -ENOTTY;
}

static void fallocate_cqe(struct block_request *req, int res)
{
	if (res == -EINTR) {
		issue(req);
	} else if (res < 0 && unsupported(res)) {
		if (req->op == BLOCK_DISCARD) {
			finish(req, -EOPNOTSUPP);
			return;
		}
		req->step++;
		issue(req);
	} else {
		finish(req, res < 0 ? res : 0);
	}
}

static void prep_zero_write(const struct file_dev *fd, struct io_uring_sqe *sqe,
			    const struct block_request *req)
{
	u64 left = req->bytes - req->moved;
	u64 at = req->offset + req->moved;

	if (left >= ZERO_RUN * ZERO_BYTES)
		io_uring_prep_writev(sqe, fd->fd, zero_run, ZERO_RUN, at);
	else
		io_uring_prep_write(sqe, fd->fd, zeroes, (unsigned)min_u64(left, ZERO_BYTES), at);
}

static void prep_zeroes(const struct file_dev *fd, struct io_uring_sqe *sqe,
			struct block_request *req)
{
	int mode = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;

	req->cqe = fallocate_cqe;
	if (req->step == ZERO_BY_RANGE && (req->flags & BLOCK_MAY_UNMAP) && fd->can_punch)
		mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	else if (req->step == ZERO_BY_RANGE && !fd->can_zero_range)
		req->step = ZERO_BY_PUNCH;
	if (req->step == ZERO_BY_PUNCH) {
		mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
		if (!fd->can_punch)
			req->step = ZERO_BY_WRITE;
	}
	if (req->step >= ZERO_BY_WRITE) {
		req->cqe = transfer_cqe;
		prep_zero_write(fd, sqe, req);
		return;
	}
	io_uring_prep_fallocate(sqe, fd->fd, mode, req->offset, req->bytes);
}

static void prep_transfer(const struct file_dev *fd, struct io_uring_sqe *sqe,
			  struct block_request *req)
{
	u64 at = req->offset + req->moved;
	const struct iovec *v = req->vec;

	req->cqe = transfer_cqe;
	if (req->op == BLOCK_READ) {
		if (req->vec_count == 1)
			io_uring_prep_read(sqe, fd->fd, v->iov_base, (unsigned)v->iov_len, at);
		else
			io_uring_prep_readv(sqe, fd->fd, v, (unsigned)req->vec_count, at);
		return;
	}
	if (req->vec_count == 1)
		io_uring_prep_write(sqe, fd->fd, v->iov_base, (unsigned)v->iov_len, at);
	else
		io_uring_prep_writev(sqe, fd->fd, v, (unsigned)req->vec_count, at);
	if (req->flags & BLOCK_FUA)
		sqe->rw_flags = RWF_DSYNC;
}

/*
 * The kernel would hand it to a thread of io_uring's, since such a file system has no way to
 * say that it would not wait: that costs more than the copy.
 */
static void transfer_now(const struct file_dev *fd, struct block_request *req)
{
	off_t at = (off_t)(req->offset + req->moved);
	ssize_t res;

	if (req->op == BLOCK_READ)
		res = preadv(fd->fd, req->vec, req->vec_count, at);
	else
		res = pwritev2(fd->fd, req->vec, req->vec_count, at,
			       req->flags & BLOCK_FUA ? RWF_DSYNC : 0);
	transfer_cqe(req, res < 0 ? -errno : (int)res);
}

static void issue(struct block_request *req)
{
	struct file_dev *fd = to_file(req->dev);
	struct io_uring_sqe *sqe;
	int error;

	if (fd->in_memory && req->bytes <= COPY_MAX &&
	    (req->op == BLOCK_READ || req->op == BLOCK_WRITE)) {
		transfer_now(fd, req);
		return;
	}
	sqe = block_uring_get(req, &error);
	if (!sqe) {
		finish(req, error);
		return;
	}
	switch (req->op) {
	case BLOCK_READ:
	case BLOCK_WRITE:
		prep_transfer(fd, sqe, req);
		break;
	case BLOCK_FLUSH:
		req->cqe = flush_cqe;
		io_uring_prep_fsync(sqe, fd->fd, IORING_FSYNC_DATASYNC);
		break;
	case BLOCK_DISCARD:
		req->cqe = fallocate_cqe;
		io_uring_prep_fallocate(sqe, fd->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					req->offset, req->bytes);
		break;
	case BLOCK_WRITE_ZEROES:
	case BLOCK_OP_COUNT:
		prep_zeroes(fd, sqe, req);
		break;
	}
	io_uring_sqe_set_data(sqe, req);
}

static bool aligned(const struct file_dev *fd, const struct block_request *req)
{
	uintptr_t all = 0;

	for (int i = 0; i < req->iov_count; i++)
		all |= (uintptr_t)req->iov[i].iov_base | req->iov[i].iov_len;
	return all % fd->mem_align == 0;
}

static void file_submit(struct block_device *dev, struct block_request *req)
{
	struct file_dev *fd = to_file(dev);
	int error = 0;

	if (req->op == BLOCK_DISCARD && !fd->can_punch)
		error = -EOPNOTSUPP;
	if ((req->op == BLOCK_READ || req->op == BLOCK_WRITE) && fd->direct && !aligned(fd, req))
		error = block_bounce(req);
	if (error)
		block_complete(req, error);
	else
		issue(req);
}

static void file_close(struct block_device *dev)
{
	struct file_dev *fd = to_file(dev);

	close(fd->fd);
	block_device_fini(dev);
	free(fd);
}

static int fd_size(int fd, bool is_block, u64 *bytes)
{
	struct stat st;

	if (is_block)
		return ioctl(fd, BLKGETSIZE64, bytes) < 0 ? -errno : 0;
	if (fstat(fd, &st) < 0)
		return -errno;
	*bytes = (u64)st.st_size;
	return 0;
}

static int file_size(struct block_device *dev, u64 *bytes)
{
	return fd_size(to_file(dev)->fd, to_file(dev)->is_block, bytes);
}

static void file_extent(struct block_device *dev, u64 offset, u64 *bytes, bool *hole)
{
	int fd = to_file(dev)->fd;
	off_t data = lseek(fd, (off_t)offset, SEEK_DATA), end;

	if (data < 0 && errno != ENXIO)
		return;
	*hole = data < 0 || (u64)data > offset;
	if (data < 0) /* a hole up to the end */
		return;
	end = *hole ? data : lseek(fd, (off_t)offset, SEEK_HOLE);
	if (end > (off_t)offset)
		*bytes = min_u64(*bytes, (u64)end - offset);
}

static const struct block_ops file_ops = {
	.name = "file",
	.submit = file_submit,
	.close = file_close,
	.size = file_size,
	.extent = file_extent,
};

/*
 * Locks, byte by byte as QEMU takes them, so that QEMU and its tools and this
 * program keep out of each other's images. A permission in use is a read lock
 * on LOCK_USES + n; not sharing it with others is one on LOCK_DENIES + n; then
 * nobody may hold the opposite byte.
 */
#define LOCK_USES   100
#define LOCK_DENIES 200
enum lock_perm { LOCK_PERM_READ, LOCK_PERM_WRITE, LOCK_PERM_UNCHANGED, LOCK_PERM_RESIZE };

static const struct lock_row {
	enum lock_perm perm;
	bool reader_uses, writer_uses, reader_denies, writer_denies;
} lock_rows[] = {
	{ LOCK_PERM_READ, .reader_uses = true, .writer_uses = true },
	{ LOCK_PERM_WRITE, .writer_uses = true, .reader_denies = true, .writer_denies = true },
	{ LOCK_PERM_RESIZE, .reader_denies = true, .writer_denies = true },
};

static int lock_byte(int fd, int cmd, short type, off_t byte, bool *held_by_other)
{
	struct flock fl = { .l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };

	if (fcntl(fd, cmd, &fl) < 0)
		return -errno;
	if (held_by_other)
		*held_by_other = fl.l_type != F_UNLCK;
	return 0;
}

static int lock_image(int fd, bool read_only)
{
	for (u32 i = 0; i < ARRAY_SIZE(lock_rows); i++) {
		const struct lock_row *r = &lock_rows[i];
		int ret = 0;

		if (read_only ? r->reader_uses : r->writer_uses)
			ret = lock_byte(fd, F_OFD_SETLK, F_RDLCK, LOCK_USES + r->perm, NULL);
		if (!ret && (read_only ? r->reader_denies : r->writer_denies))
			ret = lock_byte(fd, F_OFD_SETLK, F_RDLCK, LOCK_DENIES + r->perm, NULL);
		if (ret)
			return ret == -EACCES ? -EAGAIN : ret;
	}
	for (u32 i = 0; i < ARRAY_SIZE(lock_rows); i++) {
		const struct lock_row *r = &lock_rows[i];
		bool denied = false, used = false;

		if (read_only ? r->reader_uses : r->writer_uses)
			lock_byte(fd, F_OFD_GETLK, F_WRLCK, LOCK_DENIES + r->perm, &denied);
		if (read_only ? r->reader_denies : r->writer_denies)
			lock_byte(fd, F_OFD_GETLK, F_WRLCK, LOCK_USES + r->perm, &used);
		if (denied || used)
			return -EAGAIN;
	}
	return 0;
}

/* What the kernel says of it. */

static u64 sysfs_queue(dev_t d, const char *attr, u64 otherwise)
{
	static const char *const parents[] = { "", "/.." }; /* a disk; a partition */
	char path[128];
	u64 v;

	for (u32 i = 0; i < ARRAY_SIZE(parents); i++) {
		FILE *f;
		int got;

		snprintf(path, sizeof(path), "/sys/dev/block/%u:%u%s/queue/%s", major(d), minor(d),
			 parents[i], attr);
		f = fopen(path, "re");
		if (!f)
			continue;
		got = fscanf(f, "%" SCNu64, &v);
		fclose(f);
		if (got == 1)
			return v;
	}
	return otherwise;
}

/* Behind the end there is nothing to lose, so a real call tells whether it works. */
static bool fallocate_works(int fd, int mode, u64 size)
{
	u64 at = align_up(size, MIB);

	return fallocate(fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)at, PAGE_BYTES) == 0;
}

static void probe_file(struct file_dev *fd, const struct stat *st)
{
	struct block_info *info = &fd->dev.info;
	struct statfs fs;

	fd->in_memory =
		fstatfs(fd->fd, &fs) == 0 && (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC);
	if (st->st_blksize >= 512 && st->st_blksize <= 65536 &&
	    (st->st_blksize & (st->st_blksize - 1)) == 0)
		info->physical_block = (u32)(st->st_blksize > 4096 ? 4096 : st->st_blksize);
	if (info->read_only)
		return;
	fd->can_punch = fallocate_works(fd->fd, FALLOC_FL_PUNCH_HOLE, fd->dev.bytes);
	/* Blocks reserved behind the end would stay; punching gives them back. */
	if (fd->can_punch && fallocate_works(fd->fd, FALLOC_FL_ZERO_RANGE, fd->dev.bytes)) {
		fd->can_zero_range = true;
		fallocate_works(fd->fd, FALLOC_FL_PUNCH_HOLE, fd->dev.bytes);
	}
	if (fd->can_punch)
		info->discard_granularity = info->physical_block;
}

static void probe_block(struct file_dev *fd, const struct stat *st)
{
	struct block_info *info = &fd->dev.info;
	dev_t d = st->st_rdev;

	info->physical_block = (u32)sysfs_queue(d, "physical_block_size", BLOCK_SECTOR);
	info->rotational = sysfs_queue(d, "rotational", 0);
	if (info->read_only)
		return;
	fd->can_zero_range = sysfs_queue(d, "write_zeroes_max_bytes", 0) != 0;
	/* The kernel punches a block device by a zeroing that unmaps. */
	fd->can_punch = fd->can_zero_range && sysfs_queue(d, "discard_max_bytes", 0) != 0;
	if (fd->can_punch)
		info->discard_granularity =
			(u32)max_u64(sysfs_queue(d, "discard_granularity", 512), BLOCK_SECTOR);
}

/* Alignment O_DIRECT wants; false if sectors of 512 bytes are too small for it. */
static bool direct_alignment(struct file_dev *fd, const struct stat *st)
{
	int logical = 0;

	fd->mem_align = BLOCK_SECTOR;
#ifdef STATX_DIOALIGN
	struct statx sx;

	if (statx(fd->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &sx) == 0 &&
	    (sx.stx_mask & STATX_DIOALIGN)) {
		if (sx.stx_dio_offset_align == 0 || sx.stx_dio_offset_align > BLOCK_SECTOR)
			return false;
		/* Elements also end inside the vector, where only whole sectors will do. */
		fd->mem_align = (u32)max_u64(sx.stx_dio_mem_align, BLOCK_SECTOR);
		return true;
	}
#endif
	if (S_ISBLK(st->st_mode))
		return ioctl(fd->fd, BLKSSZGET, &logical) == 0 && logical <= (int)BLOCK_SECTOR;
	return true; /* not told; direct_works() tries */
}

static bool direct_works(int fd, u64 bytes)
{
	void *buf = aligned_alloc(PAGE_BYTES, PAGE_BYTES);
	bool works;

	if (!buf)
		return false;
	/* At an odd sector, so that a file system that wants 4096 says so. */
	works = bytes < 2 * (u64)BLOCK_SECTOR ||
		pread(fd, (u8 *)buf, BLOCK_SECTOR, BLOCK_SECTOR) >= 0;
	free(buf);
	return works;
}

static int open_fd(const struct block_spec *spec, struct stat *st)
{
	int flags = (spec->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC;
	int fd;

	if (stat(spec->path, st) < 0)
		return -errno;
	if (!S_ISREG(st->st_mode) && !S_ISBLK(st->st_mode))
		return S_ISDIR(st->st_mode) ? -EISDIR : -EINVAL;
	if (S_ISBLK(st->st_mode) && !spec->read_only)
		flags |= O_EXCL; /* not while it is mounted */
	fd = open(spec->path, flags);
	if (fd < 0)
		return errno == EBUSY ? -EAGAIN : -errno;
	if (fstat(fd, st) < 0) {
		close(fd);
		return -EIO;
	}
	return fd;
}

static void use_direct(struct file_dev *fd, const struct stat *st)
{
	int flags = fcntl(fd->fd, F_GETFL);

	if (flags < 0 || fcntl(fd->fd, F_SETFL, flags | O_DIRECT) < 0)
		return;
	fd->direct = direct_alignment(fd, st) && direct_works(fd->fd, fd->dev.bytes);
	if (!fd->direct)
		fcntl(fd->fd, F_SETFL, flags);
}

static int explain(char *error, size_t error_bytes, const struct block_spec *spec, int ret)
{
	if (ret == -EAGAIN)
		snprintf(error, error_bytes, "%s is in use by another program%s", spec->path,
			 spec->read_only ? " that writes to it"
					 : " (for reading together, add ,ro)");
	else if (ret == -EINVAL)
		snprintf(error, error_bytes, "%s is neither a file nor a block device", spec->path);
	else
		snprintf(error, error_bytes, "cannot open %s: %s%s", spec->path, strerror(-ret),
			 ret == -EACCES || ret == -EROFS ? " (to only read it, add ,ro)" : "");
	return ret;
}

int block_file_open(const struct block_spec *spec, struct block_device **out, char *error,
		    size_t error_bytes)
{
	struct file_dev *fd = calloc(1, sizeof(*fd));
	struct stat st;
	u64 bytes;
	int ret;

	if (!fd)
		return explain(error, error_bytes, spec, -ENOMEM);
	ret = fd->fd = open_fd(spec, &st);
	if (ret < 0)
		goto free;
	fd->is_block = S_ISBLK(st.st_mode);
	ret = lock_image(fd->fd, spec->read_only);
	/* Some network file systems have no locks: the operator's business then. */
	if (ret && ret != -EAGAIN)
		log_warning("disk %s: the file system cannot lock it: %s", spec->path,
			    strerror(-ret));
	if (ret == -EAGAIN)
		goto close;
	ret = fd_size(fd->fd, fd->is_block, &bytes);
	if (!ret)
		ret = block_device_init(&fd->dev, &file_ops, spec->path, bytes);
	if (ret)
		goto close;
	if (bytes % BLOCK_SECTOR)
		log_warning("disk %s: the last %u bytes are not a whole sector and stay unused",
			    spec->path, (u32)(bytes % BLOCK_SECTOR));
	fd->dev.info.read_only = spec->read_only;
	if (fd->is_block)
		probe_block(fd, &st);
	else
		probe_file(fd, &st);
	if (!spec->buffered)
		use_direct(fd, &st);
	*out = &fd->dev;
	return 0;
close:
	close(fd->fd);
free:
	free(fd);
	return explain(error, error_bytes, spec, ret);
}
