// SPDX-License-Identifier: MIT
/* Which intercepts a parent has installed. */
#include "core/child_intercept.h"

#include "core/hypercall.h"

/*
 * Those that clients install beside what is intercepted anyway. Ports, processor
 * identification and exceptions are not given away one by one.
 */
#define INTERCEPTS_KNOWN                                                                           \
	(BIT(HV_INTERCEPT_TYPE_HYPERCALL) | BIT(HV_INTERCEPT_TYPE_UNKNOWN_SYNIC_CONNECTION) |      \
	 BIT(HV_INTERCEPT_TYPE_X64_APIC_EOI) |                                                     \
	 BIT(HV_INTERCEPT_TYPE_RETARGET_INTERRUPT_WITH_UNKNOWN_DEVICE_ID))

static enum hv_status call_install_intercept(struct hypercall *hc)
{
	const struct hv_input_install_intercept *in =
		HYPERCALL_IN(hc, struct hv_input_install_intercept);
	struct partition *p = child_get(hc, in->partition_id);
	enum hv_status status = HV_STATUS_SUCCESS;

	if (!p)
		return HV_STATUS_INVALID_PARTITION_ID;
	if (in->intercept_type >= 32 || !(BIT(in->intercept_type) & INTERCEPTS_KNOWN) ||
	    (in->access_type & ~HV_INTERCEPT_ACCESS_ALL))
		status = HV_STATUS_INVALID_PARAMETER;
	else if (in->access_type)
		__atomic_fetch_or(&p->child->intercepts, BIT(in->intercept_type), __ATOMIC_RELAXED);
	else
		__atomic_fetch_and(&p->child->intercepts, ~BIT(in->intercept_type),
				   __ATOMIC_RELAXED);
	child_put(p);
	return status;
}

bool child_intercepts(const struct vp *vp, enum hv_intercept_type type)
{
	const struct child *c = vp->partition->child;

	return c && (__atomic_load_n(&c->intercepts, __ATOMIC_RELAXED) &
		     (BIT(type) | BIT(HV_INTERCEPT_TYPE_HYPERCALL)));
}

const struct hypercall_desc child_intercept_hypercalls[] = {
	{ .code = HVCALL_INSTALL_INTERCEPT,
	  .name = "HvCallInstallIntercept",
	  .privilege = HV_PRIV_CREATE_PARTITIONS,
	  .in_size = sizeof(struct hv_input_install_intercept),
	  .handler = call_install_intercept },
	{ 0 },
};
