// SPDX-License-Identifier: MIT
/* nestor run: from a command line to a machine, and from its report to an exit status. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/trace.h"
#include "cli/guest_root.h"
#include "cli/kernel_cache.h"
#include "cli/options.h"
#include "cli/report.h"
#include "control/place.h"
#include "engine/kvm/kvm.h"
#include "engine/kvm/probe.h"
#include "incubator/incubator.h"
#include "machine/control.h"
#include "machine/machine.h"
#include "machine/ram.h"
#include "machine/layout.h"
#include "machine/vmbus_devices.h"

#define CPUS_MAX	64
#define GRACE_NS	10000000000ull
#define INCUBATOR_EXTRA (384 * MIB)
#define DEFAULT_MEMORY	(512 * MIB)
#define NAME_VARIABLE	"NESTOR_INSTANCE" /* of a run without --name, to the inside */

struct run_config {
	struct machine_config machine;
	char name[CONTROL_NAME_MAX + 1]; /* of the instance */
	const char *kernel;		 /* path, version, or NULL */
	const char *initrd, *append, *rootfs, *trace;
	struct net_spec nets[VMBUS_NETS_MAX];
	struct disk_config disks[VMBUS_DISKS_MAX];
	struct fail_rules fails;
	u64 timeout_ns;
	bool json;
	bool bare;	/* the kernel is a program of its own: no root, no command line of ours */
	char **command; /* of the guest; NULL: none */
};

/* One setter per row; each says what it accepts. */

static int set_role(void *cfg, const char *value, struct error *err)
{
	struct run_config *rc = cfg;

	rc->machine.role = role_find(value);
	return rc->machine.role < ROLE_COUNT ? 0 : error_set(err, -EINVAL, "there is no such role");
}

static int set_name(void *cfg, const char *value, struct error *err)
{
	struct run_config *rc = cfg;

	if (!control_name_valid(value))
		return error_set(err, -EINVAL,
				 "a name has up to %u letters, digits, '.', '_' and '-'",
				 CONTROL_NAME_MAX);
	snprintf(rc->name, sizeof(rc->name), "%s", value);
	rc->machine.name = rc->name;
	return 0;
}

static int set_cpus(void *cfg, const char *value, struct error *err)
{
	return option_u32(value, 1, CPUS_MAX, &((struct run_config *)cfg)->machine.cpus, err);
}

static int set_memory(void *cfg, const char *value, struct error *err)
{
	u64 bytes;
	int ret = option_size(value, &bytes, err);

	if (ret)
		return ret;
	if (bytes < LAYOUT_RAM_MIN || bytes > LAYOUT_RAM_MAX)
		return error_set(err, -EINVAL, "a machine has from %llu MiB to %llu GiB",
				 LAYOUT_RAM_MIN / MIB, LAYOUT_RAM_MAX / GIB);
	((struct run_config *)cfg)->machine.memory_bytes = bytes;
	return 0;
}

#define STRING_SETTER(field)                                                                       \
	static int set_##field(void *cfg, const char *value, struct error *err)                    \
	{                                                                                          \
		((struct run_config *)cfg)->field = value;                                         \
		return 0;                                                                          \
	}
STRING_SETTER(kernel)
STRING_SETTER(initrd)
STRING_SETTER(append)
STRING_SETTER(rootfs)
STRING_SETTER(trace)

static int set_timeout(void *cfg, const char *value, struct error *err)
{
	return option_seconds(value, &((struct run_config *)cfg)->timeout_ns, err);
}

static int set_donated(void *cfg, const char *value, struct error *err)
{
	bool ignore = !strcmp(value, "ignore");

	((struct run_config *)cfg)->machine.donated_ignore = ignore;
	return ignore || !strcmp(value, "fault") ? 0
						 : error_set(err, -EINVAL, "not fault or ignore");
}

static int set_quirks(void *cfg, const char *value, struct error *err)
{
	struct run_config *rc = cfg;
	const char *bad;

	rc->machine.quirks_auto = !strcmp(value, "auto");
	if (rc->machine.quirks_auto || !strcmp(value, "none"))
		return 0;
	return quirks_parse(value, &rc->machine.quirks, &bad)
		       ? 0
		       : error_set(err, -EINVAL, "there is no quirk '%s'; see 'nestor help run'",
				   bad);
}

