/* SPDX-License-Identifier: MIT */
#ifndef NESTOR_CLI_INCUBATOR_CMD_H
#define NESTOR_CLI_INCUBATOR_CMD_H

/*
 * nestor incubator [--cpus N] [--memory SIZE] [--name NAME] -- CMD ARG...
 * nestor incubator --prepare [--cpus N] [--memory SIZE]
 * nestor incubator --exec [NAME] -- CMD ARG...
 * nestor incubator --list
 *
 * Runs any command in the incubator. The exit status is the command's; 125 to
 * 127 if it could not be run, 2 for a wrong option. argv[0] is "incubator".
 */
int cmd_incubator(int argc, char **argv);

#endif
