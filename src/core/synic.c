// SPDX-License-Identifier: MIT
/*
 * Delivery. The guest frees a slot by clearing its type and, if the pending
 * flag was set, writes EOM. Between our look at a busy slot and our setting of
 * the flag the guest may free the slot without seeing the flag: after setting
 * it the slot is looked at once more, so no message waits for an EOM that never
 * comes.
 */
#include "core/synic.h"

#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "core/core_trace.h"
#include "core/event_ring.h"
#include "core/msr.h"
#include "core/partition.h"
#include "core/vp.h"

static bool messages_enabled_locked(const struct synic *s)
{
	return (s->scontrol & HV_SCONTROL_ENABLE) && (s->simp & HV_MSR_PAGE_ENABLE);
}

/* Masked: the interrupt is lost. Polling: taken for unmasked, yet no interrupt is wanted. */
static void assert_sint_locked(struct synic *s, u32 sint)
{
	if (!(s->sint[sint] & (HV_SINT_MASKED | HV_SINT_POLLING)))
		vp_interrupt(s->vp, (u8)(s->sint[sint] & HV_SINT_VECTOR_MASK));
}

/* The slot, where it stays until slot_close(). */
static struct hv_message *slot_open(struct synic *s, u32 sint)
{
	return (struct hv_message *)(void *)(overlay_open(&s->simp_page) + sint * HV_MESSAGE_BYTES);
}

static void slot_close(struct synic *s)
{
	overlay_close(&s->simp_page);
}

/* Pairs with the guest's compare-and-exchange of type to 0 and its read of flags after it. */
static bool slot_free(struct hv_message *slot)
{
	return __atomic_load_n(&slot->type, __ATOMIC_SEQ_CST) == HV_MESSAGE_NONE;
}

static void slot_write(struct hv_message *slot, const struct hv_message *m, bool more)
{
	slot->payload_bytes = m->payload_bytes;
	/* The guest may just be reading the flags of the message before. */
	__atomic_store_n(&slot->flags, more ? HV_MESSAGE_FLAG_PENDING : 0, __ATOMIC_RELAXED);
	slot->rsvd = 0;
	slot->sender = m->sender;
	memcpy(slot->payload, m->payload, m->payload_bytes);
	/* The guest takes a slot whose type is set: last. */
	__atomic_store_n(&slot->type, m->type, __ATOMIC_RELEASE);
}

static void finish_locked(struct message *msg, bool delivered)
{
	list_del(&msg->link);
	__atomic_store_n(&msg->queued, false, __ATOMIC_RELEASE); /* stimer.c looks without lock */
	msg->done(msg, delivered);
}

/* Free, else there will be an EOM. */
static bool slot_ask(struct synic *s, u32 sint)
{
	struct hv_message *slot = slot_open(s, sint);
	bool free = slot_free(slot);

	if (!free) {
		__atomic_fetch_or(&slot->flags, HV_MESSAGE_FLAG_PENDING, __ATOMIC_SEQ_CST);
		free = slot_free(slot);
	}
	slot_close(s);
	return free;
}

static void deliver_locked(struct synic *s, u32 sint)
{
	struct list *queue = &s->queue[sint];

	while (!list_empty(queue)) {
		struct message *msg = list_entry(queue->next, struct message, link);

		if (!slot_ask(s, sint))
			return;
		if (msg->deliver)
			msg->deliver(msg);
		slot_write(slot_open(s, sint), &msg->m, queue->next->next != queue);
		slot_close(s);
		core_emit(TRACE_MESSAGE, s->vp->index, sint, msg->m.type, msg->m.sender,
			  TRACE_WORD(s->vp->partition->hv->name));
		finish_locked(msg, true);
		assert_sint_locked(s, sint);
	}
}

enum hv_status synic_post(struct synic *s, u32 sint, struct message *msg)
{
	enum hv_status status = HV_STATUS_SUCCESS;

