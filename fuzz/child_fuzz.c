// SPDX-License-Identifier: MIT
/*
 * A parent of two VPs that manages partitions wildly, one thread each, while VPs of
 * its children stop for any reason on threads of their own. The two share ids and
 * pages, so anything may be deleted under anything. Pages that no call names stay as
 * they are; and once the parent has ended its children and withdrawn its pools, every
 * page is back exactly once and no thread, mapping or descriptor is left.
 */
#include <dirent.h>
#include <stdio.h>

#include "core/child_intercept.h"
#include "core/deposit.h"
#include "core_fuzz.h"
#include "hvdef/child.h"
#include "hvdef/intercept.h"
#include "hvdef/port.h"
#include "hvdef/gpa.h"
#include "hvdef/property.h"
#include "hvdef/vp_regs.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t len);
int LLVMFuzzerInitialize(int *argc, char ***argv);

#define ACTORS	       2u
#define CALLS_MAX      300u /* of each */
#define IDS	       6u
#define PARTITIONS_MAX 1024u
#define RAM_PAGES      (TEST_RAM_BYTES / PAGE_BYTES)
#define FIRST_POOL     32u
#define FIRST_KEPT     896u /* no call names these */
#define KEPT_BYTE      0xA5

struct actor {
	struct fuzz f; /* for its input */
	struct vp *vp;
	u64 in_gpa, out_gpa;
	u64 word[512]; /* of the input page under construction */
	u32 words;
};

static struct core_test ct;
static struct actor actor[ACTORS];
static u64 ids[IDS]; /* atomic: of children that are or were */

/* Who has given what to whom, as the calls say. */
static struct {
	pthread_mutex_t lock;
	s32 times[RAM_PAGES];	     /* given minus taken back */
	u64 owner[RAM_PAGES];	     /* the pool */
	u32 deleted[PARTITIONS_MAX]; /* by the actors, perhaps with pages: those are free then */
} books = { .lock = PTHREAD_MUTEX_INITIALIZER };

static u64 take(struct actor *a, u32 bytes)
{
	return fuzz_take(&a->f, bytes);
}

static u32 below(struct actor *a, u32 n)
{
	return fuzz_below(&a->f, n);
}

/* Values. */

static u64 any_id(struct actor *a)
{
	u64 how = take(a, 1);

	switch (how) {
	case 0:
		return HV_PARTITION_ID_SELF;
	case 1:
		return ct.p->id;
	case 2:
		return take(a, 8);
	case 3:
		return 0;
	default:
		return __atomic_load_n(&ids[how % IDS], __ATOMIC_RELAXED);
	}
}

static u32 any_vp(struct actor *a)
{
	u64 how = take(a, 1);

	if (how >= 240)
		return how & 1 ? HV_ANY_VP : (u32)(how & 2 ? 0xFFFFFFFE : CHILD_VPS_MAX - 1);
	return (u32)how % 5;
}

/* A page of the parent's, and never one of those that nobody names. */
static u64 any_gpn(struct actor *a)
{
	u64 how = take(a, 1);

	if (how == 0)
		return RAM_PAGES + take(a, 7);
	if (how == 1)
		return ~take(a, 1);
	return FIRST_POOL + take(a, 2) % (FIRST_KEPT - FIRST_POOL);
}

/* One of the child's. */
static u64 any_child_gpn(struct actor *a)
{
	u64 how = take(a, 1);

	if (how == 0)
		return take(a, 8);
	if (how == 1)
		return (0xFEE00000 >> PAGE_SHIFT) - (take(a, 1) & 3);
	if (how == 2)
		return BIT64(TEST_PHYSICAL_BITS - PAGE_SHIFT) - (take(a, 1) & 3);
	return how & 1 ? how & 0xF0 : how << 8 & 0x3E00;
}

static u64 any_value(struct actor *a)
{
	u64 how = take(a, 1);

	switch (how & 7) {
	case 0:
		return take(a, 8);
	case 1:
		return any_child_gpn(a) << PAGE_SHIFT | 1;
	case 2:
		return any_gpn(a) << PAGE_SHIFT | 1;
	case 3:
		return take(a, 4);
	default:
		return how >> 3;
	}
}

static void put(struct actor *a, u64 value)
{
	a->word[a->words++ % ARRAY_SIZE(a->word)] = value;
}

static void put2(struct actor *a, u32 low, u32 high)
{
	put(a, low | (u64)high << 32);
}

