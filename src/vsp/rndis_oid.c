// SPDX-License-Identifier: MIT
/* Object identifiers: what the card says of itself, and what the guest sets. A row each. */
#include <stdio.h>
#include <string.h>

#include "vsp/netvsp_internal.h"

/* ---- queries: fill @out, return its bytes ---- */

static u32 put_u32(u8 *out, u32 v)
{
	memcpy(out, &v, sizeof(v));
	return sizeof(v);
}

static u32 q_zero(struct netvsp *nv, const u8 *in, u32 in_bytes, u8 *out)
{
	return put_u32(out, 0);
}

static u32 q_one(struct netvsp *nv, const u8 *in, u32 in_bytes, u8 *out)
{
	return put_u32(out, 1);
}

static u32 q_max_frame(struct netvsp *nv, const u8 *in, u32 in_bytes, u8 *out)
{
	return put_u32(out, nv->be->mtu);
}

static u32 q_max_total(struct netvsp *nv, const u8 *in, u32 in_bytes, u8 *out)
{
	return put_u32(out, nv->be->mtu + NET_ETH_BYTES);
}

static u32 q_link_speed(struct netvsp *nv, const u8 *in, u32 in_bytes, u8 *out)
{
	return put_u32(out, (u32)min_u64(nv->be->speed_bits / 100, UINT32_MAX));
}

static u32 q_transmit_space(struct netvsp *nv, const u8 *in, u32 in_bytes, u8 *out)
{
	return put_u32(out, nv->send.section_bytes * nv->send.section_count);
}

static u32 q_receive_space(struct netvsp *nv, const u8 *in, u32 in_bytes, u8 *out)
{
	return put_u32(out, nv->recv.section_bytes * nv->recv.section_count);
}

static u32 q_vendor_id(struct netvsp *nv, const u8 *in, u32 in_bytes, u8 *out)
{
	return put_u32(out, 0xffffff); /* no IEEE number */
}

static u32 q_vendor(struct netvsp *nv, const u8 *in, u32 in_bytes, u8 *out)
{
	static const char text[] = "Nestor network";

	memcpy(out, text, sizeof(text));
	return sizeof(text);
}

static u32 q_filter(struct netvsp *nv, const u8 *in, u32 in_bytes, u8 *out)
{
	return put_u32(out, nv->filter);
}

static u32 q_driver_version(struct netvsp *nv, const u8 *in, u32 in_bytes, u8 *out)
{
	u16 version = 0x061e; /* NDIS 6.30 */

	memcpy(out, &version, sizeof(version));
	return sizeof(version);
}

static u32 q_mac_options(struct netvsp *nv, const u8 *in, u32 in_bytes, u8 *out)
{
	return put_u32(out, 0x49); /* copies lookahead, no loopback, priority and VLAN */
}

static u32 q_connect_status(struct netvsp *nv, const u8 *in, u32 in_bytes, u8 *out)
{
	return put_u32(out, nv->link_up ? 0 : 1);
}

static u32 q_max_packets(struct netvsp *nv, const u8 *in, u32 in_bytes, u8 *out)
{
	return put_u32(out, 8);
}

static u32 q_xmit_ok(struct netvsp *nv, const u8 *in, u32 in_bytes, u8 *out)
{
	return put_u32(out, (u32)nv->stats.tx_frames);
}

static u32 q_rcv_ok(struct netvsp *nv, const u8 *in, u32 in_bytes, u8 *out)
{
	return put_u32(out, (u32)nv->stats.rx_frames);
}

static u32 q_xmit_error(struct netvsp *nv, const u8 *in, u32 in_bytes, u8 *out)
{
	return put_u32(out, (u32)nv->stats.tx_errors);
}

static u32 q_rcv_no_buffer(struct netvsp *nv, const u8 *in, u32 in_bytes, u8 *out)
{
	return put_u32(out, (u32)nv->stats.rx_dropped);
}

