// SPDX-License-Identifier: MIT
/*
 * GPADLs: the pages a guest names for rings and buffers. Each page is looked up
 * in guest memory once, when the guest names it; what is kept is its host
 * address. One range per GPADL, which is what every known guest sends.
 *
 * A GPADL in use (ring, device) outlives the guest's TEARDOWN; the answer, the
 * guest's licence to reuse the pages, is sent after the last user let go.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmbus/internal.h"

/* A guest asks once; more is noise that shall not become memory. */
#define TEARDOWNS_MAX 8

static void send_created(struct vmbus_server *srv, u32 relid, u32 id, u32 status)
{
	struct vmbus_gpadl_created m = {
		.header.type = VMBUS_GPADL_CREATED,
		.relid = relid,
		.gpadl = id,
		.status = status,
	};

	server_send(srv, &m, sizeof(m));
}

static void send_torndown(struct vmbus_server *srv, u32 id)
{
	struct vmbus_gpadl_torndown m = { .header.type = VMBUS_GPADL_TORNDOWN, .gpadl = id };

	server_send(srv, &m, sizeof(m));
}

static struct vmbus_gpadl *find_locked(struct vmbus_channel *ch, u32 id)
{
	struct list *pos;

	list_for_each(pos, &ch->gpadls) {
		struct vmbus_gpadl *g = list_entry(pos, struct vmbus_gpadl, node);

		if (g->id == id)
			return g;
	}
	return NULL;
}

/* BODY names no channel, so an id in progress is unique over all of them. */
static struct vmbus_gpadl *find_in_progress(struct vmbus_server *srv, u32 id)
{
	struct list *pos, *inner;

	list_for_each(pos, &srv->channels) {
		struct vmbus_channel *ch = list_entry(pos, struct vmbus_channel, node);

		/* The one in progress was added last. */
		inner = ch->gpadls.prev;
		for (; inner != &ch->gpadls; inner = inner->prev) {
			struct vmbus_gpadl *g = list_entry(inner, struct vmbus_gpadl, node);

			if (g->pages_have == g->page_count)
				continue;
			if (g->id == id)
				return g;
		}
	}
	return NULL;
}

static void free_locked(struct vmbus_server *srv, struct vmbus_gpadl *g)
{
	list_del(&g->node);
	srv->gpadl_pages -= g->page_count;
	srv->gpadl_count--;
	free(g);
}

static int create(struct vmbus_channel *ch, const struct vmbus_gpadl_header *m,
		  struct vmbus_gpadl **out)
{
	struct vmbus_server *srv = ch->srv;
	struct vmbus_gpadl *g, *old;
	struct vmbus_gpa_range range;
	u64 pages;

	memcpy(&range, m->ranges, sizeof(range));
	pages = ((u64)range.byte_offset + range.byte_count + PAGE_BYTES - 1) / PAGE_BYTES;
	if (m->range_count != 1 || range.byte_count == 0 || range.byte_offset >= PAGE_BYTES ||
	    m->range_bytes != sizeof(range) + pages * 8)
		return -EINVAL;
	pthread_mutex_lock(&srv->gpadl_lock);
	old = find_locked(ch, m->gpadl);
	pthread_mutex_unlock(&srv->gpadl_lock);
	if (old || find_in_progress(srv, m->gpadl))
		return -EEXIST;
	if (srv->gpadl_count >= srv->cfg.max_gpadls ||
	    srv->gpadl_pages + pages > srv->cfg.max_gpadl_pages)
		return -ENOSPC;
	g = calloc(1, sizeof(*g) + pages * sizeof(g->page[0]));
	if (!g)
		return -ENOMEM;
	g->ch = ch;
	g->id = m->gpadl;
	g->byte_count = range.byte_count;
	g->byte_offset = range.byte_offset;
	g->page_count = (u32)pages;
	pthread_mutex_lock(&srv->gpadl_lock);
	list_add_tail(&ch->gpadls, &g->node);
	srv->gpadl_count++;
	srv->gpadl_pages += g->page_count;
	pthread_mutex_unlock(&srv->gpadl_lock);
	*out = g;
	return 0;
}

