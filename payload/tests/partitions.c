// SPDX-License-Identifier: MIT
/*
 * A root that manages partitions at random, on two processors, while its children
 * execute random bytes. For as many seconds as the command line says (seconds=N).
 * What it must not see: a page that comes back twice or not at all, memory changed
 * that no call named, or the end of its machine.
 */
#include "hvdef/child.h"
#include "hvdef/gpa.h"
#include "hvdef/port.h"
#include "hvdef/property.h"
#include "hvdef/vp_regs.h"
#include "payload/payload.h"

#define CPUS	   2u
#define POOL_PAGES 1024u
#define GIVE_PAGES 80u /* to a child before it begins */
#define RAM_PAGES  256u
#define KEPT_PAGES 64u
#define IDS	   6u
#define VECTOR	   0x50
#define SLOT_BYTES 256

/* Deposits come from here and are not touched while they are given away. */
static u8 pool[POOL_PAGES][PAGE_BYTES] __attribute__((aligned(PAGE_BYTES)));
static u8 child_ram[RAM_PAGES][PAGE_BYTES] __attribute__((aligned(2 * MIB)));
static u8 kept[KEPT_PAGES][PAGE_BYTES] __attribute__((aligned(PAGE_BYTES)));
static s32 given[POOL_PAGES]; /* under pool_lock, as what follows */
static u32 next_page;
static u32 strange; /* pages that came back and had not been given */
static u64 ids[IDS];
static volatile u32 pool_lock;
static u64 end_tsc;

struct caller {
	u64 random;
	u64 calls, taken, messages;
	u64 in[512] __attribute__((aligned(PAGE_BYTES)));
	u64 out[512];
	u32 words;
};
static struct caller caller[CPUS] __attribute__((aligned(PAGE_BYTES)));

static u64 next_random(struct caller *c)
{
	c->random ^= c->random << 13;
	c->random ^= c->random >> 7;
	c->random ^= c->random << 17;
	return c->random;
}

static u64 below(struct caller *c, u64 n)
{
	return (next_random(c) >> 16) % n;
}

static bool rarely(struct caller *c)
{
	return below(c, 32) == 0;
}

static void lock(void)
{
	while (__atomic_exchange_n(&pool_lock, 1, __ATOMIC_ACQUIRE))
		relax();
}

static void unlock(void)
{
	__atomic_store_n(&pool_lock, 0, __ATOMIC_RELEASE);
}

/* Calls. */

static void begin(struct caller *c)
{
	c->words = 0;
	memset(c->in, 0, sizeof(c->in));
}

static void put(struct caller *c, u64 value)
{
	c->in[c->words++] = value;
}

static void put2(struct caller *c, u64 low, u64 high)
{
	put(c, (u32)low | high << 32);
}

static u64 call(struct caller *c, u64 control)
{
	u64 result = hypercall(control, (u64)c->in, (u64)c->out);

	c->calls++;
	c->taken += HV_STATUS(result) == HV_STATUS_SUCCESS;
	return result;
}

static bool call_with(struct caller *c, u64 control, u64 a, u64 b)
{
	begin(c);
	put(c, a);
	put(c, b);
	return HV_STATUS(call(c, control)) == HV_STATUS_SUCCESS;
}

/* Values. Never our own partition, whose registers we need. */

static u64 any_id(struct caller *c)
{
	return rarely(c) ? next_random(c) | BIT64(40) : ids[below(c, IDS)];
}

static u64 any_vp(struct caller *c)
{
	return rarely(c) ? next_random(c) : below(c, 3);
}

/* Memory that may change. */
static u64 any_source(struct caller *c)
{
	if (rarely(c))
		return next_random(c) >> below(c, 64) | BIT64(30);
	return ((u64)(rarely(c) ? pool[below(c, POOL_PAGES)] : child_ram[below(c, RAM_PAGES)])) >>
	       PAGE_SHIFT;
}

