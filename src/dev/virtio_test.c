// SPDX-License-Identifier: MIT
/* The transport's state machine with a device that only notes, and a network card with queues. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include <cmocka.h>

#include "dev/virtio_net.h"
#include "engine/fake/fake.h"

#define ECAM	  0xE0000000ull
#define WINDOW	  0xC0000000ull
#define BYTES	  0x10000000ull
#define RAM_BYTES (1 * MIB)
#define FEATURE_X BIT64(5)
#define CONFIG_AT (WINDOW + 0x2000)
#define NOTIFY_AT (WINDOW + 0x3000)

/* Common registers. */
enum {
	DEV_SEL = 0,
	DEV_F = 4,
	DRV_SEL = 8,
	DRV_F = 12,
	CFG_VEC = 16,
	QUEUES = 18,
	STATUS = 20,
	GENERATION = 21,
	Q_SEL = 22,
	Q_SIZE = 24,
	Q_VEC = 26,
	Q_ENABLE = 28,
	Q_OFF = 30,
	Q_DESC = 32,
	Q_DRIVER = 40,
	Q_DEVICE = 48
};

struct bench {
	struct engine_vm *vm;
	struct bus *ports, *mmio;
	struct pci_host *host;
	struct gmem gm;
	u8 *ram;
	struct virtio_pci *vp; /* of the noting device */
	u32 starts, stops, vectors;
	u64 features;
	int start_result;

	struct virtio_net *net;
	struct net_backend be;
	u8 sent[NET_FRAME_MAX];
	struct net_frame frame; /* the last one sent, its bytes in `sent` */
	u32 tx, tx_ends, resumes, be_stops, destroys;
	struct net_rx_caps caps;
};

static int on_start(void *dev, u64 features)
{
	struct bench *b = dev;

	b->starts++;
	b->features = features;
	return b->start_result;
}

static void on_stop(void *dev)
{
	((struct bench *)dev)->stops++;
}

static void on_vector(void *dev, u32 queue)
{
	((struct bench *)dev)->vectors++;
}

static const struct virtio_device_ops device_ops = { on_start, on_stop, on_vector };

static struct bench *bench_create(void)
{
	static struct bench b;
	const struct engine_vm_config vc = { .max_vcpus = 1 };
	struct pci_host_config hc = {
		.ecam_gpa = ECAM, .ecam_bytes = BYTES, .window_gpa = WINDOW, .window_bytes = BYTES
	};

	b = (struct bench){ 0 };
	assert_int_equal(engine_vm_create(&fake_engine, &vc, &b.vm), 0);
	assert_int_equal(bus_create(&b.ports), 0);
	assert_int_equal(bus_create(&b.mmio), 0);
	hc.vm = b.vm;
	assert_int_equal(pci_host_create(&hc, &b.host), 0);
	assert_int_equal(pci_host_attach(b.host, b.ports, b.mmio), 0);
	b.ram = aligned_alloc(PAGE_BYTES, RAM_BYTES);
	memset(b.ram, 0, RAM_BYTES);
	assert_int_equal(gmem_init(&b.gm), 0);
	assert_int_equal(gmem_add(&b.gm, 0, RAM_BYTES, b.ram, GMEM_RAM), 0);
	return &b;
}

static int teardown(void **state)
{
	struct bench *b = *state;

	virtio_pci_destroy(b->vp);
	virtio_net_destroy(b->net);
	bus_destroy(b->ports);
	bus_destroy(b->mmio);
	pci_host_destroy(b->host);
	b->vm->ops->vm_destroy(b->vm);
	gmem_fini(&b->gm);
	free(b->ram);
	return 0;
}

static void conf_write(struct bench *b, u32 offset, u8 size, u32 value)
{
	bus_write(b->mmio, ECAM + (1 << 15) + offset, size, value);
}

static u32 conf_read(struct bench *b, u32 offset, u8 size)
{
	return (u32)bus_read(b->mmio, ECAM + (1 << 15) + offset, size);
}

static void set(struct bench *b, u32 reg, u8 size, u64 value)
{
	bus_write(b->mmio, WINDOW + reg, size, value);
}

static u64 get(struct bench *b, u32 reg, u8 size)
{
	return bus_read(b->mmio, WINDOW + reg, size);
}

