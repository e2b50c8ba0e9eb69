// SPDX-License-Identifier: MIT
/* Register state of a vCPU, by ioctl: for what the shared area does not carry. */
#include <errno.h>
#include <string.h>

#include "engine/kvm/kvm_internal.h"

/* The XSAVE area: which components are in use, and the first two of them. */
#define XSAVE_USED   512u
#define XSAVE_LEGACY 3u

struct fxsave {
	u16 fcw, fsw;
	u8 ftw, rsvd;
	u16 last_opcode;
	u64 last_ip, last_dp;
	u32 mxcsr, mxcsr_mask;
	u8 st[8][16], xmm[16][16];
};
static_assert(offsetof(struct fxsave, st) == 32, "the processor's layout");
static_assert(offsetof(struct fxsave, xmm) == 160, "the processor's layout");

#define APIC_ID	 0x20u
#define APIC_IRR 0x200u

int kvm_vcpu_inject_exception(struct engine_vcpu *vcpu, u8 vector, s64 error_code)
{
	struct kvm_vcpu *v = kvm_vcpu_of(vcpu);
	struct kvm_vcpu_events ev;
	int ret;

	/* Registers first: setting them later would drop a pending exception. */
	if (vcpu->regs_dirty) {
		ret = kvm_ioctl(v->fd, KVM_SET_REGS, vcpu->regs);
		if (ret < 0)
			return ret;
		vcpu->regs_dirty = false;
	}
	ret = kvm_ioctl(v->fd, KVM_GET_VCPU_EVENTS, &ev);
	if (ret < 0)
		return ret;
	v->events_shared = false;
	ev.exception.injected = 1;
	ev.exception.nr = vector;
	ev.exception.has_error_code = error_code >= 0;
	ev.exception.error_code = error_code >= 0 ? (u32)error_code : 0;
	return kvm_ioctl(v->fd, KVM_SET_VCPU_EVENTS, &ev);
}

/*
 * The first question makes KVM answer it with every exit from then on, so only
 * vCPUs of which it is asked pay for it.
 */
static int events_get(struct kvm_vcpu *v, struct kvm_vcpu_events *ev)
{
	if (v->events_shared) {
		*ev = v->run->s.regs.events;
		return 0;
	}
	v->run->kvm_valid_regs |= KVM_SYNC_X86_EVENTS;
	return kvm_ioctl(v->fd, KVM_GET_VCPU_EVENTS, ev);
}

int kvm_vcpu_get_events(struct engine_vcpu *vcpu, struct engine_events *out)
{
	struct kvm_vcpu_events ev;
	int ret = events_get(kvm_vcpu_of(vcpu), &ev);

	if (ret < 0)
		return ret;
	*out = (struct engine_events){ .interrupt_shadow = ev.interrupt.shadow,
				       .nmi_masked = ev.nmi.masked };
	if (ev.exception.injected) {
		out->injected = ENGINE_EVENT_EXCEPTION;
		out->vector = ev.exception.nr;
		out->has_error_code = ev.exception.has_error_code;
		out->error_code = ev.exception.error_code;
	} else if (ev.nmi.injected) {
		out->injected = ENGINE_EVENT_NMI;
		out->vector = 2;
	} else if (ev.interrupt.injected) {
		out->injected = ENGINE_EVENT_INTERRUPT;
		out->vector = ev.interrupt.nr;
	}
	return 0;
}

