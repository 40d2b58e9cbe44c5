"""A whole query in one compiled call.

Answers: what are the best matches of this signature among all segments and the head? Called by `scan`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from iqdb_core.index.compiled import kernel
from iqdb_core.index.kernel_best import Best, offer, sort_best, start_best
from iqdb_core.index.kernel_head import HEAD_SEGMENT, HeadRows, scan_head
from iqdb_core.index.kernel_query import MOST_BUCKETS, Query, prepare
from iqdb_core.index.kernel_resolve import Found, ask_for_directory, ask_for_entries, ask_for_lists
from iqdb_core.index.kernel_scan import scan_segment, score_hot
from iqdb_core.index.kernel_words import words_at
from iqdb_core.index.layout import H_IDS_AT, H_IMAGES

if TYPE_CHECKING:
    from numpy.typing import NDArray

WORDS, N_WORDS, ALIVE, N_ALIVE_WORDS = range(4)
"""Columns of the addresses of a `SegmentTable`."""
MOST_SEEDED = 100
SEEDED_SHARE = 0.5


@kernel()
def search_alone(
    addresses: NDArray[np.uint64],
    head: HeadRows,
    positions: NDArray[np.int16],
    averages: tuple[float, float, float],
    is_grey: bool,
    nonempty: NDArray[np.bool_],
    min_score: float,
    query: Query,
    found: Found,
    weights: NDArray[np.uint8],
    best: Best,
) -> None:
    """Fill `best` with the best matches of a signature, in one thread.

    Parameters
    ----------
    addresses : (n_segments, 4) uint64 ndarray
        Of a `SegmentTable`, which the caller keeps alive.
    head : HeadRows
    positions, averages, is_grey, nonempty
        As of `prepare`.
    min_score : float
        -inf to leave out none.
    query : Query
    found : Found
    weights : (114,689,) uint8 ndarray
        Scratch of this thread; `found` has room for all segments.
    best : Best
        New. **Changed in place**: sorted from best to worst.
    """
    start(positions, averages, is_grey, nonempty, min_score, query, best)
    search_part(addresses, np.int64(0), np.int64(1), query, found, best)
    finish(head, query, weights, best)


@kernel()
def start(
    positions: NDArray[np.int16],
    averages: tuple[float, float, float],
    is_grey: bool,
    nonempty: NDArray[np.bool_],
    min_score: float,
    query: Query,
    best: Best,
) -> None:
    """Prepare a query and the bounds of its matches."""
    prepare(query, positions, averages, is_grey, nonempty)
    start_best(best, min_score, query.sizes[1])


@kernel()
def take_over(best: Best, other: Best, query: Query) -> None:
    """Offer to `best` what another thread found."""
    for i in range(other.count[0]):
        offer(
            best,
            other.scores[i],
            other.image_ids[i],
            other.segments[i],
            other.documents[i],
            query.sizes[1],
        )


@kernel()
def finish(head: HeadRows, query: Query, weights: NDArray[np.uint8], best: Best) -> None:
    """Offer the images of the head, and sort the matches."""
    if query.sizes[1] == 0:
        for row in range(len(head.image_ids)):
            if head.alive[row]:
                offer(best, 0.0, head.image_ids[row], np.int64(HEAD_SEGMENT), row, np.int64(0))
    else:
        scan_head(head, query, weights, best)
    sort_best(best)


@kernel()
def search_part(
    addresses: NDArray[np.uint64], first: int, stride: int, query: Query, found: Found, best: Best
) -> None:
    """Offer to `best` the images of every `stride`-th segment from `first` on; see `search_alone`."""
    if query.sizes[1] == 0:
        for segment in range(first, len(addresses), stride):
            _take_first(addresses, segment, best)
        return
    n_segments = (len(addresses) - first + stride - 1) // stride
    is_seeded = len(best.scores) <= MOST_SEEDED and best.least[0] < SEEDED_SHARE * query.sizes[1]
    # Each step of looking up reads what the one before asked for, some segments earlier.
    for turn in range(n_segments + 3):
        if turn < n_segments:
            ask_for_directory(
                words_at(
                    addresses[first + turn * stride, WORDS],
                    np.int64(addresses[first + turn * stride, N_WORDS]),
                ),
                query,
            )
        now = turn - 1
        if 0 <= now < n_segments:
            entries = found.entries[now * MOST_BUCKETS : (now + 1) * MOST_BUCKETS]
            ask_for_entries(
                words_at(
                    addresses[first + now * stride, WORDS], np.int64(addresses[first + now * stride, N_WORDS])
                ),
                query,
                entries,
            )
        now = turn - 2
        if 0 <= now < n_segments:
            entries = found.entries[now * MOST_BUCKETS : (now + 1) * MOST_BUCKETS]
            ask_for_lists(
                words_at(
                    addresses[first + now * stride, WORDS], np.int64(addresses[first + now * stride, N_WORDS])
                ),
                query,
                entries,
            )
        now = turn - 3
        if now >= 0 and is_seeded:
            segment = first + now * stride
            entries = found.entries[now * MOST_BUCKETS : (now + 1) * MOST_BUCKETS]
            words = words_at(addresses[segment, WORDS], np.int64(addresses[segment, N_WORDS]))
            score_hot(
                words,
                words_at(addresses[segment, ALIVE], np.int64(addresses[segment, N_ALIVE_WORDS])),
                segment,
                entries,
                query,
                found,
                best,
            )
    for now in range(n_segments):
        segment = first + now * stride
        entries = found.entries[now * MOST_BUCKETS : (now + 1) * MOST_BUCKETS]
        words = words_at(addresses[segment, WORDS], np.int64(addresses[segment, N_WORDS]))
        scan_segment(
            words,
            words_at(addresses[segment, ALIVE], np.int64(addresses[segment, N_ALIVE_WORDS])),
            segment,
            entries,
            is_seeded,
            query,
            found,
            best,
        )


@kernel()
def _take_first(addresses: NDArray[np.uint64], segment: int, best: Best) -> None:
    """Offer a segment's live images of the smallest ids with score 0: nothing can be shared with any image."""
    words = words_at(addresses[segment, WORDS], np.int64(addresses[segment, N_WORDS]))
    alive = words_at(addresses[segment, ALIVE], np.int64(addresses[segment, N_ALIVE_WORDS]))
    ids_at = np.int64(words[H_IDS_AT])
    taken = 0
    for document in range(np.int64(words[H_IMAGES])):
        if taken == len(best.scores):
            break
        if alive[document >> 6] >> np.uint64(document & 63) & np.uint64(1):
            offer(best, 0.0, np.int64(words[ids_at + document]), segment, document, np.int64(0))
            taken += 1
