// SPDX-License-Identifier: MIT
/* Commands against a disk and a drive in memory: answers, sense, and what reaches the image. */
#include "vsp/scsi.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define DISK_BYTES ((u64)(2 * MIB))

static struct loop *loop;
static struct block_queue *queue;
static struct scsi_bus bus;
static struct block_device *dev;
static u8 data[64 * KIB];
static struct scsi_request req;
static struct iovec iov[3];
static u32 done_count;

static int setup(void **state)
{
	struct scsi_lun_config cfg = { .serial = "SN1", .identity = 0x123456789abcdef0ull };
	struct scsi_lun_config cd = { .identity = 0xfedcba9876543210ull };

	loop = loop_create(NULL);
	assert_int_equal(block_queue_create(loop, &queue), 0);
	scsi_bus_init(&bus);
	dev = block_mem_create(DISK_BYTES, false);
	assert_int_equal(scsi_bus_attach(&bus, 0, scsi_disk_create(dev, &cfg)), 0);
	assert_int_equal(scsi_bus_attach(&bus, 5, scsi_cdrom_create(NULL, &cd)), 0);
	return 0;
}

static int teardown(void **state)
{
	scsi_bus_fini(&bus);
	block_queue_destroy(queue);
	block_put(dev);
	loop_destroy(loop);
	return 0;
}

static void done(struct scsi_request *r)
{
	done_count++;
}

/* Runs a command with @bytes of data[] as the initiator's memory, in three odd pieces. */
static void start(u8 lun, enum scsi_direction direction, u32 bytes, const u8 *cdb, u32 cdb_bytes)
{
	u32 a = bytes / 3, b = bytes / 5;

	memset(&req, 0, sizeof(req));
	iov[0] = (struct iovec){ data, a };
	iov[1] = (struct iovec){ data + a, b };
	iov[2] = (struct iovec){ data + a + b, bytes - a - b };
	req.bus = &bus;
	req.lun = lun;
	memcpy(req.cdb, cdb, cdb_bytes);
	req.direction = direction;
	req.data_bytes = bytes;
	req.iov = iov;
	req.iov_count = bytes ? 3 : 0;
	req.queue = queue;
	req.done = done;
	done_count = 0;
	scsi_execute(&req);
	block_queue_flush(queue);
}

static u32 sense_of(const struct scsi_request *r)
{
	if (r->status != SCSI_CHECK_CONDITION)
		return 0;
	assert_int_equal(r->sense[0], 0x70);
	assert_int_equal(r->moved, 0);
	return SCSI_SENSE(r->sense[2], r->sense[12], r->sense[13]);
}

static u32 result(void)
{
	assert_int_equal(done_count, 1);
	assert_null(req.param);
	assert_null(req.dev);
	assert_null(req.unit);
	return sense_of(&req);
}

#define RUN(lun, direction, bytes, ...)                                                            \
	({                                                                                         \
		static const u8 cdb_[] = { __VA_ARGS__ };                                          \
		start(lun, direction, bytes, cdb_, sizeof(cdb_));                                  \
		result();                                                                          \
	})
#define IN(bytes, ...)	RUN(0, SCSI_DATA_IN, bytes, __VA_ARGS__)
#define OUT(bytes, ...) RUN(0, SCSI_DATA_OUT, bytes, __VA_ARGS__)
#define NONE(...)	RUN(0, SCSI_DATA_NONE, 0, __VA_ARGS__)
#define CD(bytes, ...)	RUN(5, SCSI_DATA_IN, bytes, __VA_ARGS__)

static void test_inquiry(void **state)
{
	assert_int_equal(IN(36, SCSI_INQUIRY, 0, 0, 0, 36), 0);
	assert_int_equal(req.moved, 36);
	assert_int_equal(data[0], 0);
	assert_int_equal(data[2], 5);
	assert_int_equal(data[4], 31);
	assert_memory_equal(data + 8, "Msft    Virtual Disk    1.0 ", 28);
	assert_int_equal(IN(64, SCSI_INQUIRY, 0, 0, 0, 5), 0);
	assert_int_equal(req.moved, 5); /* allocation length */
	assert_int_equal(IN(7, SCSI_INQUIRY, 0, 0, 0, 36), 0);
	assert_int_equal(req.moved, 7); /* memory */
	assert_int_equal(IN(36, SCSI_INQUIRY, 0, 1, 0, 36), SCSI_SENSE_INVALID_FIELD);
}

