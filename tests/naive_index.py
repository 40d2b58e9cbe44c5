"""The index as a dict: what `ImageIndex` has to answer, written for obviousness."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from iqdb_core.model import BUCKETS, GREY_LIMIT, PLANE

if TYPE_CHECKING:
    from numpy.typing import NDArray


def naive_bucket_counts(averages: NDArray[np.float64], positions: NDArray[np.int16]) -> NDArray[np.int64]:
    """Return how many of the images hold each bucket."""
    counts = np.zeros(BUCKETS, dtype=np.int64)
    for mean, channels in zip(averages.tolist(), positions.tolist(), strict=True):
        is_grey = abs(mean[1]) + abs(mean[2]) < GREY_LIMIT
        for channel in range(1 if is_grey else 3):
            for signed in set(channels[channel]):
                counts[(channel * 2 + (signed < 0)) * PLANE + abs(signed)] += 1
    return counts
