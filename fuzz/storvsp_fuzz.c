// SPDX-License-Identifier: MIT
/*
 * A guest that has negotiated and then sends whatever the input says, on a disk,
 * a write-protected disk and a drive, while units come and go and the host's disk
 * fails or is slow. What may not happen besides a crash: a request without an
 * answer, an answer without a request, bytes moved beyond the guest's memory.
 */
#include "vsp/storvsp.h"

#include "base/log.h"
#include "hvdef/storvsp.h"
#include "vmbus/testing.h"

#define DISK_BYTES  ((u64)(256 * KIB))
#define BUF_PAGES   8u
#define GUARD_PAGES 1u

static const u8 *in;
static size_t left;

static struct fake_guest g;
static struct storvsp *sv;
static struct block_device *disk;
static struct guest_channel primary;
static struct vmbus_device_ops ops;
static struct guest_packet pkt;
static u64 buf_gpa;
static u32 sent, answered;

static u8 byte(void)
{
	if (!left)
		return 0;
	left--;
	return *in++;
}

static void fill(void *p, u32 n)
{
	for (u32 i = 0; i < n; i++)
		((u8 *)p)[i] = byte();
}

static void drain(void)
{
	while (guest_read(&primary, &pkt)) {
		const struct vstor_packet *p = guest_packet_payload(&pkt);

		must(pkt.bytes == 64);
		if (pkt.h.type == VMBUS_PACKET_INBAND) {
			must(p->operation == VSTOR_ENUMERATE_BUS && pkt.h.transaction_id == 0);
			continue;
		}
		must(pkt.h.type == VMBUS_PACKET_COMPLETION);
		must(p->operation == VSTOR_COMPLETE_IO);
		answered++;
		must(answered <= sent);
	}
}

static void send(u16 type, const void *extra, u32 extra_bytes, const void *p, u32 bytes)
{
	bool wants = byte() & 0x1f;

	if (guest_write(&primary, type, wants ? VMBUS_PACKET_COMPLETION_REQUESTED : 0, 1 + byte(),
			extra, extra_bytes, p, bytes, false) &&
	    wants)
		sent++;
	guest_run(&g);
}

static void negotiate(u32 operation, u16 version)
{
	struct vstor_packet p = { .operation = operation, .flags = 1 };

	p.version.version = version;
	must(guest_write(&primary, VMBUS_PACKET_INBAND, VMBUS_PACKET_COMPLETION_REQUESTED, 1, NULL,
			 0, &p, sizeof(p), false));
	sent++;
	drain();
}

/* Opcodes and blocks that have a chance, mixed with any. */
static void fill_cdb(u8 *cdb)
{
	static const u8 opcodes[] = {
		SCSI_READ_6,
		SCSI_WRITE_6,
		SCSI_READ_10,
		SCSI_WRITE_10,
		SCSI_READ_12,
		SCSI_WRITE_12,
		SCSI_READ_16,
		SCSI_WRITE_16,
		SCSI_UNMAP,
		SCSI_WRITE_SAME_10,
		SCSI_WRITE_SAME_16,
		SCSI_INQUIRY,
		SCSI_MODE_SENSE_6,
		SCSI_MODE_SENSE_10,
		SCSI_REPORT_LUNS,
		SCSI_SERVICE_ACTION_IN_16,
		SCSI_GET_CONFIGURATION,
		SCSI_READ_TOC,
		SCSI_GET_EVENT_STATUS,
		SCSI_START_STOP_UNIT,
	};
	u8 how = byte();

	if (how & 1) {
		fill(cdb, 16);
		cdb[0] = opcodes[cdb[0] % sizeof(opcodes)];
		return;
	}
	cdb[0] = opcodes[byte() % sizeof(opcodes)];
	cdb[1] = byte();
	switch (cdb[0] >> 5) {
	case 0:
		cdb[2] = byte();
		cdb[4] = byte();
		break;
	case 4:
		put_be64(cdb + 2, byte() * 4u);
		put_be32(cdb + 10, byte());
		break;
	case 5:
		put_be32(cdb + 2, byte() * 4u);
		put_be32(cdb + 6, byte());
		break;
	default:
		put_be32(cdb + 2, byte() * 4u);
		put_be16(cdb + 7, byte());
	}
}

static void send_srb(void)
{
	struct vstor_packet p = { .operation = VSTOR_EXECUTE_SRB, .flags = 1 };
	struct {
		struct vmbus_gpa_direct_header h;
		struct {
			u32 byte_count, byte_offset;
		} range;
		u64 pfn[BUF_PAGES];
	} extra = { .h = { 0, 1 } };
	u8 shape = byte();
	u32 pages;

	p.srb.length = 52;
	p.srb.cdb_length = shape & 1 ? 16 : byte();
	p.srb.sense_length = shape & 2 ? 20 : byte();
	p.srb.lun = byte() % 5;
	p.srb.data_in = shape & 4 ? byte() : byte() % 3;
	fill_cdb(p.srb.cdb);
	extra.range.byte_offset = shape & 8 ? byte() * 16u : 0;
	extra.range.byte_count = byte() * 128u + byte();
	if (extra.range.byte_offset + extra.range.byte_count > BUF_PAGES * PAGE_BYTES)
		extra.range.byte_count = BUF_PAGES * PAGE_BYTES - extra.range.byte_offset;
	p.srb.data_transfer_length = shape & 16 ? extra.range.byte_count : byte() * 512u;
	if (shape & 32)
		fill(&p.srb.target, 1);
	pages = (extra.range.byte_offset + extra.range.byte_count + PAGE_BYTES - 1) / PAGE_BYTES;
	for (u32 i = 0; i < pages; i++)
		extra.pfn[i] = buf_gpa / PAGE_BYTES + byte() % BUF_PAGES;
	if (shape & 64 && pages)
		fill(&extra.pfn[byte() % pages], 8);
	if (extra.range.byte_count)
		send(VMBUS_PACKET_GPA_DIRECT, &extra, 16 + 8 * pages, &p, sizeof(p));
	else
		send(VMBUS_PACKET_INBAND, NULL, 0, &p, sizeof(p));
}

