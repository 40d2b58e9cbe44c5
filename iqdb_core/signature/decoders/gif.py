"""A GIF whose compressed data may end early or be damaged.

Complete files are left to Pillow. Of others, the pixels up to the damage are unpacked here, as browsers show
them. Called by `iqdb_core.signature.decode`.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.GifImagePlugin import GifImageFile

from iqdb_core.errors import CorruptImage
from iqdb_core.forms import two_forms
from iqdb_core.signature.container import Still
from iqdb_core.signature.decoders.failure import BAD_FILE
from iqdb_core.signature.picture import Loaded

_HAS_PALETTE: Final = 0x80
_IS_INTERLACED: Final = 0x40
_GLOBAL_PALETTE: Final = 13
_DESCRIPTOR_BYTES: Final = 10
_CONTROL_BYTES: Final = 8
_PASSES: Final = ((0, 8), (4, 8), (2, 4), (1, 2))
"""First row and step of each pass of an interlaced picture."""

unpack_lzw: Final[Callable[[NDArray[np.uint8], int, NDArray[np.uint8]], int]] = two_forms(
    compiled="iqdb_core.signature.decoders.lzw:unpack_lzw", plain=None
)
"""See `lzw`."""


def load(still: Still) -> Loaded:
    """Decode a GIF; raises Pillow's errors if it cannot be repaired."""
    try:
        image = GifImageFile(io.BytesIO(still.data))
        image.load()
    except BAD_FILE:
        return _mended(still)
    last = image.crop((0, image.height - 1, image.width, image.height))
    # Pillow leaves a last row of zeros if the data ends early; good pictures may have one too.
    if last.getbbox(alpha_only=False) is None and _unpacked(still)[1] < image.width * image.height:
        return _mended(still)
    return Loaded(image, still.is_cut)


def _mended(still: Still) -> Loaded:
    """Show the rows that are there, and transparency or white in place of the others."""
    data = still.data
    width, height = (int.from_bytes(data[at : at + 2], "little") for at in (6, 8))
    pixels, count = _unpacked(still)
    rows = count // width
    if 2 * rows < height:
        raise CorruptImage("the GIF is damaged: less than half of its rows are there")
    colours, transparent = _colours(still)
    blank = transparent
    if blank is None and len(colours) < 3 * 256:
        blank = len(colours) // 3
        colours += b"\xff\xff\xff"
    pixels = pixels.reshape(height, width)
    pixels[rows:] = blank or 0
    if _flags(still) & _IS_INTERLACED:
        pixels = _deinterlaced(pixels, rows)
    image = Image.frombytes("P", (width, height), pixels.tobytes())
    image.putpalette(colours)
    if transparent is not None:
        image.info["transparency"] = transparent
    if blank is None and not _flags(still) & _IS_INTERLACED:
        image = image.convert("RGB")
        image.paste("white", (0, rows, width, height))
    return Loaded(image, is_damaged=True)


def _flags(still: Still) -> int:
    """Return the flags of the frame's descriptor, which may be followed by colours of its own."""
    begin = _GLOBAL_PALETTE + _palette_bytes(still.data[10])
    if still.data[begin : begin + 1] == b"!":
        begin += _CONTROL_BYTES
    return still.data[begin + _DESCRIPTOR_BYTES - 1]


def _palette_bytes(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & _HAS_PALETTE else 0


def _colours(still: Still) -> tuple[bytes, int | None]:
    """Return the frame's colours, and which of them stands for transparency."""
    data = still.data
    end = _GLOBAL_PALETTE + _palette_bytes(data[10])
    colours = data[_GLOBAL_PALETTE:end]
    transparent = data[end + 6] if data[end : end + 1] == b"!" and data[end + 3] & 1 else None
    own = _palette_bytes(_flags(still))
    if own:
        colours = data[still.pixels_begin - own : still.pixels_begin]
    if not colours:
        colours = bytes(np.repeat(np.arange(256, dtype=np.uint8), 3))
    return colours, transparent


def _deinterlaced(pixels: NDArray[np.uint8], rows: int) -> NDArray[np.uint8]:
    """Put rows in their places; a missing row is a copy of the one above it."""
    height = len(pixels)
    order = [row for first, step in _PASSES for row in range(first, height, step)]
    out = np.empty_like(pixels)
    out[order] = pixels
    there = set(order[:rows])
    for row in range(1, height):
        if row not in there:
            out[row] = out[row - 1]
    return out


def _unpacked(still: Still) -> tuple[NDArray[np.uint8], int]:
    """Return the frame's indices in the order of the file, and how many there are before the data ends."""
    data = still.data
    width, height = (int.from_bytes(data[at : at + 2], "little") for at in (6, 8))
    out = np.zeros(width * height, np.uint8)
    bits = data[still.pixels_begin] if still.pixels_begin < len(data) else 0
    if not 1 <= bits <= 8:
        return out, 0
    blocks = []
    position = still.pixels_begin + 1
    while position < len(data) and data[position]:
        blocks.append(data[position + 1 : position + 1 + data[position]])
        position += 1 + data[position]
    return out, unpack_lzw(np.frombuffer(b"".join(blocks), np.uint8), bits, out)
