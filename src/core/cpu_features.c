// SPDX-License-Identifier: MIT
/*
 * One row for each bit of CPUID. Features without one (what a hardware
 * virtualization can do, what a register lists) are neither shown nor taken away.
 */
#include "core/cpu_features.h"

#include "core/xsave.h"

enum reg { EAX, EBX, ECX, EDX };

struct cpu_feature {
	u8 bank, bit; /* enum cpu_feature_bank, number in it */
	u32 leaf;
	u8 index, reg, cpuid_bit;
};

static const struct cpu_feature features[] = {
	{ CPU_FEATURES_BANK0, 0, 1, 0, ECX, 0 },	    /* Sse3 */
	{ CPU_FEATURES_BANK0, 1, 0x80000001, 0, ECX, 0 },   /* LahfSahf */
	{ CPU_FEATURES_BANK0, 2, 1, 0, ECX, 9 },	    /* Ssse3 */
	{ CPU_FEATURES_BANK0, 3, 1, 0, ECX, 19 },	    /* Sse4_1 */
	{ CPU_FEATURES_BANK0, 4, 1, 0, ECX, 20 },	    /* Sse4_2 */
	{ CPU_FEATURES_BANK0, 5, 0x80000001, 0, ECX, 6 },   /* Sse4a */
	{ CPU_FEATURES_BANK0, 6, 0x80000001, 0, ECX, 11 },  /* Xop */
	{ CPU_FEATURES_BANK0, 7, 1, 0, ECX, 23 },	    /* PopCnt */
	{ CPU_FEATURES_BANK0, 8, 1, 0, ECX, 13 },	    /* Cmpxchg16b */
	{ CPU_FEATURES_BANK0, 9, 0x80000001, 0, ECX, 4 },   /* Altmovcr8 */
	{ CPU_FEATURES_BANK0, 10, 0x80000001, 0, ECX, 5 },  /* Lzcnt */
	{ CPU_FEATURES_BANK0, 11, 0x80000001, 0, ECX, 7 },  /* MisAlignSse */
	{ CPU_FEATURES_BANK0, 12, 0x80000001, 0, EDX, 22 }, /* MmxExt */
	{ CPU_FEATURES_BANK0, 13, 0x80000001, 0, EDX, 31 }, /* Amd3DNow */
	{ CPU_FEATURES_BANK0, 14, 0x80000001, 0, EDX, 30 }, /* ExtendedAmd3DNow */
	{ CPU_FEATURES_BANK0, 15, 0x80000001, 0, EDX, 26 }, /* Page1Gb */
	{ CPU_FEATURES_BANK0, 16, 1, 0, ECX, 25 },	    /* Aes */
	{ CPU_FEATURES_BANK0, 17, 1, 0, ECX, 1 },	    /* Pclmulqdq */
	{ CPU_FEATURES_BANK0, 18, 1, 0, ECX, 17 },	    /* Pcid */
	{ CPU_FEATURES_BANK0, 19, 0x80000001, 0, ECX, 16 }, /* Fma4 */
	{ CPU_FEATURES_BANK0, 20, 1, 0, ECX, 29 },	    /* F16C */
	{ CPU_FEATURES_BANK0, 21, 1, 0, ECX, 30 },	    /* RdRand */
	{ CPU_FEATURES_BANK0, 22, 7, 0, EBX, 0 },	    /* RdWrFsGs */
	{ CPU_FEATURES_BANK0, 23, 7, 0, EBX, 7 },	    /* Smep */
	{ CPU_FEATURES_BANK0, 24, 7, 0, EBX, 9 },	    /* EnhancedFastString */
	{ CPU_FEATURES_BANK0, 25, 7, 0, EBX, 3 },	    /* Bmi1 */
	{ CPU_FEATURES_BANK0, 26, 7, 0, EBX, 8 },	    /* Bmi2 */
	{ CPU_FEATURES_BANK0, 29, 1, 0, ECX, 22 },	    /* Movbe */
	{ CPU_FEATURES_BANK0, 31, 7, 0, EBX, 13 },	    /* DepX87FPUSave */
	{ CPU_FEATURES_BANK0, 32, 7, 0, EBX, 18 },	    /* RdSeed */
	{ CPU_FEATURES_BANK0, 33, 7, 0, EBX, 19 },	    /* Adx */
	{ CPU_FEATURES_BANK0, 34, 0x80000001, 0, ECX, 8 },  /* IntelPrefetch */
	{ CPU_FEATURES_BANK0, 35, 7, 0, EBX, 20 },	    /* Smap */
	{ CPU_FEATURES_BANK0, 36, 7, 0, EBX, 4 },	    /* Hle */
	{ CPU_FEATURES_BANK0, 37, 7, 0, EBX, 11 },	    /* Rtm */
	{ CPU_FEATURES_BANK0, 38, 0x80000001, 0, EDX, 27 }, /* Rdtscp */
	{ CPU_FEATURES_BANK0, 39, 7, 0, EBX, 23 },	    /* Clflushopt */
	{ CPU_FEATURES_BANK0, 40, 7, 0, EBX, 24 },	    /* Clwb */
	{ CPU_FEATURES_BANK0, 41, 7, 0, EBX, 29 },	    /* Sha */
	{ CPU_FEATURES_BANK0, 42, 0x80000008, 0, EBX, 2 },  /* X87PointersSaved */
	{ CPU_FEATURES_BANK0, 43, 7, 0, EBX, 10 },	    /* Invpcid */
	{ CPU_FEATURES_BANK0, 44, 7, 0, EDX, 26 },	    /* Ibrs */
	{ CPU_FEATURES_BANK0, 44, 0x80000008, 0, EBX, 14 }, /* Ibrs */
	{ CPU_FEATURES_BANK0, 45, 7, 0, EDX, 27 },	    /* Stibp */
	{ CPU_FEATURES_BANK0, 45, 0x80000008, 0, EBX, 15 }, /* Stibp */
	{ CPU_FEATURES_BANK0, 46, 0x80000008, 0, EBX, 12 }, /* Ibpb */
	{ CPU_FEATURES_BANK0, 48, 7, 0, EDX, 31 },	    /* Mdd */
	{ CPU_FEATURES_BANK0, 48, 0x80000008, 0, EBX, 24 }, /* Mdd */
	{ CPU_FEATURES_BANK0, 49, 7, 0, EDX, 4 },	    /* FastShortRepMov */
	{ CPU_FEATURES_BANK0, 50, 7, 0, EDX, 28 },	    /* L1DCacheFlush */
	{ CPU_FEATURES_BANK0, 54, 0x80000008, 0, EBX, 26 }, /* SsbNo */
	{ CPU_FEATURES_BANK0, 56, 0x80000008, 0, EBX, 25 }, /* VirtSpecCtrl */
	{ CPU_FEATURES_BANK0, 57, 7, 0, ECX, 22 },	    /* RdPid */
	{ CPU_FEATURES_BANK0, 58, 7, 0, ECX, 2 },	    /* Umip */
	{ CPU_FEATURES_BANK0, 60, 7, 0, EDX, 10 },	    /* MbClear */
	{ CPU_FEATURES_BANK1, 0, 6, 0, ECX, 0 },	    /* ACountMCount */
	{ CPU_FEATURES_BANK1, 1, 0x80000007, 0, EDX, 8 },   /* TscInvariant */
	{ CPU_FEATURES_BANK1, 2, 0x80000008, 0, EBX, 0 },   /* ClZero */
	{ CPU_FEATURES_BANK1, 3, 0x80000008, 0, EBX, 4 },   /* Rdpru */
	{ CPU_FEATURES_BANK1, 4, 7, 0, ECX, 16 },	    /* La57 */
	{ CPU_FEATURES_BANK1, 7, 0x80000008, 0, EBX, 28 },  /* Psfd */
	{ CPU_FEATURES_BANK1, 8, 7, 0, ECX, 7 },	    /* CetSs */
	{ CPU_FEATURES_BANK1, 9, 7, 0, EDX, 20 },	    /* CetIbt */
	{ CPU_FEATURES_BANK1, 11, 7, 0, ECX, 29 },	    /* Enqcmd */
	{ CPU_FEATURES_BANK1, 12, 7, 0, ECX, 5 },	    /* UmwaitTpause */
	{ CPU_FEATURES_BANK1, 13, 7, 0, ECX, 27 },	    /* Movdiri */
	{ CPU_FEATURES_BANK1, 14, 7, 0, ECX, 28 },	    /* Movdir64b */
	{ CPU_FEATURES_BANK1, 15, 7, 0, ECX, 25 },	    /* Cldemote */
	{ CPU_FEATURES_BANK1, 16, 7, 0, EDX, 14 },	    /* Serialize */
	{ CPU_FEATURES_BANK1, 17, 1, 0, ECX, 24 },	    /* TscDeadlineTmr */
	{ CPU_FEATURES_BANK1, 18, 7, 0, EBX, 1 },	    /* TscAdjust */
	{ CPU_FEATURES_BANK1, 19, 7, 1, EAX, 10 },	    /* FzlRepMovsb */
	{ CPU_FEATURES_BANK1, 20, 7, 1, EAX, 11 },	    /* FsRepStosb */
	{ CPU_FEATURES_BANK1, 21, 7, 1, EAX, 12 },	    /* FsRepCmpsb */
	{ CPU_FEATURES_XSAVE, 0, 1, 0, ECX, 26 },	    /* Xsave */
	{ CPU_FEATURES_XSAVE, 1, 0xD, 1, EAX, 0 },	    /* Xsaveopt */
	{ CPU_FEATURES_XSAVE, 2, 1, 0, ECX, 28 },	    /* Avx */
	{ CPU_FEATURES_XSAVE, 3, 7, 0, EBX, 5 },	    /* Avx2 */
	{ CPU_FEATURES_XSAVE, 4, 1, 0, ECX, 12 },	    /* Fma */
	{ CPU_FEATURES_XSAVE, 5, 7, 0, EBX, 14 },	    /* Mpx */
	{ CPU_FEATURES_XSAVE, 6, 7, 0, EBX, 16 },	    /* Avx512 */
	{ CPU_FEATURES_XSAVE, 7, 7, 0, EBX, 17 },	    /* Avx512DQ */
	{ CPU_FEATURES_XSAVE, 8, 7, 0, EBX, 28 },	    /* Avx512CD */
	{ CPU_FEATURES_XSAVE, 9, 7, 0, EBX, 30 },	    /* Avx512BW */
	{ CPU_FEATURES_XSAVE, 10, 7, 0, EBX, 31 },	    /* Avx512VL */
	{ CPU_FEATURES_XSAVE, 11, 0xD, 1, EAX, 1 },	    /* XsaveComp */
	{ CPU_FEATURES_XSAVE, 12, 0xD, 1, EAX, 3 },	    /* XsaveSupervisor */
	{ CPU_FEATURES_XSAVE, 13, 0xD, 1, EAX, 2 },	    /* Xcr1 */
	{ CPU_FEATURES_XSAVE, 14, 7, 0, ECX, 12 },	    /* Avx512Bitalg */
	{ CPU_FEATURES_XSAVE, 15, 7, 0, EBX, 21 },	    /* Avx512Ifma */
	{ CPU_FEATURES_XSAVE, 16, 7, 0, ECX, 1 },	    /* Avx512VBmi */
	{ CPU_FEATURES_XSAVE, 17, 7, 0, ECX, 6 },	    /* Avx512VBmi2 */
	{ CPU_FEATURES_XSAVE, 18, 7, 0, ECX, 11 },	    /* Avx512Vnni */
	{ CPU_FEATURES_XSAVE, 19, 7, 0, ECX, 8 },	    /* Gfni */
	{ CPU_FEATURES_XSAVE, 20, 7, 0, ECX, 9 },	    /* Vaes */
	{ CPU_FEATURES_XSAVE, 21, 7, 0, ECX, 14 },	    /* Avx512VPopcntdq */
	{ CPU_FEATURES_XSAVE, 22, 7, 0, ECX, 10 },	    /* Vpclmulqdq */
	{ CPU_FEATURES_XSAVE, 23, 7, 1, EAX, 5 },	    /* Avx512Bf16 */
	{ CPU_FEATURES_XSAVE, 24, 7, 0, EDX, 8 },	    /* Avx512Vp2Intersect */
	{ CPU_FEATURES_XSAVE, 25, 7, 0, EDX, 23 },	    /* Avx512Fp16 */
	{ CPU_FEATURES_XSAVE, 26, 0xD, 1, EAX, 4 },	    /* Xfd */
	{ CPU_FEATURES_XSAVE, 27, 7, 0, EDX, 24 },	    /* AmxTile */
	{ CPU_FEATURES_XSAVE, 28, 7, 0, EDX, 22 },	    /* AmxBf16 */
	{ CPU_FEATURES_XSAVE, 29, 7, 0, EDX, 25 },	    /* AmxInt8 */
	{ CPU_FEATURES_XSAVE, 30, 7, 1, EAX, 4 },	    /* AvxVnni */
	{ CPU_FEATURES_XSAVE, 31, 7, 1, EAX, 23 },	    /* AvxIfma */
	{ CPU_FEATURES_XSAVE, 32, 7, 1, EDX, 5 },	    /* AvxNeConvert */
	{ CPU_FEATURES_XSAVE, 33, 7, 1, EDX, 4 },	    /* AvxVnniInt8 */
	{ CPU_FEATURES_XSAVE, 34, 7, 1, EDX, 10 },	    /* AvxVnniInt16 */
};

