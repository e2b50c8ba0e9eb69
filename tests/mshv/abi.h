/* SPDX-License-Identifier: MIT */
/*
 * What a program needs to drive /dev/mshv: the ioctls of Linux 7.3 and, from the TLFS, what
 * passes through them. Written down here again on purpose: a test that shared its definitions
 * with the hypervisor would agree with its mistakes.
 */
#ifndef TESTS_MSHV_ABI_H
#define TESTS_MSHV_ABI_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

/* --- ioctls --- */

#define PT_LAPIC       (1u << 0)
#define PT_X2APIC      (1u << 1)
#define PT_SUPER_PAGES (1u << 2)
#define PT_FEATURES    (1u << 3)
#define PT_USUAL       (PT_LAPIC | PT_X2APIC | PT_SUPER_PAGES)

struct mshv_create_partition {
	u64 flags, isolation;
	/* From here on only with PT_FEATURES. */
	u16 banks;
	u8 rsvd[6];
	u64 disabled[2];
	u64 rsvd1[2];
	u64 disabled_xsave;
};

#define MEM_WRITABLE   (1u << 0)
#define MEM_EXECUTABLE (1u << 1)
#define MEM_UNMAP      (1u << 2)

struct mshv_memory {
	u64 size, guest_pfn, address;
	u8 flags;
	u8 rsvd[7];
};

#define IRQFD_DEASSIGN (1u << 0)
#define IRQFD_RESAMPLE (1u << 1)

struct mshv_irqfd {
	int fd, resample_fd;
	u32 gsi, flags;
};

#define IOEVENTFD_DATAMATCH (1u << 0)
#define IOEVENTFD_PIO	    (1u << 1)
#define IOEVENTFD_DEASSIGN  (1u << 2)

struct mshv_ioeventfd {
	u64 datamatch, address;
	u32 bytes;
	int fd;
	u32 flags;
	u8 rsvd[4];
};

struct mshv_route {
	u32 gsi, address_lo, address_hi, data;
};

struct mshv_routes {
	u32 count, rsvd;
	struct mshv_route entry[4];
};

enum { ACCESS_ACCESSED, ACCESS_DIRTY };
enum { ACCESS_NOOP, ACCESS_CLEAR, ACCESS_SET };

struct mshv_access {
	u8 type, op;
	u8 rsvd[6];
	u64 pages, first_pfn, bitmap;
};

struct mshv_hvcall {
	u16 code, reps, in_bytes, out_bytes, status;
	u8 rsvd[6];
	u64 in, out;
};

enum { STATE_LAPIC, STATE_XSAVE, STATE_SIMP, STATE_SIEFP, STATE_STIMERS, STATES };

struct mshv_state {
	u8 type;
	u8 rsvd[3];
	u32 bytes;
	u64 buffer;
};

#define MSHV_(direction, number, bytes) _IOC(direction, 0xB8, number, bytes)
#define MSHV_CREATE_PARTITION		MSHV_(_IOC_WRITE, 0, 16)
#define MSHV_INITIALIZE			MSHV_(_IOC_NONE, 0, 0)
#define MSHV_CREATE_VP			MSHV_(_IOC_WRITE, 1, 4)
#define MSHV_SET_MEMORY			MSHV_(_IOC_WRITE, 2, sizeof(struct mshv_memory))
#define MSHV_IRQFD			MSHV_(_IOC_WRITE, 3, sizeof(struct mshv_irqfd))
#define MSHV_IOEVENTFD			MSHV_(_IOC_WRITE, 4, sizeof(struct mshv_ioeventfd))
#define MSHV_SET_ROUTING		MSHV_(_IOC_WRITE, 5, 8)
#define MSHV_GET_ACCESS			MSHV_(_IOC_READ | _IOC_WRITE, 6, sizeof(struct mshv_access))
#define MSHV_HVCALL			MSHV_(_IOC_READ | _IOC_WRITE, 7, sizeof(struct mshv_hvcall))
#define MSHV_RUN_VP			MSHV_(_IOC_READ, 0, 256)
#define MSHV_GET_STATE			MSHV_(_IOC_READ | _IOC_WRITE, 1, sizeof(struct mshv_state))
#define MSHV_SET_STATE			MSHV_(_IOC_READ | _IOC_WRITE, 2, sizeof(struct mshv_state))

