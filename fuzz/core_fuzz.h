/* SPDX-License-Identifier: MIT */
/*
 * A guest that does anything: a nested root of two VPs after a plausible set-up,
 * driven by steps decoded from the fuzzer's input, while the host sends it
 * messages and moves the clock. A target gives the mix of steps. Afterwards a
 * reset must find everything in its place.
 */
#ifndef NESTOR_FUZZ_CORE_FUZZ_H
#define NESTOR_FUZZ_CORE_FUZZ_H

#include "base/log.h"
#include "core/core_test.h"

#define FUZZ_RAM_BYTES (256 * KIB)
#define FUZZ_VPS       2u
#define FUZZ_STEPS_MAX 2000u
#define FUZZ_PAGES     (FUZZ_RAM_BYTES / PAGE_BYTES)

struct fuzz_input {
	const u8 *data;
	size_t len;
};

struct fuzz {
	struct core_test ct;
	struct fuzz_input in;
	struct message_source source;
	u32 sunk; /* messages and events a sink took */
};

typedef void (*fuzz_step)(struct fuzz *f);

/* The next @bytes of the input, as a number; zero when it has run out. */
static inline u64 fuzz_take(struct fuzz *f, u32 bytes)
{
	u64 value = 0;

	for (u32 i = 0; i < bytes && f->in.len; i++, f->in.len--)
		value |= (u64)*f->in.data++ << 8 * i;
	return value;
}

static inline u32 fuzz_below(struct fuzz *f, u32 n)
{
	return (u32)fuzz_take(f, n > 256 ? 2 : 1) % n;
}

static inline struct vp *fuzz_vp(struct fuzz *f)
{
	return f->ct.vp[fuzz_below(f, FUZZ_VPS)];
}

/* An address: mostly RAM, now and then at an edge or nowhere. */
static inline u64 fuzz_gpa(struct fuzz *f)
{
	u64 how = fuzz_take(f, 1);

	switch (how & 7) {
	case 0:
		return fuzz_take(f, 8);
	case 1:
		return TEST_HOLE_GPA + (how >> 3) * PAGE_BYTES;
	case 2:
		return f->ct.ram_bytes - (how >> 3) * 8;
	case 3:
		return BIT64(TEST_PHYSICAL_BITS) - (how >> 3) * PAGE_BYTES;
	default:
		return fuzz_below(f, FUZZ_PAGES) * PAGE_BYTES + (how >> 3) * 8;
	}
}

/* A value for a register: a page with its low bits, a small number, or anything. */
static inline u64 fuzz_value(struct fuzz *f)
{
	u64 how = fuzz_take(f, 1);

	switch (how & 3) {
	case 0:
		return fuzz_take(f, 8);
	case 1:
		return fuzz_take(f, 2);
	default:
		return (fuzz_gpa(f) & ~0xFFFull) | (how >> 2 & 3);
	}
}

static inline enum hv_status fuzz_sink_message(void *ctx, struct vp *from, u32 type,
					       const void *payload, u32 bytes)
{
	struct fuzz *f = ctx;

	for (u32 i = 0; i < bytes; i++)
		f->sunk += ((const u8 *)payload)[i];
	return f->sunk % 4 ? HV_STATUS_SUCCESS : HV_STATUS_INSUFFICIENT_BUFFERS;
}

static inline void fuzz_sink_event(void *ctx, struct vp *from, u32 connection_id, u16 flag)
{
	struct fuzz *f = ctx;

	assert(flag < HV_EVENT_FLAGS_COUNT);
	f->sunk++;
}

static const struct port_sink fuzz_sink = { fuzz_sink_message, fuzz_sink_event };

/* What the guest does to its own memory: input of a later call, or a SynIC page. */
static inline void fuzz_poke(struct fuzz *f)
{
	u64 gpa = fuzz_below(f, FUZZ_PAGES) * PAGE_BYTES + fuzz_take(f, 1) * 8;
	u8 bytes[64];
	u32 n = 8 + fuzz_below(f, sizeof(bytes) - 8);

	for (u32 i = 0; i < n; i++)
		bytes[i] = (u8)fuzz_take(f, 1);
	gmem_write(&f->ct.gmem, gpa, bytes, n);
}

