// SPDX-License-Identifier: MIT
/* What the operator writes after --disk, and which back end it means. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "backend/block_impl.h"
#include "base/log.h"

static const struct format_row {
	enum block_format format;
	const char *name; /* ours and qemu-nbd's; NULL: does not name one */
	const char *suffix;
	const char *magic;
} format_rows[] = {
	{ BLOCK_FORMAT_RAW, "raw" },
	{ BLOCK_FORMAT_QCOW2, "qcow2", ".qcow2", "QFI\xfb" },
	{ BLOCK_FORMAT_VHDX, "vhdx", ".vhdx", "vhdxfile" },
	{ BLOCK_FORMAT_VMDK, "vmdk", ".vmdk", "KDMV" },
	{ BLOCK_FORMAT_VMDK, NULL, NULL, "# Disk DescriptorFile" },
	{ BLOCK_FORMAT_AUTO, "auto" },
};

static int fail(char *error, size_t bytes, const char *fmt, const char *arg)
{
	snprintf(error, bytes, fmt, arg);
	return -EINVAL;
}

static int parse_format(const char *value, struct block_spec *spec)
{
	for (u32 i = 0; i < ARRAY_SIZE(format_rows); i++) {
		if (format_rows[i].name && strcmp(value, format_rows[i].name) == 0) {
			spec->format = format_rows[i].format;
			return 0;
		}
	}
	return -EINVAL;
}

static int parse_serial(const char *value, struct block_spec *spec)
{
	size_t n = strlen(value);

	if (n == 0 || n > BLOCK_SERIAL_MAX)
		return -EINVAL;
	for (size_t i = 0; i < n; i++) /* SPC: graphic ASCII */
		if (value[i] <= ' ' || value[i] > '~')
			return -EINVAL;
	memcpy(spec->serial, value, n + 1);
	return 0;
}

static int parse_number(const char *value, int max, int *out)
{
	char *end;
	long v = strtol(value, &end, 10);

	if (*value < '0' || *value > '9' || *end || v > max)
		return -EINVAL;
	*out = (int)v;
	return 0;
}

static int parse_controller(const char *value, struct block_spec *spec)
{
	return parse_number(value, 15, &spec->controller);
}

static int parse_lun(const char *value, struct block_spec *spec)
{
	return parse_number(value, 63, &spec->lun);
}

static int parse_direct(const char *value, struct block_spec *spec)
{
	spec->buffered = strcmp(value, "off") == 0;
	return spec->buffered || strcmp(value, "on") == 0 ? 0 : -EINVAL;
}

static int parse_ro(const char *value, struct block_spec *spec)
{
	spec->read_only = true;
	return 0;
}

static const struct spec_row {
	const char *key;
	bool has_value;
	const char *wanted;
	int (*parse)(const char *value, struct block_spec *spec);
} spec_rows[] = {
	{ "ro", false, "", parse_ro },
	{ "format", true, "raw, qcow2, vhdx, vmdk or auto", parse_format },
	{ "serial", true, "1 to 32 printable characters", parse_serial },
	{ "controller", true, "a number from 0 to 15", parse_controller },
	{ "lun", true, "a number from 0 to 63", parse_lun },
	{ "direct", true, "on or off", parse_direct },
};

static int parse_option(char *item, struct block_spec *spec, char *error, size_t bytes)
{
	char *value = strchr(item, '=');

	if (value)
		*value++ = '\0';
	for (u32 i = 0; i < ARRAY_SIZE(spec_rows); i++) {
		const struct spec_row *r = &spec_rows[i];

		if (strcmp(item, r->key))
			continue;
		if (r->has_value != !!value)
			return fail(error, bytes,
				    r->has_value ? "%s= wants a value" : "%s takes no value", item);
		if (r->parse(value, spec) == 0)
			return 0;
		snprintf(error, bytes, "%s=%s: wanted %s", item, value ? value : "", r->wanted);
		return -EINVAL;
	}
	return fail(error, bytes,
		    "unknown disk option \"%s\" (ro, format=, serial=, controller=, lun=, direct=)",
		    item);
}

