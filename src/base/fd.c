// SPDX-License-Identifier: MIT
#include "base/fd.h"

#include <pthread.h>
#include <sys/resource.h>

static void raise_limit(void)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) < 0)
		return;
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
}

bool fd_affordable(int fd)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct rlimit files;

	pthread_once(&once, raise_limit);
	if (getrlimit(RLIMIT_NOFILE, &files) < 0 || files.rlim_cur == RLIM_INFINITY)
		return true;
	return (u64)fd + FD_RESERVE < files.rlim_cur;
}
