"""Ranking the images of one segment exactly.

Answers: which images of this segment belong among the best? Bounds 512 images at a time from above, in units,
reading the rows that weigh most first and giving up as soon as none of them can matter; only images that may
matter are scored one by one. Called by `scan`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from iqdb_core.index.ranking.best import bar
from iqdb_core.index.ranking.exact import MATTER, MOST_UNITS, score_slots, score_vector, units_needed
from iqdb_core.index.ranking.lookup import (
    FIRST_ONES,
    FIRST_TWOS,
    FOURS,
    MORE_ONES,
    MORE_TWOS,
    MOST,
    MOST_GREY,
    PARTS,
    RARE_PLANES,
    RARE_UNITS,
    ROW_WORDS,
    Found,
    lay_out,
    resolve,
    units_behind,
)
from iqdb_core.index.ranking.query import UNIT
from iqdb_core.index.ranking.rare_bits import DONE, OVERFLOW, mark_hot, write_rare
from iqdb_core.index.segment.layout import H_BOXES_AT, H_COLOURLESS_AT, H_ROWS_AT, H_VECTORS, VECTOR_WORDS
from iqdb_core.index.simd.compiled import kernel
from iqdb_core.index.simd.planes import CHUNK, PLANES, add_fours, add_ones, add_twos, at_least
from iqdb_core.index.simd.vector import has_bits, load, prefetch, store, zeros
from iqdb_core.index.simd.words import item, trailing_zeros
from iqdb_core.model import CHANNELS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from iqdb_core.index.ranking.best import Best
    from iqdb_core.index.ranking.query import Query

_AHEAD: Final = 12
"""Vectors between asking for a cache line and using it: tried 4 to 48; 8 to 16 are alike, less waits, more
is evicted."""
_PLANE_WORDS: Final = PLANES * VECTOR_WORDS
_PHASE_ROWS: Final = 16
"""Rows added between two looks at which vectors may still matter."""
_USUAL_SHARE: Final = 0.35
"""What the best image of a vector has in common with a query, of what it could have: see `_first_stop`."""


@kernel()
def scan_segment(
    words: NDArray[np.uint64],
    alive: NDArray[np.uint64],
    segment: int,
    entries: NDArray[np.int64],
    is_seeded: bool,
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
    entries : (120,) int64 ndarray
        Of the query's buckets, as `ask_for_lists` left them.
    is_seeded : bool
        Whether `score_hot` has been called for this segment.
    query : Query
    found : Found
        **Changed in place.**
    best : Best
        **Changed in place.**
    """
    resolve(words, query, entries, found)
    lay_out(query, found, np.int64(words[H_ROWS_AT]))
    n_vectors = _vectors_that_matter(words, query, found, best)
    stop = _first_stop(n_vectors, found, best)
    _ask_for_rows(words, n_vectors, stop, found)
    write_rare(words, found)
    if is_seeded:
        mark_hot(words, found)
    first = np.int64(0)  # as a literal it would be compiled for 0 apart
    while n_vectors > 0:
        n_vectors = _add_rows(words, alive, segment, n_vectors, first, stop, query, found, best)
        first = stop
        stop = min(first + _PHASE_ROWS, found.ends[MORE_ONES])


@kernel()
def score_hot(
    words: NDArray[np.uint64],
    alive: NDArray[np.uint64],
    segment: int,
    entries: NDArray[np.int64],
    query: Query,
    found: Found,
    best: Best,
) -> None:
    """Score at once the few images of a segment that share many rare buckets; see `scan_segment`.

    They often are near copies. Scoring them before anything else raises the bar for all others.
    """
    resolve(words, query, entries, found)
    if found.numbers[RARE_UNITS] < 1 << (RARE_PLANES - 1):
        return
    write_rare(words, found)
    if mark_hot(words, found) == 0:
        return
    n_words = np.int64(words[H_VECTORS]) * VECTOR_WORDS
    n_slots = np.int64(0)
    for word in range(n_words):
        left = item(found.rare_bits, DONE + word)
        while left != np.uint64(0):
            found.slots[n_slots] = word * 64 + np.int64(trailing_zeros(left))
            left &= left - np.uint64(1)
            n_slots += 1
    score_slots(words, alive, segment, n_slots, query, found, best)


