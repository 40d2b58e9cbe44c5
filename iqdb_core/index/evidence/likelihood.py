"""How much two signatures say about whether they show the same picture.

Answers: what are the odds that this is a copy, given what it shares with the query and how common that is?
The score says how much is shared, not how surprising that is: two plain skies share much. Knows no segment
and no search. Called by `copies`.

The model. A copy is of one of a few kinds (nearly exact, edited, other colours, badly cropped, ...), each
with a share of all copies, a chance to keep a coefficient for every channel and bin, and a usual difference
of averages; `table` has them, fitted on variants made by code. Given the kind, coefficients are taken as
independent; a stranger holds a bucket as often as the index does. What the model says is the log of the
ratio of both probabilities, in nats.

Coefficients are not independent, and a badly cropped copy keeps few of them, those of coarse shape last of
all. So the evidence is corrected by what a conditional logit regression over searches for crops, edits and
screenshots found: by which bins what is shared is in, by the averages, and by how much there was to share.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

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
from iqdb_core.index.segment.weights import BINS
from iqdb_core.model import CHANNELS, GREY_LIMIT, KEPT, PLANE, SIDE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from iqdb_core.index.rows import Signatures
    from iqdb_core.model import Signature

_BELIEVED_IMAGES: Final = 500
"""So many images the general shares count like beside the index's own counts, which are few at first."""
_FEWEST_IMAGES: Final = 10_000
"""In an index of fewer images a match is judged as in one of so many, for which the table was fitted: that
there are few says little about whether one is a copy, and strangers would seem likely."""
_LEAST_FILLER: Final = 14
_LEAST_DIFFERENCES: Final = (0.01, 0.005, 0.003)
"""Equal averages are no proof: strangers of few colours have them too."""
_LEAST_SHARE: Final = 1e-6
_MOST_SHARE: Final = 0.95
_BITS: Final = 1 / np.log(2)


def _general_shares() -> NDArray[np.float64]:
    """Return how often pictures hold each of the 98,304 buckets, by the octaves of row and column."""
    octaves = np.array([int(n).bit_length() for n in range(SIDE)])
    by_position = np.array(USUAL_SHARES)[:, octaves[:, None], octaves[None, :]].reshape(CHANNELS, PLANE)
    return np.repeat(by_position, 2, axis=0).reshape(-1)


