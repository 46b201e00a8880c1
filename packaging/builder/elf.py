"""What a library carries that no program loads: symbols for debuggers, a quarter of PyPI's compiled wheels.

By hand, as `strip` is not on every machine, does not know the other architecture, and differs by version.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_SECTIONS = slice(0x28, 0x30)  # e_shoff
_COUNTS = slice(0x3C, 0x40)  # e_shnum, e_shstrndx


def stripped(data: bytes) -> bytes:
    """A 64-bit little-endian ELF file cut to what its program headers name, which is all that is ever loaded."""
    if data[:6] != b"\x7fELF\x02\x01":
        raise ValueError("not a 64-bit little-endian ELF file")
    [first] = struct.unpack_from("<Q", data, 0x20)
    size, count = struct.unpack_from("<HH", data, 0x36)
    end = first + size * count
    for at in range(first, end, size):
        offset, length = struct.unpack_from("<Q", data, at + 0x08)[0], struct.unpack_from("<Q", data, at + 0x20)[0]
        end = max(end, offset + length)
    head = bytearray(data[:end])
    head[_SECTIONS], head[_COUNTS] = bytes(8), bytes(4)
    return bytes(head)


def strip_all(home: Path) -> None:
    """Every library below ``home``."""
    for path in sorted(home.rglob("*.so")):
        path.write_bytes(stripped(path.read_bytes()))