static u32 q_friendly_name(struct netvsp *nv, const u8 *in, u32 in_bytes, u8 *out)
{
	u32 n = 0;

	for (const char *p = nv->name; *p; p++, n += 2) {
		out[n] = (u8)*p < 0x80 ? (u8)*p : '?';
		out[n + 1] = 0;
	}
	return n;
}

static u32 q_permanent_mac(struct netvsp *nv, const u8 *in, u32 in_bytes, u8 *out)
{
	memcpy(out, nv->permanent_mac, 6);
	return 6;
}

static u32 q_current_mac(struct netvsp *nv, const u8 *in, u32 in_bytes, u8 *out)
{
	memcpy(out, nv->mac, 6);
	return 6;
}

static u32 q_multicast_max(struct netvsp *nv, const u8 *in, u32 in_bytes, u8 *out)
{
	return put_u32(out, 32);
}

/* Large receives exist from NVSP 6.1 on, and only for a guest that said it knows them. */
static bool can_rsc(const struct netvsp *nv)
{
	return nv->version >= NVSP_VERSION_61 && nv->capabilities & NVSP_CAP_RSC;
}

static u32 q_offload(struct netvsp *nv, const u8 *in, u32 in_bytes, u8 *out)
{
	struct ndis_header asked = { .revision = nv->version >= NVSP_VERSION_5	 ? 3
						 : nv->version >= NVSP_VERSION_4 ? 2
										 : 1 };
	const u32 csum = NDIS_CSUM_IP_OPT | NDIS_CSUM_TCP_OPT | NDIS_CSUM_TCP | NDIS_CSUM_UDP;
	struct ndis_offload caps = {
		.header.type = NDIS_OBJECT_OFFLOAD,
		.ip4_tx_encap = NDIS_ENCAP_8023,
		.ip4_tx_csum = csum | NDIS_CSUM_IP,
		.ip4_rx_encap = NDIS_ENCAP_8023,
		.ip4_rx_csum = csum | NDIS_CSUM_IP,
		.ip6_tx_encap = NDIS_ENCAP_8023,
		.ip6_tx_csum = csum,
		.ip6_rx_encap = NDIS_ENCAP_8023,
		.ip6_rx_csum = csum,
		.lso_ip4_encap = NDIS_ENCAP_8023,
		.lso_ip4_max_bytes = NETVSP_LSO_MAX,
		.lso_ip4_min_segments = 2,
		.lso_ip6_encap = NDIS_ENCAP_8023,
		.lso_ip6_max_bytes = NETVSP_LSO_MAX,
		.lso_ip6_min_segments = 2,
		.lso_ip6_options = NDIS_LSO6_IP6_EXT | NDIS_LSO6_TCP_OPT,
		.rsc_ip4 = can_rsc(nv),
		.rsc_ip6 = can_rsc(nv),
	};

	if (in_bytes >= sizeof(asked))
		memcpy(&asked, in, sizeof(asked));
	caps.header.revision = asked.revision >= 3 ? 3 : asked.revision == 2 ? 2 : 1;
	caps.header.bytes = caps.header.revision == 3	? sizeof(caps)
			    : caps.header.revision == 2 ? NDIS_OFFLOAD_BYTES_6_1
							: NDIS_OFFLOAD_BYTES_6_0;
	memcpy(out, &caps, caps.header.bytes);
	return caps.header.bytes;
}

static u32 q_rss_caps(struct netvsp *nv, const u8 *in, u32 in_bytes, u8 *out)
{
	struct ndis_rss_capabilities caps = {
		.header = { NDIS_OBJECT_RSS_CAPABILITIES, 2, sizeof(caps) },
		.capabilities = NDIS_RSS_CAP_MSI | NDIS_RSS_CAP_TCP_IPV4 | NDIS_RSS_CAP_TCP_IPV6 |
				1 /* Toeplitz */,
		.interrupt_messages = nv->max_channels,
		.queues = nv->max_channels,
		.table_entries = NDIS_RSS_TABLE_MAX,
	};

	memcpy(out, &caps, sizeof(caps));
	return sizeof(caps);
}

