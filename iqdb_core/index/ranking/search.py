"""Exact ranking over all segments and the head.

Answers: which live images are most like this signature? Never changes an index. Called by `Snapshot`, from
any number of threads at once; the GIL is released for nearly all of the time.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from iqdb_core.index.ranking.best import Best, create_best
from iqdb_core.index.ranking.head_rows import HeadRows, create_weights
from iqdb_core.index.ranking.lookup import Found, create_found
from iqdb_core.index.ranking.query import create_query
from iqdb_core.index.ranking.query_call import search_all, search_part

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from iqdb_core.index.query_threads import QueryThreads
    from iqdb_core.index.segment.segment import Segment
    from iqdb_core.model import Signature


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
_SPARE_SEGMENTS: Final = 32
MIN_SHARED_SEGMENTS: Final = 12
"""A thread has at least so many segments to scan: handing over fewer takes longer than it saves."""


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
    threads: QueryThreads,
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int32], NDArray[np.int32]]:
    """Return the live images most like a signature.

    Parameters
    ----------
    table : SegmentTable
    head_ids, head_averages, head_positions, head_alive : ndarray
        The head's rows: (n,) int64, (n, 3) float64, (n, 3, 40) int16, (n,) bool.
    signature : Signature
    limit : int
        Most matches to return, at least 1.
    nonempty : (98304,) bool ndarray
        Whether any live image holds a bucket.
    min_score : float or None
        Lower scores are left out. The higher it is, the less is read.
    threads : QueryThreads
        Says when this query may scan, and how many threads take a part of the segments each.

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

    and 0 where the divisor is 0.
    """
    if limit < 1:
        raise ValueError(f"limit is at least 1, not {limit}")
    positions = signature.signed_positions()
    least = -np.inf if min_score is None else float(min_score)  # an int would be compiled for apart
    head = HeadRows(head_ids, head_averages, head_positions, head_alive)
    n_segments = len(table.segments)

    asked = (positions, signature.averages, signature.is_grey, nonempty, least)
    with threads.turn(n_segments // MIN_SHARED_SEGMENTS - 1) as count:
        stride = count + 1
        # One bar for all threads: each spares itself what cannot be among the best of the others.
        common = np.full(1, -np.inf)
        bests = [create_best(limit)._replace(common_least=common) for _ in range(stride)]

        def help_with(first: int) -> None:
            found = _scratch.found_for(n_segments)
            search_part(table.addresses, first, stride, *asked, _scratch.query, found, bests[first])

        parts = [threads.submit(help_with, first) for first in range(1, stride)]
        found = _scratch.found_for(n_segments)
        scratch = (_scratch.query, found, _scratch.weights)
        search_all(table.addresses, stride, head, *asked, *scratch, bests[0])
        for part in parts:
            part.result()
    return _merged(bests, limit) if count else _columns(bests)


Columns = tuple["NDArray[np.int64]", "NDArray[np.float64]", "NDArray[np.int32]", "NDArray[np.int32]"]


def _columns(bests: Sequence[Best]) -> Columns:
    return (
        np.concatenate([best.image_ids[: best.count[0]] for best in bests]),
        np.concatenate([best.scores[: best.count[0]] for best in bests]),
        np.concatenate([best.segments[: best.count[0]] for best in bests]),
        np.concatenate([best.documents[: best.count[0]] for best in bests]),
    )


def _merged(bests: Sequence[Best], limit: int) -> Columns:
    """Return the best of several threads' best, in order."""
    image_ids, scores, segments, documents = _columns(bests)
    order = np.lexsort((image_ids, -scores))[:limit]
    return image_ids[order], scores[order], segments[order], documents[order]
