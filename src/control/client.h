/* SPDX-License-Identifier: MIT */
/* The other end of a control socket. Blocking; for commands. */
#ifndef NESTOR_CONTROL_CLIENT_H
#define NESTOR_CONTROL_CLIENT_H

#include <jansson.h>

#include "base/types.h"

#define CONTROL_ANSWER_MAX (8u << 20)

/*
 * Sends @request (its reference is taken) with descriptor @pass_fd (-1: none) and
 * waits for the answer, at most @timeout_ms (-1: for ever). The answer, an object,
 * for the caller to free; or NULL with *error: -EPIPE, the other end is gone;
 * -ETIMEDOUT; -EPROTO: not what a control socket says; other -errno.
 */
json_t *control_ask(int fd, json_t *request, int pass_fd, int timeout_ms, int *error);
/* True once the other end is gone; false after the timeout (-1: none). */
bool control_wait_end(int fd, s64 timeout_ms);

#endif
