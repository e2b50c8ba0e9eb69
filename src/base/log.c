// SPDX-License-Identifier: MIT
/* One line per message, written with a single write so lines of threads do not mix. */
#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#define LOG_LIMIT 10

static _Atomic int log_level = LOG_WARNING;
static const char *log_prefix = "nestor: ";

void log_set_level(enum log_level level)
{
	atomic_store_explicit(&log_level, level, memory_order_relaxed);
}

void log_set_prefix(const char *prefix)
{
	log_prefix = prefix;
}

void log_at(enum log_level level, const char *fmt, ...)
{
	char line[1024];
	va_list ap;
	int head, body;
	size_t len;

	if ((int)level > atomic_load_explicit(&log_level, memory_order_relaxed))
		return;
	head = snprintf(line, sizeof(line) - 1, "%s%s", log_prefix,
			level == LOG_WARNING ? "warning: " : "");
	if (head < 0)
		return;
	va_start(ap, fmt);
	body = vsnprintf(line + head, sizeof(line) - 1 - (size_t)head, fmt, ap);
	va_end(ap);
	if (body < 0)
		return;
	len = min_u64((u64)head + (u64)body, sizeof(line) - 2);
	line[len++] = '\n';
	if (write(STDERR_FILENO, line, len) < 0)
		return; /* nobody left to tell */
}

bool log_limit_pass(struct log_limit *limit)
{
	u32 n = __atomic_fetch_add(&limit->count, 1, __ATOMIC_RELAXED);

	if (n == LOG_LIMIT)
		log_at(LOG_WARNING, "more messages of this kind are suppressed");
	return n < LOG_LIMIT;
}
