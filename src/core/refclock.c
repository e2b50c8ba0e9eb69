// SPDX-License-Identifier: MIT
/* time = high64(tsc * scale): the same arithmetic on both sides. */
#include "core/refclock.h"

#include <errno.h>

#define REF_HZ 10000000ull

int refclock_init(struct refclock *rc, struct engine_vm *vm)
{
	u64 hz = vm->ops->tsc_hz(vm);

	if (hz <= REF_HZ)
		return -EINVAL;
	*rc = (struct refclock){ .vm = vm,
				 .tsc_hz = hz,
				 .scale = (u64)(((u128)REF_HZ << 64) / hz) };
	return 0;
}

u64 refclock_now_100ns(const struct refclock *rc)
{
	return mul_hi(rc->vm->ops->tsc_now(rc->vm), rc->scale);
}

u64 refclock_now_ns(void *ctx)
{
	return refclock_now_100ns(ctx) * 100;
}
