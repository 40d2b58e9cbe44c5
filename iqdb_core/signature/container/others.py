"""The formats that are passed on nearly as they are: BMP, JPEG 2000, icons, pixmaps, Targa.

Tells by content whether a file is one of them, and refuses those of their kinds that decode unreasonably
slowly. Called by `container.read`.
"""

from __future__ import annotations

import re
import struct
from typing import Final

from iqdb_core.errors import CorruptImage, UnsupportedFormat
from iqdb_core.signature.container import png
from iqdb_core.signature.container.still import Still

JPEG2000_MAGICS: Final = (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")
ICON_MAGIC: Final = b"\0\0\1\0"

_BMP_MAGIC: Final = b"BM"
_BMP_HEADERS: Final = frozenset({12, 40, 52, 56, 64, 108, 124})
_PIXMAP: Final = re.compile(rb"P[1-6][\s#]")
_PIXMAP_SPACE: Final = rb"(?:\s+|#[^\r\n]*[\r\n])+"
_BINARY_PIXMAP: Final = re.compile(
    rb"(?:P4" + _PIXMAP_SPACE + rb"\d+" + _PIXMAP_SPACE + rb"\d+\s"
    rb"|P[56](?:" + _PIXMAP_SPACE + rb"\d+){2}" + _PIXMAP_SPACE + rb"255\s)"
)
_PIXMAP_HEADER_BYTES: Final = 4096
_TARGA_FOOTER: Final = b"TRUEVISION-XFILE.\0"
_ICON_HEAD: Final = 6
_ICON_ENTRY: Final = 16
_DIB_HEADER: Final = 40


def is_bmp(data: bytes) -> bool:
    """Whether the bytes begin as a BMP: two letters and a header of a known length."""
    return data.startswith(_BMP_MAGIC) and int.from_bytes(data[14:18], "little") in _BMP_HEADERS


def is_pixmap(data: bytes) -> bool:
    """Whether the bytes begin as a portable bitmap, greymap or pixmap."""
    return _PIXMAP.match(data) is not None


def is_targa(data: bytes) -> bool:
    """Whether the bytes end as a Targa of version 2; version 1 has no mark of its own."""
    return data.endswith(_TARGA_FOOTER)


def read_pixmap(data: bytes) -> Still:
    """Admit the binary kinds with 8-bit samples; the others are decoded pixel by pixel in Python."""
    if not _BINARY_PIXMAP.match(data[:_PIXMAP_HEADER_BYTES]):
        raise UnsupportedFormat("of portable pixmaps only binary ones with values up to 255 are read")
    return Still("PPM", data)


def read_icon(data: bytes) -> Still:
    """Take the largest picture of an icon file, in most colours; see `container.read` for what is raised."""
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
    width, height = entry[0] or 256, entry[1] or 256
    if struct.unpack_from("<3I", picture) != (_DIB_HEADER, width, height * 2):
        raise CorruptImage("the icon's picture is not of the size that its directory says")
    one = data[:4] + struct.pack("<H", 1) + entry[:12] + struct.pack("<I", _ICON_HEAD + _ICON_ENTRY) + picture
    return Still("ICO", one, (width, height))
