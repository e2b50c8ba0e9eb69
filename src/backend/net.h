/* SPDX-License-Identifier: MIT */
/*
 * What a network device stands on: a back end takes Ethernet frames from the
 * guest and brings others. Offload facts travel beside each frame, in the
 * manner of a virtio-net header, so that nobody computes a sum or cuts a frame
 * that the next one would have to undo.
 *
 * THREADS. A back end belongs to one loop from `start` to `stop`; everything
 * between, in both directions, happens on that loop, without locks. Create,
 * start, stop and destroy are called in this order; creating opens every file a
 * back end will ever need, so that a sandbox can be closed after it.
 */
#ifndef NESTOR_BACKEND_NET_H
#define NESTOR_BACKEND_NET_H

#include <netinet/in.h>
#include <sys/uio.h>

#include "base/loop.h"

#define NET_FRAME_MAX                                                                              \
	65549u /* largest frame: an IP packet of 65535 bytes and its Ethernet header */
#define NET_HEADERS_MAX 256u /* iov[0] of a frame holds as many bytes, or the whole frame */
#define NET_ETH_BYTES	14u

enum net_gso { NET_GSO_NONE, NET_GSO_TCP4, NET_GSO_TCP6 };

struct net_meta {
	/*
	 * The TCP or UDP checksum field holds the sum of the pseudo header only;
	 * whoever lets the frame out completes it. To be trusted no further than
	 * that: the offsets below are where the sender of the frame says they are,
	 * checked to be inside the frame.
	 */
	bool needs_csum;
	u16 csum_start, csum_offset; /* of the L4 header; of the field from there */
	bool csum_ok;		     /* IP and TCP or UDP checksums are known to be right */
	u8 gso;			     /* enum net_gso: the frame is to be cut into segments ... */
	u16 gso_bytes;		     /* ... of this much payload */
	u16 header_bytes;	     /* with gso: Ethernet, IP and TCP headers */
};

struct net_frame {
	/*
	 * iov[0] is private memory and holds min(bytes, NET_HEADERS_MAX) bytes at
	 * least; the others may be guest memory that changes at any moment.
	 */
	const struct iovec *iov;
	int count;
	u32 bytes; /* sum of the iov */
	struct net_meta meta;
};

struct net_backend;

/* What the device does for the back end. */
struct net_sink_ops {
	/* Whether a frame, however large, would be taken. If not, rx_resume follows. */
	bool (*rx_room)(void *ctx);
	/* A frame for the guest, consumed before it returns; dropped if there is no room. */
	void (*rx)(void *ctx, const struct net_frame *frame);
	/* A run of rx calls is over. */
	void (*rx_end)(void *ctx);
	void (*link)(void *ctx, bool up);
};

/* What the guest takes; otherwise the device cuts and completes frames itself. */
struct net_rx_caps {
	bool large_tcp4, large_tcp6; /* frames with gso */
	u32 mtu;		     /* of the guest */
};

struct net_backend_ops {
	const char *name;
	/* On the loop. be->loop, be->sink and be->sink_ctx are set. 0 or -errno. */
	int (*start)(struct net_backend *be);
	void (*stop)(struct net_backend *be);
	void (*destroy)(struct net_backend *be);
	/* A frame from the guest, consumed before it returns. A full back end drops it. */
	void (*tx)(struct net_backend *be, const struct net_frame *frame);
	/* Optional: a run of tx calls is over. */
	void (*tx_end)(struct net_backend *be);
	/* Optional: rx_room would say yes again. */
	void (*rx_resume)(struct net_backend *be);
	/* Optional: the guest's wishes have changed. */
	void (*set_rx)(struct net_backend *be, const struct net_rx_caps *caps);
};

struct net_backend {
	const struct net_backend_ops *ops;
	struct loop *loop;
	const struct net_sink_ops *sink;
	void *sink_ctx;
	bool link_up;	/* at start; later changes come by sink->link */
	u32 mtu;	/* the guest's default */
	u64 speed_bits; /* per second, to be shown */
};

enum net_kind { NET_USER, NET_PASST, NET_TAP };

struct net_hostfwd {
	bool udp;
	struct in_addr host, guest; /* guest 0: the DHCP address */
	u16 host_port, guest_port;
};
#define NET_HOSTFWD_MAX 16u

/*
 * A network as the user writes it: a kind, then options after commas.
 *   user[,net=ADDR/BITS][,restrict][,hostfwd=tcp|udp:[ADDR]:PORT-[GUEST]:PORT]...
 *   passt=SOCKET
 *   tap=NAME
 *   any of them: [,mac=aa:bb:cc:dd:ee:ff]
 */
struct net_spec {
	enum net_kind kind;
	char target[108]; /* socket or interface */
	bool has_mac;
	u8 mac[6];
	bool restricted;
	struct in_addr net, mask; /* 10.0.2.0/24 */
	u32 hostfwd_count;
	struct net_hostfwd hostfwd[NET_HOSTFWD_MAX];
};

/* 0, or -EINVAL with what is wrong in @error. */
int net_spec_parse(struct net_spec *spec, const char *text, char *error, size_t error_bytes);
/* An address of our own, the same each time for one @name and @index. */
void net_mac_derive(u8 mac[6], const char *name, u32 index);

/* Creates what @spec says. 0, or -errno with the reason in @error. */
int net_backend_create(const struct net_spec *spec, struct net_backend **out, char *error,
		       size_t error_bytes);

/* The kinds. As net_backend_create(). */
int net_user_create(const struct net_spec *spec, struct net_backend **out, char *error,
		    size_t error_bytes);
int net_passt_create(const struct net_spec *spec, struct net_backend **out, char *error,
		     size_t error_bytes);
int net_tap_create(const struct net_spec *spec, struct net_backend **out, char *error,
		   size_t error_bytes);

#endif
