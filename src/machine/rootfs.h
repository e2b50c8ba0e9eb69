/* SPDX-License-Identifier: MIT */
/*
 * The guest's root file system as an initramfs: cpio archives (format "newc")
 * one behind the other, as Linux accepts them. First everything is listed, which
 * gives the size; then it is written once, file contents straight from the host
 * file to guest memory.
 *
 * Linux: Documentation/driver-api/early-userspace/buffer-format.rst
 */
#ifndef NESTOR_MACHINE_ROOTFS_H
#define NESTOR_MACHINE_ROOTFS_H

#include <sys/types.h>

#include "machine/error.h"

struct gmem_backing;
struct rootfs;

int rootfs_create(struct rootfs **out);
void rootfs_destroy(struct rootfs *fs);

/*
 * Functions below: 0, or -errno with @err filled. Names are inside the guest,
 * without a leading '/'; parents must have been added before. The guest keeps
 * the last of two files of one name.
 */

/* A finished initrd, compressed or not, taken as it is. */
int rootfs_add_archive(struct rootfs *fs, const char *path, struct error *err);
/*
 * A directory with all below it on the same file system: every kind of file,
 * owners, modes, times, hard links. A file of 4 GiB or more is -EFBIG.
 */
int rootfs_add_tree(struct rootfs *fs, const char *dir, struct error *err);
int rootfs_add_dir(struct rootfs *fs, const char *name, mode_t mode, struct error *err);
int rootfs_add_symlink(struct rootfs *fs, const char *name, const char *target, struct error *err);
/* The bytes are copied. */
int rootfs_add_bytes(struct rootfs *fs, const char *name, mode_t mode, const void *data, u64 len,
		     struct error *err);
/* With the contents of a host file. */
int rootfs_add_file(struct rootfs *fs, const char *name, mode_t mode, const char *path,
		    struct error *err);

/*
 * Just enough to run a command: directories, /etc/passwd, and a busybox with
 * links for its applets. Their names are read from the program; one without a
 * table of names is run once, to list them.
 */
int rootfs_add_minimal(struct rootfs *fs, const char *busybox, struct error *err);

/* Bytes rootfs_fill() will write; fixed once everything was added. */
u64 rootfs_bytes(const struct rootfs *fs);
/* Writes the image. @fs is a struct rootfs: fits struct boot_initrd. @into: see struct file. */
int rootfs_fill(void *fs, u8 *dst, const struct gmem_backing *into, struct error *err);

/* What our init shall do: see payload/init.c. */
struct rootfs_init {
	const char *const *argv;    /* NULL-terminated; NULL: the root's own init, or a shell */
	const char *const *modules; /* NULL-terminated host paths in loading order; may be NULL */
};

/* Append to the kernel command line, so that it is our init that is run. */
#define ROOTFS_INIT_CMDLINE "rdinit=/nestor/init"

/* Adds /nestor: init, command and modules. */
int rootfs_add_init(struct rootfs *fs, const struct rootfs_init *init, struct error *err);

#endif
