/* SPDX-License-Identifier: MIT */
/*
 * RNDIS messages, OIDs and the NDIS structures in them, as VMBus networking uses
 * them. An offset inside a message counts from byte 8, behind the header.
 * Sources: Linux include/linux/rndis.h and drivers/net/hyperv/hyperv_net.h,
 * [MS-RNDIS], OpenVMM netvsp.
 */
#ifndef NESTOR_HVDEF_RNDIS_H
#define NESTOR_HVDEF_RNDIS_H

#include "base/types.h"

enum rndis_type {
	RNDIS_PACKET = 0x00000001,
	RNDIS_INITIALIZE = 0x00000002,
	RNDIS_HALT = 0x00000003,
	RNDIS_QUERY = 0x00000004,
	RNDIS_SET = 0x00000005,
	RNDIS_RESET = 0x00000006,
	RNDIS_INDICATE = 0x00000007,
	RNDIS_KEEPALIVE = 0x00000008,
};
#define RNDIS_COMPLETE 0x80000000u /* or'ed into the answer's type */

enum rndis_status {
	RNDIS_STATUS_SUCCESS = 0x00000000,
	RNDIS_STATUS_MEDIA_CONNECT = 0x4001000b,
	RNDIS_STATUS_MEDIA_DISCONNECT = 0x4001000c,
};
#define RNDIS_STATUS_FAILURE	   0xc0000001u
#define RNDIS_STATUS_NOT_SUPPORTED 0xc00000bbu
#define RNDIS_STATUS_INVALID_DATA  0xc0010015u

enum rndis_oid {
	RNDIS_OID_GEN_SUPPORTED_LIST = 0x00010101,
	RNDIS_OID_GEN_HARDWARE_STATUS = 0x00010102,
	RNDIS_OID_GEN_MEDIA_SUPPORTED = 0x00010103,
	RNDIS_OID_GEN_MEDIA_IN_USE = 0x00010104,
	RNDIS_OID_GEN_MAXIMUM_LOOKAHEAD = 0x00010105,
	RNDIS_OID_GEN_MAXIMUM_FRAME_SIZE = 0x00010106,
	RNDIS_OID_GEN_LINK_SPEED = 0x00010107,
	RNDIS_OID_GEN_TRANSMIT_BUFFER_SPACE = 0x00010108,
	RNDIS_OID_GEN_RECEIVE_BUFFER_SPACE = 0x00010109,
	RNDIS_OID_GEN_TRANSMIT_BLOCK_SIZE = 0x0001010a,
	RNDIS_OID_GEN_RECEIVE_BLOCK_SIZE = 0x0001010b,
	RNDIS_OID_GEN_VENDOR_ID = 0x0001010c,
	RNDIS_OID_GEN_VENDOR_DESCRIPTION = 0x0001010d,
	RNDIS_OID_GEN_CURRENT_PACKET_FILTER = 0x0001010e,
	RNDIS_OID_GEN_CURRENT_LOOKAHEAD = 0x0001010f,
	RNDIS_OID_GEN_DRIVER_VERSION = 0x00010110,
	RNDIS_OID_GEN_MAXIMUM_TOTAL_SIZE = 0x00010111,
	RNDIS_OID_GEN_MAC_OPTIONS = 0x00010113,
	RNDIS_OID_GEN_MEDIA_CONNECT_STATUS = 0x00010114,
	RNDIS_OID_GEN_MAXIMUM_SEND_PACKETS = 0x00010115,
	RNDIS_OID_GEN_VENDOR_DRIVER_VERSION = 0x00010116,
	RNDIS_OID_GEN_NETWORK_LAYER_ADDRESSES = 0x00010118,
	RNDIS_OID_GEN_RECEIVE_SCALE_CAPABILITIES = 0x00010203,
	RNDIS_OID_GEN_RECEIVE_SCALE_PARAMETERS = 0x00010204,
	RNDIS_OID_GEN_RNDIS_CONFIG_PARAMETER = 0x0001021b,
	RNDIS_OID_GEN_XMIT_OK = 0x00020101,
	RNDIS_OID_GEN_RCV_OK = 0x00020102,
	RNDIS_OID_GEN_XMIT_ERROR = 0x00020103,
	RNDIS_OID_GEN_RCV_ERROR = 0x00020104,
	RNDIS_OID_GEN_RCV_NO_BUFFER = 0x00020105,
	RNDIS_OID_GEN_FRIENDLY_NAME = 0x00020216,
	RNDIS_OID_802_3_PERMANENT_ADDRESS = 0x01010101,
	RNDIS_OID_802_3_CURRENT_ADDRESS = 0x01010102,
	RNDIS_OID_802_3_MULTICAST_LIST = 0x01010103,
	RNDIS_OID_802_3_MAXIMUM_LIST_SIZE = 0x01010104,
	RNDIS_OID_802_3_RCV_ERROR_ALIGNMENT = 0x01020101,
	RNDIS_OID_802_3_XMIT_ONE_COLLISION = 0x01020102,
	RNDIS_OID_802_3_XMIT_MORE_COLLISIONS = 0x01020103,
};
#define RNDIS_OID_TCP_OFFLOAD_CURRENT_CONFIG	    0xfc01020bu
#define RNDIS_OID_TCP_OFFLOAD_PARAMETERS	    0xfc01020cu
#define RNDIS_OID_TCP_OFFLOAD_HARDWARE_CAPABILITIES 0xfc01020du

