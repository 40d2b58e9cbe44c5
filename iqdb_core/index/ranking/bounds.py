"""Ranking the images of one segment exactly.

Computes upper bounds for 512 images at a time, in units. It reads the rows of the highest weights first, and
stops as soon as none of the 512 can be among the best. Only images that may be are scored one by one. Called
by `query_call`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from iqdb_core.index.ranking.best import bar
from iqdb_core.index.ranking.exact import MATTER, MOST_UNITS, score_slots, score_vector, units_needed
from iqdb_core.index.ranking.lookup import MOST, RARE_UNITS, resolve
from iqdb_core.index.ranking.rare_bits import DONE, OVERFLOW, RARE_PLANES, ROW_WORDS, mark_hot, write_rare
from iqdb_core.index.ranking.row_order import (
    FIRST_ONES,
    FIRST_TWOS,
    FOURS,
    MORE_ONES,
    MORE_TWOS,
    PARTS,
    lay_out,
    units_behind,
)
from iqdb_core.index.ranking.vectors import vectors_that_matter
from iqdb_core.index.segment.layout import H_ROWS_AT, H_VECTORS
from iqdb_core.index.simd.memory import VECTOR_WORDS
from iqdb_core.index.simd.planes import (
    CHUNK,
    PLANE_WORDS,
    add_fours,
    add_ones,
    add_twos,
    at_least,
    load_planes,
    store_planes,
)
from iqdb_core.index.simd.vector import has_bits, load, prefetch, store, zeros
from iqdb_core.index.simd.words import item, trailing_zeros
from iqdb_core.kernel import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from iqdb_core.index.ranking.best import Best
    from iqdb_core.index.ranking.row_order import RowOrder
    from iqdb_core.index.ranking.scratch import Scratch
    from iqdb_core.index.ranking.vectors import Vectors
    from iqdb_core.index.segment.postings import SegmentView

_AHEAD: Final = 12
"""Vectors between prefetching a cache line and using it. Of 4 to 48, those from 8 to 16 are equally good:
with fewer the line has not arrived yet, with more it has been evicted."""
_PHASE_ROWS: Final = 16
"""Rows added between two checks of which vectors may still matter."""
_USUAL_SHARE: Final = 0.35
"""The share of the possible units that the best image of a vector usually has; see `_first_stop`."""


@kernel(merged=True)
def scan_segment(
    view: SegmentView, entries: NDArray[np.int64], is_seeded: bool, scratch: Scratch, best: Best
) -> None:
    """Offer to `best` every image of a segment that may be among the best.

    Parameters
    ----------
    view : SegmentView
    entries : (120,) int64 ndarray
        Of the query's buckets, as `prefetch_lists` left them.
    is_seeded : bool
        Whether `score_hot` has been called for this segment.
    scratch : Scratch
        With a prepared query. **Changed in place.**
    best : Best
        **Changed in place.**
    """
    words = view.words
    query, lookup, order, vectors = scratch.query, scratch.lookup, scratch.order, scratch.vectors
    resolve(words, query, entries, lookup)
    lay_out(query, lookup.row_of, order, np.int64(words[H_ROWS_AT]))
    n_vectors = vectors_that_matter(words, query, lookup.numbers, vectors, best)
    stop = _first_stop(n_vectors, lookup.numbers[MOST], order, vectors, best)
    _prefetch_rows(words, n_vectors, stop, order, vectors.numbers)
    write_rare(words, lookup, scratch.rare)
    if is_seeded:
        mark_hot(words, scratch.rare)
    first = 0
    while n_vectors > 0:
        n_vectors = _add_rows(view, n_vectors, first, stop, scratch, best)
        first = stop
        stop = min(first + _PHASE_ROWS, order.ends[MORE_ONES])


@kernel()
def score_hot(view: SegmentView, entries: NDArray[np.int64], scratch: Scratch, best: Best) -> None:
    """Score the few images of a segment that share many rare buckets first; see `scan_segment`.

    These are often near copies, so scoring them first raises the bar for all others.
    """
    words = view.words
    lookup, rare, scoring = scratch.lookup, scratch.rare, scratch.scoring
    resolve(words, scratch.query, entries, lookup)
    if lookup.numbers[RARE_UNITS] < 1 << (RARE_PLANES - 1):
        return
    write_rare(words, lookup, rare)
    if mark_hot(words, rare) == 0:
        return
    n_words = np.int64(words[H_VECTORS]) * VECTOR_WORDS
    n_slots = np.int64(0)
    for word in range(n_words):
        left = item(rare.bits, DONE + word)
        while left != np.uint64(0):
            scoring.slots[n_slots] = word * 64 + np.int64(trailing_zeros(left))
            left &= left - np.uint64(1)
            n_slots += 1
    score_slots(view, n_slots, scratch.query, lookup, rare, scoring, best)


@kernel()
def _first_stop(n_vectors: int, most: int, order: RowOrder, vectors: Vectors, best: Best) -> int:
    """Return after how many rows to check for the first time which vectors may still matter.

    The best image of a vector usually has a certain share of the units of the rows added so far. The check
    pays off once that share, plus all units of the remaining rows, is below what is needed. This is a guess
    for speed; results do not depend on it. `most` is the most units that any image can share.
    """
    end = order.ends[MORE_ONES]
    if n_vectors == 0:
        return end
    penalty = vectors.penalties[vectors.numbers[0]]
    for i in range(1, n_vectors):
        penalty = min(penalty, vectors.penalties[vectors.numbers[i]])
    needed = units_needed(bar(best), penalty)
    for stop in range(CHUNK, end, CHUNK):
        behind = units_behind(order, stop)
        if (most - behind) * _USUAL_SHARE + behind < needed:
            return stop
    return end


@kernel()
def _prefetch_rows(
    words: NDArray[np.uint64], n_vectors: int, stop: int, order: RowOrder, vectors: NDArray[np.int64]
) -> None:
    """Prefetch the first rows of the first vectors; `_add_rows` prefetches the others while it adds."""
    first = 0
    for part in range(PARTS):
        end = min(order.ends[part], stop)
        for k in range(first, end):
            row = item(order.rows, k + order.shifts[part])
            for i in range(min(_AHEAD, n_vectors)):
                prefetch(words, row + vectors[i] * VECTOR_WORDS)
        first = max(first, end)


@kernel()
def _add_rows(view: SegmentView, n_vectors: int, first: int, stop: int, scratch: Scratch, best: Best) -> int:
    """Add rows first..stop - 1 to the remaining vectors; return how many may still matter, which are kept.

    After the last row, images that may still matter are scored while their rows are in the cache; then no
    vector remains.
    """
    words, scoring, rare = view.words, scratch.scoring, scratch.rare.bits
    rows, ends, shifts = scratch.order.rows, scratch.order.ends, scratch.order.shifts
    vectors, penalties, planes = scratch.vectors
    k_4, stop_4 = _clipped(first, stop, 0, ends[FOURS], shifts[FOURS])
    k_2, stop_2 = _clipped(first, stop, ends[FOURS], ends[FIRST_TWOS], shifts[FIRST_TWOS])
    k_1, stop_1 = _clipped(first, stop, ends[FIRST_TWOS], ends[FIRST_ONES], shifts[FIRST_ONES])
    more_2, stop_more_2 = _clipped(first, stop, ends[FIRST_ONES], ends[MORE_TWOS], shifts[MORE_TWOS])
    more_1, stop_more_1 = _clipped(first, stop, ends[MORE_TWOS], ends[MORE_ONES], shifts[MORE_ONES])
    behind = units_behind(scratch.order, stop)
    is_last = stop == ends[MORE_ONES]
    n_left = 0
    for i in range(n_vectors):
        vector = item(vectors, i)
        needed = units_needed(bar(best), item(penalties, vector))
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
            p = load_planes(planes, i * PLANE_WORDS)
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
            store_planes(scoring.planes, 0, p)
            store(scoring.planes, MATTER, matter)
            score_vector(
                view,
                vector,
                item(penalties, vector),
                scratch.query,
                scratch.lookup,
                scratch.rare,
                scoring,
                best,
            )
        else:
            store_planes(planes, n_left * PLANE_WORDS, p)
            vectors[np.uint64(n_left)] = vector
            n_left += 1
            _prefetch_vector(words, stop, column, scratch.order)
    return n_left


@kernel(inline=True)
def _clipped(first: int, stop: int, start: int, end: int, shift: int) -> tuple[int, int]:
    """Return which rows of first..stop - 1 are in the part start..end - 1, as places in `order.rows`."""
    return max(first, start) + shift, min(stop, end) + shift


@kernel(inline=True)
def _prefetch_vector(words: NDArray[np.uint64], first: int, column: int, order: RowOrder) -> None:
    """Prefetch the rows from `first` on that a vector reads next."""
    stop = min(first + _PHASE_ROWS, order.ends[MORE_ONES])
    for part in range(PARTS):
        shift = order.shifts[part]
        end = min(order.ends[part], stop)
        for k in range(first, end):
            prefetch(words, item(order.rows, k + shift) + column)
        first = max(first, end)


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
