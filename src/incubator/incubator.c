// SPDX-License-Identifier: MIT
/*
 * Running commands: one machine, this process's own command in it, and those that
 * other processes bring over a unix socket. The socket has an abstract name, so
 * that nothing stays behind however this process ends.
 */
#include "incubator/incubator.h"

#include "base/log.h"
#include "incubator/emu.h"
#include "incubator/session.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <dirent.h>
#include <time.h>
#include <unistd.h>

#define OWN_SESSION   1
#define MAX_CLIENTS   32
#define SLOW_START_MS 2000
#define HELLO_MS      180000 /* a loaded machine may take long; a hung one is told after this */
#define RESTORED_MS   15000
#define SETTLE_MS     2500
#define SAVED_KEEP    6
#define SOCKET_PREFIX "nestor-incubator"
#define HUNG_TEXT     "the incubator hung (a fault of QEMU's SVM emulation, see doc/incubator.md)"
#define MAX_POLLS     (2 + SESSION_POLLS + 1 + MAX_CLIENTS)

struct client {
	bool used;
	u16 id; /* its session at the agent */
	struct link link;
};

struct run {
	const struct incubator_config *cfg;
	struct emu_plan plan;
	struct emu emu;
	struct link agent;
	bool hello;
	struct session own;
	int listen_fd;
	struct client clients[MAX_CLIENTS];
	u16 next_id;
	u64 start_ms;
	bool told_slow;
	struct pulse pulse;
	u64 next_ping_ms; /* 0: nothing was asked yet */
};

bool incubator_inside(void)
{
	const char *s = getenv("NESTOR_INSIDE");

	return s && strcmp(s, "1") == 0;
}

static u64 now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (u64)t.tv_sec * 1000 + (u64)t.tv_nsec / 1000000;
}

/* --- names --------------------------------------------------------------------------------- */

static socklen_t socket_name(struct sockaddr_un *sa, const char *name, int pid)
{
	int n;

	memset(sa, 0, sizeof(*sa));
	sa->sun_family = AF_UNIX;
	n = snprintf(sa->sun_path + 1, sizeof(sa->sun_path) - 1, SOCKET_PREFIX "/%u/%d/%s",
		     getuid(), pid, name);
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
}

