/* SPDX-License-Identifier: MIT */
/* Linux system calls for a program without a libc. Results are -errno. */
#ifndef NESTOR_PAYLOAD_SYSCALL_H
#define NESTOR_PAYLOAD_SYSCALL_H

#include <asm/unistd.h>

static inline long syscall6(long nr, long a, long b, long c, long d, long e)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
			 : "rcx", "r11", "memory");
	return ret;
}

#define SYS3(nr, a, b, c) syscall6(nr, (long)(a), (long)(b), (long)(c), 0, 0)

static inline long sys_read(int fd, void *buf, unsigned long len)
{
	return SYS3(__NR_read, fd, buf, len);
}

static inline long sys_write(int fd, const void *buf, unsigned long len)
{
	return SYS3(__NR_write, fd, buf, len);
}

static inline long sys_open(const char *name, int flags)
{
	return SYS3(__NR_open, name, flags, 0);
}

static inline long sys_pread(int fd, void *buf, unsigned long len, long at)
{
	return syscall6(__NR_pread64, fd, (long)buf, (long)len, at, 0);
}

static inline long sys_getdents(int fd, void *buf, unsigned long len)
{
	return SYS3(__NR_getdents64, fd, buf, len);
}

static inline long sys_close(int fd)
{
	return SYS3(__NR_close, fd, 0, 0);
}

static inline long sys_ioctl(int fd, unsigned long request, long arg)
{
	return SYS3(__NR_ioctl, fd, request, arg);
}

static inline long sys_access(const char *name, int mode)
{
	return SYS3(__NR_access, name, mode, 0);
}

static inline long sys_dup2(int from, int to)
{
	return SYS3(__NR_dup2, from, to, 0);
}

static inline long sys_pause(void)
{
	return SYS3(__NR_pause, 0, 0, 0);
}

static inline long sys_fork(void)
{
	return SYS3(__NR_fork, 0, 0, 0);
}

static inline long sys_execve(const char *name, char *const *argv, char *const *envp)
{
	return SYS3(__NR_execve, name, argv, envp);
}

static inline void __attribute__((noreturn)) sys_exit(int status)
{
	for (;;)
		SYS3(__NR_exit_group, status, 0, 0);
}

static inline long sys_wait4(int pid, int *status, int options)
{
	return syscall6(__NR_wait4, pid, (long)status, options, 0, 0);
}

static inline long sys_kill(int pid, int signal)
{
	return SYS3(__NR_kill, pid, signal, 0);
}

/* Signal sets are one word: bit N - 1 for signal N. */
static inline long sys_sigprocmask(int how, unsigned long set)
{
	return syscall6(__NR_rt_sigprocmask, how, (long)&set, 0, sizeof(set), 0);
}

struct sys_timespec {
	long seconds, nanoseconds;
};

/* The signal taken, or -EAGAIN after the timeout; NULL: none. */
static inline long sys_sigtimedwait(unsigned long set, const struct sys_timespec *timeout)
{
	return syscall6(__NR_rt_sigtimedwait, (long)&set, 0, (long)timeout, sizeof(set), 0);
}

static inline long sys_chdir(const char *name)
{
	return SYS3(__NR_chdir, name, 0, 0);
}

static inline long sys_chroot(const char *name)
{
	return SYS3(__NR_chroot, name, 0, 0);
}

static inline long sys_unlink(const char *name)
{
	return SYS3(__NR_unlink, name, 0, 0);
}

static inline void sys_sleep_ms(long ms)
{
	const long ts[2] = { ms / 1000, ms % 1000 * 1000000 };

	SYS3(__NR_nanosleep, ts, 0, 0);
}

static inline long sys_mkdir(const char *name, int mode)
{
	return SYS3(__NR_mkdir, name, mode, 0);
}

static inline long sys_setsid(void)
{
	return SYS3(__NR_setsid, 0, 0, 0);
}

static inline long sys_sync(void)
{
	return SYS3(__NR_sync, 0, 0, 0);
}

static inline long sys_mount(const char *source, const char *dir, const char *type,
			     unsigned long flags, const void *data)
{
	return syscall6(__NR_mount, (long)source, (long)dir, (long)type, (long)flags, (long)data);
}

static inline long sys_reboot(unsigned int magic1, unsigned int magic2, unsigned int command)
{
	return SYS3(__NR_reboot, magic1, magic2, command);
}

static inline long sys_iopl(int level)
{
	return SYS3(__NR_iopl, level, 0, 0);
}

static inline long sys_ioperm(unsigned long from, unsigned long num, int on)
{
	return SYS3(__NR_ioperm, from, num, on);
}

static inline long sys_finit_module(int fd, const char *args, int flags)
{
	return SYS3(__NR_finit_module, fd, args, flags);
}

#endif
