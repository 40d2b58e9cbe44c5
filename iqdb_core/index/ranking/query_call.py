"""A whole query in one compiled call.

Answers: what are the best matches of this signature among all segments and the head? Called by `scan`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from iqdb_core.index.ranking.best import Best, offer, sort_best, start_best
from iqdb_core.index.ranking.bounds import scan_segment, score_hot
from iqdb_core.index.ranking.head_rows import HEAD_SEGMENT, HeadRows, scan_head
from iqdb_core.index.ranking.lookup import Found, ask_for_directory, ask_for_entries, ask_for_lists
from iqdb_core.index.ranking.query import MOST_BUCKETS, Query, prepare
from iqdb_core.index.segment.layout import H_IDS_AT, H_IMAGES
from iqdb_core.index.simd.compiled import kernel
from iqdb_core.index.simd.words import words_at

if TYPE_CHECKING:
    from numpy.typing import NDArray

WORDS, N_WORDS, ALIVE, N_ALIVE_WORDS = range(4)
"""Columns of the addresses of a `SegmentTable`."""
_MOST_SEEDED = 100
"""Up to this limit, hot images are scored first: of more matches they are too few to raise the bar."""
_SEEDED_SHARE = 0.5
"""If the bar is given, it has to be below this share of the best possible score for them to be worth it."""


@kernel()
def search_part(
    addresses: NDArray[np.uint64],
    first: int,
    stride: int,
    positions: NDArray[np.int16],
    averages: tuple[float, float, float],
    is_grey: bool,
    nonempty: NDArray[np.bool_],
    min_score: float,
    query: Query,
    found: Found,
    best: Best,
) -> None:
    """Fill `best`, in no order, from every `stride`-th segment from `first` on."""
    prepare(query, positions, averages, is_grey, nonempty)
    start_best(best, min_score, query.sizes[1])
    if query.sizes[1] != 0:
        scan_segments(addresses, first, stride, query, found, best)


@kernel()
def search_all(
    addresses: NDArray[np.uint64],
    stride: int,
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
    """Fill `best` with the best matches of a signature in the head and every `stride`-th segment, best first.

    Where nothing can be shared with any image, in all segments.
    """
    first = np.int64(0)  # as a literal it would be compiled for 0 apart
    search_part(
        addresses, first, stride, positions, averages, is_grey, nonempty, min_score, query, found, best
    )
    if query.sizes[1] == 0:
        _take_first(addresses, head, best)
    else:
        scan_head(head, query, weights, best)
    sort_best(best)


@kernel()
def scan_segments(
    addresses: NDArray[np.uint64], first: int, stride: int, query: Query, found: Found, best: Best
) -> None:
    """Scan every `stride`-th segment from `first` on."""
    n_segments = (len(addresses) - first + stride - 1) // stride
    is_seeded = len(best.scores) <= _MOST_SEEDED and best.least[0] < _SEEDED_SHARE * query.sizes[1]
    # Each step of looking up reads what the one before asked for, some segments earlier.
    for turn in range(n_segments + 3):
        for step in range(4):
            now = turn - step
            if not 0 <= now < n_segments:
                continue
            segment = first + now * stride
            words = words_at(addresses[segment, WORDS], addresses[segment, N_WORDS])
            entries = found.entries[now * MOST_BUCKETS : (now + 1) * MOST_BUCKETS]
            if step == 0:
                ask_for_directory(words, query)
            elif step == 1:
                ask_for_entries(words, query, entries)
            elif step == 2:
                ask_for_lists(words, query, entries)
            elif is_seeded:
                alive = words_at(addresses[segment, ALIVE], addresses[segment, N_ALIVE_WORDS])
                score_hot(words, alive, segment, entries, query, found, best)
    for now in range(n_segments):
        segment = first + now * stride
        words = words_at(addresses[segment, WORDS], addresses[segment, N_WORDS])
        alive = words_at(addresses[segment, ALIVE], addresses[segment, N_ALIVE_WORDS])
        entries = found.entries[now * MOST_BUCKETS : (now + 1) * MOST_BUCKETS]
        scan_segment(words, alive, segment, entries, is_seeded, query, found, best)


@kernel()
def _take_first(addresses: NDArray[np.uint64], head: HeadRows, best: Best) -> None:
    """Offer the live images of the smallest ids, all with score 0: nothing can be shared with any image."""
    for segment in range(len(addresses)):
        words = words_at(addresses[segment, WORDS], addresses[segment, N_WORDS])
        alive = words_at(addresses[segment, ALIVE], addresses[segment, N_ALIVE_WORDS])
        ids_at = np.int64(words[H_IDS_AT])
        taken = 0
        for document in range(np.int64(words[H_IMAGES])):
            if taken == len(best.scores):
                break
            if alive[document >> 6] >> np.uint64(document & 63) & np.uint64(1):
                offer(best, 0.0, np.int64(words[ids_at + document]), segment, document, np.int64(0))
                taken += 1
    for row in range(len(head.image_ids)):
        if head.alive[row]:
            offer(best, 0.0, head.image_ids[row], np.int64(HEAD_SEGMENT), row, np.int64(0))
