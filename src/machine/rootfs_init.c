// SPDX-License-Identifier: MIT
/* What we add to a root: our init with its instructions, and a minimal user space. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

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
	static const char *const dirs[] = { "bin",     "dev",  "etc",	  "proc",    "root",
					    "run",     "sbin", "sys",	  "tmp",     "usr",
					    "usr/bin", "var",  "var/log", "usr/sbin" };
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
	for (u32 i = 0; i < ARRAY_SIZE(files) && !ret; i++)
		ret = rootfs_add_bytes(fs, files[i].name, 0644, files[i].text,
				       strlen(files[i].text), err);
	return ret;
}

/* Init would take over from a shell; the rest must lie in a directory the skeleton has. */
static bool applet_wanted(const char *path)
{
	static const char *const dirs[] = { "bin/", "sbin/", "usr/bin/", "usr/sbin/" };

	if (!strcmp(path, "bin/busybox") || !strcmp(path, "sbin/init"))
		return false;
	for (u32 i = 0; i < ARRAY_SIZE(dirs); i++) {
		size_t len = strlen(dirs[i]);

		if (!strncmp(path, dirs[i], len) && path[len] && !strchr(path + len, '/'))
			return true;
	}
	return false;
}

static int add_applets(struct rootfs *fs, FILE *list, struct error *err)
{
	char line[256];
	int ret = 0;

	while (!ret && fgets(line, sizeof(line), list)) {
		line[strcspn(line, "\n")] = '\0';
		if (applet_wanted(line))
			ret = rootfs_add_symlink(fs, line, "/bin/busybox", err);
	}
	return ret;
}

int rootfs_add_minimal(struct rootfs *fs, const char *busybox, struct error *err)
{
	char command[512];
	FILE *list;
	int ret;

	ret = add_skeleton(fs, err);
	if (!ret)
		ret = rootfs_add_file(fs, "bin/busybox", 0755, busybox, err);
	if (ret)
		return ret;
	snprintf(command, sizeof(command), "exec '%s' --list-full", busybox);
	list = popen(command, "re");
	if (!list)
		return error_errno(err, -errno, busybox);
	ret = add_applets(fs, list, err);
	if (pclose(list) != 0 && !ret)
		ret = error_set(err, -ENOEXEC, "%s: cannot list its applets", busybox);
	return ret;
}