	if (sint >= HV_SYNIC_SINT_COUNT)
		return HV_STATUS_INVALID_PARAMETER;
	pthread_mutex_lock(&s->lock);
	if (!messages_enabled_locked(s)) {
		status = HV_STATUS_INVALID_SYNIC_STATE;
	} else if (msg->queued) {
		status = HV_STATUS_OBJECT_IN_USE;
	} else {
		msg->queued = true;
		list_add_tail(&s->queue[sint], &msg->link);
		deliver_locked(s, sint);
		if (!list_empty(&s->queue[sint]))
			core_emit(TRACE_MESSAGE_QUEUED, s->vp->index, sint, msg->m.type,
				  msg->m.sender, TRACE_WORD(s->vp->partition->hv->name));
	}
	pthread_mutex_unlock(&s->lock);
	return status;
}

enum hv_status synic_post_now(struct synic *s, u32 sint, const struct hv_message *m)
{
	enum hv_status status = HV_STATUS_SUCCESS;
	struct hv_message *slot;

	if (sint >= HV_SYNIC_SINT_COUNT)
		return HV_STATUS_INVALID_PARAMETER;
	pthread_mutex_lock(&s->lock);
	slot = slot_open(s, sint);
	if (!messages_enabled_locked(s)) {
		status = HV_STATUS_INVALID_SYNIC_STATE;
	} else if (!list_empty(&s->queue[sint]) || !slot_free(slot)) {
		status = HV_STATUS_OBJECT_IN_USE;
	} else {
		slot_write(slot, m, false);
		core_emit(TRACE_MESSAGE, s->vp->index, sint, m->type, m->sender,
			  TRACE_WORD(s->vp->partition->hv->name));
	}
	slot_close(s);
	if (status == HV_STATUS_SUCCESS)
		assert_sint_locked(s, sint);
	pthread_mutex_unlock(&s->lock);
	return status;
}

bool synic_cancel(struct synic *s, struct message *msg)
{
	bool waited;

	pthread_mutex_lock(&s->lock);
	waited = msg->queued;
	list_del(&msg->link);
	__atomic_store_n(&msg->queued, false, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&s->lock);
	return waited;
}

u32 synic_waiting(struct synic *s)
{
	struct list *pos;
	u32 n = 0;

	pthread_mutex_lock(&s->lock);
	for (u32 i = 0; i < HV_SYNIC_SINT_COUNT; i++)
		list_for_each(pos, &s->queue[i])
			n++;
	pthread_mutex_unlock(&s->lock);
	return n;
}

bool synic_listens(struct synic *s, u32 sint)
{
	bool listens;

	pthread_mutex_lock(&s->lock);
	listens = messages_enabled_locked(s) && !(s->sint[sint] & HV_SINT_MASKED);
	pthread_mutex_unlock(&s->lock);
	return listens;
}

enum hv_status synic_signal(struct synic *s, u32 sint, u32 flag)
{
	bool newly;

	return synic_signal_new(s, sint, flag, &newly);
}

enum hv_status synic_signal_new(struct synic *s, u32 sint, u32 flag, bool *newly)
{
	enum hv_status status = HV_STATUS_SUCCESS;
	u64 bit, was, *word;

	*newly = false;
	if (sint >= HV_SYNIC_SINT_COUNT || flag >= HV_EVENT_FLAGS_COUNT)
		return HV_STATUS_INVALID_PARAMETER;
	pthread_mutex_lock(&s->lock);
	if (!(s->scontrol & HV_SCONTROL_ENABLE) || !(s->siefp & HV_MSR_PAGE_ENABLE)) {
		status = HV_STATUS_INVALID_SYNIC_STATE;
		goto unlock;
	}
	word = (u64 *)(void *)(overlay_open(&s->siefp_page) + sint * HV_EVENT_FLAGS_BYTES) +
	       flag / 64;
	bit = BIT64(flag % 64);
	/* Pairs with the guest's test-and-clear; it must not miss what we wrote before. */
	was = __atomic_fetch_or(word, bit, __ATOMIC_SEQ_CST) & bit;
	overlay_close(&s->siefp_page);
	*newly = !was;
	core_emit(TRACE_EVENT_FLAG, s->vp->index, sint, flag, was != 0,
		  TRACE_WORD(s->vp->partition->hv->name));
	if ((s->sint[sint] & (HV_SINT_MASKED | HV_SINT_POLLING)) == HV_SINT_MASKED)
		status = HV_STATUS_INVALID_SYNIC_STATE; /* set, but nobody is told */
	else if (!was)
		assert_sint_locked(s, sint);
unlock:
	pthread_mutex_unlock(&s->lock);
	return status;
}

