"""A small picture of an image file, as a JPEG.

Decodes as for a signature: whatever can be searched can be shown, within the same limits. Never holds the
whole picture beside the decoder's own copy. Called where files are shown.
"""

from __future__ import annotations

import io
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from iqdb_core.signature.decode import decode
from iqdb_core.signature.decoders.failure import memory_errors
from iqdb_core.signature.picture import DecodeLimits, Picture

_QUALITY: Final = 82
_OVERSIZE: Final = 2
"""Sides are first divided by a whole number, down to about this many times the wanted size."""


def thumbnail(data: bytes, side: int, *, limits: DecodeLimits) -> bytes:
    """Return a small JPEG of an image file: the first frame, upright, on white.

    Parameters
    ----------
    data : bytes
        Any file that `read_image` reads.
    side : int
        Longest side of the result, pixels. A smaller picture keeps its size.
    limits : DecodeLimits
        What the image may cost.

    Raises
    ------
    UnsupportedFormat, CorruptImage, ImageTooLarge, OutOfMemory
        As `read_image`.
    """
    with memory_errors():
        return _made(decode(data, limits), side)


def _made(picture: Picture, side: int) -> bytes:
    """Return a small JPEG of a picture."""
    longest = max(picture.width, picture.height)
    share = min(1.0, side / longest)
    width, height = max(1, round(picture.width * share)), max(1, round(picture.height * share))
    image = Image.fromarray(_divided(picture, max(1, longest // (_OVERSIZE * side))))
    file = io.BytesIO()
    image.resize((width, height), Image.Resampling.LANCZOS).save(
        file, "JPEG", quality=_QUALITY, progressive=True
    )
    return file.getvalue()


def _divided(picture: Picture, divisor: int) -> NDArray[np.uint8]:
    """Return the picture with every square of `divisor` pixels made one, the mean of it.

    Returns
    -------
    (height, width, 3) uint8 ndarray
        Lengths are divided and rounded up; squares at the right and the bottom may be cut.
    """
    across, down = -(-picture.width // divisor), -(-picture.height // divisor)
    sums = np.zeros((down, across, 3), np.uint32)
    starts = np.arange(0, picture.width, divisor)
    top = 0
    for band in picture.bands:
        pixels = band.view(np.uint8).reshape(*band.shape, 4)[..., :3]
        if divisor == 1:
            sums[top : top + len(band)] = pixels
        else:
            # Columns first: what is left is small.
            columns = np.add.reduceat(pixels, starts, axis=1, dtype=np.uint32)
            np.add.at(sums, (top + np.arange(len(band))) // divisor, columns)
        top += len(band)
    widths = np.minimum(divisor, picture.width - starts)
    heights = np.minimum(divisor, picture.height - np.arange(0, picture.height, divisor))
    counts = (heights[:, None] * widths)[..., None].astype(np.uint32)
    return ((sums + counts // 2) // counts).astype(np.uint8)
