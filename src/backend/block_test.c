// SPDX-License-Identifier: MIT
/* Disk specifications, raw files through io_uring, locks, and images through qemu-nbd. */
#include "backend/block_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define DISK_BYTES ((u64)(4 * MIB))

static struct loop *loop;
static struct block_queue *queue;
static char dir[64];
static char path[128];

static int setup_in(const char *where)
{
	int fd;

	snprintf(dir, sizeof(dir), "%s/nestor-block-XXXXXX", where);
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/disk.img", dir);
	fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)DISK_BYTES), 0);
	close(fd);
	loop = loop_create(NULL);
	assert_int_equal(block_queue_create(loop, &queue), 0);
	return 0;
}

static int setup(void **state)
{
	return setup_in("/var/tmp");
}

/* A file system in memory has a way of its own. */
static int setup_shm(void **state)
{
	return setup_in("/dev/shm");
}

static int teardown(void **state)
{
	char command[128];

	block_queue_destroy(queue);
	loop_destroy(loop);
	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	return system(command) ? -1 : 0;
}

struct call {
	struct block_request req;
	struct iovec iov[64];
	bool done;
	int error;
};

static void call_done(struct block_request *req, int error)
{
	struct call *c = container_of(req, struct call, req);

	c->done = true;
	c->error = error;
}

static void start(struct call *c, struct block_device *dev, enum block_op op, u8 flags, u64 offset,
		  u64 bytes)
{
	c->req.op = op;
	c->req.flags = flags;
	c->req.offset = offset;
	c->req.bytes = bytes;
	c->req.iov = c->iov;
	c->req.done = call_done;
	c->done = false;
	block_submit(queue, dev, &c->req);
	assert_false(c->done); /* never from inside the submission */
}

static int wait_for(struct call *c)
{
	block_queue_flush(queue);
	while (!c->done)
		loop_iterate(loop, 5 * NS_PER_S);
	return c->error;
}

static int run(struct block_device *dev, enum block_op op, u8 flags, u64 offset, void *buf,
	       u64 bytes)
{
	struct call c = { .iov = { { buf, bytes } }, .req.iov_count = buf ? 1 : 0 };

	start(&c, dev, op, flags, offset, bytes);
	return wait_for(&c);
}

static int open_text(const char *text, struct block_device **dev)
{
	struct block_spec spec;
	char error[256] = "";
	int ret = block_spec_parse(text, &spec, error, sizeof(error));

	if (!ret)
		ret = block_open(&spec, dev, error, sizeof(error));
	if (ret)
		assert_int_not_equal(strlen(error), 0);
	block_spec_fini(&spec);
	return ret;
}

static void test_spec(void **state)
{
	struct block_spec spec;
	char error[256];

	assert_int_equal(block_spec_parse("a,,b.img,ro,format=vhdx,serial=X-1,controller=2,lun=63,"
					  "direct=off",
					  &spec, error, sizeof(error)),
			 0);
	assert_string_equal(spec.path, "a,b.img");
	assert_true(spec.read_only && spec.buffered);
	assert_int_equal(spec.format, BLOCK_FORMAT_VHDX);
	assert_string_equal(spec.serial, "X-1");
	assert_int_equal(spec.controller, 2);
	assert_int_equal(spec.lun, 63);
	block_spec_fini(&spec);

	assert_int_equal(block_spec_parse("nbd://host:10809/x", &spec, error, sizeof(error)), 0);
	assert_string_equal(spec.path, "nbd://host:10809/x");
	assert_int_equal(spec.controller, -1);
	assert_int_equal(spec.lun, -1);
	block_spec_fini(&spec);
}