/* The call, with what put() collected. Sometimes the page that takes the answer is another. */
static u64 call(struct actor *a, u64 control)
{
	struct hypercall_regs regs = { control, a->in_gpa, a->out_gpa, true };
	u64 result = 0;

	memcpy(ct.ram + a->in_gpa, a->word, sizeof(a->word));
	if (take(a, 1) == 7)
		regs.output = any_gpn(a) << PAGE_SHIFT;
	hypercall_execute(a->vp, &regs, &result);
	return result;
}

static u64 rep(struct actor *a, u32 most)
{
	u64 count = 1 + take(a, 1) % most, how = take(a, 1);

	return (how == 1 ? take(a, 2) & 0xFFF : count) << 32 |
	       (how == 2 ? take(a, 1) : 0) << HV_HYPERCALL_REP_START_SHIFT;
}

/* Calls. */

/* Its id, 0 if there is none. @odd: the rest of the input may be anything. */
static u64 create_as(struct actor *a, u64 flags, bool odd)
{
	u64 id;

	for (u32 i = 0; i < 7; i++)
		put(a, i == 0 ? flags : odd && take(a, 1) == 9 ? take(a, 8) : 0);
	if ((call(a, HVCALL_CREATE_PARTITION) & 0xFFFF) != HV_STATUS_SUCCESS)
		return 0;
	memcpy(&id, ct.ram + a->out_gpa, sizeof(id));
	__atomic_store_n(&ids[below(a, IDS)], id, __ATOMIC_RELAXED);
	return id;
}

static void create(struct actor *a)
{
	create_as(a, HV_CREATE_LAPIC | HV_CREATE_X2APIC, true);
}

static void book_deletion(u64 id, s32 by)
{
	pthread_mutex_lock(&books.lock);
	if (id < PARTITIONS_MAX)
		books.deleted[id] += (u32)by;
	pthread_mutex_unlock(&books.lock);
}

static bool deleted(u64 id)
{
	return id < PARTITIONS_MAX && books.deleted[id];
}

static void book_deposit(u64 id, const u64 *gpn, u64 count)
{
	pthread_mutex_lock(&books.lock);
	for (u64 i = 0; i < count; i++) {
		assert(gpn[i] < RAM_PAGES);
		books.times[gpn[i]] += books.times[gpn[i]] != 1 || !deleted(books.owner[gpn[i]]);
		books.owner[gpn[i]] = id;
	}
	pthread_mutex_unlock(&books.lock);
}

static void book_withdrawal(const u64 *gpn, u64 count)
{
	pthread_mutex_lock(&books.lock);
	for (u64 i = 0; i < count; i++) {
		assert(gpn[i] < RAM_PAGES);
		books.times[gpn[i]]--;
	}
	pthread_mutex_unlock(&books.lock);
}

static void life(struct actor *a)
{
	static const u16 codes[] = { HVCALL_INITIALIZE_PARTITION, HVCALL_INITIALIZE_PARTITION,
				     HVCALL_INITIALIZE_PARTITION, HVCALL_FINALIZE_PARTITION,
				     HVCALL_DELETE_PARTITION,	  HVCALL_CLEAR_VIRTUAL_INTERRUPT };
	u16 code = codes[below(a, ARRAY_SIZE(codes))];
	u64 id = any_id(a);

	put(a, id);
	if (code == HVCALL_DELETE_PARTITION)
		book_deletion(id, 1);
	if ((call(a, code) & 0xFFFF) != HV_STATUS_SUCCESS && code == HVCALL_DELETE_PARTITION)
		book_deletion(id, -1);
}

static void deposit(struct actor *a)
{
	u32 count = 1 + (u32)take(a, 1) % 24;
	u64 first = any_gpn(a), result;

	put(a, any_id(a));
	for (u32 i = 0; i < count; i++)
		put(a, take(a, 1) == 1 ? any_gpn(a) : first + i);
	for (u32 i = 1; i <= count; i++)
		if (a->word[i] >= FIRST_KEPT && a->word[i] < RAM_PAGES)
			a->word[i] = FIRST_POOL;
	result = call(a, HVCALL_DEPOSIT_MEMORY | (u64)count << 32);
	book_deposit(a->word[0], a->word + 1, result >> 32 & 0xFFF);
}

static void withdraw_from(struct actor *a, u64 id, u32 count)
{
	struct hypercall_regs regs = { HVCALL_WITHDRAW_MEMORY | (u64)count << 32, a->in_gpa,
				       a->out_gpa, true };
	const u64 in[2] = { id };
	u64 result = 0, out[512];

	memcpy(ct.ram + a->in_gpa, in, sizeof(in));
	hypercall_execute(a->vp, &regs, &result);
	memcpy(out, ct.ram + a->out_gpa, sizeof(out));
	book_withdrawal(out, result >> 32 & 0xFFF);
}

