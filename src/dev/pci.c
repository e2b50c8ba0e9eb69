// SPDX-License-Identifier: MIT
/* Configuration space is bytes and a mask of what the guest may write; what writes mean follows. */
#include "dev/pci.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.h"

#define ADDRESS_PORT   0xCF8
#define RESET_OFFSET   1 /* 0xCF9 */
#define DATA_PORT      0xCFC
#define ADDRESS_ENABLE BIT(31)

#define CONFIG_BYTES	 256u
#define CFG_VENDOR	 0x00
#define CFG_DEVICE	 0x02
#define CFG_COMMAND	 0x04
#define CFG_STATUS	 0x06
#define CFG_CLASS	 0x08 /* with the revision */
#define CFG_BAR		 0x10
#define CFG_SUBSYSTEM	 0x2C
#define CFG_CAPABILITIES 0x34
#define CFG_LINE	 0x3C
#define CFG_FREE	 0x40

#define COMMAND_MEMORY	    BIT(1)
#define COMMAND_MASTER	    BIT(2)
#define COMMAND_INTX_OFF    BIT(10)
#define STATUS_CAPABILITIES BIT(4)

#define CAP_MSIX	0x11
#define MSIX_CONTROL	2 /* offset in the capability */
#define MSIX_ENABLE	BIT(15)
#define MSIX_MASK_ALL	BIT(14)
#define ENTRY_BYTES	16u
#define ENTRY_MASKED	BIT(0)
#define PENDING_OFFSET	(PCI_MSIX_BAR_BYTES / 2)
#define MSI_WINDOW	0xFEE00000u
#define MSI_WINDOW_MASK 0xFFF00000u

static_assert(PCI_VECTORS_MAX * ENTRY_BYTES <= PENDING_OFFSET, "the table ends before the bits");
static_assert(PCI_VECTORS_MAX <= 64, "pending bits are one quadword");

struct vector {
	u32 word[4]; /* the table entry: address low, high, data, control */
	int fd;
	bool joined;  /* irqfd is the engine's */
	bool refused; /* it would speak if it were allowed */
	struct engine_irqfd irqfd;
};

struct doorbell {
	u32 bar, offset;
	u8 size;
	int fd;
	u64 gpa; /* where the engine knows it; 0: nowhere */
};

struct pci_function {
	struct pci_host *host;
	struct pci_function_config cfg;
	u16 rid;
	u8 conf[CONFIG_BYTES], mask[CONFIG_BYTES];
	u32 last_cap; /* offset of the byte that links to the next capability */
	u32 free_at;
	u8 hook;	       /* 0: none */
	u32 bar_gpa[PCI_BARS]; /* where it is decoded now; 0: nowhere */
	u8 msix_cap;
	struct vector *vector;
	struct doorbell *doorbell;
	u32 doorbells;
};

struct pci_host {
	struct pci_host_config cfg;
	u32 address;
	u64 next_bar;
	pthread_mutex_t lock; /* guards: functions' conf, bar_gpa, vectors, doorbells */
	struct pci_function *function[PCI_FUNCTIONS_MAX];
	u32 count;
};

static u32 get(const u8 *p, u32 size)
{
	u32 v = 0;

	memcpy(&v, p, size);
	return v;
}

static void put(u8 *p, u32 size, u32 value)
{
	memcpy(p, &value, size);
}

static u32 command(const struct pci_function *f)
{
	return get(f->conf + CFG_COMMAND, 2);
}

/* Vectors. */

static bool vector_open(const struct pci_function *f, const struct vector *v)
{
	u32 control = get(f->conf + f->msix_cap + MSIX_CONTROL, 2);

	return control & MSIX_ENABLE && !(control & MSIX_MASK_ALL) &&
	       !(v->word[3] & ENTRY_MASKED) && command(f) & COMMAND_MASTER &&
	       (v->word[0] & MSI_WINDOW_MASK) == MSI_WINDOW;
}

static bool vector_allowed(const struct pci_function *f, const struct vector *v)
{
	const struct pci_host_config *c = &f->host->cfg;

	return !c->msi_allowed ||
	       c->msi_allowed(c->ctx, f->rid, (u64)v->word[1] << 32 | v->word[0], v->word[2]);
}

