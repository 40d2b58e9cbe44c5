"""Images that share rare buckets with signatures, in numpy.

Equivalent to `ranking.sharers`. Used in its place until that is compiled, and by tests as its oracle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from iqdb_core.index.plain.buckets import held_buckets
from iqdb_core.index.plain.segment import slots_of
from iqdb_core.index.ranking.arithmetic import MOST_BITS
from iqdb_core.index.rows import HEAD_SEGMENT, HeadRows
from iqdb_core.index.segment import alive as bitmap
from iqdb_core.index.segment import layout
from iqdb_core.model import BUCKETS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from iqdb_core.index.query_threads import QueryThreads
    from iqdb_core.index.ranking.arithmetic import Columns, DistinctiveBuckets
    from iqdb_core.index.segment.table import SegmentTable


def find_sharers(
    table: SegmentTable, head: HeadRows, distinctive: DistinctiveBuckets, *, limit: int, threads: QueryThreads
) -> list[Columns]:
    """Return, per signature, the live images that reach the bar and share most, as `ranking.sharers` does."""
    distinctive.check(limit)
    with threads.turn(0):
        return [
            _found(table, head, _spread(row, bits, 0, n), _spread(row, bits, n, end), distinctive.bar, limit)
            for row, bits, n, end in zip(
                distinctive.buckets,
                distinctive.bits,
                distinctive.counts.tolist(),
                distinctive.ends.tolist(),
                strict=True,
            )
        ]


def _spread(buckets: NDArray[np.int64], bits: NDArray[np.int64], first: int, stop: int) -> NDArray[np.int64]:
    """Return the bits of each bucket, (98,304,): 0 for all but first..stop - 1 of a signature's buckets."""
    spread = np.zeros(BUCKETS, dtype=np.int64)
    spread[buckets[first:stop]] = bits[first:stop]
    return spread


def _found(
    table: SegmentTable,
    head: HeadRows,
    distinctive: NDArray[np.int64],
    common: NDArray[np.int64],
    bar: int,
    limit: int,
) -> Columns:
    found: list[Columns] = []
    for number, (segment, alive) in enumerate(zip(table.segments, table.alive, strict=True)):
        words = segment.words
        n = int(words[layout.H_IMAGES])
        shared = np.zeros((2, n), dtype=np.int64)
        for sums, bits_of in zip(shared, (distinctive, common), strict=True):
            for bucket in np.flatnonzero(bits_of).tolist():
                sums[slots_of(words, bucket)] += bits_of[bucket]
        first = int(words[layout.H_DOCUMENTS_AT]) * 4
        documents = words.view(np.uint16)[first : first + n].astype(np.int64)
        is_live = bitmap.are_alive(alive, documents)
        found.append(_columns(segment.image_ids[documents], shared, number, documents, is_live, bar))
    shared = np.zeros((2, len(head.image_ids)), dtype=np.int64)
    rows, held = held_buckets(head.averages, head.positions)
    np.add.at(shared[0], rows, distinctive[held])
    np.add.at(shared[1], rows, common[held])
    numbers = np.arange(len(head.image_ids))
    found.append(_columns(head.image_ids, shared, HEAD_SEGMENT, numbers, head.alive, bar))
    image_ids, bits, segments, documents = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.lexsort((image_ids, -bits))[:limit]
    return (
        image_ids[order],
        bits[order],
        segments[order].astype(np.int32),
        documents[order].astype(np.int32),
    )


def _columns(
    image_ids: NDArray[np.int64],
    shared: NDArray[np.int64],
    segment: int,
    documents: NDArray[np.int64],
    is_live: NDArray[np.bool_],
    bar: int,
) -> Columns:
    chosen = np.flatnonzero(is_live & (shared[0] >= bar))
    return (
        image_ids[chosen],
        (np.minimum(shared[0], MOST_BITS) + shared[1])[chosen].astype(np.float64),
        np.full(len(chosen), segment, dtype=np.int32),
        documents[chosen].astype(np.int32),
    )