static void test_vpd(void **state)
{
	static const u8 supported[] = { 0, 0, 0, 6, 0x00, 0x80, 0x83, 0xb0, 0xb1, 0xb2 };

	assert_int_equal(IN(255, SCSI_INQUIRY, 1, 0, 0, 255), 0);
	assert_int_equal(req.moved, sizeof(supported));
	assert_memory_equal(data, supported, sizeof(supported));
	assert_int_equal(IN(255, SCSI_INQUIRY, 1, 0x80, 0, 255), 0);
	assert_memory_equal(data, "\0\x80\0\x03SN1", 7);
	assert_int_equal(IN(255, SCSI_INQUIRY, 1, 0x83, 0, 255), 0);
	assert_int_equal(get_be16(data + 2) + 4, req.moved);
	assert_memory_equal(data + 4, "\x02\x01\0\x0bMsft    SN1\x01\x03\0\x08", 19);
	assert_int_equal(data[23] >> 4, 3);
	assert_int_equal(IN(255, SCSI_INQUIRY, 1, 0xb0, 0, 255), 0);
	assert_int_equal(req.moved, 64);
	assert_int_equal(get_be32(data + 8), 2048);
	assert_int_equal(get_be32(data + 20), 0x800000);
	assert_int_equal(IN(255, SCSI_INQUIRY, 1, 0xb1, 0, 255), 0);
	assert_int_equal(get_be16(data + 4), 1);
	assert_int_equal(IN(255, SCSI_INQUIRY, 1, 0xb2, 0, 255), 0);
	assert_int_equal(data[5], 0xe4);
	/* Not there: an error, and no byte of an answer. */
	assert_int_equal(IN(255, SCSI_INQUIRY, 1, 0x89, 0, 255), SCSI_SENSE_INVALID_FIELD);
	assert_int_equal(req.moved, 0);
}

static void test_absent(void **state)
{
	assert_int_equal(RUN(3, SCSI_DATA_IN, 36, SCSI_INQUIRY, 0, 0, 0, 36), 0);
	assert_int_equal(req.outcome, SCSI_DONE);
	assert_int_equal(data[0], 0x7f);
	RUN(3, SCSI_DATA_NONE, 0, SCSI_TEST_UNIT_READY);
	assert_int_equal(req.outcome, SCSI_NO_UNIT);
	RUN(255, SCSI_DATA_NONE, 0, SCSI_TEST_UNIT_READY);
	assert_int_equal(req.outcome, SCSI_NO_UNIT);
	RUN(3, SCSI_DATA_IN, 255, SCSI_INQUIRY, 1, 0x83, 0, 255);
	assert_int_equal(req.outcome, SCSI_NO_UNIT);
	assert_int_equal(scsi_bus_detach(&bus, 0), 0);
	assert_int_equal(scsi_bus_detach(&bus, 0), -ENOENT);
	assert_int_equal(scsi_bus_detach(&bus, 64), -ENOENT);
	/* Units are found although there is no unit 0. */
	assert_int_equal(IN(64, SCSI_REPORT_LUNS, 0, 0, 0, 0, 0, 0, 0, 0, 64), 0);
	assert_int_equal(get_be32(data), 8);
	assert_int_equal(data[9], 5);
}

static void test_report_luns(void **state)
{
	assert_int_equal(IN(64, SCSI_REPORT_LUNS, 0, 0, 0, 0, 0, 0, 0, 0, 64), 0);
	assert_int_equal(req.moved, 24);
	assert_int_equal(get_be32(data), 16);
	assert_int_equal(data[9], 0);
	assert_int_equal(data[17], 5);
	assert_int_equal(IN(64, SCSI_REPORT_LUNS, 0, 9, 0, 0, 0, 0, 0, 0, 64),
			 SCSI_SENSE_INVALID_FIELD);
}