/* Takes PFNs; words beyond the last page are ignored (UEFI sends messages of full length). */
static void add_pages(struct vmbus_server *srv, struct vmbus_gpadl *g, const u8 *pfns, u32 bytes)
{
	for (; bytes >= 8 && g->pages_have < g->page_count; pfns += 8, bytes -= 8) {
		u64 pfn;
		u8 *hva;

		memcpy(&pfn, pfns, sizeof(pfn));
		hva = pfn < UINT64_MAX / PAGE_BYTES
			      ? gmem_ptr(srv->cfg.gmem, pfn * PAGE_BYTES, PAGE_BYTES)
			      : NULL;
		if (!hva) {
			vmbus_log(srv, "GPADL %#x names page %#llx, which is not guest memory",
				  g->id, (unsigned long long)pfn);
			send_created(srv, g->ch->relid, g->id, VMBUS_STATUS_FAILED);
			pthread_mutex_lock(&srv->gpadl_lock);
			free_locked(srv, g);
			pthread_mutex_unlock(&srv->gpadl_lock);
			return;
		}
		g->page[g->pages_have++] = hva;
	}
	if (g->pages_have == g->page_count)
		send_created(srv, g->ch->relid, g->id, 0);
}

void gpadl_header(struct vmbus_server *srv, const struct vmbus_gpadl_header *m, u32 bytes)
{
	struct vmbus_channel *ch = server_channel(srv, m->relid);
	struct vmbus_gpadl *g;
	int ret = ch && !ch->revoked ? create(ch, m, &g) : -ENOENT;

	if (ret) {
		vmbus_log(srv, "GPADL %#x of channel %u is refused: %s", m->gpadl, m->relid,
			  strerror(-ret));
		send_created(srv, m->relid, m->gpadl, VMBUS_STATUS_FAILED);
		return;
	}
	add_pages(srv, g, m->ranges + sizeof(struct vmbus_gpa_range),
		  bytes - (u32)sizeof(*m) - (u32)sizeof(struct vmbus_gpa_range));
}

void gpadl_body(struct vmbus_server *srv, const struct vmbus_gpadl_body *m, u32 bytes)
{
	struct vmbus_gpadl *g = find_in_progress(srv, m->gpadl);

	/* Also the rest of one that was refused: it has had its answer. */
	if (!g) {
		log_debug("%s: vmbus: pages for unknown GPADL %#x", srv->name, m->gpadl);
		return;
	}
	add_pages(srv, g, (const u8 *)m->pfn, bytes - (u32)sizeof(*m));
}

void gpadl_teardown(struct vmbus_server *srv, const struct vmbus_gpadl_teardown *m)
{
	struct vmbus_channel *ch = server_channel(srv, m->relid);
	struct vmbus_gpadl *g = NULL;

	if (ch) {
		pthread_mutex_lock(&srv->gpadl_lock);
		g = find_locked(ch, m->gpadl);
		if (g) {
			g->dying = true;
			g->teardowns += g->teardowns < TEARDOWNS_MAX;
		}
		pthread_mutex_unlock(&srv->gpadl_lock);
	}
	if (g) {
		gpadl_reap(ch);
		return;
	}
	/* The guest waits without a timeout and owns the pages anyway. */
	vmbus_log(srv, "teardown of unknown GPADL %#x of channel %u", m->gpadl, m->relid);
	send_torndown(srv, m->gpadl);
}

void gpadl_reap(struct vmbus_channel *ch)
{
	struct vmbus_server *srv = ch->srv;
	struct list *pos, *tmp;

	pthread_mutex_lock(&srv->gpadl_lock);
	list_for_each_safe(pos, tmp, &ch->gpadls) {
		struct vmbus_gpadl *g = list_entry(pos, struct vmbus_gpadl, node);

		if (!g->dying || g->refs)
			continue;
		for (; g->teardowns; g->teardowns--)
			send_torndown(srv, g->id);
		free_locked(srv, g);
	}
	pthread_mutex_unlock(&srv->gpadl_lock);
}

