// SPDX-License-Identifier: MIT
#include "machine/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int error_set(struct error *err, int ret, const char *fmt, ...)
{
	va_list ap;

	if (!err)
		return ret;
	va_start(ap, fmt);
	vsnprintf(err->text, sizeof(err->text), fmt, ap);
	va_end(ap);
	return ret;
}

int error_errno(struct error *err, int ret, const char *name)
{
	return error_set(err, ret, "%s: %s", name, strerror(-ret));
}
