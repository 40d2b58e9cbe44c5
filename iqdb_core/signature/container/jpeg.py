"""Reads a JPEG file up to its first scan, and counts its scans.

Walks the segments like libjpeg, including wrong lengths and junk between segments. Passes on only what pixels
depend on: tables, the frame header, and the JFIF and Adobe segments that tell libjpeg the colour space. EXIF,
profiles, comments and thumbnails are dropped. Called by `container.read`.

References
----------
ITU-T T.81, annex B; JFIF 1.02; Adobe Technical Note 5116 (APP14).
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Final

from iqdb_core.errors import CorruptImage, UnsupportedFormat
from iqdb_core.signature.container.exif import UPRIGHT, orientation_of
from iqdb_core.signature.container.still import MAX_PIECES, Still

MAGIC: Final = b"\xff\xd8"
END: Final = b"\xff\xd9"

_FILL: Final = 0xFF
_START: Final = 0xD8
_END: Final = 0xD9
_SCAN: Final = 0xDA
_COMMENT: Final = 0xFE
_APP0: Final = 0xE0
_EXIF: Final = 0xE1
_ADOBE: Final = 0xEE
_SKIPPED: Final = frozenset({0xDC, _COMMENT, *range(_APP0, 0xF0)})
"""Segments that libjpeg skips by their length; JFIF and Adobe segments are examined."""
_TABLES: Final = frozenset({0xC4, 0xCC, 0xDB, 0xDD})
_FRAMES: Final = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xC9, 0xCA})
_OTHER_FRAMES: Final = frozenset({0xC5, 0xC6, 0xC7, 0xC8, 0xCB, 0xCD, 0xCE, 0xCF})
_PROGRESSIVE: Final = frozenset({0xC2, 0xCA})
_ARITHMETIC: Final = frozenset({0xC9, 0xCA})
_WITHOUT_LENGTH: Final = frozenset({0x01, *range(0xD0, 0xD8)})
_JFIF_BYTES: Final = 14
_ADOBE_BYTES: Final = 12
"""Minimum length of these segments; libjpeg ignores shorter ones."""
_FEW_SCANS: Final = 25
"""Up to this many, an exact count is not needed; encoders write about ten."""
_COEFFICIENTS: Final = 64
_ALL_SENT: Final = (1 << _COEFFICIENTS) - 1
_MOST_IN_SCAN: Final = 4
"""Components that a scan may have; libjpeg reads no other."""
_MARKER: Final = re.compile(rb"\xff([^\x00\xff])")
"""Without the fill bytes before it: a pattern with any number of them would take quadratic time."""
_MARKER_AFTER_SCAN: Final = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")


@dataclass(frozen=True, slots=True)
class _Frame:
    """The frame header: size in pixels, component numbers, and how the scans are coded."""

    width: int
    height: int
    components: tuple[int, ...]
    is_progressive: bool
    is_arithmetic: bool


@dataclass(slots=True)
class _Head:
    """What is known from the segments before the first scan; `kept` is what a decoder needs of them."""

    kept: list[bytes]
    orientation: int = UPRIGHT
    frame: _Frame | None = None
    is_inverted: bool = False

    def look_into(self, marker: int, content: bytes) -> None:
        """Take what matters from a segment that libjpeg may skip."""
        if marker == _EXIF and self.orientation == UPRIGHT and content.startswith(b"Exif\0\0"):
            self.orientation = orientation_of(content)
        if colour_space := _colour_space(marker, content):
            self.kept.append(colour_space)
            self.is_inverted |= marker == _ADOBE

    def take(self, marker: int, content: bytes) -> None:
        """Take a frame header or a table; raise for any other segment."""
        if marker in _OTHER_FRAMES:
            raise UnsupportedFormat("hierarchical and lossless JPEGs are not supported")
        if marker in _FRAMES:
            if self.frame is not None:
                raise CorruptImage("the JPEG has two frame headers")
            self.frame = _frame(marker, content)
        elif marker not in _TABLES:
            raise CorruptImage("the JPEG has a segment of an unknown kind")
        self.kept.append(struct.pack(">BBH", 0xFF, marker, 2 + len(content)) + content)


def read(data: bytes) -> Still:
    """Walk the segments up to the first scan; see `container.read` for what is raised."""
    head, begin = _head(data)
    frame = head.frame
    if frame is None:
        raise CorruptImage("the JPEG has a scan before its frame header")
    has_one_scan = not frame.is_progressive and data[begin + 2 : begin + 3] == bytes((len(frame.components),))
    end = 0 if has_one_scan or frame.is_arithmetic else _scans_end(data, begin)
    header = b"".join((*head.kept, bytes((0xFF, _SCAN))))
    return Still(
        "JPEG",
        header + data[begin:],
        (frame.width, frame.height),
        head.orientation,
        scans=1 if has_one_scan else _count_scans(data, begin),
        pixels_begin=len(header),
        channels=len(frame.components),
        is_inverted=head.is_inverted,
        scans_end=len(header) - begin + end if end else 0,
        is_cut=(frame.is_arithmetic and data.find(END, begin) < 0)
        or (not has_one_scan and not _is_complete(data, begin, frame)),
    )


def _head(data: bytes) -> tuple[_Head, int]:
    """Return what is before the first scan, and where that begins, after its marker."""
    head = _Head([MAGIC])
    position = len(MAGIC)
    for _ in range(MAX_PIECES):
        marker, begin = _next_marker(data, position)
        if marker == _SCAN:
            return head, begin
        if marker in _WITHOUT_LENGTH:
            position = begin
            continue
        position = _segment_end(data, begin)
        content = data[begin + 2 : position]
        if marker in _SKIPPED:
            head.look_into(marker, content)
        elif position > len(data):
            raise CorruptImage("the JPEG is cut short before its first scan")
        else:
            head.take(marker, content)
    raise _too_many_pieces()


def _too_many_pieces() -> CorruptImage:
    return CorruptImage(f"the JPEG is in more than {MAX_PIECES} pieces")


def _next_marker(data: bytes, position: int) -> tuple[int, int]:
    """Return the next marker that can stand before a scan, and where its segment begins."""
    match = _MARKER.search(data, position)
    if match is None:
        raise CorruptImage("the JPEG is cut short before its first scan")
    marker = match[1][0]
    if marker in {_START, _END}:
        raise CorruptImage("the JPEG has no picture in it")
    return marker, match.end()


def _segment_end(data: bytes, begin: int) -> int:
    """Return where a segment ends, perhaps beyond the data; one of an impossible length ends after it."""
    return begin + max(2, int.from_bytes(data[begin : begin + 2], "big"))


def _colour_space(marker: int, content: bytes) -> bytes:
    """Return a JFIF or Adobe segment as short as libjpeg takes notice of it, or nothing."""
    if marker == _APP0 and len(content) >= _JFIF_BYTES and content.startswith(b"JFIF\0"):
        content = content[:_JFIF_BYTES]
    elif marker == _ADOBE and len(content) >= _ADOBE_BYTES and content.startswith(b"Adobe"):
        content = content[:_ADOBE_BYTES]
    else:
        return b""
    return struct.pack(">BBH", 0xFF, marker, 2 + len(content)) + content


def _frame(marker: int, content: bytes) -> _Frame:
    bits, height, width, components = struct.unpack_from(">BHHB", content)
    if bits != 8:
        raise UnsupportedFormat(f"a JPEG with {bits} bits per sample is not supported")
    if components not in {1, 3, 4}:
        raise UnsupportedFormat(f"a JPEG with {components} components is not supported")
    if len(content) != 6 + 3 * components:
        raise CorruptImage("the JPEG's frame header has a wrong length")
    return _Frame(width, height, tuple(content[6::3]), marker in _PROGRESSIVE, marker in _ARITHMETIC)


def _count_scans(data: bytes, position: int) -> int:
    """Count the scans up to the end marker, including the one at `position`.

    Small numbers may be inexact: something like a scan may be within a segment or after the end.
    """
    at_most = 1 + data.count(bytes((0xFF, _SCAN)), position)
    if at_most <= _FEW_SCANS:
        return at_most
    scans = 1
    for _ in range(MAX_PIECES):
        match = _MARKER_AFTER_SCAN.search(data, position)
        if match is None or match[1][0] == _END:
            return scans
        marker = match[1][0]
        scans += marker == _SCAN
        position = match.end()
        if marker not in {0x01, _START}:
            position = _segment_end(data, position)
    raise _too_many_pieces()


def _scans_end(data: bytes, position: int) -> int:
    """Return where the data of the last scan ends, 0 if nothing follows; `position` is that of the first."""
    end = position
    position = _segment_end(data, position)
    is_in_scan = True
    for _ in range(MAX_PIECES):
        match = _MARKER_AFTER_SCAN.search(data, position)
        if match is None:
            return 0 if is_in_scan else end
        marker = match[1][0]
        if is_in_scan:
            end = match.start()
            while data[end - 1] == _FILL:
                end -= 1
        if marker == _END:
            return end
        is_in_scan = marker == _SCAN
        position = match.end()
        if marker not in _WITHOUT_LENGTH:
            position = _segment_end(data, position)
    raise _too_many_pieces()


def _is_complete(data: bytes, begin: int, frame: _Frame) -> bool:
    """Whether the scans bring every coefficient of every component to its full precision."""
    sent = dict.fromkeys(frame.components, 0)  # a bit for each coefficient
    for _ in range(MAX_PIECES):
        if begin < 2:
            break
        count = data[begin + 2] if begin + 2 < len(data) else 0
        header = data[begin + 3 : begin + 6 + 2 * count]
        if 0 < count <= _MOST_IN_SCAN and len(header) == 3 + 2 * count:
            first, last, precision = header[-3:] if frame.is_progressive else (0, _COEFFICIENTS - 1, 0)
            brought = _ALL_SENT & (2 << last) - (1 << first) if first <= last else 0
            for component in header[: 2 * count : 2]:
                if component in sent:
                    sent[component] &= ~brought
                    sent[component] |= 0 if precision & 15 else brought
        begin = data.find(bytes((0xFF, _SCAN)), begin) + 2
    return all(places == _ALL_SENT for places in sent.values())
