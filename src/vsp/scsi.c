// SPDX-License-Identifier: MIT
/* The life of a SCSI request, the units on a bus, and sense data. */
#include "vsp/scsi.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vsp/scsi_impl.h"

/* Bus */

void scsi_bus_init(struct scsi_bus *bus)
{
	memset(bus, 0, sizeof(*bus));
	pthread_mutex_init(&bus->lock, NULL);
}

void scsi_bus_fini(struct scsi_bus *bus)
{
	for (u32 i = 0; i < SCSI_LUN_MAX; i++)
		scsi_lun_put(bus->lun[i]);
	pthread_mutex_destroy(&bus->lock);
}

int scsi_bus_attach(struct scsi_bus *bus, u32 number, struct scsi_lun *lun)
{
	int ret = 0;

	if (number >= SCSI_LUN_MAX)
		return -EINVAL;
	pthread_mutex_lock(&bus->lock);
	if (bus->lun[number])
		ret = -EBUSY;
	else
		bus->lun[number] = lun;
	pthread_mutex_unlock(&bus->lock);
	return ret;
}

int scsi_bus_detach(struct scsi_bus *bus, u32 number)
{
	struct scsi_lun *lun;

	if (number >= SCSI_LUN_MAX)
		return -ENOENT;
	pthread_mutex_lock(&bus->lock);
	lun = bus->lun[number];
	bus->lun[number] = NULL;
	pthread_mutex_unlock(&bus->lock);
	scsi_lun_put(lun);
	return lun ? 0 : -ENOENT;
}

struct scsi_lun *scsi_bus_get(struct scsi_bus *bus, u32 number)
{
	struct scsi_lun *lun;

	if (number >= SCSI_LUN_MAX)
		return NULL;
	pthread_mutex_lock(&bus->lock);
	lun = bus->lun[number];
	if (lun)
		scsi_lun_get(lun);
	pthread_mutex_unlock(&bus->lock);
	return lun;
}

/* Units */

/* FNV-1a: a disk keeps its names wherever its serial number goes. */
static u64 hash(const char *s)
{
	u64 h = 0xcbf29ce484222325ull;

	for (; *s; s++)
		h = (h ^ (u8)*s) * 0x100000001b3ull;
	return h;
}

struct scsi_lun *scsi_lun_create(const struct scsi_kind *kind, struct block_device *dev,
				 const struct scsi_lun_config *cfg)
{
	struct scsi_lun *lun = calloc(1, sizeof(*lun));

	if (!lun)
		return NULL;
	lun->refs = 1;
	lun->kind = kind;
	lun->identity = cfg->identity;
	if (cfg->serial && *cfg->serial) {
		snprintf(lun->serial, sizeof(lun->serial), "%s", cfg->serial);
		lun->identity = hash(cfg->serial);
	} else {
		snprintf(lun->serial, sizeof(lun->serial), "%016llx",
			 (unsigned long long)cfg->identity);
	}
	pthread_mutex_init(&lun->lock, NULL);
	if (dev) {
		lun->dev = block_get(dev);
		lun->known_bytes = block_bytes(dev);
	}
	return lun;
}

struct scsi_lun *scsi_lun_get(struct scsi_lun *lun)
{
	__atomic_add_fetch(&lun->refs, 1, __ATOMIC_RELAXED);
	return lun;
}

void scsi_lun_put(struct scsi_lun *lun)
{
	if (!lun || __atomic_sub_fetch(&lun->refs, 1, __ATOMIC_ACQ_REL))
		return;
	block_put(lun->dev);
	pthread_mutex_destroy(&lun->lock);
	free(lun);
}

static struct block_device *lun_dev(struct scsi_lun *lun)
{
	struct block_device *dev;

	if (!lun->kind->removable) /* never changes */
		return block_get(lun->dev);
	pthread_mutex_lock(&lun->lock);
	dev = lun->dev && !lun->tray_open ? block_get(lun->dev) : NULL;
	pthread_mutex_unlock(&lun->lock);
	return dev;
}

int scsi_lun_refresh(struct scsi_lun *lun)
{
	struct block_device *dev = lun_dev(lun);
	int ret = dev ? block_refresh(dev) : 0;

	block_put(dev);
	return ret;
}

void scsi_lun_describe(struct scsi_lun *lun, struct scsi_lun_info *info)
{
	struct block_device *dev = lun_dev(lun);

	*info = (struct scsi_lun_info){ .cdrom = lun->kind->type == SCSI_TYPE_CDROM,
					.has_medium = dev != NULL };
	snprintf(info->serial, sizeof(info->serial), "%s", lun->serial);
	if (dev) {
		struct block_info b = block_info(dev);

		info->bytes = b.bytes;
		info->read_only = b.read_only;
		snprintf(info->path, sizeof(info->path), "%s", b.name);
	}
	block_put(dev);
}

