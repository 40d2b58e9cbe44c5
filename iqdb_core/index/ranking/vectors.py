"""Which vectors of a segment may hold one of the best matches, judged by their colour alone.

Vectors of 512 neighbours in colour are skipped without reading a row. Never reads positions. Called by
`bounds`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from iqdb_core.index.ranking.best import bar
from iqdb_core.index.ranking.lookup import MOST, MOST_GREY
from iqdb_core.index.ranking.query import UNIT
from iqdb_core.index.segment.layout import (
    H_BOXES_AT,
    H_COLOURLESS_AT,
    H_VECTORS,
    SEGMENT_IMAGES,
    VECTOR_IMAGES,
)
from iqdb_core.index.simd.memory import aligned_zeros
from iqdb_core.index.simd.planes import PLANE_WORDS
from iqdb_core.index.simd.words import item
from iqdb_core.kernel import kernel
from iqdb_core.model import CHANNELS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from iqdb_core.index.ranking.best import Best
    from iqdb_core.index.ranking.query import Query

_MOST_VECTORS = SEGMENT_IMAGES // VECTOR_IMAGES


class Vectors(NamedTuple):
    """The vectors of a segment that may still matter; scratch of one thread.

    Parameters
    ----------
    numbers : (129,) int64 ndarray
        Which vectors they are, in front; the number of them is what `vectors_that_matter` returned.
    penalties : (128,) float64 ndarray
        Per vector of the segment, the least penalty of its images.
    planes : (9 * 1024,) uint64 ndarray
        The bit planes of these vectors, in the order of `numbers`.
    """

    numbers: NDArray[np.int64]
    penalties: NDArray[np.float64]
    planes: NDArray[np.uint64]


def create_vectors() -> Vectors:
    """Return memory for one thread."""
    return Vectors(
        np.zeros(_MOST_VECTORS + 1, dtype=np.int64),
        np.zeros(_MOST_VECTORS),
        aligned_zeros(_MOST_VECTORS * PLANE_WORDS),
    )


@kernel()
def vectors_that_matter(
    words: NDArray[np.uint64], query: Query, numbers: NDArray[np.int64], vectors: Vectors, best: Best
) -> int:
    """List the vectors that may hold one of the best matches, and return how many they are.

    Parameters
    ----------
    words : (n_words,) uint64 ndarray
        The segment.
    query : Query
    numbers : (6,) int64 ndarray
        Of `Lookup`.
    vectors : Vectors
        `numbers` and `penalties` are **overwritten**.
    best : Best
    """
    n_vectors = np.int64(words[H_VECTORS])
    boxes_at = np.int64(words[H_BOXES_AT]) * 2
    boxes = words.view(np.float32)
    colourless_at = np.int64(words[H_COLOURLESS_AT])
    penalties = vectors.penalties[:n_vectors]
    for vector in range(n_vectors):
        penalties[vector] = 0.0
    for channel in range(CHANNELS):
        weight = query.average_weights[channel]
        average = query.averages[channel]
        low_at = boxes_at + channel * 2 * n_vectors
        lows = boxes[low_at : low_at + n_vectors]
        highs = boxes[low_at + n_vectors : low_at + 2 * n_vectors]
        for vector in range(n_vectors):
            below = np.float64(lows[vector]) - average
            above = average - np.float64(highs[vector])
            outside = max(above, below)
            penalties[vector] += weight * (max(0.0, outside))
    least = bar(best)
    room = numbers[MOST] * UNIT - least
    room_grey = numbers[MOST_GREY] * UNIT - least
    n_active = 0
    for vector in range(n_vectors):
        is_grey = item(words, colourless_at + (vector >> 6)) >> np.uint64(vector & 63) & np.uint64(
            1
        ) != np.uint64(0)
        vectors.numbers[n_active] = vector
        n_active += penalties[vector] <= (room_grey if is_grey else room)
    if least == -np.inf:
        # Nothing can be skipped yet. Images of similar colour probably score well, and raise the bar.
        _sort_by_penalty(vectors.numbers, n_active, penalties)
    return n_active


@kernel()
def _sort_by_penalty(vectors: NDArray[np.int64], n: int, penalties: NDArray[np.float64]) -> None:
    """Sort the first n vectors by ascending penalty."""
    for i in range(1, n):
        vector = vectors[i]
        hole = i
        while hole > 0 and penalties[vectors[hole - 1]] > penalties[vector]:
            vectors[hole] = vectors[hole - 1]
            hole -= 1
        vectors[hole] = vector
