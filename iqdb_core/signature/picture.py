"""The values passed to and from decoders.

Made by `iqdb_core.signature.decode` and its decoders, used by `iqdb_core.signature`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """Limits of decoding one image.

    Parameters
    ----------
    max_pixels : int
        Limit of width times height, checked against the header before anything is decoded.
    refuse_damaged : bool
        Refuse damaged pictures, instead of reading them as far as possible.

    Notes
    -----
    Peak memory per pixel beside the file itself, measured with Pillow 13: grey, palette and GIF 1 byte;
    colour JPEG, PNG, BMP and TIFF 4; JPEG XL 7; AVIF 9; progressive JPEG 10, of CMYK 12, a damaged one 18;
    WebP 16, a cut one 26. The rest (bands of 2**16 pixels, the kernels' sums) is a few MB for any image. An
    AVIF whose container lies about its size is only stopped by libavif's own limit of 2**28 pixels, 0.5 GB.
    Damaged PNG, GIF and BMP files are held twice; cut PNGs and GIFs whose palette has no room for white take
    4 bytes more.
    """

    max_pixels: int = 100_000_000
    refuse_damaged: bool = False


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded image, upright.

    Parameters
    ----------
    width, height : int
        In pixels.
    bands : iterator of (n, width) uint32 ndarray, read-only
        The rows from the top, on white, in the format of `packed`; each is valid until the next is requested.
        May raise CorruptImage.
    is_damaged : bool
        Whether something is missing that the file should have held; it shows as grey in a JPEG, as the row
        above in an interlaced PNG or GIF, and as white elsewhere.
    """

    width: int
    height: int
    bands: Iterator[NDArray[np.uint32]]
    is_damaged: bool = False


@dataclass(frozen=True, slots=True)
class Loaded:
    """The result of a decoder: a Pillow image, and whether it is complete."""

    image: Image.Image
    is_damaged: bool = False
