// SPDX-License-Identifier: MIT
/* RNDIS control messages from the guest: a row each. */
#include <string.h>

#include "vsp/netvsp_internal.h"

#define ALIGNMENT_FACTOR   3 /* messages of a batch start at multiples of 8 */
#define MESSAGES_PER_BATCH 8
#define MAX_TRANSFER_BYTES 0x4000

static enum nvsp_status handle_initialize(struct netvsp *nv, const u8 *msg, u32 bytes)
{
	const struct rndis_initialize *in = (const void *)msg;
	struct rndis_initialize_complete out = {
		.header = { RNDIS_INITIALIZE | RNDIS_COMPLETE, sizeof(out) },
		.request_id = in->request_id,
		.status = in->major == 1 ? RNDIS_STATUS_SUCCESS : RNDIS_STATUS_NOT_SUPPORTED,
		.major = 1,
		.device_flags = 1,
		.max_packets_per_message = MESSAGES_PER_BATCH,
		.max_transfer_bytes = MAX_TRANSFER_BYTES,
		.alignment_factor = ALIGNMENT_FACTOR,
	};

	if (in->major == 1) {
		rndis_reset(nv);
		nv->rndis = RNDIS_STATE_READY;
	}
	netvsp_send_control(nv, &out, sizeof(out));
	return NVSP_STATUS_SUCCESS;
}

static enum nvsp_status handle_halt(struct netvsp *nv, const u8 *msg, u32 bytes)
{
	rndis_reset(nv);
	nv->rndis = RNDIS_STATE_HALTED;
	return NVSP_STATUS_SUCCESS; /* it has no answer */
}

/* Information buffer of a QUERY or SET; NULL if it is not inside the message. */
static const u8 *request_info(const struct rndis_request *in, u32 bytes)
{
	if (in->info_bytes == 0)
		return (const u8 *)in;
	if (in->info_offset < sizeof(*in) - RNDIS_HEADER_BYTES ||
	    (u64)in->info_offset + in->info_bytes + RNDIS_HEADER_BYTES > bytes)
		return NULL;
	return (const u8 *)in + RNDIS_HEADER_BYTES + in->info_offset;
}

static enum nvsp_status handle_query(struct netvsp *nv, const u8 *msg, u32 bytes)
{
	const struct rndis_request *in = (const void *)msg;
	const u8 *info = request_info(in, bytes);
	struct {
		struct rndis_query_complete head;
		u8 info[RNDIS_OID_ANSWER_MAX];
	} out = {
		.head = {
			.header = { RNDIS_QUERY | RNDIS_COMPLETE, sizeof(out.head) },
			.request_id = in->request_id,
			.status = RNDIS_STATUS_INVALID_DATA,
			.info_offset = sizeof(out.head) - RNDIS_HEADER_BYTES,
		},
	};

	if (nv->rndis != RNDIS_STATE_READY)
		out.head.status = RNDIS_STATUS_FAILURE;
	else if (info)
		out.head.status = rndis_oid_query(nv, in->oid, info, in->info_bytes, out.info,
						  &out.head.info_bytes);
	out.head.header.length += out.head.info_bytes;
	netvsp_send_control(nv, &out, out.head.header.length);
	return NVSP_STATUS_SUCCESS;
}

static enum nvsp_status handle_set(struct netvsp *nv, const u8 *msg, u32 bytes)
{
	const struct rndis_request *in = (const void *)msg;
	const u8 *info = request_info(in, bytes);
	struct rndis_set_complete out = {
		.header = { RNDIS_SET | RNDIS_COMPLETE, sizeof(out) },
		.request_id = in->request_id,
		.status = RNDIS_STATUS_INVALID_DATA,
	};

	if (nv->rndis != RNDIS_STATE_READY)
		out.status = RNDIS_STATUS_FAILURE;
	else if (info)
		out.status = rndis_oid_set(nv, in->oid, info, in->info_bytes);
	netvsp_send_control(nv, &out, sizeof(out));
	return NVSP_STATUS_SUCCESS;
}

static enum nvsp_status handle_reset(struct netvsp *nv, const u8 *msg, u32 bytes)
{
	struct rndis_reset_complete out = {
		.header = { RNDIS_RESET | RNDIS_COMPLETE, sizeof(out) },
		.status = RNDIS_STATUS_SUCCESS,
		.addressing_reset = 1,
	};

	rndis_reset(nv);
	netvsp_send_control(nv, &out, sizeof(out));
	return NVSP_STATUS_SUCCESS;
}

static enum nvsp_status handle_keepalive(struct netvsp *nv, const u8 *msg, u32 bytes)
{
	const struct rndis_simple *in = (const void *)msg;
	struct rndis_set_complete out = {
		.header = { RNDIS_KEEPALIVE | RNDIS_COMPLETE, sizeof(out) },
		.request_id = in->request_id,
		.status = RNDIS_STATUS_SUCCESS,
	};

	netvsp_send_control(nv, &out, sizeof(out));
	return NVSP_STATUS_SUCCESS;
}

static const struct {
	u32 type;
	u32 bytes; /* at least */
	enum nvsp_status (*fn)(struct netvsp *nv, const u8 *msg, u32 bytes);
} rndis_messages[] = {
	{ RNDIS_INITIALIZE, sizeof(struct rndis_initialize), handle_initialize },
	{ RNDIS_HALT, sizeof(struct rndis_header), handle_halt },
	{ RNDIS_QUERY, sizeof(struct rndis_request), handle_query },
	{ RNDIS_SET, sizeof(struct rndis_request), handle_set },
	{ RNDIS_RESET, sizeof(struct rndis_header), handle_reset },
	{ RNDIS_KEEPALIVE, sizeof(struct rndis_simple), handle_keepalive },
};

enum nvsp_status rndis_control(struct netvsp *nv, const u8 *msg, u32 bytes)
{
	const struct rndis_header *header = (const void *)msg;

	for (size_t i = 0; i < ARRAY_SIZE(rndis_messages); i++)
		if (rndis_messages[i].type == header->type && bytes >= rndis_messages[i].bytes)
			return rndis_messages[i].fn(nv, msg, bytes);
	return NVSP_STATUS_INVALID_RNDIS;
}

void rndis_indicate_status(struct netvsp *nv, u32 status)
{
	struct rndis_indicate out = {
		.header = { RNDIS_INDICATE, sizeof(out) },
		.status = status,
	};

	if (nv->rndis == RNDIS_STATE_READY)
		netvsp_send_control(nv, &out, sizeof(out));
}

void rndis_reset(struct netvsp *nv)
{
	nv->filter = 0;
	nv->rss = (struct netvsp_rss){ 0 };
	nv->offload = (struct netvsp_offload){ 0 };
	netvsp_rx_caps(nv);
}