enum rndis_packet_filter {
	RNDIS_FILTER_DIRECTED = 0x01,
	RNDIS_FILTER_MULTICAST = 0x02,
	RNDIS_FILTER_ALL_MULTICAST = 0x04,
	RNDIS_FILTER_BROADCAST = 0x08,
	RNDIS_FILTER_PROMISCUOUS = 0x20,
};

struct rndis_header {
	u32 type;
	u32 length; /* of the whole message */
};
#define RNDIS_HEADER_BYTES 8u

struct rndis_initialize {
	struct rndis_header header;
	u32 request_id;
	u32 major, minor;
	u32 max_transfer_bytes;
};
static_assert(sizeof(struct rndis_initialize) == 24, "wire size");

struct rndis_initialize_complete {
	struct rndis_header header;
	u32 request_id;
	u32 status;
	u32 major, minor;
	u32 device_flags; /* 1 connectionless */
	u32 medium;	  /* 0 802.3 */
	u32 max_packets_per_message;
	u32 max_transfer_bytes;
	u32 alignment_factor; /* power of two */
	u32 af_list_offset, af_list_bytes;
};
static_assert(sizeof(struct rndis_initialize_complete) == 52, "wire size");

/* QUERY and SET have the same head. */
struct rndis_request {
	struct rndis_header header;
	u32 request_id;
	u32 oid;
	u32 info_bytes;
	u32 info_offset; /* from byte 8 */
	u32 handle;
};
static_assert(sizeof(struct rndis_request) == 28, "wire size");

struct rndis_query_complete {
	struct rndis_header header;
	u32 request_id;
	u32 status;
	u32 info_bytes;
	u32 info_offset; /* from byte 8; 16 is right behind this struct */
};
static_assert(sizeof(struct rndis_query_complete) == 24, "wire size");

/* SET, KEEPALIVE. */
struct rndis_set_complete {
	struct rndis_header header;
	u32 request_id;
	u32 status;
};
static_assert(sizeof(struct rndis_set_complete) == 16, "wire size");

/* HALT, KEEPALIVE, and RESET, whose field has no meaning. */
struct rndis_simple {
	struct rndis_header header;
	u32 request_id;
};
static_assert(sizeof(struct rndis_simple) == 12, "wire size");

struct rndis_reset_complete {
	struct rndis_header header;
	u32 status;
	u32 addressing_reset; /* 1: filter and addresses must be set again */
};
static_assert(sizeof(struct rndis_reset_complete) == 16, "wire size");

struct rndis_indicate {
	struct rndis_header header;
	u32 status;
	u32 status_bytes;
	u32 status_offset;
};
static_assert(sizeof(struct rndis_indicate) == 20, "wire size");

struct rndis_packet {
	struct rndis_header header;
	u32 data_offset; /* from byte 8 */
	u32 data_bytes;
	u32 oob_offset, oob_bytes, oob_count;
	u32 ppi_offset; /* from byte 8 */
	u32 ppi_bytes;
	u32 vc_handle;
	u32 reserved;
};
static_assert(sizeof(struct rndis_packet) == 44, "wire size");

