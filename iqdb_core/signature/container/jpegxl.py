"""How large a JPEG XL is, before anything of it is decoded.

The rest, orientation included, is the decoder's. Called by `container.read`.

References
----------
ISO/IEC 18181-1, annex D.2 (size header); 18181-2, section 9 (boxes).
"""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import Final

from iqdb_core.errors import CorruptImage
from iqdb_core.signature.container.still import Still

CODESTREAM: Final = b"\xff\x0a"
CONTAINER: Final = b"\0\0\0\x0cJXL \r\n\x87\n"
MAGICS: Final = (CODESTREAM, CONTAINER)
_HEADER_BYTES: Final = 16
"""More than a size header ever takes."""
_MAX_BOXES: Final = 1000
_SIDE_BITS: Final = (9, 13, 18, 30)
_RATIOS: Final = (
    None,
    Fraction(1),
    Fraction(12, 10),
    Fraction(4, 3),
    Fraction(3, 2),
    Fraction(16, 9),
    Fraction(5, 4),
    Fraction(2),
)
"""Width over height by the number that stands for it; None: the width is given."""


def read(data: bytes) -> Still:
    """Read the size as it is stored: the decoder turns pictures upright; see `container.read`."""
    header = data if data.startswith(CODESTREAM) else _codestream(data)
    if not header.startswith(CODESTREAM):
        raise CorruptImage("the JPEG XL holds no picture")
    return Still("JPEG XL", data, _size(_Bits(header[2 : 2 + _HEADER_BYTES])))


def _codestream(data: bytes) -> bytes:
    """Return the beginning of the codestream that is in a container."""
    begin = 0
    for _ in range(_MAX_BOXES):
        length, name = struct.unpack_from(">I4s", data, begin)
        head = 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", data, begin + 8)
            head = 16
        if name == b"jxlc":
            return data[begin + head : begin + head + _HEADER_BYTES]
        if name == b"jxlp":  # a part, after its number
            return data[begin + head + 4 : begin + head + 4 + _HEADER_BYTES]
        if length < head:
            break
        begin += length
    raise CorruptImage("the JPEG XL holds no picture")


class _Bits:
    """Numbers of any width, the lowest bit of each byte first."""

    def __init__(self, data: bytes) -> None:
        self._left = int.from_bytes(data, "little")
        self._count = 8 * len(data)

    def take(self, count: int) -> int:
        """Return the next `count` bits as a number; raises CorruptImage at the end."""
        if count > self._count:
            raise CorruptImage("the JPEG XL is cut short")
        self._count -= count
        self._left, taken = divmod(self._left, 1 << count)
        return taken

    def side(self) -> int:
        """Return a side that is given in as many bits as it needs."""
        return self.take(_SIDE_BITS[self.take(2)]) + 1


def _size(bits: _Bits) -> tuple[int, int]:
    """Return width and height as they are stored."""
    is_small = bits.take(1)
    height = 8 * (bits.take(5) + 1) if is_small else bits.side()
    ratio = _RATIOS[bits.take(3)]
    if ratio is not None:
        return int(height * ratio), height
    return (8 * (bits.take(5) + 1) if is_small else bits.side()), height
