// SPDX-License-Identifier: MIT
/* Writes images and reads them back as Linux's init/initramfs.c does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "machine/modules.h"
#include "machine/rootfs.h"

struct bench {
	struct rootfs *fs;
	struct error err;
	char dir[64];
	u8 *image;
};

static int setup(void **state)
{
	static struct bench b;

	memset(&b, 0, sizeof(b));
	strcpy(b.dir, "/tmp/nestor-rootfs-XXXXXX");
	*state = &b;
	if (!mkdtemp(b.dir))
		return -1;
	return rootfs_create(&b.fs);
}

static int teardown(void **state)
{
	struct bench *b = *state;
	char command[128];

	rootfs_destroy(b->fs);
	free(b->image);
	snprintf(command, sizeof(command), "rm -rf %s", b->dir);
	return system(command);
}

static const char *in_dir(struct bench *b, const char *name)
{
	static char path[4][256];
	static u32 turn;
	char *p = path[turn++ % 4];

	snprintf(p, sizeof(path[0]), "%s/%s", b->dir, name);
	return p;
}

static void file_make(const char *path, const void *data, size_t len)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, len, f), len);
	fclose(f);
}

static int fill(struct bench *b)
{
	b->image = calloc(1, rootfs_bytes(b->fs) + 1);
	return rootfs_fill(b->fs, b->image, NULL, &b->err);
}

struct found {
	u32 ino, mode, nlink, bytes, rmajor, rminor;
	const char *data;
};

static u32 hex(const u8 *p, u32 field)
{
	char text[9] = { 0 };

	memcpy(text, p + 6 + field * 8, 8);
	return (u32)strtoul(text, NULL, 16);
}

/* Walks all archives; true if @name is there (its last occurrence). */
static bool find(struct bench *b, const char *name, struct found *out)
{
	u64 at = 0, total = rootfs_bytes(b->fs);
	bool found = false;

	while (at < total) {
		const u8 *p = b->image + at;
		const char *entry = (const char *)p + 110;

		if (*p == 0) {
			at++;
			continue;
		}
		assert_int_equal(at % 4, 0);
		assert_memory_equal(p, "070701", 6);
		assert_int_equal(hex(p, 11), strlen(entry) + 1);
		at = align_up(at + 110 + hex(p, 11), 4);
		if (!strcmp(entry, name)) {
			*out = (struct found){ hex(p, 0),
					       hex(p, 1),
					       hex(p, 4),
					       hex(p, 6),
					       hex(p, 9),
					       hex(p, 10),
					       (char *)b->image + at };
			found = true;
		}
		at = align_up(at + hex(p, 6), 4);
	}
	assert_int_equal(at, total);
	return found;
}

static void test_tree(void **state)
{
	struct bench *b = *state;
	struct found a, l;
	static char big[100003];

	memset(big, 'x', sizeof(big));
	file_make(in_dir(b, "hello"), "hi\n", 3);
	file_make(in_dir(b, "empty"), "", 0);
	assert_int_equal(mkdir(in_dir(b, "sub"), 0750), 0);
	file_make(in_dir(b, "sub/big"), big, sizeof(big));
	assert_int_equal(symlink("../hello", in_dir(b, "sub/link")), 0);
	assert_int_equal(link(in_dir(b, "hello"), in_dir(b, "sub/same")), 0);
	assert_int_equal(mkfifo(in_dir(b, "pipe"), 0600), 0);
	assert_int_equal(rootfs_add_tree(b->fs, b->dir, &b->err), 0);
	assert_int_equal(fill(b), 0);

	assert_true(find(b, "hello", &a));
	assert_int_equal(a.bytes, 3);
	assert_memory_equal(a.data, "hi\n", 3);
	assert_int_equal(a.nlink, 2);
	assert_true(find(b, "sub/same", &l)); /* the contents come once */
	assert_int_equal(l.ino, a.ino);
	assert_int_equal(l.bytes, 0);
	assert_true(find(b, "sub", &a));
	assert_int_equal(a.mode, S_IFDIR | 0750);
	assert_true(find(b, "sub/big", &a));
	assert_int_equal(a.bytes, sizeof(big));
	assert_memory_equal(a.data, big, sizeof(big));
	assert_true(find(b, "sub/link", &a));
	assert_int_equal(a.mode, S_IFLNK | 0777);
	assert_memory_equal(a.data, "../hello", 8);
	assert_true(find(b, "pipe", &a));
	assert_int_equal(a.mode, S_IFIFO | 0600);
	assert_true(find(b, "empty", &a));
	assert_true(find(b, "TRAILER!!!", &a));
}

