// SPDX-License-Identifier: MIT
/*
 * Everything here that QEMU gets, it gets as inherited file descriptors (initramfs,
 * agent port, QMP, logs), so a killed outer process leaves no file behind.
 */
#include "incubator/emu.h"

#include "base/log.h"
#include "incubator/initramfs.h"
#include "incubator/wire.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#define QEMU_MIN_MAJOR	10
#define DEFAULT_MEMORY	(4 * GIB)
#define MEMORY_OVERHEAD (512 * MIB) /* kernel, page cache and the command itself */
#define QMP_TIMEOUT_MS	20000
#define MAX_ARGS	96

/* --- finding the parts --------------------------------------------------------------------- */

static bool exists(const char *path)
{
	return path[0] && access(path, R_OK) == 0;
}

PRINTF_FMT(2, 3) static void set_path(char out[EMU_PATH], const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(out, EMU_PATH, fmt, ap);
	va_end(ap);
	if (n < 0 || n >= EMU_PATH)
		out[0] = 0;
}

static void find_cache(char out[EMU_PATH])
{
	const char *own = getenv("NESTOR_CACHE"), *xdg = getenv("XDG_CACHE_HOME");
	const char *home = getenv("HOME");

	if (own && own[0])
		set_path(out, "%s", own);
	else if (xdg && xdg[0])
		set_path(out, "%s/nestor", xdg);
	else
		set_path(out, "%s/.cache/nestor", home && home[0] ? home : "/root");
}

static void find_in_path(char out[EMU_PATH], const char *name)
{
	const char *path = getenv("PATH");

	out[0] = 0;
	if (!path)
		path = "/usr/local/bin:/usr/bin:/bin";
	while (*path) {
		size_t len = strcspn(path, ":");

		set_path(out, "%.*s/%s", (int)len, path, name);
		if (access(out, X_OK) == 0)
			return;
		out[0] = 0;
		path += len + (path[len] == ':');
	}
}

/* "QEMU emulator version 10.0.2 (Debian ...)". Asking takes 50 ms, so the answer is kept. */
static void ask_qemu_version(struct emu_plan *p)
{
	char line[256] = "", command[EMU_PATH + 32];
	FILE *f;

	snprintf(command, sizeof(command), "'%s' --version 2>/dev/null", p->qemu);
	f = popen(command, "re");
	if (!f)
		return;
	if (fgets(line, sizeof(line), f) && strstr(line, "version "))
		snprintf(p->qemu_version, sizeof(p->qemu_version), "%.*s",
			 (int)strcspn(strstr(line, "version ") + 8, "\n"),
			 strstr(line, "version ") + 8);
	while (fgets(line, sizeof(line), f))
		;
	pclose(f);
}

static void find_qemu(struct emu_plan *p)
{
	const char *own = getenv("NESTOR_QEMU");
	char memo[EMU_PATH], stamp[EMU_PATH + 96], known[EMU_PATH + 192] = "";
	struct stat st;
	FILE *f;

	if (own && own[0])
		set_path(p->qemu, "%s", own);
	else
		find_in_path(p->qemu, "qemu-system-x86_64");
	if (!exists(p->qemu) || stat(p->qemu, &st) < 0) {
		p->qemu[0] = 0;
		return;
	}
	snprintf(stamp, sizeof(stamp), "%s %lld %lld ", p->qemu, (long long)st.st_size,
		 (long long)st.st_mtime);
	set_path(memo, "%s/incubator/qemu-version", p->cache);
	f = fopen(memo, "re");
	if (f) {
		if (fgets(known, sizeof(known), f) && strncmp(known, stamp, strlen(stamp)) == 0)
			snprintf(p->qemu_version, sizeof(p->qemu_version), "%s",
				 known + strlen(stamp));
		fclose(f);
	}
	if (!p->qemu_version[0]) {
		char temp[EMU_PATH + 32];

		ask_qemu_version(p);
		snprintf(temp, sizeof(temp), "%s.%d", memo, (int)getpid());
		f = p->qemu_version[0] ? fopen(temp, "we") : NULL;
		if (f) {
			fprintf(f, "%s%s", stamp, p->qemu_version);
			if (fclose(f) != 0 || rename(temp, memo) < 0)
				unlink(temp);
		}
	}
	p->qemu_major = atoi(p->qemu_version);
}