#define LEAF_XSAVE 0xDu
#define TILE_STATE MASK64(18, 17)

/* A component of XSAVE and the feature without which it is not used. */
static const struct {
	u64 states;
	u8 bit; /* of CPU_FEATURES_XSAVE */
} components[] = {
	{ MASK64(7, 2), 2 }, /* Avx, under all that follow */
	{ MASK64(4, 3), 5 }, /* Mpx */
	{ MASK64(7, 5), 6 }, /* Avx512 */
};

static u32 *reg_of(struct engine_cpuid *e, u8 reg)
{
	switch (reg) {
	case EAX:
		return &e->eax;
	case EBX:
		return &e->ebx;
	case ECX:
		return &e->ecx;
	default:
		return &e->edx;
	}
}

static bool at(const struct engine_cpuid *e, u32 leaf, u32 index)
{
	return e->leaf == leaf && (e->indexed ? e->index : 0) == index;
}

u64 cpu_features(const struct engine_cpuid *list, u32 count, enum cpu_feature_bank bank)
{
	u64 found = 0;

	for (u32 i = 0; i < count; i++) {
		struct engine_cpuid e = list[i];

		for (u32 f = 0; f < ARRAY_SIZE(features); f++)
			if (features[f].bank == bank &&
			    at(&e, features[f].leaf, features[f].index) &&
			    (*reg_of(&e, features[f].reg) & BIT(features[f].cpuid_bit)))
				found |= BIT64(features[f].bit);
	}
	return found;
}

