// SPDX-License-Identifier: MIT
#include "vsp/fcopy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vsp/ic.h"
#include "vsp/utf16.h"

#define FCOPY_TIMEOUT_NS (60 * NS_PER_S)

enum fcopy_state { FCOPY_IDLE, FCOPY_STARTING, FCOPY_WRITING, FCOPY_COMPLETING, FCOPY_CANCELLING };

struct fcopy {
	struct ic ic;
	enum fcopy_state state;
	int fd;
	u64 size, offset; /* bytes of the file, acknowledged or under way */
	int err;	  /* what a cancelled copy ends with */
	fcopy_done_fn done;
	void *ctx;
};

static struct fcopy *of(struct ic *ic)
{
	return container_of(ic, struct fcopy, ic);
}

static void finish(struct fcopy *fc, int err)
{
	fcopy_done_fn done = fc->done;

	if (fc->state == FCOPY_IDLE)
		return;
	fc->state = FCOPY_IDLE;
	close(fc->fd);
	fc->fd = -1;
	done(fc->ctx, err);
}

static int send_simple(struct fcopy *fc, enum ic_fcopy_op op)
{
	struct ic_fcopy_header body = { .op = op };

	return ic_request(&fc->ic, &body, sizeof(body), 0);
}

static void cancel(struct fcopy *fc, int err)
{
	fc->err = err;
	fc->state = FCOPY_CANCELLING;
	if (send_simple(fc, IC_FCOPY_CANCEL))
		finish(fc, err);
}

static int send_block(struct fcopy *fc)
{
	struct ic_fcopy_write body = { .header.op = IC_FCOPY_WRITE, .offset = fc->offset };
	ssize_t n = pread(fc->fd, body.data, sizeof(body.data), (off_t)fc->offset);

	if (n < 0)
		return -EIO;
	if (n == 0) /* shorter than it was: the guest was promised more */
		return -EIO;
	body.bytes = (u32)n;
	fc->offset += (u64)n;
	return ic_request(&fc->ic, &body, sizeof(body), 0);
}

static void advance(struct fcopy *fc)
{
	int ret;

	if (fc->offset < fc->size) {
		fc->state = FCOPY_WRITING;
		ret = send_block(fc);
	} else {
		fc->state = FCOPY_COMPLETING;
		ret = send_simple(fc, IC_FCOPY_COMPLETE);
	}
	if (ret)
		cancel(fc, -EIO);
}

static int status_errno(u32 status)
{
	switch (status) {
	case IC_STATUS_OK:
		return 0;
	case IC_STATUS_EXISTS:
		return -EEXIST;
	case IC_STATUS_DISK_FULL:
		return -ENOSPC;
	default:
		return -EIO;
	}
}

static void fcopy_answer(struct ic *ic, const struct ic_header *h, const void *body, u32 bytes)
{
	struct fcopy *fc = of(ic);
	int err = h ? status_errno(h->status) : -ETIMEDOUT;

	if (!h && ic->state != IC_READY) {
		finish(fc, -ENOTCONN);
		return;
	}
	switch (fc->state) {
	case FCOPY_STARTING:
		if (err == -ETIMEDOUT)
			cancel(fc, err);
		else if (err)
			finish(fc, err); /* nothing was started */
		else
			advance(fc);
		return;
	case FCOPY_WRITING:
		if (err)
			cancel(fc, err);
		else
			advance(fc);
		return;
	case FCOPY_COMPLETING:
		finish(fc, err);
		return;
	case FCOPY_CANCELLING:
		finish(fc, fc->err);
		return;
	case FCOPY_IDLE:
		return;
	}
}

struct fcopy_call {
	struct fcopy *fc;
	struct ic_fcopy_start start;
	int fd;
	fcopy_done_fn done;
	void *ctx;
	int ret;
};

static void send_run(void *arg)
{
	struct fcopy_call *c = arg;
	struct fcopy *fc = c->fc;

	c->ret = fc->state != FCOPY_IDLE ? -EBUSY
					 : ic_request(&fc->ic, &c->start, sizeof(c->start), 0);
	if (c->ret)
		return;
	fc->state = FCOPY_STARTING;
	fc->fd = c->fd;
	fc->size = c->start.file_bytes;
	fc->offset = 0;
	fc->done = c->done;
	fc->ctx = c->ctx;
}

/* The name stands in packed storage: convert beside it. */
static int put_name(const char *text, void *to)
{
	u16 units[IC_FCOPY_PATH_MAX] = { 0 };
	int n = utf16_from_utf8(text, units, ARRAY_SIZE(units));

	memcpy(to, units, sizeof(units));
	return n < 0 ? n : 0;
}

int fcopy_send(struct fcopy *fc, int fd, const char *dir, const char *name, bool overwrite,
	       bool create_dir, fcopy_done_fn done, void *ctx)
{
	struct fcopy_call c = { .fc = fc, .fd = fd, .done = done, .ctx = ctx };
	struct stat st;

	c.start.header.op = IC_FCOPY_START;
	c.start.flags =
		(overwrite ? IC_FCOPY_OVERWRITE : 0) | (create_dir ? IC_FCOPY_CREATE_PATH : 0);
	c.ret = put_name(name, (u8 *)&c.start + offsetof(struct ic_fcopy_start, name));
	if (c.ret == 0)
		c.ret = put_name(dir, (u8 *)&c.start + offsetof(struct ic_fcopy_start, path));
	if (c.ret == 0 && fstat(fd, &st) < 0)
		c.ret = -errno;
	if (c.ret == 0 && !S_ISREG(st.st_mode))
		c.ret = -EINVAL;
	if (c.ret == 0) {
		c.start.file_bytes = (u64)st.st_size;
		loop_call(vmbus_server_loop(fc->ic.srv), send_run, &c);
	}
	if (c.ret)
		close(fd);
	return c.ret;
}

static void fcopy_destroy(void *dev)
{
	free(of(dev));
}

static const struct vmbus_device_ops fcopy_ops = IC_OPS("fcopy", IC_FCOPY_GUID, fcopy_destroy);
static const struct ic_version frameworks[] = { { 3, 0 } };
static const struct ic_version messages[] = { { 1, 1 } };
static const struct ic_kind fcopy_kind = {
	.type = IC_FCOPY,
	.framework = frameworks,
	.framework_count = ARRAY_SIZE(frameworks),
	.message = messages,
	.message_count = ARRAY_SIZE(messages),
	.timeout_ns = FCOPY_TIMEOUT_NS,
	.answer = fcopy_answer,
};

int fcopy_offer(struct vmbus_server *srv, struct fcopy **out)
{
	static const struct hv_guid instance = IC_FCOPY_INSTANCE;
	struct fcopy *fc = calloc(1, sizeof(*fc));
	int ret;

	if (!fc)
		return -ENOMEM;
	fc->fd = -1;
	ret = ic_offer(&fc->ic, srv, &fcopy_kind, &fcopy_ops, &instance);
	if (ret)
		free(fc);
	else if (out)
		*out = fc;
	return ret;
}
