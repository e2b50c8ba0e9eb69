/* SPDX-License-Identifier: MIT */
/* Commands for running instances. Each is a row of the table in main.c. */
#ifndef NESTOR_CLI_INSTANCE_CMDS_H
#define NESTOR_CLI_INSTANCE_CMDS_H

#include "cli/options.h"

int cmd_ps(const struct command *cmd, int argc, char **argv);
int cmd_stop(const struct command *cmd, int argc, char **argv);
int cmd_stat(const struct command *cmd, int argc, char **argv);
int cmd_device(const struct command *cmd, int argc, char **argv);
int cmd_kvp(const struct command *cmd, int argc, char **argv);
int cmd_freeze(const struct command *cmd, int argc, char **argv);
int cmd_copy(const struct command *cmd, int argc, char **argv);
int cmd_link(const struct command *cmd, int argc, char **argv);

extern const struct option_row ps_options[], stop_options[], stat_options[], device_options[],
	kvp_options[], freeze_options[], copy_options[], link_options[];

#endif
