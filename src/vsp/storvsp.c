// SPDX-License-Identifier: MIT
/*
 * VSTOR packets: negotiation, and SCSI requests in and out. A request's packet
 * is a private copy, data moves between guest pages and the image without one.
 */
#include "vsp/storvsp.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "hvdef/storvsp.h"

/* Requests of a channel at a time; Linux has about 60 in a ring. */
#define REQUESTS_MAX 256u

enum storvsp_state {
	STORVSP_NEW, /* nothing said, or the controller was closed */
	STORVSP_BEGUN,
	STORVSP_VERSIONED,
	STORVSP_READY,
};

struct storvsp {
	struct storvsp_config cfg;
	struct vmbus_device *vd;
	struct scsi_bus bus;
	struct scsi_bus elsewhere; /* the other targets: nobody, which is an answer too */
	u32 state;		   /* atomic enum storvsp_state; written on the primary's loop */

	pthread_mutex_t lock;	  /* notify_loop, notify */
	struct loop *notify_loop; /* the primary's while it is open */
	struct loop_work notify;
	struct vmbus_channel *primary; /* primary's loop */
	bool notify_wanted;	       /* primary's loop: the ring had no room */
};

struct stor_request {
	struct stor_channel *sc;
	struct list node; /* free ones */
	u64 transaction_id;
	bool wants_completion;
	struct vstor_packet packet;
	struct scsi_request scsi;
	struct iovec iov[BLOCK_IOV_MAX];
};

struct stor_channel {
	struct storvsp *sv;
	struct vmbus_channel *ch;
	struct block_queue *queue;
	struct list free;
	u32 allocated, busy;
	bool starved; /* packet() said -EAGAIN */
	bool closing;
	struct loop_work closed;
};

static enum storvsp_state state_of(const struct storvsp *sv)
{
	return __atomic_load_n(&sv->state, __ATOMIC_ACQUIRE);
}

static void set_state(struct storvsp *sv, enum storvsp_state state)
{
	__atomic_store_n(&sv->state, state, __ATOMIC_RELEASE);
}

/* Requests */

static struct stor_request *request_get(struct stor_channel *sc)
{
	struct list *node = list_pop(&sc->free);
	struct stor_request *r;

	if (node) {
		r = list_entry(node, struct stor_request, node);
	} else {
		if (sc->allocated >= REQUESTS_MAX)
			return NULL;
		r = malloc(sizeof(*r));
		if (!r)
			return NULL;
		memset(r, 0, offsetof(struct stor_request, iov));
		r->sc = sc;
		sc->allocated++;
	}
	sc->busy++;
	return r;
}

/* Last used, first used again: its memory is warm, and only as much is touched as is needed. */
static void request_put(struct stor_request *r)
{
	struct stor_channel *sc = r->sc;

	list_add_tail(sc->free.next, &r->node);
	sc->busy--;
	if (sc->starved) {
		sc->starved = false;
		vmbus_channel_resume(sc->ch);
	}
	if (sc->closing && sc->busy == 0)
		loop_post(vmbus_channel_loop(sc->ch), &sc->closed);
}

static void channel_free(struct stor_channel *sc)
{
	struct list *node;

	block_queue_destroy(sc->queue);
	while ((node = list_pop(&sc->free)))
		free(list_entry(node, struct stor_request, node));
	free(sc);
}

static void channel_closed(struct loop_work *w)
{
	struct stor_channel *sc = container_of(w, struct stor_channel, closed);
	struct vmbus_channel *ch = sc->ch;

	channel_free(sc);
	vmbus_channel_close_done(ch);
}

/* Answers: always a whole packet, operation COMPLETE_IO. */
static void answer(struct vmbus_channel *ch, u64 transaction_id, struct vstor_packet *p)
{
	p->operation = VSTOR_COMPLETE_IO;
	p->flags = 0;
	vmbus_complete(ch, transaction_id, p, sizeof(*p)); /* -EPIPE: nobody waits any more */
}

/* How a SCSI outcome looks in an SRB, as Linux storvsc_handle_error() reads it. */
static const struct outcome_row {
	enum scsi_outcome outcome;
	enum scsi_status status;
	u8 srb_status;
	bool sense;
} outcome_rows[] = {
	{ SCSI_DONE, SCSI_GOOD, VSTOR_SRB_SUCCESS, false },
	{ SCSI_DONE, SCSI_CHECK_CONDITION, VSTOR_SRB_ERROR, true },
	{ SCSI_DONE, SCSI_BUSY, VSTOR_SRB_BUSY, false },
	{ SCSI_SHORT, SCSI_CHECK_CONDITION, VSTOR_SRB_DATA_OVERRUN, true },
	{ SCSI_NO_UNIT, SCSI_GOOD, VSTOR_SRB_INVALID_LUN, false },
};

