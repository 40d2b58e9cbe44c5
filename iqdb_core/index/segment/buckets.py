"""Which buckets an image holds, and how many images hold each bucket.

Computes the bucket of a position, and decides which positions of a channel count. Called by `build`, by the
counts of the whole index, and by the kernels that read positions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from iqdb_core.index.segment.averages import is_grey_image
from iqdb_core.kernel import kernel
from iqdb_core.model import CHANNELS, KEPT, PLANE

if TYPE_CHECKING:
    from numpy.typing import NDArray


@kernel()
def count_buckets(
    positions: NDArray[np.int16], is_grey: NDArray[np.bool_], counts: NDArray[np.int32]
) -> bool:
    """Count the images that hold each bucket.

    Parameters
    ----------
    positions : (n, 3, 40) int16 ndarray
    is_grey : (n,) bool ndarray
        Of a grey image only the Y channel is indexed.
    counts : (98,304,) int32 ndarray
        Zeros. **Changed in place.**

    Returns
    -------
    bool
        False if a position is not 1..16383 in magnitude; the counts are then incomplete.
    """
    for image in range(positions.shape[0]):
        for channel in range(1 if is_grey[image] else CHANNELS):
            row = positions[image, channel]
            is_plain = is_ascending(row)
            for i in range(KEPT):
                signed = np.int64(row[i])
                if signed == 0 or signed <= -PLANE or signed >= PLANE:
                    return False
                if is_plain or not is_repeat(row, i):
                    counts[np.uint64(bucket_of(channel, signed))] += 1
    return True


@kernel()
def count_images(
    counts: NDArray[np.int32], averages: NDArray[np.float64], positions: NDArray[np.int16], step: int
) -> int:
    """Add `step` to the count of every bucket that each image holds.

    Parameters
    ----------
    counts : (98,304,) int32 ndarray
        **Changed in place.**
    averages : (n, 3) float64 ndarray
    positions : (n, 3, 40) int16 ndarray
        1..16383 in magnitude. Of a grey image only the Y channel counts; a position that occurs twice in a
        channel counts once.
    step : int
        1 or -1.

    Returns
    -------
    int
        How many times a count left or reached zero.
    """
    crossed = 0
    for image in range(positions.shape[0]):
        is_grey = is_grey_image(averages[image, 1], averages[image, 2])
        for channel in range(1 if is_grey else CHANNELS):
            row = positions[image, channel]
            is_plain = is_ascending(row)
            for i in range(KEPT):
                if is_plain or not is_repeat(row, i):
                    bucket = np.uint64(bucket_of(channel, np.int64(row[i])))
                    before = np.int64(counts[bucket])
                    counts[bucket] = before + step
                    crossed += before == 0 or before + step == 0
    return crossed


@kernel(inline=True)
def bucket_of(channel: int, signed: int) -> int:
    """Return the bucket of a signed position."""
    if signed < 0:
        return (channel * 2 + 1) * PLANE - signed
    return channel * 2 * PLANE + signed


@kernel(inline=True)
def is_ascending(row: NDArray[np.int16]) -> bool:
    """Return whether 40 positions ascend strictly, so that none occurs twice."""
    falls = False
    for i in range(1, KEPT):
        falls |= row[i] <= row[i - 1]
    return not falls


@kernel()
def is_repeat(row: NDArray[np.int16], i: int) -> bool:
    """Return whether position i of a row occurs earlier in the row."""
    for earlier in range(i):
        if row[earlier] == row[i]:
            return True
    return False
