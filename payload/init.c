// SPDX-License-Identifier: MIT
/*
 * The first process of a guest that runs one command: mounts what a program
 * expects, loads modules, runs the command on the console and tells the monitor
 * its exit status. Static, without a libc: a few KiB in every guest.
 *
 *   /nestor/modules   names of module files, each with a NUL, in loading order
 *   /nestor/cmd       the command's arguments, each with a NUL
 *
 * Without a command it becomes the root's own init, or runs a shell. With
 * root=/dev/NAME, UUID=... or LABEL=... (of an ext2, 3 or 4) on the kernel's command
 * line all that happens on that disk.
 */
#include <asm/errno.h>
#include <asm/ioctls.h>
#include <linux/fcntl.h>

#define NESTOR_PAYLOAD
#include "dev/exit.h"
#include "payload/syscall.h"

#define MS_RDONLY 1
#define MS_NOSUID 2
#define MS_NODEV  4
#define MS_NOEXEC 8
#define MS_MOVE	  8192

#define MODULE_INIT_COMPRESSED_FILE 4

#define REBOOT_MAGIC1	 0xfee1dead
#define REBOOT_MAGIC2	 672274793
#define REBOOT_POWER_OFF 0x4321fedc
#define REBOOT_RESTART	 0x01234567

#define SIG(n)	     (1ul << ((n)-1))
#define SIG_KILL     9
#define SIG_USR1     10
#define SIG_USR2     12
#define SIG_TERM     15
#define SIG_CHLD     17
#define SIG_HUP	     1
#define SIG_PWR	     30
#define SIG_RT(n)    (34 + (n))
#define SIG_SETMASK  2
#define WAIT_NO_HANG 1

/* How programs ask init to end the machine: busybox's and sysvinit's ways, then systemd's. */
#define SIGS_POWER_OFF                                                                             \
	(SIG(SIG_USR1) | SIG(SIG_USR2) | SIG(SIG_PWR) | SIG(SIG_RT(3)) | SIG(SIG_RT(4)))
#define SIGS_RESTART (SIG(SIG_TERM) | SIG(SIG_RT(5)))
#define SIGS_OURS    (SIGS_POWER_OFF | SIGS_RESTART | SIG(SIG_CHLD))

#define STATUS_NOT_EXECUTABLE 126
#define STATUS_NOT_FOUND      127
#define STATUS_SIGNAL	      128

#define MAX_ARGS 1024

#define ROOT_WAIT_MS 60000 /* disks are found in the background */
#define ROOT_LOOK_MS 20

void init_main(long *stack) __attribute__((noreturn, used));

static char cmd_text[128 * 1024], module_text[16 * 1024], kernel_text[8192];
static unsigned long cmd_len;

static unsigned long len_of(const char *s)
{
	unsigned long n = 0;

	while (s[n])
		n++;
	return n;
}

static int starts_with(const char *s, const char *prefix)
{
	while (*prefix)
		if (*s++ != *prefix++)
			return 0;
	return 1;
}

static int ends_with(const char *s, const char *suffix)
{
	unsigned long n = len_of(s), m = len_of(suffix);

	return n >= m && starts_with(s + n - m, suffix);
}

