// SPDX-License-Identifier: MIT
/* A list of entries; each knows its size, so that the image can be placed before it is written. */
#include "machine/rootfs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "machine/file.h"

#define CPIO_HEADER_BYTES 110
#define CPIO_ALIGN	  4
#define CPIO_TRAILER	  "TRAILER!!!"
/* Between archives: Linux skips zeros, and expects a header on a multiple of four. */
#define ARCHIVE_ALIGN 512

enum source { FROM_NOTHING, FROM_BYTES, FROM_HOST, FROM_ARCHIVE };

struct node {
	struct node *next;
	char *name;
	u32 mode, uid, gid, nlink, mtime, ino;
	u32 rdev_major, rdev_minor;
	u64 bytes;
	enum source source;
	void *data; /* FROM_BYTES */
	char *path; /* FROM_HOST, FROM_ARCHIVE */
};

/* A file with several names: the first one seen carries the contents. */
struct link {
	dev_t dev;
	ino_t host_ino;
	u32 ino;
};

struct rootfs {
	struct node *first, **end;
	u64 bytes;
	u32 next_ino;
	void *links; /* tsearch tree of struct link */
	bool open;   /* an archive of ours is begun and has no trailer yet */
};

int rootfs_create(struct rootfs **out)
{
	struct rootfs *fs = calloc(1, sizeof(*fs));

	if (!fs)
		return -ENOMEM;
	fs->end = &fs->first;
	fs->next_ino = 1;
	*out = fs;
	return 0;
}

static void node_free(struct node *e)
{
	free(e->name);
	free(e->data);
	free(e->path);
	free(e);
}

void rootfs_destroy(struct rootfs *fs)
{
	struct node *e, *next;

	if (!fs)
		return;
	for (e = fs->first; e; e = next) {
		next = e->next;
		node_free(e);
	}
	tdestroy(fs->links, free);
	free(fs);
}

static u64 node_bytes(const struct node *e)
{
	if (e->source == FROM_ARCHIVE)
		return align_up(e->bytes, ARCHIVE_ALIGN);
	return align_up(CPIO_HEADER_BYTES + strlen(e->name) + 1, CPIO_ALIGN) +
	       align_up(e->bytes, CPIO_ALIGN);
}

static u64 trailer_bytes(u64 at)
{
	u64 end = at + align_up(CPIO_HEADER_BYTES + sizeof(CPIO_TRAILER), CPIO_ALIGN);

	return align_up(end, ARCHIVE_ALIGN) - at;
}

static struct node *node_new(const char *name, u32 mode, struct error *err)
{
	struct node *e = calloc(1, sizeof(*e));

	if (e)
		e->name = strdup(name);
	if (!e || !e->name) {
		free(e);
		error_set(err, -ENOMEM, "out of memory");
		return NULL;
	}
	e->mode = mode;
	e->nlink = 1;
	return e;
}

static void node_append(struct rootfs *fs, struct node *e)
{
	if (e->source == FROM_ARCHIVE && fs->open)
		fs->bytes += trailer_bytes(fs->bytes);
	fs->open = e->source != FROM_ARCHIVE;
	if (!e->ino)
		e->ino = fs->next_ino++;
	fs->bytes += node_bytes(e);
	*fs->end = e;
	fs->end = &e->next;
}

int rootfs_add_dir(struct rootfs *fs, const char *name, mode_t mode, struct error *err)
{
	struct node *e = node_new(name, S_IFDIR | mode, err);

	if (!e)
		return -ENOMEM;
	e->nlink = 2;
	node_append(fs, e);
	return 0;
}

static int add_data(struct rootfs *fs, const char *name, u32 mode, const void *data, u64 len,
		    struct error *err)
{
	struct node *e = node_new(name, mode, err);

	if (!e)
		return -ENOMEM;
	e->data = malloc(len + 1);
	if (!e->data) {
		node_free(e);
		return error_set(err, -ENOMEM, "out of memory");
	}
	memcpy(e->data, data, len);
	e->bytes = len;
	e->source = FROM_BYTES;
	node_append(fs, e);
	return 0;
}

int rootfs_add_bytes(struct rootfs *fs, const char *name, mode_t mode, const void *data, u64 len,
		     struct error *err)
{
	return add_data(fs, name, S_IFREG | mode, data, len, err);
}

int rootfs_add_symlink(struct rootfs *fs, const char *name, const char *target, struct error *err)
{
	return add_data(fs, name, S_IFLNK | 0777, target, strlen(target), err);
}

