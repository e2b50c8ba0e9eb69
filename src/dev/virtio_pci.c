// SPDX-License-Identifier: MIT
/*
 * One BAR holds the registers, in four parts of a page each; the other is MSI-X's.
 * The common part is answered from an image built at each read, so that a field
 * has one place and the sizes of accesses need no care.
 */
#include "dev/virtio_pci.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.h"

#define VENDOR	       0x1AF4
#define DEVICE_BASE    0x1040
#define REGISTERS_BAR  0
#define MSIX_BAR       1
#define COMMON_AT      0x0000u
#define ISR_AT	       0x1000u
#define CONFIG_AT      0x2000u
#define NOTIFY_AT      0x3000u
#define REGISTER_BYTES 0x4000u
#define PART_BYTES     0x1000u
#define NOTIFY_STRIDE  4u

#define CAP_VENDOR 9
enum { CFG_COMMON = 1, CFG_NOTIFY, CFG_ISR, CFG_DEVICE, CFG_PCI };

struct virtio_cap {
	u8 id, next, length, type;
	u8 bar, cap_id, padding[2];
	u32 offset, bytes;
	u32 extra; /* notify: stride; PCI access: the data */
};
static_assert(sizeof(struct virtio_cap) == 20, "virtio size");
#define CAP_BYTES 16u /* without the extra */

struct common {
	u32 device_feature_select, device_feature;
	u32 driver_feature_select, driver_feature;
	u16 config_vector, num_queues;
	u8 device_status, config_generation;
	u16 queue_select, queue_size, queue_vector, queue_enable, queue_notify_off;
	u32 queue_desc[2], queue_driver[2], queue_device[2];
};
static_assert(sizeof(struct common) == 56, "virtio size");
static_assert(offsetof(struct common, queue_select) == 22, "virtio offset");
static_assert(offsetof(struct common, queue_desc) == 32, "virtio offset");

struct virtio_pci {
	struct virtio_pci_config cfg;
	struct gmem *gm;
	struct pci_function *function;
	u8 access_cap; /* offset of the capability that reaches the registers by configuration space
			*/

	pthread_mutex_t lock; /* guards all that follows but for the atomics */
	bool running;
	u32 device_feature_select, driver_feature_select;
	u64 driver_features;
	u16 queue_select;
	struct virtio_queue queue[VIRTIO_QUEUES_MAX];
	u16 config_vector; /* atomic */
	u8 status;	   /* atomic: others may set VIRTIO_NEEDS_RESET */

	pthread_mutex_t config_lock; /* guards: config, generation. A leaf */
	u8 config[VIRTIO_CONFIG_BYTES];
	u8 generation;
};

static u8 status_of(struct virtio_pci *vp)
{
	return __atomic_load_n(&vp->status, __ATOMIC_ACQUIRE);
}

static u16 vector_of(const u16 *vector)
{
	return __atomic_load_n(vector, __ATOMIC_RELAXED);
}

/* The device's life. */

static void raise_config(struct virtio_pci *vp)
{
	pci_vector_raise(vp->function, vector_of(&vp->config_vector));
}

static void needs_reset(struct virtio_pci *vp)
{
	__atomic_fetch_or(&vp->status, VIRTIO_NEEDS_RESET, __ATOMIC_RELEASE);
	if (status_of(vp) & VIRTIO_DRIVER_OK)
		raise_config(vp);
}

/* The parts of an enabled queue, if they lie in guest memory as they must. */
static bool queue_map(struct virtio_pci *vp, struct virtio_queue *q)
{
	if (q->desc_gpa % 16 || q->driver_gpa % 2 || q->device_gpa % 4)
		return false;
	q->desc = gmem_ptr(vp->gm, q->desc_gpa, 16ull * q->size);
	q->driver = gmem_ptr(vp->gm, q->driver_gpa, 6 + 2ull * q->size);
	q->device = gmem_ptr(vp->gm, q->device_gpa, 6 + 8ull * q->size);
	return q->desc && q->driver && q->device;
}

static int start_locked(struct virtio_pci *vp)
{
	for (u32 i = 0; i < vp->cfg.queues; i++)
		if (vp->queue[i].enabled && !queue_map(vp, &vp->queue[i]))
			return -EFAULT;
	return vp->cfg.ops->start(vp->cfg.dev, vp->driver_features);
}

