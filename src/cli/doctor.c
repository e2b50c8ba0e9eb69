// SPDX-License-Identifier: MIT
/* Facts are gathered first and printed afterwards, as lines or as JSON. */
#include "cli/doctor.h"

#include "engine/kvm/probe.h"
#include "incubator/incubator.h"

#include <dirent.h>
#include <jansson.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>

#define MAX_KERNELS 16
#define MAX_ADVICE  8

struct advice {
	bool stops; /* nothing can run without it */
	char what[192];
	char command[64];
};

struct facts {
	char os[128], cpu[128], kernel[128];
	int cpus;
	u64 memory_bytes;
	bool inside;
	struct kvm_probe kvm;
	struct incubator_status incubator;
	bool incubator_usable;
	char kernels[MAX_KERNELS][128];
	int kernel_count;
	struct advice advice[MAX_ADVICE];
	int advice_count;
	const char *uses; /* "kvm", "incubator", "nothing" */
};

/* The text after @key in the first line of @path that starts with it. */
static void line_value(const char *path, const char *key, const char *skip, char *out, size_t size)
{
	FILE *f = fopen(path, "re");
	char line[512];

	while (f && fgets(line, sizeof(line), f)) {
		char *value = line + strlen(key);

		if (strncmp(line, key, strlen(key)) != 0)
			continue;
		value += strspn(value, skip);
		snprintf(out, size, "%.*s", (int)strcspn(value, "\"\n"), value);
		break;
	}
	if (f)
		fclose(f);
}

PRINTF_FMT(4, 5)
static void advise(struct facts *f, bool stops, const char *command, const char *fmt, ...)
{
	struct advice *a = &f->advice[f->advice_count];
	va_list ap;

	if (f->advice_count == MAX_ADVICE)
		return;
	f->advice_count++;
	a->stops = stops;
	snprintf(a->command, sizeof(a->command), "%s", command);
	va_start(ap, fmt);
	vsnprintf(a->what, sizeof(a->what), fmt, ap);
	va_end(ap);
}

static int by_version(const void *a, const void *b)
{
	return strverscmp(a, b);
}

static void find_guest_kernels(struct facts *f)
{
	char path[1024];
	struct dirent *e;
	DIR *d;

	snprintf(path, sizeof(path), "%s/kernels", f->incubator.cache_dir);
	d = opendir(path);
	while (d && (e = readdir(d)) != NULL && f->kernel_count < MAX_KERNELS) {
		snprintf(path, sizeof(path), "%s/kernels/%s/vmlinuz", f->incubator.cache_dir,
			 e->d_name);
		if (e->d_name[0] != '.' && access(path, R_OK) == 0)
			snprintf(f->kernels[f->kernel_count++], sizeof(f->kernels[0]), "%.127s",
				 e->d_name);
	}
	if (d)
		closedir(d);
	qsort(f->kernels, (size_t)f->kernel_count, sizeof(f->kernels[0]), by_version);
}

static void gather(struct facts *f)
{
	struct utsname uts;
	struct sysinfo si;
	cpu_set_t set;

	line_value("/etc/os-release", "PRETTY_NAME=", "\"", f->os, sizeof(f->os));
	line_value("/proc/cpuinfo", "model name", " \t:", f->cpu, sizeof(f->cpu));
	if (uname(&uts) == 0)
		snprintf(f->kernel, sizeof(f->kernel), "%s", uts.release);
	f->cpus = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
	if (sysinfo(&si) == 0)
		f->memory_bytes = (u64)si.totalram * si.mem_unit;
	f->inside = incubator_inside();
	kvm_probe(&f->kvm);
	f->incubator_usable = incubator_status(&f->incubator);
	find_guest_kernels(f);
}

/* What is missing, the worst first. */
static void conclude(struct facts *f)
{
	const struct incubator_status *in = &f->incubator;
	bool needs_incubator = !f->kvm.usable;

	if (f->kvm.usable)
		f->uses = "kvm";
	else if (f->incubator_usable)
		f->uses = "incubator";
	else
		f->uses = "nothing";

	if (needs_incubator && in->switched_off)
		advise(f, true, "unset NESTOR_INCUBATOR",
		       "the incubator is switched off (NESTOR_INCUBATOR=off)");
	if (needs_incubator && !in->qemu_path[0])
		advise(f, true, "tools/setup", "QEMU 10 or newer, for the incubator");
	else if (needs_incubator && !in->qemu_usable)
		advise(f, true, "tools/setup", "QEMU 10 or newer, for the incubator (%s is %s)",
		       in->qemu_path,
		       in->qemu_version[0] ? in->qemu_version : "of unknown version");
	if (needs_incubator && !in->small_kernel[0])
		advise(f, !in->stock_kernel[0],
		       in->stock_kernel[0] ? "tools/incubator-kernel" : "tools/kernels fetch",
		       in->stock_kernel[0]
			       ? "a small incubator kernel (it starts in 2 s instead of 5 s)"
			       : "a kernel for the incubator");
	else if (needs_incubator && f->incubator_usable && !in->saved_dir[0])
		advise(f, false, "nestor incubator --prepare",
		       "a saved incubator (it starts in half a second; the first use makes one "
		       "too)");
	if (!f->kernel_count)
		advise(f, false, "tools/kernels fetch",
		       "guest kernels (or name one with --kernel)");
}