/* An NMI that another thread has queued meanwhile stays queued: no flag for it. */
int kvm_vcpu_set_events(struct engine_vcpu *vcpu, const struct engine_events *in)
{
	struct kvm_vcpu *v = kvm_vcpu_of(vcpu);
	bool exception = in->injected == ENGINE_EVENT_EXCEPTION;
	struct kvm_vcpu_events ev = {
		.flags = KVM_VCPUEVENT_VALID_SHADOW,
		.exception = { .injected = exception,
			       .nr = exception ? in->vector : 0,
			       .has_error_code = exception && in->has_error_code,
			       .error_code = exception && in->has_error_code ? in->error_code : 0 },
		.interrupt = { .injected = in->injected == ENGINE_EVENT_INTERRUPT,
			       .nr = in->injected == ENGINE_EVENT_INTERRUPT ? in->vector : 0,
			       .shadow = in->interrupt_shadow ? KVM_X86_SHADOW_INT_STI : 0 },
		.nmi = { .injected = in->injected == ENGINE_EVENT_NMI, .masked = in->nmi_masked },
	};

	v->events_shared = false;
	return kvm_ioctl(v->fd, KVM_SET_VCPU_EVENTS, &ev);
}

static struct engine_segment segment_get(const struct kvm_segment *k)
{
	return (struct engine_segment){
		.base = k->base,
		.limit = k->limit,
		.selector = k->selector,
		.attributes = (u16)(k->type | k->s << 4 | k->dpl << 5 | k->present << 7 |
				    k->avl << 12 | k->l << 13 | k->db << 14 | k->g << 15),
	};
}

static struct kvm_segment segment_set(const struct engine_segment *s)
{
	u16 a = s->attributes;

	return (struct kvm_segment){
		.base = s->base,
		.limit = s->limit,
		.selector = s->selector,
		.type = a & 0xF,
		.s = a >> 4 & 1,
		.dpl = a >> 5 & 3,
		.present = a >> 7 & 1,
		.avl = a >> 12 & 1,
		.l = a >> 13 & 1,
		.db = a >> 14 & 1,
		.g = a >> 15 & 1,
		.unusable = !(a >> 7 & 1),
	};
}

int kvm_vcpu_get_sregs(struct engine_vcpu *vcpu, struct engine_sregs *out)
{
	struct kvm_vcpu *v = kvm_vcpu_of(vcpu);
	struct kvm_sregs s = v->run->s.regs.sregs;
	int ret = v->sregs_shared ? 0 : kvm_ioctl(v->fd, KVM_GET_SREGS, &s);

	if (ret < 0)
		return ret;
	*out = (struct engine_sregs){
		.cs = segment_get(&s.cs),
		.ds = segment_get(&s.ds),
		.es = segment_get(&s.es),
		.fs = segment_get(&s.fs),
		.gs = segment_get(&s.gs),
		.ss = segment_get(&s.ss),
		.tr = segment_get(&s.tr),
		.ldt = segment_get(&s.ldt),
		.gdt = { s.gdt.base, s.gdt.limit },
		.idt = { s.idt.base, s.idt.limit },
		.cr0 = s.cr0,
		.cr2 = s.cr2,
		.cr3 = s.cr3,
		.cr4 = s.cr4,
		.cr8 = s.cr8,
		.efer = s.efer,
		.apic_base = s.apic_base,
	};
	return 0;
}

int kvm_vcpu_set_sregs(struct engine_vcpu *vcpu, const struct engine_sregs *in)
{
	struct kvm_vcpu *v = kvm_vcpu_of(vcpu);
	struct kvm_sregs s;
	int ret = kvm_ioctl(v->fd, KVM_GET_SREGS, &s); /* keeps what is not ours */

	if (ret < 0)
		return ret;
	s.cs = segment_set(&in->cs);
	s.ds = segment_set(&in->ds);
	s.es = segment_set(&in->es);
	s.fs = segment_set(&in->fs);
	s.gs = segment_set(&in->gs);
	s.ss = segment_set(&in->ss);
	s.tr = segment_set(&in->tr);
	s.ldt = segment_set(&in->ldt);
	s.gdt = (struct kvm_dtable){ .base = in->gdt.base, .limit = in->gdt.limit };
	s.idt = (struct kvm_dtable){ .base = in->idt.base, .limit = in->idt.limit };
	s.cr0 = in->cr0;
	s.cr2 = in->cr2;
	s.cr3 = in->cr3;
	s.cr4 = in->cr4;
	s.cr8 = in->cr8;
	s.efer = in->efer;
	s.apic_base = in->apic_base;
	ret = kvm_ioctl(v->fd, KVM_SET_SREGS, &s);
	if (ret >= 0)
		v->run->s.regs.sregs = s;
	v->sregs_shared = ret >= 0;
	return ret;
}