static void fill_srb(struct vstor_srb *srb, const struct scsi_request *s)
{
	u8 room = (u8)min_u64(srb->sense_length, VSTOR_SENSE_MAX);

	srb->srb_status = VSTOR_SRB_ERROR;
	srb->scsi_status = s->status;
	srb->data_transfer_length = s->moved;
	srb->sense_length = 0;
	memset(srb->sense, 0, sizeof(srb->sense));
	for (u32 i = 0; i < ARRAY_SIZE(outcome_rows); i++) {
		const struct outcome_row *row = &outcome_rows[i];

		if (row->outcome != s->outcome || row->status != s->status)
			continue;
		srb->srb_status = row->srb_status;
		if (!row->sense || room == 0)
			return;
		srb->srb_status |= VSTOR_SRB_AUTOSENSE_VALID;
		srb->sense_length = (u8)min_u64(room, SCSI_SENSE_BYTES);
		memcpy(srb->sense, s->sense, srb->sense_length);
		return;
	}
}

static void scsi_done(struct scsi_request *s)
{
	struct stor_request *r = container_of(s, struct stor_request, scsi);

	if (r->wants_completion && !r->sc->closing) {
		fill_srb(&r->packet.srb, s);
		r->packet.status = VSTOR_STATUS_OK;
		answer(r->sc->ch, r->transaction_id, &r->packet);
	}
	request_put(r);
}

/* A malformed one: as a unit would refuse a wrong field. */
static void refuse_field(struct stor_request *r)
{
	r->scsi.outcome = SCSI_DONE;
	r->scsi.status = SCSI_CHECK_CONDITION;
	r->scsi.moved = 0;
	memset(r->scsi.sense, 0, sizeof(r->scsi.sense));
	r->scsi.sense[0] = 0x70;
	r->scsi.sense[2] = SCSI_KEY_ILLEGAL_REQUEST;
	r->scsi.sense[7] = SCSI_SENSE_BYTES - 8;
	r->scsi.sense[12] = (u8)(SCSI_SENSE_INVALID_FIELD >> 8);
	scsi_done(&r->scsi);
}

static const enum scsi_direction directions[] = {
	[VSTOR_DATA_WRITE] = SCSI_DATA_OUT,
	[VSTOR_DATA_READ] = SCSI_DATA_IN,
	[VSTOR_DATA_NONE] = SCSI_DATA_NONE,
};

/* The guest's memory and command, checked, into r->scsi. */
static int prepare_scsi(struct stor_request *r, const struct vmbus_packet *pkt)
{
	const struct vstor_srb *srb = &r->packet.srb;
	struct scsi_request *s = &r->scsi;
	int count = 0;

	if (srb->data_in >= ARRAY_SIZE(directions) || srb->cdb_length == 0 ||
	    srb->cdb_length > VSTOR_CDB_MAX)
		return -EINVAL;
	s->direction = directions[srb->data_in];
	s->data_bytes = s->direction == SCSI_DATA_NONE ? 0 : srb->data_transfer_length;
	if (s->data_bytes > pkt->data_bytes)
		return -EINVAL;
	if (s->data_bytes)
		count = vmbus_packet_iov(vmbus_channel_gmem(r->sc->ch), pkt, 0, s->data_bytes,
					 r->iov, BLOCK_IOV_MAX);
	if (count < 0)
		return count;
	s->bus = srb->path || srb->target ? &r->sc->sv->elsewhere : &r->sc->sv->bus;
	s->queue = r->sc->queue;
	s->lun = srb->lun;
	s->iov = r->iov;
	s->iov_count = count;
	s->done = scsi_done;
	memset(s->cdb, 0, sizeof(s->cdb));
	memcpy(s->cdb, srb->cdb, srb->cdb_length);
	return 0;
}