static void send_raw(void)
{
	u8 raw[80];
	u32 bytes = byte() % sizeof(raw);

	fill(raw, bytes);
	if (bytes > 4 && raw[1] < 0xf0)
		raw[1] = raw[2] = raw[3] = 0;
	send(VMBUS_PACKET_INBAND, NULL, 0, raw, bytes);
}

static void scribble(void)
{
	u8 *p = guest_ptr(&g, buf_gpa + byte() % BUF_PAGES * PAGE_BYTES);

	fill(p, byte() % 64);
}

static void plug(void)
{
	struct scsi_lun_config cfg = { .identity = 9 };
	u8 what = byte();
	struct scsi_lun *lun;

	if (what & 1) {
		storvsp_detach(sv, what >> 1 & 3);
		return;
	}
	lun = scsi_disk_create(disk, &cfg);
	if (storvsp_attach(sv, what >> 1 & 3, lun))
		scsi_lun_put(lun);
}

static void change_medium(void)
{
	struct scsi_lun *lun = scsi_bus_get(storvsp_bus(sv), 2);

	if (lun)
		scsi_cdrom_change(lun, byte() & 1 ? disk : NULL, byte() & 1);
	scsi_lun_put(lun);
}

static void step(void)
{
	static const enum block_op failing[] = { BLOCK_READ, BLOCK_WRITE, BLOCK_DISCARD,
						 BLOCK_WRITE_ZEROES };
	static const int errors[] = { 0, 0, -5, -28, -95, -12 };

	switch (byte() % 16) {
	case 0:
		send_raw();
		break;
	case 1:
		scribble();
		break;
	case 2:
		plug();
		break;
	case 3: /* not the flush: once failed it stays so, loudly */
		block_mem_fail(disk, failing[byte() % ARRAY_SIZE(failing)],
			       errors[byte() % ARRAY_SIZE(errors)]);
		break;
	case 4:
		block_mem_hold(disk, byte() & 1);
		break;
	case 5:
		block_mem_release(disk);
		break;
	case 6:
		change_medium();
		break;
	case 7:
		block_mem_resize(disk, byte() * 1024u);
		break;
	case 8:
		guest_advance(&g, VMBUS_POLL_NS);
		break;
	case 9:
		drain();
		break;
	default:
		send_srb();
	}
}

/* Once per process: a machine. */
static void power_on(void)
{
	struct storvsp_config cfg = { .instance_id = storvsp_instance_id(0), .max_subchannels = 2 };
	struct vmbus_offer o = { .ops = &ops, .instance_id = cfg.instance_id };

	log_set_level(LOG_ERROR);
	guest_init(&g, NULL);
	ops = storvsp_ops;
	ops.threaded = false;
	o.dev = sv = storvsp_alloc(&cfg);
	must(vmbus_offer(g.srv, &o, NULL) == 0);
}

/* Once per input: a guest that has just started its driver, and fresh disks. */
static void begin(void)
{
	struct scsi_lun_config lun = { .identity = 1 };
	struct block_device *ro = block_mem_create(DISK_BYTES, true);

	sent = answered = 0;
	disk = block_mem_create(DISK_BYTES, false);
	must(storvsp_attach(sv, 0, scsi_disk_create(disk, &lun)) == 0);
	must(storvsp_attach(sv, 1, scsi_disk_create(ro, &lun)) == 0);
	must(storvsp_attach(sv, 2, scsi_cdrom_create(ro, &lun)) == 0);
	block_put(ro);
	guest_connect(&g, VMBUS_VERSION(5, 3), 0);
	guest_expect_offer(&g, &primary);
	guest_expect(&g, VMBUS_ALL_OFFERS_DELIVERED, 8);
	must(guest_open(&primary, 8, 0) == 0);
	buf_gpa = guest_alloc(&g, BUF_PAGES);
	negotiate(VSTOR_BEGIN_INITIALIZATION, 0);
	negotiate(VSTOR_QUERY_PROTOCOL_VERSION, VSTOR_VERSION(6, 2));
	negotiate(VSTOR_END_INITIALIZATION, 0);
	must(sent == 3 && answered == 3);
}

static void end(void)
{
	vmbus_server_reset(g.srv);
	for (u32 i = 0; i < SCSI_LUN_MAX; i++)
		storvsp_detach(sv, i);
	block_put(disk);
	g.next_gpa = FAKE_RAM_GPA;
	g.count = g.taken = 0;
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);
int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	u32 before;

	in = data;
	left = size;
	if (!g.srv)
		power_on();
	begin();
	while (left)
		step();
	block_mem_hold(disk, false);
	do { /* everything is answered in the end, if the channel still lives */
		before = answered;
		block_mem_release(disk);
		guest_advance(&g, NS_PER_MS);
		drain();
	} while (answered != before);
	must(answered == sent);
	end();
	return 0;
}