void gpadl_drop_all(struct vmbus_channel *ch)
{
	struct list *pos;

	pthread_mutex_lock(&ch->srv->gpadl_lock);
	list_for_each(pos, &ch->gpadls) {
		struct vmbus_gpadl *g = list_entry(pos, struct vmbus_gpadl, node);

		g->dying = true;
		g->teardowns = 0;
	}
	pthread_mutex_unlock(&ch->srv->gpadl_lock);
	gpadl_reap(ch);
}

struct vmbus_gpadl *gpadl_get(struct vmbus_channel *ch, u32 id)
{
	struct vmbus_gpadl *g;

	pthread_mutex_lock(&ch->srv->gpadl_lock);
	g = find_locked(ch, id);
	if (g && (g->dying || g->pages_have < g->page_count))
		g = NULL;
	if (g)
		g->refs++;
	pthread_mutex_unlock(&ch->srv->gpadl_lock);
	return g;
}

struct vmbus_gpadl *vmbus_gpadl_get(struct vmbus_channel *ch, u32 id)
{
	return gpadl_get(ch, id);
}

void vmbus_gpadl_put(struct vmbus_gpadl *g)
{
	struct vmbus_server *srv = g->ch->srv;
	bool last;

	pthread_mutex_lock(&srv->gpadl_lock);
	assert(g->refs > 0);
	last = --g->refs == 0 && g->dying;
	pthread_mutex_unlock(&srv->gpadl_lock);
	if (last)
		server_settle_later(srv);
}

/* Access */

u32 vmbus_gpadl_bytes(const struct vmbus_gpadl *g)
{
	return g->byte_count;
}

static bool inside(const struct vmbus_gpadl *g, u32 offset, u32 bytes)
{
	return offset <= g->byte_count && bytes <= g->byte_count - offset;
}

/* Host address at @offset, and how many of @bytes follow contiguously. */
static u8 *run_at(const struct vmbus_gpadl *g, u32 offset, u32 bytes, u32 *run)
{
	u64 at = (u64)g->byte_offset + offset;
	u32 page = (u32)(at / PAGE_BYTES);
	u8 *hva = g->page[page] + at % PAGE_BYTES;

	*run = PAGE_BYTES - (u32)(at % PAGE_BYTES);
	while (*run < bytes && g->page[page + 1] == g->page[page] + PAGE_BYTES) {
		*run += PAGE_BYTES;
		page++;
	}
	if (*run > bytes)
		*run = bytes;
	return hva;
}

int vmbus_gpadl_read(const struct vmbus_gpadl *g, u32 offset, void *dst, u32 bytes)
{
	u8 *to = dst;
	u32 run;

	if (!inside(g, offset, bytes))
		return -EFAULT;
	for (; bytes; offset += run, to += run, bytes -= run) {
		const u8 *at = run_at(g, offset, bytes, &run);

		memcpy(to, at, run);
	}
	return 0;
}

int vmbus_gpadl_write(const struct vmbus_gpadl *g, u32 offset, const void *src, u32 bytes)
{
	const u8 *from = src;
	u32 run;

	if (!inside(g, offset, bytes))
		return -EFAULT;
	for (; bytes; offset += run, from += run, bytes -= run) {
		u8 *at = run_at(g, offset, bytes, &run);

		memcpy(at, from, run);
	}
	return 0;
}

void *vmbus_gpadl_ptr(const struct vmbus_gpadl *g, u32 offset, u32 bytes)
{
	u32 run;
	u8 *hva;

	if (bytes == 0 || !inside(g, offset, bytes))
		return NULL;
	hva = run_at(g, offset, bytes, &run);
	return run == bytes ? hva : NULL;
}

int vmbus_gpadl_iov(const struct vmbus_gpadl *g, u32 offset, u32 bytes, struct iovec *iov, int max)
{
	int count = 0;
	u32 run;

	if (!inside(g, offset, bytes))
		return -EFAULT;
	for (; bytes; offset += run, bytes -= run) {
		if (count == max)
			return -E2BIG;
		iov[count].iov_base = run_at(g, offset, bytes, &run);
		iov[count++].iov_len = run;
	}
	return count;
}