enum rndis_ppi_type {
	RNDIS_PPI_CHECKSUM = 0,
	RNDIS_PPI_LARGE_SEND = 2,
	RNDIS_PPI_8021Q = 6,
	RNDIS_PPI_HASH_VALUE = 8,
};
#define RNDIS_PPI_INTERNAL  0x80000000u /* bit of the type field */
#define RNDIS_PPI_PACKET_ID (RNDIS_PPI_INTERNAL | 1)

struct rndis_ppi {
	u32 bytes;  /* with this head */
	u32 type;   /* bits 0-30 type, 31 internal */
	u32 offset; /* of the value, from this head */
};
static_assert(sizeof(struct rndis_ppi) == 12, "wire size");

/* Value of RNDIS_PPI_CHECKSUM, guest to host: what the host shall compute. */
enum rndis_tx_checksum {
	RNDIS_TXCSUM_IPV4 = BIT(0),
	RNDIS_TXCSUM_IPV6 = BIT(1),
	RNDIS_TXCSUM_TCP = BIT(2),
	RNDIS_TXCSUM_UDP = BIT(3),
	RNDIS_TXCSUM_IP_HEADER = BIT(4),
	/* bits 16-25: offset of the TCP or UDP header from the frame's start */
};

/* The same, host to guest: what the host knows. */
enum rndis_rx_checksum {
	RNDIS_RXCSUM_TCP_FAILED = BIT(0),
	RNDIS_RXCSUM_UDP_FAILED = BIT(1),
	RNDIS_RXCSUM_IP_FAILED = BIT(2),
	RNDIS_RXCSUM_TCP_OK = BIT(3),
	RNDIS_RXCSUM_UDP_OK = BIT(4),
	RNDIS_RXCSUM_IP_OK = BIT(5),
};

/* Value of RNDIS_PPI_LARGE_SEND, version 2. */
#define RNDIS_LSO_MSS(v)	((v)&0xfffff)
#define RNDIS_LSO_TCP_OFFSET(v) ((v) >> 20 & 0x3ff)
#define RNDIS_LSO_V2		BIT(30)
#define RNDIS_LSO_IPV6		BIT(31)

/* Value of RNDIS_PPI_8021Q to and from a tag control field. */
#define RNDIS_8021Q_TO_TCI(v)	((u16)(((v)&7) << 13 | ((v) >> 3 & 1) << 12 | ((v) >> 4 & 0xfff)))
#define RNDIS_8021Q_FROM_TCI(t) ((u32)(t) >> 13 | ((u32)(t) >> 12 & 1) << 3 | ((u32)(t)&0xfff) << 4)

/* Value of RNDIS_PPI_PACKET_ID: a frame in several suballocations. */
struct rndis_packet_id {
	u8 version; /* 1 */
	u8 flags;
	u16 id;
};
static_assert(sizeof(struct rndis_packet_id) == 4, "wire size");
enum rndis_packet_id_flag {
	RNDIS_PACKET_ID_SUBALLOC = 1,
	RNDIS_PACKET_ID_FIRST = 2,
	RNDIS_PACKET_ID_LAST = 4,
};

struct ndis_header {
	u8 type; /* enum ndis_object_type */
	u8 revision;
	u16 bytes;
};
enum ndis_object_type {
	NDIS_OBJECT_DEFAULT = 0x80,
	NDIS_OBJECT_RSS_CAPABILITIES = 0x88,
	NDIS_OBJECT_RSS_PARAMETERS = 0x89,
	NDIS_OBJECT_OFFLOAD = 0xa7,
};

/* NDIS_OFFLOAD. NDIS 6.0 ends it at ipsecv2 (revision 1), 6.1 at rsc_ip4 (2), 6.30 has all (3). */
struct ndis_offload {
	struct ndis_header header;
	u32 ip4_tx_encap, ip4_tx_csum, ip4_rx_encap, ip4_rx_csum;
	u32 ip6_tx_encap, ip6_tx_csum, ip6_rx_encap, ip6_rx_csum;
	u32 lsov1[4];
	u32 ipsecv1[7];
	u32 lso_ip4_encap, lso_ip4_max_bytes, lso_ip4_min_segments;
	u32 lso_ip6_encap, lso_ip6_max_bytes, lso_ip6_min_segments, lso_ip6_options;
	u32 flags;
	u32 ipsecv2[8];
	u8 rsc_ip4, rsc_ip6, rsc_reserved[2];
	u32 encap_flags, encap_max_header;
};
static_assert(sizeof(struct ndis_offload) == 156, "wire size");
static_assert(offsetof(struct ndis_offload, lso_ip4_encap) == 80, "wire offset");
#define NDIS_OFFLOAD_BYTES_6_0 112
#define NDIS_OFFLOAD_BYTES_6_1 144
static_assert(offsetof(struct ndis_offload, ipsecv2) == NDIS_OFFLOAD_BYTES_6_0, "wire offset");
static_assert(offsetof(struct ndis_offload, rsc_ip4) == NDIS_OFFLOAD_BYTES_6_1, "wire offset");