/* The first words that calls begin with, so that handlers get past them. */
static inline void fuzz_poke_self(struct fuzz *f)
{
	const u64 self[] = { HV_PARTITION_ID_SELF, fuzz_take(f, 1), fuzz_gpa(f), fuzz_take(f, 2) };

	gmem_write(&f->ct.gmem, fuzz_below(f, FUZZ_PAGES) * PAGE_BYTES, self, sizeof(self));
}

/* Slots and flags of whatever page lies there, and an EOM. */
static inline void fuzz_drain(struct fuzz *f)
{
	struct vp *vp = fuzz_vp(f);
	bool nested = fuzz_take(f, 1) & 1;
	u64 simp = (nested ? vp->outer : vp)->synic.simp & HV_MSR_PAGE_GPN_MASK;
	const u32 none = HV_MESSAGE_NONE;

	gmem_write(&f->ct.gmem, simp + fuzz_below(f, 16) * HV_MESSAGE_BYTES, &none, sizeof(none));
	msr_write(vp, nested ? HV_X64_MSR_NESTED_EOM : HV_X64_MSR_EOM, 0);
}

static inline void fuzz_host(struct fuzz *f)
{
	struct vp *vp = fuzz_vp(f);
	u64 how = fuzz_take(f, 1);
	u8 payload[HV_MESSAGE_PAYLOAD_BYTES] = { 0 };

	vp = how & 1 ? vp->outer : vp;
	if (how & 2)
		synic_signal(&vp->synic, how >> 2 & 15, (u32)fuzz_take(f, 2));
	else
		message_source_send(&f->source, vp, how >> 2 & 15, 1 + (u32)fuzz_take(f, 1),
				    payload, (u32)fuzz_take(f, 1) % sizeof(payload));
}

static inline void fuzz_time(struct fuzz *f)
{
	core_test_advance(&f->ct, fuzz_take(f, 2) << fuzz_below(f, 16));
}

static inline void fuzz_msr(struct fuzz *f)
{
	const struct msr_desc *d = msr_row(fuzz_below(f, msr_row_count()));
	struct vp *vp = fuzz_vp(f);
	u64 how = fuzz_take(f, 1);
	struct engine_exit *e = &vp->vcpu->exit;
	u32 index = d->base + (u32)(how >> 2) % d->count;

	if (how & 2)
		index += HV_X64_MSR_NESTED_OFFSET;
	*e = (struct engine_exit){ .kind = how & 1 ? ENGINE_EXIT_RDMSR : ENGINE_EXIT_WRMSR,
				   .msr = { .index = index } };
	if (!(how & 1))
		e->msr.value = fuzz_value(f);
	vp_handle_exit(vp);
}

static inline void fuzz_any_msr(struct fuzz *f)
{
	struct vp *vp = fuzz_vp(f);
	u32 index = (u32)fuzz_take(f, 4);
	u64 value;

	if (index & 1)
		index = 0x40000000 | (index & 0x1FFF);
	if (msr_write(vp, index, fuzz_value(f)) == VP_OK || msr_read(vp, index, &value) == VP_OK)
		assert(msr_name(index));
}

/* Through the exit, so that register forms and modes are covered. */
static inline void fuzz_exit(struct fuzz *f, struct vp *vp, u64 control, u64 in, u64 out)
{
	struct fake_vcpu *v = fake_vcpu(vp->vcpu);
	u64 mode = fuzz_take(f, 1);

	v->mode = (struct engine_mode){ mode == 0xFF ? 3 : 0, mode != 0xFE,
					mode & 0x80 || mode < 64 };
	v->regs.rip = 0x1000;
	v->completed = false;
	vp->vcpu->exit = (struct engine_exit){ .kind = ENGINE_EXIT_HYPERCALL };
	if (v->mode.long_mode) {
		v->regs.rcx = control;
		v->regs.rdx = in;
		v->regs.r8 = out;
	} else {
		v->regs.rdx = control >> 32;
		v->regs.rax = (u32)control;
		v->regs.rbx = in >> 32;
		v->regs.rcx = (u32)in;
		v->regs.rdi = out >> 32;
		v->regs.rsi = (u32)out;
	}
	vp_handle_exit(vp);
}

