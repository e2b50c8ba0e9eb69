// SPDX-License-Identifier: MIT
/* nestor help --tables: doc/hypercalls.md, printed from the rows that the dispatchers read. */
#include <stdio.h>

#include "cli/options.h"
#include "core/hypercall.h"
#include "core/msr.h"
#include "hvdef/cpuid.h"
#include "machine/role.h"

static const struct {
	u64 bit;
	const char *name; /* as the TLFS has it */
} privileges[] = {
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

static void print_privileges(u64 mask)
{
	const char *sep = "";

	for (u32 i = 0; i < ARRAY_SIZE(privileges); i++) {
		if (!(mask & privileges[i].bit))
			continue;
		printf("%s%s", sep, privileges[i].name);
		sep = ", ";
		mask &= ~privileges[i].bit;
	}
	if (mask)
		printf("%s0x%llx", sep, (unsigned long long)mask);
	else if (!*sep)
		putchar('-');
}

static void print_size(u32 header, u32 element, bool variable)
{
	printf("%u", header);
	if (variable)
		fputs(" + variable", stdout);
	if (element)
		printf(" + %u each", element);
}

static void print_hypercalls(void)
{
	/* By code, as one looks them up. */
	for (u32 code = 0; code < 0x10000; code++) {
		for (u32 i = 0; i < hypercall_row_count(); i++) {
			const struct hypercall_desc *d = hypercall_row(i);

			if (d->code != code)
				continue;
			printf("| 0x%04X | %s | %s | ", d->code, d->name,
			       d->rep || d->rep_in || d->rep_out ? "rep" : "simple");
			print_size(d->in_size, d->rep_in, d->var_header);
			fputs(" | ", stdout);
			print_size(d->out_size, d->rep_out, false);
			fputs(" | ", stdout);
			print_privileges(d->privilege);
			puts(" |");
		}
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
	printf(" | %s%s | %s | ", d->read ? "r" : "", d->write ? "w" : "", d->nested ? "yes" : "-");
	print_privileges(d->privilege);
	puts(" |");
}

static void print_msrs(void)
{
	u32 after = 0;

	/* The row with the lowest number above the last one printed. */
	for (u32 n = 0; n < msr_row_count(); n++) {
		const struct msr_desc *next = NULL;

		for (u32 i = 0; i < msr_row_count(); i++) {
			const struct msr_desc *d = msr_row(i);

			if (d->base > after && (!next || d->base < next->base))
				next = d;
		}
		if (!next)
			break;
		print_msr(next);
		after = next->base;
	}
}

void tables_print(void)
{
	puts("<!-- SPDX-License-Identifier: MIT -->\n"
	     "<!-- Printed by `nestor help --tables`; write it anew with `tools/docs`. -->\n"
	     "# Hypercalls and synthetic registers that Nestor serves\n\n"
	     "One line per row of the tables the dispatchers read. What a partition may use of them\n"
	     "follows from its privileges; how a call is checked before its handler runs stands in\n"
	     "[architecture.md](architecture.md), how to add one in\n"
	     "[adding-a-hypercall.md](adding-a-hypercall.md).\n\n"
	     "## Hypercalls\n\n"
	     "Sizes are bytes of the fixed header, and of each list element of a rep call. Any other\n"
	     "code is answered with HV_STATUS_INVALID_HYPERCALL_CODE.\n\n"
	     "| Code | Name | Kind | Input | Output | Privilege |\n"
	     "|---|---|---|---|---|---|");
	print_hypercalls();
	puts("\n## Synthetic MSRs\n\n"
	     "*Nested*: also at number + 0x1000, where a nested root reaches its outer hypervisor.\n"
	     "Access to any other number of the synthetic range is #GP.\n\n"
	     "| Number | Name | Access | Nested | Privilege |\n"
	     "|---|---|---|---|---|");
	print_msrs();
	puts("\n## Privileges of each role\n\n"
	     "| Role | What it is | Privileges |\n"
	     "|---|---|---|");
	for (u32 i = 0; i < ROLE_COUNT; i++) {
		const struct role_profile *r = &role_profiles[i];

		printf("| %s | %s | ", r->name, r->what);
		print_privileges(r->offer.privileges);
		puts(" |");
	}
	puts("\nA host whose TSC is invariant adds AccessTscInvariantControls.");
}
