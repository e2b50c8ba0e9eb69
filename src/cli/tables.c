// SPDX-License-Identifier: MIT
/* nestor help --tables: doc/hypercalls.md, printed from the rows that the dispatchers read. */
#include <stdio.h>
#include <string.h>

#include "cli/options.h"
#include "core/child_intercept.h"
#include "core/cpuid.h"
#include "core/hypercall.h"
#include "core/msr.h"
#include "core/quirk.h"
#include "hvdef/ic.h"
#include "hvdef/netvsp.h"
#include "hvdef/storvsp.h"
#include "machine/role.h"

struct bit_name {
	u64 bit;
	const char *name; /* as the TLFS has it */
};

static const struct bit_name privileges[] = {
	{ HV_PRIV_ACCESS_VP_RUNTIME, "AccessVpRunTimeReg" },
	{ HV_PRIV_ACCESS_REF_COUNTER, "AccessPartitionReferenceCounter" },
	{ HV_PRIV_ACCESS_SYNIC_REGS, "AccessSynicRegs" },
	{ HV_PRIV_ACCESS_SYNTHETIC_TIMERS, "AccessSyntheticTimerRegs" },
	{ HV_PRIV_ACCESS_INTR_CTRL_REGS, "AccessIntrCtrlRegs" },
	{ HV_PRIV_ACCESS_HYPERCALL_MSRS, "AccessHypercallMsrs" },
	{ HV_PRIV_ACCESS_VP_INDEX, "AccessVpIndex" },
	{ HV_PRIV_ACCESS_RESET, "AccessResetReg" },
	{ HV_PRIV_ACCESS_STATS, "AccessStatsReg" },
	{ HV_PRIV_ACCESS_REF_TSC, "AccessPartitionReferenceTsc" },
	{ HV_PRIV_ACCESS_GUEST_IDLE, "AccessGuestIdleReg" },
	{ HV_PRIV_ACCESS_FREQUENCY, "AccessFrequencyRegs" },
	{ HV_PRIV_ACCESS_DEBUG, "AccessDebugRegs" },
	{ HV_PRIV_ACCESS_REENLIGHTENMENT, "AccessReenlightenmentControls" },
	{ HV_PRIV_ACCESS_ROOT_SCHEDULER, "AccessRootSchedulerReg" },
	{ HV_PRIV_ACCESS_TSC_INVARIANT, "AccessTscInvariantControls" },
	{ HV_PRIV_CREATE_PARTITIONS, "CreatePartitions" },
	{ HV_PRIV_ACCESS_PARTITION_ID, "AccessPartitionId" },
	{ HV_PRIV_ACCESS_MEMORY_POOL, "AccessMemoryPool" },
	{ HV_PRIV_ADJUST_MESSAGE_BUFFERS, "AdjustMessageBuffers" },
	{ HV_PRIV_POST_MESSAGES, "PostMessages" },
	{ HV_PRIV_SIGNAL_EVENTS, "SignalEvents" },
	{ HV_PRIV_CREATE_PORT, "CreatePort" },
	{ HV_PRIV_CONNECT_PORT, "ConnectPort" },
	{ HV_PRIV_ACCESS_STATS_PAGES, "AccessStats" },
	{ HV_PRIV_DEBUGGING, "Debugging" },
	{ HV_PRIV_CPU_MANAGEMENT, "CpuManagement" },
	{ HV_PRIV_ACCESS_VP_REGS, "AccessVpRegisters" },
	{ HV_PRIV_ENABLE_EXTENDED_HYPERCALLS, "EnableExtendedHypercalls" },
	{ HV_PRIV_START_VP, "StartVirtualProcessor" },
	{ HV_PRIV_ISOLATION, "Isolation" },
};

static const struct bit_name features[] = {
	{ HV_FEATURE_XMM_INPUT, "hypercall input by XMM registers" },
	{ HV_FEATURE_GUEST_IDLE, "guest idle state" },
	{ HV_FEATURE_FREQUENCY_MSRS, "frequency registers" },
	{ HV_FEATURE_CRASH_MSRS, "crash registers" },
	{ HV_FEATURE_XMM_OUTPUT, "hypercall output by XMM registers" },
	{ HV_FEATURE_SINT_POLLING, "SINT polling mode" },
	{ HV_FEATURE_STIMER_DIRECT, "synthetic timers in direct mode" },
};

