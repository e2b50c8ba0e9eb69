/* SPDX-License-Identifier: MIT */
/*
 * The synthetic network card. It joins a VMBus channel (NVSP messages that carry
 * RNDIS messages) and a network back end. One loop serves a card: its channels,
 * however many the guest opens, and its back end, so nothing in it is locked.
 */
#ifndef NESTOR_VSP_NETVSP_H
#define NESTOR_VSP_NETVSP_H

#include "backend/net.h"
#include "hvdef/guid.h"
#include "vmbus/server.h"

struct netvsp;
struct vmbus_device;

struct netvsp_config {
	struct hv_guid instance_id;
	u8 mac[6];
	const char *name; /* the guest's alias of the interface; NULL: none; copied */
	u32 max_channels; /* 1 to 64; sensible: the number of VPs. 0: 1 */
	u32 order;	  /* among the cards at boot */
	/*
	 * A loop that outlives the card, with whatever thread it has; NULL: the
	 * card makes a loop and a thread of its own.
	 */
	struct loop *loop;
};

/*
 * [any] Offers a card on @srv that stands on @be. 0: the card owns @be, the
 * server owns the card; *out (may be NULL) is valid until vmbus_revoke() of
 * *device (may be NULL). Negative errno: @be is still the caller's.
 */
int netvsp_offer(struct vmbus_server *srv, const struct netvsp_config *cfg, struct net_backend *be,
		 struct netvsp **out, struct vmbus_device **device);

/* [any] Pulls or plugs the cable. The guest is told at most every two seconds. */
void netvsp_set_link(struct netvsp *nv, bool up);

struct netvsp_stats {
	u64 tx_frames, tx_bytes, tx_errors;  /* from the guest */
	u64 rx_frames, rx_bytes, rx_dropped; /* to the guest */
	u64 rx_packets;			     /* VMBus packets that carried them */
	u64 rx_large;			     /* frames in several pieces */
};
/* [any] A snapshot; numbers may be of slightly different moments. */
void netvsp_stats(const struct netvsp *nv, struct netvsp_stats *out);

/* An instance id of our own, the same each time for one index. */
void netvsp_instance_id(struct hv_guid *id, u32 index);

#endif
