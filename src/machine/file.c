// SPDX-License-Identifier: MIT
#include "machine/file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

int file_open(const char *path, struct file *out, struct error *err)
{
	struct stat st;
	int ret;

	/* Not blocking, so that a FIFO is refused and not waited for. */
	out->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (out->fd < 0)
		return error_errno(err, -errno, path);
	if (fstat(out->fd, &st) < 0)
		ret = error_errno(err, -errno, path);
	else if (!S_ISREG(st.st_mode))
		ret = error_set(err, -EINVAL, "%s: not a regular file", path);
	else
		ret = 0;
	if (ret) {
		file_close(out);
		return ret;
	}
	out->into = NULL;
	out->bytes = (u64)st.st_size;
	out->name = path;
	return 0;
}

void file_close(struct file *f)
{
	if (f->fd >= 0)
		close(f->fd);
	f->fd = -1;
}

/* As much as the kernel copies by itself; the rest is read. */
static u64 copy_inside(const struct file *f, u64 offset, const u8 *dst, u64 len)
{
	const struct gmem_backing *b = f->into;
	off_t from = (off_t)offset;
	u64 done = 0;

	if (!b || b->fd < 0 || dst < b->hva || dst >= b->hva + b->bytes ||
	    len > (u64)(b->hva + b->bytes - dst) || lseek(b->fd, dst - b->hva, SEEK_SET) < 0)
		return 0;
	while (done < len) {
		ssize_t n = sendfile(b->fd, f->fd, &from, min_u64(len - done, GIB));

		if (n <= 0)
			break;
		done += (u64)n;
	}
	return done;
}

int file_read(const struct file *f, u64 offset, void *dst, u64 len, struct error *err)
{
	u64 copied = copy_inside(f, offset, dst, len);
	u8 *p = (u8 *)dst + copied;

	offset += copied;
	len -= copied;
	while (len) {
		ssize_t n = pread(f->fd, p, min_u64(len, GIB), (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_errno(err, -errno, f->name);
		if (n == 0)
			return error_set(err, -EIO, "%s: ends too early", f->name);
		p += n;
		offset += (u64)n;
		len -= (u64)n;
	}
	return 0;
}
