/* SPDX-License-Identifier: MIT */
/*
 * One word per page of a child's address space, in a sparse table of 2 MiB
 * leaves. Data only: who may change it, and what a change means for host and
 * engine, is gpa_map.c's business. The owner locks.
 */
#ifndef NESTOR_CORE_GPA_TABLE_H
#define NESTOR_CORE_GPA_TABLE_H

#include "base/types.h"

#define GPA_BITS_MAX   40u
#define GPA_LEAF_PAGES 512u

enum gpa_state {
	GPA_STATE_UNMAPPED,
	GPA_STATE_NO_ACCESS, /* the parent will be asked for it */
	GPA_STATE_REFUSED,   /* NO_ACCESS, and the parent was asked in vain */
	GPA_STATE_READ_ONLY,
	GPA_STATE_WRITABLE,
	GPA_STATES,
};

/* The engine slot that covers a page. */
enum gpa_slot_class { GPA_SLOT_NONE, GPA_SLOT_READ_ONLY, GPA_SLOT_WRITABLE, GPA_SLOT_OVERLAY };

/*
 * An entry. Bits 51:12: of a page with memory the parent's page (its GPA), of one
 * without access the call that made it so.
 */
#define GPA_ENTRY_STATE	     MASK64(2, 0)
#define GPA_ENTRY_SLOT_SHIFT 3
#define GPA_ENTRY_SLOT	     MASK64(4, 3)
#define GPA_ENTRY_OVERLAY    BIT64(5) /* an overlay page is seen here */
#define GPA_ENTRY_DIRTY	     BIT64(6)
#define GPA_ENTRY_SOURCE     MASK64(51, 12)

struct gpa_leaf {
	u64 entry[GPA_LEAF_PAGES];
	u16 count[GPA_STATES];
	u16 overlays;
	bool reshape;	 /* a page's slot is not the one it should have */
	u64 deposit_gpn; /* what it was paid with; ~0: nothing */
};

struct gpa_gib {
	struct gpa_leaf *leaf[GIB / PAGE_BYTES / GPA_LEAF_PAGES];
	u32 missing; /* pages without access */
};

struct gpa_table {
	struct gpa_gib *gib[BIT64(GPA_BITS_MAX) / GIB];
	u64 missing, present;
};

static inline enum gpa_state gpa_entry_state(u64 entry)
{
	return (enum gpa_state)(entry & GPA_ENTRY_STATE);
}

static inline bool gpa_entry_present(u64 entry)
{
	return gpa_entry_state(entry) >= GPA_STATE_READ_ONLY;
}

static inline enum gpa_slot_class gpa_entry_slot(u64 entry)
{
	return (enum gpa_slot_class)((entry & GPA_ENTRY_SLOT) >> GPA_ENTRY_SLOT_SHIFT);
}

/* The leaf of @gpn, or NULL. @gpn is below the limit. */
struct gpa_leaf *gpa_table_leaf(const struct gpa_table *t, u64 gpn);
/* The same, made if need be. NULL: no memory. */
struct gpa_leaf *gpa_table_leaf_make(struct gpa_table *t, u64 gpn);
/* Frees the leaf of @gpn, whose entries are all 0. */
void gpa_table_leaf_free(struct gpa_table *t, u64 gpn);
/* The leaf that holds the first page at @gpn or above, whose number goes there. NULL: none. */
struct gpa_leaf *gpa_table_next(const struct gpa_table *t, u64 *gpn);

u64 gpa_table_get(const struct gpa_table *t, u64 gpn);
/* @leaf: that of @gpn. */
void gpa_table_set(struct gpa_table *t, struct gpa_leaf *leaf, u64 gpn, u64 entry);

/* The first page without access at @from or above. False: there is none. */
bool gpa_table_missing(const struct gpa_table *t, u64 from, u64 *gpn);

#endif
