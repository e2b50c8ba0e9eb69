// SPDX-License-Identifier: MIT
/*
 * To learn that a vCPU halts. With the local APIC in the kernel KVM tells nobody: the thread
 * sleeps in KVM_RUN. But then it gives up its processor, and that is an event of the kernel's
 * performance counters, which sends the thread a signal; a signal ends KVM_RUN.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/kvm/kvm_internal.h"

static pthread_key_t of_thread; /* file descriptor + 1 */
static int signal_number;

/* The thread's own. */
static __thread struct kvm_run *watched;
static __thread bool armed; /* it will fire; cleared by the signal */

/* It may come before KVM_RUN has begun. */
static void on_signal(int sig)
{
	int saved = errno;

	__atomic_store_n(&armed, false, __ATOMIC_RELAXED);
	if (watched)
		__atomic_store_n(&watched->immediate_exit, 1, __ATOMIC_RELAXED);
	errno = saved;
}

static void close_event(void *value)
{
	watched = NULL;
	close((int)(intptr_t)value - 1);
}

static void prepare(void)
{
	struct sigaction sa = { .sa_handler = on_signal };

	signal_number = SIGRTMIN + 1;
	sigaction(signal_number, &sa, NULL);
	pthread_key_create(&of_thread, close_event);
}

/* A counter of this thread's that signals it each time it was asked to, and not before. */
static int open_event(void)
{
	struct perf_event_attr attr = { .type = PERF_TYPE_SOFTWARE,
					.size = sizeof(attr),
					.config = PERF_COUNT_SW_CONTEXT_SWITCHES,
					.sample_period = 1,
					.disabled = 1 };
	struct f_owner_ex owner = { .type = F_OWNER_TID, .pid = gettid() };
	int fd = (int)syscall(SYS_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (fcntl(fd, F_SETOWN_EX, &owner) < 0 || fcntl(fd, F_SETSIG, signal_number) < 0 ||
	    fcntl(fd, F_SETFL, O_ASYNC) < 0) {
		int ret = -errno;

		close(fd);
		return ret;
	}
	return fd;
}

static int event_of_thread(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	int fd;

	pthread_once(&once, prepare);
	fd = (int)(intptr_t)pthread_getspecific(of_thread) - 1;
	if (fd >= 0)
		return fd;
	fd = open_event();
	if (fd >= 0)
		pthread_setspecific(of_thread, (void *)(intptr_t)(fd + 1));
	return fd;
}

int kvm_halt_watch(struct kvm_run *run)
{
	int fd;

	watched = run;
	if (__atomic_load_n(&armed, __ATOMIC_RELAXED))
		return 0;
	fd = event_of_thread();
	if (fd < 0)
		return fd;
	__atomic_store_n(&armed, true, __ATOMIC_RELAXED);
	return ioctl(fd, PERF_EVENT_IOC_REFRESH, 1) < 0 ? -errno : 0;
}

bool kvm_halt_seen(void)
{
	return !__atomic_load_n(&armed, __ATOMIC_RELAXED);
}

void kvm_halt_unwatch(void)
{
	watched = NULL;
}

bool kvm_halt_possible(void)
{
	return event_of_thread() >= 0;
}