static void run_locked(struct virtio_pci *vp)
{
	u8 status = status_of(vp);
	bool run = status & VIRTIO_DRIVER_OK && !(status & VIRTIO_NEEDS_RESET) &&
		   pci_bus_master(vp->function);
	int ret;

	if (run == vp->running)
		return;
	if (!run) {
		vp->running = false;
		vp->cfg.ops->stop(vp->cfg.dev);
		return;
	}
	ret = start_locked(vp);
	if (ret) {
		log_limited(LOG_WARNING, "%s: its queues can not be used: %s", vp->cfg.name,
			    strerror(-ret));
		needs_reset(vp);
	}
	vp->running = !ret;
}

static void reset_locked(struct virtio_pci *vp)
{
	eventfd_t n;

	__atomic_store_n(&vp->status, 0, __ATOMIC_RELEASE);
	run_locked(vp);
	pci_vectors_clear(vp->function);
	vp->device_feature_select = vp->driver_feature_select = 0;
	vp->driver_features = 0;
	vp->queue_select = 0;
	__atomic_store_n(&vp->config_vector, VIRTIO_NO_VECTOR, __ATOMIC_RELAXED);
	for (u32 i = 0; i < vp->cfg.queues; i++) {
		struct virtio_queue *q = &vp->queue[i];

		*q = (struct virtio_queue){ .size = vp->cfg.queue_size,
					    .vector = VIRTIO_NO_VECTOR,
					    .kick_fd = q->kick_fd };
		/* A kick from before the reset means nothing any more; none is no error. */
		if (eventfd_read(q->kick_fd, &n) < 0)
			continue;
	}
}

static bool features_good(const struct virtio_pci *vp)
{
	return !(vp->driver_features & ~vp->cfg.features) &&
	       vp->driver_features & VIRTIO_F_VERSION_1;
}

/* Bits are only ever added; 0 resets. */
static void status_write_locked(struct virtio_pci *vp, u8 value)
{
	u8 old = status_of(vp), new = value & ~VIRTIO_NEEDS_RESET;

	if (value == 0) {
		reset_locked(vp);
		return;
	}
	if (new &VIRTIO_FEATURES_OK && !(old & VIRTIO_FEATURES_OK) && !features_good(vp))
		new &= (u8)~VIRTIO_FEATURES_OK;
	/* Queues of a device whose features are not settled mean nothing. */
	if (!((old | new) & VIRTIO_FEATURES_OK))
		new &= (u8)~VIRTIO_DRIVER_OK;
	__atomic_fetch_or(&vp->status, new, __ATOMIC_RELEASE);
	run_locked(vp);
}

/* Common registers. */

static void put_gpa(u32 out[2], u64 gpa)
{
	out[0] = (u32)gpa;
	out[1] = (u32)(gpa >> 32);
}

static void common_image_locked(struct virtio_pci *vp, struct common *c)
{
	const struct virtio_queue *q =
		vp->queue_select < vp->cfg.queues ? &vp->queue[vp->queue_select] : NULL;

	*c = (struct common){
		.device_feature_select = vp->device_feature_select,
		.driver_feature_select = vp->driver_feature_select,
		.config_vector = vector_of(&vp->config_vector),
		.num_queues = (u16)vp->cfg.queues,
		.device_status = status_of(vp),
		.queue_select = vp->queue_select,
	};
	if (vp->device_feature_select < 2)
		c->device_feature = (u32)(vp->cfg.features >> vp->device_feature_select * 32);
	if (vp->driver_feature_select < 2)
		c->driver_feature = (u32)(vp->driver_features >> vp->driver_feature_select * 32);
	pthread_mutex_lock(&vp->config_lock);
	c->config_generation = vp->generation;
	pthread_mutex_unlock(&vp->config_lock);
	if (!q)
		return;
	c->queue_size = q->size;
	c->queue_vector = vector_of(&q->vector);
	c->queue_enable = q->enabled;
	c->queue_notify_off = vp->queue_select;
	put_gpa(c->queue_desc, q->desc_gpa);
	put_gpa(c->queue_driver, q->driver_gpa);
	put_gpa(c->queue_device, q->device_gpa);
}

static void feature_write_locked(struct virtio_pci *vp, u32 value)
{
	u32 shift = vp->driver_feature_select * 32;

	if (vp->driver_feature_select >= 2 || status_of(vp) & VIRTIO_FEATURES_OK)
		return;
	vp->driver_features = (vp->driver_features & ~(0xFFFFFFFFull << shift)) | (u64)value
											  << shift;
}

