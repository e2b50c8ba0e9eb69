// SPDX-License-Identifier: MIT
/*
 * A PCI guest at a virtio network card: configuration space, registers, MSI-X, and
 * rings it scribbles over, with frames in both directions. Steps choose the interesting
 * places; the card starts every input negotiated and running.
 */
#include <stdlib.h>
#include <string.h>

#include "backend/net_frame.h"
#include "dev/virtio_net.h"
#include "engine/fake/fake.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t len);

#define ECAM	  0xE0000000ull
#define WINDOW	  0xC0000000ull
#define BYTES	  0x10000000ull
#define RAM_BYTES (256 * KIB)
#define RX_AT	  0x10000ull
#define TX_AT	  0x20000ull
#define CONFIG(o) (ECAM + (1 << 15) + (o))

static struct engine_vm *vm;
static struct bus *ports, *mmio;
static struct pci_host *host;
static struct gmem gm;
static u8 *ram;
static struct virtio_net *net;
static struct net_backend be;
static bool allowed;

static bool msi_allowed(void *ctx, u16 rid, u64 address, u32 data)
{
	if (rid != 1 << 3)
		abort();
	return allowed;
}

static int be_start(struct net_backend *b)
{
	return 0;
}

static void be_stop(struct net_backend *b)
{
}

static void be_tx(struct net_backend *b, const struct net_frame *f)
{
	static u8 copy[NET_FRAME_MAX];

	if (f->bytes < NET_ETH_BYTES || net_frame_copy(f, copy, sizeof(copy)) < 0)
		abort();
	if (f->meta.needs_csum && f->meta.csum_start + f->meta.csum_offset + 2u > f->bytes)
		abort();
	if (f->meta.gso && (!f->meta.gso_bytes || f->meta.header_bytes > f->bytes))
		abort();
	/* An answer comes before sending has returned, as libslirp does it. */
	b->sink->rx(b->sink_ctx, f);
}

static void be_end(struct net_backend *b)
{
	b->sink->rx_end(b->sink_ctx);
}

static const struct net_backend_ops be_ops = { .name = "fuzz",
					       .start = be_start,
					       .stop = be_stop,
					       .destroy = be_stop,
					       .tx = be_tx,
					       .tx_end = be_end };

static void create(void)
{
	const struct engine_vm_config vc = { .max_vcpus = 1 };
	struct pci_host_config hc = { .ecam_gpa = ECAM,
				      .ecam_bytes = BYTES,
				      .window_gpa = WINDOW,
				      .window_bytes = BYTES,
				      .msi_allowed = msi_allowed };
	const struct virtio_net_config nc = { .name = "net" };

	if (engine_vm_create(&fake_engine, &vc, &vm) || bus_create(&ports) || bus_create(&mmio))
		abort();
	hc.vm = vm;
	ram = aligned_alloc(PAGE_BYTES, RAM_BYTES);
	be = (struct net_backend){ .ops = &be_ops, .link_up = true, .mtu = 1500 };
	if (!ram || gmem_init(&gm) || gmem_add(&gm, 0, RAM_BYTES, ram, GMEM_RAM) ||
	    pci_host_create(&hc, &host) || virtio_net_create(host, &gm, &nc, &be, &net) ||
	    pci_host_attach(host, ports, mmio))
		abort();
}

static void set(u32 reg, u8 size, u64 value)
{
	bus_write(mmio, WINDOW + reg, size, value);
}

static void queue_setup(u16 i, u64 base)
{
	set(22, 2, i);
	set(24, 2, 16);
	set(26, 2, i);
	set(32, 8, base);
	set(40, 8, base + 0x1000);
	set(48, 8, base + 0x2000);
	set(28, 2, 1);
}

static void start(void)
{
	/* Buffers for the guest, a frame from it. */
	memset(ram, 0, RAM_BYTES);
	for (u32 i = 0; i < 16; i++) {
		const u64 gpa = 0x30000 + i * 0x200, tx = 0x32000 + i * 0x200;
		const u32 bytes = 0x200;
		const u16 flags = 2;

		memcpy(ram + RX_AT + i * 16, &gpa, 8);
		memcpy(ram + RX_AT + i * 16 + 8, &bytes, 4);
		memcpy(ram + RX_AT + i * 16 + 12, &flags, 2);
		memcpy(ram + TX_AT + i * 16, &tx, 8);
		memcpy(ram + TX_AT + i * 16 + 8, &bytes, 4);
		ram[RX_AT + 0x1004 + 2 * i] = ram[TX_AT + 0x1004 + 2 * i] = (u8)i;
	}
	ram[RX_AT + 0x1002] = 16;
	allowed = true;
	bus_write(mmio, CONFIG(4), 2, 6);
	bus_write(mmio, CONFIG(0x10), 4, WINDOW);
	bus_write(mmio, CONFIG(0x14), 4, WINDOW + 0x4000);
	bus_write(mmio, CONFIG(0x42), 2, 0x8000);
	set(20, 1, 0);
	set(20, 1, 3);
	set(8, 4, 0);
	set(12, 4, 0x30019AABu);
	set(8, 4, 1);
	set(12, 4, 1);
	set(20, 1, 0xB);
	queue_setup(0, RX_AT);
	queue_setup(1, TX_AT);
	set(20, 1, 0xF);
}

struct step {
	u8 what, size, value[8];
	u16 at;
} __attribute__((packed));

static void run(const struct step *s)
{
	static const u64 pages[] = { RX_AT,	     RX_AT + 0x1000, RX_AT + 0x2000, TX_AT,
				     TX_AT + 0x1000, TX_AT + 0x2000, 0x30000,	     0x32000 };
	u8 size = (u8)(1 << (s->size & 3));
	u64 value;
	u8 bytes[8];

	memcpy(&value, s->value, 8);
	memcpy(bytes, s->value, 8);
	switch (s->what % 8) {
	case 0: /* registers and MSI-X where they are at first */
		bus_write(mmio, WINDOW + s->at % 0x5000, size, value);
		break;
	case 1:
		bus_write(mmio, WINDOW + s->at % 64, size, value);
		break;
	case 2:
		bus_write(mmio, CONFIG(s->at % 256), size, value);
		break;
	case 3:
		bus_mmio(mmio, WINDOW + s->at, s->size % 8 + 1, false, bytes);
		bus_read(mmio, CONFIG(s->at), size);
		break;
	case 4:
		bus_write(ports, 0xCF8, 4, 0x80000800 | (s->at & 0xFFFF));
		bus_io(ports, (u16)(0xCFC + (s->at & 3)), (u8)(1 << s->size % 3), s->size & 4, 1,
		       bytes);
		break;
	case 5: /* rings and buffers */
		memcpy(ram + pages[s->at & 7] + (s->at >> 3) % 0x200, s->value, size);
		break;
	case 6: /* one more request, and the kick */
		ram[TX_AT + 0x1002]++;
		bus_write(mmio, WINDOW + 0x3000 + 4 * (s->at & 1), 2, 0);
		break;
	case 7:
		allowed = s->at & 1;
		pci_host_recheck(host);
		break;
	}
	loop_run_ready(virtio_net_loop(net));
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t len)
{
	if (!ports)
		create();
	start();
	for (; len >= sizeof(struct step); len -= sizeof(struct step), data += sizeof(struct step))
		run((const struct step *)data);
	return 0;
}