static int execute_srb(struct vmbus_channel *ch, const struct vmbus_packet *pkt,
		       const struct vstor_packet *p)
{
	struct stor_channel *sc = vmbus_channel_data(ch);
	struct stor_request *r = request_get(sc);

	if (!r) {
		sc->starved = true;
		return -EAGAIN;
	}
	r->transaction_id = pkt->transaction_id;
	r->wants_completion = pkt->wants_completion;
	r->packet = *p;
	if (prepare_scsi(r, pkt))
		refuse_field(r);
	else
		scsi_execute(&r->scsi);
	return 0;
}

/* Negotiation: handlers fill the answer and return its status. */

static u32 begin_initialization(struct vmbus_channel *ch, struct vstor_packet *p)
{
	struct storvsp *sv = vmbus_channel_dev(ch);

	set_state(sv, STORVSP_BEGUN);
	return VSTOR_STATUS_OK;
}

static const u16 versions[] = {
	VSTOR_VERSION(6, 2), /* Windows 10: WRITE SAME */
	VSTOR_VERSION(6, 0), /* Windows 8.1 */
	VSTOR_VERSION(5, 1), /* Windows 8 */
};

static u32 query_protocol_version(struct vmbus_channel *ch, struct vstor_packet *p)
{
	struct storvsp *sv = vmbus_channel_dev(ch);

	for (u32 i = 0; i < ARRAY_SIZE(versions); i++) {
		if (p->version.version != versions[i])
			continue;
		set_state(sv, STORVSP_VERSIONED);
		return VSTOR_STATUS_OK;
	}
	return VSTOR_STATUS_REVISION_MISMATCH;
}

static u32 query_properties(struct vmbus_channel *ch, struct vstor_packet *p)
{
	struct storvsp *sv = vmbus_channel_dev(ch);

	memset(p->bytes, 0, sizeof(p->bytes));
	p->properties.max_channels = (u16)sv->cfg.max_subchannels;
	p->properties.flags = VSTOR_PROPERTY_MULTI_CHANNEL;
	p->properties.max_transfer_bytes = SCSI_TRANSFER_MAX;
	return VSTOR_STATUS_OK;
}

static u32 end_initialization(struct vmbus_channel *ch, struct vstor_packet *p)
{
	set_state(vmbus_channel_dev(ch), STORVSP_READY);
	return VSTOR_STATUS_OK;
}

static u32 create_sub_channels(struct vmbus_channel *ch, struct vstor_packet *p)
{
	struct storvsp *sv = vmbus_channel_dev(ch);
	u16 count = p->sub_channel_count;

	if (count == 0 || count > sv->cfg.max_subchannels)
		return VSTOR_STATUS_INVALID_PARAMETER;
	return vmbus_offer_subchannels(ch, count) ? VSTOR_STATUS_UNSUCCESSFUL : VSTOR_STATUS_OK;
}

/* Running requests end by themselves; Linux waits for them after the answer. */
static u32 reset(struct vmbus_channel *ch, struct vstor_packet *p)
{
	return VSTOR_STATUS_OK;
}

#define IN(state) BIT(state)
#define RUNNING	  IN(STORVSP_READY)
#define ANY_STATE (IN(STORVSP_NEW) | IN(STORVSP_BEGUN) | IN(STORVSP_VERSIONED) | RUNNING)

static const struct vstor_row {
	enum vstor_operation operation;
	const char *name;
	u8 states;	  /* in which it is allowed */
	bool any_channel; /* not only the primary */
	u32 (*run)(struct vmbus_channel *ch, struct vstor_packet *p);
} vstor_rows[] = {
	{ VSTOR_EXECUTE_SRB, "EXECUTE_SRB", RUNNING, true, NULL },
	{ VSTOR_RESET_LUN, "RESET_LUN", RUNNING, true, reset },
	{ VSTOR_RESET_ADAPTER, "RESET_ADAPTER", RUNNING, true, reset },
	{ VSTOR_RESET_BUS, "RESET_BUS", RUNNING, true, reset },
	{ VSTOR_BEGIN_INITIALIZATION, "BEGIN_INITIALIZATION", ANY_STATE, false,
	  begin_initialization },
	{ VSTOR_QUERY_PROTOCOL_VERSION, "QUERY_PROTOCOL_VERSION",
	  IN(STORVSP_BEGUN) | IN(STORVSP_VERSIONED), false, query_protocol_version },
	{ VSTOR_QUERY_PROPERTIES, "QUERY_PROPERTIES", IN(STORVSP_VERSIONED) | RUNNING, false,
	  query_properties },
	{ VSTOR_END_INITIALIZATION, "END_INITIALIZATION", IN(STORVSP_VERSIONED), false,
	  end_initialization },
	{ VSTOR_CREATE_SUB_CHANNELS, "CREATE_SUB_CHANNELS", RUNNING, false, create_sub_channels },
};