static void test_spec_errors(void **state)
{
	static const char *const bad[] = {
		"",
		",ro",
		"a,",
		"a,rw",
		"a,ro=1",
		"a,format",
		"a,format=",
		"a,format=qed",
		"a,lun=64",
		"a,lun=-1",
		"a,lun=1x",
		"a,lun=",
		"a,controller=16",
		"a,serial=",
		"a,serial=a b",
		"a,direct=maybe",
		"a,serial=123456789012345678901234567890123",
	};

	for (u32 i = 0; i < ARRAY_SIZE(bad); i++) {
		struct block_spec spec;
		char error[256] = "";

		assert_int_equal(block_spec_parse(bad[i], &spec, error, sizeof(error)), -EINVAL);
		assert_int_not_equal(strlen(error), 0);
		block_spec_fini(&spec);
	}
}

static void fill(u8 *p, size_t n, u8 seed)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (u8)(seed + i * 7 + (i >> 9));
}

static void read_write(const char *options)
{
	static u8 out[128 * KIB] __attribute__((aligned(4096)));
	static u8 in[128 * KIB] __attribute__((aligned(4096)));
	struct block_device *dev;
	char text[256];

	snprintf(text, sizeof(text), "%s%s", path, options);
	assert_int_equal(open_text(text, &dev), 0);
	assert_int_equal(block_bytes(dev), DISK_BYTES);
	fill(out, sizeof(out), 1);
	assert_int_equal(run(dev, BLOCK_WRITE, 0, 512, out, sizeof(out)), 0);
	assert_int_equal(run(dev, BLOCK_FLUSH, 0, 0, NULL, 0), 0);
	assert_int_equal(run(dev, BLOCK_READ, 0, 512, in, sizeof(in)), 0);
	assert_memory_equal(in, out, sizeof(in));
	/* Memory that does not suit O_DIRECT. */
	fill(out, sizeof(out), 9);
	assert_int_equal(run(dev, BLOCK_WRITE, BLOCK_FUA, 8192, out + 4, 4096), 0);
	assert_int_equal(run(dev, BLOCK_READ, 0, 8192, in + 8, 4096), 0);
	assert_memory_equal(in + 8, out + 4, 4096);
	block_put(dev);
}

static void test_read_write(void **state)
{
	read_write("");
	read_write(",direct=off");
}

/* Many at once, scattered memory, one flush; odd elements among them. */
static void test_batch(void **state)
{
	static struct call calls[600];
	u8 *mem = aligned_alloc(4096, 600 * 4096);
	struct block_device *dev;

	assert_int_equal(open_text(path, &dev), 0);
	fill(mem, 600 * 4096, 3);
	for (u32 round = 0; round < 2; round++) {
		u8 *copy = malloc(600 * 4096);

		memcpy(copy, mem, 600 * 4096);
		if (round)
			memset(mem, 0, 600 * 4096);
		for (u32 i = 0; i < 500; i++) {
			u32 cut = i % 3 ? 2048 : 1000;

			calls[i].iov[0] = (struct iovec){ mem + i * 4096, cut };
			calls[i].iov[1] = (struct iovec){ mem + i * 4096 + cut, 4096 - cut };
			calls[i].req.iov_count = 2;
			start(&calls[i], dev, round ? BLOCK_READ : BLOCK_WRITE, 0, i * 8192, 4096);
			if (i % 100 == 99)
				block_queue_flush(queue);
		}
		for (u32 i = 0; i < 500; i++)
			assert_int_equal(wait_for(&calls[i]), 0);
		assert_int_equal(block_queue_in_flight(queue), 0);
		assert_memory_equal(mem, copy, 500 * 4096);
		free(copy);
	}
	block_put(dev);
	free(mem);
}

