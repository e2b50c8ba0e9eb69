// SPDX-License-Identifier: MIT
/* Registers are computed when read; a reader notices a rollover as on the chip, by the seconds. */
#include "dev/rtc.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

enum rtc_reg {
	RTC_SECONDS = 0x00,
	RTC_MINUTES = 0x02,
	RTC_HOURS = 0x04,
	RTC_WEEKDAY = 0x06,
	RTC_DAY = 0x07,
	RTC_MONTH = 0x08,
	RTC_YEAR = 0x09,
	RTC_REG_A = 0x0A,
	RTC_REG_B = 0x0B,
	RTC_REG_D = 0x0D,
	RTC_CENTURY = 0x32,
};

#define REG_A_VALUE 0x26 /* 32768 Hz, periodic rate 1024 Hz, no update in progress */
#define REG_B_VALUE 0x02 /* 24 hours, BCD, no interrupts */
#define REG_D_VALUE 0x80 /* battery good */

struct rtc {
	s64 (*now)(void *ctx);
	void *ctx;
	u8 index;
};

static s64 host_now(void *ctx)
{
	return time(NULL);
}

int rtc_create(s64 (*now)(void *ctx), void *ctx, struct rtc **out)
{
	struct rtc *rtc = calloc(1, sizeof(*rtc));

	if (!rtc)
		return -ENOMEM;
	rtc->now = now ? now : host_now;
	rtc->ctx = ctx;
	*out = rtc;
	return 0;
}

void rtc_destroy(struct rtc *rtc)
{
	free(rtc);
}

static u8 bcd(int v)
{
	return (u8)(v / 10 % 10 << 4 | v % 10);
}

static u8 rtc_reg(struct rtc *rtc, u8 reg)
{
	time_t now = (time_t)rtc->now(rtc->ctx);
	struct tm tm;

	if (!gmtime_r(&now, &tm))
		return 0;
	switch (reg) {
	case RTC_SECONDS:
		return bcd(tm.tm_sec);
	case RTC_MINUTES:
		return bcd(tm.tm_min);
	case RTC_HOURS:
		return bcd(tm.tm_hour);
	case RTC_WEEKDAY:
		return bcd(tm.tm_wday + 1);
	case RTC_DAY:
		return bcd(tm.tm_mday);
	case RTC_MONTH:
		return bcd(tm.tm_mon + 1);
	case RTC_YEAR:
		return bcd(tm.tm_year % 100);
	case RTC_CENTURY:
		return bcd((tm.tm_year + 1900) / 100);
	case RTC_REG_A:
		return REG_A_VALUE;
	case RTC_REG_B:
		return REG_B_VALUE;
	case RTC_REG_D:
		return REG_D_VALUE;
	}
	return 0;
}

static u64 rtc_read(void *dev, u64 offset, u8 size)
{
	struct rtc *rtc = dev;

	if (offset == 0 || size != 1)
		return ~0ull;
	return rtc_reg(rtc, __atomic_load_n(&rtc->index, __ATOMIC_RELAXED));
}

/* Bit 7 of the index is the NMI gate. Two VPs that race for the index share the blame. */
static void rtc_write(void *dev, u64 offset, u8 size, u64 value)
{
	struct rtc *rtc = dev;

	if (offset == 0)
		__atomic_store_n(&rtc->index, (u8)(value & 0x7F), __ATOMIC_RELAXED);
}

const struct bus_ops rtc_bus_ops = { rtc_read, rtc_write };