static int setup_plain(void **state)
{
	static const u8 config[6] = { 1, 2, 3, 4, 5, 6 };
	struct bench *b = bench_create();
	const struct virtio_pci_config vc = { .name = "noting",
					      .device_type = 2,
					      .queues = 2,
					      .features = FEATURE_X | VIRTIO_F_VERSION_1,
					      .queue_size = 64,
					      .config = config,
					      .config_bytes = sizeof(config),
					      .ops = &device_ops,
					      .dev = b };

	assert_int_equal(virtio_pci_create(b->host, &b->gm, &vc, &b->vp), 0);
	conf_write(b, 4, 2, 6);
	*state = b;
	return 0;
}

static void negotiate(struct bench *b, u64 features)
{
	set(b, STATUS, 1, 0);
	set(b, STATUS, 1, 1);
	set(b, STATUS, 1, 3);
	set(b, DRV_SEL, 4, 0);
	set(b, DRV_F, 4, (u32)features);
	set(b, DRV_SEL, 4, 1);
	set(b, DRV_F, 4, (u32)(features >> 32));
	set(b, STATUS, 1, 0xB);
}

static void queue_setup(struct bench *b, u16 i, u16 size, u64 base)
{
	set(b, Q_SEL, 2, i);
	set(b, Q_SIZE, 2, size);
	set(b, Q_DESC, 4, (u32)base);
	set(b, Q_DESC + 4, 4, 0);
	set(b, Q_DRIVER, 8, base + 0x1000);
	set(b, Q_DEVICE, 8, base + 0x2000);
	set(b, Q_VEC, 2, i + 1);
	set(b, Q_ENABLE, 2, 1);
}

static void test_capabilities(void **state)
{
	struct bench *b = *state;
	u32 seen = 0;

	assert_int_equal(conf_read(b, 0, 4), 0x10421AF4);
	for (u32 at = conf_read(b, 0x34, 1); at; at = conf_read(b, at + 1, 1)) {
		if (conf_read(b, at, 1) != 9)
			continue;
		seen |= BIT(conf_read(b, at + 3, 1));
		assert_true(conf_read(b, at + 2, 1) >= 16);
	}
	assert_int_equal(seen, 0x3E);
	assert_int_equal(bus_read(b->mmio, CONFIG_AT, 4), 0x04030201);
	assert_int_equal(bus_read(b->mmio, CONFIG_AT + 4, 4), 0x0605);
	assert_int_equal(bus_read(b->mmio, CONFIG_AT + 6, 4), 0);
	assert_int_equal(bus_read(b->mmio, WINDOW + 0x1000, 1), 0); /* ISR */
	assert_int_equal(get(b, QUEUES, 2), 2);
}

/* The registers by way of configuration space. */
static void test_access(void **state)
{
	struct bench *b = *state;
	u32 at = conf_read(b, 0x34, 1);

	while (conf_read(b, at + 3, 1) != 5 || conf_read(b, at, 1) != 9)
		at = conf_read(b, at + 1, 1);
	conf_write(b, at + 4, 1, 0);
	conf_write(b, at + 8, 4, STATUS);
	conf_write(b, at + 12, 4, 1);
	conf_write(b, at + 16, 1, 3);
	assert_int_equal(get(b, STATUS, 1), 3);
	assert_int_equal(conf_read(b, at + 16, 1), 3);
	conf_write(b, at + 12, 4, 4); /* not what the access will be */
	assert_int_equal(conf_read(b, at + 16, 1), 0);
	conf_write(b, at + 8, 4, 0xFFFFFFFC);
	assert_int_equal(conf_read(b, at + 16, 4), 0);
	conf_write(b, at + 4, 1, 1); /* the other BAR is MSI-X's alone */
	conf_write(b, at + 8, 4, 0);
	assert_int_equal(conf_read(b, at + 16, 4), 0);
}