static const struct vstor_row *find_row(u32 operation)
{
	for (u32 i = 0; i < ARRAY_SIZE(vstor_rows); i++)
		if (vstor_rows[i].operation == operation)
			return &vstor_rows[i];
	return NULL;
}

/* 0 or the status that refuses. */
static u32 refusal(struct vmbus_channel *ch, const struct vstor_row *row,
		   const struct vmbus_packet *pkt)
{
	struct storvsp *sv = vmbus_channel_dev(ch);

	if (!row || pkt->payload_bytes < sizeof(struct vstor_packet) ||
	    (!row->any_channel && vmbus_channel_index(ch) != 0))
		return VSTOR_STATUS_INVALID_PARAMETER;
	return row->states & IN(state_of(sv)) ? 0 : VSTOR_STATUS_INVALID_DEVICE_STATE;
}

static int storvsp_packet(struct vmbus_channel *ch, const struct vmbus_packet *pkt)
{
	struct vstor_packet p = { 0 };
	const struct vstor_row *row;
	u32 status;

	if (pkt->type != VMBUS_PACKET_INBAND && pkt->type != VMBUS_PACKET_GPA_DIRECT &&
	    !pkt->wants_completion)
		return 0; /* the answer to a notification */
	memcpy(&p, pkt->payload, min_u64(pkt->payload_bytes, sizeof(p)));
	row = find_row(p.operation);
	status = refusal(ch, row, pkt);
	if (!status && !row->run)
		return execute_srb(ch, pkt, &p);
	if (!status)
		status = row->run(ch, &p);
	else
		log_limited(LOG_WARNING, "storvsp: refused operation %u (%s) with status 0x%x",
			    p.operation, row ? row->name : "unknown", status);
	p.status = status;
	if (pkt->wants_completion)
		answer(ch, pkt->transaction_id, &p);
	return 0;
}

static void storvsp_batch_end(struct vmbus_channel *ch)
{
	struct stor_channel *sc = vmbus_channel_data(ch);

	block_queue_flush(sc->queue);
}

/* "Look again which units there are." Unsolicited packets have transaction 0. */

static void send_notification(struct storvsp *sv)
{
	struct vstor_packet p = { .operation = VSTOR_ENUMERATE_BUS };

	sv->notify_wanted = false;
	/* A guest that is still starting will look anyway, and takes this for an answer. */
	if (sv->primary && state_of(sv) == STORVSP_READY)
		sv->notify_wanted = vmbus_send_inband(sv->primary, 0, 0, &p, sizeof(p)) == -EAGAIN;
}

static void notify_work(struct loop_work *w)
{
	send_notification(container_of(w, struct storvsp, notify));
}

static void notify_guest(struct storvsp *sv)
{
	pthread_mutex_lock(&sv->lock);
	if (sv->notify_loop)
		loop_post(sv->notify_loop, &sv->notify);
	pthread_mutex_unlock(&sv->lock);
}

static void storvsp_writable(struct vmbus_channel *ch)
{
	struct storvsp *sv = vmbus_channel_dev(ch);

	if (sv->primary == ch && sv->notify_wanted)
		send_notification(sv);
}

static void set_primary(struct storvsp *sv, struct vmbus_channel *ch)
{
	pthread_mutex_lock(&sv->lock);
	if (!ch && sv->notify_loop)
		loop_work_cancel(sv->notify_loop, &sv->notify);
	sv->notify_loop = ch ? vmbus_channel_loop(ch) : NULL;
	pthread_mutex_unlock(&sv->lock);
	sv->primary = ch;
	sv->notify_wanted = false;
	set_state(sv, STORVSP_NEW);
}

static int storvsp_opened(struct vmbus_channel *ch)
{
	struct storvsp *sv = vmbus_channel_dev(ch);
	struct stor_channel *sc = calloc(1, sizeof(*sc));
	int ret;

	if (!sc)
		return -ENOMEM;
	sc->sv = sv;
	sc->ch = ch;
	list_init(&sc->free);
	loop_work_init(&sc->closed, channel_closed);
	ret = block_queue_create(vmbus_channel_loop(ch), &sc->queue);
	if (ret) {
		free(sc);
		return ret;
	}
	vmbus_channel_set_data(ch, sc);
	if (vmbus_channel_index(ch) == 0)
		set_primary(sv, ch);
	return 0;
}