static u64 any_gpn(struct caller *c)
{
	return rarely(c) ? next_random(c) >> below(c, 64) : below(c, 4 * RAM_PAGES);
}

static u64 any_value(struct caller *c)
{
	return next_random(c) >> below(c, 64);
}

/* Pools. */

static void deposit(struct caller *c, u64 id, u32 pages)
{
	u64 done;

	lock();
	begin(c);
	put(c, id);
	for (u32 i = 0; i < pages; i++)
		put(c, (u64)pool[(next_page + i) % POOL_PAGES] >> PAGE_SHIFT);
	done = HV_REPS(call(c, HVCALL_DEPOSIT_MEMORY | HV_REP(pages, 0)));
	for (u32 i = 0; i < done; i++)
		given[(next_page + i) % POOL_PAGES]++;
	/* Those that are given away already are passed over. */
	next_page = (u32)(next_page + done + (done < pages)) % POOL_PAGES;
	unlock();
}

static u64 withdraw_locked(struct caller *c, u64 id, u32 pages)
{
	u64 done;

	begin(c);
	put(c, id);
	put(c, 0);
	done = HV_REPS(call(c, HVCALL_WITHDRAW_MEMORY | HV_REP(pages, 0)));
	for (u64 i = 0; i < done; i++) {
		u64 page = ((c->out[i] << PAGE_SHIFT) - (u64)pool) >> PAGE_SHIFT;

		if (page < POOL_PAGES && given[page] == 1)
			given[page] = 0;
		else
			strange++;
	}
	return done;
}

/* Partitions. */

static void end_child(struct caller *c, u64 id)
{
	lock();
	call_with(c, HVCALL_FINALIZE_PARTITION, id, 0);
	while (withdraw_locked(c, id, 256))
		;
	call_with(c, HVCALL_DELETE_PARTITION, id, 0);
	unlock();
}

static void resume(struct caller *c, u64 id, u64 vp)
{
	begin(c);
	put(c, id);
	put(c, vp);
	for (u32 i = 0; i < 2; i++) {
		put(c, HvRegisterExplicitSuspend + i);
		put(c, 0);
		put(c, 0);
		put(c, 0);
	}
	call(c, HVCALL_SET_VP_REGISTERS | HV_REP(2, 0));
}

/* Refused but by the root scheduler. For a millisecond at most: what it runs may not stop. */
static void dispatch(struct caller *c, u64 id, u64 vp)
{
	begin(c);
	put(c, id);
	put(c, vp | (u64)below(c, 4) << 32);
	put(c, 1 + below(c, 10000));
	put(c, 0);
	call(c, HVCALL_DISPATCH_VP);
}

static void map(struct caller *c, u64 id, u64 gpn, u64 flags, u32 pages, bool linear)
{
	begin(c);
	put(c, id);
	put(c, gpn);
	put(c, flags);
	for (u32 i = 0; i < pages; i++)
		put(c, linear ? (u64)child_ram[i % RAM_PAGES] >> PAGE_SHIFT : any_source(c));
	call(c, HVCALL_MAP_GPA_PAGES | HV_REP(pages, 0));
}

#define RWX (HV_MAP_GPA_READABLE | HV_MAP_GPA_WRITABLE | HV_MAP_GPA_EXECUTABLE)

