// SPDX-License-Identifier: MIT
/*
 * The daemon gets a listening socket that has a name for no longer than it takes to
 * connect to it: nobody else can. We are connected before it starts; its end, for
 * whatever reason, ends the connection.
 */
#include "backend/vhost_blk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define PROGRAM "qemu-storage-daemon"

/* A connected socket, and the one that still has to accept it. */
static int private_sockets(int *connected, int *listening)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX, .sun_path = "/tmp/nestor.XXXXXX" };
	char dir[sizeof(a.sun_path)];
	int ret = 0;

	*listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	*connected = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (*listening < 0 || *connected < 0 || !mkdtemp(a.sun_path)) {
		ret = -errno;
		goto close;
	}
	strcpy(dir, a.sun_path);
	strcat(a.sun_path, "/s");
	if (bind(*listening, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(*listening, 1) < 0 ||
	    connect(*connected, (struct sockaddr *)&a, sizeof(a)) < 0)
		ret = -errno;
	unlink(a.sun_path);
	rmdir(dir);
	if (!ret)
		return 0;
close:
	if (*listening >= 0)
		close(*listening);
	if (*connected >= 0)
		close(*connected);
	return ret;
}

/* A comma in a value is written twice. */
static void put_value(FILE *f, const char *value)
{
	for (; *value; value++) {
		if (*value == ',')
			fputc(',', f);
		fputc(*value, f);
	}
}

/* As block_file.c: the host's page cache is avoided where the file system can. */
static bool can_be_direct(const struct block_spec *spec)
{
	int fd = spec->buffered ? -1 : open(spec->path, O_RDONLY | O_DIRECT | O_CLOEXEC);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static char *file_node(const struct block_spec *spec)
{
	char *text = NULL;
	size_t bytes;
	FILE *f = open_memstream(&text, &bytes);

	if (!f)
		return NULL;
	fprintf(f,
		"driver=file,node-name=file,read-only=%s,discard=unmap,cache.direct=%s,filename=",
		spec->read_only ? "on" : "off", can_be_direct(spec) ? "on" : "off");
	put_value(f, spec->path);
	return fclose(f) ? NULL : text;
}

static int start(const struct block_spec *spec, const char *format, u32 queues, int listening,
		 struct helper **daemon)
{
	char *file = file_node(spec);
	char node[128], export[256];
	char *argv[] = {
		PROGRAM, "--blockdev", file, "--blockdev", node, "--export", export, NULL
	};
	int ret;

	if (!file)
		return -ENOMEM;
	snprintf(node, sizeof(node),
		 "driver=%s,node-name=disk,file=file,read-only=%s,discard=unmap", format,
		 spec->read_only ? "on" : "off");
	snprintf(export, sizeof(export),
		 "type=vhost-user-blk,id=export,node-name=disk,writable=%s,num-queues=%u,"
		 "addr.type=fd,addr.str=%d",
		 spec->read_only ? "off" : "on", queues, listening);
	ret = helper_start(argv, listening, daemon);
	free(file);
	return ret;
}

int vhost_blk_open(const struct block_spec *spec, u32 queues, struct vhost_user **vu,
		   struct helper **daemon, char *error, size_t error_bytes)
{
	const char *format = block_spec_format(spec);
	char why[512];
	int connected, listening, ret;

	if (!format || spec->serial[0] || spec->controller >= 0 || spec->lun >= 0) {
		snprintf(error, error_bytes,
			 "%s: a virtio disk takes a file, with ro, format= and "
			 "direct= only",
			 spec->path);
		return -EINVAL;
	}
	ret = private_sockets(&connected, &listening);
	if (ret) {
		snprintf(error, error_bytes, "%s: a socket for its server: %s", spec->path,
			 strerror(-ret));
		return ret;
	}
	ret = start(spec, format, queues, listening, daemon);
	close(listening);
	if (ret) {
		close(connected);
		snprintf(error, error_bytes, "%s: " PROGRAM ": %s%s", spec->path, strerror(-ret),
			 ret == -ENOENT ? "; it is in Debian's package qemu-utils" : "");
		return ret;
	}
	ret = vhost_user_create(connected, vu);
	if (!ret)
		return 0;
	helper_last_words(*daemon, why, sizeof(why));
	snprintf(error, error_bytes, "%s: %s", spec->path, why[0] ? why : strerror(-ret));
	helper_stop(*daemon);
	return ret;
}
