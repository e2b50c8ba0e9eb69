// SPDX-License-Identifier: MIT
/*
 * Standard streams stay blocking: their open file descriptions are shared with
 * other processes. A write after POLLOUT of at most PIPE_BUF bytes does not block
 * on a pipe, and what blocks on a terminal would do so without an incubator too.
 */
#include "incubator/session.h"

#include "base/log.h"
#include "incubator/incubator.h"

#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Ctrl-a x this often within the time ends the machine, should the command not react to it. */
#define ESCAPE_TIMES	 3
#define ESCAPE_WITHIN_MS 5000
#define CTRL_A		 1
/* Output that is kept back, at most. */
#define HELD_MAX (64u * 1024 * 1024)

static const int forwarded[] = { SIGHUP,  SIGINT,  SIGQUIT, SIGTERM,
				 SIGUSR1, SIGUSR2, SIGALRM, SIGWINCH };

static u64 now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (u64)t.tv_sec * 1000 + (u64)t.tv_nsec / 1000000;
}

int session_init(struct session *s, struct link *link, u16 id)
{
	sigset_t set;

	*s = (struct session){ .link = link,
			       .id = id,
			       .stdin_open = true,
			       .stdin_window = WIRE_WINDOW,
			       .held_fd = -1,
			       .signals_fd = -1 };
	sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_SIZE(forwarded); i++)
		sigaddset(&set, forwarded[i]);
	sigprocmask(SIG_BLOCK, &set, &s->old_mask);
	signal(SIGPIPE, SIG_IGN);
	s->signals_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	for (int i = WIRE_STDOUT; i <= WIRE_STDERR; i++)
		s->out[i].data = malloc(WIRE_WINDOW);
	for (int i = WIRE_STDIN; i <= WIRE_STDERR; i++)
		if (isatty(i))
			s->tty_streams |= BIT(i);
	if (s->signals_fd < 0 || !s->out[WIRE_STDOUT].data || !s->out[WIRE_STDERR].data) {
		session_fini(s);
		return -ENOMEM;
	}
	return 0;
}

static void terminal_back(struct session *s)
{
	if (s->raw)
		tcsetattr(STDIN_FILENO, TCSADRAIN, &s->cooked);
	s->raw = false;
}

void session_fini(struct session *s)
{
	terminal_back(s);
	for (int i = 0; i < WIRE_STREAMS; i++) {
		free(s->out[i].data);
		s->out[i].data = NULL;
	}
	if (s->signals_fd >= 0)
		close(s->signals_fd);
	s->signals_fd = -1;
	if (s->held_fd >= 0)
		close(s->held_fd);
	s->held_fd = -1;
	sigprocmask(SIG_SETMASK, &s->old_mask, NULL);
}

static void put_string(FILE *f, const char *s)
{
	fwrite(s, 1, strlen(s) + 1, f);
}

