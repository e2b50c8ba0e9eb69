// SPDX-License-Identifier: MIT
/* Interrupts between VPs by hypercall, and the spin-wait hint. TLFS: virtual-processors. */
#include <sched.h>

#include "core/hypercall.h"

#define IPI_MIN_VECTOR 0x10
#define IPI_MAX_VECTOR 0xFF
#define BANK_VPS       64u

static bool vector_ok(u32 vector)
{
	return vector >= IPI_MIN_VECTOR && vector <= IPI_MAX_VECTOR;
}

static void send_bank(struct partition *p, u32 bank, u64 mask, u32 vector)
{
	while (mask) {
		u32 bit = (u32)__builtin_ctzll(mask);
		struct vp *vp = partition_vp(p, bank * BANK_VPS + bit);

		mask &= mask - 1;
		if (vp)
			vp_interrupt(vp, (u8)vector);
	}
}

static enum hv_status call_send_ipi(struct hypercall *hc)
{
	const struct hv_input_send_ipi *in = HYPERCALL_IN(hc, struct hv_input_send_ipi);

	if (!vector_ok(in->vector) || (in->target_vtl & 0xFF))
		return HV_STATUS_INVALID_PARAMETER;
	send_bank(hc->vp->partition, 0, in->cpu_mask, in->vector);
	return HV_STATUS_SUCCESS;
}

static enum hv_status call_send_ipi_ex(struct hypercall *hc)
{
	const struct hv_input_send_ipi_ex *in = HYPERCALL_IN(hc, struct hv_input_send_ipi_ex);
	const u64 *banks = HYPERCALL_VAR(hc, sizeof(*in));
	struct partition *p = hc->vp->partition;

	if (!vector_ok(in->vector) || (in->target_vtl & 0xFF))
		return HV_STATUS_INVALID_PARAMETER;
	if (in->set_format == HV_GENERIC_SET_ALL) {
		for (u32 i = 0; i < p->vp_count; i++)
			if (partition_vp(p, i))
				vp_interrupt(p->vps[i], (u8)in->vector);
		return HV_STATUS_SUCCESS;
	}
	if (in->set_format != HV_GENERIC_SET_SPARSE_4K)
		return HV_STATUS_INVALID_PARAMETER;
	if (hc->var_bytes != (u32)__builtin_popcountll(in->bank_mask) * sizeof(u64))
		return HV_STATUS_INVALID_HYPERCALL_INPUT;
	for (u64 mask = in->bank_mask; mask; mask &= mask - 1)
		send_bank(p, (u32)__builtin_ctzll(mask), *banks++, in->vector);
	return HV_STATUS_SUCCESS;
}

/* The holder of the lock may be another VP's thread on this processor: let it run. */
static enum hv_status call_long_spin_wait(struct hypercall *hc)
{
	sched_yield();
	return HV_STATUS_SUCCESS;
}

const struct hypercall_desc ipi_hypercalls[] = {
	{ .code = HVCALL_NOTIFY_LONG_SPIN_WAIT,
	  .name = "HvCallNotifyLongSpinWait",
	  .in_size = sizeof(struct hv_input_long_spin_wait),
	  .handler = call_long_spin_wait },
	{ .code = HVCALL_SEND_IPI,
	  .name = "HvCallSendSyntheticClusterIpi",
	  .in_size = sizeof(struct hv_input_send_ipi),
	  .handler = call_send_ipi },
	{ .code = HVCALL_SEND_IPI_EX,
	  .name = "HvCallSendSyntheticClusterIpiEx",
	  .in_size = sizeof(struct hv_input_send_ipi_ex),
	  .var_header = true,
	  .handler = call_send_ipi_ex },
	{ 0 },
};