static enum event_ring_result ring_put_locked(struct synic *s, u32 sint, u32 port)
{
	struct hv_event_ring *ring = (void *)overlay_open(&s->sirbp_page);
	enum event_ring_result result = event_ring_put(ring + sint, &s->ring[sint].head, port);

	overlay_close(&s->sirbp_page);
	return result;
}

static void rings_clear_locked(struct synic *s)
{
	struct hv_event_ring *ring = (void *)overlay_open(&s->sirbp_page);

	for (u32 i = 0; i < HV_SYNIC_SINT_COUNT; i++)
		event_ring_clear(ring + i, &s->ring[i].head);
	overlay_close(&s->sirbp_page);
}

/* Somebody reads the ring and can be told. */
static bool ring_ready_locked(const struct synic *s, u32 sint)
{
	if (!(s->scontrol & HV_SCONTROL_ENABLE) || !(s->sirbp & HV_MSR_PAGE_ENABLE) ||
	    (s->sint[sint] & HV_SINT_MASKED))
		return false;
	return !(s->sint[sint] & HV_SINT_AS_INTERCEPT) ||
	       (messages_enabled_locked(s) && !(s->sint[0] & HV_SINT_MASKED));
}

static void ring_signal_locked(struct synic *s, u32 sint)
{
	struct message *notice = &s->ring[sint].notice;

	if (!(s->sint[sint] & HV_SINT_AS_INTERCEPT)) {
		assert_sint_locked(s, sint);
		return;
	}
	if (notice->queued)
		return;
	notice->queued = true;
	list_add_tail(&s->queue[0], &notice->link);
	deliver_locked(s, 0);
}

enum hv_status synic_ring(struct synic *s, u32 sint, u32 port)
{
	enum hv_status status = HV_STATUS_SUCCESS;

	if (sint >= HV_SYNIC_SINT_COUNT)
		return HV_STATUS_INVALID_PARAMETER;
	pthread_mutex_lock(&s->lock);
	if (!ring_ready_locked(s, sint)) {
		status = HV_STATUS_INVALID_SYNIC_STATE;
		goto unlock;
	}
	switch (ring_put_locked(s, sint, port)) {
	case EVENT_RING_QUIET:
		break;
	case EVENT_RING_SIGNAL:
		ring_signal_locked(s, sint);
		break;
	case EVENT_RING_FULL:
		status = HV_STATUS_INSUFFICIENT_BUFFERS;
		break;
	}
unlock:
	pthread_mutex_unlock(&s->lock);
	return status;
}

void synic_rings_restart(struct synic *s)
{
	pthread_mutex_lock(&s->lock);
	rings_clear_locked(s);
	for (u32 i = 0; i < HV_SYNIC_SINT_COUNT; i++)
		s->ring[i].head = 0;
	pthread_mutex_unlock(&s->lock);
}

static void notice_done(struct message *msg, bool delivered)
{
}

static void rings_init(struct synic *s)
{
	for (u32 i = 0; i < HV_SYNIC_SINT_COUNT; i++) {
		struct message *notice = &s->ring[i].notice;
		const struct hv_sint_intercept_payload body = { .sint = i };

		*notice = (struct message){ .m = { .type = HV_MESSAGE_SINT_INTERCEPT,
						   .payload_bytes = sizeof(body) },
					    .done = notice_done };
		memcpy(notice->m.payload, &body, sizeof(body));
		list_init(&notice->link);
	}
}

