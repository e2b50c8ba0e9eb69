// SPDX-License-Identifier: MIT
/* Conversations of Linux storvsc with the controller, and of guests that do not follow it. */
#include "vsp/storvsp.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "hvdef/storvsp.h"
#include "vmbus/testing.h"

#include <cmocka.h>

#define DISK_BYTES ((u64)(4 * MIB))
#define RING_PAGES 32	       /* each way, as Linux has it */
#define INIT_ID	   (~0ull - 1) /* VMBUS_RQST_INIT */
#define SUBS	   2

static struct fake_guest g;
static struct storvsp *sv;
static struct block_device *disk;
static struct guest_channel primary, sub[SUBS];
static struct vmbus_device_ops ops; /* storvsp's, on the test's thread */
static struct guest_packet pkt;
static u64 next_id;

static void attach_disk(u32 lun)
{
	struct scsi_lun_config cfg = { .identity = lun + 1 };

	assert_int_equal(storvsp_attach(sv, lun, scsi_disk_create(disk, &cfg)), 0);
}

static void offer_on_this_thread(void)
{
	struct storvsp_config cfg = { .instance_id = storvsp_instance_id(0),
				      .max_subchannels = SUBS };
	struct vmbus_offer o = { .ops = &ops, .instance_id = cfg.instance_id };

	ops = storvsp_ops;
	ops.threaded = false;
	sv = storvsp_alloc(&cfg);
	assert_non_null(sv);
	o.dev = sv;
	assert_int_equal(vmbus_offer(g.srv, &o, NULL), 0);
}

static void connect_primary(void)
{
	guest_connect(&g, VMBUS_VERSION(5, 3), 0);
	guest_expect_offer(&g, &primary);
	guest_expect(&g, VMBUS_ALL_OFFERS_DELIVERED, 8);
	assert_int_equal(guest_open(&primary, RING_PAGES, 0), 0);
}

static int setup(void **state)
{
	next_id = 1;
	guest_init(&g, NULL);
	disk = block_mem_create(DISK_BYTES, false);
	offer_on_this_thread();
	attach_disk(0);
	connect_primary();
	return 0;
}

static int teardown(void **state)
{
	block_mem_hold(disk, false); /* a failed test may have left some, and closing waits */
	block_mem_release(disk);
	guest_fini(&g);
	block_put(disk);
	return 0;
}

/* One request in-band with a completion, and its answer. */
static const struct vstor_packet *ask(struct guest_channel *c, const void *request, u32 bytes)
{
	guest_send(c, VMBUS_PACKET_COMPLETION_REQUESTED, INIT_ID, request, bytes);
	guest_read_wait(c, &pkt);
	assert_int_equal(pkt.h.type, VMBUS_PACKET_COMPLETION);
	assert_int_equal(pkt.h.transaction_id, INIT_ID);
	assert_int_equal(pkt.bytes, 64); /* exactly: Windows checks it */
	return guest_packet_payload(&pkt);
}

static u32 negotiate(struct guest_channel *c, u32 operation, u16 argument)
{
	struct vstor_packet p = { .operation = operation, .flags = VSTOR_FLAG_COMPLETION };
	const struct vstor_packet *r;

	p.version.version = argument;
	r = ask(c, &p, sizeof(p));
	assert_int_equal(r->operation, VSTOR_COMPLETE_IO);
	return r->status;
}

static void start_controller(void)
{
	assert_int_equal(negotiate(&primary, VSTOR_BEGIN_INITIALIZATION, 0), 0);
	assert_int_equal(negotiate(&primary, VSTOR_QUERY_PROTOCOL_VERSION, 0x0602), 0);
	assert_int_equal(negotiate(&primary, VSTOR_QUERY_PROPERTIES, 0), 0);
	assert_int_equal(negotiate(&primary, VSTOR_END_INITIALIZATION, 0), 0);
}

static void open_subchannels(void)
{
	assert_int_equal(negotiate(&primary, VSTOR_CREATE_SUB_CHANNELS, SUBS), 0);
	for (u32 i = 0; i < SUBS; i++) {
		guest_expect_offer(&g, &sub[i]);
		assert_int_equal(sub[i].offer.subchannel_index, i + 1);
	}
	for (u32 i = 0; i < SUBS; i++)
		assert_int_equal(guest_open(&sub[i], RING_PAGES, 0), 0);
}

