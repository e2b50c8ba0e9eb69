/* SPDX-License-Identifier: MIT */
/* The end of a run, for people and for programs. */
#ifndef NESTOR_CLI_REPORT_H
#define NESTOR_CLI_REPORT_H

#include <stdio.h>

#include "machine/machine.h"

/* One summary line (and the panic report, if there is one), or one JSON object. */
void report_print(FILE *out, const struct machine_config *cfg, const struct machine_report *r,
		  bool json);
/* The exit status of the program for it. */
int report_status(const struct machine_report *r);

#endif
