// SPDX-License-Identifier: MIT
/* A flat list: roots deposit hundreds of pages, not millions. */
#include "core/deposit.h"

#include <errno.h>
#include <stdlib.h>

#include "core/child.h"
#include "core/core_trace.h"
#include "core/hypercall.h"

#define DEPOSIT_GROW 256u

void deposit_init(struct deposit *d, struct gmem *gmem)
{
	*d = (struct deposit){ .gmem = gmem };
	pthread_mutex_init(&d->lock, NULL);
}

void deposit_fini(struct deposit *d)
{
	for (u32 i = 0; i < d->count; i++)
		gmem_donate(d->gmem, d->page[i].gpn << PAGE_SHIFT, 0);
	free(d->page);
	pthread_mutex_destroy(&d->lock);
}

u32 deposit_begin(struct deposit *d)
{
	u32 serial;

	pthread_mutex_lock(&d->lock);
	serial = ++d->calls;
	pthread_mutex_unlock(&d->lock);
	return serial;
}

static bool grow_locked(struct deposit *d)
{
	struct deposit_page *page;

	if (d->count < d->capacity)
		return true;
	page = realloc(d->page, (d->capacity + DEPOSIT_GROW) * sizeof(*page));
	if (!page)
		return false;
	d->page = page;
	d->capacity += DEPOSIT_GROW;
	return true;
}

static enum hv_status donate(struct deposit *d, u64 gpn, u32 serial)
{
	int ret = gpn >> (64 - PAGE_SHIFT) ? -EINVAL
					   : gmem_donate(d->gmem, gpn << PAGE_SHIFT, serial);

	if (ret == -EACCES)
		return HV_STATUS_OPERATION_DENIED;
	return ret ? HV_STATUS_INVALID_PARAMETER : HV_STATUS_SUCCESS;
}

enum hv_status deposit_add(struct deposit *d, u64 gpn, u32 serial)
{
	enum hv_status status;

	pthread_mutex_lock(&d->lock);
	if (d->closed)
		status = HV_STATUS_INVALID_PARTITION_STATE;
	else if (!grow_locked(d))
		status = HV_STATUS_NO_RESOURCES;
	else
		status = donate(d, gpn, serial);
	if (status == HV_STATUS_SUCCESS)
		d->page[d->count++] = (struct deposit_page){ .gpn = gpn };
	pthread_mutex_unlock(&d->lock);
	return status;
}

enum hv_status deposit_take(struct deposit *d, u32 count, u64 *gpns)
{
	enum hv_status status = HV_STATUS_INSUFFICIENT_MEMORY;

	pthread_mutex_lock(&d->lock);
	if (d->closed) {
		status = HV_STATUS_INVALID_PARTITION_STATE;
	} else if (d->count - d->in_use >= count) {
		d->in_use += count;
		for (u32 i = 0; count; i++) {
			if (d->page[i].in_use)
				continue;
			d->page[i].in_use = true;
			if (gpns)
				*gpns++ = d->page[i].gpn;
			count--;
		}
		status = HV_STATUS_SUCCESS;
	}
	pthread_mutex_unlock(&d->lock);
	return status;
}

static struct deposit_page *used_locked(struct deposit *d, u64 gpn)
{
	for (u32 i = 0; i < d->count; i++)
		if (d->page[i].gpn == gpn && d->page[i].in_use)
			return &d->page[i];
	return NULL;
}

void deposit_release(struct deposit *d, u64 gpn)
{
	struct deposit_page *page;

	pthread_mutex_lock(&d->lock);
	page = used_locked(d, gpn);
	if (page) {
		page->in_use = false;
		d->in_use--;
	}
	pthread_mutex_unlock(&d->lock);
}

void *deposit_lend(struct deposit *d, u64 gpn)
{
	void *page = NULL;

	pthread_mutex_lock(&d->lock);
	if (used_locked(d, gpn) && gmem_lend(d->gmem, gpn << PAGE_SHIFT, true) == 0)
		page = gmem_ptr(d->gmem, gpn << PAGE_SHIFT, PAGE_BYTES);
	pthread_mutex_unlock(&d->lock);
	return page;
}

void deposit_unlend(struct deposit *d, u64 gpn)
{
	struct deposit_page *page;

	pthread_mutex_lock(&d->lock);
	page = used_locked(d, gpn);
	if (page) {
		gmem_lend(d->gmem, gpn << PAGE_SHIFT, false);
		page->in_use = false;
		d->in_use--;
	}
	pthread_mutex_unlock(&d->lock);
}

