"""How much two signatures say about whether they show the same picture.

Answers: what are the odds that this is a copy, given what it shares with the query and how common that is?
The score says how much is shared, not how surprising that is: two plain skies share much. Knows no segment
and no search. Called by `copies` and `pair`.

The model. A copy is of one of a few kinds (nearly exact, edited, other colours, badly cropped, ...), each
with a share of all copies, a chance to keep a coefficient for every channel and bin, and a usual difference
of averages; `table` has them, fitted on variants made by code. Given the kind, coefficients are taken as
independent (naive Bayes); a stranger holds a bucket as often as images of the index do. The evidence is the
log of the ratio of both probabilities, in nats.

Coefficients are not independent, and a badly cropped copy keeps few of them, mostly those of coarse shape. So
the evidence is corrected, with weights from a conditional logit regression over searches for crops, edits and
screenshots: by the bins of what is shared, by the averages, and by how much there was to share.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from iqdb_core.index.evidence.sharing import BIN_OF, BUCKETS_HELD, flags_of, is_grey
from iqdb_core.index.evidence.table import (
    COPY_DIFFERENCES,
    COPY_KINDS,
    DETAIL_WEIGHT,
    DIFFERENCE_WEIGHTS,
    KEPT_SHARES,
    MOST_DIFFERENCES,
    OFFSET,
    PART_PENALTY,
    SCALE,
    SCORE_WEIGHT,
    SHARED_WEIGHTS,
    STRANGER_DIFFERENCES,
    USUAL_SHARES,
)
from iqdb_core.model import CHANNELS, KEPT, PLANE, SIDE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from iqdb_core.index.evidence.sharing import Held, Shared

_BELIEVED_IMAGES: Final = 500
"""The general shares weigh as much as so many images, beside the index's own, which are few at first."""
_FEWEST_IMAGES: Final = 10_000
"""A match among fewer images is judged as among so many, for which the table was fitted: that there are few
says little about whether one is a copy, and strangers would seem likely."""
_LEAST_DIFFERENCES: Final = (0.01, 0.005, 0.003)
"""Copies of each kind are taken to differ by at least this, by channel: equal averages are no proof, since
strangers of few colours have them too."""
_MOST_APART: Final = 2.0
"""Larger differences of averages count as this one. Pictures have none, but a hash or a file may."""
_LEAST_SHARE: Final = 1e-6
_MOST_SHARE: Final = 0.95
"""Bounds of the share of strangers that hold a bucket: few images prove neither that none does nor that all
do."""
_BITS_PER_NAT: Final = 1 / np.log(2)
_SURE: Final = 9.3
"""Log odds of a certain copy. What parts and turns have above this counts little, so that matches of the
whole picture as it is come first among certain copies."""
_FULL_SCORE: Final = 75.0
"""From this score on a match is taken to show the whole picture as it is. One that shares much but scores
less, like another screenshot of the same app, is treated like a match of a part, and comes no sooner than the
picture in the screenshot. Chosen on screenshots of 54 pictures."""
_LEAST_SCORE: Final = 40.0
"""A match that scores less counts little more than even odds, whatever it shares: two nearly flat pictures
with the same thin line have tens of rare coefficients in common. Chosen on 85 pictures: of the best matches
below it, two in five were right, at any likelihood."""
_LEAST_PLACES: Final = 30
"""A match that scores less than `_FULL_SCORE` and shares coefficients at fewer places counts like one below
`_LEAST_SCORE`. Coefficients of several channels at one place often come from one thing: a red disc on white
has the same ones in I and Q, and many of them in Y. Chosen on 47 pictures in 39 ways: of seven strangers that
were likely it leaves one, of 1,431 right matches all but one."""
_LATE_COST: Final = 1.0
"""What uncropped pictures and the parts after `FIRST_PARTS` lose, in log odds: they are seldom right."""


def _general_shares() -> NDArray[np.float64]:
    """Return how often pictures hold each of the 98,304 buckets, by the octaves of row and column."""
    octaves = np.array([int(n).bit_length() for n in range(SIDE)])
    by_position = np.array(USUAL_SHARES)[:, octaves[:, None], octaves[None, :]].reshape(CHANNELS, PLANE)
    return np.repeat(by_position, 2, axis=0).reshape(-1)


