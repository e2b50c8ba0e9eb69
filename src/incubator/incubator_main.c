// SPDX-License-Identifier: MIT
/* A stand-in for the command line, for testing the incubator alone. */
#include "cli/doctor.h"
#include "cli/incubator_cmd.h"

#include <string.h>

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "doctor") == 0)
		return cmd_doctor(argc - 1, argv + 1);
	if (argc > 1 && strcmp(argv[1], "incubator") == 0)
		return cmd_incubator(argc - 1, argv + 1);
	return 2;
}
