// SPDX-License-Identifier: MIT
/* A DVD drive with one finished data track, a tray and a lock. Commands of MMC-6, reading only. */
#include <errno.h>
#include <string.h>

#include "vsp/scsi_impl.h"

#define BLOCK 2048u

enum media_event { EVENT_NONE = 0, EVENT_EJECT_REQUEST = 1, EVENT_NEW = 2, EVENT_REMOVED = 3 };

enum { PROFILE_NONE = 0, PROFILE_CD = 0x08, PROFILE_DVD = 0x10 };

static u32 track_blocks(const struct scsi_request *req)
{
	return (u32)min_u64(req->capacity / BLOCK, UINT32_MAX);
}

/* What is larger than a CD is a DVD. */
static u16 profile(const struct scsi_request *req)
{
	if (!req->dev)
		return PROFILE_NONE;
	return track_blocks(req) > 80u * 60 * 75 ? PROFILE_DVD : PROFILE_CD;
}

static void read_capacity(struct scsi_request *req)
{
	u32 blocks = track_blocks(req);
	u8 data[8];

	put_be32(data, blocks ? blocks - 1 : 0);
	put_be32(data + 4, BLOCK);
	scsi_reply(req, data, sizeof(data), sizeof(data));
}

/* Tray */

static void prevent_allow(struct scsi_request *req)
{
	pthread_mutex_lock(&req->unit->lock);
	req->unit->locked = req->cdb[4] & 1;
	pthread_mutex_unlock(&req->unit->lock);
	scsi_good(req);
}

static void start_stop(struct scsi_request *req)
{
	struct scsi_lun *lun = req->unit;
	bool load = req->cdb[4] & 1, denied = false;

	if (!(req->cdb[4] & 2)) { /* spinning up or down */
		scsi_good(req);
		return;
	}
	pthread_mutex_lock(&lun->lock);
	if (load && lun->tray_open) {
		lun->tray_open = false;
		if (lun->dev) {
			lun->event = EVENT_NEW;
			__atomic_or_fetch(&lun->attention, ATTENTION_MEDIUM, __ATOMIC_RELAXED);
		}
	} else if (!load && !(denied = lun->locked)) {
		lun->tray_open = true;
		lun->event = lun->dev ? EVENT_REMOVED : EVENT_NONE;
	}
	pthread_mutex_unlock(&lun->lock);
	if (denied)
		scsi_fail(req, SCSI_SENSE_REMOVAL_DENIED);
	else
		scsi_good(req);
}

int scsi_cdrom_change(struct scsi_lun *lun, struct block_device *dev, bool force)
{
	struct block_device *old = NULL;
	int ret = 0;

	if (lun->kind->type != SCSI_TYPE_CDROM)
		return -EINVAL;
	pthread_mutex_lock(&lun->lock);
	if (lun->dev && lun->locked && !force) {
		/* As if somebody had pressed the button: the guest may unlock and eject. */
		lun->event = EVENT_EJECT_REQUEST;
		ret = -EBUSY;
	} else {
		old = lun->dev;
		lun->dev = dev ? block_get(dev) : NULL;
		lun->locked = lun->tray_open = false;
		lun->event = dev ? EVENT_NEW : EVENT_REMOVED;
		__atomic_store_n(&lun->known_bytes, dev ? block_bytes(dev) : 0, __ATOMIC_RELAXED);
		if (dev)
			__atomic_or_fetch(&lun->attention, ATTENTION_MEDIUM, __ATOMIC_RELAXED);
	}
	pthread_mutex_unlock(&lun->lock);
	block_put(old);
	return ret;
}

static void get_event_status(struct scsi_request *req)
{
	struct scsi_lun *lun = req->unit;
	u8 data[8] = { 0, 2, 0x80, 0x10 }; /* no event; media events are known */
	u32 bytes = 4;

	if (!(req->cdb[1] & 1)) { /* only polled */
		scsi_fail(req, SCSI_SENSE_INVALID_FIELD);
		return;
	}
	if (req->cdb[4] & 0x10) {
		data[1] = 6;
		data[2] = 4; /* media */
		bytes = 8;
		pthread_mutex_lock(&lun->lock);
		data[4] = lun->event;
		data[5] = (u8)((lun->tray_open ? 1 : 0) | (lun->dev && !lun->tray_open ? 2 : 0));
		if (get_be16(req->cdb + 7) >= 5)
			lun->event = EVENT_NONE;
		pthread_mutex_unlock(&lun->lock);
	}
	scsi_reply(req, data, bytes, get_be16(req->cdb + 7));
}

static void mechanism_status(struct scsi_request *req)
{
	u8 data[8] = { 0 };

	pthread_mutex_lock(&req->unit->lock);
	data[1] = req->unit->tray_open ? 0x10 : 0;
	pthread_mutex_unlock(&req->unit->lock);
	scsi_reply(req, data, sizeof(data), get_be16(req->cdb + 8));
}

/* The disc */