#define NDIS_ENCAP_8023	      0x2u
#define NDIS_CSUM_IP_OPT      0x001u /* IPv6: extension headers */
#define NDIS_CSUM_TCP_OPT     0x004u
#define NDIS_CSUM_TCP	      0x010u
#define NDIS_CSUM_UDP	      0x040u
#define NDIS_CSUM_IP	      0x100u
#define NDIS_LSO6_IP6_EXT     0x1u
#define NDIS_LSO6_TCP_OPT     0x4u
#define NDIS_RSC_OFF	      1
#define NDIS_RSC_ON	      2
#define NDIS_OFFLOAD_TX_ON(v) ((v) == 2 || (v) == 4) /* checksum fields; 0 is no change, 1 off */
#define NDIS_OFFLOAD_RX_ON(v) ((v) == 3 || (v) == 4)

/* NDIS_OFFLOAD_PARAMETERS; a field of 0 is "no change". */
struct ndis_offload_parameters {
	struct ndis_header header;
	u8 ip4_csum, tcp4_csum, udp4_csum, tcp6_csum, udp6_csum;
	u8 lsov1, ipsecv1, lsov2_ip4, lsov2_ip6;
	u8 tcp4_connection, tcp6_connection, reserved;
	u32 flags;
	u8 ipsecv2, ipsecv2_ip4;
	u8 rsc_ip4, rsc_ip6; /* not below NDIS 6.30 */
	u8 encap_offload, encap_types, reserved2[2];
};
static_assert(sizeof(struct ndis_offload_parameters) == 28, "wire size");
static_assert(offsetof(struct ndis_offload_parameters, rsc_ip4) == 22, "wire offset");
#define NDIS_OFFLOAD_PARAMETERS_BYTES_6_0 20

struct ndis_rss_capabilities {
	struct ndis_header header;
	u32 capabilities;
	u32 interrupt_messages;
	u32 queues;
	u16 table_entries;
} __attribute__((packed));
static_assert(sizeof(struct ndis_rss_capabilities) == 18, "wire size");
#define NDIS_RSS_CAP_MSI      0x01000000u
#define NDIS_RSS_CAP_TCP_IPV4 0x00000100u
#define NDIS_RSS_CAP_TCP_IPV6 0x00000200u

struct ndis_rss_parameters {
	struct ndis_header header;
	u16 flags;
	u16 base_cpu;
	u32 hash_info; /* 1 Toeplitz, then the bits below */
	u16 table_bytes;
	u32 table_offset; /* from this struct; u32 each */
	u16 key_bytes;
	u32 key_offset;
	u32 masks_offset, masks_count, mask_bytes;
};
static_assert(offsetof(struct ndis_rss_parameters, table_offset) == 16, "wire offset");
static_assert(offsetof(struct ndis_rss_parameters, key_offset) == 24, "wire offset");
#define NDIS_RSS_BYTES		 28 /* up to the processor masks, which nobody reads */
#define NDIS_RSS_TABLE_UNCHANGED 0x0004
#define NDIS_RSS_KEY_UNCHANGED	 0x0008
#define NDIS_RSS_DISABLE	 0x0010
#define NDIS_RSS_KEY_BYTES	 40
#define NDIS_RSS_TABLE_MAX	 128
#define NDIS_HASH_IPV4		 0x0100u
#define NDIS_HASH_TCP_IPV4	 0x0200u
#define NDIS_HASH_IPV6		 0x0400u
#define NDIS_HASH_TCP_IPV6	 0x1000u

/* SET of RNDIS_CONFIG_PARAMETER. Offsets from this struct; text is UTF-16. */
struct rndis_config_parameter {
	u32 name_offset, name_bytes;
	u32 type; /* 0 integer, 2 string */
	u32 value_offset, value_bytes;
};
static_assert(sizeof(struct rndis_config_parameter) == 20, "wire size");

#endif