void synic_notify(struct synic *s, u16 sints)
{
	__atomic_store_n(&s->notify, sints, __ATOMIC_RELEASE);
}

/* Where a slot is busy its pending flag makes the guest write EOM, and the VP come here again. */
u16 synic_take_deliverable(struct synic *s)
{
	u16 free = 0, wanted = __atomic_load_n(&s->notify, __ATOMIC_ACQUIRE);

	pthread_mutex_lock(&s->lock);
	for (u32 i = 0; messages_enabled_locked(s) && i < HV_SYNIC_SINT_COUNT; i++) {
		if ((wanted & BIT(i)) && list_empty(&s->queue[i]) && slot_ask(s, i))
			free |= (u16)BIT(i);
	}
	pthread_mutex_unlock(&s->lock);
	__atomic_fetch_and(&s->notify, (u16)~free, __ATOMIC_ACQ_REL);
	return free;
}

static struct overlay *page_of(struct synic *s, enum synic_page page)
{
	return page == SYNIC_SIM ? &s->simp_page : &s->siefp_page;
}

void synic_page_get(struct synic *s, enum synic_page page, u8 out[PAGE_BYTES])
{
	pthread_mutex_lock(&s->lock);
	memcpy(out, overlay_open(page_of(s, page)), PAGE_BYTES);
	overlay_close(page_of(s, page));
	pthread_mutex_unlock(&s->lock);
}

void synic_page_set(struct synic *s, enum synic_page page, const u8 in[PAGE_BYTES])
{
	pthread_mutex_lock(&s->lock);
	memcpy(overlay_open(page_of(s, page)), in, PAGE_BYTES);
	overlay_close(page_of(s, page));
	pthread_mutex_unlock(&s->lock);
}

static void drop_locked(struct synic *s, u32 sint)
{
	while (!list_empty(&s->queue[sint]))
		finish_locked(list_entry(s->queue[sint].next, struct message, link), false);
}

static void registers_reset_locked(struct synic *s)
{
	const struct vp *vp = s->vp;

	s->scontrol = 0;
	s->simp = partition_hv_page_gpa(vp->partition, vp->index, HV_PAGE_SIMP);
	s->siefp = partition_hv_page_gpa(vp->partition, vp->index, HV_PAGE_SIEFP);
	s->sirbp = partition_hv_page_gpa(vp->partition, vp->index, HV_PAGE_SIRBP);
	for (u32 i = 0; i < HV_SYNIC_SINT_COUNT; i++)
		s->sint[i] = HV_SINT_RESET;
}

/* As if the guest had written the page registers back with the enable bit, and SCONTROL. */
static int preenable_locked(struct synic *s)
{
	struct partition *p = s->vp->partition;

	if (!p->config.hv_pages_gpa || !partition_quirk(p, QUIRK_PREENABLE_SYNIC))
		return 0;
	s->scontrol |= HV_SCONTROL_ENABLE;
	s->simp |= HV_MSR_PAGE_ENABLE;
	s->siefp |= HV_MSR_PAGE_ENABLE;
	if (overlay_set(p, &s->simp_page, s->simp & HV_MSR_PAGE_GPN_MASK, true) < 0 ||
	    overlay_set(p, &s->siefp_page, s->siefp & HV_MSR_PAGE_GPN_MASK, true) < 0)
		return -ENOMEM;
	return 0;
}

int synic_init(struct synic *s, struct vp *vp)
{
	*s = (struct synic){ .vp = vp };
	pthread_mutex_init(&s->lock, NULL);
	for (u32 i = 0; i < HV_SYNIC_SINT_COUNT; i++)
		list_init(&s->queue[i]);
	rings_init(s);
	registers_reset_locked(s);
	if (overlay_init(&s->simp_page, "SIMP") || overlay_init(&s->siefp_page, "SIEFP") ||
	    overlay_init(&s->sirbp_page, "SIRBP"))
		return -ENOMEM;
	return preenable_locked(s);
}

