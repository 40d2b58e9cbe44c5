"""A PNG whose compressed data may end early or be damaged.

Complete files are left to Pillow. Of others, the existing rows are inflated, missing rows become white (in an
interlaced picture copies of those above), and Pillow decodes the result. Called by
`iqdb_core.signature.decode`.
"""

from __future__ import annotations

import io
import random
import struct
import zlib
from dataclasses import dataclass
from typing import Final

from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from iqdb_core.errors import CorruptImage
from iqdb_core.signature.container import Still
from iqdb_core.signature.container.png import MAGIC, chunk
from iqdb_core.signature.decoders.failure import BAD_FILE
from iqdb_core.signature.picture import Loaded

_SAMPLES: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Samples per pixel, by colour type."""
_PALETTE: Final = 3
_FILTERS: Final = 5
_PASSES: Final = (
    (0, 8, 0, 8),
    (4, 8, 0, 8),
    (0, 4, 4, 8),
    (2, 4, 0, 4),
    (0, 2, 2, 4),
    (1, 2, 0, 2),
    (0, 1, 1, 2),
)
"""First column, step, first row and step of each pass of an interlaced picture."""
_PATTERN: Final = random.Random(1).randbytes(1021)
_PIECE_BYTES: Final = 4096
_WHITE: Final = b"\xff\xff\xff"


@dataclass(frozen=True, slots=True)
class _Header:
    """The header chunk."""

    width: int
    height: int
    bits: int
    colours: int
    is_interlaced: bool

    def row_bytes(self, width: int) -> int:
        """Return the length of a row in bytes, including the number of its filter."""
        return 1 + (width * self.bits * _SAMPLES.get(self.colours, 1) + 7) // 8

    def passes(self) -> list[tuple[int, int]]:
        """Return bytes per row and rows of each part of the data, in order."""
        if not self.is_interlaced:
            return [(self.row_bytes(self.width), self.height)]
        sizes = [
            (-(-(self.width - left) // across), -(-(self.height - top) // down))
            for left, across, top, down in _PASSES
        ]
        return [(self.row_bytes(width), rows) for width, rows in sizes if width > 0 and rows > 0]


def load(still: Still) -> Loaded:
    """Decode a PNG; raises Pillow's errors if it cannot be repaired."""
    try:
        image = PngImageFile(io.BytesIO(still.data))
        _mark_last_rows(image)
        image.load()
    except BAD_FILE:
        return _mended(still)
    if _has_marked_rows(image) and len(_inflated(still)) < sum(
        size * rows for size, rows in _header(still).passes()
    ):
        return _mended(still)
    return Loaded(image, still.is_cut)


def _header(still: Still) -> _Header:
    width, height, bits, colours, _, _, interlace = struct.unpack_from(">IIBBBBB", still.data, len(MAGIC) + 8)
    return _Header(width, height, bits, colours, bool(interlace))


def _mark_last_rows(image: PngImageFile) -> None:
    """Fill the last two rows with a pattern, because Pillow does not report missing data for them."""
    fresh = Image.new(image.mode, image.size)
    for row in range(max(0, image.height - 2), image.height):
        fresh.paste(_marked(image), (0, row))
    image.im = fresh.im


def _has_marked_rows(image: Image.Image) -> bool:
    """Return whether one of the last two rows still has the pattern; a narrow picture may by chance."""
    mark = _marked(image).tobytes()
    return any(
        image.crop((0, row, image.width, row + 1)).tobytes() == mark
        for row in range(max(0, image.height - 2), image.height)
    )


