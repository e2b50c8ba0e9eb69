// SPDX-License-Identifier: MIT
/*
 * A type of intercept is a row. What VPs read of it while they run changes with all of them
 * held: when the call returns, it is so on every VP.
 */
#include "core/child_intercept.h"

#include <errno.h>

#include "core/hypercall.h"
#include "core/msr.h"

#define MASK_RW	 (HV_INTERCEPT_ACCESS_MASK_READ | HV_INTERCEPT_ACCESS_MASK_WRITE)
#define MASK_X	 HV_INTERCEPT_ACCESS_MASK_EXECUTE
#define MASK_ALL (MASK_RW | MASK_X)

#define PORT_FIRST(parameter) ((u16)(parameter))
#define PORT_LAST(parameter)  ((u16)((parameter) >> 16))

/* Every port is the parent's, installed or not. */
static enum hv_status install_port(struct partition *p, const struct intercept_desc *d, u32 access,
				   u64 parameter)
{
	bool range = d->type == HV_INTERCEPT_TYPE_X64_IO_PORT_RANGE;

	return range && PORT_LAST(parameter) < PORT_FIRST(parameter) ? HV_STATUS_INVALID_PARAMETER
								     : HV_STATUS_SUCCESS;
}

static enum hv_status install_msrs(struct partition *p, const struct intercept_desc *d, u32 access,
				   u64 parameter)
{
	child_hold(p);
	p->child->msr_access = access;
	child_release(p);
	return HV_STATUS_SUCCESS;
}

/* Where it stands in c->msr; c->msrs: nowhere. */
static u32 find_msr(const struct child *c, u32 index)
{
	u32 at = 0;

	while (at < c->msrs && c->msr[at].index != index)
		at++;
	return at;
}

/* All VPs are held. There is room for it. */
static void set_msr_held(struct child *c, u32 at, u32 index, u32 access)
{
	if (access) {
		c->msrs += at == c->msrs;
		c->msr[at] = (struct child_msr){ index, access };
	} else if (at < c->msrs) {
		c->msr[at] = c->msr[--c->msrs];
	}
}

static enum hv_status install_msr(struct partition *p, const struct intercept_desc *d, u32 access,
				  u64 parameter)
{
	u32 index = (u32)parameter, at = find_msr(p->child, index);
	int ret;

	if (access && at == CHILD_MSRS_MAX)
		return HV_STATUS_NO_RESOURCES;
	child_hold(p);
	ret = p->vm->ops->vm_msr_exits(p->vm, index, access & HV_INTERCEPT_ACCESS_MASK_READ,
				       access & HV_INTERCEPT_ACCESS_MASK_WRITE);
	if (ret >= 0)
		set_msr_held(p->child, at, index, access);
	child_release(p);
	if (ret == -EOPNOTSUPP)
		return HV_STATUS_PROCESSOR_FEATURE_NOT_SUPPORTED;
	return ret < 0 ? HV_STATUS_NO_RESOURCES : HV_STATUS_SUCCESS;
}

static enum hv_status install_call(struct partition *p, const struct intercept_desc *d, u32 access,
				   u64 parameter)
{
	if (access)
		__atomic_fetch_or(&p->child->intercepts, BIT(d->type), __ATOMIC_RELAXED);
	else
		__atomic_fetch_and(&p->child->intercepts, ~BIT(d->type), __ATOMIC_RELAXED);
	return HV_STATUS_SUCCESS;
}

#define NO_CPUID                                                                                   \
	"not to be had: KVM answers CPUID by itself and never stops at it. "                       \
	"HvCallRegisterInterceptResult says beforehand what it shows"