static void test_mode_sense(void **state)
{
	assert_int_equal(IN(255, SCSI_MODE_SENSE_6, 0, 0x08, 0, 255), 0);
	assert_int_equal(req.moved, 24);
	assert_int_equal(data[0], 23);
	assert_int_equal(data[2], 0x10);
	assert_memory_equal(data + 4, "\x08\x12\x04", 3);
	assert_int_equal(IN(255, SCSI_MODE_SENSE_6, 0, 0x48, 0, 255), 0);
	assert_int_equal(data[6], 0); /* not changeable */
	assert_int_equal(IN(4, SCSI_MODE_SENSE_6, 0, 0x3f, 0, 4), 0);
	assert_int_equal(req.moved, 4);
	assert_int_equal(IN(255, SCSI_MODE_SENSE_10, 0, 0x3f, 0, 0, 0, 0, 0, 255), 0);
	assert_int_equal(get_be16(data) + 2, req.moved);
	assert_int_equal(req.moved, 8 + 20 + 12);
	assert_int_equal(IN(255, SCSI_MODE_SENSE_6, 0, 0x1c, 0, 255), SCSI_SENSE_INVALID_FIELD);
	assert_int_equal(IN(255, SCSI_MODE_SENSE_6, 0, 0x0a, 5, 255), SCSI_SENSE_INVALID_FIELD);
	assert_int_equal(IN(255, SCSI_MODE_SENSE_6, 0, 0xc8, 0, 255), SCSI_SENSE(5, 0x39, 0));
}

static void test_capacity(void **state)
{
	assert_int_equal(IN(8, SCSI_READ_CAPACITY_10), 0);
	assert_int_equal(get_be32(data), 4095);
	assert_int_equal(get_be32(data + 4), 512);
	assert_int_equal(IN(32, 0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32), 0);
	assert_int_equal(req.moved, 32);
	assert_int_equal(get_be64(data), 4095);
	assert_int_equal(data[14], 0xc0);
	assert_int_equal(IN(32, 0x9e, 0x11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32),
			 SCSI_SENSE_INVALID_FIELD);
	assert_int_equal(IN(24, 0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 24), 0);
	assert_int_equal(get_be64(data + 8), 8);
	assert_int_equal(get_be32(data + 16), 4088);
	assert_int_equal(data[20], 0);
	assert_int_equal(IN(24, 0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 24),
			 SCSI_SENSE_LBA_RANGE);
}

static void test_transfer_lengths(void **state)
{
	u8 *image = block_mem_data(dev);

	for (u32 i = 0; i < 8 * 512; i++)
		image[i] = (u8)(i >> 9);
	assert_int_equal(IN(1024, SCSI_READ_6, 0, 0, 1, 2), 0);
	assert_int_equal(data[0] << 8 | data[512], 0x102);
	assert_int_equal(IN(512, SCSI_READ_10, 0, 0, 0, 0, 3, 0, 0, 1), 0);
	assert_int_equal(data[511], 3);
	assert_int_equal(IN(512, SCSI_READ_12, 0, 0, 0, 0, 4, 0, 0, 0, 1), 0);
	assert_int_equal(data[511], 4);
	assert_int_equal(IN(512, SCSI_READ_16, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 1), 0);
	assert_int_equal(data[511], 5);
	assert_int_equal(req.moved, 512);
	/* More memory than data: only the data is moved and counted. */
	memset(data, 0xee, sizeof(data));
	assert_int_equal(IN(2048, SCSI_READ_10, 0, 0, 0, 0, 6, 0, 0, 1), 0);
	assert_int_equal(req.moved, 512);
	assert_int_equal(data[511] << 8 | data[512], 0x6ee);
	/* Less: refused as a whole. */
	assert_int_equal(IN(512, SCSI_READ_10, 0, 0, 0, 0, 6, 0, 0, 2), SCSI_SENSE_INVALID_FIELD);
	assert_int_equal(req.outcome, SCSI_SHORT);
	assert_int_equal(IN(0, SCSI_READ_10, 0, 0, 0, 0, 6, 0, 0, 0), 0);
	assert_int_equal(req.moved, 0);
	/* Against the command's direction. */
	assert_int_equal(OUT(512, SCSI_READ_10, 0, 0, 0, 0, 3, 0, 0, 1), SCSI_SENSE_INVALID_FIELD);
	assert_int_equal(IN(512, SCSI_WRITE_10, 0, 0, 0, 0, 3, 0, 0, 1), SCSI_SENSE_INVALID_FIELD);
	/* 6 byte commands: 0 is 256 blocks. */
	assert_int_equal(IN(512, SCSI_READ_6, 0, 0, 0, 0), SCSI_SENSE_INVALID_FIELD);
	assert_int_equal(req.outcome, SCSI_SHORT);
}