/*
 * The start sequence of Linux storvsc, byte by byte, written down from the protocol
 * description, not recorded from a guest. Version 7.0 is ours, to see a refusal.
 * Unnamed bytes are zero.
 */
static void test_start(void **state)
{
	static const struct {
		u8 request[16], answer[28];
	} rows[] = {
		/* BEGIN_INITIALIZATION */
		{ { 7, 0, 0, 0, 1 }, { 1 } },
		/* QUERY_PROTOCOL_VERSION: 7.0 (nobody has it), then 6.2 */
		{ { 9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0x00, 0x07 },
		  { 1, 0, 0, 0, 0, 0, 0, 0, 0x59, 0, 0, 0xc0, 0x00, 0x07 } },
		{ { 9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0x02, 0x06 },
		  { 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x02, 0x06 } },
		/* QUERY_PROPERTIES: two sub-channels, multi-channel, 1 MiB at a time */
		{ { 10, 0, 0, 0, 1 }, { 1, 0, 0,    0, 0, 0, 0, 0, 0, 0, 0, 0, 0,    0,
					0, 0, SUBS, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0x10, 0 } },
		/* END_INITIALIZATION */
		{ { 8, 0, 0, 0, 1 }, { 1 } },
		/* CREATE_SUB_CHANNELS 2 */
		{ { 13, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, SUBS },
		  { 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, SUBS } },
	};

	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		u8 request[64] = { 0 }, answer[64] = { 0 };

		memcpy(request, rows[i].request, sizeof(rows[i].request));
		memcpy(answer, rows[i].answer, sizeof(rows[i].answer));
		assert_memory_equal(ask(&primary, request, sizeof(request)), answer, 64);
	}
	for (u32 i = 0; i < SUBS; i++) {
		guest_expect_offer(&g, &sub[i]);
		assert_memory_equal(&sub[i].offer.instance_id, &primary.offer.instance_id, 16);
		assert_int_equal(sub[i].offer.subchannel_index, i + 1);
	}
	guest_expect_none(&g);
}

static void test_versions(void **state)
{
	static const struct {
		u16 version;
		u32 status;
	} rows[] = {
		{ 0x0200, VSTOR_STATUS_REVISION_MISMATCH },
		{ 0x0402, VSTOR_STATUS_REVISION_MISMATCH },
		{ 0x0501, 0 },
		{ 0x0600, 0 },
		{ 0x0602, 0 },
		{ 0x0603, VSTOR_STATUS_REVISION_MISMATCH },
		{ 0xffff, VSTOR_STATUS_REVISION_MISMATCH },
	};

	negotiate(&primary, VSTOR_BEGIN_INITIALIZATION, 0);
	for (u32 i = 0; i < ARRAY_SIZE(rows); i++)
		assert_int_equal(negotiate(&primary, VSTOR_QUERY_PROTOCOL_VERSION, rows[i].version),
				 rows[i].status);
}

static void test_order(void **state)
{
	static const u32 too_early[] = {
		VSTOR_QUERY_PROTOCOL_VERSION, VSTOR_QUERY_PROPERTIES, VSTOR_END_INITIALIZATION,
		VSTOR_CREATE_SUB_CHANNELS,    VSTOR_EXECUTE_SRB,      VSTOR_RESET_BUS
	};
	u8 part[16] = { VSTOR_BEGIN_INITIALIZATION };

	for (u32 i = 0; i < ARRAY_SIZE(too_early); i++)
		assert_int_equal(negotiate(&primary, too_early[i], 0x0602),
				 VSTOR_STATUS_INVALID_DEVICE_STATE);
	for (u32 op = 0; op < 40; op++)
		if (op == 0 || op > VSTOR_CREATE_SUB_CHANNELS || op == VSTOR_COMPLETE_IO ||
		    op == VSTOR_ENUMERATE_BUS || op == VSTOR_FCHBA_DATA)
			assert_int_equal(negotiate(&primary, op, 0),
					 VSTOR_STATUS_INVALID_PARAMETER);
	assert_int_equal(ask(&primary, part, sizeof(part))->status, VSTOR_STATUS_INVALID_PARAMETER);
	start_controller();
	assert_int_equal(negotiate(&primary, VSTOR_RESET_BUS, 0), 0);
	assert_int_equal(negotiate(&primary, VSTOR_CREATE_SUB_CHANNELS, 0),
			 VSTOR_STATUS_INVALID_PARAMETER);
	assert_int_equal(negotiate(&primary, VSTOR_CREATE_SUB_CHANNELS, SUBS + 1),
			 VSTOR_STATUS_INVALID_PARAMETER);
	/* A new kernel on the same channel begins again. */
	start_controller();
}