static const struct bit_name hints[] = {
	{ HV_HINT_REMOTE_TLB_FLUSH, "flush TLBs by hypercall" },
	{ HV_HINT_APIC_MSRS, "APIC registers by MSR" },
	{ HV_HINT_RELAXED_TIMING, "relaxed timing" },
	{ HV_HINT_DEPRECATE_AUTO_EOI, "no auto-EOI" },
	{ HV_HINT_CLUSTER_IPI, "IPIs by hypercall" },
	{ HV_HINT_EX_PROCESSOR_MASKS, "extended processor masks" },
	{ HV_HINT_NESTED, "this hypervisor is nested" },
};

/* What a VMBus carries: the classes vmbus_devices.c offers. */
static const struct {
	const char *name, *offered, *driver;
	struct hv_guid class_id;
} devices[] = {
	{ "shutdown", "always", "hv_utils", IC_SHUTDOWN_GUID },
	{ "heartbeat", "always", "hv_utils", IC_HEARTBEAT_GUID },
	{ "time synchronization", "always", "hv_utils", IC_TIMESYNC_GUID },
	{ "key-value pairs", "always", "hv_utils", IC_KVP_GUID },
	{ "backup (VSS)", "always", "hv_utils", IC_VSS_GUID },
	{ "file copy", "always", "hv_utils, hv_fcopy_uio_daemon", IC_FCOPY_GUID },
	{ "network", "each `--net`", "hv_netvsc", NETVSP_GUID },
	{ "SCSI controller", "with `--disk` or `--cdrom`", "hv_storvsc", STORVSP_SCSI_GUID },
	{ "hv_sock", "each connection of `--vsock`", "hv_sock",
	  HV_GUID(0, 0xfacb, 0x11e6, 0xbd, 0x58, 0x64, 0x00, 0x6a, 0x79, 0x86, 0xd3) },
};

/* A column per offer: one per role, and what L0 offers below a nested root. */
struct seat {
	char letters[4]; /* N0 */
	const char *name;
	const struct role_offer *offer;
};
#define SEATS 5

static void seats_fill(struct seat seats[SEATS])
{
	const struct role_profile *r = role_profiles;

	seats[0] = (struct seat){ "G", "guest", &r[ROLE_GUEST].offer };
	seats[1] = (struct seat){ "R", "root", &r[ROLE_ROOT].offer };
	seats[2] = (struct seat){ "N", "nested-root", &r[ROLE_NESTED_ROOT].offer };
	seats[3] = (struct seat){ "N0", "nested-root at L0", &r[ROLE_NESTED_ROOT].outer };
	seats[4] = (struct seat){ "V", "l1vh", &r[ROLE_L1VH].offer };
}

static void print_names(const struct bit_name *names, u32 count, u64 mask)
{
	const char *sep = "";

	for (u32 i = 0; i < count; i++) {
		if (!(mask & names[i].bit))
			continue;
		printf("%s%s", sep, names[i].name);
		sep = ", ";
		mask &= ~names[i].bit;
	}
	if (mask)
		printf("%s0x%llx", sep, (unsigned long long)mask);
	else if (!*sep)
		putchar('-');
}

/* Who holds the privilege, or the one that will do instead, and was offered the feature. */
static void print_seats(u64 privilege, u64 instead, u32 feature)
{
	struct seat seats[SEATS];
	const char *sep = "";

	seats_fill(seats);
	for (u32 i = 0; i < SEATS; i++) {
		const struct role_offer *o = seats[i].offer;

		/* AccessTscInvariantControls is no part of an offer: the machine adds it. */
		if (((o->privileges & privilege) != privilege && !(o->privileges & instead)) ||
		    (o->features_edx & feature) != feature)
			continue;
		printf("%s%s", sep, seats[i].letters);
		sep = " ";
	}
	if (!*sep)
		putchar('-');
}

static void print_size(u32 header, u32 element, bool variable)
{
	if (header || !element)
		printf("%u", header);
	if (variable)
		fputs(" + variable", stdout);
	if (element)
		printf("%s%u each", header ? " + " : "", element);
}