/* A call with a row, near what the row accepts. */
static inline void fuzz_call(struct fuzz *f)
{
	const struct hypercall_desc *d = hypercall_row(fuzz_below(f, hypercall_row_count()));
	struct vp *vp = fuzz_vp(f);
	u64 how = fuzz_take(f, 1), control = d->code;

	if (d->rep || d->rep_in || d->rep_out)
		control |= (1 + (fuzz_take(f, 1) & 0x7F)) << 32;
	if (d->var_header)
		control |= fuzz_take(f, 1) << 17;
	if (how & 1)
		control |= HV_HYPERCALL_FAST;
	if ((how & 6) == 6)
		control |= HV_HYPERCALL_NESTED;
	if ((how & 0x18) == 0x18)
		control |= fuzz_take(f, 1) << HV_HYPERCALL_REP_START_SHIFT;
	if ((how & 0xE0) == 0xE0)
		control ^= 1ull << fuzz_below(f, 64);
	if (how & 1) {
		for (u32 i = 0; i < 32; i++)
			fake_vcpu(vp->vcpu)->xmm[i / 16][i % 16] = (u8)fuzz_take(f, 1);
		fuzz_exit(f, vp, control, how & 2 ? fuzz_take(f, 8) : HV_PARTITION_ID_SELF,
			  fuzz_take(f, 8));
	} else {
		fuzz_exit(f, vp, control, fuzz_gpa(f), fuzz_gpa(f));
	}
}

static inline void fuzz_any_call(struct fuzz *f)
{
	u64 control = fuzz_take(f, 8), in = fuzz_gpa(f);

	fuzz_exit(f, fuzz_vp(f), control, in, fuzz_gpa(f));
}

static inline void fuzz_reset(struct fuzz *f)
{
	partition_reset(fuzz_take(f, 1) & 1 ? f->ct.outer : f->ct.p);
}

static inline void fuzz_begin(struct fuzz *f)
{
	static _Alignas(PAGE_BYTES) u8 ram[FUZZ_RAM_BYTES];
	const struct core_test_config cfg = { .vps = FUZZ_VPS,
					      .nested = true,
					      .outer_privileges = TEST_GUEST_PRIVILEGES,
					      .ram_bytes = FUZZ_RAM_BYTES,
					      .ram = ram };

	log_set_level(LOG_ERROR);
	core_test_create(&f->ct, &cfg);
	message_source_init(&f->source, 1, NULL, NULL);
	for (u32 i = 0; i < FUZZ_VPS; i++) {
		struct vp *vp = f->ct.vp[i];
		u64 base = (16 + i * 4) * PAGE_BYTES;

		fake_irq_pending(f->ct.vcpu[i], true); /* idling returns at once */
		core_test_write(vp, HV_X64_MSR_GUEST_OS_ID, TEST_OS_ID);
		core_test_write(vp, HV_X64_MSR_HYPERCALL, 15 * PAGE_BYTES | HV_MSR_PAGE_ENABLE);
		core_test_synic_on(vp, base);
		core_test_synic_on(vp->outer, base + 2 * PAGE_BYTES);
		core_test_write(vp, HV_X64_MSR_SINT0 + 2, 0xF3);
		core_test_write(vp, HV_X64_MSR_NESTED_SINT0 + 2, 0xF3);
	}
	/* The first VP's thread is this one: the hypercall that starts VPs must find it started. */
	f->ct.vp[0]->thread_started = true;
	connection_add(f->ct.p, 1, &fuzz_sink, f);
	connection_add(f->ct.outer, 4, &fuzz_sink, f);
}

/* Nothing a guest did may outlive a reset. */
static inline void fuzz_end(struct fuzz *f)
{
	f->ct.vp[0]->thread_started = false;
	partition_stop(f->ct.p, STOP_KILLED, 0, "the input ended");
	for (u32 i = 0; i < FUZZ_VPS; i++)
		vp_join(f->ct.vp[i]);
	partition_reset(f->ct.p);
	partition_reset(f->ct.outer);
	assert(gmem_count(&f->ct.gmem) == 1);
	assert(!fake_slot_at(f->ct.vm, TEST_HOLE_GPA).hva);
	assert(f->source.free_count == PORT_MESSAGE_BUFFERS);
	message_source_fini(&f->source);
	core_test_destroy(&f->ct);
}

static inline void fuzz_run(const u8 *data, size_t len, const fuzz_step *steps, u32 count)
{
	static struct fuzz f;

	f = (struct fuzz){ .in = { data, len } };
	fuzz_begin(&f);
	for (u32 i = 0; f.in.len && i < FUZZ_STEPS_MAX; i++)
		steps[fuzz_below(&f, count)](&f);
	fuzz_end(&f);
}

#endif
