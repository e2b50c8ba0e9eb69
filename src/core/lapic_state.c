// SPDX-License-Identifier: MIT
/* One row for each register, in the order of the state; blocks of eight are 16 bytes apart. */
#include "core/lapic_state.h"

#include <string.h>

static const struct {
	u16 offset; /* of the register */
	u8 count;
	bool settable;
} fields[] = {
	{ 0x020, 1, false }, /* id */
	{ 0x030, 1, false }, /* version */
	{ 0x0D0, 1, true },  /* LDR */
	{ 0x0E0, 1, true },  /* DFR */
	{ 0x0F0, 1, true },  /* spurious */
	{ 0x100, 8, true },  /* ISR */
	{ 0x180, 8, true },  /* TMR */
	{ 0x200, 8, true },  /* IRR */
	{ 0x280, 1, true },  /* ESR */
	{ 0x310, 1, true },  /* ICR, high */
	{ 0x300, 1, true },  /* ICR, low */
	{ 0x320, 1, true },  /* LVT: timer */
	{ 0x330, 1, true },  /* thermal */
	{ 0x340, 1, true },  /* performance */
	{ 0x350, 1, true },  /* LINT0 */
	{ 0x360, 1, true },  /* LINT1 */
	{ 0x370, 1, true },  /* error */
	{ 0x2F0, 1, true },  /* CMCI */
	{ 0x280, 1, false }, /* errors so far: ESR again */
	{ 0x380, 1, true },  /* initial count */
	{ 0x390, 1, true },  /* current count */
	{ 0x3E0, 1, true },  /* divide configuration */
	{ 0x0C0, 1, false }, /* remote read */
};

void lapic_state_get(const u8 regs[ENGINE_LAPIC_BYTES],
		     struct hv_local_interrupt_controller_state *out)
{
	u8 *to = (u8 *)out;

	for (u32 f = 0; f < ARRAY_SIZE(fields); f++)
		for (u32 i = 0; i < fields[f].count; i++, to += sizeof(u32))
			memcpy(to, regs + fields[f].offset + i * 16, sizeof(u32));
}

void lapic_state_set(const struct hv_local_interrupt_controller_state *in,
		     u8 regs[ENGINE_LAPIC_BYTES])
{
	const u8 *from = (const u8 *)in;

	for (u32 f = 0; f < ARRAY_SIZE(fields); f++)
		for (u32 i = 0; i < fields[f].count; i++, from += sizeof(u32))
			if (fields[f].settable)
				memcpy(regs + fields[f].offset + i * 16, from, sizeof(u32));
}
