// SPDX-License-Identifier: MIT
/*
 * The first process of the incubator, alone in its initramfs. It prepares what
 * can be in a saved machine (modules, devices, network), says hello, and waits.
 * The first command makes it mount the outside world's files as its root; then
 * each command runs with the directory, environment, identity and streams of its
 * counterpart outside. One poll loop does all of it; the threads only prove life.
 */
#include "incubator/link.h"
#include "incubator/pulse.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <net/if.h>
#include <net/route.h>
#include <netinet/in.h>
#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <pty.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define MAX_SESSIONS 64
#define NET_ADDRESS  "10.0.2.15"
#define NET_GATEWAY  "10.0.2.2"
#define NET_DNS	     "10.0.2.3"
/* How long a terminal may stay silent after its command ended before we stop reading it. */
#define PTY_DRAIN_MS 100
/* A command with this in its environment is a test: the CPU it names beats no more. */
#define STALL_VARIABLE "NESTOR_INCUBATOR_TEST_STALL="

struct output {
	int fd; /* what we read from; -1 when there is no more */
	u32 window;
	bool eof_sent;
};

struct session {
	bool used;
	u16 id;
	pid_t pid;
	bool exited;
	int status;
	u64 exited_ms;
	int pty;      /* master, or -1 */
	int stdin_fd; /* what we write to; -1 when closed */
	bool stdin_is_pty;
	bool stdin_eof;
	u8 *in; /* bytes not yet taken by the command */
	size_t in_len;
	struct output out[WIRE_STREAMS]; /* [WIRE_STDIN] unused */
	u8 *start;			 /* pieces of the start message */
	size_t start_len;
};

static struct session sessions[MAX_SESSIONS];
static struct link host;
static int signals_fd;
static bool world_mounted;

static void die(const char *what)
{
	dprintf(STDERR_FILENO, "incubator agent: %s: %s\n", what, strerror(errno));
	sync();
	reboot(RB_AUTOBOOT); /* QEMU runs with -no-reboot: it ends */
	for (;;)
		pause();
}

static u64 now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (u64)t.tv_sec * 1000 + (u64)t.tv_nsec / 1000000;
}

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (fd < 0)
		return;
	if (write(fd, text, strlen(text)) < 0)
		dprintf(STDERR_FILENO, "incubator agent: %s: %s\n", path, strerror(errno));
	close(fd);
}