/* Ends */

static void finish(struct scsi_request *req)
{
	free(req->param);
	req->param = NULL;
	if (req->dev)
		block_put(req->dev);
	if (req->unit)
		scsi_lun_put(req->unit);
	req->dev = NULL;
	req->unit = NULL;
	req->done(req);
}

void scsi_good(struct scsi_request *req)
{
	req->status = SCSI_GOOD;
	finish(req);
}

static void put_sense(u8 *sense, u32 code)
{
	memset(sense, 0, SCSI_SENSE_BYTES);
	sense[0] = 0x70; /* current, fixed format */
	sense[2] = (u8)(code >> 16);
	sense[7] = SCSI_SENSE_BYTES - 8;
	sense[12] = (u8)(code >> 8);
	sense[13] = (u8)code;
}

void scsi_fail(struct scsi_request *req, u32 sense)
{
	req->status = SCSI_CHECK_CONDITION;
	req->moved = 0;
	put_sense(req->sense, sense);
	finish(req);
}

static const struct errno_row {
	int error;
	u32 sense;
} errno_rows[] = {
	{ -EROFS, SCSI_SENSE_WRITE_PROTECTED }, { -ENOSPC, SCSI_SENSE_NO_SPACE },
	{ -EDQUOT, SCSI_SENSE_NO_SPACE },	{ -EFBIG, SCSI_SENSE_NO_SPACE },
	{ -ERANGE, SCSI_SENSE_LBA_RANGE },	{ -EINVAL, SCSI_SENSE_INTERNAL },
	{ -EFAULT, SCSI_SENSE_INTERNAL },
};

void scsi_fail_errno(struct scsi_request *req, int error)
{
	if (error == -EAGAIN || error == -ENOMEM || error == -EBUSY) {
		req->status = SCSI_BUSY; /* the initiator tries again */
		req->moved = 0;
		finish(req);
		return;
	}
	for (u32 i = 0; i < ARRAY_SIZE(errno_rows); i++) {
		/* A flush that ran out of space has lost data: not "no space, nothing written". */
		if (errno_rows[i].error == error && req->block.op != BLOCK_FLUSH) {
			scsi_fail(req, errno_rows[i].sense);
			return;
		}
	}
	scsi_fail(req,
		  req->block.op == BLOCK_READ ? SCSI_SENSE_READ_ERROR : SCSI_SENSE_WRITE_ERROR);
}

/* Data */

static u32 copy_iov(struct scsi_request *req, u8 *data, u32 bytes, bool to_initiator)
{
	u32 at = 0;

	for (int i = 0; i < req->iov_count && at < bytes; i++) {
		u32 n = (u32)min_u64(req->iov[i].iov_len, bytes - at);

		if (to_initiator)
			memcpy(req->iov[i].iov_base, data + at, n);
		else
			memcpy(data + at, req->iov[i].iov_base, n);
		at += n;
	}
	return at;
}

void scsi_reply(struct scsi_request *req, const void *data, u32 bytes, u32 allocation)
{
	bytes = (u32)min_u64(bytes, allocation);
	if (req->direction == SCSI_DATA_IN)
		req->moved = copy_iov(req, (u8 *)(uintptr_t)data, bytes, true);
	scsi_good(req);
}

u32 scsi_fetch(struct scsi_request *req, void *data, u32 bytes)
{
	req->moved = copy_iov(req, data, bytes, false);
	return req->moved;
}

void scsi_trim_iov(struct scsi_request *req, u32 bytes)
{
	int i;

	for (i = 0; i < req->iov_count && bytes; i++) {
		if (req->iov[i].iov_len > bytes)
			req->iov[i].iov_len = bytes;
		bytes -= (u32)req->iov[i].iov_len;
	}
	req->iov_count = i;
}

void scsi_submit(struct scsi_request *req, enum block_op op, u8 flags, u64 offset, u64 bytes,
		 void (*done)(struct block_request *block, int error))
{
	struct block_request *b = &req->block;

	b->op = op;
	b->flags = flags;
	b->offset = offset;
	b->bytes = bytes;
	b->iov = req->iov;
	b->iov_count = req->iov_count;
	b->done = done;
	block_submit(req->queue, req->dev, b);
}

void scsi_block_done(struct block_request *block, int error)
{
	struct scsi_request *req = container_of(block, struct scsi_request, block);

	if (error)
		scsi_fail_errno(req, error);
	else
		scsi_good(req);
}

/* Dispatch */

