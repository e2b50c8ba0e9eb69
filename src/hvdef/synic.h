/* SPDX-License-Identifier: MIT */
/* SynIC pages, SINT and synthetic timer registers. TLFS: inter-partition-communication, timers. */
#ifndef NESTOR_HVDEF_SYNIC_H
#define NESTOR_HVDEF_SYNIC_H

#include "base/types.h"

#define HV_SYNIC_SINT_COUNT	 16
#define HV_SYNIC_STIMER_COUNT	 4
#define HV_SYNIC_VERSION_1	 1
#define HV_MESSAGE_BYTES	 256
#define HV_MESSAGE_PAYLOAD_BYTES 240
#define HV_EVENT_FLAGS_COUNT	 2048 /* per SINT */
#define HV_EVENT_FLAGS_BYTES	 (HV_EVENT_FLAGS_COUNT / 8)

#define HV_SCONTROL_ENABLE BIT64(0)

#define HV_SINT_VECTOR_MASK  0xFFull
#define HV_SINT_MASKED	     BIT64(16)
#define HV_SINT_AUTO_EOI     BIT64(17)
#define HV_SINT_POLLING	     BIT64(18)
#define HV_SINT_AS_INTERCEPT BIT64(19)
#define HV_SINT_PROXY	     BIT64(20)
#define HV_SINT_VALID_MASK   (HV_SINT_VECTOR_MASK | MASK64(20, 16))
#define HV_SINT_RESET	     HV_SINT_MASKED
#define HV_SINT_MIN_VECTOR   16
#define HV_SINT_INTERCEPT    0 /* of a parent: messages about its children */

#define HV_STIMER_ENABLE      BIT64(0)
#define HV_STIMER_PERIODIC    BIT64(1)
#define HV_STIMER_LAZY	      BIT64(2)
#define HV_STIMER_AUTO_ENABLE BIT64(3)
#define HV_STIMER_VECTOR(c)   ((u8)((c) >> 4))
#define HV_STIMER_DIRECT      BIT64(12)
#define HV_STIMER_SINT(c)     ((u8)((c) >> 16) & 0xF)
#define HV_STIMER_VALID_MASK  (MASK64(12, 0) | MASK64(19, 16))

#define HV_MESSAGE_FLAG_PENDING 0x01

enum hv_message_type {
	HV_MESSAGE_NONE = 0,
	HV_MESSAGE_TIMER_EXPIRED = 0x80000010,
	HV_MESSAGE_INVALID_VP_REGISTER_VALUE = 0x80000020,
	HV_MESSAGE_OPAQUE_INTERCEPT = 0x8000003F, /* to a parent: which VP has one */
	HV_MESSAGE_SINT_INTERCEPT = 0x80000061,	  /* ports rang, see the event ring of the SINT */
	HV_MESSAGE_SCHEDULER_VP_SIGNAL_PAIR = 0x80000101, /* VPs may be dispatched again */
	/* Guests post types without bit 31; the hypervisor's own carry it. */
};
#define HV_MESSAGE_TYPE_HYPERVISOR BIT(31)

/* One slot of the message page. A zero type means the slot is free. */
struct hv_message {
	u32 type;
	u8 payload_bytes;
	u8 flags;
	u16 rsvd;
	u64 sender; /* port id (low half) or partition id */
	u8 payload[HV_MESSAGE_PAYLOAD_BYTES];
};
static_assert(sizeof(struct hv_message) == HV_MESSAGE_BYTES, "TLFS size");

struct hv_timer_message_payload {
	u32 timer_index;
	u32 rsvd;
	u64 expiration_time; /* 100 ns, when it should have fired */
	u64 delivery_time;   /* 100 ns, when the message was written */
};
static_assert(sizeof(struct hv_timer_message_payload) == 24, "TLFS size");

struct hv_sint_intercept_payload {
	u32 sint;
};

/* The event ring page: one ring for each SINT. */
#define HV_EVENT_RING_SLOTS 63
struct hv_event_ring {
	u8 signal_masked; /* the reader has been told and is not done */
	u8 ring_full;	  /* the reader says when it is done, HvCallNotifyPortRingEmpty */
	u16 rsvd;
	u32 port[HV_EVENT_RING_SLOTS]; /* 0: free */
};
static_assert(sizeof(struct hv_event_ring) * HV_SYNIC_SINT_COUNT == 4096, "as Linux declares it");

/* The reference TSC page. time = high64(tsc * scale) + offset, valid if sequence is not 0. */
struct hv_reference_tsc_page {
	u32 sequence;
	u32 rsvd;
	u64 scale;
	s64 offset;
};

#endif