/* Requests */

struct io {
	struct vstor_packet p;
	u64 buf_gpa;
	u32 offset, range_bytes;
	u64 pfn[300];
	u64 id;
};

static void io_init(struct io *io, u8 lun, u8 direction, u32 bytes, const u8 *cdb, u32 cdb_bytes)
{
	u32 pages = (u32)(align_up(bytes + 512, PAGE_BYTES) / PAGE_BYTES);

	memset(io, 0, sizeof(*io));
	io->p.operation = VSTOR_EXECUTE_SRB;
	io->p.flags = VSTOR_FLAG_COMPLETION;
	io->p.srb.length = 52;
	io->p.srb.lun = lun;
	io->p.srb.cdb_length = 16;
	io->p.srb.sense_length = 20;
	io->p.srb.data_in = direction;
	io->p.srb.data_transfer_length = bytes;
	memcpy(io->p.srb.cdb, cdb, cdb_bytes);
	io->offset = 512;
	io->range_bytes = bytes;
	io->id = next_id++;
	io->buf_gpa = guest_alloc(&g, pages);
	for (u32 i = 0; i < pages; i++)
		io->pfn[i] = io->buf_gpa / PAGE_BYTES + i;
}

static u8 *io_data(struct io *io)
{
	return (u8 *)guest_ptr(&g, io->buf_gpa) + io->offset;
}

static bool io_send(struct guest_channel *c, struct io *io)
{
	if (io->range_bytes == 0)
		return guest_write(c, VMBUS_PACKET_INBAND, VMBUS_PACKET_COMPLETION_REQUESTED,
				   io->id, NULL, 0, &io->p, sizeof(io->p), false);
	return guest_send_gpa(c, VMBUS_PACKET_COMPLETION_REQUESTED, io->id, io->pfn, io->offset,
			      io->range_bytes, &io->p, sizeof(io->p));
}

static struct vstor_srb io_answer(struct guest_channel *c, u64 id)
{
	const struct vstor_packet *r = guest_packet_payload(&pkt);

	guest_read_wait(c, &pkt);
	assert_int_equal(pkt.h.type, VMBUS_PACKET_COMPLETION);
	assert_int_equal(pkt.h.transaction_id, id);
	assert_int_equal(pkt.bytes, 64);
	assert_int_equal(r->operation, VSTOR_COMPLETE_IO);
	assert_int_equal(r->status, 0);
	return r->srb;
}

static struct vstor_srb io_run(struct guest_channel *c, struct io *io)
{
	assert_true(io_send(c, io));
	return io_answer(c, io->id);
}

#define IO(io, lun, direction, bytes, ...)                                                         \
	do {                                                                                       \
		static const u8 cdb_[] = { __VA_ARGS__ };                                          \
		io_init(io, lun, direction, bytes, cdb_, sizeof(cdb_));                            \
	} while (0)
#define READ10(lba, n)	SCSI_READ_10, 0, 0, 0, (lba) >> 8 & 0xff, (lba)&0xff, 0, 0, n
#define WRITE10(lba, n) SCSI_WRITE_10, 0, 0, 0, (lba) >> 8 & 0xff, (lba)&0xff, 0, 0, n

static void assert_sense(const struct vstor_srb *s, u8 srb_status, u32 sense)
{
	assert_int_equal(s->srb_status, srb_status | VSTOR_SRB_AUTOSENSE_VALID);
	assert_int_equal(s->scsi_status, SCSI_CHECK_CONDITION);
	assert_int_equal(s->sense_length, 18);
	assert_int_equal(s->data_transfer_length, 0);
	assert_int_equal(SCSI_SENSE(s->sense[2], s->sense[12], s->sense[13]), sense);
}