static void test_features(void **state)
{
	struct bench *b = *state;

	assert_int_equal(get(b, DEV_F, 4), FEATURE_X);
	set(b, DEV_SEL, 4, 1);
	assert_int_equal(get(b, DEV_F, 4), 1);
	set(b, DEV_SEL, 4, 2);
	assert_int_equal(get(b, DEV_F, 4), 0);
	negotiate(b, FEATURE_X); /* without VERSION_1 */
	assert_int_equal(get(b, STATUS, 1), 3);
	negotiate(b, FEATURE_X << 1 | VIRTIO_F_VERSION_1); /* not offered */
	assert_int_equal(get(b, STATUS, 1), 3);
	set(b, STATUS, 1, 7); /* DRIVER_OK without FEATURES_OK */
	assert_int_equal(get(b, STATUS, 1), 3);
	negotiate(b, FEATURE_X | VIRTIO_F_VERSION_1);
	assert_int_equal(get(b, STATUS, 1), 0xB);
	set(b, DRV_F, 4, 0); /* settled */
	assert_int_equal(get(b, DRV_F, 4), 1);
	set(b, STATUS, 1, 1); /* bits do not go away */
	assert_int_equal(get(b, STATUS, 1), 0xB);
	assert_int_equal(b->starts, 0);
}

static void test_queues(void **state)
{
	struct bench *b = *state;
	const struct virtio_queue *q = virtio_pci_queue(b->vp, 1);

	negotiate(b, VIRTIO_F_VERSION_1);
	set(b, Q_SEL, 2, 2);
	assert_int_equal(get(b, Q_SIZE, 2), 0); /* there is none */
	set(b, Q_ENABLE, 2, 1);
	set(b, Q_SEL, 2, 1);
	assert_int_equal(get(b, Q_SIZE, 2), 64);
	assert_int_equal(get(b, Q_OFF, 2), 1);
	assert_int_equal(get(b, Q_VEC, 2), VIRTIO_NO_VECTOR);
	set(b, Q_SIZE, 2, 128); /* too large, not a power of two, nothing: not taken */
	set(b, Q_SIZE, 2, 48);
	set(b, Q_SIZE, 2, 0);
	set(b, Q_SIZE, 4, 32); /* not the field's width */
	assert_int_equal(get(b, Q_SIZE, 2), 64);
	set(b, Q_VEC, 2, 3); /* vectors are 0 to 2 */
	assert_int_equal(get(b, Q_VEC, 2), VIRTIO_NO_VECTOR);
	queue_setup(b, 1, 16, 0x10000);
	assert_int_equal(get(b, Q_DRIVER, 8), 0x11000);
	assert_int_equal(get(b, Q_VEC, 2), 2);
	set(b, Q_DESC, 4, 0); /* enabled: fixed */
	set(b, Q_ENABLE, 2, 0);
	assert_int_equal(get(b, Q_DESC, 4), 0x10000);
	assert_int_equal(get(b, Q_ENABLE, 2), 1);
	set(b, STATUS, 1, 0xF);
	assert_int_equal(b->starts, 1);
	assert_int_equal(b->features, VIRTIO_F_VERSION_1);
	assert_ptr_equal(q->desc, b->ram + 0x10000);
	assert_ptr_equal(q->device, b->ram + 0x12000);
	set(b, Q_VEC, 2, 0);
	assert_int_equal(b->vectors, 1);
	/* Bus mastering off: no more access to memory; on: it goes on. */
	conf_write(b, 4, 2, 2);
	assert_int_equal(b->stops, 1);
	conf_write(b, 4, 2, 6);
	assert_int_equal(b->starts, 2);
	set(b, STATUS, 1, 0);
	assert_int_equal(b->stops, 2);
	assert_int_equal(get(b, STATUS, 1), 0);
	assert_int_equal(get(b, Q_ENABLE, 2), 0);
	assert_false(q->enabled);
}

static void test_doorbells(void **state)
{
	struct bench *b = *state;
	eventfd_t n;

	assert_int_equal(fake_count(b->vm, FAKE_IOEVENTFD), 2);
	assert_int_equal(fake_last(b->vm, FAKE_IOEVENTFD).a, NOTIFY_AT + 4);
	/* The long way. */
	bus_write(b->mmio, NOTIFY_AT + 4, 2, 1);
	assert_int_equal(eventfd_read(virtio_pci_queue(b->vp, 1)->kick_fd, &n), 0);
	bus_write(b->mmio, NOTIFY_AT + 8, 2, 2); /* no such queue */
	bus_write(b->mmio, NOTIFY_AT, 2, 0);
	set(b, STATUS, 1, 0);
	assert_int_equal(eventfd_read(virtio_pci_queue(b->vp, 0)->kick_fd, &n), -1);
}

