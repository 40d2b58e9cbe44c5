"""Exact ranking over all segments and the head.

Never changes an index. Called by `Snapshot`, from any number of threads at once; releases the GIL for nearly
all of its time.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

import numpy as np

from iqdb_core.index.ranking.arithmetic import MIN_SHARED_SEGMENTS, Columns
from iqdb_core.index.ranking.best import Best, create_best
from iqdb_core.index.ranking.query_call import QueryInput, search_part
from iqdb_core.index.ranking.scratch import Scratch, create_scratch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from iqdb_core.index.query_threads import QueryThreads
    from iqdb_core.index.rows import HeadRows
    from iqdb_core.index.segment.table import SegmentTable
    from iqdb_core.model import Signature


class _ThreadScratch(threading.local):
    """The scratch of one thread, kept between queries."""

    def __init__(self) -> None:
        self.n_segments = 0
        self.scratch = create_scratch(0)

    def for_segments(self, n_segments: int) -> Scratch:
        """Return scratch for at least `n_segments` segments."""
        if n_segments > self.n_segments:
            self.n_segments = n_segments + _SPARE_SEGMENTS
            self.scratch = create_scratch(self.n_segments)
        return self.scratch


_thread_scratch: Final = _ThreadScratch()
_SPARE_SEGMENTS: Final = 32


def search(
    table: SegmentTable,
    head: HeadRows,
    signature: Signature,
    *,
    limit: int,
    nonempty: NDArray[np.bool_],
    min_score: float | None = None,
    is_sketch: bool = False,
    threads: QueryThreads,
) -> Columns:
    """Return the live images most like a signature.

    Parameters
    ----------
    table : SegmentTable
    head : HeadRows
    signature : Signature
    limit : int
        Most matches to return, at least 1.
    nonempty : (98304,) bool ndarray
        Whether any live image holds a bucket.
    min_score : float or None
        Lower scores are left out. The higher it is, the less is read.
    is_sketch : bool
        Whether the signature is of a painted picture, for which other weights are right.
    threads : QueryThreads
        Decides when this query may run, and how many threads share its segments.

    Returns
    -------
    image_ids, scores, segments, documents : ndarray
        Best first, equal scores by ascending id: int64, float64, int32 and int32. Segment -1 is the head.

    Raises
    ------
    ValueError
        `limit` is below 1.

    Notes
    -----
    With averages rounded to float32, and everything else exact or in float64::

        penalty = 500 * |Y - Y'| + 1921 * |I - I'| + 3437 * |Q - Q'|      (grey query: the first term alone)
        score = (hundredths of the shared positions - penalty) * 100 / hundredths of the query's nonempty ones

    and 0 where the divisor is 0. A sketch has other weights.
    """
    if limit < 1:
        raise ValueError(f"limit is at least 1, not {limit}")
    inputs = QueryInput(
        signature.signed_positions(),
        signature.averages,
        signature.is_grey,
        is_sketch,
        nonempty,
        -np.inf if min_score is None else float(min_score),  # an int would compile the kernel again
    )
    n_segments = len(table.segments)
    with threads.turn(n_segments // MIN_SHARED_SEGMENTS - 1) as count:
        stride = count + 1
        # All threads share one bar: each skips images that cannot be among the best of all.
        common = np.array([-np.inf])
        bests = [create_best(limit, common) for _ in range(stride)]

        def search_from(first: int) -> None:
            scratch = _thread_scratch.for_segments(n_segments)
            search_part(table.addresses, first, stride, head, inputs, scratch, bests[first])

        parts = [threads.submit(search_from, first) for first in range(1, stride)]
        search_from(0)
        for part in parts:
            part.result()
    return _merged(bests, limit) if count else _columns(bests)


def _columns(bests: Sequence[Best]) -> Columns:
    if len(bests) == 1:
        (best,) = bests
        n = best.count[0]
        return best.image_ids[:n], best.scores[:n], best.segments[:n], best.documents[:n]
    return (
        np.concatenate([best.image_ids[: best.count[0]] for best in bests]),
        np.concatenate([best.scores[: best.count[0]] for best in bests]),
        np.concatenate([best.segments[: best.count[0]] for best in bests]),
        np.concatenate([best.documents[: best.count[0]] for best in bests]),
    )


def _merged(bests: Sequence[Best], limit: int) -> Columns:
    """Return the best matches of all threads, best first."""
    image_ids, scores, segments, documents = _columns(bests)
    order = np.lexsort((image_ids, -scores))[:limit]
    return image_ids[order], scores[order], segments[order], documents[order]