_GENERAL_SHARES: Final = _general_shares()
_BINS: Final = np.minimum(np.maximum(np.arange(PLANE) // SIDE, np.arange(PLANE) % SIDE), BINS - 1)
"""The bin, 0..5, of each position."""
_LOG_KINDS: Final = np.log(np.array(COPY_KINDS))
_KEPT: Final = np.array(KEPT_SHARES)
_COPY_DIFFERENCES: Final = np.maximum(COPY_DIFFERENCES, _LEAST_DIFFERENCES)
_STRANGER_DIFFERENCES: Final = np.array(STRANGER_DIFFERENCES)
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

    def shares(self, buckets: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return how often a stranger holds each bucket, 0..1."""
        counted = self.counts[buckets] + _BELIEVED_IMAGES * _GENERAL_SHARES[buckets]
        shares: NDArray[np.float64] = np.clip(
            counted / (self.image_count + _BELIEVED_IMAGES), _LEAST_SHARE, _MOST_SHARE
        )
        return shares


class Evidence:
    """What one signature can say about others, of a population.

    Parameters
    ----------
    signature : Signature
    population : Population
    """

    def __init__(self, signature: Signature, population: Population) -> None:
        self._channels = 1 if signature.is_grey else CHANNELS
        self._averages = np.array(signature.averages[: self._channels])
        signed = signature.signed_positions()[: self._channels].astype(np.int64)
        buckets = np.unique(buckets_of(signed)[~_is_filler(signed)])
        self.trust = min(1.0, len(buckets) / KEPT)
        """0..1: how much there is to compare; 0 for a flat picture."""
        strangers = population.shares(buckets)[:, None]
        bins = _BINS[buckets % PLANE] - 1
        kept = _KEPT[:, buckets // (2 * PLANE), bins].T  # bucket, kind
        missing = np.log((1 - kept) / (1 - strangers))
        self._place_of = np.zeros(2 * CHANNELS * PLANE, np.int16)
        self._place_of[buckets] = np.arange(1, len(buckets) + 1)
        self._gains = np.concatenate([np.zeros((1, len(_LOG_KINDS))), np.log(kept / strangers) - missing])
        self._start = _LOG_KINDS + missing.sum(axis=0)
        surprises = -np.log(strangers[:, 0])
        self._corrections = np.concatenate([[0.0], _SHARED_WEIGHTS[bins] * surprises])
        self._correction = DETAIL_WEIGHT * float(surprises.sum())

    def about(self, others: Signatures) -> NDArray[np.float64]:
        """Return the evidence, in nats, that each of n signatures shows the same picture."""
        shared = self._shared(others)
        differences = self._differences(others)
        apart = np.minimum(differences, _MOST_DIFFERENCES[: self._channels])
        evidence: NDArray[np.float64] = self._modelled(shared, differences)
        evidence += self._correction + shared @ self._corrections
        evidence -= apart @ _DIFFERENCE_WEIGHTS[: self._channels]
        return evidence

    def modelled(self, others: Signatures) -> NDArray[np.float64]:
        """Return what the model alone says, in nats, without the corrections."""
        return self._modelled(self._shared(others), self._differences(others))

    def _shared(self, others: Signatures) -> NDArray[np.float64]:
        """Return which of the query's buckets, from the second column, each signature shares: 1 or 0."""
        averages, positions = others
        n = len(averages)
        places = self._place_of[buckets_of(positions[:, : self._channels].astype(np.int64))]
        if self._channels > 1:
            is_grey = np.abs(averages[:, 1:]).sum(axis=1) < GREY_LIMIT
            places[is_grey, 1:] = 0
        shared = np.zeros((n, len(self._gains)))
        shared[np.arange(n)[:, None], places.reshape(n, -1)] = 1.0
        shared[:, 0] = 0.0
        return shared

    def _differences(self, others: Signatures) -> NDArray[np.float64]:
        """Return by how much the averages of each signature are apart from the query's, by channel."""
        apart: NDArray[np.float64] = np.abs(others.averages[:, : self._channels] - self._averages)
        return apart

    def _modelled(self, shared: NDArray[np.float64], differences: NDArray[np.float64]) -> NDArray[np.float64]:
        by_kind = self._start + shared @ self._gains
        copies = _COPY_DIFFERENCES[:, : self._channels]
        strangers = _STRANGER_DIFFERENCES[: self._channels]
        ratios = np.log(strangers / copies) + differences[:, None] * (1 / strangers - 1 / copies)
        of_averages = ratios.sum(axis=2)
        by_kind += np.where(of_averages > 0, self.trust * of_averages, of_averages)
        evidence: NDArray[np.float64] = np.logaddexp.reduce(by_kind, axis=1)
        return evidence


def _is_filler(signed: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which of (channels, 40) positions say nothing: they stand for coefficients of zero.

    In a flat channel, or one with a few lines, fewer than 40 coefficients are other than zero. The rest of
    the kept positions are then the first of all, -1 to -40, which real pictures hold twelve of at most.
    """
    is_first = (signed < 0) & (signed >= -KEPT)
    filler: NDArray[np.bool_] = is_first & (is_first.sum(axis=1, keepdims=True) >= _LEAST_FILLER)
    return filler


def detail_of(signature: Signature, population: Population) -> float:
    """Return the most evidence that a signature can give, that about itself, in bits; at least 0."""
    itself = Evidence(signature, population).modelled(_rows_of(signature))
    return max(0.0, float(itself[0]) * float(_BITS))


def likelihoods(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return probabilities, 0..1, of log odds."""
    odds: NDArray[np.float64] = 1 / (1 + np.exp(-np.clip(logits, -700, 700)))
    return odds


def log_odds(
    evidence: NDArray[np.float64],
    scores: NDArray[np.float64],
    image_count: int,
    *,
    trust: float = 1.0,
    is_plain: bool = True,
) -> NDArray[np.float64]:
    """Return the log odds that matches are copies, by the evidence and by how many could have matched.

    Parameters
    ----------
    evidence : (n,) float64 ndarray
        In nats.
    scores : (n,) float64 ndarray
        The score sees copies of which little is left: most of what it counts is coarse.
    image_count : int
        Images searched.
    trust : float
        `Evidence.trust` of the signature.
    is_plain : bool
        Whether the signature is that of the whole picture as it is; others are many, and seldom right.
    """
    weighed = evidence + SCORE_WEIGHT * trust * scores - (0.0 if is_plain else PART_PENALTY)
    logits: NDArray[np.float64] = SCALE * weighed + OFFSET - np.log(max(image_count, _FEWEST_IMAGES))
    return logits


def buckets_of(signed: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the buckets of (..., channels, 40) signed positions."""
    channels = np.arange(signed.shape[-2])[:, None]
    buckets: NDArray[np.int64] = (channels * 2 + (signed < 0)) * PLANE + np.abs(signed)
    return buckets


def _rows_of(signature: Signature) -> Signatures:
    from iqdb_core.index.rows import Signatures  # noqa: PLC0415

    return Signatures(np.array([signature.averages]), signature.signed_positions()[None])
