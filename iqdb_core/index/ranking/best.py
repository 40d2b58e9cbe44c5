"""The best matches so far: a heap with the worst of them on top, and the bar that a new one must reach.

For equal scores the smaller image id wins. Called by the scans of segments and head; each thread has its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from iqdb_core.kernel import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SLACK: Final = 1e-9
"""Bounds are lowered by this share, so that rounding never excludes an image; it is a thousand times the
rounding error of these float64 sums."""


class Best(NamedTuple):
    """The best matches of one thread; arrays of the same length are columns.

    Parameters
    ----------
    scores : (limit,) float64 ndarray
    image_ids : (limit,) int64 ndarray
    segments, documents : (limit,) int32 ndarray
    count : (1,) int64 ndarray
        How many of the rows are in use.
    least : (1,) float64 ndarray
        The bar of this thread: the hundredths of shared weight less penalty that an image must reach.
    min_score : (1,) float64 ndarray
        Lower scores are not accepted.
    common_least : (1,) float64 ndarray
        The bar of all threads of a query together. Each thread raises it, so it may lag but is never too
        high.
    """

    scores: NDArray[np.float64]
    image_ids: NDArray[np.int64]
    segments: NDArray[np.int32]
    documents: NDArray[np.int32]
    count: NDArray[np.int64]
    least: NDArray[np.float64]
    min_score: NDArray[np.float64]
    common_least: NDArray[np.float64]


def create_best(limit: int, common_least: NDArray[np.float64]) -> Best:
    """Return memory for the best `limit` matches of one thread; `start_best` comes next."""
    return Best(
        np.empty(limit),
        np.empty(limit, dtype=np.int64),
        np.empty(limit, dtype=np.int32),
        np.empty(limit, dtype=np.int32),
        np.zeros(1, dtype=np.int64),
        np.empty(1),
        np.empty(1),
        common_least,
    )


@kernel()
def start_best(best: Best, min_score: float, divisor: int) -> None:
    """Empty the heap for a query."""
    best.count[0] = 0
    best.min_score[0] = min_score
    best.least[0] = least_net(min_score, divisor) if min_score > -np.inf else -np.inf
    best.common_least[0] = max(best.common_least[0], best.least[0])


@kernel(inline=True)
def bar(best: Best) -> float:
    """Return the hundredths, less penalty, that an image needs to be among the best of all threads."""
    return max(best.least[0], best.common_least[0])


@kernel(inline=True)
def least_net(score: float, divisor: int) -> float:
    """Return a lower bound, in hundredths, for images of at least this score; see `score_of`."""
    exact = score * divisor / 100.0
    return exact - _SLACK * (abs(exact) + 1.0)


@kernel(inline=True)
def score_of(net: float, divisor: int) -> float:
    """Return the score of an image that shares `net` hundredths, less penalty.

    `divisor` in hundredths, above 0.
    """
    return net * 100.0 / divisor


@kernel()
def offer(best: Best, score: float, image_id: int, segment: int, document: int, divisor: int) -> None:
    """Accept a match if it is among the best, and raise `least` accordingly."""
    if score < best.min_score[0]:
        return
    limit = len(best.scores)
    count = best.count[0]
    if count < limit:
        hole = count
        best.count[0] = count + 1
        while hole > 0:
            parent = (hole - 1) >> 1
            if not _is_worse(score, image_id, best.scores[parent], best.image_ids[parent]):
                break
            _move(best, parent, hole)
            hole = parent
    elif _is_worse(best.scores[0], best.image_ids[0], score, image_id):
        hole = _sift(best, count, score, image_id)
    else:
        return
    _put(best, hole, score, image_id, segment, document)
    if best.count[0] == limit:
        least = least_net(best.scores[0], divisor)
        best.least[0] = max(best.least[0], least)
        best.common_least[0] = max(best.common_least[0], least)


@kernel()
def sort_best(best: Best) -> None:
    """Sort the heap from best to worst; nothing can be offered afterwards."""
    for end in range(best.count[0] - 1, 0, -1):
        score = best.scores[end]
        image_id = best.image_ids[end]
        segment = best.segments[end]
        document = best.documents[end]
        _move(best, 0, end)
        hole = _sift(best, end, score, image_id)
        _put(best, hole, score, image_id, segment, document)


@kernel(inline=True)
def _is_worse(score: float, image_id: int, other_score: float, other_id: int) -> bool:
    return score < other_score or (score == other_score and image_id > other_id)


@kernel()
def _sift(best: Best, count: int, score: float, image_id: int) -> int:
    """Move worse rows of the first `count` up, from a hole at the top of the heap.

    Return where the hole ends up, which is where the given match belongs.
    """
    hole = 0
    while True:
        child = 2 * hole + 1
        if child >= count:
            return hole
        if child + 1 < count and _is_worse(
            best.scores[child + 1], best.image_ids[child + 1], best.scores[child], best.image_ids[child]
        ):
            child += 1
        if not _is_worse(best.scores[child], best.image_ids[child], score, image_id):
            return hole
        _move(best, child, hole)
        hole = child


@kernel(inline=True)
def _move(best: Best, source: int, target: int) -> None:
    best.scores[target] = best.scores[source]
    best.image_ids[target] = best.image_ids[source]
    best.segments[target] = best.segments[source]
    best.documents[target] = best.documents[source]


@kernel(inline=True)
def _put(best: Best, at: int, score: float, image_id: int, segment: int, document: int) -> None:
    best.scores[at] = score
    best.image_ids[at] = image_id
    best.segments[at] = segment
    best.documents[at] = document
