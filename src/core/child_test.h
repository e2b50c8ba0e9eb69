/* SPDX-License-Identifier: MIT */
/*
 * A child partition for tests of what lies between a VP and its parent: its map is
 * a table of rights, its intercepts are counted and kept. The functions replace the
 * real ones by the linker's --wrap (core/meson.build, fuzz/meson.build).
 */
#ifndef NESTOR_CORE_CHILD_TEST_H
#define NESTOR_CORE_CHILD_TEST_H

#include "core/child.h"
#include "core/core_test.h"
#include "core/gpa_map.h"

#define CHILD_TEST_PAGES 2048u /* that may have other rights than the rest */

struct child_test {
	struct child child;
	struct child_vp vp;
	u8 access[CHILD_TEST_PAGES]; /* enum gpa_access */
	u64 ram_bytes;		     /* above it nothing is mapped */
	u32 intercepts, held;
	bool is_child; /* what child_get() finds */
	struct partition *p;
};

static struct child_test child_test;

struct partition *__wrap_child_get(struct hypercall *hc, u64 id);
struct vp *__wrap_child_vp(struct partition *p, u32 index);
void __wrap_child_put(struct partition *p);
void __wrap_child_vp_hold(struct vp *vp);
void __wrap_child_vp_release(struct vp *vp);
void __wrap_child_vp_intercept(struct vp *vp);
enum gpa_access __wrap_gpa_map_lookup(struct gpa_map *map, u64 gpa);

struct partition *__wrap_child_get(struct hypercall *hc, u64 id)
{
	return child_test.is_child && id == 0x77 ? child_test.p : NULL;
}

struct vp *__wrap_child_vp(struct partition *p, u32 index)
{
	return partition_vp(p, index);
}

void __wrap_child_put(struct partition *p)
{
}

void __wrap_child_vp_hold(struct vp *vp)
{
	child_test.held++;
}

void __wrap_child_vp_release(struct vp *vp)
{
	child_test.held--;
}

void __wrap_child_vp_intercept(struct vp *vp)
{
	child_test.intercepts++;
}

enum gpa_access __wrap_gpa_map_lookup(struct gpa_map *map, u64 gpa)
{
	if (gpa >= child_test.ram_bytes)
		return GPA_UNMAPPED;
	return (enum gpa_access)child_test.access[gpa / PAGE_BYTES];
}

/* Makes the partition of @ct a child; undone by child_test_end() before core_test_destroy(). */
static inline void child_test_begin(struct core_test *ct)
{
	child_test = (struct child_test){ .p = ct->p, .ram_bytes = ct->ram_bytes };
	assert(ct->ram_bytes <= CHILD_TEST_PAGES * (u64)PAGE_BYTES);
	memset(child_test.access, GPA_WRITABLE, sizeof(child_test.access));
	child_test.child.state = CHILD_ACTIVE;
	child_test.vp.vp = ct->vp[0];
	ct->p->child = &child_test.child;
	ct->vp[0]->child = &child_test.vp;
}

static inline void child_test_end(struct core_test *ct)
{
	ct->p->child = NULL;
	ct->vp[0]->child = NULL;
}

#endif
