// SPDX-License-Identifier: MIT
// Only in machines with a VMBus. Linux (hv_vmbus, vmbus_acpi_add) looks for the _HID "VMBus",
// walks its _CRS, which must exist, and then its ancestors' for the MMIO space to hand out.
DefinitionBlock ("ssdt_vmbus.aml", "SSDT", 2, "NESTOR", "VMBUS", 1)
{
    Scope (\_SB)
    {
        Device (VMOD)
        {
            Name (_HID, "ACPI0004")
            Name (_UID, 0)
            Name (_CRS, ResourceTemplate ()
            {
                DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite,
                    0, 0xF8000000, 0xFBFFFFFF, 0, 0x04000000)
            })

            Device (VMBS)
            {
                Name (_HID, "VMBus")
                Name (_UID, 0)
                Name (_DDN, "VMBUS")
                Name (_CRS, ResourceTemplate () { })
            }
        }
    }
}
