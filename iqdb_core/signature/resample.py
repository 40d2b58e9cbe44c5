"""How does a picture of any size become 128 x 128 pixels, to the bit as IQDB does it?

Area average in float32 with the order of operations fixed (DESIGN section 4.2). Never decodes and never converts
colours. Called by `iqdb_core.signature` only.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from iqdb_core.model import SIDE

_HALF = np.float32(0.5)
_ONE = np.float32(1)
_OPAQUE = np.float32(127)
_TOP = np.float32(255)


@njit(nogil=True, cache=True)
def overlaps(length: int) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
    """Say how each of 128 output cells covers the source positions of one axis."""
    bounds = np.empty((SIDE, 2), np.int64)
    first = np.empty(SIDE, np.float32)
    last = np.empty(SIDE, np.float32)
    for cell in range(SIDE):
        start = np.float32(cell * length) / np.float32(SIDE)
        end = np.float32((cell + 1) * length) / np.float32(SIDE)
        low = np.float32(np.floor(start))
        high = np.float32(np.floor(end))
        bounds[cell, 0] = np.int64(low)
        bounds[cell, 1] = np.int64(np.ceil(end))
        first[cell] = min(_ONE - (start - low), end - start)
        last[cell] = end - high if high < end else _ONE
    return bounds, first, last


@njit(nogil=True, cache=True)
def area_average(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Average a picture down (or up) to 128 x 128."""
    height, width = pixels.shape[0], pixels.shape[1]
    columns, column_first, column_last = overlaps(width)
    rows, row_first, row_last = overlaps(height)
    small = np.empty((SIDE, SIDE, 3), np.uint8)
    for row in range(SIDE):
        top, bottom = rows[row, 0], rows[row, 1]
        for column in range(SIDE):
            left, right = columns[column, 0], columns[column, 1]
            red = green = blue = opacity = area = np.float32(0)
            for y in range(top, bottom):
                overlap_y = row_first[row] if y == top else (row_last[row] if y == bottom - 1 else _ONE)
                for x in range(left, right):
                    overlap_x = (
                        column_first[column] if x == left else (column_last[column] if x == right - 1 else _ONE)
                    )
                    p = overlap_x * overlap_y
                    a = _OPAQUE * p
                    red += np.float32(pixels[y, x, 0]) * a
                    green += np.float32(pixels[y, x, 1]) * a
                    blue += np.float32(pixels[y, x, 2]) * a
                    opacity += a
                    area += p
            share = opacity / area
            small[row, column, 0] = np.uint8(min((red / area) / share + _HALF, _TOP))
            small[row, column, 1] = np.uint8(min((green / area) / share + _HALF, _TOP))
            small[row, column, 2] = np.uint8(min((blue / area) / share + _HALF, _TOP))
    return small
