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

bool refclock_frozen(const struct refclock *rc)
{
	return __atomic_load_n(&rc->frozen, __ATOMIC_ACQUIRE);
}

void refclock_freeze(struct refclock *rc)
{
	__atomic_store_n(&rc->frozen_tsc, refclock_tsc(rc), __ATOMIC_RELEASE);
	__atomic_store_n(&rc->frozen, true, __ATOMIC_RELEASE);
}

int refclock_thaw(struct refclock *rc)
{
	int ret = rc->vm->ops->tsc_set(rc->vm, refclock_tsc(rc));

	if (ret >= 0)
		__atomic_store_n(&rc->frozen, false, __ATOMIC_RELEASE);
	return ret < 0 ? ret : 0;
}

void refclock_set_100ns(struct refclock *rc, u64 now)
{
	__atomic_store_n(&rc->offset, now - mul_hi(refclock_tsc(rc), rc->scale), __ATOMIC_RELEASE);
}

int refclock_set_tsc(struct refclock *rc, u64 tsc)
{
	u64 now = refclock_now_100ns(rc);
	int ret = 0;

	if (refclock_frozen(rc))
		__atomic_store_n(&rc->frozen_tsc, tsc, __ATOMIC_RELEASE);
	else
		ret = rc->vm->ops->tsc_set(rc->vm, tsc);
	if (ret >= 0)
		refclock_set_100ns(rc, now);
	return ret < 0 ? ret : 0;
}

u64 refclock_now_100ns(const struct refclock *rc)
{
	return mul_hi(refclock_tsc(rc), rc->scale) + __atomic_load_n(&rc->offset, __ATOMIC_ACQUIRE);
}

u64 refclock_now_ns(void *ctx)
{
	return refclock_now_100ns(ctx) * 100;
}
