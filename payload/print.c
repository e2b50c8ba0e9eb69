// SPDX-License-Identifier: MIT
/* Text and results. A line leaves by one string instruction, so by one exit. */
#include <stdarg.h>

#define NESTOR_PAYLOAD
#include "dev/exit.h"
#include "payload/kit.h"

#define COM1 0x3F8

static u32 tests, failures;

struct text {
	char buf[512];
	u32 len;
};

static void text_char(struct text *t, char c)
{
	if (t->len < sizeof(t->buf))
		t->buf[t->len++] = c;
}

static void text_number(struct text *t, u64 v, u32 base, u32 width, char pad)
{
	char digits[24];
	u32 n = 0;

	do {
		digits[n++] = "0123456789abcdef"[v % base];
		v /= base;
	} while (v);
	while (width > n) {
		text_char(t, pad);
		width--;
	}
	while (n)
		text_char(t, digits[--n]);
}

static void text_string(struct text *t, const char *s)
{
	while (*s)
		text_char(t, *s++);
}

static const char *text_spec(struct text *t, const char *fmt, va_list *ap)
{
	bool wide = false, negative;
	char pad = *fmt == '0' ? '0' : ' ';
	u32 width = 0;
	s64 v;

	while (*fmt >= '0' && *fmt <= '9')
		width = width * 10 + (u32)(*fmt++ - '0');
	for (; *fmt == 'l'; fmt++)
		wide = true;
	switch (*fmt) {
	case 's':
		text_string(t, va_arg(*ap, const char *));
		break;
	case 'c':
		text_char(t, (char)va_arg(*ap, int));
		break;
	case 'd':
		v = wide ? va_arg(*ap, s64) : va_arg(*ap, int);
		negative = v < 0;
		if (negative)
			text_char(t, '-');
		text_number(t, negative ? -(u64)v : (u64)v, 10, width, pad);
		break;
	case 'u':
		text_number(t, wide ? va_arg(*ap, u64) : va_arg(*ap, u32), 10, width, pad);
		break;
	case 'x':
		text_number(t, wide ? va_arg(*ap, u64) : va_arg(*ap, u32), 16, width, pad);
		break;
	default:
		text_char(t, *fmt);
	}
	return fmt + 1;
}

static void text_vformat(struct text *t, const char *fmt, va_list *ap)
{
	while (*fmt) {
		if (*fmt != '%')
			text_char(t, *fmt++);
		else
			fmt = text_spec(t, fmt + 1, ap);
	}
}

static void text_send(const struct text *t)
{
	const char *p = t->buf;
	u64 n = t->len;

	__asm__ volatile("rep outsb" : "+S"(p), "+c"(n) : "d"(COM1) : "memory");
}

#define FORMAT(t, fmt)                                                                             \
	do {                                                                                       \
		va_list ap_;                                                                       \
		va_start(ap_, fmt);                                                                \
		text_vformat(t, fmt, &ap_);                                                        \
		va_end(ap_);                                                                       \
	} while (0)

void print(const char *fmt, ...)
{
	struct text t = { .len = 0 };

	FORMAT(&t, fmt);
	text_send(&t);
}

void note(const char *fmt, ...)
{
	struct text t = { .len = 0 };

	text_string(&t, "# ");
	FORMAT(&t, fmt);
	text_char(&t, '\n');
	text_send(&t);
}

static void leave(u32 status) __attribute__((noreturn));
static void leave(u32 status)
{
	out32(EXIT_PORT, status);
	for (;;)
		__asm__ volatile("cli; hlt");
}

void bail(const char *fmt, ...)
{
	struct text t = { .len = 0 };

	text_string(&t, "Bail out! ");
	FORMAT(&t, fmt);
	text_char(&t, '\n');
	text_send(&t);
	leave(99);
}

static void result_begin(struct text *t, bool passed)
{
	failures += !passed;
	text_string(t, passed ? "ok " : "not ok ");
	text_number(t, ++tests, 10, 0, ' ');
	text_string(t, " - ");
}

void ok(bool passed, const char *fmt, ...)
{
	struct text t = { .len = 0 };

	result_begin(&t, passed);
	FORMAT(&t, fmt);
	text_char(&t, '\n');
	text_send(&t);
}

void ok_eq(u64 got, u64 want, const char *fmt, ...)
{
	struct text t = { .len = 0 };

	result_begin(&t, got == want);
	FORMAT(&t, fmt);
	text_char(&t, '\n');
	text_send(&t);
	if (got != want)
		note("  got 0x%llx, want 0x%llx", (unsigned long long)got,
		     (unsigned long long)want);
}

void skip(const char *why, const char *fmt, ...)
{
	struct text t = { .len = 0 };

	result_begin(&t, true);
	FORMAT(&t, fmt);
	text_string(&t, " # SKIP ");
	text_string(&t, why);
	text_char(&t, '\n');
	text_send(&t);
}

void kit_start(void)
{
	out8(EXIT_EVENT_PORT, EXIT_EVENT_INIT);
	cpu_init(0);
	pages_open_to_user();
	smp_init();
	test_main();
	print("1..%u\n", tests);
	if (failures)
		note("%u of %u failed", failures, tests);
	leave(failures != 0);
}

void *memset(void *dst, int value, size_t len)
{
	void *p = dst;

	__asm__ volatile("rep stosb" : "+D"(p), "+c"(len) : "a"(value) : "memory");
	return dst;
}

void *memcpy(void *dst, const void *src, size_t len)
{
	void *p = dst;

	__asm__ volatile("rep movsb" : "+D"(p), "+S"(src), "+c"(len) : : "memory");
	return dst;
}

int memcmp(const void *a, const void *b, size_t len)
{
	const u8 *x = a, *y = b;

	for (; len; len--, x++, y++)
		if (*x != *y)
			return *x < *y ? -1 : 1;
	return 0;
}
