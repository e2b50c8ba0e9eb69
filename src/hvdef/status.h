/* SPDX-License-Identifier: MIT */
/* HV_STATUS values. TLFS: appendix "Hypercall Status Codes". */
#ifndef NESTOR_HVDEF_STATUS_H
#define NESTOR_HVDEF_STATUS_H

#include "base/types.h"

/* X(name, value): the one list, for the enum and for printing. */
#define HV_STATUS_LIST(X)                                                                          \
	X(HV_STATUS_SUCCESS, 0x0000)                                                               \
	X(HV_STATUS_INVALID_HYPERCALL_CODE, 0x0002)                                                \
	X(HV_STATUS_INVALID_HYPERCALL_INPUT, 0x0003)                                               \
	X(HV_STATUS_INVALID_ALIGNMENT, 0x0004)                                                     \
	X(HV_STATUS_INVALID_PARAMETER, 0x0005)                                                     \
	X(HV_STATUS_ACCESS_DENIED, 0x0006)                                                         \
	X(HV_STATUS_INVALID_PARTITION_STATE, 0x0007)                                               \
	X(HV_STATUS_OPERATION_DENIED, 0x0008)                                                      \
	X(HV_STATUS_UNKNOWN_PROPERTY, 0x0009)                                                      \
	X(HV_STATUS_PROPERTY_VALUE_OUT_OF_RANGE, 0x000A)                                           \
	X(HV_STATUS_INSUFFICIENT_MEMORY, 0x000B)                                                   \
	X(HV_STATUS_PARTITION_TOO_DEEP, 0x000C)                                                    \
	X(HV_STATUS_INVALID_PARTITION_ID, 0x000D)                                                  \
	X(HV_STATUS_INVALID_VP_INDEX, 0x000E)                                                      \
	X(HV_STATUS_NOT_FOUND, 0x0010)                                                             \
	X(HV_STATUS_INVALID_PORT_ID, 0x0011)                                                       \
	X(HV_STATUS_INVALID_CONNECTION_ID, 0x0012)                                                 \
	X(HV_STATUS_INSUFFICIENT_BUFFERS, 0x0013)                                                  \
	X(HV_STATUS_NOT_ACKNOWLEDGED, 0x0014)                                                      \
	X(HV_STATUS_INVALID_VP_STATE, 0x0015)                                                      \
	X(HV_STATUS_ACKNOWLEDGED, 0x0016)                                                          \
	X(HV_STATUS_INVALID_SAVE_RESTORE_STATE, 0x0017)                                            \
	X(HV_STATUS_INVALID_SYNIC_STATE, 0x0018)                                                   \
	X(HV_STATUS_OBJECT_IN_USE, 0x0019)                                                         \
	X(HV_STATUS_NO_DATA, 0x001B)                                                               \
	X(HV_STATUS_INACTIVE, 0x001C)                                                              \
	X(HV_STATUS_NO_RESOURCES, 0x001D)                                                          \
	X(HV_STATUS_FEATURE_UNAVAILABLE, 0x001E)                                                   \
	X(HV_STATUS_PROCESSOR_FEATURE_NOT_SUPPORTED, 0x0020)                                       \
	X(HV_STATUS_INVALID_LP_INDEX, 0x0041)                                                      \
	X(HV_STATUS_INVALID_REGISTER_VALUE, 0x0050)                                                \
	X(HV_STATUS_OPERATION_FAILED, 0x0071)                                                      \
	X(HV_STATUS_INSUFFICIENT_ROOT_MEMORY, 0x0073)                                              \
	X(HV_STATUS_INSUFFICIENT_CONTIGUOUS_MEMORY, 0x0075)                                        \
	X(HV_STATUS_TIME_OUT, 0x0078)                                                              \
	X(HV_STATUS_CALL_PENDING, 0x0079)                                                          \
	X(HV_STATUS_INSUFFICIENT_CONTIGUOUS_ROOT_MEMORY, 0x0083)                                   \
	X(HV_STATUS_VTL_ALREADY_ENABLED, 0x0086)

enum hv_status {
#define HV_STATUS_ENUM(name, value) name = value,
	HV_STATUS_LIST(HV_STATUS_ENUM)
#undef HV_STATUS_ENUM
};

/* "HV_STATUS_..." or NULL for a value without a name. */
const char *hv_status_name(u16 status);

#endif