static int add_disk(struct run_config *rc, const char *value, bool cdrom, struct error *err)
{
	struct disk_config *d = &rc->disks[rc->machine.disk_count];
	char why[256];

	if (rc->machine.disk_count == VMBUS_DISKS_MAX)
		return error_set(err, -EINVAL, "at most %u disks", VMBUS_DISKS_MAX);
	if (block_spec_parse(value, &d->spec, why, sizeof(why)))
		return error_set(err, -EINVAL, "%s", why);
	if (!strstr(d->spec.path, "://") && access(d->spec.path, R_OK) < 0)
		return error_errno(err, -errno, d->spec.path);
	d->cdrom = cdrom;
	d->spec.read_only |= cdrom;
	rc->machine.disk_count++;
	rc->machine.disks = rc->disks;
	return 0;
}

static int set_disk(void *cfg, const char *value, struct error *err)
{
	return add_disk(cfg, value, false, err);
}

static int set_cdrom(void *cfg, const char *value, struct error *err)
{
	return add_disk(cfg, value, true, err);
}

static int set_net(void *cfg, const char *value, struct error *err)
{
	struct run_config *rc = cfg;
	char why[256];

	if (rc->machine.net_count == VMBUS_NETS_MAX)
		return error_set(err, -EINVAL, "at most %u network cards", VMBUS_NETS_MAX);
	if (net_spec_parse(&rc->nets[rc->machine.net_count], value, why, sizeof(why)))
		return error_set(err, -EINVAL, "%s", why);
	rc->machine.net_count++;
	rc->machine.nets = rc->nets;
	return 0;
}

static int set_vsock(void *cfg, const char *value, struct error *err)
{
	((struct run_config *)cfg)->machine.vsock_path = value;
	return 0;
}

static int set_fail(void *cfg, const char *value, struct error *err)
{
	struct run_config *rc = cfg;
	char why[320];

	if (rc->fails.count == FAIL_RULES_MAX)
		return error_set(err, -EINVAL, "at most %u of them", FAIL_RULES_MAX);
	if (!fail_parse(value, &rc->fails.rule[rc->fails.count], why, sizeof(why)))
		return error_set(err, -EINVAL, "%s", why);
	rc->fails.count++;
	rc->machine.fails = &rc->fails;
	return 0;
}

static int set_nested_vector(void *cfg, const char *value, struct error *err)
{
	bool reserved = !strcmp(value, "0x31-0x34");

	((struct run_config *)cfg)->machine.nested_vectors_reserved = reserved;
	return reserved || !strcmp(value, "any") ? 0
						 : error_set(err, -EINVAL, "not any or 0x31-0x34");
}

static int set_nested_vp_index(void *cfg, const char *value, struct error *err)
{
	bool reversed = !strcmp(value, "reversed");

	((struct run_config *)cfg)->machine.nested_vps_reversed = reversed;
	return reversed || !strcmp(value, "same") ? 0
						  : error_set(err, -EINVAL, "not same or reversed");
}

static int set_scheduler(void *cfg, const char *value, struct error *err)
{
	bool root = !strcmp(value, "root");

	((struct run_config *)cfg)->machine.root_scheduler = root;
	return root || !strcmp(value, "hypervisor")
		       ? 0
		       : error_set(err, -EINVAL, "not hypervisor or root");
}

static int set_json(void *cfg, const char *value, struct error *err)
{
	((struct run_config *)cfg)->json = true;
	return 0;
}

static int set_bare(void *cfg, const char *value, struct error *err)
{
	((struct run_config *)cfg)->bare = true;
	return 0;
}