/* cpio has 32 bits for a size. */
static int size_check(u64 bytes, const char *path, struct error *err)
{
	if (bytes > UINT32_MAX)
		return error_set(err, -EFBIG, "%s: too big for an initramfs (4 GiB or more)", path);
	return 0;
}

static int add_host(struct rootfs *fs, struct node *e, const char *path, struct error *err)
{
	e->path = strdup(path);
	if (!e->path) {
		node_free(e);
		return error_set(err, -ENOMEM, "out of memory");
	}
	node_append(fs, e);
	return 0;
}

static int add_from_file(struct rootfs *fs, const char *name, u32 mode, const char *path,
			 enum source source, struct error *err)
{
	struct node *e;
	struct file f;
	int ret;

	ret = file_open(path, &f, err);
	if (ret)
		return ret;
	file_close(&f);
	ret = source == FROM_HOST ? size_check(f.bytes, path, err) : 0;
	if (ret)
		return ret;
	e = node_new(name, mode, err);
	if (!e)
		return -ENOMEM;
	e->bytes = f.bytes;
	e->source = source;
	return add_host(fs, e, path, err);
}

int rootfs_add_file(struct rootfs *fs, const char *name, mode_t mode, const char *path,
		    struct error *err)
{
	return add_from_file(fs, name, S_IFREG | mode, path, FROM_HOST, err);
}

int rootfs_add_archive(struct rootfs *fs, const char *path, struct error *err)
{
	return add_from_file(fs, "", 0, path, FROM_ARCHIVE, err);
}

static int link_compare(const void *a, const void *b)
{
	const struct link *x = a, *y = b;

	if (x->dev != y->dev)
		return x->dev < y->dev ? -1 : 1;
	return x->host_ino < y->host_ino ? -1 : x->host_ino > y->host_ino;
}

/* Sets e->ino; *again says that the contents are already in the archive. */
static int link_resolve(struct rootfs *fs, struct node *e, const struct stat *st, bool *again)
{
	struct link *l = malloc(sizeof(*l)), **found;

	if (!l)
		return -ENOMEM;
	*l = (struct link){ st->st_dev, st->st_ino, fs->next_ino };
	found = tsearch(l, &fs->links, link_compare);
	if (!found) {
		free(l);
		return -ENOMEM;
	}
	*again = *found != l;
	if (*again)
		free(l);
	else
		fs->next_ino++;
	e->ino = (*found)->ino;
	return 0;
}

static int fill_regular(struct rootfs *fs, struct node *e, const char *path, const struct stat *st,
			struct error *err)
{
	bool again = false;
	int ret = size_check((u64)st->st_size, path, err);

	if (!ret && st->st_nlink > 1) {
		e->nlink = (u32)st->st_nlink;
		ret = link_resolve(fs, e, st, &again);
	}
	if (ret || again)
		return ret;
	/* Say now what cannot be read, before the guest's memory is half filled. */
	if (access(path, R_OK) < 0)
		return error_errno(err, -errno, path);
	e->bytes = (u64)st->st_size;
	e->source = FROM_HOST;
	e->path = strdup(path);
	return e->path ? 0 : -ENOMEM;
}

static int fill_symlink(struct node *e, const char *path, struct error *err)
{
	char target[PATH_MAX];
	ssize_t n = readlink(path, target, sizeof(target));

	if (n < 0)
		return error_errno(err, -errno, path);
	e->data = malloc((size_t)n + 1);
	if (!e->data)
		return -ENOMEM;
	memcpy(e->data, target, (size_t)n);
	e->bytes = (u64)n;
	e->source = FROM_BYTES;
	return 0;
}

static int add_stat(struct rootfs *fs, const char *name, const char *path, const struct stat *st,
		    struct error *err)
{
	struct node *e = node_new(name, st->st_mode, err);
	int ret = 0;

	if (!e)
		return -ENOMEM;
	e->uid = st->st_uid;
	e->gid = st->st_gid;
	e->mtime = (u32)st->st_mtime;
	e->rdev_major = major(st->st_rdev);
	e->rdev_minor = minor(st->st_rdev);
	if (S_ISREG(st->st_mode))
		ret = fill_regular(fs, e, path, st, err);
	else if (S_ISLNK(st->st_mode))
		ret = fill_symlink(e, path, err);
	if (ret) {
		node_free(e);
		return ret;
	}
	node_append(fs, e);
	return 0;
}

static int tree_walk(struct rootfs *fs, const char *path, const char *name, dev_t dev,
		     struct error *err);

