// SPDX-License-Identifier: MIT
#include "machine/file.h"

#include <errno.h>
#include <fcntl.h>
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

int file_read(const struct file *f, u64 offset, void *dst, u64 len, struct error *err)
{
	u8 *p = dst;

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