static void withdraw(struct actor *a)
{
	u64 id = any_id(a);

	withdraw_from(a, id, 1 + (u32)take(a, 1) % 64);
}

static void map(struct actor *a)
{
	static const u32 flags[] = { HV_MAP_GPA_READABLE | HV_MAP_GPA_WRITABLE |
					     HV_MAP_GPA_EXECUTABLE,
				     HV_MAP_GPA_READABLE | HV_MAP_GPA_EXECUTABLE,
				     HV_MAP_GPA_NO_ACCESS, HV_MAP_GPA_NO_ACCESS };
	u64 how = take(a, 1), first = any_gpn(a), step = how >> 2 & 1;
	u32 most = step ? 16 : 64;

	put(a, any_id(a));
	put(a, any_child_gpn(a));
	put(a, flags[how & 3] | (how >= 250 ? HV_MAP_GPA_LARGE_PAGE : 0));
	for (u32 i = 0; i < most; i++)
		put(a, first + i * (1 + step));
	for (u32 i = 3; i < a->words; i++)
		if (a->word[i] >= FIRST_KEPT && a->word[i] < RAM_PAGES)
			a->word[i] = FIRST_POOL;
	/* A list that is longer than what was filled in names page 0. */
	call(a, HVCALL_MAP_GPA_PAGES | rep(a, most));
}

static void unmap(struct actor *a)
{
	put(a, any_id(a));
	put(a, any_child_gpn(a));
	put(a, take(a, 1) == 1 ? HV_UNMAP_GPA_LARGE_PAGE : 0);
	call(a, HVCALL_UNMAP_GPA_PAGES | rep(a, 255));
}

static void access_states(struct actor *a)
{
	put(a, any_id(a));
	put(a, take(a, 1) & 15);
	put(a, any_child_gpn(a));
	call(a, HVCALL_GET_GPA_PAGES_ACCESS_STATE | rep(a, 255));
}

static void create_vp(struct actor *a)
{
	put(a, any_id(a));
	put(a, any_vp(a));
	put(a, 0);
	put(a, 0);
	put(a, 0);
	call(a, HVCALL_CREATE_VP);
}

static void vp_call(struct actor *a)
{
	static const u16 codes[] = { HVCALL_DELETE_VP, HVCALL_MAP_VP_STATE_PAGE,
				     HVCALL_MAP_VP_STATE_PAGE, HVCALL_MAP_VP_STATE_PAGE,
				     HVCALL_UNMAP_VP_STATE_PAGE };
	u64 how = take(a, 1);

	put(a, any_id(a));
	put2(a, any_vp(a), (u32)(how >> 3) % 3 | (how >= 250 ? (u32)take(a, 4) : 0));
	put(a, any_gpn(a));
	call(a, codes[how % ARRAY_SIZE(codes)]);
}

static u32 any_register(struct actor *a)
{
	static const u32 bases[] = { HvRegisterExplicitSuspend,
				     HvX64RegisterRax,
				     HvX64RegisterRip,
				     HvX64RegisterCr0,
				     HvX64RegisterEs,
				     HvRegisterScontrol,
				     HvRegisterSint0,
				     HvX64RegisterHypercall,
				     HvRegisterGuestOsId,
				     HvRegisterVpAssistPage,
				     HvRegisterReferenceTsc,
				     HvRegisterStimer0Config,
				     HvX64RegisterTsc,
				     HvX64RegisterFpMmx0,
				     HvRegisterPendingEvent0,
				     HvRegisterGuestCrashP0,
				     HvRegisterPendingInterruption,
				     HvX64RegisterDeliverabilityNotifications };
	u64 how = take(a, 1);

	if (how == 255)
		return (u32)take(a, 4);
	return bases[how % ARRAY_SIZE(bases)] + (how & 0x80 ? (u32)take(a, 1) & 15 : 0);
}

static void registers(struct actor *a)
{
	u64 count = 1 + take(a, 1) % 4;
	bool set = take(a, 1) & 1;

	put(a, any_id(a));
	put(a, any_vp(a));
	for (u64 i = 0; i < count; i++) {
		put(a, any_register(a));
		if (!set)
			continue;
		put(a, 0);
		put(a, any_value(a));
		put(a, take(a, 1) == 1 ? take(a, 8) : 0);
	}
	call(a, (set ? HVCALL_SET_VP_REGISTERS : HVCALL_GET_VP_REGISTERS) | count << 32);
}