static void test_ranges(void **state)
{
	assert_int_equal(IN(512, SCSI_READ_10, 0, 0, 0, 0x10, 0, 0, 0, 1), SCSI_SENSE_LBA_RANGE);
	assert_int_equal(IN(1024, SCSI_READ_10, 0, 0, 0, 0x0f, 0xff, 0, 0, 2),
			 SCSI_SENSE_LBA_RANGE);
	assert_int_equal(IN(512, SCSI_READ_10, 0, 0, 0, 0x0f, 0xff, 0, 0, 1), 0);
	assert_int_equal(OUT(512, SCSI_WRITE_16, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
			     0, 0, 0, 1),
			 SCSI_SENSE_LBA_RANGE);
	assert_int_equal(OUT(512, SCSI_WRITE_16, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff),
			 SCSI_SENSE_LBA_RANGE);
	assert_int_equal(IN(512, SCSI_READ_10, 0x20, 0, 0, 0, 0, 0, 0, 1),
			 SCSI_SENSE_INVALID_FIELD);
	assert_int_equal(block_mem_count(dev, BLOCK_READ), 1);
	assert_int_equal(block_mem_count(dev, BLOCK_WRITE), 0);
}

static void test_write_and_flush(void **state)
{
	memset(data, 0x77, 4096);
	assert_int_equal(OUT(4096, SCSI_WRITE_10, 0, 0, 0, 0, 8, 0, 0, 8), 0);
	assert_int_equal(req.moved, 4096);
	assert_memory_equal(block_mem_data(dev) + 4096, data, 4096);
	assert_int_equal(block_mem_fua_count(dev), 0);
	assert_int_equal(OUT(512, SCSI_WRITE_10, 0x08, 0, 0, 0, 8, 0, 0, 1), 0);
	assert_int_equal(OUT(512, SCSI_WRITE_16, 0x08, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1), 0);
	assert_int_equal(OUT(512, SCSI_WRITE_12, 0x08, 0, 0, 0, 8, 0, 0, 0, 1), 0);
	assert_int_equal(block_mem_fua_count(dev), 3);
	assert_int_equal(OUT(512, SCSI_WRITE_6, 0, 0, 8, 1), 0);
	assert_int_equal(block_mem_fua_count(dev), 3);
	assert_int_equal(NONE(SCSI_SYNCHRONIZE_CACHE_10), 0);
	assert_int_equal(NONE(SCSI_SYNCHRONIZE_CACHE_16), 0);
	assert_int_equal(NONE(SCSI_START_STOP_UNIT, 0, 0, 0, 0), 0);
	assert_int_equal(block_mem_count(dev, BLOCK_FLUSH), 3);
	assert_int_equal(NONE(SCSI_VERIFY_10, 0, 0, 0, 0, 8, 0, 0, 1), 0);
	assert_int_equal(NONE(SCSI_VERIFY_10, 2, 0, 0, 0, 8, 0, 0, 1), SCSI_SENSE_INVALID_FIELD);
}

/* The flush has not completed before the image says so. */
static void test_flush_waits(void **state)
{
	static const u8 flush[] = { SCSI_SYNCHRONIZE_CACHE_10 };

	block_mem_hold(dev, true);
	start(0, SCSI_DATA_NONE, 0, flush, sizeof(flush));
	assert_int_equal(done_count, 0);
	block_mem_release(dev);
	loop_run_ready(loop);
	assert_int_equal(result(), 0);
}

static void put_unmap(u32 count, u64 lba, u32 blocks)
{
	memset(data, 0, 8 + 16 * count);
	put_be16(data, (u16)(6 + 16 * count));
	put_be16(data + 2, (u16)(16 * count));
	for (u32 i = 0; i < count; i++) {
		put_be64(data + 8 + 16 * i, lba + 16 * i);
		put_be32(data + 16 + 16 * i, blocks);
	}
}