/* --- before the snapshot ------------------------------------------------------------------- */

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static void load_modules(void)
{
	struct dirent **list;
	int count = scandir("/modules", &list, NULL, by_name);

	for (int i = 0; i < count; i++) {
		char path[300];
		int fd;

		if (list[i]->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/modules/%s", list[i]->d_name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		/* One that does not load is missed later, with a better message. */
		if (fd < 0 || syscall(SYS_finit_module, fd, "", 0) < 0)
			dprintf(STDERR_FILENO, "incubator agent: %s: %s\n", path, strerror(errno));
		if (fd >= 0)
			close(fd);
		unlink(path); /* gives the memory back */
	}
}

static int open_port(void)
{
	for (int tries = 0; tries < 1000; tries++) {
		DIR *d = opendir("/sys/class/virtio-ports");
		struct dirent *e;

		while (d && (e = readdir(d)) != NULL) {
			char path[300], name[64] = "";
			int fd;

			snprintf(path, sizeof(path), "/sys/class/virtio-ports/%s/name", e->d_name);
			fd = open(path, O_RDONLY | O_CLOEXEC);
			if (fd < 0)
				continue;
			if (read(fd, name, sizeof(name) - 1) < 0)
				name[0] = 0;
			close(fd);
			if (strncmp(name, WIRE_PORT, strlen(WIRE_PORT)) != 0)
				continue;
			snprintf(path, sizeof(path), "/dev/%s", e->d_name);
			fd = open(path, O_RDWR | O_CLOEXEC);
			if (fd >= 0) {
				closedir(d);
				return fd;
			}
		}
		if (d)
			closedir(d);
		usleep(10000);
	}
	errno = ENODEV;
	die("no virtio port named " WIRE_PORT);
	return -1;
}

static void set_address(struct sockaddr *sa, const char *text)
{
	struct sockaddr_in *in = (struct sockaddr_in *)sa;

	memset(in, 0, sizeof(*in));
	in->sin_family = AF_INET;
	inet_pton(AF_INET, text, &in->sin_addr);
}

static void interface_up(int s, const char *name, const char *address, const char *mask)
{
	struct ifreq ifr = { 0 };

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	set_address(&ifr.ifr_addr, address);
	if (ioctl(s, SIOCSIFADDR, &ifr) < 0)
		return; /* no such interface: no network, which is no error */
	set_address(&ifr.ifr_netmask, mask);
	ioctl(s, SIOCSIFNETMASK, &ifr);
	if (ioctl(s, SIOCGIFFLAGS, &ifr) == 0) {
		ifr.ifr_flags |= IFF_UP | IFF_RUNNING;
		ioctl(s, SIOCSIFFLAGS, &ifr);
	}
}

/* QEMU's user network has fixed addresses: nothing to negotiate. */
static void network_up(void)
{
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct rtentry route = { .rt_flags = RTF_UP | RTF_GATEWAY };

	if (s < 0)
		return;
	interface_up(s, "lo", "127.0.0.1", "255.0.0.0");
	interface_up(s, "eth0", NET_ADDRESS, "255.255.255.0");
	set_address(&route.rt_dst, "0.0.0.0");
	set_address(&route.rt_genmask, "0.0.0.0");
	set_address(&route.rt_gateway, NET_GATEWAY);
	ioctl(s, SIOCADDRT, &route);
	close(s);
}

/* --- the outside world's files ------------------------------------------------------------- */

static bool mount_9p(const char *tag, const char *where, unsigned long flags, const char *cache)
{
	char options[160];

	snprintf(options, sizeof(options),
		 "trans=virtio,version=9p2000.L,msize=512000,access=any,cache=%s", cache);
	return mount(tag, where, "9p", flags, options) == 0;
}

static void mount_dev(void)
{
	static const char *const links[][2] = {
		{ "/proc/self/fd", "/dev/fd" },
		{ "/proc/self/fd/0", "/dev/stdin" },
		{ "/proc/self/fd/1", "/dev/stdout" },
		{ "/proc/self/fd/2", "/dev/stderr" },
	};

	mount("dev", "/dev", "devtmpfs", MS_NOSUID, "mode=0755");
	mkdir("/dev/pts", 0755);
	mkdir("/dev/shm", 01777);
	mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "mode=620,ptmxmode=666");
	mount("shm", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777,size=75%");
	for (size_t i = 0; i < ARRAY_SIZE(links); i++)
		if (symlink(links[i][0], links[i][1]) < 0 && errno != EEXIST)
			die(links[i][1]);
	chmod("/dev/kvm", 0666);
	chmod("/dev/net/tun", 0666);
	chmod("/dev/vhost-net", 0666);
}

/* Names resolve through QEMU's user network, whatever the outside's file says. */
static void point_resolver(void)
{
	write_file("/run/nestor-resolv.conf", "nameserver " NET_DNS "\n");
	mount("/run/nestor-resolv.conf", "/etc/resolv.conf", NULL, MS_BIND, NULL);
}

/*
 * What the machine is made of: written through, read through the page cache that
 * an open() revalidates. /usr is taken to stand still while a machine lives, so
 * its pages and names are simply kept.
 */
static void mount_world(void)
{
	if (world_mounted)
		return;
	if (!mount_9p("root", "/host", MS_NODEV, "readahead"))
		die("cannot mount the outside's files");
	if (chdir("/host") < 0 || mount("/host", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 ||
	    chdir("/") < 0)
		die("cannot move to the outside's files");
	mount_9p("usr", "/usr", MS_NODEV | MS_RDONLY, "loose");
	mount("proc", "/proc", "proc", MS_NOSUID | MS_NOEXEC | MS_NODEV, NULL);
	mount("sys", "/sys", "sysfs", MS_NOSUID | MS_NOEXEC | MS_NODEV, NULL);
	mount("debugfs", "/sys/kernel/debug", "debugfs", MS_NOSUID | MS_NOEXEC | MS_NODEV, NULL);
	mount("run", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755");
	mkdir("/run/user", 0755);
	mkdir("/run/lock", 01777);
	mount_dev();
	point_resolver();
	world_mounted = true;
}

/* --- signs of life ------------------------------------------------------------------------- */

/* One per CPU, each with a thread that runs nowhere else. */
static struct heart {
	int wake; /* eventfd */
	u32 beats;
} hearts[PULSE_MAX_CPUS];
static u32 hearts_count;
static int stalled_cpu = -1;

static void *heart_main(void *opaque)
{
	struct heart *h = opaque;
	u64 n;

	for (;;) {
		if (read(h->wake, &n, sizeof(n)) == (ssize_t)sizeof(n))
			__atomic_fetch_add(&h->beats, 1, __ATOMIC_RELAXED); /* read by ping() */
	}
	return NULL;
}

static bool heart_start(struct heart *h, u32 cpu)
{
	struct sched_param first = { .sched_priority = 1 };
	pthread_attr_t attr;
	pthread_t thread;
	cpu_set_t set;
	bool started;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	h->wake = eventfd(0, EFD_CLOEXEC);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 64 * 1024);
	pthread_attr_setaffinity_np(&attr, sizeof(set), &set);
	/* Ahead of whatever commands do. */
	pthread_attr_setinheritsched(&attr, PTHREAD_EXPLICIT_SCHED);
	pthread_attr_setschedpolicy(&attr, SCHED_FIFO);
	pthread_attr_setschedparam(&attr, &first);
	started = h->wake >= 0 && pthread_create(&thread, &attr, heart_main, h) == 0;
	pthread_attr_destroy(&attr);
	return started;
}

/*
 * Being woken from here, each CPU gets an interrupt each time: one that had lost its
 * own (QEMU may drop a request that comes while VMRUN starts) finds it again.
 */
static void ping(void)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	u32 beats[PULSE_MAX_CPUS];
	u64 one = 1;

	while (hearts_count < PULSE_MAX_CPUS && (long)hearts_count < cpus &&
	       heart_start(&hearts[hearts_count], hearts_count))
		hearts_count++;
	for (u32 i = 0; i < hearts_count; i++)
		beats[i] = __atomic_load_n(&hearts[i].beats, __ATOMIC_RELAXED);
	link_send(&host, 0, WIRE_BEATS, 0, beats, hearts_count * sizeof(beats[0]));
	for (u32 i = 0; i < hearts_count; i++)
		if ((int)i != stalled_cpu && write(hearts[i].wake, &one, sizeof(one)) < 0)
			die("heart");
}

/* --- sessions ------------------------------------------------------------------------------ */

static struct session *session_find(u16 id)
{
	for (int i = 0; i < MAX_SESSIONS; i++)
		if (sessions[i].used && sessions[i].id == id)
			return &sessions[i];
	return NULL;
}

static struct session *session_new(u16 id)
{
	for (int i = 0; i < MAX_SESSIONS; i++) {
		struct session *s = &sessions[i];

		if (s->used)
			continue;
		*s = (struct session){ .used = true, .id = id, .pty = -1, .stdin_fd = -1 };
		for (int o = 0; o < WIRE_STREAMS; o++)
			s->out[o] = (struct output){ .fd = -1, .window = WIRE_WINDOW };
		return s;
	}
	return NULL;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void session_free(struct session *s)
{
	/* A terminal's descriptors are all the master. */
	if (s->stdin_fd == s->pty)
		s->stdin_fd = -1;
	for (int o = 0; o < WIRE_STREAMS; o++) {
		if (s->out[o].fd == s->pty)
			s->out[o].fd = -1;
		close_fd(&s->out[o].fd);
	}
	close_fd(&s->stdin_fd);
	close_fd(&s->pty);
	free(s->in);
	free(s->start);
	s->used = false;
}

static void send_started(struct session *s, int error, enum wire_stage stage)
{
	struct wire_started st = { .error = error, .stage = stage };

	link_send(&host, s->id, WIRE_STARTED, 0, &st, sizeof(st));
	if (error)
		session_free(s);
}

/* The first CPU takes interrupts and runs no virtual machine (why: build_args in emu.c). */
static void leave_first_cpu(void)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	cpu_set_t set;

	CPU_ZERO(&set);
	for (long i = 1; i < cpus && i < CPU_SETSIZE; i++)
		CPU_SET((size_t)i, &set);
	if (cpus > 1 && sched_setaffinity(0, sizeof(set), &set) < 0)
		dprintf(STDERR_FILENO, "incubator agent: CPUs: %s\n", strerror(errno));
}

/* Runs in the child. What fails is written to @report as a struct wire_started. */
static void become_command(const struct wire_start *st, int fds[3], bool tty, int report)
{
	struct wire_started failed = { .stage = WIRE_STAGE_SETUP };
	const char *p = (const char *)(st + 1);
	const char *cwd = p + strlen(p) + 1;
	char **argv = calloc(st->argc + 1, sizeof(*argv));
	char **envp = calloc(st->envc + 2, sizeof(*envp));
	struct rlimit files = { st->nofile_soft, st->nofile_hard };
	sigset_t none;

	signal(SIGPIPE, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setsid();
	for (int i = 0; i < 3; i++)
		if (dup2(fds[i], i) < 0)
			goto fail;
	if (tty && ioctl(isatty(0) ? 0 : isatty(1) ? 1 : 2, TIOCSCTTY, 0) < 0)
		goto fail;
	if (!argv || !envp)
		goto fail;
	p = cwd + strlen(cwd) + 1;
	for (u32 i = 0; i < st->argc; i++, p += strlen(p) + 1)
		argv[i] = (char *)p;
	for (u32 i = 0; i < st->envc; i++, p += strlen(p) + 1)
		envp[i] = (char *)p;
	envp[st->envc] = "NESTOR_INSIDE=1";
	setrlimit(RLIMIT_NOFILE, &files);
	leave_first_cpu();
	umask(st->umask);
	if (setgroups(st->groups_count, st->groups) < 0 ||
	    setresgid(st->gid, st->gid, st->gid) < 0 || setresuid(st->uid, st->uid, st->uid) < 0)
		goto fail;
	failed.stage = WIRE_STAGE_CHDIR;
	if (chdir(cwd) < 0)
		goto fail;
	failed.stage = WIRE_STAGE_EXEC;
	environ = envp;
	execvp(argv[0], argv);
fail:
	failed.error = errno;
	if (write(report, &failed, sizeof(failed)) < 0)
		_exit(126);
	_exit(127);
}

static int open_terminal(const struct wire_start *st, int *slave)
{
	struct winsize size = { .ws_row = st->rows, .ws_col = st->cols };
	struct termios tio;
	int master;

	if (openpty(&master, slave, NULL, NULL, &size) < 0)
		return -1;
	if (st->raw_outside) {
		memcpy(&tio, st->termios, sizeof(tio));
		tcsetattr(*slave, TCSANOW, &tio);
	} else if (tcgetattr(*slave, &tio) == 0) {
		/* The outside's terminal is not raw: it turns newlines itself. */
		tio.c_oflag &= ~(tcflag_t)OPOST;
		tio.c_lflag &= ~(tcflag_t)ECHO;
		tcsetattr(*slave, TCSANOW, &tio);
	}
	if (fchown(*slave, st->uid, st->gid) < 0)
		dprintf(STDERR_FILENO, "incubator agent: terminal: %s\n", strerror(errno));
	fcntl(master, F_SETFD, FD_CLOEXEC);
	return master;
}

/* Our end and the command's end of each stream. 0 or -errno. */
static int open_streams(struct session *s, const struct wire_start *st, int theirs[3])
{
	int slave = -1;

	if (st->tty_streams) {
		s->pty = open_terminal(st, &slave);
		if (s->pty < 0)
			return -errno;
	}
	for (int i = 0; i < 3; i++) {
		int pair[2], ours;

		if (st->tty_streams & BIT(i)) {
			theirs[i] = fcntl(slave, F_DUPFD_CLOEXEC, 10);
			ours = s->pty;
		} else if (pipe2(pair, O_CLOEXEC) < 0) {
			close_fd(&slave);
			return -errno;
		} else {
			/* Above 10, so that dup2() onto 0..2 in the child overwrites none. */
			int child_end = i == WIRE_STDIN ? 0 : 1;

			theirs[i] = fcntl(pair[child_end], F_DUPFD_CLOEXEC, 10);
			close(pair[child_end]);
			ours = pair[!child_end];
		}
		if (i == WIRE_STDIN) {
			s->stdin_fd = ours;
			s->stdin_is_pty = ours == s->pty;
		} else {
			s->out[i].fd = ours;
		}
		fcntl(ours, F_SETFL, fcntl(ours, F_GETFL) | O_NONBLOCK);
	}
	/* A terminal's output is one stream. */
	if (s->pty >= 0 && s->out[WIRE_STDOUT].fd == s->out[WIRE_STDERR].fd)
		s->out[WIRE_STDERR].fd = -1;
	close_fd(&slave);
	return 0;
}

static void prepare_world(const struct wire_start *st)
{
	const char *hostname = (const char *)(st + 1);
	struct timespec now = { (time_t)(st->realtime_ns / 1000000000),
				(long)(st->realtime_ns % 1000000000) };
	char path[64];

	clock_settime(CLOCK_REALTIME, &now);
	sethostname(hostname, strlen(hostname));
	mount_world();
	snprintf(path, sizeof(path), "/run/user/%u", st->uid);
	if (mkdir(path, 0700) == 0 && chown(path, st->uid, st->gid) < 0)
		rmdir(path);
}

static bool start_is_sound(const struct session *s)
{
	const struct wire_start *st = (const struct wire_start *)(void *)s->start;
	size_t strings = 0;

	if (s->start_len < sizeof(*st) || st->groups_count > ARRAY_SIZE(st->groups))
		return false;
	for (size_t i = sizeof(*st); i < s->start_len; i++)
		strings += s->start[i] == 0;
	return st->argc > 0 && strings == (size_t)2 + st->argc + st->envc;
}

static void look_for_stall(const struct session *s)
{
	const char *p = (const char *)s->start + sizeof(struct wire_start);
	const char *end = (const char *)s->start + s->start_len;

	for (; p < end; p += strlen(p) + 1)
		if (strncmp(p, STALL_VARIABLE, strlen(STALL_VARIABLE)) == 0)
			stalled_cpu = atoi(p + strlen(STALL_VARIABLE));
}

static void session_start(struct session *s)
{
	const struct wire_start *st = (const struct wire_start *)(void *)s->start;
	struct wire_started failed;
	int theirs[3] = { -1, -1, -1 };
	int report[2], ret;

	if (!start_is_sound(s)) {
		send_started(s, EPROTO, WIRE_STAGE_SETUP);
		return;
	}
	look_for_stall(s);
	prepare_world(st);
	ret = open_streams(s, st, theirs);
	if (ret == 0 && pipe2(report, O_CLOEXEC) < 0)
		ret = -errno;
	if (ret < 0) {
		send_started(s, -ret, WIRE_STAGE_SETUP);
		return;
	}
	s->pid = fork();
	if (s->pid == 0) {
		int high = fcntl(report[1], F_DUPFD_CLOEXEC, 10);

		become_command(st, theirs, st->tty_streams != 0, high);
	}
	close(report[1]);
	for (int i = 0; i < 3; i++)
		close_fd(&theirs[i]);
	if (s->pid < 0) {
		close(report[0]);
		send_started(s, errno, WIRE_STAGE_SETUP);
		return;
	}
	/* Closed by a successful exec. */
	ret = (int)read(report[0], &failed, sizeof(failed));
	close(report[0]);
	free(s->start);
	s->start = NULL;
	if (ret == (int)sizeof(failed)) {
		waitpid(s->pid, NULL, 0);
		send_started(s, failed.error, failed.stage);
		return;
	}
	send_started(s, 0, WIRE_STAGE_NONE);
}

static void session_start_part(u16 id, const struct wire_frame *f)
{
	struct session *s = session_find(id);
	u8 *grown;

	if (!s)
		s = session_new(id);
	if (!s) {
		struct wire_started st = { .error = EAGAIN, .stage = WIRE_STAGE_SETUP };

		if (f->type == WIRE_START)
			link_send(&host, id, WIRE_STARTED, 0, &st, sizeof(st));
		return;
	}
	if (s->pid || s->start_len + f->len > WIRE_MAX_START)
		return;
	grown = realloc(s->start, s->start_len + f->len + 1);
	if (!grown)
		return;
	memcpy(grown + s->start_len, f->payload, f->len);
	s->start = grown;
	s->start_len += f->len;
	if (f->type == WIRE_START)
		session_start(s);
}

static void stdin_closed(struct session *s)
{
	if (s->stdin_fd != s->pty)
		close_fd(&s->stdin_fd);
	s->stdin_fd = -1;
	s->in_len = 0;
	link_send(&host, s->id, WIRE_CLOSE, WIRE_STDIN, NULL, 0);
}

/* Hands on what the command takes. */
static void stdin_push(struct session *s)
{
	size_t done = 0;
	u32 credit;

	while (s->stdin_fd >= 0 && done < s->in_len) {
		ssize_t n = write(s->stdin_fd, s->in + done, s->in_len - done);

		if (n > 0) {
			done += (size_t)n;
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN) {
			stdin_closed(s);
			return;
		}
		break;
	}
	if (done) {
		memmove(s->in, s->in + done, s->in_len - done);
		s->in_len -= done;
		credit = (u32)done;
		link_send(&host, s->id, WIRE_CREDIT, WIRE_STDIN, &credit, sizeof(credit));
	}
	if (s->stdin_eof && !s->in_len && !s->stdin_is_pty)
		close_fd(&s->stdin_fd);
}

static void stdin_data(struct session *s, const struct wire_frame *f)
{
	if (s->stdin_fd < 0 || s->in_len + f->len > WIRE_WINDOW)
		return;
	if (!s->in)
		s->in = malloc(WIRE_WINDOW);
	if (!s->in)
		return;
	memcpy(s->in + s->in_len, f->payload, f->len);
	s->in_len += f->len;
	stdin_push(s);
}

static void session_signal(struct session *s, const struct wire_signal *sig)
{
	pid_t to = s->pid;

	if (!s->pid || s->exited)
		return;
	if (sig->group && s->pty >= 0 && ioctl(s->pty, TIOCGPGRP, &to) < 0)
		to = s->pid;
	kill(sig->group ? -to : to, sig->number);
}

static void session_hangup(struct session *s)
{
	if (s->pid && !s->exited) {
		kill(-s->pid, SIGHUP);
		kill(-s->pid, SIGCONT);
	}
	/* Nobody reads: the command must not wait for a reader. */
	if (s->stdin_fd == s->pty)
		s->stdin_fd = -1;
	for (int o = 0; o < WIRE_STREAMS; o++) {
		if (s->out[o].fd == s->pty)
			s->out[o].fd = -1;
		close_fd(&s->out[o].fd);
	}
	close_fd(&s->stdin_fd);
	close_fd(&s->pty);
}

static void frame_in(const struct wire_frame *f)
{
	struct session *s;

	if (f->type == WIRE_PING) {
		ping();
		return;
	}
	if (f->type == WIRE_START || f->type == WIRE_START_PART) {
		session_start_part(f->session, f);
		return;
	}
	s = session_find(f->session);
	if (!s)
		return; /* it ended while this was under way */
	switch (f->type) {
	case WIRE_DATA:
		stdin_data(s, f);
		break;
	case WIRE_EOF:
		s->stdin_eof = true;
		stdin_push(s);
		break;
	case WIRE_CREDIT:
		if (f->len == sizeof(u32) && f->stream < WIRE_STREAMS)
			s->out[f->stream].window += *(const u32 *)(const void *)f->payload;
		break;
	case WIRE_CLOSE:
		if (f->stream < WIRE_STREAMS && s->out[f->stream].fd != s->pty)
			close_fd(&s->out[f->stream].fd);
		break;
	case WIRE_SIGNAL:
		if (f->len == sizeof(struct wire_signal))
			session_signal(s, (const struct wire_signal *)(const void *)f->payload);
		break;
	case WIRE_RESIZE:
		if (f->len == sizeof(struct winsize) && s->pty >= 0)
			ioctl(s->pty, TIOCSWINSZ, f->payload);
		break;
	case WIRE_HANGUP:
		session_hangup(s);
		break;
	}
}

static void output_end(struct session *s, int stream)
{
	struct output *o = &s->out[stream];

	if (o->fd == s->pty)
		o->fd = -1;
	close_fd(&o->fd);
	if (!o->eof_sent)
		link_send(&host, s->id, WIRE_EOF, (u8)stream, NULL, 0);
	o->eof_sent = true;
}

static void output_read(struct session *s, int stream)
{
	static u8 buf[WIRE_MAX_PAYLOAD];
	struct output *o = &s->out[stream];
	size_t want = o->window < sizeof(buf) ? o->window : sizeof(buf);
	ssize_t n;

	if (!want)
		return;
	n = read(o->fd, buf, want);
	if (n > 0) {
		o->window -= (u32)n;
		link_send(&host, s->id, WIRE_DATA, (u8)stream, buf, (size_t)n);
	} else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
		output_end(s, stream);
	} else if (errno == EAGAIN && s->exited &&
		   (o->fd != s->pty || now_ms() - s->exited_ms > PTY_DRAIN_MS)) {
		/* All that the command wrote has been read; what its children still
		 * write after its end is nobody's, as with a remote shell. */
		output_end(s, stream);
	}
}

static void session_reap(struct session *s)
{
	s32 status = s->status;

	for (int o = WIRE_STDOUT; o <= WIRE_STDERR; o++)
		if (s->out[o].fd >= 0)
			return;
	link_send(&host, s->id, WIRE_EXIT, 0, &status, sizeof(status));
	session_free(s);
}

static void reap(void)
{
	struct signalfd_siginfo si;
	int status;
	pid_t pid;

	while (read(signals_fd, &si, sizeof(si)) == (ssize_t)sizeof(si))
		;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		for (int i = 0; i < MAX_SESSIONS; i++) {
			struct session *s = &sessions[i];

			if (!s->used || s->pid != pid || s->exited)
				continue;
			s->exited = true;
			s->exited_ms = now_ms();
			s->status = status;
		}
	}
}

