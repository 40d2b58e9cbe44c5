"""Whether an ISO media file is an AVIF picture.

Hides EXIF blocks from the decoder: AVIF orients pictures by properties of its own, and a damaged block must
not spoil good pixels. Size and orientation are left to the decoder. Called by `container.read`.
"""

from __future__ import annotations

import struct
from typing import Final

from iqdb_core.errors import UnsupportedFormat
from iqdb_core.signature.container.still import Still

_BRANDS: Final = frozenset({b"avif", b"avis"})
_MAX_BRANDS_END: Final = 1024
_DESCRIBING: Final = frozenset({b"meta", b"moov"})


def is_iso_media(data: bytes) -> bool:
    """Whether the first bytes are those of an ISO base media file: AVIF, HEIC, MP4 and others."""
    return data[4:8] == b"ftyp"


def read(data: bytes) -> Still:
    """Look at the brands; see `container.read` for what is raised."""
    (length,) = struct.unpack_from(">I", data)
    brands = {data[at : at + 4] for at in (8, *range(16, min(length, _MAX_BRANDS_END), 4))}
    if not brands & _BRANDS:
        raise UnsupportedFormat("of ISO media files only AVIF is read")
    pieces = []
    for name, begin, end in _boxes(data):
        box = data[begin:end]
        pieces.append(box.replace(b"Exif", b"none") if name in _DESCRIBING else box)
    return Still("AVIF", b"".join(pieces))


def _boxes(data: bytes) -> list[tuple[bytes, int, int]]:
    """Return name, begin and end of the boxes at the top; the last one ends with the file."""
    boxes = []
    begin = 0
    while begin + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, begin)
        if length == 1 and begin + 16 <= len(data):
            (length,) = struct.unpack_from(">Q", data, begin + 8)
        end = begin + length if length >= 8 else len(data)
        boxes.append((name, begin, min(end, len(data))))
        begin = end
    if begin < len(data):
        boxes.append((b"", begin, len(data)))
    return boxes
