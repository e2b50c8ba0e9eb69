/* SPDX-License-Identifier: MIT */
/* What a machine has counted, as JSON: for the report at its end and for looks in between. */
#ifndef NESTOR_MACHINE_MACHINE_JSON_H
#define NESTOR_MACHINE_MACHINE_JSON_H

#include <jansson.h>

#include "machine/machine.h"

/* New references. Any thread. */
json_t *machine_routes_json(struct machine *m); /* rows: name, kind, L0, L1, refused */
json_t *machine_quirks_json(struct machine *m); /* those in effect: uses by name */
json_t *machine_exits_json(const struct machine_report *r);
/* Keys the report and the control socket share: exits, calls, routes, quirks. */
void machine_counts_json(json_t *o, struct machine *m, const struct machine_report *r);

#endif
