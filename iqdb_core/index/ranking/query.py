"""A signature in the form that the kernels read: its buckets, their weights, and the order of adding them.

Prepared once per query, then only read. Called by `query_call`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from iqdb_core.index.segment.averages import stored_average
from iqdb_core.index.segment.buckets import bucket_of, is_ascending, is_repeat
from iqdb_core.index.segment.weights import BINS, SKETCH_WEIGHTS, WEIGHTS
from iqdb_core.kernel import kernel
from iqdb_core.model import CHANNELS, KEPT, PLANE, SIDE

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_BUCKETS: Final = CHANNELS * KEPT
UNIT: Final = 15
"""Hundredths per unit. Sums are first bounded from above in whole units, which take fewer bits than
hundredths. With 15, rounding up adds little to the weights of the commonest bin, 5: 2, 1 and 2 units."""
_WEIGHTS: Final = np.array((WEIGHTS, SKETCH_WEIGHTS))
UNITS: Final = -(-_WEIGHTS[:, :, 1:] // UNIT)
"""Units of a shared position by kind of query, channel and bin - 1: its weight in units, rounded up, so that
no sum of units is too small. They are 1 to 9, and their sum over a query stays below 512: all bins but the
last have only few positions."""
STEPS: Final = 3
STEP_OF: Final = ((0, 0, 0, 0, 1), (0, 0, 0, 2, 2), (0, 0, 2, 2, 1))
"""The step in which a bucket is added, by channel and bin - 1: first those that exclude most images."""
COLUMNS: Final = 3
"""Ones, twos and fours: the units of a bucket are a sum of these."""
COLUMN_ROOM: Final = 2 * MOST_BUCKETS
"""Most entries of a column: 9 units are a one and two fours, so no bucket is in a column more than twice."""
_STEP_OF: Final = np.array(STEP_OF)


class Query(NamedTuple):
    """A prepared query.

    Parameters
    ----------
    buckets, weights, units, steps : (120,) int64 ndarray
        The distinct buckets that some live image holds, ordered by step; the weight of each in hundredths and
        in units, and its step.
    sizes : (2,) int64 ndarray
        The number of buckets, and the sum of their weights, which is the divisor of scores.
    columns : (3, 240) int64 ndarray
        For ones, twos and fours, the places in `buckets` of the buckets whose units contain them, ordered by
        step; a place occurs twice for two fours.
    column_counts, first_counts : (3,) int64 ndarray
        How many places each column has, and how many of these belong to the first step.
    averages, average_weights : (3,) float64 ndarray
        Averages, rounded as stored ones are, and the hundredths that a difference of 1 costs: 0 for channels
        that a grey query ignores.
    """

    buckets: NDArray[np.int64]
    weights: NDArray[np.int64]
    units: NDArray[np.int64]
    steps: NDArray[np.int64]
    sizes: NDArray[np.int64]
    columns: NDArray[np.int64]
    column_counts: NDArray[np.int64]
    first_counts: NDArray[np.int64]
    averages: NDArray[np.float64]
    average_weights: NDArray[np.float64]


def create_query() -> Query:
    """Return memory for a query."""
    return Query(
        np.zeros(MOST_BUCKETS, dtype=np.int64),
        np.zeros(MOST_BUCKETS, dtype=np.int64),
        np.zeros(MOST_BUCKETS, dtype=np.int64),
        np.zeros(MOST_BUCKETS, dtype=np.int64),
        np.zeros(2, dtype=np.int64),
        np.zeros((COLUMNS, COLUMN_ROOM), dtype=np.int64),
        np.zeros(COLUMNS, dtype=np.int64),
        np.zeros(COLUMNS, dtype=np.int64),
        np.zeros(CHANNELS),
        np.zeros(CHANNELS),
    )


@kernel()
def prepare(
    query: Query,
    positions: NDArray[np.int16],
    averages: tuple[float, float, float],
    is_grey: bool,
    is_sketch: bool,
    nonempty: NDArray[np.bool_],
) -> None:
    """Fill a query from a signature.

    Parameters
    ----------
    query : Query
        **Changed in place.**
    positions : (3, 40) int16 ndarray
        In any order. One that occurs twice in a channel counts once, one that is not 1..16383 in magnitude
        not at all.
    averages : (float, float, float)
        Finite.
    is_grey : bool
        Then only the Y channel counts.
    is_sketch : bool
        Whether the weights are those of painted queries.
    nonempty : (98,304,) bool ndarray
        Which buckets some live image holds. Others neither match nor count in the divisor.
    """
    n = 0
    divisor = 0
    kind = 1 if is_sketch else 0
    for step in range(STEPS):
        for channel in range(1 if is_grey else CHANNELS):
            row = positions[channel]
            is_plain = is_ascending(row)
            for i in range(KEPT):
                signed = np.int64(row[i])
                place = abs(signed)
                if not 0 < place < PLANE:
                    continue
                last = min(max(place // SIDE, place % SIDE), BINS - 1) - 1
                if _STEP_OF[channel, last] != step:
                    continue
                bucket = bucket_of(channel, signed)
                if nonempty[bucket] and (is_plain or not is_repeat(row, i)):
                    query.buckets[n] = bucket
                    query.weights[n] = _WEIGHTS[kind, channel, last + 1]
                    query.units[n] = UNITS[kind, channel, last]
                    query.steps[n] = step
                    divisor += query.weights[n]
                    n += 1
    query.sizes[0] = n
    query.sizes[1] = divisor
    _fill_columns(query)
    for channel in range(CHANNELS):
        query.averages[channel] = stored_average(averages[channel])
        query.average_weights[channel] = (
            0.0 if is_grey and channel > 0 else np.float64(_WEIGHTS[kind, channel, 0])
        )


@kernel(inline=True)
def _fill_columns(query: Query) -> None:
    """Fill `columns`, `column_counts` and `first_counts` from the other fields."""
    for column in range(COLUMNS):
        places = query.columns[column]
        count = 0
        first_count = 0
        for i in range(query.sizes[0]):
            times = query.units[i] >> 2 if column == COLUMNS - 1 else query.units[i] >> column & 1
            for _ in range(times):
                places[count] = i
                count += 1
            if query.steps[i] == 0:
                first_count = count
        query.column_counts[column] = count
        query.first_counts[column] = first_count
