"""Ranking the images of one segment exactly.

Answers: which images of this segment belong among the best? Bounds 512 images at a time from above, in units, reading the rows that weigh
most first and giving up as soon as none of them can matter; only images that may matter are scored one by one. Called by `scan`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from iqdb_core.index.compiled import kernel
from iqdb_core.index.kernel_planes import (
    CHUNK,
    PLANES,
    add_fours,
    add_ones,
    add_twos,
    at_least,
)
from iqdb_core.index.kernel_query import UNIT
from iqdb_core.index.kernel_resolve import MOST_CHUNKS, RARE_PLANES, ROW_WORDS, Found, resolve
from iqdb_core.index.kernel_score import MATTER, MOST_UNITS, score_vector, units_needed
from iqdb_core.index.kernel_vector import has_bits, load, prefetch, store, zeros
from iqdb_core.index.kernel_words import item
from iqdb_core.index.layout import (
    H_BOXES_AT,
    H_COLOURLESS_AT,
    H_VECTORS,
    VECTOR_WORDS,
)
from iqdb_core.model import CHANNELS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from iqdb_core.index.kernel_best import Best
    from iqdb_core.index.kernel_query import Query

_AHEAD: Final = 12
"""Vectors between asking for a cache line and using it: tried 4 to 48; 8 to 16 are alike, less waits, more is evicted."""
PHASE_ROWS: Final = 16
"""Rows added between two looks at which vectors may still matter, behind the first rows."""
_USUAL_SHARE: Final = 0.35
_OVERFLOW: Final = RARE_PLANES * ROW_WORDS


@kernel()
def scan_segment(
    words: NDArray[np.uint64],
    alive: NDArray[np.uint64],
    segment: int,
    turn: int,
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
    turn : int
        As of `look_ahead`, whose steps are done.
    query : Query
    found : Found
        **Changed in place.**
    best : Best
        **Changed in place.**
    """
    most, most_grey = resolve(words, turn, query, found)
    n_vectors = _vectors_that_matter(words, query, found, best, most, most_grey)
    end = found.ends[4]
    first = 0
    stop = _first_stop(n_vectors, found, best)
    for i in range(min(_AHEAD, n_vectors)):
        for k in range(stop):
            prefetch(words, item(found.rows, k) + found.vectors[i] * VECTOR_WORDS)
    while n_vectors > 0:
        n_vectors = _add_rows(words, alive, segment, n_vectors, first, stop, query, found, best)
        first = stop
        stop = min(first + PHASE_ROWS, end)


@kernel()
def _first_stop(n_vectors: int, found: Found, best: Best) -> int:
    """Return after how many rows it is worth looking for the first time which vectors may still matter.

    The best image of a vector usually has a bit less than half of what could be had so far: so much, and all that is
    still to come, has to be too little. A guess about speed; answers do not depend on it.
    """
    end = found.ends[4]
    if n_vectors == 0:
        return end
    penalty = found.penalties[found.vectors[0]]
    for i in range(1, n_vectors):
        penalty = min(penalty, found.penalties[found.vectors[i]])
    needed = units_needed(max(best.least[0], best.common_least[0]), penalty)
    total = found.remaining[MOST_CHUNKS]
    for stop in range(CHUNK, end, CHUNK):
        remaining = found.remaining[stop // CHUNK - 1]
        if (total - remaining) * _USUAL_SHARE + remaining < needed:
            return stop
    return end


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
    """Add rows first..stop - 1 to the vectors that are left, and keep those that may still matter; return how many.

    After the last row, images that may still matter are scored while their rows are in the cache, and no vector is left.
    """
    rows = found.rows
    rare = found.rare_bits
    vectors = found.vectors
    planes = found.planes
    ends = found.ends
    end_4, end_2, end_1, end_more_2 = ends[0], ends[1], ends[2], ends[3]
    stop_4 = min(end_4, stop)
    first_2, stop_2 = max(end_4, first), min(end_2, stop)
    first_1, stop_1 = max(end_2, first), min(end_1, stop)
    first_more_2, stop_more_2 = max(end_1, first), min(end_more_2, stop)
    first_more_1 = max(end_more_2, first)
    remaining = item(found.remaining, stop // CHUNK - 1) if stop > 0 else 0
    next_stop = min(stop + PHASE_ROWS, ends[4])
    is_last = stop == ends[4]
    n_left = 0
    for i in range(n_vectors):
        vector = item(vectors, i)
        needed = units_needed(max(best.least[0], best.common_least[0]), item(found.penalties, vector))
        column = vector * VECTOR_WORDS
        if first == 0:
            ahead = item(vectors, min(i + _AHEAD, n_vectors - 1)) * VECTOR_WORDS
            p = _rare_planes(rare, column)
            p = add_fours(words, rows, first, stop_4, column, ahead, p)
            p = add_twos(words, rows, first_2, stop_2, column, ahead, p)
            p = add_ones(words, rows, first_1, stop_1, column, ahead, p)
            p = add_twos(words, rows, first_more_2, stop_more_2, column, ahead, p)
            p = add_ones(words, rows, first_more_1, stop, column, ahead, p)
        else:
            p = _stored(planes, i)
            p = add_fours(words, rows, first, stop_4, column, None, p)
            p = add_twos(words, rows, first_2, stop_2, column, None, p)
            p = add_ones(words, rows, first_1, stop_1, column, None, p)
            p = add_twos(words, rows, first_more_2, stop_more_2, column, None, p)
            p = add_ones(words, rows, first_more_1, stop, column, None, p)
        overflow = load(rare, _OVERFLOW + column)
        if is_last:
            if needed <= MOST_UNITS:
                matter = at_least(needed, p) | overflow
                if has_bits(matter):
                    _keep(found.scratch, 0, p)
                    store(found.scratch, MATTER, matter)
                    score_vector(words, alive, segment, vector, query, found, best)
        elif _may_matter(needed - remaining, p, overflow):
            _keep(planes, n_left, p)
            vectors[np.uint64(n_left)] = vector
            n_left += 1
            for k in range(stop, next_stop):
                prefetch(words, item(rows, k) + column)
    return n_left


@kernel(inline=True)
def _may_matter(least: int, p: Any, overflow: Any) -> bool:
    """Return whether some image of a vector has at least so many units, or more than could be counted."""
    if least <= 0:
        return True
    if least >= 1 << PLANES:
        return has_bits(overflow)
    return has_bits(at_least(least, p) | overflow)


@kernel(inline=True)
def _keep(planes: NDArray[np.uint64], i: int, p: Any) -> None:
    """Store the nine planes of the i-th vector."""
    first = i * PLANES * VECTOR_WORDS
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
    first = i * PLANES * VECTOR_WORDS
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
def _vectors_that_matter(
    words: NDArray[np.uint64], query: Query, found: Found, best: Best, most: int, most_grey: int
) -> int:
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
            outside = below if below > above else above
            penalties[vector] += weight * (outside if outside > 0.0 else 0.0)
    least = max(best.least[0], best.common_least[0])
    room = most * UNIT - least
    room_grey = most_grey * UNIT - least
    n_active = 0
    for vector in range(n_vectors):
        is_grey = item(words, colourless_at + (vector >> 6)) >> np.uint64(vector & 63) & np.uint64(1) != np.uint64(0)
        found.vectors[n_active] = vector
        n_active += penalties[vector] <= (room_grey if is_grey else room)
    if best.count[0] < len(best.scores):
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