static u32 q_supported(struct netvsp *nv, const u8 *in, u32 in_bytes, u8 *out);

/* ---- sets: an RNDIS status ---- */

static u32 s_accept(struct netvsp *nv, const u8 *in, u32 bytes)
{
	return RNDIS_STATUS_SUCCESS; /* nothing in us depends on it */
}

static u32 s_filter(struct netvsp *nv, const u8 *in, u32 bytes)
{
	if (bytes < sizeof(nv->filter))
		return RNDIS_STATUS_INVALID_DATA;
	memcpy(&nv->filter, in, sizeof(nv->filter));
	return RNDIS_STATUS_SUCCESS;
}

static void set_rx(bool *on, u8 value)
{
	if (value)
		*on = NDIS_OFFLOAD_RX_ON(value);
}

static void set_rsc(bool *on, u8 value, bool possible)
{
	if (value)
		*on = possible && value == NDIS_RSC_ON;
}

static u32 s_offload(struct netvsp *nv, const u8 *in, u32 bytes)
{
	struct ndis_offload_parameters p = { 0 };
	struct netvsp_offload *o = &nv->offload;

	if (bytes < NDIS_OFFLOAD_PARAMETERS_BYTES_6_0)
		return RNDIS_STATUS_INVALID_DATA;
	/* What an older, shorter one does not have is "no change". */
	memcpy(&p, in, min_u64(bytes, sizeof(p)));
	if (p.header.type != NDIS_OBJECT_DEFAULT)
		return RNDIS_STATUS_INVALID_DATA;
	set_rx(&o->rx_tcp4, p.tcp4_csum);
	set_rx(&o->rx_udp4, p.udp4_csum);
	set_rx(&o->rx_tcp6, p.tcp6_csum);
	set_rx(&o->rx_udp6, p.udp6_csum);
	set_rsc(&o->rsc4, p.rsc_ip4, can_rsc(nv));
	set_rsc(&o->rsc6, p.rsc_ip6, can_rsc(nv));
	netvsp_rx_caps(nv);
	return RNDIS_STATUS_SUCCESS;
}

static bool rss_table(struct netvsp *nv, struct netvsp_rss *rss, const u8 *in, u32 bytes,
		      const struct ndis_rss_parameters *p)
{
	u32 count = p->table_bytes / 4;

	if (count == 0 || count > NDIS_RSS_TABLE_MAX || count & (count - 1) ||
	    (u64)p->table_offset + count * 4 > bytes)
		return false;
	for (u32 i = 0; i < count; i++) {
		u32 entry;

		memcpy(&entry, in + p->table_offset + i * 4, sizeof(entry));
		if (entry >= nv->max_channels)
			return false;
		rss->table[i] = (u8)entry;
	}
	rss->table_count = count;
	return true;
}

static u32 s_rss(struct netvsp *nv, const u8 *in, u32 bytes)
{
	struct ndis_rss_parameters p = { 0 };
	struct netvsp_rss rss = nv->rss;

	if (bytes < NDIS_RSS_BYTES)
		return RNDIS_STATUS_INVALID_DATA;
	memcpy(&p, in, NDIS_RSS_BYTES);
	if (p.header.type != NDIS_OBJECT_RSS_PARAMETERS)
		return RNDIS_STATUS_INVALID_DATA;
	if (p.flags & NDIS_RSS_DISABLE) {
		nv->rss.enabled = false;
		return RNDIS_STATUS_SUCCESS;
	}
	rss.types = p.hash_info;
	if (!(p.flags & NDIS_RSS_TABLE_UNCHANGED) && !rss_table(nv, &rss, in, bytes, &p))
		return RNDIS_STATUS_INVALID_DATA;
	if (!(p.flags & NDIS_RSS_KEY_UNCHANGED)) {
		if (p.key_bytes != NDIS_RSS_KEY_BYTES ||
		    (u64)p.key_offset + NDIS_RSS_KEY_BYTES > bytes)
			return RNDIS_STATUS_INVALID_DATA;
		memcpy(rss.key, in + p.key_offset, sizeof(rss.key));
	}
	rss.enabled = rss.table_count != 0;
	nv->rss = rss;
	return RNDIS_STATUS_SUCCESS;
}

