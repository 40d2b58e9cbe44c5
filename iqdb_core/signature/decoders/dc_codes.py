"""Decodes the averages of blocks from the first scan of a progressive JPEG.

Called by `dc_scans`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from iqdb_core.kernel import kernel


@kernel()
def read_averages(
    packed: NDArray[np.uint8],
    tables: NDArray[np.uint16],
    owners: NDArray[np.int64],
    last: NDArray[np.int64],
    out: NDArray[np.int32],
) -> int:
    """Read the averages of a scan, or of a part of it between restarts.

    Parameters
    ----------
    packed : (n,) uint8 ndarray, read-only
        The bits, without stuffing.
    tables : (components, 65536) uint16 ndarray
        For every 16 bits the length of the code that they begin with, times 256, plus its category; 0 for
        none.
    owners : (blocks,) int64 ndarray
        For each block of a group its component.
    last : (components,) int64 ndarray
        The averages before the first ones, 0 at the beginning and after a restart. **Changed in place.**
    out : (groups * blocks,) int32 ndarray
        Zeros. **Changed in place.** What follows the first group that is not whole stays as it is; in that
        group, zeros stand for the bits that are missing.

    Returns
    -------
    int
        How many groups are complete; -1 if a code is invalid.
    """
    ends = 8 * len(packed)
    at = 0
    group = 0
    while group * len(owners) < len(out):
        for block in range(len(owners)):
            own = owners[block]
            window = 0
            for byte in range(at >> 3, (at >> 3) + 5):
                window = window << 8 | (int(packed[byte]) if byte < len(packed) else 0)
            window = window << (at & 7) & 0xFFFFFFFFFF
            entry = int(tables[own, window >> 24])
            length = entry >> 8
            category = entry & 255
            if length == 0 or category > 15:
                return -1
            step = 0
            if category > 0:
                step = window >> (40 - length - category) & ((1 << category) - 1)
                if step < 1 << (category - 1):
                    step -= (1 << category) - 1
            at += length + category
            last[own] += step
            if abs(last[own]) > 1 << 24:
                return -1
            out[group * len(owners) + block] = last[own]
        if at > ends:
            return group
        group += 1
    return group
