/* SPDX-License-Identifier: MIT */
/*
 * A synthetic SCSI controller: VSTOR packets over VMBus, one path, one target,
 * up to SCSI_LUN_MAX units. Each channel has a thread and a block queue of its
 * own; a request is answered on the channel it came from.
 */
#ifndef NESTOR_VSP_STORVSP_H
#define NESTOR_VSP_STORVSP_H

#include "vmbus/device.h"
#include "vsp/scsi.h"

struct storvsp;

struct storvsp_config {
	struct hv_guid instance_id; /* storvsp_instance_id() */
	u32 order;		    /* among controllers */
	u32 max_subchannels;	    /* besides the primary; one per four VPs is what Linux uses */
};

/* The instance of controller @number: stable, so that a guest finds its disks again. */
struct hv_guid storvsp_instance_id(u32 number);

/* [any] Offers a controller without units. It lives until storvsp_revoke() or the server's end. */
int storvsp_create(struct vmbus_server *srv, const struct storvsp_config *cfg,
		   struct storvsp **out);
/* [any] Takes the controller away with all its units; @sv is not used afterwards. */
void storvsp_revoke(struct storvsp *sv);

/*
 * [any] Units, before the guest runs or later: it is told to look again. The
 * reference to @lun passes, in success. 0; -EBUSY: taken; -EINVAL: no such number.
 */
int storvsp_attach(struct storvsp *sv, u32 number, struct scsi_lun *lun);
/* [any] Requests that run still end; the image closes after the last. 0 or -ENOENT. */
int storvsp_detach(struct storvsp *sv, u32 number);
/* [any] Lowest number nobody has, or -ENOSPC. */
int storvsp_free_number(struct storvsp *sv);
/* [any] Looks at the size of the unit's image again and tells the guest. 0 or negative errno. */
int storvsp_refresh(struct storvsp *sv, u32 number);
/* [any] For listings and for changing media; the units are counted. */
struct scsi_bus *storvsp_bus(struct storvsp *sv);

/* The device as the server sees it, for tests. */
extern const struct vmbus_device_ops storvsp_ops;
struct storvsp *storvsp_alloc(const struct storvsp_config *cfg);

#endif