const struct option_row run_options[] = {
	{ "name", "NAME", "what 'nestor ps' and the others call it (default nestor-PID)",
	  set_name },
	{ "role", "ROLE", "partition role: guest, root, nested-root or l1vh (default guest)",
	  set_role },
	{ "kernel", "FILE|VERSION",
	  "bzImage or vmlinux, or a cached version such as 6.1 (default: newest cached)",
	  set_kernel },
	{ "initrd", "FILE", "initial RAM disk", set_initrd },
	{ "rootfs", "DIR", "pack this directory as the guest's root", set_rootfs },
	{ "append", "TEXT",
	  "add to the kernel's command line; root=/dev/sda or root=LABEL= there makes a disk the root",
	  set_append },
	{ "cpus", "N", "virtual processors, 1 to 64 (default 1)", set_cpus },
	{ "memory", "SIZE", "RAM, for example 512M or 4G (default 512M)", set_memory },
	{ "disk", "FILE",
	  "a SCSI disk (a virtio disk of a root); FILE[,ro][,format=raw|qcow2|vhdx|vmdk][,serial=][,controller=][,lun=]",
	  set_disk },
	{ "cdrom", "FILE", "a DVD drive with this image in it", set_cdrom },
	{ "net", "SPEC",
	  "a network card: user[,hostfwd=tcp::PORT-:PORT], passt=SOCKET, tap=NAME; [,mac=]",
	  set_net },
	{ "vsock", "PATH", "hv_sock: a Unix socket at PATH reaches ports of the guest", set_vsock },
	{ "timeout", "TIME", "end the machine after this time (30, 2m)", set_timeout },
	{ "quirks", "auto|none|LIST",
	  "forgive what released kernels do wrong (default auto: as the kernel needs)",
	  set_quirks },
	{ "nested-vmbus-vector", "any|0x31-0x34",
	  "vectors L0 takes on a SINT of a nested root (default any)", set_nested_vector },
	{ "nested-vp-index", "same|reversed",
	  "how L0 numbers the VPs of a nested root, compared to L1 (default same)",
	  set_nested_vp_index },
	{ "donated-pages", "fault|ignore",
	  "what happens when a root touches memory it deposited (default fault)", set_donated },
	{ "scheduler", "hypervisor|root",
	  "who runs the VPs of child partitions (default hypervisor); root: HvCallDispatchVp",
	  set_scheduler },
	{ "fail", FAIL_SYNTAX,
	  "make a hypercall fail: the Nth or each, after K elements, with that status", set_fail },
	{ "trace", "FILE", "write all events: FILE.json for Perfetto, else lines of text",
	  set_trace },
	{ "bare", NULL, "the kernel is a bare program: give it no root and no command line",
	  set_bare },
	{ "json", NULL, "print the summary as JSON", set_json },
	{ 0 },
};

/* Signals and the time limit, on a thread of their own. */
struct watch {
	struct machine *machine;
	u64 timeout_ns;
	bool command; /* nobody in the guest listens to a power button */
	pthread_t thread;
	sigset_t signals;
};

static u64 now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (u64)ts.tv_sec * 1000000000u + (u64)ts.tv_nsec;
}

static int wait_signal(const struct watch *w, u64 deadline_ns)
{
	struct timespec ts;
	u64 now = now_ns(), left;

	if (deadline_ns == ~0ull)
		return sigwaitinfo(&w->signals, NULL);
	left = deadline_ns > now ? deadline_ns - now : 0;
	ts = (struct timespec){ (time_t)(left / 1000000000u), (long)(left % 1000000000u) };
	return sigtimedwait(&w->signals, NULL, &ts);
}

static void *watch_thread(void *arg)
{
	struct watch *w = arg;
	u64 timeout = w->timeout_ns ? now_ns() + w->timeout_ns : ~0ull, grace = ~0ull;
	int asked = 0;

	for (;;) {
		int sig = wait_signal(w, min_u64(timeout, grace));

		if (sig == SIGUSR2)
			return NULL; /* the machine is done */
		if (sig < 0 && errno != EAGAIN)
			continue;
		if (sig < 0 && now_ns() >= timeout) {
			machine_stop(w->machine, STOP_TIMEOUT, 0, "the time limit ran out");
		} else if (sig < 0 || asked || w->command) {
			machine_stop(w->machine, STOP_KILLED, 128 + (asked ? asked : sig),
				     "ended by a signal");
		} else {
			asked = sig;
			grace = now_ns() + GRACE_NS;
			log_at(LOG_ERROR,
			       "asked the guest to power off; once more to end it at once");
			machine_ask_power_off(w->machine);
		}
	}
}

static int watch_start(struct watch *w)
{
	return -pthread_create(&w->thread, NULL, watch_thread, w);
}

static void watch_stop(struct watch *w)
{
	pthread_kill(w->thread, SIGUSR2);
	pthread_join(w->thread, NULL);
}

/* Blocked before any thread exists, so that only the watch takes them. */
static void watch_block(struct watch *w)
{
	sigemptyset(&w->signals);
	sigaddset(&w->signals, SIGINT);
	sigaddset(&w->signals, SIGTERM);
	sigaddset(&w->signals, SIGHUP);
	sigaddset(&w->signals, SIGUSR2);
	pthread_sigmask(SIG_BLOCK, &w->signals, NULL);
	signal(SIGPIPE, SIG_IGN);
}

static int choose_kernel(const struct run_config *rc, struct cached_kernel *k, struct error *err)
{
	if (!rc->kernel)
		return kernel_cache_find("", k, err);
	/* A version, unless a file of that name exists. */
	if (!strchr(rc->kernel, '/') && access(rc->kernel, F_OK) < 0 && rc->kernel[0] >= '0' &&
	    rc->kernel[0] <= '9')
		return kernel_cache_find(rc->kernel, k, err);
	kernel_cache_lookup(rc->kernel, k);
	return 0;
}

