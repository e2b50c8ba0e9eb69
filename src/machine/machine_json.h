/* SPDX-License-Identifier: MIT */
/* What a machine has counted, as JSON: for the report at its end and for looks in between. */
#ifndef NESTOR_MACHINE_MACHINE_JSON_H
#define NESTOR_MACHINE_MACHINE_JSON_H

#include <jansson.h>

#include "machine/machine.h"

/* New references. Any thread. */
json_t *machine_routes_json(struct machine *m); /* rows: name, kind, L0, L1, refused */
json_t *machine_quirks_json(struct machine *m); /* those in effect: uses by name */
json_t *machine_fails_json(struct machine *m);	/* of --fail: rule, calls, failed */
json_t *machine_exits_json(const struct machine_report *r);
/* What children there were: created, destroyed, intercepts by kind, calls they cost their parent.
 */
json_t *machine_children_json(struct machine *m);
/* Those there are, the machine's own and L0's first: VPs, pages, ports. */
json_t *machine_partitions_json(struct machine *m);
/* Keys the report and the control socket share: exits, calls, routes, quirks, children. */
void machine_counts_json(json_t *o, struct machine *m, const struct machine_report *r);

#endif