static void test_devices(void **state)
{
	struct bench *b = *state;
	struct found a;

	if (mknod(in_dir(b, "null"), S_IFCHR | 0666, 1 << 8 | 3) < 0)
		skip(); /* not root */
	assert_int_equal(rootfs_add_tree(b->fs, b->dir, &b->err), 0);
	assert_int_equal(fill(b), 0);
	assert_true(find(b, "null", &a));
	assert_int_equal(a.rmajor, 1);
	assert_int_equal(a.rminor, 3);
}

static void test_archives_one_behind_the_other(void **state)
{
	struct bench *b = *state;
	const struct rootfs_init init = { .argv = (const char *[]){ "echo", "a b", NULL } };
	struct found a;
	u64 own;

	/* The "foreign" initrd is one of ours, with a size that needs padding. */
	assert_int_equal(rootfs_add_bytes(b->fs, "theirs", 0644, "1", 1, &b->err), 0);
	assert_int_equal(fill(b), 0);
	own = rootfs_bytes(b->fs);
	file_make(in_dir(b, "initrd"), b->image, own - 3);
	rootfs_destroy(b->fs);
	free(b->image);
	assert_int_equal(rootfs_create(&b->fs), 0);

	assert_int_equal(rootfs_add_bytes(b->fs, "before", 0644, "0", 1, &b->err), 0);
	assert_int_equal(rootfs_add_archive(b->fs, in_dir(b, "initrd"), &b->err), 0);
	assert_int_equal(rootfs_add_init(b->fs, &init, &b->err), 0);
	assert_int_equal(fill(b), 0);
	assert_true(find(b, "before", &a));
	assert_true(find(b, "theirs", &a));
	assert_true(find(b, "nestor/init", &a));
	assert_int_equal(a.mode, S_IFREG | 0755);
	assert_memory_equal(a.data,
			    "\x7F"
			    "ELF",
			    4);
	assert_true(a.bytes < 100 * KIB);
	assert_true(find(b, "nestor/cmd", &a));
	assert_int_equal(a.bytes, 9);
	assert_memory_equal(a.data, "echo\0a b", 9);
}

static void test_errors(void **state)
{
	struct bench *b = *state;

	assert_int_equal(rootfs_add_tree(b->fs, "/nonexistent", &b->err), -ENOENT);
	assert_string_equal(b->err.text, "/nonexistent: No such file or directory");
	assert_int_equal(rootfs_add_tree(b->fs, "/dev/null", &b->err), -ENOTDIR);
	assert_int_equal(rootfs_add_archive(b->fs, "/", &b->err), -EINVAL);
	file_make(in_dir(b, "huge"), "", 0);
	assert_int_equal(truncate(in_dir(b, "huge"), 1ll << 32), 0);
	assert_int_equal(rootfs_add_tree(b->fs, b->dir, &b->err), -EFBIG);
	assert_non_null(strstr(b->err.text, "/huge: too big for an initramfs"));
	assert_int_equal(truncate(in_dir(b, "huge"), 100), 0);
	assert_int_equal(rootfs_add_tree(b->fs, b->dir, &b->err), 0);
	assert_int_equal(truncate(in_dir(b, "huge"), 50), 0);
	assert_int_equal(fill(b), -EIO);
	assert_non_null(strstr(b->err.text, "/huge: changed while it was read"));
}

static void test_modules(void **state)
{
	static const char dep[] = "kernel/a/x_core.ko:\n"
				  "kernel/b/y-dev.ko.xz: kernel/a/z.ko kernel/a/x_core.ko\n"
				  "kernel/a/z.ko: kernel/a/x_core.ko\n";
	struct bench *b = *state;
	const char *names[] = { "y_dev", "x-core", "inside", NULL };
	char **paths;

	assert_int_equal(modules_resolve(b->dir, names, &paths, &b->err), -ENOENT);
	assert_non_null(strstr(b->err.text, "no modules.dep"));
	file_make(in_dir(b, "modules.dep"), dep, sizeof(dep) - 1);
	assert_int_equal(modules_resolve(b->dir, names, &paths, &b->err), -ENOENT);
	assert_non_null(strstr(b->err.text, "no module inside"));
	file_make(in_dir(b, "modules.builtin"), "kernel/c/inside.ko\n", 19);
	assert_int_equal(modules_resolve(b->dir, names, &paths, &b->err), 0);
	assert_string_equal(paths[0], in_dir(b, "kernel/a/x_core.ko"));
	assert_string_equal(paths[1], in_dir(b, "kernel/a/z.ko"));
	assert_string_equal(paths[2], in_dir(b, "kernel/b/y-dev.ko.xz"));
	assert_null(paths[3]);
	modules_free(paths);
	names[0] = "y_de";
	assert_int_equal(modules_resolve(b->dir, names, &paths, &b->err), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_tree, setup, teardown),
		cmocka_unit_test_setup_teardown(test_devices, setup, teardown),
		cmocka_unit_test_setup_teardown(test_archives_one_behind_the_other, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_errors, setup, teardown),
		cmocka_unit_test_setup_teardown(test_modules, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