_GENERAL_SHARES: Final = _general_shares()
USUAL_BUCKETS: Final = _GENERAL_SHARES >= 1 / _FEWEST_IMAGES
"""(98,304,) bool: which buckets some image of so many can be expected to hold. By IQDB's rule only buckets
count that some image of the index holds; where these are few, strangers score high, too."""
_LOG_KINDS: Final = np.log(np.array(COPY_KINDS))
_LOG_KEPT: Final = np.log(KEPT_SHARES).transpose(1, 2, 0).copy()
_LOG_LOST: Final = np.log(1 - np.array(KEPT_SHARES)).transpose(1, 2, 0).copy()
"""Channel, bin - 1, kind."""
_COPY_DIFFERENCES: Final = np.maximum(COPY_DIFFERENCES, _LEAST_DIFFERENCES)
_LOG_DIFFERENCES: Final = np.log(STRANGER_DIFFERENCES / _COPY_DIFFERENCES)
_DIFFERENCE_COSTS: Final = 1 / np.array(STRANGER_DIFFERENCES) - 1 / _COPY_DIFFERENCES
"""Kind, channel: the evidence of equal averages, and what each difference takes from it."""
_SHARED_WEIGHTS: Final = np.array(SHARED_WEIGHTS)
_DIFFERENCE_WEIGHTS: Final = np.array(DIFFERENCE_WEIGHTS)
_MOST_DIFFERENCES: Final = np.array(MOST_DIFFERENCES)


