/* SPDX-License-Identifier: MIT */
/*
 * The card's state, shared by its files:
 *   netvsp.c      NVSP messages, buffers, the life of channels
 *   netvsp_tx.c   frames from the guest
 *   netvsp_rx.c   frames and control messages to the guest
 *   rndis.c       RNDIS control messages      rndis_oid.c  what OIDs say and set
 *   net_offload.c per-packet information and receive hashing
 */
#ifndef NESTOR_VSP_NETVSP_INTERNAL_H
#define NESTOR_VSP_NETVSP_INTERNAL_H

#include "backend/net_frame.h"
#include "hvdef/netvsp.h"
#include "hvdef/rndis.h"
#include "vmbus/device.h"
#include "vsp/netvsp.h"

#define NETVSP_CHANNELS_MAX    64u
#define NETVSP_SEND_SECTION    6144u
#define NETVSP_RECV_COUNT_MAX  16384u
#define NETVSP_CONTROL_RESERVE 16u	      /* suballocations kept for control messages */
#define NETVSP_CONTROL_MAX     8192u	      /* bytes of a control message from the guest */
#define NETVSP_BATCH_RANGES    64u	      /* of one VMBus packet to the guest */
#define NETVSP_IOV_MAX	       128	      /* pieces of one VMBus packet from the guest */
#define NETVSP_LSO_MAX	       0xf53cu	      /* bytes of a large frame, as Hyper-V says */
#define NETVSP_LINK_SPACING_NS (2 * NS_PER_S) /* Linux delays what comes faster */
#define NETVSP_RX_HEADROOM     112u /* RNDIS header and per-packet information in front of a frame */
#define NETVSP_RX_TAIL	       36u  /* of a suballocation, which Windows keeps for itself */
#define NETVSP_NONE	       UINT32_MAX

/* A guest buffer that the guest has named. */
struct netvsp_buffer {
	struct vmbus_gpadl *gpadl; /* NULL: there is none */
	u16 id;
	u32 section_bytes, section_count;
};

/* Frames for one channel that wait to be sent in one VMBus packet. */
struct netvsp_batch {
	u32 count;
	u32 first, last; /* chain of suballocations, by netvsp.next */
	struct vmbus_xfer_range range[NETVSP_BATCH_RANGES];
};

struct netvsp_channel {
	struct vmbus_channel *ch;
	u32 index;
	struct netvsp_batch batch;
	bool blocked;  /* no room in the ring: `writable` sends the batch */
	u16 packet_id; /* of frames in several pieces */
};

enum rndis_state { RNDIS_STATE_HALTED, RNDIS_STATE_READY };

struct netvsp_rss {
	bool enabled;
	u32 types;	 /* NDIS_HASH_* */
	u32 table_count; /* power of two */
	u8 table[NDIS_RSS_TABLE_MAX];
	u8 key[NDIS_RSS_KEY_BYTES];
};

/* What the guest wants done with frames for it. */
struct netvsp_offload {
	bool rx_tcp4, rx_udp4, rx_tcp6, rx_udp6; /* it believes our word on checksums */
	bool rsc4, rsc6;			 /* large frames in pieces */
};

struct netvsp {
	struct vmbus_device *device;
	struct loop *loop;
	bool own_loop;
	struct net_backend *be;
	u8 permanent_mac[6];
	/*
	 * What the guest has set. It outlives the conversation, as Linux does not
	 * set it again after a change of MTU; the permanent one is heard, too.
	 */
	u8 mac[6];
	char name[64];
	u32 max_channels;

	/* Conversation; forgotten when the primary channel closes. */
	u32 version; /* 0: not negotiated */
	u32 mtu;
	u64 capabilities; /* enum nvsp_ndis_capability, the guest's */
	enum rndis_state rndis;
	u32 filter; /* enum rndis_packet_filter */
	struct netvsp_offload offload;
	struct netvsp_rss rss;
	struct netvsp_buffer recv, send;
	struct netvsp_channel *channel[NETVSP_CHANNELS_MAX];
	u32 granted, opened; /* sub-channels */

	/* Suballocations of the receive buffer. */
	u32 *free, free_count, piece_bytes; /* piece: of a frame in a suballocation */
	u32 *next;			    /* chain of a packet in flight */
	u8 *owner; /* of the first of a chain in flight: channel index + 1, or CONTROL; else 0 */
	u32 control[NETVSP_CONTROL_RESERVE]; /* ring of control messages that wait for room */
	u32 control_bytes[NETVSP_CONTROL_RESERVE];
	u32 control_count, control_in_flight;
	bool starved; /* the back end was refused */

	/* Link. */
	bool link_up; /* what the guest knows or will ask */
	bool backend_link;
	u32 cable_out; /* atomic: netvsp_set_link() */
	u64 link_told_ns;
	struct loop_timer link_timer;
	struct loop_work link_work;