static u16 vector_accepted(struct virtio_pci *vp, u64 value)
{
	return pci_vector_fd(vp->function, (u16)value) < 0 ? VIRTIO_NO_VECTOR : (u16)value;
}

static void queue_vector_locked(struct virtio_pci *vp, struct virtio_queue *q, u64 value)
{
	__atomic_store_n(&q->vector, vector_accepted(vp, value), __ATOMIC_RELAXED);
	if (vp->running && q->enabled && vp->cfg.ops->vector)
		vp->cfg.ops->vector(vp->cfg.dev, (u32)(q - vp->queue));
}

static void half_write(u64 *gpa, bool high, u32 value)
{
	*gpa = high ? (u32)*gpa | (u64)value << 32 : (*gpa & ~0xFFFFFFFFull) | value;
}

/* Registers of the selected queue. What describes it is fixed once it is enabled. */
static void queue_write_locked(struct virtio_pci *vp, u32 offset, u32 value)
{
	struct virtio_queue *q =
		vp->queue_select < vp->cfg.queues ? &vp->queue[vp->queue_select] : NULL;

	if (!q)
		return;
	if (offset == offsetof(struct common, queue_vector)) {
		queue_vector_locked(vp, q, value);
		return;
	}
	if (q->enabled || status_of(vp) & VIRTIO_DRIVER_OK)
		return;
	switch (offset) {
	case offsetof(struct common, queue_size):
		if (value && value <= vp->cfg.queue_size && !(value & (value - 1)))
			q->size = (u16)value;
		break;
	case offsetof(struct common, queue_enable):
		q->enabled = value == 1;
		break;
	case offsetof(struct common, queue_desc):
	case offsetof(struct common, queue_desc) + 4:
		half_write(&q->desc_gpa, offset & 4, value);
		break;
	case offsetof(struct common, queue_driver):
	case offsetof(struct common, queue_driver) + 4:
		half_write(&q->driver_gpa, offset & 4, value);
		break;
	case offsetof(struct common, queue_device):
	case offsetof(struct common, queue_device) + 4:
		half_write(&q->device_gpa, offset & 4, value);
		break;
	}
}

/* Fields by offset; the width must be the field's own (64-bit ones: two halves, or at once). */
static u8 common_width(u64 offset)
{
	if (offset < 16 || offset >= 32)
		return 4;
	return offset == offsetof(struct common, device_status) ||
			       offset == offsetof(struct common, config_generation)
		       ? 1
		       : 2;
}

static void common_write_locked(struct virtio_pci *vp, u64 offset, u32 value)
{
	switch (offset) {
	case offsetof(struct common, device_feature_select):
		vp->device_feature_select = value;
		break;
	case offsetof(struct common, driver_feature_select):
		vp->driver_feature_select = value;
		break;
	case offsetof(struct common, driver_feature):
		feature_write_locked(vp, value);
		break;
	case offsetof(struct common, config_vector):
		__atomic_store_n(&vp->config_vector, vector_accepted(vp, value), __ATOMIC_RELAXED);
		break;
	case offsetof(struct common, device_status):
		status_write_locked(vp, (u8)value);
		break;
	case offsetof(struct common, queue_select):
		vp->queue_select = (u16)value;
		break;
	default:
		queue_write_locked(vp, (u32)offset, value);
	}
}

static void common_write(struct virtio_pci *vp, u64 offset, u8 size, u64 value)
{
	u8 width = common_width(offset);
	bool whole = size == 8 && offset >= offsetof(struct common, queue_desc) && offset % 8 == 0;

	if (offset >= sizeof(struct common) || offset % width || (size != width && !whole))
		return;
	pthread_mutex_lock(&vp->lock);
	common_write_locked(vp, offset, (u32)value);
	if (whole)
		common_write_locked(vp, offset + 4, (u32)(value >> 32));
	pthread_mutex_unlock(&vp->lock);
}

static u64 bytes_read(const void *from, u32 count, u64 offset, u8 size)
{
	u64 value = 0;

	if (offset < count)
		memcpy(&value, (const u8 *)from + offset, min_u64(size, count - offset));
	return value;
}

static u64 common_read(struct virtio_pci *vp, u64 offset, u8 size)
{
	struct common c;

	pthread_mutex_lock(&vp->lock);
	common_image_locked(vp, &c);
	pthread_mutex_unlock(&vp->lock);
	return bytes_read(&c, sizeof(c), offset, size);
}