/* What the entry says to the engine. An entry the engine does not take stays silent. */
static void vector_join(const struct pci_function *f, struct vector *v)
{
	struct engine_vm *vm = f->host->cfg.vm;
	u64 address = (u64)v->word[1] << 32 | v->word[0];
	int ret = 0;

	if (!v->joined) {
		v->irqfd = (struct engine_irqfd){ .fd = v->fd,
						  .address = address,
						  .data = v->word[2] };
		ret = vm->ops->vm_irqfd_add(vm, &v->irqfd);
		v->joined = ret >= 0;
	} else if (v->irqfd.address != address || v->irqfd.data != v->word[2]) {
		v->irqfd.address = address;
		v->irqfd.data = v->word[2];
		ret = vm->ops->vm_irqfd_update(vm, &v->irqfd);
	}
	if (ret < 0)
		log_limited(LOG_WARNING, "%s: its interrupt message %llx:%x is none: %s",
			    f->cfg.name, (unsigned long long)address, v->word[2], strerror(-ret));
}

static void vector_leave(const struct pci_function *f, struct vector *v)
{
	struct engine_vm *vm = f->host->cfg.vm;

	if (v->joined)
		vm->ops->vm_irqfd_remove(vm, &v->irqfd);
	v->joined = false;
}

static void vector_update_locked(const struct pci_function *f, struct vector *v)
{
	bool open = vector_open(f, v);
	bool allowed = open && vector_allowed(f, v);

	v->refused = open && !allowed;
	if (allowed)
		vector_join(f, v);
	else
		vector_leave(f, v);
}

static void vectors_update_locked(const struct pci_function *f)
{
	for (u32 i = 0; i < f->cfg.vectors; i++)
		vector_update_locked(f, &f->vector[i]);
}

/* A joined vector holds nothing back. */
static u64 pending_locked(const struct pci_function *f)
{
	struct pollfd p[PCI_VECTORS_MAX];
	u64 bits = 0;

	for (u32 i = 0; i < f->cfg.vectors; i++)
		p[i] = (struct pollfd){ f->vector[i].joined ? -1 : f->vector[i].fd, POLLIN, 0 };
	if (f->cfg.vectors && poll(p, f->cfg.vectors, 0) > 0)
		for (u32 i = 0; i < f->cfg.vectors; i++)
			bits |= p[i].revents & POLLIN ? BIT64(i) : 0;
	return bits;
}

static u32 msix_read_locked(const struct pci_function *f, u64 offset)
{
	u64 i = offset / ENTRY_BYTES;

	if (offset >= PENDING_OFFSET + 8)
		return 0;
	if (offset >= PENDING_OFFSET)
		return (u32)(pending_locked(f) >> (offset & 4) * 8);
	return i < f->cfg.vectors ? f->vector[i].word[offset % ENTRY_BYTES / 4] : 0;
}

static void msix_write_locked(struct pci_function *f, u64 offset, u32 value)
{
	u64 i = offset / ENTRY_BYTES;
	u32 word = offset % ENTRY_BYTES / 4;

	if (i >= f->cfg.vectors)
		return;
	if (word == 0)
		value &= ~3u;
	if (word == 3)
		value &= ENTRY_MASKED;
	f->vector[i].word[word] = value;
	vector_update_locked(f, &f->vector[i]);
}

/* Whole doublewords or quadwords, as the specification asks of software. */
static u64 msix_read(struct pci_function *f, u64 offset, u8 size)
{
	u64 value;

	if (size < 4 || offset % size)
		return 0;
	pthread_mutex_lock(&f->host->lock);
	value = msix_read_locked(f, offset);
	if (size == 8)
		value |= (u64)msix_read_locked(f, offset + 4) << 32;
	pthread_mutex_unlock(&f->host->lock);
	return value;
}

static void msix_write(struct pci_function *f, u64 offset, u8 size, u64 value)
{
	if (size < 4 || offset % size || offset >= PENDING_OFFSET)
		return;
	pthread_mutex_lock(&f->host->lock);
	msix_write_locked(f, offset, (u32)value);
	if (size == 8)
		msix_write_locked(f, offset + 4, (u32)(value >> 32));
	pthread_mutex_unlock(&f->host->lock);
}

/* BARs. */