@kernel()
def _first_stop(n_vectors: int, found: Found, best: Best) -> int:
    """Return after how many rows it is worth looking for the first time which vectors may still matter.

    The best image of a vector usually has a certain share of what could be had so far: so much, and all that
    is still to come, has to be too little. A guess about speed; answers do not depend on it.
    """
    end = found.ends[MORE_ONES]
    if n_vectors == 0:
        return end
    penalty = found.penalties[found.vectors[0]]
    for i in range(1, n_vectors):
        penalty = min(penalty, found.penalties[found.vectors[i]])
    needed = units_needed(bar(best), penalty)
    most = found.numbers[MOST]
    for stop in range(CHUNK, end, CHUNK):
        behind = units_behind(found, stop)
        if (most - behind) * _USUAL_SHARE + behind < needed:
            return stop
    return end


@kernel()
def _ask_for_rows(words: NDArray[np.uint64], n_vectors: int, stop: int, found: Found) -> None:
    """Ask for what the first vectors read of the first rows; the later ones are asked for on the way."""
    first = 0
    for part in range(PARTS):
        end = min(found.ends[part], stop)
        for k in range(first, end):
            row = item(found.rows, k + found.shifts[part])
            for i in range(min(_AHEAD, n_vectors)):
                prefetch(words, row + found.vectors[i] * VECTOR_WORDS)
        first = max(first, end)


@kernel()
def _add_rows(
    words: NDArray[np.uint64],
    alive: NDArray[np.uint64],
    segment: int,
    n_vectors: int,
    first: int,
    stop: int,
    query: Query,
    found: Found,
    best: Best,
) -> int:
    """Add rows first..stop - 1 to the vectors left, and return how many may still matter, which are kept.

    After the last row, images that may still matter are scored while their rows are in the cache, and no
    vector is left.
    """
    rows = found.rows
    rare = found.rare_bits
    vectors = found.vectors
    planes = found.planes
    ends = found.ends
    shifts = found.shifts
    k_4, stop_4 = _clipped(first, stop, 0, ends[FOURS], shifts[FOURS])
    k_2, stop_2 = _clipped(first, stop, ends[FOURS], ends[FIRST_TWOS], shifts[FIRST_TWOS])
    k_1, stop_1 = _clipped(first, stop, ends[FIRST_TWOS], ends[FIRST_ONES], shifts[FIRST_ONES])
    more_2, stop_more_2 = _clipped(first, stop, ends[FIRST_ONES], ends[MORE_TWOS], shifts[MORE_TWOS])
    more_1, stop_more_1 = _clipped(first, stop, ends[MORE_TWOS], ends[MORE_ONES], shifts[MORE_ONES])
    behind = units_behind(found, stop)
    is_last = stop == ends[MORE_ONES]
    n_left = 0
    for i in range(n_vectors):
        vector = item(vectors, i)
        needed = units_needed(bar(best), item(found.penalties, vector))
        column = vector * VECTOR_WORDS
        if first == 0:
            ahead = item(vectors, min(i + _AHEAD, n_vectors - 1)) * VECTOR_WORDS
            p = _rare_planes(rare, column)
            p = add_fours(words, rows, k_4, stop_4, column, ahead, p)
            p = add_twos(words, rows, k_2, stop_2, column, ahead, p)
            p = add_ones(words, rows, k_1, stop_1, column, ahead, p)
            p = add_twos(words, rows, more_2, stop_more_2, column, ahead, p)
            p = add_ones(words, rows, more_1, stop_more_1, column, ahead, p)
        else:
            p = _stored(planes, i)
            p = add_fours(words, rows, k_4, stop_4, column, None, p)
            p = add_twos(words, rows, k_2, stop_2, column, None, p)
            p = add_ones(words, rows, k_1, stop_1, column, None, p)
            p = add_twos(words, rows, more_2, stop_more_2, column, None, p)
            p = add_ones(words, rows, more_1, stop_more_1, column, None, p)
        overflow = load(rare, OVERFLOW + column)
        if needed - behind > MOST_UNITS:
            matter = overflow
        else:
            matter = at_least(max(needed - behind, 0), p) | overflow
        matter = matter ^ (matter & load(rare, DONE + column))
        if not has_bits(matter):
            continue
        if is_last:
            _keep(found.scratch, 0, p)
            store(found.scratch, MATTER, matter)
            score_vector(words, alive, segment, vector, query, found, best)
        else:
            _keep(planes, n_left, p)
            vectors[np.uint64(n_left)] = vector
            n_left += 1
            _ask_for_vector(words, stop, column, found)
    return n_left