int session_start(struct session *s, char *const *argv)
{
	struct wire_start st = { .uid = getuid(), .gid = getgid(), .tty_streams = s->tty_streams };
	char host[65] = "incubator", cwd[PATH_MAX];
	struct rlimit files;
	struct timespec now;
	struct winsize size;
	gid_t groups[1024];
	char *text = NULL;
	size_t len = 0;
	int ret = 0, n;
	FILE *f;

	clock_gettime(CLOCK_REALTIME, &now);
	st.realtime_ns = (u64)now.tv_sec * 1000000000 + (u64)now.tv_nsec;
	umask(st.umask = umask(0));
	n = getgroups(ARRAY_SIZE(groups), groups);
	st.groups_count = n < 0 ? 0 : (u32)min_u64((u64)n, ARRAY_SIZE(st.groups));
	memcpy(st.groups, groups, st.groups_count * sizeof(gid_t));
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		st.nofile_soft = files.rlim_cur;
		st.nofile_hard = files.rlim_max;
	}
	for (int i = 0; i < 3; i++) {
		if ((s->tty_streams & BIT(i)) && ioctl(i, TIOCGWINSZ, &size) == 0) {
			st.rows = size.ws_row;
			st.cols = size.ws_col;
		}
	}
	if ((s->tty_streams & BIT(WIRE_STDIN)) && tcgetattr(STDIN_FILENO, &s->cooked) == 0) {
		static_assert(sizeof(s->cooked) <= sizeof(st.termios), "termios fits");
		memcpy(st.termios, &s->cooked, sizeof(s->cooked));
		st.raw_outside = 1;
	}
	while (argv[st.argc])
		st.argc++;
	while (environ && environ[st.envc])
		st.envc++;
	gethostname(host, sizeof(host) - 1);
	if (!getcwd(cwd, sizeof(cwd)))
		snprintf(cwd, sizeof(cwd), "/");

	f = open_memstream(&text, &len);
	if (!f)
		return -ENOMEM;
	fwrite(&st, sizeof(st), 1, f);
	put_string(f, host);
	put_string(f, cwd);
	for (u32 i = 0; i < st.argc; i++)
		put_string(f, argv[i]);
	for (u32 i = 0; i < st.envc; i++)
		put_string(f, environ[i]);
	if (fclose(f) != 0 || !text)
		ret = -ENOMEM;
	else if (len > WIRE_MAX_START)
		ret = -E2BIG;
	for (size_t at = 0; !ret && at < len; at += WIRE_MAX_PAYLOAD) {
		size_t part = (size_t)min_u64(len - at, WIRE_MAX_PAYLOAD);

		ret = link_send(s->link, s->id, at + part == len ? WIRE_START : WIRE_START_PART, 0,
				text + at, part);
	}
	free(text);
	return ret;
}

static void started(struct session *s, const struct wire_started *st)
{
	static const char *const doing[] = {
		[WIRE_STAGE_NONE] = "start",
		[WIRE_STAGE_SETUP] = "prepare for",
		[WIRE_STAGE_CHDIR] = "enter the directory of",
		[WIRE_STAGE_EXEC] = "execute",
	};

	if (!st->error) {
		s->started = true;
		if ((s->tty_streams & BIT(WIRE_STDIN)) &&
		    tcgetattr(STDIN_FILENO, &s->cooked) == 0) {
			struct termios raw = s->cooked;

			cfmakeraw(&raw);
			s->raw = tcsetattr(STDIN_FILENO, TCSADRAIN, &raw) == 0;
		}
		return;
	}
	log_error("cannot %s the command in the incubator: %s",
		  doing[st->stage < ARRAY_SIZE(doing) ? st->stage : 0], strerror(st->error));
	s->ended = true;
	s->status = st->stage != WIRE_STAGE_EXEC ? INCUBATOR_FAILED
		    : st->error == ENOENT	 ? INCUBATOR_NOT_FOUND
						 : INCUBATOR_NOT_EXECUTABLE;
}

static void exited(struct session *s, s32 wait_status)
{
	s->ended = true;
	if (WIFSIGNALED(wait_status)) {
		s->signalled = true;
		s->status = WTERMSIG(wait_status);
	} else {
		s->status = WEXITSTATUS(wait_status);
	}
}

static void credit(struct session *s, u8 stream, size_t len)
{
	u32 n = (u32)len;

	link_send(s->link, s->id, WIRE_CREDIT, stream, &n, sizeof(n));
}

/* --- output that is kept back -------------------------------------------------------------- */

/* Frames as they came, so that what two streams wrote stays in its order. */
static bool write_all(int fd, const void *data, size_t len)
{
	const u8 *p = data;

	while (len) {
		ssize_t n = write(fd, p, len);
		struct pollfd again = { .fd = fd, .events = POLLOUT };

		if (n < 0 && errno == EAGAIN)
			n = poll(&again, 1, -1) < 0 && errno != EINTR ? -1 : 0;
		else if (n < 0 && errno == EINTR)
			n = 0;
		if (n < 0)
			return false;
		p += n;
		len -= (size_t)n;
	}
	return true;
}