static void put_address(u8 *p, u32 lba, bool msf)
{
	u32 frames = lba + 150;

	if (!msf) {
		put_be32(p, lba);
		return;
	}
	p[0] = 0;
	p[1] = (u8)min_u64(frames / 75 / 60, 255);
	p[2] = (u8)(frames / 75 % 60);
	p[3] = (u8)(frames % 75);
}

static void read_toc(struct scsi_request *req)
{
	bool msf = req->cdb[1] & 2;
	u8 format = req->cdb[2] & 0xf ? req->cdb[2] & 0xf : req->cdb[9] >> 6, track = req->cdb[6];
	u8 data[20] = { 0, 18, 1, 1, 0, 0x14, 1 }; /* one data track ... */
	u32 bytes = 20;

	if (format > 1 || (format == 0 && track > 1 && track != 0xaa)) {
		scsi_fail(req, SCSI_SENSE_INVALID_FIELD);
		return;
	}
	put_address(data + 8, 0, msf);
	if (format == 1) { /* the last session begins with the same track */
		data[1] = 10;
		bytes = 12;
	} else if (track == 0xaa) {
		data[1] = 10;
		data[6] = 0xaa;
		put_address(data + 8, track_blocks(req), msf);
		bytes = 12;
	} else {
		data[13] = 0x14;
		data[14] = 0xaa; /* ... and where it ends */
		put_address(data + 16, track_blocks(req), msf);
	}
	scsi_reply(req, data, bytes, get_be16(req->cdb + 7));
}

static void read_disc_information(struct scsi_request *req)
{
	u8 data[34] = { 0, 32, 0x0e, 1, 1, 1, 1, 0x20 }; /* finished, one session, one track */

	if (req->cdb[1] & 7) {
		scsi_fail(req, SCSI_SENSE_INVALID_FIELD);
		return;
	}
	scsi_reply(req, data, sizeof(data), get_be16(req->cdb + 7));
}

static void read_track_information(struct scsi_request *req)
{
	u8 data[36] = { 0, 34, 1, 1, 0, 0x04, 0x01 }; /* data, mode 1 */

	put_be32(data + 24, track_blocks(req));
	scsi_reply(req, data, sizeof(data), get_be16(req->cdb + 7));
}

/* Features: fill() writes the feature's own data and returns its length; current_if as below. */
enum feature_current { FEATURE_ALWAYS, FEATURE_MEDIUM, FEATURE_CD, FEATURE_DVD };

static u32 feature_profiles(const struct scsi_request *req, u8 *p)
{
	put_be16(p, PROFILE_DVD);
	p[2] = profile(req) == PROFILE_DVD;
	put_be16(p + 4, PROFILE_CD);
	p[6] = profile(req) == PROFILE_CD;
	return 8;
}

static u32 feature_core(const struct scsi_request *req, u8 *p)
{
	put_be32(p, 1); /* SCSI */
	p[4] = 1;
	return 8;
}

static u32 feature_removable(const struct scsi_request *req, u8 *p)
{
	p[0] = 0x39; /* tray, ejects, loads, locks */
	return 4;
}

static u32 feature_random_read(const struct scsi_request *req, u8 *p)
{
	put_be32(p, BLOCK);
	put_be16(p + 4, 16);
	return 8;
}

static u32 feature_cd_read(const struct scsi_request *req, u8 *p)
{
	return 4;
}

static u32 feature_dvd_read(const struct scsi_request *req, u8 *p)
{
	return 0;
}

static const struct feature_row {
	u16 code;
	u8 version;
	enum feature_current current;
	u32 (*fill)(const struct scsi_request *req, u8 *p);
} feature_rows[] = {
	{ 0x0000, 0, FEATURE_ALWAYS, feature_profiles },
	{ 0x0001, 2, FEATURE_ALWAYS, feature_core },
	{ 0x0003, 1, FEATURE_ALWAYS, feature_removable },
	{ 0x0010, 0, FEATURE_MEDIUM, feature_random_read },
	{ 0x001e, 2, FEATURE_CD, feature_cd_read },
	{ 0x001f, 0, FEATURE_DVD, feature_dvd_read },
};

static bool feature_is_current(const struct scsi_request *req, enum feature_current when)
{
	switch (when) {
	case FEATURE_ALWAYS:
		return true;
	case FEATURE_MEDIUM:
		return req->dev != NULL;
	case FEATURE_CD:
		return profile(req) == PROFILE_CD;
	case FEATURE_DVD:
		return profile(req) == PROFILE_DVD;
	}
	return false;
}

