"""Which buckets of a signature are distinctive: those that few images hold.

Answers: what few buckets does a copy of this probably share, and a stranger hardly ever? Knows no segment and
no search. Called by `candidates`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from iqdb_core.index.ranking.arithmetic import DistinctiveBuckets

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from iqdb_core.index.evidence.likelihood import Population
    from iqdb_core.index.evidence.sharing import Held

USUAL_HELD: Final = 0.03
"""Buckets are looked up, rarest first, until a stranger holds this many of them on average, times `effort`:
the cost of a search is how many images hold them."""
MOST_HELD: Final = 0.06
"""The same where these are not worth enough."""
ENOUGH: Final = 2
"""A signature's buckets have to be worth so many times the bar, because copies lose some of them."""
COMMON: Final = 12
COMMON_BITS: Final = 4
"""Images that share enough distinctive buckets are ordered by this many of the commonest ones too, each worth
this many bits: copies hold nearly all of them, strangers a third."""
_FULL_IMAGES: Final = 1_000_000
_MOST_EFFORT: Final = 10.0
"""An index of fewer images is searched more thoroughly for about the same cost."""
_MOST_DISTINCTIVE_SHARE: Final = 0.5
"""A bucket that a larger share of strangers holds is never distinctive."""


def effort(image_count: int) -> float:
    """Return how much more thoroughly so many images are searched than a million, 1..10."""
    return min(_MOST_EFFORT, max(1.0, _FULL_IMAGES / max(image_count, 1)))


def distinctive_of(held: Held, population: Population) -> tuple[DistinctiveBuckets, NDArray[np.bool_]]:
    """Return the distinctive buckets of signatures, and which of the signatures have too few.

    Parameters
    ----------
    held : Held
        Of m signatures, at least one.
    population : Population

    Returns
    -------
    DistinctiveBuckets
        A signature's rarest buckets: so many that a stranger holds 0.03 of them on average; where these are
        worth less than twice the bar, more until they are, up to 0.06; both times `effort`. One that a share
        p of the population holds is worth -log2 p bits, rounded down. The bar is the number of bits that
        tells one image from all others of the population. Behind them are the commonest 12 of all.
    is_weak : (m,) bool ndarray
        Whether a signature's are worth less than twice the bar.
    """
    bar = max(population.image_count, 1).bit_length()
    more = effort(population.image_count)
    shares = np.where(held.is_informative, population.shares(held.buckets), 2.0)
    order = np.argsort(shares, axis=1, kind="stable")
    shares = np.take_along_axis(shares, order, axis=1)
    bits = np.maximum(np.floor(-np.log2(shares)), 0).astype(np.int64)
    expected = np.cumsum(shares, axis=1)
    before = np.cumsum(bits, axis=1) - bits
    is_used = (expected <= USUAL_HELD * more) | (expected <= MOST_HELD * more) & (before < ENOUGH * bar)
    is_used &= shares <= _MOST_DISTINCTIVE_SHARE
    is_weak: NDArray[np.bool_] = (bits * is_used).sum(axis=1) < ENOUGH * bar
    # Behind the distinctive ones, the commonest of all.
    counts = is_used.sum(axis=1)
    n_informative = held.is_informative.sum(axis=1)
    ends = np.minimum(counts + COMMON, n_informative)
    place = np.arange(bits.shape[1])
    behind = place - counts[:, None]
    is_common = (behind >= 0) & (place < ends[:, None])
    source = np.where(is_common, n_informative[:, None] - 1 - behind, place)
    buckets = np.take_along_axis(held.buckets, np.take_along_axis(order, source, axis=1), axis=1)
    bits[is_common] = COMMON_BITS
    return DistinctiveBuckets(buckets, bits, counts, ends, bar), is_weak
