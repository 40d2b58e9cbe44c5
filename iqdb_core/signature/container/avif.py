"""Whether an ISO media file is an AVIF picture.

Hides EXIF blocks from the decoder: AVIF orients pictures by properties of its own, and a damaged block must
not spoil good pixels. Size and orientation are left to the decoder. Called by `container.read`.
"""

from __future__ import annotations

import struct
from typing import Final

from iqdb_core.errors import CorruptImage, UnsupportedFormat
from iqdb_core.signature.container.still import Still

_BRANDS: Final = frozenset({b"avif", b"avis"})
_MAX_BRANDS_END: Final = 1024
_MAX_BOXES: Final = 1000
"""At the top of a file; an AVIF has about five."""
_EXIF: Final = b"Exif"
_HIDDEN: Final = b"none"
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
    begin = 0
    for _ in range(_MAX_BOXES):
        name, end = _box(data, begin)
        if name in _DESCRIBING and (at := data.find(_EXIF, begin, end)) >= 0:
            data = data[:at] + data[at:end].replace(_EXIF, _HIDDEN) + data[end:]
        if end >= len(data):
            return Still("AVIF", data)
        begin = end
    raise CorruptImage(f"the AVIF is in more than {_MAX_BOXES} pieces")


def _box(data: bytes, begin: int) -> tuple[bytes, int]:
    """Return the name of the box that begins here, and where it ends."""
    length, name = struct.unpack_from(">I4s", data, begin)
    if length == 1:
        (length,) = struct.unpack_from(">Q", data, begin + 8)
    # A length of 0 means to the end; no box is shorter than its head.
    return name, begin + length if length >= 8 else len(data)