/* The common case: a VP goes on. */
static void resume_vp(struct actor *a, u64 id, u32 vp)
{
	put(a, id);
	put(a, vp);
	for (u32 i = 0; i < 2; i++) {
		put(a, HvRegisterExplicitSuspend + i);
		put(a, 0);
		put(a, 0);
		put(a, 0);
	}
	call(a, HVCALL_SET_VP_REGISTERS | 2ull << 32);
}

static void resume(struct actor *a)
{
	u64 id = any_id(a);

	resume_vp(a, id, any_vp(a));
}

/* Never for long: a VP of the fake engine's without a next exit does not come back by itself. */
static void dispatch(struct actor *a)
{
	u64 how = take(a, 1);

	put(a, any_id(a));
	put2(a, any_vp(a), how == 255 ? (u32)take(a, 4) : (u32)(how & 3));
	put(a, 1 + (how << 3));
	put(a, 0);
	call(a, HVCALL_DISPATCH_VP);
}

static void property(struct actor *a)
{
	static const u32 properties[] = { HV_PROPERTY_SYNTHETIC_PROC_FEATURES,
					  HV_PROPERTY_SYNTHETIC_PROC_FEATURES,
					  HV_PROPERTY_TIME_FREEZE,
					  HV_PROPERTY_REFERENCE_TIME,
					  HV_PROPERTY_PROCESSORS_PER_SOCKET,
					  HV_PROPERTY_GPA_PAGE_ACCESS_TRACKING,
					  HV_PROPERTY_UNIMPLEMENTED_MSR_ACTION,
					  HV_PROPERTY_XSAVE_STATES,
					  HV_PROPERTY_ASSIGNABLE_SYNTHETIC_FEATURES };
	static const u16 codes[] = { HVCALL_SET_PARTITION_PROPERTY, HVCALL_SET_PARTITION_PROPERTY,
				     HVCALL_GET_PARTITION_PROPERTY,
				     HVCALL_GET_PARTITION_PROPERTY_EX };
	u64 how = take(a, 1);

	put(a, any_id(a));
	put(a, how == 255 ? take(a, 4) : properties[how % ARRAY_SIZE(properties)]);
	put(a, how & 0x80 ? ~0ull : any_value(a));
	call(a, codes[below(a, ARRAY_SIZE(codes))]);
}

static void stats(struct actor *a)
{
	static const u16 codes[] = { HVCALL_MAP_STATS_PAGE, HVCALL_UNMAP_STATS_PAGE,
				     HVCALL_MAP_STATS_PAGE2 };
	u64 how = take(a, 1);

	put(a, how & 7);
	put(a, any_id(a));
	put(a, any_vp(a) | (how >> 6 == 3 ? BIT64(56) : 0));
	put(a, any_gpn(a));
	call(a, codes[(how >> 3) % ARRAY_SIZE(codes)]);
}

static void cpuid_result(struct actor *a)
{
	u64 how = take(a, 1);

	put(a, any_id(a));
	put2(a, any_vp(a), how == 255 ? 1 : HV_INTERCEPT_TYPE_CPUID);
	put2(a, (u32)take(a, 1) & 15, 0);
	put(a, how & 3);
	for (u32 i = 0; i < 5; i++)
		put(a, take(a, 2) * 0x100010001ull);
	if (how & 4)
		call(a, HVCALL_REGISTER_INTERCEPT_RESULT);
	else
		call(a, HVCALL_GET_VP_CPUID_VALUES | (1 + (how >> 3 & 3)) << 32);
}

static void interrupt(struct actor *a)
{
	u64 how = take(a, 1);

	put(a, any_id(a));
	put(a, how & 0x80 ? take(a, 8) : how & 7);
	put(a, how == 1 ? take(a, 8) : any_vp(a));
	put(a, how & 8 ? take(a, 1) : take(a, 4));
	call(a, HVCALL_ASSERT_VIRTUAL_INTERRUPT);
}

