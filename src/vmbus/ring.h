/* SPDX-License-Identifier: MIT */
/*
 * The host's side of a pair of rings: `in` is guest to host, `out` host to
 * guest. Pure memory protocol: it wakes nobody, each function says when its
 * caller has to signal the guest. One thread at a time uses a ring (the loop of
 * its channel); the other side is the guest, which may write anything at any
 * moment. So every guest index is loaded once and checked, a packet is copied
 * once and parsed from the copy, and our own indices live in private memory.
 *
 * Devices do not call this file, they use vmbus/device.h; `struct vmbus_packet`
 * and the range helpers below are theirs too.
 *
 * Reading is staged: peek, consume, ... and one publish for a batch. Writing
 * likewise: write, write, ... and one publish, which says whether one signal is
 * due. Source of the rules: Linux drivers/hv/ring_buffer.c.
 */
#ifndef NESTOR_VMBUS_RING_H
#define NESTOR_VMBUS_RING_H

#include <sys/uio.h>

#include "hvdef/vmbus.h"
#include "mem/gmem.h"

/* One range of a GPA-direct packet: guest pages that hold @byte_count bytes. */
struct vmbus_range {
	u32 byte_count;	 /* not 0 */
	u32 byte_offset; /* into the first page, below 4096 */
	u32 page_count;	 /* pages the two above need; all of them are in @pfn */
	const u8 *pfn;	 /* @page_count little-endian u64, not aligned */
};

/*
 * A packet from the guest, checked, in private memory. Pointers are valid until
 * the device's packet callback returns.
 */
struct vmbus_packet {
	u16 type; /* enum vmbus_packet_type as the guest wrote it; any value */
	u16 flags;
	u64 transaction_id;    /* opaque */
	bool wants_completion; /* exactly one vmbus_complete() is owed */
	u32 payload_bytes;     /* multiple of 8: the sender's padding counts, so the
				  payload's own length fields decide */
	const void *payload;   /* 8-aligned */
	u32 range_count;       /* GPA direct: ranges, all well-formed; else 0 */
	u32 data_bytes;	       /* GPA direct: sum of byte_count */
	const u8 *ranges;      /* walk with vmbus_packet_range() */
	u32 ring_bytes;	       /* what it takes in the ring, trailer included */
};

/* Start with *pos = 0; false after the last range. */
bool vmbus_packet_range(const struct vmbus_packet *pkt, u32 *pos, struct vmbus_range *range);

/*
 * Guest memory of @bytes bytes from offset @skip of the range, into at most
 * @max elements of @iov; host-contiguous pages merge. Returns the number of
 * elements, -EFAULT if a page is not guest memory or the range is shorter than
 * skip + bytes, -E2BIG if @max is too small. The pointers stay valid while the
 * guest's memory map does; the guest may change the bytes at any time.
 */
int vmbus_range_iov(struct gmem *gm, const struct vmbus_range *range, u32 skip, u32 bytes,
		    struct iovec *iov, int max);

/*
 * The same over all ranges of a packet: data bytes [skip, skip + bytes).
 */
int vmbus_packet_iov(struct gmem *gm, const struct vmbus_packet *pkt, u32 skip, u32 bytes,
		     struct iovec *iov, int max);

/* A packet to the guest. */
struct vmbus_packet_out {
	u16 type;
	u16 flags; /* VMBUS_PACKET_COMPLETION_REQUESTED */
	u64 transaction_id;
	const void *extra; /* descriptor between header and payload (XFER_PAGES), multiple of 8 */
	u32 extra_bytes;
	const struct iovec *payload;
	int payload_count;
};

#define VMBUS_PACKET_MAX_RANGES 4095u

struct vmbus_ring_half {
	struct vmbus_ring_header *hdr; /* guest memory */
	u8 *const *page;	       /* host address of each data page */
	u8 *linear;		       /* all data, if the pages are contiguous on the host */
	u32 data_bytes;
	u32 index;     /* ours: in: next byte to read; out: next byte to write */
	u32 published; /* what the header says of it */
};

struct vmbus_ring {
	struct vmbus_ring_half in, out;
	u8 *buf; /* private copy of the packet peeked at */
	u32 buf_bytes;
	u32 out_reserved;  /* bytes of `out` kept for completions */
	const char *error; /* why it is broken, NULL while it is not */
};

/*
 * Takes the two rings at OPEN: @page[0] is the header of `in`, the pages up to
 * @out_page its data; @page[out_page] the header of `out`. @page outlives the
 * ring. @packet_max is the largest packet accepted (bytes, without trailer).
 * 0; -EINVAL: fewer than two pages a side, too large, or an index of a header
 * is out of range; -ENOMEM. Sets our feature bit in `out`.
 */
int vmbus_ring_init(struct vmbus_ring *r, u8 *const *page, u32 page_count, u32 out_page,
		    u32 packet_max);
void vmbus_ring_fini(struct vmbus_ring *r);

/*
 * The next packet, without consuming it. 1: *pkt is filled; 0: none; -EPROTO:
 * the ring is corrupted (r->error says how) and stays so.
 */
int vmbus_ring_peek(struct vmbus_ring *r, struct vmbus_packet *pkt);
/* Steps over the packet peeked at. */
void vmbus_ring_consume(struct vmbus_ring *r, const struct vmbus_packet *pkt);
/* Tells the guest what was consumed. True: it waits for this room, signal it. */
bool vmbus_ring_publish_read(struct vmbus_ring *r);
/* interrupt_mask of `in`: with true the guest need not signal new packets. */
void vmbus_ring_mask(struct vmbus_ring *r, bool masked);
/*
 * Unmasks, and looks once more after a full barrier. True: packets came
 * meanwhile (or the ring is broken), go on reading.
 */
bool vmbus_ring_unmask_and_check(struct vmbus_ring *r);

/* Bytes a packet takes in the ring. */
u32 vmbus_ring_bytes_for(u32 extra_bytes, u32 payload_bytes);
/* Bytes free in `out` besides the reserve; a packet fits if its bytes are fewer. -EPROTO. */
s64 vmbus_ring_room(struct vmbus_ring *r);
/*
 * Writes a packet, not yet visible. 0; -EAGAIN: no room now; -EMSGSIZE: would
 * never fit, or longer than a packet can be; -EPROTO. @reserved: the room was
 * reserved before, use it.
 */
int vmbus_ring_write(struct vmbus_ring *r, const struct vmbus_packet_out *out, bool reserved);
/* Makes everything written visible. True: the guest has to be signalled. */
bool vmbus_ring_publish_write(struct vmbus_ring *r);

/* Keeps @bytes of `out` back. 0, -EAGAIN or -EPROTO. */
int vmbus_ring_reserve(struct vmbus_ring *r, u32 bytes);
void vmbus_ring_unreserve(struct vmbus_ring *r, u32 bytes);

/*
 * Asks the guest for a signal once more than @bytes (and the reserve) are free
 * in `out`; 0 takes the wish back. True: there is that room already.
 */
bool vmbus_ring_want(struct vmbus_ring *r, u32 bytes);
/* Whether there is more in `in` than was consumed. */
bool vmbus_ring_in_pending(struct vmbus_ring *r);
/*
 * Whether a signal that waited since vmbus_ring_publish_write() is still needed: there is something
 * to read in `out`, and the guest is not at it.
 */
bool vmbus_ring_unheard(struct vmbus_ring *r);
/* Something published in `out` that the guest has not read yet. */
bool vmbus_ring_out_pending(struct vmbus_ring *r);

#endif