static void test_range_checks(void **state)
{
	u8 buf[1024];
	struct block_device *dev;
	char text[256];

	assert_int_equal(open_text(path, &dev), 0);
	assert_int_equal(run(dev, BLOCK_READ, 0, DISK_BYTES, buf, 512), -ERANGE);
	assert_int_equal(run(dev, BLOCK_READ, 0, DISK_BYTES - 512, buf, 1024), -ERANGE);
	assert_int_equal(run(dev, BLOCK_READ, 0, UINT64_MAX - 511, buf, 1024), -ERANGE);
	assert_int_equal(run(dev, BLOCK_READ, 0, 100, buf, 512), -EINVAL);
	assert_int_equal(run(dev, BLOCK_READ, 0, 0, buf, 0), 0);
	block_put(dev);
	snprintf(text, sizeof(text), "%s,ro", path);
	assert_int_equal(open_text(text, &dev), 0);
	assert_true(block_info(dev).read_only);
	assert_int_equal(run(dev, BLOCK_WRITE, 0, 0, buf, 512), -EROFS);
	assert_int_equal(run(dev, BLOCK_DISCARD, 0, 0, NULL, 512), -EROFS);
	assert_int_equal(run(dev, BLOCK_FLUSH, 0, 0, NULL, 0), 0);
	assert_int_equal(run(dev, BLOCK_READ, 0, 0, buf, 512), 0);
	block_put(dev);
}

static bool all_zero(const u8 *p, size_t n)
{
	return p[0] == 0 && memcmp(p, p + 1, n - 1) == 0;
}

static void test_discard_and_zeroes(void **state)
{
	static u8 buf[MIB] __attribute__((aligned(4096)));
	struct block_device *dev;
	struct stat before, after;
	u64 bytes;
	bool hole;

	assert_int_equal(open_text(path, &dev), 0);
	if (!block_info(dev).discard_granularity) {
		block_put(dev);
		skip();
	}
	memset(buf, 0xaa, sizeof(buf));
	for (u32 i = 0; i < 4; i++)
		assert_int_equal(run(dev, BLOCK_WRITE, 0, i * MIB, buf, MIB), 0);
	assert_int_equal(run(dev, BLOCK_FLUSH, 0, 0, NULL, 0), 0);
	stat(path, &before);
	assert_int_equal(run(dev, BLOCK_DISCARD, 0, MIB, NULL, MIB), 0);
	assert_int_equal(run(dev, BLOCK_WRITE_ZEROES, BLOCK_MAY_UNMAP, 2 * MIB, NULL, 512 * KIB),
			 0);
	assert_int_equal(run(dev, BLOCK_WRITE_ZEROES, 0, 3 * MIB + 512, NULL, 1024), 0);
	stat(path, &after);
	assert_true(after.st_blocks < before.st_blocks);
	assert_int_equal(after.st_size, before.st_size);
	assert_int_equal(run(dev, BLOCK_READ, 0, MIB, buf, MIB), 0);
	assert_true(all_zero(buf, MIB));
	assert_int_equal(run(dev, BLOCK_READ, 0, 2 * MIB, buf, MIB), 0);
	assert_true(all_zero(buf, 512 * KIB));
	assert_int_equal(buf[512 * KIB], 0xaa);
	assert_int_equal(run(dev, BLOCK_READ, 0, 3 * MIB, buf, 4096), 0);
	assert_int_equal(buf[511], 0xaa);
	assert_true(all_zero(buf + 512, 1024));
	assert_int_equal(buf[1536], 0xaa);
	bytes = DISK_BYTES;
	block_extent(dev, 0, &bytes, &hole);
	assert_false(hole);
	assert_int_equal(bytes, MIB);
	bytes = DISK_BYTES - MIB;
	block_extent(dev, MIB, &bytes, &hole);
	assert_true(hole);
	block_put(dev);
}

static void test_locks(void **state)
{
	struct block_device *a, *b;
	char ro[256];

	snprintf(ro, sizeof(ro), "%s,ro", path);
	assert_int_equal(open_text(path, &a), 0);
	assert_int_equal(open_text(path, &b), -EAGAIN);
	assert_int_equal(open_text(ro, &b), -EAGAIN);
	block_put(a);
	assert_int_equal(open_text(ro, &a), 0);
	assert_int_equal(open_text(ro, &b), 0);
	block_put(b);
	assert_int_equal(open_text(path, &b), -EAGAIN);
	block_put(a);
	assert_int_equal(open_text(path, &b), 0);
	block_put(b);
}