void synic_fini(struct synic *s)
{
	pthread_mutex_lock(&s->lock);
	for (u32 i = 0; i < HV_SYNIC_SINT_COUNT; i++)
		drop_locked(s, i);
	pthread_mutex_unlock(&s->lock);
	overlay_fini(&s->simp_page);
	overlay_fini(&s->siefp_page);
	overlay_fini(&s->sirbp_page);
	pthread_mutex_destroy(&s->lock);
}

void synic_reset(struct synic *s)
{
	struct partition *p = s->vp->partition;

	pthread_mutex_lock(&s->lock);
	for (u32 i = 0; i < HV_SYNIC_SINT_COUNT; i++)
		drop_locked(s, i);
	overlay_set(p, &s->simp_page, s->simp_page.gpa, false);
	overlay_set(p, &s->siefp_page, s->siefp_page.gpa, false);
	overlay_set(p, &s->sirbp_page, s->sirbp_page.gpa, false);
	memset(s->simp_page.own, 0, PAGE_BYTES);
	memset(s->siefp_page.own, 0, PAGE_BYTES);
	memset(s->sirbp_page.own, 0, PAGE_BYTES);
	for (u32 i = 0; i < HV_SYNIC_SINT_COUNT; i++)
		s->ring[i].head = 0;
	synic_notify(s, 0);
	registers_reset_locked(s);
	if (preenable_locked(s) < 0)
		log_limited(LOG_ERROR, "no memory to enable the SynIC of VP %u", s->vp->index);
	pthread_mutex_unlock(&s->lock);
}

/* Registers. The rows are the ordinary numbers; a nested root reaches L0's by the nested twin. */

static enum vp_fault scontrol_read(struct vp *vp, u32 i, u64 *value)
{
	pthread_mutex_lock(&vp->synic.lock);
	*value = vp->synic.scontrol;
	pthread_mutex_unlock(&vp->synic.lock);
	return VP_OK;
}

static enum vp_fault scontrol_write(struct vp *vp, u32 i, u64 value)
{
	pthread_mutex_lock(&vp->synic.lock);
	vp->synic.scontrol = value & HV_SCONTROL_ENABLE; /* the rest is reserved, preserved as 0 */
	pthread_mutex_unlock(&vp->synic.lock);
	return VP_OK;
}

static enum vp_fault sversion_read(struct vp *vp, u32 i, u64 *value)
{
	*value = HV_SYNIC_VERSION_1;
	return VP_OK;
}

/* The page registers differ only in the register and in the page laid over. */
static enum vp_fault page_read(struct vp *vp, const u64 *reg, u64 *value)
{
	pthread_mutex_lock(&vp->synic.lock);
	*value = *reg;
	pthread_mutex_unlock(&vp->synic.lock);
	return VP_OK;
}

static enum vp_fault page_write(struct vp *vp, u64 *reg, struct overlay *page, u64 value)
{
	int ret;

	pthread_mutex_lock(&vp->synic.lock);
	ret = overlay_set(vp->partition, page, value & HV_MSR_PAGE_GPN_MASK,
			  value & HV_MSR_PAGE_ENABLE);
	if (!ret)
		*reg = value & (HV_MSR_PAGE_GPN_MASK | HV_MSR_PAGE_ENABLE);
	pthread_mutex_unlock(&vp->synic.lock);
	return ret ? VP_FAULT_GP : VP_OK;
}

static enum vp_fault siefp_read(struct vp *vp, u32 i, u64 *value)
{
	return page_read(vp, &vp->synic.siefp, value);
}

static enum vp_fault siefp_write(struct vp *vp, u32 i, u64 value)
{
	return page_write(vp, &vp->synic.siefp, &vp->synic.siefp_page, value);
}

static enum vp_fault simp_read(struct vp *vp, u32 i, u64 *value)
{
	return page_read(vp, &vp->synic.simp, value);
}

static enum vp_fault simp_write(struct vp *vp, u32 i, u64 value)
{
	return page_write(vp, &vp->synic.simp, &vp->synic.simp_page, value);
}

/* The event ring page of doorbells: a parent's. */
static enum vp_fault sirbp_read(struct vp *vp, u32 i, u64 *value)
{
	return page_read(vp, &vp->synic.sirbp, value);
}

