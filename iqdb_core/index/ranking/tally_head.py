"""Adds up the bits of the buckets that rows of the head share with several signatures.

Every row is read once for all signatures. Called by `sharers`, after the segments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from iqdb_core.index.ranking.arithmetic import MOST_BITS
from iqdb_core.index.ranking.best import offer
from iqdb_core.index.ranking.query import MOST_BUCKETS
from iqdb_core.index.ranking.tally import AS_SCORE, Found, Tally, best_of
from iqdb_core.index.rows import HEAD_SEGMENT, HeadRows
from iqdb_core.index.segment.averages import is_grey_image
from iqdb_core.index.segment.buckets import bucket_of, is_repeat
from iqdb_core.kernel import kernel
from iqdb_core.model import CHANNELS, KEPT

if TYPE_CHECKING:
    from numpy.typing import NDArray


@kernel()
def tally_head(
    head: HeadRows,
    buckets: NDArray[np.int64],
    bits: NDArray[np.int64],
    counts: NDArray[np.int64],
    ends: NDArray[np.int64],
    bar: int,
    chain: NDArray[np.int16],
    tally: Tally,
    found: Found,
) -> None:
    """Offer the live rows of the head that reach the bar of a signature.

    Parameters
    ----------
    head : HeadRows
    buckets, bits, counts, ends, bar
        Of `DistinctiveBuckets`.
    chain : (m * 120,) int16 ndarray
        Scratch: for each place among all buckets, 1 + the previous place of the same bucket, or 0.
    tally : Tally
        **Changed in place.**
    found : Found
        **Changed in place.**
    """
    places = tally.places
    for k in range(len(counts)):
        for i in range(ends[k]):
            bucket = np.uint64(buckets[k, i])
            chain[k * MOST_BUCKETS + i] = places[bucket]
            places[bucket] = k * MOST_BUCKETS + i + 1
    for row in range(len(head.image_ids)):
        if not head.alive[row]:
            continue
        _sum_up(head, row, bits, counts, chain, tally)
        for k in range(len(counts)):
            if tally.of_row[0, k] >= bar:
                value = np.float64(min(tally.of_row[0, k], MOST_BITS) + tally.of_row[1, k])
                image_id = head.image_ids[row]
                offer(best_of(found, k), value, image_id, HEAD_SEGMENT, row, AS_SCORE)
    for k in range(len(counts)):
        for i in range(ends[k]):
            places[np.uint64(buckets[k, i])] = 0


@kernel()
def _sum_up(
    head: HeadRows,
    row: int,
    bits: NDArray[np.int64],
    counts: NDArray[np.int64],
    chain: NDArray[np.int16],
    tally: Tally,
) -> None:
    """Fill `tally.of_row` for a row of the head."""
    sums = tally.of_row
    for k in range(len(counts)):
        sums[0, k] = 0
        sums[1, k] = 0
    is_grey = is_grey_image(head.averages[row, 1], head.averages[row, 2])
    for channel in range(1 if is_grey else CHANNELS):
        positions = head.positions[row, channel]
        for i in range(KEPT):
            place = np.int64(tally.places[np.uint64(bucket_of(channel, np.int64(positions[i])))])
            if place == 0 or is_repeat(positions, i):
                continue
            while place > 0:
                k = (place - 1) // MOST_BUCKETS
                at = place - 1 - k * MOST_BUCKETS
                sums[0 if at < counts[k] else 1, k] += bits[k, at]
                place = np.int64(chain[place - 1])
