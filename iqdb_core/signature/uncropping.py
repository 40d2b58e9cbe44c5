"""Guesses of the larger picture that a picture was cut out of.

What was cut off is not known, so the outermost pixels are repeated in its place. Such rows and columns hold
few large coefficients. What is left of the picture is then where it is in the larger one, and shares its
coefficients. Works on pictures that are shrunk already. Called by `iqdb_core.signature` only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from iqdb_core.model import SIDE, Rectangle
from iqdb_core.signature.arithmetic import create_shrinking

_MARGINS: Final = tuple(
    tuple(width * is_cut for is_cut in sides)
    for widths, cuts in (
        ((16, 26, 43), [(1, 1, 1, 1)]),
        ((18, 36), [(1, 0, 1, 0), (0, 1, 0, 1)]),
        ((26, 55), [(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)]),
    )
    for width in widths
    for sides in cuts
)
"""What may be missing left, above, right and below, in 128ths of the picture: 10, 14 or 20 % of the larger
picture on all sides, 11 or 18 % on two opposite ones, 17 or 30 % on one. Chosen among 43 such guesses, on
random crops of 61 pictures; the 20 % on those of 43."""


def uncropped(
    small: NDArray[np.uint8], width: int, height: int
) -> Iterator[tuple[Rectangle, NDArray[np.uint8]]]:
    """Yield the pictures that a picture may be a piece of.

    Parameters
    ----------
    small : (3, 128, 128) uint8 ndarray
        The picture, planes of red, green and blue.
    width, height : int
        Its size before it was shrunk, in pixels.

    Yields
    ------
    place : Rectangle
        Where the larger picture is, in pixels from the upper left corner of the picture.
    larger : (3, 128, 128) uint8 ndarray
    """
    red, green, blue = small.astype(np.uint32)
    pixels = red | green << np.uint32(8) | blue << np.uint32(16)
    for left, above, right, below in _MARGINS:
        padded = np.pad(pixels, ((above, below), (left, right)), mode="edge")
        padded.flags.writeable = False
        shrinking = create_shrinking(padded.shape[1], padded.shape[0])
        shrinking.add(padded)
        # Rounded up: also of a tiny picture the larger one is larger.
        x, y = -(-left * width // SIDE), -(-above * height // SIDE)
        across, down = -(-right * width // SIDE), -(-below * height // SIDE)
        yield Rectangle(-x, -y, x + width + across, y + height + down), shrinking.small()
