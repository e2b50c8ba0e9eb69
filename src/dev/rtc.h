/* SPDX-License-Identifier: MIT */
/*
 * A CMOS clock that only tells the time: host time in UTC, BCD, 24 hours, never
 * "update in progress". Linux reads the wall clock from it once at boot, before
 * anything else could tell it. Writes are accepted and forgotten.
 */
#ifndef NESTOR_DEV_RTC_H
#define NESTOR_DEV_RTC_H

#include "dev/bus.h"

#define RTC_PORT  0x70
#define RTC_PORTS 2

struct rtc;

/* @now gives seconds since 1970 UTC; NULL: the host's clock. 0 or -ENOMEM. */
int rtc_create(s64 (*now)(void *ctx), void *ctx, struct rtc **out);
void rtc_destroy(struct rtc *rtc);

/* For a bus range of RTC_PORTS at RTC_PORT. */
extern const struct bus_ops rtc_bus_ops;

#endif