static void test_unmap(void **state)
{
	u8 *image = block_mem_data(dev);

	memset(image, 0xff, DISK_BYTES);
	put_unmap(2, 8, 4);
	assert_int_equal(OUT(40, SCSI_UNMAP, 0, 0, 0, 0, 0, 0, 0, 40), 0);
	assert_int_equal(block_mem_count(dev, BLOCK_DISCARD), 2);
	assert_int_equal(image[8 * 512 - 1], 0xff);
	assert_int_equal(image[8 * 512] | image[12 * 512 - 1], 0);
	assert_int_equal(image[12 * 512], 0xff);
	assert_int_equal(image[24 * 512] | image[28 * 512 - 1], 0);
	/* One descriptor is out of range: none is done. */
	put_unmap(2, 4090, 4);
	assert_int_equal(OUT(40, SCSI_UNMAP, 0, 0, 0, 0, 0, 0, 0, 40), SCSI_SENSE_LBA_RANGE);
	assert_int_equal(image[4090 * 512], 0xff);
	/* Lengths that lie: only what is there counts. */
	put_unmap(2, 0, 0);
	put_be16(data + 2, 0xffff);
	assert_int_equal(OUT(24, SCSI_UNMAP, 0, 0, 0, 0, 0, 0, 0xff, 0xff), 0);
	assert_int_equal(OUT(4, SCSI_UNMAP, 0, 0, 0, 0, 0, 0, 0, 24), SCSI_SENSE_LIST_LENGTH);
	assert_int_equal(OUT(0, SCSI_UNMAP, 0, 0, 0, 0, 0, 0, 0, 0), 0);
	put_unmap(257, 0, 1);
	assert_int_equal(OUT(8 + 257 * 16, SCSI_UNMAP, 0, 0, 0, 0, 0, 0, 0xff, 0xff),
			 SCSI_SENSE_INVALID_LIST);
	block_mem_fail(dev, BLOCK_DISCARD, -EOPNOTSUPP);
	put_unmap(2, 8, 4);
	assert_int_equal(OUT(40, SCSI_UNMAP, 0, 0, 0, 0, 0, 0, 0, 40), 0);
	block_mem_fail(dev, BLOCK_DISCARD, -EIO);
	assert_int_equal(OUT(40, SCSI_UNMAP, 0, 0, 0, 0, 0, 0, 0, 40), SCSI_SENSE_WRITE_ERROR);
}

static void test_write_same(void **state)
{
	u8 *image = block_mem_data(dev);

	memset(image, 0xff, DISK_BYTES);
	memset(data, 0, 512);
	assert_int_equal(OUT(512, SCSI_WRITE_SAME_16, 8, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 4), 0);
	assert_int_equal(block_mem_count(dev, BLOCK_WRITE_ZEROES), 1);
	assert_int_equal(image[1023] << 8 | image[1024], 0xff00);
	assert_int_equal(image[6 * 512 - 1] << 8 | image[6 * 512], 0xff);
	/* No data-out buffer: zeroes. */
	assert_int_equal(NONE(SCSI_WRITE_SAME_16, 1, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 1), 0);
	assert_int_equal(image[8 * 512], 0);
	/* A pattern, longer than the buffer it is written from. */
	for (u32 i = 0; i < 512; i++)
		data[i] = (u8)i;
	assert_int_equal(OUT(512, SCSI_WRITE_SAME_10, 0, 0, 0, 0, 16, 0, 2, 1), 0);
	assert_int_equal(block_mem_count(dev, BLOCK_WRITE), 3);
	for (u32 b = 16; b < 16 + 513; b++)
		assert_memory_equal(image + b * 512, data, 512);
	assert_int_equal(image[(16 + 513) * 512], 0xff);
	/* The image can not write zeroes: written the long way. */
	block_mem_fail(dev, BLOCK_WRITE_ZEROES, -EOPNOTSUPP);
	memset(data, 0, 512);
	assert_int_equal(OUT(512, SCSI_WRITE_SAME_10, 0, 0, 0, 0, 16, 0, 0, 4), 0);
	assert_int_equal(image[16 * 512] | image[20 * 512 - 1], 0);
	assert_int_equal(image[20 * 512 + 1], 1);

	assert_int_equal(OUT(512, SCSI_WRITE_SAME_10, 0, 0, 0, 0, 16, 0, 0, 0),
			 SCSI_SENSE_INVALID_FIELD);
	assert_int_equal(OUT(100, SCSI_WRITE_SAME_10, 0, 0, 0, 0, 16, 0, 0, 1),
			 SCSI_SENSE_INVALID_FIELD);
	assert_int_equal(req.outcome, SCSI_SHORT);
	assert_int_equal(OUT(512, SCSI_WRITE_SAME_10, 0, 0, 0, 0x0f, 0xff, 0, 0, 2),
			 SCSI_SENSE_LBA_RANGE);
}

