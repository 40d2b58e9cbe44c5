"""Exact ranking over all segments and the head.

Answers: which live images are most like this signature? Never changes an index. Called by `Snapshot`, from any
number of threads at once; the GIL is released for nearly all of the time.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from iqdb_core.index.helpers import Helpers
from iqdb_core.index.kernel_best import Best, create_best
from iqdb_core.index.kernel_head import HeadRows, create_weights
from iqdb_core.index.kernel_query import Query, create_query
from iqdb_core.index.kernel_resolve import Found, create_found
from iqdb_core.index.kernel_search import finish, search_alone, search_part, start, take_over

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from iqdb_core.index.segment import Segment
    from iqdb_core.model import Signature

SHARE_SEGMENTS: Final = 12
"""Segments that are worth a thread of their own: waking one takes as long as scanning several."""
_SPARE_SEGMENTS: Final = 32


@dataclass(frozen=True, slots=True, eq=False)
class SegmentTable:
    """Where the segments of a snapshot are in memory, so that compiled code finds them all in one call.

    Parameters
    ----------
    segments : tuple of Segment
    alive : tuple of (n_words,) uint64 ndarray
        Bit per document; bits behind the last are not looked at.
    addresses : (n_segments, 4) uint64 ndarray
        Address and length of each segment's words, and of its alive bitmap.
    """

    segments: tuple[Segment, ...]
    alive: tuple[NDArray[np.uint64], ...]
    addresses: NDArray[np.uint64]

    @classmethod
    def create(cls, segments: Sequence[Segment], alive: Sequence[NDArray[np.uint64]]) -> SegmentTable:
        """Make a table, which keeps its segments alive.

        Raises
        ------
        ValueError
            An alive bitmap is not `n_words` contiguous words of its segment.
        """
        addresses = np.zeros((len(segments), 4), dtype=np.uint64)
        for row, segment, bits in zip(addresses, segments, alive, strict=True):
            if bits.dtype != np.uint64 or bits.shape != (segment.n_words,) or not bits.flags.c_contiguous:
                raise ValueError(f"an alive bitmap is {segment.n_words} contiguous uint64 words")
            row[:] = (segment.words.ctypes.data, len(segment.words), bits.ctypes.data, len(bits))
        addresses.flags.writeable = False
        return cls(tuple(segments), tuple(alive), addresses)


class _Scratch(threading.local):
    """What one thread needs to search, kept between queries."""

    def __init__(self) -> None:
        self.query = create_query()
        self.weights = create_weights()
        self.n_segments = 0
        self.found = create_found(0)

    def found_for(self, n_segments: int) -> Found:
        """Return scratch with room for so many segments."""
        if n_segments > self.n_segments:
            self.n_segments = n_segments + _SPARE_SEGMENTS
            self.found = create_found(self.n_segments)
        return self.found


_scratch: Final = _Scratch()
_helpers: Final = Helpers()


def search(
    table: SegmentTable,
    head_ids: NDArray[np.int64],
    head_averages: NDArray[np.float64],
    head_positions: NDArray[np.int16],
    head_alive: NDArray[np.bool_],
    signature: Signature,
    *,
    limit: int,
    nonempty: NDArray[np.bool_],
    min_score: float | None = None,
    n_threads: int = 1,
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int32], NDArray[np.int32]]:
    """Return the live images most like a signature, exactly.

    Parameters
    ----------
    table : SegmentTable
    head_ids : (n,) int64 ndarray
    head_averages : (n, 3) float64 ndarray, finite
    head_positions : (n, 3, 40) int16 ndarray
    head_alive : (n,) bool ndarray
        Images that are in no segment. In order of arrival; positions may be in any order and repeat.
    signature : Signature
    limit : int
        Most matches to return, at least 1.
    nonempty : (98,304,) bool ndarray
        Which buckets some live image, of a segment or the head, holds. The caller keeps count.
    min_score : float or None
        Matches below are left out. The higher it is, the less is read.
    n_threads : int
        Most threads that all queries of this process together may use for large tables. A query that finds the process
        idle shares its segments out; many at once use one thread each.

    Returns
    -------
    image_ids : (m,) int64 ndarray
    scores : (m,) float64 ndarray
    segments : (m,) int32 ndarray
        Place in `table.segments`, or -1: in the head.
    documents : (m,) int32 ndarray
        Document of the segment, or row of the head.
        All by descending score, equal scores by ascending id.

    Raises
    ------
    ValueError
        `limit` is below 1.

    Notes
    -----
    With averages rounded to float32, and all else exact or in float64::

        penalty = 500 * |Y - Y'| + 1921 * |I - I'| + 3437 * |Q - Q'|      (grey query: the first term alone)
        score = (hundredths of the shared positions - penalty) * 100 / (hundredths of the query's nonempty positions)

    and 0 where the divisor is 0.
    """
    if limit < 1:
        raise ValueError(f"limit is at least 1, not {limit}")
    least_score = -np.inf if min_score is None else float(min_score)
    head = HeadRows(head_ids, head_averages, head_positions, head_alive)
    n_segments = len(table.segments)
    scratch = _scratch
    found = scratch.found_for(n_segments)
    query = scratch.query
    best = create_best(limit)
    with _helpers.share(n_segments // SHARE_SEGMENTS, n_threads) as n_helpers:
        if n_helpers == 0:
            search_alone(
                table.addresses,
                head,
                signature.signed_positions(),
                signature.averages,
                signature.is_grey,
                nonempty,
                least_score,
                query,
                found,
                scratch.weights,
                best,
            )
        else:
            start(
                signature.signed_positions(),
                signature.averages,
                signature.is_grey,
                nonempty,
                least_score,
                query,
                best,
            )
            others = [create_best(limit, best) for _ in range(n_helpers)]
            parts = n_helpers + 1
            _helpers.run(
                lambda part: _search_part(table, part, parts, query, others[part - 1]),
                lambda: search_part(table.addresses, 0, parts, query, found, best),
                n_helpers,
            )
            for other in others:
                take_over(best, other, query)
            finish(head, query, scratch.weights, best)
    count = best.count[0]
    return best.image_ids[:count], best.scores[:count], best.segments[:count], best.documents[:count]


def _search_part(table: SegmentTable, part: int, parts: int, query: Query, best: Best) -> None:
    """Search every `parts`-th segment, in a thread that helps."""
    found = _scratch.found_for(len(table.segments))
    search_part(table.addresses, part, parts, query, found, best)