@dataclass(frozen=True, slots=True)
class Population:
    """What strangers look like: the images of an index.

    Parameters
    ----------
    counts : (98,304,) int32 ndarray
        Images that hold each bucket. May change while it is read: a count is then off by a few images.
    image_count : int
        Live images.
    """

    counts: NDArray[np.int32]
    image_count: int

    @property
    def is_small(self) -> bool:
        """Whether matches are judged as among more images; see `_FEWEST_IMAGES`."""
        return self.image_count < _FEWEST_IMAGES

    def shares(self, buckets: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return how often a stranger holds each bucket, 0..1."""
        counted = self.counts[buckets] + _BELIEVED_IMAGES * _GENERAL_SHARES[buckets]
        shares: NDArray[np.float64] = np.clip(
            counted / (self.image_count + _BELIEVED_IMAGES), _LEAST_SHARE, _MOST_SHARE
        )
        return shares


class Evidence:
    """The evidence of signatures about others of a population.

    Parameters
    ----------
    held : Held
        Of m signatures.
    averages : (m, 3) float64 ndarray
        Of the same.
    population : Population
    """

    def __init__(self, held: Held, averages: NDArray[np.float64], population: Population) -> None:
        m = len(averages)
        self._averages = averages
        self._channels = np.ones((m, CHANNELS))
        self._channels[is_grey(averages), 1:] = 0
        self._ratios = _weighed(self._channels, _LOG_DIFFERENCES.T)
        self.trusts = _trusts(held)
        """0..1 for each signature: how much there is to compare; 0 for a flat picture."""
        buckets = held.buckets[held.is_informative]
        strangers = population.shares(buckets)
        kinds = buckets // (2 * PLANE), BIN_OF[buckets % PLANE] - 1
        missing = np.zeros((*held.buckets.shape, len(_LOG_KINDS)))
        missing[held.is_informative] = _LOG_LOST[kinds] - np.log(1 - strangers)[:, None]
        gains = np.zeros((m, BUCKETS_HELD + 1, len(_LOG_KINDS)))
        gains[:, 1:][held.is_informative] = _LOG_KEPT[kinds] - np.log(strangers)[:, None]
        gains[:, 1:] -= missing
        self._gains = gains.reshape(-1, len(_LOG_KINDS))
        self._start = _LOG_KINDS + missing.sum(axis=1)
        surprises = np.zeros(held.buckets.shape)
        surprises[held.is_informative] = -np.log(strangers)
        corrections = np.zeros((m, BUCKETS_HELD + 1))
        corrections[:, 1:] = surprises * _SHARED_WEIGHTS[BIN_OF[held.buckets % PLANE] - 1]
        self._corrections = corrections.reshape(-1)
        self._correction = DETAIL_WEIGHT * surprises.sum(axis=1)

    def about(self, shared: Shared, averages: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the evidence, in nats, that both of n pairs show the same picture.

        Parameters
        ----------
        shared : Shared
            Of the pairs.
        averages : (n, 3) float64 ndarray
            Of the other ones.
        """
        apart = self.apart(shared, averages)
        evidence: NDArray[np.float64] = self.modelled(shared, apart) + self._correction[shared.numbers]
        evidence += np.add.reduceat(self._corrections[shared.places], shared.starts)
        evidence -= _weighed(np.minimum(apart, _MOST_DIFFERENCES), _DIFFERENCE_WEIGHTS[:, None])[:, 0]
        return evidence

    def modelled(self, shared: Shared, apart: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what the model alone says of n pairs, in nats: `about` without its corrections."""
        numbers = shared.numbers
        by_kind = self._start[numbers] + np.add.reduceat(self._gains[shared.places], shared.starts, axis=0)
        ratios = self._ratios[numbers] + _weighed(apart, _DIFFERENCE_COSTS.T)
        by_kind += np.where(ratios > 0, self.trusts[numbers, None] * ratios, ratios)
        evidence: NDArray[np.float64] = np.logaddexp.reduce(by_kind, axis=1)
        return evidence

    def apart(self, shared: Shared, averages: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return by how much the averages of n pairs are apart, (n, 3); 0 where they do not count."""
        with np.errstate(over="ignore"):
            apart = np.minimum(np.abs(averages - self._averages[shared.numbers]), _MOST_APART)
        of_channels: NDArray[np.float64] = apart * self._channels[shared.numbers]
        return of_channels


def without_few_places(
    held: Held, shared: Shared, scores: NDArray[np.float64], logits: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return log odds of n pairs, damped for those that share few places; see `_LEAST_PLACES`.

    Parameters
    ----------
    held : Held
        Of the signatures that are the first of a pair.
    shared : Shared
        Of the pairs.
    scores, logits : (n,) float64 ndarray
        Of the pairs.
    """
    pairs = np.flatnonzero((logits > 0) & (scores < _FULL_SCORE))
    rows = shared.numbers[pairs]
    is_counted = (flags_of(shared, pairs) > 0) & held.is_informative[rows]
    places = np.sort(np.where(is_counted, held.buckets[rows] % PLANE, 0), axis=1)
    is_few = np.count_nonzero(np.diff(places, axis=1, prepend=0), axis=1) < _LEAST_PLACES
    out = logits.copy()
    out[pairs[is_few]] = _damped(logits[pairs[is_few]], 0.0)
    return out


def _weighed(by_channel: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the product of matrices, (n, 3) and (3, k); each row is the same to the bit whatever the others.

    With `@` it would depend on how many rows there are: one match would be judged differently on different
    pages.
    """
    product: NDArray[np.float64] = by_channel[:, :1] * weights[0]
    for channel in range(1, CHANNELS):
        product += by_channel[:, channel, None] * weights[channel]
    return product


def _trusts(held: Held) -> NDArray[np.float64]:
    """Return how much there is to compare of each signature, 0..1."""
    trusts: NDArray[np.float64] = np.minimum(1.0, held.is_informative.sum(axis=1) / KEPT)
    return trusts


def details_of(held: Held, averages: NDArray[np.float64], population: Population) -> NDArray[np.float64]:
    """Return the most evidence that each of n signatures can give, that about itself, in bits; at least 0.

    Parameters
    ----------
    held : Held
        Of the signatures.
    averages : (n, 3) float64 ndarray
        Of the same.
    population : Population
    """
    logs = _LOG_KEPT[held.buckets // (2 * PLANE), BIN_OF[held.buckets % PLANE] - 1]
    informative = held.is_informative.astype(np.float64)[:, None]
    by_kind = _LOG_KINDS + (informative @ logs)[:, 0]
    by_kind -= (informative[:, 0] * np.log(population.shares(held.buckets))).sum(axis=1)[:, None]
    said = np.where(is_grey(averages)[:, None], _LOG_DIFFERENCES[:, 0], _LOG_DIFFERENCES.sum(axis=1))
    by_kind += np.where(said > 0, _trusts(held)[:, None] * said, said)
    details: NDArray[np.float64] = np.maximum(0.0, np.logaddexp.reduce(by_kind, axis=1) * _BITS_PER_NAT)
    return details


def likelihoods(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return probabilities, 0..1, of log odds."""
    odds: NDArray[np.float64] = 1 / (1 + np.exp(-np.clip(logits, -700, 700)))
    return odds


def log_odds(
    evidence: NDArray[np.float64],
    scores: NDArray[np.float64],
    image_count: int,
    *,
    trust: float | NDArray[np.float64] = 1.0,
    is_plain: bool | NDArray[np.bool_] = True,
    is_late: bool | NDArray[np.bool_] = False,
) -> NDArray[np.float64]:
    """Return the log odds that matches are copies, by the evidence and by how many images were searched.

    Parameters
    ----------
    evidence : (n,) float64 ndarray
        In nats.
    scores : (n,) float64 ndarray
        The score sees copies of which little is left: most of what it counts is coarse.
    image_count : int
        Images searched.
    trust : float or (n,) float64 ndarray
        Of `Evidence.trusts`, that of the signature.
    is_plain : bool or (n,) bool ndarray
        Whether the signature is that of the whole picture as it is; others are many, and seldom right.
    is_late : bool or (n,) bool ndarray
        Whether it is uncropped, or that of a part, turned or not, that comes after the first eight.
    """
    weighed = evidence + SCORE_WEIGHT * trust * scores - np.where(is_plain, 0.0, PART_PENALTY)
    logits: NDArray[np.float64] = SCALE * weighed + OFFSET - np.log(max(image_count, _FEWEST_IMAGES))
    is_full = is_plain & (scores >= _FULL_SCORE)
    logits = np.where(is_full, logits, _damped(logits, _SURE))
    logits = np.where(scores < _LEAST_SCORE, _damped(logits, 0.0), logits)
    return logits - np.where(is_late, _LATE_COST, 0.0)


def _damped(logits: NDArray[np.float64], most: float) -> NDArray[np.float64]:
    """Return log odds of which what is above `most` counts little; their order stays."""
    damped: NDArray[np.float64] = np.minimum(logits, most) + np.log1p(np.maximum(logits - most, 0.0))
    return damped
