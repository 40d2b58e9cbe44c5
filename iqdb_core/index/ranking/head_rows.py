"""Ranking the rows of the head, one by one.

The head is small and changes all the time, so it has no postings. Called by `query_call` after the segments,
when the bar is so high that most rows are skipped by their colour.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from iqdb_core.index.ranking.best import Best, bar, offer, score_of
from iqdb_core.index.rows import HEAD_SEGMENT, HeadRows
from iqdb_core.index.segment.averages import is_grey_image, stored_average
from iqdb_core.index.segment.buckets import bucket_of, is_ascending, is_repeat
from iqdb_core.kernel import kernel
from iqdb_core.model import BUCKETS, CHANNELS, KEPT, PLANE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from iqdb_core.index.ranking.query import Query


HEAD_BUCKETS: Final = BUCKETS + PLANE + 1
"""Room for the bucket of any int16 position, valid or not, so that none is looked up out of bounds."""


def create_weights() -> NDArray[np.uint8]:
    """Return scratch for one thread: a weight per bucket, all zero between queries."""
    return np.zeros(HEAD_BUCKETS, dtype=np.uint8)


@kernel()
def scan_head(head: HeadRows, query: Query, weights: NDArray[np.uint8], best: Best) -> None:
    """Offer to `best` every live row of the head that may be among the best.

    Parameters
    ----------
    head : HeadRows
    query : Query
    weights : (114,689,) uint8 ndarray
        Scratch: all zero, before and after.
    best : Best
        **Changed in place.**
    """
    n_buckets = query.sizes[0]
    divisor = query.sizes[1]
    for k in range(n_buckets):
        weights[query.buckets[k]] = query.weights[k]
    for row in range(len(head.image_ids)):
        if not head.alive[row]:
            continue
        penalty = 0.0
        for channel in range(CHANNELS):
            distance = abs(query.averages[channel] - stored_average(head.averages[row, channel]))
            penalty += query.average_weights[channel] * distance
        if divisor - penalty < bar(best):
            continue
        is_grey = is_grey_image(head.averages[row, 1], head.averages[row, 2])
        shared = 0
        for channel in range(1 if is_grey else CHANNELS):
            shared += _shared_of_channel(head.positions[row, channel], channel, weights)
        score = score_of(shared - penalty, divisor)
        offer(best, score, head.image_ids[row], HEAD_SEGMENT, row, divisor)
    for k in range(n_buckets):
        weights[query.buckets[k]] = 0


@kernel(inline=True)
def _shared_of_channel(positions: NDArray[np.int16], channel: int, weights: NDArray[np.uint8]) -> int:
    """Return the hundredths that 40 positions share with the query, each counted once."""
    shared = 0
    is_plain = is_ascending(positions)
    for i in range(KEPT):
        weight = np.int64(weights[bucket_of(channel, np.int64(positions[i]))])
        if is_plain or not is_repeat(positions, i):
            shared += weight
    return shared