static void test_host_errors(void **state)
{
	static const struct {
		int error;
		u32 read, write;
	} rows[] = {
		{ -EIO, SCSI_SENSE_READ_ERROR, SCSI_SENSE_WRITE_ERROR },
		{ -ENOSPC, SCSI_SENSE_NO_SPACE, SCSI_SENSE_NO_SPACE },
		{ -EDQUOT, SCSI_SENSE_NO_SPACE, SCSI_SENSE_NO_SPACE },
		{ -ENXIO, SCSI_SENSE_READ_ERROR, SCSI_SENSE_WRITE_ERROR },
	};

	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		block_mem_fail(dev, BLOCK_READ, rows[i].error);
		block_mem_fail(dev, BLOCK_WRITE, rows[i].error);
		assert_int_equal(IN(512, SCSI_READ_10, 0, 0, 0, 0, 0, 0, 0, 1), rows[i].read);
		assert_int_equal(OUT(512, SCSI_WRITE_10, 0, 0, 0, 0, 0, 0, 0, 1), rows[i].write);
	}
	block_mem_fail(dev, BLOCK_READ, -EAGAIN);
	assert_int_equal(IN(512, SCSI_READ_10, 0, 0, 0, 0, 0, 0, 0, 1), 0);
	assert_int_equal(req.status, SCSI_BUSY);
	block_mem_fail(dev, BLOCK_FLUSH, -ENOSPC);
	assert_int_equal(NONE(SCSI_SYNCHRONIZE_CACHE_10), SCSI_SENSE_WRITE_ERROR);
	block_mem_fail(dev, BLOCK_FLUSH, 0);
	/* The guest tries again, as Linux does: still no. */
	assert_int_equal(NONE(SCSI_SYNCHRONIZE_CACHE_10), SCSI_SENSE_WRITE_ERROR);
}

static void test_unknown(void **state)
{
	assert_int_equal(NONE(SCSI_PERSISTENT_RESERVE_IN), SCSI_SENSE_INVALID_OPCODE);
	assert_int_equal(NONE(0xff), SCSI_SENSE_INVALID_OPCODE);
	assert_int_equal(NONE(SCSI_PREVENT_ALLOW_MEDIUM_REMOVAL), SCSI_SENSE_INVALID_OPCODE);
	/* Every opcode gets exactly one answer. */
	for (u32 op = 0; op < 256; op++) {
		u8 cdb[16] = { (u8)op };

		start(0, SCSI_DATA_IN, 512, cdb, sizeof(cdb));
		result();
		start(5, SCSI_DATA_IN, 512, cdb, sizeof(cdb));
		result();
	}
}

static void test_read_only(void **state)
{
	struct block_device *ro = block_mem_create(MIB, true);
	struct scsi_lun_config cfg = { .identity = 1 };

	assert_int_equal(scsi_bus_attach(&bus, 1, scsi_disk_create(ro, &cfg)), 0);
	block_put(ro);
	assert_int_equal(RUN(1, SCSI_DATA_IN, 255, SCSI_MODE_SENSE_6, 0, 0x08, 0, 255), 0);
	assert_int_equal(data[2], 0x90);
	assert_int_equal(data[6], 0);
	assert_int_equal(RUN(1, SCSI_DATA_OUT, 512, SCSI_WRITE_10, 0, 0, 0, 0, 0, 0, 0, 1),
			 SCSI_SENSE_WRITE_PROTECTED);
	assert_int_equal(RUN(1, SCSI_DATA_OUT, 24, SCSI_UNMAP, 0, 0, 0, 0, 0, 0, 0, 24),
			 SCSI_SENSE_WRITE_PROTECTED);
	assert_int_equal(RUN(1, SCSI_DATA_IN, 512, SCSI_READ_10, 0, 0, 0, 0, 0, 0, 0, 1), 0);
	assert_int_equal(RUN(1, SCSI_DATA_NONE, 0, SCSI_SYNCHRONIZE_CACHE_10), 0);
	assert_int_equal(RUN(1, SCSI_DATA_IN, 255, SCSI_INQUIRY, 1, 0xb2, 0, 255), 0);
	assert_int_equal(data[5], 0);
}