static enum vp_fault sirbp_write(struct vp *vp, u32 i, u64 value)
{
	struct synic *s = &vp->synic;
	enum vp_fault fault;
	u64 was;

	page_read(vp, &s->sirbp, &was);
	fault = page_write(vp, &s->sirbp, &s->sirbp_page, value);
	if (fault != VP_OK || (was & HV_MSR_PAGE_ENABLE) || !(value & HV_MSR_PAGE_ENABLE))
		return fault;
	/* What stood in the rings when they were given up was for whoever read them then. */
	pthread_mutex_lock(&s->lock);
	rings_clear_locked(s);
	pthread_mutex_unlock(&s->lock);
	return VP_OK;
}

static enum vp_fault eom_read(struct vp *vp, u32 i, u64 *value)
{
	*value = 0;
	return VP_OK;
}

static enum vp_fault eom_write(struct vp *vp, u32 i, u64 value)
{
	struct synic *s = &vp->synic;

	pthread_mutex_lock(&s->lock);
	for (u32 sint = 0; messages_enabled_locked(s) && sint < HV_SYNIC_SINT_COUNT; sint++)
		deliver_locked(s, sint);
	pthread_mutex_unlock(&s->lock);
	return VP_OK;
}

static enum vp_fault sint_read(struct vp *vp, u32 i, u64 *value)
{
	pthread_mutex_lock(&vp->synic.lock);
	*value = vp->synic.sint[i];
	pthread_mutex_unlock(&vp->synic.lock);
	return VP_OK;
}

/*
 * The local APIC is the engine's and an EOI does not reach us, so a SINT that
 * relies on auto-EOI would block its vector for ever: the recommendation against
 * it (hint bit 9) is binding here.
 */
static enum vp_fault sint_write(struct vp *vp, u32 i, u64 value)
{
	const struct partition_config *pc = &vp->partition->config;
	u8 vector = (u8)(value & HV_SINT_VECTOR_MASK);

	if (!(value & HV_SINT_MASKED)) {
		if (vector < HV_SINT_MIN_VECTOR)
			return VP_FAULT_GP;
		if (pc->sint_first && (vector < pc->sint_first || vector > pc->sint_last))
			return VP_FAULT_GP;
		if (value & HV_SINT_AUTO_EOI) {
			log_limited(LOG_WARNING,
				    "VP %u asked for auto-EOI on SINT %u, which is not offered",
				    vp->index, i);
			return VP_FAULT_GP;
		}
	}
	pthread_mutex_lock(&vp->synic.lock);
	vp->synic.sint[i] = value & HV_SINT_VALID_MASK;
	pthread_mutex_unlock(&vp->synic.lock);
	return VP_OK;
}

#define SYNIC_ROW .privilege = HV_PRIV_ACCESS_SYNIC_REGS, .nested = true

const struct msr_desc synic_msrs[] = {
	{ HV_X64_MSR_SCONTROL, 1, "SCONTROL", scontrol_read, scontrol_write, SYNIC_ROW },
	{ HV_X64_MSR_SVERSION, 1, "SVERSION", sversion_read, NULL, SYNIC_ROW },
	{ HV_X64_MSR_SIEFP, 1, "SIEFP", siefp_read, siefp_write, SYNIC_ROW },
	{ HV_X64_MSR_SIMP, 1, "SIMP", simp_read, simp_write, SYNIC_ROW },
	{ HV_X64_MSR_EOM, 1, "EOM", eom_read, eom_write, SYNIC_ROW },
	{ HV_X64_MSR_SIRBP, 1, "SIRBP", sirbp_read, sirbp_write,
	  .privilege = HV_PRIV_ACCESS_SYNIC_REGS | HV_PRIV_CREATE_PARTITIONS },
	{ HV_X64_MSR_SINT0, HV_SYNIC_SINT_COUNT, "SINT", sint_read, sint_write, SYNIC_ROW },
	{ 0 },
};
