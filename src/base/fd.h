/* SPDX-License-Identifier: MIT */
/* How many descriptors a guest can make us open. */
#ifndef NESTOR_BASE_FD_H
#define NESTOR_BASE_FD_H

#include "base/types.h"

#define FD_RESERVE 128 /* for consoles, sockets and files of the host's */

/*
 * Whether @fd, which has just been opened because a guest wants so, leaves enough for
 * the host: the lowest free number was given out. If not, the caller closes it. Raises
 * the limit of the process as far as it may.
 */
bool fd_affordable(int fd);

#endif