static void test_resize(void **state)
{
	block_mem_resize(dev, MIB);
	/* Not on commands that report no attention; then once; then it is over. */
	assert_int_equal(IN(36, SCSI_INQUIRY, 0, 0, 0, 36), 0);
	assert_int_equal(IN(512, SCSI_READ_10, 0, 0, 0, 0, 0, 0, 0, 1), SCSI_SENSE_CAPACITY_CHANGE);
	assert_int_equal(IN(512, SCSI_READ_10, 0, 0, 0, 0, 0, 0, 0, 1), 0);
	assert_int_equal(IN(8, SCSI_READ_CAPACITY_10), 0);
	assert_int_equal(get_be32(data), 2047);
	assert_int_equal(IN(512, SCSI_READ_10, 0, 0, 0, 0x08, 0, 0, 0, 1), SCSI_SENSE_LBA_RANGE);
}

/* A unit taken away ends what runs in it, and its image closes after that. */
static void test_detach_while_busy(void **state)
{
	static const u8 read[] = { SCSI_READ_10, 0, 0, 0, 0, 0, 0, 0, 1 };

	block_mem_hold(dev, true);
	start(0, SCSI_DATA_IN, 512, read, sizeof(read));
	assert_int_equal(scsi_bus_detach(&bus, 0), 0);
	assert_int_equal(done_count, 0);
	block_mem_release(dev);
	loop_run_ready(loop);
	assert_int_equal(result(), 0);
	assert_int_equal(req.moved, 512);
}

static void test_cdrom_empty(void **state)
{
	assert_int_equal(CD(36, SCSI_INQUIRY, 0, 0, 0, 36), 0);
	assert_int_equal(data[0], 5);
	assert_int_equal(data[1], 0x80);
	assert_int_equal(CD(0, SCSI_TEST_UNIT_READY), SCSI_SENSE_NO_MEDIUM);
	assert_int_equal(CD(8, SCSI_READ_CAPACITY_10), SCSI_SENSE_NO_MEDIUM);
	assert_int_equal(CD(255, SCSI_MODE_SENSE_6, 0, 0x2a, 0, 128), 0);
	assert_int_equal(data[4], 0x2a);
	assert_int_equal(CD(64, SCSI_GET_CONFIGURATION, 0, 0, 0, 0, 0, 0, 0, 64), 0);
	assert_int_equal(get_be32(data) + 4, req.moved);
	assert_int_equal(get_be16(data + 6), 0);
	assert_int_equal(CD(8, SCSI_GET_EVENT_STATUS, 1, 0, 0, 0x10, 0, 0, 0, 8), 0);
	assert_int_equal(data[5], 0);
}

