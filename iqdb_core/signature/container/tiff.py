"""Reads and checks the first directory of a TIFF file.

Appends a new directory to the file that has only tags on which the pixels depend, each checked against the
file's size, and no further directory. Called by `container.read`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from iqdb_core.errors import CorruptImage, UnsupportedFormat
from iqdb_core.signature.container.exif import UPRIGHT
from iqdb_core.signature.container.still import MAX_PIECES, Still

MAGICS: Final = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_WIDTH: Final = 256
_HEIGHT: Final = 257
_COMPRESSION: Final = 259
_STRIP_OFFSETS: Final = 273
_ORIENTATION: Final = 274
_TILE_WIDTH: Final = 322
_TILE_HEIGHT: Final = 323
_TILE_OFFSETS: Final = 324

_BITS: Final = 258
_PHOTOMETRIC: Final = 262
_PALETTE: Final = 320
_PLANES: Final = 284
_SAMPLES: Final = 277
_PREDICTOR: Final = 317
_WHITE_IS_0: Final = 0
_PLAIN: Final = 1

# Tags of one value; 266 fill order, 278 rows per strip, 292 and 293 fax options.
_SCALARS: Final = frozenset(
    {_WIDTH, _HEIGHT, _COMPRESSION, _PHOTOMETRIC, _ORIENTATION, _SAMPLES, _PLANES, _PREDICTOR}
    | {_TILE_WIDTH, _TILE_HEIGHT, 266, 278, 292, 293}
)
# Tags of any number; 279 and 325 byte counts, 338 extra samples, 339 sample format, 347 JPEG tables,
# 529..532 YCbCr.
_LISTS: Final = frozenset(
    {_BITS, _STRIP_OFFSETS, 279, _PALETTE, _TILE_OFFSETS, 325, 338, 339, 347, 529, 530, 531, 532}
)
_TYPE_BYTES: Final = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 16: 8}
_INTEGERS: Final = {1: "B", 3: "H", 4: "I", 16: "Q"}

_COMPRESSIONS: Final = frozenset({1, 2, 3, 4, 5, 7, 8, 32773, 32946})
"""None, three of fax, LZW, JPEG, Deflate, PackBits, Deflate's old number. Others are rare."""
_LARGE_TILE: Final = 4096
"""Tiles may be larger than the picture, up to this side in pixels; they are decoded whole."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """How directories are written in a file: byte order, and classic or big."""

    order: str
    is_big: bool

    @property
    def counter(self) -> str:
        return f"{self.order}{'Q' if self.is_big else 'H'}"

    @property
    def entry(self) -> str:
        return f"{self.order}{'HHQ8s' if self.is_big else 'HHI4s'}"

    @property
    def offset(self) -> str:
        return f"{self.order}{'Q' if self.is_big else 'I'}"


def read(data: bytes) -> Still:
    """Read the first directory; see `container.read` for what is raised."""
    layout = _Layout("<" if data[:2] == b"II" else ">", data[2:4] in {b"+\0", b"\0+"})
    first = struct.unpack_from(layout.offset, data, 8 if layout.is_big else 4)[0]
    entries = _entries(data, first, layout)
    is_cut = not _has_all_pages(data, first, layout)
    values = {tag: _integer(kind, raw, layout) for tag, (kind, _, raw) in entries.items() if tag in _SCALARS}
    width, height = values.get(_WIDTH, 0), values.get(_HEIGHT, 0)
    if values.get(_COMPRESSION, 1) not in _COMPRESSIONS:
        raise UnsupportedFormat(f"TIFF compression {values[_COMPRESSION]} is not supported")
    for tag, side in ((_TILE_WIDTH, width), (_TILE_HEIGHT, height)):
        if values.get(tag, 1) not in range(1, max(side, _LARGE_TILE) + 16):
            raise CorruptImage("the TIFF's tiles have impossible sizes")
    for tag in (_STRIP_OFFSETS, _TILE_OFFSETS):
        if tag in entries and entries[tag][1] > MAX_PIECES:
            raise CorruptImage(f"the TIFF is in more than {MAX_PIECES} pieces")
    is_12_bit = _check_kind(_shorts(data, entries, _BITS, layout)[:1] or (1,), values)
    if is_12_bit:
        _as_nibbles(entries, values, layout)
    data = _with_wide_palette(data, entries, layout)
    orientation = values.get(_ORIENTATION, UPRIGHT)
    entries.pop(_ORIENTATION, None)
    upright = _with_directory(data, entries, layout)
    if orientation not in range(1, 9):
        orientation = UPRIGHT
    return Still("TIFF", upright, (width, height), orientation, is_12_bit=is_12_bit, is_cut=is_cut)


def _check_kind(bits: tuple[int, ...], values: dict[int, int]) -> bool:
    """Refuse kinds of pixels that the decoder reads wrongly; return whether samples have 12 bits."""
    if bits[0] > 8 and values.get(_PHOTOMETRIC) == _WHITE_IS_0:
        raise UnsupportedFormat(f"a TIFF with {bits[0]} bits per pixel in which 0 is white is not supported")
    if bits[0] == 16 and values.get(_PLANES) == 2 and values.get(_COMPRESSION, _PLAIN) == _PLAIN:
        raise UnsupportedFormat("a TIFF with uncompressed 16-bit planes is not supported")
    if bits[0] == 12 and (values.get(_SAMPLES, 1) != 1 or values.get(_PREDICTOR, 1) != 1):
        raise UnsupportedFormat("a TIFF with 12 bits per sample is supported only in plain grey")
    return bits[0] == 12


def _has_all_pages(data: bytes, first: int, layout: _Layout) -> bool:
    """Return whether all directories are within the file; raise if their chain never ends."""
    seen: set[int] = set()
    directory = first
    while directory:
        if directory in seen or len(seen) > MAX_PIECES:
            raise CorruptImage("the TIFF's list of pages does not end")
        seen.add(directory)
        begin = directory + struct.calcsize(layout.counter)
        if begin > len(data):
            return False
        (count,) = struct.unpack_from(layout.counter, data, directory)
        end = begin + count * struct.calcsize(layout.entry)
        if end + struct.calcsize(layout.offset) > len(data):
            return False
        (directory,) = struct.unpack_from(layout.offset, data, end)
    return True


def _entries(data: bytes, at: int, layout: _Layout) -> dict[int, tuple[int, int, bytes]]:
    """Return type, count and raw value or offset of each tag that matters; the first of its kind counts."""
    (count,) = struct.unpack_from(layout.counter, data, at)
    at += struct.calcsize(layout.counter)
    entry_bytes = struct.calcsize(layout.entry)
    if at + count * entry_bytes > len(data):
        raise CorruptImage("the TIFF is cut short")
    found: dict[int, tuple[int, int, bytes]] = {}
    far_bytes = 0
    for n in range(count):
        tag, kind, values, raw = struct.unpack_from(layout.entry, data, at + n * entry_bytes)
        if tag in found or not (tag in _SCALARS or tag in _LISTS):
            continue
        size = values * _TYPE_BYTES.get(kind, 0)
        if size == 0 or (tag in _SCALARS and (values != 1 or kind not in _INTEGERS)):
            if tag == _ORIENTATION:  # the pixels are still good
                continue
            raise CorruptImage(f"the TIFF's tag {tag} is invalid")
        if size > len(raw):
            (begin,) = struct.unpack(layout.offset, raw)
            far_bytes += size
            if begin + size > len(data) or far_bytes > len(data):
                raise CorruptImage("the TIFF is cut short")
        found[tag] = (kind, values, raw)
    return found


def _integer(kind: int, raw: bytes, layout: _Layout) -> int:
    """Return the value of a tag that has one, an integer."""
    value: int = struct.unpack_from(f"{layout.order}{_INTEGERS[kind]}", raw)[0]
    return value


def _shorts(
    data: bytes, entries: dict[int, tuple[int, int, bytes]], tag: int, layout: _Layout
) -> tuple[int, ...]:
    """Return the values of a tag of 16-bit integers; none if it is missing or of another type."""
    kind, count, raw = entries.get(tag, (0, 0, b""))
    if kind != 3:
        return ()
    if 2 * count > len(raw):
        (begin,) = struct.unpack(layout.offset, raw)
        raw = data[begin : begin + 2 * count]
    return struct.unpack_from(f"{layout.order}{count}H", raw)


def _as_nibbles(entries: dict[int, tuple[int, int, bytes]], values: dict[int, int], layout: _Layout) -> None:
    """Describe samples of 12 bits as three of 4, of the same size, which decoders read correctly."""
    entries[_BITS] = (3, 1, struct.pack(f"{layout.order}H", 4).ljust(len(entries[_BITS][2]), b"\0"))
    for tag in (_WIDTH, _TILE_WIDTH):
        if tag in entries:
            raw = struct.pack(f"{layout.order}I", 3 * values[tag]).ljust(len(entries[tag][2]), b"\0")
            entries[tag] = (4, 1, raw)


def _with_wide_palette(data: bytes, entries: dict[int, tuple[int, int, bytes]], layout: _Layout) -> bytes:
    """Return the file with a 16-bit palette appended, if its writer used 8 bits.

    The rule is libtiff's: no colour of a palette that has 16 bits is below 256 throughout.
    """
    colours = _shorts(data, entries, _PALETTE, layout)
    if not colours or max(colours) > 255:
        return data
    data += bytes(len(data) % 2)
    entries[_PALETTE] = (3, len(colours), struct.pack(layout.offset, len(data)))
    return data + struct.pack(f"{layout.order}{len(colours)}H", *(257 * colour for colour in colours))


def _with_directory(data: bytes, entries: dict[int, tuple[int, int, bytes]], layout: _Layout) -> bytes:
    """Return the file with a last directory of these entries, which its header points to."""
    padding = len(data) % 2
    directory = len(data) + padding
    header = 8 if layout.is_big else 4
    return b"".join(
        (
            data[:header],
            struct.pack(layout.offset, directory),
            memoryview(data)[header + struct.calcsize(layout.offset) :],
            bytes(padding),
            struct.pack(layout.counter, len(entries)),
            *(struct.pack(layout.entry, tag, *entries[tag]) for tag in sorted(entries)),
            bytes(struct.calcsize(layout.offset)),
        )
    )