static void test_bad_queues(void **state)
{
	static const struct {
		u64 base;
		u16 size;
	} rows[] = {
		{ 0x10008, 16 },	    /* not aligned */
		{ RAM_BYTES, 16 },	    /* no memory */
		{ RAM_BYTES - 0x2000, 64 }, /* the device's part is outside */
		{ 0xFFFFF000, 64 },
	};
	struct bench *b = *state;

	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		negotiate(b, VIRTIO_F_VERSION_1);
		set(b, CFG_VEC, 2, 0);
		queue_setup(b, 0, rows[i].size, rows[i].base);
		set(b, STATUS, 1, 0xF);
		assert_int_equal(get(b, STATUS, 1), 0x4F);
		assert_int_equal(b->starts, 0);
		assert_int_equal(bus_read(b->mmio, WINDOW + 0x4800, 8), 1); /* it was said */
		set(b, STATUS, 1, 0xF); /* not until it is reset */
	}
	negotiate(b, VIRTIO_F_VERSION_1);
	b->start_result = -EIO;
	set(b, STATUS, 1, 0xF);
	assert_int_equal(get(b, STATUS, 1), 0x4F);
	assert_int_equal(b->stops, 0);
}

static void test_config_change(void **state)
{
	struct bench *b = *state;
	u64 before = get(b, GENERATION, 1);

	negotiate(b, VIRTIO_F_VERSION_1);
	set(b, CFG_VEC, 2, 0);
	set(b, STATUS, 1, 0xF);
	virtio_pci_config_set(b->vp, 1, "\x77", 1);
	assert_int_equal(get(b, GENERATION, 1), before + 1);
	assert_int_equal(bus_read(b->mmio, CONFIG_AT, 2), 0x7701);
	assert_int_equal(bus_read(b->mmio, WINDOW + 0x4800, 8), 1);
	virtio_pci_fail(b->vp, "broken");
	assert_int_equal(get(b, STATUS, 1), 0x4F);
	set(b, STATUS, 1, 0);
	assert_int_equal(b->stops, 1);
}

/* The network card. */

static int be_start(struct net_backend *be)
{
	return 0;
}

static void be_stop(struct net_backend *be)
{
	container_of(be, struct bench, be)->be_stops++;
}

static void be_destroy(struct net_backend *be)
{
	container_of(be, struct bench, be)->destroys++;
}

static void be_tx(struct net_backend *be, const struct net_frame *f)
{
	struct bench *b = container_of(be, struct bench, be);
	u32 at = 0;

	b->tx++;
	b->frame = *f;
	for (int i = 0; i < f->count; i++) {
		memcpy(b->sent + at, f->iov[i].iov_base, f->iov[i].iov_len);
		at += (u32)f->iov[i].iov_len;
	}
	assert_int_equal(at, f->bytes);
}

static void be_tx_end(struct net_backend *be)
{
	container_of(be, struct bench, be)->tx_ends++;
}

static void be_resume(struct net_backend *be)
{
	container_of(be, struct bench, be)->resumes++;
}

static void be_set_rx(struct net_backend *be, const struct net_rx_caps *caps)
{
	container_of(be, struct bench, be)->caps = *caps;
}

static const struct net_backend_ops be_ops = { "test", be_start,  be_stop,   be_destroy,
					       be_tx,  be_tx_end, be_resume, be_set_rx };

static int setup_net(void **state)
{
	struct bench *b = bench_create();
	const struct virtio_net_config nc = { .name = "net", .mac = { 2, 0, 0, 0, 0, 1 } };

	b->be = (struct net_backend){ .ops = &be_ops, .link_up = true, .mtu = 1500 };
	assert_int_equal(virtio_net_create(b->host, &b->gm, &nc, &b->be, &b->net), 0);
	conf_write(b, 4, 2, 6);
	*state = b;
	return 0;
}

#define RX_AT	    0x10000u
#define TX_AT	    0x20000u
#define NET_OFFERED (BIT64(0) | BIT64(1) | BIT64(7) | BIT64(15) | BIT64(28) | BIT64(32))

