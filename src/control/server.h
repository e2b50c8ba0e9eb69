/* SPDX-License-Identifier: MIT */
/*
 * The control socket of an instance. A client sends a line of JSON and gets one
 * back, any number of times, one at a time:
 *
 *   {"do": "kvp-get", "pool": 0, "key": "a"}
 *   {"ok": true, "value": "b"}        or   {"ok": false, "error": "there is no such key"}
 *
 * What can be done is a table of rows of the owner's. The server has a loop and
 * thread of its own. It answers nobody but its own user and root. What a client
 * can hold is bounded: CONTROL_LINE_MAX of a line, one request, one descriptor;
 * of too many clients the one that has been silent longest is let go.
 */
#ifndef NESTOR_CONTROL_SERVER_H
#define NESTOR_CONTROL_SERVER_H

#include <jansson.h>

#include "base/loop.h"

#define CONTROL_LINE_MAX    16384u
#define CONTROL_CLIENTS_MAX 32u

struct control_server;

/* One request, until it is answered. */
struct control_call {
	json_t *args; /* an object */
	int fd;	      /* that came with the request, or -1; closed with the call unless set to -1 */
	void *ctx;    /* of control_server_create() */
	struct control_server *server;
	/* Below: the server's. */
	struct control_client *client; /* NULL: gone. Loop only */
	json_t *answer;
	bool answered;
	struct list node;
};

struct control_row {
	const char *name; /* of "do" */
	/*
	 * On the server's loop. Ends in exactly one of the answers below, now or
	 * later, from any thread.
	 */
	void (*fn)(struct control_call *call);
};

/*
 * [any] Answers, and ends the call: @result is an object (its reference is taken;
 * NULL: out of memory, or nothing to say) that gets "ok": true.
 */
void control_ok(struct control_call *call, json_t *result);
/* [any] Answers that it failed: @error is a -errno for programs, the text is for people. */
void control_fail(struct control_call *call, int error, const char *fmt, ...) PRINTF_FMT(3, 4);

/*
 * [loop] From now until the client goes away it holds something: it is not let go
 * for being silent, and @gone is called, once, on the loop, when it closes its
 * connection or the server stops. One at a time: -EBUSY. NULL takes it back.
 */
int control_hold(struct control_call *call, void (*gone)(void *ctx));

/* @rows ends with one without name, and outlives the server, as does @ctx. 0 or -errno. */
int control_server_create(const struct control_row *rows, void *ctx, struct control_server **out);
struct loop *control_server_loop(struct control_server *s);
/*
 * Listens as @name, which the caller has claimed (control_name_claim), and starts
 * the thread. What an earlier process of that name left is removed. 0 or -errno.
 */
int control_server_start(struct control_server *s, const char *name);
/* No row is called any more, the socket is gone, clients see the end. Answers are still taken. */
void control_server_stop(struct control_server *s);
/* Nobody answers any more. Stops first, if need be. NULL is fine. */
void control_server_destroy(struct control_server *s);

/* [loop] A client that is connected already: for tests. 0 or -errno; @fd is the server's then. */
int control_server_add_client(struct control_server *s, int fd);

#endif