static int tree_entry(struct rootfs *fs, const char *dir, const char *dir_name, const char *base,
		      dev_t dev, struct error *err)
{
	char path[PATH_MAX], name[PATH_MAX];
	struct stat st;
	int n, ret;

	n = snprintf(path, sizeof(path), "%s/%s", dir, base);
	if (n < 0 || (size_t)n >= sizeof(path))
		return error_set(err, -ENAMETOOLONG, "%s/%s: path too long", dir, base);
	snprintf(name, sizeof(name), "%s%s%s", dir_name, *dir_name ? "/" : "", base);
	if (lstat(path, &st) < 0)
		return error_errno(err, -errno, path);
	ret = add_stat(fs, name, path, &st, err);
	/* A mount point stays an empty directory: no /proc of the host in the guest. */
	if (!ret && S_ISDIR(st.st_mode) && st.st_dev == dev)
		ret = tree_walk(fs, path, name, dev, err);
	return ret;
}

static int not_dots(const struct dirent *d)
{
	return strcmp(d->d_name, ".") && strcmp(d->d_name, "..");
}

/* Sorted, so that the same tree gives the same image. */
static int tree_walk(struct rootfs *fs, const char *path, const char *name, dev_t dev,
		     struct error *err)
{
	struct dirent **list;
	int n = scandir(path, &list, not_dots, alphasort);
	int ret = 0;

	if (n < 0)
		return error_errno(err, -errno, path);
	for (int i = 0; i < n; i++) {
		if (!ret)
			ret = tree_entry(fs, path, name, list[i]->d_name, dev, err);
		free(list[i]);
	}
	free(list);
	return ret;
}

int rootfs_add_tree(struct rootfs *fs, const char *dir, struct error *err)
{
	struct stat st;

	if (stat(dir, &st) < 0)
		return error_errno(err, -errno, dir);
	if (!S_ISDIR(st.st_mode))
		return error_errno(err, -ENOTDIR, dir);
	return tree_walk(fs, dir, "", st.st_dev, err);
}

u64 rootfs_bytes(const struct rootfs *fs)
{
	return fs->bytes + (fs->open ? trailer_bytes(fs->bytes) : 0);
}

/* Writes a header with its name; the padding is zero already: guest memory is fresh. */
static u8 *header_write(u8 *dst, const struct node *e)
{
	size_t name_bytes = strlen(e->name) + 1;
	char header[CPIO_HEADER_BYTES + 1];

	snprintf(header, sizeof(header),
		 "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X", e->ino, e->mode,
		 e->uid, e->gid, e->nlink, e->mtime, (u32)e->bytes, 0, 0, e->rdev_major,
		 e->rdev_minor, (u32)name_bytes, 0);
	memcpy(dst, header, CPIO_HEADER_BYTES);
	memcpy(dst + CPIO_HEADER_BYTES, e->name, name_bytes);
	return dst + align_up(CPIO_HEADER_BYTES + name_bytes, CPIO_ALIGN);
}

static int contents_write(u8 *dst, const struct node *e, const struct gmem_backing *into,
			  struct error *err)
{
	struct file f;
	int ret;

	if (e->source == FROM_BYTES)
		memcpy(dst, e->data, e->bytes);
	if (e->source != FROM_HOST && e->source != FROM_ARCHIVE)
		return 0;
	ret = file_open(e->path, &f, err);
	if (ret)
		return ret;
	f.into = into;
	ret = file_read(&f, 0, dst, e->bytes, err);
	if (ret == -EIO)
		error_set(err, ret, "%s: changed while it was read", e->path);
	file_close(&f);
	return ret;
}

static u8 *trailer_write(u8 *dst, u8 *start)
{
	const struct node trailer = { .name = (char *)(uintptr_t)CPIO_TRAILER, .nlink = 1 };
	u64 len = trailer_bytes((u64)(dst - start));

	header_write(dst, &trailer);
	return dst + len;
}

int rootfs_fill(void *ctx, u8 *dst, const struct gmem_backing *into, struct error *err)
{
	struct rootfs *fs = ctx;
	bool open = false;
	u8 *at = dst;
	int ret;

	for (const struct node *e = fs->first; e; e = e->next) {
		u8 *body;

		if (e->source == FROM_ARCHIVE && open)
			at = trailer_write(at, dst);
		open = e->source != FROM_ARCHIVE;
		body = open ? header_write(at, e) : at;
		ret = contents_write(body, e, into, err);
		if (ret)
			return ret;
		at += node_bytes(e);
	}
	if (open)
		at = trailer_write(at, dst);
	assert((u64)(at - dst) == rootfs_bytes(fs));
	return 0;
}