static void doorbell_move_locked(const struct pci_function *f, struct doorbell *d)
{
	struct engine_vm *vm = f->host->cfg.vm;
	u32 base = f->bar_gpa[d->bar];
	u64 gpa = base ? (u64)base + d->offset : 0;

	if (gpa == d->gpa)
		return;
	if (d->gpa)
		vm->ops->vm_ioeventfd(vm, d->gpa, d->size, true, NULL, d->fd, false);
	d->gpa = gpa;
	/* Where another doorbell lies already, writes come here as exits and go the long way. */
	if (gpa && vm->ops->vm_ioeventfd(vm, gpa, d->size, true, NULL, d->fd, true) < 0)
		d->gpa = 0;
}

static u32 bar_decoded(const struct pci_function *f, u32 bar)
{
	const struct pci_host_config *c = &f->host->cfg;
	u32 bytes = f->cfg.bar_bytes[bar];
	u64 base = get(f->conf + CFG_BAR + 4 * bar, 4) & ~0xFu;

	if (!bytes || !(command(f) & COMMAND_MEMORY) || base < c->window_gpa ||
	    base + bytes > c->window_gpa + c->window_bytes)
		return 0;
	return (u32)base;
}

static void bars_update_locked(struct pci_function *f)
{
	bool moved = false;

	for (u32 i = 0; i < PCI_BARS; i++) {
		u32 base = bar_decoded(f, i);

		moved |= base != f->bar_gpa[i];
		f->bar_gpa[i] = base;
	}
	for (u32 i = 0; moved && i < f->doorbells; i++)
		doorbell_move_locked(f, &f->doorbell[i]);
}

static struct pci_function *bar_find(struct pci_host *h, u64 gpa, u8 size, u32 *bar, u64 *offset)
{
	struct pci_function *found = NULL;

	pthread_mutex_lock(&h->lock);
	for (u32 i = 0; i < h->count && !found; i++)
		for (u32 b = 0; b < PCI_BARS && !found; b++) {
			struct pci_function *f = h->function[i];
			u64 base = f->bar_gpa[b];

			if (!base || gpa < base || gpa + size > base + f->cfg.bar_bytes[b])
				continue;
			found = f;
			*bar = b;
			*offset = gpa - base;
		}
	pthread_mutex_unlock(&h->lock);
	return found;
}

static bool is_msix_bar(const struct pci_function *f, u32 bar)
{
	return f->cfg.vectors && bar == f->cfg.msix_bar;
}

static u64 window_read(void *dev, u64 offset, u8 size)
{
	struct pci_host *h = dev;
	u32 bar;
	struct pci_function *f = bar_find(h, h->cfg.window_gpa + offset, size, &bar, &offset);

	if (!f)
		return ~0ull;
	return is_msix_bar(f, bar) ? msix_read(f, offset, size)
				   : f->cfg.ops->bar_read(f->cfg.dev, bar, offset, size);
}

static void window_write(void *dev, u64 offset, u8 size, u64 value)
{
	struct pci_host *h = dev;
	u32 bar;
	struct pci_function *f = bar_find(h, h->cfg.window_gpa + offset, size, &bar, &offset);

	if (f && is_msix_bar(f, bar))
		msix_write(f, offset, size, value);
	else if (f)
		f->cfg.ops->bar_write(f->cfg.dev, bar, offset, size, value);
}

/* Configuration space. */

static bool is_hooked(const struct pci_function *f, u32 offset)
{
	return f->hook && (offset & ~3u) == f->hook;
}

/* @offset to @offset + @size lies inside a doubleword. */
static u64 config_read(struct pci_host *h, u32 device, u32 offset, u8 size)
{
	struct pci_function *f = device < h->count ? h->function[device] : NULL;
	u32 value;

	if (!f)
		return ~0ull;
	if (is_hooked(f, offset))
		return offset == f->hook ? f->cfg.ops->config_read(f->cfg.dev, size) : 0;
	pthread_mutex_lock(&h->lock);
	value = get(f->conf + offset, size);
	pthread_mutex_unlock(&h->lock);
	return value;
}

static void config_write(struct pci_host *h, u32 device, u32 offset, u8 size, u32 value)
{
	struct pci_function *f = device < h->count ? h->function[device] : NULL;
	bool master;

	if (!f)
		return;
	if (is_hooked(f, offset)) {
		if (offset == f->hook)
			f->cfg.ops->config_write(f->cfg.dev, size, value);
		return;
	}
	pthread_mutex_lock(&h->lock);
	master = command(f) & COMMAND_MASTER;
	for (u32 i = 0; i < size; i++, value >>= 8) {
		u8 mask = f->mask[offset + i];

		f->conf[offset + i] = (u8)((f->conf[offset + i] & ~mask) | (value & mask));
	}
	bars_update_locked(f);
	vectors_update_locked(f);
	master = master != !!(command(f) & COMMAND_MASTER);
	pthread_mutex_unlock(&h->lock);
	if (master && f->cfg.ops && f->cfg.ops->command)
		f->cfg.ops->command(f->cfg.dev);
}

