"""Which 40 coefficients of a channel are kept?

The largest by magnitude; among equals the outcome is that of the C++ standard library's heap (DESIGN section
4.5), which decides for flat and synthetic pictures. Called by `iqdb_core.signature` only.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from iqdb_core.model import KEPT, PLANE


@njit(nogil=True, cache=True)
def _sift_up(magnitudes: NDArray[np.float64], positions: NDArray[np.int64], hole: int, m: float, p: int) -> None:
    """Put (m, p) into the hole, moving larger parents down."""
    while hole > 0:
        parent = (hole - 1) // 2
        if not magnitudes[parent] > m:
            break
        magnitudes[hole] = magnitudes[parent]
        positions[hole] = positions[parent]
        hole = parent
    magnitudes[hole] = m
    positions[hole] = p


@njit(nogil=True, cache=True)
def _replace_smallest(magnitudes: NDArray[np.float64], positions: NDArray[np.int64], m: float, p: int) -> None:
    """Drop the root of a full heap and push (m, p)."""
    size = KEPT - 1
    hole = 0
    child = 2
    while child < size:
        if magnitudes[child] > magnitudes[child - 1]:
            child -= 1
        magnitudes[hole] = magnitudes[child]
        positions[hole] = positions[child]
        hole = child
        child = 2 * hole + 2
    if child == size:
        magnitudes[hole] = magnitudes[child - 1]
        positions[hole] = positions[child - 1]
        hole = child - 1
    _sift_up(magnitudes, positions, hole, magnitudes[size], positions[size])
    _sift_up(magnitudes, positions, size, m, p)


@njit(nogil=True, cache=True)
def largest(coefficients: NDArray[np.float64]) -> NDArray[np.int16]:
    """Return the signed positions of the 40 largest coefficients, ascending."""
    magnitudes = np.empty(KEPT, np.float64)
    positions = np.empty(KEPT, np.int64)
    for n in range(KEPT):
        _sift_up(magnitudes, positions, n, abs(coefficients[n + 1]), n + 1)
    for n in range(KEPT + 1, PLANE):
        m = abs(coefficients[n])
        if m > magnitudes[0]:
            _replace_smallest(magnitudes, positions, m, n)
    kept = np.empty(KEPT, np.int16)
    for n in range(KEPT):
        kept[n] = positions[n] if coefficients[positions[n]] > 0 else -positions[n]
    kept.sort()
    return kept
