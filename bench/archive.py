# SPDX-License-Identifier: MIT
"""Initial RAM disks for what the benches boot."""


def cpio(entries):
    """An archive of (name, mode, bytes)."""
    out, ino = bytearray(), 1
    for name, mode, data in [*entries, ("TRAILER!!!", 0, b"")]:
        raw = name.encode() + b"\0"
        head = "070701" + "".join("%08X" % v for v in (ino, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0,
                                                       len(raw), 0))
        out += head.encode() + raw
        out += b"\0" * (-len(out) % 4) + data
        out += b"\0" * (-len(out) % 4)
        ino += 1
    return bytes(out)
