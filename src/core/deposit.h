/* SPDX-License-Identifier: MIT */
/*
 * Memory a root gives its hypervisor. The pages of a partition's pool are the
 * depositor's RAM: while they are donated the depositor cannot touch them, and
 * each comes back exactly once, by WITHDRAW. What the hypervisor makes for a
 * partition costs pages of its pool; an empty pool is INSUFFICIENT_MEMORY.
 */
#ifndef NESTOR_CORE_DEPOSIT_H
#define NESTOR_CORE_DEPOSIT_H

#include <pthread.h>

#include "hvdef/status.h"
#include "mem/gmem.h"

/* What an object costs its partition, in pages. */
#define DEPOSIT_LP	   1u
#define DEPOSIT_VP	   2u
#define DEPOSIT_STATS	   1u
#define DEPOSIT_STATE_PAGE 1u
#define DEPOSIT_CHILD	   1u /* of its parent's pool */
#define DEPOSIT_MAP	   1u /* 2 MiB of a child's address space in which something is mapped */
#define DEPOSIT_CPUID	   1u /* 64 registered results of HvCallRegisterInterceptResult */
#define DEPOSIT_INITIALIZE 8u /* of its own */

struct deposit_page {
	u64 gpn;
	bool in_use;
};

struct deposit {
	struct gmem *gmem;    /* the depositor's memory */
	pthread_mutex_t lock; /* guards everything below */
	struct deposit_page *page;
	u32 count, capacity, in_use;
	u32 calls;   /* DEPOSIT calls so far */
	bool closed; /* of a finalized partition: only withdrawals */
};

void deposit_init(struct deposit *d, struct gmem *gmem);
/* Gives all pages back to the depositor's use; the objects they paid for are gone. */
void deposit_fini(struct deposit *d);

/* A DEPOSIT call begins: its pages share a serial number. */
u32 deposit_begin(struct deposit *d);
/*
 * @serial: which DEPOSIT call brings it, from 1.
 * HV_STATUS_INVALID_PARAMETER: not RAM of the depositor's, donated already, to any pool, or
 * below an overlay page;
 * HV_STATUS_OPERATION_DENIED: a child can reach it;
 * HV_STATUS_NO_RESOURCES: the host cannot keep account of more.
 */
enum hv_status deposit_add(struct deposit *d, u64 gpn, u32 serial);
/*
 * Takes @count free pages, or none: HV_STATUS_INSUFFICIENT_MEMORY. @gpns may be NULL.
 * HV_STATUS_INVALID_PARTITION_STATE: closed, as for deposit_add().
 */
enum hv_status deposit_take(struct deposit *d, u32 count, u64 *gpns);
/* The object that took @gpn is gone: the page is free again. */
void deposit_release(struct deposit *d, u64 gpn);
/*
 * A page in use that its depositor may read and write until deposit_unlend(), by
 * the pointer given. NULL as after deposit_take().
 */
void *deposit_lend(struct deposit *d, u64 gpn);
/* Takes it out of the depositor's reach again, and frees it. */
void deposit_unlend(struct deposit *d, u64 gpn);
/* All objects are gone: every page is free, and no more can be taken or added. */
void deposit_close(struct deposit *d);
/*
 * Gives every page back, as nobody is left who would withdraw it. What was paid with
 * them stays. False: there are none.
 */
bool deposit_give_back(struct deposit *d);
/* Gives one free page back to the depositor. HV_STATUS_NO_RESOURCES: there is none. */
enum hv_status deposit_withdraw(struct deposit *d, u64 *gpn);

struct deposit_info {
	u32 pages, in_use, calls;
};
struct deposit_info deposit_get(struct deposit *d);

#endif
