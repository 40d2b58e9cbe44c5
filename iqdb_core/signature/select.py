"""Selects the 40 largest coefficients of a channel, by magnitude.

Among equal ones, the result is that of the C++ standard library's heap as in libstdc++. This matters for flat
and synthetic pictures. Called by `iqdb_core.signature` only.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from iqdb_core.kernel import kernel
from iqdb_core.model import CHANNELS, KEPT, PLANE

_BLOCK: Final = 64
"""Coefficients that are compared with the smallest kept one at once; nearly all blocks are skipped."""


@kernel(allocates=True)
def signed_positions(planes: NDArray[np.float64]) -> NDArray[np.int16]:
    """Return the positions of the largest coefficients, with the coefficients' signs.

    Parameters
    ----------
    planes : (3, 128, 128) float64 ndarray, C-contiguous
        Coefficients per channel; element (0, 0) takes no part.

    Returns
    -------
    (3, 40) int16 ndarray
        Positions 1..16383, positive where the coefficient is greater than 0 and otherwise negated, ascending.

    Notes
    -----
    A heap of 40, its root the smallest magnitude. Positions 1..40 enter first; each later one replaces the
    root if it is strictly larger.
    """
    kept = np.empty((CHANNELS, KEPT), np.int16)
    sizes = np.empty(KEPT, np.float64)
    positions = np.empty(KEPT, np.int64)
    for channel in range(CHANNELS):
        flat = planes[channel].reshape(PLANE)
        for n in range(KEPT):
            _push(sizes, positions, n, abs(flat[n + 1]), n + 1)
        for begin in range(0, PLANE, _BLOCK):
            found = False
            for n in range(begin, begin + _BLOCK):
                found |= abs(flat[n]) > sizes[0]
            if found:
                for n in range(max(begin, KEPT + 1), begin + _BLOCK):
                    if abs(flat[n]) > sizes[0]:
                        _replace_root(sizes, positions, abs(flat[n]), n)
        for n in range(KEPT):
            kept[channel, n] = positions[n] if flat[positions[n]] > 0 else -positions[n]
        kept[channel].sort()
    return kept


@kernel()
def _push(
    sizes: NDArray[np.float64], positions: NDArray[np.int64], hole: int, size: float, position: int
) -> None:
    """Fill the hole with an element, after moving its larger ancestors down."""
    while hole > 0:
        parent = (hole - 1) // 2
        if not sizes[parent] > size:
            break
        sizes[hole] = sizes[parent]
        positions[hole] = positions[parent]
        hole = parent
    sizes[hole] = size
    positions[hole] = position


@kernel()
def _replace_root(
    sizes: NDArray[np.float64], positions: NDArray[np.int64], size: float, position: int
) -> None:
    """Pop the root of a full heap, then push an element.

    Popping moves the hole at the root all the way down along the smaller children, the right one if they are
    equal, and then lets the last element rise from there. A heap that stops on the way down keeps the same
    magnitudes but not the same positions among equals.
    """
    last = KEPT - 1
    hole = 0
    child = 2
    while child < last:
        if sizes[child] > sizes[child - 1]:
            child -= 1
        sizes[hole] = sizes[child]
        positions[hole] = positions[child]
        hole = child
        child = 2 * hole + 2
    if child == last:
        sizes[hole] = sizes[last - 1]
        positions[hole] = positions[last - 1]
        hole = last - 1
    _push(sizes, positions, hole, sizes[last], positions[last])
    _push(sizes, positions, last, size, position)
