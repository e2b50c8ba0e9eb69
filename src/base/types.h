/* SPDX-License-Identifier: MIT */
/*
 * Fixed-width names and the few helpers every folder uses. x86-64 only: guest
 * structures are little-endian and so is the host.
 */
#ifndef NESTOR_BASE_TYPES_H
#define NESTOR_BASE_TYPES_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int32_t s32;
typedef int64_t s64;
__extension__ typedef unsigned __int128 u128;

#define ARRAY_SIZE(a)			(sizeof(a) / sizeof((a)[0]))
#define BIT(n)				(1u << (n))
#define BIT64(n)			(1ull << (n))
#define MASK64(hi, lo)			((~0ull >> (63 - (hi))) & (~0ull << (lo)))
#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
#define PAGE_SHIFT			12
#define PAGE_BYTES			4096u
#define KIB				(1ull << 10)
#define MIB				(1ull << 20)
#define GIB				(1ull << 30)

#define likely(x)	      __builtin_expect(!!(x), 1)
#define unlikely(x)	      __builtin_expect(!!(x), 0)
#define PRINTF_FMT(fmt, args) __attribute__((format(printf, fmt, args)))

static inline u64 min_u64(u64 a, u64 b)
{
	return a < b ? a : b;
}

static inline u64 max_u64(u64 a, u64 b)
{
	return a > b ? a : b;
}

static inline u64 align_up(u64 v, u64 align)
{
	return (v + align - 1) & ~(align - 1);
}

/* High 64 bits of a * b: the arithmetic of the reference TSC page. */
static inline u64 mul_hi(u64 a, u64 b)
{
	return (u64)(((u128)a * b) >> 64);
}

#endif
