// SPDX-License-Identifier: MIT
/*
 * A tap interface of the host. The virtio-net header in front of each frame
 * carries the offloads both ways, so large frames and open checksums pass
 * through to the host's stack untouched.
 */
#include "backend/net.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"

#define TAP_BURST   64 /* frames read per wake-up */
#define TAP_IOV_MAX 260

struct net_tap {
	struct net_backend be;
	int fd;
	struct loop_fd lf;
	bool paused; /* the device has no room */
	u8 buf[NET_FRAME_MAX + 3];
};

static struct net_tap *tap_of(struct net_backend *be)
{
	return container_of(be, struct net_tap, be);
}

static void header_from_meta(struct virtio_net_hdr *vh, const struct net_meta *meta)
{
	memset(vh, 0, sizeof(*vh));
	if (meta->needs_csum) {
		vh->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
		vh->csum_start = meta->csum_start;
		vh->csum_offset = meta->csum_offset;
	}
	if (meta->gso != NET_GSO_NONE) {
		vh->gso_type = meta->gso == NET_GSO_TCP4 ? VIRTIO_NET_HDR_GSO_TCPV4
							 : VIRTIO_NET_HDR_GSO_TCPV6;
		vh->gso_size = meta->gso_bytes;
		vh->hdr_len = meta->header_bytes;
	}
}

static bool meta_from_header(struct net_meta *meta, const struct virtio_net_hdr *vh)
{
	memset(meta, 0, sizeof(*meta));
	meta->needs_csum = vh->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM;
	meta->csum_ok = !meta->needs_csum && vh->flags & VIRTIO_NET_HDR_F_DATA_VALID;
	meta->csum_start = vh->csum_start;
	meta->csum_offset = vh->csum_offset;
	meta->gso_bytes = vh->gso_size;
	meta->header_bytes = vh->hdr_len;
	switch (vh->gso_type & ~VIRTIO_NET_HDR_GSO_ECN) {
	case VIRTIO_NET_HDR_GSO_NONE:
		return true;
	case VIRTIO_NET_HDR_GSO_TCPV4:
		meta->gso = NET_GSO_TCP4;
		return true;
	case VIRTIO_NET_HDR_GSO_TCPV6:
		meta->gso = NET_GSO_TCP6;
		return true;
	}
	return false; /* nothing we asked for */
}

static void tap_tx(struct net_backend *be, const struct net_frame *f)
{
	struct net_tap *tap = tap_of(be);
	struct virtio_net_hdr vh;
	struct iovec iov[TAP_IOV_MAX] = { { &vh, sizeof(vh) } };

	if (f->count >= TAP_IOV_MAX)
		return;
	header_from_meta(&vh, &f->meta);
	memcpy(iov + 1, f->iov, (size_t)f->count * sizeof(*iov));
	/* The kernel drops what it cannot take; so do we. */
	if (writev(tap->fd, iov, f->count + 1) < 0 && errno == EIO)
		log_limited(LOG_WARNING, "Interface of the tap network is down.");
}

static void tap_readable(struct loop_fd *lf, u32 events)
{
	struct net_tap *tap = container_of(lf, struct net_tap, lf);
	struct virtio_net_hdr vh;
	struct iovec in[2] = { { &vh, sizeof(vh) }, { tap->buf, sizeof(tap->buf) } };
	struct iovec iov = { tap->buf, 0 };
	struct net_frame f = { .iov = &iov, .count = 1 };

	for (int i = 0; i < TAP_BURST; i++) {
		ssize_t n;

		if (!tap->be.sink->rx_room(tap->be.sink_ctx)) {
			tap->paused = true;
			loop_fd_modify(&tap->lf, 0);
			break;
		}
		n = readv(tap->fd, in, 2);
		if (n < (ssize_t)(sizeof(vh) + NET_ETH_BYTES))
			break;
		if (n - sizeof(vh) > NET_FRAME_MAX || !meta_from_header(&f.meta, &vh))
			continue;
		f.bytes = (u32)(n - sizeof(vh));
		iov.iov_len = f.bytes;
		tap->be.sink->rx(tap->be.sink_ctx, &f);
	}
	tap->be.sink->rx_end(tap->be.sink_ctx);
}

static void tap_resume(struct net_backend *be)
{
	struct net_tap *tap = tap_of(be);

	if (!tap->paused)
		return;
	tap->paused = false;
	loop_fd_modify(&tap->lf, EPOLLIN);
}

static void tap_set_rx(struct net_backend *be, const struct net_rx_caps *caps)
{
	unsigned int offload = TUN_F_CSUM;

	if (caps->large_tcp4)
		offload |= TUN_F_TSO4;
	if (caps->large_tcp6)
		offload |= TUN_F_TSO6;
	if (caps->large_tcp4 || caps->large_tcp6)
		offload |= TUN_F_TSO_ECN;
	if (ioctl(tap_of(be)->fd, TUNSETOFFLOAD, offload) < 0)
		log_warning("Setting offloads of the tap network failed: %s.", strerror(errno));
}

static int tap_start(struct net_backend *be)
{
	struct net_tap *tap = tap_of(be);

	return loop_fd_add(be->loop, &tap->lf, tap->fd, EPOLLIN, tap_readable);
}

static void tap_stop(struct net_backend *be)
{
	loop_fd_del(&tap_of(be)->lf);
}

static void tap_destroy(struct net_backend *be)
{
	close(tap_of(be)->fd);
	free(tap_of(be));
}

static const struct net_backend_ops tap_ops = {
	.name = "tap",
	.start = tap_start,
	.stop = tap_stop,
	.destroy = tap_destroy,
	.tx = tap_tx,
	.rx_resume = tap_resume,
	.set_rx = tap_set_rx,
};

static u32 interface_mtu(const char *name)
{
	struct ifreq ifr = { 0 };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	u32 mtu = 1500;

	if (fd < 0)
		return mtu;
	memcpy(ifr.ifr_name, name, strnlen(name, IFNAMSIZ - 1));
	if (ioctl(fd, SIOCGIFMTU, &ifr) == 0 && ifr.ifr_mtu >= 68)
		mtu = (u32)ifr.ifr_mtu;
	close(fd);
	return mtu;
}

static int open_interface(const char *name)
{
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	int header_bytes = sizeof(struct virtio_net_hdr);
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK), ret;

	if (fd < 0)
		return -errno;
	memcpy(ifr.ifr_name, name, strnlen(name, IFNAMSIZ - 1));
	if (ioctl(fd, TUNSETIFF, &ifr) < 0 || ioctl(fd, TUNSETVNETHDRSZ, &header_bytes) < 0) {
		ret = -errno;
		close(fd);
		return ret;
	}
	ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM);
	return fd;
}

int net_tap_create(const struct net_spec *spec, struct net_backend **out, char *error,
		   size_t error_bytes)
{
	struct net_tap *tap = calloc(1, sizeof(*tap));

	if (!tap)
		return -ENOMEM;
	tap->fd = open_interface(spec->target);
	if (tap->fd < 0) {
		int ret = tap->fd;

		snprintf(error, error_bytes, "tap interface '%s': %s", spec->target,
			 strerror(-ret));
		free(tap);
		return ret;
	}
	tap->be = (struct net_backend){
		.ops = &tap_ops,
		.link_up = true,
		.mtu = interface_mtu(spec->target),
		.speed_bits = 10000000000ull,
	};
	*out = &tap->be;
	return 0;
}
