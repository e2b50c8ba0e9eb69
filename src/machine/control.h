/* SPDX-License-Identifier: MIT */
/* What a running machine does on request: the rows of its control socket. */
#ifndef NESTOR_MACHINE_CONTROL_H
#define NESTOR_MACHINE_CONTROL_H

#include "machine/machine.h"

struct machine_control;

/*
 * Listens as @name, which the caller has claimed. @cfg and @m outlive it. -errno
 * with @err filled.
 */
int machine_control_start(struct machine *m, const struct machine_config *cfg, const char *name,
			  struct machine_control **out, struct error *err);
/* No request is taken any more; the machine may still run. NULL is fine. */
void machine_control_stop(struct machine_control *mc);
/* After machine_destroy(): devices may answer until then. NULL is fine. */
void machine_control_destroy(struct machine_control *mc);

#endif