static void find_kernel(struct emu_plan *p)
{
	const char *own = getenv("NESTOR_INCUBATOR_KERNEL");
	char link[EMU_PATH];

	p->kernel[0] = p->modules[0] = 0;
	if (own && own[0]) {
		set_path(p->kernel, "%s", own);
		p->small = true;
		return;
	}
	if (p->policy != EMU_STOCK) {
		set_path(link, "%s/incubator/small/current/vmlinux", p->cache);
		if (exists(link)) {
			char *real = realpath(link, NULL);

			set_path(p->kernel, "%s", real ? real : link);
			free(real);
			p->small = true;
			return;
		}
	}
	if (p->policy == EMU_SMALL)
		return;
	set_path(link, "%s/incubator/stock/vmlinuz", p->cache);
	if (!exists(link))
		return;
	set_path(p->kernel, "%s", link);
	set_path(p->modules, "%s/incubator/stock/modules", p->cache);
}

static enum emu_policy read_policy(void)
{
	static const char *const names[] = { "auto", "stock", "small", "saved", "off" };
	const char *s = getenv("NESTOR_INCUBATOR");

	for (size_t i = 0; s && i < ARRAY_SIZE(names); i++)
		if (strcmp(s, names[i]) == 0)
			return (enum emu_policy)i;
	if (s && s[0])
		log_warning("NESTOR_INCUBATOR=%s is not one of auto, stock, small, saved, off", s);
	return EMU_AUTO;
}

static u32 default_cpus(void)
{
	cpu_set_t set;
	int n = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 2;

	/* Two, so that what depends on concurrency is seen; few, because emulation of more
	 * than the host has only makes them wait for each other. */
	return n < 2 ? 2 : n > 16 ? 16 : (u32)n;
}

static u64 choose_memory(u64 need)
{
	struct sysinfo si;
	u64 total = DEFAULT_MEMORY * 2, size;

	if (sysinfo(&si) == 0)
		total = (u64)si.totalram * si.mem_unit;
	for (size = DEFAULT_MEMORY; size > total * 3 / 4 && size > GIB; size /= 2)
		;
	/*
	 * RAM that is not touched costs nothing; powers of two keep saved machines few. Not
	 * more than the host has: a command that wants more hopes not to touch it either.
	 */
	while (need && size < need + MEMORY_OVERHEAD && size * 2 <= total)
		size *= 2;
	return size;
}

/* --- the clock ----------------------------------------------------------------------------- */

/* A moment as both clocks see it: of a few readings, the one that took least time. */
static void read_clocks(u64 *tsc, u64 *ns)
{
	u64 best = ~0ull;

	for (int i = 0; i < 8; i++) {
		struct timespec t;
		u64 before = __rdtsc(), after;

		clock_gettime(CLOCK_MONOTONIC_RAW, &t);
		after = __rdtsc();
		if (after - before >= best)
			continue;
		best = after - before;
		*tsc = before + best / 2;
		*ns = (u64)t.tv_sec * 1000000000ull + (u64)t.tv_nsec;
	}
}

/*
 * The machine's time-stamp counter runs at the host's rate. A kernel that measures
 * it while the host is busy fails, calls it unstable, and then KVM guests hang: so
 * it is told.
 */
static u64 measure_tsc_khz(void)
{
	struct timespec wait = { .tv_nsec = 15 * 1000 * 1000 };
	u64 tsc0, tsc1, ns0, ns1;

	read_clocks(&tsc0, &ns0);
	nanosleep(&wait, NULL);
	read_clocks(&tsc1, &ns1);
	return (u64)((u128)(tsc1 - tsc0) * 1000000u / (ns1 - ns0));
}

/* --- the command line ---------------------------------------------------------------------- */

