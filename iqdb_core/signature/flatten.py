"""What a transparent picture looks like on white.

Integer arithmetic on packed pixels; knows no format. Called by `bands` and the decoder of BMPs.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from iqdb_core.kernel import kernel

_BYTE: Final = np.uint32(255)


@kernel()
def _blend(value: np.uint32, alpha: np.uint32) -> np.uint32:
    """Return (value * alpha + 255 * (255 - alpha)) / 255, rounded to nearest."""
    sum_ = value * alpha + _BYTE * (_BYTE - alpha) + np.uint32(128)
    return (sum_ + (sum_ >> np.uint32(8))) >> np.uint32(8)


@kernel()
def on_white(pixels: NDArray[np.uint32], out: NDArray[np.uint32]) -> None:
    """Flatten RGBA pixels onto white.

    Parameters
    ----------
    pixels : (n, width) uint32 ndarray, C-contiguous, read-only
        Red, green, blue and alpha from the low byte up; colours are not multiplied by alpha.
    out : (n, width) uint32 ndarray, C-contiguous
        Red, green and blue; the high byte is 0. **Changed in place.**
    """
    for y in range(pixels.shape[0]):
        for x in range(pixels.shape[1]):
            pixel = pixels[y, x]
            alpha = pixel >> np.uint32(24)
            red = _blend(pixel & _BYTE, alpha)
            green = _blend((pixel >> np.uint32(8)) & _BYTE, alpha)
            blue = _blend((pixel >> np.uint32(16)) & _BYTE, alpha)
            out[y, x] = red | (green << np.uint32(8)) | (blue << np.uint32(16))


@kernel()
def look_up(indices: NDArray[np.uint8], colours: NDArray[np.uint32], out: NDArray[np.uint32]) -> None:
    """Replace indices by colours.

    Parameters
    ----------
    indices : (n, width) uint8 ndarray, C-contiguous, read-only
    colours : (256,) uint32 ndarray, read-only
    out : (n, width) uint32 ndarray, C-contiguous
        **Changed in place.**
    """
    for y in range(indices.shape[0]):
        for x in range(indices.shape[1]):
            out[y, x] = colours[indices[y, x]]
