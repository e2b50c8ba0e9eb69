// SPDX-License-Identifier: MIT
/* The cache is a plain directory tree; versions are compared as people read them. */
#include "cli/kernel_cache.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void cache_dir(char out[CACHE_PATH_BYTES])
{
	const char *own = getenv("NESTOR_CACHE"), *xdg = getenv("XDG_CACHE_HOME");
	const char *home = getenv("HOME");

	if (own && *own)
		snprintf(out, CACHE_PATH_BYTES, "%s/kernels", own);
	else if (xdg && *xdg)
		snprintf(out, CACHE_PATH_BYTES, "%s/nestor/kernels", xdg);
	else
		snprintf(out, CACHE_PATH_BYTES, "%s/.cache/nestor/kernels", home ? home : "");
}

static bool fill(const char *dir, const char *release, struct cached_kernel *out)
{
	if ((size_t)snprintf(out->image, sizeof(out->image), "%s/%s/vmlinuz", dir, release) >=
		    sizeof(out->image) ||
	    (size_t)snprintf(out->modules, sizeof(out->modules), "%s/%s/modules", dir, release) >=
		    sizeof(out->modules))
		return false;
	snprintf(out->release, sizeof(out->release), "%s", release);
	if (access(out->modules, R_OK) < 0)
		out->modules[0] = 0;
	return access(out->image, R_OK) == 0;
}

/* "6.1" means 6.1.x, not 6.12. */
static bool matches(const char *release, const char *prefix)
{
	size_t n = strlen(prefix);

	return !strncmp(release, prefix, n) &&
	       (!n || !release[n] || strchr(".-+", release[n]) || prefix[n - 1] == '.');
}

int kernel_cache_find(const char *prefix, struct cached_kernel *out, struct error *err)
{
	char dir[CACHE_PATH_BYTES];
	struct cached_kernel k;
	struct dirent *e;
	bool found = false;
	DIR *d;

	cache_dir(dir);
	d = opendir(dir);
	while (d && (e = readdir(d))) {
		if (e->d_name[0] == '.' || !matches(e->d_name, prefix) || !fill(dir, e->d_name, &k))
			continue;
		if (found && strverscmp(k.release, out->release) <= 0)
			continue;
		*out = k;
		found = true;
	}
	if (d)
		closedir(d);
	if (found)
		return 0;
	return error_set(err, -ENOENT,
			 "no kernel %s%sin %s; get the stock ones with: tools/kernels fetch",
			 prefix, *prefix ? " " : "", dir);
}

void kernel_cache_lookup(const char *image, struct cached_kernel *out)
{
	char real[CACHE_PATH_BYTES], dir[CACHE_PATH_BYTES], dep[CACHE_PATH_BYTES + 16];
	char *slash;

	*out = (struct cached_kernel){ "", "", "" };
	snprintf(out->image, sizeof(out->image), "%s", image);
	/* The modules lie beside the image, in the cache and in a directory laid out like it. */
	if (strlen(image) >= sizeof(real))
		return;
	strcpy(real, image);
	slash = strrchr(real, '/');
	if (!slash)
		return;
	*slash = 0;
	/* A kernel in /boot or /etc must not take some other "modules" for its own. */
	if ((size_t)snprintf(dir, sizeof(dir), "%s/modules", real) < sizeof(dir) &&
	    (size_t)snprintf(dep, sizeof(dep), "%s/modules.dep", dir) < sizeof(dep) &&
	    access(dep, R_OK) == 0)
		snprintf(out->modules, sizeof(out->modules), "%s", dir);
}
