"""The order of images in a segment: neighbours in colour, so that whole vectors can be skipped.

Grey images come first; each kind is halved repeatedly along the average that varies most, at whole vectors,
like a k-d tree (Bentley, "Multidimensional Binary Search Trees Used for Associative Searching", 1975). Never
looks at positions. Called by `build`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from iqdb_core.index.segment.layout import VECTOR_IMAGES
from iqdb_core.index.segment.weights import AVERAGE_WEIGHTS
from iqdb_core.kernel import kernel
from iqdb_core.model import CHANNELS

if TYPE_CHECKING:
    from numpy.typing import NDArray

_STACK = 64
"""Halving 65,536 images down to vectors nests 7 deep."""


@kernel(allocates=True)
def order_by_colour(
    averages: NDArray[np.float32], is_grey: NDArray[np.bool_]
) -> tuple[NDArray[np.int32], int]:
    """Return the image of each slot, and how many of the first slots hold grey images.

    Parameters
    ----------
    averages : (n, 3) float32 ndarray
        Finite.
    is_grey : (n,) bool ndarray

    Returns
    -------
    (n,) int32 ndarray, int
    """
    n = averages.shape[0]
    order = np.empty(n, np.int32)
    n_grey = 0
    for image in range(n):
        if is_grey[image]:
            order[n_grey] = image
            n_grey += 1
    end = n_grey
    for image in range(n):
        if not is_grey[image]:
            order[end] = image
            end += 1
    keys = np.empty(n, np.float32)
    _halve_all(averages, order, keys, 0, n_grey)
    _halve_all(averages, order, keys, n_grey, n)
    return order, n_grey


@kernel(allocates=True)
def _halve_all(
    averages: NDArray[np.float32], order: NDArray[np.int32], keys: NDArray[np.float32], start: int, stop: int
) -> None:
    """Order slots start..stop (exclusive) so that each vector is one leaf of the halving."""
    starts = np.empty(_STACK, np.int64)
    stops = np.empty(_STACK, np.int64)
    starts[0] = start
    stops[0] = stop
    depth = 1
    while depth > 0:
        depth -= 1
        low = starts[depth]
        high = stops[depth]
        middle = ((low + high) // 2 + VECTOR_IMAGES // 2) // VECTOR_IMAGES * VECTOR_IMAGES
        if middle <= low:
            middle += VECTOR_IMAGES
        if middle >= high:
            continue
        channel = _widest(averages, order, low, high)
        for slot in range(low, high):
            keys[slot] = averages[order[slot], channel]
        _select(keys, order, low, high - 1, middle)
        starts[depth] = low
        stops[depth] = middle
        starts[depth + 1] = middle
        stops[depth + 1] = high
        depth += 2


@kernel()
def _widest(averages: NDArray[np.float32], order: NDArray[np.int32], low: int, high: int) -> int:
    """Return the channel whose averages vary most, weighted by what a difference costs in score."""
    best = 0
    best_cost = -1.0
    for channel in range(CHANNELS):
        total = 0.0
        squares = 0.0
        for slot in range(low, high):
            value = np.float64(averages[order[slot], channel])
            total += value
            squares += value * value
        mean = total / (high - low)
        variance = squares / (high - low) - mean * mean
        cost = variance * AVERAGE_WEIGHTS[channel] * AVERAGE_WEIGHTS[channel]
        if cost > best_cost:
            best = channel
            best_cost = cost
    return best


@kernel()
def _select(keys: NDArray[np.float32], order: NDArray[np.int32], low: int, high: int, wanted: int) -> None:
    """Reorder low..high (inclusive) so that no key before `wanted` is above any from it on (Hoare's FIND)."""
    while low < high:
        pivot = _median(keys[low], keys[(low + high) // 2], keys[high])
        i = low
        j = high
        while i <= j:
            while keys[i] < pivot:
                i += 1
            while pivot < keys[j]:
                j -= 1
            if i <= j:
                keys[i], keys[j] = keys[j], keys[i]
                order[i], order[j] = order[j], order[i]
                i += 1
                j -= 1
        if wanted <= j:
            high = j
        elif wanted >= i:
            low = i
        else:
            return


@kernel()
def _median(a: float, b: float, c: float) -> float:
    """Return the middle one of three."""
    return max(min(a, b), min(max(a, b), c))