static void test_open_errors(void **state)
{
	struct block_device *dev;

	assert_int_equal(open_text("/nonexistent/x", &dev), -ENOENT);
	assert_int_equal(open_text(dir, &dev), -EISDIR);
	assert_int_equal(open_text("/dev/null", &dev), -EINVAL);
	assert_true(open_text("/nonexistent/x,format=qcow2", &dev) < 0);
	assert_int_equal(open_text("nbd://x,format=qcow2", &dev), -EINVAL);
}

/* Cut behind our back: an error, not old memory. And a new size is seen when asked for. */
static void test_resize(void **state)
{
	u8 buf[512];
	struct block_device *dev;

	assert_int_equal(open_text(path, &dev), 0);
	assert_int_equal(truncate(path, (off_t)MIB), 0);
	assert_int_equal(run(dev, BLOCK_READ, 0, 2 * MIB, buf, 512), -EIO);
	assert_int_equal(block_refresh(dev), 0);
	assert_int_equal(block_bytes(dev), MIB);
	assert_int_equal(run(dev, BLOCK_READ, 0, 2 * MIB, buf, 512), -ERANGE);
	assert_int_equal(truncate(path, 2 * (off_t)MIB + 100), 0);
	assert_int_equal(block_refresh(dev), 0);
	assert_int_equal(block_bytes(dev), 2 * MIB);
	block_put(dev);
}

/* A flush that failed once is never followed by one that succeeds. */
static void test_flush_failure_stays(void **state)
{
	struct block_device *dev = block_mem_create(MIB, false);
	u8 buf[512] = { 1 };

	assert_int_equal(run(dev, BLOCK_FLUSH, 0, 0, NULL, 0), 0);
	block_mem_fail(dev, BLOCK_FLUSH, -EIO);
	assert_int_equal(run(dev, BLOCK_FLUSH, 0, 0, NULL, 0), -EIO);
	block_mem_fail(dev, BLOCK_FLUSH, 0);
	assert_int_equal(run(dev, BLOCK_FLUSH, 0, 0, NULL, 0), -EIO);
	assert_int_equal(run(dev, BLOCK_WRITE, BLOCK_FUA, 0, buf, 512), -EIO);
	assert_int_equal(run(dev, BLOCK_WRITE, 0, 0, buf, 512), 0);
	assert_int_equal(run(dev, BLOCK_READ, 0, 0, buf, 512), 0);
	block_put(dev);
}

/* A host file system without room, where the test may make one. */
static void test_no_space(void **state)
{
	static u8 buf[MIB] __attribute__((aligned(4096)));
	struct block_device *dev;
	char command[512], text[256];
	int failed = 0;

	snprintf(command, sizeof(command),
		 "mkdir %s/m && mount -t tmpfs -o size=2m none %s/m 2>/dev/null && "
		 "truncate -s 8m %s/m/d",
		 dir, dir, dir);
	/* Mounts of our own vanish with this process. */
	if (geteuid() != 0 || unshare(CLONE_NEWNS) ||
	    mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) || system(command))
		skip();
	snprintf(text, sizeof(text), "%s/m/d", dir);
	assert_int_equal(open_text(text, &dev), 0);
	memset(buf, 0x5a, sizeof(buf));
	for (u32 i = 0; i < 8; i++) {
		int ret = run(dev, BLOCK_WRITE, 0, i * MIB, buf, MIB);

		assert_true(ret == 0 || ret == -ENOSPC);
		failed += ret != 0;
	}
	assert_true(failed >= 6);
	memset(buf, 0, sizeof(buf));
	assert_int_equal(run(dev, BLOCK_READ, 0, 0, buf, MIB), 0);
	assert_int_equal(buf[MIB - 1], 0x5a);
	/* Room given back is room again. */
	assert_int_equal(run(dev, BLOCK_DISCARD, 0, 0, NULL, MIB), 0);
	assert_int_equal(run(dev, BLOCK_WRITE, 0, 7 * MIB, buf, MIB / 2), 0);
	assert_int_equal(run(dev, BLOCK_FLUSH, 0, 0, NULL, 0), 0);
	block_put(dev);
	/* The kernel lets go of a closed ring's file a little later; of one that leaked, never. */
	snprintf(command, sizeof(command),
		 "for i in $(seq 100); do umount %s/m 2>/dev/null && exit; sleep 0.1; done; exit 1",
		 dir);
	assert_int_equal(system(command), 0);
}