/* --- the loop ------------------------------------------------------------------------------ */

static void poll_once(void)
{
	struct pollfd fds[2 + MAX_SESSIONS * 3];
	struct {
		struct session *s;
		int stream;
	} who[ARRAY_SIZE(fds)];
	struct wire_frame *f;
	int count = 0, timeout = -1, error = 0;

	fds[count++] = (struct pollfd){ .fd = host.fd,
					.events = POLLIN | (link_pending(&host) ? POLLOUT : 0) };
	fds[count++] = (struct pollfd){ .fd = signals_fd, .events = POLLIN };
	for (int i = 0; i < MAX_SESSIONS; i++) {
		struct session *s = &sessions[i];

		if (!s->used || !s->pid)
			continue;
		if (s->stdin_fd >= 0 && s->in_len) {
			who[count].s = s;
			who[count].stream = WIRE_STDIN;
			fds[count++] = (struct pollfd){ .fd = s->stdin_fd, .events = POLLOUT };
		}
		for (int o = WIRE_STDOUT; o <= WIRE_STDERR; o++) {
			if (s->out[o].fd < 0 || !s->out[o].window)
				continue;
			who[count].s = s;
			who[count].stream = o;
			fds[count++] = (struct pollfd){ .fd = s->out[o].fd, .events = POLLIN };
			if (s->exited)
				timeout = s->pty >= 0 ? 10 : 0;
		}
	}
	if (poll(fds, (nfds_t)count, timeout) < 0 && errno != EINTR)
		die("poll");

	if (fds[1].revents)
		reap();
	for (int i = 2; i < count; i++) {
		struct session *s = who[i].s;

		if (who[i].stream == WIRE_STDIN) {
			if (fds[i].revents)
				stdin_push(s);
		} else if ((fds[i].revents || s->exited) && s->out[who[i].stream].fd >= 0) {
			output_read(s, who[i].stream);
		}
	}
	for (int i = 0; i < MAX_SESSIONS; i++)
		if (sessions[i].used && sessions[i].exited)
			session_reap(&sessions[i]);
	if (fds[0].revents & POLLOUT)
		link_flush(&host);
	if (fds[0].revents & (POLLIN | POLLHUP)) {
		/* A port without its outer process only says POLLHUP: QEMU is about to end. */
		if (fds[0].revents & POLLIN ? link_fill(&host) < 0 : true)
			usleep(10000);
		while ((f = link_next(&host, &error)) != NULL)
			frame_in(f);
		if (error)
			die("frame");
	}
}