/* Cuts the next item off at a single comma; two stand for one. */
static char *next_item(char **text)
{
	char *start = *text, *from = start, *to = start;

	if (!start)
		return NULL;
	while (*from && !(from[0] == ',' && from[1] != ',')) {
		if (*from == ',')
			from++;
		*to++ = *from++;
	}
	*text = *from ? from + 1 : NULL;
	*to = '\0';
	return start;
}

int block_spec_parse(const char *text, struct block_spec *spec, char *error, size_t error_bytes)
{
	char *copy = strdup(text), *rest = copy, *item;
	int ret = 0;

	*spec = (struct block_spec){ .controller = -1, .lun = -1 };
	if (!copy)
		return fail(error, error_bytes, "%s", "out of memory");
	spec->path = next_item(&rest);
	spec->path = strdup(spec->path);
	if (!spec->path || !*spec->path)
		ret = fail(error, error_bytes, "%s", "a disk wants a file name first");
	while (!ret && (item = next_item(&rest)))
		ret = parse_option(item, spec, error, error_bytes);
	free(copy);
	return ret;
}

void block_spec_fini(struct block_spec *spec)
{
	free(spec->path);
	spec->path = NULL;
}

static const struct format_row *by_format(enum block_format format)
{
	for (u32 i = 0; i < ARRAY_SIZE(format_rows); i++)
		if (format_rows[i].format == format)
			return &format_rows[i];
	return &format_rows[0];
}

static const struct format_row *by_suffix(const char *path)
{
	size_t n = strlen(path);

	for (u32 i = 0; i < ARRAY_SIZE(format_rows); i++) {
		const char *s = format_rows[i].suffix;

		if (s && n > strlen(s) && strcasecmp(path + n - strlen(s), s) == 0)
			return &format_rows[i];
	}
	return &format_rows[0];
}

static const struct format_row *by_content(const char *path)
{
	char head[32] = "";
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got = fd < 0 ? 0 : pread(fd, head, sizeof(head), 0);

	if (fd >= 0)
		close(fd);
	for (u32 i = 0; i < ARRAY_SIZE(format_rows); i++) {
		const char *m = format_rows[i].magic;

		if (m && got >= (ssize_t)strlen(m) && memcmp(head, m, strlen(m)) == 0)
			return by_format(format_rows[i].format);
	}
	return &format_rows[0];
}

static bool is_address(const char *path)
{
	static const char *const schemes[] = { "nbd://", "nbd+unix://", "nbds://", "nbds+unix://" };

	for (u32 i = 0; i < ARRAY_SIZE(schemes); i++)
		if (strncmp(path, schemes[i], strlen(schemes[i])) == 0)
			return true;
	return false;
}

static const struct format_row *row_of(const struct block_spec *spec)
{
	/* Several contents may mean one format; the row with its name is wanted. */
	if (spec->format == BLOCK_FORMAT_AUTO)
		return by_format(by_content(spec->path)->format);
	return spec->format == BLOCK_FORMAT_BY_NAME ? by_suffix(spec->path)
						    : by_format(spec->format);
}

const char *block_spec_format(const struct block_spec *spec)
{
	return is_address(spec->path) ? NULL : row_of(spec)->name;
}

int block_open(const struct block_spec *spec, struct block_device **out, char *error,
	       size_t error_bytes)
{
	const struct format_row *row;

	if (is_address(spec->path)) {
		if (spec->format != BLOCK_FORMAT_BY_NAME && spec->format != BLOCK_FORMAT_RAW)
			return fail(error, error_bytes,
				    "%s: format= is the server's business with an NBD address",
				    spec->path);
		return block_nbd_open(spec, NULL, out, error, error_bytes);
	}
	row = row_of(spec);
	if (row->format != BLOCK_FORMAT_RAW)
		return block_nbd_open(spec, row->name, out, error, error_bytes);
	row = by_content(spec->path);
	if (spec->format == BLOCK_FORMAT_BY_NAME && row->format != BLOCK_FORMAT_RAW)
		log_warning("disk %s looks like %s and is used as raw; if that is wrong, add "
			    ",format=%s",
			    spec->path, row->name, row->name);
	return block_file_open(spec, out, error, error_bytes);
}
