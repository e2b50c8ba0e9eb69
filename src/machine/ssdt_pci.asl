// SPDX-License-Identifier: MIT
// Only in machines with a PCI bus: one root bridge. Its functions use MSI-X, so no pin is routed.
DefinitionBlock ("ssdt_pci.aml", "SSDT", 2, "NESTOR", "PCI", 1)
{
    Scope (\_SB)
    {
        // ECAM: Linux believes the MCFG table only if the space is reserved here.
        Device (MBRD)
        {
            Name (_HID, EisaId ("PNP0C02"))
            Name (_CRS, ResourceTemplate ()
            {
                Memory32Fixed (ReadWrite, 0xE0000000, 0x00100000)
            })
        }

        // Conventional PCI: PNP0A08 would promise PCI Express and its negotiations.
        Device (PCI0)
        {
            Name (_HID, EisaId ("PNP0A03"))
            Name (_SEG, 0)
            Name (_BBN, 0)
            Name (_UID, 0)
            Name (_CRS, ResourceTemplate ()
            {
                WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode,
                    0, 0, 0, 0, 1)
                IO (Decode16, 0x0CF8, 0x0CF8, 1, 8)
                DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite,
                    0, 0xC0000000, 0xDFFFFFFF, 0, 0x20000000)
            })
        }
    }
}