static void begin_child(struct caller *c)
{
	u32 slot = (u32)below(c, IDS);
	u64 id = __atomic_exchange_n(&ids[slot], 0, __ATOMIC_SEQ_CST);

	if (id)
		end_child(c, id);
	begin(c);
	put(c, HV_CREATE_LAPIC | (next_random(c) & HV_CREATE_X2APIC));
	if (HV_STATUS(call(c, HVCALL_CREATE_PARTITION)) != HV_STATUS_SUCCESS) {
		deposit(c, HV_PARTITION_ID_SELF, 4);
		return;
	}
	id = c->out[0];
	deposit(c, id, GIVE_PAGES);
	begin(c);
	put(c, id);
	put(c, HV_PROPERTY_SYNTHETIC_PROC_FEATURES);
	put(c, rarely(c) ? next_random(c) : ~0ull);
	call(c, HVCALL_SET_PARTITION_PROPERTY);
	call_with(c, HVCALL_INITIALIZE_PARTITION, id, 0);
	map(c, id, 0, RWX, RAM_PAGES, true);
	for (u32 vp = 0; vp < 2; vp++) {
		begin(c);
		put(c, id);
		put(c, vp);
		c->words = 5;
		call(c, HVCALL_CREATE_VP);
		for (u64 type = 0; type < 2; type++)
			call_with(c, HVCALL_MAP_VP_STATE_PAGE, id, vp | type << 32);
		begin(c);
		put(c, id);
		put(c, vp);
		put(c, HvX64RegisterRip);
		put(c, 0);
		put(c, below(c, 0x10000));
		put(c, 0);
		call(c, HVCALL_SET_VP_REGISTERS | HV_REP(1, 0));
		resume(c, id, vp);
	}
	/* The other processor may have made one for the same place. */
	id = __atomic_exchange_n(&ids[slot], id, __ATOMIC_SEQ_CST);
	if (id)
		end_child(c, id);
}

/* Any call. */

static u64 any_register(struct caller *c)
{
	static const u32 bases[] = { HvX64RegisterRax,
				     HvX64RegisterRip,
				     HvX64RegisterCr0,
				     HvX64RegisterEs,
				     HvX64RegisterEfer,
				     HvRegisterScontrol,
				     HvRegisterSint0,
				     HvX64RegisterHypercall,
				     HvRegisterGuestOsId,
				     HvRegisterReferenceTsc,
				     HvRegisterStimer0Config,
				     HvX64RegisterTsc,
				     HvX64RegisterFpMmx0,
				     HvRegisterPendingEvent0,
				     HvRegisterPendingInterruption,
				     HvRegisterInternalActivityState,
				     HvX64RegisterStar,
				     HvX64RegisterMtrrPhysBase0,
				     HvX64RegisterDeliverabilityNotifications };

	return rarely(c) ? next_random(c) : bases[below(c, ARRAY_SIZE(bases))] + below(c, 6);
}

static void registers(struct caller *c)
{
	u64 count = 1 + below(c, 4);
	bool set = next_random(c) & BIT(20);

	begin(c);
	put(c, any_id(c));
	put(c, any_vp(c));
	for (u64 i = 0; i < count; i++) {
		u64 name = any_register(c);

		if (!set) {
			((u32 *)(c->in + 2))[i] = (u32)name;
			continue;
		}
		put(c, (u32)name);
		put(c, 0);
		put(c, any_value(c));
		put(c, any_value(c));
	}
	call(c, (set ? HVCALL_SET_VP_REGISTERS : HVCALL_GET_VP_REGISTERS) | HV_REP(count, 0));
}

static void memory(struct caller *c)
{
	static const u64 flags[] = { RWX, RWX, HV_MAP_GPA_READABLE, HV_MAP_GPA_NO_ACCESS,
				     RWX | HV_MAP_GPA_LARGE_PAGE };
	u32 pages = 1 + (u32)below(c, 64);

	switch (below(c, 4)) {
	case 0:
		begin(c);
		put(c, any_id(c));
		put(c, any_gpn(c));
		put(c, 0);
		call(c, HVCALL_UNMAP_GPA_PAGES | HV_REP(1 + below(c, 512), 0));
		break;
	case 1:
		begin(c);
		put(c, any_id(c));
		put(c, next_random(c) & 15);
		put(c, any_gpn(c));
		call(c, HVCALL_GET_GPA_PAGES_ACCESS_STATE | HV_REP(1 + below(c, 512), 0));
		break;
	default:
		map(c, any_id(c), any_gpn(c), flags[below(c, ARRAY_SIZE(flags))], pages, false);
	}
}