/*
 * The legacy part of an XSAVE area. KVM has ioctls for it alone, but they pass by
 * the header, which says what is in its initial state: what they set in a vCPU that
 * has not used it is lost when it runs, and what they get may be old.
 */
static int legacy_get(struct engine_vcpu *vcpu, u8 area[ENGINE_XSAVE_BYTES], struct fxsave *f)
{
	int ret = kvm_vcpu_get_xsave(vcpu, area);

	memcpy(f, area, sizeof(*f));
	return ret;
}

static int legacy_set(struct engine_vcpu *vcpu, u8 area[ENGINE_XSAVE_BYTES], const struct fxsave *f)
{
	memcpy(area, f, sizeof(*f));
	area[XSAVE_USED] |= XSAVE_LEGACY;
	return kvm_vcpu_set_xsave(vcpu, area);
}

/* A tenth of what the whole state would be: a register page is filled with every intercept. */
int kvm_vcpu_get_xmm(struct engine_vcpu *vcpu, u8 xmm[16][16])
{
	struct kvm_fpu f;
	int ret = kvm_ioctl(kvm_vcpu_of(vcpu)->fd, KVM_GET_FPU, &f);

	if (ret >= 0)
		memcpy(xmm, f.xmm, sizeof(f.xmm));
	return ret;
}

int kvm_vcpu_set_xmm(struct engine_vcpu *vcpu, const u8 xmm[16][16])
{
	u8 area[ENGINE_XSAVE_BYTES];
	struct fxsave f;
	int ret = legacy_get(vcpu, area, &f);

	if (ret < 0)
		return ret;
	memcpy(f.xmm, xmm, sizeof(f.xmm));
	return legacy_set(vcpu, area, &f);
}

int kvm_vcpu_get_fpu(struct engine_vcpu *vcpu, struct engine_fpu *out)
{
	u8 area[ENGINE_XSAVE_BYTES];
	struct fxsave f;
	int ret = legacy_get(vcpu, area, &f);

	if (ret < 0)
		return ret;
	*out = (struct engine_fpu){ .fcw = f.fcw,
				    .fsw = f.fsw,
				    .ftw = f.ftw,
				    .last_opcode = f.last_opcode,
				    .last_ip = f.last_ip,
				    .last_dp = f.last_dp,
				    .mxcsr = f.mxcsr };
	memcpy(out->st, f.st, sizeof(out->st));
	memcpy(out->xmm, f.xmm, sizeof(out->xmm));
	return 0;
}

int kvm_vcpu_set_fpu(struct engine_vcpu *vcpu, const struct engine_fpu *in)
{
	u8 area[ENGINE_XSAVE_BYTES];
	struct fxsave f;
	int ret = legacy_get(vcpu, area, &f);

	if (ret < 0)
		return ret;
	f.fcw = in->fcw;
	f.fsw = in->fsw;
	f.ftw = in->ftw;
	f.last_opcode = in->last_opcode;
	f.last_ip = in->last_ip;
	f.last_dp = in->last_dp;
	f.mxcsr = in->mxcsr;
	memcpy(f.st, in->st, sizeof(f.st));
	memcpy(f.xmm, in->xmm, sizeof(f.xmm));
	return legacy_set(vcpu, area, &f);
}