static int listen_for_clients(const char *name)
{
	struct sockaddr_un sa;
	char own[16];
	socklen_t len;
	int fd;

	snprintf(own, sizeof(own), "%d", (int)getpid());
	if (!name)
		name = own;
	if (strlen(name) > 40 || strchr(name, '/') || strchr(name, ' ')) {
		log_warning("\"%s\" cannot name an incubator: at most 40 characters, no / or space",
			    name);
		name = own;
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	len = socket_name(&sa, name, (int)getpid());
	if (fd < 0 || bind(fd, (struct sockaddr *)&sa, len) < 0 || listen(fd, 8) < 0) {
		if (fd >= 0)
			close(fd);
		return -1;
	}
	return fd;
}

int incubator_list(void (*fn)(const char *name, int pid, void *opaque), void *opaque)
{
	FILE *f = fopen("/proc/net/unix", "re");
	char line[512], prefix[64];
	int found = 0;

	snprintf(prefix, sizeof(prefix), "@" SOCKET_PREFIX "/%u/", getuid());
	while (f && fgets(line, sizeof(line), f)) {
		char *at = strstr(line, prefix), *name;
		unsigned long flags = 0;

		/* The listening socket only (flag __SO_ACCEPTCON), not its connections. */
		if (!at || sscanf(line, "%*s %*s %*s %lx", &flags) != 1 || !(flags & 0x10000))
			continue;
		at += strlen(prefix);
		name = strchr(at, '/');
		if (!name)
			continue;
		*name++ = 0;
		name[strcspn(name, "\n")] = 0;
		found++;
		if (fn)
			fn(name, atoi(at), opaque);
	}
	if (f)
		fclose(f);
	return found;
}

/* --- commands of other processes ----------------------------------------------------------- */

static void client_drop(struct run *r, struct client *c)
{
	/* Harmless if the session is over: the agent knows no such number then. */
	link_send(&r->agent, c->id, WIRE_HANGUP, 0, NULL, 0);
	link_fini(&c->link);
	c->used = false;
}

static void client_accept(struct run *r)
{
	int fd = accept4(r->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct ucred peer;
	socklen_t len = sizeof(peer);

	if (fd < 0)
		return;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 ||
	    (peer.uid != getuid() && peer.uid != 0)) {
		close(fd);
		return;
	}
	for (int i = 0; i < MAX_CLIENTS; i++) {
		struct client *c = &r->clients[i];

		if (c->used)
			continue;
		if (link_init(&c->link, fd) < 0)
			break;
		c->used = true;
		c->id = r->next_id++;
		if (r->next_id <= OWN_SESSION)
			r->next_id = OWN_SESSION + 1;
		return;
	}
	close(fd);
}

static void client_in(struct run *r, struct client *c)
{
	struct wire_frame *f;
	int error = link_fill(&c->link);

	while (!error && (f = link_next(&c->link, &error)) != NULL)
		error = link_send(&r->agent, c->id, f->type, f->stream, f->payload, f->len);
	if (error)
		client_drop(r, c);
}

static void frame_in(struct run *r, const struct wire_frame *f)
{
	if (f->type == WIRE_HELLO) {
		r->hello = true;
		return;
	}
	if (f->type == WIRE_BEATS) {
		pulse_beats(&r->pulse, (const u32 *)(const void *)f->payload, f->len / sizeof(u32));
		return;
	}
	if (f->session == OWN_SESSION) {
		session_frame(&r->own, f);
		return;
	}
	for (int i = 0; i < MAX_CLIENTS; i++) {
		struct client *c = &r->clients[i];

		if (!c->used || c->id != f->session)
			continue;
		if (link_send(&c->link, 0, f->type, f->stream, f->payload, f->len) < 0)
			client_drop(r, c);
		return;
	}
}

/* --- the loop ------------------------------------------------------------------------------ */

static int agent_in(struct run *r)
{
	struct wire_frame *f;
	int error = link_fill(&r->agent);

	while (!error && (f = link_next(&r->agent, &error)) != NULL)
		frame_in(r, f);
	return error;
}

/* Waits for something to do and does it. A negative errno when the machine is gone. */
static int step(struct run *r, int timeout_ms)
{
	struct pollfd fds[MAX_POLLS];
	struct client *who[MAX_CLIENTS];
	int count = 0, first_client, error = 0;

	fds[count++] =
		(struct pollfd){ .fd = r->agent.fd,
				 .events = POLLIN | (link_pending(&r->agent) ? POLLOUT : 0) };
	fds[count++] = (struct pollfd){ .fd = r->emu.pidfd, .events = POLLIN };
	count += session_poll(&r->own, fds + count);
	fds[count++] = (struct pollfd){ .fd = r->listen_fd, .events = POLLIN };
	first_client = count;
	for (int i = 0; i < MAX_CLIENTS; i++) {
		struct client *c = &r->clients[i];

		if (!c->used)
			continue;
		who[count - first_client] = c;
		fds[count++] = (struct pollfd){
			.fd = c->link.fd,
			.events = POLLIN | (link_pending(&c->link) ? POLLOUT : 0),
		};
	}
	if (poll(fds, (nfds_t)count, timeout_ms) < 0)
		return errno == EINTR ? 0 : -errno;

	if (fds[0].revents & POLLOUT)
		error = link_flush(&r->agent);
	if (!error && (fds[0].revents & (POLLIN | POLLHUP | POLLERR)))
		error = agent_in(r);
	if (!error && fds[1].revents)
		error = -EPIPE;
	session_polled(&r->own, fds + 2, SESSION_POLLS);
	if (r->listen_fd >= 0 && (fds[2 + SESSION_POLLS].revents & POLLIN))
		client_accept(r);
	for (int i = first_client; i < count; i++) {
		struct client *c = who[i - first_client];

		if (fds[i].revents & POLLOUT && link_flush(&c->link) < 0)
			client_drop(r, c);
		else if (fds[i].revents & (POLLIN | POLLHUP | POLLERR))
			client_in(r, c);
	}
	return error;
}

/* Once the command runs, and what came in has been read. -EDEADLK: the machine hangs. */
static int watch(struct run *r)
{
	struct pulse_sample sample;
	u64 now = now_ms();
	int cpu;

	if (now < r->next_ping_ms)
		return 0;
	emu_sample(&r->emu, &sample);
	if (!r->next_ping_ms)
		pulse_init(&r->pulse, now);
	r->next_ping_ms = now + PULSE_INTERVAL_MS;
	cpu = pulse_check(&r->pulse, now, &sample);
	if (cpu >= 0) {
		log_info("CPU %d of the incubator does not answer", cpu);
		return -EDEADLK;
	}
	return link_send(&r->agent, 0, WIRE_PING, 0, NULL, 0);
}

static void tell_slow(struct run *r)
{
	if (r->told_slow || now_ms() - r->start_ms < SLOW_START_MS || !isatty(STDERR_FILENO))
		return;
	r->told_slow = true;
	dprintf(STDERR_FILENO, "nestor: no usable KVM here: starting the incubator (%s)...\n",
		r->plan.small ? "a few seconds"
			      : "about ten seconds; tools/incubator-kernel makes it faster");
}

/* Until the agent is there (@hello), or until the command runs. */
static int wait_until(struct run *r, const bool *flag, u64 limit_ms)
{
	u64 end = now_ms() + limit_ms;

	while (!*flag && !r->own.ended) {
		int error = step(r, 200);

		if (error)
			return error;
		if (now_ms() > end)
			return -ETIMEDOUT;
		tell_slow(r);
	}
	return 0;
}

static int open_machine(struct run *r, enum emu_mode mode)
{
	int ret = emu_start(&r->emu, &r->plan, mode, NULL);

	if (ret)
		return ret;
	ret = link_init(&r->agent, r->emu.agent_fd);
	r->emu.agent_fd = -1;
	r->own.link = &r->agent;
	r->hello = mode == EMU_RESTORE; /* it said so before it was saved */
	return ret;
}

static void close_machine(struct run *r)
{
	emu_stop(&r->emu);
	if (r->agent.rx)
		link_fini(&r->agent);
}

/* A saved machine if there is one, else from power-on. 0 when the command was started. */
static int begin(struct run *r)
{
	int ret;

	if (r->plan.saved && (r->plan.policy == EMU_AUTO || r->plan.policy == EMU_SAVED)) {
		ret = open_machine(r, EMU_RESTORE);
		if (!ret)
			ret = session_start(&r->own, r->cfg->argv);
		if (!ret)
			ret = wait_until(r, &r->own.started, RESTORED_MS);
		if (!ret)
			return 0;
		log_warning("the saved machine in %s does not start (%s); booting instead",
			    r->plan.saved_dir, strerror(-ret));
		close_machine(r);
		r->plan.saved = false;
	}
	ret = open_machine(r, EMU_COLD);
	if (!ret)
		ret = wait_until(r, &r->hello, HELLO_MS);
	if (!ret && !r->own.ended)
		ret = session_start(&r->own, r->cfg->argv);
	if (!ret)
		ret = wait_until(r, &r->own.started, HELLO_MS);
	return ret;
}

/* --- saved machines ------------------------------------------------------------------------ */

static int remove_tree(const char *path)
{
	static const char *const files[] = { "ram", "state", "key" };
	char name[2 * EMU_PATH];

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		snprintf(name, sizeof(name), "%s/%s", path, files[i]);
		unlink(name);
	}
	return rmdir(path);
}