static void test_scan(void **state)
{
	struct vstor_srb s;
	struct io io;

	start_controller();
	IO(&io, 0, VSTOR_DATA_READ, 36, SCSI_INQUIRY, 0, 0, 0, 36);
	s = io_run(&primary, &io);
	assert_int_equal(s.srb_status, VSTOR_SRB_SUCCESS);
	assert_int_equal(s.data_transfer_length, 36);
	assert_memory_equal(io_data(&io) + 8, "Msft    ", 8);
	/* Nobody, of this target or another: Linux ignores the status, only data says so. */
	IO(&io, 7, VSTOR_DATA_READ, 36, SCSI_INQUIRY, 0, 0, 0, 36);
	s = io_run(&primary, &io);
	assert_int_equal(s.srb_status, VSTOR_SRB_SUCCESS);
	assert_int_equal(io_data(&io)[0], 0x7f);
	IO(&io, 0, VSTOR_DATA_READ, 36, SCSI_INQUIRY, 0, 0, 0, 36);
	io.p.srb.target = 1;
	s = io_run(&primary, &io);
	assert_int_equal(s.srb_status, VSTOR_SRB_SUCCESS);
	assert_int_equal(io_data(&io)[0], 0x7f);
	IO(&io, 0, VSTOR_DATA_READ, 64, SCSI_REPORT_LUNS, 0, 0, 0, 0, 0, 0, 0, 0, 64);
	io.p.srb.path = 3;
	s = io_run(&primary, &io);
	assert_int_equal(s.srb_status, VSTOR_SRB_SUCCESS);
	assert_int_equal(s.data_transfer_length, 8);
	IO(&io, 0, VSTOR_DATA_NONE, 0, SCSI_TEST_UNIT_READY);
	io.p.srb.target = 1;
	s = io_run(&primary, &io);
	assert_int_equal(s.srb_status, VSTOR_SRB_INVALID_LUN);
	IO(&io, 7, VSTOR_DATA_NONE, 0, SCSI_TEST_UNIT_READY);
	s = io_run(&primary, &io);
	assert_int_equal(s.srb_status, VSTOR_SRB_INVALID_LUN);
	assert_int_equal(s.scsi_status, 0);
	IO(&io, 0, VSTOR_DATA_NONE, 0, SCSI_TEST_UNIT_READY);
	s = io_run(&primary, &io);
	assert_int_equal(s.srb_status, VSTOR_SRB_SUCCESS);
	/* Unsupported: sense, and no byte that could be taken for a page. */
	IO(&io, 0, VSTOR_DATA_READ, 255, SCSI_INQUIRY, 1, 0x89, 0, 255);
	s = io_run(&primary, &io);
	assert_sense(&s, VSTOR_SRB_ERROR, SCSI_SENSE_INVALID_FIELD);
	IO(&io, 0, VSTOR_DATA_NONE, 0, SCSI_PERSISTENT_RESERVE_IN);
	s = io_run(&primary, &io);
	assert_sense(&s, VSTOR_SRB_ERROR, SCSI_SENSE_INVALID_OPCODE);
}

static void test_data(void **state)
{
	struct vstor_srb s;
	struct io io;
	u64 swap;

	start_controller();
	IO(&io, 0, VSTOR_DATA_WRITE, 16384, WRITE10(100, 32));
	swap = io.pfn[1]; /* pages in any order */
	io.pfn[1] = io.pfn[2];
	io.pfn[2] = swap;
	for (u32 i = 0; i < 4 * PAGE_BYTES; i++)
		io_data(&io)[i] = (u8)(i >> 8);
	s = io_run(&primary, &io);
	assert_int_equal(s.srb_status, VSTOR_SRB_SUCCESS);
	assert_int_equal(s.data_transfer_length, 16384);
	assert_memory_equal(block_mem_data(disk) + 51200, io_data(&io), 3584);
	assert_memory_equal(block_mem_data(disk) + 51200 + 3584, io_data(&io) + 3584 + 4096, 4096);
	assert_memory_equal(block_mem_data(disk) + 51200 + 3584 + 4096, io_data(&io) + 3584, 4096);
	IO(&io, 0, VSTOR_DATA_READ, 16384, READ10(100, 32));
	s = io_run(&primary, &io);
	assert_int_equal(s.data_transfer_length, 16384);
	assert_memory_equal(block_mem_data(disk) + 51200, io_data(&io), 16384);
	/* A range longer than the transfer, and a transfer longer than the command. */
	IO(&io, 0, VSTOR_DATA_READ, 8192, READ10(100, 8));
	io.p.srb.data_transfer_length = 4096 + 1024;
	s = io_run(&primary, &io);
	assert_int_equal(s.srb_status, VSTOR_SRB_SUCCESS);
	assert_int_equal(s.data_transfer_length, 4096);
	IO(&io, 0, VSTOR_DATA_READ, 512, READ10(100, 8));
	s = io_run(&primary, &io);
	assert_sense(&s, VSTOR_SRB_DATA_OVERRUN, SCSI_SENSE_INVALID_FIELD);
}

