// SPDX-License-Identifier: MIT
/* A disk: 512-byte blocks, write cache on, thin if the image can give space back. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vsp/scsi_impl.h"

#define BLOCK		  BLOCK_SECTOR
#define UNMAP_DESCRIPTORS 256u
#define UNMAP_MAX_BLOCKS  ((u32)(4 * GIB / BLOCK)) /* per command, so that none takes long */
#define PATTERN_BYTES	  ((u32)(128 * KIB))

static bool thin(struct scsi_request *req)
{
	return block_info(req->dev).discard_granularity != 0;
}

static void read_capacity_10(struct scsi_request *req)
{
	u64 blocks = req->capacity / BLOCK;
	u8 data[8];

	put_be32(data, (u32)min_u64(blocks ? blocks - 1 : 0, UINT32_MAX));
	put_be32(data + 4, BLOCK);
	scsi_reply(req, data, sizeof(data), sizeof(data));
}

static void read_capacity_16(struct scsi_request *req)
{
	u64 blocks = req->capacity / BLOCK;
	u8 data[32] = { 0 };

	put_be64(data, blocks ? blocks - 1 : 0);
	put_be32(data + 8, BLOCK);
	data[13] = (u8)__builtin_ctz(block_info(req->dev).physical_block / BLOCK);
	if (thin(req))
		data[14] = 0xc0; /* LBPME, LBPRZ: unmapped blocks exist and read as zeroes */
	scsi_reply(req, data, sizeof(data), get_be32(req->cdb + 10));
}

static void get_lba_status(struct scsi_request *req)
{
	u8 data[24] = { 0 };
	u64 bytes;
	bool hole;

	req->lba = get_be64(req->cdb + 2);
	req->blocks = 1;
	if (!scsi_check_range(req))
		return;
	bytes = min_u64(req->capacity - req->lba * BLOCK, (u64)UINT32_MAX * BLOCK);
	block_extent(req->dev, req->lba * BLOCK, &bytes, &hole);
	put_be32(data, sizeof(data) - 4);
	put_be64(data + 8, req->lba);
	put_be32(data + 16, (u32)max_u64(bytes / BLOCK, 1));
	data[20] = hole && bytes >= BLOCK; /* deallocated */
	scsi_reply(req, data, sizeof(data), get_be32(req->cdb + 10));
}

static void write_done(struct block_request *block, int error)
{
	struct scsi_request *req = container_of(block, struct scsi_request, block);

	req->moved = (u32)block->bytes;
	scsi_block_done(block, error);
}

static void disk_write(struct scsi_request *req)
{
	bool fua = req->cdb[0] != SCSI_WRITE_6 && req->cdb[1] & 0x08;
	u64 offset;
	u32 bytes;

	if (scsi_prepare_transfer(req, &offset, &bytes))
		scsi_submit(req, BLOCK_WRITE, fua ? BLOCK_FUA : 0, offset, bytes, write_done);
}

static void synchronize_cache(struct scsi_request *req)
{
	scsi_submit(req, BLOCK_FLUSH, 0, 0, 0, scsi_block_done);
}

/* Nothing spins; but who stops a disk expects its data on it. */
static void start_stop(struct scsi_request *req)
{
	if (req->cdb[4] & 1)
		scsi_good(req);
	else
		synchronize_cache(req);
}

static void verify(struct scsi_request *req)
{
	if (req->cdb[1] & 0xe6) { /* protection; comparing with data */
		scsi_fail(req, SCSI_SENSE_INVALID_FIELD);
		return;
	}
	scsi_decode_range(req);
	if (scsi_check_range(req))
		scsi_good(req);
}

/* Unmap: descriptors one after the other, all of them checked first. */

static void unmap_next(struct scsi_request *req);

static void unmap_done(struct block_request *block, int error)
{
	struct scsi_request *req = container_of(block, struct scsi_request, block);

	if (error && error != -EOPNOTSUPP) /* a hint: who can not, need not */
		scsi_fail_errno(req, error);
	else
		unmap_next(req);
}

static void unmap_next(struct scsi_request *req)
{
	while (req->param_at < req->param_count) {
		const u8 *d = req->param + 8 + 16 * req->param_at++;
		u64 lba = get_be64(d);
		u32 blocks = get_be32(d + 8);

		if (blocks) {
			scsi_submit(req, BLOCK_DISCARD, 0, lba * BLOCK, (u64)blocks * BLOCK,
				    unmap_done);
			return;
		}
	}
	scsi_good(req);
}

/* 0 or the sense. */
static u32 unmap_check(struct scsi_request *req, u32 got)
{
	u64 last = req->capacity / BLOCK, total = 0;

	if (got < 8)
		return SCSI_SENSE_LIST_LENGTH;
	req->param_count = (u32)min_u64(get_be16(req->param + 2), got - 8) / 16;
	if (req->param_count > UNMAP_DESCRIPTORS)
		return SCSI_SENSE_INVALID_LIST;
	for (u32 i = 0; i < req->param_count; i++) {
		const u8 *d = req->param + 8 + 16 * i;
		u64 lba = get_be64(d);
		u32 blocks = get_be32(d + 8);

		if (lba > last || blocks > last - lba)
			return SCSI_SENSE_LBA_RANGE;
		total += blocks;
	}
	return total > UNMAP_MAX_BLOCKS ? SCSI_SENSE_INVALID_LIST : 0;
}