static void vps(struct caller *c)
{
	static const u16 codes[] = { HVCALL_DELETE_VP, HVCALL_MAP_VP_STATE_PAGE,
				     HVCALL_UNMAP_VP_STATE_PAGE, HVCALL_CREATE_VP };

	begin(c);
	put(c, any_id(c));
	put2(c, any_vp(c), below(c, 3));
	if (rarely(c))
		put(c, any_source(c));
	call(c, codes[below(c, ARRAY_SIZE(codes))]);
}

static void vp_state(struct caller *c)
{
	u64 pages = 1 + below(c, 3);

	begin(c);
	put(c, any_id(c));
	put(c, any_vp(c));
	put(c, below(c, 6));
	put(c, 0);
	put(c, next_random(c));
	for (u64 i = 0; i < pages; i++)
		put(c, any_source(c));
	call(c, (next_random(c) & BIT(20) ? HVCALL_GET_VP_STATE : HVCALL_SET_VP_STATE) |
			HV_VARHEAD(pages));
}

static void ports(struct caller *c)
{
	u64 id = 1 + below(c, 4);

	begin(c);
	switch (below(c, 5)) {
	case 0:
		put(c, HV_PARTITION_ID_SELF);
		put(c, id);
		put(c, any_id(c));
		put(c, HV_PORT_TYPE_DOORBELL);
		put2(c, 2, rarely(c) ? HV_ANY_VP : below(c, CPUS));
		call(c, HVCALL_CREATE_PORT);
		break;
	case 1:
		put(c, any_id(c));
		put(c, id);
		put(c, HV_PARTITION_ID_SELF);
		put(c, 1 + below(c, 4));
		put(c, HV_PORT_TYPE_DOORBELL);
		put(c, any_gpn(c) << PAGE_SHIFT);
		put(c, any_value(c));
		put(c, rarely(c) ? any_value(c) : HV_DOORBELL_ANY_VALUE | below(c, 5));
		call(c, HVCALL_CONNECT_PORT);
		break;
	case 2:
		put(c, any_id(c));
		put(c, id);
		call(c, HVCALL_DISCONNECT_PORT);
		break;
	case 3:
		put(c, HV_PARTITION_ID_SELF);
		put(c, id);
		call(c, HVCALL_DELETE_PORT);
		break;
	default:
		put(c, below(c, 20));
		call(c, HVCALL_NOTIFY_PORT_RING_EMPTY);
	}
}

static void properties(struct caller *c)
{
	static const u32 codes[] = {
		HV_PROPERTY_SYNTHETIC_PROC_FEATURES,  HV_PROPERTY_TIME_FREEZE,
		HV_PROPERTY_REFERENCE_TIME,	      HV_PROPERTY_PROCESSORS_PER_SOCKET,
		HV_PROPERTY_GPA_PAGE_ACCESS_TRACKING, HV_PROPERTY_UNIMPLEMENTED_MSR_ACTION
	};

	begin(c);
	put(c, any_id(c));
	put(c, rarely(c) ? (u32)next_random(c) : codes[below(c, ARRAY_SIZE(codes))]);
	put(c, rarely(c) ? any_value(c) : below(c, 2));
	call(c, rarely(c) ? HVCALL_GET_PARTITION_PROPERTY : HVCALL_SET_PARTITION_PROPERTY);
}

