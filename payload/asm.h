/* SPDX-License-Identifier: MIT */
/* Numbers that crt0.S and the C files share. */
#ifndef NESTOR_PAYLOAD_ASM_H
#define NESTOR_PAYLOAD_ASM_H

#define SEL_CODE32	0x08
#define SEL_CODE64	0x10
#define SEL_DATA	0x18
#define SEL_USER_DATA	0x23
#define SEL_USER_CODE64 0x2B
#define SEL_TSS		0x30 /* 16 bytes per processor */

#define VECTOR_USER_RETURN 0x81

/* Below the EBDA, in the memory map RAM, and never used by the monitor. */
#define AP_GPA 0x90000

/* Offsets in struct hv_call. */
#define HC_CONTROL   0
#define HC_INPUT     8
#define HC_OUTPUT    16
#define HC_PAGE	     24
#define HC_RESULT    32
#define HC_SURVIVORS 40
#define HC_XMM	     48

#endif