static void get_configuration(struct scsi_request *req)
{
	u16 from = get_be16(req->cdb + 2);
	u8 which = req->cdb[1] & 3; /* 0: all, 1: current ones, 2: this one */
	u8 data[128] = { 0 };
	u32 n = 8;

	if (which == 3) {
		scsi_fail(req, SCSI_SENSE_INVALID_FIELD);
		return;
	}
	for (u32 i = 0; i < ARRAY_SIZE(feature_rows); i++) {
		const struct feature_row *r = &feature_rows[i];
		bool current = feature_is_current(req, r->current);
		u32 bytes;

		if (which == 2 ? r->code != from : r->code < from || (which == 1 && !current))
			continue;
		bytes = r->fill(req, data + n + 4);
		put_be16(data + n, r->code);
		data[n + 2] = (u8)(r->version << 2 | (r->current == FEATURE_ALWAYS ? 2 : 0) |
				   (current ? 1 : 0));
		data[n + 3] = (u8)bytes;
		n += 4 + bytes;
	}
	put_be32(data, n - 4);
	put_be16(data + 6, profile(req));
	scsi_reply(req, data, n, get_be16(req->cdb + 7));
}

static void accept(struct scsi_request *req)
{
	scsi_good(req);
}

static u32 mode_recovery(struct scsi_request *req, u8 *page)
{
	page[3] = 5; /* retries */
	return 12;
}

static u32 mode_capabilities(struct scsi_request *req, u8 *page)
{
	page[2] = 0x3b;		      /* reads CD-R, CD-RW, DVD-ROM, DVD-R */
	page[4] = 0x70;		      /* multi-session, mode 2 */
	page[6] = 0x29;		      /* tray, ejects, locks */
	put_be16(page + 8, 50 * 176); /* KB/s */
	put_be16(page + 12, 512);     /* buffer, KB */
	put_be16(page + 14, 50 * 176);
	return 22;
}

static const struct scsi_page cdrom_vpd[] = {
	{ SCSI_VPD_SERIAL, scsi_vpd_serial },
	{ SCSI_VPD_IDENTIFICATION, scsi_vpd_identification },
	{ 0, NULL },
};

static const struct scsi_page cdrom_mode[] = {
	{ SCSI_MODE_READ_RECOVERY, mode_recovery },
	{ SCSI_MODE_CAPABILITIES, mode_capabilities },
	{ 0, NULL },
};

#define ANY ROW_NO_ACTION
#define M   (ROW_IN | ROW_MEDIUM)
#define ALL (ROW_IN | ROW_ANY_STATE)
static const struct scsi_row cdrom_rows[] = {
	{ SCSI_READ_10, ANY, M, "READ(10)", scsi_read },
	{ SCSI_READ_12, ANY, M, "READ(12)", scsi_read },
	{ SCSI_TEST_UNIT_READY, ANY, ROW_MEDIUM, "TEST UNIT READY", scsi_test_unit_ready },
	{ SCSI_GET_EVENT_STATUS, ANY, ALL, "GET EVENT STATUS NOTIFICATION", get_event_status },
	{ SCSI_REQUEST_SENSE, ANY, ALL, "REQUEST SENSE", scsi_request_sense },
	{ SCSI_INQUIRY, ANY, ALL, "INQUIRY", scsi_inquiry },
	{ SCSI_REPORT_LUNS, ANY, ALL, "REPORT LUNS", scsi_report_luns },
	{ SCSI_GET_CONFIGURATION, ANY, ALL, "GET CONFIGURATION", get_configuration },
	{ SCSI_MODE_SENSE_6, ANY, ROW_IN, "MODE SENSE(6)", scsi_mode_sense },
	{ SCSI_MODE_SENSE_10, ANY, ROW_IN, "MODE SENSE(10)", scsi_mode_sense },
	{ SCSI_START_STOP_UNIT, ANY, 0, "START STOP UNIT", start_stop },
	{ SCSI_PREVENT_ALLOW_MEDIUM_REMOVAL, ANY, 0, "PREVENT ALLOW MEDIUM REMOVAL",
	  prevent_allow },
	{ SCSI_READ_CAPACITY_10, ANY, M, "READ CAPACITY(10)", read_capacity },
	{ SCSI_READ_TOC, ANY, M, "READ TOC", read_toc },
	{ SCSI_READ_DISC_INFORMATION, ANY, M, "READ DISC INFORMATION", read_disc_information },
	{ SCSI_READ_TRACK_INFORMATION, ANY, M, "READ TRACK INFORMATION", read_track_information },
	{ SCSI_MECHANISM_STATUS, ANY, ROW_IN, "MECHANISM STATUS", mechanism_status },
	{ SCSI_SET_CD_SPEED, ANY, 0, "SET CD SPEED", accept },
	{ SCSI_SYNCHRONIZE_CACHE_10, ANY, 0, "SYNCHRONIZE CACHE(10)", accept },
	{ 0 },
};

static const struct scsi_kind cdrom_kind = {
	.type = SCSI_TYPE_CDROM,
	.removable = true,
	.block_bytes = BLOCK,
	.product = "Virtual DVD-ROM ",
	.rows = cdrom_rows,
	.vpd = cdrom_vpd,
	.mode = cdrom_mode,
};

struct scsi_lun *scsi_cdrom_create(struct block_device *dev, const struct scsi_lun_config *cfg)
{
	return scsi_lun_create(&cdrom_kind, dev, cfg);
}
