// SPDX-License-Identifier: MIT
#include "core/gpa_table.h"

#include <stdlib.h>

#define LEAVES_PER_GIB ARRAY_SIZE(((struct gpa_gib *)0)->leaf)
#define LEAVES	       (ARRAY_SIZE(((struct gpa_table *)0)->gib) * LEAVES_PER_GIB)

struct gpa_leaf *gpa_table_leaf(const struct gpa_table *t, u64 gpn)
{
	u64 n = gpn / GPA_LEAF_PAGES;
	const struct gpa_gib *gib = t->gib[n / LEAVES_PER_GIB];

	return gib ? gib->leaf[n % LEAVES_PER_GIB] : NULL;
}

struct gpa_leaf *gpa_table_leaf_make(struct gpa_table *t, u64 gpn)
{
	u64 n = gpn / GPA_LEAF_PAGES;
	struct gpa_gib **gib = &t->gib[n / LEAVES_PER_GIB];
	struct gpa_leaf **leaf;

	if (!*gib)
		*gib = calloc(1, sizeof(**gib));
	if (!*gib)
		return NULL;
	leaf = &(*gib)->leaf[n % LEAVES_PER_GIB];
	if (*leaf)
		return *leaf;
	*leaf = calloc(1, sizeof(**leaf));
	if (!*leaf)
		return NULL;
	(*leaf)->deposit_gpn = ~0ull;
	(*leaf)->count[GPA_STATE_UNMAPPED] = GPA_LEAF_PAGES;
	return *leaf;
}

/* The part that a GiB costs stays: there are few. */
void gpa_table_leaf_free(struct gpa_table *t, u64 gpn)
{
	u64 n = gpn / GPA_LEAF_PAGES;
	struct gpa_leaf **leaf = &t->gib[n / LEAVES_PER_GIB]->leaf[n % LEAVES_PER_GIB];

	free(*leaf);
	*leaf = NULL;
}

struct gpa_leaf *gpa_table_next(const struct gpa_table *t, u64 *gpn)
{
	u64 n = (*gpn + GPA_LEAF_PAGES - 1) / GPA_LEAF_PAGES;

	while (n < LEAVES) {
		const struct gpa_gib *gib = t->gib[n / LEAVES_PER_GIB];

		if (!gib) {
			n = (n / LEAVES_PER_GIB + 1) * LEAVES_PER_GIB;
			continue;
		}
		if (gib->leaf[n % LEAVES_PER_GIB]) {
			*gpn = n * GPA_LEAF_PAGES;
			return gib->leaf[n % LEAVES_PER_GIB];
		}
		n++;
	}
	return NULL;
}

u64 gpa_table_get(const struct gpa_table *t, u64 gpn)
{
	const struct gpa_leaf *leaf = gpa_table_leaf(t, gpn);

	return leaf ? leaf->entry[gpn % GPA_LEAF_PAGES] : 0;
}

void gpa_table_set(struct gpa_table *t, struct gpa_leaf *leaf, u64 gpn, u64 entry)
{
	u64 *at = &leaf->entry[gpn % GPA_LEAF_PAGES], old = *at;
	u32 was_missing = gpa_entry_state(old) == GPA_STATE_NO_ACCESS;
	u32 missing = gpa_entry_state(entry) == GPA_STATE_NO_ACCESS;

	*at = entry;
	leaf->count[gpa_entry_state(old)]--;
	leaf->count[gpa_entry_state(entry)]++;
	leaf->overlays += !!(entry & GPA_ENTRY_OVERLAY) - !!(old & GPA_ENTRY_OVERLAY);
	t->gib[gpn / GPA_LEAF_PAGES / LEAVES_PER_GIB]->missing += missing - was_missing;
	t->missing += (u64)missing - was_missing;
	t->present += (u64)gpa_entry_present(entry) - gpa_entry_present(old);
}

static bool leaf_missing(const struct gpa_leaf *leaf, u64 first, u64 from, u64 *gpn)
{
	if (!leaf->count[GPA_STATE_NO_ACCESS])
		return false;
	for (u64 n = from > first ? from - first : 0; n < GPA_LEAF_PAGES; n++) {
		if (gpa_entry_state(leaf->entry[n]) == GPA_STATE_NO_ACCESS) {
			*gpn = first + n;
			return true;
		}
	}
	return false;
}

bool gpa_table_missing(const struct gpa_table *t, u64 from, u64 *gpn)
{
	for (u64 n = from / GPA_LEAF_PAGES; n < LEAVES;) {
		const struct gpa_gib *gib = t->gib[n / LEAVES_PER_GIB];
		const struct gpa_leaf *leaf;

		if (!gib || !gib->missing) {
			n = (n / LEAVES_PER_GIB + 1) * LEAVES_PER_GIB;
			continue;
		}
		leaf = gib->leaf[n % LEAVES_PER_GIB];
		if (leaf && leaf_missing(leaf, n * GPA_LEAF_PAGES, from, gpn))
			return true;
		n++;
	}
	return false;
}
