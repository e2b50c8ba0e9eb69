/* SPDX-License-Identifier: MIT */
/*
 * What the outer process and the agent inside say to each other: frames over one
 * virtio-serial port (and, for incubator_exec, over a unix socket to the outer
 * process, which passes frames on with the session number changed).
 *
 * Every data stream has a window: a sender may have WIRE_WINDOW bytes under way
 * that the receiver has not yet handed to the final reader. So no session can
 * hold up another, and no buffer grows without bound.
 */
#ifndef NESTOR_INCUBATOR_WIRE_H
#define NESTOR_INCUBATOR_WIRE_H

#include "base/types.h"

#define WIRE_VERSION	 2
#define WIRE_WINDOW	 (256u * 1024)
#define WIRE_MAX_PAYLOAD (64u * 1024)
#define WIRE_MAX_START	 (4u * 1024 * 1024) /* arguments and environment, in pieces */
#define WIRE_PORT	 "nestor.agent"

enum wire_type {
	WIRE_HELLO = 1,	 /* agent: ready; payload: u32 version */
	WIRE_START_PART, /* outer: a piece of struct wire_start and its strings */
	WIRE_START,	 /* outer: the last piece; the command starts */
	WIRE_STARTED,	 /* agent: payload struct wire_started */
	WIRE_DATA,	 /* both: bytes of a stream */
	WIRE_EOF,	 /* both: no more bytes of this stream will be sent */
	WIRE_CLOSE,	 /* both: the receiver of this stream reads no more */
	WIRE_CREDIT,	 /* both: payload u32, bytes of the stream that were handed on */
	WIRE_SIGNAL,	 /* outer: payload struct wire_signal */
	WIRE_RESIZE,	 /* outer: payload struct winsize */
	WIRE_HANGUP,	 /* outer: the user of the session is gone */
	WIRE_EXIT,	 /* agent: payload s32 wait status; last frame of a session */
	WIRE_PING,	 /* outer: let each CPU beat once */
	WIRE_BEATS, /* agent, answering: payload u32 for each CPU, its beats before this ping */
};

enum wire_stream { WIRE_STDIN, WIRE_STDOUT, WIRE_STDERR, WIRE_STREAMS };

/* On the wire a frame is padded with zeros to a multiple of 8 bytes; @len is without them. */
struct wire_frame {
	u16 session;
	u8 type;
	u8 stream;
	u32 len;
	u8 payload[];
};

static_assert(sizeof(struct wire_frame) == 8, "frame header");

/* Followed by strings, each with its NUL: host name, directory, arguments, environment. */
struct wire_start {
	u64 realtime_ns;
	u32 uid, gid;
	u32 umask;
	u32 groups_count; /* of groups[] */
	u32 groups[32];
	u32 tty_streams; /* bit per stream that is a terminal outside */
	u32 raw_outside; /* standard input is a terminal, and in raw mode out there */
	u32 argc, envc;
	u64 nofile_soft, nofile_hard;
	u16 rows, cols;
	u32 rsvd;
	u8 termios[64]; /* struct termios, if standard input is a terminal */
};

enum wire_stage { WIRE_STAGE_NONE, WIRE_STAGE_SETUP, WIRE_STAGE_CHDIR, WIRE_STAGE_EXEC };

struct wire_started {
	s32 error; /* errno, 0 if it runs */
	u32 stage; /* where it failed */
};

struct wire_signal {
	s32 number;
	u32 group; /* came from the terminal: to the whole process group */
};

#endif
