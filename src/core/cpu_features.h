/* SPDX-License-Identifier: MIT */
/*
 * HV_PARTITION_PROCESSOR_FEATURES and HV_PARTITION_PROCESSOR_XSAVE_FEATURES: which
 * bit of CPUID each is.
 */
#ifndef NESTOR_CORE_CPU_FEATURES_H
#define NESTOR_CORE_CPU_FEATURES_H

#include "engine/engine.h"

enum cpu_feature_bank { CPU_FEATURES_BANK0, CPU_FEATURES_BANK1, CPU_FEATURES_XSAVE };

/* The features of a bank that @list shows. */
u64 cpu_features(const struct engine_cpuid *list, u32 count, enum cpu_feature_bank bank);
/*
 * Takes the features in @disabled out of @list. XSAVE components that nothing is left
 * to use go too, and the tiles of AMX always: their state does not fit in the page
 * that parents keep it in.
 */
void cpu_features_disable(struct engine_cpuid *list, u32 count, const u64 disabled[2], u64 xsave);

#endif
