"""A whole query in one compiled call.

Finds the best matches among all segments and the head. Called by `search`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from iqdb_core.index.ranking.best import Best, offer, sort_best, start_best
from iqdb_core.index.ranking.bounds import scan_segment, score_hot
from iqdb_core.index.ranking.head_rows import scan_head
from iqdb_core.index.ranking.lookup import prefetch_directory, prefetch_entries, prefetch_lists
from iqdb_core.index.ranking.query import MOST_BUCKETS, prepare
from iqdb_core.index.ranking.scratch import Scratch
from iqdb_core.index.rows import HEAD_SEGMENT, HeadRows
from iqdb_core.index.segment.layout import H_IDS_AT, H_IMAGES
from iqdb_core.index.segment.postings import segment_at
from iqdb_core.kernel import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MOST_SEEDED = 100
"""Hot images (see `rare_bits`) are scored first only up to this limit: with a higher one they are too few to
raise the bar."""
_SEEDED_SHARE = 0.5
"""Hot images are scored first only if the bar that `min_score` sets is below this share of the best possible
score: with a higher one it gains nothing."""


class QueryInput(NamedTuple):
    """The query of one call.

    Parameters
    ----------
    positions : (3, 40) int16 ndarray
    averages : (float, float, float)
    is_grey, is_sketch : bool
        Whether the signature is grey, and whether it is of a painted picture; see `prepare`.
    nonempty : (98,304,) bool ndarray
        Which buckets some live image holds.
    min_score : float
        Lower scores are left out; -inf leaves out none.
    """

    positions: NDArray[np.int16]
    averages: tuple[float, float, float]
    is_grey: bool
    is_sketch: bool
    nonempty: NDArray[np.bool_]
    min_score: float


@kernel()
def search_part(
    addresses: NDArray[np.uint64],
    first: int,
    stride: int,
    head: HeadRows,
    inputs: QueryInput,
    scratch: Scratch,
    best: Best,
) -> None:
    """Fill `best` with the best matches of a signature in a part of the index, best first.

    A part is every `stride`-th segment of a table, starting with segment `first`; part 0 includes the head.
    If all buckets of the query are empty, every image scores 0: then part 0 returns the smallest ids of the
    whole index, and the other parts return nothing.
    """
    query = scratch.query
    prepare(query, inputs.positions, inputs.averages, inputs.is_grey, inputs.is_sketch, inputs.nonempty)
    start_best(best, inputs.min_score, query.sizes[1])
    if query.sizes[1] != 0:
        _scan_segments(addresses, first, stride, scratch, best)
        if first == 0:
            scan_head(head, query, scratch.weights, best)
    elif first == 0:
        _take_first(addresses, head, best)
    sort_best(best)


@kernel(merged=True)
def _scan_segments(
    addresses: NDArray[np.uint64], first: int, stride: int, scratch: Scratch, best: Best
) -> None:
    query = scratch.query
    n_segments = (len(addresses) - first + stride - 1) // stride
    is_seeded = len(best.scores) <= _MOST_SEEDED and best.least[0] < _SEEDED_SHARE * query.sizes[1]
    # Each step of the lookup reads what an earlier step prefetched, some segments before.
    for tick in range(n_segments + 3):
        for step in range(4):
            nth = tick - step
            if not 0 <= nth < n_segments:
                continue
            view = segment_at(addresses, first + nth * stride)
            entries = scratch.entries[nth * MOST_BUCKETS : (nth + 1) * MOST_BUCKETS]
            if step == 0:
                prefetch_directory(view.words, query)
            elif step == 1:
                prefetch_entries(view.words, query, entries)
            elif step == 2:
                prefetch_lists(view.words, query, entries)
            elif is_seeded:
                score_hot(view, entries, scratch, best)
    for nth in range(n_segments):
        view = segment_at(addresses, first + nth * stride)
        entries = scratch.entries[nth * MOST_BUCKETS : (nth + 1) * MOST_BUCKETS]
        scan_segment(view, entries, is_seeded, scratch, best)


@kernel(merged=True)
def _take_first(addresses: NDArray[np.uint64], head: HeadRows, best: Best) -> None:
    """Offer the live images of the smallest ids with score 0: no image shares anything with the query."""
    for segment in range(len(addresses)):
        view = segment_at(addresses, segment)
        ids_at = np.int64(view.words[H_IDS_AT])
        taken = 0
        for document in range(np.int64(view.words[H_IMAGES])):
            if taken == len(best.scores):
                break
            if view.alive[document >> 6] >> np.uint64(document & 63) & np.uint64(1):
                offer(best, 0.0, np.int64(view.words[ids_at + document]), segment, document, 0)
                taken += 1
    for row in range(len(head.image_ids)):
        if head.alive[row]:
            offer(best, 0.0, head.image_ids[row], HEAD_SEGMENT, row, 0)
