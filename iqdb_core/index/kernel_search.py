"""A whole query in one compiled call.

Answers: what are the best matches of this signature among all segments and the head? Called by `scan`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from iqdb_core.index.compiled import kernel
from iqdb_core.index.kernel_best import Best, offer, sort_best, start_best
from iqdb_core.index.kernel_head import HeadRows, scan_head
from iqdb_core.index.kernel_query import Query, prepare
from iqdb_core.index.kernel_resolve import LOOK_AHEAD, TURNS, Found, look_ahead
from iqdb_core.index.kernel_scan import scan_segment
from iqdb_core.index.kernel_words import words_at
from iqdb_core.index.layout import H_IDS_AT, H_IMAGES

if TYPE_CHECKING:
    from numpy.typing import NDArray

WORDS, N_WORDS, ALIVE, N_ALIVE_WORDS = range(4)
"""Columns of the addresses of a `SegmentTable`."""


@kernel()
def search_all(
    addresses: NDArray[np.uint64],
    head: HeadRows,
    positions: NDArray[np.int16],
    averages: NDArray[np.float64],
    is_grey: bool,
    nonempty: NDArray[np.bool_],
    min_score: float,
    query: Query,
    found: Found,
    weights: NDArray[np.uint8],
    best: Best,
) -> None:
    prepare(query, positions, averages, is_grey, nonempty)
    start_best(best, min_score, query.sizes[2])
    if query.sizes[2] == 0:
        _take_first(addresses, head, best)
    else:
        scan_segments(addresses, 0, 1, query, found, best)
        scan_head(head, query, weights, best)
    sort_best(best)


@kernel()
def scan_segments(
    addresses: NDArray[np.uint64], first: int, stride: int, query: Query, found: Found, best: Best
) -> None:
    """Scan every `stride`-th segment from `first` on, looking up the next ones meanwhile."""
    n_segments = (len(addresses) - first + stride - 1) // stride
    for at in range(n_segments + LOOK_AHEAD):
        for step in range(1, LOOK_AHEAD + 1):
            later = at - step + 1
            if 0 <= later < n_segments:
                row = addresses[first + later * stride]
                look_ahead(words_at(row[WORDS], row[N_WORDS]), later % TURNS, query, found, step)
        now = at - LOOK_AHEAD
        if now >= 0:
            segment = first + now * stride
            row = addresses[segment]
            words = words_at(row[WORDS], row[N_WORDS])
            alive = words_at(row[ALIVE], row[N_ALIVE_WORDS])
            scan_segment(words, alive, segment, now % TURNS, query, found, best)


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
                offer(best, 0.0, np.int64(words[ids_at + document]), segment, document, 0)
                taken += 1
    for row in range(len(head.image_ids)):
        if head.alive[row]:
            offer(best, 0.0, head.image_ids[row], -1, row, 0)