static void others(struct caller *c)
{
	u64 which = below(c, 8);

	begin(c);
	if (which < 3) { /* statistics: what they are of comes first */
		put(c, below(c, 6));
		put(c, any_id(c));
		put(c, any_vp(c));
		put(c, any_source(c));
		call(c, which == 0   ? HVCALL_MAP_STATS_PAGE
			: which == 1 ? HVCALL_UNMAP_STATS_PAGE
				     : HVCALL_MAP_STATS_PAGE2);
		return;
	}
	put(c, any_id(c));
	switch (which) {
	case 3:
		put(c, below(c, 8));
		put(c, any_vp(c));
		put(c, below(c, 256));
		call(c, HVCALL_ASSERT_VIRTUAL_INTERRUPT);
		break;
	case 4:
		put2(c, any_vp(c), 2);
		put(c, below(c, 0x20));
		put(c, next_random(c) & 1);
		for (u32 i = 0; i < 4; i++)
			put(c, next_random(c));
		call(c, HVCALL_REGISTER_INTERCEPT_RESULT);
		break;
	case 5:
		put(c, any_vp(c));
		put(c, next_random(c) & 0x3FF);
		put(c, any_gpn(c));
		call(c, HVCALL_TRANSLATE_VIRTUAL_ADDRESS);
		break;
	case 6:
		put2(c, any_vp(c), next_random(c) & 0xFF0F00);
		put(c, below(c, 16));
		put(c, next_random(c));
		call(c, next_random(c) & BIT(20) ? HVCALL_POST_MESSAGE_DIRECT
						 : HVCALL_SIGNAL_EVENT_DIRECT);
		break;
	default:
		put2(c, below(c, 8), below(c, 20));
		call(c, HVCALL_INSTALL_INTERCEPT);
	}
}

/* Its slot is free again for the next intercept. */
static void take_messages(struct caller *c)
{
	u32 *type = (u32 *)(rdmsr(HV_X64_MSR_SIMP) & HV_MSR_PAGE_GPN_MASK);

	if (__atomic_exchange_n(type, 0, __ATOMIC_SEQ_CST))
		c->messages++;
	wrmsr(HV_X64_MSR_EOM, 0);
}

static void scribble(struct caller *c)
{
	u64 *page = (u64 *)child_ram[below(c, RAM_PAGES)];

	for (u32 i = 0; i < 64; i++)
		page[below(c, 512)] = next_random(c);
}

static void act(struct caller *c)
{
	switch (below(c, 24)) {
	case 0:
		if (below(c, 4) == 0)
			begin_child(c);
		break;
	case 1:
		if (rarely(c))
			call_with(c, HVCALL_FINALIZE_PARTITION, any_id(c), 0);
		else
			deposit(c, any_id(c), 8);
		break;
	case 2:
		lock();
		withdraw_locked(c, any_id(c), 4);
		unlock();
		break;
	case 3:
	case 4:
	case 5:
		memory(c);
		break;
	case 6:
		if (below(c, 4) == 0)
			vps(c);
		break;
	case 7:
	case 8:
		registers(c);
		break;
	case 9:
		vp_state(c);
		break;
	case 10:
		ports(c);
		break;
	case 11:
		if (below(c, 4) == 0)
			properties(c);
		break;
	case 12:
	case 13:
		others(c);
		break;
	case 14:
		take_messages(c);
		break;
	case 15:
		scribble(c);
		break;
	case 16:
	case 17:
	case 18:
		dispatch(c, any_id(c), below(c, 2));
		break;
	default:
		resume(c, any_id(c), below(c, 2));
	}
}

static void synic_on(void)
{
	wrmsr(HV_X64_MSR_SIMP, rdmsr(HV_X64_MSR_SIMP) | HV_MSR_PAGE_ENABLE);
	wrmsr(HV_X64_MSR_SIEFP, rdmsr(HV_X64_MSR_SIEFP) | HV_MSR_PAGE_ENABLE);
	wrmsr(HV_X64_MSR_SIRBP, rdmsr(HV_X64_MSR_SIRBP) | HV_MSR_PAGE_ENABLE);
	wrmsr(HV_X64_MSR_SINT0, VECTOR);
	wrmsr(HV_X64_MSR_SINT0 + 2, VECTOR + 1);
	wrmsr(HV_X64_MSR_SCONTROL, HV_SCONTROL_ENABLE);
}

static void act_all(void *arg)
{
	struct caller *c = arg;

	synic_on();
	while (rdtsc() < end_tsc)
		act(c);
}

/* Frame. */