@kernel(inline=True)
def _clipped(first: int, stop: int, start: int, end: int, shift: int) -> tuple[int, int]:
    """Return what rows first..stop - 1 have of the part start..end - 1, as places in `found.rows`."""
    return max(first, start) + shift, min(stop, end) + shift


@kernel(inline=True)
def _ask_for_vector(words: NDArray[np.uint64], first: int, column: int, found: Found) -> None:
    """Ask for what a vector reads next."""
    stop = min(first + _PHASE_ROWS, found.ends[MORE_ONES])
    for part in range(PARTS):
        shift = found.shifts[part]
        end = min(found.ends[part], stop)
        for k in range(first, end):
            prefetch(words, item(found.rows, k + shift) + column)
        first = max(first, end)


@kernel(inline=True)
def _keep(planes: NDArray[np.uint64], i: int, p: Any) -> None:
    """Store the nine planes of the i-th vector."""
    first = i * _PLANE_WORDS
    store(planes, first + 0 * VECTOR_WORDS, p[0])
    store(planes, first + 1 * VECTOR_WORDS, p[1])
    store(planes, first + 2 * VECTOR_WORDS, p[2])
    store(planes, first + 3 * VECTOR_WORDS, p[3])
    store(planes, first + 4 * VECTOR_WORDS, p[4])
    store(planes, first + 5 * VECTOR_WORDS, p[5])
    store(planes, first + 6 * VECTOR_WORDS, p[6])
    store(planes, first + 7 * VECTOR_WORDS, p[7])
    store(planes, first + 8 * VECTOR_WORDS, p[8])


@kernel(inline=True)
def _stored(planes: NDArray[np.uint64], i: int) -> Any:
    """Return the nine planes of the i-th vector."""
    first = i * _PLANE_WORDS
    return (
        load(planes, first),
        load(planes, first + VECTOR_WORDS),
        load(planes, first + 2 * VECTOR_WORDS),
        load(planes, first + 3 * VECTOR_WORDS),
        load(planes, first + 4 * VECTOR_WORDS),
        load(planes, first + 5 * VECTOR_WORDS),
        load(planes, first + 6 * VECTOR_WORDS),
        load(planes, first + 7 * VECTOR_WORDS),
        load(planes, first + 8 * VECTOR_WORDS),
    )


@kernel(inline=True)
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


@kernel()
def _vectors_that_matter(words: NDArray[np.uint64], query: Query, found: Found, best: Best) -> int:
    """List the vectors that may hold one of the best, with the least penalty of each; return how many."""
    n_vectors = np.int64(words[H_VECTORS])
    boxes_at = np.int64(words[H_BOXES_AT]) * 2
    boxes = words.view(np.float32)
    colourless_at = np.int64(words[H_COLOURLESS_AT])
    penalties = found.penalties[:n_vectors]
    for vector in range(n_vectors):
        penalties[vector] = 0.0
    for channel in range(CHANNELS):
        weight = query.average_weights[channel]
        average = query.averages[channel]
        low_at = boxes_at + channel * 2 * n_vectors
        lows = boxes[low_at : low_at + n_vectors]
        highs = boxes[low_at + n_vectors : low_at + 2 * n_vectors]
        for vector in range(n_vectors):
            below = np.float64(lows[vector]) - average
            above = average - np.float64(highs[vector])
            outside = max(above, below)
            penalties[vector] += weight * (max(0.0, outside))
    least = bar(best)
    room = found.numbers[MOST] * UNIT - least
    room_grey = found.numbers[MOST_GREY] * UNIT - least
    n_active = 0
    for vector in range(n_vectors):
        is_grey = item(words, colourless_at + (vector >> 6)) >> np.uint64(vector & 63) & np.uint64(
            1
        ) != np.uint64(0)
        found.vectors[n_active] = vector
        n_active += penalties[vector] <= (room_grey if is_grey else room)
    if least == -np.inf:
        # Nothing can be passed over yet: what is near in colour is likely to score well, and raises the bar.
        _sort_by_penalty(found.vectors, n_active, penalties)
    return n_active


@kernel()
def _sort_by_penalty(vectors: NDArray[np.int64], n: int, penalties: NDArray[np.float64]) -> None:
    """Sort the first n vectors by ascending penalty."""
    for i in range(1, n):
        vector = vectors[i]
        hole = i
        while hole > 0 and penalties[vectors[hole - 1]] > penalties[vector]:
            vectors[hole] = vectors[hole - 1]
            hole -= 1
        vectors[hole] = vector
