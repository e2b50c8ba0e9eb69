// SPDX-License-Identifier: MIT
/* Hypercalls: any control word, any input, while the guest's pages move under them. */
#include "core_fuzz.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t len);

static const fuzz_step steps[] = {
	fuzz_call, fuzz_call, fuzz_call, fuzz_call,  fuzz_poke,	 fuzz_poke,	fuzz_poke_self,
	fuzz_host, fuzz_msr,  fuzz_time, fuzz_drain, fuzz_reset, fuzz_any_call,
};

int LLVMFuzzerTestOneInput(const u8 *data, size_t len)
{
	fuzz_run(data, len, steps, ARRAY_SIZE(steps));
	return 0;
}