/* Few ids, so that the two meet. */
static void port(struct actor *a)
{
	u64 how = take(a, 1);
	u32 id = 1 + (how >> 2 & 3);

	switch (how & 3) {
	case 0:
		put(a, HV_PARTITION_ID_SELF);
		put(a, id);
		put(a, any_id(a));
		put(a, HV_PORT_TYPE_DOORBELL);
		put2(a, 2, how & 0x80 ? HV_ANY_VP : any_vp(a));
		put(a, 0);
		put(a, 0);
		call(a, HVCALL_CREATE_PORT);
		break;
	case 1:
		put(a, any_id(a));
		put(a, id);
		put(a, HV_PARTITION_ID_SELF);
		put(a, 1 + (how >> 4 & 3));
		put(a, HV_PORT_TYPE_DOORBELL);
		put(a, any_value(a));
		put(a, any_value(a));
		put(a, how >> 6 ? HV_DOORBELL_ANY_VALUE | how >> 6 : take(a, 1));
		put(a, 0);
		call(a, HVCALL_CONNECT_PORT);
		break;
	case 2:
		put(a, any_id(a));
		put(a, id);
		call(a, HVCALL_DISCONNECT_PORT);
		break;
	default:
		put(a, how & 0x10 ? HV_PARTITION_ID_SELF : how >> 5);
		put(a, id);
		call(a, how & 0x10 ? HVCALL_DELETE_PORT : HVCALL_NOTIFY_PORT_RING_EMPTY);
	}
}

static void synic_direct(struct actor *a)
{
	u64 how = take(a, 1);

	put(a, any_id(a));
	put2(a, any_vp(a), how & 1 ? (u32)take(a, 4) : (u32)(how >> 4) << 8);
	for (u32 i = 0; i < 34; i++)
		put(a, i < 3 ? take(a, 2) : 0);
	call(a, how & 2 ? HVCALL_SIGNAL_EVENT_DIRECT : HVCALL_POST_MESSAGE_DIRECT);
}

static void vp_state(struct actor *a)
{
	u64 how = take(a, 1), head = 1 + (how >> 4 & 3);
	bool set = how & 1;

	put(a, any_id(a));
	put2(a, any_vp(a), 0);
	put(a, how >> 1 & 7);
	put(a, 0);
	put(a, take(a, 1) ? ~0ull : take(a, 8));
	for (u64 i = 0; i < head; i++)
		put(a, any_gpn(a));
	call(a, (set ? HVCALL_SET_VP_STATE : HVCALL_GET_VP_STATE) | (how >= 250 ? take(a, 1) : head)
									    << 17);
}

/* Registers that a VP then accesses, and ports. */
static u32 any_msr(struct actor *a)
{
	u64 how = take(a, 1);

	if (how & 0x40)
		return (u32)take(a, 4);
	if (how & 0x20)
		return 0x7F0 + (u32)take(a, 1) % 32; /* into those of the x2APIC */
	return msr_row(below(a, msr_row_count()))->base + (u32)(how >> 4 & 1);
}

static void intercept(struct actor *a)
{
	u64 how = take(a, 1);
	u32 row = (u32)(how >> 3) % intercept_row_count();

	put(a, any_id(a));
	put2(a, how == 255 ? (u32)take(a, 4) : (u32)how & intercept_row(row)->access,
	     how >= 250 ? (u32)take(a, 1) : (u32)intercept_row(row)->type);
	put(a, any_msr(a));
	call(a, HVCALL_INSTALL_INTERCEPT);
}

/* Those have steps of their own, which keep account. */
static bool names_memory(u16 code)
{
	return code == HVCALL_DEPOSIT_MEMORY || code == HVCALL_WITHDRAW_MEMORY ||
	       code == HVCALL_DELETE_PARTITION || code == HVCALL_MAP_GPA_PAGES ||
	       code == HVCALL_MAP_STATS_PAGE2 || code == HVCALL_GET_VP_STATE ||
	       code == HVCALL_SET_VP_STATE;
}

static void other(struct actor *a)
{
	u64 how = take(a, 1);
	u16 code;

	put(a, any_id(a));
	put(a, any_vp(a));
	put(a, take(a, 2));
	put(a, any_value(a) >> PAGE_SHIFT);
	switch (how & 3) {
	case 0:
	case 1:
		call(a, HVCALL_TRANSLATE_VIRTUAL_ADDRESS);
		break;
	default: /* any row, with what is there */
		code = hypercall_row((u32)(how >> 2) % hypercall_row_count())->code;
		if (!names_memory(code))
			call(a, code | rep(a, 32));
	}
}

/* What else the parent does: memory, messages, time, a new kernel. */