/* Keeps the newest few, and removes what a killed preparation left. Under the lock. */
static void prune(const char *dir)
{
	char path[EMU_PATH + 300], oldest[EMU_PATH + 258] = "";
	struct dirent *e;
	struct stat st;
	int count;

	do {
		DIR *d = opendir(dir);
		time_t oldest_time = 0;

		count = 0;
		while (d && (e = readdir(d)) != NULL) {
			if (strncmp(e->d_name, ".new", 4) == 0) {
				snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
				remove_tree(path);
			}
			if (e->d_name[0] == '.')
				continue;
			snprintf(path, sizeof(path), "%s/%s/key", dir, e->d_name);
			if (stat(path, &st) < 0)
				continue;
			count++;
			if (!oldest_time || st.st_atime < oldest_time) {
				oldest_time = st.st_atime;
				snprintf(oldest, sizeof(oldest), "%s/%s", dir, e->d_name);
			}
		}
		if (d)
			closedir(d);
		if (count > SAVED_KEEP)
			remove_tree(oldest);
	} while (count > SAVED_KEEP);
}

static int write_text(const char *path, const char *text)
{
	FILE *f = fopen(path, "we");

	if (!f)
		return -errno;
	fputs(text, f);
	return fclose(f) ? -errno : 0;
}

