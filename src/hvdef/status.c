// SPDX-License-Identifier: MIT
/* Names of status codes, for traces and messages. */
#include "hvdef/status.h"

const char *hv_status_name(u16 status)
{
	switch (status) {
#define HV_STATUS_NAME(name, value)                                                                \
	case value:                                                                                \
		return #name;
		HV_STATUS_LIST(HV_STATUS_NAME)
#undef HV_STATUS_NAME
	}
	return NULL;
}
