/* SPDX-License-Identifier: MIT */
/*
 * Why something the user asked for cannot be done, as one line for the terminal:
 * the file or option first, then the reason. Travels beside a negative errno.
 */
#ifndef NESTOR_MACHINE_ERROR_H
#define NESTOR_MACHINE_ERROR_H

#include "base/types.h"

struct error {
	char text[512];
	bool of_input; /* what the user gave is at fault: a file, a size */
};

/* Fills @err, which may be NULL, and returns @ret. */
int error_set(struct error *err, int ret, const char *fmt, ...) PRINTF_FMT(3, 4);
/* "@name: text of errno", for -errno @ret. */
int error_errno(struct error *err, int ret, const char *name);

#endif
