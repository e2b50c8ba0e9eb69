// SPDX-License-Identifier: MIT
/* A stand-in for the command line, for testing the incubator alone. */
#include "incubator/incubator.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
	struct incubator_config cfg = { .argv = argv + 1 };

	if (argc > 1 && strcmp(argv[1], "--prepare") == 0)
		return incubator_prepare(&cfg);
	if (argc > 3 && strcmp(argv[1], "--exec") == 0)
		return incubator_exec(strcmp(argv[2], "-") == 0 ? NULL : argv[2], argv + 3);
	if (argc < 2)
		return 2;
	return incubator_run(&cfg);
}