static void print_lines(const struct facts *f)
{
	const struct incubator_status *in = &f->incubator;

	printf("Nestor %s\n", NESTOR_VERSION);
	printf("  host       %s, Linux %s%s\n", f->os[0] ? f->os : "unknown system", f->kernel,
	       f->inside ? ", inside an incubator" : "");
	printf("  machine    %s, %d CPUs, %.1f GiB\n", f->cpu[0] ? f->cpu : "unknown CPU", f->cpus,
	       (double)f->memory_bytes / (double)GIB);
	printf("  KVM        %s: %s\n", f->kvm.usable ? "usable" : "not usable", f->kvm.reason);
	if (f->kvm.runs && f->kvm.lacking[0])
		printf("             lacks, but Nestor can do without: %s\n", f->kvm.lacking);
	if (!f->kvm.usable) {
		printf("  QEMU       %s%s%s\n",
		       in->qemu_path[0] ? in->qemu_version : "not installed",
		       in->qemu_path[0] ? " in " : "", in->qemu_path);
		printf("  incubator  %s\n",
		       !f->incubator_usable ? "cannot start"
		       : in->saved_dir[0]
			       ? "a saved machine is ready; it starts in about half a second"
		       : in->small_kernel[0] ? "boots its small kernel, about 2 seconds"
					     : "boots a stock kernel, about 5 seconds");
		printf("             %u CPUs, %.1f GiB, emulated\n", in->cpus,
		       (double)in->memory_bytes / (double)GIB);
	}
	printf("  kernels    %s", f->kernel_count ? "" : "none");
	for (int i = 0; i < f->kernel_count; i++)
		printf("%s%s", i ? ", " : "", f->kernels[i]);
	printf("\n  cache      %s\n\n", in->cache_dir);

	if (strcmp(f->uses, "kvm") == 0)
		printf("Nestor will run guests on KVM.\n");
	else if (strcmp(f->uses, "incubator") == 0)
		printf("Nestor will run guests inside the incubator, an emulated machine that has "
		       "KVM.\n");
	else
		printf("Nestor cannot run guests on this host.\n");
	for (int i = 0; i < f->advice_count; i++)
		printf("%s %s\n    %s\n",
		       f->advice[i].stops ? "Missing:" : "Better with:", f->advice[i].what,
		       f->advice[i].command);
}

static void print_json(const struct facts *f)
{
	const struct incubator_status *in = &f->incubator;
	json_t *kernels = json_array(), *advice = json_array(), *root;

	for (int i = 0; i < f->kernel_count; i++)
		json_array_append_new(kernels, json_string(f->kernels[i]));
	for (int i = 0; i < f->advice_count; i++)
		json_array_append_new(
			advice, json_pack("{s:b, s:s, s:s}", "required", f->advice[i].stops, "what",
					  f->advice[i].what, "command", f->advice[i].command));
	root = json_pack("{s:s, s:s, s:b, s:{s:s, s:s, s:s, s:i, s:I, s:b},"
			 " s:{s:b, s:b, s:b, s:s, s:s, s:s, s:i, s:i, s:i},"
			 " s:{s:b, s:s, s:s, s:s, s:s, s:s, s:i, s:I}, s:s, s:o, s:o}",
			 "version", NESTOR_VERSION, "uses", f->uses, "can_run",
			 strcmp(f->uses, "nothing") != 0, "host", "system", f->os, "kernel",
			 f->kernel, "cpu", f->cpu, "cpus", f->cpus, "memory_bytes",
			 (json_int_t)f->memory_bytes, "inside_incubator", f->inside, "kvm",
			 "present", f->kvm.present, "runs", f->kvm.runs, "usable", f->kvm.usable,
			 "reason", f->kvm.reason, "missing", f->kvm.missing, "lacking",
			 f->kvm.lacking, "loop_ps", (int)f->kvm.loop_ps, "exit_ns",
			 (int)f->kvm.exit_ns, "probe_us", (int)f->kvm.elapsed_us, "incubator",
			 "usable", f->incubator_usable, "qemu", in->qemu_path, "qemu_version",
			 in->qemu_version, "stock_kernel", in->stock_kernel, "small_kernel",
			 in->small_kernel, "saved_machine", in->saved_dir, "cpus", (int)in->cpus,
			 "memory_bytes", (json_int_t)in->memory_bytes, "cache", in->cache_dir,
			 "kernels", kernels, "advice", advice);
	if (root)
		json_dumpf(root, stdout, JSON_INDENT(2));
	printf("\n");
	json_decref(root);
}

int cmd_doctor(int argc, char **argv)
{
	static struct facts f;
	bool json = false;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--json") == 0) {
			json = true;
		} else if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
			printf("usage: nestor doctor [--json]\n");
			return 0;
		} else {
			fprintf(stderr, "nestor doctor: unknown argument \"%s\"\n", argv[i]);
			return 2;
		}
	}
	gather(&f);
	conclude(&f);
	if (json)
		print_json(&f);
	else
		print_lines(&f);
	return strcmp(f.uses, "nothing") == 0;
}
