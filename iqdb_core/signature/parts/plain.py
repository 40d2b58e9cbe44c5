"""The flat rows and edges of a picture in numpy, equal to the kernels in every value.

Parameters and results are described in `lines`. Used in its place until that is compiled, and by tests.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

_SAMPLES: Final = 9
_GLANCES: Final = 24
_MOST_JUMPS: Final = 4
_FAR: Final = 20
_MOST_FAR: Final = 0.01
_MOST_FAR_RINGING: Final = 0.3
_VERY_FAR: Final = 60
_SPOTS: Final = 200
_STEP: Final = 10
_CHANNELS: Final = 3
_CHUNK_PIXELS: Final = 1 << 17
"""Pixels processed at a time, to keep memory small."""

_FlatRows = tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.int64]]


def flat_rows(pixels: NDArray[np.uint32], top: int, bottom: int, left: int, right: int) -> _FlatRows:
    """Return which rows of a rectangle are flat, and their colours."""
    n = bottom - top
    is_flat, is_ringing = np.zeros(n, np.bool_), np.zeros(n, np.bool_)
    colours = np.zeros((n, 2, _CHANNELS), np.int64)
    stride = max(1, (right - left) // _GLANCES)
    glances = _channels(pixels[top:bottom, left:right:stride])
    jumps = (np.abs(np.diff(glances, axis=1)).max(axis=2) > 2 * _FAR).sum(axis=1)
    looked_at = np.flatnonzero(jumps <= _MOST_JUMPS)
    step = max(1, _CHUNK_PIXELS // (right - left))
    for start in range(0, len(looked_at), step):
        chosen = looked_at[start : start + step]
        rows = _channels(pixels[top + chosen, left:right])
        ends = colours[chosen] = _ends(rows)
        distances = _distances(rows, ends)
        few = _is_share_within(distances > _FAR, _MOST_FAR)
        rings = _is_share_within(distances > _VERY_FAR, _MOST_FAR) & _is_share_within(
            distances > _FAR, _MOST_FAR_RINGING
        )
        is_flat[chosen] = few
        is_ringing[chosen] = few | rings
    return is_flat, is_ringing, colours


def steps(pixels: NDArray[np.uint32], top: int, bottom: int, left: int, right: int) -> NDArray[np.float64]:
    """Return by how much each row of a rectangle differs from the one above, on average."""
    spots = _spots(pixels, top, bottom, left, right)
    out = np.zeros(bottom - top)
    out[1:] = _differences(spots).sum(axis=1) / spots.shape[1]
    return out


def edge_shares(
    pixels: NDArray[np.uint32], top: int, bottom: int, left: int, right: int
) -> NDArray[np.float64]:
    """Return over which share of its width a sharp edge runs between each row and the one above."""
    out = np.zeros(bottom - top)
    if len(out) <= 2 * _CHANNELS:
        return out
    spots = _spots(pixels, top, bottom, left, right)
    differences = _differences(spots)  # of row y + 1 from row y
    own = differences[2:-3]
    around = np.maximum(differences[:-5], differences[4:-1])
    out[3:-3] = ((own > _STEP) & (2 * own > 3 * around)).sum(axis=1) / spots.shape[1]
    return out


def _channels(pixels: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Return red, green and blue of pixels along a last axis."""
    return np.stack(
        [
            ((pixels >> np.uint32(8 * channel)) & np.uint32(255)).astype(np.int64)
            for channel in range(_CHANNELS)
        ],
        axis=-1,
    )


def _spots(pixels: NDArray[np.uint32], top: int, bottom: int, left: int, right: int) -> NDArray[np.int64]:
    stride = max(1, (right - left) // _SPOTS)
    return _channels(pixels[top:bottom, left:right:stride])


def _differences(spots: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return by how much each row's spots differ from those above, in the channel that differs most."""
    differences: NDArray[np.int64] = np.abs(np.diff(spots, axis=0)).max(axis=2)
    return differences


def _ends(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rows' colours, medians, in the middle of their first and of their last thirds."""
    width = rows.shape[1]
    third = max(1, width // 3)
    n = min(_SAMPLES, third)
    samples = np.arange(n) * third // n
    medians = [np.sort(rows[:, first + samples], axis=1)[:, n // 2] for first in (0, width - third)]
    return np.stack(medians, axis=1)


def _distances(rows: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how far each pixel is from the line through the colours of its row's ends."""
    width = rows.shape[1]
    spans = ends[:, 1] - ends[:, 0]
    is_even = (np.abs(spans) <= 1).all(axis=1)
    spans = np.where(is_even[:, None], 0, spans)
    along = np.arange(width) - width // 6
    wanted = ends[:, 0, None, :] + spans[:, None, :] * along[None, :, None] // max(1, 2 * width // 3)
    distances: NDArray[np.int64] = np.abs(rows - wanted).max(axis=2)
    return distances


def _is_share_within(is_far: NDArray[np.bool_], most: float) -> NDArray[np.bool_]:
    """Return which rows have at most that share of far pixels, computed as in `lines`."""
    width = is_far.shape[1]
    counts = is_far.sum(axis=1)
    within: NDArray[np.bool_] = (counts <= most * width) & (counts / width <= most)
    return within
