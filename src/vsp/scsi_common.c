// SPDX-License-Identifier: MIT
/* Commands that disks and DVD drives share. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vsp/scsi_impl.h"

/* Linux knows a VMBus disk by this vendor and then believes more of what it says. */
#define VENDOR	 "Msft    "
#define REVISION "1.0 "

void scsi_test_unit_ready(struct scsi_request *req)
{
	scsi_good(req);
}

/* Errors come with their sense, so there is never one kept for this command. */
void scsi_request_sense(struct scsi_request *req)
{
	u8 sense[SCSI_SENSE_BYTES] = { 0x70, [7] = SCSI_SENSE_BYTES - 8 };

	scsi_reply(req, sense, sizeof(sense), req->cdb[4]);
}

/* Inquiry */

u32 scsi_vpd_serial(struct scsi_request *req, u8 *page)
{
	size_t n = strlen(req->unit->serial);

	memcpy(page + 4, req->unit->serial, n);
	return 4 + (u32)n;
}

u32 scsi_vpd_identification(struct scsi_request *req, u8 *page)
{
	const struct scsi_lun *lun = req->unit;
	u32 n = (u32)strlen(lun->serial);
	u8 *d = page + 4;

	d[0] = 0x2; /* ASCII */
	d[1] = 0x1; /* vendor and a text of the vendor's choice */
	d[3] = (u8)(8 + n);
	memcpy(d + 4, VENDOR, 8);
	memcpy(d + 12, lun->serial, n);
	d += 12 + n;
	d[0] = 0x1; /* binary */
	d[1] = 0x3; /* NAA */
	d[3] = 8;
	put_be64(d + 4, 3ull << 60 | lun->identity >> 4); /* 3: assigned by ourselves */
	return 4 + 12 + n + 12;
}

static u32 vpd_supported(const struct scsi_kind *kind, u8 *page)
{
	u32 n = 4;

	page[n++] = SCSI_VPD_SUPPORTED;
	for (const struct scsi_page *p = kind->vpd; p->fill; p++)
		page[n++] = p->code;
	return n;
}

/* An answer of no bytes matters here: Linux parses what it got even after an error. */
static void inquiry_page(struct scsi_request *req)
{
	const struct scsi_kind *kind = req->unit->kind;
	u8 page[SCSI_PAGE_MAX] = { 0 };
	u32 bytes = 0;

	if (req->cdb[2] == SCSI_VPD_SUPPORTED)
		bytes = vpd_supported(kind, page);
	for (const struct scsi_page *p = kind->vpd; !bytes && p->fill; p++)
		if (p->code == req->cdb[2])
			bytes = p->fill(req, page);
	if (!bytes) {
		scsi_fail(req, SCSI_SENSE_INVALID_FIELD);
		return;
	}
	page[0] = (u8)kind->type;
	page[1] = req->cdb[2];
	put_be16(page + 2, (u16)(bytes - 4));
	scsi_reply(req, page, bytes, get_be16(req->cdb + 3));
}

void scsi_inquiry(struct scsi_request *req)
{
	const struct scsi_kind *kind = req->unit->kind;
	u8 data[36] = {
		(u8)kind->type,
		kind->removable ? 0x80 : 0,
		5,    /* SPC-3: Linux asks for READ CAPACITY(16) first */
		0x12, /* hierarchical numbers, data in this format */
		sizeof(data) - 5,
		[7] = 0x02, /* command queueing */
	};

	if (req->cdb[1] & 1) {
		inquiry_page(req);
		return;
	}
	if (req->cdb[2]) {
		scsi_fail(req, SCSI_SENSE_INVALID_FIELD);
		return;
	}
	memcpy(data + 8, VENDOR, 8);
	memcpy(data + 16, kind->product, 16);
	memcpy(data + 32, REVISION, 4);
	scsi_reply(req, data, sizeof(data), get_be16(req->cdb + 3));
}

/* Also for a bus without unit 0, where req->unit is NULL. */
void scsi_report_luns(struct scsi_request *req)
{
	u8 data[8 + 8 * SCSI_LUN_MAX] = { 0 };
	u32 n = 8;

	if (req->cdb[2] > 2) {
		scsi_fail(req, SCSI_SENSE_INVALID_FIELD);
		return;
	}
	pthread_mutex_lock(&req->bus->lock);
	for (u32 i = 0; i < SCSI_LUN_MAX && req->cdb[2] != 1; i++) {
		if (!req->bus->lun[i])
			continue;
		data[n + 1] = (u8)i; /* peripheral addressing, bus 0 */
		n += 8;
	}
	pthread_mutex_unlock(&req->bus->lock);
	put_be32(data, n - 8);
	scsi_reply(req, data, n, get_be32(req->cdb + 6));
}