	struct netvsp_stats stats; /* written on the loop, atomically read */
	u8 control_buf[NETVSP_CONTROL_MAX];
	u8 large[NET_FRAME_MAX]; /* a frame to be cut */
};

#define NETVSP_COUNT(nv, field, n)                                                                 \
	__atomic_store_n(&(nv)->stats.field, (nv)->stats.field + (n), __ATOMIC_RELAXED)

/* ---- netvsp_tx.c ---- */

/* An NVSP_SEND_RNDIS_PKT from the guest; the status of its completion. */
enum nvsp_status netvsp_tx(struct netvsp *nv, struct netvsp_channel *nc,
			   const struct vmbus_packet *pkt, const struct nvsp_message *msg);

/* ---- netvsp_rx.c ---- */

extern const struct net_sink_ops netvsp_sink;
/* Takes the receive buffer; recv.section_* are set. 0 or -ENOMEM. */
int netvsp_rx_init(struct netvsp *nv);
void netvsp_rx_fini(struct netvsp *nv);
/* The guest has consumed the packet of this transaction. */
void netvsp_rx_complete(struct netvsp *nv, struct netvsp_channel *nc, u64 transaction_id);
/* Everything of this channel is the guest's no more. */
void netvsp_rx_drop_channel(struct netvsp *nv, struct netvsp_channel *nc);
/* Sends what waits: of all channels, or what one could not. */
void netvsp_rx_flush(struct netvsp *nv);
void netvsp_rx_writable(struct netvsp *nv, struct netvsp_channel *nc);
/* The back end was refused; asks it again if there is room now. */
void netvsp_rx_resume(struct netvsp *nv);
/* A control message for the guest, on the primary channel; lost if the guest never drains them. */
void netvsp_send_control(struct netvsp *nv, const void *message, u32 bytes);
/* Tells the back end what the guest takes. */
void netvsp_rx_caps(struct netvsp *nv);

/* ---- netvsp.c ---- */

/* Link state by cable and back end, told to the guest if it changed. */
void netvsp_link_changed(struct netvsp *nv);

/* ---- rndis.c ---- */

/* A control message: private memory. */
enum nvsp_status rndis_control(struct netvsp *nv, const u8 *msg, u32 bytes);
void rndis_indicate_status(struct netvsp *nv, u32 status);
/* Forgets what the guest set. */
void rndis_reset(struct netvsp *nv);

/* ---- rndis_oid.c ---- */

#define RNDIS_OID_ANSWER_MAX 512u
/* RNDIS status; the answer is in @out (RNDIS_OID_ANSWER_MAX bytes). @in may be empty. */
u32 rndis_oid_query(struct netvsp *nv, u32 oid, const u8 *in, u32 in_bytes, u8 *out, u32 *bytes);
/* RNDIS status. */
u32 rndis_oid_set(struct netvsp *nv, u32 oid, const u8 *in, u32 in_bytes);

/* ---- net_offload.c ---- */

/* What a frame from the guest asks for. */
struct net_tx_info {
	bool csum;    /* complete the L4 checksum */
	bool ip_csum; /* and the IPv4 header's */
	bool lso;
	u32 mss;
	bool tagged;
	u16 tci;
};
/* Per-packet information of @bytes bytes, private. False: malformed. */
bool net_ppi_parse(const u8 *ppi, u32 bytes, struct net_tx_info *info);
/* Meta of a frame whose headers lie in @head (up to NET_HEADERS_MAX bytes, changed). */
bool net_tx_meta(u8 *head, u32 head_bytes, u32 frame_bytes, const struct net_tx_info *info,
		 struct net_meta *meta);

/* What is said to the guest beside a frame. */
struct net_rx_info {
	u32 csum; /* enum rndis_rx_checksum; 0: nothing is known */
	bool hashed;
	u32 hash;
	bool tagged;
	u16 tci;
};
/*
 * RNDIS header and information for @data_bytes of a frame, NETVSP_RX_HEADROOM
 * bytes at @out. @id: piece of a large frame, or NULL; @info NULL: no first piece.
 */
void net_rx_header(u8 *out, u32 data_bytes, const struct net_rx_info *info,
		   const struct rndis_packet_id *id);
/* Checksum bits for a frame whose sums are right. */
u32 net_rx_csum(const struct netvsp *nv, const struct net_headers *h);
/* Toeplitz hash as the guest asked; false: not of a kind it asked for. */
bool net_rss_hash(const struct netvsp_rss *rss, const u8 *frame, const struct net_headers *h,
		  u32 *hash);
u32 net_toeplitz(const u8 *key, const u8 *data, u32 bytes);

#endif