/* UTF-16 of @bytes at @offset as ASCII. */
static bool config_text(const u8 *in, u32 in_bytes, u32 offset, u32 bytes, char *out, u32 max)
{
	u32 n = bytes / 2;

	if ((u64)offset + bytes > in_bytes || n >= max)
		return false;
	for (u32 i = 0; i < n; i++)
		out[i] = in[offset + 2 * i + 1] ? '?' : (char)in[offset + 2 * i];
	out[n] = 0;
	return true;
}

static u32 s_config(struct netvsp *nv, const u8 *in, u32 bytes)
{
	struct rndis_config_parameter p;
	char name[32], value[32];
	u8 mac[6];

	if (bytes < sizeof(p))
		return RNDIS_STATUS_INVALID_DATA;
	memcpy(&p, in, sizeof(p));
	if (!config_text(in, bytes, p.name_offset, p.name_bytes, name, sizeof(name)) ||
	    !config_text(in, bytes, p.value_offset, p.value_bytes, value, sizeof(value)))
		return RNDIS_STATUS_INVALID_DATA;
	if (strcmp(name, "NetworkAddress") != 0)
		return RNDIS_STATUS_NOT_SUPPORTED;
	if (strlen(value) != 12 ||
	    sscanf(value, "%2hhx%2hhx%2hhx%2hhx%2hhx%2hhx", &mac[0], &mac[1], &mac[2], &mac[3],
		   &mac[4], &mac[5]) != 6 ||
	    mac[0] & 1)
		return RNDIS_STATUS_INVALID_DATA;
	memcpy(nv->mac, mac, sizeof(mac));
	return RNDIS_STATUS_SUCCESS;
}

/* ---- rows ---- */