static void test_cdrom_medium(void **state)
{
	struct block_device *disc = block_mem_create(MIB, true);
	struct scsi_lun *drive = scsi_bus_get(&bus, 5);

	assert_int_equal(scsi_cdrom_change(drive, disc, false), 0);
	assert_int_equal(CD(8, SCSI_GET_EVENT_STATUS, 1, 0, 0, 0x10, 0, 0, 0, 8), 0);
	assert_memory_equal(data, "\0\x06\x04\x10\x02\x02", 6); /* new medium, there */
	assert_int_equal(CD(0, SCSI_TEST_UNIT_READY), SCSI_SENSE_MEDIUM_CHANGED);
	assert_int_equal(CD(0, SCSI_TEST_UNIT_READY), 0);
	assert_int_equal(CD(8, SCSI_READ_CAPACITY_10), 0);
	assert_int_equal(get_be32(data), 511);
	assert_int_equal(get_be32(data + 4), 2048);
	block_mem_data(disc)[2048 * 7] = 0x42;
	assert_int_equal(CD(2048, SCSI_READ_10, 0, 0, 0, 0, 7, 0, 0, 1), 0);
	assert_int_equal(data[0], 0x42);
	assert_int_equal(CD(2048, SCSI_READ_12, 0, 0, 0, 2, 0, 0, 0, 0, 1), SCSI_SENSE_LBA_RANGE);
	assert_int_equal(CD(20, SCSI_READ_TOC, 0, 0, 0, 0, 0, 0, 0, 20), 0);
	assert_int_equal(req.moved, 20);
	assert_int_equal(get_be32(data + 16), 512);
	assert_int_equal(CD(20, SCSI_READ_TOC, 2, 0, 0, 0, 0, 0xaa, 0, 20), 0);
	assert_memory_equal(data + 8, "\0\0\x08\x3e", 4); /* (512 + 150) frames */
	assert_int_equal(CD(20, SCSI_READ_TOC, 0, 1, 0, 0, 0, 0, 0, 20), 0);
	assert_int_equal(req.moved, 12);
	assert_int_equal(CD(34, SCSI_READ_DISC_INFORMATION, 0, 0, 0, 0, 0, 0, 0, 34), 0);
	assert_int_equal(CD(36, SCSI_READ_TRACK_INFORMATION, 1, 0, 0, 0, 1, 0, 0, 36), 0);
	assert_int_equal(get_be32(data + 24), 512);
	assert_int_equal(CD(64, SCSI_GET_CONFIGURATION, 2, 0, 0x1e, 0, 0, 0, 0, 64), 0);
	assert_int_equal(get_be16(data + 6), 8);
	assert_int_equal(data[10] & 1, 1);

	/* Locked: neither side opens the tray, but the guest hears of the wish. */
	assert_int_equal(CD(0, SCSI_PREVENT_ALLOW_MEDIUM_REMOVAL, 0, 0, 0, 1), 0);
	assert_int_equal(CD(0, SCSI_START_STOP_UNIT, 0, 0, 0, 2), SCSI_SENSE_REMOVAL_DENIED);
	assert_int_equal(scsi_cdrom_change(drive, NULL, false), -EBUSY);
	assert_int_equal(CD(8, SCSI_GET_EVENT_STATUS, 1, 0, 0, 0x10, 0, 0, 0, 8), 0);
	assert_int_equal(data[4], 1);
	assert_int_equal(CD(0, SCSI_PREVENT_ALLOW_MEDIUM_REMOVAL), 0);
	assert_int_equal(CD(0, SCSI_START_STOP_UNIT, 0, 0, 0, 2), 0);
	assert_int_equal(CD(0, SCSI_TEST_UNIT_READY), SCSI_SENSE_NO_MEDIUM);
	assert_int_equal(CD(8, SCSI_GET_EVENT_STATUS, 1, 0, 0, 0x10, 0, 0, 0, 8), 0);
	assert_memory_equal(data + 4, "\x03\x01", 2); /* removed, tray open */
	assert_int_equal(CD(0, SCSI_START_STOP_UNIT, 0, 0, 0, 3), 0);
	assert_int_equal(CD(0, SCSI_TEST_UNIT_READY), SCSI_SENSE_MEDIUM_CHANGED);
	assert_int_equal(CD(0, SCSI_TEST_UNIT_READY), 0);
	assert_int_equal(scsi_cdrom_change(drive, NULL, true), 0);
	assert_int_equal(CD(0, SCSI_TEST_UNIT_READY), SCSI_SENSE_NO_MEDIUM);
	scsi_lun_put(drive);
	block_put(disc);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_inquiry),
		T(test_vpd),
		T(test_absent),
		T(test_report_luns),
		T(test_mode_sense),
		T(test_capacity),
		T(test_transfer_lengths),
		T(test_ranges),
		T(test_write_and_flush),
		T(test_flush_waits),
		T(test_unmap),
		T(test_write_same),
		T(test_host_errors),
		T(test_unknown),
		T(test_read_only),
		T(test_resize),
		T(test_detach_while_busy),
		T(test_cdrom_empty),
		T(test_cdrom_medium),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