/* The address register takes only whole accesses: smaller ones are other chips' ports. */
static u64 address_read(void *dev, u64 offset, u8 size)
{
	const struct pci_host *h = dev;

	if (offset == RESET_OFFSET && size == 1)
		return h->cfg.reset->read(h->cfg.reset_dev, 0, 1);
	return size == 4 ? __atomic_load_n(&h->address, __ATOMIC_RELAXED) : ~0ull;
}

static void address_write(void *dev, u64 offset, u8 size, u64 value)
{
	struct pci_host *h = dev;

	if (offset == RESET_OFFSET && size == 1)
		h->cfg.reset->write(h->cfg.reset_dev, 0, 1, value);
	else if (size == 4)
		__atomic_store_n(&h->address, (u32)value, __ATOMIC_RELAXED);
}

/* The register the address names: device number, or none; *offset in its space. */
static u32 address_device(const struct pci_host *h, u32 *offset)
{
	u32 address = __atomic_load_n(&h->address, __ATOMIC_RELAXED);

	*offset += address & 0xFC;
	/* Bus 0 and function 0 only. */
	return address & ADDRESS_ENABLE && !(address & 0x00FF0700) ? address >> 11 & 31
								   : PCI_FUNCTIONS_MAX;
}

static u64 data_read(void *dev, u64 offset, u8 size)
{
	u32 at = (u32)offset, device = address_device(dev, &at);

	return config_read(dev, device, at, size);
}

static void data_write(void *dev, u64 offset, u8 size, u64 value)
{
	u32 at = (u32)offset, device = address_device(dev, &at);

	config_write(dev, device, at, size, (u32)value);
}

/* Bits of an ECAM offset: bus 27:20, device 19:15, function 14:12, register 11:0. */
static u32 ecam_device(u64 offset)
{
	return offset >> 20 || offset >> 12 & 7 ? PCI_FUNCTIONS_MAX : (u32)(offset >> 15 & 31);
}

static bool ecam_fits(u64 offset, u8 size)
{
	return size <= 4 && (offset & 3) + size <= 4 && (offset & 0xFFF) < CONFIG_BYTES;
}

static u64 ecam_read(void *dev, u64 offset, u8 size)
{
	u32 device = ecam_device(offset);

	if (device >= ((struct pci_host *)dev)->count)
		return ~0ull;
	/* These are no PCI Express functions: extended space reads as zeros. */
	return ecam_fits(offset, size) ? config_read(dev, device, offset & 0xFF, size) : 0;
}

static void ecam_write(void *dev, u64 offset, u8 size, u64 value)
{
	if (ecam_fits(offset, size))
		config_write(dev, ecam_device(offset), offset & 0xFF, size, (u32)value);
}

static const struct bus_ops address_bus_ops = { address_read, address_write };
static const struct bus_ops data_bus_ops = { data_read, data_write };
static const struct bus_ops ecam_bus_ops = { ecam_read, ecam_write };
static const struct bus_ops window_bus_ops = { window_read, window_write };

int pci_host_attach(struct pci_host *h, struct bus *ports, struct bus *mmio)
{
	const struct bus_range address = { ADDRESS_PORT, 4, &address_bus_ops, h, "pci-address" };
	const struct bus_range data = { DATA_PORT, 4, &data_bus_ops, h, "pci-data" };
	const struct bus_range ecam = { h->cfg.ecam_gpa, h->cfg.ecam_bytes, &ecam_bus_ops, h,
					"pci-ecam" };
	const struct bus_range window = { h->cfg.window_gpa, h->cfg.window_bytes, &window_bus_ops,
					  h, "pci-window" };
	int ret = bus_add(ports, &address);

	if (!ret)
		ret = bus_add(ports, &data);
	if (!ret && mmio)
		ret = bus_add(mmio, &ecam);
	if (!ret && mmio)
		ret = bus_add(mmio, &window);
	return ret;
}