static const struct oid_row {
	u32 oid;
	u32 (*query)(struct netvsp *nv, const u8 *in, u32 in_bytes, u8 *out);
	u32 (*set)(struct netvsp *nv, const u8 *in, u32 bytes);
} oids[] = {
	{ RNDIS_OID_GEN_SUPPORTED_LIST, q_supported },
	{ RNDIS_OID_GEN_HARDWARE_STATUS, q_zero }, /* ready */
	{ RNDIS_OID_GEN_MEDIA_SUPPORTED, q_zero }, /* 802.3 */
	{ RNDIS_OID_GEN_MEDIA_IN_USE, q_zero },
	{ RNDIS_OID_GEN_MAXIMUM_LOOKAHEAD, q_max_frame },
	{ RNDIS_OID_GEN_MAXIMUM_FRAME_SIZE, q_max_frame },
	{ RNDIS_OID_GEN_LINK_SPEED, q_link_speed },
	{ RNDIS_OID_GEN_TRANSMIT_BUFFER_SPACE, q_transmit_space },
	{ RNDIS_OID_GEN_RECEIVE_BUFFER_SPACE, q_receive_space },
	{ RNDIS_OID_GEN_TRANSMIT_BLOCK_SIZE, q_one },
	{ RNDIS_OID_GEN_RECEIVE_BLOCK_SIZE, q_one },
	{ RNDIS_OID_GEN_VENDOR_ID, q_vendor_id },
	{ RNDIS_OID_GEN_VENDOR_DESCRIPTION, q_vendor },
	{ RNDIS_OID_GEN_CURRENT_PACKET_FILTER, q_filter, s_filter },
	{ RNDIS_OID_GEN_CURRENT_LOOKAHEAD, q_max_frame, s_accept },
	{ RNDIS_OID_GEN_DRIVER_VERSION, q_driver_version },
	{ RNDIS_OID_GEN_MAXIMUM_TOTAL_SIZE, q_max_total },
	{ RNDIS_OID_GEN_MAC_OPTIONS, q_mac_options },
	{ RNDIS_OID_GEN_MEDIA_CONNECT_STATUS, q_connect_status },
	{ RNDIS_OID_GEN_MAXIMUM_SEND_PACKETS, q_max_packets },
	{ RNDIS_OID_GEN_VENDOR_DRIVER_VERSION, q_one },
	{ RNDIS_OID_GEN_NETWORK_LAYER_ADDRESSES, NULL, s_accept },
	{ RNDIS_OID_GEN_RECEIVE_SCALE_CAPABILITIES, q_rss_caps },
	{ RNDIS_OID_GEN_RECEIVE_SCALE_PARAMETERS, NULL, s_rss },
	{ RNDIS_OID_GEN_RNDIS_CONFIG_PARAMETER, NULL, s_config },
	{ RNDIS_OID_GEN_XMIT_OK, q_xmit_ok },
	{ RNDIS_OID_GEN_RCV_OK, q_rcv_ok },
	{ RNDIS_OID_GEN_XMIT_ERROR, q_xmit_error },
	{ RNDIS_OID_GEN_RCV_ERROR, q_zero },
	{ RNDIS_OID_GEN_RCV_NO_BUFFER, q_rcv_no_buffer },
	{ RNDIS_OID_GEN_FRIENDLY_NAME, q_friendly_name },
	{ RNDIS_OID_802_3_PERMANENT_ADDRESS, q_permanent_mac },
	{ RNDIS_OID_802_3_CURRENT_ADDRESS, q_current_mac },
	{ RNDIS_OID_802_3_MULTICAST_LIST, NULL, s_accept },
	{ RNDIS_OID_802_3_MAXIMUM_LIST_SIZE, q_multicast_max },
	{ RNDIS_OID_802_3_RCV_ERROR_ALIGNMENT, q_zero },
	{ RNDIS_OID_802_3_XMIT_ONE_COLLISION, q_zero },
	{ RNDIS_OID_802_3_XMIT_MORE_COLLISIONS, q_zero },
	{ RNDIS_OID_TCP_OFFLOAD_CURRENT_CONFIG, q_offload },
	{ RNDIS_OID_TCP_OFFLOAD_PARAMETERS, NULL, s_offload },
	{ RNDIS_OID_TCP_OFFLOAD_HARDWARE_CAPABILITIES, q_offload },
};
static_assert(ARRAY_SIZE(oids) * 4 <= RNDIS_OID_ANSWER_MAX, "the list is an answer");
static_assert(2 * sizeof(((struct netvsp *)0)->name) <= RNDIS_OID_ANSWER_MAX, "so is the name");

static u32 q_supported(struct netvsp *nv, const u8 *in, u32 in_bytes, u8 *out)
{
	for (size_t i = 0; i < ARRAY_SIZE(oids); i++)
		put_u32(out + 4 * i, oids[i].oid);
	return 4 * ARRAY_SIZE(oids);
}

static const struct oid_row *find_oid(u32 oid)
{
	for (size_t i = 0; i < ARRAY_SIZE(oids); i++)
		if (oids[i].oid == oid)
			return &oids[i];
	return NULL;
}

u32 rndis_oid_query(struct netvsp *nv, u32 oid, const u8 *in, u32 in_bytes, u8 *out, u32 *bytes)
{
	const struct oid_row *row = find_oid(oid);

	if (!row || !row->query)
		return RNDIS_STATUS_NOT_SUPPORTED;
	*bytes = row->query(nv, in, in_bytes, out);
	return RNDIS_STATUS_SUCCESS;
}

u32 rndis_oid_set(struct netvsp *nv, u32 oid, const u8 *in, u32 in_bytes)
{
	const struct oid_row *row = find_oid(oid);

	if (!row || !row->set)
		return RNDIS_STATUS_NOT_SUPPORTED;
	return row->set(nv, in, in_bytes);
}
