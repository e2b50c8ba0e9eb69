/* SPDX-License-Identifier: MIT */
/* State of a VP that is too large for a register. Layouts as Linux and rust-vmm declare them. */
#ifndef NESTOR_HVDEF_VP_STATE_H
#define NESTOR_HVDEF_VP_STATE_H

#include "hvdef/synic.h"

/* With bit 31 the data is in pages of the caller's, named by number. */
enum hv_vp_state_type {
	HV_VP_STATE_LAPIC = 0x80000000u,
	HV_VP_STATE_XSAVE = 0x80000001u,
	HV_VP_STATE_SIM_PAGE = 0x80000002u,
	HV_VP_STATE_SIEF_PAGE = 0x80000003u,
	HV_VP_STATE_SYNTHETIC_TIMERS = 4,
};

struct hv_input_vp_state {
	u64 partition_id;
	u32 vp_index;
	u8 input_vtl;
	u8 rsvd;
	u16 rsvd2;
	u32 type;
	u32 rsvd3;
	u64 xsave_flags;
	u64 xsave_states; /* components wanted, as in XCR0 and IA32_XSS */
			  /* u64 gpn[] or the data: variable header */
};
static_assert(sizeof(struct hv_input_vp_state) == 40, "as Linux declares it");

struct hv_local_interrupt_controller_state {
	u32 apic_id;
	u32 apic_version;
	u32 apic_ldr;
	u32 apic_dfr;
	u32 apic_spurious;
	u32 apic_isr[8];
	u32 apic_tmr[8];
	u32 apic_irr[8];
	u32 apic_esr;
	u32 apic_icr_high;
	u32 apic_icr_low;
	u32 apic_lvt_timer;
	u32 apic_lvt_thermal;
	u32 apic_lvt_perfmon;
	u32 apic_lvt_lint0;
	u32 apic_lvt_lint1;
	u32 apic_lvt_error;
	u32 apic_lvt_cmci;
	u32 apic_error_status;
	u32 apic_initial_count;
	u32 apic_counter_value;
	u32 apic_divide_configuration;
	u32 apic_remote_read;
};
static_assert(sizeof(struct hv_local_interrupt_controller_state) == 176, "as rust-vmm declares it");

struct hv_stimer_state {
	u32 flags; /* bit 0: a message waits for its slot */
	u32 rsvd;
	u64 config;
	u64 count;
	u64 adjustment;
	u64 undelivered_expiration; /* 100 ns */
};
#define HV_STIMER_STATE_MESSAGE_PENDING BIT(0)

struct hv_synthetic_timers_state {
	struct hv_stimer_state timer[HV_SYNIC_STIMER_COUNT];
	u64 rsvd[5];
};
static_assert(sizeof(struct hv_synthetic_timers_state) == 200, "as Linux declares it");

#endif