/* A lent page is in the pool like the others, so that nothing gives it back but WITHDRAW. */
void deposit_close(struct deposit *d)
{
	pthread_mutex_lock(&d->lock);
	d->closed = true;
	d->in_use = 0;
	for (u32 i = 0; i < d->count; i++) {
		if (!d->page[i].in_use)
			continue;
		d->page[i].in_use = false;
		gmem_lend(d->gmem, d->page[i].gpn << PAGE_SHIFT, false);
	}
	pthread_mutex_unlock(&d->lock);
}

bool deposit_give_back(struct deposit *d)
{
	bool any;

	pthread_mutex_lock(&d->lock);
	any = d->count != 0;
	while (d->count)
		gmem_donate(d->gmem, d->page[--d->count].gpn << PAGE_SHIFT, 0);
	d->in_use = 0;
	pthread_mutex_unlock(&d->lock);
	return any;
}

enum hv_status deposit_withdraw(struct deposit *d, u64 *gpn)
{
	enum hv_status status = HV_STATUS_NO_RESOURCES;

	pthread_mutex_lock(&d->lock);
	for (u32 i = d->count; i-- > 0;) {
		if (d->page[i].in_use)
			continue;
		*gpn = d->page[i].gpn;
		d->page[i] = d->page[--d->count];
		gmem_donate(d->gmem, *gpn << PAGE_SHIFT, 0);
		status = HV_STATUS_SUCCESS;
		break;
	}
	pthread_mutex_unlock(&d->lock);
	return status;
}

struct deposit_info deposit_get(struct deposit *d)
{
	struct deposit_info info;

	pthread_mutex_lock(&d->lock);
	info = (struct deposit_info){ d->count, d->in_use, d->calls };
	pthread_mutex_unlock(&d->lock);
	return info;
}

/* The partition whose pool a call names: the caller, or a child of its, referenced. */
static struct partition *pool_get(struct hypercall *hc, u64 partition_id)
{
	return hypercall_is_self(hc, partition_id) ? hc->vp->partition
						   : child_get(hc, partition_id);
}

static void pool_put(struct hypercall *hc, struct partition *p)
{
	if (p != hc->vp->partition)
		child_put(p);
}

static enum hv_status call_deposit(struct hypercall *hc)
{
	const struct hv_input_deposit *in = HYPERCALL_IN(hc, struct hv_input_deposit);
	struct partition *p = pool_get(hc, in->partition_id);
	enum hv_status status = HV_STATUS_SUCCESS;
	u32 serial;

	if (!p)
		return HV_STATUS_INVALID_PARTITION_ID;
	serial = deposit_begin(&p->deposit);
	pthread_rwlock_wrlock(&p->deposit.gmem->sharing);
	for (; hc->rep < hc->rep_count; hc->rep++) {
		status = deposit_add(&p->deposit, in->gpn[hc->rep], serial);
		core_emit(TRACE_DEPOSIT, in->gpn[hc->rep] << PAGE_SHIFT, serial, status,
			  TRACE_WORD(p->hv->name));
		if (status != HV_STATUS_SUCCESS)
			break;
	}
	pthread_rwlock_unlock(&p->deposit.gmem->sharing);
	pool_put(hc, p);
	return status;
}

/* NO_RESOURCES is how the caller learns that nothing is left. */
static enum hv_status call_withdraw(struct hypercall *hc)
{
	const struct hv_input_withdraw *in = HYPERCALL_IN(hc, struct hv_input_withdraw);
	struct partition *p = pool_get(hc, in->partition_id);
	enum hv_status status = HV_STATUS_SUCCESS;
	u64 *out = HYPERCALL_OUT(hc, u64);

	if (!p)
		return HV_STATUS_INVALID_PARTITION_ID;
	for (; hc->rep < hc->rep_count; hc->rep++) {
		status = deposit_withdraw(&p->deposit, &out[hc->rep]);
		if (status != HV_STATUS_SUCCESS)
			break;
		core_emit(TRACE_WITHDRAW, out[hc->rep] << PAGE_SHIFT, TRACE_WORD(p->hv->name));
	}
	pool_put(hc, p);
	return status;
}

const struct hypercall_desc deposit_hypercalls[] = {
	{ .code = HVCALL_DEPOSIT_MEMORY,
	  .name = "HvCallDepositMemory",
	  .privilege = HV_PRIV_ACCESS_MEMORY_POOL,
	  .in_size = sizeof(struct hv_input_deposit),
	  .rep_in = sizeof(u64),
	  .handler = call_deposit },
	{ .code = HVCALL_WITHDRAW_MEMORY,
	  .name = "HvCallWithdrawMemory",
	  .privilege = HV_PRIV_ACCESS_MEMORY_POOL,
	  .in_size = sizeof(struct hv_input_withdraw),
	  .rep_out = sizeof(u64),
	  .handler = call_withdraw },
	{ 0 },
};