static void say(const char *a, const char *b, const char *c, const char *d)
{
	const char *const parts[] = { "nestor: ", a, b, c, d, "\n" };

	for (unsigned int i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		sys_write(2, parts[i], len_of(parts[i]));
}

/* The monitor's ports, if the kernel lets us. */
static int ports_open(void)
{
	if (sys_ioperm(EXIT_PORT, EXIT_PORTS, 1) == 0)
		return 1;
	return sys_iopl(3) == 0;
}

static void event(enum exit_event e)
{
	if (ports_open())
		__asm__ volatile("outb %b0, %w1" : : "a"((unsigned char)e), "Nd"(EXIT_EVENT_PORT));
}

static void __attribute__((noreturn)) leave(unsigned int status)
{
	sys_ioctl(1, TCSBRK, 1); /* let the terminal send what it has */
	sys_sync();
	if (ports_open())
		__asm__ volatile("outl %0, %w1" : : "a"(status), "Nd"(EXIT_PORT));
	/* No monitor behind the port. */
	sys_reboot(REBOOT_MAGIC1, REBOOT_MAGIC2, REBOOT_POWER_OFF);
	for (;;)
		sys_pause();
}

static void mounts(void)
{
	static const struct {
		const char *type, *dir;
		unsigned long flags;
		const char *data;
	} rows[] = {
		{ "proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, "" },
		{ "sysfs", "/sys", MS_NOSUID | MS_NODEV | MS_NOEXEC, "" },
		{ "devtmpfs", "/dev", MS_NOSUID, "mode=0755" },
		{ "devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "mode=0620,ptmxmode=0666" },
		{ "tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777" },
		{ "tmpfs", "/run", MS_NOSUID | MS_NODEV, "mode=0755" },
		{ "tmpfs", "/tmp", MS_NOSUID | MS_NODEV, "mode=1777" },
	};

	/* What is there already stays: both calls then fail. */
	for (unsigned int i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		sys_mkdir(rows[i].dir, 0755);
		sys_mount(rows[i].type, rows[i].dir, rows[i].type, rows[i].flags, rows[i].data);
	}
}

/* The terminal behind /dev/console by its own name: only that can control a session. */
static void terminal_name(int console, char name[24])
{
	static const struct {
		unsigned int major, first;
		const char *prefix;
	} rows[] = { { 4, 64, "/dev/ttyS" }, { 229, 0, "/dev/hvc" }, { 4, 0, "/dev/tty" } };
	unsigned int dev = 0, number;
	char *p = name;

	sys_ioctl(console, 0x80045432 /* TIOCGDEV */, (long)&dev);
	for (unsigned int i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		number = dev & 0xFF;
		if (dev >> 8 != rows[i].major || number < rows[i].first)
			continue;
		for (const char *s = rows[i].prefix; *s; s++)
			*p++ = *s;
		number -= rows[i].first;
		if (number > 9)
			*p++ = (char)('0' + number / 10 % 10);
		*p++ = (char)('0' + number % 10);
		break;
	}
	*p = '\0';
}

static void console_open(void)
{
	char name[24];
	long console = sys_open("/dev/console", O_RDWR | O_NOCTTY), tty = -1;

	if (console < 0)
		return;
	terminal_name((int)console, name);
	if (*name)
		tty = sys_open(name, O_RDWR | O_NOCTTY);
	if (tty < 0)
		tty = console;
	for (int fd = 0; fd < 3; fd++)
		if (tty != fd)
			sys_dup2((int)tty, fd);
	if (tty > 2)
		sys_close((int)tty);
	if (console > 2 && console != tty)
		sys_close((int)console);
}

/* Bytes read; the buffer always ends with a NUL. */
static unsigned long read_file(const char *name, char *buf, unsigned long size)
{
	long fd = sys_open(name, O_RDONLY), n = 0;
	unsigned long len = 0;

	if (fd < 0)
		return 0;
	while (len < size - 1 && (n = sys_read((int)fd, buf + len, size - 1 - len)) > 0)
		len += (unsigned long)n;
	sys_close((int)fd);
	buf[len] = '\0';
	return len;
}

static void module_load(const char *name)
{
	int compressed = !ends_with(name, ".ko");
	long fd = sys_open(name, O_RDONLY), ret = fd;

	if (fd >= 0) {
		ret = sys_finit_module((int)fd, "", compressed ? MODULE_INIT_COMPRESSED_FILE : 0);
		sys_close((int)fd);
	}
	/* -EEXIST: loaded already, or built in. */
	if (ret < 0 && ret != -EEXIST) {
		char number[12], *p = number + sizeof(number) - 1;

		*p = '\0';
		for (long v = -ret; v; v /= 10)
			*--p = (char)('0' + v % 10);
		say("cannot load /", name, ": error ", p);
	}
}

static void modules_load(void)
{
	unsigned long len = read_file("/nestor/modules", module_text, sizeof(module_text));

	for (const char *p = module_text; p < module_text + len; p += len_of(p) + 1) {
		module_load(p);
		sys_unlink(p); /* its memory is the guest's */
	}
}

/* The value of the last "name=value" word of the kernel's command line, or NULL. */
static char *kernel_option(const char *name)
{
	char *found = (char *)0;

	for (char *p = kernel_text; *p; p += len_of(p) + 1)
		if (starts_with(p, name) && p[len_of(name)] == '=')
			found = p + len_of(name) + 1;
	return found;
}

static int kernel_word(const char *word)
{
	for (char *p = kernel_text; *p; p += len_of(p) + 1)
		if (starts_with(p, word) && len_of(p) == len_of(word))
			return 1;
	return 0;
}

/* Words become strings, one behind the other; an empty one ends them. */
static void kernel_options_read(void)
{
	unsigned long len = read_file("/proc/cmdline", kernel_text, sizeof(kernel_text) - 1);
	char *to = kernel_text;

	for (char *p = kernel_text; p < kernel_text + len; p++) {
		int space = *p == ' ' || *p == '\n';

		if (!space)
			*to++ = *p;
		else if (to > kernel_text && to[-1])
			*to++ = '\0';
	}
	to[0] = to[1] = '\0';
}

/* As the kernel does without rootfstype=: each kind that lives on a disk. */
static long mount_any(const char *source, const char *dir, unsigned long flags, const char *data)
{
	static char kinds[4096];
	unsigned long len = read_file("/proc/filesystems", kinds, sizeof(kinds));
	long ret = -ENODEV, one;

	for (char *line = kinds, *p = kinds; p < kinds + len; p++) {
		if (*p != '\n')
			continue;
		*p = '\0';
		if (*line == '\t') {
			one = sys_mount(source, dir, line + 1, flags, data);
			if (one == 0)
				return 0;
			if (one != -EINVAL)
				ret = one;
		}
		line = p + 1;
	}
	return ret;
}

static void __attribute__((noreturn)) no_root(const char *name, const char *why)
{
	say("root=", name, why, "");
	leave(STATUS_NOT_FOUND);
}

/* The part of an ext2, 3 or 4 superblock that names it. */
#define EXT_SUPER	1024
#define EXT_MAGIC	0x38
#define EXT_UUID	0x68
#define EXT_LABEL	0x78
#define EXT_SUPER_BYTES 0x88

static int hex(char c)
{
	return c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10;
}

static int uuid_is(const unsigned char *uuid, const char *text)
{
	for (int i = 0; i < 16; i++, text += 2) {
		while (*text == '-')
			text++;
		if (!text[0] || !text[1] || (hex(text[0]) << 4 | hex(text[1])) != uuid[i])
			return 0;
	}
	return !*text;
}

static int label_is(const unsigned char *label, const char *text)
{
	int i = 0;

	while (i < 16 && label[i] && label[i] == (unsigned char)text[i])
		i++;
	return (i == 16 || !label[i]) && !text[i];
}

static int disk_is(const char *path, const char *wanted)
{
	unsigned char super[EXT_SUPER_BYTES];
	long fd = sys_open(path, O_RDONLY), n;

	if (fd < 0)
		return 0;
	n = sys_pread((int)fd, super, sizeof(super), EXT_SUPER);
	sys_close((int)fd);
	if (n != sizeof(super) || super[EXT_MAGIC] != 0x53 || super[EXT_MAGIC + 1] != 0xEF)
		return 0;
	return starts_with(wanted, "UUID=") ? uuid_is(super + EXT_UUID, wanted + 5)
					    : label_is(super + EXT_LABEL, wanted + 6);
}

/* Disks are found in any order, so their names may change; these do not. */
static int disk_by_name(const char *wanted, char path[300])
{
	static char entries[8192];
	long fd = sys_open("/sys/class/block", O_RDONLY | O_DIRECTORY), n;
	int found = 0;

	while (fd >= 0 && !found && (n = sys_getdents((int)fd, entries, sizeof(entries))) > 0) {
		for (char *e = entries; e < entries + n && !found;
		     e += *(unsigned short *)(e + 16)) { /* struct linux_dirent64 */
			char *p = path;

			for (const char *s = "/dev/"; *s; s++)
				*p++ = *s;
			for (const char *s = e + 19; *s; s++)
				*p++ = *s;
			*p = '\0';
			found = e[19] != '.' && disk_is(path, wanted);
		}
	}
	if (fd >= 0)
		sys_close((int)fd);
	return found;
}

/* root=: that file system becomes the root. */
static void root_switch(void)
{
	static const char *const moved[] = { "/dev", "/proc", "/sys", "/run" };
	const char *name = kernel_option("root"), *type = kernel_option("rootfstype"),
		   *data = kernel_option("rootflags");
	unsigned long flags = kernel_word("rw") ? 0 : MS_RDONLY;
	char target[32], path[300];
	int named;
	long ret;

	if (!name)
		return;
	named = starts_with(name, "UUID=") || starts_with(name, "LABEL=");
	if (!named && !starts_with(name, "/dev/"))
		no_root(name, ": only /dev/NAME, UUID= and LABEL= are understood");
	for (int ms = 0; named ? !disk_by_name(name, path) : sys_access(name, 0) < 0;
	     ms += ROOT_LOOK_MS) {
		if (ms >= ROOT_WAIT_MS)
			no_root(name, ": there is no such device");
		sys_sleep_ms(ROOT_LOOK_MS);
	}
	name = named ? path : name;
	sys_mkdir("/nestor/root", 0755);
	data = data ? data : "";
	ret = type ? sys_mount(name, "/nestor/root", type, flags, data)
		   : mount_any(name, "/nestor/root", flags, data);
	if (ret < 0)
		no_root(name, ": cannot be mounted");
	for (unsigned int i = 0; i < sizeof(moved) / sizeof(moved[0]); i++) {
		const char *prefix = "/nestor/root";
		char *p = target;

		while (*prefix)
			*p++ = *prefix++;
		for (const char *s = moved[i]; *s; s++)
			*p++ = *s;
		*p = '\0';
		sys_mount(moved[i], target, "", MS_MOVE, "");
	}
	if (sys_chdir("/nestor/root") < 0 || sys_mount(".", "/", "", MS_MOVE, "") < 0 ||
	    sys_chroot(".") < 0)
		no_root(name, ": cannot become the root");
}

static long exec_at(const char *dir, unsigned long dir_len, char **argv, char **envp)
{
	char path[4096], *p = path;

	if (dir_len + len_of(argv[0]) + 2 > sizeof(path))
		return -ENOENT;
	for (unsigned long i = 0; i < dir_len; i++)
		*p++ = dir[i];
	*p++ = '/';
	for (const char *s = argv[0]; *s; s++)
		*p++ = *s;
	*p = '\0';
	return sys_execve(path, argv, envp);
}

/* As execvp() with the PATH given; returns only when nothing could be run. */
static unsigned int exec_search(char **argv, char **envp, const char *path)
{
	unsigned int status = STATUS_NOT_FOUND;

	for (const char *s = argv[0]; *s; s++)
		if (*s == '/') {
			long ret = sys_execve(argv[0], argv, envp);

			return ret == -ENOENT ? STATUS_NOT_FOUND : STATUS_NOT_EXECUTABLE;
		}
	while (*path) {
		unsigned long n = 0;

		while (path[n] && path[n] != ':')
			n++;
		if (exec_at(path, n, argv, envp) != -ENOENT)
			status = STATUS_NOT_EXECUTABLE;
		path += path[n] ? n + 1 : n;
	}
	return status;
}

/* Everybody may save what they have; whoever is not gone after two seconds is ended. */
static void __attribute__((noreturn)) end_machine(unsigned int command)
{
	const struct sys_timespec tick = { 0, 20000000 };
	int wstatus;

	sys_kill(-1, SIG_TERM);
	sys_kill(-1, SIG_HUP); /* an interactive shell ignores the other */
	for (int ticks = 0; ticks < 100; ticks++) {
		long pid = sys_wait4(-1, &wstatus, WAIT_NO_HANG);

		if (pid == -ECHILD)
			break;
		if (pid == 0)
			sys_sigtimedwait(SIG(SIG_CHLD), &tick);
	}
	sys_kill(-1, SIG_KILL);
	sys_ioctl(1, TCSBRK, 1);
	sys_sync();
	sys_reboot(REBOOT_MAGIC1, REBOOT_MAGIC2, command);
	for (;;)
		sys_pause();
}

static unsigned int exit_status(int wstatus)
{
	if (wstatus & 0x7F)
		return STATUS_SIGNAL + ((unsigned int)wstatus & 0x7F);
	return (unsigned int)wstatus >> 8 & 0xFF;
}

/*
 * Leads the command's session. When a leader ends, the kernel hangs its terminal up
 * and drops what was not sent: so the leader waits for the command and for the terminal.
 */
static void lead(char **argv, char **envp, const char *path)
{
	int wstatus = 0;
	long child;

	sys_setsid();
	sys_ioctl(0, TIOCSCTTY, 1);
	child = sys_fork();
	if (child == 0) {
		unsigned int status;

		sys_sigprocmask(SIG_SETMASK, 0);
		status = exec_search(argv, envp, path);
		say(argv[0], status == STATUS_NOT_FOUND ? ": not found" : ": cannot be run", "",
		    "");
		sys_exit((int)status);
	}
	sys_sigprocmask(SIG_SETMASK, ~0ul);
	if (child < 0)
		sys_exit(STATUS_NOT_EXECUTABLE);
	while (sys_wait4(child, &wstatus, 0) < 0)
		;
	sys_ioctl(1, TCSBRK, 1);
	sys_exit((int)exit_status(wstatus));
}

/*
 * In a session of its own, with the console as controlling terminal. Reaps until it
 * ends, and does what /sbin/poweroff asks of an init: so does the kernel when the
 * host asks it to shut down.
 */
static unsigned int run(char **argv, char **envp, const char *path)
{
	long child = sys_fork(), pid, sig;
	int wstatus = 0;

	if (child == 0)
		lead(argv, envp, path);
	if (child < 0)
		return STATUS_NOT_EXECUTABLE;
	for (;;) {
		while ((pid = sys_wait4(-1, &wstatus, WAIT_NO_HANG)) > 0 && pid != child)
			;
		if (pid == child || pid == -ECHILD)
			break;
		sig = sys_sigtimedwait(SIGS_OURS, (void *)0);
		if (sig > 0 && (SIG(sig) & SIGS_POWER_OFF))
			end_machine(REBOOT_POWER_OFF);
		if (sig > 0 && (SIG(sig) & SIGS_RESTART))
			end_machine(REBOOT_RESTART);
	}
	return exit_status(wstatus);
}

/* Kernel's environment with a PATH and a HOME that fit. */
static char **environment(char **from)
{
	static char *env[64];
	unsigned int n = 0;

	env[n++] = (char *)"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
	env[n++] = (char *)"HOME=/root";
	for (; *from && n < sizeof(env) / sizeof(env[0]) - 1; from++)
		if (!starts_with(*from, "HOME=") && !starts_with(*from, "PATH="))
			env[n++] = *from;
	env[n] = (char *)0;
	return env;
}

static void run_command(char **envp)
{
	static char *argv[MAX_ARGS + 1];
	unsigned int argc = 0;

	for (char *p = cmd_text; p < cmd_text + cmd_len && argc < MAX_ARGS; p += len_of(p) + 1)
		argv[argc++] = p;
	if (!argc)
		return;
	event(EXIT_EVENT_COMMAND);
	leave(run(argv, envp, envp[0] + sizeof("PATH=") - 1));
}

static void run_own_init(char **envp)
{
	static const char *names[] = { "", "/sbin/init", "/init", "/etc/init", "/bin/init" };

	sys_sigprocmask(SIG_SETMASK, 0);
	/* init= names us, or on a disk the one to run there. */
	if (kernel_option("root") && kernel_option("init"))
		names[0] = kernel_option("init");
	for (unsigned int i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char *argv[] = { (char *)names[i], (char *)0 };

		sys_execve(names[i], argv, envp);
	}
	sys_sigprocmask(SIG_SETMASK, SIGS_OURS);
}

static void run_shell(char **envp)
{
	static const char *const names[] = { "/bin/bash", "/bin/sh" };

	for (unsigned int i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char *argv[] = { (char *)names[i], (char *)0 };

		if (sys_access(names[i], 1) < 0)
			continue;
		event(EXIT_EVENT_COMMAND);
		leave(run(argv, envp, "/"));
	}
}

void init_main(long *stack)
{
	char **envp = environment((char **)(stack + 1 + stack[0] + 1));

	/* Kept until somebody looks: an init gets no signal it neither blocks nor handles. */
	sys_sigprocmask(SIG_SETMASK, SIGS_OURS);
	event(EXIT_EVENT_INIT);
	mounts();
	console_open();
	kernel_options_read();
	modules_load();
	cmd_len = read_file("/nestor/cmd", cmd_text, sizeof(cmd_text));
	root_switch();
	sys_chdir("/");
	run_command(envp);
	run_own_init(envp);
	run_shell(envp);
	say("there is neither a command nor an init nor a shell to run", "", "", "");
	leave(STATUS_NOT_FOUND);
}

__asm__(".global _start\n"
	"_start:\n"
	"	xor %ebp, %ebp\n"
	"	mov %rsp, %rdi\n"
	"	and $-16, %rsp\n"
	"	call init_main\n");
