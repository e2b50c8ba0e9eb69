/* SPDX-License-Identifier: MIT */
/*
 * A program that does part of our work: started by us, ended with us. What it says
 * on standard error is kept; the last line of it is why it failed.
 */
#ifndef NESTOR_BACKEND_HELPER_H
#define NESTOR_BACKEND_HELPER_H

#include "base/types.h"

struct helper;

/*
 * Starts argv[0], looked up in PATH, with nothing open but standard error and @fd,
 * which keeps its number. It dies with the thread that calls this. -ENOENT: there is
 * no such program; other -errno.
 */
int helper_start(char *const *argv, int fd, struct helper **out);
/* Asks it to end, waits, and kills it if it takes too long. NULL is fine. */
void helper_stop(struct helper *h);
/* The last line it wrote, or how it ended, or "". */
void helper_last_words(struct helper *h, char *out, size_t bytes);

#endif