int kvm_vcpu_get_debugregs(struct engine_vcpu *vcpu, struct engine_debugregs *out)
{
	struct kvm_debugregs k;
	int ret = kvm_ioctl(kvm_vcpu_of(vcpu)->fd, KVM_GET_DEBUGREGS, &k);

	if (ret < 0)
		return ret;
	*out = (struct engine_debugregs){ .dr6 = k.dr6, .dr7 = k.dr7 };
	for (u32 i = 0; i < 4; i++)
		out->dr[i] = k.db[i];
	return 0;
}

int kvm_vcpu_set_debugregs(struct engine_vcpu *vcpu, const struct engine_debugregs *in)
{
	struct kvm_debugregs k = { .db = { in->dr[0], in->dr[1], in->dr[2], in->dr[3] },
				   .dr6 = in->dr6,
				   .dr7 = in->dr7 };

	return kvm_ioctl(kvm_vcpu_of(vcpu)->fd, KVM_SET_DEBUGREGS, &k);
}

/* Asking makes KVM take an INIT or SIPI that waits, which changes all registers. */
int kvm_vcpu_get_activity(struct engine_vcpu *vcpu, enum engine_activity *out)
{
	struct kvm_vcpu *v = kvm_vcpu_of(vcpu);
	struct kvm_mp_state mp;
	int ret = kvm_ioctl(v->fd, KVM_GET_MP_STATE, &mp);

	v->sregs_shared = v->events_shared = false;
	if (ret >= 0 && !vcpu->regs_dirty && !v->answer_due)
		ret = kvm_ioctl(v->fd, KVM_GET_REGS, vcpu->regs);
	if (ret < 0)
		return ret;
	switch (mp.mp_state) {
	case KVM_MP_STATE_HALTED:
		*out = ENGINE_HALTED;
		break;
	case KVM_MP_STATE_UNINITIALIZED:
	case KVM_MP_STATE_INIT_RECEIVED:
		*out = ENGINE_WAITS_FOR_SIPI;
		break;
	default:
		*out = ENGINE_RUNS;
	}
	return 0;
}

int kvm_vcpu_set_activity(struct engine_vcpu *vcpu, enum engine_activity activity)
{
	static const u32 states[] = { [ENGINE_RUNS] = KVM_MP_STATE_RUNNABLE,
				      [ENGINE_HALTED] = KVM_MP_STATE_HALTED,
				      [ENGINE_WAITS_FOR_SIPI] = KVM_MP_STATE_UNINITIALIZED };
	struct kvm_mp_state mp = { .mp_state = states[activity] };

	return kvm_ioctl(kvm_vcpu_of(vcpu)->fd, KVM_SET_MP_STATE, &mp);
}

/* struct kvm_msrs with room for one entry. */
struct one_msr {
	u32 nmsrs, pad;
	struct kvm_msr_entry entry;
};

int kvm_vcpu_get_msr(struct engine_vcpu *vcpu, u32 index, u64 *value)
{
	struct one_msr m = { .nmsrs = 1, .entry = { .index = index } };
	int ret = kvm_ioctl(kvm_vcpu_of(vcpu)->fd, KVM_GET_MSRS, &m);

	*value = m.entry.data;
	return ret == 1 ? 0 : ret < 0 ? ret : -EINVAL;
}

int kvm_vcpu_set_msr(struct engine_vcpu *vcpu, u32 index, u64 value)
{
	struct one_msr m = { .nmsrs = 1, .entry = { .index = index, .data = value } };
	int ret = kvm_ioctl(kvm_vcpu_of(vcpu)->fd, KVM_SET_MSRS, &m);

	kvm_vcpu_of(vcpu)->sregs_shared = false; /* EFER and the APIC base are among them */
	return ret == 1 ? 0 : ret < 0 ? ret : -EINVAL;
}

int kvm_vcpu_irq_pending(struct engine_vcpu *vcpu)
{
	struct kvm_lapic_state apic;
	int ret = kvm_ioctl(kvm_vcpu_of(vcpu)->fd, KVM_GET_LAPIC, &apic);
	u32 word, any = 0;

	if (ret < 0)
		return ret;
	for (u32 i = 0; i < 8; i++) {
		memcpy(&word, apic.regs + APIC_IRR + i * 0x10, sizeof(word));
		any |= word;
	}
	return any != 0;
}