/* Mode pages */

static u32 add_mode_page(struct scsi_request *req, const struct scsi_page *p, u8 *out)
{
	u8 page[SCSI_PAGE_MAX] = { 0 };
	u32 bytes = p->fill(req, page);

	if (req->cdb[2] >> 6 == 1) /* what can be changed: nothing */
		memset(page, 0, sizeof(page));
	page[0] = p->code;
	page[1] = (u8)(bytes - 2);
	memcpy(out, page, bytes);
	return bytes;
}

void scsi_mode_sense(struct scsi_request *req)
{
	const struct scsi_kind *kind = req->unit->kind;
	bool ten = req->cdb[0] == SCSI_MODE_SENSE_10;
	u8 code = req->cdb[2] & 0x3f, subpage = req->cdb[3], device = 0;
	u8 data[4 * SCSI_PAGE_MAX] = { 0 };
	u32 head = ten ? 8 : 4, bytes = head;

	if (req->cdb[2] >> 6 == 3) {
		scsi_fail(req, SCSI_SENSE(SCSI_KEY_ILLEGAL_REQUEST, 0x39, 0)); /* saved values */
		return;
	}
	for (const struct scsi_page *p = kind->mode; p->fill; p++)
		if ((code == SCSI_MODE_ALL && (subpage == 0 || subpage == 0xff)) ||
		    (code == p->code && subpage == 0))
			bytes += add_mode_page(req, p, data + bytes);
	if (bytes == head) {
		scsi_fail(req, SCSI_SENSE_INVALID_FIELD);
		return;
	}
	if (kind->type == SCSI_TYPE_DISK)
		device = 0x10 | (block_info(req->dev).read_only ? 0x80 : 0); /* DPOFUA, WP */
	if (ten) {
		put_be16(data, (u16)(bytes - 2));
		data[3] = device;
		scsi_reply(req, data, bytes, get_be16(req->cdb + 7));
	} else {
		data[0] = (u8)(bytes - 1);
		data[2] = device;
		scsi_reply(req, data, bytes, req->cdb[4]);
	}
}

/* Transfers */

void scsi_decode_range(struct scsi_request *req)
{
	const u8 *cdb = req->cdb;

	switch (cdb[0] >> 5) { /* the group tells the length */
	case 0:
		req->lba = get_be32(cdb) & 0x1fffff;
		req->blocks = cdb[4] ? cdb[4] : 256;
		break;
	case 4:
		req->lba = get_be64(cdb + 2);
		req->blocks = get_be32(cdb + 10);
		break;
	case 5:
		req->lba = get_be32(cdb + 2);
		req->blocks = get_be32(cdb + 6);
		break;
	default:
		req->lba = get_be32(cdb + 2);
		req->blocks = get_be16(cdb + 7);
		break;
	}
}

bool scsi_check_range(struct scsi_request *req)
{
	u64 last = req->capacity / req->unit->kind->block_bytes;

	if (req->lba > last || req->blocks > last - req->lba) {
		scsi_fail(req, SCSI_SENSE_LBA_RANGE);
		return false;
	}
	return true;
}

bool scsi_prepare_transfer(struct scsi_request *req, u64 *offset, u32 *bytes)
{
	u32 block = req->unit->kind->block_bytes;

	scsi_decode_range(req);
	/* Protection information was not announced. */
	if (req->cdb[0] >> 5 && req->cdb[1] >> 5) {
		scsi_fail(req, SCSI_SENSE_INVALID_FIELD);
		return false;
	}
	if (!scsi_check_range(req))
		return false;
	if (req->blocks > SCSI_TRANSFER_MAX / block) {
		scsi_fail(req, SCSI_SENSE_INVALID_FIELD);
		return false;
	}
	*offset = req->lba * block;
	*bytes = (u32)req->blocks * block;
	if (*bytes && (req->direction == SCSI_DATA_NONE || req->data_bytes < *bytes)) {
		req->outcome = SCSI_SHORT;
		scsi_fail(req, SCSI_SENSE_INVALID_FIELD);
		return false;
	}
	scsi_trim_iov(req, *bytes);
	return true;
}

static void read_done(struct block_request *block, int error)
{
	struct scsi_request *req = container_of(block, struct scsi_request, block);

	req->moved = (u32)block->bytes;
	scsi_block_done(block, error);
}

void scsi_read(struct scsi_request *req)
{
	u64 offset;
	u32 bytes;

	if (scsi_prepare_transfer(req, &offset, &bytes))
		scsi_submit(req, BLOCK_READ, 0, offset, bytes, read_done);
}
