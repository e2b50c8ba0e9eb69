/* SPDX-License-Identifier: MIT */
/* Shared by the SCSI files of this folder. */
#ifndef NESTOR_VSP_SCSI_IMPL_H
#define NESTOR_VSP_SCSI_IMPL_H

#include "vsp/scsi.h"

enum scsi_row_flag {
	ROW_IN = BIT(0),	/* may move data to the initiator */
	ROW_OUT = BIT(1),	/* may move data from it */
	ROW_MEDIUM = BIT(2),	/* needs a medium */
	ROW_WRITES = BIT(3),	/* refused when write protected */
	ROW_ANY_STATE = BIT(4), /* runs although a unit attention is pending */
};

#define ROW_NO_ACTION 0xff

struct scsi_row {
	u8 opcode;
	u8 action; /* service action, or ROW_NO_ACTION */
	u8 flags;  /* enum scsi_row_flag */
	const char *name;
	void (*run)(struct scsi_request *req);
};
/* A table ends with a row without name. */

/* Fills @page (zeroed, SCSI_PAGE_MAX) from its first byte; returns its length. */
#define SCSI_PAGE_MAX 256u
struct scsi_page {
	u8 code;
	u32 (*fill)(struct scsi_request *req, u8 *page);
};

struct scsi_kind {
	enum scsi_device_type type;
	bool removable;
	u32 block_bytes;
	const char *product; /* 16 characters */
	const struct scsi_row *rows;
	const struct scsi_page *vpd;  /* ascending, end: fill NULL */
	const struct scsi_page *mode; /* likewise */
};

enum scsi_attention { ATTENTION_MEDIUM = BIT(0), ATTENTION_CAPACITY = BIT(1) };

struct scsi_lun {
	u32 refs; /* atomic */
	const struct scsi_kind *kind;
	u64 identity;
	char serial[BLOCK_SERIAL_MAX + 1];
	u32 attention;	 /* atomic, enum scsi_attention */
	u64 known_bytes; /* atomic: capacity the guest has been told */

	pthread_mutex_t lock;	  /* the rest */
	struct block_device *dev; /* counted; NULL: no medium */
	bool locked;		  /* PREVENT MEDIUM REMOVAL */
	bool tray_open;
	u8 event; /* MMC media event not yet told */
};

struct scsi_lun *scsi_lun_create(const struct scsi_kind *kind, struct block_device *dev,
				 const struct scsi_lun_config *cfg);

/* Ends a request. */
void scsi_good(struct scsi_request *req);
void scsi_fail(struct scsi_request *req, u32 sense);
/* With the sense a back end's error means. */
void scsi_fail_errno(struct scsi_request *req, int error);
/* Sends at most @allocation bytes of @data and ends well. */
void scsi_reply(struct scsi_request *req, const void *data, u32 bytes, u32 allocation);
/* Copies up to @bytes of the initiator's data into private memory; how many there were. */
u32 scsi_fetch(struct scsi_request *req, void *data, u32 bytes);

/* Keeps the first @bytes of req->iov. */
void scsi_trim_iov(struct scsi_request *req, u32 bytes);
/* Hands req->block to the back end; @done as in block.h, scsi_block_done() ends the request. */
void scsi_submit(struct scsi_request *req, enum block_op op, u8 flags, u64 offset, u64 bytes,
		 void (*done)(struct block_request *block, int error));
void scsi_block_done(struct block_request *block, int error);

/* Rows both kinds have. */
void scsi_test_unit_ready(struct scsi_request *req);
void scsi_request_sense(struct scsi_request *req);
void scsi_inquiry(struct scsi_request *req);
void scsi_report_luns(struct scsi_request *req);
void scsi_mode_sense(struct scsi_request *req);
void scsi_read(struct scsi_request *req);
u32 scsi_vpd_serial(struct scsi_request *req, u8 *page);
u32 scsi_vpd_identification(struct scsi_request *req, u8 *page);

/* LBA and count of a 6, 10, 12 or 16 byte command, into req->lba and req->blocks. */
void scsi_decode_range(struct scsi_request *req);
/* Whether they lie on the medium; fails the request if not. */
bool scsi_check_range(struct scsi_request *req);
/* A transfer of req->blocks blocks with the initiator's memory; fails the request if it can not. */
bool scsi_prepare_transfer(struct scsi_request *req, u64 *offset, u32 *bytes);

#endif