static int save_into(struct run *r, const char *temp)
{
	char ram[2 * EMU_PATH], state[2 * EMU_PATH], key[2 * EMU_PATH];
	int ret;

	snprintf(ram, sizeof(ram), "%s/ram", temp);
	snprintf(state, sizeof(state), "%s/state", temp);
	snprintf(key, sizeof(key), "%s/key", temp);
	ret = emu_start(&r->emu, &r->plan, EMU_TO_SAVE, ram);
	if (ret)
		return ret;
	ret = link_init(&r->agent, r->emu.agent_fd);
	r->emu.agent_fd = -1;
	r->own.link = &r->agent;
	if (!ret)
		ret = wait_until(r, &r->hello, HELLO_MS);
	/* Let the kernel finish what it does after boot, refining the clock above all. */
	for (u64 end = now_ms() + SETTLE_MS; !ret && !r->own.ended && now_ms() < end;)
		ret = step(r, 100);
	if (!ret && r->own.ended)
		ret = -EINTR;
	if (!ret)
		ret = emu_save(&r->emu, state);
	if (!ret)
		ret = write_text(key, r->plan.key);
	return ret;
}

static void mkdirs(const char *path)
{
	char part[EMU_PATH];

	for (size_t i = 1; path[i] && i < sizeof(part); i++) {
		if (path[i] != '/')
			continue;
		memcpy(part, path, i);
		part[i] = 0;
		mkdir(part, 0777);
	}
	mkdir(path, 0777);
}

/* @wait: another process may be at it; wait for it instead of leaving it alone. */
static int prepare(struct run *r, bool wait)
{
	char dir[EMU_PATH], temp[EMU_PATH + 16];
	int lock, ret;

	if (!r->plan.key || !r->plan.saved_dir[0])
		return -ENOMEM;
	snprintf(dir, sizeof(dir), "%s", r->plan.saved_dir);
	*strrchr(dir, '/') = 0;
	mkdirs(dir);
	lock = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (lock < 0)
		return -errno;
	if (flock(lock, LOCK_EX | (wait ? 0 : LOCK_NB)) < 0) {
		ret = -errno;
		close(lock);
		return ret;
	}
	prune(dir);
	snprintf(temp, sizeof(temp), "%s/.new.%d", dir, (int)getpid());
	ret = mkdir(temp, 0700) < 0 ? -errno : save_into(r, temp);
	close_machine(r);
	if (!ret) {
		remove_tree(r->plan.saved_dir);
		if (rename(temp, r->plan.saved_dir) < 0)
			ret = -errno;
	}
	if (ret)
		remove_tree(temp);
	close(lock);
	return ret;
}