static void poke(struct actor *a)
{
	u64 gpn = FIRST_POOL + take(a, 2) % (FIRST_KEPT - FIRST_POOL), word = take(a, 8);
	u64 at = take(a, 1) % 64 * 8;

	/* Where a child's VP stops: RDMSR or WRMSR. */
	if ((word & 3) == 3) {
		word = word & 4 ? 0x320F : 0x300F;
		at = 0;
	}
	/* Where it cannot, its VP would have stopped. Lent pages it can. */
	gmem_write(&ct.gmem, (gpn << PAGE_SHIFT) + at, &word, sizeof(word));
}

static void drain(struct actor *a)
{
	const u32 none = HV_MESSAGE_NONE;

	gmem_write(&ct.gmem, a->vp->synic.simp & HV_MSR_PAGE_GPN_MASK, &none, sizeof(none));
	msr_write(a->vp, HV_X64_MSR_EOM, 0);
	if (a == &actor[0])
		core_test_advance(&ct, take(a, 1) << 16);
}

static void parent_msr(struct actor *a)
{
	static const u32 msrs[] = {
		HV_X64_MSR_SIMP,     HV_X64_MSR_SIEFP, HV_X64_MSR_SIRBP,
		HV_X64_MSR_SCONTROL, HV_X64_MSR_SINT0, HV_X64_MSR_VP_ASSIST_PAGE
	};
	u64 how = take(a, 1);
	u64 value = (how & 8 ? any_gpn(a) << PAGE_SHIFT : 0) | (how >> 4 & 1);

	msr_write(a->vp, msrs[how % ARRAY_SIZE(msrs)], how & 8 ? value : 1);
}

/* A VP of a child's stops. */

static struct engine_exit any_exit(struct actor *a)
{
	static u8 data[64];
	u64 how = take(a, 1);
	struct engine_exit e = { .kind = ENGINE_EXIT_HYPERCALL };

	switch (how % 10) {
	case 0:
		e.kind = ENGINE_EXIT_IO;
		e.io.port = (u16)take(a, 1);
		e.io.size = (u8)(1 << (how >> 4) % 3);
		e.io.write = how & 0x80;
		e.io.count = 1;
		e.io.data = data;
		break;
	case 1:
		e.kind = ENGINE_EXIT_MMIO;
		e.mmio.gpa = any_child_gpn(a) << PAGE_SHIFT;
		e.mmio.size = (u8)(1 << (how >> 4) % 4);
		e.mmio.write = how & 0x80;
		e.mmio.data = data;
		break;
	case 2:
	case 3:
	case 4:
		e.kind = how & 0x80 ? ENGINE_EXIT_RDMSR : ENGINE_EXIT_WRMSR;
		e.msr.index = any_msr(a);
		e.msr.value = any_value(a);
		break;
	case 5:
		e.kind = ENGINE_EXIT_EOI;
		break;
	case 6:
		e.kind = how & 0x80 ? ENGINE_EXIT_MEMORY : ENGINE_EXIT_ERROR;
		e.error.what = "any";
		break;
	case 7:
		e.kind = how & 0x80 ? ENGINE_EXIT_SHUTDOWN : ENGINE_EXIT_HALT;
		break;
	default:
		break;
	}
	return e;
}

static void child_stops(struct actor *a)
{
	struct hypercall hc = { .vp = a->vp };
	struct partition *p = child_get(&hc, any_id(a));
	struct vp *vp = p ? partition_vp(p, any_vp(a)) : NULL;
	struct fake_step step = { .set_regs = true };
	u64 how = take(a, 1);

	step.exit = any_exit(a);
	step.regs.rip = any_child_gpn(a) << PAGE_SHIFT;
	step.regs.rcx = hypercall_row((u32)how % hypercall_row_count())->code |
			(how & 0x80 ? 1ull << 32 : 0) | (how & 0x40 ? HV_HYPERCALL_FAST : 0);
	step.regs.rdx = how & 0x40 ? HV_PARTITION_ID_SELF : any_child_gpn(a) << PAGE_SHIFT;
	step.regs.r8 = any_child_gpn(a) << PAGE_SHIFT;
	if (vp)
		fake_push(vp->vcpu, &step);
	if (p)
		child_put(p);
}

static void again(struct actor *a)
{
	a->words = 0;
	memset(a->word, 0, sizeof(a->word));
}

