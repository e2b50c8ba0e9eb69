/* SPDX-License-Identifier: MIT */
/*
 * SCSI targets without a transport: a bus of logical units, and requests that
 * run on a block queue. storvsp.c carries them over VMBus.
 *
 * A unit is a disk or a DVD drive. Its commands are rows; scsi_execute() checks
 * what a row says (direction, medium, write protection, unit attention) before
 * the handler runs. Guest memory is touched by copies in and out and by the
 * block back end only; a command block and parameter list are private copies.
 */
#ifndef NESTOR_VSP_SCSI_H
#define NESTOR_VSP_SCSI_H

#include <pthread.h>

#include "backend/block.h"
#include "hvdef/scsi.h"

#define SCSI_LUN_MAX	  64u
#define SCSI_CDB_MAX	  16u
#define SCSI_TRANSFER_MAX ((u32)MIB) /* bytes of one READ or WRITE */

struct scsi_lun;
struct scsi_request;

struct scsi_bus {
	pthread_mutex_t lock; /* lun[] */
	struct scsi_lun *lun[SCSI_LUN_MAX];
};

enum scsi_direction { SCSI_DATA_OUT, SCSI_DATA_IN, SCSI_DATA_NONE };

/* How a request ended, apart from what the unit says. */
enum scsi_outcome {
	SCSI_DONE,    /* status and sense tell */
	SCSI_NO_UNIT, /* nothing has this number */
	SCSI_SHORT,   /* done, as SCSI_DONE, but the initiator's memory was too small */
};

struct scsi_request {
	/* The transport's. */
	struct scsi_bus *bus;
	u8 lun;
	u8 cdb[SCSI_CDB_MAX]; /* zero padded */
	enum scsi_direction direction;
	u32 data_bytes;	   /* the initiator's memory: what iov holds */
	struct iovec *iov; /* may be changed */
	int iov_count;
	struct block_queue *queue;
	/* Once per scsi_execute(): from inside it, or on the queue's loop. */
	void (*done)(struct scsi_request *req);

	/* The answer. */
	enum scsi_outcome outcome;
	u8 status;		    /* enum scsi_status */
	u8 sense[SCSI_SENSE_BYTES]; /* valid with CHECK CONDITION */
	u32 moved;		    /* bytes of data */

	/* The unit's. */
	struct scsi_lun *unit;	  /* counted */
	struct block_device *dev; /* counted; NULL: no medium */
	u64 capacity;		  /* of dev, looked up once */
	struct block_request block;
	u8 *param; /* parameter list or pattern; freed at the end */
	u32 param_count, param_at;
	struct iovec param_iov;
	u64 lba, blocks;
};

void scsi_bus_init(struct scsi_bus *bus);
/* Puts the units away; no request may be running. */
void scsi_bus_fini(struct scsi_bus *bus);
/* [any] The reference passes to the bus. 0; -EBUSY: taken; -EINVAL: no such number. */
int scsi_bus_attach(struct scsi_bus *bus, u32 number, struct scsi_lun *lun);
/* [any] What runs ends normally. 0 or -ENOENT. */
int scsi_bus_detach(struct scsi_bus *bus, u32 number);
/* [any] Counted, or NULL. */
struct scsi_lun *scsi_bus_get(struct scsi_bus *bus, u32 number);

/* Runs req->cdb. Block requests it makes are submitted; the caller flushes the queue. */
void scsi_execute(struct scsi_request *req);

struct scsi_lun_config {
	const char *serial; /* up to BLOCK_SERIAL_MAX; NULL or "": from @identity */
	u64 identity;	    /* stable over reboots, different per unit of a machine */
};

/* A disk on @dev; takes a reference of its own. NULL: no memory. */
struct scsi_lun *scsi_disk_create(struct block_device *dev, const struct scsi_lun_config *cfg);
/* A DVD drive with @dev in it, or empty (NULL). */
struct scsi_lun *scsi_cdrom_create(struct block_device *dev, const struct scsi_lun_config *cfg);
/*
 * [any] Another medium, or none (NULL), in a DVD drive; 0, -EBUSY: the guest has locked
 * the tray and @force is false; -EINVAL: not a DVD drive.
 */
int scsi_cdrom_change(struct scsi_lun *lun, struct block_device *dev, bool force);
/* [any] Looks at the image's size again; the guest learns of a change. 0 or negative errno. */
int scsi_lun_refresh(struct scsi_lun *lun);
struct scsi_lun *scsi_lun_get(struct scsi_lun *lun);
void scsi_lun_put(struct scsi_lun *lun);

/* What is there, for listings. [any] */
struct scsi_lun_info {
	bool cdrom, read_only, has_medium;
	u64 bytes;
	char path[256], serial[BLOCK_SERIAL_MAX + 1];
};
void scsi_lun_describe(struct scsi_lun *lun, struct scsi_lun_info *info);

#endif
