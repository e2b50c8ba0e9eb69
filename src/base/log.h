/* SPDX-License-Identifier: MIT */
/*
 * Messages for the operator, on standard error: rare, whole sentences. What a
 * guest can cause goes through log_limited(), so a hostile guest cannot flood
 * the terminal. Never called from the exit path in the common case.
 */
#ifndef NESTOR_BASE_LOG_H
#define NESTOR_BASE_LOG_H

#include "base/types.h"

enum log_level { LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_DEBUG };

/* Messages above @level are dropped. The default is LOG_WARNING. Thread safe. */
void log_set_level(enum log_level level);

/* Prefix put before each line, for example "nestor: ". Not copied. */
void log_set_prefix(const char *prefix);

void log_at(enum log_level level, const char *fmt, ...) PRINTF_FMT(2, 3);

#define log_error(...)	 log_at(LOG_ERROR, __VA_ARGS__)
#define log_warning(...) log_at(LOG_WARNING, __VA_ARGS__)
#define log_info(...)	 log_at(LOG_INFO, __VA_ARGS__)
#define log_debug(...)	 log_at(LOG_DEBUG, __VA_ARGS__)

/* At most ten lines per call site; the tenth says that more are suppressed. */
struct log_limit {
	u32 count;
};
bool log_limit_pass(struct log_limit *limit);

#define log_limited(level, ...)                                                                    \
	do {                                                                                       \
		static struct log_limit limit_;                                                    \
		if (log_limit_pass(&limit_))                                                       \
			log_at(level, __VA_ARGS__);                                                \
	} while (0)

#endif
