/* SPDX-License-Identifier: MIT */
/* The end of a run, for people and for programs. */
#ifndef NESTOR_CLI_REPORT_H
#define NESTOR_CLI_REPORT_H

#include <jansson.h>
#include <stdio.h>

#include "machine/machine.h"

/*
 * One summary line, with the panic report, the quirks that were needed, what failed on
 * purpose and a nested root's routing table where there are such; or all of it as one JSON object.
 */
void report_print(FILE *out, const struct machine_config *cfg, struct machine *m,
		  const struct machine_report *r, bool json);
/* The table of machine_routes_json(): who served each hypercall and register. */
void routes_print(FILE *out, const json_t *routes, bool nested);
/* machine_children_json() as text, each line after @prefix; nothing if there were none. */
void children_print(FILE *out, const json_t *children, const char *prefix);
/* machine_fails_json() as text, a line each after @prefix. */
void fails_print(FILE *out, const json_t *fails, const char *prefix);
/* The exit status of the program for it. */
int report_status(const struct machine_report *r);

#endif