static void unmap(struct scsi_request *req)
{
	u32 bytes = get_be16(req->cdb + 7), sense;

	if (!thin(req) || req->cdb[1] & 1) { /* anchoring */
		scsi_fail(req, thin(req) ? SCSI_SENSE_INVALID_FIELD : SCSI_SENSE_INVALID_OPCODE);
		return;
	}
	if (bytes == 0) {
		scsi_good(req);
		return;
	}
	req->param = calloc(1, bytes);
	if (!req->param) {
		scsi_fail_errno(req, -ENOMEM);
		return;
	}
	req->param_at = 0;
	sense = unmap_check(req, scsi_fetch(req, req->param, bytes));
	if (sense)
		scsi_fail(req, sense);
	else
		unmap_next(req);
}

/* Write same: zeroes by the shortest way, anything else as writes of a filled buffer. */

static void pattern_next(struct scsi_request *req);

static void pattern_done(struct block_request *block, int error)
{
	struct scsi_request *req = container_of(block, struct scsi_request, block);

	if (error) {
		scsi_fail_errno(req, error);
		return;
	}
	req->lba += block->bytes / BLOCK;
	req->blocks -= block->bytes / BLOCK;
	pattern_next(req);
}

static void pattern_next(struct scsi_request *req)
{
	u64 bytes = min_u64(req->blocks * BLOCK, PATTERN_BYTES);

	if (bytes == 0) {
		scsi_good(req);
		return;
	}
	req->param_iov = (struct iovec){ req->param, bytes };
	req->iov = &req->param_iov;
	req->iov_count = 1;
	scsi_submit(req, BLOCK_WRITE, 0, req->lba * BLOCK, bytes, pattern_done);
}

static void pattern_start(struct scsi_request *req, const u8 *block)
{
	req->param = malloc(PATTERN_BYTES);
	if (!req->param) {
		scsi_fail_errno(req, -ENOMEM);
		return;
	}
	for (u32 at = 0; at < PATTERN_BYTES; at += BLOCK)
		memcpy(req->param + at, block, BLOCK);
	pattern_next(req);
}

static void zeroes_done(struct block_request *block, int error)
{
	static const u8 zero[BLOCK];
	struct scsi_request *req = container_of(block, struct scsi_request, block);

	if (error == -EOPNOTSUPP)
		pattern_start(req, zero);
	else
		scsi_block_done(block, error);
}

static void write_same(struct scsi_request *req)
{
	bool sixteen = req->cdb[0] == SCSI_WRITE_SAME_16, no_data = sixteen && req->cdb[1] & 0x01;
	bool unmap_bit = req->cdb[1] & 0x08;
	u8 block[BLOCK] = { 0 };

	scsi_decode_range(req);
	if (req->cdb[1] & 0xf6 || (!sixteen && req->cdb[1] & 1) || (unmap_bit && !thin(req)) ||
	    req->blocks == 0 || req->blocks > UNMAP_MAX_BLOCKS) {
		scsi_fail(req, SCSI_SENSE_INVALID_FIELD);
		return;
	}
	if (!scsi_check_range(req))
		return;
	if (!no_data && scsi_fetch(req, block, BLOCK) < BLOCK) {
		req->outcome = SCSI_SHORT;
		scsi_fail(req, SCSI_SENSE_INVALID_FIELD);
		return;
	}
	if (block[0] == 0 && memcmp(block, block + 1, BLOCK - 1) == 0)
		scsi_submit(req, BLOCK_WRITE_ZEROES, unmap_bit ? BLOCK_MAY_UNMAP : 0,
			    req->lba * BLOCK, req->blocks * BLOCK, zeroes_done);
	else
		pattern_start(req, block);
}

/* Pages */

static u32 vpd_block_limits(struct scsi_request *req, u8 *page)
{
	struct block_info info = block_info(req->dev);

	page[4] = 1; /* WRITE SAME of no blocks does not mean "all" */
	put_be32(page + 8, SCSI_TRANSFER_MAX / BLOCK);
	if (thin(req)) {
		put_be32(page + 20, UNMAP_MAX_BLOCKS);
		put_be32(page + 24, UNMAP_DESCRIPTORS);
		put_be32(page + 28, info.discard_granularity / BLOCK);
		put_be32(page + 32, 1u << 31); /* aligned at block 0 */
	}
	put_be64(page + 36, UNMAP_MAX_BLOCKS);
	return 64;
}

static u32 vpd_characteristics(struct scsi_request *req, u8 *page)
{
	put_be16(page + 4, block_info(req->dev).rotational ? 7200 : 1); /* 1: does not rotate */
	return 64;
}