struct args {
	char *v[MAX_ARGS];
	int count;
};

PRINTF_FMT(2, 3) static void arg(struct args *a, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	if (a->count >= MAX_ARGS - 1 || vasprintf(&a->v[a->count], fmt, ap) < 0)
		abort();
	a->count++;
	a->v[a->count] = NULL;
	va_end(ap);
}

static void args_free(struct args *a)
{
	for (int i = 0; i < a->count; i++)
		free(a->v[i]);
	a->count = 0;
}

/*
 * One more than commands see. FXRSTOR, XRSTOR and FLDENV on any CPU make QEMU 10.0 change the
 * first CPU's hflags2 in an unlocked read-modify-write (cpu_clear_ignne), which brings back
 * bits that VMRUN or #VMEXIT on the first CPU changed at that moment. So nothing runs a
 * virtual machine there.
 */
static u32 machine_cpus(const struct emu_plan *p)
{
	return p->cpus + 1;
}

enum inherited { IN_AGENT, IN_QMP, IN_LOG, IN_INITRD, IN_COUNT };

/* Without @mode's own part and descriptors (-1) this text is part of the saved machine's key. */
static void build_args(struct args *a, const struct emu_plan *p, const int fd[IN_COUNT],
		       u64 tsc_khz)
{
	const char *security = geteuid() == 0 ? "passthrough" : "none";

	arg(a, "%s", p->qemu);
	arg(a, "-nodefaults");
	arg(a, "-no-user-config");
	arg(a, "-no-reboot");
	arg(a, "-name");
	arg(a, "nestor,debug-threads=on"); /* emu_sample() finds threads by their names */
	arg(a, "-display");
	arg(a, "none");
	arg(a, "-machine");
	arg(a, "pc,memory-backend=ram,hpet=off,vmport=off,smm=off,usb=off,graphics=off,fd-bootchk="
	       "off");
	arg(a, "-accel");
	arg(a, "tcg,thread=multi");
	/*
	 * Not what makes emulated guests slow: a fifth level of page tables at every look-up,
	 * and ERMS, for which kernels clear and copy memory byte by byte.
	 */
	arg(a, "-cpu");
	arg(a, "max,la57=off,erms=off,fsrm=off");
	arg(a, "-smp");
	arg(a, "%u", machine_cpus(p));
	arg(a, "-m");
	arg(a, "%lluM", (unsigned long long)(p->memory_bytes / MIB));
	arg(a, "-kernel");
	arg(a, "%s", p->kernel);
	arg(a, "-initrd");
	arg(a, "/proc/self/fd/%d", fd[IN_INITRD]);
	arg(a, "-append");
	arg(a,
	    "console=ttyS0 quiet loglevel=3 panic=-1 tsc=reliable tsc_early_khz=%llu "
	    "no_timer_check rcupdate.rcu_expedited=1 mitigations=off nokaslr "
	    "random.trust_cpu=on rdinit=/init",
	    (unsigned long long)tsc_khz);
	arg(a, "-chardev");
	arg(a, "file,id=log,path=/proc/self/fd/%d,append=on", fd[IN_LOG]);
	arg(a, "-serial");
	arg(a, "chardev:log");
	arg(a, "-chardev");
	arg(a, "socket,id=qmp,fd=%d", fd[IN_QMP]);
	arg(a, "-mon");
	arg(a, "chardev=qmp,mode=control");
	arg(a, "-device");
	arg(a, "virtio-serial-pci,max_ports=2");
	arg(a, "-chardev");
	arg(a, "socket,id=agent,fd=%d", fd[IN_AGENT]);
	arg(a, "-device");
	arg(a, "virtserialport,chardev=agent,name=" WIRE_PORT);
	/* Without the detour through the main loop, an operation takes a fifth less. */
	arg(a, "-fsdev");
	arg(a, "local,id=root,path=/,security_model=%s,multidevs=remap", security);
	arg(a, "-device");
	arg(a, "virtio-9p-pci,fsdev=root,mount_tag=root,ioeventfd=off");
	arg(a, "-fsdev");
	arg(a, "local,id=usr,path=/usr,security_model=%s,multidevs=remap,readonly=on", security);
	arg(a, "-device");
	arg(a, "virtio-9p-pci,fsdev=usr,mount_tag=usr,ioeventfd=off");
	arg(a, "-netdev");
	arg(a, "user,id=net");
	arg(a, "-device");
	arg(a, "virtio-net-pci,netdev=net,romfile=");
	arg(a, "-device");
	arg(a, "virtio-rng-pci");
}