/* A partition as a monitor makes it, whose VP accesses a register: far to go by chance. */
static void machine(struct actor *a)
{
	const u32 pages = DEPOSIT_INITIALIZE + DEPOSIT_VP + DEPOSIT_MAP;
	u64 first = FIRST_POOL + take(a, 2) % (FIRST_KEPT - FIRST_POOL - pages - 1), id, result;
	u64 how = take(a, 1), code = how & 1 ? 0x300F : 0x320F;
	struct fake_step step = { .set_regs = true };
	struct hypercall hc = { .vp = a->vp };
	struct partition *p;

	id = create_as(a, HV_CREATE_LAPIC | HV_CREATE_X2APIC, false);
	again(a);
	put(a, id);
	for (u32 i = 0; i < pages; i++)
		put(a, first + i);
	result = call(a, HVCALL_DEPOSIT_MEMORY | (u64)pages << 32);
	book_deposit(id, a->word + 1, result >> 32 & 0xFFF);
	again(a);
	put(a, id);
	call(a, HVCALL_INITIALIZE_PARTITION);
	again(a);
	put(a, id);
	call(a, HVCALL_CREATE_VP);
	again(a);
	put(a, id);
	put(a, 0);
	put(a, HV_MAP_GPA_READABLE | HV_MAP_GPA_WRITABLE | HV_MAP_GPA_EXECUTABLE);
	put(a, first + pages);
	call(a, HVCALL_MAP_GPA_PAGES | 1ull << 32);
	again(a);
	gmem_write(&ct.gmem, (first + pages) << PAGE_SHIFT, &code, sizeof(code));
	put(a, id);
	put2(a, (u32)how >> 1 & 3,
	     how & 8 ? HV_INTERCEPT_TYPE_X64_MSR : HV_INTERCEPT_TYPE_X64_MSR_INDEX);
	put(a, any_msr(a));
	step.exit = (struct engine_exit){ .kind = how & 1 ? ENGINE_EXIT_WRMSR : ENGINE_EXIT_RDMSR,
					  .msr.index = how & 16 ? any_msr(a) : (u32)a->word[2] };
	call(a, HVCALL_INSTALL_INTERCEPT);
	again(a);
	p = child_get(&hc, id);
	if (p && partition_vp(p, 0))
		fake_push(partition_vp(p, 0)->vcpu, &step);
	if (p)
		child_put(p);
	resume_vp(a, id, 0);
}

static void act(struct actor *a)
{
	static void (*const steps[])(struct actor * a) = {
		create,	     life,	   deposit,	  deposit,   withdraw,	 map,
		map,	     unmap,	   access_states, create_vp, create_vp,	 vp_call,
		vp_call,     registers,	   registers,	  resume,    resume,	 property,
		stats,	     cpuid_result, interrupt,	  port,	     port,	 synic_direct,
		vp_state,    other,	   poke,	  drain,     parent_msr, child_stops,
		child_stops, child_stops,  intercept,	  machine,   dispatch,	 dispatch,
	};

	again(a);
	steps[below(a, ARRAY_SIZE(steps))](a);
}

static void *act_all(void *arg)
{
	struct actor *a = arg;

	for (u32 i = 0; a->f.in.len && i < CALLS_MAX; i++)
		act(a);
	return NULL;
}

/* Frame. */