static const struct intercept_desc rows[] = {
	{ HV_INTERCEPT_TYPE_X64_IO_PORT, "port", MASK_RW, "port",
	  "nothing changes: every access to every port is the parent's, installed or not",
	  install_port },
	{ HV_INTERCEPT_TYPE_X64_MSR, "MSRs", MASK_RW, NULL,
	  "registers that neither KVM nor the hypervisor serves, those it serves others but not "
	  "this child included. Goes before property 0x50017. A write to a register of the "
	  "interface that is read-only is #GP all the same",
	  install_msrs },
	{ HV_INTERCEPT_TYPE_CPUID, "CPUID leaf", MASK_X, "leaf", NO_CPUID, NULL },
	{ HV_INTERCEPT_TYPE_EXCEPTION, "exception", MASK_X, "vector",
	  "not to be had: KVM hands out two of them, #BP, and #DB in exchange for the guest's "
	  "debug registers; all others it delivers without a stop",
	  NULL },
	{ HV_INTERCEPT_TYPE_X64_GLOBAL_CPUID, "every CPUID leaf", MASK_X, NULL, NO_CPUID, NULL },
	{ HV_INTERCEPT_TYPE_HYPERCALL, "hypercalls", MASK_ALL, NULL,
	  "those that only a parent can answer: 0x0D and 0x0F together", install_call },
	{ HV_INTERCEPT_TYPE_X64_MSR_INDEX, "MSR", MASK_RW, "its number",
	  "one register, though KVM serves it: RDMSR and WRMSR, not what other instructions do "
	  "with it. At most 64. What the hypervisor serves to this child goes on being served. "
	  "Not to be had are those of the local APIC, 0x6E0 and 0x800 to 0x8FF: KVM has a way "
	  "around its filter for them",
	  install_msr },
	{ HV_INTERCEPT_TYPE_UNKNOWN_SYNIC_CONNECTION, "unknown connection", MASK_ALL, NULL,
	  "a message or signal to a connection that there is not", install_call },
	{ HV_INTERCEPT_TYPE_X64_APIC_EOI, "EOI", MASK_ALL, NULL,
	  "nothing changes: the EOI of a level-triggered interrupt is told anyway", install_call },
	{ HV_INTERCEPT_TYPE_RETARGET_INTERRUPT_WITH_UNKNOWN_DEVICE_ID, "unknown device", MASK_ALL,
	  NULL, "HvCallRetargetDeviceInterrupt", install_call },
	{ HV_INTERCEPT_TYPE_X64_IO_PORT_RANGE, "ports", MASK_RW, "first and last port",
	  "as for a single one", install_port },
};

const struct intercept_desc *intercept_row(u32 row)
{
	return &rows[row];
}

u32 intercept_row_count(void)
{
	return ARRAY_SIZE(rows);
}

static const struct intercept_desc *find(u32 type)
{
	for (u32 i = 0; i < ARRAY_SIZE(rows); i++)
		if (rows[i].type == type)
			return &rows[i];
	return NULL;
}

static enum hv_status install_life_locked(struct partition *p, const struct intercept_desc *d,
					  const struct hv_input_install_intercept *in)
{
	if (!child_active(p))
		return HV_STATUS_INVALID_PARTITION_STATE;
	if (!d->install)
		return HV_STATUS_PROCESSOR_FEATURE_NOT_SUPPORTED;
	return d->install(p, d, in->access_type, in->parameter);
}

static enum hv_status call_install_intercept(struct hypercall *hc)
{
	const struct hv_input_install_intercept *in =
		HYPERCALL_IN(hc, struct hv_input_install_intercept);
	const struct intercept_desc *d = find(in->intercept_type);
	struct partition *p = child_get(hc, in->partition_id);
	enum hv_status status = HV_STATUS_INVALID_PARAMETER;

	if (!p)
		return HV_STATUS_INVALID_PARTITION_ID;
	if (d && !(in->access_type & ~d->access)) {
		pthread_mutex_lock(&p->child->life_lock);
		status = install_life_locked(p, d, in);
		pthread_mutex_unlock(&p->child->life_lock);
	}
	child_put(p);
	return status;
}

bool child_intercepts(const struct vp *vp, enum hv_intercept_type type)
{
	const struct child *c = vp->partition->child;

	return c && (__atomic_load_n(&c->intercepts, __ATOMIC_RELAXED) &
		     (BIT(type) | BIT(HV_INTERCEPT_TYPE_HYPERCALL)));
}

bool child_intercepts_msr(struct vp *vp, u32 index, bool write)
{
	const struct child *c = vp->partition->child;
	u32 wanted = write ? HV_INTERCEPT_ACCESS_MASK_WRITE : HV_INTERCEPT_ACCESS_MASK_READ;
	u32 at = find_msr(c, index), access = c->msr_access;

	access |= at < c->msrs ? c->msr[at].access : 0;
	return (access & wanted) && !msr_is_served(vp, index, write);
}

const struct hypercall_desc child_intercept_hypercalls[] = {
	{ .code = HVCALL_INSTALL_INTERCEPT,
	  .name = "HvCallInstallIntercept",
	  .privilege = HV_PRIV_CREATE_PARTITIONS,
	  .in_size = sizeof(struct hv_input_install_intercept),
	  .handler = call_install_intercept },
	{ 0 },
};