void session_hold_output(struct session *s)
{
	s->held_fd = memfd_create("nestor-output", MFD_CLOEXEC);
	s->held_bytes = 0;
}

void session_release_output(struct session *s)
{
	static u8 buf[WIRE_MAX_PAYLOAD];
	struct wire_frame head;
	int fd = s->held_fd;

	if (fd < 0)
		return;
	s->held_fd = -1;
	lseek(fd, 0, SEEK_SET);
	while (read(fd, &head, sizeof(head)) == (ssize_t)sizeof(head) && head.len <= sizeof(buf) &&
	       read(fd, buf, head.len) == (ssize_t)head.len) {
		struct session_out *o = &s->out[head.stream];

		if (o->closed || write_all(head.stream, buf, head.len))
			continue;
		o->closed = true;
		if (!s->ended)
			link_send(s->link, s->id, WIRE_CLOSE, head.stream, NULL, 0);
	}
	close(fd);
}

static void hold(struct session *s, const struct wire_frame *f)
{
	s->held_bytes += sizeof(*f) + f->len;
	credit(s, f->stream, f->len);
	if (!write_all(s->held_fd, f, sizeof(*f) + f->len) || s->held_bytes > HELD_MAX)
		session_release_output(s);
}

bool session_repeatable(const struct session *s)
{
	/* A command of which something was seen may not begin again unnoticed. */
	return !s->stdin_taken && !(s->tty_streams & BIT(WIRE_STDIN)) &&
	       (s->held_fd >= 0 || isatty(STDOUT_FILENO));
}

void session_frame(struct session *s, const struct wire_frame *f)
{
	const void *payload = f->payload;
	struct session_out *o;

	switch (f->type) {
	case WIRE_STARTED:
		if (f->len == sizeof(struct wire_started))
			started(s, payload);
		break;
	case WIRE_DATA:
		if (f->stream != WIRE_STDOUT && f->stream != WIRE_STDERR)
			break;
		o = &s->out[f->stream];
		if (s->held_fd >= 0) {
			hold(s, f);
			break;
		}
		if (o->closed || o->len + f->len > WIRE_WINDOW) {
			credit(s, f->stream, f->len);
			break;
		}
		memcpy(o->data + o->len, payload, f->len);
		o->len += f->len;
		break;
	case WIRE_CREDIT:
		if (f->len == sizeof(u32) && f->stream == WIRE_STDIN)
			s->stdin_window += *(const u32 *)payload;
		break;
	case WIRE_CLOSE:
		if (f->stream == WIRE_STDIN)
			s->stdin_open = false;
		break;
	case WIRE_EXIT:
		if (f->len == sizeof(s32))
			exited(s, *(const s32 *)payload);
		break;
	}
}

/* The command sees every byte; this only watches for somebody who insists. */
static void watch_escape(struct session *s, const u8 *data, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (data[i] == CTRL_A) {
			s->escape_state = 1;
			continue;
		}
		if (s->escape_state && (data[i] == 'x' || data[i] == 'X')) {
			u64 now = now_ms();

			if (!s->escape_count || now - s->escape_ms > ESCAPE_WITHIN_MS) {
				s->escape_count = 0;
				s->escape_ms = now;
			}
			if (++s->escape_count >= ESCAPE_TIMES)
				s->abandoned = true;
		}
		s->escape_state = 0;
	}
}

static void stdin_read(struct session *s)
{
	static u8 buf[32 * 1024];
	size_t want = (size_t)min_u64(sizeof(buf), s->stdin_window);
	ssize_t n = read(STDIN_FILENO, buf, want);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n > 0) {
		s->stdin_window -= (u32)n;
		s->stdin_taken = true;
		if (s->raw)
			watch_escape(s, buf, (size_t)n);
		link_send(s->link, s->id, WIRE_DATA, WIRE_STDIN, buf, (size_t)n);
		return;
	}
	s->stdin_open = false;
	if (s->tty_streams & BIT(WIRE_STDIN))
		link_send(s->link, s->id, WIRE_HANGUP, 0, NULL, 0);
	else
		link_send(s->link, s->id, WIRE_EOF, WIRE_STDIN, NULL, 0);
}