static const struct scsi_row *find_row(const struct scsi_kind *kind, const u8 *cdb)
{
	for (const struct scsi_row *r = kind->rows; r->name; r++)
		if (r->opcode == cdb[0] &&
		    (r->action == ROW_NO_ACTION || r->action == (cdb[1] & 0x1f)))
			return r;
	return NULL;
}

/* An unknown action of a known opcode is a wrong field, not a wrong opcode. */
static u32 unknown_sense(const struct scsi_kind *kind, u8 opcode)
{
	for (const struct scsi_row *r = kind->rows; r->name; r++)
		if (r->opcode == opcode)
			return SCSI_SENSE_INVALID_FIELD;
	return SCSI_SENSE_INVALID_OPCODE;
}

/* The image grew or shrank: each guest is told once. */
static void notice_capacity(struct scsi_request *req)
{
	struct scsi_lun *lun = req->unit;
	u64 known = __atomic_load_n(&lun->known_bytes, __ATOMIC_RELAXED);

	if (likely(known == req->capacity) || !req->dev)
		return;
	if (__atomic_compare_exchange_n(&lun->known_bytes, &known, req->capacity, false,
					__ATOMIC_RELAXED, __ATOMIC_RELAXED))
		__atomic_or_fetch(&lun->attention, ATTENTION_CAPACITY, __ATOMIC_RELAXED);
}

static const struct attention_row {
	enum scsi_attention bit;
	u32 sense;
} attention_rows[] = {
	{ ATTENTION_MEDIUM, SCSI_SENSE_MEDIUM_CHANGED },
	{ ATTENTION_CAPACITY, SCSI_SENSE_CAPACITY_CHANGE },
};

static u32 take_attention(struct scsi_lun *lun)
{
	for (u32 i = 0; i < ARRAY_SIZE(attention_rows); i++) {
		u32 bit = attention_rows[i].bit;

		if (__atomic_load_n(&lun->attention, __ATOMIC_RELAXED) & bit &&
		    __atomic_fetch_and(&lun->attention, ~bit, __ATOMIC_RELAXED) & bit)
			return attention_rows[i].sense;
	}
	return 0;
}

static bool direction_fits(const struct scsi_row *row, const struct scsi_request *req)
{
	if (req->data_bytes == 0 || req->direction == SCSI_DATA_NONE)
		return true;
	if (!(row->flags & (ROW_IN | ROW_OUT)))
		return true; /* memory that is not needed */
	return row->flags & (req->direction == SCSI_DATA_IN ? ROW_IN : ROW_OUT);
}

static u32 refusal(const struct scsi_row *row, struct scsi_request *req)
{
	u32 sense = row->flags & ROW_ANY_STATE ? 0 : take_attention(req->unit);

	if (sense)
		return sense;
	if (!direction_fits(row, req))
		return SCSI_SENSE_INVALID_FIELD;
	if (row->flags & ROW_MEDIUM && !req->dev)
		return SCSI_SENSE_NO_MEDIUM;
	if (row->flags & ROW_WRITES && block_info(req->dev).read_only)
		return SCSI_SENSE_WRITE_PROTECTED;
	return 0;
}

/*
 * Nobody has this number. Linux takes every INQUIRY for a success, so it gets
 * the answer that says "nothing here", and it sends REPORT LUNS to unit 0 always.
 */
static void run_absent(struct scsi_request *req)
{
	u8 data[36] = { SCSI_TYPE_ABSENT, 0, 5, 2, sizeof(data) - 5 };

	if (req->cdb[0] == SCSI_INQUIRY && !(req->cdb[1] & 1)) {
		scsi_reply(req, data, sizeof(data), get_be16(req->cdb + 3));
	} else if (req->cdb[0] == SCSI_REPORT_LUNS && req->lun == 0) {
		scsi_report_luns(req);
	} else {
		req->outcome = SCSI_NO_UNIT;
		finish(req);
	}
}

void scsi_execute(struct scsi_request *req)
{
	const struct scsi_row *row;
	u32 sense;

	req->outcome = SCSI_DONE;
	req->status = SCSI_GOOD;
	req->moved = 0;
	req->param = NULL;
	req->dev = NULL;
	req->block.op = BLOCK_OP_COUNT;
	req->unit = scsi_bus_get(req->bus, req->lun);
	if (!req->unit) {
		run_absent(req);
		return;
	}
	req->dev = lun_dev(req->unit);
	req->capacity = req->dev ? block_bytes(req->dev) : 0;
	notice_capacity(req);
	row = find_row(req->unit->kind, req->cdb);
	if (!row) {
		scsi_fail(req, unknown_sense(req->unit->kind, req->cdb[0]));
		return;
	}
	sense = refusal(row, req);
	if (sense)
		scsi_fail(req, sense);
	else
		row->run(req);
}
