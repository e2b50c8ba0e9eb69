/* SPDX-License-Identifier: MIT */
/* HV_REGISTER_NAME values. TLFS: virtual-processors, HV_REGISTER_NAME. */
#ifndef NESTOR_HVDEF_VP_REGS_H
#define NESTOR_HVDEF_VP_REGS_H

enum hv_register_name {
	HvRegisterHypervisorVersion = 0x00000100,
	HvRegisterPrivilegesAndFeaturesInfo = 0x00000200,
	HvRegisterFeaturesInfo = 0x00000201,
	HvRegisterImplementationLimitsInfo = 0x00000202,
	HvRegisterHardwareFeaturesInfo = 0x00000203,
	HvRegisterGuestCrashP0 = 0x00000210,
	HvRegisterGuestCrashCtl = 0x00000215,
	HvX64RegisterRax = 0x00020000, /* to R15, in the order rax rcx rdx rbx rsp rbp rsi rdi */
	HvX64RegisterRip = 0x00020010,
	HvX64RegisterRflags = 0x00020011,
	HvX64RegisterXmm0 = 0x00030000,
	HvX64RegisterCr0 = 0x00040000,
	HvX64RegisterCr2 = 0x00040001,
	HvX64RegisterCr3 = 0x00040002,
	HvX64RegisterCr4 = 0x00040003,
	HvX64RegisterCr8 = 0x00040004,
	HvX64RegisterEs = 0x00060000, /* es cs ss ds fs gs ldtr tr */
	HvX64RegisterIdtr = 0x00070000,
	HvX64RegisterGdtr = 0x00070001,
	HvX64RegisterTsc = 0x00080000,
	HvX64RegisterEfer = 0x00080001,
	HvX64RegisterKernelGsBase = 0x00080002,
	HvX64RegisterApicBase = 0x00080003,
	HvX64RegisterPat = 0x00080004,
	HvX64RegisterSysenterCs = 0x00080005,
	HvX64RegisterSysenterEip = 0x00080006,
	HvX64RegisterSysenterEsp = 0x00080007,
	HvX64RegisterStar = 0x00080008,
	HvX64RegisterLstar = 0x00080009,
	HvX64RegisterCstar = 0x0008000A,
	HvX64RegisterSfmask = 0x0008000B,
	HvX64RegisterTscAux = 0x0008007B,
	HvRegisterVpRuntime = 0x00090000,
	HvX64RegisterHypercall = 0x00090001,
	HvRegisterGuestOsId = 0x00090002,
	HvRegisterVpIndex = 0x00090003,
	HvRegisterTimeRefCount = 0x00090004,
	HvRegisterVpAssistPage = 0x00090013,
	HvRegisterReferenceTsc = 0x00090017,
	HvRegisterSint0 = 0x000A0000,
	HvRegisterScontrol = 0x000A0010,
	HvRegisterSversion = 0x000A0011,
	HvRegisterSifp = 0x000A0012,
	HvRegisterSipp = 0x000A0013,
	HvRegisterEom = 0x000A0014,
	HvRegisterStimer0Config = 0x000B0000, /* config and count alternate */
};

#endif