static int make_cmdline(const struct run_config *rc, bool own_init, char *out, size_t size,
			struct error *err)
{
	/* On VMBus there is a host bridge and no more: no quirks of chipsets to scan for. */
	const char *pci = role_profiles[rc->machine.role].vmbus ? " pci=noearly" : "";
	int n = snprintf(out, size, "console=ttyS0 quiet%s%s%s%s", pci,
			 own_init ? " " ROOTFS_INIT_CMDLINE : "", rc->append ? " " : "",
			 rc->append ? rc->append : "");

	return (size_t)n < size ? 0
				: error_set(err, -E2BIG, "the kernel's command line is too long");
}

/* The role may come behind the option. */
static int check_fails(const struct run_config *rc, struct error *err)
{
	char text[FAIL_TEXT];

	for (u32 i = 0; i < rc->fails.count; i++)
		if (*rc->fails.rule[i].hv && !role_profiles[rc->machine.role].nested)
			return error_set(err, -EINVAL,
					 "--fail %s: L0 and L1 are the hypervisors of role "
					 "nested-root; role %s has one: leave out '%s:'",
					 fail_format(&rc->fails.rule[i], text),
					 role_profiles[rc->machine.role].name,
					 rc->fails.rule[i].hv);
	return 0;
}

static int check_scheduler(const struct run_config *rc, struct error *err)
{
	const struct role_profile *role = &role_profiles[rc->machine.role];

	return !rc->machine.root_scheduler || (role->offer.privileges & HV_PRIV_CREATE_PARTITIONS)
		       ? 0
		       : error_set(err, -EINVAL,
				   "--scheduler root: role %s has no children to schedule",
				   role->name);
}

static int check_engine(const struct run_config *rc, const struct engine *engine, struct error *err)
{
	return !rc->machine.root_scheduler || engine->halt_exits
		       ? 0
		       : error_set(
				 err, -EPERM,
				 "--scheduler root: to learn that a processor halts takes a "
				 "performance counter, which this user may not have; run as root, "
				 "or set the sysctl kernel.perf_event_paranoid to 1");
}

static int run_machine(struct run_config *rc, struct watch *w, struct error *err)
{
	struct machine *m = NULL;
	struct machine_report *report = NULL;
	struct machine_control *control = NULL;
	struct engine engine;
	int ret = kvm_engine_open(&engine), status = EXIT_NESTOR;

	if (ret)
		return error_errno(err, ret, "/dev/kvm");
	ret = check_engine(rc, &engine, err);
	if (ret) {
		status = EXIT_USAGE;
		goto close;
	}
	ret = machine_create(&engine, &rc->machine, &m, err);
	if (ret) {
		status = err->of_input || ret == -ENOMEM ? EXIT_USAGE : EXIT_NESTOR;
		goto close;
	}
	w->machine = m;
	ret = machine_control_start(m, &rc->machine, rc->name, &control, err);
	if (!ret)
		ret = watch_start(w);
	if (!ret) {
		ret = machine_run(m, err);
		watch_stop(w);
	}
	machine_control_stop(control);
	report = calloc(1, sizeof(*report));
	if (report) {
		machine_report(m, report);
		report_print(stderr, &rc->machine, m, report, rc->json);
		status = report_status(report);
	}
	machine_destroy(m);
	machine_control_destroy(control);
close:
	kvm_engine_close(&engine);
	free(report);
	if (ret)
		fprintf(stderr, "nestor run: %s\n", err->text);
	return status;
}

/* What makes the devices work where the kernel has their drivers as modules, and disks useful. */
static void choose_modules(const struct run_config *rc, const char *modules[static 16])
{
	static const char *const vmbus[] = { "hv_vmbus", "hv_utils", "hv_storvsc", "hv_netvsc",
					     "-sd_mod",	 "-sr_mod",  NULL };
	static const char *const pci[] = { "hv_vmbus", "-virtio_pci", "-virtio_blk", "-virtio_net",
					   NULL };
	u32 n = 0;

	for (const char *const *m = role_profiles[rc->machine.role].vmbus ? vmbus : pci; *m; m++)
		modules[n++] = *m;
	if (rc->machine.disk_count) {
		modules[n++] = "-ext4";
		modules[n++] = "-isofs";
	}
	if (rc->machine.vsock_path)
		modules[n++] = "-hv_sock";
	modules[n] = NULL;
}

