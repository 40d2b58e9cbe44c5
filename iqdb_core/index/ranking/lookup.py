"""Where a query's buckets are in one segment.

Answers: which rows does this query read here, in which order, and how much can the rows still to come add?
Once per query and segment. Called by `query_call` (looking ahead) and `bounds`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from iqdb_core.index.ranking.query import COLUMN_ROOM, COLUMNS, MOST_BUCKETS, Query
from iqdb_core.index.segment.layout import (
    GROUPED_BIT,
    H_ENTRIES_AT,
    H_GROUPED_AT,
    H_RARE_AT,
    H_ROWS_AT,
    H_STRIDE,
    SEGMENT_IMAGES,
    VECTOR_IMAGES,
    VECTOR_WORDS,
)
from iqdb_core.index.segment.postings import (
    EXACT,
    GROUPED,
    NO_ENTRY,
    RARE,
    directory_at,
    entry_number,
    entry_of,
    form_of,
    rare_count,
    rare_offset,
)
from iqdb_core.index.simd.compiled import kernel
from iqdb_core.index.simd.planes import CHUNK, PLANES
from iqdb_core.index.simd.vector import prefetch
from iqdb_core.index.simd.words import item
from iqdb_core.model import PLANE

if TYPE_CHECKING:
    from numpy.typing import NDArray

RARE_PLANES: Final = 4
"""Units that rare buckets add up to at most, as bits; more is marked in one more plane."""
ROW_WORDS: Final = SEGMENT_IMAGES // 64
COLUMN_ROWS: Final = COLUMN_ROOM + CHUNK
"""Room for the rows of one column: 9 units are two fours and a one, and the last chunk is filled up."""
N_EXACT, N_GROUPED, N_RARE, MOST, MOST_GREY, RARE_UNITS = range(6)
"""Numbers in `Found.numbers`."""
ROW, LIST, COUNT, WEIGHT, UNITS = range(5)
"""Columns of `Found.exact`, `grouped` and `rare`."""
FOURS, FIRST_TWOS, FIRST_ONES, MORE_TWOS, MORE_ONES = range(5)
"""Parts, in the order in which they are added."""
PARTS: Final = 5


class Found(NamedTuple):
    """What a query finds in a segment; scratch of one thread.

    Parameters
    ----------
    entries : (n_segments * 120,) int64 ndarray
        Per segment of this thread and bucket: the number of its entry, later the entry; NO_ENTRY if there is
        none.
    numbers : (6,) int64 ndarray
        How many of the query's buckets are exact, grouped and rare here; the most units that any image can
        share, that any grey image can, and that any can of rare buckets.
    exact, grouped, rare : (5, 120) int64 ndarray
        Where the row starts (exact and grouped, in words), where the list starts (in words if grouped, in
        uint16 units if rare), its length (rare), the weight in hundredths, the units (rare).
    row_of : (120,) int64 ndarray
        Per bucket of the query: where its row starts, or -1 if it has none.
    rows : (3 * 248,) int64 ndarray
        Where the rows of ones, twos and fours start, in words, in the order in which they are added; filled
        up with an empty row to whole chunks of eight.
    ends, shifts, units_left : (5,) int64 ndarray
        Per part: where it ends in the sequence of all rows, what to add to a place in the sequence to find it
        in `rows`, and how many units the rows behind the part add at most.
    rare_bits : (6 * 1024,) uint64 ndarray
        Per slot, as bits: the units of its rare buckets in four planes, whether it has 16 or more, and
        whether it has been scored already.
    is_dirty : (6,) bool ndarray
        Which planes of `rare_bits` may be other than zero.
    planes : (9 * 1024,) uint64 ndarray
        The planes of every vector that is left.
    scratch : (12 * 8,) uint64 ndarray
        The planes of one vector, the images of it that may matter, those of them that are scored next, and
        room.
    slots : (512,) int64 ndarray
    perhaps : (121,) int64 ndarray
        Scratch for scoring: the slots to be scored, and grouped buckets that an image perhaps has.
    penalties : (128,) float64 ndarray
        Least penalty of the images of each vector.
    vectors : (129,) int64 ndarray
        Vectors that may matter.
    """

    entries: NDArray[np.int64]
    numbers: NDArray[np.int64]
    exact: NDArray[np.int64]
    grouped: NDArray[np.int64]
    rare: NDArray[np.int64]
    row_of: NDArray[np.int64]
    rows: NDArray[np.int64]
    ends: NDArray[np.int64]
    shifts: NDArray[np.int64]
    units_left: NDArray[np.int64]
    rare_bits: NDArray[np.uint64]
    is_dirty: NDArray[np.bool_]
    planes: NDArray[np.uint64]
    scratch: NDArray[np.uint64]
    slots: NDArray[np.int64]
    perhaps: NDArray[np.int64]
    penalties: NDArray[np.float64]
    vectors: NDArray[np.int64]


def create_found(n_segments: int) -> Found:
    """Return scratch for one thread and up to so many segments."""
    return Found(
        np.zeros(n_segments * MOST_BUCKETS, dtype=np.int64),
        np.zeros(6, dtype=np.int64),
        np.zeros((5, MOST_BUCKETS), dtype=np.int64),
        np.zeros((5, MOST_BUCKETS), dtype=np.int64),
        np.zeros((5, MOST_BUCKETS), dtype=np.int64),
        np.zeros(MOST_BUCKETS, dtype=np.int64),
        np.zeros(COLUMNS * COLUMN_ROWS, dtype=np.int64),
        np.zeros(PARTS, dtype=np.int64),
        np.zeros(PARTS, dtype=np.int64),
        np.zeros(PARTS, dtype=np.int64),
        _aligned_zeros((RARE_PLANES + 2) * ROW_WORDS),
        np.zeros(RARE_PLANES + 2, dtype=np.bool_),
        _aligned_zeros(PLANES * ROW_WORDS),
        _aligned_zeros((PLANES + 3) * VECTOR_WORDS),
        np.zeros(VECTOR_IMAGES, dtype=np.int64),
        np.zeros(MOST_BUCKETS + 1, dtype=np.int64),
        np.zeros(ROW_WORDS // VECTOR_WORDS),
        np.zeros(ROW_WORDS // VECTOR_WORDS + 1, dtype=np.int64),
    )


def _aligned_zeros(n_words: int) -> NDArray[np.uint64]:
    """Return `n_words` zeroed words that start on a cache line."""
    padded = np.zeros(n_words + VECTOR_WORDS, dtype=np.uint64)
    first = -(padded.ctypes.data // padded.itemsize) % VECTOR_WORDS
    return padded[first : first + n_words]


@kernel()
def ask_for_directory(words: NDArray[np.uint64], query: Query) -> None:
    """Ask for what `ask_for_entries` reads, some time before it does."""
    for i in range(query.sizes[0]):
        prefetch(words, directory_at(query.buckets[i]))


@kernel()
def ask_for_entries(words: NDArray[np.uint64], query: Query, entries: NDArray[np.int64]) -> None:
    """Find out the numbers of the entries, and ask for what `ask_for_lists` reads."""
    entries_at = np.int64(words[H_ENTRIES_AT])
    for i in range(query.sizes[0]):
        number = entry_number(words, query.buckets[i])
        entries[i] = number
        prefetch(words, entries_at + (number >> 1))


@kernel()
def ask_for_lists(words: NDArray[np.uint64], query: Query, entries: NDArray[np.int64]) -> None:
    """Replace the numbers of entries by the entries, and ask for what `resolve` and `write_rare` read."""
    grouped_at = np.int64(words[H_GROUPED_AT])
    rare_at = np.int64(words[H_RARE_AT])
    for i in range(query.sizes[0]):
        if entries[i] == NO_ENTRY:
            continue
        entry = entry_of(words, entries[i])
        entries[i] = entry
        form = form_of(entry)
        if form == GROUPED:
            prefetch(words, grouped_at + (entry ^ GROUPED_BIT))
        elif form == RARE:
            first = rare_at + (rare_offset(entry) >> 2)
            for k in range(0, rare_count(entry) + 4 * VECTOR_WORDS, 4 * VECTOR_WORDS):
                prefetch(words, first + (k >> 2))


@kernel()
def resolve(words: NDArray[np.uint64], query: Query, entries: NDArray[np.int64], found: Found) -> None:
    """Fill `found.numbers`, `exact`, `grouped` and `rare`.

    Parameters
    ----------
    words : (n_words,) uint64 ndarray
        The segment.
    query : Query
    entries : (120,) int64 ndarray
        As `ask_for_lists` left them.
    found : Found
        **Changed in place.**
    """
    stride = np.int64(words[H_STRIDE])
    rows_at = np.int64(words[H_ROWS_AT])
    grouped_at = np.int64(words[H_GROUPED_AT])
    rare_at = np.int64(words[H_RARE_AT]) * 4
    n_exact = 0
    n_grouped = 0
    n_rare = 0
    most = 0
    most_grey = 0
    rare_units = 0
    for i in range(query.sizes[0]):
        entry = entries[i]
        found.row_of[i] = -1
        if entry == NO_ENTRY:
            continue
        units = query.units[i]
        most += units
        if query.buckets[i] < 2 * PLANE:
            most_grey += units
        form = form_of(entry)
        if form == EXACT:
            found.row_of[i] = rows_at + entry * stride
            found.exact[ROW, n_exact] = found.row_of[i]
            found.exact[WEIGHT, n_exact] = query.weights[i]
            n_exact += 1
        elif form == GROUPED:
            list_at = grouped_at + (entry ^ GROUPED_BIT)
            row = np.int64(item(words, list_at) & np.uint64(0xFFFFFFFF))
            found.row_of[i] = rows_at + row * stride
            found.grouped[ROW, n_grouped] = found.row_of[i]
            found.grouped[LIST, n_grouped] = list_at
            found.grouped[WEIGHT, n_grouped] = query.weights[i]
            n_grouped += 1
        else:
            found.rare[LIST, n_rare] = rare_at + rare_offset(entry)
            found.rare[COUNT, n_rare] = rare_count(entry)
            found.rare[WEIGHT, n_rare] = query.weights[i]
            found.rare[UNITS, n_rare] = units
            rare_units += units
            n_rare += 1
    found.numbers[N_EXACT] = n_exact
    found.numbers[N_GROUPED] = n_grouped
    found.numbers[N_RARE] = n_rare
    found.numbers[MOST] = most
    found.numbers[MOST_GREY] = most_grey
    found.numbers[RARE_UNITS] = rare_units


@kernel()
def lay_out(query: Query, found: Found, empty_row: int) -> None:
    """Fill `found.rows`, `ends`, `shifts` and `units_left` after `resolve`.

    Parameters
    ----------
    query : Query
    found : Found
        **Changed in place.**
    empty_row : int
        Where the segment's empty row starts.
    """
    # Per column: rows, whole chunks of them, and of those the ones that come first.
    n_1 = _put_rows(query, found, np.int64(0), empty_row)
    n_2 = _put_rows(query, found, np.int64(1), empty_row)
    n_4 = _put_rows(query, found, np.int64(2), empty_row)
    all_1 = _whole_chunks(n_1)
    all_2 = _whole_chunks(n_2)
    all_4 = _whole_chunks(n_4)
    first_1 = min(_whole_chunks(query.first_counts[0]), all_1)
    first_2 = min(_whole_chunks(query.first_counts[1]), all_2)
    ends = found.ends
    ends[FOURS] = all_4
    ends[FIRST_TWOS] = ends[FOURS] + first_2
    ends[FIRST_ONES] = ends[FIRST_TWOS] + first_1
    ends[MORE_TWOS] = ends[FIRST_ONES] + all_2 - first_2
    ends[MORE_ONES] = ends[MORE_TWOS] + all_1 - first_1
    shifts = found.shifts
    shifts[FOURS] = 2 * COLUMN_ROWS
    shifts[FIRST_TWOS] = COLUMN_ROWS - ends[FOURS]
    shifts[FIRST_ONES] = -ends[FIRST_TWOS]
    shifts[MORE_TWOS] = COLUMN_ROWS + first_2 - ends[FIRST_ONES]
    shifts[MORE_ONES] = first_1 - ends[MORE_TWOS]
    left = found.units_left
    left[MORE_ONES] = 0
    left[MORE_TWOS] = max(n_1 - first_1, 0)
    left[FIRST_ONES] = left[MORE_TWOS] + 2 * max(n_2 - first_2, 0)
    left[FIRST_TWOS] = left[FIRST_ONES] + min(n_1, first_1)
    left[FOURS] = left[FIRST_TWOS] + 2 * min(n_2, first_2)


@kernel(inline=True)
def units_behind(found: Found, place: int) -> int:
    """Return how many units the rows from a place in the sequence on can add, or a few more."""
    ends = found.ends
    left = found.units_left
    if place >= ends[MORE_TWOS]:
        return max(ends[MORE_ONES] - place, 0)
    if place >= ends[FIRST_ONES]:
        return left[MORE_TWOS] + 2 * (ends[MORE_TWOS] - place)
    if place >= ends[FIRST_TWOS]:
        return left[FIRST_ONES] + ends[FIRST_ONES] - place
    if place >= ends[FOURS]:
        return left[FIRST_TWOS] + 2 * (ends[FIRST_TWOS] - place)
    return left[FOURS] + 4 * (ends[FOURS] - place)


@kernel(inline=True)
def _whole_chunks(n: int) -> int:
    return (n + CHUNK - 1) // CHUNK * CHUNK


@kernel(inline=True)
def _put_rows(query: Query, found: Found, column: int, empty_row: int) -> int:
    """Write the rows of a column and fill the last chunk up; return how many rows there are."""
    buckets = query.columns[column]
    first = column * COLUMN_ROWS
    n = first
    for k in range(query.column_counts[column]):
        row = found.row_of[item(buckets, k)]
        found.rows[np.uint64(n)] = row
        n += row >= 0
    for k in range(n, first + _whole_chunks(n - first)):
        found.rows[np.uint64(k)] = empty_row
    return n - first
