/* SPDX-License-Identifier: MIT */
/* Kernel modules by name: which files, in which order. From modules.dep, as modprobe. */
#ifndef NESTOR_MACHINE_MODULES_H
#define NESTOR_MACHINE_MODULES_H

#include "machine/error.h"

/*
 * Paths of the files for @names (NULL-terminated) and all they depend on, each
 * once, in loading order: a NULL-terminated array for modules_free(). @dir is
 * lib/modules/RELEASE. Built-in modules give no file, nor do absent ones named "-NAME". -errno with
 * @err filled; -ENOENT: no such module, or no modules.dep.
 */
int modules_resolve(const char *dir, const char *const *names, char ***paths, struct error *err);
void modules_free(char **paths);

#endif
