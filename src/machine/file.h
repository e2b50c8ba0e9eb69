/* SPDX-License-Identifier: MIT */
/* Input files named by the user: regular, of a known size, read straight to where they go. */
#ifndef NESTOR_MACHINE_FILE_H
#define NESTOR_MACHINE_FILE_H

#include "machine/error.h"

struct file {
	int fd;
	u64 bytes;
	const char *name; /* for messages; not copied */
};

/* -errno with @err filled: absent, unreadable, not a regular file. */
int file_open(const char *path, struct file *out, struct error *err);
void file_close(struct file *f);
/* All of [offset, offset + len), or an error: a file that shrank is -EIO. */
int file_read(const struct file *f, u64 offset, void *dst, u64 len, struct error *err);

#endif