static void net_start(struct bench *b, u64 features)
{
	negotiate(b, features);
	assert_int_equal(get(b, STATUS, 1), 0xB);
	queue_setup(b, 0, 16, RX_AT);
	queue_setup(b, 1, 16, TX_AT);
	set(b, STATUS, 1, 0xF);
	assert_int_equal(get(b, STATUS, 1), 0xF);
}

static void desc(struct bench *b, u64 table, u32 i, u64 gpa, u32 bytes, u16 flags, u16 next)
{
	u8 *p = b->ram + table + i * 16;

	memcpy(p, &gpa, 8);
	memcpy(p + 8, &bytes, 4);
	memcpy(p + 12, &flags, 2);
	memcpy(p + 14, &next, 2);
}

static u16 *word(struct bench *b, u64 at)
{
	return (u16 *)(void *)(b->ram + at);
}

static void offer(struct bench *b, u64 queue, u16 head)
{
	u16 *index = word(b, queue + 0x1002);

	*word(b, queue + 0x1004 + 2 * (*index & 15)) = head;
	(*index)++;
}

static void kick(struct bench *b, u32 queue)
{
	bus_write(b->mmio, NOTIFY_AT + queue * 4, 2, queue);
	loop_run_ready(virtio_net_loop(b->net));
}

static void test_net_tx(void **state)
{
	struct bench *b = *state;

	net_start(b, NET_OFFERED);
	assert_int_equal(bus_read(b->mmio, CONFIG_AT, 8), 0x0001010000000002ull);
	assert_true(b->caps.large_tcp4);
	assert_false(b->caps.large_tcp6);
	/* Header and frame in one, the rest through an indirect table. */
	memset(b->ram + 0x30000, 0, 12);
	memset(b->ram + 0x3000C, 0xAA, 600);
	desc(b, TX_AT, 0, 0x30000, 12 + 600, 0, 0);
	desc(b, 0x40000, 0, 0x30000, 12, 1, 1);
	desc(b, 0x40000, 1, 0x3000C, 100, 0, 0);
	desc(b, TX_AT, 1, 0x40000, 32, 4, 0);
	offer(b, TX_AT, 0);
	offer(b, TX_AT, 1);
	kick(b, 1);
	assert_int_equal(b->tx, 2);
	assert_int_equal(b->tx_ends, 1);
	assert_int_equal(b->frame.bytes, 100);
	assert_int_equal(b->sent[99], 0xAA);
	assert_int_equal(*word(b, TX_AT + 0x2002), 2);
	assert_int_equal(bus_read(b->mmio, WINDOW + 0x4800, 8), 1 << 2);
	/* A checksum that would lie outside, an unknown kind: not sent, but given back. */
	b->ram[0x30000] = 1;
	b->ram[0x30006] = 0xFF;
	offer(b, TX_AT, 0);
	kick(b, 1);
	b->ram[0x30006] = 90;
	b->ram[0x30008] = 8;
	offer(b, TX_AT, 1);
	kick(b, 1);
	assert_int_equal(b->tx, 4);
	assert_true(b->frame.meta.needs_csum);
	b->ram[0x30008] = 9;
	offer(b, TX_AT, 1);
	b->ram[0x30001] = 3;
	offer(b, TX_AT, 0);
	kick(b, 1);
	assert_int_equal(b->tx, 4);
	assert_int_equal(*word(b, TX_AT + 0x2002), 6);
}

static void rx(struct bench *b, const u8 *data, u32 bytes)
{
	const struct iovec iov = { (void *)data, bytes };
	const struct net_frame f = { .iov = &iov, .count = 1, .bytes = bytes };

	b->be.sink->rx(b->be.sink_ctx, &f);
	b->be.sink->rx_end(b->be.sink_ctx);
}