static u32 entries(const char *directory)
{
	DIR *d = opendir(directory);
	u32 n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static u32 overlay_mappings(void)
{
	FILE *f = fopen("/proc/self/maps", "r");
	char line[512];
	u32 n = 0;

	while (fgets(line, sizeof(line), f))
		n += strstr(line, "nestor-overlays") || strstr(line, "test-ram");
	fclose(f);
	return n;
}

static void begin(const u8 *data, size_t len)
{
	const struct core_test_config cfg = { .vps = ACTORS };
	u64 pool[1 + 64] = { HV_PARTITION_ID_SELF };
	size_t half = len / 2;

	log_set_prefix("");
	core_test_create(&ct, &cfg);
	ct.hv.root_scheduler = len && (data[len - 1] & 1);
	memset(ids, 0, sizeof(ids));
	memset(books.times, 0, sizeof(books.times));
	memset(books.deleted, 0, sizeof(books.deleted));
	memset(ct.ram + FIRST_KEPT * PAGE_BYTES, KEPT_BYTE, (RAM_PAGES - FIRST_KEPT) * PAGE_BYTES);
	for (u32 i = 0; i < ACTORS; i++) {
		struct actor *a = &actor[i];

		ct.vp[i]->thread_started = true; /* by us: HvCallCreateVp must not */
		*a = (struct actor){ .vp = ct.vp[i],
				     .in_gpa = (2 + 2 * i) * PAGE_BYTES,
				     .out_gpa = (3 + 2 * i) * PAGE_BYTES };
		a->f.in = (struct fuzz_input){ data + i * half, half };
		core_test_write(a->vp, HV_X64_MSR_GUEST_OS_ID, TEST_OS_ID);
		core_test_synic_on(a->vp, (16 + i * 3) * PAGE_BYTES);
		core_test_write(a->vp, HV_X64_MSR_SIRBP,
				(18 + i * 3) * PAGE_BYTES | HV_MSR_PAGE_ENABLE);
		core_test_write(a->vp, HV_X64_MSR_SINT0, 0x50);
		core_test_write(a->vp, HV_X64_MSR_SINT0 + 2, 0x52);
	}
	for (u32 i = 0; i < 64; i++)
		pool[1 + i] = FIRST_POOL + i;
	for (u32 i = 0; i < 64; i++) {
		enum hv_status status = deposit_add(&ct.p->deposit, pool[1 + i], 1);

		assert(status == HV_STATUS_SUCCESS);
		book_deposit(HV_PARTITION_ID_SELF, &pool[1 + i], 1);
	}
}

/* As a kernel takes leave: every child it has ever had, then its own pool. */
static void take_leave(void)
{
	struct actor *a = &actor[0];
	u64 last = ct.hv.next_partition_id;

	a->f.in.len = 0;
	for (u64 id = ct.p->id + 1; id < last; id++) {
		struct partition *p = child_get(&(struct hypercall){ .vp = a->vp }, id);

		if (!p)
			continue;
		a->words = 0;
		put(a, id);
		call(a, HVCALL_FINALIZE_PARTITION);
		assert(deposit_get(&p->deposit).in_use == 0);
		while (deposit_get(&p->deposit).pages)
			withdraw_from(a, id, 512);
		child_put(p);
		a->words = 0;
		put(a, id);
		call(a, HVCALL_DELETE_PARTITION);
	}
	assert(list_empty(&ct.hv.children));
	core_test_write(a->vp, HV_X64_MSR_GUEST_OS_ID, 0);
	partition_reset(ct.p);
	while (deposit_get(&ct.p->deposit).pages > deposit_get(&ct.p->deposit).in_use)
		withdraw_from(a, HV_PARTITION_ID_SELF, 512);
}

static void check(void)
{
	const u8 *kept = ct.ram + FIRST_KEPT * PAGE_BYTES;

	/* Processors that were added keep theirs. */
	assert(deposit_get(&ct.p->deposit).in_use <= ACTORS * DEPOSIT_LP);
	for (u64 gpn = 0; gpn < RAM_PAGES; gpn++) {
		if (gmem_given(&ct.gmem, gpn << PAGE_SHIFT))
			assert(books.times[gpn] == 1);
		else
			assert(books.times[gpn] == 0 ||
			       (books.times[gpn] == 1 && deleted(books.owner[gpn])));
	}
	for (u64 i = 0; i < (RAM_PAGES - FIRST_KEPT) * PAGE_BYTES; i++)
		assert(kept[i] == KEPT_BYTE);
	assert(gmem_count(&ct.gmem) == 1);
}

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define REPORTS_COST_DESCRIPTORS 1 /* of the program that names functions */
#endif
#endif
#ifndef REPORTS_COST_DESCRIPTORS
#define REPORTS_COST_DESCRIPTORS 0
#endif

/* A thread that was joined may show for a moment. */
static void check_gone(u32 descriptors, u32 threads)
{
	u32 now;

	for (u32 i = 0; (now = entries("/proc/self/task")) != threads && i < 1000; i++)
		nanosleep(&(struct timespec){ 0, 1000000 }, NULL);
	assert(now == threads);
	assert(entries("/proc/self/fd") == descriptors || REPORTS_COST_DESCRIPTORS);
	assert(!overlay_mappings());
}

static void *nothing(void *arg)
{
	return arg;
}

/* A sanitizer's own thread comes with the first one, and is not counted. */
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	pthread_t first;

	pthread_create(&first, NULL, nothing, NULL);
	pthread_join(first, NULL);
	return 0;
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t len)
{
	u32 descriptors = entries("/proc/self/fd"), threads = entries("/proc/self/task");
	pthread_t second;

	begin(data, len);
	pthread_create(&second, NULL, act_all, &actor[1]);
	act_all(&actor[0]);
	pthread_join(second, NULL);
	take_leave();
	check();
	for (u32 i = 0; i < ACTORS; i++)
		ct.vp[i]->thread_started = false;
	core_test_destroy(&ct);
	check_gone(descriptors, threads);
	return 0;
}