/*
 * Part of KVM's own Hyper-V interface, of which the guest sees little else. KVM keeps the page it
 * had if it does not take the new one.
 */
int kvm_vcpu_lazy_eoi(struct engine_vcpu *vcpu, u64 gpa)
{
	int ret = kvm_vcpu_set_msr(vcpu, KVM_HV_VP_ASSIST_PAGE, 0);

	if (ret || gpa == ~0ull)
		return ret;
	return kvm_vcpu_set_msr(vcpu, KVM_HV_VP_ASSIST_PAGE, gpa | 1);
}

static_assert(sizeof(struct kvm_lapic_state) == ENGINE_LAPIC_BYTES, "registers as they are shown");

int kvm_vcpu_get_lapic(struct engine_vcpu *vcpu, u8 regs[ENGINE_LAPIC_BYTES])
{
	return kvm_ioctl(kvm_vcpu_of(vcpu)->fd, KVM_GET_LAPIC, regs);
}

/* KVM refuses an id that is not the vCPU's in x2APIC mode. */
int kvm_vcpu_set_lapic(struct engine_vcpu *vcpu, const u8 regs[ENGINE_LAPIC_BYTES])
{
	struct kvm_lapic_state now, apic;
	int ret = kvm_ioctl(kvm_vcpu_of(vcpu)->fd, KVM_GET_LAPIC, &now);

	if (ret < 0)
		return ret;
	memcpy(apic.regs, regs, sizeof(apic.regs));
	memcpy(apic.regs + APIC_ID, now.regs + APIC_ID, sizeof(u32));
	return kvm_ioctl(kvm_vcpu_of(vcpu)->fd, KVM_SET_LAPIC, &apic);
}

int kvm_vcpu_get_xsave(struct engine_vcpu *vcpu, u8 area[ENGINE_XSAVE_BYTES])
{
	struct kvm_vcpu *v = kvm_vcpu_of(vcpu);
	int bytes = v->vm->xsave_bytes;

	memset(area, 0, ENGINE_XSAVE_BYTES);
	if (bytes > (int)ENGINE_XSAVE_BYTES)
		return -E2BIG;
	return kvm_ioctl(v->fd, bytes > 0 ? KVM_GET_XSAVE2 : KVM_GET_XSAVE, area);
}

int kvm_vcpu_set_xsave(struct engine_vcpu *vcpu, const u8 area[ENGINE_XSAVE_BYTES])
{
	struct kvm_vcpu *v = kvm_vcpu_of(vcpu);

	if (v->vm->xsave_bytes > (int)ENGINE_XSAVE_BYTES)
		return -E2BIG;
	return kvm_ioctl(v->fd, KVM_SET_XSAVE, (void *)(uintptr_t)area);
}

int kvm_vcpu_get_xcr0(struct engine_vcpu *vcpu, u64 *value)
{
	struct kvm_xcrs x = { 0 };
	int ret = kvm_ioctl(kvm_vcpu_of(vcpu)->fd, KVM_GET_XCRS, &x);

	*value = x.nr_xcrs ? x.xcrs[0].value : 1;
	return ret;
}

int kvm_vcpu_set_xcr0(struct engine_vcpu *vcpu, u64 value)
{
	struct kvm_xcrs x = { .nr_xcrs = 1, .xcrs = { { .value = value } } };

	return kvm_ioctl(kvm_vcpu_of(vcpu)->fd, KVM_SET_XCRS, &x);
}

int kvm_vcpu_extint(struct engine_vcpu *vcpu, u8 vector)
{
	struct kvm_interrupt irq = { .irq = vector };

	return kvm_ioctl(kvm_vcpu_of(vcpu)->fd, KVM_INTERRUPT, &irq);
}