static void out_write(struct session *s, u8 stream)
{
	struct session_out *o = &s->out[stream];
	size_t done = 0;
	struct stat st;
	bool file = fstat(stream, &st) == 0 && S_ISREG(st.st_mode);

	do {
		size_t part = (size_t)min_u64(o->len - done, file ? WIRE_WINDOW : PIPE_BUF);
		ssize_t n = write(stream, o->data + done, part);
		struct pollfd again = { .fd = stream, .events = POLLOUT };

		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			break;
		if (n < 0) {
			/* The command learns it as it would without us: by SIGPIPE. */
			o->closed = true;
			link_send(s->link, s->id, WIRE_CLOSE, stream, NULL, 0);
			done = o->len;
			break;
		}
		done += (size_t)n;
		if (done < o->len && (poll(&again, 1, 0) <= 0 || !(again.revents & POLLOUT)))
			break;
	} while (done < o->len);
	memmove(o->data, o->data + done, o->len - done);
	o->len -= done;
	if (done)
		credit(s, stream, done);
}

static void signal_in(struct session *s)
{
	struct signalfd_siginfo si;

	while (read(s->signals_fd, &si, sizeof(si)) == (ssize_t)sizeof(si)) {
		struct wire_signal sig = { .number = (s32)si.ssi_signo,
					   .group = si.ssi_code == SI_KERNEL };
		struct winsize size;

		if (si.ssi_signo == SIGWINCH) {
			for (int i = 0; i < 3; i++) {
				if (ioctl(i, TIOCGWINSZ, &size) < 0)
					continue;
				link_send(s->link, s->id, WIRE_RESIZE, 0, &size, sizeof(size));
				break;
			}
		} else if (s->started) {
			link_send(s->link, s->id, WIRE_SIGNAL, 0, &sig, sizeof(sig));
		} else {
			/* Nothing runs yet that could handle it. */
			s->ended = s->signalled = true;
			s->status = (int)si.ssi_signo;
		}
	}
}

int session_poll(struct session *s, struct pollfd *fds)
{
	int count = 0;

	fds[count++] = (struct pollfd){ .fd = s->signals_fd, .events = POLLIN };
	fds[count++] = (struct pollfd){
		.fd = s->started && s->stdin_open && s->stdin_window && !s->ended ? STDIN_FILENO
										  : -1,
		.events = POLLIN,
	};
	for (int i = WIRE_STDOUT; i <= WIRE_STDERR; i++)
		fds[count++] = (struct pollfd){ .fd = s->out[i].len ? i : -1, .events = POLLOUT };
	return count;
}

void session_polled(struct session *s, const struct pollfd *fds, int count)
{
	assert(count == SESSION_POLLS);
	if (fds[0].revents)
		signal_in(s);
	if (fds[1].revents)
		stdin_read(s);
	for (u8 i = WIRE_STDOUT; i <= WIRE_STDERR; i++)
		if (fds[i + 1].revents)
			out_write(s, i);
}

bool session_done(const struct session *s)
{
	return s->ended && !s->out[WIRE_STDOUT].len && !s->out[WIRE_STDERR].len;
}

int session_result(struct session *s)
{
	bool signalled = s->signalled;
	int status = s->status;

	session_fini(s);
	if (signalled) {
		struct rlimit none = { 0, 0 };
		sigset_t set;

		/* The core, if any, was the command's. */
		setrlimit(RLIMIT_CORE, &none);
		prctl(PR_SET_DUMPABLE, 0);
		signal(status, SIG_DFL);
		sigemptyset(&set);
		sigaddset(&set, status);
		sigprocmask(SIG_UNBLOCK, &set, NULL);
		raise(status);
		return 128 + status; /* a signal that does not kill */
	}
	return status;
}
