/* SPDX-License-Identifier: MIT */
/* Input files named by the user: regular, of a known size, read straight to where they go. */
#ifndef NESTOR_MACHINE_FILE_H
#define NESTOR_MACHINE_FILE_H

#include "machine/error.h"
#include "mem/gmem.h"

struct file {
	int fd;
	u64 bytes;
	const char *name; /* for messages; not copied */
	/*
	 * NULL, or the backing of memory that is read to: file_read() then writes
	 * to its descriptor. Half the time of faulting its pages in one by one.
	 */
	const struct gmem_backing *into;
};

/* -errno with @err filled: absent, unreadable, not a regular file. */
int file_open(const char *path, struct file *out, struct error *err);
void file_close(struct file *f);
/* All of [offset, offset + len), or an error: a file that shrank is -EIO. */
int file_read(const struct file *f, u64 offset, void *dst, u64 len, struct error *err);

#endif
