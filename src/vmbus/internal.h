/* SPDX-License-Identifier: MIT */
/*
 * Shared by the files of this folder only.
 *
 * Who touches what: fields marked (control) belong to the server's loop, (io) to
 * the channel's loop. A channel changes hands by posted work: control posts
 * open_work and close_work to the channel's loop, which answers with
 * opened_work and closed_work; between those the other side keeps its hands off.
 */
#ifndef NESTOR_VMBUS_INTERNAL_H
#define NESTOR_VMBUS_INTERNAL_H

#include <pthread.h>

#include "base/list.h"
#include "base/log.h"
#include "base/loop.h"
#include "vmbus/device.h"
#include "vmbus/ring.h"
#include "vmbus/server.h"

#define CONNECTION_ID_BASE 0x2000u /* or relid: SINT 2 << 12, as Hyper-V's look */

enum channel_state {
	CHANNEL_CLOSED,
	CHANNEL_OPENING, /* the device is deciding; OPEN_RESULT is owed */
	CHANNEL_OPEN,
	CHANNEL_CLOSING, /* the device is letting go */
	CHANNEL_FAILED,	 /* closed by us after a violation; the guest has not said CLOSE */
};

struct vmbus_device {
	struct list node; /* server's devices, in the order they are offered */
	struct vmbus_server *srv;
	struct vmbus_offer offer;
	struct hv_guid interface_id;
	struct vmbus_channel *primary;
	u32 subchannels; /* of the current opening */
	bool revoked;
};

struct vmbus_channel {
	struct list node; /* server's channels */
	struct vmbus_server *srv;
	struct vmbus_device *vd; /* NULL: the device is gone, the guest still holds the relid */
	struct hv_guid interface_id, instance_id;
	u32 index;

	/* (control) */
	enum channel_state state;
	u32 relid;     /* 0: none */
	bool offered;  /* the guest has been told of it and has not released it */
	bool released; /* given back while not revoked: not again on this connection */
	bool revoked;
	bool held;	   /* a sub-channel whose offer waits for the primary's packets */
	bool close_wanted; /* while OPENING */
	bool fail_wanted;  /* what closes becomes FAILED */
	bool guest_closed; /* said CLOSE since FAILED or while CLOSING */
	bool reopen;	   /* while CLOSING: `open` waits */
	struct vmbus_open_channel open;
	struct vmbus_gpadl *ring_gpadl;
	struct list gpadls; /* server's gpadl_lock */
	struct loop_timer grace;
	struct loop_work opened_work, closed_work, fail_work, suboffer_work;
	int open_status;

	/* Fixed while not closed. */
	struct loop *loop;
	bool own_loop;
	int doorbell_fd[VMBUS_DOORBELLS]; /* -1: none */
	u32 connection_id;
	u32 event_flag;
	u8 sint;

	u32 target_vp; /* atomic */

	/* (io) */
	struct loop_work open_work, close_work, drain_work, flush_work;
	struct channel_doorbell {
		struct loop_fd lf;
		struct vmbus_channel *ch;
	} doorbell[VMBUS_DOORBELLS];
	struct loop_timer poll; /* a second look where a signal may be lost */
	struct vmbus_ring ring;
	bool live;	/* the device may use the rings */
	bool in_core;	/* a flush follows: sends need not ask for one */
	bool suboffers; /* after the next flush */
	bool delivered;
	bool room_due, signal_due; /* the guest is to be told of room, of something to read */
	bool holding;		   /* the signal waits for more answers, and some came */
	u32 unsignalled;	   /* packets since the last signal, large ones twice */
	u64 pace_since, pace_ns;   /* how far packets are apart */
	u32 pace_packets;
	u64 signal_ns; /* what a signal costs */
	/* Runs until the next look for packets; and how many after one in vain. */
	struct channel_look {
		u32 rest, rest_next;
	} hold, next;
	struct loop_timer lull;		 /* armed while signals are off and completions are owed */
	u64 lull_completions;		 /* stats.completions when it was armed */
	bool lulled;			 /* nothing completed for a while: signals, please */
	u32 owed;			 /* completions */
	u32 reserve_wanted, send_wanted; /* bytes of room waited for; 0: not waiting */
	char fail_reason[128];
	void *data;
	struct {
		u64 packets, completions, sends, signals_in, signals_out;
	} stats; /* relaxed atomics */
};

struct vmbus_gpadl {
	struct list node; /* channel's gpadls */
	struct vmbus_channel *ch;
	u32 id;
	u32 byte_count, byte_offset;
	u32 page_count, pages_have; /* fewer: in progress */
	u32 refs;		    /* gpadl_lock: ring, device */
	u32 teardowns;		    /* TEARDOWNs owed an answer */
	bool dying;
	u8 *page[]; /* host addresses */
};

struct vmbus_port { /* where a SIGNAL_EVENT goes; index: relid */
	pthread_mutex_t lock;
	u32 connection_id; /* 0: none */
	struct vmbus_channel *ch;
};

