// SPDX-License-Identifier: MIT
/* What we add to a root: our init with its instructions, and a minimal user space. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "machine/file.h"
#include "machine/rootfs.h"

/* payload/init.c, by tools/embed. */
extern const u8 guest_init_start[], guest_init_end[];

struct text {
	char *bytes;
	size_t len;
	FILE *stream;
};

static int text_begin(struct text *t, struct error *err)
{
	t->stream = open_memstream(&t->bytes, &t->len);
	return t->stream ? 0 : error_set(err, -ENOMEM, "out of memory");
}

static int text_add_and_free(struct text *t, struct rootfs *fs, const char *name, struct error *err)
{
	int ret = fclose(t->stream) ? error_set(err, -ENOMEM, "out of memory") : 0;

	if (!ret)
		ret = rootfs_add_bytes(fs, name, 0644, t->bytes, t->len, err);
	free(t->bytes);
	return ret;
}

/* The arguments, each with its NUL. */
static int add_command(struct rootfs *fs, const char *const *argv, struct error *err)
{
	struct text t;
	int ret;

	if (!argv || !*argv)
		return 0;
	ret = text_begin(&t, err);
	if (ret)
		return ret;
	for (; *argv; argv++)
		fwrite(*argv, 1, strlen(*argv) + 1, t.stream);
	return text_add_and_free(&t, fs, "nestor/cmd", err);
}

/* The files, and a list of their names in loading order, each with its NUL. */
static int add_modules(struct rootfs *fs, const char *const *paths, struct error *err)
{
	char name[300];
	struct text t;
	int ret;

	if (!paths || !*paths)
		return 0;
	ret = text_begin(&t, err);
	if (ret)
		return ret;
	for (; *paths && !ret; paths++) {
		const char *slash = strrchr(*paths, '/');

		snprintf(name, sizeof(name), "nestor/%s", slash ? slash + 1 : *paths);
		ret = rootfs_add_file(fs, name, 0644, *paths, err);
		fwrite(name, 1, strlen(name) + 1, t.stream);
	}
	if (ret) {
		fclose(t.stream);
		free(t.bytes);
		return ret;
	}
	return text_add_and_free(&t, fs, "nestor/modules", err);
}

int rootfs_add_init(struct rootfs *fs, const struct rootfs_init *init, struct error *err)
{
	int ret = rootfs_add_dir(fs, "nestor", 0755, err);

	if (!ret)
		ret = rootfs_add_bytes(fs, "nestor/init", 0755, guest_init_start,
				       (u64)(guest_init_end - guest_init_start), err);
	if (!ret)
		ret = add_command(fs, init->argv, err);
	if (!ret)
		ret = add_modules(fs, init->modules, err);
	return ret;
}

static int add_skeleton(struct rootfs *fs, struct error *err)
{
	static const char *const dirs[] = { "bin", "dev", "etc", "proc", "root",   "run",
					    "sys", "tmp", "usr", "var",	 "var/log" };
	/* One directory of programs under all its names. */
	static const struct {
		const char *name, *target;
	} links[] = { { "sbin", "bin" }, { "usr/bin", "../bin" }, { "usr/sbin", "../bin" } };
	static const struct {
		const char *name, *text;
	} files[] = {
		{ "etc/passwd", "root:x:0:0:root:/root:/bin/sh\n" },
		{ "etc/group", "root:x:0:\n" },
		{ "etc/hostname", "nestor\n" },
		{ "etc/hosts", "127.0.0.1 localhost nestor\n" },
	};
	int ret = 0;

	for (u32 i = 0; i < ARRAY_SIZE(dirs) && !ret; i++)
		ret = rootfs_add_dir(fs, dirs[i], strcmp(dirs[i], "tmp") ? 0755 : 01777, err);
	for (u32 i = 0; i < ARRAY_SIZE(links) && !ret; i++)
		ret = rootfs_add_symlink(fs, links[i].name, links[i].target, err);
	for (u32 i = 0; i < ARRAY_SIZE(files) && !ret; i++)
		ret = rootfs_add_bytes(fs, files[i].name, 0644, files[i].text,
				       strlen(files[i].text), err);
	return ret;
}

/* Init would take over from a shell. */
static bool applet_wanted(const char *name)
{
	return *name && !strchr(name, '/') && strcmp(name, "busybox") && strcmp(name, "init") &&
	       strcmp(name, "linuxrc");
}

static int add_applet(struct rootfs *fs, const char *name, struct error *err)
{
	char path[300];

	if (!applet_wanted(name))
		return 0;
	snprintf(path, sizeof(path), "bin/%s", name);
	return rootfs_add_symlink(fs, path, "busybox", err);
}

/* As the program itself lists them. */
static int add_listed(struct rootfs *fs, const char *busybox, struct error *err)
{
	char command[512], line[256];
	FILE *list;
	int ret = 0;

	snprintf(command, sizeof(command), "exec '%s' --list", busybox);
	list = popen(command, "re");
	if (!list)
		return error_errno(err, -errno, busybox);
	while (!ret && fgets(line, sizeof(line), list)) {
		line[strcspn(line, "\n")] = '\0';
		ret = add_applet(fs, line, err);
	}
	if (pclose(list) != 0 && !ret)
		ret = error_set(err, -ENOEXEC, "%s: cannot list its applets", busybox);
	return ret;
}

/* The NUL before the first name. By memchr(): memmem() took a fifth of our time before the guest.
 */
static const char *first_applet(const char *bytes, size_t len)
{
	static const char first[] = "\0[\0[[\0";
	const char *end = bytes + len, *at = bytes;

	while ((at = memchr(at, '[', (size_t)(end - at)))) {
		if (at > bytes && (size_t)(end - at) >= sizeof(first) - 2 &&
		    !memcmp(at - 1, first, sizeof(first) - 1))
			return at - 1;
		at++;
	}
	return NULL;
}

/*
 * The table of names in the program: sorted, each with its NUL, an empty one at the
 * end. Running it to ask took longer than everything else before the guest's start.
 */
static int add_from_table(struct rootfs *fs, const char *bytes, size_t len, struct error *err)
{
	const char *name = first_applet(bytes, len), *end = bytes + len;
	int ret = name ? 0 : -ENOENT;

	while (!ret && ++name < end && *name) {
		const char *nul = memchr(name, 0, (size_t)(end - name));

		if (!nul || nul - name > 64)
			return -ENOENT;
		ret = add_applet(fs, name, err);
		name = nul;
	}
	return ret;
}

static int add_applets(struct rootfs *fs, const char *busybox, struct error *err)
{
	struct file f;
	void *bytes;
	int ret = file_open(busybox, &f, err);

	if (ret)
		return ret;
	ret = -ENOENT;
	bytes = mmap(NULL, f.bytes, PROT_READ, MAP_PRIVATE, f.fd, 0);
	if (bytes != MAP_FAILED) {
		ret = add_from_table(fs, bytes, f.bytes, err);
		munmap(bytes, f.bytes);
	}
	file_close(&f);
	return ret == -ENOENT ? add_listed(fs, busybox, err) : ret;
}

int rootfs_add_minimal(struct rootfs *fs, const char *busybox, struct error *err)
{
	int ret = add_skeleton(fs, err);

	if (!ret)
		ret = rootfs_add_file(fs, "bin/busybox", 0755, busybox, err);
	return ret ? ret : add_applets(fs, busybox, err);
}
