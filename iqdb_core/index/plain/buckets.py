"""Which buckets images hold, and how many images hold each, in numpy.

Equivalent to `segment.buckets`. Used in its place until that is compiled, and by the rest of this folder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from iqdb_core.model import BUCKETS, CHANNELS, PLANE, is_grey

if TYPE_CHECKING:
    from numpy.typing import NDArray


def buckets_of(positions: NDArray[np.int16]) -> NDArray[np.int64]:
    """Return the bucket of every position of (n, 3, 40)."""
    signed = positions.astype(np.int64)
    return np.arange(CHANNELS)[:, None] * 2 * PLANE + (signed < 0) * PLANE + np.abs(signed)


def held_buckets(
    averages: NDArray[np.float64], positions: NDArray[np.int16]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return rows and buckets: each pair of an image and a bucket that it holds once, by ascending row.

    Parameters
    ----------
    averages : (n, 3) float64 ndarray
    positions : (n, 3, 40) int16 ndarray

    Raises
    ------
    ValueError
        A position that is indexed is not 1..16383 in magnitude.
    """
    ordered = np.sort(positions, axis=2)
    is_first = np.ones(ordered.shape, dtype=np.bool_)
    is_first[:, :, 1:] = ordered[:, :, 1:] != ordered[:, :, :-1]
    is_first[is_grey(averages[:, 1], averages[:, 2]), 1:] = False
    magnitudes = np.abs(ordered.astype(np.int64))[is_first]
    if not ((magnitudes > 0) & (magnitudes < PLANE)).all():
        raise ValueError("positions are 1..16383 in magnitude")
    rows = np.nonzero(is_first)[0]
    return rows, buckets_of(ordered)[is_first]


def count_images(
    counts: NDArray[np.int32], averages: NDArray[np.float64], positions: NDArray[np.int16], step: int
) -> int:
    """Add `step` to the count of every bucket that each image holds; return how many left or reached 0."""
    _, buckets = held_buckets(averages, positions)
    change = np.bincount(buckets, minlength=BUCKETS).astype(np.int32) * np.int32(step)
    was_zero = counts == 0
    counts += change
    return int(np.count_nonzero(was_zero != (counts == 0)))