static u32 vpd_provisioning(struct scsi_request *req, u8 *page)
{
	if (thin(req)) {
		page[5] = 0xe4; /* UNMAP, WRITE SAME(16) and (10) with UNMAP, zeroes after it */
		page[6] = 2;	/* thin */
	}
	return 8;
}

static u32 mode_caching(struct scsi_request *req, u8 *page)
{
	page[2] = block_info(req->dev).read_only ? 0 : 0x04; /* write cache on */
	return 20;
}

static u32 mode_control(struct scsi_request *req, u8 *page)
{
	page[3] = 0x10; /* commands may be reordered */
	return 12;
}

static const struct scsi_page disk_vpd[] = {
	{ SCSI_VPD_SERIAL, scsi_vpd_serial },
	{ SCSI_VPD_IDENTIFICATION, scsi_vpd_identification },
	{ SCSI_VPD_BLOCK_LIMITS, vpd_block_limits },
	{ SCSI_VPD_CHARACTERISTICS, vpd_characteristics },
	{ SCSI_VPD_PROVISIONING, vpd_provisioning },
	{ 0, NULL },
};

static const struct scsi_page disk_mode[] = {
	{ SCSI_MODE_CACHING, mode_caching },
	{ SCSI_MODE_CONTROL, mode_control },
	{ 0, NULL },
};

#define ANY ROW_NO_ACTION
#define R   (ROW_IN | ROW_MEDIUM)
#define W   (ROW_OUT | ROW_MEDIUM | ROW_WRITES)
static const struct scsi_row disk_rows[] = {
	/* the busy ones first */
	{ SCSI_READ_10, ANY, R, "READ(10)", scsi_read },
	{ SCSI_WRITE_10, ANY, W, "WRITE(10)", disk_write },
	{ SCSI_READ_16, ANY, R, "READ(16)", scsi_read },
	{ SCSI_WRITE_16, ANY, W, "WRITE(16)", disk_write },
	{ SCSI_SYNCHRONIZE_CACHE_10, ANY, 0, "SYNCHRONIZE CACHE(10)", synchronize_cache },
	{ SCSI_SYNCHRONIZE_CACHE_16, ANY, 0, "SYNCHRONIZE CACHE(16)", synchronize_cache },
	{ SCSI_UNMAP, ANY, W, "UNMAP", unmap },
	{ SCSI_WRITE_SAME_10, ANY, W, "WRITE SAME(10)", write_same },
	{ SCSI_WRITE_SAME_16, ANY, W, "WRITE SAME(16)", write_same },
	{ SCSI_READ_6, ANY, R, "READ(6)", scsi_read },
	{ SCSI_WRITE_6, ANY, W, "WRITE(6)", disk_write },
	{ SCSI_READ_12, ANY, R, "READ(12)", scsi_read },
	{ SCSI_WRITE_12, ANY, W, "WRITE(12)", disk_write },
	{ SCSI_VERIFY_10, ANY, ROW_OUT, "VERIFY(10)", verify },
	{ SCSI_VERIFY_16, ANY, ROW_OUT, "VERIFY(16)", verify },
	{ SCSI_TEST_UNIT_READY, ANY, 0, "TEST UNIT READY", scsi_test_unit_ready },
	{ SCSI_REQUEST_SENSE, ANY, ROW_IN | ROW_ANY_STATE, "REQUEST SENSE", scsi_request_sense },
	{ SCSI_INQUIRY, ANY, ROW_IN | ROW_ANY_STATE, "INQUIRY", scsi_inquiry },
	{ SCSI_REPORT_LUNS, ANY, ROW_IN | ROW_ANY_STATE, "REPORT LUNS", scsi_report_luns },
	{ SCSI_MODE_SENSE_6, ANY, ROW_IN, "MODE SENSE(6)", scsi_mode_sense },
	{ SCSI_MODE_SENSE_10, ANY, ROW_IN, "MODE SENSE(10)", scsi_mode_sense },
	{ SCSI_START_STOP_UNIT, ANY, 0, "START STOP UNIT", start_stop },
	{ SCSI_READ_CAPACITY_10, ANY, ROW_IN, "READ CAPACITY(10)", read_capacity_10 },
	{ SCSI_SERVICE_ACTION_IN_16, SCSI_SAI_READ_CAPACITY_16, ROW_IN, "READ CAPACITY(16)",
	  read_capacity_16 },
	{ SCSI_SERVICE_ACTION_IN_16, SCSI_SAI_GET_LBA_STATUS, ROW_IN, "GET LBA STATUS",
	  get_lba_status },
	{ 0 },
};

static const struct scsi_kind disk_kind = {
	.type = SCSI_TYPE_DISK,
	.block_bytes = BLOCK,
	.product = "Virtual Disk    ",
	.rows = disk_rows,
	.vpd = disk_vpd,
	.mode = disk_mode,
};

struct scsi_lun *scsi_disk_create(struct block_device *dev, const struct scsi_lun_config *cfg)
{
	return scsi_lun_create(&disk_kind, dev, cfg);
}