static u64 seconds_wanted(void)
{
	static const char key[] = "seconds=";
	u64 n = 0;

	for (const char *s = command_line(); *s; s++) {
		if (memcmp(s, key, sizeof(key) - 1))
			continue;
		for (s += sizeof(key) - 1; *s >= '0' && *s <= '9'; s++)
			n = n * 10 + (u64)(*s - '0');
		return n;
	}
	return 2;
}

static bool second_start(struct caller *c)
{
	begin(c);
	put2(c, 1, cpu_apic_id(1));
	if (HV_STATUS(call(c, HVCALL_ADD_LOGICAL_PROCESSOR)) != HV_STATUS_SUCCESS)
		return false;
	begin(c);
	put(c, HV_PARTITION_ID_SELF);
	put(c, 1);
	put(c, 0);
	put(c, 0);
	put(c, 1);
	return HV_STATUS(call(c, HVCALL_CREATE_VP)) == HV_STATUS_SUCCESS && cpu_start(1);
}

static u32 pages_out(void)
{
	u32 n = 0;

	for (u32 i = 0; i < POOL_PAGES; i++)
		n += given[i] != 0;
	return n;
}

static void check(struct caller *c, u32 before)
{
	bool same = true;

	for (u32 i = 0; i < IDS; i++)
		if (ids[i])
			end_child(c, ids[i]);
	/* Statistics pages end with the identity, and so does the hypercall page. */
	wrmsr(HV_X64_MSR_GUEST_OS_ID, 0);
	hv_setup();
	while (withdraw_locked(c, HV_PARTITION_ID_SELF, 256))
		;
	ok_eq(pages_out(), before, "every page is back but those of the second processor");
	ok_eq(strange, 0, "and none came twice");
	for (u32 i = 0; i < sizeof(kept); i++)
		same &= ((u8 *)kept)[i] == 0x5A;
	ok(same, "memory that no call named is as it was");
	for (u32 i = 0; i < 8; i++)
		deposit(c, HV_PARTITION_ID_SELF, 8);
	begin(c);
	put(c, HV_CREATE_LAPIC);
	ok_eq(HV_STATUS(call(c, HVCALL_CREATE_PARTITION)), 0, "a partition can be made still");
	ok(call_with(c, HVCALL_DELETE_PARTITION, c->out[0], 0), "and deleted");
}

void test_main(void)
{
	struct caller *c = &caller[0];
	u64 seconds = seconds_wanted();
	u32 before;

	hv_setup();
	if (!hv_has(HV_PRIV_CREATE_PARTITIONS)) {
		skip("not a root", "partition management");
		return;
	}
	memset(kept, 0x5A, sizeof(kept));
	for (u32 i = 0; i < CPUS; i++)
		caller[i].random = rdtsc() * 2 + i * 0x9E3779B97F4A7C15ull + 1;
	note("the sequence begins with 0x%llx and 0x%llx", (unsigned long long)caller[0].random,
	     (unsigned long long)caller[1].random);
	for (u32 i = 0; i < RAM_PAGES * PAGE_BYTES / 8; i++)
		((u64 *)child_ram)[i] = next_random(c);
	deposit(c, HV_PARTITION_ID_SELF, 16);
	ok(cpu_count() >= CPUS && second_start(c), "a second processor starts");
	lock();
	while (withdraw_locked(c, HV_PARTITION_ID_SELF, 256))
		;
	unlock();
	before = pages_out();
	deposit(c, HV_PARTITION_ID_SELF, 16);
	end_tsc = rdtsc() + seconds * tsc_hz();
	cpu_run_start(1, act_all, &caller[1]);
	act_all(c);
	ok(cpu_run_wait(1, 10000000), "both end by themselves");
	note("%llu calls, %llu of them taken, %llu messages",
	     (unsigned long long)(caller[0].calls + caller[1].calls),
	     (unsigned long long)(caller[0].taken + caller[1].taken),
	     (unsigned long long)(caller[0].messages + caller[1].messages));
	check(c, before);
}