static int run_here(struct run_config *rc, struct watch *w)
{
	const char *modules[16];
	struct guest_root_config gc = { .modules = modules,
					.rootfs = rc->rootfs,
					.initrd = rc->initrd,
					.command = rc->command };
	struct cached_kernel kernel;
	struct rootfs *root = NULL;
	struct error err = { "" };
	char cmdline[8192];
	bool own_init;
	int status = EXIT_USAGE, ret;

	if (choose_kernel(rc, &kernel, &err))
		goto fail;
	gc.modules_dir = kernel.modules;
	choose_modules(rc, modules);
	if (!rc->bare && (guest_root_create(&gc, &root, &own_init, &err) ||
			  make_cmdline(rc, own_init, cmdline, sizeof(cmdline), &err)))
		goto fail;
	rc->machine.kernel = kernel.image;
	rc->machine.com1_stdio = true;
	rc->machine.cmdline = rc->bare ? rc->append : cmdline;
	if (root)
		rc->machine.initrd = (struct boot_initrd){ rootfs_bytes(root), rootfs_fill, root };
	ret = rc->trace ? trace_start(rc->trace) : 0;
	if (ret) {
		error_errno(&err, ret, rc->trace);
		goto fail;
	}
	status = run_machine(rc, w, &err);
	if (trace_stop() < 0)
		fprintf(stderr, "nestor run: the trace could not be written whole\n");
	goto out;
fail:
	fprintf(stderr, "nestor run: %s\n", err.text);
out:
	rootfs_destroy(root);
	return status;
}

/* The same command line, inside the emulated machine. */
static int run_incubated(const struct run_config *rc, int argc, char **argv)
{
	struct incubator_config ic = {
		.name = rc->name,
		.memory_bytes = rc->machine.memory_bytes + INCUBATOR_EXTRA,
	};
	char **inner = calloc((size_t)argc + 2, sizeof(*inner));
	static_assert(EXIT_INCUBATOR_HUNG == INCUBATOR_HUNG, "passed on as it is");
	static char self[4096];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	int status;

	if (!inner || n < 0)
		return EXIT_NESTOR;
	self[n] = 0;
	inner[0] = self;
	memcpy(inner + 1, argv, (size_t)argc * sizeof(*argv));
	/* Known by one name on both sides; the process id is another. */
	setenv(NAME_VARIABLE, rc->name, 1);
	ic.argv = inner;
	status = incubator_run(&ic);
	free(inner);
	return status;
}

/* Ours until the process ends. */
static int claim_name(struct run_config *rc)
{
	const char *outer = getenv(NAME_VARIABLE);
	int fd;

	if (!rc->name[0] && incubator_inside() && outer && control_name_valid(outer))
		snprintf(rc->name, sizeof(rc->name), "%s", outer);
	if (!rc->name[0])
		snprintf(rc->name, sizeof(rc->name), "nestor-%d", (int)getpid());
	fd = control_name_claim(rc->name);
	if (fd == -EADDRINUSE)
		fprintf(stderr,
			"nestor run: an instance '%s' is running already; see 'nestor ps'\n",
			rc->name);
	else if (fd < 0)
		fprintf(stderr, "nestor run: the name '%s' cannot be had: %s\n", rc->name,
			strerror(-fd));
	return fd < 0 ? fd : 0;
}

int cmd_run(const struct command *cmd, int argc, char **argv)
{
	struct run_config rc = { .machine = { .role = ROLE_GUEST,
					      .cpus = 1,
					      .memory_bytes = DEFAULT_MEMORY,
					      .quirks_auto = true,
					      .began_ns = now_ns() } };
	struct cached_kernel kernel;
	struct kvm_probe probe;
	struct watch w = { 0 };
	struct error err;
	bool dashes;
	int rest, ret = options_parse(cmd, &rc, argc, argv, &rest, &dashes);

	if (ret)
		return ret > 0 ? EXIT_OK : EXIT_USAGE;
	if (rest < argc && !dashes) {
		fprintf(stderr,
			"nestor run: '%s' is no option; a command for the guest goes after --\n",
			argv[rest]);
		return EXIT_USAGE;
	}
	if (rest < argc)
		rc.command = argv + rest;
	/* What is wrong with the command line is told here, not from inside the incubator. */
	if (check_fails(&rc, &err) || check_scheduler(&rc, &err) ||
	    choose_kernel(&rc, &kernel, &err)) {
		fprintf(stderr, "nestor run: %s\n", err.text);
		return EXIT_USAGE;
	}
	if (claim_name(&rc) < 0)
		return EXIT_USAGE;
	if (!incubator_inside() && kvm_probe(&probe) < 0)
		return run_incubated(&rc, argc, argv);
	w.timeout_ns = rc.timeout_ns;
	w.command = rc.command != NULL;
	watch_block(&w);
	return run_here(&rc, &w);
}
