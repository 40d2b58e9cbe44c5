"""What a JPEG file holds before its first scan, and how many scans it has.

Drops what the pixels do not depend on (EXIF, profiles, comments, thumbnails). Keeps JFIF and Adobe
segments, from which the decoder learns the colour space. Called by `container.read`.
"""

from __future__ import annotations

import re
import struct
from typing import Final

from iqdb_core.errors import CorruptImage, UnsupportedFormat
from iqdb_core.signature.container.exif import UPRIGHT, orientation_of
from iqdb_core.signature.container.still import MAX_PIECES, Still

MAGIC: Final = b"\xff\xd8"

_START: Final = 0xD8
_END: Final = 0xD9
_SCAN: Final = 0xDA
_COMMENT: Final = 0xFE
_APP0: Final = 0xE0
_EXIF: Final = 0xE1
_ADOBE: Final = 0xEE
_APP15: Final = 0xEF
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE: Final = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_WITHOUT_LENGTH: Final = frozenset({0x01, *range(0xD0, 0xD8)})
_FEW_SCANS: Final = 25
"""No reason to count exactly; encoders write about ten."""
_MARKER: Final = re.compile(rb"\xff+([^\x00\xff])")
_MARKER_AFTER_SCAN: Final = re.compile(rb"\xff+([^\x00\xd0-\xd7\xff])")


def read(data: bytes) -> Still:
    """Walk the segments up to the first scan; see `container.read` for what is raised."""
    kept = [MAGIC]
    position = len(MAGIC)
    orientation = UPRIGHT
    frame: tuple[int, int, int] | None = None
    is_progressive = False
    for _ in range(MAX_PIECES):
        marker, begin = _next_marker(data, position)
        if marker == _SCAN:
            break
        if marker in _WITHOUT_LENGTH:
            position = begin
            continue
        position = _segment_end(data, begin)
        if marker in _FRAMES:
            if frame is not None:
                raise CorruptImage("the JPEG has two frame headers")
            frame = _frame(data[begin:position])
            is_progressive = marker in _PROGRESSIVE
        if marker == _EXIF and orientation == UPRIGHT and data.startswith(b"Exif\0\0", begin + 2):
            orientation = orientation_of(data[begin + 2 : position])
        if marker in {_APP0, _ADOBE} or not (_APP0 <= marker <= _APP15 or marker == _COMMENT):
            kept += (bytes((0xFF, marker)), data[begin:position])
    else:
        raise CorruptImage(f"the JPEG is in more than {MAX_PIECES} pieces")
    if frame is None:
        raise CorruptImage("the JPEG has a scan before its frame header")
    width, height, components = frame
    has_one_scan = not is_progressive and data[begin + 2] == components
    scans = 1 if has_one_scan else _count_scans(data, begin)
    kept += (bytes((0xFF, _SCAN)), data[begin:])
    return Still("JPEG", b"".join(kept), (width, height), orientation, scans=scans)


def _next_marker(data: bytes, position: int) -> tuple[int, int]:
    """Return the next marker that can stand before a scan, and where its segment begins."""
    match = _MARKER.search(data, position)
    if match is None:
        raise CorruptImage("the JPEG is cut short")
    marker = match[1][0]
    if marker in {_START, _END}:
        raise CorruptImage("the JPEG has no picture in it")
    return marker, match.end()


def _segment_end(data: bytes, begin: int) -> int:
    length = int.from_bytes(data[begin : begin + 2], "big")
    if length < 2 or begin + length > len(data):
        raise CorruptImage("the JPEG is cut short")
    return begin + length


def _frame(segment: bytes) -> tuple[int, int, int]:
    """Return width, height and the number of components from a frame header."""
    bits, height, width, components = struct.unpack_from(">BHHB", segment, 2)
    if bits != 8:
        raise UnsupportedFormat(f"a JPEG of {bits} bits per sample is not read")
    if components not in {1, 3, 4}:
        raise UnsupportedFormat(f"a JPEG of {components} components is not read")
    return width, height, components


def _count_scans(data: bytes, position: int) -> int:
    """Count the scans up to the end marker, the one at `position` included.

    Few are not counted exactly: what looks like a scan may be within a segment or after the end.
    """
    at_most = 1 + data.count(bytes((0xFF, _SCAN)), position)
    if at_most <= _FEW_SCANS:
        return at_most
    scans = 1
    while match := _MARKER_AFTER_SCAN.search(data, position):
        marker = match[1][0]
        if marker == _END:
            break
        scans += marker == _SCAN
        position = match.end()
        if marker not in {0x01, _START}:
            position = _segment_end(data, position)
    return scans
