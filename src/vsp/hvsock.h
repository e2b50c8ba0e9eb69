/* SPDX-License-Identifier: MIT */
/*
 * hv_sock for programs on the host, by Unix sockets as Firecracker and Cloud
 * Hypervisor have them for vsock:
 *
 *   host to guest: connect to PATH, write "CONNECT <port>\n", read "OK <port>\n"
 *   or see the connection closed; then the bytes of the stream.
 *   guest to host: the guest connects to <port> of CID 2; we connect to PATH_<port>.
 *
 * AF_VSOCK port p is the service GUID p-facb-11e6-bd58-64006a7986d3. Source:
 * Linux net/vmw_vsock/hyperv_transport.c.
 */
#ifndef NESTOR_VSP_HVSOCK_H
#define NESTOR_VSP_HVSOCK_H

#include "vmbus/server.h"

struct hvsock;

struct hvsock_config {
	const char *path;	/* copied; an existing socket there is replaced */
	u32 max_connections;	/* 0: 256 */
	u64 connect_timeout_ns; /* until the guest opens the channel; 0: 5 s */
	struct loop *loop;	/* runs the data; NULL: a loop and thread of its own */
};

/*
 * Listens on PATH. 0 or negative errno of
 * socket(), bind() ...; one per server.
 */
int hvsock_create(struct vmbus_server *srv, const struct hvsock_config *cfg, struct hvsock **out);
/*
 * Before vmbus_server_destroy(): stops listening, ends every connection, and
 * returns when the last is gone. Not from the server's loop. NULL is fine.
 */
void hvsock_destroy(struct hvsock *hs);
u32 hvsock_count(struct hvsock *hs); /* [any] connections now */

#endif