static void test_errors(void **state)
{
	struct vstor_srb s;
	struct io io;

	start_controller();
	block_mem_fail(disk, BLOCK_WRITE, -ENOSPC);
	IO(&io, 0, VSTOR_DATA_WRITE, 512, WRITE10(1, 1));
	s = io_run(&primary, &io);
	assert_sense(&s, VSTOR_SRB_ERROR, SCSI_SENSE_NO_SPACE);
	block_mem_fail(disk, BLOCK_READ, -EIO);
	IO(&io, 0, VSTOR_DATA_READ, 512, READ10(1, 1));
	s = io_run(&primary, &io);
	assert_sense(&s, VSTOR_SRB_ERROR, SCSI_SENSE_READ_ERROR);
	/* No room for sense: then none is announced. */
	IO(&io, 0, VSTOR_DATA_READ, 512, READ10(1, 1));
	io.p.srb.sense_length = 0;
	s = io_run(&primary, &io);
	assert_int_equal(s.srb_status, VSTOR_SRB_ERROR);
	assert_int_equal(s.scsi_status, SCSI_CHECK_CONDITION);
	assert_int_equal(s.sense_length, 0);
	block_mem_fail(disk, BLOCK_READ, -ENOMEM);
	IO(&io, 0, VSTOR_DATA_READ, 512, READ10(1, 1));
	s = io_run(&primary, &io);
	assert_int_equal(s.srb_status, VSTOR_SRB_BUSY);
	assert_int_equal(s.scsi_status, SCSI_BUSY);
}

static void test_hostile_requests(void **state)
{
	struct vstor_srb s;
	struct io io;

	start_controller();
	IO(&io, 0, VSTOR_DATA_READ, 512, READ10(1, 1));
	io.p.srb.data_transfer_length = 0xffffffff;
	s = io_run(&primary, &io);
	assert_sense(&s, VSTOR_SRB_ERROR, SCSI_SENSE_INVALID_FIELD);
	IO(&io, 0, VSTOR_DATA_READ, 512, READ10(1, 1));
	io.pfn[0] = 0; /* not memory */
	s = io_run(&primary, &io);
	assert_sense(&s, VSTOR_SRB_ERROR, SCSI_SENSE_INVALID_FIELD);
	IO(&io, 0, VSTOR_DATA_READ, 512, READ10(1, 1));
	io.pfn[0] = ~0ull;
	s = io_run(&primary, &io);
	assert_sense(&s, VSTOR_SRB_ERROR, SCSI_SENSE_INVALID_FIELD);
	IO(&io, 0, 3, 512, READ10(1, 1));
	s = io_run(&primary, &io);
	assert_sense(&s, VSTOR_SRB_ERROR, SCSI_SENSE_INVALID_FIELD);
	IO(&io, 0, VSTOR_DATA_READ, 512, READ10(1, 1));
	io.p.srb.cdb_length = 17;
	s = io_run(&primary, &io);
	assert_sense(&s, VSTOR_SRB_ERROR, SCSI_SENSE_INVALID_FIELD);
	IO(&io, 255, VSTOR_DATA_READ, 512, READ10(1, 1));
	s = io_run(&primary, &io);
	assert_int_equal(s.srb_status, VSTOR_SRB_INVALID_LUN);
	assert_int_equal(block_mem_count(disk, BLOCK_READ), 0);
}

/* An answer comes on the channel of its request; control is for the primary alone. */
static void test_subchannels(void **state)
{
	struct vstor_srb s;
	struct io a, b;

	start_controller();
	open_subchannels();
	block_mem_hold(disk, true);
	IO(&a, 0, VSTOR_DATA_READ, 512, READ10(1, 1));
	IO(&b, 0, VSTOR_DATA_READ, 512, READ10(2, 1));
	io_send(&sub[0], &a);
	io_send(&sub[1], &b);
	guest_run(&g);
	block_mem_release(disk);
	s = io_answer(&sub[1], b.id);
	assert_int_equal(s.srb_status, VSTOR_SRB_SUCCESS);
	s = io_answer(&sub[0], a.id);
	assert_int_equal(s.srb_status, VSTOR_SRB_SUCCESS);
	assert_false(guest_read(&primary, &pkt));
	assert_int_equal(negotiate(&sub[0], VSTOR_BEGIN_INITIALIZATION, 0),
			 VSTOR_STATUS_INVALID_PARAMETER);
	assert_int_equal(negotiate(&sub[0], VSTOR_RESET_BUS, 0), 0);
}

