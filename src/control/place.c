// SPDX-License-Identifier: MIT
/* Several directories may be in use: a login session has one, a service of the same user none. */
#include "control/place.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define SUFFIX	   ".sock"
#define PLACES_MAX 4u

struct places {
	char dir[PLACES_MAX][sizeof(((struct sockaddr_un *)0)->sun_path)];
	u32 count;
};

bool control_name_valid(const char *name)
{
	size_t n = strlen(name);

	if (n == 0 || n > CONTROL_NAME_MAX || *name == '-' || *name == '.')
		return false;
	for (; *name; name++)
		if (!isalnum((unsigned char)*name) && !strchr("._-", *name))
			return false;
	return true;
}

/* One too long for a socket's address is none of ours. */
static void add(struct places *p, const char *format, const char *text, u32 uid)
{
	char *dir = p->dir[p->count];
	int n = text ? snprintf(dir, sizeof(p->dir[0]), format, text)
		     : snprintf(dir, sizeof(p->dir[0]), format, uid);

	if (n > 0 && (size_t)n + 1 + CONTROL_NAME_MAX + sizeof(SUFFIX) <= sizeof(p->dir[0]))
		p->count++;
}

/* In order of preference. NESTOR_RUNTIME_DIR stands alone: for tests. */
static void find_places(struct places *p)
{
	const char *own = getenv("NESTOR_RUNTIME_DIR"), *session = getenv("XDG_RUNTIME_DIR");

	p->count = 0;
	if (own && *own == '/') {
		add(p, "%s", own, 0);
		return;
	}
	if (session && *session == '/')
		add(p, "%s/nestor", session, 0);
	if (geteuid() == 0)
		add(p, "%s", "/run/nestor", 0);
	/* Not /tmp first: inside an incubator that is the host's, where sockets do not work. */
	add(p, "/dev/shm/nestor-%u", NULL, geteuid());
	add(p, "/tmp/nestor-%u", NULL, geteuid());
}

/* Ours alone, and no symbolic link somebody has laid. */
static int check_private(const char *dir)
{
	struct stat st;

	if (lstat(dir, &st) < 0)
		return -errno;
	if (!S_ISDIR(st.st_mode))
		return -ENOTDIR;
	return st.st_uid == geteuid() && !(st.st_mode & 077) ? 0 : -EPERM;
}

static int make_private(const char *dir)
{
	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		return -errno;
	return check_private(dir);
}

static void socket_address(struct sockaddr_un *sa, const char *dir, const char *name)
{
	memset(sa, 0, sizeof(*sa));
	sa->sun_family = AF_UNIX;
	/* Fits: add() has left room. */
	if (snprintf(sa->sun_path, sizeof(sa->sun_path), "%s/%s" SUFFIX, dir, name) < 0)
		sa->sun_path[0] = '\0';
}

int control_name_claim(const char *name)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int n, fd, ret;

	if (!control_name_valid(name))
		return -EINVAL;
	n = snprintf(sa.sun_path + 1, sizeof(sa.sun_path) - 1, "nestor-name/%u/%s", geteuid(),
		     name);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&sa,
		 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n)) < 0) {
		ret = -errno;
		close(fd);
		return ret;
	}
	return fd;
}

int control_place_create(const char *name, struct sockaddr_un *out)
{
	struct places p;
	int ret = -ENOENT;

	if (!control_name_valid(name))
		return -EINVAL;
	find_places(&p);
	for (u32 i = 0; i < p.count; i++) {
		ret = make_private(p.dir[i]);
		if (ret)
			continue;
		socket_address(out, p.dir[i], name);
		return 0;
	}
	return ret;
}

int control_place_connect(const char *name)
{
	struct sockaddr_un sa;
	struct places p;
	int fd, ret = -ENOENT;

	if (!control_name_valid(name))
		return -EINVAL;
	find_places(&p);
	for (u32 i = 0; i < p.count; i++) {
		if (check_private(p.dir[i]))
			continue;
		socket_address(&sa, p.dir[i], name);
		fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fd < 0)
			return -errno;
		if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0)
			return fd;
		/* Nobody listens: left behind. */
		if (errno != ENOENT && errno != ECONNREFUSED)
			ret = -errno;
		close(fd);
	}
	return ret;
}

void control_place_list(void (*fn)(const char *name, void *ctx), void *ctx)
{
	struct places p;

	find_places(&p);
	for (u32 i = 0; i < p.count; i++) {
		DIR *d = check_private(p.dir[i]) ? NULL : opendir(p.dir[i]);
		struct dirent *e;

		while (d && (e = readdir(d)) != NULL) {
			char *end = strrchr(e->d_name, '.');

			if (!end || strcmp(end, SUFFIX))
				continue;
			*end = '\0';
			if (control_name_valid(e->d_name))
				fn(e->d_name, ctx);
		}
		if (d)
			closedir(d);
	}
}

void control_place_clean(const char *name)
{
	/* Claimed: either it lives, or it is about to listen. */
	int claim = control_name_claim(name), fd = claim < 0 ? -1 : control_place_connect(name);
	struct sockaddr_un sa;
	struct places p;

	if (fd >= 0)
		close(fd);
	find_places(&p);
	for (u32 i = 0; claim >= 0 && fd < 0 && i < p.count; i++) {
		if (check_private(p.dir[i]))
			continue;
		socket_address(&sa, p.dir[i], name);
		unlink(sa.sun_path);
	}
	if (claim >= 0)
		close(claim);
}
