// SPDX-License-Identifier: MIT
/* time = high64(tsc * scale) + offset: the same arithmetic on both sides. */
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

void refclock_init_like(struct refclock *rc, struct engine_vm *vm, const struct refclock *other)
{
	*rc = (struct refclock){ .vm = vm, .tsc_hz = other->tsc_hz, .scale = other->scale };
}

u64 refclock_tsc(const struct refclock *rc)
{
	if (unlikely(__atomic_load_n(&rc->frozen, __ATOMIC_ACQUIRE)))
		return __atomic_load_n(&rc->frozen_tsc, __ATOMIC_ACQUIRE);
	return rc->vm->ops->tsc_now(rc->vm);
}

u64 refclock_now_100ns(const struct refclock *rc)
{
	return mul_hi(refclock_tsc(rc), rc->scale) + __atomic_load_n(&rc->offset, __ATOMIC_ACQUIRE);
}

u64 refclock_now_ns(void *ctx)
{
	return refclock_now_100ns(ctx) * 100;
}