static void expect_notification(void)
{
	const struct vstor_packet *p = guest_packet_payload(&pkt);

	assert_true(guest_read(&primary, &pkt));
	assert_int_equal(pkt.h.type, VMBUS_PACKET_INBAND);
	assert_int_equal(pkt.h.flags, 0);
	assert_int_equal(pkt.h.transaction_id, 0);
	assert_int_equal(pkt.bytes, 64);
	assert_int_equal(p->operation, VSTOR_ENUMERATE_BUS);
}

static void test_hot_plug(void **state)
{
	struct vstor_srb s;
	struct io io;

	attach_disk(1); /* nobody listens yet */
	assert_false(guest_read(&primary, &pkt));
	start_controller();
	attach_disk(2);
	attach_disk(3); /* told once if both come together */
	expect_notification();
	assert_false(guest_read(&primary, &pkt));
	assert_int_equal(storvsp_attach(sv, 3, NULL), -EBUSY);
	assert_int_equal(storvsp_free_number(sv), 4);
	assert_int_equal(storvsp_detach(sv, 2), 0);
	expect_notification();
	assert_int_equal(storvsp_detach(sv, 2), -ENOENT);
	IO(&io, 2, VSTOR_DATA_NONE, 0, SCSI_TEST_UNIT_READY);
	s = io_run(&primary, &io);
	assert_int_equal(s.srb_status, VSTOR_SRB_INVALID_LUN);
	/* A new size: the guest is woken, and finds the attention. */
	block_mem_resize(disk, MIB);
	assert_int_equal(storvsp_refresh(sv, 0), 0);
	expect_notification();
	IO(&io, 0, VSTOR_DATA_NONE, 0, SCSI_TEST_UNIT_READY);
	s = io_run(&primary, &io);
	assert_sense(&s, VSTOR_SRB_ERROR, SCSI_SENSE_CAPACITY_CHANGE);
}

/* The guest's memory is its own again only when the image has let go of it. */
static void test_close_while_busy(void **state)
{
	struct vmbus_gpadl_teardown m = { .header.type = VMBUS_GPADL_TEARDOWN };
	struct io io;

	start_controller();
	block_mem_hold(disk, true);
	IO(&io, 0, VSTOR_DATA_READ, 512, READ10(1, 1));
	io_send(&primary, &io);
	guest_run(&g);
	guest_post_relid(&g, VMBUS_CLOSE_CHANNEL, primary.offer.relid);
	m.relid = primary.offer.relid;
	m.gpadl = primary.gpadl;
	guest_post(&g, &m, sizeof(m));
	guest_expect_none(&g);
	block_mem_release(disk);
	block_mem_hold(disk, false);
	guest_expect(&g, VMBUS_GPADL_TORNDOWN, sizeof(struct vmbus_gpadl_torndown));
	/* And again, from the beginning. */
	assert_int_equal(guest_open(&primary, RING_PAGES, 0), 0);
	assert_int_equal(negotiate(&primary, VSTOR_EXECUTE_SRB, 0),
			 VSTOR_STATUS_INVALID_DEVICE_STATE);
	start_controller();
	IO(&io, 0, VSTOR_DATA_READ, 512, READ10(1, 1));
	assert_int_equal(io_run(&primary, &io).srb_status, VSTOR_SRB_SUCCESS);
}

/* More requests than the channel holds: the rest waits in the ring, none is lost. */
static void test_many(void **state)
{
	static u64 first[700];
	u32 sent = 0, got = 0;
	struct io io;

	start_controller();
	block_mem_hold(disk, true);
	IO(&io, 0, VSTOR_DATA_READ, 512, READ10(1, 1));
	while (sent < 600) {
		io.id = next_id++;
		if (!io_send(&primary, &io))
			break;
		first[sent++] = io.id;
		guest_advance(&g, VMBUS_POLL_NS);
	}
	assert_true(sent > 256);
	assert_int_equal(block_mem_count(disk, BLOCK_READ), 256);
	while (got < sent) {
		block_mem_release(disk);
		if (!guest_read(&primary, &pkt))
			continue;
		for (u32 i = 0; i < sent; i++) {
			if (first[i] == pkt.h.transaction_id) {
				first[i] = 0;
				got++;
			}
		}
	}
	assert_false(guest_read(&primary, &pkt));
}

