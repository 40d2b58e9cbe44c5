"""Ranking the images of one segment exactly.

Answers: which images of this segment belong among the best? Bounds 512 images at a time from above, in units, reading the rows that weigh
most first and giving up as soon as none of them can matter; only images that may matter are scored one by one. Called by `scan`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numba import njit

from iqdb_core.index.kernel_best import Best, offer, score_of
from iqdb_core.index.kernel_planes import (
    CHUNK,
    PLANES,
    add_eights,
    add_fours,
    add_ones,
    add_twos,
    at_least,
)
from iqdb_core.index.kernel_postings import is_in_grouped, is_in_rare
from iqdb_core.index.kernel_query import UNIT, Query
from iqdb_core.index.kernel_resolve import RARE_PLANES, ROW_WORDS, Found, resolve
from iqdb_core.index.kernel_vector import has_bits, load, prefetch, store, zeros
from iqdb_core.index.kernel_words import trailing_zeros
from iqdb_core.index.layout import (
    H_AVERAGES_AT,
    H_BOXES_AT,
    H_COLOURLESS_AT,
    H_DOCUMENTS_AT,
    H_IDS_AT,
    H_IMAGES,
    H_VECTORS,
    PAGE_IMAGES,
    VECTOR_WORDS,
)
from iqdb_core.model import CHANNELS

if TYPE_CHECKING:
    from numpy.typing import NDArray

_AHEAD: Final = 12
"""Vectors between asking for a cache line and using it: tried 4 to 48; 8 to 16 are alike, less waits, more is evicted."""
_MOST_UNITS: Final = (1 << PLANES) - 1
_OVERFLOW: Final = RARE_PLANES * ROW_WORDS
_ROW, _LIST, _COUNT, _WEIGHT = range(4)


@njit(nogil=True, cache=True)
def scan_segment(
    words: NDArray[np.uint64],
    alive: NDArray[np.uint64],
    segment: int,
    query: Query,
    found: Found,
    best: Best,
) -> None:
    """Offer to `best` every image of a segment that may be among the best.

    Parameters
    ----------
    words : (n_words,) uint64 ndarray
        The segment.
    alive : (n,) uint64 ndarray
        Bit per document.
    segment : int
        Its number, for the matches.
    query : Query
    found : Found
        **Changed in place.**
    best : Best
        **Changed in place.**
    """
    most, most_grey = resolve(words, query, found)
    n_active = _vectors_that_matter(words, query, found, best, most, most_grey)
    rows = found.rows
    ends = found.ends
    remaining = found.remaining
    rare = found.rare_bits
    end_8, end_4, end_2, end_1, end_more_2, end_more_1 = (
        ends[0],
        ends[1],
        ends[2],
        ends[3],
        ends[4],
        ends[5],
    )
    for i in range(min(_AHEAD, n_active)):
        for k in range(end_1):
            prefetch(words, rows[k] + found.vectors[i] * VECTOR_WORDS)
    for i in range(n_active):
        vector = found.vectors[i]
        needed = units_needed(max(best.least[0], best.common_least[0]), found.penalties[vector])
        if needed > most:
            continue
        column = vector * VECTOR_WORDS
        ahead = found.vectors[min(i + _AHEAD, n_active - 1)] * VECTOR_WORDS
        p = _rare_planes(rare, column)
        for k in range(0, end_8, CHUNK):
            _fetch(words, rows, k, ahead)
            p = add_eights(words, rows, k, column, p)
        for k in range(end_8, end_4, CHUNK):
            _fetch(words, rows, k, ahead)
            p = add_fours(words, rows, k, column, p)
        for k in range(end_4, end_2, CHUNK):
            _fetch(words, rows, k, ahead)
            p = add_twos(words, rows, k, column, p)
        for k in range(end_2, end_1, CHUNK):
            _fetch(words, rows, k, ahead)
            p = add_ones(words, rows, k, column, p)
        overflow = load(rare, _OVERFLOW + column)
        if end_1 > 0:
            left = max(needed - remaining[end_1 // CHUNK - 1], 0)
            if not has_bits(at_least(left, p) | overflow):
                continue
        is_over = False
        for k in range(end_1, end_more_2, CHUNK):
            _fetch(words, rows, k, ahead)
            p = add_twos(words, rows, k, column, p)
            if k & CHUNK:
                left = max(needed - remaining[k // CHUNK], 0)
                if not has_bits(at_least(left, p) | overflow):
                    is_over = True
                    break
        if is_over:
            continue
        for k in range(end_more_2, end_more_1, CHUNK):
            _fetch(words, rows, k, ahead)
            p = add_ones(words, rows, k, column, p)
            if k & CHUNK:
                left = max(needed - remaining[k // CHUNK], 0)
                if not has_bits(at_least(left, p) | overflow):
                    is_over = True
                    break
        if is_over:
            continue
        matter = at_least(needed, p) | overflow
        if has_bits(matter):
            for j in range(PLANES):
                store(found.planes, j * VECTOR_WORDS, p[j])
            store(found.planes, PLANES * VECTOR_WORDS, matter)
            _score_images(words, alive, segment, column, query, found, best)


@njit(nogil=True, cache=True, forceinline=True)
def _rare_planes(rare: NDArray[np.uint64], column: int) -> Any:
    """Return the nine planes that the additions start from."""
    zero = zeros()
    return (
        load(rare, column),
        load(rare, ROW_WORDS + column),
        load(rare, 2 * ROW_WORDS + column),
        load(rare, 3 * ROW_WORDS + column),
        zero,
        zero,
        zero,
        zero,
        zero,
    )


@njit(nogil=True, cache=True, forceinline=True)
def _fetch(words: NDArray[np.uint64], rows: NDArray[np.int64], first: int, column: int) -> None:
    """Ask for what a chunk will read of a later vector."""
    for k in range(first, first + CHUNK):
        prefetch(words, rows[k] + column)


@njit(nogil=True, cache=True, forceinline=True)
def units_needed(least: float, penalty: float) -> int:
    """Return the fewest units with which an image can reach `least` hundredths in spite of its penalty; 512 if none can."""
    units = (least + penalty) / UNIT
    if not units > 0.0:
        return 0
    if units > _MOST_UNITS:
        return _MOST_UNITS + 1
    return np.int64(np.ceil(units))


@njit(nogil=True, cache=True)
def _vectors_that_matter(
    words: NDArray[np.uint64], query: Query, found: Found, best: Best, most: int, most_grey: int
) -> int:
    """List the vectors that may hold one of the best, with the least penalty of each; return how many."""
    n_vectors = np.int64(words[H_VECTORS])
    boxes = words.view(np.float32)[np.int64(words[H_BOXES_AT]) * 2 :]
    colourless_at = np.int64(words[H_COLOURLESS_AT])
    least = max(best.least[0], best.common_least[0])
    n_active = 0
    for vector in range(n_vectors):
        penalty = 0.0
        for channel in range(CHANNELS):
            low = np.float64(boxes[channel * 2 * n_vectors + vector])
            high = np.float64(boxes[(channel * 2 + 1) * n_vectors + vector])
            average = query.averages[channel]
            distance = max(low - average, average - high, 0.0)
            penalty += query.average_weights[channel] * distance
        is_grey = words[colourless_at + (vector >> 6)] >> np.uint64(vector & 63) & np.uint64(1) != np.uint64(0)
        if units_needed(least, penalty) <= (most_grey if is_grey else most):
            found.penalties[vector] = penalty
            found.vectors[n_active] = vector
            n_active += 1
    return n_active


@njit(nogil=True, cache=True)
def _score_images(
    words: NDArray[np.uint64],
    alive: NDArray[np.uint64],
    segment: int,
    column: int,
    query: Query,
    found: Found,
    best: Best,
) -> None:
    """Score the images of a vector that may matter; `found.planes` says which, and their units."""
    documents_at = np.int64(words[H_DOCUMENTS_AT]) * 4
    averages_at = np.int64(words[H_AVERAGES_AT]) * 2
    ids_at = np.int64(words[H_IDS_AT])
    documents = words.view(np.uint16)
    averages = words.view(np.float32)
    n_pages = (np.int64(words[H_IMAGES]) + PAGE_IMAGES - 1) // PAGE_IMAGES
    divisor = query.sizes[2]
    n_images = np.int64(words[H_IMAGES])
    for lane in range(VECTOR_WORDS):
        left = found.planes[PLANES * VECTOR_WORDS + lane]
        while left != np.uint64(0):
            bit = trailing_zeros(left)
            left &= left - np.uint64(1)
            word = column + lane
            slot = word * 64 + np.int64(bit)
            if slot >= n_images:
                continue
            document = np.int64(documents[documents_at + slot])
            if alive[document >> 6] >> np.uint64(document & 63) & np.uint64(1) == np.uint64(0):
                continue
            penalty = 0.0
            for channel in range(CHANNELS):
                average = np.float64(averages[averages_at + slot * CHANNELS + channel])
                penalty += query.average_weights[channel] * abs(query.averages[channel] - average)
            has_overflow = found.rare_bits[_OVERFLOW + word] >> bit & np.uint64(1) != np.uint64(0)
            if not has_overflow:
                units = 0
                for j in range(PLANES):
                    units |= np.int64(found.planes[j * VECTOR_WORDS + lane] >> bit & np.uint64(1)) << j
                if units * UNIT - penalty < max(best.least[0], best.common_least[0]):
                    continue
            shared = _shared_hundredths(words, slot, n_pages, found)
            score = score_of(shared - penalty, divisor)
            offer(best, score, np.int64(words[ids_at + document]), segment, document, divisor)


@njit(nogil=True, cache=True)
def _shared_hundredths(words: NDArray[np.uint64], slot: int, n_pages: int, found: Found) -> int:
    """Return what the buckets weigh that an image shares with the query."""
    word = slot >> 6
    bit = np.uint64(slot & 63)
    one = np.uint64(1)
    shared = 0
    for k in range(found.sizes[0]):
        shared += np.int64(words[found.exact[_ROW, k] + word] >> bit & one) * found.exact[_WEIGHT, k]
    for k in range(found.sizes[1]):
        if words[found.grouped[_ROW, k] + word] >> bit & one and is_in_grouped(
            words, found.grouped[_LIST, k], n_pages, slot
        ):
            shared += found.grouped[_WEIGHT, k]
    rare = found.rare_bits
    if (
        (rare[word] | rare[ROW_WORDS + word] | rare[2 * ROW_WORDS + word])
        | (rare[3 * ROW_WORDS + word] | rare[_OVERFLOW + word])
    ) >> bit & one:
        for k in range(found.sizes[2]):
            if is_in_rare(words, found.rare[_LIST, k], found.rare[_COUNT, k], slot):
                shared += found.rare[_WEIGHT, k]
    return shared