/* A closed standard stream would become the number of something else that is opened. */
static void open_standard_streams(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

static int run_init(struct run *r, const struct incubator_config *cfg)
{
	char why[1024];

	*r = (struct run){
		.cfg = cfg, .listen_fd = -1, .next_id = OWN_SESSION + 1, .start_ms = now_ms()
	};
	r->emu.pid = -1;
	open_standard_streams();
	emu_plan_make(&r->plan, cfg->cpus, cfg->memory_bytes);
	if (!emu_plan_usable(&r->plan, why, sizeof(why))) {
		log_error("%s", why);
		emu_plan_fini(&r->plan);
		return -ENOENT;
	}
	if (session_init(&r->own, &r->agent, OWN_SESSION) < 0) {
		log_error("the incubator cannot start: out of memory or file descriptors");
		emu_plan_fini(&r->plan);
		return -ENOMEM;
	}
	return 0;
}

int incubator_prepare(const struct incubator_config *cfg)
{
	struct run r;
	int ret;

	if (run_init(&r, cfg))
		return INCUBATOR_FAILED;
	if (!r.plan.saved)
		dprintf(STDERR_FILENO,
			"nestor: saving an incubator for quick starts (some seconds)...\n");
	ret = r.plan.saved ? 0 : prepare(&r, true);
	if (ret)
		log_error("cannot save a machine in %s: %s", r.plan.cache, strerror(-ret));
	emu_plan_fini(&r.plan);
	session_fini(&r.own);
	return ret ? INCUBATOR_FAILED : 0;
}

/*
 * After a run that had to boot: make the saved machine for the next one, in a
 * process of its own that holds nothing of ours open.
 */
static void prepare_in_background(struct run *r)
{
	pid_t pid;
	int null;

	if (r->plan.saved || r->plan.policy != EMU_AUTO || getenv("NESTOR_INCUBATOR_NO_SAVE"))
		return;
	pid = fork();
	if (pid < 0)
		return;
	if (pid > 0) {
		waitpid(pid, NULL, 0);
		return;
	}
	if (setsid() < 0 || fork() != 0)
		_exit(0);
	null = open("/dev/null", O_RDWR);
	for (int i = 0; i < 3; i++)
		dup2(null, i);
	closefrom(3);
	if (nice(10) < 0)
		_exit(0);
	r->emu = (struct emu){
		.pid = -1, .pidfd = -1, .agent_fd = -1, .qmp_fd = -1, .log_fd = -1, .stderr_fd = -1
	};
	r->agent = (struct link){ .fd = -1 };
	r->listen_fd = -1;
	memset(r->clients, 0, sizeof(r->clients));
	r->hello = false;
	if (chdir("/") == 0 && session_init(&r->own, &r->agent, OWN_SESSION) == 0)
		prepare(r, false);
	_exit(0);
}

static int retries_wanted(void)
{
	const char *s = getenv("NESTOR_INCUBATOR_RETRY");

	return s ? atoi(s) : 0;
}

static void drop_clients(struct run *r)
{
	for (int i = 0; i < MAX_CLIENTS; i++) {
		if (r->clients[i].used)
			link_fini(&r->clients[i].link);
		r->clients[i].used = false;
	}
}

/* One machine, from its start to the end of the command. 0 or a negative errno. */
static int run_once(struct run *r)
{
	int ret = begin(r);

	while (!ret && !session_done(&r->own) && !r->own.abandoned) {
		ret = step(r, PULSE_INTERVAL_MS);
		if (!ret && r->own.started && !r->own.ended)
			ret = watch(r);
	}
	/* The last frame may have come together with the end of the machine. */
	return session_done(&r->own) ? 0 : ret;
}

/* As if nothing had been. 0 or a negative errno. */
static int forget_attempt(struct run *r)
{
	close_machine(r);
	drop_clients(r);
	session_fini(&r->own);
	r->agent = (struct link){ .fd = -1 };
	r->hello = false;
	r->next_ping_ms = 0;
	return session_init(&r->own, &r->agent, OWN_SESSION);
}

static int run_until_it_does_not_hang(struct run *r)
{
	int retries = retries_wanted(), tries = 0, ret;

	for (;;) {
		if (retries > 0 && !isatty(STDOUT_FILENO))
			session_hold_output(&r->own);
		ret = run_once(r);
		if (!ret || !r->own.started || tries >= retries || !session_repeatable(&r->own))
			return ret;
		log_error("%s; starting again (%d of %d)",
			  ret == -EDEADLK ? HUNG_TEXT : "the incubator's machine ended", ++tries,
			  retries);
		ret = forget_attempt(r);
		if (ret)
			return ret;
	}
}

int incubator_run(const struct incubator_config *cfg)
{
	int ret, status = INCUBATOR_FAILED;
	struct run r;

	if (run_init(&r, cfg))
		return INCUBATOR_FAILED;
	if (r.plan.policy == EMU_SAVED && !r.plan.saved && prepare(&r, true) == 0) {
		r.plan.saved = true;
		r.hello = false;
	}
	r.listen_fd = listen_for_clients(cfg->name);
	ret = run_until_it_does_not_hang(&r);
	session_release_output(&r.own);
	if (ret == -EDEADLK) {
		session_fini(&r.own);
		log_error(HUNG_TEXT "; run it again");
		status = INCUBATOR_HUNG;
	} else if (ret) {
		session_fini(&r.own);
		log_error("the incubator failed: %s",
			  ret == -ETIMEDOUT ? "it did not answer in time"
			  : r.own.started   ? "the machine ended while the command ran"
					    : "the machine ended while starting");
		emu_explain(&r.emu);
	} else if (r.own.abandoned && !r.own.ended) {
		session_fini(&r.own);
		log_error("left by Ctrl-a x; the incubator was stopped");
	}
	close_machine(&r);
	drop_clients(&r);
	if (r.listen_fd >= 0)
		close(r.listen_fd);
	if (ret || (r.own.abandoned && !r.own.ended)) {
		emu_plan_fini(&r.plan);
		return status;
	}
	if (r.own.started)
		prepare_in_background(&r);
	emu_plan_fini(&r.plan);
	return session_result(&r.own);
}

/* --- exec ---------------------------------------------------------------------------------- */

struct choice {
	const char *wanted;
	char name[64];
	int pid, matches;
};

static void consider(const char *name, int pid, void *opaque)
{
	struct choice *c = opaque;

	if (c->wanted && strcmp(c->wanted, name) != 0 && atoi(c->wanted) != pid)
		return;
	snprintf(c->name, sizeof(c->name), "%s", name);
	c->pid = pid;
	c->matches++;
}

static int exec_loop(struct session *s, struct link *link)
{
	while (!session_done(s) && !s->abandoned) {
		struct pollfd fds[1 + SESSION_POLLS];
		struct wire_frame *f;
		int error = 0, count;

		fds[0] = (struct pollfd){ .fd = link->fd,
					  .events = POLLIN | (link_pending(link) ? POLLOUT : 0) };
		count = session_poll(s, fds + 1);
		if (poll(fds, (nfds_t)(1 + count), -1) < 0 && errno != EINTR)
			return -errno;
		if (fds[0].revents & POLLOUT)
			error = link_flush(link);
		if (!error && (fds[0].revents & (POLLIN | POLLHUP))) {
			error = link_fill(link);
			while (!error && (f = link_next(link, &error)) != NULL)
				session_frame(s, f);
		}
		session_polled(s, fds + 1, count);
		if (error && !s->ended)
			return error;
	}
	return 0;
}

int incubator_exec(const char *name, char *const *argv)
{
	struct choice c = { .wanted = name };
	struct sockaddr_un sa;
	struct session s;
	struct link link;
	socklen_t len;
	int fd, ret;

	open_standard_streams();
	incubator_list(consider, &c);
	if (c.matches != 1) {
		log_error(c.matches ? "%d incubators are running: say which, by name or process id"
				    : "no such incubator is running",
			  c.matches);
		return INCUBATOR_FAILED;
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	len = socket_name(&sa, c.name, c.pid);
	if (fd < 0 || connect(fd, (struct sockaddr *)&sa, len) < 0 || link_init(&link, fd) < 0) {
		log_error("cannot reach the incubator %s: %s", c.name, strerror(errno));
		if (fd >= 0)
			close(fd);
		return INCUBATOR_FAILED;
	}
	if (session_init(&s, &link, 0) < 0) {
		link_fini(&link);
		return INCUBATOR_FAILED;
	}
	ret = session_start(&s, argv);
	if (!ret)
		ret = exec_loop(&s, &link);
	link_fini(&link);
	if (ret || !s.ended) {
		session_fini(&s);
		log_error("the incubator %s ended", c.name);
		return INCUBATOR_FAILED;
	}
	return session_result(&s);
}

bool incubator_status(struct incubator_status *out)
{
	struct emu_plan p;
	char why[1024];
	bool usable;

	*out = (struct incubator_status){ 0 };
	emu_plan_make(&p, 0, 0);
	usable = emu_plan_usable(&p, why, sizeof(why));
	out->switched_off = p.policy == EMU_OFF;
	snprintf(out->cache_dir, sizeof(out->cache_dir), "%s", p.cache);
	snprintf(out->qemu_path, sizeof(out->qemu_path), "%s", p.qemu);
	snprintf(out->qemu_version, sizeof(out->qemu_version), "%s", p.qemu_version);
	out->qemu_usable = p.qemu_major >= 10;
	if (p.small)
		snprintf(out->small_kernel, sizeof(out->small_kernel), "%s", p.kernel);
	if (snprintf(out->stock_kernel, sizeof(out->stock_kernel), "%s/incubator/stock/vmlinuz",
		     p.cache) >= (int)sizeof(out->stock_kernel) ||
	    access(out->stock_kernel, R_OK) < 0)
		out->stock_kernel[0] = 0;
	if (p.saved)
		snprintf(out->saved_dir, sizeof(out->saved_dir), "%s", p.saved_dir);
	out->cpus = p.cpus;
	out->memory_bytes = p.memory_bytes;
	emu_plan_fini(&p);
	return usable;
}