def _marked(image: Image.Image) -> Image.Image:
    """Return a row of an irregular pattern."""
    row = Image.new(image.mode, (image.width, 1))
    size = len(row.tobytes())
    row.frombytes((_PATTERN * (size // len(_PATTERN) + 1))[:size])
    return row


def _inflated(still: Still) -> bytearray:
    """Return as much inflated image data as possible, at most that of a whole picture.

    The stream's own checksum and header are ignored.
    """
    wanted = sum(size * rows for size, rows in _header(still).passes())
    (length,) = struct.unpack_from(">I", still.data, still.pixels_begin - 8)
    compressed = memoryview(still.data)[still.pixels_begin + 2 : still.pixels_begin + length]
    out = bytearray()
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    fed = _feed(stream, compressed, wanted, out, _PIECE_BYTES)
    if fed < len(compressed) and len(out) < wanted and not stream.eof:
        # Repeat up to the piece that failed, then byte by byte, because a failing call loses its output.
        out.clear()
        stream = zlib.decompressobj(-zlib.MAX_WBITS)
        _feed(stream, compressed[:fed], wanted, out, _PIECE_BYTES)
        _feed(stream, compressed[fed : fed + _PIECE_BYTES], wanted, out, 1)
    return out


def _feed(stream: zlib._Decompress, compressed: memoryview, wanted: int, out: bytearray, piece: int) -> int:
    """Inflate until there is enough, or an error; return the number of bytes consumed before it."""
    for begin in range(0, len(compressed), piece):
        try:
            out += stream.decompress(compressed[begin : begin + piece], max(1, wanted - len(out)))
        except zlib.error:
            return begin
        if len(out) >= wanted or stream.eof:
            break
    return len(compressed)


def _mended(still: Still) -> Loaded:
    """Decode with white in place of the rows that are missing."""
    header = _header(still)
    parts = header.passes()
    raw = _inflated(still)
    rows = _rows_in(raw, parts)
    present, whole = sum(rows), sum(count for _, count in parts)
    if header.is_interlaced:
        # All passes but the last make up every other row.
        present = header.height // 2 + rows[-1] if rows[:-1] == [count for _, count in parts[:-1]] else 0
        whole = header.height
    if 2 * present < whole - 1:
        raise CorruptImage("the PNG is damaged: less than half of its rows are there")
    colours, blank, has_white = _with_white(still, header)
    done = sum(size * there for (size, _), there in zip(parts, rows, strict=True))
    del raw[done:]
    for (size, count), there in zip(parts, rows, strict=True):
        raw += (b"\0" + blank * (size - 1)) * (count - there)
    data = b"".join(
        (still.data[: len(MAGIC) + 25], colours, chunk(b"IDAT", zlib.compress(raw, 0)), chunk(b"IEND", b""))
    )
    image = PngImageFile(io.BytesIO(data))
    image.load()
    if header.is_interlaced:
        for row in range(1 + 2 * rows[-1], header.height, 2):
            image.paste(image.crop((0, row - 1, header.width, row)), (0, row))
    elif not has_white:
        converted = image.convert("RGBA" if "transparency" in image.info else "RGB")
        converted.paste("white", (0, rows[0], header.width, header.height))
        return Loaded(converted, is_damaged=True)
    return Loaded(image, is_damaged=True)


def _rows_in(raw: bytearray, parts: list[tuple[int, int]]) -> list[int]:
    """Return how many rows of each part are complete and have a valid filter, up to the first gap."""
    rows = []
    begin = 0
    for size, count in parts:
        there = min(count, max(0, len(raw) - begin) // size)
        filters = raw[begin : begin + there * size : size]
        bad = next((n for n, number in enumerate(filters) if number >= _FILTERS), there)
        rows.append(bad)
        if bad < count:
            break
        begin += count * size
    return rows + [0] * (len(parts) - len(rows))


def _with_white(still: Still, header: _Header) -> tuple[bytes, bytes, bool]:
    """Return the chunks that describe colours, a byte for white pixels, and whether it is really white.

    If a palette has no free entry for white, the byte stands for its brightest colour.
    """
    begin, end = len(MAGIC) + 25, still.pixels_begin - 8
    colours = still.data[begin:end]
    if header.colours != _PALETTE:
        return colours, b"\xff", True
    (length,) = struct.unpack_from(">I", colours) if colours[4:8] == b"PLTE" else (0,)
    palette = colours[8 : 8 + length][: 3 << header.bits]
    if len(palette) // 3 < 1 << header.bits:
        palette += _WHITE
        colours = chunk(b"PLTE", palette) + colours[length + 12 :]
        index = len(palette) // 3 - 1
    else:
        index = max(range(len(palette) // 3), key=lambda n: sum(palette[3 * n : 3 * n + 3]))
    repeated = 0
    for _ in range(8 // header.bits):
        repeated = repeated << header.bits | index
    return colours, bytes((repeated & 255,)), palette[3 * index : 3 * index + 3] == _WHITE