/*
 * While several requests run the guest need not signal new ones: they are found
 * when something completes, or a moment after the last completion.
 */
static void test_few_signals(void **state)
{
	const struct vmbus_ring_header *hdr;
	struct io io;

	start_controller();
	hdr = primary.to_host.hdr;
	block_mem_hold(disk, true);
	IO(&io, 0, VSTOR_DATA_READ, 512, READ10(1, 1));
	for (u32 i = 0; i < 4; i++) {
		assert_int_equal(hdr->interrupt_mask, 0);
		io_send(&primary, &io);
		guest_run(&g);
	}
	assert_int_equal(hdr->interrupt_mask, 1);
	io_send(&primary, &io); /* quietly */
	guest_run(&g);
	assert_int_equal(block_mem_count(disk, BLOCK_READ), 4);
	block_mem_release(disk);
	guest_run(&g);
	assert_int_equal(block_mem_count(disk, BLOCK_READ), 5);
	assert_int_equal(hdr->interrupt_mask, 0);
	for (u32 i = 0; i < 3; i++)
		io_send(&primary, &io);
	guest_run(&g);
	assert_int_equal(hdr->interrupt_mask, 1);
	io_send(&primary, &io);
	guest_run(&g);
	assert_int_equal(block_mem_count(disk, BLOCK_READ), 8);
	guest_advance(&g, VMBUS_POLL_NS);
	assert_int_equal(block_mem_count(disk, BLOCK_READ), 9);
	assert_int_equal(hdr->interrupt_mask, 0);
	block_mem_release(disk);
	for (u32 i = 0; i < 9; i++)
		guest_read_wait(&primary, &pkt);
}

/* The real thing: a thread per channel, an image in a file. */
static void test_threads(void **state)
{
	struct storvsp_config cfg = { .instance_id = storvsp_instance_id(1),
				      .max_subchannels = SUBS };
	struct block_spec spec = { .path = (char[]){ "/tmp/nestor-storvsp-XXXXXX" } };
	struct scsi_lun_config lun = { .identity = 7 };
	struct block_device *file;
	char error[256];
	u64 ids[3][40];
	struct io io;
	int fd;

	guest_fini(&g);
	guest_init(&g, NULL);
	fd = mkstemp(spec.path);
	assert_true(fd >= 0 && ftruncate(fd, (off_t)DISK_BYTES) == 0);
	close(fd);
	assert_int_equal(block_open(&spec, &file, error, sizeof(error)), 0);
	assert_int_equal(storvsp_create(g.srv, &cfg, &sv), 0);
	assert_int_equal(storvsp_attach(sv, 0, scsi_disk_create(file, &lun)), 0);
	block_put(file);
	connect_primary();
	start_controller();
	open_subchannels();
	for (u32 round = 0; round < 20; round++) {
		struct guest_channel *ch[] = { &primary, &sub[0], &sub[1] };

		IO(&io, 0, VSTOR_DATA_WRITE, 4096, WRITE10(64, 8));
		for (u32 c = 0; c < 3; c++) {
			for (u32 i = 0; i < 40; i++) {
				io.id = ids[c][i] = next_id++;
				assert_true(io_send(ch[c], &io));
			}
		}
		for (u32 c = 0; c < 3; c++) {
			for (u32 got = 0; got < 40; got++) {
				const struct vstor_packet *r = guest_packet_payload(&pkt);

				guest_read_wait(ch[c], &pkt);
				assert_in_range(pkt.h.transaction_id, ids[c][0], ids[c][39]);
				assert_int_equal(r->srb.srb_status, VSTOR_SRB_SUCCESS);
			}
		}
	}
	/* The controller goes while requests run. */
	for (u32 i = 0; i < 40; i++)
		io_send(&sub[0], &io);
	storvsp_revoke(sv);
	unlink(spec.path);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_start),
		T(test_versions),
		T(test_order),
		T(test_scan),
		T(test_data),
		T(test_errors),
		T(test_hostile_requests),
		T(test_subchannels),
		T(test_hot_plug),
		T(test_close_while_busy),
		T(test_many),
		T(test_few_signals),
		T(test_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
