// SPDX-License-Identifier: MIT
/* Hypercalls: any control word, any input, while the guest's pages move under them and some fail.
 */
#include "core_fuzz.h"

#include "core/fail.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t len);

/* From now on another call fails on purpose. */
static void fuzz_fail(struct fuzz *f)
{
	static struct fail_rules rules;

	rules.count = 1;
	rules.rule[0] = (struct fail_rule){
		.hv = "L1",
		.code = hypercall_row(fuzz_below(f, hypercall_row_count()))->code,
		.status = (u16)fuzz_take(f, 2),
		.nth = fuzz_below(f, 3),
		.after = fuzz_below(f, 4),
	};
	if (fuzz_below(f, 2))
		rules.rule[0].hv[0] = 0;
	f->ct.p->config.fails = f->ct.outer->config.fails = &rules;
}

static const fuzz_step steps[] = {
	fuzz_call, fuzz_call, fuzz_call, fuzz_call,  fuzz_poke,	 fuzz_poke,	fuzz_poke_self,
	fuzz_host, fuzz_msr,  fuzz_time, fuzz_drain, fuzz_reset, fuzz_any_call, fuzz_fail,
};

int LLVMFuzzerTestOneInput(const u8 *data, size_t len)
{
	fuzz_run(data, len, steps, ARRAY_SIZE(steps));
	return 0;
}
