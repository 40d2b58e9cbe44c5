"""The index as a dict: what `ImageIndex` has to answer, written for obviousness."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from iqdb_core.model import BUCKETS, GREY_LIMIT, PLANE, Match, Signature
from tests.fixtures.index_rows import signature_at

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from iqdb_core.model import ChangeBatch

WEIGHTS = (
    (500, 83, 101, 52, 47, 30),
    (1921, 126, 44, 53, 28, 14),
    (3437, 36, 45, 14, 18, 27),
)


SKETCH_WEIGHTS = (
    (404, 78, 46, 42, 41, 32),
    (1514, 92, 53, 26, 14, 7),
    (2262, 40, 63, 25, 15, 38),
)


class NaiveIndex:
    """Live images by id.

    Parameters
    ----------
    images : dict of int to Signature
    """

    def __init__(self, images: dict[int, Signature] | None = None) -> None:
        self.images = dict(images or {})

    def apply(self, batch: ChangeBatch) -> None:
        """Put and delete one by one."""
        for row, image_id in enumerate(batch.image_ids.tolist()):
            if batch.is_live[row]:
                self.images[image_id] = signature_at(batch.averages, batch.positions, row)
            else:
                self.images.pop(image_id, None)

    def query(
        self,
        signature: Signature,
        limit: int = 10,
        min_score: float | None = None,
        *,
        is_sketch: bool = False,
    ) -> list[Match]:
        """Score every image, sort, cut."""
        weights = SKETCH_WEIGHTS if is_sketch else WEIGHTS
        buckets = {image_id: naive_buckets(stored) for image_id, stored in self.images.items()}
        held_anywhere = set().union(*buckets.values())
        asked = naive_buckets(signature)
        divisor = sum(naive_weight(bucket, weights) for bucket in asked & held_anywhere)
        matches = []
        for image_id, stored in self.images.items():
            shared = sum(naive_weight(bucket, weights) for bucket in asked & buckets[image_id])
            penalty = 0.0
            for channel in range(1 if signature.is_grey else 3):
                difference = float(np.float32(stored.averages[channel])) - float(
                    np.float32(signature.averages[channel])
                )
                penalty += weights[channel][0] * abs(difference)
            score = (shared - penalty) * 100 / divisor if divisor else 0.0
            if min_score is None or score >= min_score:
                matches.append(Match(image_id, score, stored))
        return sorted(matches, key=lambda match: (-match.score, match.image_id))[:limit]


def naive_buckets(signature: Signature) -> set[int]:
    """Return the buckets that a signature holds, or asks for."""
    return {
        (channel * 2 + (signed < 0)) * PLANE + abs(signed)
        for channel in range(1 if signature.is_grey else 3)
        for signed in signature.signed_positions()[channel].tolist()
    }


def naive_weight(bucket: int, weights: tuple[tuple[int, ...], ...] = WEIGHTS) -> int:
    """Return a bucket's weight in hundredths."""
    row, column = divmod(bucket % PLANE, 128)
    return weights[bucket // PLANE // 2][min(max(row, column), 5)]


def naive_bucket_counts(averages: NDArray[np.float64], positions: NDArray[np.int16]) -> NDArray[np.int64]:
    """Return how many of the images hold each bucket."""
    counts = np.zeros(BUCKETS, dtype=np.int64)
    for mean, channels in zip(averages.tolist(), positions.tolist(), strict=True):
        is_grey = abs(mean[1]) + abs(mean[2]) < GREY_LIMIT
        for channel in range(1 if is_grey else 3):
            for signed in set(channels[channel]):
                counts[(channel * 2 + (signed < 0)) * PLANE + abs(signed)] += 1
    return counts