static void print_hypercall(const struct hypercall_desc *d)
{
	printf("| 0x%04X | %s | %s | ", d->code, d->name,
	       d->rep || d->rep_in || d->rep_out ? "rep" : "simple");
	print_size(d->in_size, d->rep_in, d->var_header);
	fputs(" | ", stdout);
	print_size(d->out_size, d->rep_out, false);
	fputs(" | ", stdout);
	print_names(privileges, ARRAY_SIZE(privileges), d->privilege);
	if (d->of_children)
		fputs("; of a child: CreatePartitions", stdout);
	fputs(" | ", stdout);
	print_seats(d->privilege, d->of_children ? HV_PRIV_CREATE_PARTITIONS : 0, 0);
	puts(" |");
}

/* By code, as one looks them up. */
static void print_hypercalls(void)
{
	for (u32 code = 0; code < 0x10000; code++)
		for (u32 i = 0; i < hypercall_row_count(); i++)
			if (hypercall_row(i)->code == code)
				print_hypercall(hypercall_row(i));
}

static void print_intercepts(void)
{
	for (u32 i = 0; i < intercept_row_count(); i++) {
		const struct intercept_desc *d = intercept_row(i);

		printf("| 0x%02X | %s | %s%s%s | %s | %s |\n", d->type, d->name,
		       d->access & HV_INTERCEPT_ACCESS_MASK_READ ? "r" : "",
		       d->access & HV_INTERCEPT_ACCESS_MASK_WRITE ? "w" : "",
		       d->access & HV_INTERCEPT_ACCESS_MASK_EXECUTE ? "x" : "",
		       d->parameter ? d->parameter : "-", d->what);
	}
}

static void print_msr(const struct msr_desc *d)
{
	printf("| 0x%08X", d->base);
	if (d->count > 1)
		printf("-%08X", d->base + d->count - 1);
	printf(" | %s", d->name);
	if (d->pairs)
		printf("0-%u: CONFIG, COUNT", d->count / 2 - 1);
	else if (d->count > 1)
		printf("0-%u", d->count - 1);
	printf(" | %s%s%s | ", d->read ? "r" : "", d->write ? "w" : "", d->engines ? "KVM's" : "");
	if (d->nested)
		printf("0x%08X", d->base + HV_X64_MSR_NESTED_OFFSET);
	else
		putchar('-');
	fputs(" | ", stdout);
	if (d->privilege || !d->feature)
		print_names(privileges, ARRAY_SIZE(privileges), d->privilege);
	if (d->privilege && d->feature)
		fputs("; ", stdout);
	if (d->feature)
		print_names(features, ARRAY_SIZE(features), d->feature);
	fputs(" | ", stdout);
	print_seats(d->privilege, 0, d->feature);
	puts(" |");
}

static void print_msrs(void)
{
	u32 from = 0;

	/* The row with the lowest number above the last one printed. */
	for (u32 n = 0; n < msr_row_count(); n++) {
		const struct msr_desc *next = NULL;

		for (u32 i = 0; i < msr_row_count(); i++) {
			const struct msr_desc *d = msr_row(i);

			if (d->base >= from && (!next || d->base < next->base))
				next = d;
		}
		if (!next)
			break;
		print_msr(next);
		from = next->base + 1;
	}
}

static void print_matrix(const char *what, const struct bit_name *names, u32 count,
			 u64 (*mask)(const struct role_offer *))
{
	struct seat seats[SEATS];

	seats_fill(seats);
	printf("\n| %s |", what);
	for (u32 i = 0; i < SEATS; i++)
		printf(" %s |", seats[i].letters);
	puts("\n|---|---|---|---|---|---|");
	for (u32 n = 0; n < count; n++) {
		printf("| bit %d: %s |", __builtin_ctzll(names[n].bit), names[n].name);
		for (u32 i = 0; i < SEATS; i++)
			printf(" %s |", mask(seats[i].offer) & names[n].bit ? "x" : "-");
		putchar('\n');
	}
}

static u64 offer_privileges(const struct role_offer *o)
{
	return o->privileges;
}

static u64 offer_features(const struct role_offer *o)
{
	return o->features_edx;
}

static u64 offer_hints(const struct role_offer *o)
{
	return o->hints;
}

