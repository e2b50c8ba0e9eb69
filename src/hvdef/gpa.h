/* SPDX-License-Identifier: MIT */
/* Mapping a child's pages. TLFS: hypercalls/HvCallMapGpaPages, HvCallUnmapGpaPages. */
#ifndef NESTOR_HVDEF_GPA_H
#define NESTOR_HVDEF_GPA_H

#include "base/types.h"

#define HV_MAP_GPA_READABLE	BIT(0)
#define HV_MAP_GPA_WRITABLE	BIT(1)
#define HV_MAP_GPA_EXECUTABLE	(BIT(2) | BIT(3)) /* kernel, user */
#define HV_MAP_GPA_ADJUSTABLE	BIT(15)
#define HV_MAP_GPA_NO_ACCESS	BIT(16)
#define HV_MAP_GPA_NOT_CACHED	BIT(21)
#define HV_MAP_GPA_LARGE_PAGE	BIT(31)
#define HV_UNMAP_GPA_LARGE_PAGE BIT(1)
#define HV_LARGE_PAGE_PAGES	512u

struct hv_input_map_gpa_pages {
	u64 partition_id;
	u64 target_gpn;
	u32 flags;	  /* HV_MAP_GPA_* */
	u32 rsvd;	  /* Linux leaves it as it finds it */
	u64 source_gpn[]; /* list */
};
static_assert(sizeof(struct hv_input_map_gpa_pages) == 24, "as Linux declares it");

struct hv_input_unmap_gpa_pages {
	u64 partition_id;
	u64 target_gpn;
	u32 flags; /* HV_UNMAP_GPA_* */
	u32 rsvd;
};
static_assert(sizeof(struct hv_input_unmap_gpa_pages) == 24, "as Linux declares it");

/* What to do with the state after it has been read. */
#define HV_GPA_CLEAR_ACCESSED BIT64(0)
#define HV_GPA_SET_ACCESSED   BIT64(1)
#define HV_GPA_CLEAR_DIRTY    BIT64(2)
#define HV_GPA_SET_DIRTY      BIT64(3)

struct hv_input_get_gpa_access_state {
	u64 partition_id;
	u64 flags; /* HV_GPA_* */
	u64 gpn;
};
static_assert(sizeof(struct hv_input_get_gpa_access_state) == 24, "as Linux declares it");

/* One byte per page. */
#define HV_GPA_ACCESSED BIT(0)
#define HV_GPA_DIRTY	BIT(1)

#endif