static void add_mode_args(struct args *a, const struct emu_plan *p, enum emu_mode mode,
			  const char *ram_path)
{
	unsigned long long mib = p->memory_bytes / MIB;

	arg(a, "-object");
	switch (mode) {
	case EMU_COLD:
		arg(a, "memory-backend-ram,id=ram,size=%lluM,reserve=off", mib);
		break;
	case EMU_TO_SAVE:
		arg(a, "memory-backend-file,id=ram,size=%lluM,mem-path=%s,share=on", mib, ram_path);
		break;
	case EMU_RESTORE:
		/* Pages come from the file as they are touched; what is written stays private. */
		arg(a,
		    "memory-backend-file,id=ram,size=%lluM,mem-path=%s/ram,share=off,reserve=off",
		    mib, p->saved_dir);
		arg(a, "-incoming");
		arg(a, "defer");
		break;
	}
}

/* --- the saved machine's name -------------------------------------------------------------- */

static u64 fnv(u64 h, const void *data, size_t len)
{
	const u8 *b = data;

	for (size_t i = 0; i < len; i++)
		h = (h ^ b[i]) * 0x100000001b3ull;
	return h;
}

static void file_identity(FILE *f, const char *label, const char *path)
{
	struct stat st;

	if (path[0] && stat(path, &st) == 0)
		fprintf(f, "%s %s %lld %lld.%09ld\n", label, path, (long long)st.st_size,
			(long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
}

static void cpu_model(char *out, size_t size)
{
	FILE *f = fopen("/proc/cpuinfo", "re");
	char line[256];

	out[0] = 0;
	while (f && fgets(line, sizeof(line), f)) {
		if (strncmp(line, "model name", 10) == 0) {
			snprintf(out, size, "%s", line);
			break;
		}
	}
	if (f)
		fclose(f);
}

static void make_key(struct emu_plan *p)
{
	static const int none[IN_COUNT] = { -1, -1, -1, -1 };
	const u8 *agent;
	size_t agent_len, key_len;
	char cpu[256];
	struct args a = { 0 };
	FILE *f;

	f = open_memstream(&p->key, &key_len);
	if (!f)
		return;
	agent = initramfs_agent(&agent_len);
	build_args(&a, p, none, 0);
	for (int i = 0; i < a.count; i++)
		fprintf(f, "arg %s\n", a.v[i]);
	args_free(&a);
	file_identity(f, "qemu", p->qemu);
	fprintf(f, "version %s\n", p->qemu_version);
	file_identity(f, "kernel", p->kernel);
	file_identity(f, "modules", p->modules);
	fprintf(f, "agent %zu %016llx\n", agent_len,
		(unsigned long long)fnv(0xcbf29ce484222325ull, agent, agent_len));
	cpu_model(cpu, sizeof(cpu));
	fprintf(f, "%s", cpu);
	if (fclose(f) != 0 || !p->key)
		return;
	set_path(p->saved_dir, "%s/incubator/saved/%016llx", p->cache,
		 (unsigned long long)fnv(0xcbf29ce484222325ull, p->key, key_len));
}

/* The text is compared as a whole: a hash may collide, a half-written directory may exist. */
static void find_saved(struct emu_plan *p)
{
	char path[EMU_PATH + 8], *text;
	size_t len;
	FILE *f;

	if (!p->key)
		return;
	snprintf(path, sizeof(path), "%s/key", p->saved_dir);
	f = fopen(path, "re");
	if (!f)
		return;
	len = strlen(p->key);
	text = calloc(1, len + 2);
	p->saved = text && fread(text, 1, len + 1, f) == len && memcmp(text, p->key, len) == 0;
	free(text);
	fclose(f);
}

void emu_plan_make(struct emu_plan *p, u32 cpus, u64 memory_bytes)
{
	*p = (struct emu_plan){ .policy = read_policy() };
	find_cache(p->cache);
	find_qemu(p);
	find_kernel(p);
	p->cpus = cpus ? cpus : default_cpus();
	p->memory_bytes = choose_memory(memory_bytes);
	make_key(p);
	find_saved(p);
}

void emu_plan_fini(struct emu_plan *p)
{
	free(p->key);
	p->key = NULL;
}

bool emu_plan_usable(const struct emu_plan *p, char *why, size_t size)
{
	if (p->policy == EMU_OFF)
		snprintf(why, size, "the incubator is switched off (NESTOR_INCUBATOR=off)");
	else if (!p->qemu[0])
		snprintf(why, size,
			 "the incubator needs qemu-system-x86_64 %d or newer; install it with: "
			 "tools/setup",
			 QEMU_MIN_MAJOR);
	else if (p->qemu_major < QEMU_MIN_MAJOR)
		snprintf(why, size,
			 "%s is version %s; the incubator needs %d or newer; install it with: "
			 "tools/setup",
			 p->qemu, p->qemu_version[0] ? p->qemu_version : "unknown", QEMU_MIN_MAJOR);
	else if (!p->kernel[0] && p->policy == EMU_SMALL)
		snprintf(why, size,
			 "the incubator's small kernel is not built; build it with: "
			 "tools/incubator-kernel");
	else if (!exists(p->kernel))
		snprintf(why, size,
			 "there is no kernel for the incubator in %s; get one with: "
			 "tools/kernels fetch",
			 p->cache);
	else
		return true;
	return false;
}

/* --- one QEMU ------------------------------------------------------------------------------ */

static u64 now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (u64)t.tv_sec * 1000 + (u64)t.tv_nsec / 1000000;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* In the child. Only async-signal-safe calls: the parent may have threads. */
static void become_qemu(const struct args *a, int fd[IN_COUNT], int stderr_fd, pid_t parent)
{
	sigset_t none;
	int null = open("/dev/null", O_RDWR);

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	for (int i = 1; i < NSIG; i++)
		signal(i, SIG_DFL);
	/* Out of the terminal's reach, and gone when its parent is. */
	setsid();
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
		_exit(1);
	dup2(null, 0);
	dup2(null, 1);
	dup2(stderr_fd, 2);
	/* Whatever else the caller has open is none of QEMU's business. */
	close_range(3, ~0u, CLOSE_RANGE_CLOEXEC);
	for (int i = 0; i < IN_COUNT; i++)
		fcntl(fd[i], F_SETFD, 0);
	execv(a->v[0], a->v);
	_exit(127);
}

static int qmp_send(struct emu *e, const char *text)
{
	return write(e->qmp_fd, text, strlen(text)) == (ssize_t)strlen(text) ? 0 : -EPIPE;
}

/* Reads QMP lines until one contains @want. -EREMOTEIO on an error answer. */
static int qmp_wait(struct emu *e, const char *want)
{
	char line[4096];
	size_t len = 0;
	u64 end = now_ms() + QMP_TIMEOUT_MS;

	for (;;) {
		struct pollfd fd = { .fd = e->qmp_fd, .events = POLLIN };
		u64 now = now_ms();
		ssize_t n;

		if (now >= end)
			return -ETIMEDOUT;
		if (poll(&fd, 1, (int)(end - now)) < 0 && errno != EINTR)
			return -errno;
		if (!fd.revents)
			continue;
		n = read(e->qmp_fd, line + len, 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -EPIPE;
		if (line[len] != '\n' && len < sizeof(line) - 2) {
			len++;
			continue;
		}
		line[len] = 0;
		len = 0;
		if (strstr(line, want))
			return 0;
		if (strstr(line, "\"error\"")) {
			log_debug("QEMU: %s", line);
			return -EREMOTEIO;
		}
	}
}

static int qmp_command(struct emu *e, const char *text)
{
	int ret = qmp_send(e, text);

	return ret ? ret : qmp_wait(e, "\"return\"");
}

#define QMP_IGNORE_SHARED                                                                          \
	"{\"execute\":\"migrate-set-capabilities\",\"arguments\":{\"capabilities\":"               \
	"[{\"capability\":\"x-ignore-shared\",\"state\":true},"                                    \
	"{\"capability\":\"events\",\"state\":true}]}}\n"

static int restore(struct emu *e, const struct emu_plan *p)
{
	char text[EMU_PATH + 128];
	int ret;

	ret = qmp_command(e, "{\"execute\":\"qmp_capabilities\"}\n");
	if (!ret)
		ret = qmp_command(e, QMP_IGNORE_SHARED);
	snprintf(text, sizeof(text),
		 "{\"execute\":\"migrate-incoming\",\"arguments\":{\"uri\":\"file:%s/state\"}}\n",
		 p->saved_dir);
	if (!ret)
		ret = qmp_send(e, text);
	/* Input sent before the machine runs again would be lost. */
	return ret ? ret : qmp_wait(e, "\"RESUME\"");
}

int emu_save(struct emu *e, const char *state_path)
{
	char text[EMU_PATH + 128];
	int ret;

	ret = qmp_command(e, "{\"execute\":\"qmp_capabilities\"}\n");
	if (!ret)
		ret = qmp_command(e, QMP_IGNORE_SHARED);
	snprintf(text, sizeof(text),
		 "{\"execute\":\"migrate\",\"arguments\":{\"uri\":\"file:%s\"}}\n", state_path);
	if (!ret)
		ret = qmp_send(e, text);
	return ret ? ret : qmp_wait(e, "\"completed\"");
}

int emu_start(struct emu *e, const struct emu_plan *p, enum emu_mode mode, const char *ram_path)
{
	int agent[2] = { -1, -1 }, qmp[2] = { -1, -1 }, fd[IN_COUNT], initrd = -1, ret = 0;
	pid_t self = getpid();
	struct args a = { 0 };

	*e = (struct emu){
		.pid = -1, .pidfd = -1, .agent_fd = -1, .qmp_fd = -1, .log_fd = -1, .stderr_fd = -1
	};
	/* A restored machine has its initramfs behind it, but QEMU wants to see the same options.
	 */
	initrd = initramfs_make(mode == EMU_RESTORE || !p->modules[0] ? NULL : p->modules);
	if (initrd < 0)
		return initrd;
	e->log_fd = memfd_create("nestor-console", MFD_CLOEXEC);
	e->stderr_fd = memfd_create("nestor-qemu", MFD_CLOEXEC);
	if (e->log_fd < 0 || e->stderr_fd < 0 ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, agent) < 0 ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, qmp) < 0) {
		ret = -errno;
		goto out;
	}
	fd[IN_AGENT] = agent[1];
	fd[IN_QMP] = qmp[1];
	fd[IN_LOG] = e->log_fd;
	fd[IN_INITRD] = initrd;
	build_args(&a, p, fd, mode == EMU_RESTORE ? 0 : measure_tsc_khz());
	add_mode_args(&a, p, mode, ram_path);
	e->agent_fd = agent[0];
	e->qmp_fd = qmp[0];
	agent[0] = qmp[0] = -1;

	e->cpus = machine_cpus(p);
	e->pid = fork();
	if (e->pid == 0)
		become_qemu(&a, fd, e->stderr_fd, self);
	if (e->pid < 0) {
		ret = -errno;
		goto out;
	}
	e->pidfd = (int)syscall(SYS_pidfd_open, e->pid, 0);
	close_fd(&agent[1]);
	close_fd(&qmp[1]);
	if (mode == EMU_RESTORE)
		ret = restore(e, p);
out:
	args_free(&a);
	close(initrd);
	for (int i = 0; i < 2; i++) {
		close_fd(&agent[i]);
		close_fd(&qmp[i]);
	}
	if (ret && e->pid < 0)
		emu_stop(e);
	return ret;
}

/* --- how QEMU's threads fare ---------------------------------------------------------------- */

static bool read_proc(pid_t pid, pid_t tid, const char *file, char *text, size_t size)
{
	char path[96];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/%s", (int)pid, (int)tid, file);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, text, size - 1);
	close(fd);
	text[n > 0 ? n : 0] = 0;
	return n > 0;
}

static void find_cpu_threads(struct emu *e)
{
	char path[64], name[64];
	struct dirent *t;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)e->pid);
	d = opendir(path);
	while (d && (t = readdir(d)) != NULL) {
		pid_t tid = (pid_t)atoi(t->d_name);
		unsigned int cpu;

		if (tid > 0 && read_proc(e->pid, tid, "comm", name, sizeof(name)) &&
		    sscanf(name, "CPU %u/TCG", &cpu) == 1 && cpu < ARRAY_SIZE(e->cpu_tid))
			e->cpu_tid[cpu] = tid;
	}
	if (d)
		closedir(d);
}