static int storvsp_closed(struct vmbus_channel *ch)
{
	struct storvsp *sv = vmbus_channel_dev(ch);
	struct stor_channel *sc = vmbus_channel_data(ch);

	if (vmbus_channel_index(ch) == 0)
		set_primary(sv, NULL);
	sc->closing = true;
	sc->starved = false;
	if (sc->busy)
		return -EINPROGRESS; /* the image still reads or writes the guest's memory */
	channel_free(sc);
	return 0;
}

static void storvsp_destroy(void *dev)
{
	struct storvsp *sv = dev;

	scsi_bus_fini(&sv->bus);
	scsi_bus_fini(&sv->elsewhere);
	pthread_mutex_destroy(&sv->lock);
	free(sv);
}

const struct vmbus_device_ops storvsp_ops = {
	.name = "storvsp",
	.interface_id = STORVSP_SCSI_GUID,
	.flags = VMBUS_OFFER_ENUMERATE,
	.threaded = true,
	.completion_max = sizeof(struct vstor_packet),
	.poll_owed = 4,
	.opened = storvsp_opened,
	.packet = storvsp_packet,
	.batch_end = storvsp_batch_end,
	.writable = storvsp_writable,
	.closed = storvsp_closed,
	.destroy = storvsp_destroy,
};

/* For the machine */

struct hv_guid storvsp_instance_id(u32 number)
{
	static const struct hv_guid base =
		HV_GUID(0x6e657374, 0x6f72, 0x4d29, 0x80, 0x00, 0x73, 0x74, 0x6f, 0x72, 0x00, 0x00);
	struct hv_guid id = base;

	id.b[sizeof(id.b) - 1] = (u8)number;
	return id;
}

struct storvsp *storvsp_alloc(const struct storvsp_config *cfg)
{
	struct storvsp *sv = calloc(1, sizeof(*sv));

	if (!sv)
		return NULL;
	sv->cfg = *cfg;
	sv->cfg.max_subchannels = (u32)min_u64(cfg->max_subchannels, VMBUS_SUBCHANNEL_MAX);
	scsi_bus_init(&sv->bus);
	scsi_bus_init(&sv->elsewhere);
	pthread_mutex_init(&sv->lock, NULL);
	loop_work_init(&sv->notify, notify_work);
	return sv;
}

int storvsp_create(struct vmbus_server *srv, const struct storvsp_config *cfg, struct storvsp **out)
{
	struct storvsp *sv = storvsp_alloc(cfg);
	struct vmbus_offer offer = {
		.ops = &storvsp_ops,
		.dev = sv,
		.instance_id = cfg->instance_id,
		.order = cfg->order,
	};
	int ret;

	if (!sv)
		return -ENOMEM;
	ret = vmbus_offer(srv, &offer, &sv->vd);
	if (ret) {
		storvsp_destroy(sv);
		return ret;
	}
	*out = sv;
	return 0;
}

void storvsp_revoke(struct storvsp *sv)
{
	vmbus_revoke(sv->vd);
}

int storvsp_attach(struct storvsp *sv, u32 number, struct scsi_lun *lun)
{
	int ret = scsi_bus_attach(&sv->bus, number, lun);

	if (!ret)
		notify_guest(sv);
	return ret;
}

int storvsp_detach(struct storvsp *sv, u32 number)
{
	int ret = scsi_bus_detach(&sv->bus, number);

	if (!ret)
		notify_guest(sv);
	return ret;
}

int storvsp_free_number(struct storvsp *sv)
{
	int found = -ENOSPC;

	pthread_mutex_lock(&sv->bus.lock);
	for (int i = 0; i < (int)SCSI_LUN_MAX && found < 0; i++)
		if (!sv->bus.lun[i])
			found = i;
	pthread_mutex_unlock(&sv->bus.lock);
	return found;
}

int storvsp_refresh(struct storvsp *sv, u32 number)
{
	struct scsi_lun *lun = scsi_bus_get(&sv->bus, number);
	int ret;

	if (!lun)
		return -ENOENT;
	ret = scsi_lun_refresh(lun);
	scsi_lun_put(lun);
	if (!ret)
		notify_guest(sv);
	return ret;
}

struct scsi_bus *storvsp_bus(struct storvsp *sv)
{
	return &sv->bus;
}
