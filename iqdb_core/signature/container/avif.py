"""Whether an ISO media file is an AVIF or HEIC picture.

Hides EXIF blocks from the decoder of AVIF: such files have their own properties for orientation, and a
damaged block must not make good pixels unreadable. Merges property lists, because common encoders write two
and the decoder accepts one. Size and orientation are left to the decoders. Called by `container.read`.

References
----------
ISO/IEC 14496-12 (boxes) and 23008-12, section 9.3 (item properties).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from iqdb_core.errors import CorruptImage, UnsupportedFormat
from iqdb_core.signature.container.still import Still

_BRANDS: Final = frozenset({b"avif", b"avis"})
_HEIC_BRANDS: Final = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
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
        if brands & _HEIC_BRANDS:
            return Still("HEIC", data)
        raise UnsupportedFormat("of ISO media files only AVIF and HEIC pictures are supported")
    return Still("AVIF", b"".join(_readable_boxes(data)))


def _readable_boxes(data: bytes) -> Iterator[bytes | memoryview]:
    """Yield the boxes at the top of a file in order, each of its own length, as the decoder reads them."""
    whole = memoryview(data)
    begin = 0
    for _ in range(_MAX_BOXES):
        name, end = _box(data, begin)
        if name in _DESCRIBING:
            box = data[begin:end].replace(_EXIF, _HIDDEN)
            yield _with_one_list(box) if name == b"meta" else box
        else:
            yield whole[begin:end]
        if end >= len(data):
            return
        begin = end
    raise CorruptImage(f"the AVIF is in more than {_MAX_BOXES} pieces")


def _box(data: bytes, begin: int) -> tuple[bytes, int]:
    """Return the name of the box that begins here, and where it ends."""
    length, name = struct.unpack_from(">I4s", data, begin)
    if length == 1:
        (length,) = struct.unpack_from(">Q", data, begin + 8)
    # A length of 0 means to the end; no box is shorter than its head.
    return name, begin + length if length >= 8 else len(data)


def _with_one_list(meta: bytes) -> bytes:
    """Return a meta box of the same length in which each kind of property list occurs once."""
    for begin, end in _children(meta, 12, len(meta)):
        if meta[begin + 4 : begin + 8] != b"iprp":
            continue
        children = list(_children(meta, begin + 8, end))
        lists = [meta[first:last] for first, last in children if meta[first + 4 : first + 8] == b"ipma"]
        if len(lists) < 2 or len({one[8:12] for one in lists}) > 1:
            continue
        entries = sorted(entry for one in lists for entry in _entries(one))
        content = lists[0][8:12] + struct.pack(">I", len(entries)) + b"".join(raw for _, raw in entries)
        others = b"".join(meta[a:b] for a, b in children if meta[a + 4 : a + 8] != b"ipma")
        joined = others + struct.pack(">I4s", 8 + len(content), b"ipma") + content
        spare = end - begin - 8 - len(joined)
        if spare < 8:
            continue
        return b"".join(
            (
                meta[:begin],
                struct.pack(">I4s", 8 + len(joined), b"iprp") + joined,
                struct.pack(">I4s", spare, b"free") + bytes(spare - 8),
                meta[end:],
            )
        )
    return meta


def _children(data: bytes, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield where each box between two places begins and ends."""
    for _ in range(_MAX_BOXES):
        if begin + 8 > end:
            return
        _, stop = _box(data, begin)
        yield begin, min(stop, end)
        begin = stop


def _entries(box: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the number of each item in a property list, and the bytes of its entry."""
    id_format = ">I" if box[8] else ">H"
    property_bytes = 2 if box[11] & 1 else 1
    (count,) = struct.unpack_from(">I", box, 12)
    at = 16
    for _ in range(min(count, len(box))):
        (item,) = struct.unpack_from(id_format, box, at)
        size = struct.calcsize(id_format)
        length = size + 1 + box[at + size] * property_bytes
        yield item, box[at : at + length]
        at += length