/* Life. */

int pci_host_create(const struct pci_host_config *cfg, struct pci_host **out)
{
	/* The bridge of a Hyper-V generation 1 VM: Intel 440BX. */
	static const struct pci_function_config bridge = { .name = "host bridge",
							   .vendor = 0x8086,
							   .device = 0x7192,
							   .class_code = 0x060000,
							   .revision = 3 };
	struct pci_host *h = calloc(1, sizeof(*h));
	struct pci_function *f;
	int ret;

	if (!h)
		return -ENOMEM;
	h->cfg = *cfg;
	h->next_bar = cfg->window_gpa;
	pthread_mutex_init(&h->lock, NULL);
	ret = pci_function_create(h, &bridge, &f);
	if (ret) {
		pci_host_destroy(h);
		return ret;
	}
	/* It decodes no memory and needs no leave to. */
	memset(f->mask, 0, sizeof(f->mask));
	put(f->conf + CFG_COMMAND, 4, 0x02000006); /* as the chip says */
	*out = h;
	return 0;
}

void pci_function_disconnect(struct pci_function *f)
{
	memset(f->bar_gpa, 0, sizeof(f->bar_gpa));
	for (u32 i = 0; i < f->doorbells; i++)
		doorbell_move_locked(f, &f->doorbell[i]);
	f->doorbells = 0;
	for (u32 i = 0; f->vector && i < f->cfg.vectors; i++)
		vector_leave(f, &f->vector[i]);
}

static void function_destroy(struct pci_function *f)
{
	if (!f)
		return;
	pci_function_disconnect(f);
	for (u32 i = 0; f->vector && i < f->cfg.vectors; i++)
		if (f->vector[i].fd >= 0)
			close(f->vector[i].fd);
	free(f->vector);
	free(f->doorbell);
	free(f);
}

void pci_host_destroy(struct pci_host *h)
{
	if (!h)
		return;
	for (u32 i = h->count; i-- > 0;)
		function_destroy(h->function[i]);
	pthread_mutex_destroy(&h->lock);
	free(h);
}

void pci_host_recheck(struct pci_host *h)
{
	pthread_mutex_lock(&h->lock);
	for (u32 i = 0; i < h->count; i++)
		vectors_update_locked(h->function[i]);
	pthread_mutex_unlock(&h->lock);
}

static int bars_init(struct pci_function *f)
{
	struct pci_host *h = f->host;

	for (u32 i = 0; i < PCI_BARS; i++) {
		u32 bytes = f->cfg.bar_bytes[i];
		u64 base = align_up(h->next_bar, max_u64(bytes, PAGE_BYTES));

		if (!bytes)
			continue;
		assert(bytes >= 16 && bytes <= PCI_BAR_BYTES_MAX && !(bytes & (bytes - 1)));
		if (base + bytes > h->cfg.window_gpa + h->cfg.window_bytes)
			return -ENOSPC;
		h->next_bar = base + bytes;
		put(f->conf + CFG_BAR + 4 * i, 4, (u32)base);
		put(f->mask + CFG_BAR + 4 * i, 4, ~(bytes - 1));
	}
	return 0;
}

static int msix_init(struct pci_function *f)
{
	u8 cap[12] = { CAP_MSIX };

	f->vector = calloc(f->cfg.vectors, sizeof(*f->vector));
	if (!f->vector)
		return -ENOMEM;
	for (u32 i = 0; i < f->cfg.vectors; i++)
		f->vector[i].fd = -1;
	for (u32 i = 0; i < f->cfg.vectors; i++) {
		f->vector[i].word[3] = ENTRY_MASKED;
		f->vector[i].fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		if (f->vector[i].fd < 0)
			return -errno;
	}
	put(cap + MSIX_CONTROL, 2, f->cfg.vectors - 1);
	put(cap + 4, 4, f->cfg.msix_bar);
	put(cap + 8, 4, PENDING_OFFSET | f->cfg.msix_bar);
	f->msix_cap = pci_capability_add(f, cap, sizeof(cap));
	put(f->mask + f->msix_cap + MSIX_CONTROL, 2, MSIX_ENABLE | MSIX_MASK_ALL);
	return 0;
}

