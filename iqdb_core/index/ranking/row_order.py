"""The order in which the rows of a query are added in one segment, and how much the remaining rows can add.

Rows that rule out most images come first. Within a step they are grouped by their value (fours, twos and
ones), because eight rows of one value are added at once. Called by `bounds`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from iqdb_core.index.ranking.query import COLUMN_ROOM, COLUMNS, Query
from iqdb_core.index.simd.planes import CHUNK
from iqdb_core.index.simd.words import item
from iqdb_core.kernel import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

COLUMN_ROWS: Final = COLUMN_ROOM + CHUNK
"""Room for the rows of one column, whose last chunk is filled up."""
FOURS, FIRST_TWOS, FIRST_ONES, MORE_TWOS, MORE_ONES = range(5)
"""Parts, in the order in which they are added."""
PARTS: Final = 5


class RowOrder(NamedTuple):
    """The rows of a query in one segment, in the order in which they are added; scratch of one thread.

    Parameters
    ----------
    rows : (3 * 248,) int64 ndarray
        Where the rows of ones, twos and fours start, in words; filled up with an empty row to whole chunks of
        eight.
    ends, shifts, units_left : (5,) int64 ndarray
        Per part: where it ends in the sequence of all rows, what to add to a place in that sequence to get
        its place in `rows`, and how many units the rows after the part can add at most.
    """

    rows: NDArray[np.int64]
    ends: NDArray[np.int64]
    shifts: NDArray[np.int64]
    units_left: NDArray[np.int64]


def create_row_order() -> RowOrder:
    """Return memory for one thread."""
    return RowOrder(
        np.zeros(COLUMNS * COLUMN_ROWS, dtype=np.int64),
        np.zeros(PARTS, dtype=np.int64),
        np.zeros(PARTS, dtype=np.int64),
        np.zeros(PARTS, dtype=np.int64),
    )


@kernel()
def lay_out(query: Query, row_of: NDArray[np.int64], order: RowOrder, empty_row: int) -> None:
    """Put the rows of a query in one segment in order.

    Parameters
    ----------
    query : Query
    row_of : (120,) int64 ndarray
        Of `Lookup`.
    order : RowOrder
        **Changed in place.**
    empty_row : int
        Where the segment's empty row starts.
    """
    # For each column: the number of rows, rounded up to whole chunks, and how many of these come first.
    n_1 = _put_rows(query, row_of, order.rows, np.int64(0), empty_row)
    n_2 = _put_rows(query, row_of, order.rows, np.int64(1), empty_row)
    n_4 = _put_rows(query, row_of, order.rows, np.int64(2), empty_row)
    all_1 = _whole_chunks(n_1)
    all_2 = _whole_chunks(n_2)
    all_4 = _whole_chunks(n_4)
    first_1 = min(_whole_chunks(query.first_counts[0]), all_1)
    first_2 = min(_whole_chunks(query.first_counts[1]), all_2)
    ends = order.ends
    ends[FOURS] = all_4
    ends[FIRST_TWOS] = ends[FOURS] + first_2
    ends[FIRST_ONES] = ends[FIRST_TWOS] + first_1
    ends[MORE_TWOS] = ends[FIRST_ONES] + all_2 - first_2
    ends[MORE_ONES] = ends[MORE_TWOS] + all_1 - first_1
    shifts = order.shifts
    shifts[FOURS] = 2 * COLUMN_ROWS
    shifts[FIRST_TWOS] = COLUMN_ROWS - ends[FOURS]
    shifts[FIRST_ONES] = -ends[FIRST_TWOS]
    shifts[MORE_TWOS] = COLUMN_ROWS + first_2 - ends[FIRST_ONES]
    shifts[MORE_ONES] = first_1 - ends[MORE_TWOS]
    left = order.units_left
    left[MORE_ONES] = 0
    left[MORE_TWOS] = max(n_1 - first_1, 0)
    left[FIRST_ONES] = left[MORE_TWOS] + 2 * max(n_2 - first_2, 0)
    left[FIRST_TWOS] = left[FIRST_ONES] + min(n_1, first_1)
    left[FOURS] = left[FIRST_TWOS] + 2 * min(n_2, first_2)


@kernel(inline=True)
def units_behind(order: RowOrder, place: int) -> int:
    """Return an upper bound of the units that the rows from a place in the sequence on can add."""
    ends = order.ends
    left = order.units_left
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
def _put_rows(
    query: Query, row_of: NDArray[np.int64], rows: NDArray[np.int64], column: int, empty_row: int
) -> int:
    """Write the rows of a column and fill the last chunk up; return how many rows there are."""
    buckets = query.columns[column]
    first = column * COLUMN_ROWS
    n = first
    for k in range(query.column_counts[column]):
        row = row_of[item(buckets, k)]
        rows[np.uint64(n)] = row
        n += row >= 0
    for k in range(n, first + _whole_chunks(n - first)):
        rows[np.uint64(k)] = empty_row
    return n - first
