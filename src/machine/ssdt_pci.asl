// SPDX-License-Identifier: MIT
// Only in machines with a PCI bus: one root bridge, reached through ECAM alone.
DefinitionBlock ("ssdt_pci.aml", "SSDT", 2, "NESTOR", "PCI", 1)
{
    Scope (\_SB)
    {
        Device (MBRD)
        {
            Name (_HID, EisaId ("PNP0C02"))
            Name (_CRS, ResourceTemplate ()
            {
                Memory32Fixed (ReadWrite, 0xE0000000, 0x10000000)
            })
        }

        Device (PCI0)
        {
            Name (_HID, EisaId ("PNP0A08"))
            Name (_CID, EisaId ("PNP0A03"))
            Name (_SEG, 0)
            Name (_BBN, 0)
            Name (_UID, 0)
            Name (_CRS, ResourceTemplate ()
            {
                WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode,
                    0, 0, 255, 0, 256)
                WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange,
                    0, 0x1000, 0xFFFF, 0, 0xF000)
                DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite,
                    0, 0xC0000000, 0xDFFFFFFF, 0, 0x20000000)
                // The 64-bit window: acpi.c writes the real numbers over these.
                QWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite,
                    0, 0x4E4553544F000000, 0x4E4553544FFFFFFF, 0, 0x0000000001000000)
            })

            // INTA to INTD of slot n are pins 16 + (n + 0..3) % 4.
            Method (_PRT, 0, Serialized)
            {
                Local0 = Package (128) { }
                Local1 = 0
                While (Local1 < 128)
                {
                    Local2 = Package (4) { 0, 0, 0, 0 }
                    Local3 = Local1 >> 2
                    Local2[0] = (Local3 << 16) | 0xFFFF
                    Local2[1] = Local1 & 3
                    Local2[3] = 16 + ((Local3 + Local1) & 3)
                    Local0[Local1] = Local2
                    Local1++
                }
                Return (Local0)
            }
        }
    }
}