/* Only @allowed components: what they are, and how much room they need. */
static void limit_states(struct engine_cpuid *list, u32 count, u64 allowed)
{
	struct xsave_layout l;
	u32 bytes;

	xsave_layout_init(&l, list, count);
	bytes = xsave_compact_bytes(&l, 0); /* the legacy area and the header */
	for (u32 i = 2; i < XSAVE_COMPONENTS; i++)
		if ((l.states & allowed & BIT64(i)) && l.part[i].offset + l.part[i].bytes > bytes)
			bytes = l.part[i].offset + l.part[i].bytes;
	for (u32 i = 0; i < count; i++) {
		struct engine_cpuid *e = &list[i];

		if (e->leaf != LEAF_XSAVE)
			continue;
		if (e->index == 0) {
			e->eax &= (u32)allowed;
			e->edx &= (u32)(allowed >> 32);
			e->ecx = e->eax ? bytes : 0;
			e->ebx = e->eax ? e->ebx : 0;
		} else if (!allowed || (e->index > 1 && e->index < XSAVE_COMPONENTS &&
					(l.states & ~allowed & BIT64(e->index)))) {
			e->eax = e->ebx = e->ecx = e->edx = 0;
		}
	}
}

void cpu_features_disable(struct engine_cpuid *list, u32 count, const u64 disabled[2], u64 xsave)
{
	u64 mask[] = { disabled[0], disabled[1], xsave | MASK64(29, 26) };
	u64 allowed = ~TILE_STATE;

	for (u32 i = 0; i < ARRAY_SIZE(components); i++)
		if (mask[CPU_FEATURES_XSAVE] & BIT64(components[i].bit))
			allowed &= ~components[i].states;
	if (mask[CPU_FEATURES_XSAVE] & BIT64(0))
		allowed = 0;
	/* Without its state an instruction set is not there either. */
	if (!(allowed & BIT64(2)))
		mask[CPU_FEATURES_XSAVE] |= ~MASK64(1, 0) & ~MASK64(13, 11);
	for (u32 i = 0; i < count; i++)
		for (u32 f = 0; f < ARRAY_SIZE(features); f++)
			if ((mask[features[f].bank] & BIT64(features[f].bit)) &&
			    at(&list[i], features[f].leaf, features[f].index))
				*reg_of(&list[i], features[f].reg) &= ~BIT(features[f].cpuid_bit);
	limit_states(list, count, allowed);
}
