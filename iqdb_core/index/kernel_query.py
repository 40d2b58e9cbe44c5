"""A signature as the kernels want it: which buckets, what they weigh, in which order they are added.

Answers: what does this query look for? Prepared once per query, then only read. Called by `scan`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from iqdb_core.index.compiled import kernel
from iqdb_core.index.kernel_build import bucket_of
from iqdb_core.index.weights import AVERAGE_WEIGHTS, BINS, WEIGHTS
from iqdb_core.model import CHANNELS, KEPT, SIDE

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_BUCKETS: Final = CHANNELS * KEPT
UNIT: Final = 15
"""Hundredths. Sums are first bounded from above in whole units, which takes fewer bits than hundredths."""
UNITS: Final = ((6, 7, 4, 4, 2), (9, 3, 4, 2, 1), (3, 3, 1, 2, 2))
"""Units of a shared position by channel and bin - 1, rounded up so that a sum of units is never too small."""
COLUMNS: Final = 3
"""Ones, twos and fours: what units are put together of."""
COLUMN_ROOM: Final = 2 * MOST_BUCKETS + 1
"""9 units are two fours and a one."""
STEPS: Final = 3
_STEP: Final = np.array(((0, 0, 0, 0, 1), (0, 0, 0, 2, 2), (0, 0, 2, 2, 1)))
_WEIGHTS: Final = np.array(WEIGHTS)
_UNITS: Final = np.array(UNITS)


class Query(NamedTuple):
    """A prepared query.

    Parameters
    ----------
    buckets, weights, units : (120,) int64 ndarray
        The distinct buckets that some live image holds, and what each weighs in hundredths, and in units.
    columns : (3, 241) int64 ndarray
        Of ones, twos and fours: how many the units of all buckets have, then the number in `buckets` for each, in the order
        in which they are to be added.
    sizes : (3,) int64 ndarray
        How many buckets there are; how many of them, the first, are of low bins; the divisor: what all weigh together.
    averages, average_weights : (3,) float64 ndarray
        As stored; what a difference costs, in hundredths: 0 for what a grey query does not look at.
    """

    buckets: NDArray[np.int64]
    weights: NDArray[np.int64]
    units: NDArray[np.int64]
    columns: NDArray[np.int64]
    sizes: NDArray[np.int64]
    averages: NDArray[np.float64]
    average_weights: NDArray[np.float64]


def create_query() -> Query:
    """Return memory for a query."""
    return Query(
        np.zeros(MOST_BUCKETS, dtype=np.int64),
        np.zeros(MOST_BUCKETS, dtype=np.int64),
        np.zeros(MOST_BUCKETS, dtype=np.int64),
        np.zeros((COLUMNS, COLUMN_ROOM), dtype=np.int64),
        np.zeros(3, dtype=np.int64),
        np.zeros(CHANNELS),
        np.zeros(CHANNELS),
    )


@kernel()
def prepare(
    query: Query,
    positions: NDArray[np.int16],
    averages: NDArray[np.float64],
    is_grey: bool,
    nonempty: NDArray[np.bool_],
) -> None:
    """Fill a query from a signature.

    Parameters
    ----------
    query : Query
        **Changed in place.**
    positions : (120,) int16 ndarray
        Of the three channels; 1..16383 in magnitude, in any order; a repeated one counts once.
    averages : (3,) float64 ndarray
        As stored.
    is_grey : bool
        Then only the Y channel counts.
    nonempty : (98,304,) bool ndarray
        Which buckets some live image holds. Others neither match nor count in the divisor.
    """
    n = 0
    divisor = 0
    for j in range(COLUMNS):
        query.columns[j, 0] = 0
    for step in range(STEPS):
        for channel in range(1 if is_grey else CHANNELS):
            for i in range(channel * KEPT, (channel + 1) * KEPT):
                signed = np.int64(positions[i])
                place = abs(signed)
                bin_ = min(max(place // SIDE, place % SIDE), BINS - 1)
                if _STEP[channel, bin_ - 1] != step:
                    continue
                bucket = bucket_of(channel, signed)
                if not nonempty[bucket] or _is_listed(query.buckets, n, bucket):
                    continue
                query.buckets[n] = bucket
                query.weights[n] = _WEIGHTS[channel, bin_]
                divisor += _WEIGHTS[channel, bin_]
                units = _UNITS[channel, bin_ - 1]
                query.units[n] = units
                for j in range(COLUMNS):
                    for _ in range(units >> 2 if j == 2 else units >> j & 1):
                        query.columns[j, 0] += 1
                        query.columns[j, query.columns[j, 0]] = n
                n += 1
        if step == 0:
            query.sizes[1] = n
    query.sizes[0] = n
    query.sizes[2] = divisor
    for channel in range(CHANNELS):
        query.averages[channel] = averages[channel]
        query.average_weights[channel] = 0.0 if is_grey and channel > 0 else AVERAGE_WEIGHTS[channel]


@kernel(inline=True)
def _is_listed(buckets: NDArray[np.int64], n: int, bucket: int) -> bool:
    for i in range(n):  # noqa: SIM110 - compiled
        if buckets[i] == bucket:
            return True
    return False
