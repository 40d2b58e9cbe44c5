"""Images that share rare buckets with signatures: one pass over all segments for several signatures.

Finds live images that hold more of a signature's rare buckets than chance explains. Reads the lists of a few
buckets, where `search` reads rows of nearly all. Never reads colours or weights. Called by `Snapshot`, from
any number of threads at once; the GIL is released.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

import numpy as np

from iqdb_core.index.ranking.best import sort_best
from iqdb_core.index.ranking.query import MOST_BUCKETS
from iqdb_core.index.ranking.tally import Found, Tally, best_of, create_tally, tally_segment
from iqdb_core.index.ranking.tally_head import tally_head
from iqdb_core.index.segment.layout import GROUPED_BIT, H_GROUPED_AT, H_IMAGES, H_RARE_AT, PAGE_IMAGES
from iqdb_core.index.segment.postings import (
    GROUPED,
    NO_ENTRY,
    RARE,
    directory_at,
    entry_number,
    entry_of,
    form_of,
    rare_count,
    rare_offset,
    segment_at,
)
from iqdb_core.index.simd.memory import VECTOR_WORDS
from iqdb_core.index.simd.vector import prefetch
from iqdb_core.index.simd.words import item
from iqdb_core.kernel import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from iqdb_core.index.query_threads import QueryThreads
    from iqdb_core.index.ranking.arithmetic import Columns, DistinctiveBuckets
    from iqdb_core.index.rows import HeadRows
    from iqdb_core.index.segment.table import SegmentTable

_USUAL_SIGNATURES: Final = 64


class _ThreadTally(threading.local):
    """The memory of one thread, kept between searches."""

    def __init__(self) -> None:
        self.tally = create_tally(_USUAL_SIGNATURES)

    def for_signatures(self, n_signatures: int) -> Tally:
        """Return memory for at least `n_signatures` signatures."""
        if n_signatures > self.tally.of_row.shape[1]:
            self.tally = create_tally(n_signatures)
        return self.tally


_thread_tally: Final = _ThreadTally()


def find_sharers(
    table: SegmentTable, head: HeadRows, distinctive: DistinctiveBuckets, *, limit: int, threads: QueryThreads
) -> list[Columns]:
    """Return, per signature, the live images that reach the bar and share most with it.

    Parameters
    ----------
    table : SegmentTable
    head : HeadRows
    distinctive : DistinctiveBuckets
        The buckets to look for, of at most 250 signatures.
    limit : int
        Most images of each signature, at least 1.
    threads : QueryThreads
        Decides when this search may run.

    Returns
    -------
    list of (image_ids, bits, segments, documents)
        As from `search`, with bits in place of scores: those of shared distinctive buckets, at most 255, plus
        those of shared common ones. Most bits first, equal ones by ascending id.

    Raises
    ------
    ValueError
        `limit` is below 1, the bar is not 1..255, or there are too many signatures.
    """
    distinctive.check(limit)
    m = len(distinctive.counts)
    found = Found(
        np.empty((m, limit)),
        np.empty((m, limit), dtype=np.int64),
        np.empty((m, limit), dtype=np.int32),
        np.empty((m, limit), dtype=np.int32),
        np.zeros(m, dtype=np.int64),
        np.full((m, 3), -np.inf),
    )
    entries = np.empty((m, MOST_BUCKETS), dtype=np.int64)
    chain = np.empty(m * MOST_BUCKETS, dtype=np.int16)
    with threads.turn(0):
        _find(table.addresses, head, *distinctive, entries, chain, _thread_tally.for_signatures(m), found)
    return [
        (
            found.image_ids[number, :count],
            found.scores[number, :count],
            found.segments[number, :count],
            found.documents[number, :count],
        )
        for number, count in enumerate(found.counts.tolist())
    ]


@kernel()
def _find(
    addresses: NDArray[np.uint64],
    head: HeadRows,
    buckets: NDArray[np.int64],
    bits: NDArray[np.int64],
    counts: NDArray[np.int64],
    ends: NDArray[np.int64],
    bar: int,
    entries: NDArray[np.int64],
    chain: NDArray[np.int16],
    tally: Tally,
    found: Found,
) -> None:
    """Fill `found`; `entries` (m, 120) and `chain` (m * 120,) are scratch, the rest as in `find_sharers`."""
    for segment in range(len(addresses)):
        view = segment_at(addresses, segment)
        following = segment_at(addresses, min(segment + 1, len(addresses) - 1))
        _look_up(view.words, following.words, buckets, counts, entries)
        for k in range(len(counts)):
            tally_segment(
                view, entries[k], buckets[k], bits[k], counts[k], ends[k], bar, tally, best_of(found, k)
            )
    tally_head(head, buckets, bits, counts, ends, bar, chain, tally, found)
    for k in range(len(counts)):
        sort_best(best_of(found, k))


@kernel()
def _look_up(
    words: NDArray[np.uint64],
    following: NDArray[np.uint64],
    buckets: NDArray[np.int64],
    counts: NDArray[np.int64],
    entries: NDArray[np.int64],
) -> None:
    """Find the entries of the distinctive buckets in a segment, and prefetch their lists.

    Each step reads what the previous one prefetched; the next segment's directory is prefetched too.
    """
    for k in range(len(counts)):
        for i in range(counts[k]):
            entries[k, i] = entry_number(words, buckets[k, i])
            prefetch(following, directory_at(buckets[k, i]))
    for k in range(len(counts)):
        for i in range(counts[k]):
            if entries[k, i] != NO_ENTRY:
                entries[k, i] = entry_of(words, entries[k, i])
                _prefetch_list(words, entries[k, i])
    for k in range(len(counts)):
        for i in range(counts[k]):
            if entries[k, i] != NO_ENTRY and form_of(entries[k, i]) == GROUPED:
                _prefetch_group(words, entries[k, i])


@kernel(inline=True)
def _prefetch_list(words: NDArray[np.uint64], entry: int) -> None:
    """Prefetch the list of a rare bucket, or the word with the length of a grouped one's list."""
    form = form_of(entry)
    if form == GROUPED:
        prefetch(words, np.int64(words[H_GROUPED_AT]) + (entry ^ GROUPED_BIT))
    elif form == RARE:
        first = np.int64(words[H_RARE_AT]) + (rare_offset(entry) >> 2)
        for k in range(0, (rare_count(entry) >> 2) + VECTOR_WORDS, VECTOR_WORDS):
            prefetch(words, first + k)


@kernel(inline=True)
def _prefetch_group(words: NDArray[np.uint64], entry: int) -> None:
    """Prefetch the rest of the list of a grouped bucket."""
    at = np.int64(words[H_GROUPED_AT]) + (entry ^ GROUPED_BIT)
    count = np.int64(item(words, at) >> np.uint64(32))
    n_pages = (np.int64(words[H_IMAGES]) + PAGE_IMAGES - 1) // PAGE_IMAGES
    n_words = 1 + ((count + n_pages + 63) >> 6) + (count >> 3)
    for k in range(VECTOR_WORDS, n_words + VECTOR_WORDS, VECTOR_WORDS):
        prefetch(words, at + k)