static u64 config_part_read(struct virtio_pci *vp, u64 offset, u8 size)
{
	u64 value;

	pthread_mutex_lock(&vp->config_lock);
	value = bytes_read(vp->config, vp->cfg.config_bytes, offset, size);
	pthread_mutex_unlock(&vp->config_lock);
	return value;
}

/* Ways in from PCI. */

static u64 registers_read(void *dev, u32 bar, u64 offset, u8 size)
{
	struct virtio_pci *vp = dev;

	switch (offset & ~(u64)(PART_BYTES - 1)) {
	case COMMON_AT:
		return common_read(vp, offset, size);
	case CONFIG_AT:
		return config_part_read(vp, offset - CONFIG_AT, size);
	}
	return 0; /* no INTx: the ISR status never has a bit; notifications read as nothing */
}

static void registers_write(void *dev, u32 bar, u64 offset, u8 size, u64 value)
{
	struct virtio_pci *vp = dev;
	u64 queue = (offset - NOTIFY_AT) / NOTIFY_STRIDE;

	if (offset < ISR_AT)
		common_write(vp, offset, size, value);
	else if (offset >= NOTIFY_AT && queue < vp->cfg.queues)
		/* Where the engine does not signal by itself. Full is as good as signalled. */
		if (eventfd_write(vp->queue[queue].kick_fd, 1) < 0)
			return;
}

static void on_command(void *dev)
{
	struct virtio_pci *vp = dev;

	pthread_mutex_lock(&vp->lock);
	run_locked(vp);
	pthread_mutex_unlock(&vp->lock);
}

/* The registers through configuration space: the capability says which. */
static bool access_where(struct virtio_pci *vp, u8 size, u32 *offset)
{
	u32 bar = pci_config_get(vp->function, vp->access_cap + 4) & 0xFF;
	u32 bytes = pci_config_get(vp->function, vp->access_cap + 12);

	*offset = pci_config_get(vp->function, vp->access_cap + 8);
	return bar == REGISTERS_BAR && bytes == size && *offset % size == 0 &&
	       *offset < REGISTER_BYTES;
}

static u64 access_read(void *dev, u8 size)
{
	u32 offset;

	return access_where(dev, size, &offset) ? registers_read(dev, REGISTERS_BAR, offset, size)
						: 0;
}

static void access_write(void *dev, u8 size, u64 value)
{
	u32 offset;

	if (access_where(dev, size, &offset))
		registers_write(dev, REGISTERS_BAR, offset, size, value);
}

static const struct pci_function_ops function_ops = { registers_read, registers_write, on_command,
						      access_read, access_write };

/* Creation. */

static int add_capabilities(struct virtio_pci *vp)
{
	const struct virtio_cap caps[] = {
		{ .type = CFG_COMMON, .offset = COMMON_AT, .bytes = sizeof(struct common) },
		{ .type = CFG_ISR, .offset = ISR_AT, .bytes = 1 },
		{ .type = CFG_DEVICE, .offset = CONFIG_AT, .bytes = vp->cfg.config_bytes },
		{ .type = CFG_NOTIFY,
		  .offset = NOTIFY_AT,
		  .bytes = vp->cfg.queues * NOTIFY_STRIDE,
		  .extra = NOTIFY_STRIDE },
		{ .type = CFG_PCI },
	};

	for (u32 i = 0; i < ARRAY_SIZE(caps); i++) {
		struct virtio_cap cap = caps[i];
		u8 at;

		cap.id = CAP_VENDOR;
		cap.length =
			cap.type == CFG_NOTIFY || cap.type == CFG_PCI ? sizeof(cap) : CAP_BYTES;
		at = pci_capability_add(vp->function, &cap, cap.length);
		if (!at)
			return -ENOSPC;
		if (cap.type != CFG_PCI)
			continue;
		vp->access_cap = at;
		pci_config_writable(vp->function, at + 4, 1);
		pci_config_writable(vp->function, at + 8, 8);
		pci_config_hook(vp->function, at + CAP_BYTES);
	}
	return 0;
}

static int add_queues(struct virtio_pci *vp)
{
	for (u32 i = 0; i < vp->cfg.queues; i++) {
		int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), ret;

		vp->queue[i].kick_fd = fd;
		if (fd < 0)
			return -errno;
		ret = pci_doorbell_add(vp->function, REGISTERS_BAR, NOTIFY_AT + i * NOTIFY_STRIDE,
				       2, fd);
		if (ret)
			return ret;
	}
	return 0;
}

