// SPDX-License-Identifier: MIT
/* Stand-ins until the parts exist; each goes with the commit that brings the real one. */
#include "core/child.h"
#include "core/gpa_map.h"

#define STUB __attribute__((weak))

STUB struct partition *child_get(struct hypercall *hc, u64 id) { return NULL; }
STUB void child_put(struct partition *p) { }
STUB void children_destroy(struct partition *parent) { }
STUB void child_hold(struct partition *p) { }
STUB void child_release(struct partition *p) { }
STUB void child_vp_hold(struct vp *vp) { }
STUB void child_vp_release(struct vp *vp) { }
STUB void child_vp_intercept(struct vp *vp) { }
STUB int gpa_map_create(struct partition *p, struct gpa_map **out) { return -1; }
STUB void gpa_map_destroy(struct gpa_map *map) { }
STUB bool gpa_map_prepare(struct gpa_map *map, u64 *missing) { return true; }
STUB enum gpa_access gpa_map_lookup(struct gpa_map *map, u64 gpa) { return GPA_UNMAPPED; }
STUB int gpa_map_overlay(struct gpa_map *map, u64 gpa, void *page) { return -1; }
STUB void *gpa_map_overlay_page_alloc(struct gpa_map *map) { return NULL; }
STUB void gpa_map_overlay_page_free(struct gpa_map *map, void *page) { }