static void test_net_rx(void **state)
{
	struct bench *b = *state;
	u8 frame[400];

	for (u32 i = 0; i < sizeof(frame); i++)
		frame[i] = (u8)i;
	net_start(b, NET_OFFERED);
	assert_false(b->be.sink->rx_room(b->be.sink_ctx));
	rx(b, frame, sizeof(frame)); /* no buffers: dropped */
	assert_int_equal(*word(b, RX_AT + 0x2002), 0);
	for (u16 i = 0; i < 16; i++) {
		desc(b, RX_AT, i, 0x30000 + i * 0x200u, 0x100, 2, 0);
		offer(b, RX_AT, i);
	}
	kick(b, 0);
	assert_int_equal(b->resumes, 2); /* one at the start */
	rx(b, frame, sizeof(frame));
	assert_int_equal(*word(b, RX_AT + 0x2002), 2);
	assert_int_equal(*word(b, 0x3000A), 2); /* merged buffers */
	assert_memory_equal(b->ram + 0x3000C, frame, 0x100 - 12);
	assert_memory_equal(b->ram + 0x30200, frame + 0x100 - 12, sizeof(frame) - 0x100 + 12);
	assert_int_equal(*word(b, RX_AT + 0x2008), 0x100);
	assert_int_equal(*word(b, RX_AT + 0x2010), sizeof(frame) - 0x100 + 12);
	assert_int_equal(bus_read(b->mmio, WINDOW + 0x4800, 8), 1 << 1);
	/* Too large for what is left: all of it stays. */
	rx(b, b->sent, 14 * 0x100);
	assert_int_equal(*word(b, RX_AT + 0x2002), 2);
	rx(b, frame, 60);
	assert_int_equal(*word(b, RX_AT + 0x2002), 3);
	b->be.sink->link(b->be.sink_ctx, false);
	assert_int_equal(bus_read(b->mmio, CONFIG_AT + 6, 2), 0);
	/* Reset, and again from the start. */
	set(b, STATUS, 1, 0);
	rx(b, frame, 60);
	memset(b->ram + RX_AT, 0, 0x20000);
	net_start(b, BIT64(32));
	assert_false(b->caps.large_tcp4);
}

static void test_net_broken(void **state)
{
	struct bench *b = *state;
	static const struct {
		u64 gpa;
		u32 bytes;
		u16 flags, next;
	} rows[] = {
		{ RAM_BYTES, 100, 0, 0 },			  /* no memory */
		{ ~0ull, 100, 0, 0 },	  { 0x30000, 100, 1, 0 }, /* a ring */
		{ 0x30000, 100, 1, 16 },			  /* past the table */
		{ 0x30000, 100, 4, 0 }, /* an indirect table of an odd size */
		{ 0x30000, 0, 4, 0 },	  { 0x30000, 160, 5, 0 },
		{ 0x30000, 160, 4, 0 }, /* that leads to another */
		{ 0x30000, 100, 3, 1 }, /* to be written, then to be read */
	};

	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		memset(b->ram + TX_AT, 0, 0x10000);
		net_start(b, NET_OFFERED);
		desc(b, 0x30000, 0, 0x30000, 160, 4, 0);
		desc(b, TX_AT, 1, 0x30000, 100, 0, 0);
		desc(b, TX_AT, 0, rows[i].gpa, rows[i].bytes, rows[i].flags, rows[i].next);
		offer(b, TX_AT, 0);
		kick(b, 1);
		assert_int_equal(b->tx, 0);
		assert_int_equal(get(b, STATUS, 1), 0x4F);
		kick(b, 1);
		set(b, STATUS, 1, 0);
	}
	memset(b->ram + TX_AT, 0, 0x10000);
	net_start(b, NET_OFFERED);
	*word(b, TX_AT + 0x1002) = 17; /* more than there are */
	kick(b, 1);
	assert_int_equal(get(b, STATUS, 1), 0x4F);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_capabilities, setup_plain, teardown),
		cmocka_unit_test_setup_teardown(test_access, setup_plain, teardown),
		cmocka_unit_test_setup_teardown(test_features, setup_plain, teardown),
		cmocka_unit_test_setup_teardown(test_queues, setup_plain, teardown),
		cmocka_unit_test_setup_teardown(test_doorbells, setup_plain, teardown),
		cmocka_unit_test_setup_teardown(test_bad_queues, setup_plain, teardown),
		cmocka_unit_test_setup_teardown(test_config_change, setup_plain, teardown),
		cmocka_unit_test_setup_teardown(test_net_tx, setup_net, teardown),
		cmocka_unit_test_setup_teardown(test_net_rx, setup_net, teardown),
		cmocka_unit_test_setup_teardown(test_net_broken, setup_net, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