/* A host that does not count waiting (CONFIG_SCHED_INFO) tells at least what ran. */
static bool read_thread(pid_t pid, pid_t tid, struct pulse_thread *out)
{
	unsigned long long ran_ns, waited_ns, user, system;
	char text[1024], *rest;

	if (read_proc(pid, tid, "schedstat", text, sizeof(text)) &&
	    sscanf(text, "%llu %llu", &ran_ns, &waited_ns) == 2 && ran_ns) {
		out->ran_ms = ran_ns / 1000000;
		out->waited_ms = waited_ns / 1000000;
		return true;
	}
	if (!read_proc(pid, tid, "stat", text, sizeof(text)))
		return false;
	rest = strrchr(text, ')');
	if (!rest || sscanf(rest, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user,
			    &system) != 2)
		return false;
	out->ran_ms = (user + system) * 1000 / (u64)sysconf(_SC_CLK_TCK);
	out->waited_ms = now_ms(); /* unknown: it may have waited all the time */
	return true;
}

void emu_sample(struct emu *e, struct pulse_sample *out)
{
	char text[1024], *rest;

	*out = (struct pulse_sample){ 0 };
	if (e->pid <= 0)
		return;
	if (read_proc(e->pid, e->pid, "stat", text, sizeof(text))) {
		rest = strrchr(text, ')');
		out->stopped = rest && (rest[2] == 'T' || rest[2] == 't');
	}
	for (u32 i = 0; i < e->cpus && i < ARRAY_SIZE(e->cpu_tid); i++) {
		if (!e->cpu_tid[i])
			find_cpu_threads(e);
		if (!e->cpu_tid[i] || !read_thread(e->pid, e->cpu_tid[i], &out->thread[i]))
			return;
		out->cpus = i + 1;
	}
}

static void print_tail(int fd, const char *who)
{
	char text[2048];
	off_t end = fd >= 0 ? lseek(fd, 0, SEEK_END) : 0;
	off_t from = end > (off_t)sizeof(text) ? end - (off_t)sizeof(text) : 0;
	ssize_t n = end > 0 ? pread(fd, text, sizeof(text), from) : 0;

	if (n > 0)
		dprintf(STDERR_FILENO, "--- %s said:\n%.*s\n", who, (int)n, text);
}

void emu_explain(const struct emu *e)
{
	print_tail(e->stderr_fd, "QEMU");
	print_tail(e->log_fd, "the machine's console");
}

void emu_stop(struct emu *e)
{
	if (e->pid > 0) {
		kill(e->pid, SIGKILL);
		while (waitpid(e->pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	e->pid = -1;
	close_fd(&e->pidfd);
	close_fd(&e->agent_fd);
	close_fd(&e->qmp_fd);
	close_fd(&e->log_fd);
	close_fd(&e->stderr_fd);
}