int main(void)
{
	u32 version = WIRE_VERSION;
	sigset_t chld;
	int fd;

	mkdir("/proc", 0755);
	mkdir("/sys", 0755);
	mkdir("/dev", 0755);
	mkdir("/host", 0755);
	mount("proc", "/proc", "proc", 0, NULL);
	mount("sys", "/sys", "sysfs", 0, NULL);
	mount("dev", "/dev", "devtmpfs", 0, NULL);
	fd = open("/dev/console", O_RDWR);
	if (fd >= 0)
		for (int i = 0; i < 3; i++)
			dup2(fd, i);
	if (fd > 2)
		close(fd);
	/* Each run of pages of a child partition is a mapping. */
	write_file("/proc/sys/vm/max_map_count", "16777216\n");
	/* For who asks: a fault of the memory below a guest is dear here. */
	write_file("/sys/kernel/mm/transparent_hugepage/shmem_enabled", "advise\n");
	load_modules();
	network_up();

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	sigprocmask(SIG_BLOCK, &chld, NULL);
	signals_fd = signalfd(-1, &chld, SFD_NONBLOCK | SFD_CLOEXEC);
	if (signals_fd < 0 || link_init(&host, open_port()) < 0)
		die("start");
	link_send(&host, 0, WIRE_HELLO, 0, &version, sizeof(version));
	for (;;)
		poll_once();
}
