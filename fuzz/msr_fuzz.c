// SPDX-License-Identifier: MIT
/* Registers: any number, any value, pages over each other, timers and messages meanwhile. */
#include "core_fuzz.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t len);

static const fuzz_step steps[] = {
	fuzz_msr,  fuzz_msr,  fuzz_msr,	  fuzz_msr,  fuzz_any_msr, fuzz_time,
	fuzz_host, fuzz_host, fuzz_drain, fuzz_poke, fuzz_reset,
};

int LLVMFuzzerTestOneInput(const u8 *data, size_t len)
{
	fuzz_run(data, len, steps, ARRAY_SIZE(steps));
	return 0;
}
