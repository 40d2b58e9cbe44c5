"""What are the Haar coefficients of a 128 x 128 picture in YIQ?

Float64 throughout, with IQDB's literal constants (DESIGN sections 4.3 and 4.4). Knows no image format. Called by
`iqdb_core.signature` only.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from iqdb_core.model import CHANNELS, SIDE

_STEP = 0.7071


@njit(nogil=True, cache=True)
def to_yiq(small: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Convert 8-bit RGB to YIQ planes."""
    planes = np.empty((CHANNELS, SIDE, SIDE), np.float64)
    for y in range(SIDE):
        for x in range(SIDE):
            red = np.float64(small[y, x, 0])
            green = np.float64(small[y, x, 1])
            blue = np.float64(small[y, x, 2])
            planes[0, y, x] = 0.299 * red + 0.587 * green + 0.114 * blue
            planes[1, y, x] = 0.596 * red - 0.275 * green - 0.321 * blue
            planes[2, y, x] = 0.212 * red - 0.523 * green + 0.311 * blue
    return planes


@njit(nogil=True, cache=True)
def decompose(plane: NDArray[np.float64]) -> None:
    """Turn one plane into its Haar coefficients, in place."""
    line = np.empty(SIDE, np.float64)
    for axis in range(2):
        for n in range(SIDE):
            row = plane[n] if axis == 0 else plane[:, n]
            factor = 1.0
            size = SIDE
            while size > 1:
                factor *= _STEP
                half = size // 2
                for k in range(half):
                    line[k] = row[2 * k] + row[2 * k + 1]
                    line[half + k] = (row[2 * k] - row[2 * k + 1]) * factor
                for k in range(size):
                    row[k] = line[k]
                size = half
            row[0] *= factor
    plane[0, 0] /= 256 * SIDE