/* What a leaf says: in words where it depends on the machine, else its registers. */
static const char *leaf_words(u32 leaf)
{
	switch (leaf) {
	case HV_CPUID_VERSION:
		return "EAX: build; EBX: version 10.0";
	case HV_CPUID_FEATURES:
		return "EAX, EBX: privileges; EDX: features, by role";
	case HV_CPUID_RECOMMENDATIONS:
		return "EAX: hints, by role; EBX: all ones";
	case HV_CPUID_LIMITS:
		return "EAX: VPs; EBX: logical processors";
	default:
		return NULL;
	}
}

static void print_leaves(void)
{
	const struct partition any = { 0 };

	for (u32 i = 0; i < hv_cpuid_row_count(); i++) {
		const struct cpuid_desc *d = hv_cpuid_row(i);
		struct engine_cpuid e = { .leaf = d->leaf };

		hv_cpuid_fill(&any, &e);
		printf("| 0x%08X | %s | ", d->leaf, d->name);
		if (leaf_words(d->leaf))
			printf("%s |\n", leaf_words(d->leaf));
		else if (d->fill)
			printf("0x%X 0x%X 0x%X 0x%X |\n", e.eax, e.ebx, e.ecx, e.edx);
		else
			puts("zero |");
	}
}

static void print_leaves_of_roles(void)
{
	struct seat seats[SEATS];

	seats_fill(seats);
	for (u32 i = 0; i < SEATS; i++) {
		const struct role_offer *o = seats[i].offer;
		const struct partition p = { .config = { .privileges = o->privileges,
							 .features_edx = o->features_edx,
							 .hints = o->hints } };
		struct engine_cpuid f = { .leaf = HV_CPUID_FEATURES };
		struct engine_cpuid r = { .leaf = HV_CPUID_RECOMMENDATIONS };

		hv_cpuid_fill(&p, &f);
		hv_cpuid_fill(&p, &r);
		printf("| %s | %s | 0x%08X | 0x%08X | 0x%08X | 0x%08X |\n", seats[i].letters,
		       seats[i].name, f.eax, f.ebx, f.edx, r.eax);
	}
}

/* 0x0601 is 6.1; the last minor number there can be stands for all. */
static void print_release(u16 release)
{
	if ((release & 0xFF) == 0xFF)
		printf("%u.x", release >> 8);
	else
		printf("%u.%u", release >> 8, release & 0xFF);
}

static void print_quirks(void)
{
	for (u32 i = 0; i < QUIRK_COUNT; i++) {
		printf("| `%s` | ", quirks[i].name);
		print_release(quirks[i].first);
		fputs(" to ", stdout);
		print_release(quirks[i].last);
		printf(" | %s | %s | %s |\n", quirks[i].any_root ? "any root" : "nested root",
		       quirks[i].what, quirks[i].defect);
	}
}

static void print_hv_statuses(void)
{
	for (u32 status = 0; status <= 0xFFFF; status++)
		if (hv_status_name((u16)status))
			printf("| 0x%04X | %s |\n", status, hv_status_name((u16)status));
}

static void print_devices(void)
{
	char text[HV_GUID_TEXT];

	for (u32 i = 0; i < ARRAY_SIZE(devices); i++)
		printf("| %s | %s | %s | `%s` |\n", devices[i].name, devices[i].offered,
		       devices[i].driver, hv_guid_format(&devices[i].class_id, text));
}

/* "0    the guest powered off\n..." as rows. */
static void print_statuses(void)
{
	for (const char *line = exit_status_text; *line; line = strchr(line, '\n') + 1) {
		int number = (int)strcspn(line, " ");
		const char *says = line + number + strspn(line + number, " ");

		printf("| %.*s | %.*s |\n", number, line, (int)strcspn(says, "\n"), says);
	}
}