/* --- hypercalls that pass through --- */

enum {
	CALL_GET_PROPERTY = 0x44,
	CALL_SET_PROPERTY = 0x45,
	CALL_INSTALL_INTERCEPT = 0x4d,
	CALL_GET_REGISTERS = 0x50,
	CALL_SET_REGISTERS = 0x51,
	CALL_TRANSLATE = 0x52,
	CALL_CLEAR_INTERRUPT = 0x56,
	CALL_REGISTER_RESULT = 0x91,
	CALL_ASSERT_INTERRUPT = 0x94,
	CALL_GET_CPUID_VALUES = 0xf4,
	CALL_GET_PROPERTY_EX = 0x101,
};

enum {
	STATUS_SUCCESS = 0,
	STATUS_INVALID_PARAMETER = 5,
	STATUS_UNKNOWN_PROPERTY = 9,
	STATUS_INVALID_VP_INDEX = 0xe,
	STATUS_NOT_SUPPORTED = 0x20, /* PROCESSOR_FEATURE_NOT_SUPPORTED */
};

/* Types of CALL_INSTALL_INTERCEPT. */
enum {
	INTERCEPT_PORT = 0,
	INTERCEPT_MSRS = 1,
	INTERCEPT_CPUID = 2,
	INTERCEPT_EXCEPTION = 3,
	INTERCEPT_ALL_CPUID = 6,
	INTERCEPT_MSR = 0xc,
	INTERCEPT_PORTS = 0x11,
};
enum { INTERCEPT_READ = 1, INTERCEPT_WRITE = 2, INTERCEPT_EXECUTE = 4 };

enum {
	PROPERTY_PRIVILEGES = 0x10000,
	PROPERTY_SYNTHETIC_FEATURES = 0x10001,
	PROPERTY_TIME_FREEZE = 0x30003,
	PROPERTY_REFERENCE_TIME = 0x30005,
	PROPERTY_ACCESS_TRACKING = 0x50005,
	PROPERTY_UNKNOWN_MSR = 0x50017,
	PROPERTY_XSAVE_STATES = 0x60007,
	PROPERTY_XSAVE_BYTES = 0x60008,
	PROPERTY_TSC_HZ = 0x60009,
	PROPERTY_FEATURES_0 = 0x6000a,
	PROPERTY_FEATURES_1 = 0x6000b,
	PROPERTY_ASSIGNABLE_FEATURES = 0x90009,
};

/* What QEMU grants: hypercalls, SynIC, timers, clocks, VP index, frequencies, idle. */
#define USUAL_FEATURES 0x06400ffbull

enum {
	R_EXPLICIT_SUSPEND = 0,
	R_INTERCEPT_SUSPEND = 1,
	R_ACTIVITY = 4,
	R_PENDING_INTERRUPTION = 0x10002,
	R_INTERRUPT_STATE = 0x10003,
	R_PENDING_EVENT_0 = 0x10004,
	R_PENDING_EVENT_1 = 0x10005,
	R_RAX = 0x20000,
	R_RCX,
	R_RDX,
	R_RBX,
	R_RSP,
	R_RBP,
	R_RSI,
	R_RDI,
	R_R15 = 0x2000f,
	R_RIP,
	R_RFLAGS,
	R_XMM_0 = 0x30000,
	R_FP_0 = 0x30010,
	R_FP_CONTROL = 0x30018,
	R_XMM_CONTROL = 0x30019,
	R_CR0 = 0x40000,
	R_CR2,
	R_CR3,
	R_CR4,
	R_CR8,
	R_XFEM,
	R_INTERMEDIATE_CR0 = 0x41000,
	R_DR_0 = 0x50000,
	R_DR6 = 0x50004,
	R_DR7 = 0x50005,
	R_ES = 0x60000,
	R_CS,
	R_SS,
	R_DS,
	R_FS,
	R_GS,
	R_LDTR,
	R_TR,
	R_IDTR = 0x70000,
	R_GDTR,
	R_TSC = 0x80000,
	R_EFER,
	R_KERNEL_GS_BASE,
	R_APIC_BASE,
	R_PAT,
	R_SYSENTER_CS,
	R_SYSENTER_EIP,
	R_SYSENTER_ESP,
	R_STAR,
	R_LSTAR,
	R_CSTAR,
	R_SFMASK,
	R_INITIAL_APIC_ID,
	R_MTRR_CAP,
	R_MTRR_DEFAULT,
	R_MTRR_BASE_0 = 0x80010,
	R_MTRR_MASK_0 = 0x80040,
	R_MTRR_FIXED_0 = 0x80070,
	R_TSC_AUX = 0x8007b,
	R_HYPERCALL = 0x90001,
	R_GUEST_OS_ID,
	R_VP_INDEX,
	R_VP_ASSIST_PAGE = 0x90013,
	R_REFERENCE_TSC = 0x90017,
	R_SINT_0 = 0xa0000,
	R_SCONTROL = 0xa0010,
	R_SVERSION,
	R_SIEFP,
	R_SIMP,
	R_STIMER_CONFIG_0 = 0xb0000,
};

