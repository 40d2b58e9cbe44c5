"""Reads the header of a BMP, in a file of its own or inside an icon.

All headers that are in use: Windows' of 40 to 124 bytes and OS/2's of 12 to 64. Called by `container.read`
and by the decoder of BMPs.

References
----------
Microsoft, "Bitmap Storage"; IBM, "OS/2 2.0 Presentation Manager Graphics", bitmap file format.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from iqdb_core.errors import CorruptImage, UnsupportedFormat
from iqdb_core.signature.container.still import Still

PLAIN: Final = 0
RLE8: Final = 1
RLE4: Final = 2
_FIELDS: Final = 3
_ALPHA_FIELDS: Final = 6
_CORE: Final = 12
_INFO: Final = 40
_HEADERS: Final = frozenset({_CORE, *range(16, 68, 4), 42, 46, 108, 124})
_WINDOWS: Final = frozenset({_INFO, 52, 56, 108, 124})
_FILE_HEADER: Final = 14
_FIVES: Final = (0x7C00, 0x03E0, 0x001F, 0)
_EIGHTS: Final = (0xFF0000, 0x00FF00, 0x0000FF, 0)
_KINDS: Final = {
    PLAIN: frozenset({1, 2, 4, 8, 16, 24, 32}),
    RLE8: frozenset({8}),
    RLE4: frozenset({4}),
    _FIELDS: frozenset({16, 32}),
    _ALPHA_FIELDS: frozenset({16, 32}),
}
"""Bits per pixel of each compression that is read."""


@dataclass(frozen=True, slots=True)
class Bitmap:
    """How the pixels of a BMP are written.

    Parameters
    ----------
    width, height : int
        In pixels; in an icon the height counts twice, for the mask.
    is_top_down : bool
        Whether the first row in the file is the top row.
    bits : int
        Per pixel: 1, 2, 4, 8, 16, 24 or 32.
    compression : int
        `PLAIN`, `RLE8` or `RLE4`.
    masks : (int, int, int, int)
        Which bits of a pixel of 16 or 32 bits are red, green, blue and alpha.
    palette_begin, palette_entry : int
        Where the colours begin, and how many bytes each takes.
    colours : int
        How many there are.
    pixels_begin : int
        Where the pixels begin.
    """

    width: int
    height: int
    is_top_down: bool
    bits: int
    compression: int
    masks: tuple[int, int, int, int]
    palette_begin: int
    palette_entry: int
    colours: int
    pixels_begin: int


def is_bmp(data: bytes) -> bool:
    """Return whether the bytes begin like a BMP: two letters and a header of a known length."""
    return (
        data.startswith(b"BM") and int.from_bytes(data[_FILE_HEADER : _FILE_HEADER + 4], "little") in _HEADERS
    )


def read(data: bytes) -> Still:
    """Read the header; see `container.read` for what is raised."""
    bitmap = of_file(data)
    return Still("BMP", data, (bitmap.width, bitmap.height))


def of_file(data: bytes) -> Bitmap:
    """Read the header of a file."""
    (pixels_begin,) = struct.unpack_from("<I", data, 10)
    return header(data, _FILE_HEADER, pixels_begin)


def header(data: bytes, begin: int, pixels_begin: int = 0) -> Bitmap:
    """Read the header at `begin`; unless it says where the pixels are, they follow the colours."""
    (size,) = struct.unpack_from("<I", data, begin)
    if size not in _HEADERS:
        raise UnsupportedFormat("a BMP with a header of this kind is not supported")
    if begin + size > len(data):
        raise CorruptImage("the BMP is cut short")
    compression = colours = 0
    if size == _CORE:
        width, height, _, bits = struct.unpack_from("<4H", data, begin + 4)
    else:
        width, height, _, bits = struct.unpack_from("<iiHH", data, begin + 4)
        if size >= 20:
            (compression,) = struct.unpack_from("<I", data, begin + 16)
        if size >= 36:
            (colours,) = struct.unpack_from("<I", data, begin + 32)
    is_os2 = size not in _WINDOWS
    if bits not in _KINDS.get(compression, frozenset()) or (is_os2 and compression > RLE4):
        raise UnsupportedFormat(
            f"a BMP with {bits} bits per pixel and compression {compression} is not supported"
        )
    palette_begin = begin + size
    masks = _FIVES if bits == 16 else _EIGHTS
    if compression in {_FIELDS, _ALPHA_FIELDS}:
        count = 4 if size >= 56 or compression == _ALPHA_FIELDS else 3
        masks = (*struct.unpack_from(f"<{count}I", data, begin + _INFO), 0)[:4]
        if size == _INFO:
            palette_begin += 4 * count
    if bits <= 8:
        colours = min(colours or 1 << bits, 1 << bits)
    entry = 3 if size == _CORE else 4
    return Bitmap(
        width,
        abs(height),
        height < 0,
        bits,
        compression if compression in {RLE8, RLE4} else PLAIN,
        masks,
        palette_begin,
        entry,
        colours if bits <= 8 else 0,
        pixels_begin or palette_begin + colours * entry,
    )
