"""The Haar coefficients of a 128 x 128 picture in YIQ.

Float64 throughout, with IQDB's literal constants. Knows no image format. Called by `iqdb_core.signature`
only.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from iqdb_core.kernel import kernel
from iqdb_core.model import CHANNELS, SIDE

_SHRINK: Final = 0.7071
"""Factor per level: IQDB's literal for the root of one half, whose missing digits matter."""
_AVERAGE_SCALE: Final = 256 * SIDE


@kernel(allocates=True)
def coefficients(small: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Convert 8-bit RGB to YIQ and decompose each channel.

    Parameters
    ----------
    small : (3, 128, 128) uint8 ndarray, C-contiguous
        Red, green and blue planes.

    Returns
    -------
    (3, 128, 128) float64 ndarray
        Y, I and Q; row and column 0 are the coarsest. Element (0, 0) of a channel is its average: Y 0..1, I
        and Q within -0.6..0.6.

    References
    ----------
    Jacobs, Finkelstein, Salesin, "Fast Multiresolution Image Querying", SIGGRAPH 1995, section 3: the
    standard two-dimensional decomposition, all rows and then all columns. The constants are danbooru/iqdb's.
    """
    planes = np.empty((CHANNELS, SIDE, SIDE), np.float64)
    by_rows = np.empty((SIDE, SIDE), np.float64)
    _to_yiq(small, planes)
    for channel in range(CHANNELS):
        _decompose_rows(planes[channel], by_rows)
        _decompose_columns(by_rows, planes[channel])
        planes[channel, 0, 0] /= _AVERAGE_SCALE
    return planes


@kernel()
def _to_yiq(small: NDArray[np.uint8], planes: NDArray[np.float64]) -> None:
    """Write the YIQ planes of a picture into `planes`."""
    for y in range(SIDE):
        for x in range(SIDE):
            red = np.float64(small[0, y, x])
            green = np.float64(small[1, y, x])
            blue = np.float64(small[2, y, x])
            planes[0, y, x] = 0.299 * red + 0.587 * green + 0.114 * blue
            planes[1, y, x] = 0.596 * red - 0.275 * green - 0.321 * blue
            planes[2, y, x] = 0.212 * red - 0.523 * green + 0.311 * blue


@kernel()
def _decompose_rows(plane: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    """Decompose every row of `plane` into the same row of `out`; `plane` is destroyed."""
    for y in range(SIDE):
        sums = plane[y]
        row = out[y]
        factor = 1.0
        half = SIDE
        while half > 1:
            half //= 2
            factor *= _SHRINK
            for k in range(half):
                left = sums[2 * k]
                right = sums[2 * k + 1]
                row[half + k] = (left - right) * factor
                sums[k] = left + right
        row[0] = sums[0] * factor


@kernel()
def _decompose_columns(plane: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    """Decompose every column of `plane` into the same column of `out`; `plane` is destroyed.

    Goes through whole rows at a time: strides along columns would miss the cache at every step.
    """
    factor = 1.0
    half = SIDE
    while half > 1:
        half //= 2
        factor *= _SHRINK
        for k in range(half):
            for x in range(SIDE):
                upper = plane[2 * k, x]
                lower = plane[2 * k + 1, x]
                out[half + k, x] = (upper - lower) * factor
                plane[k, x] = upper + lower
    for x in range(SIDE):
        out[0, x] = plane[0, x] * factor
