/* SPDX-License-Identifier: MIT */
#ifndef NESTOR_CLI_DOCTOR_H
#define NESTOR_CLI_DOCTOR_H

/*
 * nestor doctor [--json]: what this host can do, what Nestor will therefore use,
 * and for each thing missing the command that installs it. Exit status 0 if
 * something can run, 1 if nothing can, 2 for a wrong option. argv[0] is "doctor".
 */
int cmd_doctor(int argc, char **argv);

#endif