struct segment {
	u64 base;
	u32 limit;
	u16 selector, attributes;
};

struct table {
	u16 pad[3], limit;
	u64 base;
};

union value {
	u64 low;
	u64 part[2];
	struct segment segment;
	struct table table;
};
static_assert(sizeof(union value) == 16, "a register's value");

struct assoc {
	u32 name, pad[3];
	union value value;
};

/* --- intercept messages --- */

enum {
	MESSAGE_UNMAPPED_GPA = 0x80000000,
	MESSAGE_GPA_INTERCEPT = 0x80000001,
	MESSAGE_UNRECOVERABLE = 0x80000021,
	MESSAGE_IO_PORT = 0x80010000,
	MESSAGE_MSR = 0x80010001,
	MESSAGE_APIC_EOI = 0x80010004,
};

enum { ACCESS_READ, ACCESS_WRITE, ACCESS_EXECUTE };

#define STATE_PROTECTED (1u << 2) /* of .state */
#define STATE_LONG	(1u << 4)
#define IO_SIZE		7 /* of .io.info */
#define IO_STRING	(1u << 3)
#define IO_REP		(1u << 4)
#define MEMORY_GVA	(1u << 0) /* of .memory.info */

struct message {
	u32 type;
	u8 payload_bytes, flags;
	u16 rsvd;
	u64 sender;
	u32 vp;
	union {
		struct {
			u8 length; /* bits 0-3: of the instruction; 4-7: CR8 */
			u8 access;
			u16 state;
		};
		u32 eoi_vector; /* MESSAGE_APIC_EOI has no header */
	};
	struct segment cs;
	u64 rip, rflags;
	union {
		struct {
			u16 port;
			u8 info, byte_count;
			u32 rsvd;
			u64 rax;
			u8 bytes[16];
			struct segment ds, es;
			u64 rcx, rsi, rdi;
		} io;
		struct {
			u32 cache_type;
			u8 byte_count, info, tpr, rsvd;
			u64 gva, gpa;
			u8 bytes[16];
		} memory;
		struct {
			u32 number, rsvd;
			u64 rdx, rax;
		} msr;
		u8 pad[200];
	};
};
static_assert(offsetof(struct message, cs) == 16 + 8, "TLFS offset");
static_assert(offsetof(struct message, io.rax) == 16 + 48, "TLFS offset");
static_assert(offsetof(struct message, io.rdi) == 16 + 120, "TLFS offset");
static_assert(offsetof(struct message, msr.number) == 16 + 40, "TLFS offset");
static_assert(offsetof(struct message, msr.rax) == 16 + 56, "TLFS offset");
static_assert(offsetof(struct message, memory.gpa) == 16 + 56, "TLFS offset");
static_assert(offsetof(struct message, memory.bytes) == 16 + 64, "TLFS offset");
static_assert(sizeof(struct message) == 256, "TLFS size");

/* The register page, as far as it is looked at. */
struct register_page {
	u16 version;
	u8 valid, rsvd;
	u32 dirty; /* bit 0 general, 1 rip, 2 xmm, 3 segments, 4 flags */
	u64 gpr[16];
	u64 rip, rflags;
};

#endif