struct out_message {
	struct list node;
	u32 vp;
	u8 sint;
	u8 bytes;
	u8 payload[VMBUS_MESSAGE_MAX] __attribute__((aligned(8)));
};

struct in_message {
	u32 bytes;
	u8 payload[VMBUS_MESSAGE_MAX] __attribute__((aligned(8)));
};

enum connection_state { CONNECTION_NONE, CONNECTION_UP, CONNECTION_CLOSING };

/* What follows CONNECTION_CLOSING. */
enum connection_next { NEXT_NOTHING, NEXT_UNLOAD_COMPLETE, NEXT_CONTACT };

struct tl_request {
	bool used;
	struct hv_guid service, endpoint;
};

struct vmbus_server {
	struct vmbus_config cfg;
	char name[32];
	struct loop *loop;

	/* (control) */
	enum connection_state state;
	enum connection_next next;
	struct in_message contact; /* for NEXT_CONTACT */
	u32 version;		   /* atomic; 0: not connected */
	u32 features;
	u32 target_vp;
	u8 sint;
	bool offers_requested;
	bool paused;
	bool stopping;
	bool pumping; /* a flush follows */
	struct list devices, channels;
	struct vmbus_channel *by_relid[VMBUS_RELID_MAX + 1];
	struct list out;
	u32 out_count;
	struct loop_timer retry;
	struct loop_work pump_work, settle_work;
	vmbus_tl_connect_fn tl_connect;
	void *tl_ctx;
	struct tl_request tl[VMBUS_TL_MAX];

	u32 blocked;	  /* atomic: the guest's slot was busy */
	u32 custom_ports; /* atomic: ports with a connection id of the guest's choice */
	struct vmbus_port port[VMBUS_RELID_MAX + 1];

	pthread_mutex_t gpadl_lock; /* lists, refs and counts of GPADLs */
	u32 gpadl_pages, gpadl_count;

	pthread_mutex_t in_lock; /* the ring of messages in */
	struct in_message *in;
	u32 in_head, in_count;

	pthread_mutex_t quiet_lock; /* quiet */
	pthread_cond_t quiet_cond;
	bool quiet;
};

/* Limited, and with the partition's name. */
#define vmbus_log(srv, fmt, ...)                                                                   \
	log_limited(LOG_WARNING, "%s: vmbus: " fmt, (srv)->name, ##__VA_ARGS__)

/* server.c */
void server_send(struct vmbus_server *srv, const void *message, u32 bytes);
void server_send_to(struct vmbus_server *srv, u32 vp, u8 sint, const void *message, u32 bytes);
void server_drop_out(struct vmbus_server *srv);
/* Begins to close the connection; @next happens when all is quiet. */
void server_disconnect(struct vmbus_server *srv, enum connection_next next);
/* Something closed or let go: frees what can go, and goes on with a disconnect. */
void server_settle(struct vmbus_server *srv);
/* In a moment: callers walk lists. [any] */
void server_settle_later(struct vmbus_server *srv);

/* offer.c */
struct vmbus_channel *server_channel(struct vmbus_server *srv, u32 relid); /* or NULL */
/* Offers what the guest has not been told of, once it has asked for offers. */
void server_offer_pending(struct vmbus_server *srv);
void channel_revoke(struct vmbus_channel *ch, bool at_once);
/* The guest's hold on the number ends. */
void channel_release_relid(struct vmbus_channel *ch);
void channel_free(struct vmbus_channel *ch);
bool device_busy(struct vmbus_device *vd);
void device_destroy(struct vmbus_device *vd);
void device_revoke(struct vmbus_device *vd, bool at_once);

/* message.c */
void message_handle(struct vmbus_server *srv, const struct in_message *in);
void message_contact(struct vmbus_server *srv, const struct in_message *in);

/* channel.c */
struct vmbus_channel *channel_create(struct vmbus_device *vd, u32 index);
/* Begins to open with what ch->open says; the answer is sent when the device has decided. */
int channel_open(struct vmbus_channel *ch);
void channel_close(struct vmbus_channel *ch);
void channel_answer_open(struct vmbus_channel *ch, u32 status);
bool channel_idle(const struct vmbus_channel *ch);

/* channel_io.c */
void channel_io_init(struct vmbus_channel *ch);
void channel_io_open(struct loop_work *w);
void channel_io_close(struct loop_work *w);
void channel_interrupt(struct vmbus_channel *ch);

/* gpadl.c */
void gpadl_header(struct vmbus_server *srv, const struct vmbus_gpadl_header *m, u32 bytes);
void gpadl_body(struct vmbus_server *srv, const struct vmbus_gpadl_body *m, u32 bytes);
void gpadl_teardown(struct vmbus_server *srv, const struct vmbus_gpadl_teardown *m);
/* A complete GPADL of the channel, counted, or NULL. */
struct vmbus_gpadl *gpadl_get(struct vmbus_channel *ch, u32 id);
/* Answers and frees what was torn down and is held by nobody. */
void gpadl_reap(struct vmbus_channel *ch);
/* The guest has let go of the channel: all go, without answers. */
void gpadl_drop_all(struct vmbus_channel *ch);

#endif