void tables_print(void)
{
	puts("<!-- Printed by `nestor help --tables`; `tools/docs` writes it anew. -->\n"
	     "# What Nestor's hypervisor serves\n\n"
	     "One line per row of the tables that the program itself reads. How a call is checked before\n"
	     "its handler runs stands in [architecture.md](architecture.md), what a kernel does with all\n"
	     "this in [roles.md](roles.md), how to add a row in\n"
	     "[adding-a-hypercall.md](adding-a-hypercall.md).\n\n"
	     "*Who* names the offers that include the row: G a guest, R a root, N a nested root at its own\n"
	     "hypervisor (L1), N0 the same kernel at the hypervisor below (L0), V an L1VH.\n\n"
	     "## Hypercalls\n\n"
	     "Sizes are bytes: of the fixed header, and of each list element of a rep call. Any other code is\n"
	     "answered with `HV_STATUS_INVALID_HYPERCALL_CODE`, a call without its privilege with\n"
	     "`HV_STATUS_ACCESS_DENIED`.\n\n"
	     "| Code | Name | Kind | Input | Output | Privilege | Who |\n"
	     "|---|---|---|---|---|---|---|");
	print_hypercalls();
	puts("\n### Types of HvCallInstallIntercept\n\n"
	     "What a parent asks to be told of a child. Beside that it is told of every port, of memory that\n"
	     "is not there or may not be written, of triple faults and of EOIs of level-triggered interrupts,\n"
	     "and never of HLT ([architecture.md](architecture.md#children)). Another type, or an access that a\n"
	     "type has not, is `HV_STATUS_INVALID_PARAMETER`; what is not to be had is\n"
	     "`HV_STATUS_PROCESSOR_FEATURE_NOT_SUPPORTED`.\n\n"
	     "| Type | Name | Accesses | Parameter | Here |\n"
	     "|---|---|---|---|---|");
	print_intercepts();
	puts("\n## Synthetic MSRs\n\n"
	     "*Nested twin*: the number at which a nested root reaches the same register of L0. An access to\n"
	     "any other number of the synthetic range, or without privilege, is #GP.\n\n"
	     "| Number | Name | Access | Nested twin | Privilege; feature | Who |\n"
	     "|---|---|---|---|---|---|");
	print_msrs();
	puts("\n`TSC_INVARIANT_CONTROL` is there for G and V on a host whose TSC is invariant. `EOI`, `ICR` and `TPR`,\n"
	     "a hint to use them, and lazy EOI in the VP assist page are there for G, R, N and V where KVM itself\n"
	     "has them (`CONFIG_KVM_HYPERV`); KVM serves them, and nothing counts or traces that.\n\n"
	     "## CPUID leaves\n\n"
	     "Registers are EAX, EBX, ECX, EDX. A leaf that is zero is there on purpose: kernels read it, and\n"
	     "nothing is offered in it.\n\n"
	     "| Leaf | Name | Contents |\n"
	     "|---|---|---|");
	print_leaves();
	puts("\nWhat differs by role (a guest or L1VH on a host whose TSC is invariant has bit 15 of 3.EAX\n"
	     "as well; where KVM has the local APIC's registers, G, R, N and V have bit 4 of 3.EAX and bit 3\n"
	     "of 4.EAX):\n\n"
	     "| | Offer | 3.EAX | 3.EBX | 3.EDX | 4.EAX |\n"
	     "|---|---|---|---|---|---|");
	print_leaves_of_roles();
	puts("\n### Privileges (0x40000003 EAX, and EBX from bit 32 on)");
	print_matrix("Privilege", privileges, ARRAY_SIZE(privileges), offer_privileges);
	puts("\n### Features (0x40000003 EDX)");
	print_matrix("Feature", features, ARRAY_SIZE(features), offer_features);
	puts("\n### Hints (0x40000004 EAX)");
	print_matrix("Hint", hints, ARRAY_SIZE(hints), offer_hints);
	puts("\n## Quirks\n\n"
	     "With `--quirks auto` those of the kernel's release are in effect, with `--quirks LIST`\n"
	     "those named, with `--quirks none` none.\n\n"
	     "| Name | Linux | In | What it does | What it makes up for |\n"
	     "|---|---|---|---|---|");
	print_quirks();
	puts("\n## Statuses\n\n"
	     "By these names traces and messages call them and `nestor run --fail` takes them; it takes\n"
	     "any number as well. Without one, such a call gets HV_STATUS_OPERATION_FAILED.\n\n"
	     "| Status | Name |\n"
	     "|---|---|");
	print_hv_statuses();
	puts("\n## VMBus devices\n\n"
	     "| Device | Offered | Driver in Linux | Class |\n"
	     "|---|---|---|---|");
	print_devices();
	puts("\nThe first field of hv_sock's class is the port.\n\n"
	     "## Exit statuses of `nestor run`\n\n"
	     "| Status | Meaning |\n"
	     "|---|---|");
	print_statuses();
}
