"""Which buckets signatures hold, and which of them pairs of signatures share: many at once, in numpy.

Answers: what do this query and this candidate have in common, and what does that score? Knows no segment and
no search. Called by the rest of this room.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from iqdb_core import model
from iqdb_core.index.rows import stored_averages
from iqdb_core.index.segment.weights import BINS, WEIGHTS
from iqdb_core.model import BUCKETS, CHANNELS, KEPT, PLANE, SIDE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from iqdb_core.index.rows import Signatures

BUCKETS_HELD: Final = CHANNELS * KEPT
_LEAST_FILLER: Final = 14
"""A channel with so many of the positions -1 to -40 has fillers; see `_is_filler`."""
BIN_OF: Final = np.minimum(np.maximum(np.arange(PLANE) // SIDE, np.arange(PLANE) % SIDE), BINS - 1)
"""The bin, 0..5, of each position."""
_WEIGHTS: Final = np.array(WEIGHTS)


class Held(NamedTuple):
    """The buckets of n signatures.

    Parameters
    ----------
    buckets : (n, 120) int64 ndarray
        By channel and signed position.
    is_held : (n, 120) bool ndarray
        False for the colours of grey pictures, and for positions that are repeated.
    is_informative : (n, 120) bool ndarray
        Those held that are no fillers, which say nothing; see `_is_filler`.
    """

    buckets: NDArray[np.int64]
    is_held: NDArray[np.bool_]
    is_informative: NDArray[np.bool_]

    def of(self, rows: NDArray[np.int64]) -> Held:
        """Return the buckets of some of the signatures."""
        return Held(self.buckets[rows], self.is_held[rows], self.is_informative[rows])


class Shared(NamedTuple):
    """What n pairs of signatures share.

    Parameters
    ----------
    numbers : (n,) int64 ndarray
        Which of m signatures the first of each pair is.
    places : (k,) int64 ndarray
        For each bucket that a pair shares 121 * number + 1 + its place among the buckets of the first; pair
        after pair. Each pair has at least one entry: 121 * number stands for no bucket.
    starts : (n,) int64 ndarray
        Where each pair begins in `places`.
    """

    numbers: NDArray[np.int64]
    places: NDArray[np.int64]
    starts: NDArray[np.int64]


def is_grey(averages: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which of n signatures, by their averages (n, 3), have no colour."""
    grey: NDArray[np.bool_] = model.is_grey(averages[:, 1], averages[:, 2])
    return grey


def buckets_of(signed: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the buckets of (..., channels, 40) signed positions."""
    channels = np.arange(signed.shape[-2])[:, None]
    buckets: NDArray[np.int64] = (channels * 2 + (signed < 0)) * PLANE + np.abs(signed)
    return buckets


def held_by(signatures: Signatures) -> Held:
    """Return the buckets of n signatures."""
    averages, positions = signatures
    n = len(averages)
    ordered = np.sort(positions, axis=2).astype(np.int64)
    is_held = np.ones(ordered.shape, np.bool_)
    is_held[:, :, 1:] = ordered[:, :, 1:] != ordered[:, :, :-1]
    is_held[is_grey(averages), 1:] = False
    is_informative = is_held & ~_is_filler(ordered)
    buckets = buckets_of(ordered)
    return Held(
        buckets.reshape(n, BUCKETS_HELD),
        is_held.reshape(n, BUCKETS_HELD),
        is_informative.reshape(n, BUCKETS_HELD),
    )


def shared_by(held: Held, others: Held, numbers: NDArray[np.int64], rows: NDArray[np.int64]) -> Shared:
    """Return what n pairs share.

    Parameters
    ----------
    held, others : Held
        Of m signatures, and of those that they are compared with.
    numbers, rows : (n,) int64 ndarray
        Which of the first, and which of the others, is in each pair.
    """
    m = len(held.buckets)
    place_of = np.zeros((m, BUCKETS), np.int8)
    number, place = np.nonzero(held.is_held)
    place_of[number, held.buckets[number, place]] = place + 1
    found = place_of.reshape(-1)[numbers[:, None] * BUCKETS + others.buckets[rows]]
    is_shared = (found > 0) & others.is_held[rows]
    # Pairs that share nothing need an entry, too: `reduceat` cannot sum empty ranges.
    found[:, 0] *= is_shared[:, 0]
    is_shared[:, 0] = True
    counts = np.count_nonzero(is_shared, axis=1)
    starts = np.cumsum(counts) - counts
    places = np.repeat(numbers * (BUCKETS_HELD + 1), counts) + found[is_shared]
    return Shared(numbers, places, starts)


def flags_of(shared: Shared, pairs: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return 1 for the buckets of its signature that each of n pairs shares, 0 for others; (n, 120)."""
    starts = shared.starts[pairs]
    counts = np.append(shared.starts[1:], len(shared.places))[pairs] - starts
    number = np.repeat(np.arange(len(pairs)), counts)
    place = np.arange(len(number)) - np.repeat(np.cumsum(counts) - counts - starts, counts)
    out = np.zeros((len(pairs), BUCKETS_HELD + 1), np.float64)
    out[number, shared.places[place] % (BUCKETS_HELD + 1)] = 1
    return out[:, 1:]


def scores_of(
    held: Held,
    averages: NDArray[np.float64],
    nonempty: NDArray[np.bool_],
    shared: Shared,
    of_others: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the scores of n pairs, the same to the bit as those of `ranking.search`.

    Parameters
    ----------
    held : Held
    averages : (m, 3) float64 ndarray
        Of the query signatures.
    nonempty : (98,304,) bool ndarray
        Which buckets some live image holds.
    shared : Shared
    of_others : (n, 3) float64 ndarray
        The averages of the other of each pair.
    """
    weights = np.zeros((len(averages), BUCKETS_HELD + 1), np.int64)
    weights[:, 1:] = _WEIGHTS[held.buckets // (2 * PLANE), BIN_OF[held.buckets % PLANE]]
    weights[:, 1:] *= held.is_held & nonempty[held.buckets]
    divisors = weights.sum(axis=1)[shared.numbers]
    hundredths = np.add.reduceat(weights.reshape(-1)[shared.places], shared.starts)
    costs = np.repeat(_WEIGHTS[None, :, 0], len(averages), axis=0)
    costs[is_grey(averages), 1:] = 0
    own, theirs = (stored_averages(each).astype(np.float64) for each in (averages, of_others))
    apart = costs[shared.numbers] * np.abs(own[shared.numbers] - theirs)
    net = hundredths - (apart[:, 0] + apart[:, 1] + apart[:, 2])
    scores: NDArray[np.float64] = np.where(divisors > 0, net * 100.0 / np.maximum(divisors, 1), 0.0)
    return scores


def _is_filler(signed: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which of (n, channels, 40) positions say nothing: they stand for coefficients of zero.

    In a flat channel, or one with a few lines, fewer than 40 coefficients are not zero. The rest of the kept
    positions are then the first ones, -1 to -40. Real pictures hold at most twelve of these.
    """
    is_first = (signed < 0) & (signed >= -KEPT)
    filler: NDArray[np.bool_] = is_first & (is_first.sum(axis=2, keepdims=True) >= _LEAST_FILLER)
    return filler
