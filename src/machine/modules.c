// SPDX-License-Identifier: MIT
#include "machine/modules.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

struct list_of_paths {
	const char *dir;
	char **paths;
	size_t count;
};

static FILE *open_in(const char *dir, const char *name)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return fopen(path, "re");
}

/* A module's name is its file's without directories and suffixes; '-' and '_' are the same. */
static bool is_module(const char *file, size_t len, const char *name)
{
	const char *base = memrchr(file, '/', len);

	base = base ? base + 1 : file;
	for (; *name; name++, base++)
		if (base >= file + len ||
		    (*base == '-' ? '_' : *base) != (*name == '-' ? '_' : *name))
			return false;
	return (size_t)(file + len - base) >= 3 && !strncmp(base, ".ko", 3);
}

static int add_path(struct list_of_paths *l, const char *file, size_t len)
{
	char **bigger;
	char *path;

	if (asprintf(&path, "%s/%.*s", l->dir, (int)len, file) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < l->count; i++) {
		if (!strcmp(l->paths[i], path)) {
			free(path);
			return 0;
		}
	}
	bigger = realloc(l->paths, (l->count + 2) * sizeof(*bigger));
	if (!bigger) {
		free(path);
		return -ENOMEM;
	}
	l->paths = bigger;
	l->paths[l->count++] = path;
	l->paths[l->count] = NULL;
	return 0;
}

/* "module: dep dep ...": what stands further right is loaded earlier. */
static int add_line(struct list_of_paths *l, const char *line, size_t colon)
{
	const char *end = line + strlen(line);
	int ret = 0;

	while (!ret && end > line + colon + 1) {
		const char *word;

		while (end > line + colon + 1 && end[-1] == ' ')
			end--;
		for (word = end; word > line + colon + 1 && word[-1] != ' '; word--)
			;
		if (word < end)
			ret = add_path(l, word, (size_t)(end - word));
		end = word;
	}
	return ret ? ret : add_path(l, line, colon);
}

/* 1: found and added; 0: not there. @dep is modules.dep, its lines ended by NULs. */
static int find_in_dep(struct list_of_paths *l, const char *dep, size_t len, const char *name)
{
	for (const char *line = dep; line < dep + len; line += strlen(line) + 1) {
		const char *colon = strchr(line, ':');

		if (colon && is_module(line, (size_t)(colon - line), name))
			return add_line(l, line, (size_t)(colon - line)) ?: 1;
	}
	return 0;
}

/* All of a file, with a NUL for each line end and one more. Freed by the caller. */
static int read_lines(const char *dir, const char *name, char **out, size_t *len)
{
	FILE *f = open_in(dir, name);
	ssize_t n;
	size_t room = 0;

	*out = NULL;
	if (!f)
		return -errno;
	n = getdelim(out, &room, EOF, f); /* the delimiter, 0xFF, stands in no name */
	fclose(f);
	*len = n > 0 ? (size_t)n : 0;
	for (size_t i = 0; i < *len; i++)
		if ((*out)[i] == '\n')
			(*out)[i] = 0;
	return 0;
}

static bool is_builtin(const char *dir, const char *name)
{
	FILE *f = open_in(dir, "modules.builtin");
	char line[4096];
	bool found = false;

	while (f && !found && fgets(line, sizeof(line), f))
		found = is_module(line, strcspn(line, "\n"), name);
	if (f)
		fclose(f);
	return found;
}

/* A name that begins with '-' may be missing. */
static int resolve_one(struct list_of_paths *l, const char *dep, size_t len, const char *name,
		       struct error *err)
{
	bool may_miss = *name == '-';
	int ret = find_in_dep(l, dep, len, name + may_miss);

	if (ret < 0)
		return error_errno(err, ret, l->dir);
	if (ret == 0 && !may_miss && !is_builtin(l->dir, name))
		return error_set(err, -ENOENT, "%s: no module %s", l->dir, name);
	return 0;
}

int modules_resolve(const char *dir, const char *const *names, char ***paths, struct error *err)
{
	struct list_of_paths l = { .dir = dir, .paths = calloc(1, sizeof(char *)) };
	size_t len = 0;
	char *dep = NULL;
	int ret = l.paths ? read_lines(dir, "modules.dep", &dep, &len) : -ENOMEM;

	if (ret == -ENOENT)
		error_set(err, ret, "%s: no modules.dep there (depmod makes it)", dir);
	else if (ret)
		error_errno(err, ret, dir);
	for (; !ret && *names; names++)
		ret = resolve_one(&l, dep, len, *names, err);
	free(dep);
	if (ret) {
		modules_free(l.paths);
		return ret;
	}
	*paths = l.paths;
	return 0;
}

void modules_free(char **paths)
{
	for (char **p = paths; p && *p; p++)
		free(*p);
	free(paths);
}