int virtio_pci_create(struct pci_host *h, struct gmem *gm, const struct virtio_pci_config *cfg,
		      struct virtio_pci **out)
{
	struct virtio_pci *vp = calloc(1, sizeof(*vp));
	struct pci_function_config fc = {
		.name = cfg->name,
		.vendor = VENDOR,
		.device = DEVICE_BASE + cfg->device_type,
		.subsystem_vendor = VENDOR,
		.subsystem = DEVICE_BASE + cfg->device_type,
		.class_code = cfg->class_code,
		.revision = 1,
		.bar_bytes = { [REGISTERS_BAR] = REGISTER_BYTES, [MSIX_BAR] = PCI_MSIX_BAR_BYTES },
		/* One per queue, one for changes of the configuration. */
		.vectors = (u32)min_u64(cfg->queues + 1, PCI_VECTORS_MAX),
		.msix_bar = MSIX_BAR,
		.ops = &function_ops,
		.dev = vp,
	};
	int ret;

	assert(cfg->queues <= VIRTIO_QUEUES_MAX && cfg->config_bytes <= VIRTIO_CONFIG_BYTES);
	if (!vp)
		return -ENOMEM;
	vp->cfg = *cfg;
	vp->gm = gm;
	memcpy(vp->config, cfg->config, cfg->config_bytes);
	for (u32 i = 0; i < VIRTIO_QUEUES_MAX; i++)
		vp->queue[i].kick_fd = -1;
	pthread_mutex_init(&vp->lock, NULL);
	pthread_mutex_init(&vp->config_lock, NULL);
	ret = pci_function_create(h, &fc, &vp->function);
	if (!ret)
		ret = add_capabilities(vp);
	if (!ret)
		ret = add_queues(vp);
	if (ret) {
		virtio_pci_destroy(vp);
		return ret;
	}
	reset_locked(vp);
	*out = vp;
	return 0;
}

void virtio_pci_stop(struct virtio_pci *vp)
{
	if (vp && vp->running)
		vp->cfg.ops->stop(vp->cfg.dev);
	if (vp)
		vp->running = false;
}

void virtio_pci_destroy(struct virtio_pci *vp)
{
	u32 refused;

	if (!vp)
		return;
	virtio_pci_stop(vp);
	refused = vp->function ? pci_vectors_refused(vp->function) : 0;
	if (refused)
		log_warning(
			"%s: %u interrupt vector%s had something to say that the guest never let "
			"through (not mapped)",
			vp->cfg.name, refused, refused == 1 ? "" : "s");
	if (vp->function)
		pci_function_disconnect(vp->function);
	for (u32 i = 0; i < vp->cfg.queues; i++)
		if (vp->queue[i].kick_fd >= 0)
			close(vp->queue[i].kick_fd);
	pthread_mutex_destroy(&vp->lock);
	pthread_mutex_destroy(&vp->config_lock);
	free(vp);
}

struct virtio_queue *virtio_pci_queue(struct virtio_pci *vp, u32 queue)
{
	return &vp->queue[queue];
}

struct gmem *virtio_pci_gmem(struct virtio_pci *vp)
{
	return vp->gm;
}

struct pci_function *virtio_pci_function(struct virtio_pci *vp)
{
	return vp->function;
}

int virtio_pci_vector_fd(struct virtio_pci *vp, u32 queue)
{
	return pci_vector_fd(vp->function, vector_of(&vp->queue[queue].vector));
}

void virtio_pci_raise(struct virtio_pci *vp, u32 queue)
{
	pci_vector_raise(vp->function, vector_of(&vp->queue[queue].vector));
}

void virtio_pci_config_set(struct virtio_pci *vp, u32 offset, const void *bytes, u32 count)
{
	assert(offset + count <= vp->cfg.config_bytes);
	pthread_mutex_lock(&vp->config_lock);
	memcpy(vp->config + offset, bytes, count);
	vp->generation++;
	pthread_mutex_unlock(&vp->config_lock);
	if (status_of(vp) & VIRTIO_DRIVER_OK)
		raise_config(vp);
}

void virtio_pci_fail(struct virtio_pci *vp, const char *why)
{
	log_limited(LOG_WARNING, "%s: %s; it does nothing until its driver resets it", vp->cfg.name,
		    why);
	needs_reset(vp);
}
