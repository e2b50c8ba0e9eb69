// SPDX-License-Identifier: MIT
/* Network specifications and the choice of a back end. */
#include "backend/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

struct parse {
	struct net_spec *spec;
	char *error;
	size_t error_bytes;
};

static int PRINTF_FMT(2, 3) wrong(struct parse *p, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(p->error, p->error_bytes, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

static bool parse_number(const char *text, u32 max, u32 *value)
{
	char *end;
	unsigned long v;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	v = strtoul(text, &end, 10);
	if (*end || errno || v > max)
		return false;
	*value = (u32)v;
	return true;
}

static int option_mac(struct parse *p, char *value)
{
	u8 *mac = p->spec->mac;
	char end;

	if (sscanf(value, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%c", &mac[0], &mac[1], &mac[2],
		   &mac[3], &mac[4], &mac[5], &end) != 6)
		return wrong(p, "'%s' is not a MAC address", value);
	if (mac[0] & 1)
		return wrong(p, "'%s' is a multicast MAC address", value);
	p->spec->has_mac = true;
	return 0;
}

static int option_restrict(struct parse *p, char *value)
{
	p->spec->restricted = true;
	return 0;
}

static int option_net(struct parse *p, char *value)
{
	char *slash = strchr(value, '/');
	u32 bits = 24;

	if (slash)
		*slash++ = 0;
	/* The guest is .15, so nothing longer than a /27. */
	if (slash && (!parse_number(slash, 27, &bits) || bits < 8))
		return wrong(p, "net=: the prefix length is 8 to 27");
	if (inet_pton(AF_INET, value, &p->spec->net) != 1)
		return wrong(p, "'%s' is not an IPv4 address", value);
	p->spec->mask.s_addr = htonl(~0u << (32 - bits));
	p->spec->net.s_addr &= p->spec->mask.s_addr;
	return 0;
}

/* "[ADDR]:PORT" in place; an empty address is 0. */
static bool parse_endpoint(char *text, struct in_addr *addr, u16 *port)
{
	char *colon = strrchr(text, ':');
	u32 v;

	if (!colon)
		return false;
	*colon++ = 0;
	addr->s_addr = 0;
	if (*text && inet_pton(AF_INET, text, addr) != 1)
		return false;
	if (!parse_number(colon, 65535, &v) || v == 0)
		return false;
	*port = (u16)v;
	return true;
}

static int option_hostfwd(struct parse *p, char *value)
{
	struct net_hostfwd *fwd = &p->spec->hostfwd[p->spec->hostfwd_count];
	char *dash = strchr(value, '-');

	if (p->spec->hostfwd_count == NET_HOSTFWD_MAX)
		return wrong(p, "more than %u hostfwd", NET_HOSTFWD_MAX);
	fwd->udp = strncmp(value, "udp:", 4) == 0;
	if (!dash || (!fwd->udp && strncmp(value, "tcp:", 4) != 0))
		return wrong(p, "hostfwd= is tcp|udp:[ADDR]:PORT-[GUEST]:PORT");
	*dash++ = 0;
	if (!parse_endpoint(value + 4, &fwd->host, &fwd->host_port) ||
	    !parse_endpoint(dash, &fwd->guest, &fwd->guest_port))
		return wrong(p, "hostfwd= is tcp|udp:[ADDR]:PORT-[GUEST]:PORT");
	p->spec->hostfwd_count++;
	return 0;
}

#define KIND(k)	 BIT(k)
#define ANY_KIND (KIND(NET_USER) | KIND(NET_PASST) | KIND(NET_TAP))

static const struct {
	const char *name;
	u32 kinds;
	bool wants_value;
	int (*fn)(struct parse *p, char *value);
} options[] = {
	{ "mac", ANY_KIND, true, option_mac },
	{ "restrict", KIND(NET_USER), false, option_restrict },
	{ "net", KIND(NET_USER), true, option_net },
	{ "hostfwd", KIND(NET_USER), true, option_hostfwd },
};

static const struct {
	const char *name;
	enum net_kind kind;
	size_t target_max; /* 0: takes none */
	int (*create)(const struct net_spec *spec, struct net_backend **out, char *error,
		      size_t error_bytes);
} kinds[] = {
	{ "user", NET_USER, 0, net_user_create },
	{ "passt", NET_PASST, sizeof(((struct sockaddr_un *)0)->sun_path) - 1, net_passt_create },
	{ "tap", NET_TAP, IFNAMSIZ - 1, net_tap_create },
};

static int parse_kind(struct parse *p, const char *name, const char *value)
{
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		if (strcmp(name, kinds[i].name) != 0)
			continue;
		p->spec->kind = kinds[i].kind;
		if (!kinds[i].target_max)
			return value ? wrong(p, "%s takes no value", name) : 0;
		if (!value || !*value)
			return wrong(p, "%s= needs a name", name);
		if (strlen(value) > kinds[i].target_max)
			return wrong(p, "'%s' is too long", value);
		strcpy(p->spec->target, value);
		return 0;
	}
	return wrong(p, "'%s' is not a kind of network: user, passt=SOCKET, tap=NAME", name);
}

static int parse_option(struct parse *p, const char *name, char *value)
{
	for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
		if (strcmp(name, options[i].name) != 0 || !(options[i].kinds & BIT(p->spec->kind)))
			continue;
		if (options[i].wants_value != (value != NULL))
			return wrong(p, "%s %s a value", name, value ? "takes no" : "needs");
		return options[i].fn(p, value);
	}
	return wrong(p, "unknown network option '%s'", name);
}

int net_spec_parse(struct net_spec *spec, const char *text, char *error, size_t error_bytes)
{
	struct parse p = { spec, error, error_bytes };
	char *copy = strdup(text), *save = NULL, *word;
	bool first = true;
	int ret = 0;

	if (!copy)
		return -ENOMEM;
	memset(spec, 0, sizeof(*spec));
	spec->net.s_addr = htonl(0x0a000200);
	spec->mask.s_addr = htonl(0xffffff00);
	for (word = strtok_r(copy, ",", &save); word && !ret; word = strtok_r(NULL, ",", &save)) {
		char *value = strchr(word, '=');

		if (value)
			*value++ = 0;
		ret = first ? parse_kind(&p, word, value) : parse_option(&p, word, value);
		first = false;
	}
	if (!ret && first)
		ret = wrong(&p, "the network is empty: user, passt=SOCKET or tap=NAME");
	free(copy);
	return ret;
}

void net_mac_derive(u8 mac[6], const char *name, u32 index)
{
	u64 hash = 0xcbf29ce484222325ull; /* FNV-1a */

	for (; *name; name++)
		hash = (hash ^ (u8)*name) * 0x100000001b3ull;
	hash = (hash ^ index) * 0x100000001b3ull;
	mac[0] = 0x02; /* locally administered */
	for (int i = 1; i < 6; i++)
		mac[i] = (u8)(hash >> (8 * i));
}

int net_backend_create(const struct net_spec *spec, struct net_backend **out, char *error,
		       size_t error_bytes)
{
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (kinds[i].kind == spec->kind)
			return kinds[i].create(spec, out, error, error_bytes);
	return -EINVAL;
}