/* The ring comes with the first that is larger than COPY_MAX. */
static void test_copies_in_memory(void **state)
{
	static u8 buf[132 * KIB] __attribute__((aligned(4096)));
	struct block_device *dev;

	assert_int_equal(open_text(path, &dev), 0);
	for (u32 i = 0; i < 10; i++)
		assert_int_equal(run(dev, BLOCK_WRITE, BLOCK_FUA, i * 4096, buf, 4096), 0);
	assert_int_equal(run(dev, BLOCK_READ, 0, 0, buf, 128 * KIB), 0);
	assert_null(queue->uring);
	assert_int_equal(queue->in_flight, 0);
	assert_int_equal(run(dev, BLOCK_READ, 0, 0, buf, sizeof(buf)), 0);
	assert_non_null(queue->uring);
	block_put(dev);
}

/* Through qemu-nbd: what was flushed is in the file when the next one opens it. */
static void test_nbd(void **state)
{
	static const char *const formats[] = { "qcow2", "vhdx", "vmdk" };
	static u8 out[64 * KIB], in[64 * KIB];
	struct block_device *dev;
	char command[512], text[256];

	if (system("command -v qemu-img >/dev/null && command -v qemu-nbd >/dev/null"))
		skip();
	for (u32 i = 0; i < ARRAY_SIZE(formats); i++) {
		struct call c = { .iov = { { out, 1024 }, { out + 1024, sizeof(out) - 1024 } },
				  .req.iov_count = 2 };

		snprintf(command, sizeof(command), "qemu-img create -q -f %s %s/i%u.%s 64M",
			 formats[i], dir, i, formats[i]);
		assert_int_equal(system(command), 0);
		snprintf(text, sizeof(text), "%s/i%u.%s%s", dir, i, formats[i],
			 i ? "" : ",format=auto");
		assert_int_equal(open_text(text, &dev), 0);
		assert_string_equal(block_info(dev).backend, "nbd");
		assert_int_equal(block_bytes(dev), 64 * MIB);
		fill(out, sizeof(out), (u8)(i + 1));
		start(&c, dev, BLOCK_WRITE, BLOCK_FUA, 33 * MIB, sizeof(out));
		assert_int_equal(wait_for(&c), 0);
		assert_int_equal(run(dev, BLOCK_DISCARD, 0, 32 * MIB, NULL, MIB), 0);
		assert_int_equal(run(dev, BLOCK_FLUSH, 0, 0, NULL, 0), 0);
		block_put(dev);
		snprintf(text, sizeof(text), "%s/i%u.%s,ro", dir, i, formats[i]);
		assert_int_equal(open_text(text, &dev), 0);
		assert_int_equal(run(dev, BLOCK_READ, 0, 33 * MIB, in, sizeof(in)), 0);
		assert_memory_equal(in, out, sizeof(in));
		assert_int_equal(run(dev, BLOCK_WRITE, 0, 0, in, 512), -EROFS);
		block_put(dev);
	}
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define M(name) cmocka_unit_test_setup_teardown(name, setup_shm, teardown)
	const struct CMUnitTest tests[] = {
		T(test_spec),
		T(test_spec_errors),
		T(test_read_write),
		T(test_batch),
		T(test_range_checks),
		T(test_discard_and_zeroes),
		T(test_locks),
		T(test_open_errors),
		T(test_resize),
		T(test_flush_failure_stays),
		T(test_no_space),
		T(test_nbd),
		M(test_read_write),
		M(test_batch),
		M(test_range_checks),
		M(test_discard_and_zeroes),
		M(test_resize),
		M(test_flush_failure_stays),
		M(test_copies_in_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
