"""Formats that are passed on nearly unchanged: JPEG 2000, icons, pixmaps, Targa.

Recognises them by content, and refuses variants that decode unreasonably slowly. Called by `container.read`.
"""

from __future__ import annotations

import re
import struct
from typing import Final

from iqdb_core.errors import CorruptImage, UnsupportedFormat
from iqdb_core.signature.container import bmp, png
from iqdb_core.signature.container.still import Still

JPEG2000_MAGICS: Final = (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")
_CODESTREAM: Final = b"\xff\x4f\xff\x51"
ICON_MAGIC: Final = b"\0\0\1\0"

_PIXMAP: Final = re.compile(rb"P[1-6][\s#]")
_PIXMAP_SPACE: Final = rb"(?:\s|#[^\r\n]*[\r\n])+"
"""Single blanks: nested repetitions would be tried in 2**40 ways if forty precede a wrong byte."""
_BINARY_PIXMAP: Final = re.compile(
    rb"(?:P4" + _PIXMAP_SPACE + rb"\d+" + _PIXMAP_SPACE + rb"\d+\s"
    rb"|P[56](?:" + _PIXMAP_SPACE + rb"\d+){2}" + _PIXMAP_SPACE + rb"255\s)"
)
_PIXMAP_HEADER_BYTES: Final = 4096
_TARGA_FOOTER: Final = b"TRUEVISION-XFILE.\0"
_TARGA_HEAD: Final = 18
_TARGA_PACKED: Final = 8
_TARGA_PALETTES: Final = frozenset({1, 9})
_TARGA_BITS: Final = {
    1: {8},
    2: {15, 16, 24, 32},
    3: {8, 16},
    9: {8},
    10: {15, 16, 24, 32},
    11: {8, 16},
}
"""Bits per pixel of each kind: of a palette, in colour and grey, and the same run-length coded."""
_ICON_HEAD: Final = 6
_ICON_ENTRY: Final = 16


def read_jpeg2000(data: bytes) -> Still:
    """Read the size; refuse depths that the decoder scales wrongly."""
    begin = data.find(_CODESTREAM)
    if begin < 0:
        raise CorruptImage("the JPEG 2000 is cut short")
    right, bottom, left, top = struct.unpack_from(">4I", data, begin + 8)
    (channels,) = struct.unpack_from(">H", data, begin + 40)
    bits = [(data[begin + 42 + 3 * n] & 0x7F) + 1 for n in range(min(channels, 4))]
    if min(bits, default=0) < 8:
        raise UnsupportedFormat("a JPEG 2000 with fewer than 8 bits per sample is not supported")
    if channels > 1 and max(bits) > 8:
        raise UnsupportedFormat("a JPEG 2000 with more than 8 bits per sample is supported only in grey")
    return Still("JPEG2000", data, (right - left, bottom - top))


def is_pixmap(data: bytes) -> bool:
    """Return whether the bytes begin like a portable bitmap, greymap or pixmap."""
    return _PIXMAP.match(data) is not None


def is_targa(data: bytes) -> bool:
    """Return whether the bytes are a Targa: by the footer of version 2, or a fully consistent header."""
    if data.endswith(_TARGA_FOOTER):
        return True
    if len(data) <= _TARGA_HEAD:
        return False
    id_bytes, maps, kind = data[:3]
    first, colours, colour_bits, _, _, width, height, bits, flags = struct.unpack_from("<HHBHHHHBB", data, 3)
    palette_bytes = colours * ((colour_bits + 7) // 8) if maps else 0
    is_palette = kind in _TARGA_PALETTES
    left = len(data) - _TARGA_HEAD - id_bytes - palette_bytes
    return (
        kind in _TARGA_BITS
        and bits in _TARGA_BITS[kind]
        and (
            maps == 1 and 0 < colours <= 256 and colour_bits in {15, 16, 24, 32} if is_palette else maps <= 1
        )
        and (maps == 1 or (first == colours == colour_bits == 0))
        and width > 0
        and height > 0
        and flags & 0xC0 == 0
        and flags & 0x0F <= 8
        and (left >= width * height * ((bits + 7) // 8) if kind < _TARGA_PACKED else left > 0)
    )


def read_pixmap(data: bytes) -> Still:
    """Admit the binary kinds with 8-bit samples; the others are decoded pixel by pixel in Python."""
    if not _BINARY_PIXMAP.match(data[:_PIXMAP_HEADER_BYTES]):
        raise UnsupportedFormat("portable pixmaps are supported only in binary form with values up to 255")
    return Still("PPM", data)


def read_icon(data: bytes) -> Still:
    """Take the largest picture of an icon file with the most colours; see `container.read` for errors."""
    (count,) = struct.unpack_from("<H", data, 4)
    best: tuple[int, int, bytes] | None = None
    for n in range(count):
        entry = data[_ICON_HEAD + n * _ICON_ENTRY : _ICON_HEAD + (n + 1) * _ICON_ENTRY]
        width, height, _, _, _, bits = struct.unpack_from("<4B2H", entry)
        rank = ((width or 256) * (height or 256), bits)
        if best is None or rank > best[:2]:
            best = (*rank, entry)
    if best is None:
        raise CorruptImage("the icon has no picture in it")
    entry = best[2]
    size, begin = struct.unpack_from("<2I", entry, 8)
    picture = data[begin : begin + size]
    if len(picture) < size:
        raise CorruptImage("the icon is cut short")
    if picture.startswith(png.MAGIC):
        return png.read(picture)
    bitmap = bmp.header(picture, 0)
    size_said = (entry[0] or 256, entry[1] or 256)
    if (bitmap.width, bitmap.height) != (size_said[0], 2 * size_said[1]):
        raise CorruptImage("the icon's picture is not of the size that its directory says")
    return Still("ICO", picture, size_said)
