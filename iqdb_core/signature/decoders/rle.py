"""Unpacks the run-length codes of a BMP.

Called by `bmp`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from iqdb_core.kernel import kernel


@kernel()
def unpack_rle(packed: NDArray[np.uint8], bits: int, out: NDArray[np.uint16]) -> int:  # noqa: C901 - one loop with its cases is what gets compiled
    """Unpack run-length codes of a BMP.

    Parameters
    ----------
    packed : (n,) uint8 ndarray, read-only
    bits : int
        4 or 8 per pixel.
    out : (height, width) uint16 ndarray
        Indices; pixels that the codes leave out keep their value. **Changed in place.**

    Returns
    -------
    int
        How many rows there are; all of them if there is an end marker.
    """
    height, width = out.shape
    x, y, at = 0, 0, 0
    while at + 1 < len(packed) and y < height:
        count, value = np.int64(packed[at]), np.int64(packed[at + 1])
        at += 2
        if count > 0:
            for k in range(count):
                if x < width:
                    nibble = value >> 4 if k % 2 == 0 else value & 15
                    out[y, x] = value if bits == 8 else nibble
                    x += 1
        elif value == 0:
            x = 0
            y += 1
        elif value == 1:
            return height
        elif value == 2:
            if at + 1 >= len(packed):
                break
            x += np.int64(packed[at])
            y += np.int64(packed[at + 1])
            at += 2
        else:
            for k in range(value):
                place = at + (k if bits == 8 else k // 2)
                if place >= len(packed):
                    return y
                if x < width:
                    byte = np.int64(packed[place])
                    nibble = byte >> 4 if k % 2 == 0 else byte & 15
                    out[y, x] = byte if bits == 8 else nibble
                    x += 1
            size = value if bits == 8 else (value + 1) // 2
            at += size + size % 2
    return min(height, y + 1) if x >= width and y < height else min(height, y)