static void header_init(struct pci_function *f)
{
	put(f->conf + CFG_VENDOR, 2, f->cfg.vendor);
	put(f->conf + CFG_DEVICE, 2, f->cfg.device);
	put(f->conf + CFG_CLASS, 4, f->cfg.class_code << 8 | f->cfg.revision);
	put(f->conf + CFG_SUBSYSTEM, 4, (u32)f->cfg.subsystem << 16 | f->cfg.subsystem_vendor);
	put(f->mask + CFG_COMMAND, 2, COMMAND_MEMORY | COMMAND_MASTER | COMMAND_INTX_OFF);
	put(f->mask + CFG_LINE, 1, 0xFF);
	f->last_cap = CFG_CAPABILITIES;
	f->free_at = CFG_FREE;
}

int pci_function_create(struct pci_host *h, const struct pci_function_config *cfg,
			struct pci_function **out)
{
	struct pci_function *f;
	int ret;

	assert(cfg->vectors <= PCI_VECTORS_MAX);
	if (h->count == PCI_FUNCTIONS_MAX)
		return -ENOSPC;
	f = calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	f->host = h;
	f->cfg = *cfg;
	f->rid = (u16)(h->count << 3);
	header_init(f);
	ret = bars_init(f);
	if (!ret && cfg->vectors)
		ret = msix_init(f);
	if (ret) {
		function_destroy(f);
		return ret;
	}
	h->function[h->count++] = f;
	*out = f;
	return 0;
}

u8 pci_capability_add(struct pci_function *f, const void *cap, u8 bytes)
{
	u32 at = f->free_at;

	if (at + bytes > CONFIG_BYTES)
		return 0;
	memcpy(f->conf + at, cap, bytes);
	f->conf[at + 1] = 0;
	f->conf[f->last_cap] = (u8)at;
	f->conf[CFG_STATUS] |= STATUS_CAPABILITIES;
	f->last_cap = at + 1;
	f->free_at = (u32)align_up(at + bytes, 4);
	return (u8)at;
}

int pci_doorbell_add(struct pci_function *f, u32 bar, u32 offset, u8 size, int fd)
{
	struct doorbell *d = realloc(f->doorbell, (f->doorbells + 1) * sizeof(*d));

	if (!d)
		return -ENOMEM;
	f->doorbell = d;
	d[f->doorbells++] = (struct doorbell){ bar, offset, size, fd, 0 };
	return 0;
}

void pci_config_hook(struct pci_function *f, u8 offset)
{
	f->hook = offset;
}

void pci_config_writable(struct pci_function *f, u8 offset, u8 bytes)
{
	memset(f->mask + offset, 0xFF, bytes);
}

u16 pci_rid(const struct pci_function *f)
{
	return f->rid;
}

bool pci_bus_master(struct pci_function *f)
{
	bool on;

	pthread_mutex_lock(&f->host->lock);
	on = command(f) & COMMAND_MASTER;
	pthread_mutex_unlock(&f->host->lock);
	return on;
}

u32 pci_config_get(struct pci_function *f, u8 offset)
{
	u32 value;

	pthread_mutex_lock(&f->host->lock);
	value = get(f->conf + (offset & ~3u), 4);
	pthread_mutex_unlock(&f->host->lock);
	return value;
}

int pci_vector_fd(struct pci_function *f, u32 vector)
{
	return vector < f->cfg.vectors ? f->vector[vector].fd : -1;
}

void pci_vector_raise(struct pci_function *f, u32 vector)
{
	/* Fails only when 2^64 signals wait already. */
	if (vector < f->cfg.vectors && eventfd_write(f->vector[vector].fd, 1) < 0)
		return;
}

void pci_vectors_clear(struct pci_function *f)
{
	eventfd_t n;

	pthread_mutex_lock(&f->host->lock);
	for (u32 i = 0; i < f->cfg.vectors; i++)
		/* What a joined one holds is on its way to the guest. */
		if (!f->vector[i].joined && eventfd_read(f->vector[i].fd, &n) < 0)
			continue;
	pthread_mutex_unlock(&f->host->lock);
}

u32 pci_vectors_refused(struct pci_function *f)
{
	u32 count = 0;
	u64 pending;

	pthread_mutex_lock(&f->host->lock);
	pending = pending_locked(f);
	for (u32 i = 0; i < f->cfg.vectors; i++)
		count += f->vector[i].refused && pending & BIT64(i);
	pthread_mutex_unlock(&f->host->lock);
	return count;
}
