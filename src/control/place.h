/* SPDX-License-Identifier: MIT */
/*
 * Where control sockets are: one per running instance, called NAME.sock, in a
 * directory only its user can enter. A name is claimed by an abstract socket as
 * well, which the kernel gives up with its holder: so two starts at once cannot
 * both get it, and a socket file without a claim is what a killed process left.
 */
#ifndef NESTOR_CONTROL_PLACE_H
#define NESTOR_CONTROL_PLACE_H

#include <sys/un.h>

#include "base/types.h"

#define CONTROL_NAME_MAX 40u

/* Letters, digits, '.', '_', '-'; not '-' or '.' first; 1 to CONTROL_NAME_MAX characters. */
bool control_name_valid(const char *name);

/*
 * Nobody else of this user on this host has @name until the descriptor is closed.
 * The descriptor; -EADDRINUSE: taken; -EINVAL: no valid name; other -errno.
 */
int control_name_claim(const char *name);

/* Makes the directory if need be, and names the socket. 0 or -errno. */
int control_place_create(const char *name, struct sockaddr_un *out);
/* The socket of a running instance, connected; -ENOENT: there is none; other -errno. */
int control_place_connect(const char *name);
/* Calls @fn with each name that has a socket, whether or not somebody answers. */
void control_place_list(void (*fn)(const char *name, void *ctx), void *ctx);
/* Removes a socket that a killed process has left; one that is in use stays. */
void control_place_clean(const char *name);

#endif
