"""A WebP whose pixels end early.

The decoder accepts only complete files. So the file is filled up in several ways, and the rows that are equal
in all results come from its own data, because decoders of both kinds of WebP work from the top. Called by
`iqdb_core.signature.decode`.

References
----------
RFC 9649, sections 2.3 to 2.6; RFC 6386, section 9.5.
"""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.WebPImagePlugin import WebPImageFile

from iqdb_core.errors import CorruptImage
from iqdb_core.signature.container import Still
from iqdb_core.signature.decoders.failure import BAD_FILE
from iqdb_core.signature.picture import Loaded

_NOISE_BYTES: Final = 4099
_RANDOM_FILLINGS: Final = 32
"""A lossless file accepts about every second one, at a bad place one in ten."""
_MOST_PIXELS: Final = 40_000_000
"""Fillings are tried until this many pixels were decoded, and at least `_FEWEST`."""
_FEWEST: Final = 5
_ENOUGH: Final = 3
"""Pictures to compare. The decoder refuses the file with some of the fillings."""
_TIMES: Final = 4
_LEAST: Final = 65_536
_WHITE: Final = (255, 255, 255, 255)


def load(still: Still) -> Loaded:
    """Decode a truncated WebP, with white in place of missing rows.

    Raises
    ------
    CorruptImage
        Less than half of the rows are there, or it is unknown how many are.
    """
    if still.pixels_begin == 0:
        whole = WebPImageFile(io.BytesIO(still.data))
        whole.load()
        return Loaded(whole, is_damaged=True)
    pictures = _pictures(still)
    pixels = next(pictures, None)
    if pixels is None:
        raise CorruptImage("the WebP is cut short")
    rows, compared = len(pixels), 1
    for others in pictures:
        if others.shape != pixels.shape:
            raise CorruptImage("the WebP contradicts itself about its size")
        rows = _shared_rows(pixels[:rows], others)
        compared += 1
        if compared == _ENOUGH:
            break
    if compared < _ENOUGH:
        raise CorruptImage("the WebP is damaged, and where its readable part ends is unknown")
    if 2 * rows < len(pixels):
        raise CorruptImage("the WebP is damaged: less than half of its rows are there")
    image = Image.fromarray(pixels)
    image.paste(_WHITE[: len(image.getbands())], (0, rows, image.width, image.height))
    return Loaded(image, is_damaged=True)


def _shared_rows(pixels: NDArray[np.uint8], others: NDArray[np.uint8]) -> int:
    """Return how many rows from the top are equal in both, at most the number of the first."""
    for row in range(len(pixels)):
        if not np.array_equal(pixels[row], others[row]):
            return row
    return len(pixels)


def _pictures(still: Still) -> Iterator[NDArray[np.uint8]]:
    """Yield the decoded pixels of the file with each filling in turn."""
    begin = still.pixels_begin
    there = len(still.data) - begin
    size = there + (_TIMES * there + _LEAST & ~1)
    size += size & 1
    n_pixels = math.prod(still.canvas or (_MOST_PIXELS,))
    for number in range(max(_FEWEST, min(_RANDOM_FILLINGS, _MOST_PIXELS // n_pixels))):
        filling = _filling(number)
        filled = size - there
        data = b"".join(
            (
                still.data[:4],
                struct.pack("<I", begin + size - 8),
                still.data[8 : begin - 4],
                struct.pack("<I", size),
                still.data[begin:],
                (filling * (filled // len(filling) + 1))[:filled],
            )
        )
        try:
            pixels = _decoded(data)
        except BAD_FILE:
            continue
        yield pixels


def _filling(number: int) -> bytes:
    """Return the bytes that a file is filled up with, repeatedly; the first filling is zeros."""
    if number == 0:
        return b"\0"
    return np.random.default_rng(number).integers(0, 256, _NOISE_BYTES, np.uint8).tobytes()


def _decoded(data: bytes) -> NDArray[np.uint8]:
    """Return only the pixels: the decoder itself keeps as much memory again for further frames."""
    with WebPImageFile(io.BytesIO(data)) as image:
        return np.array(image)
