"""The evidence of one signature about another, and copies of a picture, written for obviousness."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from iqdb_core.index.evidence import table
from iqdb_core.model import CHANNELS, KEPT, PLANE, SIDE, Signature
from tests.naive_index import NaiveIndex, naive_bucket_counts, naive_buckets, naive_weight


class NaiveCopy(NamedTuple):
    """A match, with its log odds."""

    image_id: int
    score: float
    logit: float
    detail: float

    @property
    def likelihood(self) -> float:
        """The probability that the odds stand for."""
        return 1 / (1 + math.exp(-self.logit))


def naive_copies(
    images: dict[int, Signature],
    query: Signature,
    *,
    min_score: float | None = None,
    min_likelihood: float | None = None,
    min_detail: float | None = None,
) -> list[NaiveCopy]:
    """Judge every image of a small index, and sort; likeliest first, then by id."""
    counts = naive_bucket_counts(
        np.array([image.averages for image in images.values()]),
        np.stack([image.signed_positions() for image in images.values()]),
    ).tolist()
    found = []
    for match in NaiveIndex(images).query(query, len(images), min_score):
        _, evidence = naive_evidence(query, match.signature, counts, len(images))
        itself, _ = naive_evidence(match.signature, match.signature, counts, len(images))
        score = _usual_score(query, match.score, counts)
        weighed = evidence + table.SCORE_WEIGHT * min(1.0, _n_informative(query) / KEPT) * score
        logit = table.SCALE * weighed + table.OFFSET - math.log(10_000)
        if score < 75:
            logit = min(logit, 9.3) + math.log1p(max(logit - 9.3, 0.0))
        if score < 40:
            logit = min(logit, 0.0) + math.log1p(max(logit, 0.0))
        if score < 75 and len(shared_places(query, match.signature)) < 30:
            logit = min(logit, 0.0) + math.log1p(max(logit, 0.0))
        found.append(NaiveCopy(match.image_id, match.score, logit, max(0.0, itself / math.log(2))))
    return sorted(
        (
            copy
            for copy in found
            if copy.likelihood >= (min_likelihood or 0.0) and copy.detail >= (min_detail or 0.0)
        ),
        key=lambda copy: (-copy.logit, copy.image_id),
    )


def _usual_score(query: Signature, score: float, counts: list[int]) -> float:
    """Return a score as in an index of 10,000 images, which hold more buckets."""
    here = usual = 0
    for bucket in naive_buckets(query):
        weight = naive_weight(bucket)
        here += weight * (counts[bucket] > 0)
        usual += weight * (counts[bucket] > 0 or _general_share(bucket) >= 1 / 10_000)
    return score * here / usual if here else 0.0


def _general_share(bucket: int) -> float:
    row, column = divmod(bucket % PLANE, SIDE)
    return table.USUAL_SHARES[bucket // PLANE // 2][row.bit_length()][column.bit_length()]


def _n_informative(query: Signature) -> int:
    """Return how many buckets a signature holds, without fillers."""
    return sum(map(len, _informative(query)))


def _informative(query: Signature) -> list[set[int]]:
    """Return the positions that a signature holds in each channel that counts, without fillers."""
    positions = []
    for held in query.signed_positions()[: 1 if query.is_grey else CHANNELS].tolist():
        filler = [position for position in held if -KEPT <= position < 0]
        positions.append(set(held) - set(filler if len(filler) >= 14 else []))
    return positions


def shared_places(query: Signature, other: Signature) -> set[int]:
    """Return the places, signs aside, at which both have the same coefficient in some channel that counts."""
    places = set()
    for channel, informative in enumerate(_informative(query)):
        if channel == 0 or not other.is_grey:
            places |= {abs(each) for each in informative & set(other.signed_positions()[channel].tolist())}
    return places


class _Bucket(NamedTuple):
    """Of a bucket that a signature holds: its bin, the share of images with it, whether the other has it."""

    bin: int
    share: float
    is_held: bool


def _buckets(query: Signature, other: Signature, counts: list[int], n: int) -> list[list[_Bucket]]:
    """Return the informative buckets of a signature in each channel that counts."""
    channels = []
    for channel, informative in enumerate(_informative(query)):
        held = other.signed_positions()[channel].tolist() if channel == 0 or not other.is_grey else []
        buckets = []
        for position in informative:
            row, column = divmod(abs(position), SIDE)
            bucket = (channel * 2 + (position < 0)) * PLANE + abs(position)
            share = min(max((counts[bucket] + 500 * _general_share(bucket)) / (n + 500), 1e-6), 0.95)
            buckets.append(_Bucket(min(max(row, column), 5) - 1, share, position in held))
        channels.append(buckets)
    return channels


def naive_evidence(query: Signature, other: Signature, counts: list[int], n: int) -> tuple[float, float]:
    """Sum up what the model says, bucket by bucket; return it and what it is corrected to."""
    totals = []
    correction = 0.0
    channels = _buckets(query, other, counts, n)
    differences = [abs(one - another) for one, another in zip(query.averages, other.averages, strict=True)]
    for kind, share in enumerate(table.COPY_KINDS):
        total = math.log(share)
        by_averages = 0.0
        for channel, buckets in enumerate(channels):
            for bin_, p, is_held in buckets:
                r = table.KEPT_SHARES[kind][channel][bin_]
                total += math.log(r / p) if is_held else math.log((1 - r) / (1 - p))
            copy = max(table.COPY_DIFFERENCES[kind][channel], (0.01, 0.005, 0.003)[channel])
            stranger = table.STRANGER_DIFFERENCES[channel]
            apart = differences[channel]
            by_averages += math.log(stranger / copy) + apart / stranger - apart / copy
        if by_averages > 0:
            by_averages *= min(1.0, _n_informative(query) / KEPT)
        totals.append(total + by_averages)
    for channel, buckets in enumerate(channels):
        for bin_, p, is_held in buckets:
            correction -= table.DETAIL_WEIGHT * math.log(p)
            if is_held:
                correction -= table.SHARED_WEIGHTS[bin_] * math.log(p)
        apart = min(differences[channel], table.MOST_DIFFERENCES[channel])
        correction -= table.DIFFERENCE_WEIGHTS[channel] * apart
    top = max(totals)
    modelled = top + math.log(sum(math.exp(total - top) for total in totals))
    return modelled, modelled + correction
